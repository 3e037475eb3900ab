/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The driver core as PCI drivers meet it: matching, binding, unbinding, override, new ids (drivers/base/{bus,dd}.c,
 * drivers/pci/pci-driver.c).
 */
#include <stdio.h>

#include "sim/machine.h"

#define PAGE 4096

struct id {
        uint32_t vendor, device, subvendor, subdevice, class, class_mask;
        struct id *next;
};

struct sim_driver *sim_driver_find(struct sim_machine *m, const char *name) {
        for (struct sim_driver *d = m->drivers; d; d = d->next)
                if (streq(d->name, name))
                        return d;
        return NULL;
}

/* ---- matching: pci_match_device() ---- */

static bool any_or(uint32_t wanted, uint32_t value) {
        return wanted == UINT32_MAX || wanted == value;
}

static bool id_matches(const struct id *id, const struct sim_function *fn) {
        const struct topology_function *p = fn_plan(fn);

        return any_or(id->vendor, p->vendor) && any_or(id->device, p->device) && any_or(id->subvendor,
                                                                                        cfg_get16(fn->config + CFG_SUBSYSTEM)) &&
               any_or(id->subdevice, cfg_get16(fn->config + CFG_SUBSYSTEM + 2)) && ((id->class ^ p->class) & id->class_mask) == 0;
}

static bool in_new_ids(const struct sim_driver *d, const struct sim_function *fn) {
        for (const struct id *id = d->ids; id; id = id->next)
                if (id_matches(id, fn))
                        return true;
        return false;
}

bool driver_matches(const struct sim_driver *d, const struct sim_function *fn) {
        if (fn->driver_override)
                return streq(fn->driver_override, d->name);
        return in_new_ids(d, fn) || (d->match && d->match(d, fn));
}

/* ---- binding: really_probe() ---- */

static void remove_links(struct sim_call *c, struct sim_function *fn, struct sim_driver *driver) {
        struct sim_node *link = sim_child(driver->node, fn->bdf);

        if (link)
                sim_remove(c, link, NULL);
        link = fn->node ? sim_child(fn->node, "driver") : NULL;
        if (link)
                sim_remove(c, link, NULL);
}

static void forget_driver(struct sim_call *c, struct sim_function *fn, struct sim_driver *driver) {
        /* pci_dma_cleanup(), device_unbind_cleanup() */
        sim_msi_set(c, fn, 0, false);
        if (!driver->driver_managed_dma && fn->group)
                sim_group_unuse_default(fn->group);
        fn->driver = NULL;
}

int sim_driver_attach(struct sim_call *c, struct sim_function *fn, struct sim_driver *driver) {
        struct sim_node *waiting;
        int r;

        /* __driver_probe_device() */
        if (!fn->pci->added)
                return -ENODEV;
        if (fn->driver)
                return -EBUSY;
        waiting = sim_child(fn->node, "waiting_for_supplier");
        if (waiting)
                sim_remove(c, waiting, NULL);
        fn->pci->waiting = false;
        fn->driver = driver;
        /* pci_dma_configure() */
        if (!driver->driver_managed_dma && fn->group) {
                r = sim_group_use_default(fn->group);
                if (r < 0) {
                        fn->driver = NULL;
                        return r;
                }
        }
        sim_link(driver->node, fn->bdf, fn->node);
        sim_link(fn->node, "driver", driver->node);
        r = driver->probe(c, fn);
        if (r < 0) {
                sim_log(c->sim, "%s: probe of %s failed with error %d", driver->name, fn->bdf, r);
                remove_links(c, fn, driver);
                forget_driver(c, fn, driver);
                return r;
        }
        fn->pci->power_state = "D0";
        sim_uevent(fn->sim, "bind", "pci", fn->node);
        return 0;
}

/* __device_release_driver() */
void sim_driver_detach(struct sim_call *c, struct sim_function *fn) {
        struct sim_driver *driver = fn->driver;

        if (!driver)
                return;
        remove_links(c, fn, driver);
        if (driver->remove)
                driver->remove(c, fn);
        forget_driver(c, fn, driver);
        /* pci_device_remove(): the core forgets the state. */
        fn->pci->power_state = "unknown";
        if (fn->node)
                sim_uevent(fn->sim, "unbind", "pci", fn->node);
}

void driver_release(struct sim_call *c, struct sim_function *fn) {
        sim_down_write(c, &fn->lock);
        sim_driver_detach(c, fn);
        sim_up_write(c, &fn->lock);
}

/*
 * device_attach(): drivers in the order of their registration; one whose probe fails lets the next try, an error before the probe ends the
 * search. 0 also when none was found.
 */
int sim_device_probe(struct sim_call *c, struct sim_function *fn) {
        for (struct sim_driver *d = sim_machine(fn->sim)->drivers; d; d = d->next) {
                int r;

                if (!driver_matches(d, fn))
                        continue;
                /* Only dma_configure's refusal is an error of the search (__device_attach_driver()). */
                if (!d->driver_managed_dma && fn->group && fn->group->owner_count > 0)
                        return -EBUSY;
                r = sim_driver_attach(c, fn, d);
                if (r >= 0)
                        return 0;
        }
        return 0;
}

/* ---- /sys/bus/pci/drivers/NAME ---- */

/* One name, as written by a shell: bus_find_device_by_name() gets it with a trailing newline taken off (sysfs_streq()). */
static struct sim_function *named(struct sim_machine *m, const char *text) {
        char bdf[16];
        size_t n = strcspn(text, "\n");

        if (n >= sizeof(bdf) || (text[n] && text[n + 1]))
                return NULL;
        memcpy(bdf, text, n);
        bdf[n] = '\0';
        return sim_function_find(m, bdf);
}

/* bind_store(), device_driver_attach() */
static ssize_t bind_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_driver *d = n->data;
        struct sim_function *fn = named(sim_machine(c->sim), text);
        int r;

        if (!fn || !driver_matches(d, fn))
                return -ENODEV;
        sim_down_write(c, &fn->lock);
        r = sim_driver_attach(c, fn, d);
        sim_up_write(c, &fn->lock);
        return r < 0 ? r : (ssize_t) len;
}

/* unbind_store(), device_driver_detach() */
static ssize_t unbind_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_driver *d = n->data;
        struct sim_function *fn = named(sim_machine(c->sim), text);

        if (!fn || fn->driver != d)
                return -ENODEV;
        sim_down_write(c, &fn->lock);
        /* device_release_driver_internal(): looked at again under the lock. */
        if (fn->driver == d)
                sim_driver_detach(c, fn);
        sim_up_write(c, &fn->lock);
        return (ssize_t) len;
}

/* driver_attach(): everything without a driver that matches now. */
static void attach_all(struct sim_call *c, struct sim_machine *m, struct sim_driver *d) {
        struct sim_function *fn = m->functions;

        while (fn) {
                struct sim_function *next = fn->next;

                if (!fn->driver && driver_matches(d, fn)) {
                        sim_down_write(c, &fn->lock);
                        if (!fn->driver && fn->pci->added)
                                (void) sim_driver_attach(c, fn, d);
                        sim_up_write(c, &fn->lock);
                        next = fn->pci->added ? fn->next : next;
                }
                fn = next;
        }
}

/* new_id_store() */
static ssize_t new_id_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_driver *d = n->data;
        struct id id = { .subvendor = UINT32_MAX, .subdevice = UINT32_MAX }, *new, **p;
        unsigned long data;
        int fields;

        fields = sscanf(text, "%x %x %x %x %x %x %lx", &id.vendor, &id.device, &id.subvendor, &id.subdevice, &id.class, &id.class_mask,
                        &data);
        if (fields < 2)
                return -EINVAL;
        for (const struct sim_function *fn = m->functions; fn; fn = fn->next)
                if (fields != 7 && id_matches(&id, fn) && ((d->match && d->match(d, fn)) || in_new_ids(d, fn)))
                        return -EEXIST;
        new = machine_alloc(sizeof(*new));
        *new = id;
        for (p = (struct id **) (void *) &d->ids; *p; p = &(*p)->next)
                ;
        *p = new;
        attach_all(c, m, d);
        return (ssize_t) len;
}

/* remove_id_store() */
static ssize_t remove_id_store(_unused_ struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_driver *d = n->data;
        struct id id = { .subvendor = UINT32_MAX, .subdevice = UINT32_MAX };

        if (sscanf(text, "%x %x %x %x %x %x", &id.vendor, &id.device, &id.subvendor, &id.subdevice, &id.class, &id.class_mask) < 2)
                return -EINVAL;
        for (struct id **p = (struct id **) (void *) &d->ids; *p; p = &(*p)->next) {
                struct id *old = *p;

                if (old->vendor != id.vendor || old->device != id.device || !any_or(id.subvendor, old->subvendor) ||
                    !any_or(id.subdevice, old->subdevice) ||
                    ((old->class ^ id.class) & id.class_mask))
                        continue;
                *p = old->next;
                free(old);
                return (ssize_t) len;
        }
        return -ENODEV;
}

static const struct sim_node_ops bind_ops = { .store = bind_store };
static const struct sim_node_ops unbind_ops = { .store = unbind_store };
static const struct sim_node_ops new_id_ops = { .store = new_id_store };
static const struct sim_node_ops remove_id_ops = { .store = remove_id_store };

/* uevent_store() of a driver */
static ssize_t uevent_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        const struct sim_driver *d = n->data;

        if (!sysfs_equal(text, "add") && !sysfs_equal(text, "remove") && !sysfs_equal(text, "change"))
                return -EINVAL;
        sim_uevent(c->sim, sysfs_equal(text, "add") ? "add" : sysfs_equal(text, "remove") ? "remove" : "change", "drivers", d->node);
        return (ssize_t) len;
}
static const struct sim_node_ops uevent_ops = { .store = uevent_store };

/* module_add_driver(): /sys/module/NAME, with underscores. */
static void driver_module(struct sim_machine *m, const struct sim_driver *driver) {
        struct sim_node *module;
        char path[128];

        snprintf(path, sizeof(path), "sys/module/%s", driver->name);
        for (char *p = path; *p; p++)
                *p = *p == '-' ? '_' : *p;
        module = sim_dirs(m->sim, path);
        (void) sim_dir(module, "drivers");
        (void) sim_dir(module, "parameters");
        if (!sim_child(module, "uevent"))
                sim_file_node(module, "uevent", 0200, &uevent_ops, NULL);
        if (streq(driver->name, "nvme") && !sim_child(module, "version"))
                sim_text(module, "version", "1.0"); /* MODULE_VERSION() */
        sim_link(driver->node, "module", module);
}

void sim_driver_register(struct sim_machine *m, struct sim_driver *driver) {
        struct sim_driver **p = &m->drivers;

        for (; *p; p = &(*p)->next)
                ;
        driver->next = NULL;
        *p = driver;
        driver->node = sim_dir(m->buses->drivers, driver->name);
        driver->node->data = driver;
        driver_module(m, driver);
        sim_file_node(driver->node, "bind", 0200, &bind_ops, driver);
        sim_file_node(driver->node, "unbind", 0200, &unbind_ops, driver);
        sim_file_node(driver->node, "new_id", 0200, &new_id_ops, driver);
        sim_file_node(driver->node, "remove_id", 0200, &remove_id_ops, driver);
        sim_file_node(driver->node, "uevent", 0200, &uevent_ops, driver);
}

int sim_driver_load(struct sim_call *c, const char *name) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_driver *d = driver_unloaded(m, name);

        if (sim_driver_find(m, name))
                return -EEXIST;
        if (!d)
                return -ENODEV;
        sim_driver_register(m, d);
        sim_uevent(c->sim, "add", "drivers", d->node);
        attach_all(c, m, d);
        return 0;
}

/* driver_unregister(): every function is taken off it first. */
int sim_driver_unload(struct sim_call *c, const char *name) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_driver *d = sim_driver_find(m, name);
        struct sim_node *node;

        if (!d || !driver_plan(d))
                return -ENODEV;
        for (struct sim_function *fn = m->functions; fn;) {
                struct sim_function *next;

                if (fn->driver == d) {
                        sim_down_write(c, &fn->lock);
                        if (fn->driver == d)
                                sim_driver_detach(c, fn);
                        sim_up_write(c, &fn->lock);
                        fn = m->functions; /* anything may have happened to the list */
                        continue;
                }
                next = fn->next;
                fn = next;
        }
        for (struct sim_driver **p = &m->drivers; *p; p = &(*p)->next)
                if (*p == d) {
                        *p = d->next;
                        break;
                }
        node = TAKE_PTR(d->node);
        sim_uevent(c->sim, "remove", "drivers", node);
        sim_remove(c, node, NULL);
        return 0;
}

/* ---- /sys/bus/pci ---- */

/* drivers_probe_store() */
static ssize_t drivers_probe_store(struct sim_call *c, _unused_ struct sim_node *n, const char *text, size_t len) {
        struct sim_function *fn = named(sim_machine(c->sim), text);
        int r = 0;

        if (!fn)
                return -ENODEV;
        sim_down_write(c, &fn->lock);
        if (!fn->driver)
                r = fn->pci->added ? sim_device_probe(c, fn) : -ENODEV;
        sim_up_write(c, &fn->lock);
        /* Whatever went wrong. */
        return r < 0 ? -EINVAL : (ssize_t) len;
}
static const struct sim_node_ops drivers_probe_ops = { .store = drivers_probe_store };

/* ---- driver_override ---- */

static ssize_t override_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        const struct sim_function *fn = n->data;

        return snprintf(buf, size, "%s\n", fn->driver_override ? fn->driver_override : "(null)");
}

/* driver_set_override(): up to the first newline; nothing before it clears. */
static ssize_t override_store(_unused_ struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_function *fn = n->data;
        size_t used = strcspn(text, "\n");
        char *new = NULL;

        if (len >= PAGE - 1)
                return -EINVAL;
        if (used) {
                new = strndup(text, used);
                if (!new)
                        return -ENOMEM;
        }
        free(fn->driver_override);
        fn->driver_override = new;
        return (ssize_t) len;
}
static const struct sim_node_ops override_ops = { .show = override_show, .store = override_store };

void driver_sysfs(struct sim_function *fn) {
        sim_file_node(fn->node, "driver_override", 0644, &override_ops, fn);
}

void driver_init(struct sim_machine *m) {
        struct sim_node *bus = sim_dirs(m->sim, "sys/bus/pci");

        m->buses->devices = sim_dir(bus, "devices");
        m->buses->drivers = sim_dir(bus, "drivers");
        sim_file_node(bus, "drivers_probe", 0200, &drivers_probe_ops, m);
}

void driver_free_ids(struct sim_driver *d) {
        while (d->ids) {
                struct id *id = d->ids;

                d->ids = id->next;
                free(id);
        }
}
