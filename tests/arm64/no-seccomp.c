/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into the holder under qemu-user, which has no seccomp and says EINVAL: the filter is made for this architecture, so that a call
 * it does not know is found, and not loaded. That the filter lets through what the holder needs is shown where there is a kernel.
 */
#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int seccomp_load(const scmp_filter_ctx filter) {
        struct stat st;
        int fd, r;

        fd = memfd_create("filter", MFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = seccomp_export_bpf(filter, fd);
        /* One instruction of eight bytes for each of some fifty calls. */
        if (r == 0 && (fstat(fd, &st) < 0 || st.st_size < 50 * 8))
                r = -EINVAL;
        (void) close(fd);
        return r;
}
