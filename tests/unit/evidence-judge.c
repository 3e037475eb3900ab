/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Judges the evidence in a folder, whose files have the objects' names ("slot0", "vca", …), against anchors in a PEM file, and prints the
 * verdict: JSON. For test_verify.py, and for looking at what spdm-ask collected.
 *
 *   evidence-judge FOLDER ANCHORS [REFERENCES]
 */
#include <err.h>
#include <stdio.h>

#include "evidence/verify.h"

static char *load(const char *path, size_t *ret_size) {
        char *data = malloc(EVIDENCE_OBJECT_MAX + 1);
        FILE *f = fopen(path, "re");

        if (!data)
                err(1, "%s", path);
        if (!f) {
                free(data);
                return NULL;
        }
        *ret_size = fread(data, 1, EVIDENCE_OBJECT_MAX + 1, f);
        fclose(f);
        return data;
}

int main(int argc, char *argv[]) {
        struct evidence_rules rules = { .slot = -1, .need_signature = true, .need_responder_eku = true };
        struct evidence_references *references = NULL;
        struct evidence_anchors *anchors = NULL;
        struct json_object *result = NULL;
        struct evidence_why why = {};
        struct evidence e = {};
        char path[4096], *data, *error = NULL;
        size_t size;

        if (argc < 3 || argc > 4)
                errx(2, "usage: evidence-judge FOLDER ANCHORS [REFERENCES]");
        for (int i = 0; i < _EVIDENCE_TYPE_MAX; i++) {
                snprintf(path, sizeof(path), "%s/%s", argv[1], evidence_type_to_string((enum evidence_type) i));
                data = load(path, &size);
                if (data && evidence_set(&e, (enum evidence_type) i, data, size) < 0)
                        errx(1, "%s: too large", path);
                free(data);
        }
        if (evidence_anchors_new(&anchors) < 0 || evidence_anchors_add_file(anchors, "anchors", argv[2], &why) < 0)
                errx(1, "%s: %s", argv[2], why.text);
        if (argc == 4) {
                data = load(argv[3], &size);
                if (!data)
                        err(1, "%s", argv[3]);
                if (evidence_references_parse(data, size, &references, &error) < 0)
                        errx(1, "%s: %s", argv[3], error ? error : "out of memory");
                free(data);
        }
        rules.anchors = anchors;
        rules.references = references;
        if (evidence_verify(&e, &rules, &result) < 0)
                errx(1, "out of memory");
        puts(json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        json_object_put(result);
        evidence_references_free(references);
        evidence_anchors_free(anchors);
        evidence_done(&e);
        return 0;
}
