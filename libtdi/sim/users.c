/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What uses a function on the host, as far as files tell: its disks and interfaces come with its driver; /proc says what is mounted and
 * swapped on.
 */
#include "sim/users.h"

#include <stdio.h>

#include "model/json.h"

static ssize_t mountinfo_show(struct sim_call *c, _unused_ struct sim_node *n, char *buf, size_t size) {
        static const char base[] = "1 0 0:2 / / rw - rootfs rootfs rw\n"
                                   "2 1 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:2 - proc proc rw\n"
                                   "3 1 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:3 - sysfs sysfs rw\n"
                                   "4 1 0:6 / /dev rw,nosuid shared:4 - devtmpfs devtmpfs rw,mode=755\n";
        size_t at = (size_t) snprintf(buf, size, "%s", base);

        return (ssize_t) (at + disks_mountinfo(sim_machine(c->sim), buf + at, size - at));
}

static ssize_t swaps_show(struct sim_call *c, _unused_ struct sim_node *n, char *buf, size_t size) {
        size_t at = (size_t) snprintf(buf, size, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");

        return (ssize_t) (at + disks_swaps(sim_machine(c->sim), buf + at, size - at));
}

static const struct sim_node_ops mountinfo_ops = { .show = mountinfo_show };
static const struct sim_node_ops swaps_ops = { .show = swaps_show };

void sim_users_init(struct sim_machine *m) {
        sim_file_node(sim_dirs(m->sim, "proc/1"), "mountinfo", 0444, &mountinfo_ops, m);
        sim_text(sim_dirs(m->sim, "proc/1"), "status", "Name:\tinit\nCapBnd:\t000001ffffffffff");
        sim_file_node(sim_dirs(m->sim, "proc"), "swaps", 0444, &swaps_ops, m);
        sim_text(sim_dirs(m->sim, "proc/sys/kernel/random"), "boot_id", "%s", m->boot_id);
        disks_init(m);
        nets_init(m);
}

void sim_users_probe(struct sim_call *c, struct sim_function *fn) {
        const struct topology_function *p = fn_plan(fn);
        struct users *u = fn->users;

        if (!p->disks.n && !p->net)
                return;
        if (!u)
                u = fn->users = machine_alloc(sizeof(*u));
        if (p->disks.n)
                disks_probe(c, fn);
        if (p->net)
                nets_probe(c, fn);
        u->seen = true;
}

void sim_users_remove(struct sim_call *c, struct sim_function *fn) {
        nets_remove(c, fn);
        disks_remove(c, fn);
}

int sim_users_change(struct sim_call *c, struct json_object *what) {
        const char *unused;

        if (json_get_str(what, "disk", &unused) >= 0)
                return disks_change(c, what);
        return json_get_str(what, "net", &unused) >= 0 ? nets_change(c, what) : -EINVAL;
}

void sim_users_free(struct sim_machine *m) {
        nets_free(m);
        disks_free(m);
}
