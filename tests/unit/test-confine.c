/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A confined holder: the whole protocol works, and nothing else does. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "holder-client.h"
#include "host/abi/iommufd.h"
#include "vm/confine.h"
#include "vm/serve.h"
#include "vm/vpci/dma-helper.h"
#include "vm/vpci/dma.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define DATA_MAX (512UL * 1024 * 1024)

/* Runs in a child of its own, which the filter stays with; its checks are counted by its exit code. */
static int run(void (*f)(void *), void *userdata) {
        int status;
        pid_t pid;

        (void) fflush(NULL);
        pid = fork();
        require(pid >= 0);
        if (pid == 0) {
                check_int(confine(false), 0);
                f(userdata);
                _exit(test_failures > 0);
        }
        require(waitpid(pid, &status, 0) == pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define REFUSED(call)                              \
        do {                                       \
                errno = 0;                         \
                check((intptr_t) (call) == -1);    \
                check_int(errno, EPERM);           \
        } while (0)

static void refusals(_unused_ void *userdata) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };

        REFUSED(open("/dev/null", O_RDONLY | O_CLOEXEC));
        REFUSED(openat(AT_FDCWD, "/", O_RDONLY | O_CLOEXEC));
        REFUSED(socket(AF_UNIX, SOCK_STREAM, 0));
        REFUSED(connect(0, (struct sockaddr *) &name, sizeof(name)));
        REFUSED(bind(0, (struct sockaddr *) &name, sizeof(name)));
        REFUSED(fork());
        REFUSED(execl("/bin/true", "true", (char *) NULL));
        REFUSED(unlink("/nonexistent"));
        REFUSED(rename("/nonexistent", "/nonexistent2"));
        REFUSED(memfd_create("x", 0));
        REFUSED(dup(0));
        REFUSED(setuid(0));
        REFUSED(kill(getpid(), 0));
        REFUSED(prctl(PR_SET_NAME, "x"));
        REFUSED(chdir("/"));
        REFUSED(ioctl(0, TIOCSTI, "x"));
        REFUSED(ioctl(0, _IO(0xae, 1), 0));
}

static void memory(_unused_ void *userdata) {
        /* volatile: a compiler may leave a malloc() that nobody uses out. */
        void *volatile p = malloc(1 << 20);

        check(p);
        free(p);
        check_int((intptr_t) mmap(NULL, DATA_MAX + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), -1);
        check_int(errno, ENOMEM);
        /* Too large for the limit: an error, not the end. */
        p = malloc(DATA_MAX * 2); /* NOLINT(clang-analyzer-unix.Malloc) */
        check(!p);
        free(p);
}

static void holder(void *userdata) {
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;
        struct store s = {};

        require(tdi_host_linux_new(&host) == 0);

        check_int(serve(*(const int *) userdata, host, "17", &s), 0);
        store_clear(&s);
}

static pid_t start_holder(int listener) {
        pid_t pid = fork();

        require(pid >= 0);
        if (pid == 0) {
                check_int(confine(false), 0);
                holder(&listener);
                _exit(test_failures > 0);
        }
        return pid;
}

static void test_protocol(void) {
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        _cleanup_json_ struct json_object *answer = NULL;
        struct sockaddr_un name;
        socklen_t len;
        int listener, fd, status;
        pid_t pid;

        test_about("%s", "the protocol");
        listener = holder_listen(&name, &len);
        pid = start_holder(listener);
        close_fd(listener);
        fd = holder_connect_to(&name, len);
        check_int(holder_ask(fd, "{\"op\":\"hello\",\"version\":1}", 0, NULL, NULL), 0);
        for (int i = 0; i < 200; i++) {
                char put[128];

                snprintf(put, sizeof(put), "{\"op\":\"put\",\"key\":\"k%d\",\"state\":{\"n\":%d}}", i, i);
                check_int(holder_ask(fd, put, 1, NULL, NULL), 0);
        }
        check_int(holder_ask(fd, "{\"op\":\"get\",\"keys\":[\"k0\",\"k199\"]}", 0, NULL, &fds), 0);
        check_int(fds.n, 2);
        check_int(holder_ask(fd, "{\"op\":\"drop\",\"key\":\"k0\"}", 0, NULL, NULL), 0);
        check_int(holder_ask(fd, "{\"op\":\"nonsense\"}", 2, NULL, NULL), -EOPNOTSUPP);
        close_fd(fd);
        /* accept4() and the credentials of a second connection */
        fd = holder_connect_to(&name, len);
        check_int(holder_ask(fd, "{\"op\":\"hello\"}", 0, &answer, NULL), 0);
        {
                struct json_object *keys = NULL;

                check(json_get_array(answer, "keys", &keys) >= 0 && json_object_array_length(keys) == 199);
        }
        check_int(send(fd, "nonsense", 8, MSG_NOSIGNAL), 8);
        check_int(recv(fd, &(char[1]){}, 1, 0), 0);
        close_fd(fd);
        fd = holder_connect_to(&name, len);
        check_int(holder_ask(fd, "{\"op\":\"exit\"}", 0, NULL, NULL), 0);
        require(waitpid(pid, &status, 0) == pid);
        check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        close_fd(fd);
}

/* ---- the guest's memory ---- */

struct guest {
        TdiHost host; /* the real one, on which iommufd succeeds */
        struct tdi_host_ops ops;
        TdiHost *real;
        int null, memory, maps, helper;
};

static int guest_ioctl(TdiHost *host, int fd, unsigned long request, void *arg) {
        struct guest *g = (void *) host;

        /* It gets as far as the kernel. */
        check_int(host_ioctl(g->real, fd, request, arg), -ENOTTY);
        if (request == TDI_IOMMU_IOAS_IOVA_RANGES) {
                struct tdi_iommu_ioas_iova_ranges *cmd = arg;

                *(struct tdi_iommu_iova_range *) (uintptr_t) cmd->allowed_iovas = (struct tdi_iommu_iova_range){ 0, UINT64_MAX };
                cmd->num_iovas = 1;
        }
        return 0;
}

static void on_event(_unused_ enum dma_event event, _unused_ const char *text, _unused_ void *userdata) {
}

#define LONG_MAP (UINT64_C(1) << 30)

static void guest_memory(void *userdata) {
        struct guest *g = userdata;
        struct dma_limits limits = { UINT64_MAX, 100000 };
        struct dma_client *c;
        struct dma *d;

        require(dma_new(&g->host, &limits, &d) == 0);
        dma_set_iommufd(d, g->null);
        dma_set_peer(d, TAKE_FD(g->maps), TAKE_FD(g->helper));
        require(dma_client_new(d, 1, false, on_event, NULL, &c) == 0);
        check_int(dma_map(c, 0, 4096, fd_dup(g->memory), 0, true, true), 0);
        check_int(dma_map(c, LONG_MAP, LONG_MAP, fd_dup(g->memory), 0, true, true), 0);
        for (unsigned i = 0; i < 500 && dma_master(c) != DMA_MASTER_YES; i++)
                (void) poll(NULL, 0, 10);
        check_int(dma_master(c), DMA_MASTER_YES);
        check_int(dma_map(c, 8192, 4096, fd_dup(g->null), 0, true, true), -EBADF);
        check_int(dma_unmap_all(c, NULL), 0);
        check(!dma_client_free(c));
        check(!dma_free(d));
}

static void *help(void *userdata) {
        struct dma_helper_request q;

        while (recv(*(int *) userdata, &q, sizeof(q), 0) == (ssize_t) sizeof(q)) {
                struct dma_helper_reply reply = { .id = q.id };

                check_int(send(*(int *) userdata, &reply, sizeof(reply), MSG_NOSIGNAL), sizeof(reply));
        }
        return NULL;
}

static void test_guest_memory(bool with_helper) {
        struct guest g = { .helper = -EBADF };
        pthread_t helper;
        int pair[2];
        void *map;

        test_about("guest memory%s", with_helper ? " with a helper" : "");
        require(tdi_host_linux_new(&g.real) == 0);
        g.ops = *g.real->ops;
        g.ops.ioctl = guest_ioctl;
        g.host.ops = &g.ops;
        g.null = open("/dev/null", O_RDWR | O_CLOEXEC);
        g.maps = open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);
        g.memory = memfd_create("guest", MFD_CLOEXEC);
        require(g.null >= 0 && g.maps >= 0 && g.memory >= 0 && ftruncate(g.memory, LONG_MAP) == 0);
        map = mmap(NULL, LONG_MAP, PROT_READ, MAP_SHARED | MAP_NORESERVE, g.memory, 0);
        require(map != MAP_FAILED);
        if (with_helper) {
                require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
                require(pthread_create(&helper, NULL, help, &pair[1]) == 0);
                g.helper = pair[0];
        }
        check_int(run(guest_memory, &g), 0);
        close_fd(g.helper);
        if (with_helper) {
                require(pthread_join(helper, NULL) == 0);
                close_fd(pair[1]);
        }
        (void) munmap(map, LONG_MAP);
        close_fd(g.memory);
        close_fd(g.maps);
        close_fd(g.null);
        tdi_host_free(g.real);
}

int main(void) {
        const char *preload = getenv("LD_PRELOAD");

        if (SANITIZED) {
                fputs("skipped: a sanitizer's run-time needs what confine() forbids\n", stderr);
                return TEST_SKIPPED;
        }
        if (preload && strstr(preload, "vgpreload")) {
                fputs("skipped: valgrind itself needs what confine() forbids\n", stderr);
                return TEST_SKIPPED;
        }
        check_int(run(refusals, NULL), 0);
        check_int(run(memory, NULL), 0);
        test_protocol();
        test_guest_memory(false);
        test_guest_memory(true);
        return test_end();
}
