/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages between tdid, its holders and its workers: one JSON object and up to IPC_FDS_MAX descriptors in one packet
 * of a SOCK_SEQPACKET socket. Both ends are root's own; even so each side refuses what is not well-formed.
 */
#ifndef TDID_IPC_H
#define TDID_IPC_H

#include "model/json.h"

#define IPC_FDS_MAX 16
#define IPC_SIZE_MAX (160UL * 1024)

/*
 * The version of the messages to holders, which live longer than the tdid that started them. 2: "vpci.*", and events: packets with a
 * member "event" that nobody asked for, which a tdid of version 1 takes for a broken holder. It refuses the record of such a VM. 3: the
 * state "bound" of "vpci.lock", and guest requests.
 */
#define IPC_VERSION 3

/*
 * What outlives a tdid (journals, records of VMs, what a holder is) has the "version" of who wrote it, and where an earlier one can go on with it also "reads": the
 * earliest version that understands it, may act on it, and may write it anew without what it does not know. So a tdid can be replaced by the one before
 * and by the one after; what is further away is held and left alone.
 */
/* @newer: as a test asks for, see fault.h. */
void version_set(struct json_object *o, unsigned version, unsigned newer);
/* Is it of this version or an earlier one, or does it say that this one understands it? No version at all is -EBADMSG, else 0 or -EPROTONOSUPPORT. */
int version_check(struct json_object *o, unsigned ours, unsigned newer);

/* Bytes of what a worker tells of a device's evidence, in a memfd: tdid reads it back, and the bus takes it. */
#define EVIDENCE_TEXT_MAX (4 << 20)

/* Descriptors that this owns: ipc_fds_close() closes what has not been taken. */
struct ipc_fds {
        int fd[IPC_FDS_MAX];
        size_t n;
};

void ipc_fds_close(struct ipc_fds *fds);
#define _cleanup_ipc_fds_ _cleanup_(ipc_fds_close)
/* Moves the i-th descriptor out; -EBADF when there is none. */
int ipc_fds_take(struct ipc_fds *fds, size_t i);

/* Sends; the descriptors stay the caller's. -EMSGSIZE when the object is too large, -EAGAIN on a non-blocking socket. */
int ipc_send(int socket, struct json_object *message, const int *fds, size_t n_fds);

/* The same, without waiting for room: -EAGAIN on any socket. */
int ipc_try_send(int socket, struct json_object *message, const int *fds, size_t n_fds);

/*
 * Receives one packet. -ECONNRESET at the end of the stream, -EBADMSG for what is no object, -EAGAIN as above. -EMFILE: this process could not take
 * the descriptors, which are closed; there is no second try, but the sender has done nothing wrong, and @ret is what it said. On success, and
 * then, the caller owns @ret; on success also the descriptors.
 */
int ipc_recv(int socket, struct json_object **ret, struct ipc_fds *ret_fds);

#endif
