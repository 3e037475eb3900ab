/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device interface reports: what is parsed, what is refused, and where the ranges are found. */
#include <string.h>

#include "evidence/report.h"
#include "test.h"
#include "util/util.h"

struct text {
        uint8_t bytes[4096];
        size_t n;
};

static void put(struct text *t, uint64_t v, size_t size) {
        for (size_t i = 0; i < size; i++)
                t->bytes[t->n++] = (uint8_t) (v >> 8 * i);
}

static struct text head(uint16_t info, uint32_t n) {
        struct text t = {};

        put(&t, info, 2);
        put(&t, 0xabcd, 2);
        put(&t, 0x8003, 2);
        put(&t, 0x11, 2);
        put(&t, 0x22, 4);
        put(&t, n, 4);
        return t;
}

static void range(struct text *t, uint64_t first, uint32_t pages, uint16_t attributes, uint16_t id) {
        put(t, first, 8);
        put(t, pages, 4);
        put(t, attributes, 2);
        put(t, id, 2);
}

static void tail(struct text *t, uint32_t says, size_t has) {
        put(t, says, 4);
        t->n += has;
}

static void test_parse(void) {
        struct text t = head(TDISP_INFO_DMA_WITHOUT_PASID | TDISP_INFO_ATS, 2);
        struct tdisp_report r;

        test_about("%s", "parse");
        range(&t, 0x123456789abcdef0, 16, 0, 0);
        range(&t, 7, 1, TDISP_RANGE_NON_TEE | TDISP_RANGE_MSIX_TABLE, 2);
        tail(&t, 5, 5);
        check_int(tdisp_report_parse(t.bytes, t.n, &r), 0);
        check_int(r.info, 0x0a);
        check_int(r.msix_control, 0x8003);
        check_int(r.lnr_control, 0x11);
        check_int(r.tph_control, 0x22);
        check_int(r.n_ranges, 2);
        check(r.ranges[0].first_page == 0x123456789abcdef0);
        check_int(r.ranges[0].pages, 16);
        check_int(r.ranges[1].attributes, 5);
        check_int(r.ranges[1].id, 2);
        check_int(r.device_specific, 5);
        check_int(r.trailing, 0);
        check_int(tdisp_report_parse(t.bytes, t.n + 100, &r), 0);
        check_int(r.trailing, 100);
        /* Nothing that ends before its end. */
        for (size_t n = 0; n < t.n; n++)
                check_int(tdisp_report_parse(t.bytes, n, &r), -EBADMSG);
        t = head(0, TDISP_RANGES_MAX + 1);
        check_int(tdisp_report_parse(t.bytes, sizeof(t.bytes), &r), -E2BIG);
        t = head(0, UINT32_MAX);
        check_int(tdisp_report_parse(t.bytes, sizeof(t.bytes), &r), -E2BIG);
        t = head(0, 0);
        tail(&t, UINT32_MAX, 100);
        check_int(tdisp_report_parse(t.bytes, t.n, &r), -EBADMSG);
}

static const struct tdisp_bar bars[TDISP_BARS] = {
        [0] = { 0xfe000000, 0x10000 }, [2] = { 0x4000000000, 0x100000 }, [4] = { 0xfe020000, 0x1000 },
};

static int place(struct tdisp_report *r, uint64_t offset[TDISP_RANGES_MAX], size_t *ret) {
        return tdisp_report_place(r, bars, offset, ret);
}

static void test_place(void) {
        struct tdisp_report good = {
                .n_ranges = 4,
                .ranges = { { 0xfe000, 8, 0, 0 }, { 0xfe008, 8, TDISP_RANGE_NON_TEE, 0 }, { 0x4000010, 0x10, 0, 2 }, { 0xfe020, 1, 0, 4 } },
        }, r = good;
        const uint64_t wanted[] = { 0, 0x8000, 0x10000, 0 };
        uint64_t offset[TDISP_RANGES_MAX];
        size_t which = 99;

        /* With no offset, with one, and the same in bytes: nobody is sure what the field counts. */
        for (unsigned bytes = 0; bytes < 2; bytes++)
                for (int64_t shift = 0; shift < 3; shift++) {
                        test_about("place, unit %u, shift %d", bytes, (int) shift);
                        for (size_t i = 0; i < r.n_ranges; i++)
                                r.ranges[i].first_page = (good.ranges[i].first_page + (uint64_t) shift * 0x7000000) << (bytes ? 12 : 0);
                        check_int(place(&r, offset, &which), 0);
                        for (size_t i = 0; i < r.n_ranges; i++)
                                check_int(offset[i], wanted[i]);
                }
        test_about("%s", "misplaced");
        r = good;
        r.ranges[2].id = 3;
        check_int(place(&r, offset, &which), -ENOENT);
        check_int(which, 2);
        r.ranges[2].id = 6;
        check_int(place(&r, offset, &which), -ENOENT);
        r.ranges[2].id = UINT16_MAX;
        check_int(place(&r, offset, &which), -ENOENT);
        r = good;
        r.ranges[3].pages = 2;
        check_int(place(&r, offset, &which), -ERANGE);
        check_int(which, 3);
        r.ranges[3].pages = UINT32_MAX;
        check_int(place(&r, offset, &which), -ERANGE);
        /* Of two BARs, with different offsets. */
        r = good;
        r.ranges[3].first_page = 0xfe021;
        check_int(place(&r, offset, &which), -ERANGE);
        r = good;
        r.ranges[1].first_page = 0xfe007;
        check_int(place(&r, offset, &which), -EINVAL);
        check_int(which, 1);
        r.n_ranges = 0;
        check_int(place(&r, offset, &which), 0);
        r.n_ranges = 1;
        r.ranges[0] = (struct tdisp_range){ UINT64_MAX, 16, 0, 0 };
        check_int(place(&r, offset, &which), 0);
        check_int(offset[0], 0);
}

int main(void) {
        test_parse();
        test_place();
        return test_end();
}
