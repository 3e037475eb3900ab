/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VMM's part of a KVM association, in a process of its own: with the VMM's memory, for KVM asks for that, and without its descriptor table, so
 * that the function's VFIO node never is in the VMM's.
 *
 * That process runs on a stack of its own beside threads that it knows nothing of, and with the TLS of the thread that waits for it. So between clone()
 * and its end there are system calls only: no allocation, no lock, no stdio. No signal is delivered there, and no thread is cancelled.
 */
#include <tdi/association.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "association-internal.h"
#include "host/abi/kvm.h"
#include "model/association.h"
#include "util/util.h"

#define STACK_SIZE (64UL * 1024)
#define GUARD_SIZE (64UL * 1024) /* a page, however large it is */

/* On the stack of the thread that waits: both processes see it. */
struct helper {
        int channel, kvm_vm, timeout_ms;
        association_ioctl call;
        void *userdata;
        pid_t parent;
        struct association_message ask;
        int r;
};

/* {kvm-vfio device} in @made when it is a new one. */
static int change(struct helper *h, uint32_t op, const struct association_fds *fds, int *made, uint32_t *stage) {
        struct tdi_kvm_create_device create = { .type = TDI_KVM_DEV_TYPE_VFIO };
        int32_t node = fds->fd[0];
        struct tdi_kvm_device_attr attr = {
                .group = TDI_KVM_DEV_VFIO_FILE,
                .attr = op == ASSOCIATION_ADD ? TDI_KVM_DEV_VFIO_FILE_ADD : TDI_KVM_DEV_VFIO_FILE_DEL,
                .addr = (uintptr_t) &node,
        };
        int device, r;

        *stage = ASSOCIATION_CREATE;
        if (fds->n > 1)
                device = fds->fd[1];
        else {
                r = h->call(h->kvm_vm, TDI_KVM_CREATE_DEVICE, &create, h->userdata);
                if (r < 0)
                        return r;
                *made = device = (int) create.fd;
        }
        *stage = ASSOCIATION_CHANGE;
        r = h->call(device, TDI_KVM_SET_DEVICE_ATTR, &attr, h->userdata);
        return r < 0 ? r : 0;
}

/* Its descriptors, those that it was sent among them, go with the process. */
static int serve(struct helper *h) {
        struct association_message m = h->ask;
        struct association_fds fds;
        int made = -EBADF, r;

        /* A worker may be killed, and the next one ask anew. */
        do {
                h->ask = m;
                m.op = ASSOCIATION_READY;
                r = association_send(h->channel, &m, NULL, 0);
                if (r >= 0)
                        r = association_receive(h->channel, h->timeout_ms, &m, &fds);
                if (r < 0)
                        return r == -EPIPE ? -ECONNRESET : r == -ETIMEDOUT ? 0 : r;
        } while (m.op == ASSOCIATION_ASK && fds.n == 0);
        if (m.number != h->ask.number || fds.n == 0 || (m.op != ASSOCIATION_ADD && (m.op != ASSOCIATION_DEL || fds.n != 2)))
                return -EBADMSG;
        m.result = change(h, m.op, &fds, &made, &m.stage);
        m.op = ASSOCIATION_DONE;
        r = association_send(h->channel, &m, &made, made >= 0 && m.result == 0);
        if (m.result < 0)
                return m.result;
        return r == -EPIPE ? -ECONNRESET : r < 0 ? r : 1;
}

static int run(void *userdata) {
        struct helper *h = userdata;

        /* Whoever waits for it may be killed: nothing of the VMM's is kept open for that. */
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (getppid() == h->parent)
                h->r = serve(h);
        return 0;
}

/* 0: all of it has run, whatever came of it. */
static int run_apart(struct helper *h) {
        sigset_t all, before;
        int status, state, r = 0;
        char *stack;
        pid_t pid;

        stack = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED)
                return -errno;
        if (mprotect(stack + GUARD_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE) < 0)
                r = -errno;
        if (r >= 0) {
                h->parent = getpid();
                sigfillset(&all);
                (void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
                (void) pthread_sigmask(SIG_SETMASK, &all, &before);
                /* Without a signal at its end, so that it is nobody's child but ours: waitpid(-1) of another thread does not see it. */
                pid = clone(run, stack + GUARD_SIZE + STACK_SIZE, CLONE_VM | CLONE_VFORK, h);
                if (pid < 0)
                        r = -errno;
                while (pid > 0 && waitpid(pid, &status, __WCLONE) < 0 && errno == EINTR)
                        ;
                (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
                (void) pthread_setcancelstate(state, NULL);
        }
        (void) munmap(stack, GUARD_SIZE + STACK_SIZE);
        return r;
}

int association_serve_by(int channel, int kvm_vm, int timeout_ms, association_ioctl call, void *userdata) {
        struct helper h = {
                .channel = channel,
                .kvm_vm = kvm_vm,
                .timeout_ms = timeout_ms > 0 ? timeout_ms : 0,
                .call = call,
                .userdata = userdata,
                .r = -ECHILD,
        };
        struct association_fds fds;
        int saved = errno, r;

        r = association_receive(channel, h.timeout_ms, &h.ask, &fds);
        if (r >= 0 && (h.ask.op != ASSOCIATION_ASK || fds.n > 0)) {
                /* Descriptors have no business in this process. */
                association_close(&fds);
                r = -EBADMSG;
        }
        if (r >= 0)
                r = run_apart(&h);
        errno = saved;
        return r >= 0 ? h.r : r == -ETIMEDOUT ? 0 : r;
}

static int call_linux(int fd, unsigned long request, void *argument, _unused_ void *userdata) {
        int r = ioctl(fd, request, argument);

        return r < 0 ? -errno : r;
}

int tdi_association_serve(int channel, int kvm_vm, int timeout_ms) {
        return association_serve_by(channel, kvm_vm, timeout_ms, call_linux, NULL);
}
