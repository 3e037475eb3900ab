/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The supervisor, as vpci.c and control.c share it. Only the supervisor's thread touches it, but for what vpci.h says. */
#ifndef TDID_VM_VPCI_INTERNAL_H
#define TDID_VM_VPCI_INTERNAL_H

#include "vm/vpci/function.h"
#include "vm/vpci/viommu.h"
#include "vm/vpci/vpci.h"

#define FUNCTIONS_MAX 256
_Static_assert(VPCI_POLL_MAX >= 3 + 2 * FUNCTIONS_MAX + VIOMMUS_MAX, "what vpci_poll() fills in has to fit");
/* So many that were refused wait for their close at most; then nobody is accepted. */
#define REFUSED_MAX 64
#define STOP_PATIENCE_NSEC 2000000000ULL

struct vpci {
        TdiHost *host;
        vpci_tell tell;
        void *userdata;
        struct dma *dma;
        struct request_rate rate;
        struct viommus viommus;
        struct function *functions[FUNCTIONS_MAX];
        size_t n;
        struct function *given_up[FUNCTIONS_MAX]; /* stopped, and still in the kernel */
        size_t n_given_up;

        /* Whose sockets these are. */
        bool allowed;       /* the next three are known */
        uid_t uid;
        char *seclabel;
        int peer;           /* pidfd, or -EBADF: nobody's yet */
        pid_t pid;
        uint64_t serial;
        int helper;         /* its helper's socket too, for the hang-up only: that has died; or -EBADF */
        bool helper_gone;   /* and no other has come */

        int wake;           /* eventfd */
        atomic_bool asleep;
        unsigned quiet;     /* ticks without a request */
        pthread_mutex_t lock; /* of the queue */
        struct event *head, **tail;
        size_t n_events, n_lost;
        pthread_t closer;
        pthread_cond_t closing_changed;
        int closing[REFUSED_MAX + 2 * FUNCTIONS_MAX]; /* strangers' descriptors that wait for their last close */
        size_t n_closing;
        bool closed_for_good, closer_ended;
        bool full;          /* tdid does not read: nobody is accepted before it does */

        struct function *stopping; /* the request that is put off */
        uint64_t stop_deadline;
};

/* Closes @fd, a stranger's, in the closer's thread: its last close may block. */
void vpci_close_later(struct vpci *v, int fd);

#endif
