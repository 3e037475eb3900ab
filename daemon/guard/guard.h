/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mmap guard, as tdid sees it. Programs in the kernel (guard.bpf.c) refuse what would map, move or reset a function that is in custody
 * behind the daemon's back; a worker puts functions in and takes them out (work.c, set.h), as the sub-action guard.on; here is
 * whether there can be a guard at all, and what it has refused.
 *
 * Everything here belongs to the thread of the loop, and nothing waits.
 */
#ifndef TDID_GUARD_GUARD_H
#define TDID_GUARD_GUARD_H

#include "manager.h"

/*
 * Asks a worker what this kernel can, and replaces what another build of tdid has pinned. The journal has been loaded, and nothing of it acted
 * on: where it has functions that are guarded, that has to wait until this is known.
 */
void guard_begin(Manager *m);
/* Calls @done, at once where it is known already; after ten seconds it counts as none. One can wait at a time. */
void guard_when_known(Manager *m, void (*done)(Manager *m));
/* Is any function in the guard, or perhaps? */
bool guard_has_any(const Manager *m);
/*
 * The name is ours, and so is what is pinned: it is taken away where nothing is guarded. Until that is over nothing new is put into the guard.
 * Not before: a second tdid that is started by mistake must not take away what the first one has pinned.
 */
void guard_sweep(Manager *m);
bool guard_is_sweeping(const Manager *m);
void guard_free(Manager *m);

/* Will functions that are attached from now on be guarded? */
bool guard_is_on(const Manager *m);
/* "on", or "none: " and why; of tdid, of a function, of a VM: the worst of its functions. Borrowed. */
const char *guard_state(const Manager *m);
const char *guard_state_of(const Custody *c);
const char *guard_state_of_vm(const VM *vm);
/* Is the function refused to everybody by now, and until its undo? */
bool custody_is_guarded(const Custody *c);
/* Is any function but this one in the guard, or perhaps? */
bool guard_has_others(const Custody *c);

/* guard.on is done: its set, which may be a new one, is listened to; what the worker has seen is told. */
void guard_was_set(Custody *c);
/* It is undone: with the last one the programs go too, a few seconds later. */
void guard_was_cleared(Custody *c);
/* How often what of the function was refused: {"vfio": 2, …}, only what was; NULL: nothing is known. */
struct json_object *guard_refusals(Manager *m, struct tdi_bdf bdf);

/* ---- between state.c and listen.c or listen-none.c ---- */

struct guard_listener;
extern const bool guard_is_built_in;
/* Listens to the set of that name, and no other: a no-op where it does already. NULL: to none. */
void guard_listen(Manager *m, const char *set);
struct guard_listener *guard_listener_free(struct guard_listener *l);
struct json_object *guard_read_refusals(struct guard_listener *l, uint32_t function);

struct guard {
        bool on, known, sweeping;
        char text[512]; /* what guard_state() says */
        Worker *worker; /* at the look */
        sd_event_source *patience;
        sd_event_source *linger; /* not NULL: programs are pinned for nobody */
        void (*done)(Manager *m);
        struct guard_listener *listener;
};

#endif
