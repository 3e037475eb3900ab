/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files of the PCI/TSM core: tsm/ and authenticated of a function, and /sys/class/tsm. Who reads waits for pci_tsm_rwsem with the file
 * active, and who holds that may wait for the file to fall idle: that the kernel can lock up so is part of the model.
 */
#include <stdio.h>

#include "sim/tsm.h"

#define FN(n) ((struct sim_function *) (n)->data)

static ssize_t connect_show(struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        struct sim_machine *m = sim_machine(c->sim);
        ssize_t r;

        r = sim_down_read_interruptible(c, &m->tsm_lock);
        if (r < 0)
                return r;
        r = snprintf(buf, size, "%s\n", FN(n)->tsm ? FN(n)->tsm->tsm->plan->name : "");
        sim_up_read(c, &m->tsm_lock);
        return r;
}

static ssize_t connect_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        int r = tsm_connect(c, FN(n), text);

        return r < 0 ? r : (ssize_t) len;
}

static ssize_t disconnect_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        int r = tsm_disconnect(c, FN(n), text);

        return r < 0 ? r : (ssize_t) len;
}

static ssize_t bound_show(struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm_context *x;
        ssize_t r;

        r = sim_down_read_interruptible(c, &m->tsm_lock);
        if (r < 0)
                return r;
        x = FN(n)->tsm;
        if (x) {
                struct sim_rwsem *lock = tsm_dsm_lock(x);

                r = lock ? sim_down_write_interruptible(c, lock) : 0;
                if (r >= 0)
                        r = snprintf(buf, size, "%s\n", x->bound ? x->tsm->plan->name : "");
                if (r >= 0 && lock)
                        sim_up_write(c, lock);
        } else
                r = snprintf(buf, size, "\n");
        sim_up_read(c, &m->tsm_lock);
        return r;
}

static ssize_t dsm_show(struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        struct sim_machine *m = sim_machine(c->sim);
        ssize_t r;

        r = sim_down_read_interruptible(c, &m->tsm_lock);
        if (r < 0)
                return r;
        r = snprintf(buf, size, "%s\n", FN(n)->tsm ? FN(n)->tsm->dsm->bdf : "");
        sim_up_read(c, &m->tsm_lock);
        return r;
}

static const struct sim_node_ops connect_ops = { .show = connect_show, .store = connect_store };
static const struct sim_node_ops disconnect_ops = { .store = disconnect_store };
static const struct sim_node_ops bound_ops = { .show = bound_show };
static const struct sim_node_ops dsm_ops = { .show = dsm_show };
static const struct sim_node_ops authenticated_ops = { .show = connect_show };

/* pci_tsm_link_group_visible() */
static bool group_visible(const struct sim_function *fn) {
        const struct sim_tsms *t = tsms(sim_machine(fn->sim));

        return t && t->link_count > 0 && fn->port_type != SIM_CONVENTIONAL && (tsm_is_pf0(fn) || fn->tsm);
}

/* pci_tsm_attr_visible() */
static bool is_managed(const struct sim_function *fn) {
        return fn->tsm && tsm_has_tee(fn->tsm->dsm);
}

static bool connect_visible(const struct sim_function *fn) {
        return tsm_is_pf0(fn);
}

static bool bound_visible(const struct sim_function *fn) {
        return (tsm_is_pf0(fn) && tsm_has_tee(fn)) || is_managed(fn);
}

static bool dsm_visible(const struct sim_function *fn) {
        return tsm_is_pf0(fn) || is_managed(fn);
}

static const struct {
        const char *name;
        mode_t mode;
        const struct sim_node_ops *ops;
        bool (*visible)(const struct sim_function *fn);
} attributes[] = {
        { "connect", 0644, &connect_ops, connect_visible },
        { "disconnect", 0200, &disconnect_ops, connect_visible },
        { "bound", 0444, &bound_ops, bound_visible },
        { "dsm", 0444, &dsm_ops, dsm_visible },
};

static void drop(struct sim_call *c, struct sim_node *dir, const char *name) {
        struct sim_node *n = sim_child(dir, name);

        if (n)
                sim_remove(c, n, NULL);
}

/* sysfs_update_group() takes every file away, waiting for whoever is in it, before it makes it again. */
void tsm_sysfs_update(struct sim_call *c, struct sim_function *fn) {
        bool visible = group_visible(fn);
        struct sim_node *dir;

        if (!fn->node)
                return;
        drop(c, fn->node, "authenticated");
        if (visible)
                sim_file_node(fn->node, "authenticated", 0444, &authenticated_ops, fn);
        dir = sim_child(fn->node, "tsm");
        if (!visible) {
                if (dir)
                        sim_remove(c, dir, NULL);
                return;
        }
        dir = sim_dir(fn->node, "tsm");
        for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
                drop(c, dir, attributes[i].name);
                if (attributes[i].visible(fn))
                        sim_file_node(dir, attributes[i].name, attributes[i].mode, attributes[i].ops, fn);
        }
}

/* ---- /sys/class/tsm ---- */

static void create_parent(struct sim_machine *m, struct sim_tsm *tsm) {
        struct sim_node *driver;
        char path[160];

        snprintf(path, sizeof(path), "sys/devices/faux/%s", tsm->parent);
        tsm->parent_node = sim_dirs(m->sim, path);
        snprintf(path, sizeof(path), "sys/bus/faux/drivers/%s", tsm->plan->driver ? tsm->plan->driver : "faux_driver");
        driver = sim_dirs(m->sim, path);
        if (!sim_child(tsm->parent_node, "driver")) {
                sim_link(tsm->parent_node, "driver", driver);
                sim_link(tsm->parent_node, "subsystem", sim_dirs(m->sim, "sys/bus/faux"));
                sim_text(tsm->parent_node, "uevent", "DRIVER=%s", driver->name);
        }
        if (!sim_child(driver, tsm->parent))
                sim_link(driver, tsm->parent, tsm->parent_node);
        if (!sim_child(sim_dirs(m->sim, "sys/bus/faux/devices"), tsm->parent))
                sim_link(sim_dirs(m->sim, "sys/bus/faux/devices"), tsm->parent, tsm->parent_node);
}

void tsm_device_create(struct sim_machine *m, struct sim_tsm *tsm) {
        struct sim_function *fn = sim_function_find(m, tsm->parent);
        struct sim_node *class = sim_dirs(m->sim, "sys/class/tsm"), *parent;

        if (!fn)
                create_parent(m, tsm);
        parent = fn ? fn->node : tsm->parent_node;
        tsm->node = sim_dir(sim_dir(parent, "tsm"), tsm->plan->name);
        sim_link(tsm->node, "device", parent);
        sim_link(tsm->node, "subsystem", class);
        sim_text(tsm->node, "uevent", "%s", "");
        sim_text(sim_dir(tsm->node, "power"), "runtime_status", "unsupported");
        sim_link(class, tsm->plan->name, tsm->node);
        sim_uevent(m->sim, "add", "tsm", tsm->node);
}

static bool shared_parent(const struct sim_machine *m, const struct sim_tsm *tsm) {
        for (size_t i = 0; i < tsms(m)->n; i++) {
                const struct sim_tsm *other = &tsms(m)->all[i];

                if (other != tsm && other->node && streq(other->parent, tsm->parent))
                        return true;
        }
        return false;
}

void tsm_device_remove(struct sim_call *c, struct sim_machine *m, struct sim_tsm *tsm) {
        struct sim_node *class = sim_dirs(m->sim, "sys/class/tsm"), *node = TAKE_PTR(tsm->node), *parent = TAKE_PTR(tsm->parent_node);
        struct sim_node *folder = node->parent, *link;

        link = sim_child(class, tsm->plan->name);
        if (link)
                sim_remove(c, link, NULL);
        sim_uevent(m->sim, "remove", "tsm", node);
        sim_remove(c, node, NULL);
        if (shared_parent(m, tsm))
                return;
        if (!parent) {
                /* A function's own tsm/ may have its files there too. */
                if (folder->n_children == 0 && !folder->dead)
                        sim_remove(c, folder, NULL);
                return;
        }
        for (size_t i = 0; i < 2; i++) {
                char path[160];
                int r;

                snprintf(path, sizeof(path), i == 0 ? "/sys/bus/faux/devices/%s" : "/sys/bus/faux/drivers/%s/%s",
                         i == 0 ? tsm->parent : tsm->plan->driver ? tsm->plan->driver : "faux_driver", tsm->parent);
                link = sim_lookup(m->sim, path, false, &r);
                if (link)
                        sim_remove(c, link, NULL);
        }
        sim_remove(c, parent, NULL);
}
