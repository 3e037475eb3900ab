/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs against a naive model: every page by itself, with what is known of it. */
#include <tdi/runs.h>

#include "test.h"

#define IO (TDI_RUN_P2P | TDI_RUN_MMIO)
#define RAM (TDI_RUN_CPU | TDI_RUN_CACHEABLE | TDI_RUN_SNOOP)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

struct page {
        uint64_t pfn;
        uint16_t provider, attributes;
};

static const struct tdi_run *get(struct tdi_runs *l, size_t *ret) {
        const struct tdi_run *runs;

        *ret = tdi_runs_get(l, &runs);
        return runs;
}

static struct tdi_runs *new_list(void) {
        struct tdi_runs *l = NULL;

        require(tdi_runs_new(&l) == 0 && l);
        return l;
}

static bool run_is(const struct tdi_run *q, uint64_t pfn, uint64_t pages, uint16_t provider, uint16_t attributes) {
        return q->pfn == pfn && q->pages == pages && q->provider == provider && q->attributes == attributes;
}

static void test_building(void) {
        struct tdi_runs *l = new_list();
        const struct tdi_run *runs;
        uint64_t bad[] = { 1, 2, TDI_PFN_MAX + 1, 4 };
        size_t n;

        test_about("building");
        runs = get(l, &n);
        check(!runs && n == 0);
        check_int(tdi_runs_alignment(runs, n), 0);
        check_int(tdi_runs_add_pfns(l, bad, 0, 0, RAM), 0);
        check_int(tdi_runs_add(l, 10, 0, 0, RAM), -EINVAL);
        check_int(tdi_runs_add(l, TDI_PFN_MAX + 1, 1, 0, RAM), -EINVAL);
        check_int(tdi_runs_add(l, TDI_PFN_MAX, 2, 0, RAM), -EINVAL);
        check_int(tdi_runs_add(l, 0, UINT64_MAX, 0, RAM), -EINVAL);
        check_int(tdi_runs_add(l, 0, 1, 0, TDI_RUN_MMIO | TDI_RUN_CACHEABLE), -EINVAL);
        check_int(tdi_runs_add(l, 0, 1, 0, TDI_RUN_SNOOP), -EINVAL);
        check_int(tdi_runs_add(l, 0, 1, 0, 0x8000), -EINVAL);
        check_int(tdi_runs_add_pfns(l, bad, 1, 0, TDI_RUN_SNOOP), -EINVAL);
        check_int(tdi_runs_add_pfns(l, bad, 4, 0, RAM), -EINVAL);
        check_int(get(l, &n) == NULL, true);

        /* The whole of what has an address: 8 PiB are 8 TiB runs, and no more fits into one buffer. */
        check_int(tdi_runs_add(l, 0, UINT64_C(1) << 51, 0, RAM), 0);
        check_int(tdi_runs_add(l, UINT64_C(1) << 51, 1, 0, RAM), -EOVERFLOW);
        check_int(tdi_runs_add_pfns(l, bad, 1, 0, RAM), -EOVERFLOW);
        runs = get(l, &n);
        check_int(n, 1 << 20);
        check_int(tdi_runs_pages(runs, n), INT64_C(1) << 51);
        check_int(tdi_runs_check(runs, n), 0);
        tdi_runs_clear(l);
        check(!get(l, &n));

        /* What follows is joined, what is of another kind is not. */
        check_int(tdi_runs_add(l, 100, 4, 1, IO), 0);
        check_int(tdi_runs_add(l, 104, 6, 1, IO), 0);
        check_int(tdi_runs_add(l, 110, 1, 2, IO), 0);
        check_int(tdi_runs_add(l, 111, 1, 2, TDI_RUN_P2P), 0);
        check_int(tdi_runs_add(l, 111, 1, 2, TDI_RUN_P2P), 0);
        check_int(tdi_runs_add_pfns(l, (uint64_t[]) { 112, 113, 115 }, 3, 2, TDI_RUN_P2P), 0);
        runs = get(l, &n);
        check_int(n, 5);
        check(run_is(runs, 100, 10, 1, IO) && run_is(runs + 1, 110, 1, 2, IO) && run_is(runs + 2, 111, 1, 2, TDI_RUN_P2P));
        check(run_is(runs + 3, 111, 3, 2, TDI_RUN_P2P) && run_is(runs + 4, 115, 1, 2, TDI_RUN_P2P));

        /* A failure in the middle leaves the list, and its last run, as they were. */
        check_int(tdi_runs_add_pfns(l, (uint64_t[]) { 116, 117, UINT64_MAX }, 3, 2, TDI_RUN_P2P), -EINVAL);
        runs = get(l, &n);
        check(n == 5 && run_is(runs + 4, 115, 1, 2, TDI_RUN_P2P));
        check_int(tdi_runs_pages(runs, n), 10 + 1 + 1 + 3 + 1);
        check(!tdi_runs_free(l) && !tdi_runs_free(NULL));
}

/* The limit of a run, reached by one, by many, and by single pages. */
static void test_limit(void) {
        struct tdi_runs *l = new_list();
        const struct tdi_run *runs;
        uint64_t pfns[5000];
        size_t n;

        test_about("limit");
        check_int(tdi_runs_add(l, 7, (uint64_t) TDI_RUN_PAGES_MAX + 5, 0, RAM), 0);
        runs = get(l, &n);
        check(n == 2 && run_is(runs, 7, TDI_RUN_PAGES_MAX, 0, RAM) && run_is(runs + 1, 7 + (uint64_t) TDI_RUN_PAGES_MAX, 5, 0, RAM));

        for (uint32_t before = 0; before < 5000; before += before < 4 ? 1 : 499) {
                uint64_t start = 1000, joined = before < 5000 ? before : 5000;

                tdi_runs_clear(l);
                check_int(tdi_runs_add(l, start, TDI_RUN_PAGES_MAX - before, 0, RAM), 0);
                for (size_t i = 0; i < ARRAY_SIZE(pfns); i++)
                        pfns[i] = start + TDI_RUN_PAGES_MAX - before + i;
                check_int(tdi_runs_add_pfns(l, pfns, ARRAY_SIZE(pfns), 0, RAM), 0);
                runs = get(l, &n);
                check_int(n, 2);
                check(run_is(runs, start, TDI_RUN_PAGES_MAX, 0, RAM));
                check(run_is(runs + 1, start + TDI_RUN_PAGES_MAX, 5000 - joined, 0, RAM));
                check_int(tdi_runs_check(runs, n), 0);
        }
        /* Single pages that end at the limit, and go on elsewhere. */
        tdi_runs_clear(l);
        check_int(tdi_runs_add(l, 0, TDI_RUN_PAGES_MAX - 1, 0, RAM), 0);
        check_int(tdi_runs_add_pfns(l, (uint64_t[]) { TDI_RUN_PAGES_MAX - 1, TDI_RUN_PAGES_MAX, 3, 9 }, 4, 0, RAM), 0);
        runs = get(l, &n);
        check(n == 4 && run_is(runs, 0, TDI_RUN_PAGES_MAX, 0, RAM) && run_is(runs + 1, TDI_RUN_PAGES_MAX, 1, 0, RAM));
        tdi_runs_free(l);
}

/* A BAR of 1 TiB costs what one of a page does. */
static void test_terabyte(void) {
        struct tdi_runs *l = new_list();
        struct tdi_plan plan = { .iova = 16 * TIB };
        struct tdi_segments s;
        struct tdi_segment segment;
        const struct tdi_run *runs;
        struct tdi_map map;
        size_t n;

        test_about("1 TiB");
        check_int(sizeof(struct tdi_run), 16);
        check_int(tdi_runs_add(l, (4 * TIB) >> 12, TIB >> 12, 3, IO), 0);
        runs = get(l, &n);
        check_int(n, 1);
        check_int(tdi_runs_alignment(runs, n), TIB);
        check_int(tdi_plan_begin(&plan, runs, n), 0);
        check(tdi_plan_next(&plan, &map) && map.iova == 16 * TIB && map.offset == 0 && map.length == TIB && map.provider == 3 && map.attributes == IO);
        check(!tdi_plan_next(&plan, &map));
        check_int(tdi_segments_begin(&s, runs, n, 0, 0), 0);
        check(tdi_segments_next(&s, &segment) && segment.address == 4 * TIB && segment.length == TIB && segment.provider == 3);
        check(!tdi_segments_next(&s, &segment));
        tdi_runs_free(l);
}

static void test_checks(void) {
        static const struct tdi_run good[] = { { 5, 1, 0, RAM }, { 1, TDI_RUN_PAGES_MAX, 9, IO }, { TDI_PFN_MAX, 1, 0, 0 } };
        static const struct tdi_run bad[] = {
                { 5, 0, 0, RAM }, { 5, TDI_RUN_PAGES_MAX + 1, 0, RAM }, { TDI_PFN_MAX + 1, 1, 0, RAM }, { TDI_PFN_MAX, 2, 0, RAM },
                { 5, 1, 0, TDI_RUN_SNOOP }, { 5, 1, 0, 0x20 }, { 5, 1, 0, TDI_RUN_MMIO | TDI_RUN_CACHEABLE }, { UINT64_MAX, UINT32_MAX, 0, 0 },
        };
        struct tdi_run *many;

        test_about("checks");
        check_int(tdi_runs_check(good, ARRAY_SIZE(good)), 0);
        check_int(tdi_runs_check(NULL, 0), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                check_int(tdi_runs_check(bad + i, 1), -EINVAL);
        many = calloc((1 << 20) + 1, sizeof(*many));
        require(many);
        for (size_t i = 0; i <= 1 << 20; i++)
                many[i] = (struct tdi_run) { 0, TDI_RUN_PAGES_MAX, 0, 0 };
        check_int(tdi_runs_check(many, 1 << 20), 0);
        check_int(tdi_runs_check(many, (1 << 20) + 1), -EOVERFLOW);
        free(many);
}

static void test_plans(void) {
        static const struct tdi_run runs[] = {
                { 0x100, 0x10, 1, IO }, { 0x200, 0x10, 1, IO }, { 0x800, 0x20, 2, IO }, { 0x820, 0x08, 2, RAM }, { 0x828, 0x08, 2, RAM },
        };
        static const struct tdi_window windows[] = { { 0, 0xfedfffff }, { 0xfef00000, UINT64_MAX } };
        static const struct tdi_window halves[] = { { 0, 0xffff }, { 0x10000, 0x1fffff } };
        struct tdi_plan p = { .iova = 0x100000 };
        struct tdi_map m;
        unsigned n = 0;

        test_about("plans");
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        check(tdi_plan_next(&p, &m) && m.iova == 0x100000 && m.offset == 0 && m.length == 0x20000 && m.provider == 1 && m.attributes == IO);
        check(tdi_plan_next(&p, &m) && m.iova == 0x120000 && m.offset == 0x20000 && m.length == 0x20000 && m.provider == 2 && m.attributes == IO);
        check(tdi_plan_next(&p, &m) && m.iova == 0x140000 && m.offset == 0x40000 && m.length == 0x10000 && m.provider == 2 && m.attributes == RAM);
        check(!tdi_plan_next(&p, &m) && !tdi_plan_next(&p, &m));

        p.length_max = 0x8000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        while (tdi_plan_next(&p, &m)) {
                check(m.length == 0x8000 && m.offset == UINT64_C(0x8000) * n && m.iova == m.offset + p.iova);
                n++;
        }
        check_int(n, 10);
        p.length_max = 0;

        p.alignment = 0x10000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        p.alignment = 0x20000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -EINVAL); /* the end is not aligned */
        p.alignment = 0x3000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -EINVAL);
        p.alignment = 0x800;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -EINVAL);
        p.alignment = 0x2000;
        p.length_max = 0x3000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -EINVAL);
        p.length_max = 0;
        p.iova = 0x1000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -EINVAL);
        p.alignment = 0;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        p.iova = 0x1800;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -EINVAL);

        /* Borders between kinds have to be aligned, those within a kind need not. */
        p = (struct tdi_plan) { .alignment = 0x2000 };
        check_int(tdi_plan_begin(&p, (struct tdi_run[]) { { 1, 1, 0, RAM }, { 9, 1, 0, RAM } }, 2), 0);
        check_int(tdi_plan_begin(&p, (struct tdi_run[]) { { 1, 1, 0, RAM }, { 9, 1, 1, RAM } }, 2), -EINVAL);

        /* Windows, and the last address. */
        p = (struct tdi_plan) { .iova = 0xfedfffff + 1 - 0x50000, .windows = windows, .n_windows = 2 };
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        p.iova += 0x1000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -ERANGE);
        p.iova = 0xfee00000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -ERANGE);
        p.iova = 0xfef00000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        p.iova = UINT64_MAX - 0x4ffff;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        p.iova += 0x1000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -EOVERFLOW);
        p.iova = 0;
        p.n_windows = 0;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -ERANGE);
        p.windows = halves;
        p.n_windows = 2;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), 0);
        p.iova = 0x1b1000;
        check_int(tdi_plan_begin(&p, runs, ARRAY_SIZE(runs)), -ERANGE);

        /* Nothing is planned of nothing. */
        p = (struct tdi_plan) { .iova = UINT64_MAX - 0xfff, .windows = windows };
        check_int(tdi_plan_begin(&p, NULL, 0), 0);
        check(!tdi_plan_next(&p, &m));
}

static void test_segments(void) {
        static const struct tdi_run runs[] = { { 0x0f, 3, 1, IO }, { 0x40, 0x20, 0, RAM } };
        struct tdi_segments s;
        struct tdi_segment g;

        test_about("segments");
        check_int(tdi_segments_begin(&s, runs, 2, 0x800, 0), -EINVAL);
        check_int(tdi_segments_begin(&s, runs, 2, 0, 0x800), -EINVAL);
        check_int(tdi_segments_begin(&s, runs, 2, 0, 0x3000), -EINVAL);
        check_int(tdi_segments_begin(&s, runs, 2, 0x18000, 0x10000), 0);
        check(tdi_segments_next(&s, &g) && g.address == 0xf000 && g.length == 0x1000 && g.provider == 1 && g.attributes == IO);
        check(tdi_segments_next(&s, &g) && g.address == 0x10000 && g.length == 0x2000 && g.provider == 1);
        check(tdi_segments_next(&s, &g) && g.address == 0x40000 && g.length == 0x10000 && g.provider == 0 && g.attributes == RAM);
        check(tdi_segments_next(&s, &g) && g.address == 0x50000 && g.length == 0x10000);
        check(!tdi_segments_next(&s, &g) && !tdi_segments_next(&s, &g));
        check_int(tdi_segments_begin(&s, NULL, 0, 0, 0), 0);
        check(!tdi_segments_next(&s, &g));
}

static void test_overlaps(void) {
        static const struct tdi_run apart[] = { { 10, 10, 0, 0 }, { 20, 10, 0, 0 }, { 15, 1, 1, 0 } };
        static const struct tdi_run mixed[] = { { 500, 1, 0, 0 }, { 10, 10, 0, 0 }, { 18, 1, 0, 0 } };
        static const struct tdi_run within[] = { { 0, 1000, 0, 0 }, { 10, 1, 0, 0 }, { 900, 1, 0, 0 } };
        size_t a = 77, b = 77;

        test_about("overlaps");
        check_int(tdi_runs_overlap(NULL, 0, NULL, 0, &a, &b), 0);
        check_int(tdi_runs_overlap(apart, 3, NULL, 0, &a, &b), 0);
        check(a == 77 && b == 77);
        check_int(tdi_runs_overlap(mixed, 3, NULL, 0, &a, &b), 1);
        check((a == 1 && b == 2) || (a == 2 && b == 1));
        check_int(tdi_runs_overlap(within, 3, NULL, 0, &a, &b), 1);
        check(a == 0 && b == 1);
        /* A list that meets itself need not meet another. */
        check_int(tdi_runs_overlap(within, 3, &(struct tdi_run) { 1000, 5, 0, 0 }, 1, &a, &b), 0);
        check_int(tdi_runs_overlap(within, 3, &(struct tdi_run) { 950, 5, 0, 0 }, 1, &a, &b), 1);
        check(a == 0 && b == 0);
        check_int(tdi_runs_overlap(&(struct tdi_run) { 950, 5, 0, 0 }, 1, within, 3, &a, &b), 1);
        check(a == 0 && b == 0);
        check_int(tdi_runs_overlap(within, 3, &(struct tdi_run) { 950, 5, 3, 0 }, 1, NULL, NULL), 0);
        check_int(tdi_runs_overlap(apart, 3, mixed, 0, NULL, NULL), 0);
}

static void test_names(void) {
        static const char *const names[] = { "p2p", "cpu-mappable", "mmio", "cacheable", "snoop" };

        test_about("names");
        check_int(TDI_RUN_ATTRIBUTES, (1 << ARRAY_SIZE(names)) - 1);
        for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
                check_str(tdi_run_attribute_to_string((uint16_t) (1 << i)), names[i]);
                check_int(tdi_run_attribute_from_string(names[i]), 1 << i);
        }
        check_str(tdi_run_attribute_to_string(0), NULL);
        check_str(tdi_run_attribute_to_string(3), NULL);
        check_str(tdi_run_attribute_to_string(0x8000), NULL);
        check_int(tdi_run_attribute_from_string(NULL), 0);
        check_int(tdi_run_attribute_from_string("P2P"), 0);
}

/* ---- against the model ---- */

#define PAGES 9000

static struct page model[PAGES];
static size_t n_model;

/* Frame numbers of few values, so that much is adjacent, twice, or at the border of a block. */
static void add_something(struct tdi_runs *l) {
        static const uint16_t kinds[] = { IO, RAM, 0, TDI_RUN_P2P };
        uint16_t provider = test_random() % 3 == 0, attributes = kinds[test_random() % 4];
        uint64_t pfn = test_random() % 64, pfns[4500];
        size_t n;

        if (n_model > 0 && test_random() % 2) {
                pfn = model[n_model - 1].pfn + 1;
                provider = model[n_model - 1].provider;
                attributes = model[n_model - 1].attributes;
        }
        if (test_random() % 2) {
                n = 1 + test_random() % 40;
                if (n > PAGES - n_model)
                        return;
                check_int(tdi_runs_add(l, pfn, n, provider, attributes), 0);
                for (size_t i = 0; i < n; i++)
                        model[n_model++] = (struct page) { pfn + i, provider, attributes };
                return;
        }
        n = test_random() % (test_random() % 8 ? 30 : ARRAY_SIZE(pfns));
        if (n > PAGES - n_model)
                return;
        for (size_t i = 0, mean = 1 + test_random() % 9; i < n; i++) {
                pfns[i] = i == 0 ? pfn : test_random() % mean ? pfns[i - 1] + 1 : test_random() % 4000;
                model[n_model++] = (struct page) { pfns[i], provider, attributes };
        }
        check_int(tdi_runs_add_pfns(l, pfns, n, provider, attributes), 0);
}

static void check_runs(const struct tdi_run *runs, size_t n) {
        size_t at = 0;

        check_int(tdi_runs_check(runs, n), 0);
        check_int(tdi_runs_pages(runs, n), n_model);
        for (size_t i = 0; i < n; i++) {
                /* As long as can be, and no longer. */
                check(i == 0 || runs[i - 1].pfn + runs[i - 1].pages != runs[i].pfn || runs[i - 1].provider != runs[i].provider ||
                      runs[i - 1].attributes != runs[i].attributes);
                for (uint32_t k = 0; k < runs[i].pages; k++, at++)
                        if (!check(at < n_model && model[at].pfn == runs[i].pfn + k && model[at].provider == runs[i].provider &&
                                   model[at].attributes == runs[i].attributes))
                                return;
        }
}

static void check_pages(const struct tdi_run *runs, size_t n) {
        uint64_t first = n_model ? test_random() % n_model : 0, pfn, pfns[700];
        struct tdi_pages p, q;
        size_t run, k, some;

        check_int(tdi_pages_begin(&p, runs, n, n_model), 0);
        check(!tdi_pages_next(&p, &pfn, NULL));
        check_int(tdi_pages_begin(&p, runs, n, n_model + 1), -ERANGE);
        check_int(tdi_pages_begin(&p, runs, n, first), 0);
        q = p;
        for (k = first; tdi_pages_next(&p, &pfn, &run); k++)
                if (!check(k < n_model && pfn == model[k].pfn && run < n && runs[run].provider == model[k].provider))
                        return;
        check_int(k, n_model);
        for (k = first; (some = tdi_pages_fill(&q, pfns, 1 + test_random() % ARRAY_SIZE(pfns))) > 0; k += some)
                for (size_t i = 0; i < some; i++)
                        if (!check(k + i < n_model && pfns[i] == model[k + i].pfn))
                                return;
        check_int(k, n_model);
}

static void check_segments(const struct tdi_run *runs, size_t n) {
        uint64_t length_max = (uint64_t) (test_random() % 4 * 3) * TDI_PAGE_SIZE, boundary = test_random() % 2 ? TDI_PAGE_SIZE << test_random() % 6 : 0;
        struct tdi_segments s;
        struct tdi_segment g;
        size_t at = 0;

        check_int(tdi_segments_begin(&s, runs, n, length_max, boundary), 0);
        while (tdi_segments_next(&s, &g)) {
                if (!check(g.length > 0 && g.length % TDI_PAGE_SIZE == 0 && g.reserved == 0 && (!length_max || g.length <= length_max)))
                        return;
                if (boundary && !check(g.address / boundary == (g.address + g.length - 1) / boundary))
                        return;
                for (uint64_t k = 0; k < g.length >> TDI_PAGE_SHIFT; k++, at++)
                        if (!check(at < n_model && model[at].pfn == (g.address >> TDI_PAGE_SHIFT) + k && model[at].provider == g.provider &&
                                   model[at].attributes == g.attributes))
                                return;
        }
        check_int(at, n_model);
}

static void check_plan(const struct tdi_run *runs, size_t n) {
        struct tdi_plan p = { .iova = (uint64_t) test_random() * TDI_PAGE_SIZE, .length_max = (uint64_t) (test_random() % 3 * 7) * TDI_PAGE_SIZE };
        struct tdi_map m;
        size_t at = 0;

        check_int(tdi_plan_begin(&p, runs, n), 0);
        while (tdi_plan_next(&p, &m)) {
                size_t end = at + (m.length >> TDI_PAGE_SHIFT);

                if (!check(m.length > 0 && m.offset == at * TDI_PAGE_SIZE && m.iova == p.iova + m.offset && end <= n_model && m.reserved == 0))
                        return;
                for (size_t k = at; k < end; k++)
                        if (!check(model[k].provider == m.provider && model[k].attributes == m.attributes))
                                return;
                /* It ends where it has to. */
                check(end == n_model || m.length == p.length_max || model[end].provider != m.provider || model[end].attributes != m.attributes);
                at = end;
        }
        check_int(at, n_model);
}

static void check_alignment(const struct tdi_run *runs, size_t n) {
        uint64_t alignment = tdi_runs_alignment(runs, n);
        bool larger = true;

        for (size_t i = 0; i < n; i++) {
                check((runs[i].pfn << 12) % alignment == 0 && ((uint64_t) runs[i].pages << 12) % alignment == 0);
                larger &= (runs[i].pfn << 12) % (2 * alignment) == 0 && ((uint64_t) runs[i].pages << 12) % (2 * alignment) == 0;
        }
        check(n == 0 ? alignment == 0 : !larger);
}

static bool meet(const struct tdi_run *a, const struct tdi_run *b) {
        return a->provider == b->provider && a->pfn < b->pfn + b->pages && b->pfn < a->pfn + a->pages;
}

static void check_overlap(void) {
        struct tdi_run lists[2][40];
        size_t n[2], a, b;
        bool expected;

        for (int k = 0; k < 2; k++) {
                uint64_t pfn = 0;
                bool sorted = test_random() % 2;

                n[k] = test_random() % 40;
                for (size_t i = 0; i < n[k]; i++) {
                        pfn = sorted ? pfn + test_random() % 60 : test_random() % 3000;
                        lists[k][i] = (struct tdi_run) { pfn, 1 + test_random() % (test_random() % 8 ? 20 : 200), sorted ? 0 : test_random() % 2, RAM };
                }
        }
        expected = false;
        for (size_t i = 0; i < n[0]; i++)
                for (size_t k = 0; k < i; k++)
                        expected |= meet(&lists[0][i], &lists[0][k]);
        a = b = SIZE_MAX;
        check_int(tdi_runs_overlap(lists[0], n[0], NULL, 0, &a, &b), expected);
        if (expected)
                check(a < n[0] && b < n[0] && a != b && meet(&lists[0][a], &lists[0][b]));
        expected = false;
        for (size_t i = 0; i < n[0]; i++)
                for (size_t k = 0; k < n[1]; k++)
                        expected |= meet(&lists[0][i], &lists[1][k]);
        a = b = SIZE_MAX;
        check_int(tdi_runs_overlap(lists[0], n[0], lists[1], n[1], &a, &b), expected);
        if (expected)
                check(a < n[0] && b < n[1] && meet(&lists[0][a], &lists[1][b]));
}

static void test_model(void) {
        for (unsigned round = 0; round < 300; round++) {
                struct tdi_runs *l = new_list();
                const struct tdi_run *runs;
                size_t n;

                test_about("model, round %u", round);
                n_model = 0;
                if (round % 3 == 0)
                        check_int(tdi_runs_reserve(l, test_random() % 100), 0);
                for (unsigned i = test_random() % 40; i > 0; i--)
                        add_something(l);
                runs = get(l, &n);
                check_runs(runs, n);
                check_pages(runs, n);
                check_segments(runs, n);
                check_plan(runs, n);
                check_alignment(runs, n);
                tdi_runs_free(l);
                for (unsigned i = 0; i < 20; i++)
                        check_overlap();
        }
}

int main(void) {
        test_names();
        test_building();
        test_limit();
        test_terabyte();
        test_checks();
        test_plans();
        test_segments();
        test_overlaps();
        test_model();
        return test_end();
}
