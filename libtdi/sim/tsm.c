/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The PCI/TSM core (drivers/pci/tsm.c) and, under it, a link TSM that accepts what its topology says and sets IDE streams up. One semaphore
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

/* ---- IDE streams: drivers/pci/ide.c ---- */

static struct sim_function *root_port(struct sim_function *fn) {
        while (fn->bridge)
                fn = fn->bridge;
        return fn;
}

static int take_index(uint64_t *bits, unsigned max) {
        for (unsigned i = 0; i < max && i < 64; i++)
                if (!(*bits >> i & 1)) {
                        *bits |= 1ULL << i;
                        return (int) i;
                }
        return -1;
}

static void program(struct sim_call *c, struct sim_function *fn, unsigned index, unsigned rid_start, unsigned rid_end, unsigned id,
                    bool enable) {
        unsigned block = cfg_ide_block(fn->config, fn->pci->ide, index);
        uint32_t cap = cfg_get32(fn->config + fn->pci->ide + IDE_CAP);
        uint8_t v[4];

        if (!block)
                return;
        cfg_put32(v, enable ? rid_end << 8 : 0);
        sim_config_write(c, fn, block + IDE_SEL_RID1, v, sizeof(v));
        cfg_put32(v, enable ? 1u | rid_start << 8 : 0);
        sim_config_write(c, fn, block + IDE_SEL_RID2, v, sizeof(v));
        /* PCI_IDE_SEL_CTL_CFG_EN and _TEE_LIMITED as the capability offers them */
        cfg_put32(v, enable ? 1u | (cap & 0x80 ? 0x200u : 0) | (cap & 0x1000000 ? 0x800000u : 0) | (uint32_t) id << 24 : 0);
        sim_config_write(c, fn, block + IDE_SEL_CTL, v, sizeof(v));
}

/* pci_ide_stream_alloc() to pci_ide_stream_enable(). A function without IDE has no stream, which is no error of connect. */
static int stream_start(struct sim_call *c, struct sim_tsm_context *x) {
        struct sim_function *fn = x->fn, *root = root_port(fn);
        struct sim_host *host = fn->pci->host;
        unsigned rid = (unsigned) fn->bus << 8 | fn->devfn, last = rid, root_rid = (unsigned) root->bus << 8 | root->devfn, h;
        int index, root_index;
        char name[40];
        bool keys;

        if (fn->port_type != PORT_ENDPOINT || !fn->pci->ide || !root->pci->ide)
                return 0;
        for (h = 0; h < host->plan->streams && host->streams[h / 8] >> h % 8 & 1; h++)
                ;
        if (h >= host->plan->streams || x->tsm->streams_used >= x->tsm->streams)
                return -EFAULT;
        root_index = take_index(&root->pci->ide_taken, cfg_ide_streams(root->config, root->pci->ide));
        if (root_index < 0)
                return -EFAULT;
        index = take_index(&fn->pci->ide_taken, cfg_ide_streams(fn->config, fn->pci->ide));
        if (index < 0) {
                root->pci->ide_taken &= ~(1ULL << root_index);
                return -EFAULT;
        }
        host->streams[h / 8] |= (uint8_t) (1 << h % 8);
        x->tsm->streams_used++;
        if (fn->sriov_enabled)
                last = topology_vf_rid(fn_plan(fn), fn->sriov_enabled - 1u);
        snprintf(name, sizeof(name), "stream%u.%d.%d", h, root_index, index);
        sim_link(host->node, name, fn->node);
        x->has_stream = true;
        x->host_stream = h;
        x->root_index = (unsigned) root_index;
        x->index = (unsigned) index;
        /* The one TSM in the kernel ignores that a stream does not become secure: connected says nothing of it. */
        keys = sim_fault(c, "tsm.ide", fn->bdf) >= 0;
        if (keys) {
                fn->pci->ide_keys |= 1ULL << index;
                root->pci->ide_keys |= 1ULL << root_index;
        }
        program(c, root, x->root_index, rid, last, h, true);
        program(c, fn, x->index, root_rid, root_rid, h, true);
        return 0;
}

/* One end of a stream loses its keys: status follows when what was in the control register is written again. */
static int drop_keys(struct sim_call *c, struct sim_function *fn, unsigned index, bool told) {
        unsigned block = cfg_ide_block(fn->config, fn->pci->ide, index);
        uint8_t v[4];

        if (!block)
                return -ENXIO;
        fn->pci->ide_keys &= ~(1ULL << index);
        if (told)
                cfg_put32(fn->config + block + IDE_SEL_STS, cfg_get32(fn->config + block + IDE_SEL_STS) | IDE_STS_FAILED);
        memcpy(v, fn->config + block + IDE_SEL_CTL, sizeof(v));
        sim_config_write(c, fn, block + IDE_SEL_CTL, v, sizeof(v));
        return 0;
}

/* An integrity check fails at the function: it says so to the port, and both leave the secure state. */
int sim_tsm_ide_fail(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm_context *x;
        int r;

        sim_down_read(c, &m->tsm_lock);
        x = fn->tsm;
        r = x && x->has_stream ? drop_keys(c, root_port(fn), x->root_index, true) : -ENOTCONN;
        if (r >= 0)
                r = drop_keys(c, fn, x->index, false);
        sim_up_read(c, &m->tsm_lock);
        return r;
}

/* pci_ide_stream_release() */
static void stream_stop(struct sim_call *c, struct sim_tsm_context *x) {
        struct sim_function *fn = x->fn, *root = root_port(fn);
        struct sim_node *link;
        char name[40];

        if (!x->has_stream)
                return;
        x->has_stream = false;
        program(c, root, x->root_index, 0, 0, 0, false);
        program(c, fn, x->index, 0, 0, 0, false);
        fn->pci->ide_keys &= ~(1ULL << x->index);
        root->pci->ide_keys &= ~(1ULL << x->root_index);
        fn->pci->ide_taken &= ~(1ULL << x->index);
        root->pci->ide_taken &= ~(1ULL << x->root_index);
        snprintf(name, sizeof(name), "stream%u.%u.%u", x->host_stream, x->root_index, x->index);
        link = sim_child(fn->pci->host->node, name);
        if (link)
                sim_remove(c, link, NULL);
        fn->pci->host->streams[x->host_stream / 8] &= (uint8_t) ~(1 << x->host_stream % 8);
        x->tsm->streams_used--;
}

/* ---- the link TSM: probe, remove ---- */

static bool accepts(const struct sim_tsm *tsm, const struct sim_function *fn) {
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
        if (r < 0 || (tsm_is_pf0(fn) && (!accepts(tsm, fn) || below_connected_port(fn))))
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
static void remove_context(struct sim_function *fn) {
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
                remove_context(fn);
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
                remove_context(fn);
                return r;
        }
        r = sim_fault(c, "tsm.connect", fn->bdf);
        if (r >= 0 && tsm->connect_ms)
                sim_sleep(c, tsm->connect_ms);
        if (r >= 0)
                r = fn->present ? stream_start(c, x) : -EIO;
        sim_trace(c, "tsm.connect", fn->bdf, r);
        if (r >= 0 && tsm_has_tee(fn))
                walk(c, fn, false, probe_fn);
        sim_up_write(c, &x->lock);
        if (r < 0)
                remove_context(fn);
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
        remove_context(fn);
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
        stream_stop(c, x);
        sim_up_write(c, &x->lock);
        remove_context(fn);
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

static void mark(struct sim_machine *m, struct sim_function *fn) {
        for (size_t i = 0; tsms(m) && i < tsms(m)->n; i++) {
                const struct sim_tsm *tsm = &tsms(m)->all[i];

                if (tsm->registered && tsm->marks && accepts(tsm, fn))
                        fn->pci->tee = true;
        }
}

void tsm_prepare(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);

        fn->tsm = NULL;
        mark(m, fn);
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
static void destroy(struct sim_call *c, struct sim_function *fn) {
        if (tsm_is_pf0(fn) && is_dsm(fn))
                disconnect_locked(c, fn);
        else {
                unbind(c, fn);
                remove_context(fn);
        }
}

/* pci_tsm_destroy() */
void sim_tsm_function_removed(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);

        if (!tsms(m))
                return;
        sim_down_write(c, &m->tsm_lock);
        if (fn->tsm)
                destroy(c, fn);
        sim_up_write(c, &m->tsm_lock);
}

/* ---- TSMs come and go ---- */

static void set_accepts(struct sim_tsm *tsm, const char **names, size_t n) {
        char **copy = machine_alloc((n + 1) * sizeof(*copy));

        for (size_t i = 0; i < n; i++)
                copy[i] = machine_strdup(names[i]);
        for (size_t i = 0; i < tsm->n_accepts; i++)
                free(tsm->accepts[i]);
        free(tsm->accepts);
        tsm->accepts = copy;
        tsm->n_accepts = n;
}

static void take_plan(struct sim_tsm *tsm) {
        const struct topology_tsm *p = tsm->plan;

        snprintf(tsm->parent, sizeof(tsm->parent), "%s", p->parent);
        tsm->all = p->all;
        tsm->marks = p->marks;
        tsm->bind = p->bind;
        tsm->requests = p->requests;
        tsm->bind_locks = p->bind_locks;
        tsm->connect_ms = p->connect_ms;
        tsm->streams = p->streams;
        set_accepts(tsm, p->accepts.names, p->accepts.n);
}

static int take_options(struct sim_machine *m, struct sim_tsm *tsm, struct json_object *options) {
        struct json_object *list = NULL;
        const char *parent = tsm->parent;
        uint64_t connect_ms = tsm->connect_ms, streams = tsm->streams, form = 0;
        bool marks = tsm->marks, bind = tsm->bind, requests = tsm->requests, locks = tsm->bind_locks, viommu = false;
        int r;

        r = json_get_str(options, "parent", &parent);
        if (r == -EBADMSG || !*parent || strlen(parent) >= sizeof(tsm->parent) || strchr(parent, '/') || *parent == '.')
                return -EINVAL;
        if (json_get_u64(options, "connect_ms", &connect_ms) == -EBADMSG || connect_ms > 3600000 || json_get_u64(options, "streams",
                                                                                                                 &streams) == -EBADMSG ||
            streams > 255 || json_get_bool(options, "marks", &marks) == -EBADMSG || json_get_bool(options, "bind", &bind) == -EBADMSG ||
            json_get_bool(options, "requests", &requests) == -EBADMSG || json_get_bool(options, "bind_locks", &locks) == -EBADMSG ||
            json_get_bool(options, "fake_viommu", &viommu) == -EBADMSG || json_get_u64(options, "iommufd_tsm", &form) == -EBADMSG ||
            (form != 0 && (form < 5 || form > 7)))
                return -EINVAL;
        r = json_get_array(options, "accepts", &list);
        if (r == -EBADMSG)
                return -EINVAL;
        if (r >= 0) {
                size_t n = json_object_array_length(list);
                _cleanup_free_ const char **names = machine_alloc((n + 1) * sizeof(*names));

                for (size_t i = 0; i < n; i++) {
                        struct json_object *o = json_object_array_get_idx(list, i);
                        uint16_t segment;
                        uint8_t bus, devfn;

                        if (!json_object_is_type(o, json_type_string) || !pci_parse_bdf(json_object_get_string(o), &segment, &bus, &devfn))
                                return -EINVAL;
                        names[i] = json_object_get_string(o);
                }
                set_accepts(tsm, names, n);
                tsm->all = false;
        }
        if (parent != tsm->parent)
                snprintf(tsm->parent, sizeof(tsm->parent), "%s", parent);
        tsm->connect_ms = (unsigned) connect_ms;
        tsm->streams = (unsigned) streams;
        tsm->marks = marks;
        tsm->bind = bind;
        tsm->requests = requests;
        tsm->bind_locks = locks;
        m->fake_viommu = viommu;
        m->iommufd_tsm = (unsigned) form;
        return 0;
}

static struct sim_tsm *planned(struct sim_machine *m, const char *name) {
        for (size_t i = 0; i < tsms(m)->n; i++)
                if (streq(tsms(m)->all[i].plan->name, name))
                        return &tsms(m)->all[i];
        return NULL;
}

/* tsm_register(), pci_tsm_register(): "change" says that the files are valid, "add" comes too early for that. */
int sim_tsm_load_with(struct sim_call *c, const char *name, struct json_object *options) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm *tsm = planned(m, name);
        int r;

        if (!tsm)
                return -ENODEV;
        if (tsm->node)
                return -EEXIST;
        take_plan(tsm);
        r = options ? take_options(m, tsm, options) : 0;
        if (r < 0)
                return r;
        tsm_device_create(m, tsm);
        sim_down_write(c, &m->tsm_lock);
        tsm->registered = true;
        tsms(m)->link_count++;
        for (struct sim_function *fn = m->functions; fn; fn = fn->next) {
                bool was = fn->pci->tee;

                mark(m, fn);
                if (tsm_is_pf0(fn) && (tsms(m)->link_count == 1 || fn->pci->tee != was))
                        tsm_sysfs_update(c, fn);
        }
        sim_up_write(c, &m->tsm_lock);
        sim_uevent(c->sim, "change", "tsm", tsm->node);
        return 0;
}

int sim_tsm_load(struct sim_call *c, const char *name) {
        return sim_tsm_load_with(c, name, NULL);
}

/* All functions as they are now: files are taken away meanwhile, which sleeps. */
static struct sim_function **snapshot(struct sim_machine *m, size_t *ret_n) {
        struct sim_function **all;
        size_t n = 0;

        for (struct sim_function *fn = m->functions; fn; fn = fn->next)
                n++;
        all = machine_alloc((n + 1) * sizeof(struct sim_function *));
        n = 0;
        for (struct sim_function *fn = m->functions; fn; fn = fn->next)
                all[n++] = fn;
        *ret_n = n;
        return all;
}

/* pci_tsm_unregister(): functions in reverse. */
static void unregister(struct sim_call *c, struct sim_machine *m, struct sim_tsm *tsm) {
        size_t n;
        _cleanup_free_ struct sim_function **all = snapshot(m, &n);

        while (n-- > 0) {
                struct sim_function *fn = all[n];

                if (!fn->pci->added)
                        continue;
                if (tsm_is_pf0(fn) && tsms(m)->link_count == 0)
                        tsm_sysfs_update(c, fn);
                if (fn->tsm && fn->tsm->tsm == tsm)
                        destroy(c, fn);
        }
}

static void unmark(struct sim_call *c, struct sim_machine *m, const struct sim_tsm *tsm) {
        size_t n;
        _cleanup_free_ struct sim_function **all = snapshot(m, &n);

        for (size_t i = 0; i < n && tsm->marks; i++) {
                bool was = all[i]->pci->tee;

                if (!accepts(tsm, all[i]))
                        continue;
                all[i]->pci->tee = fn_plan(all[i])->tee_io;
                mark(m, all[i]);
                if (all[i]->pci->added && all[i]->pci->tee != was)
                        tsm_sysfs_update(c, all[i]);
        }
}

int sim_tsm_unload(struct sim_call *c, const char *name) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm *tsm = planned(m, name);

        if (!tsm || !tsm->registered)
                return -ENODEV;
        sim_down_write(c, &m->tsm_lock);
        if (!tsm->registered) {
                sim_up_write(c, &m->tsm_lock);
                return -ENODEV;
        }
        tsm->registered = false;
        tsms(m)->link_count--;
        unregister(c, m, tsm);
        sim_up_write(c, &m->tsm_lock);
        tsm_device_remove(c, m, tsm);
        unmark(c, m, tsm);
        m->fake_viommu = false;
        m->iommufd_tsm = 0;
        sim_tsm_forget_objects(m);
        return 0;
}

void sim_tsm_init(struct sim_call *c, struct sim_machine *m) {
        struct sim_tsms *t = machine_alloc(sizeof(*t));

        m->tsms = t;
        t->n = m->plan->n_tsms;
        t->all = machine_alloc((t->n + 1) * sizeof(*t->all));
        /* A kernel with the TSM core has the class without any TSM. */
        sim_dirs(m->sim, "sys/class/tsm");
        for (size_t i = 0; i < t->n; i++)
                t->all[i].plan = &m->plan->tsms[i];
        for (size_t i = 0; i < t->n; i++)
                if (t->all[i].plan->loaded)
                        (void) sim_tsm_load(c, t->all[i].plan->name);
}

void sim_tsm_free(struct sim_machine *m) {
        struct sim_tsms *t = tsms(m);

        sim_tsm_forget_objects(m);
        if (!t)
                return;
        for (struct sim_function *fn = m->functions; fn; fn = fn->next)
                remove_context(fn);
        for (size_t i = 0; i < t->n; i++) {
                for (size_t k = 0; k < t->all[i].n_accepts; k++)
                        free(t->all[i].accepts[k]);
                free(t->all[i].accepts);
        }
        free(t->all);
        free(t);
        m->tsms = NULL;
}
