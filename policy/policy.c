/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A policy as an object: memory, references, order; and the names of what is in it. */
#include "private.h"

#include <stdio.h>


#define BLOCK_SIZE 65536u

struct block {
        struct block *next;
        size_t used, size;
        max_align_t data[];
};

#define NAMES(function, type, ...)                              \
        const char *function(type value) {                      \
                static const char *const names[] = __VA_ARGS__; \
                return (size_t) value < ARRAY_SIZE(names) ? names[value] : NULL; \
        }
#define LIST(...) { __VA_ARGS__ }

NAMES(policy_key_to_string, enum policy_key,
      LIST("bdf", "serial", "evidence", "subsystem", "id", "class", "path", "tee_io", "sriov", "vm", "owner", "platform", "mode", "access"))
NAMES(policy_requirement_to_string, enum policy_requirement, LIST("ide", "early", "vpci", "guard", "evidence", "association", "handoff"))
NAMES(policy_limit_to_string, enum policy_limit, LIST("devices", "exports", "shared_bytes", "pinned_bytes", "fds", "vms"))
NAMES(policy_decides_to_string, enum policy_decides, LIST("allow", "deny", "require", NULL))
NAMES(policy_config_write_to_string, enum policy_config_write, LIST(NULL, "shadow", "refuse", "unbind"))
NAMES(policy_sriov_to_string, enum policy_sriov, LIST("none", "pf", "vf"))
NAMES(policy_mode_to_string, enum policy_mode, LIST(NULL, "early", "late"))
NAMES(policy_access_to_string, enum policy_access, LIST(NULL, "vpci", "handoff"))

void *policy_alloc(struct policy *p, size_t size) {
        size_t n = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
        struct block *b = p->blocks;
        void *at;

        if (!b || b->size - b->used < n) {
                size_t room = n > BLOCK_SIZE ? n : BLOCK_SIZE;

                b = calloc(1, sizeof(*b) + room);
                if (!b)
                        return NULL;
                b->size = room;
                b->next = p->blocks;
                p->blocks = b;
        }
        at = (char *) b->data + b->used;
        b->used += n;
        return at;
}

const char *policy_strdup(struct policy *p, const char *text) {
        size_t n = strlen(text) + 1;
        char *copy = policy_alloc(p, n);

        return copy ? memcpy(copy, text, n) : NULL;
}

struct policy *policy_new(void) {
        struct policy *p = calloc(1, sizeof(*p));

        if (p)
                p->refs = 1;
        return p;
}

struct policy *policy_ref(struct policy *p) {
        if (p)
                (void) __atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
        return p;
}

struct policy *policy_unref(struct policy *p) {
        struct block *next;

        if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) > 0)
                return NULL;
        for (struct block *b = p->blocks; b; b = next) {
                next = b->next;
                free(b);
        }
        free(p->rules);
        free(p->files);
        free(p);
        return NULL;
}

int policy_add_file(struct policy *p, const char *path, bool masked) {
        if (p->n_files == p->room_files) {
                size_t room = p->room_files ? p->room_files * 2 : 16;
                struct file *t = reallocarray(p->files, room, sizeof(*t));

                if (!t)
                        return -ENOMEM;
                p->files = t;
                p->room_files = room;
        }
        p->files[p->n_files] = (struct file){ policy_strdup(p, path), masked };
        return p->files[p->n_files].path ? (int) p->n_files++ : -ENOMEM;
}

struct order {
        uint32_t rank, index;
};

static int compare_order(const void *a, const void *b) {
        const struct order *x = a, *y = b;

        if (x->rank != y->rank)
                return x->rank > y->rank ? -1 : 1;
        return x->index < y->index ? -1 : x->index > y->index;
}

int policy_sort(struct policy *p) {
        _cleanup_free_ struct order *order = calloc(p->n_rules + 1, sizeof(*order));
        struct rule *sorted = calloc(p->n_rules + 1, sizeof(*sorted));
        size_t n = 0;

        if (!order || !sorted) {
                free(sorted);
                return -ENOMEM;
        }
        for (size_t i = 0; i < p->n_rules; i++)
                order[i] = (struct order){ p->rules[i].rank, (uint32_t) i };
        qsort(order, p->n_rules, sizeof(*order), compare_order);
        for (size_t i = 0; i < p->n_rules; i++) {
                sorted[i] = p->rules[order[i].index];
                n += sorted[i].n_conditions;
        }
        free(p->rules);
        p->rules = sorted;

        /* Side by side in the order in which they are asked: a decision walks through them all. */
        if (n > 0) {
                struct condition *c = policy_alloc(p, n * sizeof(*c));

                if (!c)
                        return -ENOMEM;
                for (size_t i = 0; i < p->n_rules; i++) {
                        struct rule *r = &p->rules[i];

                        if (r->n_conditions > 0)
                                memcpy(c, r->conditions, r->n_conditions * sizeof(*c));
                        r->conditions = c;
                        c += r->n_conditions;
                }
        }
        return 0;
}

size_t policy_n_rules(const struct policy *p) {
        return p->n_rules;
}

const struct policy_rule *policy_get_rule(const struct policy *p, size_t i) {
        return i < p->n_rules ? &p->rules[i].public : NULL;
}

size_t policy_n_files(const struct policy *p) {
        return p->n_files;
}

const char *policy_get_file(const struct policy *p, size_t i, bool *ret_masked) {
        if (i >= p->n_files)
                return NULL;
        if (ret_masked)
                *ret_masked = p->files[i].masked;
        return p->files[i].path;
}

char *policy_error_format(const struct policy_error *e, char *buf, size_t size) {
        if (!*e->file)
                snprintf(buf, size, "%s", e->text);
        else if (e->line == 0)
                snprintf(buf, size, "%s: %s", e->file, e->text);
        else
                snprintf(buf, size, "%s:%u:%u: %s", e->file, e->line, e->column, e->text);
        return buf;
}
