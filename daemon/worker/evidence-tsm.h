/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a TSM gives of a device that is bound with it: by a socket for requests, which the VM's holder serves, and as the guest's own request brought it. */
#ifndef TDID_WORKER_EVIDENCE_TSM_H
#define TDID_WORKER_EVIDENCE_TSM_H

#include "evidence/evidence.h"
#include "worker/work.h"

/*
 * args: "tsm": of evidence-tsm.c of tdid; a descriptor: the socket, where there is one. Puts what it gets of @types into @e, with its source and time; what was
 * tried, and what came of it, is at @reason (static) and @text. Waits for the TSM, "timeout_usec" at most.
 *
 * Return: how many objects; 0: none; -ENOMEM.
 */
int evidence_tsm_collect(struct work *w, unsigned types, struct evidence *e, const char **reason, char *text, size_t text_size);

/* The objects without a source are of this one, and of that time. */
void evidence_mark(struct evidence *e, const char *source, uint64_t time_usec);

#endif
