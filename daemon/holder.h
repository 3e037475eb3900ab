/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tdid's end of a holder, the process that keeps a VM's descriptors and its record. Requests are queued and go out one at a
 * time, so that a holder that does not read can never block tdid. A holder that dies fails what is queued, and says so once. One whose
 * connection breaks is killed, and dead when its process has ended: until then what is asked of it waits.
 */
#ifndef TDID_HOLDER_H
#define TDID_HOLDER_H

#include "ipc.h"
#include "manager.h"

typedef void (*holder_done)(int r, struct json_object *answer, struct ipc_fds *fds, void *userdata);
typedef void (*holder_died)(void *userdata);
/* Something that nobody asked for; @fds are the callback's to take from, and none where tdid could not take them. */
typedef void (*holder_event)(struct json_object *event, struct ipc_fds *fds, void *userdata);

/* Starts a holder for VM @id and connects to it; @done runs when it answers, cannot be started, or has not
 * answered within 10 s (-ETIMEDOUT). */
int holder_start(Manager *m, const char *id, holder_done done, holder_died died, void *userdata, Holder **ret);
/* Connects to a holder that an earlier tdid started. -ECONNREFUSED: it is dead, its socket is removed. */
int holder_connect(Manager *m, const char *id, holder_done done, holder_died died, void *userdata, Holder **ret);
Holder *holder_free(Holder *h);
/* Events before this are dropped: who is connected then, is in the answer to vpci.state. */
void holder_listen(Holder *h, holder_event event);

/* A request with any members; answers to "hello" carry "state" and "keys", to "get" the descriptors. @request is taken. */
int holder_call(Holder *h, struct json_object *request, const int *fds, size_t n_fds, holder_done done, void *userdata);
/*
 * It keeps the descriptor @key no longer, nor @also, which may be NULL; it need not have them. @done, if any, runs in any case: where there is no
 * holder to ask (@h may be NULL), before this returns, for a dead one has no descriptors.
 */
void holder_drop(Holder *h, const char *key, const char *also, holder_done done, void *userdata);
/* Removes the socket that a dead holder left. */
void holder_remove_socket(Manager *m, const char *id);
/* Its process has not ended, as far as we know. */
bool holder_alive(const Holder *h);
/* The version of its messages, as its hello says; 0 before. */
unsigned holder_version(const Holder *h);
pid_t holder_pid(const Holder *h);
/* Ids of the sockets in the state directory. */
int holder_list(Manager *m, char ***ret);

#endif
