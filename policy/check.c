/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is wrong with policies: what cannot be read, and what can be and hardly says what was meant. */
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "policy/report.h"
#include "private.h"

struct findings {
        struct json_object *list;
        int errors;
};

static void find(struct findings *f, bool is_error, const char *kind, const char *file, struct json_place at, const char *format, ...) _printf_(6, 7);
static void find(struct findings *f, bool is_error, const char *kind, const char *file, struct json_place at, const char *format, ...) {
        struct json_object *o = json_new();
        char text[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        json_set_str(o, "severity", is_error ? "error" : "warning");
        json_set_str(o, "kind", kind);
        json_set_str(o, "file", file);
        json_set_u64(o, "line", at.line);
        json_set_u64(o, "column", at.column);
        json_set_str(o, "text", text);
        json_push_take(f->list, o);
        f->errors += is_error;
}

static void take_error(const struct policy_error *e, void *userdata) {
        find(userdata, true, "invalid", e->file, (struct json_place){ e->line, e->column }, "%s", e->text);
}

/* ---- does one match whatever the other does? ---- */

static const struct value *values_of(const struct condition *c) {
        return c->n == 1 ? &c->one : c->values;
}

static bool value_covers(enum policy_key key, const struct value *a, const struct value *b) {
        if (key == POLICY_KEY_VM)
                return streq(a->glob, b->glob) || streq(a->glob, "*");
        if (key == POLICY_KEY_EVIDENCE)
                return a->pair == b->pair && (!a->is_signed || b->is_signed);
        return (b->mask & a->mask) == a->mask && (b->number & a->mask) == a->number;
}

static bool condition_covers(const struct condition *a, const struct condition *b) {
        if (a->key != b->key)
                return false;
        if (a->by_bits)
                return !(b->bits & ~a->bits);
        for (unsigned i = 0; i < b->n; i++) {
                bool covered = false;

                for (unsigned k = 0; k < a->n && !covered; k++)
                        covered = value_covers((enum policy_key) a->key, &values_of(a)[k], &values_of(b)[i]);
                if (!covered)
                        return false;
        }
        return true;
}

/* Of the same rank, so that they have the same keys. */
static bool covers(const struct rule *a, const struct rule *b) {
        if (a->n_conditions != b->n_conditions)
                return false;
        for (unsigned i = 0; i < a->n_conditions; i++)
                if (!condition_covers(&a->conditions[i], &b->conditions[i]))
                        return false;
        return true;
}

static struct json_place place_of(const struct policy_rule *r) {
        return (struct json_place){ r->line, r->column };
}

/* @a stands before @b. */
static void check_pair(struct findings *f, const struct rule *a, const struct rule *b) {
        bool a_covers = covers(a, b), b_covers = covers(b, a);
        bool a_denies = a->public.decides == POLICY_RULE_DENIES, b_denies = b->public.decides == POLICY_RULE_DENIES;
        const struct rule *loser = a_denies && a_covers ? b : a, *winner = loser == b ? a : b;

        if (!a_covers && !b_covers)
                return;
        if (a_denies != b_denies && a_covers && b_covers)
                find(f, false, "contradiction", b->public.file, place_of(&b->public),
                     "rule '%s' matches what rule '%s' (%s:%u:%u) matches, and decides otherwise: '%s', which denies, wins",
                     b->public.name, a->public.name, a->public.file, a->public.line, a->public.column, a_denies ? a->public.name : b->public.name);
        else if ((a_denies && a_covers) || (b_denies && b_covers))
                find(f, false, "unreachable", loser->public.file, place_of(&loser->public),
                     "rule '%s' never decides: whatever it matches rule '%s' (%s:%u:%u) denies",
                     loser->public.name, winner->public.name, winner->public.file, winner->public.line, winner->public.column);
        else if (a_covers && b_covers && !a_denies && !b_denies && a->public.decides == b->public.decides && b->requires == 0)
                find(f, false, "duplicate", b->public.file, place_of(&b->public),
                     "rule '%s' matches what rule '%s' (%s:%u:%u) matches, and allows it too", b->public.name, a->public.name, a->public.file, a->public.line, a->public.column);
}

static void check_rank(struct findings *f, const struct rule *rules, size_t n) {
        for (size_t i = 0; i < n; i++)
                for (size_t k = i + 1; k < n; k++)
                        if (rules[i].public.decides != POLICY_RULE_LIMITS && rules[k].public.decides != POLICY_RULE_LIMITS)
                                check_pair(f, &rules[i], &rules[k]);
}

/* Requirements that no one who matches can meet. */
static void check_rule(struct findings *f, const struct rule *r) {
        static const struct {
                enum policy_key key;
                enum policy_requirement what;
                uint32_t bit;
                const char *text;
        } impossible[] = {
                { POLICY_KEY_MODE, POLICY_NEEDS_EARLY, 1u << POLICY_MODE_EARLY, "early attachment, and matches late attachment only" },
                { POLICY_KEY_ACCESS, POLICY_NEEDS_VPCI, 1u << POLICY_ACCESS_VPCI, "access by vPCI, and matches handoff only" },
        };

        for (unsigned i = 0; i < r->n_conditions; i++) {
                const struct condition *c = &r->conditions[i];

                for (size_t k = 0; k < ARRAY_SIZE(impossible); k++)
                        if (c->key == impossible[k].key && r->requires & 1u << impossible[k].what && !(c->bits & impossible[k].bit))
                                find(f, false, "never-met", r->public.file, place_of(&r->public), "rule '%s' requires %s: it never allows anything",
                                     r->public.name, impossible[k].text);
        }
}

static bool is_handoff(const struct rule *r) {
        for (unsigned i = 0; i < r->n_conditions; i++)
                if (r->conditions[i].key == POLICY_KEY_ACCESS)
                        return r->conditions[i].bits == 1u << POLICY_ACCESS_HANDOFF;
        return false;
}

/* Evidence is collected when a function is attached, for the rules that could decide then: @collected has their pairs. */
static void note_collected(const struct rule *r, bool collected[static POLICY_PAIRS_MAX]) {
        if (is_handoff(r))
                return;
        for (size_t i = 0; i < r->n_needs; i++)
                collected[r->needs[i].pair] = true;
        for (unsigned i = 0; i < r->n_conditions; i++)
                for (unsigned k = 0; r->conditions[i].key == POLICY_KEY_EVIDENCE && k < r->conditions[i].n; k++)
                        collected[values_of(&r->conditions[i])[k].pair] = true;
}

static void check_evidence(struct findings *f, const struct rule *r, const bool collected[static POLICY_PAIRS_MAX]) {
        for (unsigned i = 0; i < r->n_conditions; i++)
                if (r->conditions[i].key == POLICY_KEY_EVIDENCE && r->public.decides == POLICY_RULE_DENIES)
                        find(f, false, "evidence-denies", r->public.file, place_of(&r->public),
                             "rule '%s' denies what proves something: a device that gives no evidence is not denied by it", r->public.name);
        for (size_t i = 0; is_handoff(r) && i < r->n_needs; i++)
                if (!collected[r->needs[i].pair]) {
                        find(f, false, "never-met", r->public.file, place_of(&r->public),
                             "rule '%s' requires evidence, and matches handoff only: no rule has it collected when a function is attached, so it never allows anything",
                             r->public.name);
                        return;
                }
}

static void check_file(struct findings *f, const struct pair *pair, const char *path, struct json_place at) {
        struct stat st;

        if (stat(path, &st) < 0)
                find(f, false, "missing-file", pair->file, at, "%s: %s", path, strerror(errno));
        else if (!S_ISREG(st.st_mode))
                find(f, false, "missing-file", pair->file, at, "%s: it is not a file", path);
        else if (st.st_mode & S_IWOTH)
                find(f, false, "writable-file", pair->file, at, "%s: everybody may write to it, so that it proves nothing", path);
}

static int read_paths(struct reader *r, const char *const paths[], size_t n) {
        _cleanup_free_ const char **dirs = calloc(n + 1, sizeof(*dirs));
        size_t n_dirs = 0, total = 0;
        struct stat st;
        int e;

        if (!dirs)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (stat(paths[i], &st) == 0 && S_ISDIR(st.st_mode))
                        dirs[n_dirs++] = paths[i];
        e = policy_read_dirs(dirs, n_dirs, r);
        for (size_t i = 0; i < n && e != -ENOMEM; i++)
                if (stat(paths[i], &st) < 0 || !S_ISDIR(st.st_mode))
                        e = policy_read_file(paths[i], r, &total);
        return e == -ENOMEM ? e : 0;
}

int policy_check(const char *const paths[], size_t n_paths, struct json_object **ret) {
        _cleanup_policy_ struct policy *p = policy_new();
        _cleanup_json_ struct json_object *list = json_new_array();
        struct findings f = { .list = list };
        bool collected[POLICY_PAIRS_MAX] = {};
        _cleanup_(reader_done) struct reader r = { .policy = p, .tell = take_error, .userdata = &f, .more = true };

        if (!p || read_paths(&r, paths, n_paths) < 0 || policy_sort(p) < 0)
                return -ENOMEM;
        for (size_t i = 0, k; i < p->n_rules; i = k) {
                for (k = i + 1; k < p->n_rules && p->rules[k].rank == p->rules[i].rank; k++)
                        ;
                check_rank(&f, p->rules + i, k - i);
        }
        for (size_t i = 0; i < p->n_rules; i++)
                note_collected(&p->rules[i], collected);
        for (size_t i = 0; i < p->n_rules; i++) {
                check_rule(&f, &p->rules[i]);
                check_evidence(&f, &p->rules[i], collected);
        }
        for (size_t i = 0; i < p->n_pairs; i++) {
                check_file(&f, &p->pairs[i], p->pairs[i].anchor, p->pairs[i].anchor_place);
                if (p->pairs[i].references)
                        check_file(&f, &p->pairs[i], p->pairs[i].references, p->pairs[i].references_place);
        }
        *ret = TAKE_PTR(list);
        return f.errors;
}
