/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * JSON as text, written from left to right: what a host with thousands of functions takes is mostly the making and freeing of objects for their
 * properties, which nobody looks at in between. Who wants objects parses the text.
 */
#ifndef TDI_CLIENT_JSON_TEXT_H
#define TDI_CLIENT_JSON_TEXT_H

#include <json-c/json.h>

#include "util/util.h"

/* All zeroes is an empty one. Once memory has been short it takes no more, and finish() tells. */
struct json_text {
        char *p;
        size_t n, room;
        bool failed;
};

void json_text_done(struct json_text *t);

/* As they stand. */
void json_text_put(struct json_text *t, const char *bytes, size_t n);
void json_text_puts(struct json_text *t, const char *s);
/* A string with its quotes; escaped as json-c does it, slashes as they are. NULL: null. */
void json_text_string(struct json_text *t, const char *s);
/* "key": */
void json_text_key(struct json_text *t, const char *key);
void json_text_object(struct json_text *t, json_object *o);

/* What has been written since @at as an object. NULL when that is no JSON, or without memory. */
json_object *json_text_parse(const struct json_text *t, size_t at);

/* The text, which the caller frees then; t is empty again. Return: 0 or -ENOMEM. */
int json_text_finish(struct json_text *t, char **ret);

#endif
