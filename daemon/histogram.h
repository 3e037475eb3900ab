/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long things took: counts between fixed bounds, as DescribeHost() and Describe() of a VM tell them. */
#ifndef TDID_HISTOGRAM_H
#define TDID_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "model/json.h"

/* The first bound that is not below ns, or n: beyond all of them. */
static inline size_t histogram_slot(const uint64_t *bounds, size_t n, uint64_t ns) {
        size_t i = 0;

        while (i < n && ns > bounds[i])
                i++;
        return i;
}

/* {"bounds_ns": […], "counts": […], "sum_ns"}; counts has one element more, for what is beyond. The caller's. */
static inline struct json_object *histogram_describe(const uint64_t *bounds, const uint64_t *counts, size_t n, uint64_t sum) {
        struct json_object *o = json_new(), *b = json_new_array(), *c = json_new_array();

        for (size_t i = 0; i <= n; i++) {
                if (i < n)
                        json_push_take(b, json_object_new_uint64(bounds[i]));
                json_push_take(c, json_object_new_uint64(counts[i]));
        }
        json_set_take(o, "bounds_ns", b);
        json_set_take(o, "counts", c);
        json_set_u64(o, "sum_ns", sum);
        return o;
}

#endif
