/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The explorer's surroundings of the custody engine: see custody-world.h. Everything of tdid that the engine calls and that is not the engine. */
#include "custody-world.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

#include "bus/bus.h"
#include "custody-rules.h"
#include "device.h"
#include "guard/guard.h"
#include "journal.h"
#include "tsm.h"
#include "vpci.h"

struct Worker {
        int index;
};
struct Holder {
        int unused;
};
/* The timer of a refused unbind; others are never asked for. */
struct sd_event_source {
        int index;
};

struct world world;
Custody *custodies[FUNCTIONS];
Manager manager;
const struct setting *setting;

static struct Worker workers[FUNCTIONS];
static struct Holder holder;
static VM vms[FUNCTIONS];
static TDI tdis[FUNCTIONS];
static Device devices[FUNCTIONS], dsm;
static Tsm tsm, *tsms[] = { &tsm };
static sd_event_time_handler_t again[FUNCTIONS];
static sd_event_io_handler_t on_request;
static struct sd_event_source timers[FUNCTIONS];
static size_t ran;
static char state_dir[] = "/run/tdid", tsm_name[] = "tsm0", vm_id[] = "1", vm_name[] = "vm";

int world_index(const Custody *c) {
        return c == custodies[0] ? 0 : 1;
}

static int vm_index(int i) {
        return setting->one_vm ? 0 : i;
}

bool world_same_vm(int a, int b) {
        return vm_index(a) == vm_index(b);
}

/* ---- descriptors ---- */

int close(int fd) {
        if (fd >= FD_CDEV && fd < FD_CDEV + FUNCTIONS)
                world_drop_cdev(fd - FD_CDEV, BY_TDID);
        else if (fd >= FD_BINDING && fd < FD_BINDING + FUNCTIONS)
                world_drop_binding(fd - FD_BINDING, BY_TDID);
        return 0;
}

int ipc_fds_take(struct ipc_fds *fds, size_t i) {
        return i < fds->n ? TAKE_FD(fds->fd[i]) : -EBADF;
}

/* ---- workers ---- */

static void wait_for(int i, struct pending p) {
        if (world.pending[i].kind != PENDING_NOTHING)
                violation("function %d asks for something while it waits for an answer", i);
        world.pending[i] = p;
}

int worker_new(_unused_ Manager *m, int lock, Worker **ret) {
        /* Its lock says whose it is. */
        workers[lock].index = lock;
        world.worker[lock] = true;
        *ret = &workers[lock];
        return 0;
}

static void worker_ends(int i) {
        world.worker[i] = false;
        world_drop_binding(i, BY_WORKER);
        world_drop_cdev(i, BY_WORKER);
}

Worker *worker_free(Worker *w) {
        if (w)
                worker_ends(w->index);
        return NULL;
}

Worker *worker_rest(Worker *w) {
        return worker_free(w);
}

bool worker_alive(const Worker *w) {
        return w && world.worker[w->index];
}

int worker_acknowledge(Worker *w) {
        world_drop_binding(w->index, BY_WORKER);
        world_drop_cdev(w->index, BY_WORKER);
        return 0;
}

size_t worker_ran(_unused_ const Worker *w) {
        return ran;
}

unsigned worker_count(_unused_ const Manager *m) {
        return 0;
}

void worker_close_fd(_unused_ Manager *m, int fd) {
        (void) close(fd);
}

int worker_call(Worker *w, const char *op, const char *verb, struct json_object *args, _unused_ const int *fds, _unused_ size_t n_fds,
                worker_done done, _unused_ void *userdata) {
        enum custody_action a = custody_action_from_name(op);

        if (a == ACTION_NONE && !streq(op, "take"))
                violation("no worker knows what %s is", op);
        wait_for(w->index, (struct pending){
                .kind = a == ACTION_NONE ? PENDING_TAKE : streq(verb, "probe") ? PENDING_PROBE : PENDING_WORKER,
                .actions = a == ACTION_NONE ? 0 : BIT(a), .undo = streq(verb, "undo"), .worker_done = done,
                .in_doubt = a == ACTION_CONNECT_TSM && streq(json_str_or(args, "connected_by", ""), "perhaps"),
                .used = a == ACTION_CONNECT_TSM && json_bool_or(args, "used", false) });
        return 0;
}

int worker_call_all(Worker *w, const char *const *ops, size_t n_ops, const char *verb, _unused_ struct json_object *args, worker_done done,
                    _unused_ void *userdata) {
        struct pending p = { .kind = PENDING_WORKER, .undo = streq(verb, "undo"), .worker_done = done };

        for (size_t i = 0; i < n_ops; i++)
                p.actions |= BIT(custody_action_from_name(ops[i]));
        wait_for(w->index, p);
        return 0;
}

/* Does so many of the actions; which way down or up the table says. */
static void act(int i, const struct pending *p, size_t n, struct json_object *values, struct ipc_fds *fds) {
        uint32_t left = p->actions;

        while (left && n-- > 0) {
                enum custody_action a = p->undo ? custody_highest(left) : (enum custody_action) __builtin_ctz(left);

                left &= ~BIT(a);
                if (p->undo)
                        (void) kernel_undo(i, a, p, values);
                else
                        (void) kernel_do(i, a, values, fds);
        }
}

static void answer_worker(int i, struct pending p, int how) {
        size_t n = (size_t) __builtin_popcount(p.actions);
        struct json_object *values = json_new();
        struct ipc_fds fds = {};
        Custody *c = custodies[i];

        ran = 0;
        if (p.kind == PENDING_PROBE)
                p.worker_done(&workers[i], kernel_is_so(i, (enum custody_action) __builtin_ctz(p.actions)), "", values, &fds, c);
        else if (how >= 2) {
                if (how == 3) {
                        act(i, &p, n, values, &fds);
                        /* Nobody else has heard of what it opened. */
                        world.kernel[i].cdev &= fds.n && fds.fd[0] < FD_BINDING ? (uint8_t) ~BY_TDID : 0xff;
                        world.kernel[i].binding &= fds.n && fds.fd[0] >= FD_BINDING && fds.fd[0] < FD_OTHER ? (uint8_t) ~BY_TDID : 0xff;
                }
                worker_ends(i);
                p.worker_done(&workers[i], -ECONNRESET, "the worker process died", NULL, NULL, c);
        } else if (p.kind == PENDING_TAKE) {
                if (how == 0)
                        world.kernel[i].cdev |= BY_WORKER;
                p.worker_done(&workers[i], how == 0 ? 0 : -EIO, "take", values, &fds, c);
        } else {
                ran = how == 0 ? n : n - 1;
                act(i, &p, ran, values, &fds);
                p.worker_done(&workers[i], how == 0 ? 0 : -EIO, "it failed", values, &fds, c);
        }
        json_object_put(values);
}

/* ---- the holder ---- */

bool holder_alive(const Holder *h) {
        /* One for all: a VM is known by its pointer only where it is asked for. */
        return h != NULL;
}

static int ask_holder(Custody *c, struct pending p) {
        if (!c->vm || !holder_alive(c->vm->holder))
                return -ENOTCONN;
        wait_for(world_index(c), p);
        return 0;
}

int holder_call(_unused_ Holder *h, struct json_object *request, _unused_ const int *fds, _unused_ size_t n_fds, holder_done done, void *userdata) {
        int r = ask_holder(userdata, (struct pending){ .kind = PENDING_PUT, .holder_done = done,
                                                       .of_binding = startswith(json_str_or(request, "key", ""), "bind:"),
                                                       .undo = startswith(json_str_or(request, "key", ""), "request:") });

        json_object_put(request);
        return r;
}

void holder_drop(Holder *h, const char *key, _unused_ const char *also, holder_done done, void *userdata) {
        struct tdi_bdf bdf;
        int i;

        if (tdi_bdf_parse(strchr(key, ':') + 1, &bdf) < 0)
                violation("%s is no key", key);
        i = world_index(custody_find(&manager, bdf));
        if (!done) {
                world_drop_binding(i, BY_HOLDER);
                return;
        }
        if (!h) {
                done(0, NULL, NULL, userdata);
                return;
        }
        wait_for(i, (struct pending){ .kind = PENDING_DROP, .holder_done = done });
}

int vpci_serve(Custody *c, _unused_ struct json_object *serve, _unused_ int socket, holder_done done) {
        return ask_holder(c, (struct pending){ .kind = PENDING_SERVE, .holder_done = done });
}

int vpci_stop(Custody *c, _unused_ bool idle, holder_done done, _unused_ void *userdata) {
        return ask_holder(c, (struct pending){ .kind = PENDING_STOP, .holder_done = done });
}

int vpci_lock(Custody *c, bool lock, holder_done done) {
        return ask_holder(c, (struct pending){ .kind = lock ? PENDING_LOCK : PENDING_UNLOCK, .holder_done = done });
}

int vpci_pass_requests(Custody *c, bool on, holder_done done) {
        return ask_holder(c, (struct pending){ .kind = on ? PENDING_PASS : PENDING_PASS_NO_MORE, .holder_done = done });
}

/* What the holder does of it. */
static void act_holder(int i, const struct pending *p) {
        struct kernel *k = &world.kernel[i];

        switch (p->kind) {
        case PENDING_PUT:
                if (p->of_binding)
                        k->binding |= BY_HOLDER;
                else if (!p->undo)
                        k->cdev |= BY_HOLDER;
                break;
        case PENDING_DROP:
                world_drop_cdev(i, BY_HOLDER);
                break;
        case PENDING_STOP:
                k->locked = k->requests = false;
                break;
        case PENDING_LOCK:
                k->locked = true;
                break;
        case PENDING_UNLOCK:
                if (k->bound)
                        violation("the client of %d may change again what its binding locks", i);
                k->locked = false;
                break;
        case PENDING_PASS:
                k->requests = true;
                break;
        case PENDING_PASS_NO_MORE:
                k->requests = false;
                break;
        default:
                break;
        }
}

static void answer_holder(int i, struct pending p, int how) {
        struct json_object *answer = json_new();
        struct ipc_fds fds = {};

        if (how == 0)
                act_holder(i, &p);
        p.holder_done(how == 0 || p.kind == PENDING_DROP ? 0 : -EIO, answer, &fds, custodies[i]);
        json_object_put(answer);
}

void world_answer(int i, int how) {
        struct pending p = world.pending[i];

        world.pending[i] = (struct pending){};
        if (p.kind <= PENDING_PROBE)
                answer_worker(i, p, how);
        else
                answer_holder(i, p, how);
}

void world_holder_dies(int i) {
        for (int o = 0; o < FUNCTIONS; o++) {
                struct pending p = world.pending[o];

                if (!world_same_vm(i, o))
                        continue;
                world.holder[o] = false;
                vms[vm_index(o)].holder = NULL;
                world.kernel[o].locked = world.kernel[o].requests = false;
                world_drop_binding(o, BY_HOLDER);
                world_drop_cdev(o, BY_HOLDER);
                if (p.kind > PENDING_PROBE) {
                        world.pending[o] = (struct pending){};
                        p.holder_done(p.kind == PENDING_DROP ? 0 : -ENOTCONN, NULL, NULL, custodies[o]);
                }
        }
}

/* ---- journal ---- */

int journal_write(Custody *c) {
        struct journal_copy *j = &world.journal[world_index(c)];
        const char *text = json_object_to_json_string_ext(c->values, JSON_C_TO_STRING_PLAIN);

        if (strlen(text) >= sizeof(j->values))
                violation("values of %d bytes", (int) strlen(text));
        *j = (struct journal_copy){ .there = true, .done = c->done, .begun = c->begun, .sequence = c->sequence, .quarantined = c->quarantine };
        snprintf(j->values, sizeof(j->values), "%s", text);
        c->journalled = true;
        return 0;
}

int journal_remove(Custody *c) {
        world.journal[world_index(c)] = (struct journal_copy){};
        c->journalled = false;
        return 0;
}

int journal_lock(_unused_ Manager *m, struct tdi_bdf bdf) {
        return world_index(custody_find(&manager, bdf));
}

/* ---- VMs and TDIs ---- */

TDI *tdi_of(const Custody *c) {
        int i = world_index(c);

        return world.there[i] && c->vm && world.tdi[i] != TDI_STATE_GONE ? &tdis[i] : NULL;
}

void tdi_set_state(TDI *t, enum tdi_state state) {
        int i = (int) (t - tdis);

        if (world.tdi[i] == state)
                return;
        if (!tdi_state_may_follow(world.tdi[i], state))
                violation("TDI %d: %s may not follow %s", i, tdi_state_to_string(state), tdi_state_to_string(world.tdi[i]));
        world.tdi[i] = t->state = state;
}

void tdi_failed(TDI *t, _unused_ const char *reason) {
        tdi_set_state(t, TDI_STATE_FAILED);
}

bool tdi_is_attached(const TDI *t) {
        return world.tdi[t - tdis] == TDI_STATE_PREPARED || world.tdi[t - tdis] == TDI_STATE_BOUND;
}

void tdi_bind_ended(TDI *t) {
        enum tdi_state state = world.tdi[t - tdis];

        if (custody_is_bound(t->custody) && state == TDI_STATE_PREPARED)
                tdi_set_state(t, TDI_STATE_BOUND);
        else if (!custody_is_bound(t->custody) && state == TDI_STATE_BOUND)
                tdi_set_state(t, TDI_STATE_PREPARED);
}

void tdi_lost_binding(TDI *t) {
        if (t->custody->goal == GOAL_KEEP || t->custody->goal == GOAL_BIND)
                custody_set_goal(t->custody, GOAL_UNBIND);
}

static struct vm_space space = { .ioas = 1 };

int vm_space_get(_unused_ VM *vm, _unused_ const Custody *c, struct vm_space **ret) {
        *ret = &space;
        return 0;
}

struct vm_space *vm_space_find(_unused_ const VM *vm, _unused_ const Custody *c) {
        return &space;
}

VM *vm_find_id(_unused_ Manager *m, _unused_ const char *id) {
        return &vms[0];
}

VM *vm_find_uuid(_unused_ Manager *m, _unused_ const char *uuid) {
        return &vms[0];
}

/* ---- the guard, which this kernel can ---- */

bool guard_is_on(_unused_ const Manager *m) {
        return true;
}

bool custody_is_guarded(const Custody *c) {
        return json_bool_or(c->values, "guard", false) && custody_is_done(c, ACTION_GUARD_ON);
}

bool guard_has_others(const Custody *c) {
        return world.kernel[1 - world_index(c)].guarded;
}

/* ---- devices ---- */

Tsm *tsm_find(_unused_ Manager *m, _unused_ const char *name) {
        return &tsm;
}

Device *device_find(_unused_ Manager *m, struct tdi_bdf bdf) {
        for (int i = 0; i < FUNCTIONS; i++)
                if (tdi_bdf_number(devices[i].bdf) == tdi_bdf_number(bdf))
                        return &devices[i];
        return tdi_bdf_number(dsm.bdf) == tdi_bdf_number(bdf) ? &dsm : NULL;
}

Device *device_find_number(_unused_ Manager *m, _unused_ uint32_t number) {
        return NULL;
}

Device *device_dsm(_unused_ Device *d) {
        return setting->dsm_is_first ? &devices[0] : &dsm;
}

void device_renew(_unused_ Device *d) {
}

char *device_path(_unused_ struct tdi_bdf bdf, char buf[static 64]) {
        buf[0] = '\0';
        return buf;
}

/* ---- time ---- */

uint64_t now_monotonic(void) {
        return 1000000;
}

void manager_touch(_unused_ Manager *m) {
}

/* Whoever asks for a little later asks until he gets it: at once is as good. */
void manager_retry(_unused_ Manager *m) {
        for (int i = 0; i < FUNCTIONS; i++)
                custodies[i]->not_before = 0;
}

void manager_append(void ***array, size_t *n, _unused_ size_t *room, void *item) {
        (*array)[(*n)++] = item;
}

int sd_event_add_io(_unused_ sd_event *e, sd_event_source **s, _unused_ int fd, _unused_ uint32_t events, sd_event_io_handler_t callback,
                    _unused_ void *userdata) {
        on_request = callback;
        *s = NULL;
        return 0;
}

int sd_event_add_time(_unused_ sd_event *e, sd_event_source **s, _unused_ clockid_t clock, _unused_ uint64_t usec, _unused_ uint64_t accuracy,
                      _unused_ sd_event_time_handler_t callback, _unused_ void *userdata) {
        *s = NULL;
        return 0;
}

int sd_event_add_time_relative(_unused_ sd_event *e, sd_event_source **s, _unused_ clockid_t clock, _unused_ uint64_t usec, _unused_ uint64_t accuracy,
                               sd_event_time_handler_t callback, void *userdata) {
        int i = world_index(userdata);

        timers[i].index = i;
        *s = &timers[i];
        again[i] = callback;
        world.again[i] = true;
        return 0;
}

int sd_event_source_set_enabled(_unused_ sd_event_source *s, _unused_ int enabled) {
        return 0;
}

sd_event_source *sd_event_source_disable_unref(sd_event_source *s) {
        if (s)
                world.again[s->index] = false;
        return NULL;
}

void world_want(int i) {
        world.wanted[i] = true;
        (void) on_request(NULL, 0, 0, custodies[i]);
        for (int o = 0; o < FUNCTIONS; o++)
                world.committed[o] = tdis[o].committed;
}

void world_ring(int i) {
        world.again[i] = false;
        (void) again[i](NULL, 0, custodies[i]);
}

void world_restore(int i) {
        custody_restore(custodies[i], false);
        for (int o = 0; o < FUNCTIONS; o++)
                world.committed[o] = tdis[o].committed;
}

/* ---- the attach job, as transaction.c has it ---- */

void job_fail(Job *j, enum tdi_error error, _unused_ const char *format, ...) {
        if (j->error == TDI_ERROR_NONE)
                j->error = error;
}

void job_finish(_unused_ Job *j) {
        world.attach = JOB_NONE;
}

bool custody_kick_job(void);

bool custody_kick_job(void) {
        struct tdi_bdf bdfs[FUNCTIONS];
        char *objects[FUNCTIONS];
        Job j = { .manager = &manager, .bdfs = bdfs, .objects = objects, .undoing = world.attach_undoes, .committing = world.attach_commits,
                  .sequence = world.sequence };
        bool changed;

        if (world.attach == JOB_NONE)
                return false;
        for (int i = 0; i < FUNCTIONS; i++)
                if (world.attach_of & 1u << i) {
                        j.vm = &vms[vm_index(i)];
                        j.vm->close = world.closing[i] ? CLOSE_UNMAPPED : CLOSE_NOT;
                        bdfs[j.n_bdfs] = custodies[i]->bdf;
                        objects[j.n_bdfs++] = custodies[i]->name;
                }
        changed = attach_settle(&j);
        world.attach_undoes = j.undoing;
        world.attach_commits = j.committing;
        for (int i = 0; i < FUNCTIONS; i++)
                world.committed[i] = tdis[i].committed;
        return changed;
}

/* Of transaction.c too, for jobs that are not here. */
bool tdi_early_are_bound(_unused_ VM *vm, _unused_ const TDI **ret_failed) {
        return true;
}
void vm_set_phase(_unused_ VM *vm, _unused_ enum tdi_vm_phase phase) {
}
bool vm_waits_for_tsm(_unused_ const VM *vm) {
        return false;
}
bool vm_leaves_bound(_unused_ const VM *vm) {
        return false;
}

/* ---- tdid ---- */

static void take_in(void) {
        manager.n_custodies = 0;
        for (int i = 0; i < FUNCTIONS; i++) {
                if (world.there[i])
                        manager.custodies[manager.n_custodies++] = custodies[i];
                tdis[i].state = world.tdi[i];
                tdis[i].committed = world.committed[i];
                custodies[i]->vm = world.there[i] ? &vms[vm_index(i)] : NULL;
                vms[vm_index(i)].holder = world.holder[i] ? &holder : NULL;
                vms[vm_index(i)].phase = world.closing[i] ? TDI_VM_CLOSING : TDI_VM_SEALED;
                vms[vm_index(i)].close = world.closing[i] ? CLOSE_UNMAPPED : CLOSE_NOT;
                workers[i].index = i;
        }
}

void world_settle(void) {
        bool changed;
        int rounds = 0;

        take_in();
        do {
                changed = false;
                for (size_t i = 0; i < manager.n_custodies; i++)
                        changed |= custody_kick(manager.custodies[i]);
                changed |= custody_kick_job();
                for (int i = 0; i < FUNCTIONS; i++) {
                        Custody *c = custodies[i];

                        if (!world.there[i] || !custody_is_empty(c) || c->goal != GOAL_KEEP)
                                continue;
                        if (tdi_of(c))
                                tdi_set_state(&tdis[i], TDI_STATE_GONE);
                        if (c->journalled || world.journal[i].there)
                                violation("function %d is over, and in the journal", i);
                        c->worker = worker_free(c->worker);
                        world.there[i] = world.committed[i] = tdis[i].committed = world.again[i] = world.wanted[i] = c->wanted = false;
                        c->device = c->binding = c->request = -EBADF;
                        c->again = NULL;
                        json_object_put(c->values);
                        c->values = json_new();
                        c->error = TDI_ERROR_NONE;
                        c->sequence = 0;
                        take_in();
                        changed = true;
                }
                if (++rounds > 1000)
                        violation("the engine does not come to rest");
        } while (changed);
}

static void clear_custody(Custody *c) {
        c->done = c->begun = c->command = c->verify = 0;
        c->goal = GOAL_KEEP;
        c->device = c->binding = c->request = -EBADF;
        c->worker = NULL;
        c->again = NULL;
        c->busy = c->given_to_worker = c->retried = c->group_kept = c->journalled = c->recovered = c->blocked = c->stuck = c->trying_again = c->wanted = false;
        c->not_before = c->asked = c->deadline = c->sequence = 0;
        c->error = TDI_ERROR_NONE;
        c->refusals = 0;
        c->again_goal = GOAL_KEEP;
        c->probing = 0;
        c->announced = TDI_CUSTODY_NONE;
        free(c->error_text);
        free(c->quarantine);
        c->error_text = c->quarantine = NULL;
        json_object_put(c->values);
        c->values = json_new();
}

/* As recover.c: what was whole and committed goes on, what was half bound is unbound, the rest is given back. */
static void resume(int i) {
        Custody *c = custodies[i];
        TDI *t = &tdis[i];

        world.tdi[i] = t->state = TDI_STATE_ATTACHING;
        if (world.committed[i] && !world.closing[i] && c->device >= 0 && custody_is_half_bound(c)) {
                tdi_set_state(t, TDI_STATE_PREPARED);
                if (custody_is_bound(c))
                        tdi_set_state(t, TDI_STATE_BOUND);
                custody_verify(c);
                custody_set_goal(c, GOAL_UNBIND);
        } else if (world.committed[i] && !world.closing[i] && custody_unbind_is_refused(c) && (c->done & CUSTODY_PREPARED) == CUSTODY_PREPARED && c->device >= 0) {
                tdi_set_state(t, TDI_STATE_PREPARED);
                if (custody_is_bound(c))
                        tdi_set_state(t, TDI_STATE_BOUND);
                custody_verify(c);
                custody_unbind_later(c, GOAL_UNBIND);
        } else if (world.committed[i] && !world.closing[i] && custody_is_complete(c) && c->device >= 0) {
                tdi_set_state(t, TDI_STATE_PREPARED);
                if (custody_is_bound(c))
                        tdi_set_state(t, TDI_STATE_BOUND);
                custody_verify(c);
                if (custody_is_bound(c) && !custody_is_done(c, ACTION_BIND_REQUESTS))
                        custody_set_goal(c, GOAL_BIND);
        } else {
                tdi_set_state(t, TDI_STATE_DETACHING);
                custody_give_back(c);
        }
}

void world_restart(unsigned done_after) {
        for (int i = 0; i < FUNCTIONS; i++) {
                struct pending p = world.pending[i];
                struct json_object *values = json_new();
                struct ipc_fds fds = {};

                world.pending[i] = (struct pending){};
                if (p.kind == PENDING_TAKE && done_after & 1u << i)
                        world.kernel[i].cdev |= BY_WORKER;
                else if (p.kind == PENDING_WORKER && done_after & 1u << i)
                        act(i, &p, (size_t) __builtin_popcount(p.actions), values, &fds);
                else if (p.kind > PENDING_PROBE && done_after & 1u << i)
                        act_holder(i, &p);
                json_object_put(values);
        }
        /* tdid's copies go; then workers notice, and end. */
        for (int i = 0; i < FUNCTIONS; i++) {
                world_drop_binding(i, BY_TDID);
                world_drop_cdev(i, BY_TDID);
        }
        for (int i = 0; i < FUNCTIONS; i++) {
                worker_ends(i);
                clear_custody(custodies[i]);
                world.again[i] = world.wanted[i] = false;
                world.there[i] = world.journal[i].there;
                world.attach = JOB_NONE;
                world.attach_undoes = world.attach_commits = false;
        }
        for (int i = 0; i < FUNCTIONS; i++) {
                const struct journal_copy *j = &world.journal[i];
                Custody *c = custodies[i];

                if (!j->there) {
                        world.tdi[i] = TDI_STATE_GONE;
                        world.committed[i] = tdis[i].committed = false;
                        continue;
                }
                json_object_put(c->values);
                c->values = json_tokener_parse(j->values);
                c->done = j->done;
                c->begun = j->begun;
                c->sequence = j->sequence;
                c->journalled = c->recovered = true;
                if (j->quarantined && free_and_strdup(&c->quarantine, "as it was") < 0)
                        abort();
                if (world.kernel[i].cdev & BY_HOLDER) {
                        world.kernel[i].cdev |= BY_TDID;
                        c->device = FD_CDEV + i;
                }
                if (world.kernel[i].binding & BY_HOLDER) {
                        world.kernel[i].binding |= BY_TDID;
                        c->binding = FD_BINDING + i;
                }
        }
        take_in();
        for (int i = 0; i < FUNCTIONS; i++)
                if (world.there[i])
                        resume(i);
}

void world_begin(const struct setting *s) {
        static Custody *array[FUNCTIONS];

        setting = s;
        memset(&world, 0, sizeof(world));
        memset(&manager, 0, sizeof(manager));
        manager.custodies = array;
        manager.state_dir = state_dir;
        manager.tsms = tsms;
        manager.n_tsms = 1;
        tsm.name = tsm_name;
        config_default(&manager.config);
        dsm.bdf = (struct tdi_bdf){ .bus = 9 };
        for (int i = 0; i < FUNCTIONS; i++) {
                devices[i].bdf = (struct tdi_bdf){ .bus = (uint8_t) (1 + i) };
                devices[i].phys_fn = UINT32_MAX;
                vms[i] = (VM){ .manager = &manager, .id = vm_id, .name = vm_name, .uuid = "u", .iommufd = FD_END, .kvm = FD_END };
                vms[i].association.channel = vms[i].association.device = -EBADF;
                vms[i].platform = platform_find("plain");
                if (!custodies[i])
                        custodies[i] = custody_new(&manager, devices[i].bdf, 0);
                clear_custody(custodies[i]);
                custodies[i]->group = s->one_group ? 7 : 7 + i;
                tdis[i] = (TDI){ .vm = &vms[vm_index(i)], .custody = custodies[i], .bdf = devices[i].bdf };
                world.tdi[i] = TDI_STATE_GONE;
                world.holder[i] = true;
        }
        manager.n_custodies = 0;
        world.operations = s->operations;
        world.faults = s->faults;
        world.deaths = s->deaths;
        world.wants = s->wants;
        take_in();
}
