/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every fuzz target is made of: one function that libFuzzer calls with its inputs, and replay.c with those of the corpus.
 * A target checks what must hold for any input; what does not ends the process, so that the input is kept.
 */
#ifndef TDID_FUZZ_H
#define TDID_FUZZ_H

#include <stddef.h>
#include <stdio.h>

#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                                         \
        do {                                                                                    \
                if (!(condition)) {                                                             \
                        fprintf(stderr, "%s:%d: %s: not so\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                \
                }                                                                               \
        } while (0)

/* The number that the next descriptor would get: a leak raises it. */
static inline int fuzz_next_fd(void) {
        int fd = fcntl(0, F_DUPFD_CLOEXEC, 3);

        must(fd >= 0 || errno == EBADF);
        if (fd < 0)
                must((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
        (void) close(fd);
        return fd;
}

#endif
