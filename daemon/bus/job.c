/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.Job */
#include "job.h"

#include "bus/bus.h"
#include "vm.h"

/* Who may cancel: root, or the owner of the VM that the job is about. */
static int method_cancel(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        uid_t uid;
        Job *j;
        int r;

        j = bus_job(m, sd_bus_message_get_path(call));
        if (!j)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the job is gone");
        r = j->vm ? access_owner(m, j->vm, call, method_cancel, &uid, e) : access_root(m, call, method_cancel, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (job_is_finished(j))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "the job has ended");
        if (j->kind != JOB_ATTACH)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "a %s job cannot be cancelled: giving back is finished in any case",
                                 job_kind_to_string(j->kind));
        if (j->committing)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "everything is attached already: detach instead");
        j->cancel = true;
        manager_touch(m);
        return sd_bus_reply_method_return(call, NULL);
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
        SD_BUS_SIGNAL_WITH_ARGS("Finished", SD_BUS_ARGS("s", error, "s", text), 0),
        SD_BUS_PROPERTY("Kind", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Objects", "as", get_objects, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Step", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Started", "t", get_time, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Deadline", "t", get_time, 0, 0),
        SD_BUS_PROPERTY("State", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};
