/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What comes in on a socket: a packet is taken apart into a call, or refused. Senders are not trusted: whatever they send costs
 * them that call or their connection, and nobody else anything.
 */
#include "sim/server.h"

#include <stdio.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* From one socket in one round, so that none keeps the others waiting. */
#define PACKETS_PER_ROUND 16

struct packet {
        struct sim_request request;
        const uint8_t *payload;
        int answer; /* owned */
        int fds[SIM_FDS_MAX];
        unsigned n_fds;
        struct ucred from;
};

static void packet_done(struct packet *p) {
        p->answer = close_fd(p->answer);
        for (unsigned i = 0; i < p->n_fds; i++)
                close_fd(p->fds[i]);
        p->n_fds = 0;
}

void packet_refuse(int answer, int64_t r) {
        struct sim_reply reply = { .r = r };

        (void) send(answer, &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* We write to it with our own rights: it must be what a client of ours makes for that. Whoever made the pair is the caller. */
static int check_answer(int fd, struct ucred *ret_from) {
        socklen_t len = sizeof(*ret_from);
        int domain, type;

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){ sizeof(domain) }) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof(type) }) < 0)
                return -errno;
        if (domain != AF_UNIX || type != SOCK_SEQPACKET)
                return -EINVAL;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_from, &len) < 0)
                return -errno;
        return ret_from->pid > 0 ? 0 : -ESRCH;
}

/* All descriptors of a message, the answer's first. -EMSGSIZE when there are more than can be meant. */
static int take_fds(struct msghdr *m, struct packet *p) {
        int r = m->msg_flags & MSG_CTRUNC ? -EMSGSIZE : 0;

        for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
                size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
                        if (p->answer < 0)
                                p->answer = fd;
                        else if (p->n_fds < SIM_FDS_MAX)
                                p->fds[p->n_fds++] = fd;
                        else {
                                close_fd(fd);
                                r = -EMSGSIZE;
                        }
                }
        }
        return r;
}

/* 0; -EAGAIN when there is nothing, -ECONNRESET at the end, -EBADMSG for what is no packet of ours (it may have an answer's socket). */
static int receive(struct sim *sim, int fd, struct packet *p) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * (1 + SIM_FDS_MAX))];
        } control;
        struct iovec iov = { sim->packet, sizeof(struct sim_request) + SIM_PAYLOAD_MAX };
        struct msghdr m;
        ssize_t n;
        int r;

        *p = (struct packet){ .answer = -EBADF };
        do {
                m = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
                n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
                /* ECONNRESET is said once, before what is still in the queue. */
        } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0)
                return errno == EAGAIN ? -EAGAIN : -ECONNRESET;
        r = take_fds(&m, p);
        if (p->answer >= 0 && check_answer(p->answer, &p->from) < 0) {
                p->answer = close_fd(p->answer);
                return -EBADMSG;
        }
        if (n == 0 && p->answer < 0) {
                int queued = 0;

                /* The end, or an empty packet, which must not hide what is behind it. */
                return ioctl(fd, SIOCINQ, &queued) >= 0 && queued > 0 ? -EBADMSG : -ECONNRESET;
        }
        if (r < 0 || (m.msg_flags & MSG_TRUNC) || (size_t) n < sizeof(p->request) || p->answer < 0)
                return -EBADMSG;
        memcpy(&p->request, sim->packet, sizeof(p->request));
        p->payload = sim->packet + sizeof(p->request);
        if (p->request.magic != SIM_MAGIC || p->request.size != (size_t) n - sizeof(p->request) || p->request.fds != p->n_fds)
                return -EBADMSG;
        return 0;
}

static bool op_known(enum source_type type, uint32_t op) {
        return type == SOURCE_CONNECTION ? op >= SIM_OPEN && op <= SIM_FDINFO : op >= SIM_CLOSE && op <= SIM_IOCTL;
}

/* A call of a packet; takes the packet's descriptors on success. */
static int make_call(struct sim *sim, struct source *s, struct packet *p, struct call **ret) {
        struct peer *peer = peer_get(sim, p->from.pid);
        struct call *k;

        if (!peer)
                return -ENOMEM;
        if (peer->calls >= CALLS_PER_PEER)
                return -EAGAIN;
        k = call_new(sim, serve_call);
        if (!k) {
                peer_put(sim, peer);
                return -ENOMEM;
        }
        peer->calls++;
        k->peer = peer;
        k->payload = malloc(p->request.size + 1);
        if (!k->payload) {
                call_free(k);
                return -ENOMEM;
        }
        memcpy(k->payload, p->payload, p->request.size);
        k->payload[p->request.size] = '\0';
        k->size = p->request.size;
        k->c.pid = p->from.pid;
        /* Who runs the simulation is root on its machine. */
        k->c.uid = p->from.uid == geteuid() ? 0 : p->from.uid;
        k->c.server = k;
        k->op = p->request.op;
        k->a = p->request.a;
        k->b = p->request.b;
        k->source.fd = TAKE_FD(p->answer);
        memcpy(k->fds, p->fds, sizeof(k->fds));
        k->n_fds = p->n_fds;
        p->n_fds = 0;
        k->sequence = ++sim->sequence;
        if (s->type == SOURCE_CONNECTION) {
                k->connection = (struct connection *) s;
                k->connection->refs++;
        } else {
                struct endpoint *e = (struct endpoint *) s;

                k->file = sim_file_get(e->file);
                if (k->op == SIM_CLOSE)
                        k->a = e->inode;
        }
        *ret = k;
        return 0;
}

/* True when the closer has closed (or died): the call can be made. */
static bool closed(struct call *k) {
        ssize_t n;
        char byte;

        n = recv(k->source.fd, &byte, 1, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n <= 0)
                k->silent = true;
        return true;
}

static void accept_call(struct sim *sim, struct call *k, struct call_list *calls) {
        if (k->op != SIM_CLOSE) {
                TAILQ_INSERT_TAIL(calls, k, queue);
                return;
        }
        snprintf(k->name, sizeof(k->name), "%s", k->file->name);
        snprintf(k->device, sizeof(k->device), "%s", k->file->device);
        if (closed(k)) {
                stuck_closed(sim, k->a);
                TAILQ_INSERT_TAIL(calls, k, queue);
                return;
        }
        k->closing = true;
        TAILQ_INSERT_TAIL(&sim->calls, k, link);
        if (source_add(sim, &k->source, EPOLLIN | EPOLLRDHUP) >= 0)
                k->watched = true;
        else {
                k->closing = false;
                TAILQ_REMOVE(&sim->calls, k, link);
                TAILQ_INSERT_TAIL(calls, k, queue);
        }
}

void packet_close_ready(struct sim *sim, struct call *k, struct call_list *calls) {
        if (!closed(k))
                return;
        k->closing = false;
        TAILQ_REMOVE(&sim->calls, k, link);
        if (k->silent)
                source_remove(sim, &k->source);
        else {
                (void) source_change(sim, &k->source, EPOLLRDHUP);
                stuck_closed(sim, k->a);
        }
        TAILQ_INSERT_TAIL(calls, k, queue);
}

bool packet_receive(struct sim *sim, struct source *s, bool hung_up, struct call_list *calls) {
        for (unsigned i = 0; hung_up || i < PACKETS_PER_ROUND; i++) {
                struct call *k = NULL;
                struct packet p;
                int r;

                r = receive(sim, s->fd, &p);
                if (r == -EAGAIN)
                        return true;
                if (r >= 0 && !op_known(s->type, p.request.op))
                        r = -EBADMSG;
                if (r >= 0) {
                        r = make_call(sim, s, &p, &k);
                        if (r < 0)
                                packet_refuse(p.answer, r);
                } else if (p.answer >= 0)
                        packet_refuse(p.answer, -EPROTO);
                packet_done(&p);
                if (k)
                        accept_call(sim, k, calls);
                if (r == -ECONNRESET)
                        return s->type != SOURCE_CONNECTION;
                /* A file's socket is shared: who else has it must not lose it. */
                if (r == -EBADMSG && s->type == SOURCE_CONNECTION)
                        return false;
        }
        return true;
}
