/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of the strict JSON reader: what it takes, it takes again after being written, and it is the same. */
#include "fuzz.h"
#include "model/json.h"

/* What the scanner finds at the end of the way to it is what json-c has there: it parses to the same value, from that byte on. */
static void check_place(const char *text, size_t size, const struct json_step *steps, size_t n_steps, struct json_object *o) {
        const char *p = text, *end = text + size, *again;
        struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
        struct json_object *back;
        struct json_place at, key;

        must(tok && json_locate(text, size, steps, n_steps, false, &at) == 0 && at.line >= 1 && at.column >= 1);
        for (unsigned line = 1; line < at.line; line++) {
                p = memchr(p, '\n', (size_t) (end - p));
                must(p);
                p++;
        }
        must(at.column - 1 < (size_t) (end - p) && !memchr(p, '\n', at.column - 1));
        p += at.column - 1;
        must(!strchr(" \t\r\n,:]}", *p));
        back = json_tokener_parse_ex(tok, p, (int) (end - p));
        if (!back && json_tokener_get_error(tok) == json_tokener_continue)
                back = json_tokener_parse_ex(tok, " ", 1);
        must(json_tokener_get_error(tok) == json_tokener_success && json_object_equal(back, o));
        json_object_put(back);
        json_tokener_free(tok);

        if (n_steps == 0 || !steps[n_steps - 1].key)
                return;
        must(json_locate(text, size, steps, n_steps, true, &key) == 0);
        must(key.line < at.line || (key.line == at.line && key.column < at.column));
        for (p = text; --key.line > 0; p++)
                p = memchr(p, '\n', (size_t) (end - p));
        again = steps[n_steps - 1].key;
        p += key.column - 1;
        must(*p == '"' && memcmp(p + 1, again, strlen(again)) == 0 && p[1 + strlen(again)] == '"');
}

#define PLACES_MAX 64 /* each is a pass over the text */

static void check_places(const char *text, size_t size, struct json_step *steps, size_t n_steps, struct json_object *o, unsigned *left) {
        if (*left == 0)
                return;
        --*left;
        check_place(text, size, steps, n_steps, o);
        if (json_object_is_type(o, json_type_array)) {
                size_t n = json_object_array_length(o);
                struct json_place all[8];
                int r = json_locate_elements(text, size, steps, n_steps, all, 8);

                must(r == (int) (n < 8 ? n : 8));
                for (size_t i = 0; i < n && *left > 0; i++) {
                        struct json_place one;

                        steps[n_steps] = (struct json_step){ .index = i };
                        must(i >= 8 || (json_locate(text, size, steps, n_steps + 1, false, &one) == 0 && one.line == all[i].line &&
                                        one.column == all[i].column));
                        check_places(text, size, steps, n_steps + 1, json_object_array_get_idx(o, i), left);
                }
                steps[n_steps] = (struct json_step){ .index = n };
                must(json_locate(text, size, steps, n_steps + 1, false, all) == -ENOENT);
        } else if (json_object_is_type(o, json_type_object)) {
                json_object_object_foreach(o, key, v) {
                        steps[n_steps] = (struct json_step){ .key = key };
                        check_places(text, size, steps, n_steps + 1, v, left);
                }
        } else
                must(json_locate_elements(text, size, steps, n_steps, NULL, 0) == -ENOENT);
}

static void use(struct json_object *o, unsigned depth) { /* NOLINT(misc-no-recursion) */
        uint64_t u;
        int64_t i;

        must(depth <= JSON_DEPTH_MAX);
        if (json_object_is_type(o, json_type_array)) {
                for (size_t k = 0; k < json_object_array_length(o); k++)
                        use(json_object_array_get_idx(o, k), depth + 1);
                return;
        }
        must(!json_object_is_type(o, json_type_double));
        if (!json_object_is_type(o, json_type_object))
                return;
        json_object_object_foreach(o, key, v) {
                /* A number has one of the two, and the same in both where it has both. */
                if (json_object_is_type(v, json_type_int)) {
                        int a = json_get_u64(o, key, &u), b = json_get_i64(o, key, &i);

                        must(a == 0 || b == 0);
                        must((a == 0) == (b < 0 || i >= 0));
                        must(a < 0 || b < 0 || (uint64_t) i == u);
                } else
                        must(json_get_u64(o, key, &u) == -EBADMSG && json_get_i64(o, key, &i) == -EBADMSG);
                use(v, depth + 1);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ struct json_object *o = NULL, *back = NULL;
        struct json_step steps[JSON_DEPTH_MAX + 1];
        unsigned line = 0, lines = 1, left = PLACES_MAX;
        const char *why = NULL, *text;
        struct json_place at = {};
        int r;

        r = json_parse_strict((const char *) data, size, &o, &line, &why);
        if (r < 0) {
                for (size_t i = 0; i < size; i++)
                        lines += data[i] == '\n';
                must(r == -EBADMSG && !o && line >= 1 && line <= lines && !isempty(why));
                must(json_parse_strict_at((const char *) data, size, &o, &at, NULL) == -EBADMSG && at.line == line && at.column >= 1);
                /* Somewhere in that line, or just behind it. */
                text = (const char *) data;
                for (unsigned i = 1; i < at.line; i++)
                        text = (const char *) memchr(text, '\n', size - (size_t) (text - (const char *) data)) + 1;
                must(at.column - 1 <= (size_t) ((const char *) data + size - text) && !memchr(text, '\n', at.column - 1));
                return 0;
        }
        use(o, 0);
        check_places((const char *) data, size, steps, 0, o, &left);
        text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        must(json_parse_strict(text, strlen(text), &back, NULL, NULL) == 0);
        must(json_object_equal(o, back));
        return 0;
}
