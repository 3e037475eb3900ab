/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A platform's security managers, as tsm.c (the PCI/TSM core and a link TSM under it), tsm-ide.c (its IDE streams), tsm-load.c (how they
 * come and go) and tsm-sysfs.c (its files) share them.
 */
#ifndef TDI_SIM_TSM_H
#define TDI_SIM_TSM_H

#include "sim/machine.h"

struct sim_tsm {
        const struct topology_tsm *plan;
        char parent[56];
        bool registered, all, marks, bind, requests, bind_locks;
        unsigned connect_ms, streams, streams_used;
        char **accepts; /* BDFs; owned */
        size_t n_accepts;
        struct sim_node *node, *parent_node; /* parent_node: NULL when the parent is a function of the machine */
};

struct sim_tsms {
        struct sim_tsm *all;
        size_t n;
        unsigned link_count; /* pci_tsm_link_count */
};

/* struct pci_tsm; of a DSM struct pci_tsm_pf0 */
struct sim_tsm_context {
        struct sim_tsm *tsm;
        struct sim_function *fn, *dsm;
        struct sim_rwsem lock; /* of a DSM: a mutex, always taken for writing */
        bool bound;
        const void *kvm;
        uint32_t tdi_id, tdisp; /* TDI_TEST_TSM_UNLOCKED, … */
        bool has_stream;
        unsigned host_stream, root_index, index; /* indices of host bridge, root port, endpoint */
};

static inline struct sim_tsms *tsms(const struct sim_machine *m) {
        return m->tsms;
}

static inline bool tsm_has_tee(const struct sim_function *fn) {
        return fn->pci->tee;
}

/* tsm.c, for the files; text as it was written */
int tsm_connect(struct sim_call *c, struct sim_function *fn, const char *text);
int tsm_disconnect(struct sim_call *c, struct sim_function *fn, const char *text);
/* The DSM's mutex; NULL for a context that a disconnect has forgotten. */
struct sim_rwsem *tsm_dsm_lock(struct sim_tsm_context *x);

/* tsm.c, for what comes and goes. The machine's tsm_lock is held for writing, but by tsm_accepts(). */
bool tsm_accepts(const struct sim_tsm *tsm, const struct sim_function *fn);
void tsm_mark(struct sim_machine *m, struct sim_function *fn);
void tsm_context_destroy(struct sim_call *c, struct sim_function *fn);
void tsm_context_remove(struct sim_function *fn);

/* tsm-ide.c, with the same lock. A function without IDE has no stream, which is no error of connect. */
int tsm_stream_start(struct sim_call *c, struct sim_tsm_context *x);
void tsm_stream_stop(struct sim_call *c, struct sim_tsm_context *x);

/* tsm-sysfs.c */
void tsm_device_create(struct sim_machine *m, struct sim_tsm *tsm);
void tsm_device_remove(struct sim_call *c, struct sim_machine *m, struct sim_tsm *tsm);

#endif
