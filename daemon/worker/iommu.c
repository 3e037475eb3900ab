/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The prepare step without a vIOMMU: the function is attached to its group's I/O address space; and what closing a VM
 * does to its iommufd as a whole. Guest memory is free when vm.unmap has returned, however long a device takes to close.
 */
#include "worker/work.h"

#include "host/abi/iommufd.h"
#include "host/abi/vfio.h"

#define PCI_COMMAND 0x04
#define PCI_COMMAND_MASTER 0x4

int prepare_attach_do(struct work *w) {
        struct tdi_vfio_device_attach_iommufd_pt attach = {
                .argsz = offsetof(struct tdi_vfio_device_attach_iommufd_pt, pasid),
                .pt_id = (uint32_t) json_u64_or(w->args, "ioas", 0),
        };
        int r;

        if (w->fds.n < 1)
                return work_fail(w, -EINVAL, NULL, "attach %s", w->bdf);
        r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
        if (r < 0)
                return work_fail(w, r,
                                 r == -EADDRINUSE ? "a reserved window of the function meets memory that is mapped already" : NULL,
                                 "VFIO_DEVICE_ATTACH_IOMMUFD_PT of %s", w->bdf);
        json_set_u64(w->values, "hwpt", attach.pt_id);
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
        struct tdi_vfio_device_detach_iommufd_pt detach = {
                .argsz = offsetof(struct tdi_vfio_device_detach_iommufd_pt, pasid),
        };
        int r;

        /* Without a descriptor nobody has the device any more: the last close detached it (vfio_df_iommufd_unbind). */
        if (w->fds.n < 1)
                return 0;
        r = json_bool_or(w->args, "stuck", false) ? 0 : bus_master_off(w, w->fds.fd[0]);
        if (r == -EINVAL)
                return 0; /* never bound */
        if (r < 0 && r != -ENODEV && r != -EIO)
                return work_fail(w, r, NULL, "switch bus mastering of %s off", w->bdf);
        r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
        if (r < 0 && r != -EINVAL && r != -ENODEV)
                return work_fail(w, r, NULL, "VFIO_DEVICE_DETACH_IOMMUFD_PT of %s", w->bdf);
        return 0;
}

/* Unmaps and destroys the address spaces in "ioas"; every one is tried. */
int vm_unmap_do(struct work *w) {
        struct json_object *ids;
        int r = 0;

        if (w->fds.n != 1 || json_get_array(w->args, "ioas", &ids) < 0)
                return work_fail(w, -EINVAL, NULL, "unmap the VM's memory");
        for (size_t i = 0; i < json_object_array_length(ids); i++) {
                uint32_t id = (uint32_t) json_object_get_uint64(json_object_array_get_idx(ids, i));
                struct tdi_iommu_ioas_unmap unmap = {
                        .size = sizeof(unmap),
                        .ioas_id = id,
                        .length = UINT64_MAX,
                };
                struct tdi_iommu_destroy destroy = { .size = sizeof(destroy), .id = id };
                int k;

                k = host_ioctl(w->host, w->fds.fd[0], TDI_IOMMU_IOAS_UNMAP, &unmap);
                /* ENOENT: nothing was mapped, or the IOAS has gone already. */
                if (k < 0 && k != -ENOENT && r == 0)
                        r = work_fail(w, k, NULL, "IOMMU_IOAS_UNMAP of everything in IOAS %u", id);
                /* EBUSY while a stuck function is still attached: it goes with the iommufd then. */
                k = host_ioctl(w->host, w->fds.fd[0], TDI_IOMMU_DESTROY, &destroy);
                if (k < 0 && k != -ENOENT && k != -EBUSY && r == 0)
                        r = work_fail(w, k, NULL, "IOMMU_DESTROY of IOAS %u", id);
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
