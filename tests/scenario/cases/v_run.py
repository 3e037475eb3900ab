# SPDX-License-Identifier: LGPL-2.1-or-later
#
# `tdictl run`: a VMM with its VM and its functions; and handing a function's own descriptors off, which is where the last
# close is not tdid's.

import json
import os
import signal
import socket
import stat
import struct
import time

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.daemon import process_state
from kit.peer import call_as
from kit.registry import scenario
from kit.simtsm import Rules
from kit.vfio_user import CONFIG
from kit.vmm import COMMAND, COMMAND_MASTER, COMMAND_MEMORY, Vfio


class Vmm:
    """A VMM that tdictl runs: a shell that tells its pid, its lease and its words, then becomes a program that waits."""

    SCRIPT = 'echo "$$ ${TDID_LEASE_FD:-none} $TDID_VM_NAME $*"; exec sleep 100000'

    def __init__(self, t, options, *words):
        self.t = t
        self.tdictl = t.tdictl.start("run", *options, "--", "sh", "-c", self.SCRIPT, "vmm", *words)
        t.defer(self.end)
        self.pid = 0
        line = self.tdictl.stdout.readline()
        if not line:
            _, err = self.tdictl.communicate(timeout=60)
            check(False, f"the VMM was not run: exit {self.tdictl.returncode}: {err}")
        pid, self.lease, self.name, *self.words = line.split()
        self.pid = int(pid)
        self.vm = t.client.find_vm(self.name)

    def opened(self, number):
        """What the VMM has open under a number, in the host's words."""
        return self.t.host.canonical(os.readlink(f"/proc/{self.pid}/fd/{number}"))

    def descriptors(self):
        return sorted(int(n) for n in os.listdir(f"/proc/{self.pid}/fd"))

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.pid = 0

    def end(self):
        if self.pid and process_state(self.pid) not in ("", "Z"):
            self.kill()
        self.tdictl.kill()
        self.tdictl.wait()


def socket_of(vm, bdf):
    """Where a function's vPCI socket is, as Describe() says."""
    path = next(x for x in vm.describe()["tdis"] if x["bdf"] == bdf)["vpci"]["socket"]
    check(stat.S_ISSOCK(os.stat(path).st_mode), f"{path} is no socket")
    return path


def start_allowing(t, **deadlines):
    """Starts tdid with a configuration that allows handing off; what restarts it with the same."""
    arguments = t.configured({"policy": {"handoff": True}, **({"deadlines": deadlines} if deadlines else {})})

    def start():
        t.daemon.start(arguments=arguments)
    start()
    return start


def handoff_of(vm, bdf):
    return next(x for x in vm.describe()["tdis"] if x["bdf"] == bdf)["handoff"]


# ---- a VMM ----

@scenario("edu:2", needs=("programs",), tags=("quick",))
def run_vmm(t):
    """A VM with two functions for a VMM, which is told where they are; everything ends with it."""
    first, second = t.host.bdfs("edu", 2)
    vmm = Vmm(t, ("--device", first.removeprefix("0000:"), "--device=pci_" + second.replace(":", "_").replace(".", "_"), "--name=web",
                  "--guest-rid=0x100", "--guest-rid=0x108"),
              f"@socket:{first}@", f"path=@socket:{second.removeprefix('0000:')}@,x", "me@host", "@@iommufd@@")
    vm = vmm.vm
    equal(vmm.name, "web", "TDID_VM_NAME")
    equal(vmm.words, [socket_of(vm, first), f"path={socket_of(vm, second)},x", "me@host", "@iommufd@"], "words of the VMM")
    doc = t.attached(vm, first, second)
    check(vm.phase() in ("sealed", "running"), f"phase {vm.phase()} when the VMM runs")
    equal([x["guest_rid"] for x in doc["tdis"]], [0x100, 0x108], "guest RIDs")
    equal([x["handoff"] for x in doc["tdis"]], [None, None], "nothing was handed off")
    # Its lease, and nothing of a device.
    eventually(lambda: vmm.descriptors() == sorted((0, 1, 2, int(vmm.lease))), "descriptors of the VMM")
    check(vmm.opened(vmm.lease).startswith("socket:"), f"the lease is {vmm.opened(vmm.lease)}")
    t.dma(vm, first)
    t.daemon.restart()
    t.attached(vm, first, second)
    vmm.kill()
    equal(vmm.tdictl.wait(30), 128 + signal.SIGKILL, "exit code when the VMM is killed")
    t.gone(vm)
    t.free(first, second)
    t.unchanged(first, second)


@scenario("edu", tags=("quick",))
def run_exit_codes(t):
    """tdictl ends as the VMM does; one that cannot be run leaves nothing, even where the VM would have waited."""
    bdf = t.host.bdf("edu")
    for command, code in ((("sh", "-c", "exit 7"), 7), (("true",), 0), (("sh", "-c", "kill -ABRT $$"), 128 + signal.SIGABRT)):
        done = t.tdictl("run", "--device=" + bdf, "--", *command, code=code)
        equal((done.out, done.err), ("", ""), f"what tdictl says around {command}")
        eventually(lambda: not t.client.vms(), "end of the VM with its VMM")
        t.free(bdf)
    for command, code in (("/nonexistent/vmm", 127), ("/dev/null", 126)):
        doc = t.tdictl.json("run", "--device=" + bdf, "--await-vmm=600", "--", command, code=code)
        contains(doc["error"]["text"], command, "text")
        equal(t.client.vms(), [], f"VMs after {command}")
        t.free(bdf)
    t.unchanged(bdf)


@scenario("edu:2", tags=("quick",))
def run_nothing_left(t):
    """What fails before the VMM runs takes the VM with it, before tdictl ends; a wrong placeholder makes none."""
    first, second = t.host.bdfs("edu", 2)
    other = t.vm("other")
    other.attach(second)
    ran = os.path.join(t.folder, "ran")
    for arguments, code, name in ((("--device=" + first, "--device=" + second), 5, "InUse"),
                                  (("--device=" + first, "--device=ff:1f.7"), 3, "NotFound"),
                                  (("--device=" + first, "--device=" + first), 2, "InvalidArgument"),
                                  (("--device=" + first, "--name=other"), 5, "Exists")):
        doc = t.tdictl.json("run", *arguments, "--await-vmm=600", "--", "touch", ran, code=code)
        equal(doc["error"]["name"], name, f"error of {arguments}")
        equal(t.client.vms(), [other.path], f"VMs after {arguments}")
        t.free(first)
    before = str(t.vm("counts").path)
    for words in (("@sockets:01:00.0@",), (f"@socket:{second}@",), (f"@socket:{first}",), ("@iommufd@",),
                  (f"@socket:{first}@", f"@vfio:{first}@")):
        equal(t.tdictl.json("run", "--device=" + first, "--", "touch", ran, *words, code=2)["error"]["name"], "Usage", f"error of {words}")
    # Ids are given in order: nothing was made in between.
    equal(int(t.vm("next").path.rsplit("/", 1)[1]), int(before.rsplit("/", 1)[1]) + 1, "the next VM's id")
    check(not os.path.exists(ran), "the VMM was run")
    t.unchanged(first)
    t.attached(other, second)


@scenario("edu", "nvme", tsm=("nvme",), tags=("quick",))
def run_interrupted(t):
    """Ctrl-C while functions are attached: all of it is undone, and the VMM is never run."""
    nvme, edu = t.host.bdf("nvme"), t.host.bdf("edu")
    ran = os.path.join(t.folder, "ran")
    t.tsm.rule("connect", nvme, delay=600000)
    process = t.tdictl.start("run", "--device=" + edu, "--device=" + nvme, "--await-vmm=600", "--", "touch", ran)
    t.defer(process.kill)
    eventually(lambda: t.tsm.running("connect", nvme), "the handshake is under way")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    t.tsm.clear()
    t.tsm.release()
    equal(process.wait(60), 10, "exit code")
    equal(t.client.vms(), [], "VMs")
    t.free(nvme, edu)
    check(not os.path.exists(ran), "the VMM was run")


@scenario("edu", tags=("quick",))
def run_signals(t):
    """SIGINT and SIGTERM of tdictl reach a VMM that runs; SIGKILL of tdictl does not end it, for it has the lease."""
    bdf = t.host.bdf("edu")
    for number in (signal.SIGINT, signal.SIGTERM):
        process = t.tdictl.start("run", "--device=" + bdf, "--", "sh", "-c",
                                 f"trap 'exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.1; done")
        t.defer(process.kill)
        equal(process.stdout.readline().strip(), "ready", "the VMM")
        process.send_signal(number)
        equal(process.wait(30), 9, f"exit code after {number.name}")
        eventually(lambda: not t.client.vms(), "end of the VM")
    vmm = Vmm(t, ("--device=" + bdf,))
    vmm.tdictl.kill()
    vmm.tdictl.wait()
    time.sleep(0.5)
    t.attached(vmm.vm, bdf)
    vmm.kill()
    t.gone(vmm.vm)
    t.free(bdf)
    # Not inherited, the lease is tdictl's.
    vmm = Vmm(t, ("--device=" + bdf, "--no-inherit"))
    equal(vmm.lease, "none", "TDID_LEASE_FD with --no-inherit")
    vmm.tdictl.kill()
    vmm.tdictl.wait()
    t.gone(vmm.vm)
    t.free(bdf)


@scenario("edu", tags=("quick",))
def run_forks(t):
    """A VMM that puts itself into the background: tdictl ends, and the VM lives on with the child."""
    bdf = t.host.bdf("edu")
    done = t.tdictl("run", "--device=" + bdf, "--name=forks", "--", "sh", "-c", "sleep 100000 >/dev/null 2>&1 & echo $!; exit 3", code=3)
    child = int(done.out)
    try:
        time.sleep(0.5)
        vm = t.client.find_vm("forks")
        t.attached(vm, bdf)
    finally:
        os.kill(child, signal.SIGKILL)
    t.gone(vm)
    t.free(bdf)


# ---- handing off ----

@scenario("edu", tags=("quick",))
def handoff_refused(t):
    """Nobody gets a descriptor unless the configuration says so, and the text says where."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    for allowed in ({}, {"policy": {}}, {"policy": {"handoff": False}}):
        path = os.path.join(t.folder, "tdid.conf")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(allowed, file)
        t.daemon.kill()
        t.daemon.start(arguments=("--config=" + path,))
        text = refused("Policy", t.client.tdi(bdf).handoff)
        contains(text, path, "text")
        contains(text, "handoff", "text")
    vm.destroy()
    t.free(bdf)
    t.daemon.restart()
    doc = t.tdictl.json("run", "--device=" + bdf, "--await-vmm=600", "--", "true", f"@vfio:{bdf}@", code=4)
    equal(doc["error"]["name"], "Policy", "error of run")
    contains(doc["error"]["text"], "/etc/tdid/tdid.conf", "text")
    equal(t.client.vms(), [], "VMs after run")
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu:2", needs=("programs",), tags=("quick",), start=False)
def handoff_vmm(t):
    """A VMM with the descriptors themselves: it drives the device by them, after a restart of tdid too, and gets them once more."""
    restart = start_allowing(t)
    bdf, other = t.host.bdfs("edu", 2)
    vmm = Vmm(t, ("--device=" + bdf, "--device=" + other),
              f"@vfio:{bdf}@", "@iommufd@", f"fd=@vfio:{bdf.removeprefix('0000:')}@", f"@socket:{other}@")
    vm = vmm.vm
    device, iommufd, again, path = vmm.words
    equal(again, "fd=" + device, "the same device twice")
    equal(path, socket_of(vm, other), "the socket of the other")
    equal(vmm.opened(device), t.host.vfio_node(bdf), "what the device's number is")
    equal(vmm.opened(iommufd), "/dev/iommu", "what the iommufd's number is")
    eventually(lambda: vmm.descriptors() == sorted((0, 1, 2, int(vmm.lease), int(device), int(iommufd))), "descriptors of the VMM")
    check(not t.host.holds(vmm.tdictl.pid, bdf), "tdictl kept the device")
    t.attached(vm, bdf, other)
    t.host.dma(vmm.pid, bdf, t.ioas(vm, bdf))
    noted = handoff_of(vm, bdf)
    equal((noted["uid"], noted["count"]), (os.geteuid(), 1), "who it was handed off to")
    check(abs(noted["time"] - time.time() * 1e6) < 300e6, f"the time is {noted['time']}")
    equal(handoff_of(vm, other), None, "handoff of the other")
    t.daemon.kill()
    restart()
    t.attached(vm, bdf, other)
    equal(handoff_of(vm, bdf), noted, "handoff after a restart")
    # The first copy could be passed on anyway: a second one is no secret.
    ours = t.client.tdi(bdf).handoff()
    equal(handoff_of(vm, bdf)["count"], 2, "copies")
    for fd, what in zip(ours, ("/dev/iommu", t.host.vfio_node(bdf))):
        equal(t.host.canonical(os.readlink(f"/proc/self/fd/{fd}")), what, "what our own is")
        t.host.close(fd)
    t.host.dma(vmm.pid, bdf, t.ioas(vm, bdf))
    vmm.kill()
    equal(vmm.tdictl.wait(30), 128 + signal.SIGKILL, "exit code")
    t.gone(vm)
    t.free(bdf, other)
    t.unchanged(bdf, other)
    # It is not the function's for good.
    vm = t.vm()
    vm.attach(bdf)
    equal(handoff_of(vm, bdf), None, "handoff of the next attach")


@scenario("edu", tags=("quick",), start=False)
def handoff_quiet(t):
    """Whoever has a copy of the device cannot be made to close it: but the VM's end takes its bus mastering, and its address space."""
    start_allowing(t, claim=5)
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    iommufd, fd = t.client.tdi(bdf).handoff()
    with Vfio(t, vm, bdf, fd) as device:
        on = COMMAND_MEMORY | COMMAND_MASTER
        device.write(CONFIG, COMMAND, struct.pack("=H", on))
        equal(struct.unpack("=H", device.read(CONFIG, COMMAND, 2))[0] & on, on, "COMMAND while it works")
        t.host.close(iommufd)
        vm.lease.close()
        eventually(lambda: not struct.unpack("=H", device.read(CONFIG, COMMAND, 2))[0] & COMMAND_MASTER, "its bus mastering is off")
        contains(eventually(lambda: t.client.device(bdf).text("Quarantine"), "why it is not free"), "handed off", "why it is not free")
    t.gone(vm)
    t.free(bdf)
    t.unchanged(bdf)


def vfio_user_version(path):
    """A connection to a vPCI socket, past the negotiation of a version: the server has taken us for its VMM."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(30)
    try:
        sock.connect(path)
        body = struct.pack("=HH", 0, 1) + b"{}\0"
        sock.sendall(struct.pack("=HHIII", 1, 1, 16 + len(body), 0, 0) + body)
        number, command, _, flags, _ = struct.unpack("=HHIII", sock.recv(16, socket.MSG_WAITALL))
        equal((number, command, flags & 0x2f), (1, 1, 1), "the answer to VERSION")
    except BaseException:
        sock.close()
        raise
    return sock


@scenario("edu", tags=("quick",), start=False)
def handoff_connected(t):
    """A device has one driver: no handoff while a VMM is connected to the function's socket, and no socket after a handoff."""
    start_allowing(t)
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    path = socket_of(vm, bdf)
    sock = vfio_user_version(path)
    try:
        contains(refused("InvalidState", t.client.tdi(bdf).handoff), bdf, "text")
        equal(handoff_of(vm, bdf), None, "handoff after the refusal")
    finally:
        sock.close()
    for fd in eventually(t.client.tdi(bdf).handoff, "a handoff once the VMM has gone"):
        t.host.close(fd)
    equal(vm.describe()["tdis"][0]["vpci"], None, "vpci after the handoff")
    try:
        vfio_user_version(path).close()
        check(False, "the function is served though it was handed off")
    except (FileNotFoundError, ConnectionError):
        pass
    vm.destroy()
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu", needs=("root",), tags=("quick",), start=False)
def handoff_owner(t):
    """For root and the owner of the VM; and for a prepared function of an open VM."""
    start_allowing(t)
    alice, bob = 1, 65534
    bdf = t.host.bdf("edu")
    vm = t.vm("of-alice", owner_uid=alice)
    refused(("NotFound", "org.freedesktop.DBus.Error.UnknownObject"), t.client.tdi(bdf).handoff)
    vm.attach(bdf)
    path = t.client.tdi(bdf).path
    refused(("Denied", "org.freedesktop.DBus.Error.AccessDenied"), call_as, bob, t.bus.address, path, "org.tdid1.TDI", "Handoff")
    equal(handoff_of(vm, bdf), None, "handoff after Bob's attempt")
    # The configuration lets it happen at all, the policy this owner.
    contains(refused("Policy", call_as, alice, t.bus.address, path, "org.tdid1.TDI", "Handoff"), "default", "why Alice does not get it")
    os.makedirs(t.daemon.policy, exist_ok=True)
    with open(os.path.join(t.daemon.policy, "50-test.json"), "w", encoding="utf-8") as file:
        json.dump({"schema": "tdid-policy/1", "rules": [{"name": "alice", "match": {"owner": alice}, "decision": "allow", "permit": ["handoff"]}]}, file)
    t.client.manager("Reload")
    call_as(alice, t.bus.address, path, "org.tdid1.TDI", "Handoff")
    equal(handoff_of(vm, bdf)["uid"], alice, "who it was handed off to")
    # Alice's process has ended: nothing keeps the function.
    let_go = hold(t, bdf)
    job = vm.destroy(async_=True)
    eventually(lambda: t.device(bdf).text("Custody") == "claim", "only the claim is left")
    refused("InvalidState", t.client.tdi(bdf).handoff)
    let_go()
    job.wait()
    t.free(bdf)


def hold(t, bdf):
    """Has the function's VFIO node open beside everybody: it cannot leave vfio-pci until we let go."""
    fd = [t.host.open_vfio(bdf)]

    def let_go():
        if fd:
            t.host.close(fd.pop())
    t.defer(let_go)
    return let_go


def told(t, vm, bdf, node):
    """That the function's end waits for a copy that was handed off is said wherever one looks."""
    tdi = eventually(lambda: (x := next(i for i in vm.describe()["tdis"] if i["bdf"] == bdf))["quarantine"] and x, "the text in Describe()")
    for text in (tdi["quarantine"], t.tdictl.json("device", "show", bdf)["devices"][0]["quarantine"]):
        for part in ("handed off", f"uid {os.geteuid()}", bdf, node):
            contains(text, part, "text")
    contains(t.device(bdf).text("Quarantine"), "handed off", "what everybody is told")


@scenario("edu:2", needs=("programs",), tags=("quick",), start=False)
def handoff_outlives(t):
    """The VM ends and its VMM does not: the release says for whom it waits, over a restart of tdid too, and ends with the VMM."""
    restart = start_allowing(t, claim=5)
    bdf, other = t.host.bdfs("edu", 2)
    vmm = Vmm(t, ("--device=" + bdf,), f"@vfio:{bdf}@", "@iommufd@")
    vm = vmm.vm
    node = t.host.vfio_node(bdf)
    job = vm.destroy(async_=True)
    told(t, vm, bdf, node)
    equal(vm.phase(), "closing", "phase")
    equal(job.state(), "stuck", "state of the job")
    contains("\n".join(t.daemon.log()), f"{bdf} is still open: its descriptors were handed off", "the log")
    refused(("Busy", "InUse", "Quarantined"), t.vm().attach, bdf)
    # Everything else goes on.
    beside = t.vm()
    beside.attach(other)
    t.dma(beside, other)
    t.daemon.kill()
    restart()
    told(t, vm, bdf, node)
    t.dma(beside, other)
    check(process_state(vmm.pid) not in ("", "Z"), "the VMM has ended")
    vmm.kill()
    vmm.tdictl.wait(30)
    t.gone(vm)
    t.free(bdf)
    t.unchanged(bdf)
    beside.lease.close()


@scenario("edu:3", needs=("programs",), tags=("quick",), start=False)
def handoff_without_holders(t):
    """
    Every holder is killed, and tdid with them. What somebody still has open is held by them: shown as handed off, given to nobody, and back when
    that ends. Everything else is back at once.
    """
    restart = start_allowing(t, claim=5)
    handed, first, second = t.host.bdfs("edu", 3)
    vmm = Vmm(t, ("--device=" + handed,), f"@vfio:{handed}@", "@iommufd@")
    node = t.host.vfio_node(handed)
    others = [t.vm(), t.vm()]
    for vm, bdf in zip(others, (first, second)):
        vm.attach(bdf)
    holders = [vm.holder_pid() for vm in (vmm.vm, *others)]
    t.daemon.process.send_signal(signal.SIGSTOP)
    for pid in holders:
        os.kill(pid, signal.SIGKILL)
    t.daemon.kill()
    restart()
    t.free(first, second)
    contains(eventually(lambda: t.device(handed).text("Quarantine"), "it is shown", 30), "handed off", "what everybody is told")
    for part in (f"uid {os.geteuid()}", node):
        contains(t.tdictl.json("device", "show", handed)["devices"][0]["quarantine"], part, "what root is told")
    refused(("Busy", "InUse", "Quarantined"), t.vm().attach, handed)
    beside = t.vm()
    beside.attach(first)
    t.dma(beside, first)
    check(process_state(vmm.pid) not in ("", "Z"), "who has it has ended")
    vmm.kill()
    vmm.tdictl.wait(30)
    t.free(handed)
    beside.lease.close()
    t.unchanged(handed, first, second)


@scenario("edu", tags=("quick",), start=False)
def handoff_detached(t):
    """Detaching a function waits for the copies too; other copies of the iommufd keep nothing."""
    start_allowing(t, claim=5)
    bdf = t.host.bdf("edu")
    vm = t.vm(hotplug=True)
    vm.attach(bdf)
    iommufd, device = t.client.tdi(bdf).handoff()
    t.defer(lambda: os.close(iommufd))
    node = t.host.vfio_node(bdf)
    job = t.client.tdi(bdf).detach(async_=True)
    told(t, vm, bdf, node)
    equal(job.state(), "stuck", "state of the job")
    t.host.close(device)
    job.wait()
    t.free(bdf)
    t.unchanged(bdf)
    # And again, with the device closed by whom it was handed to, first.
    vm.attach(bdf)
    second, device = t.client.tdi(bdf).handoff()
    t.host.close(device)
    t.host.close(second)
    t.client.tdi(bdf).detach()
    t.free(bdf)
    vm.destroy()
    t.gone(vm)


@scenario("edu", needs=("faults",), tags=("quick",), start=False)
def handoff_slow_unmap(t):
    """What a VMM that was handed the descriptors has mapped may take long to unmap: nobody waits for that."""
    start_allowing(t)
    bdf = t.host.bdf("edu")
    vm = t.vm(hotplug=True)
    vm.attach(bdf)
    for fd in t.client.tdi(bdf).handoff():
        t.host.close(fd)
    slow = Rules(t.host.client)
    t.defer(slow.clear)
    slow.add("unmap", call="IOMMU_IOAS_UNMAP", never=True)
    slow.add("destroy", call="IOMMU_DESTROY", never=True)
    t.client.tdi(bdf).detach()
    eventually(slow.sleeping, "the address space is being ended")
    begin = time.monotonic()
    t.client.ping()
    check(time.monotonic() - begin < 1, "tdid waits for it")
    # Another tdid does it again; a new attach has a space of its own meanwhile.
    t.daemon.restart()
    vm.attach(bdf)
    slow.clear()
    vm.destroy()
    t.gone(vm)
    t.free(bdf)


@scenario("group-nvme", "group-edu", needs=("programs",), start=False)
def handoff_group(t):
    """Functions of one IOMMU group: the kernel gives the group back with the last copy, and none is quarantined for that."""
    start_allowing(t)
    nvme, edu = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    # One of them was handed off: the other waits for it.
    vm = t.vm()
    vm.attach(nvme, edu)
    iommufd, device = t.client.tdi(edu).handoff()
    job = vm.destroy(async_=True)
    eventually(lambda: t.device(edu).text("Custody") == "claim", "only the claim is left")
    time.sleep(1)
    check(job.state() in ("running", "stuck"), f"the job is {job.state()} while a copy is open")
    check(not t.device(nvme).text("Quarantine"), f"quarantined: {t.device(nvme).text('Quarantine')}")
    t.host.close(iommufd)
    t.host.close(device)
    job.wait()
    t.free(nvme, edu)
    t.unchanged(nvme, edu)
    # Both were, and are closed one after the other.
    for first, second in ((nvme, edu), (edu, nvme)):
        vm = t.vm()
        vm.attach(nvme, edu)
        copies = {bdf: t.client.tdi(bdf).handoff() for bdf in (nvme, edu)}
        job = vm.destroy(async_=True)
        for bdf in (nvme, edu):
            eventually(lambda bdf=bdf: t.device(bdf).text("Custody") == "claim", f"only the claim of {bdf} is left")
        for fd in copies[first]:
            t.host.close(fd)
        time.sleep(1)
        check(job.state() in ("running", "stuck"), f"the job is {job.state()} while a copy is open")
        for fd in copies[second]:
            t.host.close(fd)
        job.wait()
        t.free(nvme, edu)
        t.unchanged(nvme, edu)
