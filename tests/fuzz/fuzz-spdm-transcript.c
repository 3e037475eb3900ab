/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recorded SPDM messages: what is read of them lies in them, in order, and makes sense. The first byte chooses the parser and what was negotiated. */
#include "evidence/spdm.h"
#include "fuzz.h"

static void within(const void *p, size_t n, const uint8_t *data, size_t size) {
        const uint8_t *at = p;

        must(at >= data && n <= size && (size_t) (at - data) <= size - n);
}

static void try_vca(const uint8_t *data, size_t size, struct evidence_why *why) {
        struct spdm_negotiated n;

        if (spdm_vca_parse(data, size, &n, why) < 0)
                return;
        must(n.version >= SPDM_1_1 && n.version <= SPDM_1_3 && n.hash && n.asym && n.ct_exponent <= 31);
        must(n.version < SPDM_1_2 ? n.max_message_size == 0 : n.data_transfer_size >= 42 && n.data_transfer_size <= n.max_message_size);
}

static void try_measurements(const uint8_t *data, size_t size, const struct spdm_negotiated *n, struct evidence_why *why) {
        struct spdm_measurements m;

        if (spdm_measurements_parse(data, size, n, &m, why) < 0)
                return;
        must(m.n_blocks <= SPDM_BLOCKS_MAX);
        for (size_t i = 0; i < m.n_blocks; i++) {
                within(m.blocks[i].value, m.blocks[i].size, data, size);
                must(m.blocks[i].index != 0 && m.blocks[i].index != 255 && (i == 0 || m.blocks[i - 1].index < m.blocks[i].index));
        }
        if (!m.is_signed)
                return;
        within(m.requested_nonce, SPDM_NONCE, data, size);
        within(m.nonce, SPDM_NONCE, data, size);
        must(m.signature == data + m.signed_size && m.signed_size + n->asym->signature_size == size);
}

static void try_challenge(const uint8_t *data, size_t size, const struct spdm_negotiated *n, struct evidence_why *why) {
        struct spdm_challenge c;

        if (spdm_challenge_parse(data, size, n, &c, why) < 0)
                return;
        must(c.slot < EVIDENCE_SLOTS);
        within(c.requested_nonce, SPDM_NONCE, data, size);
        within(c.nonce, SPDM_NONCE, data, size);
        within(c.chain_hash, n->hash->size, data, size);
        if (c.summary)
                within(c.summary, n->hash->size, data, size);
        must(c.signature == data + c.signed_size && c.signed_size + n->asym->signature_size == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const uint8_t versions[] = { SPDM_1_1, SPDM_1_2, SPDM_1_3, SPDM_1_3 };
        struct spdm_negotiated n = {};
        struct evidence_why why = {};
        uint8_t choice;

        if (size < 1)
                return 0;
        choice = *data++;
        size--;
        n.version = versions[choice >> 2 & 3];
        n.hash = &spdm_hashes[(choice >> 4 & 3) % spdm_n_hashes];
        n.measurement_hash = choice & 0x80 ? NULL : n.hash;
        n.asym = spdm_asym_of(choice & 0x40 ? 0x80 : 0x10);
        switch (choice & 3) {
        case 0: try_vca(data, size, &why); break;
        case 1: try_measurements(data, size, &n, &why); break;
        default: try_challenge(data, size, &n, &why); break;
        }
        must((why.reason == EVIDENCE_OK) == (why.text[0] == '\0'));
        return 0;
}
