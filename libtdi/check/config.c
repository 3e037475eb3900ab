/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /proc/config.gz. */
#define ZLIB_CONST
#include <zlib.h>

#include "check/internal.h"

int check_inflate(const char *data, size_t size, size_t max, char **ret) {
        _cleanup_free_ char *text = malloc(max + 1);
        z_stream z = { .avail_in = (unsigned) size };
        size_t have;
        int r;

        if (!text)
                return -ENOMEM;
        if (size > UINT32_MAX || max > UINT32_MAX)
                return -E2BIG;
        z.next_in = (const unsigned char *) data;
        z.next_out = (unsigned char *) text;
        z.avail_out = (unsigned) max;
        /* 16: with the head of gzip. */
        if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
                return -ENOMEM;
        r = inflate(&z, Z_FINISH);
        have = z.total_out;
        (void) inflateEnd(&z);
        if (r != Z_STREAM_END)
                return r == Z_MEM_ERROR ? -ENOMEM : r == Z_BUF_ERROR && have == max ? -E2BIG : -EBADMSG;
        text[have] = '\0';
        *ret = TAKE_PTR(text);
        return 0;
}
