/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interface report of a TDI, as it came through a request of its guest: a worker parses it and compares it with the host. What does not
 * fit is shown; whether the TDI is unbound for it, the configuration says. The holder is told which MMIO is trusted memory.
 */
#include <stdio.h>

#include "audit.h"
#include "bus/bus.h"
#include "vpci.h"
#include "worker.h"

#define BARS 6

/* A guest may ask for its report as often as it likes: so often is one of a function looked at, and so many at a time. */
#define PAUSE_USEC 1000000ULL
#define AT_ONCE_MAX 4

struct report_check {
        TDI *tdi; /* NULL: it was unbound, or has gone */
        Manager *manager;
        Worker *worker;
        sd_event_source *timer; /* it waits for its turn */
        bool again; /* there is a newer one */
};

static unsigned at_once;

static void begin(struct report_check *x);

static int on_turn(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct report_check *x = userdata;

        x->timer = sd_event_source_disable_unref(x->timer);
        begin(x);
        return 0;
}

static void wait_for_turn(struct report_check *x) {
        if (sd_event_add_time_relative(x->manager->event, &x->timer, CLOCK_MONOTONIC, PAUSE_USEC, 0, on_turn, x) < 0)
                log_oom();
}

static struct report_check *check_free(struct report_check *x) {
        sd_event_source_disable_unref(x->timer);
        if (x->worker)
                x->worker = worker_rest(x->worker);
        if (x->tdi)
                x->tdi->report_check = NULL;
        free(x);
        return NULL;
}

static void end(struct report_check *x) {
        at_once--;
        if (!x->tdi || !x->again) {
                check_free(x);
                return;
        }
        x->again = false;
        if (x->worker)
                x->worker = worker_rest(x->worker);
        wait_for_turn(x);
}

static void push_range(struct json_object *list, uint64_t bar, uint64_t offset, uint64_t size) {
        struct json_object *one = json_new_array();

        json_push_take(one, json_object_new_uint64(bar));
        json_push_take(one, json_object_new_uint64(offset));
        json_push_take(one, json_object_new_uint64(size));
        json_push_take(list, one);
}

/* What cannot be read, or does not fit into the BARs, may be trusted memory anywhere in them. */
static struct json_object *all_bars(void) {
        struct json_object *list = json_new_array();

        for (unsigned i = 0; i < BARS; i++)
                push_range(list, i, 0, INT64_MAX);
        return list;
}

static struct json_object *tee_ranges(struct json_object *report) {
        struct json_object *ranges, *list;

        if (json_get_array(report, "ranges", &ranges) < 0)
                return all_bars();
        list = json_new_array();
        for (size_t i = 0; i < json_object_array_length(ranges); i++) {
                struct json_object *o = json_object_array_get_idx(ranges, i), *attributes;
                uint64_t offset;
                bool tee = true;

                if (json_get_array(o, "attributes", &attributes) < 0 || json_u64_or(o, "size", 0) == 0)
                        continue;
                for (size_t k = 0; k < json_object_array_length(attributes); k++)
                        tee &= !streq(strempty(json_object_get_string(json_object_array_get_idx(attributes, k))), "non-tee");
                if (!tee)
                        continue;
                if (json_get_u64(o, "offset", &offset) < 0) {
                        json_object_put(list);
                        return all_bars();
                }
                push_range(list, json_u64_or(o, "bar", 0), offset, json_u64_or(o, "size", 0));
        }
        return list;
}

static void mismatch(TDI *t, const char *text) {
        char path[64];

        vpci_note(t, "report", text);
        if (!t->vm->manager->config.unbind_on_mismatch)
                return;
        audit_tdi_mismatch(t, text);
        if (free_and_strdup(&t->bind_error, text) < 0)
                log_oom();
        bus_emit_failed(t->vm->manager, tdi_path(t, path), text);
        t->lost = true;
        vm_touch(t->vm);
        tdi_unbind(t);
}

/* Nothing is known of it: that is no better than what does not fit. */
static void not_looked_at(TDI *t, const char *why) {
        char text[400];

        snprintf(text, sizeof(text), "its interface report could not be looked at: %s", why);
        vpci_set_tee(t->custody, all_bars());
        mismatch(t, text);
}

static void take(TDI *t, struct json_object *report) {
        struct json_object *problems;
        char text[400];
        const char *first;

        json_putp(&t->report);
        t->report = json_object_get(report);
        vpci_set_tee(t->custody, tee_ranges(report));
        if (json_get_array(report, "problems", &problems) < 0 || json_object_array_length(problems) == 0)
                return;
        first = json_object_get_string(json_object_array_get_idx(problems, 0));
        snprintf(text, sizeof(text), "its interface report does not fit to the host: %s%s", strempty(first),
                 json_object_array_length(problems) > 1 ? " (and more: see vm show --json)" : "");
        mismatch(t, text);
}

static void on_checked(Worker *w, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct report_check *x = userdata;
        struct json_object *report;

        if (r == -ECONNRESET)
                x->worker = worker_free(w);
        if (x->tdi && r >= 0 && json_get_object(values, "report", &report) >= 0)
                take(x->tdi, report);
        else if (x->tdi)
                not_looked_at(x->tdi, text);
        end(x);
}

static void on_report(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        _cleanup_json_ struct json_object *args = json_new();
        struct report_check *x = userdata;

        if (!x->tdi || r < 0) {
                /* ENOENT: it was unlocked meanwhile. */
                end(x);
                return;
        }
        if (free_and_strdup(&x->tdi->raw_report, json_str_or(answer, "report", "")) < 0)
                log_oom();
        x->tdi->report_read = now_realtime();
        json_set_str(args, "bdf", x->tdi->custody->name);
        json_set_str(args, "report", json_str_or(answer, "report", ""));
        r = worker_new(x->manager, -EBADF, &x->worker);
        if (r >= 0)
                r = worker_call(x->worker, "check.report", "do", args, NULL, 0, on_checked, x);
        if (r >= 0)
                return;
        x->worker = worker_free(x->worker);
        not_looked_at(x->tdi, strerror(-r));
        end(x);
}

static void begin(struct report_check *x) {
        if (at_once >= AT_ONCE_MAX) {
                wait_for_turn(x);
                return;
        }
        at_once++;
        if (vpci_report(x->tdi->custody, on_report, x) < 0)
                end(x);
}

void tdi_look_at_report(TDI *t) {
        struct report_check *x = t->report_check;

        if (x) {
                x->again = true;
                return;
        }
        x = calloc(1, sizeof(*x));
        if (!x)
                log_oom();
        *x = (struct report_check){ .tdi = t, .manager = t->vm->manager };
        t->report_check = x;
        begin(x);
}

void tdi_forget_report(TDI *t) {
        struct report_check *x = TAKE_PTR(t->report_check);

        if (x)
                x->tdi = NULL;
        /* Who waits for its turn has nobody to come back to it. */
        if (x && x->timer)
                check_free(x);
        json_putp(&t->report);
        t->report = NULL;
        free(TAKE_PTR(t->raw_report));
}

struct json_object *tdi_describe_report(const TDI *t) {
        struct json_object *o;

        if (!t->report)
                return NULL;
        o = json_new();
        json_object_object_foreach(t->report, key, value)
                json_set_take(o, key, json_object_get(value));
        /* KVM maps no private MMIO up to Linux 7.3, and tells nobody when it does: to map it is the VMM's part. */
        json_set_str(o, "private_mmio", json_u64_or(o, "tee_bytes", 0) == 0 ? "not needed: it has no trusted memory" :
                     "not supported: no kernel up to 7.3 maps trusted memory of a device into a guest; while the TDI runs it is reached by nobody");
        return o;
}
