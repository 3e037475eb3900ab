/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The node of an IOMMU group of the old interface, /dev/vfio/ID: who has it open keeps the group's devices from being bound to an
 * iommufd, and the other way round (drivers/vfio/group.c). Containers, and devices opened through a group, are not modelled.
 */
#include "sim/vfio.h"

#include <stdio.h>

struct vfio_group {
        struct sim_group *group; /* NULL when its last device left */
        unsigned refs;           /* devices and the open file */
        unsigned drivers;
        unsigned devices_open;   /* through their own nodes: cdev_device_open_cnt */
        bool opened;
        struct sim_node *node;
};

static void group_put(struct vfio_group *g) {
        if (--g->refs == 0)
                free(g);
}

/* vfio_group_fops_unl_ioctl() */
static int group_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct tdi_vfio_group_status *status = (void *) io->arg;
        struct vfio_group *g = f->data;

        (void) c;
        if (io->request != TDI_VFIO_GROUP_GET_STATUS)
                return -ENOTTY;
        if (status->argsz < sizeof(*status))
                return -EINVAL;
        status->flags = 0;
        if (!g->group)
                return -ENODEV;
        /* iommu_group_dma_owner_claimed() */
        if (g->group->host_users == 0 && g->group->owner_count == 0)
                status->flags = TDI_VFIO_GROUP_FLAGS_VIABLE;
        return 0;
}

static void group_release(struct sim_call *c, struct sim_file *f) {
        struct vfio_group *g = f->data;

        (void) c;
        g->opened = false;
        group_put(g);
}

static const struct sim_file_ops group_ops = { .kind = "vfio-group", .ioctl = group_ioctl, .release = group_release };

static int group_open(struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        struct vfio_group *g = n->data;

        (void) c;
        if (g->drivers == 0)
                return -ENODEV;
        if (g->devices_open > 0 || g->opened)
                return -EBUSY;
        g->opened = true;
        g->refs++;
        f->ops = &group_ops;
        f->data = g;
        return 0;
}

static const struct sim_node_ops group_node_ops = { .open = group_open };

int vfio_group_join(struct sim_vfio *v) {
        struct sim_group *group = v->fn->group;
        struct vfio_group *g = group->vfio;
        char name[16];

        if (!g) {
                g = calloc(1, sizeof(*g));
                if (!g)
                        return -ENOMEM;
                g->group = group;
                group->vfio = g;
                snprintf(name, sizeof(name), "%u", group->id);
                g->node = sim_device_node(sim_dirs(v->sim, "dev/vfio"), name, &group_node_ops, g);
        }
        g->drivers++;
        g->refs++;
        v->group = g;
        return 0;
}

void vfio_group_leave(struct sim_call *c, struct sim_vfio *v) {
        struct vfio_group *g = v->group;

        if (--g->drivers == 0) {
                v->fn->group->vfio = NULL;
                g->group = NULL;
                sim_remove(c, g->node, NULL);
        }
        group_put(g);
}

int vfio_group_block(struct sim_vfio *v) {
        struct vfio_group *g = v->group;

        if (g->opened)
                return -EBUSY;
        g->devices_open++;
        return 0;
}

void vfio_group_unblock(struct sim_vfio *v) {
        v->group->devices_open--;
}

void vfio_group_forget(struct sim_vfio *v) {
        group_put(v->group);
}
