/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated importers: every pair of source and importer in every class, what each sees of revokes and moves, an importer that does
 * not let go, and how many references a dma-buf has.
 */
#include <linux/pci_regs.h>
#include <tdi/dmabuf.h>

#include "host/abi/dmabuf.h"
#include "host/abi/udmabuf.h"
#include "host/fdkind.h"
#include "../kmod/tdid_test_importer.h"
#include "sim-kernel.h"
#include "sim/importer-abi.h"

/* The test module has the same calls. */
#define SAME(ours, theirs) _Static_assert((ours) == (theirs), #ours " is not " #theirs)
SAME(TDI_TEST_IMPORT_ATTACH, TDID_TEST_IMPORT_ATTACH);
SAME(TDI_TEST_IMPORT_STATE, TDID_TEST_IMPORT_STATE);
SAME(TDI_TEST_IMPORT_MAP, TDID_TEST_IMPORT_MAP);
SAME(TDI_TEST_IMPORT_UNMAP, TDID_TEST_IMPORT_UNMAP);
SAME(TDI_TEST_IMPORT_DETACH, TDID_TEST_IMPORT_DETACH);
SAME(TDI_TEST_IMPORT_HOLD, TDID_TEST_IMPORT_HOLD);
SAME(TDI_TEST_IMPORT_NO_P2P, TDID_TEST_IMPORT_NO_P2P);
SAME(TDI_TEST_IMPORT_MAPPED, TDID_TEST_IMPORT_MAPPED);
SAME(TDI_IMPORTER_ANY, TDID_TEST_IMPORTER_ANY);
SAME(TDI_DMABUF_PINNED, TDID_TEST_IMPORT_PINNED);
SAME(TDI_DMABUF_REVOCABLE, TDID_TEST_IMPORT_REVOCABLE);
SAME(TDI_DMABUF_DYNAMIC, TDID_TEST_IMPORT_DYNAMIC);
#define SAME_PLACE(type, field) SAME(offsetof(struct tdi_test_import_##type, field), offsetof(struct tdid_test_import_##type, field))
SAME_PLACE(attach, importer);
SAME_PLACE(attach, dmabuf_class);
SAME_PLACE(attach, flags);
SAME_PLACE(attach, device);
SAME_PLACE(attach, id);
SAME_PLACE(state, flags);
SAME_PLACE(state, notified);
SAME_PLACE(state, maps);
SAME_PLACE(state, error);
SAME_PLACE(state, segments);
SAME_PLACE(state, address);
SAME_PLACE(state, length);

static const char topology[] =
        "{\"schema\": \"tdi-sim/1\", \"platform\": \"plain\", \"buses\": [{\"bus\": \"0000:00\"}],"
        " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"02\"}],"
        " \"functions\": ["
        "  {\"bdf\": \"0000:01:00.0\", \"model\": \"memory\", \"ids\": \"1234:0001\", \"flr\": true, \"driver\": \"vfio-pci\","
        "   \"bars\": [{\"size\": \"64K\", \"kind\": \"mem64\"}]},"
        "  {\"bdf\": \"0000:02:00.0\", \"model\": \"memory\", \"ids\": \"1234:0003\", \"flr\": true, \"driver\": \"vfio-pci\","
        "   \"bars\": [{\"size\": 4096}],"
        "   \"sriov\": {\"total\": 2, \"vf\": {\"ids\": \"1234:0004\", \"model\": \"memory\", \"bars\": [{\"size\": 4096}]}}}]}";

#define MEM "0000:01:00.0"
#define PF "0000:02:00.0"
#define SIZE 0x4000

static int importer;

static int open_bound(const char *bdf) {
        int device = open_vfio(bdf), iommufd = host_open(host, "/dev/iommu", O_RDWR);

        require(device >= 0 && iommufd >= 0);
        check_int(bind_vfio(device, iommufd, NULL), 0);
        check_int(host_close(host, iommufd), 0);
        return device;
}

/* A PF, or its VF: both show the same token. */
static int open_with_token(const char *bdf) {
        static const uint8_t token[16] = { 1, 2, 3 };
        int device = open_vfio(bdf), iommufd = host_open(host, "/dev/iommu", O_RDWR);
        struct tdi_vfio_device_bind_iommufd bind = {
                .argsz = sizeof(bind),
                .flags = TDI_VFIO_DEVICE_BIND_FLAG_TOKEN,
                .iommufd = iommufd,
                .token_uuid_ptr = (uintptr_t) token,
        };

        require(device >= 0 && iommufd >= 0);
        check_int(CALL(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), 0);
        check_int(host_close(host, iommufd), 0);
        return device;
}

static int export_bar(int device, uint64_t offset, uint64_t size) {
        union {
                struct tdi_vfio_device_feature feature;
                char room[64];
        } u = { .feature = { .argsz = 8 + 16 + 16, .flags = TDI_VFIO_DEVICE_FEATURE_DMA_BUF | TDI_VFIO_DEVICE_FEATURE_GET } };
        const struct tdi_vfio_device_feature_dma_buf get = { .open_flags = O_RDWR | O_CLOEXEC, .nr_ranges = 1 };
        const struct tdi_vfio_region_dma_range range = { offset, size };

        memcpy(u.feature.data, &get, sizeof(get));
        memcpy(u.feature.data + sizeof(get), &range, sizeof(range));
        return CALL(device, VFIO_DEVICE_FEATURE, &u);
}

/* A udmabuf of two pieces, and its memfd. */
static int make_udmabuf(int *ret_memfd) {
        union {
                struct tdi_udmabuf_create_list list;
                char room[sizeof(struct tdi_udmabuf_create_list) + 2 * sizeof(struct tdi_udmabuf_create_item)];
        } u = { .list = { .count = 2 } };
        int fd = host_open(host, "/dev/udmabuf", O_RDWR), r;

        *ret_memfd = new_memfd(0x10000, F_SEAL_SHRINK);
        u.list.list[0] = (struct tdi_udmabuf_create_item) { .memfd = (uint32_t) *ret_memfd, .offset = 0x8000, .size = 0x1000 };
        u.list.list[1] = (struct tdi_udmabuf_create_item) { .memfd = (uint32_t) *ret_memfd, .offset = 0, .size = 0x3000 };
        r = CALL(fd, UDMABUF_CREATE_LIST, &u);
        check_int(host_close(host, fd), 0);
        return r;
}

static int make_heap(void) {
        struct tdi_dma_heap_allocation_data data = { .len = SIZE, .fd_flags = O_RDWR | O_CLOEXEC };
        int fd = host_open(host, "/dev/dma_heap/system", O_RDWR);

        check_int(CALL(fd, DMA_HEAP_IOCTL_ALLOC, &data), 0);
        check_int(host_close(host, fd), 0);
        return (int) data.fd;
}

static int make_moving(uint64_t size) {
        struct tdi_test_source source = { size };

        return CALL(importer, TEST_SOURCE_CREATE, &source);
}

static int move(int fd) {
        struct tdi_test_source_move m = { .fd = fd };

        return CALL(importer, TEST_SOURCE_MOVE, &m);
}

static int attach(int fd, uint32_t who, uint32_t class, uint32_t flags) {
        struct tdi_test_import_attach a = { .fd = fd, .importer = who, .dmabuf_class = class, .flags = flags, .device = 0x200 };
        int r = CALL(importer, TEST_IMPORT_ATTACH, &a);

        return r < 0 ? r : (int) a.id;
}

static int on_id(unsigned long request, int id) {
        return host_ioctl(host, importer, request, (void *) (uintptr_t) id);
}

static struct tdi_test_import_state state(int id) {
        struct tdi_test_import_state s = { .id = (uint32_t) id };

        check_int(CALL(importer, TEST_IMPORT_STATE, &s), 0);
        return s;
}

static int access_at(int id, uint64_t offset, bool write, uint64_t *value) {
        struct tdi_test_import_access a = { .id = (uint32_t) id, .write = write, .offset = offset, .value = *value };
        int r = CALL(importer, TEST_IMPORT_ACCESS, &a);

        *value = a.value;
        return r;
}

static uint64_t read_at(int id, uint64_t offset) {
        uint64_t value = 0;

        check_int(access_at(id, offset, false, &value), 0);
        return value;
}

static unsigned references(int fd) {
        unsigned n = 0;

        check_int(host_dmabuf_references(host, fd, &n), 0);
        return n;
}

/* ---- every pair ---- */

enum kind {
        BAR_RANGE,
        UDMABUF,
        HEAP,
        MOVING,
        SOURCE_MAX
};

/* What each of the sources promises, and what the importers take: as tdid negotiates. */
static const unsigned promises[SOURCE_MAX] = {
        TDI_DMABUF_SET(TDI_DMABUF_REVOCABLE), TDI_DMABUF_SET(TDI_DMABUF_PINNED), TDI_DMABUF_SET(TDI_DMABUF_PINNED), TDI_DMABUF_SET(TDI_DMABUF_DYNAMIC),
};

static void test_pairs(const int sources[SOURCE_MAX]) {
        unsigned agreed = 0, worked = 0;

        for (int s = 0; s < SOURCE_MAX; s++)
                for (uint32_t who = 0; who < TDI_IMPORTER_MAX; who++)
                        for (uint32_t class = 0; class < TDI_DMABUF_CLASS_MAX; class++) {
                                unsigned takes = who == TDI_IMPORTER_ANY ? 7 : tdi_importer_classes((enum tdi_importer) who);
                                bool deaf = class == TDI_DMABUF_PINNED, listens_only = s == BAR_RANGE || s == MOVING;
                                int expected = !(takes & TDI_DMABUF_SET(class)) ? -EPROTONOSUPPORT : deaf && listens_only ? -EOPNOTSUPP : 0, id;
                                enum tdi_dmabuf_class negotiated;

                                test_about("source %d, importer %s, class %s", s, tdi_importer_to_string((enum tdi_importer) who),
                                           tdi_dmabuf_class_to_string((enum tdi_dmabuf_class) class));
                                id = attach(sources[s], who, class, 0);
                                check_int(id < 0 ? id : 0, expected);
                                /* Where tdid would agree, it works. */
                                if (tdi_dmabuf_negotiate(promises[s], (enum tdi_importer) who, TDI_DMABUF_SET(class), &negotiated, NULL) == 0) {
                                        agreed++;
                                        check((uint32_t) negotiated == class && id >= 0);
                                }
                                if (id < 0)
                                        continue;
                                worked++;
                                check_int(on_id(TDI_TEST_IMPORT_MAP, id), 0);
                                check_int(on_id(TDI_TEST_IMPORT_MAP, id), -EBUSY);
                                check_int(state(id).length, SIZE);
                                check_int(state(id).segments, s == UDMABUF ? 2 : 1);
                                check_int(on_id(TDI_TEST_IMPORT_UNMAP, id), 0);
                                check_int(on_id(TDI_TEST_IMPORT_UNMAP, id), -EINVAL);
                                check_int(on_id(TDI_TEST_IMPORT_DETACH, id), 0);
                                check_int(on_id(TDI_TEST_IMPORT_DETACH, id), -ENOENT);
                        }
        test_about("all pairs");
        check_int(agreed, 17);
        check(worked > agreed);
}

static void test_refused(const int sources[SOURCE_MAX]) {
        struct tdi_test_import_attach a = { .fd = sources[UDMABUF], .importer = TDI_IMPORTER_KVM, .device = 0x900 };
        int memfd = new_memfd(4096, 0);

        test_about("refused");
        check_int(CALL(importer, TEST_IMPORT_ATTACH, &a), -ENODEV);
        a.device = 0x200;
        a.importer = TDI_IMPORTER_MAX;
        check_int(CALL(importer, TEST_IMPORT_ATTACH, &a), -EINVAL);
        a.importer = TDI_IMPORTER_ANY;
        a.dmabuf_class = TDI_DMABUF_CLASS_MAX;
        check_int(CALL(importer, TEST_IMPORT_ATTACH, &a), -EINVAL);
        a.dmabuf_class = 0;
        a.flags = 4;
        check_int(CALL(importer, TEST_IMPORT_ATTACH, &a), -EINVAL);
        a.flags = 0;
        a.fd = memfd;
        check_int(CALL(importer, TEST_IMPORT_ATTACH, &a), -EINVAL);
        a.fd = importer;
        check_int(CALL(importer, TEST_IMPORT_ATTACH, &a), -EINVAL);
        /* Without peer-to-peer memory will do, a BAR will not. */
        check_int(attach(sources[BAR_RANGE], TDI_IMPORTER_ANY, TDI_DMABUF_REVOCABLE, TDI_TEST_IMPORT_NO_P2P), -EOPNOTSUPP);
        check(attach(sources[HEAP], TDI_IMPORTER_ANY, TDI_DMABUF_REVOCABLE, TDI_TEST_IMPORT_NO_P2P) > 0);
        check_int(make_moving(0), -EINVAL);
        check_int(make_moving(100), -EINVAL);
        check_int(make_moving(TDI_TEST_SOURCE_MAX + 4096), -EINVAL);
        check_int(move(sources[UDMABUF]), -EINVAL);
        check_int(move(memfd), -EINVAL);
        close_fd(memfd);
}

/* ---- what they see ---- */

static void test_memory(int udmabuf, int memfd, int heap) {
        int id = attach(udmabuf, TDI_IMPORTER_RDMA, TDI_DMABUF_PINNED, 0);
        uint64_t value = 0x1122334455667788, got = 0;

        test_about("memory");
        check_int(pwrite(memfd, &value, 8, 0x8010), 8);
        check_int(read_at(id, 0x10) == value, true);
        /* Over the border between pieces, and over the end. */
        check_int(access_at(id, 0xffc, true, &value), 0);
        check_int(pread(memfd, &got, 4, 0), 4);
        check_int(got, 0x11223344);
        check_int(access_at(id, SIZE - 4, false, &value), -EFAULT);
        check_int(access_at(id, UINT64_MAX - 4, false, &value), -EFAULT);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, id), 0);
        id = attach(heap, TDI_IMPORTER_GPU, TDI_DMABUF_PINNED, 0);
        value = 7;
        check_int(access_at(id, SIZE - 8, true, &value), 0);
        check_int(read_at(id, SIZE - 8), 7);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, id), 0);
}

static void test_revoke(int device, int bar) {
        int kvm = attach(bar, TDI_IMPORTER_KVM, TDI_DMABUF_REVOCABLE, 0), other = attach(bar, TDI_IMPORTER_ANY, TDI_DMABUF_DYNAMIC, 0);
        uint64_t value = 0xabcdef;

        test_about("revoke");
        check_int(access_at(kvm, 0x20, true, &value), 0);
        check_int(read_at(other, 0x20), 0xabcdef);
        check_int(read32(device, BAR(0) + 0x1020), 0xabcdef);
        check_int(state(kvm).address & 0xffff, 0x1000);

        /* Memory off: gone at once, and an error from then on; on again: told, and mapped when it is wanted. */
        write16(device, CONFIG + PCI_COMMAND, 0);
        check_int(state(kvm).flags, 0);
        check_int(state(kvm).notified, 1);
        check_int(access_at(kvm, 0x20, false, &value), -ENODEV);
        check_int(state(kvm).error, -ENODEV);
        check_int(attach(bar, TDI_IMPORTER_ANY, TDI_DMABUF_REVOCABLE, 0), -ENODEV);
        write16(device, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY);
        check_int(state(kvm).notified, 2);
        check_int(state(kvm).flags, 0);
        check_int(read_at(kvm, 0x20), 0xabcdef);
        check_int(state(kvm).flags, TDI_TEST_IMPORT_MAPPED);
        check_int(state(kvm).maps, 3);

        /* A reset is both in one call. */
        check_int(CALL(device, VFIO_DEVICE_RESET, NULL), 0);
        check_int(state(kvm).notified, 4);
        check_int(state(kvm).flags, 0);
        (void) read_at(kvm, 0x20);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, kvm), 0);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, other), 0);
}

/* A VF's own bit means nothing: clearing it revokes for the length of the call (vfio_basic_config_write). What a reset does, it does to a VF too. */
static void test_vf(int vf) {
        int bar = export_bar(vf, 0, 0x1000), id;

        test_about("VF");
        require(bar >= 0);
        id = attach(bar, TDI_IMPORTER_KVM, TDI_DMABUF_REVOCABLE, 0);
        check_int(on_id(TDI_TEST_IMPORT_MAP, id), 0);
        write16(vf, CONFIG + PCI_COMMAND, 0);
        check_int(state(id).notified, 2);
        check_int(state(id).flags, 0);
        check_int(on_id(TDI_TEST_IMPORT_MAP, id), 0);
        write16(vf, CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY);
        check_int(state(id).notified, 2);
        check_int(state(id).flags, TDI_TEST_IMPORT_MAPPED);
        check_int(CALL(vf, VFIO_DEVICE_RESET, NULL), 0);
        check_int(state(id).notified, 4);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, id), 0);
        check_int(host_close(host, bar), 0);
}

static void test_move(int moving) {
        int gpu = attach(moving, TDI_IMPORTER_GPU, TDI_DMABUF_DYNAMIC, 0);
        uint64_t value = 99, before;

        test_about("move");
        check_int(access_at(gpu, 0x100, true, &value), 0);
        before = state(gpu).address;
        check_int(move(moving), 0);
        check_int(state(gpu).notified, 1);
        check_int(state(gpu).flags, 0);
        /* It faults, maps again, and finds its data elsewhere. */
        check_int(read_at(gpu, 0x100), 99);
        check(state(gpu).address != before);
        check_int(state(gpu).maps, 2);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, gpu), 0);
}

struct reset {
        int device, result;
        atomic_bool done;
};

static void *reset_it(void *userdata) {
        struct reset *r = userdata;

        r->result = CALL(r->device, VFIO_DEVICE_RESET, NULL);
        r->done = true;
        return NULL;
}

/* A revoke waits for as long as somebody holds on, whatever it holds up. */
static void test_hold(int device, int bar) {
        int id = attach(bar, TDI_IMPORTER_ANY, TDI_DMABUF_REVOCABLE, TDI_TEST_IMPORT_HOLD);
        struct reset reset = { .device = device };
        pthread_t thread;

        test_about("hold");
        check_int(on_id(TDI_TEST_IMPORT_MAP, id), 0);
        require(pthread_create(&thread, NULL, reset_it, &reset) == 0);
        for (unsigned i = 0; i < 2000 && state(id).notified == 0; i++)
                (void) usleep(1000);
        check_int(state(id).notified, 1);
        (void) usleep(50000);
        check(!reset.done);
        check_int(state(id).flags, TDI_TEST_IMPORT_MAPPED);
        check_int(on_id(TDI_TEST_IMPORT_UNMAP, id), 0);
        require(pthread_join(thread, NULL) == 0);
        check_int(reset.result, 0);
        check_int(state(id).notified, 2);
        /* Letting go by detaching will do as well. */
        check_int(on_id(TDI_TEST_IMPORT_MAP, id), 0);
        reset.done = false;
        require(pthread_create(&thread, NULL, reset_it, &reset) == 0);
        for (unsigned i = 0; i < 2000 && state(id).notified < 3; i++)
                (void) usleep(1000);
        check(!reset.done);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, id), 0);
        require(pthread_join(thread, NULL) == 0);
}

/* /proc/self/fdinfo of a dma-buf: descriptors and importers. */
static void test_references(int bar) {
        int copy, id, event = new_event();
        unsigned n;

        test_about("references");
        check_int(references(bar), 1);
        copy = fd_dup(bar);
        check_int(references(bar), 2);
        id = attach(bar, TDI_IMPORTER_KVM, TDI_DMABUF_REVOCABLE, 0);
        check_int(references(copy), 3);
        check_int(host_close(host, copy), 0);
        check_int(references(bar), 2);
        check_int(on_id(TDI_TEST_IMPORT_DETACH, id), 0);
        check_int(references(bar), 1);
        /* Nothing else has it. */
        check_int(host_dmabuf_references(host, importer, &n), -ENODATA);
        check_int(host_dmabuf_references(host, event, &n), -ENODATA);
        check_int(host_dmabuf_references(host, 9999, &n), -ENOENT);
        close_fd(event);
}

static void test_close(int device, int bar) {
        int id = attach(bar, TDI_IMPORTER_KVM, TDI_DMABUF_REVOCABLE, 0);

        test_about("close");
        check_int(on_id(TDI_TEST_IMPORT_MAP, id), 0);
        check_int(host_close(host, device), 0);
        check_int(state(id).notified, 1);
        check_int(on_id(TDI_TEST_IMPORT_MAP, id), -ENODEV);
        device = open_bound(MEM);
        check_int(on_id(TDI_TEST_IMPORT_MAP, id), -ENODEV);
        check_int(host_close(host, device), 0);
}

int main(void) {
        struct sim_call call;
        int sources[SOURCE_MAX], memfd, device, pf, vf;

        kernel_start(topology);
        call = (struct sim_call) { .sim = kernel };
        check_int(host_open(host, TDI_TEST_IMPORTER_PATH, O_RDWR), -ENOENT);
        sim_lock(kernel);
        check_int(sim_importer_unload(&call), -ENOENT);
        check_int(sim_importer_load(&call), 0);
        check_int(sim_importer_load(&call), -EEXIST);
        sim_unlock(kernel);
        importer = host_open(host, TDI_TEST_IMPORTER_PATH, O_RDWR);
        device = open_bound(MEM);
        require(importer >= 0);
        sources[BAR_RANGE] = export_bar(device, 0x1000, SIZE);
        sources[UDMABUF] = make_udmabuf(&memfd);
        sources[HEAP] = make_heap();
        sources[MOVING] = make_moving(SIZE);
        for (int i = 0; i < SOURCE_MAX; i++)
                require(sources[i] >= 0);

        test_pairs(sources);
        test_refused(sources);
        test_memory(sources[UDMABUF], memfd, sources[HEAP]);
        test_revoke(device, sources[BAR_RANGE]);
        test_move(sources[MOVING]);
        test_hold(device, sources[BAR_RANGE]);
        test_references(sources[BAR_RANGE]);

        check_int(host_write_text(host, "/sys/module/vfio_pci/parameters/enable_sriov", "Y"), 0);
        check_int(host_write_text(host, "/sys/bus/pci/devices/" PF "/driver/unbind", PF), 0);
        check_int(host_write_text(host, "/sys/bus/pci/drivers/vfio-pci/bind", PF), 0);
        check_int(host_write_text(host, "/sys/bus/pci/devices/" PF "/sriov_numvfs", "1"), 0);
        pf = open_with_token(PF);
        vf = open_with_token("0000:02:00.1");
        test_vf(vf);
        check_int(host_close(host, vf), 0);
        check_int(host_close(host, pf), 0);
        check_int(host_write_text(host, "/sys/bus/pci/devices/" PF "/sriov_numvfs", "0"), 0);
        test_close(device, sources[BAR_RANGE]);

        test_about("end");
        sim_lock(kernel);
        check_int(sim_importer_unload(&call), 0);
        sim_unlock(kernel);
        check_int(host_open(host, TDI_TEST_IMPORTER_PATH, O_RDWR), -ENOENT);
        for (int i = 0; i < SOURCE_MAX; i++)
                check_int(host_close(host, sources[i]), 0);
        /* With what is attached still. */
        check_int(host_close(host, importer), 0);
        close_fd(memfd);
        kernel_end();
        return test_end();
}
