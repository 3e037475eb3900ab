/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Small helpers that every room uses: cleanup attributes, ownership moves, string and number tests.
 * No state, no I/O beyond close(); anything larger has a room of its own.
 */
#ifndef TDI_UTIL_UTIL_H
#define TDI_UTIL_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((__cleanup__(f)))
#define _unused_ __attribute__((__unused__))
#define _printf_(a, b) __attribute__((__format__(__printf__, a, b)))
#define _public_ __attribute__((__visibility__("default")))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* An fd variable that owns nothing holds -EBADF, so that using it by mistake fails with the right errno. */
static inline int close_fd(int fd) {
        if (fd >= 0) {
                int saved = errno;
                (void) close(fd);
                errno = saved;
        }
        return -EBADF;
}

static inline void close_fdp(int *fd) {
        *fd = close_fd(*fd);
}

static inline void freep(void *p) {
        free(*(void **) p);
}

#define _cleanup_close_ _cleanup_(close_fdp)
#define _cleanup_free_ _cleanup_(freep)

#define TAKE_FD(fd)                    \
        ({                             \
                int *_pfd = &(fd);     \
                int _fd = *_pfd;       \
                *_pfd = -EBADF;        \
                _fd;                   \
        })

#define TAKE_PTR(p)                              \
        ({                                       \
                __typeof__(p) *_pp = &(p);       \
                __typeof__(p) _p = *_pp;         \
                *_pp = NULL;                     \
                _p;                              \
        })

#define DEFINE_CLEANUP(type, func)                    \
        static inline void func##p(type *p) {         \
                if (*p)                               \
                        (void) func(*p);              \
        }                                             \
        struct tdi_cleanup_semicolon_##func

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

static inline bool streq_ptr(const char *a, const char *b) {
        return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static inline bool isempty(const char *s) {
        return !s || !*s;
}

static inline bool startswith(const char *s, const char *prefix) {
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

static inline const char *strempty(const char *s) {
        return s ? s : "";
}

/* Replaces *p by a copy of s (NULL clears it). -ENOMEM leaves *p as it was. */
static inline int free_and_strdup(char **p, const char *s) {
        char *t = NULL;

        if (s) {
                t = strdup(s);
                if (!t)
                        return -ENOMEM;
        }
        free(*p);
        *p = t;
        return 0;
}

/* Duplicates to 3 or above, close-on-exec: a passed fd must never land on stdin, stdout or stderr. */
static inline int fd_dup(int fd) {
        int r = fcntl(fd, F_DUPFD_CLOEXEC, 3);

        return r < 0 ? -errno : r;
}

#endif
