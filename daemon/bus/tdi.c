/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.TDI */
#include "association.h"
#include "bus/bus-vm.h"
#include "device.h"
#include "plan.h"
#include "vm.h"

/* What the methods have in common: 0 with the TDI of an open VM; anything else is what the method has to return. */
static int open_tdi(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, struct bus_act *a, TDI **ret, sd_bus_error *e) {
        uid_t uid;
        TDI *t;
        int r;

        r = options_read(call, bus_act_options, a, e);
        if (r < 0)
                return r;
        t = bus_tdi(m, sd_bus_message_get_path(call));
        if (!t)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function has been detached");
        r = access_vm(m, POLKIT_MANAGE_ANY_VM, t->vm, t->custody->name, call, method, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        *ret = t;
        return bus_vm_is_open(t->vm, e);
}

static int plan_one(TDI *t, const char *method, enum custody_goal goal, sd_bus_message *call) {
        struct plan *p = plan_new(t->vm->manager, method, t->vm);

        plan_add(p, t->custody, goal);
        return plan_reply(p, call);
}

static int plan_detach(const TDI *t, sd_bus_message *call) {
        struct plan *p = plan_new(t->vm->manager, "Detach", t->vm);

        for (size_t i = 0; i < t->vm->n_tdis; i++)
                if (t->vm->tdis[i] == t || t->vm->tdis[i]->custody->group == t->custody->group)
                        plan_add(p, t->vm->tdis[i]->custody, GOAL_DOWN);
        return plan_reply(p, call);
}

/* The functions of a group come together and go together: the kernel gives a group's DMA to one owner. */
static int method_detach(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct bus_act a = {};
        TDI *t;
        Job *j;
        VM *vm;
        int r;

        r = open_tdi(userdata, call, method_detach, &a, &t, e);
        if (r != 0)
                return r;
        if (t->state == TDI_STATE_ATTACHING || t->state == TDI_STATE_DETACHING)
                return bus_error(e, TDI_ERROR_BUSY, "the function is %s: wait for that job", tdi_state_to_string(t->state));
        vm = t->vm;
        if (association_is_shared_beyond_group(t->custody) && !association_is_open(vm))
                return bus_error(e, TDI_ERROR_INVALID_STATE,
                                 "%s is associated with the KVM VM, as others of VM %s are, and only their VMM can end that for one of them: it has to open "
                                 "a channel (OpenAssociation). Detach the others with it, or end the VM", t->custody->name, vm->name);
        if (bus_is_plan(call))
                return plan_detach(t, call);
        r = bus_job_new(userdata, JOB_DETACH, vm, release_settle, &j, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < vm->n_tdis; i++) {
                TDI *o = vm->tdis[i];

                if (o != t && o->custody->group != t->custody->group)
                        continue;
                job_add_bdf(j, o->bdf);
                o->committed = false;
                tdi_set_state(o, TDI_STATE_DETACHING);
                custody_give_back(o->custody);
        }
        vm_touch(vm);
        return bus_job_started(j, call, a.async);
}

static int check_bind(TDI *t, sd_bus_error *e) {
        enum tdi_error error;
        char why[512];

        if (t->state != TDI_STATE_PREPARED)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is %s: only a function that is prepared can be bound", t->custody->name,
                                 tdi_state_to_string(t->state));
        if (!custody_is_complete(t->custody))
                return bus_error(e, TDI_ERROR_BUSY, "%s is being bound or unbound: wait for that", t->custody->name);
        error = tdi_may_bind(t, why, sizeof(why));
        if (error != TDI_ERROR_NONE)
                return bus_error(e, error, "%s", why);
        if (t->vm->phase == TDI_VM_PREPARING)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "VM %s is preparing: seal it first", t->vm->name);
        if (t->vm->kvm < 0)
                return bus_error(e, TDI_ERROR_INVALID_STATE,
                                 "the KVM VM of VM %s is not known: start its VMM, in which tdid finds it when that connects to a vPCI socket, or call SetKVM", t->vm->name);
        return 0;
}

static int method_bind(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct bus_act a = {};
        TDI *t;
        Job *j;
        int r;

        r = open_tdi(userdata, call, method_bind, &a, &t, e);
        if (r != 0)
                return r;
        r = check_bind(t, e);
        if (r < 0)
                return r;
        if (bus_is_plan(call))
                return plan_one(t, "Bind", GOAL_BIND, call);
        r = bus_job_new(userdata, JOB_BIND, t->vm, bind_settle, &j, e);
        if (r < 0)
                return r;
        job_add_bdf(j, t->bdf);
        tdi_bind(t);
        return bus_job_started(j, call, a.async);
}

static int method_unbind(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct bus_act a = {};
        TDI *t;
        Job *j;
        int r;

        r = open_tdi(userdata, call, method_unbind, &a, &t, e);
        if (r != 0)
                return r;
        if (t->state != TDI_STATE_BOUND && t->state != TDI_STATE_RUNNING)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not bound", t->custody->name);
        if (bus_is_plan(call))
                return plan_one(t, "Unbind", GOAL_UNBIND, call);
        r = bus_job_new(userdata, JOB_UNBIND, t->vm, unbind_settle, &j, e);
        if (r < 0)
                return r;
        job_add_bdf(j, t->bdf);
        t->stays_unbound = true;
        vm_touch(t->vm);
        if (custody_unbind_is_refused(t->custody))
                custody_unbind_again(t->custody, GOAL_UNBIND);
        else
                tdi_unbind(t);
        return bus_job_started(j, call, a.async);
}

static int get_path(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        TDI *t = bus_tdi(userdata, path);
        char buf[64];

        if (!t)
                return -ENOENT;
        return sd_bus_message_append_basic(reply, 'o', streq(property, "VM") ? vm_path(t->vm, buf) : device_path(t->bdf, buf));
}

static int get_text(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        TDI *t = bus_tdi(userdata, path);

        if (!t)
                return -ENOENT;
        return sd_bus_message_append_basic(reply, 's', streq(property, "State") ? tdi_state_to_string(t->state) : tdi_tdisp_to_string(tdi_tdisp(t)));
}

static int get_rid(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, _unused_ const char *property,
                   sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        TDI *t = bus_tdi(userdata, path);

        return t ? sd_bus_message_append_basic(reply, 'u', &t->guest_rid) : -ENOENT;
}

const sd_bus_vtable bus_tdi_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Detach", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_detach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Bind", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_bind, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Unbind", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_unbind, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanDetach", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), method_detach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanBind", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), method_bind, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanUnbind", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), method_unbind, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Handoff", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", iommufd, "h", device), bus_method_handoff,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ExportDmabuf", SD_BUS_ARGS("u", region, "t", offset, "t", size, "s", importer, "as", accept),
                                SD_BUS_RESULT("h", dmabuf, "h", event, "s", class, "a{sv}", description), bus_method_export_dmabuf,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenRequests", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", socket), bus_method_open_requests, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GuestRequest", SD_BUS_ARGS("s", kind, "ay", request), SD_BUS_RESULT("ay", answer, "t", code),
                                bus_method_guest_request, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Failed", SD_BUS_ARGS("s", reason), 0),
        SD_BUS_SIGNAL_WITH_ARGS("Revoked", SD_BUS_ARGS("t", id), 0),
        SD_BUS_SIGNAL_WITH_ARGS("Restored", SD_BUS_ARGS("t", id), 0),
        SD_BUS_PROPERTY("Device", "o", get_path, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("VM", "o", get_path, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("TDISP", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("GuestRID", "u", get_rid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};
