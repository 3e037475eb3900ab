/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of /proc/PID/maps, in which a stranger's file names stand: the first byte says in what pieces the rest is read. What comes
 * out is sorted and has gaps between, and no more pages than lines can name.
 */
#include <sys/sysmacros.h>

#include "fuzz.h"
#include "vm/vpci/dma-internal.h"

static const uint8_t *text;
static size_t text_size, piece;

static ssize_t read_text(_unused_ TdiHost *host, _unused_ int fd, void *buf, size_t size, uint64_t offset) {
        size_t n = offset < text_size ? text_size - (size_t) offset : 0;

        if (n > size)
                n = size;
        if (n > piece)
                n = piece;
        memcpy(buf, text + offset, n);
        return (ssize_t) n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const struct tdi_host_ops ops = { .name = "text", .pread = read_text };
        TdiHost host = { &ops };
        struct dma_span *spans = NULL, *again = NULL;
        size_t n, n_again;

        if (size == 0)
                return 0;
        piece = 1 + data[0] * (size_t) 97;
        text = data + 1;
        text_size = size - 1;
        must(dma_read_maps(&host, 3, makedev(0, 1), 77, &spans, &n) == 0);
        for (size_t i = 0; i < n; i++) {
                must(spans[i].first <= spans[i].last && spans[i].last <= RANGE_PAGE_MAX);
                must(i == 0 || spans[i].first > spans[i - 1].last + 1);
                must(dma_spans_cover(spans, n, spans[i].first, spans[i].last));
                must(!dma_spans_cover(spans, n, spans[i].first, spans[i].last + 1));
        }
        /* However it is read. */
        piece = 65536;
        must(dma_read_maps(&host, 3, makedev(0, 1), 77, &again, &n_again) == 0);
        must(n_again == n && (n == 0 || memcmp(spans, again, n * sizeof(*spans)) == 0));
        free(spans);
        free(again);
        return 0;
}
