/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Users of functions, as users.c, users-disk.c and users-net.c share them. */
#ifndef TDI_SIM_USERS_H
#define TDI_SIM_USERS_H

#include "sim/machine.h"

/* fn->users: what the topology says is mounted or up is so once, at the first probe. */
struct users {
        bool seen;
};

struct disks;
struct nets;

/* Lines of mountinfo(5) and /proc/swaps, and of the interfaces. */
size_t disks_mountinfo(struct sim_machine *m, char *buf, size_t size);
size_t disks_swaps(struct sim_machine *m, char *buf, size_t size);

#endif
