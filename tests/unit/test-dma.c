/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's memory in IOASes, on the simulated iommufd: what is mapped, refused, shared and unmapped, and what a device reads. */
#include <sys/socket.h>

#include "dma-test.h"

/* ---- one client ---- */

static void test_maps(void) {
        struct memory m = memory_new(64, 1);
        struct client x;
        uint64_t bytes = 0;

        dma_start();
        client_start(&x, 0);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        check_int(unmap_pages(&x, 0, 100), -ENOENT);
        check_int(map_pages(&x, 16, 16, &m, 0), 0);
        check_int(map_pages(&x, 32, 16, &m, 16), 0);
        check_int(map_pages(&x, 64, 16, &m, 48), 0);
        check(seen(0, 15) == UINT64_MAX);
        check(seen(0, 16) == stamp(&m, 0));
        check(seen(0, 47) == stamp(&m, 31));
        check(seen(0, 48) == UINT64_MAX);
        check(seen(0, 79) == stamp(&m, 63));
        check_int(described(&x, "maps"), 3);
        check_int(described(&x, "bytes"), 48 * PAGE);
        /* Through a middle. */
        check_int(unmap_pages(&x, 16, 8), -EINVAL);
        check_int(unmap_pages(&x, 20, 12), -EINVAL);
        check_int(unmap_pages(&x, 0, 40), -EINVAL);
        check_int(unmap_pages(&x, 40, 40), -EINVAL);
        check_int(dma_unmap(x.c, 16 * PAGE, 32 * PAGE - 1, &bytes), -EINVAL);
        check_int(dma_unmap(x.c, 16 * PAGE + 1, 32 * PAGE, &bytes), -EINVAL);
        check_int(dma_unmap(x.c, 0, 0, &bytes), -EINVAL);
        check_int(dma_unmap(x.c, PAGE, UINT64_MAX, &bytes), -EINVAL);
        check(seen(0, 16) == stamp(&m, 0));
        check_int(described(&x, "maps"), 3);
        /* One, several, all that is left. */
        check_int(unmap_pages(&x, 32, 16), 16);
        check(seen(0, 32) == UINT64_MAX);
        check(seen(0, 31) == stamp(&m, 15));
        check_int(map_pages(&x, 40, 2, &m, 7), 0);
        check_int(dma_unmap(x.c, 1, 50 * PAGE, &bytes), 0);
        check_int(bytes, 18 * PAGE);
        check(seen(0, 16) == UINT64_MAX);
        check(seen(0, 64) == stamp(&m, 48));
        check_int(dma_unmap_all(x.c, &bytes), 0);
        check_int(bytes, 16 * PAGE);
        check_int(dma_unmap_all(x.c, &bytes), 0);
        check_int(bytes, 0);
        check_int(described(&x, "maps") + described(&x, "bytes"), 0);
        /* A map that is read only, and one that no device reads. */
        check_int(map_pages_as(&x, 5, 1, &m, 5, false), 0);
        check(seen(0, 5) == stamp(&m, 5));
        check_int(dma_map(x.c, 6 * PAGE, PAGE, fd_dup(m.fd), 0, false, true), 0);
        check(seen(0, 6) == UINT64_MAX);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        check_int(told(&x, &x.master, 0) + told(&x, &x.failed, 0), 0);
        client_end(&x);
        check(seen(0, 5) == UINT64_MAX);
        dma_end();
        memory_free(&m);
}

static void test_failed(void) {
        struct memory m = memory_new(64, 1);
        struct client x;

        dma_start();
        client_start(&x, 0);
        /* Nothing that could be unmapped again. */
        check_int(dma_map(x.c, PAGE, 0, fd_dup(m.fd), 0, true, true), -EINVAL);
        check_int(dma_map(x.c, PAGE, UINT64_MAX - 10, fd_dup(m.fd), 0, true, true), -EINVAL);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        check_int(dma_map(x.c, 100, PAGE, fd_dup(m.fd), 0, true, true), -EINVAL);
        check_int(dma_map(x.c, 8 * PAGE, PAGE, fd_dup(m.fd), 100, true, true), -EINVAL);
        check_int(dma_map(x.c, 9 * PAGE, PAGE, fd_dup(m.fd), 0, false, false), -EINVAL);
        check_int(dma_map(x.c, 10 * PAGE, 100, -EBADF, 0, true, true), -EINVAL);
        check_int(told(&x, &x.failed, 4), 4);
        check_int(told(&x, &x.master, 1), 1);
        check(dma_master(x.c) != DMA_MASTER_YES);
        /* Pages 0 and 1, and 8 to 10. */
        check_int(described(&x, "failed_ranges"), 2);
        check_int(unmap_pages(&x, 0, 2), 2);
        check(dma_master(x.c) != DMA_MASTER_YES);
        check_int(unmap_pages(&x, 9, 1), 1);
        /* All there is. */
        check_int(dma_map(x.c, 0, UINT64_MAX, fd_dup(m.fd), 0, true, true), -EINVAL);
        check_int(unmap_pages(&x, 0, 8), 8);
        check_int(dma_unmap(x.c, 11 * PAGE, UINT64_MAX - 11 * PAGE + 1, NULL), 0);
        check_int(unmap_pages(&x, 9, 1), 1);
        (void) told(&x, &x.failed, 1);
        check_int(described(&x, "failed_ranges"), 2);
        /* What is mapped in the end has not failed. */
        check_int(map_pages(&x, 8, 1, &m, 0), 0);
        check(dma_master(x.c) != DMA_MASTER_YES);
        check_int(map_pages(&x, 10, 1, NULL, 0), 0);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        check_int(told(&x, &x.master, 1), 1);
        /* A second map in the place of one that is there. */
        check_int(map_pages(&x, 8, 1, &m, 0), -EEXIST);
        check(text_has(&x, "overlaps 0x8000"));
        check_int(map_pages(&x, 7, 4, &m, 0), -EEXIST);
        check(seen(0, 8) == stamp(&m, 0));
        check_int(unmap_pages(&x, 7, 4), 2);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        /* Only so many are told, all are known. */
        (void) told(&x, &x.failed, 0);
        for (unsigned i = 0; i < 40; i++)
                check_int(dma_map(x.c, (100 + 2 * i) * PAGE, PAGE, fd_dup(m.fd), 0, false, false), -EINVAL);
        check(told(&x, &x.failed, 0) < 16);
        check_int(described(&x, "failed_ranges"), 40);
        dma_client_clear(x.c);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        client_end(&x);
        dma_end();
        memory_free(&m);
}

static void test_unbacked(void) {
        struct memory m = memory_new(4, 1);
        struct json_object *o, *unbacked, *first;
        struct client x;

        dma_start();
        client_start(&x, 0);
        check_int(map_pages(&x, 16, 16, NULL, 0), 0);
        check_int(map_pages(&x, 64, 16, NULL, 0), 0);
        check_int(told(&x, &x.unbacked, 1), 1);
        check(text_has(&x, "0x10000"));
        check_int(dma_master(x.c), DMA_MASTER_YES);
        check_int(map_pages(&x, 20, 1, &m, 0), -EEXIST);
        check_int(map_pages(&x, 10, 10, NULL, 0), -EEXIST);
        check_int(unmap_pages(&x, 10, 16), -EINVAL);
        check_int(map_pages(&x, 40, 4, &m, 0), 0);
        o = dma_client_describe(x.c);
        require(json_get_object(o, "unbacked", &unbacked) == 0 && json_get_array(unbacked, "first", &first) == 0);
        check_int(json_u64_or(unbacked, "ranges", 0), 2);
        check_int(json_u64_or(unbacked, "bytes", 0), 32 * PAGE);
        check_int(json_object_array_length(first), 2);
        check_str(json_str_or(json_object_array_get_idx(first, 1), "iova", ""), "0x40000");
        json_object_put(o);
        check_int(described(&x, "maps"), 1);
        /* Over all of it, by one call of the kernel. */
        check_int(unmap_pages(&x, 0, 100), 36);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        check_int(map_pages(&x, 16, 16, NULL, 0), 0);
        check_int(told(&x, &x.unbacked, 0), 0);
        client_end(&x);
        dma_end();
        memory_free(&m);
}

/* ---- what a descriptor has to be ---- */

static int reopened(const struct memory *m, int flags) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
        fd = open(path, flags | O_CLOEXEC);
        require(fd >= 0);
        return fd;
}

static void test_files(void) {
        struct memory m = memory_new(8, 1);
        struct client x;
        int pair[2], fd, r;
        char path[100];

        require(pipe2(pair, O_CLOEXEC) == 0);
        dma_start();
        client_start(&x, 0);

        struct {
                const char *what;
                int fd;
                uint64_t offset;
                bool readable, writable;
                int expected;
        } cases[] = {
                { "a device", open("/dev/null", O_RDWR | O_CLOEXEC), 0, true, true, -EBADF },
                { "/dev/zero", open("/dev/zero", O_RDWR | O_CLOEXEC), 0, true, false, -EBADF },
                { "a pipe", pair[0], 0, true, false, -EBADF },
                { "an eventfd", new_event(), 0, true, true, -EBADF },
                { "a socket", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 0, true, true, -EBADF },
                { "a file of a disk", open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 0, true, false, -EBADF },
                { "a directory", open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, true, false, -EBADF },
                { "a file of /proc", open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC), 0, true, false, -EBADF },
                { "the iommufd", fd_dup(iommufd), 0, true, true, -EBADF },
                { "a VFIO device", fd_dup(devices[0]), 0, true, true, -EBADF },
                { "no access", reopened(&m, O_PATH), 0, true, false, -EBADF },
                { "no such descriptor", 10000, 0, true, true, -EBADF },
                { "opened for reading, written", reopened(&m, O_RDONLY), 0, true, true, -EACCES },
                { "opened for reading, only written", reopened(&m, O_RDONLY), 0, false, true, -EACCES },
                { "opened for writing, read", reopened(&m, O_WRONLY), 0, true, false, -EACCES },
                { "opened for writing, only written", reopened(&m, O_WRONLY), 0, false, true, -EACCES },
                { "opened for reading", reopened(&m, O_RDONLY), 0, true, false, 0 },
                { "sealed", new_memfd(PAGE, F_SEAL_WRITE), 0, true, true, -EACCES },
                { "sealed for later", new_memfd(PAGE, F_SEAL_FUTURE_WRITE), 0, true, true, -EACCES },
                { "empty", new_memfd(0, 0), 0, true, true, -ENXIO },
                { "beyond the end", fd_dup(m.fd), 8 * PAGE, true, true, -ENXIO },
                { "wraps", fd_dup(m.fd), UINT64_MAX - PAGE + 1, true, true, -ENXIO },
                { "far beyond the end", fd_dup(m.fd), UINT64_C(1) << 62, true, true, -ENXIO },
                { "the last page", fd_dup(m.fd), 7 * PAGE, true, true, 0 },
                /* Not mapped by the peer. */
                { "another file", new_memfd(PAGE, 0), 0, true, true, -EACCES },
                { "another file, read", new_memfd(PAGE, F_SEAL_WRITE), 0, true, false, -EACCES },
        };

        close_fd(pair[1]);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("%s", cases[i].what);
                check(cases[i].fd >= 0);
                r = dma_map(x.c, 0x100000, PAGE, cases[i].fd, cases[i].offset, cases[i].readable, cases[i].writable);
                check_int(r, cases[i].expected);
                /* Taken, whatever the result. */
                check_int(fcntl(cases[i].fd, F_GETFD), -1);
                if (cases[i].fd != 10000)
                        check((dma_master(x.c) == DMA_MASTER_YES) == (cases[i].expected == 0));
                check_int(unmap_pages(&x, 0x100, 1), 1);
                check_int(dma_master(x.c), DMA_MASTER_YES);
        }
        test_about("two pages over the end");
        check_int(map_pages(&x, 0x100, 2, &m, 7), -ENXIO);
        check_int(unmap_pages(&x, 0x100, 2), 2);

        /* A file of tmpfs that the process maps is as good. */
        test_about("tmpfs");
        snprintf(path, sizeof(path), "/dev/shm/tdid-test-%d", (int) getpid());
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0) {
                void *map;

                (void) unlink(path);
                require(ftruncate(fd, (off_t) PAGE) == 0);
                if (fcntl(fd, F_GET_SEALS) >= 0) {
                        map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                        require(map != MAP_FAILED);
                        check_int(dma_map(x.c, 0, PAGE, fd_dup(fd), 0, true, true), 0);
                        check_int(unmap_pages(&x, 0, 1), 1);
                        (void) munmap(map, PAGE);
                }
                close_fd(fd);
        }
        test_about("huge pages");
        fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
        if (fd >= 0 && ftruncate(fd, 2 << 20) == 0) {
                void *map = mmap(NULL, 2 << 20, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);

                if (map != MAP_FAILED) {
                        check_int(dma_map(x.c, 0, 2 << 20, fd_dup(fd), 0, true, true), 0);
                        check_int(unmap_pages(&x, 0, 512), 512);
                        (void) munmap(map, 2 << 20);
                }
        }
        close_fd(fd);
        /* The device that was refused is nobody's prisoner. */
        test_about("end");
        client_end(&x);
        dma_end();
        memory_free(&m);
        r = fcntl(devices[0], F_GETFD);
        check(r >= 0);
        test_about("%s", "");
}

/* ---- what the peer maps ---- */

static void test_peer(void) {
        struct memory m = memory_new(64, 1);
        struct client x;
        uint64_t begin;
        void *private, *part;
        int other;
        unsigned count;

        require(dma_new(host, &(struct dma_limits){ UINT64_C(1) << 40, 1000 }, &dma) == 0);
        dma_set_iommufd(dma, iommufd);
        client_start(&x, 0);
        /* Who brings it is away: what is mapped meanwhile waits, after a little while that is waited for once. */
        begin = now_msec();
        check_int(map_pages(&x, 0, 1, &m, 0), 0);
        check(now_msec() - begin >= 1900 && now_msec() - begin < 4000);
        check_int(map_pages(&x, 1, 1, NULL, 0), 0);
        other = new_memfd(4 * PAGE, 0);
        check_int(dma_map(x.c, 2 * PAGE, PAGE, fd_dup(other), 0, true, true), 0);
        check_int(map_pages(&x, 3, 4, &m, 3), 0);
        check_int(map_pages(&x, 10, 1, &m, 10), 0);
        check(now_msec() - begin < 4000);
        check_int(unmap_pages(&x, 10, 1), 1);
        check_int(described(&x, "pending"), 3);
        check_int(dma_master(x.c), DMA_MASTER_STAYS);
        check(seen(0, 0) == UINT64_MAX);
        dma_set_peer(dma, new_peer_maps(), -EBADF);
        check_int(told(&x, &x.failed, 1), 1);
        check(text_has(&x, "shared"));
        for (unsigned i = 0; i < 500 && described(&x, "pending") > 0; i++)
                (void) usleep(10000);
        check(seen(0, 0) == stamp(&m, 0) && seen(0, 5) == stamp(&m, 5));
        check_int(dma_master(x.c), DMA_MASTER_NO);
        check_int(unmap_pages(&x, 2, 1), 1);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        close_fd(other);
        check_int(unmap_pages(&x, 0, 8), 6);
        count = settled_fds() - 1;
        check_int(map_pages(&x, 0, 1, &m, 0), 0);
        check_int(map_pages(&x, 1, 1, NULL, 0), 0);
        check_int(dma_master(x.c), DMA_MASTER_YES);

        /* And gone again before it is there. */
        dma_set_peer(dma, -EBADF, -EBADF);
        dma_client_set_patience(x.c, 100);
        check_int(map_pages(&x, 8, 8, &m, 8), 0);
        dma_client_clear(x.c);
        check_int(described(&x, "maps") + described(&x, "pending"), 0);
        dma_client_set_patience(x.c, 3000);
        check_fds(count);
        dma_set_peer(dma, new_peer_maps(), -EBADF);
        check_int(map_pages(&x, 0, 1, &m, 0), 0);
        check_int(map_pages(&x, 1, 1, NULL, 0), 0);

        /* Of another process that maps nothing of it. */
        other = getpid() != 1 ? open("/proc/1/maps", O_RDONLY | O_CLOEXEC) : -1;
        if (other >= 0) {
                dma_set_peer(dma, other, -EBADF);
                /* Its maps, and the file of what is mapped. */
                check_fds(count + 2);
                check_int(map_pages(&x, 2, 1, &m, 0), -EACCES);
                check(text_has(&x, "shared"));
                check_int(unmap_pages(&x, 2, 1), 1);
        }
        dma_set_peer(dma, new_peer_maps(), -EBADF);
        check_int(map_pages(&x, 2, 1, &m, 0), 0);

        /* A private mapping is a copy; of what is mapped in pieces the whole counts. */
        other = new_memfd(64 * PAGE, 0);
        private = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, other, 0);
        require(private != MAP_FAILED);
        check_int(dma_map(x.c, 0x100000, PAGE, fd_dup(other), 0, true, true), -EACCES);
        part = mmap(private, 8 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, other, 16 * PAGE);
        require(part == private);
        part = mmap((char *) private + 16 * PAGE, 8 * PAGE, PROT_NONE, MAP_SHARED | MAP_FIXED, other, 8 * PAGE);
        require(part != MAP_FAILED);
        check_int(dma_map(x.c, 0x100000, 16 * PAGE, fd_dup(other), 8 * PAGE, true, true), 0);
        check_int(dma_map(x.c, 0x200000, 17 * PAGE, fd_dup(other), 8 * PAGE, true, true), -EACCES);
        check_int(dma_map(x.c, 0x200000, PAGE, fd_dup(other), 7 * PAGE, true, true), -EACCES);
        (void) munmap(private, 64 * PAGE);
        /* It was asked once, and is asked again when nothing is left of it. */
        check_int(unmap_pages(&x, 0x200, 17), 17);
        check_int(dma_map(x.c, 0x200000, PAGE, fd_dup(other), 8 * PAGE, true, true), 0);
        check_int(unmap_pages(&x, 0, 0x1000), 20);
        check_int(dma_map(x.c, 0x200000, PAGE, fd_dup(other), 8 * PAGE, true, true), -EACCES);
        close_fd(other);
        client_end(&x);
        dma_end();
        memory_free(&m);
}

/* ---- windows ---- */

static void test_windows(void) {
        struct memory m = memory_new(64, 1);
        struct json_object *o, *list;
        uint32_t pt = spaces[0];
        struct client x;
        unsigned id;

        check_int(detach_vfio(devices[0]), 0);
        dma_start();
        client_start(&x, 0);
        check_int(attach_vfio(devices[0], &pt), 0);
        /* The kernel knows better than what was read when nothing was attached. */
        check_int(map_pages(&x, 0xfedff, 4, &m, 0), -EADDRNOTAVAIL);
        check(text_has(&x, "0xfee00000 lies outside"));
        check(text_has(&x, "0x0-0xfedfffff"));
        check(text_has(&x, "0xfef00000-"));
        o = dma_client_describe(x.c);
        require(json_get_array(o, "windows", &list) == 0);
        check_int(json_object_array_length(list), 2);
        check_str(json_str_or(json_object_array_get_idx(list, 0), "last", ""), "0xfedfffff");
        require(json_get_array(o, "failed", &list) == 0);
        check_int(json_object_array_length(list), 1);
        check_int(json_u64_or(json_object_array_get_idx(list, 0), "errno", 0), EADDRNOTAVAIL);
        json_object_put(o);
        /* And is not asked to map what is refused. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\"}");
        check_int(dma_map(x.c, UINT64_C(1) << 48, PAGE, fd_dup(m.fd), 0, true, true), -EADDRNOTAVAIL);
        check_int(fault_number(id, "matched"), 0);
        fault_end(id);
        check_int(detach_vfio(devices[0]), 0);
        check_int(map_pages(&x, 0xfedff, 4, &m, 0), 0);
        check_int(unmap_pages(&x, 0xfedff, 4), 4);
        pt = spaces[0];
        check_int(attach_vfio(devices[0], &pt), 0);
        client_end(&x);
        dma_end();
        memory_free(&m);
}

/* ---- limits ---- */

static void test_limits(void) {
        struct memory m = memory_new(64, 1);
        struct dma_client *clients[64], *one_more;
        struct client x, y;
        unsigned count;

        dma_start_limited(10 * PAGE, 5);
        client_start(&x, 0);
        client_start(&y, 1);
        check_int(map_pages(&x, 0, 11, &m, 0), -EDQUOT);
        check(text_has(&x, "0xa000 bytes pinned"));
        check_int(unmap_pages(&x, 0, 11), 11);
        check_int(map_pages(&x, 0, 8, &m, 0), 0);
        check_int(map_pages(&y, 100, 3, &m, 0), -EDQUOT);
        check_int(unmap_pages(&y, 100, 3), 3);
        /* The same pages again cost nothing, and stay counted when the first goes. */
        check_int(map_pages(&y, 0, 8, &m, 0), 0);
        check_int(unmap_pages(&x, 0, 8), 8);
        check_int(map_pages(&x, 100, 3, &m, 0), -EDQUOT);
        check_int(unmap_pages(&x, 100, 3), 3);
        check_int(map_pages(&x, 100, 2, &m, 0), 0);
        check_int(unmap_pages(&y, 0, 8), 8);
        check_int(map_pages(&x, 0, 8, &m, 0), 0);
        check_int(unmap_pages(&x, 0, 1000), 10);
        /* Entries, those of memory without a descriptor and failed ones too. */
        for (unsigned i = 0; i < 4; i++)
                check_int(map_pages(&x, UINT64_C(2) * i, 1, i % 2 ? &m : NULL, i), 0);
        check_int(dma_map(x.c, 100 * PAGE, PAGE, fd_dup(m.fd), 0, false, false), -EINVAL);
        check_int(map_pages(&x, 20, 1, NULL, 0), -ENOSPC);
        check(text_has(&x, "limit of 5 maps"));
        /* More has failed than there is room to note: only the end of all of it is good again. */
        check_int(unmap_pages(&x, 0, 10000), 4);
        check(dma_master(x.c) != DMA_MASTER_YES);
        check_int(dma_unmap_all(x.c, NULL), 0);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        client_end(&x);
        client_end(&y);
        dma_end();

        /* Files, and clients of a space. */
        dma_start();
        client_start(&x, 0);
        count = settled_fds();
        for (unsigned i = 0; i < 1023; i++) {
                struct memory one = memory_new(1, i);

                check_int(map_pages(&x, i, 1, &one, 0), 0);
                memory_free(&one);
        }
        check_int(map_pages(&x, 2000, 1, &m, 0), -ENOSPC);
        check_int(unmap_pages(&x, 7, 1), 1);
        check_int(map_pages(&x, 2000, 1, &m, 0), 0);
        /* The simulation, in this process, has one of each; the room has none. */
        check_fds(count + 1023);
        dma_client_clear(x.c);
        check_fds(count);
        client_end(&x);
        for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
                require(dma_client_new(dma, spaces[0], false, on_event, &x, &clients[i]) == 0);
        check_int(dma_client_new(dma, spaces[0], false, on_event, &x, &one_more), -EUSERS);
        check_int(dma_client_new(dma, 77, false, on_event, &x, &one_more), -ENOENT);
        client_start(&y, 1);
        client_end(&y);
        for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
                (void) dma_client_free(clients[i]);
        dma_end();
        memory_free(&m);
}

int main(void) {
        unsigned fds;

        machine_start();
        fds = settled_fds();
        test_maps();
        test_failed();
        test_unbacked();
        test_files();
        test_peer();
        test_windows();
        check_fds(fds);
        test_limits();
        check_fds(fds);
        machine_end();
        return test_end();
}
