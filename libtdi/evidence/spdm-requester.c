/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is asked in which order. One GET_DIGESTS and all GET_CERTIFICATEs come before CHALLENGE, so that they are B of M1/M2; then come the
 * GET_MEASUREMENTS and nothing between them, so that they are L1/L2; at the end the digests again, so that all belongs to the same chains.
 */
#include "evidence/spdm-requester.h"

#include <openssl/evp.h>
#include <sys/random.h>
#include <time.h>

#include "evidence/spdm-exchange.h"

#define PORTION 1024u     /* what the buffers of small devices hold */
#define PORTIONS_MAX 512u /* a chain may come in smaller ones than those asked for */
#define RESYNCH_MAX 3u
#define MEASURE_AGAIN_MAX (SPDM_BUSY_MAX + 2)
#define INDICES 256u

struct requester {
        struct spdm_exchange x;
        const struct spdm_wanted *wanted;
        struct evidence_why *why;
        struct evidence found;
        struct spdm_log vca, challenge, measurements;
        uint8_t mask, digests[EVIDENCE_SLOTS][SPDM_HASH_MAX];
        bool one_by_one, have_indices;
        bool indices[INDICES]; /* those that the device has */
        uint8_t nonce[EVIDENCE_NONCE];
};

static int random_bytes(void *p, size_t size) {
        return getrandom(p, size, 0) == (ssize_t) size ? 0 : -EIO;
}

/* ---- version, capabilities, algorithms ---- */

static int get_version(struct requester *q) {
        uint8_t low = q->wanted->version_min ? q->wanted->version_min : SPDM_1_1, high = q->wanted->version_max ? q->wanted->version_max : SPDM_1_3;
        struct spdm_versions versions;
        struct spdm_reader r;
        int e;

        q->x.n = (struct spdm_negotiated){ .version = SPDM_1_0 };
        q->x.crypto_time = false;
        spdm_request(&q->x, SPDM_GET_VERSION, 0, 0);
        e = spdm_ask(&q->x, NULL, &r, q->why);
        if (e < 0)
                return e;
        e = spdm_version_read(&r, &versions, q->why);
        if (e < 0)
                return e;
        e = spdm_answered(&q->x, &r, "VERSION", &q->vca, q->why);
        if (e < 0)
                return e;
        for (uint8_t v = high; v >= low; v--)
                if (spdm_versions_have(&versions, v)) {
                        q->x.n.version = v;
                        return 0;
                }
        return evidence_refuse(q->why, EVIDENCE_NO_VERSION, "VERSION: none of its %zu versions is from %u.%u to %u.%u; the first is 0x%04x",
                               versions.n, low >> 4, low & 0xfu, high >> 4, high & 0xfu, spdm_get16(versions.entries));
}

static int capabilities_check(struct requester *q) {
        const struct spdm_wanted *w = q->wanted;
        uint32_t flags = q->x.n.flags;
        const char *lacks = NULL;

        if (!(flags & SPDM_CAP_CERT))
                lacks = "CERT_CAP: there are no certificates";
        else if (w->challenge && !(flags & SPDM_CAP_CHAL))
                lacks = "CHAL_CAP: it cannot be challenged";
        else if (w->measure && !(flags & SPDM_CAP_MEAS))
                lacks = "MEAS_CAP: there are no measurements";
        else if (q->x.n.version >= SPDM_1_3 && flags & SPDM_CAP_MULTI_KEY_ONLY)
                lacks = "any way to be asked without several keys (MULTI_KEY_CAP is 1)";
        if (lacks)
                return evidence_refuse(q->why, EVIDENCE_CAPABILITY, "CAPABILITIES: the flags 0x%08x lack %s", flags, lacks);
        if (w->measure && w->sign_measurements && !(flags & SPDM_CAP_MEAS_SIG))
                return evidence_refuse(q->why, EVIDENCE_NO_SIGNATURE, "CAPABILITIES: with the flags 0x%08x it does not sign measurements", flags);
        return 0;
}

static int get_capabilities(struct requester *q) {
        size_t max = q->x.transport->max_message;
        struct spdm_reader r;
        int e;

        spdm_request(&q->x, SPDM_GET_CAPABILITIES, 0, 0);
        spdm_request_add_number(&q->x, 0, 4); /* it is never asked for a signature: CTExponent does not matter */
        spdm_request_add_number(&q->x, 0, 4); /* nor can it do anything that has a flag */
        if (q->x.n.version >= SPDM_1_2) {
                spdm_request_add_number(&q->x, max, 4);
                spdm_request_add_number(&q->x, max, 4);
        }
        e = spdm_ask(&q->x, NULL, &r, q->why);
        if (e < 0)
                return e;
        e = spdm_capabilities_read(&r, false, &q->x.n, q->why);
        if (e < 0)
                return e;
        e = spdm_answered(&q->x, &r, "CAPABILITIES", &q->vca, q->why);
        return e < 0 ? e : capabilities_check(q);
}

static int negotiate_algorithms(struct requester *q) {
        struct spdm_offer offer = { .measurement_specification = SPDM_MEASUREMENT_SPECIFICATION_DMTF };
        struct spdm_reader r;
        int e;

        for (size_t i = 0; i < spdm_n_hashes; i++)
                offer.hashes |= spdm_hashes[i].bit;
        for (size_t i = 0; i < spdm_n_asyms; i++)
                offer.asyms |= spdm_asyms[i].bit;
        if (q->wanted->hashes)
                offer.hashes &= q->wanted->hashes;
        if (q->wanted->asyms)
                offer.asyms &= q->wanted->asyms;
        if (q->x.n.version >= SPDM_1_2)
                offer.other_params = SPDM_OPAQUE_FORMAT_1;
        spdm_request(&q->x, SPDM_NEGOTIATE_ALGORITHMS, 0, 0);
        spdm_request_add_number(&q->x, 32, 2);
        spdm_request_add_number(&q->x, offer.measurement_specification, 1);
        spdm_request_add_number(&q->x, offer.other_params, 1);
        spdm_request_add_number(&q->x, offer.asyms, 4);
        spdm_request_add_number(&q->x, offer.hashes, 4);
        spdm_request_add_number(&q->x, 0, 8);
        spdm_request_add_number(&q->x, 0, 8); /* 12 reserved, no extended algorithms, no log of measurements */
        e = spdm_ask(&q->x, NULL, &r, q->why);
        if (e < 0)
                return e;
        e = spdm_algorithms_read(&r, &offer, &q->x.n, q->why);
        if (e < 0)
                return e;
        q->x.crypto_time = true;
        return spdm_answered(&q->x, &r, "ALGORITHMS", &q->vca, q->why);
}

/* ---- certificates ---- */

static int get_digests(struct requester *q, struct spdm_log *log, struct spdm_digests *ret) {
        struct spdm_reader r;
        int e;

        spdm_request(&q->x, SPDM_GET_DIGESTS, 0, 0);
        e = spdm_ask(&q->x, NULL, &r, q->why);
        if (e < 0)
                return e;
        e = spdm_digests_read(&r, &q->x.n, ret, q->why);
        if (e < 0)
                return e;
        return spdm_answered(&q->x, &r, "DIGESTS", log, q->why);
}

/* Those of the start, once more; between measurements also what makes the device begin a new L1/L2. */
static int get_digests_again(struct requester *q) {
        struct spdm_digests d;
        int e = get_digests(q, NULL, &d);

        if (e < 0)
                return e;
        for (unsigned i = 0; i < EVIDENCE_SLOTS; i++)
                if (d.mask != q->mask || (d.digests[i] && memcmp(d.digests[i], q->digests[i], q->x.n.hash->size) != 0))
                        return evidence_refuse(q->why, EVIDENCE_CHAIN_CHANGED,
                                               "DIGESTS: slots 0x%02x, and another digest for slot %u than at the start (slots 0x%02x)",
                                               d.mask, i, q->mask);
        return 0;
}

static int get_portion(struct requester *q, uint8_t slot, size_t offset, struct spdm_portion *ret) {
        size_t max = q->x.transport->max_message - 8;
        struct spdm_reader r;
        int e;

        if (max > PORTION)
                max = PORTION;
        if (max > SPDM_CHAIN_MAX - offset)
                max = SPDM_CHAIN_MAX - offset;
        spdm_request(&q->x, SPDM_GET_CERTIFICATE, slot, 0);
        spdm_request_add_number(&q->x, offset, 2);
        spdm_request_add_number(&q->x, max, 2);
        e = spdm_ask(&q->x, NULL, &r, q->why);
        if (e < 0)
                return e;
        e = spdm_certificate_read(&r, &q->x.n, slot, max, ret, q->why);
        if (e < 0)
                return e;
        return spdm_answered(&q->x, &r, "CERTIFICATE", &q->challenge, q->why);
}

/* The same as DIGESTS said? If not, it may have changed since. */
static int chain_check(struct requester *q, uint8_t slot, const struct spdm_log *chain) {
        const struct spdm_hash *hash = q->x.n.hash;
        uint8_t digest[EVP_MAX_MD_SIZE];
        struct spdm_digests again;
        size_t size;
        int e;

        if (!EVP_Q_digest(NULL, hash->name, NULL, chain->data, chain->size, digest, &size) || size != hash->size)
                return -ENOMEM;
        if (memcmp(digest, q->digests[slot], size) == 0)
                return 0;
        e = get_digests(q, NULL, &again);
        if (e < 0)
                return e;
        if (again.digests[slot] && memcmp(again.digests[slot], digest, size) == 0)
                return evidence_refuse(q->why, EVIDENCE_CHAIN_CHANGED,
                                       "slot %u: the chain of %zu bytes changed between its digest and its last portion", slot, chain->size);
        return evidence_refuse(q->why, EVIDENCE_DIGEST_MISMATCH, "slot %u: the chain of %zu bytes begins %s 0x%02x%02x, DIGESTS says 0x%02x%02x",
                               slot, chain->size, hash->name, digest[0], digest[1], q->digests[slot][0], q->digests[slot][1]);
}

static int get_chain(struct requester *q, uint8_t slot, struct spdm_log *chain) {
        size_t total = 0;

        for (unsigned n = 0; n < PORTIONS_MAX; n++) {
                struct spdm_portion p;
                int e = get_portion(q, slot, chain->size, &p);

                if (e < 0)
                        return e;
                if (n == 0) {
                        total = p.size + p.remainder;
                        if (total == 0)
                                return evidence_refuse(q->why, EVIDENCE_EMPTY_SLOT, "CERTIFICATE: slot %u has a chain of no bytes", slot);
                        if (total > SPDM_CHAIN_MAX)
                                return evidence_refuse(q->why, EVIDENCE_TOO_LONG,
                                                       "CERTIFICATE: slot %u has a chain of %zu bytes, expected at most %u", slot, total,
                                                       SPDM_CHAIN_MAX);
                }
                if (p.size == 0)
                        return evidence_refuse(q->why, EVIDENCE_PORTION, "CERTIFICATE: slot %u has an empty portion at %zu of %zu", slot, chain->size,
                                               total);
                if (chain->size + p.size + p.remainder != total)
                        return evidence_refuse(q->why, EVIDENCE_PORTION,
                                               "CERTIFICATE: slot %u at %zu has %zu bytes and %zu behind them, expected %zu in all", slot,
                                               chain->size, p.size, p.remainder, total);
                e = spdm_log_add(chain, p.data, p.size);
                if (e < 0)
                        return e;
                if (p.remainder == 0)
                        return chain_check(q, slot, chain);
        }
        return evidence_refuse(q->why, EVIDENCE_PORTION, "CERTIFICATE: slot %u has more than %u portions, at %zu of %zu bytes", slot, PORTIONS_MAX,
                               chain->size, total);
}

static int get_chains(struct requester *q) {
        const struct spdm_wanted *w = q->wanted;
        bool is_signed = w->challenge || (w->measure && w->sign_measurements);
        uint8_t needed = w->slots | (is_signed ? (uint8_t) (1u << w->slot) : 0), slots;
        struct spdm_digests d;
        int e;

        e = get_digests(q, &q->challenge, &d);
        if (e < 0)
                return e;
        if (d.mask == 0 || (needed & ~d.mask))
                return evidence_refuse(q->why, EVIDENCE_EMPTY_SLOT, "DIGESTS: the slots 0x%02x have a chain, needed are 0x%02x", d.mask, needed);
        q->mask = d.mask;
        for (unsigned i = 0; i < EVIDENCE_SLOTS; i++)
                if (d.digests[i])
                        memcpy(q->digests[i], d.digests[i], q->x.n.hash->size);
        slots = w->slots ? needed : d.mask;
        for (uint8_t i = 0; i < EVIDENCE_SLOTS; i++) {
                _cleanup_(spdm_log_done) struct spdm_log chain = {};

                if (!(slots & 1u << i))
                        continue;
                e = get_chain(q, i, &chain);
                if (e == 0)
                        e = evidence_set(&q->found, EVIDENCE_SLOT0 + i, chain.data, chain.size);
                if (e < 0)
                        return e;
        }
        return 0;
}

static int challenge(struct requester *q) {
        uint8_t random[SPDM_NONCE + SPDM_CONTEXT];
        struct spdm_challenge c;
        struct spdm_reader r;
        int e = random_bytes(random, sizeof(random));

        if (e < 0)
                return e;
        spdm_request(&q->x, SPDM_CHALLENGE, q->wanted->slot, q->wanted->summary);
        spdm_request_add(&q->x, random, q->x.n.version >= SPDM_1_3 ? sizeof(random) : SPDM_NONCE);
        e = spdm_ask(&q->x, NULL, &r, q->why);
        if (e < 0)
                return e;
        e = spdm_challenge_auth_read(&r, &q->x.n, q->x.request, &c, q->why);
        if (e < 0)
                return e;
        if (memcmp(c.chain_hash, q->digests[q->wanted->slot], q->x.n.hash->size) != 0)
                return evidence_refuse(q->why, EVIDENCE_WRONG_CHAIN_HASH, "CHALLENGE_AUTH: the chain's hash begins 0x%02x%02x, that of slot %u 0x%02x%02x",
                                       c.chain_hash[0], c.chain_hash[1], q->wanted->slot, q->digests[q->wanted->slot][0], q->digests[q->wanted->slot][1]);
        return spdm_answered(&q->x, &r, "CHALLENGE_AUTH", &q->challenge, q->why);
}

/* ---- measurements ---- */

/*
 * 0; a tolerated error code; -EAGAIN: the log has to be begun again, as the device may have forgotten what was asked before it was busy.
 */
static int get_measurements(struct requester *q, uint8_t operation, bool is_signed, const uint8_t *tolerated, uint8_t *ret_count) {
        uint8_t attributes = (is_signed ? SPDM_MEASURE_SIGNED : 0) | (q->wanted->raw && q->x.n.version >= SPDM_1_2 ? SPDM_MEASURE_RAW : 0);
        struct spdm_measurements m = {};
        uint8_t context[SPDM_CONTEXT];
        struct spdm_reader r;
        int e = random_bytes(context, sizeof(context));

        if (e < 0)
                return e;
        spdm_request(&q->x, SPDM_GET_MEASUREMENTS, attributes, operation);
        if (is_signed) {
                spdm_request_add(&q->x, q->nonce, sizeof(q->nonce));
                spdm_request_add_number(&q->x, q->wanted->slot, 1);
        }
        if (q->x.n.version >= SPDM_1_3)
                spdm_request_add(&q->x, context, sizeof(context));
        e = spdm_ask(&q->x, tolerated, &r, q->why);
        if (e != 0)
                return e;
        e = spdm_measurements_read(&r, &q->x.n, q->x.request, &m, ret_count, q->why);
        if (e < 0)
                return e;
        if (q->x.interrupted && q->measurements.size > 0)
                return -EAGAIN;
        return spdm_answered(&q->x, &r, "MEASUREMENTS", &q->measurements, q->why);
}

/* Those that are known to be there; the last is signed for all. */
static int measure_known(struct requester *q) {
        unsigned last = INDICES - 1;

        while (!q->indices[last])
                last--;
        for (unsigned i = 1; i <= last; i++) {
                uint8_t count;
                int e;

                if (!q->indices[i])
                        continue;
                e = get_measurements(q, (uint8_t) i, q->wanted->sign_measurements && i == last, NULL, &count);
                if (e < 0)
                        return e;
        }
        return 0;
}

/*
 * Finds out which indices there are. An ERROR for one that is not ends L1/L2 (that of an unknown index too), so that all has to be asked
 * again; without one the log is good as it is.
 */
static int measure_unknown(struct requester *q) {
        static const uint8_t tolerated[] = { SPDM_ERROR_INVALID_REQUEST, 0 };
        uint8_t count = 0, found = 0;
        bool gap = false;
        int e;

        e = get_measurements(q, SPDM_MEASURE_COUNT, false, NULL, &count);
        if (e < 0)
                return e;
        if (count == 0 || count == UINT8_MAX)
                return evidence_refuse(q->why, count ? EVIDENCE_BLOCK_COUNT : EVIDENCE_NO_MEASUREMENTS,
                                       "MEASUREMENTS: the device says that it has %u", count);
        memset(q->indices, 0, sizeof(q->indices));
        for (unsigned i = 1; i < SPDM_MEASURE_ALL && found < count; i++) {
                uint8_t unused;

                e = get_measurements(q, (uint8_t) i, q->wanted->sign_measurements && !gap && found == count - 1, tolerated, &unused);
                if (e < 0)
                        return e;
                if (e > 0) {
                        gap = true;
                        q->measurements.size = 0;
                        continue;
                }
                q->indices[i] = true;
                found++;
        }
        if (found < count)
                return evidence_refuse(q->why, EVIDENCE_BLOCK_COUNT, "MEASUREMENTS: the device says that it has %u, found were %u", count, found);
        q->have_indices = true;
        return gap ? -EAGAIN : 0;
}

static int measure_at_once(struct requester *q) {
        static const uint8_t tolerated[] = { SPDM_ERROR_RESPONSE_TOO_LARGE, SPDM_ERROR_LARGE_RESPONSE, 0 };
        uint8_t unused;
        int e;

        e = get_measurements(q, SPDM_MEASURE_ALL, q->wanted->sign_measurements, tolerated, &unused);
        if (e <= 0)
                return e;
        q->one_by_one = true;
        return -EAGAIN;
}

static int measure(struct requester *q) {
        struct spdm_measurements m;

        for (unsigned i = 0; i < MEASURE_AGAIN_MAX; i++) {
                int e;

                q->measurements.size = 0;
                e = !q->one_by_one ? measure_at_once(q) : q->have_indices ? measure_known(q) : measure_unknown(q);
                if (e == 0)
                        return spdm_measurements_parse(q->measurements.data, q->measurements.size, &q->x.n, &m, q->why);
                if (e != -EAGAIN)
                        return e;
                e = get_digests_again(q);
                if (e < 0)
                        return e;
        }
        return evidence_refuse(q->why, EVIDENCE_BUSY, "MEASUREMENTS: interrupted %u times", MEASURE_AGAIN_MAX);
}

/* ---- all of it ---- */

static int collect(struct requester *q) {
        _cleanup_(spdm_log_done) struct spdm_log before = q->vca;
        const struct spdm_wanted *w = q->wanted;
        int e;

        q->vca = (struct spdm_log){};
        q->challenge.size = q->measurements.size = 0;
        q->one_by_one = w->measure == SPDM_MEASURE_ONE_BY_ONE;
        q->have_indices = false;
        e = get_version(q);
        if (e == 0)
                e = get_capabilities(q);
        if (e == 0)
                e = negotiate_algorithms(q);
        if (e < 0)
                return e;
        /* Whoever can make us start over must not get less out of us. A start that ended halfway says as much as it says. */
        if (before.size > q->vca.size || (before.size > 0 && memcmp(before.data, q->vca.data, before.size) != 0))
                return evidence_refuse(q->why, EVIDENCE_DOWNGRADE,
                                       "after RequestResynch the versions, capabilities or algorithms are not those of before");
        e = get_chains(q);
        if (e == 0 && w->challenge)
                e = challenge(q);
        if (e == 0 && w->measure)
                e = measure(q);
        return e < 0 ? e : get_digests_again(q);
}

static int collect_resynched(struct requester *q) {
        for (unsigned i = 0; i <= RESYNCH_MAX; i++) {
                int e = collect(q);

                if (e != -ESTALE)
                        return e;
                evidence_done(&q->found);
        }
        return evidence_refuse(q->why, EVIDENCE_RESYNCH, "ERROR(RequestResynch) for the %uth time", RESYNCH_MAX + 1);
}

static int hand_over(struct requester *q, struct evidence *ret) {
        struct timespec ts;
        int e;

        e = evidence_set(&q->found, EVIDENCE_VCA, q->vca.data, q->vca.size);
        if (e == 0 && q->wanted->challenge)
                e = evidence_set(&q->found, EVIDENCE_CHALLENGE, q->challenge.data, q->challenge.size);
        if (e == 0 && q->wanted->measure)
                e = evidence_set(&q->found, EVIDENCE_MEASUREMENTS, q->measurements.data, q->measurements.size);
        if (e < 0)
                return e;
        for (unsigned i = 0; i < _EVIDENCE_TYPE_MAX; i++)
                if (i != EVIDENCE_REPORT) {
                        free(ret->objects[i].data);
                        ret->objects[i] = q->found.objects[i];
                        q->found.objects[i] = (struct evidence_object){};
                }
        (void) clock_gettime(CLOCK_REALTIME, &ts);
        ret->time_usec = (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
        ret->has_nonce = q->wanted->measure && q->wanted->sign_measurements;
        memcpy(ret->nonce, q->nonce, sizeof(ret->nonce));
        return 0;
}

int spdm_collect(struct spdm_transport *t, const struct spdm_wanted *wanted, struct evidence *ret, struct evidence_why *why) {
        struct requester q = { .wanted = wanted, .why = why, .x.transport = t };
        int e = 0;

        if (wanted->slot >= EVIDENCE_SLOTS || t->max_message < 256)
                return -EINVAL;
        q.x.messages_left = wanted->messages ? wanted->messages : SPDM_MESSAGES_MAX;
        q.x.deadline = spdm_now(t) + (wanted->timeout_usec ? wanted->timeout_usec : SPDM_TIMEOUT_USEC);
        q.x.response = malloc(t->max_message);
        if (!q.x.response)
                return -ENOMEM;
        if (wanted->nonce)
                memcpy(q.nonce, wanted->nonce, sizeof(q.nonce));
        else
                e = random_bytes(q.nonce, sizeof(q.nonce));
        if (e == 0)
                e = collect_resynched(&q);
        if (e == 0)
                e = hand_over(&q, ret);
        spdm_log_done(&q.vca);
        spdm_log_done(&q.challenge);
        spdm_log_done(&q.measurements);
        evidence_done(&q.found);
        free(q.x.response);
        return e;
}
