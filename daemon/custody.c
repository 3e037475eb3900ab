/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Custody as an object, and the engine's choice of what is next; custody-do.c and custody-undo.c do it. */
#include "custody.h"

#include <stdio.h>

#include "audit.h"
#include "bus/bus.h"
#include "custody-engine.h"
#include "custody-rules.h"
#include "device.h"
#include "export.h"
#include "guard/guard.h"
#include "journal.h"
#include "vpci.h"
#include "worker.h"

Custody *custody_new(Manager *m, struct tdi_bdf bdf, int32_t group) {
        Custody *c = calloc(1, sizeof(*c));

        if (!c)
                log_oom();
        c->manager = m;
        c->bdf = bdf;
        tdi_bdf_format(bdf, c->name);
        c->group = group;
        c->device = c->request = c->binding = -EBADF;
        c->values = json_new();
        if (free_and_strdup(&c->vm_id, "") < 0)
                log_oom();
        manager_append((void ***) &m->custodies, &m->n_custodies, &m->room_custodies, c);
        return c;
}

Custody *custody_free(Custody *c) {
        Device *d;

        if (!c)
                return NULL;
        /* Whoever had it may have changed what it is. */
        d = c->supposed ? NULL : device_find(c->manager, c->bdf);
        if (d)
                device_renew(d);
        worker_free(c->worker);
        sd_event_source_disable_unref(c->timer);
        sd_event_source_disable_unref(c->request_source);
        sd_event_source_disable_unref(c->again);
        close_fd(c->request);
        close_fd(c->binding);
        close_fd(c->device);
        json_object_put(c->values);
        free(c->vm_id);
        free(c->error_text);
        free(c->quarantine);
        free(c);
        return NULL;
}

Custody *custody_find(Manager *m, struct tdi_bdf bdf) {
        for (size_t i = 0; i < m->n_custodies; i++)
                if (tdi_bdf_number(m->custodies[i]->bdf) == tdi_bdf_number(bdf))
                        return m->custodies[i];
        return NULL;
}

bool custody_is_done(const Custody *c, enum custody_action a) {
        return c->done & BIT(a);
}

bool custody_touched(const Custody *c, enum custody_action a) {
        return (c->done | c->begun) & BIT(a);
}

bool custody_has_socket(const Custody *c) {
        /* Its folder is written down before it is begun. */
        return custody_touched(c, ACTION_PREPARE_SOCKET) && !isempty(json_str_or(c->values, "uuid", ""));
}

void custody_needs_no_socket(Custody *c) {
        if (c->done == (CUSTODY_PREPARED & ~BIT(ACTION_PREPARE_SOCKET)) && c->begun == 0 && isempty(json_str_or(c->values, "uuid", "")))
                c->done |= BIT(ACTION_PREPARE_SOCKET);
}

bool custody_is_complete(const Custody *c) {
        return (c->done & CUSTODY_PREPARED) == CUSTODY_PREPARED && !c->busy && c->begun == 0 && c->goal == GOAL_KEEP && !c->quarantine;
}

bool custody_is_bound(const Custody *c) {
        return custody_is_done(c, ACTION_BIND_TSM);
}

bool custody_is_half_bound(const Custody *c) {
        uint32_t all = c->done | c->begun;

        return (c->done & CUSTODY_PREPARED) == CUSTODY_PREPARED && !c->quarantine && !(c->begun & CUSTODY_PREPARED) && (all & ~CUSTODY_PREPARED) &&
               (c->begun || !custody_is_bound(c));
}

bool custody_is_empty(const Custody *c) {
        return c->done == 0 && c->begun == 0 && !c->busy && !c->frozen && !c->quarantine;
}

bool custody_is_stalled(const Custody *c) {
        return c->quarantine || c->stuck || c->frozen || c->locked_out || c->blocked;
}

enum tdi_custody custody_step(const Custody *c) {
        enum custody_action a = custody_highest(c->done | c->begun);

        return a == ACTION_NONE ? TDI_CUSTODY_NONE : custody_table[a].step;
}

const char *custody_action_name(const Custody *c) {
        enum custody_action a = custody_highest(c->begun ? c->begun : c->done);

        return a == ACTION_NONE ? "" : custody_table[a].name;
}

void custody_announce(Custody *c) {
        char path[64];

        audit_custody(c, custody_step(c));
        c->announced = custody_step(c);
        bus_changed(c->manager, device_path(c->bdf, path), BUS_DEVICE, "Custody", "VM", "Quarantine", "Driver", NULL);
        manager_touch(c->manager);
}

static void listen_to_request(Custody *c);

void custody_set_vm(Custody *c, VM *vm) {
        c->vm = vm;
        if (vm && free_and_strdup(&c->vm_id, vm->id) < 0)
                log_oom();
        if (vm && c->request >= 0 && !c->request_source)
                listen_to_request(c);
        custody_announce(c);
}

void custody_set_quarantine(Custody *c, const char *reason) {
        if (streq_ptr(c->quarantine, reason))
                return;
        if (free_and_strdup(&c->quarantine, reason) < 0)
                log_oom();
        /* Whatever is done about it: it is given back when it is sure what state it is in (claim.rebind). */
        if (reason)
                json_set_bool(c->values, "doubted", true);
        /* Somebody has looked at it, and it is not for us to end a connection that may be another's. */
        if (!reason && streq(json_str_or(c->values, "connected_by", ""), "unknown"))
                json_set_str(c->values, "connected_by", "other");
        audit_quarantine(c);
        if (c->journalled && journal_write(c) < 0)
                log_warning("%s: could not write its journal", c->name);
        custody_announce(c);
}

void custody_set_goal(Custody *c, enum custody_goal goal) {
        if (c->goal == goal)
                return;
        c->goal = goal;
        /* What it speaks for as a DSM loses its TDI with it. */
        if (goal == GOAL_DOWN || goal == GOAL_UNBIND)
                custody_unbind_under(c);
        if (goal == GOAL_BIND) {
                c->error = TDI_ERROR_NONE;
                free(c->error_text);
                c->error_text = NULL;
        }
        manager_touch(c->manager);
}

void custody_give_up(Custody *c, const char *text) {
        if (c->goal == GOAL_DOWN || c->quarantine)
                return;
        custody_failed(c, ACTION_PREPARE_SOCKET, false, -EIO, text);
        manager_touch(c->manager);
}

static int on_request(sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        Custody *c = userdata;

        (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        audit_custody_wanted(c);
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];
                TDI *t = tdi_of(o);

                /* A group goes together. */
                if (o != c && (o->vm != c->vm || o->group != c->group))
                        continue;
                if (t && t->state != TDI_STATE_DETACHING) {
                        vpci_ring(o);
                        tdi_failed(t, "the host wants the function back");
                        t->committed = false;
                        vm_touch(t->vm);
                }
                if (o == c)
                        custody_want(o);
                else
                        custody_give_back(o);
        }
        return 0;
}

static void listen_to_request(Custody *c) {
        if (sd_event_add_io(c->manager->event, &c->request_source, c->request, EPOLLIN, on_request, c) < 0)
                log_oom();
}

void custody_take_request(Custody *c, int fd) {
        c->request_source = sd_event_source_disable_unref(c->request_source);
        close_fd(c->request);
        c->request = fd;
        /* One that rang while no tdid was there is answered when its VM is known: without that, nobody tells the holder to let go of what it has. */
        if (c->vm)
                listen_to_request(c);
}

/* ---- after a restart: is what the journal says still so? ---- */

#define VERIFIED (BIT(ACTION_CLAIM_PM) | BIT(ACTION_CLAIM_OVERRIDE) | BIT(ACTION_CLAIM_REBIND) | BIT(ACTION_GUARD_ON) | BIT(ACTION_OPEN_BIND) | \
                  BIT(ACTION_CONNECT_TSM) | BIT(ACTION_PREPARE_SOCKET) | BIT(ACTION_BIND_TSM))

void custody_verify(Custody *c) {
        c->verify = c->done & VERIFIED;
        if (!custody_connected_by_us(c))
                c->verify &= ~BIT(ACTION_CONNECT_TSM);
        if (!custody_has_socket(c))
                c->verify &= ~BIT(ACTION_PREPARE_SOCKET);
        if (!custody_is_guarded(c))
                c->verify &= ~BIT(ACTION_GUARD_ON);
        manager_touch(c->manager);
}

static void on_probed(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                      void *userdata) {
        Custody *c = userdata;
        enum custody_action a = c->probing;
        TDI *t = tdi_of(c);

        custody_idle(c);
        c->verify &= ~BIT(a);
        if (r == -ECONNRESET)
                c->worker = worker_free(c->worker);
        else if (c->verify == 0)
                c->worker = worker_rest(c->worker);
        if (r < 0)
                log_warning("%s: could not verify %s: %s", c->name, custody_table[a].name, text);
        else if (r == 0 && a == ACTION_CONNECT_TSM)
                custody_lost_connection(c);
        else if (r == 0 && t && a == ACTION_BIND_TSM)
                tdi_lost_binding(t);
        else if (r == 0 && t && tdi_is_attached(t)) {
                char reason[160];

                snprintf(reason, sizeof(reason), "%s is not so any more: somebody undid it while no tdid was there; detach the function",
                         custody_table[a].name);
                tdi_failed(t, reason);
        }
}

static bool run_probe(Custody *c) {
        _cleanup_json_ struct json_object *args = NULL;
        int a = 0, r;

        while (!(c->verify & BIT(a)))
                a++;
        if (custody_need_worker(c) < 0)
                return false;
        args = custody_arguments(c);
        c->probing = a;
        r = worker_call(c->worker, custody_table[a].name, "probe", args, &c->device, a == ACTION_OPEN_BIND ? 1 : 0, on_probed, c);
        if (r < 0) {
                c->worker = worker_free(c->worker);
                c->verify = 0;
                return true;
        }
        custody_arm(c, a, false);
        return true;
}

enum custody_action custody_next_action(const Custody *c) {
        uint32_t left = c->done | c->begun;

        if (c->goal == GOAL_UP || c->goal == GOAL_BIND) {
                left = (c->goal == GOAL_UP ? CUSTODY_PREPARED : BIT(ACTION_MAX) - 1) & ~c->done;
                return left ? __builtin_ctz(left) : ACTION_NONE;
        }
        return custody_highest(c->goal == GOAL_UNBIND ? left & ~CUSTODY_PREPARED : left);
}

static bool goes_up(const Custody *c) {
        return c->goal == GOAL_UP || c->goal == GOAL_BIND;
}

static bool reached(Custody *c) {
        TDI *t = tdi_of(c);
        int r;

        if (t && (c->goal == GOAL_BIND || c->goal == GOAL_UNBIND))
                tdi_bind_ended(t);
        c->goal = GOAL_KEEP;
        c->worker = worker_rest(c->worker);
        r = c->done == 0 ? journal_remove(c) : journal_write(c);
        if (r < 0)
                log_warning("%s: could not write its journal: %s", c->name, strerror(-r));
        custody_announce(c);
        return true;
}

/* Waiting for one that will not move is as good as being stuck: nobody must wait for us. */
static void set_blocked(Custody *c, bool blocked) {
        if (c->blocked == blocked)
                return;
        c->blocked = blocked;
        custody_announce(c);
}

bool custody_kick(Custody *c) {
        enum custody_action a;

        /* It could not be left with a worker when its VM went: the one before was still ending. */
        if (!c->vm && !c->manager->recovering && !vm_find_id(c->manager, c->vm_id) && !c->busy && custody_unbind_is_refused(c) && !custody_is_asked_again(c) && !c->given_to_worker && c->device >= 0) {
                custody_leave(c);
                return c->busy;
        }
        if (c->busy || c->frozen || (c->quarantine && !c->trying_again))
                return false;
        if (c->not_before > now_monotonic()) {
                manager_retry(c->manager);
                return false;
        }
        c->not_before = 0;
        if (c->goal == GOAL_KEEP)
                return c->verify ? run_probe(c) : export_kick(c);
        /* To be back to prepared is no change of what there was before: that is looked at afterwards. */
        if (c->goal != GOAL_UNBIND)
                c->verify = 0;
        else
                c->verify &= CUSTODY_PREPARED;
        a = custody_next_action(c);
        if (a == ACTION_NONE)
                return reached(c);
        /* What an orphaned worker does to the function is not over before it has ended: not even what needs no worker is begun. */
        if (c->recovered && custody_need_worker(c) < 0)
                return false;
        c->recovered = false;
        set_blocked(c, !goes_up(c) && custody_waits_in_vain(c, a));
        if (goes_up(c) ? custody_may_do(c, a) : custody_may_undo(c, a))
                return goes_up(c) ? custody_run_do(c, a) : custody_run_undo(c, a);
        /* Whoever waits here must not keep a place from those who would go on. */
        if (c->worker && !c->given_to_worker && worker_count(c->manager) * 4 > c->manager->config.workers * 3)
                c->worker = worker_free(c->worker);
        return false;
}

