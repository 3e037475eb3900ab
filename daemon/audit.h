/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Audit: every decision and every change of state is one entry of the journal, with a MESSAGE_ID that never changes and with fields
 * (tdid.journal-fields(7)). Each event has a call of its own here, whose arguments the compiler checks; what it says is a row of
 * audit_table. An entry is text for people too: where log lines go to stderr, and that is not the same journal, the event is one of them.
 *
 * Nothing here waits: entries that the journal does not take now are kept, up to a limit, and what is lost is counted and said.
 */
#ifndef TDID_AUDIT_H
#define TDID_AUDIT_H

#include "manager.h"

enum audit_event {
        AUDIT_STARTED,
        AUDIT_STOPPING,
        AUDIT_LEAVING,
        AUDIT_ENDED,
        AUDIT_LOST,
        AUDIT_VM_CREATED,
        AUDIT_VM_PHASE,
        AUDIT_VM_CLOSING,
        AUDIT_VM_GONE,
        AUDIT_VM_RECOVERED,
        AUDIT_VM_NOT_RECOVERED,
        AUDIT_HOLDER_DIED,
        AUDIT_KVM_SET,
        AUDIT_KVM_GONE,
        AUDIT_KEEPER_ADDED,
        AUDIT_KEEPER_ENDED,
        AUDIT_CONNECTED,
        AUDIT_DISCONNECTED,
        AUDIT_NOTE,
        AUDIT_JOB_STARTED,
        AUDIT_JOB_DONE,
        AUDIT_JOB_FAILED,
        AUDIT_TDI_STATE,
        AUDIT_TDI_FAILED,
        AUDIT_TDI_TDISP,
        AUDIT_TDI_UNBOUND,
        AUDIT_TDI_MISMATCH,
        AUDIT_TDI_RECOVERED,
        AUDIT_CUSTODY,
        AUDIT_CUSTODY_OVER,
        AUDIT_CUSTODY_WANTED,
        AUDIT_QUARANTINED,
        AUDIT_RESTORED,
        AUDIT_TSM_CONNECTED,
        AUDIT_TSM_DISCONNECTED,
        AUDIT_TSM_LOST,
        AUDIT_HANDOFF,
        AUDIT_ASSOCIATION_OPENED,
        AUDIT_ASSOCIATED,
        AUDIT_EXPORT_MADE,
        AUDIT_EXPORT_STATE,
        AUDIT_DENIED,
        AUDIT_REFUSED,
        AUDIT_REQUEST_REFUSED,
        AUDIT_DECISION,
        AUDIT_POLICY_LOADED,
        AUDIT_POLICY_REFUSED,
        AUDIT_EVIDENCE_COLLECTED,
        AUDIT_EVIDENCE_VERIFIED,
        AUDIT_GUARD_REFUSED,
        AUDIT_EVENT_MAX
};

/* The names of the fields are "TDID_" and these. */
#define AUDIT_FIELDS(X)                                                                                                                        \
        X(EVENT) X(VM) X(VM_ID) X(OWNER) X(HOLDER) X(PLATFORM) X(CALLER) X(BDF) X(DSM) X(TSM) X(OLD) X(NEW) X(JOB) X(KIND) X(RESULT) X(ERROR)   \
        X(REASON) X(RULE) X(RULE_FILE) X(RULE_LINE) X(RULE_COLUMN) X(ACTION) X(METHOD) X(KEEPER) X(LABEL) X(PID) X(STEP) X(EXPORT) X(REGION)   \
        X(CLASS) X(IMPORTER) X(SOURCE) X(DIGEST) X(NONCE) X(COUNT) X(VERSION) X(COMM)

enum audit_field {
#define AUDIT_FIELD_ENUM(name) AUDIT_F_##name,
        AUDIT_FIELDS(AUDIT_FIELD_ENUM)
#undef AUDIT_FIELD_ENUM
        AUDIT_FIELD_MAX
};

#define AUDIT_NOT_LOGGED (-1)

struct audit_row {
        const char *name, *id; /* of TDID_EVENT; MESSAGE_ID: 32 hex digits, for ever */
        int priority;          /* in the journal */
        int log;               /* on stderr, or AUDIT_NOT_LOGGED */
        uint64_t fields;       /* bits of enum audit_field that an entry always has */
        uint64_t optional;     /* and may have */
        const char *message;   /* {FIELD} is its value; what stands in [] is left out when a field in it is not there */
};

extern const struct audit_row audit_table[AUDIT_EVENT_MAX];
const char *audit_field_name(enum audit_field field);

/* "journal", "none", or a file: entries are appended to it as lines of JSON. Until then there are none. */
int audit_open(sd_event *event, const char *where);
/* Entries that were kept are sent, or lost, within a second. */
void audit_close(void);
/* What is told meanwhile is not new: an earlier tdid has written it down. */
void audit_pause(bool pause);

/* ---- the daemon ---- */

void audit_started(const char *host);
/* Everything is given back, or left with the holders. */
void audit_stopping(size_t n_vms);
void audit_leaving(const char *reason, size_t n_vms);
void audit_ended(int result);

/* ---- VMs ---- */

void audit_vm_created(const VM *vm, uid_t caller);
void audit_vm_phase(const VM *vm, enum tdi_vm_phase phase);
void audit_vm_closing(const VM *vm, const char *reason);
void audit_vm_gone(const VM *vm);
void audit_vm_recovered(const VM *vm);
/* Only its holder's number is known. */
void audit_vm_not_recovered(const VM *vm, const char *reason);
void audit_holder_died(const VM *vm);
void audit_kvm_set(const VM *vm, uid_t caller);
/* The same of one that was found among the descriptors of a process; which goes with that. */
void audit_kvm_found(const VM *vm, pid_t pid);
void audit_kvm_gone(const VM *vm);
void audit_keeper_added(const Keeper *k);
void audit_keeper_ended(const Keeper *k);
/* Of a vPCI socket. */
void audit_connected(const TDI *t, pid_t pid, uid_t uid);
void audit_disconnected(const Keeper *k, const char *why);

/* ---- jobs: what somebody asked for ---- */

void audit_job_started(const Job *j);
void audit_job_ended(const Job *j);

/* ---- functions ---- */

void audit_tdi_state(const TDI *t, enum tdi_state state);
void audit_tdi_failed(const TDI *t, const char *reason);
void audit_tdi_tdisp(const TDI *t, enum tdi_tdisp state);
/* It is unbound, or found so, though nobody asked for that. */
void audit_tdi_unbound(const TDI *t, const char *reason);
void audit_tdi_mismatch(const TDI *t, const char *reason);
void audit_tdi_recovered(const TDI *t);
/* Something that happened to it, or that its VMM did. The caller sees to it that there are not too many. */
void audit_note(const TDI *t, const char *what, const char *text);
void audit_custody(const Custody *c, enum tdi_custody step);
void audit_custody_over(const Custody *c);
void audit_custody_wanted(const Custody *c);
void audit_quarantine(const Custody *c);
void audit_tsm_connected(const char *dsm, const char *tsm, const Custody *for_whom);
void audit_tsm_disconnected(const char *dsm, const char *tsm, const Custody *for_whom);
void audit_tsm_lost(const Custody *c, const char *dsm, const char *reason);
void audit_handoff(const TDI *t, uid_t caller);
void audit_association_opened(const VM *vm, uid_t caller);
void audit_associated(const Custody *c);

struct Export;
void audit_export_made(const struct Export *x);
void audit_export_state(const struct Export *x, enum tdi_dmabuf_state state);

/* ---- decisions ---- */

/* Who calls a method, of which so many are refused that not all are told: @method, @text are a stranger's. */
struct audit_call {
        const char *method;
        uid_t caller;
        bool known; /* is the caller? */
        const VM *vm;
        const char *bdf;
};
/* Not authorised: @action is polkit's, or NULL. */
void audit_denied(const struct audit_call *call, const char *action, const char *text);
/* Refused for another reason: @error is its name, "InUse". */
void audit_refused(const struct audit_call *call, const char *error, const char *text);

/* What the policy says. */
struct audit_rule {
        const char *name, *file; /* NULL: none has decided, the default has */
        unsigned line;
};
/* May @vm have the function? @reason: what is missing, or NULL. */
void audit_decision(const VM *vm, const char *bdf, uid_t caller, bool allow, const struct audit_rule *rule, const char *reason);
/* @source: the folders. */
void audit_policy_loaded(size_t n_rules, const char *source);
/* What there was before stays in force. */
void audit_policy_refused(const char *file, unsigned line, unsigned column, const char *reason);
/* @digest: of what is in the archive; @nonce: in hex, the one that was asked with and is public, or NULL. */
void audit_evidence_collected(const char *bdf, const char *source, const char *digest, const char *nonce);
/* @reason: NULL when nothing is wrong with it. */
void audit_evidence_verified(const char *bdf, const char *source, const char *digest, const char *nonce, const char *reason);

/* The mmap guard has refused something of the function, or of none (NULL), to a process. Not all are told where there are many. */
void audit_guard_refused(const Custody *c, const char *kind, pid_t pid, const char *comm, uid_t uid);

#endif
