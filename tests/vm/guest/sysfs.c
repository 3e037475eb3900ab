/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI functions and modules, as the guest's kernel shows them.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"

const char *read_text(const char *path) {
        static char text[4096];
        ssize_t n;
        int fd;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return NULL;
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
        if (n < 0)
                return NULL;
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
        return text;
}

int write_text(const char *path, const char *text) {
        ssize_t n;
        int fd, r;

        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = write(fd, text, strlen(text));
        r = n < 0 ? -errno : 0;
        close(fd);
        return r;
}

const char *function_file(const char *bdf, const char *name) {
        static char paths[4][320];
        static unsigned next;
        char *path = paths[next++ % 4];

        snprintf(path, sizeof(paths[0]), DEVICES "/%s/%s", bdf, name);
        return path;
}

static bool has_id(const char *bdf, const char *file, const char *id) {
        const char *text = read_text(function_file(bdf, file));

        return text && strcmp(text, id) == 0;
}

static int by_name(const void *a, const void *b) {
        return strcmp(a, b);
}

static const char *look(const char *vendor, const char *device, unsigned before) {
        static char found[16][32];
        struct dirent *entry;
        size_t n = 0;
        DIR *dir;

        dir = opendir(DEVICES);
        while (dir && n < 16 && (entry = readdir(dir)))
                if (entry->d_name[0] != '.' && has_id(entry->d_name, "vendor", vendor) && has_id(entry->d_name, "device", device))
                        snprintf(found[n++], sizeof(found[0]), "%.31s", entry->d_name);
        if (dir)
                closedir(dir);
        qsort(found, n, sizeof(found[0]), by_name);
        return before < n ? found[before] : NULL;
}

const char *find_function(const char *vendor, const char *device, unsigned before, int64_t wait_ms) {
        int64_t until = now_ms() + wait_ms;
        const char *bdf;

        while (!(bdf = look(vendor, device, before)) && now_ms() < until)
                sleep_ms(50);
        return bdf;
}

bool wait_gone(const char *vendor, const char *device, unsigned before, int64_t wait_ms) {
        int64_t until = now_ms() + wait_ms;

        while (look(vendor, device, before)) {
                if (now_ms() >= until)
                        return false;
                sleep_ms(50);
        }
        return true;
}

bool load_module(const char *path, const char *parameters) {
        bool ok;
        int fd;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return fail("cannot open %s: %m", path);
        ok = syscall(SYS_finit_module, fd, parameters, 0) == 0;
        if (!ok)
                fail("cannot load %s: %m", path);
        close(fd);
        return ok;
}

bool unload_module(const char *name) {
        return syscall(SYS_delete_module, name, 0) == 0 || fail("cannot unload %s: %m", name);
}
