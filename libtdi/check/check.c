/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs the table of checks. See check.h. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "check/internal.h"
#include "model/names.h"

DEFINE_NAMES(check_verdict, enum check_verdict, CHECK_VERDICT_MAX, CHECK_VERDICT_INVALID,
             [CHECK_SKIP] = "skip", [CHECK_PASS] = "pass", [CHECK_WARN] = "warn", [CHECK_FAIL] = "fail")

/* In the order in which they are shown. */
static const struct check_spec *const groups[] = {
        kernel_checks, iommu_checks, vfio_checks, kvm_checks, platform_checks, device_checks, security_checks, limit_checks, other_checks, tdid_checks,
};

static void *must(void *p) {
        if (!p) {
                fputs("out of memory\n", stderr);
                abort();
        }
        return p;
}

const char *check_error(int r) {
        const char *name = strerrorname_np(r < 0 ? -r : r);

        return name ? name : "an unknown error";
}

static char *format_text(const char *format, va_list ap) _printf_(1, 0);
static char *format_text(const char *format, va_list ap) {
        char *text = NULL;

        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        return must(text);
}

/* What the manual says of a check is all that it ever advises. */
static _unused_ bool is_in_table(const struct check_spec *spec, const char *remedy) {
        for (const char *const *r = spec->remedies; *r; r++)
                if (*r == remedy)
                        return true;
        return false;
}

void check_say(struct check *c, enum check_verdict verdict, const char *remedy, const char *format, ...) {
        va_list ap;

        assert(!c->reason);
        assert(!remedy || is_in_table(c->spec, remedy));
        assert((verdict >= CHECK_WARN) == (remedy != NULL));
        va_start(ap, format);
        c->reason = format_text(format, ap);
        va_end(ap);
        c->verdict = verdict;
        c->remedy = remedy;
}

void check_skip_denied(struct check *c, const char *what) {
        check_say(c, CHECK_SKIP, NULL, "%s: this user may not; ask as root, or start tdid, which is asked then", what);
}

void check_say_of(struct check *c, const char *bdf, enum check_verdict verdict, const char *format, ...) {
        struct json_object *o = json_new();
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = format_text(format, ap);
        va_end(ap);
        json_set_str(o, "bdf", bdf);
        json_set_str(o, "verdict", check_verdict_to_string(verdict));
        json_set_str(o, "reason", text);
        if (!c->functions[verdict])
                c->functions[verdict] = json_new_array();
        if (c->counts[verdict]++ < CHECK_FUNCTIONS_MAX)
                json_push_take(c->functions[verdict], o);
        else
                json_object_put(o);
}

void check_detail(struct check *c, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        if (!c->details)
                c->details = json_new_array();
        if (json_object_array_length(c->details) >= CHECK_DETAILS_MAX)
                return;
        va_start(ap, format);
        text = format_text(format, ap);
        va_end(ap);
        json_push_str(c->details, text);
}

static struct json_object *worst_first(struct check *c) {
        struct json_object *list = json_new_array();

        for (int v = CHECK_VERDICT_MAX - 1; v >= 0; v--) {
                for (size_t i = 0; c->functions[v] && i < json_object_array_length(c->functions[v]); i++)
                        if (json_object_array_length(list) < CHECK_FUNCTIONS_MAX)
                                json_push_take(list, json_object_get(json_object_array_get_idx(c->functions[v], i)));
                json_putp(&c->functions[v]);
        }
        return list;
}

static enum check_verdict run_one(const struct check_input *in, struct check_facts *facts, const struct check_spec *spec, struct json_object *list) {
        struct check c = { .in = in, .host = in->host, .facts = facts, .spec = spec };
        struct json_object *o = json_new();

        spec->run(&c);
        assert(c.reason);
        json_set_str(o, "id", spec->id);
        json_set_str(o, "group", spec->group);
        json_set_str(o, "title", spec->title);
        json_set_str(o, "verdict", check_verdict_to_string(c.verdict));
        json_set_str(o, "reason", c.reason);
        json_set_str(o, "remedy", c.remedy);
        json_set_take(o, "functions", worst_first(&c));
        json_set_take(o, "details", c.details ? c.details : json_new_array());
        json_push_take(list, o);
        free(c.reason);
        return c.verdict;
}

struct json_object *check_run(const struct check_input *in) {
        _cleanup_(check_facts_freep) struct check_facts *facts = check_facts_new(in);
        struct json_object *o = json_new(), *list = json_new_array(), *summary = json_new();
        enum check_verdict worst = CHECK_SKIP;
        size_t counts[CHECK_VERDICT_MAX] = {};

        for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
                for (const struct check_spec *s = groups[i]; s->id; s++) {
                        enum check_verdict v = run_one(in, facts, s, list);

                        counts[v]++;
                        worst = v > worst ? v : worst;
                }
        json_set_str(summary, "verdict", check_verdict_to_string(worst));
        for (int v = CHECK_VERDICT_MAX - 1; v >= 0; v--)
                json_set_u64(summary, check_verdict_to_string(v), counts[v]);
        json_set_take(o, "checks", list);
        json_set_take(o, "summary", summary);
        json_set_str(o, "platform", facts->platform->name);
        return o;
}

struct json_object *check_list(void) {
        struct json_object *all = json_new(), *list = json_new_array();

        for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
                for (const struct check_spec *s = groups[i]; s->id; s++) {
                        struct json_object *o = json_new(), *remedies = json_new_array();

                        json_set_str(o, "id", s->id);
                        json_set_str(o, "group", s->group);
                        json_set_str(o, "title", s->title);
                        json_set_str(o, "about", s->about);
                        for (const char *const *r = s->remedies; *r; r++)
                                json_push_str(remedies, *r);
                        json_set_take(o, "remedies", remedies);
                        json_push_take(list, o);
                }
        json_set_take(all, "checks", list);
        return all;
}
