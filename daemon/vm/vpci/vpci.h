/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VM's vPCI functions: each is served on a socket of its own in the vfio-user protocol, backed by its VFIO device.
 *
 * Two kinds of threads. The holder's own is the supervisor: it accepts, watches how long each request takes, and never makes a call that
 * can sleep. A function's thread receives, executes and answers; nobody else is in its path. When a request has been in the kernel for
 * 1 s, the supervisor reads that socket in its place: reads return all ones, writes are dropped, as of a device that is being reset;
 * at 3.5 s it answers the request itself. When the thread comes back, it takes the socket back and drops its late answer.
 */
#ifndef TDID_VPCI_VPCI_H
#define TDID_VPCI_VPCI_H

#include <poll.h>

#include "host/host.h"
#include "ipc.h"

struct vpci;
struct store;

/*
 * Sends something to tdid that it did not ask for. Called in the supervisor's thread, and does not sleep; @event and the descriptors stay
 * the caller's. -EAGAIN: not now, but later; anything else is the end of it.
 */
typedef int (*vpci_tell)(struct json_object *event, const int *fds, size_t n_fds, void *userdata);

int vpci_new(TdiHost *host, vpci_tell tell, void *userdata, struct vpci **ret);
/* Ends every thread that can be ended. */
struct vpci *vpci_free(struct vpci *v);

/* The most descriptors that vpci_poll() fills in. */
#define VPCI_POLL_MAX 531
/* What the supervisor has to wait for: fills @p, returns how many; lowers *timeout (ms, -1 = none). */
size_t vpci_poll(struct vpci *v, struct pollfd *p, int *timeout);
void vpci_dispatch(struct vpci *v, const struct pollfd *p, size_t n);

/*
 * Requests of tdid, called by serve_request() for ops that begin with "vpci.":
 *
 *   vpci.serve {bdf, ioas, info, uid, gid?, seclabel?, limits?, peer_to_peer?} +listening socket → {}
 *   vpci.stop  {bdf, idle?}                → {stuck}   answered when its thread has ended, or is given up after 2 s. With idle: EISCONN,
 *                                                      and nothing happens, while a client is connected. ENOENT: it is not served
 *   vpci.stop_all {}                       → {}        every client loses its connection, and none comes; the functions' own ends follow,
 *                                                      and vpci.stop waits for each. No vIOMMU is listened to any more
 *   vpci.viommu {id, type, on}             → {}        the queue of this vIOMMU's events is read from now on, or gone: viommus_add()
 *   vpci.peer  {serial} +maps, helper?     → {}        the descriptors of dma_set_peer()
 *   vpci.lock  {bdf, state}                → {}        "unlocked": not bound; "bound", and unlocked by TDISP; otherwise bound, and
 *                                                      that TDISP state: "locked", "run", "error", "unknown". EAGAIN: ask
 *                                                      again, or for "unlocked", which gives its BARs back to its peers
 *   vpci.requests {bdf, on, provider, vdevice, tvm_arch} → {}   requests of the guest go by way of the holder's "bind:BDF", as this provider takes
 *                                                      them, or nowhere. EAGAIN: one is under way, ask again
 *   vpci.open_requests {bdf, kinds, per_second, vm, own} +socket → {}   one more socket for them: requests_add(); per_second is the VM's
 *   vpci.report {bdf}                      → {report}  its interface report in hex; ENOENT: there is none, or not any more
 *   vpci.tee {bdf, ranges}                 → {}        which of its MMIO is trusted memory by that: tdisp_set_tee()
 *   vpci.state {from?}                     → {functions: […], next?, viommus, helper_gone}   those from that place; as many as fit; helper_gone: as the event says
 *   vpci.request {bdf}                     → {}        the client's request interrupt rings
 *
 * info: {"flags", "regions": [{"size", "flags", "offset"}…], "irqs": [{"count", "flags"}…]}, the numbers of VFIO_DEVICE_GET_INFO,
 * GET_REGION_INFO and GET_IRQ_INFO in the order of their indexes.
 *
 * Events: {"event": "vpci", "what", "bdf", …}; "connected" {pid, uid, serial} +pidfd of the peer, "disconnected" {why},
 * "peer-gone" {serial}: the process has ended, of no function, "helper-gone" {serial}: the one that maps for it has, and another is waited for, of no function, "tdisp" {was, state}, "report": it has a new one, "failed" {text}, "error" {text}: of the device, "dma" {text}, "unbacked" {text}, "peers" {text}: it takes no part in peer-to-peer, "iommu" {viommu, name, sid, text}: what a vIOMMU has reported, of no function, "refused" {text}: somebody else tried to connect, "memory" {enabled, why}: the function's
 * memory is switched off, or can be reached again; why is "command" (COMMAND.MEM), "reset" (VFIO_DEVICE_RESET, told at its beginning and
 * its end) or "config" (a write that resets the function or changes its power, the same). 50 a second are told, the rest is left out.
 *
 * Return: 0 or an errno for the answer; 1: the answer comes later, by vpci_answer_later.
 */
int vpci_request(struct vpci *v, struct store *s, const char *op, struct json_object *request, struct ipc_fds *fds,
                 struct json_object *answer);
/* The answer of a request that was put off; NULL while it is still put off. Owned by the caller. */
struct json_object *vpci_take_answer(struct vpci *v);

#endif
