/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recovery. The record in the holder says which functions a VM has; the journal says how far each function is. A function that
 * is not wholly acquired, or is in no living VM's record, goes back: whatever job was under way has lost its caller.
 */
#include "recover.h"

#include <stdio.h>

#include "association.h"
#include "audit.h"
#include "bus/bus.h"
#include "guard/guard.h"
#include "handoff.h"
#include "journal.h"
#include "stop.h"
#include "vpci.h"

struct recovery {
        Manager *manager;
        void (*done)(Manager *m);
        unsigned waiting;
        sd_event_source *timer;
};

#define PATIENCE_USEC 1000000ULL

static struct recovery recovery;

static void freeze(Manager *m, const char *vm_id, const char *reason) {
        for (size_t i = 0; i < m->n_custodies; i++)
                if (streq(m->custodies[i]->vm_id, vm_id)) {
                        /* Not by custody_set_quarantine(): the journal is another tdid's, and stays as it is. */
                        m->custodies[i]->frozen = true;
                        if (free_and_strdup(&m->custodies[i]->quarantine, reason) < 0)
                                log_oom();
                }
}

static struct json_object *committed(struct json_object *record, const char *bdf) {
        struct json_object *list;

        if (json_get_array(record, "tdis", &list) < 0)
                return NULL;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);

                if (streq(json_str_or(o, "bdf", ""), bdf))
                        return o;
        }
        return NULL;
}

/* Nothing is missing of it; whether all that is so still is looked at when it is at rest. */
static void resume_whole(TDI *t, struct json_object *record) {
        const char *why = custody_is_handed_off(t->custody) ? NULL : vpci_resumed(t);
        enum tdi_tdisp tdisp = t->tdisp;

        if (!why)
                why = association_resumed(t->custody);

        t->committed = true;
        t->stays_unbound = json_bool_or(record, "stays_unbound", false);
        t->lost = json_bool_or(record, "lost", false);
        /* Not news: one entry says what it is now. */
        audit_pause(true);
        tdi_set_state(t, TDI_STATE_PREPARED);
        if (custody_is_bound(t->custody))
                tdi_set_state(t, TDI_STATE_BOUND);
        t->tdisp = TDI_TDISP_INVALID;
        tdi_take_tdisp(t, tdisp);
        audit_pause(false);
        audit_tdi_recovered(t);
        if (custody_is_bound(t->custody))
                tdi_look_at_report(t);
        if (why)
                tdi_failed(t, why);
        custody_verify(t->custody);
}

static void resume_function(VM *vm, Custody *c, struct json_object *record) {
        struct json_object *o = committed(record, c->name);
        /* Its DSM, resumed before it, is unbound or given back, and has said so: no reason to take more from the VM than that. */
        bool unbind = c->goal == GOAL_UNBIND;
        TDI *t;

        if (unbind)
                c->goal = GOAL_KEEP;
        custody_set_vm(c, vm);
        t = tdi_new(vm, c);
        t->guest_rid = (uint32_t) json_u64_or(o, "guest_rid", UINT32_MAX);
        if (o)
                t->bind = streq(json_str_or(o, "bind", ""), "early") ? BIND_EARLY : BIND_LATE;
        /* An earlier tdid's VM goes on without vPCI sockets. */
        if (o && holder_alive(vm->holder) && !vpci_is_there(vm))
                custody_needs_no_socket(c);
        /* Whoever asked for it has lost its job; that the function is prepared is not in question. */
        if (o && custody_is_half_bound(c) && c->device >= 0) {
                log_notice("VM %s: %s was being bound or unbound when tdid ended: unbinding it", vm->name, c->name);
                resume_whole(t, o);
                custody_set_goal(c, GOAL_UNBIND);
                return;
        }
        /* Its TSM did not let go of it, and has been asked again since by nobody. */
        if (o && custody_unbind_is_refused(c) && vm->phase != TDI_VM_CLOSING && (c->done & CUSTODY_PREPARED) == CUSTODY_PREPARED && c->device >= 0) {
                resume_whole(t, o);
                custody_unbind_later(c, GOAL_UNBIND);
                return;
        }
        if (o && custody_is_complete(c) && c->device >= 0) {
                resume_whole(t, o);
                /* Its KVM VM, or its client, has gone while no tdid was there; or its DSM goes. */
                if (custody_is_bound(c) && (unbind || vm->kvm < 0 || (json_object_object_get_ex(o, "connection", NULL) && !keeper_find_vpci(vm, c->bdf))))
                        custody_set_goal(c, GOAL_UNBIND);
                /* tdid ended after the bind, or before it knew of requests. */
                else if (custody_is_bound(c) && !custody_is_done(c, ACTION_BIND_REQUESTS) && c->goal == GOAL_KEEP)
                        custody_set_goal(c, GOAL_BIND);
                return;
        }
        if (c->frozen)
                return;
        log_notice("VM %s: %s was being %s when tdid ended: giving it back", vm->name, c->name, o ? "detached" : "attached");
        tdi_set_state(t, TDI_STATE_DETACHING);
        custody_give_back(c);
}

static void go_on(void) {
        void (*done)(Manager *m) = recovery.done;

        recovery.done = NULL;
        if (done)
                done(recovery.manager);
}

static void finish_one(void) {
        Manager *m = recovery.manager;

        if (--recovery.waiting > 0)
                return;
        recovery.timer = sd_event_source_disable_unref(recovery.timer);
        m->recovering = false;
        /* Without a VM there is nobody to hold for. */
        for (size_t i = 0; i < m->n_custodies; i++) {
                Custody *c = m->custodies[i];

                if (!c->vm && custody_unbind_is_refused(c))
                        custody_unbind_later(c, GOAL_DOWN);
                if (c->vm || c->quarantine || c->frozen)
                        continue;
                log_notice("%s was held for VM %s, which is no more: giving it back", c->name, c->vm_id);
                custody_set_goal(c, GOAL_DOWN);
        }
        vpci_sweep(m);
        manager_touch(m);
        go_on();
        stop_resume(m);
}

/* A holder that does not answer holds up its own VM, not the others: they are served without it. */
static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, _unused_ void *userdata) {
        recovery.timer = sd_event_source_disable_unref(recovery.timer);
        log_warning("%u holders have not answered yet: going on without them for now", recovery.waiting);
        go_on();
        return 0;
}

/* Without them there is nobody to give anything back to: the holders keep everything for a tdid that has room. */
static void end_for_want(Manager *m, const char *id, int r) {
        log_error("VM %s: could not take what its holder keeps: %s; ending, the holders keep everything: does tdid.service have its LimitNOFILE=, and the host "
                  "enough (fs.file-max)?", id, strerror(-r));
        (void) sd_event_exit(m->event, 1);
}

static void on_adopted(VM *vm, int r) {
        Manager *m = vm->manager;
        char path[64];

        if (r == -EMFILE) {
                end_for_want(m, vm->id, r);
                return;
        }
        vm->announced = true;
        bus_added(m, vm_path(vm, path), BUS_VM);
        /* The descriptors are there: functions find theirs in place. */
        for (size_t i = 0; i < m->n_custodies; i++)
                if (streq(m->custodies[i]->vm_id, vm->id))
                        resume_function(vm, m->custodies[i], vm->adopting);
        if (r < 0 || vm->iommufd < 0) {
                log_error("VM %s: its holder has not given its descriptors (%s): closing it", vm->name, r < 0 ? strerror(-r) : "no iommufd");
                vm_close(vm, "its descriptors are lost");
        } else
                audit_vm_recovered(vm);
        if (vm->phase == TDI_VM_CLOSING)
                vm_close(vm, "it was closing when tdid ended");
        vm_touch(vm);
        manager_touch(m);
        finish_one();
}


/* A holder that never got its VM, or is dead: it ends, and the functions in the journal go back. */
static void give_up(VM *vm) {
        vm->phase = TDI_VM_CLOSING;
        vm->close = CLOSE_ENDING;
        manager_touch(vm->manager);
        finish_one();
}

/* A living holder that we do not understand: a guest may be running. It is seen, and nobody's to command. */
static void leave_alone(VM *vm, const char *reason) {
        audit_vm_not_recovered(vm, reason);
        vm->frozen = true;
        freeze(vm->manager, vm->id, reason);
        finish_one();
}

/* Is the journal of one of its functions a newer tdid's? */
static bool has_frozen_function(Manager *m, struct json_object *record) {
        for (size_t i = 0; i < m->n_custodies; i++)
                if (m->custodies[i]->frozen && committed(record, m->custodies[i]->name))
                        return true;
        return false;
}

static void on_hello(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        struct json_object *state;
        VM *vm = userdata;

        if (r >= 0 && json_get_object(answer, "state", &state) >= 0) {
                /* Taken up without that function, the VM's record would be written anew and forget it. */
                if (has_frozen_function(vm->manager, state)) {
                        leave_alone(vm, "a function of it has a journal of a newer tdid: start that version, this one leaves the VM alone");
                        return;
                }
                r = vm_adopt(vm, answer, on_adopted);
                if (r >= 0)
                        return;
        } else if (r >= 0)
                r = -ENODATA;
        if (r == -ENODATA || r == -ENOTCONN || r == -ECONNRESET) {
                audit_vm_not_recovered(vm, r == -ENODATA ? "its holder has nothing: it was given nothing yet, or has given everything back" : "its holder has died");
                give_up(vm);
        } else
                leave_alone(vm, r == -EPROTONOSUPPORT ? "its VM belongs to a newer tdid: start that version, this one leaves it alone" :
                                                        "the record of its VM cannot be read; the holder keeps everything");
}

static void on_died(void *userdata) {
        VM *vm = userdata;

        if (vm->announced)
                vm_holder_died(vm);
        else
                log_error("VM %s: its holder has died", vm->id);
}

static void adopt(Manager *m, const char *id) {
        VM *vm;
        int r;

        vm = vm_new(m, "?");
        if (free_and_strdup(&vm->id, id) < 0)
                log_oom();
        recovery.waiting++;
        r = holder_connect(m, id, on_hello, on_died, vm, &vm->holder);
        if (r < 0) {
                if (r == -ECONNREFUSED) {
                        audit_vm_not_recovered(vm, "its holder is dead");
                        give_up(vm);
                } else if (r == -EMFILE || r == -ENFILE)
                        end_for_want(m, id, r);
                else
                        leave_alone(vm, "its holder cannot be reached; it keeps everything");
        }
        /* Ids go up, also past those of an earlier tdid whose clock was ahead. */
        if (strtoull(id, NULL, 10) >= m->next_vm)
                m->next_vm = strtoull(id, NULL, 10) + 1;
}

/* What is guarded is so by this build's programs: now functions may move. */
static void adopt_all(Manager *m) {
        _cleanup_(host_names_freep) char **ids = NULL;
        int r;

        r = holder_list(m, &ids);
        for (char **id = ids; r >= 0 && *id; id++)
                adopt(m, *id);
        if (r >= 0) {
                finish_one();
                if (recovery.waiting > 0)
                        r = sd_event_add_time_relative(m->event, &recovery.timer, CLOCK_MONOTONIC, PATIENCE_USEC, 0, on_patience, m);
        }
        if (r < 0) {
                log_error("could not look for the holders of an earlier tdid: %s", strerror(-r));
                (void) sd_event_exit(m->event, 1);
        }
}

int recover_start(Manager *m, void (*done)(Manager *m)) {
        int r;

        recovery = (struct recovery){ .manager = m, .done = done, .waiting = 1 };
        m->recovering = true;
        r = journal_load(m);
        if (r < 0)
                return r;
        guard_begin(m);
        if (guard_has_any(m))
                guard_when_known(m, adopt_all);
        else
                adopt_all(m);
        return 0;
}
