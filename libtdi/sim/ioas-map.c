/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mapping and unmapping (drivers/iommu/iommufd/{ioas,io_pagetable}.c). A map is an area: a part of somebody's pages at an address. Areas
 * are unmapped whole or not at all.
 */
#include "sim/iommufd.h"

#define HUGE_PAGE UINT64_C(0x200000)
#define MAP_FLAGS (TDI_IOMMU_IOAS_MAP_FIXED_IOVA | TDI_IOMMU_IOAS_MAP_WRITEABLE | TDI_IOMMU_IOAS_MAP_READABLE)
#define MAP_RIGHTS (TDI_IOMMU_IOAS_MAP_WRITEABLE | TDI_IOMMU_IOAS_MAP_READABLE)

/* A part of a map to be: struct iopt_pages_list. Holds a reference of its pages. */
struct part {
        struct ioas_pages *pages;
        uint64_t offset, length;
};

/* ---- where to ---- */

static uint64_t power_of_two_from(uint64_t n) {
        uint64_t p = 1;

        while (p < n && p << 1)
                p <<= 1;
        return p;
}

/* The lowest aligned place in [start, last] that meets nothing; __alloc_iova_check_range() wants one byte more than it needs. */
static bool find_place(const struct ioas *a, uint64_t start, uint64_t last, uint64_t length, uint64_t alignment, uint64_t page_offset,
                       uint64_t *ret) {
        for (;;) {
                uint64_t at = start + (alignment - 1), end;
                size_t i;
                bool moved = false;

                if (at < start)
                        return false;
                at = (at & ~(alignment - 1)) | page_offset;
                if (at >= last || last - at < length - 1)
                        return false;
                end = at + length - 1;
                i = ioas_seek(a, at);
                if (i < a->n_areas && a->areas[i].iova <= end) {
                        start = a->areas[i].last + 1;
                        moved = true;
                }
                for (size_t k = 0; k < a->n_reserved && !moved; k++)
                        if (a->reserved[k].start <= end && a->reserved[k].last >= at) {
                                if (a->reserved[k].last == UINT64_MAX)
                                        return false;
                                start = a->reserved[k].last + 1;
                                moved = true;
                        }
                if (!moved) {
                        *ret = at;
                        return true;
                }
                if (start == 0)
                        return false;
        }
}

static int by_start(const void *x, const void *y) {
        const struct ioas_range *p = x, *q = y;

        return p->start < q->start ? -1 : p->start > q->start;
}

/* iopt_alloc_iova(): never 0, and as aligned as the memory itself is. */
static int choose_iova(struct ioas *a, uint64_t address, uint64_t length, uint64_t *ret) {
        uint64_t alignment;

        if (length == 0 || length >= UINT64_MAX / 2)
                return -EOVERFLOW;
        alignment = power_of_two_from(length);
        if (address && alignment > (address & -address))
                alignment = address & -address;
        if (alignment > HUGE_PAGE)
                alignment = HUGE_PAGE;
        if (alignment < a->alignment)
                return -EINVAL;
        if (a->n_allowed == 0)
                return find_place(a, IOMMUFD_PAGE, UINT64_MAX - IOMMUFD_PAGE, length, alignment, address % IOMMUFD_PAGE, ret) ? 0 : -ENOSPC;
        qsort(a->allowed, a->n_allowed, sizeof(*a->allowed), by_start);
        for (size_t i = 0; i < a->n_allowed; i++) {
                uint64_t start = a->allowed[i].start < IOMMUFD_PAGE ? IOMMUFD_PAGE : a->allowed[i].start;
                uint64_t last = a->allowed[i].last > UINT64_MAX - IOMMUFD_PAGE ? UINT64_MAX - IOMMUFD_PAGE : a->allowed[i].last;

                if (start <= last && find_place(a, start, last, length, alignment, address % IOMMUFD_PAGE, ret))
                        return 0;
        }
        return -ENOSPC;
}

/* iopt_check_iova() */
static int check_iova(const struct ioas *a, uint64_t iova, uint64_t length) {
        uint64_t last;
        size_t i;

        if (iova & (a->alignment - 1))
                return -EINVAL;
        if (__builtin_add_overflow(iova, length - 1, &last))
                return -EOVERFLOW;
        if (ioas_is_reserved(a, iova, last))
                return -EINVAL;
        i = ioas_seek(a, iova);
        return i < a->n_areas && a->areas[i].iova <= last ? -EEXIST : 0;
}

/* ---- map ---- */

static int insert_area(struct ioas *a, const struct part *part, uint64_t iova, uint32_t flags) {
        struct ioas_area *areas;
        size_t at, room;

        if (flags & TDI_IOMMU_IOAS_MAP_WRITEABLE && !part->pages->writable)
                return -EPERM;
        if (part->offset % IOMMUFD_PAGE & (a->alignment - 1))
                return -EINVAL;
        if (iova + part->length - 1 < iova)
                return -EOVERFLOW;
        if (a->n_areas == a->room_areas) {
                room = a->room_areas ? a->room_areas * 2 : 16;
                areas = realloc(a->areas, room * sizeof(*areas));
                if (!areas)
                        return -ENOMEM;
                a->areas = areas;
                a->room_areas = room;
        }
        at = ioas_seek(a, iova);
        memmove(&a->areas[at + 1], &a->areas[at], (a->n_areas - at) * sizeof(*a->areas));
        a->areas[at] = (struct ioas_area) {
                .iova = iova,
                .last = iova + part->length - 1,
                .pages = part->pages,
                .offset = part->offset,
                .readable = flags & TDI_IOMMU_IOAS_MAP_READABLE,
                .write = flags & TDI_IOMMU_IOAS_MAP_WRITEABLE,
        };
        part->pages->refs++;
        a->n_areas++;
        return 0;
}

/* Takes the area at an index away, without a word to the page tables. */
static void remove_area(struct sim_call *c, struct ioas *a, size_t at) {
        struct ioas_pages *p = a->areas[at].pages;

        memmove(&a->areas[at], &a->areas[at + 1], (a->n_areas - at - 1) * sizeof(*a->areas));
        a->n_areas--;
        ioas_pages_put(c, p);
}

/* All page tables get the pages or none does. */
static int fill(struct ioas *a, struct ioas_pages *p) {
        int r;

        for (size_t i = 0; i < a->n_hwpts; i++) {
                r = ioas_pages_fill(a->sim, p);
                if (r < 0) {
                        while (i-- > 0)
                                ioas_pages_unfill(a->sim, p);
                        return r;
                }
        }
        return 0;
}

static void unfill(struct ioas *a, struct ioas_pages *p) {
        for (size_t i = 0; i < a->n_hwpts; i++)
                ioas_pages_unfill(a->sim, p);
}

static uint64_t address_of(const struct part *part) {
        return part->offset + (part->pages->kind == PAGES_USER ? part->pages->user : part->pages->start);
}

/* iopt_map_pages() */
static int map_parts(struct sim_call *c, struct ioas *a, const struct part *parts, size_t n, uint64_t length, uint32_t flags,
                     uint64_t *iova) {
        size_t inserted, filled = 0;
        uint64_t at;
        int r;

        if (length == 0 || length & (a->alignment - 1))
                return -EINVAL;
        r = flags & TDI_IOMMU_IOAS_MAP_FIXED_IOVA ? check_iova(a, *iova, length) : choose_iova(a, address_of(&parts[0]), length, iova);
        if (r < 0)
                return r;
        at = *iova;
        for (inserted = 0; inserted < n; inserted++) {
                r = insert_area(a, &parts[inserted], at, flags);
                if (r < 0)
                        break;
                at += parts[inserted].length;
        }
        for (; r == 0 && filled < n; filled++) {
                r = fill(a, parts[filled].pages);
                if (r < 0)
                        break;
        }
        if (r == 0)
                return 0;
        while (filled > 0)
                unfill(a, parts[--filled].pages);
        while (inserted > 0) {
                at -= parts[--inserted].length;
                remove_area(c, a, ioas_seek(a, at));
        }
        return r;
}

static int check_map(uint32_t flags, uint64_t iova, uint64_t length) {
        if (flags & ~(uint32_t) MAP_FLAGS)
                return -EOPNOTSUPP;
        if (iova == UINT64_MAX || length == UINT64_MAX)
                return -EOVERFLOW;
        return flags & MAP_RIGHTS ? 0 : -EINVAL;
}

/* Takes the part's pages. ret_iova: in and out, unchanged on failure. */
static int map_pages(struct sim_call *c, struct iommufd_ctx *x, struct ioas *a, struct part *part, uint32_t flags, uint64_t *ret_iova) {
        uint64_t iova = *ret_iova;
        int r;

        part->pages->mm_accounting = x->mm_accounting;
        r = map_parts(c, a, part, 1, part->length, flags, &iova);
        ioas_pages_put(c, part->pages);
        if (r == 0)
                *ret_iova = iova;
        return r;
}

int iommufd_ioas_map(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_map *cmd = (void *) io->arg;
        struct part part = { .length = cmd->length };
        struct ioas *a;
        int r;

        if (cmd->__reserved)
                return -EOPNOTSUPP;
        r = check_map(cmd->flags, cmd->iova, cmd->length);
        if (r < 0)
                return r;
        a = iommufd_find(x, cmd->ioas_id, IOMMUFD_IOAS);
        if (!a)
                return -ENOENT;
        r = ioas_pages_user(c, cmd->user_va, cmd->length, cmd->flags & TDI_IOMMU_IOAS_MAP_WRITEABLE, &part.pages, &part.offset);
        return r < 0 ? r : map_pages(c, x, a, &part, cmd->flags, &cmd->iova);
}

int iommufd_ioas_map_file(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_map_file *cmd = (void *) io->arg;
        struct part part = { .length = cmd->length };
        struct ioas *a;
        int r;

        r = check_map(cmd->flags, cmd->iova, cmd->length);
        if (r < 0)
                return r;
        a = iommufd_find(x, cmd->ioas_id, IOMMUFD_IOAS);
        if (!a)
                return -ENOENT;
        r = ioas_pages_file(c, io, cmd->fd, cmd->start, cmd->length, cmd->flags & TDI_IOMMU_IOAS_MAP_WRITEABLE, &part.pages, &part.offset);
        return r < 0 ? r : map_pages(c, x, a, &part, cmd->flags, &cmd->iova);
}

/* iopt_get_pages(): areas without a gap between them. */
static int collect(struct ioas *a, uint64_t iova, uint64_t length, struct part **ret, size_t *ret_n) {
        struct part *parts = NULL, *more;
        uint64_t last;
        size_t n = 0;

        if (length == 0)
                return -EINVAL;
        if (__builtin_add_overflow(iova, length - 1, &last))
                return -EOVERFLOW;
        for (size_t i = ioas_seek(a, iova);; i++) {
                const struct ioas_area *area = &a->areas[i];
                uint64_t end;

                if (i == a->n_areas || area->iova > iova) {
                        free(parts);
                        return -ENOENT;
                }
                more = realloc(parts, (n + 1) * sizeof(*parts));
                if (!more) {
                        free(parts);
                        return -ENOMEM;
                }
                parts = more;
                end = area->last < last ? area->last : last;
                parts[n++] = (struct part) { area->pages, area->offset + (iova - area->iova), end - iova + 1 };
                if (end == last)
                        break;
                iova = end + 1;
        }
        for (size_t i = 0; i < n; i++)
                parts[i].pages->refs++;
        *ret = parts;
        *ret_n = n;
        return 0;
}

int iommufd_ioas_copy(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_copy *cmd = (void *) io->arg;
        struct part *parts;
        struct ioas *from, *to;
        uint64_t iova = cmd->dst_iova;
        size_t n;
        int r;

        r = check_map(cmd->flags, cmd->dst_iova, cmd->length);
        if (r == 0 && cmd->src_iova == UINT64_MAX)
                r = -EOVERFLOW;
        if (r < 0)
                return r;
        from = iommufd_find(x, cmd->src_ioas_id, IOMMUFD_IOAS);
        if (!from)
                return -ENOENT;
        r = collect(from, cmd->src_iova, cmd->length, &parts, &n);
        if (r < 0)
                return r;
        to = iommufd_find(x, cmd->dst_ioas_id, IOMMUFD_IOAS);
        r = to ? map_parts(c, to, parts, n, cmd->length, cmd->flags, &iova) : -ENOENT;
        for (size_t i = 0; i < n; i++)
                ioas_pages_put(c, parts[i].pages);
        free(parts);
        if (r == 0)
                cmd->dst_iova = iova;
        return r;
}

/* ---- unmap ---- */

/* iopt_unmap_iova_range(): what was unmapped before an area that is only touched stays unmapped. */
int ioas_unmap_range(struct sim_call *c, struct ioas *a, uint64_t start, uint64_t last, uint64_t *ret_bytes) {
        uint64_t bytes = 0;
        int r = 0;

        /* Letting go of a dma-buf may sleep: nobody destroys the address space meanwhile. */
        a->object.users++;
        for (;;) {
                size_t i = ioas_seek(a, start);
                struct ioas_area area;

                if (i == a->n_areas || a->areas[i].iova > last)
                        break;
                area = a->areas[i];
                if (area.iova < start || area.last > last) {
                        r = -ENOENT;
                        break;
                }
                unfill(a, area.pages);
                remove_area(c, a, i);
                bytes += area.last - area.iova + 1;
                if (area.last >= last)
                        break;
                start = area.last + 1;
        }
        a->object.users--;
        if (ret_bytes)
                *ret_bytes = bytes;
        return r;
}

int iommufd_ioas_unmap(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_unmap *cmd = (void *) io->arg;
        struct ioas *a = iommufd_find(x, cmd->ioas_id, IOMMUFD_IOAS);
        uint64_t bytes = 0, last;
        int r;

        if (!a)
                return -ENOENT;
        if (cmd->iova == 0 && cmd->length == UINT64_MAX) {
                r = ioas_unmap_range(c, a, 0, UINT64_MAX, &bytes);
        } else {
                if (cmd->iova == UINT64_MAX || cmd->length == UINT64_MAX)
                        return -EOVERFLOW;
                if (cmd->length == 0)
                        return -EINVAL;
                if (__builtin_add_overflow(cmd->iova, cmd->length - 1, &last))
                        return -EOVERFLOW;
                r = ioas_unmap_range(c, a, cmd->iova, last, &bytes);
                if (r == 0 && bytes == 0)
                        r = -ENOENT;
        }
        if (r == 0)
                cmd->length = bytes;
        return r;
}

/* ---- another process pays ---- */

int iommufd_ioas_change_process(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_ioas_change_process *cmd = (void *) io->arg;
        struct ioas_pages **pages;
        size_t n = 0;
        int r;

        if (cmd->__reserved)
                return -EOPNOTSUPP;
        for (size_t i = 0; i < x->room; i++) {
                struct ioas *a = iommufd_find(x, (uint32_t) i, IOMMUFD_IOAS);

                for (size_t k = 0; a && k < a->n_areas; k++, n++)
                        if (a->areas[k].pages->kind != PAGES_FILE)
                                return -EINVAL;
        }
        pages = malloc((n + 1) * sizeof(*pages));
        if (!pages)
                return -ENOMEM;
        n = 0;
        for (size_t i = 0; i < x->room; i++) {
                struct ioas *a = iommufd_find(x, (uint32_t) i, IOMMUFD_IOAS);

                for (size_t k = 0; a && k < a->n_areas; k++)
                        pages[n++] = a->areas[k].pages;
        }
        r = ioas_pages_charge_other(c, pages, n);
        free(pages);
        return r;
}
