/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A responder's signature over a transcript (DSP0274, "Signature generation and verification"). */
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "evidence/spdm-message.h"

#define PREFIX 100u /* bytes: the version four times, zeros, the context */

DEFINE_CLEANUP(EVP_MD_CTX *, EVP_MD_CTX_free);
DEFINE_CLEANUP(EVP_PKEY_CTX *, EVP_PKEY_CTX_free);
DEFINE_CLEANUP(EVP_MD *, EVP_MD_free);
DEFINE_CLEANUP(ECDSA_SIG *, ECDSA_SIG_free);

static int key_check(EVP_PKEY *key, const struct spdm_asym *asym, struct evidence_why *why) {
        bool is_ec = EVP_PKEY_is_a(key, "EC");
        char curve[64] = "";

        if (is_ec)
                (void) EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL);
        if (asym->scheme == SPDM_ECDSA ? is_ec && streq(curve, asym->curve)
                                       : EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) == (int) asym->key_bits)
                return 0;
        return evidence_refuse(why, EVIDENCE_WRONG_KEY, "the leaf's key is %s%s%s of %d bits, negotiated was %s", strempty(EVP_PKEY_get0_type_name(key)),
                               is_ec ? " " : "", curve, EVP_PKEY_get_bits(key), asym->name);
}

/* The digest of the parts; from 1.2 on that of the prefix and their digest. */
static int transcript_digest(const struct spdm_negotiated *n, const EVP_MD *md, const char *context, const struct spdm_part *parts, size_t n_parts,
                             uint8_t ret[static EVP_MAX_MD_SIZE]) {
        _cleanup_(EVP_MD_CTX_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        char version[] = "dmtf-spdm-v1.?.*";
        uint8_t prefix[PREFIX] = {};
        size_t length = strlen(context);

        if (!ctx || !EVP_DigestInit_ex(ctx, md, NULL))
                return -ENOMEM;
        for (size_t i = 0; i < n_parts; i++)
                if (!EVP_DigestUpdate(ctx, parts[i].data, parts[i].size))
                        return -ENOMEM;
        if (!EVP_DigestFinal_ex(ctx, ret, NULL))
                return -ENOMEM;
        if (n->version < SPDM_1_2)
                return 0;
        version[sizeof("dmtf-spdm-v1.") - 1] = (char) ('0' + (n->version & 0xf));
        for (size_t i = 0; i < 4 * (sizeof(version) - 1); i++)
                prefix[i] = (uint8_t) version[i % (sizeof(version) - 1)];
        for (size_t i = 0; i < length; i++)
                prefix[PREFIX - length + i] = (uint8_t) context[i];
        if (!EVP_DigestInit_ex(ctx, md, NULL) || !EVP_DigestUpdate(ctx, prefix, PREFIX) || !EVP_DigestUpdate(ctx, ret, n->hash->size) ||
            !EVP_DigestFinal_ex(ctx, ret, NULL))
                return -ENOMEM;
        return 0;
}

/* SPDM has r and s in a row, OpenSSL wants ASN.1. */
static int ecdsa_to_der(const uint8_t *signature, size_t size, uint8_t **ret, size_t *ret_size) {
        _cleanup_(ECDSA_SIG_freep) ECDSA_SIG *sig = ECDSA_SIG_new();
        BIGNUM *r = BN_bin2bn(signature, (int) size / 2, NULL), *s = BN_bin2bn(signature + size / 2, (int) size / 2, NULL);
        unsigned char *der = NULL;
        int length;

        if (!sig || !r || !s || !ECDSA_SIG_set0(sig, r, s)) {
                BN_free(r);
                BN_free(s);
                return -ENOMEM;
        }
        length = i2d_ECDSA_SIG(sig, &der);
        if (length <= 0)
                return -ENOMEM;
        *ret = der;
        *ret_size = (size_t) length;
        return 0;
}

static int verifier_new(EVP_PKEY *key, const struct spdm_asym *asym, const EVP_MD *md, EVP_PKEY_CTX **ret) {
        _cleanup_(EVP_PKEY_CTX_freep) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);

        if (!ctx || EVP_PKEY_verify_init(ctx) <= 0 || EVP_PKEY_CTX_set_signature_md(ctx, md) <= 0)
                return -ENOMEM;
        if (asym->scheme == SPDM_RSASSA && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) <= 0)
                return -ENOMEM;
        if (asym->scheme == SPDM_RSAPSS && (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) <= 0 ||
                                            EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) <= 0 || EVP_PKEY_CTX_set_rsa_mgf1_md(ctx,
                                                                                                                                               md) <= 0))
                return -ENOMEM;
        *ret = TAKE_PTR(ctx);
        return 0;
}

int spdm_signature_check(EVP_PKEY *key, const struct spdm_negotiated *n, const char *context, const struct spdm_part *parts, size_t n_parts,
                         const void *signature, struct evidence_why *why) {
        _cleanup_(EVP_PKEY_CTX_freep) EVP_PKEY_CTX *ctx = NULL;
        _cleanup_(EVP_MD_freep) EVP_MD *md = NULL;
        uint8_t digest[EVP_MAX_MD_SIZE], *der = NULL;
        size_t size = n->asym->signature_size;
        int r;

        r = key_check(key, n->asym, why);
        if (r < 0)
                return r;
        md = EVP_MD_fetch(NULL, n->hash->name, NULL);
        if (!md)
                return -ENOMEM;
        r = transcript_digest(n, md, context, parts, n_parts, digest);
        if (r < 0)
                return r;
        r = verifier_new(key, n->asym, md, &ctx);
        if (r < 0)
                return r;
        if (n->asym->scheme == SPDM_ECDSA) {
                r = ecdsa_to_der(signature, size, &der, &size);
                if (r < 0)
                        return r;
        }
        r = EVP_PKEY_verify(ctx, der ? der : signature, size, digest, n->hash->size);
        OPENSSL_free(der);
        /* What was wrong with it is in OpenSSL's queue of this thread, where the next one would find it. */
        ERR_clear_error();
        if (r == 1)
                return 0;
        return evidence_refuse(why, EVIDENCE_BAD_SIGNATURE,
                               "the signature (%s, %s, \"%s\", version %u.%u) is not that of the leaf's key over the transcript",
                               n->asym->name, n->hash->name, context, n->version >> 4, n->version & 0xfu);
}
