/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a worker reads of this host for several callers: see reading.h. */
#include "bus/reading.h"

#include "worker.h"

struct waiting {
        struct reading *reading;
        sd_bus_message *call;
        sd_event_source *timer;
        uid_t uid;
        struct waiting *next;
};

struct reading {
        Manager *manager;
        const struct reading_kind *kind;
        Worker *worker;           /* not NULL: it is at work */
        struct json_object *read; /* last; NULL: nothing yet */
        uint64_t when;            /* CLOCK_MONOTONIC */
        struct waiting *waiting;
};

static void answer(struct waiting *w, enum reading_state state) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        r = w->reading->kind->answer(w->reading->manager, w->call, w->uid, w->reading->read, state, &e);
        if (sd_bus_error_is_set(&e))
                r = sd_bus_reply_method_error(w->call, &e);
        sd_bus_error_free(&e);
        if (r < 0)
                log_debug("could not reply to a call: %s", strerror(-r));
}

static void end(struct waiting *w) {
        struct waiting **p = &w->reading->waiting;

        while (*p != w)
                p = &(*p)->next;
        *p = w->next;
        sd_event_source_disable_unref(w->timer);
        sd_bus_message_unref(w->call);
        free(w);
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        answer(userdata, READING_PATIENCE);
        end(userdata);
        return 0;
}

static void on_read(Worker *worker, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct reading *h = userdata;
        struct json_object *read = r >= 0 && values ? h->kind->take(values) : NULL;

        if (read) {
                json_putp(&h->read);
                h->read = read;
                h->when = now_monotonic();
        } else
                log_warning("could not look at %s: %s", h->kind->about, text);
        h->worker = r == -ECONNRESET ? worker_free(worker) : worker_rest(worker);
        while (h->waiting) {
                answer(h->waiting, read ? READING_DONE : READING_FAILED);
                end(h->waiting);
        }
}

static int start(struct reading *h) {
        _cleanup_json_ struct json_object *args = NULL;
        int r;

        if (h->worker)
                return 0;
        r = worker_new(h->manager, -EBADF, &h->worker);
        if (r < 0)
                return r;
        args = h->kind->arguments(h->manager);
        r = worker_call(h->worker, h->kind->op, "do", args, NULL, 0, on_read, h);
        if (r < 0)
                h->worker = worker_free(h->worker);
        return r;
}

int reading_ask(struct reading **ret, Manager *m, const struct reading_kind *kind, sd_bus_message *call, uid_t uid, uint64_t age, sd_bus_error *e) {
        struct reading *h = *ret;
        struct waiting *w;
        size_t n = 0;
        int r;

        if (!h) {
                h = *ret = calloc(1, sizeof(*h));
                if (!h)
                        log_oom();
                h->manager = m;
                h->kind = kind;
        }
        if (h->read && now_monotonic() - h->when < age)
                return kind->answer(m, call, uid, h->read, READING_DONE, e);
        for (w = h->waiting; w; w = w->next)
                n++;
        if (n >= READING_WAITING_MAX)
                return kind->answer(m, call, uid, h->read, READING_CROWDED, e);
        r = start(h);
        if (r < 0)
                return bus_error(e, TDI_ERROR_KERNEL, "could not start a worker: %s", strerror(-r));
        w = calloc(1, sizeof(*w));
        if (!w)
                log_oom();
        w->reading = h;
        w->call = sd_bus_message_ref(call);
        w->uid = uid;
        w->next = h->waiting;
        h->waiting = w;
        if (sd_event_add_time_relative(m->event, &w->timer, CLOCK_MONOTONIC, kind->patience, 0, on_patience, w) < 0)
                log_oom();
        return 1;
}

struct reading *reading_free(struct reading *h) {
        if (!h)
                return NULL;
        while (h->waiting)
                end(h->waiting);
        worker_free(h->worker);
        json_putp(&h->read);
        free(h);
        return NULL;
}
