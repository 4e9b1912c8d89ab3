/* Identities (5.1, 5.2), encryption keys (5.3, 5.4) and login tokens (10.2). */
#include "sealpost.h"

#include <openssl/bn.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define MUST(done) do { if (!(done)) abort(); } while (0) /* fails for want of memory alone */

static bool small_order(const byte point[32])
{
	static const byte y[5][32] = {
		{ 0 }, { 1 },
		{ 0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		  0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05 },
		{ 0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		  0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a },
		{ 0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f },
	};
	for (int i = 0; i < 5; i++)
		if (!memcmp(point, y[i], 31) && (point[31] & 0x7f) == y[i][31])
			return true;
	return false;
}

/* Whether there is an x: (y^2 - 1) / (d y^2 + 1) is a square modulo p, with d = -121665 / 121666. So is the product with 121666 of
 * the two, or neither: Euler's criterion for (y^2 - 1) * 121666 * (121666 - 121665 y^2). */
static bool on_curve(const byte key[32])
{
	byte little[32];
	BN_CTX *ctx = BN_CTX_new();
	BIGNUM *p = BN_new(), *y = BN_new(), *u = BN_new(), *v = BN_new();

	memcpy(little, key, 32);
	little[31] &= 0x7f;
	MUST(ctx && p && y && u && v && BN_lebin2bn(little, 32, y));
	MUST(BN_set_bit(p, 255) && BN_sub_word(p, 19));
	bool holds = BN_cmp(y, p) < 0;
	MUST(BN_mod_sqr(u, y, p, ctx) && BN_copy(v, u) && BN_sub_word(u, 1));
	MUST(BN_mul_word(v, 121665) && BN_set_word(y, 121666) && BN_sub(v, y, v));
	MUST(BN_mod_mul(u, u, v, p, ctx) && BN_mod_mul(u, u, y, p, ctx));
	MUST(BN_copy(y, p) && BN_sub_word(y, 1) && BN_rshift1(y, y) && BN_nnmod(u, u, p, ctx) && BN_mod_exp(u, u, y, p, ctx));
	holds = holds && BN_is_one(u);
	BN_free(p), BN_free(y), BN_free(u), BN_free(v), BN_CTX_free(ctx);
	return holds;
}

refusal check_identity(const byte key[32])
{
	return small_order(key) || !on_curve(key) ? "bad-identity-key" : NULL;
}

bool identity_load(struct identity *me, const byte seed[32])
{
	size_t len = 32;

	me->secret = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	return me->secret && EVP_PKEY_get_raw_public_key(me->secret, me->key, &len);
}

void sign(const struct identity *me, const struct buf *message, byte sig[64])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t len = 64;

	MUST(ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, me->secret));
	MUST(EVP_DigestSign(ctx, sig, &len, message->data, message->len));
	EVP_MD_CTX_free(ctx);
}

refusal verify(const byte key[32], const struct buf *message, const byte sig[64])
{
	if (small_order(key) || small_order(sig)) /* OpenSSL checks S < L and the encoding of R */
		return "bad-signature";
	EVP_PKEY *public = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	MUST(public && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, public));
	bool holds = EVP_DigestVerify(ctx, sig, 64, message->data, message->len) == 1;
	EVP_MD_CTX_free(ctx), EVP_PKEY_free(public);
	return holds ? NULL : "bad-signature";
}

refusal encryption_key(const byte *spki, size_t len, EVP_PKEY **key)
{
	const byte *end = spki;
	byte *again = NULL;
	BIGNUM *n = NULL, *e = NULL;

	*key = len <= 1100 ? d2i_PUBKEY(NULL, &end, (long)len) : NULL; /* 4,096 bits take 550 */
	if (!*key)
		return "bad-der";
	int written = i2d_PUBKEY(*key, &again);
	bool good = EVP_PKEY_is_a(*key, "RSA") && written == (int)len && !memcmp(again, spki, len)
		&& EVP_PKEY_get_bn_param(*key, "n", &n) && EVP_PKEY_get_bn_param(*key, "e", &e)
		&& BN_num_bits(n) >= 2048 && BN_num_bits(n) <= 4096 && BN_is_odd(n) && BN_is_word(e, 65537);
	OPENSSL_free(again), BN_free(n), BN_free(e);
	if (!good) {
		EVP_PKEY_free(*key);
		*key = NULL;
	}
	return good ? NULL : "bad-key";
}

void key_id(const char *realm, const byte owner[32], const byte *spki, size_t len, byte id[32])
{
	struct buf t = { 0 };

	field_text(&t, "sealpost/1 key");
	field_text(&t, realm);
	field(&t, owner, 32);
	field(&t, spki, len);
	sha256(t.data, t.len, id);
	buf_free(&t);
}

/* `len` is the room in `out`, and what was written there. OpenSSL refuses a number that is not below the modulus. */
bool rsa_oaep(EVP_PKEY *key, bool encrypt, const byte *in, size_t in_len, byte *out, size_t *len)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);

	MUST(ctx);
	bool done = (encrypt ? EVP_PKEY_encrypt_init(ctx) : EVP_PKEY_decrypt_init(ctx)) == 1
		&& EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1
		&& EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) == 1
		&& EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) == 1
		&& (encrypt ? EVP_PKEY_encrypt(ctx, out, len, in, in_len) : EVP_PKEY_decrypt(ctx, out, len, in, in_len)) == 1;
	EVP_PKEY_CTX_free(ctx);
	return done;
}

void login_token(const struct identity *me, const char *realm, const char *user, const char *client_id, uint64_t now,
                 const byte nonce[16], const byte *binding, size_t binding_len, char token[161])
{
	struct buf t = { 0 }, raw = { 0 };
	byte sig[64], issued[8];

	for (int i = 0; i < 8; i++)
		issued[i] = (byte)(now >> (56 - 8 * i));
	field_text(&t, "sealpost/1 login");
	field_text(&t, realm);
	field_text(&t, user);
	field_text(&t, client_id);
	field(&t, me->key, 32);
	field(&t, issued, 8);
	field(&t, nonce, 16);
	field(&t, binding, binding_len);
	sign(me, &t, sig);
	buf_add(&raw, me->key, 32);
	buf_add(&raw, issued, 8);
	buf_add(&raw, nonce, 16);
	buf_add(&raw, sig, 64);
	EVP_EncodeBlock((byte *)token, raw.data, (int)raw.len);
	for (char *c = token; *c; c++) /* 120 bytes need no padding; the two characters that differ make it base64url */
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	buf_free(&t), buf_free(&raw);
}
