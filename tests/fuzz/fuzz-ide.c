/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the IDE capability: the input is config space from 0x100 on, and ends where it ends. Whatever a device says, few double
 * words are read, all of them within, and a block that was read is one that the capability has.
 */
#include "fuzz.h"
#include "model/ide.h"

struct space {
        const uint8_t *data;
        size_t size;
        unsigned reads;
};

static int read_space(void *userdata, unsigned at, uint32_t *ret) {
        struct space *s = userdata;

        must(at >= 0x100 && at <= 4092 && at % 4 == 0);
        s->reads++;
        if (at - 0x100 + 4 > s->size)
                return -ENODATA;
        memcpy(ret, s->data + (at - 0x100), 4);
        return 0;
}

static void check_block(int r, const struct ide_block *b) {
        must(r == 0 || r == -ENOENT || r == -EBADMSG || r == -ENODATA);
        if (r < 0)
                return;
        must(b->status <= 15);
        for (unsigned rid = 0; rid <= 0xffff; rid += 0x101) {
                enum ide_state state = ide_state_of(b, (uint16_t) rid);

                must(state != IDE_SECURE || (b->enabled && b->status == 2));
                must((state == IDE_OFF) == !b->enabled && state != IDE_UNKNOWN);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct space s = { data, size, 0 };
        struct ide_capability c;
        struct ide_block b;
        int r;

        r = ide_find(read_space, &s, &c);
        must(r == 0 || r == -ENOENT || r == -EBADMSG || r == -ENODATA);
        must(s.reads <= 600);
        if (r < 0)
                return 0;
        must(c.at >= 0x100 && c.at % 4 == 0 && c.n_link <= 8 && c.n_selective <= 256);
        for (unsigned i = 0; i < c.n_link + 1; i++) {
                r = ide_read_link(read_space, &s, &c, i, &b);
                must(i < c.n_link || r == -ENOENT);
                check_block(r, &b);
        }
        for (unsigned i = 0; i < c.n_selective + 1; i++) {
                s.reads = 0;
                r = ide_read_selective(read_space, &s, &c, i, &b);
                must(s.reads <= 4 + i);
                must(i < c.n_selective || r == -ENOENT);
                check_block(r, &b);
        }
        return 0;
}
