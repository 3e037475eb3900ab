/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * org.tdid1.TDI.Handoff: a function's own descriptors, for a VMM that cannot speak vfio-user. What they can do, and that nobody can take
 * them back, is in handoff.h; so it is refused unless the configuration allows it.
 *
 * A device has one driver: the function's vPCI socket is shut first, by its holder, which refuses while a VMM is connected to it.
 */
#include "bus/bus-vm.h"
#include "handoff.h"
#include "vm.h"

struct handoff {
        sd_bus_message *call;
        VM *vm;
        struct tdi_bdf bdf;
        uint64_t sequence; /* a function that was attached anew meanwhile is another one */
        uid_t uid;
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
        if (c->device < 0 || t->vm->iommufd < 0)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "the descriptors of %s are lost", c->name);
        return 0;
}

/* What the holder said of the vPCI socket. */
static int check_answer(const struct handoff *h, int r, struct json_object *answer, sd_bus_error *e) {
        char bdf[TDI_BDF_MAX];

        tdi_bdf_format(h->bdf, bdf);
        /* ENOENT: it is not served. EOPNOTSUPP: an older holder, which serves nothing. */
        if (r == -ENOENT || r == -EOPNOTSUPP)
                return 0;
        if (r == -EISCONN)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "a VMM is connected to the vPCI socket of %s: a device has one driver, so end that first",
                                 bdf);
        if (r == -EBUSY)
                return bus_error(e, TDI_ERROR_BUSY, "the VM's holder is at work on something else; try again");
        if (r < 0)
                return bus_error(e, TDI_ERROR_KERNEL, "the VM's holder did not shut the vPCI socket of %s: %s", bdf, strerror(-r));
        if (json_bool_or(answer, "stuck", false))
                return bus_error(e, TDI_ERROR_BUSY, "a request of the last VMM of %s has not come back from the kernel yet; try again", bdf);
        return 0;
}

static int finish(const struct handoff *h, int r, struct json_object *answer, sd_bus_error *e) {
        TDI *t = tdi_find(h->vm->manager, h->bdf);

        r = check_answer(h, r, answer, e);
        if (r < 0)
                return r;
        if (!t || t->vm != h->vm || t->custody->sequence != h->sequence)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function was detached meanwhile");
        r = check_tdi(t, e);
        if (r < 0)
                return r;
        r = custody_note_handoff(t->custody, h->uid);
        if (r < 0)
                return bus_error(e, TDI_ERROR_KERNEL, "could not write the journal of %s below %s: %s; nothing is handed off without it",
                                 t->custody->name, t->vm->manager->state_dir, strerror(-r));
        log_notice("VM %s: %s is handed off to uid %u", t->vm->name, t->custody->name, h->uid);
        return sd_bus_reply_method_return(h->call, "hh", t->vm->iommufd, t->custody->device);
}

static void on_shut(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        struct handoff *h = userdata;

        r = finish(h, r, answer, &error);
        if (r < 0)
                (void) sd_bus_reply_method_errno(h->call, r, &error);
        sd_bus_message_unref(h->call);
        free(h);
}

static int shut_socket(const TDI *t, sd_bus_message *call, uid_t uid, sd_bus_error *e) {
        struct json_object *q = json_new();
        struct handoff *h;
        int r;

        h = calloc(1, sizeof(*h));
        if (!h)
                log_oom();
        *h = (struct handoff){ sd_bus_message_ref(call), t->vm, t->bdf, t->custody->sequence, uid };
        json_set_str(q, "op", "vpci.stop");
        json_set_str(q, "bdf", t->custody->name);
        json_set_bool(q, "idle", true);
        r = holder_call(t->vm->holder, q, NULL, 0, on_shut, h);
        if (r >= 0)
                return 1;
        sd_bus_message_unref(h->call);
        free(h);
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
        r = access_owner(m, t->vm, call, bus_method_handoff, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (!m->config.handoff)
                return bus_error(e, TDI_ERROR_POLICY,
                                 "%s is not handed off: \"handoff\" in \"policy\" of %s is not true; the VMM can use its vPCI socket instead",
                                 t->custody->name, m->config_path);
        r = check_tdi(t, e);
        return r < 0 ? r : shut_socket(t, call, uid, e);
}
