/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What every part of reading shares: where the reader stands, what it says is wrong there, and keys and words that are known. */
#include "private.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/words.h"

static void tell(struct reader *r, struct json_place at, const char *format, va_list ap) _printf_(3, 0);
static void tell(struct reader *r, struct json_place at, const char *format, va_list ap) {
        struct policy_error e = { .line = at.line, .column = at.column };

        snprintf(e.file, sizeof(e.file), "%s", r->path);
        vsnprintf(e.text, sizeof(e.text), format, ap);
        r->tell(&e, r->userdata);
}

int reader_complain_at(struct reader *r, struct json_place at, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        tell(r, at, format, ap);
        va_end(ap);
        return -EBADMSG;
}

int reader_place(const struct reader *r, bool at_key, struct json_place *ret) {
        return json_locate(r->text, r->size, r->steps, r->n_steps < READER_DEPTH ? r->n_steps : READER_DEPTH, at_key, ret);
}

int reader_complain(struct reader *r, bool at_key, const char *format, ...) {
        struct json_place at = {};
        va_list ap;

        if (reader_place(r, at_key, &at) == -ENOMEM)
                return -ENOMEM;
        va_start(ap, format);
        tell(r, at, format, ap);
        va_end(ap);
        return -EBADMSG;
}

int reader_check_keys(struct reader *r, struct json_object *o, const char *const keys[], size_t n) {
        if (!json_object_is_type(o, json_type_object))
                return reader_complain(r, false, "an object is expected here");
        json_object_object_foreach(o, key, v) {
                bool known = false;
                const char *near;

                for (size_t i = 0; i < n && !known; i++)
                        known = streq(keys[i], key);
                if (known && v)
                        continue;
                reader_enter(r, key, 0);
                if (known)
                        return reader_complain(r, false, "\"%s\" is null: leave it out", key);
                near = words_nearest(key, keys, n);
                return reader_complain(r, true, "unknown key \"%.64s\"%s%s%s", key, near ? ": did you mean \"" : "", strempty(near), near ? "\"?" : "");
        }
        return 0;
}

int reader_choice(struct reader *r, struct json_object *o, const char *const names[], size_t n) {
        char all[256] = "";
        const char *near;
        size_t at = 0;

        if (json_object_is_type(o, json_type_string)) {
                for (size_t i = 0; i < n; i++)
                        if (names[i] && streq(names[i], json_object_get_string(o)))
                                return (int) i;
        }
        for (size_t i = 0; i < n; i++)
                if (names[i] && at < sizeof(all))
                        at += (size_t) snprintf(all + at, sizeof(all) - at, "%s\"%s\"", at ? ", " : "", names[i]);
        if (!json_object_is_type(o, json_type_string))
                return reader_complain(r, false, "one of %s is expected here", all);
        /* The first may have no name: what is not to be said. */
        near = words_nearest(json_object_get_string(o), names + !names[0], n - !names[0]);
        if (near)
                return reader_complain(r, false, "unknown value \"%.64s\": did you mean \"%s\"?", json_object_get_string(o), near);
        return reader_complain(r, false, "unknown value \"%.64s\": one of %s is expected here", json_object_get_string(o), all);
}
