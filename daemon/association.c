/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The channel to the VMM, the kvm-vfio device, and whose association needs it. */
#include "association.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "journal.h"
#include "worker.h"

#define BIT(a) (1u << (a))
#define CHANNEL "association"
#define DEVICE "kvm-vfio"

/* ---- the channel ---- */

static bool hung_up(int fd) {
        struct pollfd p = { .fd = fd };

        return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR | POLLNVAL);
}

bool association_is_open(const VM *vm) {
        return vm->association.channel >= 0 && !hung_up(vm->association.channel);
}

void association_hang_up(VM *vm) {
        vm->association.hang_up = sd_event_source_disable_unref(vm->association.hang_up);
        if (vm->association.channel < 0)
                return;
        /* For every copy: a worker that waits for an answer on it gets none. */
        (void) shutdown(vm->association.channel, SHUT_RDWR);
        vm->association.channel = close_fd(vm->association.channel);
        holder_drop(vm->holder, CHANNEL, NULL, NULL, NULL);
}

static int on_hang_up(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        VM *vm = userdata;

        log_info("VM %s: its VMM has closed the channel of its KVM association", vm->name);
        association_hang_up(vm);
        return 0;
}

static int take_channel(VM *vm, int fd) {
        vm->association.channel = fd;
        /* What it says is for workers to read. */
        return sd_event_add_io(vm->manager->event, &vm->association.hang_up, fd, 0, on_hang_up, vm);
}

struct opening {
        VM *vm;
        int channel;
        association_ready ready;
        void *userdata;
};

static void on_stored(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        struct opening *o = userdata;

        if (r < 0) {
                association_hang_up(o->vm);
                o->channel = close_fd(o->channel);
        }
        o->ready(r, o->channel, o->userdata);
        free(o);
}

int association_open(VM *vm, association_ready ready, void *userdata) {
        struct json_object *put;
        struct opening *o;
        int pair[2], r;

        if (association_is_open(vm))
                return -EISCONN;
        association_hang_up(vm);
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        r = take_channel(vm, pair[0]);
        if (r < 0) {
                association_hang_up(vm);
                close_fd(pair[1]);
                return r;
        }
        o = calloc(1, sizeof(*o));
        if (!o)
                log_oom();
        *o = (struct opening){ vm, pair[1], ready, userdata };
        put = json_new();
        json_set_str(put, "op", "put");
        json_set_str(put, "key", CHANNEL);
        r = holder_call(vm->holder, put, &pair[0], 1, on_stored, o);
        if (r < 0) {
                association_hang_up(vm);
                close_fd(o->channel);
                free(o);
                return r;
        }
        vm->association.wanted = true;
        vm_touch(vm);
        return 0;
}

/* ---- functions ---- */

bool association_wants(const Custody *c) {
        return c->vm && c->vm->association.wanted;
}

/* Of a function whose journal is damaged nobody knows. */
static bool is_noted(const Custody *c) {
        return custody_touched(c, ACTION_OPEN_ASSOCIATE) && (json_bool_or(c->values, "associated", false) || c->damaged) &&
               !json_bool_or(c->values, "association_lost", false);
}

bool custody_is_associated(const Custody *c) {
        return c->vm && c->vm->association.device >= 0 && is_noted(c);
}

static bool any_other(const Custody *c, bool (*is)(const Custody *c, const Custody *o)) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                const Custody *o = c->manager->custodies[i];

                if (o != c && c->vm && o->vm == c->vm && is(c, o))
                        return true;
        }
        return false;
}

static bool at_it(_unused_ const Custody *c, const Custody *o) {
        /* Nobody waits for the kernel. */
        return o->busy && !o->stuck && o->begun & BIT(ACTION_OPEN_ASSOCIATE);
}

bool association_is_busy(const Custody *c) {
        return any_other(c, at_it);
}

static bool stays(_unused_ const Custody *c, const Custody *o) {
        return custody_is_associated(o) && o->goal != GOAL_DOWN;
}

bool association_is_shared(const Custody *c) {
        return any_other(c, stays);
}

static bool stays_beyond(const Custody *c, const Custody *o) {
        return o->group != c->group && stays(c, o);
}

bool association_is_shared_beyond_group(const Custody *c) {
        return custody_is_associated(c) && any_other(c, stays_beyond);
}

static bool not_bound_yet(_unused_ const Custody *c, const Custody *o) {
        return custody_is_associated(o) && o->goal == GOAL_UP && !custody_is_done(o, ACTION_OPEN_BIND) && !custody_is_stalled(o);
}

bool association_is_needed(const Custody *c) {
        return any_other(c, not_bound_yet);
}

size_t association_fds(const Custody *c, int ret[static 3]) {
        ret[0] = c->device;
        ret[1] = c->vm->association.channel;
        ret[2] = c->vm->association.device;
        return ret[2] >= 0 ? 3 : 2;
}

/* ---- its end ---- */

void association_lost(VM *vm, const Custody *c) {
        for (size_t i = 0; i < vm->manager->n_custodies; i++) {
                Custody *o = vm->manager->custodies[i];
                TDI *t;

                if (o == c || o->vm != vm || !is_noted(o) || o->goal == GOAL_DOWN)
                        continue;
                json_set_bool(o->values, "association_lost", true);
                if (o->journalled && journal_write(o) < 0)
                        log_warning("%s: could not write its journal", o->name);
                log_notice("VM %s: %s is no longer among the functions that KVM knows", vm->name, o->name);
                t = tdi_of(o);
                if (!t || json_bool_or(o->values, "coherent", false))
                        continue;
                if (tdi_is_attached(t))
                        tdi_failed(t, "KVM does not know any more that its DMA is not coherent; detach it");
                /* Whether it is coherent is known, and it is not: whoever waits for the attach must not get it. */
                else if (t->state == TDI_STATE_ATTACHING && json_object_object_get_ex(o->values, "coherent", NULL)) {
                        t->committed = false;
                        custody_give_up(o, "the association with KVM that it needs has ended");
                }
        }
        vm_touch(vm);
}

void association_end(VM *vm) {
        const char *why = "the KVM VM that it is associated with has ended; detach it, and attach it anew for the next one";

        if (vm->association.device < 0)
                return;
        for (size_t i = 0; i < vm->n_tdis; i++)
                if (vm->tdis[i]->custody && custody_is_associated(vm->tdis[i]->custody) && tdi_is_attached(vm->tdis[i]))
                        tdi_failed(vm->tdis[i], why);
        association_lost(vm, NULL);
        /* One that is at it has a copy, and closes it in its own time. */
        holder_drop(vm->holder, DEVICE, NULL, NULL, NULL);
        worker_close_fd(vm->manager, TAKE_FD(vm->association.device));
}

/* ---- after a restart ---- */

bool association_adopt(VM *vm, const char *key, int fd) {
        if (streq(key, DEVICE)) {
                vm->association.device = fd;
                return true;
        }
        if (!streq(key, CHANNEL))
                return false;
        if (take_channel(vm, fd) < 0)
                association_hang_up(vm);
        return true;
}

const char *association_resumed(Custody *c) {
        bool coherent = json_bool_or(c->values, "coherent", false);

        if (is_noted(c) && c->vm->association.device < 0) {
                json_set_bool(c->values, "association_lost", true);
                if (c->journalled && journal_write(c) < 0)
                        log_warning("%s: could not write its journal", c->name);
        }
        if (!json_bool_or(c->values, "association_lost", false) || coherent)
                return NULL;
        return "KVM does not know any more that its DMA is not coherent; detach it";
}

/* ---- for people ---- */

void association_describe(const VM *vm, struct json_object *o) {
        char text[400];
        size_t n = 0;

        if (!vm->association.wanted) {
                json_set_str(o, "kvm_association",
                             "none: KVM does not know the VM's functions. It hears of no DMA that is not coherent, so functions whose IOMMU cannot "
                             "enforce coherency are refused; and a kernel whose TSM takes the KVM VM from the VFIO device cannot bind them by way of "
                             "iommufd");
                return;
        }
        for (size_t i = 0; i < vm->n_tdis; i++)
                n += vm->tdis[i]->custody && custody_is_associated(vm->tdis[i]->custody);
        snprintf(text, sizeof(text),
                 "by its VMM, which is trusted: it had the VFIO nodes of the functions for a moment each, and could have kept them. KVM knows %zu of "
                 "%zu functions. The VMM %s", n, vm->n_tdis,
                 association_is_open(vm) ? "answers for further ones" : "has closed its channel: no further function can be attached");
        json_set_str(o, "kvm_association", text);
}

void association_describe_tdi(const TDI *t, struct json_object *o) {
        const Custody *c = t->custody;
        struct json_object *coherent = NULL;

        json_set_str(o, "kvm_association", custody_is_associated(c) && custody_is_done(c, ACTION_OPEN_ASSOCIATE) ? "associated" :
                     json_bool_or(c->values, "association_lost", false) ? "lost" : "none");
        if (custody_is_done(c, ACTION_PREPARE_ATTACH))
                (void) json_object_object_get_ex(c->values, "coherent", &coherent);
        json_set_take(o, "coherent", json_object_get(coherent));
}
