/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The machine that the kernel runs on, as the rooms of the model share it: PCIe functions, drivers, IOMMU groups, TSMs, and
 * who among the rooms does what.
 *
 *      pci.c      functions, config space, BARs, hierarchy, SR-IOV, resets, unplug
 *      driver.c   the driver core: bind, unbind, override, probe; the host's own drivers
 *      doe.c      DOE mailboxes
 *      group.c    IOMMU groups
 *      tsm.c      TSMs, connect, disconnect, IDE streams
 *      users.c    what uses a function on the host: disks, mounts, swap, network interfaces
 *      vfio*.c    vfio-pci as a driver, its device nodes and calls
 *      iommufd*.c address spaces
 *      kvm.c      VMs, and the kvm-vfio device
 *      dmabuf.c   udmabuf and heaps
 *      edu.c      a device model
 */
#ifndef TDI_SIM_PCI_H
#define TDI_SIM_PCI_H

#include "kernel.h"

#define SIM_CONFIG_SIZE 4096
#define SIM_BARS 6
#define SIM_CONVENTIONAL 0xff /* sim_function.port_type */

struct sim_function;
struct sim_vfio;   /* vfio.c: what vfio-pci knows of a function */
struct sim_disk;   /* users.c */

struct sim_driver {
        const char *name;
        /* Called with the function's device lock held; may sleep. remove cannot fail. */
        int (*probe)(struct sim_call *c, struct sim_function *fn);
        void (*remove)(struct sim_call *c, struct sim_function *fn);
        /* Before and after a reset of the function that its driver did not ask for (unplug, error): may be NULL. */
        void (*error)(struct sim_call *c, struct sim_function *fn);
        bool driver_managed_dma; /* vfio-pci, pcieport: does not claim the group's DMA (iommu_device_use_default_domain) */
        /* Besides driver_override and new_id: does the id table have the function? NULL: it is empty. */
        bool (*match)(const struct sim_driver *driver, const struct sim_function *fn);
        int (*sriov_configure)(struct sim_call *c, struct sim_function *fn, unsigned n); /* n or 0; NULL: -ENOENT */
        void *data;             /* the driver's */
        void *ids;              /* driver.c: of new_id */
        struct sim_node *node; /* /sys/bus/pci/drivers/NAME */
        struct sim_driver *next;
};

struct sim_bar {
        uint64_t address, size; /* size 0: not there */
        bool io, prefetchable, wide;
};

/* What answers behind a function's BARs. All may sleep; data is fn->model_data. */
struct sim_model {
        const char *name; /* "edu" in a topology */
        int (*create)(struct sim_function *fn);
        void (*destroy)(struct sim_function *fn);
        void (*reset)(struct sim_call *c, struct sim_function *fn);
        void (*read)(struct sim_call *c, struct sim_function *fn, unsigned bar, uint64_t offset, void *buf, size_t size);
        void (*write)(struct sim_call *c, struct sim_function *fn, unsigned bar, uint64_t offset, const void *buf, size_t size);
};
const struct sim_model *sim_model_find(const char *name); /* edu.c: NULL when there is none of that name. "memory": plain memory behind every BAR */

struct sim_group {
        unsigned id;
        struct sim_function **members;
        size_t n_members;
        struct sim_node *node;                       /* /sys/kernel/iommu_groups/ID */
        char type[16];                               /* of its default domain: "DMA-FQ" */
        char *word;                                  /* its name in the topology, NULL when ACS decided */
        struct { uint64_t start, end; bool msi; } reserved[8]; /* end inclusive */
        unsigned n_reserved;
        bool no_coherency;                           /* the IOMMU cannot enforce cache coherency for it */
        /* DMA ownership (iommu_group_claim_dma_owner and iommu_device_use_default_domain): host drivers count, vfio claims. */
        unsigned host_users;
        const void *owner;                           /* the iommufd context that owns its DMA, NULL for none */
        unsigned owner_count;
        void *hwpt;                                  /* iommufd.c: what the group is attached to */
        unsigned hwpt_count;
        void *vfio;                                  /* vfio-group.c: its node of the old interface */
};

struct sim_tsm_context; /* tsm.c: struct pci_tsm of a function */
struct sim_binding;     /* bind.c */

struct sim_function {
        struct sim *sim;
        char bdf[16];              /* "0000:01:00.0" */
        uint16_t segment;
        uint8_t bus, devfn;
        struct sim_function *bridge;  /* the port above it; NULL on a root bus */
        struct sim_function *physfn;  /* of a VF */
        unsigned vf_index;
        struct sim_node *node;        /* /sys/devices/pciDDDD:BB/…/BDF */
        struct sim_rwsem lock;        /* device_lock(); a reset and sysfs bind/unbind take it for writing */
        struct sim_rwsem config_lock; /* pci_cfg_access_lock(): down for writing while it is reset; users' accesses of config space wait */
        bool present;                 /* false after unplug: reads of config are all ones */
        uint8_t config[SIM_CONFIG_SIZE];
        uint8_t writable[SIM_CONFIG_SIZE]; /* bits that a write changes */
        uint8_t rw1c[SIM_CONFIG_SIZE];
        size_t config_size;           /* 256 or 4096 */
        struct sim_bar bar[SIM_BARS];
        unsigned msi_vectors, msix_vectors;
        bool intx, flr, bus_reset;    /* what it can do */
        bool is_bridge;
        uint16_t sriov_total, sriov_enabled;
        struct sim_function **vfs;    /* sriov_enabled */
        struct sim_group *group;
        struct sim_driver *driver;
        char *driver_override;        /* NULL: "(null)" */
        char *host_driver;            /* what the kernel binds by itself; NULL for none */
        char power_control[8];        /* "on", "auto" */
        const struct sim_model *model;
        void *model_data;
        struct sim_vfio *vfio;        /* while on vfio-pci */
        struct sim_tsm_context *tsm;
        struct sim_binding *binding;  /* bind.c: the file that has it */
        bool tee_io, ide;             /* can be a DSM */
        void *users;                  /* users.c: disks, interfaces that its driver makes */
        uint8_t port_type;            /* device type of the PCIe capability; SIM_CONVENTIONAL without one */
        int enable_count;             /* of pci_enable_device(): sim_pci_enable() and sim_pci_disable() */
        unsigned pm_users;            /* pm_runtime_get(): while 0 and power_control is "auto", vfio-pci's function is asleep */
        struct sim_pci *pci;          /* pci.c's own */
        struct json_object *topology; /* its own entry, borrowed from the machine */
        struct sim_function *next;    /* all functions in the order of their BDFs */
};

struct sim_machine {
        struct sim *sim;
        char platform[16];            /* "tdx", "sev-snp", "cca", "pkvm", "plain" */
        char boot_id[40];
        struct json_object *topology;
        struct sim_function *functions;
        struct sim_driver *drivers;
        struct sim_group **groups;
        size_t n_groups;
        struct sim_rwsem tsm_lock;    /* pci_tsm_rwsem */
        struct sim_rwsem hotplug_lock; /* pci_rescan_remove_lock */
        void *tsms, *disks, *interfaces; /* of tsm.c and users.c */
        struct sim_buses *buses;         /* of pci.c */
        struct sim_topology *plan;       /* of topology.c */
        void *vfio, *iommufd;            /* of vfio.c and iommufd.c */
        unsigned next_vfio, next_tsm;
        unsigned bind_files;             /* of bind.c: open files of its device */
        bool fake_viommu;                /* of tsm.c: a TSM has grafted one onto the IOMMU */
        struct sim_tsm_object {
                uint8_t *data; /* owned; NULL: there is none */
                size_t size;
        } tsm_objects[4];                /* of tsm-request.c: what the TSM has collected, by their numbers less one */
        unsigned iommufd_tsm;            /* the same: which form of iommufd's calls for TSMs this kernel has; 0: none */
        bool unsafe_interrupts;       /* no interrupt remapping: BIND is -EPERM */
};

/* ---- topology.c ---- */
/* The machine of a checked topology is put up in the simulation; what is wrong is written to ret_why with its place, and nothing was made. */
int sim_topology_check(struct json_object *topology, char *ret_why, size_t size);
int sim_machine_boot(struct sim *sim, struct json_object *topology, char *ret_why, size_t size);
void sim_machine_free(struct sim *sim);

/* ---- pci.c ---- */
struct sim_function *sim_function_find(struct sim_machine *m, const char *bdf);
/* Config space as the hardware answers it; offset + size within config_size. All ones when the function is gone. */
void sim_config_read(struct sim_function *fn, uint64_t offset, void *buf, size_t size);
void sim_config_write(struct sim_call *c, struct sim_function *fn, uint64_t offset, const void *buf, size_t size);
/* Offset of a capability, 0 when it is not there. */
unsigned sim_find_capability(struct sim_function *fn, uint8_t id);
unsigned sim_find_ext_capability(struct sim_function *fn, uint16_t id);
/* pci_try_reset_function() with the device lock held by the caller: the function's state is as after power-up but for its config header, which is restored. Sleeps; -ENOTTY without a method. */
int sim_reset_locked(struct sim_call *c, struct sim_function *fn);
bool sim_can_reset(struct sim_function *fn);
/* __pci_reset_bus() with the locks of all functions behind the port held. Sleeps. */
int sim_reset_bus_locked(struct sim_call *c, struct sim_function *port);
int sim_unplug(struct sim_call *c, struct sim_function *fn); /* sleeps until its driver let go */
int sim_plug(struct sim_call *c, const char *bdf);           /* one that was unplugged comes back */
int sim_error(struct sim_call *c, struct sim_function *fn, bool fatal); /* AER */
int sim_iommu_event(struct sim_function *fn, uint8_t event, uint64_t address); /* iommufd_report_event() */
/* pci_enable_device() and pci_disable_device(), counted: decoding on at the first, bus master off at the last. */
void sim_pci_enable(struct sim_function *fn);
void sim_pci_disable(struct sim_function *fn);
/* The function's driver has n MSI or MSI-X vectors now (0: none): enable bits in config, msi_irqs/ and irq in sysfs. */
void sim_msi_set(struct sim_call *c, struct sim_function *fn, unsigned n, bool msix);

/* ---- doe.c ---- */
/* Who answers SPDM for the function: a responder that listens on the loopback at this port, 0: nobody. -EOPNOTSUPP without a mailbox. */
int sim_doe_set_port(struct sim_function *fn, uint16_t port);

/* ---- driver.c ---- */
void sim_driver_register(struct sim_machine *m, struct sim_driver *driver); /* makes its folder in sysfs; the driver is the caller's and stays */
struct sim_driver *sim_driver_find(struct sim_machine *m, const char *name);
/* Modules that come and go: a driver of the topology's "drivers" that is not loaded at boot. -ENODEV, -EEXIST. Unloading takes it off its functions. */
int sim_driver_load(struct sim_call *c, const char *name);
int sim_driver_unload(struct sim_call *c, const char *name);
int sim_driver_attach(struct sim_call *c, struct sim_function *fn, struct sim_driver *driver); /* with the lock held for writing */
void sim_driver_detach(struct sim_call *c, struct sim_function *fn);                            /* the same */
int sim_device_probe(struct sim_call *c, struct sim_function *fn); /* whatever matches; 0 also when none does */

/* ---- group.c ---- */
void sim_group_remove(struct sim_call *c, struct sim_function *fn);
int sim_group_use_default(struct sim_group *g);   /* a host driver: -EBUSY while owned */
void sim_group_unuse_default(struct sim_group *g);
int sim_group_claim(struct sim_group *g, const void *owner); /* -EBUSY, -EPERM as iommu_device_claim_dma_owner() */
void sim_group_release(struct sim_group *g, const void *owner);

/* ---- tsm.c ---- */
void sim_tsm_init(struct sim_call *c, struct sim_machine *m); /* of the topology's "tsms" */
void sim_tsm_function_added(struct sim_call *c, struct sim_function *fn); /* pci_tsm_init() */
void sim_tsm_function_removed(struct sim_call *c, struct sim_function *fn);
int sim_tsm_unload(struct sim_call *c, const char *name);
int sim_tsm_load(struct sim_call *c, const char *name);
/* The same with other values than the topology's, for the keys of "tsms" that options has: "accepts", "marks", "bind", "requests", "bind_locks", "connect_ms", "parent", "streams";
 * and "fake_viommu": while it is loaded the IOMMU nests, as with the test module of that option; "iommufd_tsm": iommufd has calls for TSMs, in form 5, 6 or 7 (iommufd-tsm.c). */
int sim_tsm_load_with(struct sim_call *c, const char *name, struct json_object *options);
/* pci_tsm_bind() and pci_tsm_unbind(): what no file of sysfs does. kvm tells VMs apart. */
int sim_tsm_bind(struct sim_call *c, struct sim_function *fn, const void *kvm, uint32_t tdi_id);
int sim_tsm_unbind(struct sim_call *c, struct sim_function *fn); /* -ENXIO when it is not bound */
int sim_tsm_ide_fail(struct sim_call *c, struct sim_function *fn); /* -ENOTCONN when it has no IDE stream */
int sim_tsm_can_bind(const struct sim_function *fn); /* -ENOTCONN, -EOPNOTSUPP, -EBUSY */
/* tsm-request.c: what TSMs have collected of every device, by TDI_TEST_TSM_OBJECT_…; copied. Gone when one is unloaded. -EINVAL: no such object; -EFBIG. */
int sim_tsm_set_object(struct sim_machine *m, uint64_t number, const void *data, size_t size);
void sim_tsm_forget_objects(struct sim_machine *m);
/* pci_tsm_guest_req(). The code is set on failure too, by the TSM; -ENXIO when it is not bound. */
struct sim_tsm_request {
        uint32_t scope;
        uint32_t op;      /* of IOMMU_VDEVICE_TSM_REQ; 0: it has none */
        const uint8_t *in;
        size_t in_len;
        uint8_t *out;     /* room for out_len bytes, of which `used` were written */
        size_t out_len, used;
        uint64_t code;
};
int sim_tsm_guest_req(struct sim_call *c, struct sim_function *fn, struct sim_tsm_request *q);
void sim_tsm_free(struct sim_machine *m);

/* ---- users.c ---- */
void sim_users_init(struct sim_machine *m);                               /* /proc files, /sys/class/block and net */
void sim_users_probe(struct sim_call *c, struct sim_function *fn);        /* its host driver makes disks and interfaces */
void sim_users_remove(struct sim_call *c, struct sim_function *fn);
int sim_users_address(struct sim_machine *m, const char *interface);      /* 1, 0, -ENODEV */
/*
 * Changes who uses a disk or an interface, for a control command: {"disk": "nvme0n1", "mount": "/mnt" | null, "swap": bool,
 * "holder": "dm-0" | null} or {"net": "eth0", "up": bool, "addresses": [..], "upper": "br0" | null}. -EINVAL, -ENODEV, -EBUSY.
 */
int sim_users_change(struct sim_call *c, struct json_object *what);
void sim_users_free(struct sim_machine *m);

/* ---- vfio.c ---- */
void sim_vfio_init(struct sim_machine *m);                                /* registers vfio-pci; /dev/vfio */
void sim_vfio_error(struct sim_call *c, struct sim_function *fn);         /* rings the ERR interrupt, if somebody listens */
/* Interrupt `vector` of the function's MSI or MSI-X (as enabled by VFIO), or INTx: signals its eventfd. */
void sim_vfio_interrupt(struct sim_function *fn, unsigned vector);
void sim_vfio_vf_added(struct sim_function *vf);                          /* before drivers try it: vfio-pci captures the VFs of its PFs */
void sim_vfio_free(struct sim_machine *m);                                /* when every file is closed */

/* ---- iommufd.c ---- */
void sim_iommufd_init(struct sim_machine *m);                             /* /dev/iommu */
/* Memory as the function sees it through the address space that its group is attached to. -EFAULT where nothing is mapped or not so. */
int sim_dma(struct sim_function *fn, uint64_t iova, void *buf, size_t size, bool to_memory);
void sim_iommufd_free(struct sim_machine *m);

/* ---- kvm.c, dmabuf.c, edu.c ---- */
void sim_kvm_init(struct sim_machine *m);
void sim_dmabuf_init(struct sim_machine *m);

/* ---- bind.c ---- */
int sim_bind_load(struct sim *sim);         /* /dev/tdid-bind; -EEXIST */
int sim_bind_unload(struct sim_call *c);    /* -ENOENT; -EBUSY while somebody has it open */

/* ---- importer.c ---- */
int sim_importer_load(struct sim_call *c);   /* /dev/tdid_test_importer; -EEXIST */
int sim_importer_unload(struct sim_call *c); /* -ENOENT; what is open of it stays */

#endif
