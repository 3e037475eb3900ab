/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process behind a VM's vPCI sockets. When it has connected, a worker opens its memory map for the holder, starts the helper that
 * maps guest memory in its memory cgroup, and looks for its KVM VM among its descriptors. One process at a time: the holder sees to that.
 *
 * Where a tdid died in the middle, the next one does all of it again.
 */
#include <stdio.h>
#include <sys/pidfd.h>

#include "association.h"
#include "audit.h"
#include "vpci.h"
#include "worker.h"

/* A worker that could not be started may be a matter of a moment. */
#define RETRY_USEC 1000000ULL
/* Of one process: who ends them so often means it, or its cgroup has no memory for them. */
#define HELPERS_MAX 5

static void start(VM *vm);
static void start_helper(VM *vm);

struct peer *peer_free(struct peer *p) {
        if (!p)
                return NULL;
        peer_free(p->next); /* NOLINT(misc-no-recursion): that has none */
        /* It may wait for a process that is stuck, and has nothing to finish. */
        if (p->worker && worker_busy(p->worker))
                worker_kill(p->worker);
        worker_free(p->worker);
        sd_event_source_disable_unref(p->retry);
        close_fd(p->pidfd);
        close_fd(p->old_kvm);
        free(p->memory);
        free(p->kvm);
        free(p);
        return NULL;
}

static struct peer *new_(uint64_t serial, pid_t pid, int pidfd) {
        struct peer *p = calloc(1, sizeof(*p));

        if (!p)
                log_oom();
        p->serial = serial;
        p->pid = pid;
        p->pidfd = pidfd;
        p->old_kvm = -EBADF;
        return p;
}

static void say(char **what, const char *text) {
        if (free_and_strdup(what, text) < 0)
                log_oom();
}

/* The holder has answered. A later process has priority over what is left to do for this one. */
static bool is_over(VM *vm) {
        struct peer *p = vm->peer;

        p->asking = false;
        if (p->next) {
                vm->peer = TAKE_PTR(p->next);
                peer_free(p);
                start(vm);
                return true;
        }
        return false;
}

/* ---- its KVM VM ---- */

static void finish(VM *vm, bool well) {
        struct peer *p = vm->peer;

        p->worker = well ? worker_rest(p->worker) : worker_free(p->worker);
        p->pidfd = close_fd(p->pidfd);
        /* What nobody has been given, the next tdid tries again. */
        p->served = p->given;
        p->again = false;
        vm_touch(vm);
        if (p->helper_gone && p->served)
                start_helper(vm);
}

static void on_kvm_dropped(_unused_ int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        worker_close_fd(vm->manager, TAKE_FD(vm->peer_kvm));
}

/* With it goes a guest's memory: not for as long as nobody else comes. */
static void drop_kvm(VM *vm) {
        if (!vm->kvm_of_peer || vm->kvm < 0 || vm->close != CLOSE_NOT || vm->peer_kvm >= 0)
                return;
        audit_kvm_gone(vm);
        tdi_unbind_all(vm);
        association_end(vm);
        vm->peer_kvm = TAKE_FD(vm->kvm);
        vm->kvm_of_peer = false;
        vm_touch(vm);
        holder_drop(vm->holder, "kvm", NULL, on_kvm_dropped, vm);
}

static void on_kvm_stored(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;
        struct peer *p = vm->peer;

        if (r < 0)
                log_warning("VM %s: its holder did not take the KVM VM of process %d: %s", vm->name, (int) p->pid, strerror(-r));
        /* The holder's copy of the earlier one is gone: ours may be the last, and is not closed here. */
        worker_close_fd(vm->manager, TAKE_FD(p->old_kvm));
        if (p->gone)
                drop_kvm(vm);
        if (is_over(vm))
                return;
        if (p->worker)
                (void) worker_acknowledge(p->worker);
        finish(vm, r >= 0);
}

static int store_kvm(VM *vm, int fd) {
        struct peer *p = vm->peer;
        struct json_object *q;
        int r;

        q = json_new();
        json_set_str(q, "op", "put");
        json_set_str(q, "key", "kvm");
        r = holder_call(vm->holder, q, &fd, 1, on_kvm_stored, vm);
        if (r < 0) {
                close_fd(fd); /* the worker still has it */
                return r;
        }
        if (vm->kvm >= 0) {
                tdi_unbind_all(vm);
                association_end(vm);
        }
        p->old_kvm = vm->kvm;
        vm->kvm = fd;
        vm->kvm_of_peer = true;
        audit_kvm_found(vm, p->pid);
        p->asking = true;
        vm_touch(vm);
        return 0;
}

static void on_kvm(_unused_ Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;
        struct peer *p = vm->peer;

        if (r < 0) {
                log_warning("VM %s: %s", vm->name, text);
                say(&p->kvm, text);
        } else
                say(&p->kvm, json_str_or(values, "kvm", ""));
        if (r >= 0 && json_bool_or(values, "several", false))
                log_warning("VM %s: process %d: %s", vm->name, (int) p->pid, p->kvm);
        if (r < 0 || fds->n != 1) {
                finish(vm, r >= 0);
                return;
        }
        /* One that was given by name stands. */
        if (p->gone || vm->close != CLOSE_NOT || (vm->kvm >= 0 && !vm->kvm_of_peer)) {
                worker_close_fd(vm->manager, ipc_fds_take(fds, 0));
                finish(vm, false);
                return;
        }
        r = store_kvm(vm, ipc_fds_take(fds, 0));
        if (r < 0) {
                log_warning("VM %s: could not give the KVM VM of process %d to its holder: %s", vm->name, (int) p->pid, strerror(-r));
                finish(vm, false);
        }
}

static void look_for_kvm(VM *vm) {
        struct peer *p = vm->peer;

        if (vm->kvm >= 0 && !vm->kvm_of_peer) {
                say(&p->kvm, "given by SetKVM");
                finish(vm, true);
                return;
        }
        if (worker_call(p->worker, "peer.kvm", "do", NULL, &p->pidfd, 1, on_kvm, vm) < 0)
                finish(vm, false);
}

/* ---- its memory ---- */

static void on_given(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        /* ESTALE: it has gone already. */
        if (r < 0 && r != -ESTALE)
                log_warning("VM %s: its holder did not take the memory map of process %d: %s", vm->name, (int) vm->peer->pid, strerror(-r));
        if (is_over(vm))
                return;
        vm->peer->given = r >= 0;
        if (!worker_alive(vm->peer->worker)) {
                finish(vm, false);
                return;
        }
        (void) worker_acknowledge(vm->peer->worker);
        if (vm->peer->again)
                finish(vm, true);
        else
                look_for_kvm(vm);
}

static int ask_about(VM *vm);

static int on_retry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        VM *vm = userdata;
        struct peer *p = vm->peer;

        p->retry = sd_event_source_disable_unref(p->retry);
        if (vm->close != CLOSE_NOT || (p->pidfd < 0 && ask_about(vm) < 0))
                finish(vm, false);
        else if (!p->asking)
                start(vm);
        return 0;
}

/* Nothing has come of it, and it is not the process's fault: once more. */
static bool again(VM *vm, int r) {
        struct peer *p = vm->peer;

        if (p->retried || vm->close != CLOSE_NOT)
                return false;
        p->retried = true;
        p->worker = worker_free(p->worker);
        log_notice("VM %s: the worker for process %d %s (%s): once more", vm->name, (int) p->pid,
                   r == -ECONNRESET ? "died" : "could not be started", strerror(-r));
        if (sd_event_add_time_relative(vm->manager->event, &p->retry, CLOCK_MONOTONIC, RETRY_USEC, 0, on_retry, vm) < 0)
                log_oom();
        return true;
}

static void on_opened(_unused_ Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;
        struct peer *p = vm->peer;
        struct json_object *q;

        if (r == -ECONNRESET && again(vm, r))
                return;
        if (r >= 0 && fds->n == 0)
                r = -EBADMSG;
        if (r >= 0) {
                say(&p->memory, json_str_or(values, "memory", ""));
                q = json_new();
                json_set_str(q, "op", "vpci.peer");
                json_set_u64(q, "serial", p->serial);
                r = holder_call(vm->holder, q, fds->fd, fds->n, on_given, vm);
        }
        if (r < 0) {
                log_warning("VM %s: process %d cannot map memory for its devices: %s", vm->name, (int) p->pid, isempty(text) ? strerror(-r) : text);
                say(&p->memory, isempty(text) ? strerror(-r) : text);
                finish(vm, false);
                return;
        }
        p->asking = true;
}

static void start(VM *vm) {
        struct peer *p = vm->peer;
        int r;

        /* There was no place for its pidfd when it connected. */
        r = p->pidfd < 0 ? -EMFILE : worker_new(vm->manager, -EBADF, &p->worker);
        if (r >= 0)
                r = worker_call(p->worker, "peer.open", "do", NULL, (int[]){ p->pidfd, vm->iommufd }, 2, on_opened, vm);
        if (r < 0 && !again(vm, r)) {
                log_warning("VM %s: could not start a worker for process %d: %s", vm->name, (int) p->pid, strerror(-r));
                finish(vm, false);
        }
}

void peer_connected(VM *vm, uint64_t serial, pid_t pid, int pidfd) {
        /* One comes for each of its functions. */
        if (serial == 0 || (vm->peer && vm->peer->serial == serial) ||
            (vm->peer && vm->peer->next && vm->peer->next->serial == serial)) {
                close_fd(pidfd);
                return;
        }
        if (vm->peer && vm->peer->asking) {
                peer_free(vm->peer->next);
                vm->peer->next = new_(serial, pid, pidfd);
                return;
        }
        peer_free(vm->peer);
        vm->peer = new_(serial, pid, pidfd);
        start(vm);
}

void peer_none(VM *vm) {
        drop_kvm(vm);
}

void peer_gone(VM *vm, uint64_t serial) {
        if (!vm->peer || vm->peer->serial != serial)
                return;
        vm->peer->gone = true;
        /* One that the holder is being given is seen to when it has it. */
        if (!vm->peer->asking)
                drop_kvm(vm);
}

/* ---- after a restart ---- */

static void on_still_there(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;
        struct peer *p = vm->peer;

        p->asking = false;
        if (r >= 0 && json_u64_or(answer, "serial", 0) == p->serial && json_u64_or(answer, "pid", 0) == (uint64_t) p->pid) {
                start(vm);
                return;
        }
        if (p->next) {
                (void) is_over(vm);
                return;
        }
        vm->peer = peer_free(p);
        drop_kvm(vm);
}

/*
 * Its number is all that is known of it. The holder lets go of a process at its end: who is still there when the number has been turned into a pidfd has had
 * it all the time.
 */
static int ask_about(VM *vm) {
        struct peer *p = vm->peer;
        int r;

        p->pidfd = pidfd_open(p->pid, 0);
        if (p->pidfd < 0) {
                p->pidfd = -EBADF;
                return -errno;
        }
        p->asking = true;
        r = vpci_ask(vm, on_still_there, vm);
        if (r < 0)
                p->asking = false;
        return r;
}

/*
 * The process itself is what it was, and so is its KVM VM: only the helper is another one. Not for a process that has ended, which the holder tells of
 * next.
 */
static void start_helper(VM *vm) {
        struct peer *p = vm->peer;
        int r;

        p->helper_gone = false;
        if (p->gone || vm->close != CLOSE_NOT)
                return;
        if (p->helpers == HELPERS_MAX) {
                log_error("VM %s: the process that maps memory for process %d has ended %u times: no other is started, and no further map is made", vm->name,
                          (int) p->pid, HELPERS_MAX + 1);
                say(&p->memory, "not mapped any more: the process that did has ended too often");
                return;
        }
        p->helpers++;
        log_warning("VM %s: the process that maps memory for process %d has ended; starting another one (%u of %u)", vm->name, (int) p->pid, p->helpers,
                    HELPERS_MAX);
        p->served = p->given = p->retried = false;
        p->again = true;
        r = ask_about(vm);
        if (r == -ESRCH) {
                p->served = p->given = true;
                p->again = false;
        } else if (r < 0)
                finish(vm, false);
}

void peer_helper_gone(VM *vm, uint64_t serial) {
        struct peer *p = vm->peer;

        if (!p || p->serial != serial)
                return;
        p->helper_gone = true;
        /* What is under way for it ends first. */
        if (p->served)
                start_helper(vm);
}

void peer_resume(VM *vm, uint64_t serial, pid_t pid) {
        int r;

        if (vm->peer && vm->peer->served && vm->peer->serial == serial)
                return;
        /* What was found with another one went with it. */
        if (vm->peer && vm->peer->serial != serial)
                drop_kvm(vm);
        peer_free(vm->peer);
        vm->peer = new_(serial, pid, -EBADF);
        r = ask_about(vm);
        if (r >= 0)
                return;
        if (r == -ESRCH)
                drop_kvm(vm);
        vm->peer = peer_free(vm->peer);
}

struct json_object *peer_record(const VM *vm) {
        const struct peer *p = vm->peer;
        struct json_object *o;

        if (!p || !p->served)
                return NULL;
        o = json_new();
        json_set_u64(o, "serial", p->serial);
        json_set_i64(o, "pid", p->pid);
        json_set_str(o, "memory", p->memory);
        json_set_str(o, "kvm", p->kvm);
        return o;
}

void peer_take_record(VM *vm, struct json_object *o) {
        struct peer *p = new_(json_u64_or(o, "serial", 0), (pid_t) json_i64_or(o, "pid", 0), -EBADF);

        p->given = p->served = true;
        say(&p->memory, json_str_or(o, "memory", NULL));
        say(&p->kvm, json_str_or(o, "kvm", NULL));
        peer_free(vm->peer);
        vm->peer = p;
}

struct json_object *peer_describe(const VM *vm) {
        struct json_object *o;

        if (!vm->peer)
                return NULL;
        o = json_new();
        json_set_i64(o, "pid", vm->peer->pid);
        json_set_str(o, "memory", vm->peer->memory);
        json_set_str(o, "kvm", vm->peer->kvm);
        return o;
}
