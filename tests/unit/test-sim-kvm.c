/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated KVM, its association with VFIO devices, and dma-bufs of memory. */
#include <signal.h>
#include <sys/wait.h>

#include "host/abi/dmabuf.h"
#include "host/abi/kvm.h"
#include "host/abi/udmabuf.h"
#include "sim-kernel.h"
#include "sim/vfio.h"

#define TOPOLOGY(platform)                                                                                                    \
        "{\"schema\": \"tdi-sim/1\", \"platform\": \"" platform "\", \"buses\": [{\"bus\": \"0000:00\"}],"                 \
        " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}],"                                                       \
        " \"functions\": [{\"bdf\": \"0000:01:00.0\", \"model\": \"edu\", \"flr\": true, \"driver\": \"vfio-pci\"}]}"

#define EDU "0000:01:00.0"
#define VALUE(n) ((void *) (uintptr_t) (n))

static int open_kvm(void) {
        int fd = host_open(host, "/dev/kvm", O_RDWR);

        require(fd >= 0);
        return fd;
}

static int new_device(int vm) {
        struct tdi_kvm_create_device device = { .type = TDI_KVM_DEV_TYPE_VFIO };
        int r;

        r = CALL(vm, KVM_CREATE_DEVICE, &device);
        return r < 0 ? r : (int) device.fd;
}

static int change(int device, uint64_t what, int32_t fd) {
        struct tdi_kvm_device_attr attr = { .group = TDI_KVM_DEV_VFIO_FILE, .attr = what, .addr = (uintptr_t) &fd };

        return CALL(device, KVM_SET_DEVICE_ATTR, &attr);
}

static void test_types(const char *platform) {
        static const struct {
                const char *platform;
                uint64_t type;
                bool valid;
        } cases[] = {
                { "tdx", 0, true },      { "tdx", 5, true },      { "tdx", 4, false },     { "tdx", 1, true },       { "tdx", 99, false },
                { "sev-snp", 4, true },  { "sev-snp", 3, true },  { "sev-snp", 5, false }, { "plain", 0, true },     { "plain", 5, false },
                { "cca", 0, true },      { "cca", 40, true },     { "cca", 5, false },     { "cca", 1u << 31, false },
                { "pkvm", 1u << 31, true }, { "pkvm", 1u << 31 | 40, true }, { "pkvm", 1u << 30, false },
        };
        int kvm = open_kvm(), vm;

        check_int(CALL(kvm, KVM_GET_API_VERSION, NULL), 12);
        check_int(CALL(kvm, KVM_CHECK_EXTENSION, VALUE(TDI_KVM_CAP_DEVICE_CTRL)), 1);
        check_int(CALL(kvm, KVM_CHECK_EXTENSION, VALUE(100000)), 0);
        check_int(CALL(kvm, KVM_CREATE_VCPU, VALUE(0)), -EINVAL);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                if (!streq(cases[i].platform, platform))
                        continue;
                test_about("%s, type %#" PRIx64, platform, cases[i].type);
                vm = CALL(kvm, KVM_CREATE_VM, VALUE(cases[i].type));
                if (!cases[i].valid)
                        check_int(vm, -EINVAL);
                else if (check(vm >= 0))
                        check_int(host_close(host, vm), 0);
        }
        test_about(" ");
        test_case[0] = '\0';
        check_int(host_close(host, kvm), 0);
}

static void check_text(const char *path, const char *expected) {
        char text[128] = "";

        test_about("%s", path);
        if (expected)
                check(host_read_text(host, path, text, sizeof(text)) >= 0 && streq(text, expected));
        else
                check_int(host_read_text(host, path, text, sizeof(text)), -ENOENT);
}

/* What tells the platforms apart without a TSM. */
static void test_files(const char *platform) {
        const bool arm = streq(platform, "cca") || streq(platform, "pkvm"), amd = streq(platform, "sev-snp");
        int kvm = open_kvm(), types;

        check_text("/proc/sys/kernel/arch", arm ? "aarch64" : "x86_64");
        check_text("/proc/sys/kernel/osrelease", "7.3.4-tdi-sim");
        check_text("/proc/cmdline", streq(platform, "pkvm") ? "console=ttyS0 kvm-arm.mode=protected" : "console=ttyS0");
        check_text("/sys/module/kvm_intel/parameters/tdx", arm || amd ? NULL : streq(platform, "tdx") ? "Y" : "N");
        check_text("/sys/module/kvm_amd/parameters/sev_snp", amd ? "Y" : NULL);
        types = CALL(kvm, KVM_CHECK_EXTENSION, VALUE(TDI_KVM_CAP_VM_TYPES));
        check_int(types, arm ? 0 : amd ? 0x1f : streq(platform, "tdx") ? 0x23 : 0x3);
        check_int(host_close(host, kvm), 0);
}

static void test_objects(void) {
        struct tdi_kvm_create_device device = { .type = 3 };
        struct tdi_kvm_device_attr attr = { .group = 7 };
        struct tdi_kvm_create_guest_memfd guest = { .size = 0x1000 };
        struct tdi_kvm_userspace_memory_region2 slot = { .slot = 1, .guest_phys_addr = 0x1000, .memory_size = 0x2000,
                                                          .userspace_addr = 0x10000 };
        int kvm = open_kvm(), vm, vcpu, vfio, memory;
        char name[64];

        vm = CALL(kvm, KVM_CREATE_VM, VALUE(0));
        require(vm >= 0);
        check_int(host_identify(host, vm, name, sizeof(name)), 0);
        check_str(name, "anon_inode:kvm-vm");
        vcpu = CALL(vm, KVM_CREATE_VCPU, VALUE(3));
        check(vcpu >= 0);
        check_int(host_identify(host, vcpu, name, sizeof(name)), 0);
        check_str(name, "anon_inode:kvm-vcpu:3");
        check_int(CALL(vm, KVM_CREATE_VCPU, VALUE(3)), -EEXIST);
        check_int(CALL(vm, KVM_CREATE_VCPU, VALUE(1000000)), -EINVAL);
        check_int(CALL(vm, KVM_CREATE_DEVICE, &device), -ENODEV);
        device.type = TDI_KVM_DEV_TYPE_VFIO;
        device.flags = TDI_KVM_CREATE_DEVICE_TEST;
        check_int(CALL(vm, KVM_CREATE_DEVICE, &device), 0);
        vfio = new_device(vm);
        check(vfio >= 0);
        check_int(new_device(vm), -EBUSY);
        check_int(CALL(vfio, KVM_SET_DEVICE_ATTR, &attr), -ENXIO);
        check_int(CALL(vfio, KVM_HAS_DEVICE_ATTR, &attr), -ENXIO);
        attr = (struct tdi_kvm_device_attr) { .group = TDI_KVM_DEV_VFIO_FILE, .attr = TDI_KVM_DEV_VFIO_FILE_ADD };
        check_int(CALL(vfio, KVM_HAS_DEVICE_ATTR, &attr), 0);
        check_int(CALL(vfio, KVM_SET_DEVICE_ATTR, &attr), -EFAULT);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_ADD, -1), -EBADF);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_ADD, kvm), -EINVAL);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_DEL, kvm), -ENOENT);
        check_int(host_close(host, vfio), 0);
        vfio = new_device(vm);
        check(vfio >= 0);
        check_int(host_close(host, vfio), 0);

        check_int(CALL(vm, KVM_SET_USER_MEMORY_REGION2, &slot), 0);
        slot.slot = 2;
        slot.guest_phys_addr = 0x2000;
        check_int(CALL(vm, KVM_SET_USER_MEMORY_REGION2, &slot), -EEXIST);
        slot.guest_phys_addr = 0x2001;
        check_int(CALL(vm, KVM_SET_USER_MEMORY_REGION2, &slot), -EINVAL);
        memory = CALL(vm, KVM_CREATE_GUEST_MEMFD, &guest);
        check(memory >= 0);
        slot.flags = TDI_KVM_MEM_GUEST_MEMFD;
        slot.guest_phys_addr = 0x10000;
        slot.memory_size = 0x1000;
        slot.guest_memfd = (uint32_t) vm;
        check_int(CALL(vm, KVM_SET_USER_MEMORY_REGION2, &slot), -EINVAL);
        slot.guest_memfd = (uint32_t) memory;
        check_int(CALL(vm, KVM_SET_USER_MEMORY_REGION2, &slot), 0);
        guest.size = 100;
        check_int(CALL(vm, KVM_CREATE_GUEST_MEMFD, &guest), -EINVAL);
        check_int(host_close(host, memory), 0);
        check_int(host_close(host, vcpu), 0);
        check_int(host_close(host, vm), 0);
        check_int(host_close(host, kvm), 0);
}

/* Of a VM that is not its own, a process only has the descriptor. */
static void test_other_process(void) {
        struct tdi_kvm_create_device device = { .type = TDI_KVM_DEV_TYPE_VFIO };
        struct tdi_kvm_device_attr attr = { .group = TDI_KVM_DEV_VFIO_FILE, .attr = TDI_KVM_DEV_VFIO_FILE_ADD };
        int kvm = open_kvm(), vm, vfio, status;
        pid_t pid;

        vm = CALL(kvm, KVM_CREATE_VM, VALUE(0));
        vfio = new_device(vm);
        require(vm >= 0 && vfio >= 0);
        pid = fork();
        require(pid >= 0);
        if (pid == 0) {
                check_int(CALL(vm, KVM_CREATE_VCPU, VALUE(0)), -EIO);
                check_int(CALL(vm, KVM_CREATE_DEVICE, &device), -EIO);
                check_int(CALL(vfio, KVM_HAS_DEVICE_ATTR, &attr), -EIO);
                check_int(CALL(vm, KVM_CHECK_EXTENSION, VALUE(TDI_KVM_CAP_DEVICE_CTRL)), -EIO);
                _exit(test_failures > 0);
        }
        require(waitpid(pid, &status, 0) == pid);
        check_int(status, 0);
        check_int(host_close(host, vfio), 0);
        check_int(host_close(host, vm), 0);
        check_int(host_close(host, kvm), 0);
}

static bool has_kvm(void) {
        struct sim_function *fn;
        bool has;

        sim_lock(kernel);
        fn = sim_function_find(sim_machine(kernel), EDU);
        has = fn->vfio && fn->vfio->kvm;
        sim_unlock(kernel);
        return has;
}

static void test_association(void) {
        int kvm = open_kvm(), vm, vfio, device = open_vfio(EDU), iommufd = host_open(host, "/dev/iommu", O_RDWR);

        vm = CALL(kvm, KVM_CREATE_VM, VALUE(0));
        vfio = new_device(vm);
        require(vm >= 0 && vfio >= 0 && iommufd >= 0);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_ADD, iommufd), -EINVAL);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_ADD, device), 0);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_ADD, device), -EEXIST);
        check(!has_kvm());
        check_int(bind_vfio(device, iommufd, NULL), 0);
        check(has_kvm());
        /* The VM's descriptor may go; the device holds the VM, and the kvm-vfio device holds the device's file. */
        check_int(host_close(host, vm), 0);
        check_int(host_close(host, device), 0);
        check(has_kvm());
        device = open_vfio(EDU);
        check_int(bind_vfio(device, iommufd, NULL), -EINVAL);
        check_int(host_close(host, vfio), 0);
        check(!has_kvm());
        check_int(bind_vfio(device, iommufd, NULL), 0);
        check(!has_kvm());

        /* After BIND it comes too late. */
        vm = CALL(kvm, KVM_CREATE_VM, VALUE(0));
        vfio = new_device(vm);
        require(vm >= 0 && vfio >= 0);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_ADD, device), 0);
        check(!has_kvm());
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_DEL, device), 0);
        check_int(change(vfio, TDI_KVM_DEV_VFIO_FILE_DEL, device), -ENOENT);
        check_int(host_close(host, vfio), 0);
        check_int(host_close(host, vm), 0);
        check_int(host_close(host, device), 0);
        check_int(host_close(host, iommufd), 0);
        check_int(host_close(host, kvm), 0);
}

static void test_dmabufs(void) {
        struct tdi_udmabuf_create create = { .size = 0x2000 };
        union {
                struct tdi_udmabuf_create_list list;
                char room[sizeof(struct tdi_udmabuf_create_list) + 2 * sizeof(struct tdi_udmabuf_create_item)];
        } u = { .list = { .count = 2 } };
        struct tdi_dma_heap_allocation_data data = { .len = 100, .fd_flags = O_RDWR | O_CLOEXEC };
        struct tdi_dma_buf_sync sync = { .flags = TDI_DMA_BUF_SYNC_RW | TDI_DMA_BUF_SYNC_END };
        int node = host_open(host, "/dev/udmabuf", O_RDWR), heap = host_open(host, "/dev/dma_heap/system", O_RDWR), buffer, iommufd;
        int sealed = new_memfd(0x4000, F_SEAL_SHRINK), open_file = new_memfd(0x4000, 0);
        int fixed = new_memfd(0x4000, F_SEAL_SHRINK | F_SEAL_WRITE);
        char name[64], text[64] = "a name";
        uint32_t ioas;

        require(node >= 0 && heap >= 0);
        create.memfd = (uint32_t) open_file;
        check_int(CALL(node, UDMABUF_CREATE, &create), -EINVAL);
        create.memfd = (uint32_t) fixed;
        check_int(CALL(node, UDMABUF_CREATE, &create), -EINVAL);
        create.memfd = (uint32_t) node;
        check_int(CALL(node, UDMABUF_CREATE, &create), -EBADFD);
        create.memfd = (uint32_t) sealed;
        create.size = 0x5000;
        check_int(CALL(node, UDMABUF_CREATE, &create), -EINVAL);
        create.size = 0x1800;
        check_int(CALL(node, UDMABUF_CREATE, &create), -EINVAL);
        create.size = 0;
        check_int(CALL(node, UDMABUF_CREATE, &create), -EINVAL);
        create.size = 0x2000;
        buffer = CALL(node, UDMABUF_CREATE, &create);
        require(buffer >= 0);
        check_int(CALL(buffer, DMA_BUF_IOCTL_SYNC, &sync), -EINVAL);
        sync.flags = TDI_DMA_BUF_SYNC_READ;
        check_int(CALL(buffer, DMA_BUF_IOCTL_SYNC, &sync), 0);
        sync.flags |= TDI_DMA_BUF_SYNC_END;
        check_int(CALL(buffer, DMA_BUF_IOCTL_SYNC, &sync), 0);
        sync.flags = 0x100;
        check_int(CALL(buffer, DMA_BUF_IOCTL_SYNC, &sync), -EINVAL);
        check_int(CALL(buffer, DMA_BUF_SET_NAME_B, text), 0);
        check_int(host_identify(host, buffer, name, sizeof(name)), 0);
        check(startswith(name, "/dmabuf:a name"));
        memset(text, 'x', 40);
        check_int(CALL(buffer, DMA_BUF_SET_NAME_B, text), -EINVAL);

        /* Only VFIO's can be mapped into an address space. */
        iommufd = host_open(host, "/dev/iommu", O_RDWR);
        ioas = new_ioas(iommufd);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x1000, 0), -EOPNOTSUPP);
        check_int(map_file(iommufd, ioas, buffer, 0, 0x3000, 0), -EINVAL);
        check_int(host_close(host, buffer), 0);

        for (unsigned i = 0; i < 2; i++)
                u.list.list[i] = (struct tdi_udmabuf_create_item) { .memfd = (uint32_t) sealed, .offset = i * 0x1000UL, .size = 0x1000 };
        buffer = CALL(node, UDMABUF_CREATE_LIST, &u);
        check(buffer >= 0);
        check_int(host_close(host, buffer), 0);

        check_int(CALL(heap, DMA_HEAP_IOCTL_ALLOC, &data), 0);
        check_int(map_file(iommufd, ioas, (int) data.fd, 0, 0x1000, 0), -EOPNOTSUPP);
        check_int(CALL(heap, DMA_HEAP_IOCTL_ALLOC, &data), -EINVAL);
        check_int(host_close(host, (int) data.fd), 0);
        data.fd = 0;
        data.len = 0;
        check_int(CALL(heap, DMA_HEAP_IOCTL_ALLOC, &data), -EINVAL);
        data.len = UINT64_C(1) << 60;
        check_int(CALL(heap, DMA_HEAP_IOCTL_ALLOC, &data), -ENOMEM);
        check_int(host_close(host, iommufd), 0);
        check_int(host_close(host, node), 0);
        check_int(host_close(host, heap), 0);
        close_fd(sealed);
        close_fd(open_file);
        close_fd(fixed);
}

int main(void) {
        static const struct {
                const char *platform, *topology;
        } machines[] = {
                { "tdx", TOPOLOGY("tdx") }, { "sev-snp", TOPOLOGY("sev-snp") }, { "cca", TOPOLOGY("cca") }, { "pkvm", TOPOLOGY("pkvm") },
                { "plain", TOPOLOGY("plain") },
        };

        for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
                kernel_start(machines[i].topology);
                test_types(machines[i].platform);
                test_files(machines[i].platform);
                kernel_end();
        }
        kernel_start(machines[0].topology);
        test_objects();
        test_other_process();
        test_association();
        test_dmabufs();
        kernel_end();
        return test_end();
}
