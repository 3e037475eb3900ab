/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asks a responder on a port of this machine, or a function of a host by its config file in sysfs, for its evidence, checks the signatures with the
 * leaves as they come, and prints one line of JSON: the reason ("ok"), the text, and what was negotiated. Chains are not verified. For
 * test_spdm.py and for trying out responders.
 */
#include <getopt.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "evidence/doe.h"
#include "evidence/spdm-requester.h"
#include "evidence/spdm-tcp.h"
#include "model/json.h"

static const char usage[] =
        "usage: spdm-ask --port N | --config FILE [--host HOST] [--out FOLDER] [--slots MASK] [--slot N] [--challenge] [--summary N] [--all | --each] [--sign] [--raw]\n"
        "                [--nonce BYTE] [--version-min 0x11] [--version-max 0x13] [--hash NAME] [--asym NAME] [--timeout MS] [--messages N]\n";

struct options {
        struct spdm_wanted wanted;
        uint16_t port;
        const char *config, *host, *out;
        uint8_t nonce[EVIDENCE_NONCE];
};

static uint32_t bits_of(const char *name) {
        for (size_t i = 0; i < spdm_n_hashes; i++)
                if (streq(spdm_hashes[i].name, name))
                        return spdm_hashes[i].bit;
        for (size_t i = 0; i < spdm_n_asyms; i++)
                if (streq(spdm_asyms[i].name, name))
                        return spdm_asyms[i].bit;
        fprintf(stderr, "spdm-ask: no algorithm %s\n", name);
        exit(2);
}

static struct options parse(int argc, char *argv[]) {
        enum { PORT = 1, CONFIG, OUT, SLOTS, SLOT, CHALLENGE, SUMMARY, ALL, EACH, SIGN, RAW, NONCE, MIN, MAX, HASH, ASYM, TIMEOUT, MESSAGES, HOST };
        static const struct option longs[] = {
                { "port", 1, NULL, PORT },       { "out", 1, NULL, OUT },         { "slots", 1, NULL, SLOTS }, { "slot", 1, NULL, SLOT },
                { "challenge", 0, NULL, CHALLENGE }, { "summary", 1, NULL, SUMMARY }, { "all", 0, NULL, ALL }, { "each", 0, NULL, EACH },
                { "sign", 0, NULL, SIGN },       { "raw", 0, NULL, RAW },         { "nonce", 1, NULL, NONCE }, { "version-min", 1, NULL, MIN },
                { "version-max", 1, NULL, MAX }, { "hash", 1, NULL, HASH },       { "asym", 1, NULL, ASYM },   { "timeout", 1, NULL, TIMEOUT },
                { "messages", 1, NULL, MESSAGES }, { "config", 1, NULL, CONFIG }, { "host", 1, NULL, HOST }, { NULL, 0, NULL, 0 },
        };
        struct options o = { .host = "linux" };
        int c;

        while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
                unsigned long n = optarg ? strtoul(optarg, NULL, 0) : 0;

                switch (c) {
                case PORT: o.port = (uint16_t) n; break;
                case CONFIG: o.config = optarg; break;
                case HOST: o.host = optarg; break;
                case OUT: o.out = optarg; break;
                case SLOTS: o.wanted.slots = (uint8_t) n; break;
                case SLOT: o.wanted.slot = (uint8_t) n; break;
                case CHALLENGE: o.wanted.challenge = true; break;
                case SUMMARY: o.wanted.summary = (uint8_t) n; break;
                case ALL: o.wanted.measure = SPDM_MEASURE_AT_ONCE; break;
                case EACH: o.wanted.measure = SPDM_MEASURE_ONE_BY_ONE; break;
                case SIGN: o.wanted.sign_measurements = true; break;
                case RAW: o.wanted.raw = true; break;
                case NONCE: memset(o.nonce, (int) n, sizeof(o.nonce)); o.wanted.nonce = o.nonce; break;
                case MIN: o.wanted.version_min = (uint8_t) n; break;
                case MAX: o.wanted.version_max = (uint8_t) n; break;
                case HASH: o.wanted.hashes = bits_of(strempty(optarg)); break;
                case ASYM: o.wanted.asyms = bits_of(strempty(optarg)); break;
                case TIMEOUT: o.wanted.timeout_usec = n * 1000; break;
                case MESSAGES: o.wanted.messages = (unsigned) n; break;
                default: fputs(usage, stderr); exit(2);
                }
        }
        if ((o.port != 0) == (o.config != NULL) || optind != argc) {
                fputs(usage, stderr);
                exit(2);
        }
        return o;
}

/* The key of the last certificate: it is the slot's leaf. */
static EVP_PKEY *leaf_key(const struct evidence *e, uint8_t slot, const struct spdm_negotiated *n) {
        const unsigned char *p = e->objects[slot].data, *end;
        X509 *leaf = NULL;
        EVP_PKEY *key;

        if (!p || e->objects[slot].size < 4 + n->hash->size)
                return NULL;
        end = p + e->objects[slot].size;
        for (p += 4 + n->hash->size; p < end;) {
                X509_free(leaf);
                leaf = d2i_X509(NULL, &p, end - p);
                if (!leaf)
                        return NULL;
        }
        key = leaf ? X509_get_pubkey(leaf) : NULL;
        X509_free(leaf);
        return key;
}

static int check_challenge(const struct evidence *e, const struct spdm_negotiated *n, EVP_PKEY *key, struct evidence_why *why) {
        const struct evidence_object *vca = &e->objects[EVIDENCE_VCA], *log = &e->objects[EVIDENCE_CHALLENGE];
        struct spdm_challenge c;
        struct spdm_part parts[2];
        int r;

        r = spdm_challenge_parse(log->data, log->size, n, &c, why);
        if (r < 0)
                return r;
        parts[0] = (struct spdm_part){ vca->data, vca->size };
        parts[1] = (struct spdm_part){ log->data, c.signed_size };
        return spdm_signature_check(key, n, SPDM_CONTEXT_CHALLENGE, parts, 2, c.signature, why);
}

static int check_measurements(const struct evidence *e, const struct spdm_negotiated *n, EVP_PKEY *key, struct json_object *blocks, struct evidence_why *why) {
        const struct evidence_object *vca = &e->objects[EVIDENCE_VCA], *log = &e->objects[EVIDENCE_MEASUREMENTS];
        size_t skip = n->version < SPDM_1_2; /* 1.1 has no VCA in L1 */
        struct spdm_measurements m;
        struct spdm_part parts[2];
        int r;

        r = spdm_measurements_parse(log->data, log->size, n, &m, why);
        if (r < 0)
                return r;
        for (size_t i = 0; i < m.n_blocks; i++) {
                char name[8], *hex = calloc(1, 2 * m.blocks[i].size + 4);

                if (!hex)
                        return -ENOMEM;
                snprintf(name, sizeof(name), "%u", m.blocks[i].index);
                sprintf(hex, "%02x:", m.blocks[i].value_type);
                for (size_t k = 0; k < m.blocks[i].size; k++)
                        sprintf(hex + 3 + 2 * k, "%02x", m.blocks[i].value[k]);
                json_set_str(blocks, name, hex);
                free(hex);
        }
        if (!m.is_signed)
                return 0;
        if (!e->has_nonce || memcmp(e->nonce, m.requested_nonce, EVIDENCE_NONCE) != 0)
                return evidence_refuse(why, EVIDENCE_WRONG_NONCE, "the signed request has another nonce than the evidence");
        parts[0] = (struct spdm_part){ vca->data, vca->size };
        parts[1] = (struct spdm_part){ log->data, m.signed_size };
        return spdm_signature_check(key, n, SPDM_CONTEXT_MEASUREMENTS, parts + skip, 2 - skip, m.signature, why);
}

static int check(const struct options *o, const struct evidence *e, struct json_object *result, struct evidence_why *why) {
        const struct evidence_object *vca = &e->objects[EVIDENCE_VCA];
        struct json_object *blocks = json_new();
        struct spdm_negotiated n;
        EVP_PKEY *key;
        int r;

        json_set_take(result, "blocks", blocks);
        r = spdm_vca_parse(vca->data, vca->size, &n, why);
        if (r < 0)
                return r;
        json_set_u64(result, "version", n.version);
        json_set_str(result, "hash", n.hash->name);
        json_set_str(result, "asym", n.asym->name);
        json_set_str(result, "measurement_hash", n.measurement_hash ? n.measurement_hash->name : "");
        key = leaf_key(e, o->wanted.slot, &n);
        if (!key && (o->wanted.challenge || o->wanted.measure))
                return evidence_refuse(why, EVIDENCE_CERTIFICATE_FORM, "slot %u holds no certificates", o->wanted.slot);
        if (o->wanted.challenge)
                r = check_challenge(e, &n, key, why);
        if (r == 0 && o->wanted.measure)
                r = check_measurements(e, &n, key, blocks, why);
        EVP_PKEY_free(key);
        return r;
}

static void write_objects(const char *folder, const struct evidence *e, struct json_object *result) {
        struct json_object *sizes = json_new();

        for (int i = 0; i < _EVIDENCE_TYPE_MAX; i++) {
                const struct evidence_object *object = &e->objects[i];
                char path[4096];
                FILE *f;

                if (!object->data)
                        continue;
                json_set_u64(sizes, evidence_type_to_string(i), object->size);
                if (!folder)
                        continue;
                snprintf(path, sizeof(path), "%s/%s", folder, evidence_type_to_string(i));
                f = fopen(path, "we");
                if (!f || fwrite(object->data, 1, object->size, f) != object->size || fclose(f) != 0) {
                        perror(path);
                        exit(1);
                }
        }
        json_set_take(result, "objects", sizes);
}

int main(int argc, char *argv[]) {
        struct options o = parse(argc, argv);
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;
        _cleanup_(spdm_tcp_closep) struct spdm_transport *tcp = NULL;
        _cleanup_(spdm_doe_closep) struct spdm_transport *doe = NULL;
        _cleanup_json_ struct json_object *result = json_new();
        _cleanup_evidence_ struct evidence e = {};
        struct evidence_why why = {};
        int r;

        if (!o.config)
                r = spdm_tcp_open(o.port, &tcp, &why);
        else {
                r = tdi_host_new(o.host, &host);
                if (r == 0)
                        r = spdm_doe_open(host, o.config, &doe, &why);
        }
        if (r == 0)
                r = spdm_collect(tcp ? tcp : doe, &o.wanted, &e, &why);
        if (r == 0)
                r = check(&o, &e, result, &why);
        if (r < 0 && r != -EBADMSG) {
                fprintf(stderr, "spdm-ask: %s\n", strerror(-r));
                return 1;
        }
        write_objects(o.out, &e, result);
        json_set_str(result, "reason", evidence_reason_to_string(why.reason));
        json_set_str(result, "text", why.text);
        puts(json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN));
        return 0;
}
