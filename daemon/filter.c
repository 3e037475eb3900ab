/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "filter.h"

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "host/abi/iommufd.h"

#define IOCTL_TYPE(c) ((uint64_t) (c) << 8)

static const int basics[] = {
        SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(poll), SCMP_SYS(ppoll),
        SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(getsockopt), SCMP_SYS(getuid), SCMP_SYS(getpid), SCMP_SYS(gettid),
        SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mprotect), SCMP_SYS(futex),
        SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(clock_gettime),
        SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getrandom),
        SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(shutdown), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fstatfs),
        SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(recvfrom),
        /* Threads. */
        SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
        SCMP_SYS(clock_nanosleep), SCMP_SYS(membarrier), SCMP_SYS(sigaltstack),
};

int filter_new(scmp_filter_ctx *ret) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));

        if (!filter)
                return -ENOMEM;
        *ret = filter;
        return 0;
}

int filter_allow(scmp_filter_ctx filter, const int *calls, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
        return r;
}

int filter_allow_basics(scmp_filter_ctx filter) {
        int r = filter_allow(filter, basics, ARRAY_SIZE(basics));

        /* What clone3 is asked for a filter cannot see, and the C library goes on with clone. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM));
        /* Signals, to itself alone. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid()));
        return r;
}

int filter_allow_vfio(scmp_filter_ctx filter) {
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, IOCTL_TYPE(0xff), IOCTL_TYPE(TDI_IOMMUFD_TYPE)));
}

int filter_load(scmp_filter_ctx filter) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        return seccomp_load(filter);
}
