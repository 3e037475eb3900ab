/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the packets between tdid's processes: the first byte says how many descriptors go with the rest. Whatever comes,
 * no descriptor is leaked, and what is taken can be sent on.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "ipc.h"

#define FDS_MAX 40

static int pair[2] = { -EBADF, -EBADF }, some_fd = -EBADF;

static void send_raw(const uint8_t *data, size_t size, size_t n_fds) {
        union {
                char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = { (void *) (uintptr_t) data, size };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n_fds > 0) {
                m.msg_control = control.buf;
                m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                control.align.cmsg_level = SOL_SOCKET;
                control.align.cmsg_type = SCM_RIGHTS;
                control.align.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                for (size_t i = 0; i < n_fds; i++)
                        memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &some_fd, sizeof(int));
        }
        must(sendmsg(pair[0], &m, MSG_NOSIGNAL) == (ssize_t) size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ struct json_object *o = NULL, *back = NULL;
        _cleanup_ipc_fds_ struct ipc_fds fds = {}, more = {};
        size_t n;
        int r, next;

        if (some_fd < 0) {
                must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
                must((some_fd = eventfd(0, EFD_CLOEXEC)) >= 0);
        }
        if (size == 0 || size > IPC_SIZE_MAX + 1024)
                return 0;
        next = fuzz_next_fd();
        n = data[0] % (FDS_MAX + 1);
        send_raw(data + 1, size - 1, n);
        r = ipc_recv(pair[1], &o, &fds);
        if (r < 0) {
                must(r == (size == 1 ? -ECONNRESET : -EBADMSG));
                must(!o && fds.n == 0 && fuzz_next_fd() == next);
                return 0;
        }
        must(json_object_is_type(o, json_type_object) && fds.n == n && n <= IPC_FDS_MAX);
        /* What was written shorter may be longer when it is written by us, with every escape. */
        r = ipc_send(pair[0], o, fds.fd, fds.n);
        must(r == 0 || r == -EMSGSIZE);
        if (r == 0) {
                must(ipc_recv(pair[1], &back, &more) == 0);
                must(json_object_equal(o, back) && more.n == n);
        }
        ipc_fds_close(&fds);
        ipc_fds_close(&more);
        must(fuzz_next_fd() == next);
        return 0;
}
