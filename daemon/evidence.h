/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Evidence of the host's devices: who may be asked for it now, and the worker that asks. One question at a time per device; what it waits for is
 * bounded, and a device that does not answer holds up nobody but who wants to know.
 */
#ifndef TDID_EVIDENCE_H
#define TDID_EVIDENCE_H

#include "manager.h"

struct evidence_answer {
        const char *source;          /* "kernel", "tsm", "doe" */
        uint64_t time_usec;          /* CLOCK_REALTIME */
        struct json_object *proofs;  /* of the pairs that were asked for, as worker/evidence.c has them */
        int raw, text;               /* sealed memfds: the objects, and the whole result as JSON; of the callback to take */
};

/* @r < 0: there is none, and why; @answer is NULL then. Runs once, unless it is cancelled. */
typedef void (*evidence_done)(int r, const char *text, struct evidence_answer *answer, void *userdata);

/**
 * evidence_ask() - ask for a function's evidence
 * @d:      the function; its DSM speaks for it where it has one
 * @verify: [{"anchor", "references"}], files of the policy to verify against; NULL: none
 * @nonce:  in hexadecimal; NULL: a random one
 *
 * Return: 0 with what evidence_cancel() takes; -EBUSY: the device is being asked, or connected; -EAGAIN: too many workers.
 */
int evidence_ask(Manager *m, Device *d, struct json_object *verify, const char *nonce, evidence_done done, void *userdata, Evidence **ret);
/* The same with the newest that the archive has of it, which -ENODATA says of that there is none: the device is not asked. */
int evidence_look_up(Manager *m, Device *d, struct json_object *verify, evidence_done done, void *userdata, Evidence **ret);
/* The callback does not run any more; the device may go on for a while. NULL is none. Returns NULL. */
Evidence *evidence_cancel(Evidence *x);

/* Who speaks for a function: its DSM, the physical function of a virtual one, itself. */
Device *evidence_speaker(Device *d);
/* Is the device's mailbox in use, so that nothing may be connected by way of it? */
bool evidence_is_asking(const Manager *m, const char *bdf);
void evidence_end(Manager *m);

#endif
