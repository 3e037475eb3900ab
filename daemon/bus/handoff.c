/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * org.tdid1.TDI.Handoff: a function's own descriptors, for a VMM that cannot speak vfio-user. What they can do, and that nobody can take
 * them back, is in handoff.h; so it is refused unless the configuration allows it.
 *
 * A device has one driver: the function's vPCI socket is shut first, by its holder, which refuses while a VMM is connected to it.
 */
#include "admission.h"
#include "audit.h"
#include "bus/bus-vm.h"
#include "custody-rules.h"
#include "guard/guard.h"
#include "handoff.h"
#include "vpci.h"

struct handoff {
        sd_bus_message *call;
        VM *vm;
        struct tdi_bdf bdf;
        uint64_t sequence; /* a function that was attached anew meanwhile is another one */
        uid_t uid;
        struct json_object *before; /* what was noted of an earlier one */
};

/* 0 when the function can be handed off as it is now. */
static int check_tdi(const TDI *t, sd_bus_error *e) {
        const Custody *c = t->custody;
        int r;

        r = bus_vm_is_open(t->vm, e);
        if (r < 0)
                return r;
        if (t->state != TDI_STATE_PREPARED || !custody_is_complete(c))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is %s: only a prepared function can be handed off", c->name,
                                 tdi_state_to_string(t->state));
        if (custody_is_bound_in_kernel(c))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is bound by its virtual device: who has its descriptors could reset it", c->name);
        if (c->device < 0 || t->vm->iommufd < 0)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "the descriptors of %s are lost", c->name);
        return 0;
}

/* What the holder said of the vPCI socket. */
static int check_answer(TDI *t, int r, struct json_object *answer, sd_bus_error *e) {
        const char *name = t->custody->name;
        bool stuck = r >= 0 && json_bool_or(answer, "stuck", false);

        /* It is not served any more: a copy went out before. */
        if (r == -ENOENT)
                return 0;
        if (r == -EISCONN)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "a VMM is connected to the vPCI socket of %s: a device has one driver, so end that first",
                                 name);
        if (r == -EBUSY)
                return bus_error(e, TDI_ERROR_BUSY, "the VM's holder is at work on something else; try again");
        if (r < 0)
                return bus_error(e, TDI_ERROR_KERNEL, "the VM's holder did not shut the vPCI socket of %s: %s", name, strerror(-r));
        vpci_stopped(t->custody, stuck);
        if (!stuck)
                return 0;
        /* It may still be at the device, and nobody can use the socket any more. */
        tdi_failed(t, "a request of its last VMM has not come back from the kernel; detach it");
        return bus_error(e, TDI_ERROR_INVALID_STATE, "a request of the last VMM of %s has not come back from the kernel: it has failed, detach it", name);
}

static int finish(struct handoff *h, int r, struct json_object *answer, sd_bus_error *e) {
        TDI *t = tdi_find(h->vm->manager, h->bdf);

        if (!t || t->vm != h->vm || t->custody->sequence != h->sequence)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function was detached meanwhile");
        t->handing_off = false;
        r = check_answer(t, r, answer, e);
        if (r >= 0)
                r = check_tdi(t, e);
        if (r < 0) {
                custody_take_back_handoff(t->custody, TAKE_PTR(h->before));
                return r;
        }
        audit_handoff(t, h->uid);
        return sd_bus_reply_method_return(h->call, "hh", t->vm->iommufd, t->custody->device);
}

static struct handoff *handoff_free(struct handoff *h) {
        sd_bus_message_unref(h->call);
        json_putp(&h->before);
        free(h);
        return NULL;
}

static void on_shut(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        struct handoff *h = userdata;

        r = finish(h, r, answer, &error);
        bus_method_refused(h->vm->manager, h->call, NULL, r, &error);
        if (r < 0)
                (void) sd_bus_reply_method_errno(h->call, r, &error);
        handoff_free(h);
}

/* What is noted first is true of every tdid that may answer the next call, whichever of the two steps this one dies between. */
static int shut_socket(TDI *t, sd_bus_message *call, uid_t uid, sd_bus_error *e) {
        struct handoff *h;
        int r;

        h = calloc(1, sizeof(*h));
        if (!h)
                log_oom();
        *h = (struct handoff){ sd_bus_message_ref(call), t->vm, t->bdf, t->custody->sequence, uid, NULL };
        r = custody_note_handoff(t->custody, uid, &h->before);
        if (r < 0) {
                handoff_free(h);
                return bus_error(e, TDI_ERROR_KERNEL, "could not write the journal of %s below %s: %s; nothing is handed off without it",
                                 t->custody->name, t->vm->manager->state_dir, strerror(-r));
        }
        r = vpci_stop(t->custody, true, on_shut, h);
        if (r >= 0) {
                t->handing_off = true;
                return 1;
        }
        custody_take_back_handoff(t->custody, TAKE_PTR(h->before));
        handoff_free(h);
        return bus_error(e, TDI_ERROR_KERNEL, "could not ask the VM's holder to shut the vPCI socket: %s", strerror(-r));
}

int bus_method_handoff(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        uid_t uid;
        TDI *t;
        int r;

        t = bus_tdi(m, sd_bus_message_get_path(call));
        if (!t)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function has been detached");
        r = access_vm(m, POLKIT_MANAGE_ANY_VM, t->vm, t->custody->name, call, bus_method_handoff, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (!m->config.handoff)
                return bus_error(e, TDI_ERROR_POLICY,
                                 "%s is not handed off: \"handoff\" in \"policy\" of %s is not true; the VMM can use its vPCI socket instead",
                                 t->custody->name, m->config_path);
        r = admission_check_handoff(t, uid, e);
        if (r < 0)
                return r;
        /* A copy is nobody's to take back: where there can be a guard, it has the function first. */
        if (guard_is_on(m) && !custody_is_guarded(t->custody))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not handed off: the mmap guard is %s", t->custody->name, guard_state_of(t->custody));
        if (t->handing_off)
                return bus_error(e, TDI_ERROR_BUSY, "%s is being handed off to somebody else", t->custody->name);
        r = check_tdi(t, e);
        return r < 0 ? r : shut_socket(t, call, uid, e);
}
