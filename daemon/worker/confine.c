/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"
#include "filter.h"
#include "host/abi/dmabuf.h"
#include "host/abi/iommufd.h"
#include "host/abi/kvm.h"
#include "host/abi/udmabuf.h"
#include "host/tdid_bind.h"

static const int reads[] = {
        SCMP_SYS(lseek), SCMP_SYS(getdents64), SCMP_SYS(statx), SCMP_SYS(flock), SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(getppid),
        SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(prlimit64), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
        SCMP_SYS(dup), SCMP_SYS(statfs), SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
};
/* The archive: see archive.c. */
static const int stores[] = {
        SCMP_SYS(mkdirat), SCMP_SYS(mkdir), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(rename), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
        SCMP_SYS(utimensat), SCMP_SYS(fsync), SCMP_SYS(memfd_create), SCMP_SYS(ftruncate), SCMP_SYS(sendto), SCMP_SYS(setsockopt), SCMP_SYS(bind),
};
/* Sockets of functions, shared memory, the VMM's processes, and the process that maps for it. */
static const int works[] = {
        SCMP_SYS(chmod), SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(chown), SCMP_SYS(fchown), SCMP_SYS(fchownat), SCMP_SYS(umask),
        SCMP_SYS(rmdir), SCMP_SYS(setitimer), SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(listen), SCMP_SYS(connect), SCMP_SYS(eventfd2),
        SCMP_SYS(fallocate), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(close_range), SCMP_SYS(kcmp), SCMP_SYS(pidfd_open), SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_send_signal), SCMP_SYS(prctl), SCMP_SYS(wait4),
        SCMP_SYS(waitid), SCMP_SYS(clone), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(capget), SCMP_SYS(capset), SCMP_SYS(seccomp), SCMP_SYS(tgkill), SCMP_SYS(bpf),
        SCMP_SYS(openat), SCMP_SYS(open),
};
/* Its answers. */
static const int maps[] = { SCMP_SYS(sendto) };
/* What it does of all that can be done with an iommufd. */
static const unsigned map_ioctls[] = { TDI_IOMMU_IOAS_MAP_FILE, TDI_IOMMU_IOAS_COPY, TDI_IOMMU_IOAS_UNMAP };
static const int simulated_too[] = { SCMP_SYS(socketpair), SCMP_SYS(sendto) };
/* Of devices: iommufd and VFIO, KVM, shared memory, the bind provider. */
static const unsigned char ioctls[] = { TDI_IOMMUFD_TYPE, TDI_KVMIO, TDI_DMA_BUF_BASE, TDI_DMA_HEAP_IOC_MAGIC, _IOC_TYPE(TDI_UDMABUF_CREATE),
                                        _IOC_TYPE(TDID_BIND_IOC_BIND) };

enum worker_kind worker_kind_of(const char *op) {
        static const char *const only_read[] = { "read.pci", "read.tsm", "read.ide", "check.report" };

        for (size_t i = 0; i < ARRAY_SIZE(only_read); i++)
                if (streq(op, only_read[i]))
                        return WORKER_READS;
        return streq(op, "read.evidence") ? WORKER_EVIDENCE : streq(op, WORKER_MAPS_NAME) ? WORKER_MAPS : WORKER_ANY;
}

/* Keeps these, of those that it has. */
static int keep_capabilities(uint32_t mask) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2] = {};

        if (syscall(SYS_capget, &header, data) < 0)
                return -errno;
        data[0].permitted &= mask;
        data[0].effective = data[0].permitted;
        data[0].inheritable = data[1].permitted = data[1].effective = data[1].inheritable = 0;
        return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int allow_reading(scmp_filter_ctx filter) {
        /* O_ACCMODE and what makes files: of the modes only reading has no bit. */
        const scmp_datum_t writes = O_ACCMODE | O_CREAT | O_TRUNC;
        int r;

        r = filter_allow(filter, reads, ARRAY_SIZE(reads));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, writes, O_RDONLY));
        return r == 0 ? seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(open), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, writes, O_RDONLY)) : r;
}

static int allow_evidence(scmp_filter_ctx filter) {
        int r;

        r = filter_allow(filter, (int[]){ SCMP_SYS(openat) }, 1);
        if (r == 0)
                r = filter_allow(filter, stores, ARRAY_SIZE(stores));
        return r == 0 ? seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_NETLINK)) : r;
}

static int allow_work(scmp_filter_ctx filter) {
        int r;

        r = filter_allow(filter, stores, ARRAY_SIZE(stores));
        if (r == 0)
                r = filter_allow(filter, works, ARRAY_SIZE(works));
        for (size_t i = 0; i < ARRAY_SIZE(ioctls) && r == 0; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                     SCMP_A1(SCMP_CMP_MASKED_EQ, (scmp_datum_t) _IOC_TYPEMASK << _IOC_TYPESHIFT, (scmp_datum_t) ioctls[i] << _IOC_TYPESHIFT));
        /* To look into the host's network, where tdid has one of its own. */
        return r == 0 ? seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(setns), 1, SCMP_A1(SCMP_CMP_EQ, CLONE_NEWNET)) : r;
}

static int allow_maps(scmp_filter_ctx filter) {
        int r = filter_allow(filter, maps, ARRAY_SIZE(maps));

        for (size_t i = 0; i < ARRAY_SIZE(map_ioctls) && r == 0; i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, map_ioctls[i]));
        return r;
}

int worker_allow(scmp_filter_ctx filter, enum worker_kind kind, bool simulated) {
        const int *calls;
        size_t n;
        int r;

        r = filter_allow_basics(filter);
        if (r == 0)
                r = kind == WORKER_MAPS ? allow_maps(filter) : allow_reading(filter);
        if (r == 0 && kind == WORKER_EVIDENCE)
                r = allow_evidence(filter);
        if (r == 0 && kind == WORKER_ANY)
                r = allow_work(filter);
        if (r == 0 && simulated && kind != WORKER_ANY)
                r = filter_allow(filter, simulated_too, ARRAY_SIZE(simulated_too));
        calls = fault_calls(&n);
        return r == 0 ? filter_allow(filter, calls, n) : r;
}

int worker_confine(enum worker_kind kind, bool simulated) {
        _cleanup_filter_ scmp_filter_ctx filter = NULL;
        int r = 0;

        if (FILTER_SANITIZED)
                return 0;
        /* Opened by that, config space is read beyond its first 64 bytes (pci_read_config), and a mailbox written. */
        if (kind != WORKER_ANY && kind != WORKER_MAPS)
                r = keep_capabilities(1U << CAP_SYS_ADMIN | (kind == WORKER_EVIDENCE ? 1U << CAP_NET_ADMIN : 0));
        if (r == 0)
                r = filter_new(&filter);
        if (r == 0)
                r = worker_allow(filter, kind, simulated);
        return r < 0 ? r : filter_load(filter);
}
