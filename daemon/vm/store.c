/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors by key. */
#include "vm/store.h"

static struct entry *find(const struct store *s, const char *key) {
        for (size_t i = 0; i < s->n; i++)
                if (streq(s->entries[i].key, key))
                        return s->entries + i;
        return NULL;
}

int store_put(struct store *s, const char *key, int fd) {
        struct entry *e = find(s, key), *t;
        char *copy;

        if (fd < 0 || isempty(key) || strlen(key) > STORE_KEY_LENGTH_MAX)
                return -EINVAL;
        if (e) {
                close_fd(e->fd);
                e->fd = fd;
                return 0;
        }
        if (s->n >= STORE_KEYS_MAX)
                return -ENOSPC;
        copy = strdup(key);
        if (!copy)
                return -ENOMEM;
        t = reallocarray(s->entries, s->n + 1, sizeof(*t));
        if (!t) {
                free(copy);
                return -ENOMEM;
        }
        s->entries = t;
        s->entries[s->n++] = (struct entry){ copy, fd };
        return 0;
}

int store_drop(struct store *s, const char *key) {
        struct entry *e = find(s, key);

        if (!e)
                return -ENOENT;
        close_fd(e->fd);
        free(e->key);
        *e = s->entries[--s->n];
        return 0;
}

int store_get(const struct store *s, const char *key) {
        const struct entry *e = find(s, key);

        return e ? e->fd : -ENOENT;
}

void store_set_state(struct store *s, struct json_object *state) {
        if (s->state)
                json_object_put(s->state);
        s->state = json_object_get(state);
}

void store_clear(struct store *s) {
        for (size_t i = 0; i < s->n; i++) {
                close_fd(s->entries[i].fd);
                free(s->entries[i].key);
        }
        free(s->entries);
        if (s->state)
                json_object_put(s->state);
        *s = (struct store){};
}
