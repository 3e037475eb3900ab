/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * iommufd, VFIO and what shares memory. Calls are tried with what is never there, the object 0, so that a kernel which knows them says ENOENT
 * and nothing is made. No VFIO device is opened: its last close resets it.
 */
#include <limits.h>
#include <stdio.h>

#include "check/internal.h"
#include "host/abi/iommufd.h"

static const char *const iommufd_remedies[] = {
        "Load iommufd ('modprobe iommufd'), or use a kernel with CONFIG_IOMMUFD.",
        "See with 'ls -l /dev/iommu' and dmesg why it cannot be opened.",
        NULL,
};

static void check_iommufd(struct check *c) {
        int64_t r = json_i64_or(c->facts->host, "iommufd", -ENOENT);

        if (r >= 0)
                check_say(c, CHECK_PASS, NULL, "/dev/iommu opens");
        else if (is_denied((int) r))
                check_skip_denied(c, "opening /dev/iommu");
        else if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
                check_say(c, CHECK_FAIL, iommufd_remedies[0], "there is no /dev/iommu (%s): no VM can be created", check_error((int) r));
        else
                check_say(c, CHECK_FAIL, iommufd_remedies[1], "opening /dev/iommu: %s: no VM can be created", check_error((int) r));
}

/* Asks iommufd with what cannot be; true with the answer, false when the check has been skipped. */
static bool ask_iommufd(struct check *c, unsigned long request, void *arg, int *ret) {
        int fd = host_open(c->host, "/dev/iommu", O_RDWR);

        if (is_denied(fd))
                check_skip_denied(c, "asking iommufd");
        else if (fd < 0)
                check_say(c, CHECK_SKIP, NULL, "iommufd was not asked: %s", check_error(fd));
        if (fd < 0)
                return false;
        *ret = host_ioctl(c->host, fd, request, arg);
        (void) host_close(c->host, fd);
        return true;
}

static const char *const map_remedies[] = {
        "Install a kernel of 6.13 or later.",
        NULL,
};

/* iommufd_ioas_map_file() looks for the address space before the file. */
static void check_map_file(struct check *c) {
        struct tdi_iommu_ioas_map_file map = { .size = sizeof(map), .fd = -1 };
        int r;

        if (!ask_iommufd(c, TDI_IOMMU_IOAS_MAP_FILE, &map, &r))
                return;
        if (r == -ENOTTY)
                check_say(c, CHECK_FAIL, map_remedies[0], "iommufd does not know IOMMU_IOAS_MAP_FILE: no guest memory can be mapped");
        else
                check_say(c, CHECK_PASS, NULL, "iommufd maps guest memory from its file");
}

static const char *const pci_remedies[] = {
        "Load it ('modprobe vfio-pci'), or use a kernel with CONFIG_VFIO_PCI.",
        NULL,
};

static void check_pci(struct check *c) {
        _cleanup_(host_names_freep) char **names = NULL;
        int r = host_list(c->host, "/sys/bus/pci/drivers/vfio-pci", &names);

        if (r >= 0)
                check_say(c, CHECK_PASS, NULL, "the driver vfio-pci is there");
        else
                check_say(c, CHECK_FAIL, pci_remedies[0], "the driver vfio-pci is not there (%s): no function can be taken from its driver", check_error(r));
}

static const char *const cdev_remedies[] = {
        "Load VFIO ('modprobe vfio-pci'), or use a kernel with CONFIG_VFIO_DEVICE_CDEV.",
        NULL,
};

/* The folder /dev/vfio/devices comes with the first function on vfio-pci only; the number is there from the start (vfio_cdev_init). */
static void check_cdev(struct check *c) {
        _cleanup_free_ char *devices = NULL;
        int r = host_read_file(c->host, "/proc/devices", 1 << 20, &devices, NULL);

        if (r < 0)
                check_say(c, CHECK_SKIP, NULL, "reading /proc/devices: %s", check_error(r));
        else if (check_has_word(devices, "vfio-dev"))
                check_say(c, CHECK_PASS, NULL, "functions get a node in /dev/vfio/devices");
        else
                check_say(c, CHECK_FAIL, cdev_remedies[0], "/proc/devices has no vfio-dev: functions get no node in /dev/vfio/devices");
}

static const char *const dmabuf_remedies[] = {
        "Use a kernel of 6.19 or later with CONFIG_VFIO_PCI_DMABUF and CONFIG_PCI_P2PDMA, where BARs are to be exported.",
        NULL,
};

static void check_dmabuf(struct check *c) {
        enum check_option dmabuf = check_option(c->facts, "VFIO_PCI_DMABUF"), p2p = check_option(c->facts, "PCI_P2PDMA");

        if (check_kernel_before(c->facts, 6, 19))
                check_say(c, CHECK_WARN, dmabuf_remedies[0], "this kernel is older than VFIO's dma-bufs: no BAR can be exported, nor peer-to-peer be allowed");
        else if (dmabuf == OPTION_UNKNOWN)
                check_say(c, CHECK_SKIP, NULL, "no configuration to read it from; the first export tells");
        else if (dmabuf == OPTION_OFF || p2p == OPTION_OFF)
                check_say(c, CHECK_WARN, dmabuf_remedies[0], "the kernel has no CONFIG_%s: no BAR can be exported, nor peer-to-peer be allowed",
                          dmabuf == OPTION_OFF ? "VFIO_PCI_DMABUF" : "PCI_P2PDMA");
        else
                check_say(c, CHECK_PASS, NULL, "BARs can be exported as dma-bufs, and be mapped for peers");
}

static const char *const pool_remedies[] = {
        "Load udmabuf ('modprobe udmabuf'), or use a kernel with CONFIG_UDMABUF, where shared memory pools are wanted.",
        NULL,
};

static void check_pools(struct check *c) {
        int fd = host_open(c->host, "/dev/udmabuf", O_RDWR);

        if (fd >= 0) {
                (void) host_close(c->host, fd);
                check_say(c, CHECK_PASS, NULL, "/dev/udmabuf opens: memory can be shared as a dma-buf");
        } else if (is_denied(fd))
                check_skip_denied(c, "opening /dev/udmabuf");
        else
                check_say(c, CHECK_WARN, pool_remedies[0], "opening /dev/udmabuf: %s: no shared memory pools", check_error(fd));
}

const struct check_spec vfio_checks[] = {
        { "vfio.iommufd", "VFIO and iommufd", "iommufd", "Whether /dev/iommu is there and opens.", check_iommufd, iommufd_remedies },
        { "vfio.map_file", "VFIO and iommufd", "Guest memory", "Whether iommufd knows IOMMU_IOAS_MAP_FILE, tried with an address space that is never there.", check_map_file,
          map_remedies },
        { "vfio.pci", "VFIO and iommufd", "vfio-pci", "Whether the driver vfio-pci is loaded or built in.", check_pci, pci_remedies },
        { "vfio.cdev", "VFIO and iommufd", "Device nodes", "Whether VFIO has character devices for functions, by /proc/devices.", check_cdev, cdev_remedies },
        { "vfio.dmabuf", "VFIO and iommufd", "dma-bufs, peers", "Whether BARs can be exported as dma-bufs, by the kernel's version and options: no device is opened to try it.",
          check_dmabuf, dmabuf_remedies },
        { "vfio.pools", "VFIO and iommufd", "Shared memory", "Whether memory can be shared as a dma-buf (/dev/udmabuf).", check_pools, pool_remedies },
        {},
};
