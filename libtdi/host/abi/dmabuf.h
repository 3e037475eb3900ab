/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's ABI for dma-bufs that exist, and for allocating one from a dma-heap (/dev/dma_heap/NAME).
 *
 * Not here: fences (EXPORT/IMPORT_SYNC_FILE), which nothing of ours waits on. How a VFIO device exports one is in vfio.h, how
 * one is made from a memfd in udmabuf.h.
 */
#pragma once

#include "types.h"

#define TDI_DMA_BUF_BASE 'b'

/* Brackets an access through mmap. */
struct tdi_dma_buf_sync {
        uint64_t flags;
};
#define TDI_DMA_BUF_SYNC_READ (1 << 0)
#define TDI_DMA_BUF_SYNC_WRITE (2 << 0)
#define TDI_DMA_BUF_SYNC_RW (TDI_DMA_BUF_SYNC_READ | TDI_DMA_BUF_SYNC_WRITE)
#define TDI_DMA_BUF_SYNC_START (0 << 2)
#define TDI_DMA_BUF_SYNC_END (1 << 2)
#define TDI_DMA_BUF_SYNC_VALID_FLAGS_MASK (TDI_DMA_BUF_SYNC_RW | TDI_DMA_BUF_SYNC_END)
#define TDI_DMA_BUF_IOCTL_SYNC _IOW(TDI_DMA_BUF_BASE, 0, struct tdi_dma_buf_sync)

/* The argument is a string, not a pointer to the integer that its size suggests; EINVAL when it is longer, NUL included. */
#define TDI_DMA_BUF_NAME_LEN 32
#define TDI_DMA_BUF_SET_NAME_B _IOW(TDI_DMA_BUF_BASE, 1, uint64_t)

/* ---- dma-heap ---- */

struct tdi_dma_heap_allocation_data {
        uint64_t len;
        uint32_t fd;       /* out */
        uint32_t fd_flags; /* O_CLOEXEC and an access mode */
        uint64_t heap_flags;
};
#define TDI_DMA_HEAP_IOC_MAGIC 'H'
#define TDI_DMA_HEAP_VALID_HEAP_FLAGS (0ULL)
#define TDI_DMA_HEAP_IOCTL_ALLOC _IOWR(TDI_DMA_HEAP_IOC_MAGIC, 0x0, struct tdi_dma_heap_allocation_data)
