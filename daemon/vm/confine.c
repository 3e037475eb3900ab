/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory limit and system call filter. libseccomp writes the filter: it knows the call numbers of every architecture.
 * A call that is not listed fails with EPERM: killing the process would close the VM, and gains nothing over refusing.
 */
#include "vm/confine.h"

#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "host/abi/iommufd.h"
#include "host/tdid_bind.h"
#include "util/util.h"

/* Maps of a guest's memory in 4 KiB pieces are most of it (vpci/dma.h), and the threads' stacks count. */
#define DATA_MAX (512UL * 1024 * 1024)

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

static const int allowed[] = {
        SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(accept4), SCMP_SYS(poll), SCMP_SYS(ppoll),
        SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(getsockopt), SCMP_SYS(getuid), SCMP_SYS(getpid), SCMP_SYS(gettid),
        SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mprotect), SCMP_SYS(futex),
        SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(clock_gettime),
        SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getrandom),
        /* Functions: their devices, their clients, and what a client sends. */
        SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(eventfd2), SCMP_SYS(shutdown), SCMP_SYS(fstat), SCMP_SYS(newfstatat),
        SCMP_SYS(fstatfs), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
        /* Answers of the helper that maps in the VMM's cgroup. */
        SCMP_SYS(recvfrom),
        /* Threads. */
        SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
        SCMP_SYS(clock_nanosleep), SCMP_SYS(membarrier), SCMP_SYS(sigaltstack),
};
/* Of ioctl only VFIO's and iommufd's, which share a type, and of the bind provider's the guest's requests: to bind and unbind is a worker's. */
#define IOCTL_TYPE(c) ((uint64_t) (c) << 8)
/* A simulated device is reached by messages, each with a reply socket of its own (libtdi/host/sim.c). */
static const int simulated_too[] = { SCMP_SYS(socketpair), SCMP_SYS(sendto) };

static int allow(scmp_filter_ctx filter, const int *calls, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
        return r;
}

int confine(bool simulated) {
        struct rlimit data = { DATA_MAX, DATA_MAX };
        scmp_filter_ctx filter;
        int r;

        if (SANITIZED)
                return 0;
        if (setrlimit(RLIMIT_DATA, &data) < 0 || setrlimit(RLIMIT_CORE, &(struct rlimit){}) < 0 ||
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        if (!filter)
                return -ENOMEM;
        r = allow(filter, allowed, ARRAY_SIZE(allowed));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, IOCTL_TYPE(0xff), IOCTL_TYPE(TDI_IOMMUFD_TYPE)));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, TDID_BIND_IOC_REQUEST));
        /* Threads, but no processes: what clone3 is asked for a filter cannot see, and the C library goes on with clone. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM));
        /* Signals, to itself alone. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid()));
        if (r == 0 && simulated)
                r = allow(filter, simulated_too, ARRAY_SIZE(simulated_too));
        if (r == 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r;
}
