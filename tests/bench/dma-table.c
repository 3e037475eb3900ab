/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What keeping the books of a guest's memory costs, with 262,144 maps of 4 KiB for each of 8 functions. The kernel is left out: its calls
 * return at once, so that what is measured is ours. Prints a line a figure, each beside a baseline of the same run:
 * NAME value=… baseline=… ratio=… goal=…. Nothing here fails by being slow.
 *
 *   bench-dma-table [ENTRIES]
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "host/abi/iommufd.h"
#include "vm/vpci/dma.h"
#include "vm/vpci/ranges.h"
#include "vm/vpci/thread.h"

#define FUNCTIONS 8

static size_t entries = 262144;
static uint64_t *order; /* pages in a random order */
static int memory;
static volatile uint64_t sink;

static double now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec * 1e9 + (double) t.tv_nsec;
}

static void need(bool ok, const char *what) {
        if (ok)
                return;
        fprintf(stderr, "bench-dma-table: %s failed\n", what);
        exit(1);
}

static void figure(const char *name, double value, double baseline, const char *unit, const char *goal, const char *what) {
        printf("%s value=%.4g%s baseline=%.4g%s ratio=%.3g goal=%s baseline_is=%s\n", name, value, unit, baseline, unit, value / baseline,
               goal, what);
        (void) fflush(stdout);
}

static uint64_t random_number(void) {
        static uint64_t state = 1;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

/* ---- the table alone ---- */

static bool keep_none(struct range *r, void *userdata) {
        (void) r;
        (void) userdata;
        return false;
}

static void bench_table(void) {
        struct ranges tables[FUNCTIONS] = {};
        uint64_t *sorted[FUNCTIONS];
        double begin, sort, search, insert, find, churn, filter;
        struct ranges_at at;
        size_t memory_of = 0;

        begin = now();
        for (unsigned f = 0; f < FUNCTIONS; f++) {
                sorted[f] = malloc((entries + 1) * sizeof(uint64_t));
                need(sorted[f], "malloc");
                memcpy(sorted[f], order, entries * sizeof(uint64_t));
                qsort(sorted[f], entries, sizeof(uint64_t), compare);
        }
        sort = (now() - begin) / (double) (entries * FUNCTIONS);
        begin = now();
        for (size_t i = 0; i < entries; i++)
                for (unsigned f = 0; f < FUNCTIONS; f++)
                        sink += *(uint64_t *) bsearch(&order[i], sorted[f], entries, sizeof(uint64_t), compare);
        search = (now() - begin) / (double) (entries * FUNCTIONS);

        begin = now();
        for (size_t i = 0; i < entries; i++)
                for (unsigned f = 0; f < FUNCTIONS; f++)
                        need(ranges_insert(&tables[f], &(struct range){ .first = order[i], .pages = 1 }) == 0, "ranges_insert");
        insert = (now() - begin) / (double) (entries * FUNCTIONS);
        begin = now();
        for (size_t i = 0; i < entries; i++)
                for (unsigned f = 0; f < FUNCTIONS; f++)
                        sink += ranges_seek(&tables[f], order[i], NULL)->first;
        find = (now() - begin) / (double) (entries * FUNCTIONS);
        begin = now();
        for (size_t i = 0; i < entries; i++)
                for (unsigned f = 0; f < FUNCTIONS; f++) {
                        uint64_t page = order[(i * 7 + f) % entries];

                        (void) ranges_seek(&tables[f], page, &at);
                        ranges_remove(&tables[f], at);
                        need(ranges_insert(&tables[f], &(struct range){ .first = page, .pages = 1 }) == 0, "ranges_insert");
                }
        churn = (now() - begin) / (double) (entries * FUNCTIONS);
        for (unsigned f = 0; f < FUNCTIONS; f++)
                memory_of += ranges_memory(&tables[f]);
        begin = now();
        for (unsigned f = 0; f < FUNCTIONS; f++)
                need(ranges_filter(&tables[f], 0, RANGE_PAGE_MAX, keep_none, NULL) == entries, "ranges_filter");
        filter = (now() - begin) / (double) (entries * FUNCTIONS);
        for (unsigned f = 0; f < FUNCTIONS; f++) {
                ranges_clear(&tables[f]);
                free(sorted[f]);
        }
        figure("dma_table_insert", insert, sort, "ns", "-", "qsort,_a_key");
        figure("dma_table_find", find, search, "ns", "-", "bsearch");
        figure("dma_table_remove_insert", churn, 2 * search, "ns", "-", "2_bsearch");
        figure("dma_table_unmap_all", filter, search, "ns", "-", "bsearch");
        figure("dma_table_memory", (double) memory_of / (double) (entries * FUNCTIONS), sizeof(struct range), "B", "1.5", "an_entry");
}

/* ---- the whole way of a map, but for the kernel's part ---- */

static int quick_ioctl(TdiHost *host, int fd, unsigned long request, void *arg) {
        (void) host;
        (void) fd;
        if (request == TDI_IOMMU_IOAS_IOVA_RANGES) {
                struct tdi_iommu_ioas_iova_ranges *cmd = arg;

                *(struct tdi_iommu_iova_range *) (uintptr_t) cmd->allowed_iovas = (struct tdi_iommu_iova_range){ 0, UINT64_MAX };
                cmd->num_iovas = 1;
        }
        return 0;
}

static void on_event(enum dma_event event, const char *text, void *userdata) {
        (void) event;
        (void) text;
        (void) userdata;
}

static struct dma_client *clients[FUNCTIONS];

static void map_one(struct dma_client *c, uint64_t page) {
        need(dma_map(c, page * RANGE_PAGE, RANGE_PAGE, fd_dup(memory), page / 2 * RANGE_PAGE, true, true) == 0, "dma_map");
}

/* The calls that a map cannot do without, as dma-check.c makes them. */
static void bare_calls(uint64_t page) {
        int fd = fd_dup(memory);
        struct stat st;

        sink += (uint64_t) fcntl(fd, F_GETFL) + (uint64_t) fcntl(fd, F_GET_SEALS) + (uint64_t) fcntl(fd, F_GET_SEALS) + page;
        (void) fstat(fd, &st);
        sink += (uint64_t) fcntl(fd, F_GET_SEALS) + (uint64_t) st.st_size;
        close_fd(fd);
}

struct churn {
        pthread_t thread;
        struct dma_client *c;
        size_t from;
        double spent;
};

#define CHURN 20000

static void *churn(void *userdata) {
        struct churn *x = userdata;
        double begin = now();

        for (size_t i = 0; i < CHURN; i++) {
                uint64_t page = order[(x->from + i) % entries];

                need(dma_unmap(x->c, page * RANGE_PAGE, RANGE_PAGE, NULL) == 0, "dma_unmap");
                map_one(x->c, page);
        }
        x->spent = (now() - begin) / CHURN;
        return NULL;
}

static double churn_with(unsigned threads) {
        struct churn x[FUNCTIONS];
        double longest = 0;

        for (unsigned f = 0; f < threads; f++) {
                x[f] = (struct churn){ .c = clients[f], .from = (size_t) f * 1000 };
                need(thread_start(&x[f].thread, churn, &x[f]) == 0, "pthread_create");
        }
        for (unsigned f = 0; f < threads; f++) {
                (void) pthread_join(x[f].thread, NULL);
                if (x[f].spent > longest)
                        longest = x[f].spent;
        }
        return longest / threads;
}

static void *unmap_all(void *userdata) {
        struct dma_client *c = userdata;

        need(dma_unmap(c, 0, entries * 2 * RANGE_PAGE, NULL) == 0, "dma_unmap");
        return NULL;
}

static void bench_room(void) {
        static struct tdi_host_ops ops;
        static TdiHost host = { &ops };
        struct dma_limits limits = { UINT64_MAX, UINT64_MAX };
        double begin, bare, map, unmap, one, longest = 0;
        struct dma *d;
        pthread_t thread;
        TdiHost *real;

        need(tdi_host_linux_new(&real) == 0, "tdi_host_linux_new");
        ops = *real->ops;
        ops.ioctl = quick_ioctl;
        need(dma_new(&host, &limits, &d) == 0, "dma_new");
        dma_set_peer(d, open("/proc/self/maps", O_RDONLY | O_CLOEXEC), -EBADF);
        for (unsigned f = 0; f < FUNCTIONS; f++)
                need(dma_client_new(d, f + 1, false, on_event, NULL, &clients[f]) == 0, "dma_client_new");

        begin = now();
        for (size_t i = 0; i < entries; i++)
                bare_calls(order[i]);
        bare = (now() - begin) / (double) entries;
        begin = now();
        for (size_t i = 0; i < entries; i++)
                for (unsigned f = 0; f < FUNCTIONS; f++)
                        map_one(clients[f], order[i]);
        map = (now() - begin) / (double) (entries * FUNCTIONS);
        figure("dma_map_4k", map, bare, "ns", "-", "its_system_calls");
        one = churn_with(1);
        figure("dma_unmap_map_4k", one, bare, "ns", "-", "its_system_calls");
        figure("dma_unmap_map_4k_8_threads", churn_with(FUNCTIONS), one, "ns", "-", "one_thread");
        /* Half by pieces of 1,024 maps, where seven others have the same; then whole, which must not keep a supervisor waiting. */
        begin = now();
        for (size_t i = 0; i < entries; i += 1024)
                need(dma_unmap(clients[0], i * 2 * RANGE_PAGE, UINT64_C(2048) * RANGE_PAGE, NULL) == 0, "dma_unmap");
        unmap = (now() - begin) / (double) entries;
        figure("dma_unmap_covering", unmap, bare, "ns", "-", "a_map's_system_calls");
        need(thread_start(&thread, unmap_all, clients[1]) == 0, "pthread_create");
        do {
                double before = now(), spent;

                sink += dma_master(clients[2]) == DMA_MASTER_YES;
                spent = now() - before;
                if (spent > longest)
                        longest = spent;
        } while (pthread_tryjoin_np(thread, NULL) != 0);
        figure("dma_quick_beside_unmap_all", longest / 1e6, bare / 1e6, "ms", "-", "a_map's_system_calls");
        for (unsigned f = 0; f < FUNCTIONS; f++)
                (void) dma_client_free(clients[f]);
        (void) dma_free(d);
        tdi_host_free(real);
}

int main(int argc, char **argv) {
        void *map;

        if (argc > 1)
                entries = strtoull(argv[1], NULL, 0);
        need(entries >= 2048 && entries <= 1 << 24 && entries % 1024 == 0, "ENTRIES: a multiple of 1024 from 2048 on");
        order = malloc(entries * sizeof(*order));
        memory = memfd_create("guest", MFD_CLOEXEC);
        need(order && memory >= 0 && ftruncate(memory, (off_t) (entries * RANGE_PAGE)) == 0, "memory");
        map = mmap(NULL, entries * RANGE_PAGE, PROT_READ, MAP_SHARED | MAP_NORESERVE, memory, 0);
        need(map != MAP_FAILED, "mmap");
        /* Every other page: no two are neighbours. */
        for (size_t i = 0; i < entries; i++)
                order[i] = i * 2;
        for (size_t i = entries; i > 1; i--) {
                size_t k = random_number() % i;
                uint64_t t = order[i - 1];

                order[i - 1] = order[k];
                order[k] = t;
        }
        bench_table();
        bench_room();
        free(order);
        return 0;
}
