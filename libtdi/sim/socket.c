/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sockets of files and connections: made, found by their inode, given up; and how many one process may have. */
#include "sim/server.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>

/* ---- peers ---- */

struct peer *peer_get(struct sim *sim, pid_t pid) {
        struct peer **bucket = &sim->peers[(unsigned) pid % PEER_BUCKETS], *p;

        for (p = *bucket; p; p = p->next)
                if (p->pid == pid)
                        return p;
        p = calloc(1, sizeof(*p));
        if (!p)
                return NULL;
        p->pid = pid;
        p->next = *bucket;
        *bucket = p;
        return p;
}

void peer_put(struct sim *sim, struct peer *p) {
        struct peer **q = &sim->peers[(unsigned) p->pid % PEER_BUCKETS];

        if (p->files > 0 || p->calls > 0 || p->connections > 0)
                return;
        while (*q != p)
                q = &(*q)->next;
        *q = p->next;
        free(p);
}

/* ---- sockets of files ---- */

static struct endpoint **bucket_of(struct sim *sim, uint64_t inode) {
        return &sim->endpoints[inode % ENDPOINT_BUCKETS];
}

struct endpoint *endpoint_find(struct sim *sim, uint64_t inode) {
        for (struct endpoint *e = *bucket_of(sim, inode); e; e = e->next)
                if (e->inode == inode)
                        return e;
        return NULL;
}

struct sim_file *file_of_fd(struct sim *sim, int fd) {
        struct endpoint *e;
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
                return NULL;
        e = endpoint_find(sim, st.st_ino);
        return e ? e->file : NULL;
}

int endpoint_new(struct sim_file *f, int *ret_client) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        _cleanup_free_ struct endpoint *e = NULL;
        size_t spare = FDS_SPARE, per_peer;
        struct sim *sim = f->sim;
        struct peer *p;
        struct stat st;
        int pair[2], r;

        if (spare > sim->fd_limit / 4)
                spare = sim->fd_limit / 4;
        if (sim->n_endpoints + sim->n_connections + spare >= sim->fd_limit)
                return -ENFILE;
        /* One process must not take what all have. */
        per_peer = sim->fd_limit / 4;
        p = peer_get(sim, f->opener);
        if (!p)
                return -ENOMEM;
        if (p->files > per_peer)
                return -EMFILE;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        if (fstat(theirs, &st) < 0)
                return -errno;
        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        *e = (struct endpoint){ .source = { .type = SOURCE_ENDPOINT, .fd = ours }, .inode = st.st_ino };
        r = source_add(sim, &e->source, EPOLLIN | EPOLLRDHUP);
        if (r < 0)
                return r;
        e->file = sim_file_get(f);
        e->next = *bucket_of(sim, e->inode);
        *bucket_of(sim, e->inode) = e;
        sim->n_endpoints++;
        ((struct open_file *) f)->endpoint = e;
        if (uevent_is(f))
                uevent_attach(f, e);
        (void) TAKE_FD(ours);
        (void) TAKE_PTR(e);
        *ret_client = TAKE_FD(theirs);
        return 0;
}

static void release_file(struct call *k) {
        k->file = sim_file_put(&k->c, k->file);
}

void sim_file_signal(struct sim_file *f) {
        const struct endpoint *e = ((struct open_file *) f)->endpoint;

        if (e)
                (void) send(e->source.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The last copy of a file's socket has gone. */
void endpoint_drop(struct sim *sim, struct endpoint *e) {
        struct endpoint **p = bucket_of(sim, e->inode);
        struct sim_file *f = e->file;
        struct call *k;

        while (*p != e)
                p = &(*p)->next;
        *p = e->next;
        sim->n_endpoints--;
        source_remove(sim, &e->source);
        close_fd(e->source.fd);
        if (((struct open_file *) f)->endpoint == e)
                ((struct open_file *) f)->endpoint = NULL;
        if (uevent_is(f))
                uevent_attach(f, NULL);
        free(e);
        if (f->refs > 1) {
                f->refs--;
                return;
        }
        if (((struct open_file *) f)->tree) {
                struct sim_call c = { .sim = sim };

                sim_file_put(&c, f);
                return;
        }
        k = call_new(sim, release_file);
        if (!k) {
                sim_log(sim, "no memory to release %s", f->name);
                return;
        }
        snprintf(k->name, sizeof(k->name), "%s", f->name);
        snprintf(k->device, sizeof(k->device), "%s", f->device);
        k->op = SIM_CLOSE;
        k->file = f;
        /*
         * Whoever closed it went on only when it was released, unless the release sleeps: then its process is dead here while it would
         * still be exiting in a kernel, which nobody can be told from here.
         */
        k->unsettled = true;
        sim->n_unsettled++;
        call_submit(k);
        while (sim->n_unsettled > 0)
                (void) pthread_cond_wait(&sim->settled, &sim->lock);
}

/* ---- connections ---- */

struct connection *connection_unref(struct sim *sim, struct connection *connection) {
        struct peer *p;

        if (--connection->refs > 0)
                return NULL;
        LIST_REMOVE(connection, link);
        sim->n_connections--;
        p = peer_get(sim, connection->pid);
        if (p) {
                if (p->connections > 0)
                        p->connections--;
                peer_put(sim, p);
        }
        free(connection->answer);
        free(connection);
        return NULL;
}

void connection_drop(struct sim *sim, struct connection *connection) {
        source_remove(sim, &connection->source);
        connection->source.fd = close_fd(connection->source.fd);
        connection_unref(sim, connection);
}

static int connection_new(struct sim *sim, int fd) {
        _cleanup_close_ int taken = fd;
        _cleanup_free_ struct connection *connection = NULL;
        socklen_t len = sizeof(struct ucred);
        struct ucred cred = {};
        struct peer *p;
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
                return -errno;
        p = peer_get(sim, cred.pid);
        connection = calloc(1, sizeof(*connection));
        if (!p || !connection)
                return -ENOMEM;
        if (p->connections >= CONNECTIONS_PER_PEER)
                return -EMFILE;
        *connection = (struct connection){ .source = { .type = SOURCE_CONNECTION, .fd = fd }, .refs = 1, .pid = cred.pid };
        r = source_add(sim, &connection->source, EPOLLIN | EPOLLRDHUP);
        if (r < 0) {
                peer_put(sim, p);
                return r;
        }
        p->connections++;
        sim->n_connections++;
        LIST_INSERT_HEAD(&sim->connections, connection, link);
        (void) TAKE_FD(taken);
        (void) TAKE_PTR(connection);
        return 0;
}

int sim_connect_take_fd(struct sim *sim, int fd) {
        int r;

        sim_lock(sim);
        r = connection_new(sim, fd);
        sim_unlock(sim);
        return r;
}

void connections_accept(struct sim *sim) {
        for (;;) {
                int fd = accept4(sim->listener.fd, NULL, NULL, SOCK_CLOEXEC);

                if (fd >= 0) {
                        (void) connection_new(sim, fd);
                        continue;
                }
                if (errno != EMFILE && errno != ENFILE)
                        return;
                /* Left in the queue it would wake us for ever. */
                sim->reserve = close_fd(sim->reserve);
                fd = accept4(sim->listener.fd, NULL, NULL, SOCK_CLOEXEC);
                close_fd(fd);
                sim->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        return;
        }
}

int sim_listen(struct sim *sim, const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        mode_t mask;
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (lstat(path, &st) >= 0) {
                if (!S_ISSOCK(st.st_mode))
                        return -EEXIST;
                if (connect(fd, (struct sockaddr *) &address, sizeof(address)) >= 0 || errno == EAGAIN)
                        return -EADDRINUSE;
                (void) unlink(path);
        }
        mask = umask(0177);
        r = bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ? -errno : 0;
        (void) umask(mask);
        if (r < 0)
                return r;
        if (listen(fd, SOMAXCONN) < 0)
                return -errno;
        sim->path = strdup(path);
        if (!sim->path)
                return -ENOMEM;
        sim->listener = (struct source){ .type = SOURCE_LISTENER, .fd = fd };
        r = source_add(sim, &sim->listener, EPOLLIN);
        if (r >= 0)
                (void) TAKE_FD(fd);
        return r;
}
