/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The seam's `sim` host against a server of this test's own, which keeps the protocol's rules for some paths and breaks them for
 * others. What a real tdi-sim does is for the scenarios.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "host/abi/kvm.h"
#include "host/abi/vfio.h"
#include "host/host.h"
#include "sim/marshal.h"
#include "sim/protocol.h"
#include "test.h"

#define FILE_SIZE 100000
#define MANY 3000
#define NO_FD 900 /* numbers that were closed are soon the server's, which is in this process */
#define SPLICED "/dev/vfio/devices/vfio0"

static char dir[64], spec[128];
static TdiHost *host;

/* ---- the server ---- */

static struct pollfd listened[256];
static uint64_t inode[256]; /* of the client's end of a file */
static unsigned n_listened;
static pthread_t server_thread;
/* What the server's thread saw. Its answer comes after that, which a sanitizer does not see: so the lock. */
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static char last_path[4200];
static _Atomic unsigned n_calls;
static _Atomic uint64_t seen_inode; /* of the first descriptor that a call passed */
static _Atomic bool close_was_last;

static uint8_t byte_at(uint64_t offset) {
        return (uint8_t) (offset * 7 + offset / 251);
}

static uint64_t inode_of(int fd) {
        struct stat st;

        require(fstat(fd, &st) == 0);
        return st.st_ino;
}

static void answer_raw(int to, int64_t r, const void *data, uint32_t size, uint32_t claimed, const int *fds, unsigned n_fds,
                       unsigned claimed_fds) {
        struct sim_reply reply = { r, claimed, claimed_fds };
        struct iovec iov[] = { { &reply, sizeof(reply) }, { (void *) (uintptr_t) data, size } };
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * 8)];
        } control = {};
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

        if (n_fds > 0) {
                m.msg_control = &control;
                m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
                CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
                CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, sizeof(int) * n_fds);
        }
        check(sendmsg(to, &m, MSG_NOSIGNAL) >= 0);
}

static void answer(int to, int64_t r, const void *data, size_t size) {
        answer_raw(to, r, data, (uint32_t) size, (uint32_t) size, NULL, 0, 0);
}

/* A file's socket; returns the client's end. */
static int new_file(void) {
        int pair[2];

        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0 && n_listened < ARRAY_SIZE(listened));
        listened[n_listened] = (struct pollfd){ pair[0], POLLIN, 0 };
        inode[n_listened++] = inode_of(pair[1]);
        return pair[1];
}

static void answer_file(int to, int64_t r) {
        int fd = new_file();

        answer_raw(to, r, NULL, 0, 0, &fd, 1, 1);
        close(fd);
}

static void serve_open(int to, const char *path, uint64_t flags) {
        int fds[2];

        if (streq(path, "/sys/file"))
                answer_file(to, 0);
        else if (streq(path, "/sys/flags"))
                answer(to, flags == (O_RDWR | O_CLOEXEC) ? -EXFULL : -EINVAL, NULL, 0);
        else if (streq(path, "/sys/two")) {
                fds[0] = new_file();
                fds[1] = new_file();
                answer_raw(to, 0, NULL, 0, 0, fds, 2, 2);
                close(fds[0]);
                close(fds[1]);
        } else if (streq(path, "/sys/none"))
                answer(to, 0, NULL, 0);
        else if (streq(path, "/sys/failed")) {
                fds[0] = new_file();
                answer_raw(to, -EBUSY, NULL, 0, 0, fds, 1, 1);
                close(fds[0]);
        } else if (streq(path, "/sys/liar")) {
                fds[0] = new_file();
                answer_raw(to, 0, NULL, 0, 0, fds, 1, 3);
                close(fds[0]);
        } else if (streq(path, "/sys/size"))
                answer_raw(to, 0, "abc", 3, 5, NULL, 0, 0);
        else if (streq(path, "/sys/little"))
                check(send(to, "abc", 3, 0) == 3);
        else if (streq(path, "/sys/slow")) {
                (void) usleep(200000);
                answer_file(to, 0);
        } else if (!streq(path, "/sys/nothing"))
                answer(to, -ENOENT, NULL, 0);
}

static void serve_list(int to, const char *path, uint64_t first) {
        char names[4096];
        size_t n = 0;

        if (streq(path, "/sys/many")) {
                for (unsigned i = (unsigned) first; i < MANY && n + 16 < sizeof(names); i++)
                        n += (size_t) sprintf(names + n, "name-%04u", MANY - 1 - i) + 1;
                answer(to, (int64_t) (MANY - first), names, n);
        } else if (streq(path, "/sys/empty"))
                answer(to, 0, NULL, 0);
        else if (streq(path, "/sys/endless"))
                answer(to, 7, NULL, 0);
        else if (streq(path, "/sys/unterminated"))
                answer(to, 1, "abc", 3);
        else
                answer(to, -ENOTDIR, NULL, 0);
}

static void serve_ioctl(int to, const struct sim_request *q, const uint8_t *payload, const int *fds) {
        static uint8_t bytes[SIM_PAYLOAD_MAX];
        struct sim_ioctl io;
        size_t size;
        int fd, r;

        r = sim_ioctl_unpack(q->a, q->b, payload, q->size, fds, q->fds, &io);
        if (r < 0) {
                answer(to, r, NULL, 0);
                return;
        }
        r = 0;
        if (q->a == TDI_KVM_CREATE_VM) {
                fd = new_file();
                answer_raw(to, 0, NULL, 0, 0, &fd, 1, 1);
                close(fd);
                sim_ioctl_done(&io);
                return;
        }
        if (q->a == TDI_KVM_CHECK_EXTENSION)
                r = (int) io.value;
        if (q->a == TDI_VFIO_DEVICE_BIND_IOMMUFD)
                ((struct tdi_vfio_device_bind_iommufd *) (void *) io.arg)->out_devid = 3;
        require(sim_ioctl_answer(&io, bytes, sizeof(bytes), &size) == 0);
        sim_ioctl_done(&io);
        answer(to, r, bytes, size);
}

static void serve_close(int to, unsigned at) {
        struct pollfd p = { listened[at].fd, POLLIN, 0 };
        char byte;

        /* As the simulation does: the descriptor is closed when the byte comes. */
        check(recv(to, &byte, 1, 0) == 1);
        check(poll(&p, 1, 0) >= 0);
        close_was_last = (p.revents & POLLHUP) != 0;
        (void) usleep(50000);
        answer(to, p.revents & POLLHUP ? -EOWNERDEAD : 0, NULL, 0);
}

static void serve(unsigned at, int to, const struct sim_request *q, uint8_t *payload, const int *fds) {
        static uint8_t bytes[SIM_PAYLOAD_MAX];
        const char *text = (const char *) payload;
        uint64_t left;
        int fd;

        payload[q->size] = '\0';
        n_calls++;
        (void) pthread_mutex_lock(&seen_lock);
        if (q->op <= SIM_LIST)
                strcpy(last_path, text);
        (void) pthread_mutex_unlock(&seen_lock);
        if (q->fds > 0)
                seen_inode = inode_of(fds[0]);
        switch ((enum sim_op) q->op) {
        case SIM_OPEN:
                serve_open(to, text, q->a);
                break;
        case SIM_READLINK:
                if (streq(text, "/sys/link"))
                        answer(to, 0, "../target", 9);
                else
                        answer(to, -EINVAL, NULL, 0);
                break;
        case SIM_LIST:
                serve_list(to, text, q->a);
                break;
        case SIM_IDENTIFY:
                for (unsigned i = 0; i < n_listened; i++)
                        if (inode[i] == q->a) {
                                answer(to, 0, SPLICED, strlen(SPLICED));
                                return;
                        }
                answer(to, -ENOENT, NULL, 0);
                break;
        case SIM_ADDRESS:
                answer(to, streq(text, "eth0") ? 1 : streq(text, "eth1") ? 0 : -ENODEV, NULL, 0);
                break;
        case SIM_UEVENTS:
                fd = new_file();
                answer_raw(to, 0, NULL, 0, 0, &fd, 1, 1);
                check(send(listened[n_listened - 1].fd, "ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=pci", 44, 0) == 44);
                check(send(listened[n_listened - 1].fd, SIM_UEVENT_LOST, strlen(SIM_UEVENT_LOST), 0) > 0);
                close(fd);
                break;
        case SIM_CLOSE:
                serve_close(to, at);
                break;
        case SIM_PREAD:
                left = q->a < FILE_SIZE ? FILE_SIZE - q->a : 0;
                left = q->b < left ? q->b : left;
                for (size_t i = 0; i < left; i++)
                        bytes[i] = byte_at(q->a + i);
                if (q->a >= UINT32_MAX) /* more bytes than it says */
                        answer(to, 1, "ab", 2);
                else
                        answer(to, (int64_t) left, bytes, left);
                break;
        case SIM_PWRITE:
                for (size_t i = 0; i < q->size; i++)
                        check(payload[i] == byte_at(q->a + i));
                if (q->a >= UINT32_MAX)
                        answer(to, q->size + 1, NULL, 0);
                else
                        answer(to, q->a >= 2UL * SIM_TRANSFER_MAX ? 10 : q->size, NULL, 0);
                break;
        case SIM_IOCTL:
                serve_ioctl(to, q, payload, fds);
                break;
        default:
                answer(to, -ENOSYS, NULL, 0);
        }
}

static bool receive(unsigned at) {
        static uint8_t payload[SIM_PAYLOAD_MAX + 1];
        struct sim_request q;
        struct iovec iov[] = { { &q, sizeof(q) }, { payload, SIM_PAYLOAD_MAX } };
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * (1 + SIM_FDS_MAX))];
        } control;
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control) };
        int fds[1 + SIM_FDS_MAX];
        ssize_t n;

        n = recvmsg(listened[at].fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n <= 0)
                return false;
        require((size_t) n >= sizeof(q) && q.magic == SIM_MAGIC && q.size == (size_t) n - sizeof(q));
        require(CMSG_FIRSTHDR(&m) && CMSG_FIRSTHDR(&m)->cmsg_len == CMSG_LEN(sizeof(int) * (1 + q.fds)));
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int) * (1 + q.fds));
        serve(at, fds[0], &q, payload, fds + 1);
        for (unsigned i = 0; i <= q.fds; i++)
                close(fds[i]);
        return true;
}

static void *server(_unused_ void *unused) {
        for (;;) {
                require(poll(listened, n_listened, -1) > 0);
                if (listened[1].revents)
                        return NULL;
                if (listened[0].revents) {
                        require((listened[n_listened].fd = accept4(listened[0].fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
                        listened[n_listened++].events = POLLIN;
                }
                for (unsigned i = 2; i < n_listened; i++)
                        if (listened[i].revents && !receive(i)) {
                                close(listened[i].fd);
                                listened[i].fd = -1;
                        }
        }
}

static void server_start(void) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd;

        snprintf(a.sun_path, sizeof(a.sun_path), "%s/sock", dir);
        snprintf(spec, sizeof(spec), "sim:%s", a.sun_path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        require(fd >= 0 && bind(fd, (struct sockaddr *) &a, sizeof(a)) == 0 && listen(fd, 5) == 0);
        listened[0] = (struct pollfd){ fd, POLLIN, 0 };
        listened[1] = (struct pollfd){ eventfd(0, EFD_CLOEXEC), POLLIN, 0 };
        n_listened = 2;
        require(pthread_create(&server_thread, NULL, server, NULL) == 0);
}

/* Everything that it holds is closed, as by the death of a process. */
static void server_end(void) {
        require(eventfd_write(listened[1].fd, 1) == 0);
        require(pthread_join(server_thread, NULL) == 0);
        for (unsigned i = 0; i < n_listened; i++)
                if (listened[i].fd >= 0)
                        close(listened[i].fd);
}

/* ---- the host ---- */

static int open_file(void) {
        int fd = host_open(host, "/sys/file", O_RDWR);

        require(fd >= 0);
        return fd;
}

static void test_new(void) {
        char path[200];
        TdiHost *h = NULL;
        int fd;

        snprintf(path, sizeof(path), "sim:%s/absent", dir);
        check_int(tdi_host_new(path, &h), -ENOENT);
        snprintf(path, sizeof(path), "sim:/%0150d", 1);
        check_int(tdi_host_new(path, &h), -ENAMETOOLONG);
        snprintf(path, sizeof(path), "sim:%s/file", dir);
        test_write_file(path + 4, "", 0);
        check_int(tdi_host_new(path, &h), -ECONNREFUSED);
        check(!h);
        check_str(host->ops->name, "sim");
        fd = open_file();
        check_int(fcntl(fd, F_GETFD), FD_CLOEXEC);
        check_int(host_close(host, fd), -EOWNERDEAD);
}

static void test_open(void) {
        static const struct {
                const char *path;
                int expected;
        } cases[] = {
                { "/sys/absent", -ENOENT }, { "/sys/flags", -EXFULL }, { "/sys/two", -EPROTO }, { "/sys/none", -EPROTO },
                { "/sys/failed", -EPROTO }, { "/sys/liar", -EPROTO }, { "/sys/size", -EPROTO }, { "/sys/little", -EPROTO },
                { "/sys/nothing", -EIO },
        };
        unsigned fds;

        /* The server's ends are this process's too. */
        (void) usleep(100000);
        fds = test_count_fds();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("%s", cases[i].path);
                check_int(host_open(host, cases[i].path, O_RDWR), cases[i].expected);
        }
        test_about("descriptors");
        for (unsigned i = 0; i < 100 && test_count_fds() > fds; i++)
                (void) usleep(10000);
        check_int(test_count_fds(), fds);
}

static const char *seen_path(void) {
        static char copy[sizeof(last_path)];

        (void) pthread_mutex_lock(&seen_lock);
        strcpy(copy, last_path);
        (void) pthread_mutex_unlock(&seen_lock);
        return copy;
}

static void forget_path(void) {
        (void) pthread_mutex_lock(&seen_lock);
        last_path[0] = '\0';
        (void) pthread_mutex_unlock(&seen_lock);
}

/* Which kernel a path belongs to. */
static void test_whose(void) {
        static const char *const simulated[] = { "/sys/absent", "/dev/iommu", "/proc/1/mountinfo", "/proc/swaps",
                                                 "/proc/sys/kernel/random/boot_id", "/proc/mounts", "/proc/selfish", "/proc/12x/status",
                                                 "/processes", "/proc/net" };
        static const char *const real[] = { "/proc/self/status", "/proc/self/fdinfo/0", "/proc/1/comm" };
        _cleanup_(host_names_freep) char **names = NULL;
        char text[64], own[32];
        bool found = false;
        int fd;

        for (size_t i = 0; i < ARRAY_SIZE(simulated); i++) {
                test_about("%s", simulated[i]);
                forget_path();
                check_int(host_open(host, simulated[i], O_RDONLY), -ENOENT);
                check_str(seen_path(), simulated[i]);
                check_int(host_list(host, simulated[i], &names), -ENOTDIR);
                check_int(host_readlink(host, simulated[i], text, sizeof(text)), -EINVAL);
        }
        forget_path();
        for (size_t i = 0; i < ARRAY_SIZE(real); i++) {
                test_about("%s", real[i]);
                fd = host_open(host, real[i], O_RDONLY);
                check(fd >= 0);
                check(host_pread(host, fd, text, sizeof(text), 0) > 0);
                check_int(host_ioctl(host, fd, TDI_KVM_GET_API_VERSION, NULL), -ENOTTY);
                check(host_pwrite(host, fd, "x", 1, 0) < 0);
                check_int(host_close(host, fd), 0);
        }
        test_about("/proc");
        check_int(host_list(host, "/proc", &names), 0);
        snprintf(own, sizeof(own), "%d", (int) getpid());
        for (char **n = names; n && *n; n++)
                found |= streq(*n, own);
        check(found);
        check_str(seen_path(), "");
        test_about("text");
        check(host_read_text(host, "/proc/self/comm", text, sizeof(text)) > 0);
}

static void test_transfer(void) {
        _cleanup_free_ uint8_t *buf = malloc(FILE_SIZE + 10);
        unsigned calls;
        int fd;

        test_about("pread");
        require(buf);
        fd = open_file();
        calls = n_calls;
        check_int(host_pread(host, fd, buf, FILE_SIZE + 10, 0), FILE_SIZE);
        check_int(n_calls - calls, 4);
        for (size_t i = 0; i < FILE_SIZE; i++)
                if (!check(buf[i] == byte_at(i)))
                        break;
        check_int(host_pread(host, fd, buf, 100, FILE_SIZE - 10), 10);
        check_int(host_pread(host, fd, buf, 100, FILE_SIZE), 0);
        check_int(host_pread(host, fd, buf, 0, 0), 0);
        check_int(host_pread(host, fd, buf, 100, UINT32_MAX), -EPROTO);
        test_about("pwrite");
        for (size_t i = 0; i < FILE_SIZE; i++)
                buf[i] = byte_at(i);
        check_int(host_pwrite(host, fd, buf, 5, 0), 5);
        check_int(host_pwrite(host, fd, buf, FILE_SIZE, 0), 2 * SIM_TRANSFER_MAX + 10);
        check_int(host_pwrite(host, fd, "", 0, 0), 0);
        buf[0] = byte_at(UINT32_MAX);
        check_int(host_pwrite(host, fd, buf, 1, UINT32_MAX), -EPROTO);
        check_int(host_close(host, fd), -EOWNERDEAD);
        test_about("no descriptor");
        check_int(host_pread(host, NO_FD, buf, 1, 0), -EBADF);
        check_int(host_pwrite(host, NO_FD, buf, 1, 0), -EBADF);
        check_int(host_ioctl(host, NO_FD, TDI_KVM_GET_API_VERSION, NULL), -EBADF);
        check_int(host_close(host, NO_FD), -EBADF);
        check_int(host_close(host, -EBADF), -EBADF);
}

static void test_names(void) {
        _cleanup_(host_names_freep) char **names = NULL;
        char buf[64], expected[16];
        unsigned n = 0;

        check_int(host_list(host, "/sys/many", &names), 0);
        for (; names && names[n]; n++) {
                snprintf(expected, sizeof(expected), "name-%04u", n);
                if (!check_str(names[n], expected))
                        break;
        }
        check_int(n, MANY);
        names = host_names_free(names);
        check_int(host_list(host, "/sys/empty", &names), 0);
        check(names && !names[0]);
        names = host_names_free(names);
        check_int(host_list(host, "/sys/endless", &names), -EPROTO);
        check_int(host_list(host, "/sys/unterminated", &names), -EPROTO);
        check_int(host_readlink(host, "/sys/link", buf, sizeof(buf)), 9);
        check_str(buf, "../target");
        check_int(host_readlink(host, "/sys/link", buf, 10), 9);
        check_int(host_readlink(host, "/sys/link", buf, 9), -ENAMETOOLONG);
        check_int(host_read_link_name(host, "/sys/link", buf, sizeof(buf)), 0);
        check_str(buf, "target");
}

static void test_identify(void) {
        char what[64], path[64], expected[64];
        struct stat st;
        int fd, pair[2];
        uint64_t ino;

        test_about("simulated");
        fd = open_file();
        check_int(host_identify(host, fd, what, sizeof(what)), 0);
        check_str(what, SPLICED);
        check_int(host_identify(host, fd, what, 5), -ENAMETOOLONG);
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int) getpid(), fd);
        check_int(host_readlink(host, path, what, sizeof(what)), (int) strlen(SPLICED));
        check_str(what, SPLICED);
        check_int(host_close(host, fd), -EOWNERDEAD);
        check_int(host_identify(host, NO_FD, what, sizeof(what)), -ENOENT);

        test_about("a stranger's socket");
        require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        check_int(host_identify(host, pair[0], what, sizeof(what)), 0);
        snprintf(expected, sizeof(expected), "socket:[%llu]", (unsigned long long) inode_of(pair[0]));
        check_str(what, expected);
        check_int(host_pwrite(host, pair[0], "x", 1, 0), -EBADF);
        check_int(host_pread(host, pair[0], what, 1, 0), -EBADF);
        check_int(host_ioctl(host, pair[0], TDI_KVM_GET_API_VERSION, NULL), -ENOTTY);
        check_int(host_close(host, pair[0]), 0);
        check_int(recv(pair[1], what, 1, MSG_DONTWAIT), 0);
        close(pair[1]);

        test_about("a stranger's memory");
        fd = memfd_create("x", MFD_CLOEXEC);
        require(fd >= 0 && ftruncate(fd, 10) == 0);
        check_int(host_identify(host, fd, what, sizeof(what)), 0);
        check_str(what, "/memfd:x (deleted)");
        check_int(host_pwrite(host, fd, "x", 1, 0), -EBADF);
        check_int(host_pread(host, fd, what, 1, 0), -EBADF);
        ino = inode_of(fd);
        check_int(host_close(host, fd), 0);
        check(fstat(fd, &st) < 0 || st.st_ino != ino);
}

static void test_close(void) {
        struct timeval began, ended;
        struct stat st;
        int fd, copy;
        uint64_t ino;

        test_about("one copy of two");
        fd = open_file();
        copy = fd_dup(fd);
        ino = inode_of(fd);
        gettimeofday(&began, NULL);
        check_int(host_close(host, fd), 0);
        gettimeofday(&ended, NULL);
        check((ended.tv_sec - began.tv_sec) * 1000000 + ended.tv_usec - began.tv_usec >= 50000);
        check(!close_was_last);
        check(fstat(fd, &st) < 0 || st.st_ino != ino);
        test_about("the last");
        check_int(host_close(host, copy), -EOWNERDEAD);
        check(close_was_last);
}

static void test_ioctl(void) {
        struct tdi_vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
        int fd, event, vm;

        fd = open_file();
        check_int(host_ioctl(host, fd, TDI_KVM_CHECK_EXTENSION, (void *) 233), 233);
        check_int(host_ioctl(host, fd, 0x3b97, &bind), -ENOTTY);
        check_int(host_ioctl(host, fd, TDI_VFIO_DEVICE_BIND_IOMMUFD, NULL), -EFAULT);
        event = eventfd(0, EFD_CLOEXEC);
        bind.iommufd = event;
        check_int(host_ioctl(host, fd, TDI_VFIO_DEVICE_BIND_IOMMUFD, &bind), 0);
        check_int(bind.out_devid, 3);
        check_int(bind.iommufd, event);
        check_int(seen_inode, inode_of(event));
        bind.iommufd = 999;
        check_int(host_ioctl(host, fd, TDI_VFIO_DEVICE_BIND_IOMMUFD, &bind), -EBADF);
        vm = host_ioctl(host, fd, TDI_KVM_CREATE_VM, NULL);
        check(vm >= 0);
        check_int(fcntl(vm, F_GETFD), FD_CLOEXEC);
        check_int(host_close(host, vm), -EOWNERDEAD);
        check_int(host_close(host, fd), -EOWNERDEAD);
        close(event);
}

/* A descriptor is used by whoever has it, over a connection or not. */
static void test_passing(void) {
        int fd = open_file(), flags, status;
        uint8_t byte = 0;
        pid_t pid;

        test_about("another process");
        pid = fork();
        require(pid >= 0);
        if (pid == 0)
                _exit(host_pread(host, fd, &byte, 1, 77) == 1 && byte == byte_at(77) ? 0 : 1);
        check(waitpid(pid, &status, 0) == pid && status == 0);
        test_about("somebody made it non-blocking");
        flags = fcntl(fd, F_GETFL);
        check(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
        check_int(host_pread(host, fd, &byte, 1, 0), 1);
        check_int(host_close(host, fd), -EOWNERDEAD);
}

static void on_alarm(_unused_ int signal) {
}

static void test_interrupted(void) {
        struct itimerval often = { { 0, 5000 }, { 0, 5000 } }, never = {};
        struct sigaction action = { .sa_handler = on_alarm };
        int fd;

        require(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
        fd = host_open(host, "/sys/slow", O_RDONLY);
        check(fd >= 0);
        require(setitimer(ITIMER_REAL, &never, NULL) == 0);
        check_int(host_close(host, fd), -EOWNERDEAD);
}

static void test_events(void) {
        struct tdi_uevent ev;
        int fd, r;

        check_int(host_address_present(host, "eth0"), 1);
        check_int(host_address_present(host, "eth1"), 0);
        check_int(host_address_present(host, "eth2"), -ENODEV);
        fd = host_uevent_open(host);
        check(fd >= 0);
        check(fcntl(fd, F_GETFL) & O_NONBLOCK);
        while ((r = host_uevent_read(host, fd, &ev)) == -EAGAIN)
                (void) usleep(1000);
        check_int(r, 0);
        check_str(ev.action, "add");
        check_str(ev.devpath, "/devices/x");
        check_str(ev.subsystem, "pci");
        while ((r = host_uevent_read(host, fd, &ev)) == -EAGAIN)
                (void) usleep(1000);
        check_int(r, -ENOBUFS);
        check_int(host_uevent_read(host, fd, &ev), -EAGAIN);
        close(fd);
}

static void test_gone(void) {
        _cleanup_(host_names_freep) char **names = NULL;
        struct tdi_uevent ev;
        char what[64];
        uint8_t byte;
        int fd, events;

        test_about("the simulation has ended");
        fd = open_file();
        events = host_uevent_open(host);
        server_end();
        check_int(host_pread(host, fd, &byte, 1, 0), -EIO);
        check_int(host_pwrite(host, fd, "x", 1, 0), -EIO);
        check_int(host_ioctl(host, fd, TDI_KVM_GET_API_VERSION, NULL), -EIO);
        check_int(host_open(host, "/sys/file", O_RDWR), -EIO);
        check_int(host_list(host, "/sys/many", &names), -EIO);
        check_int(host_readlink(host, "/sys/link", what, sizeof(what)), -EIO);
        check_int(host_identify(host, fd, what, sizeof(what)), -EIO);
        check_int(host_uevent_open(host), -EIO);
        check_int(host_uevent_read(host, events, &ev), 0);
        check_int(host_uevent_read(host, events, &ev), -ENOBUFS);
        check_int(host_uevent_read(host, events, &ev), -EIO);
        check_int(host_close(host, fd), -EIO);
        check_int(close(fd), -1);
        close(events);
}

int main(void) {
        unsigned fds;

        fds = test_count_fds();
        test_make_dir(dir);
        server_start();
        require(tdi_host_new(spec, &host) == 0);
        test_new();
        test_open();
        test_whose();
        test_transfer();
        test_names();
        test_identify();
        test_close();
        test_ioctl();
        test_passing();
        test_interrupted();
        test_events();
        test_gone();
        tdi_host_free(host);
        test_about("at the end");
        check_int(test_count_fds(), fds);
        test_remove_dir(dir);
        return test_end();
}
