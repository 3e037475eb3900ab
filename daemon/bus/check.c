/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check(): what this host can do, looked at by a worker when somebody asks, at most once a second, for others than root every 10 s. What names other users' processes and
 * files only root is told. A worker that does not come back holds up nobody, and is not followed by another.
 */
#include "admission.h"
#include "bus/bus.h"
#include "custody.h"
#include "worker.h"

#define PATIENCE_USEC 20000000ULL /* sd-bus gives up after 25 s */
#define AGE_USEC 1000000ULL
#define AGE_OTHERS_USEC 10000000ULL /* looking takes processor time, and transactions on every link */
#define WAITING_MAX 32

struct waiting {
        struct host_checker *checker;
        sd_bus_message *call;
        sd_event_source *timer;
        uid_t uid;
        struct waiting *next;
};

struct host_checker {
        Manager *manager;
        Worker *worker;            /* not NULL: it is at work */
        struct json_object *found; /* what was found last; NULL: nothing yet */
        uint64_t read;             /* when, CLOCK_MONOTONIC */
        struct waiting *waiting;
};

static struct json_object *without_details(struct json_object *found) {
        struct json_object *copy = NULL, *list;

        if (json_object_deep_copy(found, &copy, NULL) < 0)
                log_oom();
        for (size_t i = 0; json_get_array(copy, "checks", &list) >= 0 && i < json_object_array_length(list); i++)
                json_set_take(json_object_array_get_idx(list, i), "details", json_new_array());
        return copy;
}

static int reply(const struct host_checker *h, sd_bus_message *call, uid_t uid) {
        return bus_reply_description(call, "check", access_sees_addresses(uid) ? json_object_get(h->found) : without_details(h->found));
}

static void answer(struct waiting *w, const char *error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        if (!error)
                r = reply(w->checker, w->call, w->uid);
        else {
                bus_set_error(&e, TDI_ERROR_TIMEOUT, "%s", error);
                r = sd_bus_reply_method_error(w->call, &e);
        }
        sd_bus_error_free(&e);
        if (r < 0)
                log_debug("could not reply to a call: %s", strerror(-r));
}

static void end(struct waiting *w) {
        struct waiting **p = &w->checker->waiting;

        while (*p != w)
                p = &(*p)->next;
        *p = w->next;
        sd_event_source_disable_unref(w->timer);
        sd_bus_message_unref(w->call);
        free(w);
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        answer(userdata, "the worker that looks at this host has not come back in 20 s; 'tdictl check --local' shows as root where it stands");
        end(userdata);
        return 0;
}

static void on_checked(Worker *worker, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct host_checker *h = userdata;
        struct json_object *found;

        if (r >= 0 && json_get_object(values, "check", &found) >= 0) {
                json_putp(&h->found);
                h->found = json_object_get(found);
                h->read = now_monotonic();
        } else if (r >= 0)
                r = -EBADMSG;
        if (r < 0)
                log_warning("could not look at what this host can do: %s", text);
        h->worker = r == -ECONNRESET ? worker_free(worker) : worker_rest(worker);
        while (h->waiting) {
                answer(h->waiting, r < 0 ? "the worker that looks at this host failed; the log tells more" : NULL);
                end(h->waiting);
        }
}

/* What the checks want to know of tdid. */
static struct json_object *arguments(Manager *m) {
        struct json_object *args = json_new(), *own = json_new_array();

        for (size_t i = 0; i < m->n_custodies; i++)
                json_push_str(own, m->custodies[i]->name);
        json_set_take(args, "own", own);
        json_set_take(args, "policy", admission_describe(m));
        return args;
}

static int start(struct host_checker *h) {
        _cleanup_json_ struct json_object *args = NULL;
        int r;

        if (h->worker)
                return 0;
        args = arguments(h->manager);
        r = worker_new(h->manager, -EBADF, &h->worker);
        if (r < 0)
                return r;
        r = worker_call(h->worker, "check.host", "do", args, NULL, 0, on_checked, h);
        if (r < 0)
                h->worker = worker_free(h->worker);
        return r;
}

static int method_check(sd_bus_message *call, void *userdata, sd_bus_error *e);

int bus_check(Manager *m, sd_bus_message *call, sd_bus_error *e) {
        struct host_checker *h = m->host_checker;
        struct waiting *w;
        size_t n = 0;
        uid_t uid;
        int r;

        r = access_caller(m, call, method_check, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (!h) {
                h = m->host_checker = calloc(1, sizeof(*h));
                if (!h)
                        log_oom();
                h->manager = m;
        }
        if (h->found && now_monotonic() - h->read < (access_sees_addresses(uid) ? AGE_USEC : AGE_OTHERS_USEC))
                return reply(h, call, uid);
        for (w = h->waiting; w; w = w->next)
                n++;
        if (n >= WAITING_MAX)
                return bus_error(e, TDI_ERROR_LIMIT, "%d others wait for what this host can do", WAITING_MAX);
        r = start(h);
        if (r < 0)
                return bus_error(e, TDI_ERROR_KERNEL, "could not start a worker: %s", strerror(-r));
        w = calloc(1, sizeof(*w));
        if (!w)
                log_oom();
        w->checker = h;
        w->call = sd_bus_message_ref(call);
        w->uid = uid;
        w->next = h->waiting;
        h->waiting = w;
        if (sd_event_add_time_relative(m->event, &w->timer, CLOCK_MONOTONIC, PATIENCE_USEC, 0, on_patience, w) < 0)
                log_oom();
        return 1;
}

static int method_check(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        return bus_check(userdata, call, e);
}

void bus_check_end(Manager *m) {
        struct host_checker *h = m->host_checker;

        if (!h)
                return;
        while (h->waiting)
                end(h->waiting);
        worker_free(h->worker);
        json_putp(&h->found);
        free(h);
        m->host_checker = NULL;
}
