/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * org.tdid1.TDI.OpenRequests and GuestRequest: requests of a guest to its TSM (tdi/request.h). The VM's holder passes them on; who may make
 * which, and how often, is checked there, for a socket of tdid's own as for a VMM's. So GuestRequest is a client of such a socket.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <tdi/request.h>

#include "bus/bus-vm.h"
#include "handoff.h"
#include "vpci.h"

/* Callers that wait, each with a request. */
#define WAITING_MAX 16

static int make_pair(int pair[static 2]) {
        return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
}

/* 0 with a function that takes requests; anything else is what the method has to return. */
static int find_tdi(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, TDI **ret, sd_bus_error *e) {
        TDI *t = bus_tdi(m, sd_bus_message_get_path(call));
        uid_t uid;
        int r;

        if (!t)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function has been detached");
        r = access_vm(m, POLKIT_MANAGE_ANY_VM, t->vm, t->custody->name, call, method, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_vm_is_open(t->vm, e);
        if (r < 0)
                return r;
        if (!tdi_is_attached(t) || !custody_has_socket(t->custody) || custody_is_handed_off(t->custody))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s %s", t->custody->name,
                                 custody_is_handed_off(t->custody) ? "was handed off: who has its descriptors makes requests with them" :
                                                                     "is not prepared: it takes no requests");
        if (!vpci_takes_requests(t->vm))
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "the holder of VM %s is an earlier tdid's and passes no requests on: destroy the VM and create it anew",
                                 t->vm->name);
        *ret = t;
        return 0;
}

/* What the holder says when it gets one more socket. */
static int refused(const char *bdf, int r, sd_bus_error *e) {
        if (r == -ENOSPC)
                return bus_error(e, TDI_ERROR_LIMIT, "%s has as many sockets for requests as it can have: close one", bdf);
        if (r == -ENOENT)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not served any more", bdf);
        return bus_error(e, TDI_ERROR_KERNEL, "the VM's holder did not take the socket for requests about %s: %s", bdf, strerror(-r));
}

/* ---- OpenRequests ---- */

struct opening {
        sd_bus_message *call;
        Manager *manager;
        struct tdi_bdf function;
        char bdf[TDI_BDF_MAX];
        int socket; /* the caller's end */
};

static struct opening *opening_free(struct opening *o) {
        sd_bus_message_unref(o->call);
        close_fd(o->socket);
        free(o);
        return NULL;
}

static void on_opened(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        struct opening *o = userdata;
        TDI *t = tdi_find(o->manager, o->function);

        if (t && t->openings > 0)
                t->openings--;
        if (r >= 0)
                (void) sd_bus_reply_method_return(o->call, "h", o->socket);
        else
                (void) sd_bus_reply_method_errno(o->call, refused(o->bdf, r, &error), &error);
        opening_free(o);
}

int bus_method_open_requests(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        _cleanup_close_ int theirs = -EBADF;
        struct opening *o;
        int pair[2], r;
        TDI *t;

        r = find_tdi(userdata, call, bus_method_open_requests, &t, e);
        if (r != 0)
                return r;
        if (t->openings >= WAITING_MAX)
                return bus_error(e, TDI_ERROR_LIMIT, "%u sockets for requests about %s are being opened already", t->openings, t->custody->name);
        r = make_pair(pair);
        if (r < 0)
                return r;
        theirs = pair[1];
        o = calloc(1, sizeof(*o));
        if (!o)
                log_oom();
        *o = (struct opening){ .call = sd_bus_message_ref(call), .manager = t->vm->manager, .function = t->bdf, .socket = pair[0] };
        tdi_bdf_format(t->bdf, o->bdf);
        r = vpci_open_requests(t->custody, theirs, on_opened, o);
        if (r >= 0) {
                t->openings++;
                return 1;
        }
        r = refused(o->bdf, r, e);
        opening_free(o);
        return r;
}

/* ---- GuestRequest ---- */

struct waiting {
        sd_bus_message *call;
        struct tdi_request_header header;
        void *data;
        size_t size;
        struct waiting *next;
};

/* A function's: tdid's own socket, and who waits for an answer, which come in order. */
struct guest_requests {
        TDI *tdi; /* NULL: it is gone, and the holder has not answered yet */
        char bdf[TDI_BDF_MAX];
        int socket;
        bool opening, sent; /* the holder has been given the other end; the first one's request is under way */
        sd_event_source *io;
        struct waiting *first, **last;
        size_t n;
        uint64_t next_id;
};

static void pop(struct guest_requests *g) {
        struct waiting *w = g->first;

        g->first = w->next;
        if (!g->first)
                g->last = &g->first;
        g->n--;
        g->sent = false;
        sd_bus_message_unref(w->call);
        free(w->data);
        free(w);
}

static void fail_all(struct guest_requests *g, int r) {
        while (g->first) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

                (void) sd_bus_reply_method_errno(g->first->call, refused(g->bdf, r, &error), &error);
                pop(g);
        }
}

static void hang_up(struct guest_requests *g) {
        g->io = sd_event_source_disable_unref(g->io);
        g->socket = close_fd(g->socket);
        fail_all(g, -ENOENT);
}

static struct guest_requests *requests_free(struct guest_requests *g) {
        hang_up(g);
        free(g);
        return NULL;
}

void bus_end_guest_requests(TDI *t) {
        struct guest_requests *g = TAKE_PTR(t->guest_requests);

        if (!g)
                return;
        hang_up(g);
        g->tdi = NULL;
        if (!g->opening)
                requests_free(g);
}

static void send_first(struct guest_requests *g) {
        struct waiting *w = g->first;
        struct iovec iov[2];
        struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };

        if (!w || g->sent || g->opening || g->socket < 0)
                return;
        iov[0] = (struct iovec){ &w->header, sizeof(w->header) };
        iov[1] = (struct iovec){ w->data, w->size };
        /* There is room for one, and no other is under way. */
        if (sendmsg(g->socket, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                hang_up(g);
        else
                g->sent = true;
}

static int answer_error(const struct guest_requests *g, const struct tdi_answer_header *h, sd_bus_error *e) {
        switch (h->error) {
        case -ENOTCONN:
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not bound: there is nobody to ask", g->bdf);
        case -EBUSY:
                return bus_error(e, TDI_ERROR_BUSY, "a request of the VMM to %s is under way that this would lock out; try again (TSM code %#llx)", g->bdf,
                                 (unsigned long long) h->tsm_code);
        case -EOPNOTSUPP:
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "the TSM of %s takes no requests of guests", g->bdf);
        default:
                return bus_error(e, TDI_ERROR_KERNEL, "the TSM refused the request about %s: %s, TSM code %#llx", g->bdf, strerror(-h->error),
                                 (unsigned long long) h->tsm_code);
        }
}

static int answer(struct guest_requests *g, const struct tdi_answer_header *h, const void *data, size_t size) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *call = g->first->call;
        int r;

        if (h->error < 0) {
                r = answer_error(g, h, &error);
                bus_method_refused(g->tdi->vm->manager, call, NULL, r, &error);
                return sd_bus_reply_method_errno(call, r, &error);
        }
        r = sd_bus_message_new_method_return(call, &m);
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', data, size);
        if (r >= 0)
                r = sd_bus_message_append(m, "t", h->tsm_code);
        return r < 0 ? r : sd_bus_send(NULL, m, NULL);
}

static int on_io(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        static uint8_t data[TDI_REQUEST_SIZE_MAX];
        struct tdi_answer_header header;
        struct iovec iov[] = { { &header, sizeof(header) }, { data, sizeof(data) } };
        struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
        struct guest_requests *g = userdata;
        ssize_t n;

        n = recvmsg(g->socket, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n < (ssize_t) sizeof(header) || !g->sent || header.id != g->first->header.id) {
                hang_up(g);
                return 0;
        }
        if (answer(g, &header, data, (size_t) n - sizeof(header)) < 0)
                log_warning("%s: could not answer a request of its guest on the bus", g->bdf);
        pop(g);
        send_first(g);
        return 0;
}

static void on_own_opened(int r, _unused_ struct json_object *message, _unused_ struct ipc_fds *fds, void *userdata) {
        struct guest_requests *g = userdata;

        g->opening = false;
        if (!g->tdi) {
                requests_free(g);
                return;
        }
        if (r < 0) {
                fail_all(g, r);
                hang_up(g);
        } else
                send_first(g);
}

static int open_own(struct guest_requests *g) {
        _cleanup_close_ int theirs = -EBADF;
        int pair[2], r;

        if (g->socket >= 0)
                return 0;
        r = make_pair(pair);
        if (r < 0)
                return r;
        g->socket = pair[0];
        theirs = pair[1];
        r = sd_event_add_io(g->tdi->vm->manager->event, &g->io, g->socket, EPOLLIN, on_io, g);
        if (r >= 0)
                r = vpci_open_requests(g->tdi->custody, theirs, on_own_opened, g);
        if (r < 0) {
                g->io = sd_event_source_disable_unref(g->io);
                g->socket = close_fd(g->socket);
                return r;
        }
        g->opening = true;
        return 0;
}

static struct guest_requests *own(TDI *t) {
        struct guest_requests *g = t->guest_requests;

        if (g)
                return g;
        g = calloc(1, sizeof(*g));
        if (!g)
                log_oom();
        g->tdi = t;
        tdi_bdf_format(t->bdf, g->bdf);
        g->socket = -EBADF;
        g->last = &g->first;
        t->guest_requests = g;
        return g;
}

static void add(struct guest_requests *g, sd_bus_message *call, enum tdi_request_kind kind, const void *data, size_t size) {
        struct waiting *w = calloc(1, sizeof(*w));

        if (!w || (size > 0 && !(w->data = malloc(size))))
                log_oom();
        w->call = sd_bus_message_ref(call);
        w->header = (struct tdi_request_header){ sizeof(w->header), (uint32_t) kind, ++g->next_id, TDI_REQUEST_SIZE_MAX, 0 };
        if (size > 0)
                memcpy(w->data, data, size);
        w->size = size;
        *g->last = w;
        g->last = &w->next;
        g->n++;
}

int bus_method_guest_request(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        enum tdi_request_kind kind;
        struct guest_requests *g;
        Manager *m = userdata;
        const char *name;
        const void *data;
        size_t size;
        TDI *t;
        int r;

        r = sd_bus_message_read(call, "s", &name);
        if (r >= 0)
                r = sd_bus_message_read_array(call, 'y', &data, &size);
        if (r < 0)
                return r;
        kind = tdi_request_kind_from_string(name);
        if (kind == TDI_REQUEST_KIND_INVALID)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "\"%s\" is no kind of request: info, report, lock, start, stop, state-change", name);
        if (size > TDI_REQUEST_SIZE_MAX)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "a request has at most %u bytes", TDI_REQUEST_SIZE_MAX);
        r = find_tdi(m, call, bus_method_guest_request, &t, e);
        if (r != 0)
                return r;
        if (!(vpci_allowed_requests(m) & 1u << kind))
                return bus_error(e, TDI_ERROR_POLICY, "requests of kind \"%s\" are not passed on: \"guest_requests\" or \"guest_state_changes\" in \"policy\" of %s is false",
                                 name, m->config_path);
        if (custody_unbind_is_refused(t->custody))
                return bus_error(e, TDI_ERROR_QUARANTINED, "%s is quarantined: %s; no request goes to its TSM any more", t->custody->name, t->custody->quarantine);
        if (!custody_is_bound(t->custody))
                return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is not bound: there is nobody to ask", t->custody->name);
        g = own(t);
        if (g->n >= WAITING_MAX)
                return bus_error(e, TDI_ERROR_LIMIT, "%zu requests about %s wait for an answer already", g->n, g->bdf);
        r = open_own(g);
        if (r < 0)
                return refused(g->bdf, r, e);
        add(g, call, kind, data, size);
        send_first(g);
        return 1;
}
