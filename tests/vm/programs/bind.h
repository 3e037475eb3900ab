/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the programs that try the bind provider share: its calls, the functions and VMs that it needs, and what the kernel says
 * of a function's binding. Results of the calls are 0 or a negative errno; anything else that fails ends the program.
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../kmod/tdid_test_tsm.h"
#include "host/abi/iommufd.h"
#include "host/abi/kvm.h"
#include "host/tdid_bind.h"
#include "vfio.h"

#define PCI "/sys/bus/pci/devices/"

static inline int call(int fd, unsigned long request, void *arg) {
        return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

static inline int provider(void) {
        int fd = open(TDID_BIND_DEV, O_RDWR | O_CLOEXEC);

        if (fd < 0)
                err(1, TDID_BIND_DEV);
        return fd;
}

static inline uint32_t function_number(const char *bdf) {
        unsigned segment, bus, device, function;

        if (sscanf(bdf, "%x:%x:%x.%x", &segment, &bus, &device, &function) != 4)
                errx(2, "\"%s\" is no BDF", bdf);
        return segment << 16 | bus << 8 | device << 3 | function;
}

static inline int tdi_bind(int fd, const char *bdf, int device, int vm, uint32_t id) {
        struct tdid_bind_bind arg = {
                .argsz = sizeof(arg), .function = function_number(bdf), .tdi_id = id, .device_fd = device, .vm_fd = vm,
        };

        return call(fd, TDID_BIND_IOC_BIND, &arg);
}

static inline int tdi_unbind(int fd) {
        return call(fd, TDID_BIND_IOC_UNBIND, NULL);
}

/* The VFIO device of a function, not bound to an iommufd yet. */
static inline int open_device(const char *bdf) {
        char node[64];

        vfio_node(bdf, node, sizeof(node));
        return (int) need(host_open(host, node, O_RDWR), "open %s", node);
}

static inline int bind_iommufd(int device, int iommufd) {
        struct tdi_vfio_device_bind_iommufd bind = {
                .argsz = offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr), .iommufd = iommufd,
        };

        return call(device, TDI_VFIO_DEVICE_BIND_IOMMUFD, &bind);
}

static inline int open_bound_device(const char *bdf, int iommufd) {
        int device = open_device(bdf);

        need(bind_iommufd(device, iommufd), "VFIO_DEVICE_BIND_IOMMUFD of %s", bdf);
        return device;
}

static inline int open_iommufd(void) {
        return (int) need(host_open(host, "/dev/iommu", O_RDWR), "open /dev/iommu");
}

static inline int make_vm(void) {
        int kvm = (int) need(host_open(host, "/dev/kvm", O_RDWR), "open /dev/kvm");
        int vm = ioctl(kvm, TDI_KVM_CREATE_VM, 0);

        if (vm < 0)
                err(1, "KVM_CREATE_VM");
        close(kvm);
        return vm;
}

static inline void read_file(const char *path, char *buf, size_t size) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        size_t used = 0;
        ssize_t n = 0;

        if (fd < 0)
                err(1, "%s", path);
        while (used < size - 1 && (n = read(fd, buf + used, size - 1 - used)) > 0)
                used += (size_t) n;
        if (n < 0)
                err(1, "%s", path);
        buf[used] = '\0';
        close(fd);
}

/* 0, or the errno: some of these files say no in the middle of a race. */
static inline int write_file(const char *path, const char *text) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        int r = 0;

        if (fd < 0)
                return -errno;
        if (write(fd, text, strlen(text)) < 0)
                r = -errno;
        close(fd);
        return r;
}

/* Whether a function is bound: the core's file and the TSM's own state, which have to agree. */
static inline bool is_bound(const char *bdf) {
        char path[128], core[32], state[16384], start[32];
        bool known = false;

        snprintf(path, sizeof(path), PCI "%s/tsm/bound", bdf);
        read_file(path, core, sizeof(core));
        read_file("/sys/kernel/debug/tdid_test_tsm/state", state, sizeof(state));
        snprintf(start, sizeof(start), "%s ", bdf);
        for (char *line = strtok(state, "\n"); line; line = strtok(NULL, "\n"))
                if (startswith(line, start) && strstr(line, " tdi_id="))
                        known = true;
        if (known != (core[0] != '\n' && core[0] != '\0'))
                errx(1, "%s: tsm/bound says \"%s\", and the TSM that it is %sbound", bdf, core, known ? "" : "not ");
        return known;
}
