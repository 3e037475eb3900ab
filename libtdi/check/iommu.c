/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The IOMMU and its groups. */
#include <limits.h>
#include <stdio.h>

#include "check/internal.h"
#include "model/recognise.h"

static const char *const present_remedies[] = {
        "Turn the IOMMU on in the firmware's setup (VT-d, AMD-Vi, SMMU); in a VM, give it a virtual one.",
        "Turn VT-d on in the firmware's setup, and boot with intel_iommu=on.",
        "Take what turns the IOMMU off from the kernel's command line.",
        NULL,
};

/* What the command line says against it: iommu_setup(), intel_iommu_setup(), parse_amd_iommu_options(). */
static const char *turned_off(const char *cmdline) {
        static const char *const words[] = { "iommu", "intel_iommu", "amd_iommu" };
        static char text[64];
        char value[32];

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (kernel_parameter(cmdline, words[i], value, sizeof(value)) && streq(value, "off")) {
                        snprintf(text, sizeof(text), "%s=off", words[i]);
                        return text;
                }
        return NULL;
}

static void check_present(struct check *c) {
        const char *cmdline = json_str_or(c->facts->host, "cmdline", ""), *off = turned_off(cmdline);
        _cleanup_(host_names_freep) char **units = NULL;
        size_t n = 0;
        int r;

        r = host_list(c->host, "/sys/class/iommu", &units);
        if (r < 0 && r != -ENOENT) {
                check_say(c, CHECK_SKIP, NULL, "listing /sys/class/iommu: %s", check_error(r));
                return;
        }
        for (char **u = units; u && *u; u++)
                n++;
        if (n > 0)
                check_say(c, CHECK_PASS, NULL, "%zu in use: %s%s", n, units[0], n > 1 ? " and others" : "");
        else if (off)
                check_say(c, CHECK_FAIL, present_remedies[2], "the kernel uses none, as its command line says %s", off);
        else if (c->facts->cpuinfo && strstr(c->facts->cpuinfo, "GenuineIntel"))
                check_say(c, CHECK_FAIL, present_remedies[1], "the kernel uses none: no function can be assigned");
        else
                check_say(c, CHECK_FAIL, present_remedies[0], "the kernel uses none: no function can be assigned");
}

static const char *const group_remedies[] = {
        "Turn the IOMMU on first (see IOMMU).",
        "Assign these together, or put the cards into slots whose ports have ACS ('lspci -vv').",
        "Keep this function on the host: no IOMMU is above it.",
        NULL,
};

static int by_group(const void *a, const void *b) {
        const struct check_function *x = *(struct check_function *const *) a, *y = *(struct check_function *const *) b;

        if (x->group != y->group)
                return x->group < y->group ? -1 : 1;
        return strcmp(x->bdf, y->bdf);
}

/* The device's part of a BDF: "0000:01:00". */
static bool same_device(const struct check_function *a, const struct check_function *b) {
        return strncmp(a->bdf, b->bdf, strlen(a->bdf) - 2) == 0;
}

/* Everything in a group, as far as it is no bridge and no function of the same card: it goes where the function goes. */
static const char *stranger_in_group(struct check *c, const struct check_function *fn, char bdf[static TDI_BDF_MAX]) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX];
        uint64_t class;

        snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%lld/devices", (long long) fn->group);
        if (host_list(c->host, path, &names) < 0)
                return NULL;
        for (char **n = names; *n; n++) {
                struct check_function other = {};

                snprintf(other.bdf, sizeof(other.bdf), "%.*s", TDI_BDF_MAX - 1, *n);
                if (same_device(fn, &other))
                        continue;
                snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", *n);
                if (host_read_u64(c->host, path, &class) < 0 || class >> 16 == 0x06)
                        continue;
                memcpy(bdf, other.bdf, sizeof(other.bdf));
                return bdf;
        }
        return NULL;
}

static void check_groups(struct check *c) {
        struct check_facts *f = c->facts;
        _cleanup_free_ struct check_function **sorted = calloc(f->n_functions + 1, sizeof(*sorted));
        size_t n = 0, in_group = 0, groups = 0;
        char other[TDI_BDF_MAX];

        for (size_t i = 0; sorted && i < f->n_functions; i++)
                if (!f->functions[i].bridge)
                        sorted[n++] = f->functions + i;
        if (n == 0) {
                check_say(c, CHECK_SKIP, NULL, f->functions_error < 0 ? "there are no PCI functions to be seen (%s)" : "there are no PCI functions but bridges%s",
                          f->functions_error < 0 ? check_error(f->functions_error) : "");
                return;
        }
        qsort(sorted, n, sizeof(*sorted), by_group);
        for (size_t i = 0; i < n; i++) {
                in_group += sorted[i]->group >= 0;
                groups += sorted[i]->group >= 0 && (i == 0 || sorted[i - 1]->group != sorted[i]->group);
        }
        for (size_t i = 0; i < n && in_group > 0; i++) {
                if (sorted[i]->group < 0)
                        check_say_of(c, sorted[i]->bdf, CHECK_WARN, "is in no IOMMU group");
                else if (stranger_in_group(c, sorted[i], other))
                        check_say_of(c, sorted[i]->bdf, CHECK_WARN, "shares group %lld with %s of another card", (long long) sorted[i]->group, other);
        }
        if (in_group == 0)
                check_say(c, CHECK_FAIL, group_remedies[0], "%s %zu function%s %s in no IOMMU group", n == 1 ? "the" : "all", n, n == 1 ? "" : "s", n == 1 ? "is" : "are");
        else if (c->counts[CHECK_WARN] > n - in_group)
                check_say(c, CHECK_WARN, group_remedies[1], "%zu of %zu functions cannot go to a VM without another card", c->counts[CHECK_WARN] - (n - in_group), n);
        else if (c->counts[CHECK_WARN] > 0)
                check_say(c, CHECK_WARN, group_remedies[2], "%zu of %zu functions are in no IOMMU group", c->counts[CHECK_WARN], n);
        else
                check_say(c, CHECK_PASS, NULL, "%zu function%s in %zu group%s, each of one card", n, n == 1 ? "" : "s", groups, groups == 1 ? "" : "s");
}

static const char *const interrupt_remedies[] = {
        "Take allow_unsafe_interrupts from the kernel's command line and /etc/modprobe.d; on a host without interrupt remapping, assign to trusted guests only.",
        NULL,
};

static void check_interrupts(struct check *c) {
        static const char *const modules[] = { "iommufd", "vfio_iommu_type1" };
        size_t found = 0;

        for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
                char path[PATH_MAX], text[16];

                snprintf(path, sizeof(path), "/sys/module/%s/parameters/allow_unsafe_interrupts", modules[i]);
                if (host_read_text(c->host, path, text, sizeof(text)) < 0)
                        continue;
                found++;
                if (streq(text, "Y") || streq(text, "1")) {
                        check_say(c, CHECK_WARN, interrupt_remedies[0], "%s.allow_unsafe_interrupts is on: a guest's device may forge interrupts of the host", modules[i]);
                        return;
                }
        }
        if (found > 0)
                check_say(c, CHECK_PASS, NULL, "only where the hardware keeps them apart (allow_unsafe_interrupts is off)");
        else
                check_say(c, CHECK_SKIP, NULL, "neither iommufd nor vfio_iommu_type1 is there to be asked");
}

const struct check_spec iommu_checks[] = {
        { "iommu.present", "IOMMU", "IOMMU", "Whether the kernel uses an IOMMU (/sys/class/iommu). Without one no function can be assigned.", check_present, present_remedies },
        { "iommu.groups", "IOMMU", "Groups", "Which functions can be assigned without others: all of an IOMMU group go to one VM.", check_groups, group_remedies },
        { "iommu.interrupts", "IOMMU", "Interrupts", "Whether the kernel was told to do without interrupt remapping.", check_interrupts, interrupt_remedies },
        {},
};
