/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random calls on a VFIO device. */
#include <stdio.h>

#include "host/abi/iommufd.h"
#include "host/abi/vfio.h"
#include "random.h"

static uint32_t argsz(struct run *r, size_t right) {
        static const uint32_t wrong[] = { 0, 4, 8, 200 };

        return chance(r, 88) ? (uint32_t) right : wrong[dice(r, ARRAY_SIZE(wrong))];
}

static void bind_call(struct run *r, int fd) {
        uint8_t token[16] = { 1, 2, 3 };
        union {
                struct tdi_vfio_device_bind_iommufd bind;
                uint8_t room[256];
        } u = {};

        u.bind.argsz = argsz(r, chance(r, 80) ? offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr) : sizeof(u.bind));
        u.bind.iommufd = chance(r, 88) ? some(r, IOMMUFD) : any(r);
        if (chance(r, 6))
                u.bind.iommufd = -1;
        if (chance(r, 8)) {
                u.bind.argsz = sizeof(u.bind);
                u.bind.flags = TDI_VFIO_DEVICE_BIND_FLAG_TOKEN;
                u.bind.token_uuid_ptr = (uintptr_t) token;
        }
        if (chance(r, 4))
                u.bind.flags = 1U << 5;
        if (host_ioctl(r->host, fd, TDI_VFIO_DEVICE_BIND_IOMMUFD, &u) >= 0)
                learn(r, &r->device, u.bind.out_devid);
}

static uint32_t some_id(struct run *r) {
        switch (dice(r, 10)) {
        case 0:
                return dice(r, 12);
        case 1:
                return known(r, &r->device);
        case 2:
        case 3:
                return known(r, &r->hwpt);
        default:
                return known(r, &r->ioas);
        }
}

static void attach_call(struct run *r, int fd) {
        union {
                struct tdi_vfio_device_attach_iommufd_pt attach;
                uint8_t room[256];
        } u = {};

        u.attach.argsz = argsz(r, chance(r, 80) ? offsetof(struct tdi_vfio_device_attach_iommufd_pt, pasid) : sizeof(u.attach));
        u.attach.pt_id = some_id(r);
        if (chance(r, 6)) {
                u.attach.argsz = sizeof(u.attach);
                u.attach.flags = chance(r, 50) ? TDI_VFIO_DEVICE_ATTACH_PASID : 1U << 7;
                u.attach.pasid = 3;
        }
        if (host_ioctl(r->host, fd, TDI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &u) >= 0)
                learn(r, &r->hwpt, u.attach.pt_id);
}

static void detach_call(struct run *r, int fd) {
        union {
                struct tdi_vfio_device_detach_iommufd_pt detach;
                uint8_t room[256];
        } u = {};

        u.detach.argsz = argsz(r, offsetof(struct tdi_vfio_device_detach_iommufd_pt, pasid));
        if (chance(r, 8)) {
                u.detach.argsz = sizeof(u.detach);
                u.detach.flags = chance(r, 50) ? TDI_VFIO_DEVICE_DETACH_PASID : 1U << 7;
        }
        (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_DETACH_IOMMUFD_PT, &u);
}

static void info_call(struct run *r, int fd) {
        union {
                struct tdi_vfio_device_info device;
                struct tdi_vfio_region_info region;
                struct tdi_vfio_irq_info irq;
                struct tdi_vfio_pci_hot_reset_info reset;
                uint8_t room[512];
        } u = {};

        switch (dice(r, 8)) {
        case 0:
                u.device.argsz = argsz(r, chance(r, 50) ? sizeof(u.device) : sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_GET_INFO, &u);
                return;
        case 1:
        case 2:
        case 3:
                u.region.argsz = argsz(r, chance(r, 70) ? sizeof(u.region) : sizeof(u.room));
                u.region.index = chance(r, 93) ? dice(r, 11) : 0xffffffff;
                (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_GET_REGION_INFO, &u);
                return;
        case 4:
        case 5:
                u.irq.argsz = argsz(r, sizeof(u.irq));
                u.irq.index = chance(r, 95) ? dice(r, 7) : 0xffffffff;
                (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_GET_IRQ_INFO, &u);
                return;
        default:
                u.reset.argsz = argsz(r, chance(r, 50) ? sizeof(u.reset) : sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &u);
        }
}

static void irqs_call(struct run *r, int fd) {
        static const uint32_t data[] = { TDI_VFIO_IRQ_SET_DATA_NONE, TDI_VFIO_IRQ_SET_DATA_BOOL, TDI_VFIO_IRQ_SET_DATA_EVENTFD,
                                         TDI_VFIO_IRQ_SET_DATA_EVENTFD, TDI_VFIO_IRQ_SET_DATA_EVENTFD, TDI_VFIO_IRQ_SET_DATA_NONE, 0, 3 };
        static const uint32_t actions[] = { TDI_VFIO_IRQ_SET_ACTION_TRIGGER, TDI_VFIO_IRQ_SET_ACTION_TRIGGER, TDI_VFIO_IRQ_SET_ACTION_TRIGGER,
                                            TDI_VFIO_IRQ_SET_ACTION_MASK, TDI_VFIO_IRQ_SET_ACTION_UNMASK, 0, 0x18 };
        union {
                struct tdi_vfio_irq_set set;
                uint8_t room[64];
        } u = {};
        size_t size = sizeof(u.set);

        u.set.flags = data[dice(r, ARRAY_SIZE(data))] | actions[dice(r, ARRAY_SIZE(actions))];
        u.set.index = dice(r, 6);
        u.set.start = chance(r, 85) ? 0 : dice(r, 4);
        u.set.count = chance(r, 70) ? 1 : dice(r, 4);
        if (chance(r, 4))
                u.set.count = 0xfffffff0;
        if (u.set.flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD) {
                int32_t event = chance(r, 80) ? some(r, EVENT) : chance(r, 50) ? -1 : any(r);

                for (uint32_t i = 0; i < u.set.count && i < 8; i++, size += sizeof(event))
                        memcpy(u.set.data + i * sizeof(event), &event, sizeof(event));
        } else if (u.set.flags & TDI_VFIO_IRQ_SET_DATA_BOOL)
                for (uint32_t i = 0; i < u.set.count && i < 8; i++, size++)
                        u.set.data[i] = (uint8_t) dice(r, 2);
        u.set.argsz = argsz(r, chance(r, 93) ? size : size - 1);
        if (u.set.argsz > sizeof(u.room))
                u.set.argsz = sizeof(u.room);
        (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_SET_IRQS, &u);
}

static void feature_call(struct run *r, int fd) {
        static const uint32_t how[] = { TDI_VFIO_DEVICE_FEATURE_PROBE | TDI_VFIO_DEVICE_FEATURE_GET, TDI_VFIO_DEVICE_FEATURE_PROBE | TDI_VFIO_DEVICE_FEATURE_SET,
                                        TDI_VFIO_DEVICE_FEATURE_GET, TDI_VFIO_DEVICE_FEATURE_SET, TDI_VFIO_DEVICE_FEATURE_PROBE,
                                        TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_SET, 0, 1U << 20 | TDI_VFIO_DEVICE_FEATURE_PROBE };
        union {
                struct tdi_vfio_device_feature feature;
                uint8_t room[128];
        } u = {};
        struct tdi_vfio_device_feature_dma_buf buf = { .open_flags = O_RDWR | O_CLOEXEC, .nr_ranges = 1 };
        struct tdi_vfio_region_dma_range range = { .length = 4096 };

        if (chance(r, 35)) {
                /* A dma-buf over part of a BAR. */
                buf.region_index = chance(r, 75) ? 0 : dice(r, 9);
                buf.flags = chance(r, 92) ? 0 : 1;
                buf.nr_ranges = chance(r, 90) ? 1 : 0;
                range.offset = chance(r, 80) ? 4096ULL * dice(r, 4) : 5;
                range.length = chance(r, 80) ? 4096ULL * dice(r, 3) : chance(r, 50) ? 1ULL << 40 : UINT64_MAX - 4095;
                u.feature.argsz = argsz(r, sizeof(u.feature) + sizeof(buf) + sizeof(range));
                u.feature.flags = TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_DMA_BUF;
                memcpy(u.feature.data, &buf, sizeof(buf));
                memcpy(u.feature.data + sizeof(buf), &range, sizeof(range));
                (void) keep(r, DMABUF, host_ioctl(r->host, fd, TDI_VFIO_DEVICE_FEATURE, &u));
                return;
        }
        u.feature.argsz = argsz(r, sizeof(u.feature) + (chance(r, 60) ? 16 : 0));
        u.feature.flags = dice(r, 16) | how[dice(r, ARRAY_SIZE(how))];
        /* Low power would leave a state behind that the next call wakes it from; entering it is a matter of time. */
        if (u.feature.flags & TDI_VFIO_DEVICE_FEATURE_SET && !(u.feature.flags & TDI_VFIO_DEVICE_FEATURE_PROBE) &&
            (u.feature.flags & TDI_VFIO_DEVICE_FEATURE_MASK) >= TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY &&
            (u.feature.flags & TDI_VFIO_DEVICE_FEATURE_MASK) <= TDI_VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)
                return;
        (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_FEATURE, &u);
}

static uint64_t region(uint64_t index) {
        return index << 40;
}

static void config_access(struct run *r, int fd) {
        static const uint16_t offsets[] = { 0, 1, 2, 4, 6, 8, 0xc, 0x10, 0x14, 0x2c, 0x30, 0x34, 0x3c, 0x3d, 0x40, 0x42, 0x44, 0x50, 0x60, 0x80, 0xfc, 0xff, 0x100, 0x104, 0xffc, 0xfff, 0x1000 };
        static const size_t sizes[] = { 1, 2, 4, 4, 8, 3, 64, 0 };
        uint64_t at = region(TDI_VFIO_PCI_CONFIG_REGION_INDEX) + offsets[dice(r, ARRAY_SIZE(offsets))];
        uint8_t buf[64] = {};
        uint16_t command;
        uint32_t bar;

        switch (dice(r, 6)) {
        case 0:
                command = (uint16_t) (dice(r, 8) | (chance(r, 20) ? 0x400 : 0));
                (void) host_pwrite(r->host, fd, &command, sizeof(command), region(TDI_VFIO_PCI_CONFIG_REGION_INDEX) + 4);
                return;
        case 1:
                /* Sizing a BAR, and what a guest puts there. */
                bar = chance(r, 50) ? 0xffffffff : 0xe0000000;
                (void) host_pwrite(r->host, fd, &bar, sizeof(bar), region(TDI_VFIO_PCI_CONFIG_REGION_INDEX) + 0x10 + 4ULL * dice(r, 6));
                return;
        case 2:
                memset(buf, chance(r, 50) ? 0xff : 0, sizeof(buf));
                /* Registers that belong to nobody, or are the guest's to write: ids, cache line, interrupt line, capability pointer. */
                at = region(TDI_VFIO_PCI_CONFIG_REGION_INDEX) + (chance(r, 50) ? 0 : chance(r, 50) ? 0x3c : 0x34);
                (void) host_pwrite(r->host, fd, buf, chance(r, 80) ? 1 : 2, at);
                return;
        default:
                (void) host_pread(r->host, fd, buf, sizes[dice(r, ARRAY_SIZE(sizes))], at);
        }
}

static void bar_access(struct run *r, int fd) {
        static const uint64_t offsets[] = { 0, 0, 8, 0x20, 0x24, 0x80, 0x90, 0x98, 2, 0x1000, 0xfffff, 0x100000, 0x3ffffffffff };
        static const size_t sizes[] = { 4, 4, 4, 8, 1, 2, 3, 16, 0 };
        uint64_t index = chance(r, 75) ? 0 : dice(r, 10), at = region(index) + offsets[dice(r, ARRAY_SIZE(offsets))];
        uint8_t buf[64] = { 0x55, 0xaa, 0x33, 0xcc };

        if (index == TDI_VFIO_PCI_CONFIG_REGION_INDEX || index == TDI_VFIO_PCI_VGA_REGION_INDEX)
                return;
        /* Writes: the register that edu inverts, which has no effect elsewhere. No reset of QEMU's clears it: it is read after a write only. */
        if (chance(r, 25)) {
                if (host_pwrite(r->host, fd, buf, 4, region(0) + 4) == 4)
                        (void) host_pread(r->host, fd, buf, 4, region(0) + 4);
        } else
                (void) host_pread(r->host, fd, buf, sizes[dice(r, ARRAY_SIZE(sizes))], at);
}

static void reset_call(struct run *r, int fd) {
        union {
                struct tdi_vfio_pci_hot_reset reset;
                uint8_t room[64];
        } u = {};

        if (chance(r, 60)) {
                (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_RESET, NULL);
                return;
        }
        u.reset.argsz = argsz(r, sizeof(u.reset));
        u.reset.flags = chance(r, 85) ? 0 : 1;
        u.reset.count = chance(r, 80) ? 0 : 1;
        (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_PCI_HOT_RESET, &u);
}

void device_call(struct run *r, int fd) {
        switch (dice(r, 16)) {
        case 0:
        case 1:
        case 2:
                bind_call(r, fd);
                return;
        case 3:
        case 4:
                attach_call(r, fd);
                return;
        case 5:
                detach_call(r, fd);
                return;
        case 6:
        case 7:
                info_call(r, fd);
                return;
        case 8:
        case 9:
                irqs_call(r, fd);
                return;
        case 10:
        case 11:
                feature_call(r, fd);
                return;
        case 12:
        case 13:
                config_access(r, fd);
                return;
        case 14:
                bar_access(r, fd);
                return;
        default:
                if (chance(r, 50))
                        reset_call(r, fd);
                else
                        bar_access(r, fd);
        }
}

void start_device(struct run *r) {
        struct tdi_vfio_device_bind_iommufd bind = { .argsz = offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr) };
        struct tdi_vfio_device_attach_iommufd_pt attach = { .argsz = offsetof(struct tdi_vfio_device_attach_iommufd_pt, pasid) };
        struct tdi_iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
        _cleanup_(host_names_freep) char **names = NULL;
        int fd, iommufd;

        if (host_list(r->host, attribute(r, "vfio-dev"), &names) < 0 || !names[0])
                return;
        snprintf(r->path, sizeof(r->path), "/dev/vfio/devices/%s", names[0]);
        fd = keep(r, CDEV, host_open(r->host, r->path, O_RDWR));
        iommufd = some(r, IOMMUFD);
        if (iommufd < 0 || chance(r, 20))
                iommufd = keep(r, IOMMUFD, host_open(r->host, "/dev/iommu", O_RDWR));
        bind.iommufd = iommufd;
        if (fd < 0 || iommufd < 0 || host_ioctl(r->host, fd, TDI_VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0)
                return;
        learn(r, &r->device, bind.out_devid);
        if (r->ioas.n > 0 && chance(r, 50))
                attach.pt_id = known(r, &r->ioas);
        else if (host_ioctl(r->host, iommufd, TDI_IOMMU_IOAS_ALLOC, &alloc) >= 0) {
                learn(r, &r->ioas, alloc.out_ioas_id);
                attach.pt_id = alloc.out_ioas_id;
        }
        if (chance(r, 60) && host_ioctl(r->host, fd, TDI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) >= 0)
                learn(r, &r->hwpt, attach.pt_id);
}
