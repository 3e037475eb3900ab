/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What arrives of one dump of the device-evidence family, put together again. Pure: datagrams come in, objects come out; no socket, no clock.
 * Nothing is believed: what the kernel was not asked for, does not announce, announces otherwise than before, or does not finish, is refused.
 */
#ifndef TDI_EVIDENCE_NETLINK_READER_H
#define TDI_EVIDENCE_NETLINK_READER_H

#include "evidence/evidence.h"
#include "evidence/reason.h"

/** struct netlink_reader - one dump while it arrives */
struct netlink_reader {
        /* the request: filled in by whoever reads, the rest zero */
        uint16_t family;
        uint32_t sequence, port;
        unsigned type_mask;

        /* so far */
        struct evidence evidence; /* whole objects, and the one that arrives */
        unsigned seen;            /* mask of the types that have begun */
        bool arriving;            /* the last of them lacks bytes still */
        unsigned type;            /* it */
        size_t length, have;      /* bytes of it */
        size_t total;             /* bytes announced, of all */
        bool has_generation, has_count, ended;
        uint64_t generation, count;
};

/**
 * netlink_reader_feed() - the next datagram
 *
 * After anything but 0 nothing more may come. The objects stay the reader's.
 *
 * Return: 1: that was the end, and @r->evidence is whole; 0: it goes on; -EAGAIN: the evidence has changed meanwhile; -EPERM, -EOPNOTSUPP,
 * -ENODEV: the kernel's answer; -EBADMSG: refused, or another error of the kernel's; -ENOMEM. @why is filled in on all errors but the last.
 */
int netlink_reader_feed(struct netlink_reader *r, const void *datagram, size_t size, struct evidence_why *why);

/* Frees what has arrived. */
void netlink_reader_done(struct netlink_reader *r);

#endif
