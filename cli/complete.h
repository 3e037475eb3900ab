/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What completes what: by the table of verbs, whose arguments and values of options are words like "BDF" and "VM". */
#ifndef TDICTL_COMPLETE_H
#define TDICTL_COMPLETE_H

#include "options.h"

enum completes {
        COMPLETES_NOTHING, /* what only the user knows */
        COMPLETES_CHOICE,
        COMPLETES_DEVICE,
        COMPLETES_VM,
        COMPLETES_TSM,
        COMPLETES_FILE,
        COMPLETES_MAX,
        COMPLETES_UNKNOWN = -1 /* a word that complete.c does not have: whoever adds one says there what it is */
};

const char *completes_to_string(enum completes kind);
/* Of an argument by the word in the verb's usage. */
enum completes completes_token(const char *token, size_t length);
/* Of an option's value. */
enum completes completes_option(const struct option_spec *o);

#endif
