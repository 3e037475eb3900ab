/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The supervisor: functions by address, who may connect, time, and what tdid asks and is told. */
#include "vm/vpci/vpci.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "log.h"
#include "model/json.h"
#include "vm/store.h"
#include "vm/vpci/clock.h"
#include "vm/vpci/function.h"
#include "vm/vpci/tdisp.h"
#include "vm/vpci/thread.h"
#include "vm/vpci/viommu.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define FUNCTIONS_MAX 256
_Static_assert(VPCI_POLL_MAX >= 3 + 2 * FUNCTIONS_MAX + VIOMMUS_MAX, "what vpci_poll() fills in has to fit");
#define TICK_MSEC 250
/* So many looks without a request before the supervisor goes to sleep for good. */
#define QUIET_TICKS 4
#define STOP_PATIENCE_NSEC 2000000000ULL
/* How long a client waits until what the one before has left is gone: less than it waits for an answer. */
#define LEAVE_PATIENCE_NSEC 3000000000ULL
#define EVENTS_MAX 256
/* Unless tdid says otherwise. */
#define DEFAULT_BYTES (1ULL << 40)
#define DEFAULT_MAPS (1ULL << 20)
#define SECLABEL_MAX 256
/* So many that were refused wait for their close at most; then nobody is accepted. */
#define REFUSED_MAX 64
/* So many bytes of state in an answer: one function more still fits into a packet. */
#define STATE_ENOUGH (64UL * 1024)

struct event {
        struct json_object *body;
        int fd;             /* its own, or -EBADF */
        struct event *next;
};

struct vpci {
        TdiHost *host;
        vpci_tell tell;
        void *userdata;
        struct dma *dma;
        struct request_rate rate;
        struct viommus viommus;
        struct function *functions[FUNCTIONS_MAX];
        size_t n;
        struct function *given_up[FUNCTIONS_MAX]; /* stopped, and still in the kernel */
        size_t n_given_up;

        /* Whose sockets these are. */
        bool allowed;       /* the next three are known */
        uid_t uid;
        char *seclabel;
        int peer;           /* pidfd, or -EBADF: nobody's yet */
        pid_t pid;
        uint64_t serial;
        int helper;         /* its helper's socket too, for the hang-up only: that has died; or -EBADF */
        bool helper_gone;   /* and no other has come */

        int wake;           /* eventfd */
        atomic_bool asleep;
        unsigned quiet;     /* ticks without a request */
        pthread_mutex_t lock; /* of the queue */
        struct event *head, **tail;
        size_t n_events, n_lost;
        pthread_t closer;
        pthread_cond_t closing_changed;
        int closing[REFUSED_MAX + 2 * FUNCTIONS_MAX]; /* strangers' descriptors that wait for their last close */
        size_t n_closing;
        bool closed_for_good, closer_ended;
        bool full;          /* tdid does not read: nobody is accepted before it does */

        struct function *stopping; /* the request that is put off */
        uint64_t stop_deadline;
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
static void close_later(struct vpci *v, int fd) {
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
                close_later(v, fd);
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

/* ---- requests ---- */

static struct function *find_in(struct function *const *list, size_t n, struct json_object *request) {
        const char *bdf = json_str_or(request, "bdf", "");

        for (size_t i = 0; i < n; i++)
                if (streq(list[i]->bdf, bdf))
                        return list[i];
        return NULL;
}

static struct function *find(struct vpci *v, struct json_object *request) {
        return find_in(v->functions, v->n, request);
}

static int do_serve(struct vpci *v, struct store *s, struct json_object *request, struct ipc_fds *fds, struct json_object *answer) {
        const char *bdf = json_str_or(request, "bdf", "");
        const char *on_illegal = json_str_or(request, "on_illegal_config_write", NULL);
        enum vconfig_illegal illegal = on_illegal ? vconfig_illegal_from_string(on_illegal) : VCONFIG_ILLEGAL_SHADOW;
        struct json_object *info = NULL, *limits;
        uint64_t ioas, uid;
        char key[64];
        int device, iommufd, r;

        if (find(v, request))
                return -EEXIST;
        if (v->n + v->n_given_up >= FUNCTIONS_MAX)
                return -ENOSPC;
        if (fds->n != 1 || illegal < 0 || json_get_u64(request, "ioas", &ioas) < 0 || json_get_u64(request, "uid", &uid) < 0 ||
            json_get_object(request, "info", &info) < 0 || snprintf(key, sizeof(key), "cdev:%s", bdf) >= (int) sizeof(key))
                return -EINVAL;
        device = store_get(s, key);
        iommufd = store_get(s, "iommufd");
        if (device < 0 || iommufd < 0)
                return -ENOENT;
        if (!v->dma) {
                struct dma_limits l = { .bytes = DEFAULT_BYTES, .maps = DEFAULT_MAPS };

                if (json_get_object(request, "limits", &limits) >= 0) {
                        l.bytes = json_u64_or(limits, "bytes", l.bytes);
                        l.maps = json_u64_or(limits, "maps", l.maps);
                }
                r = dma_new(v->host, &l, &v->dma);
                if (r < 0)
                        return r;
                dma_set_iommufd(v->dma, iommufd);
        }
        if (!v->allowed) {
                if (free_and_strdup(&v->seclabel, json_str_or(request, "seclabel", NULL)) < 0)
                        return -ENOMEM;
                v->uid = (uid_t) uid;
                v->allowed = true;
        }
        r = function_new(v, v->host, bdf, device, (uint32_t) ioas, json_bool_or(request, "peer_to_peer", false), illegal, fds->fd[0], info, &v->functions[v->n]);
        if (r < 0)
                return r;
        /* So that a tdid which asked for it knows that this holder has understood. */
        json_set_str(answer, "on_illegal_config_write", on_illegal);
        (void) ipc_fds_take(fds, 0);
        v->n++;
        return 0;
}

static int do_stop(struct vpci *v, struct json_object *request, struct json_object *answer) {
        struct function *f = find(v, request);

        /* Stopped for a tdid that has not heard of it any more. */
        if (!f && find_in(v->given_up, v->n_given_up, request)) {
                json_set_bool(answer, "stuck", true);
                return 0;
        }
        if (!f)
                return -ENOENT;
        if (v->stopping)
                return -EBUSY;
        if (json_bool_or(request, "idle", false) && function_is_connected(f))
                return -EISCONN;
        close_later(v, function_stop(f));
        v->stopping = f;
        v->stop_deadline = now_nsec() + STOP_PATIENCE_NSEC;
        return 1;
}

/* Nobody is served any more from here on; each function's end is waited for by its own vpci.stop. */
static int do_stop_all(struct vpci *v, struct store *s) {
        for (size_t i = 0; i < v->n; i++)
                close_later(v, function_stop(v->functions[i]));
        viommus_end(&v->viommus, v->host, store_get(s, "iommufd"), 0);
        return 0;
}

static int do_viommu(struct vpci *v, struct store *s, struct json_object *request) {
        uint32_t id = (uint32_t) json_u64_or(request, "id", 0);
        int iommufd = store_get(s, "iommufd");

        if (id == 0 || iommufd < 0)
                return id == 0 ? -EINVAL : iommufd;
        if (json_bool_or(request, "on", false))
                return viommus_add(&v->viommus, v->host, iommufd, id, (uint32_t) json_u64_or(request, "type", 0));
        viommus_end(&v->viommus, v->host, iommufd, id);
        return 0;
}

struct json_object *vpci_take_answer(struct vpci *v) {
        struct function *f = v->stopping;
        struct json_object *answer;
        bool ended;

        if (!f)
                return NULL;
        ended = function_has_ended(f);
        if (!ended && now_nsec() < v->stop_deadline)
                return NULL;
        v->stopping = NULL;
        for (size_t i = 0; i < v->n; i++)
                if (v->functions[i] == f) {
                        v->functions[i] = v->functions[--v->n];
                        break;
                }
        if (ended)
                function_free(f);
        else {
                log_warning("%s: its thread has not come back from the kernel: it is given up", f->bdf);
                v->given_up[v->n_given_up++] = f;
        }
        answer = json_new();
        json_set_i64(answer, "r", 0);
        json_set_bool(answer, "stuck", !ended);
        return answer;
}

static int do_lock(struct vpci *v, struct json_object *request) {
        const char *name = json_str_or(request, "state", "");
        enum tdi_tdisp state = streq(name, "bound") ? TDI_TDISP_UNLOCKED : tdi_tdisp_from_string(name);
        struct function *f = find(v, request);

        if (!f || state == TDI_TDISP_INVALID || state == TDI_TDISP_NONE)
                return f ? -EINVAL : -ENOENT;
        return tdisp_set_bound(f, !streq(name, "unlocked"), state);
}

static int do_requests(struct vpci *v, struct store *s, struct json_object *request) {
        struct function *f = find(v, request);
        struct request_path path = {
                .provider = provider_get(provider_find(json_str_or(request, "provider", ""))),
                .binding = -EBADF,
                .vdevice = (uint32_t) json_u64_or(request, "vdevice", 0),
                .tvm_arch = (uint32_t) json_u64_or(request, "tvm_arch", 0),
        };
        bool on = json_bool_or(request, "on", false);
        char key[64];
        int r = -ENOENT;

        if (!f)
                return -ENOENT;
        if (on) {
                if (!path.provider || snprintf(key, sizeof(key), "bind:%s", f->bdf) >= (int) sizeof(key))
                        return -EINVAL;
                path.binding = store_get(s, key);
                if (path.binding >= 0)
                        path.binding = fd_dup(path.binding);
                if (path.binding < 0)
                        return path.binding;
        }
        pthread_mutex_lock(&f->lock);
        if (f->requests && on) {
                requests_bind(f->requests, &path);
                path.binding = -EBADF;
                r = 0;
        } else if (f->requests)
                r = requests_unbind(f->requests);
        else if (!f->ended)
                r = -EAGAIN; /* one is under way, or its end */
        pthread_mutex_unlock(&f->lock);
        close_fd(path.binding);
        return r;
}

static int do_report(struct vpci *v, struct json_object *request, struct json_object *answer) {
        struct function *f = find(v, request);
        _cleanup_free_ char *text = f ? tdisp_report_hex(f) : NULL;

        if (text)
                json_set_str(answer, "report", text);
        return text ? 0 : -ENOENT;
}

static int do_tee(struct vpci *v, struct json_object *request) {
        struct function *f = find(v, request);
        struct json_object *ranges;

        if (!f)
                return -ENOENT;
        return json_get_array(request, "ranges", &ranges) < 0 ? -EINVAL : tdisp_set_tee(f, ranges);
}

static int do_open_requests(struct vpci *v, struct json_object *request, struct ipc_fds *fds) {
        struct function *f = find(v, request);
        int r = -ENOENT;

        if (!f || fds->n != 1)
                return f ? -EINVAL : -ENOENT;
        pthread_mutex_lock(&v->rate.lock);
        v->rate.per_second = (unsigned) json_u64_or(request, "per_second", 0);
        pthread_mutex_unlock(&v->rate.lock);
        pthread_mutex_lock(&f->lock);
        if (f->requests)
                r = requests_add(f->requests, fds->fd[0], (unsigned) json_u64_or(request, "kinds", 0), json_bool_or(request, "own", false),
                                 json_str_or(request, "vm", ""));
        pthread_mutex_unlock(&f->lock);
        if (r >= 0)
                (void) ipc_fds_take(fds, 0);
        return r;
}

static int do_peer(struct vpci *v, struct json_object *request, struct ipc_fds *fds) {
        int maps, helper;

        if (fds->n < 1 || fds->n > 2 || !v->dma)
                return -EINVAL;
        /* The answer to an earlier process's question. */
        if (v->peer < 0 || json_u64_or(request, "serial", 0) != v->serial)
                return -ESTALE;
        maps = ipc_fds_take(fds, 0);
        helper = ipc_fds_take(fds, 1);
        /* Before dma_set_peer(), which hangs up on the one before. */
        close_fd(v->helper);
        v->helper = helper >= 0 ? fd_dup(helper) : -EBADF;
        v->helper_gone = false;
        dma_set_peer(v->dma, maps, helper);
        return 0;
}

/* A packet has room for some functions; who asks goes on from "next". */
static int do_state(struct vpci *v, struct json_object *request, struct json_object *answer) {
        struct json_object *list = json_new_array();
        size_t i = json_u64_or(request, "from", 0), total = 0;

        for (; i < v->n && total < STATE_ENOUGH; i++) {
                struct json_object *o = function_describe(v->functions[i]);
                size_t size;

                (void) json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
                total += size;
                json_push_take(list, o);
        }
        json_set_take(answer, "functions", list);
        if (i < v->n)
                json_set_u64(answer, "next", i);
        json_set_u64(answer, "serial", v->serial);
        if (v->peer >= 0)
                json_set_u64(answer, "pid", (uint64_t) v->pid);
        json_set_bool(answer, "helper_gone", v->helper_gone);
        json_set_u64(answer, "given_up", v->n_given_up);
        json_set_u64(answer, "pinned", v->dma ? dma_pinned(v->dma) : 0);
        json_set_u64(answer, "events_lost", v->n_lost);
        json_set_take(answer, "viommus", viommus_describe(&v->viommus));
        return 0;
}

int vpci_request(struct vpci *v, struct store *s, const char *op, struct json_object *request, struct ipc_fds *fds,
                 struct json_object *answer) {
        if (streq(op, "vpci.serve"))
                return do_serve(v, s, request, fds, answer);
        if (streq(op, "vpci.stop"))
                return do_stop(v, request, answer);
        if (streq(op, "vpci.stop_all"))
                return do_stop_all(v, s);
        if (streq(op, "vpci.viommu"))
                return do_viommu(v, s, request);
        if (streq(op, "vpci.peer"))
                return do_peer(v, request, fds);
        if (streq(op, "vpci.lock"))
                return do_lock(v, request);
        if (streq(op, "vpci.requests"))
                return do_requests(v, s, request);
        if (streq(op, "vpci.report"))
                return do_report(v, request, answer);
        if (streq(op, "vpci.tee"))
                return do_tee(v, request);
        if (streq(op, "vpci.open_requests"))
                return do_open_requests(v, request, fds);
        if (streq(op, "vpci.state"))
                return do_state(v, request, answer);
        if (streq(op, "vpci.request")) {
                struct function *f = find(v, request);

                if (f)
                        irq_ring_request(f);
                return f ? 0 : -ENOENT;
        }
        return -EOPNOTSUPP;
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
                close_later(v, function_stop(v->functions[i]));
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
