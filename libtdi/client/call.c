/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One call to tdid, and what its errors mean to our caller. Jobs are waited for in job.c. */
#include <stdio.h>

#include "client-internal.h"

const char *client_path_id(const char *path, const char *prefix) {
        const char *id;

        if (!path || !startswith(path, prefix))
                return NULL;
        id = path + strlen(prefix);
        return *id && !strchr(id, '/') ? id : NULL;
}

/* An error by name: tdid's own are understood, others are only told. */
int client_fail_named(struct tdi_client *c, const char *name, const char *text, const struct client_what *what) {
        enum tdi_error error = startswith(name, TDI_ERROR_PREFIX) ? tdi_error_from_name(name) : TDI_ERROR_INVALID;

        if (error == TDI_ERROR_INVALID || error == TDI_ERROR_NONE)
                return client_fail(c, -EIO, TDI_ERROR_NONE, "Could not %s: %s (%s).", what->action, isempty(text) ? "no reason given" : text, name);
        if (isempty(text))
                return client_fail(c, -tdi_error_to_errno(error), error, "Could not %s: %s.", what->action, tdi_error_to_name(error));
        return client_fail(c, -tdi_error_to_errno(error), error, "%s", text);
}

static bool unreachable(const sd_bus_error *e) {
        return sd_bus_error_has_names(e, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_NO_SERVER,
                                      "org.freedesktop.DBus.Error.TimedOut") ||
                (e->name && (startswith(e->name, "org.freedesktop.DBus.Error.Spawn.") || startswith(e->name, "org.freedesktop.systemd1.")));
}

int client_fail_bus(struct tdi_client *c, int r, const sd_bus_error *e, const struct client_what *what) {
        const char *text = e->message ? e->message : strerror(-r);

        if (r == -ENOMEM)
                return r;
        if (e->name && startswith(e->name, TDI_ERROR_PREFIX))
                return client_fail_named(c, e->name, e->message, what);

        if (unreachable(e))
                return client_fail(c, -EHOSTUNREACH, TDI_ERROR_NONE,
                                   "tdid is not running: tried to %s, but nobody owns " TDI_BUS_NAME " on %s and it could not be started (%s). "
                                   "Start it with 'systemctl start tdid', or run 'tdid' as root.",
                                   what->action, c->bus_label, text);
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED) || r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE)
                return client_fail(c, -ECONNRESET, TDI_ERROR_NONE,
                                   "tdid went away while it was asked to %s (%s). It may have begun: look with 'tdictl status'.", what->action, text);
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_TIMEOUT) || r == -ETIMEDOUT)
                return client_fail(c, -ETIMEDOUT, TDI_ERROR_TIMEOUT,
                                   "tdid did not answer in time when asked to %s. It may have begun: look with 'tdictl status'.", what->action);
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_UNKNOWN_OBJECT) && what->object)
                return client_fail(c, -ENOENT, TDI_ERROR_NOT_FOUND, "Could not %s: there is no %s.", what->action, what->object);
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_ACCESS_DENIED))
                return client_fail(c, -EACCES, TDI_ERROR_DENIED, "Could not %s: the bus does not let this user: %s.", what->action, text);
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_INVALID_ARGS, SD_BUS_ERROR_INVALID_SIGNATURE))
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "Could not %s: %s.", what->action, text);
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_UNKNOWN_METHOD, SD_BUS_ERROR_UNKNOWN_INTERFACE, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return client_fail(c, -EOPNOTSUPP, TDI_ERROR_NOT_SUPPORTED, "Could not %s: the running tdid does not know how (%s).", what->action, text);
        if (e->name)
                return client_fail(c, -EIO, TDI_ERROR_NONE, "Could not %s: %s (%s).", what->action, text, e->name);
        return client_fail(c, r, TDI_ERROR_NONE, "Could not %s: %s.", what->action, text);
}

int client_fail_answer(struct tdi_client *c, int r, const struct client_what *what) {
        if (r == -ENOMEM)
                return r;
        return client_fail(c, -EBADMSG, TDI_ERROR_NONE, "Tried to %s: tdid's answer does not have the form that this libtdi knows.", what->action);
}

/* Those that have a twin which only says what they would do. */
static bool is_acting(const char *member) {
        static const char *const names[] = { "CreateVM", "Attach", "Seal", "Destroy", "Detach", "Bind", "Unbind", "Connect", "Disconnect", "Restore" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(names[i], member))
                        return true;
        return false;
}

int client_new_call(struct tdi_client *c, const char *path, const char *interface, const char *member, sd_bus_message **ret) {
        char planned[64];
        int r;

        if (c->dry_run && is_acting(member)) {
                snprintf(planned, sizeof(planned), "Plan%s", member);
                member = planned;
        }
        r = sd_bus_message_new_method_call(c->bus, ret, TDI_BUS_NAME, path, interface, member);
        if (r == -ENOTCONN)
                return client_fail(c, -ECONNRESET, TDI_ERROR_NONE, "The connection to %s is lost.", c->bus_label);
        if (r >= 0 && c->interactive)
                r = sd_bus_message_set_allow_interactive_authorization(*ret, 1);
        if (r >= 0 && c->no_autostart)
                r = sd_bus_message_set_auto_start(*ret, 0);
        if (r < 0 && r != -ENOMEM)
                return client_fail(c, r, TDI_ERROR_NONE, "Could not make a call of %s.%s: %s.", interface, member, strerror(-r));
        return r;
}

/* sd-bus's own time limit; and one that a person needs to answer all that polkit may ask about one call. */
#define BUS_USEC UINT64_C(25000000)
#define DIALOG_USEC UINT64_C(600000000)

/* Whoever has set a time limit for all calls (SYSTEMD_BUS_TIMEOUT) means it. */
uint64_t client_patience(struct tdi_client *c, uint64_t usec) {
        uint64_t all;

        if (!c->interactive || sd_bus_get_method_call_timeout(c->bus, &all) < 0 || all != BUS_USEC)
                return usec;
        return usec > DIALOG_USEC ? usec : DIALOG_USEC;
}

int client_call_for(struct tdi_client *c, sd_bus_message *call, uint64_t usec, const struct client_what *what, sd_bus_message **ret_reply) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_call(c->bus, call, client_patience(c, usec), &e, ret_reply);
        if (r < 0)
                return client_fail_bus(c, r, &e, what);
        return 0;
}

int client_call(struct tdi_client *c, sd_bus_message *call, const struct client_what *what, sd_bus_message **ret_reply) {
        return client_call_for(c, call, 0, what, ret_reply);
}

int client_read_text_for(struct tdi_client *c, sd_bus_message *call, uint64_t usec, const struct client_what *what, char **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *text;
        char *copy;
        int r;

        r = client_call_for(c, call, usec, what, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return client_fail_answer(c, r, what);
        copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

int client_read_plan(struct tdi_client *c, sd_bus_message *call, const struct client_what *what) {
        free(c->plan);
        c->plan = NULL;
        return client_read_text_for(c, call, 0, what, &c->plan);
}

int client_read_text(struct tdi_client *c, sd_bus_message *call, const struct client_what *what, char **ret) {
        return client_read_text_for(c, call, 0, what, ret);
}

int client_copy_struct(void *to, size_t to_size, const void *from, size_t from_size) {
        const uint8_t *bytes = from;

        if (from_size < sizeof(size_t))
                return -EINVAL;
        for (size_t i = to_size; i < from_size; i++)
                if (bytes[i])
                        return -E2BIG;
        memset(to, 0, to_size);
        memcpy(to, from, from_size < to_size ? from_size : to_size);
        return 0;
}

int client_read_fd(struct tdi_client *c, sd_bus_message *reply, const struct client_what *what, const char *thing, int *ret) {
        int r, fd;

        r = sd_bus_message_read(reply, "h", &fd);
        if (r < 0)
                return client_fail_answer(c, r, what);
        fd = fd_dup(fd);
        if (fd < 0)
                return client_fail(c, fd, TDI_ERROR_NONE, "Could not keep the %s of %s: %s. It is closed again.", thing, what->object, strerror(-fd));
        *ret = fd;
        return 0;
}
