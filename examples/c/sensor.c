/* A device that speaks Sealpost: it sends readings sealed, and receives what is sealed for it. MQTT 5, with libmosquitto.
 *
 *     build/sensor --user NAME --home DIR send TO    # seals each line of standard input
 *     build/sensor --user NAME --home DIR listen     # prints a line of JSON for each message */
#include "sensor.h"

#include <getopt.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <openssl/rand.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct { const char *host, *ca, *password_file; int port; bool tls; } broker;
static volatile sig_atomic_t stopped;
static bool connected;
static struct mosquitto *client;
static const struct role *role;
static struct home *home;

/* CONNACKs that will be no others next time (10.2). */
static bool no_way_in(int reason)
{
	return (reason >= 0x84 && reason <= 0x87) || reason == 0x8c;
}

static void say_reason(const char *what, int reason, const mosquitto_property *properties)
{
	char *text = NULL;

	mosquitto_property_read_string(properties, MQTT_PROP_REASON_STRING, &text, false);
	say("the broker refuses %s: %s%s%s", what, mosquitto_reason_string(reason), text ? ": " : "", text ? text : "");
	free(text);
}

static void on_connect(struct mosquitto *m, void *unused, int reason, int flags, const mosquitto_property *properties)
{
	char mine[80];

	(void)unused, (void)flags;
	if (reason) {
		say_reason("the login", reason, properties);
		if (no_way_in(reason))
			exit(1); /* whatever is not sent is in the outbox */
		return;
	}
	connected = true;
	snprintf(mine, sizeof mine, "keys/%s", home->user);
	mosquitto_publish(m, NULL, mine, (int)home->bundle.len, home->bundle.data, 1, true);
	role->connected();
}

static void on_subscribe(struct mosquitto *m, void *unused, int mid, int count, const int *granted, const mosquitto_property *properties)
{
	(void)m, (void)unused, (void)mid;
	for (int i = 0; i < count; i++)
		if (granted[i] >= 0x80)
			say_reason("a subscription", granted[i], properties);
	role->subscribed();
}

static void on_publish(struct mosquitto *m, void *unused, int mid, int reason, const mosquitto_property *properties)
{
	(void)m, (void)unused;
	if (reason >= 0x80)
		say_reason("what we sent", reason, properties);
	if (role->acknowledged)
		role->acknowledged(mid, reason);
}

static void on_message(struct mosquitto *m, void *unused, const struct mosquitto_message *message, const mosquitto_property *properties)
{
	(void)m, (void)unused, (void)properties;
	role->message(message->topic, message->payload, (size_t)message->payloadlen);
}

void subscribe(const char *format, const char *name)
{
	char topic[80];

	snprintf(topic, sizeof topic, format, name);
	if (client)
		mosquitto_subscribe(client, NULL, topic, 1);
}

int publish(const char *to, const struct buf *envelope)
{
	char topic[80];
	int mid = -1;

	snprintf(topic, sizeof topic, "inbox/%s", to);
	return connected && !mosquitto_publish(client, &mid, topic, (int)envelope->len, envelope->data, 1, false) ? mid : -1;
}

/* A new connection, with a token minted for it. */
static struct mosquitto *connection(void)
{
	struct mosquitto *m = mosquitto_new(role->client_id, !role->session, NULL);
	mosquitto_property *properties = NULL;
	struct buf password = { 0 };
	char token[161];
	byte nonce[16];

	if (!m || RAND_bytes(nonce, 16) != 1)
		abort();
	mosquitto_int_option(m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
	/* libmosquitto makes a PUBACK before it shows us the message. Told of threads, it leaves the writing to us, and we write when
	 * the message is stored (10.6). */
	mosquitto_threaded_set(m, true);
	mosquitto_connect_v5_callback_set(m, on_connect);
	mosquitto_subscribe_v5_callback_set(m, on_subscribe);
	mosquitto_publish_v5_callback_set(m, on_publish);
	mosquitto_message_v5_callback_set(m, on_message);
	if (broker.tls && mosquitto_tls_set(m, broker.ca, broker.ca ? NULL : "/etc/ssl/certs", NULL, NULL, NULL))
		die("%s: no certificate of an authority", broker.ca);
	if (broker.password_file) {
		if (!read_file(broker.password_file, &password))
			die("%s cannot be read", broker.password_file);
		password.data[strcspn((char *)password.data, "\n")] = 0;
	} else {
		login_token(&home->me, home->realm, home->user, role->client_id, now(), nonce, NULL, 0, token);
	}
	mosquitto_username_pw_set(m, home->user, password.data ? (char *)password.data : token);
	buf_free(&password);
	/* Below what may wait of one sender: its bundle comes before there are too many (7.8). */
	mosquitto_property_add_int16(&properties, MQTT_PROP_RECEIVE_MAXIMUM, 16);
	if (role->session)
		mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL, role->session);
	int rc = mosquitto_connect_bind_v5(m, broker.host, broker.port, 30, NULL, properties);
	mosquitto_property_free_all(&properties);
	if (rc == MOSQ_ERR_SUCCESS)
		return m;
	say("no connection: %s", mosquitto_strerror(rc));
	mosquitto_destroy(m);
	return NULL;
}

static void run(void)
{
	struct buf input = { 0 };
	bool open = role->line, done = false;
	unsigned wait = 1;

	while (!stopped && !done) {
		client = client ? client : connection();
		struct pollfd fds[2] = {
			{ client ? mosquitto_socket(client) : -1, (short)(POLLIN | (client && mosquitto_want_write(client) ? POLLOUT : 0)), 0 },
			{ open && role->room(input.len) ? STDIN_FILENO : -1, POLLIN, 0 },
		};
		int rc = MOSQ_ERR_SUCCESS, ready = poll(fds, 2, client ? 1000 : (int)(wait * 1000 - (unsigned)rand() % 500));
		char part[4096];

		if (ready > 0 && fds[1].revents) {
			ssize_t n = read(STDIN_FILENO, part, sizeof part);

			open = n > 0;
			if (open)
				buf_add(&input, part, (size_t)n);
			else if (input.len && input.data[input.len - 1] != '\n')
				buf_add(&input, "\n", 1); /* the last line may have no end of its own */
		}
		for (byte *end; role->line && input.len && role->room(0) && (end = memchr(input.data, '\n', input.len));) {
			*end = 0;
			role->line((char *)input.data);
			input.len -= (size_t)(end + 1 - input.data);
			memmove(input.data, end + 1, input.len);
		}
		done = role->line && !open && !input.len && role->all_settled();
		if (client && fds[0].revents & (POLLIN | POLLERR | POLLHUP))
			rc = mosquitto_loop_read(client, 1);
		if (client && !rc && mosquitto_want_write(client))
			rc = mosquitto_loop_write(client, 1);
		if (client && !rc)
			rc = mosquitto_loop_misc(client);
		if (rc) {
			say("disconnected: %s", mosquitto_strerror(rc));
			mosquitto_destroy(client);
			client = NULL;
			wait = connected ? 1 : wait;
			connected = false;
		}
		if (!client)
			wait = wait < 32 ? 2 * wait : 60;
	}
	if (client) {
		mosquitto_disconnect(client);
		mosquitto_loop_write(client, 1);
		mosquitto_destroy(client);
	}
	buf_free(&input);
}

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "broker", 1, NULL, 'b' }, { "ca", 1, NULL, 'c' }, { "realm", 1, NULL, 'r' }, { "user", 1, NULL, 'u' },
		{ "home", 1, NULL, 'h' }, { "password-file", 1, NULL, 'p' }, { 0 },
	};
	static struct home the_home;
	static char host[256];
	const char *url = "mqtt://127.0.0.1:1883", *realm = "local", *user = "", *folder = NULL;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 'b': url = optarg; break;
		case 'c': broker.ca = optarg; break;
		case 'r': realm = optarg; break;
		case 'u': user = optarg; break;
		case 'h': folder = optarg; break;
		case 'p': broker.password_file = optarg; break;
		default: return 2;
		}
	}
	const char *command = optind < argc ? argv[optind] : "", *to = optind + 1 < argc ? argv[optind + 1] : "";
	broker.tls = !strncmp(url, "mqtts://", 8);
	broker.port = broker.tls ? 8883 : 1883;
	broker.host = host;
	bool sends = !strcmp(command, "send") && IS_USER(to);
	if (!folder || !IS_USER(user) || !IS_REALM(realm) || sscanf(url, "mqtt%*1[s:]%*[:/]%255[^:/]:%d", host, &broker.port) < 1
	    || !(sends || !strcmp(command, "listen"))) {
		say("usage: sensor [--broker mqtt[s]://HOST[:PORT]] [--ca FILE] [--realm NAME] [--password-file FILE]\n"
		    "              --user NAME --home DIR (send TO | listen)");
		return 2;
	}
	struct sigaction action = { .sa_handler = stop };
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	mosquitto_lib_init();
	home_open(home = &the_home, folder, realm, user);
	role = sends ? send_role(home, to) : listen_role(home);
	run();
	home_close(home);
	mosquitto_lib_cleanup();
	return stopped ? 0 : role->code();
}
