/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The decision. Rules are in the order of specificity, so that the first that matches, with those of the same rank, decides; the others
 * are walked through for their limits and for what came close. One pass, nothing allocated.
 */
#include "private.h"

#include <stdio.h>

/* '*' and '?', as in a shell; in time of the product of the lengths at worst. */
static bool glob_matches(const char *glob, const char *text) {
        const char *star = NULL, *again = NULL;

        while (*text) {
                if (*glob == '*') {
                        star = ++glob;
                        again = text;
                } else if (*glob == '?' || *glob == *text) {
                        glob++;
                        text++;
                } else if (star) {
                        glob = star;
                        text = ++again;
                } else
                        return false;
        }
        while (*glob == '*')
                glob++;
        return !*glob;
}

static bool is_in(const struct value *v, const uint32_t *numbers, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (numbers[i] == v->number)
                        return true;
        return false;
}

static bool value_holds(enum policy_key key, const struct value *v, const struct policy_facts *f, const struct standing *standings) {
        switch (key) {
        case POLICY_KEY_BDF:
                return f->bdf == v->number;
        case POLICY_KEY_SERIAL:
                return f->has_serial && f->serial == v->number;
        case POLICY_KEY_EVIDENCE:
                return v->is_signed ? standings[v->pair].signed_known : standings[v->pair].known;
        case POLICY_KEY_SUBSYSTEM:
                return ((uint32_t) f->subsystem_vendor << 16 | f->subsystem_device) == v->number;
        case POLICY_KEY_ID:
                return (((uint32_t) f->vendor << 16 | f->device) & v->mask) == v->number;
        case POLICY_KEY_CLASS:
                return (f->class & v->mask) == v->number;
        case POLICY_KEY_PATH:
                return is_in(v, f->path, f->n_path);
        case POLICY_KEY_VM:
                return f->vm && glob_matches(v->glob, f->vm);
        case POLICY_KEY_OWNER:
                return f->owner == v->number;
        default:
                return false;
        }
}

static uint32_t fact_bit(enum policy_key key, const struct policy_facts *f) {
        int platform;

        switch (key) {
        case POLICY_KEY_TEE_IO:
                return 1u << f->tee_io;
        case POLICY_KEY_SRIOV:
                return 1u << f->sriov;
        case POLICY_KEY_PLATFORM:
                platform = platform_index(f->platform);
                return platform < 0 ? 0 : 1u << platform;
        case POLICY_KEY_MODE:
                return 1u << f->mode;
        case POLICY_KEY_ACCESS:
                return 1u << f->access;
        default:
                return 0;
        }
}

/* Of the device, of how it is attached: nothing of these is known of a VM alone. */
static bool is_about_devices(enum policy_key key) {
        return key <= POLICY_KEY_SRIOV || key >= POLICY_KEY_MODE;
}

bool condition_holds(const struct condition *c, const struct policy_facts *f, const struct standing *standings) {
        const enum policy_key key = (enum policy_key) c->key;

        if (!f->has_device && is_about_devices(key))
                return false;
        if (c->by_bits)
                return c->bits & fact_bit(key, f);
        if (c->n == 1)
                return value_holds(key, &c->one, f, standings);
        for (unsigned i = 0; i < c->n; i++)
                if (value_holds(key, &c->values[i], f, standings))
                        return true;
        return false;
}

static void stand(const struct policy *p, const struct policy_facts *f, struct standing *standings) {
        memset(standings, 0, p->n_pairs * sizeof(*standings));
        for (size_t k = 0; k < f->n_proofs; k++) {
                const struct policy_proof *proof = &f->proofs[k];

                if (proof->why)
                        continue;
                for (size_t i = 0; i < p->n_pairs; i++) {
                        struct standing *s = &standings[i];

                        /* Who agrees with reference values leads to the anchor as well. */
                        if (!streq(p->pairs[i].anchor, proof->anchor) ||
                            (p->pairs[i].references && !streq_ptr(p->pairs[i].references, proof->references)))
                                continue;
                        if (!s->known || proof->time_usec > s->newest)
                                s->newest = proof->time_usec;
                        s->known = true;
                        if (!proof->is_signed)
                                continue;
                        if (!s->signed_known || proof->time_usec > s->signed_newest)
                                s->signed_newest = proof->time_usec;
                        s->signed_known = true;
                }
        }
}

/* How many conditions do not hold: 0, 1 or "more", which is 2. */
static unsigned count_failed(const struct rule *r, const struct policy_facts *f, const struct standing *standings, enum policy_key *failed) {
        unsigned n = 0;

        for (unsigned i = 0; i < r->n_conditions && n < 2; i++)
                if (!condition_holds(&r->conditions[i], f, standings)) {
                        *failed = (enum policy_key) r->conditions[i].key;
                        n++;
                }
        return n;
}

static void add_limits(struct policy_limits *limits, const struct rule *r) {
        if (!r->has_limits)
                return;
        for (int l = 0; l < _POLICY_LIMIT_MAX; l++)
                if (r->limits[l] < limits->max[l]) {
                        limits->max[l] = r->limits[l];
                        limits->rule[l] = &r->public;
                }
}

static void no_limits(struct policy_limits *limits) {
        for (int l = 0; l < _POLICY_LIMIT_MAX; l++) {
                limits->max[l] = UINT64_MAX;
                limits->rule[l] = NULL;
        }
}

/* ---- requirements ---- */

struct gathering {
        const struct rule *first[_POLICY_REQUIREMENT_MAX]; /* which requires it */
        const struct rule *withholds[2];                   /* which does not permit it, by bit */
        uint16_t slot[POLICY_PAIRS_MAX];                   /* of a pair: its index in needs, from 1 */
        unsigned pair[POLICY_PAIRS_MAX];                   /* of a need */
};

static void add_need(struct policy_decision *d, struct gathering *g, const struct policy *p, const struct rule *r, const struct need *n) {
        struct policy_need *need;

        if (g->slot[n->pair] == 0) {
                g->pair[d->n_needs] = n->pair;
                d->needs[d->n_needs++] = (struct policy_need){ p->pairs[n->pair].anchor, p->pairs[n->pair].references, UINT64_MAX, false, &r->public };
                g->slot[n->pair] = (uint16_t) d->n_needs;
        }
        need = &d->needs[g->slot[n->pair] - 1];
        need->is_signed = need->is_signed || n->is_signed;
        if (n->max_age_usec < need->max_age_usec)
                need->max_age_usec = n->max_age_usec;
}

/* One more rule that allows, as specific as those before. */
static void add_winner(struct policy_decision *d, struct gathering *g, const struct policy *p, const struct rule *r) {
        if (d->n_winners < POLICY_WINNERS_MAX)
                d->winners[d->n_winners] = &r->public;
        d->permits = d->n_winners++ == 0 ? r->permits : d->permits & r->permits;
        d->requires |= r->requires;
        for (int i = 0; i < _POLICY_REQUIREMENT_MAX; i++)
                if (r->requires & 1u << i && !g->first[i])
                        g->first[i] = r;
        for (int i = 0; i < 2; i++)
                if (!(r->permits & 1u << i) && !g->withholds[i])
                        g->withholds[i] = r;
        for (size_t i = 0; i < r->n_needs; i++)
                add_need(d, g, p, r, &r->needs[i]);
        if (r->on_illegal_config_write > d->on_illegal_config_write)
                d->on_illegal_config_write = r->on_illegal_config_write;
}

static void miss(struct policy_decision *d, enum policy_requirement what, size_t need, const struct policy_rule *rule) {
        d->unmet[d->n_unmet++] = (struct policy_unmet){ what, need, rule };
}

static bool need_is_met(const struct policy_need *n, const struct standing *s, const struct policy_facts *f) {
        uint64_t time = n->is_signed ? s->signed_newest : s->newest;

        if (n->is_signed ? !s->signed_known : !s->known)
                return false;
        /* What is dated in the future was taken by another clock: how old it is nobody knows. */
        return n->max_age_usec == UINT64_MAX || (time <= f->now_usec && f->now_usec - time <= n->max_age_usec);
}

static void ask(struct policy_decision *d, const struct gathering *g, enum policy_requirement what, enum policy_answer answer) {
        if (!(d->requires & 1u << what) || answer == POLICY_YES)
                return;
        if (answer == POLICY_UNKNOWN)
                d->pending |= 1u << what;
        else
                miss(d, what, 0, &g->first[what]->public);
}

static void check_requirements(struct policy_decision *d, const struct gathering *g, const struct policy_facts *f, const struct standing *standings) {
        ask(d, g, POLICY_NEEDS_IDE, f->ide_secure);
        ask(d, g, POLICY_NEEDS_EARLY, f->mode == POLICY_MODE_UNKNOWN ? POLICY_UNKNOWN : f->mode == POLICY_MODE_EARLY ? POLICY_YES : POLICY_NO);
        ask(d, g, POLICY_NEEDS_VPCI, f->access == POLICY_ACCESS_UNKNOWN ? POLICY_UNKNOWN : f->access == POLICY_ACCESS_VPCI ? POLICY_YES : POLICY_NO);
        ask(d, g, POLICY_NEEDS_GUARD, f->guard);
        for (size_t i = 0; i < d->n_needs; i++)
                if (!need_is_met(&d->needs[i], &standings[g->pair[i]], f))
                        miss(d, POLICY_NEEDS_EVIDENCE, i, d->needs[i].rule);
        if (f->association && !(d->permits & POLICY_PERMITS_ASSOCIATION))
                miss(d, POLICY_NEEDS_ASSOCIATION, 0, &g->withholds[0]->public);
        if (f->access == POLICY_ACCESS_HANDOFF && !(d->permits & POLICY_PERMITS_HANDOFF))
                miss(d, POLICY_NEEDS_HANDOFF, 0, &g->withholds[1]->public);
}

/* ---- the whole ---- */

static void write_text(struct policy_decision *d, const struct policy_facts *f) {
        const struct policy_rule *r = d->rule;
        char missing[900], more[32] = "";

        if (d->is_default) {
                if (d->verdict == POLICY_ALLOW)
                        snprintf(d->text, sizeof(d->text), "allowed by default: no rule matches, and the VM's owner is root");
                else
                        snprintf(d->text, sizeof(d->text), "denied by default: no rule matches, and the VM's owner (uid %u) is not root; to allow it, write a rule (tdid-policy(5)) in " POLICY_DIR_LOCAL " and reload", f->owner);
                return;
        }
        if (d->n_unmet == 0) {
                snprintf(d->text, sizeof(d->text), "%s by rule '%s' (%s:%u:%u)", d->verdict == POLICY_ALLOW ? "allowed" : "denied", r->name, r->file, r->line,
                         r->column);
                return;
        }
        r = d->unmet[0].rule;
        if (d->n_unmet > 1)
                snprintf(more, sizeof(more), "; and %zu more", d->n_unmet - 1);
        snprintf(d->text, sizeof(d->text), "rule '%.64s' (%.100s:%u:%u) %s%s", r->name, r->file, r->line, r->column,
                 policy_unmet_describe(d, 0, f, missing, sizeof(missing)), more);
}

/* Those that allowed until a rule denied that is as specific as they are. */
static void lose_winners(struct policy_decision *d) {
        size_t n = d->n_winners < POLICY_NEXT_MAX ? d->n_winners : POLICY_NEXT_MAX;

        memmove(d->next + n, d->next, (POLICY_NEXT_MAX - n) * sizeof(*d->next));
        memcpy(d->next, d->winners, n * sizeof(*d->next));
        d->n_next = d->n_next + n < POLICY_NEXT_MAX ? d->n_next + n : POLICY_NEXT_MAX;
        d->winners[0] = d->rule;
        d->n_winners = 1;
        d->n_needs = 0;
        d->requires = d->permits = 0;
        d->on_illegal_config_write = POLICY_CONFIG_UNSAID;
}

void policy_decide(const struct policy *p, const struct policy_facts *f, struct policy_decision *ret) {
        struct standing standings[POLICY_PAIRS_MAX];
        struct policy_decision *d = ret;
        struct gathering g = {};
        const struct rule *top = NULL, *deny = NULL;

        /* The arrays are as long as their counts say. */
        memset(d, 0, offsetof(struct policy_decision, needs));
        d->n_needs = d->n_unmet = d->n_next = d->n_close = 0;
        no_limits(&d->limits);
        stand(p, f, standings);

        for (size_t i = 0; i < p->n_rules; i++) {
                const struct rule *r = &p->rules[i];
                enum policy_key failed = 0;
                unsigned n = count_failed(r, f, standings, &failed);

                /* With a condition of one, "all but one" is nothing. */
                if (n == 1 && r->n_conditions > 1 && r->public.decides != POLICY_RULE_LIMITS && d->n_close < POLICY_CLOSE_MAX)
                        d->close[d->n_close++] = (struct policy_close){ &r->public, failed };
                if (n > 0)
                        continue;
                add_limits(&d->limits, r);
                if (r->ide_reserve > d->ide_reserve)
                        d->ide_reserve = r->ide_reserve;
                if (r->public.decides == POLICY_RULE_LIMITS)
                        continue;
                if (!top)
                        top = r;
                if (r->rank == top->rank && r->public.decides != POLICY_RULE_DENIES)
                        add_winner(d, &g, p, r);
                else if (r->rank == top->rank && !deny)
                        deny = r;
                else if (d->n_next < POLICY_NEXT_MAX)
                        d->next[d->n_next++] = &r->public;
        }

        d->is_default = !top;
        if (deny) {
                d->rule = &deny->public;
                lose_winners(d);
        } else if (top) {
                d->rule = d->winners[0];
                check_requirements(d, &g, f, standings);
        }
        if (d->is_default && f->owner == 0)
                d->permits = POLICY_PERMITS_ASSOCIATION | POLICY_PERMITS_HANDOFF;
        d->verdict = !deny && d->n_unmet == 0 && (top || f->owner == 0) ? POLICY_ALLOW : POLICY_DENY;
        write_text(d, f);
}

void policy_limits(const struct policy *p, const struct policy_facts *f, struct policy_limits *ret) {
        struct standing standings[POLICY_PAIRS_MAX];
        enum policy_key failed;

        no_limits(ret);
        stand(p, f, standings);
        for (size_t i = 0; i < p->n_rules; i++)
                if (p->rules[i].has_limits && count_failed(&p->rules[i], f, standings, &failed) == 0)
                        add_limits(ret, &p->rules[i]);
}

/* ---- what to verify ---- */

struct wanting {
        struct policy_wanted *wanted;
        size_t n;
        const struct policy *policy;
        uint16_t slot[POLICY_PAIRS_MAX]; /* from 1 */
};

static void want(struct wanting *w, unsigned pair, uint64_t max_age_usec, bool is_signed) {
        struct policy_wanted *one;

        if (w->slot[pair] == 0) {
                w->wanted[w->n++] = (struct policy_wanted){ w->policy->pairs[pair].anchor, w->policy->pairs[pair].references, UINT64_MAX, false };
                w->slot[pair] = (uint16_t) w->n;
        }
        one = &w->wanted[w->slot[pair] - 1];
        one->is_signed = one->is_signed || is_signed;
        if (max_age_usec < one->max_age_usec)
                one->max_age_usec = max_age_usec;
}

static void want_condition(struct wanting *w, const struct condition *c) {
        const struct value *values = c->n == 1 ? &c->one : c->values;

        for (unsigned i = 0; i < c->n; i++)
                want(w, values[i].pair, UINT64_MAX, values[i].is_signed);
}

/* Does it match, whatever evidence there is? Its condition on evidence, or NULL. */
static bool matches_otherwise(const struct rule *r, const struct policy_facts *f, const struct condition **ret_evidence) {
        *ret_evidence = NULL;
        for (unsigned i = 0; i < r->n_conditions; i++)
                if (r->conditions[i].key == POLICY_KEY_EVIDENCE) {
                        if (!f->has_device)
                                return false;
                        *ret_evidence = &r->conditions[i];
                } else if (!condition_holds(&r->conditions[i], f, NULL))
                        return false;
        return true;
}

size_t policy_wanted_evidence(const struct policy *p, const struct policy_facts *facts, struct policy_wanted ret[static POLICY_PAIRS_MAX]) {
        struct wanting w = { .wanted = ret, .policy = p };
        bool decided = false, denied = false;
        uint32_t decided_rank = 0;

        /* Rules that deny for certain, of the rank that decides at the latest: what those that allow beside them require does not matter. */
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct rule *r = &p->rules[i];
                const struct condition *evidence;

                if ((decided && r->rank < decided_rank) || r->public.decides == POLICY_RULE_LIMITS || !matches_otherwise(r, facts, &evidence) || evidence)
                        continue;
                decided = true;
                decided_rank = r->rank;
                denied = denied || r->public.decides == POLICY_RULE_DENIES;
        }
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct rule *r = &p->rules[i];
                bool decides = r->public.decides != POLICY_RULE_LIMITS && (!decided || r->rank > decided_rank || (r->rank == decided_rank && !denied));
                const struct condition *evidence;

                if (!(decides || r->has_limits || r->ide_reserve > 0) || !matches_otherwise(r, facts, &evidence))
                        continue;
                if (evidence)
                        want_condition(&w, evidence);
                for (size_t k = 0; k < r->n_needs && decides; k++)
                        want(&w, r->needs[k].pair, r->needs[k].max_age_usec, r->needs[k].is_signed);
        }
        return w.n;
}

size_t policy_all_evidence(const struct policy *p, struct policy_wanted ret[static POLICY_PAIRS_MAX]) {
        for (size_t i = 0; i < p->n_pairs; i++)
                ret[i] = (struct policy_wanted){ p->pairs[i].anchor, p->pairs[i].references, UINT64_MAX, false };
        return p->n_pairs;
}

/* ---- for people ---- */

static const struct policy_proof *find_proof(const struct policy_need *n, const struct policy_facts *f) {
        const struct policy_proof *best = NULL;

        for (size_t i = 0; i < f->n_proofs; i++) {
                const struct policy_proof *proof = &f->proofs[i];

                if (streq(proof->anchor, n->anchor) && streq_ptr(proof->references, n->references) && (!best || proof->time_usec > best->time_usec))
                        best = proof;
        }
        return best;
}

static char *describe_need(const struct policy_need *n, const struct policy_facts *f, char *buf, size_t size) {
        const struct policy_proof *proof = find_proof(n, f);
        char why[700];

        if (!proof)
                snprintf(why, sizeof(why), "there is none");
        else if (proof->why)
                snprintf(why, sizeof(why), "%s", proof->why);
        else if (n->is_signed && !proof->is_signed)
                snprintf(why, sizeof(why), "it is not signed");
        else if (proof->time_usec > f->now_usec)
                snprintf(why, sizeof(why), "it is dated in the future");
        else
                snprintf(why, sizeof(why), "it is %llu s old, at most %llu s are taken", (unsigned long long) ((f->now_usec - proof->time_usec) / 1000000),
                         (unsigned long long) (n->max_age_usec / 1000000));
        snprintf(buf, size, "requires evidence for %s%s%s: %s", n->anchor, n->references ? " with " : "", strempty(n->references), why);
        return buf;
}

char *policy_unmet_describe(const struct policy_decision *d, size_t i, const struct policy_facts *f, char *buf, size_t size) {
        static const char *const texts[_POLICY_REQUIREMENT_MAX] = {
                [POLICY_NEEDS_IDE] = "requires a secure IDE stream: there is none",
                [POLICY_NEEDS_EARLY] = "requires that the function is attached before the VM is sealed",
                [POLICY_NEEDS_VPCI] = "requires that the VMM reaches the function by its vPCI socket",
                [POLICY_NEEDS_GUARD] = "requires that the function's BARs are guarded: they are not",
                [POLICY_NEEDS_ASSOCIATION] = "does not permit that KVM is associated with the function",
                [POLICY_NEEDS_HANDOFF] = "does not permit handoff of the function's descriptors",
        };

        if (d->unmet[i].what == POLICY_NEEDS_EVIDENCE)
                return describe_need(&d->needs[d->unmet[i].need], f, buf, size);
        if (d->unmet[i].what == POLICY_NEEDS_GUARD && f->guard_text) {
                snprintf(buf, size, "requires that the function's BARs are guarded: the mmap guard is %s", f->guard_text);
                return buf;
        }
        snprintf(buf, size, "%s", texts[d->unmet[i].what]);
        return buf;
}
