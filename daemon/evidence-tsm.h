/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to a TSM's objects: requests about a TDI that is bound, by way of its VM's holder. A worker makes them. */
#ifndef TDID_EVIDENCE_TSM_H
#define TDID_EVIDENCE_TSM_H

#include "manager.h"

/**
 * evidence_tsm_way() - a socket for the worker that asks
 * @d:       the function whose evidence is wanted
 * @speaker: who speaks for it
 * @args:    the worker's; "tsm" is set: {"name", "provider", "operations", "tvm_arch", "own", "report", "report_time", "no_socket"}. "own": it is about @d
 *           itself, not about another function of the same device, of which what the device says is as good, and the interface report is not
 *
 * Return: the socket, the caller's; -ENOTCONN: nothing of the device is bound, @args is as it was; another errno: @args says why there is no socket.
 */
int evidence_tsm_way(Manager *m, const Device *d, const Device *speaker, struct json_object *args);

#endif
