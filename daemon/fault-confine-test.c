/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What lists of system calls have to refuse, tried by a worker of a test build. */
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fault.h"
#include "util/util.h"
#include "worker/confine.h"

const int *fault_calls(size_t *ret_n) {
        static const int calls[] = { SCMP_SYS(kill), SCMP_SYS(getppid) };

        *ret_n = ARRAY_SIZE(calls);
        return calls;
}

static bool refused(long result) {
        return result == -1 && errno == EPERM;
}

static long try_fork(void) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(0);
        return pid;
}

/* Nothing of it is there: a call that is let through fails with something else. */
int fault_forbidden(const char *action, const char **ret_what) {
        enum worker_kind kind = worker_kind_of(action);

        if (!getenv("TDID_TEST_FORBIDDEN"))
                return 0;
        *ret_what = !refused(execl("/bin/true", "true", (char *) NULL)) ? "executing a program" :
                    !refused(ptrace(PTRACE_TRACEME, 0, NULL, NULL)) ? "tracing" :
                    !refused(mount("none", "/mnt", "tmpfs", 0, NULL)) ? "mounting" :
                    !refused(setuid(0)) ? "changing its user" :
                    !refused(chroot("/")) ? "changing its root" :
                    !refused(ioctl(0, TIOCSTI, "x")) ? "typing" :
                    kind == WORKER_ANY ? NULL :
                    !refused(socket(AF_UNIX, SOCK_STREAM, 0)) || !refused(socket(AF_INET, SOCK_STREAM, 0)) ? "making a socket" :
                    !refused(try_fork()) ? "starting a process" :
                    !refused(chmod("/nonexistent/x", 0)) || !refused(chown("/nonexistent/x", 0, 0)) ? "giving files away" :
                    !refused(ioctl(0, 0x3b64, NULL)) ? "reaching a device" :
                    kind == WORKER_EVIDENCE ? NULL :
                    kind == WORKER_MAPS && !refused(open("/nonexistent/x", O_RDONLY | O_CLOEXEC)) ? "opening" :
                    !refused(open("/nonexistent/x", O_WRONLY | O_CLOEXEC)) || !refused(open("/nonexistent/x", O_RDWR | O_CLOEXEC)) ||
                    !refused(open("/nonexistent/x", O_RDONLY | O_CREAT | O_CLOEXEC, 0)) ? "opening for writing" :
                    !refused(unlink("/nonexistent/x")) || !refused(rename("/nonexistent/x", "/nonexistent/y")) ? "removing files" : NULL;
        return *ret_what ? -1 : 0;
}
