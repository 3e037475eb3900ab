/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the virtual config space is laid out when a device is opened: which capabilities a user sees and how long they are, which bits
 * are kept in memory and which may be written (the tables of drivers/vfio/pci/vfio_pci_config.c).
 */
#include "sim/vfio-config.h"

/* ---- what is kept and what may be written ---- */

static void rule(struct vfio_config *g, unsigned at, unsigned size, uint32_t kept, uint32_t writable) {
        for (unsigned i = 0; i < size && at + i < g->size; i++) {
                g->kept[at + i] = (uint8_t) (kept >> (8 * i));
                g->writable[at + i] = (uint8_t) (writable >> (8 * i));
        }
}

/* init_pci_cap_basic_perm() */
static void header_rules(struct vfio_config *g) {
        rule(g, PCI_VENDOR_ID, 4, ~0u, 0);
        rule(g, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE, 0xffff);
        rule(g, PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0);
        rule(g, PCI_CACHE_LINE_SIZE, 2, 0, 0xffff);
        rule(g, PCI_BIST, 1, 0, 0xff);
        for (unsigned i = PCI_BASE_ADDRESS_0; i <= PCI_BASE_ADDRESS_5; i += 4)
                rule(g, i, 4, ~0u, ~0u);
        rule(g, PCI_ROM_ADDRESS, 4, ~0u, ~0u);
        rule(g, PCI_CAPABILITY_LIST, 1, 0xff, 0);
        rule(g, PCI_INTERRUPT_LINE, 1, 0xff, 0xff);
        rule(g, PCI_INTERRUPT_PIN, 1, 0xff, 0);
}

static void msi_rules(struct vfio_config *g, unsigned at, uint16_t flags) {
        bool wide = flags & PCI_MSI_FLAGS_64BIT;

        rule(g, at + PCI_MSI_FLAGS, 1, 0xff, 0xff);
        rule(g, at + PCI_MSI_ADDRESS_LO, 4, ~0u, ~0u);
        if (wide)
                rule(g, at + PCI_MSI_ADDRESS_HI, 4, ~0u, ~0u);
        rule(g, at + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2, 0xffff, 0xffff);
        if (flags & PCI_MSI_FLAGS_MASKBIT) {
                rule(g, at + (wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32), 4, 0, ~0u);
                rule(g, at + (wide ? PCI_MSI_PENDING_64 : PCI_MSI_PENDING_32), 4, 0, ~0u);
        }
}

/* The init_pci_cap_*_perm() of the capabilities that have one; the others can be read only. */
static void cap_rules(struct sim_vfio *v, struct cap *cap) {
        struct vfio_config *g = v->config;
        unsigned at = cap->start;

        /* The next pointer leads past what is hidden. */
        rule(g, at + PCI_CAP_LIST_NEXT, 1, 0xff, 0);
        switch (cap->id) {
        case PCI_CAP_ID_PM:
                rule(g, at + PCI_PM_PMC, 2, PCI_PM_CAP_PME_MASK, 0);
                rule(g, at + PCI_PM_CTRL, 4, PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS,
                     ~(uint32_t) (PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS | PCI_PM_CTRL_STATE_MASK));
                config_set16(g, at + PCI_PM_PMC, (uint16_t) (config_value16(g, at + PCI_PM_PMC) & ~PCI_PM_CAP_PME_MASK));
                config_set16(g, at + PCI_PM_CTRL,
                             (uint16_t) (config_value16(g, at + PCI_PM_CTRL) & ~(PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS)));
                break;
        case PCI_CAP_ID_VPD:
                rule(g, at + PCI_VPD_ADDR, 2, 0xffff, 0xffff);
                rule(g, at + PCI_VPD_DATA, 4, ~0u, ~0u);
                break;
        case PCI_CAP_ID_PCIX:
                rule(g, at + PCI_X_CMD, 2, 0, 0xffff);
                if (cap->size > PCI_X_ECC_CSR)
                        rule(g, at + PCI_X_ECC_CSR, 4, 0, ~0u);
                break;
        case PCI_CAP_ID_EXP:
                rule(g, at + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR | PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_READRQ,
                     (uint16_t) ~PCI_EXP_DEVCTL_PHANTOM);
                if (cap->size > PCI_EXP_DEVCTL2)
                        rule(g, at + PCI_EXP_DEVCTL2, 2, 0, (uint16_t) ~PCI_EXP_DEVCTL2_ARI);
                break;
        case PCI_CAP_ID_AF:
                rule(g, at + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR, PCI_AF_CTRL_FLR);
                break;
        case PCI_CAP_ID_MSI:
                g->msi = at;
                msi_rules(g, at, config_value16(g, at + PCI_MSI_FLAGS));
                break;
        case PCI_CAP_ID_VNDR:
                cap->raw = true;
                break;
        default:
                break;
        }
}

static void ext_cap_rules(struct sim_vfio *v, struct cap *cap) {
        struct vfio_config *g = v->config;
        unsigned at = cap->start;

        rule(g, at, 4, ~0u, 0);
        switch (cap->id) {
        case PCI_EXT_CAP_ID_ERR:
                /* Uncorrectable: Undefined, DLP, surprise down, and bits 12 to 25 without the reserved one; correctable; ECRC. */
                for (unsigned i = PCI_ERR_UNCOR_STATUS; i <= PCI_ERR_UNCOR_SEVER; i += 4)
                        rule(g, at + i, 4, 0, 0x03fff031);
                rule(g, at + PCI_ERR_COR_STATUS, 4, 0, 0xf1c1);
                rule(g, at + PCI_ERR_COR_MASK, 4, 0, 0xf1c1);
                rule(g, at + PCI_ERR_CAP, 4, 0, PCI_ERR_CAP_ECRC_GENE | PCI_ERR_CAP_ECRC_CHKE);
                break;
        case PCI_EXT_CAP_ID_PWR:
                rule(g, at + 8, 1, 0, 0xff);
                break;
        case PCI_EXT_CAP_ID_VNDR:
        case PCI_EXT_CAP_ID_DVSEC:
                cap->raw = true;
                break;
        default:
                break;
        }
}

/* ---- which capabilities there are ---- */

/* pci_cap_length[] and vfio_cap_len(): 0 for one that is hidden. */
static unsigned cap_size(struct sim_vfio *v, unsigned id, unsigned at) {
        struct sim_function *fn = v->fn;
        uint16_t flags;

        switch (id) {
        case PCI_CAP_ID_PM:
                return PCI_PM_SIZEOF;
        case PCI_CAP_ID_AGP:
                return PCI_AGP_SIZEOF;
        case PCI_CAP_ID_VPD:
                return PCI_CAP_VPD_SIZEOF;
        case PCI_CAP_ID_MSI:
                flags = vfio_get16(fn, at + PCI_MSI_FLAGS);
                return 10 + (flags & PCI_MSI_FLAGS_64BIT ? 4 : 0) + (flags & PCI_MSI_FLAGS_MASKBIT ? 10 : 0);
        case PCI_CAP_ID_PCIX:
                return PCI_X_CMD_VERSION(vfio_get16(fn, at + PCI_X_CMD)) ? PCI_CAP_PCIX_SIZEOF_V2 : PCI_CAP_PCIX_SIZEOF_V0;
        case PCI_CAP_ID_VNDR:
                return fn->config[at + PCI_CAP_FLAGS];
        case PCI_CAP_ID_EXP:
                flags = vfio_get16(fn, at + PCI_EXP_FLAGS);
                if ((flags & PCI_EXP_FLAGS_TYPE) >> 4 == PCI_EXP_TYPE_RC_END)
                        return (flags & PCI_EXP_FLAGS_VERS) == 1 ? 0xc : 0x2c;
                return (flags & PCI_EXP_FLAGS_VERS) == 1 ? PCI_CAP_EXP_ENDPOINT_SIZEOF_V1 : PCI_CAP_EXP_ENDPOINT_SIZEOF_V2;
        case PCI_CAP_ID_HT:
                return fn->config[at + 3] & HT_3BIT_CAP_MASK ? HT_CAP_SIZEOF_SHORT : HT_CAP_SIZEOF_LONG;
        case PCI_CAP_ID_MSIX:
                return PCI_CAP_MSIX_SIZEOF;
        case PCI_CAP_ID_SATA:
                if ((fn->config[at + PCI_SATA_REGS] & PCI_SATA_REGS_MASK) == PCI_SATA_REGS_INLINE)
                        return PCI_SATA_SIZEOF_LONG;
                return PCI_SATA_SIZEOF_SHORT;
        case PCI_CAP_ID_AF:
                return PCI_CAP_AF_SIZEOF;
        default:
                return 0;
        }
}

/* vfio_vc_cap_len() */
static unsigned vc_size(struct sim_function *fn, unsigned at) {
        uint32_t caps = vfio_get32(fn, at + PCI_VC_PORT_CAP2);
        unsigned extended = vfio_get32(fn, at + PCI_VC_PORT_CAP1) & PCI_VC_CAP1_EVCC;
        unsigned phases = caps & PCI_VC_CAP2_128_PHASE ? 128 : caps & PCI_VC_CAP2_64_PHASE ? 64 : caps & PCI_VC_CAP2_32_PHASE ? 32 : 0;
        unsigned size = PCI_CAP_VC_BASE_SIZEOF + (1 + extended) * PCI_CAP_VC_PER_VC_SIZEOF;

        return phases ? ((size + 15) & ~15u) + phases * 4 / 8 : size;
}

/* pci_ext_cap_length[] and vfio_ext_cap_len(): DOE, IDE, PASID and whatever else is not named is hidden. */
static unsigned ext_cap_size(struct sim_vfio *v, unsigned id, unsigned at) {
        struct sim_function *fn = v->fn;
        unsigned n;

        switch (id) {
        case PCI_EXT_CAP_ID_ERR:
                return PCI_ERR_ROOT_COMMAND;
        case PCI_EXT_CAP_ID_VC:
        case PCI_EXT_CAP_ID_VC9:
        case PCI_EXT_CAP_ID_MFVC:
                return vc_size(fn, at);
        case PCI_EXT_CAP_ID_DSN:
                return PCI_EXT_CAP_DSN_SIZEOF;
        case PCI_EXT_CAP_ID_PWR:
                return PCI_EXT_CAP_PWR_SIZEOF;
        case PCI_EXT_CAP_ID_VNDR:
                return vfio_get32(fn, at + PCI_VNDR_HEADER) >> 20;
        case PCI_EXT_CAP_ID_DVSEC:
                return vfio_get32(fn, at + PCI_DVSEC_HEADER1) >> 20;
        case PCI_EXT_CAP_ID_ACS:
                if (!(fn->config[at + PCI_ACS_CAP] & PCI_ACS_EC))
                        return 8;
                n = fn->config[at + PCI_ACS_EGRESS_BITS];
                return 8 + (n ? (n + 31) / 32 * 32 : 256) / 8;
        case PCI_EXT_CAP_ID_ARI:
                return PCI_EXT_CAP_ARI_SIZEOF;
        case PCI_EXT_CAP_ID_ATS:
                return PCI_EXT_CAP_ATS_SIZEOF;
        case PCI_EXT_CAP_ID_SRIOV:
                return PCI_EXT_CAP_SRIOV_SIZEOF;
        case PCI_EXT_CAP_ID_MCAST:
                return PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF;
        case PCI_EXT_CAP_ID_PRI:
                return PCI_EXT_CAP_PRI_SIZEOF;
        case PCI_EXT_CAP_ID_REBAR:
                return 4 + ((fn->config[at + PCI_REBAR_CTRL] & PCI_REBAR_CTRL_NBAR_MASK) >> PCI_REBAR_CTRL_NBAR_SHIFT) * 8u;
        case PCI_EXT_CAP_ID_DPA:
                return PCI_DPA_BASE_SIZEOF + (fn->config[at + PCI_DPA_CAP] & PCI_DPA_CAP_SUBSTATE_MASK) + 1u;
        case PCI_EXT_CAP_ID_TPH:
                n = vfio_get32(fn, at + PCI_TPH_CAP);
                if ((n & PCI_TPH_CAP_LOC_MASK) != PCI_TPH_LOC_CAP)
                        return PCI_TPH_BASE_SIZEOF;
                return PCI_TPH_BASE_SIZEOF + ((n & PCI_TPH_CAP_ST_MASK) >> PCI_TPH_CAP_ST_SHIFT) * 2 + 2;
        case PCI_EXT_CAP_ID_LTR:
                return PCI_EXT_CAP_LTR_SIZEOF;
        default:
                return 0;
        }
}

static struct cap *add_cap(struct sim_vfio *v, unsigned id, unsigned at, unsigned size, bool extended) {
        struct vfio_config *g = v->config;
        struct cap *cap = &g->cap[g->n_caps];

        *cap = (struct cap) { .id = (uint16_t) id, .start = (uint16_t) at, .size = (uint16_t) size, .extended = extended };
        for (unsigned i = at; i < at + size && i < g->size; i++)
                g->of[i] = (uint16_t) g->n_caps;
        if (at < g->size)
                sim_config_read(v->fn, at, g->value + at, size < g->size - at ? size : g->size - at);
        g->n_caps++;
        return cap;
}

/* vfio_cap_init(): true when there may be extended ones. */
static bool find_caps(struct sim_vfio *v) {
        struct vfio_config *g = v->config;
        uint8_t *previous = &g->value[PCI_CAPABILITY_LIST];
        unsigned at, n = 0, loops = (PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF) / PCI_CAP_SIZEOF;
        bool extended = false;

        if (!(vfio_get16(v->fn, PCI_STATUS) & PCI_STATUS_CAP_LIST))
                return false;
        at = v->fn->config[PCI_CAPABILITY_LIST];
        while (at >= PCI_STD_HEADER_SIZEOF && at < PCI_CFG_SPACE_SIZE - 4 && loops-- > 0 && g->n_caps < CAPS_MAX) {
                unsigned id = v->fn->config[at], next = v->fn->config[at + PCI_CAP_LIST_NEXT], size = cap_size(v, id, at);

                if (id == PCI_CAP_ID_EXP || (id == PCI_CAP_ID_PCIX && size == PCI_CAP_PCIX_SIZEOF_V2))
                        extended = g->size > PCI_CFG_SPACE_SIZE && vfio_get32(v->fn, PCI_CFG_SPACE_SIZE) != 0;
                if (size == 0) {
                        *previous = (uint8_t) next;
                        at = next;
                        continue;
                }
                if (size > PCI_CFG_SPACE_SIZE - at)
                        size = PCI_CFG_SPACE_SIZE - at;
                cap_rules(v, add_cap(v, id, at, size, false));
                previous = &g->value[at + PCI_CAP_LIST_NEXT];
                at = next;
                n++;
        }
        if (n == 0)
                config_set16(g, PCI_STATUS, (uint16_t) (config_value16(g, PCI_STATUS) & ~PCI_STATUS_CAP_LIST));
        return extended;
}

static void link_ext(struct vfio_config *g, unsigned at, uint32_t keep, uint32_t next) {
        uint32_t header;

        memcpy(&header, g->value + at, sizeof(header));
        header = (header & keep) | next << 20;
        memcpy(g->value + at, &header, sizeof(header));
}

/* vfio_ecap_init(): a hidden one at the start of the chain stays as an anchor, with its name taken away. */
static void find_ext_caps(struct sim_vfio *v) {
        struct vfio_config *g = v->config;
        unsigned at = PCI_CFG_SPACE_SIZE, previous = 0, n = 0, loops = (unsigned) (g->size - PCI_CFG_SPACE_SIZE) / PCI_CAP_SIZEOF;

        while (loops-- > 0 && at >= PCI_CFG_SPACE_SIZE && at <= g->size - 4 && g->n_caps < CAPS_MAX) {
                uint32_t header = vfio_get32(v->fn, at);
                unsigned id = PCI_EXT_CAP_ID(header), next = PCI_EXT_CAP_NEXT(header), size = ext_cap_size(v, id, at);
                bool hidden = size == 0;

                if (hidden && previous) {
                        link_ext(g, previous, 0xfffff, next);
                        at = next;
                        continue;
                }
                if (hidden)
                        size = PCI_CAP_SIZEOF;
                if (size > g->size - at)
                        size = (unsigned) (g->size - at);
                if (hidden) {
                        (void) add_cap(v, 0, at, size, true);
                        rule(g, at, 4, ~0u, 0);
                        link_ext(g, at, 0, next);
                } else {
                        ext_cap_rules(v, add_cap(v, id, at, size, true));
                        n++;
                }
                previous = at;
                at = next;
        }
        if (n == 0)
                memset(g->value + PCI_CFG_SPACE_SIZE, 0, 4);
}

int vfio_config_init(struct sim_vfio *v) {
        struct sim_function *fn = v->fn;
        struct vfio_config *g;

        g = calloc(1, sizeof(*g));
        if (!g)
                return -ENOMEM;
        v->config = g;
        g->size = fn->config_size;
        memset(g->of, 0xff, sizeof(g->of));
        (void) add_cap(v, 0, 0, PCI_STD_HEADER_SIZEOF, false);
        header_rules(g);
        for (unsigned i = 0; i < 6; i++)
                memcpy(&g->bars[i], g->value + PCI_BASE_ADDRESS_0 + 4UL * i, 4);
        memcpy(&g->bars[6], g->value + PCI_ROM_ADDRESS, 4);
        g->bars_written = true;
        if (fn->physfn) {
                /* A VF's own ids read as ones; its PF's SR-IOV capability has the device id. */
                unsigned sriov = sim_find_ext_capability(fn->physfn, PCI_EXT_CAP_ID_SRIOV);

                config_set16(g, PCI_VENDOR_ID, vfio_get16(fn->physfn, PCI_VENDOR_ID));
                if (sriov)
                        config_set16(g, PCI_DEVICE_ID, vfio_get16(fn->physfn, sriov + PCI_SRIOV_VF_DID));
                config_set16(g, PCI_COMMAND, config_value16(g, PCI_COMMAND) | PCI_COMMAND_MEMORY);
        }
        if (fn->physfn || !fn->intx)
                g->value[PCI_INTERRUPT_PIN] = 0;
        if (find_caps(v))
                find_ext_caps(v);
        return 0;
}

void vfio_config_free(struct sim_vfio *v) {
        free(TAKE_PTR(v->config));
}
