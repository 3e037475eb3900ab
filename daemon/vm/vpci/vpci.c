/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The supervisor: functions, who may connect, time, and what tdid is told. What tdid asks is control.c. */
#include "vm/vpci/vpci-internal.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "log.h"
#include "model/json.h"
#include "vm/vpci/clock.h"
#include "vm/vpci/tdisp.h"
#include "vm/vpci/thread.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define TICK_MSEC 250
/* So many looks without a request before the supervisor goes to sleep for good. */
#define QUIET_TICKS 4
/* How long a client waits until what the one before has left is gone: less than it waits for an answer. */
#define LEAVE_PATIENCE_NSEC 3000000000ULL
#define EVENTS_MAX 256
#define SECLABEL_MAX 256

struct event {
        struct json_object *body;
        int fd;             /* its own, or -EBADF */
        struct event *next;
};

struct dma *vpci_dma(struct vpci *v) {
        return v->dma;
}

struct request_rate *vpci_request_rate(struct vpci *v) {
        return &v->rate;
}

void vpci_wake_now(struct vpci *v) {
        (void) eventfd_write(v->wake, 1);
}

void vpci_wake(struct vpci *v) {
        /* Only the first request after a quiet time pays for a call. */
        if (atomic_load(&v->asleep) && atomic_exchange(&v->asleep, false))
                vpci_wake_now(v);
}

/* ---- events ---- */

static struct json_object *event_new(const char *bdf, const char *what) {
        struct json_object *o = json_new();

        json_set_str(o, "event", "vpci");
        json_set_str(o, "what", what);
        json_set_str(o, "bdf", bdf);
        return o;
}

static struct event *event_free(struct event *e) {
        json_object_put(e->body);
        close_fd(e->fd);
        free(e);
        return NULL;
}

/* Takes the object and the descriptor. */
static void queue(struct vpci *v, struct json_object *o, int fd, bool always) {
        struct event *e = calloc(1, sizeof(*e));

        if (!e)
                log_oom();
        e->body = o;
        e->fd = fd;
        pthread_mutex_lock(&v->lock);
        /* A client can cause these: what tdid has not heard of by then, it sees in the state. The end of a connection always goes through. */
        if (v->n_events >= EVENTS_MAX && !always) {
                v->n_lost++;
                event_free(e);
        } else {
                *v->tail = e;
                v->tail = &e->next;
                v->n_events++;
        }
        pthread_mutex_unlock(&v->lock);
        vpci_wake_now(v);
}

void vpci_event(struct vpci *v, const char *bdf, const char *what, const char *text) {
        struct json_object *o = event_new(bdf, what);
        bool end = streq(what, "disconnected");

        if (text)
                json_set_str(o, end ? "why" : "text", text);
        queue(v, o, -EBADF, end);
}

void vpci_event_memory(struct vpci *v, const char *bdf, bool enabled, const char *why) {
        struct json_object *o = event_new(bdf, "memory");

        json_set_bool(o, "enabled", enabled);
        json_set_str(o, "why", why);
        queue(v, o, -EBADF, false);
}

void vpci_event_tdisp(struct vpci *v, const char *bdf, enum tdi_tdisp was, enum tdi_tdisp state) {
        struct json_object *o = event_new(bdf, "tdisp");

        json_set_str(o, "was", tdi_tdisp_to_string(was));
        json_set_str(o, "state", tdi_tdisp_to_string(state));
        /* Once a bind, and nobody else tells of it. */
        queue(v, o, -EBADF, state == TDI_TDISP_ERROR);
}

static void tell_iommu(uint32_t viommu, const char *name, int64_t sid, const char *text, void *userdata) {
        struct vpci *v = userdata;
        struct json_object *o;
        bool full;

        /* A guest's to cause: there is room for what is not. */
        pthread_mutex_lock(&v->lock);
        full = v->n_events >= EVENTS_MAX / 4;
        v->n_lost += full;
        pthread_mutex_unlock(&v->lock);
        if (full)
                return;
        o = event_new("", "iommu");
        json_set_u64(o, "viommu", viommu);
        json_set_str(o, "name", name);
        json_set_i64(o, "sid", sid);
        json_set_str(o, "text", text);
        queue(v, o, -EBADF, false);
}

/* In the order in which things happened. */
static void tell_all(struct vpci *v) {
        v->full = false;
        for (;;) {
                struct event *e;

                pthread_mutex_lock(&v->lock);
                e = v->head;
                pthread_mutex_unlock(&v->lock);
                if (!e)
                        return;
                /* Others put theirs behind it; only we take from the head. */
                if (v->tell(e->body, &e->fd, e->fd >= 0, v->userdata) == -EAGAIN) {
                        v->full = true;
                        return;
                }
                pthread_mutex_lock(&v->lock);
                v->head = e->next;
                if (!v->head)
                        v->tail = &v->head;
                v->n_events--;
                pthread_mutex_unlock(&v->lock);
                event_free(e);
        }
}

/* ---- strangers' descriptors ---- */

/*
 * The last close of what a stranger has sent may take as long as the stranger likes (a socket that lingers, a file system of its own), and
 * with a socket go those that wait in it. So it is a thread's that has nothing else to do.
 */
static void *close_all(void *userdata) {
        struct vpci *v = userdata;

        pthread_mutex_lock(&v->lock);
        for (;;) {
                int fd;

                while (v->n_closing == 0 && !v->closed_for_good)
                        (void) pthread_cond_wait(&v->closing_changed, &v->lock);
                if (v->n_closing == 0)
                        break;
                fd = v->closing[--v->n_closing];
                pthread_mutex_unlock(&v->lock);
                close_fd(fd);
                pthread_mutex_lock(&v->lock);
        }
        v->closer_ended = true;
        pthread_mutex_unlock(&v->lock);
        vpci_wake_now(v);
        return NULL;
}

/* There is room: for listeners always, for connections by accept_one(). */
void vpci_close_later(struct vpci *v, int fd) {
        if (fd < 0)
                return;
        pthread_mutex_lock(&v->lock);
        if (v->n_closing < ARRAY_SIZE(v->closing))
                v->closing[v->n_closing++] = fd;
        else
                log_warning("a stranger's descriptor stays open: the closes of %zu others have not come to an end", v->n_closing);
        pthread_cond_signal(&v->closing_changed);
        pthread_mutex_unlock(&v->lock);
}

static bool closer_has_ended(struct vpci *v) {
        bool ended;

        pthread_mutex_lock(&v->lock);
        ended = v->closer_ended;
        pthread_mutex_unlock(&v->lock);
        return ended;
}

static bool may_accept(struct vpci *v) {
        bool may;

        pthread_mutex_lock(&v->lock);
        may = v->n_closing < REFUSED_MAX && !v->full;
        pthread_mutex_unlock(&v->lock);
        return may;
}

/* ---- who may connect ---- */

/* AppArmor names the profile's mode as well, "libvirt-UUID (enforce)" (apparmor_socket_getpeersec_stream): whoever names none means any. */
static bool is_label(const char *label, const char *wanted) {
        size_t n = strlen(wanted);

        return strncmp(label, wanted, n) == 0 && (label[n] == '\0' || (startswith(label + n, " (") && label[strlen(label) - 1] == ')'));
}

#define WHY_MAX (SECLABEL_MAX + 64)

/* Why a process may not have the socket; NULL when it may. */
static const char *why_not(struct vpci *v, int fd, struct ucred *cred, char buf[static WHY_MAX]) {
        char label[SECLABEL_MAX] = "";
        socklen_t len = sizeof(*cred);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, cred, &len) < 0)
                return "it has no credentials";
        if (!v->allowed || cred->uid != v->uid)
                return "it belongs to another user";
        len = sizeof(label) - 1;
        if (v->seclabel && getsockopt(fd, SOL_SOCKET, SO_PEERSEC, label, &len) < 0) {
                snprintf(buf, WHY_MAX, "its security label cannot be read (SO_PEERSEC: %s)", strerror(errno));
                return buf;
        }
        if (v->seclabel && !is_label(label, v->seclabel)) {
                snprintf(buf, WHY_MAX, "its security label is another, \"%s\"", label);
                return buf;
        }
        /* As long as the owner lives, no other process has its number. */
        if (v->peer >= 0 && cred->pid != v->pid)
                return "another process owns the VM's sockets until it ends";
        return NULL;
}

static void adopt_peer(struct vpci *v, int fd, const struct ucred *cred) {
        socklen_t len = sizeof(v->peer);

        if (v->peer >= 0)
                return;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &v->peer, &len) < 0)
                v->peer = -EBADF;
        v->pid = cred->pid;
        v->serial++;
}

static void accept_one(struct vpci *v, struct function *f) {
        char text[WHY_MAX + 64], buf[WHY_MAX];
        struct ucred cred = {};
        struct json_object *o;
        const char *why;
        int fd;

        fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
                return;
        why = why_not(v, fd, &cred, buf);
        if (!why) {
                adopt_peer(v, fd, &cred);
                /* It ended between connect and now, or the kernel has no such option (before 6.5). */
                if (v->peer < 0)
                        why = "who it is cannot be told";
        }
        if (!why && function_connect(f, fd) < 0)
                why = "it has a client already";
        o = event_new(f->bdf, why ? "refused" : "connected");
        json_set_u64(o, "pid", (uint64_t) cred.pid);
        json_set_u64(o, "uid", cred.uid);
        if (why) {
                snprintf(text, sizeof(text), "process %d of uid %u was refused: %s", (int) cred.pid, cred.uid, why);
                json_set_str(o, "text", text);
                vpci_close_later(v, fd);
                queue(v, o, -EBADF, false);
                return;
        }
        json_set_u64(o, "serial", v->serial);
        queue(v, o, fd_dup(v->peer), true);
}

/* The owner has ended: its sockets are nobody's, even where somebody has copies of them. */
static void peer_ended(struct vpci *v) {
        struct json_object *o = event_new("", "peer-gone");

        json_set_u64(o, "serial", v->serial);
        queue(v, o, -EBADF, true);
        v->peer = close_fd(v->peer);
        v->helper = close_fd(v->helper);
        v->helper_gone = false;
        dma_set_peer(v->dma, -EBADF, -EBADF);
        for (size_t i = 0; i < v->n; i++)
                function_hang_up(v->functions[i]);
}

/*
 * Somebody has killed it. What it was asked for fails; what comes next waits for tdid to bring another, as for the first one, and until then no function
 * that asks for it is bus master.
 */
static void helper_ended(struct vpci *v) {
        struct pollfd now = { .fd = v->helper };
        struct json_object *o;

        /* tdid may have brought another since that was looked at. */
        if (poll(&now, 1, 0) <= 0)
                return;
        o = event_new("", "helper-gone");
        json_set_u64(o, "serial", v->serial);
        v->helper = close_fd(v->helper);
        v->helper_gone = true;
        dma_set_peer(v->dma, -EBADF, -EBADF);
        queue(v, o, -EBADF, true);
}

/* A VMM that is restarted comes back at once: it is not refused because of what is left of the one before. */
static bool waits(struct function *f) {
        uint64_t now = now_nsec();

        if (!function_is_leaving(f)) {
                f->waiting = 0;
                return false;
        }
        if (f->waiting == 0)
                f->waiting = now;
        return now - f->waiting < LEAVE_PATIENCE_NSEC;
}

/* ---- the loop ---- */

size_t vpci_poll(struct vpci *v, struct pollfd *p, int *timeout) {
        uint64_t now = now_nsec();
        bool busy = v->full, accepts = may_accept(v);
        size_t k = 0;

        p[k++] = (struct pollfd){ .fd = v->wake, .events = POLLIN };
        p[k++] = (struct pollfd){ .fd = v->peer, .events = POLLIN };
        p[k++] = (struct pollfd){ .fd = v->helper };
        for (size_t i = 0; i < v->n; i++) {
                struct function *f = v->functions[i];
                bool wait = f->waiting && waits(f);

                p[k++] = (struct pollfd){ .fd = wait || !accepts ? -EBADF : f->listener, .events = POLLIN };
                p[k++] = (struct pollfd){ .fd = f->device_error, .events = POLLIN };
                busy |= wait;
        }
        k += viommus_poll(&v->viommus, p + k, timeout);
        /* Said before the look: who begins a request after it, sees it. */
        atomic_store(&v->asleep, true);
        for (size_t i = 0; i < v->n; i++)
                busy |= function_watch(v->functions[i], now);
        for (size_t i = 0; i < v->n_given_up; i++)
                (void) function_watch(v->given_up[i], now);
        v->quiet = busy ? 0 : v->quiet + 1;
        if (busy || v->quiet < QUIET_TICKS || v->stopping) {
                atomic_store(&v->asleep, false);
                if (*timeout < 0 || *timeout > TICK_MSEC)
                        *timeout = TICK_MSEC;
        }
        return k;
}

void vpci_dispatch(struct vpci *v, const struct pollfd *p, size_t n) {
        if (p[0].revents) {
                (void) eventfd_read(v->wake, &(eventfd_t){ 0 });
                v->quiet = 0;
        }
        tell_all(v);
        if (p[1].revents)
                peer_ended(v);
        else if (p[2].revents)
                helper_ended(v);
        /* Those of a function that was stopped meanwhile are not in the list any more: found by their descriptor. */
        for (size_t i = 3; i < n; i++)
                for (size_t k = 0; p[i].revents && k < v->n; k++)
                        if (v->functions[k]->device_error == p[i].fd) {
                                irq_on_error(v->functions[k]);
                                break;
                        } else if (v->functions[k]->listener == p[i].fd) {
                                if (!waits(v->functions[k]))
                                        accept_one(v, v->functions[k]);
                                break;
                        }
        for (size_t i = 3; i < n; i++)
                if (p[i].revents)
                        viommus_dispatch(&v->viommus, v->host, p[i].fd, tell_iommu, v);
        for (size_t i = v->n_given_up; i > 0; i--)
                if (function_has_ended(v->given_up[i - 1])) {
                        function_free(v->given_up[i - 1]);
                        v->given_up[i - 1] = v->given_up[--v->n_given_up];
                }
}

/* ---- birth and end ---- */

int vpci_new(TdiHost *host, vpci_tell tell, void *userdata, struct vpci **ret) {
        struct vpci *v = calloc(1, sizeof(*v));
        int r;

        if (!v)
                return -ENOMEM;
        v->host = host;
        v->tell = tell;
        v->userdata = userdata;
        v->peer = v->helper = -EBADF;
        v->tail = &v->head;
        (void) pthread_mutex_init(&v->lock, NULL);
        (void) pthread_mutex_init(&v->rate.lock, NULL);
        (void) pthread_cond_init(&v->closing_changed, NULL);
        v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = v->wake < 0 ? -errno : thread_start(&v->closer, close_all, v);
        if (r < 0) {
                close_fd(v->wake);
                free(v);
                return r;
        }
        *ret = v;
        return 0;
}

struct vpci *vpci_free(struct vpci *v) {
        bool left = false;

        if (!v)
                return NULL;
        for (size_t i = 0; i < v->n; i++)
                vpci_close_later(v, function_stop(v->functions[i]));
        pthread_mutex_lock(&v->lock);
        v->closed_for_good = true;
        pthread_cond_signal(&v->closing_changed);
        pthread_mutex_unlock(&v->lock);
        for (uint64_t until = now_nsec() + STOP_PATIENCE_NSEC; (v->n > 0 || !closer_has_ended(v)) && now_nsec() < until;) {
                for (size_t i = v->n; i > 0; i--)
                        if (function_has_ended(v->functions[i - 1])) {
                                function_free(v->functions[i - 1]);
                                v->functions[i - 1] = v->functions[--v->n];
                        }
                if (v->n > 0 || !closer_has_ended(v)) {
                        (void) poll(&(struct pollfd){ .fd = v->wake, .events = POLLIN }, 1, 50);
                        (void) eventfd_read(v->wake, &(eventfd_t){ 0 });
                }
        }
        left = v->n > 0 || v->n_given_up > 0 || !closer_has_ended(v);
        /* Threads in the kernel still use all of this: it goes with the process. */
        if (left)
                return NULL;
        (void) pthread_join(v->closer, NULL);
        while (v->head) {
                struct event *e = v->head;

                v->head = e->next;
                event_free(e);
        }
        viommus_end(&v->viommus, v->host, -EBADF, 0);
        dma_free(v->dma);
        close_fd(v->peer);
        close_fd(v->helper);
        close_fd(v->wake);
        free(v->seclabel);
        (void) pthread_mutex_destroy(&v->lock);
        (void) pthread_mutex_destroy(&v->rate.lock);
        free(v);
        return NULL;
}
