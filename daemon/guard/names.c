/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guard's kinds are called. */
#include "guard/names.h"

#include <stddef.h>

static const struct {
        const char *name, *text;
} kinds[GUARD_KIND_MAX] = {
        [GUARD_KIND_VFIO] = { "vfio", "its VFIO device" },
        [GUARD_KIND_GROUP] = { "group", "the node of its VFIO group" },
        [GUARD_KIND_RESOURCE] = { "resource", "a BAR of it in sysfs (resourceN)" },
        [GUARD_KIND_PROC] = { "proc", "its entry in /proc/bus/pci" },
        [GUARD_KIND_CONFIG] = { "config", "its config file in sysfs" },
        [GUARD_KIND_RESET] = { "reset", "its reset or reset_method file in sysfs" },
        [GUARD_KIND_REMOVE] = { "remove", "its remove file in sysfs" },
        [GUARD_KIND_MEM] = { "mem", "/dev/mem" },
        [GUARD_KIND_PINS] = { "pins", "the guard's own pins" },
};

const char *guard_kind_to_string(unsigned kind) {
        return kind < GUARD_KIND_MAX ? kinds[kind].name : NULL;
}

const char *guard_kind_describe(unsigned kind) {
        return kind < GUARD_KIND_MAX ? kinds[kind].text : "something of it";
}
