/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A function whose own descriptors a VMM was given. There is no taking them back: whoever has a copy can reset the device, write its
 * config space, map its BARs and export dma-bufs, and the kernel keeps it open for as long as any copy is. So it is written into the
 * function's journal before the first one goes out, and what gives the function back reckons with it. Who may have them is for
 * bus/handoff.c to say.
 */
#ifndef TDID_HANDOFF_H
#define TDID_HANDOFF_H

#include "custody.h"

/* Has any copy gone out since the function was attached? It is served on no vPCI socket then: a device has one driver. */
bool custody_is_handed_off(const Custody *c);
/*
 * Notes that @uid is about to get a copy; the journal has it when this returns. Negative errno: nothing is noted. What was noted before is
 * the caller's, NULL when nothing was: for custody_take_back_handoff(), when no copy went out after all.
 */
int custody_note_handoff(Custody *c, uid_t uid, struct json_object **ret_before);
/* Takes @before. */
void custody_take_back_handoff(Custody *c, struct json_object *before);
/* {"uid", "time", "count"}: who got the last copy, when (CLOCK_REALTIME, µs), of how many. Borrowed; NULL. */
struct json_object *custody_handoff(const Custody *c);

/* Why it is not given back yet, for root and the owner: a copy is open somewhere. Returns false when that is not the reason. */
bool custody_waits_for_handoff(const Custody *c, char *buf, size_t size);
/* Another function of its group is being given back, and a copy of that one may be open: then the kernel keeps the whole group. */
bool custody_group_waits_for_handoff(const Custody *c);

#endif
