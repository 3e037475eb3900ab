/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The config space that a VFIO user sees: what is read from hardware, what is only remembered, what may be written, and which
 * capabilities are not there. It behaves as drivers/vfio/pci/vfio_pci_config.c does: reads and writes are cut into aligned pieces that
 * lie in one capability; a few registers act when they are written (COMMAND, PM, FLR, MSI).
 */
#include "sim/vfio-config.h"

uint16_t vfio_get16(struct sim_function *fn, unsigned offset) {
        uint16_t v;

        sim_config_read(fn, offset, &v, sizeof(v));
        return v;
}

uint32_t vfio_get32(struct sim_function *fn, unsigned offset) {
        uint32_t v;

        sim_config_read(fn, offset, &v, sizeof(v));
        return v;
}

void vfio_put16(struct sim_call *c, struct sim_function *fn, unsigned offset, uint16_t value) {
        sim_config_write(c, fn, offset, &value, sizeof(value));
}

uint16_t vfio_config_command(const struct sim_vfio *v) {
        return v->config ? config_value16(v->config, PCI_COMMAND) : 0;
}

bool vfio_config_has_intx(const struct sim_vfio *v) {
        return v->config && v->config->value[PCI_INTERRUPT_PIN];
}

/* ---- BARs ---- */

static bool is_bar(unsigned at) {
        return (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_5 + 4) || (at >= PCI_ROM_ADDRESS && at < PCI_ROM_ADDRESS + 4);
}

/* vfio_bar_fixup(): what was written reads back as a BAR of the function's size would. */
static void fix_bars(struct sim_vfio *v) {
        struct vfio_config *g = v->config;

        if (!g->bars_written)
                return;
        for (unsigned i = 0; i < SIM_BARS; i++) {
                const struct sim_bar *bar = &v->fn->bar[i];
                uint64_t mask = ~(bar->size - 1);
                uint32_t low, high, flags = bar->io ? PCI_BASE_ADDRESS_SPACE_IO : 0;

                memcpy(&low, g->value + PCI_BASE_ADDRESS_0 + 4UL * i, 4);
                if (!bar->io && bar->prefetchable)
                        flags |= PCI_BASE_ADDRESS_MEM_PREFETCH;
                if (!bar->io && bar->wide)
                        flags |= PCI_BASE_ADDRESS_MEM_TYPE_64;
                low = bar->size ? (low & (uint32_t) mask) | flags : 0;
                memcpy(g->value + PCI_BASE_ADDRESS_0 + 4UL * i, &low, 4);
                if (!bar->size || !(flags & PCI_BASE_ADDRESS_MEM_TYPE_64) || i + 1 == SIM_BARS)
                        continue;
                i++;
                memcpy(&high, g->value + PCI_BASE_ADDRESS_0 + 4UL * i, 4);
                high &= (uint32_t) (mask >> 32);
                memcpy(g->value + PCI_BASE_ADDRESS_0 + 4UL * i, &high, 4);
        }
        memset(g->value + PCI_ROM_ADDRESS, 0, 4); /* no ROM */
        g->bars_written = false;
}

static bool bars_were_lost(struct sim_vfio *v) {
        for (unsigned i = 0; i < 6; i++)
                if (v->config->bars[i] && vfio_get32(v->fn, PCI_BASE_ADDRESS_0 + 4UL * i) != v->config->bars[i])
                        return true;
        return false;
}

/* vfio_bar_restore() */
static void restore_bars(struct sim_call *c, struct sim_vfio *v) {
        if (v->fn->physfn)
                return;
        sim_log(v->sim, "vfio-pci %s: vfio_bar_restore: reset recovery - restoring BARs", v->fn->bdf);
        for (unsigned i = 0; i < 6; i++)
                sim_config_write(c, v->fn, PCI_BASE_ADDRESS_0 + 4UL * i, &v->config->bars[i], 4);
        sim_config_write(c, v->fn, PCI_ROM_ADDRESS, &v->config->bars[6], 4);
}

/* ---- one piece ---- */

/* pci_user_read_config_*() and _write_: they wait while the function is being reset. */
static void user_read(struct sim_call *c, struct sim_vfio *v, unsigned at, void *buf, size_t size) {
        sim_down_read(c, &v->fn->config_lock);
        sim_config_read(v->fn, at, buf, size);
        sim_up_read(c, &v->fn->config_lock);
}

static void user_write(struct sim_call *c, struct sim_vfio *v, unsigned at, const void *buf, size_t size) {
        sim_down_read(c, &v->fn->config_lock);
        sim_config_write(c, v->fn, at, buf, size);
        sim_up_read(c, &v->fn->config_lock);
}

/* vfio_default_config_write(): kept bits are remembered, the others reach the hardware. */
static void write_default(struct sim_call *c, struct sim_vfio *v, unsigned at, const uint8_t *data, size_t size) {
        struct vfio_config *g = v->config;
        uint8_t hardware[4];
        bool reaches = false;

        for (size_t i = 0; i < size; i++) {
                uint8_t kept = g->writable[at + i] & g->kept[at + i];

                g->value[at + i] = (uint8_t) ((g->value[at + i] & ~kept) | (data[i] & kept));
                reaches = reaches || g->writable[at + i] & (uint8_t) ~g->kept[at + i];
        }
        if (!reaches || size > sizeof(hardware))
                return;
        user_read(c, v, at, hardware, size);
        for (size_t i = 0; i < size; i++) {
                uint8_t passed = g->writable[at + i] & (uint8_t) ~g->kept[at + i];

                hardware[i] = (uint8_t) ((hardware[i] & ~passed) | (data[i] & passed));
        }
        user_write(c, v, at, hardware, size);
}

/* A reset that was asked for in config space: nobody learns whether it could be made. */
static void flr(struct sim_call *c, struct sim_vfio *v) {
        sim_down_write(c, &v->memory_lock);
        vfio_dmabufs_move(c, v, true);
        (void) vfio_try_reset(c, v->fn);
        if (vfio_memory_enabled(v))
                vfio_dmabufs_move(c, v, false);
        sim_up_write(c, &v->memory_lock);
}

/* vfio_basic_config_write() */
static void write_header(struct sim_call *c, struct sim_vfio *v, unsigned at, const uint8_t *data, size_t size) {
        const uint16_t decode = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
        struct vfio_config *g = v->config;
        uint16_t command = data[0], hardware, believed = config_value16(g, PCI_COMMAND);
        bool disabled;

        if (at == PCI_COMMAND) {
                if (size > 1)
                        command = (uint16_t) (command | data[1] << 8);
                user_read(c, v, PCI_COMMAND, &hardware, sizeof(hardware));
                sim_down_write(c, &v->memory_lock);
                if (!(command & PCI_COMMAND_MEMORY))
                        vfio_dmabufs_move(c, v, true);
                /* What should be on is off: the function was reset by a way that vfio-pci does not know. */
                if ((command & believed & PCI_COMMAND_MEMORY && !(hardware & PCI_COMMAND_MEMORY) && !v->fn->physfn) ||
                    (command & believed & PCI_COMMAND_IO && !(hardware & PCI_COMMAND_IO)) || bars_were_lost(v))
                        restore_bars(c, v);
        }
        write_default(c, v, at, data, size);
        if (at == PCI_COMMAND) {
                config_set16(g, PCI_COMMAND, (uint16_t) ((config_value16(g, PCI_COMMAND) & ~decode) | (command & decode)));
                if (vfio_memory_enabled(v))
                        vfio_dmabufs_move(c, v, false);
                sim_up_write(c, &v->memory_lock);
        }
        if (at >= PCI_COMMAND && at <= PCI_COMMAND + 1) {
                disabled = config_value16(g, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
                if (disabled && !v->virq_disabled) {
                        v->virq_disabled = true;
                        vfio_intx_mask(c, v);
                } else if (!disabled && v->virq_disabled) {
                        v->virq_disabled = false;
                        vfio_intx_unmask(c, v);
                }
        }
        if (is_bar(at))
                g->bars_written = true;
}

/* vfio_lock_and_set_power_state() */
static void write_power(struct sim_call *c, struct sim_vfio *v, unsigned state) {
        sim_down_write(c, &v->memory_lock);
        if (state == 3)
                vfio_dmabufs_move(c, v, true);
        (void) vfio_set_power(c, v, state);
        if (vfio_memory_enabled(v))
                vfio_dmabufs_move(c, v, false);
        sim_up_write(c, &v->memory_lock);
}

/* vfio_exp_config_write() */
static void write_express(struct sim_call *c, struct sim_vfio *v, const struct cap *cap, unsigned at, const uint8_t *data, size_t size) {
        struct vfio_config *g = v->config;
        unsigned place = cap->start + PCI_EXP_DEVCTL, least, wanted;
        uint16_t before = config_value16(g, place), control, hardware;

        write_default(c, v, at, data, size);
        control = config_value16(g, place);
        if (control & PCI_EXP_DEVCTL_BCR_FLR) {
                config_set16(g, place, (uint16_t) (control & ~PCI_EXP_DEVCTL_BCR_FLR));
                if (vfio_get32(v->fn, cap->start + PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR)
                        flr(c, v);
        }
        if (((before ^ control) & PCI_EXP_DEVCTL_READRQ) == 0)
                return;
        /* Requests may not be shorter than the packets that the function was set up for. */
        hardware = vfio_get16(v->fn, place);
        least = (hardware & PCI_EXP_DEVCTL_PAYLOAD) >> 5;
        wanted = (control & PCI_EXP_DEVCTL_READRQ) >> 12;
        if (wanted < least)
                wanted = least;
        vfio_put16(c, v->fn, place, (uint16_t) ((hardware & ~PCI_EXP_DEVCTL_READRQ) | wanted << 12));
}

/* vfio_msi_config_write(): MSI is switched on by SET_IRQS only. */
static void write_msi(struct sim_call *c, struct sim_vfio *v, unsigned at, const uint8_t *data, size_t size) {
        struct vfio_config *g = v->config;
        unsigned place = g->msi + PCI_MSI_FLAGS;
        uint16_t flags;

        write_default(c, v, at, data, size);
        if (at > place || at + size < place)
                return;
        flags = config_value16(g, place);
        if (v->irq_type != TDI_VFIO_PCI_MSI_IRQ_INDEX)
                flags &= (uint16_t) ~PCI_MSI_FLAGS_ENABLE;
        if ((unsigned) (flags & PCI_MSI_FLAGS_QSIZE) >> 4 > v->msi_qmax)
                flags = (uint16_t) ((flags & ~PCI_MSI_FLAGS_QSIZE) | v->msi_qmax << 4);
        config_set16(g, place, flags);
        vfio_put16(c, v->fn, place, flags);
}

static void write_piece(struct sim_call *c, struct sim_vfio *v, unsigned at, const uint8_t *data, size_t size) {
        struct vfio_config *g = v->config;
        const struct cap *cap;

        if (g->of[at] == NO_CAP) {
                user_write(c, v, at, data, size);
                return;
        }
        cap = &g->cap[g->of[at]];
        if (cap->raw) {
                user_write(c, v, at, data, size);
        } else if (g->of[at] == HEADER) {
                write_header(c, v, at, data, size);
        } else if (cap->extended) {
                write_default(c, v, at, data, size);
        } else if (cap->id == PCI_CAP_ID_PM) {
                write_default(c, v, at, data, size);
                if (at == (unsigned) cap->start + PCI_PM_CTRL)
                        write_power(c, v, data[0] & PCI_PM_CTRL_STATE_MASK);
        } else if (cap->id == PCI_CAP_ID_EXP) {
                write_express(c, v, cap, at, data, size);
        } else if (cap->id == PCI_CAP_ID_AF) {
                uint8_t *control = &g->value[cap->start + PCI_AF_CTRL], caps = v->fn->config[cap->start + PCI_AF_CAP];

                write_default(c, v, at, data, size);
                if (*control & PCI_AF_CTRL_FLR) {
                        *control &= (uint8_t) ~PCI_AF_CTRL_FLR;
                        if (caps & PCI_AF_CAP_FLR && caps & PCI_AF_CAP_TP)
                                flr(c, v);
                }
        } else if (cap->id == PCI_CAP_ID_MSI) {
                write_msi(c, v, at, data, size);
        } else {
                /* Of the VPD only the registers are kept: there is none behind them, so an access never completes. */
                write_default(c, v, at, data, size);
        }
}

static void read_piece(struct sim_call *c, struct sim_vfio *v, unsigned at, uint8_t *buf, size_t size) {
        struct vfio_config *g = v->config;
        bool known = g->of[at] != NO_CAP;

        if (known && g->of[at] == HEADER && is_bar(at))
                fix_bars(v);
        for (size_t i = 0; i < size && known; i++)
                known = g->kept[at + i] == 0xff;
        /* What is only kept is there whatever the function does. */
        if (known)
                memcpy(buf, g->value + at, size);
        else
                user_read(c, v, at, buf, size);
        if (g->of[at] == NO_CAP)
                return;
        for (size_t i = 0; i < size; i++)
                buf[i] = (uint8_t) ((buf[i] & ~g->kept[at + i]) | (g->value[at + i] & g->kept[at + i]));
        /* A VF has no bit for it: what was written is what is read. */
        if (at == PCI_COMMAND && v->fn->physfn)
                buf[0] |= g->value[PCI_COMMAND] & PCI_COMMAND_MEMORY;
}

/* Aligned, at most 4 bytes, of one capability (vfio_pci_config_rw_single). */
static size_t piece_size(const struct vfio_config *g, uint64_t at, size_t size) {
        size_t n = 1;

        while (n < size && (at + n) % 4 != 0 && g->of[at + n] == g->of[at])
                n++;
        if (n >= 4 && at % 4 == 0)
                return 4;
        return n >= 2 && at % 2 == 0 ? 2 : 1;
}

ssize_t vfio_config_read(struct sim_call *c, struct sim_vfio *v, void *buf, size_t size, uint64_t offset) {
        size_t done = 0;

        while (done < size) {
                uint64_t at = offset + done;
                size_t n;

                if (at >= v->config->size || size - done > v->config->size - at)
                        return -EFAULT;
                n = piece_size(v->config, at, size - done);
                read_piece(c, v, (unsigned) at, (uint8_t *) buf + done, n);
                done += n;
        }
        return (ssize_t) done;
}

ssize_t vfio_config_write(struct sim_call *c, struct sim_vfio *v, const void *buf, size_t size, uint64_t offset) {
        size_t done = 0;

        while (done < size) {
                uint64_t at = offset + done;
                size_t n;

                if (at >= v->config->size || size - done > v->config->size - at)
                        return -EFAULT;
                n = piece_size(v->config, at, size - done);
                write_piece(c, v, (unsigned) at, (const uint8_t *) buf + done, n);
                done += n;
        }
        return (ssize_t) done;
}
