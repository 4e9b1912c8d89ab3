/* Key bundles: who somebody is, and how to seal for them (6). */
#include "sealpost.h"

#include <string.h>

void bundle_encode(const struct bundle *b, struct buf *out)
{
	buf_text(out, "{\"v\":1,\"realm\":\"%s\",\"user\":\"%s\",\"seq\":%llu,\"created\":", b->realm, b->user, (unsigned long long)b->seq);
	buf_time(out, b->created);
	buf_text(out, ",\"expires\":");
	buf_time(out, b->expires);
	buf_text(out, ",\"identity\":\"");
	buf_b64(out, b->identity, 32);
	buf_text(out, "\",\"encryption\":[");
	for (size_t i = 0; i < b->keys; i++) {
		buf_text(out, "%s{\"alg\":\"%s\",\"key\":\"", i ? "," : "", b->encryption[i].alg);
		buf_b64(out, b->encryption[i].key, b->encryption[i].len);
		buf_text(out, "\"}");
	}
	buf_text(out, "],\"links\":[");
	for (size_t i = 0; i < b->links; i++) {
		buf_text(out, "%s{\"old\":\"", i ? "," : "");
		buf_b64(out, b->link[i].old, 32);
		buf_text(out, "\",\"new\":\"");
		buf_b64(out, b->link[i].new, 32);
		buf_text(out, "\",\"at\":");
		buf_time(out, b->link[i].at);
		buf_text(out, ",\"sig\":\"");
		buf_b64(out, b->link[i].sig, 64);
		buf_text(out, "\"}");
	}
	buf_text(out, "],\"sig\":\"");
	buf_b64(out, b->sig, 64);
	buf_text(out, "\"}");
}

static void transcript(const struct bundle *b, struct buf *t) /* 6.2 */
{
	field_text(t, "sealpost/1 bundle");
	field_number(t, 1, 1);
	field_text(t, b->realm);
	field_text(t, b->user);
	field_number(t, b->seq, 8);
	field_number(t, b->created, 8);
	field_number(t, b->expires, 8);
	field(t, b->identity, 32);
	field_number(t, b->keys, 4);
	for (size_t i = 0; i < b->keys; i++) {
		field_text(t, b->encryption[i].alg);
		field(t, b->encryption[i].key, b->encryption[i].len);
	}
	field_number(t, b->links, 4);
	for (size_t i = 0; i < b->links; i++) {
		field(t, b->link[i].old, 32);
		field(t, b->link[i].new, 32);
		field_number(t, b->link[i].at, 8);
		field(t, b->link[i].sig, 64);
	}
}

static refusal check_links(const struct bundle *b) /* 6.3 */
{
	for (size_t i = 0; i < b->links; i++) {
		const struct link *link = &b->link[i];
		struct buf t = { 0 };

		if (i && memcmp(link->old, link[-1].new, 32))
			return "broken-chain";
		for (size_t j = 0; j <= i; j++) { /* also of itself; that one was replaced twice follows from this and the chain */
			if (!memcmp(link->new, b->link[j].old, 32))
				return "retired-identity-returns";
		}
		field_text(&t, "sealpost/1 link");
		field_text(&t, b->realm);
		field_text(&t, b->user);
		field(&t, link->old, 32);
		field(&t, link->new, 32);
		field_number(&t, link->at, 8);
		refusal why = verify(link->old, &t, link->sig);
		buf_free(&t);
		if (why)
			return "bad-link-signature";
	}
	return b->links && memcmp(b->link[b->links - 1].new, b->identity, 32) ? "links-lead-elsewhere" : NULL;
}

static refusal check(const struct bundle *b) /* 6.1 */
{
	if (b->seq < 1 || b->seq >= 1ULL << 53)
		return "bad-seq";
	if (b->expires <= b->created || b->expires > b->created + 400 * DAY)
		return "bad-validity";
	for (int i = bundle_usable(b, 0); i >= 0; i = bundle_usable(b, i + 1)) {
		EVP_PKEY *key;
		refusal why = encryption_key(b->encryption[i].key, b->encryption[i].len, &key);

		EVP_PKEY_free(key);
		if (why)
			return why;
	}
	refusal why = check_links(b);
	if (why)
		return why;
	struct buf t = { 0 };
	transcript(b, &t);
	why = verify(b->identity, &t, b->sig);
	buf_free(&t);
	return why;
}

static refusal read_members(struct bundle *b, const json_t *m)
{
	const json_t *keys = json_object_get(m, "encryption"), *links = json_object_get(m, "links"), *seq = json_object_get(m, "seq");

	if (!get_text(m, "realm", b->realm) || !get_text(m, "user", b->user) || !IS_REALM(b->realm) || !IS_USER(b->user)
	    || !json_is_integer(seq) || !get_time(m, "created", &b->created) || !get_time(m, "expires", &b->expires)
	    || !get_binary(m, "identity", b->identity, 32) || check_identity(b->identity) || !get_binary(m, "sig", b->sig, 64)
	    || !json_is_array(keys) || !json_is_array(links))
		return "malformed";
	b->seq = (uint64_t)json_integer_value(seq);
	b->keys = json_array_size(keys);
	b->links = json_array_size(links);
	if (b->keys > 4 || b->links > 8)
		return "too-many";
	for (size_t i = 0; i < b->keys; i++) {
		const json_t *entry = json_array_get(keys, i);
		const char *key = json_string_value(json_object_get(entry, "key"));
		char *alg = b->encryption[i].alg;

		if (!get_text(entry, "alg", alg) || !alg[0] || alg[strspn(alg, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+/")]
		    || !key || !b64_decode(key, b->encryption[i].key, MAX_BUNDLE, &b->encryption[i].len) || !b->encryption[i].len)
			return "malformed";
	}
	for (size_t i = 0; i < b->links; i++) {
		const json_t *entry = json_array_get(links, i);
		struct link *link = &b->link[i];

		if (!get_binary(entry, "old", link->old, 32) || check_identity(link->old) || !get_binary(entry, "new", link->new, 32)
		    || check_identity(link->new) || !get_time(entry, "at", &link->at) || !get_binary(entry, "sig", link->sig, 64))
			return "malformed";
	}
	return NULL;
}

refusal bundle_parse(struct bundle *b, const void *data, size_t len) /* 4.2, 6.6 step 1 */
{
	struct buf again = { 0 };

	if (len > MAX_BUNDLE)
		return "too-large";
	json_t *m = json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
	refusal why = m ? read_members(b, m) : "not-json";
	json_decref(m);
	if (why)
		return why;
	bundle_encode(b, &again);
	if (again.len != len || memcmp(again.data, data, len))
		why = "not-canonical";
	buf_free(&again);
	sha256(data, len, b->digest);
	return why ? why : check(b);
}

void bundle_sign(struct bundle *b, const struct identity *me)
{
	struct buf t = { 0 };

	memcpy(b->identity, me->key, 32);
	transcript(b, &t);
	sign(me, &t, b->sig);
	buf_free(&t);
}

bool bundle_in_time(const struct bundle *b, uint64_t now)
{
	return b->created <= now + DAY && now < b->expires;
}

int bundle_usable(const struct bundle *b, int from)
{
	for (size_t i = (size_t)from; i < b->keys; i++)
		if (!strcmp(b->encryption[i].alg, ALG))
			return (int)i;
	return -1;
}

refusal assess(const struct pin *pin, const struct bundle *b, const char *realm, const char *user, uint64_t now, const char **outcome)
{
	bool linked = false, same = pin && !memcmp(pin->identity, b->identity, 32);

	if (strcmp(b->realm, realm))
		return "wrong-realm";
	if (strcmp(b->user, user))
		return "wrong-user";
	for (size_t i = 0; pin && i < b->links; i++)
		linked = linked || !memcmp(b->link[i].old, pin->identity, 32);
	if (pin && !same && !linked)
		return "identity-changed";
	if (same && b->seq < pin->seq)
		return "rolled-back";
	if (same && b->seq == pin->seq && memcmp(b->digest, pin->digest, 32))
		return "forked";
	if (pin && pin->retired && (linked || b->keys)) /* whoever retired an identity has no way back (6.4) */
		return "retired";
	if (b->created > now + DAY)
		return "from-the-future";
	if (now >= b->expires)
		return "expired";
	*outcome = !pin ? "first-contact" : linked ? "linked-change" : b->seq == pin->seq ? "unchanged" : "newer";
	return NULL;
}
