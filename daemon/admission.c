/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks the policy. */
#include "admission.h"

#include <stdio.h>

#include "association.h"
#include "audit.h"
#include "bus/bus.h"
#include "custody.h"
#include "device.h"
#include "evidence.h"
#include "policy/report.h"
#include "vm.h"

/* What the policy is asked about. */
struct subject {
        Device *device; /* NULL: about the owner alone */
        const char *vm; /* NULL: no VM yet */
        uid_t owner;
        const char *platform;
        enum policy_mode mode;
        enum policy_access access;
        bool association, no_ide; /* no_ide: its link cannot have a stream */
        const struct policy_proof *proofs;
        size_t n_proofs;
        uint64_t now_usec;
};

/* Calls that wait for evidence, of all and of one user, and how often a reload in between may ask for more. */
#define WAITING_MAX 32
#define WAITING_PER_USER 8
#define ROUNDS_MAX 4
#define BUSY_PAUSE_USEC 200000ULL
/* Longer than all that a call can wait for, a person at polkit's dialogue included. */
#define EXPIRY_USEC 600000000ULL
/* What a device proved longer ago is asked anew: somebody else may have had it. */
#define PROOF_USEC 60000000ULL

/* What one device has proved, for one call. */
struct proven {
        struct tdi_bdf bdf;
        uint64_t generation, speaker; /* of the function and of who speaks for it: another device has proved nothing */
        uint64_t asked;               /* CLOCK_MONOTONIC, when all were */
        struct json_object *wanted, *proofs; /* as evidence.h has them; proofs NULL: not asked yet */
        char *why;                           /* it gives none; NULL */
        uint64_t time_usec;
};

struct admission {
        Manager *manager;
        sd_bus_message *call;
        sd_bus_message_handler_t method;
        uid_t caller;
        struct proven *proven;
        size_t n_proven;
        Evidence *asking;
        size_t asked; /* whom */
        uint64_t give_up; /* CLOCK_MONOTONIC: it has been busy for too long */
        sd_event_source *again, *expiry;
        unsigned rounds;
        struct admission *next;
};

/* ---- the policy ---- */

static int load(Manager *m, struct policy **ret, struct policy_error *why) {
        const char *dirs[POLICY_DIRS_MAX] = { POLICY_DIR_SHIPPED, POLICY_DIR_LOCAL };
        size_t n = 2;

        if (m->n_policy_dirs > 0)
                for (n = 0; n < m->n_policy_dirs; n++)
                        dirs[n] = m->policy_dirs[n];
        return policy_load(dirs, n, ret, why);
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

static enum policy_sriov sriov_of(Manager *m, const Device *d) {
        if (d->phys_fn != UINT32_MAX)
                return POLICY_SRIOV_VF;
        for (size_t i = 0; i < m->n_devices; i++)
                if (m->devices[i]->phys_fn == tdi_bdf_number(d->bdf))
                        return POLICY_SRIOV_PF;
        return POLICY_SRIOV_NONE;
}

static void facts_of(Manager *m, const struct subject *f, struct policy_facts *ret) {
        const Device *d = f->device;

        *ret = (struct policy_facts){
                .proofs = f->proofs, .n_proofs = f->n_proofs, .now_usec = f->now_usec ? f->now_usec : now_realtime(), .vm = f->vm, .owner = f->owner,
                .platform = f->platform ? f->platform : platform_of_host(m)->name, .mode = f->mode, .access = f->access,
                /* The link is looked at when it is attached and bound; there is no guard, and so nothing is guarded. */
                .ide_secure = f->no_ide ? POLICY_NO : POLICY_UNKNOWN, .guard = POLICY_NO, .association = f->association,
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
        ret->sriov = sriov_of(m, d);
}

static enum policy_mode mode_of(const VM *vm) {
        return vm->phase == TDI_VM_PREPARING ? POLICY_MODE_EARLY : POLICY_MODE_LATE;
}

/* Its link has no IDE stream, and gets none: there is no TSM, no capability, or nobody connects its DSM. */
static bool cannot_have_ide(const Manager *m, Device *d, bool unconnected) {
        Device *dsm = device_dsm(d);

        return !dsm || !(dsm->tee & DEVICE_IDE) || m->n_tsms == 0 || (unconnected && !dsm->tsm);
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

/* ---- evidence for a call ---- */

static struct admission *find(Manager *m, sd_bus_message *call) {
        for (struct admission *a = m->admissions; a; a = a->next)
                if (a->call == call)
                        return a;
        return NULL;
}

static void drop_proven(struct admission *a) {
        for (size_t i = 0; i < a->n_proven; i++) {
                json_putp(&a->proven[i].wanted);
                json_putp(&a->proven[i].proofs);
                free(a->proven[i].why);
        }
        free(a->proven);
        a->proven = NULL;
        a->n_proven = 0;
}

static void end(struct admission *a) {
        struct admission **p = &a->manager->admissions;

        while (*p != a)
                p = &(*p)->next;
        *p = a->next;
        evidence_cancel(a->asking);
        sd_event_source_disable_unref(a->again);
        sd_event_source_disable_unref(a->expiry);
        drop_proven(a);
        sd_bus_message_unref(a->call);
        free(a);
}

void admission_forget(Manager *m, sd_bus_message *call) {
        struct admission *a = find(m, call);

        if (a)
                end(a);
}

/* The method again, from its start: the VM, the functions or the policy may not be what they were. */
static void run(struct admission *a) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *call = sd_bus_message_ref(a->call);
        Manager *m = a->manager;
        int r;

        (void) sd_bus_message_rewind(call, 1);
        r = a->method(call, m, &e);
        bus_method_refused(m, call, NULL, r, &e);
        if (r < 0 || sd_bus_error_is_set(&e))
                (void) sd_bus_reply_method_errno(call, r, &e);
        /* Where it waits, for more evidence or for polkit, what is there stays for the next time. */
        a = find(m, call);
        if (a && (r < 0 || sd_bus_error_is_set(&e)))
                end(a);
        sd_bus_error_free(&e);
        sd_bus_message_unref(call);
}

static int on_expiry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct admission *a = userdata;

        if (!a->asking && !a->again)
                end(a);
        else if (sd_event_source_set_time_relative(a->expiry, EXPIRY_USEC) < 0 || sd_event_source_set_enabled(a->expiry, SD_EVENT_ONESHOT) < 0)
                log_oom();
        return 0;
}

static void ask_next(struct admission *a);

static void on_evidence(int r, const char *text, struct evidence_answer *answer, void *userdata) {
        struct admission *a = userdata;
        struct proven *p = a->proven + a->asked;

        a->asking = NULL;
        p->proofs = r >= 0 && answer->proofs ? json_object_get(answer->proofs) : json_new_array();
        p->time_usec = r >= 0 ? answer->time_usec : 0;
        if (r < 0 && free_and_strdup(&p->why, text) < 0)
                log_oom();
        ask_next(a);
}

static int on_again(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct admission *a = userdata;

        a->again = sd_event_source_disable_unref(s);
        ask_next(a);
        return 0;
}

/* Functions of one device have one that speaks for them all: what it has said once is enough for a call that asks the same. */
static bool take_from_another(struct admission *a, struct proven *p) {
        for (const struct proven *o = a->proven; o < a->proven + a->n_proven; o++) {
                if (o == p || !o->proofs || o->speaker != p->speaker || !json_object_equal(o->wanted, p->wanted))
                        continue;
                p->proofs = json_object_get(o->proofs);
                p->time_usec = o->time_usec;
                if (free_and_strdup(&p->why, o->why) < 0)
                        log_oom();
                return true;
        }
        return false;
}

/* The next device that has not been asked; the method when there is none. */
static void ask_next(struct admission *a) {
        for (size_t i = 0; i < a->n_proven; i++) {
                struct proven *p = a->proven + i;
                Device *d = device_find(a->manager, p->bdf);
                int r;

                if (p->proofs)
                        continue;
                a->asked = i;
                if (d) {
                        p->generation = d->generation;
                        p->speaker = evidence_speaker(d)->generation;
                        if (take_from_another(a, p))
                                continue;
                }
                r = d ? evidence_ask(a->manager, d, p->wanted, NULL, on_evidence, a, &a->asking) : -ENODEV;
                if (r >= 0)
                        return;
                if ((r == -EBUSY || r == -EAGAIN) && now_monotonic() < a->give_up) {
                        if (sd_event_add_time_relative(a->manager->event, &a->again, CLOCK_MONOTONIC, BUSY_PAUSE_USEC, 0, on_again, a) < 0)
                                log_oom();
                        return;
                }
                p->proofs = json_new_array();
                if (free_and_strdup(&p->why, r == -EBUSY ? "others have been asking the device all the time" : strerror(-r)) < 0)
                        log_oom();
        }
        for (size_t i = 0; i < a->n_proven; i++)
                a->proven[i].asked = now_monotonic();
        run(a);
}

static struct json_object *wanted_of(const struct policy_wanted *wanted, size_t n) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < n; i++) {
                struct json_object *o = json_new();

                json_set_str(o, "anchor", wanted[i].anchor);
                json_set_str(o, "references", wanted[i].references);
                json_push_take(list, o);
        }
        return list;
}

struct json_object *admission_all_evidence(Manager *m) {
        struct policy_wanted wanted[POLICY_PAIRS_MAX];

        return wanted_of(wanted, m->policy ? policy_all_evidence(m->policy, wanted) : 0);
}

static const struct proven *find_proven(const struct admission *a, const Device *d) {
        for (size_t i = 0; a && i < a->n_proven; i++)
                if (tdi_bdf_number(a->proven[i].bdf) == tdi_bdf_number(d->bdf))
                        return a->proven + i;
        return NULL;
}

/* Has every pair been asked for that the policy wants now, of the device that is there now? */
static bool covers(const struct proven *p, Device *d, const struct policy_wanted *wanted, size_t n) {
        if (n > 0 && p && (p->generation != d->generation || p->speaker != evidence_speaker(d)->generation || (p->asked != 0 && now_monotonic() - p->asked > PROOF_USEC)))
                return false;
        for (size_t i = 0; i < n; i++) {
                bool there = false;

                for (size_t k = 0; p && !there && k < json_object_array_length(p->wanted); k++) {
                        struct json_object *o = json_object_array_get_idx(p->wanted, k);

                        there = streq_ptr(json_str_or(o, "anchor", NULL), wanted[i].anchor) && streq_ptr(json_str_or(o, "references", NULL), wanted[i].references);
                }
                if (!there)
                        return false;
        }
        return true;
}

static int collect(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, VM *vm, Device *const *devices, size_t n, enum policy_mode mode,
                   uid_t caller, struct admission **ret, sd_bus_error *e) {
        struct policy_wanted wanted[POLICY_PAIRS_MAX];
        struct admission *a = find(m, call);
        bool missing = false;
        unsigned waiting = 0, own = 0;

        for (size_t i = 0; i < n && !missing; i++) {
                struct subject f = subject_of(vm, devices[i], mode, POLICY_ACCESS_VPCI);
                struct policy_facts facts;

                facts_of(m, &f, &facts);
                missing = !covers(find_proven(a, devices[i]), devices[i], wanted, policy_wanted_evidence(m->policy, &facts, wanted));
        }
        *ret = a;
        if (!missing)
                return 1;
        for (struct admission *x = m->admissions; x; x = x->next) {
                waiting++;
                own += x->caller == caller;
        }
        if (!a && (waiting >= WAITING_MAX || (own >= WAITING_PER_USER && !access_is_master(caller))))
                return bus_error(e, TDI_ERROR_LIMIT, "too many calls wait for evidence; try again");
        if (a && a->rounds >= ROUNDS_MAX)
                return bus_error(e, TDI_ERROR_BUSY, "the policy, or the device, has changed %u times while evidence was collected for this call; try again", a->rounds);
        if (!a) {
                a = calloc(1, sizeof(*a));
                if (!a)
                        log_oom();
                *a = (struct admission){ .manager = m, .call = sd_bus_message_ref(call), .method = method, .caller = caller, .next = m->admissions };
                m->admissions = a;
                if (sd_event_add_time_relative(m->event, &a->expiry, CLOCK_MONOTONIC, EXPIRY_USEC, 0, on_expiry, a) < 0)
                        log_oom();
        }
        /* From the start: what a device said under another policy is not so old that it would matter, but what was asked for is another thing. */
        drop_proven(a);
        a->rounds++;
        a->give_up = now_monotonic() + (uint64_t) m->config.evidence * 1000000;
        a->proven = calloc(n + !n, sizeof(*a->proven));
        if (!a->proven)
                log_oom();
        for (size_t i = 0; i < n; i++) {
                struct subject f = subject_of(vm, devices[i], mode, POLICY_ACCESS_VPCI);
                struct policy_facts facts;
                size_t n_wanted;

                facts_of(m, &f, &facts);
                n_wanted = policy_wanted_evidence(m->policy, &facts, wanted);
                if (n_wanted > 0)
                        a->proven[a->n_proven++] = (struct proven){ .bdf = devices[i]->bdf, .wanted = wanted_of(wanted, n_wanted) };
        }
        ask_next(a);
        return 0;
}

/* ---- decisions ---- */

static size_t proofs_of(const struct proven *p, struct policy_proof ret[static POLICY_PAIRS_MAX]) {
        size_t n = p ? json_object_array_length(p->wanted) : 0;

        for (size_t i = 0; i < n; i++) {
                struct json_object *wanted = json_object_array_get_idx(p->wanted, i), *found = json_object_array_get_idx(p->proofs, i);

                ret[i] = (struct policy_proof){
                        .anchor = json_str_or(wanted, "anchor", ""), .references = json_str_or(wanted, "references", NULL), .time_usec = p->time_usec,
                        .is_signed = json_bool_or(found, "signed", false),
                        .why = p->why ? p->why : !found ? "nothing was found out" : json_bool_or(found, "ok", false) ? NULL : json_str_or(found, "text", "it was refused"),
                };
        }
        return n;
}

/* What the policy can say and this tdid cannot do. */
static const char *not_done(const struct policy_decision *d) {
        if (d->on_illegal_config_write != POLICY_CONFIG_UNSAID)
                return "it says what becomes of a guest's illegal writes (\"on_illegal_config_write\"), which this tdid always does as docs/vfio-user.md describes";
        if (d->limits.max[POLICY_LIMIT_FDS] != UINT64_MAX)
                return "it limits descriptors (\"fds\"), which this tdid does not count";
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
        cannot = not_done(d);
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
        }
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
        enum policy_mode mode = mode_of(vm);
        struct policy_proof *proofs;
        struct admission *a = NULL;
        int r = 0;

        if (!m->policy)
                return refuse_without_policy(m, e);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = check_known(m, devices[i], e);
        if (r >= 0)
                r = collect(m, call, method, vm, devices, n, mode, caller, &a, e);
        if (r <= 0)
                return r;
        proofs = calloc(POLICY_PAIRS_MAX, sizeof(*proofs));
        if (!proofs)
                log_oom();
        for (size_t i = 0; r >= 0 && i < n; i++) {
                struct subject f = subject_of(vm, devices[i], mode, POLICY_ACCESS_VPCI);
                char bdf[TDI_BDF_MAX];

                f.no_ide = cannot_have_ide(m, devices[i], unconnected[i]);
                f.proofs = proofs;
                f.n_proofs = proofs_of(find_proven(a, devices[i]), proofs);
                r = judge(vm, &f, caller, n, tdi_bdf_format(devices[i]->bdf, bdf), e);
        }
        free(proofs);
        return r < 0 ? r : 1;
}

bool admission_waits(Manager *m, sd_bus_message *call) {
        return find(m, call);
}

/* ---- what was admitted ---- */

void admission_apply(Manager *m, sd_bus_message *call, const VM *vm, Device *d, uid_t caller, Custody *c) {
        struct policy_proof *proofs = calloc(POLICY_PAIRS_MAX, sizeof(*proofs));
        struct policy_decision *decision = malloc(sizeof(*decision));
        const struct proven *p = find_proven(find(m, call), d);
        struct subject f = subject_of(vm, d, mode_of(vm), POLICY_ACCESS_VPCI);
        struct json_object *kept = json_new_array();

        if (!proofs || !decision)
                log_oom();
        f.proofs = proofs;
        f.n_proofs = proofs_of(p, proofs);
        decide(m, &f, decision);
        json_set_bool(c->values, "ide_required", decision->requires & 1u << POLICY_NEEDS_IDE);
        json_set_u64(c->values, "ide_reserve", decision->ide_reserve);
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

struct json_object *admission_explain(Manager *m, const struct admission_question *q) {
        const struct subject f = {
                .device = q->device, .vm = q->vm, .owner = q->owner, .platform = q->platform, .mode = q->mode, .access = q->access, .association = q->association,
        };
        struct policy_facts facts;

        if (!m->policy)
                return NULL;
        facts_of(m, &f, &facts);
        return policy_explain(m->policy, &facts);
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
        while (m->admissions)
                end(m->admissions);
        m->policy = policy_unref(m->policy);
        free(m->policy_error);
        m->policy_error = NULL;
}
