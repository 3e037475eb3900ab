/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Verdicts on evidence that the openssl program made (data/evidence/make.sh): taken as it is, and refused with the right reason after each
 * change. Times are given, so that no certificate runs out.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "certificates.h"
#include "evidence/verify.h"
#include "test.h"

#define NOW 1893456000 /* 2030-01-01 00:00 UTC */

static const char *folder;

static char *load(const char *name, size_t *ret_size) {
        char path[512], *data = calloc(1, 1 << 16);
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        f = fopen(path, "re");
        require(f && data);
        *ret_size = fread(data, 1, 1 << 16, f);
        fclose(f);
        require(*ret_size > 0);
        return data;
}

static void set_file(struct evidence *e, enum evidence_type type, const char *name) {
        size_t size;
        char *data = load(name, &size);

        require(evidence_set(e, type, data, size) == 0);
        free(data);
}

static void load_evidence(struct evidence *e, const char *version) {
        char name[32];

        *e = (struct evidence){ .time_usec = (uint64_t) (NOW - 100) * 1000000, .has_nonce = true };
        memset(e->nonce, 0141, sizeof(e->nonce));
        set_file(e, EVIDENCE_SLOT0, "slot0");
        snprintf(name, sizeof(name), "%s-vca", version);
        set_file(e, EVIDENCE_VCA, name);
        snprintf(name, sizeof(name), "%s-measurements", version);
        set_file(e, EVIDENCE_MEASUREMENTS, name);
        snprintf(name, sizeof(name), "%s-challenge", version);
        set_file(e, EVIDENCE_CHALLENGE, name);
}

static struct evidence_anchors *anchors, *others;

static void load_anchors(void) {
        struct evidence_why why = {};
        struct test_chain c;
        char path[512], *pem;
        size_t size;

        snprintf(path, sizeof(path), "%s/anchors.pem", folder);
        require(evidence_anchors_new(&anchors) == 0 && evidence_anchors_new(&others) == 0);
        if (!check_int(evidence_anchors_add_file(anchors, "acme", path, &why), 0))
                fprintf(stderr, "%s\n", why.text);
        test_make_chain(test_good, 1, NULL, NULL, &c);
        pem = test_pem(c.certificates, 1, &size);
        require(evidence_anchors_add_pem(others, "others", pem, size, NULL) == 0);
        free(pem);
        test_free_chain(&c);
}

#define AA8 "4141414141414141"
#define AA AA8 AA8 AA8 AA8 AA8 AA8
#define BB8 "4242424242424242"
#define BB BB8 BB8 BB8 BB8 BB8 BB8
#define CC8 "4343434343434343"
#define CC CC8 CC8 CC8 CC8 CC8 CC8
#define FILE_OF(complete, list, tcb) \
        "{\"schema\":\"tdid-references/1\",\"name\":\"fw\",\"complete\":" complete ",\"measurements\":[" list "],\"tcb\":[" tcb "]}"
#define ROM "{\"index\":1,\"type\":\"immutable-rom\",\"hash\":\"sha384\",\"values\":[\"" CC "\",\"" AA "\"]}"
#define FIRMWARE "{\"index\":2,\"hash\":\"sha384\",\"values\":[\"" BB "\"]}"
#define MODE "{\"index\":5,\"raw\":\"01020304\"}"
#define SVN "{\"index\":7,\"svn-at-least\":5}"
#define TCB "{\"vendor\":\"ACME\",\"model\":\"WIDGET\",\"svn-at-least\":7,\"fwids\":[\"" BB "\"],\"flags-clear\":[\"debug\"]}"

enum change {
        NOTHING,
        FLIP,     /* a bit of the byte at `offset`; from the end if negative */
        CUT,      /* the last bytes */
        DROP,     /* the object */
        MOVE,     /* the chain to slot `offset` */
        COPY,     /* it there too */
        UNSIGNED, /* the measurements without a signature */
};

struct verdict_case {
        const char *what;
        enum evidence_reason reason;
        enum change change;
        enum evidence_type type;
        int offset;
        struct evidence_rules rules; /* anchors, time and slot are filled in */
        const char *references;
        const char *words;
        bool foreign, forget_nonce, forget_time;
};

static const uint8_t right_nonce[EVIDENCE_NONCE] = { [0 ... 31] = 0141 }, wrong_nonce[EVIDENCE_NONCE] = { [0 ... 31] = 7 };

/* Offsets into 1.2's objects; 1.1's logs have the same form. */
static const struct verdict_case cases[] = {
        { "as it is", EVIDENCE_OK },
        { "with everything wanted", EVIDENCE_OK, .rules = { .need_signature = true, .need_challenge = true, .need_responder_eku = true, .max_age_sec = 100,
          .nonce = right_nonce }, .references = FILE_OF("true", ROM "," FIRMWARE "," MODE "," SVN, TCB) },
        { "foreign root", EVIDENCE_FOREIGN_ROOT, .foreign = true },
        { "expired", EVIDENCE_EXPIRED, .rules = { .time = 2600000000 } },
        { "not yet valid", EVIDENCE_NOT_YET_VALID, .rules = { .time = 1600000000 } },
        { "no chain", EVIDENCE_NO_CHAIN, DROP, EVIDENCE_SLOT0 },
        { "chain in another slot", EVIDENCE_NO_CHAIN, MOVE, EVIDENCE_SLOT0, 3, .words = "slot 0" },
        { "chain cut", EVIDENCE_CHAIN_FORM, CUT, EVIDENCE_SLOT0, 5 },
        { "root hash", EVIDENCE_ROOT_HASH, FLIP, EVIDENCE_SLOT0, 20 },
        { "leaf's signature", EVIDENCE_CHAIN_SIGNATURE, FLIP, EVIDENCE_SLOT0, -3 },
        { "an empty slot is wanted", EVIDENCE_NO_CHAIN, .rules = { .slot = 1 }, .words = "slot 1" },
        { "another slot is wanted", EVIDENCE_SLOT_MISMATCH, COPY, EVIDENCE_SLOT0, 1, .rules = { .slot = 1 }, .words = "expected slot 1" },
        { "VCA cut", EVIDENCE_SHORT, CUT, EVIDENCE_VCA, 1 },
        { "no VCA", EVIDENCE_NO_SIGNATURE, DROP, EVIDENCE_VCA },
        { "another nonce of the device", EVIDENCE_BAD_SIGNATURE, FLIP, EVIDENCE_MEASUREMENTS, 37 + 8 + 136, .words = "measurements" },
        { "a measured value", EVIDENCE_BAD_SIGNATURE, FLIP, EVIDENCE_MEASUREMENTS, 37 + 8 + 7 },
        { "the signature", EVIDENCE_BAD_SIGNATURE, FLIP, EVIDENCE_MEASUREMENTS, -1 },
        { "signature cut", EVIDENCE_SHORT, CUT, EVIDENCE_MEASUREMENTS, 1 },
        { "requested nonce", EVIDENCE_BAD_SIGNATURE, FLIP, EVIDENCE_MEASUREMENTS, 10 },
        { "wrong nonce", EVIDENCE_WRONG_NONCE, .rules = { .nonce = wrong_nonce }, .words = "61616161" },
        { "no nonce known", EVIDENCE_OK, .forget_nonce = true },
        { "not signed", EVIDENCE_OK, UNSIGNED },
        { "not signed, must be", EVIDENCE_NO_SIGNATURE, UNSIGNED, .rules = { .need_signature = true } },
        { "not signed, nonce expected", EVIDENCE_NO_SIGNATURE, UNSIGNED, .words = "measurements are not signed", .rules = { .nonce = right_nonce } },
        { "no measurements", EVIDENCE_OK, DROP, EVIDENCE_MEASUREMENTS },
        { "no measurements, and the challenge has another nonce", EVIDENCE_WRONG_NONCE, DROP, EVIDENCE_MEASUREMENTS, .rules = { .nonce = right_nonce } },
        { "no measurements, must be", EVIDENCE_NO_MEASUREMENTS, DROP, EVIDENCE_MEASUREMENTS, .rules = { .need_signature = true } },
        { "no measurements, reference values", EVIDENCE_NO_MEASUREMENTS, DROP, EVIDENCE_MEASUREMENTS, .references = FILE_OF("false", ROM, "") },
        { "no challenge", EVIDENCE_OK, DROP, EVIDENCE_CHALLENGE },
        { "no challenge, must be", EVIDENCE_NO_SIGNATURE, DROP, EVIDENCE_CHALLENGE, .rules = { .need_challenge = true } },
        { "challenge's signature", EVIDENCE_BAD_SIGNATURE, FLIP, EVIDENCE_CHALLENGE, -1, .words = "challenge_auth" },
        { "challenge's chain hash", EVIDENCE_WRONG_CHAIN_HASH, FLIP, EVIDENCE_CHALLENGE, 56 + 36 + 4 },
        { "digest in the challenge's log", EVIDENCE_BAD_SIGNATURE, FLIP, EVIDENCE_CHALLENGE, 8 },
        { "challenge's summary", EVIDENCE_BAD_SIGNATURE, FLIP, EVIDENCE_CHALLENGE, 56 + 36 + 4 + 48 + 32 },
        { "challenge cut", EVIDENCE_SHORT, CUT, EVIDENCE_CHALLENGE, 1 },
        { "age", EVIDENCE_OK, .rules = { .max_age_sec = 100 } },
        { "too old", EVIDENCE_TOO_OLD, .rules = { .max_age_sec = 99 }, .words = "100 seconds" },
        { "from the future", EVIDENCE_TOO_OLD, .rules = { .max_age_sec = 99, .time = NOW - 200 } },
        { "age not known", EVIDENCE_TOO_OLD, .rules = { .max_age_sec = 99 }, .forget_time = true },
        { "other ROM", EVIDENCE_MISMATCH, .references = FILE_OF("false", "{\"index\":1,\"hash\":\"sha384\",\"values\":[\"" CC "\"]}", ""),
          .words = AA ", expected " CC },
        { "missing", EVIDENCE_MISSING, .references = FILE_OF("false", "{\"index\":9,\"any\":true}", ""), .words = "index 9" },
        { "unlisted", EVIDENCE_UNLISTED, .references = FILE_OF("true", ROM "," FIRMWARE "," MODE, ""), .words = "index 7" },
        { "not complete", EVIDENCE_OK, .references = FILE_OF("false", ROM, "") },
        { "DICE svn too low", EVIDENCE_MISMATCH, .references = FILE_OF("false", "", "{\"vendor\":\"ACME\",\"svn-at-least\":8}"), .words = "svn 7" },
        { "DICE of another", EVIDENCE_MISSING, .references = FILE_OF("false", "", "{\"vendor\":\"OTHER\"}") },
        { "RSA of 4096 bits only: EC is not concerned", EVIDENCE_OK, .rules = { .rsa_min = 4096 } },
        { "P-521 only", EVIDENCE_KEY_SIZE, .rules = { .ec_min = 521 } },
};

static void change(struct evidence *e, const struct verdict_case *c, const char *version) {
        struct evidence_object *o = &e->objects[c->type];

        switch (c->change) {
        case NOTHING:
                break;
        case FLIP:
                o->data[c->offset < 0 ? o->size + (size_t) (ptrdiff_t) c->offset : (size_t) c->offset] ^= 4;
                break;
        case CUT:
                o->size -= (size_t) c->offset;
                break;
        case DROP:
                free(o->data);
                *o = (struct evidence_object){};
                break;
        case MOVE:
                e->objects[EVIDENCE_SLOT0 + c->offset] = *o;
                *o = (struct evidence_object){};
                break;
        case COPY:
                require(evidence_set(e, (enum evidence_type)(EVIDENCE_SLOT0 + c->offset), o->data, o->size) == 0);
                break;
        case UNSIGNED:
                set_file(e, EVIDENCE_MEASUREMENTS, "1.2-unsigned");
                /* The versions in the two messages' headers. */
                if (streq(version, "1.1"))
                        e->objects[EVIDENCE_MEASUREMENTS].data[0] = e->objects[EVIDENCE_MEASUREMENTS].data[4] = 0x11;
                break;
        }
        if (c->forget_nonce)
                e->has_nonce = false;
        if (c->forget_time)
                e->time_usec = 0;
}

static bool has_line(struct json_object *result, const char *key, const char *words) {
        struct json_object *array;

        require(json_get_array(result, key, &array) == 0);
        for (size_t i = 0; i < json_object_array_length(array); i++)
                if (strstr(json_object_get_string(json_object_array_get_idx(array, i)), words))
                        return true;
        return false;
}

static void test_case_of(const struct verdict_case *c, const char *version) {
        _cleanup_evidence_references_ struct evidence_references *refs = NULL;
        _cleanup_evidence_ struct evidence e = {};
        _cleanup_json_ struct json_object *result = NULL;
        struct evidence_rules rules = c->rules;
        char *error = NULL;

        test_about("%s: %s", version, c->what);
        load_evidence(&e, version);
        change(&e, c, version);
        if (c->references && !check_int(evidence_references_parse(c->references, strlen(c->references), &refs, &error), 0))
                fprintf(stderr, "%s\n", error);
        rules.anchors = c->foreign ? others : anchors;
        rules.references = refs;
        rules.time = rules.time ? rules.time : NOW;
        rules.slot = rules.slot ? rules.slot : -1;
        require(evidence_verify(&e, &rules, &result) == 0);
        check_str(json_str_or(result, "schema", NULL), "tdid-evidence/1");
        check_int(json_bool_or(result, "ok", false), c->reason == EVIDENCE_OK);
        if (!check_str(json_str_or(result, "reason", NULL), evidence_reason_to_string(c->reason)) ||
            !check(!c->words || strstr(json_str_or(result, "text", ""), c->words)))
                fprintf(stderr, "%s\n", json_object_to_json_string_ext(result, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
        /* Refused means that there is a sentence; taken, that there is none. */
        check_int(*json_str_or(result, "text", "") == 0, c->reason == EVIDENCE_OK);
        check(has_line(result, "not_checked", "revocation"));
}

/* What a good verdict says. */
static void test_result(void) {
        static const char refs_text[] = FILE_OF("false", ROM "," SVN, TCB);
        _cleanup_evidence_references_ struct evidence_references *refs = NULL;
        _cleanup_evidence_ struct evidence e = {};
        _cleanup_json_ struct json_object *result = NULL;
        struct json_object *o, *chain, *leaf, *blocks, *block, *expected;
        struct evidence_rules rules = { .anchors = anchors, .time = NOW, .slot = -1, .max_age_sec = 1000, .need_signature = true };

        test_about("the result");
        load_evidence(&e, "1.2");
        /* A second slot that leads nowhere spoils nothing. */
        require(evidence_set(&e, (enum evidence_type)(EVIDENCE_SLOT0 + 4), "garbage", 7) == 0);
        require(evidence_set(&e, EVIDENCE_REPORT, "report", 6) == 0);
        require(evidence_references_parse(refs_text, strlen(refs_text), &refs, NULL) == 0);
        rules.references = refs;
        require(evidence_verify(&e, &rules, &result) == 0);
        check(json_bool_or(result, "ok", false));
        check_str(json_str_or(result, "version", NULL), "1.2");
        check_int(json_u64_or(result, "slot", 9), 0);
        require(json_get_object(result, "algorithms", &o) == 0);
        check_str(json_str_or(o, "asym", NULL), "ecdsa-p384");
        check_str(json_str_or(o, "hash", NULL), "sha384");
        require(json_get_object(result, "slots", &o) == 0);
        require(json_object_object_get_ex(o, "4", &leaf));
        check_str(json_str_or(leaf, "reason", NULL), "chain-form");
        require(json_object_object_get_ex(o, "0", &o));
        check_str(json_str_or(o, "anchor", NULL), "acme");
        check_str(json_str_or(o, "device", NULL), "ACME:WIDGET:0001");
        require(json_get_array(o, "chain", &chain) == 0);
        check_int(json_object_array_length(chain), 3);
        leaf = json_object_array_get_idx(chain, 2);
        check_str(json_str_or(leaf, "subject", NULL), "CN=WIDGET 0001,O=ACME");
        check_str(json_str_or(leaf, "issuer", NULL), "CN=WIDGET,O=ACME");
        check_str(json_str_or(leaf, "serial", NULL), "03");
        check_str(json_str_or(leaf, "key", NULL), "ecdsa-p384");
        check_int(strlen(json_str_or(leaf, "sha256", "")), 64);
        check_int(strlen(json_str_or(leaf, "not_after", "")), strlen("2046-11-18T13:38:49Z"));
        check(json_bool_or(leaf, "hardware_identity", false));
        require(json_get_array(o, "dice", &chain) == 0);
        check_int(json_object_array_length(chain), 1);
        check_int(json_u64_or(json_object_array_get_idx(chain, 0), "svn", 0), 7);
        check_int(json_u64_or(json_object_array_get_idx(chain, 0), "certificate", 0), 2);
        check(json_bool_or(json_object_array_get_idx(chain, 0), "verified", false));
        require(json_get_object(result, "measurements", &o) == 0);
        check(json_bool_or(o, "signed", false));
        check_str(json_str_or(o, "references", NULL), "fw");
        require(json_get_array(o, "blocks", &blocks) == 0);
        check_int(json_object_array_length(blocks), 4);
        block = json_object_array_get_idx(blocks, 0);
        check_str(json_str_or(block, "type", NULL), "immutable-rom");
        check_str(json_str_or(block, "value", NULL), AA);
        check_str(json_str_or(block, "result", NULL), "matched");
        require(json_get_array(block, "expected", &expected) == 0);
        check_int(json_object_array_length(expected), 2);
        check_str(json_str_or(json_object_array_get_idx(blocks, 1), "result", NULL), "unchecked");
        check_int(json_u64_or(json_object_array_get_idx(blocks, 3), "svn", 0), 5);
        check(has_line(result, "checked", "measurements: the signature"));
        check(has_line(result, "checked", "challenge: the signature"));
        check(has_line(result, "checked", "challenge: the summary"));
        check(has_line(result, "checked", "reference values \"fw\""));
        check(has_line(result, "checked", "anchor \"acme\""));
        check(has_line(result, "not_checked", "they are not complete"));
        check(has_line(result, "not_checked", "challenge: its nonce"));
        check(has_line(result, "not_checked", "interface report"));
}

/* {vendor "ACME", svn 9}, in DER, as its extension's value. */
#define DICE_ACME_9 "2.23.133.5.4.1=DER:30:09:80:04:41:43:4d:45:83:01:09"

/* A chain with one DiceTcbInfo and nothing signed, held against reference values that want it. */
static void check_dice(const struct test_chain *c, const struct evidence_anchors *a, enum evidence_reason reason, const char *tcb, bool verified) {
        static const char refs_text[] = FILE_OF("false", "", "{\"vendor\":\"ACME\",\"svn-at-least\":9}");
        _cleanup_evidence_references_ struct evidence_references *refs = NULL;
        struct evidence_rules rules = { .anchors = a, .time = NOW, .slot = -1 };
        _cleanup_json_ struct json_object *result = NULL;
        _cleanup_evidence_ struct evidence e = {};
        struct json_object *o, *slot, *dice, *list;
        uint8_t *object;
        size_t size;

        object = test_chain_object(c, 0, c->certificates[0], "sha384", &size);
        require(evidence_set(&e, EVIDENCE_SLOT0, object, size) == 0);
        free(object);
        require(evidence_references_parse(refs_text, strlen(refs_text), &refs, NULL) == 0);
        rules.references = refs;
        require(evidence_verify(&e, &rules, &result) == 0);
        check_int(json_bool_or(result, "ok", !reason), reason == EVIDENCE_OK);
        check_str(json_str_or(result, "reason", NULL), evidence_reason_to_string(reason));
        /* Shown all the same, as what it is. */
        require(json_get_object(result, "slots", &o) == 0 && json_get_object(o, "0", &slot) == 0 && json_get_array(slot, "dice", &dice) == 0);
        check_int(json_object_array_length(dice), 1);
        check_int(json_bool_or(json_object_array_get_idx(dice, 0), "verified", !verified), verified);
        require(json_get_object(result, "measurements", &o) == 0 && json_get_array(o, "tcb", &list) == 0 && json_object_array_length(list) == 1);
        check_str(json_str_or(json_object_array_get_idx(list, 0), "result", NULL), tcb);
        require(json_get_array(json_object_array_get_idx(list, 0), "found", &list) == 0);
        check_int(json_object_array_length(list), verified);
        if (reason == EVIDENCE_MISSING)
                check(strstr(json_str_or(result, "text", ""), "verified"));
        check_int(has_line(result, "not_checked", "DiceTcbInfo"), reason == EVIDENCE_MISSING);
}

/* Above the anchor anybody can put a certificate: what it says of the device is nobody's word. */
static void test_forged_dice(void) {
        static const struct test_certificate impostor = { .name = "Root", .key = "P-384", .before = "20200101000000Z", .after = "20450101000000Z",
                .extensions = { "basicConstraints=critical,CA:TRUE", TEST_CA_EXTENSIONS, DICE_ACME_9 } };
        struct test_certificate plan[4];
        struct test_chain good, forged;
        EVP_PKEY *key = test_key("P-384", 20);

        test_about("DiceTcbInfo above the anchor");
        test_make_chain(test_good, 4, NULL, NULL, &good);
        forged = (struct test_chain){ .n = 5, .certificates = { test_make_certificate(&impostor, 20, key, NULL, key) } };
        memcpy(forged.certificates + 1, good.certificates, 4 * sizeof(good.certificates[0]));
        check_dice(&forged, others, EVIDENCE_MISSING, "missing", false);
        check_dice(&forged, anchors, EVIDENCE_CHAIN_SIGNATURE, "missing", false);
        X509_free(forged.certificates[0]);
        test_free_chain(&good);

        for (unsigned i = 0; i < 4; i++) {
                test_about("DiceTcbInfo of certificate %u", i);
                memcpy(plan, test_good, sizeof(plan));
                plan[i].extensions[TEST_EXTENSIONS - 1] = DICE_ACME_9;
                test_make_chain(plan, 4, NULL, NULL, &good);
                /* The first one has the anchor's name and key, and is not the anchor. */
                check_dice(&good, others, i == 0 ? EVIDENCE_MISSING : EVIDENCE_OK, i == 0 ? "missing" : "matched", i > 0);
                check_dice(&good, anchors, EVIDENCE_FOREIGN_ROOT, "missing", false);
                test_free_chain(&good);
        }
}

/* Anchors that everybody may write to are nobody's. */
static void test_writable(void) {
        struct evidence_anchors *a = NULL;
        struct evidence_why why = {};
        char top[64], path[128], *pem;
        size_t size;

        test_about("files of anchors");
        test_make_dir(top);
        snprintf(path, sizeof(path), "%s/anchors.pem", top);
        pem = load("anchors.pem", &size);
        test_write_file(path, pem, size);
        free(pem);
        require(evidence_anchors_new(&a) == 0);
        require(chmod(path, 0646) == 0);
        check_int(evidence_anchors_add_file(a, "acme", path, &why), -EBADMSG);
        check_str(evidence_reason_to_string(why.reason), "writable-file");
        check(strstr(why.text, "acme: everybody may write to it"));
        check_int(evidence_anchors_count(a), 0);
        require(chmod(path, 0664) == 0);
        check_int(evidence_anchors_add_file(a, "acme", path, NULL), 0);
        check(evidence_anchors_count(a) > 0);
        evidence_anchors_free(a);
        test_remove_dir(top);
}

/* Nothing at all, and nothing asked. */
static void test_empty(void) {
        struct evidence e = {};
        struct evidence_rules rules = { .anchors = anchors, .time = NOW, .slot = -1 };
        struct json_object *result = NULL;

        test_about("nothing");
        require(evidence_verify(&e, &rules, &result) == 0);
        check(!json_bool_or(result, "ok", true));
        check_str(json_str_or(result, "reason", NULL), "no-chain");
        json_object_put(result);
        test_about("no anchors");
        load_evidence(&e, "1.2");
        rules.anchors = NULL;
        require(evidence_verify(&e, &rules, &result) == 0);
        check_str(json_str_or(result, "reason", NULL), "foreign-root");
        json_object_put(result);
        test_about("a chain alone");
        rules.anchors = anchors;
        for (unsigned i = EVIDENCE_VCA; i < _EVIDENCE_TYPE_MAX; i++) {
                free(e.objects[i].data);
                e.objects[i] = (struct evidence_object){};
        }
        require(evidence_verify(&e, &rules, &result) == 0);
        check(json_bool_or(result, "ok", false));
        check(has_line(result, "not_checked", "there is no VCA"));
        check(has_line(result, "not_checked", "measurements: there are none"));
        json_object_put(result);
        evidence_done(&e);
}

/* Anchors and reference values may be shared; the results are each thread's own. */
static void *verify_often(void *references) {
        struct evidence_rules rules = { .anchors = anchors, .references = references, .time = NOW, .slot = -1, .need_signature = true };
        struct evidence e;
        uintptr_t good = 0;

        load_evidence(&e, "1.2");
        for (unsigned i = 0; i < 10; i++) {
                struct json_object *result = NULL;

                if (evidence_verify(&e, &rules, &result) == 0)
                        good += json_bool_or(result, "ok", false);
                json_object_put(result);
        }
        evidence_done(&e);
        return (void *) good;
}

static void test_threads(void) {
        static const char text[] = FILE_OF("true", ROM "," FIRMWARE "," MODE "," SVN, TCB);
        _cleanup_evidence_references_ struct evidence_references *refs = NULL;
        pthread_t threads[4];

        test_about("threads");
        require(evidence_references_parse(text, strlen(text), &refs, NULL) == 0);
        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                require(pthread_create(&threads[i], NULL, verify_often, refs) == 0);
        for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
                void *good = NULL;

                require(pthread_join(threads[i], &good) == 0);
                check_int((uintptr_t) good, 10);
        }
}

/* Any byte of any object changed: never taken where a signature is over it. */
static void test_flips(void) {
        static const enum evidence_type types[] = { EVIDENCE_SLOT0, EVIDENCE_VCA, EVIDENCE_MEASUREMENTS, EVIDENCE_CHALLENGE };
        struct evidence_rules rules = { .anchors = anchors, .time = NOW, .slot = -1, .need_signature = true, .need_challenge = true };
        struct evidence e;

        load_evidence(&e, "1.2");
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                struct evidence_object *o = &e.objects[types[i]];

                for (size_t k = 0; k < o->size; k += types[i] == EVIDENCE_SLOT0 ? 7 : 3) {
                        struct json_object *result = NULL;
                        uint8_t bit = (uint8_t) (1u << test_random() % 8);

                        test_about("%s, byte %zu, bit %02x", evidence_type_to_string(types[i]), k, bit);
                        o->data[k] ^= bit;
                        require(evidence_verify(&e, &rules, &result) == 0);
                        check(!json_bool_or(result, "ok", true));
                        o->data[k] ^= bit;
                        json_object_put(result);
                }
        }
        evidence_done(&e);
}

int main(int argc, char **argv) {
        require(argc == 2);
        folder = argv[1];
        load_anchors();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_case_of(&cases[i], "1.2");
                test_case_of(&cases[i], "1.1");
        }
        test_result();
        test_empty();
        test_forged_dice();
        test_writable();
        test_flips();
        test_threads();
        evidence_anchors_free(anchors);
        evidence_anchors_free(others);
        test_key(NULL, 0);
        return test_end();
}
