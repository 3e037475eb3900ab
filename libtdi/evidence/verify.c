/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The judgement. All of it is looked at; the reason is the first fault of negotiation, slots, measurements, challenge, values, age. */
#include "evidence/verify-internal.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>

#define CLOCKS_APART 60 /* seconds that the time of collection may lie in the future */
#define SUMMARY_TCB 0x01u
#define SUMMARY_ALL 0xffu
#define BLOCK_RAW 0x80u
#define BLOCK_LAST_HASHED 4u /* value types up to this one have a digest, which a raw bit stream then stands for */

/* ---- the result ---- */

_printf_(2, 0) static void push(struct json_object *array, const char *format, va_list ap) {
        char text[512];

        vsnprintf(text, sizeof(text), format, ap);
        json_push_str(array, text);
}

void verdict_checked(struct verdict *v, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        push(v->checked, format, ap);
        va_end(ap);
}

void verdict_not_checked(struct verdict *v, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        push(v->not_checked, format, ap);
        va_end(ap);
}

void verdict_refuse(struct verdict *v, const struct evidence_why *why) {
        if (why->reason != EVIDENCE_OK)
                (void) evidence_refuse(&v->why, why->reason, "%s", why->text);
}

void verdict_put_hex(struct json_object *o, const char *key, const void *data, size_t size) {
        char text[2 * 128 + 1] = "";
        const uint8_t *p = data;

        for (size_t i = 0; i < size && i < 128; i++)
                sprintf(text + 2 * i, "%02x", p[i]);
        json_set_str(o, key, text);
}

void verdict_put_why(struct json_object *o, const struct evidence_why *why) {
        json_set_str(o, "reason", evidence_reason_to_string(why->reason));
        json_set_str(o, "text", why->text);
}

/* ---- negotiation ---- */

static void judge_vca(struct verdict *v) {
        const struct evidence_object *vca = &v->e->objects[EVIDENCE_VCA];
        struct json_object *algorithms;
        struct evidence_why why = {};
        char text[16];

        if (!vca->data) {
                verdict_not_checked(v, "versions, capabilities and algorithms: there is no VCA");
                return;
        }
        if (spdm_vca_parse(vca->data, vca->size, &v->n, &why) < 0) {
                verdict_refuse(v, &why);
                return;
        }
        v->has_vca = true;
        snprintf(text, sizeof(text), "%u.%u", (unsigned) v->n.version >> 4, v->n.version & 0xfu);
        json_set_str(v->result, "version", text);
        algorithms = json_new();
        json_set_take(v->result, "algorithms", algorithms);
        json_set_str(algorithms, "hash", v->n.hash->name);
        json_set_str(algorithms, "asym", v->n.asym->name);
        if (v->n.measurement_hash)
                json_set_str(algorithms, "measurement_hash", v->n.measurement_hash->name);
        snprintf(text, sizeof(text), "0x%08x", v->n.flags);
        json_set_str(algorithms, "capabilities", text);
}

/* ---- signatures ---- */

/* The chain that something is signed for; NULL with @why. One that leads to no anchor serves to check the signature all the same. */
static struct evidence_chain *signing_chain(struct verdict *v, uint8_t slot, const char *what, struct evidence_why *why) {
        int wanted = v->rules->slot;

        if (wanted >= 0 && slot != wanted) {
                (void) evidence_refuse(why, EVIDENCE_SLOT_MISMATCH, "%s: signed for slot %u, expected slot %d", what, slot, wanted);
                return NULL;
        }
        if (slot >= EVIDENCE_SLOTS || !v->chains[slot]) {
                if (slot < EVIDENCE_SLOTS && v->e->objects[EVIDENCE_SLOT0 + slot].data)
                        *why = v->slots[slot];
                else
                        (void) evidence_refuse(why, EVIDENCE_NO_CHAIN, "%s: signed for slot %u, which has no certificate chain", what, slot);
                return NULL;
        }
        return v->chains[slot];
}

/* Takes the signature's word only with its key: the slot must be well too. */
static int check_signature(struct verdict *v, uint8_t slot, const struct evidence_chain *c, const char *what, const char *context, const struct spdm_part *parts,
                           size_t n_parts, const uint8_t *signature, struct evidence_why *why) {
        EVP_PKEY *key = X509_get0_pubkey(c->certificates[c->n - 1]);
        int r;

        if (!key) {
                ERR_clear_error();
                return evidence_refuse(why, EVIDENCE_KEY_SIZE, "slot %u: the leaf's public key cannot be decoded", slot);
        }
        r = spdm_signature_check(key, &v->n, context, parts, n_parts, signature, why);
        if (r < 0)
                return r;
        verdict_checked(v, "%s: the signature is that of slot %u's leaf", what, slot);
        return 0;
}

static bool is_nonce(const uint8_t *a, const uint8_t *b) {
        return memcmp(a, b, EVIDENCE_NONCE) == 0;
}

static int check_nonce(struct verdict *v, const char *what, const uint8_t *requested, const uint8_t *expected, struct evidence_why *why) {
        if (!expected) {
                verdict_not_checked(v, "%s: the nonce: none is expected", what);
                return 0;
        }
        if (!is_nonce(requested, expected))
                return evidence_refuse(why, EVIDENCE_WRONG_NONCE, "%s: signed for the nonce %02x%02x%02x%02x…, expected %02x%02x%02x%02x…", what, requested[0],
                                       requested[1], requested[2], requested[3], expected[0], expected[1], expected[2], expected[3]);
        verdict_checked(v, "%s: the nonce is the expected one", what);
        return 0;
}

/* ---- measurements ---- */

/* The summary's digest, over whole blocks; or as earlier responders did, without the blocks' own headers of four bytes. */
static int summarize(const struct verdict *v, const struct spdm_measurements *m, bool whole, uint8_t ret[static SPDM_HASH_MAX]) {
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        const EVP_MD *md = EVP_get_digestbyname(v->n.hash->name);
        bool ok = ctx && md && EVP_DigestInit_ex(ctx, md, NULL);

        for (size_t i = 0; ok && i < m->n_blocks; i++) {
                const struct spdm_block *b = &m->blocks[i];
                size_t size = b->size + 3;
                uint8_t head[] = { b->index, 1, (uint8_t) size, (uint8_t) (size >> 8), b->value_type, (uint8_t) b->size, (uint8_t) (b->size >> 8) };

                ok = EVP_DigestUpdate(ctx, head + (whole ? 0 : 4), sizeof(head) - (whole ? 0 : 4)) && EVP_DigestUpdate(ctx, b->value, b->size);
        }
        ok = ok && EVP_DigestFinal_ex(ctx, ret, NULL);
        EVP_MD_CTX_free(ctx);
        ERR_clear_error();
        return ok ? 0 : -ENOMEM;
}

static int check_summary(struct verdict *v, const struct spdm_challenge *c, const struct spdm_measurements *m, struct evidence_why *why) {
        uint8_t value[SPDM_HASH_MAX];
        int r;

        if (!c->summary) {
                verdict_not_checked(v, "challenge: no summary of the measurements was asked for");
                return 0;
        }
        if (c->summary_type != SUMMARY_ALL) {
                verdict_not_checked(v, "challenge: the summary is over what the device counts as its TCB, which it does not tell");
                return 0;
        }
        if (!m) {
                verdict_not_checked(v, "challenge: the summary of the measurements: there are no measurements");
                return 0;
        }
        for (size_t i = 0; i < m->n_blocks; i++)
                if (m->blocks[i].value_type & BLOCK_RAW && (m->blocks[i].value_type & ~BLOCK_RAW) <= BLOCK_LAST_HASHED) {
                        verdict_not_checked(v, "challenge: the summary may be over the digest of index %u, which is here as a raw bit stream", m->blocks[i].index);
                        return 0;
                }
        for (unsigned whole = 0; whole < 2; whole++) {
                r = summarize(v, m, whole, value);
                if (r < 0)
                        return r;
                if (memcmp(value, c->summary, v->n.hash->size) == 0) {
                        verdict_checked(v, "challenge: the summary is that of the measurements");
                        return 0;
                }
        }
        return evidence_refuse(why, EVIDENCE_MEASUREMENT_SUMMARY, "CHALLENGE_AUTH's summary begins %02x%02x%02x%02x, that of the %zu measurements %02x%02x%02x%02x",
                               c->summary[0], c->summary[1], c->summary[2], c->summary[3], m->n_blocks, value[0], value[1], value[2], value[3]);
}

/* 0, also when there are none (*ret is false then); -EBADMSG with @why. */
static int read_measurements(struct verdict *v, struct spdm_measurements *ret_m, bool *ret, struct evidence_why *why) {
        const struct evidence_object *log = &v->e->objects[EVIDENCE_MEASUREMENTS];
        int r;

        *ret = false;
        if (!log->data) {
                if (v->rules->need_signature)
                        return evidence_refuse(why, EVIDENCE_NO_MEASUREMENTS, "there are no measurements, signed ones are wanted");
                verdict_not_checked(v, "measurements: there are none");
                return 0;
        }
        if (!v->has_vca)
                return evidence_refuse(why, EVIDENCE_NO_SIGNATURE, "there are measurements, but no VCA that says how to read them");
        r = spdm_measurements_parse(log->data, log->size, &v->n, ret_m, why);
        *ret = r == 0;
        return r;
}

static int check_measurements(struct verdict *v, const struct spdm_measurements *m, struct json_object *o, struct evidence_why *why) {
        const struct evidence_object *vca = &v->e->objects[EVIDENCE_VCA], *log = &v->e->objects[EVIDENCE_MEASUREMENTS];
        struct spdm_part parts[2] = { { vca->data, vca->size }, { log->data, m->signed_size } };
        struct evidence_chain *c;
        int r;

        json_set_bool(o, "signed", m->is_signed);
        if (m->n_blocks == 0 && v->rules->need_signature)
                return evidence_refuse(why, EVIDENCE_NO_MEASUREMENTS, "the log has no measurements, signed ones are wanted");
        if (!m->is_signed) {
                if (v->rules->need_signature || v->rules->nonce)
                        return evidence_refuse(why, EVIDENCE_NO_SIGNATURE, "the measurements are not signed, expected them to be");
                verdict_not_checked(v, "measurements: their origin: they are not signed");
                return 0;
        }
        json_set_u64(o, "slot", m->slot);
        verdict_put_hex(o, "requested_nonce", m->requested_nonce, SPDM_NONCE);
        verdict_put_hex(o, "nonce", m->nonce, SPDM_NONCE);
        c = signing_chain(v, m->slot, "measurements", why);
        if (!c)
                return -EBADMSG;
        /* The VCA is in L1/L2 from 1.2 on. */
        if (v->n.version >= SPDM_1_2)
                r = check_signature(v, m->slot, c, "measurements", SPDM_CONTEXT_MEASUREMENTS, parts, 2, m->signature, why);
        else
                r = check_signature(v, m->slot, c, "measurements", SPDM_CONTEXT_MEASUREMENTS, parts + 1, 1, m->signature, why);
        if (r < 0)
                return r;
        if (v->n.version < SPDM_1_2)
                verdict_not_checked(v, "versions, capabilities and algorithms: before 1.2 the measurements' signature is not over them");
        return check_nonce(v, "measurements", m->requested_nonce, v->rules->nonce ? v->rules->nonce : v->e->has_nonce ? v->e->nonce : NULL, why);
}

/* ---- challenge ---- */

static int check_challenge(struct verdict *v, const struct spdm_measurements *m, struct json_object *o, struct evidence_why *why) {
        const struct evidence_object *vca = &v->e->objects[EVIDENCE_VCA], *log = &v->e->objects[EVIDENCE_CHALLENGE];
        struct spdm_challenge ch = {};
        struct spdm_part parts[2];
        uint8_t value[SPDM_HASH_MAX];
        struct evidence_chain *c;
        size_t used;
        int r;

        if (!v->has_vca)
                return evidence_refuse(why, EVIDENCE_NO_SIGNATURE, "there is a challenge, but no VCA that says how to read it");
        r = spdm_challenge_parse(log->data, log->size, &v->n, &ch, why);
        if (r < 0)
                return r;
        json_set_u64(o, "slot", ch.slot);
        verdict_put_hex(o, "requested_nonce", ch.requested_nonce, SPDM_NONCE);
        verdict_put_hex(o, "nonce", ch.nonce, SPDM_NONCE);
        json_set_str(o, "summary_type", ch.summary_type == SUMMARY_ALL ? "all" : ch.summary_type == SUMMARY_TCB ? "tcb" : "none");
        c = signing_chain(v, ch.slot, "challenge", why);
        if (!c)
                return -EBADMSG;
        if (!EVP_Q_digest(NULL, v->n.hash->name, NULL, c->data, c->size, value, &used))
                return -ENOMEM;
        if (memcmp(value, ch.chain_hash, v->n.hash->size) != 0)
                return evidence_refuse(why, EVIDENCE_WRONG_CHAIN_HASH, "CHALLENGE_AUTH's chain hash is %02x%02x%02x%02x, that of slot %u's chain %02x%02x%02x%02x",
                                       ch.chain_hash[0], ch.chain_hash[1], ch.chain_hash[2], ch.chain_hash[3], ch.slot, value[0], value[1], value[2], value[3]);
        verdict_checked(v, "challenge: the chain hash is that of slot %u's chain", ch.slot);
        parts[0] = (struct spdm_part){ vca->data, vca->size };
        parts[1] = (struct spdm_part){ log->data, ch.signed_size };
        r = check_signature(v, ch.slot, c, "challenge", SPDM_CONTEXT_CHALLENGE, parts, 2, ch.signature, why);
        if (r < 0)
                return r;
        /* The evidence's own nonce is that of the measurements; where they have none, the challenge must show that it is fresh. */
        if (!m || !m->is_signed) {
                r = check_nonce(v, "challenge", ch.requested_nonce, v->rules->nonce, why);
                if (r < 0)
                        return r;
        } else if (!is_nonce(ch.requested_nonce, m->requested_nonce))
                verdict_not_checked(v, "challenge: its nonce: only the measurements' is known");
        return check_summary(v, &ch, m, why);
}

static int judge_challenge(struct verdict *v, const struct spdm_measurements *m, struct evidence_why *why) {
        struct json_object *o = NULL;
        int r;

        if (!v->e->objects[EVIDENCE_CHALLENGE].data) {
                if (v->rules->need_challenge)
                        (void) evidence_refuse(why, EVIDENCE_NO_SIGNATURE, "there is no answer to a challenge, one is wanted");
                else
                        verdict_not_checked(v, "challenge: there is none");
                return 0;
        }
        o = json_new();
        json_set_take(v->result, "challenge", o);
        r = check_challenge(v, m, o, why);
        if (r < 0 && r != -EBADMSG)
                return r;
        json_set_bool(o, "ok", r == 0);
        verdict_put_why(o, why);
        return 0;
}

/* ---- which slot counts ---- */

static bool slot_is_ok(const struct verdict *v, unsigned slot) {
        return v->slots[slot].reason == EVIDENCE_OK;
}

/*
 * The slots that were signed for must lead to an anchor; where nothing is signed, the wanted one, or at least one. A slot that nobody relies
 * on may be as bad as it likes: the result has it.
 */
static void judge_slot(struct verdict *v, const struct spdm_measurements *m, int challenge_slot) {
        const int used[] = { m && m->is_signed ? m->slot : -1, challenge_slot, v->rules->slot };
        int first = -1;

        for (size_t i = 0; i < ARRAY_SIZE(used); i++) {
                if (used[i] < 0 || used[i] >= (int) EVIDENCE_SLOTS)
                        continue;
                verdict_refuse(v, &v->slots[used[i]]);
                first = first < 0 ? used[i] : first;
        }
        for (unsigned i = 0; first < 0 && i < EVIDENCE_SLOTS; i++)
                if (slot_is_ok(v, i))
                        first = (int) i;
        for (unsigned i = 0; first < 0 && i < EVIDENCE_SLOTS; i++)
                if (v->e->objects[EVIDENCE_SLOT0 + i].data) {
                        verdict_refuse(v, &v->slots[i]);
                        first = (int) i;
                }
        if (first < 0)
                (void) evidence_refuse(&v->why, EVIDENCE_NO_CHAIN, "there is no certificate chain in any slot");
        else if (v->chains[first]) {
                char key[12];
                struct json_object *slots, *slot;

                snprintf(key, sizeof(key), "%d", first);
                if (json_get_object(v->result, "slots", &slots) == 0 && json_get_object(slots, key, &slot) == 0 && json_get_array(slot, "dice", &v->dice) < 0)
                        v->dice = NULL;
                json_set_u64(v->result, "slot", (uint64_t) first);
        }
}

/* ---- reference values and age ---- */

static int judge_values(struct verdict *v, const struct spdm_measurements *m, struct json_object *o) {
        _cleanup_json_ struct json_object *none = json_new_array();
        const struct evidence_references *refs = v->rules->references;
        struct json_object *blocks = json_new_array(), *tcb = json_new_array();
        struct evidence_why why = {};
        int r;

        json_set_take(o, "blocks", blocks);
        json_set_take(o, "tcb", tcb);
        if (refs)
                json_set_str(o, "references", evidence_references_name(refs));
        r = evidence_references_compare(refs, &v->n, m, v->dice ? v->dice : none, blocks, tcb, &why);
        if (r < 0 && r != -EBADMSG)
                return r;
        if (!refs)
                verdict_not_checked(v, "the values of the measurements: there are no reference values");
        else
                verdict_checked(v, "the reference values \"%s\"", evidence_references_name(refs));
        if (refs && m && !evidence_references_complete(refs))
                verdict_not_checked(v, "measurements that the reference values do not have: they are not complete");
        verdict_refuse(v, &why);
        return 0;
}

static int judge_measurements(struct verdict *v, struct spdm_measurements *m, struct json_object *o, bool *ret_has, struct evidence_why *why) {
        int r;

        r = read_measurements(v, m, ret_has, why);
        if (r == 0 && *ret_has)
                r = check_measurements(v, m, o, why);
        if (r < 0 && r != -EBADMSG)
                return r;
        if (v->e->objects[EVIDENCE_MEASUREMENTS].data || r < 0) {
                json_set_bool(o, "ok", r == 0);
                verdict_put_why(o, why);
        }
        return 0;
}

static void judge_age(struct verdict *v) {
        int64_t age;

        if (v->rules->max_age_sec == 0) {
                verdict_not_checked(v, "age: any is taken");
                return;
        }
        if (v->e->time_usec == 0) {
                (void) evidence_refuse(&v->why, EVIDENCE_TOO_OLD, "nobody noted when the evidence was collected, at most %llu seconds ago are taken",
                                       (unsigned long long) v->rules->max_age_sec);
                return;
        }
        age = (int64_t) v->time - (int64_t) (v->e->time_usec / 1000000);
        if (age < -CLOCKS_APART || (age > 0 && (uint64_t) age > v->rules->max_age_sec))
                (void) evidence_refuse(&v->why, EVIDENCE_TOO_OLD, "the evidence is %lld seconds old, at most %llu are taken", (long long) age,
                                       (unsigned long long) v->rules->max_age_sec);
        else
                verdict_checked(v, "age: %lld seconds, at most %llu", (long long) age, (unsigned long long) v->rules->max_age_sec);
}

static int judge(struct verdict *v, struct spdm_measurements *m) {
        struct evidence_why measurements_why = {}, challenge_why = {};
        struct json_object *o = json_new(), *challenge;
        bool has = false;
        int challenge_slot = -1, r;

        json_set_take(v->result, "measurements", o);
        judge_vca(v);
        r = verdict_slots(v);
        if (r < 0)
                return r;
        r = judge_measurements(v, m, o, &has, &measurements_why);
        if (r < 0)
                return r;
        r = judge_challenge(v, has ? m : NULL, &challenge_why);
        if (r < 0)
                return r;
        if (json_get_object(v->result, "challenge", &challenge) == 0)
                challenge_slot = (int) json_i64_or(challenge, "slot", -1);
        /* A chain that was tampered with spoils the signatures too: it is the graver thing to say. */
        judge_slot(v, has ? m : NULL, challenge_slot);
        verdict_refuse(v, &measurements_why);
        verdict_refuse(v, &challenge_why);
        r = judge_values(v, has ? m : NULL, o);
        if (r < 0)
                return r;
        if (v->rules->nonce && !(has && m->is_signed) && challenge_slot < 0)
                (void) evidence_refuse(&v->why, EVIDENCE_NO_SIGNATURE, "a nonce is expected, and nothing is signed");
        judge_age(v);
        verdict_not_checked(v, "revocation: no lists are used");
        if (v->e->objects[EVIDENCE_REPORT].data)
                verdict_not_checked(v, "interface report: SPDM's signatures are not over it");
        return 0;
}

int evidence_verify(const struct evidence *e, const struct evidence_rules *rules, struct json_object **ret) {
        _cleanup_json_ struct json_object *result = json_new();
        struct spdm_measurements *m = calloc(1, sizeof(*m));
        struct verdict v = { .e = e, .rules = rules, .time = rules->time ? rules->time : time(NULL), .result = result };
        int r;

        if (!m)
                return -ENOMEM;
        v.checked = json_new_array();
        v.not_checked = json_new_array();
        json_set_str(result, "schema", EVIDENCE_RESULT_SCHEMA);
        json_set_bool(result, "ok", false);
        json_set_take(result, "checked", v.checked);
        json_set_take(result, "not_checked", v.not_checked);
        r = judge(&v, m);
        if (r == 0) {
                json_set_bool(result, "ok", v.why.reason == EVIDENCE_OK);
                verdict_put_why(result, &v.why);
                *ret = TAKE_PTR(result);
        }
        for (size_t i = 0; i < EVIDENCE_SLOTS; i++)
                evidence_chain_free(v.chains[i]);
        free(m);
        return r;
}
