/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What doing and undoing have in common: the worker, its time limit, and what comes of a sub-action. */
#include "custody-engine.h"

#include <inttypes.h>
#include <stdio.h>

#include "association.h"
#include "bus/bus.h"
#include "custody-rules.h"
#include "device.h"
#include "fault.h"
#include "guard/guard.h"
#include "handoff.h"
#include "journal.h"
#include "tsm.h"
#include "vpci.h"

/* An earlier worker that is just ending takes less. */
#define LOCKED_OUT_USEC 1000000ULL

void custody_failed(Custody *c, enum custody_action a, bool undo, int r, const char *text) {
        const char *name = a == ACTION_NONE ? "an answer" : custody_table[a].name;

        if (undo) {
                enum custody_goal goal = c->goal;
                unsigned attempt, of;
                char reason[1000];
                bool again;

                c->goal = GOAL_KEEP;
                c->trying_again = false;
                again = custody_is_tried_again(c, &attempt, &of);
                if (again)
                        snprintf(reason, sizeof(reason), "%.840s; the host waits for it: tried again by itself, %u of %u", isempty(text) ? name : text, attempt, of);
                else
                        snprintf(reason, sizeof(reason), "%s", isempty(text) ? name : text);
                custody_set_quarantine(c, reason);
                c->asked = 0;
                if (again)
                        custody_close_later(c);
                /* A request of the guest that does not come back is as good as a refusal. */
                if (a == ACTION_BIND_TSM || a == ACTION_BIND_REQUESTS)
                        custody_unbind_later(c, goal);
                return;
        }
        if (c->error == TDI_ERROR_NONE) {
                c->error = r == -EUSERS ? TDI_ERROR_IN_USE :
                           r == -ETIMEDOUT ? TDI_ERROR_TIMEOUT :
                           r == -ENOTCONN && a == ACTION_OPEN_ASSOCIATE ? TDI_ERROR_INVALID_STATE :
                           r == -EOPNOTSUPP && (a == ACTION_BIND_TSM || a == ACTION_PREPARE_ATTACH) ? TDI_ERROR_NOT_SUPPORTED :
                           (r == -EKEYREJECTED && (a == ACTION_BIND_TSM || a == ACTION_PREPARE_VDEVICE)) || (r == -ENODEV && a == ACTION_BIND_TSM) ? TDI_ERROR_INVALID_STATE :
                           r == -EDQUOT && (a == ACTION_CONNECT_TSM || a == ACTION_BIND_CONNECT) ? TDI_ERROR_LIMIT : TDI_ERROR_KERNEL;
                if (free_and_strdup(&c->error_text, isempty(text) ? strerror(-r) : text) < 0)
                        log_oom();
        }
        log_warning("%s: %s: %s", c->name, name, strempty(c->error_text));
        /* What was begun is undone from here; the job that watches turns the others round. A function that is not bound is no worse than before. */
        if (c->goal != GOAL_DOWN)
                custody_set_goal(c, a != ACTION_NONE && custody_table[a].step == TDI_CUSTODY_BIND ? GOAL_UNBIND : GOAL_DOWN);
}

enum custody_action custody_highest(uint32_t actions) {
        return actions ? 31 - __builtin_clz(actions) : ACTION_NONE;
}

static enum custody_action lowest(uint32_t actions) {
        return actions ? __builtin_ctz(actions) : ACTION_NONE;
}

/* What was made for one function is for all of its space. */
static void take_viommu(Custody *c) {
        struct vm_space *s = vm_space_find(c->vm, c);

        if (!s || s->viommu)
                return;
        s->nest = (uint32_t) json_u64_or(c->values, "nest", 0);
        s->viommu = (uint32_t) json_u64_or(c->values, "viommu", 0);
        vm_spaces_listen(c->vm);
        vm_touch(c->vm);
}

void custody_ended(Custody *c, enum custody_action a, bool undo) {
        /* Those between two of one command are the worker's. */
        if (undo ? !(c->command & (BIT(a) - 1)) : !(c->command >> a >> 1))
                fault_point(custody_table[a].name, undo ? "undo" : "do", "after");
        if (undo)
                c->done &= ~BIT(a);
        else
                c->done |= BIT(a);
        c->begun &= ~BIT(a);
        c->retried = false;
        if (a == ACTION_CLAIM_REBIND)
                inventory_refresh(c->manager, c->bdf);
        if (a == ACTION_GUARD_ON && undo)
                guard_was_cleared(c);
        else if (a == ACTION_GUARD_ON)
                guard_was_set(c);
        if (a == ACTION_OPEN_BIND && c->manager->n_tsms > 0)
                (void) inventory_refresh_tsm(c->manager);
        if (a == ACTION_CONNECT_TSM)
                c->connected_round = inventory_refresh_tsm(c->manager);
        if (a == ACTION_BIND_TSM)
                c->bound_round = inventory_refresh_tsm(c->manager);
        if (custody_runs_in_holder(a))
                c->asked = 0;
        if (undo && a == ACTION_BIND_TSM)
                custody_unbind_went_well(c);
        if (undo && a == ACTION_OPEN_CDEV)
                custody_closed(c);
        if (!undo && a == ACTION_PREPARE_VIOMMU && c->vm)
                take_viommu(c);
        if (undo && a == ACTION_PREPARE_VIOMMU && c->vm)
                vm_space_settle(c->vm, c);
        if (custody_step(c) != c->announced)
                custody_announce(c);
        manager_touch(c->manager);
}

enum custody_action custody_command_ended(Custody *c, bool undo, size_t ran) {
        uint32_t left = c->command;

        while (left && ran-- > 0) {
                enum custody_action a = undo ? custody_highest(left) : lowest(left);

                left &= ~BIT(a);
                custody_ended(c, a, undo);
        }
        /* What comes after the one that failed was not begun. On the way down it still is done, or in doubt from before. */
        if (!undo)
                c->begun &= ~left | (left & -left);
        return undo ? custody_highest(left) : lowest(left);
}

void custody_idle(Custody *c) {
        c->busy = false;
        c->deadline = 0;
        c->timer = sd_event_source_disable_unref(c->timer);
        if (c->stuck) {
                c->stuck = false;
                log_notice("%s: %s has come back from the kernel", c->name, custody_action_name(c));
                custody_announce(c);
        }
        manager_touch(c->manager);
}

void custody_forget_vdevice(Custody *c) {
        json_set_u64(c->values, "vdevice", 0);
        json_set_bool(c->values, "vdevice_binds", false);
}

/*
 * iommufd gives the lowest number that is free, whatever the object: who had it as a virtual device before has lost that, to a worker that died between the
 * end of the old one and the answer. An undo by that number would meet the new owner's.
 */
static void take_number(Custody *c, uint64_t id) {
        for (size_t i = 0; id != 0 && c->vm && i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o == c || o->vm != c->vm || json_u64_or(o->values, "vdevice", 0) != id)
                        continue;
                log_notice("%s: its virtual device %" PRIu64 " is gone: the number is of an object of %s now", o->name, id, c->name);
                custody_forget_vdevice(o);
                if (journal_write(o) < 0)
                        log_warning("%s: could not write its journal", o->name);
        }
}

void custody_merge(Custody *c, struct json_object *values) {
        static const char *const numbers[] = { "devid", "nest", "viommu", "vdevice" };

        if (!values)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                take_number(c, json_u64_or(values, numbers[i], 0));
        json_object_object_foreach(values, key, v)
                json_set_take(c->values, key, json_object_get(v));
}

static int on_deadline(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Custody *c = userdata;
        char why[400];

        c->timer = sd_event_source_disable_unref(c->timer);
        c->stuck = true;
        log_warning("%s: %s has not come back from the kernel in time: it is left there", c->name, custody_action_name(c));
        if (custody_waits_for_handoff(c, why, sizeof(why)))
                log_warning("%s", why);
        if (c->goal == GOAL_UP || c->goal == GOAL_BIND) {
                char text[160];

                snprintf(text, sizeof(text), "%s of %s did not come back in time; it is undone when it does", custody_action_name(c), c->name);
                custody_failed(c, custody_highest(c->begun), false, -ETIMEDOUT, text);
        }
        custody_announce(c);
        return 0;
}

void custody_arm(Custody *c, enum custody_action a, bool undo) {
        size_t offset = undo ? custody_table[a].deadline_undo : custody_table[a].deadline;
        uint64_t seconds = *(const unsigned *) (const void *) ((const char *) &c->manager->config + offset);
        int r;

        c->busy = true;
        c->deadline = now_monotonic() + seconds * 1000000;
        r = sd_event_add_time(c->manager->event, &c->timer, CLOCK_MONOTONIC, c->deadline, 0, on_deadline, c);
        if (r < 0)
                log_oom();
}

int custody_need_worker(Custody *c) {
        _cleanup_close_ int lock = -EBADF;
        int r;

        if (worker_alive(c->worker))
                return 0;
        c->worker = worker_free(c->worker);
        lock = journal_lock(c->manager, c->bdf);
        r = lock >= 0 ? worker_new(c->manager, lock, &c->worker) : lock;
        if (r == -EWOULDBLOCK && lock < 0 && !c->locked_out) {
                /* Mostly one that is just ending; only what lasts is worth a word. */
                if (c->locked_since == 0)
                        c->locked_since = now_monotonic();
                if (now_monotonic() - c->locked_since > LOCKED_OUT_USEC) {
                        c->locked_out = true;
                        log_notice("%s: an earlier worker is still at it", c->name);
                        custody_announce(c);
                }
        }
        if (r == -EWOULDBLOCK) {
                manager_retry(c->manager);
                return r;
        }
        if (c->locked_out) {
                log_notice("%s: the earlier worker has ended", c->name);
                custody_announce(c);
        }
        c->locked_out = false;
        c->locked_since = 0;
        return r;
}

struct json_object *custody_arguments(Custody *c) {
        struct json_object *args = json_new();

        json_object_object_foreach(c->values, key, v)
                json_set_take(args, key, json_object_get(v));
        json_set_str(args, "bdf", c->name);
        json_set_str(args, "state", c->manager->state_dir);
        json_set_u64(args, "reserved_streams", custody_reserved_streams(c));
        json_set_bool(args, "require_secure", custody_requires_secure(c));
        json_set_bool(args, "require_stream", json_bool_or(c->values, "ide_required", false));
        json_set_u64(args, "patience", c->manager->config.associate);
        /* The folder of the VM's sockets is made for the first of them; a function that is left behind may be the last in it. */
        json_set_bool(args, "make_folder", c->vm && !c->vm->folder);
        json_set_bool(args, "unwind_dma", c->vm && c->vm->platform->unwind & UNWIND_DMA);
        json_set_bool(args, "stays", c->goal == GOAL_UNBIND);
        json_set_bool(args, "held", c->binding >= 0);
        json_set_bool(args, "others_guarded", guard_has_others(c));
        json_set_bool(args, "used", custody_has_heirs(c));
        json_set_bool(args, "associated", custody_is_associated(c));
        json_set_bool(args, "last", !c->vm && !vm_find_uuid(c->manager, json_str_or(c->values, "uuid", "")));
        return args;
}

/* Is one to be made? Where it is there already, or cannot be, writes that down. */
static bool wants_viommu(Custody *c) {
        const struct vm_space *s = c->vm ? vm_space_find(c->vm, c) : NULL;
        const char *why = NULL;

        if (!s || !vm_nests(c->vm))
                return false;
        if (!json_object_object_get_ex(c->values, "guest_rid", NULL))
                why = "its requester ID in the guest is not known: attach it with guest_rid";
        else if (isempty(s->iommu))
                why = "the kernel does not name its IOMMU";
        else if (s->viommu) {
                json_set_u64(c->values, "nest", s->nest);
                json_set_u64(c->values, "viommu", s->viommu);
                return false;
        }
        if (why)
                json_set_str(c->values, "no_viommu", why);
        return !why;
}

bool custody_runs_in_holder(enum custody_action a) {
        return custody_table[a].do_ == RUNS_HOLDER;
}

bool custody_is_local(Custody *c, enum custody_action a, bool undo) {
        const struct custody_row *row = &custody_table[a];

        if ((undo ? row->undo : row->do_) == RUNS_LOCAL)
                return true;
        if (a == ACTION_GUARD_ON)
                return undo ? !json_bool_or(c->values, "guard", false) : !guard_is_on(c->manager);
        if (a == ACTION_OPEN_ASSOCIATE)
                return undo ? !custody_is_associated(c) : !association_wants(c);
        if (a == ACTION_CONNECT_NOTE)
                return isempty(custody_dsm(c));
        if (a == ACTION_PREPARE_VIOMMU && !undo)
                return !wants_viommu(c);
        if (a == ACTION_PREPARE_VDEVICE || (a == ACTION_PREPARE_WITHDRAW && undo))
                return json_u64_or(c->values, undo ? "vdevice" : "viommu", 0) == 0 || !c->vm;
        if (a == ACTION_CONNECT_TSM && !undo) {
                if (isempty(custody_dsm(c))) {
                        json_set_str(c->values, "connected_by", "");
                        return true;
                }
                /* What another one of ours could not undo may be gone all the same: the kernel says whether it is there. */
                if (!isempty(json_str_or(c->values, "connect_before", ""))) {
                        json_set_str(c->values, "connected_by", custody_shares_connection(c) ? "tdid" : "other");
                        return true;
                }
                /* Written down before it is done: if we die now, the worker's own mark tells whether it is ours to undo. */
                json_set_str(c->values, "connected_by", "perhaps");
                return false;
        }
        if (a == ACTION_CONNECT_TSM) {
                const char *by = json_str_or(c->values, "connected_by", "");

                return isempty(by) || streq(by, "other") || custody_shares_connection(c);
        }
        if (a == ACTION_BIND_CONNECT)
                return undo ? !streq(json_str_or(c->values, "connected_by", ""), "perhaps") : !custody_wants_connection(c);
        /* Nobody reaches a function without one. */
        if (custody_runs_in_holder(a))
                return !custody_has_socket(c) || !c->vm || (a == ACTION_BIND_REQUESTS && !vpci_takes_requests(c->vm));
        /* Of an earlier tdid's, which made none (recover.c). */
        if (a == ACTION_PREPARE_SOCKET && undo)
                return !custody_has_socket(c);
        if (a == ACTION_OPEN_CDEV && undo)
                return c->device < 0 && !c->given_to_worker;
        return false;
}

bool custody_needs_journal(const Custody *c, enum custody_action a, bool local) {
        return !local || (a == ACTION_CONNECT_TSM && !isempty(custody_dsm(c)));
}

int custody_call(Custody *c, bool undo, const int *fds, size_t n_fds, worker_done done) {
        _cleanup_json_ struct json_object *args = custody_arguments(c);
        const char *names[ACTION_MAX], *verb = undo ? "undo" : "do";
        uint32_t left = c->command;
        size_t n = 0;

        while (left) {
                enum custody_action a = undo ? custody_highest(left) : lowest(left);

                left &= ~BIT(a);
                names[n++] = custody_table[a].name;
        }
        if (n == 1)
                return worker_call(c->worker, names[0], verb, args, fds, n_fds, done, c);
        return worker_call_all(c->worker, names, n, verb, args, done, c);
}

void custody_later(Custody *c) {
        c->not_before = now_monotonic() + MANAGER_RETRY_USEC;
        manager_retry(c->manager);
}

bool custody_ask_again(Custody *c, int r) {
        if (r != -EAGAIN)
                return false;
        if (c->asked == 0)
                c->asked = now_monotonic();
        if (now_monotonic() - c->asked > c->manager->config.bind * 1000000ULL)
                return false;
        custody_later(c);
        return true;
}

bool custody_call_failed(Custody *c, enum custody_action a, bool undo, int r) {
        c->worker = worker_free(c->worker);
        if (c->retried)
                custody_failed(c, a, undo, r, "could not talk to the worker");
        c->retried = true;
        return true;
}

int custody_hold(Custody *c, const char *kind, int fd, holder_done done) {
        char key[64];

        snprintf(key, sizeof(key), "%s:%s", kind, c->name);
        return custody_hold_as(c, key, fd, done);
}

int custody_hold_as(Custody *c, const char *key, int fd, holder_done done) {
        struct json_object *put;

        if (!c->vm || !holder_alive(c->vm->holder))
                return -ENOTCONN;
        put = json_new();
        json_set_str(put, "op", "put");
        json_set_str(put, "key", key);
        return holder_call(c->vm->holder, put, &fd, 1, done, c);
}
