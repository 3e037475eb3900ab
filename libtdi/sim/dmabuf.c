/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dma-bufs in general (drivers/dma-buf/dma-buf.c), and the two exporters whose buffers are ordinary memory: /dev/udmabuf and the
 * system heap. Nothing can be mapped from those here, but importers reach what is in them.
 */
#include "sim/dmabuf.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "host/abi/dmabuf.h"
#include "host/abi/udmabuf.h"
#include "sim/marshal.h"
#include "sim/pci.h"

#define PAGE UINT64_C(4096)
#define UDMABUF_FLAGS_CLOEXEC 1
#define UDMABUF_LIST_LIMIT 1024
#define UDMABUF_PAGES_LIMIT ((uint64_t) INT32_MAX * 1024 * 1024 / PAGE)

/* A piece of a memfd: one for a heap's buffer, as many as were named for a udmabuf. */
struct piece {
        int fd;
        uint64_t offset, size;
};

struct memory_dmabuf {
        struct sim_dmabuf buffer;
        bool begun; /* udmabuf: somebody began a CPU access */
        size_t n_pieces;
        struct piece *pieces;
};

/* ---- any dma-buf ---- */

static int dmabuf_sync(struct sim_dmabuf *d, const struct tdi_dma_buf_sync *sync) {
        if (sync->flags & ~(uint64_t) TDI_DMA_BUF_SYNC_VALID_FLAGS_MASK || !(sync->flags & TDI_DMA_BUF_SYNC_RW))
                return -EINVAL;
        return d->ops->cpu_access ? d->ops->cpu_access(d, sync->flags & TDI_DMA_BUF_SYNC_END) : 0;
}

/* dma_buf_set_name(): strndup_user() of at most 32 bytes with the NUL. */
static int dmabuf_set_name(struct sim_file *f, const struct sim_ioctl *io) {
        size_t n = strnlen((const char *) io->arg, TDI_DMA_BUF_NAME_LEN);

        if (n >= TDI_DMA_BUF_NAME_LEN)
                return -EINVAL;
        snprintf(f->name, sizeof(f->name), "/dmabuf:%.*s", (int) n, (const char *) io->arg);
        return 0;
}

static int dmabuf_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        (void) c;
        switch (io->request) {
        case TDI_DMA_BUF_IOCTL_SYNC:
                return dmabuf_sync(f->data, (const void *) io->arg);
        case TDI_DMA_BUF_SET_NAME_B:
                return dmabuf_set_name(f, io);
        default:
                return -ENOTTY;
        }
}

static void dmabuf_release(struct sim_call *c, struct sim_file *f) {
        struct sim_dmabuf *d = f->data;

        sim_wait_done(&d->unmapped);
        d->ops->release(c, d);
}

static const struct sim_file_ops dmabuf_ops = { .kind = "dma-buf", .ioctl = dmabuf_ioctl, .release = dmabuf_release };

struct sim_file *sim_dmabuf_export(struct sim_call *c, struct sim_dmabuf *d, int flags, const char *device) {
        struct sim_file *f;

        f = sim_file_new(c, &dmabuf_ops, d, flags & (O_ACCMODE | O_NONBLOCK), "/dmabuf:", device);
        if (f) {
                d->file = f;
                sim_wait_init(&d->unmapped);
        }
        return f;
}

struct sim_dmabuf *sim_dmabuf_of(struct sim_file *f) {
        return f->ops == &dmabuf_ops ? f->data : NULL;
}

/* ---- importers ---- */

/* dma_buf_dynamic_attach() */
int sim_dmabuf_attach(struct sim_dmabuf *d, struct sim_dmabuf_import *i) {
        int r = d->ops->attach ? d->ops->attach(d, i) : 0;

        if (r < 0)
                return r;
        i->buffer = d;
        i->mapped = false;
        i->next = d->imports;
        d->imports = i;
        return 0;
}

void sim_dmabuf_detach(struct sim_dmabuf_import *i) {
        struct sim_dmabuf *d = i->buffer;

        sim_dmabuf_unmap(i);
        for (struct sim_dmabuf_import **p = &d->imports; *p; p = &(*p)->next)
                if (*p == i) {
                        *p = i->next;
                        return;
                }
}

/* dma_buf_map_attachment() */
int sim_dmabuf_map(struct sim_dmabuf_import *i, struct sim_dmabuf_mapping *ret) {
        int r = i->buffer->ops->map(i->buffer, ret);

        i->mapped = r == 0;
        return r;
}

void sim_dmabuf_unmap(struct sim_dmabuf_import *i) {
        if (!i->mapped)
                return;
        i->mapped = false;
        sim_wake(&i->buffer->unmapped);
}

int sim_dmabuf_access(struct sim_dmabuf *d, uint64_t offset, void *buf, size_t size, bool write) {
        if (offset > d->size || size > d->size - offset)
                return -EFAULT;
        return d->ops->access(d, offset, buf, size, write);
}

static bool is_mapped(const struct sim_dmabuf *d) {
        for (const struct sim_dmabuf_import *i = d->imports; i; i = i->next)
                if (i->mapped)
                        return true;
        return false;
}

void sim_dmabuf_invalidate(struct sim_call *c, struct sim_dmabuf *d) {
        for (struct sim_dmabuf_import *i = d->imports; i; i = i->next)
                if (i->invalidate)
                        i->invalidate(i);
        while (is_mapped(d))
                sim_wait(c, &d->unmapped);
}

/* ---- of memory ---- */

static void memory_free(struct memory_dmabuf *m) {
        for (size_t i = 0; i < m->n_pieces; i++)
                close_fd(m->pieces[i].fd);
        free(m->pieces);
        free(m);
}

static void memory_release(struct sim_call *c, struct sim_dmabuf *d) {
        (void) c;
        memory_free((struct memory_dmabuf *) d);
}

/* Where it is nobody can know: pieces count, addresses are those of nowhere. */
static int memory_map(struct sim_dmabuf *d, struct sim_dmabuf_mapping *ret) {
        *ret = (struct sim_dmabuf_mapping) { .length = d->size, .segments = (uint32_t) ((struct memory_dmabuf *) d)->n_pieces };
        return 0;
}

static int memory_access(struct sim_dmabuf *d, uint64_t offset, void *buf, size_t size, bool write) {
        const struct memory_dmabuf *m = (const struct memory_dmabuf *) d;

        for (size_t i = 0; i < m->n_pieces && size > 0; i++) {
                const struct piece *p = m->pieces + i;
                size_t n;
                ssize_t k;

                if (offset >= p->size) {
                        offset -= p->size;
                        continue;
                }
                n = size < p->size - offset ? size : (size_t) (p->size - offset);
                k = write ? pwrite(p->fd, buf, n, (off_t) (p->offset + offset)) : pread(p->fd, buf, n, (off_t) (p->offset + offset));
                if (k != (ssize_t) n)
                        return -EFAULT;
                buf = (uint8_t *) buf + n;
                size -= n;
                offset = 0;
        }
        return size > 0 ? -EFAULT : 0;
}

/* end_cpu_udmabuf() refuses an end without a beginning. */
static int udmabuf_access(struct sim_dmabuf *d, bool end) {
        struct memory_dmabuf *m = (struct memory_dmabuf *) d;

        if (end)
                return m->begun ? 0 : -EINVAL;
        m->begun = true;
        return 0;
}

static const struct sim_dmabuf_ops udmabuf_buffer_ops = {
        .exporter = "udmabuf", .map = memory_map, .access = memory_access, .cpu_access = udmabuf_access, .release = memory_release,
};
static const struct sim_dmabuf_ops heap_buffer_ops = {
        .exporter = "system", .map = memory_map, .access = memory_access, .release = memory_release,
};

/* Takes the buffer. */
static int memory_export(struct sim_call *c, struct sim_ioctl *io, struct memory_dmabuf *m, int flags) {
        struct sim_file *f = sim_dmabuf_export(c, &m->buffer, flags, "");

        if (!f) {
                memory_free(m);
                return -ENOMEM;
        }
        io->out[io->n_out++] = f;
        return 0;
}

static struct memory_dmabuf *memory_new(const struct sim_dmabuf_ops *ops, size_t room) {
        struct memory_dmabuf *m = calloc(1, sizeof(*m));

        if (m)
                m->pieces = calloc(room, sizeof(*m->pieces));
        if (!m || !m->pieces) {
                free(m);
                return NULL;
        }
        m->buffer.ops = ops;
        return m;
}

static int memory_add(struct memory_dmabuf *m, int fd, uint64_t offset, uint64_t size) {
        int copy = fd_dup(fd);

        if (copy < 0)
                return copy;
        m->pieces[m->n_pieces++] = (struct piece) { copy, offset, size };
        m->buffer.size += size;
        return 0;
}

/* ---- udmabuf ---- */

/* check_memfd_seals() and memfd_pin_folios() */
static int check_memfd(const struct sim_ioctl *io, unsigned i, uint64_t offset, uint64_t size) {
        struct stat st;
        int fd, seals;

        /* A file of the simulation is no memory file; a descriptor that is none is -EBADFD too. */
        if (i >= io->n_in || io->in[i].file || io->in[i].fd < 0)
                return -EBADFD;
        fd = io->in[i].fd;
        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || fstat(fd, &st) < 0)
                return -EBADFD;
        if (!(seals & F_SEAL_SHRINK) || seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
                return -EINVAL;
        if (size == 0 || offset + size - 1 < offset || offset + size - 1 >= (uint64_t) st.st_size)
                return -EINVAL;
        return 0;
}

static int udmabuf_create(struct sim_call *c, struct sim_ioctl *io, const struct tdi_udmabuf_create_item *items, uint32_t n) {
        struct memory_dmabuf *m;
        uint64_t pages = 0;
        int r = 0;

        for (uint32_t i = 0; i < n; i++) {
                if (items[i].offset % PAGE || items[i].size % PAGE)
                        return -EINVAL;
                pages += items[i].size / PAGE;
                if (pages > UDMABUF_PAGES_LIMIT)
                        return -EINVAL;
        }
        if (pages == 0)
                return -EINVAL;
        for (uint32_t i = 0; i < n; i++) {
                r = check_memfd(io, i, items[i].offset, items[i].size);
                if (r < 0)
                        return r;
        }
        m = memory_new(&udmabuf_buffer_ops, n);
        if (!m)
                return -ENOMEM;
        for (uint32_t i = 0; i < n && r == 0; i++)
                r = memory_add(m, io->in[i].fd, items[i].offset, items[i].size);
        if (r < 0) {
                memory_free(m);
                return r;
        }
        return memory_export(c, io, m, O_RDWR);
}

static int udmabuf_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct tdi_udmabuf_create_list *list = (void *) io->arg;
        struct tdi_udmabuf_create *one = (void *) io->arg;
        struct tdi_udmabuf_create_item item;

        (void) f;
        switch (io->request) {
        case TDI_UDMABUF_CREATE:
                item = (struct tdi_udmabuf_create_item) { .memfd = one->memfd, .offset = one->offset, .size = one->size };
                return udmabuf_create(c, io, &item, 1);
        case TDI_UDMABUF_CREATE_LIST:
                if (list->count > UDMABUF_LIST_LIMIT)
                        return -EINVAL;
                if (io->size < sizeof(*list) + list->count * sizeof(list->list[0]))
                        return -EFAULT;
                return udmabuf_create(c, io, list->list, list->count);
        default:
                return -ENOTTY;
        }
}

static const struct sim_file_ops udmabuf_ops = { .kind = "udmabuf", .ioctl = udmabuf_ioctl };

static int udmabuf_open(struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        (void) c;
        (void) n;
        f->ops = &udmabuf_ops;
        return 0;
}

static const struct sim_node_ops udmabuf_node_ops = { .open = udmabuf_open };

/* ---- the system heap ---- */

static int heap_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct tdi_dma_heap_allocation_data *data = (void *) io->arg;
        _cleanup_close_ int fd = -EBADF;
        struct memory_dmabuf *m;
        uint64_t size;
        long pages;

        (void) f;
        /* dma_heap_ioctl() looks at the number alone, of which there is one: what else the client can send has another. */
        if (io->request != TDI_DMA_HEAP_IOCTL_ALLOC)
                return -EINVAL;
        if (data->fd || data->fd_flags & ~(uint32_t) (O_CLOEXEC | O_ACCMODE) ||
            data->heap_flags & ~(uint64_t) TDI_DMA_HEAP_VALID_HEAP_FLAGS)
                return -EINVAL;
        size = (data->len + PAGE - 1) / PAGE * PAGE;
        if (size == 0)
                return -EINVAL;
        /* system_heap_allocate() */
        pages = sysconf(_SC_PHYS_PAGES);
        if (pages > 0 && size / PAGE > (uint64_t) pages)
                return -ENOMEM;
        m = memory_new(&heap_buffer_ops, 1);
        fd = memfd_create("heap", MFD_CLOEXEC);
        if (!m || fd < 0 || ftruncate(fd, (off_t) size) < 0 || memory_add(m, fd, 0, size) < 0) {
                if (m)
                        memory_free(m);
                return -ENOMEM;
        }
        return memory_export(c, io, m, (int) data->fd_flags);
}

static const struct sim_file_ops heap_ops = { .kind = "dma-heap", .ioctl = heap_ioctl };

static int heap_open(struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        (void) c;
        (void) n;
        f->ops = &heap_ops;
        return 0;
}

static const struct sim_node_ops heap_node_ops = { .open = heap_open };

void sim_dmabuf_init(struct sim_machine *m) {
        sim_device_node(sim_dirs(m->sim, "dev"), "udmabuf", &udmabuf_node_ops, NULL);
        sim_device_node(sim_dirs(m->sim, "dev/dma_heap"), "system", &heap_node_ops, NULL);
}
