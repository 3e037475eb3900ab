/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options of methods (a{sv}) by table, and the forms of names. */
#include <ctype.h>

#include "bus/bus.h"
#include "vm.h"

#define OPTIONS_MAX 32

static const struct option *find(const struct option *options, const char *key, size_t *ret) {
        for (size_t i = 0; options[i].key; i++)
                if (streq(options[i].key, key)) {
                        *ret = i;
                        return options + i;
                }
        return NULL;
}

static int read_value(sd_bus_message *m, const struct option *o, void *base, sd_bus_error *e) {
        static const struct {
                char type;
                const char *signature, *text;
        } types[] = {
                { 's', "s", "a string (s)" },
                { 'u', "u", "an unsigned number (u)" },
                { 'b', "b", "a boolean (b)" },
                { 'a', "a{sv}", "a dictionary (a{sv})" },
        };
        void *p = (char *) base + o->offset;
        const char *contents = NULL;
        size_t i = 0;
        char type;
        int r, b;

        while (types[i].type != o->type)
                i++;
        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return r;
        if (type != 'v' || !streq(strempty(contents), types[i].signature))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "option \"%s\" must be %s, not \"%s\"", o->key, types[i].text, strempty(contents));
        r = sd_bus_message_enter_container(m, 'v', types[i].signature);
        if (r < 0)
                return r;
        if (o->type == 'a')
                r = options_read(m, o->nested, p, e);
        else if (o->type == 'b') {
                r = sd_bus_message_read_basic(m, 'b', &b);
                if (r >= 0)
                        *(bool *) p = b;
        } else if (o->type == 'u') {
                uint32_t u;

                r = sd_bus_message_read_basic(m, 'u', &u);
                if (r >= 0)
                        *(int64_t *) p = u;
        } else
                r = sd_bus_message_read_basic(m, o->type, p);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* Recursion ends with the tables, which nest once. */
int options_read(sd_bus_message *m, const struct option *options, void *base, sd_bus_error *e) { /* NOLINT(misc-no-recursion) */
        uint64_t seen = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        for (unsigned n = 0; (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0; n++) {
                const struct option *o;
                const char *key;
                size_t i = 0;

                if (n >= OPTIONS_MAX)
                        return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "more than %u options", OPTIONS_MAX);
                r = sd_bus_message_read_basic(m, 's', &key);
                if (r < 0)
                        return r;
                o = find(options, key, &i);
                if (!o)
                        return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "unknown option \"%.64s\"", key);
                if (seen & (UINT64_C(1) << i))
                        return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "option \"%s\" is given twice", key);
                seen |= UINT64_C(1) << i;
                r = read_value(m, o, base, e);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

bool name_is_valid(const char *name) {
        size_t n = strlen(name);

        if (n == 0 || n > VM_NAME_MAX || !isalnum((unsigned char) *name))
                return false;
        for (; *name; name++)
                if (!isalnum((unsigned char) *name) && !strchr("._-+:@", *name))
                        return false;
        return true;
}

bool label_is_valid(const char *label) {
        size_t n = strlen(label);

        if (n > VM_LABEL_MAX)
                return false;
        for (; *label; label++)
                if ((unsigned char) *label < 0x20 || *label == 0x7f)
                        return false;
        return true;
}

bool uuid_is_valid(const char *uuid) {
        if (strlen(uuid) != 36)
                return false;
        for (size_t i = 0; i < 36; i++)
                if (i == 8 || i == 13 || i == 18 || i == 23 ? uuid[i] != '-' : !isxdigit((unsigned char) uuid[i]))
                        return false;
        return true;
}
