/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the guest's memory share: a machine with two functions in address spaces of their own, memory whose pages carry their
 * number, what a device reads of it, and what was told.
 */
#ifndef TDID_DMA_TEST_H
#define TDID_DMA_TEST_H

#include <time.h>

#include "sim-kernel.h"
#include "vm/vpci/dma.h"

#define PAGE UINT64_C(4096)
#define TOPOLOGY                                                                                                   \
        "{\"schema\": \"tdi-sim/1\", \"platform\": \"plain\", \"buses\": [{\"bus\": \"0000:00\"}],"                  \
        " \"reserved\": [{\"start\": \"0xfee00000\", \"end\": \"0xfeefffff\", \"msi\": true}],"                     \
        " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"02\"}]," \
        " \"functions\": ["                                                                                        \
        "  {\"bdf\": \"0000:01:00.0\", \"model\": \"edu\", \"flr\": true, \"driver\": \"vfio-pci\"},"               \
        "  {\"bdf\": \"0000:02:00.0\", \"model\": \"edu\", \"flr\": true, \"driver\": \"vfio-pci\"}]}"

static const char *const functions[] = { "0000:01:00.0", "0000:02:00.0" };
static int iommufd, devices[2];
static uint32_t spaces[2];
static struct dma *dma;

static inline uint64_t now_msec(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static inline void machine_start(void) {
        kernel_start(TOPOLOGY);
        iommufd = host_open(host, "/dev/iommu", O_RDWR);
        require(iommufd >= 0);
        for (unsigned i = 0; i < 2; i++) {
                uint32_t pt;

                spaces[i] = pt = new_ioas(iommufd);
                devices[i] = open_vfio(functions[i]);
                require(bind_vfio(devices[i], iommufd, NULL) == 0 && attach_vfio(devices[i], &pt) == 0);
        }
}

static inline void machine_end(void) {
        for (unsigned i = 0; i < 2; i++) {
                uint64_t left = 1;

                /* Nothing may be left that the room has forgotten. */
                check_int(unmap(iommufd, spaces[i], 0, UINT64_MAX, &left), 0);
                check_int(left, 0);
                check_int(host_close(host, devices[i]), 0);
        }
        check_int(host_close(host, iommufd), 0);
        kernel_end();
}

static inline bool kernel_is_busy(void) {
        bool busy;

        sim_lock(kernel);
        busy = !TAILQ_EMPTY(&kernel->calls) || kernel->n_queued > 0;
        sim_unlock(kernel);
        return busy;
}

/* The simulation, in this process, closes its part of a call a little later, and that of a file whose last copy was closed. */
static inline unsigned settled_fds(void) {
        unsigned n = test_count_fds(), same = 0;

        for (unsigned i = 0; i < 1000 && same < 5; i++) {
                unsigned again;

                (void) usleep(5000);
                again = test_count_fds();
                same = again == n && !kernel_is_busy() ? same + 1 : 0;
                n = again;
        }
        return n;
}

#define check_fds(expected) check_int(settled_fds(), (expected))

/* ---- memory ---- */

struct memory {
        int fd;
        uint64_t pages, number;
        uint64_t *map; /* shared: what the peer's /proc/PID/maps shows */
};

static inline struct memory memory_new(uint64_t pages, uint64_t number) {
        struct memory m = { .fd = new_memfd(pages * PAGE, 0), .pages = pages, .number = number };

        m.map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m.fd, 0);
        require(m.map != MAP_FAILED);
        for (uint64_t i = 0; i < pages && i < 4096; i++)
                m.map[i * PAGE / sizeof(*m.map)] = number << 32 | i;
        return m;
}

static inline void memory_free(struct memory *m) {
        (void) munmap(m->map, m->pages * PAGE);
        close_fd(m->fd);
}

/* What the device of a space reads at a page: the number that memory_new() wrote, or UINT64_MAX when it reaches nothing. */
static inline uint64_t seen(unsigned space, uint64_t page) {
        uint64_t value = 0;
        int r;

        sim_lock(kernel);
        r = sim_dma(sim_function_find(sim_machine(kernel), functions[space]), page * PAGE, &value, sizeof(value), false);
        sim_unlock(kernel);
        return r < 0 ? UINT64_MAX : value;
}

static inline uint64_t stamp(const struct memory *m, uint64_t page) {
        return m->number << 32 | page;
}

static inline int new_peer_maps(void) {
        /* Not self/maps: that one qemu-user writes itself, into a file of another file system. */
        int fd = open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);

        require(fd >= 0);
        return fd;
}

/* ---- faults ---- */

static inline unsigned fault(const char *rule) {
        struct json_object *o = json_tokener_parse(rule);
        char why[200] = "";
        unsigned id = 0;

        require(o);
        sim_lock(kernel);
        if (fault_add(kernel, o, &id, why, sizeof(why)) < 0)
                fprintf(stderr, "%s: %s\n", rule, why);
        sim_unlock(kernel);
        require(id > 0);
        json_object_put(o);
        return id;
}

static inline void fault_end(unsigned id) {
        sim_lock(kernel);
        (void) fault_clear(kernel, id);
        sim_unlock(kernel);
}

static inline uint64_t fault_number(unsigned id, const char *key) {
        struct json_object *list;
        uint64_t n = UINT64_MAX;

        sim_lock(kernel);
        list = fault_list(kernel);
        for (size_t i = 0; i < json_object_array_length(list); i++)
                if (json_u64_or(json_object_array_get_idx(list, i), "id", 0) == id)
                        n = json_u64_or(json_object_array_get_idx(list, i), key, UINT64_MAX);
        json_object_put(list);
        sim_unlock(kernel);
        return n;
}

/* ---- clients ---- */

struct client {
        struct dma_client *c;
        pthread_mutex_t lock;
        unsigned failed, unbacked, master;
        char text[1024]; /* the last one */
};

static inline void on_event(enum dma_event event, const char *text, void *userdata) {
        struct client *x = userdata;

        /* What a callback is allowed to do. */
        if (event == DMA_EVENT_MASTER && x->c)
                (void) dma_master(x->c);
        (void) pthread_mutex_lock(&x->lock);
        check(!text == (event == DMA_EVENT_MASTER));
        if (text)
                snprintf(x->text, sizeof(x->text), "%s", text);
        if (event == DMA_EVENT_FAILED)
                x->failed++;
        else if (event == DMA_EVENT_UNBACKED)
                x->unbacked++;
        else
                x->master++;
        (void) pthread_mutex_unlock(&x->lock);
}

static inline void client_start_as(struct client *x, unsigned space, bool peer_to_peer) {
        *x = (struct client){ .lock = PTHREAD_MUTEX_INITIALIZER };
        require(dma_client_new(dma, spaces[space], peer_to_peer, on_event, x, &x->c) == 0);
}

static inline void client_start(struct client *x, unsigned space) {
        client_start_as(x, space, false);
}

static inline void client_end(struct client *x) {
        struct dma_client *c = x->c;

        check(!dma_client_free(c));
}

/* How often something was told, and begins anew; waits a while for it to be so often. */
static inline unsigned told(struct client *x, unsigned *what, unsigned wanted) {
        unsigned n;

        for (unsigned i = 0;; i++) {
                (void) pthread_mutex_lock(&x->lock);
                n = *what;
                if (n >= wanted || i == 500)
                        *what = 0;
                (void) pthread_mutex_unlock(&x->lock);
                if (n >= wanted || i == 500)
                        return n;
                (void) usleep(10000);
        }
}

static inline bool text_has(struct client *x, const char *part) {
        bool has;

        (void) pthread_mutex_lock(&x->lock);
        has = strstr(x->text, part);
        if (!has)
                fprintf(stderr, "told: %s\n", x->text);
        (void) pthread_mutex_unlock(&x->lock);
        return has;
}

/* Waits for bus mastering to be allowed. */
static inline bool gets_master(const struct client *x) {
        for (unsigned i = 0; i < 1000 && dma_master(x->c) != DMA_MASTER_YES; i++)
                (void) usleep(10000);
        return dma_master(x->c) == DMA_MASTER_YES;
}

static inline int map_pages_as(struct client *x, uint64_t page, uint64_t pages, const struct memory *m, uint64_t from, bool writable) {
        return dma_map(x->c, page * PAGE, pages * PAGE, m ? fd_dup(m->fd) : -EBADF, from * PAGE, true, writable);
}

static inline int map_pages(struct client *x, uint64_t page, uint64_t pages, const struct memory *m, uint64_t from) {
        return map_pages_as(x, page, pages, m, from, true);
}

/* How many pages were unmapped, or the error. */
static inline int64_t unmap_pages(struct client *x, uint64_t page, uint64_t pages) {
        uint64_t bytes = 0;
        int r = dma_unmap(x->c, page * PAGE, pages * PAGE, &bytes);

        return r < 0 ? r : (int64_t) (bytes / PAGE);
}

static inline uint64_t described(struct client *x, const char *key) {
        struct json_object *o = dma_client_describe(x->c);
        uint64_t n = json_u64_or(o, key, UINT64_MAX);

        json_object_put(o);
        return n;
}

static inline void dma_start_limited(uint64_t bytes, uint64_t maps) {
        require(dma_new(host, &(struct dma_limits){ bytes, maps }, &dma) == 0);
        dma_set_iommufd(dma, iommufd);
        dma_set_peer(dma, new_peer_maps(), -EBADF);
}

static inline void dma_start(void) {
        dma_start_limited(UINT64_C(1) << 50, 1000000);
}

static inline void dma_end(void) {
        check(!dma_free(dma));
        dma = NULL;
}

#endif
