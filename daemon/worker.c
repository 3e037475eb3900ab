/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Worker processes: start, command, answer, reap. */
#include "worker.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CHILD_SOCKET 3
#define CHILD_LOCK 4
#define FD_ABOVE_CHILD 10

struct Worker {
        Manager *manager;
        int socket, pidfd;
        sd_event_source *io;
        worker_done done;
        void *userdata;
};

static int on_exit_(sd_event_source *s, const siginfo_t *si, void *userdata) {
        Manager *m = userdata;

        m->n_workers--;
        if (si->si_code != CLD_EXITED || si->si_status != 0)
                log_warning("worker %d ended with %s %d", (int) si->si_pid, si->si_code == CLD_EXITED ? "code" : "signal", si->si_status);
        sd_event_source_disable_unref(s);
        manager_touch(m);
        return 0;
}

static int on_answer(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        _cleanup_json_ struct json_object *answer = NULL;
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        struct json_object *values = NULL;
        Worker *w = userdata;
        worker_done done;
        int r;

        r = ipc_recv(w->socket, &answer, &fds);
        if (r == -EAGAIN)
                return 0;
        if (r < 0)
                w->io = sd_event_source_disable_unref(w->io);
        done = w->done;
        w->done = NULL;
        if (!done) {
                manager_touch(w->manager);
                return 0;
        }
        manager_touch(w->manager);
        if (r < 0) {
                done(w, -ECONNRESET, "the worker process died", NULL, &fds, w->userdata);
                return 0;
        }
        (void) json_get_object(answer, "values", &values);
        done(w, (int) json_i64_or(answer, "r", -EBADMSG), json_str_or(answer, "text", ""), values, &fds, w->userdata);
        return 0;
}

static int spawn(Manager *m, int socket, int lock, pid_t *ret) {
        _cleanup_free_ char *path = NULL, *host = NULL;
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        int r;

        if (asprintf(&path, "%s/tdid-worker", m->libexec_dir) < 0 || asprintf(&host, "--host=%s", m->host_spec) < 0)
                return -ENOMEM;
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return -r;
        }
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        r = posix_spawn_file_actions_adddup2(&actions, socket, CHILD_SOCKET);
        if (r == 0 && lock >= 0)
                r = posix_spawn_file_actions_adddup2(&actions, lock, CHILD_LOCK);
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(&actions, lock >= 0 ? CHILD_LOCK + 1 : CHILD_SOCKET + 1);
        if (r == 0)
                r = posix_spawn(ret, path, &actions, &attributes, (char *[]){ path, host, NULL }, environ);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        if (r != 0)
                log_error("could not start %s: %s", path, strerror(r));
        return -r;
}

/* The child's descriptors must not be among the numbers that it gets them as. */
static int raise_fd(int fd) {
        int r = fcntl(fd, F_DUPFD_CLOEXEC, FD_ABOVE_CHILD);

        return r < 0 ? -errno : r;
}

int worker_new(Manager *m, int lock, Worker **ret) {
        _cleanup_(worker_freep) Worker *w = NULL;
        _cleanup_close_ int theirs = -EBADF, their_lock = -EBADF;
        int pair[2], r;
        pid_t pid = 0;

        /* Only those of functions count: what reads, or closes a VM, must never wait for a place. */
        if (lock >= 0 && m->n_workers >= m->config.workers)
                return -EAGAIN;
        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        w->manager = m;
        w->socket = w->pidfd = -EBADF;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        w->socket = pair[0];
        theirs = raise_fd(pair[1]);
        close_fd(pair[1]);
        if (theirs < 0)
                return theirs;
        if (lock >= 0) {
                their_lock = raise_fd(lock);
                if (their_lock < 0)
                        return their_lock;
        }
        /* Only our end: the worker's must block. */
        r = fcntl(w->socket, F_SETFL, O_NONBLOCK);
        if (r < 0)
                return -errno;
        r = spawn(m, theirs, their_lock, &pid);
        if (r < 0)
                return r;
        r = sd_event_add_child(m->event, &(sd_event_source *){ NULL }, pid, WEXITED, on_exit_, m);
        if (r < 0)
                return r;
        m->n_workers++;
        w->pidfd = pidfd_open(pid, 0);
        r = sd_event_add_io(m->event, &w->io, w->socket, EPOLLIN, on_answer, w);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->io);
        close_fd(w->socket);
        close_fd(w->pidfd);
        free(w);
        return NULL;
}

int worker_call(Worker *w, const char *op, const char *verb, struct json_object *args, const int *fds, size_t n_fds, worker_done done,
                void *userdata) {
        _cleanup_json_ struct json_object *command = json_new();
        int r;

        if (w->done || !w->io)
                return -EBUSY;
        json_set_str(command, "op", op);
        json_set_str(command, "verb", verb);
        json_set_take(command, "args", json_object_get(args));
        r = ipc_send(w->socket, command, fds, n_fds);
        if (r < 0)
                return r;
        w->done = done;
        w->userdata = userdata;
        return 0;
}

int worker_acknowledge(Worker *w) {
        _cleanup_json_ struct json_object *ack = json_new();

        return ipc_send(w->socket, ack, NULL, 0);
}

void worker_kill(Worker *w) {
        if (w->pidfd >= 0)
                (void) pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
}

bool worker_busy(const Worker *w) {
        return w->done != NULL;
}

bool worker_alive(const Worker *w) {
        return w && w->io;
}

static void ignore(_unused_ Worker *w, _unused_ int r, _unused_ const char *text, _unused_ struct json_object *values,
                   _unused_ struct ipc_fds *fds, _unused_ void *userdata) {
}

void worker_close_fd(Manager *m, int fd) {
        Worker *w = NULL;

        if (fd < 0)
                return;
        /* The message stays readable after our end has gone: the worker takes the descriptor, finds the end, and exits. */
        if (worker_new(m, -EBADF, &w) < 0 || !w || worker_call(w, "vm.take", "do", NULL, &fd, 1, ignore, NULL) < 0)
                log_warning("no worker to close a descriptor: closing it here");
        worker_free(w);
        close_fd(fd);
}
