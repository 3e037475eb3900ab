/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VFs of a PF that is on vfio-pci: only with the module's parameter enable_sriov, and captured by the same driver as they appear
 * (vfio_pci_core_sriov_configure(), vfio_pci_bus_notifier()). A user of one needs the PF's token then.
 */
#include "sim/vfio.h"

#include <stdio.h>

#include "sim/machine.h"

int vfio_sriov_configure(struct sim_call *c, struct sim_function *fn, unsigned n) {
        struct sim_vfio *v = fn->vfio;

        if (!vfio_machine(c->sim)->enable_sriov)
                return -ENOENT;
        if (n == 0) {
                pci_disable_sriov(c, fn);
                return 0;
        }
        sim_down_write(c, &v->memory_lock);
        (void) vfio_set_power(c, v, 0);
        sim_up_write(c, &v->memory_lock);
        return pci_enable_sriov(c, fn, n);
}

void vfio_sriov_disable(struct sim_call *c, struct sim_function *fn) {
        pci_disable_sriov(c, fn);
}

void sim_vfio_vf_added(struct sim_function *vf) {
        if (!vf->physfn || !vf->physfn->vfio)
                return;
        sim_log(vf->sim, "vfio-pci %s: Captured SR-IOV VF %s driver_override", vf->physfn->bdf, vf->bdf);
        if (free_and_strdup(&vf->driver_override, "vfio-pci") < 0)
                abort();
}

static ssize_t enable_show(struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        (void) n;
        return snprintf(buf, size, "%c\n", vfio_machine(c->sim)->enable_sriov ? 'Y' : 'N');
}

/* kstrtobool() */
static ssize_t enable_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        (void) n;
        if (*text && strchr("yYtT1", *text))
                vfio_machine(c->sim)->enable_sriov = true;
        else if (*text && strchr("nNfF0", *text))
                vfio_machine(c->sim)->enable_sriov = false;
        else
                return -EINVAL;
        return (ssize_t) len;
}

static const struct sim_node_ops enable_ops = { .show = enable_show, .store = enable_store };

void vfio_sriov_init(struct vfio_machine *m) {
        sim_file_node(sim_dirs(m->machine->sim, "sys/module/vfio_pci/parameters"), "enable_sriov", 0644, &enable_ops, NULL);
}
