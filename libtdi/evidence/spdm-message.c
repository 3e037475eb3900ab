/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Responses of SPDM but for the measurements: each field is checked before it is believed. Numbers of tables and bits are DSP0274's. */
#include "evidence/spdm-message.h"

int spdm_header_read(struct spdm_reader *r, uint8_t version, uint8_t code, const char *name, const uint8_t **ret, struct evidence_why *why) {
        const uint8_t *p = r->p;

        if (r->left < SPDM_HEADER)
                return spdm_short(why, name, SPDM_HEADER, r->left);
        if (p[1] != code)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED, "%s: message with the code 0x%02x, expected 0x%02x", name, p[1], code);
        if (p[0] != version)
                return evidence_refuse(why, code == SPDM_RESPONSE(SPDM_GET_CAPABILITIES) && p[0] < version ? EVIDENCE_DOWNGRADE : EVIDENCE_WRONG_VERSION,
                                       "%s: version 0x%02x in the header, expected 0x%02x", name, p[0], version);
        *ret = spdm_take(r, SPDM_HEADER);
        return 0;
}

/* ---- VERSION ---- */

int spdm_version_read(struct spdm_reader *r, struct spdm_versions *ret, struct evidence_why *why) {
        const uint8_t *p, *entries;
        int e;

        /* Always of version 1.0, so that everybody can read it. */
        e = spdm_header_read(r, SPDM_1_0, SPDM_RESPONSE(SPDM_GET_VERSION), "VERSION", &p, why);
        if (e < 0)
                return e;
        p = spdm_take(r, 2);
        if (!p)
                return spdm_short(why, "VERSION", SPDM_HEADER + 2, SPDM_HEADER + r->left);
        if (p[1] == 0)
                return evidence_refuse(why, EVIDENCE_NO_VERSION, "VERSION: no entries");
        entries = spdm_take(r, 2 * (size_t) p[1]);
        if (!entries)
                return spdm_short(why, "VERSION: entries", 2 * (size_t) p[1], r->left);
        *ret = (struct spdm_versions){ p[1], entries };
        return 0;
}

bool spdm_versions_have(const struct spdm_versions *v, uint8_t version) {
        for (size_t i = 0; i < v->n; i++) {
                uint16_t entry = spdm_get16(v->entries + 2 * i);

                /* The lowest four bits count drafts of a specification: those are nobody's. */
                if (entry >> 8 == version && (entry & 0xf) == 0)
                        return true;
        }
        return false;
}

/* ---- CAPABILITIES ---- */

/* A table of which the first that is so is told. 1.1 has these rules too, in the descriptions of the flags. */
static const char *flags_contradiction(uint32_t f, uint8_t version) {
        bool session = f & (SPDM_CAP_KEY_EX | SPDM_CAP_PSK);
        bool key = f & (SPDM_CAP_CERT | SPDM_CAP_PUB_KEY_ID);

        if ((f & SPDM_CAP_MEAS) == SPDM_CAP_MEAS)
                return "MEAS_CAP is 3, which is reserved";
        if ((f & SPDM_CAP_MEAS_FRESH) && !(f & SPDM_CAP_MEAS))
                return "MEAS_FRESH_CAP without MEAS_CAP";
        if ((f & SPDM_CAP_PSK) == SPDM_CAP_PSK)
                return "PSK_CAP is 3, which is reserved";
        if (session && !(f & (SPDM_CAP_ENCRYPT | SPDM_CAP_MAC)))
                return "sessions without ENCRYPT_CAP and MAC_CAP";
        if (!session && f & (SPDM_CAP_ENCRYPT | SPDM_CAP_MAC | SPDM_CAP_CLEAR_HANDSHAKE | SPDM_CAP_HBEAT | SPDM_CAP_KEY_UPD))
                return "what only sessions need without KEY_EX_CAP and PSK_CAP";
        if ((f & SPDM_CAP_CERT) && (f & SPDM_CAP_PUB_KEY_ID))
                return "CERT_CAP and PUB_KEY_ID_CAP";
        if (!key && f & (SPDM_CAP_CHAL | SPDM_CAP_KEY_EX | SPDM_CAP_MEAS_SIG | SPDM_CAP_MUT_AUTH))
                return "signatures without CERT_CAP and PUB_KEY_ID_CAP";
        if (version == SPDM_1_1 && (f & SPDM_CAP_MUT_AUTH) && !(f & SPDM_CAP_ENCAP))
                return "MUT_AUTH_CAP without ENCAP_CAP";
        if (version >= SPDM_1_3 && !session && (f & SPDM_CAP_EVENT))
                return "EVENT_CAP without KEY_EX_CAP and PSK_CAP";
        if (version >= SPDM_1_3 && (f & SPDM_CAP_EP_INFO) == SPDM_CAP_EP_INFO)
                return "EP_INFO_CAP is 3, which is reserved";
        if (version >= SPDM_1_3 && (f & SPDM_CAP_MULTI_KEY) == SPDM_CAP_MULTI_KEY)
                return "MULTI_KEY_CAP is 3, which is reserved";
        if (version >= SPDM_1_3 && (f & SPDM_CAP_MULTI_KEY) && !(f & SPDM_CAP_CERT))
                return "MULTI_KEY_CAP without CERT_CAP";
        return NULL;
}

static int sizes_read(struct spdm_reader *r, struct spdm_negotiated *n, struct evidence_why *why) {
        const uint8_t *p = spdm_take(r, 8);

        if (!p)
                return spdm_short(why, "CAPABILITIES of version 1.2 and later", 20, 12 + r->left);
        n->data_transfer_size = spdm_get32(p);
        n->max_message_size = spdm_get32(p + 4);
        if (n->data_transfer_size < SPDM_DATA_TRANSFER_SIZE_MIN)
                return evidence_refuse(why, EVIDENCE_CAPABILITY, "CAPABILITIES: DataTransferSize is %u, expected at least %u", n->data_transfer_size,
                                       SPDM_DATA_TRANSFER_SIZE_MIN);
        if (n->max_message_size < n->data_transfer_size)
                return evidence_refuse(why, EVIDENCE_CAPABILITY, "CAPABILITIES: MaxSPDMmsgSize %u is less than DataTransferSize %u", n->max_message_size,
                                       n->data_transfer_size);
        if (!(n->flags & SPDM_CAP_CHUNK) && n->max_message_size != n->data_transfer_size)
                return evidence_refuse(why, EVIDENCE_CAPABILITY,
                                       "CAPABILITIES: MaxSPDMmsgSize %u is not DataTransferSize %u, though there is no CHUNK_CAP",
                                       n->max_message_size, n->data_transfer_size);
        return 0;
}

/* The supported algorithms of 1.3: nobody needs them, only their length. */
static int supported_algorithms_skip(struct spdm_reader *r, struct evidence_why *why) {
        size_t length = r->left >= 4 ? spdm_get16(r->p + 2) : 0;

        if (length < 4 || !spdm_take(r, length))
                return spdm_short(why, "CAPABILITIES: supported algorithms", length < 4 ? 4 : length, r->left);
        return 0;
}

int spdm_capabilities_read(struct spdm_reader *r, bool asked_algorithms, struct spdm_negotiated *n, struct evidence_why *why) {
        const char *contradiction;
        const uint8_t *header, *p;
        int e;

        e = spdm_header_read(r, n->version, SPDM_RESPONSE(SPDM_GET_CAPABILITIES), "CAPABILITIES", &header, why);
        if (e < 0)
                return e;
        p = spdm_take(r, 8);
        if (!p)
                return spdm_short(why, "CAPABILITIES", 12, SPDM_HEADER + r->left);
        n->ct_exponent = p[1];
        n->flags = spdm_get32(p + 4);
        if (n->ct_exponent > SPDM_CT_EXPONENT_MAX)
                return evidence_refuse(why, EVIDENCE_CT_EXPONENT, "CAPABILITIES: CTExponent is %u, expected at most %u", n->ct_exponent,
                                       SPDM_CT_EXPONENT_MAX);
        contradiction = flags_contradiction(n->flags, n->version);
        if (contradiction)
                return evidence_refuse(why, EVIDENCE_CAPABILITY, "CAPABILITIES: the flags 0x%08x contradict each other: %s", n->flags, contradiction);
        if (n->version >= SPDM_1_2) {
                e = sizes_read(r, n, why);
                if (e < 0)
                        return e;
        }
        return n->version >= SPDM_1_3 && asked_algorithms && (header[2] & 1) ? supported_algorithms_skip(r, why) : 0;
}

/* ---- ALGORITHMS ---- */

/* One of those that were offered, and only one. */
static int selection_check(uint32_t selected, uint32_t offered, const char *what, struct evidence_why *why) {
        if (selected == 0)
                return evidence_refuse(why, EVIDENCE_NO_ALGORITHM, "ALGORITHMS: no %s was selected of 0x%x", what, offered);
        if (selected & (selected - 1))
                return evidence_refuse(why, EVIDENCE_ALGORITHM_SELECTION, "ALGORITHMS: several selected as %s: 0x%x", what, selected);
        if (!(selected & offered))
                return evidence_refuse(why, EVIDENCE_NO_ALGORITHM, "ALGORITHMS: 0x%x was selected as %s, offered was 0x%x", selected, what, offered);
        return 0;
}

static int selections_read(const uint8_t *p, const struct spdm_offer *offer, struct spdm_negotiated *n, struct evidence_why *why) {
        uint32_t measurement = spdm_get32(p + 8), asym = spdm_get32(p + 12), hash = spdm_get32(p + 16);
        uint8_t other = p[7];
        int e;

        e = selection_check(hash, offer->hashes, "hash", why);
        if (e < 0)
                return e;
        e = selection_check(asym, offer->asyms, "signature algorithm", why);
        if (e < 0)
                return e;
        n->hash = spdm_hash_of(hash);
        n->asym = spdm_asym_of(asym);
        if (!n->hash || !n->asym)
                return evidence_refuse(why, EVIDENCE_NO_ALGORITHM, "ALGORITHMS: hash 0x%x with signature algorithm 0x%x is not known here", hash, asym);
        if (n->flags & SPDM_CAP_MEAS) {
                e = selection_check(p[6], offer->measurement_specification, "measurement specification", why);
                if (e < 0)
                        return e;
                e = selection_check(measurement, UINT32_MAX, "measurement hash", why);
                if (e < 0)
                        return e;
                n->measurement_hash = spdm_measurement_hash_of(measurement);
                if (!n->measurement_hash && measurement != 1)
                        return evidence_refuse(why, EVIDENCE_NO_ALGORITHM, "ALGORITHMS: measurement hash 0x%x is not known here", measurement);
        }
        if (n->version >= SPDM_1_2 && other & 0xf) {
                e = selection_check(other & 0xf, offer->other_params & 0xf, "opaque data format", why);
                if (e < 0)
                        return e;
                n->opaque_format_1 = other & SPDM_OPAQUE_FORMAT_1;
        }
        return 0;
}

int spdm_algorithms_read(struct spdm_reader *r, const struct spdm_offer *offer, struct spdm_negotiated *n, struct evidence_why *why) {
        const uint8_t *p = r->p;
        const size_t fixed = 36;
        size_t size, tables;
        int e;

        e = spdm_header_read(r, n->version, SPDM_RESPONSE(SPDM_NEGOTIATE_ALGORITHMS), "ALGORITHMS", &p, why);
        if (e < 0)
                return e;
        tables = p[2];
        if (!spdm_take(r, fixed - SPDM_HEADER))
                return spdm_short(why, "ALGORITHMS", fixed, SPDM_HEADER + r->left);
        if (p[32] > offer->ext_asyms || p[33] > offer->ext_hashes || p[32] > 1 || p[33] > 1)
                return evidence_refuse(why, EVIDENCE_ALGORITHM_SELECTION,
                                       "ALGORITHMS: %u extended signature algorithms and %u hashes selected, offered were %u and %u",
                                       p[32], p[33], offer->ext_asyms, offer->ext_hashes);
        if (tables > offer->tables)
                return evidence_refuse(why, EVIDENCE_ALGORITHM_SELECTION, "ALGORITHMS: %zu algorithm structures, asked for were %u", tables,
                                       offer->tables);
        size = fixed + 4 * (size_t) (p[32] + p[33]);
        if (!spdm_take(r, size - fixed))
                return spdm_short(why, "ALGORITHMS: extended algorithms", size, fixed + r->left);
        for (size_t i = 0; i < tables; i++) {
                const uint8_t *table = spdm_take(r, 4);
                size_t extended = table ? 4 * (size_t) (table[1] & 0xf) : 0;

                if (!table || !spdm_take(r, extended))
                        return spdm_short(why, "ALGORITHMS: algorithm structures", 4 + extended, r->left);
                if (table[1] >> 4 != 2)
                        return evidence_refuse(why, EVIDENCE_ALGORITHM_SELECTION,
                                               "ALGORITHMS: structure %zu has %u bytes of fixed algorithms, expected 2", i, table[1] >> 4);
                size += 4 + extended;
        }
        if (spdm_get16(p + 4) != size)
                return evidence_refuse(why, EVIDENCE_ALGORITHM_SELECTION, "ALGORITHMS: the length says %u, its parts have %zu bytes",
                                       spdm_get16(p + 4), size);
        return selections_read(p, offer, n, why);
}

/* ---- DIGESTS, CERTIFICATE ---- */

int spdm_digests_read(struct spdm_reader *r, const struct spdm_negotiated *n, struct spdm_digests *ret, struct evidence_why *why) {
        struct spdm_digests d = {};
        const uint8_t *p;
        int e;

        e = spdm_header_read(r, n->version, SPDM_RESPONSE(SPDM_GET_DIGESTS), "DIGESTS", &p, why);
        if (e < 0)
                return e;
        d.mask = p[3];
        for (unsigned i = 0; i < EVIDENCE_SLOTS; i++) {
                if (!(d.mask & 1u << i))
                        continue;
                d.digests[i] = spdm_take(r, n->hash->size);
                if (!d.digests[i])
                        return evidence_refuse(why, EVIDENCE_SHORT, "DIGESTS: slots 0x%02x, but no %s digest for slot %u", d.mask, n->hash->name, i);
        }
        *ret = d;
        return 0;
}

int spdm_certificate_read(struct spdm_reader *r, const struct spdm_negotiated *n, uint8_t slot, size_t max, struct spdm_portion *ret,
                          struct evidence_why *why) {
        struct spdm_portion portion;
        const uint8_t *header, *p;
        int e;

        e = spdm_header_read(r, n->version, SPDM_RESPONSE(SPDM_GET_CERTIFICATE), "CERTIFICATE", &header, why);
        if (e < 0)
                return e;
        if ((header[2] & 0xf) != slot)
                return evidence_refuse(why, EVIDENCE_SLOT_MISMATCH, "CERTIFICATE: of slot %u, expected slot %u", header[2] & 0xf, slot);
        p = spdm_take(r, 4);
        if (!p)
                return spdm_short(why, "CERTIFICATE", 8, SPDM_HEADER + r->left);
        portion.size = spdm_get16(p);
        portion.remainder = spdm_get16(p + 2);
        if (portion.size > max)
                return evidence_refuse(why, EVIDENCE_TOO_LONG, "CERTIFICATE: a portion of %zu bytes, asked for were at most %zu", portion.size, max);
        portion.data = spdm_take(r, portion.size);
        if (!portion.data)
                return spdm_short(why, "CERTIFICATE: portion", portion.size, r->left);
        *ret = portion;
        return 0;
}

/* ---- the end of signed messages, CHALLENGE_AUTH ---- */

int spdm_tail_read(struct spdm_reader *r, const struct spdm_negotiated *n, const char *name, const uint8_t *context, bool is_signed,
                   const uint8_t **ret_signature, struct evidence_why *why) {
        size_t echo = n->version >= SPDM_1_3 ? SPDM_CONTEXT : 0, opaque, rest;
        const uint8_t *p = spdm_take(r, 2);

        if (!p)
                return spdm_short(why, name, 2, r->left);
        opaque = spdm_get16(p);
        if (opaque > SPDM_OPAQUE_MAX)
                return evidence_refuse(why, EVIDENCE_OPAQUE_LENGTH, "%s: %zu bytes of opaque data, expected at most %u", name, opaque, SPDM_OPAQUE_MAX);
        if (r->left < opaque + echo)
                return evidence_refuse(why, opaque ? EVIDENCE_OPAQUE_LENGTH : EVIDENCE_SHORT,
                                       "%s: %zu bytes of opaque data and %zu of context, but only %zu are there", name, opaque, echo, r->left);
        rest = r->left - opaque - echo;
        /* Up to three bytes may be what the transport fills up with. */
        if (is_signed && rest < 4)
                return evidence_refuse(why, EVIDENCE_NO_SIGNATURE, "%s: ends where the signature should be", name);
        if (is_signed && rest < n->asym->signature_size)
                return evidence_refuse(why, opaque ? EVIDENCE_OPAQUE_LENGTH : EVIDENCE_SHORT,
                                       "%s: %zu bytes of opaque data leave %zu for the signature, expected %zu",
                                       name, opaque, rest, n->asym->signature_size);
        (void) spdm_take(r, opaque);
        p = spdm_take(r, echo);
        if (echo && memcmp(p, context, echo) != 0)
                return evidence_refuse(why, EVIDENCE_WRONG_NONCE, "%s: the context is not the one that was sent with this request", name);
        *ret_signature = is_signed ? spdm_take(r, n->asym->signature_size) : NULL;
        return 0;
}

int spdm_challenge_auth_read(struct spdm_reader *r, const struct spdm_negotiated *n, const uint8_t *request, struct spdm_challenge *ret,
                             struct evidence_why *why) {
        struct spdm_challenge c = { .slot = request[2] & 0xf, .summary_type = request[3], .requested_nonce = request + SPDM_HEADER };
        size_t summary = c.summary_type ? n->hash->size : 0, fixed = n->hash->size + SPDM_NONCE + summary;
        const uint8_t *p;
        int e;

        e = spdm_header_read(r, n->version, SPDM_RESPONSE(SPDM_CHALLENGE), "CHALLENGE_AUTH", &p, why);
        if (e < 0)
                return e;
        if ((p[2] & 0xf) != c.slot)
                return evidence_refuse(why, EVIDENCE_SLOT_MISMATCH, "CHALLENGE_AUTH: of slot %u, expected slot %u", p[2] & 0xf, c.slot);
        if (!(p[3] & 1u << c.slot))
                return evidence_refuse(why, EVIDENCE_EMPTY_SLOT, "CHALLENGE_AUTH: slot %u has no chain, those with one are 0x%02x", c.slot, p[3]);
        p = spdm_take(r, fixed);
        if (!p)
                return spdm_short(why, "CHALLENGE_AUTH", SPDM_HEADER + fixed, SPDM_HEADER + r->left);
        c.chain_hash = p;
        c.nonce = p + n->hash->size;
        c.summary = summary ? c.nonce + SPDM_NONCE : NULL;
        e = spdm_tail_read(r, n, "CHALLENGE_AUTH", request + SPDM_HEADER + SPDM_NONCE, true, &c.signature, why);
        if (e < 0)
                return e;
        *ret = c;
        return 0;
}
