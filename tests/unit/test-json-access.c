/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Typed access to JSON: every getter with every type, the ends of the ranges, and what is written. */
#include "model/json.h"
#include "test.h"

static struct json_object *object(void) {
        static const char text[] = "{\"s\": \"12\", \"e\": \"\", \"z\": 0, \"n\": -1, \"u\": 18446744073709551615, \"h\": 9223372036854775808, "
                                   "\"i\": 9223372036854775807, \"m\": -9223372036854775808, \"t\": true, \"f\": false, \"a\": [1], \"o\": {\"p\": 1}, \"null\": null}";
        struct json_object *o = NULL;

        require(json_parse_strict(text, strlen(text), &o, NULL, NULL) == 0);
        return o;
}

static void test_getters(void) {
        _cleanup_json_ struct json_object *o = object();
        struct json_object *v = NULL;
        const char *s = "kept";
        uint64_t u = 42;
        int64_t i = 42;
        bool b = true;

        test_about("%s", "getters");
        check_int(json_get_str(o, "s", &s), 0);
        check_str(s, "12");
        check_int(json_get_str(o, "e", &s), 0);
        check_str(s, "");
        check_int(json_get_u64(o, "u", &u), 0);
        check(u == UINT64_MAX);
        check_int(json_get_u64(o, "h", &u), 0);
        check(u == UINT64_C(1) << 63);
        check_int(json_get_u64(o, "z", &u), 0);
        check(u == 0);
        check_int(json_get_i64(o, "m", &i), 0);
        check(i == INT64_MIN);
        check_int(json_get_i64(o, "i", &i), 0);
        check(i == INT64_MAX);
        check_int(json_get_i64(o, "n", &i), 0);
        check(i == -1);
        check_int(json_get_bool(o, "f", &b), 0);
        check(!b);
        check_int(json_get_bool(o, "t", &b), 0);
        check(b);
        check_int(json_get_array(o, "a", &v), 0);
        check_int(json_object_array_length(v), 1);
        check_int(json_get_object(o, "o", &v), 0);
        check_int(json_get_u64(v, "p", &u), 0);
}

static void test_getters_refuse(void) {
        static const char *const all[] = { "s", "e", "z", "n", "u", "h", "i", "m", "t", "f", "a", "o", "null" };
        _cleanup_json_ struct json_object *o = object();
        struct json_object *const wrong[] = { NULL, json_new_array(), json_object_new_string("s") };

        for (size_t k = 0; k <= ARRAY_SIZE(all); k++) {
                const char *key = k < ARRAY_SIZE(all) ? all[k] : "absent", *s = "kept";
                int expected = k < ARRAY_SIZE(all) ? -EBADMSG : -ENOENT;
                struct json_object *v = o;
                uint64_t u = 42;
                int64_t i = 42;

                test_about("member %s", key);
                if (!streq(key, "s") && !streq(key, "e"))
                        check_int(json_get_str(o, key, &s), expected);
                if (!strchr("zuhi", *key))
                        check_int(json_get_u64(o, key, &u), expected);
                if (!strchr("znim", *key))
                        check_int(json_get_i64(o, key, &i), expected);
                if (!strchr("tf", *key))
                        check_int(json_get_bool(o, key, &(bool){ false }), expected);
                if (!streq(key, "a"))
                        check_int(json_get_array(o, key, &v), expected);
                if (!streq(key, "o"))
                        check_int(json_get_object(o, key, &v), expected);
                check_str(s, "kept");
                check(u == 42 && i == 42 && v == o);
                check_str(json_str_or(o, key, "other"), streq(key, "s") ? "12" : streq(key, "e") ? "" : "other");
                check(strchr("zuhi", *key) || json_u64_or(o, key, 99) == 99);
                check(strchr("znim", *key) || json_i64_or(o, key, -99) == -99);
                check(strchr("tf", *key) || (json_bool_or(o, key, true) && !json_bool_or(o, key, false)));
        }
        for (size_t k = 0; k < ARRAY_SIZE(wrong); k++) {
                const char *s = "kept";

                test_about("no object (%zu)", k);
                check_int(json_get_str(wrong[k], "s", &s), -EBADMSG);
                check_str(json_str_or(wrong[k], "s", NULL), NULL);
                check(json_u64_or(wrong[k], "s", 7) == 7);
                json_object_put(wrong[k]);
        }
}

static void test_setters(void) {
        _cleanup_json_ struct json_object *o = json_new(), *back = NULL;
        struct json_object *a = json_new_array();
        const char *text;

        test_about("%s", "setters");
        json_set_str(o, "s", "a\"\\/\x01\x1f\n");
        json_set_str(o, "null", NULL);
        json_set_u64(o, "u", UINT64_MAX);
        json_set_i64(o, "i", INT64_MIN);
        json_set_bool(o, "b", false);
        json_set_bool(o, "b", true);
        json_push_str(a, "x");
        json_push_str(a, NULL);
        json_push_take(a, json_new());
        json_set_take(o, "a", a);
        text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        check_str(text, "{\"s\":\"a\\\"\\\\/\\u0001\\u001f\\n\",\"null\":null,\"u\":18446744073709551615,\"i\":-9223372036854775808,"
                        "\"b\":true,\"a\":[\"x\",\"\",{}]}");
        /* What we write we read. */
        check_int(json_parse_strict(text, strlen(text), &back, NULL, NULL), 0);
        check(json_object_equal(o, back));
}

int main(void) {
        test_getters();
        test_getters_refuse();
        test_setters();
        return test_end();
}
