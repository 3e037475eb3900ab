/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of VMs, which `vm create` and `run` share, and one VM as a model. */
#ifndef TDICTL_VM_H
#define TDICTL_VM_H

#include <json-c/json.h>

#include "tdictl.h"

/* Of the command line, whose texts are borrowed. */
struct tdi_vm_options vm_options(const struct arguments *a);

/* {"vms": [that VM]}; ret_vm is borrowed from the model. */
int model_of_vm(struct tdictl *t, const char *id, json_object **ret, json_object **ret_vm);

#endif
