/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Functions by what they are: VENDOR:DEVICE wherever a BDF may stand. */
#ifndef TDICTL_SELECT_H
#define TDICTL_SELECT_H

#include "tdictl.h"

/* Which argument the n-th word is, by the verb's usage: "BDF" of "VM BDF…"; the token ends at a space, "…" or the end. NULL: none. */
const char *usage_token(const struct verb *v, size_t n, size_t *ret_length);

/*
 * Replaces each VENDOR:DEVICE among the words and options that are BDFs by the address of the function that has these ids: by those of all of
 * them where the verb takes many (device list, device show), else there has to be one. tdid is asked only where there is such a word. Texts are
 * t->selected's.
 */
int select_functions(struct tdictl *t);

#endif
