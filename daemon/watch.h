/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who writes to one of a function's files in sysfs (function-files.h) while a VM has it, behind the back of everybody: told, as it cannot be
 * prevented here. Nothing of tdid writes to these files. A sysfs that was mounted in another network namespace has files of its own, of
 * which nothing is heard.
 */
#ifndef TDID_WATCH_H
#define TDID_WATCH_H

#include <systemd/sd-event.h>
#include <tdi/bdf.h>

#include "host/host.h"

struct watch;

/* @file: its name, of FUNCTION_FILES */
typedef void (*watch_found)(struct tdi_bdf bdf, const char *file, void *userdata);

/* @folder: where the functions are, /sys/bus/pci/devices but for tests. All below take NULL for one that does nothing. */
int watch_new(sd_event *event, TdiHost *host, const char *folder, watch_found found, void *userdata, struct watch **ret);
struct watch *watch_free(struct watch *w);
/* Doing it again is no error. Neither sleeps: a path is looked up, and nothing behind it is called. */
void watch_add(struct watch *w, struct tdi_bdf bdf);
void watch_drop(struct watch *w, struct tdi_bdf bdf);
/* "inotify", or "none" or "partly" and why. */
const char *watch_describe(const struct watch *w);

#endif
