/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames: big-endian command, transport and size, then a DOE object. One is sent, one is received. */
#include "evidence/spdm-tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "evidence/doe.h"

#define COMMAND_NORMAL 0x0001u
#define COMMAND_SHUTDOWN 0xfffeu
#define TRANSPORT_PCI_DOE 0x02u
#define FRAME 12u

struct spdm_tcp {
        struct spdm_transport transport; /* first: this is what callers hold */
        int fd;
};

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void frame_make(uint32_t command, size_t size, uint8_t ret[static FRAME]) {
        uint32_t words[3] = { htonl(command), htonl(TRANSPORT_PCI_DOE), htonl((uint32_t) size) };

        memcpy(ret, words, FRAME);
}

static int wait_ready(int fd, short events, uint64_t deadline, struct evidence_why *why) {
        for (;;) {
                struct pollfd p = { .fd = fd, .events = events };
                uint64_t at = now_usec();
                int r = poll(&p, 1, at >= deadline ? 0 : (int) ((deadline - at + 999) / 1000));

                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return evidence_refuse(why, EVIDENCE_TRANSPORT, "waiting for the responder: %s", strerror(errno));
                if (now_usec() >= deadline)
                        return evidence_refuse(why, EVIDENCE_TIMEOUT, "the responder did not answer in time");
        }
}

static int write_all(int fd, const uint8_t *p, size_t size, uint64_t deadline, struct evidence_why *why) {
        while (size > 0) {
                ssize_t n = send(fd, p, size, MSG_NOSIGNAL | MSG_DONTWAIT);
                int r;

                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return evidence_refuse(why, EVIDENCE_TRANSPORT, "sending to the responder: %s", strerror(errno));
                if (n > 0) {
                        p += n;
                        size -= (size_t) n;
                        continue;
                }
                r = wait_ready(fd, POLLOUT, deadline, why);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_all(int fd, uint8_t *p, size_t size, uint64_t deadline, struct evidence_why *why) {
        while (size > 0) {
                ssize_t n;
                int r = wait_ready(fd, POLLIN, deadline, why);

                if (r < 0)
                        return r;
                n = recv(fd, p, size, MSG_DONTWAIT);
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return evidence_refuse(why, EVIDENCE_TRANSPORT, "receiving from the responder: %s", strerror(errno));
                if (n == 0)
                        return evidence_refuse(why, EVIDENCE_TRANSPORT, "the responder hung up, %zu bytes before the end of an answer", size);
                if (n > 0) {
                        p += n;
                        size -= (size_t) n;
                }
        }
        return 0;
}

static int tcp_send(int fd, const void *request, size_t size, uint64_t deadline, struct evidence_why *why) {
        uint8_t buffer[FRAME + DOE_HEADER + DOE_SPDM_MAX + 4] = {};
        size_t filled = (size + 3) & ~(size_t) 3;

        if (size > DOE_SPDM_MAX)
                return evidence_refuse(why, EVIDENCE_TOO_LONG, "a request of %zu bytes, expected at most %u", size, DOE_SPDM_MAX);
        frame_make(COMMAND_NORMAL, DOE_HEADER + filled, buffer);
        doe_header_make(DOE_TYPE_CMA_SPDM, size, buffer + FRAME);
        memcpy(buffer + FRAME + DOE_HEADER, request, size);
        return write_all(fd, buffer, FRAME + DOE_HEADER + filled, deadline, why);
}

static int tcp_receive(int fd, void *response, size_t max, size_t *ret_size, uint64_t deadline, struct evidence_why *why) {
        uint8_t header[FRAME + DOE_HEADER];
        uint32_t words[3];
        size_t size;
        int r;

        r = read_all(fd, header, sizeof(header), deadline, why);
        if (r < 0)
                return r;
        memcpy(words, header, FRAME);
        if (ntohl(words[0]) != COMMAND_NORMAL || ntohl(words[1]) != TRANSPORT_PCI_DOE)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "a frame with the command 0x%x and transport %u, expected 0x%x and %u",
                                       ntohl(words[0]), ntohl(words[1]), COMMAND_NORMAL, TRANSPORT_PCI_DOE);
        r = doe_header_check(header + FRAME, DOE_TYPE_CMA_SPDM, max & ~(size_t) 3, &size, why);
        if (r < 0)
                return r;
        if (ntohl(words[2]) != DOE_HEADER + size)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "a frame of %u bytes with a DOE object of %zu", ntohl(words[2]), DOE_HEADER + size);
        r = read_all(fd, response, size, deadline, why);
        if (r < 0)
                return r;
        *ret_size = size;
        return 0;
}

static int tcp_exchange(struct spdm_transport *t, const void *request, size_t size, void *response, size_t max, size_t *ret_size, uint64_t usec,
                        struct evidence_why *why) {
        const struct spdm_tcp *s = (struct spdm_tcp *) t;
        uint64_t deadline = now_usec() + usec;
        int r = tcp_send(s->fd, request, size, deadline, why);

        return r < 0 ? r : tcp_receive(s->fd, response, max, ret_size, deadline, why);
}

int spdm_tcp_open(uint16_t port, struct spdm_transport **ret, struct evidence_why *why) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct spdm_tcp *s;

        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "port %u on the loopback address: %s", port, strerror(errno));
        /* Small messages that are answered one by one. */
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->transport = (struct spdm_transport){ .exchange = tcp_exchange, .max_message = DOE_SPDM_MAX, .alignment = 4, .latency_usec = 10 * DOE_USEC };
        s->fd = TAKE_FD(fd);
        *ret = &s->transport;
        return 0;
}

struct spdm_transport *spdm_tcp_close(struct spdm_transport *t) {
        struct spdm_tcp *s = (struct spdm_tcp *) t;
        uint8_t frame[FRAME];

        if (s) {
                frame_make(COMMAND_SHUTDOWN, 0, frame);
                (void) send(s->fd, frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT);
                (void) close(s->fd);
                free(s);
        }
        return NULL;
}
