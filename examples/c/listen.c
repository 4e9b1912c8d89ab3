/* Listening: what is acknowledged is stored, put aside until its sender's bundle comes, or refused for good (10.6). */
#include "sensor.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_WAITING 256 /* envelopes of senders whose bundle is not here yet, 32 of each (7.8) */
#define MONTH (30 * 86400)

static struct home *home;
static struct envelope e;

/* Calls for each file of a folder, in order; gives how many there are. */
static int each(const char *folder, void (*run)(const char *name))
{
	struct dirent **names;
	int found = scandir(path(home, "%s", folder), &names, NULL, alphasort), count = 0;

	for (int i = 0; i < found; i++) {
		if (names[i]->d_name[0] != '.') {
			run(names[i]->d_name);
			count++;
		}
		free(names[i]);
	}
	free(names);
	return count;
}

static void subscribe_to(const char *name)
{
	char user[65];
	struct stat of;

	if (!stat(path(home, "waiting/%s", name), &of) && now() / 1000 > (uint64_t)of.st_mtime + 45 * 86400)
		unlink(path(home, "waiting/%s", name));
	snprintf(user, sizeof user, "%.*s", (int)strcspn(name, "."), name);
	subscribe("keys/%s", user);
}

static void connected(void)
{
	subscribe("inbox/%s", home->user);
	subscribe("keys/%s", home->user);
	each("contacts", subscribe_to);
	each("waiting", subscribe_to);
}

static void subscribed(void)
{
	static bool said;

	if (!said)
		say("connected");
	said = true;
}

/* Gives false when the sender's bundle is needed first. */
static bool show(const void *payload, size_t len)
{
	json_t *line = NULL;
	refusal why = envelope_parse(&e, payload, len);

	why = why ? why : receive(home, &e, &line);
	if (why)
		say("refused: %s", why);
	if (!line)
		return why;
	json_object_del(line, "ts");
	if (strcmp(json_string_value(json_object_get(json_object_get(line, "content"), "kind")), "receipt")) {
		json_dumpf(line, stdout, JSON_COMPACT | JSON_ENSURE_ASCII); /* nothing that would control a terminal (8.1) */
		putchar('\n');
		fflush(stdout);
	}
	json_decref(line);
	return true;
}

/* Of the sender that is looked for, among what waits. */
static char sender[65];
static unsigned long long number; /* of the last one */
static int theirs;
static const struct bundle *looked_at;
static bool match;

static void look(const char *name)
{
	struct buf data = { 0 };

	if (strncmp(name, sender, strlen(sender)) || name[strlen(sender)] != '.')
		return;
	theirs++;
	number = strtoull(name + strlen(sender) + 1, NULL, 10);
	if (looked_at && read_file(path(home, "waiting/%s", name), &data) && !envelope_parse(&e, data.data, data.len))
		match = match || !memcmp(e.signer, looked_at->identity, 32);
	buf_free(&data);
}

static void open_waiting(const char *name)
{
	struct buf data = { 0 };

	if (!strncmp(name, sender, strlen(sender)) && name[strlen(sender)] == '.' && read_file(path(home, "waiting/%s", name), &data)) {
		show(data.data, data.len);
		unlink(path(home, "waiting/%s", name));
	}
	buf_free(&data);
}

static void take(const void *payload, size_t len)
{
	if (show(payload, len))
		return;
	strcpy(sender, e.from);
	theirs = 0, number = 0, looked_at = NULL;
	if (each("waiting", look) >= MAX_WAITING || theirs >= 32) {
		say("refused: too many wait");
		return;
	}
	write_file(path(home, "waiting/%s.%012llu", sender, number + 1), payload, len);
	subscribe("keys/%s", sender);
}

static void take_bundle(const char *user, const void *payload, size_t len)
{
	static struct bundle b, old;
	refusal why = bundle_parse(&b, payload, len);

	snprintf(sender, sizeof sender, "%s", user);
	looked_at = &b, match = false;
	if (!why)
		each("waiting", look);
	if (why || match || believed(home, user, &old)) { /* others we have not asked about */
		why = why ? why : believe(home, user, payload, len);
		if (why)
			say("the bundle of %s: %s", user, why);
		else
			each("waiting", open_waiting);
	}
}

static void message(const char *topic, const void *payload, size_t len)
{
	if (!strncmp(topic, "inbox/", 6))
		take(payload, len);
	else if (strcmp(topic + 5, home->user))
		take_bundle(topic + 5, payload, len);
	else if (len != home->bundle.len || memcmp(payload, home->bundle.data, len))
		say("WARNING: somebody else has published a bundle in my name");
}

static int code(void)
{
	return 0;
}

const struct role *listen_role(struct home *the_home)
{
	static const struct role role = {
		.client_id = "sensor-listen", .session = MONTH, .connected = connected, .subscribed = subscribed, .message = message, .code = code,
	};

	home = the_home;
	return &role;
}
