/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's KVM ABI as far as a VM is recognised, tied to a VFIO device, or made for a test.
 *
 * tdid configures no VM: the kernel answers EIO to a VM's or a KVM device's calls from any process whose memory is not the
 * creator's. Only libtdi inside a VMM, and the tests, make the calls below.
 */
#pragma once

#include "types.h"

#define TDI_KVMIO 0xAE

/* ---- /dev/kvm ---- */

#define TDI_KVM_API_VERSION 12
#define TDI_KVM_GET_API_VERSION _IO(TDI_KVMIO, 0x00)
#define TDI_KVM_CREATE_VM _IO(TDI_KVMIO, 0x01) /* the argument is one of the VM types below */
#define TDI_KVM_CHECK_EXTENSION _IO(TDI_KVMIO, 0x03)
#define TDI_KVM_GET_VCPU_MMAP_SIZE _IO(TDI_KVMIO, 0x04)

#define TDI_KVM_CAP_DEVICE_CTRL 89
#define TDI_KVM_CAP_MEMORY_ATTRIBUTES 233
#define TDI_KVM_CAP_GUEST_MEMFD 234
#define TDI_KVM_CAP_VM_TYPES 235 /* answers a bit per type */
#define TDI_KVM_CAP_GUEST_MEMFD_FLAGS 244

/* x86 VM types */
#define TDI_KVM_X86_DEFAULT_VM 0
#define TDI_KVM_X86_SW_PROTECTED_VM 1
#define TDI_KVM_X86_SEV_VM 2
#define TDI_KVM_X86_SEV_ES_VM 3
#define TDI_KVM_X86_SNP_VM 4
#define TDI_KVM_X86_TDX_VM 5

/* Arm: the low byte is the address width, this bit asks for a VM protected by pKVM. Realms have no type in 7.3. */
#define TDI_KVM_VM_TYPE_ARM_IPA_SIZE_MASK 0xffULL
#define TDI_KVM_VM_TYPE_ARM_PROTECTED (1UL << 31)

/* ---- a VM ---- */

#define TDI_KVM_CREATE_VCPU _IO(TDI_KVMIO, 0x41)

/* A memory_size of 0 takes the slot away. */
struct tdi_kvm_userspace_memory_region {
        uint32_t slot;
        uint32_t flags;
        uint64_t guest_phys_addr;
        uint64_t memory_size;
        uint64_t userspace_addr;
};
#define TDI_KVM_SET_USER_MEMORY_REGION _IOW(TDI_KVMIO, 0x46, struct tdi_kvm_userspace_memory_region)

#define TDI_KVM_MEM_GUEST_MEMFD (1UL << 2)
struct tdi_kvm_userspace_memory_region2 {
        uint32_t slot;
        uint32_t flags;
        uint64_t guest_phys_addr;
        uint64_t memory_size;
        uint64_t userspace_addr;
        uint64_t guest_memfd_offset;
        uint32_t guest_memfd;
        uint32_t pad1;
        uint64_t pad2[14];
};
#define TDI_KVM_SET_USER_MEMORY_REGION2 _IOW(TDI_KVMIO, 0x49, struct tdi_kvm_userspace_memory_region2)

struct tdi_kvm_memory_attributes {
        uint64_t address;
        uint64_t size;
        uint64_t attributes;
        uint64_t flags;
};
#define TDI_KVM_MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)
#define TDI_KVM_SET_MEMORY_ATTRIBUTES _IOW(TDI_KVMIO, 0xd2, struct tdi_kvm_memory_attributes)

struct tdi_kvm_create_guest_memfd {
        uint64_t size;
        uint64_t flags;
        uint64_t reserved[6];
};
#define TDI_GUEST_MEMFD_FLAG_MMAP (1ULL << 0)
#define TDI_GUEST_MEMFD_FLAG_INIT_SHARED (1ULL << 1)
#define TDI_KVM_CREATE_GUEST_MEMFD _IOWR(TDI_KVMIO, 0xd4, struct tdi_kvm_create_guest_memfd)

/* ---- KVM devices ---- */

#define TDI_KVM_DEV_TYPE_VFIO 4
#define TDI_KVM_CREATE_DEVICE_TEST 1 /* flag: only ask whether the type exists */

struct tdi_kvm_create_device {
        uint32_t type;
        uint32_t fd;
        uint32_t flags;
};
#define TDI_KVM_CREATE_DEVICE _IOWR(TDI_KVMIO, 0xe0, struct tdi_kvm_create_device)

struct tdi_kvm_device_attr {
        uint32_t flags;
        uint32_t group;
        uint64_t attr;
        uint64_t addr;
};
#define TDI_KVM_SET_DEVICE_ATTR _IOW(TDI_KVMIO, 0xe1, struct tdi_kvm_device_attr)
#define TDI_KVM_HAS_DEVICE_ATTR _IOW(TDI_KVMIO, 0xe3, struct tdi_kvm_device_attr)

/* `addr` points at an int32_t: the descriptor of a VFIO device or group. ADD must come before the device is bound. */
#define TDI_KVM_DEV_VFIO_FILE 1
#define TDI_KVM_DEV_VFIO_FILE_ADD 1
#define TDI_KVM_DEV_VFIO_FILE_DEL 2
