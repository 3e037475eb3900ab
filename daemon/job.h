/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs: what a method that acts has set going. A job outlives its caller; it ends with an error and a text, or without. What it
 * does is a settle function that is called whenever anything has moved.
 */
#ifndef TDID_JOB_H
#define TDID_JOB_H

#include "manager.h"

enum job_kind {
        JOB_ATTACH,
        JOB_DETACH,
        JOB_SEAL,
        JOB_DESTROY,
        JOB_CONNECT,
        JOB_DISCONNECT,
        JOB_RESTORE,
        JOB_BIND,
        JOB_UNBIND,
        JOB_KIND_MAX
};

struct Job {
        Manager *manager;
        uint64_t id;
        enum job_kind kind;
        enum tdi_job_state state;
        char **objects; /* BDFs, or the VM's name */
        size_t n_objects;
        uint64_t started, finished; /* CLOCK_REALTIME, µs */
        uint64_t begun;             /* CLOCK_MONOTONIC */
        bool cancel;
        enum tdi_error error;
        char *text;
        const char *step; /* of the function furthest behind; "" */
        const char *waits_for; /* a step before any function is touched; NULL */

        VM *vm;            /* NULL once it is gone */
        uid_t owner;       /* of the VM; who may know all about the job */
        uid_t caller;      /* who asked for it */
        uint64_t sequence; /* the transaction it made; of connect and disconnect: the round of reading that shows it */
        struct tdi_bdf *bdfs;
        size_t n_bdfs;
        bool undoing, committing;
        Worker *worker;    /* of connect and disconnect */
        char *tsm;

        bool (*settle)(Job *j); /* true when it changed something */
        sd_bus_message *call;   /* to reply to at the end, or NULL */
        bool reply_with_tdis;
        sd_event_source *expiry;
};

const char *job_kind_to_string(enum job_kind kind);

/* -EDQUOT with too many jobs. */
int job_new(Manager *m, enum job_kind kind, VM *vm, bool (*settle)(Job *j), Job **ret);
Job *job_free(Job *j);
void job_add_object(Job *j, const char *name);
void job_add_bdf(Job *j, struct tdi_bdf bdf);
Job *job_find(Manager *m, uint64_t id);
char *job_path(const Job *j, char buf[static 64]);
bool job_is_finished(const Job *j);

/* The first error stays. */
void job_fail(Job *j, enum tdi_error error, const char *format, ...) _printf_(3, 4);
void job_set_state(Job *j, enum tdi_job_state state);
/* Ends it: done, failed, or cancelled, by what has been recorded. Replies, tells, and keeps it for a minute. */
void job_finish(Job *j);
/* Deadline (CLOCK_REALTIME) of what is under way, 0 when none. */
uint64_t job_deadline(const Job *j);
/* After each settle: step, stuck or not. */
void job_refresh(Job *j);

/* Is an operator connecting or disconnecting this DSM? */
bool job_acts_on_dsm(Manager *m, const char *dsm);
/* Unfinished jobs of a VM. */
unsigned job_count(Manager *m, const VM *vm);

/* The kinds (transaction.c, tdi-bind.c, connect.c) */
bool attach_settle(Job *j);
bool attach_evidence_settle(Job *j); /* before it has begun: devices are being asked for what the policy wants */
bool seal_settle(Job *j);
bool destroy_settle(Job *j);
bool release_settle(Job *j); /* of detach */
bool restore_settle(Job *j);
bool bind_settle(Job *j);
bool unbind_settle(Job *j);
int connect_start(Job *j, const char *verb);
bool connect_settle(Job *j);

#endif
