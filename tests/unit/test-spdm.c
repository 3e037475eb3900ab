/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Recorded SPDM messages: transcripts that were made by hand and with the openssl program (data/spdm/make.sh) are read, and their
 * signatures are right; what is cut, longer, or contradicts itself is refused, with its reason.
 */
#include <openssl/pem.h>

#include "evidence/spdm.h"
#include "test.h"

static const char *folder;

struct bytes {
        uint8_t data[1024];
        size_t n;
};

static struct bytes load(const char *name) {
        struct bytes b = {};
        char path[4096];
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        f = fopen(path, "re");
        require(f);
        b.n = fread(b.data, 1, sizeof(b.data), f);
        fclose(f);
        require(b.n > 0 && b.n < sizeof(b.data));
        return b;
}

static EVP_PKEY *load_key(const char *name) {
        char path[4096];
        EVP_PKEY *key;
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        f = fopen(path, "re");
        require(f);
        key = PEM_read_PUBKEY(f, NULL, NULL, NULL);
        fclose(f);
        require(key);
        return key;
}

static struct spdm_negotiated load_vca(const char *name) {
        struct bytes vca = load(name);
        struct spdm_negotiated n = {};
        struct evidence_why why = {};

        check_int(spdm_vca_parse(vca.data, vca.n, &n, &why), 0);
        check_str(why.text, "");
        return n;
}

static void expect(int r, const struct evidence_why *why, enum evidence_reason reason) {
        check_int(r, -EBADMSG);
        check_str(evidence_reason_to_string(why->reason), evidence_reason_to_string(reason));
        check(why->reason == EVIDENCE_OK || why->text[0]);
}

static void expect_vca(const struct bytes *vca, enum evidence_reason reason) {
        char *copy = test_copy(vca->data, vca->n);
        struct evidence_why why = {};
        struct spdm_negotiated n;

        expect(spdm_vca_parse(copy, vca->n, &n, &why), &why, reason);
        free(copy);
}

static void expect_measurements(const struct bytes *log, const struct spdm_negotiated *n, enum evidence_reason reason) {
        char *copy = test_copy(log->data, log->n);
        struct evidence_why why = {};
        struct spdm_measurements m;

        expect(spdm_measurements_parse(copy, log->n, n, &m, &why), &why, reason);
        free(copy);
}

static void expect_challenge(const struct bytes *log, const struct spdm_negotiated *n, enum evidence_reason reason) {
        char *copy = test_copy(log->data, log->n);
        struct evidence_why why = {};
        struct spdm_challenge c;

        expect(spdm_challenge_parse(copy, log->n, n, &c, &why), &why, reason);
        free(copy);
}

/* Right as it is; wrong with another key, another bit of the transcript, another bit of the signature. */
static void check_signature(const char *key_name, const char *foreign, const struct spdm_negotiated *n, const char *context, struct spdm_part *parts, size_t n_parts,
                            const uint8_t *signature) {
        EVP_PKEY *key = load_key(key_name), *other = load_key(foreign);
        uint8_t broken[SPDM_SIGNATURE_MAX], last[1024];
        struct spdm_part *end = &parts[n_parts - 1], good = *end;
        struct evidence_why why = {};

        check_int(spdm_signature_check(key, n, context, parts, n_parts, signature, &why), 0);
        check_str(why.text, "");
        memcpy(broken, signature, n->asym->signature_size);
        for (size_t i = 0; i < n->asym->signature_size; i += 7) {
                broken[i] ^= 0x10;
                why = (struct evidence_why){};
                expect(spdm_signature_check(key, n, context, parts, n_parts, broken, &why), &why, EVIDENCE_BAD_SIGNATURE);
                broken[i] ^= 0x10;
        }
        memset(broken, 0, sizeof(broken));
        why = (struct evidence_why){};
        expect(spdm_signature_check(key, n, context, parts, n_parts, broken, &why), &why, EVIDENCE_BAD_SIGNATURE);
        why = (struct evidence_why){};
        expect(spdm_signature_check(other, n, context, parts, n_parts, signature, &why), &why, EVIDENCE_WRONG_KEY);
        memcpy(last, end->data, end->size);
        last[end->size - 1] ^= 1;
        end->data = last;
        why = (struct evidence_why){};
        expect(spdm_signature_check(key, n, context, parts, n_parts, signature, &why), &why, EVIDENCE_BAD_SIGNATURE);
        *end = good;
        EVP_PKEY_free(key);
        EVP_PKEY_free(other);
}

static void test_1_1(void) {
        struct spdm_negotiated n = load_vca("1.1-vca");
        struct bytes log = load("1.1-measurements"), b;
        struct spdm_measurements m = {};
        struct evidence_why why = {};
        struct spdm_part part;
        EVP_PKEY *key;

        test_about("1.1");
        check_int(n.version, SPDM_1_1);
        check_int(n.ct_exponent, 10);
        check_int(n.flags, 0x16);
        check_str(n.hash->name, "sha256");
        check_str(n.asym->name, "ecdsa-p256");
        check_str(n.measurement_hash->name, "sha256");
        check_int(n.data_transfer_size, 0);
        require(check_int(spdm_measurements_parse(log.data, log.n, &n, &m, &why), 0));
        check_int(m.n_blocks, 2);
        check_int(m.blocks[0].index, 1);
        check_int(m.blocks[0].value_type, 1);
        check_int(m.blocks[0].size, 32);
        check_int(m.blocks[0].value[31], 0252);
        check_int(m.blocks[1].index, 7);
        check_int(m.blocks[1].value_type, 0x87);
        check_int(m.blocks[1].size, 1);
        check_int(m.blocks[1].value[0], 42);
        check(m.is_signed);
        check_int(m.slot, 0);
        check_int(m.requested_nonce[0], 0101);
        check_int(m.nonce[0], 0103);
        check_int(m.signed_size, log.n - 64);
        part = (struct spdm_part){ log.data, m.signed_size };
        check_signature("1.1-key.pem", "1.3-key.pem", &n, SPDM_CONTEXT_MEASUREMENTS, &part, 1, m.signature);
        /* 1.1 has no prefix: the same bytes of another version are another text. */
        n.version = SPDM_1_2;
        key = load_key("1.1-key.pem");
        expect(spdm_signature_check(key, &n, SPDM_CONTEXT_MEASUREMENTS, &part, 1, m.signature, &why), &why, EVIDENCE_BAD_SIGNATURE);
        EVP_PKEY_free(key);
        n.version = SPDM_1_1;
        b = log;
        b.n -= 64;
        expect_measurements(&b, &n, EVIDENCE_NO_SIGNATURE);
        b.data[2] = 0; /* now it says that no signature was asked for, and has a nonce too many */
        expect_measurements(&b, &n, EVIDENCE_UNEXPECTED);
}

static void test_1_2(void) {
        struct spdm_negotiated n = load_vca("1.2-vca");
        struct bytes log = load("1.2-challenge"), vca = load("1.2-vca"), b;
        struct spdm_challenge c = {};
        struct evidence_why why = {};
        struct spdm_part parts[2];
        EVP_PKEY *key;

        test_about("1.2");
        check_int(n.version, SPDM_1_2);
        check_int(n.data_transfer_size, 4096);
        check_int(n.max_message_size, 4096);
        check_str(n.hash->name, "sha384");
        check_str(n.asym->name, "rsapss-2048");
        check(!n.measurement_hash);
        check(n.opaque_format_1);
        require(check_int(spdm_challenge_parse(log.data, log.n, &n, &c, &why), 0));
        check_int(c.slot, 0);
        check_int(c.requested_nonce[0], 0105);
        check_int(c.nonce[0], 0106);
        check_int(c.chain_hash[0], 0104);
        check(!c.summary);
        check_int(c.signed_size, log.n - 256);
        parts[0] = (struct spdm_part){ vca.data, vca.n };
        parts[1] = (struct spdm_part){ log.data, c.signed_size };
        check_signature("1.2-key.pem", "1.1-key.pem", &n, SPDM_CONTEXT_CHALLENGE, parts, 2, c.signature);
        key = load_key("1.2-key.pem");
        expect(spdm_signature_check(key, &n, SPDM_CONTEXT_MEASUREMENTS, parts, 2, c.signature, &why), &why, EVIDENCE_BAD_SIGNATURE);
        EVP_PKEY_free(key);
        /* C alone is a log too, another one. */
        why = (struct evidence_why){};
        check_int(spdm_challenge_parse(log.data + 77, log.n - 77, &n, &c, &why), 0);
        for (size_t i = 0; i < log.n; i++) {
                size_t signature = log.n - 256, opaque = signature - 4;

                b = log;
                b.n = i;
                expect_challenge(&b, &n, i < opaque ? EVIDENCE_SHORT : i >= signature && i < signature + 4 ? EVIDENCE_NO_SIGNATURE : EVIDENCE_OPAQUE_LENGTH);
        }
        b = log;
        b.n++;
        expect_challenge(&b, &n, EVIDENCE_TRAILING);
        b = log;
        b.data[56 + 8 + 2] = 1; /* CERTIFICATE of slot 1 where 0 was asked for */
        expect_challenge(&b, &n, EVIDENCE_SLOT_MISMATCH);
}

static void test_1_3(void) {
        struct spdm_negotiated n = load_vca("1.3-vca");
        struct bytes log = load("1.3-measurements"), vca = load("1.3-vca"), b;
        struct spdm_measurements m = {};
        struct evidence_why why = {};
        struct spdm_part parts[2];

        test_about("1.3");
        check_int(n.version, SPDM_1_3);
        check_int(n.data_transfer_size, 8192);
        check_str(n.asym->name, "ecdsa-p384");
        check_str(n.measurement_hash->name, "sha512");
        require(check_int(spdm_measurements_parse(log.data, log.n, &n, &m, &why), 0));
        check_int(m.n_blocks, 2);
        check_int(m.blocks[1].index, 3);
        check_int(m.blocks[1].size, 4);
        check_int(m.slot, 2);
        parts[0] = (struct spdm_part){ vca.data, vca.n };
        parts[1] = (struct spdm_part){ log.data, m.signed_size };
        check_signature("1.3-key.pem", "1.1-key.pem", &n, SPDM_CONTEXT_MEASUREMENTS, parts, 2, m.signature);
        b = log;
        b.data[11] ^= 1; /* the context of the request */
        expect_measurements(&b, &n, EVIDENCE_WRONG_NONCE);
        for (size_t i = 0; i < log.n; i++) {
                int r;

                /* A log may end behind any of its answers. */
                why = (struct evidence_why){};
                r = spdm_measurements_parse(log.data, i, &n, &m, &why);
                check_int(r, i == 62 || i == 62 + 12 + 121 ? 0 : -EBADMSG);
                check(r < 0 || !m.is_signed);
        }
        memcpy(b.data, log.data, log.n);
        memcpy(b.data + log.n, log.data, 62);
        b.n = log.n + 62;
        expect_measurements(&b, &n, EVIDENCE_TRAILING);
}

/* One byte at a time of a good VCA, and of a good answer. */
static void test_contradictions(void) {
        static const struct {
                size_t at;
                uint8_t value;
                enum evidence_reason reason;
        } vca[] = {
                { 0, 0x11, EVIDENCE_WRONG_VERSION }, { 1, 0x81, EVIDENCE_UNEXPECTED }, { 5, 0x7f, EVIDENCE_UNEXPECTED }, { 9, 0, EVIDENCE_NO_VERSION },
                { 4, 0x13, EVIDENCE_WRONG_VERSION }, { 9, 200, EVIDENCE_SHORT },
                { 9, 1, EVIDENCE_NO_VERSION }, /* the requester then seems to go on with what is the second entry */
                { 17, 0x21, EVIDENCE_NO_VERSION }, { 16, 1, EVIDENCE_NO_VERSION }, { 18, 0x14, EVIDENCE_NO_VERSION }, { 18, 0x10, EVIDENCE_NO_VERSION },
                { 38, 0x12, EVIDENCE_DOWNGRADE }, { 38, 0x14, EVIDENCE_WRONG_VERSION }, { 43, 0xff, EVIDENCE_CT_EXPONENT }, { 43, 25, EVIDENCE_CT_EXPONENT },
                { 46, 0x1e, EVIDENCE_CAPABILITY }, { 46, 0x56, EVIDENCE_CAPABILITY }, { 46, 0x14, EVIDENCE_CAPABILITY }, { 47, 0x02, EVIDENCE_CAPABILITY },
                { 46, 0x26, EVIDENCE_CAPABILITY }, { 49, 0x02, EVIDENCE_CAPABILITY },
                { 47, 0x0c, EVIDENCE_CAPABILITY }, { 48, 0x01, EVIDENCE_CAPABILITY }, { 48, 0xc0, EVIDENCE_CAPABILITY }, { 49, 0x0c, EVIDENCE_CAPABILITY },
                { 51, 0x1f, EVIDENCE_CAPABILITY }, { 51, 0x21, EVIDENCE_CAPABILITY }, { 55, 0x21, EVIDENCE_CAPABILITY },
                { 62, 0x21, EVIDENCE_UNEXPECTED }, { 62, 0x1f, EVIDENCE_SHORT }, { 92, 1, EVIDENCE_ALGORITHM_SELECTION }, { 94, 0x25, EVIDENCE_ALGORITHM_SELECTION },
                { 94, 0x23, EVIDENCE_ALGORITHM_SELECTION }, { 96, 0, EVIDENCE_NO_ALGORITHM }, { 96, 2, EVIDENCE_NO_ALGORITHM }, { 97, 3, EVIDENCE_ALGORITHM_SELECTION },
                { 98, 0x0a, EVIDENCE_ALGORITHM_SELECTION }, { 98, 0x10, EVIDENCE_NO_ALGORITHM }, { 98, 0, EVIDENCE_NO_ALGORITHM },
                { 102, 0x90, EVIDENCE_ALGORITHM_SELECTION }, { 102, 0, EVIDENCE_NO_ALGORITHM }, { 102, 8, EVIDENCE_NO_ALGORITHM },
                { 106, 6, EVIDENCE_ALGORITHM_SELECTION }, { 106, 0, EVIDENCE_NO_ALGORITHM }, { 106, 0x40, EVIDENCE_NO_ALGORITHM },
                { 122, 1, EVIDENCE_ALGORITHM_SELECTION },
        }, measurements[] = {
                { 0, 0x12, EVIDENCE_WRONG_VERSION }, { 38, 0x7f, EVIDENCE_UNEXPECTED }, { 37, 0x12, EVIDENCE_WRONG_VERSION },
                { 41, 0, EVIDENCE_BLOCK_COUNT }, { 41, 3, EVIDENCE_BLOCK_COUNT }, { 41, 1, EVIDENCE_RECORD_LENGTH }, { 42, 0x2e, EVIDENCE_RECORD_LENGTH },
                { 42, 0x30, EVIDENCE_RECORD_LENGTH }, { 44, 1, EVIDENCE_RECORD_LENGTH }, { 45, 0, EVIDENCE_BLOCK_INDEX }, { 45, 0xff, EVIDENCE_BLOCK_INDEX },
                { 45, 7, EVIDENCE_BLOCK_INDEX }, { 46, 2, EVIDENCE_BLOCK_FORM }, { 47, 0x22, EVIDENCE_BLOCK_FORM }, { 48, 1, EVIDENCE_RECORD_LENGTH },
                { 50, 0x1f, EVIDENCE_BLOCK_FORM }, { 49, 0x81, EVIDENCE_OK }, { 88, 0x07, EVIDENCE_BLOCK_FORM }, { 3, 1, EVIDENCE_BLOCK_COUNT },
                { 124, 1, EVIDENCE_OPAQUE_LENGTH }, { 125, 0x05, EVIDENCE_OPAQUE_LENGTH }, { 125, 0x01, EVIDENCE_OPAQUE_LENGTH },
        };
        struct bytes good = load("1.3-vca"), log = load("1.1-measurements"), b;
        struct spdm_negotiated n;

        for (size_t i = 0; i < ARRAY_SIZE(vca); i++) {
                test_about("VCA, byte %zu is 0x%02x", vca[i].at, vca[i].value);
                b = good;
                b.data[vca[i].at] = vca[i].value;
                expect_vca(&b, vca[i].reason);
        }
        for (size_t i = 0; i < good.n; i++) {
                test_about("VCA of %zu bytes", i);
                b = good;
                b.n = i;
                expect_vca(&b, EVIDENCE_SHORT);
        }
        test_about("VCA with a byte more");
        b = good;
        b.n++;
        expect_vca(&b, EVIDENCE_TRAILING);
        n = load_vca("1.1-vca");
        for (size_t i = 0; i < ARRAY_SIZE(measurements); i++) {
                test_about("measurements, byte %zu is 0x%02x", measurements[i].at, measurements[i].value);
                b = log;
                b.data[measurements[i].at] = measurements[i].value;
                if (measurements[i].reason == EVIDENCE_OK)
                        check_int(spdm_measurements_parse(b.data, b.n, &n, &(struct spdm_measurements){}, NULL), 0);
                else
                        expect_measurements(&b, &n, measurements[i].reason);
        }
        test_about("a block in two answers");
        b = log;
        b.data[2] = 0; /* unsigned: without the nonce and the slot, and without the signature */
        memmove(b.data + 4, b.data + 37, log.n - 37 - 64);
        b.n = log.n - 33 - 64;
        memcpy(b.data + b.n, b.data, b.n);
        b.n *= 2;
        check_int(spdm_measurements_parse(b.data, b.n, &n, &(struct spdm_measurements){}, NULL), 0);
        b.data[b.n / 2 + 4 + 8 + 7] ^= 1;
        expect_measurements(&b, &n, EVIDENCE_CONTENT_CHANGED);
        b.n = 0;
        expect_measurements(&b, &n, EVIDENCE_SHORT);
}

static void test_tables(void) {
        uint32_t hashes = 0, measurement = 0, asyms = 0;

        test_about("tables");
        for (size_t i = 0; i < spdm_n_hashes; i++) {
                const struct spdm_hash *h = &spdm_hashes[i];
                EVP_MD *md = EVP_MD_fetch(NULL, h->name, NULL);

                require(md);
                check_int(EVP_MD_get_size(md), h->size);
                EVP_MD_free(md);
                check(spdm_hash_of(h->bit) == h && spdm_measurement_hash_of(h->measurement_bit) == h);
                hashes |= h->bit;
                measurement |= h->measurement_bit;
        }
        check_int(hashes, 0x07);
        check_int(measurement, 0x0e);
        for (size_t i = 0; i < spdm_n_asyms; i++) {
                const struct spdm_asym *a = &spdm_asyms[i];

                check(spdm_asym_of(a->bit) == a);
                check_int(a->signature_size, a->scheme == SPDM_ECDSA ? 2 * ((a->key_bits + 7) / 8) : a->key_bits / 8);
                check(a->signature_size <= SPDM_SIGNATURE_MAX);
                asyms |= a->bit;
        }
        check_int(asyms, 0x1ff);
        check(!spdm_hash_of(0) && !spdm_hash_of(3) && !spdm_measurement_hash_of(1) && !spdm_asym_of(0) && !spdm_asym_of(0x200));
}

int main(int argc, char *argv[]) {
        require(argc == 2);
        folder = argv[1];
        test_tables();
        test_1_1();
        test_1_2();
        test_1_3();
        test_contradictions();
        return test_end();
}
