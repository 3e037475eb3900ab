/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the holder knows of a function's TDISP state, and the config filter's state that follows from it. The state has one setter. It
 * moves by what tdid does (bind, unbind), by what the guest asks its TSM for, and by errors of the device.
 *
 * Nothing here sleeps but tdisp_begin(). All of it is for any thread.
 */
#ifndef TDID_VPCI_TDISP_H
#define TDID_VPCI_TDISP_H

#include <stddef.h>
#include <stdint.h>
#include <tdi/enums.h>

#include "model/json.h"

struct function;

/*
 * tdid is about to bind it, which leaves it in @state, or has unbound it. -EAGAIN, and the state is as before: it is still starting, a request
 * of its client is under way, or its BARs are still being taken from its peers, which goes on.
 */
int tdisp_set_bound(struct function *f, bool bound, enum tdi_tdisp state);
/*
 * Before and after a request of the guest that asks for @target (UNKNOWN: for any). From the first to the second the client changes nothing
 * that the target locks. -EBUSY, and nothing is begun: a request of the client that may change that has not come to its end within 1 s.
 */
int tdisp_begin(struct function *f, enum tdi_tdisp target);
/* @reached: @target, the state as it was (TDI_TDISP_INVALID), or UNKNOWN. */
void tdisp_end(struct function *f, enum tdi_tdisp reached);
/* Its interface report, copied; kept until it is unbound. */
void tdisp_take_report(struct function *f, const void *data, size_t size);
/* The same as a string of hex digits, the caller's; NULL: there is none. */
char *tdisp_report_hex(struct function *f);
/*
 * Which MMIO is trusted memory, by that: [[BAR, offset, size], …], TDISP_TEE_MAX at most; it is added to what there is until the interface is
 * unlocked. -EINVAL; -ENOENT: it is not bound any more.
 */
#define TDISP_TEE_MAX 64
int tdisp_set_tee(struct function *f, struct json_object *ranges);
/*
 * May the host reach this part of a BAR? Not while the interface runs, where it is trusted memory: what comes from there is not the guest's
 * data. Cheap.
 */
bool tdisp_may_reach(struct function *f, uint32_t bar, uint64_t offset, uint64_t size);
/* The device has reported an error: a TDI that is bound is in ERROR. */
void tdisp_device_error(struct function *f);

#endif
