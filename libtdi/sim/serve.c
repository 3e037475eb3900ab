/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each call does, and its answer. Everything here runs on a thread of the call's own. */
#include "sim/server.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sim/marshal.h"
#include "sim/pci.h"

struct answer {
        int64_t r;
        uint8_t *data;
        size_t size;
        struct sim_file *files[2]; /* references */
        unsigned n_files;
};

static const char *const op_names[] = {
        [SIM_OPEN] = "open", [SIM_READLINK] = "readlink", [SIM_LIST] = "list", [SIM_IDENTIFY] = "identify", [SIM_ADDRESS] = "address",
        [SIM_UEVENTS] = "uevents", [SIM_CONTROL] = "control", [SIM_STAT] = "stat", [SIM_FDINFO] = "fdinfo", [SIM_CLOSE] = "close", [SIM_PREAD] = "pread",
        [SIM_PWRITE] = "pwrite", [SIM_IOCTL] = "ioctl",
};

const char *op_name(uint32_t op) {
        return op < ARRAY_SIZE(op_names) && op_names[op] ? op_names[op] : "?";
}

static int answer_room(struct answer *a, size_t size) {
        a->data = malloc(size ? size : 1);
        return a->data ? 0 : -ENOMEM;
}

/* ---- calls that name a path ---- */

/* As getname(): not empty, no NUL inside, room for the NUL at the end. */
static int check_path(const struct call *k) {
        if (k->size == 0)
                return -ENOENT;
        if (k->size >= PATH_MAX)
                return -ENAMETOOLONG;
        return strlen((const char *) k->payload) == k->size ? 0 : -EINVAL;
}

static int64_t do_open(struct call *k, struct answer *a) {
        int r = check_path(k);

        if (r >= 0)
                r = tree_open(&k->c, (const char *) k->payload, (int) k->a, &a->files[0]);
        if (r < 0)
                return r;
        a->n_files = 1;
        return 0;
}

static int64_t do_readlink(struct call *k, struct answer *a) {
        int r = check_path(k);
        ssize_t n;

        if (r >= 0)
                r = answer_room(a, PATH_MAX);
        if (r < 0)
                return r;
        n = tree_readlink(k->c.sim, (const char *) k->payload, (char *) a->data, PATH_MAX);
        if (n > 0)
                a->size = (size_t) n;
        return n;
}

static int64_t do_list(struct call *k, struct answer *a) {
        struct sim_node *n;
        int r = check_path(k);

        if (r >= 0)
                r = answer_room(a, SIM_PAYLOAD_MAX);
        if (r < 0)
                return r;
        n = sim_lookup(k->c.sim, (const char *) k->payload, true, &r);
        if (!n)
                return r;
        if (n->type != SIM_DIR)
                return -ENOTDIR;
        if (k->a >= n->n_children)
                return 0;
        for (size_t i = (size_t) k->a; i < n->n_children; i++) {
                size_t len = strlen(n->children[i]->name) + 1;

                if (a->size + len > SIM_PAYLOAD_MAX)
                        break;
                memcpy(a->data + a->size, n->children[i]->name, len);
                a->size += len;
        }
        return (int64_t) (n->n_children - k->a);
}

static int64_t do_stat(struct call *k, struct answer *a) {
        struct sim_node *n;
        int r = check_path(k);

        if (r < 0)
                return r;
        n = sim_lookup(k->c.sim, (const char *) k->payload, k->a == SIM_STAT_FOLLOW, &r);
        if (!n)
                return r;
        if (k->a == SIM_STAT_FOLLOW) {
                r = answer_room(a, PATH_MAX);
                if (r < 0)
                        return r;
                node_path(n, (char *) a->data, PATH_MAX);
                a->size = strlen((char *) a->data);
        }
        return (int64_t) node_mode(n);
}

/* ---- other calls on a connection ---- */

static int64_t do_identify(struct call *k, struct answer *a) {
        struct endpoint *e = endpoint_find(k->c.sim, k->a);
        int r;

        if (!e)
                return -ENOENT;
        r = answer_room(a, sizeof(e->file->name));
        if (r < 0)
                return r;
        a->size = strlen(e->file->name);
        memcpy(a->data, e->file->name, a->size);
        return 0;
}

static int64_t do_fdinfo(struct call *k, struct answer *a) {
        struct endpoint *e = endpoint_find(k->c.sim, k->a);
        int r;

        if (!e)
                return -ENOENT;
        r = fdinfo_open(&k->c, e, &a->files[0]);
        if (r < 0)
                return r;
        a->n_files = 1;
        return 0;
}

static int64_t do_address(struct call *k) {
        struct sim_machine *m = sim_machine(k->c.sim);

        return m ? sim_users_address(m, (const char *) k->payload) : -ENODEV;
}

static int64_t do_uevents(struct call *k, struct answer *a) {
        int r = uevent_open(&k->c, &a->files[0]);

        if (r < 0)
                return r;
        a->n_files = 1;
        return 0;
}

static int64_t do_control(struct call *k, struct answer *a) {
        struct connection *connection = k->connection;
        size_t left;
        int r = 0;

        if (k->a == 0) {
                char *text = NULL;
                size_t size = 0;

                r = control_run(k, (const char *) k->payload, k->size, &text, &size);
                /* Two commands at once on one connection: each has its own first piece, the rest is of the last. */
                free(connection->answer);
                connection->answer = text;
                connection->answer_size = text ? size : 0;
        } else if (k->a > connection->answer_size)
                return -EINVAL;
        left = connection->answer_size - (size_t) k->a;
        a->size = left < SIM_PAYLOAD_MAX ? left : SIM_PAYLOAD_MAX;
        if (answer_room(a, a->size) < 0) {
                a->size = 0;
                return -ENOMEM;
        }
        if (connection->answer && a->size > 0)
                memcpy(a->data, connection->answer + k->a, a->size);
        return r < 0 ? r : (int64_t) connection->answer_size;
}

/* ---- calls on a file ---- */

/* What vfs_read() and ksys_pread64() say before the file is asked. Only files with a path of their own may be read at an offset. */
static int check_transfer(const struct sim_file *f, bool write, bool possible, uint64_t offset) {
        int mode = f->flags & O_ACCMODE;

        if ((int64_t) offset < 0)
                return -EINVAL;
        if (f->flags & O_PATH)
                return -EBADF;
        if (!possible && (f->name[0] != '/' || startswith(f->name, "/dmabuf:")))
                return -ESPIPE;
        if (mode == O_ACCMODE || mode == (write ? O_RDONLY : O_WRONLY))
                return -EBADF;
        return possible ? 0 : -EINVAL;
}

static int64_t do_pread(struct call *k, struct answer *a) {
        struct sim_file *f = k->file;
        ssize_t n;
        int r;

        r = check_transfer(f, false, f->ops->pread, k->a);
        if (r >= 0)
                r = answer_room(a, k->b < SIM_TRANSFER_MAX ? (size_t) k->b : SIM_TRANSFER_MAX);
        if (r < 0)
                return r;
        n = f->ops->pread(&k->c, f, a->data, k->b < SIM_TRANSFER_MAX ? (size_t) k->b : SIM_TRANSFER_MAX, k->a);
        if (n > 0)
                a->size = (size_t) n;
        return n;
}

static int64_t do_pwrite(struct call *k) {
        struct sim_file *f = k->file;
        int r;

        r = check_transfer(f, true, f->ops->pwrite, k->a);
        if (r < 0)
                return r;
        return f->ops->pwrite(&k->c, f, k->payload, k->size < SIM_TRANSFER_MAX ? k->size : SIM_TRANSFER_MAX, k->a);
}

/* verdict: what a fault rule wants to be answered, the argument being left as it came. */
static int64_t do_ioctl(struct call *k, struct answer *a, int verdict) {
        struct sim_file *f = k->file;
        struct sim_ioctl io = {};
        int r;

        if (f->flags & O_PATH)
                return -EBADF;
        r = sim_ioctl_unpack(k->a, k->b, k->payload, k->size, k->fds, k->n_fds, &io);
        if (r < 0)
                return verdict < 0 ? verdict : r;
        for (unsigned i = 0; i < io.n_in && i < SIM_IOCTL_FDS_MAX; i++)
                if (io.in[i].fd >= 0)
                        io.in[i].file = file_of_fd(k->c.sim, io.in[i].fd);
        r = verdict < 0 ? verdict : f->ops->ioctl ? f->ops->ioctl(&k->c, f, &io) : -ENOTTY;
        for (unsigned i = 0; i < io.n_out; i++)
                a->files[a->n_files++] = io.out[i];
        if (k->size > 0) {
                int q = answer_room(a, SIM_PAYLOAD_MAX);

                if (q >= 0)
                        q = sim_ioctl_answer(&io, a->data, SIM_PAYLOAD_MAX, &a->size);
                if (q < 0) {
                        a->size = 0;
                        r = q;
                }
        }
        sim_ioctl_done(&io);
        return r;
}

/* ---- the whole ---- */

static void describe(struct call *k) {
        const char *name = "";

        if (k->op == SIM_CLOSE)
                return;
        if (k->op == SIM_IOCTL)
                name = sim_ioctl_name(k->a);
        else if (k->file)
                name = k->file->name;
        else if (k->op != SIM_CONTROL)
                name = (const char *) k->payload;
        snprintf(k->name, sizeof(k->name), "%s", name);
        if (k->file)
                snprintf(k->device, sizeof(k->device), "%s", k->file->device);
        else if ((k->op == SIM_OPEN || k->op == SIM_READLINK || k->op == SIM_LIST || k->op == SIM_STAT) && check_path(k) >= 0 &&
                 (fault_any(k->c.sim) || trace_on(k->c.sim))) {
                struct sim_node *n = sim_lookup(k->c.sim, k->name, k->op != SIM_READLINK, NULL);

                if (n)
                        snprintf(k->device, sizeof(k->device), "%s", node_device(n));
        }
}

static int64_t perform(struct call *k, struct answer *a) {
        switch (k->op) {
        case SIM_OPEN:
                return do_open(k, a);
        case SIM_READLINK:
                return do_readlink(k, a);
        case SIM_LIST:
                return do_list(k, a);
        case SIM_IDENTIFY:
                return do_identify(k, a);
        case SIM_ADDRESS:
                return do_address(k);
        case SIM_UEVENTS:
                return do_uevents(k, a);
        case SIM_CONTROL:
                return do_control(k, a);
        case SIM_STAT:
                return do_stat(k, a);
        case SIM_FDINFO:
                return do_fdinfo(k, a);
        case SIM_CLOSE:
                /* The closer's own reference: if it is the last one, this is its close(2) that releases the file. */
                k->file = sim_file_put(&k->c, k->file);
                return 0;
        case SIM_PREAD:
                return do_pread(k, a);
        case SIM_PWRITE:
                return do_pwrite(k);
        case SIM_IOCTL:
                return do_ioctl(k, a, 0);
        default:
                return -ENOSYS;
        }
}

/* What a fault says instead. A close(2) that fails has closed all the same: filp_close(). */
static int64_t refuse(struct call *k, struct answer *a, int verdict) {
        if (k->op == SIM_CLOSE)
                (void) perform(k, a);
        else if (k->op == SIM_IOCTL)
                return do_ioctl(k, a, verdict);
        return verdict;
}

/* The client's ends of new files; what cannot be had undoes the call, as get_unused_fd_flags() does. */
static unsigned make_ends(struct call *k, struct answer *a, int fds[2]) {
        unsigned n = 0;

        for (unsigned i = 0; i < a->n_files && a->r >= 0; i++) {
                int r = endpoint_new(a->files[i], &fds[n]);

                if (r < 0)
                        a->r = r;
                else
                        n++;
        }
        if (a->r < 0)
                while (n > 0)
                        close_fd(fds[--n]);
        for (unsigned i = 0; i < n; i++) {
                struct stat st;

                if (fstat(fds[i], &st) >= 0)
                        stuck_new_fd(k->c.sim, k->c.pid, fds[i], st.st_ino);
        }
        for (unsigned i = 0; i < a->n_files; i++)
                sim_file_put(&k->c, a->files[i]);
        return n;
}

static void send_answer(int fd, const struct answer *a, const int *fds, unsigned n_fds) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * 2)];
        } control = {};
        struct sim_reply reply = { .r = a->r, .size = (uint32_t) a->size, .fds = n_fds };
        struct iovec iov[] = { { &reply, sizeof(reply) }, { a->data, a->size } };
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = a->size > 0 ? 2 : 1 };

        if (n_fds > 0) {
                struct cmsghdr *h = &control.align;

                m.msg_control = &control;
                m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                h->cmsg_level = SOL_SOCKET;
                h->cmsg_type = SCM_RIGHTS;
                h->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(h), fds, sizeof(int) * n_fds);
        }
        (void) sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void serve_call(struct call *k) {
        struct sim *sim = k->c.sim;
        struct answer a = {};
        unsigned n_fds;
        int fds[2], v;

        describe(k);
        v = fault_before(k);
        if (v == 0)
                a.r = perform(k, &a);
        else if (v < 0)
                a.r = refuse(k, &a, v);
        else if (k->op == SIM_CLOSE)
                (void) perform(k, &a);
        fault_after(k);
        n_fds = make_ends(k, &a, fds);
        trace_call(k, a.r);
        /* Before the answer: a close(2) that another thread made meanwhile may make this the last reference, and fput() runs first. */
        k->file = sim_file_put(&k->c, k->file);
        stuck_end(k);
        /* Our own copies of sockets must not be the last ones when the caller hears that it is done. */
        for (unsigned i = 0; i < k->n_fds; i++)
                close_fd(k->fds[i]);
        k->n_fds = 0;
        sim->served++;
        /* With the lock held the loop sees no call of somebody who has the new descriptors while we still have them, too. */
        if (n_fds == 0)
                sim_unlock(sim);
        if (v <= 0 && !k->silent && k->source.fd >= 0)
                send_answer(k->source.fd, &a, fds, n_fds);
        for (unsigned i = 0; i < n_fds; i++)
                close_fd(fds[i]);
        free(a.data);
        if (n_fds == 0)
                sim_lock(sim);
}
