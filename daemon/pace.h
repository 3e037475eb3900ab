/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How fast tdid may start again and again. The service manager always starts it once more, at once: VMs are held, and nobody else watches what
 * keeps them. So it is tdid itself that does not take a processor for ever when each of its starts ends badly.
 *
 * Each start costs PACE_USEC of a budget of PACE_BURST_USEC, which time gives back: a hundred in a row come at once, and from
 * there on one every three seconds. A start that ends well gives all of it back.
 */
#ifndef TDID_PACE_H
#define TDID_PACE_H

#include <stdint.h>

#define PACE_USEC (3 * UINT64_C(1000000))
#define PACE_BURST_USEC (100 * PACE_USEC)

/*
 * The rule by itself. @spent_until: what the last start has left behind, 0 for none; @now: of a clock that goes on while the host sleeps. Returns
 * how long this start waits, and what it leaves.
 */
uint64_t pace_next(uint64_t spent_until, uint64_t now, uint64_t *ret_spent_until);

/*
 * A start, on a state folder that is locked: returns how many µs it has to wait, 0 to PACE_USEC, or a negative errno when that could not be
 * written down, which is no reason not to start.
 */
int64_t pace_begin(const char *state);
/* It has ended well. */
void pace_end(const char *state);

#endif
