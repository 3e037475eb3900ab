/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holds measurements and DiceTcbInfo against reference values; each result says what was found and what was expected. */
#include <openssl/err.h>
#include <stdio.h>

#include "evidence/references-internal.h"

#define TYPE_MANIFEST 4u /* types up to this one may be a digest or the bytes that it is of */
#define TYPE_SVN 7u
#define RAW 0x80u

static void to_hex(const uint8_t *p, size_t n, char *text) {
        text[0] = 0;
        for (size_t i = 0; i < n; i++)
                sprintf(text + 2 * i, "%02x", p[i]);
}

static bool is_hex_of(const char *hex, const uint8_t *p, size_t n) {
        if (strlen(hex) != 2 * n)
                return false;
        for (size_t i = 0; i < n; i++) {
                char byte[3];

                sprintf(byte, "%02x", p[i]);
                if (strncasecmp(byte, hex + 2 * i, 2) != 0)
                        return false;
        }
        return true;
}

static bool is_listed(struct json_object *array, const uint8_t *p, size_t n) {
        for (size_t i = 0; i < json_object_array_length(array); i++)
                if (is_hex_of(json_object_get_string(json_object_array_get_idx(array, i)), p, n))
                        return true;
        return false;
}

static void type_text(uint8_t value_type, char text[static 32]) {
        const char *name = evidence_measurement_type_to_string(value_type);

        if (name)
                snprintf(text, 32, "%s", name);
        else
                snprintf(text, 32, "type-%u", value_type & 0x7fu);
}

static bool is_svn(const struct spdm_block *b) {
        return b->value_type == (RAW | TYPE_SVN) && b->size == sizeof(uint64_t);
}

static uint64_t svn_of(const struct spdm_block *b) {
        uint64_t v = 0;

        for (size_t i = sizeof(v); i > 0; i--)
                v = v << 8 | b->value[i - 1];
        return v;
}

/* ---- measurements ---- */

static struct json_object *describe(const struct spdm_block *b, const struct spdm_negotiated *n) {
        struct json_object *o = json_new();
        size_t shown = b->size < EVIDENCE_VALUE_SHOWN ? b->size : EVIDENCE_VALUE_SHOWN, used;
        char text[2 * EVIDENCE_VALUE_SHOWN + 1];
        uint8_t digest[32];

        json_set_u64(o, "index", b->index);
        type_text(b->value_type, text);
        json_set_str(o, "type", text);
        if (b->value_type & RAW)
                json_set_bool(o, "raw", true);
        else if (n->measurement_hash)
                json_set_str(o, "hash", n->measurement_hash->name);
        json_set_u64(o, "size", b->size);
        to_hex(b->value, shown, text);
        json_set_str(o, "value", text);
        if (shown < b->size && EVP_Q_digest(NULL, "sha256", NULL, b->value, b->size, digest, &used)) {
                json_set_bool(o, "value_cut", true);
                to_hex(digest, sizeof(digest), text);
                json_set_str(o, "value_sha256", text);
        }
        if (is_svn(b) && svn_of(b) <= UINT64_C(1) << 53)
                json_set_u64(o, "svn", svn_of(b));
        return o;
}

/* What the reference wants, as results have it. A copy: results go to other threads. */
static void put_expected(struct json_object *o, struct json_object *ref) {
        struct json_object *array = json_new_array(), *values;
        char text[40];
        uint64_t svn;

        if (json_get_array(ref, "values", &values) == 0)
                for (size_t i = 0; i < json_object_array_length(values); i++)
                        json_push_str(array, json_object_get_string(json_object_array_get_idx(values, i)));
        else if (json_get_u64(ref, "svn-at-least", &svn) == 0) {
                snprintf(text, sizeof(text), "svn-at-least %llu", (unsigned long long) svn);
                json_push_str(array, text);
        } else
                json_push_str(array, json_str_or(ref, "raw", "any"));
        json_set_take(o, "expected", array);
}

/* How many values the sentence has beside the first one. */
static int refuse_value(const struct spdm_block *b, const char *found, const char *expected, size_t others, struct evidence_why *why) {
        char type[32], more[32] = "";

        type_text(b->value_type, type);
        if (others > 0)
                snprintf(more, sizeof(more), " or %zu others", others);
        return evidence_refuse(why, EVIDENCE_MISMATCH, "index %u (%s) is %.140s, expected %.140s%s", b->index, type, found, expected, more);
}

static int compare_digest(const struct spdm_block *b, const struct spdm_negotiated *n, struct json_object *ref, struct evidence_why *why) {
        const struct spdm_hash *hash = evidence_reference_hash(ref);
        struct json_object *values = NULL;
        uint8_t digest[SPDM_HASH_MAX];
        char found[2 * SPDM_HASH_MAX + 1], text[64];
        const uint8_t *p = b->value;
        size_t size = b->size;

        if (json_get_array(ref, "values", &values) < 0)
                return -EINVAL;
        if (b->value_type & RAW) {
                if ((b->value_type & ~RAW) > TYPE_MANIFEST)
                        return refuse_value(b, "a raw bit stream", "a digest", 0, why);
                if (!EVP_Q_digest(NULL, hash->name, NULL, b->value, b->size, digest, &size)) {
                        ERR_clear_error();
                        return -ENOMEM;
                }
                p = digest;
        } else if (n->measurement_hash != hash) {
                snprintf(text, sizeof(text), "a %s digest", n->measurement_hash ? n->measurement_hash->name : "nameless");
                return refuse_value(b, text, hash->name, 0, why);
        }
        if (is_listed(values, p, size))
                return 0;
        to_hex(p, size, found);
        return refuse_value(b, found, json_object_get_string(json_object_array_get_idx(values, 0)), json_object_array_length(values) - 1, why);
}

static int compare_block(const struct spdm_block *b, const struct spdm_negotiated *n, struct json_object *ref, struct evidence_why *why) {
        const char *wanted = json_str_or(ref, "type", NULL), *raw = json_str_or(ref, "raw", NULL);
        char type[32], found[2 * 64 + 4], text[40];
        uint64_t least;

        type_text(b->value_type, type);
        if (wanted && !streq(wanted, type))
                return evidence_refuse(why, EVIDENCE_MISMATCH, "index %u is of type %s, expected %s", b->index, type, wanted);
        if (json_bool_or(ref, "any", false))
                return 0;
        if (evidence_reference_hash(ref))
                return compare_digest(b, n, ref, why);
        if (raw) {
                if (b->value_type & RAW && is_hex_of(raw, b->value, b->size))
                        return 0;
                to_hex(b->value, b->size < 64 ? b->size : 64, found);
                if (b->size > 64)
                        strcat(found, "…");
                return refuse_value(b, b->value_type & RAW ? found : "a digest", raw, 0, why);
        }
        if (json_get_u64(ref, "svn-at-least", &least) < 0)
                return -EINVAL;
        snprintf(text, sizeof(text), "at least %llu", (unsigned long long) least);
        if (!is_svn(b))
                return refuse_value(b, "no security version number of 8 bytes", text, 0, why);
        if (svn_of(b) >= least)
                return 0;
        snprintf(found, sizeof(found), "%llu", (unsigned long long) svn_of(b));
        return refuse_value(b, found, text, 0, why);
}

static struct json_object *find_reference(const struct evidence_references *r, unsigned index) {
        for (size_t i = 0; r && r->measurements && i < json_object_array_length(r->measurements); i++) {
                struct json_object *ref = json_object_array_get_idx(r->measurements, i);

                if (json_u64_or(ref, "index", 0) == index)
                        return ref;
        }
        return NULL;
}

/* One index: as the device has it, as the references want it; not both are NULL. */
static int compare_index(const struct evidence_references *r, const struct spdm_negotiated *n, unsigned index, const struct spdm_block *b, struct json_object *ref,
                         struct json_object *blocks, struct evidence_why *why) {
        struct json_object *o = b ? describe(b, n) : json_new();
        const char *result = "matched";
        int e = 0;

        json_push_take(blocks, o);
        if (!b) {
                json_set_u64(o, "index", index);
                if (json_str_or(ref, "type", NULL))
                        json_set_str(o, "type", json_str_or(ref, "type", NULL));
                result = "missing";
                e = evidence_refuse(why, EVIDENCE_MISSING, "index %u is not measured, the reference values \"%s\" want it", index, r->name);
        } else if (ref) {
                e = compare_block(b, n, ref, why);
                if (e < 0)
                        result = "mismatched";
        } else if (r && r->complete) {
                result = "unlisted";
                e = evidence_refuse(why, EVIDENCE_UNLISTED, "index %u is measured, but the reference values \"%s\", which are complete, do not have it", index,
                                    r->name);
        } else
                result = "unchecked";
        json_set_str(o, "result", result);
        if (ref)
                put_expected(o, ref);
        return e;
}

/* ---- DiceTcbInfo ---- */

static bool is_selected(struct json_object *ref, struct json_object *info) {
        static const char *const texts[] = { "vendor", "model" }, *const numbers[] = { "layer", "index" };
        uint64_t wanted, found;
        const char *type;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                const char *text = json_str_or(ref, texts[i], NULL);

                if (text && !streq_ptr(text, json_str_or(info, texts[i], NULL)))
                        return false;
        }
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                if (json_get_u64(ref, numbers[i], &wanted) == 0 && (json_get_u64(info, numbers[i], &found) < 0 || wanted != found))
                        return false;
        type = json_str_or(ref, "type", NULL);
        return !type || strcasecmp(type, json_str_or(info, "type", "")) == 0;
}

static bool has_text(struct json_object *array, const char *text) {
        for (size_t i = 0; i < json_object_array_length(array); i++)
                if (strcasecmp(json_object_get_string(json_object_array_get_idx(array, i)), text) == 0)
                        return true;
        return false;
}

/* Numbers above 2^53 are text there: more than any reference can want. */
static bool has_svn(struct json_object *info, uint64_t least) {
        uint64_t svn;

        return json_get_u64(info, "svn", &svn) == 0 ? svn >= least : json_str_or(info, "svn", NULL) != NULL;
}

static int compare_tcb(const char *who, struct json_object *ref, struct json_object *info, struct evidence_why *why) {
        struct json_object *wanted, *found;
        uint64_t least;

        if (json_get_u64(ref, "svn-at-least", &least) == 0 && !has_svn(info, least))
                return evidence_refuse(why, EVIDENCE_MISMATCH, "DiceTcbInfo of %s has svn %lld (-1: none), expected at least %llu", who,
                                       (long long) json_i64_or(info, "svn", -1), (unsigned long long) least);
        if (json_get_array(ref, "fwids", &wanted) == 0) {
                if (json_get_array(info, "fwids", &found) < 0)
                        return evidence_refuse(why, EVIDENCE_MISMATCH, "DiceTcbInfo of %s has no digests, expected %.128s", who,
                                               json_object_get_string(json_object_array_get_idx(wanted, 0)));
                /* Digests of one image by several algorithms: each must be a known one. */
                for (size_t i = 0; i < json_object_array_length(found); i++) {
                        const char *digest = json_str_or(json_object_array_get_idx(found, i), "digest", "");

                        if (!has_text(wanted, digest))
                                return evidence_refuse(why, EVIDENCE_MISMATCH, "DiceTcbInfo of %.64s has the digest %s, expected %.128s", who, digest,
                                                       json_object_get_string(json_object_array_get_idx(wanted, 0)));
                }
        }
        if (json_get_array(ref, "flags-clear", &wanted) == 0 && json_get_array(info, "flags", &found) == 0)
                for (size_t i = 0; i < json_object_array_length(wanted); i++) {
                        const char *flag = json_object_get_string(json_object_array_get_idx(wanted, i));

                        if (has_text(found, flag))
                                return evidence_refuse(why, EVIDENCE_MISMATCH, "DiceTcbInfo of %s has the flag %s, expected it clear", who, flag);
                }
        return 0;
}

static int compare_one_tcb(struct json_object *ref, size_t index, struct json_object *dice, struct json_object *tcb, struct evidence_why *why) {
        struct json_object *o = NULL, *found = json_new_array();
        const char *result = "matched";
        char who[160];
        int e = 0;

        snprintf(who, sizeof(who), "tcb[%zu] (%.60s %.60s)", index, json_str_or(ref, "vendor", "any vendor"), json_str_or(ref, "model", "any model"));
        for (size_t i = 0; i < json_object_array_length(dice); i++) {
                struct json_object *info = json_object_array_get_idx(dice, i);
                int one;

                /* What somebody put above the anchor is nobody's word. */
                if (!json_bool_or(info, "verified", false) || !is_selected(ref, info))
                        continue;
                json_push_take(found, json_object_new_int64((int64_t) i));
                one = compare_tcb(who, ref, info, why);
                if (e == 0)
                        e = one;
        }
        if (e < 0)
                result = "mismatched";
        if (json_object_array_length(found) == 0) {
                result = "missing";
                e = evidence_refuse(why, EVIDENCE_MISSING, "no verified certificate has DiceTcbInfo of %s, the reference values want it", who);
        }
        if (json_object_deep_copy(ref, &o, NULL) < 0) {
                json_object_put(found);
                return -ENOMEM;
        }
        json_set_take(o, "found", found);
        json_set_str(o, "result", result);
        json_push_take(tcb, o);
        return e;
}

int evidence_references_compare(const struct evidence_references *r, const struct spdm_negotiated *n, const struct spdm_measurements *m, struct json_object *dice,
                                struct json_object *blocks, struct json_object *tcb, struct evidence_why *why) {
        int result = 0, e;
        size_t at = 0;

        if (!m && r && r->measurements && json_object_array_length(r->measurements) > 0)
                result = evidence_refuse(why, EVIDENCE_NO_MEASUREMENTS, "there are no measurements, the reference values \"%s\" want some", r->name);
        for (unsigned index = 1; index <= SPDM_BLOCKS_MAX; index++) {
                const struct spdm_block *b = m && at < m->n_blocks && m->blocks[at].index == index ? &m->blocks[at++] : NULL;
                struct json_object *ref = find_reference(r, index);

                if (!b && !ref)
                        continue;
                e = compare_index(r, n, index, b, ref, blocks, why);
                if (e < 0 && e != -EBADMSG)
                        return e;
                result = result < 0 ? result : e;
        }
        for (size_t i = 0; r && r->tcb && i < json_object_array_length(r->tcb); i++) {
                e = compare_one_tcb(json_object_array_get_idx(r->tcb, i), i, dice, tcb, why);
                if (e < 0 && e != -EBADMSG)
                        return e;
                result = result < 0 ? result : e;
        }
        return result;
}
