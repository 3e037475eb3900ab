/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the policy says of functions, VMs and owners here: the facts that it is asked with, the evidence that it wants to be collected first, and
 * what comes of a decision. The rules themselves are policy/'s.
 *
 * A policy that cannot be read lets nobody have anything, root included, until it is mended and read again; what VMs have they keep.
 */
#ifndef TDID_ADMISSION_H
#define TDID_ADMISSION_H

#include "manager.h"
#include "policy/policy.h"

/* Reads the policy folders. Where they cannot be taken the policy that was stays; *ret_text, the caller's, says what is wrong: FILE:LINE:COLUMN. */
int admission_load(Manager *m, char **ret_text);
/* The same at start, when there is none before: then nothing is admitted. */
void admission_begin(Manager *m);
void admission_free(Manager *m);

/**
 * admission_check() - may these functions be attached to the VM?
 * @method: run again from its start when evidence has been collected for the same call
 * @unconnected: of each, that its DSM is not to be connected
 * @caller: root and who runs tdid the default admits
 *
 * Return: 1; 0: evidence is being collected, and the method runs again; negative with @e.
 */
int admission_check(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, VM *vm, Device *const *devices, const bool *unconnected, size_t n,
                    uid_t caller, sd_bus_error *e);
/* What the decision asks for beyond admission, and what it rests on, for the custody of a function that was admitted for this call. That it was is audited. */
void admission_apply(Manager *m, sd_bus_message *call, const VM *vm, Device *d, uid_t caller, Custody *c);

/* May the function's descriptors be handed to the VM's owner? 0; negative with @e. */
int admission_check_handoff(const TDI *t, uid_t caller, sd_bus_error *e);

/* The smaller of a limit of the configuration and what the policy has for this owner and VM, which may be one that is to be created. */
uint64_t admission_limit(Manager *m, const char *vm, const char *platform, uid_t owner, enum policy_limit which, uint64_t configured);

/* The descriptors that tdid and the VM's holder keep: what counts for the limit "fds". tdid-policy(5) has the same numbers. */
#define ADMISSION_FDS_VM 2       /* its iommufd and its KVM VM */
#define ADMISSION_FDS_KEEPER 1   /* a lease, a process */
#define ADMISSION_FDS_FUNCTION 3 /* the device, its vPCI socket, the connection to that */
#define ADMISSION_FDS_EXPORT 2   /* a dma-buf and its event; a buffer's memory and dma-buf */

/* Would an owner have more descriptors kept than the policy lets it, with @more? Then the buffer has the refusal's text. The VM may be one that is to be created. */
bool admission_passes_fds(Manager *m, const char *vm, const char *platform, uid_t owner, uint64_t more, char *buf, size_t size);

/* [{"anchor", "references"}]: all that any rule wants. The caller's. */
struct json_object *admission_all_evidence(Manager *m);
/* "" when the policy would admit the function as it is now; else why not, in the buffer. Nothing is taken from anybody for that. */
const char *admission_drift(const TDI *t, char *buf, size_t size);
/** struct admission_question - what might be asked for; all borrowed */
struct admission_question {
        Device *device;       /* NULL: about the VM alone */
        const char *vm;       /* name; NULL: not known */
        const char *platform; /* NULL: this host's */
        uid_t owner;
        enum policy_mode mode;
        enum policy_access access;
        enum policy_answer ide; /* UNKNOWN: as the link is */
        bool association;
        bool evidence;        /* ask the device for what the policy wants to be proved */
};
/*
 * What policy_explain() has to say, and "facts", what it was judged by. The caller's. Return: 1; 0: the device is being asked, and the method runs
 * again; negative with @e.
 */
int admission_explain(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, const struct admission_question *q, uid_t caller, struct json_object **ret,
                      sd_bus_error *e);

/* What the policy is, for DescribeHost(). */
struct json_object *admission_describe(Manager *m);

#endif
