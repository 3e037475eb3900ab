/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Describe() of a VM: what the holder knows of its vPCI functions is asked for at each call, so that numbers are of now. A holder that
 * takes its time holds up nobody: after a second the answer is what was last heard, and says so.
 */
#include "bus/bus.h"
#include "export.h"
#include "vpci.h"

#define PATIENCE_USEC 1000000ULL
/* The holder answers one question at a time, and not only these: who asks more at once gets what was last heard. */
#define WAITING_MAX 16

struct describing {
        VM *vm;
        uid_t uid;            /* who asks */
        sd_bus_message *call; /* NULL: it has been answered already */
        sd_event_source *timer;
        struct describing *next;
};

static int describe(VM *vm, uid_t uid, sd_bus_message *call) {
        struct json_object *o = vm_record(vm, true);

        export_describe(vm, o, access_sees_addresses(uid));
        return bus_reply_description(call, "vm", o);
}

static void reply(struct describing *d) {
        int r;

        r = describe(d->vm, d->uid, d->call);
        if (r < 0)
                log_debug("could not reply to a call: %s", strerror(-r));
        d->call = sd_bus_message_unref(d->call);
}

static void end(struct describing *d) {
        struct describing **p = &d->vm->describing;

        while (*p != d)
                p = &(*p)->next;
        *p = d->next;
        sd_event_source_disable_unref(d->timer);
        sd_bus_message_unref(d->call);
        free(d);
}

static void on_state(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        struct describing *d = userdata;

        if (r >= 0)
                vpci_take_state(d->vm, answer);
        d->vm->vpci_stale = r < 0;
        if (d->call)
                reply(d);
        d->vm->vpci_stale = true;
        end(d);
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct describing *d = userdata;

        /* It stays until the holder has answered: the callback is on its way. */
        reply(d);
        return 0;
}

static bool has_sockets(const VM *vm) {
        for (size_t i = 0; i < vm->n_tdis; i++)
                if (vm->tdis[i]->custody && custody_is_done(vm->tdis[i]->custody, ACTION_PREPARE_SOCKET))
                        return true;
        return false;
}

int bus_describe_vm(VM *vm, uid_t uid, sd_bus_message *call) {
        struct describing *d;
        size_t n = 0;

        for (d = vm->describing; d; d = d->next)
                n++;
        if (n >= WAITING_MAX || (!has_sockets(vm) && vm->close == CLOSE_NOT) || !vpci_is_there(vm))
                return describe(vm, uid, call);
        d = calloc(1, sizeof(*d));
        if (!d)
                log_oom();
        d->vm = vm;
        d->uid = uid;
        d->call = sd_bus_message_ref(call);
        d->next = vm->describing;
        vm->describing = d;
        if (sd_event_add_time_relative(vm->manager->event, &d->timer, CLOCK_MONOTONIC, PATIENCE_USEC, 0, on_patience, d) < 0)
                log_oom();
        if (vpci_ask(vm, on_state, d) < 0) {
                reply(d);
                end(d);
        }
        return 1;
}

void bus_describe_end(VM *vm) {
        while (vm->describing) {
                struct describing *d = vm->describing;

                if (d->call)
                        (void) sd_bus_reply_method_errorf(d->call, TDI_ERROR_PREFIX "NotFound", "the VM is gone");
                end(d);
        }
}
