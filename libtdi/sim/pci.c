/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The functions of the machine as objects: made from their topology, found by their address, in the order of their BDFs. Objects stay
 * until the machine ends, also of what was unplugged and of VFs that were disabled: calls may still hold them.
 */
#include <ctype.h>
#include <stdio.h>

#include "sim/machine.h"

static unsigned bucket(uint16_t segment, uint8_t bus, uint8_t devfn) {
        return (((unsigned) bus << 8 | devfn) ^ segment * 2654435761u >> 16) % FUNCTION_BUCKETS;
}

struct sim_function *pci_find_any(struct sim_machine *m, uint16_t segment, uint8_t bus, uint8_t devfn) {
        for (struct sim_function *fn = m->buses->hash[bucket(segment, bus, devfn)]; fn; fn = fn->pci->hash_next)
                if (fn->segment == segment && fn->bus == bus && fn->devfn == devfn)
                        return fn;
        return NULL;
}

struct sim_function *pci_find(struct sim_machine *m, uint16_t segment, uint8_t bus, uint8_t devfn) {
        struct sim_function *fn = pci_find_any(m, segment, bus, devfn);

        return fn && fn->pci->added ? fn : NULL;
}

static bool digits(const char *s, size_t n, unsigned base, unsigned *ret) {
        char text[5] = "", *end;

        memcpy(text, s, n);
        for (size_t i = 0; i < n; i++)
                if (!isxdigit((unsigned char) text[i]) || isupper((unsigned char) text[i]))
                        return false;
        *ret = (unsigned) strtoul(text, &end, (int) base);
        return !*end;
}

/* The one form in which the kernel names a function; sysfs compares names as text. */
bool pci_parse_bdf(const char *text, uint16_t *ret_segment, uint8_t *ret_bus, uint8_t *ret_devfn) {
        unsigned segment, bus, device, function;

        if (strlen(text) != 12 || text[4] != ':' || text[7] != ':' || text[10] != '.' || !digits(text, 4, 16, &segment) ||
            !digits(text + 5, 2, 16, &bus) || !digits(text + 8, 2, 16, &device) || !digits(text + 11, 1, 8, &function) || device > 0x1f)
                return false;
        *ret_segment = (uint16_t) segment;
        *ret_bus = (uint8_t) bus;
        *ret_devfn = (uint8_t) (device << 3 | function);
        return true;
}

struct sim_function *sim_function_find(struct sim_machine *m, const char *bdf) {
        uint16_t segment;
        uint8_t bus, devfn;

        return pci_parse_bdf(bdf, &segment, &bus, &devfn) ? pci_find(m, segment, bus, devfn) : NULL;
}

/* The host bridge whose buses include this one. */
static struct sim_host *find_host(struct sim_machine *m, uint16_t segment, uint8_t bus) {
        for (size_t i = 0; i < m->buses->n_hosts; i++) {
                const struct topology_bus *b = m->buses->hosts[i].plan;

                if (b->segment == segment && b->bus <= bus && bus <= b->end)
                        return &m->buses->hosts[i];
        }
        return NULL;
}

struct sim_function *pci_make(struct sim_machine *m, const struct topology_function *plan, struct sim_function *physfn, unsigned index) {
        struct sim_function *fn = machine_alloc(sizeof(*fn));
        const struct topology_function *up = physfn ? fn_plan(physfn)->parent : plan->parent;
        unsigned i;

        fn->sim = m->sim;
        fn->pci = machine_alloc(sizeof(*fn->pci));
        fn->pci->plan = plan;
        fn->segment = plan->segment;
        fn->bus = physfn ? (uint8_t) (topology_vf_rid(fn_plan(physfn), index) >> 8) : plan->bus;
        fn->devfn = physfn ? (uint8_t) topology_vf_rid(fn_plan(physfn), index) : plan->devfn;
        snprintf(fn->bdf, sizeof(fn->bdf), "%04x:%02x:%02x.%u", fn->segment, fn->bus, fn->devfn >> 3, fn->devfn & 7u);
        fn->pci->host = find_host(m, fn->segment, fn->bus);
        fn->bridge = up ? pci_find_any(m, up->segment, up->bus, up->devfn) : NULL;
        fn->physfn = physfn;
        fn->vf_index = index;
        sim_rwsem_init(&fn->lock);
        fn->present = true;
        fn->port_type = plan->type;
        fn->is_bridge = fn_is_port(fn);
        for (i = 0; i < SIM_BARS; i++) {
                const struct topology_bar *bar = &plan->bar[i];

                fn->bar[i] = (struct sim_bar){ .address = bar->address, .size = bar->size, .io = bar->io,
                                              .prefetchable = bar->prefetchable, .wide = bar->wide };
                if (physfn && bar->size)
                        fn->bar[i].address = fn_plan(physfn)->vf_bar[i].address + index * bar->size;
        }
        fn->msi_vectors = plan->msi;
        fn->msix_vectors = plan->msix;
        fn->intx = plan->intx && !physfn;
        fn->flr = plan->flr;
        fn->bus_reset = plan->bus_reset && !physfn;
        fn->sriov_total = (uint16_t) plan->vf_total;
        fn->host_driver = plan->driver ? machine_strdup(plan->driver) : NULL;
        snprintf(fn->power_control, sizeof(fn->power_control), "on"); /* pci_pm_init(): pm_runtime_forbid() */
        fn->tee_io = plan->tee_io;
        fn->pci->tee = plan->tee_io;
        fn->topology = plan->json;
        fn->pci->autoprobe = true;
        fn->pci->waiting = true;
        fn->pci->power_state = "D0";
        fn->pci->irq = fn->intx ? 16 + (fn->devfn & 3u) : 0;
        pci_power_on(fn);
        pci_doe_new(fn);
        if (plan->model) {
                fn->model = sim_model_find(plan->model);
                if (fn->model && fn->model->create(fn) < 0)
                        abort();
        }
        i = bucket(fn->segment, fn->bus, fn->devfn);
        fn->pci->hash_next = m->buses->hash[i];
        m->buses->hash[i] = fn;
        return fn;
}

struct sim_function *pci_free(struct sim_function *fn) {
        if (!fn)
                return NULL;
        if (fn->model)
                fn->model->destroy(fn);
        pci_doe_free(fn);
        sim_rwsem_done(&fn->lock);
        free(fn->vfs);
        free(fn->driver_override);
        free(fn->host_driver);
        free(fn->users);
        free(fn->pci->all_vfs);
        free(fn->pci);
        free(fn);
        return NULL;
}

/* Collected before the first is called for: func may remove what it is given, or sleep. */
void pci_children(struct sim_function *port, bool reverse, void (*func)(struct sim_function *fn, void *data), void *data) {
        struct sim_machine *m = sim_machine(port->sim);
        _cleanup_free_ struct sim_function **all = NULL;
        size_t n = 0, room = 0;

        for (unsigned devfn = 0; devfn < 256; devfn++) {
                struct sim_function *fn = pci_find(m, port->segment, fn_plan(port)->secondary, (uint8_t) devfn);

                if (!fn || fn->physfn)
                        continue;
                for (unsigned i = 0; i <= fn->sriov_total; i++) {
                        struct sim_function *one = i == 0 ? fn : fn->pci->all_vfs ? fn->pci->all_vfs[i - 1] : NULL;

                        if (!one || !one->pci->added)
                                continue;
                        if (n == room) {
                                room = room ? room * 2 : 16;
                                all = reallocarray(all, room, sizeof(struct sim_function *));
                                if (!all)
                                        abort();
                        }
                        all[n++] = one;
                }
        }
        for (size_t i = 0; i < n; i++)
                func(all[reverse ? n - 1 - i : i], data);
}

/* ---- interrupt numbers ---- */

unsigned pci_irq_alloc(struct sim_machine *m, unsigned n) {
        uint8_t *bits = m->buses->irqs;
        unsigned run = 0;

        for (unsigned i = 24; i < sizeof(m->buses->irqs) * 8; i++) {
                run = bits[i / 8] & 1 << i % 8 ? 0 : run + 1;
                if (run < n)
                        continue;
                for (unsigned k = i - n + 1; k <= i; k++)
                        bits[k / 8] |= (uint8_t) (1 << k % 8);
                return i - n + 1;
        }
        return 0;
}

void pci_irq_free(struct sim_machine *m, unsigned first, unsigned n) {
        for (unsigned k = first; k < first + n; k++)
                m->buses->irqs[k / 8] &= (uint8_t) ~(1 << k % 8);
}
