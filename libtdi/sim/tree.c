/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tree of nodes: sysfs, device nodes, some files of /proc. Making, finding and removing nodes; open files of them are
 * attribute.c's. Children are sorted, so that finding is a binary search, and a name behind the last one is appended.
 */
#include "sim/server.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define LINKS_MAX 40 /* MAXSYMLINKS */

static void *must(void *p) {
        if (!p) {
                fputs("tdi-sim: out of memory\n", stderr);
                abort();
        }
        return p;
}

struct sim *node_sim(struct sim_node *n) {
        while (n->parent)
                n = n->parent;
        return n->data;
}

struct sim_node *node_get(struct sim_node *n) {
        n->refs++;
        return n;
}

/* A child holds its parent: the path of an open file is known for ever. */
void node_put(struct sim_node *n) {
        while (n) {
                struct sim_node *parent = n->parent;

                assert(n->refs > 0);
                if (--n->refs > 0)
                        return;
                assert(n->active == 0 && n->n_children == 0);
                if (parent)
                        node_sim(parent)->n_nodes--;
                free(n->name);
                free(n->target);
                free(n->children);
                free(n);
                n = parent;
        }
}

const char *node_device(const struct sim_node *n) {
        for (; n; n = n->parent) {
                if (n->dead)
                        return "";
                if (n->device)
                        return n->device;
        }
        return "";
}

void node_path(const struct sim_node *n, char *buf, size_t size) {
        const char *names[128];
        size_t depth = 0, at = 0;

        for (; n->parent && depth < ARRAY_SIZE(names); n = n->parent)
                names[depth++] = n->name;
        if (depth == 0)
                snprintf(buf, size, "/");
        while (depth > 0 && at < size) {
                int len = snprintf(buf + at, size - at, "/%s", names[--depth]);

                at += (size_t) len;
        }
}

/* ---- children ---- */

/* As strcmp(), the second name being no longer than len. */
static int compare(const char *name, const char *other, size_t len) {
        int r = strncmp(name, other, len);

        return r != 0 ? r : name[len] != '\0';
}

/* Where a name is, or belongs. */
static size_t find(const struct sim_node *dir, const char *name, size_t len, bool *ret_found) {
        size_t low = 0, high = dir->n_children;

        *ret_found = false;
        if (high > 0) {
                int r = compare(dir->children[high - 1]->name, name, len);

                if (r < 0)
                        return high;
        }
        while (low < high) {
                size_t middle = (low + high) / 2;
                int r = compare(dir->children[middle]->name, name, len);

                if (r == 0) {
                        *ret_found = true;
                        return middle;
                }
                if (r < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static struct sim_node *child(const struct sim_node *dir, const char *name, size_t len) {
        bool found;
        size_t i = find(dir, name, len, &found);

        return found ? dir->children[i] : NULL;
}

struct sim_node *sim_child(struct sim_node *parent, const char *name) {
        return child(parent, name, strlen(name));
}

/* The child of a name, made with a type if it is not there. */
static struct sim_node *add(struct sim_node *parent, const char *name, size_t len, int type, mode_t mode) {
        struct sim_node *n;
        bool found;
        size_t i;

        assert(len > 0 && len <= NAME_MAX && !memchr(name, '/', len));
        i = find(parent, name, len, &found);
        if (found) {
                assert((int) parent->children[i]->type == type);
                return parent->children[i];
        }
        if (parent->n_children >= parent->room) {
                parent->room = parent->room ? parent->room * 2 : 4;
                parent->children = must(reallocarray(parent->children, parent->room, sizeof(*parent->children)));
        }
        n = must(calloc(1, sizeof(*n)));
        n->name = must(strndup(name, len));
        n->parent = node_get(parent);
        n->type = (__typeof__(n->type)) type;
        n->mode = mode;
        n->data = parent->parent ? parent->data : NULL;
        n->refs = 1;
        /* What is put below something that was removed is as gone as that: kernfs_add_one(). */
        n->dead = n->drained = parent->dead;
        memmove(parent->children + i + 1, parent->children + i, (parent->n_children - i) * sizeof(*parent->children));
        parent->children[i] = n;
        parent->n_children++;
        node_sim(parent)->n_nodes++;
        return n;
}

struct sim_node *sim_dir(struct sim_node *parent, const char *name) {
        return add(parent, name, strlen(name), SIM_DIR, 0755);
}

struct sim_node *sim_dirs(struct sim *sim, const char *path) {
        struct sim_node *n = sim->root;

        for (;;) {
                size_t len;

                path += strspn(path, "/");
                if (!*path)
                        return n;
                len = strcspn(path, "/");
                n = add(n, path, len, SIM_DIR, 0755);
                path += len;
        }
}

struct sim_node *sim_file_node(struct sim_node *parent, const char *name, mode_t mode, const struct sim_node_ops *ops, void *data) {
        struct sim_node *n = add(parent, name, strlen(name), SIM_FILE, mode);

        n->mode = mode;
        n->ops = ops;
        n->data = data;
        return n;
}

static ssize_t show_text(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        size_t len = strlen(n->target);

        if (len > size)
                len = size;
        memcpy(buf, n->target, len);
        return (ssize_t) len;
}

static const struct sim_node_ops text_ops = { .show = show_text };

struct sim_node *sim_text(struct sim_node *parent, const char *name, const char *format, ...) {
        struct sim_node *n = add(parent, name, strlen(name), SIM_FILE, 0444);
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&text, format, ap);
        va_end(ap);
        if (r < 0)
                text = NULL;
        must(text);
        free(n->target);
        n->target = NULL;
        if (asprintf(&n->target, "%s\n", text) < 0)
                n->target = NULL;
        must(n->target);
        n->ops = &text_ops;
        return n;
}

struct sim_node *sim_device_node(struct sim_node *parent, const char *name, const struct sim_node_ops *ops, void *data) {
        struct sim_node *n = add(parent, name, strlen(name), SIM_DEVICE_NODE, 0600);

        n->ops = ops;
        n->data = data;
        return n;
}

struct sim_node *sim_link_text(struct sim_node *parent, const char *name, const char *target) {
        struct sim_node *n = add(parent, name, strlen(name), SIM_LINK, 0777);
        char *copy = must(strdup(target));

        free(n->target);
        n->target = copy;
        return n;
}

/* As kernfs_get_target_path(): up to what the link and the target's parent have in common, then down. A target always has its name. */
struct sim_node *sim_link(struct sim_node *parent, const char *name, struct sim_node *target) {
        char from[PATH_MAX], to[PATH_MAX], text[2 * PATH_MAX];
        size_t common = 0, at = 0;

        node_path(parent, from, sizeof(from));
        node_path(target->parent, to, sizeof(to));
        for (size_t i = 0;; i++) {
                bool end_from = from[i] == '/' || !from[i], end_to = to[i] == '/' || !to[i];

                if (end_from && end_to)
                        common = i;
                if (from[i] != to[i] || !from[i])
                        break;
        }
        for (const char *p = from + common; *p; p++)
                if (*p == '/') {
                        memcpy(text + at, "../", 4);
                        at += 3;
                }
        snprintf(text + at, sizeof(text) - at, "%s%s%s", to[common] ? to + common + 1 : "", to[common] ? "/" : "", target->name);
        return sim_link_text(parent, name, text);
}

/* ---- paths ---- */

struct sim_node *sim_lookup(struct sim *sim, const char *path, bool follow, int *ret_error) {
        char buf[2][2 * PATH_MAX];
        struct sim_node *n = sim->root;
        unsigned links = 0, which = 0;
        const char *p = path;
        int error = -ENOENT;

        if (!*path)
                goto fail;
        error = -ENAMETOOLONG;
        if (strlen(path) >= PATH_MAX)
                goto fail;
        while (*p) {
                size_t len = strcspn(p, "/");
                struct sim_node *next;

                if (len == 0) {
                        p++;
                        /* A slash at the end asks for a folder. */
                        error = -ENOTDIR;
                        if (n->type != SIM_DIR)
                                goto fail;
                        continue;
                }
                error = -ENOTDIR;
                if (n->type != SIM_DIR)
                        goto fail;
                error = -ENAMETOOLONG;
                if (len > NAME_MAX)
                        goto fail;
                if (len == 1 && p[0] == '.')
                        next = n;
                else if (len == 2 && p[0] == '.' && p[1] == '.')
                        next = n->parent ? n->parent : n;
                else
                        next = child(n, p, len);
                error = -ENOENT;
                if (!next)
                        goto fail;
                p += len;
                if (next->type == SIM_LINK && (*p || follow)) {
                        char *rest = buf[which];

                        error = -ELOOP;
                        if (++links > LINKS_MAX)
                                goto fail;
                        error = -ENAMETOOLONG;
                        if (snprintf(rest, sizeof(buf[0]), "%s%s", next->target, p) >= (int) sizeof(buf[0]))
                                goto fail;
                        which = !which;
                        p = rest;
                        if (*p == '/')
                                n = sim->root;
                        continue;
                }
                n = next;
        }
        return n;
fail:
        if (ret_error)
                *ret_error = error;
        return NULL;
}

/* ---- active references and removal ---- */

bool node_enter(struct sim_node *n) {
        if (n->dead)
                return false;
        n->active++;
        return true;
}

void node_leave(struct sim_node *n) {
        assert(n->active > 0);
        n->active--;
        if (n->dead && n->active == 0)
                (void) pthread_cond_broadcast(&node_sim(n)->drained);
}

static void deactivate(struct sim_node *n) {
        n->dead = true;
        for (size_t i = 0; i < n->n_children; i++)
                deactivate(n->children[i]);
}

/* __kernfs_remove(): from the leaves up, each when nobody is inside it any more. */
static void drain(struct sim_call *c, struct sim_node *n) {
        struct sim *sim = c->sim;

        for (size_t i = 0; i < n->n_children; i++)
                drain(c, n->children[i]);
        while (n->active > 0)
                (void) call_sleep(c, &sim->drained, false, 0);
}

static void take_apart(struct sim_node *n) {
        for (size_t i = 0; i < n->n_children; i++)
                take_apart(n->children[i]);
        n->n_children = n->room = 0;
        free(n->children);
        n->children = NULL;
        n->drained = true;
        node_put(n);
}

void sim_remove(struct sim_call *c, struct sim_node *n, struct sim_node *self) {
        struct sim_node *parent = n->parent;
        struct sim *sim = c->sim;
        bool found;
        size_t i;

        assert(parent);
        /* kernfs_break_active_protection(): two who remove the same node must not wait for each other. */
        if (self) {
                node_get(self);
                node_leave(self);
        }
        node_get(n);
        if (n->dead) {
                while (!n->drained)
                        (void) call_sleep(c, &sim->drained, false, 0);
        } else {
                i = find(parent, n->name, strlen(n->name), &found);
                assert(found);
                memmove(parent->children + i, parent->children + i + 1, (parent->n_children - i - 1) * sizeof(*parent->children));
                parent->n_children--;
                deactivate(n);
                drain(c, n);
                take_apart(n);
                (void) pthread_cond_broadcast(&sim->drained);
        }
        node_put(n);
        if (self) {
                self->active++;
                node_put(self);
        }
}

void tree_init(struct sim *sim) {
        sim->root = must(calloc(1, sizeof(*sim->root)));
        sim->root->name = must(strdup(""));
        sim->root->mode = 0755;
        sim->root->refs = 1;
        sim->root->data = sim;
}

void tree_free(struct sim *sim) {
        struct sim_node *root = sim->root;

        if (!root)
                return;
        /* Without open files nobody is inside anything. */
        deactivate(root);
        take_apart(root);
        sim->root = NULL;
}
