/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Suspend is refused while a function is bound: a TDI does not outlive its device's loss of power. By logind's inhibitor lock
 * (org.freedesktop.login1.Manager.Inhibit), a descriptor: asked for when the first bind begins, closed after the last unbind. Without
 * logind there is none, which is said; nothing else depends on it. All calls are asynchronous.
 */
#ifndef TDID_INHIBIT_H
#define TDID_INHIBIT_H

#include "manager.h"

/* What is wanted as things stand, and the next step towards it. After every round of settling. */
void inhibit_settle(Manager *m);
/* {"refused", "why"} of DescribeHost(); the caller's. */
struct json_object *inhibit_describe(const Manager *m);
void inhibit_free(struct inhibit *i);

#endif
