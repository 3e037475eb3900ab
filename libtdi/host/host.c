/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seam's front: picks the implementation, and passes calls on. */
#include "host/host.h"

#include <stdio.h>

int tdi_host_new(const char *spec, TdiHost **ret) {
        if (streq(spec, "linux"))
                return tdi_host_linux_new(ret);
        if (startswith(spec, "sim:") && spec[4])
                return tdi_host_sim_new(spec + 4, ret);
        if (startswith(spec, "trace:"))
                return tdi_host_trace_new(spec + 6, ret);
        return -EINVAL;
}

TdiHost *tdi_host_free(TdiHost *host) {
        if (host)
                host->ops->destroy(host);
        return NULL;
}

int host_open(TdiHost *host, const char *path, int flags) {
        return host->ops->open(host, path, flags | O_CLOEXEC);
}

int host_close(TdiHost *host, int fd) {
        return host->ops->close(host, fd);
}

int host_ioctl(TdiHost *host, int fd, unsigned long request, void *arg) {
        return host->ops->ioctl(host, fd, request, arg);
}

ssize_t host_read(TdiHost *host, int fd, void *buf, size_t size) {
        return host->ops->read(host, fd, buf, size);
}

ssize_t host_pread(TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        return host->ops->pread(host, fd, buf, size, offset);
}

ssize_t host_pwrite(TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset) {
        return host->ops->pwrite(host, fd, buf, size, offset);
}

ssize_t host_readlink(TdiHost *host, const char *path, char *buf, size_t size) {
        return host->ops->readlink(host, path, buf, size);
}

int host_list(TdiHost *host, const char *path, char ***ret) {
        return host->ops->list(host, path, ret);
}

char **host_names_free(char **names) {
        for (char **n = names; n && *n; n++)
                free(*n);
        free(names);
        return NULL;
}

int host_names_add(char ***names, size_t *n, const char *name) {
        char **t;

        /* Room for powers of two, and for the NULL behind the last. */
        if ((*n & (*n - 1)) == 0) {
                t = reallocarray(*names, *n * 2 + 2, sizeof(*t));
                if (!t)
                        return -ENOMEM;
                *names = t;
        }
        (*names)[*n] = strdup(name);
        if (!(*names)[*n])
                return -ENOMEM;
        (*names)[++*n] = NULL;
        return 0;
}

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

int host_names_finish(char ***names, size_t n) {
        if (!*names) {
                *names = calloc(1, sizeof(**names));
                return *names ? 0 : -ENOMEM;
        }
        qsort(*names, n, sizeof(**names), by_name);
        return 0;
}

int host_identify(TdiHost *host, int fd, char *buf, size_t size) {
        return host->ops->identify(host, fd, buf, size);
}

int host_address_present(TdiHost *host, const char *interface) {
        return host->ops->address_present(host, interface);
}

int host_uevent_open(TdiHost *host) {
        return host->ops->uevent_open(host);
}

int host_uevent_read(TdiHost *host, int fd, struct tdi_uevent *ret) {
        return host->ops->uevent_read(host, fd, ret);
}

int host_watch_open(TdiHost *host) {
        return host->ops->watch_open ? host->ops->watch_open(host) : -EOPNOTSUPP;
}

int host_watch_add(TdiHost *host, int fd, const char *path) {
        return host->ops->watch_add ? host->ops->watch_add(host, fd, path) : -EOPNOTSUPP;
}

int host_watch_drop(TdiHost *host, int fd, int number) {
        return host->ops->watch_drop ? host->ops->watch_drop(host, fd, number) : -EOPNOTSUPP;
}

int host_watch_read(TdiHost *host, int fd) {
        return host->ops->watch_read ? host->ops->watch_read(host, fd) : -EOPNOTSUPP;
}

void host_uevent_parse(const char *text, size_t size, struct tdi_uevent *ret) {
        *ret = (struct tdi_uevent){};
        for (const char *s = text; s < text + size; s += strlen(s) + 1) {
                if (startswith(s, "ACTION="))
                        snprintf(ret->action, sizeof(ret->action), "%s", s + strlen("ACTION="));
                else if (startswith(s, "SUBSYSTEM="))
                        snprintf(ret->subsystem, sizeof(ret->subsystem), "%s", s + strlen("SUBSYSTEM="));
                else if (startswith(s, "DEVPATH="))
                        snprintf(ret->devpath, sizeof(ret->devpath), "%s", s + strlen("DEVPATH="));
        }
}
