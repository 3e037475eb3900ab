/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The whole state of a running tdid, and the one place where it moves on: manager_settle() runs after every event and lets
 * each function, VM and job take its next step, until none can. Everything here belongs to the one thread of the loop.
 */
#ifndef TDID_MANAGER_H
#define TDID_MANAGER_H

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <tdi/bdf.h>
#include <tdi/enums.h>
#include <tdi/error.h>

#include "config.h"
#include "host/host.h"
#include "log.h"
#include "model/json.h"

/* Folders of policy files that can be given. */
#define POLICY_DIRS_MAX 16

#define BUS_NAME "org.tdid1"
#define BUS_ROOT "/org/tdid1"

typedef struct Manager Manager;
typedef struct Device Device;
typedef struct Custody Custody;
typedef struct VM VM;
typedef struct TDI TDI;
typedef struct Job Job;
typedef struct Tsm Tsm;
typedef struct Worker Worker;
typedef struct Holder Holder;
typedef struct Keeper Keeper;
typedef struct Evidence Evidence;

struct Manager {
        sd_event *event;
        sd_bus *bus;
        TdiHost *host;
        char *host_spec;
        char *state_dir;
        char *archive_dir; /* of evidence; "": none is kept */
        char *libexec_dir; /* where tdid-vm and tdid-worker are */
        int worker_program;    /* tdid-worker as it was at our start, or negative: worker_open_program() */
        char worker_path[64];  /* the name in /proc of that descriptor */
        char boot_id[40];
        struct config config;
        const char *config_path; /* where it is from, or would be; as main() was given it */

        Device **devices; /* sorted by address */
        size_t n_devices, room_devices;
        Custody **custodies;
        size_t n_custodies, room_custodies;
        VM **vms;
        size_t n_vms, room_vms;
        Job **jobs;
        size_t n_jobs, room_jobs;
        Tsm **tsms;
        size_t n_tsms;
        struct ide_reader *ide;      /* IDE streams; NULL before the first TSM */

        struct inventory *inventory; /* the readers */
        struct callers *callers;     /* who is behind a bus name */
        struct reading *host_reading, *host_check; /* who asks what this host is, and what it can do */
        Evidence *evidence;          /* devices that are being asked */
        struct evidence_call *evidence_calls; /* who waits for an answer */
        struct policy *policy;       /* NULL: it could not be read, policy_error says why, and nothing is admitted */
        char *policy_error;
        const char *policy_dirs[POLICY_DIRS_MAX]; /* as main() was given them; none: the usual ones */
        size_t n_policy_dirs;
        struct admission *admissions; /* calls that wait for evidence */
        struct inhibit *inhibit;     /* of suspend; NULL before anything was bound */
        struct guard *guard;         /* what is known of the mmap guard; NULL before anybody has asked */
        struct watch *watch;         /* files of functions that a VM has */
        unsigned n_workers;          /* processes, spare ones included */
        Worker **spares;             /* waiting for work, or about to */
        size_t n_spares, room_spares;
        uint64_t next_vm, next_job, next_sequence, next_generation;

        sd_event_source *settle;
        sd_event_source *retry;
        sd_event_source *refill; /* of spare workers; NULL before there shall be any */
        void (*name_answered)(Manager *m, int r);
        bool serving;  /* the name is ours, or asked for */
        bool recovering; /* not every holder has answered */
        bool stopping; /* everything is being given back */
        bool booted_by_systemd;
};

int manager_new(Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_CLEANUP(Manager *, manager_free);

/* Asks for a round of manager_settle(). Cheap, may be called from anywhere, any number of times. */
void manager_touch(Manager *m);

/* The same a little later: for what waits for something that has no event, as a lock or a process table that is full. */
#define MANAGER_RETRY_USEC 200000ULL
void manager_retry(Manager *m);

/* Appends to one of the arrays above; ends the process when out of memory. */
void manager_append(void ***array, size_t *n, size_t *room, void *item);
void manager_remove(void **array, size_t *n, void *item);

uint64_t now_realtime(void);
uint64_t now_monotonic(void);

#endif
