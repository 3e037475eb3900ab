/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Classification of strangers' descriptors. */
#include "host/fdkind.h"

#include <limits.h>
#include <stdio.h>

static int look(TdiHost *host, int fd, char *what, size_t size) {
        int flags, r;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -errno;
        r = host_identify(host, fd, what, size);
        if (r < 0)
                return r;
        return flags & O_PATH ? -EBADF : 0;
}

int host_check_kvm_vm(TdiHost *host, int fd, char *ret_what, size_t size) {
        int r;

        r = look(host, fd, ret_what, size);
        if (r < 0)
                return r;
        return streq(ret_what, "anon_inode:kvm-vm") ? 0 : -EINVAL;
}

int host_check_pidfd(TdiHost *host, int fd, pid_t *ret, char *ret_what, size_t size) {
        char path[64], text[1024], *line;
        int r, pid;

        r = look(host, fd, ret_what, size);
        if (r < 0)
                return r;
        /* anon_inode before 6.9, pidfs since. */
        if (!streq(ret_what, "anon_inode:[pidfd]") && !startswith(ret_what, "pidfd:["))
                return -EINVAL;
        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        r = (int) host_read_text(host, path, text, sizeof(text));
        if (r < 0)
                return r;
        line = strstr(text, "\nPid:");
        if (!line || sscanf(line, "\nPid: %d", &pid) != 1)
                return -EBADMSG;
        if (pid <= 0)
                return -ESRCH;
        *ret = pid;
        return 0;
}

int host_check_eventfd(TdiHost *host, int fd) {
        char what[64];
        int r;

        r = look(host, fd, what, sizeof(what));
        if (r < 0)
                return r == -ENAMETOOLONG ? -EINVAL : r;
        return streq(what, "anon_inode:[eventfd]") ? 0 : -EINVAL;
}

int host_dmabuf_references(TdiHost *host, int fd, unsigned *ret) {
        char path[64], text[1024], *line;
        unsigned n;
        int r;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        r = (int) host_read_text(host, path, text, sizeof(text));
        if (r < 0)
                return r;
        line = strstr(text, "\ncount:");
        if (!line || sscanf(line, "\ncount: %u", &n) != 1)
                return -ENODATA;
        *ret = n;
        return 0;
}
