/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets between tdid, holders and workers: objects and descriptors go through, everything else is refused without a leak. */
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ipc.h"
#include "test.h"

static int ours = -EBADF, theirs = -EBADF, some_fd = -EBADF;

static void open_pair(int flags) {
        int pair[2];

        ours = close_fd(ours);
        theirs = close_fd(theirs);
        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, pair) == 0);
        ours = pair[0];
        theirs = pair[1];
}

/* A raw packet, in as many SCM_RIGHTS parts as wanted. */
static void send_raw(const void *data, size_t size, size_t n_fds, size_t parts) {
        union {
                char buf[CMSG_SPACE(sizeof(int) * 200) * 2];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = { (void *) (uintptr_t) data, size };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct cmsghdr *c = &control.align;
        size_t used = 0;

        for (size_t p = 0; p < parts && n_fds > 0; p++) {
                size_t n = n_fds / parts;

                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n);
                for (size_t i = 0; i < n; i++)
                        memcpy(CMSG_DATA(c) + i * sizeof(int), &some_fd, sizeof(int));
                used += CMSG_SPACE(sizeof(int) * n);
                c = (struct cmsghdr *) (void *) (control.buf + used);
        }
        m.msg_control = n_fds ? control.buf : NULL;
        m.msg_controllen = used;
        require(sendmsg(ours, &m, MSG_NOSIGNAL) == (ssize_t) size);
}

static void check_recv(int expected, size_t expected_fds) {
        struct json_object *o = NULL;
        struct ipc_fds fds = { .n = 99 };
        unsigned before = test_count_fds();

        if (!check_int(ipc_recv(theirs, &o, &fds), expected) || expected < 0) {
                /* Nothing was given: nothing is written, nothing stays open. */
                check(!o && fds.n == 99);
                check_int(test_count_fds(), before);
                if (fds.n == 99)
                        return;
        }
        check(json_object_is_type(o, json_type_object));
        check_int(fds.n, expected_fds);
        check_int(test_count_fds(), before + expected_fds);
        for (size_t i = 0; i < fds.n; i++)
                check(fcntl(fds.fd[i], F_GETFD) & FD_CLOEXEC);
        ipc_fds_close(&fds);
        check_int(fds.n, 0);
        check_int(test_count_fds(), before);
        json_putp(&o);
}

static void test_round_trip(void) {
        open_pair(0);
        for (size_t n = 0; n <= IPC_FDS_MAX + 1; n++) {
                _cleanup_json_ struct json_object *o = json_new(), *back = NULL;
                _cleanup_ipc_fds_ struct ipc_fds fds = {};
                int some[IPC_FDS_MAX + 1] = {};
                struct stat a, b;

                test_about("%zu descriptors", n);
                json_set_u64(o, "n", n);
                json_set_str(o, "text", "\"\\/\x01 \xc3\xa9");
                for (size_t i = 0; i < n; i++)
                        require((some[i] = fcntl(i % 2 ? ours : some_fd, F_DUPFD_CLOEXEC, 3)) >= 0);
                check_int(ipc_send(ours, o, some, n), n <= IPC_FDS_MAX ? 0 : -EMSGSIZE);
                if (n <= IPC_FDS_MAX && check_int(ipc_recv(theirs, &back, &fds), 0)) {
                        check(json_object_equal(o, back));
                        check_int(fds.n, n);
                        /* in order, and the sender's are still the sender's */
                        for (size_t i = 0; i < fds.n; i++)
                                check(fstat(some[i], &a) == 0 && fstat(fds.fd[i], &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev);
                        if (n > 1) {
                                int fd = ipc_fds_take(&fds, 1);

                                check(fd >= 0 && fds.fd[1] == -EBADF && ipc_fds_take(&fds, 1) == -EBADF);
                                close_fd(fd);
                        }
                        check_int(ipc_fds_take(&fds, n), -EBADF);
                }
                for (size_t i = 0; i < n; i++)
                        close_fd(some[i]);
        }
}

static void test_sizes(void) {
        const size_t limit = (size_t) IPC_SIZE_MAX;
        static char text[(size_t) IPC_SIZE_MAX + 2];

        for (size_t size = limit - 1; size <= limit + 1; size++) {
                _cleanup_json_ struct json_object *o = json_new();

                test_about("%zu bytes", size);
                memset(text, 'x', size - strlen("{\"t\":\"\"}"));
                json_set_str(o, "t", text);
                open_pair(0);
                check_int(ipc_send(ours, o, NULL, 0), size <= limit ? 0 : -EMSGSIZE);
                if (size <= limit)
                        check_recv(0, 0);
        }
}

static void test_oversized(void) {
        static char text[IPC_SIZE_MAX + 64];

        memset(text, ' ', sizeof(text));
        text[0] = '{';
        text[1] = '}';
        open_pair(0);
        /* Blank to its end: only its length is wrong, and what was cut off would not be missed. */
        test_about("%s", "larger than a packet may be");
        send_raw(text, IPC_SIZE_MAX + 2, 0, 1);
        check_recv(-EBADMSG, 0);
        send_raw(text, sizeof(text), 3, 1);
        check_recv(-EBADMSG, 0);
        send_raw("{}", 2, 0, 1);
        check_recv(0, 0);
}

static void test_garbage(void) {
        static const char *const texts[] = {
                "", "x", "[]", "null", "1", "\"a\"", "{", "{}{}", "{\"a\":1,\"a\":2}", "{'a':1}", "{\"a\":NaN}", "{\"a\":\"\xff\"}", "{}\x01",
                "{\"a\":\"\n\"}", "{\"a\":\"\\u0000\"}", "{\"a\":1.5}", "\xef\xbb\xbf{}",
        };

        open_pair(0);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                for (size_t n = 0; n <= IPC_FDS_MAX; n += 8) {
                        /* A packet of nothing is what the end of a stream looks like. */
                        int expected = *texts[i] ? -EBADMSG : -ECONNRESET;

                        test_about("\"%s\" with %zu descriptors", texts[i], n);
                        send_raw(texts[i], strlen(texts[i]), n, 1);
                        check_recv(expected, 0);
                }
        test_about("%s", "NUL");
        send_raw("{}\0", 3, 2, 1);
        check_recv(-EBADMSG, 0);
}

static void test_too_many_fds(void) {
        open_pair(0);
        for (size_t parts = 1; parts <= 2; parts++) {
                test_about("%d descriptors in %zu parts", IPC_FDS_MAX, parts);
                send_raw("{}", 2, IPC_FDS_MAX, parts);
                check_recv(0, IPC_FDS_MAX);
                for (size_t n = IPC_FDS_MAX + 2; n <= 200; n += 18) {
                        test_about("%zu descriptors in %zu parts", n, parts);
                        send_raw("{}", 2, n, parts);
                        check_recv(-EBADMSG, 0);
                }
        }
}

/* Places for none, and for some of them: the message is there, the descriptors are closed, and the next packet is what it would have been. */
static void test_no_room(void) {
        struct rlimit before, low;

        require(getrlimit(RLIMIT_NOFILE, &before) == 0);
        open_pair(0);
        for (rlim_t places = 0; places < 3; places++) {
                _cleanup_json_ struct json_object *o = NULL;
                _cleanup_ipc_fds_ struct ipc_fds fds = {};
                int next = fcntl(ours, F_DUPFD_CLOEXEC, 3);

                test_about("3 descriptors, and places for %lu", (unsigned long) places);
                close_fd(next);
                send_raw("{\"event\":\"x\"}", 13, 3, 1);
                low = (struct rlimit){ (rlim_t) next + places, before.rlim_max };
                require(setrlimit(RLIMIT_NOFILE, &low) == 0);
                check_int(ipc_recv(theirs, &o, &fds), -EMFILE);
                require(setrlimit(RLIMIT_NOFILE, &before) == 0);
                check_str(json_str_or(o, "event", ""), "x");
                check_int(fds.n, 0);
                next = fcntl(ours, F_DUPFD_CLOEXEC, 3);
                check_int(next, (int) (low.rlim_cur - places));
                close_fd(next);
                send_raw("{}", 2, 3, 1);
                check_recv(0, 3);
        }
}

static void test_ends(void) {
        _cleanup_json_ struct json_object *o = json_new();

        test_about("%s", "nothing there");
        open_pair(SOCK_NONBLOCK);
        check_recv(-EAGAIN, 0);
        for (unsigned i = 0; i < 100000; i++) {
                int r = ipc_send(ours, o, &some_fd, 1);

                if (r < 0) {
                        check_int(r, -EAGAIN);
                        break;
                }
        }
        check_recv(0, 1);

        test_about("%s", "the other end is closed");
        open_pair(0);
        check_int(ipc_send(ours, o, NULL, 0), 0);
        ours = close_fd(ours);
        check_recv(0, 0);
        check_recv(-ECONNRESET, 0);
        /* No SIGPIPE. */
        check_int(ipc_send(theirs, o, NULL, 0), -EPIPE);

        test_about("%s", "no socket");
        check_int(ipc_send(some_fd, o, NULL, 0), -ENOTSOCK);
        check_int(ipc_send(-EBADF, o, NULL, 0), -EBADF);
}

/* Names that come from the kernel, as a process's, may be any bytes: one of them must not break the connection. */
static void test_any_bytes(void) {
        _cleanup_json_ struct json_object *o = json_new(), *back = NULL;
        struct ipc_fds fds = {};

        test_about("%s", "text that is not UTF-8");
        open_pair(0);
        json_set_str(o, "text", "process 7 (\xff\xc3)");
        if (ipc_send(ours, o, NULL, 0) < 0)
                return;
        check_int(ipc_recv(theirs, &back, &fds), 0);
}

static void check_version(const char *text, int r) {
        _cleanup_json_ struct json_object *o = NULL;

        test_about("%s", text);
        require(json_parse_strict(text, strlen(text), &o, NULL, NULL) == 0);
        check_int(version_check(o, 4, 0), r);
}

/* One version up and down; what is further away only where it says so. */
static void test_versions(void) {
        check_version("{\"version\": 4}", 0);
        check_version("{\"version\": 1}", 0);
        check_version("{\"version\": 5, \"reads\": 4}", 0);
        check_version("{\"version\": 9, \"reads\": 2}", 0);
        check_version("{\"version\": 5}", -EPROTONOSUPPORT);
        check_version("{\"version\": 6, \"reads\": 5}", -EPROTONOSUPPORT);
        check_version("{\"version\": 5, \"reads\": \"4\"}", -EPROTONOSUPPORT);
        check_version("{\"version\": 0, \"reads\": 0}", -EBADMSG);
        check_version("{\"reads\": 1}", -EBADMSG);
        check_version("{\"version\": \"4\"}", -EBADMSG);
}

int main(void) {
        some_fd = eventfd(0, EFD_CLOEXEC);
        require(some_fd >= 0);
        test_round_trip();
        test_sizes();
        test_oversized();
        test_garbage();
        test_too_many_fds();
        test_no_room();
        test_ends();
        test_any_bytes();
        test_versions();
        close_fd(ours);
        close_fd(theirs);
        close_fd(some_fd);
        return test_end();
}
