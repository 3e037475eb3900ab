/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /dev/tdid_test_importer (importer-abi.h): importers that attach to dma-bufs as KVM, RDMA and GPU drivers do, and a source that moves.
 * With it every pair of class and importer can be tried. It is there when a control command has loaded it, as the test module is on a
 * real kernel.
 */
#include "sim/importer-abi.h"

#include <stdio.h>
#include <tdi/dmabuf.h>

#include "sim/dmabuf.h"
#include "sim/machine.h"
#include "sim/marshal.h"

#define IMPORTS_MAX 256
#define PAGE UINT64_C(4096)
/* Where sources are, each time elsewhere. */
#define SOURCE_ADDRESS (UINT64_C(1) << 40)

struct attached {
        struct sim_dmabuf_import import;
        struct sim_file *file; /* a reference: of the dma-buf */
        uint32_t id, flags, notified, maps;
        enum tdi_dmabuf_class class;
        int error;
        struct sim_dmabuf_mapping mapping;
        struct attached *next;
};

struct importer {
        struct attached *list;
        unsigned n;
        uint32_t next_id;
};

/* ---- a source that moves ---- */

struct moving {
        struct sim_dmabuf buffer;
        uint64_t address;
        uint8_t *data;
};

static uint64_t next_address = SOURCE_ADDRESS;

/* Memory that moves is of no use to who does not hear of it. There is no pin(), so that nobody can make it stay. */
static int moving_attach(_unused_ struct sim_dmabuf *d, struct sim_dmabuf_import *i) {
        return i->invalidate ? 0 : -EOPNOTSUPP;
}

static int moving_map(struct sim_dmabuf *d, struct sim_dmabuf_mapping *ret) {
        *ret = (struct sim_dmabuf_mapping) { ((struct moving *) d)->address, d->size, 1 };
        return 0;
}

static int moving_access(struct sim_dmabuf *d, uint64_t offset, void *buf, size_t size, bool write) {
        uint8_t *p = ((struct moving *) d)->data + offset;

        memcpy(write ? p : buf, write ? buf : p, size);
        return 0;
}

static void moving_release(_unused_ struct sim_call *c, struct sim_dmabuf *d) {
        struct moving *m = (struct moving *) d;

        free(m->data);
        free(m);
}

static const struct sim_dmabuf_ops moving_ops = {
        .exporter = "tdid_test_importer", .attach = moving_attach, .map = moving_map, .access = moving_access, .release = moving_release,
};

static int create_source(struct sim_call *c, struct sim_ioctl *io) {
        const struct tdi_test_source *source = (const void *) io->arg;
        struct moving *m;
        struct sim_file *f;

        if (source->size == 0 || source->size % PAGE || source->size > TDI_TEST_SOURCE_MAX)
                return -EINVAL;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->buffer.ops = &moving_ops;
        m->buffer.size = source->size;
        m->address = next_address;
        next_address += source->size;
        m->data = calloc(1, source->size);
        f = m->data ? sim_dmabuf_export(c, &m->buffer, O_RDWR, "") : NULL;
        if (!f) {
                moving_release(c, &m->buffer);
                return -ENOMEM;
        }
        io->out[io->n_out++] = f;
        return 0;
}

static int move_source(struct sim_call *c, const struct sim_ioctl *io) {
        struct sim_file *f = io->n_in > 0 ? io->in[0].file : NULL;
        struct sim_dmabuf *d = f ? sim_dmabuf_of(f) : NULL;

        if (!d || d->ops != &moving_ops)
                return -EINVAL;
        sim_file_get(f);
        sim_dmabuf_invalidate(c, d);
        ((struct moving *) d)->address = next_address;
        next_address += d->size;
        sim_file_put(c, f);
        return 0;
}

/* ---- importers ---- */

static void on_invalidate(struct sim_dmabuf_import *i) {
        struct attached *a = (struct attached *) i;

        a->notified++;
        if (!(a->flags & TDI_TEST_IMPORT_HOLD))
                sim_dmabuf_unmap(i);
}

static struct attached *find(const struct importer *m, uint64_t id) {
        for (struct attached *a = m->list; a; a = a->next)
                if (a->id == id)
                        return a;
        return NULL;
}

static int map(struct attached *a) {
        if (a->import.mapped)
                return -EBUSY;
        a->maps++;
        a->error = sim_dmabuf_map(&a->import, &a->mapping);
        return a->error;
}

static int attach(struct sim_call *c, struct importer *m, struct sim_ioctl *io) {
        struct tdi_test_import_attach *q = (void *) io->arg;
        struct sim_dmabuf *d = io->n_in > 0 && io->in[0].file ? sim_dmabuf_of(io->in[0].file) : NULL;
        unsigned takes = tdi_importer_classes((enum tdi_importer) q->importer);
        struct attached *a;
        int r;

        if (q->flags & ~(TDI_TEST_IMPORT_HOLD | TDI_TEST_IMPORT_NO_P2P) || q->dmabuf_class >= TDI_DMABUF_CLASS_MAX || q->importer >= TDI_IMPORTER_MAX || !d)
                return -EINVAL;
        if (q->importer != TDI_IMPORTER_ANY && !(takes & TDI_DMABUF_SET(q->dmabuf_class)))
                return -EPROTONOSUPPORT;
        if (!pci_find(sim_machine(c->sim), (uint16_t) (q->device >> 16), (uint8_t) (q->device >> 8), (uint8_t) q->device))
                return -ENODEV;
        if (m->n >= IMPORTS_MAX)
                return -ENOSPC;
        a = calloc(1, sizeof(*a));
        if (!a)
                return -ENOMEM;
        a->flags = q->flags;
        a->class = (enum tdi_dmabuf_class) q->dmabuf_class;
        a->import.peer_to_peer = !(q->flags & TDI_TEST_IMPORT_NO_P2P);
        a->import.invalidate = a->class == TDI_DMABUF_PINNED ? NULL : on_invalidate;
        r = sim_dmabuf_attach(d, &a->import);
        if (r < 0) {
                free(a);
                return r;
        }
        a->file = sim_file_get(io->in[0].file);
        q->id = a->id = m->next_id++;
        a->next = m->list;
        m->list = a;
        m->n++;
        return 0;
}

static void detach(struct sim_call *c, struct importer *m, struct attached *a) {
        for (struct attached **p = &m->list; *p; p = &(*p)->next)
                if (*p == a) {
                        *p = a->next;
                        break;
                }
        m->n--;
        sim_dmabuf_detach(&a->import);
        sim_file_put(c, a->file);
        free(a);
}

static int tell_state(const struct importer *m, struct tdi_test_import_state *q) {
        const struct attached *a = find(m, q->id);

        if (!a)
                return -ENOENT;
        *q = (struct tdi_test_import_state) {
                .id = a->id,
                .flags = a->import.mapped ? TDI_TEST_IMPORT_MAPPED : 0,
                .notified = a->notified,
                .maps = a->maps,
                .error = a->error,
        };
        if (a->import.mapped) {
                q->segments = a->mapping.segments;
                q->address = a->mapping.address;
                q->length = a->mapping.length;
        }
        return 0;
}

static int access_buffer(const struct importer *m, struct tdi_test_import_access *q) {
        struct attached *a = find(m, q->id);
        int r;

        if (!a)
                return -ENOENT;
        if (q->write > 1)
                return -EINVAL;
        if (!a->import.mapped) {
                r = map(a);
                if (r < 0)
                        return r;
        }
        return sim_dmabuf_access(a->import.buffer, q->offset, &q->value, sizeof(q->value), q->write);
}

static int importer_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct importer *m = f->data;
        struct attached *a;

        switch (io->request) {
        case TDI_TEST_IMPORT_ATTACH:
                return attach(c, m, io);
        case TDI_TEST_IMPORT_STATE:
                return tell_state(m, (void *) io->arg);
        case TDI_TEST_IMPORT_ACCESS:
                return access_buffer(m, (void *) io->arg);
        case TDI_TEST_SOURCE_CREATE:
                return create_source(c, io);
        case TDI_TEST_SOURCE_MOVE:
                return move_source(c, io);
        case TDI_TEST_IMPORT_MAP:
        case TDI_TEST_IMPORT_UNMAP:
        case TDI_TEST_IMPORT_DETACH:
                a = find(m, io->value);
                if (!a)
                        return -ENOENT;
                if (io->request == TDI_TEST_IMPORT_MAP)
                        return map(a);
                if (io->request == TDI_TEST_IMPORT_UNMAP) {
                        if (!a->import.mapped)
                                return -EINVAL;
                        sim_dmabuf_unmap(&a->import);
                } else
                        detach(c, m, a);
                return 0;
        default:
                return -ENOTTY;
        }
}

static void importer_release(struct sim_call *c, struct sim_file *f) {
        struct importer *m = f->data;

        while (m->list)
                detach(c, m, m->list);
        free(m);
}

static const struct sim_file_ops importer_ops = { .kind = "importer", .ioctl = importer_ioctl, .release = importer_release };

static int importer_open(_unused_ struct sim_call *c, _unused_ struct sim_node *n, struct sim_file *f) {
        struct importer *m = calloc(1, sizeof(*m));

        if (!m)
                return -ENOMEM;
        m->next_id = 1;
        f->ops = &importer_ops;
        f->data = m;
        return 0;
}

static const struct sim_node_ops importer_node_ops = { .open = importer_open };

int sim_importer_load(struct sim_call *c) {
        struct sim_node *dev = sim_dirs(c->sim, "dev");

        if (sim_child(dev, "tdid_test_importer"))
                return -EEXIST;
        sim_device_node(dev, "tdid_test_importer", &importer_node_ops, NULL);
        return 0;
}

int sim_importer_unload(struct sim_call *c) {
        struct sim_node *n = sim_child(sim_dirs(c->sim, "dev"), "tdid_test_importer");

        if (!n)
                return -ENOENT;
        sim_remove(c, n, NULL);
        return 0;
}
