/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decisions and policies as JSON, and the rule that pins a device. */
#include "policy/report.h"

#include <stdio.h>
#include <tdi/bdf.h>

#include "private.h"

static void put_rule(struct json_object *o, const struct policy_rule *r) {
        json_set_str(o, "name", r->name);
        json_set_str(o, "file", r->file);
        json_set_u64(o, "line", r->line);
        json_set_u64(o, "column", r->column);
        json_set_str(o, "decision", policy_decides_to_string(r->decides));
}

static struct json_object *rule_to_json(const struct policy_rule *r) {
        struct json_object *o;

        if (!r)
                return NULL;
        o = json_new();
        put_rule(o, r);
        return o;
}

static struct json_object *rules_to_json(const struct policy_rule *const rules[], size_t n) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < n; i++)
                json_push_take(list, rule_to_json(rules[i]));
        return list;
}

static struct json_object *names_to_json(unsigned bits, const char *(*name)(unsigned), unsigned n) {
        struct json_object *list = json_new_array();

        for (unsigned i = 0; i < n; i++)
                if (bits & 1u << i)
                        json_push_str(list, name(i));
        return list;
}

static const char *requirement_name(unsigned i) {
        return policy_requirement_to_string((enum policy_requirement) i);
}

static const char *permission_name(unsigned i) {
        return 1u << i == POLICY_PERMITS_ASSOCIATION ? "association" : "handoff";
}

static struct json_object *limits_to_json(const struct policy_limits *limits) {
        struct json_object *list = json_new_array();

        for (int l = 0; l < _POLICY_LIMIT_MAX; l++) {
                struct json_object *o;

                if (!limits->rule[l])
                        continue;
                o = json_new();
                json_set_str(o, "limit", policy_limit_to_string((enum policy_limit) l));
                json_set_u64(o, "max", limits->max[l]);
                json_set_str(o, "rule", limits->rule[l]->name);
                json_push_take(list, o);
        }
        return list;
}

static struct json_object *unmet_to_json(const struct policy_decision *d, const struct policy_facts *facts) {
        struct json_object *list = json_new_array();
        char text[1536];

        for (size_t i = 0; i < d->n_unmet; i++) {
                struct json_object *o = json_new();

                json_set_str(o, "requirement", policy_requirement_to_string(d->unmet[i].what));
                json_set_str(o, "rule", d->unmet[i].rule->name);
                if (d->unmet[i].what == POLICY_NEEDS_EVIDENCE) {
                        json_set_str(o, "anchor", d->needs[d->unmet[i].need].anchor);
                        json_set_str(o, "references", d->needs[d->unmet[i].need].references);
                }
                json_set_str(o, "text", policy_unmet_describe(d, i, facts, text, sizeof(text)));
                json_push_take(list, o);
        }
        return list;
}

static struct json_object *needs_to_json(const struct policy_decision *d) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < d->n_needs; i++) {
                struct json_object *o = json_new();

                json_set_str(o, "anchor", d->needs[i].anchor);
                json_set_str(o, "references", d->needs[i].references);
                json_set_take(o, "max_age", d->needs[i].max_age_usec == UINT64_MAX ? NULL : json_object_new_uint64(d->needs[i].max_age_usec / 1000000));
                json_set_bool(o, "signed", d->needs[i].is_signed);
                json_push_take(list, o);
        }
        return list;
}

struct json_object *policy_decision_to_json(const struct policy_decision *d, const struct policy_facts *facts) {
        struct json_object *o = json_new(), *close = json_new_array();

        json_set_str(o, "decision", d->verdict == POLICY_ALLOW ? "allow" : "deny");
        json_set_str(o, "text", d->text);
        json_set_bool(o, "default", d->is_default);
        json_set_take(o, "rule", rule_to_json(d->rule));
        json_set_take(o, "winners", rules_to_json(d->winners, d->n_winners < POLICY_WINNERS_MAX ? d->n_winners : POLICY_WINNERS_MAX));
        json_set_take(o, "requires", names_to_json(d->requires, requirement_name, _POLICY_REQUIREMENT_MAX));
        json_set_take(o, "evidence", needs_to_json(d));
        json_set_take(o, "unmet", unmet_to_json(d, facts));
        json_set_take(o, "pending", names_to_json(d->pending, requirement_name, _POLICY_REQUIREMENT_MAX));
        json_set_take(o, "permits", names_to_json(d->permits, permission_name, 2));
        json_set_take(o, "limits", limits_to_json(&d->limits));
        json_set_u64(o, "ide_reserve", d->ide_reserve);
        json_set_str(o, "on_illegal_config_write", policy_config_write_to_string(d->on_illegal_config_write));
        json_set_take(o, "next", rules_to_json(d->next, d->n_next));
        for (size_t i = 0; i < d->n_close; i++) {
                struct json_object *one = rule_to_json(d->close[i].rule);

                json_set_str(one, "failed", policy_key_to_string(d->close[i].failed));
                json_push_take(close, one);
        }
        json_set_take(o, "close", close);
        return o;
}

struct json_object *policy_explain(const struct policy *p, const struct policy_facts *facts) {
        struct policy_decision d;

        policy_decide(p, facts, &d);
        return policy_decision_to_json(&d, facts);
}

struct json_object *policy_to_json(const struct policy *p) {
        struct json_object *o = json_new(), *files = json_new_array(), *rules = json_new_array();

        for (size_t i = 0; i < p->n_files; i++) {
                struct json_object *one = json_new();

                json_set_str(one, "file", p->files[i].path);
                json_set_bool(one, "masked", p->files[i].masked);
                json_push_take(files, one);
        }
        for (size_t i = 0; i < p->n_rules; i++) {
                struct json_object *one = rule_to_json(&p->rules[i].public), *source = NULL;

                /* It was a text of that reader once. */
                if (json_parse_strict(p->rules[i].source, strlen(p->rules[i].source), &source, NULL, NULL) >= 0)
                        json_set_take(one, "source", source);
                json_push_take(rules, one);
        }
        json_set_take(o, "files", files);
        json_set_take(o, "rules", rules);
        return o;
}

/* ---- suggestions ---- */

static struct json_object *suggest_match(const struct policy_facts *f, const char *bdf, bool owner) {
        struct json_object *match = json_new();
        char text[32];

        json_set_str(match, "bdf", bdf);
        if (f->has_serial) {
                for (size_t i = 0; i < 8; i++)
                        snprintf(text + i * 3, sizeof(text) - i * 3, "%02x%s", (unsigned) (f->serial >> (56 - i * 8)) & 0xff, i < 7 ? "-" : "");
                json_set_str(match, "serial", text);
        }
        snprintf(text, sizeof(text), "%04x:%04x", f->subsystem_vendor, f->subsystem_device);
        if (f->subsystem_vendor != 0)
                json_set_str(match, "subsystem", text);
        snprintf(text, sizeof(text), "%04x:%04x", f->vendor, f->device);
        json_set_str(match, "id", text);
        if (f->vm)
                json_set_str(match, "vm", f->vm);
        if (owner)
                json_set_u64(match, "owner", f->owner);
        return match;
}

static struct json_object *suggest_require(const struct policy_facts *f) {
        struct json_object *require = json_new(), *list = json_new_array();

        if (f->tee_io)
                json_set_str(require, "ide", "secure");
        for (size_t i = 0; i < f->n_proofs; i++) {
                struct json_object *one;

                if (f->proofs[i].why)
                        continue;
                one = json_new();
                json_set_str(one, "anchor", f->proofs[i].anchor);
                if (f->proofs[i].references)
                        json_set_str(one, "references", f->proofs[i].references);
                if (f->proofs[i].is_signed)
                        json_set_bool(one, "signed", true);
                json_push_take(list, one);
        }
        if (json_object_array_length(list) > 0)
                json_set_take(require, "evidence", list);
        else
                json_object_put(list);
        return require;
}

struct json_object *policy_suggest(const struct policy_facts *f, bool owner, const char *digest) {
        struct json_object *o = json_new(), *rules = json_new_array(), *rule = json_new(), *require = suggest_require(f);
        const struct tdi_bdf where = { .domain = (uint16_t) (f->bdf >> 16), .bus = (uint8_t) (f->bdf >> 8), .devfn = (uint8_t) f->bdf };
        char bdf[TDI_BDF_MAX], name[64], text[1536];
        bool required = json_object_object_length(require) > 0;

        tdi_bdf_format(where, bdf);
        snprintf(name, sizeof(name), "device %s", bdf);
        snprintf(text, sizeof(text), "%04x:%04x, class %06x%s%s", f->vendor, f->device, f->class & 0xffffff, digest ? ", evidence " : "", strempty(digest));
        json_set_str(rule, "name", name);
        json_set_str(rule, "description", text);
        json_set_take(rule, "match", suggest_match(f, bdf, owner));
        json_set_str(rule, "decision", required ? "require" : "allow");
        if (required)
                json_set_take(rule, "require", require);
        else
                json_object_put(require);
        json_push_take(rules, rule);
        json_set_str(o, "schema", POLICY_SCHEMA);
        json_set_take(o, "rules", rules);
        return o;
}
