/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SPDM certificate chains: what is taken apart is all of the object, and is written as it came; no chain of a fuzzer leads to the anchor. */
#include "evidence/anchors.h"
#include "evidence/leaf.h"
#include "fuzz.h"

/* A CA of 2026 with the name that the corpus' chains have, but another key. */
static const char pem[] = "-----BEGIN CERTIFICATE-----\n"
                          "MIIBcDCCARagAwIBAgIUFDtw4Hu9bUGFCNB5pfFF8ExHFAAwCgYIKoZIzj0EAwIw\n"
                          "HjENMAsGA1UECgwEQUNNRTENMAsGA1UEAwwEUm9vdDAeFw0yNjExMjMxMzQ3NDha\n"
                          "Fw00NjExMTgxMzQ3NDhaMB4xDTALBgNVBAoMBEFDTUUxDTALBgNVBAMMBFJvb3Qw\n"
                          "WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT4bTwVo+AkYD/GFmdVm9w/TWHGXhvM\n"
                          "s96mGRugqjzH70lN42XFtkoUjK3eK55dFrVlokAtr5Mmlu8sVv6+u4jYozIwMDAP\n"
                          "BgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBTglu2IfkvoypPxTOie79DBTV0WSDAK\n"
                          "BggqhkjOPQQDAgNIADBFAiEA0uWRhvZ/SrCFNMgQtkmkB+FN18d/yji2euIhKhSX\n"
                          "ftcCICiiv0oXXcbLiXp6pH4XRib/Lwh3S4YHLTK4FhbhIxuI\n"
                          "-----END CERTIFICATE-----\n";

static void look(const struct evidence_anchors *a, const uint8_t *data, size_t size, const struct spdm_hash *hash) {
        struct evidence_chain_rules rules = { .time = 1893456000 };
        struct evidence_chain *c = NULL;
        struct evidence_why why = {};
        struct evidence_dmtf dmtf;
        struct evidence_trust t;
        uint8_t *der = NULL;
        char *text = NULL;
        size_t n = 0;
        int r;

        r = evidence_chain_parse(data, size, hash, &c, &why);
        must(r == 0 || (r == -EBADMSG && why.reason != EVIDENCE_OK && *why.text && !c));
        if (r < 0)
                return;
        must(why.reason == EVIDENCE_OK && c->n >= 1 && c->n <= EVIDENCE_CERTIFICATES_MAX);
        must(evidence_chain_to_der(c, &der, &n) == 0 && n == size - 4 - c->hash_size && memcmp(der, data + size - n, n) == 0);
        free(der);
        must(evidence_chain_to_pem(c, &text, &n) == 0 && strlen(text) == n);
        free(text);
        r = evidence_anchors_verify(a, c, &rules, &t, &why);
        must(r == -EBADMSG && why.reason != EVIDENCE_OK);
        (void) evidence_leaf_check(c->certificates[c->n - 1], &spdm_asyms[0], SPDM_1_3, true, NULL);
        (void) evidence_dmtf_decode(c->certificates[c->n - 1], &dmtf, NULL);
        evidence_chain_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct evidence_anchors *a;

        if (!a)
                must(evidence_anchors_new(&a) == 0 && evidence_anchors_add_pem(a, "fuzz", pem, strlen(pem), NULL) == 0);
        look(a, data, size, NULL);
        for (size_t i = 0; i < spdm_n_hashes; i++)
                look(a, data, size, &spdm_hashes[i]);
        return 0;
}
