/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Config space at run time: reads, writes with what they set off in the function, enabling, interrupts as their driver turns them on.
 */
#include <stdio.h>

#include "sim/machine.h"

void pci_power_on(struct sim_function *fn) {
        const struct topology_function *pf = fn->physfn ? fn_plan(fn->physfn) : NULL;

        /* It fitted when the topology was checked. */
        (void) topology_config(fn_plan(fn), pf, fn->config, &fn->config_size);
        topology_config_masks(fn_plan(fn), fn->config, fn->config_size, fn->writable, fn->rw1c);
        fn->ide = cfg_find_ext(fn->config, fn->config_size, EXT_IDE) != 0;
}

unsigned sim_find_capability(struct sim_function *fn, uint8_t id) {
        return cfg_find(fn->config, id);
}

unsigned sim_find_ext_capability(struct sim_function *fn, uint16_t id) {
        return cfg_find_ext(fn->config, fn->config_size, id);
}

void sim_config_read(struct sim_function *fn, uint64_t offset, void *buf, size_t size) {
        if (!fn->present || offset >= fn->config_size || size > fn->config_size - offset) {
                memset(buf, 0xff, size);
                return;
        }
        memcpy(buf, fn->config + offset, size);
        pci_doe_read(fn, offset, buf, size);
}

/* ---- what a write sets off ---- */

static bool touches(uint64_t offset, size_t size, unsigned at, unsigned length) {
        return at && offset < at + length && at < offset + size;
}

/* Bits as they were written; bytes that were not are 0. */
static uint32_t written(uint64_t offset, const uint8_t *bytes, size_t size, unsigned at) {
        uint32_t v = 0;

        for (unsigned i = 0; i < 4; i++)
                if (at + i >= offset && at + i < offset + size)
                        v |= (uint32_t) bytes[at + i - offset] << 8 * i;
        return v;
}

/* A stream is secure while it is enabled and has keys: status follows control. */
static void update_ide(struct sim_function *fn) {
        unsigned at = sim_find_ext_capability(fn, EXT_IDE), n = at ? cfg_ide_streams(fn->config, at) : 0;

        for (unsigned i = 0; i < n; i++) {
                unsigned block = cfg_ide_block(fn->config, at, i);
                bool secure;

                if (!block)
                        return;
                secure = i < 64 && (cfg_get32(fn->config + block + IDE_SEL_CTL) & 1) && (fn->pci->ide_keys >> i & 1);
                cfg_put32(fn->config + block + IDE_SEL_STS, (cfg_get32(fn->config + block + IDE_SEL_STS) & ~0xfu) | (secure ? 2 : 0));
        }
}

void sim_config_write(struct sim_call *c, struct sim_function *fn, uint64_t offset, const void *buf, size_t size) {
        const uint8_t *bytes = buf;
        bool was_held = fn->is_bridge && (fn->config[CFG_BRIDGE_CONTROL] & BRIDGE_CONTROL_RESET);
        unsigned at;

        if (!fn->present || offset >= fn->config_size || size > fn->config_size - offset)
                return;
        for (size_t i = 0; i < size; i++) {
                uint8_t *reg = &fn->config[offset + i], w = fn->writable[offset + i], z = fn->rw1c[offset + i];

                *reg = (uint8_t) ((*reg & ~w) | (bytes[i] & w));
                *reg &= (uint8_t) ~(bytes[i] & z);
        }
        at = sim_find_ext_capability(fn, EXT_IDE);
        if (at && offset + size > at)
                update_ide(fn);
        pci_doe_write(c, fn, offset, bytes, size);
        /* The two resets a write can ask for: the bus behind a port, and the function itself. */
        if (fn->is_bridge && !was_held && (fn->config[CFG_BRIDGE_CONTROL] & BRIDGE_CONTROL_RESET))
                pci_reset_below(c, fn);
        at = sim_find_capability(fn, CAP_EXP);
        if (at && fn->flr && touches(offset, size, at + EXP_DEVCTL, 2) && written(offset, bytes, size, at + EXP_DEVCTL) & DEVCTL_FLR)
                pci_hardware_reset(c, fn);
}

/* ---- enabling ---- */

void sim_pci_enable(struct sim_function *fn) {
        unsigned command = 0;

        if (fn->enable_count++ > 0)
                return;
        /* pci_enable_bridge(): everything above is enabled with bus master, once. */
        if (fn->bridge && fn->bridge->enable_count == 0)
                sim_pci_enable(fn->bridge);
        for (unsigned i = 0; i < SIM_BARS; i++)
                if (fn->bar[i].size)
                        command |= fn->bar[i].io ? COMMAND_IO : COMMAND_MEMORY;
        if (fn->is_bridge)
                command |= COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER;
        if (fn->present && !fn_is_vf(fn))
                cfg_put16(fn->config + CFG_COMMAND, cfg_get16(fn->config + CFG_COMMAND) | command);
}

void sim_pci_disable(struct sim_function *fn) {
        if (fn->enable_count <= 0 || --fn->enable_count > 0)
                return;
        if (fn->present)
                cfg_put16(fn->config + CFG_COMMAND, cfg_get16(fn->config + CFG_COMMAND) & ~COMMAND_MASTER);
}

/* ---- interrupts ---- */


static ssize_t show_msi(_unused_ struct sim_call *c, _unused_ struct sim_node *n, char *buf, size_t size) {
        return snprintf(buf, size, "msi\n");
}

static ssize_t show_msix(_unused_ struct sim_call *c, _unused_ struct sim_node *n, char *buf, size_t size) {
        return snprintf(buf, size, "msix\n");
}

static const struct sim_node_ops irq_msi = { .show = show_msi };
static const struct sim_node_ops irq_msix = { .show = show_msix };

static void set_enable_bits(struct sim_function *fn, unsigned n, bool msix) {
        unsigned at = sim_find_capability(fn, CAP_MSI);

        if (!fn->present)
                return;
        if (at) {
                unsigned flags = cfg_get16(fn->config + at + MSI_FLAGS) & ~(0x70u | MSI_ENABLE), log = 0;

                while (1u << log < n)
                        log++;
                cfg_put16(fn->config + at + MSI_FLAGS, n && !msix ? flags | log << 4 | MSI_ENABLE : flags);
        }
        at = sim_find_capability(fn, CAP_MSIX);
        if (at) {
                unsigned flags = cfg_get16(fn->config + at + MSIX_FLAGS) & ~(unsigned) MSIX_ENABLE;

                cfg_put16(fn->config + at + MSIX_FLAGS, n && msix ? flags | MSIX_ENABLE : flags);
        }
        /* pci_intx_for_msi() */
        if (!fn_is_vf(fn)) {
                unsigned command = cfg_get16(fn->config + CFG_COMMAND) & ~(unsigned) COMMAND_INTX_DISABLE;

                cfg_put16(fn->config + CFG_COMMAND, n ? command | COMMAND_INTX_DISABLE : command);
        }
}

void sim_msi_set(struct sim_call *c, struct sim_function *fn, unsigned n, bool msix) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct sim_pci *p = fn->pci;
        unsigned was = p->msi_count;

        if (n == was && n == 0)
                return;
        if (was) {
                struct sim_node *dir = TAKE_PTR(p->msi_irqs);

                pci_irq_free(m, p->msi_first, was);
                p->msi_count = 0;
                if (dir && fn->node && !fn->node->dead)
                        sim_remove(c, dir, NULL);
        }
        set_enable_bits(fn, n, msix);
        if (!n || !fn->node)
                return;
        p->msi_first = pci_irq_alloc(m, n);
        if (!p->msi_first)
                return; /* no more numbers than the machine has: the vectors work, sysfs does not show them */
        p->msi_count = n;
        p->msi_irqs = sim_dir(fn->node, "msi_irqs");
        for (unsigned i = 0; i < n; i++) {
                char name[16];

                snprintf(name, sizeof(name), "%u", p->msi_first + i);
                sim_file_node(p->msi_irqs, name, 0444, msix ? &irq_msix : &irq_msi, fn);
        }
}
