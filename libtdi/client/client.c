/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client object: connection, last error and waiting. What is said over the connection is in the other files. */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "client-internal.h"

int tdi_client_new(struct tdi_client **ret_client) {
        struct tdi_client *c;

        if (!ret_client)
                return -EINVAL;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->wake_fd = -EBADF;
        *ret_client = c;
        return 0;
}

struct tdi_client *tdi_client_free(struct tdi_client *c) {
        if (!c)
                return NULL;
        client_drop_jobs(c);
        sd_bus_slot_unref(c->event_slot);
        sd_bus_slot_unref(c->event_owner_slot);
        sd_bus_flush_close_unref(c->bus);
        free(c->event_owner);
        free(c->bus_label);
        free(c->plan);
        free(c->error_text);
        free(c);
        return NULL;
}

int client_fail(struct tdi_client *c, int r, enum tdi_error error, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int n;

        /* Whatever was being done: what failed is the allocation. */
        if (r == -ENOMEM) {
                error = TDI_ERROR_NONE;
                format = "Out of memory.";
        }
        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        free(c->error_text);
        c->error_text = n < 0 ? NULL : TAKE_PTR(text);
        c->error = error;
        return r;
}

const char *tdi_client_error(const struct tdi_client *c, enum tdi_error *ret_error) {
        if (ret_error)
                *ret_error = c ? c->error : TDI_ERROR_NONE;
        return c ? strempty(c->error_text) : "";
}

int client_enter(struct tdi_client *c) {
        if (!c)
                return -EINVAL;
        /* Not through client_fail(): the error of the outer call must stay what it is. */
        if (c->in_callback)
                return -EDEADLK;
        c->error = TDI_ERROR_NONE;
        free(c->error_text);
        c->error_text = NULL;
        if (!c->bus)
                return client_fail(c, -ENOTCONN, TDI_ERROR_NONE, "This client is not connected to a bus.");
        return 0;
}

static int open_address(const char *address, sd_bus **ret) {
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r;

        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, address);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, 1);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

int tdi_client_connect(struct tdi_client *c, const char *where) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        _cleanup_free_ char *label = NULL;
        const char *unique;
        int r;

        r = client_enter(c);
        if (r >= 0)
                return client_fail(c, -EISCONN, TDI_ERROR_NONE, "This client is connected already.");
        if (r != -ENOTCONN)
                return r;

        if (!where || streq(where, "system")) {
                const char *address = getenv("DBUS_SYSTEM_BUS_ADDRESS");

                if (isempty(address))
                        label = strdup("the system bus");
                else if (asprintf(&label, "the system bus at %s", address) < 0)
                        label = NULL;
                r = label ? sd_bus_open_system(&bus) : -ENOMEM;
        } else if (streq(where, "session")) {
                label = strdup("the session bus");
                r = label ? sd_bus_open_user(&bus) : -ENOMEM;
        } else if (strchr(where, ':')) {
                if (asprintf(&label, "the bus at %s", where) < 0)
                        label = NULL;
                r = label ? open_address(where, &bus) : -ENOMEM;
        } else
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "'%s' is not a bus: give system, session or an address.", where);

        /* The handshake is lazy; asking for our name ends it. */
        if (r >= 0)
                r = sd_bus_get_unique_name(bus, &unique);
        if (r == -ENOMEM)
                return r;
        if (r == -EINVAL && where && strchr(where, ':'))
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "'%s' is not a D-Bus address.", where);
        if (r < 0)
                return client_fail(c, -EHOSTUNREACH, TDI_ERROR_NONE, "tdid cannot be reached: tried to connect to %s: %s. Is a D-Bus daemon running there? "
                                   "tdid itself is started with 'systemctl start tdid', or as root with 'tdid'.",
                                   label, strerror(-r));
        if (sd_bus_can_send(bus, SD_BUS_TYPE_UNIX_FD) <= 0)
                return client_fail(c, -EHOSTUNREACH, TDI_ERROR_NONE, "%s does not pass file descriptors, which tdid needs.", label);

        free(c->error_text);
        c->error_text = NULL;
        c->bus = TAKE_PTR(bus);
        c->bus_label = TAKE_PTR(label);
        return 0;
}

void tdi_client_set_progress(struct tdi_client *c, tdi_progress_callback callback, void *userdata) {
        c->progress = callback;
        c->progress_data = userdata;
}

void tdi_client_set_interactive(struct tdi_client *c, bool interactive) {
        c->interactive = interactive;
}

void tdi_client_set_dry_run(struct tdi_client *c, bool dry_run) {
        c->dry_run = dry_run;
        free(c->plan);
        c->plan = NULL;
}

const char *tdi_client_plan(const struct tdi_client *c) {
        return c->plan;
}

void tdi_client_set_autostart(struct tdi_client *c, bool autostart) {
        c->no_autostart = !autostart;
}

void tdi_client_set_wake_fd(struct tdi_client *c, int fd) {
        c->wake_fd = fd < 0 ? -EBADF : fd;
}

uint64_t client_now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * UINT64_C(1000000) + (uint64_t) ts.tv_nsec / 1000;
}

int client_poll(struct tdi_client *c, uint64_t until, bool *ret_woken) {
        struct pollfd fds[2] = {
                { .fd = -1 },
                { .fd = ret_woken ? c->wake_fd : -1, .events = POLLIN },
        };
        uint64_t bus_until, now = client_now();
        int r, timeout = -1;

        r = tdi_client_get_fd(c);
        if (r < 0)
                return r;
        fds[0].fd = r;
        r = tdi_client_get_poll(c, &fds[0].events, &bus_until);
        if (r < 0)
                return r;
        if (bus_until < until)
                until = bus_until;
        if (until != UINT64_MAX) {
                /* Rounded up, so that the time has come when poll() returns. */
                uint64_t msec = until > now ? (until - now + 999) / 1000 : 0;

                timeout = msec > 3600000 ? 3600000 : (int) msec;
        }

        r = poll(fds, ARRAY_SIZE(fds), timeout);
        if (r < 0 && errno != EINTR)
                return -errno;
        if (r > 0 && (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL)))
                c->wake_fd = -EBADF; /* would wake us for ever */
        if (ret_woken)
                *ret_woken = r > 0 && (fds[1].revents & POLLIN);
        return 0;
}

int tdi_client_get_fd(struct tdi_client *c) {
        int r;

        if (!c || !c->bus)
                return -ENOTCONN;
        r = sd_bus_get_fd(c->bus);
        return r == -ENOTCONN || r == -EPERM ? -ECONNRESET : r;
}

int tdi_client_get_poll(struct tdi_client *c, short *ret_events, uint64_t *ret_until) {
        uint64_t until = UINT64_MAX;
        int events;

        if (!c || !c->bus)
                return -ENOTCONN;
        events = sd_bus_get_events(c->bus);
        if (events < 0)
                return -ECONNRESET;
        if (sd_bus_get_timeout(c->bus, &until) < 0)
                return -ECONNRESET;
        if (ret_events)
                *ret_events = (short) events;
        if (ret_until)
                *ret_until = until;
        return 0;
}
