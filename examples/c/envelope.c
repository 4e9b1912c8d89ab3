/* Envelopes: their encoding (7.1) and transcripts (7.2). */
#include "sealpost.h"

#include <string.h>

void envelope_encode(const struct envelope *e, struct buf *out)
{
	buf_text(out, "{\"v\":1,\"suite\":\"" SUITE "\",\"realm\":\"%s\",\"id\":\"%s\",\"prev\":", e->realm, e->id);
	buf_text(out, e->prev[0] ? "\"%s\",\"ts\":" : "null%s,\"ts\":", e->prev);
	buf_time(out, e->ts);
	buf_text(out, ",\"from\":\"%s\",\"to\":\"%s\",\"key\":\"", e->from, e->to);
	buf_b64(out, e->key, 32);
	buf_text(out, "\",\"signer\":\"");
	buf_b64(out, e->signer, 32);
	buf_text(out, "\",\"enc_key\":\"");
	buf_b64(out, e->enc_key, e->enc_key_len);
	buf_text(out, "\",\"nonce\":\"");
	buf_b64(out, e->nonce, 12);
	buf_text(out, "\",\"ciphertext\":\"");
	buf_b64(out, e->ciphertext, e->len);
	buf_text(out, "\",\"sig\":\"");
	buf_b64(out, e->sig, 64);
	buf_text(out, "\"}");
}

static void header(const struct envelope *e, struct buf *t)
{
	byte id[16], prev[16];

	field_text(t, e->realm);
	field_number(t, 1, 1);
	field_text(t, SUITE);
	field(t, id, id_bytes(e->id, id) ? 16 : 0);
	field(t, prev, id_bytes(e->prev, prev) ? 16 : 0);
	field_number(t, e->ts, 8);
	field_text(t, e->from);
	field_text(t, e->to);
	field(t, e->key, 32);
	field(t, e->signer, 32);
}

void envelope_aad(const struct envelope *e, struct buf *t)
{
	field_text(t, "sealpost/1 aad");
	header(e, t);
}

void envelope_signed(const struct envelope *e, struct buf *t)
{
	field_text(t, "sealpost/1 envelope");
	header(e, t);
	field(t, e->enc_key, e->enc_key_len);
	field(t, e->nonce, 12);
	field(t, e->ciphertext, e->len);
}

size_t padded(size_t len) /* 8.2 */
{
	unsigned e = 0, s = 0;

	if (len <= 256)
		return 256;
	while (len >> (e + 1))
		e++;
	while (e >> s)
		s++;
	size_t mask = ((size_t)1 << (e - s)) - 1;
	return (len + mask) & ~mask;
}

static refusal read_members(struct envelope *e, const json_t *m)
{
	const json_t *prev = json_object_get(m, "prev"), *id = json_object_get(m, "id");
	const char *enc_key = json_string_value(json_object_get(m, "enc_key"));
	const char *ciphertext = json_string_value(json_object_get(m, "ciphertext"));
	byte bytes[16];

	e->prev[0] = 0;
	if (!json_is_string(id) || !id_bytes(json_string_value(id), bytes) || !(json_is_null(prev) || json_is_string(prev))
	    || (json_is_string(prev) && !id_bytes(json_string_value(prev), bytes)))
		return "bad-message-id";
	strcpy(e->id, json_string_value(id));
	if (json_is_string(prev))
		strcpy(e->prev, json_string_value(prev));
	if (!get_text(m, "realm", e->realm) || !get_text(m, "from", e->from) || !get_text(m, "to", e->to) || !IS_REALM(e->realm)
	    || !IS_USER(e->from) || !IS_USER(e->to))
		return "bad-name";
	if (!get_time(m, "ts", &e->ts) || !get_binary(m, "key", e->key, 32) || !get_binary(m, "signer", e->signer, 32)
	    || check_identity(e->signer) || !get_binary(m, "nonce", e->nonce, 12) || !get_binary(m, "sig", e->sig, 64)
	    || !enc_key || !b64_decode(enc_key, e->enc_key, sizeof e->enc_key, &e->enc_key_len) || e->enc_key_len < 256
	    || !ciphertext || !b64_decode(ciphertext, e->ciphertext, sizeof e->ciphertext, &e->len))
		return "malformed";
	return e->len < 272 || padded(e->len - 16) != e->len - 16 ? "wrong-length" : NULL;
}

refusal envelope_parse(struct envelope *e, const void *data, size_t len) /* 7.5 step 1 */
{
	struct buf again = { 0 };

	if (len > MAX_ENVELOPE)
		return "too-large";
	json_t *m = json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
	refusal why = m ? read_members(e, m) : "not-json";
	json_decref(m);
	if (why)
		return why;
	envelope_encode(e, &again);
	if (again.len != len || memcmp(again.data, data, len))
		why = "not-canonical";
	buf_free(&again);
	return why;
}
