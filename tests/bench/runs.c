/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How fast page frame numbers become runs, beside memcpy() of the same numbers, and what a plan costs. The best of some rounds
 * is taken: both touch memory that is there already, and everything else that runs on the machine only slows them down.
 *
 * usage: bench-runs [--json] [ROUNDS]
 */
#include <stdio.h>
#include <tdi/runs.h>
#include <time.h>

#include "util/util.h"

#define N (16u << 20)
#define ROUNDS 7
#define RAM (TDI_RUN_CPU | TDI_RUN_CACHEABLE | TDI_RUN_SNOOP)

static bool json;

static double now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

static void print(const char *name, double value, double baseline, double goal, size_t runs) {
        double ratio = value / baseline;
        char text[16] = "";

        if (goal > 0)
                snprintf(text, sizeof(text), "%g", goal);
        if (json)
                printf("{\"name\": \"%s\", \"value\": %.3f, \"baseline\": %.3f, \"ratio\": %.2f, \"goal\": %s, \"unit\": \"ms\", \"runs\": %zu}\n",
                       name, value, baseline, ratio, goal > 0 ? text : "null", runs);
        else
                printf("%s value=%.2fms baseline=%.2fms ratio=%.2f goal=%s runs=%zu%s\n", name, value, baseline, ratio, goal > 0 ? text : "-",
                       runs, goal > 0 && ratio > goal ? " MISSED" : "");
}

static void must(bool ok, const char *what) {
        if (ok)
                return;
        fprintf(stderr, "bench-runs: %s\n", what);
        exit(1);
}

/* Cut up at random, into pieces of so many pages on average. */
static void scatter(uint64_t *pfns, unsigned mean) {
        uint64_t pfn = 1000, x = 88172645463325252; /* xorshift64: the same pieces in every run */

        for (size_t i = 0; i < N; i++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                pfn += mean == 1 || (x >> 32) % mean == 0 ? 2 + (x >> 8) % 5 : 1;
                pfns[i] = pfn;
        }
}

static double plan(const struct tdi_run *runs, size_t n, size_t *ret) {
        struct tdi_plan p = { .iova = UINT64_C(1) << 32 };
        double start = now();
        struct tdi_map m;

        must(tdi_plan_begin(&p, runs, n) == 0, "no plan");
        for (*ret = 0; tdi_plan_next(&p, &m); (*ret)++)
                ;
        return now() - start;
}

static void bench(unsigned mean, unsigned rounds, uint64_t *pfns, uint64_t *copy, struct tdi_runs *l) {
        double copied = 1e9, merged = 1e9, planned = 1e9;
        const struct tdi_run *runs = NULL;
        char name[64];
        size_t n = 0, maps = 0;

        scatter(pfns, mean);
        for (unsigned i = 0; i < rounds; i++) {
                double a = now(), b, c;

                memcpy(copy, pfns, N * sizeof(*pfns));
                __asm__ volatile("" : : "r"(copy) : "memory");
                b = now();
                tdi_runs_clear(l);
                must(tdi_runs_add_pfns(l, pfns, N, TDI_PROVIDER_MEMORY, RAM) == 0, "no list");
                c = now();
                copied = b - a < copied ? b - a : copied;
                merged = c - b < merged ? c - b : merged;
                n = tdi_runs_get(l, &runs);
                a = plan(runs, n, &maps);
                planned = a < planned ? a : planned;
        }
        must(tdi_runs_pages(runs, n) == N && maps == 1, "the list is not what was put in");
        snprintf(name, sizeof(name), "runs-merge-16M-mean-%u", mean);
        print(name, merged, copied, 2, n);
        snprintf(name, sizeof(name), "runs-plan-16M-mean-%u", mean);
        print(name, planned, copied, 0, n);
}

/* A contiguous BAR, by its frame numbers: one run whatever its size. */
static void bench_bar(unsigned rounds, uint64_t *pfns, uint64_t *copy, struct tdi_runs *l) {
        double copied = 1e9, merged = 1e9;
        const struct tdi_run *runs;
        size_t n;

        for (unsigned i = 0; i < rounds; i++) {
                double a = now(), b;

                memcpy(copy, pfns, N * sizeof(*pfns));
                __asm__ volatile("" : : "r"(copy) : "memory");
                b = now();
                tdi_runs_clear(l);
                must(tdi_runs_add_pfns(l, pfns, N, 1, TDI_RUN_P2P | TDI_RUN_MMIO) == 0, "no list");
                a = b - a;
                b = now() - b;
                copied = a < copied ? a : copied;
                merged = b < merged ? b : merged;
        }
        n = tdi_runs_get(l, &runs);
        must(n == 1, "a contiguous BAR is not one run");
        print("runs-merge-16M-contiguous", merged, copied, 2, n);
}

int main(int argc, char **argv) {
        uint64_t *pfns = malloc(N * sizeof(*pfns)), *copy = malloc(N * sizeof(*copy));
        unsigned rounds = ROUNDS;
        struct tdi_runs *l = NULL;

        for (int i = 1; i < argc; i++) {
                if (streq(argv[i], "--json"))
                        json = true;
                else
                        rounds = (unsigned) strtoul(argv[i], NULL, 10);
        }
        must(pfns && copy && rounds > 0 && tdi_runs_new(&l) == 0, "usage: bench-runs [--json] [ROUNDS]");
        must(tdi_runs_reserve(l, N) == 0, "out of memory");
        for (unsigned mean = 1; mean <= 16; mean *= 2)
                bench(mean, rounds, pfns, copy, l);
        for (size_t i = 0; i < N; i++)
                pfns[i] = 0x100000 + i;
        bench_bar(rounds, pfns, copy, l);
        tdi_runs_free(l);
        free(pfns);
        free(copy);
        return 0;
}
