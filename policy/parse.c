/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a text to rules. Whatever is not known, or says nothing, is refused: a slip must not become a permission. */
#include "private.h"

#define NAMES_MAX 64u /* anchors and references that a file gives names */
#define AGE_MAX (UINT64_C(3660) * 24 * 3600)
#define USEC UINT64_C(1000000)
#define ERRORS_MAX 100u /* told of one file: each costs a pass over it */

/* Printable, and not too long. */
static int take_name(struct reader *r, struct json_object *rule, const char **ret) {
        const char *name;
        int e;

        e = json_get_str(rule, "name", &name);
        if (e == -ENOENT)
                return reader_complain(r, false, "the rule has no \"name\"");
        reader_enter(r, "name", 0);
        if (e < 0 || isempty(name) || strlen(name) > POLICY_NAME_MAX)
                return reader_complain(r, false, "a rule's \"name\" is a string of 1 to %u bytes", POLICY_NAME_MAX);
        for (const char *c = name; *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f)
                        return reader_complain(r, false, "control character in a rule's name");
        reader_leave(r);
        *ret = policy_strdup(r->policy, name);
        return *ret ? 0 : -ENOMEM;
}

/* ---- what the rule says ---- */

static int parse_need(struct reader *r, struct json_object *o, struct need *ret) {
        static const char *const keys[] = { "anchor", "references", "max_age", "signed" };
        uint64_t age;
        int e;

        *ret = (struct need){ .max_age_usec = UINT64_MAX };
        e = reader_check_keys(r, o, keys, ARRAY_SIZE(keys));
        if (e >= 0)
                e = pair_parse(r, o, &ret->pair);
        if (e < 0)
                return e;
        e = json_get_u64(o, "max_age", &age);
        if (e == -EBADMSG || (e >= 0 && (age == 0 || age > AGE_MAX))) {
                reader_enter(r, "max_age", 0);
                return reader_complain(r, false, "\"max_age\" is a number of seconds, 1 to %llu", (unsigned long long) AGE_MAX);
        }
        if (e >= 0)
                ret->max_age_usec = age * USEC;
        if (json_get_bool(o, "signed", &ret->is_signed) == -EBADMSG) {
                reader_enter(r, "signed", 0);
                return reader_complain(r, false, "\"signed\" is true or false");
        }
        return 0;
}

static int parse_needs(struct reader *r, struct json_object *v, struct rule *rule) {
        bool is_list = json_object_is_type(v, json_type_array);
        size_t n = is_list ? json_object_array_length(v) : 1;
        struct need *needs;
        int e;

        if (n == 0 || n > POLICY_LIST_MAX)
                return reader_complain(r, false, "a list of 1 to %u pieces of evidence is expected here", POLICY_LIST_MAX);
        needs = policy_alloc(r->policy, n * sizeof(*needs));
        if (!needs)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                if (is_list)
                        reader_enter(r, NULL, i);
                e = parse_need(r, is_list ? json_object_array_get_idx(v, i) : v, &needs[i]);
                if (e < 0)
                        return e;
                if (is_list)
                        reader_leave(r);
        }
        rule->needs = needs;
        rule->n_needs = n;
        rule->requires |= 1u << POLICY_NEEDS_EVIDENCE;
        return 0;
}

static int parse_require(struct reader *r, struct json_object *o, struct rule *rule) {
        static const struct {
                const char *key, *value;
                enum policy_requirement what;
        } words[] = {
                { "ide", "secure", POLICY_NEEDS_IDE },
                { "mode", "early", POLICY_NEEDS_EARLY },
                { "access", "vpci", POLICY_NEEDS_VPCI },
        };
        static const char *const keys[] = { "ide", "evidence", "mode", "access", "guard" };
        struct json_object *v;
        int e;

        e = reader_check_keys(r, o, keys, ARRAY_SIZE(keys));
        if (e < 0)
                return e;
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                if (!json_object_object_get_ex(o, words[i].key, &v))
                        continue;
                reader_enter(r, words[i].key, 0);
                if (!json_object_is_type(v, json_type_string) || !streq(json_object_get_string(v), words[i].value))
                        return reader_complain(r, false, "all that can be required of \"%s\" is \"%s\"", words[i].key, words[i].value);
                reader_leave(r);
                rule->requires |= 1u << words[i].what;
        }
        if (json_object_object_get_ex(o, "guard", &v)) {
                reader_enter(r, "guard", 0);
                if (!json_object_is_type(v, json_type_boolean) || !json_object_get_boolean(v))
                        return reader_complain(r, false, "\"guard\" is true, or left out");
                reader_leave(r);
                rule->requires |= 1u << POLICY_NEEDS_GUARD;
        }
        if (json_object_object_get_ex(o, "evidence", &v)) {
                reader_enter(r, "evidence", 0);
                e = parse_needs(r, v, rule);
                if (e < 0)
                        return e;
                reader_leave(r);
        }
        if (rule->requires == 0)
                return reader_complain(r, false, "nothing is required here: write \"decision\": \"allow\"");
        return 0;
}

static int parse_permit(struct reader *r, struct json_object *o, struct rule *rule) {
        static const char *const names[] = { "association", "handoff" };

        if (!json_object_is_type(o, json_type_array))
                return reader_complain(r, false, "\"permit\" is a list of \"association\" and \"handoff\"");
        for (size_t i = 0; i < json_object_array_length(o); i++) {
                int e;

                reader_enter(r, NULL, i);
                e = reader_choice(r, json_object_array_get_idx(o, i), names, ARRAY_SIZE(names));
                if (e < 0)
                        return e;
                if (rule->permits & 1u << e)
                        return reader_complain(r, false, "\"%s\" is permitted twice", names[e]);
                reader_leave(r);
                rule->permits |= 1u << e;
        }
        return 0;
}

/* A number, or a string with K, M, G or T behind it. */
static bool parse_amount(struct json_object *v, uint64_t *ret) {
        static const char units[] = "KMGT";
        const char *text, *unit;
        uint64_t n = 0;

        if (json_object_is_type(v, json_type_int)) {
                if (json_object_get_int64(v) < 0)
                        return false;
                *ret = json_object_get_uint64(v);
                return *ret < UINT64_MAX;
        }
        if (!json_object_is_type(v, json_type_string))
                return false;
        text = json_object_get_string(v);
        if (strlen(text) > 16 || *text < '0' || *text > '9')
                return false;
        for (; *text >= '0' && *text <= '9'; text++)
                n = n * 10 + (uint64_t) (*text - '0');
        unit = *text ? strchr(units, *text) : NULL;
        if (!unit || text[1] || n >= UINT64_MAX >> (unsigned) (10 * (unit - units + 1)))
                return false;
        *ret = n << (unsigned) (10 * (unit - units + 1));
        return true;
}

static int parse_limits(struct reader *r, struct json_object *o, struct rule *rule) {
        const char *keys[_POLICY_LIMIT_MAX];
        int e;

        for (int l = 0; l < _POLICY_LIMIT_MAX; l++)
                keys[l] = policy_limit_to_string((enum policy_limit) l);
        e = reader_check_keys(r, o, keys, ARRAY_SIZE(keys));
        if (e < 0)
                return e;
        if (json_object_object_length(o) == 0)
                return reader_complain(r, false, "no limit is given here");
        for (int l = 0; l < _POLICY_LIMIT_MAX; l++) {
                bool bytes = l == POLICY_LIMIT_SHARED_BYTES || l == POLICY_LIMIT_PINNED_BYTES;
                struct json_object *v;

                if (!json_object_object_get_ex(o, keys[l], &v))
                        continue;
                reader_enter(r, keys[l], 0);
                if ((!bytes && !json_object_is_type(v, json_type_int)) || !parse_amount(v, &rule->limits[l]))
                        return reader_complain(r, false, bytes ? "a limit of bytes is a number from 0, or a string such as \"512M\" or \"4G\"" :
                                                                 "a limit is a number from 0");
                reader_leave(r);
        }
        rule->has_limits = true;
        return 0;
}

static int parse_reserve(struct reader *r, struct json_object *o, struct rule *rule) {
        int64_t n = json_object_is_type(o, json_type_int) ? json_object_get_int64(o) : 0;

        if (n < 1 || n > 256)
                return reader_complain(r, false, "\"ide_reserve\" is a number of streams, 1 to 256");
        rule->ide_reserve = (uint32_t) n;
        return 0;
}

static int parse_config_write(struct reader *r, struct json_object *o, struct rule *rule) {
        const char *names[_POLICY_CONFIG_MAX];
        int e;

        for (int i = 0; i < _POLICY_CONFIG_MAX; i++)
                names[i] = policy_config_write_to_string((enum policy_config_write) i);
        e = reader_choice(r, o, names, ARRAY_SIZE(names));
        if (e < 0)
                return e;
        rule->on_illegal_config_write = (enum policy_config_write) e;
        return 0;
}

static int parse_description(struct reader *r, struct json_object *o, _unused_ struct rule *rule) {
        return json_object_is_type(o, json_type_string) ? 0 : reader_complain(r, false, "\"description\" is a string");
}

static int parse_decision(struct reader *r, struct json_object *o, struct rule *rule) {
        static const char *const names[] = { "allow", "deny", "require" };
        int e = reader_choice(r, o, names, ARRAY_SIZE(names));

        if (e < 0)
                return e;
        rule->public.decides = (enum policy_decides) e;
        return 0;
}

/* Which keys a rule of which decision may have, besides those of every rule. */
#define OF(decides) (1u << (decides))

static const struct rule_key {
        const char *key;
        unsigned goes_with;
        int (*parse)(struct reader *r, struct json_object *o, struct rule *rule); /* NULL: done elsewhere */
} rule_keys[] = {
        { "name", ~0u, NULL },
        { "decision", ~0u, parse_decision },
        { "description", ~0u, parse_description },
        { "match", ~0u, parse_match },
        { "require", OF(POLICY_RULE_REQUIRES), parse_require },
        { "permit", OF(POLICY_RULE_REQUIRES) | OF(POLICY_RULE_ALLOWS), parse_permit },
        { "on_illegal_config_write", OF(POLICY_RULE_REQUIRES) | OF(POLICY_RULE_ALLOWS), parse_config_write },
        { "limits", ~OF(POLICY_RULE_DENIES), parse_limits },
        { "ide_reserve", ~OF(POLICY_RULE_DENIES), parse_reserve },
};

static int check_whole(struct reader *r, struct rule *rule) {
        if (rule->public.decides == POLICY_RULE_REQUIRES && rule->requires == 0)
                return reader_complain(r, false, "rule \"%s\" requires something, and does not say what: \"require\" is missing", rule->public.name);
        if (rule->public.decides == POLICY_RULE_LIMITS && !rule->has_limits && rule->ide_reserve == 0)
                return reader_complain(r, false, "rule \"%s\" has neither a \"decision\" nor limits", rule->public.name);
        /* Who names handoff in "match" speaks of nothing else. */
        for (unsigned i = 0; i < rule->n_conditions && rule->public.decides != POLICY_RULE_LIMITS; i++)
                if (rule->conditions[i].key == POLICY_KEY_ACCESS && rule->conditions[i].bits == 1u << POLICY_ACCESS_HANDOFF)
                        rule->permits |= POLICY_PERMITS_HANDOFF;
        return 0;
}

static int parse_rule(struct reader *r, struct json_object *o, struct rule *rule) {
        const char *keys[ARRAY_SIZE(rule_keys)];
        int e;

        for (size_t i = 0; i < ARRAY_SIZE(rule_keys); i++)
                keys[i] = rule_keys[i].key;
        e = reader_check_keys(r, o, keys, ARRAY_SIZE(keys));
        if (e >= 0)
                e = take_name(r, o, &rule->public.name);
        if (e < 0)
                return e;
        for (size_t i = 0; i < ARRAY_SIZE(rule_keys); i++) {
                const struct rule_key *k = &rule_keys[i];
                struct json_object *v;

                if (!k->parse || !json_object_object_get_ex(o, k->key, &v))
                        continue;
                reader_enter(r, k->key, 0);
                if (!(k->goes_with & OF(rule->public.decides)))
                        return rule->public.decides == POLICY_RULE_LIMITS ?
                                       reader_complain(r, true, "\"%s\" needs a \"decision\"", k->key) :
                                       reader_complain(r, true, "\"%s\" does not go with \"decision\": \"%s\"", k->key,
                                                       policy_decides_to_string(rule->public.decides));
                e = k->parse(r, v, rule);
                if (e < 0)
                        return e;
                reader_leave(r);
        }
        rule->source = policy_strdup(r->policy, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        return rule->source ? check_whole(r, rule) : -ENOMEM;
}

/* ---- the file ---- */

static int parse_names(struct reader *r, struct json_object *file, const char *key, struct json_object **ret) {
        struct json_object *table;

        if (!json_object_object_get_ex(file, key, &table))
                return 0;
        reader_enter(r, key, 0);
        if (!json_object_is_type(table, json_type_object))
                return reader_complain(r, false, "\"%s\" is an object: names, each with the path of a file", key);
        if ((unsigned) json_object_object_length(table) > NAMES_MAX)
                return reader_complain(r, false, "\"%s\" has at most %u names", key, NAMES_MAX);
        json_object_object_foreach(table, name, path) {
                reader_enter(r, name, 0);
                if (isempty(name) || *name == '/')
                        return reader_complain(r, true, "a name is not empty and does not begin with a slash");
                if (!json_object_is_type(path, json_type_string) || *json_object_get_string(path) != '/')
                        return reader_complain(r, false, "the path of a file is expected here, which begins with a slash");
                reader_leave(r);
        }
        reader_leave(r);
        *ret = table;
        return 0;
}

static int make_room(struct policy *p, size_t n) {
        struct rule *t;
        size_t room;

        if (p->n_rules + n <= p->room_rules)
                return 0;
        room = p->n_rules + n + p->room_rules / 2;
        t = reallocarray(p->rules, room, sizeof(*t));
        if (!t)
                return -ENOMEM;
        p->rules = t;
        p->room_rules = room;
        return 0;
}

static int compare_names(const void *a, const void *b) {
        const struct policy_rule *x = *(const struct policy_rule *const *) a, *y = *(const struct policy_rule *const *) b;
        int c = strcmp(x->name, y->name);

        return c ? c : x->line != y->line ? (x->line < y->line ? -1 : 1) : x->column < y->column ? -1 : x->column > y->column;
}

static int check_names(struct reader *r, size_t first) {
        struct policy *p = r->policy;
        size_t n = p->n_rules - first;
        _cleanup_free_ const struct policy_rule **all = calloc(n + 1, sizeof(*all));
        int e = 0;

        if (!all)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                all[i] = &p->rules[first + i].public;
        qsort(all, n, sizeof(*all), compare_names);
        for (size_t i = 1; i < n; i++)
                if (streq(all[i]->name, all[i - 1]->name)) {
                        e = reader_complain_at(r, (struct json_place){ all[i]->line, all[i]->column },
                                               "there is another rule \"%s\" in this file, in line %u", all[i]->name, all[i - 1]->line);
                        if (!r->more)
                                return e;
                }
        return e;
}

static int parse_rules(struct reader *r, struct json_object *rules, const char *path) {
        size_t n = json_object_array_length(rules), first = r->policy->n_rules;
        _cleanup_free_ struct json_place *places = calloc(n + 1, sizeof(*places));
        unsigned errors = 0;
        int e;

        if (!places)
                return -ENOMEM;
        if (n > POLICY_RULES_MAX - r->policy->n_rules) {
                e = reader_complain(r, false, "more than %u rules in all files", POLICY_RULES_MAX);
                return e == -EBADMSG ? -E2BIG : e;
        }
        e = make_room(r->policy, n);
        if (e >= 0)
                e = json_locate_elements(r->text, r->size, r->steps, r->n_steps, places, n);
        if (e < 0)
                return e;
        for (size_t i = 0; i < n; i++) {
                struct rule *rule = &r->policy->rules[r->policy->n_rules];
                size_t depth = r->n_steps;

                *rule = (struct rule){ .public = { .file = path, .line = places[i].line, .column = places[i].column, .decides = POLICY_RULE_LIMITS } };
                for (int l = 0; l < _POLICY_LIMIT_MAX; l++)
                        rule->limits[l] = UINT64_MAX;
                reader_enter(r, NULL, i);
                e = parse_rule(r, json_object_array_get_idx(rules, i), rule);
                r->n_steps = depth;
                if (e >= 0)
                        r->policy->n_rules++;
                else if (e != -EBADMSG || !r->more || ++errors == ERRORS_MAX)
                        return e;
        }
        e = check_names(r, first);
        return e < 0 ? e : errors > 0 ? -EBADMSG : 0;
}

static int parse_file(struct reader *r, struct json_object *file) {
        static const char *const keys[] = { "schema", "description", "anchors", "references", "rules" };
        const char *schema, *path = r->policy->files[r->policy->n_files - 1].path;
        struct json_object *v;
        int e;

        e = reader_check_keys(r, file, keys, ARRAY_SIZE(keys));
        if (e < 0)
                return e;
        e = json_get_str(file, "schema", &schema);
        if (e == -ENOENT)
                return reader_complain(r, false, "\"schema\": \"" POLICY_SCHEMA "\" is missing");
        reader_enter(r, "schema", 0);
        if (e < 0 || !streq(schema, POLICY_SCHEMA))
                return reader_complain(r, false, "\"schema\" is not \"" POLICY_SCHEMA "\": this is no policy, or one for another version");
        reader_leave(r);
        if (json_object_object_get_ex(file, "description", &v)) {
                reader_enter(r, "description", 0);
                e = parse_description(r, v, NULL);
                if (e < 0)
                        return e;
                reader_leave(r);
        }
        e = parse_names(r, file, "anchors", &r->anchors);
        if (e >= 0)
                e = parse_names(r, file, "references", &r->references);
        if (e < 0)
                return e;
        if (!json_object_object_get_ex(file, "rules", &v))
                return reader_complain(r, false, "\"rules\" is missing");
        reader_enter(r, "rules", 0);
        if (!json_object_is_type(v, json_type_array))
                return reader_complain(r, false, "\"rules\" is not a list");
        return parse_rules(r, v, path);
}

int policy_parse(struct reader *r) {
        _cleanup_json_ struct json_object *o = NULL;
        struct json_place at = {};
        const char *why = "";
        int e;

        r->n_steps = 0;
        r->anchors = r->references = NULL;
        e = policy_add_file(r->policy, r->path, false);
        if (e >= 0)
                e = json_parse_strict_at(r->text, r->size, &o, &at, &why);
        if (e == -EBADMSG)
                return reader_complain_at(r, at, "%s", why);
        return e < 0 ? e : parse_file(r, o);
}
