/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The vfio-user protocol as it is on the wire (QEMU docs/interop/vfio-user.rst, protocol 0.0): host endian, no padding but what
 * is named. A message is a header and, behind it, one of the bodies; descriptors come as ancillary data of the header's first byte.
 */
#ifndef TDID_VPCI_WIRE_H
#define TDID_VPCI_WIRE_H

#include <stdint.h>

#define VU_MAJOR 0
#define VU_MINOR 0

enum vu_command {
        VU_VERSION = 1,
        VU_DMA_MAP = 2,
        VU_DMA_UNMAP = 3,
        VU_DEVICE_GET_INFO = 4,
        VU_DEVICE_GET_REGION_INFO = 5,
        VU_DEVICE_GET_REGION_IO_FDS = 6,
        VU_DEVICE_GET_IRQ_INFO = 7,
        VU_DEVICE_SET_IRQS = 8,
        VU_REGION_READ = 9,
        VU_REGION_WRITE = 10,
        VU_DMA_READ = 11,  /* server to client */
        VU_DMA_WRITE = 12, /* server to client */
        VU_DEVICE_RESET = 13,
        VU_REGION_WRITE_MULTI = 15,
        VU_DEVICE_FEATURE = 16,
        VU_MIG_DATA_READ = 17,
        VU_MIG_DATA_WRITE = 18,
        VU_COMMAND_MAX
};

#define VU_FLAGS_TYPE 0xfU
#define VU_TYPE_COMMAND 0U
#define VU_TYPE_REPLY 1U
#define VU_FLAGS_NO_REPLY (1U << 4)
#define VU_FLAGS_ERROR (1U << 5)

struct vu_header {
        uint16_t id;
        uint16_t command;
        uint32_t size;  /* with this header */
        uint32_t flags;
        uint32_t error; /* a positive errno, with VU_FLAGS_ERROR */
};

struct vu_version {
        uint16_t major, minor; /* followed by JSON with its NUL; may be absent */
};

#define VU_DMA_READABLE (1U << 0)
#define VU_DMA_WRITABLE (1U << 1)

struct vu_dma_map {
        uint32_t argsz, flags;
        uint64_t offset; /* into the descriptor */
        uint64_t address, size;
};

#define VU_UNMAP_DIRTY_BITMAP (1U << 0)
#define VU_UNMAP_ALL (1U << 1)

struct vu_dma_unmap {
        uint32_t argsz, flags;
        uint64_t address, size;
};

struct vu_device_info {
        uint32_t argsz, flags, num_regions, num_irqs;
};

struct vu_region_info {
        uint32_t argsz, flags, index, cap_offset;
        uint64_t size, offset;
};

struct vu_irq_info {
        uint32_t argsz, flags, index, count;
};

struct vu_irq_set {
        uint32_t argsz, flags, index, start, count; /* followed by a byte for each, with DATA_BOOL */
};

struct vu_region_access {
        uint64_t offset;
        uint32_t region, count; /* followed by the data */
};

struct vu_write_multi {
        uint64_t count; /* followed by that many of: */
};

struct vu_write_one {
        uint64_t offset;
        uint32_t region, count;
        uint8_t data[8];
};

struct vu_device_feature {
        uint32_t argsz, flags; /* followed by the feature's own data */
};

#endif
