/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The D-Bus side: every name on the bus stands here. One file per interface; each method reads, validates, authorises, acts and
 * replies, in that order. Objects are looked up by path at every call, so that a method may be run again from its start.
 */
#ifndef TDID_BUS_H
#define TDID_BUS_H

#include "bus/polkit.h"
#include "custody.h"
#include "job.h"
#include "manager.h"

#define BUS_MANAGER "org.tdid1.Manager"
#define BUS_VM "org.tdid1.VM"
#define BUS_TDI "org.tdid1.TDI"
#define BUS_DEVICE "org.tdid1.Device"
#define BUS_TSM "org.tdid1.TSM"
#define BUS_JOB "org.tdid1.Job"

extern const sd_bus_vtable bus_manager_vtable[], bus_vm_vtable[], bus_tdi_vtable[], bus_device_vtable[], bus_tsm_vtable[], bus_job_vtable[];

/* Connects to "system", "session" or an address, and puts the objects there. The name is asked for later. */
int bus_open(Manager *m, const char *bus);
int bus_request_name(Manager *m, void (*done)(Manager *m, int r));
void bus_close(Manager *m);

/* Signals; nothing happens before the name is ours. bus_changed() takes property names up to NULL. */
void bus_added(Manager *m, const char *path, const char *interface);
void bus_removed(Manager *m, const char *path, const char *interface);
void bus_changed(Manager *m, const char *path, const char *interface, ...) __attribute__((__sentinel__));
void bus_emit_closing(Manager *m, const char *path, const char *reason);
void bus_emit_iommu_event(Manager *m, const char *path, const char *bdf, const char *event, const char *text);
void bus_emit_failed(Manager *m, const char *path, const char *reason);
/* The TDI goes: who waits for an answer to GuestRequest gets none (requests.c). */
void bus_end_guest_requests(TDI *t);
void bus_emit_finished(const Job *j);

/*
 * The methods that act have a twin that only says what they would do: PlanX() takes what X() takes, is the same function up to where it would begin,
 * refuses what that refuses, and answers with {"schema", "plan": …} (plan.h).
 */
bool bus_is_plan(sd_bus_message *call);

/* Replies to a Describe() with {"schema", KEY: @o}; takes the object. */
int bus_reply_description(sd_bus_message *call, const char *key, struct json_object *o);
/* Describe() of a VM, when its holder has answered, or after a second without. Takes no reference to the VM. */
int bus_describe_vm(VM *vm, uid_t uid, sd_bus_message *call);
/* DescribeHost(): the same of this host, when a worker has read it. */
int bus_describe_host(Manager *m, sd_bus_message *call, sd_bus_error *e);
/* Check(): what it can do, when a worker has looked. */
int bus_check(Manager *m, sd_bus_message *call, sd_bus_error *e);
/* The VM goes: who still waits is told. */
void bus_describe_end(VM *vm);
/* Answers a call that waited for its job. */
void bus_reply_job(Job *j);
/* Replies at once with the job where the caller said async, else remembers the call. */
int bus_job_started(Job *j, sd_bus_message *call, bool async);

/* Sets an org.tdid1.Error; its value is a negative errno for the method to return. */
#define bus_error(...) (bus_set_error(__VA_ARGS__), -EPROTO)
void bus_set_error(sd_bus_error *e, enum tdi_error error, const char *format, ...) _printf_(3, 4);

/* ---- refused.c: what methods refuse is audited ---- */

/* The same vtable, whose methods' errors are. Once an interface. */
const sd_bus_vtable *bus_audited(const char *interface, const sd_bus_vtable *vtable);
void bus_audited_free(void);
/*
 * A method that did not answer at once: @r and @e as sd-bus would have got them. Nothing happens if it did not refuse. @action: what polkit
 * was asked for, NULL when it was not.
 */
void bus_method_refused(Manager *m, sd_bus_message *call, const char *action, int r, const sd_bus_error *e);
/* The same, and whoever waits is told: the caller, or its job where it has been answered with one. Frees what is in @e. */
void bus_refuse(Manager *m, sd_bus_message *call, const char *action, int r, sd_bus_error *e);
/* A method that waited, from its start: what has been asked meanwhile is there. What it refuses now goes the same way. */
void bus_run_again(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, const char *action);

/* Objects by path; NULL. */
VM *bus_vm(Manager *m, const char *path);
TDI *bus_tdi(Manager *m, const char *path);
Device *bus_device(Manager *m, const char *path);
Tsm *bus_tsm(Manager *m, const char *path);
Job *bus_job(Manager *m, const char *path);

/* ---- access.c: who calls ---- */

/*
 * The caller's uid: 1 with it; 0 when the bus has to be asked first, then the method is run again from its start; negative errno.
 */
int access_caller(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, uid_t *ret, sd_bus_error *e);
/* The caller of a method that access_caller() has let run. */
uid_t access_known(Manager *m, sd_bus_message *call);
/* Root, or who runs tdid. */
bool access_is_master(uid_t uid);
/* What is to be done, and to what. Rules of polkit see all of it, and the method's name. */
struct access {
        enum polkit_action action; /* what somebody needs who does not own the VM */
        bool has_owner;
        uid_t owner;
        const char *vm, *device;   /* a VM's name, addresses of functions with spaces between; NULL: none */
};

/*
 * May the caller? Root, always; an owner its VM; others where polkit says so. Results of access_caller(): the method is run again when polkit has
 * answered, and a method that needs more than one permission asks for one after the other. Nothing may have been done before.
 */
int access_check(Manager *m, const struct access *a, sd_bus_message *call, sd_bus_message_handler_t method, uid_t *ret, sd_bus_error *e);
/* For what is nobody's but the host's; @device may be NULL. */
int access_host(Manager *m, enum polkit_action action, const char *device, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e);
/* For what a VM's owner may do to it. */
int access_vm(Manager *m, enum polkit_action action, const VM *vm, const char *device, sd_bus_message *call, sd_bus_message_handler_t method, uid_t *ret,
              sd_bus_error *e);
/* The same of a job of a VM, which may be no more. */
int access_job(Manager *m, enum polkit_action action, const Job *j, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e);
/* May a user know physical addresses? */
bool access_sees_addresses(uid_t uid);
void access_free(struct callers *c);

/* ---- public.c: what any local user may know of a failure ---- */

/* The errno that a text names, as "EBUSY"; "" for none. */
const char *public_errno(const char *text);
/* Of a job that failed: kind, functions, error, errno. */
void public_job_text(const Job *j, char *buf, size_t size);
/* Why a function is quarantined: step, driver, errno. */
void public_quarantine(const Custody *c, bool gone, char *buf, size_t size);

/* ---- options.c: a{sv} ---- */

struct option {
        const char *key;
        char type;     /* s, u, b, or a: a nested a{sv} with @nested */
        size_t offset; /* into the caller's struct: s: const char * (the message's), u: int64_t (-1 stays: not given), b: bool */
        const struct option *nested;
};

/* Reads an a{sv} into a struct. Unknown keys, wrong types and keys that come twice are refused. The table ends with a NULL key. */
int options_read(sd_bus_message *m, const struct option *options, void *base, sd_bus_error *e);

bool name_is_valid(const char *name);
bool label_is_valid(const char *label);
bool uuid_is_valid(const char *uuid);

#endif
