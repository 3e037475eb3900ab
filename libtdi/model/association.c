/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One message at a time, with nothing but system calls: see association.h. */
#include "model/association.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "util/util.h"

/* Room for more than there may be, so that what is too much is seen and closed. */
#define RECEIVED_MAX 8

void association_close(struct association_fds *fds) {
        while (fds->n > 0)
                close_fd(fds->fd[--fds->n]);
}

int association_send(int socket, const struct association_message *m, const int *fds, size_t n_fds) {
        union {
                char buf[CMSG_SPACE(sizeof(int) * ASSOCIATION_FDS_MAX)];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = { (void *) (uintptr_t) m, sizeof(*m) };
        struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (n_fds > ASSOCIATION_FDS_MAX)
                return -EINVAL;
        if (n_fds > 0) {
                struct cmsghdr *c;

                header.msg_control = control.buf;
                header.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c = CMSG_FIRSTHDR(&header);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        do
                n = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

static int64_t now_ms(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int wait_for(int socket, int timeout_ms) {
        int64_t until = now_ms() + timeout_ms, left = timeout_ms;

        for (;;) {
                struct pollfd p = { .fd = socket, .events = POLLIN };
                int r = poll(&p, 1, (int) left);

                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
                left = until - now_ms();
                if (left < 0 || r == 0)
                        return -ETIMEDOUT;
        }
}

static void take(struct msghdr *header, struct association_fds *ret, bool *ret_too_many) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
                size_t n = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (ret->n < ASSOCIATION_FDS_MAX)
                                ret->fd[ret->n++] = fd;
                        else {
                                *ret_too_many = true;
                                close_fd(fd);
                        }
                }
        }
}

int association_receive(int socket, int timeout_ms, struct association_message *ret, struct association_fds *ret_fds) {
        union {
                char buf[CMSG_SPACE(sizeof(int) * RECEIVED_MAX)];
                struct cmsghdr align;
        } control;
        struct association_message m;
        struct association_fds fds = {};
        struct iovec iov = { &m, sizeof(m) };
        struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
        bool too_many = false;
        ssize_t n;
        int r;

        r = wait_for(socket, timeout_ms);
        if (r < 0)
                return r;
        do
                n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        take(&header, &fds, &too_many);
        if (n != sizeof(m) || header.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || too_many || m.version != ASSOCIATION_VERSION ||
            m.bdf[sizeof(m.bdf) - 1]) {
                association_close(&fds);
                return n == 0 ? -ECONNRESET : -EBADMSG;
        }
        *ret = m;
        *ret_fds = fds;
        return 0;
}
