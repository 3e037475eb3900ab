/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Around a job: progress on the terminal, and Ctrl-C, which cancels the job first and leaves it the second time. */
#ifndef TDICTL_ACT_H
#define TDICTL_ACT_H

#include <signal.h>

#include "tdictl.h"

struct act {
        struct tdictl *t;
        int signal_fd;
        sigset_t mask_before;
        unsigned interrupts;
        bool terminal; /* standard error is one */
        bool shown;    /* a progress line stands there */
};

/* Between begin and end, SIGINT belongs to the job. Without SIGINT (ignored by the caller's shell) only progress is shown. */
void act_begin(struct act *a, struct tdictl *t);
void act_end(struct act *a);
/* The end for somebody who goes on to block SIGINT, and takes care of it: *mask, where SIGINT is blocked because of us, becomes as it was before. */
void act_hand_over(struct act *a, sigset_t *mask);

/* Was there a Ctrl-C, whether or not a job took notice? */
bool act_interrupted(struct act *a);

/* 1 instead of 0 from the two below: it was a dry run, the plan is printed, and nothing was done. */
#define ACT_PLANNED 1

/* Connects, and does `one` with the VM that the first word names; its id is the caller's. */
int act_on_vm(struct tdictl *t, int (*one)(struct tdictl *t, const char *id, void *userdata), void *userdata, char **ret_id);

/* Connects, then does `one` for every word from `first` on, in their order, up to the first failure, which then says what
 * was done before. */
int act_on_functions(struct tdictl *t, size_t first, int (*one)(struct tdictl *t, struct tdi_bdf bdf));

#endif
