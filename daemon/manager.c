/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The manager's life, and the settling round. */
#include "manager.h"

#include <time.h>

#include "admission.h"
#include "audit.h"
#include "bus/bus-vm.h"
#include "bus/reading.h"
#include "device.h"
#include "evidence.h"
#include "guard/guard.h"
#include "ide.h"
#include "inhibit.h"
#include "job.h"
#include "stop.h"
#include "tsm.h"
#include "vm.h"
#include "watch.h"
#include "worker.h"

/* A round that never comes to rest is a defect of ours: it is left to the next event rather than spinning here. */
#define ROUNDS_MAX 10000

uint64_t now_realtime(void) {
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

uint64_t now_monotonic(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

void manager_append(void ***array, size_t *n, size_t *room, void *item) {
        if (*n >= *room) {
                size_t more = *room ? *room * 2 : 16;
                void **t = reallocarray(*array, more, sizeof(*t));

                if (!t)
                        log_oom();
                *array = t;
                *room = more;
        }
        (*array)[(*n)++] = item;
}

void manager_remove(void **array, size_t *n, void *item) {
        for (size_t i = 0; i < *n; i++)
                if (array[i] == item) {
                        memmove(array + i, array + i + 1, (--*n - i) * sizeof(*array));
                        return;
                }
}

/* A custody that has come to its end: the function is as it was, and free. */
static void release(Manager *m, Custody *c) {
        char path[64];
        TDI *t = tdi_of(c);
        VM *vm = c->vm;

        audit_custody_over(c);
        if (t) {
                tdi_set_state(t, TDI_STATE_GONE);
                tdi_free(t);
        }
        manager_remove((void **) m->custodies, &m->n_custodies, c);
        if (vm)
                vm_space_settle(vm, c);
        bus_changed(m, device_path(c->bdf, path), BUS_DEVICE, "Custody", "VM", "Quarantine", "Driver", NULL);
        inventory_released(m, c->bdf);
        custody_free(c);
        manager_touch(m);
}

static bool settle_once(Manager *m) {
        bool changed = false;

        for (size_t i = 0; i < m->n_custodies; i++)
                changed |= custody_kick(m->custodies[i]);
        /* Jobs before VMs: a VM that closes leaves behind what its job has to name. */
        for (size_t i = 0; i < m->n_jobs; i++)
                if (!job_is_finished(m->jobs[i])) {
                        changed |= m->jobs[i]->settle(m->jobs[i]);
                        job_refresh(m->jobs[i]);
                }
        for (size_t i = 0; i < m->n_vms; i++)
                changed |= vm_settle(m->vms[i]);
        for (size_t i = m->n_custodies; i > 0; i--) {
                Custody *c = m->custodies[i - 1];

                if (custody_is_empty(c) && c->goal == GOAL_KEEP) {
                        release(m, c);
                        changed = true;
                }
        }
        for (size_t i = m->n_vms; i > 0; i--) {
                VM *vm = m->vms[i - 1];

                if (vm->close != CLOSE_DONE)
                        continue;
                audit_vm_gone(vm);
                for (size_t k = 0; k < m->n_jobs; k++)
                        if (m->jobs[k]->vm == vm) {
                                if (!job_is_finished(m->jobs[k]))
                                        (void) m->jobs[k]->settle(m->jobs[k]);
                                m->jobs[k]->vm = NULL;
                        }
                vm_free(vm);
                changed = true;
        }
        return changed;
}

static int on_settle(sd_event_source *s, void *userdata) {
        Manager *m = userdata;

        (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        for (unsigned i = 0; settle_once(m); i++)
                if (i >= ROUNDS_MAX) {
                        log_error("settling does not come to rest: going on with the next event");
                        break;
                }
        inhibit_settle(m);
        stop_settle(m);
        return 0;
}

void manager_touch(Manager *m) {
        (void) sd_event_source_set_enabled(m->settle, SD_EVENT_ON);
}

static int on_retry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Manager *m = userdata;

        m->retry = sd_event_source_disable_unref(m->retry);
        manager_touch(m);
        return 0;
}

void manager_retry(Manager *m) {
        if (!m->retry)
                (void) sd_event_add_time_relative(m->event, &m->retry, CLOCK_MONOTONIC, MANAGER_RETRY_USEC, 0, on_retry, m);
}

int manager_new(Manager **ret) {
        _cleanup_(manager_freep) Manager *m = NULL;
        int r;

        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        config_default(&m->config);
        m->config_path = CONFIG_PATH;
        m->worker_program = -EBADF;
        m->next_job = 1;
        m->next_sequence = 1;
        /* Ids never come again, not even after a restart: a stale object path must not name another VM. */
        m->next_vm = now_realtime() / 1000;
        r = sd_event_default(&m->event);
        if (r < 0)
                return r;
        r = sd_event_add_defer(m->event, &m->settle, on_settle, m);
        if (r < 0)
                return r;
        (void) sd_event_source_set_enabled(m->settle, SD_EVENT_OFF);
        *ret = TAKE_PTR(m);
        return 0;
}

Manager *manager_free(Manager *m) {
        if (!m)
                return NULL;
        /* No goodbye on the bus: who leaves by restart must not tell clients that everything is gone. */
        m->serving = false;
        while (m->n_jobs > 0)
                job_free(m->jobs[m->n_jobs - 1]);
        while (m->n_vms > 0)
                vm_free(m->vms[m->n_vms - 1]);
        guard_free(m);
        while (m->n_custodies > 0)
                custody_free(m->custodies[--m->n_custodies]);
        inventory_free(m->inventory);
        ide_free(m);
        m->host_reading = reading_free(m->host_reading);
        m->host_check = reading_free(m->host_check);
        inhibit_free(m->inhibit);
        admission_free(m);
        bus_evidence_end(m);
        evidence_end(m);
        worker_free_spares(m);
        while (m->n_devices > 0)
                device_free(m->devices[--m->n_devices]);
        tsm_free_all(m);
        bus_close(m);
        free(m->devices);
        free(m->custodies);
        free(m->vms);
        free(m->jobs);
        watch_free(m->watch);
        sd_event_source_disable_unref(m->settle);
        sd_event_source_disable_unref(m->retry);
        sd_event_unref(m->event);
        tdi_host_free(m->host);
        free(m->host_spec);
        free(m->state_dir);
        free(m->archive_dir);
        free(m->libexec_dir);
        close_fd(m->worker_program);
        free(m);
        return NULL;
}
