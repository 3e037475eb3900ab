/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs the checks on a tree in a folder instead of a kernel: files, folders and links are those below it, and devices know nothing but what
 * is asked of tdid-bind, which is of version 2. For machines that the simulation is not.
 *
 * usage: check-fake FOLDER [POLICY]      POLICY: JSON, as struct check_input has it
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "check/check.h"
#include "host/tdid_bind.h"

static const char *root;

static const char *below(const char *path, char buf[static PATH_MAX]) {
        (void) snprintf(buf, PATH_MAX, "%s%s", root, path);
        return buf;
}

static int fake_open(_unused_ TdiHost *host, const char *path, int flags) {
        char buf[PATH_MAX];
        int fd = open(below(path, buf), flags);

        return fd < 0 ? -errno : fd;
}

static int fake_close(_unused_ TdiHost *host, int fd) {
        return close(fd) < 0 ? -errno : 0;
}

static int fake_ioctl(_unused_ TdiHost *host, _unused_ int fd, unsigned long request, void *arg) {
        if (request != TDID_BIND_IOC_INFO)
                return -ENOTTY;
        ((struct tdid_bind_info *) arg)->api = 2;
        return 0;
}

static ssize_t fake_pread(_unused_ TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        ssize_t n = pread(fd, buf, size, (off_t) offset);

        return n < 0 ? -errno : n;
}

static ssize_t fake_readlink(_unused_ TdiHost *host, const char *path, char *buf, size_t size) {
        char full[PATH_MAX];
        ssize_t n = readlink(below(path, full), buf, size);

        if (n < 0)
                return -errno;
        if ((size_t) n >= size)
                return -ENAMETOOLONG;
        buf[n] = '\0';
        return n;
}

static int fake_list(_unused_ TdiHost *host, const char *path, char ***ret) {
        _cleanup_(host_names_freep) char **names = NULL;
        char full[PATH_MAX];
        struct dirent *e;
        size_t n = 0;
        DIR *d = opendir(below(path, full));
        int r = 0;

        if (!d)
                return -errno;
        while (r == 0 && (e = readdir(d)))
                if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
                        r = host_names_add(&names, &n, e->d_name);
        closedir(d);
        if (r == 0)
                r = host_names_finish(&names, n);
        if (r == 0)
                *ret = TAKE_PTR(names);
        return r;
}

static const struct tdi_host_ops ops = {
        .name = "fake",
        .open = fake_open,
        .close = fake_close,
        .ioctl = fake_ioctl,
        .pread = fake_pread,
        .readlink = fake_readlink,
        .list = fake_list,
};

int main(int argc, char **argv) {
        _cleanup_json_ struct json_object *policy = NULL, *found = NULL;
        TdiHost host = { .ops = &ops };
        struct check_input in = { .host = &host };

        if (argc < 2)
                return 2;
        root = argv[1];
        if (argc > 2)
                policy = json_tokener_parse(argv[2]);
        in.policy = policy;
        found = check_run(&in);
        puts(json_object_to_json_string_ext(found, JSON_C_TO_STRING_PLAIN));
        return 0;
}
