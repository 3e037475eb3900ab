/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tdid has counted since it started: changes of state, refusals, and how long jobs took. Of a fixed size, whatever clients do; a
 * tdid that is started again begins at 0. What holders count is theirs.
 */
#ifndef TDID_COUNTERS_H
#define TDID_COUNTERS_H

#include "audit.h"
#include "job.h"

/* An entry of the audit. Those of which an entry may be left out (refusals) are not told as events. */
void counters_event(enum audit_event event);
/* A method that changes something was refused; error: the part of its name after the last dot. */
void counters_refused(const char *error);
void counters_job(const Job *j);

/* "counters" of DescribeHost(); the caller's. */
struct json_object *counters_describe(void);

#endif
