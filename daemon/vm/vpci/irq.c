/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interrupts: the client's eventfds go straight to VFIO_DEVICE_SET_IRQS (vfio_pci_set_irqs_ioctl), in the chunks that it sends, so that
 * none of our processes is in the path. But the request interrupt is tdid's: the client's eventfd for it is kept, and rung on request.
 */
#include "vm/vpci/function.h"

#include <sys/eventfd.h>

#include "log.h"
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

void irq_take_request(struct function *f, int fd) {
        int old;

        pthread_mutex_lock(&f->lock);
        old = f->request;
        f->request = fd;
        pthread_mutex_unlock(&f->lock);
        /* A stranger's: closing it may take time. */
        close_fd(old);
}

static int set_request(struct lane *l, const struct vu_irq_set *s) {
        struct function *f = l->function;
        int fd = -EBADF;

        if (s->flags & TDI_VFIO_IRQ_SET_DATA_BOOL || !(s->flags & TDI_VFIO_IRQ_SET_ACTION_TRIGGER) || s->start != 0 || s->count > 1)
                return -EINVAL;
        /* No descriptor, or no count, switches it off. A client does not ring it itself: whoever does may wait for the descriptor. */
        if (s->count == 1) {
                if (!(s->flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD))
                        return -EINVAL;
                fd = message_take_fd(&l->message, 0);
        }
        irq_take_request(f, fd);
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
            !vconfig_may_set_irqs(f->config)) {
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
        if (s.index == TDI_VFIO_PCI_REQ_IRQ_INDEX)
                return set_request(l, &s);
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
        /* The error interrupt ends with its descriptor; to end it twice is an error (vfio_pci_set_ctx_trigger_single). */
        if (r >= 0 && s.index == TDI_VFIO_PCI_ERR_IRQ_INDEX && s.flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD && !l->message.n_fds)
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

/* The descriptor is a stranger's, and may not be an eventfd: whoever writes to it may wait for ever. */
#define RINGS_MAX 8
static atomic_uint rings;

static void *ring(void *userdata) {
        int fd = (int) (intptr_t) userdata;
        uint64_t one = 1;

        if (write(fd, &one, sizeof(one)) < 0)
                log_debug("a client's request interrupt could not be rung: %s", strerror(errno));
        close_fd(fd);
        atomic_fetch_sub(&rings, 1);
        return NULL;
}

void irq_ring_request(struct function *f) {
        pthread_t thread = 0;
        int fd;

        pthread_mutex_lock(&f->lock);
        fd = f->request >= 0 ? fd_dup(f->request) : -EBADF;
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
