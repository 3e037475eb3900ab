/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Regions: what they are, reading and writing. None is ever mappable, and no descriptor of one is ever given. */
#include "vm/vpci/function.h"

#include <linux/pci_regs.h>
#include <time.h>

#include "log.h"

/* As many as QEMU puts into one (VFIO_USER_MULTI_MAX), without asking for a reply. */
#define MULTI_MAX 200
/* A second and function: what a guest can make tdid do. */
#define MEMORY_EVENTS_MAX 50

int region_info(struct lane *l, const void **body, size_t *size) {
        struct function *f = l->function;
        struct vu_region_info info;

        if (l->message.size < sizeof(info))
                return -EINVAL;
        memcpy(&info, l->message.body, sizeof(info));
        if (info.argsz < sizeof(info) || info.index >= f->n_regions)
                return -EINVAL;
        info = (struct vu_region_info){
                .argsz = sizeof(info),
                /* Not MMAP, and no capabilities: the kernel's say where a client could map. */
                .flags = f->regions[info.index].flags & (TDI_VFIO_REGION_INFO_FLAG_READ | TDI_VFIO_REGION_INFO_FLAG_WRITE),
                .index = info.index,
                .size = f->regions[info.index].size,
        };
        memcpy(l->message.body, &info, sizeof(info));
        *body = l->message.body;
        *size = sizeof(info);
        return 0;
}

static int check(const struct function *f, const struct vu_region_access *a, uint32_t flag) {
        if (a->region >= f->n_regions || a->count == 0 || a->count > STREAM_TRANSFER_MAX || !(f->regions[a->region].flags & flag) ||
            a->offset >= f->regions[a->region].size || a->count > f->regions[a->region].size - a->offset)
                return -EINVAL;
        return 0;
}

static bool is_config(const struct vu_region_access *a) {
        return a->region == TDI_VFIO_PCI_CONFIG_REGION_INDEX;
}

static bool may_reach(struct function *f, const struct vu_region_access *a) {
        return a->region > TDI_VFIO_PCI_BAR5_REGION_INDEX || tdisp_may_reach(f, a->region, a->offset, a->count);
}

/*
 * What the device does not do reads as ones, and what is written to it is lost, as on a bus: memory decoding is off, the function sleeps
 * or has gone. No error: QEMU would make the same of one, Cloud Hypervisor waits for the data that an error does not have.
 */
int region_read(struct lane *l, const void **body, size_t *size) {
        struct function *f = l->function;
        struct vu_region_access a;
        uint64_t at;
        uint8_t *data;
        int r;

        if (l->message.size < sizeof(a))
                return -EINVAL;
        memcpy(&a, l->message.body, sizeof(a));
        r = check(f, &a, TDI_VFIO_REGION_INFO_FLAG_READ);
        if (r >= 0)
                r = lane_room(l, sizeof(a) + a.count);
        if (r < 0)
                return r;
        memcpy(l->reply, &a, sizeof(a));
        data = l->reply + sizeof(a);
        at = f->regions[a.region].offset + a.offset;
        for (uint32_t done = 0; done < a.count;) {
                ssize_t n = is_config(&a) ? vconfig_read(f->config, data + done, a.count - done, a.offset + done) :
                            !may_reach(f, &a) ? 0 : host_pread(f->host, f->device, data + done, a.count - done, at + done);

                if (n <= 0) {
                        memset(data + done, 0xff, a.count - done);
                        break;
                }
                done += (uint32_t) n;
        }
        atomic_fetch_add_explicit(&f->reads, 1, memory_order_relaxed);
        *body = l->reply;
        *size = sizeof(a) + a.count;
        return 0;
}

void region_tell_memory(struct function *f, bool enabled, const char *why) {
        struct timespec ts;
        uint64_t now;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        now = (uint64_t) ts.tv_sec * UINT64_C(1000000000) + (uint64_t) ts.tv_nsec;
        if (now - f->memory_told_since >= UINT64_C(1000000000)) {
                f->memory_told_since = now;
                f->memory_told = 0;
        }
        if (f->memory_told >= MEMORY_EVENTS_MAX)
                return;
        f->memory_told++;
        vpci_event_memory(f->vpci, f->bdf, enabled, why);
}

/* COMMAND.MEM as the kernel has it for us. */
static bool memory_is_on(struct function *f) {
        uint16_t command;

        return host_pread(f->host, f->device, &command, sizeof(command), f->regions[TDI_VFIO_PCI_CONFIG_REGION_INDEX].offset + PCI_COMMAND) ==
                       (ssize_t) sizeof(command) &&
               command & PCI_COMMAND_MEMORY;
}

static bool touches(const struct vu_region_access *a, unsigned at, unsigned size) {
        return a->offset < at + size && a->offset + a->count > at;
}

static int write_config(struct lane *l, const struct vu_region_access *a, const uint8_t *data) {
        struct function *f = l->function;
        bool command = touches(a, PCI_COMMAND, 1), before, slow;
        ssize_t n;

        if (vconfig_needs_unbind(f->config, data, a->count, a->offset))
                (void) dispatch_unbind(l, "illegal-write", "its guest has written to config space what ends a TDI, and the policy wants it unbound for that (\"on_illegal_config_write\")");
        before = command && memory_is_on(f);
        /* A reset takes as long as the device likes: a write of hardware's is posted, so is this one. */
        slow = vconfig_effect(f->config, data, a->count, a->offset) == VCONFIG_SLOW;
        if (slow) {
                function_answer_early(l);
                /* In a locked interface it is dropped. */
                if (vconfig_may_set_irqs(f->config))
                        region_tell_memory(f, false, "config");
        }
        n = vconfig_write(f->config, data, a->count, a->offset);
        if (n == -EPERM)
                atomic_fetch_add_explicit(&f->refused, 1, memory_order_relaxed);
        if (slow)
                region_tell_memory(f, true, "config");
        else if (command && before != memory_is_on(f))
                region_tell_memory(f, !before, "command");
        if (slow || command || touches(a, PCI_BASE_ADDRESS_0, 4 * DMA_BARS))
                function_place_bars(f, slow);
        /* What the hardware says to a write nobody hears, as on a bus. */
        return n == -EPERM ? -EPERM : 0;
}

static int write_one(struct lane *l, const struct vu_region_access *a, const uint8_t *data) {
        struct function *f = l->function;
        uint64_t at = f->regions[a->region].offset + a->offset;

        atomic_fetch_add_explicit(&f->writes, 1, memory_order_relaxed);
        if (is_config(a))
                return write_config(l, a, data);
        if (!may_reach(f, a) || (a->region <= TDI_VFIO_PCI_BAR5_REGION_INDEX && !vconfig_may_write_bar(f->config, a->region, a->offset, a->count))) {
                atomic_fetch_add_explicit(&f->refused, 1, memory_order_relaxed);
                return 0;
        }
        for (uint32_t done = 0; done < a->count;) {
                ssize_t n = host_pwrite(f->host, f->device, data + done, a->count - done, at + done);

                if (n <= 0)
                        break;
                done += (uint32_t) n;
        }
        return 0;
}

int region_write(struct lane *l, const void **body, size_t *size) {
        struct vu_region_access a;
        int r;

        if (l->message.size < sizeof(a))
                return -EINVAL;
        memcpy(&a, l->message.body, sizeof(a));
        r = check(l->function, &a, TDI_VFIO_REGION_INFO_FLAG_WRITE);
        if (r >= 0 && l->message.size - sizeof(a) != a.count)
                r = -EINVAL;
        if (r >= 0)
                r = write_one(l, &a, l->message.body + sizeof(a));
        *body = l->message.body;
        *size = sizeof(a);
        return r;
}

int region_write_multi(struct lane *l, const void **body, size_t *size) {
        const struct function *f = l->function;
        struct vu_write_multi multi;
        struct vu_write_one one;
        int r = 0, refused = 0;

        if (l->message.size < sizeof(multi))
                return -EINVAL;
        memcpy(&multi, l->message.body, sizeof(multi));
        if (multi.count > MULTI_MAX || l->message.size != sizeof(multi) + multi.count * sizeof(one))
                return -EINVAL;
        /* All are sound, or none is done. */
        for (int pass = 0; pass < 2; pass++)
                for (uint64_t i = 0; i < multi.count && r >= 0; i++) {
                        struct vu_region_access a;

                        memcpy(&one, l->message.body + sizeof(multi) + i * sizeof(one), sizeof(one));
                        a = (struct vu_region_access){ one.offset, one.region, one.count };
                        /* One that the policy refuses keeps no other from being done. */
                        if (pass > 0)
                                refused = write_one(l, &a, one.data) < 0 ? -EPERM : refused;
                        else
                                r = one.count > sizeof(one.data) ? -EINVAL : check(f, &a, TDI_VFIO_REGION_INFO_FLAG_WRITE);
                }
        *body = l->message.body;
        *size = sizeof(multi);
        return r < 0 ? r : refused;
}

void region_quiet(struct function *f) {
        uint16_t command;

        if (vconfig_read(f->config, &command, sizeof(command), PCI_COMMAND) != sizeof(command) || command == UINT16_MAX ||
            !(command & PCI_COMMAND_MASTER))
                return;
        command = (uint16_t) (command & ~PCI_COMMAND_MASTER);
        if (vconfig_write(f->config, &command, sizeof(command), PCI_COMMAND) < 0)
                log_warning("%s: could not switch its bus mastering off after its client had gone", f->bdf);
}
