/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the guest does with an edu function (QEMU, docs/specs/edu.rst), through the module edu_guest:
 *
 *      use N                   the N-th of several, from 0, for all that follows
 *      edu                     all of the following four
 *      config                  identity, BAR sizes, what can be written in its configuration space
 *      mmio                    registers
 *      irq [N]                 N interrupts, each waited for, none lost and none too many; and one of the factorial
 *      dma [SIZE]              memory → device → memory, compared; with and without interrupt; and none without bus mastering
 *      intx                    as irq, by the interrupt pin
 *      reset                   resets it from inside, then "edu"
 *      rebind                  takes the driver off and on, then "edu"
 *      gone, find              waits until it is not there; until it is
 *      loop                    registers, interrupts and DMA until a line comes, with a line "at N worst MS" each second
 *      raise N, quiet N        the same register accesses N times: once with an interrupt each, once without
 *      copy N SIZE, still N    the same with a DMA and its interrupt, once without
 *      cost N                  N register reads, N register writes: how long one takes
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#define VENDOR "0x1234"
#define DEVICE "0x11e8"
#define BAR_SIZE 0x100000u
#define PAGE 4096u

#define ID 0x00u
#define LIVENESS 0x04u
#define FACTORIAL 0x08u
#define STATUS 0x20u
#define IRQ_STATUS 0x24u
#define IRQ_RAISE 0x60u
#define IRQ_ACK 0x64u
#define DMA_SOURCE 0x80u
#define DMA_TARGET 0x88u
#define DMA_COUNT 0x90u
#define DMA_COMMAND 0x98u

#define STATUS_COMPUTING 0x01u
#define STATUS_IRQ 0x80u
#define DMA_RUN 1u
#define DMA_TO_MEMORY 2u
#define DMA_IRQ 4u
#define BUFFER 0x40000u
#define DMA_SIZE_MAX 2048u
/* The device takes 100 ms of its own for each. */
#define DMA_MS 100

/* Which of several. */
static unsigned chosen;

struct edu {
        char bdf[32];
        int uio;
        volatile uint8_t *bar;
        uint8_t *memory; /* two halves: from where, and to where */
        uint64_t dma;
        uint32_t events;
};

/* ---- the device ---- */

static uint32_t get(struct edu *e, uint32_t reg) {
        return *(volatile uint32_t *) (e->bar + reg);
}

static void put(struct edu *e, uint32_t reg, uint32_t value) {
        *(volatile uint32_t *) (e->bar + reg) = value;
}

static void put64(struct edu *e, uint32_t reg, uint64_t value) {
        *(volatile uint64_t *) (e->bar + reg) = value;
}

static void edu_close(struct edu *e) {
        if (e->bar)
                munmap((void *) e->bar, BAR_SIZE);
        if (e->memory)
                munmap(e->memory, PAGE);
        if (e->uio >= 0)
                close(e->uio);
        *e = (struct edu) { .uio = -1 };
}

/* The UIO device of a function: it has one once its driver is done with it. */
static int open_uio(const char *bdf) {
        int64_t until = now_ms() + PATIENCE_MS;
        char name[64], path[64];
        int fd;

        do {
                for (int i = 0; i < 8; i++) {
                        snprintf(name, sizeof(name), "uio/uio%d", i);
                        if (access(function_file(bdf, name), F_OK) < 0)
                                continue;
                        snprintf(path, sizeof(path), "/dev/uio%d", i);
                        fd = open(path, O_RDWR | O_CLOEXEC);
                        if (fd >= 0)
                                return fd;
                }
                sleep_ms(20);
        } while (now_ms() < until);
        errno = ENXIO;
        return -1;
}

static bool edu_open(struct edu *e) {
        const char *bdf = find_function(VENDOR, DEVICE, chosen, PATIENCE_MS), *text;
        void *p;

        *e = (struct edu) { .uio = -1 };
        if (!bdf)
                return fail("there is no edu");
        snprintf(e->bdf, sizeof(e->bdf), "%s", bdf);
        e->uio = open_uio(bdf);
        if (e->uio < 0)
                return fail("%s: edu_guest does not drive it: %m", bdf);
        text = read_text(function_file(bdf, "dma_address"));
        e->dma = text ? strtoull(text, NULL, 0) : 0;
        p = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, e->uio, 0);
        if (p != MAP_FAILED)
                e->bar = p;
        p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, e->uio, PAGE);
        if (p != MAP_FAILED)
                e->memory = p;
        if (e->dma && e->bar && e->memory)
                return true;
        fail("%s: cannot map it: %m", bdf);
        edu_close(e);
        return false;
}

/* The next interrupt, of which there must have been one exactly. */
static bool interrupted(struct edu *e, int64_t ms) {
        struct pollfd p = { .fd = e->uio, .events = POLLIN };
        uint32_t events;

        if (poll(&p, 1, (int) ms) <= 0)
                return false;
        if (read(e->uio, &events, sizeof(events)) != sizeof(events))
                return fail("%s: cannot read its interrupts: %m", e->bdf);
        if (e->events && events != e->events + 1)
                return fail("%s: %u interrupts instead of one", e->bdf, events - e->events);
        e->events = events;
        return true;
}

/* Waits until bits of a register are clear. */
static bool cleared(struct edu *e, uint32_t reg, uint32_t bits) {
        int64_t until = now_ms() + PATIENCE_MS;

        while (get(e, reg) & bits) {
                if (now_ms() >= until)
                        return false;
                sleep_ms(5);
        }
        return true;
}

/* ---- configuration space ---- */

static bool config_at(int fd, off_t at, void *buf, size_t size, bool out) {
        ssize_t n = out ? pwrite(fd, buf, size, at) : pread(fd, buf, size, at);

        return n == (ssize_t) size || fail("config space, %s %zu bytes at %#lx: %m", out ? "write" : "read", size, (long) at);
}

static uint32_t config_get(int fd, off_t at, size_t size) {
        uint32_t value = 0;

        config_at(fd, at, &value, size, false);
        return value;
}

static void config_put(int fd, off_t at, uint32_t value, size_t size) {
        config_at(fd, at, &value, size, true);
}

static int config_open(const char *bdf) {
        return open(function_file(bdf, "config"), O_RDWR | O_CLOEXEC);
}

static bool check_sizes(int fd) {
        uint32_t command = config_get(fd, PCI_COMMAND, 2);
        bool ok = true;

        config_put(fd, PCI_COMMAND, command & ~(uint32_t) (PCI_COMMAND_MEMORY | PCI_COMMAND_IO), 2);
        for (int i = 0; i < 6 && ok; i++) {
                off_t at = PCI_BASE_ADDRESS_0 + 4 * i;
                uint32_t before = config_get(fd, at, 4), mask, wanted = i == 0 ? ~(BAR_SIZE - 1) : 0;

                config_put(fd, at, UINT32_MAX, 4);
                mask = config_get(fd, at, 4);
                config_put(fd, at, before, 4);
                if (mask != wanted)
                        ok = fail("BAR %d reads %#x after all ones were written, not %#x", i, mask, wanted);
                else if (config_get(fd, at, 4) != before)
                        ok = fail("BAR %d does not keep its address", i);
        }
        config_put(fd, PCI_COMMAND, command, 2);
        if (ok && config_get(fd, PCI_COMMAND, 2) != command)
                return fail("COMMAND does not keep %#x", command);
        return ok;
}

static bool check_config(const char *bdf, int fd) {
        uint32_t line, msi;

        if (config_get(fd, 0, 4) != 0x11e81234 || config_get(fd, 0, 2) != 0x1234 || config_get(fd, 3, 1) != 0x11)
                return fail("%s: its identity depends on how it is read", bdf);
        config_put(fd, PCI_VENDOR_ID, 0, 2);
        if (config_get(fd, PCI_VENDOR_ID, 2) != 0x1234)
                return fail("%s: its identity was written", bdf);
        line = config_get(fd, PCI_INTERRUPT_LINE, 1);
        config_put(fd, PCI_INTERRUPT_LINE, 0x5a, 1);
        if (config_get(fd, PCI_INTERRUPT_LINE, 1) != 0x5a)
                return fail("%s: INTERRUPT_LINE cannot be written", bdf);
        config_put(fd, PCI_INTERRUPT_LINE, line, 1);

        for (msi = config_get(fd, PCI_CAPABILITY_LIST, 1); msi && config_get(fd, (off_t) msi, 1) != PCI_CAP_ID_MSI;)
                msi = config_get(fd, (off_t) msi + 1, 1);
        if (!msi)
                return fail("%s: it has no MSI capability", bdf);
        if (!(config_get(fd, (off_t) msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE))
                return fail("%s: MSI is not on", bdf);
        return check_sizes(fd);
}

static bool config(char **words) {
        struct edu e;
        bool ok;
        int fd;

        (void) words;
        if (!edu_open(&e))
                return false;
        fd = config_open(e.bdf);
        ok = fd >= 0 ? check_config(e.bdf, fd) : fail("%s: cannot open its configuration space: %m", e.bdf);
        if (fd >= 0)
                close(fd);
        /* It must answer where it answered before. */
        ok = ok && (get(&e, ID) == 0x010000ed || fail("%s: it is not at its address any more", e.bdf));
        if (ok)
                say("config of %s: BAR 0 has %u KiB, MSI", e.bdf, BAR_SIZE >> 10);
        edu_close(&e);
        return ok;
}

/* ---- registers, interrupts, DMA ---- */

static bool compute(struct edu *e, uint32_t n, uint32_t wanted) {
        put(e, FACTORIAL, n);
        if (!cleared(e, STATUS, STATUS_COMPUTING))
                return fail("the factorial of %u takes too long", n);
        if (get(e, FACTORIAL) != wanted)
                return fail("%u! is %u, not %u", n, get(e, FACTORIAL), wanted);
        return true;
}

static bool check_mmio(struct edu *e) {
        static const uint32_t values[] = { 0, UINT32_MAX, 0x12345678, 0x80000001 };

        if (get(e, ID) != 0x010000ed)
                return fail("its first register reads %#x", get(e, ID));
        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
                put(e, LIVENESS, values[i]);
                if (get(e, LIVENESS) != ~values[i])
                        return fail("liveness of %#x reads %#x", values[i], get(e, LIVENESS));
        }
        put64(e, DMA_SOURCE, UINT64_C(0x123456789abcdef0));
        if (*(volatile uint64_t *) (e->bar + DMA_SOURCE) != UINT64_C(0x123456789abcdef0))
                return fail("a register of 64 bits does not keep them");
        return compute(e, 5, 120) && compute(e, 12, 479001600) && compute(e, 34, 0);
}

static bool check_irq(struct edu *e, long n) {
        for (long i = 1; i <= n; i++) {
                put(e, IRQ_RAISE, (uint32_t) i);
                if (!interrupted(e, PATIENCE_MS))
                        return fail("interrupt %ld did not come; status %#x", i, get(e, IRQ_STATUS));
                if (get(e, IRQ_STATUS) != 0)
                        return fail("interrupt %ld was not acknowledged: %#x", i, get(e, IRQ_STATUS));
        }
        put(e, STATUS, STATUS_IRQ);
        put(e, FACTORIAL, 10);
        if (!interrupted(e, PATIENCE_MS))
                return fail("the interrupt of the factorial did not come");
        put(e, STATUS, 0);
        if (get(e, FACTORIAL) != 3628800)
                return fail("10! is %u", get(e, FACTORIAL));
        if (interrupted(e, 50))
                return fail("an interrupt too many");
        return true;
}

static bool transfer(struct edu *e, uint64_t source, uint64_t target, uint32_t size, uint32_t command) {
        put64(e, DMA_SOURCE, source);
        put64(e, DMA_TARGET, target);
        put(e, DMA_COUNT, size);
        put(e, DMA_COMMAND, command | DMA_RUN);
        if (command & DMA_IRQ && !interrupted(e, PATIENCE_MS))
                return fail("the interrupt of the DMA did not come; command %#x", get(e, DMA_COMMAND));
        return cleared(e, DMA_COMMAND, DMA_RUN) || fail("the DMA does not end");
}

static void fill(uint8_t *p, size_t size, unsigned seed) {
        for (size_t i = 0; i < size; i++)
                p[i] = (uint8_t) (i * 7 + i / 256 + seed);
}

/* From the first half of the page into the device, from there into the second: that, and not a byte beyond. */
static bool round_trip(struct edu *e, uint32_t size, uint32_t how) {
        uint8_t *from = e->memory, *to = e->memory + DMA_SIZE_MAX;
        static unsigned seed;

        fill(from, DMA_SIZE_MAX, ++seed);
        memset(to, 0x5a, DMA_SIZE_MAX);
        if (!transfer(e, e->dma, BUFFER, size, how) || !transfer(e, BUFFER, e->dma + DMA_SIZE_MAX, size, how | DMA_TO_MEMORY))
                return false;
        if (memcmp(from, to, size) != 0)
                return fail("%u bytes came back different", size);
        for (size_t i = size; i < DMA_SIZE_MAX; i++)
                if (to[i] != 0x5a)
                        return fail("a DMA of %u bytes wrote byte %zu", size, i);
        return true;
}

/* Without bus mastering nothing may arrive; with it again, everything does. */
static bool check_master(struct edu *e) {
        uint8_t *to = e->memory + DMA_SIZE_MAX;
        uint32_t command;
        bool ok;
        int fd;

        fd = config_open(e->bdf);
        if (fd < 0)
                return fail("%s: cannot open its configuration space: %m", e->bdf);
        command = config_get(fd, PCI_COMMAND, 2);
        config_put(fd, PCI_COMMAND, command & ~(uint32_t) PCI_COMMAND_MASTER, 2);
        memset(to, 0xa5, DMA_SIZE_MAX);
        ok = transfer(e, BUFFER, e->dma + DMA_SIZE_MAX, DMA_SIZE_MAX, DMA_TO_MEMORY);
        for (size_t i = 0; ok && i < DMA_SIZE_MAX; i++)
                if (to[i] != 0xa5)
                        ok = fail("byte %zu was written without bus mastering", i);
        config_put(fd, PCI_COMMAND, command, 2);
        close(fd);
        return ok && round_trip(e, 256, 0);
}

static bool check_dma(struct edu *e, uint32_t size) {
        static const uint32_t sizes[] = { 4, 64, 1000, DMA_SIZE_MAX };

        if (size)
                return round_trip(e, size, 0) && round_trip(e, size, DMA_IRQ);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
                if (!round_trip(e, sizes[i], i % 2 ? DMA_IRQ : 0))
                        return false;
        return check_master(e);
}

/* ---- commands ---- */

static bool mmio(char **words) {
        struct edu e;
        bool ok;

        (void) words;
        if (!edu_open(&e))
                return false;
        ok = check_mmio(&e);
        if (ok)
                say("mmio of %s: identity, liveness, factorials", e.bdf);
        edu_close(&e);
        return ok;
}

static bool irq(char **words) {
        long n = number(words, 0, 8);
        struct edu e;
        bool ok;

        if (!edu_open(&e))
                return false;
        ok = check_irq(&e, n);
        if (ok)
                say("irq of %s: %ld by %s", e.bdf, n + 1, read_text(function_file(e.bdf, "interrupt")));
        edu_close(&e);
        return ok;
}

static bool dma(char **words) {
        uint32_t size = (uint32_t) number(words, 0, 0);
        struct edu e;
        bool ok;

        if (size > DMA_SIZE_MAX)
                return fail("no more than %u bytes at once", DMA_SIZE_MAX);
        if (!edu_open(&e))
                return false;
        ok = check_dma(&e, size);
        if (ok)
                say("dma of %s: by way of %#llx", e.bdf, (unsigned long long) e.dma);
        edu_close(&e);
        return ok;
}

static bool edu(char **words) {
        (void) words;
        return config((char *[]) { NULL }) && mmio((char *[]) { NULL }) && irq((char *[]) { NULL }) && dma((char *[]) { NULL });
}

static bool with_interrupt(const char *parameter, const char *wanted) {
        const char *bdf, *text;

        if (!unload_module("edu_guest") || !load_module("/edu_guest.ko", parameter) || !irq((char *[]) { NULL }))
                return false;
        bdf = find_function(VENDOR, DEVICE, chosen, 0);
        text = bdf ? read_text(function_file(bdf, "interrupt")) : NULL;
        return (text && strcmp(text, wanted) == 0) || fail("its interrupts are %s, not %s", text ? text : "?", wanted);
}

static bool intx(char **words) {
        bool ok = with_interrupt("intx=1", "intx");

        (void) words;
        return with_interrupt("", "msi") && ok;
}

static bool reset(char **words) {
        const char *bdf = find_function(VENDOR, DEVICE, chosen, PATIENCE_MS);
        int64_t begin = now_ms();
        int r;

        (void) words;
        if (!bdf)
                return fail("there is no edu");
        r = write_text(function_file(bdf, "reset"), "1");
        if (r < 0)
                return fail("%s: cannot be reset: %s", bdf, strerror(-r));
        say("reset of %s: %lld ms", bdf, (long long) (now_ms() - begin));
        return edu(NULL);
}

static bool rebind(char **words) {
        const char *bdf = find_function(VENDOR, DEVICE, chosen, PATIENCE_MS);
        int r;

        (void) words;
        if (!bdf)
                return fail("there is no edu");
        r = write_text("/sys/bus/pci/drivers/edu_guest/unbind", bdf);
        if (r >= 0)
                r = write_text("/sys/bus/pci/drivers/edu_guest/bind", bdf);
        return r < 0 ? fail("%s: cannot be bound anew: %s", bdf, strerror(-r)) : edu(NULL);
}

static bool use(char **words) {
        chosen = (unsigned) number(words, 0, 0);
        return true;
}

static bool gone(char **words) {
        (void) words;
        return wait_gone(VENDOR, DEVICE, chosen, 3 * PATIENCE_MS) || fail("edu is still there");
}

static bool find(char **words) {
        const char *bdf = find_function(VENDOR, DEVICE, chosen, 3 * PATIENCE_MS);

        (void) words;
        if (!bdf)
                return fail("there is no edu");
        say("edu is %s", bdf);
        return true;
}

static bool loop(char **words) {
        int64_t told = now_ms(), last = told, now, worst = 0;
        unsigned long count = 0;
        struct edu e;
        bool ok;

        (void) words;
        ok = edu_open(&e);
        while (ok && !is_called()) {
                put(&e, LIVENESS, (uint32_t) count);
                put(&e, IRQ_RAISE, 1);
                ok = (interrupted(&e, PATIENCE_MS) || fail("no interrupt in round %lu", count)) &&
                     (get(&e, LIVENESS) == (uint32_t) ~count || fail("liveness in round %lu", count)) &&
                     (count % 16 || round_trip(&e, DMA_SIZE_MAX, DMA_IRQ));
                count++;
                now = now_ms();
                if (now - last > worst)
                        worst = now - last;
                last = now;
                if (now - told >= 1000) {
                        say("at %lu worst %lld", count, (long long) worst);
                        told = now;
                        worst = 0;
                }
        }
        edu_close(&e);
        return ok;
}

/* ---- for who counts what it costs: the register accesses of a pair are the same ---- */

/* Long enough that whoever serves a register write has come to rest after it. */
#define REST_MS 5

/* An interrupt costs the driver one read and one write. */
static void as_handler(struct edu *e) {
        (void) get(e, IRQ_STATUS);
        put(e, IRQ_ACK, 0);
}

static bool interrupts(char **words, bool raised) {
        long n = number(words, 0, 100);
        struct edu e;
        bool ok;

        ok = edu_open(&e);
        for (long i = 0; ok && i < n; i++) {
                put(&e, IRQ_RAISE, raised ? 1 : 0);
                if (raised)
                        ok = interrupted(&e, PATIENCE_MS) || fail("interrupt %ld did not come", i);
                else {
                        sleep_ms(REST_MS);
                        as_handler(&e);
                }
                sleep_ms(REST_MS);
        }
        edu_close(&e);
        return ok;
}

static bool raise_(char **words) {
        return interrupts(words, true);
}

static bool quiet(char **words) {
        return interrupts(words, false);
}

static bool transfers(char **words, bool made) {
        long n = number(words, 0, 10), size = number(words, 1, DMA_SIZE_MAX);
        struct edu e;
        bool ok;

        ok = edu_open(&e);
        for (long i = 0; ok && i < n; i++) {
                put64(&e, DMA_SOURCE, e.dma);
                put64(&e, DMA_TARGET, BUFFER);
                put(&e, DMA_COUNT, (uint32_t) size);
                put(&e, DMA_COMMAND, made ? DMA_RUN | DMA_IRQ : 0);
                if (made)
                        ok = interrupted(&e, PATIENCE_MS) || fail("DMA %ld did not end", i);
                else {
                        sleep_ms(DMA_MS);
                        as_handler(&e);
                }
                sleep_ms(REST_MS);
        }
        edu_close(&e);
        return ok;
}

static bool copy(char **words) {
        return transfers(words, true);
}

static bool still(char **words) {
        return transfers(words, false);
}

static int64_t now_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool cost(char **words) {
        long n = number(words, 0, 1000);
        int64_t begin, reads, writes;
        struct edu e;

        if (!edu_open(&e))
                return false;
        begin = now_ns();
        for (long i = 0; i < n; i++)
                (void) get(&e, ID);
        reads = now_ns() - begin;
        begin = now_ns();
        for (long i = 0; i < n; i++)
                put(&e, LIVENESS, (uint32_t) i);
        /* What was only sent on its way is done when this has been answered. */
        (void) get(&e, LIVENESS);
        writes = now_ns() - begin;
        say("cost read %lld ns write %lld ns", (long long) (reads / n), (long long) (writes / n));
        edu_close(&e);
        return true;
}

const struct test edu_tests[] = {
        { "edu", edu },     { "config", config }, { "mmio", mmio },   { "irq", irq },     { "dma", dma },
        { "intx", intx },   { "reset", reset },   { "rebind", rebind }, { "gone", gone }, { "find", find },
        { "loop", loop },   { "raise", raise_ },  { "quiet", quiet }, { "copy", copy },   { "still", still },
        { "cost", cost },   { "use", use },       { NULL, NULL },
};
