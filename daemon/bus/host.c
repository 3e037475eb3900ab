/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * DescribeHost(): what this host is and what its kernel lacks, read by a worker when somebody asks, at most once a second: opening
 * what belongs to the kernel may take its time. A worker that does not come back holds up nobody, and is not followed by another.
 */
#include "admission.h"
#include "bus/bus.h"
#include "counters.h"
#include "recognise.h"
#include "worker.h"

#define PATIENCE_USEC 1000000ULL
#define AGE_USEC 1000000ULL
#define WAITING_MAX 32

struct waiting {
        struct host_reader *reader;
        sd_bus_message *call;
        sd_event_source *timer;
        struct waiting *next;
};

struct host_reader {
        Manager *manager;
        Worker *worker; /* not NULL: it is at work */
        struct json_object *facts; /* what was read last; NULL: nothing yet */
        uint64_t read;  /* when, CLOCK_MONOTONIC */
        struct waiting *waiting;
};

static int describe(const struct host_reader *h, sd_bus_message *call, bool stale) {
        struct json_object *o = recognise_describe(h->manager, h->facts, stale);

        json_set_take(o, "policy", admission_describe(h->manager));
        json_set_take(o, "counters", counters_describe());
        return bus_reply_description(call, "host", o);
}

/* Without anything read there is nothing to describe. */
static void answer(struct waiting *w, bool stale) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        if (w->reader->facts)
                r = describe(w->reader, w->call, stale);
        else {
                bus_set_error(&e, TDI_ERROR_TIMEOUT, "the worker that reads /dev/kvm, /dev/iommu and /sys/module has not come back; ask again");
                r = sd_bus_reply_method_error(w->call, &e);
        }
        sd_bus_error_free(&e);
        if (r < 0)
                log_debug("could not reply to a call: %s", strerror(-r));
}

static void end(struct waiting *w) {
        struct waiting **p = &w->reader->waiting;

        while (*p != w)
                p = &(*p)->next;
        *p = w->next;
        sd_event_source_disable_unref(w->timer);
        sd_bus_message_unref(w->call);
        free(w);
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        answer(userdata, true);
        end(userdata);
        return 0;
}

static void on_read(Worker *worker, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct host_reader *h = userdata;

        if (r >= 0 && values) {
                json_putp(&h->facts);
                h->facts = json_object_get(values);
                h->read = now_monotonic();
        } else
                log_warning("could not read what this host is: %s", text);
        h->worker = r == -ECONNRESET ? worker_free(worker) : worker_rest(worker);
        while (h->waiting) {
                answer(h->waiting, r < 0);
                end(h->waiting);
        }
}

static int start(struct host_reader *h) {
        _cleanup_json_ struct json_object *args = recognise_arguments();
        int r;

        if (h->worker)
                return 0;
        r = worker_new(h->manager, -EBADF, &h->worker);
        if (r < 0)
                return r;
        r = worker_call(h->worker, "read.host", "do", args, NULL, 0, on_read, h);
        if (r < 0)
                h->worker = worker_free(h->worker);
        return r;
}

int bus_describe_host(Manager *m, sd_bus_message *call, sd_bus_error *e) {
        struct host_reader *h = m->host_reader;
        struct waiting *w;
        size_t n = 0;
        int r;

        if (!h) {
                h = m->host_reader = calloc(1, sizeof(*h));
                if (!h)
                        log_oom();
                h->manager = m;
        }
        if (h->facts && now_monotonic() - h->read < AGE_USEC)
                return describe(h, call, false);
        for (w = h->waiting; w; w = w->next)
                n++;
        if (n >= WAITING_MAX)
                return h->facts ? describe(h, call, true) :
                                  bus_error(e, TDI_ERROR_LIMIT, "%d others wait for what this host is", WAITING_MAX);
        r = start(h);
        if (r < 0)
                return bus_error(e, TDI_ERROR_KERNEL, "could not start a worker: %s", strerror(-r));
        w = calloc(1, sizeof(*w));
        if (!w)
                log_oom();
        w->reader = h;
        w->call = sd_bus_message_ref(call);
        w->next = h->waiting;
        h->waiting = w;
        if (sd_event_add_time_relative(m->event, &w->timer, CLOCK_MONOTONIC, PATIENCE_USEC, 0, on_patience, w) < 0)
                log_oom();
        return 1;
}

void bus_host_end(Manager *m) {
        struct host_reader *h = m->host_reader;

        if (!h)
                return;
        while (h->waiting)
                end(h->waiting);
        worker_free(h->worker);
        json_putp(&h->facts);
        free(h);
        m->host_reader = NULL;
}
