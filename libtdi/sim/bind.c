/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /dev/tdid-bind: the kernel module tdid-bind, by host/tdid_bind.h. An open file binds one function to one VM at a time, and keeps
 * the VFIO file and the VM's file meanwhile: the function is not reset and closed before it is unbound.
 *
 * What the PCI/TSM core does under it (a disconnect, a TSM that goes) unbinds the function and leaves the file as it is: until the
 * file unbinds as well, nobody else binds the function.
 */
#include <stdio.h>

#include "host/tdid_bind.h"
#include "sim/kvm.h"
#include "sim/machine.h"
#include "sim/tsm-abi.h"
#include "sim/vfio.h"

/* An open file. */
struct sim_binding {
        struct sim_rwsem lock;   /* a mutex, always taken for writing: over each call that looks at what follows */
        struct sim_function *fn; /* NULL: not bound */
        struct sim_file *device, *vm;
};

static int tell_info(struct tdid_bind_info *q) {
        if (q->argsz != sizeof(*q))
                return -EINVAL;
        q->flags = 0;
        q->api = TDID_BIND_API;
        q->request_max = TDID_BIND_REQUEST_MAX;
        return 0;
}

/* The i-th descriptor of a call, which the caller gave as `fd`: fget(). */
static int check_fd(const struct sim_ioctl *io, unsigned i, int32_t fd) {
        return fd < 0 || i >= io->n_in || (!io->in[i].file && io->in[i].fd < 0) ? -EBADF : 0;
}

static int check_bind(struct sim_call *c, const struct sim_ioctl *io, struct sim_function **ret_fn, struct kvm **ret_kvm) {
        const struct tdid_bind_bind *q = (const void *) io->arg;
        struct sim_function *fn;
        struct kvm *kvm;
        int r;

        fn = pci_find(sim_machine(c->sim), (uint16_t) (q->function >> 16), (uint8_t) (q->function >> 8), (uint8_t) q->function);
        if (!fn)
                return -ENODEV;
        r = check_fd(io, 0, q->device_fd);
        if (r >= 0)
                r = check_fd(io, 1, q->vm_fd);
        if (r < 0)
                return r;
        kvm = io->in[1].file ? sim_kvm_of(io->in[1].file) : NULL;
        if (!kvm || !io->in[0].file || sim_vfio_file_function(io->in[0].file) != fn)
                return -EINVAL;
        *ret_fn = fn;
        *ret_kvm = kvm;
        return 0;
}

static int bind(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        const struct tdid_bind_bind *q = (const void *) io->arg;
        struct sim_binding *b = f->data;
        struct sim_function *fn;
        struct kvm *kvm;
        int r;

        if (q->argsz != sizeof(*q) || q->flags)
                return -EINVAL;
        if (b->fn)
                return -EBUSY;
        r = check_bind(c, io, &fn, &kvm);
        if (r < 0)
                return r;
        if (fn->binding)
                return -EBUSY;
        r = sim_tsm_can_bind(fn);
        if (r < 0)
                return r;
        /* Before anything sleeps: of two files only one gets it. */
        fn->binding = b;
        r = sim_tsm_bind(c, fn, kvm, q->tdi_id);
        if (r < 0) {
                fn->binding = NULL;
                /* It was disconnected meanwhile. */
                return r == -EINVAL && !fn->tsm ? -ENOTCONN : r;
        }
        b->fn = fn;
        b->device = sim_file_get(io->in[0].file);
        b->vm = sim_file_get(io->in[1].file);
        snprintf(f->device, sizeof(f->device), "%s", fn->bdf);
        return 0;
}

/* Unbinds, then lets go: what was the last reference of the VFIO file closes the device here. */
static int unbind(struct sim_call *c, struct sim_file *f) {
        struct sim_binding *b = f->data;

        if (!b->fn)
                return -ENOTCONN;
        /* -ENXIO: the PCI/TSM core was faster. */
        (void) sim_tsm_unbind(c, b->fn);
        b->fn->binding = NULL;
        b->fn = NULL;
        b->device = sim_file_put(c, b->device);
        b->vm = sim_file_put(c, b->vm);
        f->device[0] = '\0';
        return 0;
}

static int request(struct sim_call *c, const struct sim_binding *b, struct sim_ioctl *io) {
        struct tdid_bind_request *q = (void *) io->arg;
        struct sim_tsm_request request = {
                .scope = q->scope,
                .in = io->blob[0].data,
                .in_len = q->in_len,
                .out = io->blob[1].data,
                .out_len = q->out_len,
        };
        int r;

        if (q->argsz != sizeof(*q) || q->flags || q->scope > TDI_TEST_TSM_SCOPE_STATE_CHANGE)
                return -EINVAL;
        if (q->in_len > TDID_BIND_REQUEST_MAX || q->out_len > TDID_BIND_REQUEST_MAX)
                return -EMSGSIZE;
        if (!b->fn)
                return -ENOTCONN;
        r = sim_tsm_guest_req(c, b->fn, &request);
        q->out_used = (uint32_t) request.used;
        q->tsm_code = request.code;
        return r;
}

/* mutex_lock_killable(), for a request mutex_lock_interruptible(): no other signal than the caller's death is modelled. */
static int locked(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct sim_binding *b = f->data;
        int r;

        r = sim_down_write_interruptible(c, &b->lock);
        if (r < 0)
                return r;
        r = io->request == TDID_BIND_IOC_BIND ? bind(c, f, io) : io->request == TDID_BIND_IOC_UNBIND ? unbind(c, f) : request(c, b, io);
        sim_up_write(c, &b->lock);
        return r;
}

static int bind_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct tdid_bind_request *q = (void *) io->arg;

        switch (io->request) {
        case TDID_BIND_IOC_INFO:
                return tell_info((void *) io->arg);
        case TDID_BIND_IOC_REQUEST:
                q->out_used = 0;
                q->tsm_code = 0;
                return locked(c, f, io);
        case TDID_BIND_IOC_BIND:
        case TDID_BIND_IOC_UNBIND:
                return locked(c, f, io);
        default:
                return -ENOTTY;
        }
}

static void bind_release(struct sim_call *c, struct sim_file *f) {
        struct sim_binding *b = f->data;

        (void) unbind(c, f);
        sim_machine(c->sim)->bind_files--;
        sim_rwsem_done(&b->lock);
        free(b);
}

static const struct sim_file_ops bind_ops = { .kind = "bind", .ioctl = bind_ioctl, .release = bind_release };

static int bind_open(struct sim_call *c, _unused_ struct sim_node *n, struct sim_file *f) {
        struct sim_binding *b = calloc(1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        sim_rwsem_init(&b->lock);
        f->ops = &bind_ops;
        f->data = b;
        sim_machine(c->sim)->bind_files++;
        return 0;
}

static const struct sim_node_ops bind_node_ops = { .open = bind_open };

int sim_bind_load(struct sim *sim) {
        struct sim_node *dev = sim_dirs(sim, "dev");

        if (sim_child(dev, TDID_BIND_NAME))
                return -EEXIST;
        sim_device_node(dev, TDID_BIND_NAME, &bind_node_ops, NULL);
        return 0;
}

int sim_bind_unload(struct sim_call *c) {
        struct sim_node *n = sim_child(sim_dirs(c->sim, "dev"), TDID_BIND_NAME);

        if (!n)
                return -ENOENT;
        /* Each open file keeps a module. */
        if (sim_machine(c->sim)->bind_files > 0)
                return -EBUSY;
        sim_remove(c, n, NULL);
        return 0;
}
