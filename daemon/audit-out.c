/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where entries go. Not by sd_journal_sendv(): its socket blocks, so that a journald that is stopped or slow would stop tdid; and it says
 * nothing of an entry that nobody took. The protocol is a datagram of lines (systemd.io/JOURNAL_NATIVE_PROTOCOL), and documented as stable.
 */
#include "audit-entry.h"
#include "counters.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CLOSE_USEC 1000000ULL

struct kept {
        struct kept *next;
        size_t size;
        char data[];
};

static struct {
        enum { NOWHERE, JOURNAL, FILE_LINES } where;
        int fd;
        struct sockaddr_un address;
        sd_event *event;
        sd_event_source *room;   /* while some are kept: the socket has room again */
        struct kept *first, **last;
        size_t n_kept;
        uint64_t lost;
        bool warned;     /* that it goes nowhere */
        bool torn;       /* the last line in the file has no end */
        bool is_stderr;  /* what goes to stderr gets into the same journal */
        unsigned paused;
} out = { .fd = -EBADF, .last = &out.first };

/* ---- one entry ---- */

/* Connected, so that it can be asked whether there is room. Who listens there may be another than the last time. */
static int send_journal(const char *data, size_t size) {
        if (send(out.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
                return 0;
        if (errno == ENOTCONN || errno == ECONNREFUSED || errno == ECONNRESET)
                if (connect(out.fd, (const struct sockaddr *) &out.address, sizeof(out.address)) == 0 && send(out.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
                        return 0;
        return -errno;
}

/* A line that a full disk has cut is ended before the next one. */
static int append_line(const char *data, size_t size) {
        ssize_t n;

        if (out.torn) {
                if (write(out.fd, "\n", 1) != 1)
                        return -errno;
                out.torn = false;
        }
        n = write(out.fd, data, size);
        if (n < 0)
                return -errno;
        out.torn = (size_t) n < size;
        return out.torn ? -ENOSPC : 0;
}

static int put(const char *data, size_t size) {
        return out.where == JOURNAL ? send_journal(data, size) : append_line(data, size);
}

static void lose(int r) {
        out.lost++;
        if (out.warned)
                return;
        out.warned = true;
        log_warning("the audit goes nowhere: %s: %s; see --audit in tdid(8)", out.where == JOURNAL ? out.address.sun_path : "its file", strerror(-r));
}

static size_t render(enum audit_event event, const struct audit_value *values, size_t n, char buf[static AUDIT_ENTRY_MAX]) {
        return out.where == JOURNAL ? audit_native(event, values, n, buf) : audit_json(event, values, n, buf);
}

/* What was lost is told before what comes next. */
static int tell_lost(void) {
        const struct audit_value count = { AUDIT_F_COUNT, AUDIT_NUMBER, NULL, out.lost };
        static char buf[AUDIT_ENTRY_MAX];
        int r;

        if (out.lost == 0)
                return 0;
        r = put(buf, render(AUDIT_LOST, &count, 1, buf));
        if (r < 0)
                return r;
        log_warning("%llu entries of the audit were lost", (unsigned long long) out.lost);
        out.lost = 0;
        out.warned = false;
        return 0;
}

/* ---- those that wait ---- */

static void flush(void) {
        while (out.first) {
                struct kept *k = out.first;
                int r = put(k->data, k->size);

                if (r == -EAGAIN)
                        return;
                if (r < 0)
                        lose(r);
                out.first = k->next;
                out.n_kept--;
                free(k);
        }
        out.last = &out.first;
        (void) tell_lost();
}

static int on_room(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, _unused_ void *userdata) {
        flush();
        if (!out.first)
                out.room = sd_event_source_disable_unref(out.room);
        return 0;
}

static void keep(const char *data, size_t size) {
        struct kept *k;

        if (out.n_kept >= AUDIT_KEPT_MAX) {
                lose(-ENOBUFS);
                return;
        }
        k = malloc(sizeof(*k) + size);
        if (!k)
                log_oom();
        *k = (struct kept){ .size = size };
        memcpy(k->data, data, size);
        *out.last = k;
        out.last = &k->next;
        out.n_kept++;
        if (!out.room && sd_event_add_io(out.event, &out.room, out.fd, EPOLLOUT, on_room, NULL) < 0)
                log_oom();
}

void audit_write(enum audit_event event, const struct audit_value *values, size_t n) {
        static char buf[AUDIT_ENTRY_MAX];
        char message[AUDIT_VALUE_MAX];
        size_t size;
        int r;

        if (out.paused > 0)
                return;
        counters_event(event);
        if (audit_table[event].log != AUDIT_NOT_LOGGED && !(out.is_stderr && out.where == JOURNAL)) {
                audit_message(event, values, n, true, message, sizeof(message));
                log_line(audit_table[event].log, "%s", message);
        }
        if (out.where == NOWHERE)
                return;
        size = render(event, values, n, buf);
        r = out.first ? -EAGAIN : tell_lost();
        if (r >= 0)
                r = put(buf, size);
        if (r == -EAGAIN)
                keep(buf, size);
        else if (r < 0)
                lose(r);
}

void audit_pause(bool pause) {
        out.paused += pause ? 1 : -1;
}

/* ---- begin and end ---- */

/* systemd.exec(5): the device and inode of what our stderr is connected to, if that is the journal. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

int audit_open_journal(sd_event *event, const char *socket_path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path) >= (int) sizeof(address.sun_path))
                return -ENAMETOOLONG;
        out.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (out.fd < 0)
                return -errno;
        out.address = address;
        out.event = sd_event_ref(event);
        out.is_stderr = stderr_is_journal();
        out.where = JOURNAL;
        return 0;
}

int audit_open(sd_event *event, const char *where) {
        if (streq(where, "none"))
                return 0;
        if (streq(where, "journal"))
                return audit_open_journal(event, AUDIT_JOURNAL);
        if (!strchr(where, '/'))
                return -EINVAL;
        /* Not to wait for the other end of a pipe either. */
        out.fd = open(where, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
        if (out.fd < 0)
                return -errno;
        out.event = sd_event_ref(event);
        out.where = FILE_LINES;
        return 0;
}

void audit_close(void) {
        uint64_t now = now_monotonic(), until = now + CLOSE_USEC;

        for (; out.first && now < until; now = now_monotonic()) {
                struct pollfd p = { .fd = out.fd, .events = POLLOUT };

                if (poll(&p, 1, (int) ((until - now) / 1000) + 1) > 0)
                        flush();
        }
        while (out.first) {
                struct kept *k = out.first;

                out.first = k->next;
                free(k);
                out.lost++;
        }
        if (out.lost > 0)
                log_warning("%llu entries of the audit were lost", (unsigned long long) out.lost);
        sd_event_source_disable_unref(out.room);
        sd_event_unref(out.event);
        close_fd(out.fd);
        memset(&out, 0, sizeof(out));
        out.fd = -EBADF;
        out.last = &out.first;
}
