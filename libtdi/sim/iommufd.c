/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /dev/iommu: contexts, their objects and their numbers, and what is common to all calls (drivers/iommu/iommufd/main.c).
 */
#include "host/abi/vfio.h"
#include "host/iommufd_tsm.h"
#include "sim/iommufd.h"

static struct iommufd_object tombstone; /* XA_ZERO_ENTRY left by iommufd_object_tombstone_user() */
static const struct sim_file_ops iommufd_ops;

struct iommufd_ctx *iommufd_ctx_of(const struct sim_file *f) {
        return f->ops == &iommufd_ops ? f->data : NULL;
}

static bool platform_is(struct sim *sim, const char *platform) {
        return streq(sim_machine(sim)->platform, platform);
}

bool iommufd_is_arm(struct sim *sim) {
        return platform_is(sim, "cca") || platform_is(sim, "pkvm");
}

/* An SMMUv3 with both stages; the x86 IOMMUs are driven without scalable mode and without v2 page tables, where nothing nests. */
bool iommufd_can_nest(struct sim *sim) {
        return platform_is(sim, "cca") || sim_machine(sim)->fake_viommu;
}

/* ---- objects ---- */

int iommufd_add(struct iommufd_ctx *x, struct iommufd_object *o, enum iommufd_type type) {
        struct iommufd_object **objects;
        size_t id, room;

        for (id = 1; id < x->room && x->objects[id]; id++)
                ;
        if (id >= x->room) {
                room = x->room ? x->room * 2 : 16;
                objects = realloc(x->objects, room * sizeof(struct iommufd_object *));
                if (!objects)
                        return -ENOMEM;
                memset(objects + x->room, 0, (room - x->room) * sizeof(struct iommufd_object *));
                x->objects = objects;
                x->room = room;
        }
        o->type = type;
        o->id = (uint32_t) id;
        o->users = 1;
        x->objects[id] = o;
        return 0;
}

void iommufd_remove(struct iommufd_ctx *x, struct iommufd_object *o, bool leave_tombstone) {
        x->objects[o->id] = leave_tombstone ? &tombstone : NULL;
}

void *iommufd_find(struct iommufd_ctx *x, uint32_t id, enum iommufd_type type) {
        struct iommufd_object *o = id < x->room ? x->objects[id] : NULL;

        if (!o || o == &tombstone || (type != IOMMUFD_ANY && o->type != type))
                return NULL;
        return o;
}

/* iommufd_object_ops[].destroy */
static void free_object(struct sim_call *c, struct iommufd_ctx *x, struct iommufd_object *o) {
        switch (o->type) {
        case IOMMUFD_IOAS:
                iommufd_remove(x, o, false);
                if (x->vfio_ioas == (struct ioas *) o)
                        x->vfio_ioas = NULL;
                ioas_free(c, (struct ioas *) o);
                break;
        case IOMMUFD_HWPT_PAGING:
        case IOMMUFD_HWPT_NESTED:
                iommufd_remove(x, o, false);
                hwpt_free(c, (struct hwpt *) o);
                break;
        case IOMMUFD_VIOMMU:
                iommufd_remove(x, o, false);
                viommu_free(c, (struct viommu *) o);
                break;
        case IOMMUFD_VDEVICE:
                iommufd_remove(x, o, false);
                vdevice_free(c, (struct vdevice *) o);
                break;
        case IOMMUFD_FAULT:
        case IOMMUFD_VEVENTQ:
                iommufd_remove(x, o, false);
                iommufd_event_object_free(o);
                break;
        default:
                break; /* a device is its VFIO file's, and always has another user */
        }
}

int iommufd_destroy(struct sim_call *c, struct iommufd_ctx *x, uint32_t id) {
        struct iommufd_object *o = iommufd_find(x, id, IOMMUFD_ANY);

        if (!o)
                return -ENOENT;
        if (o->users != 1)
                return -EBUSY;
        free_object(c, x, o);
        return 0;
}

/* ---- options ---- */

/* iommufd_option(), iommufd_option_rlimit_mode() */
static int option(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io) {
        struct tdi_iommu_option *cmd = (void *) io->arg;

        if (cmd->__reserved)
                return -EOPNOTSUPP;
        if (cmd->option_id == TDI_IOMMU_OPTION_HUGE_PAGES)
                return iommufd_ioas_option(x, io);
        if (cmd->option_id != TDI_IOMMU_OPTION_RLIMIT_MODE || cmd->object_id)
                return -EOPNOTSUPP;
        if (cmd->op == TDI_IOMMU_OPTION_OP_GET) {
                cmd->val64 = x->mm_accounting;
                return 0;
        }
        if (cmd->op != TDI_IOMMU_OPTION_OP_SET)
                return -EOPNOTSUPP;
        if (c->uid != 0)
                return -EPERM; /* CAP_SYS_RESOURCE */
        for (size_t i = 0; i < x->room; i++)
                if (x->objects[i])
                        return -EBUSY;
        if (cmd->val64 > 1)
                return -EINVAL;
        x->mm_accounting = cmd->val64;
        return 0;
}

/* ---- calls ---- */

#define END_OF(type, member) (offsetof(struct type, member) + sizeof(((struct type *) 0)->member))

/* The smallest and the largest struct of a call: iommufd_ioctl_ops[]. */
static const struct {
        unsigned long request;
        size_t least, known;
} sizes[] = {
        { TDI_IOMMU_DESTROY, END_OF(tdi_iommu_destroy, id), sizeof(struct tdi_iommu_destroy) },
        { TDI_IOMMU_FAULT_QUEUE_ALLOC, END_OF(tdi_iommu_fault_alloc, out_fault_fd), sizeof(struct tdi_iommu_fault_alloc) },
        { TDI_IOMMU_GET_HW_INFO, END_OF(tdi_iommu_hw_info, __reserved), sizeof(struct tdi_iommu_hw_info) },
        { TDI_IOMMU_HWPT_ALLOC, END_OF(tdi_iommu_hwpt_alloc, __reserved), sizeof(struct tdi_iommu_hwpt_alloc) },
        { TDI_IOMMU_HWPT_INVALIDATE, END_OF(tdi_iommu_hwpt_invalidate, __reserved), sizeof(struct tdi_iommu_hwpt_invalidate) },
        { TDI_IOMMU_IOAS_ALLOC, END_OF(tdi_iommu_ioas_alloc, out_ioas_id), sizeof(struct tdi_iommu_ioas_alloc) },
        { TDI_IOMMU_IOAS_ALLOW_IOVAS, END_OF(tdi_iommu_ioas_allow_iovas, allowed_iovas), sizeof(struct tdi_iommu_ioas_allow_iovas) },
        { TDI_IOMMU_IOAS_CHANGE_PROCESS, END_OF(tdi_iommu_ioas_change_process, __reserved), sizeof(struct tdi_iommu_ioas_change_process) },
        { TDI_IOMMU_IOAS_COPY, END_OF(tdi_iommu_ioas_copy, src_iova), sizeof(struct tdi_iommu_ioas_copy) },
        { TDI_IOMMU_IOAS_IOVA_RANGES, END_OF(tdi_iommu_ioas_iova_ranges, out_iova_alignment), sizeof(struct tdi_iommu_ioas_iova_ranges) },
        { TDI_IOMMU_IOAS_MAP, END_OF(tdi_iommu_ioas_map, iova), sizeof(struct tdi_iommu_ioas_map) },
        { TDI_IOMMU_IOAS_MAP_FILE, END_OF(tdi_iommu_ioas_map_file, iova), sizeof(struct tdi_iommu_ioas_map_file) },
        { TDI_IOMMU_IOAS_UNMAP, END_OF(tdi_iommu_ioas_unmap, length), sizeof(struct tdi_iommu_ioas_unmap) },
        { TDI_IOMMU_OPTION, END_OF(tdi_iommu_option, val64), sizeof(struct tdi_iommu_option) },
        { TDI_IOMMU_VDEVICE_ALLOC, END_OF(tdi_iommu_vdevice_alloc, virt_id), sizeof(struct tdi_iommu_vdevice_alloc) },
        { TDI_IOMMU_VEVENTQ_ALLOC, END_OF(tdi_iommu_veventq_alloc, out_veventq_fd), sizeof(struct tdi_iommu_veventq_alloc) },
        { TDI_IOMMU_VFIO_IOAS, END_OF(tdi_iommu_vfio_ioas, __reserved), sizeof(struct tdi_iommu_vfio_ioas) },
        { TDI_IOMMU_VIOMMU_ALLOC, END_OF(tdi_iommu_viommu_alloc, out_viommu_id), sizeof(struct tdi_iommu_viommu_alloc) },
};

/* copy_struct_from_user(): a newer, longer struct is taken as long as what is new in it is zero. */
static int check_size(const struct sim_ioctl *io) {
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                if (sizes[i].request != io->request)
                        continue;
                if (io->size < sizes[i].least)
                        return -EINVAL;
                for (size_t k = sizes[i].known; k < io->size; k++)
                        if (io->arg[k])
                                return -E2BIG;
                return 0;
        }
        return -ENOTTY;
}

static int iommufd_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct iommufd_ctx *x = f->data;
        int r;

        if (io->request == TDI_VFIO_CHECK_EXTENSION)
                return iommufd_vfio_check_extension(x, io->value);
        if (io->request == TDI_IOMMU_VDEVICE_TSM_OP || io->request == TDI_IOMMU_VDEVICE_TSM_REQ)
                return iommufd_tsm_ioctl(c, x, io);
        r = check_size(io);
        if (r < 0)
                return r;
        switch (io->request) {
        case TDI_IOMMU_DESTROY:
                return iommufd_destroy(c, x, ((struct tdi_iommu_destroy *) (void *) io->arg)->id);
        case TDI_IOMMU_FAULT_QUEUE_ALLOC:
                return iommufd_fault_alloc(c, x, io);
        case TDI_IOMMU_GET_HW_INFO:
                return iommufd_get_hw_info(x, io);
        case TDI_IOMMU_HWPT_ALLOC:
                return iommufd_hwpt_alloc(c, x, io);
        case TDI_IOMMU_HWPT_INVALIDATE:
                return iommufd_hwpt_invalidate(x, io);
        case TDI_IOMMU_IOAS_ALLOC:
                return iommufd_ioas_alloc(x, io);
        case TDI_IOMMU_IOAS_ALLOW_IOVAS:
                return iommufd_ioas_allow_iovas(x, io);
        case TDI_IOMMU_IOAS_CHANGE_PROCESS:
                return iommufd_ioas_change_process(c, x, io);
        case TDI_IOMMU_IOAS_COPY:
                return iommufd_ioas_copy(c, x, io);
        case TDI_IOMMU_IOAS_IOVA_RANGES:
                return iommufd_ioas_iova_ranges(x, io);
        case TDI_IOMMU_IOAS_MAP:
                return iommufd_ioas_map(c, x, io);
        case TDI_IOMMU_IOAS_MAP_FILE:
                return iommufd_ioas_map_file(c, x, io);
        case TDI_IOMMU_IOAS_UNMAP:
                return iommufd_ioas_unmap(c, x, io);
        case TDI_IOMMU_OPTION:
                return option(c, x, io);
        case TDI_IOMMU_VDEVICE_ALLOC:
                return iommufd_vdevice_alloc(c, x, io);
        case TDI_IOMMU_VEVENTQ_ALLOC:
                return iommufd_veventq_alloc(c, x, io);
        case TDI_IOMMU_VFIO_IOAS:
                return iommufd_vfio_ioas(x, io);
        case TDI_IOMMU_VIOMMU_ALLOC:
                return iommufd_viommu_alloc(c, x, io);
        default:
                return -ENOTTY;
        }
}

/* Leaves first: every round destroys what nothing needs any more. No device is left, for each holds the file. */
static void iommufd_release(struct sim_call *c, struct sim_file *f) {
        struct iommufd_ctx *x = f->data;
        bool again = true;

        while (again) {
                again = false;
                for (size_t i = 0; i < x->room; i++) {
                        struct iommufd_object *o = x->objects[i];

                        if (!o || o == &tombstone || o->users != 1)
                                continue;
                        free_object(c, x, o);
                        again = true;
                }
        }
        free(x->objects);
        free(x);
}

static const struct sim_file_ops iommufd_ops = { .kind = "iommufd", .ioctl = iommufd_ioctl, .release = iommufd_release };

static int iommufd_open(struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        struct iommufd_ctx *x;

        (void) n;
        x = calloc(1, sizeof(*x));
        if (!x)
                return -ENOMEM;
        x->file = f;
        x->sim = c->sim;
        f->ops = &iommufd_ops;
        f->data = x;
        return 0;
}

static const struct sim_node_ops iommufd_node_ops = { .open = iommufd_open };

void sim_iommufd_init(struct sim_machine *m) {
        sim_device_node(sim_dirs(m->sim, "dev"), "iommu", &iommufd_node_ops, NULL);
}
