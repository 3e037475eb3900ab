/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs: start one, follow it, wait for its end. Deciding when to cancel is the caller's. Those that nobody waits for are in async.c.
 *
 * The signals are matched before the call is made, and sd-bus keeps what arrives during a call in its queue, so an end that
 * comes before the reply is seen afterwards, when the job's path is known. Only signals of the connection that answered the
 * call count: any local user can send us a signal that claims to be Finished.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>

#include "client-internal.h"

#define TICK_USEC UINT64_C(500000)

struct job {
        const struct client_what *what;
        char *owner; /* unique name of the tdid that runs it */
        char *path;
        const char *id; /* in path */

        char *kind, *step, *state;
        uint64_t deadline;

        uint64_t started; /* CLOCK_MONOTONIC */
        uint64_t next_tick;
        bool changed;
        bool cancel_asked;
        bool confirmed; /* a final state was asked for again */
        bool lost;
        char *error, *text; /* of Finished; error is NULL before */
};

static void job_done(struct job *j) {
        free(j->owner);
        free(j->path);
        free(j->kind);
        free(j->step);
        free(j->state);
        free(j->error);
        free(j->text);
}

/* The rest of a message from an a{sv} of Job's properties on; what is unknown is skipped. */
static int job_read_properties(struct job *j, sd_bus_message *m) {
        const char *name, *contents, *value;
        char type;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                char **field;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        return r;
                r = sd_bus_message_peek_type(m, &type, &contents);
                if (r < 0)
                        return r;
                field = streq(name, "Step") ? &j->step : streq(name, "State") ? &j->state : streq(name, "Kind") ? &j->kind : NULL;
                if (field && streq(contents, "s")) {
                        r = sd_bus_message_read(m, "v", "s", &value);
                        if (r >= 0) {
                                j->changed |= !streq(strempty(*field), value);
                                r = free_and_strdup(field, value);
                        }
                } else if (streq(name, "Deadline") && streq(contents, "t"))
                        r = sd_bus_message_read(m, "v", "t", &j->deadline);
                else
                        r = sd_bus_message_skip(m, "v");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int on_job_signal(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct job *j = userdata;
        const char *a, *b;
        int r;

        if (!j->path || !streq_ptr(sd_bus_message_get_sender(m), j->owner) || !streq_ptr(sd_bus_message_get_path(m), j->path))
                return 0;
        if (sd_bus_message_is_signal(m, TDI_IFACE_JOB, "Finished") > 0) {
                if (j->error)
                        return 0;
                r = sd_bus_message_read(m, "ss", &a, &b);
                if (r >= 0)
                        r = free_and_strdup(&j->text, b);
                /* A malformed end is an end all the same. */
                (void) free_and_strdup(&j->error, r < 0 ? SD_BUS_ERROR_INVALID_SIGNATURE : a);
        } else if (sd_bus_message_is_signal(m, DBUS_IFACE_PROPERTIES, "PropertiesChanged") > 0) {
                r = sd_bus_message_read(m, "s", &a);
                if (r >= 0 && streq(a, TDI_IFACE_JOB))
                        (void) job_read_properties(j, m);
        }
        return 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct job *j = userdata;
        const char *name, *old, *new;

        if (streq_ptr(sd_bus_message_get_sender(m), DBUS_NAME) && sd_bus_message_read(m, "sss", &name, &old, &new) >= 0 &&
            streq(name, TDI_BUS_NAME) && j->owner && streq(old, j->owner))
                j->lost = true;
        return 0;
}

static int job_call(struct tdi_client *c, struct job *j, const char *interface, const char *member, sd_bus_message **ret_reply) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        /* To the connection that runs it: a tdid started meanwhile may give the same number to another job. */
        r = sd_bus_message_new_method_call(c->bus, &m, j->owner, j->path, interface, member);
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, 0);
        if (r >= 0 && streq(member, "GetAll"))
                r = sd_bus_message_append(m, "s", TDI_IFACE_JOB);
        return r < 0 ? r : sd_bus_call(c->bus, m, 0, NULL, ret_reply);
}

static int job_start(struct tdi_client *c, struct job *j, sd_bus_message *call) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL, *properties = NULL;
        const char *path, *sender;
        int r;

        r = client_call(c, call, j->what, &reply);
        if (r < 0)
                return r;
        sender = sd_bus_message_get_sender(reply);
        if (sd_bus_message_has_signature(reply, "aoo") && (r = sd_bus_message_skip(reply, "ao")) < 0)
                return client_fail_answer(c, r, j->what);
        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0 || !sender || !client_path_id(path, TDI_PATH_JOB))
                return client_fail_answer(c, r < 0 ? r : -EBADMSG, j->what);
        j->owner = strdup(sender);
        j->path = strdup(path);
        if (!j->owner || !j->path)
                return -ENOMEM;
        j->id = client_path_id(j->path, TDI_PATH_JOB);

        /* Where the job is now; what comes later is signalled. Failing only means that we know less to show. */
        if (job_call(c, j, DBUS_IFACE_PROPERTIES, "GetAll", &properties) >= 0)
                (void) job_read_properties(j, properties);
        j->changed = true;
        return 0;
}

/*
 * Finished says what every user may know; the whole reason is for root and the VM's owner. Where it is refused, or tdid went
 * meanwhile, the short one has to do.
 */
static void job_read_reason(struct tdi_client *c, struct job *j) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        json_object *o, *job, *v;
        const char *json;

        if (job_call(c, j, TDI_IFACE_JOB, "Describe", &reply) < 0 || sd_bus_message_read(reply, "s", &json) < 0)
                return;
        o = json_tokener_parse(json);
        if (json_object_object_get_ex(o, "job", &job) && json_object_object_get_ex(job, "text", &v) && json_object_is_type(v, json_type_string) &&
            json_object_get_string_len(v) > 0)
                (void) free_and_strdup(&j->text, json_object_get_string(v));
        json_object_put(o);
}

static int job_failed(struct tdi_client *c, struct job *j) {
        job_read_reason(c, j);
        return client_fail_named(c, j->error, j->text, j->what);
}

/* 1: the callback wants to leave. */
static int job_report(struct tdi_client *c, struct job *j, uint64_t now) {
        struct tdi_progress p = {
                .id = j->id,
                .kind = strempty(j->kind),
                .step = strempty(j->step),
                .state = strempty(j->state),
                .elapsed_usec = now - j->started,
                .deadline_usec = j->deadline,
        };
        enum tdi_progress_verdict verdict;

        j->changed = false;
        j->next_tick = now + TICK_USEC;
        if (!c->progress)
                return 0;
        c->in_callback = true;
        verdict = c->progress(&p, c->progress_data);
        c->in_callback = false;
        if (verdict == TDI_PROGRESS_CANCEL && !j->cancel_asked) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;

                /* A refusal changes nothing: the job's own end is the answer. */
                j->cancel_asked = true;
                (void) job_call(c, j, TDI_IFACE_JOB, "Cancel", &reply);
        }
        return verdict == TDI_PROGRESS_LEAVE;
}

static bool state_is_final(const char *state) {
        return state && (streq(state, "done") || streq(state, "failed") || streq(state, "cancelled"));
}

static int job_wait(struct tdi_client *c, struct job *j) {
        bool woken = false;
        int r;

        for (;;) {
                do {
                        r = sd_bus_process(c->bus, NULL);
                } while (r > 0 && !j->error);
                if (r == -ENOMEM)
                        return r;
                if (r < 0) {
                        client_lose_jobs(c);
                        return client_fail(c, -ECONNRESET, TDI_ERROR_NONE, "The connection to %s was lost during job %s (%s); the job may go on: look with 'tdictl status'.",
                                           c->bus_label, j->id, j->what->action);
                }
                if (j->error)
                        return isempty(j->error) ? 0 : job_failed(c, j);
                if (j->lost)
                        return client_fail(c, -ECONNRESET, TDI_ERROR_NONE, "tdid went away during job %s (%s); the job may go on: look with 'tdictl status'.",
                                           j->id, j->what->action);
                /* A final state without Finished: once more around, after an answer that comes behind every earlier signal. */
                if (state_is_final(j->state) && !j->confirmed) {
                        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;

                        j->confirmed = true;
                        (void) job_call(c, j, DBUS_IFACE_PROPERTIES, "GetAll", &reply);
                        continue;
                }
                if (state_is_final(j->state)) {
                        if (streq(j->state, "done"))
                                return 0;
                        if (streq(j->state, "cancelled"))
                                return client_fail(c, -ECANCELED, TDI_ERROR_CANCELLED, "Job %s (%s) was cancelled.", j->id, j->what->action);
                        return client_fail(c, -EIO, TDI_ERROR_NONE, "Job %s (%s) failed; its reason was not told.", j->id, j->what->action);
                }

                if (c->progress && (woken || j->changed || client_now() >= j->next_tick) && job_report(c, j, client_now()) > 0)
                        return client_fail(c, -EINPROGRESS, TDI_ERROR_NONE, "Left job %s (%s), which goes on: look with 'tdictl status'.", j->id, j->what->action);
                r = client_poll(c, c->progress ? j->next_tick : UINT64_MAX, c->progress ? &woken : NULL);
                if (r < 0 && r != -ECONNRESET)
                        return client_fail(c, r, TDI_ERROR_NONE, "Could not wait for job %s (%s): %s.", j->id, j->what->action, strerror(-r));
        }
}

int client_run_job(struct tdi_client *c, sd_bus_message *call, const struct client_what *what) {
        _cleanup_(job_done) struct job j = { .what = what, .started = client_now() };
        /* Dropped at the end, so that a client that is not processed any more gets no signals to pile up. */
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *signals = NULL, *owner = NULL;
        int r;

        if (c->dry_run)
                return client_read_plan(c, call, what);
        if (c->started)
                return client_start_job(c, call, what);
        r = sd_bus_add_match(c->bus, &owner,
                             "type='signal',sender='" DBUS_NAME "',path='" DBUS_PATH "',interface='" DBUS_IFACE "',"
                             "member='NameOwnerChanged',arg0='" TDI_BUS_NAME "'",
                             on_owner_changed, &j);
        if (r >= 0)
                r = sd_bus_add_match(c->bus, &signals, "type='signal',sender='" TDI_BUS_NAME "',path_namespace='" TDI_BUS_ROOT "/job'", on_job_signal, &j);
        if (r < 0) {
                sd_bus_error none = SD_BUS_ERROR_NULL;

                return client_fail_bus(c, r, &none, what);
        }
        r = job_start(c, &j, call);
        return r < 0 ? r : job_wait(c, &j);
}
