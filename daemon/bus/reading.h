/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker reads of this host when somebody asks, and keeps for those who ask soon after: opening what belongs to the kernel may take its
 * time. One worker reads for all who wait. One that does not come back holds up nobody, and is not followed by another.
 */
#ifndef TDID_BUS_READING_H
#define TDID_BUS_READING_H

#include "bus/bus.h"

/* Why somebody is answered. */
enum reading_state {
        READING_DONE,      /* what was read is as it is now */
        READING_FAILED,    /* the worker failed; the log says why */
        READING_PATIENCE,  /* it has not come back in time */
        READING_CROWDED,   /* READING_WAITING_MAX wait already */
};

#define READING_WAITING_MAX 32

struct reading_kind {
        const char *op;     /* of the worker */
        const char *about;  /* for the log: "could not look at …" */
        uint64_t patience;  /* microseconds that a caller waits at most */
        struct json_object *(*arguments)(Manager *m); /* the caller's reference */
        /* What of the worker's values is kept, a new reference; NULL: they are not what was asked for */
        struct json_object *(*take)(struct json_object *values);
        /* Replies with @read, what was read last (NULL: nothing yet), or sets @e and returns a negative errno */
        int (*answer)(Manager *m, sd_bus_message *call, uid_t uid, struct json_object *read, enum reading_state state, sd_bus_error *e);
};

struct reading;

/*
 * Answers a call at once with what was read in the last @age microseconds, or when the worker has come back. @r: where the reading is kept, made
 * when it is NULL; reading_free(). Returns as a bus method does; Kernel where no worker can be started.
 */
int reading_ask(struct reading **r, Manager *m, const struct reading_kind *kind, sd_bus_message *call, uid_t uid, uint64_t age, sd_bus_error *e);

/* Those who wait get no answer. NULL is fine; NULL is returned. */
struct reading *reading_free(struct reading *r);

#endif
