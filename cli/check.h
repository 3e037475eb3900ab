/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The screen of `tdictl check`: made from the model that --json prints. */
#ifndef TDICTL_CHECK_H
#define TDICTL_CHECK_H

#include <json-c/json.h>

#include "tdictl.h"

/* To standard output, as the command line asks. 0, or a failure. */
int print_checks(struct tdictl *t, json_object *model);

#endif
