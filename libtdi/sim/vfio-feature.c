/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VFIO_DEVICE_FEATURE: vfio_ioctl_device_feature() and vfio_pci_core_ioctl_feature(). No modelled device migrates or logs DMA. */
#include "sim/vfio.h"

int vfio_check_feature(uint32_t flags, size_t size, uint32_t supported, size_t least) {
        uint32_t asked = flags & (TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_SET);

        if (asked & ~supported)
                return -EINVAL;
        if (flags & TDI_VFIO_DEVICE_FEATURE_PROBE)
                return 0;
        if (!asked || size < least)
                return -EINVAL;
        return 1;
}

static int set_token(struct sim_vfio *v, uint32_t flags, const struct sim_ioctl *io, size_t size) {
        int r;

        if (!v->has_token)
                return -ENOTTY;
        r = vfio_check_feature(flags, size, TDI_VFIO_DEVICE_FEATURE_SET, sizeof(v->token));
        if (r != 1)
                return r;
        memcpy(v->token, io->arg + sizeof(struct tdi_vfio_device_feature), sizeof(v->token));
        return 0;
}

/* vfio_pci_runtime_pm_entry(): the dma-bufs are revoked even when it is refused. */
static int low_power(struct sim_call *c, struct sim_vfio *v, int wake) {
        sim_down_write(c, &v->memory_lock);
        vfio_dmabufs_move(c, v, true);
        if (v->engaged) {
                sim_up_write(c, &v->memory_lock);
                return -EINVAL;
        }
        v->engaged = true;
        v->wake = wake;
        v->fn->pm_users--;
        sim_up_write(c, &v->memory_lock);
        return 0;
}

/* __vfio_pci_runtime_pm_exit() */
void vfio_low_power_exit(struct sim_vfio *v) {
        if (!v->engaged)
                return;
        v->engaged = false;
        v->fn->pm_users++;
        v->wake = close_fd(v->wake);
}

static int enter(struct sim_call *c, struct sim_vfio *v, uint32_t flags, size_t size) {
        int r;

        r = vfio_check_feature(flags, size, TDI_VFIO_DEVICE_FEATURE_SET, 0);
        return r == 1 ? low_power(c, v, -EBADF) : r;
}

static int enter_with_wakeup(struct sim_call *c, struct sim_vfio *v, uint32_t flags, const struct sim_ioctl *io, size_t size) {
        struct tdi_vfio_device_low_power_entry_with_wakeup entry;
        int fd, r;

        r = vfio_check_feature(flags, size, TDI_VFIO_DEVICE_FEATURE_SET, sizeof(entry));
        if (r != 1)
                return r;
        memcpy(&entry, io->arg + sizeof(struct tdi_vfio_device_feature), sizeof(entry));
        if (entry.wakeup_eventfd < 0)
                return -EINVAL;
        fd = vfio_event_take(io, 0, entry.wakeup_eventfd);
        if (fd < 0)
                return fd;
        r = low_power(c, v, fd);
        if (r < 0)
                close_fd(fd);
        return r;
}

static int leave(struct sim_call *c, struct sim_vfio *v, uint32_t flags, size_t size) {
        int r;

        r = vfio_check_feature(flags, size, TDI_VFIO_DEVICE_FEATURE_SET, 0);
        if (r != 1)
                return r;
        sim_down_write(c, &v->memory_lock);
        vfio_low_power_exit(v);
        if (vfio_memory_enabled(v))
                vfio_dmabufs_move(c, v, false);
        sim_up_write(c, &v->memory_lock);
        return 0;
}

int vfio_feature(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        const uint32_t known = TDI_VFIO_DEVICE_FEATURE_MASK | TDI_VFIO_DEVICE_FEATURE_SET | TDI_VFIO_DEVICE_FEATURE_GET |
                               TDI_VFIO_DEVICE_FEATURE_PROBE;
        const uint32_t both = TDI_VFIO_DEVICE_FEATURE_SET | TDI_VFIO_DEVICE_FEATURE_GET;
        struct tdi_vfio_device_feature *feature = (void *) io->arg;
        uint32_t flags = feature->flags;
        size_t size;

        if (io->size < sizeof(*feature) || flags & ~known)
                return -EINVAL;
        if (!(flags & TDI_VFIO_DEVICE_FEATURE_PROBE) && (flags & both) == both)
                return -EINVAL;
        size = io->size - sizeof(*feature);
        switch (flags & TDI_VFIO_DEVICE_FEATURE_MASK) {
        case TDI_VFIO_DEVICE_FEATURE_PCI_VF_TOKEN:
                return set_token(v, flags, io, size);
        case TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
                return enter(c, v, flags, size);
        case TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
                return enter_with_wakeup(c, v, flags, io, size);
        case TDI_VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
                return leave(c, v, flags, size);
        case TDI_VFIO_DEVICE_FEATURE_DMA_BUF:
                return vfio_feature_dmabuf(c, v, flags, io);
        case TDI_VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2:
                return -EINVAL; /* without VFIO_MIGRATION_PRE_COPY that is looked at first */
        default:
                return -ENOTTY;
        }
}
