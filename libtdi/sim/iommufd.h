/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the iommufd room share: a context's objects, address spaces and what is mapped in them, and what vfio.c does with
 * them (include/linux/iommufd.h).
 */
#ifndef TDI_SIM_IOMMUFD_H
#define TDI_SIM_IOMMUFD_H

#include "host/abi/iommufd.h"
#include "sim/dmabuf.h"
#include "sim/marshal.h"
#include "sim/pci.h"

#define IOMMUFD_PAGE UINT64_C(4096)
/* What the page tables of all modelled IOMMUs reach: 48 bits. */
#define IOMMUFD_APERTURE_LAST ((UINT64_C(1) << 48) - 1)

enum iommufd_type {
        IOMMUFD_ANY,
        IOMMUFD_DEVICE,
        IOMMUFD_IOAS,
        IOMMUFD_HWPT_PAGING,
        IOMMUFD_HWPT_NESTED,
        IOMMUFD_FAULT,
        IOMMUFD_VIOMMU,
        IOMMUFD_VDEVICE,
        IOMMUFD_VEVENTQ,
};

struct iommufd_ctx;

/* First member of every object. users: 1, and one for each object that needs it: only an object with 1 can be destroyed. */
struct iommufd_object {
        enum iommufd_type type;
        uint32_t id;
        unsigned users;
};

struct ioas_area;

/* What the memory of a map is; shared by the copies of it. struct iopt_pages */
struct ioas_pages {
        unsigned refs;
        enum { PAGES_USER, PAGES_FILE, PAGES_DMABUF } kind;
        uint64_t npages;
        bool writable;
        pid_t pid;             /* who mapped it */
        uid_t uid;
        bool accounted;        /* not of a process with CAP_IPC_LOCK */
        bool mm_accounting;
        unsigned filled;       /* areas that a page table has: pinned while there are any */
        uint64_t user;         /* of PAGES_USER: address of the first page */
        int fd;                /* of PAGES_FILE: duplicated. -1: a file of the simulation, which cannot be pinned */
        uint64_t start;        /* offset of the first page in it */
        uint8_t *map;          /* made by the first DMA; the first page is skew bytes into it */
        size_t map_size, skew;
        struct sim_file *file; /* of PAGES_DMABUF, or of PAGES_FILE when it is a file of the simulation */
        struct sim_dmabuf_import import;
        bool revoked;
};

struct ioas_area {
        uint64_t iova, last;
        struct ioas_pages *pages;
        uint64_t offset;       /* in pages */
        bool readable, write;
};

struct ioas_range {
        uint64_t start, last;
        const void *owner;
};

struct ioas {
        struct iommufd_object object;
        struct sim *sim;
        struct ioas_area *areas; /* sorted */
        size_t n_areas, room_areas;
        struct ioas_range *reserved, *allowed;
        size_t n_reserved, n_allowed;
        uint64_t alignment;
        bool no_large_pages;
        struct hwpt **hwpts;     /* in the order in which they were made: iommufd_ioas.hwpt_list */
        size_t n_hwpts;
};

struct hwpt {
        struct iommufd_object object;
        bool automatic;          /* auto_domain: goes with its last device */
        bool nest_parent, enforce_coherency;
        struct ioas *ioas;       /* of a paging one */
        struct hwpt *parent;     /* of a nested one */
        struct viommu *viommu;
        struct iommufd_fault *fault;
        uint64_t ste[2];
};

struct iommufd_device {
        struct iommufd_object object;
        struct iommufd_ctx *ctx;
        struct sim_file *file;   /* of the context: referenced */
        struct sim_function *fn;
        struct vdevice *vdevice;
        bool attached, destroying;
};

struct iommufd_fault {
        struct iommufd_object object;
        struct sim_file *file;   /* no reference */
};

struct veventq_entry {
        struct tdi_iommufd_vevent_header header;
        uint64_t event[4];       /* struct iommu_vevent_arm_smmuv3 */
};

struct veventq {
        struct iommufd_object object;
        struct viommu *viommu;
        uint32_t type, depth, sequence, lost_sequence;
        struct veventq_entry *queued; /* n of them */
        uint32_t n;
        bool lost;               /* the last had no room */
        struct sim_file *file;   /* no reference; NULL: closed */
};

struct viommu {
        struct iommufd_object object;
        uint32_t type;
        struct hwpt *hwpt;
        struct vdevice **vdevices;
        size_t n_vdevices;
        struct veventq *events;
};

struct vdevice {
        struct iommufd_object object;
        struct viommu *viommu;
        struct iommufd_device *device;
        uint64_t virt_id;
        bool bound;              /* by a call of iommufd's */
};

struct iommufd_ctx {
        struct sim_file *file;
        struct sim *sim;
        struct iommufd_object **objects; /* by id; iommufd_tombstone for an id that stays taken */
        size_t room;
        bool mm_accounting;
        struct ioas *vfio_ioas;          /* what the calls of VFIO containers mean */
};

/* ---- iommufd.c: contexts, objects, calls ---- */
struct iommufd_ctx *iommufd_ctx_of(const struct sim_file *f); /* NULL for any other file */
int iommufd_add(struct iommufd_ctx *x, struct iommufd_object *o, enum iommufd_type type); /* takes the lowest free id: xa_alloc() */
void iommufd_remove(struct iommufd_ctx *x, struct iommufd_object *o, bool tombstone);     /* gives it back; the object is the caller's */
void *iommufd_find(struct iommufd_ctx *x, uint32_t id, enum iommufd_type type);            /* NULL: -ENOENT */
/* iommufd_object_remove(): -ENOENT, -EBUSY while anything needs it. */
int iommufd_destroy(struct sim_call *c, struct iommufd_ctx *x, uint32_t id);
bool iommufd_is_arm(struct sim *sim);
bool iommufd_can_nest(struct sim *sim);

/* ---- iommufd-device.c: what vfio.c does ---- */
int iommufd_device_bind(struct sim_call *c, struct sim_file *ctx, struct sim_function *fn, struct iommufd_device **ret);
void iommufd_device_unbind(struct sim_call *c, struct iommufd_device *d);
/* Attaches, or replaces what it is attached to. pt_id: in and out. */
int iommufd_device_attach(struct sim_call *c, struct iommufd_device *d, uint32_t *pt_id);
bool iommufd_device_knows(const struct iommufd_device *d, uint32_t id); /* is there an object of that id in its context? */
void iommufd_device_detach(struct sim_call *c, struct iommufd_device *d);
/* Positive: its id. -ENOENT: its group is the context's. -ENODEV */
int iommufd_device_id(struct sim_function *fn, const struct iommufd_device *d, const struct sim_file *ctx);
int iommufd_get_hw_info(struct iommufd_ctx *x, struct sim_ioctl *io);

/* ---- iommufd-hwpt.c: page tables, vIOMMUs, vdevices ---- */
int hwpt_paging_new(struct sim_call *c, struct iommufd_ctx *x, struct ioas *a, struct iommufd_device *d, uint32_t flags, bool has_data,
                    bool attach, struct hwpt **ret);
void hwpt_free(struct sim_call *c, struct hwpt *h); /* with its id given back */
struct hwpt *hwpt_paging_of(struct hwpt *h);
int hwpt_attach(struct hwpt *h, struct iommufd_device *d);
int iommufd_hwpt_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_hwpt_invalidate(struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_viommu_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_vdevice_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
void viommu_free(struct sim_call *c, struct viommu *v);
void vdevice_free(struct sim_call *c, struct vdevice *v);

/* ---- iommufd-event.c ---- */
int iommufd_fault_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_veventq_alloc(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
void iommufd_event_object_free(struct iommufd_object *o);
/* The IOMMU reports an event (its number in the SMMUv3's record) of a device, NULL for none. -ENOENT: no vdevice; -EOPNOTSUPP: nobody has a queue for it. */
int iommufd_report_event(struct iommufd_device *d, uint8_t event, uint64_t address);

/* ---- iommufd-tsm.c ---- */
int iommufd_tsm_ioctl(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
/* A new virtual device: in the newest form it is bound by that, if there is anything to bind it to. On an error there is none. */
int vdevice_tsm_made(struct sim_call *c, struct vdevice *v);
void vdevice_tsm_end(struct sim_call *c, struct vdevice *v);

/* ---- ioas.c ---- */
int iommufd_ioas_alloc(struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_ioas_iova_ranges(struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_ioas_allow_iovas(struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_vfio_ioas(struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_vfio_check_extension(const struct iommufd_ctx *x, uint64_t what);
int iommufd_ioas_option(struct iommufd_ctx *x, struct sim_ioctl *io);
void ioas_free(struct sim_call *c, struct ioas *a);
int ioas_reserve(struct ioas *a, uint64_t start, uint64_t last, const void *owner); /* iopt_reserve_iova(): -EADDRINUSE */
void ioas_unreserve(struct ioas *a, const void *owner);
int ioas_add_hwpt(struct ioas *a, struct hwpt *h);    /* iopt_table_add_domain() */
void ioas_remove_hwpt(struct ioas *a, struct hwpt *h);
int ioas_dma(struct ioas *a, uint64_t iova, uint8_t *buf, size_t size, bool to_memory);
/* The first area that ends at iova or after it: an index, n_areas when there is none. */
size_t ioas_seek(const struct ioas *a, uint64_t iova);
bool ioas_is_reserved(const struct ioas *a, uint64_t start, uint64_t last);

/* ---- ioas-map.c ---- */
int iommufd_ioas_map(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_ioas_map_file(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_ioas_copy(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_ioas_unmap(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int iommufd_ioas_change_process(struct sim_call *c, struct iommufd_ctx *x, struct sim_ioctl *io);
int ioas_unmap_range(struct sim_call *c, struct ioas *a, uint64_t start, uint64_t last, uint64_t *ret_bytes);

/* ---- ioas-pages.c ---- */
int ioas_pages_user(struct sim_call *c, uint64_t address, uint64_t length, bool writable, struct ioas_pages **ret, uint64_t *ret_offset);
int ioas_pages_file(struct sim_call *c, const struct sim_ioctl *io, int fd, uint64_t start, uint64_t length, bool writable,
                    struct ioas_pages **ret, uint64_t *ret_offset);
struct ioas_pages *ioas_pages_put(struct sim_call *c, struct ioas_pages *p);
int ioas_pages_fill(struct sim *sim, struct ioas_pages *p);   /* a page table needs them: pinned and accounted */
void ioas_pages_unfill(struct sim *sim, struct ioas_pages *p);
int ioas_pages_access(struct ioas_pages *p, uint64_t offset, uint8_t *buf, size_t size, bool write);
int ioas_pages_charge_other(struct sim_call *c, struct ioas_pages **pages, size_t n);

#endif
