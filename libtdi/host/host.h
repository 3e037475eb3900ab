/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The seam: everything that touches the kernel's device interfaces goes through here, at system-call granularity.
 * `linux` makes the system calls; another implementation may stand in for a whole kernel, so callers may rely on
 * nothing but what is declared here: an fd of a host is used through this host only, may be passed over SCM_RIGHTS and
 * dup'd, and may not be mapped.
 *
 * All calls return a negative errno on failure. Paths are absolute, as the kernel shows them (/sys, /dev, /proc).
 * A host has no state that calls change: it may be used by any thread. Any call may sleep in the kernel as long as
 * the file behind it likes; only those marked "quick" are for an event loop.
 */
#ifndef TDI_HOST_HOST_H
#define TDI_HOST_HOST_H

#include <stddef.h>
#include <sys/types.h>

#include "util/util.h"

typedef struct TdiHost TdiHost;

struct tdi_uevent {
        char action[16];    /* "add", "remove", "change", "bind", "unbind", … */
        char subsystem[32]; /* "pci", "tsm", … */
        char devpath[512];  /* below /sys */
};

struct tdi_host_ops {
        const char *name;
        void (*destroy)(TdiHost *host);
        int (*open)(TdiHost *host, const char *path, int flags);
        int (*close)(TdiHost *host, int fd);
        int (*ioctl)(TdiHost *host, int fd, unsigned long request, void *arg);
        ssize_t (*read)(TdiHost *host, int fd, void *buf, size_t size);
        ssize_t (*pread)(TdiHost *host, int fd, void *buf, size_t size, uint64_t offset);
        ssize_t (*pwrite)(TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset);
        ssize_t (*readlink)(TdiHost *host, const char *path, char *buf, size_t size);
        int (*list)(TdiHost *host, const char *path, char ***ret);
        int (*identify)(TdiHost *host, int fd, char *buf, size_t size);
        int (*address_present)(TdiHost *host, const char *interface);
        int (*uevent_open)(TdiHost *host);
        int (*uevent_read)(TdiHost *host, int fd, struct tdi_uevent *ret);
        /* NULL where there is nothing of the kind. */
        int (*watch_open)(TdiHost *host);
        int (*watch_add)(TdiHost *host, int fd, const char *path);
        int (*watch_drop)(TdiHost *host, int fd, int number);
        int (*watch_read)(TdiHost *host, int fd);
};

struct TdiHost {
        const struct tdi_host_ops *ops;
};

/**
 * tdi_host_new() - host of a --host argument
 * @spec:       "linux", or "sim:SOCKET": the kernel that a tdi-sim simulates, which listens on this socket
 * @ret:        the host, owned by the caller
 *
 * Return: 0; -EINVAL for an unknown kind; -ENOMEM; of "sim": -ENOENT, -ECONNREFUSED and whatever else connect(2) answers.
 */
int tdi_host_new(const char *spec, TdiHost **ret);
TdiHost *tdi_host_free(TdiHost *host);
DEFINE_CLEANUP(TdiHost *, tdi_host_free);

/* open(2) with O_CLOEXEC always added; the fd is the caller's. Never follows a path that a client chose. */
int host_open(TdiHost *host, const char *path, int flags);
/* close(2) whose result counts: a last close may reset a device, and takes that long. */
int host_close(TdiHost *host, int fd);
int host_ioctl(TdiHost *host, int fd, unsigned long request, void *arg);
/*
 * read(2), for files that are queues and know no offset: iommufd's events. Such a file polls readable when there is something; that it does when
 * there is nothing may happen too, and the read then gives 0. Quick for those.
 */
ssize_t host_read(TdiHost *host, int fd, void *buf, size_t size);
ssize_t host_pread(TdiHost *host, int fd, void *buf, size_t size, uint64_t offset);
ssize_t host_pwrite(TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset);
/* Link target, terminated; the length, or -ENAMETOOLONG where @size is too small. */
ssize_t host_readlink(TdiHost *host, const char *path, char *buf, size_t size);
/* Names in a directory without "." and "..", sorted; free with host_names_free(). */
int host_list(TdiHost *host, const char *path, char ***ret);
char **host_names_free(char **names);
DEFINE_CLEANUP(char **, host_names_free);
/* For implementations: the event in "KEY=VALUE" strings, of which the last is terminated too. */
void host_uevent_parse(const char *text, size_t size, struct tdi_uevent *ret);
/* For implementations: appends a copy to a list of *n names, NULL at first; and what host_list() returns of it. */
int host_names_add(char ***names, size_t *n, const char *name);
int host_names_finish(char ***names, size_t n);
/* What an fd is, as /proc/self/fd shows it ("anon_inode:kvm-vm", "/dev/vfio/devices/vfio0"). Quick: touches nothing behind the fd. */
int host_identify(TdiHost *host, int fd, char *buf, size_t size);
/* 1 when a network interface has an IP address, 0 when not. */
int host_address_present(TdiHost *host, const char *interface);
/* A non-blocking fd that polls readable when the kernel says something; events of the kernel only. */
int host_uevent_open(TdiHost *host);
/* The next event; -EAGAIN when there is none, -ENOBUFS when some were lost (everything has to be read again). Quick. */
int host_uevent_read(TdiHost *host, int fd, struct tdi_uevent *ret);

/*
 * A non-blocking fd that polls readable when somebody has written to a file that is watched, by write(2) (inotify(7), IN_MODIFY).
 * -EOPNOTSUPP: this kernel tells nobody, or is a simulated one. All four are quick.
 */
int host_watch_open(TdiHost *host);
/* The number of the watch; the same one for the same file again. */
int host_watch_add(TdiHost *host, int fd, const char *path);
int host_watch_drop(TdiHost *host, int fd, int number);
/* The number of one that was written to; -EAGAIN when there is none, -ENOBUFS when some were lost. */
int host_watch_read(TdiHost *host, int fd);

/* ---- text files of sysfs and procfs (sysfs.c) ---- */

/* A small text file without its last newline; -E2BIG when it does not fit. The length. */
ssize_t host_read_text(TdiHost *host, const char *path, char *buf, size_t size);
/* A whole file into allocated memory, terminated; at most @max bytes, else -E2BIG. */
int host_read_file(TdiHost *host, const char *path, size_t max, char **ret, size_t *ret_size);
/* One write(2), which is how sysfs takes a value. */
int host_write_text(TdiHost *host, const char *path, const char *text);
/* The last component of a link, as a driver's name; -ENOENT where there is no link. */
int host_read_link_name(TdiHost *host, const char *path, char *buf, size_t size);
/* An unsigned number in C notation. */
int host_read_u64(TdiHost *host, const char *path, uint64_t *ret);

/* The implementations' constructors. */
int tdi_host_linux_new(TdiHost **ret);
int tdi_host_sim_new(const char *socket_path, TdiHost **ret);
/* "FOLDER:SPEC": another host, whose calls are written to the folder; for tests. */
int tdi_host_trace_new(const char *what, TdiHost **ret);

#endif
