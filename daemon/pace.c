/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast tdid may start again and again: one number in a file of the state folder. */
#include "pace.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>

#include "util/util.h"

uint64_t pace_next(uint64_t spent_until, uint64_t now, uint64_t *ret_spent_until) {
        uint64_t wait;

        /* More than can have been spent: it is of a boot before this one, or no number of ours. */
        if (spent_until < now || spent_until - now > PACE_BURST_USEC + PACE_USEC)
                spent_until = now;
        spent_until += PACE_USEC;
        /* One that is ended while it waits spends nothing more. */
        if (spent_until - now > PACE_BURST_USEC + PACE_USEC)
                spent_until = now + PACE_BURST_USEC + PACE_USEC;
        wait = spent_until - now > PACE_BURST_USEC ? spent_until - now - PACE_BURST_USEC : 0;
        *ret_spent_until = spent_until;
        return wait;
}

static int path_of(const char *state, char path[static PATH_MAX]) {
        return snprintf(path, PATH_MAX, "%s/pace", state) >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int64_t pace_begin(const char *state) {
        uint64_t spent_until = 0, wait;
        _cleanup_close_ int fd = -EBADF;
        struct timespec now;
        char path[PATH_MAX], text[32] = "";
        int r, n;

        r = path_of(state, path);
        if (r < 0)
                return r;
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || clock_gettime(CLOCK_BOOTTIME, &now) < 0)
                return -errno;
        if (pread(fd, text, sizeof(text) - 1, 0) > 0)
                (void) sscanf(text, "%" SCNu64, &spent_until);
        wait = pace_next(spent_until, (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000, &spent_until);
        /* Always of the same length, so there is no moment at which it is half of two numbers. A crash of the host takes /run with it. */
        n = snprintf(text, sizeof(text), "%020" PRIu64 "\n", spent_until);
        if (pwrite(fd, text, (size_t) n, 0) != n)
                return errno ? -errno : -EIO;
        return (int64_t) wait;
}

void pace_end(const char *state) {
        char path[PATH_MAX];

        if (path_of(state, path) >= 0)
                (void) unlink(path);
}
