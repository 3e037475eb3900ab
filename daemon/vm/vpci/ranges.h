/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A sorted table of page ranges that never overlap, for hundreds of thousands of them: chunks of 2 KiB in the order of their addresses
 * and an index of the chunks. Finding, inserting and removing take logarithmic time and move at most one chunk's entries; an entry
 * is 32 bytes, and neighbouring chunks that would fit into three quarters of one become one when something is removed.
 *
 * Addresses and sizes are in pages of 4 KiB. What an entry means is its user's; only first and pages are looked at here. A pointer
 * to an entry is good until the next insertion or removal. Not thread safe.
 */
#ifndef TDID_VPCI_RANGES_H
#define TDID_VPCI_RANGES_H

#include <stddef.h>

#include "util/util.h"

#define RANGE_SHIFT 12
#define RANGE_PAGE (UINT64_C(1) << RANGE_SHIFT)
/* The last page of a 64-bit address space. */
#define RANGE_PAGE_MAX (UINT64_MAX >> RANGE_SHIFT)

struct range {
        uint64_t first : 52;
        uint64_t state : 3;
        uint64_t readable : 1;
        uint64_t writable : 1;
        uint64_t counted : 1;
        uint64_t background : 1;
        uint64_t pages : 52; /* never 0 */
        uint64_t file : 12;
        uint64_t offset : 52;
        uint64_t holders;
};

struct range_chunk;

struct ranges {
        struct range_slot {
                uint64_t first; /* of the chunk's first entry */
                struct range_chunk *chunk;
        } * slots;
        size_t n_slots, room;
        size_t n; /* entries */
};

/* Where an entry is; good as long as a pointer to it. */
struct ranges_at {
        size_t slot, i;
};

static inline uint64_t range_last(const struct range *r) {
        return r->first + r->pages - 1;
}

void ranges_clear(struct ranges *t);
/* The first entry that ends at @page or after it; NULL when there is none. */
struct range *ranges_seek(const struct ranges *t, uint64_t page, struct ranges_at *ret);
/* The entry after the one at @at, which moves; NULL at the end. */
struct range *ranges_next(const struct ranges *t, struct ranges_at *at);
/* -EEXIST when it would overlap another, -ENOMEM; nothing is changed then. */
int ranges_insert(struct ranges *t, const struct range *r);
void ranges_remove(struct ranges *t, struct ranges_at at);
/*
 * Removes those entries that lie wholly in [@first, @last] and for which @keep is false; @keep may change what it is shown, but not first
 * and pages, and not this table. How many were removed.
 */
size_t ranges_filter(struct ranges *t, uint64_t first, uint64_t last, bool (*keep)(struct range *r, void *userdata), void *userdata);
/* What the table has allocated, in bytes. */
size_t ranges_memory(const struct ranges *t);

#endif
