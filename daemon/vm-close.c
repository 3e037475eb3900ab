/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of a VM, step by step: functions are detached, guest memory unmapped, functions given back, the holder ended. */
#include "association.h"
#include "audit.h"
#include "bus/bus.h"
#include "fault.h"
#include "vm.h"
#include "vpci.h"
#include "worker.h"

static void on_all_stopped(_unused_ int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        vm->stopping = false;
        manager_touch(vm->manager);
}

void vm_close(VM *vm, const char *reason) {
        char path[64];

        if (vm->close != CLOSE_NOT)
                return;
        audit_vm_closing(vm, reason);
        vm->close = CLOSE_DETACHING;
        if (vm->closing_since == 0)
                vm->closing_since = now_realtime();
        vm->await_timer = sd_event_source_disable_unref(vm->await_timer);
        vm->await_deadline = 0;
        vm_set_phase(vm, TDI_VM_CLOSING);
        association_hang_up(vm);
        /* Not when each function's turn has come: one may be busy, and stay so. */
        vm->stopping = true;
        if (vpci_stop_all(vm, on_all_stopped, vm) < 0)
                vm->stopping = false;
        /* Nothing keeps it any more, and who holds a lease sees it hang up. */
        for (size_t i = 0; i < vm->n_keepers; i++)
                vm->keepers[i]->ended = true;
        if (vm->announced)
                bus_emit_closing(vm->manager, vm_path(vm, path), reason);
        for (size_t i = 0; i < vm->manager->n_custodies; i++) {
                Custody *c = vm->manager->custodies[i];

                if (c->vm != vm)
                        continue;
                custody_give_back(c);
                if (tdi_of(c))
                        tdi_set_state(tdi_of(c), TDI_STATE_DETACHING);
        }
        manager_touch(vm->manager);
}

static bool all_custodies(VM *vm, bool (*ok)(const Custody *c)) {
        for (size_t i = 0; i < vm->manager->n_custodies; i++)
                if (vm->manager->custodies[i]->vm == vm && !ok(vm->manager->custodies[i]))
                        return false;
        return true;
}

static bool is_detached(const Custody *c) {
        return !custody_touched(c, ACTION_PREPARE_ATTACH) || custody_is_stalled(c);
}

static bool is_never(_unused_ const Custody *c) {
        return false;
}

bool vm_leaves_bound(const VM *vm) {
        return vm->abandon || !holder_alive(vm->holder);
}

bool vm_waits_for_tsm(const VM *vm) {
        if (vm->close != CLOSE_UNMAPPED || vm_leaves_bound(vm))
                return false;
        for (size_t i = 0; i < vm->manager->n_custodies; i++)
                if (vm->manager->custodies[i]->vm == vm && custody_unbind_is_refused(vm->manager->custodies[i]))
                        return true;
        return false;
}

/* A quarantined function stays behind; one that is stuck, or still bound, only where the caller gives it up. */
static bool may_be_left(const Custody *c) {
        /* With that it might be unbound by a last close. */
        if (custody_is_asked_again(c))
                return false;
        if (vm_waits_for_tsm(c->vm) && (custody_unbind_is_refused(c) || (c->blocked && !c->quarantine)))
                return false;
        return c->quarantine || c->blocked || (c->vm->abandon && custody_is_stalled(c));
}

static void on_closed(Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        if (r < 0)
                log_warning("VM %s: %s", vm->name, text);
        if (r == -ECONNRESET || r == -EPIPE) {
                vm->worker = worker_free(w ? w : vm->worker);
                /* It was killed: what it should have done is done by another one, once. */
                if (!vm->retried) {
                        vm->retried = true;
                        vm->close = vm->close == CLOSE_UNMAPPING ? CLOSE_DETACHING : CLOSE_UNMAPPED;
                        manager_touch(vm->manager);
                        return;
                }
        }
        if (vm->close == CLOSE_UNMAPPING)
                vm->close = CLOSE_UNMAPPED;
        else if (vm->close == CLOSE_FINAL)
                vm->close = CLOSE_ENDING;
        manager_touch(vm->manager);
}

static void release_dropped(_unused_ int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        if (!worker_alive(vm->worker)) {
                on_closed(NULL, -ECONNRESET, "its worker died", NULL, NULL, vm);
                return;
        }
        if (vm->close == CLOSE_UNMAPPING) {
                vm->kvm = close_fd(vm->kvm);
                vm->association.device = close_fd(vm->association.device);
        } else {
                vm->iommufd = close_fd(vm->iommufd);
                fault_point("vm.close", "do", "emptied");
        }
        if (!vm->worker || worker_call(vm->worker, "vm.close", "do", NULL, NULL, 0, on_closed, vm) < 0)
                on_closed(NULL, -EPIPE, "its worker is gone", NULL, NULL, vm);
}

static void on_taken(Worker *w, int r, const char *text, _unused_ struct json_object *values, struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        if (r < 0) {
                on_closed(w, r, text, NULL, fds, vm);
                return;
        }
        if (vm->close == CLOSE_UNMAPPING)
                holder_drop(vm->holder, "kvm", "kvm-vfio", release_dropped, vm);
        else
                holder_drop(vm->holder, "iommufd", NULL, release_dropped, vm);
}

/* The last close of one of the VM's own descriptors: a worker takes it, the holder and we drop ours, the worker closes. */
static int release(VM *vm, const int *fds, size_t n) {
        return worker_call(vm->worker, "vm.take", "do", NULL, fds, n, on_taken, vm);
}

static void on_unmapped(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;
        int kvm[2];
        size_t n = 0;

        if (r < 0) {
                log_warning("VM %s: %s", vm->name, text);
                if (r != -ECONNRESET && free_and_strdup(&vm->unmap_error, text) < 0)
                        log_oom();
        }
        /* The one holds the other, and both a guest's private memory. */
        if (vm->association.device >= 0)
                kvm[n++] = vm->association.device;
        if (vm->kvm >= 0)
                kvm[n++] = vm->kvm;
        if (r == -ECONNRESET || n == 0 || release(vm, kvm, n) < 0)
                on_closed(w, r == -ECONNRESET ? r : 0, text, values, fds, vm);
}

static int unmap(VM *vm) {
        _cleanup_json_ struct json_object *args = json_new();

        json_set_take(args, "spaces", vm_spaces_to_unmap(vm));
        return worker_call(vm->worker, "vm.unmap", "do", args, &vm->iommufd, 1, on_unmapped, vm);
}

static void on_exited(_unused_ int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        vm->close = CLOSE_DONE;
        manager_touch(vm->manager);
}

static void end_holder(VM *vm) {
        struct json_object *q;

        if (holder_alive(vm->holder)) {
                q = json_new();
                json_set_str(q, "op", "exit");
                if (holder_call(vm->holder, q, NULL, 0, on_exited, vm) >= 0)
                        return;
        }
        vm->close = CLOSE_DONE;
}

bool vm_need_worker(VM *vm) {
        int r;

        /* It may be at the address space of a group that has left. */
        if (worker_alive(vm->worker))
                return !worker_busy(vm->worker);
        vm->worker = worker_free(vm->worker);
        r = worker_new(vm->manager, -EBADF, &vm->worker);
        if (r < 0) {
                log_warning("VM %s: could not start a worker: %s", vm->name, strerror(-r));
                manager_retry(vm->manager);
        }
        return r >= 0;
}

/* Somebody's callback still expects the VM: its holder answers soon, or dies. */
static bool is_being_born(const VM *vm) {
        for (size_t i = 0; i < vm->n_keepers; i++)
                if (vm->keepers[i]->storing)
                        return true;
        return vm->ready;
}

bool vm_close_settle(VM *vm) {
        switch (vm->close) {
        case CLOSE_DETACHING:
                if (is_being_born(vm) || vm->stopping)
                        return false;
                if (!all_custodies(vm, is_detached))
                        return false;
                if (vm->iommufd < 0) {
                        vm->close = CLOSE_UNMAPPED;
                        return true;
                }
                if (!vm_need_worker(vm))
                        return false;
                vm->close = CLOSE_UNMAPPING;
                if (unmap(vm) < 0)
                        on_closed(NULL, -EPIPE, "could not talk to its worker", NULL, NULL, vm);
                return true;
        case CLOSE_UNMAPPED:
                for (size_t i = 0; i < vm->manager->n_custodies; i++) {
                        Custody *c = vm->manager->custodies[i];

                        if (c->vm == vm && may_be_left(c)) {
                                log_warning("VM %s leaves %s behind: %s", vm->name, c->name,
                                            c->quarantine ? c->quarantine : "it has not come back from the kernel, or waits for one that has not");
                                tdi_free(tdi_of(c));
                                custody_leave(c);
                                return true;
                        }
                }
                if (!all_custodies(vm, is_never))
                        return false;
                if (vm->iommufd < 0) {
                        vm->close = CLOSE_ENDING;
                        return true;
                }
                if (!vm_need_worker(vm))
                        return false;
                vm->close = CLOSE_FINAL;
                if (release(vm, &vm->iommufd, 1) < 0)
                        on_closed(NULL, -EPIPE, "could not talk to its worker", NULL, NULL, vm);
                return true;
        case CLOSE_ENDING:
                if (vm->phase == TDI_VM_GONE)
                        return false;
                vm_set_phase(vm, TDI_VM_GONE);
                end_holder(vm);
                return true;
        default:
                return false;
        }
}
