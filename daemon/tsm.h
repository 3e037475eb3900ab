/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The TSMs of this host, as the reader found them, and the platform table that says what they are. */
#ifndef TDID_TSM_H
#define TDID_TSM_H

#include "manager.h"

struct Tsm {
        char *name;   /* "tsm0" */
        char *parent; /* name of the device that registered it */
        const char *platform;
};

struct platform {
        const char *name;
        const char *title;
        /* A TSM is recognised by the driver or the name of its parent device; NULL-terminated. */
        const char *const *tsm_drivers, *const *tsm_parents;
        bool has_tsm;
        bool hotplug;        /* may functions be attached after the guest has started? */
        bool early_prepare;  /* must a secure vIOMMU and the vdevices exist before boot? */
        const char *viommu;  /* the secure vIOMMU that the platform wants, NULL when it wants none */
};

/* Rows; the last has a NULL name. */
extern const struct platform platforms[];

const struct platform *platform_find(const char *name);
/* The platform of a TSM's parent, or NULL. */
const struct platform *platform_of_tsm(const char *parent, const char *driver);
/* The platform of this host: its first TSM's, `plain` without one or with one that nobody knows. */
const struct platform *platform_of_host(Manager *m);

/* Takes what the reader read: objects come, go and change. */
void tsm_update(Manager *m, struct json_object *list);
Tsm *tsm_find(Manager *m, const char *name);
void tsm_free_all(Manager *m);
char *tsm_path(const Tsm *t, char buf[static 64]);

#endif
