# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a scenario gets: the host, a daemon on a bus of its own, a client, the VMs it made, and the end that every scenario
# shares: everything closed, tdid stopped, nothing left of it.

import json
import os
import random
import signal
import subprocess
import time

import host_state
from kit import spdm
from kit.checks import Failure, Skip, check, equal, eventually
from kit.client import Background, Client, Device, Lost, Refused
from kit.daemon import Bus, Daemon, children, die_with_us, processes
from kit.guest import Guest
from kit.importer import Importer
from kit.journal import Journal, bars
from kit.tdictl import Tdictl


class Context:
    def __init__(self, paths, host, folder, seed, full):
        self.paths = paths
        self.host = host
        self.folder = folder
        self.seed = seed
        self.rng = random.Random(seed)
        self.full = full
        self.lines = []
        self.journal = None
        self.make_daemon()
        self.baseline = None
        self.functions = []  # those that the scenario asked for
        self.tsm = None
        self.tsm_name = None
        self.tsm_baseline = None
        self.stick = None
        self.importers = None
        self._client = None
        self._vms = []
        self._deferred = []
        self._after = []
        self._keepers = []
        self._count = 0
        os.chmod(folder, 0o755)

    def make_daemon(self):
        self.bus = Bus(self.folder, self.paths.policy)
        self.daemon = Daemon(self.paths.tdid, self.folder, self.bus, self.host)
        self.journal = Journal(self.daemon.audit)
        self.tdictl = Tdictl(self.paths.tdictl, self.bus.address, self.daemon)

    def start(self, env=None):
        """Starts tdid; seconds until it owned its name."""
        return self.daemon.start(env)

    def configured(self, config):
        """Writes a tdid.conf; what tdid has to be started with to read it."""
        path = os.path.join(self.folder, "tdid.conf")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        return ("--config=" + path,)

    # ---- talking ----

    def note(self, *words):
        """A line of the log that is shown when the scenario fails, and with --verbose."""
        self.lines.append(" ".join(str(w) for w in words))

    def value(self, name, value):
        """A figure that is always shown."""
        self.lines.append(f"# {name}={value}")

    @staticmethod
    def skip(reason):
        raise Skip(reason)

    # ---- the parts ----

    @property
    def client(self):
        if self._client is None:
            self._client = Client(self.bus.address)
        return self._client

    def new_client(self):
        client = Client(self.bus.address)
        self.defer(client.close)
        return client

    def background(self, func):
        return Background(self.bus.address, func)

    def defer(self, func):
        """Has func called at the end, last one first, whatever happens."""
        self._deferred.append(func)

    def after(self, func):
        """As defer(), but once tdid has stopped: for what the scenario did to the host beneath it."""
        self._after.append(func)

    def device(self, bdf) -> Device:
        return self.client.device(bdf)

    def device_by(self, role, index=0):
        return self.device(self.host.bdf(role, index))

    def vm_name(self):
        self._count += 1
        return f"vm-{self._count}"

    def vm(self, name=None, client=None, **opts):
        """A new VM whose lease we keep until the scenario ends or closes it."""
        vm = (client or self.client).create_vm(self.vm_name() if name is None else name, **opts)
        self._vms.append(vm)
        return vm

    def adopt(self, vm):
        self._vms.append(vm)
        return vm

    def load_tsm(self, devs, **parameters):
        """The test TSM with these functions marked. What tdid does to it must be undone before it goes: finish() looks."""
        self.tsm = self.host.new_tsm()
        self.tsm_name = self.tsm.load(devs, **parameters)
        self.tsm_baseline = self.host.snapshot(self.functions)
        return self.tsm_name

    def unload_tsm(self):
        self.tsm.unload()
        self.tsm_baseline = None

    def load_stick(self):
        if not self.host.has("stick"):
            raise Skip("no module tdid_test_stick")
        self.stick = self.host.new_stick()
        self.stick.load()
        return self.stick

    def load_slow_reset(self):
        """Resets that hang; see kit/tsm.py."""
        slow = self.host.new_slow_reset()
        self.defer(slow.close)
        return slow

    def load_bind_module(self):
        """The bind provider, until the scenario ends or closes it."""
        module = self.host.new_bind_module()
        self.defer(module.close)
        return module

    def load_evidence_module(self):
        """The kernel's device-evidence family, until the scenario ends or closes it; see tests/kmod/tdid_test_evidence.c."""
        module = self.host.new_evidence_module()
        self.defer(module.close)
        return module

    def load_importer(self):
        """An importer of dma-bufs; see kit/importer.py."""
        self.importers = self.host.new_importer()
        self.importers.load()
        importer = Importer(self.host)
        self.defer(importer.close)
        return importer

    def spdm(self, bdf, **what):
        """An SPDM responder behind the function's DOE mailbox until tdid has ended; see kit/spdm.py."""
        return spdm.responder(self, bdf, **what)

    # ---- processes that keep things ----

    def guest(self):
        """A guest that has not been started yet; it ends with the scenario."""
        self._count += 1
        folder = os.path.join(self.folder, f"guest-{self._count}")
        os.mkdir(folder, 0o755)
        guest = Guest(folder, lambda line: self.note("|", line), self.host.guest_accel)

        def end():
            for line in guest.close():
                self.note("QEMU:", line)
        self.defer(end)
        return guest

    def sleeper(self, *fds):
        """A process that does nothing but live, with copies of these descriptors."""
        process = subprocess.Popen(["sleep", "1000000"], stdin=subprocess.DEVNULL, pass_fds=fds, preexec_fn=die_with_us)
        self._keepers.append(process)
        return process

    def lease_process(self, vm):
        """Hands the lease over to a process of its own: that one alone keeps the VM then."""
        process = self.sleeper(vm.lease.fd)
        vm.lease.close()
        return process

    # ---- what is often claimed ----

    def attached(self, vm, *bdfs, state="prepared"):
        """Everything that "attached" means, seen from the outside."""
        doc = vm.describe()
        holder = int(doc["holder"]["pid"])
        equal(sorted(t["bdf"] for t in doc["tdis"]), sorted(bdfs), "functions of the VM")
        for bdf in bdfs:
            tdi = next(t for t in doc["tdis"] if t["bdf"] == bdf)
            equal(self.host.driver(bdf), "vfio-pci", f"driver of {bdf}")
            equal(self.host.override(bdf), "vfio-pci", f"driver_override of {bdf}")
            equal(self.host.power_control(bdf), "on", f"power/control of {bdf}")
            check(self.host.holds(holder, bdf), f"the holder {holder} does not have the VFIO node of {bdf} open")
            device = self.device(bdf).props()
            equal(str(device["VM"]), vm.path, f"VM of {bdf}")
            equal(str(device["Custody"]), "prepare", f"custody of {bdf}")
            equal(str(device["Quarantine"]), "", f"quarantine of {bdf}")
            equal(self.client.tdi(bdf).state(), state, f"state of TDI {bdf}")
            check(int(tdi["ioas"]) > 0, f"{bdf} has no IOAS")
            equal(tdi["iommu_group"], self.host.group(bdf), f"IOMMU group of {bdf}")
        if bdfs:
            equal(self.host.iommufds(holder), 1, "iommufds of the holder")
        return doc

    def ioas(self, vm, bdf):
        return next(t["ioas"] for t in vm.describe()["tdis"] if t["bdf"] == bdf)

    def dma(self, vm, bdf):
        doc = vm.describe()
        self.host.dma(doc["holder"]["pid"], bdf, self.ioas(vm, bdf))

    def gone(self, vm, timeout=None):
        """Waits until a VM is no more."""
        eventually(lambda: not vm.alive(), f"end of {vm.path}", *([timeout] if timeout else []))

    def free(self, *bdfs):
        """Waits until nothing of tdid is left on these functions."""
        for bdf in bdfs:
            def is_free(bdf=bdf):
                props = self.device(bdf).props()
                return str(props["Custody"]) == "none" and str(props["VM"]) == "" and str(props["Quarantine"]) == ""
            eventually(is_free, f"{bdf} is free")

    def unchanged(self, *bdfs):
        """Functions as they were, while the daemon and perhaps a VM still live."""
        baseline = {**self.baseline["functions"], **(self.tsm_baseline or {}).get("functions", {})}
        near = {b: baseline[b] for b in self.host.near(bdfs)}
        until = time.monotonic() + 5
        while differences := host_state.compare({"functions": near}, self.host.snapshot(bdfs)):
            if time.monotonic() >= until:
                raise Failure("not as before:\n  " + "\n  ".join(differences))
            time.sleep(0.2)

    def quiet(self):
        """Waits until no job runs."""
        eventually(lambda: not self.client.jobs("running", "stuck"), "end of all jobs", 60)

    # ---- the end ----

    def end_keepers(self):
        """Ends all that keeps a VM or holds something up."""
        self._calm_tsm()
        for process in self._keepers:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        for vm in self._vms:
            if vm.lease:
                vm.lease.close()
        return self._undo(self._deferred)

    def drop_client(self):
        """Our connection may have seen a tdid that is no more."""
        if self._client:
            self._client.close()
            self._client = None

    def finish(self):
        """Closes all that the scenario left open and stops tdid; whatever is left then is a failure."""
        problems = self.end_keepers()
        if self.daemon.alive():
            problems += self._stop()
        elif self.daemon.process is not None:
            # Those of a tdid that was stopped end a moment after it.
            try:
                eventually(lambda: not processes("tdid-vm"), "end of the holders", 5)
            except Failure:
                problems.append("the scenario left holders and no tdid")
        problems += self._undo(self._after)
        if self._client:
            self._client.close()
        if self.tsm_baseline:
            differences = self.host.settled(self.tsm_baseline, self.functions)
            if differences:
                problems.append("not as before tdid, with the test TSM still there:\n" + "\n".join(differences[:40]))
        for module in (self.tsm, self.stick, self.importers):
            try:
                if module:
                    module.unload()
            except Failure as error:
                problems.append(str(error))
        # Workers end when they notice that their tdid has.
        try:
            eventually(lambda: not processes(), "end of all processes", 30)
        except Failure:
            problems.append(f"processes left: {processes()}")
        if self.daemon.leftovers():
            problems.append(f"files left in {self.daemon.state}: {self.daemon.leftovers()}")
        for report in self.daemon.sanitizer_reports():
            problems.append("sanitizer report:\n" + report)
        if self.journal:
            problems += self.journal.problems([a for bdf in self.functions for a in bars(self.host, bdf)])[:10]
        self.stop_bus()
        return problems

    def stop_bus(self):
        self.bus.stop()

    def kill_bus(self):
        """The bus dies, with our connection to it."""
        self.drop_client()
        self.bus.process.kill()
        self.bus.process.wait()
        os.unlink(self.bus.socket)

    def restart_bus(self):
        """A new bus at the same address."""
        self.bus = Bus(self.folder, self.paths.policy)

    def _calm_tsm(self):
        """No more delays and failures: the end must be able to come."""
        try:
            if self.tsm:
                self.tsm.clear()
                self.tsm.release()
        except OSError:
            pass

    @staticmethod
    def _undo(funcs):
        problems = []
        while funcs:
            try:
                funcs.pop()()
            except Exception as error:  # noqa: BLE001 - the others must be undone too
                problems.append(f"while cleaning up: {type(error).__name__}: {error}")
        return problems

    def _stop(self):
        problems = []
        try:
            eventually(lambda: not self.client.vms(), "end of all VMs after their keepers are gone", 60)
            quarantined = [str(i["org.tdid1.Device"]["BDF"]) for i in self.client.objects().values()
                           if str(i.get("org.tdid1.Device", {}).get("Quarantine", "")) != ""]
            if quarantined:
                problems.append(f"quarantined at the end: {quarantined}")
            eventually(lambda: "Z" not in children(self.daemon.pid).values(), "no zombies of tdid", 10)
        except (Failure, Lost, Refused) as error:
            problems.append(f"at the end: {error}")
        try:
            code = self.daemon.stop()
            if code != 0:
                problems.append(f"tdid ended with {code} on SIGTERM")
        except Failure as error:
            problems.append(str(error))
            self.daemon.kill()
        return problems
