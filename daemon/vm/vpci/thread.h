/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads of the holder and its helper: small stacks, for RLIMIT_DATA counts them, and no signals. */
#ifndef TDID_VPCI_THREAD_H
#define TDID_VPCI_THREAD_H

#include <pthread.h>
#include <signal.h>

#include "util/util.h"

#define THREAD_STACK (256UL * 1024)

/* 0 or a negative errno. */
static inline int thread_start(pthread_t *ret, void *(*run)(void *), void *userdata) {
        sigset_t all, before;
        pthread_attr_t attr;
        int r;

        r = pthread_attr_init(&attr);
        if (r != 0)
                return -r;
        (void) pthread_attr_setstacksize(&attr, THREAD_STACK);
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(ret, &attr, run, userdata);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attr);
        return -r;
}

#endif
