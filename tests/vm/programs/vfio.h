/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the programs of this folder share: sysfs lookups of a PCI function and access to its VFIO regions by pread and
 * pwrite. Errors end the program: these are test programs, a caller looks at the exit code and the text.
 */
#pragma once

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/abi/vfio.h"

/* Node of a function that is on vfio-pci, as "/dev/vfio/devices/vfio3". */
static inline void vfio_node(const char *bdf, char *buf, size_t size) {
        char path[128];
        struct dirent *entry;
        DIR *dir;

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
        dir = opendir(path);
        if (!dir)
                err(1, "%s", path);
        while ((entry = readdir(dir)))
                if (strncmp(entry->d_name, "vfio", 4) == 0) {
                        snprintf(buf, size, "/dev/vfio/devices/%.32s", entry->d_name);
                        closedir(dir);
                        return;
                }
        errx(1, "%s is empty", path);
}

static inline uint64_t region_offset(int device, uint32_t index) {
        struct tdi_vfio_region_info info = { .argsz = sizeof(info), .index = index };

        if (ioctl(device, TDI_VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
                err(1, "VFIO_DEVICE_GET_REGION_INFO %u", index);
        return info.offset;
}

static inline uint32_t read32(int device, uint64_t offset) {
        uint32_t value;

        if (pread(device, &value, sizeof(value), (off_t) offset) != sizeof(value))
                err(1, "read at %#llx", (unsigned long long) offset);
        return value;
}

static inline void write32(int device, uint64_t offset, uint32_t value) {
        if (pwrite(device, &value, sizeof(value), (off_t) offset) != sizeof(value))
                err(1, "write at %#llx", (unsigned long long) offset);
}

/* Switches bus mastering of a function, as its driver would; returns what the register held before. */
static inline uint16_t set_command(int device, uint16_t set) {
        uint64_t offset = region_offset(device, TDI_VFIO_PCI_CONFIG_REGION_INDEX) + 4;
        uint16_t before, after;

        if (pread(device, &before, sizeof(before), (off_t) offset) != sizeof(before))
                err(1, "read PCI_COMMAND");
        after = before | set;
        if (pwrite(device, &after, sizeof(after), (off_t) offset) != sizeof(after))
                err(1, "write PCI_COMMAND");
        return before;
}
