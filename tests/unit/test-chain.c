/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Certificate chains: what is taken apart, what leads to an anchor, and each fault with its own reason. */
#include "certificates.h"
#include "evidence/anchors.h"
#include "evidence/chain.h"
#include "evidence/leaf.h"
#include "test.h"

/* ---- faults in certificates ---- */

struct fault {
        const char *what;
        enum evidence_reason reason;
        size_t at;                      /* which of the four */
        struct test_certificate with;   /* fields that are set replace the good ones */
        const char *instead[4];         /* "name=value" replaces the extension of that name or is added; "name" alone removes it */
        const char *also[2];            /* added, whatever is there */
        const char *words;              /* that the sentence must have */
};

static const struct fault faults[] = {
        { "nothing", EVIDENCE_OK },
        { "expired leaf", EVIDENCE_EXPIRED, 3, .with = { .after = "20251231235959Z" }, .words = "expired" },
        { "expired intermediate", EVIDENCE_EXPIRED, 1, .with = { .after = "20251231235959Z" } },
        { "expired root", EVIDENCE_EXPIRED, 0, .with = { .after = "20251231235959Z" } },
        { "leaf not yet valid", EVIDENCE_NOT_YET_VALID, 3, .with = { .before = "20260101000001Z" }, .words = "not yet valid" },
        { "intermediate not yet valid", EVIDENCE_NOT_YET_VALID, 2, .with = { .before = "20260101000001Z" } },
        { "leaf signed by somebody else", EVIDENCE_CHAIN_SIGNATURE, 3, .with = { .by_other_key = true }, .words = "certificate 3" },
        { "intermediate signed by somebody else", EVIDENCE_CHAIN_SIGNATURE, 1, .with = { .by_other_key = true }, .words = "certificate 1" },
        { "leaf names another issuer", EVIDENCE_CHAIN_SIGNATURE, 3, .with = { .issuer = "Nobody" }, .words = "CN=Nobody" },
        { "leaf names another issuer's key", EVIDENCE_CHAIN_SIGNATURE, 3, .instead = { "authorityKeyIdentifier=DER:30:06:80:04:01:02:03:04" } },
        { "issuer that is no CA", EVIDENCE_NOT_A_CA, 2, .instead = { "basicConstraints=critical,CA:FALSE" }, .words = "certificate 2" },
        { "issuer without basic constraints", EVIDENCE_NOT_A_CA, 2, .instead = { "basicConstraints" } },
        { "issuer whose key is not for certificates", EVIDENCE_NOT_A_CA, 2, .instead = { "keyUsage=critical,digitalSignature" } },
        { "issuer of version 1", EVIDENCE_NOT_A_CA, 2, .with = { .v1 = true } },
        { "path too long", EVIDENCE_NOT_A_CA, 1, .instead = { "basicConstraints=critical,CA:TRUE,pathlen:0" }, .words = "path length" },
        { "name that is not permitted", EVIDENCE_NAME_CONSTRAINT, 1,
          .instead = { "nameConstraints=critical,DER:30:14:a0:12:30:10:a4:0e:30:0c:31:0a:30:08:06:03:55:04:0a:0c:01:58" } },
        { "name that is excluded", EVIDENCE_NAME_CONSTRAINT, 2,
          .instead = { "nameConstraints=critical,DER:30:17:a1:15:30:13:a4:11:30:0f:31:0d:30:0b:06:03:55:04:0a:0c:04:54:65:73:74" } },
        { "RSA-1024 leaf", EVIDENCE_KEY_SIZE, 3, .with = { .key = "RSA-1024" }, .words = "rsa-1024" },
        { "RSA-1024 intermediate", EVIDENCE_KEY_SIZE, 1, .with = { .key = "RSA-1024" } },
        { "P-224", EVIDENCE_KEY_SIZE, 3, .with = { .key = "secp224r1" }, .words = "secp224r1" },
        { "secp256k1", EVIDENCE_KEY_SIZE, 2, .with = { .key = "secp256k1" } },
        { "Ed25519", EVIDENCE_KEY_SIZE, 3, .with = { .key = "ED25519" }, .words = "ED25519" },
        { "SHA-1 leaf", EVIDENCE_WEAK_HASH, 3, .with = { .hash = "sha1" }, .words = "SHA1" },
        { "SHA-1 intermediate", EVIDENCE_WEAK_HASH, 1, .with = { .hash = "sha1" } },
        { "SHA-1 root: nobody looks at its signature", EVIDENCE_OK, 0, .with = { .hash = "sha1" } },
        { "SHA-224", EVIDENCE_WEAK_HASH, 3, .with = { .hash = "sha224" } },
        { "unknown critical extension", EVIDENCE_UNKNOWN_CRITICAL, 3, .also = { "1.2.3.4=critical,DER:05:00" }, .words = "1.2.3.4" },
        { "unknown critical extension above", EVIDENCE_UNKNOWN_CRITICAL, 1, .also = { "1.2.3.4=critical,DER:05:00" } },
        { "policy constraints are not evaluated", EVIDENCE_UNKNOWN_CRITICAL, 1, .also = { "policyConstraints=critical,requireExplicitPolicy:0" } },
        { "unknown extension that is not critical", EVIDENCE_OK, 3, .also = { "1.2.3.4=DER:05:00" } },
        { "critical DiceTcbInfo", EVIDENCE_OK, 3, .also = { "2.23.133.5.4.1=critical,DER:30:00" } },
        { "critical DiceMultiTcbInfo", EVIDENCE_OK, 3, .also = { "2.23.133.5.4.5=critical,DER:30:02:30:00" } },
        { "critical DMTF extension", EVIDENCE_OK, 3, .instead = { "1.3.6.1.4.1.412.274.6=critical,DER:30:0e:30:0c:06:0a:2b:06:01:04:01:83:1c:82:12:05" } },
        { "extension twice", EVIDENCE_CERTIFICATE_FORM, 3, .also = { "1.2.3.4=DER:05:00", "1.2.3.4=DER:05:00" }, .words = "1.2.3.4" },
        { "extension that cannot be decoded", EVIDENCE_CERTIFICATE_FORM, 2, .instead = { "keyUsage=DER:05:00" } },
        { "leaf is a CA", EVIDENCE_LEAF_FORM, 3, .instead = { "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,digitalSignature" } },
        { "leaf is of version 1", EVIDENCE_LEAF_FORM, 3, .with = { .v1 = true }, .words = "version 1" },
        { "leaf without subject", EVIDENCE_LEAF_FORM, 3, .with = { .no_subject = true } },
        { "leaf without basic constraints, in 1.3", EVIDENCE_LEAF_FORM, 3, .instead = { "basicConstraints" } },
        { "leaf without key usage", EVIDENCE_KEY_USAGE, 3, .instead = { "keyUsage" } },
        { "leaf whose key is not for signatures", EVIDENCE_KEY_USAGE, 3, .instead = { "keyUsage=critical,keyAgreement" } },
        { "leaf for requesters only", EVIDENCE_KEY_USAGE, 3, .instead = { "extendedKeyUsage=1.3.6.1.4.1.412.274.4" }, .words = "requesters" },
        { "leaf for both roles", EVIDENCE_OK, 3, .instead = { "extendedKeyUsage=1.3.6.1.4.1.412.274.4,1.3.6.1.4.1.412.274.3" } },
        { "leaf with other usages only", EVIDENCE_OK, 3, .instead = { "extendedKeyUsage=critical,serverAuth,clientAuth,OCSPSigning" } },
        { "leaf without extended usage", EVIDENCE_OK, 3, .instead = { "extendedKeyUsage" } },
        { "extended usage that is none", EVIDENCE_CERTIFICATE_FORM, 3, .instead = { "extendedKeyUsage=DER:05:00" } },
        { "leaf with another curve", EVIDENCE_WRONG_KEY, 3, .with = { .key = "P-256" }, .words = "ecdsa-p256" },
        { "leaf with RSA", EVIDENCE_WRONG_KEY, 3, .with = { .key = "RSA-2048" }, .words = "rsa-2048" },
        { "device info of two parts", EVIDENCE_LEAF_FORM, 3, .instead = { "subjectAltName=otherName:1.3.6.1.4.1.412.274.1;UTF8:ACME:1" } },
        { "device info with an empty serial", EVIDENCE_LEAF_FORM, 3, .instead = { "subjectAltName=otherName:1.3.6.1.4.1.412.274.1;UTF8:ACME:WIDGET:" } },
        { "device info of another type", EVIDENCE_LEAF_FORM, 3, .instead = { "subjectAltName=otherName:1.3.6.1.4.1.412.274.1;IA5:A:B:C" } },
        { "two device infos", EVIDENCE_LEAF_FORM, 3,
          .instead = { "subjectAltName=otherName:1.3.6.1.4.1.412.274.1;UTF8:A:B:C,otherName:1.3.6.1.4.1.412.274.1;UTF8:A:B:C" } },
        { "another otherName", EVIDENCE_OK, 3, .instead = { "subjectAltName=otherName:1.2.3;UTF8:A" } },
        { "DMTF extension that is none", EVIDENCE_LEAF_FORM, 3, .instead = { "1.3.6.1.4.1.412.274.6=DER:05:00" } },
};

static const struct spdm_hash *hash_named(const char *name) {
        for (size_t i = 0; i < spdm_n_hashes; i++)
                if (streq(spdm_hashes[i].name, name))
                        return &spdm_hashes[i];
        abort();
}

static const struct spdm_asym *asym_named(const char *name) {
        for (size_t i = 0; i < spdm_n_asyms; i++)
                if (streq(spdm_asyms[i].name, name))
                        return &spdm_asyms[i];
        abort();
}

static void replace(struct test_certificate *t, const char *line) {
        size_t n = strcspn(line, "="), free_place = TEST_EXTENSIONS;

        for (size_t i = 0; i < TEST_EXTENSIONS; i++) {
                if (!t->extensions[i]) {
                        free_place = i;
                        break;
                }
                if (strncmp(t->extensions[i], line, n) == 0 && t->extensions[i][n] == '=') {
                        free_place = i;
                        break;
                }
        }
        require(free_place < TEST_EXTENSIONS);
        if (line[n]) {
                t->extensions[free_place] = line;
                return;
        }
        for (size_t i = free_place; i + 1 < TEST_EXTENSIONS; i++)
                t->extensions[i] = t->extensions[i + 1];
        t->extensions[TEST_EXTENSIONS - 1] = NULL;
}

static void spoil(struct test_certificate t[4], const struct fault *f) {
        struct test_certificate *c = &t[f->at];

        c->key = f->with.key ? f->with.key : c->key;
        c->hash = f->with.hash;
        c->issuer = f->with.issuer;
        c->before = f->with.before ? f->with.before : c->before;
        c->after = f->with.after ? f->with.after : c->after;
        c->v1 = f->with.v1;
        c->no_subject = f->with.no_subject;
        c->by_other_key = f->with.by_other_key;
        for (size_t i = 0; i < ARRAY_SIZE(f->instead) && f->instead[i]; i++)
                replace(c, f->instead[i]);
        for (size_t i = 0; i < ARRAY_SIZE(f->also) && f->also[i]; i++)
                for (size_t k = 0; k < TEST_EXTENSIONS; k++)
                        if (!c->extensions[k]) {
                                c->extensions[k] = f->also[i];
                                break;
                        }
}

static struct evidence_anchors *anchors_of(X509 *const *x, size_t n, const char *name) {
        struct evidence_anchors *a = NULL;
        struct evidence_why why = {};
        size_t size;
        char *pem = test_pem(x, n, &size);

        require(evidence_anchors_new(&a) == 0);
        if (!check_int(evidence_anchors_add_pem(a, name, pem, size, &why), 0))
                fprintf(stderr, "%s\n", why.text);
        free(pem);
        return a;
}

/* All that a slot's chain goes through. */
static int judge(const struct evidence_anchors *a, const uint8_t *object, size_t size, const struct evidence_chain_rules *rules, const char *asym, bool responder,
                 struct evidence_trust *trust, struct evidence_why *why) {
        _cleanup_evidence_chain_ struct evidence_chain *c = NULL;
        struct evidence_dmtf dmtf;
        char *copy = test_copy(object, size);
        int r;

        r = evidence_chain_parse(copy, size, hash_named("sha384"), &c, why);
        free(copy);
        if (r < 0)
                return r;
        r = evidence_anchors_verify(a, c, rules, trust, why);
        if (r < 0)
                return r;
        r = evidence_leaf_check(c->certificates[c->n - 1], asym_named(asym), SPDM_1_3, responder, why);
        if (r < 0)
                return r;
        return evidence_dmtf_decode(c->certificates[c->n - 1], &dmtf, why);
}

static const struct evidence_chain_rules usual = { .time = TEST_TIME };

static void check_why(int r, const struct evidence_why *why, enum evidence_reason reason, const char *words) {
        check_int(r, reason == EVIDENCE_OK ? 0 : -EBADMSG);
        if (!check_str(evidence_reason_to_string(why->reason), evidence_reason_to_string(reason)) || (words && !strstr(why->text, words)))
                test_fail(__FILE__, __LINE__, "the sentence is \"%s\"", why->text);
}

static void test_faults(void) {
        for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
                struct test_certificate t[4];
                struct evidence_why why = {};
                struct evidence_trust trust = {};
                struct evidence_anchors *a;
                struct test_chain c;
                uint8_t *object;
                size_t size;

                test_about("%s", faults[i].what);
                memcpy(t, test_good, sizeof(t));
                spoil(t, &faults[i]);
                test_make_chain(t, 4, NULL, NULL, &c);
                object = test_chain_object(&c, 0, c.certificates[0], "sha384", &size);
                a = anchors_of(c.certificates, 1, "vendor-root");
                check_why(judge(a, object, size, &usual, "ecdsa-p384", false, &trust, &why), &why, faults[i].reason, faults[i].words);
                if (faults[i].reason == EVIDENCE_OK) {
                        check_str(trust.anchor, "vendor-root");
                        check_int(trust.first, 1);
                        check(trust.root_hash_checked);
                }
                free(object);
                evidence_anchors_free(a);
                test_free_chain(&c);
        }
        test_about("%s", "");
}

/* ---- faults in the object ---- */

static void test_objects(void) {
        struct evidence_chain_rules strict = { .time = TEST_TIME, .rsa_min = 3072, .ec_min = 521 };
        struct test_certificate many[18];
        struct evidence_trust trust = {};
        struct evidence_anchors *a;
        struct evidence_why why;
        struct test_chain c, long_chain;
        uint8_t *object, *copy;
        size_t size;

        test_make_chain(test_good, 4, NULL, NULL, &c);
        object = test_chain_object(&c, 0, c.certificates[0], "sha384", &size);
        copy = malloc(size + 16);
        require(copy);
        a = anchors_of(c.certificates, 1, "root");
#define again(about) (test_about("%s", about), memcpy(copy, object, size), why = (struct evidence_why){})
#define judged(n) judge(a, copy, n, &usual, "ecdsa-p384", false, &trust, &why)
        again("whole");
        check_why(judged(size), &why, EVIDENCE_OK, NULL);
        again("empty");
        check_why(judged(0), &why, EVIDENCE_NO_CHAIN, NULL);
        again("header cut");
        check_why(judged(3), &why, EVIDENCE_CHAIN_FORM, NULL);
        again("length says less");
        copy[0]--;
        check_why(judged(size), &why, EVIDENCE_CHAIN_FORM, "length field");
        again("length says more");
        copy[0]++;
        check_why(judged(size), &why, EVIDENCE_CHAIN_FORM, "length field");
        again("nothing but the header");
        copy[0] = 52;
        copy[1] = 0;
        check_why(judged(52), &why, EVIDENCE_CHAIN_FORM, "no certificate");
        again("a byte behind the last certificate");
        copy[size] = 0;
        copy[0]++;
        check_why(judged(size + 1), &why, EVIDENCE_CHAIN_FORM, NULL);
        again("root hash");
        copy[4] ^= 1;
        check_why(judged(size), &why, EVIDENCE_ROOT_HASH, NULL);
        again("certificate longer than the object");
        copy[52 + 3]++;
        check_why(judged(size), &why, EVIDENCE_CHAIN_FORM, NULL);
        again("inner length in a longer form than needed: BER");
        copy[52 + 4 + 1] = 0x83;
        check_why(judged(size), &why, EVIDENCE_CERTIFICATE_FORM, "not DER");
        again("not a certificate");
        copy[0] = 52 + 2;
        copy[1] = 0;
        memcpy(copy + 52, "\x30", 2);
        check_why(judged(52 + 2), &why, EVIDENCE_CERTIFICATE_FORM, NULL);
        for (size_t n = 1; n < size; n++) {
                again("cut");
                copy[0] = (uint8_t) n;
                copy[1] = (uint8_t) (n >> 8);
                check_int(judged(n), -EBADMSG);
        }
        again("bits of the leaf's key");
        check_why(judge(a, copy, size, &strict, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_KEY_SIZE, "at least 521");
        again("responder wanted, and there");
        check_why(judge(a, copy, size, &usual, "ecdsa-p384", true, &trust, &why), &why, EVIDENCE_OK, NULL);

        test_about("too many");
        for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
                many[i] = test_good[i == 17 ? 3 : 0];
                many[i].key = "P-256";
        }
        test_make_chain(many, 18, NULL, NULL, &long_chain);
        free(object);
        for (size_t n = 15; n <= 18; n++) {
                long_chain.n = n;
                object = test_chain_object(&long_chain, 0, long_chain.certificates[0], "sha384", &size);
                why = (struct evidence_why){};
                check_int(judge(a, object, size, &usual, "ecdsa-p256", false, &trust, &why), -EBADMSG);
                check_str(evidence_reason_to_string(why.reason), n > 16 ? "too-many-certificates" : "foreign-root");
                free(object);
        }
        long_chain.n = 18;
        test_free_chain(&long_chain);
        evidence_anchors_free(a);
        test_free_chain(&c);
        free(copy);
        test_about("%s", "");
}

/* ---- which anchor ---- */

static void test_anchors(void) {
        struct evidence_anchors *a;
        struct evidence_why why = {};
        struct evidence_trust trust = {};
        struct test_chain c, other;
        struct test_certificate t[4];
        uint8_t *object, *partial;
        size_t size, partial_size;

        test_make_chain(test_good, 4, NULL, NULL, &c);
        object = test_chain_object(&c, 0, c.certificates[0], "sha384", &size);
        test_about("an intermediate is the anchor");
        a = anchors_of(c.certificates + 1, 1, "vendor");
        check_why(judge(a, object, size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_OK, NULL);
        check_str(trust.anchor, "vendor");
        check_int(trust.first, 2);
        evidence_anchors_free(a);

        test_about("what is above the anchor may have run out");
        memcpy(t, test_good, sizeof(t));
        t[0].after = "20250101000000Z";
        test_make_chain(t, 4, NULL, NULL, &other);
        partial = test_chain_object(&other, 0, other.certificates[0], "sha384", &partial_size);
        a = anchors_of(other.certificates + 1, 1, "vendor");
        check_why(judge(a, partial, partial_size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_OK, NULL);
        evidence_anchors_free(a);
        free(partial);
        test_free_chain(&other);

        test_about("the last issuer is the anchor");
        a = anchors_of(c.certificates + 2, 1, "model");
        check_why(judge(a, object, size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_OK, NULL);
        check_int(trust.first, 3);
        evidence_anchors_free(a);

        test_about("without its root");
        partial = test_chain_object(&c, 1, c.certificates[0], "sha384", &partial_size);
        a = anchors_of(c.certificates, 1, "root");
        check_why(judge(a, partial, partial_size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_OK, NULL);
        check_int(trust.first, 0);
        check(trust.root_hash_checked);
        partial[10] ^= 1;
        check_why(judge(a, partial, partial_size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_ROOT_HASH, NULL);
        evidence_anchors_free(a);
        partial[10] ^= 1;
        test_about("without its root, and only an intermediate is known");
        why = (struct evidence_why){};
        a = anchors_of(c.certificates + 1, 1, "vendor");
        check_why(judge(a, partial, partial_size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_OK, NULL);
        check(!trust.root_hash_checked);
        evidence_anchors_free(a);

        test_about("foreign root");
        memcpy(t, test_good, sizeof(t));
        t[0].name = "Another";
        test_key(NULL, 0);
        test_make_chain(t, 4, NULL, NULL, &other);
        a = anchors_of(other.certificates, 3, "other");
        check_int(evidence_anchors_count(a), 3);
        check_why(judge(a, object, size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_FOREIGN_ROOT, "CN=Root");
        why = (struct evidence_why){};
        check_why(judge(a, partial, partial_size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_FOREIGN_ROOT, "CN=Vendor");
        evidence_anchors_free(a);
        test_free_chain(&other);

        test_about("impostor: the anchor's names, other keys");
        why = (struct evidence_why){};
        memcpy(t, test_good, sizeof(t));
        for (size_t i = 0; i < 4; i++)
                replace(&t[i], "authorityKeyIdentifier");
        test_make_chain(t, 4, NULL, NULL, &other);
        a = anchors_of(other.certificates, 1, "other");
        check_why(judge(a, object, size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_FOREIGN_ROOT, NULL);
        evidence_anchors_free(a);

        test_about("no anchor at all");
        why = (struct evidence_why){};
        require(evidence_anchors_new(&a) == 0);
        check_why(judge(a, object, size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_FOREIGN_ROOT, NULL);
        evidence_anchors_free(a);

        test_about("a leaf alone");
        why = (struct evidence_why){};
        free(partial);
        partial = test_chain_object(&c, 3, c.certificates[0], "sha384", &partial_size);
        a = anchors_of(c.certificates, 3, "all");
        check_why(judge(a, partial, partial_size, &usual, "ecdsa-p384", false, &trust, &why), &why, EVIDENCE_OK, NULL);
        /* The path ends at the first anchor, and says nothing of the root. */
        check_int(trust.first, 0);
        check(!trust.root_hash_checked);
        evidence_anchors_free(a);
        free(partial);
        free(object);
        test_free_chain(&other);
        test_free_chain(&c);
        test_about("%s", "");
}

/* The chain begins with a certificate of the anchor's name, which the anchor has issued for another key. */
static void test_rollover(void) {
        static const struct {
                const char *hash;
                enum evidence_reason reason;
        } cases[] = { { "sha384", EVIDENCE_OK }, { "sha1", EVIDENCE_WEAK_HASH } };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct test_certificate t[4];
                struct evidence_trust trust = {};
                struct evidence_why why = {};
                struct evidence_anchors *a;
                struct test_chain c;
                uint8_t *object;
                size_t size;
                X509 *old;

                test_about("rollover, %s", cases[i].hash);
                memcpy(t, test_good, sizeof(t));
                t[0].hash = cases[i].hash;
                old = test_make_certificate(&test_good[0], 50, test_key("P-384", 50), NULL, test_key("P-384", 50));
                test_make_chain(t, 4, old, test_key("P-384", 50), &c);
                object = test_chain_object(&c, 0, c.certificates[0], "sha384", &size);
                a = anchors_of(&old, 1, "old");
                check_why(judge(a, object, size, &usual, "ecdsa-p384", false, &trust, &why), &why, cases[i].reason, NULL);
                check_int(trust.first, 0);
                free(object);
                evidence_anchors_free(a);
                test_free_chain(&c);
                X509_free(old);
        }
        test_about("%s", "");
}

static void test_anchor_files(void) {
        static const char key[] = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        struct evidence_anchors *a = NULL;
        struct evidence_why why = {};
        char dir[64], path[128], *pem, *text;
        struct test_chain c;
        size_t size;

        test_make_chain(test_good, 4, NULL, NULL, &c);
        require(evidence_anchors_new(&a) == 0);
        pem = test_pem(c.certificates, 3, &size);
        test_make_dir(dir);
        snprintf(path, sizeof(path), "%s/anchors.pem", dir);
        check_int(evidence_anchors_add_file(a, "x", path, &why), -ENOENT);
        check_int(evidence_anchors_add_file(a, "x", dir, &why), -EINVAL);
        test_write_file(path, pem, size);
        check_int(evidence_anchors_add_file(a, "file", path, &why), 0);
        check_int(evidence_anchors_count(a), 3);
        /* Again: nothing new. */
        check_int(evidence_anchors_add_file(a, "twice", path, &why), 0);
        check_int(evidence_anchors_count(a), 3);
        free(pem);

        test_about("a leaf among them: none is taken");
        evidence_anchors_free(a);
        require(evidence_anchors_new(&a) == 0);
        pem = test_pem(c.certificates, 4, &size);
        check_why(evidence_anchors_add_pem(a, "x", pem, size, &why), &why, EVIDENCE_NOT_A_CA, "CN=Device");
        check_int(evidence_anchors_count(a), 0);
        free(pem);
        test_about("a private key");
        why = (struct evidence_why){};
        pem = test_pem(c.certificates, 1, &size);
        require(asprintf(&text, "%s%s", pem, key) > 0);
        check_why(evidence_anchors_add_pem(a, "x", text, strlen(text), &why), &why, EVIDENCE_CERTIFICATE_FORM, "PRIVATE KEY");
        free(text);
        test_about("comments between");
        why = (struct evidence_why){};
        require(asprintf(&text, "# a comment\n%s\ntrailing words\n", pem) > 0);
        check_why(evidence_anchors_add_pem(a, "x", text, strlen(text), &why), &why, EVIDENCE_OK, NULL);
        check_int(evidence_anchors_count(a), 1);
        free(text);
        test_about("cut");
        why = (struct evidence_why){};
        check_why(evidence_anchors_add_pem(a, "x", pem, size - 40, &why), &why, EVIDENCE_CERTIFICATE_FORM, NULL);
        test_about("nothing in it");
        why = (struct evidence_why){};
        check_why(evidence_anchors_add_pem(a, "x", "", 0, &why), &why, EVIDENCE_CERTIFICATE_FORM, "no certificate");
        check_int(evidence_anchors_count(a), 1);
        test_about("too long");
        text = calloc(1, EVIDENCE_ANCHOR_FILE_MAX + 1);
        require(text);
        test_write_file(path, text, EVIDENCE_ANCHOR_FILE_MAX + 1);
        check_int(evidence_anchors_add_file(a, "x", path, NULL), -EFBIG);
        free(text);
        free(pem);
        evidence_anchors_free(a);
        test_free_chain(&c);
        test_remove_dir(dir);
        test_about("%s", "");
}

/* ---- as files ---- */

static void test_written(void) {
        static const char *const hashes[] = { "sha256", "sha384", "sha512" };
        struct evidence_chain *chain = NULL;
        struct evidence_dmtf dmtf;
        struct test_chain c;
        uint8_t *der, *object;
        const uint8_t *p;
        size_t size, n;
        char *pem;

        test_make_chain(test_good, 4, NULL, NULL, &c);
        for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
                test_about("%s is found", hashes[i]);
                object = test_chain_object(&c, 0, c.certificates[0], hashes[i], &size);
                require(evidence_chain_parse(object, size, NULL, &chain, NULL) == 0);
                check_str(chain->hash, hashes[i]);
                check(chain->has_root);
                check_int(chain->n, 4);
                require(evidence_chain_to_der(chain, &der, &n) == 0);
                check_int(n, size - 4 - hash_named(hashes[i])->size);
                check(memcmp(der, object + size - n, n) == 0);
                p = der;
                for (size_t k = 0; k < 4; k++) {
                        X509 *x = d2i_X509(NULL, &p, (long) (der + n - p));

                        check(x && X509_cmp(x, c.certificates[k]) == 0);
                        X509_free(x);
                }
                check(p == der + n);
                free(der);
                require(evidence_chain_to_pem(chain, &pem, &n) == 0);
                check_int(strlen(pem), n);
                check(strstr(pem, "# 0: CN=Root,O=Test, issued by CN=Root,O=Test\n-----BEGIN CERTIFICATE-----\n") == pem);
                check(strstr(pem, "# 3: CN=Device,O=Test, issued by CN=Model,O=Test\n"));
                free(pem);
                evidence_chain_free(chain);
                free(object);
        }
        test_about("no hash fits");
        object = test_chain_object(&c, 0, c.certificates[0], "sha384", &size);
        object[4] ^= 1;
        check_int(evidence_chain_parse(object, size, NULL, &chain, NULL), -EBADMSG);
        free(object);
        object = calloc(1, 64);
        require(object);
        object[0] = 64;
        check_int(evidence_chain_parse(object, 64, NULL, &chain, NULL), -EBADMSG);
        free(object);
        check(evidence_chain_free(NULL) == NULL);
        test_about("%s", "DMTF");
        check_int(evidence_dmtf_decode(c.certificates[3], &dmtf, NULL), 0);
        check_str(dmtf.device, "ACME:WIDGET:1234567890");
        check(dmtf.hardware_identity);
        check(!dmtf.mutable_certificate);
        check_int(evidence_dmtf_decode(c.certificates[0], &dmtf, NULL), 0);
        check_str(dmtf.device, "");
        test_free_chain(&c);
}

/* Leaves of every algorithm, under RSA too. */
static void test_algorithms(void) {
        static const struct {
                const char *key, *asym, *hash;
                enum evidence_reason reason;
        } cases[] = {
                { "P-256", "ecdsa-p256" },
                { "P-384", "ecdsa-p384", "sha256" },
                { "P-521", "ecdsa-p521", "sha512" },
                { "RSA-2048", "rsassa-2048" },
                { "RSA-3072", "rsapss-3072" },
                { "RSA-2048", "rsapss-2048" },
                { "RSA-2048", "rsassa-3072", NULL, EVIDENCE_WRONG_KEY },
                { "P-256", "ecdsa-p384", NULL, EVIDENCE_WRONG_KEY },
                { "RSA-2048", "ecdsa-p256", NULL, EVIDENCE_WRONG_KEY },
                { "RSA-2048", "rsassa-2048", "md5", EVIDENCE_WEAK_HASH },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct test_certificate t[2] = { test_good[0], test_good[3] };
                struct evidence_why why = {};
                struct evidence_trust trust = {};
                struct evidence_anchors *a;
                struct test_chain c;
                uint8_t *object;
                size_t size;

                test_about("%s with %s", cases[i].key, cases[i].asym);
                t[0].key = startswith(cases[i].key, "RSA") ? "RSA-2048" : "P-384";
                t[1].key = cases[i].key;
                t[1].hash = cases[i].hash;
                test_make_chain(t, 2, NULL, NULL, &c);
                object = test_chain_object(&c, 0, c.certificates[0], "sha384", &size);
                a = anchors_of(c.certificates, 1, "root");
                check_why(judge(a, object, size, &usual, cases[i].asym, false, &trust, &why), &why, cases[i].reason, NULL);
                evidence_anchors_free(a);
                free(object);
                test_free_chain(&c);
        }
}

int main(void) {
        test_faults();
        test_objects();
        test_anchors();
        test_rollover();
        test_anchor_files();
        test_written();
        test_algorithms();
        test_key(NULL, 0);
        return test_end();
}
