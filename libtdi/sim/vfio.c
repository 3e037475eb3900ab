/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-pci: the driver, its device nodes, and what a file of one answers: who may bind it, when, and what happens at its last close.
 * The order of checks is that of drivers/vfio/{vfio_main,device_cdev,iommufd}.c.
 */
#include "sim/vfio.h"

#include <stdio.h>
#include <sys/random.h>

#include "sim/iommufd.h"
#include "sim/kvm.h"

#define REQUEST_PAUSE_MS 10000 /* vfio_unregister_group_dev() */

static const struct sim_file_ops vfio_ops;

struct vfio_machine *vfio_machine(struct sim *sim) {
        return sim_machine(sim)->vfio;
}

void vfio_put(struct sim_vfio *v) {
        if (--v->refs == 0)
                sim_wake(&v->released);
}

static bool is_asleep_when_idle(const struct sim_vfio *v) {
        return v->engaged && streq(v->fn->power_control, "auto");
}

/* vfio_pci_core_runtime_resume() */
void vfio_wake(struct sim_vfio *v) {
        if (v->calls++ == 0)
                v->fn->pm_users++;
        if (!v->suspended)
                return;
        v->suspended = false;
        if (v->wake < 0)
                return;
        vfio_event_signal(v->wake);
        vfio_low_power_exit(v);
}

void vfio_idle(struct sim_vfio *v) {
        if (--v->calls > 0)
                return;
        v->fn->pm_users--;
        if (is_asleep_when_idle(v))
                v->suspended = true;
}

/* ---- a file ---- */

bool sim_vfio_file_is_valid(const struct sim_file *f) {
        return f->ops == &vfio_ops;
}

struct sim_function *sim_vfio_file_function(const struct sim_file *f) {
        const struct vfio_file *df = f->data;

        return f->ops == &vfio_ops && df->granted ? df->vfio->fn : NULL;
}

void sim_vfio_file_set_kvm(struct sim_file *f, struct kvm *kvm) {
        struct vfio_file *df = f->data;

        df->kvm = kvm;
}

/* vfio_pci_core_match_token_uuid(); uuid is NULL when the call gave none. */
static int check_token(struct sim_vfio *v, const uint8_t *uuid) {
        if (v->fn->physfn) {
                if (!v->pf)
                        return uuid ? -EINVAL : 0;
                return uuid && memcmp(uuid, v->pf->token, sizeof(v->pf->token)) == 0 ? 0 : -EACCES;
        }
        if (!v->has_token)
                return uuid ? -EINVAL : 0;
        if (v->token_users > 0)
                return uuid && memcmp(uuid, v->token, sizeof(v->token)) == 0 ? 0 : -EACCES;
        if (uuid)
                memcpy(v->token, uuid, sizeof(v->token));
        return 0;
}

/* vfio_df_device_last_close(), with the set's lock held. */
static void close_device(struct sim_call *c, struct sim_vfio *v) {
        if (v->pf)
                v->pf->token_users--;
        vfio_dmabufs_cleanup(c, v);
        vfio_disable(c, v);
        v->err = close_fd(v->err);
        v->req = close_fd(v->req);
        if (v->attached)
                iommufd_device_detach(c, v->idev);
        v->attached = false;
        iommufd_device_unbind(c, TAKE_PTR(v->idev));
        v->open = false;
}

/* vfio_df_open() */
static int open_device(struct sim_call *c, struct vfio_file *df) {
        struct sim_vfio *v = df->vfio;
        int r;

        /* Another open of the node has it already. */
        if (v->open)
                return -EINVAL;
        v->open = true;
        if (df->kvm)
                v->kvm = kvm_get(df->kvm);
        r = iommufd_device_bind(c, df->ctx, v->fn, &v->idev);
        if (r < 0)
                goto fail;
        df->devid = v->idev->object.id;
        r = vfio_enable(c, v);
        if (r < 0) {
                iommufd_device_unbind(c, TAKE_PTR(v->idev));
                goto fail;
        }
        if (v->pf)
                v->pf->token_users++;
        return 0;
fail:
        kvm_put(c, TAKE_PTR(v->kvm));
        v->open = false;
        return r;
}

/* vfio_df_ioctl_bind_iommufd() */
static int bind_iommufd(struct sim_call *c, struct vfio_file *df, struct sim_ioctl *io) {
        struct tdi_vfio_device_bind_iommufd *bind = (void *) io->arg;
        struct sim_vfio *v = df->vfio;
        struct sim_file *ctx = NULL;
        bool token;
        int r;

        if (bind->argsz < offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr))
                return -EINVAL;
        if (bind->iommufd < 0 || bind->flags & ~(uint32_t) TDI_VFIO_DEVICE_BIND_FLAG_TOKEN)
                return -EINVAL;
        r = vfio_group_block(v);
        if (r < 0)
                return r;
        sim_down_write(c, &v->set->lock);
        r = -EINVAL;
        if (df->granted)
                goto out;
        token = bind->flags & TDI_VFIO_DEVICE_BIND_FLAG_TOKEN;
        r = -EFAULT;
        if (token && (!io->blob[0].data || io->blob[0].size < sizeof(v->token)))
                goto out;
        r = check_token(v, token ? io->blob[0].data : NULL);
        if (r < 0)
                goto out;
        /* iommufd_ctx_from_fd() */
        r = io->n_in > 0 && (io->in[0].file || io->in[0].fd >= 0) ? -EBADFD : -EBADF;
        if (io->n_in == 0 || !io->in[0].file || !iommufd_ctx_of(io->in[0].file))
                goto out;
        ctx = df->ctx = sim_file_get(io->in[0].file);
        r = open_device(c, df);
        if (r < 0) {
                df->ctx = NULL;
                goto out;
        }
        bind->out_devid = df->devid;
        v->cdev_opened = true;
        df->granted = true;
        sim_up_write(c, &v->set->lock);
        return 0;
out:
        sim_up_write(c, &v->set->lock);
        vfio_group_unblock(v);
        if (ctx)
                sim_file_put(c, ctx);
        return r;
}

static int attach_pt(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_device_attach_iommufd_pt *attach = (void *) io->arg;
        int r;

        if (attach->argsz < offsetof(struct tdi_vfio_device_attach_iommufd_pt, pasid) ||
            attach->flags & ~(uint32_t) TDI_VFIO_DEVICE_ATTACH_PASID)
                return -EINVAL;
        if (attach->flags & TDI_VFIO_DEVICE_ATTACH_PASID) {
                if (attach->argsz < sizeof(*attach))
                        return -EINVAL;
                /* No modelled IOMMU has PASIDs: what is there suits none (iommufd_hw_pagetable_attach). */
                sim_down_write(c, &v->set->lock);
                r = iommufd_device_knows(v->idev, attach->pt_id) ? -EINVAL : -ENOENT;
                sim_up_write(c, &v->set->lock);
                return r;
        }
        sim_down_write(c, &v->set->lock);
        r = iommufd_device_attach(c, v->idev, &attach->pt_id);
        if (r == 0)
                v->attached = true;
        sim_up_write(c, &v->set->lock);
        return r;
}

static int detach_pt(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io) {
        struct tdi_vfio_device_detach_iommufd_pt *detach = (void *) io->arg;

        if (detach->argsz < offsetof(struct tdi_vfio_device_detach_iommufd_pt, pasid) ||
            detach->flags & ~(uint32_t) TDI_VFIO_DEVICE_DETACH_PASID)
                return -EINVAL;
        if (detach->flags & TDI_VFIO_DEVICE_DETACH_PASID)
                return detach->argsz < sizeof(*detach) ? -EINVAL : 0; /* nothing is attached to it */
        sim_down_write(c, &v->set->lock);
        if (v->attached)
                iommufd_device_detach(c, v->idev);
        v->attached = false;
        sim_up_write(c, &v->set->lock);
        return 0;
}

static int vfio_call(struct sim_call *c, struct vfio_file *df, struct sim_ioctl *io) {
        struct sim_vfio *v = df->vfio;

        switch (io->request) {
        case TDI_VFIO_DEVICE_ATTACH_IOMMUFD_PT:
                return attach_pt(c, v, io);
        case TDI_VFIO_DEVICE_DETACH_IOMMUFD_PT:
                return detach_pt(c, v, io);
        case TDI_VFIO_DEVICE_FEATURE:
                return vfio_feature(c, v, io);
        case TDI_VFIO_DEVICE_GET_INFO:
                return vfio_get_info(v, io);
        case TDI_VFIO_DEVICE_GET_REGION_INFO:
                return vfio_get_region_info(v, io);
        case TDI_VFIO_DEVICE_GET_IRQ_INFO:
                return vfio_get_irq_info(v, io);
        case TDI_VFIO_DEVICE_SET_IRQS:
                return vfio_set_irqs(c, v, io);
        case TDI_VFIO_DEVICE_RESET:
                return vfio_reset(c, v);
        case TDI_VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
                return vfio_hot_reset_info(c, v, io);
        case TDI_VFIO_DEVICE_PCI_HOT_RESET:
                return vfio_hot_reset(c, v, io);
        case TDI_VFIO_DEVICE_IOEVENTFD:
                return vfio_ioeventfd(c, v, io);
        default:
                return -ENOTTY;
        }
}

static int vfio_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct vfio_file *df = f->data;
        int r;

        if (io->request == TDI_VFIO_DEVICE_BIND_IOMMUFD)
                return bind_iommufd(c, df, io);
        if (!df->granted)
                return -EINVAL;
        vfio_wake(df->vfio);
        r = vfio_call(c, df, io);
        vfio_idle(df->vfio);
        return r;
}

/* vfio_pci_rw() */
static ssize_t vfio_transfer(struct sim_call *c, struct vfio_file *df, void *buf, const void *data, size_t size, uint64_t offset) {
        struct sim_vfio *v = df->vfio;
        uint64_t index = offset >> VFIO_OFFSET_SHIFT;
        ssize_t n;

        if (!df->granted)
                return -EINVAL;
        if (size == 0)
                return 0;
        if (index >= TDI_VFIO_PCI_NUM_REGIONS)
                return -EINVAL;
        vfio_wake(v);
        offset &= VFIO_OFFSET_MASK;
        if (index == TDI_VFIO_PCI_CONFIG_REGION_INDEX)
                n = data ? vfio_config_write(c, v, data, size, offset) : vfio_config_read(c, v, buf, size, offset);
        else if (index <= TDI_VFIO_PCI_BAR5_REGION_INDEX)
                n = data ? vfio_bar_write(c, v, (unsigned) index, data, size, offset) :
                           vfio_bar_read(c, v, (unsigned) index, buf, size, offset);
        else
                n = -EINVAL; /* no modelled function has a ROM or is a VGA */
        vfio_idle(v);
        return n;
}

static ssize_t vfio_pread(struct sim_call *c, struct sim_file *f, void *buf, size_t size, uint64_t offset) {
        return vfio_transfer(c, f->data, buf, NULL, size, offset);
}

static ssize_t vfio_pwrite(struct sim_call *c, struct sim_file *f, const void *buf, size_t size, uint64_t offset) {
        return vfio_transfer(c, f->data, NULL, buf, size, offset);
}

/* vfio_device_fops_release() */
static void vfio_release(struct sim_call *c, struct sim_file *f) {
        struct vfio_file *df = f->data;
        struct sim_vfio *v = df->vfio;

        if (df->granted) {
                sim_down_write(c, &v->set->lock);
                close_device(c, v);
                kvm_put(c, TAKE_PTR(v->kvm));
                v->cdev_opened = false;
                sim_up_write(c, &v->set->lock);
                vfio_group_unblock(v);
                sim_file_put(c, df->ctx);
        }
        vfio_put(v);
        free(df);
}

static const struct sim_file_ops vfio_ops = {
        .kind = "vfio",
        .pread = vfio_pread,
        .pwrite = vfio_pwrite,
        .ioctl = vfio_ioctl,
        .release = vfio_release,
};

/* vfio_device_fops_cdev_open() */
static int vfio_open(struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        struct sim_vfio *v = n->data;
        struct vfio_file *df;

        (void) c;
        if (v->refs == 0)
                return -ENODEV;
        df = calloc(1, sizeof(*df));
        if (!df)
                return -ENOMEM;
        df->vfio = v;
        v->refs++;
        f->ops = &vfio_ops;
        f->data = df;
        snprintf(f->device, sizeof(f->device), "%s", v->fn->bdf);
        return 0;
}

static const struct sim_node_ops vfio_node_ops = { .open = vfio_open };

/* ---- the driver ---- */

/* The lowest number that is free, as ida_alloc() gives them. */
static int index_take(struct vfio_machine *m, unsigned *ret) {
        uint8_t *used;
        size_t i, n;

        for (i = 0; i < m->n_used; i++)
                if (!m->used[i])
                        break;
        if (i == m->n_used) {
                n = m->n_used ? m->n_used * 2 : 64;
                used = realloc(m->used, n);
                if (!used)
                        return -ENOMEM;
                memset(used + m->n_used, 0, n - m->n_used);
                m->used = used;
                m->n_used = n;
        }
        m->used[i] = 1;
        *ret = (unsigned) i;
        return 0;
}

/* autosuspend_delay_ms_show() without autosuspend. */
static ssize_t no_autosuspend_show(_unused_ struct sim_call *c, _unused_ struct sim_node *n, _unused_ char *buf, _unused_ size_t size) {
        return -EIO;
}
static const struct sim_node_ops no_autosuspend_ops = { .show = no_autosuspend_show };

static void publish(struct sim_vfio *v) {
        struct vfio_machine *m = vfio_machine(v->sim);
        struct sim_node *power;
        char name[24];

        snprintf(name, sizeof(name), "vfio%u", v->index);
        v->folder = sim_dir(v->fn->node, "vfio-dev");
        v->node = sim_dir(v->folder, name);
        sim_text(v->node, "dev", "511:%u", v->index);
        sim_link(v->node, "device", v->fn->node);
        sim_link(v->node, "subsystem", m->class);
        sim_text(v->node, "uevent", "MAJOR=511\nMINOR=%u\nDEVNAME=vfio/devices/%s", v->index, name);
        /* Without runtime power management of its own: dpm_sysfs_add(). */
        power = sim_dir(v->node, "power");
        sim_file_node(power, "autosuspend_delay_ms", 0644, &no_autosuspend_ops, v);
        sim_text(power, "control", "auto");
        sim_text(power, "runtime_active_kids", "0");
        sim_text(power, "runtime_active_time", "0");
        sim_text(power, "runtime_enabled", "disabled");
        sim_text(power, "runtime_status", "unsupported");
        sim_text(power, "runtime_suspended_time", "0");
        sim_text(power, "runtime_usage", "0");
        v->class_link = sim_link(m->class, name, v->node);
        v->device_node = sim_device_node(sim_dirs(v->sim, "dev/vfio/devices"), name, &vfio_node_ops, v);
        v->device_node->device = v->fn->bdf;
        sim_uevent(v->sim, "add", "vfio-dev", v->node);
}

static struct sim_vfio *vfio_free(struct sim_call *c, struct sim_vfio *v) {
        if (!v)
                return NULL;
        if (v->set)
                vfio_set_leave(c, v);
        sim_rwsem_done(&v->memory_lock);
        sim_rwsem_done(&v->igate);
        sim_wait_done(&v->released);
        free(v);
        return NULL;
}

/* vfio_pci_core_register_device() */
static int vfio_probe(struct sim_call *c, struct sim_function *fn) {
        struct vfio_machine *m = vfio_machine(c->sim);
        struct sim_vfio *v;
        int r;

        if (fn->is_bridge || !fn->group)
                return -EINVAL;
        /* Its VFs might be in use, and cannot be captured any more. */
        if (fn->sriov_enabled > 0)
                return -EBUSY;
        v = calloc(1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        v->sim = c->sim;
        v->fn = fn;
        v->refs = 1;
        v->wake = v->err = v->req = -EBADF;
        v->irq_type = VFIO_IRQ_NONE;
        sim_wait_init(&v->released);
        sim_rwsem_init(&v->memory_lock);
        sim_rwsem_init(&v->igate);
        r = vfio_set_join(c, v);
        if (r < 0)
                goto fail;
        /* vfio_pci_vf_init() */
        if (fn->physfn)
                v->pf = fn->physfn->vfio;
        else if (fn->sriov_total > 0) {
                v->has_token = true;
                if (getrandom(v->token, sizeof(v->token), 0) != (ssize_t) sizeof(v->token)) {
                        r = -ENOMEM;
                        goto fail;
                }
        }
        r = vfio_set_power(c, v, 0);
        if (r < 0)
                goto fail;
        r = vfio_group_join(v);
        if (r < 0)
                goto fail;
        r = index_take(m, &v->index);
        if (r < 0) {
                vfio_group_leave(c, v);
                goto fail;
        }
        fn->vfio = v;
        snprintf(fn->power_control, sizeof(fn->power_control), "auto"); /* pm_runtime_allow() */
        publish(v);
        return 0;
fail:
        vfio_free(c, v);
        return r;
}

/* vfio_pci_core_unregister_device(): nobody can open it any more, then everybody who has it open is waited for. */
static void vfio_remove(struct sim_call *c, struct sim_function *fn) {
        struct vfio_machine *m = vfio_machine(c->sim);
        struct sim_vfio *v = fn->vfio;

        vfio_sriov_disable(c, fn);
        sim_uevent(c->sim, "remove", "vfio-dev", v->node);
        sim_remove(c, v->device_node, NULL);
        sim_remove(c, v->class_link, NULL);
        sim_remove(c, v->folder, NULL);
        vfio_put(v);
        for (unsigned i = 0; v->refs > 0; i++) {
                if (v->req >= 0)
                        vfio_event_signal(v->req);
                else if (i == 0)
                        sim_log(c->sim, "vfio-pci %s: No device request channel registered, blocked until released by user", fn->bdf);
                while (v->refs > 0)
                        if (sim_wait_timeout(c, &v->released, REQUEST_PAUSE_MS) == -ETIMEDOUT)
                                break;
        }
        vfio_group_leave(c, v);
        m->used[v->index] = 0;
        fn->vfio = NULL;
        snprintf(fn->power_control, sizeof(fn->power_control), "on"); /* pm_runtime_forbid() */
        vfio_free(c, v);
}

/* What the topology puts on vfio-pci is in the module's parameter ids. */
static bool vfio_match(const struct sim_driver *driver, const struct sim_function *fn) {
        return fn->host_driver && streq(fn->host_driver, driver->name);
}

void sim_vfio_error(struct sim_call *c, struct sim_function *fn) {
        (void) c;
        if (fn->vfio && fn->vfio->err >= 0)
                vfio_event_signal(fn->vfio->err);
}

void sim_vfio_init(struct sim_machine *machine) {
        struct vfio_machine *m = calloc(1, sizeof(*m));

        if (!m)
                abort();
        m->machine = machine;
        m->driver.name = "vfio-pci";
        m->driver.match = vfio_match;
        m->driver.probe = vfio_probe;
        m->driver.remove = vfio_remove;
        m->driver.error = sim_vfio_error;
        m->driver.sriov_configure = vfio_sriov_configure;
        m->driver.driver_managed_dma = true;
        machine->vfio = m;
        m->class = sim_dirs(machine->sim, "sys/class/vfio-dev");
        sim_dirs(machine->sim, "dev/vfio/devices");
        vfio_sriov_init(m);
        sim_driver_register(machine, &m->driver);
}

void sim_vfio_free(struct sim_machine *machine) {
        struct vfio_machine *m = TAKE_PTR(machine->vfio);

        if (!m)
                return;
        for (struct vfio_set *set = m->sets, *next; set; set = next) {
                next = set->next;
                for (size_t i = 0; i < set->n_members; i++) {
                        struct sim_vfio *v = set->members[i];

                        vfio_group_forget(v);
                        sim_wait_done(&v->released);
                        free(v);
                }
                free(set->members);
                free(set);
        }
        free(m->used);
        free(m);
}
