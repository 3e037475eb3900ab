/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.Device */
#include "device.h"

#include <stdio.h>

#include "bus/bus-vm.h"
#include "evidence.h"
#include "guard/guard.h"
#include "handoff.h"
#include "ide.h"
#include "plan.h"
#include "tsm.h"
#include "vm.h"

struct restore {
        bool async, force;
};

static const struct option restore_options[] = {
        { "async", 'b', offsetof(struct restore, async), NULL },
        { "force", 'b', offsetof(struct restore, force), NULL },
        {},
};

struct act {
        struct bus_act options;
        bool force;
        Device *device;
        char bdf[TDI_BDF_MAX];
};

/* What the methods that act have in common: 0 when they may; anything else is what the method has to return. */
static int open_device(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, enum polkit_action action, struct act *a, sd_bus_error *e) {
        struct restore restore = {};
        int r;

        if (action == POLKIT_RESTORE) {
                r = options_read(call, restore_options, &restore, e);
                a->options.async = restore.async;
                a->force = restore.force;
        } else
                r = options_read(call, bus_act_options, &a->options, e);
        if (r < 0)
                return r;
        a->device = bus_device(m, sd_bus_message_get_path(call));
        if (!a->device)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function is gone");
        tdi_bdf_format(a->device->bdf, a->bdf);
        r = access_host(m, action, a->bdf, call, method, e);
        if (r > 0 && a->force)
                r = access_host(m, POLKIT_FORCE, a->bdf, call, method, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (m->stopping)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "tdid is stopping");
        return 0;
}

static int plan_connect(Manager *m, sd_bus_message *call, const struct act *a, enum job_kind kind, const char *tsm) {
        bool undo = kind == JOB_DISCONNECT;
        struct plan *p = plan_new(m, undo ? "Disconnect" : "Connect", NULL);
        char text[160];

        snprintf(text, sizeof(text), undo ? "disconnect DSM %s from %s" : "connect DSM %s to %s", a->bdf, tsm);
        plan_add_action(p, a->device->bdf, ACTION_CONNECT_TSM, undo, text);
        return plan_reply(p, call);
}

/* It alone, or with its VM's functions of its group, as custody_restore() does it. */
static int plan_restore(Custody *c, sd_bus_message *call) {
        struct plan *p = plan_new(c->manager, "Restore", c->vm);

        if (custody_unbind_is_refused(c)) {
                plan_add(p, c, c->again_goal);
                return plan_reply(p, call);
        }
        plan_add(p, c, GOAL_DOWN);
        for (size_t i = 0; c->vm && i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o != c && o->vm == c->vm && c->group >= 0 && o->group == c->group && !o->quarantine)
                        plan_add(p, o, GOAL_DOWN);
        }
        return plan_reply(p, call);
}

static int start_connect(Manager *m, sd_bus_message *call, const struct act *a, enum job_kind kind, const char *verb, const char *tsm,
                         sd_bus_error *e) {
        Custody *user;
        Job *j;
        int r;

        if (job_acts_on_dsm(m, a->bdf))
                return bus_error(e, TDI_ERROR_BUSY, "a job is connecting or disconnecting %s", a->bdf);
        if (evidence_is_asking(m, a->bdf))
                return bus_error(e, TDI_ERROR_BUSY, "%s is being asked for its evidence", a->bdf);
        user = custody_using_dsm(m, a->bdf);
        if (user)
                return bus_error(e, TDI_ERROR_IN_USE, "%s of VM %s uses the connection of %s, or is about to", user->name,
                                 user->vm ? user->vm->name : user->vm_id, a->bdf);
        if (bus_is_plan(call))
                return plan_connect(m, call, a, kind, tsm);
        r = bus_job_new(m, kind, NULL, connect_settle, &j, e);
        if (r < 0)
                return r;
        job_add_bdf(j, a->device->bdf);
        if (free_and_strdup(&j->tsm, tsm) < 0)
                log_oom();
        r = connect_start(j, verb);
        if (r < 0) {
                job_free(j);
                return bus_error(e, TDI_ERROR_KERNEL, "could not start a worker: %s", strerror(-r));
        }
        return bus_job_started(j, call, a->options.async);
}

static int method_connect(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        struct act a = {};
        const char *tsm;
        int r;

        r = sd_bus_message_read_basic(call, 's', &tsm);
        if (r >= 0)
                r = open_device(m, call, method_connect, POLKIT_CONNECT, &a, e);
        if (r != 0)
                return r;
        if (m->n_tsms == 0)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "this host has no TSM: no driver has registered one in /sys/class/tsm");
        if (isempty(tsm) && m->n_tsms > 1)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "this host has %zu TSMs: name the one to connect %s to", m->n_tsms, a.bdf);
        if (!isempty(tsm) && !tsm_find(m, tsm))
                return bus_error(e, TDI_ERROR_NOT_FOUND, "there is no TSM \"%.32s\"", tsm);
        if (a.device->gone)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "%s has gone from the host", a.bdf);
        if (!(a.device->tee & DEVICE_DSM))
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "the kernel does not take %s for a DSM: it has neither TEE-IO nor IDE, or is not function 0",
                                 a.bdf);
        if (a.device->tsm)
                return bus_error(e, TDI_ERROR_EXISTS, "%s is connected to %s", a.bdf, a.device->tsm);
        return start_connect(m, call, &a, JOB_CONNECT, "do", isempty(tsm) ? m->tsms[0]->name : tsm, e);
}

static int method_disconnect(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct act a = {};
        int r;

        r = open_device(userdata, call, method_disconnect, POLKIT_CONNECT, &a, e);
        if (r != 0)
                return r;
        if (!a.device->tsm || !(a.device->tee & DEVICE_DSM))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not a connected DSM; `tdictl device show %s` names its DSM and its TSM", a.bdf, a.bdf);
        return start_connect(userdata, call, &a, JOB_DISCONNECT, "undo", a.device->tsm, e);
}

static int method_restore(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        struct act a = {};
        Custody *c;
        Job *j;
        int r;

        r = open_device(m, call, method_restore, POLKIT_RESTORE, &a, e);
        if (r != 0)
                return r;
        c = custody_find(m, a.device->bdf);
        if (!c || !c->quarantine)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not quarantined", a.bdf);
        if (c->frozen)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "%s: %s", a.bdf, c->quarantine);
        if (c->busy)
                return bus_error(e, TDI_ERROR_BUSY, "%s has not come back from the kernel; what is left is undone when it does", a.bdf);
        /* A holder that we have not heard of yet may have the device open: what is undone must end with its close. */
        if (!c->vm && vm_find_id(m, c->vm_id))
                return bus_error(e, TDI_ERROR_BUSY, "the holder of VM %s, which has %s, has not answered yet; try again", c->vm_id, a.bdf);
        if (bus_is_plan(call))
                return plan_restore(c, call);
        r = bus_job_new(m, JOB_RESTORE, NULL, restore_settle, &j, e);
        if (r < 0)
                return r;
        job_add_bdf(j, c->bdf);
        custody_restore(c, a.force);
        return bus_job_started(j, call, a.options.async);
}

/* The owner of the VM that has the function sees all of it. */
static int method_describe(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Device *d = bus_device(userdata, sd_bus_message_get_path(call));
        Custody *c = d ? custody_find(userdata, d->bdf) : NULL;
        char bdf[TDI_BDF_MAX];
        struct json_object *o;
        char why[400];
        uid_t uid;
        int r;

        if (!d)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function is gone");
        tdi_bdf_format(d->bdf, bdf);
        r = c && c->vm ? access_vm(userdata, POLKIT_INSPECT, c->vm, bdf, call, method_describe, &uid, e) :
                         access_host(userdata, POLKIT_INSPECT, bdf, call, method_describe, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        o = json_new();
        json_set_str(o, "bdf", bdf);
        json_set_bool(o, "present", !d->gone);
        json_set_str(o, "custody", tdi_custody_to_string(c ? custody_step(c) : TDI_CUSTODY_NONE));
        json_set_str(o, "action", c ? custody_action_name(c) : "");
        json_set_str(o, "quarantine", c && c->quarantine ? c->quarantine : c && custody_waits_for_handoff(c, why, sizeof(why)) ? why : "");
        json_set_take(o, "streams", ide_describe(d));
        if (d->has_serial) {
                snprintf(why, sizeof(why), "%016llx", (unsigned long long) d->serial);
                json_set_str(o, "serial", why);
        } else
                json_set_str(o, "serial", d->fixed && !d->unreadable ? "" : NULL);
        json_set_str(o, "guard", c ? guard_state_of(c) : "");
        json_set_take(o, "refused", c ? guard_refusals(userdata, d->bdf) : NULL);
        return bus_reply_description(call, "device", o);
}

static const char *quarantine(const Device *d, const Custody *c, char *buf, size_t size) {
        if (c->quarantine) {
                public_quarantine(c, d->gone, buf, size);
                return buf;
        }
        if (c->blocked)
                return "it waits for another function of its IOMMU group, which could not be given back";
        if (custody_waits_for_handoff(c, buf, size))
                return "it was handed off and is still open in a VMM's hands; it is given back when that ends";
        if (c->stuck || c->locked_out)
                return "it has not come back from the kernel; it is given back when it does";
        return "";
}

static int get_text(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        Device *d = bus_device(userdata, path);
        const char *text = "";
        char buf[1024];
        Custody *c;

        if (!d)
                return -ENOENT;
        c = custody_find(userdata, d->bdf);
        if (streq(property, "BDF"))
                text = tdi_bdf_format(d->bdf, buf);
        else if (streq(property, "Name"))
                text = d->name;
        else if (streq(property, "ClassName"))
                text = d->class_name;
        else if (streq(property, "Driver"))
                text = d->driver;
        else if (streq(property, "DSM"))
                text = d->dsm;
        else if (streq(property, "TSM"))
                text = d->tsm;
        else if (streq(property, "Bound"))
                text = d->bound;
        else if (streq(property, "PhysFn")) {
                Device *pf = d->phys_fn == UINT32_MAX ? NULL : device_find_number(userdata, d->phys_fn);

                text = pf ? tdi_bdf_format(pf->bdf, buf) : "";
        } else if (streq(property, "SRIOV")) {
                static const char *const roles[] = { [DEVICE_SRIOV_NONE] = "none", [DEVICE_SRIOV_PF] = "pf", [DEVICE_SRIOV_VF] = "vf" };

                text = roles[device_sriov(d)];
        } else if (streq(property, "Custody"))
                text = c ? tdi_custody_to_string(custody_step(c)) : "none";
        else if (streq(property, "VM"))
                text = c && c->vm && c->vm->announced ? vm_path(c->vm, buf) : "";
        else if (c)
                text = quarantine(d, c, buf, sizeof(buf));
        return sd_bus_message_append_basic(reply, 's', strempty(text));
}

static int get_present(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, _unused_ const char *property,
                       sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Device *d = bus_device(userdata, path);

        return d ? sd_bus_message_append(reply, "b", !d->gone) : -ENOENT;
}

static int get_ids(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, _unused_ const char *property,
                   sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Device *d = bus_device(userdata, path);

        if (!d)
                return -ENOENT;
        return sd_bus_message_append(reply, "(qqqq)", d->vendor, d->device, d->subsystem_vendor, d->subsystem_device);
}

static int get_number(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                      void *userdata, _unused_ sd_bus_error *e) {
        Device *d = bus_device(userdata, path);

        if (!d)
                return -ENOENT;
        if (streq(property, "Class"))
                return sd_bus_message_append_basic(reply, 'u', &d->class);
        if (streq(property, "IOMMUGroup"))
                return sd_bus_message_append_basic(reply, 'i', &d->group);
        return sd_bus_message_append_basic(reply, 't', &d->tsm_read);
}

static int get_list(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        Device *d = bus_device(userdata, path);
        static const char *const tee[] = { "tee-io", "ide", "doe", "dsm" }; /* in the order of enum device_tee */
        int r;

        if (!d)
                return -ENOENT;
        r = sd_bus_message_open_container(reply, 'a', "s");
        if (streq(property, "TEE")) {
                for (size_t i = 0; i < ARRAY_SIZE(tee) && r >= 0; i++)
                        if (d->tee & 1u << i)
                                r = sd_bus_message_append_basic(reply, 's', tee[i]);
        } else if (streq(property, "Bridges")) {
                for (size_t i = 0; i < d->n_parents && r >= 0; i++) {
                        char bdf[TDI_BDF_MAX];

                        r = sd_bus_message_append_basic(reply, 's', tdi_bdf_format(device_bdf(d->parents[i]), bdf));
                }
        } else
                for (size_t i = 0; d->streams && i < json_object_array_length(d->streams) && r >= 0; i++)
                        r = sd_bus_message_append_basic(reply, 's', json_str_or(json_object_array_get_idx(d->streams, i), "name", ""));
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

const sd_bus_vtable bus_device_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Connect", SD_BUS_ARGS("s", tsm, "a{sv}", options), SD_BUS_RESULT("o", job), method_connect,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Disconnect", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_disconnect,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Restore", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_restore, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanConnect", SD_BUS_ARGS("s", tsm, "a{sv}", options), SD_BUS_RESULT("s", json), method_connect, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanDisconnect", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), method_disconnect, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanRestore", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), method_restore, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), method_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Evidence", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json, "h", raw), bus_method_evidence,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("BDF", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Present", "b", get_present, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("IDs", "(qqqq)", get_ids, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Class", "u", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Name", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ClassName", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Driver", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("IOMMUGroup", "i", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("TEE", "as", get_list, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("PhysFn", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("SRIOV", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Bridges", "as", get_list, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("DSM", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("TSM", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Bound", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("TSMRead", "t", get_number, 0, 0),
        SD_BUS_PROPERTY("Streams", "as", get_list, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Custody", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("VM", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Quarantine", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};
