/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the programs of this folder share: the host they work on, sysfs lookups of a PCI function and access to its VFIO
 * regions. Errors end the program: these are test programs, a caller looks at the exit code and the text.
 */
#pragma once

#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/abi/vfio.h"
#include "host/host.h"

static TdiHost *host;

/* Takes --host=HOST, the kernel of this machine without it, from the front of the arguments. */
static inline void take_host(int *argc, char ***argv) {
        const char *spec = "linux";
        int r;

        if (*argc > 1 && startswith((*argv)[1], "--host=")) {
                spec = (*argv)[1] + strlen("--host=");
                (*argc)--;
                (*argv)++;
        }
        r = tdi_host_new(spec, &host);
        if (r < 0)
                errx(1, "--host=%s: %s", spec, strerror(-r));
}

/* r, unless it is an error: that ends the program. */
_printf_(2, 3) static inline int64_t need(int64_t r, const char *format, ...) {
        char what[256];
        va_list ap;

        if (r >= 0)
                return r;
        va_start(ap, format);
        vsnprintf(what, sizeof(what), format, ap);
        va_end(ap);
        errx(1, "%s: %s", what, strerror((int) -r));
}

/* Node of a function that is on vfio-pci, as "/dev/vfio/devices/vfio3". */
static inline void vfio_node(const char *bdf, char *buf, size_t size) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[128];

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
        need(host_list(host, path, &names), "%s", path);
        for (char **n = names; *n; n++)
                if (startswith(*n, "vfio")) {
                        snprintf(buf, size, "/dev/vfio/devices/%.32s", *n);
                        return;
                }
        errx(1, "%s is empty", path);
}

static inline uint64_t region_offset(int device, uint32_t index) {
        struct tdi_vfio_region_info info = { .argsz = sizeof(info), .index = index };

        need(host_ioctl(host, device, TDI_VFIO_DEVICE_GET_REGION_INFO, &info), "VFIO_DEVICE_GET_REGION_INFO %u", index);
        return info.offset;
}

static inline void read_at(int device, uint64_t offset, void *buf, size_t size) {
        if (need(host_pread(host, device, buf, size, offset), "read at %#llx", (unsigned long long) offset) != (int64_t) size)
                errx(1, "read at %#llx: too short", (unsigned long long) offset);
}

static inline void write_at(int device, uint64_t offset, const void *buf, size_t size) {
        if (need(host_pwrite(host, device, buf, size, offset), "write at %#llx", (unsigned long long) offset) != (int64_t) size)
                errx(1, "write at %#llx: too short", (unsigned long long) offset);
}

static inline uint32_t read32(int device, uint64_t offset) {
        uint32_t value;

        read_at(device, offset, &value, sizeof(value));
        return value;
}

static inline void write32(int device, uint64_t offset, uint32_t value) {
        write_at(device, offset, &value, sizeof(value));
}

/* Switches bus mastering of a function, as its driver would; returns what the register held before. */
static inline uint16_t set_command(int device, uint16_t set) {
        uint64_t offset = region_offset(device, TDI_VFIO_PCI_CONFIG_REGION_INDEX) + 4;
        uint16_t before, after;

        read_at(device, offset, &before, sizeof(before));
        after = before | set;
        write_at(device, offset, &after, sizeof(after));
        return before;
}
