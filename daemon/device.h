/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI functions as the readers found them, and the readers: two worker processes that read sysfs (one for what is quick, one
 * for tsm/, which waits for every handshake on the host), woken by uevents and, for what has no uevent, by a timer.
 */
#ifndef TDID_DEVICE_H
#define TDID_DEVICE_H

#include "manager.h"

enum device_tee {
        DEVICE_TEE_IO = 1,  /* Device Capabilities bit 30 */
        DEVICE_IDE = 2,
        DEVICE_DOE = 4,
        DEVICE_DSM = 8,     /* the kernel offers tsm/connect: it takes the function for a DSM */
};

#define DEVICE_PARENTS_MAX 32 /* of which more cannot be told apart by a policy */

struct Device {
        Manager *manager;
        struct tdi_bdf bdf;
        uint16_t vendor, device, subsystem_vendor, subsystem_device;
        uint32_t class;
        int32_t group;      /* -1: none */
        uint32_t phys_fn;   /* tdi_bdf_number(), or UINT32_MAX */
        unsigned n_vfs;     /* that it has now */
        uint32_t upstream_above; /* the first switch upstream port above, or UINT32_MAX */
        uint32_t parents[DEVICE_PARENTS_MAX]; /* tdi_bdf_number() of the bridges above, nearest first */
        size_t n_parents;
        uint64_t serial;    /* Device Serial Number, where it has one */
        bool has_serial;
        bool unreadable;    /* its config space could not be read: what that would say is not known */
        uint64_t generation; /* another number when another device may stand there, or somebody has had it */
        uint8_t tee;
        bool upstream, seen, announced;
        bool gone; /* off the bus, but still in custody */
        uint64_t tsm_round; /* the round of reading tsm/ that first sees it */
        bool fixed; /* config space has been read */
        char *name, *class_name, *driver;
        char *tsm, *dsm, *bound; /* tsm/connect, tsm/dsm, tsm/bound as last read */
        bool says_bound;         /* there was the last of them to read */
        struct json_object *streams; /* as worker/ide.h has them; NULL: none */
        struct json_object *new_streams; /* while they are being sorted out (ide.c) */
        uint64_t tsm_read;       /* CLOCK_REALTIME of that */
};

/* In the words of the policy: what has virtual functions now is a physical one. */
enum device_sriov { DEVICE_SRIOV_NONE, DEVICE_SRIOV_PF, DEVICE_SRIOV_VF };
enum device_sriov device_sriov(const Device *d);
Device *device_free(Device *d);
Device *device_find(Manager *m, struct tdi_bdf bdf);
Device *device_find_number(Manager *m, uint32_t number);
/* The address that a tdi_bdf_number() is of. */
struct tdi_bdf device_bdf(uint32_t number);
/* PCI bridges (class 06) are nobody's to assign, and do not count as members of a group. */
bool device_is_bridge(const Device *d);
/* Would one reset hit both? Functions of one device, or of one IOMMU group. */
bool device_shares_reset(const Device *a, const Device *b);
/*
 * Does everything that it asks for come to the IOMMU first? The kernel says so by its group: what ACS does not keep apart is in one
 * (pci_device_group), bridges too. Functions of its own device may be: they reach each other as they like, and nobody else.
 */
bool device_is_isolated(const Device *d);
/* The DSM that speaks for a function, as drivers/pci/tsm.c finds it; NULL when none can. */
Device *device_dsm(Device *d);
/* From now on it may be another one, or another in the same place. */
void device_renew(Device *d);
/* Bus path of a function. */
char *device_path(struct tdi_bdf bdf, char buf[static 64]);

/* Starts the readers; @ready runs once, when the first round of both has ended, or after a second. */
int inventory_start(Manager *m, void (*ready)(Manager *m));
void inventory_free(struct inventory *i);
/* Has tsm/ been read since the function appeared? Before that nobody knows whether it can be connected. */
bool inventory_tsm_is_known(const Device *d);
/* The custody of a function is over: one that has gone is forgotten with it. */
void inventory_released(Manager *m, struct tdi_bdf bdf);
/* Reads a function again, soon. */
void inventory_refresh(Manager *m, struct tdi_bdf bdf);
/* Reads tsm/ again, soon: after acting on it. Returns the number of a round that begins after now. */
uint64_t inventory_refresh_tsm(Manager *m);
bool inventory_tsm_round_is_done(Manager *m, uint64_t round);

#endif
