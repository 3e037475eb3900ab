/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The last of the prepare step: the function is attached to its I/O address space, or to the nest parent over it; and what closing a VM
 * does to its iommufd as a whole. Guest memory is free when vm.unmap has returned, however long a device takes to close.
 */
#include "worker/ide.h"

#include "host/abi/iommufd.h"
#include "host/abi/vfio.h"

#define PCI_COMMAND 0x04
#define PCI_COMMAND_MASTER 0x4

static int vfio_ioas(struct work *w, uint16_t op, uint32_t *ioas) {
        struct tdi_iommu_vfio_ioas cmd = { .size = sizeof(cmd), .ioas_id = *ioas, .op = op };
        int r;

        r = host_ioctl(w->host, w->fds.fd[1], TDI_IOMMU_VFIO_IOAS, &cmd);
        *ioas = cmd.ioas_id;
        return r;
}

/*
 * Does the IOMMU make the function's DMA snoop the caches whatever the function asks for (IOMMU_CAP_ENFORCE_CACHE_COHERENCY)? iommufd says it of an address
 * space, by the calls of VFIO containers: 1 when all of its page tables do. Which space they mean is a setting of the whole iommufd, so
 * it is read again afterwards; tdid lets one function of a VM be attached at a time.
 */
static int is_coherent(struct work *w) {
        uint32_t ioas = (uint32_t) json_u64_or(w->args, "ioas", 0), asked = ioas, none = 0;
        int r, coherent;

        r = vfio_ioas(w, TDI_IOMMU_VFIO_IOAS_SET, &asked);
        if (r < 0)
                return r;
        coherent = host_ioctl(w->host, w->fds.fd[1], TDI_VFIO_CHECK_EXTENSION, (void *) (uintptr_t) TDI_VFIO_DMA_CC_IOMMU);
        r = vfio_ioas(w, TDI_IOMMU_VFIO_IOAS_GET, &asked);
        (void) vfio_ioas(w, TDI_IOMMU_VFIO_IOAS_CLEAR, &none);
        if (r < 0)
                return r;
        return asked == ioas ? coherent : -EBUSY;
}

/* args: "nest" or "ioas". values: "hwpt". */
int work_attach(struct work *w, int device) {
        struct tdi_vfio_device_attach_iommufd_pt attach = {
                .argsz = offsetof(struct tdi_vfio_device_attach_iommufd_pt, pasid),
                .pt_id = (uint32_t) json_u64_or(w->args, "nest", 0),
        };
        int r;

        if (attach.pt_id == 0)
                attach.pt_id = (uint32_t) json_u64_or(w->args, "ioas", 0);
        r = host_ioctl(w->host, device, TDI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
        if (r < 0)
                return work_fail(w, r,
                                 r == -EADDRINUSE ? "a reserved window of the function meets memory that is mapped already" :
                                 r == -EINVAL && json_u64_or(w->args, "nest", 0) != 0 ?
                                 "it is less coherent than a function that shares the nest parent: attach it first" : NULL,
                                 "VFIO_DEVICE_ATTACH_IOMMUFD_PT of %s", w->bdf);
        json_set_u64(w->values, "hwpt", attach.pt_id);
        return 0;
}

int work_detach(struct work *w, int device) {
        struct tdi_vfio_device_detach_iommufd_pt detach = {
                .argsz = offsetof(struct tdi_vfio_device_detach_iommufd_pt, pasid),
        };
        int r;

        r = host_ioctl(w->host, device, TDI_VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
        if (r < 0 && r != -EINVAL && r != -ENODEV)
                return work_fail(w, r, NULL, "VFIO_DEVICE_DETACH_IOMMUFD_PT of %s", w->bdf);
        return 0;
}

/*
 * Only on x86 does KVM act on it (kvm_arch_register_noncoherent_dma): guests may switch caches off there, which it ignores otherwise. An Arm guest's
 * memory types are its own, and its firmware tells it which devices do not snoop.
 */
static bool kvm_has_to_know(struct work *w) {
        char arch[64];

        return host_read_text(w->host, "/proc/sys/kernel/arch", arch, sizeof(arch)) < 0 || streq(arch, "x86_64");
}

/* args: as of work_attach(), and "associated": KVM has been told of the function. values: "coherent" too. */
int prepare_attach_do(struct work *w) {
        int r;

        if (w->fds.n < 2)
                return work_fail(w, -EINVAL, NULL, "attach %s", w->bdf);
        /* Where the policy requires an encrypted link nothing goes over another one, bound or not. */
        r = json_bool_or(w->args, "require_stream", false) ? ide_must_be_secure(w, json_str_or(w->args, "dsm", "")) : 0;
        if (r >= 0)
                r = work_attach(w, w->fds.fd[0]);
        if (r < 0)
                return r;
        r = is_coherent(w);
        if (r < 0)
                return work_fail(w, r, NULL, "find out whether the IOMMU of %s enforces cache coherency", w->bdf);
        json_set_bool(w->values, "coherent", r);
        if (r == 0 && !json_bool_or(w->args, "associated", false) && kvm_has_to_know(w))
                return work_fail(w, -EOPNOTSUPP,
                                 "its IOMMU cannot make its DMA snoop the caches (no snoop control), and the VM's KVM does not know of it: a VMM that "
                                 "uses libtdi can associate the two", "attach %s", w->bdf);
        return 0;
}

static int bus_master_off(struct work *w, int device) {
        struct tdi_vfio_region_info info = { .argsz = sizeof(info), .index = TDI_VFIO_PCI_CONFIG_REGION_INDEX };
        uint16_t command;
        ssize_t n;
        int r;

        r = host_ioctl(w->host, device, TDI_VFIO_DEVICE_GET_REGION_INFO, &info);
        if (r < 0)
                return r;
        n = host_pread(w->host, device, &command, sizeof(command), info.offset + PCI_COMMAND);
        if (n != sizeof(command))
                return n < 0 ? (int) n : -EIO;
        if (!(command & PCI_COMMAND_MASTER))
                return 0;
        command = (uint16_t) (command & ~PCI_COMMAND_MASTER);
        n = host_pwrite(w->host, device, &command, sizeof(command), info.offset + PCI_COMMAND);
        return n == sizeof(command) ? 0 : n < 0 ? (int) n : -EIO;
}

/*
 * args: "stuck": a request of a VMM is in the kernel still, most likely a reset. Then no call on the device comes back (memory_lock), guest memory
 * must not wait for that, and bus mastering is off during a reset and after it.
 */
int prepare_attach_undo(struct work *w) {
        int r;

        /* Without a descriptor nobody has the device any more: the last close detached it (vfio_df_iommufd_unbind). */
        if (w->fds.n < 1)
                return 0;
        r = json_bool_or(w->args, "stuck", false) ? 0 : bus_master_off(w, w->fds.fd[0]);
        if (r == -EINVAL)
                return 0; /* never bound */
        if (r < 0 && r != -ENODEV && r != -EIO)
                return work_fail(w, r, NULL, "switch bus mastering of %s off", w->bdf);
        return work_detach(w, w->fds.fd[0]);
}

static int end_space(struct work *w, struct json_object *space) {
        uint32_t ioas = (uint32_t) json_u64_or(space, "ioas", 0);
        struct tdi_iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas, .length = UINT64_MAX };
        const uint32_t objects[] = { (uint32_t) json_u64_or(space, "viommu", 0), (uint32_t) json_u64_or(space, "nest", 0), ioas };
        int r;

        r = host_ioctl(w->host, w->fds.fd[0], TDI_IOMMU_IOAS_UNMAP, &unmap);
        /* ENOENT: nothing was mapped, or the IOAS has gone already. */
        if (r < 0 && r != -ENOENT)
                return work_fail(w, r, NULL, "IOMMU_IOAS_UNMAP of everything in IOAS %u", ioas);
        for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
                r = work_destroy(w, w->fds.fd[0], objects[i]);
                /* EBUSY while a stuck function is still attached: it goes with the iommufd then. */
                if (r < 0 && r != -EBUSY)
                        return work_fail(w, r, NULL, "IOMMU_DESTROY of %u, of IOAS %u", objects[i], ioas);
        }
        return 0;
}

/* args: "spaces": [{"ioas", "nest", "viommu"}]. Unmaps and destroys them; every one is tried. */
int vm_unmap_do(struct work *w) {
        struct json_object *spaces;
        int r = 0;

        if (w->fds.n != 1 || json_get_array(w->args, "spaces", &spaces) < 0)
                return work_fail(w, -EINVAL, NULL, "unmap the VM's memory");
        for (size_t i = 0; i < json_object_array_length(spaces); i++) {
                int k = end_space(w, json_object_array_get_idx(spaces, i));

                if (r == 0)
                        r = k;
        }
        return r;
}

static struct ipc_fds kept;

/* Keeps the VM's descriptors, as take_do() keeps a device: the last copies are then this process's to close. */
int vm_take_do(struct work *w) {
        if (kept.n + w->fds.n > IPC_FDS_MAX)
                return work_fail(w, -EINVAL, NULL, "take the VM's descriptors");
        for (size_t i = 0; i < w->fds.n; i++)
                kept.fd[kept.n++] = ipc_fds_take(&w->fds, i);
        return 0;
}

int vm_close_do(struct work *w) {
        int r = 0;

        for (size_t i = 0; i < kept.n; i++) {
                int k = host_close(w->host, ipc_fds_take(&kept, i));

                if (k < 0 && r == 0)
                        r = work_fail(w, k, NULL, "close a descriptor of the VM");
        }
        kept.n = 0;
        return r;
}
