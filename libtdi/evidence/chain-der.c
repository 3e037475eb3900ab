/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One DER element after the other. */
#include "evidence/chain-der.h"

#include <openssl/asn1.h>
#include <stdio.h>

#define DEPTH_MAX 24u

int der_next(struct der *d, unsigned *ret_tag, struct der *ret) {
        const uint8_t *p = d->p;
        size_t left = der_left(d), size = 0, n;
        unsigned tag;

        if (left < 2)
                return -EBADMSG;
        tag = p[0];
        /* Tags above 30 have more bytes: no certificate has them. 0 is BER's end of an indefinite length. */
        if ((tag & 0x1f) == 0x1f || tag == 0)
                return -EBADMSG;
        if (p[1] < 0x80) {
                size = p[1];
                p += 2;
                left -= 2;
        } else {
                n = p[1] & 0x7f;
                if (n == 0 || n > 4 || left < 2 + n || p[2] == 0)
                        return -EBADMSG;
                for (size_t i = 0; i < n; i++)
                        size = size << 8 | p[2 + i];
                if (size < 0x80)
                        return -EBADMSG;
                p += 2 + n;
                left -= 2 + n;
        }
        if (size > left)
                return -EBADMSG;
        *ret_tag = tag;
        *ret = (struct der){ p, p + size };
        d->p = p + size;
        return 0;
}

int der_take(struct der *d, unsigned tag, struct der *ret) {
        if (!der_is(d, tag))
                return -EBADMSG;
        return der_next(d, &tag, ret);
}

bool der_is(const struct der *d, unsigned tag) {
        return d->p < d->end && d->p[0] == tag;
}

/* What DER demands of a universal primitive's contents beyond BER. */
static bool is_canonical(unsigned tag, struct der c) {
        size_t n = der_left(&c);

        switch (tag) {
        case DER_BOOLEAN:
                return n == 1 && (c.p[0] == 0 || c.p[0] == 0xff);
        case DER_INTEGER:
                return n > 0 && (n == 1 || !((c.p[0] == 0 && c.p[1] < 0x80) || (c.p[0] == 0xff && c.p[1] >= 0x80)));
        case DER_BIT_STRING:
                return n > 0 && c.p[0] < 8 && (n > 1 || c.p[0] == 0) && (c.end[-1] & ((1u << c.p[0]) - 1)) == 0;
        case DER_OID:
                return n > 0 && c.end[-1] < 0x80;
        default:
                return true;
        }
}

static int check_depth(struct der d, unsigned depth) {
        struct der content;
        unsigned tag;
        int r;

        if (depth > DEPTH_MAX)
                return -EBADMSG;
        while (d.p < d.end) {
                r = der_next(&d, &tag, &content);
                if (r < 0)
                        return r;
                if (tag & 0x20)
                        r = check_depth(content, depth + 1);
                else
                        r = is_canonical(tag, content) ? 0 : -EBADMSG;
                if (r < 0)
                        return r;
        }
        return 0;
}

int der_check(struct der d) {
        return check_depth(d, 0);
}

int der_u64(struct der c, uint64_t *ret) {
        uint64_t v = 0;

        if (!is_canonical(DER_INTEGER, c))
                return -EBADMSG;
        if (c.p[0] >= 0x80)
                return -ERANGE;
        if (c.p[0] == 0)
                c.p++;
        if (der_left(&c) > sizeof(v))
                return -ERANGE;
        for (; c.p < c.end; c.p++)
                v = v << 8 | *c.p;
        *ret = v;
        return 0;
}

int der_oid(struct der c, char ret[static DER_OID_TEXT]) {
        bool first = true;
        size_t used = 0;

        if (!is_canonical(DER_OID, c))
                return -EBADMSG;
        while (c.p < c.end) {
                uint64_t v = 0;
                int n;

                if (*c.p == 0x80)
                        return -EBADMSG;
                do {
                        if (v >> 56)
                                return -ERANGE;
                        v = v << 7 | (*c.p & 0x7f);
                } while (*c.p++ & 0x80);
                if (first) {
                        unsigned top = v < 40 ? 0 : v < 80 ? 1 : 2;

                        n = snprintf(ret, DER_OID_TEXT, "%u.%llu", top, (unsigned long long) (v - UINT64_C(40) * top));
                        first = false;
                } else
                        n = snprintf(ret + used, DER_OID_TEXT - used, ".%llu", (unsigned long long) v);
                used += (size_t) n;
                if (used >= DER_OID_TEXT)
                        return -ERANGE;
        }
        return 0;
}

bool der_equal(struct der c, const void *data, size_t size) {
        return der_left(&c) == size && memcmp(c.p, data, size) == 0;
}

int der_text(struct der c, char ret[static DER_TEXT_MAX]) {
        size_t n = der_left(&c);

        if (n >= DER_TEXT_MAX)
                return -ERANGE;
        for (const uint8_t *p = c.p; p < c.end;) {
                unsigned long v;
                int used = UTF8_getc(p, (int) (c.end - p), &v);

                if (used <= 0 || v < 0x20 || (v >= 0x7f && v < 0xa0) || (v >= 0xd800 && v < 0xe000) || v > 0x10ffff)
                        return -EBADMSG;
                p += used;
        }
        memcpy(ret, c.p, n);
        ret[n] = 0;
        return 0;
}

int der_bits(struct der c, uint32_t *ret) {
        uint32_t v = 0;

        if (!is_canonical(DER_BIT_STRING, c))
                return -EBADMSG;
        if (der_left(&c) > 1 + sizeof(v))
                return -ERANGE;
        for (unsigned i = 0; i < 8 * (der_left(&c) - 1); i++)
                if (c.p[1 + i / 8] & 0x80u >> i % 8)
                        v |= UINT32_C(1) << i;
        *ret = v;
        return 0;
}
