/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What jobs on functions do: attach (all or none), detach, destroy, seal, restore. None of them does anything to the kernel:
 * they set goals, look at what came of them, and decide.
 */
#include "custody.h"
#include "device.h"
#include "job.h"
#include "proofs.h"
#include "vm.h"

/* The functions of an attach job that still are in custody. */
static Custody *member(const Job *j, size_t i) {
        Custody *c = custody_find(j->manager, j->bdfs[i]);

        return c && c->sequence == j->sequence ? c : NULL;
}

static void undo_all(Job *j) {
        j->undoing = true;
        for (size_t i = 0; i < j->n_bdfs; i++) {
                Custody *c = member(j, i);
                TDI *t = c ? tdi_of(c) : NULL;

                if (t)
                        tdi_set_state(t, TDI_STATE_DETACHING);
                if (c)
                        custody_give_back(c);
        }
}

static bool attach_failed(Job *j) {
        for (size_t i = 0; i < j->n_bdfs; i++) {
                Custody *c = member(j, i);

                if (!c) {
                        /* It is gone, undone after its failure, before we looked. */
                        job_fail(j, TDI_ERROR_KERNEL, "%s could not be attached, and has been given back; `journalctl -u tdid` tells why", j->objects[i]);
                        return true;
                }
                if (c->error != TDI_ERROR_NONE) {
                        job_fail(j, c->error, "%s", c->error_text);
                        return true;
                }
        }
        if (j->cancel) {
                job_fail(j, TDI_ERROR_CANCELLED, "the attach was cancelled and undone");
                return true;
        }
        if (!j->vm || j->vm->close != CLOSE_NOT) {
                job_fail(j, TDI_ERROR_INVALID_STATE, "the VM closed while functions were being attached");
                return true;
        }
        for (size_t i = 0; i < j->n_bdfs; i++) {
                const Custody *c = member(j, i);

                if (c->goal != GOAL_DOWN && !c->quarantine)
                        continue;
                job_fail(j, TDI_ERROR_INVALID_STATE, "%s was being attached, and goes back: the host wants it", c->name);
                return true;
        }
        return false;
}

bool attach_evidence_settle(Job *j) {
        if (j->cancel)
                job_fail(j, TDI_ERROR_CANCELLED, "the attach was cancelled before anything was attached");
        else if (!j->vm || j->vm->close != CLOSE_NOT)
                job_fail(j, TDI_ERROR_INVALID_STATE, "the VM closed while devices were asked for their evidence");
        else
                return false;
        proofs_forget_job(j);
        job_finish(j);
        return true;
}

bool attach_settle(Job *j) {
        size_t complete = 0, left = 0;

        if (!j->undoing && attach_failed(j)) {
                undo_all(j);
                return true;
        }
        for (size_t i = 0; i < j->n_bdfs; i++) {
                Custody *c = member(j, i);

                if (!c)
                        continue;
                complete += custody_is_complete(c);
                /* A function that is stuck is undone when it comes back; the caller need not wait for that. */
                left += !custody_is_stalled(c);
        }
        if (j->undoing) {
                if (left > 0)
                        return false;
                job_finish(j);
                return true;
        }
        if (complete < j->n_bdfs)
                return false;
        if (!j->committing) {
                /* From here a later tdid keeps them: the record says so before the caller hears of it. */
                for (size_t i = 0; i < j->n_bdfs; i++)
                        tdi_of(member(j, i))->committed = true;
                vm_touch(j->vm);
                j->committing = true;
                return true;
        }
        if (j->vm->record_dirty || j->vm->record_busy)
                return false;
        for (size_t i = 0; i < j->n_bdfs; i++)
                tdi_set_state(tdi_of(member(j, i)), TDI_STATE_PREPARED);
        job_finish(j);
        return true;
}

/* Ends when every function is given back, or shows that it cannot be. */
bool release_settle(Job *j) {
        for (size_t i = 0; i < j->n_bdfs; i++) {
                Custody *c = custody_find(j->manager, j->bdfs[i]);

                if (!c)
                        continue;
                if (custody_is_asked_again(c) || (!c->quarantine && !c->blocked))
                        return false;
                if (c->quarantine)
                        job_fail(j, TDI_ERROR_QUARANTINED, "%s is quarantined: %s", c->name, c->quarantine);
                else
                        job_fail(j, TDI_ERROR_QUARANTINED, "%s waits for another function of its IOMMU group, which could not be given back", c->name);
        }
        job_finish(j);
        return true;
}

bool restore_settle(Job *j) {
        const Custody *c = custody_find(j->manager, j->bdfs[0]);

        /* It was to be unbound, and is; its VM has it. */
        if (c && custody_is_complete(c)) {
                job_finish(j);
                return true;
        }
        return release_settle(j);
}

/* Of a VM that ends: true when nothing is to be waited for but a TSM that does not unbind. */
static bool note_left_behind(Job *j, VM *vm) {
        bool waits = vm_waits_for_tsm(vm);

        /* Functions that stay behind are not the VM's any more when it is gone: note them while they are. */
        for (size_t i = 0; i < j->manager->n_custodies; i++) {
                Custody *c = j->manager->custodies[i];

                if (c->vm != vm || !c->quarantine)
                        continue;
                if (custody_is_asked_again(c))
                        waits = false;
                else if (!custody_unbind_is_refused(c) || vm_leaves_bound(vm))
                        job_fail(j, TDI_ERROR_QUARANTINED, "VM %s is gone, but %s is quarantined: %s", vm->name, c->name, c->quarantine);
        }
        for (size_t i = 0; waits && i < j->manager->n_custodies; i++) {
                Custody *c = j->manager->custodies[i];

                if (c->vm == vm && custody_unbind_is_refused(c))
                        job_fail(j, TDI_ERROR_QUARANTINED, "VM %s is closing, and guest memory is given back, but %s is bound still, and quarantined: %s; "
                                 "`tdictl vm destroy --abandon` does not wait for that", vm->name, c->name, c->quarantine);
        }
        return waits;
}

bool destroy_settle(Job *j) {
        if (j->vm && !note_left_behind(j, j->vm) && j->vm->close != CLOSE_DONE)
                return false;
        job_finish(j);
        return true;
}

bool seal_settle(Job *j) {
        const TDI *failed;

        if (!j->vm || j->vm->close != CLOSE_NOT) {
                job_fail(j, TDI_ERROR_INVALID_STATE, "the VM closed before it was sealed");
                job_finish(j);
                return true;
        }
        if (j->vm->record_dirty || j->vm->record_busy || !tdi_early_are_bound(j->vm, &failed))
                return false;
        if (failed)
                job_fail(j, failed->custody->error != TDI_ERROR_NONE ? failed->custody->error : TDI_ERROR_NOT_SUPPORTED,
                         "VM %s is sealed, but %s could not be bound early: %s; `tdictl bind` tries again", j->vm->name, failed->custody->name,
                         strempty(failed->bind_error));
        if (j->vm->arrived)
                vm_set_phase(j->vm, TDI_VM_RUNNING);
        job_finish(j);
        return true;
}
