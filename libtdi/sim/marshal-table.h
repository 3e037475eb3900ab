/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A row of the marshalling table: where the pieces of one ioctl's argument are. Read by marshal.c alone.
 */
#ifndef TDI_SIM_MARSHAL_TABLE_H
#define TDI_SIM_MARSHAL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How long the struct is. */
enum sim_arg {
        SIM_ARG_VALUE,   /* the argument is a number, or there is none */
        SIM_ARG_FIXED,   /* row->size */
        SIM_ARG_STRING,  /* terminated, at most row->size with the NUL; what is longer travels cut, one byte too long */
        SIM_ARG_ARGSZ,   /* its u32 argsz, of which no more than row->size goes in (the answer may grow, see below) */
        SIM_ARG_SIZED,   /* its u32 size, as iommufd's: what is beyond row->size is for the kernel to refuse */
        SIM_ARG_COUNTED, /* row->size, and a u32 count of array elements behind it */
        SIM_ARG_IRQ_SET, /* VFIO_DEVICE_SET_IRQS: an array whose elements the flags choose */
        SIM_ARG_FEATURE, /* VFIO_DEVICE_FEATURE: data whose length the feature decides */
};

/* A u32 member under a mask that has to have a value; mask 0: always. */
struct sim_when {
        uint16_t at;
        uint32_t mask, value;
};

/* What a pointer in the struct points to. scale 0 ends the list. */
struct sim_pointer {
        uint16_t at;        /* of the u64 */
        uint16_t scale;     /* bytes, times the members below where there are such */
        uint16_t length_at; /* u32 member; 0: none */
        uint16_t times_at;  /* a second one */
        bool in, out;
        uint16_t used_at;   /* u32 member by which the kernel says how much it has written; 0: none */
        uint32_t most;      /* longer ones by length_at the kernel refuses without a look, so they do not travel; 0: SIM_ARG_MAX is the limit */
        bool fill;          /* the kernel writes all of it; else as long as used_at or the lengths say that come back */
        struct sim_when when;
};

/* Where descriptors go in. stride 0: none; count_at 0: as many as count, and one where that is 0. */
struct sim_passed {
        uint16_t at;
        uint16_t stride;
        uint16_t count_at;
        uint16_t count;
        bool behind; /* in what the first pointer points to */
        struct sim_when when;
};

struct sim_row {
        unsigned long request;
        const char *name;
        enum sim_arg arg;
        uint16_t size;                       /* of the largest known version of the struct, without trailing arrays */
        uint16_t count_at, element;          /* of a trailing array: SIM_ARG_COUNTED; with SIM_ARG_ARGSZ the kernel writes it */
        uint16_t chain_at;                   /* SIM_ARG_ARGSZ: cap_offset, not 0 when the kernel added a capability chain */
        struct sim_pointer pointer[4];
        struct sim_passed passed;
        enum { SIM_MAKES_NONE, SIM_MAKES_RETURNED, SIM_MAKES_MEMBER } makes; /* a new descriptor */
        uint16_t made_at;                    /* the member */
};

/* NULL for a request that is not in the table. */
const struct sim_row *sim_row_find(unsigned long request);
/* The n-th row, NULL after the last. */
const struct sim_row *sim_row(size_t n);

#endif
