/* What a device keeps in its folder: keys, contacts' bundles, mail on its way, and what it received. */
#include "sealpost.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_SEEN 4096 /* ids remembered of each sender, before its floor is raised (7.6) */

struct seen { char id[37]; uint64_t ts; };
static struct sender { char name[65]; struct seen *seen; size_t count; uint64_t floor; struct sender *next; } *senders;

uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
}

void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	exit(1);
}

const char *path(const struct home *home, const char *format, ...)
{
	static char paths[4][4096];
	static unsigned turn;
	char *made = paths[turn++ % 4];
	int len = snprintf(made, 2048, "%s/", home->folder);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(made + len, 2048, format, arguments);
	va_end(arguments);
	return made;
}

bool read_file(const char *name, struct buf *data)
{
	FILE *file = fopen(name, "rb");
	char part[4096];

	data->len = 0;
	buf_add(data, "", 0);
	for (size_t n; file && (n = fread(part, 1, sizeof part, file)) > 0;)
		buf_add(data, part, n);
	return file && fclose(file) == 0;
}

void write_file(const char *name, const void *data, size_t len)
{
	char new[8400], folder[4200];
	FILE *file;

	snprintf(folder, sizeof folder, "%s", name);
	*strrchr(folder, '/') = 0;
	/* `send` and `listen` may write the same file. */
	snprintf(new, sizeof new, "%s/.%s.%d", folder, strrchr(name, '/') + 1, (int)getpid());
	file = fopen(new, "wb");
	if (!file || fwrite(data, 1, len, file) != len || fflush(file) || fsync(fileno(file)) || fclose(file) || rename(new, name))
		die("%s: %s", name, strerror(errno));
	int fd = open(folder, O_RDONLY | O_DIRECTORY);
	if (fd < 0 || fsync(fd))
		die("%s: %s", folder, strerror(errno));
	close(fd);
}

static struct sender *sender_of(const char *name)
{
	struct sender *sender = senders;

	while (sender && strcmp(sender->name, name))
		sender = sender->next;
	if (!sender) {
		sender = calloc(1, sizeof *sender);
		snprintf(sender->name, sizeof sender->name, "%s", name);
		sender->seen = calloc(MAX_SEEN, sizeof *sender->seen);
		sender->next = senders;
		senders = sender;
	}
	return sender;
}

static int by_time(const void *a, const void *b)
{
	uint64_t one = ((const struct seen *)a)->ts, other = ((const struct seen *)b)->ts;

	return (one > other) - (one < other);
}

static void remember(const json_t *line)
{
	struct sender *sender = sender_of(json_string_value(json_object_get(line, "from")));

	if (sender->count == MAX_SEEN) { /* the floor covers the older half from now on */
		qsort(sender->seen, MAX_SEEN, sizeof *sender->seen, by_time);
		sender->count = MAX_SEEN / 2;
		sender->floor = sender->seen[MAX_SEEN / 2 - 1].ts + 1;
		memmove(sender->seen, sender->seen + MAX_SEEN / 2, sender->count * sizeof *sender->seen);
	}
	struct seen *seen = &sender->seen[sender->count++];
	snprintf(seen->id, sizeof seen->id, "%s", json_string_value(json_object_get(line, "id")));
	seen->ts = (uint64_t)json_integer_value(json_object_get(line, "ts"));
}

/* received.jsonl is both the mail and the ids seen, so that storing one and marking the other is one write (7.6). */
static void load_received(const struct home *home)
{
	FILE *file = fopen(path(home, "received.jsonl"), "rb");
	char *text = NULL;
	size_t room = 0;
	long whole = 0;

	for (ssize_t len; file && (len = getline(&text, &room, file)) > 0 && text[len - 1] == '\n'; whole = ftell(file)) {
		json_t *line = json_loadb(text, (size_t)len, 0, NULL);

		if (!line)
			die("received.jsonl has a line that is none");
		remember(line);
		json_decref(line);
	}
	free(text);
	/* The power may have gone in the middle of a line. */
	if (file && (fclose(file) || truncate(path(home, "received.jsonl"), whole)))
		die("received.jsonl: %s", strerror(errno));
}

static void sign_bundle(struct home *home, const struct buf *spki, uint64_t last)
{
	static struct bundle b;
	uint64_t t = now();

	b.seq = last + 1 > t / 1000 ? last + 1 : t / 1000;
	strcpy(b.realm, home->realm), strcpy(b.user, home->user), strcpy(b.encryption[0].alg, ALG);
	b.created = t, b.expires = t + 365 * DAY, b.keys = 1, b.links = 0;
	memcpy(b.encryption[0].key, spki->data, b.encryption[0].len = spki->len);
	bundle_sign(&b, &home->me);
	home->bundle.len = 0;
	bundle_encode(&b, &home->bundle);
	write_file(path(home, "bundle"), home->bundle.data, home->bundle.len);
}

void home_open(struct home *home, const char *folder, const char *realm, const char *user)
{
	static const char *folders[] = { "", "contacts", "outbox", "sent", "refused", "waiting", "failures" };
	static struct bundle last;
	struct buf seed = { 0 }, der = { 0 }, spki = { 0 };

	home->folder = folder, home->mine.realm = home->realm = realm, home->mine.user = home->user = user;
	umask(077); /* the keys lie here in the clear, as nobody is there to type a passphrase (5.5) */
	for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
		if (mkdir(path(home, "%s", folders[i]), 0700) && errno != EEXIST)
			die("%s/%s: %s", folder, folders[i], strerror(errno));
	if (!read_file(path(home, "identity"), &seed)) {
		byte fresh[32];

		if (RAND_priv_bytes(fresh, 32) != 1)
			die("no chance to be had");
		buf_add(&seed, fresh, 32);
		write_file(path(home, "identity"), fresh, 32);
	}
	if (!read_file(path(home, "decryption_key"), &der)) {
		EVP_PKEY *fresh = EVP_RSA_gen(3072);
		byte *encoded = NULL;
		int len = i2d_PrivateKey(fresh, &encoded);

		buf_add(&der, encoded, (size_t)len);
		write_file(path(home, "decryption_key"), encoded, (size_t)len);
		OPENSSL_clear_free(encoded, (size_t)len), EVP_PKEY_free(fresh);
	}
	const byte *at = der.data;
	EVP_PKEY *secret = home->mine.secret[0] = d2i_AutoPrivateKey(NULL, &at, (long)der.len);
	byte *encoded = NULL;
	int len = secret ? i2d_PUBKEY(secret, &encoded) : 0;
	if (len <= 0 || seed.len != 32 || !identity_load(&home->me, seed.data))
		die("the keys in %s cannot be read", folder);
	buf_add(&spki, encoded, (size_t)len);
	home->mine.keys = 1;
	key_id(realm, home->me.key, spki.data, spki.len, home->mine.key_id[0]);
	load_received(home);
	/* 6.4: the bundle is made again half a year before it expires. */
	bool there = read_file(path(home, "bundle"), &home->bundle);
	if (there && bundle_parse(&last, home->bundle.data, home->bundle.len))
		die("the bundle in %s cannot be read", folder);
	if (!there || now() >= last.expires - 180 * DAY)
		sign_bundle(home, &spki, last.seq);
	OPENSSL_cleanse(seed.data, seed.len), OPENSSL_cleanse(der.data, der.len), OPENSSL_free(encoded);
	buf_free(&seed), buf_free(&der), buf_free(&spki);
}

void home_close(struct home *home)
{
	for (struct sender *next; senders; senders = next) {
		next = senders->next;
		free(senders->seen), free(senders);
	}
	OPENSSL_cleanse(home->mine.cache, sizeof home->mine.cache);
	EVP_PKEY_free(home->me.secret), EVP_PKEY_free(home->mine.secret[0]), buf_free(&home->bundle);
}

bool believed(const struct home *home, const char *user, struct bundle *b)
{
	struct buf data = { 0 };
	bool there = read_file(path(home, "contacts/%s", user), &data) && !bundle_parse(b, data.data, data.len);

	buf_free(&data);
	return there;
}

refusal believe(const struct home *home, const char *user, const void *data, size_t len)
{
	static struct bundle b, old;
	struct pin pin = { 0 };
	bool known = believed(home, user, &old);
	const char *outcome;
	refusal why = bundle_parse(&b, data, len);

	memcpy(pin.identity, old.identity, 32), memcpy(pin.digest, old.digest, 32);
	pin.seq = old.seq, pin.retired = !old.keys;
	if (!why)
		why = assess(known ? &pin : NULL, &b, home->realm, user, now(), &outcome);
	if (why)
		return why;
	if (!strcmp(outcome, "first-contact") || !strcmp(outcome, "linked-change"))
		say("%s: %s", outcome, user);
	if (strcmp(outcome, "unchanged"))
		write_file(path(home, "contacts/%s", user), data, len);
	return NULL;
}

refusal receive(struct home *home, const struct envelope *e, json_t **line)
{
	static struct bundle b;
	struct known known = { 0 };
	struct sender *sender = sender_of(e->from);
	struct buf failures = { 0 }, name = { 0 };
	json_t *content = NULL;

	*line = NULL;
	if (believed(home, e->from, &b)) {
		memcpy(known.signers[known.count++], b.identity, 32);
		for (size_t i = 0; i < b.links; i++) /* mail is under way when its sender changes identity: 45 days for the old one */
			if (now() < b.link[i].at + 45 * DAY)
				memcpy(known.signers[known.count++], b.link[i].old, 32);
	} else if (!strcmp(e->to, home->user)) {
		return NULL;
	}
	for (size_t i = 0; i < sender->count; i++)
		known.seen = known.seen || !strcmp(sender->seen[i].id, e->id);
	known.floor = sender->floor;
	buf_text(&name, "failures/");
	for (int i = 0; i < 32; i++)
		buf_text(&name, "%02x", e->signer[i]);
	read_file(path(home, "%s", (char *)name.data), &failures); /* a byte for each (7.7) */
	known.suspended = failures.len >= 3;
	refusal why = open_envelope(e, &home->mine, &known, &content);
	if (why && !strcmp(why, "cannot-decrypt")) {
		buf_add(&failures, ".", 1);
		write_file(path(home, "%s", (char *)name.data), failures.data, failures.len);
	}
	buf_free(&failures), buf_free(&name);
	if (why)
		return why;
	*line = json_pack("{s:s, s:s, s:I, s:o}", "from", e->from, "id", e->id, "ts", (json_int_t)e->ts, "content", content);
	FILE *file = fopen(path(home, "received.jsonl"), "ab");
	if (!file || json_dumpf(*line, file, JSON_COMPACT | JSON_ENSURE_ASCII) || fputc('\n', file) == EOF || fflush(file)
	    || fsync(fileno(file)) || fclose(file))
		die("received.jsonl: %s", strerror(errno));
	remember(*line);
	return NULL;
}
