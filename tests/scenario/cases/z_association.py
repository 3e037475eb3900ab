# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A VM's functions and its KVM: what is said, and refused, where KVM does not know them; and how a VMM that uses libtdi makes them known.

import errno
import os
import socket
import struct
import subprocess
import threading

from cases.q_order import calls, first, in_order, last
from cases.w_platform import FUNCTION, Other
from kit.checks import check, contains, equal, eventually
from kit.client import Client, Lost, Refused, refused
from kit.daemon import die_with_us
from kit.registry import scenario
from kit.vmm import Vmm

SECOND = "0000:01:00.1"
DEVICE = "anon_inode:kvm-vfio"
MESSAGE = struct.Struct("=IIIiI20s")
ASK, READY, ADD, DEL, DONE = range(1, 6)


class Associating:
    """A VMM with a KVM VM that answers by libtdi (tests/vm/programs/associate.c)."""

    def __init__(self, t, spec=None):
        self.process = subprocess.Popen([os.path.join(t.paths.programs, "associate"), "--host=" + (spec or t.host.spec)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        self.pid = self.process.pid
        t.defer(self.end)

    def ask(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def tell(self, words):
        equal(self.ask(words), "0", words)

    def open(self, vm):
        """The channel of a VM, which nobody else has then."""
        fd = channel(vm)
        self.tell(f"channel {os.getpid()} {fd}")
        os.close(fd)

    def served(self, count, result=1):
        """So many requests, and no descriptor of theirs in its table, no signal gone astray."""
        equal(self.ask("seen"), f"{count} {result} 0 0 0", "what the VMM has seen")

    def has_none(self):
        """The VM has no kvm-vfio device: the VMM can make one."""
        eventually(lambda: self.ask("own") == "0", "the kvm-vfio device has gone")
        self.tell("disown")

    def end(self):
        self.process.kill()
        self.process.wait()


def channel(vm):
    return vm.call("OpenAssociation").take()


def allow(t, deadline=20, **more):
    """Starts tdid with a configuration that allows it; what starts another one with the same."""
    arguments = t.configured({"policy": {"associate_kvm": True}, "deadlines": {"associate": deadline, **more}})

    def start(env=None):
        t.daemon.start(env, arguments=arguments)
    start()
    return start


def again(t, start):
    t.daemon.kill()
    start()


def devices(t, vm):
    """How many kvm-vfio devices the holder has."""
    folder = f"/proc/{vm.holder_pid()}/fd"
    found = 0
    for name in os.listdir(folder):
        try:
            found += t.host.canonical(os.readlink(os.path.join(folder, name))) == DEVICE
        except FileNotFoundError:
            continue
    return found


def associated(vm):
    return {x["bdf"]: x["kvm_association"] for x in vm.describe()["tdis"]}


def describe(vm, bdf):
    return next(x for x in vm.describe()["tdis"] if x["bdf"] == bdf)


def machine(t, name, config=None):
    """One with a function whose IOMMU can enforce coherency, and FUNCTION, whose cannot; and a client of its tdid."""
    other = Other(t, name, "plain", functions=[
        {"bdf": FUNCTION, "model": "edu", "flr": True, "group": "a", "no_coherency": True},
        {"bdf": SECOND, "model": "edu", "flr": True, "group": "b"}], config=config)
    client = Client(other.bus.address)
    t.defer(client.close)
    return other, client


@scenario("edu", tags=("quick",))
def association_none(t):
    """What KVM does not know, and what follows, is said of each VM; of each function, that its IOMMU keeps its DMA coherent."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    contains(vm.describe()["kvm_association"], "none: KVM does not know", "what is said")
    vm.attach(bdf)
    doc = describe(vm, bdf)
    equal((doc["kvm_association"], doc["coherent"]), ("none", True), "association, and coherency")
    t.daemon.restart()
    equal(describe(vm, bdf)["coherent"], True, "coherency after a restart")
    contains(t.tdictl("vm", "show", str(vm.get("Name"))).out, "none: KVM does not know", "vm show")


@scenario(needs=("machines",), tags=("quick",))
def coherency_refused(t):
    """A function whose IOMMU cannot make its DMA snoop the caches is refused, and all that were to come with it."""
    _, client = machine(t, "other")
    vm = client.create_vm("vm")
    for functions in ((FUNCTION,), (SECOND, FUNCTION)):
        text = refused("NotSupported", vm.attach, *functions)
        contains(text, "snoop", "what is missing")
        contains(text, FUNCTION, "of which function")
        equal(vm.describe()["tdis"], [], "functions of the VM")
    equal([str(client.device(b).get("Custody")) for b in (FUNCTION, SECOND)], ["none", "none"], "custody")
    vm.attach(SECOND)
    check(describe(vm, SECOND)["coherent"], "the other function is coherent")
    vm.lease.close()


@scenario("edu:2", needs=("kvm", "programs"), start=False, tags=("quick",))
def association_made(t):
    """Functions are made known to KVM one by one, through a process beside the VMM; and unknown again with the VMM's help, or with the last of them."""
    one, two = t.host.bdfs("edu", 2)
    start = allow(t)
    vmm, vm = Associating(t), t.vm()
    vmm.open(vm)
    vm.attach(one)
    equal((associated(vm), devices(t, vm)), ({one: "associated"}, 1), "association, and kvm-vfio devices of the holder")
    vmm.served(1)
    equal(vmm.ask("own"), str(-errno.EBUSY), "a second kvm-vfio device of the VM")
    text = vm.describe()["kvm_association"]
    for words in ("trusted", "KVM knows 1 of 1", "answers for further ones"):
        contains(text, words, "what is said")
    again(t, start)
    vm.attach(two)
    vmm.served(2)
    equal((associated(vm), devices(t, vm)), ({one: "associated", two: "associated"}, 1), "association of two, and kvm-vfio devices")
    t.client.tdi(one).detach()
    vmm.served(3)
    t.free(one)
    t.unchanged(one)
    equal((associated(vm), devices(t, vm)), ({two: "associated"}, 1), "association, and kvm-vfio devices of the holder")
    t.dma(vm, two)
    # Nobody is asked for the last one.
    vmm.tell("channel -")
    t.client.tdi(two).detach()
    t.free(two)
    vmm.served(3)
    equal(devices(t, vm), 0, "kvm-vfio devices of the holder")
    vmm.has_none()
    contains(refused("InvalidState", vm.attach, one), "OpenAssociation", "what the VMM has to do")
    vmm.open(vm)
    vmm.tell("own")
    text = refused("Kernel", vm.attach, one)
    contains(text, "EBUSY", "what the VMM's kernel said")
    contains(text, "kvm-vfio", "what is wrong")
    t.unchanged(one, two)
    vmm.tell("disown")
    vm.attach(one, two)
    equal((associated(vm), devices(t, vm)), ({one: "associated", two: "associated"}, 1), "association of both at once, and kvm-vfio devices")
    vm.lease.close()
    t.gone(vm)
    t.free(one, two)
    vmm.has_none()


@scenario("edu:2", needs=("kvm", "programs"), start=False, tags=("quick",))
def association_refused(t):
    """Default deny; one channel; and who cannot be made unknown alone stays, with the reason."""
    one, two = t.host.bdfs("edu", 2)
    t.start()
    vm = t.vm()
    contains(refused("Policy", channel, vm), "associate_kvm", "the key that denies it")
    t.daemon.stop()
    allow(t)
    vmm, vm = Associating(t), t.vm()
    vm.attach(two)
    vmm.open(vm)
    contains(refused("InUse", channel, vm), "close it", "what to do")
    # What was there before is not known, and goes as ever.
    vm.attach(one)
    equal(associated(vm), {one: "associated", two: "none"}, "association")
    t.client.tdi(two).detach()
    vm.attach(two)
    vmm.tell("channel -")
    eventually(lambda: "has closed its channel" in vm.describe()["kvm_association"], "that is said")
    text = refused("InvalidState", t.client.tdi(one).detach)
    contains(text, "OpenAssociation", "what the VMM has to do")
    t.attached(vm, one, two)
    vmm.open(vm)
    t.client.tdi(one).detach()
    t.free(one)
    vmm.tell("channel -")
    vm.destroy()
    t.free(two)
    vmm.has_none()


class Hostile(threading.Thread):
    """A VMM that answers as it likes."""

    def __init__(self, t, vm, act):
        super().__init__(daemon=True)
        self.socket = socket.socket(fileno=channel(vm))
        self.act, self.got, self.nodes, self.asked = act, [], 0, 0
        t.defer(self.end)
        self.start()

    def receive(self):
        data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE.size, 4)
        self.got += fds
        self.nodes += len(fds)
        self.asked += bool(data)
        return MESSAGE.unpack(data) if data else None

    def send(self, message, op, fds=(), result=0, number=None):
        data = MESSAGE.pack(message[0], op, message[2] if number is None else number, result, 0, message[5])
        socket.send_fds(self.socket, [data], list(fds))

    def run(self):
        try:
            self.act(self)
        except (OSError, TypeError, struct.error):
            pass
        for fd in self.got:
            os.close(fd)

    def end(self):
        """Its thread ends with the channel at the latest."""
        if self.socket.fileno() >= 0:
            self.socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.socket.close()


def gone_at_once(v):
    v.receive()
    v.socket.close()


def gone_with_node(v):
    v.send(v.receive(), READY)
    v.receive()
    v.socket.close()


def no_device(v):
    v.send(v.receive(), READY)
    v.send(v.receive(), DONE)


def other_device(v):
    v.send(v.receive(), READY)
    with open("/dev/null", "rb") as file:
        v.send(v.receive(), DONE, [file.fileno()])


def nonsense(v):
    v.receive()
    v.socket.send(b"x" * 17)


def of_another(v):
    message = v.receive()
    for number in range(20):
        v.send(message, READY, number=message[2] + number + 1)


def many(v):
    with open("/dev/null", "rb") as file:
        v.send(v.receive(), READY, [file.fileno()] * 3)


def silent(v):
    v.receive()
    v.receive()


def refuses(v):
    v.send(v.receive(), READY)
    v.send(v.receive(), DONE, result=-errno.EPERM)


@scenario("edu", start=False, tags=("quick",))
def association_hostile(t):
    """Whatever a VMM answers, the attach fails, and the function is as before; one that does not answer is not given the node."""
    bdf = t.host.bdf("edu")
    allow(t, deadline=1)
    vm = t.vm()
    for act, name in ((gone_at_once, "InvalidState"), (gone_with_node, "InvalidState"), (no_device, "Kernel"), (other_device, "Kernel"), (nonsense, "Kernel"),
                      (of_another, "Kernel"), (many, "Kernel"), (refuses, "Kernel"), (silent, "Timeout")):
        v = Hostile(t, vm, act)
        try:
            vm.attach(bdf)
        except Refused as error:
            equal(error.name, name, f"the error for {act.__name__}")
        else:
            check(False, f"attached by {act.__name__}")
        v.end()
        t.free(bdf)
        equal(devices(t, vm), 0, f"kvm-vfio devices after {act.__name__}")
        equal(v.nodes, int(act in (gone_with_node, no_device, other_device, refuses)), f"descriptors that {act.__name__} was given")
        if act is refuses:
            # It has answered: the channel is as good as before.
            check(v.asked == 2, "questions")
    t.unchanged(bdf)


@scenario("edu", start=False, tags=("quick",))
def association_kept(t):
    """A VMM that keeps the node: the function is not given back before it lets go, which is said; nobody else waits for that."""
    bdf = t.host.bdf("edu")
    allow(t, deadline=1, claim=1)

    def keeps(v):
        v.send(v.receive(), READY)
        v.receive()
        let_go.wait(60)
    let_go = threading.Event()
    vm = t.vm()
    v = Hostile(t, vm, keeps)
    refused(("Timeout", "Kernel"), vm.attach, bdf)

    def is_said():
        return any("keep" in (x["quarantine"] or "") or "kept" in (x["quarantine"] or "") for x in vm.describe()["tdis"])
    eventually(is_said, "it is said why it is not given back")
    t.client.ping()
    let_go.set()
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu", needs=("kvm", "programs", "trace"), start=False, tags=("quick",))
def association_order(t):
    """KVM knows the node before it is bound, and has let it go before its last close."""
    bdf = t.host.bdf("edu")
    allow(t)
    vmm, vm = Associating(t), t.vm()
    vmm.open(vm)
    path, begin = t.host.start_trace()
    vm.attach(bdf)
    found = calls(path, begin)
    in_order(t, found, ("kvm-vfio device", first(found, "kvm-vfio device", op="ioctl", name="KVM_CREATE_DEVICE")),
             ("association", first(found, "association", op="ioctl", name="KVM_SET_DEVICE_ATTR")),
             ("bind", first(found, "bind", op="ioctl", name="VFIO_DEVICE_BIND_IOMMUFD", device=bdf)))
    t.client.tdi(bdf).detach(**{"async": True})
    t.free(bdf)
    found = calls(path, begin)
    t.host.end_trace()
    in_order(t, found, ("detach", first(found, "detach", op="ioctl", name="VFIO_DEVICE_DETACH_IOMMUFD_PT", device=bdf)),
             ("end of the kvm-vfio device", last(found, "end of the kvm-vfio device", op="release", name=DEVICE)),
             ("close", last(found, "release of the node", op="release", device=bdf)))


@scenario("edu:2", needs=("kvm", "programs"), start=False, tags=("quick",))
def association_ends_with_kvm(t):
    """When the VMM that the KVM VM was found with is gone, so is the kvm-vfio device, which would keep the KVM VM; and the functions say so."""
    bdf = t.host.bdf("edu")
    allow(t)
    vmm, vm = Associating(t), t.vm()
    vmm.open(vm)
    vm.attach(bdf)
    kvm = t.host.take(vmm.pid, "anon_inode:kvm-vm")
    peer = Vmm(t, fds=(kvm,))
    t.host.close(kvm)
    peer.connect(describe(vm, bdf)["vpci"]["socket"])
    eventually(lambda: vm.describe()["kvm"], "the KVM VM is known")
    peer.kill()
    eventually(lambda: devices(t, vm) == 0, "the holder has no kvm-vfio device")
    eventually(lambda: t.client.tdi(bdf).state() == "failed", "the function says so")
    equal(associated(vm), {bdf: "lost"}, "association")
    vmm.has_none()
    t.client.tdi(bdf).detach()
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu:2", needs=("kvm", "programs"), start=False, timeout=900)
def association_killed(t):
    """tdid killed within the sub-action, at some points of it (TDID_FULL=1: all): the function is whole, or given back, and KVM knows it no more."""
    one, two = t.host.bdfs("edu", 2)
    start = allow(t)
    t.daemon.stop()
    points = [f"open.associate:{p}" for p in ("do:before", "do:held", "do:after", "undo:before", "undo:dropped", "undo:after")]
    for point in points if t.full else t.rng.sample(points, 3 if t.host.kind == "sim" else 1):
        start({"TDID_TEST_KILL": point})
        vmm, vm = Associating(t), t.vm()
        vmm.open(vm)
        # With another one that stays its VMM is asked; otherwise the kvm-vfio device is closed.
        stays = ":undo:" in point and "dropped" not in point
        try:
            if stays:
                vm.attach(two)
            vm.attach(one)
            t.client.tdi(one).detach()
        except Lost:
            pass
        eventually(lambda: not t.daemon.alive(), f"the end of tdid at {point}", 5)
        t.daemon.wait_exit()
        start()
        t.free(one)
        if stays:
            t.attached(vm, two)
            equal((associated(vm), devices(t, vm)), ({two: "associated"}, 1), f"association of the one that stays after {point}")
        vm.lease.close()
        t.gone(vm)
        t.free(one, two)
        t.unchanged(one, two)
        vmm.has_none()
        vmm.end()
        t.daemon.stop()


@scenario(needs=("machines", "kvm", "programs"), tags=("quick",))
def association_coherency(t):
    """KVM that knows of a function takes one whose DMA passes the caches by; when it is made to forget it, that fails."""
    other, client = machine(t, "other", {"policy": {"associate_kvm": True}})
    vmm, vm = Associating(t, "sim:" + other.simulation.socket), client.create_vm("vm")
    vmm.open(vm)
    vm.attach(FUNCTION, SECOND)
    equal([(x["kvm_association"], x["coherent"]) for x in vm.describe()["tdis"]], [("associated", False), ("associated", True)], "functions")
    vmm.tell("channel -")
    eventually(lambda: "has closed its channel" in vm.describe()["kvm_association"], "that is seen")
    # The host wants the other one back: nobody is asked whether it can go.
    threading.Thread(target=other.simulation.client.control, args=("unplug",), kwargs={"device": SECOND}, daemon=True).start()
    eventually(lambda: client.tdi(FUNCTION).state() == "failed", "the function that needs KVM to know fails")
    equal(associated(vm)[FUNCTION], "lost", "association")
    vm.lease.close()
