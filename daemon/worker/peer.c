/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a VM's VMM is, looked up by its pidfd: its memory map, its memory cgroup, its KVM VM. It is a stranger: what is opened here is
 * named by the kernel, and nothing that it holds is touched before its name is known.
 *
 * Processes and cgroups are this machine's, whatever host the devices are on; where the seam is used for them, it leads there too.
 */
#include "worker/work.h"

#include <limits.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fault.h"
#include "host/fdkind.h"
#include "vm/vpci/dma-helper.h"
#include "worker/cgroup.h"
#include "worker/confine.h"

/* As often a VMM may change its cgroup while its helper is being put into it. */
#define MOVES_MAX 4
/* More descriptors than this are not looked at. */
#define FDS_LOOKED_AT_MAX 65536

static int pid_of(struct work *w, pid_t *ret) {
        char what[256] = "?";
        int r;

        if (w->fds.n < 1)
                return work_fail(w, -EINVAL, NULL, "find the VMM");
        r = host_check_pidfd(w->host, w->fds.fd[0], ret, what, sizeof(what));
        return r < 0 ? work_fail(w, r, NULL, "find the process of the VMM by its pidfd (%s)", what) : 0;
}

/* While it lives, its number is its own: what was opened by that before is of the same process. */
static bool has_ended(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        return poll(&p, 1, 0) != 0;
}

/* ---- the helper ---- */

static int by_number(const void *a, const void *b) {
        int x = *(const int *) a, y = *(const int *) b;

        return x < y ? -1 : x > y;
}

/*
 * Keeps what it serves with and what the host needs to reach its kernel. Standard streams lead nowhere: what is received later must
 * not get their numbers.
 */
static int close_others(TdiHost *machine, int iommufd, int socket) {
        int null = host_open(machine, "/dev/null", O_RDWR), keep[WORK_OWN_MAX + 2];
        unsigned first = 3;
        size_t n = 0;

        if (null < 0)
                return null;
        for (int fd = 0; fd < 3; fd++)
                if (dup2(null, fd) < 0)
                        return -errno;
        n = work_hosts_own(keep);
        keep[n++] = iommufd;
        keep[n++] = socket;
        qsort(keep, n, sizeof(*keep), by_number);
        for (size_t i = 0; i < n; i++) {
                if ((unsigned) keep[i] > first && close_range(first, (unsigned) keep[i] - 1, 0) < 0)
                        return -errno;
                first = (unsigned) keep[i] + 1;
        }
        return close_range(first, ~0U, 0) < 0 ? -errno : 0;
}

static void __attribute__((__noreturn__)) be_helper(struct work *w, TdiHost *machine, int iommufd, int socket) {
        bool simulated = !streq(w->host->ops->name, "linux");
        const char *what;
        int r;

        (void) prctl(PR_SET_NAME, WORKER_MAPS_NAME);
        r = close_others(machine, iommufd, socket);
        if (r >= 0 && work_is_confined())
                r = worker_confine(WORKER_MAPS, simulated);
        if (r >= 0 && work_is_confined())
                r = fault_forbidden(WORKER_MAPS_NAME, &what);
        if (r >= 0)
                r = dma_helper_serve(w->host, iommufd, socket);
        _exit(r < 0);
}

static const char *start_helper(struct work *w, TdiHost *machine, pid_t peer, int iommufd, int *ret, char *file, size_t size) {
        char text[32];
        const char *why;
        int pair[2], r = -ENOENT;
        pid_t pid;

        /* As it is nobody's to wait for, it leaves nothing behind. */
        (void) signal(SIGCHLD, SIG_IGN);
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return "no socket for its helper could be made";
        pid = fork();
        if (pid == 0)
                be_helper(w, machine, iommufd, pair[1]);
        close_fd(pair[1]);
        if (pid < 0) {
                close_fd(pair[0]);
                return "no helper could be started";
        }
        /* It is asked for nothing before, and so pays for nothing elsewhere. */
        snprintf(text, sizeof(text), "%d", (int) pid);
        why = NULL;
        for (unsigned tries = 0; !why && (r == -ENOENT || r == -ENODEV) && tries < MOVES_MAX; tries++) {
                why = cgroup_procs_of(machine, peer, file, size);
                /* ENOENT, ENODEV: the VMM has been moved meanwhile, and the one it was in removed. */
                r = why ? 0 : host_write_text(machine, file, text);
        }
        if (why || r < 0) {
                close_fd(pair[0]); /* which ends it */
                return why ? why : "its cgroup takes no helper";
        }
        *ret = pair[0];
        return NULL;
}

/*
 * Descriptors: pidfd, iommufd. Out: the open /proc/PID/maps, and the helper's socket where there is one. values: "memory": whom guest memory is
 * charged to.
 */
int peer_open_do(struct work *w) {
        _cleanup_(tdi_host_freep) TdiHost *machine = NULL;
        char path[64], file[PATH_MAX + 64], memory[400];
        int maps, helper = -EBADF, r;
        const char *why;
        pid_t pid = 0;

        if (w->fds.n != 2)
                return work_fail(w, -EINVAL, NULL, "open the VMM's memory map");
        r = pid_of(w, &pid);
        if (r >= 0)
                r = tdi_host_linux_new(&machine);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "/proc/%d/maps", (int) pid);
        maps = host_open(w->host, path, O_RDONLY);
        if (maps < 0)
                return work_fail(w, maps, "does a security module keep tdid-worker from looking at processes?", "open %s", path);
        if (has_ended(w->fds.fd[0])) {
                (void) host_close(w->host, maps);
                return work_fail(w, -ESRCH, NULL, "open %s: the process has ended", path);
        }
        why = start_helper(w, machine, pid, w->fds.fd[1], &helper, file, sizeof(file));
        if (why)
                snprintf(memory, sizeof(memory), "charged to the VM's holder: %s", why);
        else {
                *strrchr(file, '/') = '\0';
                snprintf(memory, sizeof(memory), "charged to the VMM's cgroup %.300s", file);
        }
        json_set_str(w->values, "memory", memory);
        w->out.fd[w->out.n++] = maps;
        if (helper >= 0)
                w->out.fd[w->out.n++] = helper;
        return 0;
}

/* ---- its KVM VM ---- */

/* Without CONFIG_KCMP nobody knows: taken for different. */
static bool is_same_file(int a, int b) {
        pid_t self = getpid();

        return syscall(SYS_kcmp, self, self, KCMP_FILE, a, b) == 0;
}

/* Out: the one KVM VM of the process, where it has one. values: "kvm": what was found; "several": more than one, and none taken. */
int peer_kvm_do(struct work *w) {
        _cleanup_(host_names_freep) char **names = NULL;
        int found = -EBADF, r;
        size_t looked = 0;
        bool several = false;
        char path[96], target[PATH_MAX];
        pid_t pid = 0;

        r = pid_of(w, &pid);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "/proc/%d/fd", (int) pid);
        r = host_list(w->host, path, &names);
        if (r < 0)
                return work_fail(w, r, NULL, "list %s", path);
        for (char **n = names; *n && looked++ < FDS_LOOKED_AT_MAX && !several; n++) {
                int fd;

                snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int) pid, *n);
                if (host_readlink(w->host, path, target, sizeof(target)) < 0 || !streq(target, "anon_inode:kvm-vm"))
                        continue;
                fd = pidfd_getfd(w->fds.fd[0], atoi(*n), 0);
                if (fd < 0) {
                        r = -errno;
                        /* Closed meanwhile. */
                        if (r == -EBADF)
                                continue;
                        if (found >= 0)
                                (void) host_close(w->host, found);
                        return work_fail(w, r, "does a security module or kernel.yama.ptrace_scope forbid it? SetKVM works without",
                                         "take the KVM VM from process %d", (int) pid);
                }
                /* Another file by now, or the same one twice. */
                if (host_check_kvm_vm(w->host, fd, target, sizeof(target)) < 0)
                        close_fd(fd);
                else if (found >= 0 && is_same_file(found, fd))
                        (void) host_close(w->host, fd);
                else if (found >= 0) {
                        (void) host_close(w->host, fd);
                        several = true;
                } else
                        found = fd;
        }
        if (several) {
                (void) host_close(w->host, found);
                found = -EBADF;
        }
        json_set_bool(w->values, "several", several);
        json_set_str(w->values, "kvm", several ? "it has several KVM VMs, and none was taken: use SetKVM" : found >= 0 ? "found with the VMM" : "the VMM has none");
        if (found >= 0)
                w->out.fd[w->out.n++] = found;
        return 0;
}
