/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk through the capabilities, once: which register each bit of config space belongs to, what is unlinked and blanked, where the
 * MSI-X table is. Whatever the chains are like, it ends, and what it did not follow is cut off: a guest sees no capability that was
 * not looked at.
 */
#include <linux/pci_regs.h>

#include "vm/vpci/vconfig-priv.h"

/* Bits of a register of up to 4 bytes; @mask 0: all of them, of any size. */
static void claim(struct vconfig *c, unsigned at, unsigned size, uint32_t mask, enum vconfig_kind kind) {
        for (unsigned i = 0; i < size && at + i < c->size; i++)
                for (unsigned bit = 0; bit < 8; bit++)
                        if ((mask == 0 || mask >> (8 * i + bit) & 1) && c->kind[at + i][bit] < kind)
                                c->kind[at + i][bit] = (uint8_t) kind;
}

static void blank(struct vconfig *c, unsigned at, unsigned size) {
        for (unsigned i = at; i < at + size && i < c->size; i++) {
                c->fixed_mask[i] = 0xff;
                c->fixed_value[i] = 0;
        }
}

/* ---- what is in which capability ---- */

static const struct part {
        uint8_t id; /* 0: the header */
        uint8_t at, size;
        uint32_t mask;
        enum vconfig_kind kind;
} parts[] = {
        { 0, PCI_COMMAND, 2, PCI_COMMAND_IO, KIND_IO },
        { 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY, KIND_MEM },
        { 0, PCI_COMMAND, 2, PCI_COMMAND_MASTER, KIND_MASTER },
        { 0, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE, KIND_INTX },
        { 0, PCI_BIST, 1, 0, KIND_BIST },
        { 0, PCI_CAPABILITY_LIST, 1, 0, KIND_LIST },
        { 0, PCI_BASE_ADDRESS_0, 24, 0, KIND_BAR },
        { 0, PCI_ROM_ADDRESS, 4, 0, KIND_BAR },
        { PCI_CAP_ID_PM, PCI_PM_CTRL, 1, PCI_PM_CTRL_STATE_MASK, KIND_POWER },
        { PCI_CAP_ID_VPD, PCI_VPD_ADDR, 2, PCI_VPD_ADDR_F, KIND_VPD_STORE },
        { PCI_CAP_ID_MSI, PCI_MSI_FLAGS, 1, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE, KIND_MSI_CONTROL },
        { PCI_CAP_ID_MSIX, PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, KIND_MSIX_CONTROL },
        { PCI_CAP_ID_EXP, PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR, KIND_FLR },
        { PCI_CAP_ID_EXP, PCI_EXP_DEVCTL, 2, 0x7ff0, KIND_DEVCTL },
        { PCI_CAP_ID_EXP, PCI_EXP_LNKCTL, 2, 0, KIND_LINK },
        { PCI_CAP_ID_EXP, PCI_EXP_DEVCTL2, 2, 0, KIND_DEVCTL2 },
        { PCI_CAP_ID_EXP, PCI_EXP_LNKCTL2, 2, 0, KIND_LINK },
        { PCI_CAP_ID_AF, PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR, KIND_FLR },
};

static void claim_parts(struct vconfig *c, unsigned id, unsigned at, unsigned size) {
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                if (parts[i].id == id && parts[i].at + (unsigned) parts[i].size <= size)
                        claim(c, at + parts[i].at, parts[i].size, parts[i].mask, parts[i].kind);
}

/* ---- below 0x100 ---- */

static unsigned express_size(unsigned flags) {
        bool version1 = (flags & PCI_EXP_FLAGS_VERS) == 1;

        /* An integrated endpoint has no link (vfio_cap_len()). */
        if ((flags & PCI_EXP_FLAGS_TYPE) >> 4 == PCI_EXP_TYPE_RC_END)
                return version1 ? 0x0c : 0x2c;
        return version1 ? 0x14 : 0x3c;
}

/* The whole capability; what is not known is its first two bytes, and the rest a gap. */
static unsigned standard_size(const uint8_t *cap) {
        switch (cap[0]) {
        case PCI_CAP_ID_PM:
                return PCI_PM_SIZEOF;
        case PCI_CAP_ID_VPD:
                return PCI_CAP_VPD_SIZEOF;
        case PCI_CAP_ID_MSI:
                return 10 + (cap[PCI_MSI_FLAGS] & PCI_MSI_FLAGS_64BIT ? 4 : 0) +
                        (vconfig_get16(cap + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_MASKBIT ? 10 : 0);
        case PCI_CAP_ID_PCIX:
                return PCI_X_CMD_VERSION(vconfig_get16(cap + PCI_X_CMD)) ? PCI_CAP_PCIX_SIZEOF_V2 : PCI_CAP_PCIX_SIZEOF_V0;
        case PCI_CAP_ID_VNDR:
                return cap[PCI_CAP_FLAGS];
        case PCI_CAP_ID_EXP:
                return express_size(vconfig_get16(cap + PCI_EXP_FLAGS));
        case PCI_CAP_ID_MSIX:
                return PCI_CAP_MSIX_SIZEOF;
        case PCI_CAP_ID_AF:
                return PCI_CAP_AF_SIZEOF;
        default:
                return PCI_CAP_LIST_NEXT + 1;
        }
}

static void find_msix(struct vconfig *c, const uint8_t *cap) {
        uint32_t vectors = (vconfig_get16(cap + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u;
        uint32_t table = vconfig_get32(cap + PCI_MSIX_TABLE), pba = vconfig_get32(cap + PCI_MSIX_PBA);

        /* The first one is what the kernel drives. */
        if (c->msix_table.size)
                return;
        c->msix_table = (struct vconfig_range){ table & PCI_MSIX_TABLE_BIR, table & PCI_MSIX_TABLE_OFFSET,
                                                (uint64_t) vectors * PCI_MSIX_ENTRY_SIZE };
        c->msix_pba = (struct vconfig_range){ pba & PCI_MSIX_PBA_BIR, pba & PCI_MSIX_PBA_OFFSET, (vectors + 63) / 64 * UINT64_C(8) };
}

static void add_standard(struct vconfig *c, const uint8_t *config, unsigned at) {
        const uint8_t *cap = config + at;
        unsigned room = PCI_CFG_SPACE_SIZE - at, size = standard_size(cap), id = cap[0];

        if (size > room)
                size = room;
        claim(c, at, size, 0, id == PCI_CAP_ID_VNDR ? KIND_VENDOR : KIND_OTHER);
        claim(c, at, PCI_CAP_LIST_NEXT + 1, 0, KIND_LIST);
        if (id == 0)
                return; /* the header's number in parts[] */
        claim_parts(c, id, at, size);
        if (id == PCI_CAP_ID_MSI && size >= 10)
                claim(c, at + PCI_MSI_ADDRESS_LO, cap[PCI_MSI_FLAGS] & PCI_MSI_FLAGS_64BIT ? 10 : 6, 0, KIND_MSI_MESSAGE);
        if (id == PCI_CAP_ID_MSIX && size == PCI_CAP_MSIX_SIZEOF)
                find_msix(c, cap);
}

static void walk_standard(struct vconfig *c, const uint8_t *config) {
        unsigned link = PCI_CAPABILITY_LIST, at;
        bool seen[PCI_CFG_SPACE_SIZE / 4] = {};

        if (!(config[PCI_STATUS] & PCI_STATUS_CAP_LIST))
                return;
        for (;;) {
                at = config[link] & ~3u;
                if (at < PCI_STD_HEADER_SIZEOF || at + PCI_CAP_SIZEOF > c->size || seen[at / 4])
                        at = 0;
                c->fixed_mask[link] = 0xff;
                c->fixed_value[link] = (uint8_t) at;
                if (!at)
                        return;
                seen[at / 4] = true;
                add_standard(c, config, at);
                link = at + PCI_CAP_LIST_NEXT;
        }
}

/* ---- from 0x100 ---- */

static unsigned vendor_size(uint32_t header) {
        return header >> 20; /* of VSEC and DVSEC, what the capability begins with included */
}

/* True when it is hidden. */
static bool add_extended(struct vconfig *c, const uint8_t *config, unsigned at) {
        static const struct {
                uint8_t id, size;
                bool hidden;
                enum vconfig_kind kind;
        } known[] = {
                { PCI_EXT_CAP_ID_ERR, PCI_ERR_ROOT_COMMAND, false, KIND_OTHER },
                { PCI_EXT_CAP_ID_DSN, PCI_EXT_CAP_DSN_SIZEOF, false, KIND_OTHER },
                { PCI_EXT_CAP_ID_PWR, PCI_EXT_CAP_PWR_SIZEOF, false, KIND_OTHER },
                { PCI_EXT_CAP_ID_LTR, PCI_EXT_CAP_LTR_SIZEOF, false, KIND_OTHER },
                { PCI_EXT_CAP_ID_ARI, PCI_EXT_CAP_ARI_SIZEOF, false, KIND_EXT_CONTROL },
                { PCI_EXT_CAP_ID_ACS, 8, false, KIND_EXT_CONTROL },
                { PCI_EXT_CAP_ID_TPH, PCI_TPH_BASE_SIZEOF, false, KIND_EXT_CONTROL },
                { PCI_EXT_CAP_ID_MCAST, PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF, false, KIND_EXT_CONTROL },
                { PCI_EXT_CAP_ID_ATS, PCI_EXT_CAP_ATS_SIZEOF, false, KIND_ATS },
                { PCI_EXT_CAP_ID_PASID, PCI_EXT_CAP_PASID_SIZEOF, true, KIND_PASID },
                { PCI_EXT_CAP_ID_PRI, PCI_EXT_CAP_PRI_SIZEOF, true, KIND_PRI },
                { PCI_EXT_CAP_ID_SRIOV, PCI_EXT_CAP_SRIOV_SIZEOF, true, KIND_SRIOV },
        };
        uint32_t id = PCI_EXT_CAP_ID(vconfig_get32(config + at));
        size_t room = c->size - at;

        claim(c, at, PCI_CAP_SIZEOF, 0, KIND_LIST);
        for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
                if (known[i].id != id)
                        continue;
                claim(c, at + PCI_CAP_SIZEOF, known[i].size - PCI_CAP_SIZEOF, 0, known[i].kind);
                if (known[i].hidden)
                        blank(c, at, known[i].size);
                return known[i].hidden;
        }
        if ((id == PCI_EXT_CAP_ID_VNDR || id == PCI_EXT_CAP_ID_DVSEC) && room >= 8)
                claim(c, at, vendor_size(vconfig_get32(config + at + 4)), 0, KIND_VENDOR);
        else if (id == PCI_EXT_CAP_ID_REBAR && room >= 12)
                claim(c, at, 4 + 8 * ((config[at + PCI_REBAR_CTRL] & PCI_REBAR_CTRL_NBAR_MASK) >> PCI_REBAR_CTRL_NBAR_SHIFT), 0,
                      KIND_EXT_CONTROL);
        /* The rest of what is not known is a gap; the kernel lets nobody write to it anyway. */
        return false;
}

static void set_next(struct vconfig *c, unsigned at, unsigned next) {
        c->fixed_mask[at + 2] |= 0xf0;
        c->fixed_mask[at + 3] = 0xff;
        c->fixed_value[at + 2] = (uint8_t) ((c->fixed_value[at + 2] & 0x0f) | (next & 0xf) << 4);
        c->fixed_value[at + 3] = (uint8_t) (next >> 4);
}

/* A hidden one at the start keeps its place in the chain, without its name: chains begin at 0x100 (vfio_ecap_init()). */
static void walk_extended(struct vconfig *c, const uint8_t *config) {
        unsigned at = PCI_CFG_SPACE_SIZE, previous = 0;
        bool seen[VCONFIG_SIZE_MAX / 4] = {};
        uint32_t header = c->size > at ? vconfig_get32(config + at) : 0;

        if (header == 0 || header == UINT32_MAX)
                return;
        while (at) {
                unsigned next = PCI_EXT_CAP_NEXT(vconfig_get32(config + at));

                seen[at / 4] = true;
                if (next < PCI_CFG_SPACE_SIZE || next + PCI_CAP_SIZEOF > c->size || seen[next / 4])
                        next = 0;
                if (!add_extended(c, config, at) || !previous)
                        previous = at;
                set_next(c, previous, next);
                at = next;
        }
}

void vconfig_walk(struct vconfig *c, const uint8_t *config) {
        claim(c, 0, PCI_STD_HEADER_SIZEOF, 0, KIND_OTHER);
        claim(c, PCI_CFG_SPACE_SIZE, VCONFIG_SIZE_MAX, 0, KIND_EXT_GAP);
        claim_parts(c, 0, 0, PCI_STD_HEADER_SIZEOF);
        walk_standard(c, config);
        walk_extended(c, config);
}
