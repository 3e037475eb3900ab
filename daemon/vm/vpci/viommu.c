/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Event queues of vIOMMUs. */
#include "vm/vpci/viommu.h"

#include <stdio.h>

#include "host/abi/iommufd.h"
#include "vm/vpci/clock.h"

/* In the kernel, of each vIOMMU. A guest can fill it: what it holds is the kernel's memory. */
#define DEPTH 128
/* A queue is read ten times a second at most, and so much of each time is told: faults are the guest's to cause. */
#define PAUSE_NSEC 100000000ULL
#define TOLD_MAX 5
#define BUFFER_SIZE 4096
#define EVENT_DATA_MAX 32

struct viommu_type {
        uint32_t viommu, queue;
        size_t size; /* of an event's data */
        const char *(*describe)(const uint64_t *data, int64_t *ret_sid, char *text, size_t size);
};

/* Arm IHI 0070, 7.3: event records. Number, stream and address are where they are in all that have them. */
static const char *describe_smmuv3(const uint64_t *data, int64_t *ret_sid, char *text, size_t size) {
        static const struct {
                uint8_t number;
                bool address;
                const char *name;
        } events[] = {
                { 0x01, false, "F_UUT" },             { 0x02, false, "C_BAD_STREAMID" }, { 0x03, false, "F_STE_FETCH" },
                { 0x04, false, "C_BAD_STE" },         { 0x05, true, "F_BAD_ATS_TREQ" },  { 0x06, false, "F_STREAM_DISABLED" },
                { 0x07, true, "F_TRANSL_FORBIDDEN" }, { 0x08, false, "C_BAD_SUBSTREAMID" }, { 0x09, false, "F_CD_FETCH" },
                { 0x0a, false, "C_BAD_CD" },          { 0x0b, true, "F_WALK_EABT" },     { 0x10, true, "F_TRANSLATION" },
                { 0x11, true, "F_ADDR_SIZE" },        { 0x12, true, "F_ACCESS" },        { 0x13, true, "F_PERMISSION" },
                { 0x20, true, "F_TLB_CONFLICT" },     { 0x21, true, "F_CFG_CONFLICT" },  { 0x24, false, "E_PAGE_REQUEST" },
                { 0x25, true, "F_VMS_FETCH" },
        };
        uint8_t number = data[0] & 0xff;

        *ret_sid = (int64_t) (data[0] >> 32);
        for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
                if (events[i].number != number)
                        continue;
                if (events[i].address)
                        snprintf(text, size, "%s at %#llx", events[i].name, (unsigned long long) data[2]);
                else
                        snprintf(text, size, "%s", events[i].name);
                return events[i].name;
        }
        snprintf(text, size, "SMMUv3 event %#x, %016llx %016llx %016llx %016llx", number, (unsigned long long) data[0],
                 (unsigned long long) data[1], (unsigned long long) data[2], (unsigned long long) data[3]);
        return "unknown";
}

static const struct viommu_type types[] = {
        { TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3, TDI_IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, 4 * sizeof(uint64_t), describe_smmuv3 },
};

static struct viommu *find(struct viommus *v, uint32_t id) {
        for (size_t i = 0; i < v->n; i++)
                if (v->viommus[i].id == id)
                        return &v->viommus[i];
        return NULL;
}

int viommus_add(struct viommus *v, TdiHost *host, int iommufd, uint32_t id, uint32_t type) {
        struct tdi_iommu_veventq_alloc alloc = { .size = sizeof(alloc), .viommu_id = id, .veventq_depth = DEPTH };
        struct viommu *n;
        int r = -EOPNOTSUPP;

        if (find(v, id))
                return 0;
        if (v->n >= VIOMMUS_MAX)
                return -ENOSPC;
        n = &v->viommus[v->n];
        *n = (struct viommu){ .id = id, .fd = -EBADF };
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (types[i].viommu == type)
                        n->type = &types[i];
        if (n->type) {
                alloc.type = n->type->queue;
                r = host_ioctl(host, iommufd, TDI_IOMMU_VEVENTQ_ALLOC, &alloc);
        }
        if (r == -ENOMEM)
                return r;
        if (r >= 0) {
                n->queue = alloc.out_veventq_id;
                n->fd = (int) alloc.out_veventq_fd;
        }
        n->error = r < 0 ? r : 0;
        v->n++;
        return 0;
}

void viommus_end(struct viommus *v, TdiHost *host, int iommufd, uint32_t id) {
        for (size_t i = v->n; i > 0; i--) {
                struct viommu *n = &v->viommus[i - 1];
                struct tdi_iommu_destroy destroy = { .size = sizeof(destroy), .id = n->queue };

                if (id != 0 && n->id != id)
                        continue;
                if (n->fd >= 0)
                        (void) host_close(host, n->fd);
                /* It is the iommufd's otherwise, and goes with that. */
                if (n->queue != 0 && iommufd >= 0)
                        (void) host_ioctl(host, iommufd, TDI_IOMMU_DESTROY, &destroy);
                *n = v->viommus[--v->n];
        }
}

size_t viommus_poll(struct viommus *v, struct pollfd *p, int *timeout) {
        uint64_t now = now_nsec();

        for (size_t i = 0; i < v->n; i++) {
                const struct viommu *n = &v->viommus[i];
                bool paused = n->fd >= 0 && n->pause > now;
                int left = paused ? (int) ((n->pause - now) / 1000000) + 1 : 0;

                p[i] = (struct pollfd){ .fd = paused ? -EBADF : n->fd, .events = POLLIN };
                if (paused && (*timeout < 0 || *timeout > left))
                        *timeout = left;
        }
        return v->n;
}

/* What is between the numbers of two events, the kernel had no room for. They count from 0 to INT32_MAX and round again. */
static void count(struct viommu *n, const struct tdi_iommufd_vevent_header *h) {
        uint32_t gap = n->begun ? (h->sequence - n->next) & INT32_MAX : h->sequence & INT32_MAX;

        if (h->flags & TDI_IOMMU_VEVENTQ_FLAG_LOST_EVENTS)
                gap++;
        else
                n->events++;
        n->lost += gap;
        n->next = (h->sequence + 1) & INT32_MAX;
        n->begun = true;
}

static void read_events(struct viommu *n, TdiHost *host, viommu_tell tell, void *userdata) {
        _Alignas(uint64_t) uint8_t buf[BUFFER_SIZE];
        struct tdi_iommufd_vevent_header h;
        uint64_t data[EVENT_DATA_MAX / sizeof(uint64_t)];
        ssize_t size = host_read(host, n->fd, buf, sizeof(buf));
        unsigned told = 0;
        bool lost;

        for (size_t at = 0; size > 0 && (size_t) size - at >= sizeof(h);) {
                char text[160];
                const char *name;
                int64_t sid;

                memcpy(&h, buf + at, sizeof(h));
                at += sizeof(h);
                lost = h.flags & TDI_IOMMU_VEVENTQ_FLAG_LOST_EVENTS;
                if (!lost && (size_t) size - at < n->type->size)
                        break;
                count(n, &h);
                if (lost)
                        continue;
                memcpy(data, buf + at, n->type->size);
                at += n->type->size;
                name = n->type->describe(data, &sid, text, sizeof(text));
                if (told++ < TOLD_MAX)
                        tell(n->id, name, sid, text, userdata);
        }
        n->pause = now_nsec() + PAUSE_NSEC;
        if (size < 0) {
                n->error = (int) size;
                (void) host_close(host, TAKE_FD(n->fd));
        }
}

void viommus_dispatch(struct viommus *v, TdiHost *host, int fd, viommu_tell tell, void *userdata) {
        for (size_t i = 0; fd >= 0 && i < v->n; i++)
                if (v->viommus[i].fd == fd) {
                        read_events(&v->viommus[i], host, tell, userdata);
                        return;
                }
}

struct json_object *viommus_describe(const struct viommus *v) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < v->n; i++) {
                struct json_object *o = json_new();

                json_set_u64(o, "id", v->viommus[i].id);
                json_set_u64(o, "events", v->viommus[i].events);
                json_set_u64(o, "lost", v->viommus[i].lost);
                json_set_str(o, "error", v->viommus[i].error < 0 ? strerrorname_np(-v->viommus[i].error) : NULL);
                json_push_take(list, o);
        }
        return list;
}
