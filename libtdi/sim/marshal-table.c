/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The marshalling table: a row for every ioctl that host/abi/ declares, and those of the importer of tests. */
#include "sim/marshal-table.h"

#include "host/abi/dmabuf.h"
#include "host/abi/iommufd.h"
#include "host/abi/kvm.h"
#include "host/iommufd_tsm.h"
#include "host/tdid_bind.h"
#include "host/abi/udmabuf.h"
#include "host/abi/vfio.h"
#include "sim/importer-abi.h"
#include "sim/marshal.h"

#include "util/util.h"

#define CALL(n) .request = TDI_##n, .name = #n
#define BIND_CALL(n) .request = TDID_BIND_IOC_##n, .name = "TDID_BIND_IOC_" #n
#define SIZE(type) .size = sizeof(struct tdi_##type)
#define AT(type, member) offsetof(struct tdi_##type, member)
#define IS_SIZE(type) { 0, UINT32_MAX, sizeof(struct tdi_##type) }
#define TSM_REQ_V5 IS_SIZE(iommu_vdevice_tsm_req_v5)
#define TSM_REQ_V7 IS_SIZE(iommu_vdevice_tsm_req_v7)

static const struct sim_row rows[] = {
        /* ---- VFIO ---- */
        { CALL(VFIO_GROUP_GET_STATUS), SIM_ARG_ARGSZ, SIZE(vfio_group_status) },
        { CALL(VFIO_CHECK_EXTENSION), SIM_ARG_VALUE },
        { CALL(VFIO_DEVICE_GET_INFO), SIM_ARG_ARGSZ, SIZE(vfio_device_info), .chain_at = AT(vfio_device_info, cap_offset) },
        { CALL(VFIO_DEVICE_GET_REGION_INFO), SIM_ARG_ARGSZ, SIZE(vfio_region_info), .chain_at = AT(vfio_region_info, cap_offset) },
        { CALL(VFIO_DEVICE_GET_IRQ_INFO), SIM_ARG_ARGSZ, SIZE(vfio_irq_info) },
        { CALL(VFIO_DEVICE_SET_IRQS), SIM_ARG_IRQ_SET, .size = AT(vfio_irq_set, data),
          .passed = { AT(vfio_irq_set, data), sizeof(int32_t), .count_at = AT(vfio_irq_set, count),
                      .when = { AT(vfio_irq_set, flags), TDI_VFIO_IRQ_SET_DATA_EVENTFD, TDI_VFIO_IRQ_SET_DATA_EVENTFD } } },
        { CALL(VFIO_DEVICE_RESET), SIM_ARG_VALUE },
        { CALL(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO), SIM_ARG_ARGSZ, SIZE(vfio_pci_hot_reset_info),
          .count_at = AT(vfio_pci_hot_reset_info, count), .element = sizeof(struct tdi_vfio_pci_dependent_device) },
        /* argsz says nothing here: the kernel reads as many descriptors as count says (vfio_pci_ioctl_pci_hot_reset). */
        { CALL(VFIO_DEVICE_PCI_HOT_RESET), SIM_ARG_COUNTED, SIZE(vfio_pci_hot_reset), .count_at = AT(vfio_pci_hot_reset, count),
          .element = sizeof(int32_t),
          .passed = { AT(vfio_pci_hot_reset, group_fds), sizeof(int32_t), .count_at = AT(vfio_pci_hot_reset, count) } },
        { CALL(VFIO_DEVICE_IOEVENTFD), SIM_ARG_ARGSZ, SIZE(vfio_device_ioeventfd),
          .passed = { AT(vfio_device_ioeventfd, fd), sizeof(int32_t) } },
        { CALL(VFIO_DEVICE_FEATURE), SIM_ARG_FEATURE, SIZE(vfio_device_feature),
          .passed = { AT(vfio_device_feature, data), sizeof(int32_t),
                      .when = { AT(vfio_device_feature, flags), TDI_VFIO_DEVICE_FEATURE_MASK | TDI_VFIO_DEVICE_FEATURE_SET,
                                TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP | TDI_VFIO_DEVICE_FEATURE_SET } },
          .makes = SIM_MAKES_RETURNED },
        { CALL(VFIO_DEVICE_BIND_IOMMUFD), SIM_ARG_ARGSZ, SIZE(vfio_device_bind_iommufd),
          .pointer = { { AT(vfio_device_bind_iommufd, token_uuid_ptr), 16, .in = true,
                         .when = { AT(vfio_device_bind_iommufd, flags), TDI_VFIO_DEVICE_BIND_FLAG_TOKEN,
                                   TDI_VFIO_DEVICE_BIND_FLAG_TOKEN } } },
          .passed = { AT(vfio_device_bind_iommufd, iommufd), sizeof(int32_t) } },
        { CALL(VFIO_DEVICE_ATTACH_IOMMUFD_PT), SIM_ARG_ARGSZ, SIZE(vfio_device_attach_iommufd_pt) },
        { CALL(VFIO_DEVICE_DETACH_IOMMUFD_PT), SIM_ARG_ARGSZ, SIZE(vfio_device_detach_iommufd_pt) },

        /* ---- iommufd ---- */
        { CALL(IOMMU_DESTROY), SIM_ARG_SIZED, SIZE(iommu_destroy) },
        { CALL(IOMMU_IOAS_ALLOC), SIM_ARG_SIZED, SIZE(iommu_ioas_alloc) },
        { CALL(IOMMU_IOAS_ALLOW_IOVAS), SIM_ARG_SIZED, SIZE(iommu_ioas_allow_iovas),
          .pointer = { { AT(iommu_ioas_allow_iovas, allowed_iovas), sizeof(struct tdi_iommu_iova_range),
                         .length_at = AT(iommu_ioas_allow_iovas, num_iovas), .in = true } } },
        { CALL(IOMMU_IOAS_COPY), SIM_ARG_SIZED, SIZE(iommu_ioas_copy) },
        { CALL(IOMMU_IOAS_IOVA_RANGES), SIM_ARG_SIZED, SIZE(iommu_ioas_iova_ranges),
          .pointer = { { AT(iommu_ioas_iova_ranges, allowed_iovas), sizeof(struct tdi_iommu_iova_range),
                         .length_at = AT(iommu_ioas_iova_ranges, num_iovas), .out = true } } },
        /* user_va stays a number: the simulation has no view of the caller's memory. */
        { CALL(IOMMU_IOAS_MAP), SIM_ARG_SIZED, SIZE(iommu_ioas_map) },
        { CALL(IOMMU_IOAS_MAP_FILE), SIM_ARG_SIZED, SIZE(iommu_ioas_map_file),
          .passed = { AT(iommu_ioas_map_file, fd), sizeof(int32_t) } },
        { CALL(IOMMU_IOAS_UNMAP), SIM_ARG_SIZED, SIZE(iommu_ioas_unmap) },
        { CALL(IOMMU_IOAS_CHANGE_PROCESS), SIM_ARG_SIZED, SIZE(iommu_ioas_change_process) },
        { CALL(IOMMU_OPTION), SIM_ARG_SIZED, SIZE(iommu_option) },
        { CALL(IOMMU_VFIO_IOAS), SIM_ARG_SIZED, SIZE(iommu_vfio_ioas) },
        { CALL(IOMMU_HWPT_ALLOC), SIM_ARG_SIZED, SIZE(iommu_hwpt_alloc),
          .pointer = { { AT(iommu_hwpt_alloc, data_uptr), 1, .length_at = AT(iommu_hwpt_alloc, data_len), .in = true } } },
        { CALL(IOMMU_HWPT_INVALIDATE), SIM_ARG_SIZED, SIZE(iommu_hwpt_invalidate),
          .pointer = { { AT(iommu_hwpt_invalidate, data_uptr), 1, .length_at = AT(iommu_hwpt_invalidate, entry_len),
                         .times_at = AT(iommu_hwpt_invalidate, entry_num), .in = true } } },
        { CALL(IOMMU_FAULT_QUEUE_ALLOC), SIM_ARG_SIZED, SIZE(iommu_fault_alloc), .makes = SIM_MAKES_MEMBER,
          .made_at = AT(iommu_fault_alloc, out_fault_fd) },
        /* What is beyond the hardware's own data is zeroed (iommufd_get_hw_info). */
        { CALL(IOMMU_GET_HW_INFO), SIM_ARG_SIZED, SIZE(iommu_hw_info),
          .pointer = { { AT(iommu_hw_info, data_uptr), 1, .length_at = AT(iommu_hw_info, data_len), .out = true, .fill = true } } },
        { CALL(IOMMU_VIOMMU_ALLOC), SIM_ARG_SIZED, SIZE(iommu_viommu_alloc),
          .pointer = { { AT(iommu_viommu_alloc, data_uptr), 1, .length_at = AT(iommu_viommu_alloc, data_len), .in = true, .out = true } } },
        { CALL(IOMMU_VDEVICE_ALLOC), SIM_ARG_SIZED, SIZE(iommu_vdevice_alloc) },
        { CALL(IOMMU_VDEVICE_TSM_OP), SIM_ARG_SIZED, SIZE(iommu_vdevice_tsm_op) },
        /* Two structs, of which the size tells which it is. */
        { CALL(IOMMU_VDEVICE_TSM_REQ), SIM_ARG_SIZED, SIZE(iommu_vdevice_tsm_req_v7),
          .pointer = { { AT(iommu_vdevice_tsm_req_v5, req_uptr), 1, .length_at = AT(iommu_vdevice_tsm_req_v5, req_len), .in = true, .when = TSM_REQ_V5 },
                       { AT(iommu_vdevice_tsm_req_v5, resp_uptr), 1, .length_at = AT(iommu_vdevice_tsm_req_v5, resp_len), .out = true, .when = TSM_REQ_V5 },
                       { AT(iommu_vdevice_tsm_req_v7, req_uptr), 1, .length_at = AT(iommu_vdevice_tsm_req_v7, req_len), .in = true, .when = TSM_REQ_V7 },
                       { AT(iommu_vdevice_tsm_req_v7, resp_uptr), 1, .length_at = AT(iommu_vdevice_tsm_req_v7, resp_len), .out = true, .when = TSM_REQ_V7 } } },
        { CALL(IOMMU_VEVENTQ_ALLOC), SIM_ARG_SIZED, SIZE(iommu_veventq_alloc), .makes = SIM_MAKES_MEMBER,
          .made_at = AT(iommu_veventq_alloc, out_veventq_fd) },

        /* ---- KVM ---- */
        { CALL(KVM_GET_API_VERSION), SIM_ARG_VALUE },
        { CALL(KVM_CREATE_VM), SIM_ARG_VALUE, .makes = SIM_MAKES_RETURNED },
        { CALL(KVM_CHECK_EXTENSION), SIM_ARG_VALUE },
        { CALL(KVM_GET_VCPU_MMAP_SIZE), SIM_ARG_VALUE },
        { CALL(KVM_CREATE_VCPU), SIM_ARG_VALUE, .makes = SIM_MAKES_RETURNED },
        { CALL(KVM_SET_USER_MEMORY_REGION), SIM_ARG_FIXED, SIZE(kvm_userspace_memory_region) },
        { CALL(KVM_SET_USER_MEMORY_REGION2), SIM_ARG_FIXED, SIZE(kvm_userspace_memory_region2),
          .passed = { AT(kvm_userspace_memory_region2, guest_memfd), sizeof(int32_t),
                      .when = { AT(kvm_userspace_memory_region2, flags), TDI_KVM_MEM_GUEST_MEMFD, TDI_KVM_MEM_GUEST_MEMFD } } },
        { CALL(KVM_SET_MEMORY_ATTRIBUTES), SIM_ARG_FIXED, SIZE(kvm_memory_attributes) },
        { CALL(KVM_CREATE_GUEST_MEMFD), SIM_ARG_FIXED, SIZE(kvm_create_guest_memfd), .makes = SIM_MAKES_RETURNED },
        { CALL(KVM_CREATE_DEVICE), SIM_ARG_FIXED, SIZE(kvm_create_device), .makes = SIM_MAKES_MEMBER,
          .made_at = AT(kvm_create_device, fd) },
        { CALL(KVM_SET_DEVICE_ATTR), SIM_ARG_FIXED, SIZE(kvm_device_attr),
          .pointer = { { AT(kvm_device_attr, addr), sizeof(int32_t), .in = true,
                         .when = { AT(kvm_device_attr, group), UINT32_MAX, TDI_KVM_DEV_VFIO_FILE } } },
          .passed = { 0, sizeof(int32_t), .behind = true } },
        { CALL(KVM_HAS_DEVICE_ATTR), SIM_ARG_FIXED, SIZE(kvm_device_attr) },

        /* ---- dma-bufs ---- */
        { CALL(UDMABUF_CREATE), SIM_ARG_FIXED, SIZE(udmabuf_create), .passed = { AT(udmabuf_create, memfd), sizeof(int32_t) },
          .makes = SIM_MAKES_RETURNED },
        { CALL(UDMABUF_CREATE_LIST), SIM_ARG_COUNTED, SIZE(udmabuf_create_list), .count_at = AT(udmabuf_create_list, count),
          .element = sizeof(struct tdi_udmabuf_create_item),
          .passed = { AT(udmabuf_create_list, list), sizeof(struct tdi_udmabuf_create_item), .count_at = AT(udmabuf_create_list, count) },
          .makes = SIM_MAKES_RETURNED },
        { CALL(DMA_HEAP_IOCTL_ALLOC), SIM_ARG_FIXED, SIZE(dma_heap_allocation_data), .makes = SIM_MAKES_MEMBER,
          .made_at = AT(dma_heap_allocation_data, fd) },
        /* ---- the importer of tests ---- */
        { CALL(TEST_IMPORT_ATTACH), SIM_ARG_FIXED, SIZE(test_import_attach), .passed = { AT(test_import_attach, fd), sizeof(int32_t) } },
        { CALL(TEST_IMPORT_STATE), SIM_ARG_FIXED, SIZE(test_import_state) },
        { CALL(TEST_IMPORT_MAP), SIM_ARG_VALUE },
        { CALL(TEST_IMPORT_UNMAP), SIM_ARG_VALUE },
        { CALL(TEST_IMPORT_DETACH), SIM_ARG_VALUE },
        { CALL(TEST_IMPORT_ACCESS), SIM_ARG_FIXED, SIZE(test_import_access) },
        { CALL(TEST_SOURCE_CREATE), SIM_ARG_FIXED, SIZE(test_source), .makes = SIM_MAKES_RETURNED },
        { CALL(TEST_SOURCE_MOVE), SIM_ARG_FIXED, SIZE(test_source_move), .passed = { AT(test_source_move, fd), sizeof(int32_t) } },

        /* ---- any dma-buf ---- */
        { CALL(DMA_BUF_IOCTL_SYNC), SIM_ARG_FIXED, SIZE(dma_buf_sync) },
        { CALL(DMA_BUF_SET_NAME_B), SIM_ARG_STRING, .size = TDI_DMA_BUF_NAME_LEN },

        /* ---- the bind provider: its numbers say how long the structs are ---- */
        { BIND_CALL(INFO), SIM_ARG_FIXED, .size = sizeof(struct tdid_bind_info) },
        { BIND_CALL(BIND), SIM_ARG_FIXED, .size = sizeof(struct tdid_bind_bind),
          .passed = { offsetof(struct tdid_bind_bind, device_fd), sizeof(int32_t), .count = 2 } },
        { BIND_CALL(UNBIND), SIM_ARG_VALUE },
        { BIND_CALL(REQUEST), SIM_ARG_FIXED, .size = sizeof(struct tdid_bind_request),
          .pointer = { { offsetof(struct tdid_bind_request, in), 1, .length_at = offsetof(struct tdid_bind_request, in_len), .in = true,
                         .most = TDID_BIND_REQUEST_MAX },
                       { offsetof(struct tdid_bind_request, out), 1, .length_at = offsetof(struct tdid_bind_request, out_len), .out = true,
                         .used_at = offsetof(struct tdid_bind_request, out_used), .most = TDID_BIND_REQUEST_MAX } } },
};

const struct sim_row *sim_row_find(unsigned long request) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (rows[i].request == request)
                        return &rows[i];
        return NULL;
}

const struct sim_row *sim_row(size_t n) {
        return n < ARRAY_SIZE(rows) ? &rows[n] : NULL;
}

const char *sim_ioctl_name(unsigned long request) {
        const struct sim_row *row = sim_row_find(request);

        return row ? row->name : "?";
}
