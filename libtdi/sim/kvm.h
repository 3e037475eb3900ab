/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* References on a VM, for VFIO: struct kvm's users_count. */
#ifndef TDI_SIM_KVM_H
#define TDI_SIM_KVM_H

#include "sim/kernel.h"

struct kvm;
struct kvm *kvm_get(struct kvm *kvm);
void kvm_put(struct sim_call *c, struct kvm *kvm);
/* Of a file that is a VM; NULL. No reference. */
struct kvm *sim_kvm_of(const struct sim_file *f);

#endif
