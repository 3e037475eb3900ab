/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The states that tdid speaks of, with their names on the bus, and which state may follow which.
 * The transitions are data; tdid has one setter per enum that asks them.
 */
#ifndef TDI_ENUMS_H
#define TDI_ENUMS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum tdi_vm_phase {
        TDI_VM_PREPARING, /* functions are being attached, the guest has not started */
        TDI_VM_SEALED,    /* every early function is prepared, the guest may start */
        TDI_VM_RUNNING,   /* the VMM has arrived after seal */
        TDI_VM_CLOSING,   /* functions are being given back */
        TDI_VM_GONE,
        TDI_VM_PHASE_MAX,
        TDI_VM_PHASE_INVALID = -22
};

enum tdi_state {
        TDI_STATE_ATTACHING,
        TDI_STATE_PREPARED,
        TDI_STATE_BOUND,
        TDI_STATE_RUNNING,
        TDI_STATE_DETACHING,
        TDI_STATE_FAILED, /* the function is gone or lost its preparation; only detaching is left */
        TDI_STATE_GONE,
        TDI_STATE_MAX,
        TDI_STATE_INVALID = -22
};

/* The rows of the custody table, in the order of acquiring. */
enum tdi_custody {
        TDI_CUSTODY_NONE,
        TDI_CUSTODY_CLAIM,
        TDI_CUSTODY_GUARD,
        TDI_CUSTODY_OPEN,
        TDI_CUSTODY_CONNECT,
        TDI_CUSTODY_PREPARE,
        TDI_CUSTODY_BIND,
        TDI_CUSTODY_RUN,
        TDI_CUSTODY_MAX,
        TDI_CUSTODY_INVALID = -22
};

enum tdi_job_state {
        TDI_JOB_RUNNING,
        TDI_JOB_STUCK, /* past its deadline, a step has not come back from the kernel */
        TDI_JOB_DONE,
        TDI_JOB_FAILED,
        TDI_JOB_CANCELLED,
        TDI_JOB_STATE_MAX,
        TDI_JOB_STATE_INVALID = -22
};

/* Of a dma-buf that tdid gave out. What the importer sees then depends on its class (tdi/dmabuf.h). */
enum tdi_dmabuf_state {
        TDI_DMABUF_EXPORTED,
        TDI_DMABUF_REVOKED, /* nobody can reach what is in it; it may come back */
        TDI_DMABUF_CLOSED,  /* for good: its function is detached, or nobody has it any more */
        TDI_DMABUF_STATE_MAX,
        TDI_DMABUF_STATE_INVALID = -22
};

/*
 * The TDISP state of a TDI (PCIe 6, 11.2.4), by the numbers of the specification; then what tdid cannot ask of the device. Nobody tells the
 * host: it follows from the bind, from what guests ask for and their TSM grants, and from errors of the device.
 */
enum tdi_tdisp {
        TDI_TDISP_UNLOCKED, /* CONFIG_UNLOCKED, whether bound or not */
        TDI_TDISP_LOCKED,   /* CONFIG_LOCKED */
        TDI_TDISP_RUN,
        TDI_TDISP_ERROR,
        TDI_TDISP_UNKNOWN, /* a request may have changed it, and did not say to what */
        TDI_TDISP_NONE,    /* no TSM knows of the function */
        TDI_TDISP_MAX,
        TDI_TDISP_INVALID = -22
};

/* Names on the bus, as "preparing"; NULL out of range. All functions here are thread-safe. */
const char *tdi_vm_phase_to_string(enum tdi_vm_phase phase);
const char *tdi_state_to_string(enum tdi_state state);
const char *tdi_custody_to_string(enum tdi_custody step);
const char *tdi_job_state_to_string(enum tdi_job_state state);
const char *tdi_dmabuf_state_to_string(enum tdi_dmabuf_state state);
const char *tdi_tdisp_to_string(enum tdi_tdisp state);

/* The value of a name, or the enum's _INVALID; NULL is no name. */
enum tdi_vm_phase tdi_vm_phase_from_string(const char *name);
enum tdi_state tdi_state_from_string(const char *name);
enum tdi_custody tdi_custody_from_string(const char *name);
enum tdi_job_state tdi_job_state_from_string(const char *name);
enum tdi_dmabuf_state tdi_dmabuf_state_from_string(const char *name);
enum tdi_tdisp tdi_tdisp_from_string(const char *name);

/* May `to` follow `from`? Staying is no transition: false. Out of range: false. */
bool tdi_vm_phase_may_follow(enum tdi_vm_phase from, enum tdi_vm_phase to);
bool tdi_state_may_follow(enum tdi_state from, enum tdi_state to);
bool tdi_job_state_may_follow(enum tdi_job_state from, enum tdi_job_state to);
bool tdi_dmabuf_state_may_follow(enum tdi_dmabuf_state from, enum tdi_dmabuf_state to);
/* As TDISP has it; what is unknown may be anything, and become anything. */
bool tdi_tdisp_may_follow(enum tdi_tdisp from, enum tdi_tdisp to);

#ifdef __cplusplus
}
#endif

#endif
