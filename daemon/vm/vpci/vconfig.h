/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration space as the VMM sees it: the kernel's virtual one (vfio_pci_config.c) behind a filter that keeps a prepared or
 * bound TDI stable. What a write may do depends on the register and on the TDI's TDISP state, by one table; a write that is not passed is shadowed
 * or refused, counted, and logged with the register's name.
 *
 * One thread at a time reads and writes; set_state() and set_master() may come from any thread, and only the second may sleep.
 */
#ifndef TDID_VPCI_VCONFIG_H
#define TDID_VPCI_VCONFIG_H

#include "host/host.h"
#include "model/json.h"

struct vconfig;

/* TDISP states (PCIe 6, 11.2), as far as they matter here. */
enum vconfig_state {
        VCONFIG_UNLOCKED,
        VCONFIG_BOUND, /* CONFIG_UNLOCKED too, but the TSM has it: it is unbound before a reset */
        VCONFIG_LOCKED,
        VCONFIG_RUN,
        VCONFIG_ERROR,
};

/* Whether the function may be bus master. */
enum vconfig_master {
        VCONFIG_MASTER_NO,
        VCONFIG_MASTER_YES,
        VCONFIG_MASTER_STAYS, /* if it is; it does not become one */
};

/* What becomes of a write that would change what is locked, or end the TDI: the policy's "on_illegal_config_write". */
enum vconfig_illegal {
        VCONFIG_ILLEGAL_SHADOW, /* as the table says, in any case */
        VCONFIG_ILLEGAL_REFUSE, /* it fails, and nothing of it is done */
        VCONFIG_ILLEGAL_UNBIND, /* the same, unless the caller sees to it first that the TDI is unbound */
        _VCONFIG_ILLEGAL_MAX,
        _VCONFIG_ILLEGAL_INVALID = -EINVAL,
};

/* What writing would do besides storing bits: the caller chooses how to wait for it. */
enum vconfig_effect {
        VCONFIG_PLAIN,
        VCONFIG_SLOW, /* a reset or a change of power: may take as long as the device likes */
};

/*
 * @device: the function's VFIO descriptor, stays the caller's; @offset, @size: of its config region. Reads the capabilities once.
 *
 * Return: 0; -EINVAL (a size that no config space has), -EOPNOTSUPP (a bridge), -ENODEV (reads as ones: not there), -ENOMEM, or what the
 * kernel says.
 */
int vconfig_new(TdiHost *host, int device, uint64_t offset, uint64_t size, struct vconfig **ret);
struct vconfig *vconfig_free(struct vconfig *c);
/* What log lines call it (a BDF), copied. Before any other thread knows it. */
void vconfig_set_name(struct vconfig *c, const char *name);

/* Before any other thread knows it; VCONFIG_ILLEGAL_SHADOW at first. */
void vconfig_set_illegal(struct vconfig *c, enum vconfig_illegal what);
enum vconfig_illegal vconfig_illegal_from_string(const char *text);
/* Is the TDI to be unbound before this is written? May sleep. */
bool vconfig_needs_unbind(struct vconfig *c, const void *buf, size_t size, uint64_t offset);

/* As pread/pwrite of the region; ranges have been checked by the caller. Returns the size, or a negative errno. */
ssize_t vconfig_read(struct vconfig *c, void *buf, size_t size, uint64_t offset);
/* Quick: looks at the bytes alone. */
enum vconfig_effect vconfig_effect(struct vconfig *c, const void *buf, size_t size, uint64_t offset);
/*
 * What the table does not let pass is dropped or shadowed, as hardware does, and counts as written. -EPERM: it is illegal, and is to fail; nothing of
 * it is done.
 */
ssize_t vconfig_write(struct vconfig *c, const void *buf, size_t size, uint64_t offset);
/* The function has been reset by other means (VFIO_DEVICE_RESET): shadows are as after a reset, and bus mastering is off. May sleep. */
void vconfig_was_reset(struct vconfig *c);

/*
 * Quick. A write is judged by the state that it finds when it begins: who locks sees to it that none is under way. Shadows that the new
 * state lets pass are written by the next call that may sleep.
 */
void vconfig_set_state(struct vconfig *c, enum vconfig_state state);
/*
 * What the guest wants is kept, shown to it, and done when this turns to YES, as it is in the beginning. In LOCKED and RUN a bit that is on
 * stays on until the state changes: clearing it would end the TDI.
 */
void vconfig_set_master(struct vconfig *c, enum vconfig_master master);

/* Where a region holds the MSI-X table or PBA, from the capability: may [offset, offset + size) of BAR @bar be written now? Quick. */
bool vconfig_may_write_bar(struct vconfig *c, uint32_t bar, uint64_t offset, uint64_t size);
/* May interrupts be set up anew in this state (MSI-X is part of what is locked)? Quick. */
bool vconfig_may_set_irqs(struct vconfig *c);
/* The same for more of them: in ERROR they may only be switched off. Quick. */
bool vconfig_may_add_irqs(struct vconfig *c);
/* May the function be reset in this state? What is bound to a TSM is unbound before, also in ERROR. Quick. */
bool vconfig_may_reset(struct vconfig *c);

/* {"state", "on_illegal_write", "bus_master": {"wanted", "allowed"}, "dropped": {register name: count}, "shadowed": {register name: count}}. Quick. */
struct json_object *vconfig_describe(struct vconfig *c);

#endif
