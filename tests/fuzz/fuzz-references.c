/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reference values: a file is taken or refused with words; what is taken compares with measurements, and each index gets one result. */
#include "evidence/references.h"
#include "fuzz.h"

static uint8_t value[64] = { 1, 2, 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char dice_text[] = "[{\"vendor\": \"ACME\", \"model\": \"WIDGET\", \"layer\": 1, \"svn\": 7, \"flags\": [\"debug\"], \"fwids\": [{\"digest\": \"aa\"}]}]";
        struct spdm_negotiated n = { .version = SPDM_1_2, .hash = &spdm_hashes[2], .measurement_hash = &spdm_hashes[2] };
        struct spdm_measurements m = { .n_blocks = 4 };
        struct json_object *blocks, *tcb, *dice = NULL;
        struct evidence_references *r = NULL;
        struct evidence_why why = {};
        char *error = NULL;
        int e;

        e = evidence_references_parse((const char *) data, size, &r, &error);
        must(e == 0 ? !error : e == -EBADMSG && error && *error && !r);
        free(error);
        if (e < 0)
                return 0;
        m.blocks[0] = (struct spdm_block){ 1, 0x00, value, 32 };
        m.blocks[1] = (struct spdm_block){ 2, 0x81, value, 3 };
        m.blocks[2] = (struct spdm_block){ 5, 0x85, value, 4 };
        m.blocks[3] = (struct spdm_block){ 6, 0x87, value, 8 };
        must(json_parse_strict(dice_text, strlen(dice_text), &dice, NULL, NULL) == 0);
        blocks = json_new_array();
        tcb = json_new_array();
        e = evidence_references_compare(r, &n, &m, dice, blocks, tcb, &why);
        must(e == 0 ? why.reason == EVIDENCE_OK : e == -EBADMSG && why.reason != EVIDENCE_OK && *why.text);
        must(json_object_array_length(blocks) >= 4 && json_object_array_length(blocks) <= SPDM_BLOCKS_MAX);
        for (size_t i = 0; i < json_object_array_length(blocks); i++)
                must(json_str_or(json_object_array_get_idx(blocks, i), "result", NULL));
        json_object_put(blocks);
        json_object_put(tcb);
        json_object_put(dice);
        evidence_references_free(r);
        return 0;
}
