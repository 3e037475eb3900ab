/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions: lookup, who shares a reset with whom, and which DSM speaks for a function. */
#include "device.h"
#include "test.h"

static Manager manager;
static Device functions[16], *sorted[16];

/* In the order of their addresses, as the inventory keeps them. */
static Device *add(const char *text) {
        Device *d = functions + manager.n_devices;

        *d = (Device){ .manager = &manager, .group = -1, .phys_fn = UINT32_MAX, .upstream_above = UINT32_MAX, .class = 0x010802 };
        require(tdi_bdf_parse(text, &d->bdf) == 0);
        require(manager.n_devices == 0 || tdi_bdf_number(sorted[manager.n_devices - 1]->bdf) < tdi_bdf_number(d->bdf));
        sorted[manager.n_devices++] = d;
        return d;
}

static void reset(void) {
        manager = (Manager){ .devices = sorted };
}

static struct tdi_bdf bdf(const char *text) {
        struct tdi_bdf b;

        require(tdi_bdf_parse(text, &b) == 0);
        return b;
}

static void test_find(void) {
        static const char *const all[] = { "0000:00:00.0", "0000:00:1f.7", "0000:01:00.0", "0000:ff:1f.7", "0001:00:00.0", "ffff:ff:1f.7" };
        static const char *const none[] = { "0000:00:00.1", "0000:00:1f.6", "0000:01:00.1", "0000:ff:1f.6", "0001:00:00.1", "ffff:ff:1f.6", "0002:00:00.0" };

        for (size_t n = 0; n <= ARRAY_SIZE(all); n++) {
                reset();
                for (size_t i = 0; i < n; i++)
                        add(all[i]);
                for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                        test_about("%s among %zu", all[i], n);
                        check(device_find(&manager, bdf(all[i])) == (i < n ? functions + i : NULL));
                }
                for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
                        test_about("%s among %zu", none[i], n);
                        check(!device_find(&manager, bdf(none[i])));
                }
        }
        check(device_find_number(&manager, UINT32_MAX) == functions + 5);
        check(!device_find_number(&manager, UINT32_MAX - 1));
}

static void test_bridge(void) {
        static const struct {
                uint32_t class;
                bool bridge;
        } cases[] = {
                { 0x060000, true }, { 0x060400, true }, { 0x0604ff, true }, { 0x06ffff, true }, { 0x05ffff, false }, { 0x070000, false },
                { 0x010802, false }, { 0x000006, false }, { 0x000600, false }, { 0, false }, { 0xff0604, false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                Device d = { .class = cases[i].class };

                test_about("class %06x", cases[i].class);
                check_int(device_is_bridge(&d), cases[i].bridge);
        }
}

static void check_shares(Device *a, Device *b, bool expected) {
        check_int(device_shares_reset(a, b), expected);
        check_int(device_shares_reset(b, a), expected);
}

static void test_isolated(void) {
        Device *bridge, *alone, *f0, *f1, *a, *b;

        reset();
        bridge = add("0000:00:01.0");
        alone = add("0000:01:00.0");
        f0 = add("0000:02:00.0");
        f1 = add("0000:02:00.1");
        a = add("0000:03:00.0");
        b = add("0000:03:01.0");
        bridge->class = 0x060400;
        bridge->group = 1;
        alone->group = 2;
        f0->group = f1->group = 3;
        a->group = b->group = 4;
        check(device_is_isolated(alone));
        /* What its own device does among its functions is its business. */
        check(device_is_isolated(f0));
        check(device_is_isolated(f1));
        check(!device_is_isolated(a));
        check(!device_is_isolated(b));
        b->group = 5;
        check(device_is_isolated(a));
        bridge->group = 2;
        check(!device_is_isolated(alone));
        alone->group = -1;
        check(!device_is_isolated(alone));
        /* The same address on another bus, or in another domain. */
        reset();
        a = add("0000:03:00.0");
        b = add("0000:04:00.0");
        f0 = add("0001:03:00.0");
        a->group = b->group = 1;
        f0->group = 2;
        check(!device_is_isolated(a));
        b->group = 2;
        check(device_is_isolated(a));
        f0->group = 1;
        check(!device_is_isolated(a));
}

static void test_shares_reset(void) {
        Device *f0, *f1, *other_dev, *other_bus, *other_domain, *vf;

        reset();
        f0 = add("0000:01:00.0");
        f1 = add("0000:01:00.1");
        vf = add("0000:01:00.4");
        other_dev = add("0000:01:01.0");
        other_bus = add("0000:02:00.0");
        other_domain = add("0001:01:00.0");
        vf->phys_fn = tdi_bdf_number(f0->bdf);

        test_about("%s", "without groups");
        check_shares(f0, f1, true);
        check_shares(f0, f0, true);
        check_shares(f0, other_dev, false);
        check_shares(f0, other_bus, false);
        check_shares(f0, other_domain, false);
        /* A VF is reset by itself, whatever its number. */
        check_shares(f0, vf, false);
        check_shares(f1, vf, false);

        test_about("%s", "one group");
        f0->group = other_bus->group = vf->group = 0;
        other_dev->group = 1;
        check_shares(f0, other_bus, true);
        check_shares(f0, vf, true);
        check_shares(f0, other_dev, false);
        /* Without a group is no group. */
        check_shares(f1, other_domain, false);
        check_shares(f0, f1, true);
}

/* find_dsm_dev() of drivers/pci/tsm.c: the function itself, function 0 of its (physical) device, the switch port above. */
static void test_dsm(void) {
        Device *port, *f0, *f1, *vf, *far, *up;

        reset();
        up = add("0000:02:00.0");
        port = add("0000:03:00.0");
        f0 = add("0000:04:00.0");
        f1 = add("0000:04:00.1");
        vf = add("0000:04:02.3");
        far = add("0000:05:00.0");
        port->class = up->class = 0x060400;
        vf->phys_fn = tdi_bdf_number(f1->bdf);
        for (Device *const *d = sorted; d < sorted + manager.n_devices; d++)
                if (*d != up && *d != port)
                        (*d)->upstream_above = tdi_bdf_number(up->bdf);

        test_about("%s", "nobody");
        for (size_t i = 0; i < manager.n_devices; i++)
                check(!device_dsm(sorted[i]));

        test_about("%s", "the switch above");
        up->tee = DEVICE_DSM;
        check(device_dsm(f0) == up && device_dsm(f1) == up && device_dsm(vf) == up && device_dsm(far) == up && device_dsm(up) == up);
        check(!device_dsm(port));

        test_about("%s", "function 0");
        f0->tee = DEVICE_DSM | DEVICE_TEE_IO | DEVICE_IDE | DEVICE_DOE;
        check(device_dsm(f0) == f0 && device_dsm(f1) == f0 && device_dsm(far) == up);
        /* A VF's is that of its physical function's device, not of its own slot. */
        check(device_dsm(vf) == f0);

        test_about("%s", "itself");
        f1->tee = DEVICE_DSM;
        check(device_dsm(f1) == f1 && device_dsm(vf) == f0);
        vf->tee = DEVICE_DSM;
        check(device_dsm(vf) == vf);

        test_about("%s", "what a function can does not make it a DSM");
        f0->tee = f1->tee = vf->tee = up->tee = DEVICE_TEE_IO | DEVICE_IDE | DEVICE_DOE;
        check(!device_dsm(f0) && !device_dsm(f1) && !device_dsm(vf) && !device_dsm(far));

        test_about("%s", "a VF whose physical function has gone");
        up->tee = f0->tee = DEVICE_DSM;
        vf->phys_fn = 0x7777;
        check(!device_dsm(vf));

        test_about("%s", "a switch that has gone, and none");
        far->upstream_above = 0x7777;
        check(!device_dsm(far));
        far->upstream_above = UINT32_MAX;
        check(!device_dsm(far));
}

static void test_path(void) {
        char path[64];

        test_about("%s", "path");
        check_str(device_path(bdf("ffff:ff:1f.7"), path), "/org/tdid1/device/ffff_ff_1f_7");
        check(!device_free(NULL));
}

int main(void) {
        test_find();
        test_bridge();
        test_isolated();
        test_shares_reset();
        test_dsm();
        test_path();
        return test_end();
}
