/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parser of tdictl's command line, and the sanity of its table of verbs. */
#include <stdio.h>

#include "options.h"
#include "tdictl.h"
#include "util/util.h"
#include "util/words.h"

#define MAX_ARGS 16

static const struct {
        const char *argv[MAX_ARGS];
        const char *expected; /* what describe() says, or "!" and words of the error */
} cases[] = {
        { { NULL }, "status" },
        { { "status" }, "status" },
        { { "--json" }, "status json" },
        { { "--json", "vm", "list" }, "vm list json" },
        { { "vm", "--json", "list", "--no-legend" }, "vm list json no-legend" },
        { { "--bus", "session", "vm", "list" }, "vm list bus=session" },
        { { "--bus=unix:path=/a=b", "vm", "list" }, "vm list bus=unix:path=/a=b" },
        { { "attach", "web", "01:00.0", "02:00.0", "--force" }, "attach (web) (01:00.0) (02:00.0) force" },
        { { "attach", "--guest-rid", "8", "web", "01:00.0" }, "attach (web) (01:00.0) guest-rid=8" },
        { { "attach", "web", "a", "b", "--guest-rid=0x10", "--guest-rid=17" }, "attach (web) (a) (b) guest-rid=16 guest-rid=17" },
        { { "attach", "web", "a", "--vf-token=6ba7b810-9dad-11d1-80b4-00c04fd430c8" },
          "attach (web) (a) vf-token=6ba7b810-9dad-11d1-80b4-00c04fd430c8" },
        { { "attach", "--", "--web", "-a" }, "attach (--web) (-a)" },
        { { "attach", "-", "a" }, "attach (-) (a)" },
        { { "vm", "create", "a", "--hold", "--", "qemu", "--json", "--", "x" }, "vm create (a) hold -- [qemu] [--json] [--] [x]" },
        { { "vm", "create", "a", "--hold", "--" }, "vm create (a) hold --" },
        { { "vm", "create", "a", "--await-vmm=600", "--owner", "0" }, "vm create (a) await-vmm=600 owner=0" },
        { { "run", "--device=a", "--device", "b", "--name=x", "--guest-rid=1", "--", "qemu", "--device=c" },
          "run device=a device=b name=x guest-rid=1 -- [qemu] [--device=c]" },
        { { "run", "--device=a" }, "!'run' needs a command" },
        { { "run", "--device=a", "--" }, "!'run' needs a command" },
        { { "run", "--device=a", "qemu", "--", "qemu" }, "!Too many arguments" },
        { { "run", "--device=a", "--name=x", "--name=y", "--", "z" }, "!--name is given twice" },
        { { "run", "--device=", "--", "z" }, "!--device is empty" },
        { { "run", "--help" }, "run help" },
        { { "vm" , "--help" }, "vm … help" },
        { { "vm", "create", "-h" }, "vm create help" },
        { { "--help", "attach" }, "attach help" },
        { { "--version" }, "… version" },
        { { "atach" }, "!Did you mean 'attach'?" },
        { { "vm", "lst" }, "!Did you mean 'vm list'?" },
        { { "devices", "list" }, "!Did you mean 'device'?" },
        { { "vms" }, "!Did you mean 'vm'?" },
        { { "stauts" }, "!Did you mean 'status'?" },
        { { "frobnicate" }, "!See 'tdictl --help'" },
        { { "" }, "!There is no verb ''" },
        { { "vm" }, "!'vm' needs a verb" },
        { { "vm", "list", "x" }, "!Too many arguments" },
        { { "attach", "web" }, "!Too few arguments: tdictl attach VM BDF…" },
        { { "attach", "web", "a", "--forse" }, "!Did you mean --force?" },
        { { "attach", "web", "a", "--xyzzy" }, "!See 'tdictl attach --help'" },
        { { "attach", "web", "a", "-f" }, "!two dashes" },
        { { "--force", "attach", "web", "a" }, "!There is no option --force here" },
        { { "vm", "list", "--json", "--json" }, "!given twice" },
        { { "vm", "list", "--json=yes" }, "!takes no value" },
        { { "vm", "list", "--bus" }, "!needs a value: BUS" },
        { { "vm", "list", "--bus=" }, "!is empty" },
        { { "attach", "web", "a", "--guest-rid=65536" }, "!from 0 to 65535" },
        { { "attach", "web", "a", "--guest-rid=-1" }, "!from 0 to 65535" },
        { { "attach", "web", "a", "--guest-rid=" }, "!from 0 to 65535" },
        { { "attach", "web", "a", "--guest-rid=0x" }, "!from 0 to 65535" },
        { { "attach", "web", "a", "--guest-rid= 1" }, "!from 0 to 65535" },
        { { "attach", "web", "a", "--guest-rid=18446744073709551617" }, "!from 0 to 65535" },
        { { "attach", "web", "a", "--bind=soon" }, "!one of early|late" },
        { { "attach", "web", "a", "--bind=" }, "!one of early|late" },
        { { "attach", "web", "a", "--bind=early|late" }, "!one of early|late" },
        { { "attach", "web", "a", "--vf-token=6ba7b810" }, "!takes a UUID" },
        { { "attach", "web", "a", "--vf-token=6ba7b810-9dad-11d1-80b4-00c04fd430c8x" }, "!takes a UUID" },
        { { "vm", "create", "a", "--await-vmm=601" }, "!from 0 to 600" },
        { { "vm", "create", "a", "--owner=4294967295" }, "!from 0 to 4294967294" },
        { { "vm", "list", "--", "x" }, "!Too many arguments" },
};

static void describe(const struct arguments *a, char *to, size_t n) {
        size_t used = 0;

#define add(...) (used += (size_t) snprintf(to + used, used < n ? n - used : 0, __VA_ARGS__))
        add("%s%s", a->verb ? a->verb->name : a->group ? a->group : "…", !a->verb && a->group ? " …" : "");
        for (size_t i = 0; i < a->n_words; i++)
                add(" (%s)", a->words[i]);
        for (size_t i = 0; i < a->n_options; i++) {
                const struct option_value *v = &a->options[i];

                add(" %s", v->spec->name);
                if (v->spec->type == OPTION_NUMBER)
                        add("=%u", v->number);
                else if (v->text)
                        add("=%s", v->text);
        }
        if (a->command)
                add(" --");
        for (char *const *c = a->command; c && *c; c++)
                add(" [%s]", *c);
#undef add
}

static int test_case(const char *const *words, const char *expected) {
        char *argv[MAX_ARGS + 2] = { NULL }, got[512] = "";
        _cleanup_free_ char *error = NULL;
        _cleanup_(arguments_done) struct arguments a;
        int argc = 1, r;

        argv[0] = strdup("tdictl");
        for (; words[argc - 1]; argc++)
                argv[argc] = strdup(words[argc - 1]);
        r = arguments_parse(verbs, argc, argv, &a, &error);
        if (r >= 0)
                describe(&a, got, sizeof(got));
        else
                snprintf(got, sizeof(got), "!%s", strempty(error));
        r = *expected == '!' ? got[0] == '!' && strstr(got, expected + 1) : streq(got, expected);
        if (!r)
                fprintf(stderr, "expected '%s', got '%s'\n", expected, got);
        for (int i = 0; i < argc; i++)
                free(argv[i]);
        return !r;
}

/* What the parser and the help rely on. */
static int test_table(void) {
        int failed = 0;

#define want(condition)                                                                       \
        do {                                                                                  \
                if (!(condition)) {                                                           \
                        fprintf(stderr, "%s: %s: not so\n", v->name, #condition);            \
                        failed++;                                                             \
                }                                                                             \
        } while (0)
        for (const struct verb *v = verbs; v->name; v++) {
                want(v->usage && v->summary && v->run && v->min <= v->max);
                if (!v->usage)
                        continue;
                want(!strchr(v->name, ' ') || strchr(v->name, ' ') == strrchr(v->name, ' '));
                want(strlen(v->name) < 32);
                want((v->max == 0) == !*v->usage);
                want((v->max == ANY_NUMBER) == (strstr(v->usage, "…") != NULL));
                for (const struct verb *w = verbs; w < v; w++)
                        want(!streq(w->name, v->name));
                for (const struct option_spec *o = v->options; o && o->name; o++) {
                        want(o->help && strlen(o->name) < 32);
                        want((o->type == OPTION_FLAG) == !o->value);
                        want((o->type == OPTION_CHOICE) == (o->choices != NULL));
                        want((o->type == OPTION_NUMBER) == (o->max > 0));
                        for (const struct option_spec *g = global_options; g->name; g++)
                                want(!streq(g->name, o->name));
                }
        }
#undef want
        return failed;
}

/* Even a command line that is wrong says whether its error shall be JSON. */
static int test_json_of_errors(void) {
        char *const argv[] = { (char[]){ "tdictl" }, (char[]){ "--nonsense" }, (char[]){ "--json" }, NULL };
        _cleanup_(arguments_done) struct arguments a;
        _cleanup_free_ char *error = NULL;

        return !(arguments_parse(verbs, 3, argv, &a, &error) == -EINVAL && arguments_has(&a, "json"));
}

int main(void) {
        int failed = test_table() + test_json_of_errors();

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                failed += test_case(cases[i].argv, cases[i].expected);
        failed += words_distance("", "abc") != 3;
        failed += words_distance("kitten", "sitting") != 3;
        failed += words_distance("same", "same") != 0;
        return failed != 0;
}
