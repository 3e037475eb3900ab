/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the unit tests check with. A failed check is printed and counted, and the test goes on, so that one run shows them all.
 * Not assert(): these work whatever NDEBUG says.
 */
#ifndef TDID_TEST_H
#define TDID_TEST_H

#include <dirent.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "util/util.h"

#define TEST_SKIPPED 77

static unsigned test_failures;
static char test_case[512];

/* What the next checks are about, for tables of cases. */
_printf_(1, 2) static inline void test_about(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(test_case, sizeof(test_case), format, ap);
        va_end(ap);
}

_printf_(3, 4) static inline void test_fail(const char *file, int line, const char *format, ...) {
        va_list ap;

        fprintf(stderr, "%s:%d: ", file, line);
        if (test_case[0])
                fprintf(stderr, "[%s] ", test_case);
        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
        test_failures++;
}

static inline bool test_check(bool ok, const char *what, const char *file, int line) {
        if (!ok)
                test_fail(file, line, "%s: not so", what);
        return ok;
}

static inline bool test_check_int(intmax_t got, intmax_t expected, const char *what, const char *file, int line) {
        if (got != expected)
                test_fail(file, line, "%s is %jd, expected %jd", what, got, expected);
        return got == expected;
}

static inline bool test_check_str(const char *got, const char *expected, const char *what, const char *file, int line) {
        if (!streq_ptr(got, expected))
                test_fail(file, line, "%s is \"%s\", expected \"%s\"", what, got ? got : "(null)", expected ? expected : "(null)");
        return streq_ptr(got, expected);
}

/* All answer whether it was so. */
#define check(condition) test_check(!!(condition), #condition, __FILE__, __LINE__)
#define check_int(got, expected) test_check_int((intmax_t) (got), (intmax_t) (expected), #got, __FILE__, __LINE__)
#define check_str(got, expected) test_check_str((got), (expected), #got, __FILE__, __LINE__)

/* What a test cannot go on without. */
#define require(condition)                 \
        do {                               \
                if (!check(condition))     \
                        exit(1);           \
        } while (0)

/* main()'s last word. */
static inline int test_end(void) {
        if (test_failures > 0)
                fprintf(stderr, "%u checks failed\n", test_failures);
        return test_failures > 0;
}

/* Reproducible numbers: TDID_SEED, which the runner prints. */
static inline uint32_t test_random(void) {
        static uint64_t state;

        if (state == 0) {
                const char *seed = getenv("TDID_SEED");

                state = (seed ? strtoull(seed, NULL, 0) : 1) * 2 + 1;
        }
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        return (uint32_t) (state >> 32);
}

/* In memory of exactly the size, so that sanitizers see a byte read too many. */
static inline char *test_copy(const void *data, size_t size) {
        char *p = malloc(size + !size);

        if (!p)
                abort();
        return memcpy(p, data, size);
}

/* Open descriptors of this process: a leak shows as a difference. */
static inline unsigned test_count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        require(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static inline int test_remove_one(const char *path, _unused_ const struct stat *st, _unused_ int type, _unused_ struct FTW *at) {
        return remove(path);
}

/* A folder of the test's own; removed, with what is in it, by test_remove_dir(). */
static inline void test_make_dir(char path[static 64]) {
        strcpy(path, "/tmp/tdid-test-XXXXXX");
        require(mkdtemp(path));
}

static inline void test_remove_dir(const char *path) {
        (void) nftw(path, test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void test_write_file(const char *path, const void *data, size_t size) {
        FILE *f = fopen(path, "we");

        require(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

#endif
