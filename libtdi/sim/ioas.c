/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Address spaces: what is reserved, what is allowed, how things are aligned, which page tables they have, and DMA through them
 * (drivers/iommu/iommufd/{ioas,io_pagetable}.c). What is mapped is ioas-map.c's.
 */
#include "host/abi/vfio.h"
#include "sim/iommufd.h"

int iommufd_ioas_alloc(struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_alloc *cmd = (void *) io->arg;
        struct ioas *a;
        int r;

        if (cmd->flags)
                return -EOPNOTSUPP;
        a = calloc(1, sizeof(*a));
        if (!a)
                return -ENOMEM;
        a->sim = x->sim;
        a->alignment = 1;
        r = iommufd_add(x, &a->object, IOMMUFD_IOAS);
        if (r < 0) {
                free(a);
                return r;
        }
        cmd->out_ioas_id = a->object.id;
        return 0;
}

void ioas_free(struct sim_call *c, struct ioas *a) {
        (void) ioas_unmap_range(c, a, 0, UINT64_MAX, NULL);
        free(a->areas);
        free(a->reserved);
        free(a->allowed);
        free(a->hwpts);
        free(a);
}

size_t ioas_seek(const struct ioas *a, uint64_t iova) {
        size_t low = 0, high = a->n_areas;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (a->areas[middle].last < iova)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static bool area_meets(const struct ioas *a, uint64_t start, uint64_t last) {
        size_t i = ioas_seek(a, start);

        return i < a->n_areas && a->areas[i].iova <= last;
}

static bool range_meets(const struct ioas_range *ranges, size_t n, uint64_t start, uint64_t last) {
        for (size_t i = 0; i < n; i++)
                if (ranges[i].start <= last && ranges[i].last >= start)
                        return true;
        return false;
}

bool ioas_is_reserved(const struct ioas *a, uint64_t start, uint64_t last) {
        return range_meets(a->reserved, a->n_reserved, start, last);
}

/* ---- reserved and allowed ---- */

int ioas_reserve(struct ioas *a, uint64_t start, uint64_t last, const void *owner) {
        struct ioas_range *reserved;

        if (area_meets(a, start, last) || range_meets(a->allowed, a->n_allowed, start, last))
                return -EADDRINUSE;
        reserved = realloc(a->reserved, (a->n_reserved + 1) * sizeof(*reserved));
        if (!reserved)
                return -ENOMEM;
        a->reserved = reserved;
        reserved[a->n_reserved++] = (struct ioas_range) { start, last, owner };
        return 0;
}

void ioas_unreserve(struct ioas *a, const void *owner) {
        size_t n = 0;

        for (size_t i = 0; i < a->n_reserved; i++)
                if (a->reserved[i].owner != owner)
                        a->reserved[n++] = a->reserved[i];
        a->n_reserved = n;
}

/* The next hole between what is reserved, at or after start. */
static bool next_hole(const struct ioas *a, uint64_t start, uint64_t *ret_start, uint64_t *ret_last) {
        bool moved = true;

        while (moved) {
                moved = false;
                for (size_t i = 0; i < a->n_reserved; i++)
                        if (a->reserved[i].start <= start && a->reserved[i].last >= start) {
                                if (a->reserved[i].last == UINT64_MAX)
                                        return false;
                                start = a->reserved[i].last + 1;
                                moved = true;
                        }
        }
        *ret_start = start;
        *ret_last = UINT64_MAX;
        for (size_t i = 0; i < a->n_reserved; i++)
                if (a->reserved[i].start > start && a->reserved[i].start - 1 < *ret_last)
                        *ret_last = a->reserved[i].start - 1;
        return true;
}

int iommufd_ioas_iova_ranges(struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_iova_ranges *cmd = (void *) io->arg;
        uint32_t room = cmd->num_iovas, n = 0;
        uint64_t at = 0;
        struct ioas *a;

        if (cmd->__reserved)
                return -EOPNOTSUPP;
        a = iommufd_find(x, cmd->ioas_id, IOMMUFD_IOAS);
        if (!a)
                return -ENOENT;
        for (struct tdi_iommu_iova_range hole; next_hole(a, at, (uint64_t *) &hole.start, (uint64_t *) &hole.last); at = hole.last + 1) {
                if (n < room) {
                        if (!io->blob[0].data || (n + 1) * sizeof(hole) > io->blob[0].size)
                                return -EFAULT;
                        memcpy(io->blob[0].data + n * sizeof(hole), &hole, sizeof(hole));
                }
                n++;
                if (hole.last == UINT64_MAX)
                        break;
        }
        cmd->num_iovas = n;
        cmd->out_iova_alignment = a->alignment;
        return n > room ? -EMSGSIZE : 0;
}

int iommufd_ioas_allow_iovas(struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_allow_iovas *cmd = (void *) io->arg;
        struct ioas_range *allowed = NULL;
        struct tdi_iommu_iova_range range;
        struct ioas *a;
        int r = -EINVAL;

        if (cmd->__reserved)
                return -EOPNOTSUPP;
        a = iommufd_find(x, cmd->ioas_id, IOMMUFD_IOAS);
        if (!a)
                return -ENOENT;
        if (cmd->num_iovas > 0 && (!io->blob[0].data || io->blob[0].size / sizeof(range) < cmd->num_iovas))
                return -EFAULT;
        allowed = calloc(cmd->num_iovas + 1, sizeof(*allowed));
        if (!allowed)
                return -ENOMEM;
        for (uint32_t i = 0; i < cmd->num_iovas; i++) {
                memcpy(&range, io->blob[0].data + i * sizeof(range), sizeof(range));
                if (range.start >= range.last || range_meets(allowed, i, range.start, range.last))
                        goto fail;
                allowed[i] = (struct ioas_range) { range.start, range.last, NULL };
        }
        r = -EADDRINUSE;
        for (uint32_t i = 0; i < cmd->num_iovas; i++)
                if (ioas_is_reserved(a, allowed[i].start, allowed[i].last))
                        goto fail;
        free(a->allowed);
        a->allowed = allowed;
        a->n_allowed = cmd->num_iovas;
        return 0;
fail:
        free(allowed);
        return r;
}

/* ---- page tables ---- */

/* iopt_check_iova_alignment() */
static int check_alignment(const struct ioas *a, uint64_t alignment) {
        for (size_t i = 0; i < a->n_areas; i++) {
                const struct ioas_area *area = &a->areas[i];

                if (area->iova % alignment || (area->last - area->iova + 1) % alignment || area->offset % IOMMUFD_PAGE % alignment)
                        return -EADDRINUSE;
        }
        return 0;
}

int ioas_add_hwpt(struct ioas *a, struct hwpt *h) {
        struct hwpt **hwpts;
        size_t filled;
        int r;

        if (a->alignment < IOMMUFD_PAGE) {
                r = check_alignment(a, IOMMUFD_PAGE);
                if (r < 0)
                        return r;
        }
        r = ioas_reserve(a, IOMMUFD_APERTURE_LAST + 1, UINT64_MAX, h);
        if (r < 0)
                return r;
        hwpts = realloc(a->hwpts, (a->n_hwpts + 1) * sizeof(struct hwpt *));
        if (!hwpts) {
                ioas_unreserve(a, h);
                return -ENOMEM;
        }
        a->hwpts = hwpts;
        for (filled = 0; filled < a->n_areas; filled++) {
                r = ioas_pages_fill(a->sim, a->areas[filled].pages);
                if (r < 0)
                        break;
        }
        if (filled < a->n_areas) {
                while (filled > 0)
                        ioas_pages_unfill(a->sim, a->areas[--filled].pages);
                ioas_unreserve(a, h);
                return r;
        }
        a->hwpts[a->n_hwpts++] = h;
        a->alignment = IOMMUFD_PAGE;
        return 0;
}

void ioas_remove_hwpt(struct ioas *a, struct hwpt *h) {
        for (size_t i = 0; i < a->n_hwpts; i++)
                if (a->hwpts[i] == h) {
                        memmove(&a->hwpts[i], &a->hwpts[i + 1], (a->n_hwpts - i - 1) * sizeof(struct hwpt *));
                        a->n_hwpts--;
                        break;
                }
        for (size_t i = 0; i < a->n_areas; i++)
                ioas_pages_unfill(a->sim, a->areas[i].pages);
        ioas_unreserve(a, h);
        /* iopt_calculate_iova_alignment() */
        if (a->n_hwpts == 0)
                a->alignment = a->no_large_pages ? IOMMUFD_PAGE : 1;
}

/* iommufd_ioas_option_huge_pages() */
int iommufd_ioas_option(struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_option *cmd = (void *) io->arg;
        struct ioas *a = iommufd_find(x, cmd->object_id, IOMMUFD_IOAS);
        int r;

        if (!a)
                return -ENOENT;
        if (cmd->op == TDI_IOMMU_OPTION_OP_GET) {
                cmd->val64 = !a->no_large_pages;
                return 0;
        }
        if (cmd->op != TDI_IOMMU_OPTION_OP_SET)
                return -EOPNOTSUPP;
        if (cmd->val64 > 1)
                return -EINVAL;
        if (cmd->val64 == 1) {
                a->no_large_pages = false;
                if (a->n_hwpts == 0)
                        a->alignment = 1;
                return 0;
        }
        if (a->no_large_pages)
                return 0;
        if (a->n_hwpts > 0 && a->n_areas > 0)
                return -EINVAL;
        if (a->alignment < IOMMUFD_PAGE) {
                r = check_alignment(a, IOMMUFD_PAGE);
                if (r < 0)
                        return r;
        }
        a->no_large_pages = true;
        a->alignment = IOMMUFD_PAGE;
        return 0;
}

/* ---- the calls of VFIO containers (vfio_compat.c) ---- */

int iommufd_vfio_ioas(struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_vfio_ioas *cmd = (void *) io->arg;
        struct ioas *a;

        if (cmd->__reserved)
                return -EOPNOTSUPP;
        switch (cmd->op) {
        case TDI_IOMMU_VFIO_IOAS_GET:
                if (!x->vfio_ioas)
                        return -ENODEV;
                cmd->ioas_id = x->vfio_ioas->object.id;
                return 0;
        case TDI_IOMMU_VFIO_IOAS_SET:
                a = iommufd_find(x, cmd->ioas_id, IOMMUFD_IOAS);
                if (!a)
                        return -ENOENT;
                x->vfio_ioas = a;
                return 0;
        case TDI_IOMMU_VFIO_IOAS_CLEAR:
                x->vfio_ioas = NULL;
                return 0;
        default:
                return -EOPNOTSUPP;
        }
}

/* iommufd_vfio_check_extension(), iommufd_vfio_cc_iommu() */
int iommufd_vfio_check_extension(const struct iommufd_ctx *x, uint64_t what) {
        switch (what) {
        case TDI_VFIO_TYPE1_IOMMU:
        case TDI_VFIO_TYPE1v2_IOMMU:
        case TDI_VFIO_UNMAP_ALL:
                return 1;
        case TDI_VFIO_DMA_CC_IOMMU:
                if (!x->vfio_ioas)
                        return -ENODEV;
                for (size_t i = 0; i < x->vfio_ioas->n_hwpts; i++)
                        if (!x->vfio_ioas->hwpts[i]->enforce_coherency)
                                return 0;
                return 1;
        default:
                return 0;
        }
}

/* ---- DMA ---- */

int ioas_dma(struct ioas *a, uint64_t iova, uint8_t *buf, size_t size, bool to_memory) {
        while (size > 0) {
                size_t i = ioas_seek(a, iova), n = size;
                const struct ioas_area *area = &a->areas[i];
                int r;

                if (i == a->n_areas || area->iova > iova || !(to_memory ? area->write : area->readable))
                        return -EFAULT;
                if (n > area->last - iova + 1)
                        n = (size_t) (area->last - iova + 1);
                r = ioas_pages_access(area->pages, area->offset + (iova - area->iova), buf, n, to_memory);
                if (r < 0)
                        return r;
                buf += n;
                iova += n;
                size -= n;
        }
        return 0;
}

int sim_dma(struct sim_function *fn, uint64_t iova, void *buf, size_t size, bool to_memory) {
        struct hwpt *h = fn->group ? fn->group->hwpt : NULL, *paging;

        if (!h)
                return -EFAULT;
        paging = hwpt_paging_of(h);
        /* A nested page table of an SMMU: bypass of the first stage reaches the second; abort does not, nor a guest's own table, which
         * is not walked. */
        if (h->object.type == IOMMUFD_HWPT_NESTED && (!(h->ste[0] & 1) || (h->ste[0] >> 1 & 7) != 4))
                return -EFAULT;
        if (size > 0 && iova + size - 1 < iova)
                return -EFAULT;
        return ioas_dma(paging->ioas, iova, buf, size, to_memory);
}
