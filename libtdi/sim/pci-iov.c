/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SR-IOV as drivers/pci/iov.c does it: sriov_numvfs, VFs coming and going with their PF.
 */
#include <stdio.h>

#include "sim/machine.h"

#define FN(n) ((struct sim_function *) (n)->data)

static void write_control(struct sim_function *fn, unsigned n) {
        unsigned at = sim_find_ext_capability(fn, EXT_SRIOV);

        if (!at || !fn->present)
                return;
        cfg_put16(fn->config + at + SRIOV_NUM_VF, n);
        /* VF Enable and VF Memory Space Enable */
        cfg_put16(fn->config + at + SRIOV_CTRL, (cfg_get16(fn->config + at + SRIOV_CTRL) & ~0x9u) | (n ? 0x9 : 0) | (fn_plan(fn)->ari ?
                                                                                                                     0x10 : 0));
}

/* pci_iov_add_virtfn() */
static void add(struct sim_call *c, struct sim_function *fn, unsigned i) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct sim_function *vf;
        char name[24];

        if (!fn->pci->all_vfs)
                fn->pci->all_vfs = machine_alloc(fn->sriov_total * sizeof(*fn->pci->all_vfs));
        vf = fn->pci->all_vfs[i];
        if (!vf)
                vf = fn->pci->all_vfs[i] = pci_make(m, fn_plan(fn)->vf, fn, i);
        else {
                pci_power_on(vf);
                if (vf->model)
                        vf->model->reset(c, vf);
        }
        vf->present = fn->present;
        pci_add(c, vf);
        sim_vfio_vf_added(vf);
        snprintf(name, sizeof(name), "virtfn%u", i);
        sim_link(fn->node, name, vf->node);
        sim_link(vf->node, "physfn", fn->node);
        sim_uevent(fn->sim, "change", "pci", vf->node);
        /* pci_bus_add_device(): sriov_drivers_autoprobe only decides about drivers, driver_override goes before it. */
        sim_down_write(c, &vf->lock);
        if (vf->pci->added && !vf->driver && fn->pci->autoprobe)
                (void) sim_device_probe(c, vf);
        sim_up_write(c, &vf->lock);
}

/* pci_iov_remove_virtfn() */
static void del(struct sim_call *c, struct sim_function *fn, unsigned i) {
        struct sim_function *vf = fn->pci->all_vfs[i];
        struct sim_node *link;
        char name[24];

        if (!vf || !vf->pci->added)
                return;
        snprintf(name, sizeof(name), "virtfn%u", i);
        link = fn->node ? sim_child(fn->node, name) : NULL;
        if (link)
                sim_remove(c, link, NULL);
        link = sim_child(vf->node, "physfn");
        if (link)
                sim_remove(c, link, NULL);
        pci_remove(c, vf, NULL);
        vf->present = false;
}

int pci_enable_sriov(struct sim_call *c, struct sim_function *fn, unsigned n) {
        int r;

        if (!fn->sriov_total)
                return -ENOSYS;
        if (fn->sriov_enabled)
                return -EINVAL;
        if (n > fn->sriov_total)
                return -EINVAL;
        r = sim_fault(c, "sriov.enable", fn->bdf);
        if (r < 0)
                return r;
        write_control(fn, n);
        for (unsigned i = 0; i < n; i++)
                add(c, fn, i);
        sim_uevent(fn->sim, "change", "pci", fn->node);
        /* Only now does anybody count them (pci_num_vf()): a TSM disconnect in between forgets those that came under the old connection. */
        free(fn->vfs);
        fn->vfs = machine_alloc(n * sizeof(*fn->vfs));
        memcpy(fn->vfs, fn->pci->all_vfs, n * sizeof(*fn->vfs));
        fn->sriov_enabled = (uint16_t) n;
        return 0;
}

void pci_disable_sriov(struct sim_call *c, struct sim_function *fn) {
        unsigned n = fn->sriov_enabled;

        if (!n)
                return;
        for (unsigned i = 0; i < n; i++)
                del(c, fn, i);
        write_control(fn, 0);
        fn->sriov_enabled = 0;
        free(TAKE_PTR(fn->vfs));
}

/* ---- sysfs ---- */

static ssize_t numvfs_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return snprintf(buf, size, "%u\n", FN(n)->sriov_enabled);
}

/* sriov_numvfs_store() */
static ssize_t numvfs_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_function *fn = FN(n);
        unsigned long long v;
        int r;

        if (parse_ulong(text, UINT16_MAX, &v) < 0)
                return -EINVAL;
        if (v > fn->sriov_total)
                return -ERANGE;
        sim_down_write(c, &fn->lock);
        if (v == fn->sriov_enabled)
                r = 0;
        else if (!fn->driver || !fn->driver->sriov_configure)
                r = -ENOENT;
        else if (v && fn->sriov_enabled)
                r = -EBUSY;
        else
                r = fn->driver->sriov_configure(c, fn, (unsigned) v);
        sim_up_write(c, &fn->lock);
        return r < 0 ? r : (ssize_t) len;
}

static ssize_t autoprobe_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return snprintf(buf, size, "%d\n", FN(n)->pci->autoprobe ? 1 : 0);
}

/* kstrtobool() */
static ssize_t autoprobe_store(_unused_ struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        if (strchr("yYtT1", *text) && *text)
                FN(n)->pci->autoprobe = true;
        else if (strchr("nNfF0", *text) && *text)
                FN(n)->pci->autoprobe = false;
        else
                return -EINVAL;
        return (ssize_t) len;
}

static const struct sim_node_ops numvfs_ops = { .show = numvfs_show, .store = numvfs_store };
static const struct sim_node_ops autoprobe_ops = { .show = autoprobe_show, .store = autoprobe_store };

void pci_iov_sysfs(struct sim_function *fn) {
        const struct topology_function *p = fn_plan(fn);

        if (!fn->sriov_total)
                return;
        sim_file_node(fn->node, "sriov_drivers_autoprobe", 0644, &autoprobe_ops, fn);
        sim_file_node(fn->node, "sriov_numvfs", 0644, &numvfs_ops, fn);
        sim_text(fn->node, "sriov_offset", "%u", p->vf_offset);
        sim_text(fn->node, "sriov_stride", "%u", p->vf_stride);
        sim_text(fn->node, "sriov_totalvfs", "%u", fn->sriov_total);
        sim_text(fn->node, "sriov_vf_device", "%x", p->vf->device);
        sim_text(fn->node, "sriov_vf_total_msix", "0");
}
