# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Assertions, and waiting without a clock in the verdict: eventually() is generous, its limit only ends a hang.

import time


class Failure(AssertionError):
    """A scenario's claim does not hold."""


class Skip(Exception):
    """The scenario cannot run here; the text says what is missing."""


# How long something that must happen may take before we say that it does not. Emulated machines with sanitizers are slow.
PATIENCE = 30.0


def check(condition, *text):
    if not condition:
        raise Failure(" ".join(str(t) for t in text) or "check failed")


def equal(got, wanted, what=""):
    if got != wanted:
        raise Failure(f"{what or 'value'}: got {got!r}, wanted {wanted!r}")


def contains(text, part, what=""):
    if part not in text:
        raise Failure(f"{what or 'text'} does not contain {part!r}: {text!r}")


def eventually(func, what, timeout=PATIENCE, step=0.05):
    """Calls func until it returns something true, which is returned. An error in it counts as "not yet"."""
    until = time.monotonic() + timeout
    last, pause = None, min(step, 0.002)
    while True:
        try:
            value = func()
            if value:
                return value
            last = value
        except (Failure, OSError, KeyError, RuntimeError) as error:
            last = error
        if time.monotonic() >= until:
            raise Failure(f"not within {timeout:g} s: {what} (last: {last!r})")
        # Most of what is waited for comes within milliseconds, and there are thousands of waits.
        time.sleep(pause)
        pause = min(2 * pause, step)
