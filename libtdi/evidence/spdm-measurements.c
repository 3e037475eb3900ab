/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MEASUREMENTS: the blocks of one response, merged into those that are known already. */
#include "evidence/spdm-message.h"

#define BLOCK_HEADER 4u
#define VALUE_HEADER 3u
#define VALUE_RAW 0x80u

/* In ascending order. A device may be asked for an index again, but then has to say the same. */
static int block_add(struct spdm_measurements *m, const struct spdm_block *block, struct evidence_why *why) {
        size_t at = m->n_blocks;

        while (at > 0 && m->blocks[at - 1].index >= block->index)
                at--;
        if (at < m->n_blocks && m->blocks[at].index == block->index) {
                const struct spdm_block *known = &m->blocks[at];

                if (known->value_type == block->value_type && known->size == block->size && memcmp(known->value, block->value, block->size) == 0)
                        return 0;
                return evidence_refuse(why, EVIDENCE_CONTENT_CHANGED, "MEASUREMENTS: index %u has another value than it had before", block->index);
        }
        memmove(&m->blocks[at + 1], &m->blocks[at], (m->n_blocks - at) * sizeof(*block));
        m->blocks[at] = *block;
        m->n_blocks++;
        return 0;
}

static int value_check(const struct spdm_block *block, const struct spdm_negotiated *n, struct evidence_why *why) {
        if (block->value_type & VALUE_RAW)
                return 0;
        if (!n->measurement_hash)
                return evidence_refuse(why, EVIDENCE_BLOCK_FORM, "MEASUREMENTS: index %u is a digest, though only raw bit streams were negotiated",
                                       block->index);
        if (block->size != n->measurement_hash->size)
                return evidence_refuse(why, EVIDENCE_BLOCK_FORM, "MEASUREMENTS: index %u is a digest of %zu bytes, expected %zu (%s)", block->index,
                                       block->size, n->measurement_hash->size, n->measurement_hash->name);
        return 0;
}

static int block_read(struct spdm_reader *record, const struct spdm_negotiated *n, struct spdm_block *ret, struct evidence_why *why) {
        const uint8_t *p = spdm_take(record, BLOCK_HEADER), *value;
        size_t size;

        if (!p)
                return evidence_refuse(why, EVIDENCE_RECORD_LENGTH, "MEASUREMENTS: the record ends within a block's header, %zu bytes before its end",
                                       BLOCK_HEADER - record->left);
        if (p[0] == 0 || p[0] == 0xff)
                return evidence_refuse(why, EVIDENCE_BLOCK_INDEX, "MEASUREMENTS: a block has the index %u, which is reserved", p[0]);
        if (p[1] != SPDM_MEASUREMENT_SPECIFICATION_DMTF)
                return evidence_refuse(why, EVIDENCE_BLOCK_FORM, "MEASUREMENTS: index %u is of the specification 0x%02x, expected 0x01 (DMTF)", p[0],
                                       p[1]);
        size = spdm_get16(p + 2);
        value = spdm_take(record, size);
        if (!value)
                return evidence_refuse(why, EVIDENCE_RECORD_LENGTH, "MEASUREMENTS: index %u has %zu bytes, the record only %zu more", p[0], size,
                                       record->left);
        if (size < VALUE_HEADER || spdm_get16(value + 1) != size - VALUE_HEADER)
                return evidence_refuse(why, EVIDENCE_BLOCK_FORM, "MEASUREMENTS: index %u has %zu bytes for a value of %u and its header of %u", p[0], size,
                                       size < VALUE_HEADER ? 0 : spdm_get16(value + 1), VALUE_HEADER);
        *ret = (struct spdm_block){ .index = p[0], .value_type = value[0], .value = value + VALUE_HEADER, .size = size - VALUE_HEADER };
        return value_check(ret, n, why);
}

/* The indices of one response, each at most once: which have been there. */
static int record_read(struct spdm_reader *record, const struct spdm_negotiated *n, uint8_t count, uint8_t operation, struct spdm_measurements *m,
                       struct evidence_why *why) {
        bool seen[256] = {};

        for (unsigned i = 0; i < count; i++) {
                struct spdm_block block;
                int e;

                if (record->left == 0)
                        return evidence_refuse(why, EVIDENCE_BLOCK_COUNT, "MEASUREMENTS: %u blocks are said to be there, found were %u", count, i);
                e = block_read(record, n, &block, why);
                if (e < 0)
                        return e;
                if (operation != SPDM_MEASURE_ALL && block.index != operation)
                        return evidence_refuse(why, EVIDENCE_BLOCK_INDEX, "MEASUREMENTS: index %u, asked for was %u", block.index, operation);
                if (seen[block.index])
                        return evidence_refuse(why, EVIDENCE_BLOCK_INDEX, "MEASUREMENTS: index %u comes twice", block.index);
                seen[block.index] = true;
                e = block_add(m, &block, why);
                if (e < 0)
                        return e;
        }
        if (record->left > 0)
                return evidence_refuse(why, EVIDENCE_RECORD_LENGTH, "MEASUREMENTS: %zu bytes of the record are behind its %u blocks", record->left, count);
        return 0;
}

int spdm_measurements_read(struct spdm_reader *r, const struct spdm_negotiated *n, const uint8_t *request, struct spdm_measurements *ret,
                           uint8_t *ret_count, struct evidence_why *why) {
        bool is_signed = request[2] & SPDM_MEASURE_SIGNED;
        uint8_t operation = request[3], wanted = operation == SPDM_MEASURE_COUNT ? 0 : 1;
        const uint8_t *header, *p, *nonce, *signature, *context;
        struct spdm_reader record;
        size_t length;
        int e;

        e = spdm_header_read(r, n->version, SPDM_RESPONSE(SPDM_GET_MEASUREMENTS), "MEASUREMENTS", &header, why);
        if (e < 0)
                return e;
        p = spdm_take(r, 4);
        if (!p)
                return spdm_short(why, "MEASUREMENTS", 8, SPDM_HEADER + r->left);
        if (operation == SPDM_MEASURE_ALL ? p[0] == 0 : p[0] != wanted)
                return evidence_refuse(why, EVIDENCE_BLOCK_COUNT, "MEASUREMENTS: %u blocks, expected %s%u", p[0],
                                       operation == SPDM_MEASURE_ALL ? "at least " : "", wanted);
        length = p[1] | (size_t) spdm_get16(p + 2) << 8;
        record = (struct spdm_reader){ r->p, length };
        if (!spdm_take(r, length))
                return evidence_refuse(why, EVIDENCE_RECORD_LENGTH, "MEASUREMENTS: a record of %zu bytes, the message has %zu more", length, r->left);
        e = record_read(&record, n, p[0], operation, ret, why);
        if (e < 0)
                return e;
        nonce = spdm_take(r, SPDM_NONCE);
        if (!nonce)
                return spdm_short(why, "MEASUREMENTS: nonce", SPDM_NONCE, r->left);
        context = request + spdm_get_measurements_size(SPDM_1_2, request[2]);
        e = spdm_tail_read(r, n, "MEASUREMENTS", context, is_signed, &signature, why);
        if (e < 0)
                return e;
        if (operation == SPDM_MEASURE_COUNT)
                *ret_count = header[2];
        if (!is_signed)
                return 0;
        ret->is_signed = true;
        ret->slot = request[SPDM_HEADER + SPDM_NONCE] & 0xf;
        ret->requested_nonce = request + SPDM_HEADER;
        ret->nonce = nonce;
        ret->signature = signature;
        if (n->version >= SPDM_1_2 && (header[3] & 0xf) != ret->slot)
                return evidence_refuse(why, EVIDENCE_SLOT_MISMATCH, "MEASUREMENTS: signed for slot %u, expected slot %u", header[3] & 0xf, ret->slot);
        if (n->version >= SPDM_1_2 && (header[3] & 0x30) == 0x10)
                return evidence_refuse(why, EVIDENCE_CONTENT_CHANGED, "MEASUREMENTS: the device says that they changed while they were read");
        return 0;
}
