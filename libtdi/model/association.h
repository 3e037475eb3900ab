/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker of tdid and a VMM say to each other on the channel of a VM's KVM association: a SOCK_SEQPACKET socket pair, of which the
 * VMM got its end from OpenAssociation(). tdid asks, one thing at a time:
 *
 *      ASK  →        will you? no descriptors: whoever does not answer is not given any
 *      ← READY       somebody waits for them
 *      ADD  →        with the function's VFIO node, and with the VM's kvm-vfio device where tdid has it (DEL: always)
 *      ← DONE        a negative errno and at which call, or 0; with the kvm-vfio device where it was made for this
 *
 * An answer carries the number of its question; one with another number is an old one. A process that shares its memory with others uses this
 * between clone() and exit: system calls on its own stack, nothing else.
 */
#ifndef TDI_MODEL_ASSOCIATION_H
#define TDI_MODEL_ASSOCIATION_H

#include <stddef.h>
#include <stdint.h>

#define ASSOCIATION_VERSION 1
#define ASSOCIATION_FDS_MAX 2

enum association_op {
        ASSOCIATION_ASK = 1,
        ASSOCIATION_READY,
        ASSOCIATION_ADD,
        ASSOCIATION_DEL,
        ASSOCIATION_DONE,
};

/* Which call of the VMM's has failed. */
enum association_stage {
        ASSOCIATION_NOWHERE,
        ASSOCIATION_CREATE, /* KVM_CREATE_DEVICE */
        ASSOCIATION_CHANGE, /* KVM_SET_DEVICE_ATTR */
};

struct association_message {
        uint32_t version;
        uint32_t op;
        uint32_t number;
        int32_t result;
        uint32_t stage;
        char bdf[20]; /* of the function, for the VMM's people; terminated */
};

struct association_fds {
        int fd[ASSOCIATION_FDS_MAX];
        size_t n;
};

/* Never waits: -EAGAIN when the other side does not read, -EPIPE when it has gone. The descriptors stay the caller's. */
int association_send(int socket, const struct association_message *m, const int *fds, size_t n_fds);
/*
 * The next message, for which it waits so long. The descriptors are the caller's then. -ETIMEDOUT; -ECONNRESET when the other side has gone;
 * -EBADMSG for what is no message of this version or comes with too many descriptors, which are closed.
 */
int association_receive(int socket, int timeout_ms, struct association_message *ret, struct association_fds *ret_fds);
void association_close(struct association_fds *fds);

#endif
