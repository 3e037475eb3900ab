/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The strict JSON reader that journal, state, configuration and policy share. json-c alone accepts duplicate keys,
 * single quotes, NaN, control characters and clamps large integers, so the text is scanned first and refused unless it is
 * RFC 8259 without the parts that no file of ours needs: fractions, exponents, escapes in keys, \u0000, depth over 32.
 * Not exported from libtdi.so.
 */
#ifndef TDI_MODEL_JSON_H
#define TDI_MODEL_JSON_H

#include <stddef.h>
#include <json-c/json.h>

#include "util/util.h"

#define JSON_DEPTH_MAX 32
#define JSON_KEYS_MAX 4096

typedef struct json_object json_object_t;

static inline void json_putp(struct json_object **o) {
        if (*o)
                json_object_put(*o);
}
#define _cleanup_json_ _cleanup_(json_putp)

/**
 * json_parse_strict() - parse one JSON value that fills the text
 * @text:       the text, need not be terminated
 * @len:        its length in bytes
 * @ret:        the value, owned by the caller
 * @ret_line:   the line of the first error, from 1; may be NULL
 * @ret_why:    what is wrong there, a constant string; may be NULL
 *
 * Return: 0; -EBADMSG with @ret_line and @ret_why; -ENOMEM. Thread-safe.
 */
int json_parse_strict(const char *text, size_t len, struct json_object **ret, unsigned *ret_line, const char **ret_why);

/* Typed access to a member: 0 with the value, -ENOENT when absent, -EBADMSG when of another type or out of range.
 * Strings and containers stay owned by the object. */
int json_get_str(struct json_object *o, const char *key, const char **ret);
int json_get_u64(struct json_object *o, const char *key, uint64_t *ret);
int json_get_i64(struct json_object *o, const char *key, int64_t *ret);
int json_get_bool(struct json_object *o, const char *key, bool *ret);
int json_get_array(struct json_object *o, const char *key, struct json_object **ret);
int json_get_object(struct json_object *o, const char *key, struct json_object **ret);

/* The same with a default for an absent or ill-typed member. */
const char *json_str_or(struct json_object *o, const char *key, const char *fallback);
uint64_t json_u64_or(struct json_object *o, const char *key, uint64_t fallback);
int64_t json_i64_or(struct json_object *o, const char *key, int64_t fallback);
bool json_bool_or(struct json_object *o, const char *key, bool fallback);

/* Replaces every byte that is not part of well-formed UTF-8 by a question mark. */
void json_clean_text(char *text);

/* Adds or replaces a member; text is cleaned as above; out of memory ends the process, as everywhere where a half-built message would be worse. */
void json_set_str(struct json_object *o, const char *key, const char *value);
void json_set_u64(struct json_object *o, const char *key, uint64_t value);
void json_set_i64(struct json_object *o, const char *key, int64_t value);
void json_set_bool(struct json_object *o, const char *key, bool value);
void json_set_take(struct json_object *o, const char *key, struct json_object *value);
struct json_object *json_new(void);
struct json_object *json_new_array(void);
void json_push_str(struct json_object *array, const char *value);
void json_push_take(struct json_object *array, struct json_object *value);

#endif
