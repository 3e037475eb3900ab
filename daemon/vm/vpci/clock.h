/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CLOCK_MONOTONIC, as what is timed here needs it. */
#ifndef TDID_VPCI_CLOCK_H
#define TDID_VPCI_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t now_nsec(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000ULL + (uint64_t) t.tv_nsec;
}

#endif
