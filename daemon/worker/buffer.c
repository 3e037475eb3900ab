/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared memory: a memfd that whoever runs the VM maps and pins, and a dma-buf of the same pages for devices; or a buffer of a
 * dma-heap. Making one allocates all of it, in this process's memory cgroup.
 */
#include "worker/work.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <tdi/runs.h>

#include "host/abi/dmabuf.h"
#include "host/abi/udmabuf.h"

/* memfd_create(2); younger than the C library's headers */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_PFN ((UINT64_C(1) << 55) - 1)
/* What travels in an answer: the first runs, and how many there are. */
#define RUNS_TOLD 4

static int read_frames(TdiHost *host, const void *address, uint64_t size, struct tdi_runs *l) {
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE), entries[512], at = (uintptr_t) address / page, left = size / page;
        int fd, r = 0;

        fd = host_open(host, "/proc/self/pagemap", O_RDONLY);
        if (fd < 0)
                return fd;
        while (left > 0 && r == 0) {
                size_t n = left < ARRAY_SIZE(entries) ? left : ARRAY_SIZE(entries);
                ssize_t k = host_pread(host, fd, entries, n * sizeof(*entries), at * sizeof(*entries));

                if (k != (ssize_t) (n * sizeof(*entries)))
                        r = k < 0 ? (int) k : -EIO;
                for (size_t i = 0; i < n && r == 0; i++) {
                        uint64_t pfn = entries[i] & PAGEMAP_PFN;

                        /* 0: only who may administrate the system sees frame numbers (pagemap_open). */
                        r = entries[i] & PAGEMAP_PRESENT && pfn ?
                                tdi_runs_add(l, pfn * (page / TDI_PAGE_SIZE), page / TDI_PAGE_SIZE, TDI_PROVIDER_MEMORY,
                                             TDI_RUN_CPU | TDI_RUN_CACHEABLE | TDI_RUN_SNOOP) :
                                -ENODATA;
                }
                at += n;
                left -= n;
        }
        (void) host_close(host, fd);
        return r;
}

/* Where the pages are, if that can be told: udmabuf has pinned them, so they stay there. */
static void tell_runs(struct work *w, int memfd, uint64_t size) {
        struct json_object *list;
        const struct tdi_run *runs;
        struct tdi_runs *l = NULL;
        void *p;
        size_t n;

        p = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, memfd, 0);
        if (p == MAP_FAILED)
                return;
        if (tdi_runs_new(&l) == 0 && read_frames(w->host, p, size, l) == 0) {
                n = tdi_runs_get(l, &runs);
                list = json_new_array();
                for (size_t i = 0; i < n && i < RUNS_TOLD; i++) {
                        json_push_take(list, json_object_new_uint64(runs[i].pfn));
                        json_push_take(list, json_object_new_uint64(runs[i].pages));
                }
                json_set_take(w->values, "runs", list);
                json_set_u64(w->values, "runs_total", n);
        }
        tdi_runs_free(l);
        (void) munmap(p, size);
}

static int of_heap(struct work *w, const char *heap, uint64_t size) {
        struct tdi_dma_heap_allocation_data data = { .len = size, .fd_flags = O_RDWR | O_CLOEXEC };
        char path[128];
        int fd, r;

        snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap);
        fd = host_open(w->host, path, O_RDWR);
        if (fd == -ENOENT)
                json_set_str(w->values, "error", "NotSupported");
        if (fd < 0)
                return work_fail(w, fd, fd == -ENOENT ? "ls /dev/dma_heap shows the heaps that this kernel has" : NULL, "open %s", path);
        r = host_ioctl(w->host, fd, TDI_DMA_HEAP_IOCTL_ALLOC, &data);
        (void) host_close(w->host, fd);
        if (r < 0)
                return work_fail(w, r, r == -ENOMEM ? "the heap has not that much left" : NULL, "allocate %" PRIu64 " bytes of the dma-heap %s", size, heap);
        w->out.fd[w->out.n++] = (int) data.fd;
        return 0;
}

static int of_memory(struct work *w, uint64_t size) {
        struct tdi_udmabuf_create create = { .flags = TDI_UDMABUF_FLAGS_CLOEXEC, .size = size };
        _cleanup_close_ int memfd = -EBADF;
        int fd, r;

        memfd = memfd_create("tdid", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        if (memfd < 0 && errno == EINVAL) /* before Linux 6.3 */
                memfd = memfd_create("tdid", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (memfd < 0)
                return work_fail(w, -errno, NULL, "create a memfd");
        /* What has been measured stays: nobody can seal it against writing either, which would cut devices off. */
        if (ftruncate(memfd, (off_t) size) < 0 || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return work_fail(w, -errno, NULL, "make a memfd of %" PRIu64 " bytes", size);
        fd = host_open(w->host, "/dev/udmabuf", O_RDWR);
        if (fd == -ENOENT)
                json_set_str(w->values, "error", "NotSupported");
        if (fd < 0)
                return work_fail(w, fd, fd == -ENOENT ? "the kernel needs CONFIG_UDMABUF (modprobe udmabuf)" : NULL, "open /dev/udmabuf");
        create.memfd = (uint32_t) memfd;
        r = host_ioctl(w->host, fd, TDI_UDMABUF_CREATE, &create);
        (void) host_close(w->host, fd);
        if (r < 0)
                return work_fail(w, r, r == -EINVAL ? "the module's limits are its parameters size_limit_mb and list_limit" :
                                       r == -ENOMEM ? "there is not that much memory" : NULL,
                                 "UDMABUF_CREATE of %" PRIu64 " bytes", size);
        w->out.fd[w->out.n++] = r;
        tell_runs(w, memfd, size);
        w->out.fd[w->out.n++] = TAKE_FD(memfd);
        return 0;
}

/* args: "size", "heap" (a name, or none: ordinary memory). Out: the dma-buf, and the memfd where there is one. values: "runs", "runs_total". */
int buffer_create_do(struct work *w) {
        const char *heap = json_str_or(w->args, "heap", "");
        uint64_t size = json_u64_or(w->args, "size", 0);

        return isempty(heap) ? of_memory(w, size) : of_heap(w, heap, size);
}
