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

/** struct json_place - where something stands in a text */
struct json_place {
        unsigned line;   /* from 1 */
        unsigned column; /* from 1, in bytes */
};

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

/* The same with the column: @ret_place is where the text ceases to be what is accepted; a duplicate key is pointed at itself. May be NULL. */
int json_parse_strict_at(const char *text, size_t len, struct json_object **ret, struct json_place *ret_place, const char **ret_why);

/** struct json_step - one step down into a value: to a member, or with no key to an element */
struct json_step {
        const char *key;
        size_t index;
};

/**
 * json_locate() - where a value stands in a text that json_parse_strict() takes
 * @steps:      the way to it from the whole; 0 steps are the whole
 * @at_key:     of a member: where its key stands, not its value
 * @ret:        the first byte of it
 *
 * One pass over the text: for messages, not for loops.
 *
 * Return: 0; -ENOENT when there is no such value; -EBADMSG, -ENOMEM.
 */
int json_locate(const char *text, size_t len, const struct json_step *steps, size_t n_steps, bool at_key, struct json_place *ret);
/* Where each element of the array stands to which the steps lead, of the first @n; one pass for all. Return: how many there are of them, or as above. */
int json_locate_elements(const char *text, size_t len, const struct json_step *steps, size_t n_steps, struct json_place *ret, size_t n);

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
