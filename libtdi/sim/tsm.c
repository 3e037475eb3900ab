/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The PCI/TSM core (drivers/pci/tsm.c) and, under it, a link TSM that accepts what its topology says. One semaphore
 * is held for writing over a whole connect or disconnect, and for reading by everything else.
 */
#include "sim/tsm.h"

#include <stdio.h>

#include "model/json.h"
#include "sim/tsm-abi.h"

/* ---- which functions: is_pci_tsm_pf0(), find_dsm_dev() ---- */

bool tsm_is_pf0(const struct sim_function *fn) {
        if (fn->physfn || (fn->devfn & 7))
                return false;
        if (fn->port_type != PORT_ENDPOINT && fn->port_type != PORT_UPSTREAM && fn->port_type != PORT_RC_ENDPOINT)
                return false;
        return fn->pci->ide || fn->pci->tee;
}

static bool is_dsm(const struct sim_function *fn) {
        return fn->tsm && fn->tsm->dsm == fn;
}

static struct sim_function *find_dsm(struct sim_machine *m, struct sim_function *fn) {
        struct sim_function *pf0, *up;

        if (tsm_is_pf0(fn))
                return fn;
        pf0 = fn->physfn ? fn->physfn : fn;
        if (pf0->devfn & 7)
                pf0 = pci_find(m, pf0->segment, pf0->bus, pf0->devfn & (uint8_t) ~7u);
        if (!pf0)
                return NULL;
        if (is_dsm(pf0))
                return pf0;
        up = fn->bridge ? fn->bridge->bridge : NULL;
        return up && up->port_type == PORT_UPSTREAM && is_dsm(up) ? up : NULL;
}

struct sim_rwsem *tsm_dsm_lock(struct sim_tsm_context *x) {
        /* to_pci_tsm_pf0(): a real kernel warns and then falls over NULL. */
        if (!is_dsm(x->dsm)) {
                sim_log(x->fn->sim, "PCI/TSM: %s: invalid context object", x->fn->bdf);
                return NULL;
        }
        return &x->dsm->tsm->lock;
}

/* ---- walking: pci_tsm_walk_fns() and its reverse ---- */

struct walk {
        struct sim_call *c;
        struct sim_function *dsm;
        void (*func)(struct sim_call *c, struct sim_function *fn, struct sim_function *dsm);
        bool reverse;
};

static void walk_child(struct sim_function *fn, void *data) {
        struct walk *w = data;

        if (!w->reverse)
                w->func(w->c, fn, w->dsm);
        if (fn_is_port(fn))
                pci_children(fn, w->reverse, walk_child, w);
        if (w->reverse)
                w->func(w->c, fn, w->dsm);
}

static void walk_slot(struct walk *w) {
        struct sim_machine *m = sim_machine(w->dsm->sim);

        for (unsigned i = 0; i < 8; i++) {
                unsigned f = w->reverse ? 7 - i : i;
                struct sim_function *pf = pci_find(m, w->dsm->segment, w->dsm->bus, (uint8_t) ((w->dsm->devfn & ~7u) | f));

                if (!pf)
                        continue;
                if (!w->reverse && f > 0)
                        w->func(w->c, pf, w->dsm);
                /* As many as pci_num_vf() says: none while they are being added. */
                for (unsigned k = 0; k < pf->sriov_enabled; k++) {
                        struct sim_function *vf = pf->vfs[w->reverse ? pf->sriov_enabled - 1 - k : k];

                        if (vf->pci->added)
                                w->func(w->c, vf, w->dsm);
                }
                if (w->reverse && f > 0)
                        w->func(w->c, pf, w->dsm);
        }
}

static void walk(struct sim_call *c, struct sim_function *dsm, bool reverse,
                 void (*func)(struct sim_call *c, struct sim_function *fn, struct sim_function *dsm)) {
        struct walk w = { c, dsm, func, reverse };
        bool below = dsm->port_type == PORT_UPSTREAM && is_dsm(dsm);

        if (below && reverse)
                pci_children(dsm, true, walk_child, &w);
        walk_slot(&w);
        if (below && !reverse)
                pci_children(dsm, false, walk_child, &w);
}

/* ---- the link TSM: probe, remove ---- */

bool tsm_accepts(const struct sim_tsm *tsm, const struct sim_function *fn) {
        if (tsm->all)
                return true;
        for (size_t i = 0; i < tsm->n_accepts; i++)
                if (streq(tsm->accepts[i], fn->bdf))
                        return true;
        return false;
}

/* A function that could be a DSM itself must not look connected because a port above it is. */
static bool below_connected_port(const struct sim_function *fn) {
        const struct sim_function *port = fn->bridge ? fn->bridge->bridge : NULL;

        return port && port->tsm && tsm_is_pf0(port);
}

static struct sim_tsm_context *probe(struct sim_call *c, struct sim_tsm *tsm, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm_context *x;
        struct sim_function *dsm;
        int r;

        r = sim_fault(c, "tsm.probe", fn->bdf);
        if (fn->tsm)
                return fn->tsm;
        if (r < 0 || (tsm_is_pf0(fn) && (!tsm_accepts(tsm, fn) || below_connected_port(fn))))
                return NULL;
        dsm = find_dsm(m, fn);
        if (!dsm) {
                sim_log(c->sim, "PCI/TSM: %s: failed to find Device Security Manager", fn->bdf);
                return NULL;
        }
        x = machine_alloc(sizeof(*x));
        x->tsm = tsm;
        x->fn = fn;
        x->dsm = dsm;
        sim_rwsem_init(&x->lock);
        return x;
}

/* tsm_remove() */
void tsm_context_remove(struct sim_function *fn) {
        struct sim_tsm_context *x = TAKE_PTR(fn->tsm);

        if (!x)
                return;
        sim_rwsem_done(&x->lock);
        free(x);
}

static void unbind(struct sim_call *c, struct sim_function *fn) {
        struct sim_tsm_context *x = fn->tsm;
        struct sim_rwsem *lock = x ? tsm_dsm_lock(x) : NULL;

        if (!x)
                return;
        if (lock)
                sim_down_write(c, lock);
        if (x->bound) {
                (void) sim_fault(c, "tsm.unbind", fn->bdf);
                x->bound = false;
                x->kvm = NULL;
                sim_trace(c, "tsm.unbind", fn->bdf, 0);
        }
        if (lock)
                sim_up_write(c, lock);
}

/* ---- connect ---- */

/* probe_fn() */
static void probe_fn(struct sim_call *c, struct sim_function *fn, struct sim_function *dsm) {
        struct sim_tsm_context *was = fn->tsm, *x = probe(c, dsm->tsm->tsm, fn);

        if (was && was != x)
                tsm_context_remove(fn);
        fn->tsm = x;
        if (x)
                tsm_sysfs_update(c, fn);
}

/* pci_tsm_connect(), with the semaphore held for writing */
static int connect_locked(struct sim_call *c, struct sim_function *fn, struct sim_tsm *tsm) {
        struct sim_tsm_context *x;
        int r;

        x = probe(c, tsm, fn);
        if (!x)
                return -ENXIO;
        fn->tsm = x;
        r = sim_down_write_interruptible(c, &x->lock);
        if (r < 0) {
                tsm_context_remove(fn);
                return r;
        }
        r = sim_fault(c, "tsm.connect", fn->bdf);
        if (r >= 0 && tsm->connect_ms)
                sim_sleep(c, tsm->connect_ms);
        if (r >= 0)
                r = fn->present ? tsm_stream_start(c, x) : -EIO;
        sim_trace(c, "tsm.connect", fn->bdf, r);
        if (r >= 0 && tsm_has_tee(fn))
                walk(c, fn, false, probe_fn);
        sim_up_write(c, &x->lock);
        if (r < 0)
                tsm_context_remove(fn);
        return r;
}

static struct sim_tsm *find_tsm(struct sim_machine *m, int id) {
        char name[16];

        snprintf(name, sizeof(name), "tsm%d", id);
        for (size_t i = 0; i < tsms(m)->n; i++)
                if (tsms(m)->all[i].registered && streq(tsms(m)->all[i].plan->name, name))
                        return &tsms(m)->all[i];
        return NULL;
}

/* connect_store(): the kernel reads a number and ignores what follows. */
int tsm_connect(struct sim_call *c, struct sim_function *fn, const char *text) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm *tsm;
        int id, r;

        if (sscanf(text, "tsm%d\n", &id) != 1)
                return -EINVAL;
        r = sim_down_write_interruptible(c, &m->tsm_lock);
        if (r < 0)
                return r;
        if (fn->tsm)
                r = -EBUSY;
        else {
                tsm = find_tsm(m, id);
                r = tsm ? connect_locked(c, fn, tsm) : -ENXIO;
        }
        sim_up_write(c, &m->tsm_lock);
        return r;
}

/* ---- disconnect ---- */

static void unbind_fn(struct sim_call *c, struct sim_function *fn, _unused_ struct sim_function *dsm) {
        unbind(c, fn);
}

/* remove_fn(): whatever context it is, even that of a function below a port which was connected by itself. */
static void remove_fn(struct sim_call *c, struct sim_function *fn, _unused_ struct sim_function *dsm) {
        tsm_context_remove(fn);
        tsm_sysfs_update(c, fn);
}

/* pci_tsm_disconnect() */
static void disconnect_locked(struct sim_call *c, struct sim_function *fn) {
        struct sim_tsm_context *x = fn->tsm;

        walk(c, fn, true, unbind_fn);
        unbind(c, fn);
        sim_down_write(c, &x->lock);
        walk(c, fn, true, remove_fn);
        (void) sim_fault(c, "tsm.disconnect", fn->bdf);
        sim_trace(c, "tsm.disconnect", fn->bdf, 0);
        tsm_stream_stop(c, x);
        sim_up_write(c, &x->lock);
        tsm_context_remove(fn);
}

/* disconnect_store() */
int tsm_disconnect(struct sim_call *c, struct sim_function *fn, const char *text) {
        struct sim_machine *m = sim_machine(c->sim);
        int r;

        r = sim_down_write_interruptible(c, &m->tsm_lock);
        if (r < 0)
                return r;
        if (!fn->tsm)
                r = -ENXIO;
        else if (!sysfs_equal(text, fn->tsm->tsm->plan->name))
                r = -EINVAL;
        else
                disconnect_locked(c, fn);
        sim_up_write(c, &m->tsm_lock);
        return r;
}

/* ---- bind ---- */

static bool id_taken(const struct sim_machine *m, const struct sim_tsm *tsm, const void *kvm, uint32_t tdi_id) {
        for (const struct sim_function *fn = m->functions; fn; fn = fn->next)
                if (fn->tsm && fn->tsm->bound && fn->tsm->tsm == tsm && fn->tsm->kvm == kvm && fn->tsm->tdi_id == tdi_id)
                        return true;
        return false;
}

/* What can be seen without a lock; the core's own answers come after it. */
int sim_tsm_can_bind(const struct sim_function *fn) {
        if (!fn->tsm)
                return -ENOTCONN;
        if (!fn->tsm->tsm->bind)
                return -EOPNOTSUPP;
        return fn->tsm->bound ? -EBUSY : 0;
}

int sim_tsm_bind(struct sim_call *c, struct sim_function *fn, const void *kvm, uint32_t tdi_id) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm_context *x;
        struct sim_rwsem *lock;
        int r = 0;

        if (!kvm)
                return -EINVAL;
        sim_down_read(c, &m->tsm_lock);
        x = fn->tsm;
        lock = x ? tsm_dsm_lock(x) : NULL;
        if (!lock) {
                sim_up_read(c, &m->tsm_lock);
                return -EINVAL;
        }
        sim_down_write(c, lock);
        if (!x->tsm->bind)
                r = -EOPNOTSUPP; /* a real kernel falls over NULL */
        else if (x->bound)
                r = x->kvm == kvm ? 0 : -EBUSY;
        else {
                r = sim_fault(c, "tsm.bind", fn->bdf);
                if (r >= 0 && id_taken(m, x->tsm, kvm, tdi_id))
                        r = -EEXIST;
                if (r >= 0) {
                        x->bound = true;
                        x->kvm = kvm;
                        x->tdi_id = tdi_id;
                        x->tdisp = x->tsm->bind_locks ? TDI_TEST_TSM_LOCKED : TDI_TEST_TSM_UNLOCKED;
                }
                sim_trace(c, "tsm.bind", fn->bdf, r);
        }
        sim_up_write(c, lock);
        sim_up_read(c, &m->tsm_lock);
        return r;
}

int sim_tsm_unbind(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(c->sim);
        bool was;

        sim_down_read(c, &m->tsm_lock);
        was = fn->tsm && fn->tsm->bound;
        if (was)
                unbind(c, fn);
        sim_up_read(c, &m->tsm_lock);
        return was ? 0 : -ENXIO;
}

/* ---- functions come and go ---- */

void tsm_mark(struct sim_machine *m, struct sim_function *fn) {
        for (size_t i = 0; tsms(m) && i < tsms(m)->n; i++) {
                const struct sim_tsm *tsm = &tsms(m)->all[i];

                if (tsm->registered && tsm->marks && tsm_accepts(tsm, fn))
                        fn->pci->tee = true;
        }
}

void tsm_prepare(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);

        fn->tsm = NULL;
        tsm_mark(m, fn);
        tsm_sysfs_update(c, fn);
}

/* pci_tsm_init() */
void sim_tsm_function_added(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct sim_function *dsm;

        if (!tsms(m))
                return;
        sim_down_read(c, &m->tsm_lock);
        if (!fn->tsm && tsms(m)->link_count > 0) {
                dsm = find_dsm(m, fn);
                if (dsm && dsm->tsm)
                        probe_fn(c, fn, dsm);
        }
        sim_up_read(c, &m->tsm_lock);
}

/* __pci_tsm_destroy() with a context */
void tsm_context_destroy(struct sim_call *c, struct sim_function *fn) {
        if (tsm_is_pf0(fn) && is_dsm(fn))
                disconnect_locked(c, fn);
        else {
                unbind(c, fn);
                tsm_context_remove(fn);
        }
}

/* pci_tsm_destroy() */
void sim_tsm_function_removed(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);

        if (!tsms(m))
                return;
        sim_down_write(c, &m->tsm_lock);
        if (fn->tsm)
                tsm_context_destroy(c, fn);
        sim_up_write(c, &m->tsm_lock);
}
