/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of page ranges against an array with a byte for every page, and its size. */
#include "test.h"
#include "vm/vpci/ranges.h"

#define PAGES 20000

static uint64_t owner[PAGES]; /* holders of the entry that has the page, 0: none; the entry's first page has the top bit */
#define BEGINS (UINT64_C(1) << 63)

static struct ranges table;
static size_t entries;

/* Every entry of the table is one of the model, and the reverse. */
static void compare(void) {
        struct ranges_at at;
        uint64_t page = 0;
        size_t n = 0;

        for (struct range *r = ranges_seek(&table, 0, &at); r; r = ranges_next(&table, &at), n++) {
                while (page < r->first)
                        if (!check(owner[page++] == 0))
                                return;
                for (uint64_t i = 0; i < r->pages; i++, page++)
                        if (!check(owner[page] == (r->holders | (i == 0 ? BEGINS : 0))))
                                return;
        }
        while (page < PAGES)
                if (!check(owner[page++] == 0))
                        return;
        check_int(n, entries);
        check_int(table.n, entries);
}

static void put(uint64_t first, uint64_t pages, uint64_t holders) {
        struct range r = { .first = first, .pages = pages, .holders = holders };
        bool is_free = true;

        for (uint64_t i = first; i < first + pages; i++)
                is_free = is_free && owner[i] == 0;
        check_int(ranges_insert(&table, &r), is_free ? 0 : -EEXIST);
        if (!is_free)
                return;
        for (uint64_t i = first; i < first + pages; i++)
                owner[i] = holders | (i == first ? BEGINS : 0);
        entries++;
}

static void take(uint64_t page) {
        struct ranges_at at;
        struct range *r = ranges_seek(&table, page, &at), copy;
        uint64_t i;

        for (i = page; i < PAGES && owner[i] == 0; i++)
                ;
        check(!r == (i == PAGES));
        if (!r)
                return;
        check(r->first <= i && range_last(r) >= i);
        copy = *r;
        ranges_remove(&table, at);
        memset(owner + copy.first, 0, copy.pages * sizeof(*owner));
        entries--;
}

struct mask {
        uint64_t bits;
        uint64_t first, last;
};

static bool keep_others(struct range *r, void *userdata) {
        struct mask *m = userdata;

        check(r->first >= m->first && range_last(r) <= m->last);
        return r->holders & m->bits;
}

static void sweep(uint64_t first, uint64_t last, uint64_t bits) {
        struct mask m = { bits, first, last };
        size_t n = 0;

        for (uint64_t i = first; i <= last && i < PAGES; i++) {
                uint64_t end = i;

                if (!(owner[i] & BEGINS))
                        continue;
                while (end + 1 < PAGES && owner[end + 1] && !(owner[end + 1] & BEGINS))
                        end++;
                if (end > last || (owner[i] & bits))
                        continue;
                memset(owner + i, 0, (end - i + 1) * sizeof(*owner));
                n++;
        }
        check_int(ranges_filter(&table, first, last, keep_others, &m), n);
        entries -= n;
}

static void test_churn(void) {
        for (unsigned round = 0; round < 60; round++) {
                /* Mostly growing in one round, mostly shrinking in the next. */
                unsigned grows = round % 2 ? 30 : 80;

                for (unsigned i = 0; i < 1500; i++) {
                        uint32_t what = test_random() % 100;
                        uint64_t page = test_random() % PAGES, size = 1 + test_random() % 4;

                        if (what < grows)
                                put(page + size <= PAGES ? page : 0, size, 1 + test_random() % 7);
                        else if (what < 98 || round % 8)
                                take(page);
                        else
                                sweep(page, page + test_random() % 2000, test_random() % 8);
                }
                compare();
        }
        sweep(0, PAGES - 1, 0);
        check_int(table.n, 0);
        check_int(table.n_slots, 0);
        ranges_clear(&table);
}

static bool keep_none(_unused_ struct range *r, _unused_ void *userdata) {
        return false;
}

/* 262,144 entries, in three orders: what they cost, and that nothing is left of them. */
static void test_size(void) {
        enum { N = 262144 };
        size_t most = 0;

        for (unsigned order = 0; order < 3; order++) {
                for (uint64_t i = 0; i < N; i++) {
                        uint64_t page = order == 0 ? i : order == 1 ? N - 1 - i : i * 40503 % N;

                        check_int(ranges_insert(&table, &(struct range){ .first = page * 2, .pages = 1 }), 0);
                }
                check_int(table.n, N);
                if (ranges_memory(&table) > most)
                        most = ranges_memory(&table);
                check(ranges_memory(&table) < N * 48UL);
                if (order == 0)
                        check(ranges_memory(&table) < N * 34UL);
                /* Seven of eight go: so does their memory. */
                for (uint64_t i = 0; i < N; i++)
                        if (i % 8) {
                                struct ranges_at at;

                                if (!check(ranges_seek(&table, i * 2, &at)))
                                        return;
                                ranges_remove(&table, at);
                        }
                check(ranges_memory(&table) < N / 8 * 100UL + table.room * sizeof(*table.slots));
                check_int(ranges_filter(&table, 0, RANGE_PAGE_MAX, keep_none, NULL), N / 8);
                check_int(table.n_slots, 0);
                ranges_clear(&table);
        }
        fprintf(stderr, "%zu bytes an entry at most\n", most / N);
}

static void test_edges(void) {
        struct range last = { .first = RANGE_PAGE_MAX, .pages = 1 }, all = { .first = 0, .pages = RANGE_PAGE_MAX };
        struct ranges_at at;

        check(!ranges_seek(&table, 0, &at));
        check_int(ranges_filter(&table, 0, RANGE_PAGE_MAX, keep_none, NULL), 0);
        check_int(ranges_insert(&table, &last), 0);
        check_int(ranges_insert(&table, &last), -EEXIST);
        check_int(ranges_insert(&table, &all), 0);
        check(ranges_seek(&table, RANGE_PAGE_MAX, &at)->first == RANGE_PAGE_MAX);
        check(!ranges_next(&table, &at));
        check_int(ranges_filter(&table, 1, RANGE_PAGE_MAX, keep_none, NULL), 1);
        check_int(ranges_filter(&table, 2, 1, keep_none, NULL), 0);
        check_int(table.n, 1);
        ranges_clear(&table);
        ranges_clear(&table);
}

int main(void) {
        fprintf(stderr, "TDID_SEED=%s\n", getenv("TDID_SEED") ? getenv("TDID_SEED") : "1");
        check_int(sizeof(struct range), 32);
        test_edges();
        test_churn();
        test_size();
        return test_end();
}
