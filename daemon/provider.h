/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bind providers: who binds a function as a TDI, and passes its guest's requests on. One table of those that there are and of the forms that their
 * calls have; a worker binds and unbinds, the VM's holder makes requests. Every provider keeps a binding by an open file, its `fd` here: tdid-bind's own,
 * or a duplicate of the VM's iommufd, in which the function's virtual device is what is bound. All descriptors stay the caller's.
 *
 * No state: any thread. What sleeps says so.
 */
#ifndef TDID_PROVIDER_H
#define TDID_PROVIDER_H

#include <tdi/request.h>

#include "host/host.h"

enum provider_id {
        PROVIDER_MODULE,     /* /dev/tdid-bind (host/tdid_bind.h) */
        PROVIDER_IOMMUFD_V5, /* the forms of host/iommufd_tsm.h */
        PROVIDER_IOMMUFD_V7,
        _PROVIDER_MAX,
        _PROVIDER_INVALID = -22
};

/* What is to be bound. */
struct provider_tdi {
        uint32_t function;      /* segment << 16 | bus << 8 | devfn */
        uint32_t guest_rid;
        int device, vm;         /* the VFIO device and the KVM VM: of PROVIDER_MODULE, the others know both */
        uint32_t viommu, devid; /* of the others: in the iommufd */
        uint32_t vdevice;       /* the same; what is bound, 0: there is none. In and out */
};

struct provider_request {
        enum tdi_request_kind kind;
        uint32_t op;            /* enum of IOMMU_VDEVICE_TSM_REQ, 0: the usual one of its kind. Only of forms that know operations */
        uint32_t tvm_arch;      /* the same: whose they are */
        const void *in;
        uint32_t in_len;
        void *out;              /* room for out_len bytes */
        uint32_t out_len;
        uint32_t out_used;      /* out */
        uint64_t tsm_code;      /* out, with an error too */
};

struct provider {
        const char *name; /* in journals and on the bus, "tdid-bind 1" */
        /* The TSM does it: both sleep. -ENODEV of bind: the VM's KVM is not known to the provider. unbind: 0 when it was not bound either. */
        int (*bind)(TdiHost *host, int fd, struct provider_tdi *tdi);
        int (*unbind)(TdiHost *host, int fd, uint32_t vdevice);
        /* Sleeps. -EINVAL: it cannot be asked for so; what the TSM says; -EIO: the kernel says what cannot be. */
        int (*request)(TdiHost *host, int fd, uint32_t vdevice, struct provider_request *q);
};

const struct provider *provider_get(enum provider_id id); /* NULL out of range */
enum provider_id provider_find(const char *name);         /* _PROVIDER_INVALID */

/* Which form of iommufd's calls the kernel has, and errors, as iommufd_tsm_probe() says. Quick. */
enum provider_id provider_probe(TdiHost *host, int iommufd);

/* Whether a request changes the TDISP state, and to what: tdi_request_target(), but for operations that change none. */
enum tdi_tdisp provider_target(const struct provider_request *q);
/* Whether its answer is the whole interface report. */
bool provider_is_report(const struct provider_request *q);

#endif
