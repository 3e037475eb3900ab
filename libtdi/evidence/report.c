/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parses a device interface report, and finds its ranges in the function's BARs. */
#include "evidence/report.h"

#include <errno.h>
#include <string.h>

#include "util/util.h"

#define HEAD 16u
#define RANGE 16u

static uint16_t get16(const uint8_t *p) {
        return (uint16_t) (p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p) {
        return get16(p) | (uint32_t) get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p) {
        return get32(p) | (uint64_t) get32(p + 4) << 32;
}

int tdisp_report_parse(const void *data, size_t size, struct tdisp_report *ret) {
        const uint8_t *p = data;
        struct tdisp_report r = {};
        uint32_t n, specific;

        if (size < HEAD)
                return -EBADMSG;
        r.info = get16(p);
        r.msix_control = get16(p + 4);
        r.lnr_control = get16(p + 6);
        r.tph_control = get32(p + 8);
        n = get32(p + 12);
        if (n > TDISP_RANGES_MAX)
                return -E2BIG;
        p += HEAD;
        size -= HEAD;
        if (size < (size_t) n * RANGE + sizeof(uint32_t))
                return -EBADMSG;
        for (uint32_t i = 0; i < n; i++, p += RANGE, size -= RANGE)
                r.ranges[r.n_ranges++] = (struct tdisp_range){ get64(p), get32(p + 8), get16(p + 12), get16(p + 14) };
        specific = get32(p);
        size -= sizeof(uint32_t);
        if (specific > size)
                return -EBADMSG;
        r.device_specific = specific;
        r.trailing = size - specific;
        *ret = r;
        return 0;
}

/* ---- where the ranges are ---- */

/* Offsets that fit, from `low` to `high`; as differences of addresses they may be negative. */
struct interval {
        __int128 low, high;
};

static __int128 start_of(const struct tdisp_range *range, uint64_t unit) {
        return (__int128) range->first_page * unit;
}

static __int128 length_of(const struct tdisp_range *range) {
        return (__int128) range->pages * TDISP_PAGE;
}

/* With @unit bytes a page number. */
static int fit(const struct tdisp_report *report, const struct tdisp_bar *bars, uint64_t unit, struct interval *fits, size_t *ret_range) {
        for (size_t i = 0; i < report->n_ranges; i++) {
                const struct tdisp_range *range = &report->ranges[i];
                const struct tdisp_bar *bar = &bars[range->id];
                __int128 high = start_of(range, unit) - bar->address;
                __int128 low = start_of(range, unit) + length_of(range) - bar->address - bar->size;

                *ret_range = i;
                if (high < fits->high)
                        fits->high = high;
                if (low > fits->low)
                        fits->low = low;
                if (fits->low > fits->high)
                        return -ERANGE;
        }
        return 0;
}

static int check_overlaps(const struct tdisp_report *report, const uint64_t *offset, size_t *ret_range) {
        for (size_t i = 0; i < report->n_ranges; i++)
                for (size_t k = 0; k < i; k++) {
                        const struct tdisp_range *a = &report->ranges[i], *b = &report->ranges[k];

                        *ret_range = i;
                        if (a->id == b->id && offset[i] < offset[k] + (uint64_t) length_of(b) && offset[k] < offset[i] + (uint64_t) length_of(a))
                                return -EINVAL;
                }
        return 0;
}

int tdisp_report_place(const struct tdisp_report *report, const struct tdisp_bar bars[static TDISP_BARS], uint64_t offset[static TDISP_RANGES_MAX],
                       size_t *ret_range) {
        static const uint64_t units[] = { TDISP_PAGE, 1 };
        const __int128 far = (__int128) 1 << 100;
        __int128 shift = 0;
        uint64_t unit = 0;
        int r = 0;

        for (size_t i = 0; i < report->n_ranges; i++) {
                const struct tdisp_range *range = &report->ranges[i];

                *ret_range = i;
                if (range->id >= TDISP_BARS || bars[range->id].size == 0)
                        return -ENOENT;
                if (length_of(range) > bars[range->id].size)
                        return -ERANGE;
        }
        for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
                struct interval one = { -far, far };
                bool plain;

                r = fit(report, bars, units[u], &one, ret_range);
                if (r < 0)
                        continue;
                plain = one.low <= 0 && one.high >= 0;
                if (unit == 0 || plain) {
                        unit = units[u];
                        shift = plain ? 0 : one.high;
                }
                if (plain)
                        break;
        }
        if (unit == 0)
                return r;
        for (size_t i = 0; i < report->n_ranges; i++)
                offset[i] = (uint64_t) (start_of(&report->ranges[i], unit) - shift - bars[report->ranges[i].id].address);
        return check_overlaps(report, offset, ret_range);
}
