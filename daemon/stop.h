/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end. SIGTERM means stop and restart alike; the unit's job tells which. Stop gives everything back first; restart, or no
 * answer within 2 s, leaves everything with the holders and goes at once.
 */
#ifndef TDID_STOP_H
#define TDID_STOP_H

#include "manager.h"

int stop_install(Manager *m);
/* A signal that came during recovery is acted upon now. */
void stop_resume(Manager *m);
/* After each settling round: ends the loop when everything has been given back. */
void stop_settle(Manager *m);

#endif
