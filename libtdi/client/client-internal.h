/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the client share: the object, its errors, calls and waiting. Not part of the API. */
#ifndef TDI_CLIENT_INTERNAL_H
#define TDI_CLIENT_INTERNAL_H

#include <systemd/sd-bus.h>

#include <tdi/client.h>

#include "names.h"
#include "util/util.h"

struct tdi_client {
        sd_bus *bus;
        char *bus_label; /* for people: "the system bus" */

        char *error_text;
        enum tdi_error error;

        tdi_progress_callback progress;
        void *progress_data;
        int wake_fd; /* borrowed, -1: none */
        bool in_callback;
        bool interactive;
        bool dry_run;
        bool no_autostart;
        char *plan; /* of the last call that would have acted; NULL */

        tdi_job_callback started; /* jobs are not waited for; see async.c */
        void *started_data;
        struct async_job *async_jobs;
        sd_bus_slot *async_signals, *async_owner; /* while there are any */

        tdi_event_callback event;
        void *event_data;
        sd_bus_slot *event_slot;
        sd_bus_slot *event_owner_slot;
        char *event_owner; /* unique name of tdid while subscribed; NULL: not there */
        bool event_stop;
};

/* What a call that failed was about, for the text and for telling "no such object" from the rest. */
struct client_what {
        const char *action; /* "attach to VM 3" */
        const char *object; /* "VM 3": named when the object is not there; may be NULL */
};

/* Copies a caller's struct of whatever age: what it lacks is 0, what we lack must be 0. -EINVAL, -E2BIG. */
int client_copy_struct(void *to, size_t to_size, const void *from, size_t from_size);

/* Starts a public function: refuses a callback's call, forgets the last error. */
int client_enter(struct tdi_client *c);

/* Stores the text and returns r, so that it ends a function. */
int client_fail(struct tdi_client *c, int r, enum tdi_error error, const char *format, ...) _printf_(4, 5);
int client_fail_bus(struct tdi_client *c, int r, const sd_bus_error *e, const struct client_what *what);
int client_fail_named(struct tdi_client *c, const char *name, const char *text, const struct client_what *what);
int client_fail_answer(struct tdi_client *c, int r, const struct client_what *what);

int client_new_call(struct tdi_client *c, const char *path, const char *interface, const char *member, sd_bus_message **ret);
/* The call says only what it would do; its answer becomes the client's plan. */
int client_read_plan(struct tdi_client *c, sd_bus_message *call, const struct client_what *what);
/* What creating a VM with these functions would do. */
int client_plan_vm(struct tdi_client *c, const char *name, const struct tdi_vm_options *options, const struct tdi_function *functions, size_t n);
/* With a time limit in µs; 0: the bus's own. */
int client_call_for(struct tdi_client *c, sd_bus_message *call, uint64_t usec, const struct client_what *what, sd_bus_message **ret_reply);
int client_call(struct tdi_client *c, sd_bus_message *call, const struct client_what *what, sd_bus_message **ret_reply);

/* Makes a call that answers with one string, the caller's. */
int client_read_text_for(struct tdi_client *c, sd_bus_message *call, uint64_t usec, const struct client_what *what, char **ret);
int client_read_text(struct tdi_client *c, sd_bus_message *call, const struct client_what *what, char **ret);

/* The next argument of an answer, @thing, as a descriptor of ours, the caller's. */
int client_read_fd(struct tdi_client *c, sd_bus_message *reply, const struct client_what *what, const char *thing, int *ret);

/* The patience with a call: @usec, or longer while a person may be asked. */
uint64_t client_patience(struct tdi_client *c, uint64_t usec);

/* Sends the call of a job, whose ends are reported to c->started. */
int client_start_job(struct tdi_client *c, sd_bus_message *call, const struct client_what *what);
/* Ends all that client_start_job() began: reported as lost with the connection, or dropped unreported. */
void client_lose_jobs(struct tdi_client *c);
void client_drop_jobs(struct tdi_client *c);

/* Starts the job of a call whose options have async, and waits for its end, unless c->started is to be told of it. */
int client_run_job(struct tdi_client *c, sd_bus_message *call, const struct client_what *what);

/* Waits for the bus, a CLOCK_MONOTONIC time and, unless ret_woken is NULL, the wake descriptor. */
int client_poll(struct tdi_client *c, uint64_t until_usec, bool *ret_woken);
uint64_t client_now(void);

/* "7" of "/org/tdid1/vm/7"; NULL when the path is not under the prefix or holds more than one label. */
const char *client_path_id(const char *path, const char *prefix);

#endif
