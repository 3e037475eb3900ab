/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holders: start under systemd or detached, connect, queue requests. */
#include "holder.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "fault.h"
#define START_TIMEOUT_USEC (10 * 1000000ULL)
/* A holder answers at once, or is of no use: then it is ended, which closes its VM. */
#define ANSWER_TIMEOUT_USEC (10 * 1000000ULL)
#define QUEUE_MAX 1024

struct request {
        struct json_object *message;
        struct ipc_fds fds;
        holder_done done;
        void *userdata;
        struct request *next;
};

struct Holder {
        Manager *manager;
        char *id;
        int socket;
        pid_t pid;
        int pidfd;
        bool broken; /* nothing is sent or read any more: it is being ended */
        sd_event_source *io, *end, *watch, *timeout, *patience;
        sd_bus_slot *starting; /* StartUnit has been called */
        struct request *head, **tail;
        bool waiting; /* head has been sent */
        bool asked_twice;
        size_t queued;
        unsigned version;
        holder_done started;
        holder_died died;
        holder_event event;
        void *userdata;
};

static int socket_path(Manager *m, const char *id, struct sockaddr_un *ret) {
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if (snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/holder/%s.sock", m->state_dir, id) >= (int) sizeof(ret->sun_path))
                return -ENAMETOOLONG;
        return 0;
}

static struct request *request_free(struct request *q) {
        json_putp(&q->message);
        ipc_fds_close(&q->fds);
        free(q);
        return NULL;
}

static void pop(Holder *h, int r, struct json_object *answer, struct ipc_fds *fds) {
        struct request *q = h->head;

        h->head = q->next;
        if (!h->head)
                h->tail = &h->head;
        h->queued--;
        h->waiting = false;
        (void) sd_event_source_set_enabled(h->patience, SD_EVENT_OFF);
        manager_touch(h->manager);
        if (q->done)
                q->done(r, answer, fds, q->userdata);
        request_free(q);
}

static void fail_all(Holder *h, int r) {
        while (h->head)
                pop(h, r, NULL, &(struct ipc_fds){});
}

static void ended(Holder *h) {
        h->end = sd_event_source_disable_unref(h->end);
        h->io = sd_event_source_disable_unref(h->io);
        h->socket = close_fd(h->socket);
        fail_all(h, -ENOTCONN);
        manager_touch(h->manager);
        if (h->died)
                h->died(h->userdata);
}

static int on_end(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        ended(userdata);
        return 0;
}

/*
 * The connection is of no use any more. That is not its death: it may still serve a client, so it is killed, and until it has ended, its
 * descriptors closed, it counts as alive and requests wait. Nothing is unwound below its vPCI server.
 */
static void gone(Holder *h) {
        int r;

        if (h->broken)
                return;
        h->broken = true;
        h->io = sd_event_source_disable_unref(h->io);
        (void) sd_event_source_set_enabled(h->patience, SD_EVENT_OFF);
        if (h->pidfd < 0) {
                ended(h); /* it had ended when we connected */
                return;
        }
        (void) pidfd_send_signal(h->pidfd, SIGKILL, NULL, 0);
        r = sd_event_add_io(h->manager->event, &h->end, h->pidfd, EPOLLIN, on_end, h);
        if (r < 0)
                log_oom();
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Holder *h = userdata;

        /* We may have been asleep ourselves, with its answer waiting: the loop gets one more round. */
        if (!h->asked_twice) {
                h->asked_twice = true;
                (void) sd_event_source_set_time_relative(h->patience, ANSWER_TIMEOUT_USEC);
                (void) sd_event_source_set_enabled(h->patience, SD_EVENT_ONESHOT);
                return 0;
        }
        log_error("VM %s: its holder (process %d) does not answer: ending it", h->id, (int) h->pid);
        gone(h);
        return 0;
}

static void send_next(Holder *h) {
        int r;

        if (h->waiting || !h->head || h->socket < 0 || h->broken)
                return;
        r = ipc_send(h->socket, h->head->message, h->head->fds.fd, h->head->fds.n);
        if (r < 0) {
                /* One request is under way at most, so a full socket means that the holder is of no use any more. */
                log_warning("VM %s: could not send to its holder: %s", h->id, strerror(-r));
                gone(h);
                return;
        }
        ipc_fds_close(&h->head->fds);
        h->waiting = true;
        h->asked_twice = false;
        (void) sd_event_source_set_time_relative(h->patience, ANSWER_TIMEOUT_USEC);
        (void) sd_event_source_set_enabled(h->patience, SD_EVENT_ONESHOT);
}

static int on_io(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        _cleanup_json_ struct json_object *answer = NULL;
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        Holder *h = userdata;
        int r;

        r = ipc_recv(h->socket, &answer, &fds);
        if (r == -EAGAIN)
                return 0;
        if (r == -EMFILE)
                log_warning("VM %s: could not take the descriptors that its holder sent: %s", h->id, strerror(-r));
        if ((r >= 0 || r == -EMFILE) && !isempty(json_str_or(answer, "event", NULL))) {
                if (h->event)
                        h->event(answer, &fds, h->userdata);
                return 0;
        }
        if ((r < 0 && r != -EMFILE) || !h->waiting) {
                /* Those two are what a dead one's socket says. */
                if (r != -ECONNRESET && r != -ENOTCONN)
                        log_error("VM %s: the connection to its holder (process %d) is broken (%s): ending it", h->id, (int) h->pid,
                                  r < 0 ? strerror(-r) : "an answer that nobody asked for");
                gone(h);
                return 0;
        }
        pop(h, r < 0 ? r : (int) json_i64_or(answer, "r", -EBADMSG), answer, &fds);
        send_next(h);
        return 0;
}

int holder_call(Holder *h, struct json_object *request, const int *fds, size_t n_fds, holder_done done, void *userdata) {
        struct request *q;

        if (h->socket < 0 || h->queued >= QUEUE_MAX) {
                json_object_put(request);
                return h->socket < 0 ? -ENOTCONN : -EAGAIN;
        }
        q = calloc(1, sizeof(*q));
        if (!q)
                log_oom();
        q->message = request;
        q->done = done;
        q->userdata = userdata;
        for (size_t i = 0; i < n_fds; i++) {
                q->fds.fd[i] = fd_dup(fds[i]);
                if (q->fds.fd[i] < 0) {
                        int r = q->fds.fd[i];

                        request_free(q);
                        return r;
                }
                q->fds.n++;
        }
        *h->tail = q;
        h->tail = &q->next;
        h->queued++;
        send_next(h);
        return 0;
}

void holder_drop(Holder *h, const char *key, const char *also, holder_done done, void *userdata) {
        struct json_object *q;
        int r = -ENOTCONN;

        if (holder_alive(h)) {
                q = json_new();
                json_set_str(q, "op", "drop");
                json_set_str(q, "key", key);
                if (also)
                        json_set_str(q, "also", also);
                r = holder_call(h, q, NULL, 0, done, userdata);
        }
        if (r < 0 && done)
                done(r, NULL, NULL, userdata);
}

static int attach_socket(Holder *h, int fd) {
        struct ucred peer;
        socklen_t len = sizeof(peer);
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
                return -errno;
        h->pid = peer.pid;
        h->pidfd = pidfd_open(peer.pid, 0);
        /* Its end could not be told from a broken connection. */
        if (h->pidfd < 0 && errno != ESRCH)
                return -errno;
        r = sd_event_add_time_relative(h->manager->event, &h->patience, CLOCK_MONOTONIC, ANSWER_TIMEOUT_USEC, 0, on_patience, h);
        if (r < 0)
                return r;
        (void) sd_event_source_set_enabled(h->patience, SD_EVENT_OFF);
        r = sd_event_add_io(h->manager->event, &h->io, fd, EPOLLIN, on_io, h);
        if (r < 0)
                return r;
        h->socket = fd;
        return 0;
}

static int try_connect(Holder *h) {
        _cleanup_close_ int fd = -EBADF;
        struct sockaddr_un sa;
        int r;

        r = socket_path(h->manager, h->id, &sa);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *) &sa, sizeof(sa)) < 0)
                return -errno;
        r = attach_socket(h, fd);
        if (r >= 0)
                (void) TAKE_FD(fd); /* the holder's now */
        return r;
}

static void on_hello(int r, struct json_object *answer, struct ipc_fds *fds, void *userdata) {
        Holder *h = userdata;

        if (r >= 0) {
                h->version = (unsigned) json_u64_or(answer, "version", 0);
                /* It may do what we do not understand, and a guest may be running. */
                if (version_check(answer, IPC_VERSION, fault_newer("holder")) == -EPROTONOSUPPORT)
                        r = -EPROTONOSUPPORT;
                /* A later one that serves us does so as one of ours would. */
                else if (h->version > IPC_VERSION)
                        h->version = IPC_VERSION;
        }
        h->started(r, answer, fds, h->userdata);
}

static int greet(Holder *h) {
        struct json_object *hello = json_new();

        json_set_str(hello, "op", "hello");
        json_set_u64(hello, "version", IPC_VERSION);
        return holder_call(h, hello, NULL, 0, on_hello, h);
}

static void start_failed(Holder *h, int r) {
        h->watch = sd_event_source_disable_unref(h->watch);
        h->timeout = sd_event_source_disable_unref(h->timeout);
        h->started(r, NULL, NULL, h->userdata);
}

static int on_watch(_unused_ sd_event_source *s, _unused_ const struct inotify_event *ev, void *userdata) {
        Holder *h = userdata;
        int r;

        if (h->socket >= 0)
                return 0;
        r = try_connect(h);
        if (r == -EMFILE || r == -ENFILE) {
                start_failed(h, r);
                return 0;
        }
        if (r < 0)
                return 0; /* another holder's socket */
        h->watch = sd_event_source_disable_unref(h->watch);
        h->timeout = sd_event_source_disable_unref(h->timeout);
        r = greet(h);
        if (r < 0)
                h->started(r, NULL, NULL, h->userdata);
        return 0;
}

static int on_timeout(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        start_failed(userdata, -ETIMEDOUT);
        return 0;
}

static int on_unit(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Holder *h = userdata;

        h->starting = sd_bus_slot_unref(h->starting);
        if (!sd_bus_message_is_method_error(reply, NULL))
                return 0; /* it is queued: the socket tells of success, the time limit of everything else */
        log_error("VM %s: systemd did not start tdid-vm@%s.service: %s", h->id, h->id, strempty(sd_bus_message_get_error(reply)->message));
        if (h->timeout)
                start_failed(h, -sd_bus_message_get_errno(reply));
        return 0;
}

/* A unit instance of its own: its cgroup, limits and sandbox, and nothing of tdid's end reaches it. */
static int start_unit(Holder *h) {
        _cleanup_free_ char *unit = NULL;

        if (asprintf(&unit, "tdid-vm@%s.service", h->id) < 0)
                return -ENOMEM;
        return sd_bus_call_method_async(h->manager->bus, &h->starting, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                        "org.freedesktop.systemd1.Manager", "StartUnit", on_unit, h, "ss", unit, "fail");
}

/* The first process, which ends right after its fork: nothing but reaped. */
static int on_forked(sd_event_source *s, _unused_ const siginfo_t *si, _unused_ void *userdata) {
        sd_event_source_disable_unref(s);
        return 0;
}

/* Without systemd: the holder forks itself away (--detach), so that it is neither our child nor in our session. */
static int start_detached(Holder *h) {
        _cleanup_free_ char *path = NULL, *id = NULL, *state = NULL, *host = NULL;
        posix_spawnattr_t attributes;
        posix_spawn_file_actions_t actions;
        sigset_t none, all;
        pid_t pid;
        int r;

        if (asprintf(&path, "%s/tdid-vm", h->manager->libexec_dir) < 0 || asprintf(&id, "--id=%s", h->id) < 0 ||
            asprintf(&state, "--state=%s", h->manager->state_dir) < 0 || asprintf(&host, "--host=%s", h->manager->host_spec) < 0)
                return -ENOMEM;
        sigemptyset(&none);
        sigfillset(&all);
        r = posix_spawnattr_init(&attributes);
        if (r != 0)
                return -r;
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        r = posix_spawn_file_actions_init(&actions);
        if (r == 0) {
                r = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
                if (r == 0)
                        r = posix_spawn(&pid, path, &actions, &attributes, (char *[]){ path, id, state, host, (char[]){ "--detach" }, NULL },
                                        environ);
                posix_spawn_file_actions_destroy(&actions);
        }
        posix_spawnattr_destroy(&attributes);
        if (r != 0)
                return -r;
        return sd_event_add_child(h->manager->event, &(sd_event_source *){ NULL }, pid, WEXITED, on_forked, NULL);
}

static int new_(Manager *m, const char *id, holder_done done, holder_died died, void *userdata, Holder **ret) {
        Holder *h = calloc(1, sizeof(*h));

        if (!h)
                return -ENOMEM;
        h->manager = m;
        h->socket = h->pidfd = -EBADF;
        h->tail = &h->head;
        h->started = done;
        h->died = died;
        h->userdata = userdata;
        h->id = strdup(id);
        if (!h->id) {
                free(h);
                return -ENOMEM;
        }
        *ret = h;
        return 0;
}

int holder_start(Manager *m, const char *id, holder_done done, holder_died died, void *userdata, Holder **ret) {
        _cleanup_free_ char *dir = NULL;
        Holder *h;
        int r;

        r = new_(m, id, done, died, userdata, &h);
        if (r < 0)
                return r;
        if (asprintf(&dir, "%s/holder", m->state_dir) < 0)
                log_oom();
        r = sd_event_add_inotify(m->event, &h->watch, dir, IN_MOVED_TO, on_watch, h);
        if (r >= 0)
                r = sd_event_add_time_relative(m->event, &h->timeout, CLOCK_MONOTONIC, START_TIMEOUT_USEC, 0, on_timeout, h);
        if (r >= 0)
                r = m->booted_by_systemd ? start_unit(h) : start_detached(h);
        if (r < 0) {
                holder_free(h);
                return r;
        }
        *ret = h;
        return 0;
}

int holder_connect(Manager *m, const char *id, holder_done done, holder_died died, void *userdata, Holder **ret) {
        Holder *h;
        int r;

        r = new_(m, id, done, died, userdata, &h);
        if (r < 0)
                return r;
        r = try_connect(h);
        if (r == -ECONNREFUSED)
                holder_remove_socket(m, id);
        if (r >= 0)
                r = greet(h);
        if (r < 0) {
                holder_free(h);
                return r;
        }
        *ret = h;
        return 0;
}

void holder_remove_socket(Manager *m, const char *id) {
        struct sockaddr_un sa;

        if (socket_path(m, id, &sa) >= 0)
                (void) unlink(sa.sun_path);
}

Holder *holder_free(Holder *h) {
        if (!h)
                return NULL;
        h->died = NULL;
        h->io = sd_event_source_disable_unref(h->io);
        sd_event_source_disable_unref(h->end);
        sd_event_source_disable_unref(h->watch);
        sd_event_source_disable_unref(h->timeout);
        sd_event_source_disable_unref(h->patience);
        sd_bus_slot_unref(h->starting);
        close_fd(h->socket);
        close_fd(h->pidfd);
        while (h->head) {
                struct request *q = h->head;

                h->head = q->next;
                request_free(q);
        }
        free(h->id);
        free(h);
        return NULL;
}

void holder_listen(Holder *h, holder_event event) {
        h->event = event;
}

unsigned holder_version(const Holder *h) {
        return h ? h->version : 0;
}

bool holder_alive(const Holder *h) {
        return h && h->socket >= 0;
}

pid_t holder_pid(const Holder *h) {
        return h ? h->pid : 0;
}

int holder_list(Manager *m, char ***ret) {
        _cleanup_free_ char *dir = NULL;
        _cleanup_(tdi_host_freep) TdiHost *files = NULL;
        char **names;
        size_t n = 0;
        int r;

        if (asprintf(&dir, "%s/holder", m->state_dir) < 0)
                return -ENOMEM;
        r = tdi_host_linux_new(&files);
        if (r >= 0)
                r = host_list(files, dir, &names);
        if (r < 0)
                return r;
        for (char **p = names; *p; p++) {
                char *dot = strrchr(*p, '.');

                if (dot && streq(dot, ".sock") && dot > *p && strspn(*p, "0123456789") == (size_t) (dot - *p)) {
                        *dot = '\0';
                        names[n++] = *p;
                } else
                        free(*p);
        }
        names[n] = NULL;
        *ret = names;
        return 0;
}
