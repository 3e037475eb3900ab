/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker may call. Each starts with the list of all; one whose first operation only reads, or listens to what a device says of itself,
 * narrows itself to that for the rest of its life: it never rests, and is given nothing else. So does the process that maps guest memory.
 */
#ifndef TDID_WORKER_CONFINE_H
#define TDID_WORKER_CONFINE_H

#include <seccomp.h>
#include <stdbool.h>

enum worker_kind {
        WORKER_ANY,      /* opens, writes, makes sockets and the process that maps guest memory; executes nothing */
        WORKER_READS,    /* opens for reading only; no ioctl, no socket, no process; of capabilities only what config space takes */
        WORKER_MAPS,     /* maps for its one iommufd what comes by its socket; opens nothing, and starts no process */
        WORKER_EVIDENCE, /* as that, but writes to a mailbox and to the archive, and asks netlink */
};

/* What the process that maps guest memory is called. */
#define WORKER_MAPS_NAME "tdid-map"

/* By the name of an operation, or that. */
enum worker_kind worker_kind_of(const char *op);
/* Adds that list to a filter. */
int worker_allow(scmp_filter_ctx filter, enum worker_kind kind, bool simulated);
/* Narrows this process. @simulated: its devices are a tdi-sim's. 0, or a negative errno. Not applied in sanitizer builds. */
int worker_confine(enum worker_kind kind, bool simulated);

#endif
