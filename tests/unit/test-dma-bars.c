/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Peer-to-peer: BARs of a function in the spaces of others, and the guest's memory, which wins. */
#include <linux/pci_regs.h>

#include "dma-test.h"

#define EDU_ID 0x010000edU
#define BAR_SIZE UINT64_C(0x100000)
#define BAR_PAGES (BAR_SIZE / PAGE)
/* Below 256 MiB: that is how far an edu reaches. */
#define HERE UINT64_C(0x8000000)
#define THERE UINT64_C(0x9000000)

/* What the device of a space reads there, or UINT32_MAX. */
static uint32_t reads(unsigned space, uint64_t iova) {
        uint32_t value = 0;
        int r;

        sim_lock(kernel);
        r = sim_dma(sim_function_find(sim_machine(kernel), functions[space]), iova, &value, sizeof(value), false);
        sim_unlock(kernel);
        return r < 0 ? UINT32_MAX : value;
}

/* It follows in a thread of its own. */
static bool comes_to(unsigned space, uint64_t iova, uint32_t wanted) {
        for (unsigned i = 0; i < 500 && reads(space, iova) != wanted; i++)
                (void) usleep(10000);
        return reads(space, iova) == wanted;
}

static int export(int device) {
        const struct tdi_vfio_device_feature_dma_buf buffer = { .region_index = 0, .open_flags = O_RDWR | O_CLOEXEC, .nr_ranges = 1 };
        const struct tdi_vfio_region_dma_range range = { .length = BAR_SIZE };
        union {
                struct tdi_vfio_device_feature feature;
                uint8_t room[sizeof(struct tdi_vfio_device_feature) + sizeof(buffer) + sizeof(range)];
        } get = {};

        get.feature.argsz = sizeof(get);
        get.feature.flags = TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_DMA_BUF;
        memcpy(get.feature.data, &buffer, sizeof(buffer));
        memcpy(get.feature.data + sizeof(buffer), &range, sizeof(range));
        return CALL(device, VFIO_DEVICE_FEATURE, &get);
}

static void place(struct client *x, uint64_t iova, bool revoked) {
        const struct dma_place places[DMA_BARS] = { { iova, iova ? BAR_SIZE : 0 } };

        dma_client_place_bars(x->c, places, revoked);
}

/* A number of the first BAR that is described. */
static uint64_t bar_number(struct client *x, const char *key) {
        _cleanup_json_ struct json_object *o = dma_client_describe(x->c);
        struct json_object *list;

        if (json_get_array(o, "peer_to_peer", &list) < 0 || json_object_array_length(list) != 1)
                return UINT64_MAX;
        return json_u64_or(json_object_array_get_idx(list, 0), key, UINT64_MAX);
}

static void start(struct client *x, unsigned i) {
        client_start_as(x, i, true);
        check(dma_client_has_peers(x->c));
        write16(devices[i], CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY);
        check(!dma_client_has_bar(x->c, 0));
        dma_client_give_bar(x->c, 0, export(devices[i]));
        check(dma_client_has_bar(x->c, 0));
}

static void test_places(void) {
        struct client x, y, alone;

        dma_start();
        start(&x, 0);
        start(&y, 1);
        check(reads(0, HERE) == UINT32_MAX);
        place(&y, HERE, false);
        check(comes_to(0, HERE, EDU_ID));
        /* Never into its own. */
        check(reads(1, HERE) == UINT32_MAX);
        check_int(bar_number(&y, "spaces"), 1);
        /* It is counted after it can be reached. */
        for (unsigned i = 0; i < 500 && bar_number(&y, "mapped") != 1; i++)
                (void) usleep(10000);
        check_int(bar_number(&y, "mapped"), 1);
        place(&y, THERE, false);
        check(comes_to(0, THERE, EDU_ID));
        check(reads(0, HERE) == UINT32_MAX);
        place(&x, HERE, false);
        check(comes_to(1, HERE, EDU_ID));
        place(&y, 0, false);
        check(comes_to(0, THERE, UINT32_MAX));
        /* Where the IOMMU has something of its own. */
        place(&y, 0xfee00000, false);
        for (unsigned i = 0; i < 500 && bar_number(&y, "failed") != 1; i++)
                (void) usleep(10000);
        check_int(bar_number(&y, "failed"), 1);
        check_int(bar_number(&y, "mapped"), 0);
        place(&y, THERE, false);
        check(comes_to(0, THERE, EDU_ID));

        /* A client of the same space that takes no part keeps the others' BARs out. */
        client_start(&alone, 0);
        check_int(described(&alone, "peer_to_peer"), UINT64_MAX);
        place(&y, HERE, false);
        check(comes_to(0, THERE, UINT32_MAX));
        check(reads(0, HERE) == UINT32_MAX);
        client_end(&alone);
        check(comes_to(0, HERE, EDU_ID));
        place(&y, THERE, false);
        check(comes_to(0, THERE, EDU_ID));

        /* With its owner, and with the space's last client. */
        client_end(&y);
        check(reads(0, THERE) == UINT32_MAX);
        check(reads(1, HERE) == UINT32_MAX);
        start(&y, 1);
        check(comes_to(1, HERE, EDU_ID));
        client_end(&x);
        check(reads(1, HERE) == UINT32_MAX);
        client_end(&y);
        dma_end();
}

static void test_memory_wins(void) {
        struct memory m = memory_new(64, 1);
        struct client x, y;
        uint64_t unmapped;

        dma_start();
        start(&x, 0);
        start(&y, 1);
        place(&y, HERE, false);
        check(comes_to(0, HERE, EDU_ID));
        check_int(map_pages(&x, HERE / PAGE + 16, 16, &m, 0), 0);
        check(seen(0, HERE / PAGE + 16) == stamp(&m, 0));
        check(reads(0, HERE) == UINT32_MAX);
        check_int(bar_number(&y, "mapped"), 0);
        check_int(bar_number(&y, "failed"), 0);
        /* Memory without a descriptor is memory all the same. */
        check_int(unmap_pages(&x, HERE / PAGE + 16, 16), 16);
        check(comes_to(0, HERE, EDU_ID));
        check_int(map_pages(&x, HERE / PAGE, 1, NULL, 0), 0);
        check(reads(0, HERE) == UINT32_MAX);
        check_int(unmap_pages(&x, HERE / PAGE, 1), 1);
        check(comes_to(0, HERE, EDU_ID));
        /* What is unmapped around it takes nothing of it along. */
        check_int(map_pages(&x, HERE / PAGE - 1, 1, &m, 0), 0);
        check_int(map_pages(&x, HERE / PAGE + BAR_PAGES, 1, &m, 1), 0);
        check_int(dma_unmap_all(x.c, &unmapped), 0);
        check_int(unmapped, 2 * PAGE);
        check(reads(0, HERE) == EDU_ID);
        check(seen(0, HERE / PAGE - 1) == UINT64_MAX);
        /* Memory that was there first. */
        place(&y, 0, false);
        check_int(map_pages(&x, THERE / PAGE + BAR_PAGES - 1, 1, &m, 0), 0);
        place(&y, THERE, false);
        (void) usleep(50000);
        check(reads(0, THERE) == UINT32_MAX);
        dma_client_clear(x.c);
        check(comes_to(0, THERE, EDU_ID));
        client_end(&x);
        client_end(&y);
        dma_end();
        memory_free(&m);
}

static void test_revoked(void) {
        struct client x, y;

        dma_start();
        start(&x, 0);
        start(&y, 1);
        place(&y, HERE, false);
        check(comes_to(0, HERE, EDU_ID));
        check_int(CALL(devices[1], VFIO_DEVICE_RESET, NULL), 0);
        check(reads(0, HERE) == UINT32_MAX);
        place(&y, HERE, false);
        (void) usleep(50000);
        check(reads(0, HERE) == UINT32_MAX);
        place(&y, HERE, true);
        check(comes_to(0, HERE, EDU_ID));
        /* Where it cannot be mapped, it is said; the next placement tries again. */
        write16(devices[1], CONFIG + PCI_COMMAND, 0);
        place(&y, THERE, false);
        for (unsigned i = 0; i < 500 && bar_number(&y, "failed") != 1; i++)
                (void) usleep(10000);
        check_int(bar_number(&y, "failed"), 1);
        write16(devices[1], CONFIG + PCI_COMMAND, PCI_COMMAND_MEMORY);
        place(&y, THERE, true);
        check(comes_to(0, THERE, EDU_ID));

        /* Before it is locked nothing of it may be left. */
        for (unsigned i = 0; i < 500 && dma_client_withhold_bars(y.c, true) == -EAGAIN; i++)
                (void) usleep(10000);
        check_int(dma_client_withhold_bars(y.c, true), 0);
        check(reads(0, THERE) == UINT32_MAX);
        place(&y, HERE, true);
        (void) usleep(50000);
        check(reads(0, HERE) == UINT32_MAX);
        check_int(dma_client_withhold_bars(y.c, false), 0);
        check(comes_to(0, HERE, EDU_ID));
        client_end(&x);
        client_end(&y);
        dma_end();
}

static void *map_over(void *userdata) {
        struct client *x = userdata;
        struct memory m = memory_new(4, 2);

        check_int(map_pages(x, HERE / PAGE, 4, &m, 0), 0);
        check(seen(0, HERE / PAGE) == stamp(&m, 0));
        memory_free(&m);
        return NULL;
}

/* While memory is taking its room, the thread looks at it, and sees nothing to do. */
static void test_busy(void) {
        struct client x, y;
        pthread_t thread;
        unsigned id;

        dma_start();
        start(&x, 0);
        start(&y, 1);
        place(&y, HERE, false);
        check(comes_to(0, HERE, EDU_ID));
        id = fault("{\"call\": \"IOMMU_IOAS_UNMAP\", \"delay_ms\": 300, \"times\": 1}");
        require(pthread_create(&thread, NULL, map_over, &x) == 0);
        (void) usleep(100000);
        place(&x, THERE, false);
        require(pthread_join(thread, NULL) == 0);
        fault_end(id);
        check(comes_to(1, THERE, EDU_ID));
        check_int(unmap_pages(&x, HERE / PAGE, 4), 4);
        check(comes_to(0, HERE, EDU_ID));
        /* And the same when it has moved meanwhile. */
        id = fault("{\"call\": \"IOMMU_IOAS_UNMAP\", \"delay_ms\": 300, \"times\": 1}");
        require(pthread_create(&thread, NULL, map_over, &x) == 0);
        (void) usleep(100000);
        place(&y, THERE, false);
        require(pthread_join(thread, NULL) == 0);
        fault_end(id);
        check(comes_to(0, THERE, EDU_ID));
        check_int(unmap_pages(&x, HERE / PAGE, 4), 4);
        client_end(&x);
        client_end(&y);
        dma_end();
}

/* BARs take nothing from memory, and the guest cannot go on for ever with new places. */
static void test_limits(void) {
        struct memory m = memory_new(4, 1);
        struct client x, y;

        require(dma_new(host, &(struct dma_limits){ .bytes = 1 << 20, .maps = 2, .granules = 3 }, &dma) == 0);
        dma_set_iommufd(dma, iommufd);
        dma_set_peer(dma, new_peer_maps(), -EBADF);
        start(&x, 0);
        start(&y, 1);
        for (unsigned i = 0; i < 3; i++) {
                place(&y, HERE + 2 * BAR_SIZE * i, false);
                check(comes_to(0, HERE + 2 * BAR_SIZE * i, EDU_ID));
        }
        check_int(map_pages(&x, 0, 1, &m, 0), 0);
        check_int(map_pages(&x, 1, 1, &m, 1), 0);
        check_int(map_pages(&x, 2, 1, &m, 2), -ENOSPC);
        place(&y, THERE, false);
        for (unsigned i = 0; i < 500 && bar_number(&y, "failed") != 1; i++)
                (void) usleep(10000);
        check_int(bar_number(&y, "failed"), 1);
        /* Where it has been it may be again. */
        place(&y, HERE, false);
        check(comes_to(0, HERE, EDU_ID));
        /* A function that is being stopped is nobody's peer, whatever comes late. */
        dma_client_close_bars(y.c);
        check(comes_to(0, HERE, UINT32_MAX));
        place(&y, HERE, true);
        (void) usleep(50000);
        check(reads(0, HERE) == UINT32_MAX);
        client_end(&x);
        client_end(&y);
        dma_end();
        memory_free(&m);
}

/* The kernel does not let go of it: memory gets its reason, nothing turns in circles, and all ends. */
static void test_stays(void) {
        struct memory m = memory_new(4, 1);
        struct client x, y;
        uint64_t left = 0;
        unsigned id;

        dma_start();
        start(&x, 0);
        start(&y, 1);
        place(&y, HERE, false);
        check(comes_to(0, HERE, EDU_ID));
        id = fault("{\"call\": \"IOMMU_IOAS_UNMAP\", \"errno\": \"EBUSY\"}");
        check_int(map_pages(&x, HERE / PAGE, 4, &m, 0), -EBUSY);
        place(&y, THERE, false);
        (void) usleep(50000);
        check(fault_number(id, "matched") < 10);
        check_int(bar_number(&y, "failed"), 1);
        check_int(dma_client_withhold_bars(y.c, true), -EAGAIN);
        /* Nobody else gets its number; it is asked for again by whoever leaves. */
        client_end(&y);
        start(&y, 1);
        place(&y, THERE, false);
        check(comes_to(0, THERE, EDU_ID));
        client_end(&y);
        client_end(&x);
        fault_end(id);
        check_int(unmap(iommufd, spaces[0], 0, UINT64_MAX, &left), 0);
        check_int(left, 2 * BAR_SIZE);
        dma_end();
        memory_free(&m);
}

/* Several BARs in memory's way: none comes back before the last one has gone. */
static void test_several(void) {
        struct memory m = memory_new(2 * BAR_PAGES, 1);
        struct client x, y;
        unsigned id;

        dma_start();
        start(&x, 0);
        start(&y, 1);
        dma_client_give_bar(y.c, 1, export(devices[1]));
        dma_client_place_bars(y.c, (const struct dma_place[DMA_BARS]){ { HERE, BAR_SIZE }, { HERE + BAR_SIZE, BAR_SIZE } }, false);
        check(comes_to(0, HERE, EDU_ID));
        check(comes_to(0, HERE + BAR_SIZE, EDU_ID));
        id = fault("{\"call\": \"IOMMU_IOAS_UNMAP\", \"delay_ms\": 50}");
        check_int(map_pages(&x, HERE / PAGE, 2 * BAR_PAGES, &m, 0), 0);
        check(fault_number(id, "matched") <= 2);
        fault_end(id);
        check(seen(0, HERE / PAGE) == stamp(&m, 0));
        check_int(unmap_pages(&x, HERE / PAGE, 2 * BAR_PAGES), 2 * BAR_PAGES);
        check(comes_to(0, HERE, EDU_ID));
        check(comes_to(0, HERE + BAR_SIZE, EDU_ID));
        client_end(&x);
        client_end(&y);
        dma_end();
        memory_free(&m);
}

/* The guest moves its BARs and its memory about at the same time. */
static void *move(void *userdata) {
        struct client *y = userdata;

        for (unsigned i = 0; i < 300; i++)
                place(y, i % 3 == 0 ? HERE : i % 3 == 1 ? THERE : 0, i % 5 == 0);
        place(y, HERE, true);
        return NULL;
}

static void test_storm(void) {
        struct memory m = memory_new(4, 1);
        struct client x, y;
        pthread_t thread;

        dma_start();
        start(&x, 0);
        start(&y, 1);
        require(pthread_create(&thread, NULL, move, &y) == 0);
        for (unsigned i = 0; i < 150; i++) {
                uint64_t page = (i & 1 ? HERE : THERE) / PAGE;

                check_int(map_pages(&x, page, 4, &m, 0), 0);
                check(seen(0, page) == stamp(&m, 0));
                if (i & 2)
                        check_int(unmap_pages(&x, page, 4), 4);
                else
                        dma_client_clear(x.c);
        }
        require(pthread_join(thread, NULL) == 0);
        check(comes_to(0, HERE, EDU_ID));
        client_end(&y);
        client_end(&x);
        dma_end();
        memory_free(&m);
}

int main(void) {
        unsigned fds;

        machine_start();
        fds = settled_fds();
        test_places();
        test_memory_wins();
        test_revoked();
        test_busy();
        test_limits();
        test_several();
        test_stays();
        test_storm();
        check_fds(fds);
        machine_end();
        return test_end();
}
