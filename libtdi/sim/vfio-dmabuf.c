/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dma-bufs over ranges of a BAR: drivers/vfio/pci/vfio_pci_dmabuf.c. They are revoked whenever the memory cannot be reached and come
 * back afterwards, but not after the device's last close. A revoke waits for importers to let go; an address space does so at once, and
 * for good.
 */
#include "sim/vfio.h"

#include "sim/dmabuf.h"

struct vfio_dmabuf {
        struct sim_dmabuf buffer;
        struct sim_vfio *vfio;        /* NULL when the device was closed */
        unsigned bar;
        bool revoked;
        bool released;                /* its file is gone: get_file_active() passes it over */
        uint32_t n_ranges;
        struct tdi_vfio_region_dma_range *ranges;
        struct vfio_dmabuf *next;
};

static const struct sim_dmabuf_ops vfio_dmabuf_ops;

static struct vfio_dmabuf *vfio_dmabuf_of(struct sim_dmabuf *d) {
        return d->ops == &vfio_dmabuf_ops ? (struct vfio_dmabuf *) d : NULL;
}

static void unlink_dmabuf(struct vfio_dmabuf *d) {
        for (struct vfio_dmabuf **p = &d->vfio->dmabufs; *p; p = &(*p)->next)
                if (*p == d) {
                        *p = d->next;
                        break;
                }
        d->next = NULL;
        vfio_put(TAKE_PTR(d->vfio));
}

static void dmabuf_release(struct sim_call *c, struct sim_dmabuf *buffer) {
        struct vfio_dmabuf *d = (struct vfio_dmabuf *) buffer;
        struct sim_vfio *v = d->vfio;

        d->released = true;
        if (v) {
                sim_down_write(c, &v->memory_lock);
                sim_up_write(c, &v->memory_lock);
                unlink_dmabuf(d);
        }
        free(d->ranges);
        free(d);
}

/* Sleeps: with the lock held nobody else changes the list, and whoever releases a buffer waits for it. Importers hear of a return, too. */
void vfio_dmabufs_move(struct sim_call *c, struct sim_vfio *v, bool revoked) {
        for (struct vfio_dmabuf *d = v->dmabufs; d; d = d->next)
                if (!d->released && d->revoked != revoked) {
                        if (revoked)
                                d->revoked = true;
                        sim_dmabuf_invalidate(c, &d->buffer);
                        d->revoked = revoked;
                }
}

void vfio_dmabufs_cleanup(struct sim_call *c, struct sim_vfio *v) {
        sim_down_write(c, &v->memory_lock);
        vfio_dmabufs_move(c, v, true);
        for (struct vfio_dmabuf *d = v->dmabufs, *next; d; d = next) {
                next = d->next;
                if (!d->released)
                        unlink_dmabuf(d);
        }
        sim_up_write(c, &v->memory_lock);
}

/* validate_dmabuf_input() and vfio_pci_core_fill_phys_vec() */
static int check_ranges(const struct sim_bar *bar, const struct tdi_vfio_region_dma_range *ranges, uint32_t n, uint64_t *ret_size) {
        uint64_t size = 0, start, end;

        for (uint32_t i = 0; i < n; i++)
                if (ranges[i].length == 0 || ranges[i].offset % PAGE_SIZE_ || ranges[i].length % PAGE_SIZE_ ||
                    __builtin_add_overflow(size, ranges[i].length, &size))
                        return -EINVAL;
        if (size >> 63) /* DMA_IOVA_USE_SWIOTLB */
                return -EINVAL;
        if (bar->io)
                return -EINVAL; /* pcim_p2pdma_provider() */
        for (uint32_t i = 0; i < n; i++) {
                if (__builtin_add_overflow(bar->address, ranges[i].offset, &start) || __builtin_add_overflow(start, ranges[i].length, &end))
                        return -EOVERFLOW;
                if (end > bar->address + bar->size)
                        return -EINVAL;
        }
        *ret_size = size;
        return 0;
}

int vfio_feature_dmabuf(struct sim_call *c, struct sim_vfio *v, uint32_t flags, struct sim_ioctl *io) {
        const size_t header = sizeof(struct tdi_vfio_device_feature);
        _cleanup_free_ struct tdi_vfio_region_dma_range *ranges = NULL;
        struct tdi_vfio_device_feature_dma_buf get;
        struct vfio_dmabuf *d;
        struct sim_file *f;
        uint64_t size;
        int r;

        r = vfio_check_feature(flags, io->size - header, TDI_VFIO_DEVICE_FEATURE_GET, sizeof(get));
        if (r != 1)
                return r;
        memcpy(&get, io->arg + header, sizeof(get));
        if (get.nr_ranges == 0 || get.flags != 0)
                return -EINVAL;
        if (get.region_index >= TDI_VFIO_PCI_ROM_REGION_INDEX || v->fn->bar[get.region_index].size == 0)
                return -ENODEV;
        if (get.nr_ranges > (io->size - header - sizeof(get)) / sizeof(*ranges))
                return -EFAULT; /* they are not there */
        ranges = malloc(get.nr_ranges * sizeof(*ranges));
        if (!ranges)
                return -ENOMEM;
        memcpy(ranges, io->arg + header + sizeof(get), get.nr_ranges * sizeof(*ranges));
        r = check_ranges(&v->fn->bar[get.region_index], ranges, get.nr_ranges, &size);
        if (r < 0)
                return r;
        d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        d->buffer.size = size;
        d->buffer.ops = &vfio_dmabuf_ops;
        d->bar = get.region_index;
        d->n_ranges = get.nr_ranges;
        d->ranges = TAKE_PTR(ranges);
        f = sim_dmabuf_export(c, &d->buffer, (int) get.open_flags, v->fn->bdf);
        if (!f) {
                free(d->ranges);
                free(d);
                return -ENOMEM;
        }
        sim_down_write(c, &v->memory_lock);
        d->vfio = v;
        v->refs++;
        d->revoked = !vfio_memory_enabled(v);
        for (struct vfio_dmabuf **p = &v->dmabufs;; p = &(*p)->next)
                if (!*p) {
                        *p = d;
                        break;
                }
        sim_up_write(c, &v->memory_lock);
        io->out[io->n_out++] = f;
        return 0;
}

/* ---- importers ---- */

/* vfio_pci_dma_buf_attach() */
static int dmabuf_attach(struct sim_dmabuf *buffer, struct sim_dmabuf_import *i) {
        const struct vfio_dmabuf *d = (const struct vfio_dmabuf *) buffer;

        if (!i->peer_to_peer)
                return -EOPNOTSUPP;
        if (d->revoked)
                return -ENODEV;
        return i->invalidate ? 0 : -EOPNOTSUPP;
}

/* vfio_pci_dma_buf_map() */
static int dmabuf_map(struct sim_dmabuf *buffer, struct sim_dmabuf_mapping *ret) {
        const struct vfio_dmabuf *d = (const struct vfio_dmabuf *) buffer;
        const struct tdi_vfio_region_dma_range *q = d->ranges;

        if (d->revoked || !d->vfio)
                return -ENODEV;
        *ret = (struct sim_dmabuf_mapping) { .address = d->vfio->fn->bar[d->bar].address + q->offset, .length = buffer->size, .segments = 1 };
        for (uint32_t i = 1; i < d->n_ranges; i++)
                ret->segments += q[i].offset != q[i - 1].offset + q[i - 1].length;
        return 0;
}

/* dma_buf_dynamic_attach() and vfio_pci_dma_buf_iommufd_map() */
int sim_dmabuf_import(struct sim_dmabuf *buffer, struct sim_dmabuf_import *i) {
        const struct vfio_dmabuf *d = vfio_dmabuf_of(buffer);

        if (!d)
                return -EOPNOTSUPP;
        if (d->revoked)
                return -ENODEV;
        if (d->n_ranges != 1)
                return -EOPNOTSUPP;
        i->peer_to_peer = true;
        return sim_dmabuf_attach(buffer, i);
}

/* Another function's DMA: the memory of this one answers as it does to a CPU. */
static int dmabuf_access(struct sim_dmabuf *buffer, uint64_t offset, void *buf, size_t size, bool write) {
        struct vfio_dmabuf *d = (struct vfio_dmabuf *) buffer;
        const struct tdi_vfio_region_dma_range *q = d->ranges;
        struct sim_function *fn;
        struct sim_call c;
        uint8_t *p = buf;

        if (d->revoked || !d->vfio)
                return -EFAULT;
        fn = d->vfio->fn;
        if (!fn->present || !fn->model)
                return -EFAULT;
        c = (struct sim_call) { .sim = fn->sim };
        while (size > 0) {
                size_t n = 8;

                while (offset >= q->length) {
                        offset -= q->length;
                        q++;
                }
                while (n > size || offset % n != 0)
                        n /= 2;
                if (write)
                        fn->model->write(&c, fn, d->bar, q->offset + offset, p, n);
                else
                        fn->model->read(&c, fn, d->bar, q->offset + offset, p, n);
                p += n;
                offset += n;
                size -= n;
        }
        return 0;
}

static const struct sim_dmabuf_ops vfio_dmabuf_ops = {
        .exporter = "vfio_pci_core", .attach = dmabuf_attach, .map = dmabuf_map, .access = dmabuf_access, .release = dmabuf_release,
};
