/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes netlink datagrams of the device-evidence family, right ones and wrong ones, byte by byte and without libnl. */
#pragma once

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "host/device_evidence.h"
#include "test.h"

#define FAMILY 0x21
#define SEQUENCE 77
#define PORT 4242

struct stream {
        size_t size, message, attribute;
        uint8_t bytes[1 << 18] __attribute__((aligned(8)));
};

static inline void stream_put(struct stream *s, const void *data, size_t size) {
        require(size <= sizeof(s->bytes) - s->size);
        memcpy(s->bytes + s->size, data, size);
        s->size += size;
}

static inline void stream_pad(struct stream *s) {
        while (s->size % 4)
                s->bytes[s->size++] = 0;
}

/* Everything up to the next begin or end belongs to it. */
static inline struct nlmsghdr *stream_begin(struct stream *s, uint16_t type, uint16_t flags) {
        const struct nlmsghdr h = { .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = SEQUENCE, .nlmsg_pid = PORT };

        s->message = s->size;
        stream_put(s, &h, sizeof(h));
        return (struct nlmsghdr *) (s->bytes + s->message);
}

static inline void stream_end(struct stream *s) {
        const uint32_t size = (uint32_t) (s->size - s->message);

        memcpy(s->bytes + s->message, &size, sizeof(size));
        stream_pad(s);
}

static inline struct genlmsghdr *stream_begin_read(struct stream *s) {
        const struct genlmsghdr g = { .cmd = TDI_DEVICE_EVIDENCE_CMD_READ, .version = TDI_DEVICE_EVIDENCE_FAMILY_VERSION };

        stream_begin(s, FAMILY, NLM_F_MULTI);
        stream_put(s, &g, sizeof(g));
        return (struct genlmsghdr *) (s->bytes + s->size - sizeof(g));
}

static inline void stream_bytes(struct stream *s, uint16_t type, const void *data, size_t size) {
        const struct nlattr a = { .nla_type = type, .nla_len = (uint16_t) (NLA_HDRLEN + size) };

        s->attribute = s->size;
        stream_put(s, &a, sizeof(a));
        stream_put(s, data, size);
        stream_pad(s);
}

static inline void stream_u32(struct stream *s, uint16_t type, uint32_t value) {
        stream_bytes(s, type, &value, sizeof(value));
}

static inline void stream_u64(struct stream *s, uint16_t type, uint64_t value) {
        stream_bytes(s, type, &value, sizeof(value));
}

/* As the kernel begins an object. The message is left open. */
static inline void stream_object(struct stream *s, uint32_t type, uint32_t generation, uint32_t length) {
        stream_begin_read(s);
        stream_u32(s, TDI_DEVICE_EVIDENCE_A_TYPE, type);
        stream_u32(s, TDI_DEVICE_EVIDENCE_A_GENERATION, generation);
        stream_u32(s, TDI_DEVICE_EVIDENCE_A_LENGTH, length);
}

static inline void stream_val(struct stream *s, const void *data, size_t size) {
        stream_bytes(s, TDI_DEVICE_EVIDENCE_A_VAL, data, size);
}

/* NLMSG_DONE with its errno, and a text if there is one. */
static inline void stream_done(struct stream *s, int error, const char *text) {
        stream_begin(s, NLMSG_DONE, (uint16_t) (NLM_F_MULTI | (text ? NLM_F_ACK_TLVS : 0)));
        stream_put(s, &error, sizeof(error));
        if (text)
                stream_bytes(s, NLMSGERR_ATTR_MSG, text, strlen(text) + 1);
        stream_end(s);
}
