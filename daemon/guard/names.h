/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the guard's pins are, and what its kinds are called. */
#ifndef TDID_GUARD_NAMES_H
#define TDID_GUARD_NAMES_H

#include "guard/layout.h"

#define GUARD_ROOT "/sys/fs/bpf"
/* One folder a build in it, named after the object that was loaded. */
#define GUARD_FOLDER GUARD_ROOT "/tdid"

/* "vfio", "group", "resource", "proc", "config", "reset", "remove", "mem", "pins"; NULL for none of them. */
const char *guard_kind_to_string(unsigned kind);
/* The same as a person would say it: "its VFIO node". */
const char *guard_kind_describe(unsigned kind);

#endif
