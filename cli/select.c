/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See select.h. */
#include "select.h"

#include <stdio.h>

#include "model.h"

#define MANY 4 /* that a refusal names */

const char *usage_token(const struct verb *v, size_t n, size_t *ret_length) {
        const char *token = v->usage;

        for (;;) {
                size_t length;
                bool more;

                token += strspn(token, " [");
                length = strcspn(token, " ]");
                if (length == 0)
                        return NULL;
                more = length > strlen("…") && strncmp(token + length - strlen("…"), "…", strlen("…")) == 0;
                if (n == 0 || more) {
                        *ret_length = length - (more ? strlen("…") : 0);
                        return token;
                }
                token += length + strspn(token + length, "]");
                n--;
        }
}

static bool is_bdf_word(const struct verb *v, size_t n) {
        size_t length;
        const char *token = usage_token(v, n, &length);

        return token && length == 3 && strncmp(token, "BDF", 3) == 0;
}

static bool is_ids(const char *text) {
        return strlen(text) == 9 && text[4] == ':' && strspn(text, "0123456789abcdefABCDEF") == 4 && strspn(text + 5, "0123456789abcdefABCDEF") == 4;
}

/* "0x10de" is "10DE" of a selector. */
static bool has_id(json_object *device, const char *key, const char *digits) {
        const char *id = json_string(device, key);

        return id && startswith(id, "0x") && strncasecmp(id + 2, digits, 4) == 0 && !id[6];
}

static bool is_selected(json_object *device, const char *ids) {
        return has_id(device, "vendor", ids) && has_id(device, "device", ids + 5);
}

static json_object *devices_of(struct tdictl *t, size_t *ret_n) {
        json_object *list = json_member(t->selected, "devices");

        *ret_n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
        return list;
}

static int need_snapshot(struct tdictl *t) {
        return t->selected ? 0 : model_snapshot(t, &t->selected);
}

static int fail_none(struct tdictl *t, const char *ids) {
        return fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND),
                    "There is no PCI function with the ids %s. See 'tdictl device list'.", ids);
}

static int fail_many(struct tdictl *t, const char *ids, json_object *list, size_t n) {
        char names[MANY * (TDI_BDF_MAX + 2) + 8] = "";
        size_t found = 0, end = 0;

        for (size_t i = 0; i < n; i++) {
                json_object *d = json_object_array_get_idx(list, i);

                if (!is_selected(d, ids))
                        continue;
                if (found++ < MANY)
                        end += (size_t) snprintf(names + end, sizeof(names) - end, "%s%s", found > 1 ? ", " : "", strempty(json_string(d, "bdf")));
        }
        return fail(t, tdi_error_to_name(TDI_ERROR_INVALID_ARGUMENT), tdi_error_to_exit(TDI_ERROR_INVALID_ARGUMENT),
                    "%zu functions have the ids %s: %s%s. Name one of them by its address.", found, ids, names, found > MANY ? ", …" : "");
}

/* The one function. */
static int select_one(struct tdictl *t, const char *ids, const char **ret) {
        json_object *list;
        const char *bdf = NULL;
        size_t n;
        int r;

        r = need_snapshot(t);
        if (r < 0)
                return r;
        list = devices_of(t, &n);
        for (size_t i = 0; i < n; i++) {
                json_object *d = json_object_array_get_idx(list, i);

                if (is_selected(d, ids) && bdf)
                        return fail_many(t, ids, list, n);
                if (is_selected(d, ids))
                        bdf = json_string(d, "bdf");
        }
        if (!bdf)
                return fail_none(t, ids);
        *ret = bdf;
        return 0;
}

/* All of them, in the place of the word. */
static int select_many(struct tdictl *t, size_t at, size_t *ret_n) {
        struct arguments *a = &t->arguments;
        const char *ids = a->words[at], **words;
        size_t n, found = 0, k = at;
        json_object *list;
        int r;

        r = need_snapshot(t);
        if (r < 0)
                return r;
        list = devices_of(t, &n);
        for (size_t i = 0; i < n; i++)
                found += is_selected(json_object_array_get_idx(list, i), ids);
        if (found == 0)
                return fail_none(t, ids);
        words = calloc(a->n_words + found, sizeof(*words));
        if (!words)
                return fail_oom(t);
        memcpy(words, a->words, at * sizeof(*words));
        for (size_t i = 0; i < n; i++) {
                json_object *d = json_object_array_get_idx(list, i);

                if (is_selected(d, ids))
                        words[k++] = json_string(d, "bdf");
        }
        memcpy(words + k, a->words + at + 1, (a->n_words - at - 1) * sizeof(*words));
        free(a->words);
        a->words = words;
        a->n_words += found - 1;
        *ret_n = found;
        return 0;
}

int select_functions(struct tdictl *t) {
        struct arguments *a = &t->arguments;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < a->n_words; i++) {
                size_t n = 1;

                if (!is_bdf_word(a->verb, i) || !is_ids(a->words[i]))
                        continue;
                r = a->verb->many ? select_many(t, i, &n) : select_one(t, a->words[i], &a->words[i]);
                i += n - 1;
        }
        for (size_t i = 0; r >= 0 && i < a->n_options; i++)
                if (streq_ptr(a->options[i].spec->value, "BDF") && is_ids(a->options[i].text))
                        r = select_one(t, a->options[i].text, &a->options[i].text);
        return r;
}
