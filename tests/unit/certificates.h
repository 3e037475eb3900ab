/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Certificate chains for tests and benches, made to order with OpenSSL: each certificate by a line that says what is in it, and so what is
 * wrong with it. Times are fixed ones. What fails ends the program.
 */
#ifndef TDID_TEST_CERTIFICATES_H
#define TDID_TEST_CERTIFICATES_H

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "evidence/evidence.h"

#define TEST_CHAIN_MAX 20
#define TEST_EXTENSIONS 10
#define TEST_TIME 1767225600 /* 2026-01-01 00:00 UTC, when everything is valid */

struct test_certificate {
        const char *name;                        /* CN */
        const char *key;                         /* "P-384", "secp224r1", "RSA-2048", "ED25519" */
        const char *hash;                        /* of the signature on it; NULL: SHA-384, and none for ED25519 */
        const char *issuer;                      /* CN that it names; NULL: that of the one before it */
        const char *before, *after;              /* "20250101000000Z" */
        const char *extensions[TEST_EXTENSIONS]; /* as in openssl.cnf: "keyUsage=critical,digitalSignature" */
        bool v1;
        bool no_subject;
        bool by_other_key;                       /* signed by a key that is not the issuer's */
};

struct test_chain {
        size_t n;
        X509 *certificates[TEST_CHAIN_MAX];
        EVP_PKEY *keys[TEST_CHAIN_MAX];
};

static inline void test_crypto(bool ok, const char *what) {
        if (ok)
                return;
        fprintf(stderr, "certificates: %s\n", what);
        ERR_print_errors_fp(stderr);
        exit(1);
}

/* A key of that kind for that place: the same one again within a process, for RSA takes long. */
static inline EVP_PKEY *test_key(const char *kind, size_t place) {
        static struct {
                const char *kind;
                size_t place;
                EVP_PKEY *key;
        } keys[64];
        size_t i;

        if (!kind) {
                for (i = 0; i < ARRAY_SIZE(keys); i++)
                        EVP_PKEY_free(keys[i].key);
                memset(keys, 0, sizeof(keys));
                return NULL;
        }
        for (i = 0; i < ARRAY_SIZE(keys) && keys[i].kind; i++)
                if (keys[i].place == place && streq(keys[i].kind, kind))
                        return keys[i].key;
        if (i == ARRAY_SIZE(keys))
                exit(1);
        keys[i].kind = kind;
        keys[i].place = place;
        if (startswith(kind, "RSA-"))
                keys[i].key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) strtoul(kind + 4, NULL, 10));
        else if (streq(kind, "ED25519"))
                keys[i].key = EVP_PKEY_Q_keygen(NULL, NULL, kind);
        else
                keys[i].key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind);
        test_crypto(keys[i].key != NULL, kind);
        return keys[i].key;
}

static inline void test_set_time(ASN1_TIME *time, const char *text) {
        test_crypto(ASN1_TIME_set_string_X509(time, text) == 1, text);
}

static inline void test_set_name(X509_NAME *name, const char *text) {
        test_crypto(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *) "Test", -1, -1, 0) == 1 &&
                    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *) text, -1, -1, 0) == 1, text);
}

static inline void test_add_extension(X509 *x, X509V3_CTX *ctx, const char *line) {
        const char *value = strchr(line, '=');
        X509_EXTENSION *e;
        char name[64];

        test_crypto(value && (size_t) (value - line) < sizeof(name), line);
        memcpy(name, line, (size_t) (value - line));
        name[value - line] = 0;
        e = X509V3_EXT_nconf(NULL, ctx, name, value + 1);
        test_crypto(e && X509_add_ext(x, e, -1) == 1, line);
        X509_EXTENSION_free(e);
}

static inline X509 *test_make_certificate(const struct test_certificate *t, size_t place, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key) {
        X509 *x = X509_new();
        X509V3_CTX ctx;

        test_crypto(x && X509_set_version(x, t->v1 ? X509_VERSION_1 : X509_VERSION_3) == 1, t->name);
        ASN1_INTEGER_set(X509_get_serialNumber(x), (long) (0x1000 + place));
        test_set_time(X509_getm_notBefore(x), t->before);
        test_set_time(X509_getm_notAfter(x), t->after);
        if (!t->no_subject)
                test_set_name(X509_get_subject_name(x), t->name);
        if (t->issuer)
                test_set_name(X509_get_issuer_name(x), t->issuer);
        else
                X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
        X509_set_pubkey(x, key);
        X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
        /* A key identifier that the issuer does not have cannot be named. */
        for (size_t i = 0; i < TEST_EXTENSIONS && !t->v1; i++)
                if (t->extensions[i] && (!streq(t->extensions[i], "authorityKeyIdentifier=keyid") || (issuer && X509_get0_subject_key_id(issuer))))
                        test_add_extension(x, &ctx, t->extensions[i]);
        test_crypto(X509_sign(x, issuer_key, EVP_PKEY_get_base_id(issuer_key) == EVP_PKEY_ED25519 ? NULL : EVP_get_digestbyname(t->hash ? t->hash : "sha384")) > 0,
                    t->name);
        return x;
}

/* The first one signs itself, unless an issuer is given. */
static inline void test_make_chain(const struct test_certificate *t, size_t n, X509 *issuer, EVP_PKEY *issuer_key, struct test_chain *ret) {
        struct test_chain c = {};

        for (; c.n < n; c.n++) {
                size_t i = c.n;

                c.keys[i] = test_key(t[i].key, i);
                if (i > 0) {
                        issuer = c.certificates[i - 1];
                        issuer_key = c.keys[i - 1];
                }
                c.certificates[i] = test_make_certificate(&t[i], i, c.keys[i], issuer,
                                                          t[i].by_other_key ? test_key("P-384", 99) : issuer_key ? issuer_key : c.keys[i]);
        }
        *ret = c;
}

static inline void test_free_chain(struct test_chain *c) {
        for (size_t i = 0; i < c->n; i++)
                X509_free(c->certificates[i]);
        *c = (struct test_chain){};
}

/* SPDM's object from certificate @from on, with the root hash of @root. free() it. */
static inline uint8_t *test_chain_object(const struct test_chain *c, size_t from, X509 *root, const char *hash, size_t *ret_size) {
        uint8_t *object = calloc(1, 1 << 20), *p;
        unsigned used = 0;
        size_t size;

        test_crypto(object != NULL, "memory");
        p = object + 4;
        test_crypto(X509_digest(root, EVP_get_digestbyname(hash), p, &used) == 1, "root hash");
        p += used;
        for (size_t i = from; i < c->n; i++)
                test_crypto(i2d_X509(c->certificates[i], &p) > 0, "DER");
        size = (size_t) (p - object);
        object[0] = (uint8_t) size;
        object[1] = (uint8_t) (size >> 8);
        *ret_size = size;
        return object;
}

/* A PEM text; free() it. */
static inline char *test_pem(X509 *const *x, size_t n, size_t *ret_size) {
        BIO *bio = BIO_new(BIO_s_mem());
        char *data, *text;
        long size;

        for (size_t i = 0; i < n; i++)
                test_crypto(PEM_write_bio_X509(bio, x[i]) == 1, "PEM");
        size = BIO_get_mem_data(bio, &data);
        text = malloc((size_t) size + 1);
        test_crypto(text != NULL, "memory");
        memcpy(text, data, (size_t) size);
        text[size] = 0;
        *ret_size = (size_t) size;
        BIO_free(bio);
        return text;
}

/* A device's chain as it should be: root, two intermediates, leaf. */
#define TEST_CA_EXTENSIONS "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid", "keyUsage=critical,keyCertSign,cRLSign"
static const struct test_certificate test_good[4] = {
        { .name = "Root", .key = "P-384", .before = "20200101000000Z", .after = "20450101000000Z",
          .extensions = { "basicConstraints=critical,CA:TRUE", TEST_CA_EXTENSIONS } },
        { .name = "Vendor", .key = "P-384", .before = "20210101000000Z", .after = "20440101000000Z",
          .extensions = { "basicConstraints=critical,CA:TRUE,pathlen:1", TEST_CA_EXTENSIONS } },
        { .name = "Model", .key = "P-384", .before = "20220101000000Z", .after = "20430101000000Z",
          .extensions = { "basicConstraints=critical,CA:TRUE,pathlen:0", TEST_CA_EXTENSIONS } },
        { .name = "Device", .key = "P-384", .before = "20230101000000Z", .after = "20420101000000Z",
          .extensions = { "basicConstraints=critical,CA:FALSE", "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid",
                          "keyUsage=critical,digitalSignature", "extendedKeyUsage=1.3.6.1.4.1.412.274.3",
                          "subjectAltName=otherName:1.3.6.1.4.1.412.274.1;UTF8:ACME:WIDGET:1234567890",
                          "1.3.6.1.4.1.412.274.6=DER:30:0e:30:0c:06:0a:2b:06:01:04:01:83:1c:82:12:02" } },
};

#endif
