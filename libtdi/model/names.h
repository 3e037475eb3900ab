/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Enums with names: the table once, both ways from it. */
#ifndef TDI_MODEL_NAMES_H
#define TDI_MODEL_NAMES_H

#include "util/util.h"

#define DEFINE_NAMES(prefix, type, max, invalid, ...)                  \
        static const char *const prefix##_names[max] = { __VA_ARGS__ }; \
        const char *prefix##_to_string(type value) {                   \
                if (value < 0 || value >= (max))                       \
                        return NULL;                                   \
                return prefix##_names[value];                          \
        }                                                              \
        type prefix##_from_string(const char *name) {                  \
                for (int i = 0; name && i < (max); i++)                \
                        if (streq(prefix##_names[i], name))            \
                                return (type) i;                       \
                return invalid;                                        \
        }

#endif
