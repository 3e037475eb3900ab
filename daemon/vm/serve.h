/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The holder's control socket: root's tdid puts, gets and drops descriptors, one request after the other. The newest
 * connection is tdid's: an older one belonged to a tdid that has gone.
 *
 *   hello {version}       → {version, id, keys, state}
 *   put {key, state?} +fd → {}      both or nothing: record and descriptor cannot disagree
 *   get {keys}            → {keys} +fds in that order
 *   drop {key, also?, state?} → {}
 *   state {state}         → {}
 *   exit                  → {}      and the process ends
 *   vpci.…                          functions that are served to the VMM: vpci/vpci.h
 *
 * Between the answers come events, which nobody asked for: packets with "event", for whoever is connected.
 */
#ifndef TDID_VM_SERVE_H
#define TDID_VM_SERVE_H

#include "host/host.h"
#include "vm/store.h"

struct vpci;

/* Answers one request; ret_exit is set when the process shall end. The descriptors of the answer stay the store's. NULL: the answer
 * comes later, from vpci_take_answer(). @v: NULL where no functions can be served. */
struct json_object *serve_request(struct store *s, struct vpci *v, const char *id, struct json_object *request, struct ipc_fds *fds,
                                  int answer_fds[], size_t *ret_n, bool *ret_exit);
/* Serves until told to exit. @listener is the bound, listening socket. */
int serve(int listener, TdiHost *host, const char *id, struct store *s);

#endif
