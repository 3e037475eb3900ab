/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lists of runs: building them, and what is asked of a list as a whole. What is derived piece by piece is in runs-walk.c. */
#include <tdi/runs.h>

#include "util/util.h"

/* Frame numbers looked at together: they, and where runs begin among them, stay in the first-level cache. */
#define BLOCK 2048
/* Of the second half of a run as one number: pages are its first 32 bits in memory. */
#define PAGES_SHIFT (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 32)
#define ROOM_MIN 16
/* 2^63 bytes, as VFIO has it (validate_dmabuf_input). */
#define PAGES_MAX (UINT64_C(1) << (63 - TDI_PAGE_SHIFT))

struct tdi_runs {
        struct tdi_run *run;
        size_t n, room;
        uint64_t pages;
};

static const struct {
        uint16_t attribute;
        const char *name;
} attribute_names[] = {
        { TDI_RUN_P2P, "p2p" },     { TDI_RUN_CPU, "cpu-mappable" }, { TDI_RUN_MMIO, "mmio" }, { TDI_RUN_CACHEABLE, "cacheable" },
        { TDI_RUN_SNOOP, "snoop" },
};

const char *tdi_run_attribute_to_string(uint16_t attribute) {
        for (size_t i = 0; i < ARRAY_SIZE(attribute_names); i++)
                if (attribute_names[i].attribute == attribute)
                        return attribute_names[i].name;
        return NULL;
}

uint16_t tdi_run_attribute_from_string(const char *name) {
        for (size_t i = 0; name && i < ARRAY_SIZE(attribute_names); i++)
                if (streq(attribute_names[i].name, name))
                        return attribute_names[i].attribute;
        return 0;
}

int tdi_runs_new(struct tdi_runs **ret) {
        struct tdi_runs *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        *ret = l;
        return 0;
}

struct tdi_runs *tdi_runs_free(struct tdi_runs *l) {
        if (!l)
                return NULL;
        free(l->run);
        free(l);
        return NULL;
}

/* Room for so many more; at least doubled, so that growing is linear in the whole. */
static int make_room(struct tdi_runs *l, size_t more) {
        struct tdi_run *t;
        size_t room;

        if (l->room - l->n >= more)
                return 0;
        if (__builtin_add_overflow(l->n, more, &room))
                return -ENOMEM;
        if (room < l->room * 2)
                room = l->room * 2;
        if (room < ROOM_MIN)
                room = ROOM_MIN;
        t = reallocarray(l->run, room, sizeof(*t));
        if (!t)
                return -ENOMEM;
        l->run = t;
        l->room = room;
        return 0;
}

int tdi_runs_reserve(struct tdi_runs *l, size_t n) {
        int r;

        if (n <= l->room)
                return 0;
        r = make_room(l, n - l->n);
        if (r < 0)
                return r;
        memset(l->run + l->n, 0, (l->room - l->n) * sizeof(*l->run));
        return 0;
}

void tdi_runs_clear(struct tdi_runs *l) {
        l->n = 0;
        l->pages = 0;
}

size_t tdi_runs_get(const struct tdi_runs *l, const struct tdi_run **ret) {
        *ret = l->n > 0 ? l->run : NULL;
        return l->n;
}

static bool attributes_are_valid(uint16_t attributes) {
        if (attributes & ~TDI_RUN_ATTRIBUTES || (attributes & (TDI_RUN_MMIO | TDI_RUN_CACHEABLE)) == (TDI_RUN_MMIO | TDI_RUN_CACHEABLE))
                return false;
        return !(attributes & TDI_RUN_SNOOP) || attributes & TDI_RUN_CACHEABLE;
}

/* How many of the next pages, the first of which is @pfn, the last run takes in. */
static uint64_t continues(const struct tdi_runs *l, uint64_t pfn, uint64_t pages, uint16_t provider, uint16_t attributes) {
        const struct tdi_run *last = l->n > 0 ? l->run + l->n - 1 : NULL;

        if (!last || last->pfn + last->pages != pfn || last->provider != provider || last->attributes != attributes)
                return 0;
        return pages < TDI_RUN_PAGES_MAX - last->pages ? pages : TDI_RUN_PAGES_MAX - last->pages;
}

int tdi_runs_add(struct tdi_runs *l, uint64_t pfn, uint64_t pages, uint16_t provider, uint16_t attributes) {
        uint64_t joined;
        int r;

        if (pages == 0 || pfn > TDI_PFN_MAX || pages - 1 > TDI_PFN_MAX - pfn || !attributes_are_valid(attributes))
                return -EINVAL;
        if (pages > PAGES_MAX - l->pages)
                return -EOVERFLOW;
        joined = continues(l, pfn, pages, provider, attributes);
        r = make_room(l, (pages - joined + TDI_RUN_PAGES_MAX - 1) / TDI_RUN_PAGES_MAX);
        if (r < 0)
                return r;
        l->pages += pages;
        if (joined > 0)
                l->run[l->n - 1].pages += (uint32_t) joined;
        for (uint64_t at = joined; at < pages; at += l->run[l->n - 1].pages) {
                uint32_t some = pages - at < TDI_RUN_PAGES_MAX ? (uint32_t) (pages - at) : TDI_RUN_PAGES_MAX;

                l->run[l->n++] = (struct tdi_run) { pfn + at, some, provider, attributes };
        }
        return 0;
}

/*
 * A block of at most BLOCK frame numbers of which none follows the one before it, if that is so. Nothing of it is valid where
 * it is not: then the block is looked at again, which is why this is tried only after a block that was like that.
 */
static bool add_scattered(struct tdi_runs *l, const uint64_t *pfns, size_t n, uint16_t provider, uint16_t attributes) {
        struct tdi_run *out = l->run + l->n;
        uint64_t all = pfns[0];
        size_t follow = 0;

        if (continues(l, pfns[0], 1, provider, attributes) > 0)
                return false;
        out[0] = (struct tdi_run) { pfns[0], 1, provider, attributes };
        for (size_t i = 1; i < n; i++) {
                out[i] = (struct tdi_run) { pfns[i], 1, provider, attributes };
                follow += pfns[i] - pfns[i - 1] == 1;
                all |= pfns[i];
        }
        if (follow > 0 || all > TDI_PFN_MAX)
                return false;
        l->n += n;
        l->pages += n;
        return true;
}

/*
 * A block of at most BLOCK frame numbers. Where runs begin is written down first, without a branch that the processor could
 * guess wrong: in memory that is cut up at random it would, once a run. Returns how many runs begin; 0: a number is out of range.
 */
static size_t add_block(struct tdi_runs *l, const uint64_t *pfns, size_t n, uint16_t provider, uint16_t attributes) {
        struct tdi_run *out = l->run + l->n;
        uint16_t begin[BLOCK + 1];
        struct tdi_run shape = { 0, 0, provider, attributes };
        uint64_t all = pfns[0], joined, common;
        size_t n_begin = 1;

        memcpy(&common, &shape.pages, sizeof(common));

        begin[0] = 0;
        for (size_t i = 1; i < n; i++) {
                begin[n_begin] = (uint16_t) i;
                n_begin += pfns[i] - pfns[i - 1] != 1;
                all |= pfns[i];
        }
        begin[n_begin] = (uint16_t) n;
        if (all > TDI_PFN_MAX)
                return 0;

        joined = continues(l, pfns[0], begin[1], provider, attributes);
        if (joined > 0)
                l->run[l->n - 1].pages += (uint32_t) joined;
        /* What is left of the first, should the run before it have reached its limit within it. */
        if (joined < begin[1])
                *out++ = (struct tdi_run) { pfns[0] + joined, begin[1] - (uint32_t) joined, provider, attributes };
        /* What all have in common is copied, with one store: a field at a time is twice as many as the processor takes. */
        for (size_t i = 1; i < n_begin; i++, out++) {
                uint64_t tail = common + ((uint64_t) (begin[i + 1] - begin[i]) << PAGES_SHIFT);

                out->pfn = pfns[begin[i]];
                memcpy(&out->pages, &tail, sizeof(tail));
        }
        l->n = (size_t) (out - l->run);
        l->pages += n;
        return n_begin;
}

int tdi_runs_add_pfns(struct tdi_runs *l, const uint64_t *pfns, size_t n, uint16_t provider, uint16_t attributes) {
        uint32_t last_pages = l->n > 0 ? l->run[l->n - 1].pages : 0;
        size_t before = l->n;
        uint64_t pages = l->pages;
        bool scattered = false;
        int r = 0;

        if (!attributes_are_valid(attributes))
                return -EINVAL;
        if (n > PAGES_MAX - l->pages)
                return -EOVERFLOW;
        for (size_t at = 0; at < n && r == 0; at += BLOCK) {
                size_t some = n - at < BLOCK ? n - at : BLOCK, begin;

                r = make_room(l, some);
                if (r < 0 || (scattered && add_scattered(l, pfns + at, some, provider, attributes)))
                        continue;
                begin = add_block(l, pfns + at, some, provider, attributes);
                if (begin == 0)
                        r = -EINVAL;
                scattered = begin == some;
        }
        if (r < 0) {
                l->n = before;
                l->pages = pages;
                if (before > 0)
                        l->run[before - 1].pages = last_pages;
        }
        return r;
}

/* ---- looking at a list ---- */

int tdi_runs_check(const struct tdi_run *runs, size_t n) {
        uint64_t pages = 0;

        for (size_t i = 0; i < n; i++) {
                const struct tdi_run *q = runs + i;

                if (q->pages == 0 || q->pages > TDI_RUN_PAGES_MAX || q->pfn > TDI_PFN_MAX || q->pages - 1 > TDI_PFN_MAX - q->pfn ||
                    !attributes_are_valid(q->attributes))
                        return -EINVAL;
                if (q->pages > PAGES_MAX - pages)
                        return -EOVERFLOW;
                pages += q->pages;
        }
        return 0;
}

uint64_t tdi_runs_pages(const struct tdi_run *runs, size_t n) {
        uint64_t pages = 0;

        for (size_t i = 0; i < n; i++)
                pages += runs[i].pages;
        return pages;
}

uint64_t tdi_runs_alignment(const struct tdi_run *runs, size_t n) {
        uint64_t bits = 0;

        for (size_t i = 0; i < n; i++)
                bits |= runs[i].pfn | runs[i].pages;
        return (bits & -bits) << TDI_PAGE_SHIFT;
}

/* ---- overlap ---- */

/* A list in the order of provider and frame number: as it is, or by an array of indexes. */
struct ordered {
        const struct tdi_run *runs;
        size_t n, at;
        size_t *order;
        /* of all before `at`: the furthest end, of the provider of the last */
        uint16_t provider;
        uint64_t end;
        size_t furthest;
};

static int compare(const struct tdi_run *a, const struct tdi_run *b) {
        if (a->provider != b->provider)
                return a->provider < b->provider ? -1 : 1;
        return a->pfn < b->pfn ? -1 : a->pfn > b->pfn;
}

static int compare_indexes(const void *a, const void *b, void *userdata) {
        const struct tdi_run *runs = userdata;

        return compare(runs + *(const size_t *) a, runs + *(const size_t *) b);
}

static int put_in_order(struct ordered *o, const struct tdi_run *runs, size_t n) {
        size_t i = 1;

        *o = (struct ordered) { .runs = runs, .n = n };
        while (i < n && compare(runs + i - 1, runs + i) <= 0)
                i++;
        if (i >= n)
                return 0;
        o->order = reallocarray(NULL, n, sizeof(*o->order));
        if (!o->order)
                return -ENOMEM;
        for (i = 0; i < n; i++)
                o->order[i] = i;
        qsort_r(o->order, n, sizeof(*o->order), compare_indexes, (void *) (uintptr_t) runs);
        return 0;
}

static size_t index_of(const struct ordered *o) {
        return o->order ? o->order[o->at] : o->at;
}

/* Does the run that is next in @o begin within one that was before in @other? */
static bool hits(const struct ordered *o, const struct ordered *other) {
        const struct tdi_run *q = o->runs + index_of(o);

        return other->at > 0 && other->provider == q->provider && q->pfn < other->end;
}

static void step(struct ordered *o) {
        size_t i = index_of(o);
        const struct tdi_run *q = o->runs + i;

        if (o->at == 0 || q->provider != o->provider || q->pfn + q->pages > o->end) {
                o->provider = q->provider;
                o->end = q->pfn + q->pages;
                o->furthest = i;
        }
        o->at++;
}

static int find_in_one(struct ordered *a, size_t *ret_a, size_t *ret_b) {
        for (; a->at < a->n; step(a))
                if (hits(a, a)) {
                        *ret_a = a->furthest;
                        *ret_b = index_of(a);
                        return 1;
                }
        return 0;
}

static int find_in_both(struct ordered *a, struct ordered *b, size_t *ret_a, size_t *ret_b) {
        while (a->at < a->n || b->at < b->n) {
                bool first = b->at == b->n || (a->at < a->n && compare(a->runs + index_of(a), b->runs + index_of(b)) <= 0);

                if (first ? hits(a, b) : hits(b, a)) {
                        *ret_a = first ? index_of(a) : a->furthest;
                        *ret_b = first ? b->furthest : index_of(b);
                        return 1;
                }
                step(first ? a : b);
        }
        return 0;
}

int tdi_runs_overlap(const struct tdi_run *a, size_t n_a, const struct tdi_run *b, size_t n_b, size_t *ret_a, size_t *ret_b) {
        struct ordered x, y = {};
        size_t i = 0, k = 0;
        int r;

        r = put_in_order(&x, a, n_a);
        if (r == 0 && b)
                r = put_in_order(&y, b, n_b);
        if (r == 0)
                r = b ? find_in_both(&x, &y, &i, &k) : find_in_one(&x, &i, &k);
        free(x.order);
        free(y.order);
        if (r > 0 && ret_a)
                *ret_a = i;
        if (r > 0 && ret_b)
                *ret_b = k;
        return r;
}
