/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fault points of test builds, armed by the environment. */
#include "fault.h"

#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <tdi/bdf.h>

#include "util/util.h"
#include "worker/confine.h"

static bool is_armed(const char *action, const char *verb, const char *when) {
        const char *armed = getenv("TDID_TEST_KILL");
        char here[128];

        if (!armed)
                return false;
        snprintf(here, sizeof(here), "%s:%s:%s", action, verb, when);
        return streq(armed, here);
}

void fault_point(const char *action, const char *verb, const char *when) {
        if (is_armed(action, verb, when))
                (void) raise(SIGKILL);
}

void fault_point_within(const char *action, const char *verb, const char *when) {
        pid_t parent = getppid();

        if (!is_armed(action, verb, when) || parent <= 1)
                return;
        (void) kill(parent, SIGKILL);
        /* What comes next finds no tdid. */
        while (getppid() == parent)
                (void) usleep(1000);
}

int fault_fails(const char *action, const char *verb, const char *bdf) {
        const char *armed = getenv("TDID_TEST_FAIL");
        char name[64], armed_verb[16], label[32] = "", own[TDI_BDF_MAX];
        struct tdi_bdf parsed;
        int error;

        if (!armed || sscanf(armed, "%63[^:]:%15[^:]:%d:%31s", name, armed_verb, &error, label) < 3)
                return 0;
        if (!streq(name, action) || !streq(armed_verb, verb))
                return 0;
        if (label[0] && (tdi_bdf_parse(bdf, &parsed) < 0 || !streq(tdi_bdf_to_label(parsed, own), label)))
                return 0;
        return -error;
}

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
                    !refused(open("/nonexistent/x", O_WRONLY | O_CLOEXEC)) || !refused(open("/nonexistent/x", O_RDWR | O_CLOEXEC)) ||
                    !refused(open("/nonexistent/x", O_RDONLY | O_CREAT | O_CLOEXEC, 0)) ? "opening for writing" :
                    !refused(unlink("/nonexistent/x")) || !refused(rename("/nonexistent/x", "/nonexistent/y")) ? "removing files" : NULL;
        return *ret_what ? -1 : 0;
}
