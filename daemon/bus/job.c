/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.Job */
#include "job.h"

#include <stdio.h>

#include "bus/bus.h"
#include "vm.h"

/* The job of a call by who may make it: 0 with it; anything else is what the method has to return. */
static int open_job(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, enum polkit_action action, Job **ret, sd_bus_error *e) {
        Job *j = bus_job(m, sd_bus_message_get_path(call));
        int r;

        if (!j)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the job is gone");
        r = access_job(m, action, j, call, method, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        *ret = j;
        return 0;
}

static int method_cancel(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Job *j;
        int r;

        r = open_job(userdata, call, method_cancel, POLKIT_MANAGE_ANY_VM, &j, e);
        if (r != 0)
                return r;
        if (job_is_finished(j))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "the job has ended");
        if (j->kind != JOB_ATTACH && j->kind != JOB_BIND)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "a %s job cannot be cancelled: giving back is finished in any case",
                                 job_kind_to_string(j->kind));
        if (j->committing)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "everything is attached already: detach instead");
        j->cancel = true;
        manager_touch(j->manager);
        return sd_bus_reply_method_return(call, NULL);
}

static int method_describe(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct json_object *o, *list;
        char name[64] = "";
        Job *j;
        int r;

        r = open_job(userdata, call, method_describe, POLKIT_INSPECT, &j, e);
        if (r != 0)
                return r;
        o = json_new();
        json_set_u64(o, "id", j->id);
        json_set_str(o, "kind", job_kind_to_string(j->kind));
        list = json_new_array();
        for (size_t i = 0; i < j->n_objects; i++)
                json_push_str(list, j->objects[i]);
        json_set_take(o, "objects", list);
        json_set_str(o, "state", tdi_job_state_to_string(j->state));
        /* What an undo that goes on will end with is told with the end. */
        if (job_is_finished(j) && j->error != TDI_ERROR_NONE)
                snprintf(name, sizeof(name), TDI_ERROR_PREFIX "%s", tdi_error_to_name(j->error));
        json_set_str(o, "error", name);
        json_set_str(o, "text", *name ? strempty(j->text) : "");
        return bus_reply_description(call, "job", o);
}

static int get_text(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        Job *j = bus_job(userdata, path);

        if (!j)
                return -ENOENT;
        return sd_bus_message_append_basic(reply, 's', streq(property, "Kind") ? job_kind_to_string(j->kind) : streq(property, "Step") ? j->step :
                                           tdi_job_state_to_string(j->state));
}

static int get_objects(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, _unused_ const char *property,
                       sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Job *j = bus_job(userdata, path);
        int r;

        if (!j)
                return -ENOENT;
        r = sd_bus_message_open_container(reply, 'a', "s");
        for (size_t i = 0; r >= 0 && i < j->n_objects; i++)
                r = sd_bus_message_append_basic(reply, 's', j->objects[i]);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_time(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        Job *j = bus_job(userdata, path);

        if (!j)
                return -ENOENT;
        return sd_bus_message_append(reply, "t", streq(property, "Started") ? j->started : job_deadline(j));
}

const sd_bus_vtable bus_job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", NULL, NULL, method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), method_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Finished", SD_BUS_ARGS("s", error, "s", text), 0),
        SD_BUS_PROPERTY("Kind", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Objects", "as", get_objects, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Step", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Started", "t", get_time, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Deadline", "t", get_time, 0, 0),
        SD_BUS_PROPERTY("State", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};
