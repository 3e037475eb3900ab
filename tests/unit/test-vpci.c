/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The server of a VM's functions: who may connect, what is answered, and when. The device is a memfd behind a host of the
 * test's own, whose calls take as long as a test likes: time limits are what no kernel shows on demand.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "host/abi/iommufd.h"
#include "host/abi/vfio.h"
#include "test.h"
#include "vm/store.h"
#include "vm/vpci/vpci.h"
#include "vm/vpci/wire.h"

#define REGION(index) ((uint64_t) (index) << 40)
#define BAR_SIZE 4096
/* Reading here takes so many ms more. */
#define SLOW_REGISTER 0x100

static struct {
        TdiHost host;
        atomic_uint slow_msec, reset_msec, n_irqs, n_resets;
        atomic_int last_irq_flags, last_irq_count;
} fake;

static void nap(unsigned msec) {
        struct timespec t = { msec / 1000, (long) (msec % 1000) * 1000000 };

        (void) nanosleep(&t, NULL);
}

static uint64_t now_msec(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static ssize_t fake_pread(_unused_ TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        ssize_t n;

        if (offset == REGION(0) + SLOW_REGISTER)
                nap(atomic_load(&fake.slow_msec));
        n = pread(fd, buf, size, (off_t) offset);
        return n < 0 ? -errno : n;
}

static ssize_t fake_pwrite(_unused_ TdiHost *host, int fd, const void *buf, size_t size, uint64_t offset) {
        ssize_t n = pwrite(fd, buf, size, (off_t) offset);

        return n < 0 ? -errno : n;
}

static int fake_ioctl(_unused_ TdiHost *host, _unused_ int fd, unsigned long request, void *arg) {
        struct tdi_iommu_ioas_iova_ranges *ranges = arg;
        struct tdi_vfio_irq_set *set = arg;

        switch (request) {
        case TDI_VFIO_DEVICE_RESET:
                nap(atomic_load(&fake.reset_msec));
                atomic_fetch_add(&fake.n_resets, 1);
                return 0;
        case TDI_VFIO_DEVICE_SET_IRQS:
                atomic_store(&fake.last_irq_flags, (int) set->flags);
                atomic_store(&fake.last_irq_count, (int) set->count);
                atomic_fetch_add(&fake.n_irqs, 1);
                return 0;
        case TDI_IOMMU_IOAS_IOVA_RANGES:
                if (ranges->num_iovas > 0)
                        *(struct tdi_iommu_iova_range *) (uintptr_t) ranges->allowed_iovas = (struct tdi_iommu_iova_range){ 0, UINT64_MAX };
                ranges->num_iovas = 1;
                ranges->out_iova_alignment = 4096;
                return 0;
        default:
                return -ENOTTY;
        }
}

static int fake_close(_unused_ TdiHost *host, int fd) {
        return close(fd) < 0 ? -errno : 0;
}

/* What a descriptor is, the real host tells. */
static struct tdi_host_ops fake_ops = {
        .name = "fake", .close = fake_close, .ioctl = fake_ioctl, .pread = fake_pread, .pwrite = fake_pwrite
};

/* ---- the supervisor, in a thread of its own ---- */

static struct vpci *vpci;
static struct store store;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stop;
static char told[65536];

static int tell(struct json_object *event, _unused_ const int *fds, _unused_ size_t n_fds, _unused_ void *userdata) {
        size_t n = strlen(told);

        snprintf(told + n, sizeof(told) - n, "%s\n", json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN));
        return 0;
}

static void *supervise(_unused_ void *unused) {
        while (!atomic_load(&stop)) {
                struct pollfd p[VPCI_POLL_MAX];
                int timeout = 50;
                size_t n;

                pthread_mutex_lock(&lock);
                n = vpci_poll(vpci, p, &timeout);
                pthread_mutex_unlock(&lock);
                (void) poll(p, n, timeout);
                pthread_mutex_lock(&lock);
                vpci_dispatch(vpci, p, n);
                pthread_mutex_unlock(&lock);
        }
        return NULL;
}

static bool was_told(const char *what, const char *text) {
        for (unsigned i = 0; i < 100; i++) {
                char *line, *copy, *save = NULL;
                bool found = false;

                pthread_mutex_lock(&lock);
                copy = strdup(told);
                pthread_mutex_unlock(&lock);
                for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                        found |= strstr(line, what) && strstr(line, text);
                free(copy);
                if (found)
                        return true;
                nap(20);
        }
        return false;
}

static int request(const char *text, const int *fds, size_t n, struct json_object **ret) {
        struct json_object *o = json_tokener_parse(text), *answer = json_new();
        struct ipc_fds passed = {};
        int r;

        require(o);
        for (size_t i = 0; i < n; i++)
                passed.fd[passed.n++] = fds[i];
        pthread_mutex_lock(&lock);
        r = vpci_request(vpci, &store, json_str_or(o, "op", ""), o, &passed, answer);
        pthread_mutex_unlock(&lock);
        while (r > 0) {
                struct json_object *later;

                nap(10);
                pthread_mutex_lock(&lock);
                later = vpci_take_answer(vpci);
                pthread_mutex_unlock(&lock);
                if (!later)
                        continue;
                json_object_put(answer);
                answer = later;
                r = (int) json_i64_or(answer, "r", -1);
        }
        ipc_fds_close(&passed);
        json_object_put(o);
        if (ret)
                *ret = answer;
        else
                json_object_put(answer);
        return r;
}

static struct sockaddr_un name_of(const char *bdf) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };

        snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "tdid-test-vpci-%d-%s", (int) getpid(), bdf);
        return a;
}

static int memory(uint64_t size) {
        int fd = memfd_create("device", MFD_CLOEXEC);

        require(fd >= 0 && ftruncate(fd, (off_t) size) == 0);
        return fd;
}

static void serve(const char *bdf) {
        struct sockaddr_un a = name_of(bdf);
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), device = memory(REGION(9));
        char key[64], text[1024];

        require(listener >= 0 && bind(listener, (struct sockaddr *) &a, sizeof(a)) == 0 && listen(listener, 4) == 0);
        snprintf(key, sizeof(key), "cdev:%s", bdf);
        require(store_put(&store, key, device) == 0);
        snprintf(text, sizeof(text),
                 "{\"op\":\"vpci.serve\",\"bdf\":\"%s\",\"ioas\":1,\"uid\":%u,\"info\":{\"flags\":3,\"regions\":["
                 "{\"size\":%d,\"flags\":7,\"offset\":0},{},{},{},{},{},{},{\"size\":4096,\"flags\":3,\"offset\":%llu},{}],"
                 "\"irqs\":[{\"count\":1,\"flags\":7},{\"count\":4,\"flags\":9},{},{},{\"count\":1,\"flags\":1}]}}",
                 bdf, getuid(), BAR_SIZE, (unsigned long long) REGION(7));
        require(request(text, &listener, 1, NULL) == 0);
}

/* ---- a client ---- */

static int dial(const char *bdf) {
        struct timeval patience = { .tv_sec = 10 };
        struct sockaddr_un a = name_of(bdf);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        require(fd >= 0 && connect(fd, (struct sockaddr *) &a, sizeof(a)) == 0);
        require(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
        return fd;
}

static void post(int fd, uint16_t id, uint16_t command, uint32_t flags, const void *body, size_t size, const int *fds, size_t n_fds) {
        struct vu_header h = { id, command, (uint32_t) (sizeof(h) + size), flags, 0 };
        union {
                char room[CMSG_SPACE(sizeof(int) * 64)];
                struct cmsghdr align;
        } control = {};
        char message[8192];
        struct iovec iov = { message, sizeof(h) + size };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

        memcpy(message, &h, sizeof(h));
        if (size > 0)
                memcpy(message + sizeof(h), body, size);
        if (n_fds > 0) {
                struct cmsghdr *c;

                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c = CMSG_FIRSTHDR(&mh);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        require(sendmsg(fd, &mh, MSG_NOSIGNAL) == (ssize_t) iov.iov_len);
}

/* The body's size, or the reply's negative errno; -EPIPE when the connection has ended. */
static int reply(int fd, uint16_t *ret_id, void *body, size_t room) {
        struct vu_header h;
        size_t size;

        if (recv(fd, &h, sizeof(h), MSG_WAITALL) != sizeof(h))
                return -EPIPE;
        check_int(h.flags & VU_FLAGS_TYPE, VU_TYPE_REPLY);
        if (ret_id)
                *ret_id = h.id;
        size = h.size - sizeof(h);
        require(size <= room);
        if (size > 0)
                require(recv(fd, body, size, MSG_WAITALL) == (ssize_t) size);
        return h.flags & VU_FLAGS_ERROR ? -(int) h.error : (int) size;
}

static int call(int fd, uint16_t command, void *body, size_t size, size_t room) {
        static uint16_t id;
        uint16_t got = 0;
        int r;

        post(fd, ++id, command, 0, body, size, NULL, 0);
        r = reply(fd, &got, body, room);
        if (r != -EPIPE)
                check_int(got, id);
        return r;
}

static int greet(const char *bdf) {
        char hello[256] = { 0 };
        int fd = dial(bdf), n;

        n = call(fd, VU_VERSION, hello, 4, sizeof(hello));
        check(n > 4 && strstr(hello + 4, "\"max_msg_fds\":16"));
        return fd;
}

struct access {
        struct vu_region_access a;
        uint8_t data[64];
};

static void ask_read(int fd, uint16_t id, uint64_t offset, uint32_t count) {
        struct vu_region_access a = { offset, 0, count };

        post(fd, id, VU_REGION_READ, 0, &a, sizeof(a), NULL, 0);
}

static int read4(int fd, uint64_t offset, uint32_t *ret) {
        struct access x = { .a = { offset, 0, 4 } };
        int r = call(fd, VU_REGION_READ, &x, sizeof(x.a), sizeof(x));

        memcpy(ret, x.data, 4);
        return r;
}

static int write4(int fd, uint64_t offset, uint32_t value) {
        struct access x = { .a = { offset, 0, 4 } };

        memcpy(x.data, &value, 4);
        return call(fd, VU_REGION_WRITE, &x, sizeof(x.a) + 4, sizeof(x));
}

/* ---- tests ---- */

static void test_protocol(void) {
        struct vu_device_info info = { .argsz = sizeof(info) };
        struct vu_region_info region = { .argsz = sizeof(region) };
        struct vu_irq_info irq = { .argsz = sizeof(irq), .index = 1 };
        struct access x = {};
        uint32_t v;
        int fd;

        test_about("%s", "the protocol");
        serve("0000:00:01.0");
        fd = greet("0000:00:01.0");
        check(was_told("connected", "0000:00:01.0"));
        check_int(call(fd, VU_DEVICE_GET_INFO, &info, sizeof(info), sizeof(info)), sizeof(info));
        check_int(info.num_regions, 9);
        check_int(info.num_irqs, 5);
        check_int(call(fd, VU_DEVICE_GET_REGION_INFO, &region, sizeof(region), sizeof(region)), sizeof(region));
        check_int((long long) region.size, BAR_SIZE);
        check_int(region.flags, TDI_VFIO_REGION_INFO_FLAG_READ | TDI_VFIO_REGION_INFO_FLAG_WRITE);
        check_int(region.cap_offset, 0);
        region.index = 9;
        check_int(call(fd, VU_DEVICE_GET_REGION_INFO, &region, sizeof(region), sizeof(region)), -EINVAL);
        check_int(call(fd, VU_DEVICE_GET_IRQ_INFO, &irq, sizeof(irq), sizeof(irq)), sizeof(irq));
        check_int(irq.count, 4);
        check_int(write4(fd, 0x10, 0x12345678), sizeof(struct vu_region_access));
        check_int(read4(fd, 0x10, &v), sizeof(struct vu_region_access) + 4);
        check_int(v, 0x12345678);
        check_int(read4(fd, BAR_SIZE - 2, &v), -EINVAL);
        check_int(read4(fd, UINT64_MAX - 1, &v), -EINVAL);
        x.a.count = 0;
        check_int(call(fd, VU_REGION_READ, &x, sizeof(x.a), sizeof(x)), -EINVAL);
        x.a.count = UINT32_MAX;
        check_int(call(fd, VU_REGION_READ, &x, sizeof(x.a), sizeof(x)), -EINVAL);
        check_int(call(fd, VU_DEVICE_GET_REGION_IO_FDS, &x, 16, sizeof(x)), -ENOTSUP);
        check_int(call(fd, VU_DMA_READ, &x, 16, sizeof(x)), -ENOTSUP);
        check_int(call(fd, 77, &x, 0, sizeof(x)), -ENOTSUP);
        close_fd(fd);
        check(was_told("disconnected", "0000:00:01.0"));
}

static void test_interrupts(void) {
        struct vu_irq_set set = { sizeof(set), TDI_VFIO_IRQ_SET_DATA_EVENTFD | TDI_VFIO_IRQ_SET_ACTION_TRIGGER, 1, 0, 2 };
        int fds[17], fd, other;
        unsigned before;

        test_about("%s", "interrupts");
        serve("0000:00:02.0");
        fd = greet("0000:00:02.0");
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                require((fds[i] = eventfd(0, EFD_CLOEXEC)) >= 0);
        post(fd, 1, VU_DEVICE_SET_IRQS, 0, &set, sizeof(set), fds, 2);
        check_int(reply(fd, NULL, NULL, 0), 0);
        check_int(atomic_load(&fake.last_irq_count), 2);
        post(fd, 2, VU_DEVICE_SET_IRQS, 0, &set, sizeof(set), fds, 1);
        check_int(reply(fd, NULL, NULL, 0), -EINVAL);
        set.start = 3;
        post(fd, 3, VU_DEVICE_SET_IRQS, 0, &set, sizeof(set), fds, 2);
        check_int(reply(fd, NULL, NULL, 0), -EINVAL);
        /* The request interrupt is tdid's: the device does not hear of the client's. */
        before = atomic_load(&fake.n_irqs);
        set.index = 4;
        set.start = 0;
        set.count = 1;
        post(fd, 4, VU_DEVICE_SET_IRQS, 0, &set, sizeof(set), fds, 1);
        check_int(reply(fd, NULL, NULL, 0), 0);
        check_int(atomic_load(&fake.n_irqs), before);
        check_int(request("{\"op\":\"vpci.request\",\"bdf\":\"0000:00:02.0\"}", NULL, 0, NULL), 0);
        check_int(poll(&(struct pollfd){ .fd = fds[0], .events = POLLIN }, 1, 5000), 1);
        /* Where the kernel would look whether it is an eventfd, so do we: whoever rings it writes to it, as root. */
        set.flags = TDI_VFIO_IRQ_SET_DATA_EVENTFD | TDI_VFIO_IRQ_SET_ACTION_TRIGGER;
        other = memory(64);
        post(fd, 6, VU_DEVICE_SET_IRQS, 0, &set, sizeof(set), &other, 1);
        check_int(reply(fd, NULL, NULL, 0), -EINVAL);
        /* And the one before stays. */
        check(read(fds[0], &(uint64_t){ 0 }, 8) == 8);
        check_int(request("{\"op\":\"vpci.request\",\"bdf\":\"0000:00:02.0\"}", NULL, 0, NULL), 0);
        check_int(poll(&(struct pollfd){ .fd = fds[0], .events = POLLIN }, 1, 5000), 1);
        check_int(pread(other, &(uint64_t){ 0 }, 8, 0), 8);
        close_fd(other);
        /* With the client everything goes that it had switched on, and once. */
        close_fd(fd);
        check(was_told("disconnected", "0000:00:02.0"));
        check_int(atomic_load(&fake.n_irqs), before + 1);
        check_int(atomic_load(&fake.last_irq_flags), TDI_VFIO_IRQ_SET_DATA_NONE | TDI_VFIO_IRQ_SET_ACTION_TRIGGER);
        /* More descriptors than it was told of, or where none belong. */
        fd = greet("0000:00:02.0");
        post(fd, 5, VU_DEVICE_SET_IRQS, 0, &set, sizeof(set), fds, 17);
        check_int(reply(fd, NULL, NULL, 0), -EPIPE);
        close_fd(fd);
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                close_fd(fds[i]);
}

static void test_pieces(void) {
        struct {
                struct vu_header h;
                struct vu_region_access a;
                uint32_t data;
        } m = { .a = { 0x20, 0, 4 }, .data = 7 };
        char many[100 * sizeof(m)];
        uint32_t v;
        int fd;

        test_about("%s", "messages in pieces, and many at once");
        serve("0000:00:03.0");
        fd = greet("0000:00:03.0");
        /* Without the padding that the structure has. */
        m.h = (struct vu_header){ 1, VU_REGION_WRITE, sizeof(m.h) + sizeof(m.a) + 4, 0, 0 };
        for (size_t i = 0; i < m.h.size; i++) {
                require(send(fd, (char *) &m + i, 1, MSG_NOSIGNAL) == 1);
                if (i % 7 == 0)
                        nap(1);
        }
        check_int(reply(fd, NULL, &m.a, sizeof(m.a)), sizeof(m.a));
        m.h.flags = VU_FLAGS_NO_REPLY;
        for (unsigned i = 0; i < 100; i++) {
                m.data = i;
                memcpy(many + (size_t) i * m.h.size, &m, m.h.size);
        }
        require(send(fd, many, 100 * (size_t) m.h.size, MSG_NOSIGNAL) == (ssize_t) (100 * (size_t) m.h.size));
        check_int(read4(fd, 0x20, &v), sizeof(struct vu_region_access) + 4);
        check_int(v, 99);
        /* Nonsense ends the connection, and nothing else. */
        m.h.size = 3;
        require(send(fd, &m, sizeof(m.h), MSG_NOSIGNAL) == sizeof(m.h));
        check_int(reply(fd, NULL, NULL, 0), -EPIPE);
        close_fd(fd);
        fd = dial("0000:00:03.0");
        m.h.size = sizeof(m.h) + sizeof(m.a) + 4;
        m.h.flags = 0;
        /* Without a greeting. */
        require(send(fd, &m, m.h.size, MSG_NOSIGNAL) == (ssize_t) m.h.size);
        check_int(reply(fd, NULL, NULL, 0), -EPIPE);
        close_fd(fd);
}

static void test_time(void) {
        struct access x;
        uint64_t begin;
        uint16_t id;
        uint32_t v;
        int fd;

        test_about("%s", "a device that takes its time");
        serve("0000:00:04.0");
        fd = greet("0000:00:04.0");
        check(write4(fd, SLOW_REGISTER, 42) > 0 && write4(fd, 0x10, 1) > 0);
        /* Meanwhile others get all ones, and it gets its own answer. */
        atomic_store(&fake.slow_msec, 2000);
        ask_read(fd, 1, SLOW_REGISTER, 4);
        ask_read(fd, 2, 0x10, 4);
        check_int(reply(fd, &id, &x, sizeof(x)), sizeof(x.a) + 4);
        check_int(id, 2);
        memcpy(&v, x.data, 4);
        check_int(v, UINT32_MAX);
        check_int(reply(fd, &id, &x, sizeof(x)), sizeof(x.a) + 4);
        check_int(id, 1);
        memcpy(&v, x.data, 4);
        check_int(v, 42);
        check_int(read4(fd, 0x10, &v), sizeof(struct vu_region_access) + 4);
        check_int(v, 1);
        /* Its time is up: the supervisor answers. It comes back as if nothing had been. */
        atomic_store(&fake.slow_msec, 5000);
        begin = now_msec();
        ask_read(fd, 3, SLOW_REGISTER, 4);
        check_int(reply(fd, &id, &x, sizeof(x)), sizeof(x.a) + 4);
        memcpy(&v, x.data, 4);
        check_int(v, UINT32_MAX);
        check(now_msec() - begin >= 3400 && now_msec() - begin < 4500);
        check_int(read4(fd, 0x10, &v), sizeof(struct vu_region_access) + 4);
        check_int(v, UINT32_MAX);
        for (unsigned i = 0; i < 200 && v != 1; i++) {
                nap(50);
                check_int(read4(fd, 0x10, &v), sizeof(struct vu_region_access) + 4);
        }
        check_int(v, 1);
        atomic_store(&fake.slow_msec, 0);
        /* So with a reset: an error, and a function that has failed until the next one. */
        atomic_store(&fake.reset_msec, 4500);
        begin = now_msec();
        check_int(call(fd, VU_DEVICE_RESET, NULL, 0, 0), -ETIMEDOUT);
        check(now_msec() - begin < 4500);
        check(was_told("failed", "3.5 s"));
        nap(1500);
        atomic_store(&fake.reset_msec, 0);
        check_int(call(fd, VU_DEVICE_RESET, NULL, 0, 0), 0);
        check_int(read4(fd, 0x10, &v), sizeof(struct vu_region_access) + 4);
        check_int(v, 1);
        close_fd(fd);
}

static void test_given_up(void) {
        struct json_object *answer = NULL;
        bool stuck = false;
        int fd;

        test_about("%s", "a thread that does not come back");
        serve("0000:00:05.0");
        fd = greet("0000:00:05.0");
        atomic_store(&fake.slow_msec, 4000);
        ask_read(fd, 1, SLOW_REGISTER, 4);
        nap(100);
        check_int(request("{\"op\":\"vpci.stop\",\"bdf\":\"0000:00:05.0\"}", NULL, 0, &answer), 0);
        check(json_get_bool(answer, "stuck", &stuck) == 0 && stuck);
        json_object_put(answer);
        /* Whoever has not heard of it is told the same. */
        check_int(request("{\"op\":\"vpci.stop\",\"bdf\":\"0000:00:05.0\"}", NULL, 0, &answer), 0);
        check(json_get_bool(answer, "stuck", &stuck) == 0 && stuck);
        json_object_put(answer);
        close_fd(fd);
        nap(2500);
        atomic_store(&fake.slow_msec, 0);
        check_int(request("{\"op\":\"vpci.stop\",\"bdf\":\"0000:00:05.0\"}", NULL, 0, NULL), -ENOENT);
        check_int(request("{\"op\":\"vpci.stop\",\"bdf\":\"0000:00:01.0\"}", NULL, 0, &answer), 0);
        check(json_get_bool(answer, "stuck", &stuck) == 0 && !stuck);
        json_object_put(answer);
}

static void test_second_client(void) {
        int fd = greet("0000:00:02.0"), second = dial("0000:00:02.0");

        test_about("%s", "a second client");
        check_int(recv(second, &(char){ 0 }, 1, 0), 0);
        check(was_told("refused", "0000:00:02.0"));
        close_fd(second);
        close_fd(fd);
}

static unsigned count_told(const char *what, const char *text) {
        unsigned n = 0;
        char *copy, *save = NULL;

        nap(300);
        pthread_mutex_lock(&lock);
        copy = strdup(told);
        pthread_mutex_unlock(&lock);
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                n += strstr(line, what) && strstr(line, text);
        free(copy);
        return n;
}

static int write_command(int fd, uint16_t value) {
        struct access x = { .a = { 4, TDI_VFIO_PCI_CONFIG_REGION_INDEX, 2 } };

        memcpy(x.data, &value, 2);
        return call(fd, VU_REGION_WRITE, &x, sizeof(x.a) + 2, sizeof(x));
}

/* What becomes of a function's memory is told, but not as often as a guest likes. */
static void test_memory_events(void) {
        static const char function[] = "\"bdf\":\"0000:00:06.0\"";
        unsigned before;
        int fd;

        test_about("%s", "events of memory");
        serve("0000:00:06.0");
        fd = greet("0000:00:06.0");
        check_int(write_command(fd, 2), sizeof(struct vu_region_access));
        check(was_told(function, "\"enabled\":true,\"why\":\"command\""));
        /* Nothing else of that register is. */
        check_int(write_command(fd, 3), sizeof(struct vu_region_access));
        check_int(write_command(fd, 2), sizeof(struct vu_region_access));
        check_int(count_told(function, "\"memory\""), 1);
        check_int(write_command(fd, 0), sizeof(struct vu_region_access));
        check(was_told(function, "\"enabled\":false,\"why\":\"command\""));
        check_int(call(fd, VU_DEVICE_RESET, NULL, 0, 0), 0);
        check_int(count_told(function, "\"enabled\":false,\"why\":\"reset\""), 1);
        check_int(count_told(function, "\"enabled\":true,\"why\":\"reset\""), 1);
        nap(1100);
        before = count_told(function, "\"memory\"");
        for (unsigned i = 0; i < 200; i++)
                (void) write_command(fd, i % 2 ? 0 : 2);
        before = count_told(function, "\"memory\"") - before;
        check(before >= 50 && before <= 150);
        close_fd(fd);
}

/* Who has the device otherwise waits for the client to go. */
static void test_idle(void) {
        static const char stop_idle[] = "{\"op\":\"vpci.stop\",\"bdf\":\"0000:00:07.0\",\"idle\":true}";
        int fd, r = -EISCONN;
        uint32_t value;

        test_about("%s", "stopping one without a client");
        serve("0000:00:07.0");
        fd = greet("0000:00:07.0");
        check_int(request(stop_idle, NULL, 0, NULL), -EISCONN);
        check(read4(fd, 0, &value) > 0);
        close_fd(fd);
        for (int i = 0; i < 500 && r == -EISCONN; i++) {
                nap(10);
                r = request(stop_idle, NULL, 0, NULL);
        }
        check_int(r, 0);
        check_int(request(stop_idle, NULL, 0, NULL), -ENOENT);
}

/* The VM closes: everybody goes at once, and each function can still be stopped. */
static void test_stop_all(void) {
        static const char stop_one[] = "{\"op\":\"vpci.stop\",\"bdf\":\"0000:00:08.0\"}";
        int fd;

        test_about("%s", "stopping all of them");
        serve("0000:00:08.0");
        fd = greet("0000:00:08.0");
        check_int(request("{\"op\":\"vpci.stop_all\"}", NULL, 0, NULL), 0);
        check_int(recv(fd, &(char){ 0 }, 1, 0), 0);
        close_fd(fd);
        check_int(request("{\"op\":\"vpci.stop_all\"}", NULL, 0, NULL), 0);
        check_int(request(stop_one, NULL, 0, NULL), 0);
        check_int(request(stop_one, NULL, 0, NULL), -ENOENT);
}

int main(void) {
        TdiHost *real;
        pthread_t thread;

        require(tdi_host_linux_new(&real) >= 0);
        fake_ops.identify = real->ops->identify;
        fake.host.ops = &fake_ops;
        require(store_put(&store, "iommufd", memory(4096)) == 0);
        require(vpci_new(&fake.host, tell, NULL, &vpci) == 0);
        require(pthread_create(&thread, NULL, supervise, NULL) == 0);
        test_protocol();
        test_interrupts();
        test_pieces();
        test_second_client();
        test_memory_events();
        test_time();
        test_given_up();
        test_idle();
        test_stop_all();
        atomic_store(&stop, true);
        require(pthread_join(thread, NULL) == 0);
        vpci_free(vpci);
        store_clear(&store);
        tdi_host_free(real);
        return test_end();
}
