/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a stranger's descriptor is: of every kind at hand, also such as are called like another. */
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "host/fdkind.h"
#include "test.h"

static TdiHost *host;

static void check_kind(const char *about, int fd, int kvm, int pidfd, const char *name) {
        char what[256] = "untouched";
        pid_t pid = -77;

        test_about("%s", about);
        check_int(host_check_kvm_vm(host, fd, what, sizeof(what)), kvm);
        if (name && !startswith(what, name))
                test_fail(__FILE__, __LINE__, "it is called %s", what);
        check_int(host_check_pidfd(host, fd, &pid, what, sizeof(what)), pidfd);
        check_int(host_check_eventfd(host, fd), kvm == -EBADF ? -EBADF : name && streq(name, "anon_inode:[eventfd]") ? 0 : -EINVAL);
        if (pidfd < 0)
                check_int(pid, -77);
        else
                check(pid > 0);
        close_fd(fd);
}

static void test_kinds(void) {
        char dir[64], path[128];
        int fd, pair[2];
        pid_t child;

        check_kind("a memfd", memfd_create("anon_inode:kvm-vm", MFD_CLOEXEC), -EINVAL, -EINVAL, "/memfd:");
        check_kind("a folder", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), -EINVAL, -EINVAL, "/");
        check_kind("O_PATH", open("/dev/null", O_PATH | O_CLOEXEC), -EBADF, -EBADF, "/dev/null");
        check_kind("an eventfd", eventfd(0, EFD_CLOEXEC), -EINVAL, -EINVAL, "anon_inode:[eventfd]");
        require(pipe2(pair, O_CLOEXEC) == 0);
        check_kind("a pipe", pair[0], -EINVAL, -EINVAL, "pipe:[");
        close_fd(pair[1]);
        check_kind("a socket", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), -EINVAL, -EINVAL, "socket:[");

        /* A file whose name is what the kernel would say: a path starts with a slash. */
        test_make_dir(dir);
        snprintf(path, sizeof(path), "%s/anon_inode:kvm-vm", dir);
        test_write_file(path, "", 0);
        check_kind("a file of that name", open(path, O_RDONLY | O_CLOEXEC), -EINVAL, -EINVAL, "/");
        test_remove_dir(dir);

        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        close_fd(fd);
        check_kind("a closed one", fd, -EBADF, -EBADF, "untouched");
        check_kind("none", -EBADF, -EBADF, -EBADF, "untouched");

        fd = pidfd_open(getpid(), 0);
        if (fd < 0 && errno == ENOSYS) {
                fputs("left out: pidfds, which are not known here (as under valgrind)\n", stderr);
                return;
        }
        check_kind("our own pidfd", fd, -EINVAL, 0, NULL);
        child = fork();
        if (child == 0) {
                (void) pause();
                _exit(0);
        }
        fd = pidfd_open(child, 0);
        require(child > 0 && fd >= 0);
        check_kind("a child's pidfd", fd_dup(fd), -EINVAL, 0, NULL);
        (void) kill(child, SIGKILL);
        (void) waitpid(child, NULL, 0);
        check_kind("the pidfd of a child that has ended", fd, -EINVAL, -ESRCH, NULL);
}

static void test_identify(void) {
        int fd = memfd_create("x", MFD_CLOEXEC);
        char what[32];

        test_about("%s", "identify");
        check_int(host_identify(host, fd, what, sizeof(what)), 0);
        check_str(what, "/memfd:x (deleted)");
        check_int(host_identify(host, fd, what, 5), -ENAMETOOLONG);
        close_fd(fd);
        check_int(host_identify(host, fd, what, sizeof(what)), -ENOENT);
}

static void test_kvm(void) {
        int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

        if (kvm < 0)
                return;
        vm = ioctl(kvm, _IO(0xae, 0x01), 0); /* KVM_CREATE_VM */
        if (vm >= 0) {
                check_kind("a KVM VM", fd_dup(vm), 0, -EINVAL, "anon_inode:kvm-vm");
                check_kind("a KVM VM's vCPU", ioctl(vm, _IO(0xae, 0x41), 0), -EINVAL, -EINVAL, "anon_inode:kvm-vcpu");
        }
        close_fd(vm);
        check_kind("/dev/kvm", kvm, -EINVAL, -EINVAL, "/dev/kvm");
}

int main(void) {
        unsigned before = test_count_fds();

        require(tdi_host_new("linux", &host) == 0);
        test_kinds();
        test_identify();
        test_kvm();
        test_about("%s", "");
        check_int(test_count_fds(), before);
        tdi_host_free(host);
        return test_end();
}
