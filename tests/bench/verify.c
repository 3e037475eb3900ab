/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What judging a chain of four P-384 certificates costs, beside the OpenSSL calls that nobody can do without: decode each, build the path,
 * check three signatures. The two take turns in the same process; processor time is counted, its median. "evidence-verdict" is the
 * whole judgement with its result. Nothing here fails by being slow.
 *
 *   bench-verify [--json] [ROUNDS]
 */
#include <err.h>
#include <time.h>

#include "certificates.h"
#include "evidence/leaf.h"
#include "evidence/verify.h"
#include "figures.h"

static uint8_t *object;
static size_t object_size;
static X509_STORE *store;
static struct evidence_anchors *anchors;

static uint64_t now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static void need(bool ok, const char *what) {
        if (!ok)
                errx(1, "%s failed", what);
}

static void bare(void) {
        const uint8_t *p = object + 52, *end = object + object_size;
        STACK_OF(X509) *others = sk_X509_new_null();
        X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        X509 *x = NULL;

        need(others && ctx, "memory");
        while (p < end) {
                if (x)
                        sk_X509_push(others, x);
                x = d2i_X509(NULL, &p, end - p);
                need(x != NULL, "d2i_X509");
        }
        need(X509_STORE_CTX_init(ctx, store, x, others) == 1, "X509_STORE_CTX_init");
        X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), TEST_TIME);
        need(X509_verify_cert(ctx) == 1, "X509_verify_cert");
        X509_STORE_CTX_free(ctx);
        sk_X509_pop_free(others, X509_free);
        X509_free(x);
}

static void ours(void) {
        struct evidence_chain_rules rules = { .time = TEST_TIME };
        struct evidence_chain *c = NULL;
        struct evidence_trust trust;

        need(evidence_chain_parse(object, object_size, spdm_hash_of(0x02), &c, NULL) == 0, "evidence_chain_parse");
        need(evidence_anchors_verify(anchors, c, &rules, &trust, NULL) == 0, "evidence_anchors_verify");
        need(evidence_leaf_check(c->certificates[c->n - 1], spdm_asym_of(0x80), SPDM_1_2, true, NULL) == 0, "evidence_leaf_check");
        evidence_chain_free(c);
}

static void verdict(void) {
        struct evidence e = { .objects[EVIDENCE_SLOT0] = { object, object_size } };
        struct evidence_rules rules = { .anchors = anchors, .time = TEST_TIME, .slot = -1 };
        struct json_object *result = NULL;

        need(evidence_verify(&e, &rules, &result) == 0 && json_bool_or(result, "ok", false), "evidence_verify");
        json_object_put(result);
}

static void measure(struct samples *s, void (*f)(void)) {
        uint64_t start = now();

        f();
        sample(s, now() - start);
}

int main(int argc, char **argv) {
        struct samples baseline = {}, chain = {}, whole = {};
        unsigned long rounds = 500;
        struct test_chain c;
        size_t size;
        char *pem;

        for (int i = 1; i < argc; i++)
                if (streq(argv[i], "--json"))
                        figures_json = true;
                else
                        rounds = strtoul(argv[i], NULL, 10);
        if (rounds == 0)
                errx(2, "usage: bench-verify [--json] [ROUNDS]");
        test_make_chain(test_good, 4, NULL, NULL, &c);
        object = test_chain_object(&c, 0, c.certificates[0], "sha384", &object_size);
        store = X509_STORE_new();
        need(store && X509_STORE_add_cert(store, c.certificates[0]) == 1, "X509_STORE");
        pem = test_pem(c.certificates, 1, &size);
        need(evidence_anchors_new(&anchors) == 0 && evidence_anchors_add_pem(anchors, "root", pem, size, NULL) == 0, "anchors");
        free(pem);
        for (unsigned long i = 0; i < rounds; i++) {
                measure(&baseline, bare);
                measure(&chain, ours);
                measure(&whole, verdict);
        }
        figure("evidence-chain-4-p384", percentile_us(&chain, 50), percentile_us(&baseline, 50), 1.2, "us");
        figure("evidence-verdict-4-p384", percentile_us(&whole, 50), percentile_us(&baseline, 50), -1, "us");
        free(baseline.ns);
        free(chain.ns);
        free(whole.ns);
        evidence_anchors_free(anchors);
        X509_STORE_free(store);
        free(object);
        test_free_chain(&c);
        test_key(NULL, 0);
        return 0;
}
