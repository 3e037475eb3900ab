/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Recorded messages: requests and responses one behind the other, as they go into transcripts. Whoever recorded them is not believed either. */
#include "evidence/spdm-message.h"

/* A request of that code, whole; of 1.0 if it is GET_VERSION, else of the version. */
static int request_take(struct spdm_reader *r, uint8_t version, uint8_t code, size_t size, const uint8_t **ret, struct evidence_why *why) {
        if (r->left < SPDM_HEADER || (r->p[1] == code && r->left < size))
                return spdm_short(why, "recorded request", size, r->left);
        if (r->p[1] != code)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED, "recorded request with the code 0x%02x, expected 0x%02x", r->p[1], code);
        if (r->p[0] != version)
                return evidence_refuse(why, EVIDENCE_WRONG_VERSION, "recorded request 0x%02x of version 0x%02x, expected 0x%02x", code, r->p[0], version);
        *ret = spdm_take(r, size);
        return 0;
}

static int trailing_check(const struct spdm_reader *r, const char *what, struct evidence_why *why) {
        return r->left == 0 ? 0 : evidence_refuse(why, EVIDENCE_TRAILING, "%s: %zu bytes behind the last message", what, r->left);
}

/* ---- VCA ---- */

static int vca_version(struct spdm_reader *r, struct spdm_negotiated *n, struct evidence_why *why) {
        struct spdm_versions versions;
        const uint8_t *p;
        int e;

        e = request_take(r, SPDM_1_0, SPDM_GET_VERSION, SPDM_HEADER, &p, why);
        if (e < 0)
                return e;
        e = spdm_version_read(r, &versions, why);
        if (e < 0)
                return e;
        if (r->left < SPDM_HEADER)
                return spdm_short(why, "recorded GET_CAPABILITIES", SPDM_HEADER, r->left);
        n->version = r->p[0];
        if (n->version < SPDM_1_1 || n->version > SPDM_1_3)
                return evidence_refuse(why, EVIDENCE_NO_VERSION, "the requester went on with version 0x%02x, expected 0x11 to 0x13", n->version);
        if (!spdm_versions_have(&versions, n->version))
                return evidence_refuse(why, EVIDENCE_NO_VERSION, "the requester went on with version 0x%02x, which VERSION does not offer", n->version);
        return 0;
}

static int vca_capabilities(struct spdm_reader *r, struct spdm_negotiated *n, struct evidence_why *why) {
        const uint8_t *p;
        int e;

        e = request_take(r, n->version, SPDM_GET_CAPABILITIES, n->version >= SPDM_1_2 ? 20 : 12, &p, why);
        if (e < 0)
                return e;
        return spdm_capabilities_read(r, n->version >= SPDM_1_3 && p[2] & 1, n, why);
}

static int vca_algorithms(struct spdm_reader *r, struct spdm_negotiated *n, struct evidence_why *why) {
        const size_t fixed = 32;
        struct spdm_offer offer;
        const uint8_t *p;
        size_t size;
        int e;

        size = r->left >= fixed ? spdm_get16(r->p + 4) : fixed;
        if (size < fixed)
                return evidence_refuse(why, EVIDENCE_SHORT, "recorded NEGOTIATE_ALGORITHMS: its length says %zu, expected at least %zu", size, fixed);
        e = request_take(r, n->version, SPDM_NEGOTIATE_ALGORITHMS, size, &p, why);
        if (e < 0)
                return e;
        offer = (struct spdm_offer){
                .asyms = spdm_get32(p + 8),
                .hashes = spdm_get32(p + 12),
                .measurement_specification = p[6],
                .other_params = p[7],
                .tables = p[2],
                .ext_asyms = p[28],
                .ext_hashes = p[29],
        };
        return spdm_algorithms_read(r, &offer, n, why);
}

int spdm_vca_parse(const void *vca, size_t size, struct spdm_negotiated *ret, struct evidence_why *why) {
        struct spdm_reader r = { vca, size };
        struct spdm_negotiated n = {};
        int e;

        e = vca_version(&r, &n, why);
        if (e == 0)
                e = vca_capabilities(&r, &n, why);
        if (e == 0)
                e = vca_algorithms(&r, &n, why);
        if (e == 0)
                e = trailing_check(&r, "VCA", why);
        if (e == 0)
                *ret = n;
        return e;
}

/* ---- measurement log ---- */

int spdm_measurements_parse(const void *log, size_t size, const struct spdm_negotiated *n, struct spdm_measurements *ret, struct evidence_why *why) {
        struct spdm_reader r = { log, size };
        struct spdm_measurements m = {};

        if (size == 0)
                return spdm_short(why, "measurement log", SPDM_HEADER, 0);
        while (r.left > 0) {
                const uint8_t *request;
                uint8_t count;
                int e;

                /* A signature ends L1/L2: what comes behind it would be another log's. */
                if (m.is_signed)
                        return trailing_check(&r, "measurement log, signed", why);
                e = request_take(&r, n->version, SPDM_GET_MEASUREMENTS, r.left >= SPDM_HEADER ? spdm_get_measurements_size(n->version,
                                                                                                                           r.p[2]) : SPDM_HEADER,
                                 &request, why);
                if (e < 0)
                        return e;
                e = spdm_measurements_read(&r, n, request, &m, &count, why);
                if (e < 0)
                        return e;
                if (m.is_signed)
                        m.signed_size = (size_t) (m.signature - (const uint8_t *) log);
        }
        *ret = m;
        return 0;
}

/* ---- B and C of M1/M2 ---- */

static int challenge_parse_b(struct spdm_reader *r, const struct spdm_negotiated *n, struct evidence_why *why) {
        const uint8_t *request;
        int e;

        if (r->p[1] == SPDM_GET_DIGESTS) {
                struct spdm_digests digests;

                e = request_take(r, n->version, SPDM_GET_DIGESTS, SPDM_HEADER, &request, why);
                return e < 0 ? e : spdm_digests_read(r, n, &digests, why);
        }
        e = request_take(r, n->version, SPDM_GET_CERTIFICATE, SPDM_HEADER + 4, &request, why);
        if (e < 0)
                return e;
        return spdm_certificate_read(r, n, request[2] & 0xf, UINT16_MAX, &(struct spdm_portion){}, why);
}

int spdm_challenge_parse(const void *log, size_t size, const struct spdm_negotiated *n, struct spdm_challenge *ret, struct evidence_why *why) {
        struct spdm_reader r = { log, size };
        struct spdm_challenge c = {};
        const uint8_t *request;
        int e;

        while (r.left >= SPDM_HEADER && r.p[1] != SPDM_CHALLENGE) {
                e = challenge_parse_b(&r, n, why);
                if (e < 0)
                        return e;
        }
        e = request_take(&r, n->version, SPDM_CHALLENGE, spdm_challenge_size(n->version), &request, why);
        if (e < 0)
                return e;
        if ((request[2] & 0xf) >= EVIDENCE_SLOTS)
                return evidence_refuse(why, EVIDENCE_SLOT_MISMATCH, "recorded CHALLENGE of slot %u, expected at most %u", request[2] & 0xf,
                                       EVIDENCE_SLOTS - 1);
        e = spdm_challenge_auth_read(&r, n, request, &c, why);
        if (e < 0)
                return e;
        c.signed_size = (size_t) (c.signature - (const uint8_t *) log);
        e = trailing_check(&r, "challenge log", why);
        if (e == 0)
                *ret = c;
        return e;
}
