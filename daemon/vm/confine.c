/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory limit and system call filter. libseccomp writes the filter: it knows the call numbers of every architecture.
 * A call that is not listed fails with EPERM: killing the process would close the VM, and gains nothing over refusing.
 */
#include "vm/confine.h"

#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "util/util.h"

#define DATA_MAX (64UL * 1024 * 1024)

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
        SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(getsockopt), SCMP_SYS(getuid), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(tgkill),
        SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mprotect), SCMP_SYS(futex),
        SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(clock_gettime),
        SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getrandom),
};

int confine(void) {
        struct rlimit data = { DATA_MAX, DATA_MAX };
        scmp_filter_ctx filter;
        int r = 0;

        if (SANITIZED)
                return 0;
        if (setrlimit(RLIMIT_DATA, &data) < 0 || setrlimit(RLIMIT_CORE, &(struct rlimit){}) < 0 ||
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        if (!filter)
                return -ENOMEM;
        for (size_t i = 0; i < ARRAY_SIZE(allowed) && r == 0; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
        if (r == 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r;
}
