/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs. */
#include "job.h"

#include <stdarg.h>
#include <stdio.h>

#include "audit.h"
#include "bus/bus.h"
#include "counters.h"
#include "custody.h"
#include "vm.h"
#include "worker.h"

#define KEEP_USEC (60 * 1000000ULL)

static const char *const kinds[JOB_KIND_MAX] = {
        [JOB_ATTACH] = "attach",   [JOB_DETACH] = "detach",         [JOB_SEAL] = "seal",       [JOB_DESTROY] = "destroy",
        [JOB_CONNECT] = "connect", [JOB_DISCONNECT] = "disconnect", [JOB_RESTORE] = "restore",
        [JOB_BIND] = "bind",       [JOB_UNBIND] = "unbind",
};

const char *job_kind_to_string(enum job_kind kind) {
        return kinds[kind];
}

int job_new(Manager *m, enum job_kind kind, VM *vm, bool (*settle)(Job *j), Job **ret) {
        char path[64];
        Job *j;

        /* Results that are merely kept make room. */
        for (size_t i = 0; m->n_jobs >= m->config.jobs && i < m->n_jobs; i++)
                if (job_is_finished(m->jobs[i])) {
                        job_free(m->jobs[i]);
                        break;
                }
        if (m->n_jobs >= m->config.jobs)
                return -EDQUOT;
        j = calloc(1, sizeof(*j));
        if (!j)
                log_oom();
        j->manager = m;
        j->id = m->next_job++;
        j->kind = kind;
        j->vm = vm;
        j->owner = vm ? vm->owner : 0;
        j->settle = settle;
        j->started = now_realtime();
        j->begun = now_monotonic();
        j->step = "";
        manager_append((void ***) &m->jobs, &m->n_jobs, &m->room_jobs, j);
        bus_added(m, job_path(j, path), BUS_JOB);
        manager_touch(m);
        *ret = j;
        return 0;
}

Job *job_free(Job *j) {
        char path[64];

        if (!j)
                return NULL;
        bus_removed(j->manager, job_path(j, path), BUS_JOB);
        manager_remove((void **) j->manager->jobs, &j->manager->n_jobs, j);
        sd_event_source_disable_unref(j->expiry);
        sd_bus_message_unref(j->call);
        worker_free(j->worker);
        for (size_t i = 0; i < j->n_objects; i++)
                free(j->objects[i]);
        free(j->objects);
        free(j->bdfs);
        free(j->text);
        free(j->tsm);
        free(j);
        return NULL;
}

void job_add_object(Job *j, const char *name) {
        j->objects = reallocarray(j->objects, j->n_objects + 1, sizeof(*j->objects));
        if (!j->objects)
                log_oom();
        j->objects[j->n_objects] = strdup(name);
        if (!j->objects[j->n_objects++])
                log_oom();
}

void job_add_bdf(Job *j, struct tdi_bdf bdf) {
        char name[TDI_BDF_MAX];

        j->bdfs = reallocarray(j->bdfs, j->n_bdfs + 1, sizeof(*j->bdfs));
        if (!j->bdfs)
                log_oom();
        j->bdfs[j->n_bdfs++] = bdf;
        job_add_object(j, tdi_bdf_format(bdf, name));
}

Job *job_find(Manager *m, uint64_t id) {
        for (size_t i = 0; i < m->n_jobs; i++)
                if (m->jobs[i]->id == id)
                        return m->jobs[i];
        return NULL;
}

char *job_path(const Job *j, char buf[static 64]) {
        snprintf(buf, 64, BUS_ROOT "/job/%llu", (unsigned long long) j->id);
        return buf;
}

bool job_is_finished(const Job *j) {
        return j->state >= TDI_JOB_DONE;
}

void job_fail(Job *j, enum tdi_error error, const char *format, ...) {
        va_list ap;
        int r;

        if (j->error != TDI_ERROR_NONE)
                return;
        j->error = error;
        va_start(ap, format);
        r = vasprintf(&j->text, format, ap);
        va_end(ap);
        if (r < 0)
                log_oom();
}

void job_set_state(Job *j, enum tdi_job_state state) {
        char path[64];

        if (j->state == state)
                return;
        if (!tdi_job_state_may_follow(j->state, state)) {
                log_error("job %llu: %s may not follow %s", (unsigned long long) j->id, tdi_job_state_to_string(state),
                          tdi_job_state_to_string(j->state));
                return;
        }
        j->state = state;
        bus_changed(j->manager, job_path(j, path), BUS_JOB, "State", NULL);
}

static int on_expiry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        job_free(userdata);
        return 0;
}

void job_finish(Job *j) {
        if (job_is_finished(j))
                return;
        j->finished = now_realtime();
        j->step = "";
        job_set_state(j, j->error == TDI_ERROR_NONE ? TDI_JOB_DONE : j->error == TDI_ERROR_CANCELLED ? TDI_JOB_CANCELLED : TDI_JOB_FAILED);
        audit_job_ended(j);
        counters_job(j);
        bus_emit_finished(j);
        if (j->call)
                bus_reply_job(j);
        j->call = sd_bus_message_unref(j->call);
        j->worker = worker_free(j->worker);
        j->vm = NULL;
        if (sd_event_add_time_relative(j->manager->event, &j->expiry, CLOCK_MONOTONIC, KEEP_USEC, 0, on_expiry, j) < 0)
                log_oom();
}

bool job_acts_on_dsm(Manager *m, const char *dsm) {
        for (size_t i = 0; i < m->n_jobs; i++)
                if ((m->jobs[i]->kind == JOB_CONNECT || m->jobs[i]->kind == JOB_DISCONNECT) && !job_is_finished(m->jobs[i]) &&
                    streq(m->jobs[i]->objects[0], dsm))
                        return true;
        return false;
}

unsigned job_count(Manager *m, const VM *vm) {
        unsigned n = 0;

        for (size_t i = 0; i < m->n_jobs; i++)
                n += m->jobs[i]->vm == vm && !job_is_finished(m->jobs[i]);
        return n;
}

static bool concerns(const Job *j, const Custody *c) {
        /* What it names is nobody's yet, or another's. */
        if (j->waits_for)
                return false;
        if (j->kind == JOB_DESTROY)
                return j->vm && c->vm == j->vm;
        for (size_t i = 0; i < j->n_bdfs; i++)
                if (tdi_bdf_number(j->bdfs[i]) == tdi_bdf_number(c->bdf))
                        return true;
        return false;
}

uint64_t job_deadline(const Job *j) {
        uint64_t last = 0;

        if (job_is_finished(j))
                return 0;
        for (size_t i = 0; i < j->manager->n_custodies; i++)
                if (concerns(j, j->manager->custodies[i]) && j->manager->custodies[i]->deadline > last)
                        last = j->manager->custodies[i]->deadline;
        return last ? last - now_monotonic() + now_realtime() : 0;
}

void job_refresh(Job *j) {
        const char *step = "";
        bool stuck = false;
        char path[64];

        if (job_is_finished(j))
                return;
        if (j->waits_for)
                step = j->waits_for;
        for (size_t i = 0; i < j->manager->n_custodies; i++) {
                Custody *c = j->manager->custodies[i];

                if (!concerns(j, c))
                        continue;
                if (c->busy && !*step)
                        step = custody_action_name(c);
                if (c->stuck || c->locked_out) {
                        stuck = true;
                        step = custody_action_name(c);
                }
        }
        if (!streq(step, j->step)) {
                j->step = step;
                bus_changed(j->manager, job_path(j, path), BUS_JOB, "Step", NULL);
        }
        job_set_state(j, stuck ? TDI_JOB_STUCK : TDI_JOB_RUNNING);
}
