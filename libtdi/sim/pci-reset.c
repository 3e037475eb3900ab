/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resets, what survives them and what the kernel restores (pci_save_state() and pci_restore_state()); and error recovery.
 */
#include <stdio.h>

#include "sim/machine.h"

/* pci_parent_bus_reset(): alone on its bus, behind a port. */
static bool can_bus_reset(struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);

        if (!fn->bus_reset || !fn->bridge || fn->is_bridge)
                return false;
        for (unsigned devfn = 0; devfn < 256; devfn++)
                if (devfn != fn->devfn && pci_find(m, fn->segment, fn->bus, (uint8_t) devfn))
                        return false;
        return true;
}

bool sim_can_reset(struct sim_function *fn) {
        return fn->flr || can_bus_reset(fn);
}

void pci_reset_methods(struct sim_function *fn, char *buf, size_t size) {
        struct sim_machine *m = sim_machine(fn->sim);
        /* pci_init_reset_methods() asks when the function is found: those with higher numbers are not there yet. */
        bool bus = fn->bus_reset && fn->bridge && !fn->is_bridge;

        for (unsigned devfn = 0; bus && devfn < fn->devfn; devfn++)
                bus = !pci_find(m, fn->segment, fn->bus, (uint8_t) devfn);
        snprintf(buf, size, "%s%s%s", fn->flr ? "flr" : "", fn->flr && bus ? " " : "", bus ? "bus" : "");
}

void pci_hardware_reset(struct sim_call *c, struct sim_function *fn) {
        if (!fn->present)
                return;
        pci_power_on(fn);
        fn->pci->ide_keys = 0;
        pci_doe_reset(fn);
        if (fn->model)
                fn->model->reset(c, fn);
        /* An FLR of a PF takes its VFs with it (PCIe 9.2.2.2.2). */
        for (unsigned i = 0; i < fn->sriov_enabled; i++)
                pci_hardware_reset(c, fn->vfs[i]);
}

static void reset_child(struct sim_function *fn, void *data) {
        if (fn->physfn)
                return;
        pci_hardware_reset(data, fn);
        if (fn_is_port(fn))
                pci_children(fn, false, reset_child, data);
}

void pci_reset_below(struct sim_call *c, struct sim_function *port) {
        pci_children(port, false, reset_child, c);
}

/* ---- what is restored ---- */

static void restore_bytes(struct sim_function *fn, const uint8_t *saved, unsigned at, unsigned n) {
        memcpy(fn->config + at, saved + at, n);
}

static void restore_express(struct sim_function *fn, const uint8_t *saved) {
        unsigned at = cfg_find(saved, CAP_EXP);

        if (!at)
                return;
        restore_bytes(fn, saved, at + EXP_DEVCTL, 2);
        restore_bytes(fn, saved, at + EXP_LNKCTL, 2);
        restore_bytes(fn, saved, at + EXP_SLTCTL, 2);
        restore_bytes(fn, saved, at + EXP_RTCTL, 2);
        restore_bytes(fn, saved, at + EXP_DEVCTL2, 2);
        restore_bytes(fn, saved, at + EXP_LNKCTL2, 2);
}

/* pci_restore_state(): the header, PCIe controls, MSI, ACS, AER masks, SR-IOV. IDE and DOE registers are not among it. */
static void restore(struct sim_function *fn, const uint8_t *saved) {
        unsigned at;

        if (!fn->present)
                return;
        restore_bytes(fn, saved, 0, CFG_STATUS);
        restore_bytes(fn, saved, CFG_STATUS + 2, 0x40 - CFG_STATUS - 2);
        restore_express(fn, saved);
        at = cfg_find(saved, CAP_MSI);
        if (at)
                restore_bytes(fn, saved, at + 2, cfg_get16(saved + at + MSI_FLAGS) & 0x100 ? 22 : 12);
        at = cfg_find(saved, CAP_MSIX);
        if (at)
                restore_bytes(fn, saved, at + MSIX_FLAGS, 2);
        if (fn->config_size <= 256)
                return;
        at = cfg_find_ext(saved, fn->config_size, EXT_ACS);
        if (at)
                restore_bytes(fn, saved, at + ACS_CTRL, 2);
        at = cfg_find_ext(saved, fn->config_size, EXT_AER);
        if (at) {
                restore_bytes(fn, saved, at + AER_UNCOR_MASK, 8);
                restore_bytes(fn, saved, at + AER_COR_MASK, 8);
        }
        at = cfg_find_ext(saved, fn->config_size, EXT_SRIOV);
        if (at) {
                restore_bytes(fn, saved, at + SRIOV_CTRL, 2);
                restore_bytes(fn, saved, at + SRIOV_NUM_VF, 2);
                restore_bytes(fn, saved, at + 0x20, 4);
                restore_bytes(fn, saved, at + SRIOV_BAR, 24);
        }
}

int sim_reset_locked(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        uint8_t saved[SIM_CONFIG_SIZE];
        int r;

        if (!sim_can_reset(fn))
                return -ENOTTY;
        memcpy(saved, fn->config, sizeof(saved));
        sim_down_write(c, &fn->config_lock);
        /* pci_dev_save_and_disable(): nothing but "no INTx" is left on while it runs. */
        if (fn->present)
                cfg_put16(fn->config + CFG_COMMAND, COMMAND_INTX_DISABLE);
        r = sim_fault(c, "reset", fn->bdf);
        if (m->plan->reset_ms)
                sim_sleep(c, m->plan->reset_ms);
        if (r >= 0)
                pci_hardware_reset(c, fn);
        sim_trace(c, "reset", fn->bdf, r);
        restore(fn, saved);
        sim_up_write(c, &fn->config_lock);
        /* A function that was unplugged meanwhile never comes back: pci_dev_wait(). */
        return r < 0 ? r : fn->present ? 0 : -ENOTTY;
}

/* What was where before a bus was reset. */
struct saved {
        struct saved_function {
                struct sim_function *fn;
                uint8_t config[SIM_CONFIG_SIZE];
                struct saved_function *next;
        } *functions;
};

static void save_child(struct sim_function *fn, void *data) {
        struct saved *saved = data;
        struct saved_function *one = machine_alloc(sizeof(*one));

        one->fn = fn;
        memcpy(one->config, fn->config, SIM_CONFIG_SIZE);
        one->next = saved->functions;
        saved->functions = one;
        if (fn->present)
                cfg_put16(fn->config + CFG_COMMAND, COMMAND_INTX_DISABLE);
        if (fn_is_port(fn))
                pci_children(fn, false, save_child, saved);
}

/* __pci_reset_bus(): everything behind the port is reset, and gets back what a driver had written. */
int sim_reset_bus_locked(struct sim_call *c, struct sim_function *port) {
        struct sim_machine *m = sim_machine(port->sim);
        struct saved saved = {};
        int r = 0;

        pci_children(port, false, save_child, &saved);
        for (struct saved_function *one = saved.functions; one; one = one->next)
                sim_down_write(c, &one->fn->config_lock);
        for (struct saved_function *one = saved.functions; one && r >= 0; one = one->next)
                r = sim_fault(c, "reset", one->fn->bdf);
        if (m->plan->reset_ms)
                sim_sleep(c, m->plan->reset_ms);
        if (r >= 0)
                pci_reset_below(c, port);
        while (saved.functions) {
                struct saved_function *one = saved.functions;

                sim_trace(c, "reset", one->fn->bdf, r);
                restore(one->fn, one->config);
                sim_up_write(c, &one->fn->config_lock);
                saved.functions = one->next;
                free(one);
        }
        return r;
}

int pci_reset_sysfs(struct sim_call *c, struct sim_function *fn) {
        int r;

        if (fn->bridge)
                sim_down_write(c, &fn->bridge->lock);
        sim_down_write(c, &fn->lock);
        r = fn->pci->added ? sim_reset_locked(c, fn) : -ENOTTY;
        sim_up_write(c, &fn->lock);
        if (fn->bridge)
                sim_up_write(c, &fn->bridge->lock);
        return r;
}

/* ---- errors ---- */

static void log_error(struct sim_function *fn, bool fatal) {
        unsigned at = sim_find_ext_capability(fn, EXT_AER), express = sim_find_capability(fn, CAP_EXP);

        if (fatal)
                fn->pci->aer_fatal++;
        else
                fn->pci->aer_nonfatal++;
        if (!fn->present)
                return;
        /* Data link protocol error, or unsupported request. */
        if (at)
                cfg_put32(fn->config + at + AER_UNCOR, cfg_get32(fn->config + at + AER_UNCOR) | (fatal ? 0x10u : 0x100000u));
        if (express)
                cfg_put16(fn->config + express + EXP_DEVSTA, cfg_get16(fn->config + express + EXP_DEVSTA) | (fatal ? 0x4u : 0x2u));
        sim_log(fn->sim, "pcieport: AER: %s error message received from %s", fatal ? "Fatal" : "Non-Fatal", fn->bdf);
}

/* report_error_detected(), with the device lock held as pci_walk_bus() callbacks take it. */
static void detected(struct sim_call *c, struct sim_function *fn) {
        sim_down_write(c, &fn->lock);
        if (fn->pci->added && fn->driver && fn->driver->error)
                fn->driver->error(c, fn);
        sim_up_write(c, &fn->lock);
}

static void detected_child(struct sim_function *fn, void *data) {
        detected(data, fn);
        if (fn_is_port(fn))
                pci_children(fn, false, detected_child, data);
}

static void reset_slot(struct sim_function *fn, void *data) {
        uint8_t saved[SIM_CONFIG_SIZE];
        struct sim_call *c = data;

        memcpy(saved, fn->config, sizeof(saved));
        if (!fn->physfn)
                pci_hardware_reset(c, fn);
        restore(fn, saved);
        if (fn_is_port(fn))
                pci_children(fn, false, reset_slot, data);
}

/* pcie_do_recovery(): told are all functions behind the port; a fatal error resets its link. */
int sim_error(struct sim_call *c, struct sim_function *fn, bool fatal) {
        struct sim_function *port = fn->is_bridge ? fn : fn->bridge;

        if (!fn->pci->added)
                return -ENODEV;
        log_error(fn, fatal);
        if (!port) {
                detected(c, fn);
                return 0;
        }
        pci_children(port, false, detected_child, c);
        if (fatal)
                pci_children(port, false, reset_slot, c);
        return 0;
}
