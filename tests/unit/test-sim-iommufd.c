/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated iommufd: numbers, sizes, address spaces, maps, page tables, vIOMMUs, DMA.
 * Expected errnos are those of Linux 7.3's source. */
#include "sim-kernel.h"

#define TOPOLOGY(platform) \
        "{\"schema\": \"tdi-sim/1\", \"platform\": \"" platform "\", \"buses\": [{\"bus\": \"0000:00\"}]," \
        " \"reserved\": [{\"start\": \"0xfee00000\", \"end\": \"0xfeefffff\", \"msi\": true}]," \
        " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"02\"}]," \
        " \"functions\": [" \
        "  {\"bdf\": \"0000:01:00.0\", \"model\": \"edu\", \"flr\": true, \"driver\": \"vfio-pci\", \"group\": \"a\"}," \
        "  {\"bdf\": \"0000:01:00.1\", \"model\": \"edu\", \"flr\": true, \"driver\": \"vfio-pci\", \"group\": \"a\"}," \
        "  {\"bdf\": \"0000:02:00.0\", \"model\": \"memory\", \"ids\": \"1234:0001\", \"flr\": true, \"driver\": \"vfio-pci\"," \
        "   \"no_coherency\": true, \"bars\": [{\"size\": \"64K\"}]}]}"

#define A "0000:01:00.0"
#define A1 "0000:01:00.1"
#define B "0000:02:00.0"
#define VALUE(n) ((void *) (uintptr_t) (n))
#define FIXED (TDI_IOMMU_IOAS_MAP_FIXED_IOVA | TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE)

static int open_iommu(void) {
        int fd = host_open(host, "/dev/iommu", O_RDWR);

        require(fd >= 0);
        return fd;
}

static unsigned ranges(int iommufd, uint32_t ioas, struct tdi_iommu_iova_range *ret, unsigned room, uint64_t *ret_alignment, int expected) {
        struct tdi_iommu_ioas_iova_ranges cmd = { .size = sizeof(cmd), .ioas_id = ioas, .num_iovas = room,
                                              .allowed_iovas = (uintptr_t) ret };

        check_int(CALL(iommufd, IOMMU_IOAS_IOVA_RANGES, &cmd), expected);
        if (ret_alignment)
                *ret_alignment = cmd.out_iova_alignment;
        return cmd.num_iovas;
}

static void test_sizes(void) {
        union {
                struct tdi_iommu_ioas_alloc alloc;
                uint8_t bytes[64];
        } u = { .alloc = { .size = 11 } };
        int iommufd = open_iommu();

        check_int(CALL(iommufd, IOMMU_IOAS_ALLOC, &u), -EINVAL);
        u.alloc.size = sizeof(u);
        check_int(CALL(iommufd, IOMMU_IOAS_ALLOC, &u), 0);
        check_int(u.alloc.out_ioas_id, 1);
        u.bytes[63] = 1;
        check_int(CALL(iommufd, IOMMU_IOAS_ALLOC, &u), -E2BIG);
        u.bytes[63] = 0;
        u.alloc.flags = 1;
        check_int(CALL(iommufd, IOMMU_IOAS_ALLOC, &u), -EOPNOTSUPP);
        /* What 7.3 does not know. */
        check_int(host_ioctl(host, iommufd, _IO(TDI_IOMMUFD_TYPE, 0x96), &u), -ENOTTY);
        check_int(CALL(iommufd, VFIO_DEVICE_RESET, NULL), -ENOTTY);
        /* The lowest free number, as an xarray gives it. */
        check_int(new_ioas(iommufd), 2);
        check_int(new_ioas(iommufd), 3);
        check_int(destroy(iommufd, 2), 0);
        check_int(destroy(iommufd, 2), -ENOENT);
        check_int(destroy(iommufd, 0), -ENOENT);
        check_int(new_ioas(iommufd), 2);
        check_int(host_close(host, iommufd), 0);
}

static void test_maps(void) {
        struct tdi_iommu_iova_range range[4];
        struct tdi_iommu_ioas_map_file map = { .size = sizeof(map), .flags = TDI_IOMMU_IOAS_MAP_READABLE, .length = 0x3000 };
        struct tdi_iommu_ioas_map own = { .size = sizeof(own), .flags = FIXED, .length = 1, .iova = 1 };
        struct tdi_iommu_ioas_copy copy = { .size = sizeof(copy), .flags = FIXED };
        struct tdi_iommu_ioas_allow_iovas allow = { .size = sizeof(allow), .num_iovas = 1 };
        struct tdi_iommu_ioas_change_process change = { .size = sizeof(change) };
        int iommufd = open_iommu(), memory = new_memfd(0x10000, 0), readonly;
        uint32_t a = new_ioas(iommufd), b = new_ioas(iommufd);
        uint64_t n, alignment;
        char page[64];

        check_int(ranges(iommufd, a, range, 4, &alignment, 0), 1);
        check_int(range[0].start, 0);
        check(range[0].last == UINT64_MAX);
        check_int(alignment, 1);
        check_int(ranges(iommufd, a, range, 0, NULL, -EMSGSIZE), 1);
        check_int(ranges(iommufd, 77, range, 4, NULL, -ENOENT), 4);

        check_int(map_file(iommufd, a, memory, 0, 0x4000, 0x10000), 0);
        check_int(map_file(iommufd, a, memory, 0, 0x1000, 0x13000), -EEXIST);
        check_int(map_file(iommufd, a, memory, 0, 0, 0x20000), -EINVAL);
        check_int(map_file(iommufd, a, -1, 0, 0x1000, 0x20000), -EBADF);
        check_int(map_file(iommufd, a, memory, 0, UINT64_MAX, 0x20000), -EOVERFLOW);
        check_int(map_file(iommufd, 77, memory, 0, 0x1000, 0x20000), -ENOENT);
        /* Nothing looks at the file before a page table takes it. */
        readonly = open("/dev/null", O_RDONLY | O_CLOEXEC);
        check_int(map_file(iommufd, b, readonly, 0, 0x1000, 0), 0);
        check_int(unmap(iommufd, b, 0, 0x1000, NULL), 0);
        close_fd(readonly);
        /* An address of the kernel's choice. */
        map.ioas_id = a;
        map.fd = memory;
        check_int(CALL(iommufd, IOMMU_IOAS_MAP_FILE, &map), 0);
        check_int(map.iova, 0x4000);
        map.flags = 0;
        check_int(CALL(iommufd, IOMMU_IOAS_MAP_FILE, &map), -EINVAL);
        map.flags = 1 << 7;
        check_int(CALL(iommufd, IOMMU_IOAS_MAP_FILE, &map), -EOPNOTSUPP);

        /* Copies: of what is mapped without a gap, with no more rights than it has. */
        copy.src_ioas_id = a;
        copy.dst_ioas_id = b;
        copy.src_iova = copy.dst_iova = 0x10000;
        copy.length = 0x4000;
        check_int(CALL(iommufd, IOMMU_IOAS_COPY, &copy), 0);
        check_int(CALL(iommufd, IOMMU_IOAS_COPY, &copy), -EEXIST);
        copy.dst_iova = 0x80000;
        copy.length = 0x5000;
        check_int(CALL(iommufd, IOMMU_IOAS_COPY, &copy), -ENOENT);
        copy.src_iova = 0x4000;
        copy.length = 0x3000;
        check_int(CALL(iommufd, IOMMU_IOAS_COPY, &copy), -EPERM);

        check_int(CALL(iommufd, IOMMU_IOAS_CHANGE_PROCESS, &change), 0);
        /* Whole maps only; what comes before one that is cut stays unmapped. */
        check_int(unmap(iommufd, a, 0x10000, 0x1000, NULL), -ENOENT);
        check_int(unmap(iommufd, a, 0x20000, 0x1000, NULL), -ENOENT);
        check_int(unmap(iommufd, a, 0x20000, 0, NULL), -EINVAL);
        check_int(unmap(iommufd, a, 0x4000, 0xd000, NULL), -ENOENT);
        check_int(unmap(iommufd, a, 0x4000, 0x3000, NULL), -ENOENT);
        check_int(unmap(iommufd, a, 0, UINT64_MAX, &n), 0);
        check_int(n, 0x4000);
        /* All of nothing is no error (iopt_unmap_all). */
        check_int(unmap(iommufd, a, 0, UINT64_MAX, &n), 0);
        check_int(n, 0);

        range[0] = (struct tdi_iommu_iova_range) { 0x100000, 0x1fffff };
        allow.ioas_id = a;
        allow.allowed_iovas = (uintptr_t) range;
        check_int(CALL(iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow), 0);
        map.flags = TDI_IOMMU_IOAS_MAP_READABLE;
        check_int(CALL(iommufd, IOMMU_IOAS_MAP_FILE, &map), 0);
        check_int(map.iova, 0x100000);
        range[0].last = range[0].start;
        check_int(CALL(iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow), -EINVAL);

        /* A process' own memory keeps its maps from changing hands. */
        own.ioas_id = b;
        own.user_va = (uintptr_t) page;
        check_int(CALL(iommufd, IOMMU_IOAS_MAP, &own), 0);
        check_int(CALL(iommufd, IOMMU_IOAS_CHANGE_PROCESS, &change), -EINVAL);
        check_int(destroy(iommufd, b), 0);
        check_int(host_close(host, iommufd), 0);
        close_fd(memory);
}

static void test_attach(void) {
        struct tdi_iommu_iova_range range[4];
        int iommufd = open_iommu(), other = open_iommu(), device = open_vfio(A), neighbour = open_vfio(A1);
        int memory = new_memfd(0x10000, 0), null;
        uint32_t a = new_ioas(iommufd), b = new_ioas(iommufd), id, id1, pt, pt1, hwpt;
        struct tdi_iommu_hwpt_alloc alloc = { .size = sizeof(alloc) };
        uint64_t alignment;

        check_int(bind_vfio(device, other, NULL), 0);
        /* A group's DMA has one owner. */
        check_int(bind_vfio(neighbour, iommufd, NULL), -EPERM);
        check_int(host_close(host, device), 0);
        device = open_vfio(A);
        check_int(bind_vfio(device, iommufd, &id), 0);
        check_int(id, 3);
        check_int(destroy(iommufd, id), -EBUSY);

        pt = 77;
        check_int(attach_vfio(device, &pt), -ENOENT);
        pt = id;
        check_int(attach_vfio(device, &pt), -EINVAL);
        check_int(detach_vfio(device), 0);

        /* What is mapped has to suit the page table that comes. */
        check_int(map_file(iommufd, a, memory, 0, 0x800, 0x20000), 0);
        pt = a;
        check_int(attach_vfio(device, &pt), -EADDRINUSE);
        check_int(unmap(iommufd, a, 0x20000, 0x800, NULL), 0);
        check_int(map_file(iommufd, a, memory, 0, 0x1000, 0xfee00000), 0);
        check_int(attach_vfio(device, &pt), -EADDRINUSE);
        check_int(unmap(iommufd, a, 0xfee00000, 0x1000, NULL), 0);
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        check_int(map_file(iommufd, a, null, 0, 0x1000, 0x20000), 0);
        check_int(attach_vfio(device, &pt), -EINVAL);
        check_int(unmap(iommufd, a, 0x20000, 0x1000, NULL), 0);

        check_int(attach_vfio(device, &pt), 0);
        check_int(pt, 4);
        check_int(destroy(iommufd, a), -EBUSY);
        check_int(destroy(iommufd, pt), -EBUSY);
        check_int(ranges(iommufd, a, range, 4, &alignment, 0), 2);
        check_int(range[0].last, 0xfedfffff);
        check_int(range[1].start, 0xfef00000);
        check_int(range[1].last, ((uint64_t) 1 << 48) - 1);
        check_int(alignment, 4096);
        check_int(map_file(iommufd, a, memory, 0, 0x1000, 0xfee00000), -EINVAL);
        check_int(map_file(iommufd, a, memory, 0, 0x1000, (uint64_t) 1 << 48), -EINVAL);
        check_int(map_file(iommufd, a, memory, 0, 0x1000, 0x20800), -EINVAL);
        check_int(map_file(iommufd, a, memory, 0, 0x1800, 0x20000), -EINVAL);
        check_int(map_file(iommufd, a, memory, 0x800, 0x1000, 0x20000), -EINVAL);
        /* Beyond the end of the file, and no memory at all. */
        check_int(map_file(iommufd, a, memory, 0x10000, 0x1000, 0x20000), -EINVAL);
        check_int(map_file(iommufd, a, null, 0, 0x1000, 0x20000), -EINVAL);
        check_int(map_file(iommufd, a, memory, 0, 0x10000, 0x20000), 0);

        /* The neighbour shares the page table or has none. */
        check_int(bind_vfio(neighbour, iommufd, &id1), 0);
        pt1 = b;
        check_int(attach_vfio(neighbour, &pt1), -EINVAL);
        pt1 = a;
        check_int(attach_vfio(neighbour, &pt1), 0);
        check_int(pt1, pt);
        /* The whole group moves. */
        pt1 = b;
        check_int(attach_vfio(neighbour, &pt1), 0);
        check(pt1 != pt);
        check_int(destroy(iommufd, pt), -ENOENT);
        check_int(ranges(iommufd, a, range, 4, NULL, 0), 1);
        check_int(detach_vfio(device), 0);
        check_int(destroy(iommufd, b), -EBUSY);
        check_int(detach_vfio(neighbour), 0);
        check_int(destroy(iommufd, b), 0);

        /* A page table of one's own. */
        alloc.dev_id = id;
        alloc.pt_id = a;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), 0);
        hwpt = alloc.out_hwpt_id;
        alloc.flags = TDI_IOMMU_HWPT_ALLOC_NEST_PARENT;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), -EOPNOTSUPP);
        alloc.flags = 0;
        alloc.dev_id = 77;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), -ENOENT);
        alloc.dev_id = id;
        alloc.pt_id = 77;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), -EINVAL);
        pt = hwpt;
        check_int(attach_vfio(device, &pt), 0);
        check_int(pt, hwpt);
        check_int(destroy(iommufd, hwpt), -EBUSY);
        check_int(detach_vfio(device), 0);
        check_int(destroy(iommufd, hwpt), 0);

        /* Devices keep the context: its descriptor can go first. */
        pt = a;
        check_int(attach_vfio(device, &pt), 0);
        check_int(host_close(host, iommufd), 0);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, neighbour), 0);
        check_int(host_close(host, other), 0);
        close_fd(memory);
        close_fd(null);
}

/* What is mapped is kept, whatever it is: a device in an address space without page tables is not closed before it is unmapped. */
static int vfio_ioas(int iommufd, uint16_t op, uint32_t *ioas) {
        struct tdi_iommu_vfio_ioas cmd = { .size = sizeof(cmd), .ioas_id = *ioas, .op = op };
        int r = CALL(iommufd, IOMMU_VFIO_IOAS, &cmd);

        *ioas = cmd.ioas_id;
        return r;
}

/* What iommufd knows of the calls of VFIO containers: iommufd_vfio_ioas(), iommufd_vfio_check_extension(). */
static void test_coherency(void) {
        struct tdi_iommu_vfio_ioas cmd = { .size = sizeof(cmd), .op = 3 };
        int iommufd = open_iommu(), a = open_vfio(A), b = open_vfio(B);
        uint32_t first = new_ioas(iommufd), second = new_ioas(iommufd), id = 0, pt;

        require(a >= 0 && b >= 0);
        check_int(CALL(iommufd, IOMMU_VFIO_IOAS, &cmd), -EOPNOTSUPP);
        cmd.op = TDI_IOMMU_VFIO_IOAS_CLEAR;
        cmd.__reserved = 1;
        check_int(CALL(iommufd, IOMMU_VFIO_IOAS, &cmd), -EOPNOTSUPP);
        cmd.size = 8;
        check_int(CALL(iommufd, IOMMU_VFIO_IOAS, &cmd), -EINVAL);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_GET, &id), -ENODEV);
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(TDI_VFIO_DMA_CC_IOMMU)), -ENODEV);
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(TDI_VFIO_TYPE1v2_IOMMU)), 1);
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(1000)), 0);
        id = 1000;
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_SET, &id), -ENOENT);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_SET, &first), 0);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_GET, &id), 0);
        check_int(id, first);
        /* Nothing is there that would not. */
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(TDI_VFIO_DMA_CC_IOMMU)), 1);
        check_int(bind_vfio(a, iommufd, NULL), 0);
        check_int(bind_vfio(b, iommufd, NULL), 0);
        pt = first;
        check_int(attach_vfio(a, &pt), 0);
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(TDI_VFIO_DMA_CC_IOMMU)), 1);
        pt = second;
        check_int(attach_vfio(b, &pt), 0);
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(TDI_VFIO_DMA_CC_IOMMU)), 1);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_SET, &second), 0);
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(TDI_VFIO_DMA_CC_IOMMU)), 0);
        check_int(detach_vfio(b), 0);
        check_int(CALL(iommufd, VFIO_CHECK_EXTENSION, VALUE(TDI_VFIO_DMA_CC_IOMMU)), 1);
        /* It goes with the address space. */
        check_int(destroy(iommufd, second), 0);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_GET, &id), -ENODEV);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_SET, &first), 0);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_CLEAR, &id), 0);
        check_int(vfio_ioas(iommufd, TDI_IOMMU_VFIO_IOAS_GET, &id), -ENODEV);
        check_int(host_close(host, a), 0);
        check_int(host_close(host, b), 0);
        check_int(host_close(host, iommufd), 0);
}

static void test_kept(void) {
        int iommufd = open_iommu(), device = open_vfio(B), again;
        uint32_t a = new_ioas(iommufd);

        check_int(bind_vfio(device, iommufd, NULL), 0);
        check_int(map_file(iommufd, a, device, 0, 0x1000, 0), 0);
        check_int(host_close(host, device), 0);
        again = open_vfio(B);
        check_int(bind_vfio(again, iommufd, NULL), -EINVAL);
        check_int(unmap(iommufd, a, 0, 0x1000, NULL), 0);
        check_int(bind_vfio(again, iommufd, NULL), 0);
        check_int(host_close(host, again), 0);
        check_int(host_close(host, iommufd), 0);
}

static void test_hw_info(uint32_t type) {
        struct tdi_iommu_hw_info_arm_smmuv3 data;
        struct tdi_iommu_hw_info info = { .size = sizeof(info), .data_len = sizeof(data), .data_uptr = (uintptr_t) &data };
        int iommufd = open_iommu(), device = open_vfio(A);

        check_int(CALL(iommufd, IOMMU_GET_HW_INFO, &info), -ENOENT);
        check_int(bind_vfio(device, iommufd, &info.dev_id), 0);
        memset(&data, 0xff, sizeof(data));
        check_int(CALL(iommufd, IOMMU_GET_HW_INFO, &info), 0);
        check_int(info.out_data_type, type);
        check(info.data_len > 0 && info.data_len <= sizeof(data));
        /* What is longer than the hardware's data is zeroed. */
        for (size_t i = info.data_len; i < sizeof(data); i++)
                check_int(((uint8_t *) &data)[i], 0);
        info.flags = TDI_IOMMU_HW_INFO_FLAG_INPUT_TYPE;
        info.in_data_type = 9;
        check_int(CALL(iommufd, IOMMU_GET_HW_INFO, &info), -EOPNOTSUPP);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, iommufd), 0);
}

static uint32_t new_viommu(int iommufd, uint32_t device, uint32_t hwpt, uint32_t type, int expected) {
        struct tdi_iommu_viommu_alloc alloc = { .size = sizeof(alloc), .type = type, .dev_id = device, .hwpt_id = hwpt };

        check_int(CALL(iommufd, IOMMU_VIOMMU_ALLOC, &alloc), expected);
        return alloc.out_viommu_id;
}

static uint32_t new_vdevice(int iommufd, uint32_t viommu, uint32_t device, uint64_t virt_id, int expected) {
        struct tdi_iommu_vdevice_alloc alloc = { .size = sizeof(alloc), .viommu_id = viommu, .dev_id = device, .virt_id = virt_id };

        check_int(CALL(iommufd, IOMMU_VDEVICE_ALLOC, &alloc), expected);
        return alloc.out_vdevice_id;
}

static void test_nesting(void) {
        struct tdi_iommu_hwpt_alloc alloc = { .size = sizeof(alloc), .flags = TDI_IOMMU_HWPT_ALLOC_NEST_PARENT };
        struct tdi_iommu_veventq_alloc queue = { .size = sizeof(queue), .type = 1, .veventq_depth = 8 };
        int iommufd = open_iommu(), device = open_vfio(A), other = open_vfio(B);
        uint32_t a = new_ioas(iommufd), id, id1, parent, viommu, vdevice, nested, pt, next;
        uint64_t ste[2] = { 1 | 5 << 1, 0 };

        check_int(bind_vfio(device, iommufd, &id), 0);
        check_int(bind_vfio(other, iommufd, &id1), 0);
        alloc.dev_id = id;
        alloc.pt_id = a;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), 0);
        parent = alloc.out_hwpt_id;
        (void) new_viommu(iommufd, id, parent, 0, -EOPNOTSUPP);
        (void) new_viommu(iommufd, id, parent, 2, -EOPNOTSUPP);
        (void) new_viommu(iommufd, 77, parent, 1, -ENOENT);
        (void) new_viommu(iommufd, id, a, 1, -ENOENT);
        pt = a;
        check_int(attach_vfio(device, &pt), 0);
        (void) new_viommu(iommufd, id, pt, 1, -EINVAL);
        check_int(detach_vfio(device), 0);
        viommu = new_viommu(iommufd, id, parent, 1, 0);
        check_int(destroy(iommufd, parent), -EBUSY);

        /* A guest's table: its entry, a stream for it, an attach. */
        alloc.flags = 0;
        alloc.pt_id = viommu;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), -EOPNOTSUPP);
        alloc.data_type = TDI_IOMMU_HWPT_DATA_VTD_S1;
        alloc.data_len = sizeof(ste);
        alloc.data_uptr = (uintptr_t) ste;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), -EINVAL);
        alloc.data_type = TDI_IOMMU_HWPT_DATA_ARM_SMMUV3;
        ste[1] = 1u << 19;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), -EIO);
        ste[1] = 0;
        check_int(CALL(iommufd, IOMMU_HWPT_ALLOC, &alloc), 0);
        nested = pt = alloc.out_hwpt_id;
        check_int(attach_vfio(device, &pt), -ENOENT);
        vdevice = new_vdevice(iommufd, viommu, id, 0x20, 0);
        (void) new_vdevice(iommufd, viommu, id, 0x21, -EEXIST);
        (void) new_vdevice(iommufd, viommu, id1, 0x20, -EEXIST);
        (void) new_vdevice(iommufd, 77, id1, 0x21, -ENOENT);
        check_int(attach_vfio(device, &pt), 0);
        check_int(destroy(iommufd, viommu), -EBUSY);
        check_int(detach_vfio(device), 0);
        check_int(destroy(iommufd, nested), 0);
        check_int(destroy(iommufd, vdevice), 0);

        /* Events: one queue of a kind. */
        queue.viommu_id = viommu;
        check_int(CALL(iommufd, IOMMU_VEVENTQ_ALLOC, &queue), 0);
        check_int(host_close(host, (int) queue.out_veventq_fd), 0);
        check_int(CALL(iommufd, IOMMU_VEVENTQ_ALLOC, &queue), -EEXIST);
        check_int(destroy(iommufd, queue.out_veventq_id), 0);

        /* The device goes first: its number is free again, the vdevice's stays taken. */
        vdevice = new_vdevice(iommufd, viommu, id, 0x20, 0);
        check_int(host_close(host, device), 0);
        check_int(destroy(iommufd, vdevice), -ENOENT);
        next = new_ioas(iommufd);
        check_int(next, id);
        check(new_ioas(iommufd) != vdevice);
        check_int(destroy(iommufd, viommu), 0);
        check_int(destroy(iommufd, parent), 0);
        check_int(host_close(host, other), 0);
        check_int(host_close(host, iommufd), 0);
}

static int dma(const char *bdf, uint64_t iova, void *buf, size_t size, bool to_memory) {
        struct sim_function *fn;
        int r;

        sim_lock(kernel);
        fn = sim_function_find(sim_machine(kernel), bdf);
        r = sim_dma(fn, iova, buf, size, to_memory);
        sim_unlock(kernel);
        return r;
}

static void test_dma(void) {
        int iommufd = open_iommu(), device = open_vfio(A), memory = new_memfd(0x10000, 0);
        uint32_t a = new_ioas(iommufd), pt = a;
        struct tdi_iommu_ioas_map map = { .size = sizeof(map), .flags = FIXED & ~(unsigned) TDI_IOMMU_IOAS_MAP_WRITEABLE, .ioas_id = a,
                                          .length = 0x1000 };
        char *own, text[16] = "";

        own = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        require(own != MAP_FAILED && munmap(own + 0x1000, 0x1000) == 0);
        strcpy(own + 0xff8, "own");
        check_int(bind_vfio(device, iommufd, NULL), 0);
        check_int(dma(A, 0x20000, text, 4, true), -EFAULT);
        check_int(attach_vfio(device, &pt), 0);
        check_int(map_file(iommufd, a, memory, 0, 0x2000, 0x20000), 0);
        check_int(map_file(iommufd, a, memory, 0x8000, 0x2000, 0x22000), 0);
        strcpy(text, "across");
        check_int(dma(A, 0x21ffe, text, 7, true), 0);
        check_int(pread(memory, text, 2, 0x1ffe), 2);
        check(memcmp(text, "ac", 2) == 0);
        check_int(pread(memory, text, 5, 0x8000), 5);
        check_str(text, "ross");
        memset(text, 0, sizeof(text));
        check_int(dma(A, 0x21ffe, text, 7, false), 0);
        check_str(text, "across");
        check_int(dma(A, 0x23fff, text, 2, true), -EFAULT);
        check_int(dma(A1, 0x20000, text, 2, true), 0); /* of the same group */
        check_int(dma(B, 0x20000, text, 2, true), -EFAULT);

        /* A process' memory: to be read only. */
        map.user_va = (uintptr_t) own;
        map.iova = 0x40000;
        check_int(CALL(iommufd, IOMMU_IOAS_MAP, &map), 0);
        check_int(dma(A, 0x40ff8, text, 4, false), 0);
        check_str(text, "own");
        check_int(dma(A, 0x40ff8, text, 4, true), -EFAULT);
        map.length = 0x2000;
        map.iova = 0x50000;
        check_int(CALL(iommufd, IOMMU_IOAS_MAP, &map), -EFAULT);

        /* A file that is cut short is an error, not the end of the kernel. */
        require(ftruncate(memory, 0x1000) == 0);
        check_int(dma(A, 0x22000, text, 2, true), -EFAULT);
        check_int(detach_vfio(device), 0);
        check_int(dma(A, 0x20000, text, 2, true), -EFAULT);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, iommufd), 0);
        (void) munmap(own, 0x1000);
        close_fd(memory);
}

int main(void) {
        kernel_start(TOPOLOGY("plain"));
        test_sizes();
        test_maps();
        test_attach();
        test_coherency();
        test_kept();
        test_hw_info(TDI_IOMMU_HW_INFO_TYPE_INTEL_VTD);
        test_dma();
        kernel_end();

        kernel_start(TOPOLOGY("cca"));
        test_hw_info(TDI_IOMMU_HW_INFO_TYPE_ARM_SMMUV3);
        test_nesting();
        kernel_end();
        return test_end();
}
