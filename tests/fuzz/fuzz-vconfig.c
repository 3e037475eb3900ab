/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the config filter: the input puts capabilities anywhere into a config space that is nothing but memory, then reads,
 * writes, changes state. Whatever the chains are like, nothing beyond the space is touched, the guest's chains end and have no name in
 * them that is hidden, what is locked stays as it is, and reads agree with each other.
 */
#include <linux/pci_regs.h>
#include <stdarg.h>

#include "fuzz.h"
#include "log.h"
#include "vm/vpci/vconfig.h"

#define BASE UINT64_C(0x70000000000)

static uint8_t memory[4096];
static size_t space_size;
static unsigned accesses, lines;

/* In place of the one that prints: there would be no end of it. */
void log_line(_unused_ int priority, const char *format, ...) {
        char line[1024];
        va_list ap;

        va_start(ap, format);
        must(vsnprintf(line, sizeof(line), format, ap) < (int) sizeof(line));
        va_end(ap);
        must(++lines <= 8);
}

/* ---- the kernel: bytes that keep what is written ---- */

static ssize_t memory_read(_unused_ TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        must(fd == 42 && offset >= BASE && offset - BASE < space_size && size <= space_size - (offset - BASE));
        accesses++;
        memcpy(buf, memory + (offset - BASE), size);
        return (ssize_t) size;
}

static ssize_t memory_write(_unused_ TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset) {
        uint8_t status[2];

        must(fd == 42 && offset >= BASE && offset - BASE < space_size && size <= space_size - (offset - BASE));
        must((size == 1 || size == 2 || size == 4) && offset % size == 0);
        accesses++;
        /* Whether there are capabilities is not for writing. */
        memcpy(status, memory + PCI_STATUS, sizeof(status));
        memcpy(memory + (offset - BASE), buf, size);
        memcpy(memory + PCI_STATUS, status, sizeof(status));
        return (ssize_t) size;
}

static const struct tdi_host_ops ops = { .name = "memory", .pread = memory_read, .pwrite = memory_write };
static TdiHost memory_host = { &ops };

static unsigned word(const uint8_t *p) {
        return p[0] | (unsigned) p[1] << 8;
}

static uint32_t dword(const uint8_t *p) {
        return word(p) | (uint32_t) word(p + 2) << 16;
}

/* ---- the input ---- */

struct in {
        const uint8_t *p, *end;
};

static unsigned take(struct in *in) {
        return in->p < in->end ? *in->p++ : 0;
}

static unsigned take16(struct in *in) {
        unsigned low = take(in);

        return low | take(in) << 8;
}

static void take_bytes(struct in *in, uint8_t *to, size_t n) {
        for (size_t i = 0; i < n; i++)
                to[i] = (uint8_t) take(in);
}

static void build(struct in *in, uint8_t c[4096]) {
        unsigned n = take(in) % 64;

        memset(c, 0, 4096);
        c[PCI_VENDOR_ID] = 0x34;
        c[PCI_VENDOR_ID + 1] = 0x12;
        c[PCI_STATUS] = PCI_STATUS_CAP_LIST;
        c[PCI_CAPABILITY_LIST] = 0x40;
        for (; n > 0; n--) {
                unsigned what = take(in), at = take16(in) % 4096, next;

                switch (what % 3) {
                case 0:
                        for (unsigned i = 0; i <= what / 16 && at + i < 4096; i++)
                                c[at + i] = (uint8_t) take(in);
                        break;
                case 1:
                        at %= 256;
                        c[at] = (uint8_t) take(in);
                        c[(at + 1) % 256] = (uint8_t) take(in);
                        break;
                default:
                        at &= ~3u;
                        c[at] = (uint8_t) take(in);
                        c[at + 1] = 0;
                        next = take16(in) % 4096;
                        c[at + 2] = (uint8_t) (1 | next << 4);
                        c[at + 3] = (uint8_t) (next >> 4);
                }
        }
}

/* ---- what is locked ---- */

static bool is_hidden(unsigned id) {
        return id == PCI_EXT_CAP_ID_PASID || id == PCI_EXT_CAP_ID_PRI || id == PCI_EXT_CAP_ID_SRIOV;
}

static void lock_bits(uint8_t locked[4096], unsigned at, unsigned bits) {
        if (at + 2 > space_size)
                return;
        locked[at] |= (uint8_t) bits;
        locked[at + 1] |= (uint8_t) (bits >> 8);
}

static void free_bit(uint8_t locked[4096], unsigned at, unsigned bit) {
        if (at < space_size)
                locked[at] &= (uint8_t) ~bit;
}

/*
 * Follows the chains that a guest sees in @seen. @locked: bits that must not change in LOCKED and RUN. Bits that set something off are
 * written as 0 where they are refused, so they are left out.
 */
static void follow(const uint8_t seen[4096], uint8_t locked[4096]) {
        unsigned at, left, anything = 0;

        memset(locked, 0, 4096);
        locked[PCI_BIST] = 0xff;
        at = seen[PCI_STATUS] & PCI_STATUS_CAP_LIST ? seen[PCI_CAPABILITY_LIST] : 0;
        for (left = 64; at && left > 0; left--, at = seen[at + 1]) {
                must(at >= 0x40 && at % 4 == 0 && at + 4 <= space_size);
                lock_bits(locked, at, 0xffff);
                if (seen[at] == PCI_CAP_ID_PM && at + PCI_PM_SIZEOF <= 0x100)
                        lock_bits(locked, at + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
                if (seen[at] == PCI_CAP_ID_MSIX && at + PCI_CAP_MSIX_SIZEOF <= 0x100)
                        lock_bits(locked, at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
                if (seen[at] == PCI_CAP_ID_EXP && at + 12 <= 0x100)
                        lock_bits(locked, at + PCI_EXP_DEVCTL, 0x7ff0);
        }
        must(left > 0);
        at = space_size > 0x100 && dword(seen + 0x100) != UINT32_MAX ? 0x100 : 0;
        for (left = 1024; at && left > 0; left--, at = dword(seen + at) >> 20) {
                must(at >= 0x100 && at % 4 == 0 && at + 4 <= space_size);
                must(!is_hidden(word(seen + at)));
                anything++;
                if (dword(seen + at) != 0)
                        lock_bits(locked, at, 0xffff);
                if (word(seen + at) == PCI_EXT_CAP_ID_ATS)
                        lock_bits(locked, at + PCI_ATS_CTRL, 0xffff);
        }
        must(left > 0 && anything <= 1024);
        at = seen[PCI_STATUS] & PCI_STATUS_CAP_LIST ? seen[PCI_CAPABILITY_LIST] : 0;
        for (; at; at = seen[at + 1]) {
                if (seen[at] == PCI_CAP_ID_VPD)
                        free_bit(locked, at + PCI_VPD_ADDR + 1, 0x80);
                if (seen[at] == PCI_CAP_ID_EXP)
                        free_bit(locked, at + PCI_EXP_DEVCTL + 1, 0x80);
                if (seen[at] == PCI_CAP_ID_AF)
                        free_bit(locked, at + PCI_AF_CTRL, PCI_AF_CTRL_FLR);
        }
}

/* What is hidden, from the memory itself: nothing is written there in any state. */
static void follow_hidden(const uint8_t hw[4096], uint8_t hidden[4096]) {
        unsigned at = space_size > 0x100 && dword(hw + 0x100) != UINT32_MAX && dword(hw + 0x100) != 0 ? 0x100 : 0;
        bool been[1024] = {};

        memset(hidden, 0, 4096);
        while (at >= 0x100 && at + 4 <= space_size && !been[at / 4]) {
                been[at / 4] = true;
                for (unsigned i = 0; i < 8 && is_hidden(word(hw + at)) && at + i < space_size; i++)
                        hidden[at + i] = 0xff;
                at = dword(hw + at) >> 20 & ~3u;
        }
}

/* ---- one input ---- */

struct run {
        struct vconfig *c;
        enum vconfig_state state;
        enum vconfig_master master;
        uint8_t seen[4096], locked[4096], hidden[4096];
};

static void check_changes(const struct run *run, const uint8_t before[4096], const uint8_t after[4096]) {
        unsigned was = before[PCI_COMMAND], is = after[PCI_COMMAND];

        for (size_t i = 0; i < space_size; i++) {
                must(!((before[i] ^ after[i]) & run->hidden[i]));
                if (run->state == VCONFIG_LOCKED || run->state == VCONFIG_RUN)
                        must(!((before[i] ^ after[i]) & run->locked[i]));
        }
        if (run->state == VCONFIG_LOCKED || run->state == VCONFIG_RUN)
                must(!(was & ~is & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)));
        if (run->master != VCONFIG_MASTER_YES || run->state == VCONFIG_ERROR)
                must(!(~was & is & PCI_COMMAND_MASTER));
        if (run->master == VCONFIG_MASTER_NO && (run->state != VCONFIG_LOCKED && run->state != VCONFIG_RUN))
                must(!(is & PCI_COMMAND_MASTER));
}

static bool wants_master(const struct run *run) {
        _cleanup_json_ struct json_object *o = vconfig_describe(run->c), *master = NULL;
        struct json_object *borrowed;

        must(json_get_object(o, "bus_master", &borrowed) == 0);
        must(json_bool_or(borrowed, "allowed", run->master != VCONFIG_MASTER_YES) == (run->master == VCONFIG_MASTER_YES));
        master = json_object_get(borrowed);
        return json_bool_or(master, "wanted", false);
}

/* All at once, and in odd pieces. */
static void check_reads(struct run *run, unsigned piece, unsigned from) {
        uint8_t part[256], locked[4096];
        size_t n;

        must(vconfig_read(run->c, run->seen, space_size, 0) == (ssize_t) space_size);
        for (size_t at = from; at < space_size && at < from + sizeof(part); at += n) {
                n = piece < space_size - at ? piece : space_size - at;
                must(vconfig_read(run->c, part, n, at) == (ssize_t) n);
                must(memcmp(part, run->seen + at, n) == 0);
        }
        must(!!(run->seen[PCI_COMMAND] & PCI_COMMAND_MASTER) == wants_master(run));
        /* Nobody writes to chains. */
        follow(run->seen, locked);
        must(memcmp(locked, run->locked, sizeof(locked)) == 0);
}

static void step(struct run *run, struct in *in) {
        unsigned op = take(in), arg = op >> 3, at, n;
        uint8_t before[4096], data[64];
        ssize_t r;

        memcpy(before, memory, sizeof(before));
        switch (op & 7) {
        case 0:
                run->state = (enum vconfig_state) (arg % 5);
                vconfig_set_state(run->c, run->state);
                return;
        case 1:
                run->master = (enum vconfig_master) (arg % 3);
                vconfig_set_master(run->c, run->master);
                break;
        case 2:
                check_reads(run, 1 + arg, take16(in) % 4096);
                break;
        case 3:
                /* The one thing that may end a TDI. */
                vconfig_was_reset(run->c);
                must(!wants_master(run));
                must(!(memory[PCI_COMMAND] & PCI_COMMAND_MASTER));
                return;
        case 4:
                (void) vconfig_may_write_bar(run->c, arg, take16(in), UINT64_MAX - take(in));
                must(vconfig_may_set_irqs(run->c) == (run->state != VCONFIG_LOCKED && run->state != VCONFIG_RUN));
                return;
        default:
                at = take16(in) % 4200;
                n = arg + (op & 7) - 5;
                take_bytes(in, data, n);
                if (n == 0 || at >= space_size || n > space_size - at) {
                        must(vconfig_effect(run->c, data, n, at) == VCONFIG_PLAIN);
                        must(vconfig_write(run->c, data, n, at) == -EINVAL);
                        return;
                }
                (void) vconfig_effect(run->c, data, n, at);
                accesses = 0;
                r = vconfig_write(run->c, data, n, at);
                must(r == (ssize_t) n && accesses <= 4 * n + 4 + space_size);
                if (at <= PCI_COMMAND && at + n > PCI_COMMAND)
                        must(wants_master(run) == !!(data[PCI_COMMAND - at] & PCI_COMMAND_MASTER));
        }
        check_changes(run, before, memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct in in = { data, data + size };
        struct run run = { .master = VCONFIG_MASTER_YES };
        int r;

        lines = 0;
        space_size = take(&in) & 1 ? 256 : 4096;
        build(&in, memory);
        r = vconfig_new(&memory_host, 42, BASE, space_size, &run.c);
        if (r < 0) {
                must(r == ((memory[0] & memory[1]) == 0xff ? -ENODEV : -EOPNOTSUPP));
                return 0;
        }
        must(vconfig_read(run.c, run.seen, space_size, 0) == (ssize_t) space_size);
        follow(run.seen, run.locked);
        follow_hidden(memory, run.hidden);
        while (in.p < in.end)
                step(&run, &in);
        check_reads(&run, 5, 0);
        run.c = vconfig_free(run.c);
        return 0;
}
