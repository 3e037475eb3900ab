/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The TSMs of this host, as the reader found them. What they are the table of platforms says. */
#ifndef TDID_TSM_H
#define TDID_TSM_H

#include "manager.h"
#include "model/platform.h"

struct Tsm {
        char *name;   /* "tsm0" */
        char *parent; /* name of the device that registered it */
        char *driver; /* of that device, "" for none */
        const char *platform;
};

/*
 * The platform that VMs of this host get: its first TSM's, `plain` without one or with one that nobody knows. What the host is
 * recognised as may be more (recognise.h): without a TSM nothing could be connected for it, and nothing be prepared early.
 */
const struct platform *platform_of_host(Manager *m);

/* Takes what the reader read: objects come, go and change. */
void tsm_update(Manager *m, struct json_object *list);
Tsm *tsm_find(Manager *m, const char *name);
void tsm_free_all(Manager *m);
char *tsm_path(const Tsm *t, char buf[static 64]);

#endif
