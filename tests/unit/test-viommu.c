/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Event queues of vIOMMUs, against a kernel that is a script: what is counted, what is told, and when it is not read. */
#include "host/abi/iommufd.h"
#include "test.h"
#include "vm/vpci/viommu.h"

#define IOMMUFD 1000
#define QUEUE_FD 1001
#define VIOMMU 5
#define QUEUE 9

struct record {
        struct tdi_iommufd_vevent_header header;
        uint64_t data[4];
};

static struct {
        int alloc; /* what the next IOMMU_VEVENTQ_ALLOC answers */
        uint8_t bytes[4096];
        ssize_t size;
        unsigned allocated, destroyed, closed, told;
        char name[32], text[160];
        int64_t sid;
} k;

static int fake_ioctl(_unused_ TdiHost *host, int fd, unsigned long request, void *arg) {
        check_int(fd, IOMMUFD);
        if (request == TDI_IOMMU_VEVENTQ_ALLOC) {
                struct tdi_iommu_veventq_alloc *a = arg;

                check_int(a->viommu_id, VIOMMU);
                check_int(a->type, TDI_IOMMU_VEVENTQ_TYPE_ARM_SMMUV3);
                if (k.alloc < 0)
                        return k.alloc;
                k.allocated++;
                a->out_veventq_id = QUEUE;
                a->out_veventq_fd = QUEUE_FD;
                return 0;
        }
        check_int((int) (request == TDI_IOMMU_DESTROY), 1);
        check_int(((struct tdi_iommu_destroy *) arg)->id, QUEUE);
        /* A file that is open keeps it. */
        check_int(k.closed, 1);
        k.destroyed++;
        return 0;
}

static int fake_close(_unused_ TdiHost *host, int fd) {
        check_int(fd, QUEUE_FD);
        k.closed++;
        return 0;
}

static ssize_t fake_read(_unused_ TdiHost *host, int fd, void *buf, size_t size) {
        ssize_t n = k.size;

        check_int(fd, QUEUE_FD);
        if (n > 0 && check((size_t) n <= size))
                memcpy(buf, k.bytes, (size_t) n);
        k.size = 0;
        return n;
}

static TdiHost host = { .ops = &(const struct tdi_host_ops){ .ioctl = fake_ioctl, .close = fake_close, .read = fake_read } };

static void on_event(uint32_t viommu, const char *event, int64_t sid, const char *text, _unused_ void *userdata) {
        check_int(viommu, VIOMMU);
        k.told++;
        k.sid = sid;
        snprintf(k.name, sizeof(k.name), "%s", event);
        snprintf(k.text, sizeof(k.text), "%s", text);
}

static void put(uint32_t sequence, uint8_t number, uint32_t sid, uint64_t address) {
        const struct record r = { { 0, sequence }, { number | (uint64_t) sid << 32, 0, address, 0 } };

        memcpy(k.bytes + k.size, &r, sizeof(r));
        k.size += (ssize_t) sizeof(r);
}

static void put_lost(uint32_t sequence) {
        const struct tdi_iommufd_vevent_header h = { TDI_IOMMU_VEVENTQ_FLAG_LOST_EVENTS, sequence };

        memcpy(k.bytes + k.size, &h, sizeof(h));
        k.size += (ssize_t) sizeof(h);
}

static void start(struct viommus *v) {
        memset(&k, 0, sizeof(k));
        *v = (struct viommus){};
        check_int(viommus_add(v, &host, IOMMUFD, VIOMMU, TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3), 0);
}

static void expect(const struct viommus *v, uint64_t events, uint64_t lost) {
        check_int((long long) v->viommus[0].events, (long long) events);
        check_int((long long) v->viommus[0].lost, (long long) lost);
}

static void test_life(void) {
        struct pollfd p[VIOMMUS_MAX];
        struct viommus v;
        int timeout = -1;

        start(&v);
        check_int(viommus_add(&v, &host, IOMMUFD, VIOMMU, TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3), 0);
        check_int(k.allocated, 1);
        check_int((long long) viommus_poll(&v, p, &timeout), 1);
        check_int(p[0].fd, QUEUE_FD);
        check_int(timeout, -1);
        viommus_end(&v, &host, IOMMUFD, VIOMMU + 1);
        check_int((long long) v.n, 1);
        viommus_end(&v, &host, IOMMUFD, VIOMMU);
        check_int((long long) v.n, 0);
        check_int(k.destroyed, 1);
        start(&v);
        viommus_end(&v, &host, -EBADF, 0);
        check_int(k.closed, 1);
        check_int(k.destroyed, 0);
}

static void test_none(void) {
        _cleanup_json_ struct json_object *list = NULL;
        struct pollfd p[VIOMMUS_MAX];
        struct viommus v = {};
        int timeout = -1;

        memset(&k, 0, sizeof(k));
        k.alloc = -ENOMEM;
        check_int(viommus_add(&v, &host, IOMMUFD, VIOMMU, TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3), -ENOMEM);
        check_int((long long) v.n, 0);
        k.alloc = -EOPNOTSUPP;
        check_int(viommus_add(&v, &host, IOMMUFD, VIOMMU, TDI_IOMMU_VIOMMU_TYPE_ARM_SMMUV3), 0);
        check_int((long long) viommus_poll(&v, p, &timeout), 1);
        check_int(p[0].fd, -EBADF);
        list = viommus_describe(&v);
        check_str(json_str_or(json_object_array_get_idx(list, 0), "error", NULL), "EOPNOTSUPP");
        viommus_end(&v, &host, IOMMUFD, 0);
        check_int(k.closed, 0);
        /* A type whose events nobody here can read. */
        check_int(viommus_add(&v, &host, IOMMUFD, VIOMMU, 99), 0);
        check_int(v.viommus[0].error, -EOPNOTSUPP);
        v.n = VIOMMUS_MAX;
        check_int(viommus_add(&v, &host, IOMMUFD, VIOMMU + 1, 99), -ENOSPC);
}

static void test_events(void) {
        struct pollfd p[VIOMMUS_MAX];
        struct viommus v;
        int timeout = -1;

        start(&v);
        put(0, 0x13, 0x28, 0xabc000);
        viommus_dispatch(&v, &host, QUEUE_FD + 1, on_event, NULL);
        check_int(k.told, 0);
        viommus_dispatch(&v, &host, QUEUE_FD, on_event, NULL);
        expect(&v, 1, 0);
        check_str(k.name, "F_PERMISSION");
        check_str(k.text, "F_PERMISSION at 0xabc000");
        check_int(k.sid, 0x28);
        /* It is left alone for a moment, and the supervisor wakes up by itself then. */
        (void) viommus_poll(&v, p, &timeout);
        check_int(p[0].fd, -EBADF);
        check(timeout > 0 && timeout <= 101);
        for (uint32_t i = 1; i <= 50; i++)
                put(i, 0x7e, 0x28, 0);
        k.told = 0;
        viommus_dispatch(&v, &host, QUEUE_FD, on_event, NULL);
        expect(&v, 51, 0);
        check_int(k.told, 5);
        check_str(k.name, "unknown");
        viommus_end(&v, &host, IOMMUFD, 0);
}

/* What had no room shows in the numbers, and in a header of its own when nothing follows. */
static void test_lost(void) {
        struct viommus v;

        start(&v);
        put(3, 1, 0, 0); /* three before the first */
        put(7, 1, 0, 0); /* 4, 5, 6 */
        put_lost(9);     /* 8 and 9 */
        viommus_dispatch(&v, &host, QUEUE_FD, on_event, NULL);
        expect(&v, 2, 8);
        put(10, 1, 0, 0);
        viommus_dispatch(&v, &host, QUEUE_FD, on_event, NULL);
        expect(&v, 3, 8);
        v.viommus[0].next = INT32_MAX;
        put(INT32_MAX, 1, 0, 0);
        put(0, 1, 0, 0);
        put(2, 1, 0, 0);
        viommus_dispatch(&v, &host, QUEUE_FD, on_event, NULL);
        expect(&v, 6, 9);
        /* Half a record is none, and an error is the end of it. */
        put(3, 1, 0, 0);
        k.size -= 8;
        viommus_dispatch(&v, &host, QUEUE_FD, on_event, NULL);
        check_int(v.viommus[0].fd, QUEUE_FD);
        expect(&v, 6, 9);
        k.size = -EIO;
        viommus_dispatch(&v, &host, QUEUE_FD, on_event, NULL);
        check_int(v.viommus[0].fd, -EBADF);
        check_int(v.viommus[0].error, -EIO);
        check_int(k.closed, 1);
        viommus_end(&v, &host, IOMMUFD, 0);
        check_int(k.destroyed, 1);
}

int main(void) {
        test_life();
        test_none();
        test_events();
        test_lost();
        return test_end();
}
