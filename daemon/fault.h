/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Test builds (-Dkill_points=true) end or fail at a chosen point, from the environment: TDID_TEST_KILL="ACTION:VERB:before|after"
 * kills tdid, TDID_TEST_FAIL="ACTION:VERB:ERRNO[:0000_01_00_0]" fails a worker's operation. fault-none.c is for everybody else.
 */
#ifndef TDID_FAULT_H
#define TDID_FAULT_H

#include <stddef.h>

void fault_point(const char *action, const char *verb, const char *when);
/* In a worker, between two operations of one command: the tdid that waits for it is killed, and the worker goes on. */
void fault_point_within(const char *action, const char *verb, const char *when);
/* 0, or the negative errno to fail with. */
int fault_fails(const char *action, const char *verb, const char *bdf);
/* TDID_TEST_NEWER="journal|record|holder|all:N": by how many versions this program says to be newer than it is, in what it writes or answers. */
unsigned fault_newer(const char *what);
/* What the fault points themselves call, for the filter of a worker. */
const int *fault_calls(size_t *ret_n);
/* TDID_TEST_FORBIDDEN: a worker tries what its list has to refuse; -1 and what went through, 0 where nothing has. */
int fault_forbidden(const char *action, const char **ret_what);

#endif
