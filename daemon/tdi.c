/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TDIs: functions as their VM sees them. */
#include <stdio.h>

#include "audit.h"
#include "bus/bus.h"
#include "vpci.h"
#include "watch.h"

char *tdi_path(const TDI *t, char buf[static 64]) {
        char label[TDI_BDF_MAX];

        snprintf(buf, 64, BUS_ROOT "/tdi/%s", tdi_bdf_to_label(t->bdf, label));
        return buf;
}

static int by_address(const void *a, const void *b) {
        uint32_t x = tdi_bdf_number((*(TDI *const *) a)->bdf), y = tdi_bdf_number((*(TDI *const *) b)->bdf);

        return x < y ? -1 : x > y;
}

TDI *tdi_new(VM *vm, Custody *c) {
        TDI *t = calloc(1, sizeof(*t));
        char path[64];

        if (!t)
                log_oom();
        t->vm = vm;
        t->custody = c;
        t->bdf = c->bdf;
        t->guest_rid = UINT32_MAX;
        t->tdisp = t->shown_tdisp = TDI_TDISP_INVALID;
        t->bind = vm->bind;
        manager_append((void ***) &vm->tdis, &vm->n_tdis, &vm->room_tdis, t);
        /* In the order of addresses, so that a restart changes nothing that anybody sees. */
        qsort(vm->tdis, vm->n_tdis, sizeof(*vm->tdis), by_address);
        t->announced = true;
        bus_added(vm->manager, tdi_path(t, path), BUS_TDI);
        bus_changed(vm->manager, vm_path(vm, path), BUS_VM, "TDIs", NULL);
        return t;
}

TDI *tdi_free(TDI *t) {
        char path[64];

        if (!t)
                return NULL;
        watch_drop(t->vm->manager->watch, t->bdf);
        manager_remove((void **) t->vm->tdis, &t->vm->n_tdis, t);
        if (t->announced) {
                bus_removed(t->vm->manager, tdi_path(t, path), BUS_TDI);
                bus_changed(t->vm->manager, vm_path(t->vm, path), BUS_VM, "TDIs", NULL);
        }
        vm_touch(t->vm);
        bus_end_guest_requests(t);
        tdi_forget_report(t);
        json_putp(&t->vpci);
        json_putp(&t->events);
        free(t->bind_error);
        free(t);
        return NULL;
}

TDI *tdi_find(Manager *m, struct tdi_bdf bdf) {
        for (size_t i = 0; i < m->n_vms; i++)
                for (size_t k = 0; k < m->vms[i]->n_tdis; k++)
                        if (tdi_bdf_number(m->vms[i]->tdis[k]->bdf) == tdi_bdf_number(bdf))
                                return m->vms[i]->tdis[k];
        return NULL;
}

TDI *tdi_of(const Custody *c) {
        for (size_t i = 0; c->vm && i < c->vm->n_tdis; i++)
                if (c->vm->tdis[i]->custody == c)
                        return c->vm->tdis[i];
        return NULL;
}

bool tdi_is_attached(const TDI *t) {
        return t->state == TDI_STATE_PREPARED || t->state == TDI_STATE_BOUND || t->state == TDI_STATE_RUNNING;
}

void tdi_set_state(TDI *t, enum tdi_state state) {
        char path[64], bdf[TDI_BDF_MAX];

        if (t->state == state)
                return;
        tdi_bdf_format(t->bdf, bdf);
        if (!tdi_state_may_follow(t->state, state)) {
                log_error("%s: %s may not follow %s", bdf, tdi_state_to_string(state), tdi_state_to_string(t->state));
                return;
        }
        audit_tdi_state(t, state);
        t->state = state;
        if (state == TDI_STATE_PREPARED)
                watch_add(t->vm->manager->watch, t->bdf);
        else if (state == TDI_STATE_DETACHING)
                watch_drop(t->vm->manager->watch, t->bdf);
        bus_changed(t->vm->manager, tdi_path(t, path), BUS_TDI, "State", NULL);
        manager_touch(t->vm->manager);
}

void tdi_written_to(struct tdi_bdf bdf, const char *file, void *userdata) {
        TDI *t = tdi_find(userdata, bdf);
        char text[160];

        if (!t)
                return;
        snprintf(text, sizeof(text), "somebody on the host has written to its %s file in sysfs%s", file,
                 streq(file, "config") ? ": what the VM knows of its configuration may be wrong" :
                 streq(file, "reset")  ? ": the function has lost its state" :
                 streq(file, "reset_method") ? ": it may be reset otherwise when it is given back, or not at all" : "");
        vpci_note(t, "host", text);
}

void tdi_failed(TDI *t, const char *reason) {
        char path[64];

        audit_tdi_failed(t, reason);
        tdi_set_state(t, TDI_STATE_FAILED);
        bus_emit_failed(t->vm->manager, tdi_path(t, path), reason);
}
