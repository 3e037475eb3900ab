/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SPDM's certificate chain object (DSP0274, "Certificates and certificate chains"): taken apart into certificates, and written without the
 * SPDM header for tools that know X.509 only. Whether the chain is to be trusted says anchors.h. Functions are thread-safe; a chain may be
 * read by several threads.
 */
#ifndef TDI_EVIDENCE_CHAIN_H
#define TDI_EVIDENCE_CHAIN_H

#include <openssl/x509.h>

#include "evidence/evidence.h"
#include "evidence/reason.h"
#include "evidence/spdm.h"

#define EVIDENCE_CHAIN_MAX UINT16_MAX /* bytes: the length field's */
#define EVIDENCE_CERTIFICATES_MAX 16u

struct evidence_chain {
        uint8_t *data; /* a copy of the whole object */
        size_t size;
        const char *hash;                 /* of the root hash: "sha384" */
        uint8_t root_hash[SPDM_HASH_MAX]; /* as the header has it */
        size_t hash_size;
        bool has_root;                    /* it begins with the certificate that the root hash is of */
        size_t n;
        X509 *certificates[EVIDENCE_CERTIFICATES_MAX]; /* the root's end first, the leaf last */
};

/**
 * evidence_chain_parse() - take a chain object apart
 * @hash: the negotiated one; NULL: not known, then the one whose length and value fit is taken
 *
 * The first certificate is the root that the header's hash is of, or one that the root has issued (then has_root is false, and whoever
 * verifies must find the root among the anchors). A self-issued first certificate with another hash is refused.
 *
 * Return: 0; -EBADMSG with @why (no-chain, chain-form, certificate-form, too-many-certificates, root-hash); -ENOMEM.
 */
int evidence_chain_parse(const void *data, size_t size, const struct spdm_hash *hash, struct evidence_chain **ret, struct evidence_why *why);
struct evidence_chain *evidence_chain_free(struct evidence_chain *c);
DEFINE_CLEANUP(struct evidence_chain *, evidence_chain_free);
#define _cleanup_evidence_chain_ _cleanup_(evidence_chain_freep)

/* The certificates one behind the other, the root's end first; free() the bytes. The PEM text has a line with subject and issuer before each. 0; -ENOMEM. */
int evidence_chain_to_der(const struct evidence_chain *c, uint8_t **ret, size_t *ret_size);
int evidence_chain_to_pem(const struct evidence_chain *c, char **ret, size_t *ret_size);

/* One DER certificate that fills the bytes, checked to its innermost element, no extension twice. 0; -EBADMSG with @why; -ENOMEM. */
int evidence_certificate_parse(const void *der, size_t size, X509 **ret, struct evidence_why *why);
static inline void evidence_x509_freep(X509 **x) {
        X509_free(*x);
}
/* A name as RFC 4514 has it, in ASCII with everything else escaped, cut at the size. */
void evidence_name_text(const X509_NAME *name, char *text, size_t size);

#endif
