/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The control socket's protocol. */
#include "vm/serve.h"

#include <poll.h>
#include <sys/socket.h>

#include "fault.h"
#include "vm/vpci/vpci.h"

/* The record that comes with a request, NULL when none does; hello has to fit into one answer. */
static int get_state(struct json_object *request, struct json_object **ret) {
        size_t size;
        int r;

        r = json_get_object(request, "state", ret);
        if (r == -ENOENT) {
                *ret = NULL;
                return 0;
        }
        if (r < 0)
                return r;
        (void) json_object_to_json_string_length(*ret, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
        return size > STORE_STATE_MAX ? -E2BIG : 0;
}

static int do_put(struct store *s, struct json_object *request, struct ipc_fds *fds) {
        struct json_object *state = NULL;
        int fd, r;

        r = get_state(request, &state);
        if (r < 0 || fds->n != 1)
                return r < 0 ? r : -EINVAL;
        fd = ipc_fds_take(fds, 0);
        r = store_put(s, json_str_or(request, "key", ""), fd);
        if (r < 0) {
                close_fd(fd);
                return r;
        }
        if (state)
                store_set_state(s, state);
        return 0;
}

static int do_get(struct store *s, struct json_object *request, struct json_object *answer, int answer_fds[], size_t *ret_n) {
        struct json_object *keys;
        size_t n;

        if (json_get_array(request, "keys", &keys) < 0)
                return -EINVAL;
        n = json_object_array_length(keys);
        if (n > IPC_FDS_MAX)
                return -E2BIG;
        for (size_t i = 0; i < n; i++) {
                int fd = store_get(s, strempty(json_object_get_string(json_object_array_get_idx(keys, i))));

                if (fd < 0)
                        return fd;
                answer_fds[i] = fd;
        }
        json_set_take(answer, "keys", json_object_get(keys));
        *ret_n = n;
        return 0;
}

static void do_hello(struct store *s, const char *id, struct json_object *answer) {
        struct json_object *keys = json_new_array();

        version_set(answer, IPC_VERSION, fault_newer("holder"));
        json_set_str(answer, "id", id);
        for (size_t i = 0; i < s->n; i++)
                json_push_str(keys, s->entries[i].key);
        json_set_take(answer, "keys", keys);
        if (s->state)
                json_set_take(answer, "state", json_object_get(s->state));
}

struct json_object *serve_request(struct store *s, struct vpci *v, const char *id, struct json_object *request, struct ipc_fds *fds,
                                  int answer_fds[], size_t *ret_n, bool *ret_exit) {
        struct json_object *answer = json_new(), *state;
        const char *op = json_str_or(request, "op", "");
        int r = 0;

        *ret_n = 0;
        if (streq(op, "hello"))
                do_hello(s, id, answer);
        else if (streq(op, "put"))
                r = do_put(s, request, fds);
        else if (streq(op, "get"))
                r = do_get(s, request, answer, answer_fds, ret_n);
        else if (streq(op, "drop")) {
                r = get_state(request, &state);
                if (r >= 0)
                        r = store_drop(s, json_str_or(request, "key", ""));
                (void) store_drop(s, json_str_or(request, "also", ""));
                if (r >= 0 && state)
                        store_set_state(s, state);
        } else if (streq(op, "state")) {
                r = get_state(request, &state);
                if (r >= 0 && !state)
                        r = -ENOENT;
                if (r >= 0)
                        store_set_state(s, state);
        } else if (streq(op, "exit"))
                *ret_exit = true;
        else if (startswith(op, "vpci.") && v) {
                r = vpci_request(v, s, op, request, fds, answer);
                if (r > 0) {
                        json_object_put(answer);
                        return NULL;
                }
        } else
                r = -EOPNOTSUPP;
        json_set_i64(answer, "r", r);
        return answer;
}

static int accept_root(int listener) {
        struct ucred peer;
        socklen_t len = sizeof(peer);
        int fd;

        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
                return -errno;
        /* The folder is root's alone; this is the second lock. */
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid != 0 && peer.uid != getuid())) {
                close_fd(fd);
                return -EPERM;
        }
        return fd;
}

/* @owed: the answer comes later. */
static int answer_one(int connection, const char *id, struct store *s, struct vpci *v, bool *owed, bool *ret_exit) {
        _cleanup_json_ struct json_object *request = NULL, *answer = NULL;
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        int answer_fds[IPC_FDS_MAX];
        size_t n;
        int r;

        r = ipc_recv(connection, &request, &fds);
        if (r < 0)
                return r;
        answer = serve_request(s, v, id, request, &fds, answer_fds, &n, ret_exit);
        *owed |= !answer;
        return answer ? ipc_send(connection, answer, answer_fds, n) : 0;
}

/* tdid's connection, -EBADF while there is none: what it misses meanwhile, it sees in vpci.state. */
static int tell(struct json_object *event, const int *fds, size_t n_fds, void *userdata) {
        const int *connection = userdata;

        return *connection >= 0 ? ipc_try_send(*connection, event, fds, n_fds) : -ENOTCONN;
}

/* To a question of a tdid that has gone it is nobody's: its successor would take it for the answer to another. */
static int answer_put_off(int connection, struct vpci *v, bool *owed) {
        _cleanup_json_ struct json_object *answer = vpci_take_answer(v);
        bool wanted = answer && *owed;

        *owed &= !answer;
        return wanted && connection >= 0 ? ipc_send(connection, answer, NULL, 0) : 0;
}

/* A holder that nobody gave anything to, and nobody talks to, was started by a tdid that died at that moment. */
#define FORGOTTEN_MSEC 30000
#define OWN_FDS 2

static int serve_all(int listener, const char *id, struct store *s, struct vpci *v, int *connection) {
        bool done = false, owed = false;

        while (!done) {
                struct pollfd p[OWN_FDS + VPCI_POLL_MAX] = {
                        { .fd = listener, .events = POLLIN },
                        { .fd = *connection, .events = POLLIN },
                };
                int timeout = *connection < 0 && s->n == 0 ? FORGOTTEN_MSEC : -1, n;
                bool forgotten = timeout >= 0;
                size_t n_vpci = vpci_poll(v, p + OWN_FDS, &timeout);

                n = poll(p, OWN_FDS + n_vpci, timeout);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (n == 0 && forgotten && timeout == FORGOTTEN_MSEC)
                        return 0;
                if (p[0].revents) {
                        int fd = accept_root(listener);

                        if (fd >= 0) {
                                close_fd(*connection);
                                *connection = fd;
                                owed = false;
                                continue;
                        }
                }
                vpci_dispatch(v, p + OWN_FDS, n_vpci);
                if (p[1].revents && answer_one(*connection, id, s, v, &owed, &done) < 0)
                        *connection = close_fd(*connection);
                if (answer_put_off(*connection, v, &owed) < 0)
                        *connection = close_fd(*connection);
        }
        return 0;
}

int serve(int listener, TdiHost *host, const char *id, struct store *s) {
        _cleanup_close_ int connection = -EBADF;
        struct vpci *v;
        int r;

        r = vpci_new(host, tell, &connection, &v);
        if (r < 0)
                return r;
        r = serve_all(listener, id, s, v, &connection);
        connection = close_fd(connection);
        vpci_free(v);
        return r;
}
