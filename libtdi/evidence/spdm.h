/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SPDM as far as requester and verification share it (DMTF DSP0274 1.1 to 1.3): numbers, the algorithms, and what stands in recorded
 * messages. All integers on the wire are little-endian. Nothing here allocates; everything is thread-safe. Pointers in the results point
 * into the caller's bytes.
 */
#ifndef TDI_EVIDENCE_SPDM_H
#define TDI_EVIDENCE_SPDM_H

#include <openssl/evp.h>

#include "evidence/evidence.h"
#include "evidence/reason.h"

/* versions, as in the header's first byte */
#define SPDM_1_0 0x10u
#define SPDM_1_1 0x11u
#define SPDM_1_2 0x12u
#define SPDM_1_3 0x13u

/* requests; a response is its request's code without 0x80 */
#define SPDM_GET_DIGESTS 0x81u
#define SPDM_GET_CERTIFICATE 0x82u
#define SPDM_CHALLENGE 0x83u
#define SPDM_GET_VERSION 0x84u
#define SPDM_GET_MEASUREMENTS 0xe0u
#define SPDM_GET_CAPABILITIES 0xe1u
#define SPDM_NEGOTIATE_ALGORITHMS 0xe3u
#define SPDM_RESPOND_IF_READY 0xffu
#define SPDM_ERROR 0x7fu
#define SPDM_RESPONSE(request) ((request) & 0x7fu)

/* error codes */
#define SPDM_ERROR_BUSY 0x03u
#define SPDM_ERROR_NOT_READY 0x42u
#define SPDM_ERROR_RESYNCH 0x43u

#define SPDM_HASH_MAX 64u
#define SPDM_SIGNATURE_MAX 512u
#define SPDM_OPAQUE_MAX 1024u
#define SPDM_NONCE 32u
#define SPDM_BLOCKS_MAX 254u

struct spdm_hash {
        uint32_t bit;             /* in BaseHashAlgo */
        uint32_t measurement_bit; /* in MeasurementHashAlgo */
        const char *name;         /* "sha256", as OpenSSL fetches it too */
        size_t size;              /* bytes */
};

struct spdm_asym {
        uint32_t bit; /* in BaseAsymAlgo */
        const char *name; /* "ecdsa-p384", "rsapss-3072", "rsassa-2048" */
        enum { SPDM_RSASSA, SPDM_RSAPSS, SPDM_ECDSA } scheme;
        unsigned key_bits;
        const char *curve;     /* OpenSSL's group name ("prime256v1", "secp384r1", "secp521r1"); NULL for RSA */
        size_t signature_size; /* bytes; ECDSA: r and s, big-endian, of equal length */
};

extern const struct spdm_hash spdm_hashes[];
extern const size_t spdm_n_hashes;
extern const struct spdm_asym spdm_asyms[];
extern const size_t spdm_n_asyms;
/* The one of exactly that bit, else NULL. */
const struct spdm_hash *spdm_hash_of(uint32_t bit);
const struct spdm_hash *spdm_measurement_hash_of(uint32_t bit);
const struct spdm_asym *spdm_asym_of(uint32_t bit);

/** struct spdm_negotiated - what a VCA settles */
struct spdm_negotiated {
        uint8_t version;
        uint32_t flags;       /* the responder's CAPABILITIES */
        uint8_t ct_exponent;
        uint32_t data_transfer_size, max_message_size; /* 0 before 1.2 */
        const struct spdm_hash *hash;
        const struct spdm_asym *asym;
        const struct spdm_hash *measurement_hash; /* NULL: raw bit streams only, or no measurements */
        bool opaque_format_1;
};

/** spdm_vca_parse() - read a recorded VCA. Return: 0; -EBADMSG with @why. */
int spdm_vca_parse(const void *vca, size_t size, struct spdm_negotiated *ret, struct evidence_why *why);

struct spdm_block {
        uint8_t index;      /* 1 … 254 */
        uint8_t value_type; /* DMTF: bits 0–6 what is measured, bit 7 a raw bit stream */
        const uint8_t *value;
        size_t size;
};

/** struct spdm_measurements - what a log of GET_MEASUREMENTS and MEASUREMENTS says, all of its responses together */
struct spdm_measurements {
        size_t n_blocks;
        struct spdm_block blocks[SPDM_BLOCKS_MAX]; /* in ascending order of the index, each once */
        bool is_signed;
        uint8_t slot;                 /* whose leaf signed */
        const uint8_t *requested_nonce; /* SPDM_NONCE bytes, of the signed request; NULL: not signed */
        const uint8_t *nonce;         /* SPDM_NONCE bytes, the responder's own */
        size_t signed_size;           /* of the log: everything before the signature */
        const uint8_t *signature;     /* signature_size bytes */
};

/**
 * spdm_measurements_parse() - read a recorded measurement log
 *
 * Return: 0; -EBADMSG with @why. An unsigned log is none of the errors: whoever needs the signature looks at is_signed.
 */
int spdm_measurements_parse(const void *log, size_t size, const struct spdm_negotiated *n, struct spdm_measurements *ret, struct evidence_why *why);

/** struct spdm_challenge - what CHALLENGE_AUTH says, at the end of a recorded B and C */
struct spdm_challenge {
        uint8_t slot;
        const uint8_t *requested_nonce, *nonce; /* SPDM_NONCE bytes each */
        const uint8_t *chain_hash;       /* hash->size bytes, over the slot's whole chain object */
        const uint8_t *summary;          /* measurement summary hash, hash->size bytes; NULL: not asked for */
        uint8_t summary_type;            /* what was asked for: 0 none, 1 TCB, 0xff all */
        size_t signed_size;
        const uint8_t *signature;
};
int spdm_challenge_parse(const void *log, size_t size, const struct spdm_negotiated *n, struct spdm_challenge *ret, struct evidence_why *why);

/* The responder's signatures: what they are of, and the text that 1.2 and later mix in. */
#define SPDM_CONTEXT_CHALLENGE "responder-challenge_auth signing"
#define SPDM_CONTEXT_MEASUREMENTS "responder-measurements signing"

struct spdm_part {
        const void *data;
        size_t size;
};

/**
 * spdm_signature_check() - is it the signature of the key over the transcript?
 * @context:   SPDM_CONTEXT_*; mixed in from 1.2 on (DSP0274, "Signature generation")
 * @parts:     the transcript in its order; the caller puts the VCA first where the version has it in
 * @signature: n->asym->signature_size bytes
 *
 * Return: 0; -EBADMSG with @why (wrong-key, bad-signature); -ENOMEM. Blocks for milliseconds: not for an event loop.
 */
int spdm_signature_check(EVP_PKEY *key, const struct spdm_negotiated *n, const char *context, const struct spdm_part *parts, size_t n_parts,
                         const void *signature, struct evidence_why *why);

#endif
