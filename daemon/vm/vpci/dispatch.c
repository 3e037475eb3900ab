/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands: which there are, and what is the same for all. */
#include "vm/vpci/function.h"

#include <stdio.h>

#include "log.h"
#include "model/json.h"

/* ---- VERSION ---- */

static const char capabilities[] =
        "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"max_dma_maps\":0,\"pgsizes\":4096,\"write_multiple\":true}}";

/*
 * What the client can take matters little: we send it no descriptors, and no more data than it asks for. What it says has to be JSON
 * all the same; unknown members are for a later version. QEMU counts the NUL, and so do we; a client that leaves it out is understood.
 */
static int check_capabilities(const char *text, size_t size) {
        struct json_tokener *tokener;
        struct json_object *o;
        bool ok;

        while (size > 0 && text[size - 1] == '\0')
                size--;
        if (size == 0)
                return 0;
        tokener = json_tokener_new_ex(8);
        if (!tokener)
                return -ENOMEM;
        o = size < 65536 ? json_tokener_parse_ex(tokener, text, (int) size) : NULL;
        ok = o && json_object_is_type(o, json_type_object) && json_tokener_get_parse_end(tokener) == size;
        json_object_put(o);
        json_tokener_free(tokener);
        return ok ? 0 : -EINVAL;
}

static int do_version(struct lane *l, const void **body, size_t *size) {
        struct vu_version v;
        int r;

        if (l->function->greeted || l->message.size < sizeof(v))
                return -EINVAL;
        memcpy(&v, l->message.body, sizeof(v));
        /* Later minor versions of a major one are the same to those who know the earlier (section "Version"). */
        if (v.major != VU_MAJOR)
                return -EPROTONOSUPPORT;
        r = check_capabilities((const char *) l->message.body + sizeof(v), l->message.size - sizeof(v));
        if (r >= 0)
                r = lane_room(l, sizeof(v) + sizeof(capabilities));
        if (r < 0)
                return r;
        v = (struct vu_version){ VU_MAJOR, VU_MINOR };
        memcpy(l->reply, &v, sizeof(v));
        memcpy(l->reply + sizeof(v), capabilities, sizeof(capabilities));
        l->function->greeted = true;
        *body = l->reply;
        *size = sizeof(v) + sizeof(capabilities);
        return 0;
}

/* ---- the device ---- */

static int do_info(struct lane *l, const void **body, size_t *size) {
        const struct function *f = l->function;
        struct vu_device_info info;

        if (l->message.size < sizeof(info))
                return -EINVAL;
        memcpy(&info, l->message.body, sizeof(info));
        if (info.argsz < sizeof(info))
                return -EINVAL;
        info = (struct vu_device_info){
                sizeof(info), f->flags & (TDI_VFIO_DEVICE_FLAGS_PCI | TDI_VFIO_DEVICE_FLAGS_RESET), f->n_regions, f->n_irqs
        };
        memcpy(l->message.body, &info, sizeof(info));
        *body = l->message.body;
        *size = sizeof(info);
        return 0;
}

/*
 * A reset ends a TDI that is bound (PCIe 6, 11.2.6), and a guest that reboots asks for one: tdid unbinds first. What is left of the
 * request's time after the wait is for the reset and the answer.
 */
#define RESET_SLACK_MSEC 1000

bool dispatch_unbind(struct lane *l, const char *event, const char *text) {
        struct function *f = l->function;
        unsigned patience = lane_patience(l);
        struct timespec until;
        bool may;

        vpci_event(f->vpci, f->bdf, event, text);
        until = function_in_msec(patience > RESET_SLACK_MSEC ? patience - RESET_SLACK_MSEC : 0);
        pthread_mutex_lock(&f->lock);
        while (!(may = vconfig_may_reset(f->config)) && !f->stopping)
                if (pthread_cond_timedwait(&f->changed, &f->lock, &until) != 0)
                        break;
        pthread_mutex_unlock(&f->lock);
        return may;
}

static int do_reset(struct lane *l, _unused_ const void **body, _unused_ size_t *size) {
        struct function *f = l->function;
        int r;

        if (!(f->flags & TDI_VFIO_DEVICE_FLAGS_RESET))
                return -ENOTTY;
        if (!vconfig_may_reset(f->config) && !dispatch_unbind(l, "reset", "its client wants to reset it: it is unbound before")) {
                atomic_fetch_add_explicit(&f->refused, 1, memory_order_relaxed);
                return -EPERM;
        }
        region_tell_memory(f, false, "reset");
        r = host_ioctl(f->host, f->device, TDI_VFIO_DEVICE_RESET, NULL);
        region_tell_memory(f, true, "reset");
        /* Also of one that has failed: the kernel revokes before it tries (vfio_pci_ioctl_reset). */
        function_place_bars(f, true);
        if (r < 0) {
                atomic_store(&f->failed, true);
                vpci_event(f->vpci, f->bdf, "failed", "VFIO_DEVICE_RESET was refused");
                return r;
        }
        vconfig_was_reset(f->config);
        atomic_store(&f->failed, false);
        /* Its guest starts anew: what is early may be bound again, whatever had unbound it. */
        vpci_event(f->vpci, f->bdf, "was-reset", "a reset is done");
        return 0;
}

static int do_feature(struct lane *l, _unused_ const void **body, _unused_ size_t *size) {
        struct vu_device_feature feature;

        if (l->message.size < sizeof(feature))
                return -EINVAL;
        memcpy(&feature, l->message.body, sizeof(feature));
        /* A function with state in the secure world cannot be moved, and what the others do, no client may ask for. */
        return (feature.flags & TDI_VFIO_DEVICE_FEATURE_MASK) == TDI_VFIO_DEVICE_FEATURE_MIGRATION ? -ENOTSUP : -ENOTTY;
}

/* ---- memory ---- */

/* What a call itself waits is less than others wait for it: who comes next finds it done, or going on by itself. */
#define DMA_SLACK_MSEC 300

static int enter_dma(struct lane *l) {
        unsigned left;
        int r;

        r = function_enter_dma(l->function, lane_patience(l));
        if (r < 0)
                return r;
        left = lane_patience(l);
        dma_client_set_patience(l->function->dma, left > DMA_SLACK_MSEC ? left - DMA_SLACK_MSEC : 0);
        return 0;
}

/* Before the client's next request, which may be the one that switches bus mastering on; a stand-in keeps off the device. */
static void settle_master(struct lane *l) {
        struct function *f = l->function;

        if (l->stands_in || (int) dma_master(f->dma) == atomic_load(&f->master))
                return;
        function_begin_change(f);
        function_settle_master(f);
        function_end_change(f);
}

static int do_dma_map(struct lane *l, _unused_ const void **body, _unused_ size_t *size) {
        struct function *f = l->function;
        struct vu_dma_map map;
        int fd, r;

        if (l->message.size < sizeof(map))
                return -EINVAL;
        memcpy(&map, l->message.body, sizeof(map));
        if (map.argsz < sizeof(map) || map.flags & ~(VU_DMA_READABLE | VU_DMA_WRITABLE) || l->message.n_fds > 1)
                return -EINVAL;
        r = enter_dma(l);
        if (r < 0) {
                dma_client_lose(f->dma);
                return r;
        }
        fd = message_take_fd(&l->message, 0);
        r = dma_map(f->dma, map.address, map.size, fd, map.offset, map.flags & VU_DMA_READABLE, map.flags & VU_DMA_WRITABLE);
        function_leave_dma(f);
        settle_master(l);
        return r;
}

static int do_dma_unmap(struct lane *l, const void **body, size_t *size) {
        struct function *f = l->function;
        struct vu_dma_unmap unmap;
        uint64_t unmapped = 0;
        int r;

        if (l->message.size < sizeof(unmap))
                return -EINVAL;
        memcpy(&unmap, l->message.body, sizeof(unmap));
        /* Dirty pages are a matter of migration. */
        if (unmap.argsz < sizeof(unmap) || unmap.flags & ~VU_UNMAP_ALL || (unmap.flags & VU_UNMAP_ALL && (unmap.address || unmap.size)))
                return unmap.flags & VU_UNMAP_DIRTY_BITMAP ? -ENOTSUP : -EINVAL;
        r = enter_dma(l);
        if (r < 0)
                return r;
        if (unmap.flags & VU_UNMAP_ALL)
                r = dma_unmap_all(f->dma, &unmapped);
        else
                r = dma_unmap(f->dma, unmap.address, unmap.size, &unmapped);
        function_leave_dma(f);
        settle_master(l);
        unmap.argsz = sizeof(unmap);
        unmap.size = unmapped;
        memcpy(l->message.body, &unmap, sizeof(unmap));
        *body = l->message.body;
        *size = sizeof(unmap);
        return r;
}

static int do_irq_set(struct lane *l, _unused_ const void **body, _unused_ size_t *size) {
        return irq_set(l);
}

/* ---- while the device is away ---- */

static int away_read(struct lane *l, const void **body, size_t *size) {
        struct vu_region_access a;
        int r;

        if (l->message.size < sizeof(a))
                return -EINVAL;
        memcpy(&a, l->message.body, sizeof(a));
        if (a.region >= l->function->n_regions || a.count == 0 || a.count > STREAM_TRANSFER_MAX)
                return -EINVAL;
        r = lane_room(l, sizeof(a) + a.count);
        if (r < 0)
                return r;
        memcpy(l->reply, &a, sizeof(a));
        memset(l->reply + sizeof(a), 0xff, a.count);
        *body = l->reply;
        *size = sizeof(a) + a.count;
        return 0;
}

static int away_write(struct lane *l, const void **body, size_t *size) {
        *size = l->message.header.command == VU_REGION_WRITE ? sizeof(struct vu_region_access) : sizeof(struct vu_write_multi);
        if (l->message.size < *size)
                return -EINVAL;
        *body = l->message.body;
        return 0;
}

static int away_busy(_unused_ struct lane *l, _unused_ const void **body, _unused_ size_t *size) {
        return -EBUSY;
}

/* ---- the table ---- */

typedef int (*command)(struct lane *l, const void **body, size_t *size);

static const struct {
        command here, away;
        bool takes_fds;
        bool changes; /* perhaps what a TSM locks: nothing is locked while one is executed */
} commands[VU_COMMAND_MAX] = {
        [VU_VERSION] = { do_version, do_version, false },
        [VU_DMA_MAP] = { do_dma_map, do_dma_map, true },
        [VU_DMA_UNMAP] = { do_dma_unmap, do_dma_unmap, false },
        [VU_DEVICE_GET_INFO] = { do_info, do_info, false },
        [VU_DEVICE_GET_REGION_INFO] = { region_info, region_info, false },
        [VU_DEVICE_GET_IRQ_INFO] = { irq_info, irq_info, false },
        [VU_DEVICE_SET_IRQS] = { do_irq_set, away_busy, true, true },
        [VU_REGION_READ] = { region_read, away_read, false },
        [VU_REGION_WRITE] = { region_write, away_write, false, true },
        [VU_REGION_WRITE_MULTI] = { region_write_multi, away_write, false, true },
        [VU_DEVICE_RESET] = { do_reset, away_busy, false, true },
        [VU_DEVICE_FEATURE] = { do_feature, do_feature, false },
};

static int run(struct lane *l, bool away, const void **body, size_t *size) {
        const struct vu_header *h = &l->message.header;
        command c = NULL;
        int r;

        /* We send no commands, so there is no reply to anything; and a client that did not say hello is none. */
        if ((h->flags & VU_FLAGS_TYPE) != VU_TYPE_COMMAND || h->flags & VU_FLAGS_ERROR ||
            (!l->function->greeted && h->command != VU_VERSION))
                return -ECONNABORTED;
        if (h->command < VU_COMMAND_MAX)
                c = away ? commands[h->command].away : commands[h->command].here;
        /* Regions' descriptors, migration, and what the server sends to the client. */
        if (!c)
                return -ENOTSUP;
        if (l->message.n_fds > 0 && !commands[h->command].takes_fds)
                return -EINVAL;
        if (away || !commands[h->command].changes)
                return c(l, body, size);
        function_begin_change(l->function);
        r = c(l, body, size);
        function_end_change(l->function);
        return r;
}

int dispatch(struct lane *l, const void **body, size_t *size) {
        return run(l, false, body, size);
}

int dispatch_away(struct lane *l, const void **body, size_t *size) {
        return run(l, true, body, size);
}

int dispatch_late(const struct message *m, uint8_t *room, size_t room_size, const void **body, size_t *size) {
        struct vu_region_access a;

        /* Large reads are a memory's, not a register's: an error is better than ones. */
        if (m->header.command == VU_REGION_READ && m->size >= sizeof(a)) {
                memcpy(&a, m->body, sizeof(a));
                if (a.count > room_size - sizeof(a))
                        return -ETIMEDOUT;
                memcpy(room, &a, sizeof(a));
                memset(room + sizeof(a), 0xff, a.count);
                *body = room;
                *size = sizeof(a) + a.count;
                return 0;
        }
        if (m->header.command == VU_REGION_WRITE && m->size >= sizeof(a)) {
                memcpy(room, m->body, sizeof(a));
                *body = room;
                *size = sizeof(a);
                return 0;
        }
        return -ETIMEDOUT;
}
