/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single SPDM messages: what a response says, and whether it can. The requester reads those that come with these functions, the
 * transcript parsers those that were recorded, so that nothing is taken live that would be refused afterwards.
 *
 * Each reads one message from the front of the bytes at hand and moves past it; what is behind it is the caller's. All return 0, or
 * -EBADMSG with @why. Pointers in the results point into the bytes.
 */
#ifndef TDI_EVIDENCE_SPDM_MESSAGE_H
#define TDI_EVIDENCE_SPDM_MESSAGE_H

#include "evidence/spdm.h"

#define SPDM_HEADER 4u
#define SPDM_CONTEXT 8u /* the requester's context of 1.3 */

/* of a responder's CAPABILITIES */
#define SPDM_CAP_CERT 0x00000002u
#define SPDM_CAP_CHAL 0x00000004u
#define SPDM_CAP_MEAS 0x00000018u
#define SPDM_CAP_MEAS_SIG 0x00000010u
#define SPDM_CAP_MEAS_FRESH 0x00000020u
#define SPDM_CAP_ENCRYPT 0x00000040u
#define SPDM_CAP_MAC 0x00000080u
#define SPDM_CAP_MUT_AUTH 0x00000100u
#define SPDM_CAP_KEY_EX 0x00000200u
#define SPDM_CAP_PSK 0x00000c00u
#define SPDM_CAP_ENCAP 0x00001000u
#define SPDM_CAP_HBEAT 0x00002000u
#define SPDM_CAP_KEY_UPD 0x00004000u
#define SPDM_CAP_CLEAR_HANDSHAKE 0x00008000u
#define SPDM_CAP_PUB_KEY_ID 0x00010000u
#define SPDM_CAP_CHUNK 0x00020000u
#define SPDM_CAP_EP_INFO 0x00c00000u
#define SPDM_CAP_EVENT 0x02000000u
#define SPDM_CAP_MULTI_KEY 0x0c000000u
#define SPDM_CAP_MULTI_KEY_ONLY 0x04000000u

#define SPDM_DATA_TRANSFER_SIZE_MIN 42u
#define SPDM_CT_EXPONENT_MAX 24u /* 2^24 µs, 17 s: more than any signature takes */

#define SPDM_OPAQUE_FORMAT_1 0x02u
#define SPDM_MEASUREMENT_SPECIFICATION_DMTF 0x01u
#define SPDM_MEASURE_SIGNED 0x01u /* attributes of GET_MEASUREMENTS */
#define SPDM_MEASURE_RAW 0x02u
#define SPDM_MEASURE_COUNT 0x00u /* operations */
#define SPDM_MEASURE_ALL 0xffu

struct spdm_reader {
        const uint8_t *p;
        size_t left;
};

static inline uint16_t spdm_get16(const uint8_t *p) {
        return (uint16_t) (p[0] | p[1] << 8);
}

static inline uint32_t spdm_get32(const uint8_t *p) {
        return spdm_get16(p) | (uint32_t) spdm_get16(p + 2) << 16;
}

/* The next @size bytes, or NULL where there are fewer. */
static inline const uint8_t *spdm_take(struct spdm_reader *r, size_t size) {
        const uint8_t *p = r->p;

        if (r->left < size)
                return NULL;
        r->p += size;
        r->left -= size;
        return p;
}

/* Refuses with EVIDENCE_SHORT, and says what was looked for. */
static inline int spdm_short(struct evidence_why *why, const char *what, size_t wanted, size_t has) {
        return evidence_refuse(why, EVIDENCE_SHORT, "%s: %zu bytes, expected at least %zu", what, has, wanted);
}

/* Takes a response's header: of that version and code. @name: the response's, for the text. */
int spdm_header_read(struct spdm_reader *r, uint8_t version, uint8_t code, const char *name, const uint8_t **ret, struct evidence_why *why);

struct spdm_versions {
        size_t n;
        const uint8_t *entries; /* n little-endian u16: major, minor, update, alpha */
};
int spdm_version_read(struct spdm_reader *r, struct spdm_versions *ret, struct evidence_why *why);
/* Is it one of them? As in headers: 0x12. */
bool spdm_versions_have(const struct spdm_versions *v, uint8_t version);

/* Fills in flags, exponent and sizes of @n, whose version is set. @asked_algorithms: the request asked 1.3 for the supported algorithms too. */
int spdm_capabilities_read(struct spdm_reader *r, bool asked_algorithms, struct spdm_negotiated *n, struct evidence_why *why);

/** struct spdm_offer - what NEGOTIATE_ALGORITHMS offered */
struct spdm_offer {
        uint32_t hashes, asyms;
        uint8_t measurement_specification, other_params, tables, ext_asyms, ext_hashes;
};
int spdm_algorithms_read(struct spdm_reader *r, const struct spdm_offer *offer, struct spdm_negotiated *n, struct evidence_why *why);

struct spdm_digests {
        uint8_t mask; /* slots that have a chain */
        const uint8_t *digests[EVIDENCE_SLOTS];
};
int spdm_digests_read(struct spdm_reader *r, const struct spdm_negotiated *n, struct spdm_digests *ret, struct evidence_why *why);

struct spdm_portion {
        const uint8_t *data;
        size_t size, remainder;
};
/* @max: what was asked for. */
int spdm_certificate_read(struct spdm_reader *r, const struct spdm_negotiated *n, uint8_t slot, size_t max, struct spdm_portion *ret, struct evidence_why *why);

/* @request: the whole CHALLENGE, checked to be one. Fills in all but signed_size. */
int spdm_challenge_auth_read(struct spdm_reader *r, const struct spdm_negotiated *n, const uint8_t *request, struct spdm_challenge *ret,
                             struct evidence_why *why);

/* The end of both signed messages: opaque data, the requester's context again, and the signature if there has to be one. */
int spdm_tail_read(struct spdm_reader *r, const struct spdm_negotiated *n, const char *name, const uint8_t *context, bool is_signed,
                   const uint8_t **ret_signature, struct evidence_why *why);

/* Bytes of a GET_MEASUREMENTS with that Param1, of a CHALLENGE. */
static inline size_t spdm_get_measurements_size(uint8_t version, uint8_t attributes) {
        return SPDM_HEADER + (attributes & SPDM_MEASURE_SIGNED ? SPDM_NONCE + 1 : 0) + (version >= SPDM_1_3 ? SPDM_CONTEXT : 0);
}

static inline size_t spdm_challenge_size(uint8_t version) {
        return SPDM_HEADER + SPDM_NONCE + (version >= SPDM_1_3 ? SPDM_CONTEXT : 0);
}

/*
 * @request: the whole GET_MEASUREMENTS, checked to be one. The response's blocks are merged into those of @ret; a signature is noted there,
 * all but signed_size. *ret_count: how many indices the device says it has, if that was asked for.
 */
int spdm_measurements_read(struct spdm_reader *r, const struct spdm_negotiated *n, const uint8_t *request, struct spdm_measurements *ret,
                           uint8_t *ret_count, struct evidence_why *why);

#endif
