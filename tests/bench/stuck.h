/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file that looks like a device and, when told to, never answers: a FUSE file system of this program's own. */
#ifndef TDID_BENCH_STUCK_H
#define TDID_BENCH_STUCK_H

#include "util/util.h"

struct stuck_device {
        int fd;     /* the device */
        int memory; /* what is behind it */
        pid_t pid;  /* who serves it */
        char folder[64];
};

/* A read of the device at this offset hangs until stuck_end(). */
#define STUCK_OFFSET UINT64_C(0x66000)

/* 0, or why there is none, as a negative errno: no /dev/fuse, or not root. Makes a mount namespace of its own. */
int stuck_start(struct stuck_device *s);
void stuck_end(struct stuck_device *s);

#endif
