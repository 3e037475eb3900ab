/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The custody engine. */
#include "custody.h"

#include <stdio.h>

#include "bus/bus.h"
#include "custody-rules.h"
#include "device.h"
#include "fault.h"
#include "job.h"
#include "journal.h"
#include "tsm.h"
#include "vm.h"
#include "worker.h"

#define BIT(a) (1u << (a))
#define ALL_ACTIONS (BIT(ACTION_MAX) - 1)
#define LOCKED_OUT_USEC 1000000ULL

Custody *custody_new(Manager *m, struct tdi_bdf bdf, int32_t group) {
        Custody *c = calloc(1, sizeof(*c));

        if (!c)
                log_oom();
        c->manager = m;
        c->bdf = bdf;
        tdi_bdf_format(bdf, c->name);
        c->group = group;
        c->begun = ACTION_NONE;
        c->device = c->request = -EBADF;
        c->values = json_new();
        if (free_and_strdup(&c->vm_id, "") < 0)
                log_oom();
        manager_append((void ***) &m->custodies, &m->n_custodies, &m->room_custodies, c);
        return c;
}

Custody *custody_free(Custody *c) {
        if (!c)
                return NULL;
        worker_free(c->worker);
        sd_event_source_disable_unref(c->timer);
        sd_event_source_disable_unref(c->request_source);
        close_fd(c->request);
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
        return custody_is_done(c, a) || c->begun == a;
}

bool custody_is_complete(const Custody *c) {
        return c->done == ALL_ACTIONS && !c->busy && c->begun == ACTION_NONE && c->goal == GOAL_KEEP && !c->quarantine;
}

bool custody_is_empty(const Custody *c) {
        return c->done == 0 && c->begun == ACTION_NONE && !c->busy && !c->frozen && !c->quarantine;
}

bool custody_is_stalled(const Custody *c) {
        return c->quarantine || c->stuck || c->frozen || c->locked_out || c->blocked;
}

enum tdi_custody custody_step(const Custody *c) {
        for (int a = ACTION_MAX - 1; a >= 0; a--)
                if (custody_touched(c, a))
                        return custody_table[a].step;
        return TDI_CUSTODY_NONE;
}

const char *custody_action_name(const Custody *c) {
        if (c->begun != ACTION_NONE)
                return custody_table[c->begun].name;
        for (int a = ACTION_MAX - 1; a >= 0; a--)
                if (custody_is_done(c, a))
                        return custody_table[a].name;
        return "";
}

void custody_announce(Custody *c) {
        char path[64];

        bus_changed(c->manager, device_path(c->bdf, path), BUS_DEVICE, "Custody", "VM", "Quarantine", "Driver", NULL);
        manager_touch(c->manager);
}

void custody_set_vm(Custody *c, VM *vm) {
        c->vm = vm;
        if (vm && free_and_strdup(&c->vm_id, vm->id) < 0)
                log_oom();
        custody_announce(c);
}

void custody_set_quarantine(Custody *c, const char *reason) {
        if (streq_ptr(c->quarantine, reason))
                return;
        if (free_and_strdup(&c->quarantine, reason) < 0)
                log_oom();
        if (reason)
                log_error("%s is quarantined: %s", c->name, reason);
        else
                log_notice("%s is no longer quarantined", c->name);
        if (c->journalled && journal_write(c) < 0)
                log_warning("%s: could not write its journal", c->name);
        custody_announce(c);
}

void custody_set_goal(Custody *c, enum custody_goal goal) {
        if (c->goal == goal)
                return;
        c->goal = goal;
        manager_touch(c->manager);
}

/* ---- one sub-action ---- */

static void failed(Custody *c, enum custody_action a, bool undo, int r, const char *text) {
        if (undo) {
                char reason[900];

                snprintf(reason, sizeof(reason), "%s", isempty(text) ? custody_table[a].name : text);
                c->goal = GOAL_KEEP;
                custody_set_quarantine(c, reason);
                return;
        }
        if (c->error == TDI_ERROR_NONE) {
                c->error = r == -EUSERS ? TDI_ERROR_IN_USE : r == -ETIMEDOUT ? TDI_ERROR_TIMEOUT : TDI_ERROR_KERNEL;
                if (free_and_strdup(&c->error_text, isempty(text) ? strerror(-r) : text) < 0)
                        log_oom();
        }
        log_warning("%s: %s: %s", c->name, custody_table[a].name, strempty(c->error_text));
        /* What was begun is undone from here; the job that watches turns the others round. */
        c->goal = GOAL_DOWN;
}

static void ended(Custody *c, enum custody_action a, bool undo) {
        fault_point(custody_table[a].name, undo ? "undo" : "do", "after");
        if (undo)
                c->done &= ~BIT(a);
        else
                c->done |= BIT(a);
        c->begun = ACTION_NONE;
        c->retried = false;
        if (a == ACTION_CLAIM_REBIND)
                inventory_refresh(c->manager, c->bdf);
        if (a == ACTION_CONNECT_TSM || (a == ACTION_OPEN_BIND && c->manager->n_tsms > 0))
                (void) inventory_refresh_tsm(c->manager);
        if (undo && a == ACTION_PREPARE_ATTACH && c->vm)
                vm_group_settle(c->vm, c->group);
        custody_announce(c);
}

static void idle(Custody *c) {
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

static void merge(Custody *c, struct json_object *values) {
        if (!values)
                return;
        json_object_object_foreach(values, key, v)
                json_set_take(c->values, key, json_object_get(v));
}

static int on_request(sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        Custody *c = userdata;

        (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        log_warning("%s: the host wants it back (unplug, or its VFs are switched off): giving it back", c->name);
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];
                TDI *t = tdi_of(o);

                /* A group goes together. */
                if (o != c && (o->vm != c->vm || o->group != c->group))
                        continue;
                if (t && t->state != TDI_STATE_DETACHING) {
                        tdi_failed(t, "the host wants the function back");
                        t->committed = false;
                        vm_touch(t->vm);
                }
                if (!o->quarantine)
                        custody_set_goal(o, GOAL_DOWN);
        }
        return 0;
}

void custody_take_request(Custody *c, int fd) {
        c->request_source = sd_event_source_disable_unref(c->request_source);
        close_fd(c->request);
        c->request = fd;
        if (sd_event_add_io(c->manager->event, &c->request_source, fd, EPOLLIN, on_request, c) < 0)
                log_oom();
}

static void on_request_held(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        idle(c);
        if (c->worker)
                (void) worker_acknowledge(c->worker);
        if (r < 0)
                failed(c, ACTION_OPEN_BIND, false, r, "could not give the request interrupt to the VM's holder");
        else
                ended(c, ACTION_OPEN_BIND, false);
}

static int hold(Custody *c, const char *kind, int fd, holder_done done) {
        struct json_object *put;
        char key[64];

        if (!c->vm || !holder_alive(c->vm->holder))
                return -ENOTCONN;
        snprintf(key, sizeof(key), "%s:%s", kind, c->name);
        put = json_new();
        json_set_str(put, "op", "put");
        json_set_str(put, "key", key);
        return holder_call(c->vm->holder, put, &fd, 1, done, c);
}

static void on_held(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        idle(c);
        if (r < 0) {
                /* Its copy goes with the worker; ours is taken over by the next one, which closes last. */
                c->worker = worker_free(c->worker);
                failed(c, ACTION_OPEN_CDEV, false, r, "could not give the device to the VM's holder");
                return;
        }
        if (c->worker)
                (void) worker_acknowledge(c->worker);
        ended(c, ACTION_OPEN_CDEV, false);
}

static void on_done(_unused_ Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        enum custody_action a = c->begun;

        if (r >= 0 && a == ACTION_OPEN_BIND && fds->n == 1) {
                merge(c, values);
                custody_take_request(c, ipc_fds_take(fds, 0));
                r = hold(c, "request", c->request, on_request_held);
                if (r >= 0)
                        return;
                text = "could not give the request interrupt to the VM's holder";
                c->worker = worker_free(c->worker);
        }
        if (r >= 0 && a == ACTION_OPEN_CDEV && fds->n == 1) {
                merge(c, values);
                c->device = ipc_fds_take(fds, 0);
                /* It goes to the holder before the worker lets go of its copy: there is no moment at which only tdid has it. */
                r = hold(c, "cdev", c->device, on_held);
                if (r >= 0)
                        return; /* on_held() goes on */
                text = "could not give the device to the VM's holder";
                /* The worker still has it, and is let go below: the last close stays out of this process. */
                c->device = close_fd(c->device);
        }
        idle(c);
        if (r < 0) {
                /* One that opened something waits for an answer to that; any other can go on. */
                if (r == -ECONNRESET || a == ACTION_OPEN_CDEV)
                        c->worker = worker_free(c->worker);
                /* The kernel said no: nothing of it is ours to disconnect. Only a worker's death leaves it open. */
                if (a == ACTION_CONNECT_TSM && r != -ECONNRESET)
                        json_set_str(c->values, "connected_by", "");
                failed(c, a, false, r, text);
                return;
        }
        merge(c, values);
        ended(c, a, false);
}

static void on_undone(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                      void *userdata) {
        Custody *c = userdata;
        enum custody_action a = c->begun;

        idle(c);
        if (r < 0) {
                c->worker = worker_free(c->worker);
                c->given_to_worker = false;
                /* A worker that was killed has failed at nothing: the undo is idempotent, so another one goes on. */
                if (r == -ECONNRESET && !c->retried) {
                        c->retried = true;
                        return;
                }
                failed(c, a, true, r, text);
                return;
        }
        c->retried = false;
        if (a == ACTION_OPEN_CDEV) {
                c->given_to_worker = false;
                c->request_source = sd_event_source_disable_unref(c->request_source);
                c->request = close_fd(c->request);
        }
        ended(c, a, true);
}

static int on_deadline(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Custody *c = userdata;

        c->timer = sd_event_source_disable_unref(c->timer);
        c->stuck = true;
        log_warning("%s: %s has not come back from the kernel in time: it is left there", c->name, custody_action_name(c));
        if (c->goal == GOAL_UP) {
                char text[160];

                snprintf(text, sizeof(text), "%s of %s did not come back in time; it is undone when it does", custody_action_name(c), c->name);
                failed(c, c->begun, false, -ETIMEDOUT, text);
        }
        custody_announce(c);
        return 0;
}

static void arm(Custody *c, enum custody_action a, bool undo) {
        size_t offset = undo ? custody_table[a].deadline_undo : custody_table[a].deadline;
        uint64_t seconds = *(const unsigned *) (const void *) ((const char *) &c->manager->config + offset);
        int r;

        c->busy = true;
        c->deadline = now_monotonic() + seconds * 1000000;
        r = sd_event_add_time(c->manager->event, &c->timer, CLOCK_MONOTONIC, c->deadline, 0, on_deadline, c);
        if (r < 0)
                log_oom();
}

/* A worker for this function; -EWOULDBLOCK while an earlier tdid's is still at it, or too many are at work. */
static int need_worker(Custody *c) {
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

static struct json_object *arguments(Custody *c) {
        struct json_object *args = json_new();

        json_object_object_foreach(c->values, key, v)
                json_set_take(args, key, json_object_get(v));
        json_set_str(args, "bdf", c->name);
        return args;
}

/* Does this sub-action need the kernel at all, as things stand? */
static bool is_local(Custody *c, enum custody_action a, bool undo) {
        const struct custody_row *row = &custody_table[a];

        if ((undo ? row->undo : row->do_) == RUNS_LOCAL)
                return true;
        if (a == ACTION_CONNECT_NOTE)
                return isempty(custody_dsm(c));
        if (a == ACTION_CONNECT_TSM && !undo) {
                if (isempty(custody_dsm(c))) {
                        json_set_str(c->values, "connected_by", "");
                        return true;
                }
                if (custody_shares_connection(c)) {
                        json_set_str(c->values, "connected_by", "tdid");
                        return true;
                }
                if (!isempty(json_str_or(c->values, "connect_before", ""))) {
                        json_set_str(c->values, "connected_by", "other");
                        return true;
                }
                /* Written down before it is done: if we die now, it is ours to undo. */
                json_set_str(c->values, "connected_by", "tdid");
                return false;
        }
        if (a == ACTION_CONNECT_TSM)
                return !streq(json_str_or(c->values, "connected_by", ""), "tdid") || custody_shares_connection(c);
        if (a == ACTION_OPEN_CDEV && undo)
                return c->device < 0 && !c->given_to_worker;
        return false;
}

/* The worker died before it got the command: once more with another one. */
static bool call_failed(Custody *c, enum custody_action a, bool undo, int r) {
        c->worker = worker_free(c->worker);
        if (c->retried)
                failed(c, a, undo, r, "could not talk to the worker");
        c->retried = true;
        return true;
}

static bool run_do(Custody *c, enum custody_action a) {
        _cleanup_json_ struct json_object *args = NULL;
        int fds[2], r;
        bool local;

        local = is_local(c, a, false);
        if (!local) {
                r = need_worker(c);
                if (r == -EWOULDBLOCK)
                        return false;
                if (r < 0) {
                        failed(c, a, false, r, "could not start a worker");
                        return true;
                }
        }
        if (a == ACTION_PREPARE_ATTACH) {
                uint32_t ioas;

                r = vm_ioas(c->vm, c->group, &ioas);
                if (r < 0) {
                        failed(c, a, false, r, "IOMMU_IOAS_ALLOC failed");
                        return true;
                }
                json_set_u64(c->values, "ioas", ioas);
        }
        c->begun = a;
        r = journal_write(c);
        if (r < 0) {
                char text[160];

                c->begun = ACTION_NONE;
                snprintf(text, sizeof(text), "could not write the journal below %s: %s; nothing is begun without it", c->manager->state_dir,
                         strerror(-r));
                failed(c, a, false, r, text);
                return true;
        }
        fault_point(custody_table[a].name, "do", "before");
        if (local) {
                ended(c, a, false);
                return true;
        }
        args = arguments(c);
        fds[0] = c->device;
        fds[1] = c->vm->iommufd;
        r = worker_call(c->worker, custody_table[a].name, "do", args, fds, custody_table[a].fds, on_done, c);
        if (r < 0)
                return call_failed(c, a, false, r);
        arm(c, a, false);
        return true;
}

static void close_device(Custody *c);

static void on_dropped(_unused_ int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        if (!worker_alive(c->worker)) {
                on_undone(c->worker, -ECONNRESET, "the worker process died", NULL, NULL, c);
                return;
        }
        /* Even when the holder died: its copy is gone. Now the worker's is the last, and tdid's own goes first. */
        c->device = close_fd(c->device);
        close_device(c);
}

static void on_taken(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                     void *userdata) {
        Custody *c = userdata;
        struct json_object *drop;
        char key[64], also[64];

        if (r < 0) {
                on_undone(w, r, text, NULL, fds, c);
                return;
        }
        c->given_to_worker = true;
        if (c->vm && holder_alive(c->vm->holder)) {
                snprintf(key, sizeof(key), "cdev:%s", c->name);
                snprintf(also, sizeof(also), "request:%s", c->name);
                drop = json_new();
                json_set_str(drop, "op", "drop");
                json_set_str(drop, "key", key);
                json_set_str(drop, "also", also);
                if (holder_call(c->vm->holder, drop, NULL, 0, on_dropped, c) >= 0)
                        return;
        }
        on_dropped(0, NULL, NULL, c);
}

static void close_device(Custody *c) {
        _cleanup_json_ struct json_object *args = arguments(c);
        int r;

        r = worker_call(c->worker, "open.cdev", "undo", args, NULL, 0, on_undone, c);
        if (r < 0)
                on_undone(c->worker, r, "could not talk to the worker", NULL, NULL, c);
}

static bool run_undo(Custody *c, enum custody_action a) {
        _cleanup_json_ struct json_object *args = NULL;
        bool local = is_local(c, a, true);
        int r;

        if (!local) {
                r = need_worker(c);
                if (r == -EWOULDBLOCK)
                        return false;
                if (r < 0) {
                        failed(c, a, true, r, "could not start a worker");
                        return true;
                }
        }
        c->begun = a;
        /* The file on disk still has this row as done, which is as good: an undo may run twice. */
        r = journal_write(c);
        if (r < 0)
                log_warning("%s: could not write its journal: %s", c->name, strerror(-r));
        fault_point(custody_table[a].name, "undo", "before");
        if (local) {
                ended(c, a, true);
                return true;
        }
        args = arguments(c);
        if (a == ACTION_OPEN_CDEV && c->given_to_worker)
                r = worker_call(c->worker, "open.cdev", "undo", args, NULL, 0, on_undone, c);
        else if (a == ACTION_OPEN_CDEV)
                r = worker_call(c->worker, "take", "do", args, &c->device, 1, on_taken, c);
        else
                r = worker_call(c->worker, custody_table[a].name, "undo", args, &c->device, c->device >= 0 ? custody_table[a].fds_undo : 0,
                                on_undone, c);
        if (r < 0)
                return call_failed(c, a, true, r);
        arm(c, a, true);
        return true;
}

/* ---- after a restart: is what the journal says still so? ---- */

#define VERIFIED (BIT(ACTION_CLAIM_PM) | BIT(ACTION_CLAIM_OVERRIDE) | BIT(ACTION_CLAIM_REBIND) | BIT(ACTION_OPEN_BIND) | BIT(ACTION_CONNECT_TSM))

void custody_verify(Custody *c) {
        c->verify = c->done & VERIFIED;
        if (!custody_connected_by_us(c))
                c->verify &= ~BIT(ACTION_CONNECT_TSM);
        manager_touch(c->manager);
}

static void on_probed(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                      void *userdata) {
        Custody *c = userdata;
        enum custody_action a = c->probing;
        TDI *t = tdi_of(c);

        idle(c);
        c->verify &= ~BIT(a);
        if (r == -ECONNRESET || c->verify == 0)
                c->worker = worker_free(c->worker);
        if (r < 0)
                log_warning("%s: could not verify %s: %s", c->name, custody_table[a].name, text);
        else if (r == 0 && t && t->state == TDI_STATE_PREPARED) {
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
        if (need_worker(c) < 0)
                return false;
        args = arguments(c);
        c->probing = a;
        r = worker_call(c->worker, custody_table[a].name, "probe", args, &c->device, a == ACTION_OPEN_BIND ? 1 : 0, on_probed, c);
        if (r < 0) {
                c->worker = worker_free(c->worker);
                c->verify = 0;
                return true;
        }
        arm(c, a, false);
        return true;
}

static enum custody_action next_up(const Custody *c) {
        for (int a = 0; a < ACTION_MAX; a++)
                if (!custody_is_done(c, a))
                        return a;
        return ACTION_NONE;
}

static enum custody_action next_down(const Custody *c) {
        if (c->begun != ACTION_NONE)
                return c->begun;
        for (int a = ACTION_MAX - 1; a >= 0; a--)
                if (custody_is_done(c, a))
                        return a;
        return ACTION_NONE;
}

static bool reached(Custody *c) {
        int r;

        c->goal = GOAL_KEEP;
        c->worker = worker_free(c->worker);
        r = c->done == 0 ? journal_remove(c) : journal_write(c);
        if (r < 0)
                log_warning("%s: could not write its journal: %s", c->name, strerror(-r));
        custody_announce(c);
        return true;
}

bool custody_kick(Custody *c) {
        enum custody_action a;

        if (c->busy || c->frozen || c->quarantine)
                return false;
        if (c->goal == GOAL_KEEP)
                return c->verify && run_probe(c);
        c->verify = 0;
        a = c->goal == GOAL_UP ? next_up(c) : next_down(c);
        if (a == ACTION_NONE)
                return reached(c);
        /* What an orphaned worker does to the function is not over before it has ended: not even what needs no worker is begun. */
        if (c->recovered && need_worker(c) < 0)
                return false;
        c->recovered = false;
        custody_set_blocked(c, false);
        if (c->goal == GOAL_UP ? custody_may_do(c, a) : custody_may_undo(c, a))
                return c->goal == GOAL_UP ? run_do(c, a) : run_undo(c, a);
        /* Whoever waits here must not keep a place from those who would go on. */
        if (c->worker && !c->given_to_worker && c->manager->n_workers * 4 > c->manager->config.workers * 3)
                c->worker = worker_free(c->worker);
        return false;
}

static void on_left(_unused_ Worker *w, int r, _unused_ const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                    void *userdata) {
        Custody *c = userdata;

        idle(c);
        c->given_to_worker = r >= 0;
        if (r >= 0)
                c->device = close_fd(c->device);
}

void custody_leave(Custody *c) {
        _cleanup_json_ struct json_object *args = NULL;

        custody_set_vm(c, NULL);
        if (c->device < 0 || c->busy || c->frozen || need_worker(c) < 0)
                return;
        args = arguments(c);
        if (worker_call(c->worker, "take", "do", args, &c->device, 1, on_left, c) >= 0)
                arm(c, ACTION_OPEN_CDEV, true);
}
