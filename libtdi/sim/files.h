/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "files" of a topology: see files.c. */
#ifndef TDI_SIM_FILES_H
#define TDI_SIM_FILES_H

#include "sim/machine.h"
#include "sim/topology.h"

/* When everything else is there. -EINVAL with the place where a path leads through, or to, what is no file. */
int sim_files_init(struct sim_machine *m, struct topology_why *why);

#endif
