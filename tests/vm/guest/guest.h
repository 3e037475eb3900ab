/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the guest's program share: see init.c for what it is.
 */
#ifndef TDID_TESTS_GUEST_H
#define TDID_TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How long anything that must happen may take: an emulated machine in an emulated machine is slow. */
#define PATIENCE_MS 20000

/* ---- init.c: talking ---- */

/* A line "guest: …" on the serial line. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with "FAILED", and false: a test ends by returning it. */
bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Is there a line from the host that nobody has read? */
bool is_called(void);

int64_t now_ms(void);
void sleep_ms(int64_t ms);

/* ---- sysfs.c ---- */

/* Text of a file without its newline; NULL when it cannot be read. The next call overwrites it. */
const char *read_text(const char *path);
/* Return: 0 or a negative errno. */
int write_text(const char *path, const char *text);
/* The path of a function's file; the fourth call after it overwrites it. */
const char *function_file(const char *bdf, const char *name);
/* The function with these IDs ("0x1234") that has @before others before it, by address; waited for: its address, or NULL after that
 * time. Lives until the next call. */
const char *find_function(const char *vendor, const char *device, unsigned before, int64_t wait_ms);
/* Waits until there is no such function any more. */
bool wait_gone(const char *vendor, const char *device, unsigned before, int64_t wait_ms);
bool load_module(const char *path, const char *parameters);
bool unload_module(const char *name);

/* ---- the tests; each says what it saw, or what failed ---- */

struct test {
        const char *name;
        /* @words: what came after the name, ends in NULL. */
        bool (*func)(char **words);
};

extern const struct test edu_tests[];
extern const struct test nvme_tests[];

/* The number in words[i]; @fallback where there is none. */
long number(char **words, size_t i, long fallback);

#endif
