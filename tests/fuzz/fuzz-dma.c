/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of what a VMM asks of the guest's memory: maps and unmaps of any address, size, offset and access, of two functions in address
 * spaces of their own, against a kernel of a few lines that knows when it is asked for nonsense. At the end it has nothing left.
 */
#include <sys/mman.h>

#include "fuzz.h"
#include "host/abi/iommufd.h"
#include "vm/vpci/dma.h"

#define PAGE UINT64_C(4096)
#define FILE_PAGES 64
#define LAST ((UINT64_C(1) << 48) - 1)
#define AREAS_MAX 512

static struct area {
        uint32_t ioas;
        uint64_t first, last;
} areas[AREAS_MAX];
static size_t n_areas;
static unsigned ioctls, fails; /* every so many-th call fails */

static int add(uint32_t ioas, uint64_t iova, uint64_t length) {
        must(length > 0 && iova % PAGE == 0 && length % PAGE == 0 && iova + (length - 1) >= iova);
        for (size_t i = 0; i < n_areas; i++)
                must(areas[i].ioas != ioas || areas[i].first > iova + (length - 1) || areas[i].last < iova);
        must(n_areas < AREAS_MAX);
        areas[n_areas++] = (struct area){ ioas, iova, iova + (length - 1) };
        return 0;
}

static int drop(struct tdi_iommu_ioas_unmap *u) {
        uint64_t last = u->iova + (u->length - 1), bytes = 0;

        must(u->length > 0 && last >= u->iova);
        for (size_t i = 0; i < n_areas;) {
                struct area *a = &areas[i];

                if (a->ioas != u->ioas_id || a->first > last || a->last < u->iova) {
                        i++;
                        continue;
                }
                must(a->first >= u->iova && a->last <= last);
                bytes += a->last - a->first + 1;
                *a = areas[--n_areas];
        }
        u->length = bytes;
        return bytes ? 0 : -ENOENT;
}

static int answer(_unused_ TdiHost *host, _unused_ int fd, unsigned long request, void *arg) {
        struct tdi_iommu_ioas_iova_ranges *ranges = arg;
        struct tdi_iommu_ioas_map_file *map = arg;
        struct tdi_iommu_ioas_copy *copy = arg;

        if (request == TDI_IOMMU_IOAS_IOVA_RANGES) {
                *(struct tdi_iommu_iova_range *) (uintptr_t) ranges->allowed_iovas = (struct tdi_iommu_iova_range){ 0, LAST };
                ranges->num_iovas = 1;
                return 0;
        }
        ioctls++;
        if (fails && ioctls % fails == 0)
                return -ENOMEM;
        if (request == TDI_IOMMU_IOAS_UNMAP)
                return drop(arg);
        if (request == TDI_IOMMU_IOAS_COPY)
                return add(copy->dst_ioas_id, copy->dst_iova, copy->length);
        must(request == TDI_IOMMU_IOAS_MAP_FILE && fcntl(map->fd, F_GETFD) >= 0);
        must(map->start + map->length <= FILE_PAGES * PAGE && map->iova + map->length <= LAST + 1);
        return add(map->ioas_id, map->iova, map->length);
}

static unsigned told;

static void on_event(_unused_ enum dma_event event, _unused_ const char *text, _unused_ void *userdata) {
        told++;
}

struct input {
        const uint8_t *data;
        size_t size;
};

static uint8_t next(struct input *in) {
        if (in->size == 0)
                return 0;
        in->size--;
        return *in->data++;
}

/* Pages mostly, and what is at the ends of everything. */
static uint64_t number(struct input *in) {
        static const uint64_t odd[] = { 0, 1, PAGE - 1, PAGE + 1, UINT64_MAX, UINT64_MAX - PAGE + 1, LAST + 1, LAST + 1 - PAGE };
        uint8_t b = next(in);

        return b < 240 ? b * PAGE : odd[b % ARRAY_SIZE(odd)];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct tdi_host_ops ops;
        static TdiHost *real;
        static int memory = -EBADF, null = -EBADF;
        struct dma_limits limits = { 1000 * PAGE, 200 };
        TdiHost host = { &ops };
        struct input in = { data, size };
        struct dma_client *c[2];
        struct dma *d;
        int free_fd, fd;

        if (!real) {
                must(tdi_host_linux_new(&real) == 0);
                ops = *real->ops;
                ops.ioctl = answer;
                must((memory = memfd_create("guest", MFD_CLOEXEC)) >= 0 && ftruncate(memory, FILE_PAGES * PAGE) == 0);
                must(mmap(NULL, FILE_PAGES * PAGE, PROT_READ, MAP_SHARED, memory, 0) != MAP_FAILED);
                must((null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
        }
        if (size > 4096)
                return 0;
        free_fd = fuzz_next_fd();
        n_areas = 0;
        fails = next(&in) % 8;
        must(dma_new(&host, &limits, &d) == 0);
        dma_set_peer(d, open("/proc/self/maps", O_RDONLY | O_CLOEXEC), -EBADF);
        for (uint32_t i = 0; i < 2; i++)
                must(dma_client_new(d, i + 1, false, on_event, NULL, &c[i]) == 0);
        while (in.size > 0) {
                uint8_t what = next(&in);
                struct dma_client *x = c[what & 1];
                uint64_t iova = number(&in), length = number(&in), n = 0;

                switch (what >> 1 & 7) {
                case 0 ... 3:
                        fd = what & 0x80 ? -EBADF : fd_dup(what & 0x40 ? null : memory);
                        (void) dma_map(x, iova, length, fd, number(&in), what & 0x10, what & 0x20);
                        break;
                case 7:
                        (void) dma_unmap_all(x, &n);
                        break;
                default:
                        if (dma_unmap(x, iova, length, &n) == 0)
                                must(n > 0 && (n <= length || n - length < 2 * PAGE));
                }
                (void) dma_master(x);
                if (what == 0xff)
                        json_object_put(dma_client_describe(x));
        }
        fails = 0;
        for (unsigned i = 0; i < 2; i++) {
                dma_client_clear(c[i]);
                must(dma_master(c[i]) == DMA_MASTER_YES);
                (void) dma_client_free(c[i]);
        }
        (void) dma_free(d);
        must(n_areas == 0 && fuzz_next_fd() == free_fd);
        return 0;
}
