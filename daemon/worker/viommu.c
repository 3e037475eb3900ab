/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The secure vIOMMU of the prepare step: a nest parent over the VM's address space, the vIOMMU over that, and in it a virtual device for
 * each function under the requester ID that the guest knows it by (drivers/iommu/iommufd/viommu.c). All of it before anything is
 * attached or mapped: a Realm's VDEV has to be there first. What the kernel does not offer is no failure: the function then is attached to the plain
 * address space, and whoever needs more learns why.
 */
#include "worker/ide.h"

#include <stdio.h>

#include "host/abi/iommufd.h"
#include "provider.h"

static uint32_t id_of(struct work *w, const char *key) {
        return (uint32_t) json_u64_or(w->args, key, 0);
}

int work_destroy(struct work *w, int iommufd, uint32_t id) {
        struct tdi_iommu_destroy destroy = { .size = sizeof(destroy), .id = id };
        int r;

        r = id == 0 ? 0 : host_ioctl(w->host, iommufd, TDI_IOMMU_DESTROY, &destroy);
        return r == -ENOENT ? 0 : r;
}

static int without(struct work *w, const char *call, int r) {
        char why[160];

        snprintf(why, sizeof(why), "this kernel has none for its IOMMU: %s gives %s", call, strerrorname_np(-r));
        json_set_str(w->values, "no_viommu", why);
        return 0;
}

/* args: "devid", "ioas", "viommu_type". values: "nest" and "viommu", or "no_viommu": why there is none. */
int prepare_viommu_do(struct work *w) {
        struct tdi_iommu_hwpt_alloc nest = {
                .size = sizeof(nest),
                .flags = TDI_IOMMU_HWPT_ALLOC_NEST_PARENT,
                .dev_id = id_of(w, "devid"),
                .pt_id = id_of(w, "ioas"),
        };
        struct tdi_iommu_viommu_alloc viommu = {
                .size = sizeof(viommu),
                .type = id_of(w, "viommu_type"),
                .dev_id = id_of(w, "devid"),
        };
        int r;

        if (w->fds.n != 2)
                return work_fail(w, -EINVAL, NULL, "make a vIOMMU for %s", w->bdf);
        r = host_ioctl(w->host, w->fds.fd[1], TDI_IOMMU_HWPT_ALLOC, &nest);
        if (r == -EOPNOTSUPP || r == -ENOTTY)
                return without(w, "IOMMU_HWPT_ALLOC of a nest parent", r);
        if (r < 0)
                return work_fail(w, r, NULL, "IOMMU_HWPT_ALLOC of a nest parent for %s", w->bdf);
        viommu.hwpt_id = nest.out_hwpt_id;
        r = host_ioctl(w->host, w->fds.fd[1], TDI_IOMMU_VIOMMU_ALLOC, &viommu);
        if (r < 0) {
                (void) work_destroy(w, w->fds.fd[1], nest.out_hwpt_id);
                if (r == -EOPNOTSUPP || r == -ENOTTY)
                        return without(w, "IOMMU_VIOMMU_ALLOC", r);
                return work_fail(w, r, "the TSM's driver tells more in dmesg", "IOMMU_VIOMMU_ALLOC for %s", w->bdf);
        }
        json_set_u64(w->values, "nest", nest.out_hwpt_id);
        json_set_u64(w->values, "viommu", viommu.out_viommu_id);
        return 0;
}

/*
 * args: "devid", "viommu", "guest_rid"; "dsm", "require_secure", "associated". values: "vdevice"; "vdevice_binds": it is bound by being made. Then what a
 * bind wants to know is asked before.
 */
int prepare_vdevice_do(struct work *w) {
        struct tdi_iommu_vdevice_alloc vdevice = {
                .size = sizeof(vdevice),
                .viommu_id = id_of(w, "viommu"),
                .dev_id = id_of(w, "devid"),
                .virt_id = id_of(w, "guest_rid"),
        };
        int r, form;

        if (w->fds.n != 2)
                return work_fail(w, -EINVAL, NULL, "make a virtual device for %s", w->bdf);
        form = json_bool_or(w->args, "associated", false) ? (int) provider_probe(w->host, w->fds.fd[1]) : -ENOTTY;
        r = form == PROVIDER_IOMMUFD_V7 && json_bool_or(w->args, "require_secure", true) ? ide_must_be_secure(w, json_str_or(w->args, "dsm", "")) : 0;
        if (r < 0)
                return r;
        r = host_ioctl(w->host, w->fds.fd[1], TDI_IOMMU_VDEVICE_ALLOC, &vdevice);
        if (r < 0)
                return work_fail(w, r, r == -EEXIST ? "another function of the VM has this requester ID" : NULL,
                                 "IOMMU_VDEVICE_ALLOC of %s under requester ID 0x%04x", w->bdf, (unsigned) vdevice.virt_id);
        json_set_u64(w->values, "vdevice", vdevice.out_vdevice_id);
        json_set_bool(w->values, "vdevice_binds", form == PROVIDER_IOMMUFD_V7 && bind_tsm_probe(w) > 0);
        /* Its end is the same in every form. */
        w->unsaid.fd = fd_dup(w->fds.fd[1]);
        if (w->unsaid.fd >= 0) {
                w->unsaid.provider = provider_get(PROVIDER_IOMMUFD_V7);
                w->unsaid.vdevice = vdevice.out_vdevice_id;
        }
        return 0;
}

/* Before the function is detached, and before its device is closed: that would leave its number behind until the iommufd goes. */
int prepare_vdevice_undo(struct work *w) {
        int r;

        if (w->fds.n < 2)
                return 0;
        r = work_destroy(w, w->fds.fd[1], id_of(w, "vdevice"));
        if (r < 0)
                return work_fail(w, r, NULL, "IOMMU_DESTROY of the virtual device of %s", w->bdf);
        json_set_u64(w->values, "vdevice", 0);
        json_set_bool(w->values, "vdevice_binds", false);
        return 0;
}
