/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A simulated kernel inside a test, and a host that talks to it through a real socket: calls go the whole way that tdid's go.
 */
#ifndef TDID_SIM_KERNEL_H
#define TDID_SIM_KERNEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "host/abi/iommufd.h"
#include "host/abi/vfio.h"
#include "host/host.h"
#include "model/json.h"
#include "sim/pci.h"
#include "sim/server.h"
#include "test.h"

#define CALL(fd, request, arg) host_ioctl(host, (fd), TDI_##request, (arg))

static char sim_dir_path[64];
static struct sim *kernel;
static TdiHost *host;
static pthread_t kernel_thread;
static atomic_bool kernel_ends;
static struct json_object *kernel_topology; /* the machine borrows it */

static inline void *kernel_loop(_unused_ void *data) {
        while (!kernel_ends)
                if (sim_round(kernel, 20) != 0)
                        break;
        return NULL;
}

static inline void kernel_start(const char *topology) {
        const char *why = "";
        unsigned line = 0;
        char text[512], path[96];

        if (json_parse_strict(topology, strlen(topology), &kernel_topology, &line, &why) < 0) {
                fprintf(stderr, "topology, line %u: %s\n", line, why);
                exit(1);
        }
        test_make_dir(sim_dir_path);
        snprintf(path, sizeof(path), "%s/socket", sim_dir_path);
        require(sim_new(&kernel) >= 0);
        sim_lock(kernel);
        if (sim_machine_boot(kernel, kernel_topology, text, sizeof(text)) < 0) {
                fprintf(stderr, "topology: %s\n", text);
                exit(1);
        }
        sim_unlock(kernel);
        require(sim_listen(kernel, path) >= 0);
        kernel_ends = false;
        require(pthread_create(&kernel_thread, NULL, kernel_loop, NULL) == 0);
        require(tdi_host_sim_new(path, &host) >= 0);
}

/* Nothing may be open any more. */
static inline void kernel_end(void) {
        FILE *nowhere;

        host = tdi_host_free(host);
        /* An answer is there before its call has ended. */
        nowhere = fopen("/dev/null", "we");
        require(nowhere);
        for (unsigned i = 0; i < 200 && sim_print_open(kernel, nowhere) > 0; i++)
                (void) usleep(10000);
        (void) fclose(nowhere);
        check_int(sim_print_open(kernel, stderr), 0);
        kernel_ends = true;
        require(pthread_join(kernel_thread, NULL) == 0);
        if (check(sim_stop(kernel))) {
                sim_lock(kernel);
                sim_machine_free(kernel);
                sim_unlock(kernel);
                kernel = sim_free(kernel);
        }
        json_putp(&kernel_topology);
        test_remove_dir(sim_dir_path);
}

/* The function is on vfio-pci; its node, opened. */
static inline int open_vfio(const char *bdf) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[300];

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
        require(host_list(host, path, &names) >= 0 && names[0]);
        snprintf(path, sizeof(path), "/dev/vfio/devices/%.32s", names[0]);
        return host_open(host, path, O_RDWR);
}

static inline int bind_vfio(int device, int iommufd, uint32_t *ret_id) {
        struct tdi_vfio_device_bind_iommufd bind = { .argsz = offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr),
                                                     .iommufd = iommufd };
        int r;

        r = CALL(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
        if (ret_id)
                *ret_id = bind.out_devid;
        return r;
}

static inline int attach_vfio(int device, uint32_t *pt) {
        struct tdi_vfio_device_attach_iommufd_pt attach = { .argsz = offsetof(struct tdi_vfio_device_attach_iommufd_pt, pasid),
                                                            .pt_id = *pt };
        int r;

        r = CALL(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
        *pt = attach.pt_id;
        return r;
}

static inline int detach_vfio(int device) {
        struct tdi_vfio_device_detach_iommufd_pt detach = { .argsz = offsetof(struct tdi_vfio_device_detach_iommufd_pt, pasid) };

        return CALL(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

static inline uint32_t new_ioas(int iommufd) {
        struct tdi_iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

        require(CALL(iommufd, IOMMU_IOAS_ALLOC, &alloc) == 0);
        return alloc.out_ioas_id;
}

static inline int destroy(int iommufd, uint32_t id) {
        struct tdi_iommu_destroy d = { .size = sizeof(d), .id = id };

        return CALL(iommufd, IOMMU_DESTROY, &d);
}

static inline int map_file(int iommufd, uint32_t ioas, int fd, uint64_t start, uint64_t length, uint64_t iova) {
        struct tdi_iommu_ioas_map_file map = {
                .size = sizeof(map),
                .flags = TDI_IOMMU_IOAS_MAP_FIXED_IOVA | TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE,
                .ioas_id = ioas,
                .fd = fd,
                .start = start,
                .length = length,
                .iova = iova,
        };

        return CALL(iommufd, IOMMU_IOAS_MAP_FILE, &map);
}

static inline int unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t length, uint64_t *ret_length) {
        struct tdi_iommu_ioas_unmap u = { .size = sizeof(u), .ioas_id = ioas, .iova = iova, .length = length };
        int r;

        r = CALL(iommufd, IOMMU_IOAS_UNMAP, &u);
        if (ret_length)
                *ret_length = u.length;
        return r;
}

/* ---- regions ---- */

#define CONFIG ((uint64_t) TDI_VFIO_PCI_CONFIG_REGION_INDEX << 40)
#define BAR(n) ((uint64_t) (n) << 40)

static inline uint32_t read32(int device, uint64_t offset) {
        uint32_t v = 0;

        check_int(host_pread(host, device, &v, sizeof(v), offset), sizeof(v));
        return v;
}

static inline void write32(int device, uint64_t offset, uint32_t v) {
        check_int(host_pwrite(host, device, &v, sizeof(v), offset), sizeof(v));
}

static inline uint16_t read16(int device, uint64_t offset) {
        uint16_t v = 0;

        check_int(host_pread(host, device, &v, sizeof(v), offset), sizeof(v));
        return v;
}

static inline void write16(int device, uint64_t offset, uint16_t v) {
        check_int(host_pwrite(host, device, &v, sizeof(v), offset), sizeof(v));
}

/* ---- interrupts ---- */

static inline int set_irqs(int device, uint32_t flags, uint32_t index, uint32_t start, uint32_t count, const int32_t *fds) {
        union {
                struct tdi_vfio_irq_set set;
                char room[sizeof(struct tdi_vfio_irq_set) + 32 * sizeof(int32_t)];
        } u = { .set = { .argsz = sizeof(u.set), .flags = flags, .index = index, .start = start, .count = count } };

        if (fds) {
                u.set.argsz += count * (uint32_t) sizeof(int32_t);
                memcpy(u.set.data, fds, count * sizeof(int32_t));
        }
        return CALL(device, VFIO_DEVICE_SET_IRQS, &u);
}

static inline int set_event(int device, uint32_t index, int fd) {
        return set_irqs(device, TDI_VFIO_IRQ_SET_DATA_EVENTFD | TDI_VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, 1, &fd);
}

static inline int new_event(void) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        require(fd >= 0);
        return fd;
}

/* How often it was signalled since; waits a while for the first. */
static inline uint64_t events(int fd, unsigned milliseconds) {
        uint64_t n = 0;

        for (unsigned i = 0; i <= milliseconds; i++) {
                if (read(fd, &n, sizeof(n)) == (ssize_t) sizeof(n))
                        return n;
                (void) usleep(1000);
        }
        return 0;
}

static inline int new_memfd(uint64_t size, unsigned seals) {
        int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        require(fd >= 0 && ftruncate(fd, (off_t) size) == 0);
        require(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
        return fd;
}

#endif
