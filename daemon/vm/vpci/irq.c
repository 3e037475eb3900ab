/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interrupts: the client's eventfds go straight to VFIO_DEVICE_SET_IRQS (vfio_pci_set_irqs_ioctl), in the chunks that it sends, so that
 * none of our processes is in the path. But the request and the error interrupt are tdid's: the client's eventfds for them are kept, and rung
 * when tdid has heard of it.
 */
#include "vm/vpci/function.h"

#include <sys/eventfd.h>

#include "host/fdkind.h"
#include "log.h"
#include "vm/vpci/tdisp.h"
#include "vm/vpci/thread.h"

int irq_info(struct lane *l, const void **body, size_t *size) {
        const struct function *f = l->function;
        struct vu_irq_info info;

        if (l->message.size < sizeof(info))
                return -EINVAL;
        memcpy(&info, l->message.body, sizeof(info));
        if (info.argsz < sizeof(info) || info.index >= f->n_irqs)
                return -EINVAL;
        info = (struct vu_irq_info){ sizeof(info), f->irqs[info.index].flags, info.index, f->irqs[info.index].count };
        memcpy(l->message.body, &info, sizeof(info));
        *body = l->message.body;
        *size = sizeof(info);
        return 0;
}

static bool one_bit(uint32_t v) {
        return v && !(v & (v - 1));
}

/* In the function, by index; NULL: the kernel's business. */
static int *kept(struct function *f, uint32_t index) {
        return index == TDI_VFIO_PCI_REQ_IRQ_INDEX ? &f->request : index == TDI_VFIO_PCI_ERR_IRQ_INDEX ? &f->error : NULL;
}

static void take(struct function *f, uint32_t index, int fd) {
        int old;

        pthread_mutex_lock(&f->lock);
        old = *kept(f, index);
        *kept(f, index) = fd;
        pthread_mutex_unlock(&f->lock);
        /* A stranger's: closing it may take time. */
        close_fd(old);
}

void irq_drop_kept(struct function *f) {
        take(f, TDI_VFIO_PCI_REQ_IRQ_INDEX, -EBADF);
        take(f, TDI_VFIO_PCI_ERR_IRQ_INDEX, -EBADF);
}

void irq_watch_errors(struct function *f) {
        _Alignas(struct tdi_vfio_irq_set) uint8_t room[sizeof(struct tdi_vfio_irq_set) + sizeof(int32_t)];
        struct tdi_vfio_irq_set *set = (struct tdi_vfio_irq_set *) (void *) room;
        int32_t fd = f->device_error;
        int r;

        /* It has none without a PCIe capability (vfio_pci_get_irq_count). */
        if (f->n_irqs <= TDI_VFIO_PCI_ERR_IRQ_INDEX || f->irqs[TDI_VFIO_PCI_ERR_IRQ_INDEX].count == 0)
                return;
        *set = (struct tdi_vfio_irq_set){ .argsz = sizeof(room), .flags = TDI_VFIO_IRQ_SET_DATA_EVENTFD | TDI_VFIO_IRQ_SET_ACTION_TRIGGER,
                                          .index = TDI_VFIO_PCI_ERR_IRQ_INDEX, .count = 1 };
        memcpy(set->data, &fd, sizeof(fd));
        r = host_ioctl(f->host, f->device, TDI_VFIO_DEVICE_SET_IRQS, set);
        if (r < 0)
                log_warning("%s: its errors are not heard of: VFIO_DEVICE_SET_IRQS of the error interrupt: %s", f->bdf, strerror(-r));
}

/* The eventfd is a stranger's too, who may have filled it up and made it block: whoever writes to it may wait for ever. */
#define RINGS_MAX 8
static atomic_uint rings;

static void *ring(void *userdata) {
        int fd = (int) (intptr_t) userdata;
        uint64_t one = 1;

        if (write(fd, &one, sizeof(one)) < 0)
                log_debug("a client's interrupt could not be rung: %s", strerror(errno));
        close_fd(fd);
        atomic_fetch_sub(&rings, 1);
        return NULL;
}

static void ring_kept(struct function *f, uint32_t index) {
        pthread_t thread = 0;
        int fd;

        pthread_mutex_lock(&f->lock);
        fd = *kept(f, index) >= 0 ? fd_dup(*kept(f, index)) : -EBADF;
        pthread_mutex_unlock(&f->lock);
        if (fd < 0)
                return;
        if (atomic_fetch_add(&rings, 1) < RINGS_MAX && thread_start(&thread, ring, (void *) (intptr_t) fd) >= 0) {
                (void) pthread_detach(thread);
                return;
        }
        atomic_fetch_sub(&rings, 1);
        close_fd(fd);
}

static int set_kept(struct lane *l, const struct vu_irq_set *s) {
        struct function *f = l->function;
        int fd = -EBADF;

        if (!(s->flags & TDI_VFIO_IRQ_SET_ACTION_TRIGGER) || s->start != 0 || s->count > 1)
                return -EINVAL;
        /* No descriptor, or no count, switches it off. */
        if (s->count == 1 && !(s->flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD)) {
                /* A client may ring the error interrupt to see whether it arrives. The request interrupt is tdid's alone. */
                if (s->index != TDI_VFIO_PCI_ERR_IRQ_INDEX)
                        return -EINVAL;
                if (!(s->flags & TDI_VFIO_IRQ_SET_DATA_BOOL) || l->message.body[sizeof(*s)])
                        ring_kept(f, s->index);
                return 0;
        }
        if (s->count == 1 && l->message.n_fds > 0) {
                int r = host_check_eventfd(f->host, l->message.fds[0]);

                /* The kernel does not see it, and it is root who writes to it one day. */
                if (r < 0)
                        return r;
                fd = message_take_fd(&l->message, 0);
        }
        take(f, s->index, fd);
        return 0;
}

int irq_set(struct lane *l) {
        struct function *f = l->function;
        struct tdi_vfio_irq_set *set;
        struct vu_irq_set s;
        size_t data = 0;
        int r;

        if (l->message.size < sizeof(s))
                return -EINVAL;
        memcpy(&s, l->message.body, sizeof(s));
        if (s.argsz < sizeof(s) || s.index >= f->n_irqs || s.flags & ~(uint32_t) (TDI_VFIO_IRQ_SET_DATA_TYPE_MASK | TDI_VFIO_IRQ_SET_ACTION_TYPE_MASK) ||
            !one_bit(s.flags & TDI_VFIO_IRQ_SET_DATA_TYPE_MASK) || !one_bit(s.flags & TDI_VFIO_IRQ_SET_ACTION_TYPE_MASK) ||
            s.start > f->irqs[s.index].count || s.count > f->irqs[s.index].count - s.start)
                return -EINVAL;
        /* What is locked with the interface is how interrupts are set up (PCIe 6, 11.2), not whether one is masked for a moment. */
        if (s.flags & TDI_VFIO_IRQ_SET_ACTION_TRIGGER && s.flags & (TDI_VFIO_IRQ_SET_DATA_EVENTFD | TDI_VFIO_IRQ_SET_DATA_NONE) &&
            !(l->message.n_fds > 0 ? vconfig_may_add_irqs(f->config) : vconfig_may_set_irqs(f->config))) {
                atomic_fetch_add_explicit(&f->refused, 1, memory_order_relaxed);
                return -EPERM;
        }
        if (s.flags & TDI_VFIO_IRQ_SET_DATA_BOOL)
                data = s.count;
        else if (s.flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD)
                data = s.count * sizeof(int32_t);
        if (s.flags & TDI_VFIO_IRQ_SET_DATA_BOOL && l->message.size - sizeof(s) < s.count)
                return -EINVAL;
        /* None stands for -1 in all places: switch these off. */
        if (s.flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD ? l->message.n_fds != 0 && l->message.n_fds != s.count : l->message.n_fds != 0)
                return -EINVAL;
        if (kept(l->function, s.index))
                return set_kept(l, &s);
        r = lane_room(l, sizeof(*set) + data);
        if (r < 0)
                return r;
        set = (struct tdi_vfio_irq_set *) (void *) l->reply;
        *set = (struct tdi_vfio_irq_set){
                .argsz = (uint32_t) (sizeof(*set) + data), .flags = s.flags, .index = s.index, .start = s.start, .count = s.count
        };
        if (s.flags & TDI_VFIO_IRQ_SET_DATA_BOOL)
                memcpy(set->data, l->message.body + sizeof(s), data);
        for (uint32_t i = 0; s.flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD && i < s.count; i++) {
                int32_t fd = l->message.n_fds ? l->message.fds[i] : -1;

                memcpy(set->data + i * sizeof(fd), &fd, sizeof(fd));
        }
        r = host_ioctl(f->host, f->device, TDI_VFIO_DEVICE_SET_IRQS, set);
        if (r >= 0 && s.flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD && l->message.n_fds)
                f->irqs[s.index].used = true;
        if (r >= 0 && s.flags & TDI_VFIO_IRQ_SET_DATA_NONE && s.flags & TDI_VFIO_IRQ_SET_ACTION_TRIGGER && s.count == 0)
                f->irqs[s.index].used = false;
        return r < 0 ? r : 0;
}

void irq_disable_all(struct function *f) {
        /* To switch them off ends a TDI that is bound: before the next client is served, or with the device. */
        if (!vconfig_may_set_irqs(f->config))
                return;
        for (uint32_t i = 0; i < f->n_irqs; i++) {
                struct tdi_vfio_irq_set off = {
                        .argsz = sizeof(off), .flags = TDI_VFIO_IRQ_SET_DATA_NONE | TDI_VFIO_IRQ_SET_ACTION_TRIGGER, .index = i
                };
                int r;

                if (!f->irqs[i].used)
                        continue;
                r = host_ioctl(f->host, f->device, TDI_VFIO_DEVICE_SET_IRQS, &off);
                if (r < 0)
                        log_warning("%s: could not switch interrupts of index %u off: %s", f->bdf, i, strerror(-r));
                f->irqs[i].used = false;
        }
}

void irq_ring_request(struct function *f) {
        ring_kept(f, TDI_VFIO_PCI_REQ_IRQ_INDEX);
}

void irq_on_error(struct function *f) {
        if (eventfd_read(f->device_error, &(eventfd_t){ 0 }) < 0)
                return;
        /* Nothing reaches it any more before its client hears of it. */
        tdisp_device_error(f);
        vpci_event(f->vpci, f->bdf, "error", "the device has reported an error (AER), which it may not recover from without a reset; the kernel's log tells more");
        ring_kept(f, TDI_VFIO_PCI_ERR_IRQ_INDEX);
}
