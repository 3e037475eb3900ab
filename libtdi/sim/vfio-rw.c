/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Access to BARs: drivers/vfio/pci/vfio_pci_rdwr.c. Each piece of a transfer is as wide as its alignment allows, takes the memory lock
 * for itself (and so waits while a reset runs), and is -EIO while memory is switched off. The MSI-X table is not reached.
 */
#include "sim/vfio.h"

static int access_begin(struct sim_call *c, struct sim_vfio *v, const struct sim_bar *bar) {
        if (bar->io)
                return 0;
        sim_down_read(c, &v->memory_lock);
        if (vfio_memory_enabled(v))
                return 0;
        sim_up_read(c, &v->memory_lock);
        return -EIO;
}

static void access_end(struct sim_call *c, struct sim_vfio *v, const struct sim_bar *bar) {
        if (!bar->io)
                sim_up_read(c, &v->memory_lock);
}

/* A function that does not decode its memory, that is gone, or that nothing was put behind answers with ones. */
static bool answers(struct sim_vfio *v, const struct sim_bar *bar) {
        if (!v->fn->present || !v->fn->model)
                return false;
        /* A VF decodes when its PF says so, which it does from the moment that there are VFs (sriov_enable). */
        return v->fn->physfn || v->fn->config[PCI_COMMAND] & (bar->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
}

static int piece(struct sim_call *c, struct sim_vfio *v, unsigned n, uint64_t offset, uint8_t *buf, const uint8_t *data, size_t width) {
        const struct sim_bar *bar = &v->fn->bar[n];
        int r;

        r = access_begin(c, v, bar);
        if (r < 0)
                return r;
        if (answers(v, bar)) {
                if (data)
                        v->fn->model->write(c, v->fn, n, offset, data, width);
                else
                        v->fn->model->read(c, v->fn, n, offset, buf, width);
        } else if (buf)
                memset(buf, 0xff, width);
        access_end(c, v, bar);
        return 0;
}

static size_t width_of(uint64_t offset, size_t size) {
        size_t width = 8;

        while (width > 1 && (size < width || offset % width != 0))
                width /= 2;
        return width;
}

/* vfio_pci_bar_rw() and vfio_pci_core_do_io_rw(): a transfer that fails in its middle fails as a whole. */
static ssize_t transfer(struct sim_call *c, struct sim_vfio *v, unsigned n, uint8_t *buf, const uint8_t *data, size_t size,
                        uint64_t offset) {
        const struct sim_bar *bar = &v->fn->bar[n];
        uint64_t start = 0, end = 0;
        unsigned msix;
        size_t done = 0;

        if (bar->size == 0 || offset >= bar->size)
                return -EINVAL;
        if (size > bar->size - offset)
                size = (size_t) (bar->size - offset);
        if (!vfio_msix_table(v->fn, &msix, &start, &end) || msix != n)
                start = end = 0;
        while (done < size) {
                uint64_t at = offset + done;
                size_t left = size - done, width;
                int r;

                if (at >= start && at < end) {
                        width = left < end - at ? left : (size_t) (end - at);
                        if (buf)
                                memset(buf + done, 0xff, width);
                        done += width;
                        continue;
                }
                if (at < start && left > start - at)
                        left = (size_t) (start - at);
                width = width_of(at, left);
                r = piece(c, v, n, at, buf ? buf + done : NULL, data ? data + done : NULL, width);
                if (r < 0)
                        return r;
                done += width;
        }
        return (ssize_t) done;
}

ssize_t vfio_bar_read(struct sim_call *c, struct sim_vfio *v, unsigned bar, void *buf, size_t size, uint64_t offset) {
        return transfer(c, v, bar, buf, NULL, size, offset);
}

ssize_t vfio_bar_write(struct sim_call *c, struct sim_vfio *v, unsigned bar, const void *buf, size_t size, uint64_t offset) {
        return transfer(c, v, bar, NULL, buf, size, offset);
}

/* ---- writes that an eventfd makes ---- */

/* While the memory lock is taken, the event is put off: vfio_pci_ioeventfd_handler() leaves it to a thread then. */
static void ioeventfd_fired(struct sim_call *c, struct vfio_watch *w) {
        if (w->vfio->memory_lock.writer || w->vfio->memory_lock.waiting_writers > 0) {
                vfio_event_signal(w->fd);
                return;
        }
        (void) piece(c, w->vfio, w->bar, w->pos, NULL, (const uint8_t *) &w->data, w->count);
}

/* vfio_pci_ioeventfd() */
int vfio_ioeventfd(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_device_ioeventfd *e = (void *) io->arg;
        uint64_t pos = e->offset & VFIO_OFFSET_MASK, bar = e->offset >> VFIO_OFFSET_SHIFT, start, end;
        unsigned count = e->flags & TDI_VFIO_DEVICE_IOEVENTFD_SIZE_MASK, msix;
        struct vfio_watch *w;
        int fd, r;

        (void) c;
        if (e->argsz < offsetof(struct tdi_vfio_device_ioeventfd, reserved) || e->flags & ~(uint32_t) TDI_VFIO_DEVICE_IOEVENTFD_SIZE_MASK ||
            count == 0 || (count & (count - 1)) != 0 || e->fd < -1)
                return -EINVAL;
        if (bar > TDI_VFIO_PCI_BAR5_REGION_INDEX || pos + count > v->fn->bar[bar].size)
                return -EINVAL;
        if (vfio_msix_table(v->fn, &msix, &start, &end) && msix == bar && pos + count > start && pos < end)
                return -EINVAL;
        for (w = vfio_machine(v->sim)->watches; w; w = w->next)
                if (w->vfio == v && w->fired == ioeventfd_fired && w->bar == bar && w->pos == pos && w->data == e->data &&
                    w->count == count) {
                        if (e->fd != -1)
                                return -EEXIST;
                        vfio_watch_remove(v, w);
                        v->n_ioeventfds--;
                        return 0;
                }
        if (e->fd < 0)
                return -ENODEV;
        if (v->n_ioeventfds >= VFIO_IOEVENTFD_MAX)
                return -ENOSPC;
        fd = vfio_event_take(io, 0, e->fd);
        if (fd < 0)
                return fd;
        r = vfio_watch_add(v, fd, ioeventfd_fired, &w);
        if (r < 0) {
                close_fd(fd);
                return r;
        }
        w->bar = (unsigned) bar;
        w->pos = pos;
        w->data = e->data;
        w->count = count;
        v->n_ioeventfds++;
        return 0;
}

void vfio_ioeventfds_free(struct sim_vfio *v) {
        for (struct vfio_watch *w = vfio_machine(v->sim)->watches, *next; w; w = next) {
                next = w->next;
                if (w->vfio == v && w->fired == ioeventfd_fired)
                        vfio_watch_remove(v, w);
        }
        v->n_ioeventfds = 0;
}
