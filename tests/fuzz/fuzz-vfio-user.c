/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the vfio-user server: what a client sends on its socket, pieces and descriptors as they come, and what is done with it
 * on a function whose device and address space are this program's own and look at every call.
 *
 * An input is the pieces of a connection: a byte of how many descriptors come with it (low four bits) and of which kind (the next two), two
 * bytes of how long it is, and so many bytes. A kind of 3 says what the VM does meanwhile instead: the function's TDISP state
 * changes. The first byte of all says whether VERSION has been agreed on (1), the device is away now and then (2), requests come late (4).
 */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fuzz.h"
#include "host/abi/iommufd.h"
#include "vm/vpci/function.h"

#define REGION_SHIFT 40
#define BAR_SIZE 0x10000
#define IO_SIZE 32U
#define CONFIG_SIZE 256U
#define SILENT_BAR 2U /* reads are EIO, as with memory off */
#define BROKEN_BAR 3U /* ENODEV */
#define MSIX_BAR 4U
#define MSIX_COUNT 3U
#define RAM_SIZE (1U << 20)
#define MAPS_MAX 4096
#define IOAS 7
#define PIECES_MAX 256

static const uint64_t sizes[FUNCTION_REGIONS] = {
        [0] = BAR_SIZE, [1] = IO_SIZE, [SILENT_BAR] = BAR_SIZE, [BROKEN_BAR] = BAR_SIZE, [MSIX_BAR] = BAR_SIZE, [7] = CONFIG_SIZE,
};
static const uint32_t counts[FUNCTION_IRQS] = { 1, 4, MSIX_COUNT, 1, 1 };

/* ---- the kernel ---- */

struct map {
        uint64_t iova, size;
};

struct kernel {
        TdiHost host;
        int device, iommufd, ram, event;
        void *mapped;
        pthread_mutex_t lock; /* of what follows: maps that take long are made by a thread */
        struct map maps[MAPS_MAX];
        size_t n_maps;
};

static struct kernel kernel;

/* Which region an access is in: all of it, or the server has let something through. */
static unsigned region_at(uint64_t offset, size_t size) {
        uint64_t index = offset >> REGION_SHIFT, at = offset & ((UINT64_C(1) << REGION_SHIFT) - 1);

        must(index < FUNCTION_REGIONS && size > 0 && size <= STREAM_TRANSFER_MAX);
        must(at < sizes[index] && size <= sizes[index] - at);
        return (unsigned) index;
}

static bool is_device(int fd) {
        struct stat a, b;

        must(fstat(fd, &a) == 0 && fstat(kernel.device, &b) == 0);
        return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static ssize_t do_pread(TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        unsigned region;

        (void) host;
        /* Else it is what the peer maps. */
        if (!is_device(fd)) {
                ssize_t n = pread(fd, buf, size, (off_t) offset);

                return n < 0 ? -errno : n;
        }
        region = region_at(offset, size);
        if (region == SILENT_BAR || region == BROKEN_BAR)
                return region == SILENT_BAR ? -EIO : -ENODEV;
        /* Short, as VFIO's is where a piece ends. */
        if (size > 4096)
                size = 4096;
        must(pread(kernel.device, buf, size, (off_t) offset) == (ssize_t) size);
        return (ssize_t) size;
}

static ssize_t do_pwrite(TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset) {
        unsigned region = region_at(offset, size);

        (void) host;
        must(is_device(fd));
        if (region == SILENT_BAR || region == BROKEN_BAR)
                return region == SILENT_BAR ? -EIO : -ENODEV;
        must(pwrite(kernel.device, buf, size, (off_t) offset) == (ssize_t) size);
        return (ssize_t) size;
}

/* What vfio_set_irqs_validate_and_prepare() looks at, and the size of what it reads. */
static int set_irqs(const struct tdi_vfio_irq_set *set) {
        uint32_t data = set->flags & TDI_VFIO_IRQ_SET_DATA_TYPE_MASK, size = 0;

        must(set->argsz >= sizeof(*set) && set->index < FUNCTION_IRQS);
        must(set->start <= counts[set->index] && set->count <= counts[set->index] - set->start);
        must(data == TDI_VFIO_IRQ_SET_DATA_NONE || data == TDI_VFIO_IRQ_SET_DATA_BOOL || data == TDI_VFIO_IRQ_SET_DATA_EVENTFD);
        if (data == TDI_VFIO_IRQ_SET_DATA_BOOL)
                size = set->count;
        if (data == TDI_VFIO_IRQ_SET_DATA_EVENTFD)
                size = set->count * (uint32_t) sizeof(int32_t);
        must(set->argsz - sizeof(*set) >= size);
        for (uint32_t i = 0; i < size; i++)
                must(set->data[i] <= UINT8_MAX);
        for (uint32_t i = 0; data == TDI_VFIO_IRQ_SET_DATA_EVENTFD && i < set->count; i++) {
                int32_t fd;

                memcpy(&fd, set->data + i * sizeof(fd), sizeof(fd));
                must(fd == -1 || fcntl(fd, F_GETFD) >= 0);
        }
        return 0;
}

static int iova_ranges(struct tdi_iommu_ioas_iova_ranges *ranges) {
        /* As on x86: all but the window of the interrupts, of 48 bits. */
        static const struct tdi_iommu_iova_range windows[] = { { 0, 0xfedfffff }, { 0xfef00000, (UINT64_C(1) << 48) - 1 } };
        uint32_t room = ranges->num_iovas;

        must(ranges->ioas_id == IOAS);
        ranges->num_iovas = ARRAY_SIZE(windows);
        ranges->out_iova_alignment = 4096;
        if (room < ARRAY_SIZE(windows))
                return -EMSGSIZE;
        memcpy((void *) (uintptr_t) ranges->allowed_iovas, windows, sizeof(windows));
        return 0;
}

static int map_file(const struct tdi_iommu_ioas_map_file *m) {
        must(m->ioas_id == IOAS && m->flags & TDI_IOMMU_IOAS_MAP_FIXED_IOVA);
        must(m->flags & (TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE));
        must(m->length > 0 && m->length % 4096 == 0 && m->iova % 4096 == 0 && m->iova + m->length - 1 >= m->iova);
        /* Nothing but the memory that this process maps shared gets here, and no more of it than there is. */
        must(fcntl(m->fd, F_GETFD) >= 0 && m->start < RAM_SIZE && m->length <= RAM_SIZE - m->start);
        for (size_t i = 0; i < kernel.n_maps; i++)
                must(m->iova >= kernel.maps[i].iova + kernel.maps[i].size || kernel.maps[i].iova >= m->iova + m->length);
        if (kernel.n_maps == MAPS_MAX)
                return -ENOMEM;
        kernel.maps[kernel.n_maps++] = (struct map){ m->iova, m->length };
        return 0;
}

static int unmap(struct tdi_iommu_ioas_unmap *u) {
        uint64_t bytes = 0;

        must(u->ioas_id == IOAS);
        for (size_t i = kernel.n_maps; i > 0; i--) {
                struct map *m = &kernel.maps[i - 1];

                if (m->iova < u->iova || m->iova + m->size - 1 > u->iova + u->length - 1)
                        continue;
                bytes += m->size;
                *m = kernel.maps[--kernel.n_maps];
        }
        u->length = bytes;
        return bytes ? 0 : -ENOENT;
}

static int do_ioctl(TdiHost *host, int fd, unsigned long request, void *arg) {
        int r;

        (void) host;
        must(fcntl(fd, F_GETFD) >= 0);
        switch (request) {
        case TDI_VFIO_DEVICE_RESET:
                return 0;
        case TDI_VFIO_DEVICE_SET_IRQS:
                return set_irqs(arg);
        case TDI_IOMMU_IOAS_IOVA_RANGES:
                return iova_ranges(arg);
        case TDI_IOMMU_IOAS_MAP_FILE:
        case TDI_IOMMU_IOAS_UNMAP:
                must(pthread_mutex_lock(&kernel.lock) == 0);
                r = request == TDI_IOMMU_IOAS_MAP_FILE ? map_file(arg) : unmap(arg);
                must(pthread_mutex_unlock(&kernel.lock) == 0);
                return r;
        default:
                return -ENOTTY;
        }
}

static int do_close(TdiHost *host, int fd) {
        (void) host;
        return close(fd) < 0 ? -errno : 0;
}

/* What a descriptor is that a client sends, the real host tells. */
static struct tdi_host_ops ops = {
        .name = "fuzz", .pread = do_pread, .pwrite = do_pwrite, .ioctl = do_ioctl, .close = do_close
};

/* A function with every capability that the filter knows: power management, MSI, MSI-X, PCI Express. */
static void make_device(void) {
        static const uint8_t config[] = {
                [0x00] = 0x34, 0x12, 0xe8, 0x11, [0x06] = 0x10, [0x0b] = 0xff, [0x34] = 0x40,
                [0x40] = 0x01, 0x50, 0x03, 0x00, /* power management, no soft reset */
                [0x50] = 0x05, 0x70, 0x84, 0x00, /* MSI, 64 bits, 4 vectors */
                [0x70] = 0x11, 0x80, MSIX_COUNT - 1, 0x00, [0x74] = MSIX_BAR, [0x78] = MSIX_BAR, 0x08,
                [0x80] = 0x10, 0x00, 0x02, 0x00, [0x87] = 0x10, /* PCI Express, function-level reset */
                [CONFIG_SIZE - 1] = 0,
        };

        must(ftruncate(kernel.device, 0) == 0 && ftruncate(kernel.device, (off_t) (UINT64_C(8) << REGION_SHIFT)) == 0);
        must(pwrite(kernel.device, config, sizeof(config), (off_t) (UINT64_C(7) << REGION_SHIFT)) == sizeof(config));
}

/* ---- the server ---- */

static int on_tell(_unused_ struct json_object *event, _unused_ const int *fds, _unused_ size_t n_fds, _unused_ void *userdata) {
        return 0;
}

static void on_dma(enum dma_event event, const char *text, void *userdata) {
        struct function *f = userdata;

        (void) text;
        if (event == DMA_EVENT_MASTER)
                vconfig_set_master(f->config, (enum vconfig_master) dma_master(f->dma));
}

static struct vpci *vpci;

/* As function_new() and its thread make one, but with no thread. */
static struct function *make_function(struct dma *dma) {
        struct function *f = calloc(1, sizeof(*f));

        must(f);
        f->vpci = vpci;
        f->host = &kernel.host;
        f->ioas = IOAS;
        f->connection = f->request = f->error = f->device_error = f->listener = f->stream.socket = -EBADF;
        must((f->device = fd_dup(kernel.device)) >= 0 && (f->leave = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0);
        strcpy(f->bdf, "0000:01:00.0");
        f->flags = 3;
        f->n_regions = FUNCTION_REGIONS;
        f->n_irqs = FUNCTION_IRQS;
        for (uint32_t i = 0; i < FUNCTION_REGIONS; i++)
                f->regions[i] = (struct tdi_vfio_region_info){
                        .flags = sizes[i] ? 3 : 0, .size = sizes[i], .offset = (uint64_t) i << REGION_SHIFT
                };
        for (uint32_t i = 0; i < FUNCTION_IRQS; i++)
                f->irqs[i] = (struct irq){ .count = counts[i], .flags = 1 };
        must(pthread_mutex_init(&f->lock, NULL) == 0 && pthread_mutex_init(&f->send_lock, NULL) == 0 && pthread_cond_init(&f->changed, NULL) == 0);
        f->lanes[0].function = f->lanes[1].function = f;
        must(vconfig_new(f->host, f->device, f->regions[7].offset, f->regions[7].size, &f->config) == 0);
        must(dma_client_new(dma, IOAS, false, on_dma, f, &f->dma) == 0);
        return f;
}

static void end_function(struct function *f) {
        region_quiet(f);
        irq_disable_all(f);
        irq_drop_kept(f);
        f->dma = dma_client_free(f->dma);
        f->config = vconfig_free(f->config);
        function_free(f);
}

/* What must hold of every reply. */
static void execute(struct function *f, struct lane *l) {
        struct vu_header h = l->message.header;
        const void *body = NULL;
        struct vu_region_access a = {};
        size_t size = 0;
        int r;

        if (h.command == VU_REGION_READ && l->message.size >= sizeof(a))
                memcpy(&a, l->message.body, sizeof(a));
        r = dispatch(l, &body, &size);
        must(r <= 0 && l->message.header.id == h.id && l->message.header.command == h.command);
        if (r == 0) {
                must(f->greeted && size <= STREAM_BODY_MAX && (body || size == 0));
                must(h.command < VU_COMMAND_MAX);
                if (h.command == VU_REGION_READ)
                        must(size == sizeof(a) + a.count && memcmp(body, &a, sizeof(a)) == 0);
                /* Every byte of it is ours. */
                for (size_t i = 0; i < size; i++)
                        must(((const volatile uint8_t *) body)[i] <= UINT8_MAX);
        }
        message_close_fds(&l->message);
}

/* The same, of a server whose device is away. */
static void execute_away(struct lane *l) {
        const void *body = NULL;
        size_t size = 0;
        int r = dispatch_away(l, &body, &size);

        must(r <= 0 && (r < 0 || size == 0 || body));
        message_close_fds(&l->message);
}

/* Sends the pieces; what does not fit into the socket is left out. */
static void send_pieces(int socket, struct function *f, const uint8_t *p, size_t size) {
        for (unsigned i = 0; i < PIECES_MAX && size >= 3; i++) {
                unsigned n_fds = p[0] & 0xf, kind = p[0] >> 4 & 3;
                size_t length = (size_t) (p[1] | p[2] << 8);
                union {
                        char room[CMSG_SPACE(sizeof(int) * 16)];
                        struct cmsghdr align;
                } control = {};
                struct iovec iov;
                struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

                if (length > size - 3)
                        length = size - 3;
                if (kind == 3) {
                        vconfig_set_state(f->config, (enum vconfig_state) (n_fds % 5));
                        length = 0;
                } else if (length > 0) {
                        iov = (struct iovec){ (void *) (uintptr_t) (p + 3), length };
                        if (n_fds > 0) {
                                mh.msg_control = &control;
                                mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                                control.align = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n_fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
                                for (unsigned k = 0; k < n_fds; k++)
                                        memcpy(CMSG_DATA(&control.align) + k * sizeof(int), kind == 0 ? &kernel.event : kind == 1 ? &kernel.ram : &kernel.device, sizeof(int));
                        }
                        if (sendmsg(socket, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                                return;
                }
                p += 3 + length;
                size -= 3 + length;
        }
}

static size_t count_maps(void) {
        size_t n;

        must(pthread_mutex_lock(&kernel.lock) == 0);
        n = kernel.n_maps;
        must(pthread_mutex_unlock(&kernel.lock) == 0);
        return n;
}

static uint64_t now_nsec(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000U + (uint64_t) t.tv_nsec;
}

static void connection(const uint8_t *data, size_t size) {
        struct dma_limits limits = { UINT64_C(1) << 30, 64 };
        struct dma *dma;
        struct function *f;
        struct lane *l;
        int pair[2], maps;
        unsigned count = 0;

        must(dma_new(&kernel.host, &limits, &dma) == 0);
        dma_set_iommufd(dma, kernel.iommufd);
        must((maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) >= 0);
        dma_set_peer(dma, maps, -EBADF);
        f = make_function(dma);
        l = &f->lanes[0];
        f->greeted = data[0] & 1;
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        send_pieces(pair[0], f, data + 1, size - 1);
        (void) shutdown(pair[0], SHUT_WR);
        stream_open(&f->stream, pair[1]);
        while (stream_receive(&f->stream, &l->message, 0) >= 0) {
                atomic_store(&l->phase, PHASE_BUSY);
                /* One that comes late is not waited for: maps are made by a thread then. */
                atomic_store(&l->arrived, data[0] & 4 ? 0 : now_nsec());
                if (data[0] & 2 && count++ % 4 == 3)
                        execute_away(l);
                else
                        execute(f, l);
                must(count_maps() <= limits.maps);
        }
        message_close_fds(&l->message);
        stream_close(&f->stream);
        f->stream.socket = -EBADF;
        (void) close(pair[0]);
        (void) close(pair[1]);
        end_function(f);
        dma_free(dma);
        must(count_maps() == 0);
}

static void make_kernel(void) {
        static TdiHost *real;

        must(tdi_host_linux_new(&real) >= 0);
        ops.identify = real->ops->identify;
        kernel.host.ops = &ops;
        must(pthread_mutex_init(&kernel.lock, NULL) == 0);
        must((kernel.device = memfd_create("device", MFD_CLOEXEC)) >= 0 && (kernel.iommufd = memfd_create("iommu", MFD_CLOEXEC)) >= 0);
        must((kernel.ram = memfd_create("ram", MFD_CLOEXEC)) >= 0 && ftruncate(kernel.ram, RAM_SIZE) == 0);
        must((kernel.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0);
        kernel.mapped = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, kernel.ram, 0);
        must(kernel.mapped != MAP_FAILED);
        must(vpci_new(&kernel.host, on_tell, NULL, &vpci) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct pollfd p[VPCI_POLL_MAX];
        int next, timeout = 0;
        size_t n;

        if (!vpci)
                make_kernel();
        if (size == 0)
                return 0;
        next = fuzz_next_fd();
        make_device();
        connection(data, size);
        /* What it had to tell. */
        n = vpci_poll(vpci, p, &timeout);
        for (size_t i = 0; i < n; i++)
                p[i].revents = 0;
        vpci_dispatch(vpci, p, n);
        must(fuzz_next_fd() == next);
        return 0;
}
