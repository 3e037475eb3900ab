# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tdid of its own on a simulated example machine, and tdictl before it: on a terminal of 80 columns, or as JSON."""
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "../../.."))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tests/scenario"))

import terminal  # noqa: E402
from kit.daemon import Bus, Daemon, end_all, own_only  # noqa: E402
from kit.paths import find_paths  # noqa: E402
from kit.simhost import SimHost, Simulation  # noqa: E402

# What is different each time, and what stands for it; of the same width where a table's columns go by it.
VOLATILE = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUIDUUID-UUID-UUID-UUID-UUIDUUIDUUID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "YYYY-MM-DD HH:MM:SS"),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "HH:MM:SS.mmm"),
    (re.compile(r"(?<![\w:.])\d\d:\d\d:\d\d\b(?![.:])"), "HH:MM:SS"),
    (re.compile(r"\bpid=\d+"), "pid=PID"),
    (re.compile(r"\bpinned_mib=\d+"), "pinned_mib=MIB"),
    (re.compile(r"\brun-\d+"), "run-PID"),
    (re.compile(r"\b1[78]\d{11}\b"), "VMIDVMIDVMIDV"),
    (re.compile(r"^( *version: )\d+\.\d+\.\d+$", re.M), r"\1VERSION"),
    (re.compile(r"(waits for its VMM +)\d\d\d\b"), r"\1NNN"),
)


def stable(text, folder):
    for pattern, instead in VOLATILE:
        text = pattern.sub(instead, text)
    # Who runs the test is nobody else than root there.
    text = text.replace(folder + "/state", "/run/tdid").replace(folder, "/FOLDER")
    return text.replace(f"_uid: {os.geteuid()}\n", "_uid: 0\n").replace(f"_gid: {os.geteuid()}\n", "_gid: 0\n").replace(f"owner={os.geteuid()} ", "owner=0 ")


class Machine:
    def __init__(self, build, name):
        self.paths = find_paths(build)
        self.topology = os.path.join(ROOT, f"libtdi/sim/examples/{name}.json")
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tdid-", ignore_cleanup_errors=True))
        os.chmod(self.folder, 0o755)
        self.simulation = Simulation(self.paths.sim, self.topology, self.folder)
        self.simulation.start()
        own_only("--host=sim:" + self.simulation.socket)
        self.stack.callback(self.simulation.stop)
        self.stack.callback(end_all)
        self.bus = Bus(self.folder, self.paths.policy)
        self.stack.callback(self.bus.stop)
        self.daemon = Daemon(self.paths.tdid, self.folder, self.bus, SimHost(self.paths.topology, self.simulation))
        self.daemon.start()
        self.environment = dict(self.daemon.environment(None), DBUS_SYSTEM_BUS_ADDRESS=self.bus.address, TZ="UTC", LC_ALL="C.UTF-8", TERM="xterm", NO_COLOR="1")
        return self

    def __exit__(self, *_):
        self.daemon.stop()
        self.stack.close()

    def command(self, *args):
        return [self.paths.tdictl, *args]

    def terminal(self, *args):
        """What it writes to a terminal, and its exit code."""
        out, code = terminal.run(self.command(*args), self.environment)
        return stable(out, self.folder), code

    def json(self, *args):
        """Its one object, its exit code, and what it said besides."""
        r = subprocess.run(self.command("--json", *args), env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        return [json.loads(line) for line in r.stdout.splitlines()], r.returncode, r.stderr

    def control(self, command, **more):
        return self.simulation.client.control(command, **more)
