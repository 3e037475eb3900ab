/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looking at much of the tree in one call: what a test that compares whole functions would else ask for file by file. It is what
 * the calls of every client would say, by the same code; only no fault rule meets it, and no trace shows it.
 */
#include "sim/server.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "model/json.h"

#define FILES_MAX 4096u

mode_t node_mode(const struct sim_node *n) {
        static const mode_t types[] = { [SIM_DIR] = S_IFDIR, [SIM_FILE] = S_IFREG, [SIM_LINK] = S_IFLNK, [SIM_DEVICE_NODE] = S_IFCHR };

        return types[n->type] | (n->mode & 07777);
}

/* Everything below a folder as ["NAME", mode, "TARGET" | [ENTRY, …] | null]. */
static struct json_object *entries(const struct sim_node *dir) {
        struct json_object *all = json_new_array();

        for (size_t i = 0; i < dir->n_children; i++) {
                const struct sim_node *n = dir->children[i];
                struct json_object *entry = json_new_array();

                json_push_str(entry, n->name);
                json_push_take(entry, json_object_new_int64((int64_t) node_mode(n)));
                if (n->type == SIM_LINK)
                        json_push_str(entry, strempty(n->target));
                else
                        json_push_take(entry, n->type == SIM_DIR ? entries(n) : NULL);
                json_push_take(all, entry);
        }
        return all;
}

int look_tree(struct sim *sim, const char *path, struct json_object **ret) {
        struct sim_node *n;
        int r;

        n = sim_lookup(sim, path, true, &r);
        if (!n)
                return r;
        if (n->type != SIM_DIR)
                return -ENOTDIR;
        *ret = entries(n);
        return 0;
}

/* What one open(2), one pread(2) at 0 and one close(2) say: the bytes in hexadecimal digits, or a negative errno. */
static struct json_object *read_one(struct sim_call *c, const char *path, uint8_t *data, size_t size) {
        _cleanup_free_ char *hex = NULL;
        struct sim_file *f;
        ssize_t n;

        n = tree_open(c, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, &f);
        if (n < 0)
                return json_object_new_int64(n);
        n = f->ops->pread ? f->ops->pread(c, f, data, size, 0) : -EINVAL;
        sim_file_put(c, f);
        if (n < 0)
                return json_object_new_int64(n);
        hex = malloc(2 * (size_t) n + 1);
        if (!hex)
                return json_object_new_int64(-ENOMEM);
        hex[0] = '\0';
        for (size_t i = 0; i < (size_t) n; i++)
                snprintf(hex + 2 * i, 3, "%02x", data[i]);
        return json_object_new_string(hex);
}

int look_read(struct sim_call *c, struct json_object *paths, struct json_object **ret) {
        size_t n = json_object_array_length(paths);
        _cleanup_free_ uint8_t *data = malloc(SIM_TRANSFER_MAX);

        if (!data)
                return -ENOMEM;
        if (n > FILES_MAX)
                return -E2BIG;
        for (size_t i = 0; i < n; i++)
                if (!json_object_is_type(json_object_array_get_idx(paths, i), json_type_string))
                        return -EINVAL;
        *ret = json_new_array();
        for (size_t i = 0; i < n; i++)
                json_push_take(*ret, read_one(c, json_object_get_string(json_object_array_get_idx(paths, i)), data, SIM_TRANSFER_MAX));
        return 0;
}
