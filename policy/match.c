/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "match": its keys, as conditions, and how specific they make a rule. */
#include "private.h"

/* Keys whose facts are enums, with the names of their values. */
static size_t enum_names(enum policy_key key, const char *names[static 8]) {
        size_t n = 0;

        switch (key) {
        case POLICY_KEY_SRIOV:
                for (; n < _POLICY_SRIOV_MAX; n++)
                        names[n] = policy_sriov_to_string((enum policy_sriov) n);
                break;
        case POLICY_KEY_PLATFORM:
                for (; platform_name(n); n++)
                        names[n] = platform_name(n);
                break;
        case POLICY_KEY_MODE:
                for (; n < _POLICY_MODE_MAX; n++)
                        names[n] = policy_mode_to_string((enum policy_mode) n);
                break;
        case POLICY_KEY_ACCESS:
                for (; n < _POLICY_ACCESS_MAX; n++)
                        names[n] = policy_access_to_string((enum policy_access) n);
                break;
        default:
                break;
        }
        return n;
}

static int parse_element(struct reader *r, struct json_object *v, enum policy_key key, struct condition *c, struct value *values, uint32_t *least) {
        static const uint32_t enum_ranks[_POLICY_KEY_MAX] = {
                [POLICY_KEY_SRIOV] = 1u << RANK_SRIOV,
                [POLICY_KEY_PLATFORM] = 1u << RANK_PLATFORM,
                [POLICY_KEY_MODE] = 1u << RANK_MODE,
                [POLICY_KEY_ACCESS] = 1u << RANK_ACCESS,
        };
        const char *names[8];
        uint32_t rank = 0;
        int e;

        c->by_bits = enum_ranks[key];
        if (c->by_bits) {
                e = reader_choice(r, v, names, enum_names(key, names));
                if (e < 0)
                        return e;
                c->bits |= 1u << e;
                rank = enum_ranks[key];
        } else {
                e = value_parse(r, key, v, &values[c->n], &rank);
                if (e < 0)
                        return e;
                c->n++;
        }
        /* A list is as specific as the least specific that is in it. */
        if (*least == 0 || rank < *least)
                *least = rank;
        return 0;
}

static int parse_condition(struct reader *r, struct json_object *v, enum policy_key key, struct condition *c, uint32_t *rank) {
        struct value values[POLICY_LIST_MAX];
        uint32_t least = 0;
        size_t n = 1;
        int e = 0;

        *c = (struct condition){ .key = (uint8_t) key };
        if (key == POLICY_KEY_TEE_IO) {
                if (!json_object_is_type(v, json_type_boolean))
                        return reader_complain(r, false, "\"tee_io\" is true or false");
                c->by_bits = true;
                c->bits = json_object_get_boolean(v) ? 2 : 1;
                *rank |= 1u << RANK_TEE_IO;
                return 0;
        }
        if (json_object_is_type(v, json_type_array)) {
                n = json_object_array_length(v);
                if (n == 0)
                        return reader_complain(r, false, "an empty list would never match");
                if (n > POLICY_LIST_MAX)
                        return reader_complain(r, false, "a list has at most %u values", POLICY_LIST_MAX);
                for (size_t i = 0; i < n; i++) {
                        reader_enter(r, NULL, i);
                        e = parse_element(r, json_object_array_get_idx(v, i), key, c, values, &least);
                        if (e < 0)
                                return e;
                        reader_leave(r);
                }
        } else
                e = parse_element(r, v, key, c, values, &least);
        if (e < 0)
                return e;
        if (c->n == 1)
                c->one = values[0];
        else if (c->n > 1) {
                struct value *all = policy_alloc(r->policy, c->n * sizeof(*all));

                if (!all)
                        return -ENOMEM;
                c->values = memcpy(all, values, c->n * sizeof(*all));
        }
        *rank |= least;
        return 0;
}

int parse_match(struct reader *r, struct json_object *match, struct rule *rule) {
        struct condition conditions[_POLICY_KEY_MAX];
        const char *keys[_POLICY_KEY_MAX];
        int e;

        for (int k = 0; k < _POLICY_KEY_MAX; k++)
                keys[k] = policy_key_to_string((enum policy_key) k);
        e = reader_check_keys(r, match, keys, ARRAY_SIZE(keys));
        if (e < 0)
                return e;
        for (int k = 0; k < _POLICY_KEY_MAX; k++) {
                struct json_object *v;

                if (!json_object_object_get_ex(match, keys[k], &v))
                        continue;
                reader_enter(r, keys[k], 0);
                e = parse_condition(r, v, (enum policy_key) k, &conditions[rule->n_conditions], &rule->rank);
                if (e < 0)
                        return e;
                reader_leave(r);
                rule->n_conditions++;
        }
        if (rule->n_conditions == 0)
                return 0;
        rule->conditions = policy_alloc(r->policy, rule->n_conditions * sizeof(*rule->conditions));
        if (!rule->conditions)
                return -ENOMEM;
        memcpy(rule->conditions, conditions, rule->n_conditions * sizeof(*rule->conditions));
        return 0;
}
