/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Functions come and go: the first scan, removal and rescan through sysfs, plugging and unplugging. The order of steps and uevents is
 * that of drivers/pci/probe.c, remove.c and drivers/base/core.c.
 */
#include <stdio.h>

#include "sim/machine.h"

/* ---- the machine's list, in the order of BDFs ---- */

static unsigned long key(const struct sim_function *fn) {
        return (unsigned long) fn->segment << 16 | (unsigned long) fn->bus << 8 | fn->devfn;
}

static void list_insert(struct sim_machine *m, struct sim_function *fn) {
        struct sim_function **p = &m->functions;

        if (m->buses->last && key(m->buses->last) < key(fn))
                p = &m->buses->last->next;
        while (*p && key(*p) < key(fn))
                p = &(*p)->next;
        fn->next = *p;
        *p = fn;
        if (!fn->next)
                m->buses->last = fn;
}

static void list_remove(struct sim_machine *m, struct sim_function *fn) {
        struct sim_function **p = &m->functions, *before = NULL;

        for (; *p && *p != fn; p = &(*p)->next)
                before = *p;
        if (!*p)
                return;
        *p = fn->next;
        if (m->buses->last == fn)
                m->buses->last = before;
        fn->next = NULL;
}

/* ---- coming ---- */

/* What a new struct pci_dev starts with. */
static void fresh(struct sim_function *fn) {
        struct sim_pci *p = fn->pci;

        free(TAKE_PTR(fn->driver_override));
        snprintf(fn->power_control, sizeof(fn->power_control), "on");
        fn->enable_count = 0;
        fn->pm_users = 0;
        p->tee = fn_plan(fn)->tee_io;
        p->autoprobe = true;
        p->waiting = true;
        p->no_msi = p->broken_parity = p->wide_dma = false;
        p->d3cold_allowed = sim_find_capability(fn, CAP_PM) > 0; /* pci_pm_init() */
        p->power_state = "D0";
        p->aer_correctable = p->aer_nonfatal = p->aer_fatal = 0;
        p->ide_taken = 0;
}

/* pci_ide_init(): an endpoint's capability counts only if its root port has one. */
static void init_ide(struct sim_function *fn) {
        const struct sim_function *root = fn;
        unsigned at = sim_find_ext_capability(fn, EXT_IDE);

        while (root->bridge)
                root = root->bridge;
        fn->pci->ide = 0;
        if (!at || cfg_ide_streams(fn->config, at) == 0 || (fn->port_type == PORT_ENDPOINT && !root->pci->ide))
                return;
        fn->pci->ide = at;
}

void pci_add(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct sim_node *parent = fn->bridge ? fn->bridge->node : fn->pci->host->node;

        fresh(fn);
        init_ide(fn);
        fn->node = sim_dir(parent, fn->bdf);
        fn->node->data = fn;
        fn->node->device = fn->bdf;
        pci_sysfs_create(fn);
        sim_link(m->buses->devices, fn->bdf, fn->node);
        list_insert(m, fn);
        fn->pci->added = true;
        group_attach(c, fn);
        tsm_prepare(c, fn);
        sim_uevent(fn->sim, "add", "pci", fn->node);
        sim_tsm_function_added(c, fn);
}

/* ---- going ---- */

static void stop_child(struct sim_function *fn, void *data);
static void destroy_child(struct sim_function *fn, void *data);

struct removal {
        struct sim_call *c;
        struct sim_node *self;
};

/* pci_stop_bus_device() */
static void stop(struct removal *r, struct sim_function *fn) {
        if (fn_is_port(fn))
                pci_children(fn, true, stop_child, r);
        driver_release(r->c, fn);
        /* A driver that leaves its VFs behind: they cannot stay without their PF. */
        if (fn->sriov_enabled)
                pci_disable_sriov(r->c, fn);
}

static void stop_child(struct sim_function *fn, void *data) {
        /* VFs go with their PF. */
        if (!fn->physfn)
                stop(data, fn);
}

/* pci_remove_bus_device(), pci_destroy_dev() */
static void destroy(struct removal *r, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct sim_node *link;

        if (fn_is_port(fn))
                pci_children(fn, true, destroy_child, r);
        if (!fn->pci->added)
                return;
        sim_tsm_function_removed(r->c, fn);
        fn->pci->added = false;
        /* bus_remove_device(): a driver may have been bound since it was stopped; from now on none is. */
        driver_release(r->c, fn);
        /* Its files go one after another: while this takes, they are still there. */
        (void) sim_fault(r->c, "remove", fn->bdf);
        list_remove(m, fn);
        link = sim_child(m->buses->devices, fn->bdf);
        if (link)
                sim_remove(r->c, link, NULL);
        sim_uevent(fn->sim, "remove", "pci", fn->node);
        sim_group_remove(r->c, fn);
        sim_remove(r->c, fn->node, r->self);
        fn->node = NULL;
}

static void destroy_child(struct sim_function *fn, void *data) {
        destroy(data, fn);
}

void pci_remove(struct sim_call *c, struct sim_function *fn, struct sim_node *self) {
        struct removal r = { c, self };

        stop(&r, fn);
        destroy(&r, fn);
}

/* ---- hardware ---- */

static void set_present(struct sim_machine *m, const struct topology_function *plan, bool present) {
        struct sim_function *fn = pci_find_any(m, plan->segment, plan->bus, plan->devfn);

        if (!fn)
                return;
        if (present && !fn->present) {
                pci_power_on(fn);
                fn->pci->ide_keys = 0;
        }
        fn->present = present;
        for (unsigned i = 0; i < fn->sriov_total && fn->pci->all_vfs; i++)
                if (fn->pci->all_vfs[i])
                        fn->pci->all_vfs[i]->present = present;
}

static bool is_below(const struct topology_function *f, const struct topology_function *port) {
        for (; f; f = f->parent)
                if (f == port)
                        return true;
        return false;
}

/* The function, what is behind it, and what shares its card. */
static void set_present_below(struct sim_function *fn, bool present) {
        struct sim_machine *m = sim_machine(fn->sim);

        for (size_t i = 0; i < m->plan->n_functions; i++)
                if (is_below(&m->plan->functions[i], fn_plan(fn)))
                        set_present(m, &m->plan->functions[i], present);
}

int sim_unplug(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);

        if (fn->physfn)
                return -EINVAL;
        if (!fn->pci->added)
                return -ENODEV;
        sim_log(c->sim, "pcieport: Slot: Card not present: %s", fn->bdf);
        /* pciehp_unconfigure_device(): marked as disconnected first, then removed under the lock. */
        set_present_below(fn, false);
        sim_down_write(c, &m->hotplug_lock);
        if (fn->pci->added)
                pci_remove(c, fn, NULL);
        sim_up_write(c, &m->hotplug_lock);
        return 0;
}

static void bind(struct sim_call *c, struct sim_function *fn) {
        sim_down_write(c, &fn->lock);
        if (fn->pci->added && !fn->driver)
                (void) sim_device_probe(c, fn);
        sim_up_write(c, &fn->lock);
}

void pci_rescan(struct sim_call *c, struct sim_machine *m) {
        struct sim_topology *t = m->plan;
        _cleanup_free_ bool *found = machine_alloc(t->n_functions + 1);

        /* A port has a lower bus number than what is behind it: in this order it comes first. */
        for (size_t i = 0; i < t->n_functions; i++) {
                struct sim_function *fn = pci_find_any(m, t->functions[i].segment, t->functions[i].bus, t->functions[i].devfn);

                if (!fn || !fn->present || fn->pci->added || (fn->bridge && !fn->bridge->pci->added))
                        continue;
                pci_add(c, fn);
                found[i] = true;
        }
        for (size_t i = 0; i < t->n_functions; i++)
                if (found[i])
                        bind(c, pci_find_any(m, t->functions[i].segment, t->functions[i].bus, t->functions[i].devfn));
}

int sim_plug(struct sim_call *c, const char *bdf) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_function *fn;
        uint16_t segment;
        uint8_t bus, devfn;

        fn = pci_parse_bdf(bdf, &segment, &bus, &devfn) ? pci_find_any(m, segment, bus, devfn) : NULL;
        if (!fn || fn->physfn)
                return -ENODEV;
        if (fn->present)
                return -EEXIST;
        if (fn->bridge && !fn->bridge->present)
                return -ENXIO;
        sim_log(c->sim, "pcieport: Slot: Card present: %s", fn->bdf);
        sim_down_write(c, &m->hotplug_lock);
        set_present_below(fn, true);
        pci_rescan(c, m);
        sim_up_write(c, &m->hotplug_lock);
        return 0;
}

/* ---- boot ---- */

static ssize_t rescan_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_machine *m = n->data;
        unsigned long long v;

        if (parse_ulong(text, UINT64_MAX, &v) < 0)
                return -EINVAL;
        if (v) {
                sim_down_write(c, &m->hotplug_lock);
                pci_rescan(c, m);
                sim_up_write(c, &m->hotplug_lock);
        }
        return (ssize_t) len;
}
static const struct sim_node_ops rescan_ops = { .store = rescan_store };

/* pci_scan_child_bus(): all of a bus, then what is behind its ports. */
static void scan(struct sim_call *c, struct sim_machine *m, uint16_t segment, uint8_t bus) {
        struct sim_topology *t = m->plan;

        for (unsigned devfn = 0; devfn < 256; devfn++) {
                const struct topology_function *f = topology_find(t, segment, bus, (uint8_t) devfn);

                if (f)
                        pci_add(c, pci_make(m, f, NULL, 0));
        }
        for (unsigned devfn = 0; devfn < 256; devfn++) {
                const struct topology_function *f = topology_find(t, segment, bus, (uint8_t) devfn);

                if (f && f->secondary)
                        scan(c, m, segment, f->secondary);
        }
}

static const char *iommu_name(const char *platform) {
        if (streq(platform, "sev-snp"))
                return "ivhd0";
        return streq(platform, "cca") || streq(platform, "pkvm") ? "smmu3.0x0000000009050000" : "dmar0";
}

void pci_bus_init(struct sim_call *c, struct sim_machine *m) {
        struct sim_buses *b = m->buses;
        struct sim_node *bus = sim_dirs(m->sim, "sys/bus/pci");
        char path[96];

        sim_file_node(bus, "rescan", 0220, &rescan_ops, m);
        snprintf(path, sizeof(path), "sys/devices/virtual/iommu/%s", iommu_name(m->platform));
        b->iommu = sim_dirs(m->sim, path);
        sim_dir(b->iommu, "devices");
        sim_link(sim_dirs(m->sim, "sys/class/iommu"), iommu_name(m->platform), b->iommu);
        b->hosts = machine_alloc(m->plan->n_buses * sizeof(*b->hosts));
        for (size_t i = 0; i < m->plan->n_buses; i++) {
                struct sim_host *host = &b->hosts[b->n_hosts++];

                host->plan = &m->plan->buses[i];
                snprintf(path, sizeof(path), "sys/devices/pci%04x:%02x", host->plan->segment, host->plan->bus);
                host->node = sim_dirs(m->sim, path);
                pci_sysfs_host(host);
        }
        for (size_t i = 0; i < m->plan->n_buses; i++)
                scan(c, m, m->plan->buses[i].segment, m->plan->buses[i].bus);
}

void pci_bus_bind(struct sim_call *c, struct sim_machine *m) {
        for (struct sim_function *fn = m->functions; fn; fn = fn->next)
                bind(c, fn);
        for (size_t i = 0; i < m->plan->n_functions; i++) {
                const struct topology_function *f = &m->plan->functions[i];
                struct sim_function *fn = f->vf_enabled ? pci_find(m, f->segment, f->bus, f->devfn) : NULL;

                /* As a boot script would: through its driver, where it has one that can. */
                if (!fn)
                        continue;
                sim_down_write(c, &fn->lock);
                if (fn->driver && fn->driver->sriov_configure)
                        (void) fn->driver->sriov_configure(c, fn, f->vf_enabled);
                sim_up_write(c, &fn->lock);
        }
}

void pci_bus_free(struct sim_machine *m) {
        if (!m->buses)
                return;
        for (size_t i = 0; i < FUNCTION_BUCKETS; i++)
                while (m->buses->hash[i]) {
                        struct sim_function *fn = m->buses->hash[i];

                        m->buses->hash[i] = fn->pci->hash_next;
                        pci_free(fn);
                }
        m->functions = NULL;
        free(m->buses->hosts);
        free(m->buses);
        m->buses = NULL;
}
