# SPDX-License-Identifier: LGPL-2.1-or-later
"""Child processes of the test runner: each in a session of its own, its output read line by line into a log, and none
left behind when the runner ends, however it ends."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

# For what runs beside a VM, which must not be starved: an emulated kernel complains when it does not get on.
BESIDE_A_VM = ("nice", "-n", "5")

_running = set()
_lock = threading.RLock()  # end_all() is called from a signal handler, whatever the main thread is doing
_ending = False
_last_output = time.monotonic()


class Stopped(Exception):
    """The runner is being stopped: no child is started any more."""


def said_something():
    """Notes that the runner has just printed something; see heartbeat()."""
    global _last_output
    _last_output = time.monotonic()


def heartbeat(what, seconds=50):
    """Starts a thread that prints a line whenever nothing was printed for some time: CI takes silence for death."""
    def beat():
        begin = time.monotonic()
        while True:
            time.sleep(1)
            if time.monotonic() - _last_output > seconds:
                print(f"  … {what()}, {time.monotonic() - begin:.0f} s since the start", flush=True)
                said_something()
    threading.Thread(target=beat, daemon=True).start()


def _signal_group(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def end_all():
    """Ends every child with its descendants: first politely, after three seconds not. Nothing can be started any more."""
    global _ending
    with _lock:
        _ending = True
        children = list(_running)
    for number, seconds in ((signal.SIGTERM, 3), (signal.SIGKILL, 1)):
        for process in children:
            _signal_group(process, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(p.poll() is None for p in children):
            time.sleep(0.05)


@dataclass
class Ended:
    code: int
    output: str
    seconds: float
    timed_out: bool = False

    def tail(self, lines=40):
        kept = self.output.rstrip("\n").split("\n")
        cut = [f"[… {len(kept) - lines} lines before this]"] if len(kept) > lines else []
        return "\n".join(cut + kept[-lines:])


def run(command, log=None, timeout=None, env=None, on_line=None):
    """Runs a command to its end. Its output (both streams) goes to the file `log`, to on_line and into the result."""
    begin = time.monotonic()
    command = [str(word) for word in command]
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with _lock:
        if _ending:
            raise Stopped
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env={**os.environ, **(env or {})}, start_new_session=True, errors="replace", text=True)
        _running.add(process)
    timed_out = threading.Event()

    def give_up():
        timed_out.set()
        _signal_group(process, signal.SIGTERM)
        time.sleep(5)
        _signal_group(process, signal.SIGKILL)

    timer = threading.Timer(timeout, give_up) if timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    lines = []
    sink = open(log, "w", encoding="utf-8") if log else None
    try:
        if sink:
            sink.write("$ " + " ".join(command) + "\n")
        for line in process.stdout:
            lines.append(line)
            if sink:
                sink.write(line)
                sink.flush()
            if on_line:
                on_line(line.rstrip("\n"))
        process.wait()
    finally:
        if timer:
            timer.cancel()
        if sink:
            sink.close()
        with _lock:
            _running.discard(process)
        # A test must not leave processes behind; whatever it does leave is in its session's group.
        _signal_group(process, signal.SIGKILL)
    return Ended(process.returncode, "".join(lines), time.monotonic() - begin, timed_out.is_set())


def git(root, *arguments):
    """What git says of a tree, as bytes; None where it says nothing: no git is installed, or the tree is an unpacked archive."""
    try:
        ended = subprocess.run(["git", "-C", root, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    return ended.stdout if ended.returncode == 0 else None
