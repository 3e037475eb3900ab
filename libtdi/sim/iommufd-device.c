/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices of an iommufd: bind, attach, replace, detach (drivers/iommu/iommufd/device.c). A group has one page table, which the first
 * of its devices brings; each device brings its reserved windows.
 */
#include "sim/iommufd.h"

/* iommufd_bind_iommu(): whoever binds has to be safe from the device's interrupts, and alone in its group. */
int iommufd_device_bind(struct sim_call *c, struct sim_file *ctx, struct sim_function *fn, struct iommufd_device **ret) {
        struct iommufd_ctx *x = iommufd_ctx_of(ctx);
        struct iommufd_device *d;
        int r;

        if (!fn->group)
                return -ENODEV;
        d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        r = iommufd_add(x, &d->object, IOMMUFD_DEVICE);
        if (r < 0) {
                free(d);
                return r;
        }
        r = sim_machine(c->sim)->unsafe_interrupts ? -EPERM : sim_group_claim(fn->group, x);
        if (r < 0) {
                iommufd_remove(x, &d->object, false);
                free(d);
                return r;
        }
        d->ctx = x;
        d->file = sim_file_get(ctx);
        d->fn = fn;
        d->object.users++; /* the driver's, until it unbinds */
        *ret = d;
        return 0;
}

/* iommufd_device_pre_destroy(): a vdevice that is left goes first, and its number stays taken as long as the context lives. */
void iommufd_device_unbind(struct sim_call *c, struct iommufd_device *d) {
        if (!d)
                return;
        d->destroying = true;
        if (d->vdevice) {
                iommufd_remove(d->ctx, &d->vdevice->object, true);
                vdevice_free(c, d->vdevice);
        }
        iommufd_remove(d->ctx, &d->object, false);
        sim_group_release(d->fn->group, d->ctx);
        sim_file_put(c, d->file);
        free(d);
}

int iommufd_device_id(struct sim_function *fn, const struct iommufd_device *d, const struct sim_file *ctx) {
        if (d && d->file == ctx)
                return (int) d->object.id;
        return fn->group && fn->group->owner == ctx->data ? -ENOENT : -ENODEV;
}

/* ---- attach ---- */

/* iopt_table_enforce_dev_resv_regions() */
static int reserve_windows(struct iommufd_device *d, struct ioas *a) {
        const struct sim_group *g = d->fn->group;
        int r;

        for (unsigned i = 0; i < g->n_reserved; i++) {
                r = ioas_reserve(a, g->reserved[i].start, g->reserved[i].end, d);
                if (r < 0) {
                        ioas_unreserve(a, d);
                        return r;
                }
        }
        return 0;
}

/* The hardware's own word: iommu_attach_group_handle(). */
static int can_attach(const struct hwpt *h, const struct iommufd_device *d) {
        /* A page table made for a device whose DMA always snoops has a bit that the other kind lacks. */
        if (h->object.type == IOMMUFD_HWPT_PAGING && h->enforce_coherency && d->fn->group->no_coherency)
                return -EINVAL;
        /* arm_smmu_attach_prepare_vmaster(): a stream table entry that translates needs the virtual stream's number. */
        if (h->object.type == IOMMUFD_HWPT_NESTED && h->ste[0] & 1 && (h->ste[0] >> 1 & 7) == 5 &&
            !(d->vdevice && h->viommu && d->vdevice->viommu == h->viommu))
                return -ENOENT;
        return 0;
}

/* iommufd_hw_pagetable_attach() */
int hwpt_attach(struct hwpt *h, struct iommufd_device *d) {
        struct sim_group *g = d->fn->group;
        struct hwpt *paging = hwpt_paging_of(h);
        int r;

        if (g->hwpt && g->hwpt != h)
                return -EINVAL;
        if (paging) {
                r = reserve_windows(d, paging->ioas);
                if (r < 0)
                        return r;
        }
        if (!g->hwpt) {
                r = can_attach(h, d);
                if (r < 0) {
                        if (paging)
                                ioas_unreserve(paging->ioas, d);
                        return r;
                }
                g->hwpt = h;
        }
        g->hwpt_count++;
        h->object.users++;
        d->attached = true;
        return 0;
}

/* iommufd_hw_pagetable_put(): one that was made on the way goes with its last device. */
static void put_hwpt(struct sim_call *c, struct iommufd_ctx *x, struct hwpt *h) {
        h->object.users--;
        if (h->automatic)
                (void) iommufd_destroy(c, x, h->object.id);
}

void iommufd_device_detach(struct sim_call *c, struct iommufd_device *d) {
        struct sim_group *g = d->fn->group;
        struct hwpt *h = g->hwpt, *paging;

        if (!d->attached || !h)
                return;
        paging = hwpt_paging_of(h);
        d->attached = false;
        d->object.users--;
        if (--g->hwpt_count == 0)
                g->hwpt = NULL;
        if (paging)
                ioas_unreserve(paging->ioas, d);
        put_hwpt(c, d->ctx, h);
}

/* The devices of a group that are attached: all are one context's. */
#define FOR_EACH_ATTACHED(m, d)                                                                          \
        for (size_t i_ = 0; i_ < (d)->ctx->room; i_++)                                                   \
                for (struct iommufd_device *m = iommufd_find((d)->ctx, (uint32_t) i_, IOMMUFD_DEVICE);   \
                     m && m->attached && m->fn->group == (d)->fn->group; m = NULL)

/* iommufd_device_do_replace(): the whole group moves. *ret_old: what it had, with one reference left for the caller. */
static int replace(struct iommufd_device *d, struct hwpt *h, struct hwpt **ret_old) {
        struct sim_group *g = d->fn->group;
        struct hwpt *old = g->hwpt, *old_paging, *paging = hwpt_paging_of(h);
        unsigned n;
        int r = 0;

        *ret_old = NULL;
        if (!old || !d->attached)
                return -EINVAL;
        if (h == old)
                return 0;
        old_paging = hwpt_paging_of(old);
        if (paging && (!old_paging || paging->ioas != old_paging->ioas))
                FOR_EACH_ATTACHED(m, d)
                        if (r == 0)
                                r = reserve_windows(m, paging->ioas);
        if (r == 0)
                r = can_attach(h, d);
        if (r < 0) {
                if (paging && (!old_paging || paging->ioas != old_paging->ioas))
                        FOR_EACH_ATTACHED(m, d)
                                ioas_unreserve(paging->ioas, m);
                return r;
        }
        if (old_paging && (!paging || paging->ioas != old_paging->ioas))
                FOR_EACH_ATTACHED(m, d)
                        ioas_unreserve(old_paging->ioas, m);
        n = g->hwpt_count;
        g->hwpt = h;
        h->object.users += n;
        old->object.users -= n - 1;
        *ret_old = old;
        return 0;
}

static int attach_one(struct iommufd_device *d, struct hwpt *h, bool replaces, struct hwpt **ret_old) {
        *ret_old = NULL;
        return replaces ? replace(d, h, ret_old) : hwpt_attach(h, d);
}

/* iommufd_device_auto_get_domain(): a page table of the address space that suits the device, or a new one. */
static int attach_ioas(struct sim_call *c, struct iommufd_device *d, struct ioas *a, bool replaces, uint32_t *pt_id,
                       struct hwpt **ret_old) {
        struct hwpt *h;
        int r;

        *ret_old = NULL;
        for (size_t i = 0; i < a->n_hwpts; i++) {
                if (!a->hwpts[i]->automatic)
                        continue;
                r = attach_one(d, a->hwpts[i], replaces, ret_old);
                if (r == -EINVAL)
                        continue;
                if (r == 0)
                        *pt_id = a->hwpts[i]->object.id;
                return r;
        }
        r = hwpt_paging_new(c, d->ctx, a, d, 0, false, !replaces, &h);
        if (r < 0)
                return r;
        if (replaces) {
                r = replace(d, h, ret_old);
                if (r < 0) {
                        iommufd_remove(d->ctx, &h->object, false);
                        hwpt_free(c, h);
                        return r;
                }
        }
        h->automatic = true;
        *pt_id = h->object.id;
        return 0;
}

/* iommufd_device_change_pt() */
int iommufd_device_attach(struct sim_call *c, struct iommufd_device *d, uint32_t *pt_id) {
        struct iommufd_object *o = iommufd_find(d->ctx, *pt_id, IOMMUFD_ANY);
        bool replaces = d->attached;
        struct hwpt *old = NULL;
        int r;

        if (!o)
                return -ENOENT;
        if (o->type == IOMMUFD_HWPT_PAGING || o->type == IOMMUFD_HWPT_NESTED)
                r = attach_one(d, (struct hwpt *) o, replaces, &old);
        else if (o->type == IOMMUFD_IOAS)
                r = attach_ioas(c, d, (struct ioas *) o, replaces, pt_id, &old);
        else
                r = -EINVAL;
        if (r < 0)
                return r;
        if (!replaces)
                d->object.users++;
        if (old)
                put_hwpt(c, d->ctx, old);
        return 0;
}

bool iommufd_device_knows(const struct iommufd_device *d, uint32_t id) {
        return iommufd_find(d->ctx, id, IOMMUFD_ANY);
}

/* ---- what the hardware is ---- */

/* The registers of an IOMMU as the platform's machines have: no nesting but on Arm. */
static const struct tdi_iommu_hw_info_vtd vtd = { .flags = TDI_IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17,
                                                  .cap_reg = 0x00d2008c222f0686, .ecap_reg = 0x0000000000f00f4e };
#define VTD_ECAP_SC (UINT64_C(1) << 7)
static const struct tdi_iommu_hw_info_amd amd = { .efr = 0x00000000246577ef, .efr2 = 0 };
static const struct tdi_iommu_hw_info_arm_smmuv3 smmu = {
        /* IDR0: both stages, AArch64 tables, coherent, ATS, 16-bit ASID and VMID, two-level stream table, terminate.
         * IDR1: 16-bit SID. IDR5: 48 bits */
        .idr = { 0x080c968b, 0x02739d10, 0, 0x00001c0c, 0, 0x00000075 },
        .iidr = 0x4832043b,
        .aidr = 0x03,
};
static const struct tdi_iommu_hw_info_arm_smmuv3 smmu_stage1 = {
        .idr = { 0x080c968a, 0x02739d10, 0, 0x00001c0c, 0, 0x00000075 },
        .iidr = 0x4832043b,
        .aidr = 0x03,
};

/* iommufd_get_hw_info() */
int iommufd_get_hw_info(struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_hw_info *cmd = (void *) io->arg;
        const char *platform = sim_machine(x->sim)->platform;
        struct tdi_iommu_hw_info_vtd intel = vtd;
        const void *data;
        uint32_t size, type, asked = cmd->in_data_type;
        struct iommufd_device *d;

        if (cmd->flags & ~(uint32_t) TDI_IOMMU_HW_INFO_FLAG_INPUT_TYPE || cmd->__reserved[0] || cmd->__reserved[1] || cmd->__reserved[2])
                return -EOPNOTSUPP;
        if (!(cmd->flags & TDI_IOMMU_HW_INFO_FLAG_INPUT_TYPE))
                asked = TDI_IOMMU_HW_INFO_TYPE_DEFAULT;
        d = iommufd_find(x, cmd->dev_id, IOMMUFD_DEVICE);
        if (!d)
                return -ENOENT;
        if (iommufd_is_arm(x->sim)) {
                type = TDI_IOMMU_HW_INFO_TYPE_ARM_SMMUV3;
                data = iommufd_can_nest(x->sim) ? &smmu : &smmu_stage1;
                size = sizeof(smmu);
        } else if (streq(platform, "sev-snp")) {
                type = TDI_IOMMU_HW_INFO_TYPE_AMD;
                data = &amd;
                size = sizeof(amd);
        } else {
                type = TDI_IOMMU_HW_INFO_TYPE_INTEL_VTD;
                /* ecap_sc_support() is what intel_iommu_capable() goes by. */
                if (!d->fn->group->no_coherency)
                        intel.ecap_reg |= VTD_ECAP_SC;
                data = &intel;
                size = sizeof(intel);
        }
        if (asked != TDI_IOMMU_HW_INFO_TYPE_DEFAULT && asked != type)
                return -EOPNOTSUPP;
        if (cmd->data_len > 0 && !io->blob[0].data)
                return -EFAULT;
        if (io->blob[0].data) {
                memset(io->blob[0].data, 0, io->blob[0].size);
                memcpy(io->blob[0].data, data, io->blob[0].size < size ? io->blob[0].size : size);
        }
        cmd->out_data_type = type;
        cmd->data_len = size;
        cmd->out_max_pasid_log2 = 0;
        cmd->out_capabilities = sim_find_ext_capability(d->fn, 0x0f /* ATS */) ? 0 : TDI_IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED;
        return 0;
}
