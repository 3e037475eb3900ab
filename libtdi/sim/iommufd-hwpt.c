/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Page tables that a user makes, vIOMMUs, virtual devices, and their queues (drivers/iommu/iommufd/{hw_pagetable,viommu,eventq}.c).
 * What the hardware behind the call allows is the IOMMU driver's: an SMMUv3 nests, the others do not.
 */
#include "sim/iommufd.h"

#define INVALIDATE_ENTRIES_MAX (1u << 19)

/* ---- page tables ---- */

struct hwpt *hwpt_paging_of(struct hwpt *h) {
        if (h->object.type == IOMMUFD_HWPT_PAGING)
                return h;
        return h->viommu ? h->viommu->hwpt : h->parent;
}

void hwpt_free(struct sim_call *c, struct hwpt *h) {
        (void) c;
        if (h->object.type == IOMMUFD_HWPT_PAGING) {
                ioas_remove_hwpt(h->ioas, h);
                h->ioas->object.users--;
        } else if (h->viommu)
                h->viommu->object.users--;
        else
                h->parent->object.users--;
        if (h->fault)
                h->fault->object.users--;
        free(h);
}

/* *_domain_alloc_paging_flags(): -EOPNOTSUPP for what the hardware has not. */
static int check_paging_flags(struct sim *sim, uint32_t flags, bool has_data) {
        const uint32_t valid = TDI_IOMMU_HWPT_ALLOC_NEST_PARENT | TDI_IOMMU_HWPT_ALLOC_DIRTY_TRACKING | TDI_IOMMU_HWPT_FAULT_ID_VALID |
                               TDI_IOMMU_HWPT_ALLOC_PASID;

        if (flags & ~valid || flags & TDI_IOMMU_HWPT_ALLOC_DIRTY_TRACKING || has_data)
                return -EOPNOTSUPP;
        if (flags & TDI_IOMMU_HWPT_FAULT_ID_VALID && flags & TDI_IOMMU_HWPT_ALLOC_NEST_PARENT)
                return -EOPNOTSUPP;
        flags &= ~(uint32_t) TDI_IOMMU_HWPT_FAULT_ID_VALID;
        if (flags == 0)
                return 0;
        if (flags == TDI_IOMMU_HWPT_ALLOC_NEST_PARENT)
                return iommufd_can_nest(sim) ? 0 : -EOPNOTSUPP;
        /* Page tables that suit a PASID: any first stage of an SMMU does, and Intel's driver does not ask
         * (intel_iommu_domain_alloc_second_stage). */
        return flags == TDI_IOMMU_HWPT_ALLOC_PASID && !streq(sim_machine(sim)->platform, "sev-snp") ? 0 : -EOPNOTSUPP;
}

/* iommufd_hwpt_paging_alloc() */
int hwpt_paging_new(struct sim_call *c, struct iommufd_ctx *x, struct ioas *a, struct iommufd_device *d, uint32_t flags, bool has_data,
                    bool attach, struct hwpt **ret) {
        struct hwpt *h;
        int r;

        (void) c;
        r = check_paging_flags(x->sim, flags, has_data);
        if (r < 0)
                return r;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        r = iommufd_add(x, &h->object, IOMMUFD_HWPT_PAGING);
        if (r < 0) {
                free(h);
                return r;
        }
        h->ioas = a;
        h->nest_parent = flags & TDI_IOMMU_HWPT_ALLOC_NEST_PARENT;
        h->enforce_coherency = !d->fn->group->no_coherency;
        if (attach) {
                r = hwpt_attach(h, d);
                if (r < 0)
                        goto fail;
        }
        r = ioas_add_hwpt(a, h);
        if (r < 0) {
                if (attach) {
                        d->attached = false;
                        d->fn->group->hwpt = NULL;
                        d->fn->group->hwpt_count = 0;
                        ioas_unreserve(a, d);
                }
                goto fail;
        }
        a->object.users++;
        *ret = h;
        return 0;
fail:
        iommufd_remove(x, &h->object, false);
        free(h);
        return r;
}

/* arm_smmu_validate_vste() */
static int check_ste(uint64_t ste[2]) {
        const uint64_t allowed0 = 1 | 0xe | 0x30 | UINT64_C(0x000fffffffffffc0) | UINT64_C(0xf800000000000000);
        const uint64_t allowed1 = 0x3 | 0xc | 0x30 | 0xc0 | 1u << 27 | 3u << 28;
        unsigned config = (unsigned) (ste[0] >> 1) & 7, ats = (unsigned) (ste[1] >> 28) & 3;

        if (!(ste[0] & 1)) {
                ste[0] = ste[1] = 0;
                return 0;
        }
        if (ste[0] & ~allowed0 || ste[1] & ~allowed1)
                return -EIO;
        if ((config != 0 && config != 4 && config != 5) || ats > 1)
                return -EIO;
        return 0;
}

/* arm_vsmmu_alloc_domain_nested() */
static int nested_new(struct iommufd_ctx *x, struct viommu *v, uint32_t flags, uint32_t type, const struct sim_ioctl *io,
                      struct hwpt **ret) {
        uint64_t ste[2];
        struct hwpt *h;
        int r;

        if (flags & ~(uint32_t) TDI_IOMMU_HWPT_FAULT_ID_VALID)
                return -EOPNOTSUPP;
        if (type != TDI_IOMMU_HWPT_DATA_ARM_SMMUV3 || io->blob[0].size < sizeof(ste))
                return -EINVAL;
        if (!io->blob[0].data)
                return -EFAULT;
        for (size_t i = sizeof(ste); i < io->blob[0].size; i++)
                if (io->blob[0].data[i])
                        return -E2BIG;
        memcpy(ste, io->blob[0].data, sizeof(ste));
        r = check_ste(ste);
        if (r < 0)
                return r;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        r = iommufd_add(x, &h->object, IOMMUFD_HWPT_NESTED);
        if (r < 0) {
                free(h);
                return r;
        }
        memcpy(h->ste, ste, sizeof(ste));
        h->viommu = v;
        v->object.users++;
        *ret = h;
        return 0;
}

/* iommufd_hwpt_alloc(): a page table that is not found is -EINVAL here, not -ENOENT. */
int iommufd_hwpt_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_hwpt_alloc *cmd = (void *) io->arg;
        struct iommufd_object *pt;
        struct iommufd_device *d;
        struct iommufd_fault *fault;
        struct hwpt *h;
        int r;

        if (cmd->__reserved)
                return -EOPNOTSUPP;
        if ((cmd->data_type == TDI_IOMMU_HWPT_DATA_NONE) != (cmd->data_len == 0))
                return -EINVAL;
        d = iommufd_find(x, cmd->dev_id, IOMMUFD_DEVICE);
        if (!d)
                return -ENOENT;
        pt = iommufd_find(x, cmd->pt_id, IOMMUFD_ANY);
        if (!pt)
                return -EINVAL;
        switch (pt->type) {
        case IOMMUFD_IOAS:
                r = hwpt_paging_new(c, x, (struct ioas *) pt, d, cmd->flags, cmd->data_len > 0, false, &h);
                break;
        case IOMMUFD_HWPT_PAGING:
                r = -EOPNOTSUPP; /* an SMMU nests below a vIOMMU only */
                break;
        case IOMMUFD_VIOMMU:
                if (cmd->data_len == 0)
                        r = -EOPNOTSUPP;
                else
                        r = nested_new(x, (struct viommu *) pt, cmd->flags, cmd->data_type, io, &h);
                break;
        default:
                r = -EINVAL;
                break;
        }
        if (r < 0)
                return r;
        if (cmd->flags & TDI_IOMMU_HWPT_FAULT_ID_VALID) {
                fault = iommufd_find(x, cmd->fault_id, IOMMUFD_FAULT);
                if (!fault) {
                        iommufd_remove(x, &h->object, false);
                        hwpt_free(c, h);
                        return -ENOENT;
                }
                h->fault = fault;
                fault->object.users++;
        }
        cmd->out_hwpt_id = h->object.id;
        return 0;
}

/* iommufd_hwpt_invalidate(): nothing is cached here, so what is well-formed is done. */
int iommufd_hwpt_invalidate(struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_hwpt_invalidate *cmd = (void *) io->arg;
        uint32_t n = cmd->entry_num, done = 0;
        struct iommufd_object *pt;
        int r = 0;

        cmd->entry_num = 0;
        if (cmd->__reserved)
                return -EOPNOTSUPP;
        if (n > 0 && (!cmd->data_uptr || cmd->entry_len == 0 || cmd->entry_len > IOMMUFD_PAGE || n > INVALIDATE_ENTRIES_MAX))
                return -EINVAL;
        pt = iommufd_find(x, cmd->hwpt_id, IOMMUFD_ANY);
        if (!pt)
                return -ENOENT;
        if (pt->type == IOMMUFD_HWPT_NESTED)
                return -EOPNOTSUPP;
        if (pt->type != IOMMUFD_VIOMMU)
                return -EINVAL;
        /* arm_vsmmu_cache_invalidate(): commands of 16 bytes. */
        if (cmd->data_type != 1 || (n > 0 && cmd->entry_len < 16))
                return -EINVAL;
        for (; done < n; done++) {
                const uint8_t *command;
                size_t at = (size_t) done * cmd->entry_len;
                const struct viommu *v = (struct viommu *) pt;
                uint32_t stream;
                bool found = false;

                if (!io->blob[0].data || at + cmd->entry_len > io->blob[0].size)
                        return -EFAULT;
                command = io->blob[0].data + at;
                switch (command[0]) {
                case 0x10: /* TLBI_NH_ALL, _ASID, _VA, _VAA, TLBI_NSNH_ALL */
                case 0x11:
                case 0x12:
                case 0x13:
                case 0x30:
                        continue;
                case 0x05: /* CFGI_CD, CFGI_CD_ALL, ATC_INV: of a stream that has a vdevice */
                case 0x06:
                case 0x40:
                        memcpy(&stream, command + 4, sizeof(stream));
                        for (size_t i = 0; i < v->n_vdevices; i++)
                                found = found || v->vdevices[i]->virt_id == stream;
                        if (found)
                                continue;
                        break;
                default:
                        break;
                }
                r = -EIO;
                break;
        }
        cmd->entry_num = done;
        return r;
}

/* ---- vIOMMUs and virtual devices ---- */

/* A vIOMMU that was grafted onto the machine tells the trace what its driver is asked, as the test module's log on a real kernel. */
static int grafted(struct sim_call *c, const char *what, const char *device, bool may_fail) {
        int r;

        if (!sim_machine(c->sim)->fake_viommu)
                return 0;
        r = sim_fault(c, what, device);
        if (!may_fail)
                r = 0;
        sim_trace(c, what, device, r);
        return r;
}

void viommu_free(struct sim_call *c, struct viommu *v) {
        (void) grafted(c, "tsm.viommu_destroy", "-", false);
        v->hwpt->object.users--;
        free(v->vdevices);
        free(v);
}

int iommufd_viommu_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_viommu_alloc *cmd = (void *) io->arg;
        struct viommu *v;
        struct hwpt *h;
        int r;

        if (cmd->flags || cmd->type == TDI_IOMMU_VIOMMU_TYPE_DEFAULT)
                return -EOPNOTSUPP;
        if (!iommufd_find(x, cmd->dev_id, IOMMUFD_DEVICE))
                return -ENOENT;
        /* arm_smmu_get_viommu_size() */
        if (!iommufd_can_nest(x->sim) || cmd->type != TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3)
                return -EOPNOTSUPP;
        h = iommufd_find(x, cmd->hwpt_id, IOMMUFD_HWPT_PAGING);
        if (!h)
                return -ENOENT;
        if (!h->nest_parent)
                return -EINVAL;
        r = grafted(c, "tsm.viommu_init", "-", true);
        if (r < 0)
                return r;
        v = calloc(1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        r = iommufd_add(x, &v->object, IOMMUFD_VIOMMU);
        if (r < 0) {
                free(v);
                return r;
        }
        v->type = cmd->type;
        v->hwpt = h;
        h->object.users++;
        cmd->out_viommu_id = v->object.id;
        return 0;
}

void vdevice_free(struct sim_call *c, struct vdevice *d) {
        struct viommu *v = d->viommu;

        vdevice_tsm_end(c, d);
        (void) grafted(c, "tsm.vdevice_destroy", d->device->fn->bdf, false);
        for (size_t i = 0; i < v->n_vdevices; i++)
                if (v->vdevices[i] == d) {
                        v->vdevices[i] = v->vdevices[--v->n_vdevices];
                        break;
                }
        v->object.users--;
        d->device->vdevice = NULL;
        free(d);
}

int iommufd_vdevice_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_vdevice_alloc *cmd = (void *) io->arg;
        struct vdevice **vdevices, *n;
        struct iommufd_device *d;
        struct viommu *v;
        int r;

        v = iommufd_find(x, cmd->viommu_id, IOMMUFD_VIOMMU);
        d = v ? iommufd_find(x, cmd->dev_id, IOMMUFD_DEVICE) : NULL;
        if (!d || d->destroying)
                return -ENOENT;
        if (d->vdevice)
                return -EEXIST;
        for (size_t i = 0; i < v->n_vdevices; i++)
                if (v->vdevices[i]->virt_id == cmd->virt_id)
                        return -EEXIST;
        r = grafted(c, "tsm.vdevice_init", d->fn->bdf, true);
        if (r < 0)
                return r;
        n = calloc(1, sizeof(*n));
        if (!n)
                return -ENOMEM;
        n->viommu = v;
        n->device = d;
        n->virt_id = cmd->virt_id;
        /* It may sleep: nothing that it is about goes meanwhile, and nobody else makes one. */
        v->object.users++;
        d->vdevice = n;
        r = vdevice_tsm_made(c, n);
        v->object.users--;
        d->vdevice = NULL;
        vdevices = r >= 0 ? realloc(v->vdevices, (v->n_vdevices + 1) * sizeof(struct vdevice *)) : NULL;
        if (vdevices)
                v->vdevices = vdevices;
        else if (r >= 0)
                r = -ENOMEM;
        if (r >= 0)
                r = iommufd_add(x, &n->object, IOMMUFD_VDEVICE);
        if (r < 0) {
                vdevice_tsm_end(c, n);
                (void) grafted(c, "tsm.vdevice_destroy", d->fn->bdf, false);
                free(n);
                return r;
        }
        v->object.users++;
        v->vdevices[v->n_vdevices++] = n;
        d->vdevice = n;
        cmd->out_vdevice_id = n->object.id;
        return 0;
}
