/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Single values of "match": addresses, ids, users, patterns, evidence; each with how specific its form is. */
#include "private.h"

#include <ctype.h>
#include <pwd.h>
#include <search.h>
#include <stdio.h>
#include <tdi/bdf.h>

#define VM_PATTERN_MAX 128
#define PATH_MAX_BYTES 1024
#define USER_MAX 64

/* tdid's own platforms, by their first names. */
static const char *const platforms[] = { "tdx", "sev-snp", "cca", "pkvm", "plain" };

int platform_index(const char *name) {
        for (size_t i = 0; name && i < ARRAY_SIZE(platforms); i++)
                if (streq(platforms[i], name))
                        return (int) i;
        return -EINVAL;
}

const char *platform_name(size_t i) {
        return i < ARRAY_SIZE(platforms) ? platforms[i] : NULL;
}

/* Exactly @digits hex digits at the beginning of the text. */
static bool take_hex(const char **text, unsigned digits, uint64_t *ret) {
        uint64_t v = 0;

        for (unsigned i = 0; i < digits; i++) {
                char c = (*text)[i];

                if (!isxdigit((unsigned char) c))
                        return false;
                v = v << 4 | (uint64_t) (isdigit((unsigned char) c) ? c - '0' : (c | 0x20) - 'a' + 10);
        }
        *text += digits;
        *ret = v;
        return true;
}

static const char *without_0x(const char *text) {
        return startswith(text, "0x") ? text + 2 : text;
}

/* "8086:1572", "8086:*" */
static bool parse_ids(const char *text, bool may_be_vendor, struct value *ret) {
        uint64_t vendor, device;

        if (!take_hex(&text, 4, &vendor) || *text++ != ':')
                return false;
        if (may_be_vendor && streq(text, "*")) {
                *ret = (struct value){ .number = vendor << 16, .mask = 0xffff0000 };
                return true;
        }
        if (!take_hex(&text, 4, &device) || *text)
                return false;
        *ret = (struct value){ .number = vendor << 16 | device, .mask = 0xffffffff };
        return true;
}

/* "02", "0200", "020000" */
static bool parse_class(const char *text, struct value *ret, uint32_t *ret_rank) {
        unsigned n;
        uint64_t v;

        text = without_0x(text);
        n = (unsigned) strlen(text);
        if ((n != 2 && n != 4 && n != 6) || !take_hex(&text, n, &v))
                return false;
        *ret = (struct value){ .number = v << (24 - n * 4), .mask = (0xffffffu << (24 - n * 4)) & 0xffffffu };
        *ret_rank = 1u << (n == 2 ? RANK_CLASS_2 : n == 4 ? RANK_CLASS_4 : RANK_CLASS_6);
        return true;
}

/* As lspci writes it, "00-1b-21-ff-ff-c0-ff-ee", or 16 digits. */
static bool parse_serial(const char *text, struct value *ret) {
        uint64_t v = 0, byte;

        if (strchr(text, '-')) {
                for (unsigned i = 0; i < 8; i++) {
                        if ((i > 0 && *text++ != '-') || !take_hex(&text, 2, &byte))
                                return false;
                        v = v << 8 | byte;
                }
        } else {
                text = without_0x(text);
                if (!take_hex(&text, 16, &v))
                        return false;
        }
        if (*text)
                return false;
        *ret = (struct value){ .number = v, .mask = UINT64_MAX };
        return true;
}

/* The names that tdid takes for VMs, and the two signs. */
static bool is_pattern(const char *text) {
        size_t n = strlen(text);

        if (n == 0 || n > VM_PATTERN_MAX)
                return false;
        for (; *text; text++)
                if (!isalnum((unsigned char) *text) && !strchr("._-+:@*?", *text))
                        return false;
        return true;
}

/* A user's name, and what the user database says of it. */
struct owner {
        char name[USER_MAX + 1];
        bool found;
        int error;
        uid_t uid;
};

static int compare_owners(const void *a, const void *b) {
        return strcmp(((const struct owner *) a)->name, ((const struct owner *) b)->name);
}

void reader_done(struct reader *r) {
        tdestroy(r->owners, free);
        r->owners = NULL;
}

/* Each name once: there may be a million of them in rules, and a server far away behind the database. -ENOMEM */
static int find_owner(struct reader *r, const char *name, const struct owner **ret) {
        struct passwd pw, *found = NULL;
        struct owner *o = calloc(1, sizeof(*o));
        struct owner *const *node;
        char buf[8192];

        if (!o)
                return -ENOMEM;
        snprintf(o->name, sizeof(o->name), "%s", name);
        node = tsearch(o, &r->owners, compare_owners);
        if (!node || *node != o)
                free(o);
        if (!node)
                return -ENOMEM;
        if (*node == o) {
                o->error = getpwnam_r(name, &pw, buf, sizeof(buf), &found);
                o->found = found != NULL;
                o->uid = found ? pw.pw_uid : 0;
        }
        *ret = *node;
        return 0;
}

static int parse_owner(struct reader *r, struct json_object *o, struct value *ret) {
        const struct owner *found;
        const char *name;
        int e;

        if (json_object_is_type(o, json_type_int)) {
                int64_t uid = json_object_get_int64(o);

                if (uid < 0 || uid >= UINT32_MAX)
                        return reader_complain(r, false, "a uid is 0 to %u", UINT32_MAX - 1);
                *ret = (struct value){ .number = (uint64_t) uid, .mask = UINT64_MAX };
                return 0;
        }
        if (!json_object_is_type(o, json_type_string))
                return reader_complain(r, false, "an owner is a uid or a user's name");
        name = json_object_get_string(o);
        if (isempty(name) || strlen(name) > USER_MAX)
                return reader_complain(r, false, "\"%.64s\" is not a user's name", name);
        e = find_owner(r, name, &found);
        if (e < 0)
                return e;
        if (!found->found)
                return reader_complain(r, false, "there is no user \"%s\"%s%s", name, found->error ? ": " : "", found->error ? strerror(found->error) : "");
        *ret = (struct value){ .number = found->uid, .mask = UINT64_MAX };
        return 0;
}

/* A path, or the name of one that the file's own table has. */
static int find_path(struct reader *r, struct json_object *o, const char *key, struct json_object *table, const char **ret) {
        const char *text, *path, *names = streq(key, "anchor") ? "anchors" : "references";

        reader_enter(r, key, 0);
        if (json_get_str(o, key, &text) < 0)
                return reader_complain(r, false, "\"%s\" has to be a string: the path of a file, or a name from \"%s\"", key, names);
        path = *text == '/' ? text : table ? json_str_or(table, text, NULL) : NULL;
        if (!path)
                return reader_complain(r, false, "\"%.64s\" is neither a path that begins with a slash nor a name from \"%s\"", text, names);
        if (strlen(path) > PATH_MAX_BYTES)
                return reader_complain(r, false, "a path has at most %d bytes", PATH_MAX_BYTES);
        reader_leave(r);
        *ret = path;
        return 0;
}

int pair_parse(struct reader *r, struct json_object *o, unsigned *ret) {
        const char *anchor = "", *references = NULL;
        struct policy *p = r->policy;
        struct pair *pair;
        int e;

        if (!json_object_object_get_ex(o, "anchor", NULL))
                return reader_complain(r, false, "evidence needs an \"anchor\"");
        e = find_path(r, o, "anchor", r->anchors, &anchor);
        if (e >= 0 && json_object_object_get_ex(o, "references", NULL))
                e = find_path(r, o, "references", r->references, &references);
        if (e < 0)
                return e;
        for (size_t i = 0; i < p->n_pairs; i++)
                if (streq(p->pairs[i].anchor, anchor) && streq_ptr(p->pairs[i].references, references)) {
                        *ret = (unsigned) i;
                        return 0;
                }
        if (p->n_pairs == POLICY_PAIRS_MAX)
                return reader_complain(r, false, "more than %u different pairs of anchor and references in all rules", POLICY_PAIRS_MAX);
        pair = &p->pairs[p->n_pairs];
        *pair = (struct pair){
                .anchor = policy_strdup(p, anchor),
                .references = references ? policy_strdup(p, references) : NULL,
                .file = policy_strdup(p, r->path),
        };
        if (!pair->anchor || (references && !pair->references) || !pair->file)
                return -ENOMEM;
        if (r->more) {
                reader_enter(r, "anchor", 0);
                e = reader_place(r, false, &pair->anchor_place);
                reader_leave(r);
                reader_enter(r, "references", 0);
                if (e >= 0 && references)
                        e = reader_place(r, false, &pair->references_place);
                reader_leave(r);
                if (e < 0)
                        return e;
        }
        *ret = (unsigned) p->n_pairs++;
        return 0;
}

static int parse_proof(struct reader *r, struct json_object *o, struct value *ret) {
        static const char *const keys[] = { "anchor", "references", "signed" };
        int e;

        *ret = (struct value){};
        e = reader_check_keys(r, o, keys, ARRAY_SIZE(keys));
        if (e >= 0)
                e = pair_parse(r, o, &ret->pair);
        if (e < 0)
                return e;
        e = json_get_bool(o, "signed", &ret->is_signed);
        reader_enter(r, "signed", 0);
        if (e == -EBADMSG)
                return reader_complain(r, false, "\"signed\" is true or false");
        reader_leave(r);
        return 0;
}

static int parse_text(struct reader *r, enum policy_key key, const char *text, struct value *ret, uint32_t *ret_rank) {
        struct tdi_bdf bdf;

        switch (key) {
        case POLICY_KEY_BDF:
        case POLICY_KEY_PATH:
                if (tdi_bdf_parse(text, &bdf) < 0)
                        return reader_complain(r, false, "\"%.64s\" is no address of a PCI function: write 0000:01:00.0", text);
                *ret = (struct value){ .number = tdi_bdf_number(bdf), .mask = UINT64_MAX };
                *ret_rank = 1u << (key == POLICY_KEY_BDF ? RANK_BDF : RANK_PATH);
                return 0;
        case POLICY_KEY_SERIAL:
                if (!parse_serial(text, ret))
                        return reader_complain(r, false, "\"%.64s\" is no serial number: write eight bytes as lspci does, 00-1b-21-ff-ff-c0-ff-ee", text);
                *ret_rank = 1u << RANK_SERIAL;
                return 0;
        case POLICY_KEY_SUBSYSTEM:
        case POLICY_KEY_ID:
                if (!parse_ids(text, key == POLICY_KEY_ID, ret))
                        return reader_complain(r, false, "\"%.64s\" is no id%s: write VENDOR:DEVICE, four hex digits each%s", text,
                                               key == POLICY_KEY_ID ? "" : " of a subsystem", key == POLICY_KEY_ID ? ", or VENDOR:*" : "");
                *ret_rank = 1u << (key == POLICY_KEY_SUBSYSTEM ? RANK_SUBSYSTEM : ret->mask == 0xffffffff ? RANK_ID : RANK_VENDOR);
                return 0;
        case POLICY_KEY_CLASS:
                if (!parse_class(text, ret, ret_rank))
                        return reader_complain(r, false, "\"%.64s\" is no class: write two, four or six hex digits", text);
                return 0;
        case POLICY_KEY_VM:
                if (!is_pattern(text))
                        return reader_complain(r, false, "\"%.64s\" is no name of a VM and no pattern of names: letters, digits, ._-+:@, and * and ?", text);
                *ret = (struct value){ .glob = policy_strdup(r->policy, text) };
                *ret_rank = 1u << (strpbrk(text, "*?") ? RANK_VM_PATTERN : RANK_VM_NAME);
                return ret->glob ? 0 : -ENOMEM;
        default:
                return -EINVAL;
        }
}

int value_parse(struct reader *r, enum policy_key key, struct json_object *o, struct value *ret, uint32_t *ret_rank) {
        if (key == POLICY_KEY_OWNER) {
                *ret_rank = 1u << RANK_OWNER;
                return parse_owner(r, o, ret);
        }
        if (key == POLICY_KEY_EVIDENCE) {
                *ret_rank = 1u << RANK_EVIDENCE;
                return parse_proof(r, o, ret);
        }
        if (!json_object_is_type(o, json_type_string))
                return reader_complain(r, false, "\"%s\" takes a string or a list of strings", policy_key_to_string(key));
        return parse_text(r, key, json_object_get_string(o), ret, ret_rank);
}
