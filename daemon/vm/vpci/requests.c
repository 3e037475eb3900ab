/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests of the guest: the sockets and their thread. */
#include "vm/vpci/requests.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <tdi/request.h>

#include "log.h"
#include "vm/vpci/clock.h"
#include "vm/vpci/function.h"
#include "vm/vpci/tdisp.h"
#include "vm/vpci/thread.h"

#define LINES_PER_SECOND 50
#define SECOND 1000000000ULL
#define LABEL_MAX 80
#define CLIENTS_MAX (REQUEST_SOCKETS_MAX + REQUEST_SOCKETS_OWN)

struct asked {
        struct tdi_request_header header;
        uint8_t data[TDI_REQUEST_SIZE_MAX];
};

struct answered {
        struct tdi_answer_header header;
        uint8_t data[TDI_REQUEST_SIZE_MAX];
};

struct client {
        int fd;
        unsigned kinds;
        bool own; /* tdid's, not a guest's */
        /* An answer that its socket has no room for: it is not read from before that is gone. */
        void *answer;
        size_t answer_size;
};

struct requests {
        struct function *function;
        TdiHost *host;
        struct request_rate *rate;
        int wake;            /* eventfd: something below has changed */
        pthread_t thread;
        struct asked *asked; /* these two are the thread's */
        struct answered *answered;

        pthread_mutex_t lock; /* of what follows; nothing that sleeps is called with it held */
        bool running, stopping, changed;
        char label[LABEL_MAX];
        struct client clients[CLIENTS_MAX];
        size_t n;
        struct request_path path; /* binding -EBADF: not bound */
        bool in_kernel; /* the thread uses the binding */
        bool unbinding;
        uint64_t passed, refused, failed, delayed, nanoseconds, slowest;
        bool any;
        enum tdi_request_kind last_kind;
        int last_error;
        uint64_t last_code;
};

/* ---- one request ---- */

/* How long it has to wait, in ns; it counts when that is 0. */
static uint64_t rate_ask(struct request_rate *rate) {
        uint64_t now = now_nsec(), at, wait = 0;

        pthread_mutex_lock(&rate->lock);
        if (rate->per_second > 0) {
                at = now > SECOND && rate->next < now - SECOND ? now - SECOND : rate->next;
                if (at > now)
                        wait = at - now;
                else
                        rate->next = at + SECOND / rate->per_second;
        }
        pthread_mutex_unlock(&rate->lock);
        return wait;
}

static bool may_log(struct request_rate *rate, unsigned *ret_missed) {
        uint64_t now = now_nsec();
        bool may;

        *ret_missed = 0;
        pthread_mutex_lock(&rate->lock);
        if (now - rate->log_since > SECOND) {
                *ret_missed = rate->unlogged;
                rate->log_since = now;
                rate->logged = rate->unlogged = 0;
        }
        may = rate->logged < LINES_PER_SECOND;
        if (may)
                rate->logged++;
        else
                rate->unlogged++;
        pthread_mutex_unlock(&rate->lock);
        return may;
}

static void write_log(struct requests *r, bool own, enum tdi_request_kind kind, size_t in, size_t out, int error, uint64_t code) {
        enum tdi_tdisp target = tdi_request_target(kind);
        unsigned missed;

        if (!may_log(r->rate, &missed))
                return;
        if (missed > 0)
                log_info("VM %s: %u more requests of the guest were not logged one by one", r->label, missed);
        log_info("VM %s: %s: request of %s, %s (scope %s, %zu bytes): %s, TSM code %#llx, %zu bytes", r->label, r->function->bdf,
                 own ? "tdid" : "the guest", tdi_request_kind_to_string(kind), target == TDI_TDISP_INVALID ? "info" : "state-change", in,
                 error < 0 ? strerror(-error) : "done", (unsigned long long) code, out);
}

static bool is_stopping(struct requests *r) {
        bool stopping;

        pthread_mutex_lock(&r->lock);
        stopping = r->stopping;
        pthread_mutex_unlock(&r->lock);
        return stopping;
}

static void wait_for_rate(struct requests *r) {
        uint64_t wait;
        bool waited = false;

        while ((wait = rate_ask(r->rate)) > 0 && !is_stopping(r)) {
                (void) ppoll(&(struct pollfd){ .fd = r->wake, .events = POLLIN }, 1, &(struct timespec){ (time_t) (wait / SECOND), (long) (wait % SECOND) }, NULL);
                /* It is set again by whoever changes something while we wait. */
                (void) eventfd_read(r->wake, &(eventfd_t){ 0 });
                waited = true;
        }
        if (waited) {
                pthread_mutex_lock(&r->lock);
                r->delayed++;
                r->changed = true;
                pthread_mutex_unlock(&r->lock);
        }
}

/* A TSM that says no has changed nothing. One whose answer was lost on its way may have. */
static enum tdi_tdisp reached(enum tdi_tdisp target, int error, uint64_t code) {
        switch (error) {
        case 0:
                return code == 0 ? target : TDI_TDISP_UNKNOWN;
        case -EFAULT:
        case -EMSGSIZE:
        case -EIO:
        case -EINTR:
        case -ETIMEDOUT:
        case -ENOMEM:
                return TDI_TDISP_UNKNOWN;
        default:
                return TDI_TDISP_INVALID;
        }
}

static int pass_on(struct requests *r, const struct request_path *path, size_t in, size_t *ret_out, uint64_t *ret_code) {
        const struct tdi_request_header *q = &r->asked->header;
        struct provider_request arg = {
                .kind = (enum tdi_request_kind) q->kind,
                .op = q->op,
                .tvm_arch = path->tvm_arch,
                .in = r->asked->data,
                .in_len = (uint32_t) in,
                .out = r->answered->data,
                .out_len = q->out_max,
        };
        enum tdi_tdisp target = provider_target(&arg);
        int e;

        e = tdisp_begin(r->function, target);
        if (e < 0)
                return e;
        e = path->provider->request(r->host, path->binding, path->vdevice, &arg);
        *ret_code = arg.tsm_code;
        *ret_out = e >= 0 ? arg.out_used : 0;
        if (target != TDI_TDISP_INVALID)
                tdisp_end(r->function, reached(target, e, arg.tsm_code));
        else if (e == 0 && provider_is_report(&arg))
                tdisp_take_report(r->function, r->answered->data, arg.out_used);
        return e;
}

static int check(const struct tdi_request_header *q, size_t size, unsigned kinds) {
        if (q->size != sizeof(*q) || q->kind >= TDI_REQUEST_KIND_MAX)
                return -EINVAL;
        if (size > sizeof(struct asked) || q->out_max > TDI_REQUEST_SIZE_MAX)
                return -EMSGSIZE;
        return kinds & 1u << q->kind ? 0 : -EPERM;
}

/* Fills in the answer; its size. */
static size_t execute(struct requests *r, size_t size, unsigned kinds) {
        const struct tdi_request_header *q = &r->asked->header;
        uint64_t code = 0, begun, took = 0;
        size_t in = size - sizeof(*q), out = 0;
        struct request_path path = {};
        bool passed = false;
        int e;

        e = check(q, size, kinds);
        if (e >= 0) {
                wait_for_rate(r);
                pthread_mutex_lock(&r->lock);
                path = r->path;
                r->in_kernel = passed = path.binding >= 0 && !r->unbinding && !r->stopping;
                pthread_mutex_unlock(&r->lock);
                e = passed ? 0 : -ENOTCONN;
        }
        if (passed) {
                begun = now_nsec();
                e = pass_on(r, &path, in, &out, &code);
                took = now_nsec() - begun;
        }
        pthread_mutex_lock(&r->lock);
        r->in_kernel = false;
        r->passed += passed;
        r->refused += !passed;
        r->failed += passed && e < 0;
        r->nanoseconds += took;
        if (took > r->slowest)
                r->slowest = took;
        r->any = true;
        r->last_kind = q->kind < TDI_REQUEST_KIND_MAX ? (enum tdi_request_kind) q->kind : TDI_REQUEST_KIND_INVALID;
        r->last_error = e;
        r->last_code = code;
        pthread_mutex_unlock(&r->lock);
        r->answered->header = (struct tdi_answer_header){ sizeof(r->answered->header), e, q->id, code };
        return sizeof(r->answered->header) + out;
}

/* ---- the sockets ---- */

static void drop(struct requests *r, size_t i) {
        struct client gone;

        pthread_mutex_lock(&r->lock);
        gone = r->clients[i];
        r->clients[i] = r->clients[--r->n];
        r->changed = true;
        pthread_mutex_unlock(&r->lock);
        free(gone.answer);
        close_fd(gone.fd);
}

/* -EAGAIN: later. Anything else that is negative is the end of the socket. */
static int send_answer(int fd, const void *answer, size_t size) {
        struct iovec iov = { (void *) (uintptr_t) answer, size };
        const struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n = sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);

        return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : 0;
}

static int answer_later(struct client *c, const void *answer, size_t size) {
        c->answer = malloc(size);
        if (!c->answer)
                return -ENOMEM;
        memcpy(c->answer, answer, size);
        c->answer_size = size;
        return 0;
}

/* Negative: this socket has ended. @c is the thread's copy; what it changes of it is written back. */
static int serve_one(struct requests *r, struct client *c) {
        size_t size, n;
        ssize_t got;
        int e;

        if (c->answer) {
                e = send_answer(c->fd, c->answer, c->answer_size);
                if (e >= 0) {
                        free(c->answer);
                        c->answer = NULL;
                }
                return e == -EAGAIN ? 0 : e;
        }
        got = recv(c->fd, r->asked, sizeof(*r->asked), MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if ((size_t) got < sizeof(r->asked->header))
                return -ECONNRESET;
        size = (size_t) got;
        n = execute(r, size, c->kinds);
        e = send_answer(c->fd, r->answered, n);
        if (e == -EAGAIN)
                e = answer_later(c, r->answered, n);
        /* After the answer: nobody waits for the log. */
        write_log(r, c->own, r->last_kind, size - sizeof(r->asked->header), n - sizeof(r->answered->header), r->answered->header.error,
                  r->answered->header.tsm_code);
        return e;
}

static size_t fill_in(struct requests *r, struct pollfd p[1 + CLIENTS_MAX], struct client clients[CLIENTS_MAX]) {
        size_t n;

        pthread_mutex_lock(&r->lock);
        n = r->n;
        memcpy(clients, r->clients, n * sizeof(*clients));
        r->changed = false;
        pthread_mutex_unlock(&r->lock);
        p[0] = (struct pollfd){ .fd = r->wake, .events = POLLIN };
        for (size_t i = 0; i < n; i++)
                p[1 + i] = (struct pollfd){ .fd = clients[i].fd, .events = clients[i].answer ? POLLOUT : POLLIN };
        return n;
}

/* Others only add to the end of the list. */
static void serve_all(struct requests *r, struct pollfd p[], struct client clients[], size_t n) {
        for (size_t i = n; i > 0 && !is_stopping(r); i--) {
                bool had = clients[i - 1].answer;

                if (!p[i].revents)
                        continue;
                if (serve_one(r, &clients[i - 1]) < 0) {
                        pthread_mutex_lock(&r->lock);
                        r->clients[i - 1].answer = clients[i - 1].answer;
                        pthread_mutex_unlock(&r->lock);
                        drop(r, i - 1);
                } else if (had || clients[i - 1].answer) {
                        pthread_mutex_lock(&r->lock);
                        r->clients[i - 1] = clients[i - 1];
                        r->changed = true;
                        pthread_mutex_unlock(&r->lock);
                }
        }
}

static void *run(void *userdata) {
        struct client clients[CLIENTS_MAX];
        struct pollfd p[1 + CLIENTS_MAX];
        struct requests *r = userdata;
        bool changed = true;
        size_t n = 0;

        while (!is_stopping(r)) {
                if (changed)
                        n = fill_in(r, p, clients);
                if (poll(p, 1 + n, -1) < 0 && errno != EINTR)
                        break;
                if (p[0].revents)
                        (void) eventfd_read(r->wake, &(eventfd_t){ 0 });
                serve_all(r, p, clients, n);
                pthread_mutex_lock(&r->lock);
                changed = r->changed;
                pthread_mutex_unlock(&r->lock);
        }
        return NULL;
}

/* ---- the supervisor's side ---- */

/* With the lock. */
static int start(struct requests *r) {
        int e;

        if (r->running)
                return 0;
        r->asked = r->asked ?: malloc(sizeof(*r->asked));
        r->answered = r->answered ?: malloc(sizeof(*r->answered));
        if (!r->asked || !r->answered)
                return -ENOMEM;
        e = thread_start(&r->thread, run, r);
        r->running = e >= 0;
        return e;
}

/* With the lock. */
static size_t count(const struct requests *r, bool own) {
        size_t n = 0;

        for (size_t i = 0; i < r->n; i++)
                n += r->clients[i].own == own;
        return n;
}

int requests_add(struct requests *r, int socket, unsigned kinds, bool own, const char *label) {
        int e;

        pthread_mutex_lock(&r->lock);
        e = count(r, own) >= (own ? REQUEST_SOCKETS_OWN : REQUEST_SOCKETS_MAX) ? -ENOSPC : 0;
        if (e >= 0) {
                /* Before the thread is there; it does not change. */
                if (!r->running)
                        (void) snprintf(r->label, sizeof(r->label), "%s", label);
                e = start(r);
        }
        if (e >= 0) {
                r->clients[r->n++] = (struct client){ .fd = socket, .kinds = kinds, .own = own };
                r->changed = true;
        }
        pthread_mutex_unlock(&r->lock);
        if (e >= 0)
                (void) eventfd_write(r->wake, 1);
        return e;
}

void requests_bind(struct requests *r, const struct request_path *path) {
        int old;

        pthread_mutex_lock(&r->lock);
        old = r->path.binding;
        r->path = *path;
        r->unbinding = false;
        pthread_mutex_unlock(&r->lock);
        close_fd(old);
}

int requests_unbind(struct requests *r) {
        int old = -EBADF;
        bool busy;

        pthread_mutex_lock(&r->lock);
        busy = r->in_kernel;
        r->unbinding = true;
        if (!busy)
                old = TAKE_FD(r->path.binding);
        pthread_mutex_unlock(&r->lock);
        close_fd(old);
        return busy ? -EAGAIN : 0;
}

struct json_object *requests_describe(struct requests *r) {
        struct json_object *o = json_new(), *last = NULL;

        pthread_mutex_lock(&r->lock);
        json_set_u64(o, "sockets", count(r, false));
        json_set_u64(o, "passed", r->passed);
        json_set_u64(o, "refused", r->refused);
        json_set_u64(o, "failed", r->failed);
        json_set_u64(o, "delayed", r->delayed);
        json_set_u64(o, "mean_ns", r->passed ? r->nanoseconds / r->passed : 0);
        json_set_u64(o, "slowest_ns", r->slowest);
        if (r->any) {
                last = json_new();
                json_set_str(last, "kind", strempty(tdi_request_kind_to_string(r->last_kind)));
                json_set_i64(last, "error", r->last_error);
                json_set_u64(last, "tsm_code", r->last_code);
        }
        pthread_mutex_unlock(&r->lock);
        json_set_take(o, "last", last);
        return o;
}

/* ---- birth and end ---- */

int requests_new(struct function *f, TdiHost *host, struct request_rate *rate, struct requests **ret) {
        struct requests *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->function = f;
        r->host = host;
        r->rate = rate;
        r->path.binding = -EBADF;
        r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (r->wake < 0) {
                int e = -errno;

                free(r);
                return e;
        }
        (void) pthread_mutex_init(&r->lock, NULL);
        *ret = r;
        return 0;
}

struct requests *requests_free(struct requests *r) {
        if (!r)
                return NULL;
        pthread_mutex_lock(&r->lock);
        r->stopping = true;
        pthread_mutex_unlock(&r->lock);
        (void) eventfd_write(r->wake, 1);
        if (r->running)
                (void) pthread_join(r->thread, NULL);
        for (size_t i = 0; i < r->n; i++) {
                free(r->clients[i].answer);
                close_fd(r->clients[i].fd);
        }
        free(r->asked);
        free(r->answered);
        close_fd(r->path.binding);
        close_fd(r->wake);
        (void) pthread_mutex_destroy(&r->lock);
        free(r);
        return NULL;
}
