/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs that nobody waits for: each is an entry of the client's list from its call to its end, which its callback is told. Nothing here
 * waits. Waiting for a job is job.c.
 *
 * What a job goes through: the call; its answer, which names the job; its properties, as it may have ended before its name was known; its
 * signal Finished; and where it failed Describe(), which has the whole reason. Each step's slot replaces the one before, so an answer that is
 * late means nothing any more. As in job.c, only the connection that answered the call is believed.
 */
#include <json-c/json.h>
#include <stdio.h>

#include "client-internal.h"

struct async_job {
        struct tdi_client *client;
        struct async_job *next;
        tdi_job_callback callback;
        void *userdata;
        char *action, *object; /* as in struct client_what */
        char *owner, *path;    /* NULL before the answer */
        sd_bus_slot *slot;     /* the call that is under way */
        uint64_t until;        /* CLOCK_MONOTONIC time at which sd-bus gives the job's call up */
        char *state;           /* a final one, or NULL */
        char *error, *text;    /* of Finished, or Describe() */
};

static struct async_job *job_free(struct async_job *j) {
        if (!j)
                return NULL;
        sd_bus_slot_unref(j->slot);
        free(j->action);
        free(j->object);
        free(j->owner);
        free(j->path);
        free(j->state);
        free(j->error);
        free(j->text);
        free(j);
        return NULL;
}
DEFINE_CLEANUP(struct async_job *, job_free);

static void job_unlink(struct async_job *j) {
        struct tdi_client *c = j->client;

        for (struct async_job **p = &c->async_jobs; *p; p = &(*p)->next)
                if (*p == j) {
                        *p = j->next;
                        break;
                }
        if (c->async_jobs)
                return;
        /* A client that is not processed any more gets no signals to pile up. */
        c->async_signals = sd_bus_slot_unref(c->async_signals);
        c->async_owner = sd_bus_slot_unref(c->async_owner);
}

static void job_tell(struct async_job *j, enum tdi_job_state state, int result, enum tdi_error error, const char *text) {
        const struct tdi_job_report report = {
                .state = state,
                .id = j->path ? client_path_id(j->path, TDI_PATH_JOB) : "",
                .result = result,
                .error = error,
                .text = strempty(text),
        };
        bool before = j->client->in_callback;

        j->client->in_callback = true;
        j->callback(&report, j->userdata);
        j->client->in_callback = before;
}

/* Tells the job's end, with what client_fail() was just told of it as its reason, and forgets the job. */
static void job_end(struct async_job *j, int result) {
        struct tdi_client *c = j->client;
        _cleanup_free_ char *text = TAKE_PTR(c->error_text);
        enum tdi_error error = c->error;

        /* It is no error of the call in which it is told. */
        c->error = TDI_ERROR_NONE;
        job_unlink(j);
        job_tell(j, result >= 0 ? TDI_JOB_DONE : error == TDI_ERROR_CANCELLED ? TDI_JOB_CANCELLED : TDI_JOB_FAILED, result, error, text);
        job_free(j);
}

static struct client_what job_what(const struct async_job *j) {
        return (struct client_what){ j->action, j->object };
}

static void job_end_failed(struct async_job *j) {
        const struct client_what what = job_what(j);
        struct tdi_client *c = j->client;

        if (!isempty(j->error))
                job_end(j, client_fail_named(c, j->error, j->text, &what));
        else if (streq_ptr(j->state, "cancelled"))
                job_end(j, client_fail(c, -ECANCELED, TDI_ERROR_CANCELLED, "It was asked to %s; the job was cancelled.", j->action));
        else
                job_end(j, client_fail(c, -EIO, TDI_ERROR_NONE, "Could not %s; the reason was not told.", j->action));
}

static void read_member(json_object *o, const char *key, char **field) {
        json_object *v;

        if (json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string) && json_object_get_string_len(v) > 0)
                (void) free_and_strdup(field, json_object_get_string(v));
}

/* Where it was refused, what Finished said to everybody has to do. */
static int on_description(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct async_job *j = userdata;
        json_object *o, *job;
        const char *json;

        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "s", &json) >= 0) {
                o = json_tokener_parse(json);
                if (json_object_object_get_ex(o, "job", &job)) {
                        read_member(job, "error", &j->error);
                        read_member(job, "text", &j->text);
                }
                json_object_put(o);
        }
        job_end_failed(j);
        return 0;
}

static int job_ask(struct async_job *j, const char *interface, const char *member, sd_bus_message_handler_t handler) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        j->slot = sd_bus_slot_unref(j->slot);
        r = sd_bus_message_new_method_call(j->client->bus, &m, j->owner, j->path, interface, member);
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, 0);
        if (r >= 0 && streq(member, "GetAll"))
                r = sd_bus_message_append(m, "s", TDI_IFACE_JOB);
        return r < 0 ? r : sd_bus_call_async(j->client->bus, &j->slot, m, handler, j, 0);
}

static void job_ask_reason(struct async_job *j) {
        if (job_ask(j, TDI_IFACE_JOB, "Describe", on_description) < 0)
                job_end_failed(j);
}

/* What is no final state is followed by Finished. */
static int on_properties(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct async_job *j = userdata;
        const char *name, *value;

        j->slot = sd_bus_slot_unref(j->slot);
        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_enter_container(m, 'a', "{sv}") < 0)
                return 0;
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                if (sd_bus_message_read(m, "s", &name) < 0)
                        return 0;
                if (!streq(name, "State"))
                        (void) sd_bus_message_skip(m, "v");
                else if (sd_bus_message_read(m, "v", "s", &value) >= 0 &&
                         (streq(value, "done") || streq(value, "failed") || streq(value, "cancelled")))
                        (void) free_and_strdup(&j->state, value);
                if (sd_bus_message_exit_container(m) < 0)
                        return 0;
        }
        if (streq_ptr(j->state, "done"))
                job_end(j, 0);
        else if (j->state)
                job_ask_reason(j);
        return 0;
}

static int on_answer(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct async_job *j = userdata;
        const struct client_what what = job_what(j);
        const char *path, *sender = sd_bus_message_get_sender(m);
        struct tdi_client *c = j->client;
        int r = 0;

        if (sd_bus_message_is_method_error(m, NULL)) {
                const sd_bus_error *error = sd_bus_message_get_error(m), late = SD_BUS_ERROR_MAKE_CONST(SD_BUS_ERROR_TIMEOUT, "timed out");

                /* sd-bus has one error for a call that took too long and for one whose receiver went. */
                if (sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) && client_now() >= j->until)
                        error = &late;
                job_end(j, client_fail_bus(c, -sd_bus_message_get_errno(m), error, &what));
                return 0;
        }
        if (sd_bus_message_has_signature(m, "aoo"))
                r = sd_bus_message_skip(m, "ao");
        if (r >= 0)
                r = sd_bus_message_read(m, "o", &path);
        if (r >= 0 && (!sender || !client_path_id(path, TDI_PATH_JOB)))
                r = -EBADMSG;
        if (r >= 0 && (!(j->owner = strdup(sender)) || !(j->path = strdup(path))))
                r = -ENOMEM;
        if (r < 0) {
                job_end(j, r == -ENOMEM ? client_fail(c, r, TDI_ERROR_NONE, "%s", "") : client_fail_answer(c, r, &what));
                return 0;
        }
        job_tell(j, TDI_JOB_RUNNING, 0, TDI_ERROR_NONE, NULL);
        r = job_ask(j, DBUS_IFACE_PROPERTIES, "GetAll", on_properties);
        if (r < 0)
                job_end(j, client_fail(c, r, TDI_ERROR_NONE, "Could not %s: its job cannot be followed (%s); it goes on.", j->action, strerror(-r)));
        return 0;
}

static int on_finished(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct tdi_client *c = userdata;
        struct async_job *j = c->async_jobs;
        const char *error, *text;

        while (j && !(streq_ptr(sd_bus_message_get_sender(m), j->owner) && streq_ptr(sd_bus_message_get_path(m), j->path)))
                j = j->next;
        if (!j || j->error || j->state)
                return 0;
        /* A malformed end is an end all the same. */
        if (sd_bus_message_read(m, "ss", &error, &text) < 0)
                error = SD_BUS_ERROR_INVALID_SIGNATURE, text = "";
        if (isempty(error)) {
                job_end(j, 0);
                return 0;
        }
        if (free_and_strdup(&j->error, error) < 0 || free_and_strdup(&j->text, text) < 0)
                job_end(j, client_fail(c, -ENOMEM, TDI_ERROR_NONE, "%s", ""));
        else
                job_ask_reason(j);
        return 0;
}

static void job_lose(struct async_job *j, const char *who) {
        job_end(j, client_fail(j->client, -ECONNRESET, TDI_ERROR_NONE,
                               "%s went away while it was asked to %s; the job may go on: look with 'tdictl status'.", who, j->action));
}

static int on_owner_changed(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct tdi_client *c = userdata;
        const char *name, *old, *new;

        if (!streq_ptr(sd_bus_message_get_sender(m), DBUS_NAME) || sd_bus_message_read(m, "sss", &name, &old, &new) < 0 || !streq(name, TDI_BUS_NAME))
                return 0;
        for (struct async_job *j = c->async_jobs, *next; j; j = next) {
                next = j->next;
                /* A call that has no answer gets an error of the bus. */
                if (j->owner && streq(old, j->owner))
                        job_lose(j, "tdid");
        }
        return 0;
}

void client_lose_jobs(struct tdi_client *c) {
        while (c->async_jobs)
                job_lose(c->async_jobs, "The bus");
}

void client_drop_jobs(struct tdi_client *c) {
        while (c->async_jobs) {
                struct async_job *j = c->async_jobs;

                job_unlink(j);
                job_free(j);
        }
}

/* The bus does what it is asked in order: what is matched first is seen. */
static int match(struct tdi_client *c) {
        int r = 0;

        if (!c->async_owner)
                r = sd_bus_add_match_async(c->bus, &c->async_owner,
                                           "type='signal',sender='" DBUS_NAME "',path='" DBUS_PATH "',interface='" DBUS_IFACE "',"
                                           "member='NameOwnerChanged',arg0='" TDI_BUS_NAME "'",
                                           on_owner_changed, NULL, c);
        if (r >= 0 && !c->async_signals)
                r = sd_bus_add_match_async(c->bus, &c->async_signals,
                                           "type='signal',sender='" TDI_BUS_NAME "',path_namespace='" TDI_BUS_ROOT "/job',"
                                           "interface='" TDI_IFACE_JOB "',member='Finished'",
                                           on_finished, NULL, c);
        return r;
}

int client_start_job(struct tdi_client *c, sd_bus_message *call, const struct client_what *what) {
        _cleanup_(job_freep) struct async_job *j = calloc(1, sizeof(*j));
        uint64_t usec = client_patience(c, 0);
        int r;

        if (!j)
                return client_fail(c, -ENOMEM, TDI_ERROR_NONE, "%s", "");
        j->client = c;
        j->callback = c->started;
        j->userdata = c->started_data;
        j->action = strdup(what->action);
        j->object = what->object ? strdup(what->object) : NULL;
        if (!j->action || (what->object && !j->object))
                return client_fail(c, -ENOMEM, TDI_ERROR_NONE, "%s", "");
        r = match(c);
        if (r >= 0 && usec == 0)
                r = sd_bus_get_method_call_timeout(c->bus, &usec);
        j->until = client_now() + usec;
        if (r >= 0)
                r = sd_bus_call_async(c->bus, &j->slot, call, on_answer, j, usec);
        if (r < 0) {
                sd_bus_error none = SD_BUS_ERROR_NULL;

                return client_fail_bus(c, r, &none, what);
        }
        j->next = c->async_jobs;
        c->async_jobs = TAKE_PTR(j);
        return 0;
}

void tdi_client_set_async(struct tdi_client *c, tdi_job_callback callback, void *userdata) {
        c->started = callback;
        c->started_data = userdata;
}

int tdi_client_cancel_job(struct tdi_client *c, const char *job_id) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        char path[64], action[64], object[64];
        struct client_what what = { action, object };
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (isempty(job_id) || strlen(job_id) > 20 || strspn(job_id, "0123456789") != strlen(job_id))
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "'%s' is no id of a job.", strempty(job_id));
        (void) snprintf(path, sizeof(path), TDI_PATH_JOB "%s", job_id);
        (void) snprintf(action, sizeof(action), "cancel job %s", job_id);
        (void) snprintf(object, sizeof(object), "job %s", job_id);
        r = client_new_call(c, path, TDI_IFACE_JOB, "Cancel", &m);
        return r < 0 ? r : client_call(c, m, &what, &reply);
}
