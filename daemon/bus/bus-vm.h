/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the VM interface share. */
#ifndef TDID_BUS_BUS_VM_H
#define TDID_BUS_BUS_VM_H

#include "bus/bus.h"

struct Export;

/* The options of a method that is a job and has no others. */
struct bus_act {
        bool async;
};
extern const struct option bus_act_options[];

struct plan;

int bus_method_attach(sd_bus_message *call, void *userdata, sd_bus_error *e);
/*
 * Reads the functions of a call that would attach them to a VM which there is not, or not yet, and adds them to its plan; none are none.
 * 1; 0: @method runs again; negative with @e.
 */
int bus_plan_attach(struct plan *p, VM *vm, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e);
int bus_method_handoff(sd_bus_message *call, void *userdata, sd_bus_error *e);

/* evidence.c */
int bus_method_evidence(sd_bus_message *call, void *userdata, sd_bus_error *e);
void bus_evidence_end(Manager *m);

/* policy.c */
int bus_method_reload(sd_bus_message *call, void *userdata, sd_bus_error *e);
int bus_method_explain_policy(sd_bus_message *call, void *userdata, sd_bus_error *e);

/* requests.c */
int bus_method_open_requests(sd_bus_message *call, void *userdata, sd_bus_error *e);
int bus_method_guest_request(sd_bus_message *call, void *userdata, sd_bus_error *e);

/* export.c */
int bus_method_export_dmabuf(sd_bus_message *call, void *userdata, sd_bus_error *e);
int bus_method_create_shared_buffer(sd_bus_message *call, void *userdata, sd_bus_error *e);
/* Answer the call of an export, which is forgotten then; the first does nothing where nobody waits. */
void bus_reply_export(struct Export *x);
void bus_refuse_export(struct Export *x, enum tdi_error error, const char *text);
/* "Revoked" or "Restored". */
void bus_emit_export(const TDI *t, const char *signal, uint64_t id);

int bus_vm_of_call(Manager *m, sd_bus_message *call, VM **ret, sd_bus_error *e);
int bus_vm_is_open(VM *vm, sd_bus_error *e);
int bus_job_new(Manager *m, enum job_kind kind, VM *vm, bool (*settle)(Job *j), Job **ret, sd_bus_error *e);

#endif
