/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tdid does to a function in the kernel, done directly by one process: the baseline of the attach and close bench.
 *
 *      raw_cycle [--host=HOST] BDF COUNT
 *
 * Prints one line of JSON: the number of cycles, seconds in all and for each phase, and the median of a whole cycle.
 * Claim and give-back, open and BIND, ATTACH and DETACH, the last close: the same calls in the same order as
 * tdid's workers make them for one function without a TSM. No journal, no checks.
 */
#include <time.h>

#include "host/abi/iommufd.h"
#include "vfio.h"

#define PCI "/sys/bus/pci/"
#define PCI_COMMAND_MASTER 4

enum { CLAIM, OPEN, ATTACH, DETACH, CLOSE, GIVE_BACK, PHASES };
static const char *const phase_name[PHASES] = { "claim", "open", "attach", "detach", "close", "give_back" };

static const char *bdf;
static char before_driver[64], before_override[64], before_pm[16];
static double spent[PHASES];

static double now(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static void put(const char *path, const char *text) {
        need(host_write_text(host, path, text), "write \"%s\" to %s", text, path);
}

static const char *attribute(const char *name) {
        static char path[128];

        snprintf(path, sizeof(path), PCI "devices/%s/%s", bdf, name);
        return path;
}

static void get(const char *name, char *buf, size_t size) {
        need(host_read_text(host, attribute(name), buf, size), "read %s", name);
}

static void driver(char *buf, size_t size) {
        if (host_read_link_name(host, attribute("driver"), buf, size) < 0)
                buf[0] = '\0';
}

static void driver_file(const char *of, const char *file) {
        char path[160];

        snprintf(path, sizeof(path), PCI "drivers/%s/%s", of, file);
        put(path, bdf);
}

static void claim(void) {
        char seen[64];

        driver(before_driver, sizeof(before_driver));
        get("driver_override", before_override, sizeof(before_override));
        get("power/control", before_pm, sizeof(before_pm));
        if (strcmp(before_pm, "on") != 0)
                put(attribute("power/control"), "on");
        put(attribute("driver_override"), "vfio-pci\n");
        if (before_driver[0])
                driver_file(before_driver, "unbind");
        put(PCI "drivers_probe", bdf);
        driver(seen, sizeof(seen));
        if (strcmp(seen, "vfio-pci") != 0)
                errx(1, "%s is on \"%s\", not on vfio-pci", bdf, seen);
}

static void give_back(void) {
        char line[80];

        snprintf(line, sizeof(line), "%s\n", strcmp(before_override, "(null)") == 0 ? "" : before_override);
        put(attribute("driver_override"), line);
        driver_file("vfio-pci", "unbind");
        if (before_driver[0])
                driver_file(before_driver, "bind");
        if (strcmp(before_pm, "on") != 0)
                put(attribute("power/control"), before_pm);
}

static void call(int fd, unsigned long request, void *arg, const char *what) {
        need(host_ioctl(host, fd, request, arg), "%s", what);
}

static void cycle(void) {
        struct tdi_vfio_device_bind_iommufd bind = { .argsz = offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr) };
        struct tdi_vfio_device_attach_iommufd_pt attach = { .argsz = offsetof(struct tdi_vfio_device_attach_iommufd_pt, pasid) };
        struct tdi_vfio_device_detach_iommufd_pt detach = { .argsz = offsetof(struct tdi_vfio_device_detach_iommufd_pt, pasid) };
        struct tdi_iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
        struct tdi_iommu_ioas_unmap unmap = { .size = sizeof(unmap), .length = UINT64_MAX };
        struct tdi_iommu_destroy destroy = { .size = sizeof(destroy) };
        double t[PHASES + 1];
        uint16_t command;
        uint64_t config;
        int device, iommufd, r;
        char node[64];

        t[0] = now();
        claim();
        t[1] = now();
        vfio_node(bdf, node, sizeof(node));
        device = (int) need(host_open(host, node, O_RDWR), "open %s", node);
        iommufd = (int) need(host_open(host, "/dev/iommu", O_RDWR), "open /dev/iommu");
        bind.iommufd = iommufd;
        call(device, TDI_VFIO_DEVICE_BIND_IOMMUFD, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
        t[2] = now();
        call(iommufd, TDI_IOMMU_IOAS_ALLOC, &ioas, "IOMMU_IOAS_ALLOC");
        attach.pt_id = ioas.out_ioas_id;
        call(device, TDI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
        t[3] = now();
        config = region_offset(device, TDI_VFIO_PCI_CONFIG_REGION_INDEX) + 4;
        read_at(device, config, &command, sizeof(command));
        if (command & PCI_COMMAND_MASTER) {
                command = (uint16_t) (command & ~PCI_COMMAND_MASTER);
                write_at(device, config, &command, sizeof(command));
        }
        call(device, TDI_VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
        unmap.ioas_id = destroy.id = ioas.out_ioas_id;
        r = host_ioctl(host, iommufd, TDI_IOMMU_IOAS_UNMAP, &unmap);
        if (r != -ENOENT)
                need(r, "IOMMU_IOAS_UNMAP");
        call(iommufd, TDI_IOMMU_DESTROY, &destroy, "IOMMU_DESTROY");
        t[4] = now();
        need(host_close(host, device), "close %s", node);
        need(host_close(host, iommufd), "close /dev/iommu");
        t[5] = now();
        give_back();
        t[6] = now();
        for (int i = 0; i < PHASES; i++)
                spent[i] += t[i + 1] - t[i];
}

static int ascending(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

int main(int argc, char **argv) {
        double *one, start;
        int count;

        take_host(&argc, &argv);
        if (argc != 3 || (count = atoi(argv[2])) < 1) {
                fprintf(stderr, "usage: raw_cycle [--host=HOST] BDF COUNT\n");
                return 2;
        }
        bdf = argv[1];
        one = calloc((size_t) count, sizeof(*one));
        if (!one)
                err(1, "memory");
        start = now();
        for (int i = 0; i < count; i++) {
                double begin = now();

                cycle();
                one[i] = now() - begin;
        }
        printf("{\"count\": %d, \"seconds\": %.6f", count, now() - start);
        qsort(one, (size_t) count, sizeof(*one), ascending);
        printf(", \"median\": %.6f, \"phases\": {", one[count / 2]);
        for (int i = 0; i < PHASES; i++)
                printf("%s\"%s\": %.6f", i ? ", " : "", phase_name[i], spent[i]);
        printf("}}\n");
        free(one);
        tdi_host_free(host);
        return 0;
}
