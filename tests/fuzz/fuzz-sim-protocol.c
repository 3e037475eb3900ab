/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of what tdi-sim reads from its sockets. An input that begins with 'm' is one marshalled argument: the row of the
 * table, how many descriptors come with it, the payload. One that begins with 'p' is packets for a simulation in this process,
 * each after four bytes: where it goes and what comes with it, how many descriptors, its length. Whatever comes, every call
 * with an answer socket is answered or refused, nothing stays open, and no descriptor is lost.
 *
 * Not here: control commands, which may kill a process or write a file because their sender asks for it.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "host/abi/kvm.h"
#include "sim/marshal-table.h"
#include "sim/marshal.h"
#include "sim/server.h"

#define TO_FILE 1
#define NO_ANSWER 2
#define ODD_ANSWER 4
#define SAY_CLOSED 8
#define PASS_FILES 16
#define ROUNDS_MAX 20000

static struct sim *sim;
static int some_fd = -EBADF;
static volatile uint8_t sink;

/* ---- marshalling ---- */

static void touch(const uint8_t *p, size_t size) {
        for (size_t i = 0; i < size; i++)
                sink = (uint8_t) (sink + p[i]);
}

static void look_at(struct sim_ioctl *io) {
        const struct sim_row *row = sim_row_find(io->request);

        must(row);
        if (io->arg) {
                touch(io->arg, io->size > row->size ? io->size : row->size);
                must(io->size <= SIM_ARG_MAX);
        } else
                must(row->arg == SIM_ARG_VALUE);
        must(io->n_in <= SIM_IOCTL_FDS_MAX);
        for (unsigned i = 0; i < SIM_BLOBS_MAX; i++)
                if (io->blob[i].data)
                        touch(io->blob[i].data, io->blob[i].size);
}

static void unmarshal(const uint8_t *data, size_t size) {
        static uint8_t answer[SIM_PAYLOAD_MAX];
        const struct sim_row *row;
        int fds[SIM_IOCTL_FDS_MAX];
        struct sim_ioctl io;
        size_t n;
        int r;

        if (size < 2 || !(row = sim_row(data[0])))
                return;
        for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
                fds[i] = (int) (1000 + i);
        r = sim_ioctl_unpack(row->request, 5, data + 2, size - 2, fds, data[1] % (SIM_IOCTL_FDS_MAX + 1), &io);
        must(r == 0 || r == -EINVAL);
        if (r < 0)
                return;
        look_at(&io);
        for (unsigned i = 0; i < io.n_in; i++)
                must(io.in[i].fd == -1 || (io.in[i].fd >= 1000 && io.in[i].fd < 1000 + (int) SIM_IOCTL_FDS_MAX));
        /* A model may leave anything in the struct. */
        if (io.arg)
                memset(io.arg + row->size / 2, 0xff, row->size - row->size / 2);
        must(sim_ioctl_answer(&io, answer, sizeof(answer), &n) == 0 && n <= sizeof(answer));
        sim_ioctl_done(&io);
}

/* ---- a small machine ---- */

static ssize_t file_pread(_unused_ struct sim_call *c, _unused_ struct sim_file *f, void *buf, size_t size, _unused_ uint64_t offset) {
        memset(buf, 7, size);
        return (ssize_t) size;
}

static ssize_t file_pwrite(_unused_ struct sim_call *c, _unused_ struct sim_file *f, const void *buf, size_t size,
                           _unused_ uint64_t offset) {
        touch(buf, size);
        return (ssize_t) size;
}

static int file_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        look_at(io);
        for (unsigned i = 0; i < io->n_in; i++)
                must(io->in[i].fd == -1 || fcntl(io->in[i].fd, F_GETFD) >= 0);
        if (io->request == TDI_KVM_CREATE_VM) {
                io->out[0] = sim_file_new(c, f->ops, NULL, O_RDWR, "anon_inode:kvm-vm", "");
                if (!io->out[0])
                        return -ENOMEM;
                io->n_out = 1;
        }
        return 0;
}

static void file_release(_unused_ struct sim_call *c, _unused_ struct sim_file *f) {
}

static const struct sim_file_ops file_ops = { "fuzz", file_pread, file_pwrite, file_ioctl, file_release };

static int node_open(_unused_ struct sim_call *c, _unused_ struct sim_node *n, struct sim_file *f) {
        f->ops = &file_ops;
        return 0;
}

static ssize_t node_show(_unused_ struct sim_call *c, _unused_ struct sim_node *n, char *buf, size_t size) {
        return snprintf(buf, size, "text\n");
}

static ssize_t node_store(_unused_ struct sim_call *c, _unused_ struct sim_node *n, const char *text, size_t len) {
        must(text[len] == '\0');
        touch((const uint8_t *) text, len);
        return (ssize_t) len;
}

static const struct sim_node_ops node_ops = { .show = node_show, .store = node_store, .open = node_open };

static void boot(void) {
        must(sim_new(&sim) == 0);
        sim_lock(sim);
        (void) sim_device_node(sim_dirs(sim, "dev"), "d", &node_ops, NULL);
        (void) sim_file_node(sim_dirs(sim, "sys"), "f", 0644, &node_ops, NULL);
        (void) sim_link_text(sim_dirs(sim, "sys"), "l", "../dev/d");
        (void) sim_link_text(sim_dirs(sim, "sys"), "loop", "loop");
        sim_unlock(sim);
}

/* ---- packets ---- */

struct session {
        int connection, file, answer;
};

/* No call runs; there may be such as wait for their caller to close something, which have no thread yet. */
static bool is_idle(void) {
        const struct call *k;
        bool idle;

        sim_lock(sim);
        idle = TAILQ_EMPTY(&sim->queue) && sim->n_threads == sim->n_idle;
        TAILQ_FOREACH(k, &sim->calls, link)
                idle = idle && k->closing;
        sim_unlock(sim);
        return idle;
}

static void settle(void) {
        unsigned quiet = 0;

        for (unsigned i = 0; quiet < 3; i++) {
                must(i < ROUNDS_MAX);
                must(sim_round(sim, i < 8 ? 0 : 1) == 0);
                quiet = is_idle() ? quiet + 1 : 0;
        }
}

/* A descriptor that an answer brings is the file for what comes next. */
static void take_answer(struct session *s) {
        static uint8_t bytes[sizeof(struct sim_reply) + SIM_PAYLOAD_MAX];
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * 4)];
        } control;
        struct iovec iov = { bytes, sizeof(bytes) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        struct sim_reply reply;
        ssize_t n;

        n = recvmsg(s->answer, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n <= 0)
                return;
        must((size_t) n >= sizeof(reply) && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)));
        memcpy(&reply, bytes, sizeof(reply));
        must(reply.size == (size_t) n - sizeof(reply) && reply.r >= -4095);
        must(reply.fds == (CMSG_FIRSTHDR(&m) ? 1 : 0) && (reply.r >= 0 || reply.fds == 0));
        if (reply.fds == 1) {
                close_fd(s->file);
                memcpy(&s->file, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
        }
}

static void send_packet(struct session *s, uint8_t how, unsigned n_fds, const uint8_t *data, size_t size) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * 40)];
        } control = {};
        struct iovec iov = { (void *) (uintptr_t) data, size };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control };
        int to = how & TO_FILE && s->file >= 0 ? s->file : s->connection;
        int pair[2] = { -EBADF, -EBADF }, fds[40];
        unsigned n = 0;
        uint32_t op;

        if (to < 0)
                return;
        memcpy(&op, size >= 8 ? data + 4 : (const uint8_t *) "\0\0\0", sizeof(op));
        if (to == s->connection && op == SIM_CONTROL)
                return;
        if (!(how & NO_ANSWER)) {
                must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
                fds[n++] = how & ODD_ANSWER ? some_fd : pair[1];
        }
        while (n_fds-- > 0)
                fds[n++] = how & PASS_FILES && s->file >= 0 ? s->file : some_fd;
        if (n > 0) {
                m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
                control.align.cmsg_len = CMSG_LEN(sizeof(int) * n);
                control.align.cmsg_level = SOL_SOCKET;
                control.align.cmsg_type = SCM_RIGHTS;
                memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * n);
        } else
                m.msg_control = NULL;
        s->answer = pair[0];
        if (sendmsg(to, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
                pair[1] = close_fd(pair[1]);
                if (how & SAY_CLOSED && to == s->file) {
                        s->file = close_fd(s->file);
                        (void) send(s->answer, "", 1, MSG_NOSIGNAL);
                }
                settle();
                if (s->answer >= 0)
                        take_answer(s);
        }
        close_fd(pair[1]);
        s->answer = close_fd(s->answer);
}

static void packets(const uint8_t *data, size_t size) {
        struct session s = { -EBADF, -EBADF, -EBADF };
        int pair[2], before;
        FILE *nowhere;

        if (!sim)
                boot();
        settle();
        before = fuzz_next_fd();
        must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        s.connection = pair[0];
        must(sim_connect_take_fd(sim, pair[1]) == 0);
        while (size >= 4) {
                size_t n = data[2] | (size_t) data[3] << 8;
                uint8_t how = data[0];
                unsigned n_fds = data[1] % 36;

                data += 4;
                size -= 4;
                n = n < size ? n : size;
                send_packet(&s, how, n_fds, data, n);
                data += n;
                size -= n;
        }
        close_fd(s.connection);
        close_fd(s.file);
        must((nowhere = fopen("/dev/null", "we")));
        for (unsigned i = 0;; i++) {
                settle();
                if (sim_print_open(sim, i < 100 ? nowhere : stderr) == 0)
                        break;
                must(i < 100);
        }
        (void) fclose(nowhere);
        must(fuzz_next_fd() == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (some_fd < 0)
                must((some_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0);
        if (size > 0 && data[0] == 'm')
                unmarshal(data + 1, size - 1);
        else if (size > 0 && data[0] == 'p')
                packets(data + 1, size - 1);
        return 0;
}
