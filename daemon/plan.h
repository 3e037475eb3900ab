/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tdid would do: the engine's own choice of sub-actions (custody_next_action()), and its own answer to whether each needs the kernel at all,
 * asked of functions that are only supposed to get on. Nothing is done, written or told; when the plan ends everything is as it was. A plan is made
 * within one call from the bus: nothing else happens between its beginning and its end.
 */
#ifndef TDID_PLAN_H
#define TDID_PLAN_H

#include "custody.h"

struct plan;

/* @vm may be NULL: then it is about functions alone. */
struct plan *plan_new(Manager *m, const char *method, const VM *vm);
/* The way of this function to the goal, after those that are in the plan already. What was a custody of the plan's own (c->supposed) ends with it. */
void plan_add(struct plan *p, Custody *c, enum custody_goal goal);
/* One sub-action of a function that is in nobody's custody. */
void plan_add_action(struct plan *p, struct tdi_bdf bdf, enum custody_action a, bool undo, const char *text);
/* What comes after the functions' steps, in words. */
void plan_then(struct plan *p, const char *format, ...) _printf_(2, 3);
/* The plan as JSON, the caller's. */
struct json_object *plan_end(struct plan *p);
/* The same, as the answer to a call. */
int plan_reply(struct plan *p, sd_bus_message *call);

/* What a sub-action does, in words; for every row of the table, which a test looks at. */
const char *plan_words(enum custody_action a, bool undo);

#endif
