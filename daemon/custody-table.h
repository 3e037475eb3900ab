/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The custody table: what tdid does to a function, in order, and takes back in the opposite order. Every row is a sub-action
 * that the journal knows by name; the worker of the same name does, undoes and probes it.
 */
#ifndef TDID_CUSTODY_TABLE_H
#define TDID_CUSTODY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <tdi/enums.h>

enum custody_action {
        ACTION_CLAIM_CHECK,   /* the host does not use the function */
        ACTION_CLAIM_NOTE,    /* driver, override and runtime PM as they are */
        ACTION_CLAIM_PM,      /* runtime PM held on: the TSM core takes no reference of its own */
        ACTION_CLAIM_OVERRIDE,
        ACTION_CLAIM_REBIND,
        ACTION_GUARD_ON,
        ACTION_OPEN_CDEV,
        ACTION_OPEN_ASSOCIATE, /* KVM learns of it by its VMM, where that is wanted: not any more once it is bound */
        ACTION_OPEN_BIND,     /* resets the function, so it comes before the TSM connects */
        ACTION_CONNECT_NOTE,  /* is the DSM connected already? */
        ACTION_CONNECT_TSM,
        ACTION_PREPARE_VIOMMU,  /* the I/O address space; the nest parent and the secure vIOMMU over it, where the platform wants them */
        ACTION_PREPARE_VDEVICE, /* the secure world's view of the function; nothing is attached before */
        ACTION_PREPARE_ATTACH,
        ACTION_PREPARE_WITHDRAW, /* nothing to do; undone, the virtual device is gone, and the journal knows it before the function is detached */
        ACTION_PREPARE_SOCKET, /* undone before what it serves: no client reaches the device while it is being unwound */
        ACTION_BIND_CONNECT,   /* its DSM, where the connection was lost since; undone it stays, as that of connect.tsm */
        ACTION_BIND_LOCK,      /* its client changes nothing more that the TSM locks; undone after the unbind */
        ACTION_BIND_TSM,
        ACTION_BIND_REQUESTS,  /* the guest's requests go to the TSM; undone before the unbind, which would wait for one */
        ACTION_MAX,
        ACTION_NONE = -1
};

enum custody_runs {
        RUNS_WORKER,  /* a worker's operation */
        RUNS_LOCAL,   /* nothing to ask the kernel for */
        RUNS_HOLDER,  /* a request to the VM's holder */
};

struct custody_row {
        const char *name;
        enum tdi_custody step;
        enum custody_runs do_, undo;
        unsigned fds;      /* how many of {cdev, iommufd} the worker gets for do; of {cdev, KVM VM} for bind.tsm; open.associate: association.h */
        unsigned fds_undo; /* the same; of {binding, cdev} for bind.tsm */
        bool joins;        /* one command with the row before it, without values or descriptors of its own making */
        size_t deadline;   /* offset of the deadline in struct config */
        size_t deadline_undo;
};

extern const struct custody_row custody_table[ACTION_MAX];

/* What every function of a VM has; what comes after is done when the guest or the VM's owner asks for it, and undone alone. */
#define CUSTODY_PREPARED ((1u << ACTION_BIND_CONNECT) - 1)

enum custody_action custody_action_from_name(const char *name);

#endif
