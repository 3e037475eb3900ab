/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a write to each register does in each TDISP state.
 *
 * A device that notices a change of what was locked ends the TDI: it goes to ERROR (PCIe 6, 11.2.6). In LOCKED and RUN, what is routine
 * for a guest and expected to read back is shadowed: placing BARs, switching decoding off, packet sizes. What a guest would only be
 * misled by is dropped: it reads back that nothing happened. In ERROR nothing reaches the function any more but what takes something from it,
 * decoding and bus mastering, until it is unbound, which tdid begins at once. BOUND is a TDI that is CONFIG_UNLOCKED: what resets it or changes
 * its power comes after the unbind, and that is all.
 *
 * And what the log says of it.
 */
#include <inttypes.h>
#include <time.h>

#include "log.h"
#include "vm/vpci/vconfig-priv.h"

#define PASS ACTION_PASS
#define SHADOW ACTION_SHADOW
#define SH_OFF ACTION_SHADOW_OFF
#define SH_ON ACTION_SHADOW_ON
#define DROP ACTION_DROP

const struct vconfig_rule vconfig_rules[KIND_MAX] = {
        /*                                                 UNLOCKED, BOUND, LOCKED, RUN, ERROR */
        /* Some drivers have registers between capabilities, and vfio-pci lets everything through there (unassigned_perms). */
        [KIND_GAP] = { .name = "GAP", .action =            { PASS, PASS, DROP, DROP, DROP } },
        /* From 0x100 on, what vfio-pci hides is still reached in its place: IDE streams and the DOE mailbox are the host's. */
        [KIND_EXT_GAP] = { .name = "EXT_GAP", .action =    { DROP, DROP, DROP, DROP, DROP } },
        /* Error messages, AER, MSI masks, cache line: not among what is locked. */
        [KIND_OTHER] = { .name = "OTHER", .action =        { PASS, PASS, PASS, PASS, DROP } },
        /* Only device and driver know what they are; to end the TDI when it must is the device's part. */
        [KIND_VENDOR] = { .name = "VENDOR", .action =      { PASS, PASS, PASS, PASS, DROP } },
        /* A bit of the kernel's (virtual) INTx, which no TDI uses. */
        [KIND_INTX] = { .name = "COMMAND.INTX_DISABLE", .action = { PASS, PASS, PASS, PASS, DROP } },
        /* I/O space is never part of a TDI. */
        [KIND_IO] = { .name = "COMMAND.IO", .action =      { PASS, PASS, PASS, PASS, DROP } },
        /* Where MSIs go is SET_IRQS' business; the kernel keeps what is written here to itself. */
        [KIND_MSI_MESSAGE] = { .name = "MSI.MESSAGE", .kept = true, .action = { PASS, PASS, SHADOW, SHADOW, SHADOW } },
        /* A BAR that moves ends the TDI. The kernel's BARs are virtual (vfio_bar_fixup): there sizing works, and nothing moves. */
        [KIND_BAR] = { .name = "BAR", .kept = true, .action = { PASS, PASS, SHADOW, SHADOW, SHADOW } },
        /* Packet sizes, tags, phantom functions, ordering, snooping; LTR, atomics, 10-bit tags and completion timeouts. */
        [KIND_DEVCTL] = { .name = "EXP.DEVCTL", .action =  { PASS, PASS, SHADOW, SHADOW, SHADOW } },
        [KIND_DEVCTL2] = { .name = "EXP.DEVCTL2", .action = { PASS, PASS, SHADOW, SHADOW, SHADOW } },
        /* The link has the IDE stream. */
        [KIND_LINK] = { .name = "EXP.LNKCTL", .action =    { PASS, PASS, DROP, DROP, DROP } },
        /* Resizable BARs, TPH (which the interface report shows), ACS, multicast, virtual channels. */
        [KIND_EXT_CONTROL] = { .name = "EXT", .action =    { PASS, PASS, DROP, DROP, DROP } },
        /* Read-only, and what the filter has found its registers by. */
        [KIND_LIST] = { .name = "LIST", .action =          { DROP, DROP, DROP, DROP, DROP } },
        /* Interrupts are set up before the lock: see vconfig_may_set_irqs(). */
        [KIND_MSI_CONTROL] = { .name = "MSI.CONTROL", .action = { PASS, PASS, DROP, DROP, DROP } },
        [KIND_MSIX_CONTROL] = { .name = "MSIX.CONTROL", .action = { PASS, PASS, DROP, DROP, DROP } },
        /* A store would change what the device says of itself. Written as 0 it is a load, so that a guest sees it time out. */
        [KIND_VPD_STORE] = { .name = "VPD.STORE", .trigger = true, .action = { PASS, PASS, DROP, DROP, DROP } },
        /* Translated requests pass the IOMMU by: no enable while the TDI is over and not yet unbound. */
        [KIND_ATS] = { .name = "ATS", .action =            { PASS, PASS, DROP, DROP, DROP } },
        /* A self-test may do what a reset does. */
        [KIND_BIST] = { .name = "BIST", .action =          { PASS, DROP, DROP, DROP, DROP }, .hint = "needs unbind first" },
        /* Clearing either ends the TDI; setting is how a driver begins, which may be after the lock. */
        [KIND_MEM] = { .name = "COMMAND.MEM", .action =    { PASS, PASS, SH_OFF, SH_OFF, SH_ON } },
        [KIND_MASTER] = { .name = "COMMAND.MASTER", .action = { PASS, PASS, SH_OFF, SH_OFF, SH_ON } },
        [KIND_POWER] = { .name = "PM.STATE", .action =     { PASS, DROP, DROP, DROP, DROP }, .hint = "needs unbind first" },
        [KIND_FLR] = { .name = "FLR", .trigger = true, .action = { PASS, DROP, DROP, DROP, DROP }, .hint = "needs unbind first" },
        /* Not done here, and hidden. */
        [KIND_PASID] = { .name = "PASID", .action =        { DROP, DROP, DROP, DROP, DROP } },
        [KIND_PRI] = { .name = "PRI", .action =            { DROP, DROP, DROP, DROP, DROP } },
        [KIND_SRIOV] = { .name = "SRIOV", .action =        { DROP, DROP, DROP, DROP, DROP } },
};

const char *vconfig_state_name(enum vconfig_state state) {
        static const char *const names[VCONFIG_STATES] = {
                [VCONFIG_UNLOCKED] = "unlocked", [VCONFIG_BOUND] = "bound", [VCONFIG_LOCKED] = "locked", [VCONFIG_RUN] = "run", [VCONFIG_ERROR] = "error",
        };

        return names[state];
}

/* ---- the log ---- */

/* A guest can write all day: a register is named once a minute, and no function has more lines than this in one. */
#define LINES_MAX 8

static int64_t seconds(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec;
}

void vconfig_note(struct vconfig *c, enum vconfig_kind kind, enum vconfig_state state, bool dropped) {
        const struct vconfig_rule *rule = &vconfig_rules[kind];
        uint64_t n = dropped ? atomic_load(&c->dropped[kind]) : atomic_load(&c->shadowed[kind]);
        int64_t now = seconds();

        if (c->lines == 0 || now - c->minute >= 60) {
                c->minute = now;
                c->lines = 0;
        }
        if ((n > 1 && now - c->logged[kind] < 60) || c->lines >= LINES_MAX)
                return;
        c->logged[kind] = now;
        c->lines++;
        log_line(dropped ? LOG_NOTICE : LOG_INFO, "%s: config space, %s: a write %s in state %s%s%s (%" PRIu64 " so far)", c->name,
                 rule->name, dropped ? "was refused" : "was kept from the hardware", vconfig_state_name(state), rule->hint ? ": " : "",
                 strempty(rule->hint), n);
}
