/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The config filter's table, cell by cell: a register of each kind is written in each TDISP state, at once and byte by byte, and what
 * the kernel got, what the hardware has, what the guest reads and what was counted are compared.
 */
#include "vconfig-machine.h"
#include "vm/vpci/vconfig-priv.h"

enum {
        KERNEL_RO = 1, /* the kernel ignores the write (a capability without a write function) */
        VIRTUAL = 2,   /* the kernel has a register of its own, the hardware's never changes */
        TRIGGER = 4,   /* reads as 0, and is written as 0 where it is dropped */
        HIDDEN = 8,    /* reads as 0 */
};

/* P: passes. S: the guest sees it, the hardware does not. K: the same, the kernel keeps it. D: nothing happens. */
static const struct cell {
        const char *name, *bdf;
        unsigned at, size;
        uint32_t bits, before, after;
        const char *expected; /* UNLOCKED, BOUND, LOCKED, RUN, ERROR */
        unsigned flags;
} cells[] = {
        { "GAP", RICH, AT_GAP, 4, 0xffffffff, 0x11223344, 0x55667788, "PPDDD", 0 },
        { "EXT_GAP", RICH, AT_EXT_GAP, 4, 0xffffffff, 0x11223344, 0x55667788, "DDDDD", 0 },
        /* The mailbox that the kernel hides is still there. */
        { "EXT_GAP", RICH, AT_DOE + 8, 4, 0x80000001, 0, 0x80000001, "DDDDD", 0 },
        { "OTHER", RICH, PCI_CACHE_LINE_SIZE, 1, 0xff, 0, 0x10, "PPPPD", 0 },
        { "OTHER", RICH, PCI_INTERRUPT_LINE, 1, 0xff, 0, 0x0b, "PPPPD", VIRTUAL },
        { "OTHER", RICH, PCI_COMMAND, 2, PCI_COMMAND_SERR, 0, PCI_COMMAND_SERR, "PPPPD", 0 },
        { "OTHER", RICH, AT_EXP + PCI_EXP_DEVCTL, 2, 0x000f, 0, 0x000f, "PPPPD", 0 },
        { "OTHER", RICH, AT_MSI + PCI_MSI_MASK_64, 4, 0xf, 0, 0xf, "PPPPD", 0 },
        { "OTHER", RICH, AT_AER + PCI_ERR_UNCOR_MASK, 4, 0x1000, 0, 0x1000, "PPPPD", 0 },
        { "VENDOR", RICH, AT_VNDR + 4, 4, 0xffffffff, 0, 0x12345678, "PPPPD", 0 },
        { "VENDOR", RICH, AT_DVSEC + 0x10, 4, 0xffffffff, 0, 0x12345678, "PPPPD", 0 },
        { "VENDOR", RICH, AT_VSEC + 8, 4, 0xffffffff, 0, 0x12345678, "PPPPD", 0 },
        { "COMMAND.INTX_DISABLE", RICH, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE, 0, PCI_COMMAND_INTX_DISABLE, "PPPPD", 0 },
        { "COMMAND.IO", RICH, PCI_COMMAND, 2, PCI_COMMAND_IO, 0, PCI_COMMAND_IO, "PPPPD", 0 },
        { "COMMAND.IO", RICH, PCI_COMMAND, 2, PCI_COMMAND_IO, PCI_COMMAND_IO, 0, "PPPPD", 0 },
        { "COMMAND.MEM", RICH, PCI_COMMAND, 2, PCI_COMMAND_MEMORY, PCI_COMMAND_MEMORY, 0, "PPSSP", 0 },
        { "COMMAND.MEM", RICH, PCI_COMMAND, 2, PCI_COMMAND_MEMORY, 0, PCI_COMMAND_MEMORY, "PPPPS", 0 },
        { "COMMAND.MASTER", RICH, PCI_COMMAND, 2, PCI_COMMAND_MASTER, PCI_COMMAND_MASTER, 0, "PPSSP", 0 },
        { "COMMAND.MASTER", RICH, PCI_COMMAND, 2, PCI_COMMAND_MASTER, 0, PCI_COMMAND_MASTER, "PPPPS", 0 },
        { "BAR", RICH, PCI_BASE_ADDRESS_0, 4, 0xfffff000, 0x40000000, 0x50000000, "PPKKK", VIRTUAL },
        { "BAR", RICH, PCI_BASE_ADDRESS_3, 4, 0xffffffff, 1, 2, "PPKKK", VIRTUAL },
        /* Switched on, with as many as it takes, by SET_IRQS only: the kernel takes it back. */
        { "MSI.CONTROL", RICH, AT_MSI + PCI_MSI_FLAGS, 1, PCI_MSI_FLAGS_QSIZE, 0, 0x10, "PPDDD", KERNEL_RO },
        { "MSI.CONTROL", RICH, AT_MSI + PCI_MSI_FLAGS, 1, PCI_MSI_FLAGS_ENABLE, 0, PCI_MSI_FLAGS_ENABLE, "PPDDD", KERNEL_RO },
        { "MSI.MESSAGE", RICH, AT_MSI + PCI_MSI_ADDRESS_LO, 4, 0xfffffffc, 0, 0xfee00000, "PPKKK", VIRTUAL },
        { "MSI.MESSAGE", RICH, AT_MSI + PCI_MSI_ADDRESS_HI, 4, 0xffffffff, 0, 0x12, "PPKKK", VIRTUAL },
        { "MSI.MESSAGE", RICH, AT_MSI + PCI_MSI_DATA_64, 2, 0xffff, 0, 0x4021, "PPKKK", VIRTUAL },
        { "MSIX.CONTROL", RICH, AT_MSIX + PCI_MSIX_FLAGS, 2, 0xc000, 0x8000, 0x4000, "PPDDD", KERNEL_RO },
        { "EXP.DEVCTL", RICH, AT_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_PAYLOAD, 0, 0x0020, "PPSSS", VIRTUAL },
        { "EXP.DEVCTL", RICH, AT_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_READRQ, 0x2000, 0x1000, "PPSSS", 0 },
        { "EXP.DEVCTL", RICH, AT_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_EXT_TAG, 0, PCI_EXP_DEVCTL_EXT_TAG, "PPSSS", 0 },
        { "EXP.DEVCTL", RICH, AT_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_NOSNOOP_EN, PCI_EXP_DEVCTL_NOSNOOP_EN, 0, "PPSSS", 0 },
        { "EXP.DEVCTL2", RICH, AT_EXP + PCI_EXP_DEVCTL2, 2, 0x1410, 0, 0x1410, "PPSSS", 0 },
        { "EXP.LNKCTL", RICH, AT_EXP + PCI_EXP_LNKCTL, 2, 0x0003, 0, 0x0003, "PPDDD", KERNEL_RO },
        { "EXP.LNKCTL", RICH, AT_EXP + PCI_EXP_LNKCTL2, 2, 0x000f, 5, 4, "PPDDD", KERNEL_RO },
        { "EXT", RICH, AT_TPH + 8, 4, 0x0307, 0, 0x0107, "PPDDD", KERNEL_RO },
        { "LIST", RICH, AT_VNDR, 1, 0xff, PCI_CAP_ID_VNDR, PCI_CAP_ID_MSI, "DDDDD", 0 },
        { "LIST", RICH, AT_EXP + 1, 1, 0xff, 0, AT_PM, "DDDDD", 0 },
        { "LIST", RICH, AT_VSEC, 2, 0xffff, PCI_EXT_CAP_ID_VNDR, PCI_EXT_CAP_ID_PRI, "DDDDD", 0 },
        { "VPD.STORE", RICH, AT_VPD + PCI_VPD_ADDR, 2, PCI_VPD_ADDR_F, 0, PCI_VPD_ADDR_F, "PPDDD", VIRTUAL | TRIGGER },
        { "ATS", RICH, AT_ATS + PCI_ATS_CTRL, 2, PCI_ATS_CTRL_ENABLE, 0, PCI_ATS_CTRL_ENABLE, "PPDDD", KERNEL_RO },
        { "BIST", RICH, PCI_BIST, 1, 0xff, 0, 0x40, "PDDDD", 0 },
        { "PM.STATE", RICH, AT_PM + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK, 0, 3, "PDDDD", 0 },
        { "FLR", RICH, AT_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR, 0, PCI_EXP_DEVCTL_BCR_FLR, "PDDDD", KERNEL_RO | TRIGGER },
        { "FLR", RICH, AT_AF + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR, 0, PCI_AF_CTRL_FLR, "PDDDD", KERNEL_RO | TRIGGER },
        { "PASID", PLAIN, AT_PASID + PCI_PASID_CTRL, 2, PCI_PASID_CTRL_ENABLE, 0, PCI_PASID_CTRL_ENABLE, "DDDDD", HIDDEN },
        { "EXT_GAP", RICH, AT_PASID + PCI_PASID_CTRL, 2, PCI_PASID_CTRL_ENABLE, 0, PCI_PASID_CTRL_ENABLE, "DDDDD", 0 }, /* by the kernel */
        { "PRI", RICH, AT_PRI + PCI_PRI_CTRL, 2, PCI_PRI_CTRL_ENABLE, 0, PCI_PRI_CTRL_ENABLE, "DDDDD", HIDDEN },
        { "SRIOV", PF, 0 /* found */, 2, PCI_SRIOV_CTRL_VFE, 0, PCI_SRIOV_CTRL_VFE, "DDDDD", HIDDEN },
};

static unsigned place(const struct cell *cell) {
        unsigned at = cell->at;

        if (at == 0) {
                sim_lock(kernel);
                at = sim_find_ext_capability(function(PF), PCI_EXT_CAP_ID_SRIOV) + PCI_SRIOV_CTRL;
                sim_unlock(kernel);
                require(at > 0x100);
        }
        return at;
}

static void write_bytes(unsigned at, unsigned size, uint32_t v, bool apart) {
        if (!apart)
                put(at, size, v);
        for (unsigned i = 0; apart && i < size; i++)
                put(at + i, 1, v >> 8 * i & 0xff);
}

static void try_cell(const struct cell *cell, enum vconfig_state state, bool apart) {
        unsigned at = place(cell), size = cell->size;
        uint32_t bits = cell->bits, rest, reached = 0, got = 0, seen, hw;
        char expected = cell->expected[state];
        uint64_t dropped, shadowed;

        open_function(cell->bdf);
        hw_put(cell->bdf, at, size, bits, cell->before);
        rest = get(at, size) & ~bits;
        put(at, size, rest | cell->before);
        hw = hw_get(cell->bdf, at, size) & bits;
        dropped = counted("dropped", cell->name);
        shadowed = counted("shadowed", cell->name);
        if (!(cell->flags & (KERNEL_RO | HIDDEN)))
                check_int(get(at, size) & bits, cell->before);

        vconfig_set_state(space, state);
        spy_forget();
        write_bytes(at, size, rest | cell->after, apart);
        for (unsigned i = 0; i < size; i++) {
                reached |= (uint32_t) spy.mask[at + i] << 8 * i;
                got |= (uint32_t) spy.value[at + i] << 8 * i;
        }
        reached &= bits;
        got &= bits;
        seen = get(at, size) & bits;
        dropped = counted("dropped", cell->name) - dropped;
        shadowed = counted("shadowed", cell->name) - shadowed;

        switch (expected) {
        case 'P':
                check_int(reached, bits);
                check_int(got, cell->after);
                if (!(cell->flags & (KERNEL_RO | TRIGGER)))
                        check_int(seen, cell->after);
                check_int(hw_get(cell->bdf, at, size) & bits, cell->flags & (KERNEL_RO | VIRTUAL) ? hw : cell->after);
                check(dropped == 0 && shadowed == 0);
                break;
        case 'K':
                check_int(reached, bits);
                check_int(got, cell->after);
                check_int(seen, cell->after);
                check_int(hw_get(cell->bdf, at, size) & bits, hw);
                check(dropped == 0 && shadowed > 0);
                break;
        case 'S':
                check(reached == 0 || got == cell->before);
                check_int(seen, cell->after);
                check_int(hw_get(cell->bdf, at, size) & bits, hw);
                check(dropped == 0 && shadowed > 0);
                break;
        default:
                check(reached == 0 || got == (cell->flags & TRIGGER ? 0 : cell->before));
                /* The kernel loads in place of the store, and says that it has. */
                if (!streq(cell->name, "VPD.STORE"))
                        check_int(seen, cell->flags & HIDDEN ? 0 : cell->before);
                check_int(hw_get(cell->bdf, at, size) & bits, hw);
                check(dropped > 0 && shadowed == 0);
        }
        check(apart || (dropped <= 1 && shadowed <= 1));
        close_function();
}

/* Every register has cells, and every name that is counted is one of the table's. */
static void test_complete(void) {
        for (unsigned kind = 0; kind < KIND_MAX; kind++) {
                bool found = false;

                require(vconfig_rules[kind].name);
                test_about("%s", vconfig_rules[kind].name);
                for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
                        found = found || streq(cells[i].name, vconfig_rules[kind].name);
                check(found);
                for (unsigned other = 0; other < kind; other++)
                        check(!streq(vconfig_rules[other].name, vconfig_rules[kind].name));
        }
        for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
                check_int(strlen(cells[i].expected), VCONFIG_STATES);
}

int main(void) {
        machine_start();
        test_complete();
        for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
                for (enum vconfig_state state = VCONFIG_UNLOCKED; state <= VCONFIG_ERROR; state++)
                        for (unsigned apart = 0; apart < 2; apart++) {
                                test_about("%s at %#x, %s, %s", cells[i].name, cells[i].at, vconfig_state_name(state),
                                           apart ? "byte by byte" : "at once");
                                try_cell(&cells[i], state, apart);
                        }
        test_about("%s", "");
        kernel_end();
        return test_end();
}
