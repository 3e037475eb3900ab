/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random calls on sysfs, KVM, dma-bufs and files that are of no use here; and which room the next call is of. */
#ifdef __clang__
/* A struct with what trails it, side by side: that is what this call takes. */
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "host/abi/dmabuf.h"
#include "host/abi/iommufd.h"
#include "host/abi/kvm.h"
#include "host/abi/udmabuf.h"
#include "host/abi/vfio.h"
#include "random.h"

#define PAGE 4096ULL

static void read_something(struct run *r) {
        static const char *const names[] = {
                "driver_override", "enable", "power/control", "vendor", "device", "class", "modalias", "numa_node", "msi_bus", "resource", "revision",
                "subsystem_vendor", "subsystem_device", "sriov_numvfs", "sriov_totalvfs", "reset_method", "power_state", "broken_parity_status",
                "d3cold_allowed", "local_cpulist", "ari_enabled", "power/runtime_status", "irq", "max_link_width", "uevent", "no_such_file",
                "iommu_group/type", "remove", "dma_mask_bits", "consistent_dma_mask_bits", "reset", "rescan",
        };
        char text[4096];

        (void) host_read_text(r->host, attribute(r, names[dice(r, ARRAY_SIZE(names))]), text, sizeof(text));
}

static void look(struct run *r) {
        static const char *const links[] = { "driver", "iommu_group", "subsystem", "physfn", "virtfn0", "vendor" };
        static const char *const lists[] = { "vfio-dev", "iommu_group/devices", "driver/module", "power", "vendor", "msi_irqs", "tsm" };
        _cleanup_(host_names_freep) char **names = NULL;
        char text[1024];

        if (chance(r, 50))
                (void) host_readlink(r->host, attribute(r, links[dice(r, ARRAY_SIZE(links))]), text, sizeof(text));
        else
                (void) host_list(r->host, attribute(r, lists[dice(r, ARRAY_SIZE(lists))]), &names);
}

/* One byte, or what else pread() of the file gives: beyond the end, across it, with no size. */
static void read_config(struct run *r) {
        static const uint64_t offsets[] = { 0, 2, 4, 6, 8, 0x10, 0x2c, 0x34, 0x3c, 0x40, 0x60, 0xfc, 0xfe, 0x100, 0x104, 0xffe, 0xfff, 0x1000, 0x1001 };
        static const size_t sizes[] = { 1, 2, 4, 8, 64, 0 };
        uint8_t buf[64];
        int fd;

        fd = host_open(r->host, attribute(r, "config"), O_RDONLY);
        if (fd < 0)
                return;
        (void) host_pread(r->host, fd, buf, sizes[dice(r, ARRAY_SIZE(sizes))], offsets[dice(r, ARRAY_SIZE(offsets))]);
        (void) host_close(r->host, fd);
}

static void write_override(struct run *r) {
        static const char *const values[] = { "vfio-pci\n", "vfio-pci", "\n", "", "no-such-driver\n", "vfio-pci\nnvme\n", "nvme\n", " vfio-pci\n", "(null)\n" };

        /* sysfs takes a page; driver_set_override() refuses one byte less already. */
        if (chance(r, 8))
                put(r, attribute(r, "driver_override"), "%0*d", (int) (PAGE - 2 + dice(r, 4)), 0);
        else
                put(r, attribute(r, "driver_override"), "%s", values[dice(r, ARRAY_SIZE(values))]);
}

static void write_driver(struct run *r) {
        static const char *const names[] = { "vfio-pci", "vfio-pci", "vfio-pci", "nvme", "no-such-driver", "pcieport" };
        static const char *const bad[] = { "", "0000:ff:1f.7", "rubbish", "0000:00:02.0 " };
        const char *name = names[dice(r, ARRAY_SIZE(names))], *bdf = chance(r, 75) ? bdf_of(r) : bad[dice(r, ARRAY_SIZE(bad))];

        if (is_open(r))
                return;
        switch (dice(r, 4)) {
        case 0:
                snprintf(r->path, sizeof(r->path), PCI "drivers/%s/bind", name);
                put(r, r->path, "%s", bdf);
                return;
        case 1:
                snprintf(r->path, sizeof(r->path), PCI "drivers/%s/unbind", name);
                put(r, r->path, "%s", bdf);
                return;
        case 2:
                put(r, PCI "drivers_probe", "%s", bdf);
                return;
        default:
                to_vfio(r);
        }
}

static void write_other(struct run *r) {
        static const char *const power[] = { "on", "auto\n", "off", "", "on\n", "ON" };
        char text[1024];

        switch (dice(r, 6)) {
        case 0:
        case 1:
                put(r, attribute(r, "power/control"), "%s", power[dice(r, ARRAY_SIZE(power))]);
                return;
        case 2:
                put(r, attribute(r, "vendor"), "0x1234");
                return;
        case 3:
                /* A VF of QEMU's igb may not come back from it for minutes. */
                if (host_readlink(r->host, attribute(r, "physfn"), text, sizeof(text)) < 0)
                        put(r, attribute(r, "reset"), "%s", chance(r, 70) ? "1" : "0");
                return;
        case 4:
                put(r, attribute(r, "no_such_file"), "1");
                return;
        default:
                put(r, attribute(r, "tsm/connect"), "%s", chance(r, 60) && r->tsm[0] ? r->tsm : chance(r, 50) ? "tsm99" : "rubbish");
        }
}

static void tsm_call(struct run *r) {
        static const char *const names[] = { "tsm/connect", "tsm/disconnect", "tsm/bound", "tsm/dsm", "authenticated" };
        const char *value = chance(r, 75) && r->tsm[0] ? r->tsm : chance(r, 50) ? "tsm99" : "rubbish";
        char text[128];

        switch (dice(r, 4)) {
        case 0:
                put(r, attribute(r, "tsm/connect"), chance(r, 50) ? "%s\n" : "%s", value);
                return;
        case 1:
                put(r, attribute(r, "tsm/disconnect"), "%s", value);
                return;
        default:
                (void) host_read_text(r->host, attribute(r, names[dice(r, ARRAY_SIZE(names))]), text, sizeof(text));
        }
}

static void make_memfd(struct run *r) {
        static const unsigned seals[] = { 0, F_SEAL_SHRINK, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE };
        int fd = memfd_create("conformance", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0)
                return;
        (void) ftruncate(fd, (off_t) (PAGE * (1 + dice(r, 32))));
        (void) fcntl(fd, F_ADD_SEALS, seals[dice(r, ARRAY_SIZE(seals))]);
        (void) keep(r, MEMFD, fd);
}

static void open_something(struct run *r) {
        static const struct {
                const char *path;
                enum kind kind;
        } nodes[] = {
                { "/dev/iommu", IOMMUFD }, { "/dev/iommu", IOMMUFD }, { "/dev/kvm", KVM }, { "/dev/udmabuf", UDMABUF },
                { "/dev/dma_heap/system", HEAP }, { "/dev/vfio/devices/vfio4000", OTHER }, { "/dev/no-such-node", OTHER },
        };
        _cleanup_(host_names_freep) char **names = NULL;
        unsigned i = dice(r, ARRAY_SIZE(nodes) + 8);

        if (i < ARRAY_SIZE(nodes) && nodes[i].kind < OTHER && some(r, nodes[i].kind) >= 0 && chance(r, 70))
                return;

        if (i < ARRAY_SIZE(nodes)) {
                (void) keep(r, nodes[i].kind, host_open(r->host, nodes[i].path, O_RDWR));
        } else if (i == ARRAY_SIZE(nodes)) {
                (void) keep(r, EVENT, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        } else if (i <= ARRAY_SIZE(nodes) + 2) {
                make_memfd(r);
        } else if (some(r, CDEV) >= 0 && chance(r, 70)) {
                return;
        } else if (host_list(r->host, attribute(r, "vfio-dev"), &names) >= 0 && names[0]) {
                snprintf(r->path, sizeof(r->path), "/dev/vfio/devices/%s", names[0]);
                (void) keep(r, CDEV, host_open(r->host, r->path, chance(r, 90) ? O_RDWR : O_RDONLY));
        } else if (chance(r, 50))
                to_vfio(r);
}

static void kvm_call(struct run *r, int fd) {
        static const uint64_t capabilities[] = { TDI_KVM_CAP_DEVICE_CTRL, 100000, TDI_KVM_CAP_VM_TYPES };

        switch (dice(r, 4)) {
        case 0:
                (void) host_ioctl(r->host, fd, TDI_KVM_GET_API_VERSION, (void *) (uintptr_t) (chance(r, 80) ? 0 : 1));
                return;
        case 1:
                (void) host_ioctl(r->host, fd, TDI_KVM_CHECK_EXTENSION, (void *) (uintptr_t) capabilities[dice(r, 2)]);
                return;
        default:
                (void) keep(r, KVM_VM, host_ioctl(r->host, fd, TDI_KVM_CREATE_VM, (void *) (uintptr_t) (chance(r, 85) ? 0 : 99)));
        }
}

static void vm_call(struct run *r, int fd) {
        struct tdi_kvm_create_device create = { .type = TDI_KVM_DEV_TYPE_VFIO };

        switch (dice(r, 5)) {
        case 0:
                create.type = chance(r, 50) ? 250 : TDI_KVM_DEV_TYPE_VFIO;
                create.flags = chance(r, 50) ? TDI_KVM_CREATE_DEVICE_TEST : 0x10;
                (void) host_ioctl(r->host, fd, TDI_KVM_CREATE_DEVICE, &create);
                if (create.fd > 2)
                        (void) keep(r, OTHER, (int) create.fd);
                return;
        case 1:
                (void) host_ioctl(r->host, fd, TDI_KVM_CHECK_EXTENSION, (void *) (uintptr_t) TDI_KVM_CAP_DEVICE_CTRL);
                return;
        default:
                if (host_ioctl(r->host, fd, TDI_KVM_CREATE_DEVICE, &create) >= 0)
                        (void) keep(r, KVM_VFIO, (int) create.fd);
        }
}

static void kvm_vfio_call(struct run *r, int fd) {
        int32_t file = chance(r, 75) ? some(r, CDEV) : any(r);
        struct tdi_kvm_device_attr attr = { .group = TDI_KVM_DEV_VFIO_FILE, .attr = TDI_KVM_DEV_VFIO_FILE_ADD, .addr = (uintptr_t) &file };

        if (chance(r, 35))
                attr.attr = TDI_KVM_DEV_VFIO_FILE_DEL;
        if (chance(r, 10))
                attr.attr = 9;
        if (chance(r, 8))
                attr.group = 7;
        if (chance(r, 8))
                file = -1;
        if (chance(r, 80)) {
                (void) host_ioctl(r->host, fd, TDI_KVM_SET_DEVICE_ATTR, &attr);
                return;
        }
        attr.addr = 0;
        (void) host_ioctl(r->host, fd, TDI_KVM_HAS_DEVICE_ATTR, &attr);
}

static void udmabuf_call(struct run *r, int fd) {
        struct tdi_udmabuf_create create = { .flags = TDI_UDMABUF_FLAGS_CLOEXEC };
        struct {
                struct tdi_udmabuf_create_list list;
                struct tdi_udmabuf_create_item item[2];
        } l = { .list = { .flags = TDI_UDMABUF_FLAGS_CLOEXEC, .count = dice(r, 3) } };

        create.memfd = (uint32_t) (chance(r, 85) ? some(r, MEMFD) : any(r));
        create.offset = chance(r, 85) ? PAGE * dice(r, 3) : 17;
        create.size = chance(r, 85) ? PAGE * dice(r, 4) : 100;
        if (chance(r, 70)) {
                (void) keep(r, DMABUF, host_ioctl(r->host, fd, TDI_UDMABUF_CREATE, &create));
                return;
        }
        for (size_t i = 0; i < 2; i++) {
                l.item[i].memfd = (uint32_t) (chance(r, 90) ? some(r, MEMFD) : any(r));
                l.item[i].offset = PAGE * dice(r, 2);
                l.item[i].size = PAGE * dice(r, 3);
        }
        (void) keep(r, DMABUF, host_ioctl(r->host, fd, TDI_UDMABUF_CREATE_LIST, &l));
}

static void heap_call(struct run *r, int fd) {
        struct tdi_dma_heap_allocation_data a = { .len = PAGE * dice(r, 4), .fd_flags = O_RDWR | O_CLOEXEC };

        if (chance(r, 15))
                a.fd_flags = 0x7fffffff;
        if (chance(r, 15))
                a.heap_flags = 1;
        if (chance(r, 10))
                a.fd = 5;
        if (host_ioctl(r->host, fd, TDI_DMA_HEAP_IOCTL_ALLOC, &a) >= 0)
                (void) keep(r, DMABUF, (int) a.fd);
}

static void dmabuf_call(struct run *r, int fd) {
        struct tdi_dma_buf_sync sync = { .flags = dice(r, 12) };
        uint64_t name[8] = {};

        if (chance(r, 60)) {
                (void) host_ioctl(r->host, fd, TDI_DMA_BUF_IOCTL_SYNC, &sync);
                return;
        }
        memset(name, 'n', chance(r, 70) ? 8 : 40);
        (void) host_ioctl(r->host, fd, TDI_DMA_BUF_SET_NAME_B, name);
}

/* A call of one room on a file of another. Only such as every file but its own refuses: what sockets or memfds answer is nobody's business. */
static void wrong_file(struct run *r) {
        struct tdi_iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
        struct tdi_vfio_device_info info = { .argsz = sizeof(info) };
        static const enum kind kinds[] = { CDEV, IOMMUFD, KVM, KVM_VM, KVM_VFIO, UDMABUF, DMABUF };
        enum kind kind = kinds[dice(r, ARRAY_SIZE(kinds))];
        int fd = some(r, kind);

        if (fd < 0)
                return;
        switch (dice(r, 3)) {
        case 0:
                if (kind != IOMMUFD)
                        (void) host_ioctl(r->host, fd, TDI_IOMMU_IOAS_ALLOC, &ioas);
                return;
        case 1:
                if (kind != CDEV)
                        (void) host_ioctl(r->host, fd, TDI_VFIO_DEVICE_GET_INFO, &info);
                return;
        default:
                if (kind != KVM)
                        (void) host_ioctl(r->host, fd, TDI_KVM_GET_API_VERSION, NULL);
        }
}

/* The rooms in proportion to how much can go wrong in them. */
void one_call(struct run *r) {
        static const struct {
                enum kind kind;
                uint32_t weight;
                void (*call)(struct run *r, int fd);
        } rooms[] = {
                { CDEV, 34, device_call }, { IOMMUFD, 30, iommufd_call }, { KVM, 4, kvm_call }, { KVM_VM, 5, vm_call },
                { KVM_VFIO, 8, kvm_vfio_call }, { UDMABUF, 6, udmabuf_call }, { HEAP, 3, heap_call }, { DMABUF, 3, dmabuf_call },
        };
        static void (*const others[])(struct run *r) = {
                read_something, read_something, read_something, look, look, read_config, read_config, write_override, write_driver, write_driver,
                write_other, tsm_call, open_something, open_something, open_something, open_something, open_something, open_something, close_some,
                close_some, wrong_file,
        };

        if (chance(r, 58)) {
                size_t room;
                uint32_t n;
                int fd;

                /* One number is thrown away: the corpus was recorded so. */
                (void) dice(r, ARRAY_SIZE(rooms));
                n = dice(r, 93);
                for (room = 0; n >= rooms[room].weight; room++)
                        n -= rooms[room].weight;
                fd = some(r, rooms[room].kind);
                if (fd >= 0) {
                        rooms[room].call(r, fd);
                        return;
                }
        }
        others[dice(r, ARRAY_SIZE(others))](r);
}
