/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * iommufd's calls for TSMs, in the two forms that were posted for Linux and are in no released kernel (not in host/abi/, which is compared with
 * one). Their numbers and sizes are those of the posts; nothing is promised about them.
 *
 *      v5   May 2026: a virtual device is bound and unbound by a call of its own, and requests have a scope
 *      v7   October 2026: the allocation of a virtual device binds, its destruction unbinds; requests have an operation and an architecture
 *
 * In both the KVM VM is the VFIO device's (KVM_DEV_VFIO_FILE_ADD before it is bound to the iommufd).
 *
 * 0x95 is IOMMU_IOAS_NOIOMMU_GET_PA in Linux 7.3: it is called only where the requests have been found to be those of v5. Requests are told apart by
 * their size, see iommufd_tsm_probe().
 */
#ifndef TDI_HOST_IOMMUFD_TSM_H
#define TDI_HOST_IOMMUFD_TSM_H

#include "host/abi/iommufd.h"
#include "host/host.h"

#define TDI_IOMMU_VDEVICE_TSM_BIND 1
#define TDI_IOMMU_VDEVICE_TSM_UNBIND 2
/* v5. ENOENT: no such virtual device; ENODEV: no KVM VM; else what pci_tsm_bind() says. */
struct tdi_iommu_vdevice_tsm_op {
        uint32_t size;
        uint32_t type;
        uint32_t flags;
        uint32_t vdevice_id;
};
#define TDI_IOMMU_VDEVICE_TSM_OP _IO(TDI_IOMMUFD_TYPE, 0x95)

/*
 * Both: the result is how many bytes are left over, of the answer's room, or where there is none, of the request. EINVAL: scope, operation,
 * architecture. ENOENT: no such virtual device. ENXIO: it is not bound.
 */
#define TDI_IOMMU_VDEVICE_TSM_REQ _IO(TDI_IOMMUFD_TYPE, 0x96)

struct tdi_iommu_vdevice_tsm_req_v5 {
        uint32_t size;
        uint32_t vdevice_id;
        uint32_t scope; /* enum pci_tsm_req_scope */
        uint32_t req_len;
        uint32_t resp_len;
        uint32_t __reserved;
        tdi_aligned_u64 req_uptr;
        tdi_aligned_u64 resp_uptr;
};

#define TDI_IOMMU_TVM_ARCH_CCA 1
#define TDI_IOMMU_TVM_ARCH_SEV 2
#define TDI_IOMMU_TVM_ARCH_TDX 3

#define TDI_IOMMU_TSM_REQ_VALIDATE_MMIO 1
#define TDI_IOMMU_TSM_REQ_SET_TDI_STATE 2
#define TDI_IOMMU_TSM_REQ_READ_OBJECT 5
#define TDI_IOMMU_TSM_REQ_REGENERATE 6
#define TDI_IOMMU_TSM_REQ_OBJECT_INFO 7

struct tdi_iommu_vdevice_tsm_req_v7 {
        uint32_t size;
        uint32_t vdevice_id;
        uint32_t op;
        uint32_t tvm_arch;
        uint32_t req_len;
        uint32_t resp_len;
        tdi_aligned_u64 req_uptr;
        tdi_aligned_u64 resp_uptr;
        tdi_aligned_u64 tsm_code; /* out, on failure too */
};

/*
 * Which form the kernel has, 5 or 7, asked in a way that changes nothing: a request for the virtual device 0, which there never is. Quick.
 * -ENOTTY: none. -EPROTONOSUPPORT: one that nobody here knows, which must not be used.
 */
int iommufd_tsm_probe(TdiHost *host, int iommufd);

#endif
