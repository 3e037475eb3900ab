/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of libtdi's client share: the fake tdid, and clients of it. A check that fails ends the program, and the fake. */
#ifndef TDID_TEST_CLIENT_H
#define TDID_TEST_CLIENT_H

#include <stdio.h>
#include <tdi/client.h>

#include "util/util.h"

#define check(condition)                                                                    \
        do {                                                                                \
                if (!(condition)) {                                                         \
                        fprintf(stderr, "%s:%d: %s: not so\n", __func__, __LINE__, #condition); \
                        stop_fake();                                                        \
                        exit(1);                                                            \
                }                                                                           \
        } while (0)

/* The last call failed thus, with these words in its text. */
#define check_error(c, expected, words)                                          \
        do {                                                                     \
                enum tdi_error _e;                                               \
                const char *_t = tdi_client_error(c, &_e);                       \
                if (_e != (expected) || !strstr(_t, words)) {                    \
                        fprintf(stderr, "%s:%d: got %d '%s'\n", __func__, __LINE__, (int) _e, _t); \
                        check(false);                                            \
                }                                                                \
        } while (0)

void stop_fake(void);
void start_fake(void);
unsigned open_fds(void);
struct tdi_client *new_client(void);
struct tdi_bdf bdf(unsigned bus);
int attach(struct tdi_client *c, const char *vm, unsigned bus);

/* test-client-async.c */
void test_async(void);
void test_async_daemon_goes(void);

#endif
