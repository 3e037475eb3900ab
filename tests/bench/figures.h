/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a bench has measured, and how it says so. Errors end the program. */
#ifndef TDID_BENCH_FIGURES_H
#define TDID_BENCH_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct samples {
        uint64_t *ns;
        size_t n, max;
};

/* A JSON object a figure, not a line. */
extern bool figures_json;

void sample(struct samples *s, uint64_t ns);
/* Sorts them. */
double percentile_us(struct samples *s, unsigned percent);
/* A ratio above its goal is marked; below 0 there is no goal, a baseline of 0 is none. */
void figure(const char *name, double value, double baseline, double goal, const char *unit);
void unavailable(const char *name, const char *why);
/*
 * What a server is compared with: a process that answers @request bytes with @answer bytes, on a bare socket of that type, whose other end is
 * the caller's; and one round trip to it. At most FLOOR_MAX bytes.
 */
#define FLOOR_MAX 1024
pid_t floor_start(int type, size_t request, size_t answer, int *ret);
void floor_turn(int fd, size_t request, size_t answer);
/* This process and its children run on one processor only. */
void one_processor(void);

#endif
