/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Start-up: what an earlier tdid left is taken up again, before anything is served. */
#ifndef TDID_RECOVER_H
#define TDID_RECOVER_H

#include "manager.h"

/*
 * Loads the journal and connects to every holder; done() runs when each has answered or proved dead. Then every function in
 * the journal either belongs to a living VM, or is on its way back. Nothing here waits for the kernel.
 */
int recover_start(Manager *m, void (*done)(Manager *m));

#endif
