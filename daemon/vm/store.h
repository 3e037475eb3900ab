/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a holder holds: descriptors by key, and the VM's record. Nothing here looks into any of them. */
#ifndef TDID_VM_STORE_H
#define TDID_VM_STORE_H

#include "ipc.h"

#define STORE_KEYS_MAX 1024
#define STORE_STATE_MAX (88UL * 1024)
#define STORE_KEY_LENGTH_MAX 64

struct store {
        struct entry {
                char *key;
                int fd; /* its own */
        } * entries;
        size_t n;
        struct json_object *state;
};

/* Takes the descriptor; replaces an entry of the same key. -ENOSPC, -EINVAL. */
int store_put(struct store *s, const char *key, int fd);
/* Closes the entry: never the last copy of a device, tdid has handed one to a worker before. -ENOENT. */
int store_drop(struct store *s, const char *key);
/* The descriptor, still the store's; -ENOENT. */
int store_get(const struct store *s, const char *key);
void store_set_state(struct store *s, struct json_object *state);
void store_clear(struct store *s);

#endif
