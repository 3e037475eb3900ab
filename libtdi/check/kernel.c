/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel: how old it is, and what it was built with. */
#include <stdio.h>

#include "check/internal.h"

/* Whether anything of this host could be connected to a TSM. */
static bool wants_tsm(const struct check_facts *f) {
        for (size_t i = 0; i < f->n_functions; i++)
                if (f->functions[i].tee_io)
                        return true;
        return f->platform->has_tsm || f->n_tsms > 0;
}

static const char *const version_remedies[] = {
        "Install a kernel of 6.13 or later.",
        "Install a kernel of 6.19 or later, which has PCI/TSM.",
        NULL,
};

/* IOMMU_IOAS_MAP_FILE came with 6.13, drivers/pci/tsm.c with 6.19. */
static void check_version(struct check *c) {
        const char *release = json_str_or(c->facts->host, "release", ""), *machine = json_str_or(c->facts->host, "machine", "");

        if (c->facts->major == 0)
                check_say(c, CHECK_SKIP, NULL, "/proc/sys/kernel/osrelease says no version: \"%s\"", release);
        else if (check_kernel_before(c->facts, 6, 13))
                check_say(c, CHECK_FAIL, version_remedies[0], "Linux %s cannot map a guest's memory from its file (IOMMU_IOAS_MAP_FILE)", release);
        else if (check_kernel_before(c->facts, 6, 19) && wants_tsm(c->facts))
                check_say(c, CHECK_WARN, version_remedies[1], "Linux %s can assign functions, and not connect them to a TSM", release);
        else
                check_say(c, CHECK_PASS, NULL, "Linux %s%s%s", release, *machine ? " on " : "", machine);
}

static const char *const option_remedies[] = {
        "Install a kernel that has these options; Debian's have no IOMMUFD.",
        "Use a kernel that has these options, where what they are for is wanted.",
        NULL,
};

/* Without the first nothing goes; the rest is what for. */
static const struct {
        const char *name, *use;
        bool needed, tsm;
} options[] = {
        { "IOMMUFD", "every VM", .needed = true },
        { "VFIO_PCI", "every function", .needed = true },
        { "VFIO_DEVICE_CDEV", "every function", .needed = true },
        { "MEMFD_CREATE", "memory that is shared with functions", .needed = true },
        { "SECCOMP_FILTER", "the confinement of tdid's processes", .needed = true },
        { "KVM", "guests" },
        { "VFIO_PCI_DMABUF", "dma-bufs of BARs" },
        { "PCI_P2PDMA", "dma-bufs of BARs" },
        { "UDMABUF", "shared memory pools" },
        { "MEMCG", "limits of memory" },
        { "BPF_LSM", "the guard" },
        { "DEBUG_INFO_BTF", "the guard" },
        { "PCI_IOV", "virtual functions" },
        { "PCI_TSM", "TSMs", .tsm = true },
        { "PCI_IDE", "TSMs", .tsm = true },
        { "PCI_DOE", "evidence", .tsm = true },
};

static void check_options(struct check *c) {
        char missing[512] = "", wanted[512] = "";
        size_t m = 0, w = 0, looked = 0;

        if (!c->facts->config) {
                check_say(c, CHECK_SKIP, NULL, "no configuration in /proc/config.gz, /boot or /lib/modules: the checks below try what it offers");
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                if (options[i].tsm && !wants_tsm(c->facts))
                        continue;
                looked++;
                if (check_option(c->facts, options[i].name) == OPTION_ON)
                        continue;
                if (options[i].needed)
                        m += (size_t) snprintf(missing + m, sizeof(missing) - m, "%sCONFIG_%s", m > 0 ? ", " : "", options[i].name);
                else
                        w += (size_t) snprintf(wanted + w, sizeof(wanted) - w, "%sCONFIG_%s (%s)", w > 0 ? ", " : "", options[i].name, options[i].use);
        }
        if (m > 0)
                check_say(c, CHECK_FAIL, option_remedies[0], "without %s nothing can be assigned (%s)", missing, c->facts->config_path);
        else if (w > 0)
                check_say(c, CHECK_WARN, option_remedies[1], "there is no %s (%s)", wanted, c->facts->config_path);
        else
                check_say(c, CHECK_PASS, NULL, "all %zu that are of use here are on (%s)", looked, c->facts->config_path);
}

const struct check_spec kernel_checks[] = {
        { "kernel.version", "Kernel", "Version", "How old the kernel is: from 6.13 on functions can be assigned, from 6.19 on be connected to a TSM.", check_version,
          version_remedies },
        { "kernel.options", "Kernel", "Options", "What the kernel was built with, where its configuration can be read: /proc/config.gz, /boot/config-RELEASE,"
          " /lib/modules/RELEASE/config. What is for TSMs counts only where there is something to connect.", check_options, option_remedies },
        {},
};
