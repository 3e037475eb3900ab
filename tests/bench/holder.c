/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The holder's control protocol (vm/serve.h) and as much of vfio-user (vm/vpci/wire.h) as a bench needs. */
#include "holder.h"

#include <err.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "ipc.h"
#include "provider.h"
#include "vm/vpci/wire.h"

#define REGIONS 9U
#define INTERRUPTS 5U
#define READ_WRITE 3U
#define DEVICE_FLAGS 3U /* can be reset; PCI */

/* Goes with this program, however that ends. */
static char bench_folder[64];

uint64_t bench_now_ns(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000U + (uint64_t) ts.tv_nsec;
}

static void folder_path(const struct bench_holder *h, const char *name, char *ret, size_t size) {
        if (snprintf(ret, size, "%s/%s", h->folder, name) >= (int) size)
                errx(1, "%s/%s: too long", h->folder, name);
}

static int connect_unix(const char *path, int type) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        int fd;

        if (strlen(path) >= sizeof(name.sun_path))
                errx(1, "%s: too long", path);
        strcpy(name.sun_path, path);
        fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        if (fd < 0)
                err(1, "socket");
        if (connect(fd, (struct sockaddr *) &name, sizeof(name)) < 0)
                return close_fd(fd);
        return fd;
}

static void remove_folder(void) {
        static const char *const names[] = { "holder/1.sock", "holder", "0.sock", "1.sock", "strace", "" };
        char path[128];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                snprintf(path, sizeof(path), "%s/%s", bench_folder, names[i]);
                (void) remove(path);
        }
}

void bench_holder_start(struct bench_holder *h, const char *program) {
        char path[128], state[96];

        strcpy(h->folder, "/tmp/tdid-bench-XXXXXX");
        if (!mkdtemp(h->folder))
                err(1, "mkdtemp");
        strcpy(bench_folder, h->folder);
        (void) atexit(remove_folder);
        folder_path(h, "holder", path, sizeof(path));
        if (mkdir(path, 0700) < 0)
                err(1, "mkdir %s", path);
        snprintf(state, sizeof(state), "--state=%s", h->folder);
        h->pid = fork();
        if (h->pid < 0)
                err(1, "fork");
        if (h->pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) setenv("LD_PRELOAD", IOMMUFD_MODULE, 1);
                execl(program, program, "--id=1", "--host=linux", state, NULL);
                err(127, "%s", program);
        }
        folder_path(h, "holder/1.sock", path, sizeof(path));
        for (int i = 0; i < 1000; i++) {
                h->control = connect_unix(path, SOCK_SEQPACKET);
                if (h->control >= 0)
                        return;
                if (waitpid(h->pid, NULL, WNOHANG) == h->pid)
                        errx(1, "%s has ended", program);
                usleep(10000);
        }
        errx(1, "%s does not listen", program);
}

void bench_holder_end(struct bench_holder *h) {
        (void) close(h->control);
        (void) kill(h->pid, SIGKILL);
        /* A thread of it that was traced has to be waited for by itself, before the process. */
        while (waitpid(-1, NULL, __WALL) > 0)
                ;
}

/* What tdid asks, with its answer; what the holder tells on its own is not for us. */
static void ask(struct bench_holder *h, struct json_object *take_request, int fd) {
        _cleanup_json_ struct json_object *request = take_request;
        int r;

        r = ipc_send(h->control, request, &fd, fd >= 0);
        if (r < 0)
                errx(1, "the holder: %s", strerror(-r));
        for (;;) {
                _cleanup_json_ struct json_object *answer = NULL;
                _cleanup_ipc_fds_ struct ipc_fds fds = {};
                int64_t result = 0;

                r = ipc_recv(h->control, &answer, &fds);
                if (r < 0)
                        errx(1, "the holder: %s", strerror(-r));
                if (json_object_object_get_ex(answer, "event", NULL))
                        continue;
                if (json_get_i64(answer, "r", &result) < 0 || result < 0)
                        errx(1, "%s: %s", json_str_or(request, "op", "?"), json_object_to_json_string(answer));
                return;
        }
}

static void put(struct bench_holder *h, const char *key, int fd) {
        struct json_object *o = json_new();

        json_set_str(o, "op", "put");
        json_set_str(o, "key", key);
        ask(h, o, fd);
}

int bench_memory_device(void) {
        uint8_t config[PCI_STD_HEADER_SIZEOF] = { 0x34, 0x12, 0xe8, 0x11 };
        int fd = memfd_create("bench-device", MFD_CLOEXEC);

        config[PCI_CLASS_DEVICE] = 0xff;
        if (fd < 0 || ftruncate(fd, (off_t) (BENCH_REGION(BENCH_CONFIG) + BENCH_CONFIG_SIZE)) < 0 ||
            pwrite(fd, config, sizeof(config), (off_t) BENCH_REGION(BENCH_CONFIG)) != sizeof(config))
                err(1, "a memfd for a device");
        return fd;
}

static struct json_object *device_info(void) {
        struct json_object *info = json_new(), *regions = json_new_array(), *irqs = json_new_array();

        for (unsigned i = 0; i < REGIONS; i++) {
                struct json_object *o = json_new();

                json_set_u64(o, "size", i == 0 ? BENCH_BAR_SIZE : i == BENCH_CONFIG ? BENCH_CONFIG_SIZE : 0);
                json_set_u64(o, "flags", i == 0 || i == BENCH_CONFIG ? READ_WRITE : 0);
                json_set_u64(o, "offset", BENCH_REGION(i));
                json_object_array_add(regions, o);
        }
        for (unsigned i = 0; i < INTERRUPTS; i++) {
                struct json_object *o = json_new();

                json_set_u64(o, "count", 0);
                json_set_u64(o, "flags", 0);
                json_object_array_add(irqs, o);
        }
        json_set_u64(info, "flags", DEVICE_FLAGS);
        json_set_take(info, "regions", regions);
        json_set_take(info, "irqs", irqs);
        return info;
}

static void receive(int fd, void *buf, size_t size) {
        ssize_t n = recv(fd, buf, size, MSG_WAITALL);

        if (n != (ssize_t) size)
                errx(1, "%s", n < 0 ? strerror(errno) : "the server has hung up");
}

static void transmit(int fd, const void *buf, size_t size) {
        ssize_t n = send(fd, buf, size, MSG_NOSIGNAL);

        if (n != (ssize_t) size)
                errx(1, "%s", n < 0 ? strerror(errno) : "the server takes pieces only");
}

static void negotiate(int fd) {
        static const char text[] = "{\"capabilities\":{}}";
        struct {
                struct vu_header header;
                struct vu_version version;
                char text[sizeof(text)];
        } request = { .header = { .id = 1, .command = VU_VERSION, .size = sizeof(struct vu_header) + sizeof(struct vu_version) + sizeof(text) } };
        struct vu_header header;
        char body[4096];

        memcpy(request.text, text, sizeof(text));
        transmit(fd, &request, request.header.size);
        receive(fd, &header, sizeof(header));
        if (header.flags & VU_FLAGS_ERROR || header.size < sizeof(header) || header.size - sizeof(header) > sizeof(body))
                errx(1, "VERSION: %s, %u bytes", strerror((int) header.error), header.size);
        receive(fd, body, header.size - sizeof(header));
}

int bench_holder_serve(struct bench_holder *h, const char *bdf, int device) {
        static unsigned number;
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        _cleanup_close_ int listener = -EBADF, iommufd = -EBADF;
        struct json_object *o = json_new();
        char key[64];
        int fd;

        if (number == 0) {
                /* Nothing is mapped here: any file may stand for it, with iommufd.c's help. */
                iommufd = memfd_create("bench-iommufd", MFD_CLOEXEC);
                put(h, "iommufd", iommufd);
        }
        snprintf(key, sizeof(key), "cdev:%s", bdf);
        put(h, key, device);
        snprintf(key, sizeof(key), "%u.sock", number);
        folder_path(h, key, name.sun_path, sizeof(name.sun_path));
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (listener < 0 || bind(listener, (struct sockaddr *) &name, sizeof(name)) < 0 || listen(listener, 4) < 0)
                err(1, "%s", name.sun_path);
        json_set_str(o, "op", "vpci.serve");
        json_set_str(o, "bdf", bdf);
        json_set_u64(o, "ioas", ++number);
        json_set_u64(o, "uid", getuid());
        json_set_take(o, "info", device_info());
        ask(h, o, listener);
        fd = connect_unix(name.sun_path, SOCK_STREAM);
        if (fd < 0)
                err(1, "%s", name.sun_path);
        negotiate(fd);
        return fd;
}

int bench_holder_open_requests(struct bench_holder *h, const char *bdf, unsigned per_second) {
        _cleanup_close_ int theirs = -EBADF, binding = memfd_create("bench-binding", MFD_CLOEXEC);
        struct json_object *o;
        char key[64];
        int pair[2];

        snprintf(key, sizeof(key), "bind:%s", bdf);
        put(h, key, binding);
        o = json_new();
        json_set_str(o, "op", "vpci.requests");
        json_set_str(o, "provider", provider_get(PROVIDER_MODULE)->name);
        json_set_str(o, "bdf", bdf);
        json_set_bool(o, "on", true);
        ask(h, o, -EBADF);
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                err(1, "socketpair");
        theirs = pair[1];
        o = json_new();
        json_set_str(o, "op", "vpci.open_requests");
        json_set_str(o, "bdf", bdf);
        json_set_u64(o, "kinds", UINT32_MAX);
        json_set_u64(o, "per_second", per_second);
        json_set_str(o, "vm", "bench");
        ask(h, o, theirs);
        return pair[0];
}

void bench_read(int connection, uint64_t offset) {
        struct {
                struct vu_header header;
                struct vu_region_access access;
        } request = { { .id = 2, .command = VU_REGION_READ, .size = sizeof(request) }, { .offset = offset, .count = 4 } };
        struct {
                struct vu_header header;
                struct vu_region_access access;
                uint32_t data;
        } reply;

        transmit(connection, &request, sizeof(request));
        receive(connection, &reply, sizeof(reply.header) + sizeof(reply.access) + sizeof(reply.data));
        if (reply.header.flags != VU_TYPE_REPLY || reply.access.offset != offset)
                errx(1, "a read at %#llx: flags %#x, %s", (unsigned long long) offset, reply.header.flags, strerror((int) reply.header.error));
}

void bench_post(int connection, uint64_t offset, uint32_t value) {
        struct {
                struct vu_header header;
                struct vu_region_access access;
                uint32_t data;
        } request = { { .command = VU_REGION_WRITE, .flags = VU_FLAGS_NO_REPLY }, { .offset = offset, .count = 4 }, value };

        request.header.size = sizeof(request.header) + sizeof(request.access) + sizeof(request.data);
        transmit(connection, &request, request.header.size);
}
