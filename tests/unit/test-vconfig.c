/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The config filter's behaviour beyond single registers: what is hidden, bus mastering withheld, shadows across states, sizing of BARs,
 * accesses of every size, resets, errors, a log that cannot be flooded, and threads.
 */
#include <time.h>

#include "vconfig-machine.h"

/* ---- what is hidden ---- */

/* The ids of the extended chain as a guest follows it; 0: an end without a name. */
static void check_chain(const char *about, const uint16_t *expected) {
        unsigned at = 0x100, n = 0;

        test_about("%s", about);
        for (unsigned i = 0; at && i < 64; i++) {
                uint32_t h = get(at, 4);

                if ((h & 0xffff) == 0 && at == 0x100)
                        check_int(h >> 16 & 0xf, 0);
                else
                        check_int(h & 0xffff, expected[n++]);
                at = h >> 20;
        }
        check_int(at, 0);
        check_int(expected[n], 0);
        test_about("%s", "");
}

/* Whatever the size and place of a read, the bytes are the same. */
static void check_reads(void) {
        uint8_t whole[4096], part[4096];

        check_int(vconfig_read(space, whole, sizeof(whole), 0), sizeof(whole));
        for (unsigned size = 1; size <= 9; size++)
                for (unsigned at = 0; at < 4096; at += size) {
                        unsigned n = size < 4096 - at ? size : 4096 - at;

                        if (!check_int(vconfig_read(space, part, n, at), n) || !check(memcmp(part, whole + at, n) == 0))
                                return;
                }
}

static void check_blank(unsigned at, unsigned size) {
        for (unsigned i = at; i < at + size; i++)
                check_int(get(i, 1), 0);
}

static void test_hidden(void) {
        static const uint16_t rich[] = { PCI_EXT_CAP_ID_ERR, PCI_EXT_CAP_ID_ATS, PCI_EXT_CAP_ID_TPH, PCI_EXT_CAP_ID_DVSEC,
                                         PCI_EXT_CAP_ID_VNDR, 0 };
        static const uint16_t whole[] = { PCI_EXT_CAP_ID_ERR, PCI_EXT_CAP_ID_ATS, PCI_EXT_CAP_ID_TPH, PCI_EXT_CAP_ID_DVSEC,
                                          PCI_EXT_CAP_ID_DOE, PCI_EXT_CAP_ID_VNDR, 0 };
        static const uint16_t first[] = { PCI_EXT_CAP_ID_ATS, 0 };
        static const uint16_t pf[] = { PCI_EXT_CAP_ID_ERR, PCI_EXT_CAP_ID_ARI, 0 };
        unsigned sriov, ide, vendor;

        open_function(RICH);
        check_chain(RICH, rich);
        check_blank(AT_PRI, PCI_EXT_CAP_PRI_SIZEOF);
        check(hw_get(RICH, AT_PRI + 8, 4) != 0);
        check_int(get(AT_ATS + 2, 4), 0x0000u | AT_TPH << 4 | 1);
        check_reads();
        close_function();

        open_function(PLAIN);
        check_chain(PLAIN, whole);
        check_blank(AT_PASID, PCI_EXT_CAP_PASID_SIZEOF);
        check_reads();
        close_function();

        /* The chain's anchor has no name, and leads to what is not hidden. */
        open_function(FIRST);
        check_chain(FIRST, first);
        check_int(get(0x100, 4), 0x14000000);
        check_int(get(0x140, 4) >> 20, 0);
        check_int(get(0x102, 2), 0x1400);
        check_int(get(0x103, 1), 0x14);
        check_reads();
        close_function();

        open_function(PF);
        check_chain(PF, pf);
        sim_lock(kernel);
        sriov = sim_find_ext_capability(function(PF), PCI_EXT_CAP_ID_SRIOV);
        ide = sim_find_ext_capability(function(PF), 0x30);
        sim_unlock(kernel);
        check_blank(sriov, PCI_EXT_CAP_SRIOV_SIZEOF);
        /* Whose streams these are is not the guest's to say: the kernel hides where they are, and would let a write through. */
        put(ide + 12 + 4, 4, 1);
        check_int(hw_get(PF, ide + 12 + 4, 4), 0);
        check_int(host_pwrite(host, device_fd, &(uint32_t) { 1 }, 4, CONFIG + ide + 12 + 4), 4);
        check_int(hw_get(PF, ide + 12 + 4, 4), 1);
        check_int(host_pwrite(host, device_fd, &(uint32_t) { 0 }, 4, CONFIG + ide + 12 + 4), 4);
        check_int(counted("dropped", "EXT_GAP"), 1);
        close_function();

        /* A vendor's capability that says that it goes on behind the end; a chain that bites its tail. */
        open_function(PLAIN);
        space = vconfig_free(space);
        vendor = 0xff0;
        extended(plain, PCI_EXT_CAP_ID_VNDR, AT_VSEC, vendor);
        extended(plain, PCI_EXT_CAP_ID_VNDR, vendor, AT_ATS);
        le32(plain + vendor + PCI_VNDR_HEADER, 0xfffu << 20);
        capability(plain, PCI_CAP_ID_EXP, AT_EXP, AT_VPD);
        require(vconfig_new(&spy.base, device_fd, CONFIG, 4096, &space) == 0);
        check_int(get(vendor, 4) >> 20, 0);
        check_int(get(AT_EXP + 1, 1), 0);
        put(vendor + 8, 4, 0x1234);
        check_int(hw_get(PLAIN, vendor + 8, 4), 0x1234);
        check_reads();
        close_function();
}

/* ---- bus master ---- */

/* The guest sees COMMAND as @expected, in every access that covers it. */
static void check_command(unsigned expected) {
        uint8_t b[16];

        check_int(get(PCI_COMMAND, 2), expected);
        check_int(get(PCI_COMMAND, 4) & 0xffff, expected);
        check_int(get(PCI_COMMAND, 1), expected & 0xff);
        check_int(get(PCI_COMMAND + 1, 1), expected >> 8);
        check_int(get(PCI_COMMAND - 1, 2) >> 8, expected & 0xff);
        check_int(get(PCI_COMMAND - 1, 4) >> 8 & 0xffff, expected);
        check_int(get(PCI_COMMAND - 3, 4) >> 24, expected & 0xff);
        check_int(vconfig_read(space, b, 13, 1), 13);
        check_int(b[3] | b[4] << 8, (int) expected);
}

static void test_master(const char *bdf) {
        const unsigned on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
        unsigned memory;

        test_about("%s", bdf);
        open_function(bdf);
        /* A VF's own bit is not there. */
        memory = hw_get(bdf, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;
        check_command(PCI_COMMAND_MEMORY);
        check(master_is("allowed") && !master_is("wanted"));
        put(PCI_COMMAND, 2, on);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);
        check(master_is("wanted"));

        /* Taken away, and the guest does not see it. */
        vconfig_set_master(space, VCONFIG_MASTER_NO);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        check_command(on);
        check(!master_is("allowed") && master_is("wanted"));

        /* What the guest says of it meanwhile, in accesses of every size and place, is what it reads. */
        put(PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
        check_command(PCI_COMMAND_MEMORY);
        put(PCI_COMMAND, 4, on);
        check_command(on);
        put(PCI_COMMAND - 1, 2, PCI_COMMAND_MEMORY << 8);
        check_command(PCI_COMMAND_MEMORY);
        put(PCI_COMMAND - 2, 3, on << 16);
        check_command(on);
        put(PCI_COMMAND + 1, 1, 0);
        check_command(on);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        check(counted("shadowed", "COMMAND.MASTER") == 2 && counted("dropped", "COMMAND.MASTER") == 0);

        vconfig_set_master(space, VCONFIG_MASTER_YES);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);
        check_command(on);
        /* What is not wanted is not given back. */
        vconfig_set_master(space, VCONFIG_MASTER_NO);
        put(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
        vconfig_set_master(space, VCONFIG_MASTER_YES);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        check_command(PCI_COMMAND_MEMORY);

        /* One that is at work goes on, and none begins. */
        put(PCI_COMMAND, 2, on);
        vconfig_set_master(space, VCONFIG_MASTER_STAYS);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);
        check_command(on);
        check(!master_is("allowed"));
        put(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        put(PCI_COMMAND, 2, on);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        check_command(on);
        vconfig_set_master(space, VCONFIG_MASTER_YES);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);
        vconfig_set_master(space, VCONFIG_MASTER_NO);
        vconfig_set_master(space, VCONFIG_MASTER_STAYS);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        check_command(on);
        vconfig_set_state(space, VCONFIG_RUN);
        vconfig_set_master(space, VCONFIG_MASTER_YES);
        vconfig_set_master(space, VCONFIG_MASTER_STAYS);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);
        vconfig_set_state(space, VCONFIG_UNLOCKED);
        vconfig_set_master(space, VCONFIG_MASTER_YES);

        /* The bit that ends a TDI stays; it goes when there is no TDI any more, with whatever comes next. */
        put(PCI_COMMAND, 2, on);
        vconfig_set_state(space, VCONFIG_RUN);
        vconfig_set_master(space, VCONFIG_MASTER_NO);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);
        check_command(on);
        vconfig_set_state(space, VCONFIG_UNLOCKED);
        check_int(get(PCI_VENDOR_ID, 2), 0x1234);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        check_command(on);
        /* The one that is not on stays off. */
        vconfig_set_state(space, VCONFIG_LOCKED);
        put(PCI_COMMAND, 2, on);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        vconfig_set_master(space, VCONFIG_MASTER_YES);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);

        /* In ERROR it goes off for good, until there is no TDI. */
        vconfig_set_state(space, VCONFIG_ERROR);
        put(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
        put(PCI_COMMAND, 2, on);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        check_command(on);
        vconfig_set_master(space, VCONFIG_MASTER_YES);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        vconfig_set_state(space, VCONFIG_UNLOCKED);
        vconfig_set_master(space, VCONFIG_MASTER_YES);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);

        /* A kernel that cannot be reached now is asked again. */
        spy.fail_write = -EIO;
        vconfig_set_master(space, VCONFIG_MASTER_NO);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory | PCI_COMMAND_MASTER);
        check_command(on);
        spy.fail_write = 0;
        check_command(on);
        check_int(hw_get(bdf, PCI_COMMAND, 2), memory);
        close_function();
        test_about("%s", "");
}

/* ---- shadows ---- */

static void test_bars(void) {
        static const unsigned sizes[] = { 4, 2, 1 };
        uint32_t hw[7];

        open_function(RICH);
        put(PCI_BASE_ADDRESS_0, 4, 0x40000000);
        put(PCI_BASE_ADDRESS_2, 4, 0x50000000);
        put(PCI_BASE_ADDRESS_3, 4, 0x00000008);
        for (unsigned i = 0; i < 7; i++)
                hw[i] = hw_get(RICH, i < 6 ? PCI_BASE_ADDRESS_0 + 4 * i : PCI_ROM_ADDRESS, 4);
        vconfig_set_state(space, VCONFIG_RUN);
        for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
                unsigned n = sizes[s];

                test_about("BARs in pieces of %u", n);
                for (unsigned at = PCI_BASE_ADDRESS_0; at < PCI_BASE_ADDRESS_5 + 4; at += n)
                        put(at, n, UINT32_MAX);
                check_int(get(PCI_BASE_ADDRESS_0, 4), 0xfffff000);
                check_int(get(PCI_BASE_ADDRESS_1, 4), 0);
                check_int(get(PCI_BASE_ADDRESS_2, 4), 0xffffe004);
                check_int(get(PCI_BASE_ADDRESS_3, 4), 0xffffffff);
                put(PCI_ROM_ADDRESS, 4, 0xfffff800);
                check_int(get(PCI_ROM_ADDRESS, 4), 0);
                put(PCI_BASE_ADDRESS_0, 4, 0x40000000);
                put(PCI_BASE_ADDRESS_2, 4, 0x50000000);
                put(PCI_BASE_ADDRESS_3, 4, 0x00000008);
                check_int(get(PCI_BASE_ADDRESS_0, 4), 0x40000000);
                check_int(get(PCI_BASE_ADDRESS_2, 4), 0x50000004);
                check_int(get(PCI_BASE_ADDRESS_3, 4), 0x00000008);
        }
        test_about("%s", "");
        for (unsigned i = 0; i < 7; i++)
                check_int(hw_get(RICH, i < 6 ? PCI_BASE_ADDRESS_0 + 4 * i : PCI_ROM_ADDRESS, 4), hw[i]);
        check(counted("shadowed", "BAR") > 0 && counted("dropped", "BAR") == 0);
        close_function();
}

static void test_shadows(void) {
        const unsigned devctl = AT_EXP + PCI_EXP_DEVCTL, before = 0x2810, wanted = 0x5937;
        uint32_t value;

        /* What was shadowed is done when the TDI is no more. */
        open_function(RICH);
        vconfig_set_state(space, VCONFIG_RUN);
        put(PCI_COMMAND, 2, 0);
        put(devctl, 2, wanted);
        check_int(get(PCI_COMMAND, 2), 0);
        check_int(get(devctl, 2), wanted);
        check_int(get(devctl + 1, 1), wanted >> 8);
        check_int(get(devctl - 1, 4) >> 8 & 0xffff, wanted);
        check_int(hw_get(RICH, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
        /* The enables of error messages are not among what is locked. */
        check_int(hw_get(RICH, devctl, 2), before | 7);
        check_int(host_pread(host, device_fd, &value, 4, BAR(0)), 4);
        vconfig_set_state(space, VCONFIG_UNLOCKED);
        check_int(get(devctl, 2), wanted);
        check_int(get(PCI_COMMAND, 2), 0);
        check_int(hw_get(RICH, PCI_COMMAND, 2), 0);
        /* Packet sizes never reach the hardware, and the kernel shows what was written. */
        check_int(hw_get(RICH, devctl, 2), (wanted & 0xff1f) | (before & 0x00e0));
        check_int(host_pread(host, device_fd, &value, 4, BAR(0)), -EIO);
        close_function();

        /* What the guest has put back by then is not. */
        open_function(RICH);
        vconfig_set_state(space, VCONFIG_LOCKED);
        put(PCI_COMMAND, 2, 0);
        put(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
        check_int(get(PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
        spy_forget();
        vconfig_set_state(space, VCONFIG_UNLOCKED);
        check_int(get(PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
        check_int(spy.writes, 0);
        /* In ERROR decoding may be switched off, but nothing that is on by itself is switched on. */
        vconfig_set_state(space, VCONFIG_RUN);
        put(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
        check_int(hw_get(RICH, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        vconfig_set_state(space, VCONFIG_ERROR);
        check_int(get(PCI_COMMAND, 2), PCI_COMMAND_MASTER);
        check_int(hw_get(RICH, PCI_COMMAND, 2), PCI_COMMAND_MASTER);
        close_function();

        /* A VF: only the virtual bit says what the guest wants, and the kernel's stays on while the shadow is off. */
        open_function(VF);
        vconfig_set_state(space, VCONFIG_RUN);
        put(PCI_COMMAND, 2, 0);
        check_int(get(PCI_COMMAND, 2), 0);
        check_int(host_pread(host, device_fd, &value, 2, CONFIG + PCI_COMMAND), 2);
        check_int(value & PCI_COMMAND_MEMORY, PCI_COMMAND_MEMORY);
        vconfig_set_state(space, VCONFIG_UNLOCKED);
        check_int(get(PCI_COMMAND, 2), 0);
        check_int(host_pread(host, device_fd, &value, 2, CONFIG + PCI_COMMAND), 2);
        check_int(value & PCI_COMMAND_MEMORY, 0);
        close_function();
}

static void hw_all(const char *bdf, uint8_t c[4096]) {
        sim_lock(kernel);
        memcpy(c, streq(bdf, PLAIN) ? plain : function(bdf)->config, 4096);
        sim_unlock(kernel);
}

/* Everything that is read, written back at once: nothing changes, nothing is refused, whatever the state. */
static void test_whole(void) {
        static const char *const functions[] = { RICH, FIRST, PF, VF, PLAIN };
        uint8_t all[4096], again[4096], before[4096], after[4096];

        for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
                for (enum vconfig_state state = VCONFIG_UNLOCKED; state <= VCONFIG_ERROR; state++)
                        for (unsigned piece = 4096; piece > 0; piece = piece == 4096 ? 7 : piece == 7 ? 3 : 0) {
                                _cleanup_json_ struct json_object *o = NULL;
                                struct json_object *dropped, *shadowed;

                                test_about("%s, state %d, pieces of %u", functions[i], (int) state, piece);
                                open_function(functions[i]);
                                vconfig_set_state(space, state);
                                check_int(vconfig_read(space, all, sizeof(all), 0), sizeof(all));
                                hw_all(functions[i], before);
                                for (unsigned at = 0, n; at < 4096; at += n) {
                                        n = piece < 4096 - at ? piece : 4096 - at;
                                        check_int(vconfig_write(space, all + at, n, at), n);
                                }
                                check_int(vconfig_read(space, again, sizeof(again), 0), sizeof(again));
                                /* Of the VPD, the kernel has loaded a word. */
                                if (i == 0)
                                        again[AT_VPD + PCI_VPD_ADDR + 1] = all[AT_VPD + PCI_VPD_ADDR + 1];
                                check(memcmp(all, again, sizeof(all)) == 0);
                                hw_all(functions[i], after);
                                check(memcmp(before, after, sizeof(before)) == 0);
                                o = vconfig_describe(space);
                                require(json_get_object(o, "dropped", &dropped) == 0 && json_get_object(o, "shadowed", &shadowed) == 0);
                                check_int(json_object_object_length(dropped), 0);
                                check_int(json_object_object_length(shadowed), 0);
                                close_function();
                        }
        test_about("%s", "");
}

/* ---- resets ---- */

static enum vconfig_effect effect(unsigned at, unsigned size, uint32_t v) {
        uint8_t b[4];

        le32(b, v);
        return vconfig_effect(space, b, size, at);
}

static void test_effect(void) {
        const unsigned devctl = AT_EXP + PCI_EXP_DEVCTL, pm = AT_PM + PCI_PM_CTRL, af = AT_AF + PCI_AF_CTRL;
        uint8_t all[4096];

        open_function(RICH);
        check_int(effect(devctl, 2, 0x7fff), VCONFIG_PLAIN);
        check_int(effect(devctl, 2, 0x8000), VCONFIG_SLOW);
        check_int(effect(devctl, 1, 0xff), VCONFIG_PLAIN);
        check_int(effect(devctl + 1, 1, 0x80), VCONFIG_SLOW);
        check_int(effect(devctl, 4, 0x00008000), VCONFIG_SLOW);
        check_int(effect(devctl, 4, 0x80000000), VCONFIG_PLAIN);
        check_int(effect(devctl - 2, 4, 0x80000000), VCONFIG_SLOW);
        check_int(effect(devctl + 1, 3, 0x000080), VCONFIG_SLOW);
        check_int(effect(af, 1, 1), VCONFIG_SLOW);
        check_int(effect(af, 1, 0xfe), VCONFIG_PLAIN);
        check_int(effect(af - 1, 2, 0x0100), VCONFIG_SLOW);
        check_int(effect(AT_AF, 4, UINT32_MAX), VCONFIG_PLAIN);
        check_int(effect(pm, 1, 3), VCONFIG_SLOW);
        check_int(effect(pm, 2, 0x0100), VCONFIG_PLAIN);
        check_int(effect(pm - 1, 4, 0x00000300), VCONFIG_SLOW);
        check_int(effect(pm + 1, 1, 0x03), VCONFIG_PLAIN);
        check_int(effect(PCI_COMMAND, 4, UINT32_MAX), VCONFIG_PLAIN);
        check_int(effect(4094, 4, UINT32_MAX), VCONFIG_PLAIN);
        check_int(vconfig_read(space, all, sizeof(all), 0), sizeof(all));
        check_int(vconfig_effect(space, all, sizeof(all), 0), VCONFIG_PLAIN);
        all[devctl + 1] |= 0x80;
        check_int(vconfig_effect(space, all, sizeof(all), 0), VCONFIG_SLOW);
        all[devctl + 1] &= 0x7f;
        /* Back to D0 is a change too, and staying where it is is none. */
        put(pm, 2, 3);
        check_int(hw_get(RICH, pm, 1) & 3, 3);
        check_int(effect(pm, 2, 3), VCONFIG_PLAIN);
        check_int(effect(pm, 2, 0), VCONFIG_SLOW);
        check_int(vconfig_effect(space, all, sizeof(all), 0), VCONFIG_SLOW);
        put(pm, 2, 0);
        check_int(effect(pm, 2, 0), VCONFIG_PLAIN);
        /* What will be refused is quick. */
        vconfig_set_state(space, VCONFIG_RUN);
        check_int(effect(devctl, 2, 0x8000), VCONFIG_PLAIN);
        check_int(effect(af, 1, 1), VCONFIG_PLAIN);
        check_int(effect(pm, 1, 3), VCONFIG_PLAIN);
        close_function();
}

static void test_resets(void) {
        const unsigned devctl = AT_EXP + PCI_EXP_DEVCTL, on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

        for (unsigned i = 0; i < 4; i++) {
                const unsigned at = i & 1 ? AT_AF + PCI_AF_CTRL : devctl;
                const bool locked = i & 2;

                test_about("FLR at %#x, %s", at, locked ? "locked" : "unlocked");
                open_function(RICH);
                write32(device_fd, BAR(0), 0x1234);
                vconfig_set_master(space, VCONFIG_MASTER_NO);
                put(PCI_COMMAND, 2, on);
                if (locked)
                        vconfig_set_state(space, VCONFIG_LOCKED);
                put(at, i & 1 ? 1 : 2, i & 1 ? PCI_AF_CTRL_FLR : PCI_EXP_DEVCTL_BCR_FLR | 0x2810);
                check_int(read32(device_fd, BAR(0)), locked ? 0x1234 : 0);
                check_int(counted("dropped", "FLR"), locked);
                check_int(get(at, 1) & 1 << (i & 1 ? 0 : 7), 0);
                /* The kernel puts COMMAND back, so the guest's wish stays too. */
                check_int(get(PCI_COMMAND, 2), on);
                check_int(hw_get(RICH, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
                close_function();
        }
        test_about("%s", "");

        open_function(RICH);
        put(PCI_COMMAND, 2, on);
        vconfig_set_state(space, VCONFIG_RUN);
        put(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
        put(devctl, 2, 0x5810);
        check_int(CALL(device_fd, VFIO_DEVICE_RESET, NULL), 0);
        vconfig_set_state(space, VCONFIG_UNLOCKED);
        vconfig_was_reset(space);
        check_int(get(PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
        check_int(hw_get(RICH, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
        check_int(get(devctl, 2), 0x2810);
        check(!master_is("wanted") && master_is("allowed"));
        put(PCI_COMMAND, 2, on);
        check_int(hw_get(RICH, PCI_COMMAND, 2), on);
        vconfig_set_master(space, VCONFIG_MASTER_NO);
        vconfig_was_reset(space);
        vconfig_set_master(space, VCONFIG_MASTER_YES);
        check_int(get(PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
        close_function();
}

/* ---- interrupts ---- */

static void test_msix(void) {
        open_function(RICH);
        for (enum vconfig_state state = VCONFIG_UNLOCKED; state <= VCONFIG_ERROR; state++) {
                bool may_end = state != VCONFIG_LOCKED && state != VCONFIG_RUN, open = may_end && state != VCONFIG_ERROR;

                test_about("state %d", (int) state);
                vconfig_set_state(space, state);
                check_int(vconfig_may_set_irqs(space), may_end);
                check_int(vconfig_may_add_irqs(space), open);
                /* 70 vectors of 16 bytes, 2 words of pending bits. */
                check_int(vconfig_may_write_bar(space, 2, 0x1000, 4), open);
                check_int(vconfig_may_write_bar(space, 2, 0x1000 + 70 * 16 - 1, 1), open);
                check(vconfig_may_write_bar(space, 2, 0x1000 + 70 * 16, 4));
                check(vconfig_may_write_bar(space, 2, 0x1000 - 4, 4));
                check_int(vconfig_may_write_bar(space, 2, 0x1000 - 4, 5), open);
                check_int(vconfig_may_write_bar(space, 2, 0x1808, 8), open);
                check(vconfig_may_write_bar(space, 2, 0x1810, 8));
                check(vconfig_may_write_bar(space, 2, 0x17f8, 8));
                check_int(vconfig_may_write_bar(space, 2, 0, UINT64_MAX), open);
                check(vconfig_may_write_bar(space, 2, 0x1000, 0));
                check(vconfig_may_write_bar(space, 2, UINT64_MAX, UINT64_MAX));
                check(vconfig_may_write_bar(space, 0, 0x1000, 4));
                check(vconfig_may_write_bar(space, 1, 0x1000, UINT64_MAX));
        }
        close_function();
        open_function(FIRST);
        vconfig_set_state(space, VCONFIG_RUN);
        check(vconfig_may_write_bar(space, 0, 0, 4096));
        check(!vconfig_may_set_irqs(space));
        close_function();
        test_about("%s", "");
}

/* ---- errors ---- */

static void test_errors(void) {
        struct vconfig *other = NULL;
        _cleanup_json_ struct json_object *o = NULL;
        uint8_t b[8] = {};

        open_function(RICH);
        check_int(vconfig_read(space, b, 0, 0), -EINVAL);
        check_int(vconfig_read(space, b, 1, 4096), -EINVAL);
        check_int(vconfig_read(space, b, 2, 4095), -EINVAL);
        check_int(vconfig_read(space, b, 2, UINT64_MAX), -EINVAL);
        check_int(vconfig_write(space, b, 0, 0), -EINVAL);
        check_int(vconfig_write(space, b, 8, 4089), -EINVAL);
        check_int(vconfig_write(space, b, SIZE_MAX, 1), -EINVAL);
        check_int(vconfig_effect(space, b, 8, UINT64_MAX - 2), VCONFIG_PLAIN);

        /* A write that fails changes nothing of what the guest sees. */
        vconfig_set_state(space, VCONFIG_RUN);
        spy.fail_read = -ENODEV;
        check_int(vconfig_read(space, b, 4, 0), -ENODEV);
        check_int(vconfig_write(space, b, 2, PCI_COMMAND), -ENODEV);
        spy.fail_read = 0;
        spy.fail_write = -EPERM;
        check_int(vconfig_write(space, b, 2, PCI_COMMAND), -EPERM);
        spy.fail_write = 1;
        check_int(vconfig_write(space, b, 2, PCI_COMMAND), -EIO);
        spy.fail_write = 0;
        check_int(get(PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
        put(PCI_COMMAND, 2, 0);
        check_int(get(PCI_COMMAND, 2), 0);

        o = vconfig_describe(space);
        check_str(json_str_or(o, "state", NULL), "run");
        spy.fail_read = -EIO;
        check_int(vconfig_new(&spy.base, device_fd, CONFIG, 4096, &other), -EIO);
        spy.fail_read = 0;
        check_int(vconfig_new(&spy.base, device_fd, CONFIG, 255, &other), -EINVAL);
        check_int(vconfig_new(&spy.base, device_fd, CONFIG, 4098, &other), -EINVAL);
        check_int(vconfig_new(&spy.base, device_fd, CONFIG, 8192, &other), -EINVAL);
        check(!other && !vconfig_free(NULL));
        close_function();

        open_function(PLAIN);
        plain[PCI_HEADER_TYPE] = 0x81;
        check_int(vconfig_new(&spy.base, device_fd, CONFIG, 4096, &other), -EOPNOTSUPP);
        memset(plain, 0xff, sizeof(plain));
        check_int(vconfig_new(&spy.base, device_fd, CONFIG, 4096, &other), -ENODEV);
        close_function();

        /* 256 bytes: a conventional function. */
        open_function(PLAIN);
        require(vconfig_new(&spy.base, device_fd, CONFIG, 256, &other) == 0);
        check_int(vconfig_read(other, b, 1, 256), -EINVAL);
        check_int(vconfig_write(other, b, 2, 255), -EINVAL);
        check_int(vconfig_read(other, b, 8, 248), 8);
        other = vconfig_free(other);
        close_function();
}

/* A guest that writes what it must not as fast as it can. */
static void test_flood(void) {
        char path[] = "/tmp/tdid-test-log-XXXXXX", line[1024];
        int saved = dup(2), log = mkstemp(path);
        unsigned lines = 0, flr = 0;
        uint8_t ones[4096];
        FILE *f;

        require(saved >= 0 && log >= 0 && dup2(log, 2) == 2);
        memset(ones, 0xff, sizeof(ones));
        open_function(RICH);
        vconfig_set_state(space, VCONFIG_RUN);
        put(AT_EXP + PCI_EXP_DEVCTL + 1, 1, 0x80);
        for (unsigned i = 0; i < 20; i++) {
                check_int(vconfig_write(space, ones, sizeof(ones), 0), sizeof(ones));
                vconfig_set_master(space, (enum vconfig_master) (i % 3));
        }
        check_int(counted("dropped", "FLR"), 21);
        check_int(counted("shadowed", "BAR"), 20);
        close_function();
        (void) fflush(stderr);
        require(dup2(saved, 2) == 2);
        close_fd(saved);
        close_fd(log);
        f = fopen(path, "re");
        require(f);
        while (fgets(line, sizeof(line), f)) {
                lines++;
                flr += strstr(line, RICH ": config space, FLR: a write was refused in state run: needs unbind first (1 so far)") != NULL;
        }
        (void) fclose(f);
        (void) unlink(path);
        check_int(flr, 1);
        check(lines > 1 && lines <= 8);
}

/* ---- threads ---- */

static atomic_bool end;
static atomic_uint rounds;

static unsigned hw_command(void) {
        return hw_get(RICH, PCI_COMMAND, 2);
}

/* While it is not allowed, it is off, whatever the guest does. */
static void *master_thread(_unused_ void *data) {
        for (unsigned i = 0; !atomic_load(&end); i++) {
                vconfig_set_master(space, VCONFIG_MASTER_NO);
                for (unsigned j = 0; j < 4; j++)
                        check_int(hw_command() & PCI_COMMAND_MASTER, 0);
                vconfig_set_master(space, VCONFIG_MASTER_YES);
                atomic_store(&rounds, i);
        }
        return NULL;
}

/* The supervisor's part: nothing of it waits for the others. */
static void *quick_thread(_unused_ void *data) {
        while (!atomic_load(&end)) {
                _cleanup_json_ struct json_object *o = vconfig_describe(space);

                check_str(json_str_or(o, "state", ""), "unlocked");
                check(vconfig_may_set_irqs(space) && vconfig_may_write_bar(space, 2, 0x1000, 4));
                check_int(effect(AT_EXP + PCI_EXP_DEVCTL, 2, 0x8000), VCONFIG_SLOW);
                vconfig_set_state(space, VCONFIG_UNLOCKED);
        }
        return NULL;
}

static void test_threads(void) {
        pthread_t master, quick;
        unsigned i;

        open_function(RICH);
        require(pthread_create(&master, NULL, master_thread, NULL) == 0 && pthread_create(&quick, NULL, quick_thread, NULL) == 0);
        /* What the guest wrote is what it reads. */
        for (i = 0; i < 400 || (atomic_load(&rounds) < 50 && i < 20000); i++) {
                unsigned v = PCI_COMMAND_MEMORY | (test_random() & PCI_COMMAND_MASTER);

                put(PCI_COMMAND, test_random() % 2 ? 2 : 1, v);
                check_command(v);
        }
        atomic_store(&end, true);
        require(pthread_join(master, NULL) == 0 && pthread_join(quick, NULL) == 0);
        check(atomic_load(&rounds) >= 50);
        check_int(hw_command() & PCI_COMMAND_MASTER, get(PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
        close_function();
}

/* ---- what is illegal ---- */

static ssize_t try(unsigned at, unsigned size, uint32_t v) {
        uint8_t b[4] = { (uint8_t) v, (uint8_t) (v >> 8), (uint8_t) (v >> 16), (uint8_t) (v >> 24) };

        return vconfig_write(space, b, size, at);
}

static bool needs_unbind(unsigned at, unsigned size, uint32_t v) {
        uint8_t b[4] = { (uint8_t) v, (uint8_t) (v >> 8), (uint8_t) (v >> 16), (uint8_t) (v >> 24) };

        return vconfig_needs_unbind(space, b, size, at);
}

static void test_illegal(void) {
        const unsigned on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, devctl = AT_EXP + PCI_EXP_DEVCTL;
        unsigned reporting;

        check_int(vconfig_illegal_from_string("unbind"), VCONFIG_ILLEGAL_UNBIND);
        check(vconfig_illegal_from_string("shed") < 0 && vconfig_illegal_from_string(NULL) < 0);
        for (enum vconfig_illegal illegal = VCONFIG_ILLEGAL_REFUSE; illegal < _VCONFIG_ILLEGAL_MAX; illegal++) {
                test_about("%s", illegal == VCONFIG_ILLEGAL_REFUSE ? "refuse" : "unbind");
                open_function(RICH);
                vconfig_set_illegal(space, illegal);
                put(PCI_COMMAND, 2, on);
                put(PCI_BASE_ADDRESS_0, 4, 0x40000000);
                for (enum vconfig_state state = VCONFIG_LOCKED; state <= VCONFIG_RUN; state++) {
                        vconfig_set_state(space, state);
                        /* Nothing of it is done, also where the rest of it would pass. */
                        check_int(try(PCI_COMMAND, 2, PCI_COMMAND_MASTER), -EPERM);
                        check_int(try(PCI_COMMAND, 4, PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE), -EPERM);
                        check_int(try(PCI_COMMAND, 2, PCI_COMMAND_MEMORY), -EPERM);
                        check_int(try(PCI_BASE_ADDRESS_0, 4, UINT32_MAX), -EPERM);
                        check_int(try(devctl + 1, 1, PCI_EXP_DEVCTL_BCR_FLR >> 8), -EPERM);
                        check_int(hw_get(RICH, PCI_COMMAND, 2), on);
                        check_int(get(PCI_COMMAND, 2), on);
                        check_int(get(PCI_BASE_ADDRESS_0, 4), 0x40000000);
                        check(needs_unbind(PCI_COMMAND, 2, 0) == (illegal == VCONFIG_ILLEGAL_UNBIND));
                        check(needs_unbind(devctl + 1, 1, PCI_EXP_DEVCTL_BCR_FLR >> 8) == (illegal == VCONFIG_ILLEGAL_UNBIND));
                        /* What changes nothing, what is not locked, and what passes in no state. */
                        check(!needs_unbind(PCI_COMMAND, 2, on) && !needs_unbind(PCI_BASE_ADDRESS_0, 4, 0x40000000) && !needs_unbind(AT_PRI + 4, 2, 1));
                        check_int(try(PCI_COMMAND, 2, on), 2);
                        check_int(try(PCI_BASE_ADDRESS_0, 4, 0x40000000), 4);
                        check_int(try(AT_PRI + 4, 2, 1), 2);
                        reporting = get(devctl, 2) ^ 1;
                        check_int(try(devctl, 2, reporting), 2);
                        check_int(hw_get(RICH, devctl, 2), reporting);
                        /* tdid's own doing is not the guest's. */
                        vconfig_set_master(space, VCONFIG_MASTER_STAYS);
                        check(!needs_unbind(PCI_COMMAND, 2, PCI_COMMAND_MEMORY));
                        check_int(try(PCI_COMMAND, 2, PCI_COMMAND_MEMORY), 2);
                        check_int(try(PCI_COMMAND, 2, on), 2);
                        vconfig_set_master(space, VCONFIG_MASTER_YES);
                }
                check_int(counted("dropped", "COMMAND.MEM"), 4);
                check_int(counted("shadowed", "COMMAND.MEM"), 0);
                /* CONFIG_UNLOCKED, but bound: a reset ends it too, and nothing else does. */
                vconfig_set_state(space, VCONFIG_BOUND);
                check_int(try(devctl + 1, 1, PCI_EXP_DEVCTL_BCR_FLR >> 8), -EPERM);
                check_int(try(PCI_COMMAND, 2, PCI_COMMAND_MEMORY), 2);
                /* There is nothing left to break; and then nothing to end. */
                vconfig_set_state(space, VCONFIG_ERROR);
                check_int(try(PCI_BASE_ADDRESS_0, 4, 0x50000000), 4);
                check(!needs_unbind(PCI_BASE_ADDRESS_0, 4, 0x60000000));
                vconfig_set_state(space, VCONFIG_UNLOCKED);
                check_int(try(PCI_COMMAND, 2, 0), 2);
                check_int(hw_get(RICH, PCI_COMMAND, 2), 0);
                close_function();
        }
        test_about("%s", "");
}

int main(void) {
        machine_start();
        test_illegal();
        test_hidden();
        test_master(RICH);
        test_master(VF);
        test_bars();
        test_shadows();
        test_whole();
        test_effect();
        test_resets();
        test_msix();
        test_errors();
        test_flood();
        test_threads();
        kernel_end();
        return test_end();
}
