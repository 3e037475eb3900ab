/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks a TSM for evidence. */
#include "worker/evidence-tsm.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <tdi/request.h>

#include "evidence/report.h"
#include "evidence/tsm-objects.h"

struct way {
        int socket;
        uint64_t until; /* CLOCK_MONOTONIC, µs */
        uint64_t number;
};

static uint64_t clock_usec(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static int wait_for(const struct way *way, short events) {
        for (;;) {
                uint64_t now = clock_usec(CLOCK_MONOTONIC);
                int r;

                if (now >= way->until)
                        return -ETIMEDOUT;
                r = poll(&(struct pollfd){ .fd = way->socket, .events = events }, 1, (int) ((way->until - now + 999) / 1000));
                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
        }
}

/* tdi_request(), which is of the client's library, with one end of time for all requests together. */
static int ask(void *userdata, uint32_t op, const void *in, size_t in_size, void *out, size_t room, size_t *ret_used) {
        struct way *way = userdata;
        struct tdi_request_header q = { .size = sizeof(q), .kind = TDI_REQUEST_INFO, .id = ++way->number, .out_max = (uint32_t) room, .op = op };
        struct iovec request[] = { { &q, sizeof(q) }, { (void *) (uintptr_t) in, in_size } };
        const struct msghdr send = { .msg_iov = request, .msg_iovlen = ARRAY_SIZE(request) };
        struct tdi_answer_header a = {};
        struct iovec answer[] = { { &a, sizeof(a) }, { out, room } };
        struct msghdr receive = { .msg_iov = answer, .msg_iovlen = ARRAY_SIZE(answer) };
        ssize_t n;
        int r;

        r = wait_for(way, POLLOUT);
        if (r < 0)
                return r;
        n = sendmsg(way->socket, &send, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
                return errno == EPIPE ? -ECONNRESET : -errno;
        r = wait_for(way, POLLIN);
        if (r < 0)
                return r;
        n = recvmsg(way->socket, &receive, MSG_DONTWAIT);
        if (n <= 0)
                return n < 0 ? -errno : -ECONNRESET;
        if ((size_t) n < sizeof(a) || receive.msg_flags & MSG_TRUNC || a.size != sizeof(a) || a.id != q.id || a.error > 0)
                return -EBADMSG;
        *ret_used = (size_t) n - sizeof(a);
        return a.error;
}

void evidence_mark(struct evidence *e, const char *source, uint64_t time_usec) {
        for (size_t i = 0; i < _EVIDENCE_TYPE_MAX; i++)
                if (e->objects[i].data && !e->objects[i].source) {
                        e->objects[i].source = source;
                        e->objects[i].time_usec = time_usec;
                }
}

/* The report that the guest has asked for: its request went by way of the holder. 1: taken. */
static int take_guests_report(struct json_object *tsm, struct evidence *e) {
        static uint8_t bytes[TDI_REQUEST_SIZE_MAX];
        const char *hex = json_str_or(tsm, "report", "");
        struct tdisp_report report;
        size_t size = 0;
        int r;

        if (isempty(hex) || work_decode_hex(hex, bytes, sizeof(bytes), &size) < 0 || tdisp_report_parse(bytes, size, &report) < 0)
                return 0;
        r = evidence_set(e, EVIDENCE_REPORT, bytes, size);
        if (r < 0)
                return r;
        e->objects[EVIDENCE_REPORT].source = "tsm";
        e->objects[EVIDENCE_REPORT].time_usec = json_u64_or(tsm, "report_time", 0);
        return 1;
}

static const char *reason_of(int r) {
        return r > 0 ? "ok" : r == -EOPNOTSUPP ? "not-supported" : r == -ENODATA ? "no-evidence" : r == -ETIMEDOUT ? "timeout" : "error";
}

static int ask_by_socket(struct work *w, struct json_object *tsm, unsigned types, struct evidence *e, char *text, size_t size) {
        struct way way = { .socket = w->fds.fd[0], .until = clock_usec(CLOCK_MONOTONIC) + json_u64_or(w->args, "timeout_usec", 0) };
        enum tsm_form form = tsm_form_of(json_bool_or(tsm, "operations", false), (unsigned) json_u64_or(tsm, "tvm_arch", 0));
        size_t used;
        int r;

        r = tsm_objects_collect(form, types, TDI_REQUEST_SIZE_MAX, ask, &way, e, text, size);
        used = strlen(text);
        if (r < 0 && r != -EOPNOTSUPP && r != -ENODATA && used < size)
                snprintf(text + used, size - used, "%s%s", used > 0 ? "; " : "",
                         r == -ENOTCONN ? "it is not bound any more" : r == -ECONNRESET ? "the VM's holder has no socket for requests left" : strerror(-r));
        return r;
}

int evidence_tsm_collect(struct work *w, unsigned types, struct evidence *e, const char **reason, char *text, size_t text_size) {
        struct json_object *tsm;
        size_t used;
        int r, n = 0;

        *reason = "not-bound";
        if (json_get_object(w->args, "tsm", &tsm) < 0) {
                snprintf(text, text_size, "it is not bound to a VM");
                return 0;
        }
        if (!json_bool_or(tsm, "own", false))
                types &= ~(1u << EVIDENCE_REPORT);
        snprintf(text, text_size, "%s, by way of %s: ", json_str_or(tsm, "name", "its TSM"), json_str_or(tsm, "provider", "?"));
        used = strlen(text);
        r = w->fds.n > 0 ? ask_by_socket(w, tsm, types, e, text + used, text_size - used) : -EIO;
        if (r == -ENOMEM)
                return r;
        if (w->fds.n == 0)
                snprintf(text + used, text_size - used, "%s", json_str_or(tsm, "no_socket", "the VM's holder does not answer"));
        *reason = reason_of(r);
        n = r > 0 ? r : 0;
        evidence_mark(e, "tsm", clock_usec(CLOCK_REALTIME));
        if (types & 1u << EVIDENCE_REPORT && !e->objects[EVIDENCE_REPORT].data) {
                r = take_guests_report(tsm, e);
                if (r < 0)
                        return r;
                used = strlen(text);
                if (r > 0 && used < text_size)
                        snprintf(text + used, text_size - used, "; report: as its guest has asked for it");
                if (r > 0 && (streq(*reason, "not-supported") || streq(*reason, "no-evidence")))
                        *reason = "ok";
                n += r;
        }
        return n;
}
