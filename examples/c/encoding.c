/* Bytes that grow, transcripts (4.3), and reading what is encoded by the rules of 4.1. */
#include "sealpost.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static byte *room_for(struct buf *buf, size_t more)
{
	if (buf->len + more > buf->room) {
		buf->room = 2 * (buf->len + more);
		buf->data = realloc(buf->data, buf->room);
		if (!buf->data)
			abort();
	}
	return buf->data + buf->len;
}

void buf_add(struct buf *buf, const void *data, size_t len)
{
	byte *end = room_for(buf, len + 1);

	if (len)
		memcpy(end, data, len);
	end[len] = 0; /* so that text can be printed; not counted */
	buf->len += len;
}

void buf_text(struct buf *buf, const char *format, ...)
{
	va_list arguments, again;

	va_start(arguments, format);
	va_copy(again, arguments);
	int len = vsnprintf(NULL, 0, format, arguments);
	vsnprintf((char *)room_for(buf, (size_t)len + 1), (size_t)len + 1, format, again);
	buf->len += (size_t)len;
	va_end(again);
	va_end(arguments);
}

void buf_b64(struct buf *buf, const void *data, size_t len)
{
	buf->len += (size_t)EVP_EncodeBlock(room_for(buf, (len + 2) / 3 * 4 + 1), data, (int)len);
}

void buf_time(struct buf *buf, uint64_t ms)
{
	buf_text(buf, "%llu.%03llu", (unsigned long long)ms / 1000, (unsigned long long)ms % 1000);
}

void buf_free(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf){ 0 };
}

void field(struct buf *buf, const void *data, size_t len)
{
	const byte length[4] = { (byte)(len >> 24), (byte)(len >> 16), (byte)(len >> 8), (byte)len };

	buf_add(buf, length, 4);
	buf_add(buf, data, len);
}

void field_text(struct buf *buf, const char *text)
{
	field(buf, text, strlen(text));
}

void field_number(struct buf *buf, uint64_t number, unsigned bytes)
{
	byte data[8];

	for (unsigned i = 0; i < 8; i++)
		data[i] = (byte)(number >> (56 - 8 * i));
	field(buf, data + 8 - bytes, bytes);
}

void sha256(const void *data, size_t len, byte digest[32])
{
	if (!EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL))
		abort();
}

bool is_name(const char *text, const char *more, bool any_start)
{
	size_t len = strlen(text);
	static const char all[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	char allowed[64];

	snprintf(allowed, sizeof allowed, "%s%s", all, more);
	return len >= 1 && len <= 64 && strspn(text, allowed) == len && (any_start || strchr(all, text[0]));
}

bool id_bytes(const char *text, byte id[16])
{
	size_t at = 0;

	if (strlen(text) != 36 || text[14] != '7' || !strchr("89ab", text[19]))
		return false;
	for (size_t i = 0; i < 36; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *digit = strchr(digits, text[i]);

		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return false;
		} else if (!digit) {
			return false;
		} else if (at++ % 2 == 0) {
			id[at / 2] = (byte)((digit - digits) << 4);
		} else {
			id[at / 2 - 1] |= (byte)(digit - digits);
		}
	}
	return true;
}

bool b64_decode(const char *text, byte *data, size_t room, size_t *len)
{
	size_t length = strlen(text), padding = length >= 4 ? (text[length - 1] == '=') + (text[length - 2] == '=') : 0;

	if (length % 4 || length / 4 * 3 - padding > room)
		return false;
	byte *whole = malloc(length + 1); /* EVP_DecodeBlock writes the padding's zeros too */
	if (!whole)
		abort();
	int decoded = length ? EVP_DecodeBlock(whole, (const byte *)text, (int)length) : 0;
	*len = decoded >= 0 ? (size_t)decoded - padding : 0;
	memcpy(data, whole, *len);
	free(whole);
	return decoded >= 0;
}

bool get_text(const json_t *object, const char *name, char text[65])
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_string(value) || json_string_length(value) > 64)
		return false;
	memcpy(text, json_string_value(value), json_string_length(value) + 1);
	return true;
}

bool get_time(const json_t *object, const char *name, uint64_t *ms)
{
	/* Thirteen digits fit into a double, so rounding gives the milliseconds exactly (4.1). */
	double seconds = json_real_value(json_object_get(object, name));

	if (!json_is_real(json_object_get(object, name)) || !(seconds >= 0 && seconds < 1e10))
		return false;
	*ms = (uint64_t)llround(seconds * 1000);
	return true;
}

bool get_binary(const json_t *object, const char *name, byte *data, size_t len)
{
	const char *text = json_string_value(json_object_get(object, name));
	size_t found;

	return text && b64_decode(text, data, len, &found) && found == len;
}
