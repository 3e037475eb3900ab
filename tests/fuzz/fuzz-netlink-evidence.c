/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Datagrams of the device-evidence family. The input's first two bytes are the mask of what was asked for; then come datagrams, each behind its
 * length in two bytes. What is whole was asked for, announced and within the limits.
 */
#include "evidence/netlink-reader.h"
#include "evidence/netlink.h"
#include "fuzz.h"

static unsigned u16(const uint8_t *p) {
        return (unsigned) p[0] | (unsigned) p[1] << 8;
}

static void check_reader(const struct netlink_reader *r) {
        size_t total = 0;

        must(!(r->seen & ~r->type_mask) && r->total <= EVIDENCE_NETLINK_TOTAL_MAX);
        must(!r->arriving || (r->have < r->length && r->seen & 1u << r->type));
        for (unsigned i = 0; i < _EVIDENCE_TYPE_MAX; i++) {
                const struct evidence_object *o = &r->evidence.objects[i];

                must(!o->data || r->seen & 1u << i);
                must(o->size <= EVIDENCE_OBJECT_MAX && (o->data || !o->size));
                must(!(r->ended && o->data) || o->size > 0);
                total += o->size;
                /* Every byte can be read. */
                for (size_t k = 0; k < o->size; k += 4096)
                        must(((volatile const uint8_t *) o->data)[k] <= 0xff);
        }
        must(total <= r->total && (!r->ended || (total == r->total && !r->arriving)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct netlink_reader r = { .family = 0x21, .sequence = 77, .port = 4242 };

        if (size < 2)
                return 0;
        r.type_mask = u16(data) & EVIDENCE_NETLINK_TYPES;
        data += 2;
        size -= 2;
        while (size >= 2) {
                const size_t n = u16(data) < size - 2 ? u16(data) : size - 2;
                _cleanup_free_ uint8_t *datagram = malloc(n + !n);
                struct evidence_why why = {};
                int e;

                must(datagram);
                memcpy(datagram, data + 2, n);
                data += 2 + n;
                size -= 2 + n;
                e = netlink_reader_feed(&r, datagram, n, &why);
                must(e == 0 || e == 1 || e == -EAGAIN || e == -EPERM || e == -EOPNOTSUPP || e == -ENODEV || e == -EBADMSG || e == -ENOMEM);
                must((e < 0 && e != -ENOMEM) == (why.reason != EVIDENCE_OK));
                must((e == 1) == (r.ended && e >= 0));
                check_reader(&r);
                if (e != 0)
                        break;
        }
        netlink_reader_done(&r);
        return 0;
}
