/* Sealpost for Linux-class devices, with OpenSSL and Jansson. Numbers in comments are sections of core/SPEC.md.
 *
 * What encoding.c, keys.c, bundle.c, envelope.c and seal.c define touches no socket, file or clock. Times are milliseconds since 1970.
 * A function that returns `refusal` gives NULL when all is well, and otherwise the error's name (13). */
#ifndef SEALPOST_H
#define SEALPOST_H

#include <jansson.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#define SUITE "RSA-OAEP-256/A256GCM/Ed25519"
#define ALG "RSA-OAEP-256"
#define DAY 86400000ULL
#define MAX_BUNDLE 16384
#define MAX_ENVELOPE 98304
#define MAX_CONTENT 65536

typedef const char *refusal;
typedef unsigned char byte;

/* encoding.c: bytes that grow, transcripts, and the one encoding. */
struct buf { byte *data; size_t len, room; };
void buf_add(struct buf *, const void *, size_t);
void buf_text(struct buf *, const char *, ...) __attribute__((format(printf, 2, 3)));
void buf_b64(struct buf *, const void *, size_t);
void buf_time(struct buf *, uint64_t);
void buf_free(struct buf *);
void field(struct buf *, const void *, size_t); /* 4.3: with its length in front */
void field_text(struct buf *, const char *);
void field_number(struct buf *, uint64_t, unsigned bytes);
void sha256(const void *, size_t, byte digest[32]);
bool is_name(const char *, const char *more, bool any_start); /* 3: a to z, 0 to 9 and `more`; the first from 0-9a-z */
#define IS_USER(text) is_name(text, "_-", false)
#define IS_REALM(text) is_name(text, ".-", true)
#define IS_KIND(text) is_name(text, "._-", false)
bool id_bytes(const char *text, byte id[16]);
bool b64_decode(const char *, byte *, size_t room, size_t *len);
/* Members of a parsed object. What is looser than 4.1 here does not survive the comparison with what is encoded again. */
bool get_text(const json_t *, const char *name, char text[65]);
bool get_time(const json_t *, const char *name, uint64_t *);
bool get_binary(const json_t *, const char *name, byte *, size_t len);

/* keys.c */
struct identity { EVP_PKEY *secret; byte key[32]; };
bool identity_load(struct identity *, const byte seed[32]);
void sign(const struct identity *, const struct buf *, byte sig[64]);
refusal check_identity(const byte key[32]);
refusal verify(const byte key[32], const struct buf *, const byte sig[64]);
refusal encryption_key(const byte *spki, size_t, EVP_PKEY **); /* free with EVP_PKEY_free */
void key_id(const char *realm, const byte owner[32], const byte *spki, size_t, byte id[32]);
bool rsa_oaep(EVP_PKEY *, bool encrypt, const byte *, size_t, byte *out, size_t *len);
void login_token(const struct identity *, const char *realm, const char *user, const char *client_id, uint64_t now,
                 const byte nonce[16], const byte *binding, size_t binding_len, char token[161]);

/* bundle.c */
struct link { byte old[32], new[32], sig[64]; uint64_t at; };
struct bundle {
	char realm[65], user[65];
	uint64_t seq, created, expires;
	byte identity[32], sig[64], digest[32];
	size_t keys, links;
	struct { char alg[65]; byte key[MAX_BUNDLE]; size_t len; } encryption[4];
	struct link link[8];
};
struct pin { byte identity[32], digest[32]; uint64_t seq; bool retired; };
refusal bundle_parse(struct bundle *, const void *, size_t);
void bundle_encode(const struct bundle *, struct buf *);
void bundle_sign(struct bundle *, const struct identity *);
bool bundle_in_time(const struct bundle *, uint64_t now);
int bundle_usable(const struct bundle *, int from); /* the next key that we can seal to, or -1 */
refusal assess(const struct pin *, const struct bundle *, const char *realm, const char *user, uint64_t now, const char **outcome);

/* envelope.c */
struct envelope {
	char realm[65], from[65], to[65], id[37], prev[37]; /* prev "": none */
	uint64_t ts;
	byte key[32], signer[32], nonce[12], sig[64], enc_key[512], ciphertext[MAX_CONTENT + 16];
	size_t enc_key_len, len; /* of the ciphertext */
};
size_t padded(size_t len);
refusal envelope_parse(struct envelope *, const void *, size_t);
void envelope_encode(const struct envelope *, struct buf *);
void envelope_aad(const struct envelope *, struct buf *);
void envelope_signed(const struct envelope *, struct buf *);

/* seal.c */
struct burst { byte key[32]; uint64_t made; unsigned left; struct envelope e; };
struct opened { byte index[32], key[32]; };
struct recipient {
	const char *realm, *user;
	byte key_id[4][32]; /* of each decryption key */
	EVP_PKEY *secret[4];
	size_t keys;
	struct opened cache[64]; /* 7.4; all zeros at first */
	unsigned next;
};
struct known { byte signers[9][32]; size_t count; bool seen, suspended; uint64_t floor; }; /* of the sender */
refusal burst_begin(struct burst *, const struct identity *, const char *realm, const char *from, const struct bundle *, uint64_t now);
bool burst_lasts(const struct burst *, uint64_t now);
refusal seal(struct burst *, const struct identity *, const char *content, const char *prev, uint64_t now);
refusal open_envelope(const struct envelope *, struct recipient *, const struct known *, json_t **content);
refusal parse_content(const void *, size_t, json_t **content); /* free with json_decref */

/* home.c: what a device keeps in its folder. */
struct home { const char *folder, *realm, *user; struct identity me; struct recipient mine; struct buf bundle; };
uint64_t now(void);
void say(const char *, ...) __attribute__((format(printf, 1, 2)));
void die(const char *, ...) __attribute__((format(printf, 1, 2), noreturn));
const char *path(const struct home *, const char *format, ...) __attribute__((format(printf, 2, 3))); /* good until the fourth call after */
bool read_file(const char *, struct buf *);
void write_file(const char *, const void *, size_t); /* the old bytes or the new, whenever the power goes */
void home_open(struct home *, const char *folder, const char *realm, const char *user);
void home_close(struct home *);
bool believed(const struct home *, const char *user, struct bundle *);
refusal believe(const struct home *, const char *user, const void *, size_t); /* 6.6: stores it, or refuses it */
refusal receive(struct home *, const struct envelope *, json_t **line); /* no line: the sender's bundle is needed first (7.8) */

#endif
