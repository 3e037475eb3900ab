/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which platform this host is of. See recognise.h. */
#include "model/recognise.h"

#include <stdarg.h>
#include <stdio.h>

/* parameq(): the kernel takes a dash for an underscore. */
static bool same_name(const char *a, const char *b, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!b[i] || (a[i] == '-' ? '_' : a[i]) != (b[i] == '-' ? '_' : b[i]))
                        return false;
        return !b[n];
}

/* next_arg(): parameters stand between spaces, of which those in quotes are part of a value. */
bool kernel_parameter(const char *cmdline, const char *name, char *buf, size_t size) {
        bool found = false;

        while (*cmdline) {
                const char *end = cmdline, *equals = NULL;
                bool quoted = false;

                for (; *end && (quoted || !strchr(" \t\n", *end)); end++) {
                        quoted ^= *end == '"';
                        if (*end == '=' && !equals)
                                equals = end;
                }
                /* What comes later is heard later: the last one counts. */
                if (equals && same_name(cmdline, name, (size_t) (equals - cmdline))) {
                        snprintf(buf, size, "%.*s", (int) (end - equals - 1), equals + 1);
                        found = true;
                }
                cmdline = *end ? end + 1 : end;
        }
        return found;
}

struct json_object *recognise_arguments(void) {
        struct json_object *args = json_new(), *list = json_new_array();

        for (const struct platform *p = platforms; p->name; p++) {
                struct json_object *o;

                if (!p->parameter.module)
                        continue;
                o = json_new();
                json_set_str(o, "module", p->parameter.module);
                json_set_str(o, "name", p->parameter.name);
                json_push_take(list, o);
        }
        json_set_take(args, "parameters", list);
        return args;
}

const char *recognise_parameter(const struct platform *p, struct json_object *facts) {
        struct json_object *list;
        char key[128];

        if (!p->parameter.module || json_get_object(facts, "parameters", &list) < 0)
                return NULL;
        snprintf(key, sizeof(key), "%s.%s", p->parameter.module, p->parameter.name);
        return json_str_or(list, key, NULL);
}

bool recognise_has_vm_type(const struct platform *p, struct json_object *facts) {
        return p->vm_type.number >= 0 && json_u64_or(facts, "vm_types", 0) & UINT64_C(1) << p->vm_type.number;
}

static _printf_(2, 3) void say(struct json_object *list, const char *format, ...) {
        char text[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        json_push_str(list, text);
}

static bool was_asked_for(const struct platform *p, struct json_object *facts) {
        char mode[64];

        return p->kvm_mode && kernel_parameter(json_str_or(facts, "cmdline", ""), "kvm-arm.mode", mode, sizeof(mode)) && streq(mode, p->kvm_mode);
}

/* What the kernel itself says of a row, without any TSM, and whether that is for it. The numbers of VM types are an architecture's own. */
static bool kernel_shows(const struct platform *p, struct json_object *facts, char *buf, size_t size) {
        const char *value = recognise_parameter(p, facts);

        *buf = '\0';
        if (!p->machine || !streq(json_str_or(facts, "machine", ""), p->machine))
                return false;
        if (recognise_has_vm_type(p, facts)) {
                snprintf(buf, size, "KVM makes VMs of type %d (%s), and %s.%s %s%s", p->vm_type.number, p->vm_type.name, p->parameter.module,
                         p->parameter.name, value ? "is " : "cannot be read", strempty(value));
                return !value || streq(value, "Y") || streq(value, "1");
        }
        if (was_asked_for(p, facts)) {
                bool kvm = json_i64_or(facts, "kvm", -ENOENT) == 0;

                snprintf(buf, size, "the kernel was started with kvm-arm.mode=%s, and %s", p->kvm_mode, kvm ? "has KVM" : "KVM cannot be opened");
                return kvm;
        }
        return false;
}

static const struct platform *by_tsms(const struct recognise_tsm *tsms, size_t n, struct json_object *by, struct json_object *doubts) {
        const struct platform *found = NULL;

        for (size_t i = 0; i < n; i++) {
                const struct recognise_tsm *t = tsms + i;
                const struct platform *p = platform_of_tsm(t->parent, t->driver);

                if (!p)
                        continue;
                if (!found)
                        found = p;
                say(p == found ? by : doubts, "%s: its parent is %s%s%s%s%s", t->name, t->parent, isempty(t->driver) ? "" : " with the driver ",
                    strempty(t->driver), p == found ? "" : ": of the platform ", p == found ? "" : p->name);
        }
        return found;
}

const struct platform *recognise_host(const struct recognise_tsm *tsms, size_t n_tsms, struct json_object *facts, struct json_object *by,
                                      struct json_object *doubts) {
        const struct platform *found = by_tsms(tsms, n_tsms, by, doubts);
        const char *machine = json_str_or(facts, "machine", "");
        char text[256];

        for (const struct platform *p = platforms; p->name; p++) {
                bool shown = kernel_shows(p, facts, text, sizeof(text));

                if (shown && !found)
                        found = p;
                if (shown && p == found)
                        say(by, "%s", text);
                else if (*text)
                        say(doubts, "%s: of the platform %s", text, p->name);
        }
        if (found && found->machine && *machine && !streq(machine, found->machine))
                say(doubts, "the machine is %s, and the platform %s is of %s", machine, found->name, found->machine);
        if (found)
                return found;
        say(by, "nothing speaks for another: no TSM that tdid knows, no VM type of KVM, nothing on the kernel's command line");
        return platform_find("plain");
}
