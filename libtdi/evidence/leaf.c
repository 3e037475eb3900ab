/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The leaf's rules (DSP0274, "Leaf certificates" and "SPDM certificate requirements"). */
#include "evidence/leaf.h"

#include <openssl/x509v3.h>

#include "evidence/anchors.h"

/* The value of an extension, checked to be DER; -ENOENT. */
static int find_extension(const X509 *x, const char *wanted, struct der *ret, struct evidence_why *why) {
        for (int i = 0; i < X509_get_ext_count(x); i++) {
                X509_EXTENSION *e = X509_get_ext(x, i);
                const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(e);
                char oid[DER_OID_TEXT] = "";

                OBJ_obj2txt(oid, sizeof(oid), X509_EXTENSION_get_object(e), 1);
                if (!streq(oid, wanted))
                        continue;
                *ret = der_of(ASN1_STRING_get0_data(value), (size_t) ASN1_STRING_length(value));
                if (der_check(*ret) < 0)
                        return evidence_refuse(why, EVIDENCE_LEAF_FORM, "extension %s is not DER", wanted);
                return 0;
        }
        return -ENOENT;
}

/* "manufacturer:product:serial" */
static bool is_device_info(const char *text) {
        const char *product = strchr(text, ':'), *serial = product ? strchr(product + 1, ':') : NULL;

        return serial && product > text && serial > product + 1 && serial[1];
}

/* OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }, without its own tag */
static int decode_other_name(struct der name, char device[static DER_TEXT_MAX], struct evidence_why *why) {
        char oid[DER_OID_TEXT];
        struct der id, value, text;

        if (der_take(&name, DER_OID, &id) < 0 || der_take(&name, DER_CONTEXT_CONSTRUCTED(0), &value) < 0 || name.p != name.end)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "an otherName of the subject alternative name is malformed");
        if (der_oid(id, oid) < 0 || !streq(oid, DMTF_OID_DEVICE_INFO))
                return 0;
        if (*device)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "two DMTF device infos in one certificate");
        if (der_take(&value, DER_UTF8_STRING, &text) < 0 || value.p != value.end || der_text(text, device) < 0 || !is_device_info(device)) {
                *device = 0;
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the DMTF device info is not a UTF-8 text \"manufacturer:product:serial\"");
        }
        return 0;
}

static int decode_names(const X509 *x, struct evidence_dmtf *d, struct evidence_why *why) {
        struct der value, names, name;
        unsigned tag;
        int r;

        r = find_extension(x, "2.5.29.17", &value, why);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (der_take(&value, DER_SEQUENCE, &names) < 0 || value.p != value.end)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the subject alternative name is malformed");
        while (names.p < names.end) {
                if (der_next(&names, &tag, &name) < 0)
                        return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the subject alternative name is malformed");
                r = tag == DER_CONTEXT_CONSTRUCTED(0) ? decode_other_name(name, d->device, why) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* id-spdm-cert-oids: SEQUENCE OF SEQUENCE { OBJECT IDENTIFIER, OCTET STRING OPTIONAL } */
static int decode_oids(const X509 *x, struct evidence_dmtf *d, struct evidence_why *why) {
        struct der value, list, one, id, definition;
        int r;

        r = find_extension(x, DMTF_OID_SPDM, &value, why);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (der_take(&value, DER_SEQUENCE, &list) < 0 || value.p != value.end)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "DMTF's extension is no list");
        while (list.p < list.end) {
                char oid[DER_OID_TEXT] = "";

                if (der_take(&list, DER_SEQUENCE, &one) < 0 || der_take(&one, DER_OID, &id) < 0)
                        return evidence_refuse(why, EVIDENCE_LEAF_FORM, "DMTF's extension has an entry without OID");
                (void) der_take(&one, DER_OCTET_STRING, &definition);
                if (one.p != one.end || der_oid(id, oid) < 0)
                        return evidence_refuse(why, EVIDENCE_LEAF_FORM, "DMTF's extension has an entry with more than OID and definition");
                d->hardware_identity |= streq(oid, DMTF_OID_HARDWARE_IDENTITY);
                d->mutable_certificate |= streq(oid, DMTF_OID_MUTABLE);
        }
        return 0;
}

int evidence_dmtf_decode(const X509 *x, struct evidence_dmtf *ret, struct evidence_why *why) {
        struct evidence_dmtf d = {};
        int r;

        r = decode_names(x, &d, why);
        if (r < 0)
                return r;
        r = decode_oids(x, &d, why);
        if (r < 0)
                return r;
        *ret = d;
        return 0;
}

static int check_extended_usage(const X509 *x, bool wanted, struct evidence_why *why) {
        bool responder = false, requester = false;
        struct der value, list, id;
        int r;

        r = find_extension(x, "2.5.29.37", &value, why);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r == 0) {
                if (der_take(&value, DER_SEQUENCE, &list) < 0 || value.p != value.end)
                        return evidence_refuse(why, EVIDENCE_KEY_USAGE, "the leaf's extended key usage is malformed");
                while (list.p < list.end) {
                        char oid[DER_OID_TEXT] = "";

                        if (der_take(&list, DER_OID, &id) < 0 || der_oid(id, oid) < 0)
                                return evidence_refuse(why, EVIDENCE_KEY_USAGE, "the leaf's extended key usage is malformed");
                        responder |= streq(oid, DMTF_OID_EKU_RESPONDER);
                        requester |= streq(oid, DMTF_OID_EKU_REQUESTER);
                }
        }
        if (requester && !responder)
                return evidence_refuse(why, EVIDENCE_KEY_USAGE, "the leaf's extended key usage is for SPDM requesters only, expected one for responders (%s)",
                                       DMTF_OID_EKU_RESPONDER);
        if (wanted && !responder)
                return evidence_refuse(why, EVIDENCE_KEY_USAGE, "the leaf's extended key usage does not have SPDM responders (%s)", DMTF_OID_EKU_RESPONDER);
        return 0;
}

static int check_algorithm(const X509 *x, const struct spdm_asym *asym, struct evidence_why *why) {
        EVP_PKEY *key = X509_get0_pubkey(x);
        const char *curve;
        char text[96];

        if (key && asym->scheme == SPDM_ECDSA) {
                curve = EVP_PKEY_get_base_id(key) == EVP_PKEY_EC ? evidence_curve_of(x) : NULL;
                if (curve && streq(curve, asym->curve))
                        return 0;
        } else if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) == (int) asym->key_bits)
                return 0;
        evidence_key_text(x, text, sizeof(text));
        return evidence_refuse(why, EVIDENCE_WRONG_KEY, "the leaf's key is %s, negotiated was %s", text, asym->name);
}

int evidence_leaf_check(X509 *x, const struct spdm_asym *asym, uint8_t version, bool responder, struct evidence_why *why) {
        uint32_t flags = X509_get_extension_flags(x);
        int r;

        if (X509_get_version(x) != X509_VERSION_3)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the leaf is an X.509 certificate of version %ld, expected 3", X509_get_version(x) + 1);
        if (flags & EXFLAG_INVALID)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the leaf has an extension that cannot be decoded");
        if (X509_NAME_entry_count(X509_get_subject_name(x)) == 0)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the leaf has no subject");
        if (flags & EXFLAG_CA)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the leaf is a CA by its basic constraints");
        if (!(flags & EXFLAG_BCONS) && version >= SPDM_1_3)
                return evidence_refuse(why, EVIDENCE_LEAF_FORM, "the leaf has no basic constraints, from SPDM 1.3 on it must");
        if (!(flags & EXFLAG_KUSAGE) || !(X509_get_key_usage(x) & KU_DIGITAL_SIGNATURE))
                return evidence_refuse(why, EVIDENCE_KEY_USAGE, "the leaf's key usage is %s", flags & EXFLAG_KUSAGE ? "not for digital signatures" : "not there");
        r = check_extended_usage(x, responder, why);
        if (r < 0)
                return r;
        return asym ? check_algorithm(x, asym, why) : 0;
}
