/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of bind providers. */
#include "provider.h"

#include "host/iommufd_tsm.h"
#include "host/tdid_bind.h"

/* ---- the module ---- */

static int module_bind(TdiHost *host, int fd, struct provider_tdi *tdi) {
        struct tdid_bind_bind bind = {
                .argsz = sizeof(bind), .function = tdi->function, .tdi_id = tdi->guest_rid, .device_fd = tdi->device, .vm_fd = tdi->vm
        };

        return host_ioctl(host, fd, TDID_BIND_IOC_BIND, &bind);
}

static int module_unbind(TdiHost *host, int fd, _unused_ uint32_t vdevice) {
        int r = host_ioctl(host, fd, TDID_BIND_IOC_UNBIND, NULL);

        return r == -ENOTCONN ? 0 : r;
}

static bool changes(enum tdi_request_kind kind) {
        return tdi_request_target(kind) != TDI_TDISP_INVALID;
}

static int module_request(TdiHost *host, int fd, _unused_ uint32_t vdevice, struct provider_request *q) {
        struct tdid_bind_request arg = {
                .argsz = sizeof(arg),
                .scope = changes(q->kind),
                .in_len = q->in_len,
                .out_len = q->out_len,
                .in = (uint64_t) (uintptr_t) q->in,
                .out = (uint64_t) (uintptr_t) q->out,
        };
        int r;

        if (q->op != 0)
                return -EINVAL;
        r = host_ioctl(host, fd, TDID_BIND_IOC_REQUEST, &arg);
        q->tsm_code = arg.tsm_code;
        q->out_used = arg.out_used;
        return r < 0 ? r : arg.out_used > arg.out_len ? -EIO : 0;
}

/* ---- iommufd, both forms ---- */

/* Positive results are what is left over. Where there is no answer that is of the request, and a TSM that leaves some has not understood it. */
static int take_residue(int r, struct provider_request *q) {
        q->out_used = 0;
        if (r < 0)
                return r;
        if ((uint32_t) r > q->out_len)
                return -EIO;
        q->out_used = q->out_len - (uint32_t) r;
        return 0;
}

/* It is gone, and with it what was bound. */
static int or_gone(int r) {
        return r == -ENOENT ? 0 : r;
}

static int v5_op(TdiHost *host, int fd, uint32_t type, uint32_t vdevice) {
        struct tdi_iommu_vdevice_tsm_op op = { .size = sizeof(op), .type = type, .vdevice_id = vdevice };

        return host_ioctl(host, fd, TDI_IOMMU_VDEVICE_TSM_OP, &op);
}

static int v5_bind(TdiHost *host, int fd, struct provider_tdi *tdi) {
        return v5_op(host, fd, TDI_IOMMU_VDEVICE_TSM_BIND, tdi->vdevice);
}

static int v5_unbind(TdiHost *host, int fd, uint32_t vdevice) {
        return or_gone(v5_op(host, fd, TDI_IOMMU_VDEVICE_TSM_UNBIND, vdevice));
}

static int v5_request(TdiHost *host, int fd, uint32_t vdevice, struct provider_request *q) {
        struct tdi_iommu_vdevice_tsm_req_v5 arg = {
                .size = sizeof(arg),
                .vdevice_id = vdevice,
                .scope = changes(q->kind),
                .req_len = q->in_len,
                .resp_len = q->out_len,
                .req_uptr = (uint64_t) (uintptr_t) q->in,
                .resp_uptr = (uint64_t) (uintptr_t) q->out,
        };

        if (q->op != 0)
                return -EINVAL;
        return take_residue(host_ioctl(host, fd, TDI_IOMMU_VDEVICE_TSM_REQ, &arg), q);
}

static int destroy(TdiHost *host, int fd, uint32_t id) {
        struct tdi_iommu_destroy arg = { .size = sizeof(arg), .id = id };

        return id == 0 ? 0 : or_gone(host_ioctl(host, fd, TDI_IOMMU_DESTROY, &arg));
}

/* The allocation binds: one that is there and bound to nothing was made when there was nothing to bind it to. */
static int v7_bind(TdiHost *host, int fd, struct provider_tdi *tdi) {
        struct tdi_iommu_vdevice_alloc arg = { .size = sizeof(arg), .viommu_id = tdi->viommu, .dev_id = tdi->devid, .virt_id = tdi->guest_rid };
        int r;

        r = destroy(host, fd, tdi->vdevice);
        if (r < 0)
                return r;
        tdi->vdevice = 0;
        r = host_ioctl(host, fd, TDI_IOMMU_VDEVICE_ALLOC, &arg);
        if (r >= 0)
                tdi->vdevice = arg.out_vdevice_id;
        return r < 0 ? r : 0;
}

static int v7_unbind(TdiHost *host, int fd, uint32_t vdevice) {
        return destroy(host, fd, vdevice);
}

static const struct {
        bool there, changes;
} operations[] = {
        [TDI_IOMMU_TSM_REQ_VALIDATE_MMIO] = { true, true },
        [TDI_IOMMU_TSM_REQ_SET_TDI_STATE] = { true, true },
        [TDI_IOMMU_TSM_REQ_READ_OBJECT] = { true, false },
        [TDI_IOMMU_TSM_REQ_REGENERATE] = { true, false },
        [TDI_IOMMU_TSM_REQ_OBJECT_INFO] = { true, false },
};

/* 0: there is no usual one. */
static uint32_t usual_op(enum tdi_request_kind kind) {
        return changes(kind) ? TDI_IOMMU_TSM_REQ_SET_TDI_STATE : kind == TDI_REQUEST_REPORT ? TDI_IOMMU_TSM_REQ_READ_OBJECT : 0;
}

static int v7_request(TdiHost *host, int fd, uint32_t vdevice, struct provider_request *q) {
        struct tdi_iommu_vdevice_tsm_req_v7 arg = {
                .size = sizeof(arg),
                .vdevice_id = vdevice,
                .op = q->op ?: usual_op(q->kind),
                .tvm_arch = q->tvm_arch,
                .req_len = q->in_len,
                .resp_len = q->out_len,
                .req_uptr = (uint64_t) (uintptr_t) q->in,
                .resp_uptr = (uint64_t) (uintptr_t) q->out,
        };
        int r;

        /* Its kind says what may be asked for: no operation is more than that. */
        if (arg.op >= ARRAY_SIZE(operations) || !operations[arg.op].there || operations[arg.op].changes != changes(q->kind))
                return -EINVAL;
        r = host_ioctl(host, fd, TDI_IOMMU_VDEVICE_TSM_REQ, &arg);
        q->tsm_code = arg.tsm_code;
        return take_residue(r, q);
}

enum tdi_tdisp provider_target(const struct provider_request *q) {
        return q->op == TDI_IOMMU_TSM_REQ_VALIDATE_MMIO ? TDI_TDISP_INVALID : tdi_request_target(q->kind);
}

bool provider_is_report(const struct provider_request *q) {
        return q->kind == TDI_REQUEST_REPORT && (q->op == 0 || q->op == TDI_IOMMU_TSM_REQ_READ_OBJECT);
}

/* ---- the table ---- */

#define MODULE_NAME(api) TDID_BIND_NAME " " #api
#define MODULE_NAME_OF(api) MODULE_NAME(api)

static const struct provider providers[_PROVIDER_MAX] = {
        [PROVIDER_MODULE] = { MODULE_NAME_OF(TDID_BIND_API), module_bind, module_unbind, module_request },
        [PROVIDER_IOMMUFD_V5] = { "iommufd v5", v5_bind, v5_unbind, v5_request },
        [PROVIDER_IOMMUFD_V7] = { "iommufd v7", v7_bind, v7_unbind, v7_request },
};

const struct provider *provider_get(enum provider_id id) {
        return id >= 0 && id < _PROVIDER_MAX ? &providers[id] : NULL;
}

enum provider_id provider_find(const char *name) {
        for (int i = 0; name && i < _PROVIDER_MAX; i++)
                if (streq(providers[i].name, name))
                        return i;
        return _PROVIDER_INVALID;
}

enum provider_id provider_probe(TdiHost *host, int iommufd) {
        int form = iommufd_tsm_probe(host, iommufd);

        return form == 5 ? PROVIDER_IOMMUFD_V5 : form == 7 ? PROVIDER_IOMMUFD_V7 : (enum provider_id) form;
}
