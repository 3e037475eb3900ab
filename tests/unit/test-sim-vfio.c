/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated vfio-pci: nodes, BIND, information, regions, config space, interrupts, resets, features, letting go.
 * Expected errnos are Linux 7.3's. */
#ifdef __clang__
/* A struct with what trails it, side by side: that is what these calls take. */
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

#include <linux/pci_regs.h>
#include <time.h>

#include "sim-kernel.h"

static const char topology[] =
        "{\"schema\": \"tdi-sim/1\", \"platform\": \"plain\", \"buses\": [{\"bus\": \"0000:00\"}],"
        " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"ide\": true}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"02\"},"
        "             {\"bdf\": \"0000:00:03.0\", \"bus\": \"03\"}, {\"bdf\": \"0000:00:04.0\", \"bus\": \"04\"}],"
        " \"functions\": ["
        "  {\"bdf\": \"0000:01:00.0\", \"model\": \"edu\", \"flr\": true, \"driver\": \"vfio-pci\", \"doe\": true, \"ide\": true,"
        "   \"bars\": [{\"size\": \"1M\"}]},"
        "  {\"bdf\": \"0000:02:00.0\", \"model\": \"memory\", \"ids\": \"1234:0001\", \"flr\": true, \"driver\": \"vfio-pci\", \"msix\": 4,"
        "   \"bars\": [{\"size\": \"64K\", \"kind\": \"mem64\"}, {\"bar\": 2, \"size\": 256}]},"
        "  {\"bdf\": \"0000:03:00.0\", \"model\": \"memory\", \"ids\": \"1234:0002\", \"driver\": \"vfio-pci\","
        "   \"bars\": [{\"size\": 4096}], \"group\": \"g\"},"
        "  {\"bdf\": \"0000:03:00.1\", \"model\": \"memory\", \"ids\": \"1234:0002\", \"driver\": \"vfio-pci\","
        "   \"bars\": [{\"size\": 4096}], \"group\": \"g\"},"
        "  {\"bdf\": \"0000:04:00.0\", \"model\": \"memory\", \"ids\": \"1234:0003\", \"flr\": true, \"driver\": \"vfio-pci\","
        "   \"bars\": [{\"size\": 4096}],"
        "   \"sriov\": {\"total\": 2, \"vf\": {\"ids\": \"1234:0004\", \"model\": \"memory\", \"bars\": [{\"size\": 4096}]}}}]}";

#define EDU "0000:01:00.0"
#define MEM "0000:02:00.0"
#define TWO "0000:03:00.0"
#define TWO1 "0000:03:00.1"
#define PF "0000:04:00.0"
#define VF "0000:04:00.1"

static int open_iommu(void) {
        int fd = host_open(host, "/dev/iommu", O_RDWR);

        require(fd >= 0);
        return fd;
}

static struct sim_function *function(const char *bdf) {
        return sim_function_find(sim_machine(kernel), bdf);
}

/* A device that is bound: its file, and its own iommufd, which is closed already. */
static int open_bound(const char *bdf) {
        int device = open_vfio(bdf), iommufd = open_iommu();

        require(device >= 0);
        check_int(bind_vfio(device, iommufd, NULL), 0);
        check_int(host_close(host, iommufd), 0);
        return device;
}

static void test_bind(void) {
        int device = open_vfio(EDU), again = open_vfio(EDU), iommufd = open_iommu(), event = new_event(), group;
        struct tdi_vfio_device_info info = { .argsz = sizeof(info) };
        struct tdi_vfio_device_bind_iommufd bind = { .argsz = 8, .iommufd = iommufd };
        struct sim_call call = { .sim = kernel };
        char path[64], link[256], *slash;
        uint32_t id;

        check_int(CALL(device, VFIO_DEVICE_GET_INFO, &info), -EINVAL);
        check_int(CALL(device, VFIO_DEVICE_RESET, NULL), -EINVAL);
        check_int(host_pread(host, device, &id, 4, CONFIG), -EINVAL);
        check_int(CALL(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
        bind.argsz = sizeof(bind);
        bind.flags = 2;
        check_int(CALL(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
        check_int(bind_vfio(device, -1, NULL), -EINVAL);
        check_int(bind_vfio(device, event, NULL), -EBADFD);
        check_int(bind_vfio(device, again, NULL), -EBADFD);

        /* A reset that cannot have the device lock is not waited for. */
        sim_lock(kernel);
        require(sim_try_down_write(&call, &function(EDU)->lock));
        sim_unlock(kernel);
        check_int(bind_vfio(device, iommufd, NULL), -EAGAIN);
        sim_lock(kernel);
        sim_up_write(&call, &function(EDU)->lock);
        sim_unlock(kernel);

        /* The old interface and the new one exclude each other. */
        check(host_readlink(host, "/sys/bus/pci/devices/" EDU "/iommu_group", link, sizeof(link)) > 0);
        slash = strrchr(link, '/');
        require(slash);
        snprintf(path, sizeof(path), "/dev/vfio/%.20s", slash + 1);
        group = host_open(host, path, O_RDWR);
        check(group >= 0);
        check_int(host_open(host, path, O_RDWR), -EBUSY);
        check_int(bind_vfio(device, iommufd, NULL), -EBUSY);
        check_int(host_close(host, group), 0);

        check_int(bind_vfio(device, iommufd, &id), 0);
        check_int(id, 1);
        check_int(host_open(host, path, O_RDWR), -EBUSY);
        check_int(bind_vfio(device, iommufd, NULL), -EINVAL);
        check_int(bind_vfio(again, iommufd, NULL), -EINVAL);
        check_int(CALL(again, VFIO_DEVICE_GET_INFO, &info), -EINVAL);
        check_int(CALL(device, VFIO_DEVICE_GET_INFO, &info), 0);
        check_int(host_close(host, device), 0);
        check_int(bind_vfio(again, iommufd, NULL), 0);
        check_int(host_close(host, again), 0);
        check_int(host_close(host, iommufd), 0);
        close_fd(event);
}

static void test_info(void) {
        union {
                struct tdi_vfio_region_info region;
                uint8_t room[64];
        } u = {};
        struct tdi_vfio_device_info info = { .argsz = 15 };
        struct tdi_vfio_irq_info irq = { .argsz = sizeof(irq) };
        struct tdi_vfio_info_cap_header cap;
        int device = open_bound(MEM);

        check_int(CALL(device, VFIO_DEVICE_GET_INFO, &info), -EINVAL);
        info.argsz = sizeof(info);
        check_int(CALL(device, VFIO_DEVICE_GET_INFO, &info), 0);
        check_int(info.flags, TDI_VFIO_DEVICE_FLAGS_PCI | TDI_VFIO_DEVICE_FLAGS_RESET);
        check_int(info.num_regions, 9);
        check_int(info.num_irqs, 5);

        u.region.argsz = sizeof(u.region);
        check_int(CALL(device, VFIO_DEVICE_GET_REGION_INFO, &u), 0);
        check_int(u.region.size, 65536);
        check_int(u.region.offset, 0);
        check(u.region.flags & TDI_VFIO_REGION_INFO_FLAG_MMAP);
        u.region.index = 1;
        u.region.argsz = sizeof(u.region);
        check_int(CALL(device, VFIO_DEVICE_GET_REGION_INFO, &u), 0);
        check_int(u.region.size, 0);
        check_int(u.region.flags, 0);
        u.region.index = TDI_VFIO_PCI_VGA_REGION_INDEX;
        check_int(CALL(device, VFIO_DEVICE_GET_REGION_INFO, &u), -EINVAL);
        u.region.index = TDI_VFIO_PCI_CONFIG_REGION_INDEX;
        check_int(CALL(device, VFIO_DEVICE_GET_REGION_INFO, &u), 0);
        check_int(u.region.size, 4096);
        check(u.region.offset == CONFIG);

        /* The BAR with the MSI-X table says so, where there is room. */
        for (uint32_t i = 0; i < 6; i++) {
                memset(&u, 0, sizeof(u));
                u.region.argsz = sizeof(u.region);
                u.region.index = i;
                check_int(CALL(device, VFIO_DEVICE_GET_REGION_INFO, &u), 0);
                if (!(u.region.flags & TDI_VFIO_REGION_INFO_FLAG_CAPS))
                        continue;
                check_int(u.region.argsz, sizeof(u.region) + sizeof(cap));
                check_int(u.region.cap_offset, 0);
                check_int(CALL(device, VFIO_DEVICE_GET_REGION_INFO, &u), 0);
                check_int(u.region.cap_offset, sizeof(u.region));
                memcpy(&cap, u.room + u.region.cap_offset, sizeof(cap));
                check_int(cap.id, TDI_VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
                check_int(cap.next, 0);
        }

        irq.index = TDI_VFIO_PCI_MSIX_IRQ_INDEX;
        check_int(CALL(device, VFIO_DEVICE_GET_IRQ_INFO, &irq), 0);
        check_int(irq.count, 4);
        check_int(irq.flags, TDI_VFIO_IRQ_INFO_EVENTFD);
        irq.index = TDI_VFIO_PCI_INTX_IRQ_INDEX;
        check_int(CALL(device, VFIO_DEVICE_GET_IRQ_INFO, &irq), 0);
        check_int(irq.count, 0);
        irq.index = 5;
        check_int(CALL(device, VFIO_DEVICE_GET_IRQ_INFO, &irq), -EINVAL);
        check_int(host_close(host, device), 0);
}

static unsigned find_cap(int device, uint8_t id) {
        uint8_t at = (uint8_t) read32(device, CONFIG + PCI_CAPABILITY_LIST);

        for (unsigned i = 0; at && i < 64; i++, at = (uint8_t) (read32(device, CONFIG + at) >> 8))
                if ((uint8_t) read32(device, CONFIG + at) == id)
                        return at;
        return 0;
}

static unsigned find_ext_cap(int device, uint16_t id) {
        unsigned at = 0x100;

        for (unsigned i = 0; at && i < 512; i++, at = read32(device, CONFIG + at) >> 20)
                if ((uint16_t) read32(device, CONFIG + at) == id)
                        return at;
        return 0;
}

static void test_config(void) {
        int device = open_bound(EDU), mem = open_bound(MEM);
        uint8_t whole[4097];
        unsigned pm, express;
        uint32_t bar;

        check_int(read32(device, CONFIG), 0x11e81234);
        check_int(host_pread(host, device, whole, 4096, CONFIG), 4096);
        check_int(host_pread(host, device, whole, 4097, CONFIG), -EFAULT);
        check_int(host_pread(host, device, whole, 2, CONFIG + 4095), -EFAULT);
        check_int(host_pread(host, device, whole, 0, CONFIG), 0);
        check_int(host_pread(host, device, whole, 4, BAR(8)), -EINVAL);
        check_int(host_pread(host, device, whole, 4, BAR(9)), -EINVAL);
        write32(device, CONFIG, 0);
        check_int(read32(device, CONFIG), 0x11e81234);

        /* BARs are the user's own. */
        bar = read32(device, CONFIG + PCI_BASE_ADDRESS_0);
        write32(device, CONFIG + PCI_BASE_ADDRESS_0, UINT32_MAX);
        check_int(read32(device, CONFIG + PCI_BASE_ADDRESS_0), 0xfff00000);
        write32(device, CONFIG + PCI_BASE_ADDRESS_0, 0x12345678);
        check_int(read32(device, CONFIG + PCI_BASE_ADDRESS_0), 0x12300000);
        sim_lock(kernel);
        check(memcmp(function(EDU)->config + PCI_BASE_ADDRESS_0, &bar, 4) == 0);
        sim_unlock(kernel);
        write32(mem, CONFIG + PCI_BASE_ADDRESS_0, UINT32_MAX);
        write32(mem, CONFIG + PCI_BASE_ADDRESS_1, UINT32_MAX);
        check_int(read32(mem, CONFIG + PCI_BASE_ADDRESS_0), 0xffff0004);
        check_int(read32(mem, CONFIG + PCI_BASE_ADDRESS_1), UINT32_MAX);

        /* A user neither sees the mailbox nor the stream registers. */
        sim_lock(kernel);
        check(sim_find_ext_capability(function(EDU), 0x2e) && sim_find_ext_capability(function(EDU), 0x30));
        sim_unlock(kernel);
        check_int(find_ext_cap(device, 0x2e), 0);
        check_int(find_ext_cap(device, 0x30), 0);

        /* Without memory, none is reached. */
        check_int(read16(device, CONFIG + PCI_COMMAND) & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER), PCI_COMMAND_MEMORY);
        check_int(read32(device, BAR(0)), 0x010000ed);
        write16(device, CONFIG + PCI_COMMAND, 0);
        check_int(host_pread(host, device, whole, 4, BAR(0)), -EIO);
        check_int(host_pwrite(host, device, whole, 4, BAR(0)), -EIO);
        write16(device, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY);
        check_int(read32(device, BAR(0)), 0x010000ed);

        pm = find_cap(device, PCI_CAP_ID_PM);
        require(pm);
        write16(device, CONFIG + pm + PCI_PM_CTRL, 3);
        check_int(read16(device, CONFIG + pm + PCI_PM_CTRL) & 3, 3);
        check_int(host_pread(host, device, whole, 4, BAR(0)), -EIO);
        write16(device, CONFIG + pm + PCI_PM_CTRL, 0);
        check_int(read32(device, BAR(0)), 0x010000ed);

        /* FLR: the registers are gone, COMMAND and what the user believes about BARs are not. */
        express = find_cap(device, PCI_CAP_ID_EXP);
        require(express);
        write32(device, BAR(0) + 4, 0x55555555);
        check_int(read32(device, BAR(0) + 4), 0xaaaaaaaa);
        write16(device, CONFIG + express + PCI_EXP_DEVCTL,
                (uint16_t) (read16(device, CONFIG + express + PCI_EXP_DEVCTL) | PCI_EXP_DEVCTL_BCR_FLR));
        check_int(read16(device, CONFIG + express + PCI_EXP_DEVCTL) & PCI_EXP_DEVCTL_BCR_FLR, 0);
        check_int(read32(device, BAR(0) + 4), 0);
        check_int(read32(device, CONFIG + PCI_BASE_ADDRESS_0), 0x12300000);
        write32(device, BAR(0) + 4, 1);
        check_int(CALL(device, VFIO_DEVICE_RESET, NULL), 0);
        check_int(read32(device, BAR(0) + 4), 0);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, mem), 0);
}

static void test_regions(void) {
        int device = open_bound(MEM);
        uint8_t a[32], b[32];
        uint64_t start = 0, end = 0;
        unsigned msix = 9;

        for (unsigned i = 0; i < sizeof(a); i++)
                a[i] = (uint8_t) (i + 1);
        check_int(host_pwrite(host, device, a, sizeof(a), BAR(0) + 0x803), sizeof(a));
        check_int(host_pread(host, device, b, sizeof(b), BAR(0) + 0x803), sizeof(b));
        check(memcmp(a, b, sizeof(a)) == 0);
        /* Cut at the BAR's end; refused beyond it, and where there is no BAR. */
        check_int(host_pread(host, device, b, sizeof(b), BAR(2) + 250), 6);
        check_int(host_pread(host, device, b, 1, BAR(2) + 256), -EINVAL);
        check_int(host_pread(host, device, b, 1, BAR(5)), -EINVAL);
        check_int(host_pread(host, device, b, 1, BAR(6)), -EINVAL);
        check_int(host_pwrite(host, device, a, 1, BAR(6)), -EINVAL);

        sim_lock(kernel);
        {
                unsigned cap = sim_find_capability(function(MEM), PCI_CAP_ID_MSIX);
                uint32_t table;

                require(cap);
                sim_config_read(function(MEM), cap + PCI_MSIX_TABLE, &table, 4);
                msix = table & 7;
                start = table & ~7u;
                end = start + 64;
        }
        sim_unlock(kernel);
        check_int(host_pwrite(host, device, a, 4, BAR(msix) + start), 4);
        check_int(read32(device, BAR(msix) + start), UINT32_MAX);
        check_int(read32(device, BAR(msix) + end - 4), UINT32_MAX);
        check_int(host_close(host, device), 0);
}

#define TRIGGER TDI_VFIO_IRQ_SET_ACTION_TRIGGER
#define NONE TDI_VFIO_IRQ_SET_DATA_NONE
#define EVENT TDI_VFIO_IRQ_SET_DATA_EVENTFD

static void test_intx(void) {
        int device = open_bound(EDU), event = new_event(), unmask = new_event();

        check_int(set_irqs(device, NONE | TDI_VFIO_IRQ_SET_ACTION_MASK, 0, 0, 1, NULL), -EINVAL);
        check_int(set_event(device, TDI_VFIO_PCI_INTX_IRQ_INDEX, event), 0);
        check_int(set_irqs(device, NONE | TRIGGER, 0, 0, 1, NULL), 0);
        check_int(events(event, 100), 1);
        /* One that came masks itself; unmasked while it is still there, it comes again. */
        write32(device, BAR(0) + 0x60, 1);
        check_int(events(event, 100), 1);
        write32(device, BAR(0) + 0x60, 2);
        check_int(events(event, 20), 0);
        check(read16(device, CONFIG + PCI_STATUS) & PCI_STATUS_INTERRUPT);
        check_int(set_irqs(device, NONE | TDI_VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1, NULL), 0);
        check_int(events(event, 100), 1);
        write32(device, BAR(0) + 0x64, 3);
        check_int(set_irqs(device, NONE | TDI_VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1, NULL), 0);
        check_int(events(event, 20), 0);
        /* Unmasked by an eventfd. */
        write32(device, BAR(0) + 0x60, 1);
        check_int(events(event, 100), 1);
        check_int(set_irqs(device, EVENT | TDI_VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1, &unmask), 0);
        check_int(set_irqs(device, EVENT | TDI_VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1, &unmask), -EBUSY);
        check_int(set_irqs(device, EVENT | TDI_VFIO_IRQ_SET_ACTION_MASK, 0, 0, 1, &unmask), -ENOTTY);
        check_int(write(unmask, &(uint64_t) { 1 }, 8), 8);
        check_int(events(event, 500), 1);
        write32(device, BAR(0) + 0x64, 1);
        /* Only one kind at a time. */
        check_int(set_event(device, TDI_VFIO_PCI_MSI_IRQ_INDEX, event), -EINVAL);
        check_int(set_irqs(device, NONE | TRIGGER, 0, 0, 0, NULL), 0);
        check_int(host_close(host, device), 0);
        close_fd(event);
        close_fd(unmask);
}

static void test_msi(void) {
        int device = open_bound(EDU), mem = open_bound(MEM), event = new_event(), second = new_event(), file = new_memfd(4096, 0);
        int32_t fds[4] = { -1, event, -1, second };

        check_int(set_irqs(device, EVENT | TRIGGER, TDI_VFIO_PCI_MSI_IRQ_INDEX, 0, 2, fds), -EINVAL);
        check_int(set_irqs(device, EVENT | TRIGGER, TDI_VFIO_PCI_MSI_IRQ_INDEX, 1, 1, fds), -EINVAL);
        check_int(set_irqs(device, EVENT | TRIGGER, 5, 0, 1, fds), -EINVAL);
        check_int(set_irqs(device, EVENT, TDI_VFIO_PCI_MSI_IRQ_INDEX, 0, 1, fds), -ENOTTY);
        check_int(set_irqs(device, EVENT | NONE | TRIGGER, TDI_VFIO_PCI_MSI_IRQ_INDEX, 0, 1, fds), -EINVAL);
        check_int(set_irqs(device, NONE | TDI_VFIO_IRQ_SET_ACTION_MASK, TDI_VFIO_PCI_MSI_IRQ_INDEX, 0, 1, NULL), -ENOTTY);
        check_int(set_irqs(device, EVENT | TRIGGER, TDI_VFIO_PCI_MSI_IRQ_INDEX, 0, 0, NULL), -ERANGE);
        check_int(set_event(device, TDI_VFIO_PCI_MSI_IRQ_INDEX, file), -EINVAL);
        check_int(set_event(device, TDI_VFIO_PCI_MSI_IRQ_INDEX, device), -EINVAL);
        check_int(set_event(device, TDI_VFIO_PCI_MSI_IRQ_INDEX, event), 0);
        /* A message is a write to memory. */
        write32(device, BAR(0) + 0x60, 1);
        check_int(events(event, 20), 0);
        write16(device, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        write32(device, BAR(0) + 0x60, 1);
        check_int(events(event, 100), 1);
        check_int(read32(device, BAR(0) + 0x24), 1);
        /* A factorial that says when it is done. */
        write32(device, BAR(0) + 0x20, 0x80);
        write32(device, BAR(0) + 8, 10);
        check_int(events(event, 500), 1);
        check_int(read32(device, BAR(0) + 8), 3628800);
        check_int(set_event(device, TDI_VFIO_PCI_MSI_IRQ_INDEX, -1), 0);
        write32(device, BAR(0) + 0x60, 1);
        check_int(events(event, 20), 0);
        check_int(set_irqs(device, NONE | TRIGGER, TDI_VFIO_PCI_MSI_IRQ_INDEX, 0, 0, NULL), 0);

        check_int(set_irqs(mem, EVENT | TRIGGER, TDI_VFIO_PCI_MSIX_IRQ_INDEX, 0, 4, fds), 0);
        check_int(set_irqs(mem, NONE | TRIGGER, TDI_VFIO_PCI_MSIX_IRQ_INDEX, 0, 4, NULL), 0);
        check_int(events(event, 100), 1);
        check_int(events(second, 100), 1);
        write16(mem, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        sim_lock(kernel);
        sim_vfio_interrupt(function(MEM), 3);
        sim_vfio_interrupt(function(MEM), 2);
        sim_vfio_interrupt(function(MEM), 4);
        sim_unlock(kernel);
        check_int(events(second, 100), 1);

        /* ERR and REQ have one each. */
        check_int(set_irqs(mem, NONE | TRIGGER, TDI_VFIO_PCI_ERR_IRQ_INDEX, 0, 1, NULL), -EINVAL);
        check_int(set_event(mem, TDI_VFIO_PCI_ERR_IRQ_INDEX, event), 0);
        check_int(set_irqs(mem, NONE | TRIGGER, TDI_VFIO_PCI_ERR_IRQ_INDEX, 0, 1, NULL), 0);
        check_int(events(event, 100), 1);
        sim_lock(kernel);
        sim_vfio_error(NULL, function(MEM));
        sim_unlock(kernel);
        check_int(events(event, 100), 1);
        check_int(set_irqs(mem, NONE | TDI_VFIO_IRQ_SET_ACTION_UNMASK, TDI_VFIO_PCI_REQ_IRQ_INDEX, 0, 1, NULL), -ENOTTY);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, mem), 0);
        close_fd(event);
        close_fd(second);
        close_fd(file);
}

static void test_edu_dma(void) {
        int device = open_vfio(EDU), iommufd = open_iommu(), memory = new_memfd(0x10000, 0), event = new_event();
        uint32_t ioas = new_ioas(iommufd), pt = ioas;
        char text[16] = "from memory";

        check_int(bind_vfio(device, iommufd, NULL), 0);
        check_int(attach_vfio(device, &pt), 0);
        check_int(map_file(iommufd, ioas, memory, 0, 0x10000, 0x8000000), 0);
        check_int(set_event(device, TDI_VFIO_PCI_MSI_IRQ_INDEX, event), 0);
        check_int(pwrite(memory, text, sizeof(text), 0x1000), sizeof(text));
        write16(device, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        write32(device, BAR(0) + 0x80, 0x8001000);
        write32(device, BAR(0) + 0x88, 0x40000);
        write32(device, BAR(0) + 0x90, sizeof(text));
        write32(device, BAR(0) + 0x98, 1 | 4);
        check_int(read32(device, BAR(0) + 0x98), 5);
        check_int(events(event, 2000), 1);
        check_int(read32(device, BAR(0) + 0x98), 4);
        write32(device, BAR(0) + 0x64, 0x100);
        write32(device, BAR(0) + 0x80, 0x40000);
        write32(device, BAR(0) + 0x88, 0x8009000);
        write32(device, BAR(0) + 0x98, 1 | 2 | 4);
        check_int(events(event, 2000), 1);
        memset(text, 0, sizeof(text));
        check_int(pread(memory, text, sizeof(text), 0x9000), sizeof(text));
        check_str(text, "from memory");
        /* Under way while the device is closed. */
        write32(device, BAR(0) + 0x98, 1 | 2 | 4);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, iommufd), 0);
        (void) usleep(150000);
        check_int(events(event, 0), 0);
        close_fd(memory);
        close_fd(event);
}

/* ---- features ---- */

static int feature(int device, uint32_t flags, const void *data, size_t size) {
        union {
                struct tdi_vfio_device_feature feature;
                char room[256];
        } u = { .feature = { .argsz = (uint32_t) (sizeof(u.feature) + size), .flags = flags } };

        if (size > 0)
                memcpy(u.feature.data, data, size);
        return CALL(device, VFIO_DEVICE_FEATURE, &u);
}

static int export(int device, uint32_t region, uint32_t flags, uint32_t n, const struct tdi_vfio_region_dma_range *ranges) {
        struct {
                struct tdi_vfio_device_feature_dma_buf get;
                struct tdi_vfio_region_dma_range ranges[4];
        } data = { .get = { .region_index = region, .open_flags = O_RDWR | O_CLOEXEC, .flags = flags, .nr_ranges = n } };

        memcpy(data.ranges, ranges, n * sizeof(*ranges));
        return feature(device, TDI_VFIO_DEVICE_FEATURE_DMA_BUF | TDI_VFIO_DEVICE_FEATURE_GET, &data,
                       sizeof(data.get) + n * sizeof(*ranges));
}

static void test_dmabufs(void) {
        const struct tdi_vfio_region_dma_range all = { 0, 0x10000 }, part = { 0x1000, 0x1000 }, odd = { 100, 0x1000 },
                                               beyond = { 0x10000, 0x1000 },
                                               nothing = { 0, 0 }, both[2] = { { 0, 0x1000 }, { 0x2000, 0x1000 } };
        int device = open_vfio(MEM), edu = open_vfio(EDU), iommufd = open_iommu(), buffer, two, born;
        uint32_t ioas = new_ioas(iommufd), pt = ioas;
        char name[128], text[8] = "peer";
        struct sim_function *fn;

        check_int(bind_vfio(device, iommufd, NULL), 0);
        check_int(bind_vfio(edu, iommufd, NULL), 0);
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_DMA_BUF | TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_PROBE,
                          NULL, 0), 0);
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_DMA_BUF | TDI_VFIO_DEVICE_FEATURE_SET, NULL, 0), -EINVAL);
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_MIGRATION | TDI_VFIO_DEVICE_FEATURE_GET, name, 8), -ENOTTY);
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_PCI_VF_TOKEN | TDI_VFIO_DEVICE_FEATURE_SET, name, 16), -ENOTTY);
        check_int(export(device, 0, 0, 0, &all), -EINVAL);
        check_int(export(device, 0, 1, 1, &all), -EINVAL);
        check_int(export(device, 0, 0, 1, &odd), -EINVAL);
        check_int(export(device, 0, 0, 1, &beyond), -EINVAL);
        check_int(export(device, 0, 0, 1, &nothing), -EINVAL);
        check_int(export(device, 2, 0, 1, &part), -EINVAL);
        check_int(export(device, 1, 0, 1, &part), -ENODEV);
        check_int(export(device, 6, 0, 1, &part), -ENODEV);
        check_int(export(device, 7, 0, 1, &part), -ENODEV);
        buffer = export(device, 0, 0, 1, &part);
        require(buffer >= 0);
        two = export(device, 0, 0, 2, both);
        require(two >= 0);
        check_int(host_identify(host, buffer, name, sizeof(name)), 0);
        check(startswith(name, "/dmabuf:"));

        /* Into the other function's address space: one range only. */
        check_int(attach_vfio(edu, &pt), 0);
        check_int(map_file(iommufd, ioas, two, 0, 0x1000, 0x100000), -EOPNOTSUPP);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x2000, 0x100000), -EINVAL);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x1000, 0x100000), 0);
        sim_lock(kernel);
        fn = function(EDU);
        check_int(sim_dma(fn, 0x100010, text, 4, true), 0);
        sim_unlock(kernel);
        check_int(read32(device, BAR(0) + 0x1010), 0x72656570);

        /* Memory off: the map is dead, for good; the buffer comes back. */
        write16(device, CONFIG + PCI_COMMAND, 0);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x1000, 0x200000), -ENODEV);
        born = export(device, 0, 0, 1, &all);
        require(born >= 0);
        check_int(map_file(iommufd, ioas, born, 0, 0x1000, 0x200000), -ENODEV);
        write16(device, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY);
        sim_lock(kernel);
        check_int(sim_dma(fn, 0x100010, text, 4, true), -EFAULT);
        sim_unlock(kernel);
        check_int(unmap(iommufd, ioas, 0x100000, 0x1000, NULL), 0);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x1000, 0x100000), 0);
        check_int(map_file(iommufd, ioas, born, 0xf000, 0x1000, 0x200000), 0);

        /* Low power: revoked until it is left. */
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY | TDI_VFIO_DEVICE_FEATURE_SET, NULL, 0), 0);
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY | TDI_VFIO_DEVICE_FEATURE_SET, NULL, 0), -EINVAL);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x1000, 0x300000), -ENODEV);
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_LOW_POWER_EXIT | TDI_VFIO_DEVICE_FEATURE_SET, NULL, 0), 0);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x1000, 0x300000), 0);

        /* After the last close nothing brings it back. */
        check_int(host_close(host, device), 0);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x1000, 0x400000), -ENODEV);
        device = open_bound(TWO);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, buffer), 0);
        check_int(host_close(host, two), 0);
        check_int(host_close(host, born), 0);
        check_int(host_close(host, edu), 0);
        check_int(host_close(host, iommufd), 0);
}

static void test_wakeup(void) {
        struct tdi_vfio_device_low_power_entry_with_wakeup entry = {};
        int device = open_bound(MEM), event = new_event();

        entry.wakeup_eventfd = event;
        check_int(host_write_text(host, "/sys/bus/pci/devices/" MEM "/power/control", "auto"), 0);
        check_int(feature(device, TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP | TDI_VFIO_DEVICE_FEATURE_SET,
                          &entry, sizeof(entry)), 0);
        check_int(events(event, 20), 0);
        check_int(read16(device, CONFIG), 0x1234);
        check_int(events(event, 100), 1);
        check_int(host_close(host, device), 0);
        close_fd(event);
}

/* ---- letting go ---- */

struct writer {
        pthread_t thread;
        const char *path, *text;
        int r;
        atomic_bool done;
};

static void *write_text(void *data) {
        struct writer *w = data;

        w->r = host_write_text(host, w->path, w->text);
        w->done = true;
        return NULL;
}

static void test_unbind(void) {
        struct writer w = { .path = "/sys/bus/pci/drivers/vfio-pci/unbind", .text = EDU };
        int device = open_bound(EDU), event = new_event();
        char driver[32];

        check_int(set_event(device, TDI_VFIO_PCI_REQ_IRQ_INDEX, event), 0);
        require(pthread_create(&w.thread, NULL, write_text, &w) == 0);
        check_int(events(event, 2000), 1);
        (void) usleep(50000);
        check(!w.done);
        /* Nobody can open it any more; who has it goes on. */
        check_int(host_open(host, "/dev/vfio/devices/vfio0", O_RDWR), -ENOENT);
        check_int(read32(device, BAR(0)), 0x010000ed);
        /* The unbind has the device lock: a reset does not. */
        check_int(CALL(device, VFIO_DEVICE_RESET, NULL), -EAGAIN);
        check_int(host_close(host, device), 0);
        require(pthread_join(w.thread, NULL) == 0);
        check_int(w.r, 0);
        check_int(host_read_link_name(host, "/sys/bus/pci/devices/" EDU "/driver", driver, sizeof(driver)), -ENOENT);
        check_int(host_write_text(host, "/sys/bus/pci/drivers/vfio-pci/bind", EDU), 0);
        /* The number is the lowest that is free. */
        device = host_open(host, "/dev/vfio/devices/vfio0", O_RDWR);
        check(device >= 0);
        check_int(host_close(host, device), 0);
        close_fd(event);
}

static double now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static void add_fault(const char *text) {
        struct json_object *rule = json_tokener_parse(text);
        char why[256] = "";

        require(rule);
        sim_lock(kernel);
        if (fault_add(kernel, rule, NULL, why, sizeof(why)) < 0)
                test_fail(__FILE__, __LINE__, "%s", why);
        sim_unlock(kernel);
        json_object_put(rule);
}

static void *reset_device(void *data) {
        check_int(CALL(*(int *) data, VFIO_DEVICE_RESET, NULL), 0);
        return NULL;
}

/* What a reset keeps waiting: memory and config space, but not what is only remembered. */
static void test_slow_reset(void) {
        int device = open_bound(EDU), other = open_bound(MEM);
        pthread_t thread;
        double start = now();

        add_fault("{\"call\": \"reset\", \"device\": \"" EDU "\", \"nth\": 1, \"delay_ms\": 400}");
        require(pthread_create(&thread, NULL, reset_device, &device) == 0);
        (void) usleep(100000);
        check_int(read32(device, CONFIG), 0x11e81234);
        check_int(read32(other, BAR(0)), 0);
        check_int(read32(device, BAR(0)), 0x010000ed);
        /* The reset takes as long at least. */
        check(now() - start > 0.4);
        require(pthread_join(thread, NULL) == 0);
        add_fault("{\"call\": \"reset\", \"device\": \"" EDU "\", \"nth\": 1, \"delay_ms\": 400}");
        start = now();
        require(pthread_create(&thread, NULL, reset_device, &device) == 0);
        (void) usleep(100000);
        check(read16(device, CONFIG + PCI_COMMAND) & PCI_COMMAND_MEMORY);
        check(now() - start > 0.4);
        require(pthread_join(thread, NULL) == 0);
        /* One that fails is not there for the user: the device opens without a reset. */
        check_int(host_close(host, device), 0);
        add_fault("{\"call\": \"reset\", \"device\": \"" EDU "\", \"nth\": 1, \"errno\": \"ENOTTY\"}");
        device = open_bound(EDU);
        check_int(CALL(device, VFIO_DEVICE_RESET, NULL), -EINVAL);
        sim_lock(kernel);
        (void) fault_clear(kernel, 0);
        sim_unlock(kernel);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, other), 0);
}

static void test_hot_reset(void) {
        union {
                struct tdi_vfio_pci_hot_reset_info info;
                char room[64];
        } u = { .info = { .argsz = sizeof(u.info) } };
        union {
                struct tdi_vfio_pci_hot_reset call;
                char room[sizeof(struct tdi_vfio_pci_hot_reset) + sizeof(int32_t)];
        } reset = { .call = { .argsz = sizeof(reset.call) } };
        struct tdi_vfio_device_info info = { .argsz = sizeof(info) };
        int device = open_vfio(TWO), neighbour = open_vfio(TWO1), iommufd = open_iommu();
        uint32_t id;

        check_int(bind_vfio(device, iommufd, &id), 0);
        /* Two functions on the bus, neither with an FLR. */
        check_int(CALL(device, VFIO_DEVICE_GET_INFO, &info), 0);
        check_int(info.flags & TDI_VFIO_DEVICE_FLAGS_RESET, 0);
        check_int(CALL(device, VFIO_DEVICE_RESET, NULL), -EINVAL);
        check_int(CALL(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &u), -ENOSPC);
        check_int(u.info.count, 2);
        u.info.argsz = sizeof(u);
        check_int(CALL(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &u), 0);
        check_int(u.info.count, 2);
        check_int(u.info.flags, TDI_VFIO_PCI_HOT_RESET_FLAG_DEV_ID | TDI_VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED);
        check_int(u.info.devices[0].devid, id);
        check_int(u.info.devices[1].devid, TDI_VFIO_PCI_DEVID_OWNED);
        check_int(u.info.devices[1].devfn, 1);
        write32(device, BAR(0), 7);
        reset.call.count = 1;
        check_int(CALL(device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
        reset.call.count = 0;
        check_int(CALL(device, VFIO_DEVICE_PCI_HOT_RESET, &reset), 0);
        check_int(read32(device, BAR(0)), 0);
        /* With one of them on no driver that takes part, nothing can be reset. */
        check_int(host_close(host, neighbour), 0);
        check_int(host_write_text(host, "/sys/bus/pci/drivers/vfio-pci/unbind", TWO1), 0);
        check_int(CALL(device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL);
        check_int(CALL(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &u), 0);
        check_int((int32_t) u.info.devices[1].devid, TDI_VFIO_PCI_DEVID_NOT_OWNED);
        check_int(host_write_text(host, "/sys/bus/pci/drivers/vfio-pci/bind", TWO1), 0);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, iommufd), 0);
}

static void test_token(void) {
        struct tdi_vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .flags = TDI_VFIO_DEVICE_BIND_FLAG_TOKEN };
        uint8_t token[16] = { 1, 2, 3 }, wrong[16] = { 9 };
        int iommufd = open_iommu(), pf, vf;

        bind.iommufd = iommufd;
        check_int(host_write_text(host, "/sys/bus/pci/devices/" PF "/sriov_numvfs", "1"), -ENOENT);
        check_int(host_write_text(host, "/sys/module/vfio_pci/parameters/enable_sriov", "Y"), 0);
        check_int(host_write_text(host, "/sys/bus/pci/devices/" PF "/sriov_numvfs", "1"), 0);
        vf = open_vfio(VF);
        require(vf >= 0);
        check_int(bind_vfio(vf, iommufd, NULL), -EACCES);
        /* Without users among the VFs, the PF's user sets it. */
        pf = open_vfio(PF);
        bind.token_uuid_ptr = (uintptr_t) token;
        check_int(CALL(pf, VFIO_DEVICE_BIND_IOMMUFD, &bind), 0);
        bind.token_uuid_ptr = (uintptr_t) wrong;
        check_int(CALL(vf, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EACCES);
        bind.token_uuid_ptr = (uintptr_t) token;
        check_int(CALL(vf, VFIO_DEVICE_BIND_IOMMUFD, &bind), 0);
        /* A VF has no memory enable of its own. */
        write16(vf, CONFIG + PCI_COMMAND, 0);
        write32(vf, BAR(0), 5);
        check_int(read32(vf, BAR(0)), 5);
        check_int(read32(vf, CONFIG), 0x00041234);
        check_int(host_close(host, pf), 0);
        pf = open_vfio(PF);
        check_int(bind_vfio(pf, iommufd, NULL), -EACCES);
        check_int(CALL(pf, VFIO_DEVICE_BIND_IOMMUFD, &bind), 0);
        check_int(feature(pf, TDI_VFIO_DEVICE_FEATURE_PCI_VF_TOKEN | TDI_VFIO_DEVICE_FEATURE_SET, wrong, 16), 0);
        check_int(host_close(host, pf), 0);
        check_int(host_close(host, vf), 0);
        vf = open_vfio(VF);
        check_int(CALL(vf, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EACCES);
        check_int(host_close(host, vf), 0);
        check_int(host_write_text(host, "/sys/bus/pci/devices/" PF "/sriov_numvfs", "0"), 0);
        /* A token where none is needed. */
        vf = open_vfio(EDU);
        check_int(CALL(vf, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
        check_int(host_close(host, vf), 0);
        check_int(host_close(host, iommufd), 0);
}

/* Whoever closes last has reset it: the next one finds nothing of what was there. */
static void test_close(void) {
        int device = open_bound(MEM), copy = dup(device);

        write32(device, BAR(0), 42);
        write16(device, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        check_int(host_close(host, device), 0);
        check_int(read32(copy, BAR(0)), 42);
        check_int(host_close(host, copy), 0);
        sim_lock(kernel);
        check_int(function(MEM)->config[PCI_COMMAND] & PCI_COMMAND_MASTER, 0);
        check_int(function(MEM)->config[PCI_COMMAND] & PCI_COMMAND_MEMORY, PCI_COMMAND_MEMORY);
        sim_unlock(kernel);
        device = open_bound(MEM);
        check_int(read32(device, BAR(0)), 0);
        check_int(host_close(host, device), 0);
}

static void test_ioeventfd(void) {
        struct tdi_vfio_device_ioeventfd e = { .argsz = sizeof(e), .flags = TDI_VFIO_DEVICE_IOEVENTFD_32, .offset = BAR(0) + 0x100,
                                               .data = 77 };
        int device = open_bound(MEM), event = new_event();

        e.fd = -1;
        check_int(CALL(device, VFIO_DEVICE_IOEVENTFD, &e), -ENODEV);
        e.fd = event;
        e.flags = 3;
        check_int(CALL(device, VFIO_DEVICE_IOEVENTFD, &e), -EINVAL);
        e.flags = TDI_VFIO_DEVICE_IOEVENTFD_32;
        check_int(CALL(device, VFIO_DEVICE_IOEVENTFD, &e), 0);
        check_int(CALL(device, VFIO_DEVICE_IOEVENTFD, &e), -EEXIST);
        check_int(write(event, &(uint64_t) { 1 }, 8), 8);
        for (unsigned i = 0; i < 500 && read32(device, BAR(0) + 0x100) != 77; i++)
                (void) usleep(1000);
        check_int(read32(device, BAR(0) + 0x100), 77);
        check_int(host_close(host, device), 0);
        close_fd(event);
}

int main(void) {
        kernel_start(topology);
        test_bind();
        test_info();
        test_config();
        test_regions();
        test_intx();
        test_msi();
        test_edu_dma();
        test_dmabufs();
        test_wakeup();
        test_unbind();
        test_slow_reset();
        test_hot_reset();
        test_token();
        test_close();
        test_ioeventfd();
        kernel_end();
        return test_end();
}
