/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A dma-buf: an object with a size and an exporter. What an importer may do with it is the exporter's business (vfio-dmabuf.c has the only
 * one that can be imported into an address space); here is what every dma-buf answers.
 */
#ifndef TDI_SIM_DMABUF_H
#define TDI_SIM_DMABUF_H

#include "sim/kernel.h"

struct sim_dmabuf {
        uint64_t size;
        const char *exporter;  /* a constant name */
        struct sim_file *file; /* no reference */
        /* end: DMA_BUF_SYNC_END. NULL: nothing to do. */
        int (*cpu_access)(struct sim_dmabuf *d, bool end);
        void (*release)(struct sim_call *c, struct sim_dmabuf *d); /* frees it */
};

/* A file of it: the object belongs to the file from then on. NULL: no memory, and d is the caller's still. */
struct sim_file *sim_dmabuf_export(struct sim_call *c, struct sim_dmabuf *d, int flags, const char *device);
/* NULL for any other file. */
struct sim_dmabuf *sim_dmabuf_of(struct sim_file *f);

/* ---- vfio-dmabuf.c ---- */
/* An address space that the buffer is mapped into: dma_buf_attachment with iopt_dmabuf_attach_revoke_ops. */
struct sim_dmabuf_import {
        struct sim_dmabuf *buffer;
        void (*revoked)(struct sim_dmabuf_import *i); /* for good: what comes back is not mapped again */
        struct sim_dmabuf_import *next;
};
/* -EOPNOTSUPP for what is no VFIO dma-buf of one range; -ENODEV while it is revoked. */
int sim_dmabuf_import(struct sim_dmabuf *d, struct sim_dmabuf_import *i);
void sim_dmabuf_unimport(struct sim_dmabuf_import *i);
/* The memory behind an imported buffer. -EFAULT beyond it, or where the function is gone. */
int sim_dmabuf_access(struct sim_dmabuf *d, uint64_t offset, void *buf, size_t size, bool write);

#endif
