/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * DER (X.690), read strictly: definite lengths in their shortest form, tags in one byte. OpenSSL takes BER in places; what a device sends is
 * to have one encoding only. Nothing here allocates.
 */
#ifndef TDI_EVIDENCE_CHAIN_DER_H
#define TDI_EVIDENCE_CHAIN_DER_H

#include "util/util.h"

#define DER_BOOLEAN 0x01u
#define DER_INTEGER 0x02u
#define DER_BIT_STRING 0x03u
#define DER_OCTET_STRING 0x04u
#define DER_OID 0x06u
#define DER_UTF8_STRING 0x0cu
#define DER_SEQUENCE 0x30u
#define DER_CONTEXT(n) (0x80u | (n))             /* primitive */
#define DER_CONTEXT_CONSTRUCTED(n) (0xa0u | (n))

#define DER_OID_TEXT 64u
#define DER_TEXT_MAX 256u

struct der {
        const uint8_t *p, *end;
};

static inline struct der der_of(const void *data, size_t size) {
        return (struct der){ data, (const uint8_t *) data + size };
}

static inline size_t der_left(const struct der *d) {
        return (size_t) (d->end - d->p);
}

/* The next element: its tag, and what is in it. Moves on behind it. -EBADMSG: there is none, or it is not DER. */
int der_next(struct der *d, unsigned *ret_tag, struct der *ret);
/* The same with the tag that it must have. */
int der_take(struct der *d, unsigned tag, struct der *ret);
/* Is it the next one's? */
bool der_is(const struct der *d, unsigned tag);
/* Checks all of it, to the innermost element: nothing behind the last one, at most 24 deep. -EBADMSG. */
int der_check(struct der d);

/* Contents of elements; the tag may be an implicit one. -EBADMSG; -ERANGE: negative or above 64 bits, or longer than the text may be. */
int der_u64(struct der content, uint64_t *ret);
int der_oid(struct der content, char ret[static DER_OID_TEXT]);
bool der_equal(struct der content, const void *data, size_t size);
/* UTF-8 of at most DER_TEXT_MAX - 1 bytes, without control characters. */
int der_text(struct der content, char ret[static DER_TEXT_MAX]);
/* At most 32 named bits: bit 0 of the BIT STRING is bit 0 here. */
int der_bits(struct der content, uint32_t *ret);

#endif
