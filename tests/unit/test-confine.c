/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A confined holder: the whole protocol works, and nothing else does. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "holder-client.h"
#include "vm/confine.h"
#include "vm/serve.h"

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

int main(void) {
        const char *preload = getenv("LD_PRELOAD");

        if (SANITIZED) {
                fputs("skipped: a sanitizer's run-time needs what confine(false) forbids\n", stderr);
                return TEST_SKIPPED;
        }
        if (preload && strstr(preload, "vgpreload")) {
                fputs("skipped: valgrind itself needs what confine(false) forbids\n", stderr);
                return TEST_SKIPPED;
        }
        check_int(run(refusals, NULL), 0);
        check_int(run(memory, NULL), 0);
        test_protocol();
        return test_end();
}
