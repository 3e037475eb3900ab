# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The context of the scenarios that run under systemd: the installed units on the system bus, instead of a tdid and a bus
# of the scenario's own.

import os
import subprocess

from kit.checks import Failure, eventually
from kit.client import Client, Lost, Refused
from kit.context import Context
from kit.daemon import SANITIZER_MARKS, Unit, processes
from kit.tdictl import Tdictl


class UnitDaemon(Unit):
    """The part of Daemon that the shared code of Context needs, on the unit."""

    def environment(self, extra):
        return {**os.environ, **(extra or {})}

    def alive(self):
        return self.active()

    def stop(self, timeout=120):
        self.systemctl("stop", self.name, timeout=timeout)
        return 0

    def start(self, env=None):
        if env:
            raise Failure("the unit's environment is not ours to set here")
        self.systemctl("reset-failed", self.name, check=False)
        self.systemctl("start", self.name)

    def kill(self):
        self.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", self.name)

    process = None

    def leftovers(self):
        try:
            names = os.listdir(os.path.join(self.state, "journal"))
        except OSError:
            names = []
        return [n for n in names if not n.endswith(".lock")]

    @staticmethod
    def sanitizer_reports():
        return [line for line in Unit.log(2000) if any(m in line for m in SANITIZER_MARKS)]


class SystemdContext(Context):
    def __init__(self, paths, host, folder, seed, full):
        self.unit = UnitDaemon()
        super().__init__(paths, host, folder, seed, full)

    def make_daemon(self):
        subprocess.run(["journalctl", "--rotate"], capture_output=True, check=False)
        subprocess.run(["journalctl", "--vacuum-time=1s"], capture_output=True, check=False)
        self.bus = self.unit
        self.daemon = self.unit
        self.tdictl = Tdictl(self.paths.tdictl, "system", self.unit)

    @property
    def client(self):
        if self._client is None:
            self._client = Client(self.unit.address)
        return self._client

    def stop_bus(self):
        """It is the system's."""

    def _stop(self):
        problems = []
        try:
            eventually(lambda: not self.client.vms(), "end of all VMs after their keepers are gone", 60)
        except (Failure, Lost, Refused) as error:
            problems.append(f"at the end: {error}")
        try:
            self.unit.stop()
            eventually(lambda: not processes(), "end of all of tdid's processes", 20)
            holders = self.unit.systemctl("list-units", "--all", "--no-legend", "--plain", "tdid-vm@*")
            if holders:
                problems.append(f"holder units left: {holders}")
        except Failure as error:
            problems.append(str(error))
        self.unit.systemctl("reset-failed", "tdid*", check=False)
        return problems
