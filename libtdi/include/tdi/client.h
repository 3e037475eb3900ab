/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The client of tdid, for VMMs, libvirt and tools: create confidential VMs, attach PCI functions to them, watch what
 * happens. It hides the bus: no D-Bus type appears here. It is not the daemon's side and touches no device itself.
 *
 * Threads: a client object may move between threads but is used by one at a time; give every thread its own. Do not use
 * it in a child after fork(): make a new one there. Callbacks run inside the call that waits, in the caller's thread, and
 * must not call functions of the same client (they get -EDEADLK).
 *
 * Who may: root may call everything. What is said below to be root's, or a VM's owner's, polkit may allow to others; org.tdid1(5) has which of its
 * actions each method needs. Whoever lacks one gets TDI_ERROR_DENIED.
 *
 * Strings are UTF-8. Pointers passed in are only borrowed for the call. What a ret_ pointer receives is the caller's
 * (free() for strings, close() for descriptors) and is written only on success. Every descriptor given out has O_CLOEXEC.
 *
 * Errors: functions return 0 (or a non-negative number where said) or a negative errno, and tdi_client_error() gives a
 * text and, when tdid itself refused, its error. Besides tdi_error_to_errno() of that error these are used:
 *   -EHOSTUNREACH  tdid or the bus cannot be reached
 *   -ECONNRESET    tdid or the bus went away while a job was waited for; the job may go on
 *   -EINPROGRESS   the progress callback chose to leave; the job goes on
 *   -ENOTCONN      tdi_client_connect() was not called or failed
 *   -EDEADLK       called from a callback of the same client
 *   -EBADMSG       tdid's answer does not have the agreed form
 *   -EINVAL        a parameter is malformed (the text names it)
 *   -E2BIG         a struct with a larger size than this library knows has fields set that it would not honour
 *   -ENOMEM        there is no memory
 */
#ifndef TDI_CLIENT_H
#define TDI_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include <tdi/bdf.h>
#include <tdi/dmabuf.h>
#include <tdi/enums.h>
#include <tdi/error.h>
#include <tdi/request.h>
#include <tdi/runs.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tdi_client;

/* ---- connection ---- */

/**
 * tdi_client_new() - make an unconnected client
 * @ret_client: the new client, the caller's; ends with tdi_client_free()
 *
 * Return: 0 or -ENOMEM.
 */
int tdi_client_new(struct tdi_client **ret_client);

/**
 * tdi_client_free() - close the connection and free the client
 * @client: may be NULL
 *
 * Leases are descriptors of their own: they stay as they are, and so do jobs.
 *
 * Return: NULL.
 */
struct tdi_client *tdi_client_free(struct tdi_client *client);

/**
 * tdi_client_connect() - connect to the bus that tdid is on
 * @bus: NULL or "system", "session", or a D-Bus address ("unix:path=…"). DBUS_SYSTEM_BUS_ADDRESS is respected.
 *
 * This does not need tdid to run: the first call starts it where the bus can. May block until the bus answers.
 *
 * Return: 0, -EHOSTUNREACH when there is no such bus, -EINVAL for a malformed address, -EISCONN when connected already.
 */
int tdi_client_connect(struct tdi_client *client, const char *bus);

/**
 * tdi_client_error() - what went wrong in the last call
 * @client: a client
 * @ret_error: may be NULL; tdid's error, TDI_ERROR_NONE when it was not tdid that refused
 *
 * Return: a text for people; "" when the last call succeeded. The client's, valid until its next call.
 */
const char *tdi_client_error(const struct tdi_client *client, enum tdi_error *ret_error);

/* ---- jobs ----
 *
 * Everything that acts is a job in tdid, which goes on whoever waits for it. The functions below that say "a job" start
 * one and wait for its end, however long it takes: a reset alone may take a minute.
 */

/** struct tdi_progress - what a running job is doing; the strings are the library's, valid inside the callback */
struct tdi_progress {
        const char *id;         /* as in the snapshot's "jobs" */
        const char *kind;       /* "attach", … */
        const char *step;       /* the step it is at, "" before the first */
        const char *state;      /* "running", or "stuck" when past its deadline */
        uint64_t elapsed_usec;  /* since the job was asked for */
        uint64_t deadline_usec; /* CLOCK_REALTIME; 0: none */
};

/** enum tdi_progress_verdict - what a progress callback wants */
enum tdi_progress_verdict {
        TDI_PROGRESS_WAIT = 0,   /* go on */
        TDI_PROGRESS_CANCEL = 1, /* ask tdid to cancel and undo the job, and wait for that; asked once however often returned */
        TDI_PROGRESS_LEAVE = 2,  /* stop waiting: the call returns -EINPROGRESS, the job goes on */
};

/** typedef tdi_progress_callback - called at every new step or state, every half second, and when the wake descriptor is readable */
typedef enum tdi_progress_verdict (*tdi_progress_callback)(const struct tdi_progress *progress, void *userdata);

/**
 * tdi_client_set_progress() - have a callback called while jobs are waited for
 * @callback: NULL for none
 */
void tdi_client_set_progress(struct tdi_client *client, tdi_progress_callback callback, void *userdata);

/**
 * tdi_client_set_interactive() - may a user be asked to authenticate for calls made from now on?
 *
 * polkit asks by an agent of the user's session, as for systemctl(1). Calls then wait for a person, minutes perhaps. Without it, as it
 * is at first, what needs that is refused.
 */
void tdi_client_set_interactive(struct tdi_client *client, bool interactive);

/**
 * tdi_client_set_autostart() - may calls made from now on have the bus start tdid, where it does not run? As it is at first
 *
 * Without it they are -EHOSTUNREACH, and nothing is started: for what only looks in passing.
 */
void tdi_client_set_autostart(struct tdi_client *client, bool autostart);

/**
 * tdi_client_set_dry_run() - have calls made from now on only say what they would do
 *
 * Of tdi_client_create_vm(), tdi_client_prepare_vm(), and everything that says "a job": tdid checks all that it would check, policy and
 * groups among it, asks devices for their evidence where the policy wants that, and then answers with its plan instead of beginning. Nothing is
 * made: what a ret_ pointer would receive is left as it is. Functions return 0 where they would begin, and else the error that would keep them
 * from it; progress callbacks are not called. What another function than these does it does as ever. Of an older tdid: TDI_ERROR_NOT_SUPPORTED.
 */
void tdi_client_set_dry_run(struct tdi_client *client, bool dry_run);

/**
 * tdi_client_plan() - what the last call would have done that tdi_client_set_dry_run() kept from acting
 *
 * Return: {"schema": "tdid/1", "plan": {…}} as org.tdid1(5) says; NULL when there was none, or it failed. The client's, valid until its next call.
 */
const char *tdi_client_plan(const struct tdi_client *client);

/**
 * tdi_client_set_wake_fd() - a descriptor that interrupts waiting
 * @fd: polled for input while a job is waited for (then the progress callback is called, and has to read it) and in
 *      tdi_client_run() (which then returns -EINTR); -1 for none. Borrowed: it must stay open while it is set.
 *
 * A signalfd or eventfd here lets a program cancel a job without a race.
 */
void tdi_client_set_wake_fd(struct tdi_client *client, int fd);

/* ---- jobs that nobody waits for ---- */

/** struct tdi_job_report - the beginning or the end of a job that was not waited for; the strings are the library's, valid inside the callback */
struct tdi_job_report {
        enum tdi_job_state state; /* TDI_JOB_RUNNING: tdid has begun it. DONE, FAILED, CANCELLED: it has ended, or was refused; comes once, last */
        const char *id;           /* as in the snapshot's "jobs", and for tdi_client_cancel_job(); "" of one that was refused before it began */
        int result;               /* what the function would have returned had it waited: 0, or a negative errno; 0 at the beginning */
        enum tdi_error error;     /* tdid's, as of tdi_client_error(); TDI_ERROR_NONE on success */
        const char *text;         /* for people, as of tdi_client_error(); "" on success */
};

/** typedef tdi_job_callback - told of the job's beginning, if it does begin, and of its end */
typedef void (*tdi_job_callback)(const struct tdi_job_report *report, void *userdata);

/**
 * tdi_client_set_async() - from now on, start jobs and do not wait for them
 * @callback: called for every job that is started from now on, inside tdi_client_process(), tdi_client_run() and functions that wait for a
 *            job; NULL: wait for jobs again, as at first
 * @userdata: for the jobs that are started until this function is called again
 *
 * The functions below that say "a job" then return 0 as soon as the call is on its way to tdid, or a negative errno when it could not be
 * made; nothing more is heard of it in that case. All other functions wait for tdid's answer as ever, which takes milliseconds, unless a
 * device or a person is asked. A client that ends, or waits again, takes no job back: jobs go on, and when the client is freed their ends
 * are told to nobody. When tdid or the bus goes, what is under way ends with -ECONNRESET; it may go on in tdid.
 */
void tdi_client_set_async(struct tdi_client *client, tdi_job_callback callback, void *userdata);

/**
 * tdi_client_cancel_job() - ask tdid to cancel a job and undo it
 * @job_id: its id: of struct tdi_job_report, or of the snapshot's "jobs"
 *
 * The job's own end says what came of it. What is in the kernel is not interrupted.
 *
 * Return: 0 or a negative errno; TDI_ERROR_NOT_SUPPORTED for a job that cannot be cancelled, TDI_ERROR_NOT_FOUND.
 */
int tdi_client_cancel_job(struct tdi_client *client, const char *job_id);

/* ---- VMs ---- */

#define TDI_VM_SET_OWNER_UID (UINT64_C(1) << 0)
#define TDI_VM_SET_VMM_UID (UINT64_C(1) << 1)
#define TDI_VM_SET_VMM_GID (UINT64_C(1) << 2)
#define TDI_VM_SET_HOTPLUG (UINT64_C(1) << 3)
#define TDI_VM_SET_AWAIT_VMM (UINT64_C(1) << 4)
#define TDI_VM_SET_MAX_FUNCTIONS (UINT64_C(1) << 5)
#define TDI_VM_SET_PEER_TO_PEER (UINT64_C(1) << 6)

/** struct tdi_vm_options - zero it, set @size, then what you need; a string is given when not NULL, a number when @set has its bit */
struct tdi_vm_options {
        size_t size;            /* sizeof(struct tdi_vm_options) */
        uint64_t set;           /* TDI_VM_SET_…: which numbers are given */
        const char *uuid;       /* made by tdid when NULL; root's to choose */
        const char *seclabel;   /* the security label that the VMM must have, as SO_PEERSEC tells it (unix(7)); NULL: any */
        const char *platform;   /* "auto" (also when NULL), "tdx", "sev-snp", "cca", "pkvm", "plain", or another name of one of these */
        const char *bind;       /* "late" or "early": when functions are bound, where nothing else is said */
        uint32_t owner_uid;     /* the caller when not set; another is root's to name */
        uint32_t vmm_uid;       /* the user that the VMM runs as: the owner when not set; another is root's to name */
        uint32_t vmm_gid;       /* its group: the number of the owner when not set */
        uint32_t hotplug;       /* 1: functions may be attached after the seal */
        uint32_t await_vmm;     /* seconds, at most 600, that the VM lives without a keeper until its VMM arrives */
        uint32_t max_functions; /* at most 256 */
        uint32_t peer_to_peer;  /* 1: functions may reach each other's BARs, where tdid.conf and ACS allow it */
};

/**
 * tdi_client_create_vm() - create a VM
 * @name: unique among the owner's VMs
 * @options: may be NULL
 * @ret_id: may be NULL; the VM's id, which the functions below take; the caller's, free()
 * @ret_lease: the VM's first keeper; the caller's, close(). The VM closes when the last copy of its last lease is closed
 *             (and no other keeper is left). Poll it for POLLHUP to learn that the VM is gone. Nothing is read or written.
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_create_vm(struct tdi_client *client, const char *name, const struct tdi_vm_options *options, char **ret_id, int *ret_lease);

/**
 * tdi_client_find_vm() - find a VM
 * @vm: its name, UUID or id
 * @ret_id: its id; the caller's, free()
 *
 * Return: 0 or a negative errno; TDI_ERROR_NOT_FOUND when there is none.
 */
int tdi_client_find_vm(struct tdi_client *client, const char *vm, char **ret_id);

#define TDI_ATTACH_GUEST_RID (UINT64_C(1) << 0)
#define TDI_ATTACH_FORCE (UINT64_C(1) << 1)      /* take the function although the host uses it */
#define TDI_ATTACH_NO_CONNECT (UINT64_C(1) << 2) /* leave the TSM connection of its DSM alone */

/** struct tdi_function - a function to attach; zero it, set @size and @bdf */
struct tdi_function {
        size_t size;          /* sizeof(struct tdi_function), the same in every element of an array */
        uint64_t flags;       /* TDI_ATTACH_… */
        struct tdi_bdf bdf;   /* where it is on the host */
        uint32_t guest_rid;   /* with TDI_ATTACH_GUEST_RID: its requester ID in the guest, bus << 8 | device << 3 | function */
        const char *bind;     /* "late", "early" or NULL: as the VM */
        const char *vf_token; /* UUID that VFIO wants for a VF whose PF a user-space driver has (VFIO_DEVICE_FEATURE_PCI_VF_TOKEN); or NULL */
};

/**
 * tdi_client_attach() - attach functions to a VM, all or none; a job
 * @vm_id: the VM
 * @functions: @n_functions of them, at least 1. All functions of an IOMMU group go together.
 *
 * Return: 0 or a negative errno; on failure every function is as it was before, or quarantined (the text says so).
 */
int tdi_client_attach(struct tdi_client *client, const char *vm_id, const struct tdi_function *functions, size_t n_functions);

/**
 * tdi_client_seal() - say that the set of early functions is complete, so that the guest may start; a job
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_seal(struct tdi_client *client, const char *vm_id);

/**
 * tdi_client_prepare_vm() - tdi_client_create_vm(), tdi_client_attach() and tdi_client_seal() in one: all of it, or none
 * @options: may be NULL
 * @functions: @n_functions of them, which may be 0
 * @ret_id, @ret_lease: as of tdi_client_create_vm(); both are needed
 *
 * When any of it fails, or a progress callback cancels it, the VM is closed again and its functions are given back before this
 * returns, unless the callback leaves. tdi_client_error() says what failed first. It always waits: with tdi_client_set_async() it is refused.
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_prepare_vm(struct tdi_client *client, const char *name, const struct tdi_vm_options *options, const struct tdi_function *functions,
                          size_t n_functions, char **ret_id, int *ret_lease);

#define TDI_DESTROY_ABANDON (UINT64_C(1) << 0) /* do not wait for stuck functions; they stay quarantined */

/**
 * tdi_client_destroy() - close a VM whatever keeps it, and give its functions back; a job
 * @flags: TDI_DESTROY_…
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_destroy(struct tdi_client *client, const char *vm_id, uint64_t flags);

/**
 * tdi_client_hold() - get a further lease
 * @label: shown to people as what this lease is for; may be ""
 * @ret_lease: as of tdi_client_create_vm()
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_hold(struct tdi_client *client, const char *vm_id, const char *label, int *ret_lease);

/**
 * tdi_client_set_kvm() - tell tdid the VM's KVM VM
 * @kvm_fd: from KVM_CREATE_VM; borrowed, tdid gets a duplicate
 *
 * Where the process at a vPCI socket has just one, tdid finds it by itself. tdid configures nothing of it, which KVM takes from its creator
 * alone, and holds it until every TDI of the VM is unbound.
 *
 * Return: 0 or a negative errno; TDI_ERROR_EXISTS when the VM has its KVM VM, TDI_ERROR_INVALID_ARGUMENT for a descriptor of anything else.
 */
int tdi_client_set_kvm(struct tdi_client *client, const char *vm_id, int kvm_fd);

/**
 * tdi_client_open_association() - get the channel on which tdid asks a VM's VMM to tell KVM of the VM's functions
 * @ret_channel: the VMM's end; the caller's, close(). It keeps nothing alive. A VMM that closes it answers no more: functions that it has
 *               associated stay so, others cannot be attached before another one is opened
 *
 * See tdi/association.h for what to do with it. From now on every function that is attached to the VM is associated, or not attached. Root's
 * and the VM's owner's, where tdid.conf allows it.
 *
 * Return: 0 or a negative errno; TDI_ERROR_POLICY when the configuration does not allow it, TDI_ERROR_IN_USE while an earlier channel is open.
 */
int tdi_client_open_association(struct tdi_client *client, const char *vm_id, int *ret_channel);

/**
 * tdi_client_set_pidfd() - make a process a further keeper, until it exits
 * @pidfd: from pidfd_open(); borrowed, tdid gets a duplicate
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_set_pidfd(struct tdi_client *client, const char *vm_id, int pidfd);

/**
 * tdi_client_describe() - everything about a VM; root's and the VM's owner's
 * @ret_json: {"schema": "tdid/1", "vm": {…}} as org.tdid1(5) says; the caller's, free()
 *
 * Return: 0 or a negative errno; TDI_ERROR_DENIED for others.
 */
int tdi_client_describe(struct tdi_client *client, const char *vm_id, char **ret_json);

/* ---- attached functions ---- */

/**
 * tdi_client_detach() - take a function from its VM and give it back to the host; a job
 *
 * Return: 0 or a negative errno; TDI_ERROR_NOT_FOUND when it is not attached.
 */
int tdi_client_detach(struct tdi_client *client, struct tdi_bdf bdf);

/**
 * tdi_client_bind() - bind an attached function to its VM in the platform's security manager; a job
 *
 * The kernel's pci_tsm_bind(), by whichever provider the host has (docs/tsm.md). The VM has to be sealed and its KVM VM known, and the function
 * attached with a guest_rid.
 *
 * Return: 0 or a negative errno; TDI_ERROR_NOT_SUPPORTED when this host has no way to bind, TDI_ERROR_INVALID_STATE when one of these is missing
 * or an IDE stream is not secure.
 */
int tdi_client_bind(struct tdi_client *client, struct tdi_bdf bdf);

/**
 * tdi_client_unbind() - undo tdi_client_bind(); a job
 *
 * Return: 0 or a negative errno; TDI_ERROR_INVALID_STATE when it is not bound, TDI_ERROR_QUARANTINED when its TSM refuses.
 */
int tdi_client_unbind(struct tdi_client *client, struct tdi_bdf bdf);

/**
 * tdi_client_vpci_socket() - where a VMM reaches an attached function in the vfio-user protocol
 * @ret_path: the socket's path; the caller's, free(). Who may connect was said at tdi_client_create_vm(): vmm_uid, vmm_gid, seclabel.
 *
 * Return: 0 or a negative errno; TDI_ERROR_NOT_FOUND when the VM does not have the function, TDI_ERROR_INVALID_STATE when it is not
 * served (it was handed off), TDI_ERROR_NOT_SUPPORTED when tdid has no such sockets. Root's and the VM's owner's.
 */
int tdi_client_vpci_socket(struct tdi_client *client, const char *vm_id, struct tdi_bdf bdf, char **ret_path);

/**
 * tdi_client_handoff() - get an attached function's own descriptors, for a VMM that does not speak vfio-user
 * @ret_iommufd: the VM's iommufd; the caller's, close()
 * @ret_device: the function's VFIO device, bound to it and attached to the "ioas" that tdi_client_describe() names (do not bind it
 *              again); the caller's, close()
 *
 * They are the same open files as tdid's, after VFIO_DEVICE_BIND_IOMMUFD and VFIO_DEVICE_ATTACH_IOMMUFD_PT. Whoever has a copy can reset the device, write its config space, map its BARs and export
 * dma-bufs; tdid cannot take it back, and gives the function back only when the last copy is closed. The function is served on no
 * vPCI socket from then on. Root's and the VM's owner's, where tdid.conf allows it.
 *
 * Return: 0 or a negative errno; TDI_ERROR_POLICY when the configuration does not allow it, TDI_ERROR_INVALID_STATE when the function
 * is not prepared, or a VMM is connected to its socket.
 */
int tdi_client_handoff(struct tdi_client *client, struct tdi_bdf bdf, int *ret_iommufd, int *ret_device);

/**
 * tdi_client_open_requests() - get a socket for the guest's requests to its TSM about an attached function
 * @ret_socket: for tdi_request(); the caller's, close(). It works while the function is bound, however often that changes, and hangs
 *              up when the function is detached. There are eight a function at most.
 *
 * Root's and the VM's owner's, whom the VMM gets it from.
 *
 * Return: 0 or a negative errno; TDI_ERROR_INVALID_STATE when the function is not served (it was handed off, or is not prepared),
 * TDI_ERROR_LIMIT, TDI_ERROR_NOT_SUPPORTED when the VM was created by an older tdid.
 */
int tdi_client_open_requests(struct tdi_client *client, struct tdi_bdf bdf, int *ret_socket);

/**
 * tdi_client_guest_request() - make one request by way of tdid, for callers that make few
 * @request: as of tdi_request(), but that its timeout is the bus', and that an error comes without the TSM's code: that is in the text
 *
 * Return: 0 or a negative errno; TDI_ERROR_KERNEL for what the TSM refuses, TDI_ERROR_POLICY for a kind that is not allowed,
 * TDI_ERROR_INVALID_STATE when the function is not bound. -EMSGSIZE: the answer is longer than the room for it, and lost.
 */
int tdi_client_guest_request(struct tdi_client *client, struct tdi_bdf bdf, struct tdi_request *request);

/* ---- dma-bufs ---- */

/** struct tdi_export - a dma-buf over a range of a BAR; zero it and set @size before the call that fills it, tdi_export_done() ends it. All in it is the caller's */
struct tdi_export {
        size_t size;                    /* sizeof(struct tdi_export) */
        uint64_t id;                    /* of the events "revoked" and "restored" of its function */
        uint64_t length;                /* bytes */
        int dmabuf;                     /* for the importer; cannot be mapped */
        int event;                      /* eventfd, non-blocking: readable after every revoke, every restore, and the end */
        enum tdi_dmabuf_class dmabuf_class; /* what was agreed on */
        uint32_t revoked;               /* 1: from the beginning, as the function's memory is switched off */
        struct tdi_run *runs;           /* of provider 1, the function */
        size_t n_runs;
        uint32_t has_addresses;         /* 1: runs have their frame numbers, which tdid tells root only; else these are 0 */
};

/**
 * tdi_client_export_dmabuf() - get a dma-buf of a range of a BAR of an attached function
 * @bar:      0 to 5
 * @offset:   in the BAR; a multiple of the page size, as is @length
 * @length:   bytes
 * @importer: who will import it
 * @accept:   set of classes (TDI_DMABUF_SET()) that it takes, 0: all that such an importer does; TDI_IMPORTER_ANY needs one
 * @ret:      @size is read, all else written, on success only
 *
 * It is VFIO's (VFIO_DEVICE_FEATURE_DMA_BUF), and revocable: it is revoked when the function's memory decoding is switched off, at its reset, and
 * for good when it is detached.
 *
 * Return: 0 or a negative errno; TDI_ERROR_CLASS_MISMATCH when the importer cannot cope with that, TDI_ERROR_LIMIT,
 * TDI_ERROR_NOT_FOUND when the function is not attached.
 */
int tdi_client_export_dmabuf(struct tdi_client *client, struct tdi_bdf bdf, uint32_t bar, uint64_t offset, uint64_t length,
                             enum tdi_importer importer, unsigned accept, struct tdi_export *ret);

/**
 * tdi_export_done() - close the descriptors and free the runs
 * @export_: filled by tdi_client_export_dmabuf(), or zeroed and never filled. A descriptor that was taken out is set to -1 before.
 */
void tdi_export_done(struct tdi_export *export_);

/**
 * tdi_client_create_shared_buffer() - get memory that both the VM and devices can have
 * @length:   bytes, a number of whole pages
 * @heap:     NULL: ordinary memory; or the name of a dma-heap
 * @ret_memfd: for mapping it, and for KVM and iommufd to pin; the caller's, close(). Of a heap, which has none: another descriptor of the dma-buf.
 * @ret_dmabuf: for devices, by UDMABUF_CREATE or DMA_HEAP_IOCTL_ALLOC; the caller's, close()
 *
 * It counts for the VM's limits until the VM closes. Its class is TDI_DMABUF_PINNED.
 *
 * Return: 0 or a negative errno; TDI_ERROR_NOT_SUPPORTED when the kernel has no udmabuf or no such heap, TDI_ERROR_LIMIT.
 */
int tdi_client_create_shared_buffer(struct tdi_client *client, const char *vm_id, uint64_t length, const char *heap, int *ret_memfd,
                                    int *ret_dmabuf);

/**
 * tdi_client_list_dmabufs() - the dma-bufs of all VMs that the caller may describe
 * @ret_json: {"schema": "tdid/1", "dmabufs": [{"vm", "vm_id", and what org.tdid1(5) says of Describe's "dmabufs"}]}; the caller's, free()
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_list_dmabufs(struct tdi_client *client, char **ret_json);

/* ---- the host's functions (root's) ---- */

/**
 * tdi_client_connect_device() - connect a DSM to a TSM, by its tsm/connect in sysfs; a job
 * @tsm: "tsm0", …; NULL or "": the only one
 *
 * Return: 0 or a negative errno; TDI_ERROR_NOT_SUPPORTED when there is no TSM, or the kernel does not take the function for a DSM,
 * TDI_ERROR_EXISTS when it is connected, TDI_ERROR_LIMIT when its host bridge has no IDE stream left.
 */
int tdi_client_connect_device(struct tdi_client *client, struct tdi_bdf bdf, const char *tsm);

/**
 * tdi_client_disconnect_device() - undo tdi_client_connect_device(); a job
 *
 * Return: 0 or a negative errno; TDI_ERROR_INVALID_STATE when it is no connected DSM, TDI_ERROR_IN_USE while a VM's function needs the connection.
 */
int tdi_client_disconnect_device(struct tdi_client *client, struct tdi_bdf bdf);

/**
 * tdi_client_restore_device() - try again to give back a quarantined function; a job
 * @force: also one that cannot be reset, or that does not answer
 *
 * One that has gone from the host is forgotten.
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_restore_device(struct tdi_client *client, struct tdi_bdf bdf, bool force);

/**
 * tdi_client_describe_device() - what only root, and the owner of the VM that has it, may know of a function
 * @ret_json: {"schema": "tdid/1", "device": {…}} as org.tdid1(5) says; the caller's, free()
 *
 * Return: 0 or a negative errno; TDI_ERROR_DENIED for others.
 */
int tdi_client_describe_device(struct tdi_client *client, struct tdi_bdf bdf, char **ret_json);

/**
 * tdi_client_evidence() - ask a device for what it says of itself, now
 * @nonce:    32 bytes as 64 hexadecimal digits in lower case, for the measurements' signature; NULL: one that tdid chooses
 * @verify:   what it proves is found out too, with the anchors and reference values of the policy
 * @ret_json: certificates, measurements and verdicts as docs/evidence.md says; the caller's, free()
 * @ret_raw:  a sealed memfd with the raw objects, whose places the JSON has; the caller's, close(); NULL: it is not wanted
 *
 * Takes as long as the device: seconds, a minute at most. A refusal by verification is no error, but a result.
 *
 * Return: 0 or a negative errno; TDI_ERROR_EVIDENCE: there is no way to any, the text tells which were tried.
 */
int tdi_client_evidence(struct tdi_client *client, struct tdi_bdf bdf, const char *nonce, bool verify, char **ret_json, int *ret_raw);

#define TDI_POLICY_DEVICE (UINT64_C(1) << 0)      /* @bdf is given; else it is about the VM alone */
#define TDI_POLICY_OWNER (UINT64_C(1) << 1)       /* @owner_uid is given; else the caller */
#define TDI_POLICY_ASSOCIATION (UINT64_C(1) << 2) /* the VMM wants KVM associated with the function */
#define TDI_POLICY_EVIDENCE (UINT64_C(1) << 3)    /* ask the device for what the policy wants to be proved, which takes as long as that */

/** struct tdi_policy_question - who might ask for what; zero it, set @size, then what is known: a string is given when not NULL */
struct tdi_policy_question {
        size_t size;          /* sizeof(struct tdi_policy_question) */
        uint64_t flags;       /* TDI_POLICY_… */
        struct tdi_bdf bdf;   /* the function, on the host */
        uint32_t owner_uid;   /* whose VM it is */
        const char *vm;       /* its name */
        const char *platform; /* this host's when NULL */
        const char *mode;     /* "early" or "late" */
        const char *access;   /* "vpci" or "handoff" */
        const char *ide;      /* "secure" or "insecure"; NULL: as the link is */
};

/**
 * tdi_client_explain_policy() - what the policy in force would decide, by which rule, what is missing, and by which facts
 * @ret_json: {"schema": "tdid/1", "policy": {…}} as org.tdid1(5) says; the caller's, free()
 *
 * Return: 0 or a negative errno; TDI_ERROR_DENIED: it is about another owner, or evidence is asked for, and the caller may not.
 */
int tdi_client_explain_policy(struct tdi_client *client, const struct tdi_policy_question *question, char **ret_json);

/**
 * tdi_client_archived_evidence() - the newest that tdid's archive has of a device, which is not asked
 *
 * As tdi_client_evidence(), judged for the nonce and the time of then.
 *
 * Return: 0 or a negative errno; TDI_ERROR_EVIDENCE: the archive has none.
 */
int tdi_client_archived_evidence(struct tdi_client *client, struct tdi_bdf bdf, bool verify, char **ret_json, int *ret_raw);

/* ---- looking and watching ---- */

/**
 * tdi_client_describe_host() - which platform this host is of, by what that is seen, and what its kernel lacks; for every user
 * @ret_json: {"schema": "tdid/1", "host": {…}} as org.tdid1(5) says; the caller's, free()
 *
 * Return: 0 or a negative errno; TDI_ERROR_TIMEOUT when what it takes could not be read yet, TDI_ERROR_NOT_SUPPORTED of an older tdid.
 */
int tdi_client_describe_host(struct tdi_client *client, char **ret_json);

/**
 * tdi_client_check() - what this host can do, as tdid's worker sees it; for every user, without the details for all but root
 * @ret_json: {"schema": "tdid/1", "check": {…}} as org.tdid1(5) says; the caller's, free()
 *
 * A tdid that does not run is not started for it.
 *
 * Return: 0 or a negative errno; -EHOSTUNREACH when tdid does not run, TDI_ERROR_TIMEOUT when looking takes too long, TDI_ERROR_NOT_SUPPORTED of an
 * older tdid.
 */
int tdi_client_check(struct tdi_client *client, char **ret_json);

/**
 * tdi_client_snapshot() - all that any user may know, as JSON
 * @ret_json: one object {"schema": "tdid/1", "tdid": {…}, "devices": […], "vms": […], "tsms": […], "jobs": […]},
 *            its keys are those of `tdictl --json status`, see tdictl(1); the caller's, free()
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_snapshot(struct tdi_client *client, char **ret_json);

/** enum tdi_event_kind - what happened */
enum tdi_event_kind {
        TDI_EVENT_ADDED = 0,   /* @value: the whole object as JSON */
        TDI_EVENT_REMOVED = 1, /* no key, no value */
        TDI_EVENT_CHANGED = 2, /* @key got @value */
        TDI_EVENT_NOTICE = 3,  /* @key: "closing" (VM) or "failed" (TDI), @value: why; "revoked" or "restored" (TDI), @value: id of the
                                * dma-buf; "finished" (job), @value: {"error", "text"}; "iommu_event" (VM), @value: {"bdf", "event", "text"} */
        TDI_EVENT_DAEMON = 4,  /* tdid left the bus or came (back); @key "running", @value "true" or "false" */
};

/** struct tdi_event - one event; the strings are the library's, valid inside the callback */
struct tdi_event {
        enum tdi_event_kind kind;
        const char *type;  /* "device", "vm", "tdi", "tsm", "job", "tdid" */
        const char *id;    /* BDF of a device or TDI, id of a VM or job, name of a TSM, "" of tdid */
        const char *key;   /* as in the snapshot, but VMs are named by id ("vm_id") and TDIs by BDF; NULL where none */
        const char *value; /* JSON text; NULL where none, or where tdid said that the value changed but not to what */
};

/** typedef tdi_event_callback - return 0 to go on, anything else ends tdi_client_run() */
typedef int (*tdi_event_callback)(const struct tdi_event *event, void *userdata);

/**
 * tdi_client_subscribe() - have a callback called for events
 * @callback: NULL ends the subscription
 *
 * Events are delivered inside tdi_client_process(), tdi_client_run() and every function that waits for a job. A subscribed client
 * has to be processed, else the bus drops it in the end. Subscribe first, then take a snapshot: nothing is missed.
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_subscribe(struct tdi_client *client, tdi_event_callback callback, void *userdata);

/**
 * tdi_client_get_fd() - the descriptor to poll in a loop of one's own
 *
 * Return: the descriptor, the client's (do not read, write or close it), or a negative errno.
 */
int tdi_client_get_fd(struct tdi_client *client);

/**
 * tdi_client_get_poll() - what to poll for, read again before every poll
 * @ret_events: may be NULL; POLLIN, POLLOUT
 * @ret_until_usec: may be NULL; CLOCK_MONOTONIC time at which to call tdi_client_process() even without events,
 *                  UINT64_MAX: none
 *
 * Return: 0 or a negative errno.
 */
int tdi_client_get_poll(struct tdi_client *client, short *ret_events, uint64_t *ret_until_usec);

/**
 * tdi_client_process() - handle all that has arrived, without waiting
 *
 * Call it once after starting jobs or subscribing, and then whenever poll() says that there is something.
 *
 * Return: 1 when a callback asked to stop, else 0, or a negative errno (-ECONNRESET when the bus is gone).
 */
int tdi_client_process(struct tdi_client *client);

/**
 * tdi_client_run() - process and wait until a callback asks to stop
 *
 * Return: 0, -EINTR when the wake descriptor became readable, or a negative errno.
 */
int tdi_client_run(struct tdi_client *client);

#ifdef __cplusplus
}
#endif

#endif
