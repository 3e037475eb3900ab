/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a device says about itself: the *_INFO calls of drivers/vfio/pci/vfio_pci_core.c. */
#include "sim/vfio.h"

/* pci_enable_atomic_ops_to_root(): the root port completes them, and every switch port on the way routes them. */
static bool reaches_root(struct sim_function *fn, uint32_t wanted) {
        struct sim_function *f = fn->bridge;

        for (; f; f = f->bridge) {
                unsigned exp = sim_find_capability(f, PCI_CAP_ID_EXP);
                uint32_t caps = exp ? vfio_get32(f, exp + PCI_EXP_DEVCAP2) : 0;

                if (!(caps & (f->bridge ? PCI_EXP_DEVCAP2_ATOMIC_ROUTE : wanted)))
                        return false;
        }
        return fn->bridge;
}

static uint32_t atomic_flags(struct sim_function *fn) {
        static const struct {
                uint32_t cap, flag;
        } sizes[] = {
                { PCI_EXP_DEVCAP2_ATOMIC_COMP32, TDI_VFIO_PCI_ATOMIC_COMP32 },
                { PCI_EXP_DEVCAP2_ATOMIC_COMP64, TDI_VFIO_PCI_ATOMIC_COMP64 },
                { PCI_EXP_DEVCAP2_ATOMIC_COMP128, TDI_VFIO_PCI_ATOMIC_COMP128 },
        };
        uint32_t caps, flags = 0;
        unsigned exp;

        fn = fn->physfn ? fn->physfn : fn;
        exp = sim_find_capability(fn, PCI_CAP_ID_EXP);
        if (!exp)
                return 0;
        caps = vfio_get32(fn, exp + PCI_EXP_DEVCAP2);
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                if (caps & sizes[i].cap && reaches_root(fn, sizes[i].cap))
                        flags |= sizes[i].flag;
        return flags;
}

int vfio_get_info(struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_device_info *info = (void *) io->arg;
        struct tdi_vfio_device_info_cap_pci_atomic_comp atomic = {
                .header = { .id = TDI_VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP, .version = 1 },
                .flags = atomic_flags(v->fn),
        };

        if (info->argsz < offsetof(struct tdi_vfio_device_info, cap_offset))
                return -EINVAL;
        info->flags = TDI_VFIO_DEVICE_FLAGS_PCI;
        if (v->reset_works)
                info->flags |= TDI_VFIO_DEVICE_FLAGS_RESET;
        info->num_regions = TDI_VFIO_PCI_NUM_REGIONS;
        info->num_irqs = TDI_VFIO_PCI_NUM_IRQS;
        info->cap_offset = 0;
        info->pad = 0;
        if (!atomic.flags)
                return 0;
        info->flags |= TDI_VFIO_DEVICE_FLAGS_CAPS;
        if (io->size < sizeof(*info) + sizeof(atomic)) {
                info->argsz = sizeof(*info) + sizeof(atomic);
                return 0;
        }
        memcpy(io->arg + sizeof(*info), &atomic, sizeof(atomic));
        info->cap_offset = sizeof(*info);
        return 0;
}

bool vfio_msix_table(struct sim_function *fn, unsigned *ret_bar, uint64_t *ret_start, uint64_t *ret_end) {
        unsigned cap = sim_find_capability(fn, PCI_CAP_ID_MSIX);
        uint32_t table;

        if (!cap)
                return false;
        table = vfio_get32(fn, cap + PCI_MSIX_TABLE);
        *ret_bar = table & PCI_MSIX_TABLE_BIR;
        *ret_start = table & PCI_MSIX_TABLE_OFFSET;
        *ret_end = *ret_start + ((vfio_get16(fn, cap + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1UL) * PCI_MSIX_ENTRY_SIZE;
        return true;
}

/* vfio_pci_probe_mmaps(): whole pages, or the start of one. The flag says so although no descriptor of ours can be mapped. */
static bool is_mappable(const struct sim_bar *bar) {
        return !bar->io && (bar->size >= PAGE_SIZE_ || bar->address % PAGE_SIZE_ == 0);
}

int vfio_get_region_info(struct sim_vfio *v, struct sim_ioctl *io) {
        static const struct tdi_vfio_info_cap_header mappable = { .id = TDI_VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, .version = 1 };
        struct tdi_vfio_region_info *info = (void *) io->arg;
        uint64_t start, end;
        unsigned msix;
        bool caps = false;

        if (info->argsz < sizeof(*info))
                return -EINVAL;
        if (info->index >= TDI_VFIO_PCI_VGA_REGION_INDEX)
                return -EINVAL; /* no VGA, no regions of a kind of their own */
        info->flags = 0;
        info->size = 0;
        info->cap_offset = 0;
        info->offset = (uint64_t) info->index << VFIO_OFFSET_SHIFT;
        if (info->index == TDI_VFIO_PCI_CONFIG_REGION_INDEX) {
                info->size = v->fn->config_size;
                info->flags = TDI_VFIO_REGION_INFO_FLAG_READ | TDI_VFIO_REGION_INFO_FLAG_WRITE;
        } else if (info->index <= TDI_VFIO_PCI_BAR5_REGION_INDEX && v->fn->bar[info->index].size > 0) {
                info->size = v->fn->bar[info->index].size;
                info->flags = TDI_VFIO_REGION_INFO_FLAG_READ | TDI_VFIO_REGION_INFO_FLAG_WRITE;
                if (is_mappable(&v->fn->bar[info->index])) {
                        info->flags |= TDI_VFIO_REGION_INFO_FLAG_MMAP;
                        caps = vfio_msix_table(v->fn, &msix, &start, &end) && msix == info->index;
                }
        }
        if (!caps)
                return 0;
        info->flags |= TDI_VFIO_REGION_INFO_FLAG_CAPS;
        if (io->size < sizeof(*info) + sizeof(mappable)) {
                info->argsz = sizeof(*info) + sizeof(mappable);
                return 0;
        }
        memcpy(io->arg + sizeof(*info), &mappable, sizeof(mappable));
        info->cap_offset = sizeof(*info);
        return 0;
}

int vfio_get_irq_info(struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_irq_info *info = (void *) io->arg;

        if (info->argsz < sizeof(*info) || info->index >= TDI_VFIO_PCI_NUM_IRQS)
                return -EINVAL;
        info->flags = TDI_VFIO_IRQ_INFO_EVENTFD;
        info->count = vfio_irq_count(v, info->index);
        if (info->index == TDI_VFIO_PCI_INTX_IRQ_INDEX)
                info->flags |= TDI_VFIO_IRQ_INFO_MASKABLE | TDI_VFIO_IRQ_INFO_AUTOMASKED;
        else if (info->index != TDI_VFIO_PCI_MSIX_IRQ_INDEX || !vfio_irq_count(v, info->index))
                /* MSI-X vectors can be added one by one (pci_msix_can_alloc_dyn), where it is there. */
                info->flags |= TDI_VFIO_IRQ_INFO_NORESIZE;
        return 0;
}
