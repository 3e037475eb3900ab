/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parser of the command line. Tables stand in verbs.c. */
#include "options.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/util.h"
#include "util/words.h"

const struct option_spec global_options[] = {
        { .name = "json", .help = "one JSON object on standard output, errors too" },
        { .name = "bus", .type = OPTION_TEXT, .value = "BUS", .help = "system (the default), session, or a D-Bus address" },
        { .name = "no-legend", .help = "no headings and no remarks" },
        { .name = "no-ask-password", .help = "never have polkit ask for a password" },
        { .name = "help", .help = "show help" },
        { .name = "version", .help = "show the version" },
        {},
};

static int complain(char **ret_error, const char *format, ...) _printf_(2, 3);
static int complain(char **ret_error, const char *format, ...) {
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(ret_error, format, ap);
        va_end(ap);
        if (n < 0)
                *ret_error = NULL;
        return n < 0 ? -ENOMEM : -EINVAL;
}

struct guess {
        char best[32];
        unsigned distance;
};

/* The first n letters of candidate. */
static void consider(struct guess *g, const char *typed, const char *candidate, size_t n) {
        char text[sizeof(g->best)];
        unsigned d;

        if (n >= sizeof(text))
                return;
        memcpy(text, candidate, n);
        text[n] = 0;
        d = words_distance(typed, text);
        if (words_is_slip(d, n) && (!*g->best || d < g->distance)) {
                memcpy(g->best, text, sizeof(text));
                g->distance = d;
        }
}

static const struct option_spec *find_option(const struct option_spec *table, const char *name, size_t n) {
        for (; table && table->name; table++)
                if (strlen(table->name) == n && strncmp(table->name, name, n) == 0)
                        return table;
        return NULL;
}

static const struct verb *find_verb(const struct verb *verbs, const char *name) {
        for (const struct verb *v = verbs; v->name; v++)
                if (streq(v->name, name))
                        return v;
        return NULL;
}

static bool is_group(const struct verb *verbs, const char *word) {
        size_t n = strlen(word);

        for (const struct verb *v = verbs; v->name; v++)
                if (strncmp(v->name, word, n) == 0 && v->name[n] == ' ')
                        return true;
        return false;
}

int parse_number(const char *text, uint32_t max, uint32_t *ret) {
        unsigned base = 10;
        uint64_t n = 0;

        if (startswith(text, "0x") || startswith(text, "0X")) {
                base = 16;
                text += 2;
        }
        if (!*text)
                return -EINVAL;
        for (; *text; text++) {
                unsigned digit = *text >= '0' && *text <= '9' ? (unsigned) (*text - '0') :
                                 *text >= 'a' && *text <= 'f' ? (unsigned) (*text - 'a') + 10 :
                                 *text >= 'A' && *text <= 'F' ? (unsigned) (*text - 'A') + 10 : 16;

                if (digit >= base)
                        return -EINVAL;
                n = n * base + digit;
                if (n > max)
                        return -ERANGE;
        }
        *ret = (uint32_t) n;
        return 0;
}

static bool is_uuid(const char *s) {
        for (size_t i = 0; i < 36; i++) {
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;

                if (dash ? s[i] != '-' : !s[i] || !strchr("0123456789abcdefABCDEF", s[i]))
                        return false;
        }
        return !s[36];
}

static bool is_choice(const char *choices, const char *s) {
        size_t n = strlen(s);

        for (const char *c = choices; n > 0 && !strchr(s, '|') && c; c = strchr(c, '|'), c = c ? c + 1 : NULL)
                if (strncmp(c, s, n) == 0 && (c[n] == '|' || !c[n]))
                        return true;
        return false;
}

static int check_value(const struct option_spec *spec, struct option_value *v, char **ret_error) {
        switch (spec->type) {
        case OPTION_NUMBER:
                if (parse_number(v->text, spec->max, &v->number) < 0)
                        return complain(ret_error, "--%s takes a number from 0 to %u, not '%s'.", spec->name, spec->max, v->text);
                break;
        case OPTION_CHOICE:
                if (!is_choice(spec->choices, v->text))
                        return complain(ret_error, "--%s takes one of %s, not '%s'.", spec->name, spec->choices, v->text);
                break;
        case OPTION_UUID:
                if (!is_uuid(v->text))
                        return complain(ret_error, "--%s takes a UUID, not '%s'.", spec->name, v->text);
                break;
        case OPTION_TEXT:
                if (isempty(v->text))
                        return complain(ret_error, "--%s is empty.", spec->name);
                break;
        case OPTION_FLAG:
                break;
        }
        return 0;
}

static int unknown_option(const struct verb *verb, const char *name, size_t n, char **ret_error) {
        _cleanup_free_ char *typed = strndup(name, n);
        struct guess g = {};

        if (!typed)
                return -ENOMEM;
        for (const struct option_spec *o = verb ? verb->options : NULL; o && o->name; o++)
                consider(&g, typed, o->name, strlen(o->name));
        for (const struct option_spec *o = global_options; o->name; o++)
                consider(&g, typed, o->name, strlen(o->name));
        if (*g.best)
                return complain(ret_error, "There is no option --%s here. Did you mean --%s?", typed, g.best);
        return complain(ret_error, "There is no option --%s here. See 'tdictl %s%s--help'.", typed, verb ? verb->name : "", verb ? " " : "");
}

/* Takes the option at argv[*i], and the next argument when that is its value. */
static int take_option(struct arguments *a, int argc, char *const argv[], int *i, char **ret_error) {
        const char *name = argv[*i] + 2, *equals;
        const struct option_spec *spec;
        struct option_value v = {};
        size_t n;
        int r;

        if (streq(argv[*i], "-h"))
                name = "help";
        else if (!startswith(argv[*i], "--"))
                return complain(ret_error, "There is no option %s. Options begin with two dashes.", argv[*i]);
        equals = strchr(name, '=');
        n = equals ? (size_t) (equals - name) : strlen(name);

        spec = find_option(global_options, name, n);
        if (!spec && a->verb)
                spec = find_option(a->verb->options, name, n);
        if (!spec)
                return unknown_option(a->verb, name, n, ret_error);
        if (!spec->repeat && arguments_has(a, spec->name))
                return complain(ret_error, "--%s is given twice.", spec->name);

        v.spec = spec;
        if (spec->type == OPTION_FLAG) {
                if (equals)
                        return complain(ret_error, "--%s takes no value.", spec->name);
        } else if (equals)
                v.text = equals + 1;
        else if (*i + 1 < argc)
                v.text = argv[++*i];
        else
                return complain(ret_error, "--%s needs a value: %s.", spec->name, spec->value);
        r = check_value(spec, &v, ret_error);
        if (r >= 0)
                a->options[a->n_options++] = v;
        return r;
}

static int unknown_verb(const struct verb *verbs, const char *typed, char **ret_error) {
        struct guess g = {};

        for (const struct verb *v = verbs; v->name; v++) {
                consider(&g, typed, v->name, strlen(v->name));
                /* A word alone may also be a group. */
                if (!strchr(typed, ' '))
                        consider(&g, typed, v->name, strcspn(v->name, " "));
        }
        if (*g.best)
                return complain(ret_error, "There is no verb '%s'. Did you mean '%s'?", typed, g.best);
        return complain(ret_error, "There is no verb '%s'. See 'tdictl --help'.", typed);
}

/* A word that is no option: a part of the verb, or an argument. */
static int take_word(struct arguments *a, const struct verb *verbs, const char *word, char **ret_error) {
        _cleanup_free_ char *full = NULL;

        if (a->verb) {
                a->words[a->n_words++] = word;
                return 0;
        }
        if (!a->group && is_group(verbs, word)) {
                a->group = word;
                return 0;
        }
        if (asprintf(&full, "%s%s%s", strempty(a->group), a->group ? " " : "", word) < 0) {
                full = NULL;
                return -ENOMEM;
        }
        a->verb = find_verb(verbs, full);
        return a->verb ? 0 : unknown_verb(verbs, full, ret_error);
}

static int check(struct arguments *a, const struct verb *verbs, char **ret_error) {
        const struct verb *v;

        if (arguments_has(a, "help") || arguments_has(a, "version"))
                return 0;
        if (!a->verb && a->group)
                return complain(ret_error, "'%s' needs a verb. See 'tdictl %s --help'.", a->group, a->group);
        if (!a->verb)
                a->verb = verbs;
        v = a->verb;
        if (a->n_words < v->min || a->n_words > v->max)
                return complain(ret_error, "Too %s arguments: tdictl %s%s%s. See 'tdictl %s --help'.", a->n_words < v->min ? "few" : "many",
                                v->name, *v->usage ? " " : "", v->usage, v->name);
        if (v->needs_command && (!a->command || !a->command[0]))
                return complain(ret_error, "'%s' needs a command: tdictl %s … -- COMMAND. See 'tdictl %s --help'.", v->name, v->name, v->name);
        return 0;
}

int arguments_parse(const struct verb *verbs, int argc, char *const argv[], struct arguments *ret, char **ret_error) {
        struct arguments *a = ret;
        size_t room = argc > 0 ? (size_t) argc : 1;
        bool words_only = false;
        int r = 0;

        *a = (struct arguments){
                .words = calloc(room, sizeof(*a->words)),
                .options = calloc(room, sizeof(*a->options)),
        };
        if (!a->words || !a->options)
                return -ENOMEM;
        for (int i = 1; i < argc && r >= 0; i++) {
                if (!words_only && streq(argv[i], "--")) {
                        if (a->verb && a->verb->command) {
                                a->command = argv + i + 1;
                                break;
                        }
                        words_only = true;
                } else if (!words_only && argv[i][0] == '-' && argv[i][1])
                        r = take_option(a, argc, argv, &i, ret_error);
                else
                        r = take_word(a, verbs, argv[i], ret_error);
        }
        if (r >= 0)
                return check(a, verbs, ret_error);

        /* The error stands; what is left is only asked whether it wants JSON. */
        for (int i = 1; i < argc && !streq(argv[i], "--"); i++)
                if (streq(argv[i], "--json") && !arguments_has(a, "json"))
                        a->options[a->n_options++] = (struct option_value){ .spec = find_option(global_options, "json", 4) };
        return r;
}

void arguments_done(struct arguments *a) {
        free(a->words);
        free(a->options);
        *a = (struct arguments){};
}

const struct option_value *arguments_option(const struct arguments *a, const char *name, size_t n) {
        for (size_t i = 0; i < a->n_options; i++)
                if (streq(a->options[i].spec->name, name) && n-- == 0)
                        return &a->options[i];
        return NULL;
}

bool arguments_has(const struct arguments *a, const char *name) {
        return arguments_option(a, name, 0);
}

const char *arguments_text(const struct arguments *a, const char *name) {
        const struct option_value *v = arguments_option(a, name, 0);

        return v ? v->text : NULL;
}
