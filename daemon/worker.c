/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Worker processes: start, command, answer, rest, reap. */
#include "worker.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CHILD_SOCKET 3
#define FD_ABOVE_CHILD 10
/* One for a function and one for its VM: what a life of a VM with one function takes. */
#define SPARES 2
/* After the last one was handed out: by then most of them rest again, and a start is in nobody's way. */
#define REFILL_USEC 2000000ULL

struct Worker {
        Manager *manager;
        int socket, pidfd;
        int lock;      /* goes with the first command */
        bool ready;    /* spare, and proved to hold nothing */
        bool failed;   /* something did: it is not handed out again */
        bool waits;    /* for an acknowledgement */
        size_t ran;
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

static void drop_spare(Worker *w) {
        manager_remove((void **) w->manager->spares, &w->manager->n_spares, w);
        worker_free(w);
}

static bool is_spare(const Worker *w) {
        for (size_t i = 0; i < w->manager->n_spares; i++)
                if (w->manager->spares[i] == w)
                        return true;
        return false;
}

static int on_answer(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        _cleanup_json_ struct json_object *answer = NULL;
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        struct json_object *values = NULL;
        Worker *w = userdata;
        worker_done done;
        int64_t result;
        int r;

        r = ipc_recv(w->socket, &answer, &fds);
        if (r == -EAGAIN)
                return 0;
        manager_touch(w->manager);
        if (r < 0)
                w->io = sd_event_source_disable_unref(w->io);
        done = w->done;
        w->done = NULL;
        if (!done) {
                if (r < 0 && is_spare(w))
                        drop_spare(w);
                return 0;
        }
        if (r < 0) {
                done(w, -ECONNRESET, r == -EMFILE ? "tdid could not take the descriptors that the worker sent: Too many open files" : "the worker process died", NULL, &fds,
                     w->userdata);
                return 0;
        }
        (void) json_get_object(answer, "values", &values);
        result = json_i64_or(answer, "r", -EBADMSG);
        w->ran = (size_t) json_u64_or(answer, "ran", 0);
        w->failed |= result < 0;
        w->waits = fds.n > 0;
        done(w, (int) result, json_str_or(answer, "text", ""), values, &fds, w->userdata);
        return 0;
}

int worker_open_program(Manager *m) {
        _cleanup_free_ char *path = NULL;
        char self[32];
        ssize_t n;

        if (asprintf(&path, "%s/tdid-worker", m->libexec_dir) < 0)
                return -ENOMEM;
        m->worker_program = open(path, O_PATH | O_CLOEXEC);
        if (m->worker_program < 0) {
                int r = -errno;

                log_error("could not open %s: %s; is tdid installed as a whole?", path, strerror(-r));
                return r;
        }
        /* Our number where /proc counts: that may be another namespace of processes than ours. */
        n = readlink("/proc/self", self, sizeof(self) - 1);
        if (n < 0)
                return -errno;
        self[n] = '\0';
        snprintf(m->worker_path, sizeof(m->worker_path), "/proc/%s/fd/%d", self, m->worker_program);
        return 0;
}

/*
 * The child executes our descriptor by its name in /proc, as posix_spawn() cannot do it otherwise: its own copy is closed by then, and would be
 * left to the worker if it were not. A program that is a script can be executed by that name too.
 */
static int spawn(Manager *m, int socket, pid_t *ret) {
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
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(&actions, CHILD_SOCKET + 1);
        if (r == 0)
                r = posix_spawn(ret, m->worker_path, &actions, &attributes, (char *[]){ path, host, NULL }, environ);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        if (r != 0)
                log_error("could not start %s, as it was when tdid was started: execute %s: %s", path, m->worker_path, strerror(r));
        return -r;
}

/* The child's descriptor must not have the number that it gets it as. */
static int raise_fd(int fd) {
        int r = fcntl(fd, F_DUPFD_CLOEXEC, FD_ABOVE_CHILD);

        return r < 0 ? -errno : r;
}

static int start(Manager *m, Worker **ret) {
        _cleanup_(worker_freep) Worker *w = NULL;
        _cleanup_close_ int theirs = -EBADF;
        sd_event_source *child = NULL; /* frees itself: on_exit_() */
        int pair[2], r;
        pid_t pid = 0;

        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        w->manager = m;
        w->socket = w->pidfd = w->lock = -EBADF;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        w->socket = pair[0];
        theirs = raise_fd(pair[1]);
        close_fd(pair[1]);
        if (theirs < 0)
                return theirs;
        /* Only our end: the worker's must block. */
        r = fcntl(w->socket, F_SETFL, O_NONBLOCK);
        if (r < 0)
                return -errno;
        r = spawn(m, theirs, &pid);
        if (r < 0)
                return r;
        r = sd_event_add_child(m->event, &child, pid, WEXITED, on_exit_, m);
        /* One-shot, as it comes, the event is lost where the dead process cannot be waited for at once: while somebody traces it. */
        if (r >= 0)
                r = sd_event_source_set_enabled(child, SD_EVENT_ON);
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

/* ---- spare ones ---- */

unsigned worker_count(const Manager *m) {
        return m->n_workers > m->n_spares ? m->n_workers - (unsigned) m->n_spares : 0;
}

static void add_spare(Worker *w) {
        Manager *m = w->manager;

        manager_append((void ***) &m->spares, &m->n_spares, &m->room_spares, w);
}

static int on_refill(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Manager *m = userdata;

        while (m->n_spares < SPARES && !m->stopping) {
                Worker *w = NULL;

                if (start(m, &w) < 0 || !w)
                        break;
                w->ready = true;
                add_spare(w);
        }
        return 0;
}

void worker_keep_spares(Manager *m) {
        if (!m->refill && sd_event_add_time(m->event, &m->refill, CLOCK_MONOTONIC, 0, 0, on_refill, m) < 0)
                log_oom();
}

static bool has_ended(const Worker *w) {
        struct pollfd p = { .fd = w->pidfd, .events = POLLIN };

        return w->pidfd >= 0 && poll(&p, 1, 0) != 0;
}

static Worker *take_spare(Manager *m) {
        for (size_t i = m->n_spares; i > 0; i--) {
                Worker *w = m->spares[i - 1];

                if (!w->ready)
                        continue;
                if (has_ended(w)) {
                        drop_spare(w);
                        continue;
                }
                manager_remove((void **) m->spares, &m->n_spares, w);
                w->ready = false;
                return w;
        }
        return NULL;
}

static void on_rested(Worker *w, int r, _unused_ const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                      _unused_ void *userdata) {
        if (r < 0)
                drop_spare(w);
        else
                w->ready = true;
}

Worker *worker_rest(Worker *w) {
        if (!w)
                return NULL;
        if (w->failed || w->waits || !w->manager->refill || w->manager->n_spares >= SPARES ||
            worker_call(w, "rest", "do", NULL, NULL, 0, on_rested, NULL) < 0)
                return worker_free(w);
        add_spare(w);
        return NULL;
}

void worker_free_spares(Manager *m) {
        while (m->n_spares > 0)
                worker_free(m->spares[--m->n_spares]);
        free(m->spares);
        m->refill = sd_event_source_disable_unref(m->refill);
}

/* ---- for those with work ---- */

int worker_new(Manager *m, int lock, Worker **ret) {
        _cleanup_(worker_freep) Worker *w = NULL;
        int r;

        /* Only those of functions count: what reads, or closes a VM, must never wait for a place. */
        if (lock >= 0 && worker_count(m) >= m->config.workers)
                return -EAGAIN;
        w = take_spare(m);
        r = w ? 0 : start(m, &w);
        if (r < 0)
                return r;
        if (lock >= 0) {
                w->lock = fd_dup(lock);
                if (w->lock < 0)
                        return w->lock;
        }
        if (m->refill) {
                (void) sd_event_source_set_time_relative(m->refill, REFILL_USEC);
                (void) sd_event_source_set_enabled(m->refill, SD_EVENT_ONESHOT);
        }
        *ret = TAKE_PTR(w);
        return 0;
}

Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->io);
        close_fd(w->socket);
        close_fd(w->pidfd);
        close_fd(w->lock);
        free(w);
        return NULL;
}

static int call(Worker *w, const char *const *ops, size_t n_ops, const char *verb, struct json_object *args, const int *fds, size_t n_fds,
                worker_done done, void *userdata) {
        _cleanup_json_ struct json_object *command = json_new();
        struct json_object *list = json_new_array();
        int all[IPC_FDS_MAX], r;
        size_t n = 0;

        for (size_t i = 0; i < n_ops; i++)
                json_push_str(list, ops[i]);
        json_set_take(command, "ops", list);
        if (w->done || !w->io)
                return -EBUSY;
        if (n_fds >= IPC_FDS_MAX)
                return -EMSGSIZE;
        json_set_str(command, "verb", verb);
        json_set_take(command, "args", json_object_get(args));
        if (w->lock >= 0) {
                json_set_bool(command, "lock", true);
                all[n++] = w->lock;
        }
        for (size_t i = 0; i < n_fds; i++)
                all[n++] = fds[i];
        w->ran = 0;
        r = ipc_send(w->socket, command, all, n);
        if (r < 0)
                return r;
        /* From here the lock is the worker's alone. */
        w->lock = close_fd(w->lock);
        w->done = done;
        w->userdata = userdata;
        return 0;
}

int worker_call(Worker *w, const char *op, const char *verb, struct json_object *args, const int *fds, size_t n_fds, worker_done done,
                void *userdata) {
        return call(w, &op, 1, verb, args, fds, n_fds, done, userdata);
}

int worker_call_all(Worker *w, const char *const *ops, size_t n_ops, const char *verb, struct json_object *args, worker_done done,
                    void *userdata) {
        return call(w, ops, n_ops, verb, args, NULL, 0, done, userdata);
}

size_t worker_ran(const Worker *w) {
        return w->ran;
}

int worker_acknowledge(Worker *w) {
        _cleanup_json_ struct json_object *ack = json_new();

        w->waits = false;
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
