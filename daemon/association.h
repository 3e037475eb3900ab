/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Association of a VM's functions with its KVM VM (virt/kvm/vfio.c), and what follows where there is none: functions whose DMA may pass the
 * caches by are refused then (worker/iommu.c).
 *
 * The kernel takes it from the VMM only, which answers on a channel (libtdi's tdi_association_serve()). The VM has one kvm-vfio device for
 * all of its functions; the VM's holder has it, and nobody else. While it is there it holds every node that it was given: so it is closed, or
 * told to let a node go, before the last close of that node. What VFIO has taken over from it at the bind stays until then.
 */
#ifndef TDID_ASSOCIATION_H
#define TDID_ASSOCIATION_H

#include "vm.h"

typedef void (*association_ready)(int r, int channel, void *userdata);

/* A channel: @ready gets the VMM's end, which it owns. -EISCONN: there is one, and somebody at its other end. */
int association_open(VM *vm, association_ready ready, void *userdata);
/* It is shut, for a worker too that waits for an answer: no question is asked any more before there is another. */
void association_hang_up(VM *vm);
bool association_is_open(const VM *vm);

/* Is the function to be associated? */
bool association_wants(const Custody *c);
/* The VM's kvm-vfio device has its node, or may have. */
bool custody_is_associated(const Custody *c);
/* Another function is at it: the VM has one channel, and one kvm-vfio device. */
bool association_is_busy(const Custody *c);
/* Other functions of the VM need the kvm-vfio device when this one goes. */
bool association_is_shared(const Custody *c);
/* The same of functions of other IOMMU groups; these go together. */
bool association_is_shared_beyond_group(const Custody *c);
/* One of them is not bound yet: until then the association is of no effect, and would be lost. */
bool association_is_needed(const Custody *c);

/* {cdev, channel, and the kvm-vfio device if there is one} for open.associate; returns how many. */
size_t association_fds(const Custody *c, int ret[static 3]);
/* The kvm-vfio device is closed, or about to be. What others lose by that is said; where it is too much for one, that fails. */
void association_lost(VM *vm, const Custody *c);
/* The KVM VM goes: so does the device, which would hold it. */
void association_end(VM *vm);

/* A descriptor from the holder, taken: true when the key is one of ours. */
bool association_adopt(VM *vm, const char *key, int fd);
/* After a restart: NULL, or what is wrong with a function that has been taken up again. */
const char *association_resumed(Custody *c);

/* For Describe(): "kvm_association" of the VM; "kvm_association" and "coherent" of a function. */
void association_describe(const VM *vm, struct json_object *o);
void association_describe_tdi(const TDI *t, struct json_object *o);

#endif
