/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Slips. */
#include "util/words.h"

unsigned words_distance(const char *a, const char *b) {
        unsigned row[64];
        size_t n = strlen(b);

        if (n >= ARRAY_SIZE(row) || strlen(a) >= ARRAY_SIZE(row))
                return ARRAY_SIZE(row);
        for (size_t j = 0; j <= n; j++)
                row[j] = (unsigned) j;
        for (size_t i = 0; a[i]; i++) {
                unsigned corner = row[0];

                row[0] = (unsigned) i + 1;
                for (size_t j = 0; j < n; j++) {
                        unsigned best = corner + (a[i] != b[j]);

                        corner = row[j + 1];
                        if (row[j] + 1 < best)
                                best = row[j] + 1;
                        if (corner + 1 < best)
                                best = corner + 1;
                        row[j + 1] = best;
                }
        }
        return row[n];
}

bool words_is_slip(unsigned distance, size_t n) {
        return distance <= 1 + n / 3;
}

const char *words_nearest(const char *written, const char *const names[], size_t n) {
        const char *best = NULL;
        unsigned least = 0;

        for (size_t i = 0; i < n; i++) {
                unsigned d = words_distance(written, names[i]);

                if (words_is_slip(d, strlen(names[i])) && (!best || d < least)) {
                        best = names[i];
                        least = d;
                }
        }
        return best;
}
