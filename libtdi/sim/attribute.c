/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening what is in the tree, and reading and writing attributes as kernfs, sysfs and seq_file do it: permission bits bind root
 * too, a text is made at the first read and given out from there, a write is one store whatever its offset.
 */
#include "sim/server.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define PAGE 4096u
#define TEXT_MAX (16UL * 1024 * 1024) /* of a file of /proc */

struct open_node {
        struct sim_node *node;  /* a reference */
        bool sysfs;
        struct sim_rwsem lock;  /* kernfs_open_file.mutex, seq_file.lock */
        char *text;             /* what show() said and nobody has read yet */
        size_t size, at;
        uint64_t position;      /* in the file, of what is at */
};

static void release_node(_unused_ struct sim_call *c, struct sim_file *f) {
        struct open_node *o = f->data;

        sim_rwsem_done(&o->lock);
        node_put(o->node);
        free(o->text);
        free(o);
}

static ssize_t read_folder(_unused_ struct sim_call *c, _unused_ struct sim_file *f, _unused_ void *buf, _unused_ size_t size,
                           _unused_ uint64_t offset) {
        return -EISDIR;
}

/* seq_file asks for the whole text; one that fills the page is cut: sysfs_kf_seq_show(). */
static int make_text(struct sim_call *c, struct open_node *o) {
        size_t room = o->sysfs ? PAGE : 4 * PAGE;

        free(o->text);
        o->text = NULL;
        o->size = o->at = 0;
        for (;;) {
                _cleanup_free_ char *text = malloc(room);
                ssize_t n;

                if (!text)
                        return -ENOMEM;
                n = o->node->ops && o->node->ops->show ? o->node->ops->show(c, o->node, text, room) : -EIO;
                if (n < 0)
                        return (int) n;
                if ((size_t) n >= room && !o->sysfs && room < TEXT_MAX) {
                        room *= 2;
                        continue;
                }
                o->size = (size_t) n < room ? (size_t) n : room - 1;
                o->text = TAKE_PTR(text);
                return 0;
        }
}

static ssize_t read_text(struct sim_call *c, struct open_node *o, void *buf, size_t size, uint64_t offset) {
        ssize_t n = 0;
        int r;

        /* seq_read_iter(): what is left of the last text goes first, and needs no node. */
        if (offset != 0 && offset == o->position && o->at < o->size) {
                n = (ssize_t) (o->size - o->at < size ? o->size - o->at : size);
                memcpy(buf, o->text + o->at, (size_t) n);
        } else {
                if (!node_enter(o->node))
                        return -ENODEV;
                r = 0;
                /* At its end it is only asked for, not made again: single_start(). */
                if (offset == 0 || offset != o->position)
                        r = make_text(c, o);
                node_leave(o->node);
                if (r < 0)
                        return r;
                o->at = offset < o->size ? (size_t) offset : o->size;
                n = (ssize_t) (o->size - o->at < size ? o->size - o->at : size);
                if (n > 0)
                        memcpy(buf, o->text + o->at, (size_t) n);
        }
        o->at += (size_t) n;
        o->position = offset + (uint64_t) n;
        if (o->at >= o->size) {
                free(o->text);
                o->text = NULL;
                o->at = o->size = 0;
        }
        return n;
}

static ssize_t read_attribute(struct sim_call *c, struct sim_file *f, void *buf, size_t size, uint64_t offset) {
        struct open_node *o = f->data;
        ssize_t n;

        if (size == 0)
                return 0;
        sim_down_write(c, &o->lock);
        if (!o->node->ops || !o->node->ops->pread)
                n = read_text(c, o, buf, size, offset);
        else if (!node_enter(o->node))
                n = -ENODEV;
        else {
                /* kernfs_file_read_iter(): never more than a page. */
                n = o->node->ops->pread(c, o->node, buf, size < PAGE ? size : PAGE, offset);
                node_leave(o->node);
        }
        sim_up_write(c, &o->lock);
        return n;
}

/* kernfs_fop_write_iter(): a page at most, and store() is not told the offset. */
static ssize_t write_attribute(struct sim_call *c, struct sim_file *f, const void *buf, size_t size, uint64_t offset) {
        struct open_node *o = f->data;
        const struct sim_node_ops *ops = o->node->ops;
        _cleanup_free_ char *text = NULL;
        ssize_t n;

        if (size > PAGE)
                size = PAGE;
        text = malloc(size + 1);
        if (!text)
                return -ENOMEM;
        memcpy(text, buf, size);
        text[size] = '\0';
        sim_down_write(c, &o->lock);
        if (!node_enter(o->node))
                n = -ENODEV;
        else {
                if (size == 0)
                        n = 0;
                else if (ops && ops->pwrite)
                        n = ops->pwrite(c, o->node, text, size, offset);
                else
                        n = ops && ops->store ? ops->store(c, o->node, text, size) : -EIO;
                node_leave(o->node);
        }
        sim_up_write(c, &o->lock);
        return n;
}

static const struct sim_file_ops attribute_ops = {
        .kind = "attribute",
        .pread = read_attribute,
        .pwrite = write_attribute,
        .release = release_node,
};

static const struct sim_file_ops folder_ops = {
        .kind = "directory",
        .pread = read_folder,
        .release = release_node,
};

/* O_PATH: serve.c refuses every call on it. */
static const struct sim_file_ops path_ops = {
        .kind = "path",
        .release = release_node,
};

static bool is_sysfs(const struct sim_node *n) {
        while (n->parent && n->parent->parent)
                n = n->parent;
        return n->parent && streq(n->name, "sys");
}

/* kernfs_fop_open(): root passes the permission check of the VFS, and not this one. */
static int check_attribute(const struct sim_node *n, int flags) {
        const struct sim_node_ops *ops = n->ops;
        bool binary = ops && (ops->pread || ops->pwrite), reads = (flags & O_ACCMODE) != O_WRONLY, writes = (flags & O_ACCMODE) != O_RDONLY;

        if (writes && (!(n->mode & 0222) || (binary && !ops->pwrite)))
                return -EACCES;
        if (reads && (!(n->mode & 0444) || (binary && !ops->pread)))
                return -EACCES;
        return 0;
}

/* What open(2) says of the node before the file system is asked: do_open(), may_open(). */
static int check_open(const struct sim_node *n, int flags) {
        bool path = flags & O_PATH;

        if ((flags & O_CREAT) && (flags & O_EXCL) && !path)
                return -EEXIST;
        if (n->type == SIM_LINK && !path)
                return flags & O_DIRECTORY ? -ENOTDIR : -ELOOP;
        if ((flags & O_DIRECTORY) && n->type != SIM_DIR)
                return -ENOTDIR;
        if (path || n->type != SIM_DIR)
                return 0;
        if ((flags & O_TMPFILE) == O_TMPFILE)
                return -EOPNOTSUPP;
        return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) ? -EISDIR : 0;
}

static int open_device_node(struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        int r;

        /* chrdev_open() of a number that nobody has. */
        if (!n->ops || !n->ops->open)
                return -ENXIO;
        node_get(n);
        r = n->ops->open(c, n, f);
        node_put(n);
        if (r >= 0 && !f->ops)
                return -ENXIO;
        return r < 0 ? r : 0;
}

static int open_node(struct sim_node *n, int flags, struct sim_file *f) {
        struct open_node *o = calloc(1, sizeof(*o));

        if (!o)
                return -ENOMEM;
        o->node = node_get(n);
        o->sysfs = is_sysfs(n);
        sim_rwsem_init(&o->lock);
        ((struct open_file *) f)->tree = true;
        f->data = o;
        f->ops = flags & O_PATH ? &path_ops : n->type == SIM_DIR ? &folder_ops : &attribute_ops;
        return 0;
}

int tree_open(struct sim_call *c, const char *path, int flags, struct sim_file **ret) {
        bool exclusive = (flags & O_CREAT) && (flags & O_EXCL);
        char name[PATH_MAX];
        struct sim_node *n;
        struct sim_file *f;
        int r = 0;

        n = sim_lookup(c->sim, path, !(flags & O_NOFOLLOW) && !exclusive, &r);
        if (!n)
                /* No file system here lets anybody make a file. */
                return r == -ENOENT && (flags & O_CREAT) && *path ? -EACCES : r;
        r = check_open(n, flags);
        if (r >= 0 && n->type == SIM_FILE && !(flags & O_PATH) && is_sysfs(n))
                r = check_attribute(n, flags);
        if (r < 0)
                return r;
        node_path(n, name, sizeof(name));
        f = sim_file_new(c, NULL, NULL, flags, name, node_device(n));
        if (!f)
                return -ENOMEM;
        r = n->type == SIM_DEVICE_NODE && !(flags & O_PATH) ? open_device_node(c, n, f) : open_node(n, flags, f);
        if (r < 0) {
                f->ops = NULL;
                sim_file_put(c, f);
                return r;
        }
        *ret = f;
        return 0;
}

ssize_t tree_readlink(struct sim *sim, const char *path, char *buf, size_t size) {
        struct sim_node *n;
        size_t len;
        int r = 0;

        n = sim_lookup(sim, path, false, &r);
        if (!n)
                return r;
        if (n->type != SIM_LINK)
                return -EINVAL;
        len = strlen(n->target);
        if (len > size)
                len = size;
        memcpy(buf, n->target, len);
        return (ssize_t) len;
}
