/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * IDE streams: a reader of their own, who may bind by them, and what is told of them. A stream that has become insecure, or has appeared so,
 * is logged here. The reader reads config space, which waits as long as a reset takes: then streams are unknown, and nothing else waits with it.
 */
#ifndef TDID_IDE_H
#define TDID_IDE_H

#include "device.h"

/* Reads them again, after a round of reading tsm/; one that is under way is followed by another. Without a TSM there are none. */
void ide_refresh(Manager *m);
/* It is at it, and has not taken long so far: who wants to see what a connect has brought waits for that. */
bool ide_is_reading(const Manager *m);
/* The function has gone. */
void ide_forget(Device *d);
void ide_free(Manager *m);

/* May it be bound, by what was last read of its DSM's streams? Not when one of them is known not to be secure,
 * unless the configuration says so. One without streams may. Of what is unknown the worker that binds has the last word. */
bool ide_lets_bind(const Custody *c, char *why, size_t size);

/* As last read: 1: a DSM has streams, and each is secure; 0: one is not; -EAGAIN: it has none, or nobody knows. */
int ide_all_secure(const Device *dsm);

/* In words, of a custody's DSM: NULL where it has no stream; "secure"; or which is not, and why. */
const char *ide_in_words(const Custody *c, char *buf, size_t size);
/* Copies, the caller's: of a function's streams; and of all there is: {require_secure, reserved_streams, bridges, streams}. */
struct json_object *ide_describe(const Device *d);
struct json_object *ide_describe_host(Manager *m);

#endif
