/* Sealing (7.3, 7.4) and opening (7.5). */
#include "sealpost.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

static bool gcm(bool encrypt, const byte key[32], const struct envelope *e, const byte *in, size_t len, byte *out, byte tag[16])
{
	struct buf aad = { 0 };
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n;

	envelope_aad(e, &aad);
	bool done = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, e->nonce, encrypt) /* a nonce has 12 bytes unless told */
		&& (encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, tag))
		&& EVP_CipherUpdate(ctx, NULL, &n, aad.data, (int)aad.len) && EVP_CipherUpdate(ctx, out, &n, in, (int)len)
		&& EVP_CipherFinal_ex(ctx, out + n, &n) && (!encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, tag));
	EVP_CIPHER_CTX_free(ctx), buf_free(&aad);
	return done;
}

refusal burst_begin(struct burst *burst, const struct identity *me, const char *realm, const char *from, const struct bundle *b, uint64_t now)
{
	int first = bundle_usable(b, 0);
	EVP_PKEY *key;
	struct envelope *e = &burst->e;

	if (first < 0)
		return "no-encryption-key";
	if (!bundle_in_time(b, now))
		return "bundle-not-valid";
	refusal why = encryption_key(b->encryption[first].key, b->encryption[first].len, &key);
	if (why)
		return why;
	e->enc_key_len = sizeof e->enc_key;
	if (RAND_priv_bytes(burst->key, 32) != 1 || !rsa_oaep(key, true, burst->key, 32, e->enc_key, &e->enc_key_len))
		abort();
	EVP_PKEY_free(key);
	key_id(realm, b->identity, b->encryption[first].key, b->encryption[first].len, e->key);
	strcpy(e->realm, realm), strcpy(e->from, from), strcpy(e->to, b->user);
	memcpy(e->signer, me->key, 32);
	burst->made = now;
	burst->left = 1024;
	return NULL;
}

bool burst_lasts(const struct burst *burst, uint64_t now)
{
	return burst->left > 0 && now >= burst->made && now < burst->made + 60000;
}

refusal seal(struct burst *burst, const struct identity *me, const char *content, const char *prev, uint64_t now)
{
	struct envelope *e = &burst->e;
	static byte plaintext[MAX_CONTENT];
	byte id[16];
	size_t len = strlen(content), padded_len = padded(len);
	struct buf text = { 0 }, t = { 0 };

	if (len > MAX_CONTENT)
		return "too-long";
	memset(plaintext, ' ', padded_len);
	memcpy(plaintext, content, len);
	if (RAND_bytes(id, 16) != 1 || RAND_bytes(e->nonce, 12) != 1)
		abort();
	for (int i = 0; i < 6; i++)
		id[i] = (byte)(now >> (40 - 8 * i));
	id[6] = (byte)(0x70 | (id[6] & 0x0f));
	id[8] = (byte)(0x80 | (id[8] & 0x3f));
	for (int i = 0; i < 16; i++)
		buf_text(&text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
	memcpy(e->id, text.data, 37);
	strcpy(e->prev, prev);
	e->ts = now;
	e->len = padded_len + 16;
	if (!gcm(true, burst->key, e, plaintext, padded_len, e->ciphertext, e->ciphertext + padded_len))
		abort();
	envelope_signed(e, &t);
	sign(me, &t, e->sig);
	buf_free(&t), buf_free(&text);
	burst->left--;
	return NULL;
}

static const struct opened *cached(const struct recipient *me, const byte index[32])
{
	for (size_t i = 0; i < 64; i++)
		if (!memcmp(me->cache[i].index, index, 32))
			return &me->cache[i];
	return NULL;
}

refusal open_envelope(const struct envelope *e, struct recipient *me, const struct known *known, json_t **content)
{
	static byte plaintext[MAX_CONTENT];
	byte key[512], index[32];
	size_t mine = 0, signer = 0, len = sizeof key;
	struct buf t = { 0 };

	if (strcmp(e->to, me->user))
		return "not-for-me";
	if (strcmp(e->realm, me->realm))
		return "wrong-realm";
	while (signer < known->count && memcmp(known->signers[signer], e->signer, 32))
		signer++;
	if (signer == known->count)
		return "signer-is-not-pinned";
	envelope_signed(e, &t);
	refusal why = verify(e->signer, &t, e->sig);
	t.len = 0;
	field(&t, e->key, 32), field(&t, e->signer, 32), field(&t, e->enc_key, e->enc_key_len);
	sha256(t.data, t.len, index);
	buf_free(&t);
	if (why)
		return why;
	if (known->seen)
		return "already-seen";
	if (e->ts < known->floor)
		return "below-floor";
	if (known->suspended)
		return "suspended";
	while (mine < me->keys && memcmp(me->key_id[mine], e->key, 32))
		mine++;
	if (mine == me->keys)
		return "unknown-key";
	const struct opened *opened = cached(me, index);
	if (opened)
		memcpy(key, opened->key, len = 32);
	bool open = opened || (e->enc_key_len == (size_t)EVP_PKEY_get_size(me->secret[mine])
	                       && rsa_oaep(me->secret[mine], false, e->enc_key, e->enc_key_len, key, &len) && len == 32);
	byte tag[16];
	memcpy(tag, e->ciphertext + e->len - 16, 16);
	open = open && gcm(false, key, e, e->ciphertext, e->len - 16, plaintext, tag);
	if (open && !opened) {
		struct opened *entry = &me->cache[me->next++ % 64];

		memcpy(entry->index, index, 32), memcpy(entry->key, key, 32);
	}
	OPENSSL_cleanse(key, sizeof key);
	return open ? parse_content(plaintext, e->len - 16, content) : "cannot-decrypt";
}

refusal parse_content(const void *plaintext, size_t len, json_t **content) /* 8.1 */
{
	*content = json_loadb(plaintext, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	const char *kind = json_string_value(json_object_get(*content, "kind"));

	if (json_is_object(*content) && kind && IS_KIND(kind) && (strcmp(kind, "text") || json_is_string(json_object_get(*content, "text"))))
		return NULL;
	json_decref(*content);
	*content = NULL;
	return "bad-content";
}
