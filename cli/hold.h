/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running a command that holds a VM: for `vm create --hold` and `run`. */
#ifndef TDICTL_HOLD_H
#define TDICTL_HOLD_H

#include <json-c/json.h>

#include "act.h"
#include "tdictl.h"

struct held {
        char *const *command; /* ends with NULL */
        bool inherit;         /* it gets the only copy of the lease, its number in TDID_LEASE_FD; else tdictl keeps it to the end */
        int *fds;             /* more that the command gets, under the same numbers; closed here, and -EBADF, once it has them */
        size_t n_fds;
        struct act *act;      /* of what came before, ended here: a Ctrl-C until the command starts still cancels; or NULL */
};

/* Runs the command, waits for it and gives its exit code, 128 + the signal that killed it. The lease is taken. */
int hold_and_run(struct tdictl *t, int lease, json_object *vm, const struct held *h);

#endif
