/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads reference values. What is read is kept as JSON, whose form is known from then on; references-compare.c holds measurements against it. */
#include "evidence/references-internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "evidence/dice.h"
#include "util/file.h"
#include "util/words.h"

static const char *const types[] = {
        "immutable-rom", "mutable-firmware", "hardware-configuration", "firmware-configuration", "measurement-manifest", "device-mode",
        "firmware-version", "firmware-svn", "hash-extended", "informational", "structured-manifest",
};

const char *evidence_measurement_type_to_string(uint8_t value_type) {
        value_type &= 0x7f;
        return value_type < ARRAY_SIZE(types) ? types[value_type] : NULL;
}

/* ---- what is wrong with a file ---- */

struct reader {
        char where[64]; /* "measurements[3]" */
        char *error;
};

_printf_(2, 3) static int refuse(struct reader *r, const char *format, ...) {
        va_list ap;
        char text[512];

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        json_clean_text(text);
        if (asprintf(&r->error, "%s%s%s", r->where, *r->where ? ": " : "", text) < 0) {
                r->error = NULL;
                return -ENOMEM;
        }
        return -EBADMSG;
}

/* @keys: ends with NULL */
static int check_keys(struct reader *r, struct json_object *o, const char *const *keys) {
        if (!json_object_is_type(o, json_type_object))
                return refuse(r, "expected an object");
        json_object_object_foreach(o, key, value) {
                const char *nearest;
                size_t n = 0;

                (void) value;
                while (keys[n])
                        n++;
                nearest = words_nearest(key, keys, n);
                if (nearest && streq(nearest, key))
                        continue;
                if (nearest)
                        return refuse(r, "unknown key \"%.64s\", did you mean \"%s\"?", key, nearest);
                return refuse(r, "unknown key \"%.64s\"", key);
        }
        return 0;
}

static bool has(struct json_object *o, const char *key) {
        return json_object_object_get_ex(o, key, NULL);
}

/* @size: bytes that it must have; 0: any number from 1 on */
static int check_hex(struct reader *r, struct json_object *value, const char *what, size_t size) {
        const char *text;
        size_t n;

        if (!json_object_is_type(value, json_type_string))
                return refuse(r, "%s must be text of hexadecimal digits", what);
        text = json_object_get_string(value);
        n = strlen(text);
        if (n == 0 || n % 2 != 0 || strspn(text, "0123456789abcdefABCDEF") != n)
                return refuse(r, "%s must be an even number of hexadecimal digits, found \"%.40s\"", what, text);
        if (size > 0 && n != 2 * size)
                return refuse(r, "%s must have %zu hexadecimal digits, found %zu", what, 2 * size, n);
        return 0;
}

/* @size as above */
static int check_hex_list(struct reader *r, struct json_object *o, const char *key, size_t size) {
        struct json_object *array;
        size_t n;
        int e;

        e = json_get_array(o, key, &array);
        n = e == 0 ? json_object_array_length(array) : 0;
        if (n == 0 || n > EVIDENCE_REFERENCE_VALUES_MAX)
                return refuse(r, "\"%s\" must be a list of 1 to %u values", key, EVIDENCE_REFERENCE_VALUES_MAX);
        for (size_t i = 0; i < n; i++) {
                char what[96];

                snprintf(what, sizeof(what), "\"%s\"[%zu]", key, i);
                e = check_hex(r, json_object_array_get_idx(array, i), what, size);
                if (e < 0)
                        return e;
        }
        return 0;
}

static int check_number(struct reader *r, struct json_object *o, const char *key) {
        uint64_t v;

        if (has(o, key) && json_get_u64(o, key, &v) < 0)
                return refuse(r, "\"%s\" must be a number from 0 on", key);
        return 0;
}

static int check_text(struct reader *r, struct json_object *o, const char *key) {
        const char *v;

        if (has(o, key) && (json_get_str(o, key, &v) < 0 || !*v))
                return refuse(r, "\"%s\" must be text", key);
        return 0;
}

/* ---- the parts of a file ---- */

static const char *const measurement_keys[] = { "index", "type", "hash", "values", "raw", "svn-at-least", "any", NULL };

const struct spdm_hash *evidence_reference_hash(struct json_object *o) {
        const char *name = json_str_or(o, "hash", "");

        for (size_t i = 0; i < spdm_n_hashes; i++)
                if (streq(spdm_hashes[i].name, name))
                        return &spdm_hashes[i];
        return NULL;
}

static int check_type(struct reader *r, struct json_object *o) {
        const char *type;
        int e;

        e = check_text(r, o, "type");
        if (e < 0 || !has(o, "type"))
                return e;
        type = json_str_or(o, "type", "");
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (streq(types[i], type))
                        return 0;
        return refuse(r, "unknown type \"%.64s\"", type);
}

static int check_measurement(struct reader *r, struct json_object *o, bool seen[static 256]) {
        const struct spdm_hash *hash;
        struct json_object *raw;
        uint64_t index;
        bool any;
        int e;

        e = check_keys(r, o, measurement_keys);
        if (e < 0)
                return e;
        if (json_get_u64(o, "index", &index) < 0 || index < 1 || index > SPDM_BLOCKS_MAX)
                return refuse(r, "\"index\" must be a number from 1 to %u", SPDM_BLOCKS_MAX);
        if (seen[index])
                return refuse(r, "index %u is there twice", (unsigned) index);
        seen[index] = true;
        e = check_type(r, o);
        if (e < 0)
                return e;
        if (has(o, "hash") + has(o, "raw") + has(o, "svn-at-least") + has(o, "any") != 1 || has(o, "hash") != has(o, "values"))
                return refuse(r, "one of \"hash\" with \"values\", \"raw\", \"svn-at-least\" or \"any\" must be there");
        if (has(o, "hash")) {
                hash = evidence_reference_hash(o);
                if (!hash)
                        return refuse(r, "\"hash\" must be \"sha256\", \"sha384\" or \"sha512\"");
                return check_hex_list(r, o, "values", hash->size);
        }
        if (json_object_object_get_ex(o, "raw", &raw))
                return check_hex(r, raw, "\"raw\"", 0);
        if (has(o, "any") && (json_get_bool(o, "any", &any) < 0 || !any))
                return refuse(r, "\"any\" can be true only");
        return check_number(r, o, "svn-at-least");
}

static const char *const tcb_keys[] = { "vendor", "model", "layer", "index", "type", "svn-at-least", "fwids", "flags-clear", NULL };

static int check_flags(struct reader *r, struct json_object *o) {
        struct json_object *array;
        int e;

        e = json_get_array(o, "flags-clear", &array);
        if (e == -ENOENT)
                return 0;
        if (e < 0 || json_object_array_length(array) == 0)
                return refuse(r, "\"flags-clear\" must be a list of flags");
        for (size_t i = 0; i < json_object_array_length(array); i++) {
                struct json_object *flag = json_object_array_get_idx(array, i);
                bool known = false;

                for (unsigned bit = 0; dice_flag_to_string(bit) && json_object_is_type(flag, json_type_string); bit++)
                        known |= streq(dice_flag_to_string(bit), json_object_get_string(flag));
                if (!known)
                        return refuse(r, "\"flags-clear\"[%zu] must be \"not-configured\", \"not-secure\", \"recovery\" or \"debug\"", i);
        }
        return 0;
}

static int check_tcb(struct reader *r, struct json_object *o) {
        static const char *const numbers[] = { "layer", "index", "svn-at-least" };
        struct json_object *type;
        int e;

        e = check_keys(r, o, tcb_keys);
        if (e == 0)
                e = check_text(r, o, "vendor");
        if (e == 0)
                e = check_text(r, o, "model");
        for (size_t i = 0; e == 0 && i < ARRAY_SIZE(numbers); i++)
                e = check_number(r, o, numbers[i]);
        if (e == 0 && json_object_object_get_ex(o, "type", &type))
                e = check_hex(r, type, "\"type\"", 0);
        if (e == 0 && has(o, "fwids"))
                e = check_hex_list(r, o, "fwids", 0);
        if (e == 0)
                e = check_flags(r, o);
        if (e == 0 && !has(o, "vendor") && !has(o, "model") && !has(o, "layer") && !has(o, "index") && !has(o, "type"))
                e = refuse(r, "nothing says which DiceTcbInfo is meant: \"vendor\", \"model\", \"layer\", \"index\" or \"type\"");
        return e;
}

static int check_lists(struct reader *r, struct evidence_references *refs) {
        bool seen[256] = {};
        int e = 0;

        for (size_t i = 0; refs->measurements && e == 0 && i < json_object_array_length(refs->measurements); i++) {
                snprintf(r->where, sizeof(r->where), "measurements[%zu]", i);
                e = check_measurement(r, json_object_array_get_idx(refs->measurements, i), seen);
        }
        for (size_t i = 0; refs->tcb && e == 0 && i < json_object_array_length(refs->tcb); i++) {
                snprintf(r->where, sizeof(r->where), "tcb[%zu]", i);
                e = i < EVIDENCE_REFERENCE_TCBS_MAX ? check_tcb(r, json_object_array_get_idx(refs->tcb, i))
                                                    : refuse(r, "more than %u", EVIDENCE_REFERENCE_TCBS_MAX);
        }
        return e;
}

static int check_file(struct reader *r, struct evidence_references *refs) {
        static const char *const keys[] = { "schema", "name", "complete", "measurements", "tcb", NULL };
        const char *schema;
        int e;

        e = check_keys(r, refs->file, keys);
        if (e < 0)
                return e;
        if (json_get_str(refs->file, "schema", &schema) < 0)
                return refuse(r, "\"schema\" is missing, expected \"%s\"", EVIDENCE_REFERENCES_SCHEMA);
        if (!streq(schema, EVIDENCE_REFERENCES_SCHEMA))
                return refuse(r, "\"schema\" is \"%.64s\", expected \"%s\"", schema, EVIDENCE_REFERENCES_SCHEMA);
        if (json_get_str(refs->file, "name", &refs->name) < 0 || !*refs->name || strlen(refs->name) > 128)
                return refuse(r, "\"name\" must be text of 1 to 128 bytes");
        if (has(refs->file, "complete") && json_get_bool(refs->file, "complete", &refs->complete) < 0)
                return refuse(r, "\"complete\" must be true or false");
        if (json_get_array(refs->file, "measurements", &refs->measurements) == -EBADMSG)
                return refuse(r, "\"measurements\" must be a list");
        if (json_get_array(refs->file, "tcb", &refs->tcb) == -EBADMSG)
                return refuse(r, "\"tcb\" must be a list");
        if ((refs->measurements ? json_object_array_length(refs->measurements) : 0) + (refs->tcb ? json_object_array_length(refs->tcb) : 0) == 0)
                return refuse(r, "there is no value: \"measurements\" and \"tcb\" are missing or empty");
        return check_lists(r, refs);
}

struct evidence_references *evidence_references_free(struct evidence_references *r) {
        if (!r)
                return NULL;
        json_object_put(r->file);
        free(r);
        return NULL;
}

int evidence_references_parse(const char *text, size_t size, struct evidence_references **ret, char **ret_error) {
        _cleanup_evidence_references_ struct evidence_references *refs = calloc(1, sizeof(*refs));
        struct reader r = {};
        const char *why;
        unsigned line;
        int e;

        if (!refs)
                return -ENOMEM;
        if (size > EVIDENCE_REFERENCES_FILE_MAX)
                e = refuse(&r, "%zu bytes, at most %u are taken", size, EVIDENCE_REFERENCES_FILE_MAX);
        else {
                e = json_parse_strict(text, size, &refs->file, &line, &why);
                e = e == -EBADMSG ? refuse(&r, "line %u: %s", line, why) : e < 0 ? e : check_file(&r, refs);
        }
        if (e == 0)
                *ret = TAKE_PTR(refs);
        if (e == -EBADMSG && ret_error)
                *ret_error = TAKE_PTR(r.error);
        free(r.error);
        return e;
}

int evidence_references_load(const char *path, struct evidence_references **ret, char **ret_error) {
        _cleanup_free_ char *text = NULL;
        struct reader r = {};
        size_t size;
        int e;

        e = file_read_trusted(path, EVIDENCE_REFERENCES_FILE_MAX, &text, &size, NULL);
        if (e == 0)
                return evidence_references_parse(text, size, ret, ret_error);
        if (e == -EINVAL)
                e = refuse(&r, "it is not a file");
        else if (e == -EBADMSG)
                e = refuse(&r, "everybody may write to it: whose reference values would they be?");
        else if (e == -EFBIG)
                e = refuse(&r, "more than %u bytes", EVIDENCE_REFERENCES_FILE_MAX);
        if (e == -EBADMSG && ret_error)
                *ret_error = TAKE_PTR(r.error);
        free(r.error);
        return e;
}

const char *evidence_references_name(const struct evidence_references *r) {
        return r->name;
}

bool evidence_references_complete(const struct evidence_references *r) {
        return r->complete;
}
