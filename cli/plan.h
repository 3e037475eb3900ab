/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --dry-run: tdid's plans, as it answers them, put together for a command line. */
#ifndef TDICTL_PLAN_H
#define TDICTL_PLAN_H

#include <json-c/json.h>

#include "tdictl.h"

/* Is nothing to be done, but only told? Then the client is set so. */
bool plan_wanted(struct tdictl *t);
/* Adds the plan of the client's last call to *model, which is made when NULL. A function that is in it already is not told twice. */
int plan_take(struct tdictl *t, json_object **model);
/* Prints it: 0 or a failure. */
int plan_print(struct tdictl *t, json_object *model);

#endif
