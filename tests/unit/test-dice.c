/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DER and DiceTcbInfo: what is decoded, and what is refused, by encodings that were written by hand. */
#include <ctype.h>

#include "certificates.h"
#include "evidence/chain-der.h"
#include "evidence/dice.h"
#include "test.h"

struct bytes {
        uint8_t data[8192];
        size_t n;
};

static struct bytes hex(const char *text) {
        struct bytes b = {};
        unsigned v;

        for (; *text; text++)
                if (isxdigit((unsigned char) *text)) {
                        require(sscanf(text, "%2x", &v) == 1);
                        b.data[b.n++] = (uint8_t) v;
                        text++;
                }
        return b;
}

/* ---- DER ---- */

static void test_der(void) {
        static const struct {
                const char *hex;
                bool good;
        } cases[] = {
                { "", true },
                { "05 00", true },
                { "30 06 02 01 01 04 01 ff", true },
                { "30", false },
                { "30 01", false },
                { "30 80 00 00", false },       /* indefinite length */
                { "04 81 01 00", false },       /* longer than needed */
                { "04 82 00 80", false },
                { "04 85 00 00 00 00 01 00", false },
                { "04 84 ff ff ff ff", false },
                { "1f 81 01 00", false },       /* tags of several bytes */
                { "00 00", false },
                { "01 01 01", false },          /* a boolean is 00 or ff */
                { "01 00", false },
                { "02 00", false },
                { "02 02 00 01", false },
                { "02 02 ff 80", false },
                { "02 02 00 80", true },
                { "03 00", false },
                { "03 01 00", true },
                { "03 01 01", false },
                { "03 02 08 00", false },
                { "03 02 04 0f", false },       /* bits that do not count must be 0 */
                { "03 02 04 f0", true },
                { "06 00", false },
                { "06 01 80", false },
                { "30 03 02 01 01 05", false },
        };
        struct bytes b;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char *copy;

                test_about("DER %zu: %.40s", i, cases[i].hex);
                b = hex(cases[i].hex);
                copy = test_copy(b.data, b.n);
                check_int(der_check(der_of(copy, b.n)), cases[i].good ? 0 : -EBADMSG);
                free(copy);
        }
        test_about("%s", "a length of two bytes");
        b = hex("30 81 80 04 7e");
        b.n += 0x7e;
        check_int(der_check(der_of(b.data, b.n)), 0);
        test_about("%s", "deep");
        for (size_t depth = 20; depth < 30; depth++) {
                b.n = 0;
                for (size_t i = 0; i < depth; i++) {
                        b.data[b.n++] = 0x30;
                        b.data[b.n++] = (uint8_t) (2 * (depth - i - 1));
                }
                check_int(der_check(der_of(b.data, b.n)), depth <= 24 ? 0 : -EBADMSG);
        }
}

static void test_contents(void) {
        char oid[DER_OID_TEXT], text[DER_TEXT_MAX];
        struct bytes b;
        uint32_t bits;
        uint64_t v;

        test_about("%s", "contents");
#define content(h) (b = hex(h), der_of(b.data, b.n))
        check_int(der_u64(content("00"), &v), 0);
        check_int(v, 0);
        check_int(der_u64(content("00 ff ff ff ff ff ff ff ff"), &v), 0);
        check(v == UINT64_MAX);
        check_int(der_u64(content("01 00 00 00 00 00 00 00 00"), &v), -ERANGE);
        check_int(der_u64(content("80"), &v), -ERANGE);
        check_int(der_u64(content("00 01"), &v), -EBADMSG);
        check_int(der_u64(content(""), &v), -EBADMSG);
        check_int(der_oid(content("2b 06 01 04 01 83 1c 82 12 03"), oid), 0);
        check_str(oid, "1.3.6.1.4.1.412.274.3");
        check_int(der_oid(content("67 81 05 05 04 01"), oid), 0);
        check_str(oid, "2.23.133.5.4.1");
        check_int(der_oid(content("88 37 01"), oid), 0);
        check_str(oid, "2.999.1");
        check_int(der_oid(content("00"), oid), 0);
        check_str(oid, "0.0");
        check_int(der_oid(content("2b 80 01"), oid), -EBADMSG);
        check_int(der_oid(content("2b ff ff ff ff ff ff ff ff ff ff 7f"), oid), -ERANGE);
        check_int(der_oid(content("2b 83ffffffffffffff7f 83ffffffffffffff7f 83ffffffffffffff7f 83ffffffffffffff7f"), oid), -ERANGE);
        check_int(der_bits(content("00"), &bits), 0);
        check_int(bits, 0);
        check_int(der_bits(content("04 90"), &bits), 0);
        check_int(bits, 9);
        check_int(der_bits(content("00 00 00 00 01"), &bits), 0);
        check_int(bits, UINT32_C(1) << 31);
        check_int(der_bits(content("00 00 00 00 00 01"), &bits), -ERANGE);
        check_int(der_text(content("41 c3 a4"), text), 0);
        check_str(text, "A\xc3\xa4");
        check_int(der_text(content("41 00"), text), -EBADMSG);
        check_int(der_text(content("c3"), text), -EBADMSG);
        check_int(der_text(content("c0 80"), text), -EBADMSG);
        check_int(der_text(content("1b"), text), -EBADMSG);
        check_int(der_text(content("ed a0 80"), text), -EBADMSG);
        memset(b.data, 'x', 300);
        check_int(der_text(der_of(b.data, 255), text), 0);
        check_int(der_text(der_of(b.data, 256), text), -ERANGE);
}

/* ---- DiceTcbInfo ---- */

#define DIGEST48 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
#define SHA384 "06 09 60 86 48 01 65 03 04 02 02"
#define FWID "30 3d" SHA384 "04 30" DIGEST48

struct dice_case {
        const char *what, *hex;
        bool multi;
        const char *json; /* NULL: refused */
};

static const struct dice_case dice_cases[] = {
        { "nothing", "30 00", false, "[ { } ]" },
        { "everything",
          "30 81 92 80 04 41434d45 81 01 4d 82 03 312e30 83 01 07 84 01 01 85 01 00"
          "a6 3f" FWID "87 02 04 90 88 02 beef 89 01 2a 8a 02 04 f0"
          "ab 29 30 27 80 02 4952 81 01 03 a2 1e 30 1c 06 01 2a 04 17 6161616161616161616161616161616161616161616161", false,
          "[ { \"vendor\": \"ACME\", \"model\": \"M\", \"version\": \"1.0\", \"svn\": 7, \"layer\": 1, \"index\": 0, \"fwids\": [ { \"hash\": \"sha384\", "
          "\"digest\": \"" DIGEST48 "\" } ], \"flags\": [ \"not-configured\", \"debug\" ], \"vendor_info\": \"beef\", \"type\": \"2a\", \"flags_mask\": [ "
          "\"not-configured\", \"not-secure\", \"recovery\", \"debug\" ], \"registers\": [ { \"name\": \"IR\", \"number\": 3, \"digests\": [ { \"hash\": "
          "\"1.2\", \"digest\": \"6161616161616161616161616161616161616161616161\" } ] } ] } ]" },
        { "a number of 64 bits", "30 0b 83 09 00 ff ff ff ff ff ff ff ff", false, "[ { \"svn\": \"0xffffffffffffffff\" } ]" },
        { "2^53", "30 09 83 07 20 00 00 00 00 00 00", false, "[ { \"svn\": 9007199254740992 } ]" },
        { "bit 31 and bit 4", "30 07 87 05 00 08 00 00 01", false, "[ { \"flags\": [ \"bit-4\" ] } ]" },
        { "two in one", "30 0a 30 03 83 01 01 30 03 83 01 02", true, "[ { \"svn\": 1 }, { \"svn\": 2 } ]" },
        { "empty list", "30 00", true, NULL },
        { "no sequence", "04 00", false, NULL },
        { "a byte behind", "30 00 05 00", false, NULL },
        { "a byte behind the list", "30 02 30 00 05 00", true, NULL },
        { "an element that is none", "30 04 30 00 05 00", true, NULL },
        { "empty", "", false, NULL },
        { "negative number", "30 03 83 01 ff", false, NULL },
        { "number of 65 bits", "30 0b 83 09 01 00 00 00 00 00 00 00 00", false, NULL },
        { "number longer than needed", "30 04 83 02 00 01", false, NULL },
        { "field twice", "30 06 83 01 01 83 01 01", false, NULL },
        { "fields out of order", "30 06 84 01 01 83 01 01", false, NULL },
        { "unknown field", "30 03 8c 01 01", false, NULL },
        { "explicit tag", "30 05 a3 03 02 01 07", false, NULL },
        { "control character", "30 03 80 01 0a", false, NULL },
        { "not UTF-8", "30 03 80 01 ff", false, NULL },
        { "NUL in a text", "30 05 80 03 410042", false, NULL },
        { "empty list of digests", "30 02 a6 00", false, NULL },
        { "digest shorter than its hash's", "30 12 a6 10 30 0e" SHA384 "04 01 00", false, NULL },
        { "digest of no bytes", "30 09 a6 07 30 05 06 01 2a 04 00", false, NULL },
        { "digest without algorithm", "30 07 a6 05 30 03 04 01 00", false, NULL },
        { "digest with more", "30 0c a6 0a 30 08 06 01 2a 04 01 00 05 00", false, NULL },
        { "flags of 33 bits", "30 08 87 06 00 00 00 00 00 01", false, NULL },
        { "register with something else", "30 06 ab 04 30 02 05 00", false, NULL },
        { "empty list of registers", "30 02 ab 00", false, NULL },
};

static void test_dice(void) {
        for (size_t i = 0; i < ARRAY_SIZE(dice_cases); i++) {
                const struct dice_case *c = &dice_cases[i];
                _cleanup_json_ struct json_object *array = json_new_array();
                struct evidence_why why = {};
                struct bytes b = hex(c->hex);
                char *copy = test_copy(b.data, b.n);

                test_about("DICE: %s", c->what);
                check_int(dice_decode(copy, b.n, c->multi, array, &why), c->json ? 0 : -EBADMSG);
                check_str(evidence_reason_to_string(why.reason), c->json ? "ok" : "dice");
                if (c->json)
                        check_str(json_object_to_json_string_ext(array, JSON_C_TO_STRING_SPACED), c->json);
                else
                        check_int(json_object_array_length(array), 0);
                /* Every shorter one is refused. */
                for (size_t n = 0; n < b.n; n++)
                        if (c->json)
                                check_int(dice_decode(copy, n, c->multi, array, NULL), -EBADMSG);
                free(copy);
        }
}

/* Limits. */
static void test_many(void) {
        _cleanup_json_ struct json_object *array = json_new_array();
        struct bytes b;
        unsigned n;

        for (n = DICE_TCB_INFOS_MAX; n <= DICE_TCB_INFOS_MAX + 1; n++) {
                test_about("%u DiceTcbInfo", n);
                b = hex("30 00");
                b.data[1] = (uint8_t) (2 * n);
                for (unsigned i = 0; i < n; i++) {
                        b.data[b.n++] = 0x30;
                        b.data[b.n++] = 0;
                }
                check_int(dice_decode(b.data, b.n, true, array, NULL), n > DICE_TCB_INFOS_MAX ? -EBADMSG : 0);
        }
        check_int(json_object_array_length(array), DICE_TCB_INFOS_MAX);
        for (n = DICE_FWIDS_MAX; n <= DICE_FWIDS_MAX + 1; n++) {
                test_about("%u digests", n);
                b = hex("30 81 00 a6 81 00");
                b.data[2] = (uint8_t) (8 * n + 3);
                b.data[5] = (uint8_t) (8 * n);
                for (unsigned i = 0; i < n; i++) {
                        struct bytes one = hex("30 06 06 01 2a 04 01 00");

                        memcpy(b.data + b.n, one.data, one.n);
                        b.n += one.n;
                }
                check_int(dice_decode(b.data, b.n, false, array, NULL), n > DICE_FWIDS_MAX ? -EBADMSG : 0);
        }
        test_about("%s", "vendorInfo");
        for (n = DICE_BYTES_MAX; n <= DICE_BYTES_MAX + 1; n++) {
                b = hex("30 82 0000 88 82 0000");
                b.data[2] = (uint8_t) ((n + 4) >> 8);
                b.data[3] = (uint8_t) (n + 4);
                b.data[6] = (uint8_t) (n >> 8);
                b.data[7] = (uint8_t) n;
                b.n += n;
                check_int(dice_decode(b.data, b.n, false, array, NULL), n > DICE_BYTES_MAX ? -EBADMSG : 0);
        }
}

static void test_certificate(void) {
        struct test_certificate t = test_good[0];
        struct json_object *array = json_new_array();
        struct test_chain c;

        test_about("%s", "in a certificate");
        t.extensions[5] = "2.23.133.5.4.1=critical,DER:30:03:83:01:05";
        t.extensions[6] = "2.23.133.5.4.5=DER:30:05:30:03:83:01:06";
        test_make_chain(&t, 1, NULL, NULL, &c);
        check_int(dice_of_certificate(c.certificates[0], 3, array, NULL), 0);
        check_str(json_object_to_json_string_ext(array, JSON_C_TO_STRING_SPACED), "[ { \"svn\": 5, \"certificate\": 3 }, { \"svn\": 6, \"certificate\": 3 } ]");
        test_free_chain(&c);
        json_object_put(array);
        array = json_new_array();
        test_make_chain(test_good, 1, NULL, NULL, &c);
        check_int(dice_of_certificate(c.certificates[0], 0, array, NULL), 0);
        check_int(json_object_array_length(array), 0);
        test_free_chain(&c);
        json_object_put(array);
        test_key(NULL, 0);
}

int main(void) {
        test_der();
        test_contents();
        test_dice();
        test_many();
        test_certificate();
        return test_end();
}
