/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What DICE and DMTF put into certificates. The first byte says what the others are: DiceTcbInfo, DiceMultiTcbInfo, subject alternative name,
 * DMTF's extension, extended key usage, or a PEM file of anchors.
 */
#include "evidence/anchors.h"
#include "evidence/dice.h"
#include "evidence/leaf.h"
#include "fuzz.h"

static void look_dice(const uint8_t *data, size_t size, bool multi) {
        struct json_object *array = json_new_array();
        struct evidence_why why = {};
        int r;

        r = dice_decode(data, size, multi, array, &why);
        must(r == 0 || (r == -EBADMSG && why.reason == EVIDENCE_DICE));
        must(r < 0 ? json_object_array_length(array) == 0 : json_object_array_length(array) >= 1 && json_object_array_length(array) <= DICE_TCB_INFOS_MAX);
        json_object_put(array);
}

static void look_extension(const uint8_t *data, size_t size, const char *oid) {
        ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        X509_EXTENSION *e;
        X509 *x = X509_new();
        struct evidence_dmtf dmtf = {};
        struct evidence_why why = {};
        int r;

        must(object && value && x && ASN1_OCTET_STRING_set(value, data, (int) size));
        e = X509_EXTENSION_create_by_OBJ(NULL, object, 0, value);
        must(e && X509_add_ext(x, e, -1));
        r = evidence_dmtf_decode(x, &dmtf, &why);
        must(r == 0 || (r == -EBADMSG && why.reason == EVIDENCE_LEAF_FORM && !*dmtf.device));
        why = (struct evidence_why){};
        /* A certificate without anything else is no leaf. */
        must(evidence_leaf_check(x, &spdm_asyms[0], SPDM_1_3, true, &why) == -EBADMSG && why.reason != EVIDENCE_OK);
        X509_EXTENSION_free(e);
        ASN1_OCTET_STRING_free(value);
        ASN1_OBJECT_free(object);
        X509_free(x);
}

static void look_anchors(const uint8_t *data, size_t size) {
        struct evidence_anchors *a = NULL;
        struct evidence_why why = {};
        int r;

        must(evidence_anchors_new(&a) == 0);
        r = evidence_anchors_add_pem(a, "fuzz", (const char *) data, size, &why);
        must(r == 0 ? evidence_anchors_count(a) > 0 : r == -EBADMSG && why.reason != EVIDENCE_OK && evidence_anchors_count(a) == 0);
        evidence_anchors_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        switch (data[0] % 6) {
        case 0:
        case 1:
                look_dice(data + 1, size - 1, data[0] % 6);
                break;
        case 2:
                look_extension(data + 1, size - 1, "2.5.29.17");
                break;
        case 3:
                look_extension(data + 1, size - 1, DMTF_OID_SPDM);
                break;
        case 4:
                look_extension(data + 1, size - 1, "2.5.29.37");
                break;
        default:
                look_anchors(data + 1, size - 1);
        }
        return 0;
}
