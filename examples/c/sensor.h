/* What sensor.c does for the two roles, and asks of them. */
#ifndef SENSOR_H
#define SENSOR_H

#include "sealpost.h"

struct role {
	const char *client_id;
	uint32_t session; /* seconds that the broker keeps it */
	void (*connected)(void);
	void (*subscribed)(void);
	void (*message)(const char *topic, const void *, size_t);
	void (*acknowledged)(int mid, int reason);
	/* For standard input, if the role reads it. */
	void (*line)(const char *);
	bool (*room)(size_t unread); /* whether a line can be taken now */
	bool (*all_settled)(void);
	int (*code)(void); /* with which to end */
};

void subscribe(const char *topic_format, const char *name);
int publish(const char *to, const struct buf *envelope); /* the packet's number, or -1 */

const struct role *send_role(struct home *, const char *to);
const struct role *listen_role(struct home *);

#endif
