/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's VFIO ABI for a PCI device opened through its own node (/dev/vfio/devices/vfioN) and bound to an iommufd.
 *
 * Not here: containers and the type1 IOMMU calls, migration data streams, mediated devices, anything that is not PCI.
 * Groups appear only as far as one needs to see that a group is in use.
 */
#pragma once

#include "types.h"

#define TDI_VFIO_TYPE (';')
#define TDI_VFIO_BASE 100

/* ---- capability chains in the answers of the *_INFO calls ---- */

/*
 * The answer is longer than its fixed part when argsz on return exceeds what was offered; call again with that much room.
 * Offsets count from the start of the answer, 0 ends the chain.
 */
struct tdi_vfio_info_cap_header {
        uint16_t id;
        uint16_t version;
        uint32_t next;
};

/* ---- groups: only to see who uses the old interface ---- */

struct tdi_vfio_group_status {
        uint32_t argsz;
        uint32_t flags;
};
#define TDI_VFIO_GROUP_FLAGS_VIABLE (1 << 0)
#define TDI_VFIO_GROUP_FLAGS_CONTAINER_SET (1 << 1)
#define TDI_VFIO_GROUP_GET_STATUS _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 3)

/* ---- containers: one question, which an iommufd answers too (TDI_IOMMU_VFIO_IOAS) ---- */

/* The argument is a number, of what is asked for; 1 or 0. */
#define TDI_VFIO_CHECK_EXTENSION _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 1)
#define TDI_VFIO_TYPE1_IOMMU 1
#define TDI_VFIO_TYPE1v2_IOMMU 3
/* Do all page tables of the address space make DMA snoop the caches whatever the device asks for? 1 where there is none yet. */
#define TDI_VFIO_DMA_CC_IOMMU 4
#define TDI_VFIO_UNMAP_ALL 9

/* ---- device ---- */

struct tdi_vfio_device_info {
        uint32_t argsz;
        uint32_t flags;
        uint32_t num_regions;
        uint32_t num_irqs;
        uint32_t cap_offset;
        uint32_t pad;
};
#define TDI_VFIO_DEVICE_FLAGS_RESET (1 << 0)
#define TDI_VFIO_DEVICE_FLAGS_PCI (1 << 1)
#define TDI_VFIO_DEVICE_FLAGS_CAPS (1 << 7)
#define TDI_VFIO_DEVICE_GET_INFO _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 7)

#define TDI_VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP 5
struct tdi_vfio_device_info_cap_pci_atomic_comp {
        struct tdi_vfio_info_cap_header header;
        uint32_t flags;
        uint32_t reserved;
};
#define TDI_VFIO_PCI_ATOMIC_COMP32 (1 << 0)
#define TDI_VFIO_PCI_ATOMIC_COMP64 (1 << 1)
#define TDI_VFIO_PCI_ATOMIC_COMP128 (1 << 2)

struct tdi_vfio_region_info {
        uint32_t argsz;
        uint32_t flags;
        uint32_t index;
        uint32_t cap_offset;
        tdi_aligned_u64 size;
        tdi_aligned_u64 offset; /* where the region starts in the device's file */
};
#define TDI_VFIO_REGION_INFO_FLAG_READ (1 << 0)
#define TDI_VFIO_REGION_INFO_FLAG_WRITE (1 << 1)
#define TDI_VFIO_REGION_INFO_FLAG_MMAP (1 << 2)
#define TDI_VFIO_REGION_INFO_FLAG_CAPS (1 << 3)
#define TDI_VFIO_DEVICE_GET_REGION_INFO _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 8)

#define TDI_VFIO_REGION_INFO_CAP_SPARSE_MMAP 1
#define TDI_VFIO_REGION_INFO_CAP_TYPE 2
#define TDI_VFIO_REGION_INFO_CAP_MSIX_MAPPABLE 3 /* the header alone */

struct tdi_vfio_region_sparse_mmap_area {
        tdi_aligned_u64 offset; /* from the start of the region */
        tdi_aligned_u64 size;
};

struct tdi_vfio_region_info_cap_sparse_mmap {
        struct tdi_vfio_info_cap_header header;
        uint32_t nr_areas;
        uint32_t reserved;
        struct tdi_vfio_region_sparse_mmap_area areas[];
};

struct tdi_vfio_region_info_cap_type {
        struct tdi_vfio_info_cap_header header;
        uint32_t type;
        uint32_t subtype;
};

struct tdi_vfio_irq_info {
        uint32_t argsz;
        uint32_t flags;
        uint32_t index;
        uint32_t count;
};
#define TDI_VFIO_IRQ_INFO_EVENTFD (1 << 0)
#define TDI_VFIO_IRQ_INFO_MASKABLE (1 << 1)
#define TDI_VFIO_IRQ_INFO_AUTOMASKED (1 << 2)
#define TDI_VFIO_IRQ_INFO_NORESIZE (1 << 3)
#define TDI_VFIO_DEVICE_GET_IRQ_INFO _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 9)

/*
 * One DATA and one ACTION bit each. With EVENTFD the payload is int32_t descriptors, -1 takes one away; DATA_NONE with
 * ACTION_TRIGGER and count 0 switches the whole index off.
 */
struct tdi_vfio_irq_set {
        uint32_t argsz;
        uint32_t flags;
        uint32_t index;
        uint32_t start;
        uint32_t count;
        uint8_t data[];
};
#define TDI_VFIO_IRQ_SET_DATA_NONE (1 << 0)
#define TDI_VFIO_IRQ_SET_DATA_BOOL (1 << 1)
#define TDI_VFIO_IRQ_SET_DATA_EVENTFD (1 << 2)
#define TDI_VFIO_IRQ_SET_ACTION_MASK (1 << 3)
#define TDI_VFIO_IRQ_SET_ACTION_UNMASK (1 << 4)
#define TDI_VFIO_IRQ_SET_ACTION_TRIGGER (1 << 5)
#define TDI_VFIO_IRQ_SET_DATA_TYPE_MASK \
        (TDI_VFIO_IRQ_SET_DATA_NONE | TDI_VFIO_IRQ_SET_DATA_BOOL | TDI_VFIO_IRQ_SET_DATA_EVENTFD)
#define TDI_VFIO_IRQ_SET_ACTION_TYPE_MASK \
        (TDI_VFIO_IRQ_SET_ACTION_MASK | TDI_VFIO_IRQ_SET_ACTION_UNMASK | TDI_VFIO_IRQ_SET_ACTION_TRIGGER)
#define TDI_VFIO_DEVICE_SET_IRQS _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 10)

#define TDI_VFIO_DEVICE_RESET _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 11)

/* ---- PCI: fixed region and interrupt indexes ---- */

#define TDI_VFIO_PCI_BAR0_REGION_INDEX 0
#define TDI_VFIO_PCI_BAR1_REGION_INDEX 1
#define TDI_VFIO_PCI_BAR2_REGION_INDEX 2
#define TDI_VFIO_PCI_BAR3_REGION_INDEX 3
#define TDI_VFIO_PCI_BAR4_REGION_INDEX 4
#define TDI_VFIO_PCI_BAR5_REGION_INDEX 5
#define TDI_VFIO_PCI_ROM_REGION_INDEX 6
#define TDI_VFIO_PCI_CONFIG_REGION_INDEX 7
#define TDI_VFIO_PCI_VGA_REGION_INDEX 8
#define TDI_VFIO_PCI_NUM_REGIONS 9 /* indexes from here on are described by their TYPE capability */

#define TDI_VFIO_PCI_INTX_IRQ_INDEX 0
#define TDI_VFIO_PCI_MSI_IRQ_INDEX 1
#define TDI_VFIO_PCI_MSIX_IRQ_INDEX 2
#define TDI_VFIO_PCI_ERR_IRQ_INDEX 3 /* AER: the device failed */
#define TDI_VFIO_PCI_REQ_IRQ_INDEX 4 /* the host wants the device back */
#define TDI_VFIO_PCI_NUM_IRQS 5

/* ---- PCI: hot reset ---- */

/*
 * With the device's own node `devid` is an iommufd device id, or one of the two values below; with groups `group_id` is used.
 */
struct tdi_vfio_pci_dependent_device {
        union {
                uint32_t group_id;
                uint32_t devid;
        };
        uint16_t segment;
        uint8_t bus;
        uint8_t devfn;
};
#define TDI_VFIO_PCI_DEVID_OWNED 0
#define TDI_VFIO_PCI_DEVID_NOT_OWNED (-1)

struct tdi_vfio_pci_hot_reset_info {
        uint32_t argsz;
        uint32_t flags;
        uint32_t count;
        struct tdi_vfio_pci_dependent_device devices[];
};
#define TDI_VFIO_PCI_HOT_RESET_FLAG_DEV_ID (1 << 0)
#define TDI_VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1 << 1)
#define TDI_VFIO_DEVICE_GET_PCI_HOT_RESET_INFO _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 12)

struct tdi_vfio_pci_hot_reset {
        uint32_t argsz;
        uint32_t flags;
        uint32_t count; /* 0 with the device's own node: the iommufd proves ownership */
        int32_t group_fds[];
};
#define TDI_VFIO_DEVICE_PCI_HOT_RESET _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 13)

/* ---- writing to the device when an eventfd fires ---- */

struct tdi_vfio_device_ioeventfd {
        uint32_t argsz;
        uint32_t flags;
        tdi_aligned_u64 offset; /* in the device's file */
        tdi_aligned_u64 data;
        int32_t fd; /* -1 takes it away */
        uint32_t reserved;
};
#define TDI_VFIO_DEVICE_IOEVENTFD_8 (1 << 0)
#define TDI_VFIO_DEVICE_IOEVENTFD_16 (1 << 1)
#define TDI_VFIO_DEVICE_IOEVENTFD_32 (1 << 2)
#define TDI_VFIO_DEVICE_IOEVENTFD_64 (1 << 3)
#define TDI_VFIO_DEVICE_IOEVENTFD_SIZE_MASK (0xf)
#define TDI_VFIO_DEVICE_IOEVENTFD _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 16)

/* ---- features: one call, selected by the low 16 bits of flags ---- */

struct tdi_vfio_device_feature {
        uint32_t argsz;
        uint32_t flags;
        uint8_t data[];
};
#define TDI_VFIO_DEVICE_FEATURE_MASK (0xffff)
#define TDI_VFIO_DEVICE_FEATURE_GET (1 << 16)
#define TDI_VFIO_DEVICE_FEATURE_SET (1 << 17)
#define TDI_VFIO_DEVICE_FEATURE_PROBE (1 << 18)
#define TDI_VFIO_DEVICE_FEATURE _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 17)

/* 16 bytes, SET only, on a PF whose VFs are enabled and unopened. */
#define TDI_VFIO_DEVICE_FEATURE_PCI_VF_TOKEN (0)

/* Only to know that a device could migrate: we never do. */
#define TDI_VFIO_DEVICE_FEATURE_MIGRATION 1
struct tdi_vfio_device_feature_migration {
        tdi_aligned_u64 flags;
};
#define TDI_VFIO_MIGRATION_STOP_COPY (1 << 0)
#define TDI_VFIO_MIGRATION_P2P (1 << 1)
#define TDI_VFIO_MIGRATION_PRE_COPY (1 << 2)

#define TDI_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE 2

/* Entering low power revokes every dma-buf of the device. */
#define TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY 3
#define TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP 4
struct tdi_vfio_device_low_power_entry_with_wakeup {
        int32_t wakeup_eventfd;
        uint32_t reserved;
};
#define TDI_VFIO_DEVICE_FEATURE_LOW_POWER_EXIT 5

/* Named so that a recorded call can be printed; not used. */
#define TDI_VFIO_DEVICE_FEATURE_DMA_LOGGING_START 6
#define TDI_VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP 7
#define TDI_VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT 8
#define TDI_VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
#define TDI_VFIO_DEVICE_FEATURE_BUS_MASTER 10 /* CDX devices only, not PCI */
#define TDI_VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 12
#define TDI_VFIO_DEVICE_FEATURE_ZPCI_ERROR 13

/* GET returns a new descriptor: a dma-buf over ranges of one BAR. Offset and length are whole pages, flags is 0. */
#define TDI_VFIO_DEVICE_FEATURE_DMA_BUF 11
struct tdi_vfio_region_dma_range {
        uint64_t offset;
        uint64_t length;
};

struct tdi_vfio_device_feature_dma_buf {
        uint32_t region_index;
        uint32_t open_flags; /* O_RDWR, O_CLOEXEC, … */
        uint32_t flags;
        uint32_t nr_ranges;
        struct tdi_vfio_region_dma_range dma_ranges[];
};

/* ---- iommufd ---- */

/*
 * Before this call the device's file answers nothing but EINVAL. It resets the function. There is no call that undoes it:
 * closing the last descriptor of the file does.
 */
struct tdi_vfio_device_bind_iommufd {
        uint32_t argsz;
        uint32_t flags;
        int32_t iommufd;
        uint32_t out_devid;
        tdi_aligned_u64 token_uuid_ptr; /* with FLAG_TOKEN: 16 bytes, the PF's VF token; older kernels refuse the flag */
};
#define TDI_VFIO_DEVICE_BIND_FLAG_TOKEN (1 << 0)
#define TDI_VFIO_DEVICE_BIND_IOMMUFD _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 18)

struct tdi_vfio_device_attach_iommufd_pt {
        uint32_t argsz;
        uint32_t flags;
        uint32_t pt_id; /* in: IOAS or page table; out: the page table attached, for an IOAS one made on the way */
        uint32_t pasid;
};
#define TDI_VFIO_DEVICE_ATTACH_PASID (1 << 0)
#define TDI_VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 19)

struct tdi_vfio_device_detach_iommufd_pt {
        uint32_t argsz;
        uint32_t flags;
        uint32_t pasid;
};
#define TDI_VFIO_DEVICE_DETACH_PASID (1 << 0)
#define TDI_VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(TDI_VFIO_TYPE, TDI_VFIO_BASE + 20)
