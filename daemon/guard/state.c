/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether there is a guard, and what of it each function and VM has. */
#include <stdio.h>

#include "custody.h"
#include "guard/guard.h"
#include "vm.h"
#include "worker.h"

#define PATIENCE_USEC (10 * 1000000ULL)
/* After the last function was given back: whoever attaches the next one by then need not wait until the programs are loaded again. */
#define LINGER_USEC (5 * 1000000ULL)
#define NOT_KNOWN "none: it is not known yet whether there can be one"
#define ATTACHED_WITHOUT "none: it was attached when there was no mmap guard; detach it, and attach it again"

static struct guard *guard_of(Manager *m) {
        if (!m->guard) {
                m->guard = calloc(1, sizeof(*m->guard));
                if (!m->guard)
                        log_oom();
                snprintf(m->guard->text, sizeof(m->guard->text), NOT_KNOWN);
        }
        return m->guard;
}

static void decided(Manager *m, const char *why) {
        struct guard *g = guard_of(m);
        void (*done)(Manager *m) = g->done;

        g->patience = sd_event_source_disable_unref(g->patience);
        g->done = NULL;
        g->known = true;
        g->on = !why;
        snprintf(g->text, sizeof(g->text), "%s%s", why ? "none: " : "on", strempty(why));
        if (why)
                log_notice("mmap guard: %s", g->text);
        if (done)
                done(m);
}

static void on_looked(Worker *w, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        Manager *m = userdata;
        struct guard *g = m->guard;

        g->worker = r == -ECONNRESET ? worker_free(w) : worker_rest(w);
        if (g->known)
                return;
        if (r >= 0 && !isempty(json_str_or(values, "guard_set", "")))
                guard_listen(m, json_str_or(values, "guard_set", ""));
        decided(m, r < 0 ? text : NULL);
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        decided(userdata, "the worker that loads its programs has not come back");
        return 0;
}

/* In the guard, or perhaps. */
static bool is_touched(const Custody *c) {
        return json_bool_or(c->values, "guard", false) && custody_touched(c, ACTION_GUARD_ON);
}

void guard_begin(Manager *m) {
        struct guard *g = guard_of(m);
        _cleanup_json_ struct json_object *args = json_new();
        struct json_object *list = json_new_array();
        int r;

        for (size_t i = 0; i < m->n_custodies; i++)
                if (is_touched(m->custodies[i]))
                        json_push_str(list, m->custodies[i]->name);
        json_set_take(args, "functions", list);
        json_set_str(args, "state", m->state_dir);
        json_set_str(args, "boot", m->boot_id);
        if (!streq(m->host->ops->name, "linux")) {
                decided(m, "the host is simulated");
                return;
        }
        if (!guard_is_built_in) {
                decided(m, "this tdid was built without the mmap guard");
                return;
        }
        r = worker_new(m, -EBADF, &g->worker);
        if (r >= 0)
                r = worker_call(g->worker, "guard.look", "do", args, NULL, 0, on_looked, m);
        if (r >= 0)
                r = sd_event_add_time_relative(m->event, &g->patience, CLOCK_MONOTONIC, PATIENCE_USEC, 0, on_patience, m);
        if (r < 0) {
                g->worker = worker_free(g->worker);
                decided(m, "no worker could be started to load its programs");
        }
}

static void on_swept(Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        Manager *m = userdata;
        struct guard *g = m->guard;

        if (r < 0)
                log_warning("mmap guard: what an earlier tdid has pinned is still there: %s", text);
        g->worker = r == -ECONNRESET ? worker_free(w) : worker_rest(w);
        g->sweeping = false;
        g->listener = guard_listener_free(g->listener);
        manager_touch(m);
}

static int start_sweep(Manager *m) {
        _cleanup_json_ struct json_object *args = json_new();
        struct guard *g = m->guard;
        int r;

        g->linger = sd_event_source_disable_unref(g->linger);
        json_set_str(args, "state", m->state_dir);
        r = worker_new(m, -EBADF, &g->worker);
        if (r >= 0)
                r = worker_call(g->worker, "guard.sweep", "do", args, NULL, 0, on_swept, m);
        if (r < 0)
                g->worker = worker_free(g->worker);
        return r;
}

void guard_sweep(Manager *m) {
        struct guard *g = guard_of(m);

        if (g->on && !g->worker && !guard_has_any(m))
                g->sweeping = start_sweep(m) >= 0;
}

static int on_linger(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Manager *m = userdata;

        m->guard->linger = sd_event_source_disable_unref(m->guard->linger);
        guard_sweep(m);
        return 0;
}

void guard_was_cleared(Custody *c) {
        Manager *m = c->manager;

        if (!guard_is_on(m) || guard_has_any(m))
                return;
        m->guard->linger = sd_event_source_disable_unref(m->guard->linger);
        if (sd_event_add_time_relative(m->event, &m->guard->linger, CLOCK_MONOTONIC, LINGER_USEC, 0, on_linger, m) < 0)
                log_oom();
}

bool guard_is_sweeping(const Manager *m) {
        return m->guard && m->guard->sweeping;
}

void guard_when_known(Manager *m, void (*done)(Manager *m)) {
        struct guard *g = guard_of(m);

        if (g->known)
                done(m);
        else
                g->done = done;
}

void guard_free(Manager *m) {
        if (!m->guard)
                return;
        /* The worker takes away what nobody needs any more, and ends by itself. */
        if (m->guard->linger && !m->guard->worker && !guard_has_any(m))
                (void) start_sweep(m);
        sd_event_source_disable_unref(m->guard->linger);
        m->guard->listener = guard_listener_free(m->guard->listener);
        sd_event_source_disable_unref(m->guard->patience);
        worker_free(m->guard->worker);
        free(m->guard);
        m->guard = NULL;
}

bool guard_is_on(const Manager *m) {
        return m->guard && m->guard->on;
}

const char *guard_state(const Manager *m) {
        return m->guard ? m->guard->text : NOT_KNOWN;
}

bool custody_is_guarded(const Custody *c) {
        return json_bool_or(c->values, "guard", false) && custody_is_done(c, ACTION_GUARD_ON);
}

static bool has_any(const Manager *m, const Custody *but) {
        for (size_t i = 0; i < m->n_custodies; i++)
                if (m->custodies[i] != but && is_touched(m->custodies[i]))
                        return true;
        return false;
}

bool guard_has_any(const Manager *m) {
        return has_any(m, NULL);
}

bool guard_has_others(const Custody *c) {
        return has_any(c->manager, c);
}

const char *guard_state_of(const Custody *c) {
        if (custody_is_guarded(c))
                return "on";
        return guard_is_on(c->manager) ? ATTACHED_WITHOUT : guard_state(c->manager);
}

const char *guard_state_of_vm(const VM *vm) {
        for (size_t i = 0; i < vm->n_tdis; i++)
                if (vm->tdis[i]->custody && tdi_is_attached(vm->tdis[i]) && !custody_is_guarded(vm->tdis[i]->custody))
                        return guard_state_of(vm->tdis[i]->custody);
        return guard_state(vm->manager);
}

void guard_was_set(Custody *c) {
        struct json_object *list;

        if (!custody_is_guarded(c))
                return;
        c->manager->guard->linger = sd_event_source_disable_unref(c->manager->guard->linger);
        guard_listen(c->manager, json_str_or(c->values, "guard_set", ""));
        if (json_get_array(c->values, "guard_writers", &list) < 0)
                return;
        for (size_t i = 0; i < json_object_array_length(list); i++)
                log_warning("%s: %s since before it was guarded, and could reset it or move its BARs: end that process", c->name,
                            json_object_get_string(json_object_array_get_idx(list, i)));
        json_object_object_del(c->values, "guard_writers");
}

struct json_object *guard_refusals(Manager *m, struct tdi_bdf bdf) {
        return m->guard && m->guard->listener ? guard_read_refusals(m->guard->listener, tdi_bdf_number(bdf)) : NULL;
}
