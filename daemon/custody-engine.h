/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the files of the engine, and nobody else's: custody_kick() in custody.c chooses a sub-action, custody-do.c and
 * custody-undo.c run the command that begins with it, and custody-work.c is what both need for that.
 *
 * A command is one sub-action, or a few neighbours whose rows say so: the journal names all of them before the worker hears of the
 * first. If tdid or the worker dies in the middle, each may be done or not, and is undone, which begins with a look at the kernel.
 */
#ifndef TDID_CUSTODY_ENGINE_H
#define TDID_CUSTODY_ENGINE_H

#include "custody.h"
#include "holder.h"
#include "worker.h"

#define BIT(a) (1u << (a))

/* What comes next on the way to the goal, ACTION_NONE when it is reached. */
enum custody_action custody_next_action(const Custody *c);
/* Begins the command of sub-action @a. True when something changed at once. */
bool custody_run_do(Custody *c, enum custody_action a);
bool custody_run_undo(Custody *c, enum custody_action a);

/* The highest of the set, or ACTION_NONE. */
enum custody_action custody_highest(uint32_t actions);
/* Does this sub-action need the kernel at all, as things stand? On the way up, writes down what comes of that. */
/* The holder does it, and may say -EAGAIN. */
bool custody_runs_in_holder(enum custody_action a);
bool custody_is_local(Custody *c, enum custody_action a, bool undo);
/* Is there anything in it that a later tdid has to know? Not of a sub-action that does nothing. */
bool custody_needs_journal(const Custody *c, enum custody_action a, bool local);

/* Takes a descriptor's place with the holder, under "KIND:BDF"; -ENOTCONN without one. */
int custody_hold(Custody *c, const char *kind, int fd, holder_done done);

/* The same under a key that is the VM's. */
int custody_hold_as(Custody *c, const char *key, int fd, holder_done done);
/* A worker for this function; -EWOULDBLOCK while an earlier tdid's is still at it, -EAGAIN when too many are at work. */
int custody_need_worker(Custody *c);
/* What a holder was asked for is asked for once more, a little later. */
void custody_later(Custody *c);
/* A holder has answered -EAGAIN: is it asked once more? Not for ever. */
bool custody_ask_again(Custody *c, int r);
/* Sends the command in c->command, whose sub-actions need no descriptors if they are several. */
int custody_call(Custody *c, bool undo, const int *fds, size_t n_fds, worker_done done);
/* The values, and the function's address. */
struct json_object *custody_arguments(Custody *c);
/* An answer is awaited, within the time of sub-action @a; and it has come. */
void custody_arm(Custody *c, enum custody_action a, bool undo);
void custody_idle(Custody *c);
void custody_merge(Custody *c, struct json_object *values);
/* Its virtual device is gone, or will be without its number being named. */
void custody_forget_vdevice(Custody *c);

/* What became of a sub-action. */
void custody_ended(Custody *c, enum custody_action a, bool undo);
void custody_failed(Custody *c, enum custody_action a, bool undo, int r, const char *text);
/* The worker died before it got the command: once more with another one. */
bool custody_call_failed(Custody *c, enum custody_action a, bool undo, int r);
/* Those sub-actions of the command that went well have ended; returns the one that did not, if any. */
enum custody_action custody_command_ended(Custody *c, bool undo, size_t ran);

#endif
