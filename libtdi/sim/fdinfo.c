/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /proc/PID/fdinfo/N of a simulated dma-buf (dma_buf_show_fdinfo). A copy of a descriptor here is a copy of a socket, of which the kernel
 * tells nobody how many there are: those in processes are counted in /proc. One that is in a message on its way is not seen.
 */
#include <dirent.h>
#include <stdio.h>

#include "sim/dmabuf.h"
#include "sim/server.h"

struct fdinfo {
        char text[512];
};

static unsigned count_in(const char *pid, uint64_t inode) {
        char path[64], link[64], wanted[64];
        struct dirent *e;
        unsigned n = 0;
        DIR *d;

        snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
        snprintf(wanted, sizeof(wanted), "socket:[%llu]", (unsigned long long) inode);
        d = opendir(path);
        while (d && (e = readdir(d))) {
                ssize_t k = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

                if (k <= 0)
                        continue;
                link[k] = '\0';
                n += streq(link, wanted);
        }
        if (d)
                (void) closedir(d);
        return n;
}

static unsigned count_everywhere(uint64_t inode) {
        DIR *d = opendir("/proc");
        struct dirent *e;
        unsigned n = 0;

        while (d && (e = readdir(d)))
                if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
                        n += count_in(e->d_name, inode);
        if (d)
                (void) closedir(d);
        return n;
}

static ssize_t fdinfo_pread(struct sim_call *c, struct sim_file *f, void *buf, size_t size, uint64_t offset) {
        const struct fdinfo *i = f->data;
        size_t n = strlen(i->text);

        (void) c;
        if (offset >= n)
                return 0;
        if (size > n - offset)
                size = (size_t) (n - offset);
        memcpy(buf, i->text + offset, size);
        return (ssize_t) size;
}

static void fdinfo_release(struct sim_call *c, struct sim_file *f) {
        (void) c;
        free(f->data);
}

static const struct sim_file_ops fdinfo_ops = { .kind = "fdinfo", .pread = fdinfo_pread, .release = fdinfo_release };

int fdinfo_open(struct sim_call *c, struct endpoint *e, struct sim_file **ret) {
        struct sim_dmabuf *d = sim_dmabuf_of(e->file);
        struct fdinfo *i;

        if (!d)
                return -ENOENT;
        i = calloc(1, sizeof(*i));
        if (!i)
                return -ENOMEM;
        /* All sockets together are one reference; importers and calls that run have one each. */
        snprintf(i->text, sizeof(i->text), "pos:\t0\nflags:\t0%o\nmnt_id:\t15\nino:\t%llu\nsize:\t%llu\ncount:\t%u\nexp_name:\t%s\n",
                 (unsigned) e->file->flags, (unsigned long long) e->inode, (unsigned long long) d->size,
                 count_everywhere(e->inode) + e->file->refs - 1, d->ops->exporter);
        *ret = sim_file_new(c, &fdinfo_ops, i, O_RDONLY, "/proc/self/fdinfo", "");
        if (!*ret) {
                free(i);
                return -ENOMEM;
        }
        return 0;
}
