/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The virtual config space of a function, shared by the file that lays it out (vfio-caps.c) and the one that reads and writes it. */
#ifndef TDI_SIM_VFIO_CONFIG_H
#define TDI_SIM_VFIO_CONFIG_H

#include "sim/vfio.h"

#define NO_CAP 0xffff
#define HEADER 0          /* index of the type-0 header among the capabilities */
#define CAPS_MAX 1024

struct cap {
        uint16_t id, start, size;
        bool extended;
        bool raw;         /* writes go to hardware as they are */
};

struct vfio_config {
        size_t size;
        uint8_t value[SIM_CONFIG_SIZE];   /* what is remembered */
        uint8_t kept[SIM_CONFIG_SIZE];    /* bits that come from value */
        uint8_t writable[SIM_CONFIG_SIZE];
        uint16_t of[SIM_CONFIG_SIZE];     /* index of the capability that a byte belongs to; NO_CAP: none, raw access */
        struct cap cap[CAPS_MAX];
        unsigned n_caps;
        uint32_t bars[7];                 /* the real ones, to notice a reset behind our back */
        bool bars_written;
        unsigned msi;                     /* where the capability is */
};

static inline uint16_t config_value16(const struct vfio_config *g, unsigned offset) {
        uint16_t v;

        memcpy(&v, g->value + offset, sizeof(v));
        return v;
}

static inline void config_set16(struct vfio_config *g, unsigned offset, uint16_t v) {
        memcpy(g->value + offset, &v, sizeof(v));
}

#endif
