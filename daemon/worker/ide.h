/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IDE streams, for the workers that connect, bind, and read what there is. Reading config space wakes a sleeping function. */
#ifndef TDID_WORKER_IDE_H
#define TDID_WORKER_IDE_H

#include "worker/work.h"

struct ide_links {
        struct ide_link {
                char *name;     /* "stream0.0.0" */
                char *function; /* BDF that it ends at */
        } *links;
        size_t n;
        struct json_object *bridges; /* [{name, in_use, left}], left null where the kernel does not say */
};

/* All streams of the host, or an error: where one cannot be read, what there is is not known. ide_links_free() in the end, in any case. */
int ide_read_links(struct work *w, struct ide_links *ret);
void ide_links_free(struct ide_links *l);

/*
 * {name, id, bridge, function, function_state, port, port_state, integrity_failed, secure}: states as enum ide_state has them, of the port where the
 * stream ends above the function and of the function itself; secure is "yes", "no" or "unknown", id null when neither end has it;
 * integrity_failed: one of them has heard of a failed check since somebody last cleared that. The caller's.
 */
struct json_object *ide_read_stream(struct work *w, const char *name, const char *bdf);

/*
 * May a DSM be connected that may take a stream? -EDQUOT when its bridge has @reserved or fewer left; what is unknown is no reason. *ret_lock is
 * the caller's, to be closed after the connect: another one counts after that. -EBADF where none is needed.
 */
int ide_admit(struct work *w, const char *dsm, uint64_t reserved, int *ret_lock);
/* Are the DSM's streams secure, both ends of each? -EKEYREJECTED when one is not, or cannot be read; another error when nobody knows which there are. One without streams has none that are not. */
int ide_must_be_secure(struct work *w, const char *dsm);

#endif
