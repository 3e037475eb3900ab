# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A tdid on a bus and a simulation of its own, and what each kind of operation is there. Nothing is judged here: an operation's outcome is
# "ok", the name of tdid's error, "lost" when tdid went away meanwhile, or "none" when there was nothing to do it to.

import errno
import json
import os
import signal
import subprocess
import tempfile
import shutil
import threading
import time

import kit.daemon
from kit.checks import Failure, eventually
from kit.client import Client, Lost, Refused
from kit.daemon import Bus, Daemon, children, die_with_us, processes
from kit.paths import find_paths
from kit.requests import OF_KIND, op as request_of
from kit.simclient import SimGone
from kit.simhost import SimHost, Simulation

import sequence
import vpci
from watch import Watch

HERE = os.path.dirname(os.path.abspath(__file__))
# In the order of sequence.FUNCTIONS; then those that are never attached: a PF that has VFs, and one that does not exist.
BDFS = ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:03:00.1", "0000:04:00.0", "0000:04:00.1", "0000:05:10.0", "0000:05:10.2",
        "0000:05:00.0", "0000:1f:00.0")
DSM = {"0000:04:00.0": "0000:04:00.0", "0000:04:00.1": "0000:04:00.0", "0000:05:00.0": "0000:05:00.0", "0000:05:10.0": "0000:05:00.0", "0000:05:10.2": "0000:05:00.0"}
LIMITS = {"vms": sequence.SLOTS, "functions": 5, "keepers": 12, "exports": 6, "jobs": 16}
DEADLINE = 4
CONFIG = {"limits": LIMITS, "deadlines": {k: DEADLINE for k in ("claim", "open", "connect", "prepare", "bind", "close")}}
PATIENCE = 30
# What does not come back does when every deadline has passed: a call that waits for it, as Destroy does, would else wait for ever.
STUCK_MS = (DEADLINE + 2) * 1000


class Vm:
    def __init__(self, vm, name, kvm):
        self.vm, self.name, self.kvm = vm, name, kvm
        self.uuid = str(vm.get("UUID"))
        self.leases = [vm.lease.take()]
        self.sleepers, self.exports, self.buffers = [], [], []


class World:
    def __init__(self, build):
        self.folder = tempfile.mkdtemp(prefix="tdid-model-")
        os.chmod(self.folder, 0o755)
        self.paths = find_paths(build)
        self.simulation = Simulation(self.paths.sim, os.path.join(HERE, "machine.json"), self.folder)
        kit.daemon.own_only("--host=sim:" + self.simulation.socket)
        self.simulation.start()
        roles = os.path.join(self.folder, "roles.json")
        with open(roles, "w", encoding="utf-8") as file:
            json.dump({"functions": []}, file)
        self.host = SimHost(roles, self.simulation)
        self.control = self.simulation.client.control
        self.trace = os.path.join(self.folder, "trace")
        self.control("trace", path=self.trace)
        self.bus = Bus(self.folder, self.paths.policy)
        self.daemon = Daemon(self.paths.tdid, self.folder, self.bus, self.host)
        self.config = os.path.join(self.folder, "tdid.conf")
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(CONFIG, file)
        self.client = None
        self.start()
        self.watch = Watch(self.trace, self.daemon.audit, self.daemon.log_path, DSM)
        self.slots = [None] * sequence.SLOTS
        self.ports = {}
        self.count = 0
        self.rules = {}
        self.fired = {}
        self.gone = set()        # unplugged
        self.tsm = True
        self.worker_killed = False
        self.baseline = self.snapshot()

    # ---- beginning and end ----

    def start(self):
        self.daemon.start(arguments=("--config=" + self.config,))
        if self.client:
            self.client.close()
        self.client = Client(self.bus.address)
        for s in getattr(self, "slots", ()):
            if s:
                s.vm.client = self.client

    def close(self):
        """Ends everything; what was wrong with it, as lines."""
        problems = []
        for slot in range(sequence.SLOTS):
            self.forget(slot)
        if self.daemon.alive():
            try:
                if self.daemon.stop():
                    problems.append("tdid ended with an error")
            except Failure as error:
                problems.append(str(error))
                self.daemon.kill()
        self.client.close()
        self.bus.stop()
        kit.daemon.end_all()
        try:
            self.control("trace", path=None)
        except (OSError, SimGone):
            pass
        problems += self.simulation.stop()
        problems += self.daemon.sanitizer_reports()
        shutil.rmtree(self.folder, ignore_errors=True)
        return problems

    def snapshot(self):
        """Driver, override and runtime PM of every function."""
        return {b: (self.host.driver(b), self.host.override(b), self.host.power_control(b)) for b in BDFS[:9] if b not in getattr(self, "gone", ())}

    # ---- what is there ----

    def forget(self, slot):
        """The VM of a slot has gone: what we have of it is closed."""
        s = self.slots[slot]
        if not s:
            return
        self.slots[slot] = None
        for fd in s.leases + s.buffers:
            os.close(fd)
        for x in s.exports:
            x.close()
        for p in s.sleepers:
            p.kill()
            p.wait()
        self.host.close(s.kvm)
        self.drop_lost_ports()

    def drop_lost_ports(self):
        for f, port in list(self.ports.items()):
            if port.hung_up():
                port.close()
                del self.ports[f]

    def tdi(self, f):
        return self.client.tdi(BDFS[f])

    def calls(self, func):
        try:
            func()
            return "ok"
        except Refused as error:
            self.why = error.text
            return error.name
        except Lost:
            return "lost"

    # ---- operations ----

    def do(self, op):
        """Returns (outcome, accepted, refused)."""
        self.why = ""
        out = getattr(self, "_" + op[0].replace("-", "_"))(*op[1:])
        if isinstance(out, tuple):
            return out
        return out, int(out == "ok"), int(out not in ("ok", "none"))

    def _create(self, slot, bind, hotplug, awaits):
        if self.slots[slot]:
            # One more than there are slots: beyond the limit when all are taken.
            if not all(self.slots):
                return "none"
            return self.calls(lambda: os.close(self.client.create_vm("beyond").lease.take()))
        self.count += 1
        name = f"vm-{self.count}"

        def create():
            vm = self.client.create_vm(name, bind=bind, hotplug=bool(hotplug), **({"await_vmm": 1} if awaits else {}))
            self.slots[slot] = Vm(vm, name, self.host.kvm_vm())
        return self.calls(create)

    def _attach(self, slot, early, functions, nowait=None):
        if not self.slots[slot]:
            return "none"
        what = [(BDFS[f], {**({"guest_rid": 0x100 + f} if f in sequence.BINDABLE else {}), **({"bind": "early"} if early else {})}) for f in functions]
        return self.calls(lambda: self.slots[slot].vm.attach(*what, async_=bool(nowait)))

    def _vm_call(self, slot, func):
        return self.calls(lambda: func(self.slots[slot].vm)) if self.slots[slot] else "none"

    def _seal(self, slot):
        return self._vm_call(slot, lambda vm: vm.seal())

    def _kvm(self, slot):
        return self._vm_call(slot, lambda vm: vm.set_kvm(self.slots[slot].kvm))

    def _bind(self, f):
        return self.calls(lambda: self.tdi(f).bind())

    def _unbind(self, f):
        return self.calls(lambda: self.tdi(f).unbind())

    def _detach(self, f, nowait=None):
        return self.calls(lambda: self.tdi(f).detach(**({"async_": True} if nowait else {})))

    def _hold(self, slot, count):
        s, good, bad = self.slots[slot], 0, 0
        if not s:
            return "none"
        out = "ok"
        for _ in range(count):
            out = self.calls(lambda: s.leases.append(s.vm.hold("model").take()))
            good += out == "ok"
            bad += out != "ok"
        return out, good, bad

    def _drop(self, slot, which, nowait=None):
        s = self.slots[slot]
        if not s or not s.leases:
            return "none"
        os.close(s.leases.pop(which % len(s.leases)))
        return "ok"

    def _pidfd(self, slot):
        s = self.slots[slot]
        if not s:
            return "none"
        process = subprocess.Popen(["sleep", "1000000"], stdin=subprocess.DEVNULL, preexec_fn=die_with_us)
        s.sleepers.append(process)
        fd = os.pidfd_open(process.pid)
        out = self.calls(lambda: s.vm.set_pidfd(fd))
        os.close(fd)
        if out != "ok":
            s.sleepers.pop()
            process.kill()
            process.wait()
        return out

    def _pidfd_end(self, slot):
        s = self.slots[slot]
        if not s or not s.sleepers:
            return "none"
        process = s.sleepers.pop()
        process.kill()
        process.wait()
        return "ok"

    def _destroy(self, slot, nowait=None):
        return self._vm_call(slot, lambda vm: vm.destroy(**({"async_": True} if nowait else {})))

    def _abandon(self, slot, nowait=None):
        return self._vm_call(slot, lambda vm: vm.destroy(abandon=True, **({"async_": True} if nowait else {})))

    def _connect(self, f):
        return self.calls(lambda: self.client.device(BDFS[f]).connect())

    def _disconnect(self, f):
        return self.calls(lambda: self.client.device(BDFS[f]).disconnect())

    def _restore(self, f):
        return self.calls(lambda: self.client.device(BDFS[f]).restore())

    def owner(self, f):
        """The slot of the VM that tdid says has it."""
        try:
            path = str(self.client.device(BDFS[f]).get("VM"))
        except (Refused, Lost):
            return None
        return next((i for i, s in enumerate(self.slots) if s and s.vm.path == path), None)

    def _export(self, f, page, pages, importer):
        slot = self.owner(f)
        if slot is None:
            return "none"
        return self.calls(lambda: self.slots[slot].exports.append(self.tdi(f).export(0, page * vpci.PAGE, pages * vpci.PAGE, importer=importer)))

    def _export_close(self, slot, which):
        s = self.slots[slot]
        if not s or not s.exports:
            return "none"
        s.exports.pop(which % len(s.exports)).close()
        return "ok"

    def _buffer(self, slot, pages):
        def make(vm):
            self.slots[slot].buffers += vm.shared_buffer(pages * vpci.PAGE)
        return self._vm_call(slot, make)

    # ---- the VMM's side ----

    def _vpci(self, f):
        slot = self.owner(f) if f < len(BDFS) else None
        if slot is None or f in self.ports:
            return "none"
        path = os.path.join(self.daemon.state, "vm", self.slots[slot].uuid, BDFS[f].replace(":", "_") + ".sock")
        try:
            self.ports[f] = vpci.Port(path, f)
            self.ports[f].slot = slot
            self.ports[f].helper_killed = self.worker_killed
            return "ok"
        except vpci.Hung:
            return "hung up"

    def _vpci_close(self, f):
        if f not in self.ports:
            return "none"
        self.ports.pop(f).close()
        return "ok"

    def _burst(self, f, func):
        port = self.ports.get(f)
        if not port:
            return "none"
        try:
            good, bad = func(port)
            return ("ok" if good else "refused"), good, bad
        except vpci.Hung:
            self.ports.pop(f).close()
            return "hung up", 0, 1

    def _config(self, f, seed, count):
        return self._burst(f, lambda p: p.config(seed, count, self.calm))

    def _map(self, f, seed, count):
        return self._burst(f, lambda p: p.map_some(seed, count, self.calm))

    def _unmap(self, f, seed):
        return self._burst(f, lambda p: p.unmap_some(seed, self.calm)) if self.ports.get(f) and self.ports[f].maps else "none"

    def _decode(self, f, on):
        return self._burst(f, lambda p: (0, 1) if p.decode(on) else (1, 0))

    def _reset(self, f):
        return self._burst(f, lambda p: (0, 1) if p.reset() else (1, 0))

    def _request(self, f, kind):
        return self.calls(lambda: self.tdi(f).request(kind, request_of(OF_KIND.get(kind, 0))))

    # ---- what goes wrong ----

    def _kill_tdid(self, _):
        self.daemon.kill()
        self.start()
        return "ok"

    def _kill_holder(self, slot):
        s = self.slots[slot]
        try:
            pid = s and s.vm.holder_pid()
        except (Refused, Lost):
            pid = None
        if not pid or self.kill(pid) != "ok":
            return "none"

        def noticed():
            try:
                return not self.daemon.alive() or s.vm.phase() == "closing"
            except (Refused, Lost):
                return True
        eventually(noticed, "a VM whose holder died closes", PATIENCE)
        return "ok"

    @staticmethod
    def kill(pid):
        try:
            os.kill(pid, signal.SIGKILL)
            return "ok"
        except ProcessLookupError:
            return "none"

    def _kill_worker(self, which):
        pids = sorted(processes("tdid-worker"))
        # Some of them map the memory of VMMs.
        self.worker_killed = True
        for port in self.ports.values():
            port.helper_killed = True
        return self.kill(pids[which % len(pids)]) if pids else "none"

    def _fault(self, place, device, how, what, nth):
        rule = {"call": place, "times": 1, "nth": nth}
        if device >= 0:
            rule["device"] = BDFS[device]
        if how == "kill" or (place not in ("reset",) and not place.startswith(("driver.", "tsm."))):
            # Not what the tests themselves look at, nor tdid's own reading; nor a holder, which has an operation of its own for that.
            rule["process"] = "tdid-worker"
        if how == "errno":
            rule["errno"] = what
        elif how == "delay":
            rule["delay_ms"] = what
        elif how == "never":
            rule["delay_ms"] = STUCK_MS
        else:
            rule.update(kill="caller", when=what)
        self.rules[self.control("fault", rule=rule)["id"]] = (how, place)
        return "ok"

    def clear_faults(self):
        """No rule is left, and nobody sleeps any more."""
        if not self.rules:
            return
        for fault in self.control("faults")["faults"]:
            if fault["id"] in self.rules and fault["fired"]:
                self.fired[self.rules[fault["id"]]] = self.fired.get(self.rules[fault["id"]], 0) + 1
        for ident in self.rules:
            try:
                self.control("clear", id=ident)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
        self.rules = {}

    def _unplug(self, f):
        # A VF goes by way of its PF only.
        if f not in range(6) or BDFS[f] in self.gone or f == 4:
            return "none"
        self.gone.add(BDFS[f])
        self.watch.pulled.add(BDFS[f])
        self.control("unplug", device=BDFS[f], **{"async": True})
        return "ok"

    def present(self, bdf):
        try:
            return bool(self.client.device(bdf).get("Present"))
        except Refused:
            return False

    def _take(self, f, early=0):
        """Somebody on the host takes the function from vfio-pci, and waits until it is let go. @early: when it is open, but not attached yet."""
        for _ in range(50 if early else 0):
            try:
                if str(self.client.device(BDFS[f]).get("Custody")) in ("connect", "prepare"):
                    break
            except (Refused, Lost):
                break
            time.sleep(0.001)
        if f >= sequence.FUNCTIONS or self.host.driver(BDFS[f]) != "vfio-pci":
            return "none"

        def unbind():
            try:
                self.host.write_file("/sys/bus/pci/drivers/vfio-pci/unbind", BDFS[f])
            except (OSError, SimGone):
                pass  # it was not there any more
        thread = threading.Thread(target=unbind, daemon=True)
        thread.start()
        # A moment, in which it is asked for at least: what the host does is nobody's answer.
        thread.join(0.02)
        return "ok"

    def plug(self):
        """All that was pulled out is back."""
        # tdid has to have heard that it went: what it knows before is the one that is no more.
        for bdf in sorted(self.gone):
            eventually(lambda bdf=bdf: not self.present(bdf), f"tdid knows that {bdf} has gone", PATIENCE)
        for bdf in sorted(self.gone):
            eventually(lambda bdf=bdf: self.control("plug", device=bdf) or True, f"{bdf} can be plugged in again", PATIENCE)
        for bdf in sorted(self.gone):
            eventually(lambda bdf=bdf: str(self.client.device(bdf).get("BDF")) == bdf, f"tdid knows {bdf} again", PATIENCE)
        self.gone.clear()

    def _aer(self, f):
        if f >= len(BDFS) or BDFS[f] in self.gone:
            return "none"
        self.watch.pulled.add(BDFS[f])
        try:
            self.control("aer", device=BDFS[f], fatal=False)
        except OSError:
            return "none"
        return "ok"

    def _tsm(self):
        try:
            if self.tsm:
                self.control("tsm-unload", name="tsm0")
            else:
                self.control("tsm-load", name="tsm0")
        except OSError as error:
            self.why = str(error)
            return "refused"
        self.tsm = not self.tsm
        return "ok"
