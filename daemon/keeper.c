/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keepers: what keeps a VM alive. A lease is one end of a socket pair; ours never reads (SHUT_RD from birth) and is polled for
 * nothing but hang-up, so a lease that is sent over itself cannot keep itself alive, and a client that shuts its end down for
 * reading has ended it too.
 */
#include <stdio.h>
#include <sys/socket.h>

#include "audit.h"
#include "vm.h"
#include "vpci.h"

struct pending {
        Keeper *keeper;
        int lease;
        keeper_ready ready;
        void *userdata;
};

static const char *const kinds[] = { [KEEPER_LEASE] = "lease", [KEEPER_PIDFD] = "pidfd", [KEEPER_VPCI] = "vpci" };

const char *keeper_kind_to_string(enum keeper_kind kind) {
        return kinds[kind];
}

static const char *key_of(const Keeper *k, char buf[static 64]) {
        snprintf(buf, 64, "%s:%llu", kinds[k->kind], (unsigned long long) k->number);
        return buf;
}

static int on_end(sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        Keeper *k = userdata;

        (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        k->ended = true;
        audit_keeper_ended(k);
        vm_touch(k->vm);
        return 0;
}

static Keeper *new_(VM *vm, enum keeper_kind kind, int fd, const char *label, uid_t uid) {
        Keeper *k = calloc(1, sizeof(*k));

        if (!k || free_and_strdup(&k->label, label) < 0)
                log_oom();
        k->vm = vm;
        k->kind = kind;
        k->fd = fd;
        k->uid = uid;
        k->given = now_realtime();
        k->number = vm->next_keeper++;
        manager_append((void ***) &vm->keepers, &vm->n_keepers, &vm->room_keepers, k);
        if (fd >= 0 && sd_event_add_io(vm->manager->event, &k->source, fd, kind == KEEPER_PIDFD ? EPOLLIN : 0, on_end, k) < 0)
                log_oom();
        return k;
}

Keeper *keeper_free(Keeper *k) {
        if (!k)
                return NULL;
        manager_remove((void **) k->vm->keepers, &k->vm->n_keepers, k);
        sd_event_source_disable_unref(k->source);
        close_fd(k->fd);
        free(k->label);
        free(k);
        return NULL;
}

static void on_put(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        struct pending *p = userdata;

        p->keeper->storing = false;
        if (r < 0) {
                p->lease = close_fd(p->lease);
                p->keeper->ended = true;
        } else
                audit_keeper_added(p->keeper);
        vm_touch(p->keeper->vm);
        p->ready(r, p->lease, p->userdata);
        free(p);
}

static int store(Keeper *k, int lease, keeper_ready ready, void *userdata) {
        struct json_object *q = json_new();
        struct pending *p;
        char key[64];
        int r;

        json_set_str(q, "op", "put");
        json_set_str(q, "key", key_of(k, key));
        json_set_take(q, "state", vm_record(k->vm, false));
        p = calloc(1, sizeof(*p));
        if (!p)
                log_oom();
        *p = (struct pending){ k, lease, ready, userdata };
        k->storing = true;
        r = holder_call(k->vm->holder, q, &k->fd, 1, on_put, p);
        if (r < 0) {
                free(p);
                close_fd(lease);
                keeper_free(k);
        }
        return r;
}

int keeper_new_lease(VM *vm, const char *label, uid_t uid, keeper_ready ready, void *userdata) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        (void) shutdown(pair[0], SHUT_RD);
        return store(new_(vm, KEEPER_LEASE, pair[0], label, uid), pair[1], ready, userdata);
}

/* A VMM has come. */
static void arrive(VM *vm) {
        vm->arrived = true;
        if (vm->phase == TDI_VM_SEALED)
                vm_set_phase(vm, TDI_VM_RUNNING);
}

int keeper_new_pidfd(VM *vm, int pidfd, const char *label, uid_t uid, keeper_ready ready, void *userdata) {
        int fd = fd_dup(pidfd);

        if (fd < 0)
                return fd;
        arrive(vm);
        return store(new_(vm, KEEPER_PIDFD, fd, label, uid), -EBADF, ready, userdata);
}

Keeper *keeper_find_vpci(const VM *vm, struct tdi_bdf bdf) {
        for (size_t i = 0; i < vm->n_keepers; i++)
                if (vm->keepers[i]->kind == KEEPER_VPCI && !vm->keepers[i]->ended &&
                    tdi_bdf_number(vm->keepers[i]->bdf) == tdi_bdf_number(bdf))
                        return vm->keepers[i];
        return NULL;
}

Keeper *keeper_new_vpci(VM *vm, struct tdi_bdf bdf, pid_t pid, uid_t uid, uint64_t given) {
        char label[VM_LABEL_MAX], name[TDI_BDF_MAX];
        Keeper *k;

        snprintf(label, sizeof(label), "process %d at %s", (int) pid, tdi_bdf_format(bdf, name));
        k = new_(vm, KEEPER_VPCI, -EBADF, label, uid);
        k->bdf = bdf;
        k->pid = pid;
        if (given > 0)
                k->given = given;
        arrive(vm);
        vm_touch(vm);
        return k;
}

void keeper_end_vpci(VM *vm, struct tdi_bdf bdf, const char *why) {
        Keeper *k = keeper_find_vpci(vm, bdf);

        if (!k)
                return;
        if (vpci_may_log(vm))
                audit_disconnected(k, why);
        k->ended = true;
        vm_touch(vm);
}

int keeper_adopt(VM *vm, struct json_object *o, int fd) {
        Keeper *k = new_(vm, streq(json_str_or(o, "kind", ""), kinds[KEEPER_PIDFD]) ? KEEPER_PIDFD : KEEPER_LEASE, fd, json_str_or(o, "label", ""), (uid_t) json_u64_or(o, "uid", 0));

        k->number = json_u64_or(o, "number", k->number);
        k->given = json_u64_or(o, "given", k->given);
        if (vm->next_keeper <= k->number)
                vm->next_keeper = k->number + 1;
        return 0;
}

static int on_await(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        vm_close(userdata, "no VMM came within await_vmm");
        return 0;
}

static void start_waiting(VM *vm) {
        if (vm->await_timer)
                return;
        if (vm->await_deadline == 0) {
                vm->await_deadline = now_monotonic() + vm->await * 1000000ULL;
                log_info("VM %s waits %u s for its VMM", vm->name, vm->await);
                vm_touch(vm);
        }
        if (sd_event_add_time(vm->manager->event, &vm->await_timer, CLOCK_MONOTONIC, vm->await_deadline, 0, on_await, vm) < 0)
                log_oom();
}

bool keeper_settle(VM *vm) {
        bool changed = false;

        if (!vm->announced)
                return false;
        for (size_t i = vm->n_keepers; i > 0; i--) {
                Keeper *k = vm->keepers[i - 1];
                char key[64];

                if (!k->ended || k->storing)
                        continue;
                if (k->kind != KEEPER_VPCI)
                        holder_drop(vm->holder, key_of(k, key), NULL, NULL, NULL);
                keeper_free(k);
                vm_touch(vm);
                changed = true;
        }
        if (vm->close != CLOSE_NOT)
                return changed;
        if (vm->n_keepers > 0) {
                vm->await_timer = sd_event_source_disable_unref(vm->await_timer);
                if (vm->await_deadline) {
                        vm->await_deadline = 0;
                        vm_touch(vm);
                }
                return changed;
        }
        if (vm->await && !vm->arrived) {
                start_waiting(vm);
                return changed;
        }
        vm_close(vm, "its last keeper is gone");
        return true;
}
