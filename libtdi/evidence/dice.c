/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decodes DiceTcbInfo by hand: its tags are implicit ones, in ascending order, each at most once. */
#include "evidence/dice.h"

#include <stdio.h>

#include "evidence/chain-der.h"

#define JSON_EXACT (UINT64_C(1) << 53)

static const struct {
        const char *oid, *name;
        size_t size;
} hashes[] = {
        { "2.16.840.1.101.3.4.2.1", "sha256", 32 },   { "2.16.840.1.101.3.4.2.2", "sha384", 48 },   { "2.16.840.1.101.3.4.2.3", "sha512", 64 },
        { "2.16.840.1.101.3.4.2.8", "sha3-256", 32 }, { "2.16.840.1.101.3.4.2.9", "sha3-384", 48 }, { "2.16.840.1.101.3.4.2.10", "sha3-512", 64 },
};

const char *dice_flag_to_string(unsigned bit) {
        static const char *const names[] = { "not-configured", "not-secure", "recovery", "debug" };

        return bit < ARRAY_SIZE(names) ? names[bit] : NULL;
}

static void put_hex(struct json_object *o, const char *key, struct der c) {
        char text[2 * DICE_BYTES_MAX + 1] = "";

        for (size_t i = 0; i < der_left(&c); i++)
                sprintf(text + 2 * i, "%02x", c.p[i]);
        json_set_str(o, key, text);
}

static int put_text(struct json_object *o, const char *key, struct der c, struct evidence_why *why) {
        char text[DER_TEXT_MAX];

        if (der_text(c, text) < 0)
                return evidence_refuse(why, EVIDENCE_DICE, "%s of DiceTcbInfo is not UTF-8 text of less than %u bytes", key, DER_TEXT_MAX);
        json_set_str(o, key, text);
        return 0;
}

static int put_number(struct json_object *o, const char *key, struct der c, struct evidence_why *why) {
        char text[24];
        uint64_t v;

        if (der_u64(c, &v) < 0)
                return evidence_refuse(why, EVIDENCE_DICE, "%s of DiceTcbInfo is not a number from 0 to 2^64 - 1", key);
        if (v <= JSON_EXACT) {
                json_set_u64(o, key, v);
                return 0;
        }
        snprintf(text, sizeof(text), "0x%llx", (unsigned long long) v);
        json_set_str(o, key, text);
        return 0;
}

static int put_bytes(struct json_object *o, const char *key, struct der c, struct evidence_why *why) {
        if (der_left(&c) > DICE_BYTES_MAX)
                return evidence_refuse(why, EVIDENCE_DICE, "%s of DiceTcbInfo has %zu bytes, at most %u are taken", key, der_left(&c), DICE_BYTES_MAX);
        put_hex(o, key, c);
        return 0;
}

static int put_flags(struct json_object *o, const char *key, struct der c, struct evidence_why *why) {
        struct json_object *array;
        uint32_t bits;

        if (der_bits(c, &bits) < 0)
                return evidence_refuse(why, EVIDENCE_DICE, "%s of DiceTcbInfo is not a bit string of at most 32 bits", key);
        array = json_new_array();
        for (unsigned i = 0; i < 32; i++) {
                char text[16];

                /* Bit 31 only says that all 32 are there. */
                if (!(bits & UINT32_C(1) << i) || i == 31)
                        continue;
                snprintf(text, sizeof(text), "bit-%u", i);
                json_push_str(array, dice_flag_to_string(i) ? dice_flag_to_string(i) : text);
        }
        json_set_take(o, key, array);
        return 0;
}

static int put_fwids(struct json_object *o, const char *key, struct der c, struct evidence_why *why) {
        _cleanup_json_ struct json_object *array = json_new_array();
        unsigned n = 0;

        if (c.p == c.end)
                return evidence_refuse(why, EVIDENCE_DICE, "%s of DiceTcbInfo is an empty list", key);
        for (; c.p < c.end; n++) {
                struct der fwid, oid, digest;
                struct json_object *one;
                char text[DER_OID_TEXT];
                const char *name = text;

                if (n == DICE_FWIDS_MAX)
                        return evidence_refuse(why, EVIDENCE_DICE, "%s of DiceTcbInfo has more than %u digests", key, DICE_FWIDS_MAX);
                if (der_take(&c, DER_SEQUENCE, &fwid) < 0 || der_take(&fwid, DER_OID, &oid) < 0 || der_take(&fwid, DER_OCTET_STRING, &digest) < 0 ||
                    fwid.p != fwid.end || der_oid(oid, text) < 0)
                        return evidence_refuse(why, EVIDENCE_DICE, "%s %u of DiceTcbInfo is not an algorithm and a digest", key, n);
                if (der_left(&digest) == 0 || der_left(&digest) > 64)
                        return evidence_refuse(why, EVIDENCE_DICE, "%s %u of DiceTcbInfo has a digest of %zu bytes, 1 to 64 are taken", key, n, der_left(&digest));
                for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
                        if (!streq(hashes[i].oid, text))
                                continue;
                        name = hashes[i].name;
                        if (hashes[i].size != der_left(&digest))
                                return evidence_refuse(why, EVIDENCE_DICE, "%s %u of DiceTcbInfo has a digest of %zu bytes, %s has %zu", key, n, der_left(&digest),
                                                       name, hashes[i].size);
                }
                one = json_new();
                json_set_str(one, "hash", name);
                put_hex(one, "digest", digest);
                json_push_take(array, one);
        }
        json_set_take(o, key, TAKE_PTR(array));
        return 0;
}

static int put_registers(struct json_object *o, const char *key, struct der c, struct evidence_why *why) {
        _cleanup_json_ struct json_object *array = json_new_array();
        unsigned n = 0;
        int r = 0;

        if (c.p == c.end)
                return evidence_refuse(why, EVIDENCE_DICE, "%s of DiceTcbInfo is an empty list", key);
        for (; c.p < c.end; n++) {
                _cleanup_json_ struct json_object *one = json_new();
                struct der reg, value;

                if (n == DICE_REGISTERS_MAX)
                        return evidence_refuse(why, EVIDENCE_DICE, "DiceTcbInfo has more than %u integrity registers", DICE_REGISTERS_MAX);
                if (der_take(&c, DER_SEQUENCE, &reg) < 0)
                        return evidence_refuse(why, EVIDENCE_DICE, "integrity register %u of DiceTcbInfo is no sequence", n);
                if (der_take(&reg, DER_CONTEXT(0), &value) == 0)
                        r = put_text(one, "name", value, why);
                if (r == 0 && der_take(&reg, DER_CONTEXT(1), &value) == 0)
                        r = put_number(one, "number", value, why);
                if (r == 0 && der_take(&reg, DER_CONTEXT_CONSTRUCTED(2), &value) == 0)
                        r = put_fwids(one, "digests", value, why);
                if (r < 0)
                        return r;
                if (reg.p != reg.end)
                        return evidence_refuse(why, EVIDENCE_DICE, "integrity register %u of DiceTcbInfo has something else than name, number and digests", n);
                json_push_take(array, TAKE_PTR(one));
        }
        json_set_take(o, key, TAKE_PTR(array));
        return 0;
}

static const struct {
        unsigned tag;
        const char *key;
        int (*put)(struct json_object *o, const char *key, struct der c, struct evidence_why *why);
} fields[] = {
        { DER_CONTEXT(0), "vendor", put_text },         { DER_CONTEXT(1), "model", put_text },       { DER_CONTEXT(2), "version", put_text },
        { DER_CONTEXT(3), "svn", put_number },          { DER_CONTEXT(4), "layer", put_number },     { DER_CONTEXT(5), "index", put_number },
        { DER_CONTEXT_CONSTRUCTED(6), "fwids", put_fwids }, { DER_CONTEXT(7), "flags", put_flags },  { DER_CONTEXT(8), "vendor_info", put_bytes },
        { DER_CONTEXT(9), "type", put_bytes },          { DER_CONTEXT(10), "flags_mask", put_flags }, { DER_CONTEXT_CONSTRUCTED(11), "registers", put_registers },
};

static int decode_one(struct der c, struct json_object **ret, struct evidence_why *why) {
        _cleanup_json_ struct json_object *o = json_new();
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                struct der value;

                if (der_take(&c, fields[i].tag, &value) < 0)
                        continue;
                r = fields[i].put(o, fields[i].key, value, why);
                if (r < 0)
                        return r;
        }
        if (c.p != c.end)
                return evidence_refuse(why, EVIDENCE_DICE, "DiceTcbInfo has a field with tag 0x%02x that is not known, comes twice or out of order", *c.p);
        *ret = TAKE_PTR(o);
        return 0;
}

int dice_decode(const void *der, size_t size, bool multi, struct json_object *array, struct evidence_why *why) {
        _cleanup_json_ struct json_object *found = json_new_array();
        struct der d = der_of(der, size), list, one;
        unsigned n = 0;
        int r;

        if (der_check(d) < 0)
                return evidence_refuse(why, EVIDENCE_DICE, "DiceTcbInfo of %zu bytes is not DER", size);
        if (multi) {
                if (der_take(&d, DER_SEQUENCE, &list) < 0 || d.p != d.end || list.p == list.end)
                        return evidence_refuse(why, EVIDENCE_DICE, "DiceMultiTcbInfo is no list of DiceTcbInfo");
        } else
                list = d;
        do {
                struct json_object *o = NULL;

                if (n++ == DICE_TCB_INFOS_MAX)
                        return evidence_refuse(why, EVIDENCE_DICE, "more than %u DiceTcbInfo in one certificate", DICE_TCB_INFOS_MAX);
                if (der_take(&list, DER_SEQUENCE, &one) < 0)
                        return evidence_refuse(why, EVIDENCE_DICE, "DiceTcbInfo is no sequence");
                r = decode_one(one, &o, why);
                if (r < 0)
                        return r;
                json_push_take(found, o);
        } while (multi && list.p < list.end);
        if (list.p != list.end)
                return evidence_refuse(why, EVIDENCE_DICE, "%zu bytes behind DiceTcbInfo", der_left(&list));
        for (size_t i = 0; i < json_object_array_length(found); i++)
                json_push_take(array, json_object_get(json_object_array_get_idx(found, i)));
        return 0;
}

int dice_of_certificate(const X509 *x, size_t index, struct json_object *array, struct evidence_why *why) {
        size_t before = json_object_array_length(array);
        int r;

        for (int i = 0; i < X509_get_ext_count(x); i++) {
                X509_EXTENSION *e = X509_get_ext(x, i);
                const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(e);
                char oid[DER_OID_TEXT] = "";
                bool multi;

                OBJ_obj2txt(oid, sizeof(oid), X509_EXTENSION_get_object(e), 1);
                multi = streq(oid, DICE_OID_MULTI_TCB_INFO);
                if (!multi && !streq(oid, DICE_OID_TCB_INFO))
                        continue;
                r = dice_decode(ASN1_STRING_get0_data(value), (size_t) ASN1_STRING_length(value), multi, array, why);
                if (r < 0)
                        return r;
        }
        for (size_t i = before; i < json_object_array_length(array); i++)
                json_set_u64(json_object_array_get_idx(array, i), "certificate", index);
        return 0;
}
