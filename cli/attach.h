/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of functions, which `attach` and `run` share. */
#ifndef TDICTL_ATTACH_H
#define TDICTL_ATTACH_H

#include "tdictl.h"

/* The functions named, with the command line's options for each; its texts are borrowed. */
int attach_read_functions(struct tdictl *t, const char *const bdfs[], struct tdi_function *functions, size_t n);

#endif
