/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of lists of runs: an array of a stranger's is refused, or all that is derived from it agrees with itself. */
#include <tdi/runs.h>

#include "fuzz.h"

/* Of one buffer: pieces of 4 KiB of petabytes would take for ever. */
#define PIECES_MAX 4096

static void walk(const struct tdi_run *runs, size_t n, uint64_t parameter) {
        struct tdi_plan p = { .iova = (parameter & 0xffff) << 12, .length_max = (parameter >> 16 & 0xff) << 12 };
        uint64_t pages = tdi_runs_pages(runs, n), sum = 0, pfn, some[64];
        struct tdi_segments s;
        struct tdi_segment g;
        struct tdi_pages q;
        struct tdi_map m;
        size_t pieces;
        int r;

        r = tdi_plan_begin(&p, runs, n);
        must(r == 0 || r == -EOVERFLOW);
        for (pieces = 0; r == 0 && pieces < PIECES_MAX && tdi_plan_next(&p, &m); pieces++) {
                must(m.offset == sum && m.iova == p.iova + sum && m.length > 0 && (!p.length_max || m.length <= p.length_max));
                sum += m.length;
        }
        must(r < 0 || pieces == PIECES_MAX || sum == pages << TDI_PAGE_SHIFT);

        must(tdi_segments_begin(&s, runs, n, p.length_max, UINT64_C(4096) << (parameter >> 24 & 31)) == 0);
        for (pieces = 0, sum = 0; pieces < PIECES_MAX && tdi_segments_next(&s, &g); pieces++) {
                must(g.length > 0 && g.address + g.length - 1 >= g.address);
                sum += g.length;
        }
        must(pieces == PIECES_MAX || sum == pages << TDI_PAGE_SHIFT);

        must(tdi_pages_begin(&q, runs, n, pages) == 0 && !tdi_pages_next(&q, &pfn, NULL));
        must(tdi_pages_begin(&q, runs, n, pages ? parameter % pages : 0) == 0);
        for (pieces = 0; pieces < PIECES_MAX && (sum = tdi_pages_fill(&q, some, 64)) > 0; pieces++)
                for (size_t i = 0; i < sum; i++)
                        must(some[i] <= TDI_PFN_MAX);
}

static void build(const struct tdi_run *runs, size_t n) {
        const struct tdi_run *again;
        struct tdi_runs *l;
        size_t k;

        if (tdi_runs_new(&l) < 0)
                return;
        for (size_t i = 0; i < n; i++)
                must(tdi_runs_add(l, runs[i].pfn, runs[i].pages, runs[i].provider, runs[i].attributes) == 0);
        k = tdi_runs_get(l, &again);
        must(tdi_runs_check(again, k) == 0 && tdi_runs_pages(again, k) == tdi_runs_pages(runs, n));
        tdi_runs_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct tdi_run *runs;
        size_t n, i, k;
        uint64_t parameter;
        int r;

        if (size < sizeof(parameter))
                return 0;
        memcpy(&parameter, data, sizeof(parameter));
        n = (size - sizeof(parameter)) / sizeof(*runs);
        runs = malloc(n * sizeof(*runs) + !n);
        if (!runs)
                return 0;
        memcpy(runs, data + sizeof(parameter), n * sizeof(*runs));
        r = tdi_runs_check(runs, n);
        must(r == 0 || r == -EINVAL || r == -EOVERFLOW);
        if (r == 0) {
                walk(runs, n, parameter);
                build(runs, n);
                r = tdi_runs_overlap(runs, n, NULL, 0, &i, &k);
                must(r == 0 || (r == 1 && i < n && k < n && i != k));
                r = tdi_runs_overlap(runs, n / 2, runs + n / 2, n - n / 2, &i, &k);
                must(r == 0 || (r == 1 && i < n / 2 && k < n - n / 2));
        }
        free(runs);
        return 0;
}
