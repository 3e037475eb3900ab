/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON as libtdi writes it: each character as json-c would, and what it has written can be read again. */
#include <stdio.h>

#include "client/json-text.h"
#include "../test.h"

static void test_characters(void) {
        for (unsigned c = 1; c < 256; c++) {
                char s[4] = { 'a', (char) c, 'b' }, *got = NULL;
                json_object *o = json_object_new_string(s);
                struct json_text t = {};

                json_text_string(&t, s);
                require(json_text_finish(&t, &got) == 0);
                check_str(got, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
                free(got);
                json_object_put(o);
        }
}

/* Texts that end where the room does, and just before and after. */
static void test_growth(void) {
        for (size_t n = 0; n < 9000; n += n > 4080 && n < 4110 ? 1 : 255) {
                char *s = calloc(n + 1, 1), *got = NULL;
                struct json_text t = {};

                require(s);
                memset(s, 'x', n);
                json_text_puts(&t, s);
                json_text_puts(&t, "y");
                check(t.n == n + 1 && t.n < t.room);
                require(json_text_finish(&t, &got) == 0);
                check(strlen(got) == n + 1 && memcmp(got, s, n) == 0 && got[n] == 'y');
                free(got);
                free(s);
        }
}

static void test_parse(void) {
        struct json_text t = {};
        json_object *o, *v;
        char *none = NULL;
        size_t at;

        check(json_text_finish(&t, &none) == -ENOMEM && !none);
        json_text_puts(&t, "before");
        at = t.n;
        check(!json_text_parse(&t, at));
        json_text_puts(&t, "{");
        json_text_key(&t, "a \"key\"");
        json_text_string(&t, NULL);
        json_text_puts(&t, "}");
        o = json_text_parse(&t, at);
        require(o && json_object_object_get_ex(o, "a \"key\"", &v) && !v);
        json_object_put(o);
        json_text_done(&t);
        check(!t.p && t.n == 0);
}

int main(void) {
        test_characters();
        test_growth();
        test_parse();
        return test_end();
}
