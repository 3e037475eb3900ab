/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host around another one, for tests: `trace:FOLDER:SPEC` does what SPEC does and writes every call as one line of JSON to
 * FOLDER/PID.jsonl. It changes no answer.
 *
 * A file is told from others by a mark that travels with the open file through fork(), dup() and SCM_RIGHTS: the signal of
 * F_SETSIG and the kind of owner of F_SETOWN_EX, to whom nothing is sent while O_ASYNC is off. It counts from 1 to 192 and round again,
 * over all processes that trace into the folder; together with the file's name that is enough to follow it.
 *
 * A call that changes something also has a line before it ("begin"): what was under way when its process died is known then.
 */
#include "host/host.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "sim/marshal-table.h"
#include "sim/marshal.h"
#include "sim/protocol.h"

#define DATA_MAX 4096
#define PACKED_MAX SIM_PAYLOAD_MAX
#define SIGNALS 64
#define MARKS (SIGNALS * 3)

struct trace_host {
        TdiHost host;
        struct tdi_host_ops ops; /* ours, with the other's name */
        TdiHost *inner;
        char *folder;
        pthread_mutex_t lock; /* of out and pid */
        pid_t pid;
        int out;
        uint32_t *count; /* shared by all processes of the folder */
};

/* One line, being written. */
struct line {
        FILE *file;
        char *text;
        size_t size;
};

static struct trace_host *trace_of(TdiHost *host) {
        return (struct trace_host *) (void *) host;
}

static unsigned long long now(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (unsigned long long) ts.tv_sec * 1000000000ULL + (unsigned long long) ts.tv_nsec;
}

/* The file of this process: after a fork the child has one of its own. */
static int out_of(struct trace_host *t) {
        char path[4096];

        if (t->out >= 0 && t->pid == getpid())
                return t->out;
        t->out = close_fd(t->out);
        t->pid = getpid();
        if (snprintf(path, sizeof(path), "%s/%d.jsonl", t->folder, t->pid) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        t->out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        return t->out < 0 ? -errno : t->out;
}

static void put_text(FILE *f, const char *key, const char *text, size_t n) {
        fprintf(f, ",\"%s\":\"", key);
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char) text[i];

                if (c == '"' || c == '\\')
                        fprintf(f, "\\%c", c);
                else if (c < 0x20 || c >= 0x7f)
                        fprintf(f, "\\u%04x", c);
                else
                        fputc(c, f);
        }
        fputc('"', f);
}

static void put_hex(FILE *f, const char *key, const void *data, size_t n) {
        const uint8_t *p = data;

        fprintf(f, ",\"%s\":\"", key);
        for (size_t i = 0; i < n; i++)
                fprintf(f, "%02x", p[i]);
        fputc('"', f);
}

/* Bytes as text where they are text: what sysfs says is read by people, too. */
static void put_data(FILE *f, const void *data, size_t n) {
        const char *p = data;
        size_t i = 0;

        n = n < DATA_MAX ? n : DATA_MAX;
        while (i < n && ((p[i] >= 0x20 && p[i] < 0x7f) || p[i] == '\n' || p[i] == '\t'))
                i++;
        if (i == n)
                put_text(f, "text", p, n);
        else
                put_hex(f, "data", data, n);
}

/* 0: none yet; -1: no descriptor. The owner's kinds (F_OWNER_TID, _PID, _PGRP) are 0 to 2. */
static int get_mark(int fd) {
        struct f_owner_ex owner = {};
        int sig;

        sig = fcntl(fd, F_GETSIG);
        if (sig > 0)
                (void) fcntl(fd, F_GETOWN_EX, &owner);
        return sig > 0 ? sig + SIGNALS * (int) owner.type : sig;
}

static int set_mark(struct trace_host *t, int fd) {
        uint32_t n = __atomic_fetch_add(t->count, 1, __ATOMIC_RELAXED) % MARKS;
        struct f_owner_ex owner = { .type = (int) (n / SIGNALS), .pid = 1 };

        (void) fcntl(fd, F_SETSIG, (int) (n % SIGNALS) + 1);
        (void) fcntl(fd, F_SETOWN_EX, &owner);
        return (int) n + 1;
}

/* Which file that is: number, mark, name. One that has no mark yet came from somebody who does not trace: "foreign". */
static void put_file(struct trace_host *t, FILE *f, int fd) {
        char what[4200] = "?";
        struct stat st = {};
        int sig;

        sig = get_mark(fd);
        if (sig < 0) {
                fprintf(f, "\"fd\":%d,\"mark\":-1,\"what\":\"?\"", fd);
                return;
        }
        (void) host_identify(t->inner, fd, what, sizeof(what));
        (void) fstat(fd, &st);
        fprintf(f, "\"fd\":%d", fd);
        if (sig == 0) {
                sig = set_mark(t, fd);
                fprintf(f, ",\"foreign\":true");
        }
        fprintf(f, ",\"mark\":%d,\"ino\":%llu", sig, (unsigned long long) st.st_ino);
        put_text(f, "what", what, strlen(what));
        if (startswith(what, "/memfd:"))
                fprintf(f, ",\"length\":%lld,\"seals\":%d", (long long) st.st_size, fcntl(fd, F_GET_SEALS));
}

static void put_made(struct trace_host *t, FILE *f, int fd) {
        (void) set_mark(t, fd);
        fprintf(f, ",\"made\":{");
        put_file(t, f, fd);
        fprintf(f, "}");
}

/* Without memory for a line there is no trace: the test that reads it would be wrong about everything that follows. */
static void begin_line(struct line *l, const char *op) {
        l->file = open_memstream(&l->text, &l->size);
        if (!l->file)
                abort();
        fprintf(l->file, "{\"op\":\"%s\"", op);
}

static void put_on(struct trace_host *t, struct line *l, int fd) {
        fputc(',', l->file);
        put_file(t, l->file, fd);
}

static void write_line(struct trace_host *t, struct line *l) {
        ssize_t n;
        int fd;

        pthread_mutex_lock(&t->lock);
        fd = out_of(t);
        n = fd < 0 ? -1 : write(fd, l->text, l->size);
        pthread_mutex_unlock(&t->lock);
        if (n != (ssize_t) l->size)
                abort();
}

/* A line of its own before the call; what it says so far is said again after it. */
static void announce(struct trace_host *t, struct line *l) {
        _cleanup_free_ char *copy = NULL;
        struct line before;

        fflush(l->file);
        copy = strndup(l->text, l->size);
        if (!copy)
                abort();
        before.size = 0;
        before.text = NULL;
        if (asprintf(&before.text, "%s,\"begin\":%llu}\n", copy, now()) < 0)
                abort();
        before.size = strlen(before.text);
        write_line(t, &before);
        free(before.text);
}

static void end_line(struct trace_host *t, struct line *l, unsigned long long begin, long long r) {
        int saved = errno;

        fprintf(l->file, ",\"r\":%lld,\"t0\":%llu,\"t1\":%llu}\n", r, begin, now());
        fclose(l->file);
        write_line(t, l);
        free(l->text);
        errno = saved;
}

static int trace_open(TdiHost *host, const char *path, int flags) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin;
        struct line l;
        int fd;

        begin_line(&l, "open");
        put_text(l.file, "path", path, strlen(path));
        fprintf(l.file, ",\"flags\":%d", flags);
        if (startswith(path, "/dev/"))
                announce(t, &l);
        begin = now();
        fd = host_open(t->inner, path, flags);
        if (fd >= 0)
                put_made(t, l.file, fd);
        end_line(t, &l, begin, fd);
        return fd;
}

static int trace_close(TdiHost *host, int fd) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin;
        char what[128] = "";
        struct line l;
        int r;

        begin_line(&l, "close");
        put_on(t, &l, fd);
        (void) host_identify(t->inner, fd, what, sizeof(what));
        if (!startswith(what, "/sys/") && !startswith(what, "/proc/"))
                announce(t, &l);
        begin = now();
        r = host_close(t->inner, fd);
        end_line(t, &l, begin, r);
        return r;
}

static ssize_t trace_pread(TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin;
        struct line l;
        ssize_t n;

        begin_line(&l, "pread");
        put_on(t, &l, fd);
        fprintf(l.file, ",\"size\":%zu,\"offset\":%llu", size, (unsigned long long) offset);
        begin = now();
        n = host_pread(t->inner, fd, buf, size, offset);
        if (n > 0)
                put_data(l.file, buf, (size_t) n);
        end_line(t, &l, begin, n);
        return n;
}

static ssize_t trace_pwrite(TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin;
        struct line l;
        ssize_t n;

        begin_line(&l, "pwrite");
        put_on(t, &l, fd);
        fprintf(l.file, ",\"size\":%zu,\"offset\":%llu", size, (unsigned long long) offset);
        put_data(l.file, buf, size);
        announce(t, &l);
        begin = now();
        n = host_pwrite(t->inner, fd, buf, size, offset);
        end_line(t, &l, begin, n);
        return n;
}

static ssize_t trace_readlink(TdiHost *host, const char *path, char *buf, size_t size) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin = now();
        struct line l;
        ssize_t n;

        begin_line(&l, "readlink");
        put_text(l.file, "path", path, strlen(path));
        n = host_readlink(t->inner, path, buf, size);
        if (n > 0)
                put_text(l.file, "text", buf, (size_t) n);
        end_line(t, &l, begin, n);
        return n;
}

static int trace_list(TdiHost *host, const char *path, char ***ret) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin = now();
        struct line l;
        int r;

        begin_line(&l, "list");
        put_text(l.file, "path", path, strlen(path));
        r = host_list(t->inner, path, ret);
        if (r >= 0) {
                const char *separator = "";

                fprintf(l.file, ",\"names\":[");
                for (char **n = *ret; *n; n++, separator = ",")
                        fprintf(l.file, "%s\"%s\"", separator, *n);
                fprintf(l.file, "]");
        }
        end_line(t, &l, begin, r);
        return r;
}

/* The descriptor that a call made, or -1; and which bytes of the struct have its number. */
static int made_by(unsigned long request, const uint8_t *arg, int r, size_t *ret_at) {
        const struct sim_row *row = sim_row_find(request);
        int32_t fd;

        *ret_at = 0;
        if (r < 0 || !row || row->makes == SIM_MAKES_NONE)
                return -1;
        if (row->makes == SIM_MAKES_MEMBER) {
                memcpy(&fd, arg + row->made_at, sizeof(fd));
                /* KVM_CREATE_DEVICE_TEST makes none. */
                if (fd <= STDERR_FILENO)
                        return -1;
                *ret_at = row->made_at;
                return fd;
        }
        /* Of the features, one makes a descriptor; another's 0 is no descriptor. */
        return r > 0 ? r : -1;
}

/* Addresses are this process's own: they become 4096. size: of the struct, which has them. */
static void hide_pointers(unsigned long request, uint8_t *packed, size_t size) {
        const struct sim_row *row = sim_row_find(request);
        const uint64_t some = 4096;
        uint64_t value;

        for (size_t i = 0; i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                size_t at = sizeof(uint32_t) + row->pointer[i].at;

                if (at + sizeof(value) > sizeof(uint32_t) + size)
                        continue;
                memcpy(&value, packed + at, sizeof(value));
                if (value)
                        memcpy(packed + at, &some, sizeof(some));
        }
}

static int trace_ioctl(TdiHost *host, int fd, unsigned long request, void *arg) {
        _cleanup_free_ uint8_t *packed = malloc(PACKED_MAX), *before = NULL;
        size_t n = 0, room = sim_ioctl_room(request, arg), made_at;
        struct trace_host *t = trace_of(host);
        int fds[SIM_IOCTL_FDS_MAX], r, k, made;
        unsigned long long begin;
        unsigned n_fds = 0;
        struct line l;

        before = malloc(room + 1);
        if (!packed || !before)
                abort();
        if (room > 0)
                memcpy(before, arg, room);
        begin_line(&l, "ioctl");
        put_on(t, &l, fd);
        fprintf(l.file, ",\"request\":%lu,\"name\":\"%s\"", request, sim_ioctl_name(request));
        k = sim_ioctl_pack(request, arg, packed, PACKED_MAX, &n, fds, &n_fds);
        if (k < 0)
                fprintf(l.file, ",\"pack\":%d", k);
        else if (n == 0)
                fprintf(l.file, ",\"value\":%llu", (unsigned long long) (uintptr_t) arg);
        else {
                hide_pointers(request, packed, room);
                put_hex(l.file, "in", packed, n);
                fprintf(l.file, ",\"fds\":[");
                for (unsigned i = 0; i < n_fds; i++) {
                        fprintf(l.file, i ? ",{" : "{");
                        put_file(t, l.file, fds[i]);
                        fprintf(l.file, "}");
                }
                fprintf(l.file, "]");
        }
        announce(t, &l);
        begin = now();
        r = host_ioctl(t->inner, fd, request, arg);
        made = made_by(request, arg, r, &made_at);
        if (made >= 0)
                put_made(t, l.file, made);
        if (k >= 0 && room > 0 && sim_ioctl_result(request, before, arg, packed, PACKED_MAX, &n) >= 0) {
                hide_pointers(request, packed, room);
                if (made >= 0 && made_at > 0) {
                        memset(packed + sizeof(uint32_t) + made_at, 0, sizeof(int32_t));
                        fprintf(l.file, ",\"made_at\":%zu", made_at);
                }
                put_hex(l.file, "out", packed, n);
        }
        end_line(t, &l, begin, r);
        return r;
}

static int trace_identify(TdiHost *host, int fd, char *buf, size_t size) {
        return host_identify(trace_of(host)->inner, fd, buf, size);
}

static int trace_address_present(TdiHost *host, const char *interface) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin = now();
        struct line l;
        int r;

        begin_line(&l, "address");
        put_text(l.file, "path", interface, strlen(interface));
        r = host_address_present(t->inner, interface);
        end_line(t, &l, begin, r);
        return r;
}

static int trace_uevent_open(TdiHost *host) {
        return host_uevent_open(trace_of(host)->inner);
}

static int trace_uevent_read(TdiHost *host, int fd, struct tdi_uevent *ret) {
        struct trace_host *t = trace_of(host);
        unsigned long long begin = now();
        struct line l;
        int r;

        r = host_uevent_read(t->inner, fd, ret);
        if (r == -EAGAIN)
                return r;
        begin_line(&l, "uevent");
        if (r >= 0) {
                put_text(l.file, "action", ret->action, strlen(ret->action));
                put_text(l.file, "subsystem", ret->subsystem, strlen(ret->subsystem));
                put_text(l.file, "devpath", ret->devpath, strlen(ret->devpath));
        }
        end_line(t, &l, begin, r);
        return r;
}

static void trace_destroy(TdiHost *host) {
        struct trace_host *t = trace_of(host);

        tdi_host_free(t->inner);
        close_fd(t->out);
        if (t->count)
                munmap(t->count, sizeof(*t->count));
        pthread_mutex_destroy(&t->lock);
        free(t->folder);
        free(t);
}

static const struct tdi_host_ops trace_ops = {
        .name = "trace",
        .destroy = trace_destroy,
        .open = trace_open,
        .close = trace_close,
        .ioctl = trace_ioctl,
        .pread = trace_pread,
        .pwrite = trace_pwrite,
        .readlink = trace_readlink,
        .list = trace_list,
        .identify = trace_identify,
        .address_present = trace_address_present,
        .uevent_open = trace_uevent_open,
        .uevent_read = trace_uevent_read,
};

static int share_count(struct trace_host *t) {
        _cleanup_close_ int fd = -EBADF;
        char path[4096];
        void *p;

        if (snprintf(path, sizeof(path), "%s/count", t->folder) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0 || ftruncate(fd, sizeof(*t->count)) < 0)
                return -errno;
        p = mmap(NULL, sizeof(*t->count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        t->count = p;
        return 0;
}

/* what: "FOLDER:SPEC". */
int tdi_host_trace_new(const char *what, TdiHost **ret) {
        const char *colon = strchr(what, ':');
        struct trace_host *t;
        int r;

        if (!colon || colon == what)
                return -EINVAL;
        t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->ops = trace_ops;
        t->host.ops = &t->ops;
        t->out = -EBADF;
        pthread_mutex_init(&t->lock, NULL);
        t->folder = strndup(what, (size_t) (colon - what));
        r = t->folder ? tdi_host_new(colon + 1, &t->inner) : -ENOMEM;
        if (r >= 0) {
                t->ops.name = t->inner->ops->name;
                r = share_count(t);
        }
        if (r < 0) {
                trace_destroy(&t->host);
                return r;
        }
        *ret = &t->host;
        return 0;
}
