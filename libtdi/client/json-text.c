/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See json-text.h. */
#include "json-text.h"

#include <stdio.h>

void json_text_done(struct json_text *t) {
        free(t->p);
        *t = (struct json_text){};
}

void json_text_put(struct json_text *t, const char *bytes, size_t n) {
        if (t->failed)
                return;
        /* One more, for the end of a string. */
        if (n >= t->room - t->n) {
                size_t room = t->room > 0 ? t->room : 4096;
                char *p;

                while (room - t->n <= n && room <= SIZE_MAX / 2)
                        room *= 2;
                p = room - t->n > n ? realloc(t->p, room) : NULL;
                if (!p) {
                        t->failed = true;
                        return;
                }
                t->p = p;
                t->room = room;
        }
        memcpy(t->p + t->n, bytes, n);
        t->n += n;
        t->p[t->n] = 0;
}

void json_text_puts(struct json_text *t, const char *s) {
        json_text_put(t, s, strlen(s));
}

/* RFC 8259, section 7; the letters are those of json-c. */
static size_t escape(unsigned char c, char *buf, size_t size) {
        static const char *const letters[] = { ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\" };
        const char *letter = c < ARRAY_SIZE(letters) ? letters[c] : NULL;

        return (size_t) (letter ? snprintf(buf, size, "%s", letter) : snprintf(buf, size, "\\u%04x", c));
}

void json_text_string(struct json_text *t, const char *s) {
        const char *from = s;

        if (!s) {
                json_text_puts(t, "null");
                return;
        }
        json_text_put(t, "\"", 1);
        for (; *s; s++) {
                unsigned char c = (unsigned char) *s;
                char escaped[8];

                if (c >= 0x20 && c != '"' && c != '\\')
                        continue;
                json_text_put(t, from, (size_t) (s - from));
                json_text_put(t, escaped, escape(c, escaped, sizeof(escaped)));
                from = s + 1;
        }
        json_text_put(t, from, (size_t) (s - from));
        json_text_put(t, "\"", 1);
}

void json_text_key(struct json_text *t, const char *key) {
        json_text_string(t, key);
        json_text_put(t, ":", 1);
}

void json_text_object(struct json_text *t, json_object *o) {
        const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

        if (s)
                json_text_puts(t, s);
        else
                t->failed = true;
}

json_object *json_text_parse(const struct json_text *t, size_t at) {
        return t->failed || at >= t->n ? NULL : json_tokener_parse(t->p + at);
}

int json_text_finish(struct json_text *t, char **ret) {
        if (t->failed || !t->p) {
                json_text_done(t);
                return -ENOMEM;
        }
        *ret = TAKE_PTR(t->p);
        json_text_done(t);
        return 0;
}
