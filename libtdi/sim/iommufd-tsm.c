/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * iommufd's calls for TSMs, as patches of 2026 had them and no released kernel has (host/iommufd_tsm.h). A machine has them in one form while a TSM
 * is loaded with "iommufd_tsm", or in none. Under them is the PCI/TSM core of tsm.c.
 */
#include "host/iommufd_tsm.h"
#include "sim/iommufd.h"
#include "sim/tsm-abi.h"
#include "sim/vfio.h"

/* A step between the two: v7's struct, without the operations on objects. tdid must not take it for either. */
#define FORM_BETWEEN 6

static unsigned form(struct sim *sim) {
        return sim_machine(sim)->iommufd_tsm;
}

/* VFIO's own: it took it over when the device was bound to the iommufd. */
static const void *kvm_of(const struct vdevice *v) {
        const struct sim_vfio *vfio = v->device->fn->vfio;

        return vfio ? vfio->kvm : NULL;
}

static int bind(struct sim_call *c, struct vdevice *v) {
        int r = sim_tsm_bind(c, v->device->fn, kvm_of(v), (uint32_t) v->virt_id);

        v->bound |= r >= 0;
        return r;
}

int vdevice_tsm_made(struct sim_call *c, struct vdevice *v) {
        if (form(c->sim) != 7 || !kvm_of(v) || sim_tsm_can_bind(v->device->fn) == -ENOTCONN)
                return 0;
        return bind(c, v);
}

void vdevice_tsm_end(struct sim_call *c, struct vdevice *v) {
        if (v->bound)
                (void) sim_tsm_unbind(c, v->device->fn);
        v->bound = false;
}

static int tsm_op(struct sim_call *c, struct iommufd_ctx *x, const struct tdi_iommu_vdevice_tsm_op *q) {
        struct vdevice *v;
        int r;

        if (q->flags)
                return -EOPNOTSUPP;
        v = iommufd_find(x, q->vdevice_id, IOMMUFD_VDEVICE);
        if (!v)
                return -ENOENT;
        if (!kvm_of(v))
                return -ENODEV;
        v->object.users++;
        switch (q->type) {
        case TDI_IOMMU_VDEVICE_TSM_BIND:
                r = bind(c, v);
                break;
        case TDI_IOMMU_VDEVICE_TSM_UNBIND:
                vdevice_tsm_end(c, v);
                r = 0;
                break;
        default:
                r = -EINVAL;
        }
        v->object.users--;
        return r;
}

/* What is left over; blobs @in and the next have the request and the room for its answer. */
static int pass_on(struct sim_call *c, struct iommufd_ctx *x, uint32_t id, struct sim_ioctl *io, unsigned in, struct sim_tsm_request *q) {
        struct vdevice *v = iommufd_find(x, id, IOMMUFD_VDEVICE);
        int r;

        if (!v)
                return -ENOENT;
        q->in = io->blob[in].data;
        q->out = io->blob[in + 1].data;
        v->object.users++;
        r = sim_tsm_guest_req(c, v->device->fn, q);
        v->object.users--;
        /* The TSM takes every request whole. */
        return r < 0 ? r : q->out_len > 0 ? (int) (q->out_len - q->used) : 0;
}

static int req_v5(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        const struct tdi_iommu_vdevice_tsm_req_v5 *q = (void *) io->arg;
        struct sim_tsm_request request = { .scope = q->scope, .in_len = q->req_len, .out_len = q->resp_len };

        if (q->__reserved)
                return -EOPNOTSUPP;
        if (q->scope > 3)
                return -EINVAL;
        return pass_on(c, x, q->vdevice_id, io, 0, &request);
}

static int req_v7(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_vdevice_tsm_req_v7 *q = (void *) io->arg;
        struct sim_tsm_request request = { .scope = TDI_TEST_TSM_SCOPE_INFO, .in_len = q->req_len, .out_len = q->resp_len };
        int r;

        if (q->tvm_arch < TDI_IOMMU_TVM_ARCH_CCA || q->tvm_arch > TDI_IOMMU_TVM_ARCH_TDX)
                return -EINVAL;
        switch (q->op) {
        case TDI_IOMMU_TSM_REQ_VALIDATE_MMIO:
        case TDI_IOMMU_TSM_REQ_SET_TDI_STATE:
                request.scope = TDI_TEST_TSM_SCOPE_STATE_CHANGE;
                break;
        case TDI_IOMMU_TSM_REQ_READ_OBJECT:
        case TDI_IOMMU_TSM_REQ_REGENERATE:
        case TDI_IOMMU_TSM_REQ_OBJECT_INFO:
                if (form(c->sim) == FORM_BETWEEN)
                        return -EINVAL;
                break;
        default:
                return -EINVAL;
        }
        request.op = q->op;
        q->tsm_code = 0;
        r = pass_on(c, x, q->vdevice_id, io, 2, &request);
        q->tsm_code = request.code;
        return r;
}

int iommufd_tsm_ioctl(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        unsigned f = form(c->sim);
        size_t size = f == 5 ? sizeof(struct tdi_iommu_vdevice_tsm_req_v5) : sizeof(struct tdi_iommu_vdevice_tsm_req_v7);

        if (f == 0 || (io->request == TDI_IOMMU_VDEVICE_TSM_OP && f == 7))
                return -ENOTTY;
        if (io->request == TDI_IOMMU_VDEVICE_TSM_OP)
                size = sizeof(struct tdi_iommu_vdevice_tsm_op);
        if (io->size < size)
                return -EINVAL;
        for (size_t i = size; i < io->size; i++)
                if (io->arg[i])
                        return -E2BIG;
        if (io->request == TDI_IOMMU_VDEVICE_TSM_OP)
                return tsm_op(c, x, (void *) io->arg);
        return f == 5 ? req_v5(c, x, io) : req_v7(c, x, io);
}
