/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A dma-buf: an object with a size, an exporter, and importers that are attached to it (drivers/dma-buf/dma-buf.c). What an importer may
 * do is the exporter's business: VFIO's are in vfio-dmabuf.c, memory's in dmabuf.c, one that moves in importer.c.
 */
#ifndef TDI_SIM_DMABUF_H
#define TDI_SIM_DMABUF_H

#include "sim/kernel.h"

struct sim_dmabuf;

/* An importer's attachment: dma_buf_attachment. */
struct sim_dmabuf_import {
        struct sim_dmabuf *buffer;
        bool peer_to_peer; /* dma_buf_attach_ops.allow_peer2peer */
        bool mapped;       /* it has a mapping: sim_dmabuf_map() */
        /* What was mapped is going (dma_buf_invalidate_mappings). NULL: it does not listen. */
        void (*invalidate)(struct sim_dmabuf_import *i);
        struct sim_dmabuf_import *next;
};

/* What an importer sees of a mapping. */
struct sim_dmabuf_mapping {
        uint64_t address, length;
        uint32_t segments;
};

struct sim_dmabuf_ops {
        const char *exporter; /* a constant name */
        /* May this importer attach? NULL: any may. */
        int (*attach)(struct sim_dmabuf *d, struct sim_dmabuf_import *i);
        int (*map)(struct sim_dmabuf *d, struct sim_dmabuf_mapping *ret);
        /* What is in it. -EFAULT beyond it, or where it cannot be reached. */
        int (*access)(struct sim_dmabuf *d, uint64_t offset, void *buf, size_t size, bool write);
        /* end: DMA_BUF_SYNC_END. NULL: nothing to do. */
        int (*cpu_access)(struct sim_dmabuf *d, bool end);
        void (*release)(struct sim_call *c, struct sim_dmabuf *d); /* frees it */
};

struct sim_dmabuf {
        const struct sim_dmabuf_ops *ops;
        uint64_t size;
        struct sim_file *file; /* no reference */
        struct sim_dmabuf_import *imports;
        struct sim_wait unmapped;
};

/* A file of it: the object belongs to the file from then on. NULL: no memory, and d is the caller's still. */
struct sim_file *sim_dmabuf_export(struct sim_call *c, struct sim_dmabuf *d, int flags, const char *device);
/* NULL for any other file. */
struct sim_dmabuf *sim_dmabuf_of(struct sim_file *f);

/* ---- importers; each holds a reference of the file ---- */

/* With peer_to_peer and invalidate set. What the exporter says: -EOPNOTSUPP, -ENODEV. */
int sim_dmabuf_attach(struct sim_dmabuf *d, struct sim_dmabuf_import *i);
void sim_dmabuf_detach(struct sim_dmabuf_import *i);
int sim_dmabuf_map(struct sim_dmabuf_import *i, struct sim_dmabuf_mapping *ret);
void sim_dmabuf_unmap(struct sim_dmabuf_import *i);
int sim_dmabuf_access(struct sim_dmabuf *d, uint64_t offset, void *buf, size_t size, bool write);
/* For exporters: tells all importers that what they mapped goes, and waits, without bound, until none has it any more. */
void sim_dmabuf_invalidate(struct sim_call *c, struct sim_dmabuf *d); /* sleeps */

/* ---- vfio-dmabuf.c ---- */
/* As iommufd does it, which goes by the address and maps nothing (vfio_pci_dma_buf_iommufd_map). -EOPNOTSUPP for what is no VFIO dma-buf of one range. */
int sim_dmabuf_import(struct sim_dmabuf *d, struct sim_dmabuf_import *i);

#endif
