/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which form of iommufd's calls for TSMs a kernel has. */
#include "host/iommufd_tsm.h"

/*
 * copy_struct_from_user() refuses what is shorter than the last member that a form knows, and takes what is longer by zeros: v5's struct is EINVAL to
 * v7. v7's is told from those between by an operation that came with it. The members that both have there are in place for each.
 */
int iommufd_tsm_probe(TdiHost *host, int iommufd) {
        struct tdi_iommu_vdevice_tsm_req_v5 v5 = { .size = sizeof(v5) };
        struct tdi_iommu_vdevice_tsm_req_v7 v7 = {
                .size = sizeof(v7), .op = TDI_IOMMU_TSM_REQ_OBJECT_INFO, .tvm_arch = TDI_IOMMU_TVM_ARCH_CCA
        };
        int r;

        r = host_ioctl(host, iommufd, TDI_IOMMU_VDEVICE_TSM_REQ, &v5);
        if (r == -ENOTTY)
                return r;
        if (r == -ENOENT)
                return 5;
        if (r == -EINVAL && host_ioctl(host, iommufd, TDI_IOMMU_VDEVICE_TSM_REQ, &v7) == -ENOENT)
                return 7;
        return -EPROTONOSUPPORT;
}
