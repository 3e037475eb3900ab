/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Queues that are read: page faults, and what a vIOMMU reports (drivers/iommu/iommufd/eventq.c). */
#include "sim/iommufd.h"

#include "sim/kernel.h"

#define VEVENTQ_DEPTH_MAX (1u << 19)

struct event_file {
        struct iommufd_object *object;
        struct sim_file *ctx;
};

void iommufd_event_object_free(struct iommufd_object *o) {
        if (o->type == IOMMUFD_VEVENTQ) {
                struct veventq *q = (struct veventq *) o;

                q->viommu->events = NULL;
                q->viommu->object.users--;
                free(q->queued);
        }
        free(o);
}

/* Nothing in the model asks for pages of a guest. */
static ssize_t fault_read(struct sim_call *c, struct sim_file *f, void *buf, size_t size, uint64_t offset) {
        (void) c;
        (void) f;
        (void) buf;
        (void) size;
        return offset > 0 ? -ESPIPE : 0;
}

/* iommufd_veventq_fops_read(): as many as fit, of those that were lost their header. */
static ssize_t event_read(struct sim_call *c, struct sim_file *f, void *buf, size_t size, uint64_t offset) {
        struct veventq *q = (struct veventq *) ((struct event_file *) f->data)->object;
        uint8_t *p = buf;
        size_t done = 0;

        (void) c;
        if (offset > 0)
                return -ESPIPE;
        while (q->n > 0 && size - done >= sizeof(q->queued[0])) {
                memcpy(p + done, &q->queued[0], sizeof(q->queued[0]));
                done += sizeof(q->queued[0]);
                memmove(q->queued, q->queued + 1, --q->n * sizeof(q->queued[0]));
        }
        if (q->n == 0 && q->lost && size - done >= sizeof(struct tdi_iommufd_vevent_header)) {
                const struct tdi_iommufd_vevent_header header = { TDI_IOMMU_VEVENTQ_FLAG_LOST_EVENTS, q->lost_sequence };

                memcpy(p + done, &header, sizeof(header));
                done += sizeof(header);
                q->lost = false;
        }
        if (q->n > 0 || q->lost)
                sim_file_signal(f);
        return (ssize_t) done;
}

static void event_release(struct sim_call *c, struct sim_file *f) {
        struct event_file *e = f->data;

        if (e->object->type == IOMMUFD_VEVENTQ)
                ((struct veventq *) e->object)->file = NULL;
        e->object->users--;
        sim_file_put(c, e->ctx);
        free(e);
}

static const struct sim_file_ops fault_ops = { .kind = "iommufd-fault", .pread = fault_read, .release = event_release };
static const struct sim_file_ops veventq_ops = { .kind = "iommufd-events", .pread = event_read, .release = event_release };

/* iommufd_eventq_init(): the file keeps the object and the context. */
static struct sim_file *event_file_new(struct sim_call *c, struct iommufd_ctx *x, struct iommufd_object *o, const struct sim_file_ops *ops,
                                       const char *name) {
        struct event_file *e;
        struct sim_file *f;

        e = calloc(1, sizeof(*e));
        if (!e)
                return NULL;
        f = sim_file_new(c, ops, e, O_RDWR, name, "");
        if (!f) {
                free(e);
                return NULL;
        }
        e->object = o;
        o->users++;
        e->ctx = sim_file_get(x->file);
        return f;
}

int iommufd_fault_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_fault_alloc *cmd = (void *) io->arg;
        struct iommufd_fault *q;
        struct sim_file *f;
        int r;

        if (cmd->flags)
                return -EOPNOTSUPP;
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        r = iommufd_add(x, &q->object, IOMMUFD_FAULT);
        if (r < 0) {
                free(q);
                return r;
        }
        f = event_file_new(c, x, &q->object, &fault_ops, "anon_inode:[iommufd-pgfault]");
        if (!f) {
                iommufd_remove(x, &q->object, false);
                free(q);
                return -ENOMEM;
        }
        cmd->out_fault_id = q->object.id;
        io->out[io->n_out++] = f;
        return 0;
}

int iommufd_veventq_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_veventq_alloc *cmd = (void *) io->arg;
        struct veventq *q;
        struct viommu *v;
        struct sim_file *f;
        int r;

        if (cmd->flags || cmd->__reserved || cmd->type == TDI_IOMMU_VEVENTQ_TYPE_DEFAULT)
                return -EOPNOTSUPP;
        if (cmd->veventq_depth == 0 || cmd->veventq_depth > VEVENTQ_DEPTH_MAX)
                return -EINVAL;
        v = iommufd_find(x, cmd->viommu_id, IOMMUFD_VIOMMU);
        if (!v)
                return -ENOENT;
        if (v->events && v->events->type == cmd->type)
                return -EEXIST;
        if (v->events)
                return -ENOMEM;
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        r = iommufd_add(x, &q->object, IOMMUFD_VEVENTQ);
        if (r < 0) {
                free(q);
                return r;
        }
        f = event_file_new(c, x, &q->object, &veventq_ops, "anon_inode:[iommufd-viommu-event]");
        if (!f) {
                iommufd_remove(x, &q->object, false);
                free(q);
                return -ENOMEM;
        }
        q->type = cmd->type;
        q->depth = cmd->veventq_depth;
        q->file = f;
        q->viommu = v;
        v->events = q;
        v->object.users++;
        cmd->out_veventq_id = q->object.id;
        io->out[io->n_out++] = f;
        return 0;
}

/* iommufd_viommu_report_event(), as an SMMUv3 calls it: of the stream that the guest knows. */
int iommufd_report_event(struct iommufd_device *d, uint8_t event, uint64_t address) {
        struct vdevice *v = d ? d->vdevice : NULL;
        struct veventq *q = v ? v->viommu->events : NULL;
        struct veventq_entry *more;

        if (!v)
                return -ENOENT;
        if (!q || q->type != TDI_IOMMU_VEVENTQ_TYPE_ARM_SMMUV3)
                return -EOPNOTSUPP;
        more = q->n < q->depth ? realloc(q->queued, (q->n + 1) * sizeof(*more)) : NULL;
        if (more) {
                q->queued = more;
                q->queued[q->n++] = (struct veventq_entry){ .header.sequence = q->sequence, .event = { event | v->virt_id << 32, 0, address, 0 } };
        } else
                q->lost_sequence = q->sequence;
        /* What was lost before an event shows in its number. */
        q->lost = !more;
        q->sequence = (q->sequence + 1) & INT32_MAX;
        if (q->file)
                sim_file_signal(q->file);
        return 0;
}
