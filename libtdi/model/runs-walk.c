/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is derived from a list of runs piece by piece: maps, segments, pages. Nothing here allocates. */
#include <tdi/runs.h>

#include "util/util.h"

static bool is_power_of_two(uint64_t n) {
        return n != 0 && (n & (n - 1)) == 0;
}

static uint64_t bytes(uint64_t pages) {
        return pages << TDI_PAGE_SHIFT;
}

/* ---- maps ---- */

static bool same_kind(const struct tdi_run *a, const struct tdi_run *b) {
        return a->provider == b->provider && a->attributes == b->attributes;
}

/* The buffer has no gap, so neither may the windows have one below it. */
static bool lies_in_windows(const struct tdi_plan *p, uint64_t last) {
        uint64_t at = p->iova;

        if (!p->windows)
                return true;
        for (size_t i = 0; i < p->n_windows; i++) {
                if (p->windows[i].last < at)
                        continue;
                if (p->windows[i].start > at)
                        return false;
                if (p->windows[i].last >= last)
                        return true;
                at = p->windows[i].last + 1;
        }
        return false;
}

int tdi_plan_begin(struct tdi_plan *p, const struct tdi_run *runs, size_t n) {
        uint64_t alignment = p->alignment ? p->alignment : TDI_PAGE_SIZE, size = 0, last;

        if (!is_power_of_two(alignment) || alignment < TDI_PAGE_SIZE)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                if (size & (alignment - 1) && !same_kind(runs + i - 1, runs + i))
                        return -EINVAL;
                size += bytes(runs[i].pages);
        }
        if ((p->iova | p->length_max | size) & (alignment - 1))
                return -EINVAL;
        if (n > 0 && __builtin_add_overflow(p->iova, size - 1, &last))
                return -EOVERFLOW;
        if (n > 0 && !lies_in_windows(p, last))
                return -ERANGE;
        p->runs = runs;
        p->n = n;
        p->at = 0;
        p->offset = p->in_run = 0;
        return 0;
}

bool tdi_plan_next(struct tdi_plan *p, struct tdi_map *ret) {
        const struct tdi_run *first;
        uint64_t length = 0;

        if (p->at == p->n)
                return false;
        first = p->runs + p->at;
        while (p->at < p->n && same_kind(first, p->runs + p->at)) {
                uint64_t left = bytes(p->runs[p->at].pages) - p->in_run;

                if (p->length_max && left > p->length_max - length) {
                        p->in_run += p->length_max - length;
                        length = p->length_max;
                        break;
                }
                length += left;
                p->in_run = 0;
                p->at++;
                if (length == p->length_max)
                        break;
        }
        *ret = (struct tdi_map) {
                .iova = p->iova + p->offset,
                .offset = p->offset,
                .length = length,
                .provider = first->provider,
                .attributes = first->attributes,
        };
        p->offset += length;
        return true;
}

/* ---- segments ---- */

int tdi_segments_begin(struct tdi_segments *s, const struct tdi_run *runs, size_t n, uint64_t length_max, uint64_t boundary) {
        if (length_max % TDI_PAGE_SIZE || (boundary && (!is_power_of_two(boundary) || boundary < TDI_PAGE_SIZE)))
                return -EINVAL;
        *s = (struct tdi_segments) { .runs = runs, .n = n, .length_max = length_max, .boundary = boundary };
        return 0;
}

bool tdi_segments_next(struct tdi_segments *s, struct tdi_segment *ret) {
        const struct tdi_run *q;
        uint64_t address, length;

        if (s->at == s->n)
                return false;
        q = s->runs + s->at;
        address = bytes(q->pfn) + s->done;
        length = bytes(q->pages) - s->done;
        if (s->boundary && length > s->boundary - (address & (s->boundary - 1)))
                length = s->boundary - (address & (s->boundary - 1));
        if (s->length_max && length > s->length_max)
                length = s->length_max;
        s->done += length;
        if (s->done == bytes(q->pages)) {
                s->done = 0;
                s->at++;
        }
        *ret = (struct tdi_segment) { .address = address, .length = length, .provider = q->provider, .attributes = q->attributes };
        return true;
}

/* ---- pages ---- */

int tdi_pages_begin(struct tdi_pages *p, const struct tdi_run *runs, size_t n, uint64_t first) {
        size_t i = 0;

        while (i < n && first >= runs[i].pages)
                first -= runs[i++].pages;
        if (i == n && first > 0)
                return -ERANGE;
        *p = (struct tdi_pages) { .runs = runs, .n = n, .at = i, .done = first };
        return 0;
}

bool tdi_pages_next(struct tdi_pages *p, uint64_t *ret_pfn, size_t *ret_run) {
        if (p->at == p->n)
                return false;
        *ret_pfn = p->runs[p->at].pfn + p->done;
        if (ret_run)
                *ret_run = p->at;
        if (++p->done == p->runs[p->at].pages) {
                p->done = 0;
                p->at++;
        }
        return true;
}

size_t tdi_pages_fill(struct tdi_pages *p, uint64_t *pfns, size_t n) {
        size_t filled = 0;

        while (filled < n && p->at < p->n) {
                const struct tdi_run *q = p->runs + p->at;
                uint64_t pfn = q->pfn + p->done, some = q->pages - p->done;

                if (some > n - filled)
                        some = n - filled;
                for (uint64_t i = 0; i < some; i++)
                        pfns[filled + i] = pfn + i;
                filled += some;
                p->done += some;
                if (p->done == q->pages) {
                        p->done = 0;
                        p->at++;
                }
        }
        return filled;
}
