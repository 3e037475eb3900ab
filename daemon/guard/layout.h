/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * What the programs in the kernel and the processes that load them both know: keys and values of their maps. Read by clang for BPF
 * too, so nothing but fixed-size integers is in here, and every structure is without holes: the kernel compares keys byte by byte.
 *
 * Whoever changes anything here needs to do nothing more: a set of pins is named after the object that was loaded, and one of another name
 * is replaced, never read.
 */
#ifndef TDID_GUARD_LAYOUT_H
#define TDID_GUARD_LAYOUT_H

#include <linux/types.h>

/* How an object is recognised: never by a name or by st_dev, which differ from namespace to namespace. */
enum guard_type {
        GUARD_SYSFS = 1, /* inode number below a super block with SYSFS_MAGIC: kernfs has one numbering for all of them */
        GUARD_PROC,      /* the same with PROC_SUPER_MAGIC: that of the entry, whichever pid namespace the mount is of */
        GUARD_CHAR,      /* i_rdev of a character device's node, made by whomever */
        GUARD_MAPPING,   /* f_mapping of an open file: what shares the pages of a VFIO device */
        GUARD_BPFFS,     /* inode number below a super block with BPF_FS_MAGIC: folders with our own pins, and the root above them */
};

struct guard_key {
        __u64 value;
        __u32 type; /* enum guard_type */
        __u32 zero;
};

/* What people are told that it was; guard_kind_to_string(). */
enum guard_kind {
        GUARD_KIND_VFIO,     /* the VFIO character device, and what shares its pages */
        GUARD_KIND_GROUP,    /* the node of its VFIO group */
        GUARD_KIND_RESOURCE, /* sysfs resourceN, resourceN_wc, p2pmem/allocate */
        GUARD_KIND_PROC,     /* /proc/bus/pci/BB/DD.F */
        GUARD_KIND_CONFIG,   /* sysfs config */
        GUARD_KIND_RESET,    /* sysfs reset, reset_method */
        GUARD_KIND_REMOVE,   /* sysfs remove */
        GUARD_KIND_MEM,      /* /dev/mem */
        GUARD_KIND_PINS,     /* our own pins */
        GUARD_KIND_MAX
};

/* What is refused. */
#define GUARD_DENY_MMAP (1u << 0)
#define GUARD_DENY_WRITE (1u << 1)  /* to open it for writing, but for those who are excused */
#define GUARD_DENY_CHANGE (1u << 2) /* to unlink or rename it or what is in it, the same */
#define GUARD_DENY_UMOUNT (1u << 3) /* in the host's own mount namespace, the same */

/* A function: domain << 16 | bus << 8 | device << 3 | function, as tdi_bdf_number() has it. What belongs to none of them has this. */
#define GUARD_NO_FUNCTION 0xffffffffu

struct guard_object {
        __u32 function;
        __u16 kind;
        __u16 deny;
};

/* A function that is guarded. */
struct guard_function {
        __u64 refused[GUARD_KIND_MAX];
        __u32 group; /* rdev of its VFIO group's node, which others may share; 0: none */
        __u32 zero;
};

/* One refusal, in the ring buffer. */
struct guard_event {
        __u32 function;
        __u16 kind;
        __u16 what; /* the GUARD_DENY_ that it was */
        __u32 pid;  /* of the process, in the first pid namespace */
        __u32 uid;
        char comm[16];
};

/* What the two iterators answer: a mapping, or a descriptor open for writing. */
struct guard_found {
        __u32 function;
        __u16 kind;
        __u16 zero;
        __u32 pid;
        char comm[16];
};

#define GUARD_OBJECTS_MAX 32768
#define GUARD_FUNCTIONS_MAX 1024
#define GUARD_RING_SIZE 65536

#endif
