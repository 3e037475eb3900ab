/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Custody of a function: how far down the table it is, where it shall go, and what keeps it. custody_kick() takes the next
 * sub-action towards the goal (custody-engine.h) when nothing forbids it; the answer comes back as an event and manager_settle() kicks again. So
 * acquiring, releasing, undoing a failure and going on after a crash are one thing: a goal.
 *
 * The journal is written before a sub-action is dispatched, and removed when nothing is left to undo. Those that do nothing, as
 * things stand, are not worth a file of their own.
 */
#ifndef TDID_CUSTODY_H
#define TDID_CUSTODY_H

#include "custody-table.h"
#include "manager.h"

enum custody_goal {
        GOAL_KEEP,   /* stay */
        GOAL_UP,     /* CUSTODY_PREPARED */
        GOAL_BIND,   /* all of the table */
        GOAL_UNBIND, /* back to CUSTODY_PREPARED */
        GOAL_DOWN,   /* nothing left */
};

struct Custody {
        Manager *manager;
        struct tdi_bdf bdf;
        char name[TDI_BDF_MAX];
        VM *vm;                      /* NULL when its VM is no more */
        char *vm_id;
        uint64_t sequence;           /* the transaction that acquired it */
        int32_t group;
        uint32_t done;               /* bits of enum custody_action */
        uint32_t begun;              /* the same: dispatched, or found so in the journal; done or not */
        uint32_t command;            /* the same: of the last command to the worker */
        enum custody_goal goal;
        struct json_object *values;  /* what the undo rows need; part of the journal */
        int device;                  /* tdid's duplicate of the cdev, or -EBADF */
        int binding;                 /* tdid's duplicate of the bind provider's file, whose last close unbinds; or -EBADF */
        uint64_t connected_round;    /* the reading of tsm/ that first shows that its DSM is connected */
        uint64_t bound_round;        /* the reading of tsm/ that first shows that it is bound */
        uint64_t not_before;         /* CLOCK_MONOTONIC: a holder that was busy is not asked again earlier; 0 */
        uint64_t asked;              /* CLOCK_MONOTONIC since when the holder is asked for the same thing again and again; 0: it is not */
        int request;                 /* rings when the host wants the function back; or -EBADF */
        sd_event_source *request_source;
        Worker *worker;
        bool busy;                   /* an answer is awaited */
        bool given_to_worker;        /* the worker has taken the device for its last close */
        uint32_t verify;             /* bits of sub-actions to probe, after a restart */
        enum custody_action probing;
        bool retried;                /* an undo whose worker died is tried once more */
        bool starved;                /* there was no worker to give it back; it is tried again */
        bool group_kept;             /* its old driver was refused: somebody else may have its group's DMA for a while */
        bool journalled;
        uint64_t locked_since;       /* CLOCK_MONOTONIC since when an earlier worker is in the way, 0: it is not */
        bool locked_out;             /* for so long that it is stuck */
        bool recovered;              /* from the journal: an earlier worker may be at it */
        bool blocked;                /* waits for another function that is stalled */
        bool damaged;                /* its journal cannot be read: whose it is, nobody has said yet */
        bool frozen;                 /* not ours to touch (a newer tdid's journal) */
        bool supposed;               /* of a plan: nothing is ever done to the function */
        uint64_t deadline;           /* CLOCK_MONOTONIC of the sub-action under way, 0 when idle */
        bool stuck;                  /* past it */
        sd_event_source *timer;
        enum tdi_error error;        /* the first failure on the way up */
        char *error_text;
        char *quarantine;            /* why, or NULL */
        sd_event_source *again;      /* an unbind that the TSM refused, or an undo that the host waits for, is tried again then; NULL */
        enum custody_goal again_goal;
        unsigned refusals;           /* in a row */
        bool trying_again;           /* under way, though it is quarantined */
        bool wanted;                 /* the host wants it back, and waits for its last close */
        enum tdi_custody announced;  /* the step that the bus has last been told */
};

/* A new custody at the top of the table, with goal KEEP and nothing journalled. */
Custody *custody_new(Manager *m, struct tdi_bdf bdf, int32_t group);
/* Only when custody_is_empty(). */
Custody *custody_free(Custody *c);
Custody *custody_find(Manager *m, struct tdi_bdf bdf);

void custody_set_goal(Custody *c, enum custody_goal goal);
/* It has failed while it was being acquired, or just after: it goes back, with @text as the reason. */
void custody_give_up(Custody *c, const char *text);
/* Takes the next step if there is one to take. Returns true when something changed at once. */
bool custody_kick(Custody *c);

/* Probes what the journal says is done; a TDI that has lost something fails. */
void custody_verify(Custody *c);

bool custody_is_done(const Custody *c, enum custody_action action);
/* Done, or perhaps done. */
bool custody_touched(const Custody *c, enum custody_action action);
/* Has a vPCI socket been made for it, or perhaps? Not where its VM's holder is of an earlier tdid and has no vPCI server. */
bool custody_has_socket(const Custody *c);
/* It is of such a VM, and has all but that: it counts as complete. */
void custody_needs_no_socket(Custody *c);
/* Prepared, and perhaps bound; nothing under way. */
bool custody_is_complete(const Custody *c);
/* The same, but for a binding that an earlier tdid was at: that is undone, and nothing else. */
bool custody_is_half_bound(const Custody *c);
bool custody_is_bound(const Custody *c);
/* Nothing left, nothing under way. */
bool custody_is_empty(const Custody *c);
/* Nothing will happen without help: quarantined, stuck in the kernel, or waiting for one that is. */
bool custody_is_stalled(const Custody *c);
/* Its VM ends without it: the device, if open, goes to a worker, so that no end of tdid's is the last close. */
void custody_leave(Custody *c);
/* The furthest step that something of is done, or under way. */
enum tdi_custody custody_step(const Custody *c);
/* The sub-action under way or last done, for people. */
const char *custody_action_name(const Custody *c);

/* Connections that are lost (custody-connection.c) */
/* tsm/ has been read again: are DSMs connected still? @tsm_went: a TSM has gone since the last time, and may be back already. */
void connections_look(Manager *m, bool tsm_went);
/* Its DSM is not connected any more; nobody knows why. */
void custody_lost_connection(Custody *c);
bool custody_connection_is_lost(const Custody *c);
/* Is its DSM to be connected, before it can be bound? */
bool custody_wants_connection(const Custody *c);
/* False: it cannot be bound, because that cannot be. */
bool custody_may_connect(const Custody *c, char *why, size_t size);
/* Writes down what is about to be connected to what. */
void custody_choose_again(Custody *c);
/* It was attached when there was no TSM, and has a DSM now: its next bind connects that. */
void custody_choose_dsm(Custody *c);
/* Are there functions of its DSM that only found it connected, and rely on that? */
bool custody_has_heirs(const Custody *c);
/* It gives up a connection that is tdid's: from now on that is theirs to give back, where there are any. */
void custody_bequeath_connection(Custody *c);
/* It is connected, or turned out to be; or nothing came of it. */
void custody_connected_again(Custody *c);

/* Refused unbinds (custody-refused.c) */
/* It is quarantined because its TSM did not let go of it: still bound, and tried again by itself. */
bool custody_unbind_is_refused(const Custody *c);
/* The TSM has refused, or had when an earlier tdid ended: tried again a little later, with this goal. */
void custody_unbind_later(Custody *c, enum custody_goal goal);
/* That is under way, and has not taken too long yet. */
bool custody_is_asked_again(const Custody *c);
/* At once. Not of a function whose unbind was not refused. */
void custody_unbind_again(Custody *c, enum custody_goal goal);
void custody_unbind_went_well(Custody *c);
/* The host wants it back: that it is quarantined does not make the host wait for somebody's Restore. */
void custody_want(Custody *c);
/* Its undo has failed, and the host waits for its last close: is it tried again by itself? Not for ever; @attempt: which one that will be. */
bool custody_is_tried_again(const Custody *c, unsigned *ret_attempt, unsigned *ret_of);
void custody_close_later(Custody *c);
/* It is closed, and nobody waits for the rest. */
void custody_closed(Custody *c);
/* An administrator's word: a quarantined function, at rest and not frozen, is given back, or its TSM asked again. @forced: whether or not it answers. */
void custody_restore(Custody *c, bool forced);
/* To GOAL_DOWN, by way of the TSM where that has refused; one that is quarantined for anything else stays. */
void custody_give_back(Custody *c);

/* A function in custody that needs the connection of this DSM, or is about to; NULL. */
Custody *custody_using_dsm(Manager *m, const char *dsm);
void custody_set_quarantine(Custody *c, const char *reason);
/* Takes the eventfd of the request interrupt; listens to it as soon as the function has its VM (custody_set_vm()). */
void custody_take_request(Custody *c, int fd);
/* Tells the bus that something visible has changed. */
void custody_announce(Custody *c);
void custody_set_vm(Custody *c, VM *vm);

#endif
