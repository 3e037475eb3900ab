/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.Device */
#include "device.h"

#include <stdio.h>

#include "bus/bus-vm.h"
#include "tsm.h"
#include "vm.h"

struct act {
        bool async;
};

static const struct option act_options[] = {
        { "async", 'b', offsetof(struct act, async), NULL },
        {},
};

static int open_device(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, struct act *a, Device **ret, sd_bus_error *e) {
        Device *d;
        int r;

        r = options_read(call, act_options, a, e);
        if (r < 0)
                return r;
        d = bus_device(m, sd_bus_message_get_path(call));
        if (!d)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function is gone");
        r = access_root(m, call, method, e);
        if (r <= 0)
                return r;
        if (m->stopping)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "tdid is stopping");
        *ret = d;
        return 1;
}

static int start_connect(Manager *m, sd_bus_message *call, Device *d, enum job_kind kind, const char *verb, const char *tsm, bool async,
                         sd_bus_error *e) {
        char bdf[TDI_BDF_MAX];
        Custody *user;
        Job *j;
        int r;

        tdi_bdf_format(d->bdf, bdf);
        if (job_acts_on_dsm(m, bdf))
                return bus_error(e, TDI_ERROR_BUSY, "a job is connecting or disconnecting %s", bdf);
        user = custody_using_dsm(m, bdf);
        if (user)
                return bus_error(e, TDI_ERROR_IN_USE, "%s of VM %s uses the connection of %s, or is about to", user->name,
                                 user->vm ? user->vm->name : user->vm_id, bdf);
        r = bus_job_new(m, kind, NULL, connect_settle, &j, e);
        if (r < 0)
                return r;
        job_add_bdf(j, d->bdf);
        if (free_and_strdup(&j->tsm, tsm) < 0)
                log_oom();
        r = connect_start(j, verb);
        if (r < 0) {
                job_free(j);
                return bus_error(e, TDI_ERROR_KERNEL, "could not start a worker: %s", strerror(-r));
        }
        return bus_job_started(j, call, async);
}

static int method_connect(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        struct act a = {};
        char bdf[TDI_BDF_MAX];
        const char *tsm;
        Device *d;
        int r;

        r = sd_bus_message_read_basic(call, 's', &tsm);
        if (r >= 0)
                r = open_device(m, call, method_connect, &a, &d, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        tdi_bdf_format(d->bdf, bdf);
        if (m->n_tsms == 0)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "this host has no TSM: no driver has registered one in /sys/class/tsm");
        if (isempty(tsm) && m->n_tsms > 1)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "this host has %zu TSMs: name the one to connect %s to", m->n_tsms, bdf);
        if (!isempty(tsm) && !tsm_find(m, tsm))
                return bus_error(e, TDI_ERROR_NOT_FOUND, "there is no TSM \"%.32s\"", tsm);
        if (!(d->tee & DEVICE_DSM))
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "the kernel does not take %s for a DSM: it has neither TEE-IO nor IDE, or is not function 0",
                                 bdf);
        if (d->tsm)
                return bus_error(e, TDI_ERROR_EXISTS, "%s is connected to %s", bdf, d->tsm);
        return start_connect(m, call, d, JOB_CONNECT, "do", isempty(tsm) ? m->tsms[0]->name : tsm, a.async, e);
}

static int method_disconnect(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        char bdf[TDI_BDF_MAX];
        struct act a = {};
        Device *d;
        int r;

        r = open_device(m, call, method_disconnect, &a, &d, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        tdi_bdf_format(d->bdf, bdf);
        if (!d->tsm || !(d->tee & DEVICE_DSM))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not a connected DSM", bdf);
        return start_connect(m, call, d, JOB_DISCONNECT, "undo", d->tsm, a.async, e);
}

static int method_restore(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        char bdf[TDI_BDF_MAX];
        struct act a = {};
        Custody *c;
        Device *d;
        Job *j;
        int r;

        r = open_device(m, call, method_restore, &a, &d, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        tdi_bdf_format(d->bdf, bdf);
        c = custody_find(m, d->bdf);
        if (!c || !c->quarantine)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not quarantined", bdf);
        if (c->frozen)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "%s: %s", bdf, c->quarantine);
        if (c->busy)
                return bus_error(e, TDI_ERROR_BUSY, "%s has not come back from the kernel", bdf);
        r = bus_job_new(m, JOB_RESTORE, NULL, release_settle, &j, e);
        if (r < 0)
                return r;
        job_add_bdf(j, d->bdf);
        custody_set_quarantine(c, NULL);
        custody_set_goal(c, GOAL_DOWN);
        return bus_job_started(j, call, a.async);
}

static int get_text(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        Device *d = bus_device(userdata, path);
        const char *text = "";
        char buf[64];
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
        } else if (streq(property, "Custody"))
                text = c ? tdi_custody_to_string(custody_step(c)) : "none";
        else if (streq(property, "VM"))
                text = c && c->vm && c->vm->announced ? vm_path(c->vm, buf) : "";
        else if (c && c->quarantine)
                text = c->quarantine;
        else if (c && c->blocked)
                text = "it waits for another function of its IOMMU group, which could not be given back";
        else if (c && (c->stuck || c->locked_out))
                text = "it has not come back from the kernel; it is given back when it does";
        return sd_bus_message_append_basic(reply, 's', strempty(text));
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
        _cleanup_free_ char *streams = NULL;
        char *save = NULL;
        int r;

        if (!d)
                return -ENOENT;
        streams = strdup(strempty(d->streams));
        if (!streams)
                return -ENOMEM;
        r = sd_bus_message_open_container(reply, 'a', "s");
        if (streq(property, "TEE")) {
                for (size_t i = 0; i < ARRAY_SIZE(tee) && r >= 0; i++)
                        if (d->tee & 1u << i)
                                r = sd_bus_message_append_basic(reply, 's', tee[i]);
        } else
                for (char *s = strtok_r(streams, " ", &save); s && r >= 0; s = strtok_r(NULL, " ", &save))
                        r = sd_bus_message_append_basic(reply, 's', s);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

const sd_bus_vtable bus_device_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Connect", SD_BUS_ARGS("s", tsm, "a{sv}", options), SD_BUS_RESULT("o", job), method_connect,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Disconnect", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_disconnect,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Restore", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_restore, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("BDF", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("IDs", "(qqqq)", get_ids, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Class", "u", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Name", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ClassName", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Driver", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("IOMMUGroup", "i", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("TEE", "as", get_list, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("PhysFn", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
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
