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

#define VM_STATE_VERSION 2
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
        bool bind_tried;    /* early: not again before something has changed */
        bool stays_unbound; /* early: somebody has unbound it; in the record */
        enum tdi_tdisp tdisp; /* as its holder says; TDI_TDISP_INVALID: nothing yet. See tdi_tdisp() */
        enum tdi_tdisp shown_tdisp; /* what listeners on the bus know */
        struct json_object *report; /* what its interface report says (docs/dbus-api.md); NULL: there is none */
        char *raw_report;           /* the same as it came, in hex; NULL */
        uint64_t report_read;       /* CLOCK_REALTIME of that, µs */
        struct report_check *report_check; /* which is being looked at; NULL: none */
        unsigned openings;  /* of sockets for such requests that the holder has not answered yet */
        struct guest_requests *guest_requests; /* tdid's own (bus/requests.c); NULL before the first */
        bool lost;          /* early: its TSM unbound it beside us; not bound by itself before its guest starts anew; in the record */
        char *bind_error;   /* why it is not bound though somebody wanted it; NULL */
        bool committed;     /* in the record: a later tdid keeps it */
        bool handing_off;   /* its vPCI socket is being shut for that */
        bool announced;
        struct json_object *vpci;   /* what the holder has last said of its vPCI socket; NULL */
        uint64_t vpci_read;         /* CLOCK_REALTIME of that, µs */
        struct json_object *events; /* what has happened there, the last VPCI_EVENTS_MAX; NULL */
};

enum keeper_kind {
        KEEPER_LEASE,
        KEEPER_PIDFD,
        KEEPER_VPCI,
};

struct Keeper {
        VM *vm;
        uint64_t number;
        enum keeper_kind kind;
        char *label;
        uid_t uid;
        uint64_t given; /* CLOCK_REALTIME, µs */
        int fd;         /* tdid's duplicate: of our end of the lease, or the pidfd; of a connection -EBADF: the holder has it */
        struct tdi_bdf bdf; /* of a connection: to which function, from whom */
        pid_t pid;
        sd_event_source *source;
        bool ended;
        bool storing; /* the holder has not confirmed it yet */
};

/* An address space, of an IOMMU group or, under a vIOMMU, of all that is behind a physical IOMMU (vm-space.c). */
struct vm_space {
        int32_t group; /* its first function's, where it is shared; negative: it is on its way out */
        uint32_t ioas;
        char iommu[32];        /* name of the physical IOMMU in sysfs, "": not shared */
        uint32_t nest, viommu; /* the nest parent and the vIOMMU, 0: none */
        bool quiet;            /* nobody listens to that any more */
};

/* What a client or a guest can have logged without end. */
struct log_budget {
        uint64_t since;   /* CLOCK_MONOTONIC, µs; and so many have been logged since then */
        unsigned logged, left_out;
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
        bool peer_to_peer; /* its functions may reach each other's BARs */
        enum bind_when bind;
        unsigned max_functions, max_pinned_mib, max_maps;
        uint64_t created;

        Holder *holder;
        int iommufd, kvm; /* duplicates, or -EBADF */
        bool kvm_of_peer; /* found among the descriptors of the process that is connected, which may be followed by another */
        int peer_kvm;     /* such a one whose process has ended, until the holder has let go of it, or -EBADF */
        struct {
                bool wanted;  /* functions are associated when they are attached, or not attached; in the record */
                int channel;  /* tdid's end of that to the VMM, or -EBADF */
                int device;   /* tdid's duplicate of the VM's kvm-vfio device, or -EBADF */
                sd_event_source *hang_up;
        } association;
        bool folder;      /* STATE/vm/UUID has been made */
        struct peer {
                uint64_t serial;       /* the holder's number for the process; 0: none yet */
                pid_t pid;
                int pidfd;             /* while it is being served */
                Worker *worker;        /* the same */
                bool gone;             /* it has ended */
                bool asking;           /* the holder has been given something, and has not answered yet */
                bool given;            /* the holder has its memory map */
                bool served;           /* all of it is done, with that */
                bool retried;          /* its worker was killed, or could not be started, once */
                bool again;            /* all that is missing is another helper */
                bool helper_gone;      /* that died before all was done */
                unsigned helpers;      /* that were started anew */
                sd_event_source *retry;
                char *memory, *kvm;    /* what came of it, for people */
                int old_kvm;           /* that of an earlier one, until the holder has the new one */
                struct peer *next;     /* has come while this one was asking */
        } *peer;
        struct log_budget events, iommu_events;
        Keeper **keepers;
        size_t n_keepers, room_keepers;
        uint64_t next_keeper;
        TDI **tdis;
        size_t n_tdis, room_tdis;
        struct vm_space *spaces;
        size_t n_spaces;
        unsigned quieting;              /* vIOMMUs that the holder is ceasing to listen to */
        struct json_object *viommus;    /* what it has last said of those that it listens to; NULL */

        unsigned await;          /* seconds */
        uint64_t await_deadline; /* CLOCK_MONOTONIC, µs; 0: not counting */
        bool arrived;            /* a VMM has come: await is over */
        sd_event_source *await_timer;

        vm_ready ready; /* while it is being born */
        void *ready_userdata;
        struct json_object *adopting; /* while it is being taken over */
        unsigned adopting_left;
        int adopting_result;
        struct json_object *vpci_state; /* what its holder serves */
        void (*vpci_recovered)(VM *vm);
        bool vpci_moved;                /* something happened while that was being asked */
        unsigned vpci_asked_again;
        struct asking *asking;          /* questions about that (vpci.c) */
        bool vpci_stale;                /* what is remembered of its sockets is not what the holder has just said */
        struct describing *describing;  /* calls that wait for that (bus/describe.c) */
        void (*adopted)(VM *vm, int r);

        struct exports *exports; /* export.h; NULL before the first */

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
        uint64_t closing_since; /* CLOCK_REALTIME, µs; 0: it is not */
        char *unmap_error;      /* why guest memory is mapped still though it should not be; NULL */
        uint64_t pinned;        /* bytes that its functions reach, as the holder has last said */
        bool abandon;
        bool stopping; /* the holder has been told to serve nobody any more, and has not answered yet */
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

/* Address spaces (vm-space.c) */
/* Does its platform want a secure vIOMMU? */
bool vm_nests(const VM *vm);
/* A function's space, until the next is made; NULL. */
struct vm_space *vm_space_find(const VM *vm, const Custody *c);
/* The same, made when there is none. */
int vm_space_get(VM *vm, const Custody *c, struct vm_space **ret);
/* A function has been detached: its space ends when it was the last there; a later one gets another. */
void vm_space_settle(VM *vm, const Custody *c);
/* The same, but not before the VM ends: something is mapped there that cannot be unmapped now. */
void vm_space_leave(VM *vm, const Custody *c);
/* One step of what the two have begun; true when something changed. */
bool vm_spaces_settle(VM *vm);
/* Has the holder read the events of all vIOMMUs that there are, and those that it reads already. */
void vm_spaces_listen(VM *vm);
/* One of them, as the holder has told it (vm/vpci/vpci.h): for the log and the bus. */
void vm_on_iommu_event(VM *vm, struct json_object *event);
/* All of them, for vm.unmap. */
struct json_object *vm_spaces_to_unmap(const VM *vm);
/* Why the function has no virtual device in a secure vIOMMU though its platform wants one; NULL. */
const char *vm_why_no_vdevice(const TDI *t);
/* {"id", "nest", "vdevice", "virt_id"}, NULL: it has none. The caller's. */
struct json_object *vm_describe_vdevice(const TDI *t);
void vm_describe_viommu(const VM *vm, char *buf, size_t size);
struct json_object *vm_spaces_record(const VM *vm);
void vm_spaces_take_record(VM *vm, struct json_object *list);

/* Gives everything back; says why on the bus. Doing it again is no error. */
void vm_close(VM *vm, const char *reason);
/* The worker of what belongs to the VM as a whole is there and idle. */
bool vm_need_worker(VM *vm);
/* The next step of closing; true when something changed. */
bool vm_close_settle(VM *vm);
/* Does it end though a function is bound still: given up, or without a holder that keeps the binding? */
bool vm_leaves_bound(const VM *vm);
/* Is a TSM that does not unbind all that it waits for? Its memory is given back then. */
bool vm_waits_for_tsm(const VM *vm);
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
/* Prepared, and perhaps bound: everything that a guest has of it is there. */
bool tdi_is_attached(const TDI *t);
/* watch_found of the functions that VMs have; @userdata is the manager. */
void tdi_written_to(struct tdi_bdf bdf, const char *file, void *userdata);

/* Binding (tdi-bind.c) */
/* Is there anything that binds? It may be loaded at any time. */
bool bind_has_provider(Manager *m);
/* TDI_ERROR_NONE, or why this TDI cannot be bound whatever its VM's state. */
enum tdi_error tdi_may_bind(const TDI *t, char *why, size_t size);
/* Both only set a goal; the function is at rest, its VM has a KVM VM. */
void tdi_bind(TDI *t);
void tdi_unbind(TDI *t);
/* Its custody has reached that goal, or failed to. */
void tdi_bind_ended(TDI *t);
/* The TSM core says that it is not bound, though nobody here has unbound it. */
void tdi_lost_binding(TDI *t);
/* tsm/ has been read again: is what is bound still bound? */
void tdi_look_at_bindings(Manager *m);
/* The KVM VM goes. */
void tdi_unbind_all(VM *vm);
/* A client waits for that; and it has gone on. An early one is bound again then. */
void tdi_unbind_for_reset(TDI *t);
/* The guest has written what ends it, and the policy wants it unbound for that. */
void tdi_unbind_for_write(TDI *t, const char *text);
void tdi_was_reset(TDI *t);
/* Its DSM is an early TDI of the same VM, which is bound first. */
bool tdi_waits_for_dsm(const TDI *t);
/* Binds those that are early; true when something changed. */
bool tdi_bind_settle(VM *vm);
/* True when all early ones are bound that can be by now, but for one that could not be. */
bool tdi_early_are_bound(VM *vm, const TDI **ret_failed);

/* Its TDISP state as far as it is known. */
enum tdi_tdisp tdi_tdisp(const TDI *t);
/* The holder says so; TDI_TDISP_INVALID is nothing new. In ERROR it is unbound, and its owner told. */
void tdi_take_tdisp(TDI *t, enum tdi_tdisp state);

/* Interface reports (tdi-report.c) */
/* The holder has one. */
void tdi_look_at_report(TDI *t);
/* It is not bound any more, or gone. */
void tdi_forget_report(TDI *t);
/* {…} of Describe(), NULL: there is none. The caller's. */
struct json_object *tdi_describe_report(const TDI *t);

/* The process behind the vPCI sockets (peer.c) */
/* It has connected: @pidfd is taken. Doing it again for the same one is no error. */
void peer_connected(VM *vm, uint64_t serial, pid_t pid, int pidfd);
/* After tdid's restart: it is connected; what has not been done for it is done. */
void peer_resume(VM *vm, uint64_t serial, pid_t pid);
/* It has ended: the KVM VM that was found with it is let go. */
void peer_gone(VM *vm, uint64_t serial);
/* Its helper has died: another one is started, some times. */
void peer_helper_gone(VM *vm, uint64_t serial);
/* After tdid's restart: nobody is connected, whoever was. */
void peer_none(VM *vm);
/* {"pid", "memory", "kvm"} of Describe(), NULL when nobody has come yet. The caller's. */
struct json_object *peer_describe(const VM *vm);
/* What a record says of it, and takes from one. */
struct json_object *peer_record(const VM *vm);
void peer_take_record(VM *vm, struct json_object *o);
struct peer *peer_free(struct peer *p);

/* Keepers (keeper.c) */
typedef void (*keeper_ready)(int r, int lease, void *userdata);
/* A lease: ready() gets the client's end, which it owns. */
int keeper_new_lease(VM *vm, const char *label, uid_t uid, keeper_ready ready, void *userdata);
/* Duplicates the pidfd. */
int keeper_new_pidfd(VM *vm, int pidfd, const char *label, uid_t uid, keeper_ready ready, void *userdata);
/* A connection of process @pid to the vPCI socket of a function; there is one a function. @given: when, CLOCK_REALTIME in µs; 0: at this moment. */
Keeper *keeper_new_vpci(VM *vm, struct tdi_bdf bdf, pid_t pid, uid_t uid, uint64_t given);
/* The function's, if there is one, has ended. */
void keeper_end_vpci(VM *vm, struct tdi_bdf bdf, const char *why);
Keeper *keeper_find_vpci(const VM *vm, struct tdi_bdf bdf);
const char *keeper_kind_to_string(enum keeper_kind kind);
/* A lease or a process that an earlier tdid wrote down as @o, with its descriptor, which is taken. */
int keeper_adopt(VM *vm, struct json_object *o, int fd);
Keeper *keeper_free(Keeper *k);
/* Drops those that have ended; closes the VM, or starts to wait, when none is left. */
bool keeper_settle(VM *vm);

#endif
