/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Strict JSON: a scan that refuses, then json-c, then typed access. */
#include "model/json.h"

#include <stdio.h>

struct scan {
        const char *p, *end;
        const char *line_start;
        unsigned line, depth;
        const char *why;
};

struct key {
        const char *p;
        size_t len;
};

static int fail(struct scan *s, const char *why) {
        if (!s->why)
                s->why = why;
        return -EBADMSG;
}

static void skip_space(struct scan *s) {
        while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
                s->p++;
                if (s->p[-1] == '\n') {
                        s->line++;
                        s->line_start = s->p;
                }
        }
}

static struct json_place place(const struct scan *s) {
        return (struct json_place){ s->line, (unsigned) (s->p - s->line_start) + 1 };
}

/* One well-formed UTF-8 sequence (RFC 3629): no overlong form, no surrogate, nothing above U+10FFFF. */
static int scan_utf8(struct scan *s) {
        unsigned char c = (unsigned char) *s->p;
        unsigned n, v, min;

        if (c < 0x80) {
                s->p++;
                return 0;
        }
        if (c >= 0xc2 && c <= 0xdf)
                n = 1, v = c & 0x1fu, min = 0x80;
        else if (c >= 0xe0 && c <= 0xef)
                n = 2, v = c & 0x0fu, min = 0x800;
        else if (c >= 0xf0 && c <= 0xf4)
                n = 3, v = c & 0x07u, min = 0x10000;
        else
                return fail(s, "a string is not UTF-8");
        if ((size_t) (s->end - s->p) <= n)
                return fail(s, "a string is not UTF-8");
        for (unsigned i = 1; i <= n; i++) {
                unsigned char d = (unsigned char) s->p[i];

                if ((d & 0xc0) != 0x80)
                        return fail(s, "a string is not UTF-8");
                v = v << 6 | (d & 0x3fu);
        }
        if (v < min || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
                return fail(s, "a string is not UTF-8");
        s->p += n + 1;
        return 0;
}

static int scan_escape(struct scan *s) {
        unsigned v = 0;

        s->p++;
        if (s->p >= s->end)
                return fail(s, "unfinished escape");
        if (*s->p != 'u') {
                if (!strchr("\"\\/bfnrt", *s->p) || !*s->p)
                        return fail(s, "unknown escape");
                s->p++;
                return 0;
        }
        if (s->end - s->p < 5)
                return fail(s, "unfinished escape");
        for (int i = 1; i <= 4; i++) {
                char c = s->p[i];

                if (c >= '0' && c <= '9')
                        v = v << 4 | (unsigned) (c - '0');
                else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
                        v = v << 4 | (unsigned) ((c | 0x20) - 'a' + 10);
                else
                        return fail(s, "bad \\u escape");
        }
        if (v == 0)
                return fail(s, "\\u0000 in a string");
        if (v >= 0xd800 && v <= 0xdfff)
                return fail(s, "surrogate escape: write the character itself");
        s->p += 5;
        return 0;
}

static int scan_string(struct scan *s, bool is_key, struct key *ret) {
        const char *start;
        int r;

        if (s->p >= s->end || *s->p != '"')
                return fail(s, is_key ? "a key must be a string in double quotes" : "a string must be in double quotes");
        start = ++s->p;
        for (;;) {
                if (s->p >= s->end)
                        return fail(s, "unfinished string");
                if (*s->p == '"')
                        break;
                if ((unsigned char) *s->p < 0x20)
                        return fail(s, "control character in a string");
                if (*s->p == '\\') {
                        if (is_key)
                                return fail(s, "escape in a key");
                        r = scan_escape(s);
                } else
                        r = scan_utf8(s);
                if (r < 0)
                        return r;
        }
        if (ret)
                *ret = (struct key){ start, (size_t) (s->p - start) };
        s->p++;
        return 0;
}

static int scan_number(struct scan *s) {
        bool negative = false;
        uint64_t v = 0, max;
        const char *start;

        if (*s->p == '-') {
                negative = true;
                s->p++;
        }
        max = negative ? (uint64_t) INT64_MAX + 1 : UINT64_MAX;
        start = s->p;
        while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
                unsigned d = (unsigned) (*s->p - '0');

                if (v > (max - d) / 10)
                        return fail(s, "number out of range");
                v = v * 10 + d;
                s->p++;
        }
        if (s->p == start || (*start == '0' && s->p - start > 1))
                return fail(s, "malformed number");
        if (s->p < s->end && (*s->p == '.' || *s->p == 'e' || *s->p == 'E'))
                return fail(s, "fractions and exponents are not accepted");
        return 0;
}

static int scan_word(struct scan *s, const char *word) {
        size_t n = strlen(word);

        if ((size_t) (s->end - s->p) < n || memcmp(s->p, word, n) != 0)
                return fail(s, "unknown word");
        s->p += n;
        return 0;
}

static int scan_value(struct scan *s);

static int scan_object(struct scan *s) {
        _cleanup_free_ struct key *keys = NULL;
        size_t n = 0, room = 0;
        int r;

        s->p++;
        skip_space(s);
        if (s->p < s->end && *s->p == '}') {
                s->p++;
                return 0;
        }
        for (;;) {
                struct key k = { .p = "" };

                skip_space(s);
                r = scan_string(s, true, &k);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < n; i++)
                        if (keys[i].len == k.len && memcmp(keys[i].p, k.p, k.len) == 0) {
                                s->p = k.p - 1;
                                return fail(s, "duplicate key");
                        }
                if (n >= JSON_KEYS_MAX)
                        return fail(s, "too many keys in one object");
                if (n >= room) {
                        struct key *t;

                        room = room ? room * 2 : 8;
                        t = reallocarray(keys, room, sizeof(*keys));
                        if (!t)
                                return -ENOMEM;
                        keys = t;
                }
                keys[n++] = k;
                skip_space(s);
                if (s->p >= s->end || *s->p != ':')
                        return fail(s, "':' expected");
                s->p++;
                r = scan_value(s);
                if (r < 0)
                        return r;
                skip_space(s);
                if (s->p < s->end && *s->p == ',') {
                        s->p++;
                        continue;
                }
                if (s->p < s->end && *s->p == '}') {
                        s->p++;
                        return 0;
                }
                return fail(s, "',' or '}' expected");
        }
}

static int scan_array(struct scan *s) {
        int r;

        s->p++;
        skip_space(s);
        if (s->p < s->end && *s->p == ']') {
                s->p++;
                return 0;
        }
        for (;;) {
                r = scan_value(s);
                if (r < 0)
                        return r;
                skip_space(s);
                if (s->p < s->end && *s->p == ',') {
                        s->p++;
                        continue;
                }
                if (s->p < s->end && *s->p == ']') {
                        s->p++;
                        return 0;
                }
                return fail(s, "',' or ']' expected");
        }
}

/* Recursion is bounded by JSON_DEPTH_MAX. */
static int scan_value(struct scan *s) { /* NOLINT(misc-no-recursion) */
        int r;

        skip_space(s);
        if (s->p >= s->end)
                return fail(s, "a value is missing");
        switch (*s->p) {
        case '{':
        case '[':
                if (++s->depth > JSON_DEPTH_MAX)
                        return fail(s, "nested too deep");
                r = *s->p == '{' ? scan_object(s) : scan_array(s);
                s->depth--;
                return r;
        case '"':
                return scan_string(s, false, NULL);
        case 't':
                return scan_word(s, "true");
        case 'f':
                return scan_word(s, "false");
        case 'n':
                return scan_word(s, "null");
        default:
                if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
                        return scan_number(s);
                return fail(s, "a value is missing");
        }
}

static struct scan scan_new(const char *text, size_t len) {
        return (struct scan){ .p = text, .end = text + len, .line_start = text, .line = 1 };
}

int json_parse_strict_at(const char *text, size_t len, struct json_object **ret, struct json_place *ret_place, const char **ret_why) {
        struct scan s = scan_new(text, len);
        struct json_tokener *tok;
        struct json_object *o;
        int r;

        r = scan_value(&s);
        if (r >= 0) {
                skip_space(&s);
                if (s.p != s.end)
                        r = fail(&s, "text after the value");
        }
        if (r >= 0 && len > INT32_MAX / 2)
                r = fail(&s, "too long");
        if (r < 0) {
                if (ret_place)
                        *ret_place = place(&s);
                if (ret_why)
                        *ret_why = s.why ? s.why : "out of memory";
                return r;
        }

        tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
        if (!tok)
                return -ENOMEM;
        o = json_tokener_parse_ex(tok, text, (int) len);
        /* A bare number at the end of the text could go on: json-c wants to see its end. */
        if (!o && json_tokener_get_error(tok) == json_tokener_continue)
                o = json_tokener_parse_ex(tok, " ", 1);
        r = json_tokener_get_error(tok) == json_tokener_success ? 0 : -EBADMSG;
        json_tokener_free(tok);
        if (r < 0) {
                if (o)
                        json_object_put(o);
                if (ret_place)
                        *ret_place = place(&s);
                if (ret_why)
                        *ret_why = "json-c refused the text";
                return r;
        }
        *ret = o;
        return 0;
}

int json_parse_strict(const char *text, size_t len, struct json_object **ret, unsigned *ret_line, const char **ret_why) {
        struct json_place p = {};
        int r;

        r = json_parse_strict_at(text, len, ret, &p, ret_why);
        if (r < 0 && ret_line && p.line > 0)
                *ret_line = p.line;
        return r;
}

/* To the value, or the key, that a step leads to. The text has been scanned as a whole, so that what is between is as it should be. */
static int scan_step(struct scan *s, const struct json_step *step, bool at_key) {
        struct key k;
        int r;

        skip_space(s);
        if (s->p >= s->end || *s->p != (step->key ? '{' : '['))
                return -ENOENT;
        s->p++;
        for (size_t i = 0;; i++) {
                skip_space(s);
                if (s->p >= s->end || *s->p == '}' || *s->p == ']')
                        return -ENOENT;
                if (step->key) {
                        struct scan before = *s;

                        r = scan_string(s, true, &k);
                        if (r < 0)
                                return r;
                        if (at_key && strlen(step->key) == k.len && memcmp(step->key, k.p, k.len) == 0) {
                                *s = before;
                                return 0;
                        }
                        skip_space(s);
                        s->p++; /* the colon */
                        skip_space(s);
                }
                if (step->key ? strlen(step->key) == k.len && memcmp(step->key, k.p, k.len) == 0 : step->index == i)
                        return 0;
                r = scan_value(s);
                if (r < 0)
                        return r;
                skip_space(s);
                if (s->p >= s->end || *s->p != ',')
                        return -ENOENT;
                s->p++;
        }
}

static int scan_steps(struct scan *s, const struct json_step *steps, size_t n, bool at_key) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = scan_step(s, &steps[i], at_key && i + 1 == n && steps[i].key);
        skip_space(s);
        return r;
}

/* What follows trusts the text. */
static int scan_whole(const char *text, size_t len) {
        struct scan s = scan_new(text, len);
        int r = scan_value(&s);

        skip_space(&s);
        return r < 0 ? r : s.p == s.end ? 0 : -EBADMSG;
}

int json_locate(const char *text, size_t len, const struct json_step *steps, size_t n_steps, bool at_key, struct json_place *ret) {
        struct scan s = scan_new(text, len);
        int r;

        r = scan_whole(text, len);
        if (r >= 0)
                r = scan_steps(&s, steps, n_steps, at_key);
        if (r >= 0)
                *ret = place(&s);
        return r;
}

int json_locate_elements(const char *text, size_t len, const struct json_step *steps, size_t n_steps, struct json_place *ret, size_t n) {
        struct scan s = scan_new(text, len);
        size_t i = 0;
        int r;

        r = scan_whole(text, len);
        if (r >= 0)
                r = scan_steps(&s, steps, n_steps, false);
        if (r < 0)
                return r;
        if (*s.p != '[')
                return -ENOENT;
        s.p++;
        skip_space(&s);
        while (i < n && *s.p != ']') {
                ret[i++] = place(&s);
                r = scan_value(&s);
                if (r < 0)
                        return r;
                skip_space(&s);
                if (*s.p == ',')
                        s.p++;
                skip_space(&s);
        }
        return (int) i;
}

static int get(struct json_object *o, const char *key, enum json_type type, struct json_object **ret) {
        struct json_object *v;

        if (!o || !json_object_is_type(o, json_type_object))
                return -EBADMSG;
        if (!json_object_object_get_ex(o, key, &v))
                return -ENOENT;
        if (!json_object_is_type(v, type))
                return -EBADMSG;
        *ret = v;
        return 0;
}

int json_get_str(struct json_object *o, const char *key, const char **ret) {
        struct json_object *v;
        int r = get(o, key, json_type_string, &v);

        if (r < 0)
                return r;
        *ret = json_object_get_string(v);
        return 0;
}

int json_get_u64(struct json_object *o, const char *key, uint64_t *ret) {
        struct json_object *v;
        int r = get(o, key, json_type_int, &v);

        if (r < 0)
                return r;
        /* json-c keeps negative numbers as int64, and clamps them to 0 for the unsigned getter. */
        if (json_object_get_int64(v) < 0)
                return -EBADMSG;
        *ret = json_object_get_uint64(v);
        return 0;
}

int json_get_i64(struct json_object *o, const char *key, int64_t *ret) {
        struct json_object *v;
        int r = get(o, key, json_type_int, &v);

        if (r < 0)
                return r;
        if (json_object_get_uint64(v) > (uint64_t) INT64_MAX)
                return -EBADMSG;
        *ret = json_object_get_int64(v);
        return 0;
}

int json_get_bool(struct json_object *o, const char *key, bool *ret) {
        struct json_object *v;
        int r = get(o, key, json_type_boolean, &v);

        if (r < 0)
                return r;
        *ret = json_object_get_boolean(v);
        return 0;
}

int json_get_array(struct json_object *o, const char *key, struct json_object **ret) {
        return get(o, key, json_type_array, ret);
}

int json_get_object(struct json_object *o, const char *key, struct json_object **ret) {
        return get(o, key, json_type_object, ret);
}

const char *json_str_or(struct json_object *o, const char *key, const char *fallback) {
        const char *v;

        return json_get_str(o, key, &v) < 0 ? fallback : v;
}

uint64_t json_u64_or(struct json_object *o, const char *key, uint64_t fallback) {
        uint64_t v;

        return json_get_u64(o, key, &v) < 0 ? fallback : v;
}

int64_t json_i64_or(struct json_object *o, const char *key, int64_t fallback) {
        int64_t v;

        return json_get_i64(o, key, &v) < 0 ? fallback : v;
}

bool json_bool_or(struct json_object *o, const char *key, bool fallback) {
        bool v;

        return json_get_bool(o, key, &v) < 0 ? fallback : v;
}

static void __attribute__((__noreturn__)) out_of_memory(void) {
        fputs("out of memory\n", stderr);
        abort();
}

static struct json_object *must(struct json_object *o) {
        if (!o)
                out_of_memory();
        return o;
}

void json_set_take(struct json_object *o, const char *key, struct json_object *value) {
        if (json_object_object_add(o, key, value) < 0)
                out_of_memory();
}

void json_clean_text(char *text) {
        struct scan s = { .p = text, .end = text + strlen(text) };

        while (s.p < s.end) {
                char *here = text + (s.p - text);

                if (scan_utf8(&s) < 0) {
                        *here = '?';
                        s.p = here + 1;
                }
        }
}

static struct json_object *new_text(const char *value) {
        _cleanup_free_ char *copy = strdup(value);

        if (!copy)
                out_of_memory();
        json_clean_text(copy);
        return must(json_object_new_string(copy));
}

void json_set_str(struct json_object *o, const char *key, const char *value) {
        json_set_take(o, key, value ? new_text(value) : NULL);
}

void json_set_u64(struct json_object *o, const char *key, uint64_t value) {
        json_set_take(o, key, must(json_object_new_uint64(value)));
}

void json_set_i64(struct json_object *o, const char *key, int64_t value) {
        json_set_take(o, key, must(json_object_new_int64(value)));
}

void json_set_bool(struct json_object *o, const char *key, bool value) {
        json_set_take(o, key, must(json_object_new_boolean(value)));
}

struct json_object *json_new(void) {
        return must(json_object_new_object());
}

struct json_object *json_new_array(void) {
        return must(json_object_new_array());
}

void json_push_take(struct json_object *array, struct json_object *value) {
        if (json_object_array_add(array, value) < 0)
                out_of_memory();
}

void json_push_str(struct json_object *array, const char *value) {
        json_push_take(array, new_text(strempty(value)));
}
