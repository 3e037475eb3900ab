/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device interface reports: what is parsed lies within its bytes; what is placed lies within its BAR, and not over another range. */
#include <string.h>

#include "evidence/report.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const struct tdisp_bar bars[TDISP_BARS] = {
                [0] = { 0xfe000000, 0x10000 }, [1] = { 0, 0x1000 }, [2] = { 0x4000000000, 0x10000000 }, [5] = { UINT64_MAX & ~0xfffULL, 0x1000 },
        };
        uint64_t offset[TDISP_RANGES_MAX];
        struct tdisp_report r;
        size_t which = 0;
        int e;

        e = tdisp_report_parse(data, size, &r);
        must(e == 0 || e == -EBADMSG || e == -E2BIG);
        if (e < 0)
                return 0;
        must(r.n_ranges <= TDISP_RANGES_MAX && 20 + r.n_ranges * 16 + r.device_specific + r.trailing == size);
        e = tdisp_report_place(&r, bars, offset, &which);
        must(e == 0 || e == -ENOENT || e == -ERANGE || e == -EINVAL);
        must(e == 0 || which < r.n_ranges);
        for (size_t i = 0; e == 0 && i < r.n_ranges; i++) {
                const struct tdisp_range *a = &r.ranges[i];

                must(a->id < TDISP_BARS && offset[i] <= bars[a->id].size && (uint64_t) a->pages * TDISP_PAGE <= bars[a->id].size - offset[i]);
                for (size_t k = 0; k < i; k++)
                        must(a->id != r.ranges[k].id || offset[i] + (uint64_t) a->pages * TDISP_PAGE <= offset[k] ||
                             offset[k] + (uint64_t) r.ranges[k].pages * TDISP_PAGE <= offset[i]);
        }
        return 0;
}
