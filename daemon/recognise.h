/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this host is, and by what that is seen: TSMs first, then what KVM makes and the kernel was told. And what the kernel lacks for
 * it. Pure: what was read comes in, an explanation comes out, and nothing of tdid is decided by it.
 */
#ifndef TDID_RECOGNISE_H
#define TDID_RECOGNISE_H

#include "tsm.h"

/*
 * @facts are the values of the worker's operation read.host. What speaks for the row is added to @by, what does not fit to
 * @doubts: arrays of texts, of the caller.
 */
const struct platform *recognise(const Manager *m, struct json_object *facts, struct json_object *by, struct json_object *doubts);

/* {"platform", "kernel", "provider", "suspend", "lacks"} of DescribeHost(); the caller's. @stale: the facts are not of now. */
struct json_object *recognise_describe(Manager *m, struct json_object *facts, bool stale);

/* The parameters that rows want to know: the arguments of read.host; the caller's. */
struct json_object *recognise_arguments(void);

/* What a row's parameter reads, NULL when it cannot be read. */
const char *recognise_parameter(const struct platform *p, struct json_object *facts);
bool recognise_has_vm_type(const struct platform *p, struct json_object *facts);

/* The last value of a parameter of the kernel's command line; false where it is not there, or has none. */
bool kernel_parameter(const char *cmdline, const char *name, char *buf, size_t size);

#endif
