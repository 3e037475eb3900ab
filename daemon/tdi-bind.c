/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When TDIs are bound. An early one is as soon as its VM is sealed and its KVM VM known, a late one when somebody asks. A TDI that
 * is not bound, or not any more, stays prepared: nothing that it has otherwise depends on it.
 */
#include <stdio.h>

#include "association.h"
#include "audit.h"
#include "bus/bus.h"
#include "custody-rules.h"
#include "device.h"
#include "handoff.h"
#include "host/tdid_bind.h"
#include "ide.h"
#include "job.h"
#include "provider.h"
#include "vm.h"

bool bind_has_provider(Manager *m) {
        int fd = host_open(m->host, TDID_BIND_DEV, O_RDWR);

        if (fd < 0)
                return false;
        (void) host_close(m->host, fd);
        return true;
}

/* What iommufd's calls need, where the kernel has them. */
static enum tdi_error iommufd_may_bind(const TDI *t, const char *bdf, char *why, size_t size) {
        int id = (int) provider_probe(t->vm->manager->host, t->vm->iommufd);

        if (id < 0) {
                snprintf(why, size, "%s: there is no way to bind a TDI: this kernel offers user space TSM connect and disconnect only%s, and the module "
                         TDID_BIND_NAME " is not loaded; everything up to prepare works without", bdf,
                         id == -ENOTTY ? "" : ", but for calls of iommufd in a form that this tdid does not know");
                return TDI_ERROR_NOT_SUPPORTED;
        }
        if (json_u64_or(t->custody->values, "viommu", 0) == 0) {
                snprintf(why, size, "%s: this kernel's iommufd binds virtual devices, and the function has none: %s; the module " TDID_BIND_NAME " is not loaded",
                         bdf, strempty(vm_nests(t->vm) ? vm_why_no_vdevice(t) : "its platform wants no vIOMMU"));
                return TDI_ERROR_NOT_SUPPORTED;
        }
        if (!custody_is_associated(t->custody)) {
                snprintf(why, size, "%s: this kernel binds to the KVM VM that VFIO knows of, and it knows none: the VMM has to open a channel for that "
                         "(OpenAssociation) before the function is attached; the module " TDID_BIND_NAME " is not loaded", bdf);
                return TDI_ERROR_INVALID_STATE;
        }
        return TDI_ERROR_NONE;
}

enum tdi_error tdi_may_bind(const TDI *t, char *why, size_t size) {
        char bdf[TDI_BDF_MAX];

        tdi_bdf_format(t->bdf, bdf);
        if (isempty(custody_dsm(t->custody)) && t->vm->manager->n_tsms == 0) {
                snprintf(why, size, "%s: this host has no TSM that could bind it; everything up to prepare works without", bdf);
                return TDI_ERROR_NOT_SUPPORTED;
        }
        if (!custody_may_connect(t->custody, why, size))
                return TDI_ERROR_INVALID_STATE;
        if (isempty(custody_dsm(t->custody)) && !custody_wants_connection(t->custody)) {
                snprintf(why, size, "%s: no TSM is connected for it: it has no DSM, or was attached with connect \"no\"", bdf);
                return TDI_ERROR_INVALID_STATE;
        }
        if (t->guest_rid == UINT32_MAX) {
                snprintf(why, size, "%s: the TSM has to know it by the guest's requester ID: attach it with guest_rid", bdf);
                return TDI_ERROR_INVALID_STATE;
        }
        if (!custody_dsm_lets_bind(t->custody, why, size) || !ide_lets_bind(t->custody, why, size))
                return TDI_ERROR_INVALID_STATE;
        if (custody_is_handed_off(t->custody)) {
                snprintf(why, size, "%s: its descriptors were handed off: who has them could reset it while it is bound", bdf);
                return TDI_ERROR_INVALID_STATE;
        }
        return bind_has_provider(t->vm->manager) ? TDI_ERROR_NONE : iommufd_may_bind(t, bdf, why, size);
}

void tdi_bind(TDI *t) {
        t->bind_tried = true;
        t->stays_unbound = t->lost = false;
        /* Before anything is begun: the rules about functions of one DSM go by it. */
        custody_choose_dsm(t->custody);
        json_set_u64(t->custody->values, "tdi_id", t->guest_rid);
        custody_set_goal(t->custody, GOAL_BIND);
}

static void say(TDI *t, const char *text) {
        if (free_and_strdup(&t->bind_error, text) < 0)
                log_oom();
}

void tdi_unbind(TDI *t) {
        /* That is tried again anyhow; a client that comes and goes must not have it asked without pause. */
        if (custody_unbind_is_refused(t->custody))
                return;
        if (t->custody->goal == GOAL_KEEP || t->custody->goal == GOAL_BIND)
                custody_set_goal(t->custody, GOAL_UNBIND);
}

void tdi_bind_ended(TDI *t) {
        const Custody *c = t->custody;

        if (custody_is_bound(c)) {
                say(t, NULL);
                if (t->state == TDI_STATE_PREPARED)
                        tdi_set_state(t, TDI_STATE_BOUND);
        } else {
                if (c->error != TDI_ERROR_NONE)
                        say(t, c->error_text);
                if (t->state == TDI_STATE_BOUND || t->state == TDI_STATE_RUNNING)
                        tdi_set_state(t, TDI_STATE_PREPARED);
        }
        tdi_take_tdisp(t, t->tdisp);
        vm_touch(t->vm);
}

enum tdi_tdisp tdi_tdisp(const TDI *t) {
        if (!custody_is_bound(t->custody))
                return isempty(custody_dsm(t->custody)) ? TDI_TDISP_NONE : TDI_TDISP_UNLOCKED;
        return t->tdisp == TDI_TDISP_INVALID ? TDI_TDISP_UNKNOWN : t->tdisp;
}

void tdi_take_tdisp(TDI *t, enum tdi_tdisp state) {
        static const char text[] = "the device has reported an error, and its TDI is in TDISP state ERROR: it is unbound; reset it, then it can be bound again";
        enum tdi_tdisp was = t->tdisp;
        char path[64];

        if (state != TDI_TDISP_INVALID)
                t->tdisp = state;
        if (t->state == TDI_STATE_BOUND && custody_is_bound(t->custody) && t->tdisp == TDI_TDISP_RUN)
                tdi_set_state(t, TDI_STATE_RUNNING);
        else if (t->state == TDI_STATE_RUNNING && t->tdisp != TDI_TDISP_RUN)
                tdi_set_state(t, TDI_STATE_BOUND);
        (void) tdi_path(t, path);
        if (tdi_tdisp(t) != t->shown_tdisp) {
                audit_tdi_tdisp(t, tdi_tdisp(t));
                t->shown_tdisp = tdi_tdisp(t);
                if (t->shown_tdisp == TDI_TDISP_UNLOCKED)
                        tdi_forget_report(t);
                bus_changed(t->vm->manager, path, BUS_TDI, "TDISP", NULL);
        }
        if (t->tdisp != TDI_TDISP_ERROR || was == TDI_TDISP_ERROR)
                return;
        audit_tdi_unbound(t, text);
        say(t, text);
        bus_emit_failed(t->vm->manager, path, text);
        /* Also a later tdid does not bind it under a guest that has not started anew. */
        t->lost = true;
        vm_touch(t->vm);
        if (custody_touched(t->custody, ACTION_BIND_LOCK))
                tdi_unbind(t);
}

void tdi_lost_binding(TDI *t) {
        static const char text[] = "it is not bound any more: its TSM was disconnected or has gone; what tdid has of the binding is undone";
        char path[64];

        if (t->custody->goal != GOAL_KEEP)
                return;
        /* What its TSM did not want to do has been done otherwise. */
        if (custody_unbind_is_refused(t->custody)) {
                custody_unbind_again(t->custody, t->custody->again_goal);
                return;
        }
        audit_tdi_unbound(t, text);
        say(t, text);
        t->lost = true;
        vm_touch(t->vm);
        bus_emit_failed(t->vm->manager, tdi_path(t, path), text);
        custody_set_goal(t->custody, GOAL_UNBIND);
}

void tdi_look_at_bindings(Manager *m) {
        for (size_t i = 0; i < m->n_custodies; i++) {
                Custody *c = m->custodies[i];
                TDI *t = tdi_of(c);
                Device *d = device_find(m, c->bdf), *dsm;
                struct tdi_bdf bdf;

                if (!t || !d || !custody_is_bound(c) || c->busy || !inventory_tsm_round_is_done(m, c->bound_round))
                        continue;
                /* Of a function without PCIe capability the TSM core says nothing: its DSM stands for it. */
                dsm = d->says_bound || tdi_bdf_parse(custody_dsm(c), &bdf) < 0 ? NULL : device_find(m, bdf);
                if (d->says_bound ? isempty(d->bound) : dsm && isempty(dsm->tsm))
                        tdi_lost_binding(t);
        }
}

void tdi_unbind_all(VM *vm) {
        for (size_t i = 0; i < vm->n_tdis; i++) {
                TDI *t = vm->tdis[i];

                /* The next KVM VM is another one to bind to. */
                t->bind_tried = t->lost = false;
                if (custody_touched(t->custody, ACTION_BIND_LOCK) || t->custody->goal == GOAL_BIND)
                        tdi_unbind(t);
        }
}

void tdi_unbind_for_reset(TDI *t) {
        if (custody_touched(t->custody, ACTION_BIND_LOCK))
                tdi_unbind(t);
}

void tdi_unbind_for_write(TDI *t, const char *text) {
        char path[64];

        /* A guest may write on while that takes. */
        if (!custody_touched(t->custody, ACTION_BIND_LOCK) || t->custody->goal == GOAL_UNBIND || t->custody->goal == GOAL_DOWN)
                return;
        audit_tdi_unbound(t, text);
        say(t, text);
        /* Also a later tdid does not bind it under a guest that has not started anew. */
        t->lost = true;
        vm_touch(t->vm);
        bus_emit_failed(t->vm->manager, tdi_path(t, path), text);
        tdi_unbind(t);
}

void tdi_was_reset(TDI *t) {
        t->bind_tried = t->lost = false;
        /* What IDE stream it had as a DSM is not restored. */
        if (t->vm->manager->n_tsms > 0)
                (void) inventory_refresh_tsm(t->vm->manager);
        /* What it speaks for as a DSM was unbound with it. */
        for (size_t i = 0; i < t->vm->n_tdis; i++)
                if (streq(custody_dsm(t->vm->tdis[i]->custody), t->custody->name))
                        t->vm->tdis[i]->bind_tried = t->vm->tdis[i]->lost = false;
}

/* ---- early ---- */

static bool is_early(const TDI *t) {
        return t->bind == BIND_EARLY && t->committed && tdi_is_attached(t);
}

static bool is_bound(const TDI *t) {
        return t->state == TDI_STATE_BOUND || t->state == TDI_STATE_RUNNING;
}

/* At rest, or as good as that: nothing moves it before the kernel does. */
static bool has_ended(const Custody *c) {
        if (custody_is_asked_again(c))
                return false;
        return custody_is_stalled(c) || (c->goal == GOAL_KEEP && !c->busy);
}

bool tdi_waits_for_dsm(const TDI *t) {
        for (size_t i = 0; i < t->vm->n_tdis; i++) {
                const TDI *o = t->vm->tdis[i];

                if (o != t && streq(o->custody->name, custody_dsm(t->custody)))
                        return is_early(o) && !is_bound(o) && !o->stays_unbound && !o->lost && !(o->bind_tried && has_ended(o->custody));
        }
        return false;
}

bool tdi_bind_settle(VM *vm) {
        bool changed = false;
        char why[512];

        if (vm->kvm < 0 || vm->close != CLOSE_NOT || (vm->phase != TDI_VM_SEALED && vm->phase != TDI_VM_RUNNING))
                return false;
        for (size_t i = 0; i < vm->n_tdis; i++) {
                TDI *t = vm->tdis[i];

                if (!is_early(t) || t->bind_tried || t->stays_unbound || t->lost || !custody_is_complete(t->custody) || custody_is_bound(t->custody))
                        continue;
                if (tdi_waits_for_dsm(t))
                        continue;
                changed = true;
                if (tdi_may_bind(t, why, sizeof(why)) == TDI_ERROR_NONE) {
                        tdi_bind(t);
                        continue;
                }
                t->bind_tried = true;
                say(t, why);
                log_warning("VM %s: %s", vm->name, why);
        }
        return changed;
}

bool tdi_early_are_bound(VM *vm, const TDI **ret_failed) {
        bool all = true;

        *ret_failed = NULL;
        /* Without a KVM VM they are bound when it comes. */
        for (size_t i = 0; vm->kvm >= 0 && i < vm->n_tdis; i++) {
                const TDI *t = vm->tdis[i];

                if (!is_early(t) || t->stays_unbound || t->lost || is_bound(t))
                        continue;
                if (custody_is_stalled(t->custody) || (t->bind_tried && has_ended(t->custody)))
                        *ret_failed = t;
                else
                        all = false;
        }
        return all;
}

/* ---- jobs ---- */

static TDI *of_job(Job *j) {
        TDI *t = tdi_find(j->manager, j->bdfs[0]);

        if (t && t->vm == j->vm && t->vm->close == CLOSE_NOT && t->custody->goal != GOAL_DOWN)
                return t;
        job_fail(j, TDI_ERROR_INVALID_STATE, "%s was detached meanwhile", j->objects[0]);
        job_finish(j);
        return NULL;
}

bool bind_settle(Job *j) {
        TDI *t = of_job(j);
        Custody *c;

        if (!t)
                return true;
        c = t->custody;
        if (j->cancel && !j->undoing) {
                j->undoing = true;
                job_fail(j, TDI_ERROR_CANCELLED, "the bind of %s was cancelled and undone", c->name);
                tdi_unbind(t);
        }
        /* What is stuck is undone when it comes back; the caller need not wait for that. */
        if (!has_ended(c))
                return false;
        if (c->quarantine)
                job_fail(j, TDI_ERROR_QUARANTINED, "%s is quarantined: %s", c->name, c->quarantine);
        else if (c->error != TDI_ERROR_NONE)
                job_fail(j, c->error, "%s", c->error_text);
        else if (!custody_is_bound(c))
                job_fail(j, TDI_ERROR_INVALID_STATE, "%s was unbound again", c->name);
        job_finish(j);
        return true;
}

bool unbind_settle(Job *j) {
        TDI *t = of_job(j);

        if (!t)
                return true;
        if (!has_ended(t->custody))
                return false;
        if (t->custody->quarantine)
                job_fail(j, TDI_ERROR_QUARANTINED, "%s is quarantined: %s", t->custody->name, t->custody->quarantine);
        else if (custody_is_stalled(t->custody))
                job_fail(j, TDI_ERROR_TIMEOUT, "the unbind of %s did not come back in time; it goes on when it does", t->custody->name);
        job_finish(j);
        return true;
}
