/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's iommufd ABI: address spaces, page tables, vIOMMUs and virtual devices.
 *
 * Every call takes one struct that starts with its own size; a kernel that is older than the struct accepts it as long as what
 * it does not know is zero (E2BIG otherwise). ENOTTY means the call is unknown, EOPNOTSUPP that a value in it is.
 *
 * Not here: dirty tracking, what page faults look like, the compatibility layer for VFIO containers but for one question, and the TSM
 * calls that are only proposed for later kernels.
 */
#pragma once

#include "types.h"

#define TDI_IOMMUFD_TYPE (';')

#define TDI_IOMMUFD_CMD_BASE 0x80
#define TDI_IOMMUFD_CMD_DESTROY 0x80
#define TDI_IOMMUFD_CMD_IOAS_ALLOC 0x81
#define TDI_IOMMUFD_CMD_IOAS_ALLOW_IOVAS 0x82
#define TDI_IOMMUFD_CMD_IOAS_COPY 0x83
#define TDI_IOMMUFD_CMD_IOAS_IOVA_RANGES 0x84
#define TDI_IOMMUFD_CMD_IOAS_MAP 0x85
#define TDI_IOMMUFD_CMD_IOAS_UNMAP 0x86
#define TDI_IOMMUFD_CMD_OPTION 0x87
#define TDI_IOMMUFD_CMD_VFIO_IOAS 0x88
#define TDI_IOMMUFD_CMD_HWPT_ALLOC 0x89
#define TDI_IOMMUFD_CMD_GET_HW_INFO 0x8a
#define TDI_IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING 0x8b
#define TDI_IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP 0x8c
#define TDI_IOMMUFD_CMD_HWPT_INVALIDATE 0x8d
#define TDI_IOMMUFD_CMD_FAULT_QUEUE_ALLOC 0x8e
#define TDI_IOMMUFD_CMD_IOAS_MAP_FILE 0x8f
#define TDI_IOMMUFD_CMD_VIOMMU_ALLOC 0x90
#define TDI_IOMMUFD_CMD_VDEVICE_ALLOC 0x91
#define TDI_IOMMUFD_CMD_IOAS_CHANGE_PROCESS 0x92
#define TDI_IOMMUFD_CMD_VEVENTQ_ALLOC 0x93
#define TDI_IOMMUFD_CMD_HW_QUEUE_ALLOC 0x94
/* Taken in 7.3 by a call of no use to us; older patches used the number for TSM binding, so it must never be tried as a probe. */
#define TDI_IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA 0x95

/* ---- any object ---- */

struct tdi_iommu_destroy {
        uint32_t size;
        uint32_t id;
};
#define TDI_IOMMU_DESTROY _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_DESTROY)

/* ---- address spaces ---- */

struct tdi_iommu_ioas_alloc {
        uint32_t size;
        uint32_t flags;
        uint32_t out_ioas_id;
};
#define TDI_IOMMU_IOAS_ALLOC _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_ALLOC)

struct tdi_iommu_iova_range {
        tdi_aligned_u64 start;
        tdi_aligned_u64 last; /* inclusive */
};

/* EMSGSIZE and the needed num_iovas when the array is too short. Read again after every attach and detach. */
struct tdi_iommu_ioas_iova_ranges {
        uint32_t size;
        uint32_t ioas_id;
        uint32_t num_iovas;
        uint32_t __reserved;
        tdi_aligned_u64 allowed_iovas;
        tdi_aligned_u64 out_iova_alignment;
};
#define TDI_IOMMU_IOAS_IOVA_RANGES _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_IOVA_RANGES)

/* Replaces the list. From then on an attach that would take any of it away fails instead. */
struct tdi_iommu_ioas_allow_iovas {
        uint32_t size;
        uint32_t ioas_id;
        uint32_t num_iovas;
        uint32_t __reserved;
        tdi_aligned_u64 allowed_iovas;
};
#define TDI_IOMMU_IOAS_ALLOW_IOVAS _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_ALLOW_IOVAS)

/*
 * Which address space the calls of VFIO containers mean on this iommufd (vfio_compat.c): TDI_VFIO_CHECK_EXTENSION of vfio.h is one. An
 * iommufd has one such, whoever sets it. ENODEV: none is set.
 */
#define TDI_IOMMU_VFIO_IOAS_GET 0
#define TDI_IOMMU_VFIO_IOAS_SET 1
#define TDI_IOMMU_VFIO_IOAS_CLEAR 2
struct tdi_iommu_vfio_ioas {
        uint32_t size;
        uint32_t ioas_id;
        uint16_t op;
        uint16_t __reserved;
};
#define TDI_IOMMU_VFIO_IOAS _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_VFIO_IOAS)

#define TDI_IOMMU_IOAS_MAP_FIXED_IOVA (1 << 0)
#define TDI_IOMMU_IOAS_MAP_WRITEABLE (1 << 1)
#define TDI_IOMMU_IOAS_MAP_READABLE (1 << 2)

struct tdi_iommu_ioas_map {
        uint32_t size;
        uint32_t flags;
        uint32_t ioas_id;
        uint32_t __reserved;
        tdi_aligned_u64 user_va;
        tdi_aligned_u64 length;
        tdi_aligned_u64 iova;
};
#define TDI_IOMMU_IOAS_MAP _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_MAP)

/* Takes memfd, hugetlbfs and VFIO dma-bufs of one range. Checks neither the file's mode nor its seals: the caller must. */
struct tdi_iommu_ioas_map_file {
        uint32_t size;
        uint32_t flags;
        uint32_t ioas_id;
        int32_t fd;
        tdi_aligned_u64 start;
        tdi_aligned_u64 length;
        tdi_aligned_u64 iova;
};
#define TDI_IOMMU_IOAS_MAP_FILE _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_MAP_FILE)

/* The source must be one whole earlier map; pages are pinned once for both. */
struct tdi_iommu_ioas_copy {
        uint32_t size;
        uint32_t flags;
        uint32_t dst_ioas_id;
        uint32_t src_ioas_id;
        tdi_aligned_u64 length;
        tdi_aligned_u64 dst_iova;
        tdi_aligned_u64 src_iova;
};
#define TDI_IOMMU_IOAS_COPY _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_COPY)

/* Whole maps only; 0 to UINT64_MAX unmaps everything. `length` returns the bytes unmapped. */
struct tdi_iommu_ioas_unmap {
        uint32_t size;
        uint32_t ioas_id;
        tdi_aligned_u64 iova;
        tdi_aligned_u64 length;
};
#define TDI_IOMMU_IOAS_UNMAP _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_UNMAP)

/* Moves the pin accounting to the caller. EINVAL unless every map came from a file. */
struct tdi_iommu_ioas_change_process {
        uint32_t size;
        uint32_t __reserved;
};
#define TDI_IOMMU_IOAS_CHANGE_PROCESS _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_IOAS_CHANGE_PROCESS)

#define TDI_IOMMU_OPTION_RLIMIT_MODE 0 /* whole iommufd: 0 per user, 1 per process */
#define TDI_IOMMU_OPTION_HUGE_PAGES 1  /* one IOAS */
#define TDI_IOMMU_OPTION_OP_SET 0
#define TDI_IOMMU_OPTION_OP_GET 1

struct tdi_iommu_option {
        uint32_t size;
        uint32_t option_id;
        uint16_t op;
        uint16_t __reserved;
        uint32_t object_id;
        tdi_aligned_u64 val64;
};
#define TDI_IOMMU_OPTION _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_OPTION)

/* ---- page tables ---- */

#define TDI_IOMMU_HWPT_ALLOC_NEST_PARENT (1 << 0)
#define TDI_IOMMU_HWPT_ALLOC_DIRTY_TRACKING (1 << 1)
#define TDI_IOMMU_HWPT_FAULT_ID_VALID (1 << 2)
#define TDI_IOMMU_HWPT_ALLOC_PASID (1 << 3)

#define TDI_IOMMU_HWPT_DATA_NONE 0
#define TDI_IOMMU_HWPT_DATA_VTD_S1 1
#define TDI_IOMMU_HWPT_DATA_ARM_SMMUV3 2
#define TDI_IOMMU_HWPT_DATA_AMD_GUEST 3

struct tdi_iommu_hwpt_alloc {
        uint32_t size;
        uint32_t flags;
        uint32_t dev_id;
        uint32_t pt_id; /* an IOAS, a nest parent or a vIOMMU */
        uint32_t out_hwpt_id;
        uint32_t __reserved;
        uint32_t data_type;
        uint32_t data_len;
        tdi_aligned_u64 data_uptr;
        uint32_t fault_id;
        uint32_t __reserved2;
};
#define TDI_IOMMU_HWPT_ALLOC _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_HWPT_ALLOC)

/* One page fault queue; its descriptor is read. */
struct tdi_iommu_fault_alloc {
        uint32_t size;
        uint32_t flags;
        uint32_t out_fault_id;
        uint32_t out_fault_fd;
};
#define TDI_IOMMU_FAULT_QUEUE_ALLOC _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_FAULT_QUEUE_ALLOC)

/* Of a nested page table, or of a vIOMMU. `entry_num` returns how many entries were handled. */
struct tdi_iommu_hwpt_invalidate {
        uint32_t size;
        uint32_t hwpt_id;
        tdi_aligned_u64 data_uptr;
        uint32_t data_type;
        uint32_t entry_len;
        uint32_t entry_num;
        uint32_t __reserved;
};
#define TDI_IOMMU_HWPT_INVALIDATE _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_HWPT_INVALIDATE)

/* ---- what the hardware behind a device can do ---- */

#define TDI_IOMMU_HW_INFO_TYPE_NONE 0
#define TDI_IOMMU_HW_INFO_TYPE_DEFAULT 0
#define TDI_IOMMU_HW_INFO_TYPE_INTEL_VTD 1
#define TDI_IOMMU_HW_INFO_TYPE_ARM_SMMUV3 2
#define TDI_IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV 3
#define TDI_IOMMU_HW_INFO_TYPE_AMD 4

#define TDI_IOMMU_HW_CAP_DIRTY_TRACKING (1 << 0)
#define TDI_IOMMU_HW_CAP_PCI_PASID_EXEC (1 << 1)
#define TDI_IOMMU_HW_CAP_PCI_PASID_PRIV (1 << 2)
#define TDI_IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED (1 << 3)

#define TDI_IOMMU_HW_INFO_FLAG_INPUT_TYPE (1 << 0)

struct tdi_iommu_hw_info {
        uint32_t size;
        uint32_t flags;
        uint32_t dev_id;
        uint32_t data_len; /* in: room; out: what the kernel has */
        tdi_aligned_u64 data_uptr;
        union {
                uint32_t in_data_type;
                uint32_t out_data_type;
        };
        uint8_t out_max_pasid_log2;
        uint8_t __reserved[3];
        tdi_aligned_u64 out_capabilities;
};
#define TDI_IOMMU_GET_HW_INFO _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_GET_HW_INFO)

#define TDI_IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 (1 << 0) /* no read-only maps in a nest parent */
struct tdi_iommu_hw_info_vtd {
        uint32_t flags;
        uint32_t __reserved;
        tdi_aligned_u64 cap_reg;
        tdi_aligned_u64 ecap_reg;
};

struct tdi_iommu_hw_info_arm_smmuv3 {
        uint32_t flags;
        uint32_t __reserved;
        uint32_t idr[6];
        uint32_t iidr;
        uint32_t aidr;
};

struct tdi_iommu_hw_info_amd {
        tdi_aligned_u64 efr;
        tdi_aligned_u64 efr2;
};

/* ---- vIOMMU and virtual devices ---- */

#define TDI_IOMMU_VIOMMU_TYPE_DEFAULT 0
#define TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3 1
#define TDI_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV 2

struct tdi_iommu_viommu_alloc {
        uint32_t size;
        uint32_t flags;
        uint32_t type;
        uint32_t dev_id;
        uint32_t hwpt_id; /* a nest parent */
        uint32_t out_viommu_id;
        uint32_t data_len;
        uint32_t __reserved;
        tdi_aligned_u64 data_uptr;
};
#define TDI_IOMMU_VIOMMU_ALLOC _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_VIOMMU_ALLOC)

/* Destroy it before the device's file is closed, or its id stays taken until the iommufd closes. */
struct tdi_iommu_vdevice_alloc {
        uint32_t size;
        uint32_t viommu_id;
        uint32_t dev_id;
        uint32_t out_vdevice_id;
        tdi_aligned_u64 virt_id;
};
#define TDI_IOMMU_VDEVICE_ALLOC _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_VDEVICE_ALLOC)

/* ---- events of a vIOMMU, read from a descriptor: header, then data that depends on the type ---- */

#define TDI_IOMMU_VEVENTQ_FLAG_LOST_EVENTS (1U << 0)
struct tdi_iommufd_vevent_header {
        uint32_t flags;
        uint32_t sequence;
};

#define TDI_IOMMU_VEVENTQ_TYPE_DEFAULT 0
#define TDI_IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 1
#define TDI_IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV 2

struct tdi_iommu_veventq_alloc {
        uint32_t size;
        uint32_t flags;
        uint32_t viommu_id;
        uint32_t type;
        uint32_t veventq_depth;
        uint32_t out_veventq_id;
        uint32_t out_veventq_fd;
        uint32_t __reserved;
};
#define TDI_IOMMU_VEVENTQ_ALLOC _IO(TDI_IOMMUFD_TYPE, TDI_IOMMUFD_CMD_VEVENTQ_ALLOC)
