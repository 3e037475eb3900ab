/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text files of sysfs and procfs on top of the seam's calls. */
#include "host/host.h"

#include <limits.h>

ssize_t host_read_text(TdiHost *host, const char *path, char *buf, size_t size) {
        ssize_t n;
        int fd;

        fd = host_open(host, path, O_RDONLY);
        if (fd < 0)
                return fd;
        n = host_pread(host, fd, buf, size, 0);
        (void) host_close(host, fd);
        if (n < 0)
                return n;
        if ((size_t) n >= size)
                return -E2BIG;
        while (n > 0 && buf[n - 1] == '\n')
                n--;
        buf[n] = '\0';
        return n;
}

int host_read_file(TdiHost *host, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_free_ char *buf = NULL;
        size_t have = 0, room = 0;
        int fd, r = 0;

        fd = host_open(host, path, O_RDONLY);
        if (fd < 0)
                return fd;
        for (;;) {
                ssize_t n;

                if (room - have < 2) {
                        char *t;

                        room = room ? room * 2 : 4096;
                        t = realloc(buf, room);
                        if (!t) {
                                r = -ENOMEM;
                                break;
                        }
                        buf = t;
                }
                n = host_pread(host, fd, buf + have, room - have - 1, have);
                if (n < 0)
                        r = (int) n;
                if (n <= 0)
                        break;
                have += (size_t) n;
                if (have > max) {
                        r = -E2BIG;
                        break;
                }
        }
        (void) host_close(host, fd);
        if (r < 0)
                return r;
        buf[have] = '\0';
        *ret = TAKE_PTR(buf);
        if (ret_size)
                *ret_size = have;
        return 0;
}

int host_write_text(TdiHost *host, const char *path, const char *text) {
        ssize_t n;
        int fd;

        fd = host_open(host, path, O_WRONLY);
        if (fd < 0)
                return fd;
        n = host_pwrite(host, fd, text, strlen(text), 0);
        (void) host_close(host, fd);
        return n < 0 ? (int) n : 0;
}

int host_read_link_name(TdiHost *host, const char *path, char *buf, size_t size) {
        char target[PATH_MAX];
        const char *name;
        ssize_t n;

        n = host_readlink(host, path, target, sizeof(target));
        if (n < 0)
                return (int) n;
        name = strrchr(target, '/');
        name = name ? name + 1 : target;
        if (strlen(name) >= size)
                return -ENAMETOOLONG;
        strcpy(buf, name);
        return 0;
}

int host_read_u64(TdiHost *host, const char *path, uint64_t *ret) {
        unsigned long long v;
        char buf[64], *end;
        ssize_t n;

        n = host_read_text(host, path, buf, sizeof(buf));
        if (n < 0)
                return (int) n;
        /* strtoull() would take a sign and leading blanks. */
        if (buf[0] < '0' || buf[0] > '9')
                return -EBADMSG;
        errno = 0;
        v = strtoull(buf, &end, 0);
        if (errno || end == buf || *end)
                return -EBADMSG;
        *ret = v;
        return 0;
}
