/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The chains of all slots: each is judged on its own, and described certificate by certificate. */
#include <openssl/err.h>
#include <stdio.h>

#include "evidence/dice.h"
#include "evidence/leaf.h"
#include "evidence/verify-internal.h"

static void put_time(struct json_object *o, const char *key, const ASN1_TIME *time) {
        struct tm tm;
        char text[32];

        if (!ASN1_TIME_to_tm(time, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
                ERR_clear_error();
                return;
        }
        json_set_str(o, key, text);
}

static struct json_object *describe(X509 *x) {
        const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
        struct json_object *o = json_new();
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        char text[512];

        evidence_name_text(X509_get_subject_name(x), text, sizeof(text));
        json_set_str(o, "subject", text);
        evidence_name_text(X509_get_issuer_name(x), text, sizeof(text));
        json_set_str(o, "issuer", text);
        /* RFC 5280 allows 20 bytes. */
        verdict_put_hex(o, "serial", ASN1_STRING_get0_data(serial), ASN1_STRING_length(serial) < 64 ? (size_t) ASN1_STRING_length(serial) : 64);
        put_time(o, "not_before", X509_get0_notBefore(x));
        put_time(o, "not_after", X509_get0_notAfter(x));
        evidence_key_text(x, text, sizeof(text));
        json_set_str(o, "key", text);
        if (X509_digest(x, EVP_sha256(), digest, &n))
                verdict_put_hex(o, "sha256", digest, n);
        ERR_clear_error();
        return o;
}

static void put_dmtf(struct json_object *o, const struct evidence_dmtf *d) {
        if (*d->device)
                json_set_str(o, "device", d->device);
        if (d->hardware_identity)
                json_set_bool(o, "hardware_identity", true);
        if (d->mutable_certificate)
                json_set_bool(o, "mutable", true);
}

/* What is in the certificates, whether or not they are trusted: an inventory wants to know it too. */
static int decode(const struct evidence_chain *c, struct json_object *slot, struct evidence_why *why) {
        struct json_object *chain = json_new_array(), *dice = json_new_array();
        int result = 0, r;

        json_set_take(slot, "chain", chain);
        json_set_take(slot, "dice", dice);
        for (size_t i = 0; i < c->n; i++) {
                struct json_object *one = describe(c->certificates[i]);
                struct evidence_dmtf dmtf = {};

                json_push_take(chain, one);
                r = evidence_dmtf_decode(c->certificates[i], &dmtf, why);
                if (r == 0) {
                        put_dmtf(one, &dmtf);
                        if (i == c->n - 1 && *dmtf.device)
                                json_set_str(slot, "device", dmtf.device);
                        r = dice_of_certificate(c->certificates[i], i, dice, why);
                }
                result = result < 0 ? result : r;
        }
        return result;
}

/*
 * Above the anchor, and where there is none, anybody can put a certificate: its DiceTcbInfo is shown, and counts for nothing. Returns of how many
 * that is so.
 */
static size_t mark(struct json_object *slot, size_t first) {
        struct json_object *dice = NULL;
        size_t n = 0;

        for (size_t i = 0; json_get_array(slot, "dice", &dice) == 0 && i < json_object_array_length(dice); i++) {
                struct json_object *info = json_object_array_get_idx(dice, i);
                bool verified = json_u64_or(info, "certificate", 0) >= first;

                json_set_bool(info, "verified", verified);
                n += !verified;
        }
        return n;
}

static int judge_chain(struct verdict *v, unsigned slot, const struct evidence_chain *c, struct json_object *o, struct evidence_why *why) {
        struct evidence_chain_rules rules = { .time = v->time, .rsa_min = v->rules->rsa_min, .ec_min = v->rules->ec_min };
        struct evidence_trust trust = {};
        struct evidence_why later = {};
        size_t unverified;
        int r, e;

        /* Before trust is looked for: what is decoded of it stands in the result anyway, but a foreign root is the graver thing to say. */
        e = decode(c, o, &later);
        if (e < 0 && e != -EBADMSG)
                return e;
        (void) mark(o, SIZE_MAX);
        json_set_take(o, "anchor", NULL);
        if (!v->rules->anchors || evidence_anchors_count(v->rules->anchors) == 0)
                return evidence_refuse(why, EVIDENCE_FOREIGN_ROOT, "there are no anchors that the chain could lead to");
        r = evidence_anchors_verify(v->rules->anchors, c, &rules, &trust, why);
        if (r < 0)
                return r;
        unverified = mark(o, trust.first);
        r = evidence_leaf_check(c->certificates[c->n - 1], v->has_vca ? v->n.asym : NULL, v->has_vca ? v->n.version : 0, v->rules->need_responder_eku, why);
        if (r < 0)
                return r;
        if (e < 0) {
                *why = later;
                return e;
        }
        json_set_str(o, "anchor", trust.anchor);
        verdict_checked(v, "slot %u: the chain leads to the anchor \"%s\"", slot, trust.anchor);
        if (trust.first > 1)
                verdict_not_checked(v, "slot %u: the first %zu certificates are above the anchor", slot, trust.first - 1);
        if (unverified > 0)
                verdict_not_checked(v, "slot %u: %zu DiceTcbInfo of certificates that are the anchor, or above it", slot, unverified);
        if (!trust.root_hash_checked)
                verdict_not_checked(v, "slot %u: the root hash is of a certificate that is not here", slot);
        if (!v->has_vca)
                verdict_not_checked(v, "slot %u: the leaf's key, with the negotiated algorithm: there is no VCA", slot);
        return 0;
}

int verdict_slots(struct verdict *v) {
        struct json_object *slots = json_new();
        int r;

        json_set_take(v->result, "slots", slots);
        for (unsigned i = 0; i < EVIDENCE_SLOTS; i++) {
                const struct evidence_object *object = &v->e->objects[EVIDENCE_SLOT0 + i];
                struct evidence_why *why = &v->slots[i];
                struct json_object *o;
                char key[4];

                if (!object->data) {
                        (void) evidence_refuse(why, EVIDENCE_NO_CHAIN, "slot %u has no certificate chain", i);
                        continue;
                }
                o = json_new();
                snprintf(key, sizeof(key), "%u", i);
                json_set_take(slots, key, o);
                r = evidence_chain_parse(object->data, object->size, v->has_vca ? v->n.hash : NULL, &v->chains[i], why);
                if (r == 0)
                        r = judge_chain(v, i, v->chains[i], o, why);
                if (r < 0 && r != -EBADMSG)
                        return r;
                json_set_bool(o, "ok", r == 0);
                verdict_put_why(o, why);
        }
        return 0;
}
