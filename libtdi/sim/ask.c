/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client's side of control commands, for tdi-sim's own options. */
#include "sim/server.h"

#include <sys/un.h>

static int ask(int connection, const char *command, uint64_t offset, struct sim_reply *ret, char *buf, size_t *ret_size) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct sim_request request = { .magic = SIM_MAGIC, .op = SIM_CONTROL, .a = offset, .size = (uint32_t) strlen(command) };
        struct iovec iov[] = { { &request, sizeof(request) }, { (void *) (uintptr_t) command, strlen(command) } };
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control) };
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        struct cmsghdr *h = &control.align;
        ssize_t n;
        int pair[2];

        if (strlen(command) > SIM_PAYLOAD_MAX)
                return -E2BIG;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), &theirs, sizeof(int));
        if (sendmsg(connection, &m, MSG_NOSIGNAL) < 0)
                return -errno;
        theirs = close_fd(theirs);
        iov[0] = (struct iovec){ ret, sizeof(*ret) };
        iov[1] = (struct iovec){ buf, SIM_PAYLOAD_MAX };
        m = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 2 };
        do
                n = recvmsg(ours, &m, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if ((size_t) n < sizeof(*ret) || ret->size != (size_t) n - sizeof(*ret))
                return n == 0 ? -ECONNRESET : -EPROTO;
        *ret_size = ret->size;
        return 0;
}

int control_client(const char *socket_path, const char *command, char **ret_answer) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_free_ char *text = NULL, *buf = malloc(SIM_PAYLOAD_MAX);
        _cleanup_close_ int fd = -EBADF;
        size_t have = 0, size = 0;
        struct sim_reply reply = {};
        int64_t first = 0;

        if (!buf)
                return -ENOMEM;
        if (strlen(socket_path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, socket_path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        do {
                int r = ask(fd, command, have, &reply, buf, &size);
                char *t;

                if (r < 0)
                        return r;
                if (have == 0)
                        first = reply.r;
                t = realloc(text, have + size + 1);
                if (!t)
                        return -ENOMEM;
                text = t;
                memcpy(text + have, buf, size);
                have += size;
                text[have] = '\0';
        } while (size > 0 && reply.r > 0 && have < (size_t) reply.r);
        *ret_answer = TAKE_PTR(text);
        return first < 0 ? (int) first : 0;
}
