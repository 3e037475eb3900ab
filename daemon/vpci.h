/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tdid's end of the vPCI server in a VM's holder (vm/vpci/vpci.h): which functions it serves, who is connected, and what it tells.
 * The folder of the sockets, STATE/vm/UUID, is the VM's as long as it lives.
 */
#ifndef TDID_VPCI_H
#define TDID_VPCI_H

#include "vm.h"

/* So many events of a function are kept for Describe(). */
#define VPCI_EVENTS_MAX 8

/*
 * Gives a function's listening socket to the holder; @serve is what the worker has said, @socket stays the caller's. -EOPNOTSUPP from a
 * holder of an earlier version; otherwise @done runs with the holder's answer.
 */
int vpci_serve(Custody *c, struct json_object *serve, int socket, holder_done done);
/*
 * Ends that. @done runs when nobody can reach the device by way of it any more; -ENOTCONN: there is no holder, and so no server. With @idle
 * the answer is -EISCONN, and nothing happens, while a client is connected.
 */
int vpci_stop(Custody *c, bool idle, holder_done done, void *userdata);
/*
 * The VM's functions are served no longer, whatever else tdid is doing with them: nobody is connected any more when @done runs. Each still has to
 * be stopped.
 */
/* The holder listens to a vIOMMU of the VM's platform, or ceases to. done() may be NULL. */
int vpci_viommu(VM *vm, uint32_t id, bool on, holder_done done, void *userdata);
int vpci_stop_all(VM *vm, holder_done done, void *userdata);
/*
 * Its client changes nothing any more that a bind locks, or may again; @done of holder_call() has the custody. -EAGAIN from the holder: other functions
 * still reach its BARs, ask again. -ENOTCONN: there is no holder.
 */
int vpci_lock(Custody *c, bool lock, holder_done done);
/* The same for requests of its guest: they go to the TSM, or nowhere. -EAGAIN from the holder: one is under way, ask again. */
int vpci_pass_requests(Custody *c, bool on, holder_done done);
/* Gives the function's server one more socket for them, which stays the caller's. @done has @userdata. */
int vpci_open_requests(Custody *c, int socket, holder_done done, void *userdata);
/* The same for tdid's own ends, whatever the VM's owner may ask for: @kinds, a bit for each. What becomes of it, the other end of the socket tells. */
int vpci_open_own_requests(Custody *c, int socket, unsigned kinds);
/* Asks for its interface report; @done has @userdata. */
int vpci_report(Custody *c, holder_done done, void *userdata);
/* Which of its MMIO is trusted memory: nobody reaches that through the vPCI socket while it runs. @ranges is taken. */
void vpci_set_tee(Custody *c, struct json_object *ranges);
/* What the configuration allows: a bit for each enum tdi_request_kind. */
unsigned vpci_allowed_requests(const Manager *m);
/* Is its holder new enough for them? */
bool vpci_takes_requests(const VM *vm);
/* The host wants the function back: its client's request interrupt rings. */
void vpci_ring(Custody *c);
/* It has been stopped, or its holder is gone: nobody is connected any more. */
void vpci_stopped(Custody *c, bool stuck);

/* From now on the holder's events are heard. */
void vpci_listen(VM *vm);
/*
 * After tdid's restart: asks the holder what it serves and who is connected. @done runs with the answer (functions that have been taken up
 * by then are compared with it by vpci_resumed()), or at once when there is nobody to ask.
 */
void vpci_recover(VM *vm, void (*done)(VM *vm));
/* A function has been taken up again: NULL, or why it is not served as it should be. */
const char *vpci_resumed(TDI *t);

/* {"op": "vpci.state"}; @done as of holder_call(). */
int vpci_ask(VM *vm, holder_done done, void *userdata);
/* The VM goes: no answer will come. */
void vpci_ask_end(VM *vm);
/* What an answer to it says is what Describe() shows. */
void vpci_take_state(VM *vm, struct json_object *answer);
/* Does the holder have a vPCI server? */
bool vpci_is_there(const VM *vm);

/* {"socket", "stale", "events", …} of Describe(), NULL where there is no socket. The caller's. */
struct json_object *vpci_describe(const TDI *t);
/* For what a client can cause without end: false, and counted, when there has been enough of it. */
bool vpci_may_log(VM *vm);
/* The same of what its vIOMMUs report, which is a guest's to cause. */
bool vpci_may_log_iommu(VM *vm);
/* Remembers and logs something that happened at a function's socket. @what: one word. */
void vpci_note(TDI *t, const char *what, const char *text);

/* The path of a function's socket; -ENAMETOOLONG. */
int vpci_path(const VM *vm, struct tdi_bdf bdf, char *buf, size_t size);
/* The VM is no more, and so is its folder, unless a function that is left behind has a socket there. */
void vpci_remove_folder(VM *vm);
/* Folders of VMs that are no more and have left nothing behind. */
void vpci_sweep(Manager *m);

#endif
