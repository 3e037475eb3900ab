/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bind provider (/dev/tdid-bind) call by call: what it refuses and how, what a binding lives and ends with, and what it makes
 * of the answers of a TSM. The TSM is the test TSM; functions are on vfio-pci, and nobody else uses them.
 *
 *      bind_check errors BDF OTHER       OTHER's DSM is not connected, BDF's is
 *      bind_check life BDF               who keeps a binding, and what ends it
 *      bind_check requests BDF
 *      bind_check slow BDF OTHER         rules make guest_req of BDF wait for 3 s and unbind for 1 s; OTHER has another DSM
 *      bind_check lost BDF DSM TSM       the TSM is disconnected under a binding
 *      bind_check lacks BDF bind|request the TSM has no such operation
 *      bind_check unbindable BDF         no TSM at all
 *      bind_check hold BDF               binds, says "bound", and ends at the end of its input
 *
 * Prints a line for each result that is not as it should be, with exit code 1, and "N checks" otherwise.
 */
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "bind.h"

static int iommufd;
static unsigned checks, failures;

static void compare(int line, const char *what, int64_t got, int64_t want) {
        checks++;
        if (got == want)
                return;
        failures++;
        printf("%s:%d: %s: got %lld (%s), want %lld (%s)\n", __FILE__, line, what, (long long) got,
               got < 0 ? strerrorname_np((int) -got) : "", (long long) want, want < 0 ? strerrorname_np((int) -want) : "");
}
#define IS(expr, want) compare(__LINE__, #expr, (expr), (want))

static double now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

/* ---- errors ---- */

static int info(uint32_t argsz, struct tdid_bind_info *ret) {
        int fd = provider(), r;

        *ret = (struct tdid_bind_info){ .argsz = argsz, .flags = UINT32_MAX };
        r = call(fd, TDID_BIND_IOC_INFO, ret);
        close(fd);
        return r;
}

static int bind_arg(int fd, uint32_t argsz, uint32_t flags, uint32_t function, int device, int vm) {
        struct tdid_bind_bind arg = { argsz, flags, function, 0x100, device, vm };

        return call(fd, TDID_BIND_IOC_BIND, &arg);
}

static void check_shape(int fd, const char *bdf, int device, int vm) {
        const uint32_t size = sizeof(struct tdid_bind_bind), f = function_number(bdf);
        struct tdid_bind_info i;
        int dir;

        IS(info(sizeof(i), &i), 0);
        IS(i.flags, 0);
        IS(i.api, TDID_BIND_API);
        IS(i.request_max, TDID_BIND_REQUEST_MAX);
        IS(info(0, &i), -EINVAL);
        IS(info(sizeof(i) - 1, &i), -EINVAL);
        IS(info(sizeof(i) + 1, &i), -EINVAL);
        IS(call(fd, TDID_BIND_IOC_INFO, NULL), -EFAULT);
        IS(call(fd, TDID_BIND_IOC_BIND, NULL), -EFAULT);
        IS(call(fd, TDID_BIND_IOC_REQUEST, NULL), -EFAULT);
        IS(call(fd, _IO(0xe8, 0x00), &i), -ENOTTY);
        IS(call(fd, _IO(0xe8, 0x7f), NULL), -ENOTTY);
        IS(call(fd, _IOW(0xe8, 0x01, char[4096]), NULL), -ENOTTY);

        IS(bind_arg(fd, 0, 0, f, device, vm), -EINVAL);
        IS(bind_arg(fd, size - 1, 0, f, device, vm), -EINVAL);
        IS(bind_arg(fd, size + 8, 0, f, device, vm), -EINVAL);
        IS(bind_arg(fd, size, 1, f, device, vm), -EINVAL);
        IS(bind_arg(fd, size, 1U << 31, f, device, vm), -EINVAL);

        IS(bind_arg(fd, size, 0, 0xff1f, device, vm), -ENODEV);
        IS(bind_arg(fd, size, 0, f | 0x7fff0000, device, vm), -ENODEV);
        IS(bind_arg(fd, size, 0, UINT32_MAX, device, vm), -ENODEV);

        /* Root's alone. */
        if (seteuid(65534) < 0)
                err(1, "seteuid");
        dir = open(TDID_BIND_DEV, O_RDWR | O_CLOEXEC);
        IS(dir < 0 ? -errno : dir, -EACCES);
        if (seteuid(0) < 0)
                err(1, "seteuid");
}

/* Everything that is no VM, some of which looks much like one. */
static void check_no_vms(int fd, const char *bdf, int device, int vm) {
        struct { uint32_t type, fd, flags; } create = { .type = 4 };
        char folder[] = "/tmp/bind-check-XXXXXX", fifo[64];
        int r;

        if (!mkdtemp(folder))
                err(1, "%s", folder);
        snprintf(fifo, sizeof(fifo), "%s/kvm-vm", folder);
        if (mkfifo(fifo, 0600) < 0)
                err(1, "%s", fifo);
        r = call(vm, _IOC(_IOC_READ | _IOC_WRITE, TDI_KVMIO, 0xe0, sizeof(create)), &create);
        need(r, "KVM_CREATE_DEVICE");

        const int not_a_vm[] = {
                open(fifo, O_RDWR | O_CLOEXEC),
                (int) memfd_create("kvm-vm", MFD_CLOEXEC),
                ioctl(vm, TDI_KVM_CREATE_VCPU, 0),
                (int) create.fd, /* kvm-vfio */
                open("/dev/kvm", O_RDWR | O_CLOEXEC),
                eventfd(0, EFD_CLOEXEC),
                open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                dup(iommufd),
                dup(device),
                dup(fd),
        };
        for (size_t i = 0; i < sizeof(not_a_vm) / sizeof(not_a_vm[0]); i++) {
                if (not_a_vm[i] < 0)
                        errx(1, "descriptor %zu was not made", i);
                IS(tdi_bind(fd, bdf, device, not_a_vm[i], 0x100), -EINVAL);
                close(not_a_vm[i]);
        }
        IS(tdi_bind(fd, bdf, device, -1, 0x100), -EBADF);
        IS(tdi_bind(fd, bdf, device, 1000, 0x100), -EBADF);
        unlink(fifo);
        rmdir(folder);
}

/* A function by its legacy group: the group's file and the device's, neither of which an iommufd has. */
static void check_legacy(int fd, const char *bdf, int vm) {
        char path[128], link[128], node[64];
        int container, group, device;
        ssize_t n;

        snprintf(path, sizeof(path), PCI "%s/iommu_group", bdf);
        n = readlink(path, link, sizeof(link) - 1);
        if (n < 0)
                err(1, "%s", path);
        link[n] = '\0';
        snprintf(node, sizeof(node), "/dev/vfio/%.32s", strrchr(link, '/') + 1);
        group = open(node, O_RDWR | O_CLOEXEC);
        container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
        if (group < 0 || container < 0)
                err(1, "%s", node);
        IS(tdi_bind(fd, bdf, group, vm, 0x100), -EINVAL);
        if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0 || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0 ||
            (device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf)) < 0)
                err(1, "a legacy device of %s", bdf);
        IS(tdi_bind(fd, bdf, device, vm, 0x100), -EINVAL);
        close(device);
        close(group);
        close(container);
}

static void check_no_devices(int fd, const char *bdf, const char *other, int device, int vm) {
        int unbound = open_device(bdf), foreign, path;
        char node[64];

        /* The device has an iommufd, but not by this open of it. */
        IS(tdi_bind(fd, bdf, unbound, vm, 0x100), -EINVAL);
        IS(bind_iommufd(unbound, iommufd), -EINVAL);
        close(unbound);

        check_legacy(fd, other, vm);
        foreign = open_device(other);
        IS(tdi_bind(fd, other, foreign, vm, 0x100), -EINVAL);
        need(bind_iommufd(foreign, iommufd), "VFIO_DEVICE_BIND_IOMMUFD of %s", other);
        IS(tdi_bind(fd, bdf, foreign, vm, 0x100), -EINVAL);
        IS(tdi_bind(fd, other, device, vm, 0x100), -EINVAL);
        IS(tdi_bind(fd, other, foreign, vm, 0x100), -ENOTCONN);
        IS(tdi_bind(fd, "0000:00:00.0", device, vm, 0x100), -EINVAL);
        close(foreign);

        IS(tdi_bind(fd, bdf, iommufd, vm, 0x100), -EINVAL);
        IS(tdi_bind(fd, bdf, vm, vm, 0x100), -EINVAL);
        IS(tdi_bind(fd, bdf, fd, vm, 0x100), -EINVAL);
        IS(tdi_bind(fd, bdf, 0, vm, 0x100), -EINVAL);
        IS(tdi_bind(fd, bdf, -1, vm, 0x100), -EBADF);
        IS(tdi_bind(fd, bdf, 1000, vm, 0x100), -EBADF);
        vfio_node(bdf, node, sizeof(node));
        path = open(node, O_PATH | O_CLOEXEC);
        IS(tdi_bind(fd, bdf, path, vm, 0x100), -EBADF);
        close(path);
}

static int test_tsm_bind(const char *bdf, int vm, unsigned long request) {
        uint32_t f = function_number(bdf);
        struct tdid_test_tsm_bind arg = {
                .fn = { .segment = (uint16_t) (f >> 16), .bus = (uint8_t) (f >> 8), .devfn = (uint8_t) f }, .tdi_id = 0x100, .vm_fd = vm,
        };
        struct tdid_test_tsm_unbind undo = { .fn = arg.fn };
        int fd = open(TDID_TEST_TSM_DEV, O_RDWR | O_CLOEXEC), r;

        if (fd < 0)
                err(1, TDID_TEST_TSM_DEV);
        r = call(fd, request, request == TDID_TEST_TSM_IOC_BIND ? (void *) &arg : &undo);
        close(fd);
        return r;
}

static void errors(const char *bdf, const char *other) {
        int fd = provider(), second = provider(), vm = make_vm(), another = make_vm(), device;
        struct tdid_bind_request request = { .argsz = sizeof(request) };

        /* Before anybody has bound it to an iommufd. */
        device = open_device(bdf);
        IS(tdi_bind(fd, bdf, device, vm, 0x100), -EINVAL);
        need(bind_iommufd(device, iommufd), "VFIO_DEVICE_BIND_IOMMUFD");

        IS(tdi_unbind(fd), -ENOTCONN);
        IS(call(fd, TDID_BIND_IOC_REQUEST, &request), -ENOTCONN);
        check_shape(fd, bdf, device, vm);
        check_no_vms(fd, bdf, device, vm);
        check_no_devices(fd, bdf, other, device, vm);
        IS(is_bound(bdf), false);

        /* Somebody else's, to the same VM: the core would say that all is well. */
        need(test_tsm_bind(bdf, vm, TDID_TEST_TSM_IOC_BIND), "TDID_TEST_TSM_IOC_BIND");
        IS(tdi_bind(fd, bdf, device, vm, 0x100), -EBUSY);
        IS(is_bound(bdf), true);
        need(test_tsm_bind(bdf, vm, TDID_TEST_TSM_IOC_UNBIND), "TDID_TEST_TSM_IOC_UNBIND");

        IS(tdi_bind(fd, bdf, device, vm, 0x100), 0);
        IS(is_bound(bdf), true);
        IS(tdi_bind(fd, bdf, device, vm, 0x100), -EBUSY);
        IS(tdi_bind(second, bdf, device, vm, 0x100), -EBUSY);
        IS(tdi_bind(second, bdf, device, another, 0x200), -EBUSY);
        IS(tdi_unbind(second), -ENOTCONN);
        IS(is_bound(bdf), true);
        IS(tdi_unbind(fd), 0);
        IS(is_bound(bdf), false);
        IS(tdi_unbind(fd), -ENOTCONN);
        IS(call(fd, TDID_BIND_IOC_REQUEST, &request), -ENOTCONN);
        IS(tdi_bind(second, bdf, device, another, UINT32_MAX), 0);
        IS(tdi_unbind(second), 0);
}

/* ---- the life of a binding ---- */

static int count_vms(void) {
        _cleanup_(host_names_freep) char **names = NULL;
        int count = 0;
        struct stat st;
        char path[300];

        need(host_list(host, "/sys/kernel/debug/kvm", &names), "/sys/kernel/debug/kvm");
        for (char **n = names; *n; n++) {
                snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s", *n);
                count += stat(path, &st) == 0 && S_ISDIR(st.st_mode);
        }
        return count;
}

/* A process that lives until its input ends, with all that we have open. */
static pid_t keeper(int *ret_end) {
        int ends[2];
        pid_t pid;
        char c;

        if (pipe2(ends, O_CLOEXEC) < 0)
                err(1, "pipe");
        pid = fork();
        if (pid < 0)
                err(1, "fork");
        if (pid == 0) {
                close(ends[1]);
                while (read(ends[0], &c, 1) < 0 && errno == EINTR)
                        ;
                _exit(0);
        }
        close(ends[0]);
        *ret_end = ends[1];
        return pid;
}

static void life(const char *bdf) {
        int fd, device, vm, copy, end, vms = count_vms();
        pid_t pid;

        /* The last of its descriptors ends it. */
        fd = provider();
        device = open_bound_device(bdf, iommufd);
        vm = make_vm();
        IS(tdi_bind(fd, bdf, device, vm, 1), 0);
        copy = dup(fd);
        close(fd);
        IS(is_bound(bdf), true);
        close(copy);
        IS(is_bound(bdf), false);

        /* It keeps the device and the VM. */
        fd = provider();
        IS(tdi_bind(fd, bdf, device, vm, 2), 0);
        close(device);
        close(vm);
        IS(is_bound(bdf), true);
        IS(count_vms(), vms + 1);
        device = open_device(bdf);
        IS(bind_iommufd(device, iommufd), -EINVAL);
        IS(tdi_unbind(fd), 0);
        IS(is_bound(bdf), false);
        IS(count_vms(), vms);
        IS(bind_iommufd(device, iommufd), 0);

        /* The same file again, for another VM. */
        vm = make_vm();
        IS(tdi_bind(fd, bdf, device, vm, 3), 0);
        IS(is_bound(bdf), true);

        /* Another process has it as well. */
        pid = keeper(&end);
        close(fd);
        close(device);
        close(vm);
        IS(is_bound(bdf), true);
        close(end);
        waitpid(pid, NULL, 0);
        IS(is_bound(bdf), false);
        IS(count_vms(), vms);

        /* And it dies with everything at once. */
        fd = provider();
        device = open_bound_device(bdf, iommufd);
        vm = make_vm();
        IS(tdi_bind(fd, bdf, device, vm, 4), 0);
        pid = keeper(&end);
        close(fd);
        close(device);
        close(vm);
        IS(is_bound(bdf), true);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(end);
        IS(is_bound(bdf), false);
        IS(count_vms(), vms);
        device = open_device(bdf);
        IS(bind_iommufd(device, iommufd), 0);
}

/* ---- requests ---- */

static uint8_t in[TDID_BIND_REQUEST_MAX + 1], out[TDID_BIND_REQUEST_MAX + 1];
static uint32_t used;
static uint64_t code;

static int request_at(int fd, uint32_t scope, const void *from, uint32_t in_len, void *to, uint32_t out_len) {
        struct tdid_bind_request r = {
                .argsz = sizeof(r), .scope = scope, .in_len = in_len, .out_len = out_len, .out_used = UINT32_MAX,
                .in = (uintptr_t) from, .out = (uintptr_t) to, .tsm_code = UINT64_MAX,
        };
        int result = call(fd, TDID_BIND_IOC_REQUEST, &r);

        used = r.out_used;
        code = r.tsm_code;
        return result;
}

static int request(int fd, uint32_t scope, uint32_t op, uint32_t in_len, uint32_t out_len) {
        memcpy(in, &op, sizeof(op));
        memset(out, 0xee, sizeof(out));
        return request_at(fd, scope, in, in_len, out, out_len);
}

static int echo(int fd, uint32_t in_len, uint32_t out_len) {
        return request(fd, 0, TDID_TEST_TSM_OP_ECHO, in_len, out_len);
}

/* The TSM's driver returns this, whatever the core's interface says. */
static int returning(int fd, int64_t value, uint32_t out_len) {
        memcpy(in + 4, &value, sizeof(value));
        return request(fd, 0, TDID_TEST_TSM_OP_RETURN, 12, out_len);
}

static void check_echo(int fd, uint32_t in_len, uint32_t out_len) {
        IS(echo(fd, in_len, out_len), 0);
        IS(used, in_len - 4);
        IS(code, TDID_TEST_TSM_CODE_OK);
        for (uint32_t i = 0; i < in_len - 4; i++) {
                uint8_t want = (uint8_t) ~in[i + 4];

                if (out[i] != want) {
                        IS(out[i], want);
                        break;
                }
        }
        IS(out[in_len - 4], 0xee);
}

static void requests(const char *bdf) {
        int fd = provider(), device = open_bound_device(bdf, iommufd), vm = make_vm();
        const uint32_t max = TDID_BIND_REQUEST_MAX;
        struct tdid_bind_request bad = { .argsz = sizeof(bad) };

        for (size_t i = 0; i < sizeof(in); i++)
                in[i] = (uint8_t) (i * 7);
        IS(echo(fd, 8, 64), -ENOTCONN);
        IS(tdi_bind(fd, bdf, device, vm, 1), 0);

        for (uint32_t size = 4; size <= max; size = size < max && size * 3 > max ? max : size * 3)
                for (uint32_t room = size - 4; room <= max; room = room < max && room + 4099 > max ? max : room + 4099)
                        check_echo(fd, size, room);
        IS(echo(fd, 0, 64), -EINVAL);
        IS(used, 0);
        IS(code, TDID_TEST_TSM_CODE_INVALID);
        IS(echo(fd, 3, 64), -EINVAL);
        IS(echo(fd, 0, 0), -EINVAL);
        IS(echo(fd, max + 1, 64), -EMSGSIZE);
        IS(code, 0);
        IS(echo(fd, 64, max + 1), -EMSGSIZE);
        IS(echo(fd, UINT32_MAX, 64), -EMSGSIZE);
        IS(echo(fd, 64, UINT32_MAX), -EMSGSIZE);
        /* The TSM's own word: there is no room for what it has to say. */
        IS(echo(fd, 64, 59), -EMSGSIZE);
        IS(echo(fd, 64, 0), -EMSGSIZE);
        IS(used, 0);

        bad.argsz = sizeof(bad) - 8;
        IS(call(fd, TDID_BIND_IOC_REQUEST, &bad), -EINVAL);
        bad.argsz = sizeof(bad) + 8;
        IS(call(fd, TDID_BIND_IOC_REQUEST, &bad), -EINVAL);
        bad.argsz = sizeof(bad);
        bad.flags = 1;
        IS(call(fd, TDID_BIND_IOC_REQUEST, &bad), -EINVAL);
        IS(request(fd, 2, TDID_TEST_TSM_OP_STATE, 4, 4), -EINVAL);
        IS(code, 0);
        IS(request(fd, 3, TDID_TEST_TSM_OP_STATE, 4, 4), -EINVAL);
        IS(request(fd, UINT32_MAX, TDID_TEST_TSM_OP_STATE, 4, 4), -EINVAL);
        IS(request_at(fd, 0, NULL, 8, out, 64), -EFAULT);
        IS(request_at(fd, 0, (void *) UINTPTR_MAX, 8, out, 64), -EFAULT);
        IS(request_at(fd, 0, in, 64, NULL, 64), -EFAULT);
        /* A kernel address is no buffer. */
        IS(request_at(fd, 0, in, 64, (void *) 0xffff888000000000, 64), -EFAULT);

        IS(request(fd, 0, TDID_TEST_TSM_OP_START, 4, 0), -EPERM);
        IS(code, TDID_TEST_TSM_CODE_WRONG_SCOPE);
        IS(request(fd, 1, TDID_TEST_TSM_OP_ECHO, 8, 64), -EPERM);
        IS(request(fd, 0, TDID_TEST_TSM_OP_STATE, 4, 64), 0);
        IS(used, 4);
        IS(out[0], 1);
        IS(request(fd, 1, TDID_TEST_TSM_OP_START, 4, 0), 0);
        IS(used, 0);
        IS(request(fd, 1, TDID_TEST_TSM_OP_START, 4, 0), -EINVAL);
        IS(code, TDID_TEST_TSM_CODE_WRONG_STATE);
        IS(request(fd, 0, 0x7777, 4, 64), -EINVAL);
        IS(code, TDID_TEST_TSM_CODE_INVALID);

        IS(returning(fd, 0, 64), 0);
        IS(used, 64);
        IS(returning(fd, 64, 64), 0);
        IS(used, 0);
        IS(returning(fd, 65, 64), -EIO);
        IS(used, 0);
        IS(returning(fd, INT64_MAX, 64), -EIO);
        IS(returning(fd, INT64_MIN, 64), -EIO);
        IS(returning(fd, -4096, 64), -EIO);
        IS(used, 0);
        IS(returning(fd, -ENOSPC, 64), -ENOSPC);
        IS(used, 0);
        /* Without room for an answer it is the request of which something is left. */
        IS(returning(fd, 12, 0), 0);
        IS(used, 0);
        IS(returning(fd, 13, 0), -EIO);

        /* A binding begins anew. */
        IS(tdi_unbind(fd), 0);
        IS(tdi_bind(fd, bdf, device, vm, 1), 0);
        IS(request(fd, 0, TDID_TEST_TSM_OP_STATE, 4, 64), 0);
        IS(out[0], 1);
}

/* ---- slow TSMs ---- */

struct caller {
        int fd;
        int result;
        double ended;
};

static void *call_slowly(void *arg) {
        struct caller *c = arg;
        uint32_t op = TDID_TEST_TSM_OP_STATE, answer;
        struct tdid_bind_request r = {
                .argsz = sizeof(r), .in_len = sizeof(op), .out_len = sizeof(answer), .in = (uintptr_t) &op, .out = (uintptr_t) &answer,
        };

        c->result = call(c->fd, TDID_BIND_IOC_REQUEST, &r);
        c->ended = now();
        return NULL;
}

static void *unbind_slowly(void *arg) {
        struct caller *c = arg;

        c->result = tdi_unbind(c->fd);
        return NULL;
}

static void on_signal(int number) {
        (void) number;
}

static void nap(double seconds) {
        struct timespec ts = { .tv_sec = (time_t) seconds, .tv_nsec = (long) ((seconds - (double) (time_t) seconds) * 1e9) };

        while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
                ;
}

static void slow(const char *bdf, const char *other) {
        int fd = provider(), free_one = provider(), vm = make_vm();
        int device = open_bound_device(bdf, iommufd), foreign = open_bound_device(other, iommufd);
        struct caller waits = { .fd = fd }, queues = { .fd = fd }, passes = { .fd = free_one };
        struct sigaction action = { .sa_handler = on_signal };
        struct tdid_bind_info i;
        pthread_t threads[2];
        double begin, unbound;

        sigaction(SIGUSR1, &action, NULL);
        IS(tdi_bind(fd, bdf, device, vm, 1), 0);
        begin = now();
        if (pthread_create(&threads[0], NULL, call_slowly, &waits) != 0)
                errx(1, "no thread");
        nap(0.5);

        /* Another binding does not notice. */
        IS(tdi_bind(free_one, other, foreign, vm, 2), 0);
        call_slowly(&passes);
        IS(passes.result, 0);
        IS(tdi_unbind(free_one), 0);
        IS(info(sizeof(i), &i), 0);
        IS(now() - begin < 2, 1);
        IS(waits.ended == 0, 1);

        /* A second request of the same one waits, until a signal ends that. */
        if (pthread_create(&threads[1], NULL, call_slowly, &queues) != 0)
                errx(1, "no thread");
        nap(0.2);
        pthread_kill(threads[1], SIGUSR1);
        pthread_join(threads[1], NULL);
        IS(queues.result, -EINTR);
        IS(waits.ended == 0, 1);

        /* UNBIND is no shorter than what is under way. */
        IS(tdi_unbind(fd), 0);
        unbound = now();
        pthread_join(threads[0], NULL);
        IS(waits.result, 0);
        IS(unbound - begin > 2.5, 1);
        IS(is_bound(bdf), false);

        /* The last close of a file with a call under way: the call's end is the file's. */
        IS(tdi_bind(fd, bdf, device, vm, 1), 0);
        waits.ended = 0;
        if (pthread_create(&threads[0], NULL, call_slowly, &waits) != 0)
                errx(1, "no thread");
        nap(0.5);
        close(fd);
        IS(waits.ended == 0, 1);
        pthread_join(threads[0], NULL);
        IS(waits.result, 0);
        IS(is_bound(bdf), false);

        /* The device stays open, though by nobody else, until the TSM is done: its last close would reset it. */
        waits.fd = provider();
        IS(tdi_bind(waits.fd, bdf, device, vm, 1), 0);
        close(device);
        device = open_device(bdf);
        if (pthread_create(&threads[0], NULL, unbind_slowly, &waits) != 0)
                errx(1, "no thread");
        nap(0.4);
        IS(bind_iommufd(device, iommufd), -EINVAL);
        pthread_join(threads[0], NULL);
        IS(waits.result, 0);
        IS(bind_iommufd(device, iommufd), 0);
}

/* ---- TSMs that go, or cannot ---- */

static void lost(const char *bdf, const char *dsm, const char *tsm) {
        int fd = provider(), second = provider(), device = open_bound_device(bdf, iommufd), vm = make_vm();
        char path[128];

        IS(tdi_bind(fd, bdf, device, vm, 1), 0);
        snprintf(path, sizeof(path), PCI "%s/tsm/disconnect", dsm);
        need(write_file(path, tsm), "%s", path);
        IS(echo(fd, 8, 64), -ENXIO);
        /* The file still has the function. */
        IS(tdi_bind(second, bdf, device, vm, 1), -EBUSY);
        IS(tdi_bind(fd, bdf, device, vm, 1), -EBUSY);
        snprintf(path, sizeof(path), PCI "%s/tsm/connect", dsm);
        need(write_file(path, tsm), "%s", path);
        /* The binding does not come back with the connection. */
        IS(echo(fd, 8, 64), -ENXIO);
        IS(is_bound(bdf), false);
        IS(tdi_unbind(fd), 0);
        IS(tdi_bind(second, bdf, device, vm, 1), 0);
        IS(echo(second, 8, 64), 0);

        snprintf(path, sizeof(path), PCI "%s/tsm/disconnect", dsm);
        need(write_file(path, tsm), "%s", path);
        IS(tdi_unbind(second), 0);
        IS(tdi_bind(fd, bdf, device, vm, 1), -ENOTCONN);
        snprintf(path, sizeof(path), PCI "%s/tsm/connect", dsm);
        need(write_file(path, tsm), "%s", path);
        IS(tdi_bind(fd, bdf, device, vm, 1), 0);
}

static void lacks(const char *bdf, const char *what) {
        int fd = provider(), device = open_bound_device(bdf, iommufd), vm = make_vm();
        bool can_bind = strcmp(what, "bind") != 0;

        IS(tdi_bind(fd, bdf, device, vm, 1), can_bind ? 0 : -EOPNOTSUPP);
        IS(is_bound(bdf), can_bind);
        IS(echo(fd, 8, 64), can_bind ? -EOPNOTSUPP : -ENOTCONN);
        IS(tdi_unbind(fd), can_bind ? 0 : -ENOTCONN);
        IS(is_bound(bdf), false);
}

static void unbindable(const char *bdf) {
        int fd = provider(), device = open_bound_device(bdf, iommufd), vm = make_vm();

        IS(tdi_bind(fd, bdf, device, vm, 1), -ENOTCONN);
        IS(echo(fd, 8, 64), -ENOTCONN);
}

static void hold(const char *bdf) {
        int fd = provider(), device = open_bound_device(bdf, iommufd), vm = make_vm();
        char c;

        need(tdi_bind(fd, bdf, device, vm, 1), "BIND of %s", bdf);
        printf("bound\n");
        fflush(stdout);
        while (read(0, &c, 1) > 0)
                ;
}

int main(int argc, char **argv) {
        const char *mode = argc > 1 ? argv[1] : "";

        setvbuf(stdout, NULL, _IOLBF, 0);
        need(tdi_host_new("linux", &host), "the host");
        iommufd = open_iommufd();
        if (strcmp(mode, "errors") == 0 && argc == 4)
                errors(argv[2], argv[3]);
        else if (strcmp(mode, "life") == 0 && argc == 3)
                life(argv[2]);
        else if (strcmp(mode, "requests") == 0 && argc == 3)
                requests(argv[2]);
        else if (strcmp(mode, "slow") == 0 && argc == 4)
                slow(argv[2], argv[3]);
        else if (strcmp(mode, "lost") == 0 && argc == 5)
                lost(argv[2], argv[3], argv[4]);
        else if (strcmp(mode, "lacks") == 0 && argc == 4)
                lacks(argv[2], argv[3]);
        else if (strcmp(mode, "unbindable") == 0 && argc == 3)
                unbindable(argv[2]);
        else if (strcmp(mode, "hold") == 0 && argc == 3)
                hold(argv[2]);
        else
                errx(2, "usage: bind_check MODE BDF…; the modes are in its source");
        if (strcmp(mode, "hold") != 0)
                printf("%u checks\n", checks);
        tdi_host_free(host);
        return failures ? 1 : 0;
}
