/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The core of the simulated kernel: calls, files, sleeping, the tree of sysfs and device nodes, faults. It knows nothing of PCI.
 *
 * One lock (the big lock) is held whenever code of the model runs: every function here and in the rooms above is called
 * with it held, so none of them needs another to protect data. What sleeps in the kernel sleeps here by one of the sim_…
 * calls marked "sleeps", which give the lock up meanwhile: look at shared data again afterwards. Each call runs on a thread of its own.
 */
#ifndef TDI_SIM_KERNEL_H
#define TDI_SIM_KERNEL_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/util.h"

struct json_object;
struct sim_machine; /* the model's own root, pci.h */

/* The whole kernel. Its insides are kernel.c's. */
struct sim;

/* One system call being served, as `current` is in the kernel; also made for work that nobody called for (a hang-up's release, an unplug). */
struct sim_call {
        struct sim *sim;
        pid_t pid; /* of the caller when the call was made; 0 for the simulation's own */
        uid_t uid;
        bool gone; /* the caller has died: what sleeps interruptibly ends with -EINTR */
        void *server; /* the server's own record of it; NULL for the simulation's own */
};

struct sim_machine *sim_machine(struct sim *sim);
void sim_set_machine(struct sim *sim, struct sim_machine *machine);

/* ---- sleeping ---- */

/* A sleeping lock of the modelled kernel (a mutex, an rwsem), not of the simulation. Waiters are served first come, first served. */
struct sim_waiter; /* kernel.c */
struct sim_rwsem {
        unsigned readers, waiting_writers;
        bool writer;
        struct sim_waiter *first, *last; /* all zeroes, or sim_rwsem_init() */
};
void sim_rwsem_init(struct sim_rwsem *l);
void sim_rwsem_done(struct sim_rwsem *l);
void sim_down_read(struct sim_call *c, struct sim_rwsem *l);                /* sleeps */
int sim_down_read_interruptible(struct sim_call *c, struct sim_rwsem *l);   /* sleeps; -EINTR */
void sim_up_read(struct sim_call *c, struct sim_rwsem *l);
void sim_down_write(struct sim_call *c, struct sim_rwsem *l);               /* sleeps */
int sim_down_write_interruptible(struct sim_call *c, struct sim_rwsem *l);  /* sleeps; -EINTR */
bool sim_try_down_write(struct sim_call *c, struct sim_rwsem *l);
void sim_up_write(struct sim_call *c, struct sim_rwsem *l);

/* A condition to wait for, woken by sim_wake(). Wait in a loop that looks at the condition. */
struct sim_wait {
        pthread_cond_t cond;
};
void sim_wait_init(struct sim_wait *w);
void sim_wait_done(struct sim_wait *w);
void sim_wait(struct sim_call *c, struct sim_wait *w);                                      /* sleeps */
int sim_wait_timeout(struct sim_call *c, struct sim_wait *w, uint64_t milliseconds);        /* sleeps; -ETIMEDOUT */
void sim_wake(struct sim_wait *w);
void sim_sleep(struct sim_call *c, uint64_t milliseconds); /* sleeps, and not even the caller's death ends it */
/* Runs func(data) without the big lock: for what blocks in the real kernel. It must end by itself, and touch nothing of the model. Sleeps. */
void sim_outside(struct sim_call *c, void (*func)(void *data), void *data);

/* Runs func(call, data) on a thread of its own with a call of its own, the big lock held: a delayed event, DMA that takes time. 0 or -ENOMEM/-EAGAIN. */
int sim_run(struct sim *sim, void (*func)(struct sim_call *c, void *data), void *data);

/* ---- faults ---- */

/*
 * A place inside the kernel at which a test may have something go wrong, besides the calls themselves (which the server asks for):
 * "reset", "driver.probe", "driver.remove", "tsm.connect", … of a device. 0 to go on, or the negative errno to fail with;
 * sleeps as long as the rule says, for ever for "never".
 */
int sim_fault(struct sim_call *c, const char *point, const char *device);

/* A line of the trace that is no call: something happened to a device inside the kernel, "tsm.bind", with this result. */
void sim_trace(struct sim_call *c, const char *what, const char *device, int r);

/* ---- files ---- */

struct sim_file;
struct sim_ioctl; /* marshal.h */

struct sim_file_ops {
        const char *kind; /* "vfio", "iommufd", "attribute", …: in the list of what is open */
        ssize_t (*pread)(struct sim_call *c, struct sim_file *f, void *buf, size_t size, uint64_t offset);
        ssize_t (*pwrite)(struct sim_call *c, struct sim_file *f, const void *buf, size_t size, uint64_t offset);
        int (*ioctl)(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io);
        void (*release)(struct sim_call *c, struct sim_file *f); /* the last reference has gone; may sleep */
};

/*
 * An open file. References: one for all copies of its socket together, one for each call that is running on it, and those of
 * the model (sim_file_get()). release() runs when the last has gone.
 */
struct sim_file {
        const struct sim_file_ops *ops;
        struct sim *sim;
        void *data;         /* the model's */
        int flags;          /* of open(2) */
        char name[256];     /* what /proc/PID/fd shows: "/dev/vfio/devices/vfio0", "anon_inode:kvm-vm" */
        char device[16];    /* BDF for fault rules and lists, "" for none */
        pid_t opener;
        unsigned refs;
        void *server;       /* the server's own */
};

/* A new file with no socket yet: for what a call returns (ioctl's new descriptors) or open() makes. One reference, the caller's. NULL: no memory. */
struct sim_file *sim_file_new(struct sim_call *c, const struct sim_file_ops *ops, void *data, int flags, const char *name, const char *device);
/* Makes every copy of it poll readable, until it is read (host_read()). */
void sim_file_signal(struct sim_file *f);
struct sim_file *sim_file_get(struct sim_file *f);
struct sim_file *sim_file_put(struct sim_call *c, struct sim_file *f); /* NULL; runs release() for the last: may sleep */

/* ---- the tree: sysfs, device nodes, a few files of /proc ---- */

struct sim_node;

struct sim_node_ops {
        /* Text attribute: the whole text, at most size bytes; its length or a negative errno. The server cuts out what was asked for. */
        ssize_t (*show)(struct sim_call *c, struct sim_node *n, char *buf, size_t size);
        /* What was written, terminated, trailing newline still there: len, or a negative errno. */
        ssize_t (*store)(struct sim_call *c, struct sim_node *n, const char *text, size_t len);
        /* Binary attribute ("config"). */
        ssize_t (*pread)(struct sim_call *c, struct sim_node *n, void *buf, size_t size, uint64_t offset);
        ssize_t (*pwrite)(struct sim_call *c, struct sim_node *n, const void *buf, size_t size, uint64_t offset);
        /* Device node: sets f->ops and f->data; f->name is the path already. */
        int (*open)(struct sim_call *c, struct sim_node *n, struct sim_file *f);
};

struct sim_node {
        char *name;
        struct sim_node *parent;
        enum { SIM_DIR, SIM_FILE, SIM_LINK, SIM_DEVICE_NODE } type;
        mode_t mode;                 /* permission bits: a write-only attribute refuses to be read */
        const struct sim_node_ops *ops;
        void *data;                  /* the model's, handed down: a node of a device has the device here */
        const char *device;          /* BDF for fault rules; borrowed, NULL: as the parent's */
        char *target;                /* of a link, as readlink(2) gives it */
        struct sim_node **children;  /* sorted by name */
        size_t n_children, room;
        unsigned active;             /* calls in show, store, pread, pwrite: kernfs' active references */
        unsigned refs;               /* open files; the memory goes with the last */
        bool dead;                   /* removed: every call is -ENODEV */
        bool drained;                /* and nobody is inside any more */
};

/* The child, made if it is not there. Out of memory ends the simulation, here and below: it has nothing to say then. */
struct sim_node *sim_dir(struct sim_node *parent, const char *name);
/* sim_dir() of every component: "sys/bus/pci/devices". */
struct sim_node *sim_dirs(struct sim *sim, const char *path);
struct sim_node *sim_file_node(struct sim_node *parent, const char *name, mode_t mode, const struct sim_node_ops *ops, void *data);
/* A read-only attribute of constant text, copied; a newline is added. */
struct sim_node *sim_text(struct sim_node *parent, const char *name, const char *format, ...) _printf_(3, 4);
struct sim_node *sim_device_node(struct sim_node *parent, const char *name, const struct sim_node_ops *ops, void *data);
/* A link with the relative target that sysfs would show. */
struct sim_node *sim_link(struct sim_node *parent, const char *name, struct sim_node *target);
struct sim_node *sim_link_text(struct sim_node *parent, const char *name, const char *target);
struct sim_node *sim_child(struct sim_node *parent, const char *name); /* NULL */
/* A node by absolute path; the last component's link is followed when asked. NULL with *ret_error -ENOENT, -ENOTDIR, -ELOOP. */
struct sim_node *sim_lookup(struct sim *sim, const char *path, bool follow, int *ret_error);
/*
 * Takes a node and all below it out of the tree, then sleeps until no call is in any of it, as kernfs_remove() does. self: a
 * node whose own store() is the caller (sysfs_remove_file_self), which is not waited for; or NULL.
 */
void sim_remove(struct sim_call *c, struct sim_node *n, struct sim_node *self);

/* Tells the listeners: devpath is the node's path below /sys. */
void sim_uevent(struct sim *sim, const char *action, const char *subsystem, struct sim_node *device);

/* For the log on stderr, one line, as dmesg has it. */
void sim_log(struct sim *sim, const char *format, ...) _printf_(2, 3);

#endif
