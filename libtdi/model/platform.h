/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The platforms that tdid knows, as one table: by what a host is recognised, and what guests and TDIs of it need. Who has to act
 * differently asks a row, never for its name. What this host is of all that, recognise.h says.
 */
#ifndef TDI_MODEL_PLATFORM_H
#define TDI_MODEL_PLATFORM_H

#include <stddef.h>

#include "util/util.h"

/* Who maps a guest's private memory for its devices' DMA. */
enum private_ram {
        PRIVATE_RAM_FIRMWARE, /* tables that the host cannot write */
        PRIVATE_RAM_HOST,     /* the host's IOMMU, which takes what it is told */
        PRIVATE_RAM_NOBODY,   /* devices do not reach it */
        PRIVATE_RAM_NONE,     /* there is none: all memory is shared */
        _PRIVATE_RAM_MAX,
};

/* The TDISP state after the TSM's bind. */
enum bind_leaves {
        BIND_LEAVES_UNKNOWN,  /* no more is known of the TSM */
        BIND_LEAVES_UNLOCKED, /* the guest asks for the lock */
        BIND_LEAVES_LOCKED,   /* bind locks as well */
        _BIND_LEAVES_MAX,
};

/* What has to be before a TDI can be taken out of its VM, as bits. */
enum platform_unwind {
        UNWIND_UNLOCKED = 1 << 0,
        UNWIND_DMA = 1 << 1,
        UNWIND_MMIO = 1 << 2,
        _UNWIND_ALL = UNWIND_UNLOCKED | UNWIND_DMA | UNWIND_MMIO,
};

struct platform_parameter {
        const char *module, *name; /* /sys/module/MODULE/parameters/NAME, which reads "Y" */
};

/* A VM type of KVM. */
struct platform_vm_type {
        const char *name;
        int number;          /* a bit of what KVM_CAP_VM_TYPES answers, on x86 only; -1: nothing answers for it */
        const char *unasked; /* why not */
};

struct platform {
        const char *name;
        const char *title;
        const char *const *aliases; /* further names that people use; NULL-terminated, or NULL, as all lists here */

        /* ---- how a host is recognised ---- */

        /* A TSM is recognised by the driver or the name of its parent device. */
        const char *const *tsm_drivers, *const *tsm_parents;
        const char *machine; /* as uname(2) has it; NULL: any */
        struct platform_vm_type vm_type;
        struct platform_parameter parameter; /* says no where the VM type is there and cannot be used; no module: none */
        const char *kvm_mode;                /* of kvm-arm.mode= on the kernel's command line; NULL: none */

        /* ---- what it is like ---- */

        bool has_tsm;
        const char *tsm_missing; /* what should be known where no TSM is; NULL: there is never one */
        bool hotplug;            /* may functions be attached after the guest has started? */
        bool early_prepare;      /* must a secure vIOMMU and the vdevices exist before boot? */
        const char *viommu;      /* the secure vIOMMU that the platform wants, NULL when it wants none */
        unsigned viommu_type;    /* of IOMMU_VIOMMU_ALLOC */
        const char *viommu_data; /* what goes with that call besides */
        unsigned tvm_arch;       /* as requests of guests by way of iommufd name it; 0: they have no name for it */
        enum bind_leaves bind_leaves;
        enum private_ram private_ram;
        const char *shared_ram;  /* what is particular about memory that guest and host share; NULL: nothing */
        unsigned unwind;         /* enum platform_unwind */
};

/* Rows; the last has a NULL name. */
extern const struct platform platforms[];

const struct platform *platform_find(const char *name);
/* By an alias too: what a user may write. */
const struct platform *platform_find_alias(const char *name);
/* The platform of a TSM's parent, or NULL. */
const struct platform *platform_of_tsm(const char *parent, const char *driver);

/* For people; NULL for what is none. */
const char *private_ram_to_string(enum private_ram who);
const char *unwind_to_string(enum platform_unwind one);

#endif
