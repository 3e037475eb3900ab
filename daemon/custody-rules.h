/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules of order between sub-actions of different functions; asked by the engine before each step. */
#ifndef TDID_CUSTODY_RULES_H
#define TDID_CUSTODY_RULES_H

#include "custody.h"

/* May this sub-action be done, undone, now? False is no failure: the engine asks again when anything has moved. */
bool custody_may_do(Custody *c, enum custody_action a);
bool custody_may_undo(Custody *c, enum custody_action a);
/* Does its undo wait for a member of its group that will not move by itself? */
bool custody_waits_in_vain(const Custody *c, enum custody_action a);
/* The custody of a VF's physical function; NULL: it is no VF, or nobody has that. */
Custody *custody_of_pf(const Custody *c);
/* Chooses DSM and TSM for connect, once. */
void custody_choose_tsm(Custody *c);
/* The DSM that was chosen for the function, "" for none or not yet. */
const char *custody_dsm(const Custody *c);
/* A TDI that is bound, or on its way there or back, for which this function speaks; not itself. NULL. */
Custody *custody_bound_under(Manager *m, const char *dsm);
/* Has the kernel bound it, whether anybody has asked for that or not: some forms of virtual devices are. */
bool custody_is_bound_in_kernel(const Custody *c);
/* Is nobody in a position to reset its DSM? Else says who. */
bool custody_dsm_lets_bind(const Custody *c, char *why, size_t size);
/* All that it speaks for is to be unbound. */
void custody_unbind_under(const Custody *c);
/* Must its link be secure before it is bound? The configuration says so, or the policy for this function. */
bool custody_requires_secure(const Custody *c);
/* How many IDE streams of its host bridge a connect has to leave: the same two, the larger counts. */
uint64_t custody_reserved_streams(const Custody *c);
/* Has tdid connected the DSM, for this function among others? */
bool custody_connected_by_us(const Custody *c);
/* Does another function in custody use the connection that tdid made? */
bool custody_shares_connection(const Custody *c);

#endif
