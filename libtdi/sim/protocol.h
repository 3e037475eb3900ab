/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the simulation and its clients say to each other. Spoken by libtdi/host/sim.c and by the tests' own client in Python.
 *
 * Every simulated descriptor is one end of a SOCK_SEQPACKET socket pair; so is a connection to --socket, which takes the
 * calls that name a path. A call is one packet: struct sim_request, its payload, and by SCM_RIGHTS first the descriptor
 * that the answer goes to (one end of a SOCK_SEQPACKET pair made for this call alone: the file's own socket may be shared by many
 * processes), then those that the call passes. The answer is one packet: struct sim_reply, its payload, and the descriptors that it makes.
 *
 * Closing: the client sends SIM_CLOSE on the descriptor, closes it, then sends one byte on the answer's socket. The
 * simulation takes notice of all hang-ups that have happened, and answers when the release is over if this was the last
 * copy, at once if it was not: as close(2) does.
 *
 * Numbers are of the host's byte order: both ends are on one machine.
 */
#ifndef TDI_SIM_PROTOCOL_H
#define TDI_SIM_PROTOCOL_H

#include <stdint.h>

#define SIM_MAGIC 0x74646901u /* "tdi", version 1 */
/* After the header: a guest's request of 64 KiB, as much room for its answer, and a page. Fits a socket's default buffer. */
#define SIM_PAYLOAD_MAX 135168u
#define SIM_FDS_MAX 32u        /* passed by one call, without the answer's own */
#define SIM_UEVENT_LOST "LOST=1" /* a packet of these bytes among the uevents: some were dropped here, the client answers -ENOBUFS once */
#define SIM_TRANSFER_MAX 32768u /* of one pread or pwrite: a longer one is cut short */

#define SIM_STAT_FOLLOW 1u

enum sim_op {
        /* On a connection. Payload: a path, not terminated. */
        SIM_OPEN = 1,       /* a: flags of open(2). Answer: one descriptor */
        SIM_READLINK,       /* answer: the target, not terminated */
        SIM_LIST,           /* a: index of the first entry wanted. Answer: names, each terminated; r: how many names there are from there on in all */
        SIM_IDENTIFY,       /* a: inode number of a socket; no payload. Answer: what /proc/PID/fd would show; -ENOENT for a socket that is none of ours */
        SIM_ADDRESS,        /* payload: name of a network interface. r: 1 when it has an address */
        SIM_UEVENTS,        /* answer: one descriptor, on which packets of "ACTION=..\0DEVPATH=..\0SUBSYSTEM=..\0" come */
        SIM_CONTROL,        /* payload: a command as JSON. Answer: JSON; r: its whole size, or a negative errno with the reason as JSON.
                         * What does not fit into the first answer is asked for with a: its offset, on the same connection; nothing is done again */
        SIM_STAT,           /* a: 0, or SIM_STAT_FOLLOW. r: st_mode (type and permission bits). Links are followed, and the answer is the path without
                             * them, only if asked for */
        SIM_FDINFO,         /* a: inode number of a socket; no payload. Answer: one descriptor, of what /proc/PID/fdinfo would show; -ENOENT for a
                             * socket that is none of ours, and for a file of which it would show no more than of any */

        /* On a descriptor. */
        SIM_CLOSE = 32,
        SIM_PREAD,          /* a: offset, b: size. Answer: the bytes */
        SIM_PWRITE,         /* a: offset; payload: the bytes. r: how many */
        SIM_IOCTL,          /* a: request; b: the third argument where it is no pointer. Payload and answer: see marshal.h */
};

struct sim_request {
        uint32_t magic;
        uint32_t op;    /* enum sim_op */
        uint64_t a, b;
        uint32_t size;  /* of the payload */
        uint32_t fds;   /* passed, without the answer's own */
};

struct sim_reply {
        int64_t r;      /* what the call returns, or a negative errno */
        uint32_t size;
        uint32_t fds;
};

#endif
