/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The calls on one function by its address: as a TDI of its VM, or as a device of the host. All that act are jobs. */
#include <stdio.h>

#include "client-internal.h"

#define EVIDENCE_USEC UINT64_C(120000000)

struct action {
        const char *prefix, *interface, *member;
        const char *verb;    /* "detach" */
        const char *missing; /* what is not there when the object is not: "attached function" */
};

/* The action on a function, for errors. */
struct function_what {
        struct client_what what;
        char action[64], object[64];
};

/* Begins the call. */
static int function_call(struct tdi_client *c, const struct action *a, struct tdi_bdf bdf, struct function_what *w, sd_bus_message **ret) {
        char label[TDI_BDF_MAX], text[TDI_BDF_MAX], path[64];
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        (void) tdi_bdf_format(bdf, text);
        snprintf(path, sizeof(path), "%s%s", a->prefix, tdi_bdf_to_label(bdf, label));
        snprintf(w->action, sizeof(w->action), "%s %s", a->verb, text);
        snprintf(w->object, sizeof(w->object), "%s %s", a->missing, text);
        w->what = (struct client_what){ w->action, w->object };
        return client_new_call(c, path, a->interface, a->member, ret);
}

static int act(struct tdi_client *c, const struct action *a, struct tdi_bdf bdf, const char *first_argument) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct function_what w;
        int r;

        r = function_call(c, a, bdf, &w, &m);
        if (r < 0)
                return r;
        if (first_argument) {
                r = sd_bus_message_append(m, "s", first_argument);
                if (r < 0)
                        return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The name of the TSM is not valid UTF-8.");
        }
        r = sd_bus_message_append(m, "a{sv}", 1, "async", "b", 1);
        return r < 0 ? r : client_run_job(c, m, &w.what);
}

int tdi_client_detach(struct tdi_client *c, struct tdi_bdf bdf) {
        static const struct action a = { TDI_PATH_TDI, TDI_IFACE_TDI, "Detach", "detach", "attached function" };

        return act(c, &a, bdf, NULL);
}

int tdi_client_bind(struct tdi_client *c, struct tdi_bdf bdf) {
        static const struct action a = { TDI_PATH_TDI, TDI_IFACE_TDI, "Bind", "bind", "attached function" };

        return act(c, &a, bdf, NULL);
}

int tdi_client_unbind(struct tdi_client *c, struct tdi_bdf bdf) {
        static const struct action a = { TDI_PATH_TDI, TDI_IFACE_TDI, "Unbind", "unbind", "attached function" };

        return act(c, &a, bdf, NULL);
}

int tdi_client_handoff(struct tdi_client *c, struct tdi_bdf bdf, int *ret_iommufd, int *ret_device) {
        static const struct action a = { TDI_PATH_TDI, TDI_IFACE_TDI, "Handoff", "be handed", "attached function" };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_close_ int iommufd = -EBADF, device = -EBADF;
        struct function_what w;
        int r, fds[2];

        r = function_call(c, &a, bdf, &w, &m);
        if (r < 0)
                return r;
        if (!ret_iommufd || !ret_device)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "The descriptors need a place.");
        r = client_call(c, m, &w.what, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "hh", &fds[0], &fds[1]);
        if (r < 0)
                return client_fail_answer(c, r, &w.what);
        iommufd = fd_dup(fds[0]);
        device = fd_dup(fds[1]);
        if (iommufd < 0 || device < 0) {
                r = iommufd < 0 ? iommufd : device;
                return client_fail(c, r, TDI_ERROR_NONE, "Could not keep the descriptors of %s: %s. They are closed again.", w.what.object, strerror(-r));
        }
        *ret_iommufd = TAKE_FD(iommufd);
        *ret_device = TAKE_FD(device);
        return 0;
}

int tdi_client_open_requests(struct tdi_client *c, struct tdi_bdf bdf, int *ret_socket) {
        static const struct action a = { TDI_PATH_TDI, TDI_IFACE_TDI, "OpenRequests", "open a socket for requests about", "attached function" };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        struct function_what w;
        int r;

        r = function_call(c, &a, bdf, &w, &m);
        if (r < 0)
                return r;
        if (!ret_socket)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "The socket needs a place.");
        r = client_call(c, m, &w.what, &reply);
        return r < 0 ? r : client_read_fd(c, reply, &w.what, "socket", ret_socket);
}

int tdi_client_guest_request(struct tdi_client *c, struct tdi_bdf bdf, struct tdi_request *q) {
        static const struct action a = { TDI_PATH_TDI, TDI_IFACE_TDI, "GuestRequest", "make a request about", "attached function" };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        struct function_what w;
        const void *data;
        size_t n;
        int r;

        r = function_call(c, &a, bdf, &w, &m);
        if (r < 0)
                return r;
        if (!q || q->size != sizeof(*q) || !tdi_request_kind_to_string(q->kind) || q->in_size > TDI_REQUEST_SIZE_MAX || q->out_size > TDI_REQUEST_SIZE_MAX ||
            (q->in_size > 0 && !q->in) || (q->out_size > 0 && !q->out))
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "The request is malformed.");
        q->out_used = 0;
        q->tsm_code = 0;
        r = sd_bus_message_append(m, "s", tdi_request_kind_to_string(q->kind));
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', q->in, q->in_size);
        if (r >= 0)
                r = client_call(c, m, &w.what, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read_array(reply, 'y', &data, &n);
        if (r >= 0)
                r = sd_bus_message_read(reply, "t", &q->tsm_code);
        if (r < 0)
                return client_fail_answer(c, r, &w.what);
        if (n > q->out_size)
                return client_fail(c, -EMSGSIZE, TDI_ERROR_NONE, "The answer has %zu bytes, and there is room for %zu.", n, q->out_size);
        if (n > 0)
                memcpy(q->out, data, n);
        q->out_used = n;
        return 0;
}

int tdi_client_connect_device(struct tdi_client *c, struct tdi_bdf bdf, const char *tsm) {
        static const struct action a = { TDI_PATH_DEVICE, TDI_IFACE_DEVICE, "Connect", "connect", "PCI function" };

        return act(c, &a, bdf, strempty(tsm));
}

int tdi_client_disconnect_device(struct tdi_client *c, struct tdi_bdf bdf) {
        static const struct action a = { TDI_PATH_DEVICE, TDI_IFACE_DEVICE, "Disconnect", "disconnect", "PCI function" };

        return act(c, &a, bdf, NULL);
}

int tdi_client_restore_device(struct tdi_client *c, struct tdi_bdf bdf, bool force) {
        static const struct action a = { TDI_PATH_DEVICE, TDI_IFACE_DEVICE, "Restore", "restore", "PCI function" };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct function_what w;
        int r;

        if (!force)
                return act(c, &a, bdf, NULL);
        r = function_call(c, &a, bdf, &w, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{sv}", 2, "async", "b", 1, "force", "b", 1);
        return r < 0 ? r : client_run_job(c, m, &w.what);
}

int tdi_client_describe_device(struct tdi_client *c, struct tdi_bdf bdf, char **ret_json) {
        static const struct action a = { TDI_PATH_DEVICE, TDI_IFACE_DEVICE, "Describe", "describe", "PCI function" };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct function_what w;
        int r;

        r = function_call(c, &a, bdf, &w, &m);
        return r < 0 ? r : client_read_text(c, m, &w.what, ret_json);
}

static int evidence(struct tdi_client *c, struct tdi_bdf bdf, const char *nonce, bool archived, bool verify, char **ret_json, int *ret_raw) {
        static const struct action a = { TDI_PATH_DEVICE, TDI_IFACE_DEVICE, "Evidence", "ask for the evidence of", "PCI function" };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_free_ char *copy = NULL;
        struct function_what w;
        const char *text;
        int r, fd;

        r = function_call(c, &a, bdf, &w, &m);
        if (r < 0)
                return r;
        if (!ret_json)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "The evidence needs a place.");
        r = nonce    ? sd_bus_message_append(m, "a{sv}", 2, "verify", "b", verify, "nonce", "s", nonce) :
            archived ? sd_bus_message_append(m, "a{sv}", 2, "verify", "b", verify, "archived", "b", true) :
                       sd_bus_message_append(m, "a{sv}", 1, "verify", "b", verify);
        if (r < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The nonce is not valid UTF-8.");
        /* The device has a minute, and others may be before us. */
        r = client_call_for(c, m, EVIDENCE_USEC, &w.what, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "sh", &text, &fd);
        if (r < 0)
                return client_fail_answer(c, r, &w.what);
        copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        if (ret_raw) {
                fd = fd_dup(fd);
                if (fd < 0)
                        return client_fail(c, fd, TDI_ERROR_NONE, "Could not keep the evidence of %s: %s.", w.what.object, strerror(-fd));
                *ret_raw = fd;
        }
        *ret_json = TAKE_PTR(copy);
        return 0;
}

int tdi_client_evidence(struct tdi_client *c, struct tdi_bdf bdf, const char *nonce, bool verify, char **ret_json, int *ret_raw) {
        return evidence(c, bdf, nonce, false, verify, ret_json, ret_raw);
}

int tdi_client_archived_evidence(struct tdi_client *c, struct tdi_bdf bdf, bool verify, char **ret_json, int *ret_raw) {
        return evidence(c, bdf, NULL, true, verify, ret_json, ret_raw);
}
