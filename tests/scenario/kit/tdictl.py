# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs tdictl as a user would, and reads its JSON.

import json
import subprocess
import threading
from dataclasses import dataclass

from kit.checks import Failure


@dataclass
class Output:
    code: int
    out: str
    err: str

    def json(self):
        try:
            doc = json.loads(self.out)
        except ValueError as error:
            raise Failure(f"no JSON on standard output: {error}: {self.out[:300]!r}; stderr: {self.err[:300]!r}") from None
        if doc.get("schema") != "tdid/1":
            raise Failure(f"schema is {doc.get('schema')!r}")
        return doc


class Tdictl:
    def __init__(self, binary, address, daemon):
        self.binary = binary
        self.address = address
        self.daemon = daemon

    def command(self, *args, bus=None):
        return [self.binary, "--bus=" + (bus or self.address), *args]

    def __call__(self, *args, code=0, timeout=120, bus=None, **kw):
        """Runs it to the end; its exit code must be the one given (None: any)."""
        done = subprocess.run(self.command(*args, bus=bus), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False, env=self.daemon.environment(None), **kw)
        if code is not None and done.returncode != code:
            raise Failure(f"tdictl {' '.join(args)}: exit {done.returncode}, wanted {code}; "
                          f"stdout: {done.stdout[:500]!r}; stderr: {done.stderr[:500]!r}")
        return Output(done.returncode, done.stdout, done.stderr)

    def json(self, *args, code=0, **kw):
        return self("--json", *args, code=code, **kw).json()

    def start(self, *args, **kw):
        """Runs it beside the scenario; the caller ends it."""
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.command(*args), stdin=subprocess.DEVNULL, text=True, env=self.daemon.environment(None), **kw)


class Monitor:
    """Everything that `tdictl monitor` shows from now on: `seen`, its events as they are in JSON."""

    def __init__(self, t):
        process = t.tdictl.start("--json", "monitor")
        t.defer(process.kill)
        self.seen = []
        self.ready = threading.Event()
        threading.Thread(target=self._collect, args=(process.stdout,), daemon=True).start()
        # It is subscribed when it shows something that was done after it began.
        while not self.ready.is_set():
            t.client.create_vm(t.vm_name()).lease.close()
            self.ready.wait(0.2)

    def _collect(self, stream):
        for line in stream:
            self.seen.append(json.loads(line).get("event", {}))
            self.ready.set()
