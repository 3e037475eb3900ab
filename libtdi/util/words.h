/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What somebody who made a slip may have meant. */
#ifndef TDI_UTIL_WORDS_H
#define TDI_UTIL_WORDS_H

#include "util/util.h"

/* How many letters must be changed, added or removed (Levenshtein). Words of 64 bytes and more are 64 from everything. */
unsigned words_distance(const char *a, const char *b);
/* So far from a name of @n bytes it is a slip: a third of the letters may be wrong. */
bool words_is_slip(unsigned distance, size_t n);
/* The one of @n names that was meant, by that; NULL: none. */
const char *words_nearest(const char *written, const char *const names[], size_t n);

#endif
