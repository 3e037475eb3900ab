/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random maps and unmaps of three functions in two address spaces against a table with an entry for every page: first one after the
 * other, where each result and all that devices reach is compared; then by threads, where what is left at the end is.
 * TDID_SEED repeats a run.
 */
#include <sys/socket.h>

#include "dma-test.h"
#include "vm/vpci/dma-helper.h"

#define SPAN 96UL   /* pages of the guest's memory */
#define CLIENTS 3
#define MEMORIES 2

static const unsigned space_of[CLIENTS] = { 0, 0, 1 };
static struct client clients[CLIENTS];
static struct memory memories[MEMORIES];

/* What a page belongs to: the map that begins at first. */
struct page {
        unsigned holders;
        unsigned first, pages;
        int memory; /* -1: none */
        unsigned offset;
        bool writable;
};

static struct page model[2][SPAN];
static bool failed[CLIENTS][SPAN];

static unsigned below(unsigned n) {
        return test_random() % n;
}

static bool is_same(const struct page *a, const struct page *b) {
        return a->first == b->first && a->pages == b->pages && a->memory == b->memory &&
               (a->memory < 0 || (a->offset == b->offset && a->writable == b->writable));
}

/* ---- one after the other ---- */

static void model_map(unsigned i) {
        struct page new = { .holders = 1u << i, .first = below(SPAN), .memory = (int) below(MEMORIES + 1) - 1, .writable = below(4) > 0 };
        struct page *space = model[space_of[i]], *old;
        bool mine = false, others = false, joins;
        int expected;

        new.pages = 1 + below(8);
        if (new.first + new.pages > SPAN)
                new.pages = SPAN - new.first;
        /* Often where the functions agree, as they do. */
        new.offset = below(3) ? new.first : below(SPAN);
        if (below(3)) {
                new.first -= new.first % 8;
                new.pages = 8;
                new.offset = new.first;
                new.memory = new.first % 3 ? 0 : 1;
                new.writable = true;
        }
        /* Sometimes it cannot be. */
        if (below(8) == 0)
                new.offset = SPAN;
        old = &space[new.first];
        joins = old->holders && !(old->holders & new.holders) && is_same(old, &new);
        for (unsigned p = new.first; p < new.first + new.pages; p++) {
                mine = mine || space[p].holders & new.holders;
                others = others || space[p].holders & ~new.holders;
        }
        /* Of the first that is in the way: a wait for others is tested elsewhere. */
        if (others && !joins) {
                for (unsigned p = new.first; p < new.first + new.pages; p++)
                        if (space[p].holders) {
                                if (!(space[p].holders & new.holders))
                                        return;
                                break;
                        }
        }
        if (new.memory >= 0 && new.offset + new.pages > memories[new.memory].pages)
                expected = -ENXIO;
        else
                expected = mine ? -EEXIST : 0;
        check_int(map_pages_as(&clients[i], new.first, new.pages, new.memory < 0 ? NULL : &memories[new.memory], new.offset, new.writable),
                  expected);
        for (unsigned p = new.first; p < new.first + new.pages; p++) {
                failed[i][p] = expected < 0;
                if (expected == 0 && joins)
                        space[p].holders |= new.holders;
                else if (expected == 0)
                        space[p] = new;
        }
}

static void model_unmap(unsigned i, unsigned first, unsigned end, bool all) {
        struct page *space = model[space_of[i]];
        unsigned bit = 1u << i;
        int64_t expected = 0;
        bool cut;

        cut = (space[first].holders & bit && space[first].first < first) ||
              (space[end - 1].holders & bit && space[end - 1].first + space[end - 1].pages > end);
        if (cut && !all) {
                check_int(unmap_pages(&clients[i], first, end - first), -EINVAL);
                return;
        }
        for (unsigned p = first; p < end; p++)
                if (space[p].holders & bit) {
                        space[p].holders &= ~bit;
                        expected++;
                }
        if (expected == 0)
                for (unsigned p = first; p < end; p++)
                        expected += failed[i][p];
        for (unsigned p = first; p < end; p++)
                failed[i][p] = false;
        if (all) {
                uint64_t bytes = 0;

                check_int(dma_unmap_all(clients[i].c, &bytes), 0);
                check_int(bytes / PAGE, expected);
        } else
                check_int(unmap_pages(&clients[i], first, end - first), expected ? expected : -ENOENT);
}

static void compare(void) {
        for (unsigned s = 0; s < 2; s++)
                for (unsigned p = 0; p < SPAN; p++) {
                        const struct page *page = &model[s][p];

                        test_about("space %u, page %u", s, p);
                        check(seen(s, p) == (page->holders && page->memory >= 0
                                                     ? stamp(&memories[page->memory], page->offset + (p - page->first))
                                                     : UINT64_MAX));
                }
        for (unsigned i = 0; i < CLIENTS; i++) {
                uint64_t bytes = 0;
                bool fails = false;

                test_about("function %u", i);
                for (unsigned p = 0; p < SPAN; p++) {
                        const struct page *page = &model[space_of[i]][p];

                        fails = fails || failed[i][p];
                        bytes += page->holders & 1u << i && page->memory >= 0 ? PAGE : 0;
                }
                check((dma_master(clients[i].c) == DMA_MASTER_YES) == !fails);
                check_int(described(&clients[i], "bytes"), bytes);
        }
        test_about("%s", "");
}

/* After all this every byte that was counted must be free again: exactly so many may be pinned. */
static void check_nothing_counted(void) {
        check_int(map_pages(&clients[0], 0, SPAN, &memories[0], 0), 0);
        check_int(map_pages(&clients[0], SPAN, 1, &memories[1], 0), 0);
        check_int(map_pages(&clients[0], SPAN + 1, 1, &memories[1], 0), -EDQUOT);
        check_int(unmap_pages(&clients[0], 0, 2 * SPAN), SPAN + 1);
}

static void start(void) {
        dma_start_limited((SPAN + 1) * PAGE, 100000);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_start(&clients[i], space_of[i]);
}

static void end(void) {
        for (unsigned i = 0; i < CLIENTS; i++)
                dma_client_clear(clients[i].c);
        check_nothing_counted();
        for (unsigned i = 0; i < CLIENTS; i++)
                client_end(&clients[i]);
        dma_end();
}

static void test_sequence(void) {
        dma_start();
        for (unsigned i = 0; i < CLIENTS; i++)
                client_start(&clients[i], space_of[i]);
        for (unsigned n = 0; n < 4000 && test_failures == 0; n++) {
                unsigned i = below(CLIENTS), first = below(SPAN), what = below(100);

                if (what < 60)
                        model_map(i);
                else if (what < 97)
                        model_unmap(i, first, first + 1 + below(SPAN - first), false);
                else
                        model_unmap(i, 0, SPAN, true);
                if (n % 10 == 0)
                        compare();
        }
        compare();
        for (unsigned i = 0; i < CLIENTS; i++)
                client_end(&clients[i]);
        memset(model, 0, sizeof(model));
        memset(failed, 0, sizeof(failed));
        dma_end();
}

/* ---- at once ---- */

struct worker {
        pthread_t thread;
        unsigned client;
        uint32_t random;
};

/* All agree on what is where, in slots of 1 to 8 pages, so that nobody waits for anybody's memory to go. */
static void *churn(void *userdata) {
        struct worker *w = userdata;
        struct client *x = &clients[w->client];
        bool has[SPAN / 8] = {};

        for (unsigned n = 0; n < 1500; n++) {
                unsigned slot, pages, first;
                int64_t r;

                w->random = w->random * 1664525 + 1013904223;
                slot = (w->random >> 16) % ARRAY_SIZE(has);
                first = slot * 8;
                pages = 1 + slot * 5 % 8;
                if (w->random >> 28 == 0) {
                        /* Over several. */
                        (void) unmap_pages(x, first, SPAN - first);
                        memset(has + slot, 0, sizeof(has) - slot);
                        continue;
                }
                r = has[slot] ? unmap_pages(x, first, pages) : map_pages(x, first, pages, &memories[slot % 2], first);
                check_int(r, has[slot] ? pages : 0);
                has[slot] = !has[slot];
                if (n % 100 == 0)
                        json_object_put(dma_client_describe(x->c));
        }
        for (unsigned slot = 0; slot < ARRAY_SIZE(has); slot++)
                check(seen(space_of[w->client], slot * UINT64_C(8)) == stamp(&memories[slot % 2], slot * UINT64_C(8)) || !has[slot]);
        return NULL;
}

static void *serve(void *userdata) {
        check_int(dma_helper_serve(host, iommufd, *(int *) userdata), 0);
        return NULL;
}

static void test_threads(bool with_helper) {
        struct worker workers[CLIENTS];
        pthread_t helper;
        int pair[2] = { -EBADF, -EBADF };

        start();
        if (with_helper) {
                require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
                require(pthread_create(&helper, NULL, serve, &pair[1]) == 0);
                dma_set_peer(dma, new_peer_maps(), pair[0]);
        }
        for (unsigned i = 0; i < CLIENTS; i++) {
                workers[i] = (struct worker){ .client = i, .random = test_random() };
                require(pthread_create(&workers[i].thread, NULL, churn, &workers[i]) == 0);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
                require(pthread_join(workers[i].thread, NULL) == 0);
        for (unsigned i = 0; i < CLIENTS; i++)
                check_int(dma_master(clients[i].c), DMA_MASTER_YES);
        end();
        if (with_helper) {
                require(pthread_join(helper, NULL) == 0);
                close_fd(pair[1]);
        }
}

int main(void) {
        unsigned fds;

        fprintf(stderr, "TDID_SEED=%s\n", getenv("TDID_SEED") ? getenv("TDID_SEED") : "1");
        machine_start();
        fds = settled_fds();
        for (unsigned i = 0; i < MEMORIES; i++)
                memories[i] = memory_new(SPAN, i + 1);
        test_sequence();
        test_threads(false);
        test_threads(true);
        for (unsigned i = 0; i < MEMORIES; i++)
                memory_free(&memories[i]);
        check_fds(fds);
        machine_end();
        return test_end();
}
