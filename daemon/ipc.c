/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets of JSON and descriptors. */
#include "ipc.h"

#include <sys/socket.h>

void ipc_fds_close(struct ipc_fds *fds) {
        for (size_t i = 0; i < fds->n; i++)
                close_fd(fds->fd[i]);
        fds->n = 0;
}

int ipc_fds_take(struct ipc_fds *fds, size_t i) {
        if (i >= fds->n)
                return -EBADF;
        return TAKE_FD(fds->fd[i]);
}

static int send_with(int socket, struct json_object *message, const int *fds, size_t n_fds, int flags) {
        union {
                char buf[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
                struct cmsghdr align;
        } control = {};
        struct msghdr m = {};
        struct iovec iov;
        const char *text;
        size_t len;
        ssize_t n;

        if (n_fds > IPC_FDS_MAX)
                return -EMSGSIZE;
        text = json_object_to_json_string_length(message, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
        if (!text)
                return -ENOMEM;
        if (len > IPC_SIZE_MAX)
                return -EMSGSIZE;
        iov = (struct iovec){ (void *) (uintptr_t) text, len };
        m.msg_iov = &iov;
        m.msg_iovlen = 1;
        if (n_fds > 0) {
                struct cmsghdr *c;

                m.msg_control = control.buf;
                m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        do
                n = sendmsg(socket, &m, MSG_NOSIGNAL | flags);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

int ipc_send(int socket, struct json_object *message, const int *fds, size_t n_fds) {
        return send_with(socket, message, fds, n_fds, 0);
}

int ipc_try_send(int socket, struct json_object *message, const int *fds, size_t n_fds) {
        return send_with(socket, message, fds, n_fds, MSG_DONTWAIT);
}

int ipc_recv(int socket, struct json_object **ret, struct ipc_fds *ret_fds) {
        union {
                char buf[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
                struct cmsghdr align;
        } control;
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        _cleanup_json_ struct json_object *o = NULL;
        _cleanup_free_ char *buf = NULL;
        struct iovec iov;
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        bool lost = false;
        ssize_t n;
        int r;

        buf = malloc(IPC_SIZE_MAX + 1);
        if (!buf)
                return -ENOMEM;
        iov = (struct iovec){ buf, IPC_SIZE_MAX + 1 };
        do
                n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
                size_t k;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < k; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (fds.n < IPC_FDS_MAX)
                                fds.fd[fds.n++] = fd;
                        else
                                close_fd(fd);
                }
        }
        if (n == 0)
                return -ECONNRESET;
        /* Descriptors are also cut off where the table of this process, or of the host, has no place for them (scm_detach_fds()): then fewer have come than may. */
        lost = m.msg_flags & MSG_CTRUNC && fds.n < IPC_FDS_MAX;
        if (m.msg_flags & MSG_TRUNC || (m.msg_flags & MSG_CTRUNC && !lost))
                return -EBADMSG;
        r = json_parse_strict(buf, (size_t) n, &o, NULL, NULL);
        if (r < 0)
                return r;
        if (!json_object_is_type(o, json_type_object))
                return -EBADMSG;
        *ret = TAKE_PTR(o);
        if (lost)
                return -EMFILE;
        *ret_fds = fds;
        fds.n = 0;
        return 0;
}

void version_set(struct json_object *o, unsigned version, unsigned newer) {
        json_set_u64(o, "version", version + newer);
        if (newer > 0)
                json_set_u64(o, "reads", version + newer - 1);
}

int version_check(struct json_object *o, unsigned ours, unsigned newer) {
        uint64_t version;

        if (json_get_u64(o, "version", &version) < 0 || version == 0)
                return -EBADMSG;
        return version <= ours + newer || json_u64_or(o, "reads", version) <= ours + newer ? 0 : -EPROTONOSUPPORT;
}
