# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The model: who has which function and what must be refused, from the operations and their outcomes alone, without tdid's tables. Where
# something was made to go wrong, or an operation was not waited for, it knows for a while only who may have a function; when all has come to
# rest what is there must be one of these, and everybody must agree on it: tdid, its journal, the drivers, what is open, the TSM.

import collections
import time

import sequence
from kit.checks import Failure, eventually
from kit.client import Lost, Refused
from kit.daemon import processes
from world import BDFS, DSM, LIMITS, PATIENCE

ATTACHED = ("prepared", "bound", "running")
# What the property Quarantine says of functions that are on their way still.
PASSING = ("has not come back", "was handed off")
FUNCTIONS = range(sequence.FUNCTIONS)


class Vm:
    def __init__(self, hotplug, bind, awaits):
        self.hotplug, self.bind, self.awaits = bool(hotplug), bind, bool(awaits)
        self.sealed = self.kvm = self.arrived = False
        self.early = set()
        # While not calm: it may have ended for another reason than its keepers.
        self.may_end = False


class Violation(Exception):
    """Something does not hold."""


class Judge:
    def __init__(self, world):
        self.world = world
        self.vms = [None] * sequence.SLOTS
        self.owner = [None] * sequence.FUNCTIONS
        self.state = [""] * sequence.FUNCTIONS
        self.quarantined = set()
        self.calm = True
        self.disturbed = set()                         # by what, since it was last calm
        self.may_own = [set() for _ in FUNCTIONS]      # while not calm
        self.may_differ = set()                        # functions whose state is not known
        self.without_tsm = set()                       # attached while there was none, or lost their connection since
        self.left = set()                              # its VMM has hung up, which unbinds it a little later
        self.asked = set()                             # Restore was asked for since
        self.steps = self.restored = 0
        self.seen, self.since = None, 0.0
        world.calm = True

    # ---- what must be accepted, and what not ----

    def functions(self, slot):
        return [f for f in FUNCTIONS if self.owner[f] == slot]

    def keepers(self, slot):
        s = self.world.slots[slot]
        return len(s.leases) + len(s.sleepers) + sum(p.slot == slot for p in self.world.ports.values())

    def expect(self, op):
        """True: it must be accepted; a set of errors: one of these; None: nobody can say."""
        if not self.calm or "nowait" in op:
            return None
        kind = op[0].replace("-", "_")
        func = getattr(self, "_expect_" + kind, None)
        return func(*op[1:]) if func else None

    def _expect_create(self, slot, *_):
        return {"Limit"} if self.vms[slot] else True

    def _expect_attach(self, slot, early, functions, *_):
        vm = self.vms[slot]
        if not vm:
            return None
        if any(f >= sequence.FUNCTIONS for f in functions):
            # A PF whose VFs are there, or nothing at all.
            return {"InvalidArgument", "NotFound", "InUse", "InvalidState", "Limit", "Quarantined", "Exists"}
        if len(set(functions)) < len(functions):
            return {"InvalidArgument"}
        if vm.sealed and not vm.hotplug:
            return {"InvalidState", "Limit", "InUse", "InvalidArgument", "Quarantined"}
        if any(f in self.quarantined for f in functions):
            return {"Quarantined", "InUse", "InvalidArgument", "Limit", "Busy"}
        if any(self.owner[f] is not None for f in functions):
            return {"InUse", "Exists", "InvalidArgument", "Limit", "Busy", "Quarantined"}
        if any(set(sequence.GROUP.get(f, ())) - set(functions) for f in functions):
            return {"InvalidArgument", "Limit", "Busy", "InUse", "Quarantined"}
        # Nobody gets a position to reset what is bound.
        if any(self.state[g] in ("bound", "running") and self.dsm_function(g) in functions for g in FUNCTIONS):
            return {"InUse", "Limit"}
        if len(functions) + len(self.functions(slot)) > LIMITS["functions"]:
            return {"Limit"}
        # A DSM and what it speaks for depend on each other: see _expect_bind().
        return None if early or vm.bind == "early" or self.quarantined else True

    def _expect_seal(self, slot):
        vm = self.vms[slot]
        if not vm:
            return None
        return {"InvalidState"} if vm.sealed else None if vm.early or vm.bind == "early" else True

    def _expect_kvm(self, slot):
        # With a VMM at its sockets tdid may have found one already.
        return True if self.vms[slot] and not self.vms[slot].kvm and not self.vms[slot].arrived else None

    def _expect_bind(self, f):
        slot = self.owner[f] if f < sequence.FUNCTIONS else None
        if slot is None:
            return {"NotFound", "org.freedesktop.DBus.Error.UnknownObject"}
        vm = self.vms[slot]
        if f not in sequence.BINDABLE:
            return {"InvalidState", "NotSupported"}
        if f in self.left or self._binds_itself(f) or (vm.arrived and not vm.kvm):
            # It may be on its way already, and tdid may have found the KVM VM of a VMM at the sockets.
            return None
        if self.state[f] not in ATTACHED or not vm.sealed or not vm.kvm or self.state[f] != "prepared":
            return {"InvalidState", "NotSupported", "Busy"}
        if not self.world.tsm:
            return {"InvalidState", "NotSupported"}
        dsm = self.dsm_function(f)
        if dsm is not None and dsm != f and self.owner[dsm] is not None and (self.owner[dsm] != slot or self.state[dsm] == "prepared"):
            return {"InvalidState", "InUse", "Busy"}
        return None if f in self.without_tsm or self.quarantined else True

    def _binds_itself(self, f):
        vm = self.vms[self.owner[f]]
        return vm.bind == "early" or f in vm.early

    @staticmethod
    def dsm_function(f):
        bdf = DSM.get(BDFS[f])
        return BDFS.index(bdf) if bdf in BDFS[:sequence.FUNCTIONS] else None

    def _expect_unbind(self, f):
        if f >= sequence.FUNCTIONS or self.owner[f] is None:
            return {"NotFound", "org.freedesktop.DBus.Error.UnknownObject"}
        if f in self.left or self._binds_itself(f):
            return None
        return True if self.state[f] in ("bound", "running") else {"InvalidState"}

    def _expect_detach(self, f, *_):
        if f >= sequence.FUNCTIONS or self.owner[f] is None:
            return {"NotFound", "org.freedesktop.DBus.Error.UnknownObject"}
        return None if self.quarantined & set(sequence.GROUP.get(f, (f,))) else True

    def _expect_hold(self, slot, count):
        vm = self.vms[slot]
        return None if not vm else True if self.keepers(slot) + count <= LIMITS["keepers"] else None

    def _expect_destroy(self, slot, *_):
        # One that leaves a quarantined function behind says so.
        return None if not self.vms[slot] or self.quarantined & set(self.functions(slot)) else True

    _expect_abandon = _expect_destroy

    def _expect_restore(self, f):
        return True if f in FUNCTIONS and f in self.quarantined else None

    def _expect_export(self, f, page, pages, importer):
        if f not in FUNCTIONS or self.owner[f] is None:
            return None
        if importer == "gpu":
            return {"ClassMismatch"}
        if self.state[f] not in ATTACHED:
            return {"InvalidState"}
        # Beyond its BAR or the limit of exports.
        return None

    # ---- what an operation changes ----

    def before(self, op):
        """What holds for certain may change from here on."""
        kind = op[0]
        if kind in sequence.DISTURBING or "nowait" in op:
            self._disturb(kind)
        if self.calm:
            return
        if kind == "attach" and self.vms[op[1]]:
            for f in op[3]:
                if f in FUNCTIONS:
                    self.may_own[f].add(op[1])
        elif kind == "detach" and op[1] in FUNCTIONS:
            for g in sequence.GROUP.get(op[1], (op[1],)):
                self._may_go(g)
        elif kind in ("bind", "unbind", "request", "seal", "kvm", "connect", "disconnect"):
            self.may_differ |= set(FUNCTIONS)
        elif kind in ("destroy", "abandon", "kill-holder") and self.vms[op[1]]:
            self._may_end(op[1])
        elif kind in ("unplug", "take") and op[1] in FUNCTIONS:
            for g in sequence.GROUP.get(op[1], (op[1],)):
                self._may_go(g)
            # A DSM that goes takes what is bound under it along.
            self.may_differ |= set(FUNCTIONS)
        elif kind in ("aer", "tsm", "restore", "reset"):
            self.may_differ |= set(FUNCTIONS)
            if kind == "tsm":
                self.without_tsm |= set(sequence.BINDABLE)
                # tdid hears of it a little later.
                self.left |= set(sequence.BINDABLE)
            elif kind == "aer":
                # All behind the port hear of it, and are unbound when they do.
                self.left |= {g for g in FUNCTIONS if BDFS[g][:8] == BDFS[op[1]][:8]}
        elif kind == "fault" and op[3] in ("kill", "never"):
            self.may_differ |= set(FUNCTIONS)
        if kind == "restore" and op[1] in FUNCTIONS:
            self._may_go(op[1])
        if "fault" in self.disturbed or "kill-worker" in self.disturbed:
            self.may_differ |= set(FUNCTIONS)

    def _disturb(self, kind):
        if self.calm:
            self.calm = self.world.calm = False
            self.may_own = [{self.owner[f]} for f in FUNCTIONS]
        self.disturbed.add(kind)

    def _may_go(self, f):
        self.may_own[f].add(None)
        self.may_differ.add(f)

    def _may_end(self, slot):
        self.vms[slot].may_end = True
        for f in FUNCTIONS:
            if slot in self.may_own[f]:
                self._may_go(f)

    def after(self, op, outcome):
        """Judges the outcome and notes what has changed."""
        kind, why = op[0], self.world.why
        wanted = self.expected
        if outcome != "none" and wanted is not None:
            if wanted is True and outcome not in ("ok",):
                raise Violation(f"{op} must be accepted, and ended with {outcome}: {why}")
            if wanted is not True and outcome not in wanted:
                raise Violation(f"{op} must be refused with one of {sorted(wanted)}, and ended with {outcome}: {why}")
        if outcome == "lost" and self.calm:
            raise Violation(f"{op}: tdid has ended")
        if outcome == "Kernel" and self.calm and kind != "request" and not (kind == "bind" and op[1] in self.without_tsm):
            raise Violation(f"{op}: nothing is wrong with the kernel, and tdid says: {why}")
        if kind == "create" and outcome == "ok" and self.world.slots[op[1]] and not self.vms[op[1]]:
            self.vms[op[1]] = Vm(op[3], op[2], op[4])
        elif kind == "vpci" and outcome != "none":
            # Even one that is hung up on was there.
            port = self.world.ports.get(op[1])
            for vm in self.vms if not port else [self.vms[port.slot]]:
                if vm:
                    vm.arrived = True
        elif kind == "restore" and outcome != "none":
            self.asked.add(BDFS[op[1]])
        elif kind == "request" and op[1] in FUNCTIONS:
            # Who passed it on tells tdid of the state that followed, a little later than the guest.
            self.left.add(op[1])
        slot = op[1] if len(op) > 1 and isinstance(op[1], int) and op[1] < sequence.SLOTS else None
        if outcome == "ok":
            self._accepted(kind, op, slot)
        self._ends(kind)

    def _accepted(self, kind, op, slot):
        vm = self.vms[slot] if slot is not None else None
        if kind == "seal" and vm:
            vm.sealed = True
            self._refresh(self.functions(slot))
        elif kind == "kvm" and vm:
            vm.kvm = True
            self._refresh(self.functions(slot))
        elif kind == "vpci-close":
            # What a DSM speaks for is unbound with it.
            self.left |= {op[1], *(g for g in FUNCTIONS if self.dsm_function(g) == op[1])}
        elif kind == "pidfd" and vm:
            vm.arrived = True
        elif kind == "attach" and vm:
            if op[2]:
                vm.early |= set(op[3])
            if self.calm:
                for f in op[3]:
                    self.owner[f], self.state[f] = slot, "prepared"
                    self.without_tsm -= {f} if self.world.tsm else set()
                    self.without_tsm |= set() if self.world.tsm else {f}
                # One that is early is bound by itself where that can be.
                if vm.sealed:
                    self._refresh(op[3])
        elif kind == "detach" and self.calm:
            for g in sequence.GROUP.get(op[1], (op[1],)):
                self.owner[g], self.state[g] = None, ""
            self._refresh(FUNCTIONS)
        elif kind in ("bind", "unbind") and self.calm:
            self.state[op[1]] = "bound" if kind == "bind" else "prepared"
            if op[1] == 4:
                # What it speaks for loses its TDI with it.
                self._refresh((4, 5))
        elif kind == "disconnect":
            # Whoever was connected by it cannot be bound until somebody connects it again.
            self.without_tsm |= {f for f in FUNCTIONS if DSM.get(BDFS[f]) == BDFS[op[1]]}
            self._refresh(FUNCTIONS)
        elif kind in ("request", "connect", "reset") and self.calm:
            self._refresh(FUNCTIONS)
        elif kind == "restore" and self.calm:
            self.look_at_quarantine()
            self._refresh(FUNCTIONS)

    def _refresh(self, functions):
        """States that follow from more than this model knows are read again; that they are possible is the watch's business. Not while something is wrong:
        one that is quarantined then does not come to rest, and settle() sees to that."""
        if not self.calm:
            return
        for f in functions:
            if self.owner[f] is not None and f not in self.quarantined:
                self.state[f] = self._state(f)
                if self.state[f] not in (*ATTACHED, "failed"):
                    self.state[f] = eventually(lambda f=f: (s := self._state(f)) in (*ATTACHED, "failed", "") and (s or "gone"), f"{BDFS[f]} comes to rest", PATIENCE)

    def _state(self, f):
        try:
            return self.world.tdi(f).state()
        except Refused:
            return ""

    def _ends(self, kind):
        """A keeper has gone, or its owner wants a VM to go: those that have to are waited for."""
        self.world.drop_lost_ports()
        for slot in range(sequence.SLOTS):
            s, vm = self.world.slots[slot], self.vms[slot]
            if not s or not vm:
                continue
            if not self.calm:
                if self.keepers(slot) == 0:
                    self._may_end(slot)
                continue
            if kind in ("destroy", "abandon") and not self._alive(slot):
                self._gone(slot)
            elif self.keepers(slot) == 0:
                if not vm.awaits or vm.arrived:
                    self._wait_gone(slot)
                else:
                    self._disturb("await")
                    self._may_end(slot)

    def _alive(self, slot):
        return self.world.slots[slot].vm.alive()

    def _wait_gone(self, slot):
        eventually(lambda: not self._alive(slot), f"the VM of slot {slot} has no keeper, and ends", PATIENCE)
        self._gone(slot)

    def _gone(self, slot):
        self.vms[slot] = None
        left = self.functions(slot)
        for f in left:
            self.owner[f], self.state[f] = None, ""
        self.world.forget(slot)

    # ---- what must hold ----

    def check(self, op):
        """After each operation."""
        self.steps += 1
        self._look()
        for bdf, reason in self.world.watch.restored:
            # One that its TSM refused to unbind is asked again by itself.
            if bdf not in self.asked and "unbind" not in reason and "unbound" not in reason and "let go" not in reason:
                raise Violation(f"{bdf} has left quarantine, and nobody asked for that: {reason}")
            self.asked.discard(bdf)
        self.world.watch.restored.clear()
        if not self.world.daemon.alive():
            if self.calm:
                raise Violation("tdid has ended")
            self.world.daemon.wait_exit()
            self.world.start()
        if self.calm:
            self._agree(FUNCTIONS if self.steps % 16 == 0 else [f for f in self._touched(op) if f in FUNCTIONS])

    def _touched(self, op):
        if op[0] == "attach":
            return op[3]
        if op[0] in ("bind", "unbind", "detach", "restore", "vpci", "export"):
            return sequence.GROUP.get(op[1], (op[1],))
        return ()

    def _agree(self, functions):
        """The same, where some are bound, or unbound, by themselves when that becomes possible: they may be on their way."""
        early = [f for f in FUNCTIONS if self.owner[f] is not None and (self._binds_itself(f) or f in self.left)]
        until = time.monotonic() + 10
        while early:
            try:
                self._refresh(early)
                self._agree_now(functions)
                return
            except Violation:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.01)
        self._agree_now(functions)

    def _agree_now(self, functions):
        """tdid says of these what the model says, and the kernel does what tdid says."""
        if not functions:
            return
        if self.quarantined:
            before = set(self.quarantined)
            self.look_at_quarantine()
            if before != self.quarantined:
                # Tried again by itself; whether it may be is the watch's business.
                self._disturb("quarantine")
                for f in before - self.quarantined:
                    self._may_go(f)
                return
        host = self.world.host
        for f in functions:
            bdf, slot = BDFS[f], self.owner[f]
            if bdf in self.world.gone:
                continue
            props = self.world.client.device(bdf).props()
            wanted = self.world.slots[slot].vm.path if slot is not None else ""
            if str(props["VM"]) != wanted and f not in self.quarantined:
                raise Violation(f"{bdf} is of VM {str(props['VM'])!r}, and must be of {wanted!r}")
            if bool(str(props["Quarantine"])) != (f in self.quarantined):
                raise Violation(f"{bdf} is quarantined: {str(props['Quarantine'])!r}, and must {'' if f in self.quarantined else 'not '}be")
            kernel = (host.driver(bdf), host.override(bdf), host.power_control(bdf))
            if f in self.quarantined:
                continue
            if slot is None:
                if str(props["Custody"]) != "none" or kernel != self.world.baseline[bdf]:
                    raise Violation(f"{bdf} is free, its custody is {props['Custody']}; driver, override and runtime PM are {kernel}, and were {self.world.baseline[bdf]}")
                continue
            if kernel != ("vfio-pci", "vfio-pci", "on"):
                raise Violation(f"{bdf} is held, and its driver, override and runtime PM are {kernel}")
            state = self._state(f)
            if state != self.state[f]:
                raise Violation(f"{bdf} is {state!r}, and must be {self.state[f]!r}")
        self._counts()

    def _look(self):
        if problems := self.world.watch.look():
            raise Violation("; ".join(problems[:5]))

    def _counts(self):
        self._look()
        opened = collections.Counter((x["kind"], x["device"]) for x in self.world.control("open")["open"])
        for f in FUNCTIONS:
            bdf = BDFS[f]
            if f in self.quarantined or bdf in self.world.gone:
                continue
            nodes, held = opened["vfio", bdf], self.owner[f] is not None
            if nodes != int(held) and not (self.state[f] == "failed" and nodes == 0):
                raise Violation(f"the VFIO node of {bdf} is open {nodes} times, and the function is {'held' if held else 'free'}")
            bound = bdf in self.world.watch.bound
            if bound != (self.state[f] in ("bound", "running")) and self.state[f] != "failed":
                raise Violation(f"{bdf} is {self.state[f] or 'free'}, and the TSM has it {'bound' if bound else 'not bound'}")
            if opened["bind", bdf] != int(bound):
                raise Violation(f"{opened['bind', bdf]} files of the bind provider are open for {bdf}, which is {'bound' if bound else 'not bound'}")
        vms = sum(v is not None for v in self.vms)
        if not self.quarantined and opened["iommufd", ""] != vms:
            # That of a VM that has just ended is closed last, by a worker.
            eventually(lambda: sum(x["kind"] == "iommufd" for x in self.world.control("open")["open"]) == vms, f"as many iommufds are open as there are VMs, {vms}", 10)

    # ---- coming to rest ----

    def settle(self, restore=1):
        """Whatever went wrong is over: everything comes to rest, and is one of the things that it may be."""
        self._settle()
        if self.quarantined and restore:
            self.restore_all()
            self._disturb("restore")
            for f in FUNCTIONS:
                self._may_go(f)
            self._settle()
        if self.quarantined:
            # One that its TSM refused to unbind is tried again by itself, at any time.
            self._disturb("quarantine")
            for f in self.quarantined:
                self._may_go(f)

    def restore_all(self):
        """An administrator's word, which must be enough when nothing is wrong with the host."""
        self.look_at_quarantine()
        for last in (False, True):
            for f in sorted(self.quarantined):
                if not self._quarantined(f):
                    continue
                self.asked.add(BDFS[f])
                outcome, good, _ = self.world.do(["restore", f])
                # One that only waits for another of its group is given back when that has been.
                if outcome != "ok" and last:
                    eventually(lambda f=f: not self._quarantined(f), f"{BDFS[f]} is restored: {outcome}: {self.world.why}", PATIENCE)
                self.restored += good

    def _let_go(self, f):
        """Restores it where it is quarantined; False: it is there still."""
        if self._quarantined(f):
            self.asked.add(BDFS[f])
            self._may_go(f)
            self.restored += self.world.do(["restore", f])[1]
        return False

    def _quarantined(self, f):
        try:
            return str(self.world.client.device(BDFS[f]).get("Quarantine"))
        except Refused:
            return ""

    def _settle(self):
        w = self.world
        w.clear_faults()
        if not w.daemon.alive():
            w.daemon.wait_exit()
            w.start()
        try:
            # What is pulled out is gone when tdid has let go of it, which it does not of what it quarantines before it is told to.
            for bdf in w.gone:
                eventually(lambda bdf=bdf: not w.host.files.exists(w.host.path(bdf)) or self._let_go(BDFS.index(bdf)), f"{bdf} has been pulled out", PATIENCE)
            w.plug()
            devices = eventually(self._at_rest, "everything comes to rest", PATIENCE)
        except Failure as error:
            raise Violation(str(error)) from None
        if self.calm:
            self._agree(FUNCTIONS)
            return
        self._collapse_vms()
        self._collapse_functions(devices)
        self.calm = self.world.calm = True
        self.disturbed.clear()
        self.may_differ.clear()
        w.watch.pulled.clear()
        self._look()
        self._agree(FUNCTIONS)
        self._journal()

    def _at_rest(self):
        """The properties of all functions once nothing moves; a Failure that says what moves."""
        w = self.world
        if not w.daemon.alive():
            w.daemon.wait_exit()
            w.start()
        w.drop_lost_ports()
        objects = w.client.objects()
        devices = {}
        for interfaces in objects.values():
            if "org.tdid1.Job" in interfaces and str(interfaces["org.tdid1.Job"]["State"]) in ("running", "stuck"):
                raise Failure(f"a job {interfaces['org.tdid1.Job']['Kind']} is at {interfaces['org.tdid1.Job']['Step']}")
            if "org.tdid1.VM" in interfaces and str(interfaces["org.tdid1.VM"]["Phase"]) == "closing":
                raise Failure(f"{interfaces['org.tdid1.VM']['Name']} is closing")
            if "org.tdid1.TDI" in interfaces and str(interfaces["org.tdid1.TDI"]["State"]) in ("attaching", "detaching") and \
                    not self._held_up(objects, str(interfaces["org.tdid1.TDI"]["Device"])):
                raise Failure(f"{interfaces['org.tdid1.TDI']['Device']} is {interfaces['org.tdid1.TDI']['State']}")
            if "org.tdid1.Device" in interfaces:
                device = interfaces["org.tdid1.Device"]
                devices[str(device["BDF"])] = device
                if any(mark in str(device["Quarantine"]) for mark in PASSING):
                    raise Failure(f"{device['BDF']}: {device['Quarantine']}")
                if str(device["Custody"]) != "none" and not str(device["VM"]) and not str(device["Quarantine"]):
                    raise Failure(f"{device['BDF']} is of no VM, and its custody is {device['Custody']}")
        if any("org.tdid1.TSM" in i for i in objects.values()) != w.tsm:
            raise Failure(f"tdid has not heard that the TSM has {'come' if w.tsm else 'gone'}")
        live = {str(p) for p, i in objects.items() if "org.tdid1.VM" in i}
        for slot, s in enumerate(w.slots):
            if s and s.vm.path in live and self.keepers(slot) == 0:
                raise Failure(f"{s.name} has no keeper, and lives")
        if missing := [b for b in BDFS[:sequence.FUNCTIONS] if b not in devices]:
            raise Failure(f"tdid does not know {missing}")
        if calls := w.control("open")["calls"]:
            raise Failure(f"calls are under way: {calls}")
        # One that has failed may be on its way out, for which there is no job.
        seen = sorted((str(p), str(i["org.tdid1.TDI"]["State"]), str(i.get("org.tdid1.Device", {}).get("Custody"))) for p, i in objects.items() if "org.tdid1.TDI" in i)
        if any(state == "failed" for _, state, _ in seen) and (seen != self.seen or time.monotonic() < self.since + 0.3):
            if seen != self.seen:
                self.seen, self.since = seen, time.monotonic()
            raise Failure("a function has failed, and may be given back")
        return devices

    @staticmethod
    def _held_up(objects, path):
        """Quarantined, as its VM shows it: nothing happens to it before somebody asks."""
        return str(objects.get(path, {}).get("org.tdid1.Device", {}).get("Quarantine", "")) != ""

    def _collapse_vms(self):
        for slot, vm in enumerate(self.vms):
            if not vm:
                if self.world.slots[slot]:
                    raise Violation(f"slot {slot} has a VM that nobody made")
                continue
            if self._alive(slot):
                if vm.may_end and not self.keepers(slot):
                    raise Violation(f"the VM of slot {slot} has no keeper, and lives")
                # A destroy may have been refused, or lost with its tdid.
                vm.may_end = False
                phase = self.world.slots[slot].vm.phase()
                vm.sealed = phase in ("sealed", "running")
                vm.kvm = bool(self.world.slots[slot].vm.describe()["kvm"])
                continue
            if not vm.may_end and self.keepers(slot):
                raise Violation(f"the VM of slot {slot} is gone, and has {self.keepers(slot)} keepers; since: {sorted(self.disturbed)}")
            for f in FUNCTIONS:
                if slot in self.may_own[f]:
                    self.may_own[f].add(None)
            self.vms[slot] = None
            self.world.forget(slot)

    def _collapse_functions(self, devices):
        paths = {s.vm.path: slot for slot, s in enumerate(self.world.slots) if s}
        self.look_at_quarantine(devices)
        for f in FUNCTIONS:
            bdf = BDFS[f]
            if bdf not in devices:
                raise Violation(f"tdid does not know {bdf}")
            path = str(devices[bdf]["VM"])
            owner = paths.get(path) if path else None
            if path and owner is None:
                raise Violation(f"{bdf} is of {path}, which is no VM")
            state = self._state(f) if owner is not None else ""
            if owner not in self.may_own[f] and f not in self.quarantined:
                raise Violation(f"{bdf} is of slot {owner}, and may be of {sorted(map(str, self.may_own[f]))} only; since: {sorted(self.disturbed)}")
            moves = owner is not None and (f in self.left or self._binds_itself(f)) if owner == self.owner[f] else False
            if owner == self.owner[f] and f not in self.may_differ and not moves and state != self.state[f]:
                raise Violation(f"{bdf} is {state!r}, and must be {self.state[f]!r}; since: {sorted(self.disturbed)}")
            if owner != self.owner[f] and owner is not None:
                self.without_tsm.add(f)
            self.owner[f], self.state[f] = owner, state

    def look_at_quarantine(self, devices=None):
        now = {f for f in FUNCTIONS if str((devices[BDFS[f]] if devices else self.world.client.device(BDFS[f]).props()).get("Quarantine", ""))}
        new = now - self.quarantined
        if new and not self.disturbed & {"fault", "unplug", "take", "kill-holder", "kill-worker", "kill-tdid", "aer", "tsm"}:
            raise Violation(f"{[BDFS[f] for f in new]} is quarantined, and nothing went wrong")
        self.quarantined = now

    def _journal(self):
        """Whatever is in custody is in the journal, and nothing else."""
        named = {n[:-len(".json")].replace("_", ":", 2).replace("_", ".") for n in self.world.daemon.journals()}
        held = {BDFS[f] for f in FUNCTIONS if self.owner[f] is not None or f in self.quarantined}
        if named != held:
            raise Violation(f"the journal names {sorted(named)}, and in custody are {sorted(held)}")

    def end(self):
        """The end of a round: everything is given up, and the host is as before."""
        w = self.world
        if not w.tsm:
            w.do(["tsm"])
            self._disturb("tsm")
        for f in list(w.ports):
            w.ports.pop(f).close()
        for slot in range(sequence.SLOTS):
            if self.vms[slot]:
                w.do(["abandon", slot])
                self._disturb("abandon")
                self._may_end(slot)
        self.settle()
        for slot in range(sequence.SLOTS):
            if self.vms[slot]:
                raise Violation(f"the VM of slot {slot} was destroyed, and lives")
        self.restore_all()
        self.quarantined = set()
        try:
            eventually(lambda: not processes("tdid-vm"), "end of all holders", PATIENCE)
            eventually(lambda: not w.daemon.leftovers(), "an empty state folder", 10)
            eventually(lambda: w.snapshot() == w.baseline, "drivers, overrides and runtime PM are as before", 10)
            eventually(lambda: not [x for x in w.control("open")["open"] if x["kind"] not in ("uevents",)], "nothing is open", 10)
        except Failure as error:
            raise Violation(f"{error}; left: {w.daemon.leftovers()}; open: {w.control('open')['open']}") from None
        self.owner = [None] * sequence.FUNCTIONS
        self.state = [""] * sequence.FUNCTIONS
        self._agree(FUNCTIONS)
        self._journal()
        self.left.clear()
        # A connect by Device.Connect stays until it is taken back.
        for bdf in sorted(w.watch.connected):
            w.calls(lambda bdf=bdf: w.client.device(bdf).disconnect())
        self.without_tsm.clear()
        w.worker_killed = False
