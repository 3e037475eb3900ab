/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker is told and what it answers. A command is one operation with only the descriptors that it needs, or a few
 * that need none and run one after the other. A worker may sleep in the kernel for ever: nobody waits for it but its function.
 *
 * An operation has three verbs. `do` and `undo` are idempotent: each first looks at the kernel, so that running one again after
 * a crash finishes what was begun. `probe` changes nothing and answers 1 (done) or 0 (not done).
 */
#ifndef TDID_WORKER_WORK_H
#define TDID_WORKER_WORK_H

#include "host/host.h"
#include "ipc.h"
#include "provider.h"

#define WORK_SYSFS_PCI "/sys/bus/pci/devices/"

struct work {
        TdiHost *host;
        struct json_object *args; /* what tdid knows of the function: "bdf" and the values of earlier operations */
        struct json_object *values; /* out: merged by tdid into the function's journal */
        struct ipc_fds fds;         /* in: descriptors of this operation, the worker's own until it ends */
        int lock;                   /* the function's lock file, -EBADF for who works on none */
        struct ipc_fds out;         /* out: opened here, kept open until the next command acknowledges them */
        /* What was bound or made, and is undone where tdid has died before it took the answer: with that nobody would know its number. */
        struct {
                const struct provider *provider; /* NULL: nothing */
                int fd;                          /* its own then */
                uint32_t vdevice;
        } unsaid;
        const char *bdf;
        char text[768];             /* out: what went wrong, for a person */
};

typedef int (*work_func)(struct work *w);

struct work_op {
        const char *name;
        work_func do_, undo, probe;
};

/* Workers have lists of what they may call: not those that are traced, which write files. */
bool work_is_confined(void);

/* Writes "tried on what: errno; what to do" and returns r. */
int work_fail(struct work *w, int r, const char *hint, const char *format, ...) _printf_(4, 5);

/* /sys/bus/pci/devices/BDF/attribute */
const char *work_path(struct work *w, char *buf, size_t size, const char *attribute);

/* Digits, two for a byte. -EBADMSG: they are none, or too many. */
int work_decode_hex(const char *text, uint8_t *buf, size_t room, size_t *ret_size);

int claim_note_do(struct work *w);
int claim_pm_do(struct work *w);
int claim_pm_undo(struct work *w);
int claim_pm_probe(struct work *w);
int claim_override_do(struct work *w);
int claim_override_undo(struct work *w);
int claim_override_probe(struct work *w);
int claim_rebind_do(struct work *w);
int claim_rebind_undo(struct work *w);
int claim_rebind_probe(struct work *w);

int guard_look_do(struct work *w);
int guard_sweep_do(struct work *w);
int guard_on_do(struct work *w);
int guard_on_undo(struct work *w);
int guard_on_probe(struct work *w);
/* After the open of a guarded function's VFIO node, while that is open here. */
int guard_take_device(struct work *w);
/* Between the two calls this thread may open for writing what is guarded: config space, where a mailbox in it has to be talked to. */
void guard_let_write(struct work *w, bool yes);

int open_cdev_do(struct work *w);
int open_cdev_undo(struct work *w);
int open_associate_do(struct work *w);
int open_associate_undo(struct work *w);
int open_bind_do(struct work *w);
int open_bind_probe(struct work *w);

int connect_note_do(struct work *w);
int connect_tsm_do(struct work *w);
int connect_tsm_undo(struct work *w);
int connect_tsm_probe(struct work *w);

/* An object of an iommufd; one that is not there is no error, nor is 0. */
int work_destroy(struct work *w, int iommufd, uint32_t id);
int prepare_viommu_do(struct work *w);
int prepare_vdevice_do(struct work *w);
int prepare_vdevice_undo(struct work *w);
/* The function's page table: of the values "nest" or "ioas"; and none. Of one that is not attached, or not bound to an iommufd, no error. */
int work_attach(struct work *w, int device);
int work_detach(struct work *w, int device);
int prepare_attach_do(struct work *w);
int prepare_attach_undo(struct work *w);
int prepare_socket_do(struct work *w);
int prepare_socket_undo(struct work *w);
int prepare_socket_probe(struct work *w);

int bind_connect_do(struct work *w);
int bind_connect_undo(struct work *w);
int bind_tsm_do(struct work *w);
int bind_tsm_undo(struct work *w);
int bind_tsm_probe(struct work *w);
/* Takes a binding, and has it until it is unbound. */
void bind_keep(struct work *w, int fd);
/* Nobody is there any more to say what shall become of it: returns when it is unbound. */
void bind_let_go(TdiHost *host);

int export_dmabuf_do(struct work *w);
int export_look_do(struct work *w);
int export_ring_do(struct work *w);
int buffer_create_do(struct work *w);

int vm_unmap_do(struct work *w);
int vm_take_do(struct work *w);
int vm_close_do(struct work *w);

int peer_open_do(struct work *w);
int peer_kvm_do(struct work *w);

int check_use_do(struct work *w);
int read_pci_do(struct work *w);
int read_tsm_do(struct work *w);
int read_ide_do(struct work *w);
int read_host_do(struct work *w);
int check_host_do(struct work *w);
int check_report_do(struct work *w);
int read_evidence_do(struct work *w);
int read_archived_do(struct work *w);

/* The descriptors by which the host reaches its kernel: writes their numbers, returns how many. */
#define WORK_OWN_MAX 63
size_t work_hosts_own(int ret[static WORK_OWN_MAX]);

/* A kept copy of a descriptor that only its last owner may close: see open.c. */
int take_do(struct work *w);

#endif
