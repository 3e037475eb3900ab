/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seam on a real kernel: one system call per call, no policy. */
#include "host/host.h"

#include <dirent.h>
#include <ifaddrs.h>
#include <limits.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sched.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define UEVENT_GROUP_KERNEL 1
#define UEVENT_BUFFER (8UL * 1024 * 1024)

static void linux_destroy(TdiHost *host) {
        free(host);
}

static int linux_open(_unused_ TdiHost *host, const char *path, int flags) {
        int fd;

        do
                fd = open(path, flags);
        while (fd < 0 && errno == EINTR);
        return fd < 0 ? -errno : fd;
}

static int linux_close(_unused_ TdiHost *host, int fd) {
        /* After EINTR the fd is closed all the same on Linux: no retry. */
        if (close(fd) < 0 && errno != EINTR)
                return -errno;
        return 0;
}

static int linux_ioctl(_unused_ TdiHost *host, int fd, unsigned long request, void *arg) {
        int r;

        do
                r = ioctl(fd, request, arg);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : r;
}

static ssize_t linux_read(_unused_ TdiHost *host, int fd, void *buf, size_t size) {
        ssize_t n;

        do
                n = read(fd, buf, size);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

static ssize_t linux_pread(_unused_ TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        ssize_t n;

        do
                n = pread(fd, buf, size, (off_t) offset);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

static ssize_t linux_pwrite(_unused_ TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset) {
        ssize_t n;

        do
                n = pwrite(fd, buf, size, (off_t) offset);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

static ssize_t linux_readlink(_unused_ TdiHost *host, const char *path, char *buf, size_t size) {
        ssize_t n = readlink(path, buf, size);

        if (n < 0)
                return -errno;
        if ((size_t) n >= size)
                return -ENAMETOOLONG;
        buf[n] = '\0';
        return n;
}

static int linux_list(_unused_ TdiHost *host, const char *path, char ***ret) {
        _cleanup_(host_names_freep) char **names = NULL;
        struct dirent *e;
        size_t n = 0;
        DIR *d;
        int r = 0;

        d = opendir(path);
        if (!d)
                return -errno;
        while (r == 0 && (errno = 0, e = readdir(d)))
                if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
                        r = host_names_add(&names, &n, e->d_name);
        if (r == 0 && errno)
                r = -errno;
        closedir(d);
        if (r == 0)
                r = host_names_finish(&names, n);
        if (r == 0)
                *ret = TAKE_PTR(names);
        return r;
}

static int linux_identify(TdiHost *host, int fd, char *buf, size_t size) {
        char path[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = linux_readlink(host, path, buf, size);
        return n < 0 ? (int) n : 0;
}

static bool same_file(int a, int b) {
        struct stat x, y;

        return fstat(a, &x) >= 0 && fstat(b, &y) >= 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/*
 * The addresses of the network that interfaces of this machine's devices begin in, which is PID 1's: a service may have been given another. Only the
 * calling thread goes there, and comes back.
 */
static int get_addresses(struct ifaddrs **ret) {
        _cleanup_close_ int first = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC), mine = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        int r;

        /* Who may not look at PID 1 is no service. */
        if (first < 0 || mine < 0 || same_file(first, mine))
                return getifaddrs(ret) < 0 ? -errno : 0;
        if (setns(first, CLONE_NEWNET) < 0)
                return -errno;
        r = getifaddrs(ret) < 0 ? -errno : 0;
        /* Back it must be. */
        if (setns(mine, CLONE_NEWNET) < 0)
                abort();
        return r;
}

static int linux_address_present(_unused_ TdiHost *host, const char *interface) {
        struct ifaddrs *all = NULL;
        int found = 0, r;

        r = get_addresses(&all);
        if (r < 0)
                return r;
        for (struct ifaddrs *i = all; i && !found; i = i->ifa_next)
                if (i->ifa_addr && (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6) &&
                    streq(i->ifa_name, interface)) {
                        struct sockaddr_in6 *a = (struct sockaddr_in6 *) (void *) i->ifa_addr;

                        /* The kernel gives every interface that is up a link-local address: that is nobody's use. */
                        if (i->ifa_addr->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a->sin6_addr))
                                continue;
                        found = 1;
                }
        freeifaddrs(all);
        return found;
}

static int linux_uevent_open(_unused_ TdiHost *host) {
        struct nl_sock *sk;
        int r, fd;

        sk = nl_socket_alloc();
        if (!sk)
                return -ENOMEM;
        nl_join_groups(sk, UEVENT_GROUP_KERNEL);
        r = nl_connect(sk, NETLINK_KOBJECT_UEVENT);
        if (r < 0) {
                nl_socket_free(sk);
                return -EPROTONOSUPPORT;
        }
        /* The fd alone is kept: it is read with one recvmsg, and a host has no state. */
        fd = fd_dup(nl_socket_get_fd(sk));
        nl_socket_free(sk);
        if (fd < 0)
                return fd;
        if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){ UEVENT_BUFFER }, sizeof(int)) < 0)
                (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ UEVENT_BUFFER }, sizeof(int));
        r = fcntl(fd, F_GETFL);
        if (r < 0 || fcntl(fd, F_SETFL, r | O_NONBLOCK) < 0) {
                r = -errno;
                close_fd(fd);
                return r;
        }
        return fd;
}

static int linux_uevent_read(_unused_ TdiHost *host, int fd, struct tdi_uevent *ret) {
        char buf[8192 + 1];
        struct sockaddr_nl from = {};
        struct iovec iov = { buf, sizeof(buf) - 1 };
        struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        do
                n = recvmsg(fd, &m, MSG_DONTWAIT);
        while ((n < 0 && errno == EINTR) || (n >= 0 && (from.nl_pid != 0 || (m.msg_flags & MSG_TRUNC))));
        if (n < 0)
                return -errno;
        buf[n] = '\0';
        host_uevent_parse(buf, (size_t) n, ret);
        return 0;
}

static int linux_watch_open(_unused_ TdiHost *host) {
        int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

        return fd < 0 ? errno == ENOSYS ? -EOPNOTSUPP : -errno : fd;
}

static int linux_watch_add(_unused_ TdiHost *host, int fd, const char *path) {
        int number = inotify_add_watch(fd, path, IN_MODIFY | IN_DONT_FOLLOW);

        return number < 0 ? -errno : number;
}

static int linux_watch_drop(_unused_ TdiHost *host, int fd, int number) {
        return inotify_rm_watch(fd, number) < 0 ? -errno : 0;
}

static int linux_watch_read(_unused_ TdiHost *host, int fd) {
        struct inotify_event e;
        ssize_t n;

        /* Files that are watched themselves have events without a name: one fits, and is all that is read. */
        do
                n = read(fd, &e, sizeof(e));
        while ((n < 0 && errno == EINTR) || (n == sizeof(e) && !(e.mask & (IN_MODIFY | IN_Q_OVERFLOW))));
        if (n < 0)
                return -errno;
        if (n != sizeof(e))
                return -EIO;
        return e.mask & IN_Q_OVERFLOW ? -ENOBUFS : e.wd;
}

static const struct tdi_host_ops linux_ops = {
        .name = "linux",
        .destroy = linux_destroy,
        .open = linux_open,
        .close = linux_close,
        .ioctl = linux_ioctl,
        .read = linux_read,
        .pread = linux_pread,
        .pwrite = linux_pwrite,
        .readlink = linux_readlink,
        .list = linux_list,
        .identify = linux_identify,
        .address_present = linux_address_present,
        .uevent_open = linux_uevent_open,
        .uevent_read = linux_uevent_read,
        .watch_open = linux_watch_open,
        .watch_add = linux_watch_add,
        .watch_drop = linux_watch_drop,
        .watch_read = linux_watch_read,
};

int tdi_host_linux_new(TdiHost **ret) {
        TdiHost *h = calloc(1, sizeof(*h));

        if (!h)
                return -ENOMEM;
        h->ops = &linux_ops;
        *ret = h;
        return 0;
}
