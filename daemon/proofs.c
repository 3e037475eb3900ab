/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that wait for evidence. */
#include "proofs.h"

#include "bus/bus.h"
#include "device.h"
#include "evidence.h"

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
        Job *job; /* the answer, where it did not wait for this; NULL */
        struct proven *proven;
        size_t n_proven;
        Evidence *asking;
        size_t asked; /* whom */
        uint64_t give_up; /* CLOCK_MONOTONIC: it has been busy for too long */
        sd_event_source *again, *expiry;
        unsigned rounds;
        struct admission *next;
};

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

void proofs_forget(Manager *m, sd_bus_message *call) {
        struct admission *a = find(m, call);

        if (a)
                end(a);
}

void proofs_end(Manager *m) {
        while (m->admissions)
                end(m->admissions);
}

bool proofs_wait(Manager *m, sd_bus_message *call) {
        return find(m, call);
}

/* ---- jobs ---- */

void proofs_set_job(Manager *m, sd_bus_message *call, Job *j) {
        struct admission *a = find(m, call);

        if (a)
                a->job = j;
}

Job *proofs_job(Manager *m, sd_bus_message *call) {
        struct admission *a = find(m, call);

        return a ? a->job : NULL;
}

void proofs_forget_job(Job *j) {
        for (struct admission *a = j->manager->admissions; a; a = a->next)
                if (a->job == j) {
                        end(a);
                        return;
                }
}

/* ---- asking ---- */

/* The method again, from its start: the VM, the functions or the policy may not be what they were. Where it waits, what is there stays for the next time. */
static void run(struct admission *a) {
        bus_run_again(a->manager, a->call, a->method, NULL);
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

struct json_object *proofs_wanted(const struct policy_wanted *wanted, size_t n) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < n; i++) {
                struct json_object *o = json_new();

                json_set_str(o, "anchor", wanted[i].anchor);
                json_set_str(o, "references", wanted[i].references);
                json_push_take(list, o);
        }
        return list;
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

static int refuse_to_wait(Manager *m, const struct admission *a, uid_t caller, sd_bus_error *e) {
        unsigned waiting = 0, own = 0;

        for (struct admission *x = m->admissions; x; x = x->next) {
                waiting++;
                own += x->caller == caller;
        }
        if (!a && (waiting >= WAITING_MAX || (own >= WAITING_PER_USER && !access_is_master(caller))))
                return bus_error(e, TDI_ERROR_LIMIT, "too many calls wait for evidence; try again");
        if (a && a->rounds >= ROUNDS_MAX)
                return bus_error(e, TDI_ERROR_BUSY, "the policy, or the device, has changed %u times while evidence was collected for this call; try again", a->rounds);
        return 0;
}

static struct admission *begin(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, uid_t caller) {
        struct admission *a = calloc(1, sizeof(*a));

        if (!a)
                log_oom();
        *a = (struct admission){ .manager = m, .call = sd_bus_message_ref(call), .method = method, .caller = caller, .next = m->admissions };
        m->admissions = a;
        if (sd_event_add_time_relative(m->event, &a->expiry, CLOCK_MONOTONIC, EXPIRY_USEC, 0, on_expiry, a) < 0)
                log_oom();
        return a;
}

int proofs_collect(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, Device *const *devices, const struct policy_facts *facts, size_t n,
                   uid_t caller, sd_bus_error *e) {
        struct policy_wanted wanted[POLICY_PAIRS_MAX];
        struct admission *a = find(m, call);
        bool missing = false;
        int r;

        for (size_t i = 0; i < n && !missing; i++)
                missing = !covers(find_proven(a, devices[i]), devices[i], wanted, policy_wanted_evidence(m->policy, facts + i, wanted));
        if (!missing)
                return 1;
        r = refuse_to_wait(m, a, caller, e);
        if (r < 0)
                return r;
        if (!a)
                a = begin(m, call, method, caller);
        /* From the start: what a device said under another policy is not so old that it would matter, but what was asked for is another thing. */
        drop_proven(a);
        a->rounds++;
        a->give_up = now_monotonic() + (uint64_t) m->config.evidence * 1000000;
        a->proven = calloc(n + !n, sizeof(*a->proven));
        if (!a->proven)
                log_oom();
        for (size_t i = 0; i < n; i++) {
                size_t n_wanted = policy_wanted_evidence(m->policy, facts + i, wanted);

                if (n_wanted > 0)
                        a->proven[a->n_proven++] = (struct proven){ .bdf = devices[i]->bdf, .wanted = proofs_wanted(wanted, n_wanted) };
        }
        ask_next(a);
        return 0;
}

size_t proofs_of(Manager *m, sd_bus_message *call, const Device *d, struct policy_proof ret[static POLICY_PAIRS_MAX]) {
        const struct proven *p = find_proven(find(m, call), d);
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
