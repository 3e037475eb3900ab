/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What devices prove for one call: the call waits while they are asked, and is run again from its start when all have answered. What it gets then
 * is of the devices that are there then, and of the pairs that the policy wants then; anything else is asked for anew.
 */
#ifndef TDID_PROOFS_H
#define TDID_PROOFS_H

#include "manager.h"
#include "policy/policy.h"

/**
 * proofs_collect() - see to it that everything is there that the policy wants to be proved
 * @method:  run again when it is
 * @devices: @n of them, with the facts about each as the policy will be asked with them, without proofs
 * @caller:  who waits; few may wait at once
 *
 * Return: 1, all is there, for proofs_of(); 0, the method runs again, or has already (proofs_wait()); negative with @e.
 */
int proofs_collect(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, Device *const *devices, const struct policy_facts *facts, size_t n,
                   uid_t caller, sd_bus_error *e);
/* What the device has proved for the call: borrowed from what proofs_forget() frees. 0: it was not asked for anything. */
size_t proofs_of(Manager *m, sd_bus_message *call, const Device *d, struct policy_proof ret[static POLICY_PAIRS_MAX]);
/* Devices are, or have been, asked for the call: it has been authorised, and runs again. */
bool proofs_wait(Manager *m, sd_bus_message *call);
/* The call that it was for has begun, or ends. */
void proofs_forget(Manager *m, sd_bus_message *call);
void proofs_end(Manager *m);

/* [{"anchor", "references"}], for evidence_ask(). The caller's. */
struct json_object *proofs_wanted(const struct policy_wanted *wanted, size_t n);

/* The call has been answered with this job, whose failure is what refuses the call from now on. */
void proofs_set_job(Manager *m, sd_bus_message *call, Job *j);
/* NULL: it has none. */
Job *proofs_job(Manager *m, sd_bus_message *call);
/* Nobody waits for the job any more. */
void proofs_forget_job(Job *j);

#endif
