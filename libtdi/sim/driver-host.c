/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The host's own drivers: pcieport, and one for each name that the topology has. They do to a function what any driver does, and make the
 * disks and interfaces that the topology puts behind it. What they are told to get wrong is a matter of faults.
 */
#include <stdio.h>

#include "sim/machine.h"

struct host_driver {
        struct sim_driver base;
        struct topology_driver plan;
        struct host_driver *next;
};

/* All of them, loaded or not; behind pcieport's data. */
static struct host_driver *all(struct sim_machine *m) {
        struct sim_driver *pcieport = sim_driver_find(m, "pcieport");

        return pcieport ? pcieport->data : NULL;
}

static bool match(const struct sim_driver *driver, const struct sim_function *fn) {
        return fn->host_driver && streq(fn->host_driver, driver->name);
}

/* How many vectors a driver would take: as many as there are CPUs and one more, of MSI one. */
static void take_interrupts(struct sim_call *c, struct sim_function *fn) {
        if (fn->msix_vectors)
                sim_msi_set(c, fn, fn->msix_vectors < 3 ? fn->msix_vectors : 3, true);
        else if (fn->msi_vectors)
                sim_msi_set(c, fn, 1, false);
}

static void set_master(struct sim_function *fn, bool on) {
        unsigned command = cfg_get16(fn->config + CFG_COMMAND);

        if (fn->present)
                cfg_put16(fn->config + CFG_COMMAND, on ? command | COMMAND_MASTER : command & ~COMMAND_MASTER);
}

static int probe(struct sim_call *c, struct sim_function *fn) {
        const struct topology_driver *plan = driver_plan(fn->driver);
        int r;

        r = sim_fault(c, "driver.probe", fn->bdf);
        if (r < 0)
                return r;
        if (!fn->present)
                return -ENODEV;
        /* "any": a stub that does nothing with the function. Others know their own hardware, however they came to it. */
        if (plan->any)
                return 0;
        if (!match(fn->driver, fn) && !fn->driver->ids)
                return -ENODEV;
        sim_pci_enable(fn);
        set_master(fn, true);
        fn->pci->wide_dma = true; /* dma_set_mask_and_coherent(): it stays when the driver leaves */
        take_interrupts(c, fn);
        if (plan->runtime_pm)
                snprintf(fn->power_control, sizeof(fn->power_control), "auto");
        if (match(fn->driver, fn))
                sim_users_probe(c, fn);
        return 0;
}

static void remove_driver(struct sim_call *c, struct sim_function *fn) {
        const struct topology_driver *plan = driver_plan(fn->driver);

        /* A driver that does not let go waits here; its errors mean nothing. */
        (void) sim_fault(c, "driver.remove", fn->bdf);
        if (plan->any)
                return;
        if (fn->sriov_enabled)
                pci_disable_sriov(c, fn);
        sim_users_remove(c, fn);
        if (plan->runtime_pm)
                snprintf(fn->power_control, sizeof(fn->power_control), "on");
        sim_msi_set(c, fn, 0, false);
        sim_pci_disable(fn);
}

static int sriov_configure(struct sim_call *c, struct sim_function *fn, unsigned n) {
        if (n)
                return pci_enable_sriov(c, fn, n);
        pci_disable_sriov(c, fn);
        return 0;
}

/* ---- pcieport ---- */

static bool match_port(_unused_ const struct sim_driver *driver, const struct sim_function *fn) {
        return fn->is_bridge && streq_ptr(fn->host_driver, "pcieport");
}

static int probe_port(struct sim_call *c, struct sim_function *fn) {
        if (!fn->is_bridge)
                return -ENODEV;
        if (fn->enable_count == 0)
                sim_pci_enable(fn);
        if (fn->msi_vectors)
                sim_msi_set(c, fn, 1, false);
        return 0;
}

static void remove_port(struct sim_call *c, struct sim_function *fn) {
        sim_msi_set(c, fn, 0, false);
        sim_pci_disable(fn);
}

/* ---- the list ---- */

const struct topology_driver *driver_plan(const struct sim_driver *d) {
        return d->probe == probe ? &((const struct host_driver *) d)->plan : NULL;
}

struct sim_driver *driver_unloaded(struct sim_machine *m, const char *name) {
        for (struct host_driver *d = all(m); d; d = d->next)
                if (streq(d->base.name, name) && !d->base.node)
                        return &d->base;
        return NULL;
}

static void add(struct sim_machine *m, struct sim_driver *pcieport, const struct topology_driver *plan) {
        struct host_driver *d;

        for (d = pcieport->data; d; d = d->next)
                if (streq(d->base.name, plan->name))
                        return;
        d = machine_alloc(sizeof(*d));
        d->plan = *plan;
        d->base = (struct sim_driver){ .name = plan->name, .probe = probe, .remove = remove_driver, .match = plan->any ? NULL : match,
                                       .sriov_configure = plan->sriov ? sriov_configure : NULL };
        d->next = pcieport->data;
        pcieport->data = d;
        if (plan->loaded)
                sim_driver_register(m, &d->base);
}

/* A name that only a function mentions: an ordinary driver; of a function with VFs, one that can enable them. */
static void add_named(struct sim_machine *m, struct sim_driver *pcieport, const struct topology_function *f) {
        struct topology_driver plan = { .name = f->driver, .loaded = true };

        if (!f->driver || streq(f->driver, "vfio-pci") || streq(f->driver, "pcieport"))
                return;
        for (size_t i = 0; i < m->plan->n_functions; i++)
                plan.sriov |= m->plan->functions[i].vf_total && streq_ptr(m->plan->functions[i].driver, f->driver);
        add(m, pcieport, &plan);
}

void driver_register_hosts(struct sim_machine *m) {
        struct sim_driver *pcieport = machine_alloc(sizeof(*pcieport));

        *pcieport = (struct sim_driver){ .name = "pcieport", .probe = probe_port, .remove = remove_port, .match = match_port,
                                         .driver_managed_dma = true };
        sim_driver_register(m, pcieport);
        for (size_t i = 0; i < m->plan->n_drivers; i++)
                add(m, pcieport, &m->plan->drivers[i]);
        for (size_t i = 0; i < m->plan->n_functions; i++) {
                const struct topology_function *f = &m->plan->functions[i];

                /* Neighbours mostly have the same. */
                if (i && f->driver == m->plan->functions[i - 1].driver && !f->vf)
                        continue;
                add_named(m, pcieport, f);
                if (f->vf)
                        add_named(m, pcieport, f->vf);
        }
}

void driver_free(struct sim_machine *m) {
        struct sim_driver *pcieport = sim_driver_find(m, "pcieport");
        struct host_driver *d, *next;

        for (struct sim_driver *one = m->drivers; one; one = one->next)
                driver_free_ids(one);
        m->drivers = NULL;
        if (!pcieport)
                return;
        for (d = pcieport->data; d; d = next) {
                next = d->next;
                driver_free_ids(&d->base);
                free(d);
        }
        free(pcieport);
}
