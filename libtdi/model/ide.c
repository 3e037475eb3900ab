/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The IDE extended capability. See ide.h. */
#include "model/ide.h"

#include "model/names.h"

#define CONFIG_SIZE 4096u
#define EXT_FIRST 0x100u
#define EXT_CAP_IDE 0x30u
#define CAP 4u
#define CAP_LINK 0x1u
#define CAP_SELECTIVE 0x2u
#define CAP_SELECTIVE_CONFIG 0x80u
#define CAP_TEE_LIMITED 0x1000000u
#define BLOCKS 12u /* after CAP and CTL */
#define LINK_SIZE 8u
#define SELECTIVE_SIZE 20u
#define ASSOCIATION_SIZE 12u /* address associations follow their selective block */
#define CTL 4u
#define STS 8u
#define RID_1 12u
#define RID_2 16u
#define CTL_ENABLE 0x1u
#define STS_STATE 0xfu
#define STS_FAILED 0x80000000u
#define RID_VALID 0x1u
#define STATE_SECURE 2

DEFINE_NAMES(ide_state, enum ide_state, IDE_STATE_MAX, IDE_STATE_INVALID,
             [IDE_SECURE] = "secure", [IDE_INSECURE] = "insecure", [IDE_OFF] = "off", [IDE_FAILED] = "failed",
             [IDE_MISMATCHED] = "mismatched", [IDE_UNKNOWN] = "unknown")

static int get(ide_read read, void *userdata, unsigned at, uint32_t *ret) {
        int r;

        if (at > CONFIG_SIZE - 4)
                return -EBADMSG;
        r = read(userdata, at, ret);
        return r < 0 ? r : 0;
}

int ide_find(ide_read read, void *userdata, struct ide_capability *ret) {
        struct ide_capability c = { .at = EXT_FIRST };
        uint32_t v;
        int r;

        /* The chain comes from the device: it may be a ring. */
        for (unsigned left = (CONFIG_SIZE - EXT_FIRST) / 8;; left--) {
                r = get(read, userdata, c.at, &v);
                if (r < 0)
                        return r;
                if (v == UINT32_MAX)
                        return -ENODATA;
                if (v == 0)
                        return -ENOENT;
                if ((v & 0xffff) == EXT_CAP_IDE)
                        break;
                c.at = v >> 20 & ~3u;
                if (c.at == 0)
                        return -ENOENT;
                if (c.at < EXT_FIRST || left == 0)
                        return -EBADMSG;
        }
        r = get(read, userdata, c.at + CAP, &v);
        if (r < 0)
                return r;
        if (v == UINT32_MAX)
                return -ENODATA;
        c.n_link = v & CAP_LINK ? 1 + (v >> 13 & 7) : 0;
        c.n_selective = v & CAP_SELECTIVE ? 1 + (v >> 16 & 0xff) : 0;
        c.algorithms = v >> 8 & 0x1f;
        c.selective_config = v & CAP_SELECTIVE_CONFIG;
        c.tee_limited = v & CAP_TEE_LIMITED;
        *ret = c;
        return 0;
}

const char *ide_algorithm(const struct ide_capability *c) {
        return c->algorithms == 0 ? "AES-GCM-256" : "an unknown algorithm";
}

static int read_registers(ide_read read, void *userdata, unsigned ctl, struct ide_block *b) {
        uint32_t control, status;
        int r;

        r = get(read, userdata, ctl, &control);
        if (r >= 0)
                r = get(read, userdata, ctl + STS - CTL, &status);
        if (r < 0)
                return r;
        if (control == UINT32_MAX && status == UINT32_MAX)
                return -ENODATA;
        *b = (struct ide_block){
                .enabled = control & CTL_ENABLE,
                .id = (uint8_t) (control >> 24),
                .status = status & STS_STATE,
                .integrity_failed = status & STS_FAILED,
        };
        return 0;
}

int ide_read_link(ide_read read, void *userdata, const struct ide_capability *c, unsigned index, struct ide_block *ret) {
        /* A link block is control and status only. */
        return index >= c->n_link ? -ENOENT : read_registers(read, userdata, c->at + BLOCKS + LINK_SIZE * index, ret);
}

int ide_read_selective(ide_read read, void *userdata, const struct ide_capability *c, unsigned index, struct ide_block *ret) {
        unsigned at = c->at + BLOCKS + LINK_SIZE * c->n_link;
        struct ide_block b;
        uint32_t v, w;
        int r;

        if (index >= c->n_selective)
                return -ENOENT;
        /* Each says itself how long it is. */
        for (unsigned i = 0; i < index; i++) {
                r = get(read, userdata, at, &v);
                if (r < 0)
                        return r;
                if (v == UINT32_MAX)
                        return -ENODATA;
                at += SELECTIVE_SIZE + ASSOCIATION_SIZE * (v & 0xf);
        }
        r = read_registers(read, userdata, at + CTL, &b);
        if (r >= 0)
                r = get(read, userdata, at + RID_1, &v);
        if (r >= 0)
                r = get(read, userdata, at + RID_2, &w);
        if (r < 0)
                return r;
        b.has_rids = w & RID_VALID;
        b.rid_first = (uint16_t) (w >> 8);
        b.rid_last = (uint16_t) (v >> 8);
        *ret = b;
        return 0;
}

enum ide_state ide_state_of(const struct ide_block *b, uint16_t rid) {
        if (!b->enabled)
                return IDE_OFF;
        if (b->has_rids && (rid < b->rid_first || rid > b->rid_last))
                return IDE_MISMATCHED;
        if (b->status == STATE_SECURE)
                return IDE_SECURE;
        return b->integrity_failed ? IDE_FAILED : IDE_INSECURE;
}

int ide_is_secure(enum ide_state a, enum ide_state b) {
        if (a == IDE_SECURE && b == IDE_SECURE)
                return 1;
        return (a == IDE_SECURE || a == IDE_UNKNOWN) && (b == IDE_SECURE || b == IDE_UNKNOWN) ? -1 : 0;
}
