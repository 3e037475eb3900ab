# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input") on operations: pieces of a failing sequence
# are left out as long as what is left fails, no matter with which words. What fails only now and then is tried some times.

import time


def shrink(play, ops, seconds, tries=2):
    """play(ops) gives None or (what was wrong, after which operation). Returns the shortest sequence found and what is wrong with it, or
    the sequence as it was and None when it does not fail again."""
    until = time.monotonic() + seconds

    def fails(some, times=tries):
        for _ in range(times):
            found = play([*some, ["settle", 1], ["end"]])
            if found:
                return found
            if time.monotonic() >= until:
                return None
        return None

    found = fails(ops, 3 * tries)
    if not found:
        return ops, None
    ops, pieces = ops[:found[1] + 1], 2
    while len(ops) > 1 and time.monotonic() < until:
        size = -(-len(ops) // pieces)
        for begin in range(0, len(ops), size):
            left = ops[:begin] + ops[begin + size:]
            again = left and fails(left)
            if again:
                found, ops, pieces = again, left[:again[1] + 1], max(pieces - 1, 2)
                break
            if time.monotonic() >= until:
                break
        else:
            if size == 1:
                break
            pieces = min(2 * pieces, len(ops))
    return ops, found[0]
