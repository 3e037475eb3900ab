/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The SPDM requester against a device that the input plays. For each request the input has a byte: a good answer (with digests and lengths
 * that are right, as no input could find them), a good one with some bytes changed, or the input's own bytes. Whatever it plays, the
 * requester ends, and what it collects can be read again.
 */
#include <openssl/evp.h>

#include "evidence/spdm-requester.h"
#include "fuzz.h"

#define MESSAGE 1024u
#define CHAIN 700u

struct input {
        struct spdm_transport transport;
        const uint8_t *p;
        size_t left;
        uint64_t now;
        uint8_t version, hash, asym, measurement_hash;
        unsigned exchanges;
};

static uint8_t next(struct input *in) {
        if (in->left == 0)
                return 0;
        in->left--;
        return *in->p++;
}

static uint64_t input_now(struct spdm_transport *t) {
        return ((struct input *) t)->now += 10;
}

static void input_sleep(struct spdm_transport *t, uint64_t usec) {
        ((struct input *) t)->now += usec;
}

/* ---- a good device ---- */

static size_t put(uint8_t *to, size_t at, const char *hex) {
        for (; *hex; hex += 2) {
                unsigned byte;

                must(sscanf(hex, "%2x", &byte) == 1);
                to[at++] = (uint8_t) byte;
        }
        return at;
}

static const struct spdm_hash *hash_of(const struct input *in) {
        return &spdm_hashes[in->hash % spdm_n_hashes];
}

static const struct spdm_asym *asym_of(const struct input *in) {
        return &spdm_asyms[in->asym % spdm_n_asyms];
}

static size_t put_digest(const struct input *in, uint8_t *to, size_t at) {
        uint8_t chain[CHAIN] = { CHAIN & 0xff, CHAIN >> 8 };
        size_t n;

        must(EVP_Q_digest(NULL, hash_of(in)->name, NULL, chain, CHAIN, to + at, &n));
        return at + n;
}

static size_t answer_certificate(const uint8_t *q, uint8_t *to) {
        size_t offset = (size_t) (q[4] | q[5] << 8), size = (size_t) (q[6] | q[7] << 8);

        if (offset > CHAIN)
                offset = CHAIN;
        if (size > 300)
                size = 300;
        if (size > CHAIN - offset)
                size = CHAIN - offset;
        to[2] = q[2];
        to[4] = (uint8_t) size;
        to[5] = (uint8_t) (size >> 8);
        to[6] = (uint8_t) (CHAIN - offset - size);
        to[7] = (uint8_t) ((CHAIN - offset - size) >> 8);
        if (offset == 0) {
                to[8] = CHAIN & 0xff;
                to[9] = CHAIN >> 8;
        }
        return 8 + size;
}

static size_t answer_measurements(const struct input *in, const uint8_t *q, size_t size, uint8_t *to) {
        size_t at = 8, width = hash_of(in)->size;

        if (q[3] == 0)
                to[2] = 2;
        for (uint8_t index = 1; index <= 3; index += 2)
                if (q[3] == 0xff || q[3] == index) {
                        uint8_t head[] = { index, 1, (uint8_t) (3 + width), 0, 1, (uint8_t) width, 0 };

                        memcpy(to + at, head, sizeof(head));
                        at += sizeof(head) + width;
                        to[4]++;
                }
        if (q[3] && to[4] == 0) {
                to[1] = SPDM_ERROR;
                to[2] = 1;
                return 4;
        }
        to[5] = (uint8_t) (at - 8);
        at += SPDM_NONCE + 2;
        if (in->version >= SPDM_1_3) {
                memcpy(to + at, q + size - 8, 8);
                at += 8;
        }
        if (q[2] & 1)
                to[3] = q[4 + SPDM_NONCE] & 0xf;
        return q[2] & 1 ? at + asym_of(in)->signature_size : at;
}

static size_t good_answer(struct input *in, const uint8_t *q, size_t size, uint8_t *to) {
        const struct spdm_hash *hash = hash_of(in);
        size_t at;

        memset(to, 0, MESSAGE);
        to[0] = q[0];
        to[1] = SPDM_RESPONSE(q[1]);
        switch (q[1]) {
        case SPDM_GET_VERSION: return put(to, 4, "00040010001100120013");
        case SPDM_GET_CAPABILITIES:
                in->version = q[0];
                return put(to, 4, q[0] >= SPDM_1_2 ? "000a0000160000000004000000040000" : "000a000016000000");
        case SPDM_NEGOTIATE_ALGORITHMS:
                to[4] = 36;
                to[6] = 1;
                to[7] = q[7];
                to[8] = (uint8_t) hash->measurement_bit;
                to[12] = (uint8_t) asym_of(in)->bit;
                to[13] = (uint8_t) (asym_of(in)->bit >> 8);
                to[16] = (uint8_t) hash->bit;
                return 36;
        case SPDM_GET_DIGESTS:
                to[3] = 5;
                at = put_digest(in, to, 4);
                return put_digest(in, to, at);
        case SPDM_GET_CERTIFICATE: return answer_certificate(q, to);
        case SPDM_CHALLENGE:
                to[2] = q[2];
                to[3] = 5;
                at = put_digest(in, to, 4) + SPDM_NONCE + (q[3] ? hash->size : 0) + 2;
                if (in->version >= SPDM_1_3)
                        memcpy(to + at, q + size - 8, 8);
                return at + (in->version >= SPDM_1_3 ? 8 : 0) + asym_of(in)->signature_size;
        case SPDM_GET_MEASUREMENTS: return answer_measurements(in, q, size, to);
        default: return put(to, 0, "127f0500");
        }
}

/* ---- what the input makes of it ---- */

static int input_exchange(struct spdm_transport *t, const void *request, size_t size, void *response, size_t max, size_t *ret_size, uint64_t usec,
                          struct evidence_why *why) {
        struct input *in = (struct input *) t;
        uint8_t how = next(in), answer[MESSAGE];
        size_t n;

        must(size >= 4 && size <= 64 && max == MESSAGE && usec > 0);
        must(++in->exchanges <= 400);
        in->now += 100;
        if (how == 0xff)
                return evidence_refuse(why, EVIDENCE_TIMEOUT, "no answer");
        if (how & 0x80) {
                n = how & 0x7f;
                if (n > in->left)
                        n = in->left;
                memcpy(response, in->p, n);
                in->p += n;
                in->left -= n;
                *ret_size = n;
                return 0;
        }
        n = good_answer(in, request, size, answer);
        must(n <= MESSAGE);
        for (unsigned i = 0; i < (how & 3u); i++) {
                size_t at = (size_t) (next(in) | next(in) << 8);

                answer[at % MESSAGE] = next(in);
        }
        if (how & 4)
                n = next(in);
        if (how & 8 && n < MESSAGE)
                n++;
        memcpy(response, answer, n);
        *ret_size = n;
        return 0;
}

static void check_found(const struct evidence *e, const struct spdm_wanted *w) {
        struct spdm_negotiated n;
        struct spdm_measurements m;
        struct spdm_challenge c;

        must(spdm_vca_parse(e->objects[EVIDENCE_VCA].data, e->objects[EVIDENCE_VCA].size, &n, NULL) == 0);
        must(!w->challenge == !e->objects[EVIDENCE_CHALLENGE].data && !w->measure == !e->objects[EVIDENCE_MEASUREMENTS].data);
        if (w->challenge) {
                must(spdm_challenge_parse(e->objects[EVIDENCE_CHALLENGE].data, e->objects[EVIDENCE_CHALLENGE].size, &n, &c, NULL) == 0);
                must(c.slot == w->slot && c.summary_type == w->summary);
        }
        if (w->measure) {
                must(spdm_measurements_parse(e->objects[EVIDENCE_MEASUREMENTS].data, e->objects[EVIDENCE_MEASUREMENTS].size, &n, &m, NULL) == 0);
                must(m.is_signed == w->sign_measurements);
                must(!m.is_signed || (m.slot == w->slot && e->has_nonce && memcmp(m.requested_nonce, e->nonce, EVIDENCE_NONCE) == 0));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct input in = { .p = data, .left = size };
        _cleanup_evidence_ struct evidence e = {};
        struct evidence_why why = {};
        struct spdm_wanted w = {};
        uint8_t options;
        int r;

        options = next(&in);
        in.hash = next(&in);
        in.asym = next(&in);
        in.transport = (struct spdm_transport){ input_exchange, input_now, input_sleep, MESSAGE, 4, 1000000 };
        w = (struct spdm_wanted){
                .challenge = options & 1,
                .measure = (options >> 1 & 3) % 3,
                .sign_measurements = options & 8,
                .summary = options & 16 ? 0xff : 0,
                .slot = options & 32 ? 2 : 0,
                .version_max = (uint8_t) (SPDM_1_1 + (options >> 6) % 3),
                .messages = 400,
        };
        r = spdm_collect(&in.transport, &w, &e, &why);
        must(r == 0 || (r == -EBADMSG && why.reason != EVIDENCE_OK && why.text[0]));
        if (r == 0)
                check_found(&e, &w);
        else
                for (size_t i = 0; i < _EVIDENCE_TYPE_MAX; i++)
                        must(!e.objects[i].data);
        return 0;
}
