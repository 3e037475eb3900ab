/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every row of the marshalling table there and back, what single rows do with lengths and descriptors, and bytes that nobody packs. */
#ifdef __clang__
/* A struct with what trails it, side by side: that is what these calls take. */
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

#include <sys/eventfd.h>

#include "host/abi/dmabuf.h"
#include "host/abi/iommufd.h"
#include "host/abi/kvm.h"
#include "host/tdid_bind.h"
#include "host/abi/udmabuf.h"
#include "host/abi/vfio.h"
#include "sim/marshal-table.h"
#include "sim/marshal.h"
#include "sim/protocol.h"
#include "test.h"

#define FD 1000 /* the first of made-up descriptors: marshalling never uses one */

struct packed {
        uint8_t bytes[SIM_PAYLOAD_MAX];
        size_t size;
        int fds[SIM_IOCTL_FDS_MAX];
        unsigned n_fds;
};
static struct packed packed, answered;

static int pack(unsigned long request, const void *arg) {
        return sim_ioctl_pack(request, arg, packed.bytes, sizeof(packed.bytes), &packed.size, packed.fds, &packed.n_fds);
}

/* In memory of exactly the size. */
static int unpack(unsigned long request, uint64_t value, const void *bytes, size_t size, unsigned n_fds, struct sim_ioctl *ret) {
        uint8_t *copy = (uint8_t *) test_copy(bytes, size);
        int r;

        r = sim_ioctl_unpack(request, value, copy, size, packed.fds, n_fds, ret);
        free(copy);
        return r;
}

static void call(unsigned long request, const void *arg, struct sim_ioctl *ret) {
        require(pack(request, arg) == 0);
        require(unpack(request, 0, packed.bytes, packed.size, packed.n_fds, ret) == 0);
}

/* The rest of a call whose kernel side is done. */
static int finish(struct sim_ioctl *io, void *arg, int64_t r) {
        uint8_t *copy;
        int k;

        require(sim_ioctl_answer(io, answered.bytes, sizeof(answered.bytes), &answered.size) == 0);
        copy = (uint8_t *) test_copy(answered.bytes, answered.size);
        k = sim_ioctl_apply(io->request, arg, r, copy, answered.size, answered.fds, answered.n_fds);
        free(copy);
        sim_ioctl_done(io);
        answered.n_fds = 0;
        return k;
}

static void set_u32(uint8_t *arg, size_t at, uint32_t v) {
        memcpy(arg + at, &v, sizeof(v));
}

/* How many descriptors a struct of fill() names. */
static unsigned named(const struct sim_row *row) {
        if (!row->passed.stride)
                return 0;
        return row->passed.count_at ? 3 : row->passed.count ? row->passed.count : 1;
}

/* A struct that a row takes whole, with something behind every pointer and a descriptor in every place. */
static void fill(const struct sim_row *row, uint8_t *arg, size_t room, uint8_t behind[4][64]) {
        for (size_t i = 0; i < room; i++)
                arg[i] = (uint8_t) test_random();
        switch (row->arg) {
        case SIM_ARG_ARGSZ:
        case SIM_ARG_SIZED:
                set_u32(arg, 0, row->size);
                break;
        case SIM_ARG_FEATURE:
                set_u32(arg, 0, row->size + 8u);
                break;
        case SIM_ARG_IRQ_SET:
                set_u32(arg, 0, row->size + 12u);
                break;
        case SIM_ARG_STRING:
                strcpy((char *) arg, "name");
                break;
        default:
                break;
        }
        if (row->arg == SIM_ARG_COUNTED)
                set_u32(arg, row->count_at, 3);
        if (row->passed.stride) {
                if (row->passed.when.mask)
                        set_u32(arg, row->passed.when.at, row->passed.when.value);
                if (row->passed.count_at)
                        set_u32(arg, row->passed.count_at, 3);
                for (unsigned i = 0; i < named(row) && !row->passed.behind; i++)
                        set_u32(arg, row->passed.at + (size_t) i * row->passed.stride, FD + i);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                const struct sim_pointer *p = &row->pointer[i];

                memset(behind[i], 0x40 + (int) i, sizeof(behind[i]));
                memcpy(arg + p->at, &(uint64_t){ (uintptr_t) behind[i] }, sizeof(uint64_t));
                if (p->length_at)
                        set_u32(arg, p->length_at, 3);
                if (p->times_at)
                        set_u32(arg, p->times_at, 2);
                if (p->used_at)
                        set_u32(arg, p->used_at, 3);
                if (p->when.mask)
                        set_u32(arg, p->when.at, p->when.value);
        }
        if (row->passed.behind)
                set_u32(behind[0], row->passed.at, FD);
}

static size_t pointed(const struct sim_pointer *p) {
        return (size_t) p->scale * (p->length_at ? 3 : 1) * (p->times_at ? 2 : 1);
}

static void test_value(const struct sim_row *row) {
        struct sim_ioctl io;

        check_int(pack(row->request, NULL), 0);
        check_int(packed.size, 0);
        check_int(unpack(row->request, UINT64_MAX, "", 0, 0, &io), 0);
        check(io.value == UINT64_MAX && !io.arg && io.n_in == 0);
        check_int(finish(&io, (void *) 5, 7), 7);
        check_int(unpack(row->request, 0, "x", 1, 0, &io), -EINVAL);
        check_int(unpack(row->request, 0, "", 0, 1, &io), -EINVAL);
}

static void test_every_row(void) {
        const struct sim_row *row;

        for (size_t n = 0; (row = sim_row(n)); n++) {
                uint8_t arg[512], expected[512], behind[4][64] = {}, expected_behind[4][64];
                unsigned fds = named(row);
                struct sim_ioctl io;

                test_about("%s", row->name);
                check(sim_row_find(row->request) == row);
                check_str(sim_ioctl_name(row->request), row->name);
                if (row->arg == SIM_ARG_VALUE) {
                        test_value(row);
                        continue;
                }
                check_int(pack(row->request, NULL), -EFAULT);
                fill(row, arg, sizeof(arg), behind);
                memcpy(expected, arg, sizeof(arg));
                memcpy(expected_behind, behind, sizeof(behind));
                call(row->request, arg, &io);
                check_int(io.n_in, fds);
                check_int(packed.n_fds, fds);
                for (unsigned i = 0; i < fds; i++)
                        check_int(io.in[i].fd, FD + (int) i);
                check_int(io.size, io.sent);
                check(memcmp(io.arg, arg, io.sent) == 0);
                for (unsigned i = 0; i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                        const struct sim_pointer *p = &row->pointer[i];
                        uint32_t is;

                        /* Of several structs of one call it is the last. */
                        memcpy(&is, arg + p->when.at, sizeof(is));
                        if ((is & p->when.mask) != p->when.value) {
                                check(!io.blob[i].data);
                                continue;
                        }
                        require(io.blob[i].data);
                        check_int(io.blob[i].size, pointed(p));
                        check(!p->in || memcmp(io.blob[i].data, behind[i], io.blob[i].size) == 0);
                        check(p->in || io.blob[i].data[0] == 0);
                        memset(io.blob[i].data, 0x77, io.blob[i].size);
                        if (p->out)
                                memset(expected_behind[i], 0x77, io.blob[i].size);
                }
                /* What the kernel writes into the struct comes back for a failed call too; a string is only read. */
                io.arg[row->size - 1] ^= 1;
                if (row->arg != SIM_ARG_STRING)
                        expected[row->size - 1] ^= 1;
                check_int(finish(&io, arg, -EBUSY), -EBUSY);
                check(memcmp(arg, expected, sizeof(arg)) == 0);
                check(memcmp(behind, expected_behind, sizeof(behind)) == 0);
        }
        test_about("not in the table");
        check(!sim_row_find(0x3b97));
        check_str(sim_ioctl_name(0x3b97), "?");
        check_int(pack(0x3b97, &packed), -ENOTTY);
        check_int(unpack(0x3b97, 0, "", 0, 0, &(struct sim_ioctl){}), -ENOTTY);
}

/* Rows are found by their number alone. */
static void test_numbers_differ(void) {
        for (size_t i = 0; sim_row(i); i++)
                for (size_t j = 0; j < i; j++) {
                        test_about("%s, %s", sim_row(i)->name, sim_row(j)->name);
                        check(sim_row(i)->request != sim_row(j)->request);
                        check(!streq(sim_row(i)->name, sim_row(j)->name));
                }
}

/* ---- VFIO ---- */

static void test_argsz(void) {
        struct {
                struct tdi_vfio_region_info info;
                uint8_t chain[64];
        } arg = { .info = { .argsz = sizeof(arg), .index = 7 } };
        struct tdi_vfio_region_info small = { .argsz = 8, .flags = 3, .size = 11 };
        struct sim_ioctl io;

        test_about("room for capabilities, which the kernel uses");
        memset(arg.chain, 0x55, sizeof(arg.chain));
        call(TDI_VFIO_DEVICE_GET_REGION_INFO, &arg, &io);
        check_int(packed.size, 4 + sizeof(arg.info));
        check_int(io.size, sizeof(arg));
        ((struct tdi_vfio_region_info *) (void *) io.arg)->cap_offset = sizeof(arg.info);
        memset(io.arg + sizeof(arg.info), 0x66, 16);
        check_int(finish(&io, &arg, 0), 0);
        check_int(arg.info.cap_offset, sizeof(arg.info));
        check(arg.chain[0] == 0x66 && arg.chain[15] == 0x66);

        test_about("and which it does not use");
        memset(arg.chain, 0x55, sizeof(arg.chain));
        call(TDI_VFIO_DEVICE_GET_REGION_INFO, &arg, &io);
        ((struct tdi_vfio_region_info *) (void *) io.arg)->cap_offset = 0;
        check_int(finish(&io, &arg, 0), 0);
        check(arg.chain[0] == 0x55 && arg.chain[63] == 0x55);

        test_about("argsz too small");
        call(TDI_VFIO_DEVICE_GET_REGION_INFO, &small, &io);
        check_int(io.size, 8);
        check_int(packed.size, 4 + 8);
        check_int(finish(&io, &small, -EINVAL), -EINVAL);
        check_int(small.size, 11);
        small.argsz = 0;
        call(TDI_VFIO_DEVICE_GET_REGION_INFO, &small, &io);
        check_int(io.size, 0);
        check_int(finish(&io, &small, -EINVAL), -EINVAL);

        test_about("argsz that nothing has");
        arg.info.argsz = UINT32_MAX;
        call(TDI_VFIO_DEVICE_GET_REGION_INFO, &arg, &io);
        check_int(io.size, SIM_ARG_MAX);
        check_int(((struct tdi_vfio_region_info *) (void *) io.arg)->argsz, UINT32_MAX);
        check_int(finish(&io, &arg, 0), 0);
        check(arg.chain[0] == 0x55);
}

static void test_irqs(void) {
        struct {
                struct tdi_vfio_irq_set set;
                int32_t fd[40];
        } __attribute__((packed)) arg = { .set = { .argsz = sizeof(arg), .index = 1 } };
        struct sim_ioctl io;

        test_about("eventfds");
        arg.set.flags = TDI_VFIO_IRQ_SET_DATA_EVENTFD | TDI_VFIO_IRQ_SET_ACTION_TRIGGER;
        arg.set.count = 3;
        arg.fd[0] = 5;
        arg.fd[1] = -1;
        arg.fd[2] = 9;
        call(TDI_VFIO_DEVICE_SET_IRQS, &arg, &io);
        check_int(packed.n_fds, 2);
        check_int(io.n_in, 3);
        check_int(io.in[0].fd, 5);
        check_int(io.in[1].fd, -1);
        check_int(io.in[2].fd, 9);
        check_int(packed.size, 4 + 20 + 12);
        check_int(io.size, sizeof(arg));
        check_int(finish(&io, &arg, 0), 0);

        test_about("count beyond argsz");
        arg.set.argsz = 20 + 4;
        call(TDI_VFIO_DEVICE_SET_IRQS, &arg, &io);
        check_int(io.n_in, 1);
        check_int(io.size, 24);
        check_int(finish(&io, &arg, -EINVAL), -EINVAL);

        test_about("more than can be passed");
        arg.set.argsz = sizeof(arg);
        arg.set.count = 33;
        check_int(pack(TDI_VFIO_DEVICE_SET_IRQS, &arg), -E2BIG);

        test_about("bytes");
        arg.set.flags = TDI_VFIO_IRQ_SET_DATA_BOOL | TDI_VFIO_IRQ_SET_ACTION_MASK;
        call(TDI_VFIO_DEVICE_SET_IRQS, &arg, &io);
        check_int(packed.size, 4 + 20 + 33);
        check_int(io.n_in, 0);
        check_int(finish(&io, &arg, 0), 0);

        test_about("no data");
        arg.set.flags = TDI_VFIO_IRQ_SET_DATA_NONE | TDI_VFIO_IRQ_SET_ACTION_TRIGGER;
        arg.set.count = 0;
        call(TDI_VFIO_DEVICE_SET_IRQS, &arg, &io);
        check_int(packed.size, 4 + 20);
        check_int(finish(&io, &arg, 0), 0);
        arg.set.argsz = 3;
        call(TDI_VFIO_DEVICE_SET_IRQS, &arg, &io);
        check_int(io.size, 3);
        check_int(finish(&io, &arg, -EINVAL), -EINVAL);
}

static void test_bind(void) {
        uint8_t token[16] = "0123456789abcde";
        struct tdi_vfio_device_bind_iommufd arg = { .argsz = sizeof(arg), .iommufd = 6, .token_uuid_ptr = (uintptr_t) token };
        struct sim_ioctl io;

        test_about("no token");
        call(TDI_VFIO_DEVICE_BIND_IOMMUFD, &arg, &io);
        check(!io.blob[0].data);
        check_int(io.in[0].fd, 6);
        ((struct tdi_vfio_device_bind_iommufd *) (void *) io.arg)->out_devid = 77;
        check_int(finish(&io, &arg, 0), 0);
        check_int(arg.out_devid, 77);

        test_about("a token");
        arg.flags = TDI_VFIO_DEVICE_BIND_FLAG_TOKEN;
        call(TDI_VFIO_DEVICE_BIND_IOMMUFD, &arg, &io);
        check(io.blob[0].data && memcmp(io.blob[0].data, token, 16) == 0);
        check_int(finish(&io, &arg, 0), 0);

        test_about("a token that is not there");
        arg.token_uuid_ptr = 0;
        call(TDI_VFIO_DEVICE_BIND_IOMMUFD, &arg, &io);
        check(!io.blob[0].data);
        check_int(finish(&io, &arg, -EFAULT), -EFAULT);

        test_about("the struct of an older kernel");
        arg.argsz = offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr);
        arg.iommufd = -1;
        call(TDI_VFIO_DEVICE_BIND_IOMMUFD, &arg, &io);
        check_int(packed.size, 4 + 16 + 8);
        check_int(packed.n_fds, 0);
        check_int(io.n_in, 1);
        check_int(io.in[0].fd, -1);
        check_int(finish(&io, &arg, -EBADF), -EBADF);
}

static void test_hot_reset(void) {
        struct {
                struct tdi_vfio_pci_hot_reset_info info;
                struct tdi_vfio_pci_dependent_device device[4];
        } arg = { .info = { .argsz = sizeof(arg) } };
        struct sim_ioctl io;

        test_about("two of four");
        memset(arg.device, 0x55, sizeof(arg.device));
        call(TDI_VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg, &io);
        ((struct tdi_vfio_pci_hot_reset_info *) (void *) io.arg)->count = 2;
        memset(io.arg + 12, 0x11, 16);
        check_int(finish(&io, &arg, 0), 0);
        check_int(arg.info.count, 2);
        check_int(arg.device[1].devid, 0x11111111);
        check_int(arg.device[2].devid, 0x55555555);

        test_about("no room");
        arg.info.argsz = sizeof(arg.info);
        call(TDI_VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg, &io);
        ((struct tdi_vfio_pci_hot_reset_info *) (void *) io.arg)->count = 3;
        check_int(finish(&io, &arg, -ENOSPC), -ENOSPC);
        check_int(arg.info.count, 3);
}

static void test_feature(void) {
        struct {
                struct tdi_vfio_device_feature feature;
                struct tdi_vfio_device_feature_dma_buf get;
                struct tdi_vfio_region_dma_range range;
        } arg = {
                .feature = { .argsz = sizeof(arg), .flags = TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_DMA_BUF },
                .get = { .nr_ranges = 1 },
                .range = { .length = 4096 },
        };
        struct {
                struct tdi_vfio_device_feature feature;
                struct tdi_vfio_device_low_power_entry_with_wakeup entry;
        } sleep = {
                .feature = { .argsz = sizeof(sleep),
                             .flags = TDI_VFIO_DEVICE_FEATURE_SET | TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP },
                .entry = { .wakeup_eventfd = 12 },
        };
        struct sim_ioctl io;
        int made;

        test_about("a dma-buf");
        call(TDI_VFIO_DEVICE_FEATURE, &arg, &io);
        check_int(packed.n_fds, 0);
        check_int(io.size, sizeof(arg));
        require((made = eventfd(0, EFD_CLOEXEC)) >= 0);
        answered.fds[0] = made;
        answered.n_fds = 1;
        check_int(finish(&io, &arg, 0), made);
        check_int(close(made), 0);

        test_about("a failed one: its descriptor is closed");
        call(TDI_VFIO_DEVICE_FEATURE, &arg, &io);
        require((made = eventfd(0, EFD_CLOEXEC)) >= 0);
        answered.fds[0] = made;
        answered.n_fds = 1;
        check_int(finish(&io, &arg, -EINVAL), -EINVAL);
        check_int(close(made), -1);

        test_about("a wakeup eventfd");
        call(TDI_VFIO_DEVICE_FEATURE, &sleep, &io);
        check_int(packed.n_fds, 1);
        check_int(io.in[0].fd, 12);
        check_int(finish(&io, &sleep, 0), 0);
        test_about("argsz that promises too much");
        sleep.feature.argsz = UINT32_MAX;
        call(TDI_VFIO_DEVICE_FEATURE, &sleep, &io);
        check_int(packed.size, 4 + sizeof(sleep));
        check_int(io.size, SIM_ARG_MAX);
        check_int(finish(&io, &sleep, 0), 0);
        sleep.feature.flags = TDI_VFIO_DEVICE_FEATURE_SET | TDI_VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
        call(TDI_VFIO_DEVICE_FEATURE, &sleep, &io);
        check_int(packed.size, 4 + sizeof(sleep.feature));
        check_int(finish(&io, &sleep, 0), 0);

        test_about("more ranges than argsz says");
        arg.feature.argsz = sizeof(arg.feature) + sizeof(arg.get);
        call(TDI_VFIO_DEVICE_FEATURE, &arg, &io);
        check_int(packed.size, 4 + sizeof(arg));
        check_int(finish(&io, &arg, -EINVAL), -EINVAL);
        arg.get.nr_ranges = UINT32_MAX;
        check_int(pack(TDI_VFIO_DEVICE_FEATURE, &arg), -E2BIG);
        arg.feature.flags |= TDI_VFIO_DEVICE_FEATURE_PROBE;
        check_int(pack(TDI_VFIO_DEVICE_FEATURE, &arg), 0);
}

/* ---- iommufd ---- */

static void test_ranges(void) {
        struct tdi_iommu_iova_range ranges[3];
        struct tdi_iommu_ioas_iova_ranges arg = { .size = sizeof(arg), .num_iovas = 3, .allowed_iovas = (uintptr_t) ranges };
        struct tdi_iommu_ioas_allow_iovas allow = { .size = sizeof(allow), .num_iovas = 4096, .allowed_iovas = (uintptr_t) ranges };
        struct sim_ioctl io;

        memset(ranges, 0x55, sizeof(ranges));
        test_about("two written of three");
        call(TDI_IOMMU_IOAS_IOVA_RANGES, &arg, &io);
        check_int(io.blob[0].size, sizeof(ranges));
        memset(io.blob[0].data, 0, sizeof(ranges));
        ((struct tdi_iommu_ioas_iova_ranges *) (void *) io.arg)->num_iovas = 2;
        check_int(finish(&io, &arg, 0), 0);
        check(ranges[1].last == 0 && ranges[2].last == 0x5555555555555555);

        test_about("more than there is room for");
        arg.num_iovas = 1;
        call(TDI_IOMMU_IOAS_IOVA_RANGES, &arg, &io);
        check_int(io.blob[0].size, sizeof(ranges[0]));
        ((struct tdi_iommu_ioas_iova_ranges *) (void *) io.arg)->num_iovas = 5;
        check_int(finish(&io, &arg, -EMSGSIZE), -EMSGSIZE);
        check_int(arg.num_iovas, 5);
        check(ranges[2].last == 0x5555555555555555);

        test_about("asking how many");
        arg.num_iovas = 0;
        arg.allowed_iovas = 0;
        call(TDI_IOMMU_IOAS_IOVA_RANGES, &arg, &io);
        check(!io.blob[0].data);
        ((struct tdi_iommu_ioas_iova_ranges *) (void *) io.arg)->num_iovas = 5;
        check_int(finish(&io, &arg, -EMSGSIZE), -EMSGSIZE);

        test_about("too long a list");
        check_int(pack(TDI_IOMMU_IOAS_ALLOW_IOVAS, &allow), -E2BIG);
}

static void test_sized(void) {
        struct {
                struct tdi_iommu_ioas_alloc alloc;
                uint8_t more[8];
        } arg = { .alloc = { .size = sizeof(arg) }, .more = { 9 } };
        struct tdi_iommu_hwpt_invalidate invalidate = { .size = sizeof(invalidate), .data_uptr = 8, .entry_len = UINT32_MAX,
                                                        .entry_num = UINT32_MAX };
        struct sim_ioctl io;

        test_about("a newer struct");
        call(TDI_IOMMU_IOAS_ALLOC, &arg, &io);
        check_int(io.size, sizeof(arg));
        check_int(io.arg[sizeof(arg.alloc)], 9);
        check_int(finish(&io, &arg, -E2BIG), -E2BIG);
        test_about("an older one");
        arg.alloc.size = 4;
        call(TDI_IOMMU_IOAS_ALLOC, &arg, &io);
        check_int(io.size, 4);
        check_int(finish(&io, &arg, -EINVAL), -EINVAL);
        test_about("of a size that none has");
        arg.alloc.size = SIM_SIZED_MAX + 1;
        check_int(pack(TDI_IOMMU_IOAS_ALLOC, &arg), -E2BIG);
        test_about("lengths that overflow");
        check_int(pack(TDI_IOMMU_HWPT_INVALIDATE, &invalidate), -E2BIG);
}

static void test_hw_info(void) {
        uint8_t data[32];
        struct tdi_iommu_hw_info arg = { .size = sizeof(arg), .data_len = sizeof(data), .data_uptr = (uintptr_t) data };
        struct sim_ioctl io;

        test_about("the rest is zeroed");
        memset(data, 0x55, sizeof(data));
        call(TDI_IOMMU_GET_HW_INFO, &arg, &io);
        memset(io.blob[0].data, 0x66, 16);
        ((struct tdi_iommu_hw_info *) (void *) io.arg)->data_len = 16;
        check_int(finish(&io, &arg, 0), 0);
        check_int(arg.data_len, 16);
        check(data[15] == 0x66 && data[16] == 0 && data[31] == 0);
}

/* ---- KVM, dma-bufs ---- */

static void test_kvm(void) {
        int32_t fd = 14;
        struct tdi_kvm_device_attr attr = { .group = TDI_KVM_DEV_VFIO_FILE, .attr = TDI_KVM_DEV_VFIO_FILE_ADD, .addr = (uintptr_t) &fd };
        struct tdi_kvm_create_device create = { .type = TDI_KVM_DEV_TYPE_VFIO };
        struct sim_ioctl io;
        int made;

        test_about("kvm-vfio");
        call(TDI_KVM_SET_DEVICE_ATTR, &attr, &io);
        check_int(io.in[0].fd, 14);
        check_int(finish(&io, &attr, 0), 0);
        fd = -1;
        call(TDI_KVM_SET_DEVICE_ATTR, &attr, &io);
        check_int(packed.n_fds, 0);
        check_int(io.in[0].fd, -1);
        check_int(finish(&io, &attr, -EBADF), -EBADF);
        attr.group = 77;
        attr.addr = 16;
        call(TDI_KVM_SET_DEVICE_ATTR, &attr, &io);
        check(!io.blob[0].data);
        check_int(finish(&io, &attr, -ENXIO), -ENXIO);

        test_about("a new device");
        call(TDI_KVM_CREATE_DEVICE, &create, &io);
        require((made = eventfd(0, EFD_CLOEXEC)) >= 0);
        answered.fds[0] = made;
        answered.n_fds = 1;
        check_int(finish(&io, &create, 0), 0);
        check_int(create.fd, made);
        check_int(close(made), 0);
}

/* ---- the bind provider ---- */

static void test_two_fds(void) {
        struct tdid_bind_bind arg = { .argsz = sizeof(arg), .device_fd = 4, .vm_fd = 9 };
        struct sim_ioctl io;
        uint32_t mask = 4;

        test_about("two descriptors");
        call(TDID_BIND_IOC_BIND, &arg, &io);
        check_int(packed.n_fds, 2);
        check_int(io.n_in, 2);
        check_int(io.in[0].fd, 4);
        check_int(io.in[1].fd, 9);
        check_int(finish(&io, &arg, 0), 0);
        check_int(arg.vm_fd, 9);
        test_about("the second of them");
        arg.device_fd = -1;
        call(TDID_BIND_IOC_BIND, &arg, &io);
        check_int(packed.n_fds, 1);
        check_int(io.n_in, 2);
        check_int(io.in[0].fd, -1);
        check_int(io.in[1].fd, 9);
        check_int(finish(&io, &arg, -EBADF), -EBADF);
        test_about("a third one");
        memcpy(packed.bytes, &mask, sizeof(mask));
        check_int(unpack(TDID_BIND_IOC_BIND, 0, packed.bytes, packed.size, 1, &io), -EINVAL);
}

static void test_request(void) {
        static uint8_t in[TDID_BIND_REQUEST_MAX], out[TDID_BIND_REQUEST_MAX];
        struct tdid_bind_request arg = {
                .argsz = sizeof(arg),
                .in_len = sizeof(in),
                .out_len = sizeof(out),
                .in = (uintptr_t) in,
                .out = (uintptr_t) out,
        };
        struct tdid_bind_request *there;
        struct sim_ioctl io;
        uint32_t longer = TDID_BIND_REQUEST_MAX + 1;

        test_about("as long as it may be");
        memset(in, 0x11, sizeof(in));
        memset(out, 0x55, sizeof(out));
        call(TDID_BIND_IOC_REQUEST, &arg, &io);
        check_int(packed.size, 4 + sizeof(arg) + 2 * (sizeof(uint64_t) + TDID_BIND_REQUEST_MAX));
        check_int(io.blob[0].size, sizeof(in));
        check_int(io.blob[1].size, sizeof(out));
        check(io.blob[0].data[sizeof(in) - 1] == 0x11 && io.blob[1].data[0] == 0);
        memset(io.blob[1].data, 0x66, sizeof(out));
        there = (void *) io.arg;
        there->out_used = 5;
        there->tsm_code = 0xbad;
        check_int(finish(&io, &arg, 0), 0);
        check_int(answered.size, 4 + sizeof(arg) + 8 + 8 + 5);
        check_int(arg.tsm_code, 0xbad);
        check(out[4] == 0x66 && out[5] == 0x55);

        test_about("all of the answer, and more than there is room for");
        for (uint32_t used = sizeof(out); used != 1; used = used == sizeof(out) ? UINT32_MAX : 1) {
                memset(out, 0x55, sizeof(out));
                call(TDID_BIND_IOC_REQUEST, &arg, &io);
                memset(io.blob[1].data, 0x66, sizeof(out));
                there = (void *) io.arg;
                there->out_used = used;
                check_int(finish(&io, &arg, 0), 0);
                check(out[0] == 0x66 && out[sizeof(out) - 1] == 0x66);
        }

        test_about("longer: the kernel does not look at it");
        arg.in_len = arg.out_len = longer;
        call(TDID_BIND_IOC_REQUEST, &arg, &io);
        check_int(packed.size, 4 + sizeof(arg) + 8 + 8);
        check(!io.blob[0].data && !io.blob[1].data);
        check_int(finish(&io, &arg, -EMSGSIZE), -EMSGSIZE);
        test_about("longer, and sent all the same");
        arg.in_len = 0;
        arg.out_len = 0;
        require(pack(TDID_BIND_IOC_REQUEST, &arg) == 0);
        memcpy(packed.bytes + 4 + offsetof(struct tdid_bind_request, in_len), &longer, sizeof(longer));
        memcpy(packed.bytes + 4 + sizeof(arg), &(uint64_t){ longer }, sizeof(uint64_t));
        check_int(unpack(TDID_BIND_IOC_REQUEST, 0, packed.bytes, packed.size + longer, 0, &io), -EINVAL);
}

static void test_dma_buf(void) {
        struct {
                struct tdi_udmabuf_create_list list;
                struct tdi_udmabuf_create_item item[2];
        } arg = { .list = { .count = 2 }, .item = { { .memfd = 3 }, { .memfd = 4 } } };
        struct sim_ioctl io;
        char name[64];

        test_about("list");
        call(TDI_UDMABUF_CREATE_LIST, &arg, &io);
        check_int(io.n_in, 2);
        check_int(io.in[1].fd, 4);
        check_int(finish(&io, &arg, -ENODEV), -ENODEV);
        arg.list.count = UINT32_MAX;
        check_int(pack(TDI_UDMABUF_CREATE_LIST, &arg), -EINVAL);

        test_about("name");
        memset(name, 'n', sizeof(name));
        call(TDI_DMA_BUF_SET_NAME_B, name, &io);
        check_int(io.size, TDI_DMA_BUF_NAME_LEN + 1);
        check_int(finish(&io, name, -EINVAL), -EINVAL);
        name[0] = '\0';
        call(TDI_DMA_BUF_SET_NAME_B, name, &io);
        check_int(io.size, 1);
        check_int(finish(&io, name, 0), 0);
}

/* ---- bytes that nobody packs ---- */

static void hostile(unsigned long request, const uint8_t *bytes, size_t size, unsigned n_fds) {
        struct sim_ioctl io;
        int r = unpack(request, 0, bytes, size, n_fds, &io);
        size_t used;

        check(r == 0 || r == -EINVAL);
        if (r < 0)
                return;
        check(io.n_in <= SIM_IOCTL_FDS_MAX);
        check_int(sim_ioctl_answer(&io, answered.bytes, sizeof(answered.bytes), &used), 0);
        sim_ioctl_done(&io);
}

static void test_hostile(void) {
        const struct sim_row *row;

        for (size_t n = 0; (row = sim_row(n)); n++) {
                uint8_t arg[512], behind[4][64] = {}, bytes[512];
                struct sim_ioctl io;

                test_about("%s", row->name);
                if (row->arg == SIM_ARG_VALUE)
                        continue;
                fill(row, arg, sizeof(arg), behind);
                require(pack(row->request, arg) == 0 && packed.size < sizeof(bytes));
                for (size_t size = 0; size < packed.size; size++)
                        check_int(unpack(row->request, 0, packed.bytes, size, packed.n_fds, &io), -EINVAL);
                memcpy(bytes, packed.bytes, packed.size);
                bytes[packed.size] = 0;
                check_int(unpack(row->request, 0, bytes, packed.size + 1, packed.n_fds, &io), -EINVAL);
                check_int(unpack(row->request, 0, bytes, packed.size, packed.n_fds + 1, &io), -EINVAL);
                if (packed.n_fds > 0)
                        check_int(unpack(row->request, 0, bytes, packed.size, packed.n_fds - 1, &io), -EINVAL);
                for (unsigned i = 0; i < 2000; i++) {
                        for (unsigned k = test_random() % 4; k < 4; k++) {
                                size_t at = test_random() % packed.size;

                                bytes[at] = test_random() % 2 ? 0xff : (uint8_t) test_random();
                        }
                        hostile(row->request, bytes, packed.size, packed.n_fds);
                        memcpy(bytes, packed.bytes, packed.size);
                }
        }
}

/* The client trusts no answer further than its own struct reaches. */
static void test_hostile_answer(void) {
        const struct sim_row *row;

        for (size_t n = 0; (row = sim_row(n)); n++) {
                uint8_t arg[512], behind[4][64] = {}, *exact;
                struct sim_ioctl io;
                size_t size;

                test_about("%s", row->name);
                if (row->arg == SIM_ARG_VALUE) {
                        check_int(sim_ioctl_apply(row->request, NULL, 0, (const uint8_t *) "x", 1, NULL, 0), -EPROTO);
                        continue;
                }
                fill(row, arg, sizeof(arg), behind);
                call(row->request, arg, &io);
                require(sim_ioctl_answer(&io, answered.bytes, sizeof(answered.bytes), &size) == 0);
                check_int(sim_ioctl_apply(row->request, arg, -EINTR, NULL, 0, NULL, 0), -EINTR);
                for (size_t cut = 1; cut < size; cut++) {
                        exact = (uint8_t *) test_copy(answered.bytes, cut);
                        check_int(sim_ioctl_apply(row->request, arg, 0, exact, cut, NULL, 0), -EPROTO);
                        free(exact);
                }
                answered.bytes[size] = 0;
                check_int(sim_ioctl_apply(row->request, arg, 0, answered.bytes, size + 1, NULL, 0), -EPROTO);
                for (unsigned i = 0; i < 500 && row->pointer[0].scale; i++) {
                        size_t at = 4 + io.sent + test_random() % (size - 4 - io.sent);
                        uint8_t was = answered.bytes[at];
                        int r;

                        answered.bytes[at] = (uint8_t) test_random();
                        r = sim_ioctl_apply(row->request, arg, 0, answered.bytes, size, NULL, 0);
                        check(r == 0 || r == -EPROTO);
                        answered.bytes[at] = was;
                }
                sim_ioctl_done(&io);
        }
}

int main(void) {
        test_every_row();
        test_numbers_differ();
        test_argsz();
        test_irqs();
        test_bind();
        test_hot_reset();
        test_feature();
        test_ranges();
        test_sized();
        test_hw_info();
        test_kvm();
        test_two_fds();
        test_request();
        test_dma_buf();
        test_hostile();
        test_hostile_answer();
        return test_end();
}
