/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Why evidence was not taken: one name for each cause, stable, as it stands in results, in errors and in the journal. What exactly was
 * found, and what was expected, says the text beside it.
 */
#ifndef TDI_EVIDENCE_REASON_H
#define TDI_EVIDENCE_REASON_H

#include "util/util.h"

enum evidence_reason {
        EVIDENCE_OK,

        /* the way to the device */
        EVIDENCE_TRANSPORT,            /* the mailbox or the connection failed */
        EVIDENCE_TIMEOUT,              /* the device did not answer in time, or not often enough */
        EVIDENCE_BUSY,                 /* ERROR(Busy) until nobody asked any more */
        EVIDENCE_NOT_READY,            /* ERROR(ResponseNotReady) until nobody asked any more, or with senseless times */
        EVIDENCE_RESYNCH,              /* ERROR(RequestResynch) again and again */
        EVIDENCE_DEVICE_ERROR,         /* another ERROR */

        /* the messages (DSP0274) */
        EVIDENCE_SHORT,                /* a message ends before what it must hold */
        EVIDENCE_TRAILING,             /* a message goes on behind what it can hold */
        EVIDENCE_TOO_LONG,             /* a length of the device leads past its limit */
        EVIDENCE_UNEXPECTED,           /* another response than the one asked for */
        EVIDENCE_WRONG_VERSION,        /* the header's version is not the negotiated one */
        EVIDENCE_NO_VERSION,           /* no version in common */
        EVIDENCE_DOWNGRADE,            /* the capabilities or the version are not what a higher one would give */
        EVIDENCE_CT_EXPONENT,          /* a time exponent beyond what anybody waits for */
        EVIDENCE_CAPABILITY,           /* it cannot do what is needed, or its flags contradict each other */
        EVIDENCE_NO_ALGORITHM,         /* no algorithm in common, or the device selected one that was not offered */
        EVIDENCE_ALGORITHM_SELECTION,  /* it selected several, or lied about the length of the selection */
        EVIDENCE_EMPTY_SLOT,           /* the slot has no certificate chain */
        EVIDENCE_SLOT_MISMATCH,        /* the answer is about another slot */
        EVIDENCE_PORTION,              /* portions of a chain that do not add up: empty, past the end, remainder that grows */
        EVIDENCE_CHAIN_CHANGED,        /* it changed between two portions, or between digest and chain */
        EVIDENCE_DIGEST_MISMATCH,      /* the chain has another digest than the one that was told */
        EVIDENCE_OPAQUE_LENGTH,        /* opaque data longer than allowed or than the message */
        EVIDENCE_BLOCK_COUNT,          /* number and lengths of the measurement blocks contradict each other */
        EVIDENCE_BLOCK_INDEX,          /* a block with an index that is reserved, was not asked for, or comes twice */
        EVIDENCE_BLOCK_FORM,           /* a block that is not DMTF's, or whose lengths contradict each other */
        EVIDENCE_RECORD_LENGTH,        /* the measurement record's length is not that of its blocks */
        EVIDENCE_CONTENT_CHANGED,      /* the measurements changed while they were read */

        /* signatures */
        EVIDENCE_NO_SIGNATURE,         /* nothing is signed that must be */
        EVIDENCE_BAD_SIGNATURE,        /* the signature is not that of the leaf's key over the transcript */
        EVIDENCE_WRONG_NONCE,          /* signed for another nonce: a recording */
        EVIDENCE_WRONG_CHAIN_HASH,     /* CHALLENGE_AUTH speaks of another chain */
        EVIDENCE_MEASUREMENT_SUMMARY,  /* the summary hash is not that of the measurements */

        /* certificates */
        EVIDENCE_NO_CHAIN,             /* no chain at all */
        EVIDENCE_CHAIN_FORM,           /* the SPDM chain's header or DER contradict themselves */
        EVIDENCE_CERTIFICATE_FORM,     /* not an X.509 certificate */
        EVIDENCE_TOO_MANY_CERTIFICATES,
        EVIDENCE_ROOT_HASH,            /* the header's root hash is not that of the first certificate */
        EVIDENCE_FOREIGN_ROOT,         /* it leads to no anchor */
        EVIDENCE_CHAIN_SIGNATURE,      /* a certificate is not signed by the one before it */
        EVIDENCE_EXPIRED,
        EVIDENCE_NOT_YET_VALID,
        EVIDENCE_NOT_A_CA,             /* an issuer that is none, or a path too long */
        EVIDENCE_NAME_CONSTRAINT,
        EVIDENCE_KEY_SIZE,             /* a key smaller than allowed (RSA-1024), or of a kind that is not */
        EVIDENCE_WEAK_HASH,            /* a certificate signed with MD5 or SHA-1 */
        EVIDENCE_UNKNOWN_CRITICAL,     /* a critical extension that nobody here understands */
        EVIDENCE_KEY_USAGE,            /* the leaf is not for signatures, or not for SPDM responders */
        EVIDENCE_LEAF_FORM,            /* DSP0274's other rules for leaves: version, CA bit, subject */
        EVIDENCE_WRONG_KEY,            /* the leaf's key is not of the negotiated algorithm */
        EVIDENCE_DICE,                 /* DiceTcbInfo that cannot be decoded */

        /* reference values */
        EVIDENCE_MISMATCH,             /* a measurement differs from its reference value */
        EVIDENCE_MISSING,              /* a measurement that the reference values want is not there */
        EVIDENCE_UNLISTED,             /* a measurement that they do not list, though they are complete */
        EVIDENCE_NO_MEASUREMENTS,
        EVIDENCE_TOO_OLD,              /* older than the policy takes */
        EVIDENCE_WRITABLE_FILE,        /* anchors or reference values that everybody may write to */

        _EVIDENCE_REASON_MAX,
        _EVIDENCE_REASON_INVALID = -EINVAL,
};

/* "bad-signature"; "?" for what is none. Static text. */
const char *evidence_reason_to_string(enum evidence_reason reason);
/* _EVIDENCE_REASON_INVALID if there is no such name. */
enum evidence_reason evidence_reason_from_string(const char *name);

/** struct evidence_why - the first thing that is wrong: its name, and a sentence with what was found and what was expected */
struct evidence_why {
        enum evidence_reason reason;
        char text[384];
};

/* Fills in @why unless it is NULL or filled in already. Return: -EBADMSG, always, for `return evidence_refuse(…)`. */
int evidence_refuse(struct evidence_why *why, enum evidence_reason reason, const char *format, ...) _printf_(3, 4);
/* That it always fails is to be seen where it is called: static analysis looks at one file at a time. */
static inline int evidence_refused(_unused_ int r) {
        return -EBADMSG;
}
#define evidence_refuse(...) evidence_refused(evidence_refuse(__VA_ARGS__))

#endif
