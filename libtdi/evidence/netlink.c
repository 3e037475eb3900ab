/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks, waits, and asks again where the evidence changed meanwhile. What the answers mean is netlink-reader.c's. */
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "evidence/netlink-reader.h"
#include "evidence/netlink.h"
#include "host/device_evidence.h"
#include "tdi/bdf.h"

/* A dump's datagrams have 32 KiB at most, unless the family wants more. */
#define DATAGRAM_MAX (64u << 10)
/* Before the second attempt; twice as long before each further one. */
#define PAUSE_MSEC 10

DEFINE_CLEANUP(struct nl_sock *, nl_socket_free);
DEFINE_CLEANUP(struct nl_msg *, nlmsg_free);

static int64_t now_msec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int open_socket(struct nl_sock **ret, int *ret_family, struct evidence_why *why) {
        _cleanup_(nl_socket_freep) struct nl_sock *s = nl_socket_alloc();
        const int on = 1;
        int e;

        if (!s)
                return -ENOMEM;
        e = genl_connect(s);
        if (e < 0)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "cannot open a generic netlink socket: %s", nl_geterror(e));
        e = genl_ctrl_resolve(s, TDI_DEVICE_EVIDENCE_FAMILY_NAME);
        if (e == -NLE_OBJ_NOTFOUND) {
                (void) evidence_refuse(why, EVIDENCE_TRANSPORT, "the kernel has no generic netlink family \"%s\"", TDI_DEVICE_EVIDENCE_FAMILY_NAME);
                return -EOPNOTSUPP;
        }
        if (e < 0)
                return evidence_refuse(why, EVIDENCE_TRANSPORT,
                                       "cannot ask the kernel for the generic netlink family \"%s\": %s", TDI_DEVICE_EVIDENCE_FAMILY_NAME,
                                       nl_geterror(e));
        *ret_family = e;
        /* Only for the texts of errors: a kernel without it does not give them. */
        (void) setsockopt(nl_socket_get_fd(s), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
        (void) setsockopt(nl_socket_get_fd(s), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
        nl_socket_disable_auto_ack(s);
        e = nl_socket_set_msg_buf_size(s, DATAGRAM_MAX);
        if (e == 0)
                e = nl_socket_set_nonblocking(s);
        if (e < 0)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "cannot set up a generic netlink socket: %s", nl_geterror(e));
        *ret = TAKE_PTR(s);
        return 0;
}

static int send_request(struct nl_sock *s, const char *bdf, const uint8_t *nonce, size_t nonce_size, struct netlink_reader *r,
                        struct evidence_why *why) {
        _cleanup_(nlmsg_freep) struct nl_msg *m = nlmsg_alloc();
        int e;

        if (!m || !genlmsg_put(m, NL_AUTO_PORT, NL_AUTO_SEQ, r->family, 0, NLM_F_REQUEST | NLM_F_DUMP, TDI_DEVICE_EVIDENCE_CMD_READ,
                               TDI_DEVICE_EVIDENCE_FAMILY_VERSION) ||
            nla_put_u32(m, TDI_DEVICE_EVIDENCE_A_TYPE_MASK, r->type_mask) < 0 || nla_put_string(m, TDI_DEVICE_EVIDENCE_A_SUBSYS, "pci") < 0 ||
            nla_put_string(m, TDI_DEVICE_EVIDENCE_A_DEV_NAME, bdf) < 0 ||
            (nonce && nla_put(m, TDI_DEVICE_EVIDENCE_A_NONCE, (int) nonce_size, nonce) < 0))
                return -ENOMEM;
        /* A kernel that measures does so in here. */
        e = nl_send_auto(s, m);
        if (e < 0)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "cannot ask the kernel for the evidence of %s: %s", bdf, nl_geterror(e));
        r->sequence = nlmsg_hdr(m)->nlmsg_seq;
        r->port = nl_socket_get_local_port(s);
        return 0;
}

static int receive(struct nl_sock *s, int64_t deadline, struct netlink_reader *r, struct evidence_why *why) {
        for (;;) {
                _cleanup_free_ unsigned char *datagram = NULL;
                struct pollfd p = { .fd = nl_socket_get_fd(s), .events = POLLIN };
                struct sockaddr_nl from = {};
                const int64_t left = deadline - now_msec();
                int n, e;

                if (left <= 0)
                        return evidence_refuse(why, EVIDENCE_TIMEOUT, "the kernel's evidence did not end within %u s", EVIDENCE_NETLINK_TIMEOUT);
                if (poll(&p, 1, (int) left) < 0 && errno != EINTR)
                        return evidence_refuse(why, EVIDENCE_TRANSPORT, "cannot wait for the kernel's evidence: %s", strerrorname_np(errno));
                /* In here the kernel makes the next datagram. */
                n = nl_recv(s, &from, &datagram, NULL);
                if (n == -NLE_AGAIN)
                        continue;
                if (n <= 0)
                        return evidence_refuse(why, EVIDENCE_TRANSPORT,
                                               "cannot receive the kernel's evidence: %s", n < 0 ? nl_geterror(n) : "end of file");
                if (from.nl_pid != 0)
                        return evidence_refuse(why, EVIDENCE_UNEXPECTED, "a netlink datagram came from port %u, not from the kernel", from.nl_pid);
                e = netlink_reader_feed(r, datagram, (size_t) n, why);
                if (e != 0)
                        return e;
        }
}

/* Each attempt has its own socket: nothing of one that was given up can get into the next. */
static int attempt(const char *bdf, const uint8_t *nonce, size_t nonce_size, int64_t deadline, struct netlink_reader *r, struct evidence_why *why) {
        _cleanup_(nl_socket_freep) struct nl_sock *s = NULL;
        int family = 0, e;

        e = open_socket(&s, &family, why);
        if (e < 0)
                return e;
        r->family = (uint16_t) family;
        e = send_request(s, bdf, nonce, nonce_size, r, why);
        if (e < 0)
                return e;
        return receive(s, deadline, r, why);
}

/* False if the next attempt would begin behind the deadline. */
static bool pause_before_next(unsigned n, int64_t deadline) {
        const int64_t msec = PAUSE_MSEC << n;
        const struct timespec ts = { msec / 1000, msec % 1000 * 1000000 };

        if (now_msec() + msec >= deadline)
                return false;
        (void) nanosleep(&ts, NULL);
        return true;
}

int evidence_netlink_collect(const char *bdf, const uint8_t *nonce, size_t nonce_size, unsigned type_mask, struct evidence *ret,
                             struct evidence_why *why) {
        const int64_t deadline = now_msec() + EVIDENCE_NETLINK_TIMEOUT * INT64_C(1000);
        char name[TDI_BDF_MAX];
        struct tdi_bdf function;
        struct timespec time;
        unsigned n;

        if (tdi_bdf_parse(bdf, &function) < 0 || !type_mask || type_mask & ~EVIDENCE_NETLINK_TYPES || nonce_size != (nonce ? EVIDENCE_NONCE : 0))
                return -EINVAL;
        (void) tdi_bdf_format(function, name);
        for (n = 0; n < EVIDENCE_NETLINK_ATTEMPTS && (n == 0 || pause_before_next(n - 1, deadline)); n++) {
                _cleanup_(netlink_reader_done) struct netlink_reader r = { .type_mask = type_mask };
                struct evidence_why w = {};
                int e;

                e = attempt(name, nonce, nonce_size, deadline, &r, &w);
                if (e == -EAGAIN)
                        continue;
                if (e < 0) {
                        if (why && w.reason != EVIDENCE_OK)
                                (void) evidence_refuse(why, w.reason, "%s: %s", name, w.text);
                        return e;
                }
                (void) clock_gettime(CLOCK_REALTIME, &time);
                r.evidence.time_usec = (uint64_t) time.tv_sec * 1000000 + (uint64_t) time.tv_nsec / 1000;
                r.evidence.has_nonce = nonce;
                if (nonce)
                        memcpy(r.evidence.nonce, nonce, EVIDENCE_NONCE);
                *ret = r.evidence;
                r.evidence = (struct evidence){};
                return 0;
        }
        return evidence_refuse(why, EVIDENCE_CONTENT_CHANGED, "%s: the evidence changed each of the %u times that it was read", name, n);
}
