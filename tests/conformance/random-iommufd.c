/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random calls on an iommufd. */
#include <stdio.h>

#include "host/abi/iommufd.h"
#include "host/abi/vfio.h"
#include "random.h"

#define PAGE 4096ULL

/* Too short, too long with zeros, too long with something. */
static uint32_t size_of(struct run *r, size_t right, uint8_t *all, size_t room) {
        if (chance(r, 90))
                return (uint32_t) right;
        switch (dice(r, 4)) {
        case 0:
                return 0;
        case 1:
                return (uint32_t) right - 4;
        case 2:
                return (uint32_t) right + 16;
        default:
                if (right + 16 <= room)
                        all[right + 8] = 1;
                return (uint32_t) right + 16;
        }
}

static uint32_t ioas(struct run *r) {
        return chance(r, 90) ? known(r, &r->ioas) : dice(r, 12);
}

static uint32_t id(struct run *r) {
        switch (dice(r, 5)) {
        case 0:
                return dice(r, 14);
        case 1:
                return known(r, &r->device);
        case 2:
        case 3:
                return known(r, &r->hwpt);
        default:
                return ioas(r);
        }
}

static void ioas_alloc(struct run *r, int fd) {
        union {
                struct tdi_iommu_ioas_alloc alloc;
                uint8_t room[128];
        } u = {};

        u.alloc.flags = chance(r, 93) ? 0 : 1;
        u.alloc.size = size_of(r, sizeof(u.alloc), u.room, sizeof(u.room));
        if (host_ioctl(r->host, fd, TDI_IOMMU_IOAS_ALLOC, &u) >= 0)
                learn(r, &r->ioas, u.alloc.out_ioas_id);
}

static void destroy(struct run *r, int fd) {
        union {
                struct tdi_iommu_destroy destroy;
                uint8_t room[128];
        } u = {};

        u.destroy.id = id(r);
        u.destroy.size = size_of(r, sizeof(u.destroy), u.room, sizeof(u.room));
        (void) host_ioctl(r->host, fd, TDI_IOMMU_DESTROY, &u);
}

static uint64_t iova(struct run *r) {
        static const uint64_t odd[] = { 0xfee00000, 0xfedff000, 1ULL << 50, 100, 0, UINT64_MAX - 4095 };

        return chance(r, 85) ? 0x100000 + PAGE * dice(r, 8) : odd[dice(r, ARRAY_SIZE(odd))];
}

static uint64_t length(struct run *r) {
        return chance(r, 88) ? PAGE * (1 + dice(r, 4)) : chance(r, 50) ? 0 : chance(r, 50) ? 100 : UINT64_MAX;
}

static void map_file(struct run *r, int fd) {
        static const uint32_t flags[] = { 7, 7, 7, 5, 3, 1, 6, 0, 15 };
        union {
                struct tdi_iommu_ioas_map_file map;
                uint8_t room[128];
        } u = {};

        u.map.flags = flags[dice(r, ARRAY_SIZE(flags))];
        u.map.ioas_id = ioas(r);
        /*
         * Any file may be mapped as long as no page of it is wanted (iopt_map_file_pages). Not the device's own, nor what holds it: an address
         * space that maps the file of a device that is bound to it keeps itself alive for ever.
         */
        u.map.fd = chance(r, 80) ? some(r, MEMFD) : chance(r, 50) ? some(r, DMABUF) : some(r, chance(r, 50) ? EVENT : UDMABUF);
        u.map.start = chance(r, 85) ? PAGE * dice(r, 3) : 8;
        u.map.length = length(r);
        u.map.iova = iova(r);
        u.map.size = size_of(r, sizeof(u.map), u.room, sizeof(u.room));
        (void) host_ioctl(r->host, fd, TDI_IOMMU_IOAS_MAP_FILE, &u);
}

static void unmap(struct run *r, int fd) {
        union {
                struct tdi_iommu_ioas_unmap unmap;
                uint8_t room[128];
        } u = {};

        u.unmap.ioas_id = ioas(r);
        u.unmap.iova = iova(r);
        u.unmap.length = length(r);
        if (chance(r, 25)) {
                u.unmap.iova = 0;
                u.unmap.length = UINT64_MAX;
        }
        u.unmap.size = size_of(r, sizeof(u.unmap), u.room, sizeof(u.room));
        (void) host_ioctl(r->host, fd, TDI_IOMMU_IOAS_UNMAP, &u);
}

static void copy(struct run *r, int fd) {
        static const uint32_t flags[] = { 7, 7, 5, 3, 1, 6, 15 };
        union {
                struct tdi_iommu_ioas_copy copy;
                uint8_t room[128];
        } u = {};

        u.copy.flags = flags[dice(r, ARRAY_SIZE(flags))];
        u.copy.dst_ioas_id = ioas(r);
        u.copy.src_ioas_id = ioas(r);
        u.copy.length = length(r);
        u.copy.dst_iova = iova(r);
        u.copy.src_iova = iova(r);
        u.copy.size = size_of(r, sizeof(u.copy), u.room, sizeof(u.room));
        (void) host_ioctl(r->host, fd, TDI_IOMMU_IOAS_COPY, &u);
}

static void ranges(struct run *r, int fd) {
        struct tdi_iommu_iova_range list[8] = {};
        union {
                struct tdi_iommu_ioas_iova_ranges ranges;
                struct tdi_iommu_ioas_allow_iovas allow;
                uint8_t room[128];
        } u = {};

        if (chance(r, 70)) {
                u.ranges.ioas_id = ioas(r);
                u.ranges.num_iovas = chance(r, 80) ? 8 : dice(r, 2);
                u.ranges.allowed_iovas = (uintptr_t) list;
                u.ranges.__reserved = chance(r, 94) ? 0 : 1;
                u.ranges.size = size_of(r, sizeof(u.ranges), u.room, sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_IOMMU_IOAS_IOVA_RANGES, &u);
                return;
        }
        list[0] = (struct tdi_iommu_iova_range) { 0x100000, 0x100000 + PAGE * (1 + dice(r, 16)) - 1 };
        list[1] = (struct tdi_iommu_iova_range) { chance(r, 80) ? 0x200000 : 0x100000, 0x2fffff };
        u.allow.ioas_id = ioas(r);
        u.allow.num_iovas = dice(r, 3);
        u.allow.allowed_iovas = (uintptr_t) list;
        u.allow.size = size_of(r, sizeof(u.allow), u.room, sizeof(u.room));
        (void) host_ioctl(r->host, fd, TDI_IOMMU_IOAS_ALLOW_IOVAS, &u);
}

static void hwpt_alloc(struct run *r, int fd) {
        static const uint32_t flags[] = { 0, 0, 0, TDI_IOMMU_HWPT_ALLOC_NEST_PARENT, TDI_IOMMU_HWPT_ALLOC_DIRTY_TRACKING, TDI_IOMMU_HWPT_FAULT_ID_VALID,
                                          TDI_IOMMU_HWPT_ALLOC_PASID, 1U << 9 };
        uint64_t data[2] = {};
        union {
                struct tdi_iommu_hwpt_alloc alloc;
                uint8_t room[128];
        } u = {};

        u.alloc.flags = flags[dice(r, ARRAY_SIZE(flags))];
        u.alloc.dev_id = chance(r, 85) ? known(r, &r->device) : id(r);
        u.alloc.pt_id = chance(r, 80) ? ioas(r) : id(r);
        u.alloc.__reserved = chance(r, 96) ? 0 : 1;
        u.alloc.data_type = chance(r, 80) ? 0 : 1 + dice(r, 4);
        if (chance(r, 15)) {
                u.alloc.data_len = sizeof(data);
                u.alloc.data_uptr = (uintptr_t) data;
        }
        u.alloc.size = size_of(r, sizeof(u.alloc), u.room, sizeof(u.room));
        if (host_ioctl(r->host, fd, TDI_IOMMU_HWPT_ALLOC, &u) >= 0)
                learn(r, &r->hwpt, u.alloc.out_hwpt_id);
}

static void viommu(struct run *r, int fd) {
        union {
                struct tdi_iommu_viommu_alloc viommu;
                struct tdi_iommu_vdevice_alloc vdevice;
                struct tdi_iommu_veventq_alloc queue;
                uint8_t room[128];
        } u = {};

        switch (dice(r, 4)) {
        case 0:
        case 1:
                u.viommu.type = dice(r, 4);
                u.viommu.flags = chance(r, 92) ? 0 : 1;
                u.viommu.dev_id = chance(r, 80) ? known(r, &r->device) : id(r);
                u.viommu.hwpt_id = chance(r, 70) ? known(r, &r->hwpt) : id(r);
                u.viommu.size = size_of(r, sizeof(u.viommu), u.room, sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_IOMMU_VIOMMU_ALLOC, &u);
                return;
        case 2:
                u.vdevice.viommu_id = id(r);
                u.vdevice.dev_id = id(r);
                u.vdevice.virt_id = chance(r, 80) ? dice(r, 100) : 1ULL << 40;
                u.vdevice.size = size_of(r, sizeof(u.vdevice), u.room, sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_IOMMU_VDEVICE_ALLOC, &u);
                return;
        default:
                u.queue.viommu_id = id(r);
                u.queue.type = dice(r, 3);
                u.queue.veventq_depth = dice(r, 3);
                u.queue.flags = chance(r, 90) ? 0 : 1;
                u.queue.size = size_of(r, sizeof(u.queue), u.room, sizeof(u.room));
                if (host_ioctl(r->host, fd, TDI_IOMMU_VEVENTQ_ALLOC, &u) >= 0)
                        (void) keep(r, OTHER, (int) u.queue.out_veventq_fd);
        }
}

static void hw_info(struct run *r, int fd) {
        uint8_t data[128] = {};
        union {
                struct tdi_iommu_hw_info info;
                uint8_t room[128];
        } u = {};

        u.info.dev_id = chance(r, 85) ? known(r, &r->device) : id(r);
        u.info.data_len = chance(r, 70) ? sizeof(data) : dice(r, 20);
        u.info.data_uptr = chance(r, 85) ? (uintptr_t) data : 0;
        u.info.flags = chance(r, 85) ? 0 : 1U << dice(r, 4);
        u.info.in_data_type = chance(r, 85) ? 0 : dice(r, 5);
        u.info.__reserved[0] = chance(r, 95) ? 0 : 1;
        u.info.size = size_of(r, sizeof(u.info), u.room, sizeof(u.room));
        (void) host_ioctl(r->host, fd, TDI_IOMMU_GET_HW_INFO, &u);
}

/* The calls of VFIO containers that iommufd knows. */
static void container(struct run *r, int fd) {
        static const unsigned what[] = { TDI_VFIO_DMA_CC_IOMMU, TDI_VFIO_DMA_CC_IOMMU, TDI_VFIO_TYPE1_IOMMU, TDI_VFIO_TYPE1v2_IOMMU, TDI_VFIO_UNMAP_ALL, 100 };
        union {
                struct tdi_iommu_vfio_ioas ioas;
                uint8_t room[128];
        } u = {};

        if (chance(r, 50)) {
                (void) host_ioctl(r->host, fd, TDI_VFIO_CHECK_EXTENSION, (void *) (uintptr_t) what[dice(r, ARRAY_SIZE(what))]);
                return;
        }
        u.ioas.ioas_id = ioas(r);
        u.ioas.op = (uint16_t) (chance(r, 60) ? TDI_IOMMU_VFIO_IOAS_SET : dice(r, 4));
        u.ioas.__reserved = chance(r, 92) ? 0 : 1;
        u.ioas.size = size_of(r, sizeof(u.ioas), u.room, sizeof(u.room));
        (void) host_ioctl(r->host, fd, TDI_IOMMU_VFIO_IOAS, &u);
}

static void other(struct run *r, int fd) {
        uint8_t data[16] = {};
        union {
                struct tdi_iommu_ioas_change_process change;
                struct tdi_iommu_option option;
                struct tdi_iommu_fault_alloc fault;
                struct tdi_iommu_hwpt_invalidate invalidate;
                uint8_t room[128];
        } u = {};

        switch (dice(r, 5)) {
        case 0:
                u.change.__reserved = chance(r, 85) ? 0 : 1;
                u.change.size = size_of(r, sizeof(u.change), u.room, sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_IOMMU_IOAS_CHANGE_PROCESS, &u);
                return;
        case 1:
        case 2:
                u.option.option_id = dice(r, 3);
                u.option.op = (uint16_t) dice(r, 3);
                u.option.__reserved = chance(r, 92) ? 0 : 1;
                u.option.object_id = u.option.option_id == TDI_IOMMU_OPTION_HUGE_PAGES || chance(r, 20) ? ioas(r) : 0;
                u.option.val64 = dice(r, 3);
                u.option.size = size_of(r, sizeof(u.option), u.room, sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_IOMMU_OPTION, &u);
                return;
        case 3:
                u.fault.flags = chance(r, 90) ? 0 : 1;
                u.fault.size = size_of(r, sizeof(u.fault), u.room, sizeof(u.room));
                if (host_ioctl(r->host, fd, TDI_IOMMU_FAULT_QUEUE_ALLOC, &u) >= 0)
                        (void) keep(r, OTHER, (int) u.fault.out_fault_fd);
                return;
        default:
                u.invalidate.hwpt_id = id(r);
                u.invalidate.data_uptr = (uintptr_t) data;
                u.invalidate.entry_len = chance(r, 80) ? sizeof(data) : 0;
                u.invalidate.entry_num = dice(r, 2);
                u.invalidate.size = size_of(r, sizeof(u.invalidate), u.room, sizeof(u.room));
                (void) host_ioctl(r->host, fd, TDI_IOMMU_HWPT_INVALIDATE, &u);
        }
}

void iommufd_call(struct run *r, int fd) {
        static void (*const calls[])(struct run *r, int fd) = {
                ioas_alloc, ioas_alloc, ioas_alloc, destroy, destroy, map_file, map_file, map_file, map_file, unmap, unmap, copy, copy, ranges, ranges,
                hwpt_alloc, hwpt_alloc, viommu, hw_info, other, other, container, container,
        };

        calls[dice(r, ARRAY_SIZE(calls))](r, fd);
}
