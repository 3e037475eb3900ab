/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The names of the causes, and the sentence that goes with one. */
#include "evidence/reason.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const names[_EVIDENCE_REASON_MAX] = {
        [EVIDENCE_OK] = "ok",
        [EVIDENCE_TRANSPORT] = "transport",
        [EVIDENCE_TIMEOUT] = "timeout",
        [EVIDENCE_BUSY] = "busy",
        [EVIDENCE_NOT_READY] = "not-ready",
        [EVIDENCE_RESYNCH] = "resynch",
        [EVIDENCE_DEVICE_ERROR] = "device-error",
        [EVIDENCE_SHORT] = "short",
        [EVIDENCE_TRAILING] = "trailing",
        [EVIDENCE_TOO_LONG] = "too-long",
        [EVIDENCE_UNEXPECTED] = "unexpected",
        [EVIDENCE_WRONG_VERSION] = "wrong-version",
        [EVIDENCE_NO_VERSION] = "no-version",
        [EVIDENCE_DOWNGRADE] = "downgrade",
        [EVIDENCE_CT_EXPONENT] = "ct-exponent",
        [EVIDENCE_CAPABILITY] = "capability",
        [EVIDENCE_NO_ALGORITHM] = "no-algorithm",
        [EVIDENCE_ALGORITHM_SELECTION] = "algorithm-selection",
        [EVIDENCE_EMPTY_SLOT] = "empty-slot",
        [EVIDENCE_SLOT_MISMATCH] = "slot-mismatch",
        [EVIDENCE_PORTION] = "portion",
        [EVIDENCE_CHAIN_CHANGED] = "chain-changed",
        [EVIDENCE_DIGEST_MISMATCH] = "digest-mismatch",
        [EVIDENCE_OPAQUE_LENGTH] = "opaque-length",
        [EVIDENCE_BLOCK_COUNT] = "block-count",
        [EVIDENCE_BLOCK_INDEX] = "block-index",
        [EVIDENCE_BLOCK_FORM] = "block-form",
        [EVIDENCE_RECORD_LENGTH] = "record-length",
        [EVIDENCE_CONTENT_CHANGED] = "content-changed",
        [EVIDENCE_NO_SIGNATURE] = "no-signature",
        [EVIDENCE_BAD_SIGNATURE] = "bad-signature",
        [EVIDENCE_WRONG_NONCE] = "wrong-nonce",
        [EVIDENCE_WRONG_CHAIN_HASH] = "wrong-chain-hash",
        [EVIDENCE_MEASUREMENT_SUMMARY] = "measurement-summary",
        [EVIDENCE_NO_CHAIN] = "no-chain",
        [EVIDENCE_CHAIN_FORM] = "chain-form",
        [EVIDENCE_CERTIFICATE_FORM] = "certificate-form",
        [EVIDENCE_TOO_MANY_CERTIFICATES] = "too-many-certificates",
        [EVIDENCE_ROOT_HASH] = "root-hash",
        [EVIDENCE_FOREIGN_ROOT] = "foreign-root",
        [EVIDENCE_CHAIN_SIGNATURE] = "chain-signature",
        [EVIDENCE_EXPIRED] = "expired",
        [EVIDENCE_NOT_YET_VALID] = "not-yet-valid",
        [EVIDENCE_NOT_A_CA] = "not-a-ca",
        [EVIDENCE_NAME_CONSTRAINT] = "name-constraint",
        [EVIDENCE_KEY_SIZE] = "key-size",
        [EVIDENCE_WEAK_HASH] = "weak-hash",
        [EVIDENCE_UNKNOWN_CRITICAL] = "unknown-critical",
        [EVIDENCE_KEY_USAGE] = "key-usage",
        [EVIDENCE_LEAF_FORM] = "leaf-form",
        [EVIDENCE_WRONG_KEY] = "wrong-key",
        [EVIDENCE_DICE] = "dice",
        [EVIDENCE_MISMATCH] = "mismatch",
        [EVIDENCE_MISSING] = "missing",
        [EVIDENCE_UNLISTED] = "unlisted",
        [EVIDENCE_NO_MEASUREMENTS] = "no-measurements",
        [EVIDENCE_TOO_OLD] = "too-old",
        [EVIDENCE_WRITABLE_FILE] = "writable-file",
};

const char *evidence_reason_to_string(enum evidence_reason reason) {
        return reason >= 0 && reason < _EVIDENCE_REASON_MAX ? names[reason] : "?";
}

enum evidence_reason evidence_reason_from_string(const char *name) {
        for (int i = 0; name && i < _EVIDENCE_REASON_MAX; i++)
                if (streq(names[i], name))
                        return (enum evidence_reason) i;
        return _EVIDENCE_REASON_INVALID;
}

int(evidence_refuse)(struct evidence_why *why, enum evidence_reason reason, const char *format, ...) {
        va_list ap;

        if (!why || why->reason != EVIDENCE_OK)
                return -EBADMSG;
        why->reason = reason;
        va_start(ap, format);
        vsnprintf(why->text, sizeof(why->text), format, ap);
        va_end(ap);
        return -EBADMSG;
}
