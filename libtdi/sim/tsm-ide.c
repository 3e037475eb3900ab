/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IDE streams, as a link TSM sets them up: drivers/pci/ide.c. */
#include "sim/tsm.h"

#include <stdio.h>

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
int tsm_stream_start(struct sim_call *c, struct sim_tsm_context *x) {
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
void tsm_stream_stop(struct sim_call *c, struct sim_tsm_context *x) {
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
