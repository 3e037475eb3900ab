/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interrupts: SET_IRQS in all its forms, and what the function's interrupts do to the eventfds (drivers/vfio/pci/vfio_pci_intrs.c).
 * Only one of INTx, MSI and MSI-X is on at a time.
 */
#include "sim/vfio.h"

unsigned vfio_irq_count(const struct sim_vfio *v, unsigned index) {
        unsigned cap;

        switch (index) {
        case TDI_VFIO_PCI_INTX_IRQ_INDEX:
                return vfio_config_has_intx(v) ? 1 : 0;
        case TDI_VFIO_PCI_MSI_IRQ_INDEX:
                cap = sim_find_capability(v->fn, PCI_CAP_ID_MSI);
                return cap ? 1u << ((vfio_get16(v->fn, cap + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_QMASK) >> 1) : 0;
        case TDI_VFIO_PCI_MSIX_IRQ_INDEX:
                cap = sim_find_capability(v->fn, PCI_CAP_ID_MSIX);
                return cap ? (vfio_get16(v->fn, cap + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u : 0;
        case TDI_VFIO_PCI_ERR_IRQ_INDEX:
        case TDI_VFIO_PCI_REQ_IRQ_INDEX:
                return 1;
        default:
                return 0;
        }
}

static int triggers_alloc(struct sim_vfio *v, unsigned n) {
        v->trigger = calloc(n ? n : 1, sizeof(*v->trigger));
        if (!v->trigger)
                return -ENOMEM;
        for (unsigned i = 0; i < n; i++)
                v->trigger[i] = -EBADF;
        v->n_trigger = n;
        return 0;
}

static void triggers_free(struct sim_vfio *v) {
        for (unsigned i = 0; i < v->n_trigger; i++)
                close_fd(v->trigger[i]);
        free(TAKE_PTR(v->trigger));
        v->n_trigger = 0;
        v->irq_type = VFIO_IRQ_NONE;
}

/* ---- INTx ---- */

static bool is_intx(const struct sim_vfio *v) {
        return v->irq_type == TDI_VFIO_PCI_INTX_IRQ_INDEX;
}

/* pci_intx() */
static void intx_switch(struct sim_call *c, struct sim_vfio *v, bool on) {
        uint16_t command = vfio_get16(v->fn, PCI_COMMAND), wanted;

        wanted = (uint16_t) (on ? command & ~PCI_COMMAND_INTX_DISABLE : command | PCI_COMMAND_INTX_DISABLE);
        if (wanted != command)
                vfio_put16(c, v->fn, PCI_COMMAND, wanted);
}

static bool intx_asserted(const struct sim_vfio *v) {
        return v->fn->present && v->fn->config[PCI_STATUS] & PCI_STATUS_INTERRUPT;
}

static void intx_signal(struct sim_vfio *v) {
        if (is_intx(v) && !v->virq_disabled)
                vfio_event_signal(v->trigger[0]);
}

/* Also when INTx is not what is used: the real bit follows the virtual one. */
void vfio_intx_mask(struct sim_call *c, struct sim_vfio *v) {
        if (!is_intx(v)) {
                if (v->intx_2_3)
                        intx_switch(c, v, false);
                return;
        }
        if (v->masked)
                return;
        if (v->intx_2_3)
                intx_switch(c, v, false);
        v->masked = true;
}

/* vfio_pci_intx_unmask_handler(): one that is still asserted is signalled again and stays masked. */
void vfio_intx_unmask(struct sim_call *c, struct sim_vfio *v) {
        if (!is_intx(v)) {
                if (v->intx_2_3)
                        intx_switch(c, v, true);
                return;
        }
        if (!v->masked || v->virq_disabled)
                return;
        if (intx_asserted(v)) {
                intx_signal(v);
                return;
        }
        if (v->intx_2_3)
                intx_switch(c, v, true);
        v->masked = false;
}

static void unmask_fired(struct sim_call *c, struct vfio_watch *w) {
        vfio_intx_unmask(c, w->vfio);
}

/* vfio_intx_handler() */
static void intx_arrived(struct sim_call *c, struct sim_vfio *v) {
        if (v->masked || !intx_asserted(v) || vfio_get16(v->fn, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE)
                return;
        if (v->intx_2_3)
                intx_switch(c, v, false);
        v->masked = true;
        intx_signal(v);
}

static int intx_enable(struct sim_call *c, struct sim_vfio *v, int fd) {
        int r;

        if (v->irq_type != VFIO_IRQ_NONE)
                return -EINVAL;
        if (!v->fn->intx)
                return -ENODEV;
        r = triggers_alloc(v, 1);
        if (r < 0)
                return r;
        v->trigger[0] = fd;
        v->irq_type = TDI_VFIO_PCI_INTX_IRQ_INDEX;
        v->masked = v->virq_disabled;
        if (v->intx_2_3)
                intx_switch(c, v, !v->masked);
        intx_arrived(c, v);
        return 0;
}

static void intx_disable(struct sim_vfio *v) {
        if (v->unmask)
                vfio_watch_remove(v, TAKE_PTR(v->unmask));
        triggers_free(v);
}

/* vfio_pci_set_intx_mask() and _unmask() */
static int set_intx_mask(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io, bool mask) {
        struct tdi_vfio_irq_set *set = (void *) io->arg;
        int32_t value;
        int fd, r;

        if (!is_intx(v) || set->start != 0 || set->count != 1)
                return -EINVAL;
        if (set->flags & TDI_VFIO_IRQ_SET_DATA_NONE || (set->flags & TDI_VFIO_IRQ_SET_DATA_BOOL && set->data[0])) {
                if (mask)
                        vfio_intx_mask(c, v);
                else
                        vfio_intx_unmask(c, v);
                return 0;
        }
        if (!(set->flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD))
                return 0;
        if (mask)
                return -ENOTTY;
        memcpy(&value, set->data, sizeof(value));
        if (value < 0) {
                if (v->unmask)
                        vfio_watch_remove(v, TAKE_PTR(v->unmask));
                return 0;
        }
        fd = vfio_event_take(io, 0, value);
        if (fd < 0)
                return fd;
        r = v->unmask ? -EBUSY : vfio_watch_add(v, fd, unmask_fired, &v->unmask);
        if (r < 0)
                close_fd(fd);
        return r;
}

static int set_intx_trigger(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_irq_set *set = (void *) io->arg;
        int32_t value;
        int fd = -EBADF, r;

        if (is_intx(v) && set->count == 0 && set->flags & TDI_VFIO_IRQ_SET_DATA_NONE) {
                intx_disable(v);
                return 0;
        }
        if (!(is_intx(v) || v->irq_type == VFIO_IRQ_NONE) || set->start != 0 || set->count != 1)
                return -EINVAL;
        if (set->flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD) {
                memcpy(&value, set->data, sizeof(value));
                if (value >= 0) {
                        fd = vfio_event_take(io, 0, value);
                        if (fd < 0)
                                return fd;
                }
                if (is_intx(v)) {
                        close_fd(v->trigger[0]);
                        v->trigger[0] = fd;
                        return 0;
                }
                r = intx_enable(c, v, fd);
                if (r < 0)
                        close_fd(fd);
                return r;
        }
        if (!is_intx(v))
                return -EINVAL;
        if (set->flags & TDI_VFIO_IRQ_SET_DATA_NONE || set->data[0])
                intx_signal(v);
        return 0;
}

/* ---- MSI and MSI-X ---- */

/* The vectors are switched on in config space and shown in msi_irqs/, whether anybody listens or not. */
static int msi_enable(struct sim_call *c, struct sim_vfio *v, unsigned n, bool msix) {
        uint16_t command;
        int r;

        if (v->irq_type != VFIO_IRQ_NONE)
                return -EINVAL;
        if (n == 0)
                return -ERANGE; /* pci_alloc_irq_vectors() */
        r = triggers_alloc(v, vfio_irq_count(v, msix ? TDI_VFIO_PCI_MSIX_IRQ_INDEX : TDI_VFIO_PCI_MSI_IRQ_INDEX));
        if (r < 0)
                return r;
        command = vfio_memory_lock(c, v);
        sim_msi_set(c, v->fn, n, msix);
        vfio_memory_unlock(c, v, command);
        v->irq_type = msix ? TDI_VFIO_PCI_MSIX_IRQ_INDEX : TDI_VFIO_PCI_MSI_IRQ_INDEX;
        if (!msix) {
                v->msi_qmax = 0;
                while (1u << (v->msi_qmax + 1) <= n * 2 - 1)
                        v->msi_qmax++;
        }
        return 0;
}

static void msi_disable(struct sim_call *c, struct sim_vfio *v, bool msix) {
        uint16_t command = vfio_memory_lock(c, v);

        sim_msi_set(c, v->fn, 0, msix);
        vfio_memory_unlock(c, v, command);
        triggers_free(v);
}

/* vfio_msi_set_block(): all of them or none. */
static int msi_block(struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_irq_set *set = (void *) io->arg;
        int r = 0;

        for (unsigned i = 0; i < set->count; i++) {
                int *trigger = &v->trigger[set->start + i];
                int32_t value;

                memcpy(&value, set->data + i * sizeof(value), sizeof(value));
                *trigger = close_fd(*trigger);
                if (value < 0)
                        continue;
                r = vfio_event_take(io, i, value);
                if (r < 0) {
                        for (unsigned j = 0; j < i; j++)
                                v->trigger[set->start + j] = close_fd(v->trigger[set->start + j]);
                        return r;
                }
                *trigger = r;
        }
        return 0;
}

static int set_msi_trigger(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_irq_set *set = (void *) io->arg;
        bool msix = set->index == TDI_VFIO_PCI_MSIX_IRQ_INDEX, on = v->irq_type == set->index;
        int r;

        if (on && set->count == 0 && set->flags & TDI_VFIO_IRQ_SET_DATA_NONE) {
                msi_disable(c, v, msix);
                return 0;
        }
        if (!on && v->irq_type != VFIO_IRQ_NONE)
                return -EINVAL;
        if (set->flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD) {
                if (!on) {
                        r = msi_enable(c, v, set->start + set->count, msix);
                        if (r < 0)
                                return r;
                }
                r = msi_block(v, io);
                if (r < 0 && !on)
                        msi_disable(c, v, msix);
                return r;
        }
        if (!on)
                return -EINVAL;
        for (unsigned i = 0; i < set->count; i++)
                if (set->flags & TDI_VFIO_IRQ_SET_DATA_NONE || set->data[i])
                        vfio_event_signal(v->trigger[set->start + i]);
        return 0;
}

/* ---- ERR and REQ ---- */

/* vfio_pci_set_ctx_trigger_single() */
static int set_single_trigger(struct sim_ioctl *io, int *trigger) {
        struct tdi_vfio_irq_set *set = (void *) io->arg;
        int32_t value;
        int fd;

        if (set->start != 0 || set->count > 1)
                return -EINVAL;
        if (set->flags & TDI_VFIO_IRQ_SET_DATA_NONE) {
                if (*trigger < 0)
                        return -EINVAL;
                if (set->count > 0)
                        vfio_event_signal(*trigger);
                else
                        *trigger = close_fd(*trigger);
                return 0;
        }
        if (set->count == 0)
                return -EINVAL;
        if (set->flags & TDI_VFIO_IRQ_SET_DATA_BOOL) {
                if (set->data[0])
                        vfio_event_signal(*trigger);
                return 0;
        }
        memcpy(&value, set->data, sizeof(value));
        if (value < -1)
                return -EINVAL;
        fd = -EBADF;
        if (value >= 0) {
                fd = vfio_event_take(io, 0, value);
                if (fd < 0)
                        return fd;
        }
        close_fd(*trigger);
        *trigger = fd;
        return 0;
}

/* ---- the call ---- */

/* vfio_set_irqs_validate_and_prepare() */
static int check(const struct sim_vfio *v, const struct sim_ioctl *io) {
        const struct tdi_vfio_irq_set *set = (const void *) io->arg;
        uint32_t types = TDI_VFIO_IRQ_SET_DATA_TYPE_MASK | TDI_VFIO_IRQ_SET_ACTION_TYPE_MASK;
        unsigned n = vfio_irq_count(v, set->index);
        size_t size;

        if (set->argsz < sizeof(*set) || set->index >= TDI_VFIO_PCI_NUM_IRQS || set->count >= UINT32_MAX - set->start ||
            set->flags & ~types)
                return -EINVAL;
        if (set->start >= n || set->start + set->count > n)
                return -EINVAL;
        switch (set->flags & TDI_VFIO_IRQ_SET_DATA_TYPE_MASK) {
        case TDI_VFIO_IRQ_SET_DATA_NONE:
                size = 0;
                break;
        case TDI_VFIO_IRQ_SET_DATA_BOOL:
                size = 1;
                break;
        case TDI_VFIO_IRQ_SET_DATA_EVENTFD:
                size = sizeof(int32_t);
                break;
        default:
                return -EINVAL;
        }
        return io->size - sizeof(*set) < set->count * size ? -EINVAL : 0;
}

static int dispatch(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        const struct tdi_vfio_irq_set *set = (const void *) io->arg;
        uint32_t action = set->flags & TDI_VFIO_IRQ_SET_ACTION_TYPE_MASK;

        if (set->index == TDI_VFIO_PCI_INTX_IRQ_INDEX &&
            (action == TDI_VFIO_IRQ_SET_ACTION_MASK || action == TDI_VFIO_IRQ_SET_ACTION_UNMASK))
                return set_intx_mask(c, v, io, action == TDI_VFIO_IRQ_SET_ACTION_MASK);
        if (action != TDI_VFIO_IRQ_SET_ACTION_TRIGGER)
                return -ENOTTY;
        switch (set->index) {
        case TDI_VFIO_PCI_INTX_IRQ_INDEX:
                return set_intx_trigger(c, v, io);
        case TDI_VFIO_PCI_MSI_IRQ_INDEX:
        case TDI_VFIO_PCI_MSIX_IRQ_INDEX:
                return set_msi_trigger(c, v, io);
        case TDI_VFIO_PCI_ERR_IRQ_INDEX:
                return set_single_trigger(io, &v->err);
        default:
                return set_single_trigger(io, &v->req);
        }
}

int vfio_set_irqs(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        int r;

        r = check(v, io);
        if (r < 0)
                return r;
        sim_down_write(c, &v->igate);
        r = dispatch(c, v, io);
        sim_up_write(c, &v->igate);
        return r;
}

/* The device is being closed: nobody else is in a call. */
void vfio_irqs_disable(struct sim_call *c, struct sim_vfio *v) {
        if (is_intx(v))
                intx_disable(v);
        else if (v->irq_type != VFIO_IRQ_NONE)
                msi_disable(c, v, v->irq_type == TDI_VFIO_PCI_MSIX_IRQ_INDEX);
}

void sim_vfio_interrupt(struct sim_function *fn, unsigned vector) {
        struct sim_call c = { .sim = fn->sim };
        struct sim_vfio *v = fn->vfio;

        if (!v || !v->open || v->irq_type == VFIO_IRQ_NONE)
                return;
        if (is_intx(v))
                intx_arrived(&c, v);
        else if (vector < v->n_trigger && vfio_get16(fn, PCI_COMMAND) & PCI_COMMAND_MASTER) /* a message is a write to memory */
                vfio_event_signal(v->trigger[vector]);
}
