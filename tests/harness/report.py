# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results of the test runner: which tests are wanted, what came of each, and the table at the end."""

import fnmatch
import threading
import time
from dataclasses import dataclass

import child


@dataclass
class Result:
    suite: str
    name: str
    verdict: str  # "ok", "FAILED" or "skipped"
    seconds: float


class Selection:
    """What --only asks for. "unit" is a suite, "unit/client" a test of it, "client" that test in every suite."""

    def __init__(self, pattern, suites):
        self.suite = self.test = "*"
        if not pattern:
            return
        if "/" in pattern:
            self.suite, self.test = pattern.split("/", 1)
            self.test = self._anywhere(self.test)
        elif any(fnmatch.fnmatch(s, pattern) for s in suites):
            self.suite = pattern
        else:
            self.test = self._anywhere(pattern)

    @staticmethod
    def _anywhere(pattern):
        return pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"

    def wants_suite(self, suite):
        return fnmatch.fnmatch(suite, self.suite)

    def wants(self, suite, name):
        return self.wants_suite(suite) and fnmatch.fnmatch(name, self.test)

    @property
    def whole(self):
        """Whether tests are left out inside a suite."""
        return self.test == "*"


class Report:
    """Where suites report to. Each suite runs in one thread, from begin() to end(); several may run at a time."""

    def __init__(self, selection):
        self.selection = selection
        self.results = []
        self.times = []
        self.running = {}
        self.closed = False
        self._begun = time.monotonic()
        self._current = threading.local()
        self._lock = threading.Lock()

    def say(self, text):
        print(text, flush=True)
        child.said_something()

    def begin(self, suite, about):
        self._current.suite = suite
        self.running[suite] = time.monotonic()
        self.say(f"\n== {suite}: {about}")

    def end(self):
        suite = self._current.suite
        seconds = time.monotonic() - self.running.pop(suite)
        if not self.closed:
            self.times.append((suite, seconds))
            self.say(f"== {suite}: {seconds:.0f} s")

    def close(self):
        """Nothing counts any more: what ends from here on ends because we are being stopped. Called by a signal handler."""
        self.closed = True
        now = time.monotonic()
        self.times += [(suite, now - begin) for suite, begin in self.running.items()]

    def for_thread(self, suite):
        """To be called by the threads that a suite starts itself, if it does."""
        self._current.suite = suite

    def _add(self, name, verdict, seconds, detail, log):
        suite = self._current.suite
        with self._lock:
            if self.closed:
                return
            self.results.append(Result(suite, name, verdict, seconds))
            time_text = f"  {seconds:.1f} s" if verdict != "skipped" else ""
            reason = f"  ({detail})" if verdict == "skipped" and detail else ""
            lines = [f"{verdict:<7} {suite}/{name}{time_text}{reason}"]
            if verdict == "FAILED":
                lines += ["    | " + line for line in (detail or "").rstrip("\n").split("\n")]
                if log:
                    lines.append(f"    log: {log}")
            self.say("\n".join(lines))

    def passed(self, name, seconds):
        self._add(name, "ok", seconds, None, None)

    def failed(self, name, seconds, detail, log=None):
        self._add(name, "FAILED", seconds, detail, log)

    def skipped(self, name, reason):
        if name.endswith("*") and not self.selection.whole:
            return  # nobody knows whether what was asked for is in there
        self._add(name, "skipped", 0, reason, None)

    def result(self, name, ended, log=None, detail=None):
        """The verdict of a command that should have ended with 0."""
        if ended.timed_out:
            self.failed(name, ended.seconds, f"it did not end in time\n{detail or ended.tail()}", log)
        elif ended.code != 0:
            self.failed(name, ended.seconds, detail or f"exit code {ended.code}\n{ended.tail()}", log)
        else:
            self.passed(name, ended.seconds)
        return ended.code == 0

    def count(self, verdict, suite=None):
        return sum(r.verdict == verdict and suite in (None, r.suite) for r in self.results)

    def table(self):
        lines = [f"\n{'suite':<14} {'seconds':>8} {'passed':>7} {'failed':>7} {'skipped':>8}"]
        for suite, seconds in self.times:
            lines.append(f"{suite:<14} {seconds:>8.0f} {self.count('ok', suite):>7} {self.count('FAILED', suite):>7} "
                         f"{self.count('skipped', suite):>8}")
        lines.append(f"{'all':<14} {time.monotonic() - self._begun:>8.0f}")
        failures = [f"  {r.suite}/{r.name}" for r in self.results if r.verdict == "FAILED"]
        if failures:
            lines += ["", "failed:", *failures]
        return "\n".join(lines)

    def last_line(self):
        skipped = self.count("skipped")
        return f"{self.count('ok')} passed, {self.count('FAILED')} failed" + (f", {skipped} skipped" if skipped else "")
