/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What surrounds the custody engine in the explorer (custody-explore.c): a kernel of a few bits a function, workers and holders whose answers come
 * when the explorer says so, a journal, and a client. All of it is plain data beside the engine's own Custody, so that a state can be kept and
 * gone back to.
 */
#ifndef TDID_TEST_CUSTODY_WORLD_H
#define TDID_TEST_CUSTODY_WORLD_H

#include "custody-engine.h"
#include "vm.h"

#define FUNCTIONS 2
#define VALUES_MAX 640

/* Who has a copy of a descriptor. */
enum { BY_TDID = 1, BY_HOLDER = 2, BY_WORKER = 4 };

/* What the kernel has. */
struct kernel {
        bool override, power, vfio, guarded, iommufd, attached, bound, socket;
        uint8_t cdev, binding; /* who has it open */
        bool locked, requests; /* what the holder has been told */
};

enum pending_kind {
        PENDING_NOTHING,
        PENDING_WORKER, /* an operation */
        PENDING_TAKE,   /* a worker takes descriptors over */
        PENDING_PROBE,
        PENDING_PUT,    /* the holder keeps a descriptor */
        PENDING_DROP,   /* the holder keeps it no longer */
        PENDING_SERVE,
        PENDING_STOP,
        PENDING_LOCK,
        PENDING_UNLOCK,
        PENDING_PASS,
        PENDING_PASS_NO_MORE,
};

struct pending {
        enum pending_kind kind;
        uint32_t actions;
        bool undo, of_binding; /* of the binding, not the cdev */
        bool in_doubt, used;   /* what the worker is told of the connection */
        worker_done worker_done;
        holder_done holder_done;
};

struct journal_copy {
        bool there;
        uint32_t done, begun;
        uint64_t sequence;
        bool quarantined;
        char values[VALUES_MAX];
};

enum job_phase { JOB_NONE, JOB_RUNS };

struct world {
        struct kernel kernel[FUNCTIONS];
        bool connected, mark[FUNCTIONS]; /* the DSM; whose worker has left its mark, that it connected it */
        bool there[FUNCTIONS];           /* in custody */
        struct pending pending[FUNCTIONS];
        bool worker[FUNCTIONS];          /* alive */
        struct journal_copy journal[FUNCTIONS];
        bool holder[FUNCTIONS];          /* alive, of the VM of this function */
        bool closing[FUNCTIONS];
        enum tdi_state tdi[FUNCTIONS];
        bool committed[FUNCTIONS];
        bool again[FUNCTIONS];           /* a refused unbind waits for its timer, or an undo that the host waits for */
        bool wanted[FUNCTIONS];          /* the host waits for its last close */
        enum job_phase attach;           /* all of one transaction */
        uint8_t attach_of;               /* bits of functions */
        bool attach_undoes, attach_commits;
        uint8_t operations, faults, deaths, wants; /* that are left */
        uint64_t sequence;
};

extern struct world world;
extern Custody *custodies[FUNCTIONS];
extern Manager manager;

/* How the functions are related. */
struct setting {
        const char *name;
        bool one_group;  /* of both */
        bool dsm_is_first; /* function 0 speaks for 1; else a function that is nobody's speaks for both */
        bool one_vm, one_attach;
        uint8_t operations, faults, deaths, wants;
};
extern const struct setting *setting;

/* Descriptors that the engine has are numbers of ours: what it closes is seen. */
enum { FD_CDEV = 1000, FD_BINDING = 2000, FD_OTHER = 3000, FD_END = 4000 };

/* Something that must never be so. */
void violation(const char *format, ...) _printf_(1, 2);

void world_begin(const struct setting *s);
int world_index(const Custody *c);
/* The functions of the same VM. */
bool world_same_vm(int a, int b);
/* Their last close comes with it. */
void world_drop_cdev(int i, uint8_t by);
void world_drop_binding(int i, uint8_t by);
/* One pending thing is over: 0 as it should, 1 it failed, 2 its process died before, 3 after it was done. */
void world_answer(int i, int how);
/* tdid dies; of what was pending that of the functions in @done_after happens all the same. The next tdid takes up what it finds. */
void world_restart(unsigned done_after);
void world_holder_dies(int i);
/* An administrator's word about a quarantined function. */
void world_restore(int i);
/* The engine until nothing moves by itself. */
void world_settle(void);
/* The host wants it back. */
void world_want(int i);
/* The timer of what is tried again. */
void world_ring(int i);

/* custody-kernel.c: what a worker does there. Return 0 or a negative errno; kernel_is_so(), whether it is done. */
int kernel_do(int i, enum custody_action a, struct json_object *values, struct ipc_fds *fds);
int kernel_undo(int i, enum custody_action a, const struct pending *p, struct json_object *values);
bool kernel_is_so(int i, enum custody_action a);

#endif
