/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdi_request(): what goes over the wire, and what is made of answers that are right, wrong, late, or none. */
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <tdi/request.h>

#include "test.h"
#include "util/util.h"

struct packet {
        struct tdi_answer_header header;
        uint8_t data[64];
};

/* The other end: reads one request, answers it as told. */
struct server {
        int fd;
        struct packet answer;
        size_t size;      /* of the answer; 0: none */
        bool keeps_id;    /* the answer is to that request */
        struct tdi_request_header seen;
        uint8_t data[64];
        ssize_t got;
};

static void *serve(void *userdata) {
        struct server *s = userdata;
        uint8_t buf[sizeof(s->seen) + sizeof(s->data)] = {};

        s->got = recv(s->fd, buf, sizeof(buf), 0);
        memcpy(&s->seen, buf, sizeof(s->seen));
        memcpy(s->data, buf + sizeof(s->seen), sizeof(s->data));
        if (s->keeps_id)
                s->answer.header.id = s->seen.id;
        if (s->size > 0)
                (void) send(s->fd, &s->answer, s->size, MSG_NOSIGNAL);
        return NULL;
}

static int ask(struct server *s, struct tdi_request *q, bool hangs_up) {
        pthread_t thread;
        int pair[2], r;

        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        s->fd = pair[1];
        if (hangs_up) {
                (void) close(pair[1]);
                r = tdi_request(pair[0], q);
        } else {
                require(pthread_create(&thread, NULL, serve, s) == 0);
                r = tdi_request(pair[0], q);
                require(pthread_join(thread, NULL) == 0);
                (void) close(pair[1]);
        }
        (void) close(pair[0]);
        return r;
}

static struct server answering(int error, uint64_t code, const char *data) {
        struct server s = { .answer.header = { sizeof(s.answer.header), error, 0, code }, .keeps_id = true,
                            .size = sizeof(s.answer.header) + strlen(data) };

        memcpy(s.answer.data, data, strlen(data));
        return s;
}

static void test_good(void) {
        struct server s = answering(0, 7, "answer");
        char out[16] = {};
        struct tdi_request q = { .size = sizeof(q), .kind = TDI_REQUEST_LOCK, .op = 2, .in = "hello", .in_size = 5, .out = out, .out_size = sizeof(out), .timeout_msec = -1 };

        test_about("%s", "a request");
        check_int(ask(&s, &q, false), 0);
        check_int(s.got, sizeof(s.seen) + 5);
        check(s.seen.size == sizeof(s.seen) && s.seen.kind == TDI_REQUEST_LOCK && s.seen.out_max == sizeof(out) && s.seen.op == 2);
        check(memcmp(s.data, "hello", 5) == 0);
        check(q.out_used == 6 && q.tsm_code == 7 && memcmp(out, "answer", 6) == 0);
        /* With a limit of time, and nothing either way. */
        s = answering(0, 0, "");
        q = (struct tdi_request){ .size = sizeof(q), .timeout_msec = 10000 };
        check_int(ask(&s, &q, false), 0);
        check(q.out_used == 0 && q.tsm_code == 0);
        /* An error has the TSM's word too. */
        s = answering(-EPERM, 5, "");
        q = (struct tdi_request){ .size = sizeof(q), .timeout_msec = -1 };
        check_int(ask(&s, &q, false), -EPERM);
        check(q.tsm_code == 5);
}

static void test_wrong(void) {
        struct tdi_request q = { .size = sizeof(q), .timeout_msec = -1 };
        struct server s;

        test_about("%s", "answers that are none");
        s = answering(0, 0, "more than there is room for");
        check_int(ask(&s, &q, false), -EBADMSG);
        s = answering(0, 0, "");
        s.keeps_id = false;
        check_int(ask(&s, &q, false), -EBADMSG);
        s = answering(0, 0, "");
        s.size--;
        check_int(ask(&s, &q, false), -EBADMSG);
        s = answering(1, 0, "");
        check_int(ask(&s, &q, false), -EBADMSG);
        s = answering(0, 0, "");
        s.answer.header.size++;
        check_int(ask(&s, &q, false), -EBADMSG);
        check_int(ask(&s, &q, true), -ECONNRESET);
        s = answering(0, 0, "");
        s.size = 0;
        q.timeout_msec = 50;
        check_int(ask(&s, &q, false), -ETIMEDOUT);
}

static void test_invalid(void) {
        const struct tdi_request good = { .size = sizeof(good), .timeout_msec = -1 };
        struct tdi_request q;

        test_about("%s", "requests that are none");
        q = good;
        check_int(tdi_request(-1, &q), -EINVAL);
        check_int(tdi_request(0, NULL), -EINVAL);
        q.size--;
        check_int(tdi_request(0, &q), -EINVAL);
        q = good;
        q.kind = TDI_REQUEST_KIND_MAX;
        check_int(tdi_request(0, &q), -EINVAL);
        q = good;
        q.in_size = 1;
        check_int(tdi_request(0, &q), -EINVAL);
        q = good;
        q.out_size = 1;
        check_int(tdi_request(0, &q), -EINVAL);
        q = good;
        q.in = &q;
        q.in_size = TDI_REQUEST_SIZE_MAX + 1;
        check_int(tdi_request(0, &q), -EINVAL);
}

int main(void) {
        test_good();
        test_wrong();
        test_invalid();
        return test_end();
}
