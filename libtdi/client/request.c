/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests of guests, on the socket that tdid gives for them. */
#include <poll.h>
#include <sys/socket.h>
#include <tdi/request.h>

#include "client-internal.h"

static int send_all(int fd, const struct tdi_request *q, uint64_t id) {
        struct tdi_request_header header = {
                .size = sizeof(header), .kind = (uint32_t) q->kind, .id = id, .out_max = (uint32_t) q->out_size, .op = q->op
        };
        struct iovec iov[] = { { &header, sizeof(header) }, { (void *) (uintptr_t) q->in, q->in_size } };
        const struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
        ssize_t n;

        do
                n = sendmsg(fd, &mh, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n >= 0 ? 0 : errno == EPIPE ? -ECONNRESET : -errno;
}

static int wait_for(int fd, uint64_t until) {
        for (;;) {
                uint64_t now = until == UINT64_MAX ? 0 : client_now();
                int r;

                if (now >= until)
                        return -ETIMEDOUT;
                r = poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, until == UINT64_MAX ? -1 : (int) ((until - now + 999) / 1000));
                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
        }
}

static int receive(int fd, struct tdi_request *q, uint64_t id) {
        struct tdi_answer_header header;
        struct iovec iov[] = { { &header, sizeof(header) }, { q->out, q->out_size } };
        struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
        ssize_t n;

        do
                n = recvmsg(fd, &mh, 0);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                return n < 0 ? -errno : -ECONNRESET;
        if ((size_t) n < sizeof(header) || mh.msg_flags & MSG_TRUNC || header.size != sizeof(header) || header.id != id || header.error > 0)
                return -EBADMSG;
        q->tsm_code = header.tsm_code;
        if (header.error < 0)
                return header.error;
        q->out_used = (size_t) n - sizeof(header);
        return 0;
}

int tdi_request(int fd, struct tdi_request *q) {
        static _Atomic uint64_t last;
        uint64_t id = ++last, until;
        int r;

        if (fd < 0 || !q || q->size != sizeof(*q) || q->kind < 0 || q->kind >= TDI_REQUEST_KIND_MAX || q->in_size > TDI_REQUEST_SIZE_MAX ||
            q->out_size > TDI_REQUEST_SIZE_MAX || (q->in_size > 0 && !q->in) || (q->out_size > 0 && !q->out))
                return -EINVAL;
        q->out_used = 0;
        q->tsm_code = 0;
        until = q->timeout_msec < 0 ? UINT64_MAX : client_now() + (uint64_t) q->timeout_msec * 1000;
        r = send_all(fd, q, id);
        /* Without a limit the receive itself waits: the usual case costs two calls. */
        if (r >= 0 && until != UINT64_MAX)
                r = wait_for(fd, until);
        return r < 0 ? r : receive(fd, q, id);
}
