/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages, their attributes, and the pieces in them. Order and form are those of host/device_evidence.h. */
#include <ctype.h>
#include <inttypes.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include "evidence/netlink-reader.h"
#include "evidence/netlink.h"
#include "host/device_evidence.h"

_Static_assert(EVIDENCE_NETLINK_TYPES == (1u << TDI_DEVICE_EVIDENCE_TYPES) - 1, "the family's types are the first of ours");
_Static_assert(EVIDENCE_OBJECT_MAX == TDI_DEVICE_EVIDENCE_MAX_OBJECT_SIZE, "an object that the family can hold fits");
_Static_assert(EVIDENCE_NONCE == TDI_DEVICE_EVIDENCE_MAX_NONCE_SIZE, "a nonce is as long as the family takes it");

/* What one message says besides its pieces. */
struct head {
        bool has[TDI_DEVICE_EVIDENCE_A_VAL + 1];
        uint64_t value[TDI_DEVICE_EVIDENCE_A_VAL + 1];
};

static const char *const attribute_names[TDI_DEVICE_EVIDENCE_A_VAL + 1] = {
        [TDI_DEVICE_EVIDENCE_A_TYPE] = "TYPE", [TDI_DEVICE_EVIDENCE_A_GENERATION] = "GENERATION",
        [TDI_DEVICE_EVIDENCE_A_COUNT] = "COUNT", [TDI_DEVICE_EVIDENCE_A_LENGTH] = "LENGTH",
};

/* Numbers of netlink specifications may grow from 32 to 64 bits. */
static int get_number(const struct nlattr *a, uint64_t *ret) {
        uint32_t small;

        switch (nla_len(a)) {
        case sizeof(small):
                memcpy(&small, nla_data(a), sizeof(small));
                *ret = small;
                return 0;
        case sizeof(*ret):
                memcpy(ret, nla_data(a), sizeof(*ret));
                return 0;
        }
        return -EBADMSG;
}

static int read_head(const struct nlattr *attributes, int size, struct head *ret, struct evidence_why *why) {
        const struct nlattr *a;
        int left;

        *ret = (struct head){};
        for (a = attributes, left = size; nla_ok(a, left); a = nla_next(a, &left)) {
                const int n = nla_type(a);

                if (n == TDI_DEVICE_EVIDENCE_A_VAL) {
                        ret->has[n] = true;
                        continue;
                }
                /* Those that a later form adds change nothing of what the known ones say. */
                if (n >= TDI_DEVICE_EVIDENCE_A_VAL || !attribute_names[n])
                        continue;
                if (ret->has[n])
                        return evidence_refuse(why, EVIDENCE_UNEXPECTED,
                                               "a message of the device-evidence family has the attribute %s twice", attribute_names[n]);
                if (get_number(a, &ret->value[n]) < 0)
                        return evidence_refuse(why, EVIDENCE_UNEXPECTED,
                                               "the attribute %s of the device-evidence family has %d bytes, expected 4 or 8", attribute_names[n],
                                               nla_len(a));
                ret->has[n] = true;
        }
        if (left > 0)
                return evidence_refuse(why, EVIDENCE_SHORT,
                                       "a message of the device-evidence family ends within an attribute: %d bytes are left over", left);
        return 0;
}

/* The same number through the whole dump. -EAGAIN if not: the kernel should say so itself, and need not. */
static int check_stays(const char *what, bool *has, uint64_t *known, uint64_t now, struct evidence_why *why) {
        if (*has && *known != now) {
                (void) evidence_refuse(why, EVIDENCE_CONTENT_CHANGED,
                                       "the evidence changed while it was read: %s was %" PRIu64 ", and is %" PRIu64, what, *known, now);
                return -EAGAIN;
        }
        *has = true;
        *known = now;
        return 0;
}

static int check_arrived(const struct netlink_reader *r, struct evidence_why *why) {
        if (!r->arriving)
                return 0;
        return evidence_refuse(why, EVIDENCE_SHORT,
                               "the object %s ends after %zu bytes, %zu were announced", evidence_type_to_string(r->type), r->have, r->length);
}

static int begin_object(struct netlink_reader *r, const struct head *h, struct evidence_why *why) {
        const uint64_t type = h->value[TDI_DEVICE_EVIDENCE_A_TYPE], length = h->value[TDI_DEVICE_EVIDENCE_A_LENGTH];
        struct evidence_object *o;
        int e;

        e = check_arrived(r, why);
        if (e < 0)
                return e;
        if (type >= TDI_DEVICE_EVIDENCE_TYPES || !(r->type_mask & 1u << type))
                return evidence_refuse(why, EVIDENCE_UNEXPECTED,
                                       "the kernel sent an object of type %" PRIu64 ", asked for were those of the mask 0x%x", type, r->type_mask);
        if (r->seen & 1u << type)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED, "the kernel sent the object %s twice", evidence_type_to_string((int) type));
        if (!h->has[TDI_DEVICE_EVIDENCE_A_LENGTH])
                return evidence_refuse(why, EVIDENCE_SHORT, "the object %s comes without its length", evidence_type_to_string((int) type));
        if (!h->has[TDI_DEVICE_EVIDENCE_A_GENERATION])
                return evidence_refuse(why, EVIDENCE_SHORT, "the object %s comes without its generation", evidence_type_to_string((int) type));
        if (length > EVIDENCE_OBJECT_MAX)
                return evidence_refuse(why, EVIDENCE_TOO_LONG,
                                       "the kernel announces %" PRIu64 " bytes of the object %s, at most %u are taken", length,
                                       evidence_type_to_string((int) type), EVIDENCE_OBJECT_MAX);
        if (length > EVIDENCE_NETLINK_TOTAL_MAX - r->total)
                return evidence_refuse(why, EVIDENCE_TOO_LONG,
                                       "the kernel announces %zu bytes of evidence and %" PRIu64 " more of the object %s, at most %u are taken",
                                       r->total, length, evidence_type_to_string((int) type), EVIDENCE_NETLINK_TOTAL_MAX);
        o = &r->evidence.objects[type];
        if (length > 0) {
                o->data = malloc(length);
                if (!o->data)
                        return -ENOMEM;
        }
        r->total += length;
        r->seen |= 1u << type;
        r->type = (unsigned) type;
        r->length = length;
        r->have = 0;
        r->arriving = length > 0;
        return 0;
}

/* A message that goes on with an object may say again what the first one said, and nothing else. */
static int continue_object(const struct netlink_reader *r, const struct head *h, struct evidence_why *why) {
        const uint64_t length = h->value[TDI_DEVICE_EVIDENCE_A_LENGTH];

        if (!r->arriving)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED, "a message of the device-evidence family belongs to no object");
        if (h->has[TDI_DEVICE_EVIDENCE_A_LENGTH] && length != r->length)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED,
                                       "the object %s has %" PRIu64 " bytes now, %zu were announced", evidence_type_to_string(r->type), length,
                                       r->length);
        if (!h->has[TDI_DEVICE_EVIDENCE_A_VAL])
                return evidence_refuse(why, EVIDENCE_SHORT,
                                       "a message that goes on with the object %s has no piece of it", evidence_type_to_string(r->type));
        return 0;
}

static int add_piece(struct netlink_reader *r, const void *data, size_t size, bool begins, struct evidence_why *why) {
        struct evidence_object *o = &r->evidence.objects[r->type];

        if (size > r->length - r->have)
                return evidence_refuse(why, EVIDENCE_TRAILING, "the object %s goes on behind its %zu bytes: %zu have come and %zu more",
                                       evidence_type_to_string(r->type), r->length, r->have, size);
        /* Else there would be no end. What is empty as a whole has an empty piece. */
        if (size == 0 && !begins)
                return evidence_refuse(why, EVIDENCE_SHORT,
                                       "an empty piece of the object %s, which lacks %zu of its %zu bytes", evidence_type_to_string(r->type),
                                       r->length - r->have, r->length);
        if (size > 0)
                memcpy(o->data + r->have, data, size);
        r->have += size;
        r->arriving = r->have < r->length;
        if (!r->arriving)
                o->size = r->length;
        return 0;
}

static int read_message(struct netlink_reader *r, const struct nlmsghdr *m, struct evidence_why *why) {
        const struct nlattr *attributes, *a;
        const struct genlmsghdr *g = nlmsg_data(m);
        int size, left, e;
        struct head h;
        bool begins;

        if (nlmsg_datalen(m) < (int) GENL_HDRLEN)
                return evidence_refuse(why, EVIDENCE_SHORT, "a message of the device-evidence family has %d bytes, a generic netlink header has %zu",
                                       nlmsg_datalen(m), (size_t) GENL_HDRLEN);
        if (g->version != TDI_DEVICE_EVIDENCE_FAMILY_VERSION) {
                (void) evidence_refuse(why, EVIDENCE_TRANSPORT, "the kernel's device-evidence family has version %u, only %d is known", g->version,
                                       TDI_DEVICE_EVIDENCE_FAMILY_VERSION);
                return -EOPNOTSUPP;
        }
        if (g->cmd != TDI_DEVICE_EVIDENCE_CMD_READ)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED, "a message of the device-evidence family has command %u, expected %d", g->cmd,
                                       TDI_DEVICE_EVIDENCE_CMD_READ);
        attributes = nlmsg_attrdata(m, GENL_HDRLEN);
        size = nlmsg_attrlen(m, GENL_HDRLEN);
        e = read_head(attributes, size, &h, why);
        if (e < 0)
                return e;
        if (h.has[TDI_DEVICE_EVIDENCE_A_GENERATION]) {
                e = check_stays("its generation", &r->has_generation, &r->generation, h.value[TDI_DEVICE_EVIDENCE_A_GENERATION], why);
                if (e < 0)
                        return e;
        }
        if (h.has[TDI_DEVICE_EVIDENCE_A_COUNT]) {
                e = check_stays("the TSM's count", &r->has_count, &r->count, h.value[TDI_DEVICE_EVIDENCE_A_COUNT], why);
                if (e < 0)
                        return e;
        }
        begins = h.has[TDI_DEVICE_EVIDENCE_A_TYPE] && !(r->arriving && h.value[TDI_DEVICE_EVIDENCE_A_TYPE] == r->type);
        e = begins ? begin_object(r, &h, why) : continue_object(r, &h, why);
        if (e < 0)
                return e;
        for (a = attributes, left = size; nla_ok(a, left); a = nla_next(a, &left)) {
                if (nla_type(a) != TDI_DEVICE_EVIDENCE_A_VAL)
                        continue;
                e = add_piece(r, nla_data(a), (size_t) nla_len(a), begins, why);
                if (e < 0)
                        return e;
        }
        return 0;
}

/* What the kernel says of an error in words, if it does: the attributes behind @at bytes of the message. */
static void kernel_words(const struct nlmsghdr *m, size_t at, char *ret, size_t size) {
        const struct nlattr *a;
        size_t n = 0;
        int left;

        *ret = '\0';
        at = NLMSG_ALIGN(at);
        if (!(m->nlmsg_flags & NLM_F_ACK_TLVS) || at > (size_t) nlmsg_datalen(m))
                return;
        a = (const struct nlattr *) ((const char *) nlmsg_data(m) + at);
        for (left = nlmsg_datalen(m) - (int) at; nla_ok(a, left); a = nla_next(a, &left)) {
                const char *text = nla_data(a);

                if (nla_type(a) != NLMSGERR_ATTR_MSG)
                        continue;
                while (n + 1 < size && n < (size_t) nla_len(a) && text[n]) {
                        ret[n] = isprint((unsigned char) text[n]) ? text[n] : '?';
                        n++;
                }
                break;
        }
        ret[n] = '\0';
}

static int kernel_error(int error, const char *words, struct evidence_why *why) {
        const char *colon = *words ? ": " : "";
        const char *name = error < 0 && error > -4096 ? strerrorname_np(-error) : NULL;

        switch (error) {
        case -EAGAIN:
                (void) evidence_refuse(why, EVIDENCE_CONTENT_CHANGED, "the evidence changed while it was read%s%s", colon, words);
                return -EAGAIN;
        case -EPERM:
        case -EACCES:
                (void) evidence_refuse(why, EVIDENCE_TRANSPORT, "the kernel gives evidence only to those with CAP_NET_ADMIN%s%s", colon, words);
                return -EPERM;
        case -EOPNOTSUPP:
                (void) evidence_refuse(why, EVIDENCE_TRANSPORT, "the kernel cannot give this evidence%s%s", colon, words);
                return -EOPNOTSUPP;
        case -ENODEV:
        case -ENXIO:
                (void) evidence_refuse(why, EVIDENCE_TRANSPORT, "the kernel has no evidence of this function%s%s", colon, words);
                return -ENODEV;
        }
        if (name)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "the kernel failed to give the evidence: %s%s%s", name, colon, words);
        return evidence_refuse(why, EVIDENCE_UNEXPECTED, "the kernel ended the evidence with %d, which is no error%s%s", error, colon, words);
}

/* NLMSG_DONE and NLMSG_ERROR both begin with an errno. */
static int read_end(struct netlink_reader *r, const struct nlmsghdr *m, struct evidence_why *why) {
        const bool done = m->nlmsg_type == NLMSG_DONE;
        const size_t least = done ? sizeof(int) : sizeof(struct nlmsgerr);
        size_t words_at = least;
        struct nlmsgerr error = {};
        char words[128];
        int e;

        if ((size_t) nlmsg_datalen(m) < least)
                return evidence_refuse(why, EVIDENCE_SHORT,
                                       "a netlink message of type %u has %d bytes, expected at least %zu", m->nlmsg_type, nlmsg_datalen(m), least);
        memcpy(&error, nlmsg_data(m), least);
        if (!done && !(m->nlmsg_flags & NLM_F_CAPPED) && error.msg.nlmsg_len > NLMSG_HDRLEN)
                words_at += error.msg.nlmsg_len - NLMSG_HDRLEN;
        if (error.error != 0 || !done) {
                kernel_words(m, words_at, words, sizeof(words));
                return kernel_error(error.error, words, why);
        }
        e = check_arrived(r, why);
        if (e < 0)
                return e;
        r->ended = true;
        return 1;
}

static int feed_message(struct netlink_reader *r, const struct nlmsghdr *m, struct evidence_why *why) {
        if (r->ended)
                return evidence_refuse(why, EVIDENCE_TRAILING, "a netlink message of type %u came behind the end of the evidence", m->nlmsg_type);
        if (m->nlmsg_seq != r->sequence || m->nlmsg_pid != r->port)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED,
                                       "a netlink message answers request %u of port %u, expected %u of %u", m->nlmsg_seq, m->nlmsg_pid, r->sequence,
                                       r->port);
        if (m->nlmsg_flags & NLM_F_DUMP_INTR) {
                (void) evidence_refuse(why, EVIDENCE_CONTENT_CHANGED,
                                       "the evidence changed while it was read: the kernel marks the dump as interrupted");
                return -EAGAIN;
        }
        if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR)
                return read_end(r, m, why);
        if (m->nlmsg_type != r->family)
                return evidence_refuse(why, EVIDENCE_UNEXPECTED,
                                       "a netlink message has type %u, expected %u, the device-evidence family's", m->nlmsg_type, r->family);
        return read_message(r, m, why);
}

int netlink_reader_feed(struct netlink_reader *r, const void *datagram, size_t size, struct evidence_why *why) {
        const char *p = datagram;
        int e = 0;

        do {
                const struct nlmsghdr *m = (const struct nlmsghdr *) p;

                if (size > INT32_MAX || !nlmsg_ok(m, (int) size))
                        return evidence_refuse(why, EVIDENCE_SHORT, "a netlink datagram ends within a message: %zu bytes are left over", size);
                e = feed_message(r, m, why);
                if (e < 0)
                        return e;
                if (NLMSG_ALIGN(m->nlmsg_len) >= size)
                        break;
                p += NLMSG_ALIGN(m->nlmsg_len);
                size -= NLMSG_ALIGN(m->nlmsg_len);
        } while (true);
        return r->ended ? 1 : 0;
}

void netlink_reader_done(struct netlink_reader *r) {
        evidence_done(&r->evidence);
}
