/* Sending: each line goes into the outbox, then to the broker, and out of the outbox when the broker has it on disk. */
#include "sensor.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW 64 /* messages on their way at once: what a crash sends again, and what memory holds */
#define MAX_LINE 60000
#define NO_BUNDLE 5000 /* ms after which there is none (10.6) */
#define AGAIN_LATER(reason) ((reason) == 0x80 || (reason) == 0x83 || (reason) == 0x97) /* the same bytes, later (10.5) */

static struct home *home;
static const char *to;
static struct { char name[96]; int mid; uint64_t again; } on_way[4 * WINDOW];
static size_t count;
static struct bundle bundle;
static struct burst burst;
static bool known;
static int refused;
static uint64_t ready, number;
static char prev[37];

static void send_again(size_t i)
{
	struct buf envelope = { 0 };
	char recipient[96];

	read_file(path(home, "outbox/%s", on_way[i].name), &envelope);
	strcpy(recipient, on_way[i].name);
	recipient[strcspn(recipient, ".")] = 0;
	on_way[i].mid = publish(recipient, &envelope);
	on_way[i].again = 0;
	buf_free(&envelope);
}

static void put_on_way(const char *name)
{
	if (count == sizeof on_way / sizeof on_way[0] || strlen(name) >= sizeof on_way[0].name)
		die("the outbox has more than was ever put there");
	strcpy(on_way[count].name, name);
	send_again(count++);
}

static void connected(void)
{
	subscribe("keys/%s", to);
	for (size_t i = 0; i < count; i++) /* the same bytes again: the recipient drops what it has */
		send_again(i);
}

static void subscribed(void)
{
	if (!ready)
		say("connected");
	ready = ready ? ready : now();
}

static void message(const char *topic, const void *payload, size_t len) /* 6.6 */
{
	refusal why = believe(home, to, payload, len);

	(void)topic;
	if (why)
		say("the bundle of %s: %s", to, why);
	if (why && !strcmp(why, "identity-changed"))
		die("nothing is sent to %s until somebody decides", to);
	known = believed(home, to, &bundle);
	burst.left = 0; /* the next message is sealed to this bundle */
}

static void acknowledged(int mid, int reason) /* 10.5 */
{
	size_t i = 0;

	while (i < count && on_way[i].mid != mid)
		i++;
	if (i == count)
		return; /* the PUBACK of our bundle */
	if (AGAIN_LATER(reason)) {
		on_way[i].again = now() + 60000;
		return;
	}
	if (reason >= 0x80) {
		refused++;
		rename(path(home, "outbox/%s", on_way[i].name), path(home, "refused/%s", on_way[i].name));
	} else {
		unlink(path(home, "outbox/%s", on_way[i].name));
	}
	memmove(on_way + i, on_way + i + 1, (--count - i) * sizeof on_way[0]);
}

/* 8.4: a line is any JSON, or else text. */
static void reading(const char *line, struct buf *content)
{
	json_t *value = json_loads(line, JSON_DECODE_ANY, NULL);

	value = value ? value : json_string(line);
	value = value ? value : json_null(); /* not even UTF-8 */
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	buf_text(content, "{\"kind\":\"reading\",\"number\":%llu,\"at\":", (unsigned long long)number);
	buf_time(content, now());
	buf_text(content, ",\"reading\":%s}", text);
	free(text), json_decref(value);
}

static void line(const char *text)
{
	struct buf content = { 0 }, data = { 0 };
	char name[96];
	refusal why = NULL;

	number++;
	reading(text, &content);
	if (!burst_lasts(&burst, now()))
		why = burst_begin(&burst, &home->me, home->realm, home->user, &bundle, now());
	why = why ? why : seal(&burst, &home->me, (char *)content.data, prev, now());
	if (why)
		die("refused: %s", why);
	strcpy(prev, burst.e.id);
	/* In this order no number is given twice: what is lost in between is missing, as `prev` shows too. */
	content.len = 0;
	buf_text(&content, "%llu %s", (unsigned long long)number, prev);
	write_file(path(home, "sent/%s", to), content.data, content.len);
	envelope_encode(&burst.e, &data);
	snprintf(name, sizeof name, "%s.%012llu", to, (unsigned long long)number);
	write_file(path(home, "outbox/%s", name), data.data, data.len);
	put_on_way(name);
	buf_free(&content), buf_free(&data);
}

static bool room(size_t unread)
{
	if (!known && ready && now() > ready + NO_BUNDLE)
		die("refused: nothing is known of %s", to);
	if (unread > MAX_LINE)
		die("a line has more than %d bytes", MAX_LINE);
	for (size_t i = 0; i < count; i++)
		if (on_way[i].again && now() >= on_way[i].again)
			send_again(i);
	return known && count < WINDOW;
}

static bool all_settled(void)
{
	return room(0) && count == 0;
}

static int code(void)
{
	return refused ? 1 : 0;
}

const struct role *send_role(struct home *the_home, const char *recipient)
{
	static const struct role role = { "sensor-send", 0, connected, subscribed, message, acknowledged, line, room, all_settled, code };
	struct buf sent = { 0 };
	struct dirent **names;
	unsigned long long last = 0;

	home = the_home, to = recipient;
	known = believed(home, to, &bundle);
	if (read_file(path(home, "sent/%s", to), &sent) && sscanf((char *)sent.data, "%llu %36s", &last, prev) != 2)
		die("sent/%s cannot be read", to);
	number = last;
	buf_free(&sent);
	int found = scandir(path(home, "outbox"), &names, NULL, alphasort);
	for (int i = 0; i < found; i++) { /* of a run that was cut off */
		if (names[i]->d_name[0] != '.')
			put_on_way(names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return &role;
}
