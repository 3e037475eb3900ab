/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel of the explorer of the custody engine: a few bits a function, what each sub-action makes of them, and what must never be done to them. */
#include "custody-world.h"

static bool speaks_for(int i, int other) {
        return setting->dsm_is_first && i == 0 && other == 1;
}

static void reset(int i) {
        for (int o = 0; o < FUNCTIONS; o++)
                if (world.kernel[o].bound && (o == i || speaks_for(i, o)))
                        violation("function %d is reset while %d is bound", i, o);
}

static void disconnect(void) {
        for (int i = 0; i < FUNCTIONS; i++)
                if (world.kernel[i].bound)
                        violation("the DSM is disconnected while %d is bound", i);
        world.connected = false;
}

void world_drop_binding(int i, uint8_t by) {
        struct kernel *k = &world.kernel[i];

        if (k->binding & by) {
                k->binding &= (uint8_t) ~by;
                /* Its last close unbinds. */
                if (!k->binding)
                        k->bound = false;
        }
}

void world_drop_cdev(int i, uint8_t by) {
        struct kernel *k = &world.kernel[i];

        if (!(k->cdev & by))
                return;
        k->cdev &= (uint8_t) ~by;
        if (k->cdev)
                return;
        reset(i);
        k->iommufd = k->attached = false;
}

int kernel_do(int i, enum custody_action a, struct json_object *values, struct ipc_fds *fds) {
        struct kernel *k = &world.kernel[i];

        switch (a) {
        case ACTION_CLAIM_NOTE:
                json_set_str(values, "driver", "host");
                return 0;
        case ACTION_CLAIM_PM:
                k->power = true;
                return 0;
        case ACTION_CLAIM_OVERRIDE:
                k->override = true;
                return 0;
        case ACTION_CLAIM_REBIND:
                if (!k->override)
                        violation("function %d is probed again without its override", i);
                k->vfio = true;
                return 0;
        case ACTION_GUARD_ON:
                if (!k->vfio)
                        violation("function %d is guarded, and has no VFIO node", i);
                k->guarded = true;
                return 0;
        case ACTION_OPEN_CDEV:
                if (k->cdev)
                        violation("the VFIO node of %d is opened while it is open", i);
                if (!k->vfio)
                        violation("function %d is opened, and is not on vfio-pci", i);
                if (!k->guarded)
                        violation("function %d is opened, and anybody may map it", i);
                k->cdev = BY_WORKER | BY_TDID;
                fds->fd[fds->n++] = FD_CDEV + i;
                return 0;
        case ACTION_OPEN_BIND:
                if (setting->one_group)
                        for (int o = 0; o < FUNCTIONS; o++)
                                if (!world.kernel[o].vfio)
                                        violation("function %d is given to the iommufd while %d of its group is a host driver's", i, o);
                if (!k->cdev)
                        violation("function %d is given to the iommufd, and is not open", i);
                reset(i);
                k->iommufd = true;
                fds->fd[fds->n++] = FD_OTHER + i;
                return 0;
        case ACTION_CONNECT_NOTE:
                json_set_str(values, "connect_before", world.connected ? "tsm0" : "");
                world.mark[i] = false;
                return 0;
        case ACTION_CONNECT_TSM:
        case ACTION_BIND_CONNECT:
                if (world.connected)
                        violation("the DSM is connected for %d while it is connected", i);
                world.connected = world.mark[i] = true;
                return 0;
        case ACTION_PREPARE_ATTACH:
                if (!k->iommufd)
                        violation("function %d is attached, and the iommufd does not have it", i);
                k->attached = true;
                return 0;
        case ACTION_PREPARE_SOCKET:
                json_set_take(values, "serve", json_new());
                fds->fd[fds->n++] = FD_OTHER + i;
                k->socket = true;
                return 0;
        case ACTION_BIND_TSM:
                if (k->bound)
                        violation("function %d is bound twice", i);
                if (!world.connected || !k->attached)
                        violation("function %d is bound, and not connected and attached", i);
                if (k->socket && !k->locked && world.holder[i])
                        violation("function %d is bound while its client may change what that locks", i);
                k->bound = true;
                k->binding = BY_WORKER | BY_TDID;
                fds->fd[fds->n++] = FD_BINDING + i;
                return 0;
        default:
                return 0;
        }
}

int kernel_undo(int i, enum custody_action a, const struct pending *p, struct json_object *values) {
        struct kernel *k = &world.kernel[i];

        switch (a) {
        case ACTION_CLAIM_PM:
                k->power = false;
                return 0;
        case ACTION_CLAIM_OVERRIDE:
                k->override = false;
                return 0;
        case ACTION_CLAIM_REBIND:
                if (k->cdev)
                        violation("function %d is taken from vfio-pci while it is open", i);
                for (int o = 0; setting->one_group && o < FUNCTIONS; o++)
                        if (world.kernel[o].iommufd)
                                violation("function %d goes to its host driver while the iommufd has %d of its group", i, o);
                k->vfio = false;
                return 0;
        case ACTION_GUARD_ON:
                if (k->cdev)
                        violation("anybody may map function %d while it is open", i);
                k->guarded = false;
                return 0;
        case ACTION_OPEN_CDEV:
                world_drop_cdev(i, BY_WORKER);
                if (k->cdev)
                        violation("the worker's close of %d is not the last one: %#x", i, k->cdev);
                return 0;
        case ACTION_CONNECT_TSM:
                if (!world.connected || (p->in_doubt && !world.mark[i]))
                        return 0;
                if (p->used)
                        json_set_bool(values, "left", true);
                else
                        disconnect();
                return 0;
        case ACTION_PREPARE_ATTACH:
                if (k->bound)
                        violation("function %d is detached while it is bound", i);
                k->attached = false;
                return 0;
        case ACTION_PREPARE_SOCKET:
                k->socket = false;
                return 0;
        case ACTION_BIND_TSM:
                if (k->requests)
                        violation("function %d is unbound while requests of its guest go to the TSM", i);
                k->bound = false;
                return 0;
        default:
                return 0;
        }
}

bool kernel_is_so(int i, enum custody_action a) {
        const struct kernel *k = &world.kernel[i];

        switch (a) {
        case ACTION_CLAIM_PM:
                return k->power;
        case ACTION_CLAIM_OVERRIDE:
                return k->override;
        case ACTION_CLAIM_REBIND:
                return k->vfio;
        case ACTION_GUARD_ON:
                return k->guarded;
        case ACTION_OPEN_BIND:
                return k->iommufd;
        case ACTION_CONNECT_TSM:
                return world.connected;
        case ACTION_PREPARE_SOCKET:
                return k->socket;
        case ACTION_BIND_TSM:
                return k->bound;
        default:
                return true;
        }
}
