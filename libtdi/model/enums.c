/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* String tables and transition tables of the states. */
#include <tdi/enums.h>

#include "model/names.h"

DEFINE_NAMES(tdi_vm_phase, enum tdi_vm_phase, TDI_VM_PHASE_MAX, TDI_VM_PHASE_INVALID,
             [TDI_VM_PREPARING] = "preparing", [TDI_VM_SEALED] = "sealed", [TDI_VM_RUNNING] = "running",
             [TDI_VM_CLOSING] = "closing", [TDI_VM_GONE] = "gone")

DEFINE_NAMES(tdi_state, enum tdi_state, TDI_STATE_MAX, TDI_STATE_INVALID,
             [TDI_STATE_ATTACHING] = "attaching", [TDI_STATE_PREPARED] = "prepared", [TDI_STATE_BOUND] = "bound",
             [TDI_STATE_RUNNING] = "running", [TDI_STATE_DETACHING] = "detaching", [TDI_STATE_FAILED] = "failed",
             [TDI_STATE_GONE] = "gone")

DEFINE_NAMES(tdi_custody, enum tdi_custody, TDI_CUSTODY_MAX, TDI_CUSTODY_INVALID,
             [TDI_CUSTODY_NONE] = "none", [TDI_CUSTODY_CLAIM] = "claim", [TDI_CUSTODY_GUARD] = "guard",
             [TDI_CUSTODY_OPEN] = "open", [TDI_CUSTODY_CONNECT] = "connect", [TDI_CUSTODY_PREPARE] = "prepare",
             [TDI_CUSTODY_BIND] = "bind", [TDI_CUSTODY_RUN] = "run")

DEFINE_NAMES(tdi_job_state, enum tdi_job_state, TDI_JOB_STATE_MAX, TDI_JOB_STATE_INVALID,
             [TDI_JOB_RUNNING] = "running", [TDI_JOB_STUCK] = "stuck", [TDI_JOB_DONE] = "done",
             [TDI_JOB_FAILED] = "failed", [TDI_JOB_CANCELLED] = "cancelled")

DEFINE_NAMES(tdi_dmabuf_state, enum tdi_dmabuf_state, TDI_DMABUF_STATE_MAX, TDI_DMABUF_STATE_INVALID,
             [TDI_DMABUF_EXPORTED] = "exported", [TDI_DMABUF_REVOKED] = "revoked", [TDI_DMABUF_CLOSED] = "closed")

DEFINE_NAMES(tdi_tdisp, enum tdi_tdisp, TDI_TDISP_MAX, TDI_TDISP_INVALID,
             [TDI_TDISP_UNLOCKED] = "unlocked", [TDI_TDISP_LOCKED] = "locked", [TDI_TDISP_RUN] = "run",
             [TDI_TDISP_ERROR] = "error", [TDI_TDISP_UNKNOWN] = "unknown", [TDI_TDISP_NONE] = "none")

#define BIT(n) (1u << (n))

static const unsigned vm_next[TDI_VM_PHASE_MAX] = {
        [TDI_VM_PREPARING] = BIT(TDI_VM_SEALED) | BIT(TDI_VM_CLOSING),
        [TDI_VM_SEALED] = BIT(TDI_VM_RUNNING) | BIT(TDI_VM_CLOSING),
        [TDI_VM_RUNNING] = BIT(TDI_VM_CLOSING),
        [TDI_VM_CLOSING] = BIT(TDI_VM_GONE),
};

static const unsigned tdi_next[TDI_STATE_MAX] = {
        [TDI_STATE_ATTACHING] = BIT(TDI_STATE_PREPARED) | BIT(TDI_STATE_DETACHING) | BIT(TDI_STATE_FAILED),
        [TDI_STATE_PREPARED] = BIT(TDI_STATE_BOUND) | BIT(TDI_STATE_DETACHING) | BIT(TDI_STATE_FAILED),
        [TDI_STATE_BOUND] = BIT(TDI_STATE_PREPARED) | BIT(TDI_STATE_RUNNING) | BIT(TDI_STATE_DETACHING) | BIT(TDI_STATE_FAILED),
        [TDI_STATE_RUNNING] = BIT(TDI_STATE_BOUND) | BIT(TDI_STATE_PREPARED) | BIT(TDI_STATE_DETACHING) | BIT(TDI_STATE_FAILED),
        [TDI_STATE_DETACHING] = BIT(TDI_STATE_FAILED) | BIT(TDI_STATE_GONE),
        [TDI_STATE_FAILED] = BIT(TDI_STATE_DETACHING) | BIT(TDI_STATE_GONE),
};

static const unsigned job_next[TDI_JOB_STATE_MAX] = {
        [TDI_JOB_RUNNING] = BIT(TDI_JOB_STUCK) | BIT(TDI_JOB_DONE) | BIT(TDI_JOB_FAILED) | BIT(TDI_JOB_CANCELLED),
        [TDI_JOB_STUCK] = BIT(TDI_JOB_RUNNING) | BIT(TDI_JOB_DONE) | BIT(TDI_JOB_FAILED) | BIT(TDI_JOB_CANCELLED),
};

static const unsigned dmabuf_next[TDI_DMABUF_STATE_MAX] = {
        [TDI_DMABUF_EXPORTED] = BIT(TDI_DMABUF_REVOKED) | BIT(TDI_DMABUF_CLOSED),
        [TDI_DMABUF_REVOKED] = BIT(TDI_DMABUF_EXPORTED) | BIT(TDI_DMABUF_CLOSED),
};

/* LOCK_INTERFACE, START_INTERFACE, STOP_INTERFACE, and errors (PCIe 6, figure 11-5). NONE ends with a TSM, and comes with its end. */
static const unsigned tdisp_next[TDI_TDISP_MAX] = {
        [TDI_TDISP_UNLOCKED] = BIT(TDI_TDISP_LOCKED) | BIT(TDI_TDISP_ERROR) | BIT(TDI_TDISP_UNKNOWN) | BIT(TDI_TDISP_NONE),
        [TDI_TDISP_LOCKED] = BIT(TDI_TDISP_UNLOCKED) | BIT(TDI_TDISP_RUN) | BIT(TDI_TDISP_ERROR) | BIT(TDI_TDISP_UNKNOWN) | BIT(TDI_TDISP_NONE),
        [TDI_TDISP_RUN] = BIT(TDI_TDISP_UNLOCKED) | BIT(TDI_TDISP_ERROR) | BIT(TDI_TDISP_UNKNOWN) | BIT(TDI_TDISP_NONE),
        [TDI_TDISP_ERROR] = BIT(TDI_TDISP_UNLOCKED) | BIT(TDI_TDISP_UNKNOWN) | BIT(TDI_TDISP_NONE),
        [TDI_TDISP_UNKNOWN] = BIT(TDI_TDISP_UNLOCKED) | BIT(TDI_TDISP_LOCKED) | BIT(TDI_TDISP_RUN) | BIT(TDI_TDISP_ERROR) | BIT(TDI_TDISP_NONE),
        [TDI_TDISP_NONE] = BIT(TDI_TDISP_UNLOCKED) | BIT(TDI_TDISP_UNKNOWN),
};

static bool may(const unsigned *next, int max, int from, int to) {
        return from >= 0 && from < max && to >= 0 && to < max && (next[from] & BIT(to));
}

bool tdi_vm_phase_may_follow(enum tdi_vm_phase from, enum tdi_vm_phase to) {
        return may(vm_next, TDI_VM_PHASE_MAX, from, to);
}

bool tdi_state_may_follow(enum tdi_state from, enum tdi_state to) {
        return may(tdi_next, TDI_STATE_MAX, from, to);
}

bool tdi_job_state_may_follow(enum tdi_job_state from, enum tdi_job_state to) {
        return may(job_next, TDI_JOB_STATE_MAX, from, to);
}

bool tdi_dmabuf_state_may_follow(enum tdi_dmabuf_state from, enum tdi_dmabuf_state to) {
        return may(dmabuf_next, TDI_DMABUF_STATE_MAX, from, to);
}

bool tdi_tdisp_may_follow(enum tdi_tdisp from, enum tdi_tdisp to) {
        return may(tdisp_next, TDI_TDISP_MAX, from, to);
}
