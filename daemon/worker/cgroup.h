/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In which cgroup a process's memory is accounted for, and how another process gets there: version 2, or where that controller is in version 1. */
#ifndef TDID_WORKER_CGROUP_H
#define TDID_WORKER_CGROUP_H

#include <sys/types.h>

#include "host/host.h"

/*
 * The cgroup.procs file of the cgroup that accounts for the memory of process @pid: NULL with it, or why there is none, for people. @machine:
 * the kernel that the process is of.
 */
const char *cgroup_procs_of(TdiHost *machine, pid_t pid, char *file, size_t size);

/* The text of /proc/PID/cgroup (cgroups(7)): 1 or 2, the version that has the memory controller, with the path in it; 0: none. */
unsigned cgroup_find_path(const char *text, char *path, size_t size);
/* The text of /proc/PID/mountinfo: where that is mounted, and which part of it. @size: of each. */
bool cgroup_find_mount(const char *text, unsigned version, char *root, char *point, size_t size);

#endif
