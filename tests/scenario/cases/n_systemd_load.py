# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tdid ends and comes back, in every way that it may, while a client does MMIO, DMA and interrupts, another function of the VM is bound as a TDI, and an
# importer has a dma-buf of a BAR mapped: nobody but the journal notices.

import os
import shutil
import signal
import threading
import time

from cases.n_systemd import drop_in, unit_scenario
from cases.t_dmabuf import set_memory
from kit.checks import Failure, check, equal, eventually
from kit.daemon import Unit
from kit.vfio_user import DATA_EVENTFD, MSI, TRIGGER
from kit.vmm import Edu, Event, Ram, connect

IOVA = 0x8000000
SIZE = 1 << 20
LIBEXEC = "/usr/libexec/tdid"
PROGRAMS = ("tdid", "tdid-vm", "tdid-worker")
# Of the VM's description: what an end of tdid must not change.
LASTING = ("id", "name", "uuid", "phase", "owner_uid", "vmm_uid", "vmm_gid", "limits", "holder", "keepers", "dmabufs")
RID = 0x100
NEEDS = ("programs", "bind_module", "kvm", "importer")
BAR_SIZE = 1 << 20
TRACING = "/sys/kernel/tracing"
# Whatever resets a function of vfio-pci's, or closes one, goes through one of these.
RESETS = ("pci_try_reset_function", "__pci_reset_function_locked", "pci_reset_bus", "vfio_pci_core_close_device", "vfio_pci_core_enable")


class Client(threading.Thread):
    """A guest's driver that never rests. What it says in the end is that each interrupt came and each byte arrived."""

    def __init__(self, t, vm, bdf):
        super().__init__(daemon=True)
        self.memory, self.irq = Ram(SIZE), Event()
        self.client = connect(t, vm, bdf)
        self.client.dma_map(IOVA, SIZE, self.memory.fd)
        self.client.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[self.irq.fd])
        self.edu = Edu(self.client)
        self.edu.alive()
        self.edu.acknowledge()
        self.irq.wait(0)
        self.rounds, self.error, self.ending = 0, None, threading.Event()
        t.defer(self.end)
        self.start()

    def one_round(self):
        check(self.edu.round_trip(self.memory, IOVA, seed=self.rounds), "DMA did not arrive")
        equal(self.edu.factorial(5, interrupt=True), 120, "factorial of 5")
        equal(self.irq.wait(30), 1, "interrupts of a factorial")
        equal(self.edu.acknowledge(), 1, "which interrupt it was")

    def run(self):
        try:
            while not self.ending.is_set():
                self.one_round()
                self.rounds += 1
        except Exception as error:  # noqa: BLE001 - told in check()
            self.error = error

    def check(self):
        """It goes on, and nothing has been lost so far."""
        before = self.rounds
        eventually(lambda: self.error or self.rounds >= before + 2, "the client goes on", 60)
        if self.error:
            raise Failure(f"the client after {self.rounds} rounds: {self.error}")

    def end(self):
        self.ending.set()
        self.join(60)


class Resets:
    """Counts resets, opens and closes of functions in the kernel."""

    def __init__(self, t):
        t.after(self.remove)
        for name in RESETS:
            self.tell(f"p:tdid_scenario/{name} {name}")
        self.enable(1)

    @staticmethod
    def tell(line):
        """Adds or removes a probe; what is there stays, and a buffered file would ask for its end, which this one has not."""
        fd = os.open(TRACING + "/kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)

    @staticmethod
    def enable(on):
        with open(TRACING + "/events/tdid_scenario/enable", "w", encoding="ascii") as file:
            file.write(str(on))

    def remove(self):
        self.enable(0)
        for name in RESETS:
            self.tell(f"-:tdid_scenario/{name}")

    @staticmethod
    def count():
        with open(TRACING + "/kprobe_profile", encoding="ascii") as file:
            return {fields[0]: int(fields[1]) for fields in map(str.split, file) if fields[0] in RESETS}


def lasting(vm):
    doc = vm.describe()
    return {key: doc.get(key) for key in LASTING} | {"tdis": [(i["bdf"], i["state"]) for i in doc["tdis"]]}


def journals(t):
    texts = {}
    for name in t.unit.journals():
        with open(os.path.join(Unit.state, "journal", name), encoding="utf-8") as file:
            texts[name] = file.read()
    return texts


class Imported:
    """A dma-buf of a function's BAR, which somebody who can take its end has mapped for another device."""

    def __init__(self, t, bdf, other):
        self.dmabuf = t.client.tdi(bdf).export(0, 0, BAR_SIZE)
        t.defer(self.dmabuf.close)
        self.importer = t.load_importer().attach(self.dmabuf.fd, "revocable", other)
        self.importer.map()

    def look(self):
        state = self.importer.state()
        return state.mapped, state.notified, state.length, self.dmabuf.events(timeout=0)

    def revoke(self, client):
        """The guest switches the function's memory off and on: each time the importer is told, and so is who has the eventfd."""
        set_memory(client, False)
        equal(self.importer.state().notified, 1, "how often the importer was told of a revoke")
        equal(self.importer.try_map(), "ENODEV", "mapping what is revoked")
        equal(self.dmabuf.events(1), 1, "how often the eventfd rang")
        set_memory(client, True)
        equal(self.dmabuf.events(1), 1, "how often the eventfd rang")
        self.importer.map()
        equal(self.importer.state().mapped, True, "mapped once more")


class Held:
    """A VM with a busy client, a bound TDI and a dma-buf, and what of it has to be as it was."""

    def __init__(self, t, bdf):
        self.t = t
        self.resets = Resets(t)
        t.load_bind_module()
        self.bdf, self.bound = bdf, t.host.bdf("igb-vf")
        self.vm = t.vm("busy", bind="late")
        self.vm.attach((bdf, {"guest_rid": RID}), (self.bound, {"guest_rid": RID + 1}))
        kvm = t.host.kvm_vm()
        self.vm.set_kvm(kvm)
        t.host.close(kvm)
        self.vm.seal()
        t.client.tdi(self.bound).bind()
        self.client = Client(t, self.vm, bdf)
        set_memory(self.client.client, True)
        self.imported = Imported(t, bdf, self.bound)
        eventually(lambda: self.vm.describe()["peer"]["kvm"], "the peer is known")
        self.client.check()
        self.fds = t.host.descriptors(self.vm.holder_pid())
        self.before = self.look()
        check(self.before[2]["vfio_pci_core_enable"] >= 2, "the probes do not see functions being opened")
        equal(self.before[3], (True, 0, BAR_SIZE, 0), "what the importer has")
        equal(self.before[4], (t.tsm_name, [1, 1, 0, 0]), "the TSM's TDI and calls")
        equal(sorted(state for _, state in self.before[0]["tdis"]), ["bound", "prepared"], "states of the functions")
        check(self.before[0]["dmabufs"], "the description has no dma-buf")

    def look(self):
        t = self.t
        return (lasting(self.vm), journals(t), self.resets.count(), self.imported.look(),
                (t.host.tsm_bound(self.bound), [t.tsm.count(op) for op in ("connect", "bind", "unbind", "disconnect")]))

    def check(self):
        self.client.check()
        for now, before, what in zip(self.look(), self.before, ("the VM's description", "journals", "resets, opens and closes", "what the importer has", "the TSM's TDI and calls")):
            equal(now, before, what)
        check(not self.vm.lease.hung_up(), "the lease has ended")

    def end(self):
        """Nor have descriptors come or gone, once everybody rests."""
        self.client.end()
        self.t.quiet()
        equal(self.t.host.descriptors(self.vm.holder_pid()), self.fds, "descriptors of the holder")
        self.imported.revoke(self.client.client)
        self.vm.lease.close()
        self.client.client.close()
        self.t.gone(self.vm)
        self.t.free(self.bdf, self.bound)
        self.t.unchanged(self.bdf)
        equal([self.t.tsm.count(op) for op in ("connect", "bind", "unbind", "disconnect")], [1] * 4, "calls of the TSM in the end")


@unit_scenario("edu", "igb-vf", tsm=("igb",), needs=NEEDS, timeout=3600)
def load_killed(t):
    """SIGKILL at random points, many of them while it starts; the seed is printed."""
    t.unit.start()
    held, slowest = Held(t, t.host.bdf("edu")), 0
    for _ in range(50 if t.full else 8):
        time.sleep(t.rng.choice((0, 0.2, 1, 2)) * t.rng.random())
        old = t.unit.pid
        if old:
            os.kill(old, signal.SIGKILL)
        if t.rng.random() < 0.5:
            slowest = max(slowest, t.unit.wait_new(old))
            held.check()
    t.unit.wait_new(0)
    t.value("slowest_seconds_to_name", f"{slowest:.2f}")
    t.value("rounds", held.client.rounds)
    held.check()
    held.end()


@unit_scenario("edu:2", "igb-vf", tsm=("igb",), needs=NEEDS, timeout=900, tags=("full",))
def load_killed_at_work(t):
    """SIGKILL while another VM's function is being attached: that is whole afterwards, or given back; the busy one does not notice."""
    busy, other = t.host.bdfs("edu", 2)
    t.unit.start()
    held = Held(t, busy)
    for i in range(12 if t.full else 2):
        vm = t.vm(f"other-{i}")
        vm.attach(other, async_=True)
        time.sleep(t.rng.random() * 0.6)
        old = t.unit.pid
        os.kill(old, signal.SIGKILL)
        t.unit.wait_new(old)
        custody = eventually(lambda: (c := t.device(other).text("Custody")) in ("none", "prepare") and c, "what was attached is settled", 60)
        t.note(f"killed in the attach: {custody}")
        if custody == "prepare":
            t.attached(vm, other)
        vm.lease.close()
        t.gone(vm)
        t.free(other)
        held.client.check()
    held.before = held.look()
    held.check()
    held.end()


@unit_scenario("edu", "igb-vf", tsm=("igb",), needs=NEEDS, timeout=900)
def load_restarted(t):
    """`systemctl restart`, a bare SIGTERM, the watchdog, and an upgrade to programs of another version."""
    drop_in(t, "WatchdogSec=5s")
    t.unit.start()
    held = Held(t, t.host.bdf("edu"))

    def again(what, do, timeout=120):
        old = t.unit.pid
        do(old)
        t.value(f"seconds_to_name_{what}", f"{t.unit.wait_new(old, timeout):.2f}")
        held.check()
    again("restart", lambda _: t.unit.systemctl("restart", t.unit.name))
    again("sigterm", lambda old: os.kill(old, signal.SIGTERM))
    restarts = int(t.unit.show("NRestarts"))
    again("watchdog", lambda old: os.kill(old, signal.SIGSTOP))
    check(int(t.unit.show("NRestarts")) > restarts, "systemd did not restart it by itself")

    def upgrade(_):
        for name in PROGRAMS:
            path = os.path.join(LIBEXEC, name)
            with open(path, "rb") as file:
                text = file.read()
            old, new = version.encode() + b"\0", ("9" + version[1:]).encode() + b"\0"
            check(name != "tdid" or old in text, "the program does not have its version")
            shutil.copy2(path, path + ".old")
            t.after(lambda path=path: os.rename(path + ".old", path))
            with open(path + ".new", "wb") as file:
                file.write(text.replace(old, new))
            shutil.copymode(path, path + ".new")
            os.rename(path + ".new", path)
        t.unit.systemctl("restart", t.unit.name)
    version = str(t.client.get("/org/tdid1", "Manager", "Version"))
    again("upgrade", upgrade)
    equal(str(t.client.get("/org/tdid1", "Manager", "Version")), "9" + version[1:], "the version after the upgrade")
    held.end()
