/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading and writing messages. */
#include "vm/vpci/stream.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include "util/util.h"

void stream_open(struct stream *s, int socket) {
        s->socket = socket;
        s->begin = s->end = s->n_fds = 0;
        s->position = s->next = 0;
}

void stream_close(struct stream *s) {
        for (size_t i = 0; i < s->n_fds; i++)
                close_fd(s->fds[i].fd);
        s->n_fds = 0;
        s->begin = s->end = 0;
}

int message_take_fd(struct message *m, size_t i) {
        return i < m->n_fds ? TAKE_FD(m->fds[i]) : -EBADF;
}

void message_close_fds(struct message *m) {
        for (size_t i = 0; i < m->n_fds; i++)
                m->fds[i] = close_fd(m->fds[i]);
        m->n_fds = 0;
}

void message_free(struct message *m) {
        message_close_fds(m);
        free(m->body);
        *m = (struct message){};
}

bool stream_has_more(const struct stream *s) {
        return s->end > s->begin;
}

/* Where the last message begins of those that have begun in what has been read ahead; sizes were not checked yet. */
static uint64_t last_begun(const struct stream *s) {
        uint64_t at = s->next, end = s->position + (s->end - s->begin);

        for (;;) {
                struct vu_header h;

                if (at < s->position || at + sizeof(h) > end)
                        return at;
                memcpy(&h, s->ahead + s->begin + (at - s->position), sizeof(h));
                if (h.size < sizeof(h) || at + h.size >= end)
                        return at;
                at += h.size;
        }
}

static int take_fds(struct stream *s, struct msghdr *mh) {
        bool too_many = mh->msg_flags & MSG_CTRUNC;
        uint64_t at = last_begun(s);

        for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
                        if (s->n_fds < ARRAY_SIZE(s->fds)) {
                                s->fds[s->n_fds].at = at;
                                s->fds[s->n_fds++].fd = fd;
                        } else {
                                close_fd(fd);
                                too_many = true;
                        }
                }
        }
        return too_many ? -EBADMSG : 0;
}

/* One read: ahead, or the rest of a large body in place. */
static ssize_t receive(struct stream *s, void *to, size_t room, int flags) {
        union {
                char room[CMSG_SPACE(sizeof(int) * STREAM_FDS_MAX)];
                struct cmsghdr align;
        } control;
        struct iovec iov = { to, room };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        ssize_t n;
        int r;

        do
                n = recvmsg(s->socket, &mh, flags | MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (to == s->ahead + s->end)
                s->end += (size_t) n;
        if (mh.msg_controllen > 0 || mh.msg_flags & MSG_CTRUNC) {
                r = take_fds(s, &mh);
                if (r < 0)
                        return r;
        }
        return n > 0 ? n : -ECONNRESET;
}

static int fill(struct stream *s, size_t want, int flags) {
        while (s->end - s->begin < want) {
                ssize_t n;

                if (s->begin > 0) {
                        memmove(s->ahead, s->ahead + s->begin, s->end - s->begin);
                        s->end -= s->begin;
                        s->begin = 0;
                }
                n = receive(s, s->ahead + s->end, sizeof(s->ahead) - s->end, flags);
                if (n < 0)
                        return (int) n;
        }
        return 0;
}

static void consume(struct stream *s, size_t n) {
        s->begin += n;
        s->position += n;
        if (s->begin == s->end)
                s->begin = s->end = 0;
}

/* Those that came with the message, in their order. */
static int give_fds(struct stream *s, struct message *m, uint64_t at) {
        size_t kept = 0;
        int r = 0;

        for (size_t i = 0; i < s->n_fds; i++) {
                if (s->fds[i].at > at)
                        s->fds[kept++] = s->fds[i];
                else if (s->fds[i].at == at && m->n_fds < STREAM_FDS_MAX)
                        m->fds[m->n_fds++] = s->fds[i].fd;
                else {
                        close_fd(s->fds[i].fd);
                        r = -EBADMSG;
                }
        }
        s->n_fds = kept;
        return r;
}

int stream_receive(struct stream *s, struct message *m, int flags) {
        uint64_t at;
        size_t have;
        int r;

        message_close_fds(m);
        r = fill(s, sizeof(m->header), flags);
        if (r < 0)
                return r;
        memcpy(&m->header, s->ahead + s->begin, sizeof(m->header));
        if (m->header.size < sizeof(m->header) || m->header.size - sizeof(m->header) > STREAM_BODY_MAX)
                return -EBADMSG;
        at = s->next;
        m->size = m->header.size - sizeof(m->header);
        if (m->size > m->room) {
                size_t room = m->size < 4096 ? 4096 : m->size;
                uint8_t *t = realloc(m->body, room);

                if (!t)
                        return -ENOMEM;
                m->body = t;
                m->room = room;
        }
        /* What fits is waited for where it can stay if this is not to wait; what does not is read in place. */
        if (m->header.size <= sizeof(s->ahead)) {
                r = fill(s, m->header.size, flags);
                if (r < 0)
                        return r;
                if (m->size > 0)
                        memcpy(m->body, s->ahead + s->begin + sizeof(m->header), m->size);
                consume(s, m->header.size);
        } else {
                consume(s, sizeof(m->header));
                have = s->end - s->begin;
                if (have > m->size)
                        have = m->size;
                memcpy(m->body, s->ahead + s->begin, have);
                consume(s, have);
                while (have < m->size) {
                        ssize_t n = receive(s, m->body + have, m->size - have, 0);

                        if (n < 0)
                                return (int) n;
                        have += (size_t) n;
                        s->position += (size_t) n;
                }
        }
        s->next = at + m->header.size;
        return give_fds(s, m, at);
}

int stream_send(int socket, const struct vu_header *header, const void *body, size_t size, int flags) {
        /* sendmsg() only reads: its type does not say so. */
        struct iovec iov[2] = { { (void *) (uintptr_t) header, sizeof(*header) }, { (void *) (uintptr_t) body, size } };
        struct msghdr mh = { .msg_iov = iov, .msg_iovlen = size > 0 ? 2 : 1 };
        size_t left = sizeof(*header) + size;

        while (left > 0) {
                ssize_t n = sendmsg(socket, &mh, flags | MSG_NOSIGNAL);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        /* Half a reply cannot be left standing. */
                        return errno == EAGAIN && left != sizeof(*header) + size ? -EPIPE : -errno;
                }
                left -= (size_t) n;
                for (size_t i = 0; i < mh.msg_iovlen && n > 0; i++) {
                        size_t k = (size_t) n < mh.msg_iov[i].iov_len ? (size_t) n : mh.msg_iov[i].iov_len;

                        mh.msg_iov[i].iov_base = (uint8_t *) mh.msg_iov[i].iov_base + k;
                        mh.msg_iov[i].iov_len -= k;
                        n -= (ssize_t) k;
                }
        }
        return 0;
}
