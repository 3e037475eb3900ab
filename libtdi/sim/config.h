/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Config space by name: registers and bits that the model uses, with the names of include/uapi/linux/pci_regs.h where it has them, and
 * little-endian access.
 */
#ifndef TDI_SIM_CONFIG_H
#define TDI_SIM_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#define CFG_VENDOR 0x00
#define CFG_DEVICE 0x02
#define CFG_COMMAND 0x04
#define COMMAND_IO 0x1
#define COMMAND_MEMORY 0x2
#define COMMAND_MASTER 0x4
#define COMMAND_INTX_DISABLE 0x400
#define CFG_STATUS 0x06
#define STATUS_CAP_LIST 0x10
#define CFG_REVISION 0x08
#define CFG_CLASS 0x09 /* three bytes */
#define CFG_HEADER 0x0e
#define CFG_BAR 0x10
#define CFG_PRIMARY 0x18
#define CFG_SECONDARY 0x19
#define CFG_SUBORDINATE 0x1a
#define CFG_IO_BASE 0x1c
#define CFG_IO_LIMIT 0x1d
#define CFG_MEMORY_BASE 0x20
#define CFG_PREF_BASE 0x24
#define CFG_PREF_BASE_HIGH 0x28
#define CFG_SUBSYSTEM 0x2c
#define CFG_CAPABILITIES 0x34
#define CFG_INT_LINE 0x3c
#define CFG_INT_PIN 0x3d
#define CFG_BRIDGE_CONTROL 0x3e
#define BRIDGE_CONTROL_RESET 0x40

#define CAP_PM 0x01
#define PM_CTRL 4
#define CAP_MSI 0x05
#define MSI_FLAGS 2
#define MSI_ENABLE 0x1
#define CAP_SSVID 0x0d
#define CAP_EXP 0x10
#define EXP_DEVCAP 4
#define DEVCAP_FLR 0x10000000u
#define DEVCAP_TEE 0x40000000u
#define EXP_DEVCTL 8
#define DEVCTL_FLR 0x8000
#define EXP_DEVSTA 10
#define EXP_LNKCAP 12
#define EXP_LNKCTL 16
#define EXP_LNKSTA 18
#define EXP_SLTCAP 20
#define EXP_SLTCTL 24
#define EXP_SLTSTA 26
#define EXP_RTCTL 28
#define EXP_RTSTA 32
#define EXP_DEVCAP2 36
#define EXP_DEVCTL2 40
#define EXP_LNKCTL2 48
#define CAP_MSIX 0x11
#define MSIX_FLAGS 2
#define MSIX_ENABLE 0x8000

#define EXT_AER 0x0001
#define AER_UNCOR 4
#define AER_UNCOR_MASK 8
#define AER_UNCOR_SEVERITY 12
#define AER_COR 16
#define AER_COR_MASK 20
#define AER_CAP 24
#define AER_ROOT_COMMAND 44
#define AER_ROOT_STATUS 48
#define EXT_DSN 0x0003
#define EXT_ACS 0x000d
#define ACS_CTRL 6
#define ACS_ISOLATING 0x1d /* what the IOMMU core asks for: SV, RR, CR, UF (REQ_ACS_FLAGS) */
#define EXT_ARI 0x000e
#define EXT_SRIOV 0x0010
#define SRIOV_CTRL 0x08
#define SRIOV_NUM_VF 0x10
#define SRIOV_VF_DEVICE 0x1a
#define SRIOV_BAR 0x24
#define EXT_DOE 0x002e
#define DOE_CTRL 0x08
#define DOE_STATUS 0x0c
#define DOE_WRITE 0x10
#define DOE_READ 0x14
#define EXT_IDE 0x0030
#define IDE_CAP 4
#define IDE_BLOCKS 12 /* after CTL: link blocks of 8, then selective ones */
#define IDE_SEL_CTL 4
#define IDE_SEL_STS 8
#define IDE_STS_FAILED 0x80000000u
#define IDE_SEL_RID1 12
#define IDE_SEL_RID2 16
#define IDE_SEL_SIZE(addresses) (20u + 12u * (addresses))

static inline uint16_t cfg_get16(const uint8_t *p) {
        return (uint16_t) (p[0] | p[1] << 8);
}

static inline uint32_t cfg_get32(const uint8_t *p) {
        return cfg_get16(p) | (uint32_t) cfg_get16(p + 2) << 16;
}

static inline void cfg_put16(uint8_t *p, unsigned v) {
        p[0] = (uint8_t) v;
        p[1] = (uint8_t) (v >> 8);
}

static inline void cfg_put32(uint8_t *p, uint32_t v) {
        cfg_put16(p, v & 0xffff);
        cfg_put16(p + 2, v >> 16);
}

/* Offset of a capability, 0 when it is not there. The chains of a topology were walked when it was read, so they end. */
unsigned cfg_find(const uint8_t *config, uint8_t id);
unsigned cfg_find_ext(const uint8_t *config, size_t size, uint16_t id);
/* Selective stream block i of the IDE capability at `at`, and how many there are. */
unsigned cfg_ide_block(const uint8_t *config, unsigned at, unsigned i);
unsigned cfg_ide_streams(const uint8_t *config, unsigned at);

#endif
