/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the machine share with each other and with nobody else: topology, PCI, drivers, groups, TSMs, users.
 */
#ifndef TDI_SIM_MACHINE_H
#define TDI_SIM_MACHINE_H

#include "sim/config.h"
#include "sim/topology.h"

#define FUNCTION_BUCKETS 4096

/* A host bridge: /sys/devices/pciDDDD:BB */
struct sim_host {
        const struct topology_bus *plan;
        struct sim_node *node;
        uint8_t streams[32]; /* bits: which of the 256 are taken */
};

struct sim_buses {
        struct sim_function *hash[FUNCTION_BUCKETS]; /* everything that was ever there, also what is unplugged */
        struct sim_function *last;                   /* of the machine's list */
        struct sim_host *hosts;
        size_t n_hosts;
        struct sim_node *devices, *drivers;          /* /sys/bus/pci/… */
        struct sim_node *iommu;                      /* /sys/devices/virtual/iommu/… */
        uint8_t irqs[8192];                          /* bits */
};

struct sim_pci {
        const struct topology_function *plan;
        struct sim_host *host;
        struct sim_function *hash_next;
        bool added;           /* the kernel knows it; present is whether there is hardware */
        bool removing;        /* somebody wrote to "remove" */
        bool tee;             /* the kernel's copy of Device Capabilities bit 30 */
        unsigned ide;         /* offset of a usable IDE capability: pci_ide_init() */
        uint64_t ide_taken, ide_keys; /* selective streams: allocated; keys are set */
        /* SR-IOV: VFs are made once and come back, because calls may still hold them. */
        struct sim_function **all_vfs;
        bool autoprobe;
        /* sysfs state */
        bool waiting, no_msi, broken_parity, d3cold_allowed, wide_dma;
        const char *power_state;
        unsigned irq, msi_first, msi_count;
        struct sim_node *msi_irqs;
        unsigned aer_correctable, aer_nonfatal, aer_fatal;
        struct sim_doe *doe; /* doe.c: NULL without a mailbox */
};

static inline const struct topology_function *fn_plan(const struct sim_function *fn) {
        return fn->pci->plan;
}

static inline bool fn_is_port(const struct sim_function *fn) {
        return fn->port_type == PORT_ROOT || fn->port_type == PORT_UPSTREAM || fn->port_type == PORT_DOWNSTREAM;
}

static inline bool fn_is_vf(const struct sim_function *fn) {
        return fn->pci->plan->is_vf;
}

/* ---- topology.c ---- */
/* Allocation that cannot fail: out of memory ends the simulation. */
void *machine_alloc(size_t size);
char *machine_strdup(const char *s);

/* ---- pci.c ---- */
struct sim_function *pci_find_any(struct sim_machine *m, uint16_t segment, uint8_t bus, uint8_t devfn); /* unplugged ones too */
struct sim_function *pci_find(struct sim_machine *m, uint16_t segment, uint8_t bus, uint8_t devfn);
bool pci_parse_bdf(const char *text, uint16_t *ret_segment, uint8_t *ret_bus, uint8_t *ret_devfn);
/* A function that is not added yet; index is the VF's, physfn NULL for others. */
struct sim_function *pci_make(struct sim_machine *m, const struct topology_function *plan, struct sim_function *physfn, unsigned index);
struct sim_function *pci_free(struct sim_function *fn);
/* Calls back for what is right behind a port, in the order of the bus or against it. */
void pci_children(struct sim_function *port, bool reverse, void (*func)(struct sim_function *fn, void *data), void *data);
unsigned pci_irq_alloc(struct sim_machine *m, unsigned n);
void pci_irq_free(struct sim_machine *m, unsigned first, unsigned n);

/* ---- pci-bus.c ---- */
void pci_bus_init(struct sim_call *c, struct sim_machine *m); /* /sys/bus/pci, host bridges, all functions */
void pci_bus_bind(struct sim_call *c, struct sim_machine *m); /* boot: drivers take what is there */
void pci_bus_free(struct sim_machine *m);
void pci_add(struct sim_call *c, struct sim_function *fn);    /* pci_device_add() */
/* pci_stop_and_remove_bus_device() with what is behind it; self as in sim_remove(). */
void pci_remove(struct sim_call *c, struct sim_function *fn, struct sim_node *self);
void pci_rescan(struct sim_call *c, struct sim_machine *m);

/* ---- pci-config.c ---- */
void pci_power_on(struct sim_function *fn);                   /* config space as after power-up */

/* ---- doe.c ---- */
void pci_doe_new(struct sim_function *fn); /* with its config space there */
void pci_doe_free(struct sim_function *fn);
void pci_doe_reset(struct sim_function *fn);
/* The mailbox's registers in what was read; what a write of them sets off. The write that starts an exchange sleeps until it is over. */
void pci_doe_read(struct sim_function *fn, uint64_t offset, void *buf, size_t size);
void pci_doe_write(struct sim_call *c, struct sim_function *fn, uint64_t offset, const uint8_t *bytes, size_t size);

/* ---- pci-sysfs.c ---- */
void pci_sysfs_create(struct sim_function *fn);
void pci_sysfs_host(struct sim_host *host);
ssize_t pci_uevent_show(struct sim_function *fn, char *buf, size_t size);
int parse_ulong(const char *text, unsigned long long max, unsigned long long *ret); /* kstrtoul(): -EINVAL, -ERANGE */
bool sysfs_equal(const char *text, const char *word);         /* sysfs_streq() */

/* ---- pci-reset.c ---- */
void pci_hardware_reset(struct sim_call *c, struct sim_function *fn); /* what the function itself does: nothing is restored */
int pci_reset_sysfs(struct sim_call *c, struct sim_function *fn);     /* pci_reset_function() */
void pci_reset_below(struct sim_call *c, struct sim_function *port);  /* the secondary bus is reset */
void pci_reset_methods(struct sim_function *fn, char *buf, size_t size);

/* ---- pci-iov.c ---- */
int pci_enable_sriov(struct sim_call *c, struct sim_function *fn, unsigned n);
void pci_disable_sriov(struct sim_call *c, struct sim_function *fn);
void pci_iov_sysfs(struct sim_function *fn);

/* ---- driver.c, driver-host.c ---- */
void driver_init(struct sim_machine *m);                      /* before any function is added */
void driver_register_hosts(struct sim_machine *m);            /* pcieport, and those of the topology */
void driver_free(struct sim_machine *m);
void driver_release(struct sim_call *c, struct sim_function *fn); /* device_release_driver() */
bool driver_matches(const struct sim_driver *d, const struct sim_function *fn);
void driver_sysfs(struct sim_function *fn);                   /* driver_override */
const struct topology_driver *driver_plan(const struct sim_driver *d); /* NULL for those that are no host drivers of the topology */
struct sim_driver *driver_unloaded(struct sim_machine *m, const char *name);
void driver_free_ids(struct sim_driver *d);

/* ---- group.c ---- */
void group_init(struct sim_machine *m);
void group_attach(struct sim_call *c, struct sim_function *fn); /* finds or makes its group: pci_device_group() */
void group_free(struct sim_machine *m);

/* ---- tsm-sysfs.c ---- */
struct sim_tsm;
bool tsm_is_pf0(const struct sim_function *fn);
void tsm_prepare(struct sim_call *c, struct sim_function *fn); /* its files, before anybody hears of it */
void tsm_sysfs_update(struct sim_call *c, struct sim_function *fn); /* sysfs_update_group() of both: sleeps until no call is in them */

/* ---- users-disk.c, users-net.c ---- */
void disks_init(struct sim_machine *m);
void disks_probe(struct sim_call *c, struct sim_function *fn);
void disks_remove(struct sim_call *c, struct sim_function *fn);
int disks_change(struct sim_call *c, struct json_object *what);
void disks_free(struct sim_machine *m);
void nets_init(struct sim_machine *m);
void nets_probe(struct sim_call *c, struct sim_function *fn);
void nets_remove(struct sim_call *c, struct sim_function *fn);
int nets_change(struct sim_call *c, struct json_object *what);
void nets_free(struct sim_machine *m);

#endif
