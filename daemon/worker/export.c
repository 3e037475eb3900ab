/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dma-bufs over BARs: making one (VFIO_DEVICE_FEATURE_DMA_BUF), and looking whether it can be reached. The kernel tells nobody but
 * importers of a revoke (vfio_pci_dma_buf_move), so looking means being one: an address space that no device is attached to maps the
 * buffer, which fails with ENODEV while it is revoked (vfio_pci_dma_buf_attach).
 */
#include "worker/work.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/time.h>

#include "host/abi/iommufd.h"
#include "host/abi/vfio.h"

#define IORESOURCE_IO 0x100
/* What somebody else's eventfd that is full, and blocks, costs the next one. */
#define RING_USEC 100000

/* What was wrong with the call, not with the kernel: tdid answers with this error. */
_printf_(3, 4) static int refuse(struct work *w, const char *error, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(w->text, sizeof(w->text), format, ap);
        va_end(ap);
        json_set_str(w->values, "error", error);
        return -EINVAL;
}

/* 1: reachable, 0: revoked. @dmabuf and @iommufd stay the caller's. */
static int look(TdiHost *host, int iommufd, int dmabuf) {
        struct tdi_iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
        struct tdi_iommu_destroy destroy = { .size = sizeof(destroy) };
        struct tdi_iommu_ioas_map_file map = { .size = sizeof(map), .flags = TDI_IOMMU_IOAS_MAP_READABLE, .fd = dmabuf };
        int r;

        r = host_ioctl(host, iommufd, TDI_IOMMU_IOAS_ALLOC, &alloc);
        if (r < 0)
                return r;
        map.ioas_id = destroy.id = alloc.out_ioas_id;
        map.length = (uint64_t) sysconf(_SC_PAGESIZE);
        r = host_ioctl(host, iommufd, TDI_IOMMU_IOAS_MAP_FILE, &map);
        if (r == 0) {
                struct tdi_iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = map.ioas_id, .iova = map.iova, .length = map.length };

                (void) host_ioctl(host, iommufd, TDI_IOMMU_IOAS_UNMAP, &unmap);
        }
        (void) host_ioctl(host, iommufd, TDI_IOMMU_DESTROY, &destroy);
        return r == 0 ? 1 : r == -ENODEV ? 0 : r;
}

/* Where a BAR is: the line of its number in sysfs `resource`. */
static int read_resource(struct work *w, uint32_t region, uint64_t *ret_start, uint64_t *ret_flags) {
        char path[PATH_MAX], text[4096], *line = text;
        uint64_t end;
        ssize_t r;

        r = host_read_text(w->host, work_path(w, path, sizeof(path), "resource"), text, sizeof(text));
        if (r < 0)
                return work_fail(w, (int) r, NULL, "read %s", path);
        for (uint32_t i = 0; i < region && line; i++) {
                line = strchr(line, '\n');
                line = line ? line + 1 : NULL;
        }
        if (!line || sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64, ret_start, &end, ret_flags) != 3)
                return work_fail(w, -EBADMSG, NULL, "find BAR %u in %s", region, path);
        return 0;
}

/* validate_dmabuf_input() and vfio_pci_core_fill_phys_vec() answer EINVAL to all of these. */
static int check_range(struct work *w, uint32_t region, uint64_t offset, uint64_t size, uint64_t bar, uint64_t flags) {
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);

        if (bar == 0)
                return refuse(w, "InvalidArgument", "%s has no BAR %u (or it is the upper half of a 64-bit one)", w->bdf, region);
        if (flags & IORESOURCE_IO)
                return refuse(w, "InvalidArgument", "BAR %u of %s is I/O ports, which no other device and no guest can reach as memory", region, w->bdf);
        if (bar < page)
                return refuse(w, "InvalidArgument", "BAR %u of %s has %" PRIu64 " bytes, less than a page of %" PRIu64 ": what else is in that page is not its own",
                              region, w->bdf, bar, page);
        if (size == 0)
                return refuse(w, "InvalidArgument", "an export of no bytes: BAR %u of %s has %" PRIu64, region, w->bdf, bar);
        if (offset % page || size % page)
                return refuse(w, "InvalidArgument", "offset 0x%" PRIx64 " and size 0x%" PRIx64 " in BAR %u of %s: both must be multiples of the page size, %" PRIu64,
                              offset, size, region, w->bdf, page);
        if (offset > bar || size > bar - offset)
                return refuse(w, "InvalidArgument", "offset 0x%" PRIx64 " and size 0x%" PRIx64 " go beyond the 0x%" PRIx64 " bytes of BAR %u of %s", offset,
                              size, bar, region, w->bdf);
        return 0;
}

/* args: "region", "offset", "size"; descriptors: the device, the VM's iommufd. values: "address", "alive" where that can be told. */
int export_dmabuf_do(struct work *w) {
        union {
                struct tdi_vfio_device_feature feature;
                uint8_t room[sizeof(struct tdi_vfio_device_feature) + sizeof(struct tdi_vfio_device_feature_dma_buf) +
                             sizeof(struct tdi_vfio_region_dma_range)];
        } get = {};
        struct tdi_vfio_device_feature_dma_buf dmabuf = { .open_flags = O_RDWR | O_CLOEXEC, .nr_ranges = 1 };
        struct tdi_vfio_region_dma_range range;
        uint32_t region = (uint32_t) json_u64_or(w->args, "region", UINT32_MAX);
        struct tdi_vfio_region_info info = { .argsz = sizeof(info), .index = region };
        uint64_t address = 0, flags = 0;
        int r, alive;

        if (w->fds.n != 2)
                return work_fail(w, -EINVAL, NULL, "export memory of %s", w->bdf);
        dmabuf.region_index = region;
        range.offset = json_u64_or(w->args, "offset", 0);
        range.length = json_u64_or(w->args, "size", 0);
        r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_GET_REGION_INFO, &info);
        if (r < 0)
                return work_fail(w, r, NULL, "VFIO_DEVICE_GET_REGION_INFO of BAR %u of %s", region, w->bdf);
        r = read_resource(w, region, &address, &flags);
        if (r >= 0)
                r = check_range(w, region, range.offset, range.length, info.size, flags);
        if (r < 0)
                return r;
        get.feature.argsz = sizeof(get);
        get.feature.flags = TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_DMA_BUF;
        memcpy(get.feature.data, &dmabuf, sizeof(dmabuf));
        memcpy(get.feature.data + sizeof(dmabuf), &range, sizeof(range));
        r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_FEATURE, &get);
        if (r < 0) {
                bool missing = r == -ENOTTY || r == -EOPNOTSUPP;

                if (missing)
                        json_set_str(w->values, "error", "NotSupported");
                return work_fail(w, r, missing ? "the kernel needs dma-bufs of VFIO devices and peer-to-peer DMA (CONFIG_VFIO_PCI_DMABUF, CONFIG_PCI_P2PDMA)" :
                                       r == -ENODEV ? "the BAR could not be claimed: somebody else has it" : NULL,
                                 "VFIO_DEVICE_FEATURE_DMA_BUF on BAR %u of %s", region, w->bdf);
        }
        w->out.fd[w->out.n++] = r;
        json_set_u64(w->values, "address", address + range.offset);
        alive = look(w->host, w->fds.fd[1], r);
        if (alive >= 0)
                json_set_bool(w->values, "alive", alive);
        return 0;
}

/* Descriptors: an iommufd and dma-bufs. values: "alive", for each true, false, or null where the kernel does not tell. */
int export_look_do(struct work *w) {
        struct json_object *alive = json_new_array();

        for (size_t i = 1; i < w->fds.n; i++) {
                int r = look(w->host, w->fds.fd[0], w->fds.fd[i]);

                json_push_take(alive, r < 0 ? NULL : json_object_new_boolean(r));
        }
        json_set_take(w->values, "alive", alive);
        return 0;
}

static void on_alarm(_unused_ int signal) {
}

/*
 * Descriptors: eventfds; args: "rings", what to add to each. Clients have them too, and may have made them block and filled them up:
 * that is their loss. A signal that comes again and again ends the wait (eventfd_write() sleeps interruptibly).
 */
int export_ring_do(struct work *w) {
        struct sigaction action = { .sa_handler = on_alarm }, before;
        struct itimerval often = { { 0, RING_USEC }, { 0, RING_USEC } }, never = {};
        struct json_object *rings;
        int r = 0;

        if (json_get_array(w->args, "rings", &rings) < 0 || json_object_array_length(rings) != w->fds.n)
                return work_fail(w, -EBADMSG, NULL, "read what to ring");
        if (sigaction(SIGALRM, &action, &before) < 0)
                return work_fail(w, -errno, NULL, "ring eventfds: set up a signal");
        if (setitimer(ITIMER_REAL, &often, NULL) < 0)
                r = work_fail(w, -errno, NULL, "ring eventfds: set a timer");
        for (size_t i = 0; i < w->fds.n && r >= 0; i++) {
                uint64_t n = json_object_get_uint64(json_object_array_get_idx(rings, i));

                (void) !write(w->fds.fd[i], &n, sizeof(n));
        }
        /* A signal that is on its way is handled before this returns; nothing else is interrupted. */
        (void) setitimer(ITIMER_REAL, &never, NULL);
        (void) sigaction(SIGALRM, &before, NULL);
        return r;
}
