/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Builds the path from a leaf to an anchor, with OpenSSL, and says in one of our reasons why there is none. */
#include "evidence/anchors.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "evidence/chain-der.h"
#include "util/file.h"

#define RSA_MIN 2048u
#define RSA_MAX 8192u /* verifying larger ones takes as long as whoever made them wants */
#define EC_MIN 256u

struct evidence_anchors {
        X509_STORE *store;
        size_t n;
        struct {
                X509 *certificate;
                char *name;
        } anchors[EVIDENCE_ANCHORS_MAX];
};

/* ---- the anchors ---- */

int evidence_anchors_new(struct evidence_anchors **ret) {
        struct evidence_anchors *a = calloc(1, sizeof(*a));

        if (!a)
                return -ENOMEM;
        a->store = X509_STORE_new();
        if (!a->store) {
                free(a);
                return -ENOMEM;
        }
        *ret = a;
        return 0;
}

struct evidence_anchors *evidence_anchors_free(struct evidence_anchors *a) {
        if (!a)
                return NULL;
        for (size_t i = 0; i < a->n; i++) {
                X509_free(a->anchors[i].certificate);
                free(a->anchors[i].name);
        }
        X509_STORE_free(a->store);
        free(a);
        return NULL;
}

size_t evidence_anchors_count(const struct evidence_anchors *a) {
        return a->n;
}

static const char *name_of(const struct evidence_anchors *a, const X509 *x) {
        for (size_t i = 0; i < a->n; i++)
                if (X509_cmp(a->anchors[i].certificate, x) == 0)
                        return a->anchors[i].name;
        return NULL;
}

static int add_one(struct evidence_anchors *a, const char *name, const uint8_t *der, size_t size, struct evidence_why *why) {
        _cleanup_(evidence_x509_freep) X509 *x = NULL;
        _cleanup_free_ char *copy = NULL;
        int r;

        r = evidence_certificate_parse(der, size, &x, why);
        if (r < 0)
                return r;
        if (X509_check_ca(x) != 1) {
                char subject[192];

                evidence_name_text(X509_get_subject_name(x), subject, sizeof(subject));
                return evidence_refuse(why, EVIDENCE_NOT_A_CA, "%s: \"%s\" is no CA certificate, an anchor must be one", name, subject);
        }
        if (name_of(a, x))
                return 0;
        if (a->n == EVIDENCE_ANCHORS_MAX)
                return evidence_refuse(why, EVIDENCE_TOO_MANY_CERTIFICATES, "%s: more than %u anchors", name, EVIDENCE_ANCHORS_MAX);
        copy = strdup(name);
        if (!copy)
                return -ENOMEM;
        a->anchors[a->n].certificate = TAKE_PTR(x);
        a->anchors[a->n++].name = TAKE_PTR(copy);
        return 0;
}

static int read_pem(struct evidence_anchors *a, const char *name, BIO *bio, struct evidence_why *why) {
        unsigned found = 0;
        int r = 0;

        for (;; found++) {
                char *kind = NULL, *header = NULL;
                uint8_t *data = NULL;
                long size = 0;

                ERR_clear_error();
                if (!PEM_read_bio(bio, &kind, &header, &data, &size))
                        break;
                if (!streq(kind, PEM_STRING_X509) || *header)
                        r = evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "%s: block %u is \"%.40s\", only \"%s\" is taken", name, found, kind, PEM_STRING_X509);
                else
                        r = add_one(a, name, data, (size_t) size, why);
                OPENSSL_free(kind);
                OPENSSL_free(header);
                OPENSSL_clear_free(data, (size_t) size);
                if (r < 0)
                        return r;
        }
        /* "no start line" is how the text ends well; everything else is a block that is broken. */
        if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
                r = evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "%s: block %u is not PEM", name, found);
        else if (found == 0)
                r = evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "%s: there is no certificate in it", name);
        ERR_clear_error();
        return r;
}

int evidence_anchors_add_pem(struct evidence_anchors *a, const char *name, const char *pem, size_t size, struct evidence_why *why) {
        size_t before = a->n;
        BIO *bio;
        int r;

        if (size > EVIDENCE_ANCHOR_FILE_MAX)
                return evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "%s: %zu bytes, at most %u are taken", name, size, EVIDENCE_ANCHOR_FILE_MAX);
        bio = BIO_new_mem_buf(pem, (int) size);
        if (!bio)
                return -ENOMEM;
        r = read_pem(a, name, bio, why);
        BIO_free(bio);
        /* The store has no way to take one out again: they go in when all of them are good. */
        for (size_t i = before; r == 0 && i < a->n; i++)
                if (!X509_STORE_add_cert(a->store, a->anchors[i].certificate))
                        return -ENOMEM;
        while (r < 0 && a->n > before) {
                a->n--;
                X509_free(a->anchors[a->n].certificate);
                free(a->anchors[a->n].name);
        }
        return r;
}

int evidence_anchors_add_file(struct evidence_anchors *a, const char *name, const char *path, struct evidence_why *why) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = file_read_trusted(path, EVIDENCE_ANCHOR_FILE_MAX, &text, &size, NULL);
        if (r == -EBADMSG)
                return evidence_refuse(why, EVIDENCE_WRITABLE_FILE, "%s: everybody may write to it: whose anchors would they be?", name);
        return r < 0 ? r : evidence_anchors_add_pem(a, name, text, size, why);
}

/* ---- what one certificate must be, before any path ---- */

/* From the encoding: asking the key itself makes OpenSSL compute all of its parameters. Explicit ones are no curve's name. */
const char *evidence_curve_of(const X509 *x) {
        static const int curves[] = { NID_X9_62_prime256v1, NID_secp384r1, NID_secp521r1 };
        const void *value = NULL;
        X509_ALGOR *algorithm = NULL;
        int type = V_ASN1_UNDEF;

        if (!X509_PUBKEY_get0_param(NULL, NULL, NULL, &algorithm, X509_get_X509_PUBKEY(x)))
                return NULL;
        X509_ALGOR_get0(NULL, &type, &value, algorithm);
        for (size_t i = 0; type == V_ASN1_OBJECT && i < ARRAY_SIZE(curves); i++)
                if (OBJ_obj2nid(value) == curves[i])
                        return OBJ_nid2sn(curves[i]);
        return NULL;
}

void evidence_key_text(const X509 *x, char *text, size_t size) {
        EVP_PKEY *key = X509_get0_pubkey(x);
        const char *curve, *name;
        char group[64] = "";

        switch (key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE) {
        case EVP_PKEY_NONE:
                snprintf(text, size, "unknown");
                break;
        case EVP_PKEY_RSA:
                snprintf(text, size, "rsa-%d", EVP_PKEY_get_bits(key));
                break;
        case EVP_PKEY_RSA_PSS:
                snprintf(text, size, "rsapss-%d", EVP_PKEY_get_bits(key));
                break;
        case EVP_PKEY_EC:
                curve = evidence_curve_of(x);
                if (curve)
                        snprintf(text, size, "ecdsa-p%d", EVP_PKEY_get_bits(key));
                else
                        snprintf(text, size, "ec-%s", EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) ? group : "explicit");
                break;
        default:
                name = EVP_PKEY_get0_type_name(key);
                snprintf(text, size, "%s", name ? name : "unknown");
        }
        ERR_clear_error();
}

static int check_key(const X509 *x, const char *who, const struct evidence_chain_rules *rules, struct evidence_why *why) {
        unsigned rsa_min = rules->rsa_min > RSA_MIN ? rules->rsa_min : RSA_MIN, ec_min = rules->ec_min > EC_MIN ? rules->ec_min : EC_MIN, bits;
        EVP_PKEY *key = X509_get0_pubkey(x);
        char text[96];
        bool good = false;
        int id;

        if (!key) {
                ERR_clear_error();
                return evidence_refuse(why, EVIDENCE_KEY_SIZE, "%s has a public key that cannot be decoded, or of a kind that is not known", who);
        }
        id = EVP_PKEY_get_base_id(key);
        bits = (unsigned) EVP_PKEY_get_bits(key);
        if (id == EVP_PKEY_RSA || id == EVP_PKEY_RSA_PSS)
                good = bits >= rsa_min && bits <= RSA_MAX;
        else if (id == EVP_PKEY_EC)
                good = evidence_curve_of(x) && bits >= ec_min;
        if (good)
                return 0;
        evidence_key_text(x, text, sizeof(text));
        return evidence_refuse(why, EVIDENCE_KEY_SIZE, "%s has the key %s; RSA with %u to %u bits, or P-256, P-384, P-521 with at least %u, is taken", who, text,
                               rsa_min, RSA_MAX, ec_min);
}

static int check_hash(X509 *x, const char *who, struct evidence_why *why) {
        static const int good[] = { NID_sha256, NID_sha384, NID_sha512, NID_sha3_256, NID_sha3_384, NID_sha3_512 };
        int hash = NID_undef;

        if (!X509_get_signature_info(x, &hash, NULL, NULL, NULL))
                hash = NID_undef;
        ERR_clear_error();
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                if (good[i] == hash)
                        return 0;
        return evidence_refuse(why, EVIDENCE_WEAK_HASH, "%s is signed with %s over %s, expected SHA-256, SHA-384, SHA-512 or their like", who,
                               OBJ_nid2sn(X509_get_signature_nid(x)), hash == NID_undef ? "an unknown hash" : OBJ_nid2sn(hash));
}

static int check_critical(const X509 *x, const char *who, struct evidence_why *why) {
        /* What is evaluated here or by OpenSSL; policies, which nothing here asks for, are not. */
        static const char *const evaluated[] = { "2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17", "2.5.29.30", "2.5.29.35", "2.5.29.14",
                                                 "2.23.133.5.4.1", "2.23.133.5.4.5", "1.3.6.1.4.1.412.274.6" };

        for (int i = 0; i < X509_get_ext_count(x); i++) {
                X509_EXTENSION *e = X509_get_ext(x, i);
                char oid[DER_OID_TEXT] = "";
                bool known = false;

                if (!X509_EXTENSION_get_critical(e))
                        continue;
                OBJ_obj2txt(oid, sizeof(oid), X509_EXTENSION_get_object(e), 1);
                for (size_t k = 0; k < ARRAY_SIZE(evaluated) && !known; k++)
                        known = streq(evaluated[k], oid);
                if (!known)
                        return evidence_refuse(why, EVIDENCE_UNKNOWN_CRITICAL, "%s has the critical extension %s, which is not evaluated here", who, oid);
        }
        return 0;
}

/* @above: the one that must have issued it; NULL for the first. */
static int check_one(X509 *x, X509 *above, size_t index, bool is_leaf, const struct evidence_chain_rules *rules, struct evidence_why *why) {
        char subject[160], issuer[160], who[192];
        bool self = X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
        int r;

        evidence_name_text(X509_get_subject_name(x), subject, sizeof(subject));
        snprintf(who, sizeof(who), "certificate %zu \"%s\"", index, subject);
        r = check_key(x, who, rules, why);
        if (r < 0)
                return r;
        /* A root's signature over itself proves nothing: its hash does not matter. */
        if (above || !self) {
                r = check_hash(x, who, why);
                if (r < 0)
                        return r;
        }
        r = check_critical(x, who, why);
        if (r < 0)
                return r;
        if (X509_get_extension_flags(x) & EXFLAG_INVALID) {
                ERR_clear_error();
                return evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "%s has an extension that cannot be decoded, or contradicts another", who);
        }
        if (!is_leaf && X509_check_ca(x) != 1)
                return evidence_refuse(why, EVIDENCE_NOT_A_CA, "%s issues the next one, but is no CA by its basic constraints and key usage", who);
        if (above && X509_NAME_cmp(X509_get_issuer_name(x), X509_get_subject_name(above)) != 0) {
                evidence_name_text(X509_get_issuer_name(x), issuer, sizeof(issuer));
                return evidence_refuse(why, EVIDENCE_CHAIN_SIGNATURE, "%s is issued by \"%s\", which is not the certificate before it", who, issuer);
        }
        return 0;
}

/* ---- the path ---- */

static enum evidence_reason reason_of(int error) {
        switch (error) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
                return EVIDENCE_EXPIRED;
        case X509_V_ERR_CERT_NOT_YET_VALID:
                return EVIDENCE_NOT_YET_VALID;
        case X509_V_ERR_INVALID_CA:
        case X509_V_ERR_INVALID_NON_CA:
        case X509_V_ERR_PATH_LENGTH_EXCEEDED:
        case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
                return EVIDENCE_NOT_A_CA;
        case X509_V_ERR_PERMITTED_VIOLATION:
        case X509_V_ERR_EXCLUDED_VIOLATION:
        case X509_V_ERR_SUBTREE_MINMAX:
        case X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE:
        case X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX:
        case X509_V_ERR_UNSUPPORTED_NAME_SYNTAX:
                return EVIDENCE_NAME_CONSTRAINT;
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        case X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE:
                return EVIDENCE_CHAIN_SIGNATURE;
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_CERT_UNTRUSTED:
        case X509_V_ERR_CERT_REJECTED:
                return EVIDENCE_FOREIGN_ROOT;
        case X509_V_ERR_CERT_CHAIN_TOO_LONG:
                return EVIDENCE_TOO_MANY_CERTIFICATES;
        case X509_V_ERR_EC_KEY_EXPLICIT_PARAMS:
                return EVIDENCE_KEY_SIZE;
        default:
                return EVIDENCE_CERTIFICATE_FORM;
        }
}

/* Which one is not signed by the one before it; 0: the chain is consistent in itself. */
static size_t find_forged(const struct evidence_chain *c) {
        for (size_t i = 1; i < c->n; i++) {
                EVP_PKEY *key = X509_get0_pubkey(c->certificates[i - 1]);

                if (!key || X509_verify(c->certificates[i], key) != 1 ||
                    X509_check_issued(c->certificates[i - 1], c->certificates[i]) != X509_V_OK)
                        return i;
        }
        return 0;
}

static int refuse_path(const struct evidence_chain *c, X509_STORE_CTX *ctx, struct evidence_why *why) {
        int error = X509_STORE_CTX_get_error(ctx), depth = X509_STORE_CTX_get_error_depth(ctx);
        enum evidence_reason reason = reason_of(error);
        X509 *x = X509_STORE_CTX_get_current_cert(ctx);
        char subject[160] = "?";
        size_t forged = 0;

        if (error == X509_V_ERR_OUT_OF_MEM || error == X509_V_OK)
                return -ENOMEM;
        if (x)
                evidence_name_text(X509_get_subject_name(x), subject, sizeof(subject));
        /* An impostor with the anchor's name fails by its signature, a break in the middle by the missing issuer: look which it is. */
        if (reason == EVIDENCE_CHAIN_SIGNATURE || reason == EVIDENCE_FOREIGN_ROOT)
                forged = find_forged(c);
        ERR_clear_error();
        if (forged > 0) {
                evidence_name_text(X509_get_subject_name(c->certificates[forged]), subject, sizeof(subject));
                return evidence_refuse(why, EVIDENCE_CHAIN_SIGNATURE, "certificate %zu \"%s\" is not signed with the key of the one before it", forged, subject);
        }
        if (reason == EVIDENCE_CHAIN_SIGNATURE || reason == EVIDENCE_FOREIGN_ROOT) {
                char issuer[160];

                evidence_name_text(X509_get_subject_name(c->certificates[0]), subject, sizeof(subject));
                evidence_name_text(X509_get_issuer_name(c->certificates[0]), issuer, sizeof(issuer));
                return evidence_refuse(why, EVIDENCE_FOREIGN_ROOT, "the chain begins with \"%s\", issued by \"%s\", and leads to no anchor", subject, issuer);
        }
        return evidence_refuse(why, reason, "certificate \"%s\", %d above the leaf: %s", subject, depth, X509_verify_cert_error_string(error));
}

/* The header's root hash was of no certificate in the chain: is it of the root that the path ends with? */
static int compare_anchor(const struct evidence_chain *c, X509 *top, bool *ret_checked, struct evidence_why *why) {
        _cleanup_free_ uint8_t *der = NULL;
        uint8_t value[SPDM_HASH_MAX], *p;
        char subject[160];
        size_t used = 0;
        int n;

        *ret_checked = c->has_root;
        if (c->has_root || X509_NAME_cmp(X509_get_subject_name(top), X509_get_issuer_name(top)) != 0)
                return 0;
        n = i2d_X509(top, NULL);
        der = n > 0 ? malloc((size_t) n) : NULL;
        p = der;
        if (!der || i2d_X509(top, &p) != n || !EVP_Q_digest(NULL, c->hash, NULL, der, (size_t) n, value, &used))
                return -ENOMEM;
        *ret_checked = true;
        if (used == c->hash_size && memcmp(value, c->root_hash, used) == 0)
                return 0;
        evidence_name_text(X509_get_subject_name(top), subject, sizeof(subject));
        return evidence_refuse(why, EVIDENCE_ROOT_HASH, "the header's root hash (%s) begins %02x%02x%02x%02x, that of the root \"%s\" is %02x%02x%02x%02x", c->hash,
                               c->root_hash[0], c->root_hash[1], c->root_hash[2], c->root_hash[3], subject, value[0], value[1], value[2], value[3]);
}

static int judge_path(const struct evidence_anchors *a, const struct evidence_chain *c, const struct evidence_chain_rules *rules, X509_STORE_CTX *ctx,
                      struct evidence_trust *ret, struct evidence_why *why) {
        STACK_OF(X509) *path = X509_STORE_CTX_get0_chain(ctx);
        int n = sk_X509_num(path), untrusted = X509_STORE_CTX_get_num_untrusted(ctx);
        struct evidence_trust t = {};
        int r;

        /* The path may use the certificates in the device's order only, and none of them twice. */
        for (int i = 0; i < untrusted; i++)
                if ((size_t) i >= c->n || X509_cmp(sk_X509_value(path, i), c->certificates[c->n - 1 - (size_t) i]) != 0)
                        return evidence_refuse(why, EVIDENCE_CHAIN_FORM, "the chain's certificates are not in the order in which they issued each other");
        if (untrusted < 1 || untrusted >= n)
                return evidence_refuse(why, EVIDENCE_FOREIGN_ROOT, "the leaf itself is an anchor, expected a certificate that one of them issued");
        for (int i = untrusted; i < n; i++) {
                r = check_key(sk_X509_value(path, i), "the anchor", rules, why);
                if (r == 0)
                        r = check_critical(sk_X509_value(path, i), "the anchor", why);
                if (r < 0)
                        return r;
        }
        t.first = c->n - (size_t) untrusted;
        /* The first one may have its issuer's name, and be signed by another key all the same: then that signature does matter. */
        if (t.first == 0) {
                r = check_hash(c->certificates[0], "certificate 0", why);
                if (r < 0)
                        return r;
        }
        t.anchor = name_of(a, sk_X509_value(path, untrusted));
        if (!t.anchor)
                return evidence_refuse(why, EVIDENCE_FOREIGN_ROOT, "the path ends with a certificate that is no anchor");
        r = compare_anchor(c, sk_X509_value(path, n - 1), &t.root_hash_checked, why);
        if (r < 0)
                return r;
        *ret = t;
        return 0;
}

int evidence_anchors_verify(const struct evidence_anchors *a, const struct evidence_chain *c, const struct evidence_chain_rules *rules,
                            struct evidence_trust *ret, struct evidence_why *why) {
        STACK_OF(X509) *others = NULL;
        X509_VERIFY_PARAM *param;
        X509_STORE_CTX *ctx;
        int r = -ENOMEM;

        for (size_t i = 0; i < c->n; i++) {
                r = check_one(c->certificates[i], i > 0 ? c->certificates[i - 1] : NULL, i, i == c->n - 1, rules, why);
                if (r < 0)
                        return r;
        }
        r = -ENOMEM;
        ctx = X509_STORE_CTX_new();
        others = sk_X509_new_null();
        if (!ctx || !others)
                goto out;
        for (size_t i = 0; i + 1 < c->n; i++)
                if (!sk_X509_push(others, c->certificates[i]))
                        goto out;
        if (!X509_STORE_CTX_init(ctx, a->store, c->certificates[c->n - 1], others))
                goto out;
        param = X509_STORE_CTX_get0_param(ctx);
        X509_VERIFY_PARAM_set_time(param, rules->time);
        X509_VERIFY_PARAM_set_depth(param, (int) EVIDENCE_CERTIFICATES_MAX);
        /* Critical extensions and key sizes were looked at above: OpenSSL does not know DICE's, and has other limits. */
        X509_VERIFY_PARAM_set_auth_level(param, 0);
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_IGNORE_CRITICAL);
        r = X509_verify_cert(ctx) == 1 ? judge_path(a, c, rules, ctx, ret, why) : refuse_path(c, ctx, why);
out:
        X509_STORE_CTX_free(ctx);
        sk_X509_free(others);
        ERR_clear_error();
        return r;
}
