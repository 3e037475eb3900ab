/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The channel of a KVM association: what is a message and what not, with every descriptor accounted for; and libtdi's part, with calls that only
 * note in which process they were made.
 */
#include <tdi/association.h>

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "client/association-internal.h"
#include "host/abi/kvm.h"
#include "model/association.h"
#include "test.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define TSAN true
#else
#define TSAN false
#endif

static int pair[2];

static void open_pair(void) {
        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
}

static void close_pair(void) {
        pair[0] = close_fd(pair[0]);
        pair[1] = close_fd(pair[1]);
}

static unsigned descriptors(void) {
        unsigned n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static struct association_message message(uint32_t op, uint32_t number) {
        return (struct association_message){ .version = ASSOCIATION_VERSION, .op = op, .number = number, .bdf = "0000:01:00.0" };
}

/* So many bytes, with so many descriptors. */
static void send_raw(const void *data, size_t size, unsigned n_fds) {
        union {
                char buf[CMSG_SPACE(sizeof(int) * 16)];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = { (void *) (uintptr_t) data, size };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

        require(n_fds <= 16);
        if (n_fds > 0) {
                struct cmsghdr *c;

                m.msg_control = control.buf;
                m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                for (unsigned i = 0; i < n_fds; i++)
                        memcpy(CMSG_DATA(c) + i * sizeof(int), &pair[0], sizeof(int));
        }
        require(sendmsg(pair[0], &m, 0) == (ssize_t) size);
}

static void receive(int expected) {
        struct association_message m;
        struct association_fds fds;
        unsigned before = descriptors();
        int r = association_receive(pair[1], 20, &m, &fds);

        check_int(r, expected);
        if (r >= 0)
                association_close(&fds);
        check_int(descriptors(), before);
}

static void test_messages(void) {
        struct association_message good = message(ASSOCIATION_ASK, 7), m;
        struct association_fds fds;
        char longer[sizeof(good) + 1] = {};

        open_pair();
        test_about("%s", "messages");
        receive(-ETIMEDOUT);
        for (unsigned n = 0; n <= 16; n++) {
                test_about("%u descriptors", n);
                send_raw(&good, sizeof(good), n);
                receive(n <= ASSOCIATION_FDS_MAX ? 0 : -EBADMSG);
        }
        test_about("%s", "no message");
        for (size_t size = 1; size < sizeof(good); size += 7) {
                send_raw(&good, size, 1);
                receive(-EBADMSG);
        }
        memcpy(longer, &good, sizeof(good));
        send_raw(longer, sizeof(longer), 2);
        receive(-EBADMSG);
        m = good;
        m.version++;
        send_raw(&m, sizeof(m), 1);
        receive(-EBADMSG);
        m = good;
        memset(m.bdf, 'x', sizeof(m.bdf));
        send_raw(&m, sizeof(m), 0);
        receive(-EBADMSG);
        check_int(association_send(pair[0], &good, pair, 2), 0);
        check_int(association_send(pair[0], &good, pair, 3), -EINVAL);
        check_int(association_receive(pair[1], 0, &m, &fds), 0);
        check(memcmp(&m, &good, sizeof(m)) == 0);
        check_int(fds.n, 2);
        association_close(&fds);
        check_int(fds.n, 0);
        /* Nobody waits for one who does not read. */
        while (association_send(pair[0], &good, NULL, 0) == 0)
                ;
        check_int(association_send(pair[0], &good, NULL, 0), -EAGAIN);
        pair[0] = close_fd(pair[0]);
        check_int(association_send(pair[1], &good, NULL, 0), -EPIPE);
        while (association_receive(pair[1], 0, &m, &fds) == 0)
                ;
        check_int(association_receive(pair[1], 1000, &m, &fds), -ECONNRESET);
        close_pair();
}

/* ---- libtdi's part ---- */

static struct {
        pid_t self, pid[4];
        unsigned n;
        unsigned long request[4];
        int fd[4];
        uint64_t attr[4];
        int node, made, fails_at, error;
        bool blocked;
} seen;

static int call(int fd, unsigned long request, void *argument, void *userdata) {
        unsigned i = seen.n++;
        sigset_t set;

        check(userdata == &seen);
        require(i < ARRAY_SIZE(seen.pid));
        /* By system call: the memory is the other process's. */
        seen.pid[i] = (pid_t) syscall(SYS_getpid);
        seen.request[i] = request;
        seen.fd[i] = fd;
        (void) sigprocmask(SIG_BLOCK, NULL, &set);
        seen.blocked = sigismember(&set, SIGTERM) == 1 && sigismember(&set, SIGCHLD) == 1;
        if ((int) i == seen.fails_at)
                return seen.error;
        if (request == TDI_KVM_CREATE_DEVICE) {
                struct tdi_kvm_create_device *create = argument;

                check_int(create->type, TDI_KVM_DEV_TYPE_VFIO);
                seen.made = memfd_create("kvm-vfio", MFD_CLOEXEC);
                create->fd = (uint32_t) seen.made;
        } else {
                const struct tdi_kvm_device_attr *attr = argument;

                check_int(attr->group, TDI_KVM_DEV_VFIO_FILE);
                seen.attr[i] = attr->attr;
                memcpy(&seen.node, (const void *) (uintptr_t) attr->addr, sizeof(seen.node));
                check(fcntl(seen.node, F_GETFD) >= 0);
        }
        return 0;
}

/* tdid's part, in a thread of its own. */
struct asking {
        uint32_t op;
        unsigned n_fds;
        uint32_t wrong_number;
        bool twice;
        int patience_ms;
        struct association_message done;
        struct association_fds fds;
        int r;
};

static void *ask(void *userdata) {
        struct asking *a = userdata;
        struct association_message m = message(ASSOCIATION_ASK, 4), said;
        struct association_fds fds;

        a->r = association_send(pair[0], &m, NULL, 0);
        if (a->twice) {
                m.number++;
                (void) association_send(pair[0], &m, NULL, 0);
                if (association_receive(pair[0], 5000, &said, &fds) < 0 || said.number != m.number - 1)
                        a->r = -EPROTO;
        }
        if (a->r >= 0)
                a->r = association_receive(pair[0], 5000, &said, &fds);
        if (a->r < 0 || said.op != ASSOCIATION_READY || said.number != m.number || fds.n > 0)
                return NULL;
        m.op = a->op;
        m.number += a->wrong_number;
        (void) association_send(pair[0], &m, (int[]){ pair[0], STDERR_FILENO }, a->n_fds);
        a->r = association_receive(pair[0], a->patience_ms ? a->patience_ms : 5000, &a->done, &a->fds);
        return NULL;
}

static int run(struct asking *a, int fails_at, int error) {
        unsigned before = descriptors();
        pthread_t thread;
        int state, r;

        memset(&seen, 0, sizeof(seen));
        seen.self = getpid();
        seen.fails_at = fails_at;
        seen.error = error;
        require(pthread_create(&thread, NULL, ask, a) == 0);
        errno = E2BIG;
        r = association_serve_by(pair[1], 1, 5000, call, &seen);
        check_int(errno, E2BIG);
        require(pthread_join(thread, NULL) == 0);
        /* What it was sent, and what it made, was in another process's table. */
        check_int(descriptors(), before + a->fds.n);
        for (unsigned i = 0; i < seen.n; i++)
                check(seen.pid[i] != seen.self && seen.pid[i] == seen.pid[0]);
        check(seen.n == 0 || seen.blocked);
        /* It has ended, and was nobody's child before. */
        check_int(waitpid(-1, &state, WNOHANG | __WALL), -1);
        (void) pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
        check_int(state, PTHREAD_CANCEL_ENABLE);
        return r;
}

static void test_served(void) {
        struct asking a = { .op = ASSOCIATION_ADD, .n_fds = 1 };

        open_pair();
        test_about("%s", "the first function");
        check_int(run(&a, -1, 0), 1);
        check_int(a.r, 0);
        check_int(a.done.result, 0);
        check_int(seen.n, 2);
        check(seen.request[0] == TDI_KVM_CREATE_DEVICE && seen.fd[0] == 1 && seen.request[1] == TDI_KVM_SET_DEVICE_ATTR && seen.fd[1] == seen.made);
        check_int(seen.attr[1], TDI_KVM_DEV_VFIO_FILE_ADD);
        check_int(a.fds.n, 1);
        association_close(&a.fds);

        test_about("%s", "a further one, after a question that was given up");
        a = (struct asking){ .op = ASSOCIATION_ADD, .n_fds = 2, .twice = true };
        check_int(run(&a, -1, 0), 1);
        check_int(a.done.result, 0);
        check_int(seen.n, 1);
        check_int(a.fds.n, 0);

        test_about("%s", "one that goes");
        a = (struct asking){ .op = ASSOCIATION_DEL, .n_fds = 2 };
        check_int(run(&a, -1, 0), 1);
        check_int(seen.attr[0], TDI_KVM_DEV_VFIO_FILE_DEL);

        test_about("%s", "what KVM refuses");
        a = (struct asking){ .op = ASSOCIATION_ADD, .n_fds = 1 };
        check_int(run(&a, 0, -EBUSY), -EBUSY);
        check_int(a.done.result, -EBUSY);
        check_int(a.done.stage, ASSOCIATION_CREATE);
        check_int(run(&a, 1, -EIO), -EIO);
        check_int(a.done.result, -EIO);
        check_int(a.done.stage, ASSOCIATION_CHANGE);
        /* The device that it had made goes. */
        check_int(a.fds.n, 0);
        close_pair();
}

static void test_not_served(void) {
        static const struct {
                uint32_t op, wrong_number;
                unsigned n_fds;
        } wrong[] = {
                { ASSOCIATION_ADD, 0, 0 }, { ASSOCIATION_DEL, 0, 1 }, { ASSOCIATION_ADD, 1, 1 }, { ASSOCIATION_DONE, 0, 1 }, { 99, 0, 2 },
        };
        struct association_message m = message(ASSOCIATION_ADD, 1);
        struct asking a;

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                test_about("nonsense %zu", i);
                open_pair();
                a = (struct asking){ .op = wrong[i].op, .n_fds = wrong[i].n_fds, .wrong_number = wrong[i].wrong_number, .patience_ms = 50 };
                check_int(run(&a, -1, 0), -EBADMSG);
                /* Nobody answers that. */
                check_int(a.r, -ETIMEDOUT);
                check_int(seen.n, 0);
                close_pair();
        }
        test_about("%s", "nothing, and the end");
        open_pair();
        check_int(tdi_association_serve(pair[1], 1, 0), 0);
        /* It does not begin so. */
        check_int(association_send(pair[0], &m, pair, 1), 0);
        check_int(tdi_association_serve(pair[1], 1, 0), -EBADMSG);
        m.op = ASSOCIATION_ASK;
        check_int(association_send(pair[0], &m, pair, 1), 0);
        check_int(tdi_association_serve(pair[1], 1, 0), -EBADMSG);
        check_int(association_send(pair[0], &m, NULL, 0), 0);
        /* Asked, and left alone. */
        check_int(tdi_association_serve(pair[1], 1, 30), 0);
        pair[0] = close_fd(pair[0]);
        check_int(tdi_association_serve(pair[1], 1, 1000), -ECONNRESET);
        close_pair();
}

/* What makes a fork of it, or forbids it. */
static const char *shares_no_memory(void) {
        const char *preload = getenv("LD_PRELOAD");

        return TSAN ? "the thread sanitizer" : preload && strstr(preload, "vgpreload") ? "valgrind" : NULL;
}

int main(void) {
        const char *why = shares_no_memory();

        test_messages();
        if (why) {
                fprintf(stderr, "left out: what a process does that shares its maker's memory, which %s does not know\n", why);
                return test_end();
        }
        test_served();
        test_not_served();
        return test_end();
}
