/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The events: which of what tdid knows goes into which field. */
#include "audit-entry.h"

#include <stdio.h>

#include "custody.h"
#include "export.h"
#include "job.h"
#include "vm.h"

#define T(name, value) { AUDIT_F_##name, AUDIT_TEXT, strempty(value), 0 }
#define N(name, value) { AUDIT_F_##name, AUDIT_NUMBER, NULL, value }
/* Where there is one. */
#define T_IF(condition, name, value) { AUDIT_F_##name, (condition) ? AUDIT_TEXT : AUDIT_ABSENT, (condition) ? strempty(value) : "", 0 }
#define N_IF(condition, name, value) { AUDIT_F_##name, (condition) ? AUDIT_NUMBER : AUDIT_ABSENT, NULL, (condition) ? (value) : 0 }
#define VM_IF(vm) T_IF(vm, VM, (vm)->name), T_IF(vm, VM_ID, (vm)->uuid), N_IF(vm, OWNER, (vm)->owner)
#define OF_VM(vm) T(VM, (vm)->name), T(VM_ID, (vm)->uuid), N(OWNER, (vm)->owner)

/* With a buffer bdf. */
#define OF_TDI(t) OF_VM((t)->vm), T(BDF, tdi_bdf_format((t)->bdf, bdf))

#define WRITE(event, ...)                                                       \
        do {                                                                    \
                const struct audit_value values[] = { __VA_ARGS__ };            \
                                                                                \
                audit_write(event, values, ARRAY_SIZE(values));                 \
        } while (0)

/* ---- the daemon ---- */

void audit_started(const char *host) {
        WRITE(AUDIT_STARTED, T(VERSION, TDID_VERSION), T(SOURCE, host));
}

void audit_stopping(size_t n_vms) {
        WRITE(AUDIT_STOPPING, N(COUNT, n_vms));
}

void audit_leaving(const char *reason, size_t n_vms) {
        WRITE(AUDIT_LEAVING, T(REASON, reason), N(COUNT, n_vms));
}

void audit_ended(int result) {
        char text[16];

        snprintf(text, sizeof(text), "%d", result);
        WRITE(AUDIT_ENDED, T(RESULT, text));
}

/* ---- VMs ---- */

void audit_vm_created(const VM *vm, uid_t caller) {
        WRITE(AUDIT_VM_CREATED, OF_VM(vm), T(HOLDER, vm->id), T(PLATFORM, vm->platform->name), N(CALLER, caller));
}

void audit_vm_phase(const VM *vm, enum tdi_vm_phase phase) {
        WRITE(AUDIT_VM_PHASE, OF_VM(vm), T(OLD, tdi_vm_phase_to_string(vm->phase)), T(NEW, tdi_vm_phase_to_string(phase)));
}

void audit_vm_closing(const VM *vm, const char *reason) {
        WRITE(AUDIT_VM_CLOSING, OF_VM(vm), T(REASON, reason));
}

void audit_vm_gone(const VM *vm) {
        /* One that was never made, or that an earlier tdid's holder knew nothing of. */
        if (!vm->announced) {
                log_info("VM %s is gone", vm->name);
                return;
        }
        WRITE(AUDIT_VM_GONE, OF_VM(vm));
}

void audit_vm_recovered(const VM *vm) {
        WRITE(AUDIT_VM_RECOVERED, OF_VM(vm), T(HOLDER, vm->id), T(NEW, tdi_vm_phase_to_string(vm->phase)), N(PID, (uint64_t) holder_pid(vm->holder)));
}

void audit_vm_not_recovered(const VM *vm, const char *reason) {
        WRITE(AUDIT_VM_NOT_RECOVERED, T(HOLDER, vm->id), T(REASON, reason));
}

void audit_holder_died(const VM *vm) {
        WRITE(AUDIT_HOLDER_DIED, OF_VM(vm), N(PID, (uint64_t) holder_pid(vm->holder)));
}

void audit_kvm_set(const VM *vm, uid_t caller) {
        WRITE(AUDIT_KVM_SET, OF_VM(vm), N(CALLER, caller));
}

void audit_kvm_found(const VM *vm, pid_t pid) {
        WRITE(AUDIT_KVM_SET, OF_VM(vm), N(PID, (uint64_t) pid));
}

void audit_kvm_gone(const VM *vm) {
        WRITE(AUDIT_KVM_GONE, OF_VM(vm));
}

static const char *kind_of(const Keeper *k) {
        return k->kind == KEEPER_PIDFD ? "process" : "lease";
}

void audit_keeper_added(const Keeper *k) {
        WRITE(AUDIT_KEEPER_ADDED, OF_VM(k->vm), T(KIND, kind_of(k)), N(KEEPER, k->number), N(CALLER, k->uid), T_IF(!isempty(k->label), LABEL, k->label));
}

void audit_keeper_ended(const Keeper *k) {
        WRITE(AUDIT_KEEPER_ENDED, OF_VM(k->vm), T(KIND, kind_of(k)), N(KEEPER, k->number), N(CALLER, k->uid), T_IF(!isempty(k->label), LABEL, k->label));
}

void audit_connected(const TDI *t, pid_t pid, uid_t uid) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_CONNECTED, OF_TDI(t), N(PID, (uint64_t) pid), N(CALLER, uid));
}

void audit_disconnected(const Keeper *k, const char *why) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_DISCONNECTED, OF_VM(k->vm), T(BDF, tdi_bdf_format(k->bdf, bdf)), N(PID, (uint64_t) k->pid), N(CALLER, k->uid), T(REASON, why));
}

/* ---- jobs ---- */

/* More functions than a VM can have are in no job: those of the configuration have a limit too. */
#define JOB_FUNCTIONS_MAX 256

static void job(enum audit_event event, const Job *j, const char *result) {
        struct audit_value values[10 + JOB_FUNCTIONS_MAX] = {
                N(JOB, j->id), T(KIND, job_kind_to_string(j->kind)), N(CALLER, j->caller), VM_IF(j->vm), T_IF(result, RESULT, result),
                T_IF(event == AUDIT_JOB_FAILED, ERROR, tdi_error_to_name(j->error)), T_IF(event == AUDIT_JOB_FAILED, REASON, j->text),
        };
        char bdf[JOB_FUNCTIONS_MAX][TDI_BDF_MAX];
        size_t n = 9;

        for (size_t i = 0; i < j->n_bdfs && i < JOB_FUNCTIONS_MAX; i++)
                values[n++] = (struct audit_value) T(BDF, tdi_bdf_format(j->bdfs[i], bdf[i]));
        audit_write(event, values, n);
}

void audit_job_started(const Job *j) {
        job(AUDIT_JOB_STARTED, j, NULL);
}

void audit_job_ended(const Job *j) {
        job(j->error == TDI_ERROR_NONE ? AUDIT_JOB_DONE : AUDIT_JOB_FAILED, j, tdi_job_state_to_string(j->state));
}

/* ---- functions ---- */

void audit_tdi_state(const TDI *t, enum tdi_state state) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_TDI_STATE, OF_TDI(t), T(OLD, tdi_state_to_string(t->state)), T(NEW, tdi_state_to_string(state)));
}

void audit_tdi_failed(const TDI *t, const char *reason) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_TDI_FAILED, OF_TDI(t), T(REASON, reason));
}

void audit_tdi_tdisp(const TDI *t, enum tdi_tdisp state) {
        char bdf[TDI_BDF_MAX];

        /* Nobody has known it before. */
        if (t->shown_tdisp == TDI_TDISP_INVALID && (state == TDI_TDISP_NONE || state == TDI_TDISP_UNLOCKED))
                return;
        WRITE(AUDIT_TDI_TDISP, OF_TDI(t), T(OLD, t->shown_tdisp == TDI_TDISP_INVALID ? "unknown" : tdi_tdisp_to_string(t->shown_tdisp)),
              T(NEW, tdi_tdisp_to_string(state)));
}

void audit_tdi_unbound(const TDI *t, const char *reason) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_TDI_UNBOUND, OF_TDI(t), T(REASON, reason));
}

void audit_tdi_mismatch(const TDI *t, const char *reason) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_TDI_MISMATCH, OF_TDI(t), T(REASON, reason));
}

void audit_tdi_recovered(const TDI *t) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_TDI_RECOVERED, OF_TDI(t), T(NEW, tdi_state_to_string(t->state)));
}

void audit_note(const TDI *t, const char *what, const char *text) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_NOTE, OF_TDI(t), T(KIND, what), T(REASON, text));
}

void audit_custody(const Custody *c, enum tdi_custody step) {
        if (c->announced != step)
                WRITE(AUDIT_CUSTODY, T(BDF, c->name), VM_IF(c->vm), T(OLD, tdi_custody_to_string(c->announced)), T(NEW, tdi_custody_to_string(step)));
}

void audit_custody_over(const Custody *c) {
        WRITE(AUDIT_CUSTODY_OVER, T(BDF, c->name), VM_IF(c->vm));
}

void audit_custody_wanted(const Custody *c) {
        WRITE(AUDIT_CUSTODY_WANTED, T(BDF, c->name), VM_IF(c->vm));
}

void audit_quarantine(const Custody *c) {
        const char *step = tdi_custody_to_string(custody_step(c));

        if (c->quarantine)
                WRITE(AUDIT_QUARANTINED, T(BDF, c->name), VM_IF(c->vm), T(STEP, step), T(REASON, c->quarantine));
        else
                WRITE(AUDIT_RESTORED, T(BDF, c->name), VM_IF(c->vm), T(STEP, step));
}

static void tsm(enum audit_event event, const char *dsm, const char *name, const Custody *c) {
        const VM *vm = c ? c->vm : NULL;

        WRITE(event, T(DSM, dsm), T(TSM, name), T_IF(c, BDF, c->name), VM_IF(vm));
}

void audit_tsm_connected(const char *dsm, const char *name, const Custody *for_whom) {
        tsm(AUDIT_TSM_CONNECTED, dsm, name, for_whom);
}

void audit_tsm_disconnected(const char *dsm, const char *name, const Custody *for_whom) {
        tsm(AUDIT_TSM_DISCONNECTED, dsm, name, for_whom);
}

void audit_tsm_lost(const Custody *c, const char *dsm, const char *reason) {
        WRITE(AUDIT_TSM_LOST, T(BDF, c->name), T(DSM, dsm), VM_IF(c->vm), T(REASON, reason));
}

void audit_handoff(const TDI *t, uid_t caller) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_HANDOFF, OF_TDI(t), N(CALLER, caller));
}

void audit_association_opened(const VM *vm, uid_t caller) {
        WRITE(AUDIT_ASSOCIATION_OPENED, OF_VM(vm), N(CALLER, caller));
}

void audit_associated(const Custody *c) {
        WRITE(AUDIT_ASSOCIATED, T(BDF, c->name), VM_IF(c->vm));
}

/* Nothing of where it is or how large. */
#define OF_EXPORT(x) OF_VM((x)->vm), N(EXPORT, (x)->id), T(KIND, (x)->is_memory ? "shared memory" : "export"), \
                     T_IF(!(x)->is_memory, BDF, tdi_bdf_format((x)->bdf, bdf)), N_IF(!(x)->is_memory, REGION, (x)->region)

void audit_export_made(const Export *x) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_EXPORT_MADE, OF_EXPORT(x), T(CLASS, tdi_dmabuf_class_to_string(x->class)), T(IMPORTER, tdi_importer_to_string(x->importer)), N(CALLER, x->uid));
}

void audit_export_state(const Export *x, enum tdi_dmabuf_state state) {
        char bdf[TDI_BDF_MAX];

        WRITE(AUDIT_EXPORT_STATE, OF_EXPORT(x), T(OLD, tdi_dmabuf_state_to_string(x->state)), T(NEW, tdi_dmabuf_state_to_string(state)));
}

/* ---- decisions ---- */

/* Anybody may have calls refused without end: so many of each uid are told in a while, and then how many were not. */
#define REFUSALS 20
#define WINDOW_USEC (10 * 1000000ULL)
#define USERS 32

static struct budget {
        bool used;
        uid_t uid;
        uint64_t since;
        unsigned told, left_out;
} budgets[USERS];

/* Its own, a free one, or that of who has been quiet for the longest time. */
static struct budget *budget_of(uid_t uid) {
        struct budget *best = budgets;

        for (size_t i = 0; i < USERS; i++) {
                struct budget *b = budgets + i;

                if (b->used && b->uid == uid)
                        return b;
                if (best->used && (!b->used || b->since < best->since))
                        best = b;
        }
        *best = (struct budget){ .used = true, .uid = uid, .since = now_monotonic() };
        return best;
}

static bool budget_lets(struct budget *b, unsigned *ret_left_out) {
        if (now_monotonic() - b->since > WINDOW_USEC) {
                b->since = now_monotonic();
                b->told = 0;
        }
        if (b->told >= REFUSALS) {
                b->left_out++;
                return false;
        }
        b->told++;
        *ret_left_out = b->left_out;
        b->left_out = 0;
        return true;
}

static bool may_tell(const struct audit_call *call, unsigned *ret_left_out) {
        return budget_lets(budget_of(call->known ? call->caller : (uid_t) -1), ret_left_out);
}

#define OF_CALL(call) T(METHOD, (call)->method), N_IF((call)->known, CALLER, (call)->caller), VM_IF(vm), T_IF((call)->bdf, BDF, (call)->bdf)

void audit_denied(const struct audit_call *call, const char *action, const char *text) {
        const VM *vm = call->vm;
        unsigned left_out;

        if (may_tell(call, &left_out))
                WRITE(AUDIT_DENIED, OF_CALL(call), T_IF(action, ACTION, action), T(REASON, text), N_IF(left_out > 0, COUNT, left_out));
}

void audit_refused(const struct audit_call *call, const char *error, const char *text) {
        enum audit_event event = streq(call->method, "GuestRequest") ? AUDIT_REQUEST_REFUSED : AUDIT_REFUSED;
        const VM *vm = call->vm;
        unsigned left_out;

        if (may_tell(call, &left_out))
                WRITE(event, OF_CALL(call), T(ERROR, error), T(REASON, text), N_IF(left_out > 0, COUNT, left_out));
}

/* So many in a while, of all processes together: any of them could be anybody's. */
static struct budget guard_budget;

void audit_guard_refused(const Custody *c, const char *kind, pid_t pid, const char *comm, uid_t uid) {
        const VM *vm = c ? c->vm : NULL;
        unsigned left_out;

        if (budget_lets(&guard_budget, &left_out))
                WRITE(AUDIT_GUARD_REFUSED, T(KIND, kind), N(PID, (uint64_t) pid), T(COMM, comm), N(CALLER, uid), T_IF(c, BDF, c->name), VM_IF(vm),
                      N_IF(left_out > 0, COUNT, left_out));
}

void audit_decision(const VM *vm, const char *bdf, uid_t caller, bool allow, const struct audit_rule *rule, const char *reason) {
        WRITE(AUDIT_DECISION, OF_VM(vm), T(BDF, bdf), N(CALLER, caller), T(RESULT, allow ? "allow" : "deny"), T_IF(rule && rule->name, RULE, rule->name),
              T_IF(rule && rule->file, RULE_FILE, rule->file), N_IF(rule && rule->line > 0, RULE_LINE, rule->line), T_IF(reason, REASON, reason));
}

void audit_policy_loaded(size_t n_rules, const char *source) {
        WRITE(AUDIT_POLICY_LOADED, N(COUNT, n_rules), T(SOURCE, source));
}

void audit_policy_refused(const char *file, unsigned line, unsigned column, const char *reason) {
        WRITE(AUDIT_POLICY_REFUSED, T(RULE_FILE, file), N(RULE_LINE, line), N(RULE_COLUMN, column), T(REASON, reason));
}

void audit_evidence_collected(const char *bdf, const char *source, const char *digest, const char *nonce) {
        WRITE(AUDIT_EVIDENCE_COLLECTED, T(BDF, bdf), T(SOURCE, source), T(DIGEST, digest), T_IF(nonce, NONCE, nonce));
}

void audit_evidence_verified(const char *bdf, const char *source, const char *digest, const char *nonce, const char *reason) {
        WRITE(AUDIT_EVIDENCE_VERIFIED, T(BDF, bdf), T(SOURCE, source), T(DIGEST, digest), T_IF(nonce, NONCE, nonce),
              T(RESULT, reason ? "refused" : "good"), T_IF(reason, REASON, reason));
}
