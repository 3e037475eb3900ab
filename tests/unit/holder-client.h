/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client of a holder's control socket, as its tests need one: a listening socket, requests in JSON, and what comes back. */
#ifndef TDID_TEST_HOLDER_CLIENT_H
#define TDID_TEST_HOLDER_CLIENT_H

#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ipc.h"
#include "test.h"

/* In the abstract name space: nothing to clean up. */
static inline int holder_listen(struct sockaddr_un *ret, socklen_t *ret_len) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        /* The kernel chooses a name: unix(7), autobind. */
        require(fd >= 0 && bind(fd, (struct sockaddr *) ret, sizeof(sa_family_t)) == 0 && listen(fd, 4) == 0);
        *ret_len = sizeof(*ret);
        require(getsockname(fd, (struct sockaddr *) ret, ret_len) == 0);
        return fd;
}

static inline int holder_connect_to(const struct sockaddr_un *name, socklen_t len) {
        /* A holder that does not answer must not hang the test. */
        struct timeval patience = { .tv_sec = 10 };
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        require(fd >= 0 && connect(fd, (const struct sockaddr *) name, len) == 0);
        require(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
        return fd;
}

static inline struct json_object *holder_text(const char *text) {
        struct json_object *o = NULL;

        require(json_parse_strict(text, strlen(text), &o, NULL, NULL) == 0);
        return o;
}

/* Sends a request with so many new descriptors, and gives the answer's "r", or what broke the connection. */
static inline int holder_ask(int fd, const char *text, size_t n_fds, struct json_object **ret, struct ipc_fds *ret_fds) {
        _cleanup_json_ struct json_object *request = holder_text(text), *answer = NULL;
        _cleanup_ipc_fds_ struct ipc_fds fds = {}, got = {};
        int64_t result = -1;
        int r;

        for (size_t i = 0; i < n_fds; i++) {
                fds.fd[i] = eventfd((unsigned) i, EFD_CLOEXEC | EFD_NONBLOCK);
                require(fds.fd[i] >= 0);
                fds.n++;
        }
        r = ipc_send(fd, request, fds.fd, fds.n);
        if (r >= 0)
                r = ipc_recv(fd, &answer, &got);
        if (r < 0)
                return r;
        check_int(json_get_i64(answer, "r", &result), 0);
        if (ret)
                *ret = TAKE_PTR(answer);
        if (ret_fds) {
                *ret_fds = got;
                got.n = 0;
        }
        return (int) result;
}

#endif
