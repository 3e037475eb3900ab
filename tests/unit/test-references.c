/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reference values: which files are taken, what is said of the others, and what measurements compare to. */
#include <sys/stat.h>

#include "evidence/references.h"
#include "test.h"

#define H32 "4141414141414141414141414141414141414141414141414141414141414141"
#define I32 "4242424242424242424242424242424242424242424242424242424242424242"
#define HEAD "{\"schema\": \"tdid-references/1\", \"name\": \"n\""
#define LIST(entries) HEAD ", \"measurements\": [" entries "]}"
#define TCB(entries) HEAD ", \"tcb\": [" entries "]}"

static const struct {
        const char *text, *error; /* NULL: taken */
} files[] = {
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": [\"" H32 "\"]}"), NULL },
        { LIST("{\"index\": 1, \"type\": \"immutable-rom\", \"raw\": \"00Ff\"}, {\"index\": 254, \"svn-at-least\": 0}, {\"index\": 3, \"any\": true}"), NULL },
        { TCB("{\"vendor\": \"V\"}, {\"layer\": 1, \"index\": 0, \"type\": \"aa\", \"model\": \"M\", \"svn-at-least\": 1, \"fwids\": [\"00\"], \"flags-clear\": [\"debug\"]}"), NULL },
        { "", "line 1: " },
        { "[]", "expected an object" },
        { "{}", "\"schema\" is missing" },
        { "{\"schema\": 1}", "\"schema\" is missing" },
        { "{\"schema\": \"tdid-references/2\"}", "\"schema\" is \"tdid-references/2\", expected \"tdid-references/1\"" },
        { HEAD "\n,\n\"name\": \"x\"}", "line 3: " },
        { HEAD ", \"naem\": 1}", "unknown key \"naem\", did you mean \"name\"?" },
        { HEAD ", \"completely-else\": 1}", "unknown key \"completely-else\"" },
        { HEAD "}", "there is no value" },
        { LIST(""), "there is no value" },
        { "{\"schema\": \"tdid-references/1\", \"tcb\": []}", "\"name\" must be text" },
        { "{\"schema\": \"tdid-references/1\", \"name\": \"\"}", "\"name\" must be text" },
        { HEAD ", \"complete\": 1}", "\"complete\" must be true or false" },
        { HEAD ", \"measurements\": {}}", "\"measurements\" must be a list" },
        { HEAD ", \"tcb\": 0}", "\"tcb\" must be a list" },
        { LIST("1"), "measurements[0]: expected an object" },
        { LIST("{\"index\": 1, \"any\": true}, {\"index\": 2, \"hahs\": \"x\"}"), "measurements[1]: unknown key \"hahs\", did you mean \"hash\"?" },
        { LIST("{\"index\": 0, \"any\": true}"), "measurements[0]: \"index\" must be a number from 1 to 254" },
        { LIST("{\"index\": 255, \"any\": true}"), "\"index\" must be" },
        { LIST("{\"index\": \"1\", \"any\": true}"), "\"index\" must be" },
        { LIST("{\"any\": true}"), "\"index\" must be" },
        { LIST("{\"index\": 4, \"any\": true}, {\"index\": 4, \"any\": true}"), "measurements[1]: index 4 is there twice" },
        { LIST("{\"index\": 1}"), "one of \"hash\"" },
        { LIST("{\"index\": 1, \"any\": true, \"raw\": \"00\"}"), "one of \"hash\"" },
        { LIST("{\"index\": 1, \"hash\": \"sha256\"}"), "one of \"hash\"" },
        { LIST("{\"index\": 1, \"values\": [\"" H32 "\"]}"), "one of \"hash\"" },
        { LIST("{\"index\": 1, \"any\": false}"), "\"any\" can be true only" },
        { LIST("{\"index\": 1, \"any\": true, \"type\": \"rom\"}"), "unknown type \"rom\"" },
        { LIST("{\"index\": 1, \"any\": true, \"type\": 0}"), "\"type\" must be text" },
        { LIST("{\"index\": 1, \"hash\": \"sha1\", \"values\": []}"), "\"hash\" must be" },
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": []}"), "\"values\" must be a list of 1 to 1024" },
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": \"" H32 "\"}"), "\"values\" must be a list" },
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": [\"" H32 "\", \"00\"]}"), "measurements[0]: \"values\"[1] must have 64 hexadecimal digits, found 2" },
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": [7]}"), "\"values\"[0] must be text" },
        { LIST("{\"index\": 1, \"raw\": \"0\"}"), "\"raw\" must be an even number" },
        { LIST("{\"index\": 1, \"raw\": \"\"}"), "\"raw\" must be an even number" },
        { LIST("{\"index\": 1, \"raw\": \"0x\"}"), "\"raw\" must be an even number" },
        { LIST("{\"index\": 1, \"svn-at-least\": -1}"), "\"svn-at-least\" must be a number" },
        { LIST("{\"index\": 1, \"svn-at-least\": 1.5}"), "line 1: " },
        { TCB("{\"svn-at-least\": 1}"), "tcb[0]: nothing says which" },
        { TCB("{\"vendor\": \"\"}"), "\"vendor\" must be text" },
        { TCB("{\"vendor\": \"V\", \"layer\": \"1\"}"), "\"layer\" must be a number" },
        { TCB("{\"vendor\": \"V\", \"fwids\": []}"), "\"fwids\" must be a list" },
        { TCB("{\"vendor\": \"V\", \"flags-clear\": []}"), "\"flags-clear\" must be a list" },
        { TCB("{\"vendor\": \"V\", \"flags-clear\": [\"bug\"]}"), "\"flags-clear\"[0] must be" },
        { TCB("{\"vendor\": \"V\", \"flag-clear\": [\"debug\"]}"), "did you mean \"flags-clear\"?" },
        { TCB("{\"vendor\": \"V\", \"type\": \"zz\"}"), "\"type\" must be an even number" },
};

static void test_files(void) {
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                struct evidence_references *r = NULL;
                size_t n = strlen(files[i].text);
                char *copy = test_copy(files[i].text, n), *error = NULL;

                test_about("%.120s", files[i].text);
                check_int(evidence_references_parse(copy, n, &r, &error), files[i].error ? -EBADMSG : 0);
                if (files[i].error && !check(error && strstr(error, files[i].error)))
                        fprintf(stderr, "%s\n", error ? error : "(no error)");
                if (!files[i].error)
                        check(!error && streq(evidence_references_name(r), "n") && !evidence_references_complete(r));
                free(error);
                free(copy);
                evidence_references_free(r);
        }
        check_int(evidence_references_parse("", EVIDENCE_REFERENCES_FILE_MAX + 1, &(struct evidence_references *){ NULL }, NULL), -EBADMSG);
        check(evidence_references_free(NULL) == NULL);
}

static void check_load(const char *path, int expected, const char *words) {
        struct evidence_references *r = NULL;
        char *error = NULL;

        check_int(evidence_references_load(path, &r, &error), expected);
        check(expected == 0 ? r && !error : !r);
        if (words && !check(error && strstr(error, words)))
                fprintf(stderr, "%s\n", error ? error : "(no error)");
        check(words || !error);
        evidence_references_free(r);
        free(error);
}

static void test_load(void) {
        char top[64], path[128], *text = calloc(1, EVIDENCE_REFERENCES_FILE_MAX + 1);

        test_make_dir(top);
        snprintf(path, sizeof(path), "%s/fw.json", top);
        test_about("a file of reference values");
        check_load(path, -ENOENT, NULL);
        check_load(top, -EBADMSG, "not a file");
        require(mkfifo(path, 0600) == 0);
        check_load(path, -EBADMSG, "not a file");
        require(unlink(path) == 0);
        test_write_file(path, files[0].text, strlen(files[0].text));
        check_load(path, 0, NULL);
        check_int(evidence_references_load(top, &(struct evidence_references *){ NULL }, NULL), -EBADMSG);
        require(chmod(path, 0646) == 0);
        check_load(path, -EBADMSG, "everybody may write to it");
        require(chmod(path, 0664) == 0);
        check_load(path, 0, NULL);
        test_write_file(path, "{}", 2);
        check_load(path, -EBADMSG, "\"schema\" is missing");
        require(text);
        memset(text, ' ', EVIDENCE_REFERENCES_FILE_MAX + 1);
        memcpy(text, files[0].text, strlen(files[0].text));
        test_write_file(path, text, EVIDENCE_REFERENCES_FILE_MAX);
        check_load(path, 0, NULL);
        test_write_file(path, text, EVIDENCE_REFERENCES_FILE_MAX + 1);
        check_load(path, -EBADMSG, "more than 4194304 bytes");
        free(text);
        test_remove_dir(top);
}

/* ---- comparing ---- */

static uint8_t value_a[32] = { [0 ... 31] = 0x41 }, value_raw[] = { 1, 2, 3 }, value_svn[8] = { 5, 1 }, value_long[3000];
static const uint8_t value_abc[] = "abc";

static struct spdm_measurements measured(void) {
        struct spdm_measurements m = { .n_blocks = 6 };

        m.blocks[0] = (struct spdm_block){ 1, 0x00, value_a, sizeof(value_a) };
        m.blocks[1] = (struct spdm_block){ 2, 0x81, value_abc, 3 };
        m.blocks[2] = (struct spdm_block){ 5, 0x85, value_raw, sizeof(value_raw) };
        m.blocks[3] = (struct spdm_block){ 7, 0x87, value_svn, sizeof(value_svn) };
        m.blocks[4] = (struct spdm_block){ 9, 0x84, value_long, sizeof(value_long) };
        m.blocks[5] = (struct spdm_block){ 254, 0x8c, value_raw, sizeof(value_raw) };
        return m;
}

/* SHA-256 of "abc" (FIPS 180-2, B.1) */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static const struct {
        const char *file;
        enum evidence_reason reason;
        unsigned index;
        const char *result, *text; /* of that index; what the sentence has */
} comparisons[] = {
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": [\"" I32 "\", \"" H32 "\"]}"), EVIDENCE_OK, 1, "matched", NULL },
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": [\"" I32 "\"]}"), EVIDENCE_MISMATCH, 1, "mismatched", "index 1 (immutable-rom) is " H32 ", expected " I32 },
        { LIST("{\"index\": 1, \"hash\": \"sha256\", \"values\": [\"" I32 "\", \"" ABC "\"]}"), EVIDENCE_MISMATCH, 1, "mismatched", "or 1 others" },
        { LIST("{\"index\": 1, \"hash\": \"sha384\", \"values\": [\"" H32 "41414141414141414141414141414141\"]}"), EVIDENCE_MISMATCH, 1, "mismatched",
          "a sha256 digest, expected sha384" },
        { LIST("{\"index\": 1, \"type\": \"mutable-firmware\", \"any\": true}"), EVIDENCE_MISMATCH, 1, "mismatched", "of type immutable-rom, expected mutable-firmware" },
        { LIST("{\"index\": 1, \"type\": \"immutable-rom\", \"any\": true}"), EVIDENCE_OK, 1, "matched", NULL },
        { LIST("{\"index\": 1, \"raw\": \"" H32 "\"}"), EVIDENCE_MISMATCH, 1, "mismatched", "is a digest" },
        { LIST("{\"index\": 1, \"svn-at-least\": 1}"), EVIDENCE_MISMATCH, 1, "mismatched", "no security version number" },
        /* A raw bit stream is what its digest is of. */
        { LIST("{\"index\": 2, \"hash\": \"sha256\", \"values\": [\"" ABC "\"]}"), EVIDENCE_OK, 2, "matched", NULL },
        { LIST("{\"index\": 2, \"hash\": \"sha256\", \"values\": [\"" H32 "\"]}"), EVIDENCE_MISMATCH, 2, "mismatched", ABC },
        { LIST("{\"index\": 5, \"hash\": \"sha256\", \"values\": [\"" H32 "\"]}"), EVIDENCE_MISMATCH, 5, "mismatched", "raw bit stream" },
        { LIST("{\"index\": 5, \"raw\": \"010203\"}"), EVIDENCE_OK, 5, "matched", NULL },
        { LIST("{\"index\": 5, \"raw\": \"010204\"}"), EVIDENCE_MISMATCH, 5, "mismatched", "is 010203, expected 010204" },
        { LIST("{\"index\": 5, \"raw\": \"01020300\"}"), EVIDENCE_MISMATCH, 5, "mismatched", NULL },
        { LIST("{\"index\": 7, \"svn-at-least\": 261}"), EVIDENCE_OK, 7, "matched", NULL },
        { LIST("{\"index\": 7, \"svn-at-least\": 262}"), EVIDENCE_MISMATCH, 7, "mismatched", "is 261, expected at least 262" },
        { LIST("{\"index\": 9, \"raw\": \"00\"}"), EVIDENCE_MISMATCH, 9, "mismatched", "…" },
        { LIST("{\"index\": 3, \"any\": true}"), EVIDENCE_MISSING, 3, "missing", "index 3" },
        { LIST("{\"index\": 254, \"any\": true}"), EVIDENCE_OK, 254, "matched", NULL },
        { LIST("{\"index\": 1, \"any\": true}"), EVIDENCE_OK, 2, "unchecked", NULL },
        { HEAD ", \"complete\": true, \"measurements\": [{\"index\": 1, \"any\": true}]}", EVIDENCE_UNLISTED, 2, "unlisted", "index 2" },
        { TCB("{\"vendor\": \"V\", \"layer\": 1}"), EVIDENCE_OK, 1, "unchecked", NULL },
        { TCB("{\"vendor\": \"V\", \"layer\": 2}"), EVIDENCE_MISSING, 1, "unchecked", "tcb[0]" },
        { TCB("{\"model\": \"M\", \"svn-at-least\": 7}"), EVIDENCE_OK, 1, "unchecked", NULL },
        { TCB("{\"model\": \"M\", \"svn-at-least\": 8}"), EVIDENCE_MISMATCH, 1, "unchecked", "svn 7" },
        { TCB("{\"model\": \"N\", \"svn-at-least\": 7}"), EVIDENCE_MISMATCH, 1, "unchecked", "svn -1" },
        { TCB("{\"vendor\": \"V\", \"fwids\": [\"AA\", \"bb\"]}"), EVIDENCE_OK, 1, "unchecked", NULL },
        { TCB("{\"vendor\": \"V\", \"fwids\": [\"bb\"]}"), EVIDENCE_MISMATCH, 1, "unchecked", "digest aa, expected bb" },
        { TCB("{\"model\": \"N\", \"fwids\": [\"bb\"]}"), EVIDENCE_MISMATCH, 1, "unchecked", "no digests" },
        { TCB("{\"vendor\": \"V\", \"flags-clear\": [\"recovery\"]}"), EVIDENCE_OK, 1, "unchecked", NULL },
        { TCB("{\"vendor\": \"V\", \"flags-clear\": [\"recovery\", \"debug\"]}"), EVIDENCE_MISMATCH, 1, "unchecked", "flag debug" },
        { TCB("{\"type\": \"2A\"}"), EVIDENCE_OK, 1, "unchecked", NULL },
        { TCB("{\"type\": \"2b\"}"), EVIDENCE_MISSING, 1, "unchecked", NULL },
        /* Of certificates that nobody verified, or of which nobody says so. */
        { TCB("{\"model\": \"O\"}"), EVIDENCE_MISSING, 1, "unchecked", "no verified certificate" },
        { TCB("{\"model\": \"P\"}"), EVIDENCE_MISSING, 1, "unchecked", "no verified certificate" },
};

static const char dice_text[] = "[{\"verified\": true, \"vendor\": \"V\", \"model\": \"M\", \"layer\": 1, \"svn\": 7, \"fwids\": [{\"hash\": \"sha256\", \"digest\": \"aa\"}], "
                                "\"flags\": [\"debug\"], \"type\": \"2a\"}, {\"verified\": true, \"model\": \"N\"}, "
                                "{\"verified\": true, \"model\": \"M\", \"svn\": \"0xffffffffffffffff\"}, "
                                "{\"verified\": false, \"model\": \"O\", \"svn\": 9}, {\"model\": \"P\", \"svn\": 9}, {\"verified\": false, \"vendor\": \"V\", \"layer\": 1}]";

static void test_compare(void) {
        _cleanup_json_ struct json_object *dice = NULL;
        struct spdm_negotiated n = { .version = SPDM_1_2 };
        struct spdm_measurements m = measured();

        for (size_t i = 0; i < spdm_n_hashes; i++)
                if (streq(spdm_hashes[i].name, "sha256"))
                        n.hash = n.measurement_hash = &spdm_hashes[i];
        require(json_parse_strict(dice_text, strlen(dice_text), &dice, NULL, NULL) == 0);
        for (size_t i = 0; i < ARRAY_SIZE(comparisons); i++) {
                _cleanup_evidence_references_ struct evidence_references *r = NULL;
                _cleanup_json_ struct json_object *blocks = json_new_array(), *tcb = json_new_array();
                struct evidence_why why = {};
                const char *result = NULL;

                test_about("%.160s", comparisons[i].file);
                require(evidence_references_parse(comparisons[i].file, strlen(comparisons[i].file), &r, NULL) == 0);
                check_int(evidence_references_compare(r, &n, &m, dice, blocks, tcb, &why), comparisons[i].reason == EVIDENCE_OK ? 0 : -EBADMSG);
                check_str(evidence_reason_to_string(why.reason), evidence_reason_to_string(comparisons[i].reason));
                if (comparisons[i].text && !strstr(why.text, comparisons[i].text))
                        test_fail(__FILE__, __LINE__, "the sentence is \"%s\"", why.text);
                for (size_t k = 0; k < json_object_array_length(blocks); k++) {
                        struct json_object *block = json_object_array_get_idx(blocks, k);

                        if (json_u64_or(block, "index", 0) == comparisons[i].index)
                                result = json_str_or(block, "result", NULL);
                        check(k == 0 || json_u64_or(block, "index", 0) > json_u64_or(json_object_array_get_idx(blocks, k - 1), "index", 0));
                }
                check_str(result, comparisons[i].result);
                if (strstr(comparisons[i].file, "\"tcb\"")) {
                        require(json_object_array_length(tcb) == 1);
                        check_str(json_str_or(json_object_array_get_idx(tcb, 0), "result", NULL), why.reason == EVIDENCE_OK         ? "matched"
                                                                                                  : why.reason == EVIDENCE_MISSING ? "missing"
                                                                                                                                   : "mismatched");
                }
        }
}

/* Without references, without measurements; and long values stand with their beginning. */
static void test_without(void) {
        static const char file[] = LIST("{\"index\": 1, \"any\": true}");
        _cleanup_evidence_references_ struct evidence_references *r = NULL;
        _cleanup_json_ struct json_object *blocks = json_new_array(), *tcb = json_new_array(), *dice = json_new_array();
        struct spdm_negotiated n = { .version = SPDM_1_2 };
        struct spdm_measurements m = measured();
        struct evidence_why why = {};
        struct json_object *block;

        test_about("%s", "without");
        check_int(evidence_references_compare(NULL, &n, &m, dice, blocks, tcb, &why), 0);
        check_int(json_object_array_length(blocks), 6);
        block = json_object_array_get_idx(blocks, 4);
        check_int(json_u64_or(block, "size", 0), 3000);
        check_int(strlen(json_str_or(block, "value", "")), 2 * EVIDENCE_VALUE_SHOWN);
        check(json_bool_or(block, "value_cut", false));
        check_int(strlen(json_str_or(block, "value_sha256", "")), 64);
        check_str(json_str_or(json_object_array_get_idx(blocks, 5), "type", NULL), "type-12");
        check_int(evidence_references_compare(NULL, &n, NULL, dice, blocks, tcb, &why), 0);
        check_int(json_object_array_length(blocks), 6);
        require(evidence_references_parse(file, strlen(file), &r, NULL) == 0);
        check_int(evidence_references_compare(r, &n, NULL, dice, blocks, tcb, &why), -EBADMSG);
        check_str(evidence_reason_to_string(why.reason), "no-measurements");
        check_int(json_object_array_length(blocks), 7);
}

/* The document's example is one. */
static void test_document(const char *path) {
        _cleanup_free_ char *text = calloc(1, 1 << 18);
        FILE *f = fopen(path, "re");
        char *start, *end, *error = NULL;
        unsigned found = 0;

        test_about("%s", path);
        require(f && text && fread(text, 1, (1 << 18) - 1, f) > 0);
        fclose(f);
        for (start = text; (start = strstr(start, "```json\n")); start = end) {
                struct evidence_references *r = NULL;

                start += strlen("```json\n");
                end = strstr(start, "```");
                require(end);
                if (!memmem(start, (size_t) (end - start), "tdid-references/1", strlen("tdid-references/1")))
                        continue;
                found++;
                if (!check_int(evidence_references_parse(start, (size_t) (end - start), &r, &error), 0))
                        fprintf(stderr, "%s\n", error);
                evidence_references_free(r);
                free(error);
        }
        check_int(found, 1);
        /* All reasons and types are in it. */
        for (int i = EVIDENCE_OK + 1; i < _EVIDENCE_REASON_MAX; i++) {
                char name[64];

                snprintf(name, sizeof(name), "`%s`", evidence_reason_to_string((enum evidence_reason) i));
                if (!strstr(text, name))
                        test_fail(__FILE__, __LINE__, "%s is not in the document", name);
        }
        for (uint8_t i = 0; evidence_measurement_type_to_string(i); i++) {
                char name[64];

                snprintf(name, sizeof(name), "`%s`", evidence_measurement_type_to_string(i));
                if (!strstr(text, name))
                        test_fail(__FILE__, __LINE__, "%s is not in the document", name);
        }
}

int main(int argc, char **argv) {
        require(argc == 2);
        test_files();
        test_load();
        test_compare();
        test_without();
        test_document(argv[1]);
        return test_end();
}
