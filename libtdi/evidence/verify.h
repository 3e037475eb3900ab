/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Judges what a device said of itself: chains, signatures, freshness, measurements. The result says each thing that was checked, and each
 * that was not; nothing is well because it was not there. docs/evidence.md describes it. No state, no network, no clock unless asked.
 */
#ifndef TDI_EVIDENCE_VERIFY_H
#define TDI_EVIDENCE_VERIFY_H

#include "evidence/anchors.h"
#include "evidence/evidence.h"
#include "evidence/references.h"
#include "model/json.h"

#define EVIDENCE_RESULT_SCHEMA "tdid-evidence/1"

/** struct evidence_rules - what is wanted; all zero but for slot: a chain to nowhere is refused, nothing else is wanted */
struct evidence_rules {
        const struct evidence_anchors *anchors;       /* NULL: none, which no chain leads to */
        const struct evidence_references *references; /* NULL: measurements are listed, and not judged */
        int slot;                /* the one that must sign and lead to an anchor; -1: whichever did */
        time_t time;             /* to verify at; 0: now */
        uint64_t max_age_sec;    /* at that time; 0: any */
        const uint8_t *nonce;    /* EVIDENCE_NONCE bytes that the signature must be over; NULL: that of the evidence, where it has one */
        bool need_signature;     /* measurements must be there, and signed */
        bool need_challenge;     /* CHALLENGE_AUTH must be there */
        bool need_responder_eku; /* the leaf's extended key usage must name SPDM responders */
        unsigned rsa_min, ec_min; /* bits; 0: 2048 and 256, and never less */
};

/**
 * evidence_verify() - judge evidence
 * @ret: the result, EVIDENCE_RESULT_SCHEMA; "ok", and if not, the "reason" and "text" of the first thing that is wrong. Also when it is refused
 *
 * Return: 0, whatever the verdict; -ENOMEM. Blocks for milliseconds: not for an event loop. Thread-safe.
 */
int evidence_verify(const struct evidence *e, const struct evidence_rules *rules, struct json_object **ret);

#endif
