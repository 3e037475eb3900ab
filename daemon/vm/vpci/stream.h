/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stream of one client: messages out of bytes and descriptors. Owned by one thread at a time.
 *
 * The kernel ends a read behind the bytes that descriptors came with (unix_stream_read_generic), so those of a read belong to the last
 * message that had begun by then. Reading ahead is therefore safe, and small messages cost one call each or less.
 */
#ifndef TDID_VPCI_STREAM_H
#define TDID_VPCI_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vm/vpci/wire.h"

/* As advertised in VERSION. More descriptors than a client was told of end its connection. */
#define STREAM_FDS_MAX 16
#define STREAM_TRANSFER_MAX (1024UL * 1024)
/* The longest body: WRITE_MULTI and the JSON of VERSION stay far below. */
#define STREAM_BODY_MAX (STREAM_TRANSFER_MAX + sizeof(struct vu_region_access))

struct message {
        struct vu_header header;
        uint8_t *body; /* of header.size - sizeof(header) bytes; room for more is kept */
        size_t size, room;
        int fds[STREAM_FDS_MAX]; /* the message's own until taken: -EBADF */
        size_t n_fds;
};

struct stream {
        int socket; /* borrowed */
        uint8_t ahead[4096];
        size_t begin, end;    /* what has been read ahead */
        struct {
                uint64_t at; /* the position in the stream of the message that it belongs to */
                int fd;      /* the stream's own, until a message has it */
        } fds[2 * STREAM_FDS_MAX];
        size_t n_fds;
        uint64_t position;    /* of ahead[begin] */
        uint64_t next;        /* where the message that is not complete begins */
};

/* @socket stays the caller's, as long as the stream is used. */
void stream_open(struct stream *s, int socket);
/* Closes descriptors that nobody took; not the socket. */
void stream_close(struct stream *s);
/*
 * Waits for the next message. -ECONNRESET at the end, -EBADMSG for what is none: the connection must end then; other errors of recvmsg(2).
 * With @flags MSG_DONTWAIT: -EAGAIN when it is not there yet, and what has come of it is kept.
 */
int stream_receive(struct stream *s, struct message *m, int flags);
/* Can a message be taken without waiting, or a part of one? */
bool stream_has_more(const struct stream *s);

/* Moves the i-th descriptor out, to the caller; -EBADF when there is none. */
int message_take_fd(struct message *m, size_t i);
void message_close_fds(struct message *m);
void message_free(struct message *m);

/* A whole reply; -EPIPE and the like when the client has gone, -EAGAIN only with MSG_DONTWAIT and when nothing was sent. */
int stream_send(int socket, const struct vu_header *header, const void *body, size_t size, int flags);

#endif
