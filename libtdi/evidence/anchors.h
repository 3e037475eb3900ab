/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Trust anchors, and whether a chain leads to one: RFC 5280 as OpenSSL does it, with a time that is given, no trust store of the system, no
 * network and no revocation lists. What an anchor may sign for is the caller's to decide. Anchors are not changed any more once they are in
 * use; then several threads may verify with them.
 */
#ifndef TDI_EVIDENCE_ANCHORS_H
#define TDI_EVIDENCE_ANCHORS_H

#include <time.h>

#include "evidence/chain.h"

#define EVIDENCE_ANCHORS_MAX 256u
#define EVIDENCE_ANCHOR_FILE_MAX (1u << 20) /* bytes */

struct evidence_anchors;

/* 0; -ENOMEM */
int evidence_anchors_new(struct evidence_anchors **ret);
struct evidence_anchors *evidence_anchors_free(struct evidence_anchors *a);
DEFINE_CLEANUP(struct evidence_anchors *, evidence_anchors_free);
#define _cleanup_evidence_anchors_ _cleanup_(evidence_anchors_freep)

/**
 * evidence_anchors_add_pem() - add all certificates of a PEM text, or none
 * @name: what results call them; need not be unique
 *
 * Each must be a CA certificate; a root or an intermediate. Anything else that is PEM (a private key, say) is refused; text between is not
 * looked at. One that is there already keeps its first name.
 *
 * Return: 0; -EBADMSG with @why (certificate-form, not-a-ca, too-many-certificates); -ENOMEM.
 */
int evidence_anchors_add_pem(struct evidence_anchors *a, const char *name, const char *pem, size_t size, struct evidence_why *why);
/* The same from a regular file that not everybody may write to (writable-file). Also -EINVAL, it is no file; -EFBIG; -errno of opening and reading. */
int evidence_anchors_add_file(struct evidence_anchors *a, const char *name, const char *path, struct evidence_why *why);
size_t evidence_anchors_count(const struct evidence_anchors *a);

struct evidence_chain_rules {
        time_t time;      /* to verify at, seconds since 1970 */
        unsigned rsa_min; /* bits; 0: 2048, and never less */
        unsigned ec_min;  /* bits of the curve; 0: 256 */
};

/** struct evidence_trust - how a chain leads to an anchor */
struct evidence_trust {
        const char *anchor;     /* its name; the anchors' own */
        size_t first;           /* certificates from this one to the leaf were verified; those before it are the anchor, or above it */
        bool root_hash_checked; /* the header's root hash is that of a certificate that is here */
};

/**
 * evidence_anchors_verify() - does the chain lead to an anchor?
 *
 * Each certificate must be issued by the one before it, have a key and a signature hash that are strong enough, be valid at the time, and
 * have no critical extension but those that are evaluated: basic constraints, key usage, extended key usage, names and name constraints,
 * DiceTcbInfo, DiceMultiTcbInfo and DMTF's own. What concerns the leaf alone is leaf.h's.
 *
 * Return: 0; -EBADMSG with @why; -ENOMEM. Blocks for milliseconds.
 */
int evidence_anchors_verify(const struct evidence_anchors *a, const struct evidence_chain *c, const struct evidence_chain_rules *rules,
                            struct evidence_trust *ret, struct evidence_why *why);

/* OpenSSL's name of its key's curve ("secp384r1"), NULL: none of P-256, P-384, P-521. Static text. */
const char *evidence_curve_of(const X509 *x);
/* What key it has: "ecdsa-p384", "rsa-3072"; what is neither by OpenSSL's name. */
void evidence_key_text(const X509 *x, char *text, size_t size);

#endif
