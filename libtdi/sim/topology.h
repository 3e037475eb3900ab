/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A topology after it was read: every function of its own (what "count" multiplied is written out), with config space and addresses.
 * Nothing of it changes once it is made; the machine is put up from it.
 */
#ifndef TDI_SIM_TOPOLOGY_H
#define TDI_SIM_TOPOLOGY_H

#include "pci.h"

struct json_object;

#define TOPOLOGY_SCHEMA "tdi-sim/1"
#define TOPOLOGY_FUNCTIONS_MAX 16384 /* ports and virtual functions are functions */
#define TOPOLOGY_BUSES_MAX 256
#define TOPOLOGY_LIST_MAX 4096       /* entries of any other list */

/* Numbers of the PCIe capability's device type. */
enum {
        PORT_ENDPOINT = 0,
        PORT_LEGACY_ENDPOINT = 1,
        PORT_ROOT = 4,
        PORT_UPSTREAM = 5,
        PORT_DOWNSTREAM = 6,
        PORT_RC_ENDPOINT = 9,
};

struct topology_bar {
        uint64_t size, address;
        bool given, io, wide, prefetchable; /* given: the address is the topology's */
};

struct topology_ide {
        unsigned streams, links, addresses; /* streams 0: no capability */
};

struct topology_reserved { /* addresses that no DMA gets through; end inclusive */
        uint64_t start, end;
        bool msi;
};

struct topology_window {
        uint64_t start, end; /* inclusive; empty when start > end */
};

/* A list of names, borrowed from the JSON. */
struct topology_names {
        const char **names;
        size_t n;
};

struct topology_function {
        uint16_t segment;
        uint8_t bus, devfn;
        uint8_t type;                  /* PORT_…, or SIM_CONVENTIONAL */
        bool is_vf, multifunction;
        uint16_t vendor, device, subvendor, subdevice;
        uint32_t class;
        uint8_t revision;
        struct topology_bar bar[SIM_BARS];
        unsigned msi, msix;
        bool intx, flr, bus_reset, pm, aer, acs, ari, tee_io, doe, hotplug;
        struct topology_ide ide;
        uint64_t serial;               /* Device Serial Number; 0: it has no such capability */
        unsigned spdm_port;            /* 0: nobody answers */
        const char *role;              /* "" for none */
        const char *id, *behind;       /* of a port its name, of a function its port's, where they are given */
        unsigned number;               /* which of "count" it is */
        const char *driver, *model, *group, *net; /* NULL for none */
        struct topology_names disks;
        uint8_t *raw;                  /* "config", NULL when generated */
        size_t raw_size;
        bool no_coherency;
        struct topology_reserved reserved[8];
        unsigned n_reserved;
        /* SR-IOV. */
        unsigned vf_total, vf_enabled, vf_offset, vf_stride;
        struct topology_function *vf;  /* what all of its VFs are like: no addresses, BARs of one of them; owned */
        struct topology_bar vf_bar[SIM_BARS]; /* the whole of all VFs: addresses */
        /* Bridges. */
        uint8_t secondary, subordinate;
        bool subordinate_given;
        struct topology_window memory, prefetch, io;
        struct topology_function *parent; /* the port above */
        struct json_object *json;
        const char *list;              /* "ports" or "functions", and */
        size_t index;                  /* the entry there: for messages */
};

struct topology_bus { /* a host bridge */
        uint16_t segment;
        uint8_t bus, end;
        int numa_node;
        unsigned streams;
};

struct topology_tsm {
        const char *name, *parent, *driver;
        struct topology_names accepts; /* BDFs; all: every function */
        bool all, marks, bind, requests, bind_locks, loaded;
        unsigned connect_ms, streams;
};

struct topology_driver {
        const char *name;
        bool any, sriov, loaded, runtime_pm;
};

struct topology_part {
        const char *mount, *holder;
        bool swap;
        uint64_t sectors;
};

struct topology_disk {
        const char *name;
        uint64_t size;
        bool multipath;
        struct topology_part whole, *parts;
        size_t n_parts;
};

struct topology_net {
        const char *name, *interface, *mac, *upper;
        struct topology_names addresses;
        bool up, elsewhere; /* in another network namespace */
};

struct sim_topology {
        char platform[16], boot_id[40];
        bool unsafe_interrupts, bind_module;
        unsigned reset_ms;
        const char *iommu_type;
        struct topology_function *functions; /* in the order of their BDFs */
        size_t n_functions, room;
        struct topology_bus *buses;
        size_t n_buses;
        struct topology_tsm *tsms;
        size_t n_tsms;
        struct topology_driver *drivers;
        size_t n_drivers;
        struct topology_disk *disks;
        size_t n_disks;
        struct topology_net *nets;
        size_t n_nets;
        struct topology_reserved reserved[8];
        unsigned n_reserved;
        struct json_object *files;           /* borrowed of json, NULL: none */
        struct json_object *json;            /* a reference */
};

/* Where in the text: "functions[3].bars[1]". A chain on the stack. */
struct topology_at {
        const struct topology_at *up;
        const char *key; /* NULL: index */
        size_t index;
};

/* Collects the first complaint. */
struct topology_why {
        char *text;
        size_t size;
};

/* -EINVAL, with the place and the text written down. */
int topology_bad(struct topology_why *why, const struct topology_at *at, const char *format, ...) _printf_(3, 4);
int topology_bad_function(struct topology_why *why, const struct topology_function *f, const char *key, const char *format,
                          ...) _printf_(4, 5);

/* topology.c: -EINVAL with the reason, -ENOMEM. */
int sim_topology_new(struct json_object *json, struct topology_why *why, struct sim_topology **ret);
struct sim_topology *sim_topology_free(struct sim_topology *t);
DEFINE_CLEANUP(struct sim_topology *, sim_topology_free);

/* topology-read.c: types, ranges, unknown keys; fills the lists. */
int topology_read(struct sim_topology *t, struct json_object *json, struct topology_why *why);
/* The i-th key that is known, as "section.key"; NULL at the end. */
const char *sim_topology_key(size_t i, const char **ret_section);

/* topology-place.c: the hierarchy, bus numbers, addresses. */
int topology_place(struct sim_topology *t, struct topology_why *why);
struct topology_function *topology_find(struct sim_topology *t, uint16_t segment, uint8_t bus, uint8_t devfn);
/* Routing id of the i-th VF; may be beyond 0xffff. */
static inline unsigned topology_vf_rid(const struct topology_function *pf, unsigned i) {
        return ((unsigned) pf->bus << 8 | pf->devfn) + pf->vf_offset + pf->vf_stride * i;
}

/* topology-config.c: config space as it is after power-up. VF: pf is its PF. -E2BIG when the capabilities do not fit. */
int topology_config(const struct topology_function *f, const struct topology_function *pf, uint8_t config[SIM_CONFIG_SIZE],
                    size_t *ret_size);
/* Takes ids, class, capabilities and vector counts from f->raw. */
int topology_config_decode(struct topology_function *f, struct topology_why *why);
/* What a write changes, and what a write of 1 clears. */
void topology_config_masks(const struct topology_function *f, const uint8_t config[SIM_CONFIG_SIZE], size_t size,
                           uint8_t writable[SIM_CONFIG_SIZE],
                           uint8_t rw1c[SIM_CONFIG_SIZE]);

#endif
