/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A confidential VM: its holder, its keepers, its functions, and its phases. The record that the holder keeps is all that a
 * later tdid needs to go on.
 */
#ifndef TDID_VM_H
#define TDID_VM_H

#include <sys/types.h>

#include "custody.h"
#include "holder.h"
#include "tsm.h"

#define VM_STATE_VERSION 1
#define VM_AWAIT_MAX 600
#define VM_NAME_MAX 64
#define VM_LABEL_MAX 64

enum bind_when {
        BIND_LATE,
        BIND_EARLY,
};

struct TDI {
        VM *vm;
        Custody *custody;
        struct tdi_bdf bdf;
        enum tdi_state state;
        uint32_t guest_rid; /* UINT32_MAX: none */
        enum bind_when bind;
        bool committed;     /* in the record: a later tdid keeps it */
        bool announced;
};

struct Keeper {
        VM *vm;
        uint64_t number;
        bool is_pidfd;
        char *label;
        uid_t uid;
        uint64_t given; /* CLOCK_REALTIME, µs */
        int fd;         /* tdid's duplicate: of our end of the lease, or the pidfd */
        sd_event_source *source;
        bool ended;
        bool storing; /* the holder has not confirmed it yet */
};

/* The address space of one IOMMU group: the kernel allows a group one. */
struct vm_group {
        int32_t group;
        uint32_t ioas;
};

typedef void (*vm_ready)(VM *vm, int r, void *userdata);

struct VM {
        Manager *manager;
        char *id, *name, uuid[37];
        enum tdi_vm_phase phase;
        const struct platform *platform;
        uid_t owner, vmm_uid;
        gid_t vmm_gid;
        char *seclabel;
        bool hotplug;
        enum bind_when bind;
        unsigned max_functions;
        uint64_t created;

        Holder *holder;
        int iommufd, kvm; /* duplicates, or -EBADF */
        Keeper **keepers;
        size_t n_keepers, room_keepers;
        uint64_t next_keeper;
        TDI **tdis;
        size_t n_tdis, room_tdis;
        struct vm_group *groups;
        size_t n_groups;

        unsigned await;          /* seconds */
        uint64_t await_deadline; /* CLOCK_MONOTONIC, µs; 0: not counting */
        bool arrived;            /* a VMM has come: await is over */
        sd_event_source *await_timer;

        vm_ready ready; /* while it is being born */
        void *ready_userdata;
        struct json_object *adopting; /* while it is being taken over */
        unsigned adopting_left;
        void (*adopted)(VM *vm, int r);

        bool announced;
        bool record_dirty, record_busy; /* the holder's copy is behind; a push is under way */
        Worker *worker;                 /* closes what belongs to the VM as a whole */
        enum {
                CLOSE_NOT,
                CLOSE_DETACHING, /* functions go down to where they are detached */
                CLOSE_UNMAPPING,
                CLOSE_UNMAPPED,  /* guest memory is free: devices may be reset and closed */
                CLOSE_FINAL,     /* iommufd is being closed */
                CLOSE_ENDING,    /* the holder has been told to go */
                CLOSE_DONE,
        } close;
        bool abandon;
        bool retried; /* its worker was killed once */
        bool frozen;  /* a newer tdid's: not ours to touch */
};

VM *vm_new(Manager *m, const char *name);
VM *vm_free(VM *vm);
VM *vm_find_name(Manager *m, const char *name, uid_t owner);
VM *vm_find_uuid(Manager *m, const char *uuid);
/* By id, UUID, or name: -ENOENT, or -ENOTUNIQ for a name that others have several times and the caller not. */
int vm_find(Manager *m, const char *key, uid_t caller, VM **ret);
VM *vm_find_id(Manager *m, const char *id);
char *vm_path(const VM *vm, char buf[static 64]);
void vm_set_phase(VM *vm, enum tdi_vm_phase phase);

/* Opens an iommufd and starts the holder; ready() runs with the VM in the holder's hands, or an error. */
int vm_start(VM *vm, vm_ready ready, void *userdata);
/* Takes a VM over from its holder's answer to hello; adopted() runs when all descriptors are here. */
int vm_adopt(VM *vm, struct json_object *hello, void (*adopted)(VM *vm, int r));

/* The IOAS of a group, made when there is none. */
int vm_ioas(VM *vm, int32_t group, uint32_t *ret);
/* Forgets a group's IOAS when its last function has been detached. */
void vm_group_settle(VM *vm, int32_t group);

/* Gives everything back; says why on the bus. Doing it again is no error. */
void vm_close(VM *vm, const char *reason);
/* The next step of closing; true when something changed. */
bool vm_close_settle(VM *vm);
/* The holder's socket hung up: everything that it held is with us alone now. */
void vm_holder_died(VM *vm);
/* One step of whatever is under way; true when something changed. The VM is gone when close is CLOSE_DONE. */
bool vm_settle(VM *vm);
/* The record is out of date. */
void vm_touch(VM *vm);
struct json_object *vm_record(VM *vm, bool describe);
int vm_take_record(VM *vm, struct json_object *record);

/* TDIs (tdi.c) */
TDI *tdi_new(VM *vm, Custody *c);
TDI *tdi_free(TDI *t);
TDI *tdi_find(Manager *m, struct tdi_bdf bdf);
TDI *tdi_of(const Custody *c);
char *tdi_path(const TDI *t, char buf[static 64]);
void tdi_set_state(TDI *t, enum tdi_state state);
void tdi_failed(TDI *t, const char *reason);

/* Keepers (keeper.c) */
typedef void (*keeper_ready)(int r, int lease, void *userdata);
/* A lease: ready() gets the client's end, which it owns. */
int keeper_new_lease(VM *vm, const char *label, uid_t uid, keeper_ready ready, void *userdata);
/* Duplicates the pidfd. */
int keeper_new_pidfd(VM *vm, int pidfd, const char *label, uid_t uid, keeper_ready ready, void *userdata);
int keeper_adopt(VM *vm, struct json_object *o, int fd);
Keeper *keeper_free(Keeper *k);
/* Drops those that have ended; closes the VM, or starts to wait, when none is left. */
bool keeper_settle(VM *vm);

#endif
