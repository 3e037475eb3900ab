/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of platforms. */
#include "model/platform.h"

#include "host/abi/iommufd.h"
#include "host/abi/kvm.h"
#include "host/iommufd_tsm.h"

#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/*
 * ccp registers the TSM in the kernel today (drivers/crypto/ccp/sev-dev-tsm.c). The names of the others are those of the
 * patch series on the lists; a TSM that no row knows still connects, as "unknown". What Linux 7.3 has no number for has none here.
 */
const struct platform platforms[] = {
        {
                .name = "tdx",
                .title = "Intel TDX Connect",
                .aliases = NAMES("tdx-connect"),
                .tsm_parents = NAMES("tdx_host", "tdx-host", "tdx_tsm"),
                .machine = "x86_64",
                .vm_type = { "KVM_X86_TDX_VM", TDI_KVM_X86_TDX_VM, NULL },
                .parameter = { "kvm_intel", "tdx" },
                .has_tsm = true,
                .tsm_missing = "Linux up to 7.3 has no driver that registers one for TDX Connect",
                .hotplug = true,
                .tvm_arch = TDI_IOMMU_TVM_ARCH_TDX,
                /* The posted series lock in the same call; the guest's part is to start. */
                .bind_leaves = BIND_LEAVES_LOCKED,
                .private_ram = PRIVATE_RAM_FIRMWARE,
                /* The TDX module refuses to remove a TDI otherwise. */
                .unwind = UNWIND_UNLOCKED | UNWIND_DMA | UNWIND_MMIO,
        },
        {
                .name = "sev-snp",
                .title = "AMD SEV-TIO",
                .aliases = NAMES("sev-tio", "snp"),
                .tsm_drivers = NAMES("ccp"),
                .machine = "x86_64",
                .vm_type = { "KVM_X86_SNP_VM", TDI_KVM_X86_SNP_VM, NULL },
                .parameter = { "kvm_amd", "sev_snp" },
                .has_tsm = true,
                .tsm_missing = "the driver ccp registers one when the PSP has initialised SNP with SEV-TIO",
                .hotplug = true,
                .tvm_arch = TDI_IOMMU_TVM_ARCH_SEV,
                /* TDI_BIND of the SEV-TIO firmware interface has the device lock. */
                .bind_leaves = BIND_LEAVES_LOCKED,
                /* memfd_pin_folios() takes no guest_memfd, so no IOAS of Linux 7.3 can have it. */
                .private_ram = PRIVATE_RAM_HOST,
        },
        {
                .name = "cca",
                .title = "Arm CCA",
                .aliases = NAMES("arm-cca", "rme-da"),
                .tsm_drivers = NAMES("arm-cca-host", "arm_cca_host"),
                .tsm_parents = NAMES("arm-cca-host", "arm_cca_host", "arm-rmi-dev"),
                .machine = "aarch64",
                .vm_type = { "Realm", -1, "Linux up to 7.3 makes no Realms" },
                .has_tsm = true,
                .tsm_missing = "Linux up to 7.3 has no driver that registers one for the RMM",
                /* The RMM gets its VDEV, with the final guest RID, before the Realm runs. */
                .early_prepare = true,
                .tvm_arch = TDI_IOMMU_TVM_ARCH_CCA,
                .bind_leaves = BIND_LEAVES_UNLOCKED,
                .viommu = "arm-smmuv3",
                .viommu_type = TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
                .viommu_data = "none",
                .private_ram = PRIVATE_RAM_FIRMWARE,
        },
        {
                .name = "pkvm",
                .title = "protected KVM (arm64)",
                .aliases = NAMES("protected-kvm"),
                .machine = "aarch64",
                /* Making such a VM would prove it, and taints the kernel (pkvm_init_host_vm). */
                .vm_type = { "KVM_VM_TYPE_ARM_PROTECTED", -1, "KVM of arm64 lists no VM types; the flag is bit 31 of the type" },
                .kvm_mode = "protected",
                .hotplug = true,
                .private_ram = PRIVATE_RAM_NOBODY,
                .shared_ram = "as a memfd only: the host may not touch other memory of a protected guest",
        },
        {
                .name = "plain",
                .title = "no TSM",
                .vm_type = { "any", -1, "every VM will do" },
                .tsm_missing = "functions are assigned to ordinary VMs without one",
                .hotplug = true,
                .private_ram = PRIVATE_RAM_NONE,
        },
        {},
};

const struct platform *platform_find(const char *name) {
        for (const struct platform *p = platforms; p->name; p++)
                if (streq(p->name, name))
                        return p;
        return NULL;
}

static bool listed(const char *const *names, const char *name) {
        for (; names && *names; names++)
                if (streq(*names, name))
                        return true;
        return false;
}

const struct platform *platform_find_alias(const char *name) {
        for (const struct platform *p = platforms; p->name; p++)
                if (streq(p->name, name) || listed(p->aliases, name))
                        return p;
        return NULL;
}

const struct platform *platform_of_tsm(const char *parent, const char *driver) {
        for (const struct platform *p = platforms; p->name; p++)
                if (listed(p->tsm_drivers, driver) || listed(p->tsm_parents, parent))
                        return p;
        return NULL;
}

const char *private_ram_to_string(enum private_ram who) {
        static const char *const texts[_PRIVATE_RAM_MAX] = {
                [PRIVATE_RAM_FIRMWARE] = "the firmware, in tables of its own",
                [PRIVATE_RAM_HOST] = "the host's IOMMU",
                [PRIVATE_RAM_NOBODY] = "nobody: devices reach shared memory only",
                [PRIVATE_RAM_NONE] = "there is none: all guest memory is the host's to map",
        };

        return who < _PRIVATE_RAM_MAX ? texts[who] : NULL;
}

const char *unwind_to_string(enum platform_unwind one) {
        switch (one) {
        case UNWIND_UNLOCKED:
                return "the TDI is CONFIG_UNLOCKED, or its IDE stream is blocked";
        case UNWIND_DMA:
                return "its DMA is unmapped";
        case UNWIND_MMIO:
                return "its MMIO is unmapped";
        default:
                return NULL;
        }
}
