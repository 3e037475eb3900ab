/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bind provider when nobody waits for anybody: threads bind, unbind, ask, close, pass on and call nonsense on the same few open
 * files, while the device and VM files under them come and go and the DSM is disconnected and connected.
 *
 *      bind_race SECONDS SEED TSM DSM BDF…
 *
 * With "-" for the TSM it leaves that to the caller, who has the DSM connected when the seconds are over.
 * Each call may fail in any way that its caller survives; what counts is that the kernel has nothing to say (the caller looks), that
 * everything is unbound at the end, and that a function can be bound then. Prints how often which call gave which result.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "bind.h"

#define THREADS 6
#define FILES 6
#define VMS 3
#define FUNCTIONS_MAX 8
#define OPEN_MAX_FDS 256

enum { BIND, UNBIND, REQUEST, CLOSE, COPY, FORK, DEVICE, VM, NONSENSE, RECONNECT, OPS };
static const char *const op_names[OPS] = { "bind", "unbind", "request", "close", "copy", "fork", "device", "vm", "nonsense", "reconnect" };
/* Of 1000 calls; a fork or another VM costs much more than the rest. */
static const unsigned weights[OPS] = { 300, 180, 330, 60, 40, 5, 20, 5, 55, 5 };

static atomic_int files[FILES], devices[FUNCTIONS_MAX], vms[VMS];
static const char *functions[FUNCTIONS_MAX];
static unsigned count;
static const char *tsm, *dsm;
static int iommufd;
static atomic_bool over;
static atomic_uint results[OPS][200];

static uint64_t next(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state >> 11;
}

/* The descriptor that takes a place; what had it is closed, whatever that number means by now. */
static void replace(atomic_int *place, int fd) {
        int old = atomic_exchange(place, fd);

        /* A number may have been given to another file meanwhile. That of the iommufd is ours for good. */
        if (old > iommufd)
                close(old);
}

static int reopen_device(unsigned f) {
        char node[64];
        int fd;

        replace(&devices[f], -1);
        vfio_node(functions[f], node, sizeof(node));
        fd = open(node, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        (void) bind_iommufd(fd, iommufd);
        replace(&devices[f], fd);
        return 0;
}

static int reopen_vm(unsigned i) {
        int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

        if (kvm < 0)
                return -errno;
        vm = ioctl(kvm, TDI_KVM_CREATE_VM, 0);
        close(kvm);
        if (vm < 0)
                return -errno;
        replace(&vms[i], vm);
        return 0;
}

static int ask(uint64_t *rng, int fd) {
        static _Thread_local uint8_t in[TDID_BIND_REQUEST_MAX], out[TDID_BIND_REQUEST_MAX];
        uint32_t op = (uint32_t) (next(rng) % 5);
        struct tdid_bind_request r = {
                .argsz = sizeof(r), .scope = (uint32_t) (next(rng) % 3), .in_len = (uint32_t) (next(rng) % (next(rng) % 8 ? 64 : 70000)),
                .out_len = (uint32_t) (next(rng) % (next(rng) % 8 ? 64 : 70000)), .in = (uintptr_t) in, .out = (uintptr_t) out,
        };

        memcpy(in, &op, sizeof(op));
        if (next(rng) % 32 == 0)
                r.in = next(rng) << 11;
        if (next(rng) % 32 == 0)
                r.out = next(rng) << 11;
        return call(fd, TDID_BIND_IOC_REQUEST, &r);
}

static int nonsense(uint64_t *rng, int fd) {
        uint8_t arg[256];
        unsigned long request = _IOC(next(rng) % 4, next(rng) % 4 ? 0xe8 : next(rng) % 256, next(rng) % 6, next(rng) % 64);
        static const unsigned long known[] = { TDID_BIND_IOC_INFO, TDID_BIND_IOC_BIND, TDID_BIND_IOC_REQUEST };

        for (size_t i = 0; i < sizeof(arg); i++)
                arg[i] = (uint8_t) next(rng);
        /* Half of them get past the number, a part past the size. */
        if (next(rng) % 2) {
                uint32_t size;

                request = known[next(rng) % 3];
                size = _IOC_SIZE(request);
                memcpy(arg, &size, sizeof(size));
        }
        return call(fd, request, next(rng) % 16 ? arg : NULL);
}

static int do_one(uint64_t *rng, int op) {
        unsigned f = (unsigned) (next(rng) % count), i = (unsigned) (next(rng) % FILES);
        int fd = atomic_load(&files[i]), r = 0;
        char path[128];
        pid_t pid;

        switch (op) {
        case BIND:
                return tdi_bind(fd, functions[f], atomic_load(&devices[next(rng) % 16 ? f : next(rng) % count]), atomic_load(&vms[next(rng) % VMS]),
                                (uint32_t) (next(rng) % 4 ? f : next(rng)));
        case UNBIND:
                return tdi_unbind(fd);
        case REQUEST:
                return ask(rng, fd);
        case CLOSE:
                replace(&files[i], open(TDID_BIND_DEV, O_RDWR | O_CLOEXEC));
                return 0;
        case COPY:
                replace(&files[next(rng) % FILES], fcntl(fd, F_DUPFD_CLOEXEC, 3));
                return 0;
        case FORK:
                pid = fork();
                if (pid == 0) {
                        (void) tdi_unbind(fd);
                        _exit(0);
                }
                return pid < 0 ? -errno : waitpid(pid, NULL, 0) < 0 ? -errno : 0;
        case DEVICE:
                return reopen_device(f);
        case VM:
                return reopen_vm((unsigned) (next(rng) % VMS));
        case NONSENSE:
                return nonsense(rng, fd);
        default:
                if (strcmp(tsm, "-") == 0)
                        return 0;
                snprintf(path, sizeof(path), PCI "%s/tsm/disconnect", dsm);
                r = write_file(path, tsm);
                snprintf(path, sizeof(path), PCI "%s/tsm/connect", dsm);
                return write_file(path, tsm) ?: r;
        }
}

static void *run(void *arg) {
        uint64_t rng = *(uint64_t *) arg;

        while (!atomic_load(&over)) {
                unsigned draw = (unsigned) (next(&rng) % 1000);
                int op = 0, r;

                while (draw >= weights[op])
                        draw -= weights[op++];
                r = do_one(&rng, op);
                atomic_fetch_add(&results[op][r < 0 && r > -200 ? -r : 0], 1);
        }
        return NULL;
}

static void report(void) {
        for (int op = 0; op < OPS; op++) {
                printf("%s:", op_names[op]);
                for (int e = 0; e < 200; e++)
                        if (results[op][e])
                                printf(" %s=%u", e ? strerrorname_np(e) : "ok", results[op][e]);
                printf("\n");
        }
}

int main(int argc, char **argv) {
        uint64_t seeds[THREADS];
        pthread_t threads[THREADS];
        char path[128];
        int seconds, fd, r;

        if (argc < 6 || argc - 5 > FUNCTIONS_MAX)
                errx(2, "usage: bind_race SECONDS SEED TSM DSM BDF…");
        seconds = atoi(argv[1]);
        printf("seed %s\n", argv[2]);
        tsm = argv[3];
        dsm = argv[4];
        count = (unsigned) argc - 5;
        need(tdi_host_new("linux", &host), "the host");
        iommufd = open_iommufd();
        for (unsigned f = 0; f < FUNCTIONS_MAX; f++)
                devices[f] = -1;
        for (unsigned i = 0; i < VMS; i++)
                vms[i] = make_vm();
        for (unsigned i = 0; i < FILES; i++)
                files[i] = provider();
        for (unsigned f = 0; f < count; f++) {
                functions[f] = argv[f + 5];
                need(reopen_device(f), "%s", functions[f]);
        }
        for (int i = 0; i < THREADS; i++) {
                seeds[i] = (strtoull(argv[2], NULL, 10) + 1) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t) i * UINT64_C(0xbf58476d1ce4e5b9);
                seeds[i] |= 1;
                if (pthread_create(&threads[i], NULL, run, &seeds[i]) != 0)
                        errx(1, "no thread");
        }
        sleep((unsigned) seconds);
        atomic_store(&over, true);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        report();

        /* Whatever numbers they have by now. */
        for (int n = iommufd + 1; n < OPEN_MAX_FDS; n++)
                close(n);
        if (strcmp(tsm, "-") != 0) {
                snprintf(path, sizeof(path), PCI "%s/tsm/connect", dsm);
                r = write_file(path, tsm);
                if (r < 0 && r != -EBUSY)
                        errx(1, "%s: %s", path, strerror(-r));
        }
        for (unsigned f = 0; f < count; f++) {
                if (is_bound(functions[f]))
                        errx(1, "%s is bound, and no file is open", functions[f]);
                fd = provider();
                need(tdi_bind(fd, functions[f], open_bound_device(functions[f], iommufd), make_vm(), 1), "BIND of %s afterwards", functions[f]);
                need(tdi_unbind(fd), "UNBIND of %s afterwards", functions[f]);
        }
        printf("all unbound\n");
        tdi_host_free(host);
        return 0;
}
