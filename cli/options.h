/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line as data: specifications of verbs and options, and the parser that matches argv to them. It runs nothing. */
#ifndef TDICTL_OPTIONS_H
#define TDICTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tdictl;

enum option_type {
        OPTION_FLAG,
        OPTION_TEXT,
        OPTION_NUMBER, /* decimal or 0x…, at most max */
        OPTION_CHOICE, /* one of choices, separated by '|' */
        OPTION_UUID,
};

struct option_spec {
        const char *name; /* without the dashes; NULL ends a table */
        enum option_type type;
        const char *value; /* what stands for the value in help: "SECONDS" */
        const char *help;
        const char *choices;
        uint32_t max;
        bool repeat; /* may be given more than once */
};

struct verb {
        const char *name;  /* "vm create"; NULL ends the table */
        const char *usage; /* its arguments: "NAME" */
        const char *summary;
        const char *details; /* more for --help, or NULL */
        unsigned min, max;   /* number of arguments; ANY_NUMBER */
        bool command;        /* takes "-- COMMAND" */
        const struct option_spec *options;
        int (*run)(struct tdictl *t);
        bool needs_command; /* "-- COMMAND" may not be left out */
        bool many;          /* VENDOR:DEVICE in the place of a BDF may be several functions */
};

#define ANY_NUMBER 65536U

struct option_value {
        const struct option_spec *spec;
        const char *text;
        uint32_t number;
};

struct arguments {
        const struct verb *verb; /* NULL with group: only for help */
        const char *group;       /* "vm" of `tdictl vm` */
        const char **words;
        size_t n_words;
        struct option_value *options;
        size_t n_options;
        char *const *command; /* after "--", ends with NULL; NULL when there was no "--" */
};

extern const struct option_spec global_options[];

/**
 * arguments_parse() - match argv to a table of verbs
 * @verbs: ends with a NULL name; the first one is the default
 * @argv: ends with NULL; texts are borrowed by the result
 * @ret: what was meant, freed with arguments_done(). On failure too it holds what was understood, so that errors can be told
 *       as --json asks.
 * @ret_error: a text for people, only on -EINVAL; the caller's
 *
 * Return: 0, -EINVAL or -ENOMEM.
 */
int arguments_parse(const struct verb *verbs, int argc, char *const argv[], struct arguments *ret, char **ret_error);
void arguments_done(struct arguments *a);

/* The n-th value given for an option, or NULL. */
const struct option_value *arguments_option(const struct arguments *a, const char *name, size_t n);
bool arguments_has(const struct arguments *a, const char *name);
const char *arguments_text(const struct arguments *a, const char *name);

int parse_number(const char *text, uint32_t max, uint32_t *ret);

#endif
