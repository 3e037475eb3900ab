/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running a command that holds a VM. */
#ifndef TDICTL_HOLD_H
#define TDICTL_HOLD_H

#include <json-c/json.h>

#include "tdictl.h"

/*
 * Runs the command of the command line, waits for it and gives its exit code, 128 + the signal that killed it. The lease is
 * taken. With `inherit` the command gets the only copy left, its number in TDID_LEASE_FD; else tdictl keeps it to the end.
 */
int hold_and_run(struct tdictl *t, int lease, json_object *vm, bool inherit);

#endif
