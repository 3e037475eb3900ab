/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs, and what properties of several interfaces have in common. */
#include "fake-tdid.h"

static struct job jobs[256];
static unsigned n_jobs;
static char last_caller[64];

void changed(const char *path, const char *interface, const char *property) {
        (void) sd_bus_emit_properties_changed(bus, path, interface, property, NULL);
}

static void job_finish(struct job *j, const char *state, const char *error, const char *text) {
        sd_event_source_disable_unref(j->timer);
        j->timer = NULL;
        set(j->state, state);
        if (streq(state, "done") && j->done)
                j->done(j);
        if (j->function && j->function->number == 7) {
                changed(j->path, "org.tdid1.Job", "State");
                check(sd_bus_flush(bus), "flush");
        }
        check(sd_bus_emit_signal(bus, j->path, "org.tdid1.Job", "Finished", "ss", error, text), "emit Finished");
        if (!j->function || j->function->number != 7)
                changed(j->path, "org.tdid1.Job", "State");
}

/* Signals what is not true from a connection that is not tdid's, straight to the caller. */
static void forge(const struct job *j) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *stranger = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        check(sd_bus_open_system(&stranger), "connect as a stranger");
        check(sd_bus_message_new_signal(stranger, &m, j->path, "org.tdid1.Job", "Finished"), "make a forged signal");
        check(sd_bus_message_append(m, "ss", "org.tdid1.Error.Policy", "forged"), "make a forged signal");
        check(sd_bus_message_set_destination(m, last_caller), "make a forged signal");
        check(sd_bus_send(stranger, m, NULL), "send a forged signal");
}

static void job_arm(struct job *j, uint64_t usec);

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct job *j = userdata;
        unsigned n = j->function ? j->function->number : 0;

        j->stage++;
        if (streq(j->step, "undo"))
                job_finish(j, "cancelled", "org.tdid1.Error.Cancelled", "The job was cancelled and undone.");
        else if (n == 2 && j->stage == 1) {
                set(j->step, "open");
                changed(j->path, "org.tdid1.Job", "Step");
                job_arm(j, 200000);
        } else if (n == 3)
                job_finish(j, "failed", "org.tdid1.Error.Quarantined", "0000:03:00.0: Quarantined");
        else if (n == 4 || n == 12)
                job_arm(j, 10000000);
        else if (n == 5)
                exit(0);
        else if (n == 8 && j->stage == 1) {
                forge(j);
                job_arm(j, 200000);
        } else if (n == 11 && j->stage == 1) {
                set(j->state, "stuck");
                changed(j->path, "org.tdid1.Job", "State");
                job_arm(j, 600000);
        } else
                job_finish(j, "done", "", "");
        return 0;
}

static void job_arm(struct job *j, uint64_t usec) {
        sd_event_source_disable_unref(j->timer);
        j->timer = NULL;
        check(sd_event_add_time_relative(event, &j->timer, CLOCK_MONOTONIC, usec, 1, on_timer, j), "add a timer");
}

static int job_cancel(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct job *j = userdata;

        if (!streq(j->kind, "attach"))
                return sd_bus_error_setf(e, "org.tdid1.Error.NotSupported", "A %s job cannot be cancelled.", j->kind);
        set(j->step, "undo");
        changed(j->path, "org.tdid1.Job", "Step");
        job_arm(j, j->function && j->function->number == 12 ? 10000000 : 100000);
        return sd_bus_reply_method_return(m, "");
}

static int job_describe(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct job *j = userdata;

        if (!j->function || j->function->number != 3)
                return sd_bus_error_set(e, "org.tdid1.Error.Denied", "Not for you.");
        return sd_bus_reply_method_return(m, "s", "{\"schema\":\"tdid/1\",\"job\":{\"error\":\"org.tdid1.Error.Quarantined\","
                                                  "\"text\":\"0000:03:00.0 is withheld: its reset set is not clean.\"}}");
}

static int job_objects(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, _unused_ const char *property, sd_bus_message *reply,
                       void *userdata, _unused_ sd_bus_error *e) {
        struct job *j = userdata;

        return sd_bus_message_append(reply, "as", 1, j->object);
}

int get_text(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, _unused_ const char *property, sd_bus_message *reply,
             void *userdata, _unused_ sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", (const char *) userdata);
}

int get_zero(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
             _unused_ void *userdata, _unused_ sd_bus_error *e) {
        return sd_bus_message_append(reply, "t", streq(property, "Started") ? UINT64_C(1700000000000000) : UINT64_C(0));
}

static const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", "", "", job_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Describe", "", "s", job_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        TEXT("Kind", job, kind),
        TEXT("Step", job, step),
        TEXT("State", job, state),
        SD_BUS_PROPERTY("Objects", "as", job_objects, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Started", "t", get_zero, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Deadline", "t", get_zero, 0, 0),
        SD_BUS_SIGNAL("Finished", "ss", 0),
        SD_BUS_VTABLE_END,
};

/* async must be asked for: the client must never wait inside a call. */
static int read_async(sd_bus_message *m) {
        const char *key;
        int async = 0, r;

        check(sd_bus_message_enter_container(m, 'a', "{sv}"), "read options");
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                check(sd_bus_message_read(m, "s", &key), "read an option");
                if (streq(key, "async"))
                        check(sd_bus_message_read(m, "v", "b", &async), "read async");
                else
                        check(sd_bus_message_skip(m, "v"), "skip an option");
                check(sd_bus_message_exit_container(m), "leave an option");
        }
        check(r, "read options");
        check(sd_bus_message_exit_container(m), "leave options");
        return async;
}

int job_start(sd_bus_message *m, const char *kind, struct function *f, struct vm *vm, void (*done)(struct job *), const char *tdi, sd_bus_error *e) {
        struct job *j = &jobs[n_jobs++ % ARRAY_SIZE(jobs)];
        unsigned n = f ? f->number : 0;

        if (!read_async(m))
                return sd_bus_error_set(e, "org.tdid1.Error.InvalidArgument", "The test wants async.");
        if (n == 6)
                return sd_bus_error_set(e, "org.tdid1.Error.InUse", "0000:06:00.0 is in use: /dev/nvme5n1 is mounted on /data.");
        if (n == 9)
                return 1;
        if (n == 10)
                exit(0);
        set(last_caller, sd_bus_message_get_sender(m));
        sd_bus_slot_unref(j->slot);
        *j = (struct job){ .id = n_jobs, .function = f, .vm = vm, .done = done };
        snprintf(j->path, sizeof(j->path), "/org/tdid1/job/%u", j->id);
        set(j->kind, kind);
        set(j->step, "claim");
        set(j->state, "running");
        set(j->object, f ? f->bdf : vm->name);
        check(sd_bus_add_object_vtable(bus, &j->slot, j->path, "org.tdid1.Job", job_vtable, j), "add a job");
        check(sd_bus_emit_object_added(bus, j->path), "announce a job");
        if (n == 1)
                job_finish(j, "done", "", "");
        else
                job_arm(j, n == 2 || n == 8 ? 200000 : 50000);
        if (tdi)
                return sd_bus_reply_method_return(m, "aoo", 1, tdi, j->path);
        return sd_bus_reply_method_return(m, "o", j->path);
}
