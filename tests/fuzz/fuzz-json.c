/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of the strict JSON reader: what it takes, it takes again after being written, and it is the same. */
#include "fuzz.h"
#include "model/json.h"

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
        const char *why = NULL, *text;
        unsigned line = 0, lines = 1;
        int r;

        r = json_parse_strict((const char *) data, size, &o, &line, &why);
        if (r < 0) {
                for (size_t i = 0; i < size; i++)
                        lines += data[i] == '\n';
                must(r == -EBADMSG && !o && line >= 1 && line <= lines && !isempty(why));
                return 0;
        }
        use(o, 0);
        text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        must(json_parse_strict(text, strlen(text), &back, NULL, NULL) == 0);
        must(json_object_equal(o, back));
        return 0;
}
