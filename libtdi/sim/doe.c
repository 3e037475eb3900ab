/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Data Object Exchange: the mailbox of a function, in the extended capability of its config space (PCIe 6.0, 6.30 and 7.9.24). It
 * answers discovery itself; what is SPDM it passes on to a responder that listens on the loopback, in the frames of DMTF's spdm-emu, as
 * QEMU's device with "spdm_port" does. It knows nothing of SPDM.
 *
 * As with that device an exchange is over when the write that started it returns, and an object that is no object, or to which the
 * responder's answer is empty, is dropped without a word. Where QEMU waits for its responder for ever, and where it says nothing because
 * the connection is of no use, this mailbox says that there was an error, after a second at most.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "sim/machine.h"

#define DOE_GO 0x80000000u
#define DOE_ABORT 0x1u
#define DOE_BUSY 0x1u
#define DOE_ERROR 0x4u
#define DOE_READY 0x80000000u

#define OBJECT_HEADER 2u         /* double words */
#define OBJECT_MAX 0x40000u      /* double words: a length of 18 bits, of which 0 means this */
#define DISCOVERY_LENGTH 3u
#define PCI_SIG 0x0001u

/* The frames: command, transport and size in network order, then the object. */
#define FRAME_HEADER 12u
#define FRAME_NORMAL 0x0001u
#define FRAME_SHUTDOWN 0xfffeu
#define FRAME_TRANSPORT_DOE 2u
#define ANSWER_MAX 0x1200u       /* bytes: as much as QEMU takes */
#define EXCHANGE_MS 1000         /* PCIe 6.30.2: so long a requester waits */

enum { TYPE_DISCOVERY, TYPE_SPDM, TYPE_SECURED_SPDM, TYPE_MAX };

struct sim_doe {
        unsigned at;             /* of the capability */
        uint16_t port;
        int fd;                  /* kept from one exchange to the next, as long as it works */
        uint32_t *object;        /* what was written */
        size_t n, room;
        uint32_t *answer;        /* NULL: none is ready */
        size_t answer_n, next;
        bool error;
        bool busy;               /* an exchange is on its way */
        bool aborted, moved;     /* meanwhile: nobody wants its answer; the responder is another */
};

/* ---- the responder ---- */

struct exchange {
        uint16_t port;
        int fd;
        int64_t until;           /* ms */
        uint8_t *frame;          /* request, with its header */
        size_t size;
        uint8_t answer[ANSWER_MAX];
        size_t answer_size;
        int r;
};

static int64_t now_ms(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(const struct exchange *x, short events) {
        for (;;) {
                struct pollfd p = { .fd = x->fd, .events = events };
                int64_t left = x->until - now_ms();
                int r;

                if (left <= 0)
                        return -ETIMEDOUT;
                r = poll(&p, 1, (int) left);
                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
        }
}

static int open_connection(struct exchange *x) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(x->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int error = 0, one = 1, r;
        socklen_t size = sizeof(error);

        x->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (x->fd < 0)
                return -errno;
        (void) setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (connect(x->fd, (struct sockaddr *) &a, sizeof(a)) >= 0)
                return 0;
        if (errno != EINPROGRESS)
                return -errno;
        r = wait_for(x, POLLOUT);
        if (r < 0)
                return r;
        if (getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                return -errno;
        return -error;
}

/* Nothing comes of itself: a connection on which something did, if only its end, is of no use any more. */
static bool is_stale(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };

        return poll(&p, 1, 0) != 0;
}

static int send_all(const struct exchange *x, const uint8_t *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = send(x->fd, bytes, size, MSG_NOSIGNAL);

                if (n < 0 && errno == EAGAIN) {
                        int r = wait_for(x, POLLOUT);

                        if (r < 0)
                                return r;
                } else if (n < 0 && errno != EINTR)
                        return -errno;
                else if (n > 0) {
                        bytes += n;
                        size -= (size_t) n;
                }
        }
        return 0;
}

static int receive_all(const struct exchange *x, uint8_t *bytes, size_t size) {
        while (size > 0) {
                ssize_t n;
                int r;

                r = wait_for(x, POLLIN);
                if (r < 0)
                        return r;
                n = recv(x->fd, bytes, size, 0);
                if (n == 0)
                        return -ECONNRESET;
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        bytes += n;
                        size -= (size_t) n;
                }
        }
        return 0;
}

static void put_header(uint8_t *frame, uint32_t command, size_t size) {
        const uint32_t words[] = { htonl(command), htonl(FRAME_TRANSPORT_DOE), htonl((uint32_t) size) };

        _Static_assert(sizeof(words) == FRAME_HEADER, "frame header");
        memcpy(frame, words, sizeof(words));
}

static int receive_answer(struct exchange *x) {
        uint32_t header[FRAME_HEADER / 4];
        int r;

        r = receive_all(x, (uint8_t *) header, sizeof(header));
        if (r < 0)
                return r;
        /* Not what an answer is: the responder's other commands, and what is too long. An empty one says that there is none. */
        x->answer_size = ntohl(header[2]);
        if (ntohl(header[0]) != FRAME_NORMAL || x->answer_size > ANSWER_MAX)
                return -EBADMSG;
        return receive_all(x, x->answer, x->answer_size);
}

/* Without the big lock. */
static void run_exchange(void *data) {
        struct exchange *x = data;

        x->until = now_ms() + EXCHANGE_MS;
        if (x->fd >= 0 && is_stale(x->fd))
                x->fd = close_fd(x->fd);
        x->r = x->fd < 0 ? open_connection(x) : 0;
        if (x->r >= 0)
                x->r = send_all(x, x->frame, x->size);
        if (x->r >= 0)
                x->r = receive_answer(x);
        if (x->r < 0)
                x->fd = close_fd(x->fd);
}

static void hang_up(struct sim_doe *d) {
        uint8_t frame[FRAME_HEADER];

        if (d->fd < 0)
                return;
        put_header(frame, FRAME_SHUTDOWN, 0);
        (void) send(d->fd, frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT);
        d->fd = close_fd(d->fd);
}

/* ---- objects ---- */

static void drop_object(struct sim_doe *d) {
        free(d->object);
        d->object = NULL;
        d->n = d->room = 0;
}

static void drop_answer(struct sim_doe *d) {
        free(d->answer);
        d->answer = NULL;
        d->answer_n = d->next = 0;
}

static void give_answer(struct sim_doe *d, const uint8_t *bytes, size_t size) {
        d->answer_n = (size + 3) / 4;
        d->answer = machine_alloc(d->answer_n * 4);
        for (size_t i = 0; i < size; i++)
                d->answer[i / 4] |= (uint32_t) bytes[i] << 8 * (i % 4);
}

/* Has as many double words as it says? */
static bool is_whole(const struct sim_doe *d) {
        uint32_t length;

        if (d->n < OBJECT_HEADER)
                return false;
        length = d->object[1] & (OBJECT_MAX - 1);
        return d->n == (length ? length : OBJECT_MAX);
}

/* PCIe 6.30.1.1. Of an index beyond the last QEMU's answer names no object, and the index after it. */
static void discover(struct sim_doe *d) {
        unsigned index = d->object[2] & 0xff;
        uint32_t answer = index < TYPE_MAX ? PCI_SIG | index << 16 : 0xffffffu;
        uint8_t bytes[DISCOVERY_LENGTH * 4];

        answer |= (index + 1 == TYPE_MAX ? 0 : (index + 1) & 0xff) << 24;
        cfg_put32(bytes, PCI_SIG | TYPE_DISCOVERY << 16);
        cfg_put32(bytes + 4, DISCOVERY_LENGTH);
        cfg_put32(bytes + 8, answer);
        give_answer(d, bytes, sizeof(bytes));
}

static void ask_responder(struct sim_call *c, struct sim_doe *d) {
        struct exchange *x;

        if (d->port == 0) {
                d->error = true;
                return;
        }
        x = machine_alloc(sizeof(*x));
        x->port = d->port;
        x->fd = TAKE_FD(d->fd);
        x->size = FRAME_HEADER + d->n * 4;
        x->frame = machine_alloc(x->size);
        put_header(x->frame, FRAME_NORMAL, d->n * 4);
        for (size_t i = 0; i < d->n; i++)
                cfg_put32(x->frame + FRAME_HEADER + 4 * i, d->object[i]);
        d->busy = true;
        sim_outside(c, run_exchange, x);
        d->busy = false;
        d->fd = x->fd;
        if (d->moved)
                hang_up(d);
        if (!d->aborted && x->r < 0) {
                sim_log(c->sim, "DOE: the responder at port %u: %s", x->port, strerror(-x->r));
                d->error = true;
        } else if (!d->aborted && x->answer_size > 0)
                give_answer(d, x->answer, x->answer_size);
        d->moved = d->aborted = false;
        free(x->frame);
        free(x);
}

/* ---- registers ---- */

static void go(struct sim_call *c, struct sim_doe *d) {
        uint32_t type;

        if (d->busy || d->error)
                return;
        type = d->n > 0 ? d->object[0] : 0;
        /* An answer that nobody has taken stays. What is not as it should be is dropped, and nothing is said (6.30.1). */
        if (!d->answer && is_whole(d)) {
                if (type == (PCI_SIG | TYPE_DISCOVERY << 16) && d->n >= DISCOVERY_LENGTH)
                        discover(d);
                else if (type == (PCI_SIG | TYPE_SPDM << 16) || type == (PCI_SIG | TYPE_SECURED_SPDM << 16))
                        ask_responder(c, d);
        }
        drop_object(d);
}

static void reset(struct sim_doe *d) {
        /* The exchange has taken what it needs of the object. */
        drop_object(d);
        drop_answer(d);
        d->error = false;
        d->aborted = d->busy;
}

static void add_word(struct sim_doe *d, uint32_t word) {
        if (d->busy || d->error || d->n > OBJECT_MAX)
                return;
        if (d->n == d->room) {
                d->room = d->room ? d->room * 2 : 64;
                d->object = reallocarray(d->object, d->room, sizeof(*d->object));
                if (!d->object)
                        abort(); /* as machine_alloc() */
        }
        d->object[d->n++] = word;
}

static void next_word(struct sim_doe *d) {
        if (!d->answer)
                d->error = true; /* there was none: underflow */
        else if (++d->next == d->answer_n)
                drop_answer(d);
}

static uint32_t status(const struct sim_doe *d) {
        return (d->busy ? DOE_BUSY : 0) | (d->error ? DOE_ERROR : 0) | (d->answer && !d->error ? DOE_READY : 0);
}

void pci_doe_read(struct sim_function *fn, uint64_t offset, void *buf, size_t size) {
        const struct sim_doe *d = fn->pci->doe;
        uint8_t now[12];

        if (!d)
                return;
        cfg_put32(now, status(d));
        cfg_put32(now + 4, 0); /* the write mailbox: 7.9.24.5 */
        cfg_put32(now + 8, status(d) & DOE_READY ? d->answer[d->next] : 0);
        for (unsigned i = 0; i < sizeof(now); i++) {
                unsigned at = d->at + DOE_STATUS + i;

                if (at >= offset && at < offset + size)
                        ((uint8_t *) buf)[at - offset] = now[i];
        }
}

/* The bits of a register as they were written, bytes that were not as 0. All: whether all four were, in one access. */
static bool written(unsigned at, uint64_t offset, const uint8_t *bytes, size_t size, bool all, uint32_t *ret) {
        unsigned n = 0;

        *ret = 0;
        for (unsigned i = 0; i < 4; i++)
                if (at + i >= offset && at + i < offset + size) {
                        *ret |= (uint32_t) bytes[at + i - offset] << 8 * i;
                        n++;
                }
        return all ? n == 4 : n > 0;
}

void pci_doe_write(struct sim_call *c, struct sim_function *fn, uint64_t offset, const uint8_t *bytes, size_t size) {
        struct sim_doe *d = fn->pci->doe;
        uint32_t v;

        if (!d)
                return;
        if (written(d->at + DOE_CTRL, offset, bytes, size, false, &v)) {
                if (v & DOE_ABORT)
                        reset(d);
                else if (v & DOE_GO)
                        go(c, d);
        }
        if (written(d->at + DOE_WRITE, offset, bytes, size, true, &v))
                add_word(d, v);
        if (written(d->at + DOE_READ, offset, bytes, size, true, &v))
                next_word(d);
}

/* ---- the mailbox ---- */

void pci_doe_new(struct sim_function *fn) {
        unsigned at = fn_plan(fn)->doe ? sim_find_ext_capability(fn, EXT_DOE) : 0;

        if (!at)
                return;
        fn->pci->doe = machine_alloc(sizeof(*fn->pci->doe));
        *fn->pci->doe = (struct sim_doe){ .at = at, .port = (uint16_t) fn_plan(fn)->spdm_port, .fd = -EBADF };
}

void pci_doe_free(struct sim_function *fn) {
        struct sim_doe *d = fn->pci->doe;

        if (!d)
                return;
        hang_up(d);
        drop_object(d);
        drop_answer(d);
        free(d);
        fn->pci->doe = NULL;
}

void pci_doe_reset(struct sim_function *fn) {
        if (fn->pci->doe)
                reset(fn->pci->doe);
}

int sim_doe_set_port(struct sim_function *fn, uint16_t port) {
        struct sim_doe *d = fn->pci->doe;

        if (!d)
                return -EOPNOTSUPP;
        d->port = port;
        d->moved = d->busy;
        hang_up(d);
        return 0;
}
