/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this host is (model/recognise.h), by the TSMs that tdid knows, and what the kernel lacks for it. Nothing of tdid is decided by it. */
#ifndef TDID_RECOGNISE_H
#define TDID_RECOGNISE_H

#include "model/recognise.h"
#include "tsm.h"

/* recognise_host() with the TSMs of the manager. */
const struct platform *recognise(const Manager *m, struct json_object *facts, struct json_object *by, struct json_object *doubts);

/* {"platform", "kernel", "provider", "suspend", "lacks"} of DescribeHost(); the caller's. @stale: the facts are not of now. */
struct json_object *recognise_describe(Manager *m, struct json_object *facts, bool stale);

#endif
