/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Event queues of the VM's vIOMMUs (IOMMU_VEVENTQ_ALLOC; drivers/iommu/iommufd/eventq.c): what the IOMMU has against a function's DMA. The kernel keeps
 * them for a VMM that owns the vIOMMU. Here nobody else would read them, so the supervisor does: all are counted, some are told. None of its calls
 * sleeps. The supervisor's alone.
 */
#ifndef TDID_VPCI_VIOMMU_H
#define TDID_VPCI_VIOMMU_H

#include <poll.h>

#include "host/host.h"
#include "model/json.h"

#define VIOMMUS_MAX 16

struct viommus {
        struct viommu {
                uint32_t id, queue; /* of the vIOMMU and its queue in the iommufd; 0: there is none */
                const struct viommu_type *type;
                int fd;             /* of the queue, its own; -EBADF: there is none */
                int error;          /* why; 0: there is one */
                bool begun;         /* the next is so: */
                uint32_t next;
                uint64_t events, lost;
                uint64_t pause;     /* CLOCK_MONOTONIC, ns: not read before */
        } viommus[VIOMMUS_MAX];
        size_t n;
};

/* One event, told: @text for people, @sid is the requester ID that the guest knows, -1 for none. */
typedef void (*viommu_tell)(uint32_t viommu, const char *event, int64_t sid, const char *text, void *userdata);

/*
 * Listens to a vIOMMU of that type (enum iommu_viommu_type) from now on. One that is listened to already stays as it is. Where the kernel has no such queue, that is kept
 * for viommus_describe(), and no error. -ENOSPC: there are VIOMMUS_MAX; -ENOMEM.
 */
int viommus_add(struct viommus *v, TdiHost *host, int iommufd, uint32_t id, uint32_t type);
/* Ends the queue of one (0: all), so that the vIOMMU can be destroyed. @iommufd negative: its descriptor is closed only. */
void viommus_end(struct viommus *v, TdiHost *host, int iommufd, uint32_t id);

/* What has to be waited for; at most VIOMMUS_MAX. */
size_t viommus_poll(struct viommus *v, struct pollfd *p, int *timeout);
/* Reads what there is, if @fd is one of them. */
void viommus_dispatch(struct viommus *v, TdiHost *host, int fd, viommu_tell tell, void *userdata);

/* [{"id", "events", "lost", "error"}]: events seen, events that nobody could read, and why there is no queue or null. */
struct json_object *viommus_describe(const struct viommus *v);

#endif
