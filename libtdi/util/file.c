/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads files that are trusted. */
#include "util/file.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

int file_read_trusted(const char *path, size_t max, char **ret, size_t *ret_size, bool *ret_null) {
        /* What is no file may block whoever opens it. */
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t used = 0;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (ret_null)
                *ret_null = S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if (st.st_mode & S_IWOTH)
                return -EBADMSG;
        text = malloc(max + 1);
        if (!text)
                return -ENOMEM;
        for (;;) {
                ssize_t n = read(fd, text + used, max + 1 - used);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                used += (size_t) n;
                if (used > max)
                        return -EFBIG;
        }
        *ret = TAKE_PTR(text);
        *ret_size = used;
        return 0;
}
