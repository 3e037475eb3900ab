/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VMM that has a KVM VM and answers on the channel of its association, by libtdi's own code.
 *
 *      associate [--host=HOST]
 *
 * Reads lines, answers each with one: "channel PID FD": takes the channel from there ("-": the one that it has is closed); "own": makes a kvm-vfio device
 * itself, "disown" closes it; "quiet": does not answer tdid, "go on" does; "seen": how many requests were carried out, the result of the
 * last one, how many descriptors more than at the beginning it has, how many signals came for another process than itself, and of a child's end.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <tdi/association.h>

#include "client/association-internal.h"
#include "host/abi/kvm.h"
#include "vfio.h"

static volatile sig_atomic_t astray, children;
static pid_t self;

static void on_alarm(_unused_ int n) {
        if (getpid() != self)
                astray++;
}

static void on_child(_unused_ int n) {
        children++;
}

/* The VMM's other threads, which go on meanwhile. This one is like a terminal: its signal goes to all of the group, and so to a child. */
static void *other_thread(_unused_ void *userdata) {
        for (;;) {
                (void) kill(0, SIGALRM);
                (void) usleep(200);
        }
        return NULL;
}

static int call(int fd, unsigned long request, void *argument, _unused_ void *userdata) {
        return host_ioctl(host, fd, request, argument);
}

static int descriptors(void) {
        int n = 0;

        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static int take_channel(const char *where, int *channel) {
        int pid, fd, pidfd, taken;

        *channel = close_fd(*channel);
        if (sscanf(where, "%d %d", &pid, &fd) != 2)
                return 0;
        pidfd = pidfd_open(pid, 0);
        taken = pidfd < 0 ? -1 : pidfd_getfd(pidfd, fd, 0);
        if (taken < 0)
                return -errno;
        close_fd(pidfd);
        *channel = taken;
        return 0;
}

int main(int argc, char **argv) {
        struct tdi_kvm_create_device create = { .type = TDI_KVM_DEV_TYPE_VFIO };
        int kvm, vm, channel = -EBADF, own = -EBADF, before, served = 0, last = 0, r;
        bool quiet = false;
        char line[128];
        pthread_t thread;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        self = getpid();
        (void) setpgid(0, 0);
        take_host(&argc, &argv);
        kvm = (int) need(host_open(host, "/dev/kvm", O_RDWR), "/dev/kvm");
        vm = (int) need(host_ioctl(host, kvm, TDI_KVM_CREATE_VM, NULL), "KVM_CREATE_VM");
        (void) host_close(host, kvm);
        (void) signal(SIGCHLD, on_child);
        (void) sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm, .sa_flags = SA_RESTART }, NULL);
        (void) pthread_create(&thread, NULL, other_thread, NULL);
        before = descriptors();
        for (;;) {
                struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = quiet ? -1 : channel, .events = POLLIN } };

                if (poll(p, 2, -1) < 0)
                        continue;
                if (p[1].revents) {
                        r = streq(host->ops->name, "linux") ? tdi_association_serve(channel, vm, 5000) : association_serve_by(channel, vm, 5000, call, NULL);
                        served += r != -ECONNRESET;
                        last = r;
                        if (r == -ECONNRESET)
                                channel = close_fd(channel);
                }
                if (!p[0].revents)
                        continue;
                if (!fgets(line, sizeof(line), stdin))
                        return 0;
                line[strcspn(line, "\n")] = '\0';
                r = 0;
                if (startswith(line, "channel "))
                        r = take_channel(line + strlen("channel "), &channel);
                else if (streq(line, "own")) {
                        r = host_ioctl(host, vm, TDI_KVM_CREATE_DEVICE, &create);
                        own = r < 0 ? -EBADF : (int) create.fd;
                } else if (streq(line, "disown")) {
                        r = own < 0 ? -EBADF : host_close(host, own);
                        own = -EBADF;
                } else if (streq(line, "quiet"))
                        quiet = true;
                else if (streq(line, "go on"))
                        quiet = false;
                else if (streq(line, "seen")) {
                        printf("%d %d %d %d %d\n", served, last, descriptors() - before - (channel >= 0) - (own >= 0), (int) astray, (int) children);
                        (void) fflush(stdout);
                        continue;
                }
                printf("%d\n", r);
                (void) fflush(stdout);
        }
}
