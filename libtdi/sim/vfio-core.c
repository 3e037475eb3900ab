/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What opening, closing and resetting a device does to the function: drivers/vfio/pci/vfio_pci_core.c. The rule that shapes it: a reset
 * needs the device lock and never waits for it, because an unbind holds it while it waits for the last close.
 */
#include "sim/vfio.h"

#include "sim/iommufd.h"

/* ---- device sets ---- */

static void set_put(struct vfio_machine *m, struct vfio_set *set) {
        if (--set->refs > 0)
                return;
        for (struct vfio_set **p = &m->sets; *p; p = &(*p)->next)
                if (*p == set) {
                        *p = set->next;
                        break;
                }
        sim_rwsem_done(&set->lock);
        free(set->members);
        free(set);
}

/* Functions that share a reset share a set: all of a bus (or slot), but for VFs and functions of a root bus. */
int vfio_set_join(struct sim_call *c, struct sim_vfio *v) {
        struct vfio_machine *m = vfio_machine(v->sim);
        const struct sim_function *bridge = v->fn->physfn ? NULL : v->fn->bridge;
        struct vfio_set *set = NULL;
        struct sim_vfio **members;

        for (set = bridge ? m->sets : NULL; set; set = set->next)
                if (set->bridge == bridge)
                        break;
        if (!set) {
                set = calloc(1, sizeof(*set));
                if (!set)
                        return -ENOMEM;
                set->bridge = bridge;
                sim_rwsem_init(&set->lock);
                set->next = m->sets;
                m->sets = set;
        }
        set->refs++;
        sim_down_write(c, &set->lock);
        members = realloc(set->members, (set->n_members + 1) * sizeof(*members));
        if (members) {
                set->members = members;
                set->members[set->n_members++] = v;
                v->set = set;
        }
        sim_up_write(c, &set->lock);
        if (!members)
                set_put(m, set);
        return members ? 0 : -ENOMEM;
}

void vfio_set_leave(struct sim_call *c, struct sim_vfio *v) {
        struct vfio_set *set = TAKE_PTR(v->set);

        sim_down_write(c, &set->lock);
        for (size_t i = 0; i < set->n_members; i++)
                if (set->members[i] == v) {
                        memmove(&set->members[i], &set->members[i + 1], (set->n_members - i - 1) * sizeof(struct sim_vfio *));
                        set->n_members--;
                        break;
                }
        sim_up_write(c, &set->lock);
        set_put(vfio_machine(v->sim), set);
}

/* pci_probe_reset_slot(), pci_probe_reset_bus() */
static bool can_bus_reset(const struct sim_function *fn) {
        /* It is the bus that is asked: a VF's is its PF's. */
        return fn->bridge && (fn->physfn ? fn->physfn : fn)->bus_reset;
}

/* Is f on the bus of fn or below it? (pci_walk_bus) */
static bool is_affected(const struct sim_function *f, const struct sim_function *fn) {
        for (; f; f = f->bridge)
                if (f->segment == fn->segment && f->bus == fn->bus)
                        return true;
        return false;
}

#define FOR_EACH_AFFECTED(f, fn)                                                       \
        for (struct sim_function *f = sim_machine((fn)->sim)->functions; f; f = f->next) \
                if (f->present && is_affected(f, fn))

/* vfio_pci_dev_set_resettable() */
static bool is_resettable(const struct vfio_set *set) {
        const struct sim_function *fn = set->members[0]->fn;

        if (!can_bus_reset(fn))
                return false;
        FOR_EACH_AFFECTED(f, fn)
                if (!f->vfio || f->vfio->set != set)
                        return false;
        return true;
}

/* pci_reset_bus(): every function of it at once, -EAGAIN when the lock of one is taken. */
static int reset_bus(struct sim_call *c, const struct vfio_set *set) {
        size_t n;
        int r = 0;

        for (n = 0; n < set->n_members; n++)
                if (!sim_try_down_write(c, &set->members[n]->fn->lock)) {
                        r = -EAGAIN;
                        break;
                }
        if (r == 0)
                r = sim_reset_bus_locked(c, set->members[0]->fn->bridge);
        while (n > 0)
                sim_up_write(c, &set->members[--n]->fn->lock);
        return r;
}

/* vfio_pci_dev_set_try_reset() */
static void try_set_reset(struct sim_call *c, struct vfio_set *set) {
        unsigned open = 0;
        bool wanted = false;

        for (size_t i = 0; i < set->n_members; i++) {
                open += set->members[i]->open;
                wanted = wanted || set->members[i]->needs_reset;
        }
        /* The one that is being closed still counts. */
        if (open > 1 || !wanted || !is_resettable(set))
                return;
        if (reset_bus(c, set) == 0)
                for (size_t i = 0; i < set->n_members; i++)
                        set->members[i]->needs_reset = false;
}

/* ---- power ---- */

/* pci_dev.current_state: 0 for D0, 3 for D3hot. */
static unsigned power_of(const struct sim_vfio *v) {
        unsigned pm = sim_find_capability(v->fn, PCI_CAP_ID_PM);

        return pm && v->fn->present ? v->fn->config[pm + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK : 0;
}

/* vfio_pci_set_power_state(): COMMAND and the BARs come back as they were, also from a D3hot that resets the function. */
int vfio_set_power(struct sim_call *c, struct sim_vfio *v, unsigned state) {
        unsigned pm = sim_find_capability(v->fn, PCI_CAP_ID_PM), now = power_of(v);
        uint16_t pmc, control;

        if (state > 0 && v->fn->sriov_enabled > 0)
                return -EBUSY;
        if (state == now || !pm || !v->fn->present)
                return 0;
        pmc = vfio_get16(v->fn, pm + PCI_PM_PMC);
        if ((state == 1 && !(pmc & PCI_PM_CAP_D1)) || (state == 2 && !(pmc & PCI_PM_CAP_D2)))
                return 0;
        /* PCI allows going down step by step, and up to D0 only (pci_set_low_power_state). */
        if (state > 0 && state < now)
                return -EINVAL;
        control = vfio_get16(v->fn, pm + PCI_PM_CTRL);
        v->fn->config[pm + PCI_PM_CTRL] = (uint8_t) ((control & ~PCI_PM_CTRL_STATE_MASK) | state);
        if (now == 3 && !(control & PCI_PM_CTRL_NO_SOFT_RESET) && v->fn->model && v->fn->model->reset)
                v->fn->model->reset(c, v->fn);
        return 0;
}

/* __vfio_pci_memory_enabled(): a VF has no memory-enable bit of its own. */
bool vfio_memory_enabled(const struct sim_vfio *v) {
        return power_of(v) < 3 && (v->fn->physfn || vfio_config_command(v) & PCI_COMMAND_MEMORY);
}

uint16_t vfio_memory_lock(struct sim_call *c, struct sim_vfio *v) {
        uint16_t command;

        sim_down_write(c, &v->memory_lock);
        command = vfio_get16(v->fn, PCI_COMMAND);
        if (!(command & PCI_COMMAND_MEMORY))
                vfio_put16(c, v->fn, PCI_COMMAND, command | PCI_COMMAND_MEMORY);
        return command;
}

void vfio_memory_unlock(struct sim_call *c, struct sim_vfio *v, uint16_t command) {
        vfio_put16(c, v->fn, PCI_COMMAND, command);
        sim_up_write(c, &v->memory_lock);
}

/* ---- opening and closing ---- */

int vfio_try_reset(struct sim_call *c, struct sim_function *fn) {
        int r;

        if (!sim_can_reset(fn))
                return -ENOTTY;
        if (!sim_try_down_write(c, &fn->lock))
                return -EAGAIN;
        r = sim_reset_locked(c, fn);
        sim_up_write(c, &fn->lock);
        return r;
}

static void master_off(struct sim_call *c, struct sim_function *fn) {
        uint16_t command = vfio_get16(fn, PCI_COMMAND);

        if (command & PCI_COMMAND_MASTER)
                vfio_put16(c, fn, PCI_COMMAND, command & ~PCI_COMMAND_MASTER);
}

static void save(struct sim_vfio *v) {
        unsigned exp = sim_find_capability(v->fn, PCI_CAP_ID_EXP);

        memcpy(v->saved, v->fn->config, sizeof(v->saved));
        if (exp) {
                v->saved_devctl = vfio_get16(v->fn, exp + PCI_EXP_DEVCTL);
                v->saved_devctl2 = vfio_get16(v->fn, exp + PCI_EXP_DEVCTL2);
        }
}

/* pci_restore_state(): what a driver may have changed, not the status bits, which a write would clear. */
static void restore(struct sim_call *c, struct sim_vfio *v) {
        unsigned exp = sim_find_capability(v->fn, PCI_CAP_ID_EXP);

        for (unsigned i = PCI_BASE_ADDRESS_0; i <= PCI_BASE_ADDRESS_5; i += 4)
                sim_config_write(c, v->fn, i, v->saved + i, 4);
        sim_config_write(c, v->fn, PCI_COMMAND, v->saved + PCI_COMMAND, 2);
        sim_config_write(c, v->fn, PCI_CACHE_LINE_SIZE, v->saved + PCI_CACHE_LINE_SIZE, 2);
        sim_config_write(c, v->fn, PCI_INTERRUPT_LINE, v->saved + PCI_INTERRUPT_LINE, 1);
        if (exp) {
                vfio_put16(c, v->fn, exp + PCI_EXP_DEVCTL, v->saved_devctl);
                vfio_put16(c, v->fn, exp + PCI_EXP_DEVCTL2, v->saved_devctl2);
        }
}

/* vfio_pci_core_enable() */
int vfio_enable(struct sim_call *c, struct sim_vfio *v) {
        struct sim_function *fn = v->fn;
        uint16_t command;
        int r;

        fn->pm_users++;
        master_off(c, fn);
        sim_pci_enable(fn);
        r = vfio_try_reset(c, fn);
        if (r == -EAGAIN)
                goto fail;
        v->reset_works = r == 0;
        save(v);
        v->intx_2_3 = fn->writable[PCI_COMMAND + 1] & PCI_COMMAND_INTX_DISABLE >> 8;
        command = vfio_get16(fn, PCI_COMMAND);
        if (v->intx_2_3 && command & PCI_COMMAND_INTX_DISABLE)
                vfio_put16(c, fn, PCI_COMMAND, command & ~PCI_COMMAND_INTX_DISABLE);
        r = vfio_config_init(v);
        if (r < 0)
                goto fail;
        return 0;
fail:
        sim_pci_disable(fn);
        fn->pm_users--;
        return r;
}

/* vfio_pci_core_disable(): a device lock that is taken (by an unbind that waits for this close) means no reset. */
void vfio_disable(struct sim_call *c, struct sim_vfio *v) {
        struct sim_function *fn = v->fn;
        bool locked;

        sim_down_write(c, &v->memory_lock);
        vfio_low_power_exit(v);
        sim_up_write(c, &v->memory_lock);
        v->suspended = false;
        (void) vfio_set_power(c, v, 0);
        master_off(c, fn);
        vfio_irqs_disable(c, v);
        vfio_ioeventfds_free(v);
        v->virq_disabled = false;
        vfio_config_free(v);
        v->needs_reset = true;
        vfio_put16(c, fn, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE);
        if (v->reset_works) {
                locked = !fn->bridge || sim_try_down_write(c, &fn->bridge->lock);
                if (locked && sim_try_down_write(c, &fn->lock)) {
                        if (sim_reset_locked(c, fn) == 0)
                                v->needs_reset = false;
                        sim_up_write(c, &fn->lock);
                }
                if (locked && fn->bridge)
                        sim_up_write(c, &fn->bridge->lock);
        }
        restore(c, v);
        sim_pci_disable(fn);
        try_set_reset(c, v->set);
        fn->pm_users--;
}

/* ---- resets by call ---- */

/* vfio_pci_ioctl_reset() */
int vfio_reset(struct sim_call *c, struct sim_vfio *v) {
        int r;

        if (!v->reset_works)
                return -EINVAL;
        sim_down_write(c, &v->memory_lock);
        (void) vfio_set_power(c, v, 0);
        vfio_dmabufs_move(c, v, true);
        r = vfio_try_reset(c, v->fn);
        if (vfio_memory_enabled(v))
                vfio_dmabufs_move(c, v, false);
        sim_up_write(c, &v->memory_lock);
        return r;
}

/* vfio_iommufd_get_dev_id() as the answer has it, with the set's lock held. */
static uint32_t dependent_id(const struct sim_vfio *v, const struct sim_function *f, const struct sim_file *ctx) {
        int id;

        if (!f->vfio || f->vfio->set != v->set)
                return (uint32_t) TDI_VFIO_PCI_DEVID_NOT_OWNED;
        id = iommufd_device_id(f->vfio->fn, f->vfio->idev, ctx);
        return id > 0 ? (uint32_t) id : id == -ENOENT ? TDI_VFIO_PCI_DEVID_OWNED : (uint32_t) TDI_VFIO_PCI_DEVID_NOT_OWNED;
}

int vfio_hot_reset_info(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_pci_hot_reset_info *info = (void *) io->arg;
        const struct sim_file *ctx = v->idev->file;
        uint32_t flags = TDI_VFIO_PCI_HOT_RESET_FLAG_DEV_ID | TDI_VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED, count = 0, n = 0;

        if (io->size < sizeof(*info))
                return -EINVAL;
        info->flags = 0;
        if (!can_bus_reset(v->fn))
                return -ENODEV;
        sim_down_write(c, &v->set->lock);
        FOR_EACH_AFFECTED(f, v->fn)
                count++;
        if (count > (io->size - sizeof(*info)) / sizeof(info->devices[0])) {
                info->count = count;
                sim_up_write(c, &v->set->lock);
                return -ENOSPC;
        }
        FOR_EACH_AFFECTED(f, v->fn) {
                struct tdi_vfio_pci_dependent_device *d = &info->devices[n++];

                d->devid = dependent_id(v, f, ctx);
                d->segment = f->segment;
                d->bus = f->bus;
                d->devfn = f->devfn;
                if (d->devid == (uint32_t) TDI_VFIO_PCI_DEVID_NOT_OWNED)
                        flags &= ~(uint32_t) TDI_VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
        }
        sim_up_write(c, &v->set->lock);
        info->count = n;
        info->flags = flags;
        return 0;
}

/* vfio_pci_dev_set_hot_reset(): all of the set has to be the iommufd's. */
int vfio_hot_reset(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_pci_hot_reset *reset = (void *) io->arg;
        struct vfio_set *set = v->set;
        size_t n;
        int r = 0;

        if (reset->argsz < sizeof(*reset) || reset->flags)
                return -EINVAL;
        if (reset->count > 0)
                return -EINVAL;
        if (!can_bus_reset(v->fn))
                return -ENODEV;
        sim_down_write(c, &set->lock);
        if (!is_resettable(set)) {
                sim_up_write(c, &set->lock);
                return -EINVAL;
        }
        for (n = 0; n < set->n_members; n++) {
                struct sim_vfio *m = set->members[n];

                if (dependent_id(v, m->fn, v->idev->file) == (uint32_t) TDI_VFIO_PCI_DEVID_NOT_OWNED) {
                        r = -EINVAL;
                        break;
                }
                if (!sim_try_down_write(c, &m->memory_lock)) {
                        r = -EBUSY;
                        break;
                }
                if (m->open)
                        vfio_dmabufs_move(c, m, true);
        }
        if (r == 0) {
                for (size_t i = 0; i < set->n_members; i++)
                        (void) vfio_set_power(c, set->members[i], 0);
                r = reset_bus(c, set);
        }
        while (n > 0) {
                struct sim_vfio *m = set->members[--n];

                if (m->open && vfio_memory_enabled(m))
                        vfio_dmabufs_move(c, m, false);
                sim_up_write(c, &m->memory_lock);
        }
        sim_up_write(c, &set->lock);
        return r;
}
