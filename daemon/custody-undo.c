/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One command on the way down, and the last close of the device. */
#include "custody-engine.h"

#include <stdio.h>

#include "audit.h"
#include "association.h"
#include "custody-rules.h"
#include "fault.h"
#include "handoff.h"
#include "journal.h"
#include "vpci.h"

static void undo_failed(Custody *c, enum custody_action a, int r, const char *text) {
        /* What keeps a function bound that its VM has left behind is with that worker: see custody_leave(). */
        if (a != ACTION_BIND_TSM || r == -ECONNRESET || !c->given_to_worker) {
                c->worker = worker_free(c->worker);
                c->given_to_worker = false;
        }
        /* A worker that was killed has failed at nothing: the undo is idempotent, so another one goes on. */
        if (r == -ECONNRESET && !c->retried) {
                c->retried = true;
                return;
        }
        /* Handed-off functions of one group leave vfio-pci one by one, and the kernel gives the group's DMA back with the last. */
        if (r == -EBUSY && a == ACTION_CLAIM_REBIND && custody_is_handed_off(c) && (!c->group_kept || custody_group_waits_for_handoff(c))) {
                c->group_kept = true;
                return;
        }
        custody_failed(c, a, true, r, text);
}

static void on_undone(Worker *w, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        enum custody_action a = custody_highest(c->command);

        custody_idle(c);
        if (r >= 0 && a == ACTION_CONNECT_TSM) {
                /* Whose it is now, the journals of the heirs know before that of this one forgets it. */
                if (json_bool_or(values, "left", false))
                        custody_bequeath_connection(c);
                else
                        audit_tsm_disconnected(custody_dsm(c), json_str_or(c->values, "tsm", ""), c);
                json_object_object_del(values, "left");
        }
        custody_merge(c, values);
        if (r >= 0 && a == ACTION_OPEN_CDEV) {
                c->given_to_worker = false;
                c->request_source = sd_event_source_disable_unref(c->request_source);
                c->request = close_fd(c->request);
        }
        if (r >= 0 && a == ACTION_BIND_CONNECT)
                custody_connected_again(c);
        if (r != -ECONNRESET)
                a = custody_command_ended(c, true, worker_ran(w));
        if (r < 0)
                undo_failed(c, a, r, text);
        else
                c->retried = false;
}

/* Nothing was sent, or nobody was there to answer. */
static void not_undone(Custody *c, int r, const char *text) {
        custody_idle(c);
        undo_failed(c, custody_highest(c->command), r, text);
}

static void on_dropped(_unused_ int result, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        int r;

        if (!worker_alive(c->worker)) {
                not_undone(c, -ECONNRESET, "the worker process died");
                return;
        }
        /* Even when the holder died: its copy is gone. Now the worker's is the last, and tdid's own goes first. */
        c->device = close_fd(c->device);
        r = custody_call(c, true, NULL, 0, on_undone);
        if (r < 0)
                not_undone(c, r, "could not talk to the worker");
}

static void on_taken(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                     void *userdata) {
        Custody *c = userdata;
        char key[64], also[64];

        if (r < 0) {
                not_undone(c, r, text);
                return;
        }
        c->given_to_worker = true;
        snprintf(key, sizeof(key), "cdev:%s", c->name);
        snprintf(also, sizeof(also), "request:%s", c->name);
        holder_drop(c->vm ? c->vm->holder : NULL, key, also, on_dropped, c);
}

/* Nobody reaches the device by way of the holder any more: now the socket's file may go. */
static void on_stopped(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        /* An earlier tdid's question is being answered still. */
        if (r == -EBUSY) {
                custody_idle(c);
                custody_later(c);
                return;
        }
        /* Not served: never begun, or undone before. Not there: the holder has died, and its server with it. */
        if (r < 0 && r != -ENOENT && r != -ENOTCONN) {
                not_undone(c, r, "the VM's holder does not stop its vPCI server");
                return;
        }
        fault_point(custody_table[ACTION_PREPARE_SOCKET].name, "undo", "stopped");
        vpci_stopped(c, r >= 0 && json_bool_or(answer, "stuck", false));
        if (!worker_alive(c->worker)) {
                not_undone(c, -ECONNRESET, "the worker process died");
                return;
        }
        r = custody_call(c, true, NULL, 0, on_undone);
        if (r < 0)
                not_undone(c, r, "could not talk to the worker");
}

/* What it serves may be changed again; a holder that is gone has nobody to hold back. */
static void on_unlocked(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        if (r < 0 && r != -ENOENT && r != -ENOTCONN) {
                if (!custody_ask_again(c, r))
                        custody_failed(c, ACTION_BIND_LOCK, true, r, "the VM's holder does not let its client go on after the unbind");
                return;
        }
        custody_ended(c, ACTION_BIND_LOCK, true);
}

static void on_no_requests(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        if (r < 0 && r != -ENOENT && r != -ENOTCONN) {
                if (!custody_ask_again(c, r))
                        custody_failed(c, ACTION_BIND_REQUESTS, true, r, r == -EAGAIN ? "a request of the guest has not come back from the TSM" :
                                       "the VM's holder does not stop passing requests of the guest on");
                return;
        }
        custody_ended(c, ACTION_BIND_REQUESTS, true);
}

static void on_unbound(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        char key[64];

        if (r >= 0) {
                /* It is unbound: whose copy of the provider's file is closed last does not matter any more. */
                snprintf(key, sizeof(key), "bind:%s", c->name);
                if (c->vm)
                        holder_drop(c->vm->holder, key, NULL, NULL, NULL);
                c->binding = close_fd(c->binding);
                json_object_object_del(c->values, "provider");
        }
        on_undone(w, r, text, values, fds, c);
}

/* ---- the association with KVM ---- */

static void on_device_dropped(_unused_ int result, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        int r;

        if (!worker_alive(c->worker)) {
                not_undone(c, -ECONNRESET, "the worker process died");
                return;
        }
        /* Now the worker's copy is the last; with it go the references of all nodes, of which none is the last one yet. */
        if (c->vm) {
                association_lost(c->vm, c);
                c->vm->association.device = close_fd(c->vm->association.device);
        }
        fault_point(custody_table[ACTION_OPEN_ASSOCIATE].name, "undo", "dropped");
        r = worker_call(c->worker, "vm.close", "do", NULL, NULL, 0, on_undone, c);
        if (r < 0)
                not_undone(c, r, "could not talk to the worker");
}

static void on_device_taken(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                            void *userdata) {
        Custody *c = userdata;

        if (r < 0) {
                not_undone(c, r, text);
                return;
        }
        holder_drop(c->vm ? c->vm->holder : NULL, "kvm-vfio", NULL, on_device_dropped, c);
}

static void on_dissociated(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        if (r < 0 && c->vm) {
                /* The other way needs nobody's help, and costs others what they have of it. */
                log_notice("VM %s: %s; closing its kvm-vfio device", c->vm->name, text);
                association_hang_up(c->vm);
                custody_idle(c);
                c->worker = worker_free(c->worker);
                return;
        }
        on_undone(w, r, text, values, fds, c);
}

static int dissociate(Custody *c) {
        int fds[3];
        size_t n = association_fds(c, fds);

        if (c->device >= 0 && association_is_shared(c) && association_is_open(c->vm))
                return custody_call(c, true, fds, n, on_dissociated);
        return worker_call(c->worker, "vm.take", "do", NULL, &fds[2], 1, on_device_taken, c);
}

static void write_down(Custody *c) {
        int r = journal_write(c);

        /* The file on disk still has these rows as done, which is as good: an undo may run twice. */
        if (r < 0)
                log_warning("%s: could not write its journal: %s", c->name, strerror(-r));
}

/* Of descriptors, processes, memory, room: nothing is wrong with the function, and it is given back when there is some again. */
static bool is_shortage(int r) {
        return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOBUFS || r == -ENOSPC;
}

/* This sub-action, and those before it that are undone in the same command. */
static uint32_t command_from(Custody *c, enum custody_action a) {
        uint32_t command = BIT(a);

        for (int b = a; custody_table[b].joins && custody_touched(c, b - 1) && !custody_is_local(c, b - 1, true) && custody_may_undo(c, b - 1);
             b--)
                command |= BIT(b - 1);
        return command;
}

/* Those of the row that are there still. */
static unsigned fds_for_undo(const Custody *c, enum custody_action a) {
        unsigned n = custody_table[a].fds_undo;

        if (c->device < 0)
                return 0;
        return n > 1 && (!c->vm || c->vm->iommufd < 0) ? 1 : n;
}

/* Without a binding that anybody holds, the VM's iommufd may be what it is in. */
static int unbind(Custody *c) {
        int fd = c->binding >= 0 ? c->binding : c->vm ? c->vm->iommufd : -EBADF;

        return custody_call(c, true, (int[]){ fd, c->device }, fd < 0 ? 0 : c->device < 0 ? 1 : custody_table[ACTION_BIND_TSM].fds_undo, on_unbound);
}

bool custody_run_undo(Custody *c, enum custody_action a) {
        bool local;
        int r;

        local = custody_is_local(c, a, true);

        r = local || custody_table[a].undo == RUNS_HOLDER ? 0 : custody_need_worker(c);
        if (r == -EWOULDBLOCK)
                return false;
        if (is_shortage(r)) {
                if (!c->starved)
                        log_warning("%s: could not start a worker to give it back: %s; trying again until one can be", c->name, strerror(-r));
                c->starved = true;
                custody_later(c);
                return false;
        }
        c->starved = false;
        if (r < 0) {
                custody_failed(c, a, true, r, "could not start a worker");
                return true;
        }
        c->command = local ? BIT(a) : command_from(c, a);
        c->begun |= c->command;
        if (!local)
                write_down(c);
        fault_point(custody_table[a].name, "undo", "before");
        if (local) {
                custody_ended(c, a, true);
                /* That a connection is another function's from now on has to be known before anything else happens to it. */
                if (custody_needs_journal(c, a, true))
                        write_down(c);
                return true;
        }
        if (a == ACTION_PREPARE_SOCKET) {
                r = vpci_stop(c, false, on_stopped, c);
                if (r == -ENOTCONN) {
                        vpci_stopped(c, false);
                        r = custody_call(c, true, NULL, 0, on_undone);
                }
        } else if (custody_runs_in_holder(a)) {
                holder_done done = a == ACTION_BIND_LOCK ? on_unlocked : on_no_requests;

                r = a == ACTION_BIND_LOCK ? vpci_lock(c, false, done) : vpci_pass_requests(c, false, done);
                if (r == -ENOTCONN) {
                        done(r, NULL, NULL, c);
                        return true;
                }
        } else if (a == ACTION_BIND_TSM)
                r = unbind(c);
        else if (a == ACTION_OPEN_ASSOCIATE)
                r = dissociate(c);
        else if (a != ACTION_OPEN_CDEV)
                r = custody_call(c, true, (int[]){ c->device, c->vm ? c->vm->iommufd : -EBADF }, fds_for_undo(c, a), on_undone);
        else if (c->given_to_worker)
                r = custody_call(c, true, NULL, 0, on_undone);
        else {
                _cleanup_json_ struct json_object *args = custody_arguments(c);

                r = worker_call(c->worker, "take", "do", args, &c->device, 1, on_taken, c);
        }
        if (r < 0)
                return custody_call_failed(c, a, true, r);
        custody_arm(c, a, true);
        return true;
}

static void on_left(_unused_ Worker *w, int r, _unused_ const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                    void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        c->given_to_worker = r >= 0;
        if (r >= 0)
                c->device = close_fd(c->device);
}

/*
 * With the device goes what keeps the function bound, where the TSM has refused to unbind it: that worker does not end before it is
 * unbound, not even when tdid does.
 */
void custody_leave(Custody *c) {
        _cleanup_json_ struct json_object *args = NULL;

        custody_set_vm(c, NULL);
        if (!custody_touched(c, ACTION_BIND_TSM))
                worker_close_fd(c->manager, TAKE_FD(c->binding));
        if (c->device < 0 || c->busy || c->frozen || custody_need_worker(c) < 0)
                return;
        args = custody_arguments(c);
        if (worker_call(c->worker, "take", "do", args, (int[]){ c->device, c->binding }, c->binding < 0 ? 1 : 2, on_left, c) >= 0)
                custody_arm(c, ACTION_OPEN_CDEV, true);
}
