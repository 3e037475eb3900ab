/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command of `vm create --hold` and `run`. The lease must live exactly as long as its holder: it is close-on-exec everywhere but
 * in the child between fork and exec, and our copy is closed once the command has its own.
 */
#include "hold.h"

#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "model.h"

static int set_environment(json_object *vm, int lease, bool inherit) {
        char number[16];

        snprintf(number, sizeof(number), "%d", lease);
        /* An outer tdictl's lease is not ours to announce. */
        if ((inherit ? setenv("TDID_LEASE_FD", number, 1) : unsetenv("TDID_LEASE_FD")) < 0 ||
            setenv("TDID_VM", strempty(json_string(vm, "id")), 1) < 0 ||
            setenv("TDID_VM_NAME", strempty(json_string(vm, "name")), 1) < 0 ||
            setenv("TDID_VM_UUID", strempty(json_string(vm, "uuid")), 1) < 0)
                return -errno;
        return 0;
}

static void exec_command(const struct held *h, int lease, int report_fd, const sigset_t *mask) __attribute__((__noreturn__));
static void exec_command(const struct held *h, int lease, int report_fd, const sigset_t *mask) {
        int error = 0;

        if (h->inherit && fcntl(lease, F_SETFD, 0) < 0)
                error = errno;
        for (size_t i = 0; i < h->n_fds && error == 0; i++)
                if (fcntl(h->fds[i], F_SETFD, 0) < 0)
                        error = errno;
        if (error == 0) {
                (void) sigprocmask(SIG_SETMASK, mask, NULL);
                (void) execvp(h->command[0], h->command);
                error = errno;
        }
        while (write(report_fd, &error, sizeof(error)) < 0 && errno == EINTR)
                ;
        _exit(127);
}

/* Passes signals on until the child is gone. What the terminal or the kernel sent went to the child's group anyway. */
static int wait_for(pid_t pid, int signal_fd) {
        for (;;) {
                struct signalfd_siginfo si;
                int status;
                pid_t p;

                p = waitpid(pid, &status, WNOHANG);
                if (p == pid)
                        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                if (p < 0 && errno != EINTR)
                        return -errno;
                if (read(signal_fd, &si, sizeof(si)) != (ssize_t) sizeof(si)) {
                        if (errno != EINTR)
                                return -errno;
                        continue;
                }
                if (si.ssi_signo != SIGCHLD && si.ssi_code <= 0)
                        (void) kill(pid, (int) si.ssi_signo);
        }
}

static int failed(struct tdictl *t, const char *what, int error) {
        return fail(t, "Failed", EXIT_OTHER, "Could not %s: %s. The VM is closed again.", what, strerror(error));
}

/* What follows can be interrupted. */
static int cancelled(struct tdictl *t, const sigset_t *mask) {
        (void) sigprocmask(SIG_SETMASK, mask, NULL);
        return fail(t, tdi_error_to_name(TDI_ERROR_CANCELLED), tdi_error_to_exit(TDI_ERROR_CANCELLED), "Interrupted; the VM is closed again.");
}

int hold_and_run(struct tdictl *t, int lease_fd, json_object *vm, const struct held *h) {
        _cleanup_close_ int lease = lease_fd, signal_fd = -EBADF, report_read = -EBADF, report_write = -EBADF;
        int pipe_fds[2], error = 0, r;
        bool interrupted = false;
        sigset_t mask, before, interrupt;
        pid_t pid;
        ssize_t n;

        sigemptyset(&interrupt);
        sigaddset(&interrupt, SIGINT);
        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGHUP);
        sigaddset(&mask, SIGCHLD);
        (void) signal(SIGCHLD, SIG_DFL); /* an ignored one would reap the child for us */
        (void) sigprocmask(SIG_BLOCK, &mask, &before);
        if (h->act) {
                interrupted = act_interrupted(h->act);
                act_hand_over(h->act, &before);
        }
        if (interrupted)
                return cancelled(t, &before);
        signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
        if (signal_fd < 0)
                return failed(t, "watch signals", errno);
        sigdelset(&before, SIGCHLD);

        t->client = tdi_client_free(t->client);
        r = set_environment(vm, lease, h->inherit);
        if (r < 0)
                return failed(t, "set the environment", -r);
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return failed(t, "make a pipe", errno);
        report_read = pipe_fds[0];
        report_write = pipe_fds[1];

        if (h->act && sigtimedwait(&interrupt, NULL, &(struct timespec){}) == SIGINT)
                return cancelled(t, &before);
        pid = fork();
        if (pid < 0)
                return failed(t, "fork", errno);
        if (pid == 0)
                exec_command(h, lease, report_write, &before);
        close_fdp(&report_write);
        if (h->inherit)
                close_fdp(&lease);
        for (size_t i = 0; i < h->n_fds; i++)
                close_fdp(&h->fds[i]);

        do
                n = read(report_read, &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        r = wait_for(pid, signal_fd);
        if (n == (ssize_t) sizeof(error))
                return fail(t, "Failed", error == ENOENT ? 127 : 126, "Could not run '%s': %s. The VM is closed again.", h->command[0],
                            strerror(error));
        return r < 0 ? failed(t, "wait for the command", -r) : r;
}
