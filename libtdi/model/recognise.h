/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this host is, and by what that is seen: TSMs first, then what KVM makes and the kernel was told. Pure: what was read comes in
 * (check/facts.h reads it), and nothing is decided by it.
 */
#ifndef TDI_MODEL_RECOGNISE_H
#define TDI_MODEL_RECOGNISE_H

#include "model/json.h"
#include "model/platform.h"

struct recognise_tsm {
        const char *name;   /* "tsm0" */
        const char *parent; /* name of the device that registered it */
        const char *driver; /* of that device, "" or NULL for none */
};

/*
 * @facts are those of facts_read(). What speaks for the row is added to @by, what does not fit to @doubts: arrays of texts, of the caller.
 */
const struct platform *recognise_host(const struct recognise_tsm *tsms, size_t n_tsms, struct json_object *facts, struct json_object *by,
                                      struct json_object *doubts);

/* The parameters that rows want to know: the arguments of facts_read(); the caller's. */
struct json_object *recognise_arguments(void);

/* What a row's parameter reads, NULL when it cannot be read. */
const char *recognise_parameter(const struct platform *p, struct json_object *facts);
bool recognise_has_vm_type(const struct platform *p, struct json_object *facts);

/* The last value of a parameter of the kernel's command line; false where it is not there, or has none. */
bool kernel_parameter(const char *cmdline, const char *name, char *buf, size_t size);

#endif
