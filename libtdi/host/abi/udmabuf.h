/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's ABI of /dev/udmabuf: a dma-buf made from pieces of memfds.
 *
 * The memfd must be sealed against shrinking and must not be sealed against writing; offset and size are whole pages.
 */
#pragma once

#include "types.h"

#define TDI_UDMABUF_FLAGS_CLOEXEC 0x01

struct tdi_udmabuf_create {
        uint32_t memfd;
        uint32_t flags;
        uint64_t offset;
        uint64_t size;
};
#define TDI_UDMABUF_CREATE _IOW('u', 0x42, struct tdi_udmabuf_create)

struct tdi_udmabuf_create_item {
        uint32_t memfd;
        uint32_t __pad;
        uint64_t offset;
        uint64_t size;
};

struct tdi_udmabuf_create_list {
        uint32_t flags;
        uint32_t count;
        struct tdi_udmabuf_create_item list[];
};
#define TDI_UDMABUF_CREATE_LIST _IOW('u', 0x43, struct tdi_udmabuf_create_list)
