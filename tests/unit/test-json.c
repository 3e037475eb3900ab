/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The strict JSON reader: what it takes, what it refuses and on which line. */
#include "model/json.h"
#include "test.h"

static int parse(const char *text, size_t size, struct json_object **ret, unsigned *ret_line, const char **ret_why) {
        char *copy = test_copy(text, size);
        int r = json_parse_strict(copy, size, ret, ret_line, ret_why);

        free(copy);
        return r;
}

static void check_accepted(const char *text, size_t size, const char *expected) {
        _cleanup_json_ struct json_object *o = NULL;
        unsigned line = 0;
        const char *why = "";

        test_about("%.*s", (int) size, text);
        if (!check_int(parse(text, size, &o, &line, &why), 0)) {
                fprintf(stderr, "line %u: %s\n", line, why);
                return;
        }
        check_str(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), expected);
}

static void check_refused(const char *text, size_t size, unsigned expected_line) {
        struct json_object *o = NULL;
        const char *why = NULL;
        unsigned line = 0;

        test_about("%.*s", (int) size, text);
        check_int(parse(text, size, &o, &line, &why), -EBADMSG);
        check(!o);
        check_int(line, expected_line);
        check(!isempty(why));
        /* Who does not want to know why need not. */
        check_int(parse(text, size, &o, NULL, NULL), -EBADMSG);
}

#define TAKES(text, expected) check_accepted((text), sizeof(text) - 1, (expected))
#define REFUSES(text, line) check_refused((text), sizeof(text) - 1, (line))

static void test_accepted(void) {
        TAKES("{}", "{}");
        TAKES("[]", "[]");
        TAKES(" \t\r\n{ \n } \n", "{}");
        TAKES("[ 1 , 2\n,\t3 ]", "[1,2,3]");
        TAKES("{\"a\":{\"a\":[{\"a\":1}]}}", "{\"a\":{\"a\":[{\"a\":1}]}}");
        TAKES("[true,false,null]", "[true,false,null]");
        TAKES("null", "null");
        TAKES("true", "true");
        TAKES("\"\"", "\"\"");
        TAKES("0", "0");
        TAKES("7", "7");
        TAKES("-7", "-7");
        TAKES("-0", "0");
        TAKES("[-0]", "[0]");
        TAKES(" 12 ", "12");
        TAKES("[0,-1,1]", "[0,-1,1]");
        TAKES("{\"\":1}", "{\"\":1}");
        TAKES("{\"a\":1,\"A\":2,\"aa\":3,\"a \":4}", "{\"a\":1,\"A\":2,\"aa\":3,\"a \":4}");
        /* the ends of both ranges */
        TAKES("18446744073709551615", "18446744073709551615");
        TAKES("9223372036854775807", "9223372036854775807");
        TAKES("9223372036854775808", "9223372036854775808");
        TAKES("-9223372036854775808", "-9223372036854775808");
        /* escapes, also such as stand for themselves */
        TAKES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
        TAKES("\"\\u0041\\u00e9\\u20AC\\uFFFD\\ud7ff\\ue000\"", "\"A\u00e9\u20ac\ufffd\xed\x9f\xbf\xee\x80\x80\"");
        TAKES("\"\\u0001\\u001f\\u007f\"", "\"\\u0001\\u001f\x7f\"");
        /* UTF-8 of every length, first and last, and on both sides of the surrogates */
        TAKES("\"\xc2\x80\xdf\xbf\"", "\"\xc2\x80\xdf\xbf\"");
        TAKES("\"\xe0\xa0\x80\xef\xbf\xbf\"", "\"\xe0\xa0\x80\xef\xbf\xbf\"");
        TAKES("\"\xed\x9f\xbf\xee\x80\x80\"", "\"\xed\x9f\xbf\xee\x80\x80\"");
        TAKES("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"");
        TAKES("{\"k\xc3\xa9y\":1}", "{\"k\xc3\xa9y\":1}");
        TAKES("\"\x7f\"", "\"\x7f\"");
}

static void test_refused_structure(void) {
        REFUSES("", 1);
        REFUSES(" ", 1);
        REFUSES("\n\n", 3);
        REFUSES("{", 1);
        REFUSES("[", 1);
        REFUSES("}", 1);
        REFUSES("]", 1);
        REFUSES("[}", 1);
        REFUSES("{]", 1);
        REFUSES("[1,]", 1);
        REFUSES("[,1]", 1);
        REFUSES("[1,,2]", 1);
        REFUSES("[1 2]", 1);
        REFUSES("[1\n2]", 2);
        REFUSES("{\"a\":1,}", 1);
        REFUSES("{,}", 1);
        REFUSES("{\"a\"}", 1);
        REFUSES("{\"a\" 1}", 1);
        REFUSES("{\"a\":}", 1);
        REFUSES("{\"a\":1 \"b\":2}", 1);
        REFUSES("{\"a\"=1}", 1);
        REFUSES("{a:1}", 1);
        REFUSES("{1:1}", 1);
        REFUSES("{null:1}", 1);
        REFUSES("{'a':1}", 1);
        REFUSES("['a']", 1);
        REFUSES("{} {}", 1);
        REFUSES("{}\n\nx", 3);
        REFUSES("1 2", 1);
        REFUSES("nullx", 1);
        REFUSES("[nul]", 1);
        REFUSES("nul", 1);
        REFUSES("True", 1);
        REFUSES("NULL", 1);
        REFUSES("[tru\n", 1);
        REFUSES("NaN", 1);
        REFUSES("[NaN]", 1);
        REFUSES("Infinity", 1);
        REFUSES("-Infinity", 1);
        REFUSES("undefined", 1);
        REFUSES("/* c */ {}", 1);
        REFUSES("// c\n{}", 1);
        REFUSES("{} // c", 1);
        REFUSES("# c\n{}", 1);
        REFUSES("\xef\xbb\xbf{}", 1);
        REFUSES("{}\0", 1);
        REFUSES("\0{}", 1);
        REFUSES("[1,\0 2]", 1);
        REFUSES("\v{}", 1);
        REFUSES("\f{}", 1);
        REFUSES("\xc2\xa0{}", 1);
}

static void test_refused_keys(void) {
        REFUSES("{\"a\":1,\"a\":1}", 1);
        REFUSES("{\"a\":1,\n\"b\":2,\n\"a\":3}", 3);
        REFUSES("{\"x\":{\"a\":1,\n\"a\":1}}", 2);
        REFUSES("{\"\":1,\"\":2}", 1);
        REFUSES("{\"\\u0061\":1}", 1);
        REFUSES("{\"a\\n\":1}", 1);
        REFUSES("{\"a\\/b\":1}", 1);
        REFUSES("{\"a\\u0000b\":1}", 1);
        REFUSES("{\"a\0b\":1}", 1);
        REFUSES("{\"\xff\":1}", 1);
}

static void test_refused_strings(void) {
        REFUSES("\"", 1);
        REFUSES("\"a", 1);
        REFUSES("\"\\", 1);
        REFUSES("\"\\\"", 1);
        REFUSES("\"a\nb\"", 1);
        REFUSES("\n\"a\tb\"", 2);
        REFUSES("\"\0\"", 1);
        REFUSES("\"\x1f\"", 1);
        REFUSES("\"\\u0000\"", 1);
        REFUSES("\"\\u\"", 1);
        REFUSES("\"\\u12\"", 1);
        REFUSES("\"\\u123\"", 1);
        REFUSES("\"\\u12g4\"", 1);
        REFUSES("\"\\u-123\"", 1);
        REFUSES("\"\\U0041\"", 1);
        REFUSES("\"\\x41\"", 1);
        REFUSES("\"\\a\"", 1);
        REFUSES("\"\\'\"", 1);
        REFUSES("\"\\0\"", 1);
        REFUSES("\"\\\0\"", 1);
        REFUSES("\"\\\n\"", 1);
        REFUSES("\"\\ud800\"", 1);
        REFUSES("\"\\udfff\"", 1);
        REFUSES("\"\\uD83D\\uDE00\"", 1);
        /* not UTF-8: lone, overlong, surrogate, too large, cut short */
        REFUSES("\"\x80\"", 1);
        REFUSES("\"\xbf\"", 1);
        REFUSES("\"\xc0\x80\"", 1);
        REFUSES("\"\xc1\xbf\"", 1);
        REFUSES("\"\xe0\x80\x80\"", 1);
        REFUSES("\"\xe0\x9f\xbf\"", 1);
        REFUSES("\"\xed\xa0\x80\"", 1);
        REFUSES("\"\xed\xbf\xbf\"", 1);
        REFUSES("\"\xf0\x80\x80\x80\"", 1);
        REFUSES("\"\xf0\x8f\xbf\xbf\"", 1);
        REFUSES("\"\xf4\x90\x80\x80\"", 1);
        REFUSES("\"\xf5\x80\x80\x80\"", 1);
        REFUSES("\"\xff\"", 1);
        REFUSES("\"\xc3\"", 1);
        REFUSES("\"\xc3", 1);
        REFUSES("\"\xe2\x82\"", 1);
        REFUSES("\"\xe2\x82", 1);
        REFUSES("\"\xf0\x9f\x98\"", 1);
        REFUSES("\"\xc3\x28\"", 1);
}

static void test_refused_numbers(void) {
        REFUSES("1.5", 1);
        REFUSES("1.0", 1);
        REFUSES("-1.5", 1);
        REFUSES("1.", 1);
        REFUSES(".5", 1);
        REFUSES("1e3", 1);
        REFUSES("1E3", 1);
        REFUSES("1e", 1);
        REFUSES("01", 1);
        REFUSES("00", 1);
        REFUSES("-01", 1);
        REFUSES("-", 1);
        REFUSES("--1", 1);
        REFUSES("- 1", 1);
        REFUSES("+1", 1);
        REFUSES("0x10", 1);
        REFUSES("1a", 1);
        REFUSES("1_000", 1);
        REFUSES("[1\n,\n2.5]", 3);
        REFUSES("18446744073709551616", 1);
        REFUSES("99999999999999999999999999999999", 1);
        REFUSES("-9223372036854775809", 1);
        REFUSES("-18446744073709551615", 1);
        /* It would come back as another number, or as none. */
        REFUSES("[\n-9223372036854775809]", 2);
}

static void test_depth(void) {
        for (unsigned kind = 0; kind < 3; kind++)
                for (unsigned depth = 1; depth <= JSON_DEPTH_MAX + 2; depth++) {
                        char text[512] = "";
                        size_t n = 0;

                        for (unsigned i = 0; i < depth; i++)
                                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s", kind == 0 || (kind == 1 && i % 2) ? "[" : "{\"a\":");
                        n += (size_t) snprintf(text + n, sizeof(text) - n, "1");
                        for (unsigned i = depth; i > 0; i--)
                                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s", kind == 0 || (kind == 1 && (i - 1) % 2) ? "]" : "}");
                        if (depth <= JSON_DEPTH_MAX)
                                check_accepted(text, n, text);
                        else
                                check_refused(text, n, 1);
                }
        /* Depth is how deep it is, not how often something was opened. */
        TAKES("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]",
              "[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]");
}

static void test_many_keys(void) {
        static char text[(JSON_KEYS_MAX + 1) * 12];

        for (unsigned count = JSON_KEYS_MAX; count <= JSON_KEYS_MAX + 1; count++) {
                struct json_object *o = NULL;
                size_t n = 0;
                unsigned line;
                const char *why;

                for (unsigned i = 0; i < count; i++)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, "%c\"%u\":1", i ? ',' : '{', i);
                text[n++] = '}';
                test_about("%u keys", count);
                check_int(parse(text, n, &o, &line, &why), count <= JSON_KEYS_MAX ? 0 : -EBADMSG);
                json_putp(&o);
        }
}

static void test_cut(void) {
        static const char text[] = "{\"a\": [1, -2, true, null, \"\xc3\xa9\\u20ac\\n\"], \"b\": {\"c\": \"d\"}}";

        for (size_t i = 0; i < sizeof(text) - 1; i++)
                check_refused(text, i, 1);
        check_accepted(text, sizeof(text) - 1, "{\"a\":[1,-2,true,null,\"\xc3\xa9\xe2\x82\xac\\n\"],\"b\":{\"c\":\"d\"}}");
}

static void check_refused_at(const char *text, unsigned line, unsigned column) {
        char *copy = test_copy(text, strlen(text));
        struct json_object *o = NULL;
        struct json_place at = {};
        const char *why = NULL;

        test_about("%s", strempty(text));
        check_int(json_parse_strict_at(copy, strlen(text), &o, &at, &why), -EBADMSG);
        check(!o && !isempty(why));
        check_int(at.line, line);
        check_int(at.column, column);
        free(copy);
}

static void test_columns(void) {
        check_refused_at("", 1, 1);
        check_refused_at("  ", 1, 3);
        check_refused_at("\n\n  x", 3, 3);
        check_refused_at("{\"a\": 1,\n  \"b\": 2,\n  \"a\": 3}", 3, 3);
        check_refused_at("{\"a\" 1}", 1, 6);
        check_refused_at("{\"a\": 1.5}", 1, 8);
        check_refused_at("{\"a\":\r\n\ttru}", 2, 2);
        check_refused_at("{} {}", 1, 4);
        /* Bytes, not letters. */
        check_refused_at("[\"\xc3\xa9\" 1]", 1, 7);
        check_refused_at("[1,\n]", 2, 1);
}

static void check_located(const char *text, const struct json_step *steps, size_t n, bool at_key, int expected, unsigned line, unsigned column) {
        char *copy = test_copy(text, strlen(text));
        struct json_place at = {};

        test_about("%s, %zu steps", strempty(text), n);
        check_int(json_locate(copy, strlen(text), steps, n, at_key, &at), expected);
        check_int(at.line, line);
        check_int(at.column, column);
        free(copy);
}

#define STEPS(...) (const struct json_step[]){ __VA_ARGS__ }, sizeof((const struct json_step[]){ __VA_ARGS__ }) / sizeof(struct json_step)

static void test_locate(void) {
        static const char text[] = "\n{\"a\": [1, {\"b\":\n   null}, []],\n \"ab\" :{ \"a\":[ ] } }";
        struct json_place all[4] = {};

        check_located(text, NULL, 0, false, 0, 2, 1);
        check_located(text, NULL, 0, true, 0, 2, 1);
        check_located(text, STEPS({ .key = "a" }), false, 0, 2, 7);
        check_located(text, STEPS({ .key = "a" }), true, 0, 2, 2);
        check_located(text, STEPS({ .key = "a" }, { .index = 0 }), false, 0, 2, 8);
        check_located(text, STEPS({ .key = "a" }, { .index = 1 }), true, 0, 2, 11);
        check_located(text, STEPS({ .key = "a" }, { .index = 1 }, { .key = "b" }), true, 0, 2, 12);
        check_located(text, STEPS({ .key = "a" }, { .index = 1 }, { .key = "b" }), false, 0, 3, 4);
        check_located(text, STEPS({ .key = "a" }, { .index = 2 }), false, 0, 3, 11);
        check_located(text, STEPS({ .key = "ab" }), true, 0, 4, 2);
        check_located(text, STEPS({ .key = "ab" }, { .key = "a" }), false, 0, 4, 14);
        check_located(text, STEPS({ .key = "a" }, { .index = 3 }), false, -ENOENT, 0, 0);
        check_located(text, STEPS({ .key = "b" }), false, -ENOENT, 0, 0);
        check_located(text, STEPS({ .index = 0 }), false, -ENOENT, 0, 0);
        check_located(text, STEPS({ .key = "a" }, { .key = "a" }), false, -ENOENT, 0, 0);
        check_located(text, STEPS({ .key = "a" }, { .index = 0 }, { .index = 0 }), false, -ENOENT, 0, 0);
        check_located("{\"a\": }", STEPS({ .key = "a" }), false, -EBADMSG, 0, 0);
        check_located("", NULL, 0, false, -EBADMSG, 0, 0);

        test_about("elements");
        check_int(json_locate_elements(text, strlen(text), STEPS({ .key = "a" }), all, 4), 3);
        check(all[0].line == 2 && all[0].column == 8 && all[1].column == 11 && all[2].line == 3 && all[2].column == 11 && all[3].line == 0);
        check_int(json_locate_elements(text, strlen(text), STEPS({ .key = "a" }), all, 2), 2);
        check_int(json_locate_elements(text, strlen(text), STEPS({ .key = "ab" }, { .key = "a" }), all, 4), 0);
        check_int(json_locate_elements(text, strlen(text), STEPS({ .key = "ab" }), all, 4), -ENOENT);
        check_int(json_locate_elements(text, strlen(text), STEPS({ .key = "b" }), all, 4), -ENOENT);
        check_int(json_locate_elements("[1", 2, NULL, 0, all, 4), -EBADMSG);
}

int main(void) {
        test_columns();
        test_locate();
        test_accepted();
        test_refused_structure();
        test_refused_keys();
        test_refused_strings();
        test_refused_numbers();
        test_depth();
        test_many_keys();
        test_cut();
        return test_end();
}
