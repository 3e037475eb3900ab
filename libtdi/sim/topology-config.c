/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Config space of a function as it is after power-up, with the capabilities that its topology asks for, and which of its bits a
 * write changes. The layout follows PCIe 6.0, 7.5 to 7.9.
 */
#include "sim/config.h"
#include "sim/topology.h"

#define CHAIN_MAX 96

struct build {
        uint8_t *c;
        unsigned at, last;         /* next free byte and last capability, of the legacy chain */
        unsigned ext, ext_last;    /* the same of the extended one */
        bool full;
};

unsigned cfg_find(const uint8_t *config, uint8_t id) {
        unsigned at = cfg_get16(config + CFG_STATUS) & STATUS_CAP_LIST ? config[CFG_CAPABILITIES] & ~3u : 0;

        for (unsigned left = CHAIN_MAX; at >= 0x40 && left > 0; left--, at = config[at + 1] & ~3u)
                if (config[at] == id)
                        return at;
        return 0;
}

unsigned cfg_find_ext(const uint8_t *config, size_t size, uint16_t id) {
        unsigned at = 0x100;

        for (unsigned left = CHAIN_MAX; at >= 0x100 && at + 4 <= size && left > 0; left--) {
                uint32_t header = cfg_get32(config + at);

                if (header == 0 || header == UINT32_MAX)
                        return 0;
                if ((header & 0xffff) == id)
                        return at;
                at = (header >> 20) & ~3u;
        }
        return 0;
}

unsigned cfg_ide_streams(const uint8_t *config, unsigned at) {
        uint32_t cap = cfg_get32(config + at + IDE_CAP);

        return cap & 2 ? 1 + ((cap >> 16) & 0xff) : 0;
}

unsigned cfg_ide_block(const uint8_t *config, unsigned at, unsigned i) {
        uint32_t cap = cfg_get32(config + at + IDE_CAP);
        unsigned block = at + IDE_BLOCKS + (cap & 1 ? 8 * (1 + ((cap >> 13) & 7)) : 0);

        /* Each block says itself how many address associations it has. */
        for (; i > 0 && block + 4 <= SIM_CONFIG_SIZE; i--)
                block += IDE_SEL_SIZE(cfg_get32(config + block) & 0xf);
        return block + IDE_SEL_SIZE(0) <= SIM_CONFIG_SIZE ? block : 0;
}

static unsigned capability(struct build *b, uint8_t id, unsigned size) {
        unsigned at = b->at;

        size = (size + 3) & ~3u;
        if (at + size > 0x100) {
                b->full = true;
                return 0;
        }
        if (b->last)
                b->c[b->last + 1] = (uint8_t) at;
        else
                b->c[CFG_CAPABILITIES] = (uint8_t) at;
        b->c[at] = id;
        b->last = at;
        b->at += size;
        return at;
}

static unsigned extended(struct build *b, uint16_t id, unsigned version, unsigned size) {
        unsigned at = b->ext;

        if (at + size > SIM_CONFIG_SIZE) {
                b->full = true;
                return 0;
        }
        if (b->ext_last)
                cfg_put32(b->c + b->ext_last, (cfg_get32(b->c + b->ext_last) & 0xfffff) | at << 20);
        cfg_put32(b->c + at, id | version << 16);
        b->ext_last = at;
        b->ext += (size + 15) & ~15u;
        return at;
}

static bool is_bridge(const struct topology_function *f) {
        return f->type == PORT_ROOT || f->type == PORT_UPSTREAM || f->type == PORT_DOWNSTREAM;
}

static void add_express(struct build *b, const struct topology_function *f) {
        bool link = f->type != PORT_RC_ENDPOINT, slot = f->type == PORT_ROOT || f->type == PORT_DOWNSTREAM;
        unsigned at = capability(b, CAP_EXP, 60);
        uint8_t *c = b->c + at;

        if (!at)
                return;
        cfg_put16(c + 2, 2u | (unsigned) f->type << 4 | (slot ? 0x100 : 0));
        /* 512-byte payloads, role-based error reporting. */
        cfg_put32(c + EXP_DEVCAP, 0x8002u | (f->flr ? DEVCAP_FLR : 0) | (f->tee_io ? DEVCAP_TEE : 0));
        cfg_put16(c + EXP_DEVCTL, 0x2810);
        if (link) {
                cfg_put32(c + EXP_LNKCAP, 0x00400005u | 16 << 4 | (unsigned) f->devfn << 24); /* 32 GT/s, x16 */
                cfg_put16(c + EXP_LNKSTA, 5 | 16 << 4);
                cfg_put16(c + EXP_LNKCTL2, 5);
        }
        if (slot) {
                cfg_put32(c + EXP_SLTCAP, (f->hotplug ? 0x60u : 0) | (unsigned) f->secondary << 19);
                cfg_put16(c + EXP_SLTSTA, 0x40);
        }
        cfg_put32(c + EXP_DEVCAP2, 0x10u | (slot ? 0x20 : 0)); /* completion timeout may be disabled; ARI forwarding */
        if (slot)
                cfg_put16(c + EXP_DEVCTL2, 0x20);
}

static void add_msi(struct build *b, const struct topology_function *f) {
        unsigned log = 0, at;

        while (1u << log < f->msi)
                log++;
        at = capability(b, CAP_MSI, f->msi > 1 ? 24 : 14);
        if (at)
                cfg_put16(b->c + at + MSI_FLAGS, 0x80 | log << 1 | (f->msi > 1 ? 0x100 : 0));
}

static void add_msix(struct build *b, const struct topology_function *f) {
        unsigned bar = 0, at = capability(b, CAP_MSIX, 12);

        if (!at)
                return;
        /* The last memory BAR has the table: the first is usually the registers. */
        for (unsigned i = 0; i < SIM_BARS; i++)
                if (f->bar[i].size && !f->bar[i].io)
                        bar = i;
        cfg_put16(b->c + at + MSIX_FLAGS, f->msix - 1);
        cfg_put32(b->c + at + 4, bar);
        /* Beyond a table of any size that fits, or in the second half. */
        cfg_put32(b->c + at + 8, bar | (uint32_t) ((f->msix * 16 + 0xfff) & ~0xfffu));
        if (f->bar[bar].size < ((f->msix * 16 + 0xfff) & ~0xfffu) + 0x1000)
                cfg_put32(b->c + at + 8, bar | (uint32_t) (f->bar[bar].size / 2));
}

static uint32_t bar_bits(const struct topology_bar *bar) {
        return bar->io ? 1 : (bar->wide ? 4u : 0) | (bar->prefetchable ? 8u : 0);
}

static void add_sriov(struct build *b, const struct topology_function *f) {
        unsigned at = extended(b, EXT_SRIOV, 1, 0x40);
        uint8_t *c = b->c + at;

        if (!at)
                return;
        cfg_put16(c + 0x0c, f->vf_total);
        cfg_put16(c + 0x0e, f->vf_total);
        c[0x12] = f->devfn & 7;
        cfg_put16(c + 0x14, f->vf_offset);
        cfg_put16(c + 0x16, f->vf_stride);
        cfg_put16(c + SRIOV_VF_DEVICE, f->vf->device);
        cfg_put32(c + 0x1c, 0x553); /* page sizes */
        cfg_put32(c + 0x20, 1);
        for (unsigned i = 0; i < SIM_BARS; i++) {
                const struct topology_bar *bar = &f->vf_bar[i];

                if (!bar->size)
                        continue;
                cfg_put32(c + SRIOV_BAR + 4UL * i, (uint32_t) bar->address | bar_bits(bar));
                if (bar->wide)
                        cfg_put32(c + SRIOV_BAR + 4UL * i + 4, (uint32_t) (bar->address >> 32));
        }
}

static void add_ide(struct build *b, const struct topology_function *f) {
        const struct topology_ide *ide = &f->ide;
        unsigned at, block;

        at = extended(b, EXT_IDE, 1, IDE_BLOCKS + 8 * ide->links + ide->streams * IDE_SEL_SIZE(ide->addresses));
        if (!at)
                return;
        /* Selective streams, config requests, TEE-limited streams; link streams where asked for. */
        cfg_put32(b->c + at + IDE_CAP, 2u | (ide->links ? 1u : 0) | 0x80 | 0x1000000u | (ide->links ? (ide->links - 1) << 13 : 0) |
                                               (ide->streams - 1) << 16);
        block = at + IDE_BLOCKS + 8 * ide->links;
        for (unsigned i = 0; i < ide->streams; i++, block += IDE_SEL_SIZE(ide->addresses))
                cfg_put32(b->c + block, ide->addresses);
}

static void add_extended(struct build *b, const struct topology_function *f) {
        unsigned at;

        if (f->aer && !f->is_vf) {
                at = extended(b, EXT_AER, 2, 0x48);
                if (at) {
                        cfg_put32(b->c + at + AER_UNCOR_SEVERITY, 0x00462030);
                        cfg_put32(b->c + at + AER_COR_MASK, 0x2000);
                        cfg_put32(b->c + at + AER_CAP, 0xa0);
                }
        }
        if (f->serial) {
                at = extended(b, EXT_DSN, 1, 12);
                if (at) {
                        cfg_put32(b->c + at + 4, (uint32_t) f->serial);
                        cfg_put32(b->c + at + 8, (uint32_t) (f->serial >> 32));
                }
        }
        if (f->acs) {
                at = extended(b, EXT_ACS, 1, 8);
                if (at)
                        cfg_put16(b->c + at + 4, is_bridge(f) ? 0x5f : 0x5c);
                /* pci_enable_acs() turns it on while the kernel boots with an IOMMU. */
                if (at)
                        cfg_put16(b->c + at + ACS_CTRL, is_bridge(f) ? 0x1d : 0x1c);
        }
        if (f->ari || f->is_vf || f->vf_total)
                extended(b, EXT_ARI, 1, 8);
        if (f->vf_total)
                add_sriov(b, f);
        if (f->doe)
                extended(b, EXT_DOE, 1, 0x18);
        if (f->ide.streams)
                add_ide(b, f);
}

static void put_bars(const struct topology_function *f, uint8_t *c) {
        for (unsigned i = 0; i < (is_bridge(f) ? 2u : SIM_BARS); i++) {
                const struct topology_bar *bar = &f->bar[i];

                if (!bar->size)
                        continue;
                cfg_put32(c + CFG_BAR + 4UL * i, (uint32_t) bar->address | bar_bits(bar));
                if (bar->wide)
                        cfg_put32(c + CFG_BAR + 4UL * i + 4, (uint32_t) (bar->address >> 32));
        }
}

static void put_bridge(const struct topology_function *f, uint8_t *c) {
        const struct topology_window *m = &f->memory, *p = &f->prefetch, *io = &f->io;

        c[CFG_PRIMARY] = f->bus;
        c[CFG_SECONDARY] = f->secondary;
        c[CFG_SUBORDINATE] = f->subordinate;
        c[CFG_IO_BASE] = io->start > io->end ? 0xf1 : (uint8_t) ((io->start >> 8 & 0xf0) | 1);
        c[CFG_IO_LIMIT] = io->start > io->end ? 0x01 : (uint8_t) ((io->end >> 8 & 0xf0) | 1);
        cfg_put16(c + CFG_MEMORY_BASE, m->start > m->end ? 0xfff0 : m->start >> 16 & 0xfff0);
        cfg_put16(c + CFG_MEMORY_BASE + 2, m->start > m->end ? 0 : m->end >> 16 & 0xfff0);
        cfg_put16(c + CFG_PREF_BASE, p->start > p->end ? 0xfff1 : (p->start >> 16 & 0xfff0) | 1);
        cfg_put16(c + CFG_PREF_BASE + 2, p->start > p->end ? 1 : (p->end >> 16 & 0xfff0) | 1);
        cfg_put32(c + CFG_PREF_BASE_HIGH, p->start > p->end ? 0xffffffff : (uint32_t) (p->start >> 32));
        cfg_put32(c + CFG_PREF_BASE_HIGH + 4, p->start > p->end ? 0 : (uint32_t) (p->end >> 32));
        cfg_put16(c + CFG_BRIDGE_CONTROL, 0x0003);
}

static bool has_bar(const struct topology_function *f, bool io) {
        for (unsigned i = 0; i < SIM_BARS; i++)
                if (f->bar[i].size && f->bar[i].io == io)
                        return true;
        return false;
}

int topology_config(const struct topology_function *f, const struct topology_function *pf, uint8_t config[SIM_CONFIG_SIZE],
                    size_t *ret_size) {
        struct build b = { .c = config, .at = 0x40, .ext = 0x100 };

        memset(config, 0, SIM_CONFIG_SIZE);
        if (f->raw) {
                memcpy(config, f->raw, SIM_CONFIG_SIZE);
                put_bars(f, config);
                *ret_size = f->raw_size;
                return 0;
        }
        /* A VF answers neither ids nor memory-enable (PCIe 9.3.4.1): its PF's capability says what it is. */
        cfg_put16(config + CFG_VENDOR, f->is_vf ? 0xffff : f->vendor);
        cfg_put16(config + CFG_DEVICE, f->is_vf ? 0xffff : f->device);
        cfg_put16(config + CFG_STATUS, STATUS_CAP_LIST);
        config[CFG_REVISION] = f->revision;
        config[CFG_CLASS] = (uint8_t) f->class;
        config[CFG_CLASS + 1] = (uint8_t) (f->class >> 8);
        config[CFG_CLASS + 2] = (uint8_t) (f->class >> 16);
        config[CFG_HEADER] = (uint8_t) ((is_bridge(f) ? 1 : 0) | (f->multifunction ? 0x80 : 0));
        if (!f->is_vf) {
                /* As the firmware leaves it. */
                cfg_put16(config + CFG_COMMAND, (has_bar(f, true) ? COMMAND_IO : 0) | (has_bar(f, false) ||
                                                                                       is_bridge(f) ? COMMAND_MEMORY : 0));
                put_bars(f, config);
        }
        if (is_bridge(f))
                put_bridge(f, config);
        else {
                cfg_put16(config + CFG_SUBSYSTEM, f->subvendor ? f->subvendor : pf ? pf->subvendor : 0);
                cfg_put16(config + CFG_SUBSYSTEM + 2, f->subvendor ? f->subdevice : pf ? pf->subdevice : 0);
        }
        if (f->intx && !f->is_vf) {
                config[CFG_INT_PIN] = (uint8_t) (1 + (f->devfn & 3));
                config[CFG_INT_LINE] = 10;
        }
        if (f->pm && !f->is_vf) {
                unsigned at = capability(&b, CAP_PM, 8);

                cfg_put16(config + at + 2, 0x0003);
                cfg_put16(config + at + PM_CTRL, 0x0008); /* no soft reset: D3hot keeps everything */
        }
        if (f->msi)
                add_msi(&b, f);
        if (f->msix)
                add_msix(&b, f);
        *ret_size = 256;
        if (f->type != SIM_CONVENTIONAL) {
                add_express(&b, f);
                add_extended(&b, f);
                *ret_size = SIM_CONFIG_SIZE;
        }
        if (!b.last)
                cfg_put16(config + CFG_STATUS, 0);
        return b.full ? -E2BIG : 0;
}

/* ---- config space that was given ---- */

static int decode_chains(const struct topology_function *f, struct topology_why *why) {
        const uint8_t *c = f->raw;
        unsigned at = cfg_get16(c + CFG_STATUS) & STATUS_CAP_LIST ? c[CFG_CAPABILITIES] & ~3u : 0, left;

        for (left = 48; at && left > 0; left--) {
                if (at < 0x40)
                        return topology_bad_function(why, f, "config", "a capability at %#x, in the header", at);
                /* What the kernel itself reads of it must be there. */
                if ((c[at] == CAP_EXP && at + 60 > 0x100) || (c[at] == CAP_MSI && at + 24 > 0x100) ||
                    (c[at] == CAP_MSIX && at + 12 > 0x100) ||
                    at + 8 > 0x100)
                        return topology_bad_function(why, f, "config", "the capability at %#x does not end before 0x100", at);
                at = c[at + 1] & ~3u;
        }
        if (at)
                return topology_bad_function(why, f, "config", "the list of capabilities has no end");
        if (f->raw_size <= 256)
                return 0;
        for (at = 0x100, left = CHAIN_MAX; at && left > 0; left--) {
                uint32_t header = cfg_get32(c + at);

                if (at == 0x100 && (header == 0 || header == UINT32_MAX))
                        return 0;
                if (at < 0x100 || at + 0x48 > SIM_CONFIG_SIZE)
                        return topology_bad_function(why, f, "config", "an extended capability at %#x", at);
                at = (header >> 20) & ~3u;
        }
        if (at)
                return topology_bad_function(why, f, "config", "the list of extended capabilities has no end");
        return 0;
}

int topology_config_decode(struct topology_function *f, struct topology_why *why) {
        const uint8_t *c = f->raw;
        unsigned at;
        int r;

        if (c[CFG_HEADER] & 0x7f)
                return topology_bad_function(why, f, "config", "header type %u: only functions can be given so, not bridges",
                                             c[CFG_HEADER] & 0x7f);
        r = decode_chains(f, why);
        if (r < 0)
                return r;
        f->vendor = cfg_get16(c + CFG_VENDOR);
        f->device = cfg_get16(c + CFG_DEVICE);
        f->subvendor = cfg_get16(c + CFG_SUBSYSTEM);
        f->subdevice = cfg_get16(c + CFG_SUBSYSTEM + 2);
        f->revision = c[CFG_REVISION];
        f->class = cfg_get32(c + CFG_REVISION) >> 8;
        f->intx = c[CFG_INT_PIN] != 0;
        f->pm = cfg_find(c, CAP_PM) != 0;
        at = cfg_find(c, CAP_MSI);
        f->msi = at ? 1u << ((cfg_get16(c + at + MSI_FLAGS) >> 1) & 7) : 0;
        if (f->msi > 32)
                return topology_bad_function(why, f, "config", "MSI with %u vectors", f->msi);
        at = cfg_find(c, CAP_MSIX);
        f->msix = at ? 1u + (cfg_get16(c + at + MSIX_FLAGS) & 0x7ff) : 0;
        at = cfg_find(c, CAP_EXP);
        f->type = SIM_CONVENTIONAL;
        if (at) {
                f->type = (uint8_t) ((cfg_get16(c + at + 2) >> 4) & 0xf);
                f->flr = cfg_get32(c + at + EXP_DEVCAP) & DEVCAP_FLR;
                f->tee_io = cfg_get32(c + at + EXP_DEVCAP) & DEVCAP_TEE;
                if (f->type != PORT_ENDPOINT && f->type != PORT_LEGACY_ENDPOINT && f->type != PORT_RC_ENDPOINT)
                        return topology_bad_function(why, f, "config", "device type %u: only endpoints can be given so", f->type);
        }
        f->aer = cfg_find_ext(c, f->raw_size, EXT_AER) != 0;
        f->acs = cfg_find_ext(c, f->raw_size, EXT_ACS) != 0;
        f->doe = cfg_find_ext(c, f->raw_size, EXT_DOE) != 0;
        if (cfg_find_ext(c, f->raw_size, EXT_SRIOV))
                return topology_bad_function(why, f, "config", "has SR-IOV: virtual functions need a generated config space");
        at = cfg_find_ext(c, f->raw_size, EXT_IDE);
        f->ide = (struct topology_ide){};
        if (at) {
                f->ide.streams = cfg_ide_streams(c, at);
                if (f->ide.streams && !cfg_ide_block(c, at, f->ide.streams - 1))
                        return topology_bad_function(why, f, "config", "the IDE capability has more streams than there is room for");
        }
        return 0;
}

/* ---- masks ---- */

static void mask16(uint8_t *w, unsigned at, unsigned bits) {
        w[at] |= (uint8_t) bits;
        w[at + 1] |= (uint8_t) (bits >> 8);
}

static void mask32(uint8_t *w, unsigned at, uint32_t bits) {
        mask16(w, at, bits & 0xffff);
        mask16(w, at + 2, bits >> 16);
}

static void mask_header(const struct topology_function *f, uint8_t *w, uint8_t *z) {
        mask16(w, CFG_COMMAND, f->is_vf ? COMMAND_MASTER : 0x0547u);
        mask16(z, CFG_STATUS, 0xf900);
        w[0x0c] = f->is_vf ? 0 : 0xff; /* cache line */
        if (f->is_vf)
                return;
        w[CFG_INT_LINE] = 0xff;
        for (unsigned i = 0; i < (is_bridge(f) ? 2u : SIM_BARS); i++) {
                uint64_t mask = ~(f->bar[i].size - 1);

                if (!f->bar[i].size)
                        continue;
                mask32(w, CFG_BAR + 4 * i, (uint32_t) mask & (f->bar[i].io ? 0xfffffffcu : 0xfffffff0u));
                if (f->bar[i].wide)
                        mask32(w, CFG_BAR + 4 * i + 4, (uint32_t) (mask >> 32));
        }
        if (!is_bridge(f))
                return;
        mask32(w, CFG_PRIMARY, 0xffffffff);
        mask16(w, CFG_IO_BASE, 0xf0f0);
        mask16(z, 0x1e, 0xf900);
        mask32(w, CFG_MEMORY_BASE, 0xfff0fff0);
        mask32(w, CFG_PREF_BASE, 0xfff0fff0);
        mask32(w, CFG_PREF_BASE_HIGH, 0xffffffff);
        mask32(w, CFG_PREF_BASE_HIGH + 4, 0xffffffff);
        mask16(w, CFG_BRIDGE_CONTROL, 0x0f7f);
}

static void mask_capabilities(const struct topology_function *f, const uint8_t *c, uint8_t *w, uint8_t *z) {
        unsigned at = cfg_find(c, CAP_PM);

        if (at) {
                mask16(w, at + PM_CTRL, 0x0103);
                mask16(z, at + PM_CTRL, 0x8000);
        }
        at = cfg_find(c, CAP_MSI);
        if (at) {
                unsigned flags = cfg_get16(c + at + MSI_FLAGS), wide = flags & 0x80 ? 4 : 0;

                mask16(w, at + MSI_FLAGS, 0x71);
                mask32(w, at + 4, 0xfffffffc);
                if (wide)
                        mask32(w, at + 8, 0xffffffff);
                mask16(w, at + 8 + wide, 0xffff);
                if (flags & 0x100)
                        mask32(w, at + 12 + wide, 0xffffffff);
        }
        at = cfg_find(c, CAP_MSIX);
        if (at)
                mask16(w, at + MSIX_FLAGS, 0xc000);
        at = cfg_find(c, CAP_EXP);
        if (!at)
                return;
        mask16(w, at + EXP_DEVCTL, 0x7fff); /* the FLR bit reads as 0 and acts by itself */
        mask16(z, at + EXP_DEVSTA, 0x000f);
        mask16(w, at + EXP_LNKCTL, 0x0fdb);
        mask16(z, at + EXP_LNKSTA, 0xc000);
        mask16(w, at + EXP_DEVCTL2, 0xffff);
        mask16(w, at + EXP_LNKCTL2, 0x1fff);
        if (f->type == PORT_ROOT || f->type == PORT_DOWNSTREAM) {
                mask16(w, at + EXP_SLTCTL, 0x1fff);
                mask16(z, at + EXP_SLTSTA, 0x011f);
        }
        if (f->type == PORT_ROOT) {
                mask16(w, at + EXP_RTCTL, 0x001f);
                mask32(z, at + EXP_RTSTA, 0x00010000);
        }
}

static void mask_extended(const struct topology_function *f, const uint8_t *c, size_t size, uint8_t *w, uint8_t *z) {
        unsigned at = cfg_find_ext(c, size, EXT_AER);

        if (at) {
                mask32(z, at + AER_UNCOR, 0x07fff030);
                mask32(w, at + AER_UNCOR_MASK, 0x07fff030);
                mask32(w, at + AER_UNCOR_SEVERITY, 0x07fff030);
                mask32(z, at + AER_COR, 0x0000f1c1);
                mask32(w, at + AER_COR_MASK, 0x0000f1c1);
                mask32(w, at + AER_CAP, 0x00000140);
                if (f->type == PORT_ROOT) {
                        mask32(w, at + AER_ROOT_COMMAND, 7);
                        mask32(z, at + AER_ROOT_STATUS, 0x7f);
                }
        }
        at = cfg_find_ext(c, size, EXT_ACS);
        if (at)
                mask16(w, at + ACS_CTRL, cfg_get16(c + at + 4) & 0x7f);
        at = cfg_find_ext(c, size, EXT_SRIOV);
        if (at) {
                mask16(w, at + SRIOV_CTRL, 0x001f);
                mask16(w, at + SRIOV_NUM_VF, 0xffff);
                mask32(w, at + 0x20, 0x553);
                for (unsigned i = 0; i < SIM_BARS && f->vf; i++) {
                        uint64_t mask = ~(f->vf->bar[i].size - 1);

                        if (!f->vf->bar[i].size)
                                continue;
                        mask32(w, at + SRIOV_BAR + 4 * i, (uint32_t) mask & 0xfffffff0u);
                        if (f->vf->bar[i].wide)
                                mask32(w, at + SRIOV_BAR + 4 * i + 4, (uint32_t) (mask >> 32));
                }
        }
        at = cfg_find_ext(c, size, EXT_IDE);
        if (at) {
                unsigned n = cfg_ide_streams(c, at);

                mask32(w, at + 8, 4); /* flow-through */
                for (unsigned i = 0; i < n; i++) {
                        unsigned block = cfg_ide_block(c, at, i);

                        if (!block)
                                break;
                        mask32(w, block + IDE_SEL_CTL, 0xfffffffd);
                        mask32(z, block + IDE_SEL_STS, 0x80000000);
                        mask32(w, block + IDE_SEL_RID1, 0x00ffff00);
                        mask32(w, block + IDE_SEL_RID2, 0xffffff01);
                        for (unsigned a = 0; a < (cfg_get32(c + block) & 0xf) && block + IDE_SEL_SIZE(a + 1) <= size; a++) {
                                mask32(w, block + IDE_SEL_SIZE(a), 0xffffff01);
                                mask32(w, block + IDE_SEL_SIZE(a) + 4, 0xffffffff);
                                mask32(w, block + IDE_SEL_SIZE(a) + 8, 0xffffffff);
                        }
                }
        }
        at = cfg_find_ext(c, size, EXT_DOE);
        if (at) {
                mask32(w, at + DOE_CTRL, 2);
                mask32(z, at + DOE_STATUS, 2);
        }
}

void topology_config_masks(const struct topology_function *f, const uint8_t config[SIM_CONFIG_SIZE], size_t size,
                           uint8_t writable[SIM_CONFIG_SIZE],
                           uint8_t rw1c[SIM_CONFIG_SIZE]) {
        memset(writable, 0, SIM_CONFIG_SIZE);
        memset(rw1c, 0, SIM_CONFIG_SIZE);
        mask_header(f, writable, rw1c);
        mask_capabilities(f, config, writable, rw1c);
        if (size > 256)
                mask_extended(f, config, size, writable, rw1c);
}
