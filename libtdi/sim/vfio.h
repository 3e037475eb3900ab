/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the VFIO room share: a function on vfio-pci, its open files, its interrupts, its virtual config space, its dma-bufs.
 * Other rooms see no more of it than pci.h and the few lines at the end.
 */
#ifndef TDI_SIM_VFIO_H
#define TDI_SIM_VFIO_H

#include <linux/pci_regs.h>

#include "host/abi/vfio.h"
#include "sim/marshal.h"
#include "sim/pci.h"

#define VFIO_OFFSET_SHIFT 40
#define VFIO_OFFSET_MASK ((UINT64_C(1) << VFIO_OFFSET_SHIFT) - 1)
#define VFIO_IRQ_NONE TDI_VFIO_PCI_NUM_IRQS
#define VFIO_IOEVENTFD_MAX 1000
#define PAGE_SIZE_ UINT64_C(4096)

struct kvm;
struct iommufd_device;
struct vfio_config;
struct vfio_dmabuf;
struct vfio_group;

/* Functions that one reset hits: struct vfio_device_set. Its lock is held over opening, closing, attaching and a hot reset. */
struct vfio_set {
        const struct sim_function *bridge; /* NULL: a set of one */
        struct sim_rwsem lock;
        struct sim_vfio **members;
        size_t n_members;
        unsigned refs;
        struct vfio_set *next;
};

/* An eventfd that makes the kernel do something: struct virqfd. */
struct vfio_watch {
        int fd;
        void (*fired)(struct sim_call *c, struct vfio_watch *w);
        struct sim_vfio *vfio;
        struct vfio_watch *next;
        /* of an ioeventfd */
        unsigned bar, count;
        uint64_t pos, data;
};

struct sim_vfio {
        struct sim *sim;
        struct sim_function *fn;
        unsigned index;              /* N of vfioN */
        struct vfio_set *set;
        struct vfio_group *group;
        unsigned refs;               /* registration: 1, and one for each open file and each live dma-buf */
        struct sim_wait released;
        struct sim_node *folder, *node, *device_node, *class_link;

        bool open;                   /* one file is bound */
        bool cdev_opened;
        struct kvm *kvm;
        struct iommufd_device *idev;
        bool attached;

        struct sim_rwsem memory_lock; /* down for writing while the function cannot be reached */
        bool reset_works, needs_reset;
        uint8_t saved[64];           /* header of config space as it was when the device was opened */
        uint16_t saved_devctl, saved_devctl2;
        struct vfio_config *config;
        bool engaged, suspended;     /* low power: asked for, and entered */
        unsigned calls;              /* running now: the function stays awake */
        int wake;                    /* eventfd of LOW_POWER_ENTRY_WITH_WAKEUP */

        struct sim_rwsem igate;
        unsigned irq_type;           /* VFIO_IRQ_NONE */
        int *trigger;                /* eventfds, n_trigger of them; of INTx the first */
        unsigned n_trigger;
        bool masked, virq_disabled, intx_2_3;
        struct vfio_watch *unmask;
        unsigned msi_qmax;
        int err, req;
        unsigned n_ioeventfds;

        struct vfio_dmabuf *dmabufs;

        bool has_token;              /* a PF with SR-IOV */
        uint8_t token[16];
        unsigned token_users;
        struct sim_vfio *pf;         /* of a VF whose PF is on vfio-pci */
};

/* An open device node. */
struct vfio_file {
        struct sim_vfio *vfio;
        bool granted;                /* BIND succeeded: before it every other call is -EINVAL */
        struct sim_file *ctx;        /* the iommufd */
        uint32_t devid;
        struct kvm *kvm;             /* of KVM_DEV_VFIO_FILE_ADD; no reference */
};

/* Of a whole machine. */
struct vfio_machine {
        struct sim_machine *machine;
        struct sim_driver driver;
        struct vfio_set *sets;
        uint8_t *used;               /* indexes of vfioN, one byte each */
        size_t n_used;
        struct vfio_watch *watches;
        bool watching;
        bool enable_sriov;           /* the module's parameter */
        struct sim_node *class;
};

/* ---- vfio.c ---- */
struct vfio_machine *vfio_machine(struct sim *sim);
void vfio_put(struct sim_vfio *v);
/* Runtime PM around every call: vfio_device_pm_runtime_get() and _put(). */
void vfio_wake(struct sim_vfio *v);
void vfio_idle(struct sim_vfio *v);

/* ---- vfio-core.c: what opening, closing and resetting does to the function ---- */
int vfio_enable(struct sim_call *c, struct sim_vfio *v);
void vfio_disable(struct sim_call *c, struct sim_vfio *v);
int vfio_set_join(struct sim_call *c, struct sim_vfio *v);
void vfio_set_leave(struct sim_call *c, struct sim_vfio *v);
int vfio_try_reset(struct sim_call *c, struct sim_function *fn); /* pci_try_reset_function() */
int vfio_reset(struct sim_call *c, struct sim_vfio *v);
int vfio_hot_reset_info(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io);
int vfio_hot_reset(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io);
int vfio_set_power(struct sim_call *c, struct sim_vfio *v, unsigned state);
bool vfio_memory_enabled(const struct sim_vfio *v);
/* The function's memory answers while this is held, whatever COMMAND says: vfio_pci_memory_lock_and_enable(). */
uint16_t vfio_memory_lock(struct sim_call *c, struct sim_vfio *v);
void vfio_memory_unlock(struct sim_call *c, struct sim_vfio *v, uint16_t command);

/* ---- vfio-info.c ---- */
int vfio_get_info(struct sim_vfio *v, struct sim_ioctl *io);
int vfio_get_region_info(struct sim_vfio *v, struct sim_ioctl *io);
int vfio_get_irq_info(struct sim_vfio *v, struct sim_ioctl *io);
/* Where the MSI-X table is; false without one. */
bool vfio_msix_table(struct sim_function *fn, unsigned *ret_bar, uint64_t *ret_start, uint64_t *ret_end);

/* ---- vfio-caps.c, vfio-config.c ---- */
int vfio_config_init(struct sim_vfio *v);
void vfio_config_free(struct sim_vfio *v);
ssize_t vfio_config_read(struct sim_call *c, struct sim_vfio *v, void *buf, size_t size, uint64_t offset);
ssize_t vfio_config_write(struct sim_call *c, struct sim_vfio *v, const void *buf, size_t size, uint64_t offset);
uint16_t vfio_config_command(const struct sim_vfio *v); /* the virtual COMMAND */
bool vfio_config_has_intx(const struct sim_vfio *v);
uint16_t vfio_get16(struct sim_function *fn, unsigned offset);
uint32_t vfio_get32(struct sim_function *fn, unsigned offset);
void vfio_put16(struct sim_call *c, struct sim_function *fn, unsigned offset, uint16_t value);

/* ---- vfio-rw.c ---- */
ssize_t vfio_bar_read(struct sim_call *c, struct sim_vfio *v, unsigned bar, void *buf, size_t size, uint64_t offset);
ssize_t vfio_bar_write(struct sim_call *c, struct sim_vfio *v, unsigned bar, const void *buf, size_t size, uint64_t offset);
int vfio_ioeventfd(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io);
void vfio_ioeventfds_free(struct sim_vfio *v);

/* ---- vfio-irq.c ---- */
unsigned vfio_irq_count(const struct sim_vfio *v, unsigned index);
int vfio_set_irqs(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io);
void vfio_irqs_disable(struct sim_call *c, struct sim_vfio *v);
void vfio_intx_mask(struct sim_call *c, struct sim_vfio *v);
void vfio_intx_unmask(struct sim_call *c, struct sim_vfio *v);

/* ---- vfio-event.c: eventfds ---- */
/* Duplicates what the i-th descriptor of a call names, whose member holds value: eventfd_ctx_fdget(). */
int vfio_event_take(const struct sim_ioctl *io, unsigned i, int32_t value);
void vfio_event_signal(int fd);
/* Takes the descriptor when it returns 0. */
int vfio_watch_add(struct sim_vfio *v, int fd, void (*fired)(struct sim_call *c, struct vfio_watch *w), struct vfio_watch **ret);
void vfio_watch_remove(struct sim_vfio *v, struct vfio_watch *w);

/* ---- vfio-feature.c, vfio-dmabuf.c ---- */
int vfio_feature(struct sim_call *c, struct sim_vfio *v, struct sim_ioctl *io);
int vfio_check_feature(uint32_t flags, size_t size, uint32_t supported, size_t least); /* 1: go on */
void vfio_low_power_exit(struct sim_vfio *v);
int vfio_feature_dmabuf(struct sim_call *c, struct sim_vfio *v, uint32_t flags, struct sim_ioctl *io);
void vfio_dmabufs_move(struct sim_call *c, struct sim_vfio *v, bool revoked); /* memory_lock held for writing; sleeps */
void vfio_dmabufs_cleanup(struct sim_call *c, struct sim_vfio *v);

/* ---- vfio-group.c: the old interface, as far as it gets in the way ---- */
int vfio_group_join(struct sim_vfio *v);
void vfio_group_leave(struct sim_call *c, struct sim_vfio *v);
int vfio_group_block(struct sim_vfio *v);
void vfio_group_unblock(struct sim_vfio *v);
void vfio_group_forget(struct sim_vfio *v); /* the whole simulation ends: nothing else is there any more */

/* ---- vfio-sriov.c ---- */
int vfio_sriov_configure(struct sim_call *c, struct sim_function *fn, unsigned n);
void vfio_sriov_disable(struct sim_call *c, struct sim_function *fn);
void vfio_sriov_init(struct vfio_machine *m);

/* ---- for kvm.c, bind.c ---- */
bool sim_vfio_file_is_valid(const struct sim_file *f);
/* The function of a file that is a VFIO device and bound to an iommufd; NULL. */
struct sim_function *sim_vfio_file_function(const struct sim_file *f);
void sim_vfio_file_set_kvm(struct sim_file *f, struct kvm *kvm);

#endif
