/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's memory with several functions: what they share, who waits for whom, what is made later, and calls that fail. */
#include "dma-test.h"

/* A call in a thread of its own, after a while. */
struct later {
        pthread_t thread;
        unsigned msec;
        struct client *x;
        struct memory *m;
        uint64_t page, pages, from;
        int64_t result;
        uint64_t took;
};

static void *later_map(void *userdata) {
        struct later *l = userdata;
        uint64_t begin;

        (void) usleep(l->msec * 1000);
        begin = now_msec();
        l->result = map_pages(l->x, l->page, l->pages, l->m, l->from);
        l->took = now_msec() - begin;
        return NULL;
}

static void *later_unmap(void *userdata) {
        struct later *l = userdata;

        (void) usleep(l->msec * 1000);
        l->result = unmap_pages(l->x, l->page, l->pages);
        return NULL;
}

static void *later_seal(void *userdata) {
        struct later *l = userdata;

        (void) usleep(l->msec * 1000);
        l->result = fcntl(l->m->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
        return NULL;
}

static void start(struct later *l, void *(*what)(void *)) {
        require(pthread_create(&l->thread, NULL, what, l) == 0);
}

static int64_t end(struct later *l) {
        require(pthread_join(l->thread, NULL) == 0);
        return l->result;
}

/* Calls of a kind that the kernel has seen since. */
static uint64_t calls(unsigned *id, const char *name) {
        char rule[100];
        uint64_t n = 0;

        if (*id) {
                n = fault_number(*id, "matched");
                fault_end(*id);
        }
        snprintf(rule, sizeof(rule), "{\"call\": \"%s\", \"times\": 1, \"nth\": 1000000}", name);
        *id = fault(rule);
        return n;
}

/* ---- one space ---- */

static void test_one_space(void) {
        struct memory m = memory_new(64, 1);
        struct client x, y;
        unsigned maps = 0, unmaps = 0;
        uint64_t begin;

        dma_start();
        client_start(&x, 0);
        client_start(&y, 0);
        (void) calls(&maps, "IOMMU_IOAS_MAP_FILE");
        (void) calls(&unmaps, "IOMMU_IOAS_UNMAP");
        check_int(map_pages(&x, 0, 16, &m, 0), 0);
        check_int(map_pages(&y, 0, 16, &m, 0), 0);
        check_int(calls(&maps, "IOMMU_IOAS_MAP_FILE"), 1);
        check_int(described(&y, "bytes"), 16 * PAGE);
        check_int(unmap_pages(&x, 0, 16), 16);
        check_int(unmap_pages(&x, 0, 16), -ENOENT);
        check(seen(0, 3) == stamp(&m, 3));
        check_int(calls(&unmaps, "IOMMU_IOAS_UNMAP"), 0);
        /* What is another's is not cut by this one. */
        check_int(unmap_pages(&x, 0, 8), -ENOENT);
        check_int(unmap_pages(&y, 0, 16), 16);
        check(seen(0, 3) == UINT64_MAX);

        /* One call for each run of what goes, and none for memory without a descriptor. */
        for (unsigned i = 0; i < 20; i++)
                check_int(map_pages(&x, i, 1, i == 15 ? NULL : &m, i), 0);
        check_int(map_pages(&y, 5, 1, &m, 5), 0);
        check_int(map_pages(&y, 15, 1, NULL, 0), 0);
        (void) calls(&unmaps, "IOMMU_IOAS_UNMAP");
        check_int(unmap_pages(&x, 0, 20), 20);
        check_int(calls(&unmaps, "IOMMU_IOAS_UNMAP"), 2);
        for (unsigned i = 0; i < 20; i++)
                check(seen(0, i) == (i == 5 ? stamp(&m, 5) : UINT64_MAX));
        check_int(described(&x, "maps"), 0);
        check_int(described(&y, "maps"), 1);

        /* Others of the same address wait, and have their turn or not. */
        begin = now_msec();
        check_int(map_pages_as(&x, 5, 1, &m, 5, false), -EEXIST);
        check(now_msec() - begin > 2900 && now_msec() - begin < 4000);
        check(text_has(&x, "another function"));
        check_int(unmap_pages(&x, 5, 1), 1);

        struct later l = { .msec = 300, .x = &y, .page = 5, .pages = 1 };

        start(&l, later_unmap);
        begin = now_msec();
        check_int(map_pages(&x, 4, 8, &m, 32), 0);
        check(now_msec() - begin < 2000);
        check_int(end(&l), 1);
        check(seen(0, 5) == stamp(&m, 33));
        check(dma_master(x.c) == DMA_MASTER_YES && dma_master(y.c) == DMA_MASTER_YES);
        fault_end(maps);
        fault_end(unmaps);
        client_end(&x);
        client_end(&y);
        dma_end();
        memory_free(&m);
}

/* ---- two spaces ---- */

static void test_two_spaces(void) {
        struct memory m = memory_new(64, 1);
        struct client x, y;
        unsigned maps = 0, copies = 0, id;

        dma_start();
        client_start(&x, 0);
        client_start(&y, 1);
        (void) calls(&maps, "IOMMU_IOAS_MAP_FILE");
        (void) calls(&copies, "IOMMU_IOAS_COPY");
        check_int(map_pages(&x, 0, 16, &m, 0), 0);
        check_int(map_pages(&y, 0, 16, &m, 0), 0);
        check_int(calls(&maps, "IOMMU_IOAS_MAP_FILE"), 1);
        check_int(calls(&copies, "IOMMU_IOAS_COPY"), 1);
        check_int(unmap_pages(&x, 0, 16), 16);
        check(seen(0, 3) == UINT64_MAX);
        check(seen(1, 3) == stamp(&m, 3));
        check_int(map_pages(&x, 0, 16, &m, 0), 0);
        check_int(calls(&copies, "IOMMU_IOAS_COPY"), 1);
        check_int(unmap_pages(&x, 0, 16) + unmap_pages(&y, 0, 16), 32);

        /* Not the same memory, not the same address, not as much access: by itself. */
        (void) calls(&maps, "IOMMU_IOAS_MAP_FILE");
        check_int(map_pages_as(&x, 0, 16, &m, 0, false), 0);
        check_int(map_pages(&y, 0, 16, &m, 0), 0);
        check_int(unmap_pages(&y, 0, 16), 16);
        check_int(map_pages(&y, 0, 8, &m, 0), 0);
        check_int(map_pages(&y, 16, 16, &m, 0), 0);
        check_int(calls(&copies, "IOMMU_IOAS_COPY"), 0);
        check_int(calls(&maps, "IOMMU_IOAS_MAP_FILE"), 4);
        check_int(unmap_pages(&x, 0, 100) + unmap_pages(&y, 0, 100), 40);
        /* Less access is fine. */
        check_int(map_pages(&x, 0, 16, &m, 0), 0);
        check_int(map_pages_as(&y, 0, 16, &m, 0, false), 0);
        check_int(calls(&copies, "IOMMU_IOAS_COPY"), 1);
        check_int(unmap_pages(&y, 0, 16), 16);

        /* A copy that fails. */
        (void) calls(&maps, "IOMMU_IOAS_MAP_FILE");
        id = fault("{\"call\": \"IOMMU_IOAS_COPY\", \"errno\": \"ENOMEM\"}");
        check_int(map_pages(&y, 0, 16, &m, 0), 0);
        check_int(calls(&maps, "IOMMU_IOAS_MAP_FILE"), 1);
        check(seen(1, 3) == stamp(&m, 3));
        fault_end(id);
        check_int(unmap_pages(&x, 0, 16) + unmap_pages(&y, 0, 16), 32);

        /* At the same time: the second waits for the pages of the first. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"delay_ms\": 600}");

        struct later first = { .x = &x, .m = &m, .pages = 16 }, second = { .msec = 200, .x = &y, .m = &m, .pages = 16 };

        (void) calls(&maps, "IOMMU_IOAS_MAP_FILE");
        (void) calls(&copies, "IOMMU_IOAS_COPY");
        start(&first, later_map);
        start(&second, later_map);
        check_int(end(&first), 0);
        check_int(end(&second), 0);
        check(second.took < 1000);
        check_int(calls(&maps, "IOMMU_IOAS_MAP_FILE"), 1);
        check_int(calls(&copies, "IOMMU_IOAS_COPY"), 1);
        fault_end(id);

        /* What is copied from does not go meanwhile. */
        check_int(unmap_pages(&y, 0, 16), 16);
        id = fault("{\"call\": \"IOMMU_IOAS_COPY\", \"delay_ms\": 600}");
        (void) calls(&maps, "IOMMU_IOAS_MAP_FILE");
        second.msec = 0;
        start(&second, later_map);
        (void) usleep(200000);
        check_int(unmap_pages(&x, 0, 16), 16);
        check_int(end(&second), 0);
        check(seen(0, 3) == UINT64_MAX);
        check(seen(1, 3) == stamp(&m, 3));
        check_int(calls(&maps, "IOMMU_IOAS_MAP_FILE"), 0);
        fault_end(id);

        fault_end(maps);
        fault_end(copies);
        client_end(&x);
        client_end(&y);
        dma_end();
        memory_free(&m);
}

/* ---- made later ---- */

/* The kernel has begun with it. */
static void wait_for_sleeper(unsigned id) {
        for (unsigned i = 0; i < 1000 && fault_number(id, "sleeping") == 0; i++)
                (void) usleep(5000);
        check(fault_number(id, "sleeping") > 0);
}

#define TIB (UINT64_C(1) << 28) /* in pages */

static void test_long(void) {
        struct memory big = memory_new(TIB, 1), m = memory_new(8192, 2);
        struct client x, y;
        unsigned id, fds;
        uint64_t begin;

        dma_start();
        client_start(&x, 0);
        client_start(&y, 0);
        fds = settled_fds();
        begin = now_msec();
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        check(gets_master(&x));
        check(now_msec() - begin < 1000);
        check(seen(0, 0x100000) == stamp(&big, 0));
        check(seen(0, 0x100000 + TIB - 1) == 0);
        check_int(told(&x, &x.master, 2), 2);
        check_int(unmap_pages(&x, 0x100000, TIB), TIB);

        /* The kernel takes its time: so does everything behind it, but for what it has no part in. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"never\": true}");
        begin = now_msec();
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        wait_for_sleeper(id);
        check_int(dma_master(x.c), DMA_MASTER_STAYS);
        for (unsigned i = 0; i < 10; i++)
                check_int(map_pages(&x, i, 1, &m, i), 0);
        check_int(map_pages(&x, 20, 1, NULL, 0), 0);
        check(now_msec() - begin < 1000);
        check_int(told(&x, &x.master, 1), 1);
        check_int(described(&x, "pending"), 11);
        /* Room was made for all of them. */
        check_int(map_pages(&x, 5, 1, &m, 7), -EEXIST);
        check_int(map_pages(&x, 0x200000, 1, &m, 7), -EEXIST);
        check_int(unmap_pages(&x, 0x200000, 1), -EINVAL);
        /* What the kernel has not seen yet, it never sees. */
        check_int(unmap_pages(&x, 3, 4), 4);
        check_int(described(&x, "pending"), 7);
        /* Another function of the group wants the same. */
        check_int(map_pages(&y, 0x100000, TIB, &big, 0), 0);
        check_int(map_pages(&y, 1, 1, &m, 1), 0);
        check(dma_master(y.c) != DMA_MASTER_YES);
        check_int(unmap_pages(&x, 0x100000, TIB), TIB);
        check_int(unmap_pages(&x, 1, 1), 1);
        check_int(unmap_pages(&x, 7, 1), 1);
        check(dma_master(x.c) != DMA_MASTER_YES);
        fault_end(id);
        check(gets_master(&x) && gets_master(&y));
        check_int(described(&x, "maps"), 4);
        check_int(described(&y, "maps"), 2);
        check(seen(0, 0x100000) == stamp(&big, 0));
        check(seen(0, 1) == stamp(&m, 1));
        check(seen(0, 2) == stamp(&m, 2));
        check(seen(0, 4) == UINT64_MAX);
        check_int(unmap_pages(&y, 0, 2 * TIB), TIB + 1);
        dma_client_clear(x.c);
        check(seen(0, 2) == UINT64_MAX);
        check_int(settled_fds(), fds);

        /* It fails in the end. */
        (void) told(&x, &x.failed, 0);
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"delay_ms\": 300, \"errno\": \"ENOMEM\"}");
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        check_int(map_pages(&y, 0x100000, TIB, &big, 0), 0);
        check_int(told(&x, &x.failed, 1), 1);
        check_int(told(&y, &y.failed, 1), 1);
        check(text_has(&y, "Cannot allocate memory"));
        check(dma_master(x.c) == DMA_MASTER_NO && dma_master(y.c) == DMA_MASTER_NO);
        check_int(described(&x, "pending") + described(&x, "maps"), 0);
        check_int(unmap_pages(&x, 0x100000, TIB), TIB);
        check(dma_master(x.c) == DMA_MASTER_YES && dma_master(y.c) != DMA_MASTER_YES);
        fault_end(id);
        check_int(map_pages(&y, 0x100000, TIB, &big, 0), 0);
        check(gets_master(&y));
        dma_client_clear(y.c);

        /* Its client goes, the other's does not. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"delay_ms\": 500}");
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        for (unsigned i = 0; i < 100; i++)
                check_int(map_pages(&x, i, 1, &m, i), 0);
        check_int(map_pages(&y, 50, 1, &m, 50), 0);
        client_end(&x);
        check(gets_master(&y));
        check(seen(0, 0x100000) == UINT64_MAX);
        check(seen(0, 49) == UINT64_MAX);
        check(seen(0, 50) == stamp(&m, 50));
        fault_end(id);

        /* The queue is full. */
        client_start(&x, 0);
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"never\": true}");
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        wait_for_sleeper(id);
        for (unsigned i = 0; i < 4096; i++)
                if (!check_int(map_pages(&x, 10000 + i, 1, &m, i), 0))
                        break;
        begin = now_msec();
        check_int(map_pages(&x, 9999, 1, &m, 9), -EBUSY);
        check(now_msec() - begin > 2900 && now_msec() - begin < 4000);
        fault_end(id);
        /* All in the order in which they came: the last is there when nothing is pending. */
        check_int(unmap_pages(&x, 9999, 1), 1);
        check(gets_master(&x));
        check(seen(0, 10000) == stamp(&m, 0));
        check(seen(0, 14095) == stamp(&m, 4095));
        client_end(&x);
        client_end(&y);
        check_int(settled_fds(), fds);
        dma_end();
        memory_free(&big);
        memory_free(&m);
}

/* ---- unmapped while it is being mapped ---- */

/* As a VMM's firmware does it: its memory is mapped as a whole, and taken apart before the kernel is done with that. */
static void test_left(void) {
        struct memory big = memory_new(TIB, 1), m = memory_new(64, 2);
        struct client x, y;
        uint64_t begin;
        unsigned id, fds;

        dma_start();
        client_start(&x, 0);
        client_start(&y, 0);
        fds = settled_fds();
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"never\": true, \"times\": 1}");
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        wait_for_sleeper(id);
        begin = now_msec();
        check_int(unmap_pages(&x, 0x100000, TIB), TIB);
        check(now_msec() - begin > 2900 && now_msec() - begin < 4000);
        check_int(described(&x, "maps"), 0);
        check_int(described(&x, "pending"), 1);
        check(dma_master(x.c) != DMA_MASTER_YES);
        /* There is room for other memory at once, and again; the kernel is asked for it when it is done with the first. */
        begin = now_msec();
        check_int(map_pages(&x, 0x100000, 16, &m, 0), 0);
        check_int(map_pages(&x, 0x200000, 16, &m, 16), 0);
        check_int(unmap_pages(&x, 0x100000, 16), 16);
        check_int(map_pages(&x, 0x100000, 32, &m, 32), 0);
        check_int(unmap_pages(&x, 0x300000, 16), -ENOENT);
        check_int(described(&x, "pending"), 3);
        dma_client_set_patience(y.c, 100);
        check_int(map_pages(&y, 0x100000, 32, &m, 32), 0);
        check_int(map_pages(&y, 0x400000, 16, &m, 0), 0);
        check(now_msec() - begin < 2000);
        check(dma_master(y.c) != DMA_MASTER_YES);
        fault_end(id);
        check(gets_master(&x) && gets_master(&y));
        check(seen(0, 0x100000) == stamp(&m, 32));
        check(seen(0, 0x200000) == stamp(&m, 16));
        check(seen(0, 0x400000) == stamp(&m, 0));
        check(seen(0, 0x100020) == UINT64_MAX);
        check(seen(0, 0x300000) == UINT64_MAX);
        check_int(told(&x, &x.failed, 0), 0);
        check_int(told(&y, &y.failed, 0), 0);
        check_int(unmap_pages(&x, 0, 2 * TIB), 48);
        check_int(unmap_pages(&y, 0, 2 * TIB), 48);

        /* It fails: nothing is left of it, and nobody is told. */
        dma_client_set_patience(x.c, 100);
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"delay_ms\": 1000, \"errno\": \"ENOMEM\", \"times\": 1}");
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        wait_for_sleeper(id);
        check_int(unmap_pages(&x, 0x100000, TIB), TIB);
        check(dma_master(x.c) != DMA_MASTER_YES);
        check(gets_master(&x));
        check_int(told(&x, &x.failed, 0), 0);
        fault_end(id);

        /* What is left of one that goes is waited for. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"delay_ms\": 1000, \"times\": 1}");
        check_int(map_pages(&x, 0x100000, TIB, &big, 0), 0);
        wait_for_sleeper(id);
        check_int(unmap_pages(&x, 0x100000, TIB), TIB);
        client_end(&x);
        check(seen(0, 0x100000) == UINT64_MAX);
        fault_end(id);
        client_end(&y);
        check_int(settled_fds(), fds);
        dma_end();
        memory_free(&big);
        memory_free(&m);
}

/* No more is left than may be mapped. */
static void test_left_limit(void) {
        struct memory m = memory_new(2 << 20, 1);
        struct client x, y;
        unsigned id;

        dma_start_limited((1 << 20) * PAGE, 100);
        client_start(&x, 0);
        client_start(&y, 1);
        dma_client_set_patience(x.c, 100);
        dma_client_set_patience(y.c, 100);
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"never\": true}");
        check_int(map_pages(&x, 1 << 20, 1 << 20, &m, 0), 0);
        wait_for_sleeper(id);
        check_int(unmap_pages(&x, 1 << 20, 1 << 20), 1 << 20);
        check_int(map_pages(&y, 1 << 20, 1 << 20, &m, 1 << 20), 0);
        for (unsigned i = 0; i < 1000 && fault_number(id, "sleeping") < 2; i++)
                (void) usleep(5000);
        check_int(unmap_pages(&y, 1 << 20, 1 << 20), -EBUSY);
        check_int(described(&y, "maps"), 1);
        fault_end(id);
        check(gets_master(&x) && gets_master(&y));
        check_int(unmap_pages(&y, 1 << 20, 1 << 20), 1 << 20);
        check(seen(0, 1 << 20) == UINT64_MAX);
        client_end(&x);
        client_end(&y);
        dma_end();
        memory_free(&m);
}

/* ---- the kernel says no ---- */

static void test_errors(void) {
        struct memory m = memory_new(64, 1);
        struct client x, y;
        struct dma_client *none;
        unsigned id, fds;

        dma_start();
        client_start(&x, 0);
        client_start(&y, 0);
        fds = settled_fds();
        id = fault("{\"call\": \"IOMMU_IOAS_IOVA_RANGES\", \"errno\": \"EIO\"}");
        check_int(dma_client_new(dma, spaces[0], false, on_event, &x, &none), -EIO);
        fault_end(id);
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"errno\": \"EINVAL\"}");
        check_int(map_pages(&x, 0, 16, &m, 0), -EINVAL);
        check_int(told(&x, &x.failed, 1), 1);
        check_int(described(&x, "maps"), 0);
        fault_end(id);
        check_int(map_pages(&x, 0, 16, &m, 0), 0);
        check_int(dma_master(x.c), DMA_MASTER_YES);

        /* A run that fails is tried entry by entry. */
        for (unsigned i = 0; i < 8; i++)
                check_int(map_pages(&x, 16 + i, 1, &m, i), 0);
        id = fault("{\"call\": \"IOMMU_IOAS_UNMAP\", \"errno\": \"EBUSY\", \"times\": 1}");
        check_int(unmap_pages(&x, 0, 100), 24);
        check(seen(0, 16) == UINT64_MAX);
        fault_end(id);
        for (unsigned i = 0; i < 8; i++)
                check_int(map_pages(&x, 16 + i, 1, &m, i), 0);
        id = fault("{\"call\": \"IOMMU_IOAS_UNMAP\", \"errno\": \"EBUSY\", \"times\": 3}");
        check_int(unmap_pages(&x, 0, 100), -EBUSY);
        fault_end(id);
        check_int(described(&x, "maps"), 2);
        check(seen(0, 17) == stamp(&m, 1));
        check(seen(0, 18) == UINT64_MAX);
        check_int(unmap_pages(&x, 0, 100), 2);

        /* Not to be got rid of: it is nobody's then, and whoever wants the same has it. */
        check_int(map_pages(&x, 0, 16, &m, 0), 0);
        check_int(map_pages(&x, 32, 16, &m, 0), 0);
        id = fault("{\"call\": \"IOMMU_IOAS_UNMAP\", \"errno\": \"EBUSY\"}");
        dma_client_clear(x.c);
        check(text_has(&x, "IOMMU_IOAS_UNMAP of IOAS 1 failed"));
        check_int(described(&x, "maps"), 0);
        fault_end(id);
        check_int(unmap_pages(&x, 0, 100), -ENOENT);
        check_int(map_pages(&y, 0, 16, &m, 16), -EEXIST);
        check_int(unmap_pages(&y, 0, 16), 16);
        check_int(map_pages(&y, 0, 16, &m, 0), 0);
        check_int(map_pages(&x, 32, 16, &m, 0), 0);
        check_int(unmap_pages(&y, 0, 100), 16);
        check_int(unmap_pages(&x, 0, 100), 16);
        check(seen(0, 0) == UINT64_MAX);

        /* Sealed while it was being mapped. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"delay_ms\": 500}");

        struct later l = { .msec = 200, .m = &m };

        start(&l, later_seal);
        check_int(map_pages(&x, 0, 16, &m, 0), -EACCES);
        check_int(end(&l), 0);
        check(seen(0, 0) == UINT64_MAX);
        fault_end(id);
        check_int(settled_fds(), fds);
        client_end(&x);
        client_end(&y);
        dma_end();
        memory_free(&m);
}

int main(void) {
        unsigned fds;

        machine_start();
        fds = settled_fds();
        test_one_space();
        test_two_spaces();
        test_long();
        test_left();
        test_left_limit();
        test_errors();
        check_fds(fds);
        machine_end();
        return test_end();
}
