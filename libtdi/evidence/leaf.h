/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What DSP0274 demands of the certificate whose key signs for a device, and what DMTF's own OIDs say in it. */
#ifndef TDI_EVIDENCE_LEAF_H
#define TDI_EVIDENCE_LEAF_H

#include <openssl/x509.h>

#include "evidence/chain-der.h"
#include "evidence/reason.h"
#include "evidence/spdm.h"

#define DMTF_OID_DEVICE_INFO "1.3.6.1.4.1.412.274.1"
#define DMTF_OID_HARDWARE_IDENTITY "1.3.6.1.4.1.412.274.2"
#define DMTF_OID_EKU_RESPONDER "1.3.6.1.4.1.412.274.3"
#define DMTF_OID_EKU_REQUESTER "1.3.6.1.4.1.412.274.4"
#define DMTF_OID_MUTABLE "1.3.6.1.4.1.412.274.5"
#define DMTF_OID_SPDM "1.3.6.1.4.1.412.274.6"

/** struct evidence_dmtf - DMTF's OIDs in a certificate */
struct evidence_dmtf {
        char device[DER_TEXT_MAX]; /* id-DMTF-device-info: "manufacturer:product:serial"; empty: there is none */
        bool hardware_identity;    /* the key is of the hardware, and never changes */
        bool mutable_certificate;
};

/* Of any certificate. 0; -EBADMSG with @why (leaf-form). */
int evidence_dmtf_decode(const X509 *x, struct evidence_dmtf *ret, struct evidence_why *why);

/**
 * evidence_leaf_check() - is it a leaf as DSP0274 wants it?
 * @asym:      the negotiated algorithm; NULL: not known, then the key is not compared
 * @version:   the negotiated one; 0: not known. From 1.3 on there must be basic constraints
 * @responder: the extended key usage must be there and name SPDM responders. Without, it may be absent or name neither role, as DSP0274
 *             has it; one that names requesters only is refused anyway
 *
 * Return: 0; -EBADMSG with @why (leaf-form, key-usage, wrong-key).
 */
int evidence_leaf_check(X509 *x, const struct spdm_asym *asym, uint8_t version, bool responder, struct evidence_why *why);

#endif
