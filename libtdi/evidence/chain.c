/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takes SPDM certificate chains apart, and writes them as PEM and DER. */
#include "evidence/chain.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "evidence/chain-der.h"

#define HEADER 4u
/* A certificate with more is none that anybody issued; the search for doubles is quadratic. */
#define EXTENSIONS_MAX 64

void evidence_name_text(const X509_NAME *name, char *text, size_t size) {
        BIO *bio = BIO_new(BIO_s_mem());
        char *data;
        long n = 0;

        text[0] = 0;
        if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
                n = BIO_get_mem_data(bio, &data);
        if (n > 0) {
                size_t take = (size_t) n < size - 1 ? (size_t) n : size - 1;

                memcpy(text, data, take);
                text[take] = 0;
        }
        BIO_free(bio);
        ERR_clear_error();
}

static int check_extensions(const X509 *x, struct evidence_why *why) {
        int n = X509_get_ext_count(x);

        if (n > EXTENSIONS_MAX)
                return evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "a certificate has %d extensions, at most %d are taken", n, EXTENSIONS_MAX);
        for (int i = 1; i < n; i++) {
                const ASN1_OBJECT *object = X509_EXTENSION_get_object(X509_get_ext(x, i));
                char oid[DER_OID_TEXT];

                if (X509_get_ext_by_OBJ(x, object, -1) == i)
                        continue;
                OBJ_obj2txt(oid, sizeof(oid), object, 1);
                return evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "a certificate has extension %s twice", oid);
        }
        return 0;
}

int evidence_certificate_parse(const void *der, size_t size, X509 **ret, struct evidence_why *why) {
        _cleanup_(evidence_x509_freep) X509 *x = NULL;
        const uint8_t *p = der;
        int r;

        if (size > EVIDENCE_CHAIN_MAX || der_check(der_of(der, size)) < 0)
                return evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "a certificate of %zu bytes is not DER", size);
        x = d2i_X509(NULL, &p, (long) size);
        if (!x || p != (const uint8_t *) der + size) {
                ERR_clear_error();
                return evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "%zu bytes of DER are not one X.509 certificate", size);
        }
        r = check_extensions(x, why);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(x);
        return 0;
}

struct evidence_chain *evidence_chain_free(struct evidence_chain *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n; i++)
                X509_free(c->certificates[i]);
        free(c->data);
        free(c);
        return NULL;
}

/* Where the certificates are, from the offset to the end. */
static int split(const uint8_t *data, size_t size, size_t offset, struct der parts[static EVIDENCE_CERTIFICATES_MAX], size_t *ret_n, struct evidence_why *why) {
        struct der d, content;
        size_t n = 0;

        if (offset >= size)
                return evidence_refuse(why, EVIDENCE_CHAIN_FORM, "the chain of %zu bytes has no certificate behind its header of %zu", size, offset);
        d = der_of(data + offset, size - offset);
        while (d.p < d.end) {
                const uint8_t *start = d.p;

                if (n == EVIDENCE_CERTIFICATES_MAX)
                        return evidence_refuse(why, EVIDENCE_TOO_MANY_CERTIFICATES, "the chain has more than %u certificates", EVIDENCE_CERTIFICATES_MAX);
                if (der_take(&d, DER_SEQUENCE, &content) < 0)
                        return evidence_refuse(why, EVIDENCE_CHAIN_FORM, "certificate %zu, at byte %zu of %zu, is no whole DER sequence", n,
                                               (size_t) (start - data), size);
                parts[n++] = (struct der){ start, d.p };
        }
        *ret_n = n;
        return 0;
}

static int digest(const char *hash, struct der part, uint8_t ret[static SPDM_HASH_MAX], size_t *ret_size) {
        if (!EVP_Q_digest(NULL, hash, NULL, part.p, der_left(&part), ret, ret_size)) {
                ERR_clear_error();
                return -ENOMEM;
        }
        return 0;
}

/* The length of the root hash is that of the hash: the object does not say which. */
static int find_hash(const uint8_t *data, size_t size, const struct spdm_hash **ret, struct evidence_why *why) {
        struct der parts[EVIDENCE_CERTIFICATES_MAX] = {};
        const struct spdm_hash *fits = NULL;
        uint8_t value[SPDM_HASH_MAX];
        size_t n, used;
        int r;

        for (size_t i = 0; i < spdm_n_hashes; i++) {
                const struct spdm_hash *h = &spdm_hashes[i];

                if (split(data, size, HEADER + h->size, parts, &n, NULL) < 0)
                        continue;
                r = digest(h->name, parts[0], value, &used);
                if (r < 0)
                        return r;
                if (memcmp(value, data + HEADER, h->size) == 0) {
                        *ret = h;
                        return 0;
                }
                if (!fits)
                        fits = h;
        }
        if (!fits)
                return evidence_refuse(why, EVIDENCE_CHAIN_FORM, "the chain of %zu bytes has no certificates behind a root hash of 32, 48 or 64 bytes", size);
        *ret = fits;
        return 0;
}

static int compare_root(struct evidence_chain *c, struct der first, struct evidence_why *why) {
        uint8_t value[SPDM_HASH_MAX];
        size_t used;
        int r;

        r = digest(c->hash, first, value, &used);
        if (r < 0)
                return r;
        c->has_root = memcmp(value, c->root_hash, c->hash_size) == 0;
        if (c->has_root || X509_NAME_cmp(X509_get_subject_name(c->certificates[0]), X509_get_issuer_name(c->certificates[0])) != 0)
                return 0;
        return evidence_refuse(why, EVIDENCE_ROOT_HASH, "the header's root hash (%s) begins %02x%02x%02x%02x, the first certificate's is %02x%02x%02x%02x",
                               c->hash, c->root_hash[0], c->root_hash[1], c->root_hash[2], c->root_hash[3], value[0], value[1], value[2], value[3]);
}

int evidence_chain_parse(const void *data, size_t size, const struct spdm_hash *hash, struct evidence_chain **ret, struct evidence_why *why) {
        _cleanup_evidence_chain_ struct evidence_chain *c = NULL;
        struct der parts[EVIDENCE_CERTIFICATES_MAX] = {};
        const uint8_t *p = data;
        size_t n = 0;
        int r;

        if (size == 0)
                return evidence_refuse(why, EVIDENCE_NO_CHAIN, "the chain is empty");
        if (size < HEADER)
                return evidence_refuse(why, EVIDENCE_CHAIN_FORM, "the chain has %zu bytes, its header alone has %u", size, HEADER);
        /* The reserved bytes are the length's upper half in 1.4: not looked at, as the specification asks. */
        if ((size_t) (p[0] | p[1] << 8) != size)
                return evidence_refuse(why, EVIDENCE_CHAIN_FORM, "the chain's length field says %d bytes, it has %zu", p[0] | p[1] << 8, size);
        if (!hash) {
                r = find_hash(p, size, &hash, why);
                if (r < 0 || !hash)
                        return r;
        }
        r = split(p, size, HEADER + hash->size, parts, &n, why);
        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->data = malloc(size);
        if (!c->data)
                return -ENOMEM;
        memcpy(c->data, data, size);
        c->size = size;
        c->hash = hash->name;
        c->hash_size = hash->size;
        memcpy(c->root_hash, p + HEADER, hash->size);
        for (size_t i = 0; i < n; i++, c->n++) {
                r = evidence_certificate_parse(parts[i].p, der_left(&parts[i]), &c->certificates[i], why);
                if (r < 0)
                        return r;
        }
        r = compare_root(c, parts[0], why);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

int evidence_chain_to_der(const struct evidence_chain *c, uint8_t **ret, size_t *ret_size) {
        size_t offset = HEADER + c->hash_size;
        uint8_t *der = malloc(c->size - offset);

        if (!der)
                return -ENOMEM;
        *ret_size = c->size - offset;
        *ret = memcpy(der, c->data + offset, *ret_size);
        return 0;
}

int evidence_chain_to_pem(const struct evidence_chain *c, char **ret, size_t *ret_size) {
        BIO *bio = BIO_new(BIO_s_mem());
        bool ok = bio != NULL;
        char *text, *data;
        long n;

        for (size_t i = 0; ok && i < c->n; i++) {
                char subject[256], issuer[256];

                evidence_name_text(X509_get_subject_name(c->certificates[i]), subject, sizeof(subject));
                evidence_name_text(X509_get_issuer_name(c->certificates[i]), issuer, sizeof(issuer));
                ok = BIO_printf(bio, "# %zu: %s, issued by %s\n", i, subject, issuer) > 0 && PEM_write_bio_X509(bio, c->certificates[i]);
        }
        n = ok ? BIO_get_mem_data(bio, &data) : 0;
        text = n > 0 ? malloc((size_t) n + 1) : NULL;
        if (text) {
                memcpy(text, data, (size_t) n);
                text[n] = 0;
                *ret = text;
                *ret_size = (size_t) n;
        }
        BIO_free(bio);
        ERR_clear_error();
        return text ? 0 : -ENOMEM;
}
