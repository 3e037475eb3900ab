/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The IDE capability: where it is found, what its blocks say, and config space that ends, cannot be read, or leads in circles. */
#include "model/ide.h"
#include "test.h"

#define AT 0x140u

static uint8_t config[4096];
static size_t readable;
static unsigned reads;

static int read_config(_unused_ void *userdata, unsigned at, uint32_t *ret) {
        reads++;
        check_int(at & 3, 0);
        if (at + 4 > readable)
                return -ENODATA;
        *ret = config[at] | (uint32_t) config[at + 1] << 8 | (uint32_t) config[at + 2] << 16 | (uint32_t) config[at + 3] << 24;
        return 0;
}

static void put(unsigned at, uint32_t v) {
        for (unsigned i = 0; i < 4; i++)
                config[at + i] = (uint8_t) (v >> 8 * i);
}

/* Two link streams, three selective ones with 0, 2 and 1 address associations; AER stands before it. */
static void make(void) {
        memset(config, 0, sizeof(config));
        readable = sizeof(config);
        reads = 0;
        put(0x100, 0x0001u | 2u << 16 | AT << 20);
        put(AT, 0x0030u | 1u << 16);
        put(AT + 4, 1u | 2u | 1u << 13 | 2u << 16);
        put(AT + 12, 0x05000001);
        put(AT + 16, 0x2);
        put(AT + 20, 0xff000000);
        /* selective 0 */
        put(AT + 28, 0);
        put(AT + 32, 0x09000001);
        put(AT + 36, 0x80000000);
        put(AT + 40, 0x00010300);
        put(AT + 44, 0x00010001);
        /* selective 1, 20 bytes on: it has two associations */
        put(AT + 48, 2);
        put(AT + 52, 0x0a000001);
        put(AT + 56, 0x2);
        /* selective 2, 44 bytes on */
        put(AT + 92, 1);
        put(AT + 96, 0);
}

static void test_blocks(void) {
        struct ide_capability c;
        struct ide_block b;

        make();
        check_int(ide_find(read_config, NULL, &c), 0);
        check_int(c.at, AT);
        check_int(c.n_link, 2);
        check_int(c.n_selective, 3);
        check_int(c.algorithms, 0);
        check(!c.selective_config && !c.tee_limited && streq(ide_algorithm(&c), "AES-GCM-256"));
        /* Every field of its own: PCI_IDE_CAP_ALG, _SEL_CFG, _TEE_LIMITED. */
        put(AT + 4, 1u | 2u | 1u << 13 | 2u << 16 | 0x1fu << 8);
        check_int(ide_find(read_config, NULL, &c), 0);
        check(c.algorithms == 0x1f && !c.selective_config && !c.tee_limited && c.n_link == 2 && c.n_selective == 3);
        check(!streq(ide_algorithm(&c), "AES-GCM-256"));
        put(AT + 4, 1u | 2u | 1u << 13 | 2u << 16 | 1u << 7);
        check_int(ide_find(read_config, NULL, &c), 0);
        check(c.algorithms == 0 && c.selective_config && !c.tee_limited);
        put(AT + 4, 1u | 2u | 1u << 13 | 2u << 16 | 1u << 24);
        check_int(ide_find(read_config, NULL, &c), 0);
        check(c.algorithms == 0 && !c.selective_config && c.tee_limited);
        put(AT + 4, 1u | 2u | 1u << 13 | 2u << 16);
        check_int(ide_read_link(read_config, NULL, &c, 0, &b), 0);
        check(b.enabled && b.id == 5 && b.status == 2 && !b.integrity_failed && !b.has_rids);
        check_int(ide_read_link(read_config, NULL, &c, 1, &b), 0);
        check(!b.enabled && b.id == 255);
        check_int(ide_read_link(read_config, NULL, &c, 2, &b), -ENOENT);
        check_int(ide_read_selective(read_config, NULL, &c, 0, &b), 0);
        check(b.enabled && b.id == 9 && b.status == 0 && b.integrity_failed && b.has_rids);
        check_int(b.rid_first, 0x0100);
        check_int(b.rid_last, 0x0103);
        check_int(ide_read_selective(read_config, NULL, &c, 1, &b), 0);
        check(b.enabled && b.id == 10 && b.status == 2 && !b.integrity_failed && !b.has_rids);
        check_int(ide_read_selective(read_config, NULL, &c, 2, &b), 0);
        check(!b.enabled);
        check_int(ide_read_selective(read_config, NULL, &c, 3, &b), -ENOENT);
        /* Neither kind is supported. */
        put(AT + 4, 0x00ffe000);
        check_int(ide_find(read_config, NULL, &c), 0);
        check(c.n_link == 0 && c.n_selective == 0);
}

static void test_cut(void) {
        struct ide_capability c;
        struct ide_block b;

        /* Wherever it ends, what is read is what is there. */
        for (size_t size = 0; size <= AT + 112; size++) {
                int r;

                make();
                readable = size;
                test_about("%zu bytes", size);
                r = ide_find(read_config, NULL, &c);
                check_int(r, size < AT + 8 ? -ENODATA : 0);
                if (r < 0)
                        continue;
                check_int(ide_read_link(read_config, NULL, &c, 0, &b), size < AT + 20 ? -ENODATA : 0);
                check_int(ide_read_selective(read_config, NULL, &c, 0, &b), size < AT + 48 ? -ENODATA : 0);
                check_int(ide_read_selective(read_config, NULL, &c, 2, &b), size < AT + 112 ? -ENODATA : 0);
        }
        test_about("%s", "none");
        make();
        put(0x100, 0);
        check_int(ide_find(read_config, NULL, &c), -ENOENT);
        put(0x100, 0x0001u | 2u << 16);
        check_int(ide_find(read_config, NULL, &c), -ENOENT);
        test_about("%s", "all ones");
        memset(config, 0xff, sizeof(config));
        check_int(ide_find(read_config, NULL, &c), -ENODATA);
        make();
        put(AT + 4, UINT32_MAX);
        check_int(ide_find(read_config, NULL, &c), -ENODATA);
        make();
        check_int(ide_find(read_config, NULL, &c), 0);
        memset(config + AT + 12, 0xff, sizeof(config) - AT - 12);
        check_int(ide_read_selective(read_config, NULL, &c, 0, &b), -ENODATA);
        check_int(ide_read_selective(read_config, NULL, &c, 2, &b), -ENODATA);
        check_int(ide_read_link(read_config, NULL, &c, 0, &b), -ENODATA);
        test_about("%s", "a ring");
        make();
        put(0x100, 0x0001u | 0x104u << 20);
        put(0x104, 0x0002u | 0x100u << 20);
        reads = 0;
        check_int(ide_find(read_config, NULL, &c), -EBADMSG);
        check(reads < 1024);
        test_about("%s", "out of the extended space");
        put(0x100, 0x0001u | 0x40u << 20);
        check_int(ide_find(read_config, NULL, &c), -EBADMSG);
        test_about("%s", "longer than config space");
        memset(config, 0, sizeof(config));
        put(0x100, 0x0001u | 0xff0u << 20);
        put(0xff0, 0x0030);
        put(0xff4, 3u | 0xffu << 16);
        check_int(ide_find(read_config, NULL, &c), 0);
        check_int(c.n_selective, 256);
        check_int(ide_read_selective(read_config, NULL, &c, 255, &b), -EBADMSG);
        check_int(ide_read_link(read_config, NULL, &c, 0, &b), -EBADMSG);
}

static void test_states(void) {
        static const struct {
                struct ide_block block;
                enum ide_state state;
        } cases[] = {
                { { .enabled = true, .status = 2 }, IDE_SECURE },
                { { .enabled = true, .status = 2, .has_rids = true, .rid_first = 0x100, .rid_last = 0x100 }, IDE_SECURE },
                { { .enabled = true, .status = 2, .has_rids = true, .rid_first = 0x101, .rid_last = 0x1ff }, IDE_MISMATCHED },
                { { .enabled = true, .status = 2, .has_rids = true, .rid_first = 0, .rid_last = 0xff }, IDE_MISMATCHED },
                { { .enabled = true, .status = 0 }, IDE_INSECURE },
                { { .enabled = true, .status = 1 }, IDE_INSECURE },
                { { .enabled = true, .status = 3 }, IDE_INSECURE },
                { { .enabled = true, .status = 0, .integrity_failed = true }, IDE_FAILED },
                { { .enabled = true, .status = 2, .integrity_failed = true }, IDE_SECURE },
                { { .enabled = false, .status = 2 }, IDE_OFF },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("block %zu", i);
                check_str(ide_state_to_string(ide_state_of(&cases[i].block, 0x100)), ide_state_to_string(cases[i].state));
        }
        for (int a = 0; a < IDE_STATE_MAX; a++) {
                check_int(ide_state_from_string(ide_state_to_string(a)), a);
                for (int b = 0; b < IDE_STATE_MAX; b++) {
                        bool known = a != IDE_UNKNOWN && b != IDE_UNKNOWN, bad = (a != IDE_SECURE && a != IDE_UNKNOWN) || (b != IDE_SECURE && b != IDE_UNKNOWN);

                        test_about("%s and %s", ide_state_to_string(a), ide_state_to_string(b));
                        check_int(ide_is_secure(a, b), bad ? 0 : known ? 1 : -1);
                }
        }
        check_int(ide_state_from_string("good"), IDE_STATE_INVALID);
}

int main(void) {
        test_blocks();
        test_cut();
        test_states();
        return test_end();
}
