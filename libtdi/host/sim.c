/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The seam on a simulated kernel, by the protocol of sim/protocol.h. A simulated descriptor is a socket to the simulation, and
 * nothing but calls that this host made goes over it. What belongs to real processes comes from the real kernel:
 * /proc with its processes, except for what they say of the machine.
 */
#include "host/host.h"

#include <ctype.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <linux/magic.h>

#include "sim/marshal.h"
#include "sim/protocol.h"

struct sim_host {
        TdiHost host;
        TdiHost *real;
        int connection;
};

static int connection_of(TdiHost *host) {
        return ((struct sim_host *) (void *) host)->connection;
}

static TdiHost *real_of(TdiHost *host) {
        return ((struct sim_host *) (void *) host)->real;
}

/* ---- calls ---- */

struct call {
        enum sim_op op;
        uint64_t a, b;
        const void *payload;
        size_t size;
        const int *fds;
        unsigned n_fds;
        /* The answer's. Descriptors: the caller's. */
        void *answer;
        size_t room, answer_size;
        int answer_fds[SIM_FDS_MAX];
        unsigned answer_n_fds;
};

/* What a socket says when the simulation is no more: to the caller the device has failed. */
static int gone(int error) {
        return error == EPIPE || error == ECONNRESET || error == ENOTCONN ? -EIO : -error;
}

/* Sends a call; *ret is where its answer comes. */
static int start(int fd, const struct call *c, int *ret) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * (1 + SIM_FDS_MAX))];
        } control = {};
        struct sim_request request = { SIM_MAGIC, c->op, c->a, c->b, (uint32_t) c->size, c->n_fds };
        struct iovec iov[] = { { &request, sizeof(request) }, { (void *) (uintptr_t) c->payload, c->size } };
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control };
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        struct cmsghdr *h;
        ssize_t n;
        int pair[2];

        if (c->n_fds > SIM_FDS_MAX || c->size > SIM_PAYLOAD_MAX)
                return -E2BIG;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        m.msg_controllen = CMSG_SPACE(sizeof(int) * (1 + c->n_fds));
        h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int) * (1 + c->n_fds));
        memcpy(CMSG_DATA(h), &theirs, sizeof(int));
        if (c->n_fds > 0)
                memcpy(CMSG_DATA(h) + sizeof(int), c->fds, sizeof(int) * c->n_fds);
        for (;;) {
                n = sendmsg(fd, &m, MSG_NOSIGNAL);
                if (n >= 0)
                        break;
                /* Somebody who shares the file has made it non-blocking. */
                if (errno == EAGAIN)
                        (void) poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, -1);
                else if (errno != EINTR)
                        return gone(errno);
        }
        *ret = TAKE_FD(ours);
        return 0;
}

/* Waits for the answer; the descriptors that come with it are closed unless it is well formed. */
static int64_t finish(int from, struct call *c) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * SIM_FDS_MAX)];
        } control;
        struct sim_reply reply = {};
        struct iovec iov[] = { { &reply, sizeof(reply) }, { c->answer, c->room } };
        struct msghdr m;
        ssize_t n;

        do {
                m = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control) };
                n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
        } while (n < 0 && errno == EINTR);
        if (n <= 0)
                return n < 0 ? gone(errno) : -EIO;
        c->answer_n_fds = 0;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
                if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
                        c->answer_n_fds = (unsigned) ((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                        memcpy(c->answer_fds, CMSG_DATA(h), sizeof(int) * c->answer_n_fds);
                }
        if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (size_t) n < sizeof(reply) || (size_t) n - sizeof(reply) != reply.size ||
            c->answer_n_fds != reply.fds) {
                for (unsigned i = 0; i < c->answer_n_fds; i++)
                        close_fd(c->answer_fds[i]);
                c->answer_n_fds = 0;
                return -EPROTO;
        }
        c->answer_size = reply.size;
        return reply.r;
}

static int64_t call(int fd, struct call *c) {
        _cleanup_close_ int answer = -EBADF;
        int r;

        r = start(fd, c, &answer);
        return r < 0 ? r : finish(answer, c);
}

/* For calls that answer with no descriptor, or with one. */
static int64_t call_for_fds(int fd, struct call *c, unsigned wanted) {
        int64_t r = call(fd, c);

        if (c->answer_n_fds == (r < 0 ? 0 : wanted))
                return r;
        for (unsigned i = 0; i < c->answer_n_fds; i++)
                close_fd(c->answer_fds[i]);
        return -EPROTO;
}

/* ---- what is whose ---- */

/* Processes are real; the mounts that the host's first one sees are the machine's. */
static bool is_real(const char *path) {
        const char *s = path;

        if (!startswith(path, "/proc"))
                return false;
        s += strlen("/proc");
        if (streq(s, "") || streq(s, "/"))
                return true;
        if (*s++ != '/' || streq(path, "/proc/1/mountinfo") || streq(path, "/proc/1/status"))
                return false;
        if (startswith(s, "self"))
                s += strlen("self");
        else if (isdigit((unsigned char) *s))
                while (isdigit((unsigned char) *s))
                        s++;
        else
                return false;
        return *s == '\0' || *s == '/';
}

/*
 * 1 for a simulated descriptor, 0 for one of the real kernel. Strangers pass descriptors of any kind: only a socket of the kind that the
 * simulation makes is ever written to, and whether it is one of its own host_identify() tells before.
 */
static int is_simulated(int fd) {
        int domain, type;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISSOCK(st.st_mode))
                return 0;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){ sizeof(domain) }) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof(type) }) < 0)
                return -errno;
        return domain == AF_UNIX && type == SOCK_SEQPACKET;
}

/* 0 for a file of the real /proc, which sim_open() gave out; -EBADF for any other that is not the simulation's. */
static int check_real(int fd) {
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return -errno;
        return fs.f_type == PROC_SUPER_MAGIC ? 0 : -EBADF;
}

/* A "socket:[INODE]" of the simulation by its own name. */
static int translate(TdiHost *host, char *link, size_t size) {
        unsigned long long inode;
        char text[PATH_MAX];
        struct call c = { .op = SIM_IDENTIFY, .answer = text, .room = sizeof(text) };
        int64_t r;

        if (sscanf(link, "socket:[%llu]", &inode) != 1)
                return 0;
        c.a = inode;
        r = call_for_fds(connection_of(host), &c, 0);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return (int) r;
        if (c.answer_size >= size)
                return -ENAMETOOLONG;
        memcpy(link, text, c.answer_size);
        link[c.answer_size] = '\0';
        return 0;
}

static ssize_t real_readlink(TdiHost *host, const char *path, char *buf, size_t size) {
        char link[PATH_MAX];
        ssize_t n;
        int r;

        n = host_readlink(real_of(host), path, link, sizeof(link));
        if (n < 0)
                return n;
        r = translate(host, link, sizeof(link));
        if (r < 0)
                return r;
        n = (ssize_t) strlen(link);
        if ((size_t) n >= size)
                return -ENAMETOOLONG;
        strcpy(buf, link);
        return n;
}

/* ---- operations ---- */

static void sim_destroy(TdiHost *host) {
        tdi_host_free(real_of(host));
        close_fd(connection_of(host));
        free(host);
}

#define FDINFO "/proc/self/fdinfo/"

/* -ENOENT for a descriptor of which the simulation has nothing to tell. */
static int open_fdinfo(TdiHost *host, const char *path) {
        struct call c = { .op = SIM_FDINFO };
        struct stat st;
        int64_t r;

        if (fstat(atoi(path + strlen(FDINFO)), &st) < 0 || !S_ISSOCK(st.st_mode))
                return -ENOENT;
        c.a = st.st_ino;
        r = call_for_fds(connection_of(host), &c, 1);
        return r < 0 ? (int) r : c.answer_fds[0];
}

static int sim_open(TdiHost *host, const char *path, int flags) {
        struct call c = { .op = SIM_OPEN, .a = (unsigned) flags, .payload = path, .size = strlen(path) };
        int64_t r;

        if (startswith(path, FDINFO)) {
                int fd = open_fdinfo(host, path);

                if (fd != -ENOENT)
                        return fd;
        }
        if (is_real(path))
                return host_open(real_of(host), path, flags);
        if (c.size >= PATH_MAX)
                return -ENAMETOOLONG;
        r = call_for_fds(connection_of(host), &c, 1);
        return r < 0 ? (int) r : c.answer_fds[0];
}

static int sim_close(TdiHost *host, int fd) {
        struct call c = { .op = SIM_CLOSE };
        _cleanup_close_ int answer = -EBADF;
        ssize_t n;
        int r;

        r = is_simulated(fd);
        if (r < 0)
                return r;
        if (r == 0)
                return host_close(real_of(host), fd);
        r = start(fd, &c, &answer);
        close_fd(fd);
        if (r < 0)
                return r;
        do
                n = send(answer, "", 1, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? gone(errno) : (int) finish(answer, &c);
}

static int sim_ioctl(_unused_ TdiHost *host, int fd, unsigned long request, void *arg) {
        _cleanup_free_ uint8_t *payload = NULL, *answer = NULL;
        int fds[SIM_IOCTL_FDS_MAX];
        struct call c = { .op = SIM_IOCTL, .a = request, .fds = fds, .room = SIM_PAYLOAD_MAX };
        int64_t k;
        int r;

        r = is_simulated(fd);
        if (r <= 0)
                return r < 0 ? r : -ENOTTY;
        payload = malloc(SIM_PAYLOAD_MAX);
        c.answer = answer = malloc(SIM_PAYLOAD_MAX);
        if (!payload || !answer)
                return -ENOMEM;
        r = sim_ioctl_pack(request, arg, payload, SIM_PAYLOAD_MAX, &c.size, fds, &c.n_fds);
        if (r < 0)
                return r;
        if (c.size == 0)
                c.b = (uintptr_t) arg;
        c.payload = payload;
        k = call(fd, &c);
        return sim_ioctl_apply(request, arg, k, answer, c.answer_size, c.answer_fds, c.answer_n_fds);
}

static ssize_t sim_pread(TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        size_t done = 0;
        int64_t n;
        int r;

        r = is_simulated(fd);
        if (r < 0)
                return r;
        if (r == 0) {
                r = check_real(fd);
                return r < 0 ? r : host_pread(real_of(host), fd, buf, size, offset);
        }
        do {
                struct call c = { .op = SIM_PREAD, .a = offset + done, .answer = (uint8_t *) buf + done };

                c.b = c.room = size - done < SIM_TRANSFER_MAX ? size - done : SIM_TRANSFER_MAX;
                n = call_for_fds(fd, &c, 0);
                if (n >= 0 && (uint64_t) n != c.answer_size)
                        n = -EPROTO;
                if (n < 0)
                        return done > 0 ? (ssize_t) done : (ssize_t) n;
                done += (size_t) n;
                if ((uint64_t) n < c.b)
                        break;
        } while (done < size);
        return (ssize_t) done;
}

/* What makes a queue's socket readable is taken first: an event that comes after it makes it so again. */
static ssize_t sim_read(TdiHost *host, int fd, void *buf, size_t size) {
        struct call c = { .op = SIM_PREAD, .b = size < SIM_TRANSFER_MAX ? size : SIM_TRANSFER_MAX, .answer = buf, .room = size };
        char mark;
        int64_t n;
        int r;

        r = is_simulated(fd);
        if (r < 0)
                return r;
        if (r == 0) {
                r = check_real(fd);
                return r < 0 ? r : host_read(real_of(host), fd, buf, size);
        }
        while (recv(fd, &mark, sizeof(mark), MSG_DONTWAIT) > 0)
                ;
        n = call_for_fds(fd, &c, 0);
        return n >= 0 && (uint64_t) n != c.answer_size ? -EPROTO : (ssize_t) n;
}

static ssize_t sim_pwrite(TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset) {
        size_t done = 0;
        int64_t n;
        int r;

        r = is_simulated(fd);
        if (r < 0)
                return r;
        if (r == 0) {
                r = check_real(fd);
                return r < 0 ? r : host_pwrite(real_of(host), fd, buf, size, offset);
        }
        do {
                struct call c = { .op = SIM_PWRITE, .a = offset + done, .payload = (const uint8_t *) buf + done };

                c.size = size - done < SIM_TRANSFER_MAX ? size - done : SIM_TRANSFER_MAX;
                n = call_for_fds(fd, &c, 0);
                if (n > (int64_t) c.size)
                        n = -EPROTO;
                if (n < 0)
                        return done > 0 ? (ssize_t) done : (ssize_t) n;
                done += (size_t) n;
                if ((size_t) n < c.size)
                        break;
        } while (done < size);
        return (ssize_t) done;
}

static ssize_t sim_readlink(TdiHost *host, const char *path, char *buf, size_t size) {
        char target[PATH_MAX];
        struct call c = { .op = SIM_READLINK, .payload = path, .size = strlen(path), .answer = target, .room = sizeof(target) };
        int64_t r;

        if (is_real(path))
                return real_readlink(host, path, buf, size);
        if (c.size >= PATH_MAX)
                return -ENAMETOOLONG;
        r = call_for_fds(connection_of(host), &c, 0);
        if (r < 0)
                return (ssize_t) r;
        if (c.answer_size >= size)
                return -ENAMETOOLONG;
        memcpy(buf, target, c.answer_size);
        buf[c.answer_size] = '\0';
        return (ssize_t) c.answer_size;
}

/* Names come in pieces; each ends with its NUL. */
static int sim_list(TdiHost *host, const char *path, char ***ret) {
        _cleanup_(host_names_freep) char **names = NULL;
        _cleanup_free_ char *piece = NULL;
        size_t n = 0;
        int64_t left;
        int r;

        if (is_real(path))
                return host_list(real_of(host), path, ret);
        if (strlen(path) >= PATH_MAX)
                return -ENAMETOOLONG;
        piece = malloc(SIM_PAYLOAD_MAX);
        if (!piece)
                return -ENOMEM;
        do {
                struct call c = { .op = SIM_LIST, .a = n, .payload = path, .size = strlen(path), .answer = piece, .room = SIM_PAYLOAD_MAX };
                size_t before = n;

                left = call_for_fds(connection_of(host), &c, 0);
                if (left < 0)
                        return (int) left;
                if (c.answer_size > 0 && piece[c.answer_size - 1] != '\0')
                        return -EPROTO;
                for (char *s = piece; s < piece + c.answer_size; s += strlen(s) + 1) {
                        r = host_names_add(&names, &n, s);
                        if (r < 0)
                                return r;
                }
                left -= (int64_t) (n - before);
                if (left > 0 && n == before)
                        return -EPROTO;
        } while (left > 0);
        r = host_names_finish(&names, n);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(names);
        return 0;
}

static int sim_identify(TdiHost *host, int fd, char *buf, size_t size) {
        char path[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = real_readlink(host, path, buf, size);
        return n < 0 ? (int) n : 0;
}

static int sim_address_present(TdiHost *host, const char *interface) {
        struct call c = { .op = SIM_ADDRESS, .payload = interface, .size = strlen(interface) };

        return (int) call_for_fds(connection_of(host), &c, 0);
}

static int sim_uevent_open(TdiHost *host) {
        struct call c = { .op = SIM_UEVENTS };
        int64_t r;
        int flags;

        r = call_for_fds(connection_of(host), &c, 1);
        if (r < 0)
                return (int) r;
        flags = fcntl(c.answer_fds[0], F_GETFL);
        if (flags < 0 || fcntl(c.answer_fds[0], F_SETFL, flags | O_NONBLOCK) < 0) {
                flags = -errno;
                close_fd(c.answer_fds[0]);
                return flags;
        }
        return c.answer_fds[0];
}

static int sim_uevent_read(_unused_ TdiHost *host, int fd, struct tdi_uevent *ret) {
        char buf[8192 + 1];
        ssize_t n;

        do
                n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                return n < 0 ? gone(errno) : -EIO;
        buf[n] = '\0';
        if (streq(buf, SIM_UEVENT_LOST))
                return -ENOBUFS;
        host_uevent_parse(buf, (size_t) n, ret);
        return 0;
}

static const struct tdi_host_ops sim_ops = {
        .name = "sim",
        .destroy = sim_destroy,
        .open = sim_open,
        .close = sim_close,
        .ioctl = sim_ioctl,
        .read = sim_read,
        .pread = sim_pread,
        .pwrite = sim_pwrite,
        .readlink = sim_readlink,
        .list = sim_list,
        .identify = sim_identify,
        .address_present = sim_address_present,
        .uevent_open = sim_uevent_open,
        .uevent_read = sim_uevent_read,
};

int tdi_host_sim_new(const char *socket_path, TdiHost **ret) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;
        struct sim_host *h;
        int r;

        if (strlen(socket_path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, socket_path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        do
                r = connect(fd, (struct sockaddr *) &address, sizeof(address));
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        r = tdi_host_linux_new(&h->real);
        if (r < 0) {
                free(h);
                return r;
        }
        h->host.ops = &sim_ops;
        h->connection = TAKE_FD(fd);
        *ret = &h->host;
        return 0;
}
