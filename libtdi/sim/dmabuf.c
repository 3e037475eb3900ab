/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dma-bufs in general (drivers/dma-buf/dma-buf.c), and the two exporters whose buffers are ordinary memory: /dev/udmabuf and the
 * system heap. Nothing can be mapped or imported from those here, so they are no more than a size.
 */
#include "sim/dmabuf.h"

#include <stdio.h>
#include <sys/stat.h>

#include "host/abi/dmabuf.h"
#include "host/abi/udmabuf.h"
#include "sim/marshal.h"
#include "sim/pci.h"

#define PAGE UINT64_C(4096)
#define UDMABUF_FLAGS_CLOEXEC 1
#define UDMABUF_LIST_LIMIT 1024
#define UDMABUF_PAGES_LIMIT ((uint64_t) INT32_MAX * 1024 * 1024 / PAGE)

struct memory_dmabuf {
        struct sim_dmabuf buffer;
        bool begun; /* udmabuf: somebody began a CPU access */
};

/* ---- any dma-buf ---- */

static int dmabuf_sync(struct sim_dmabuf *d, const struct tdi_dma_buf_sync *sync) {
        if (sync->flags & ~(uint64_t) TDI_DMA_BUF_SYNC_VALID_FLAGS_MASK || !(sync->flags & TDI_DMA_BUF_SYNC_RW))
                return -EINVAL;
        return d->cpu_access ? d->cpu_access(d, sync->flags & TDI_DMA_BUF_SYNC_END) : 0;
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

        d->release(c, d);
}

static const struct sim_file_ops dmabuf_ops = { .kind = "dma-buf", .ioctl = dmabuf_ioctl, .release = dmabuf_release };

struct sim_file *sim_dmabuf_export(struct sim_call *c, struct sim_dmabuf *d, int flags, const char *device) {
        struct sim_file *f;

        f = sim_file_new(c, &dmabuf_ops, d, flags & (O_ACCMODE | O_NONBLOCK), "/dmabuf:", device);
        if (f)
                d->file = f;
        return f;
}

struct sim_dmabuf *sim_dmabuf_of(struct sim_file *f) {
        return f->ops == &dmabuf_ops ? f->data : NULL;
}

/* ---- of memory ---- */

static void memory_release(struct sim_call *c, struct sim_dmabuf *d) {
        (void) c;
        free(d);
}

/* end_cpu_udmabuf() refuses an end without a beginning. */
static int udmabuf_access(struct sim_dmabuf *d, bool end) {
        struct memory_dmabuf *m = (struct memory_dmabuf *) d;

        if (end)
                return m->begun ? 0 : -EINVAL;
        m->begun = true;
        return 0;
}

static int memory_export(struct sim_call *c, struct sim_ioctl *io, uint64_t size, int flags, const char *exporter,
                         int (*access)(struct sim_dmabuf *d, bool end)) {
        struct memory_dmabuf *m;
        struct sim_file *f;

        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->buffer.size = size;
        m->buffer.exporter = exporter;
        m->buffer.cpu_access = access;
        m->buffer.release = memory_release;
        f = sim_dmabuf_export(c, &m->buffer, flags, "");
        if (!f) {
                free(m);
                return -ENOMEM;
        }
        io->out[io->n_out++] = f;
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
        uint64_t pages = 0;
        int r;

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
        return memory_export(c, io, pages * PAGE, O_RDWR, "udmabuf", udmabuf_access);
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
        return memory_export(c, io, size, (int) data->fd_flags, "system", NULL);
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
