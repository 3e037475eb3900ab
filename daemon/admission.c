/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks the policy. */
#include "admission.h"

#include <stdio.h>

#include "association.h"
#include "audit.h"
#include "bus/bus.h"
#include "custody.h"
#include "device.h"
#include "export.h"
#include "guard/guard.h"
#include "ide.h"
#include "policy/report.h"
#include "proofs.h"
#include "vm.h"

/* What the policy is asked about. */
struct subject {
        Device *device; /* NULL: about the owner alone */
        const char *vm; /* NULL: no VM yet */
        uid_t owner;
        const char *platform;
        enum policy_mode mode;
        enum policy_access access;
        bool association;
        enum policy_answer ide;
        const struct policy_proof *proofs;
        size_t n_proofs;
        uint64_t now_usec;
        const Custody *custody; /* NULL: it would be attached only now */
};

/* ---- the policy ---- */

static int load(Manager *m, struct policy **ret, struct policy_error *why) {
        static const char *const standard[] = POLICY_DIRS;
        bool given = m->n_policy_dirs > 0;

        return policy_load(given ? m->policy_dirs : standard, given ? m->n_policy_dirs : ARRAY_SIZE(standard), ret, why);
}

int admission_load(Manager *m, char **ret_text) {
        struct policy_error why = {};
        struct policy *p = NULL;
        char text[800];
        int r;

        r = load(m, &p, &why);
        if (r < 0) {
                const char *what = why.text[0] ? policy_error_format(&why, text, sizeof(text)) : strerror(-r);

                audit_policy_refused(why.file, why.line, why.column, why.text[0] ? why.text : strerror(-r));
                /* While there is none, what is wrong is what is wrong now. */
                if (free_and_strdup(ret_text, what) < 0 || (!m->policy && free_and_strdup(&m->policy_error, what) < 0))
                        log_oom();
                return r;
        }
        policy_unref(m->policy);
        m->policy = p;
        free(m->policy_error);
        m->policy_error = NULL;
        audit_policy_loaded(policy_n_rules(p), m->n_policy_dirs > 0 ? m->policy_dirs[m->n_policy_dirs - 1] : POLICY_DIR_LOCAL);
        return 0;
}

void admission_begin(Manager *m) {
        _cleanup_free_ char *text = NULL;

        if (admission_load(m, &text) < 0)
                log_error("the policy is not taken, and nothing is attached until it is mended and reloaded: %s", strempty(text));
}

/* ---- facts ---- */

static void facts_of(Manager *m, const struct subject *f, struct policy_facts *ret) {
        const Device *d = f->device;

        *ret = (struct policy_facts){
                .proofs = f->proofs, .n_proofs = f->n_proofs, .now_usec = f->now_usec ? f->now_usec : now_realtime(), .vm = f->vm, .owner = f->owner,
                .platform = f->platform ? f->platform : platform_of_host(m)->name, .mode = f->mode, .access = f->access,
                /* Where there can be a guard, nothing is attached without. */
                .ide_secure = f->ide, .association = f->association,
                .guard = (f->custody ? custody_is_guarded(f->custody) : guard_is_on(m)) ? POLICY_YES : POLICY_NO,
                .guard_text = f->custody ? guard_state_of(f->custody) : guard_state(m),
        };
        if (!d)
                return;
        ret->has_device = true;
        ret->bdf = tdi_bdf_number(d->bdf);
        ret->path = d->parents;
        ret->n_path = d->n_parents;
        ret->vendor = d->vendor;
        ret->device = d->device;
        ret->subsystem_vendor = d->subsystem_vendor;
        ret->subsystem_device = d->subsystem_device;
        ret->class = d->class;
        ret->has_serial = d->has_serial;
        ret->serial = d->serial;
        ret->tee_io = d->tee & DEVICE_TEE_IO;
        ret->sriov = device_sriov(d) == DEVICE_SRIOV_VF ? POLICY_SRIOV_VF : device_sriov(d) == DEVICE_SRIOV_PF ? POLICY_SRIOV_PF : POLICY_SRIOV_NONE;
}

struct json_object *admission_all_evidence(Manager *m) {
        struct policy_wanted wanted[POLICY_PAIRS_MAX];

        return proofs_wanted(wanted, m->policy ? policy_all_evidence(m->policy, wanted) : 0);
}

static enum policy_mode mode_of(const VM *vm) {
        return vm->phase == TDI_VM_PREPARING ? POLICY_MODE_EARLY : POLICY_MODE_LATE;
}

/* What an attach would find: NO where the link has no IDE stream and gets none, because there is no TSM, no capability, or nobody connects its DSM. */
static enum policy_answer may_have_ide(const Manager *m, Device *d, bool unconnected) {
        Device *dsm = device_dsm(d);

        return !dsm || !(dsm->tee & DEVICE_IDE) || m->n_tsms == 0 || (unconnected && !dsm->tsm) ? POLICY_NO : POLICY_UNKNOWN;
}

/* And what there is now. */
static enum policy_answer has_ide(const Manager *m, Device *d) {
        Device *dsm = device_dsm(d);
        int secure = dsm ? ide_all_secure(dsm) : -EAGAIN;

        return secure < 0 ? may_have_ide(m, d, false) : secure ? POLICY_YES : POLICY_NO;
}

static struct subject subject_of(const VM *vm, Device *d, enum policy_mode mode, enum policy_access access) {
        return (struct subject){
                .device = d, .vm = vm->name, .owner = vm->owner, .platform = vm->platform->name, .mode = mode, .access = access,
                .association = vm->association.wanted,
        };
}

static void decide(Manager *m, const struct subject *f, struct policy_decision *ret) {
        struct policy_facts facts;

        facts_of(m, f, &facts);
        policy_decide(m->policy, &facts, ret);
}

/* ---- decisions ---- */

/* What the policy can say and tdid cannot do. */
static const char *not_done(const struct policy_decision *d, const struct subject *f) {
        if (d->on_illegal_config_write != POLICY_CONFIG_UNSAID && f->access == POLICY_ACCESS_HANDOFF)
                return "it says what becomes of illegal writes to config space (\"on_illegal_config_write\"), and whoever has the descriptors writes past tdid";
        return NULL;
}

static int refuse_without_policy(Manager *m, sd_bus_error *e) {
        return bus_error(e, TDI_ERROR_POLICY, "the policy could not be read, and until it is mended (`tdictl policy check`, then reload) nothing is admitted: %s",
                         strempty(m->policy_error));
}

static size_t count_functions(const Manager *m, uid_t owner) {
        size_t n = 0;

        for (size_t i = 0; i < m->n_vms; i++)
                n += m->vms[i]->owner == owner ? m->vms[i]->n_tdis : 0;
        return n;
}

/* By what there is, not by what is open this moment: so nobody passes the limit in between. */
static uint64_t count_fds(const Manager *m, uid_t owner) {
        uint64_t n = 0;

        for (size_t i = 0; i < m->n_vms; i++) {
                const VM *vm = m->vms[i];

                if (vm->owner != owner)
                        continue;
                n += ADMISSION_FDS_VM + vm->n_tdis * ADMISSION_FDS_FUNCTION + export_count(vm) * ADMISSION_FDS_EXPORT;
                /* Connections are the functions'. */
                for (size_t k = 0; k < vm->n_keepers; k++)
                        n += vm->keepers[k]->kind == KEEPER_VPCI ? 0 : ADMISSION_FDS_KEEPER;
        }
        return n;
}

/* With @more of them; why not, in the buffer. */
static bool passes_fds(const Manager *m, uid_t owner, uint64_t more, const struct policy_limits *limits, char *buf, size_t size) {
        const struct policy_rule *rule = limits->rule[POLICY_LIMIT_FDS];
        uint64_t max = limits->max[POLICY_LIMIT_FDS], n = max == UINT64_MAX || more == 0 ? 0 : count_fds(m, owner);

        if (max == UINT64_MAX || more == 0 || (n <= max && more <= max - n))
                return false;
        snprintf(buf, size, "%llu descriptors are kept for uid %u, this takes %llu more, and rule '%s' of the policy (%s:%u) lets it have %llu (\"fds\")",
                 (unsigned long long) n, owner, (unsigned long long) more, rule->name, rule->file, rule->line, (unsigned long long) max);
        return true;
}

bool admission_passes_fds(Manager *m, const char *vm, const char *platform, uid_t owner, uint64_t more, char *buf, size_t size) {
        const struct subject f = { .vm = vm, .platform = platform, .owner = owner };
        struct policy_limits limits;
        struct policy_facts facts;

        if (!m->policy)
                return false;
        facts_of(m, &f, &facts);
        policy_limits(m->policy, &facts, &limits);
        return passes_fds(m, owner, more, &limits, buf, size);
}

/* A rule that would have matched, had the device proved what it says: that it has not is what whoever asks has to know. */
static void tell_close(const struct policy_decision *d, const struct subject *f, char *buf, size_t size) {
        buf[0] = '\0';
        for (size_t i = 0; i < d->n_close; i++)
                for (size_t k = 0; d->close[i].failed == POLICY_KEY_EVIDENCE && k < f->n_proofs && !*buf; k++)
                        if (f->proofs[k].why)
                                snprintf(buf, size, "; rule '%s' (%s:%u) does not match: %s", d->close[i].rule->name, d->close[i].rule->file, d->close[i].rule->line,
                                         f->proofs[k].why);
}

static void audit_rule_of(const VM *vm, const struct subject *f, uid_t caller, const struct policy_decision *d, bool allow, const char *why) {
        const struct audit_rule rule = d->rule ? (struct audit_rule){ d->rule->name, d->rule->file, d->rule->line } : (struct audit_rule){};
        char bdf[TDI_BDF_MAX];

        audit_decision(vm, tdi_bdf_format(f->device->bdf, bdf), caller, allow, &rule, why);
}

/* 0: it is admitted. Root is refused by rules only. @more: how many functions the owner is to have besides those it has. */
static int judge(const VM *vm, const struct subject *f, uid_t caller, size_t more, const char *what, sd_bus_error *e) {
        struct policy_decision *d = malloc(sizeof(*d));
        char text[sizeof(d->text) + 900], close[900];
        const char *cannot;
        int r = 0;

        if (!d)
                return -ENOMEM;
        decide(vm->manager, f, d);
        cannot = not_done(d, f);
        if (d->verdict == POLICY_DENY && !(d->is_default && access_is_master(caller))) {
                tell_close(d, f, close, sizeof(close));
                snprintf(text, sizeof(text), "%s%s", d->text, close);
                r = bus_error(e, TDI_ERROR_POLICY, "%s: %s", what, text);
        } else if (cannot) {
                snprintf(text, sizeof(text), "the policy cannot be kept: %s", cannot);
                r = bus_error(e, TDI_ERROR_NOT_SUPPORTED, "%s: %s", what, text);
        } else if (count_functions(vm->manager, vm->owner) + more > d->limits.max[POLICY_LIMIT_DEVICES]) {
                const struct policy_rule *rule = d->limits.rule[POLICY_LIMIT_DEVICES];

                snprintf(text, sizeof(text), "uid %u has %zu functions, and rule '%s' of the policy (%s:%u) lets it have %llu (\"devices\")", vm->owner,
                         count_functions(vm->manager, vm->owner), rule->name, rule->file, rule->line, (unsigned long long) d->limits.max[POLICY_LIMIT_DEVICES]);
                r = bus_error(e, TDI_ERROR_LIMIT, "%s: %s", what, text);
        } else if (passes_fds(vm->manager, vm->owner, more * ADMISSION_FDS_FUNCTION, &d->limits, text, sizeof(text)))
                r = bus_error(e, TDI_ERROR_LIMIT, "%s: %s", what, text);
        if (r < 0)
                audit_rule_of(vm, f, caller, d, false, text);
        free(d);
        return r;
}

/* What no rule can be asked about: what is not known of a function denies nothing, where a rule might. */
static int check_known(Manager *m, Device *d, sd_bus_error *e) {
        char bdf[TDI_BDF_MAX];

        if (d->fixed && !d->unreadable)
                return 0;
        d->fixed = false;
        inventory_refresh(m, d->bdf);
        return bus_error(e, TDI_ERROR_BUSY, "%s: its config space %s; try again", tdi_bdf_format(d->bdf, bdf), d->unreadable ? "could not be read" : "has not been read yet");
}

int admission_check(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, VM *vm, Device *const *devices, const bool *unconnected, size_t n, uid_t caller,
                    sd_bus_error *e) {
        struct policy_proof proofs[POLICY_PAIRS_MAX];
        _cleanup_free_ struct subject *subjects = NULL;
        _cleanup_free_ struct policy_facts *facts = NULL;
        int r = 0;

        if (!m->policy)
                return refuse_without_policy(m, e);
        subjects = calloc(n + !n, sizeof(*subjects));
        facts = calloc(n + !n, sizeof(*facts));
        if (!subjects || !facts)
                log_oom();
        for (size_t i = 0; r >= 0 && i < n; i++) {
                subjects[i] = subject_of(vm, devices[i], mode_of(vm), POLICY_ACCESS_VPCI);
                facts_of(m, subjects + i, facts + i);
                r = check_known(m, devices[i], e);
        }
        if (r >= 0)
                r = proofs_collect(m, call, method, devices, facts, n, caller, e);
        if (r <= 0)
                return r;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                char bdf[TDI_BDF_MAX];

                subjects[i].ide = may_have_ide(m, devices[i], unconnected[i]);
                subjects[i].proofs = proofs;
                subjects[i].n_proofs = proofs_of(m, call, devices[i], proofs);
                r = judge(vm, subjects + i, caller, n, tdi_bdf_format(devices[i]->bdf, bdf), e);
        }
        return r < 0 ? r : 1;
}

/* ---- what was admitted ---- */

void admission_apply(Manager *m, sd_bus_message *call, const VM *vm, Device *d, uid_t caller, Custody *c) {
        struct policy_proof *proofs = calloc(POLICY_PAIRS_MAX, sizeof(*proofs));
        struct policy_decision *decision = malloc(sizeof(*decision));
        struct subject f = subject_of(vm, d, mode_of(vm), POLICY_ACCESS_VPCI);
        struct json_object *kept = json_new_array();

        if (!proofs || !decision)
                log_oom();
        f.proofs = proofs;
        f.n_proofs = proofs_of(m, call, d, proofs);
        decide(m, &f, decision);
        json_set_bool(c->values, "ide_required", decision->requires & 1u << POLICY_NEEDS_IDE);
        json_set_u64(c->values, "ide_reserve", decision->ide_reserve);
        json_set_str(c->values, "on_illegal_config_write", policy_config_write_to_string(decision->on_illegal_config_write));
        json_set_str(c->values, "admitted_by", decision->rule ? decision->rule->name : "");
        json_set_str(c->values, "admitted_mode", policy_mode_to_string(f.mode));
        for (size_t i = 0; i < f.n_proofs; i++) {
                struct json_object *o = json_new();

                json_set_str(o, "anchor", proofs[i].anchor);
                json_set_str(o, "references", proofs[i].references);
                json_set_u64(o, "time", proofs[i].time_usec);
                json_set_bool(o, "signed", proofs[i].is_signed);
                json_set_str(o, "why", proofs[i].why);
                json_push_take(kept, o);
        }
        json_set_take(c->values, "proofs", kept);
        if (!c->supposed)
                audit_rule_of(vm, &f, caller, decision, true, NULL);
        free(decision);
        free(proofs);
}

/* What it proved when it was attached, from its journal. */
static size_t kept_proofs(const Custody *c, struct policy_proof ret[static POLICY_PAIRS_MAX], uint64_t *ret_time) {
        struct json_object *kept;
        size_t n = 0;

        *ret_time = 0;
        if (json_get_array(c->values, "proofs", &kept) < 0)
                return 0;
        for (; n < json_object_array_length(kept) && n < POLICY_PAIRS_MAX; n++) {
                struct json_object *o = json_object_array_get_idx(kept, n);

                ret[n] = (struct policy_proof){
                        .anchor = json_str_or(o, "anchor", ""), .references = json_str_or(o, "references", NULL), .time_usec = json_u64_or(o, "time", 0),
                        .is_signed = json_bool_or(o, "signed", false), .why = json_str_or(o, "why", NULL),
                };
                *ret_time = ret[n].time_usec;
        }
        return n;
}

/* Asks about a function that a VM has, with what was known of it then: it has grown older since, and no worse. */
static void decide_again(const TDI *t, enum policy_access access, struct policy_proof proofs[static POLICY_PAIRS_MAX], struct subject *ret_subject) {
        const Custody *c = t->custody;
        const char *mode = json_str_or(c->values, "admitted_mode", "");

        *ret_subject = subject_of(t->vm, device_find(t->vm->manager, c->bdf), POLICY_MODE_UNKNOWN, access);
        for (int i = 0; i < _POLICY_MODE_MAX; i++)
                if (streq(mode, strempty(policy_mode_to_string(i))))
                        ret_subject->mode = i;
        ret_subject->association = custody_is_associated(c);
        ret_subject->custody = c;
        ret_subject->proofs = proofs;
        ret_subject->n_proofs = kept_proofs(c, proofs, &ret_subject->now_usec);
}

int admission_check_handoff(const TDI *t, uid_t caller, sd_bus_error *e) {
        Manager *m = t->vm->manager;
        struct policy_proof *proofs;
        struct subject f;
        char what[64];
        int r;

        if (!m->policy)
                return refuse_without_policy(m, e);
        proofs = calloc(POLICY_PAIRS_MAX, sizeof(*proofs));
        if (!proofs)
                log_oom();
        decide_again(t, POLICY_ACCESS_HANDOFF, proofs, &f);
        snprintf(what, sizeof(what), "%s is not handed off", t->custody->name);
        r = judge(t->vm, &f, caller, 0, what, e);
        free(proofs);
        return r;
}

const char *admission_drift(const TDI *t, char *buf, size_t size) {
        Manager *m = t->vm->manager;
        struct policy_decision *d;
        struct policy_proof *proofs;
        struct subject f;

        buf[0] = '\0';
        if (!m->policy)
                return buf;
        proofs = calloc(POLICY_PAIRS_MAX, sizeof(*proofs));
        d = malloc(sizeof(*d));
        if (!proofs || !d)
                log_oom();
        decide_again(t, POLICY_ACCESS_VPCI, proofs, &f);
        decide(m, &f, d);
        /* Whom the default denies root has given it. */
        if (d->verdict == POLICY_DENY && !d->is_default)
                snprintf(buf, size, "it would not be attached any more: %s", d->text);
        free(d);
        free(proofs);
        return buf;
}

/* What it was judged by, so that whoever asks sees it. Serial numbers are read from where only root reads. */
static struct json_object *facts_to_json(const struct policy_facts *f, bool sees_all) {
        struct json_object *o = json_new(), *path = json_new_array(), *evidence = json_new_array();
        static const char *const answers[] = { [POLICY_UNKNOWN] = NULL, [POLICY_NO] = "insecure", [POLICY_YES] = "secure" };
        char text[32];

        if (f->has_device) {
                json_set_str(o, "device", tdi_bdf_format(device_bdf(f->bdf), text));
                for (size_t i = 0; i < f->n_path; i++)
                        json_push_str(path, tdi_bdf_format(device_bdf(f->path[i]), text));
                snprintf(text, sizeof(text), "%04x:%04x", f->vendor, f->device);
                json_set_str(o, "id", text);
                snprintf(text, sizeof(text), "%04x:%04x", f->subsystem_vendor, f->subsystem_device);
                json_set_str(o, "subsystem", text);
                snprintf(text, sizeof(text), "%06x", f->class & 0xffffff);
                json_set_str(o, "class", text);
                snprintf(text, sizeof(text), "%016llx", (unsigned long long) f->serial);
                json_set_str(o, "serial", sees_all && f->has_serial ? text : NULL);
                json_set_bool(o, "tee_io", f->tee_io);
                json_set_str(o, "sriov", policy_sriov_to_string(f->sriov));
        }
        json_set_take(o, "path", path);
        for (size_t i = 0; i < f->n_proofs; i++) {
                struct json_object *one = json_new();

                json_set_str(one, "anchor", f->proofs[i].anchor);
                json_set_str(one, "references", f->proofs[i].references);
                json_set_bool(one, "signed", f->proofs[i].is_signed);
                json_set_str(one, "why", f->proofs[i].why);
                json_push_take(evidence, one);
        }
        json_set_take(o, "evidence", evidence);
        json_set_str(o, "ide", answers[f->ide_secure]);
        json_set_str(o, "vm", f->vm);
        json_set_u64(o, "owner", f->owner);
        json_set_str(o, "platform", f->platform);
        json_set_str(o, "mode", policy_mode_to_string(f->mode));
        json_set_str(o, "access", policy_access_to_string(f->access));
        json_set_bool(o, "association", f->association);
        return o;
}

int admission_explain(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, const struct admission_question *q, uid_t caller, struct json_object **ret,
                      sd_bus_error *e) {
        struct subject f = {
                .device = q->device, .vm = q->vm, .owner = q->owner, .platform = q->platform, .mode = q->mode, .access = q->access, .association = q->association,
        };
        struct policy_proof proofs[POLICY_PAIRS_MAX];
        struct policy_facts facts;
        int r = 0;

        if (!m->policy)
                return refuse_without_policy(m, e);
        if (q->device) {
                r = check_known(m, q->device, e);
                if (r < 0)
                        return r;
                f.ide = q->ide != POLICY_UNKNOWN ? q->ide : has_ide(m, q->device);
        }
        facts_of(m, &f, &facts);
        if (q->device && q->evidence) {
                r = proofs_collect(m, call, method, &q->device, &facts, 1, caller, e);
                if (r <= 0)
                        return r;
                facts.proofs = proofs;
                facts.n_proofs = proofs_of(m, call, q->device, proofs);
                facts.now_usec = now_realtime();
        }
        *ret = policy_explain(m->policy, &facts);
        json_set_take(*ret, "facts", facts_to_json(&facts, access_is_master(caller)));
        proofs_forget(m, call);
        return 1;
}

uint64_t admission_limit(Manager *m, const char *vm, const char *platform, uid_t owner, enum policy_limit which, uint64_t configured) {
        const struct subject f = { .vm = vm, .platform = platform, .owner = owner };
        struct policy_limits limits;
        struct policy_facts facts;

        if (!m->policy)
                return configured;
        facts_of(m, &f, &facts);
        policy_limits(m->policy, &facts, &limits);
        return limits.max[which] < configured ? limits.max[which] : configured;
}

struct json_object *admission_describe(Manager *m) {
        struct json_object *o = json_new(), *files = json_new_array();

        json_set_bool(o, "loaded", m->policy);
        json_set_str(o, "error", m->policy_error);
        json_set_u64(o, "rules", m->policy ? policy_n_rules(m->policy) : 0);
        for (size_t i = 0; m->policy && i < policy_n_files(m->policy); i++) {
                bool masked;

                const char *file = policy_get_file(m->policy, i, &masked);

                if (!masked)
                        json_push_str(files, file);
        }
        json_set_take(o, "files", files);
        return o;
}

void admission_free(Manager *m) {
        proofs_end(m);
        m->policy = policy_unref(m->policy);
        free(m->policy_error);
        m->policy_error = NULL;
}
