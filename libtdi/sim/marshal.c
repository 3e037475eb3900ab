/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both directions of the marshalling, by the rows of marshal-table.c. Nothing is taken from a packet that was not measured first. */
#include "sim/marshal.h"

#include "sim/marshal-table.h"
#include "util/util.h"

#include "host/abi/vfio.h"

#define NOTHING UINT64_MAX /* in place of a length */
#define MASK_SIZE sizeof(uint32_t)

static uint32_t u32_at(const uint8_t *p, size_t size, size_t at) {
        uint32_t v = 0;

        if (at + sizeof(v) <= size)
                memcpy(&v, p + at, sizeof(v));
        return v;
}

static uint64_t u64_at(const uint8_t *p, size_t size, size_t at) {
        uint64_t v = 0;

        if (at + sizeof(v) <= size)
                memcpy(&v, p + at, sizeof(v));
        return v;
}

static bool holds(const struct sim_when *when, const uint8_t *arg, size_t size) {
        return (u32_at(arg, size, when->at) & when->mask) == when->value;
}

static size_t clamp(size_t n, size_t low, size_t high) {
        return n < low ? low : n > high ? high : n;
}

/* ---- how long things are ---- */

/* The bytes of SET_IRQS' array that the kernel looks at (vfio_set_irqs_validate_and_prepare). */
static uint64_t irq_data(const uint8_t *arg, size_t size, uint32_t argsz) {
        uint32_t flags = u32_at(arg, size, offsetof(struct tdi_vfio_irq_set, flags));
        uint64_t n = u32_at(arg, size, offsetof(struct tdi_vfio_irq_set, count));

        if (flags & TDI_VFIO_IRQ_SET_DATA_EVENTFD)
                n *= sizeof(int32_t);
        else if (!(flags & TDI_VFIO_IRQ_SET_DATA_BOOL))
                n = 0;
        return n < argsz - size ? n : argsz - size;
}

/* The bytes behind a feature's header that the kernel looks at or writes: argsz may promise more than there is. */
static uint64_t feature_data(const uint8_t *arg, size_t have, uint32_t argsz) {
        const size_t header = sizeof(struct tdi_vfio_device_feature), ranges = offsetof(struct tdi_vfio_device_feature_dma_buf, dma_ranges),
                     count_at = offsetof(struct tdi_vfio_device_feature_dma_buf, nr_ranges);
        uint32_t flags = u32_at(arg, header, offsetof(struct tdi_vfio_device_feature, flags));
        uint64_t n = 0;

        switch (flags & TDI_VFIO_DEVICE_FEATURE_MASK) {
        case TDI_VFIO_DEVICE_FEATURE_PCI_VF_TOKEN:
                n = 16;
                break;
        case TDI_VFIO_DEVICE_FEATURE_MIGRATION:
                n = sizeof(struct tdi_vfio_device_feature_migration);
                break;
        case TDI_VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
                n = sizeof(struct tdi_vfio_device_low_power_entry_with_wakeup);
                break;
        case TDI_VFIO_DEVICE_FEATURE_DMA_BUF:
                n = ranges;
                /* As many ranges as it says, argsz or not (vfio_pci_core_feature_dma_buf). */
                if (argsz >= header + ranges && flags & TDI_VFIO_DEVICE_FEATURE_GET && !(flags & TDI_VFIO_DEVICE_FEATURE_PROBE) &&
                    have >= header + ranges)
                        n += u32_at(arg, header + ranges, header + count_at) * sizeof(struct tdi_vfio_region_dma_range);
                else if (n > argsz - header)
                        n = argsz - header;
                return n;
        default:
                break;
        }
        return n < argsz - header ? n : argsz - header;
}

/* How many bytes of the struct travel, of at most `have`; reads no further than it has to. -EINVAL: it is longer than that. */
static int arg_size(const struct sim_row *row, const uint8_t *arg, size_t have, size_t *ret) {
        uint64_t n = row->size;
        uint32_t said;

        switch (row->arg) {
        case SIM_ARG_VALUE:
                n = 0;
                break;
        case SIM_ARG_FIXED:
                break;
        case SIM_ARG_STRING:
                for (n = 0; n <= row->size; n++) {
                        if (n == have)
                                return -EINVAL;
                        if (!arg[n])
                                break;
                }
                n = n > row->size ? n : n + 1;
                break;
        case SIM_ARG_COUNTED:
                if (have < n)
                        return -EINVAL;
                n += (uint64_t) u32_at(arg, n, row->count_at) * row->element;
                /* More than any limit of these calls: udmabuf's list_limit, the functions of a slot. */
                if (n > SIM_ARG_MAX)
                        return -EINVAL;
                break;
        default:
                if (have < sizeof(said))
                        return -EINVAL;
                said = u32_at(arg, sizeof(said), 0);
                if (row->arg == SIM_ARG_SIZED)
                        n = said < sizeof(said) ? sizeof(said) : said;
                else
                        n = clamp(said, sizeof(said), row->size);
                if (row->arg == SIM_ARG_SIZED && n > SIM_SIZED_MAX)
                        return -E2BIG;
                if (row->arg == SIM_ARG_IRQ_SET && said >= row->size) {
                        if (have < row->size)
                                return -EINVAL;
                        n = row->size + irq_data(arg, row->size, said);
                }
                if (row->arg == SIM_ARG_FEATURE && said >= row->size) {
                        if (have < row->size)
                                return -EINVAL;
                        n = row->size + feature_data(arg, have, said);
                }
        }
        if (n > SIM_ARG_MAX)
                return -E2BIG;
        if (n > have)
                return -EINVAL;
        *ret = (size_t) n;
        return 0;
}

/* What the caller's struct says its size is. */
static size_t said_size(const struct sim_row *row, const uint8_t *arg, size_t size) {
        switch (row->arg) {
        case SIM_ARG_ARGSZ:
        case SIM_ARG_FEATURE:
        case SIM_ARG_SIZED:
        case SIM_ARG_IRQ_SET:
                return clamp(u32_at(arg, size, 0), 0, SIM_ARG_MAX);
        default:
                return size;
        }
}

/* How much of the struct an answer brings: an info call may add to what came, as far as argsz has room. */
static size_t answer_size(const struct sim_row *row, size_t sent, size_t said) {
        return row->arg == SIM_ARG_ARGSZ && (row->chain_at || row->count_at) && said > sent ? said : sent;
}

static bool followed(const struct sim_pointer *p, const uint8_t *arg, size_t size) {
        return p->at + sizeof(uint64_t) <= size && holds(&p->when, arg, size) &&
               (!p->most || u32_at(arg, size, p->length_at) <= p->most);
}

/* In the caller's own memory; NULL for one that is not followed. */
static uint8_t *pointed(const struct sim_pointer *p, const uint8_t *arg, size_t size) {
        return followed(p, arg, size) ? (uint8_t *) (uintptr_t) u64_at(arg, size, p->at) : NULL;
}

/* -E2BIG for input that is too long; room for an answer is cut instead. */
static int pointed_size(const struct sim_pointer *p, const uint8_t *arg, size_t size, size_t *ret) {
        const size_t most = p->most ? p->most : SIM_ARG_MAX;
        uint64_t n = p->scale;

        if (p->length_at)
                n *= u32_at(arg, size, p->length_at);
        /* Before the second factor there are 32 and 16 bits at most. */
        if (p->times_at && __builtin_mul_overflow(n, (uint64_t) u32_at(arg, size, p->times_at), &n))
                return -E2BIG;
        if (n > most) {
                if (p->in)
                        return -E2BIG;
                n = most;
        }
        *ret = (size_t) n;
        return 0;
}

/* How much of `have` bytes the kernel has written, by the struct as it left it. */
static size_t used_size(const struct sim_pointer *p, const uint8_t *arg, size_t size, size_t have) {
        size_t n;

        if (p->used_at)
                n = u32_at(arg, size, p->used_at);
        else if (p->fill || pointed_size(p, arg, size, &n) < 0)
                n = have;
        return n < have ? n : have;
}

/* The values of the members that name descriptors; -1 for one whose condition does not hold or that is not there. */
static int passed(const struct sim_row *row, const uint8_t *arg, size_t size, const uint8_t *behind, size_t behind_size,
                  int32_t ret[SIM_IOCTL_FDS_MAX], unsigned *ret_n) {
        const struct sim_passed *p = &row->passed;
        size_t n = p->count ? p->count : 1;

        if (p->stride && p->count_at) {
                n = size > p->at && holds(&p->when, arg, size) ? (size - p->at) / p->stride : 0;
                if (n > u32_at(arg, size, p->count_at))
                        n = u32_at(arg, size, p->count_at);
                if (n > SIM_IOCTL_FDS_MAX)
                        return -E2BIG;
        } else if (!p->stride)
                n = 0;
        for (size_t i = 0; i < n; i++) {
                const uint8_t *from = p->behind ? behind : arg;
                size_t have = p->behind ? behind_size : size, at = p->at + i * p->stride;

                ret[i] = -1;
                if (from && at + sizeof(int32_t) <= have && holds(&p->when, arg, size))
                        memcpy(&ret[i], from + at, sizeof(int32_t));
        }
        *ret_n = (unsigned) n;
        return 0;
}

/* ---- packets ---- */

struct packet {
        uint8_t *at;
        size_t left;
};

static int put(struct packet *p, const void *data, size_t size) {
        if (size > p->left)
                return -E2BIG;
        if (size > 0)
                memcpy(p->at, data, size);
        p->at += size;
        p->left -= size;
        return 0;
}

static int put_measured(struct packet *p, uint64_t size, const void *data, bool zeros) {
        int r = put(p, &size, sizeof(size));

        if (r < 0 || size == NOTHING || !zeros)
                return r < 0 || size == NOTHING ? r : put(p, data, (size_t) size);
        if (size > p->left)
                return -E2BIG;
        memset(p->at, 0, (size_t) size);
        p->at += size;
        p->left -= (size_t) size;
        return 0;
}

struct reader {
        const uint8_t *at;
        size_t left;
};

static const uint8_t *take(struct reader *p, size_t size) {
        const uint8_t *at = p->at;

        if (size > p->left)
                return NULL;
        p->at += size;
        p->left -= size;
        return at;
}

static int take_length(struct reader *p, uint64_t *ret) {
        const uint8_t *at = take(p, sizeof(*ret));

        if (!at)
                return -EINVAL;
        memcpy(ret, at, sizeof(*ret));
        return *ret == NOTHING || *ret <= p->left ? 0 : -EINVAL;
}

/* ---- client ---- */

int sim_ioctl_pack(unsigned long request, const void *arg, uint8_t *buf, size_t room, size_t *ret_size, int ret_fds[SIM_IOCTL_FDS_MAX],
                   unsigned *ret_n_fds) {
        const struct sim_row *row = sim_row_find(request);
        const uint8_t *behind = NULL;
        size_t size, behind_size = 0;
        int32_t named[SIM_IOCTL_FDS_MAX];
        struct packet p = { buf, room };
        unsigned n_named, n = 0;
        uint32_t mask = 0;
        int r;

        if (!row)
                return -ENOTTY;
        *ret_size = 0;
        *ret_n_fds = 0;
        if (row->arg == SIM_ARG_VALUE)
                return 0;
        if (!arg)
                return -EFAULT;
        r = arg_size(row, arg, SIZE_MAX, &size);
        if (r < 0)
                return r;
        r = put(&p, &mask, MASK_SIZE);
        if (r >= 0)
                r = put(&p, arg, size);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                const struct sim_pointer *pointer = &row->pointer[i];
                const uint8_t *at = pointed(pointer, arg, size);
                size_t length = 0;

                if (at)
                        r = pointed_size(pointer, arg, size, &length);
                if (r >= 0)
                        r = put_measured(&p, at ? length : NOTHING, at, !pointer->in);
                if (i == 0 && pointer->in) {
                        behind = at;
                        behind_size = length;
                }
        }
        if (r >= 0)
                r = passed(row, arg, size, behind, behind_size, named, &n_named);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < n_named; i++)
                if (named[i] >= 0) {
                        mask |= 1u << i;
                        ret_fds[n++] = named[i];
                }
        memcpy(buf, &mask, MASK_SIZE);
        *ret_n_fds = n;
        *ret_size = room - p.left;
        return 0;
}

/* What the kernel wrote of the struct, of which `size` bytes came back. */
static size_t written(const struct sim_row *row, const uint8_t *answer, size_t size, size_t sent) {
        uint64_t n;

        if (size <= sent)
                return size;
        if (row->chain_at)
                return u32_at(answer, size, row->chain_at) ? size : sent;
        n = sent + (uint64_t) u32_at(answer, size, row->count_at) * row->element;
        return n < size ? (size_t) n : size;
}

static int apply(const struct sim_row *row, uint8_t *arg, const uint8_t *answer, size_t answer_length) {
        struct {
                uint8_t *to;
                const uint8_t *from;
                size_t size;
        } copies[ARRAY_SIZE(row->pointer)] = {};
        struct reader p = { answer, answer_length };
        size_t sent, size;
        const uint8_t *from;
        int r;

        /* A call that was refused before anybody looked at its argument brings nothing back. */
        if (answer_length == 0)
                return 0;
        if (row->arg == SIM_ARG_VALUE || !arg)
                return -EPROTO;
        r = arg_size(row, arg, SIZE_MAX, &sent);
        if (r < 0)
                return r;
        size = answer_size(row, sent, said_size(row, arg, sent));
        if (!take(&p, MASK_SIZE))
                return -EPROTO;
        from = take(&p, size);
        if (!from)
                return -EPROTO;
        for (size_t i = 0; i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                const struct sim_pointer *pointer = &row->pointer[i];
                size_t have = 0;
                uint64_t n;

                if (take_length(&p, &n) < 0 || n == NOTHING)
                        return -EPROTO;
                if (n == 0)
                        continue;
                copies[i].from = take(&p, (size_t) n);
                copies[i].to = pointed(pointer, arg, sent);
                copies[i].size = (size_t) n;
                if (!pointer->out || !copies[i].to || pointed_size(pointer, arg, sent, &have) < 0 || n > have)
                        return -EPROTO;
        }
        if (p.left > 0)
                return -EPROTO;
        if (row->arg != SIM_ARG_STRING)
                memcpy(arg, from, written(row, from, size, sent));
        for (size_t i = 0; i < ARRAY_SIZE(copies); i++)
                if (copies[i].size > 0)
                        memcpy(copies[i].to, copies[i].from, copies[i].size);
        return 0;
}

int sim_ioctl_apply(unsigned long request, void *arg, int64_t r, const uint8_t *answer, size_t size, const int *fds, unsigned n_fds) {
        const struct sim_row *row = sim_row_find(request);
        int k = row ? apply(row, arg, answer, size) : -ENOTTY;
        bool used = false;

        if (k < 0)
                r = k;
        else if (r >= 0 && n_fds > 0 && row->makes == SIM_MAKES_RETURNED) {
                r = fds[0];
                used = true;
        } else if (r >= 0 && n_fds > 0 && row->makes == SIM_MAKES_MEMBER) {
                memcpy((uint8_t *) arg + row->made_at, &(int32_t){ fds[0] }, sizeof(int32_t));
                used = true;
        }
        for (unsigned i = used ? 1 : 0; i < n_fds; i++)
                close_fd(fds[i]);
        return (int) r;
}

size_t sim_ioctl_room(unsigned long request, const void *arg) {
        const struct sim_row *row = sim_row_find(request);
        size_t sent;

        if (!row || row->arg == SIM_ARG_VALUE || !arg || arg_size(row, arg, SIZE_MAX, &sent) < 0)
                return 0;
        return answer_size(row, sent, said_size(row, arg, sent));
}

int sim_ioctl_result(unsigned long request, const void *before, const void *after, uint8_t *buf, size_t room, size_t *ret_size) {
        const struct sim_row *row = sim_row_find(request);
        size_t size = sim_ioctl_room(request, before), sent;
        struct packet p = { buf, room };
        int r;

        *ret_size = 0;
        if (size == 0)
                return 0;
        r = arg_size(row, before, SIZE_MAX, &sent);
        if (r >= 0)
                r = put(&p, &(uint32_t){ 0 }, MASK_SIZE);
        if (r >= 0)
                r = put(&p, after, size);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                const struct sim_pointer *pointer = &row->pointer[i];
                const uint8_t *at = pointed(pointer, before, sent);
                size_t have = 0, n = 0;

                if (pointer->out && at) {
                        r = pointed_size(pointer, before, sent, &have);
                        if (r < 0)
                                break;
                        n = used_size(pointer, after, sent, have);
                }
                r = put_measured(&p, n, at, false);
        }
        if (r < 0)
                return r;
        *ret_size = room - p.left;
        return 0;
}

/* ---- simulation ---- */

static int unpack(const struct sim_row *row, const uint8_t *payload, size_t size, const int *fds, unsigned n_fds, struct sim_ioctl *io) {
        struct reader p = { payload, size };
        int32_t named[SIM_IOCTL_FDS_MAX];
        const uint8_t *arg, *at;
        unsigned n = 0;
        size_t room;
        uint32_t mask;
        int r;

        at = take(&p, MASK_SIZE);
        if (!at)
                return -EINVAL;
        memcpy(&mask, at, sizeof(mask));
        arg = p.at;
        r = arg_size(row, arg, p.left, &io->sent);
        if (r < 0)
                return -EINVAL;
        (void) take(&p, io->sent);
        io->size = said_size(row, arg, io->sent);
        room = io->size > io->sent ? io->size : io->sent;
        io->arg = calloc(1, room > row->size ? room : row->size);
        if (!io->arg)
                return -ENOMEM;
        memcpy(io->arg, arg, io->sent);
        for (size_t i = 0; i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                const struct sim_pointer *pointer = &row->pointer[i];
                size_t have;
                uint64_t length;

                if (take_length(&p, &length) < 0)
                        return -EINVAL;
                if (length == NOTHING)
                        continue;
                if (!followed(pointer, arg, io->sent) || pointed_size(pointer, arg, io->sent, &have) < 0 || length != have)
                        return -EINVAL;
                io->blob[i].data = malloc(have + 1);
                if (!io->blob[i].data)
                        return -ENOMEM;
                io->blob[i].size = have;
                memcpy(io->blob[i].data, take(&p, have), have);
        }
        if (p.left > 0)
                return -EINVAL;
        r = passed(row, io->arg, io->sent, io->blob[0].data, io->blob[0].size, named, &io->n_in);
        if (r < 0)
                return -EINVAL;
        for (unsigned i = 0; i < io->n_in; i++) {
                io->in[i].fd = -1;
                if (!(mask & 1u << i))
                        continue;
                if (named[i] < 0 || n == n_fds)
                        return -EINVAL;
                io->in[i].fd = fds[n++];
        }
        if (n != n_fds || (io->n_in < SIM_IOCTL_FDS_MAX && mask >> io->n_in))
                return -EINVAL;
        return 0;
}

int sim_ioctl_unpack(unsigned long request, uint64_t value, const uint8_t *payload, size_t size, const int *fds, unsigned n_fds,
                     struct sim_ioctl *ret) {
        const struct sim_row *row = sim_row_find(request);
        struct sim_ioctl io = { .request = request, .value = value };
        int r;

        if (!row)
                return -ENOTTY;
        if (row->arg == SIM_ARG_VALUE) {
                if (size > 0 || n_fds > 0)
                        return -EINVAL;
        } else {
                r = unpack(row, payload, size, fds, n_fds, &io);
                if (r < 0) {
                        sim_ioctl_done(&io);
                        return r;
                }
        }
        *ret = io;
        return 0;
}

int sim_ioctl_answer(const struct sim_ioctl *io, uint8_t *buf, size_t room, size_t *ret_size) {
        const struct sim_row *row = sim_row_find(io->request);
        struct packet p = { buf, room };
        size_t size;
        int r;

        if (!row)
                return -ENOTTY;
        *ret_size = 0;
        if (row->arg == SIM_ARG_VALUE)
                return 0;
        size = answer_size(row, io->sent, io->size);
        r = put(&p, &(uint32_t){ 0 }, MASK_SIZE);
        if (r >= 0)
                r = put(&p, io->arg, size);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(row->pointer) && row->pointer[i].scale; i++) {
                const struct sim_pointer *pointer = &row->pointer[i];
                size_t n = 0;

                if (pointer->out && io->blob[i].data)
                        n = used_size(pointer, io->arg, io->sent, io->blob[i].size);
                r = put_measured(&p, n, io->blob[i].data, false);
        }
        if (r < 0)
                return r;
        *ret_size = room - p.left;
        return 0;
}

void sim_ioctl_done(struct sim_ioctl *io) {
        free(io->arg);
        io->arg = NULL;
        for (size_t i = 0; i < SIM_BLOBS_MAX; i++) {
                free(io->blob[i].data);
                io->blob[i].data = NULL;
        }
}
