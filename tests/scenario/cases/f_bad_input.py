# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Bad input of every kind: each has its error, a text that says what is wrong, and changes nothing.

import os
import signal
import socket
import struct
import subprocess

import dbus

from kit.checks import Failure, check, contains, equal, eventually
from kit.client import PREFIX, Refused, options, refused
from kit.daemon import fd_count, processes
from kit.peer import RawBus
from kit.registry import scenario


@scenario("edu", tags=("quick",))
def bad_bdf(t):
    """Malformed, absent, and not assignable."""
    edu = t.host.bdf("edu")
    vm = t.vm()
    for text in ("", " ", "edu", "0000", "00:00", "0000:01:00", "0000:01:00.8", "0000:01:20.0", "01:00.0 ", "0000:01:00.0\n",
                 "0000:001:00.0", "g000:01:00.0", "0000:01:00.0.0", "pci_0000_01_00", "pci_0000:01:00.0", "-1:00:00.0", "../01:00.0",
                 "0000:01:00.0/../..", "1" * 300, "0000:01:00.0é"):
        refused("InvalidArgument", vm.attach, text)
        refused("InvalidArgument", t.client.manager, "GetDevice", "s", text)
    for text in ("0000:ff:1f.7", "ffff:00:00.0", "0000:08:00.0"):
        contains(refused("NotFound", vm.attach, text), text, "text")
        refused("NotFound", t.client.manager, "GetDevice", "s", text)
    bridge = t.host.bridges(edu)[0]
    contains(refused("InvalidArgument", vm.attach, bridge), "bridge", "text")
    refused("InvalidArgument", vm.attach)
    equal(vm.describe()["tdis"], [], "functions of the VM")
    equal(t.daemon.journals(), [], "journal files")
    t.unchanged(edu)


@scenario("edu:2", tags=("quick",))
def bad_guest_rid(t):
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach((first, {"guest_rid": 0x100}))
    contains(refused("Exists", vm.attach, (second, {"guest_rid": 0x100})), "0x0100", "text")
    for value in (dbus.UInt32(65536), dbus.UInt32(0xffffffff)):
        refused("InvalidArgument", vm.attach, (second, {"guest_rid": value}))
    t.unchanged(second)
    # Two of one call, the same RID: none is attached.
    other = t.vm()
    t.client.tdi(first).detach()
    refused("Exists", other.attach, (first, {"guest_rid": 7}), (second, {"guest_rid": 7}))
    t.unchanged(first, second)
    other.attach((first, {"guest_rid": 0}), (second, {"guest_rid": 65535}))
    equal([int(t.client.tdi(b).get("GuestRID")) for b in (first, second)], [0, 65535], "guest RIDs")


@scenario("edu", tags=("quick",))
def bad_options(t):
    """Unknown keys, wrong types, values out of range, in every call that takes options."""
    edu = t.host.bdf("edu")
    create = t.client.create_vm
    text = refused("InvalidArgument", create, "x", hotplugg=dbus.Boolean(True))
    contains(text, "hotplugg", "text names the key")
    for bad in ({"hotplug": dbus.String("yes")}, {"hotplug": dbus.UInt32(1)}, {"await_vmm": dbus.String("1")}, {"await_vmm": dbus.Int32(-1)},
                {"await_vmm": dbus.UInt32(601)}, {"platform": "vax"}, {"platform": ""}, {"bind": "soon"}, {"uuid": "1234"},
                {"uuid": "0f8fad5b-d9cb-469f-a165-7086772895ZZ"}, {"owner_uid": dbus.Int32(-1)}, {"owner_uid": dbus.UInt32(0xffffffff)},
                {"vmm_uid": dbus.Double(1.0)}, {"seclabel": "x" * 5000}, {"seclabel": dbus.Array([], signature="s")},
                {"limits": dbus.String("many")}):
        contains(refused("InvalidArgument", create, "x", **bad), next(iter(bad)), f"text of {bad}")
    for error, key, value in (("InvalidArgument", "functions", dbus.UInt32(0)), ("InvalidArgument", "tables", dbus.UInt32(1)),
                              ("InvalidArgument", "functions", dbus.String("1")), ("Limit", "functions", dbus.UInt32(257))):
        contains(refused(error, create, "x", limits=options({key: value})), key, f"text of limits.{key} = {value!r}")
    equal(t.client.vms(), [], "VMs")
    equal(processes("tdid-vm"), {}, "holders")
    vm = t.vm()
    for bad in ({"guest_rit": dbus.UInt32(1)}, {"guest_rid": dbus.String("1")}, {"guest_rid": dbus.Int32(1)}, {"bind": dbus.UInt32(1)},
                {"bind": "never"}, {"connect": "yes please"}, {"connect": dbus.Boolean(True)}, {"vf_token": "not a uuid"},
                {"vf_token": dbus.Array([1], signature="u")}, {"force": dbus.UInt32(1)}, {"force": dbus.String("true")}):
        contains(refused("InvalidArgument", vm.attach, (edu, bad)), next(iter(bad)), f"text of {bad}")
    for member in ("Seal", "Destroy"):
        contains(refused("InvalidArgument", vm.call, member, "a{sv}", options({"asynch": dbus.Boolean(True)})), "asynch", f"text of {member}")
        refused("InvalidArgument", vm.call, member, "a{sv}", options({"async": dbus.String("true")}))
    refused("InvalidArgument", vm.call, "Attach", "a(sa{sv})a{sv}", dbus.Array([(edu, options({}))], signature="(sa{sv})"),
            options({"abandon": dbus.Boolean(True)}))
    equal(vm.phase(), "preparing", "phase")
    equal(vm.describe()["tdis"], [], "functions of the VM")
    t.unchanged(edu)
    vm.attach(edu)
    refused("InvalidArgument", t.client.call, t.client.tdi(edu).path, "org.tdid1.TDI", "Detach", "a{sv}", options({"force": dbus.Boolean(True)}))
    t.attached(vm, edu)


@scenario(tags=("quick",))
def bad_names(t):
    """VM names that could end up in paths, units or terminals."""
    for name in ("", "a/b", "/", ".", "..", "a\nb", "a\tb", "a\x1b[31m", "a" * 300, "a b", "\u202egnp", "é" * 200, "a\x7f", "%n", "-x"):
        try:
            vm = t.adopt(t.client.create_vm(name))
        except Refused as error:
            equal(error.name, "InvalidArgument", f"error for the name {name!r}")
            check(len(error.text) < 1000 and "\x1b" not in error.text, "the text repeats what it should not")
            continue
        # What is not forbidden must work: listed, found, closed.
        check("/" not in name and name not in ("", ".", "..") and len(name.encode()) <= 255 and name.isprintable(), f"{name!r} was accepted")
        equal(t.client.find_vm(name).path, vm.path, f"GetVM({name!r})")
        t.note(f"{name!r} is a name")
        vm.lease.close()
        t.gone(vm)
    # A NUL never arrives: the bus throws its sender out.
    raw = RawBus(t.bus.address)
    body = raw.string(b"a\0b") + b"\0" * (-len(raw.string(b"a\0b")) % 4) + struct.pack("<I", 0)
    answer = raw.call("org.tdid1", "/org/tdid1", "org.tdid1.Manager", "CreateVM", b"sa{sv}", body + b"\0" * (-len(body) % 8))
    check(answer[0] in ("closed", "error"), f"a name with NUL: {answer}")
    raw.close()
    refused("InvalidArgument", t.vm().hold, "x" * 5000)
    refused("InvalidArgument", t.vm().hold, "a\nb")


def wrong_descriptors(t):
    """Names and descriptors of every kind that is neither a KVM VM nor a pidfd."""
    memfd = os.memfd_create("anon_inode:kvm-vm")
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    path = os.open("/dev/null", os.O_PATH)
    file_name = os.path.join(t.folder, "kvm-vm")
    file = os.open(file_name, os.O_RDWR | os.O_CREAT)
    read_end, write_end = os.pipe()
    left, right = socket.socketpair()
    event = os.eventfd(0)
    device = os.open("/dev/zero", os.O_RDWR)
    fds = {"memfd": memfd, "folder": folder, "O_PATH": path, "file": file, "pipe": read_end, "socket": left.fileno(), "eventfd": event,
           "device": device}
    if t.host.has("kvm"):
        vm = t.host.kvm_vm()
        fds.update({"/dev/kvm": t.host.open_kvm(), "vcpu": t.host.kvm_vcpu(vm), "kvm-vfio device": t.host.kvm_vfio_device(vm),
                    "O_PATH of a KVM VM": os.open(f"/proc/self/fd/{vm}", os.O_PATH)})
        t.defer(lambda: t.host.close(vm))

    def close():
        left.detach()
        right.close()
        os.close(write_end)
        for fd in fds.values():
            os.close(fd)
    t.defer(close)
    return fds


@scenario(tags=("quick",))
def bad_descriptors(t):
    """SetKVM and SetPidfd with everything that they are not for: refused, and no copy is kept."""
    vm = t.vm()
    fds = wrong_descriptors(t)
    t.client.ping()
    before = (fd_count(t.daemon.pid), fd_count(vm.holder_pid()))
    for kind, fd in fds.items():
        text = refused("InvalidArgument", vm.set_kvm, fd)
        t.note(f"SetKVM with {kind}: {text}")
        refused("InvalidArgument", vm.set_pidfd, fd)
    pidfd = os.pidfd_open(os.getpid())
    refused("InvalidArgument", vm.set_kvm, pidfd)
    os.close(pidfd)
    if t.host.has("kvm"):
        kvm = t.host.kvm_vm()
        refused("InvalidArgument", vm.set_pidfd, kvm)
        t.host.close(kvm)
    # Processes that must not keep a VM: our own, and those that have ended.
    other = t.vm("other")
    workers = list(processes("tdid-worker"))
    for what, pid in (("tdid", t.daemon.pid), ("the holder", vm.holder_pid()), ("another VM's holder", other.holder_pid()),
                      *[("a worker", pid) for pid in workers[:1]]):
        fd = os.pidfd_open(pid)
        try:
            t.note(refused("InvalidArgument", vm.set_pidfd, fd))
        except Failure as error:
            raise Failure(f"pidfd of {what}: {error}") from None
        os.close(fd)
    process = t.sleeper()
    fd = os.pidfd_open(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    refused("InvalidArgument", vm.set_pidfd, fd)
    os.close(fd)
    equal([k["kind"] for k in vm.describe()["keepers"]], ["lease"], "keepers")
    equal(vm.describe()["kvm"], False, "kvm")
    other.lease.close()
    t.gone(other)
    eventually(lambda: (fd_count(t.daemon.pid), fd_count(vm.holder_pid())) == before, "no descriptor was kept")


@scenario(tags=("quick",))
def bad_handles(t):
    """Messages whose descriptor index is wrong, or whose descriptor is missing: no library sends these."""
    vm = t.vm()
    count = fd_count(t.daemon.pid)
    for member in (b"SetKVM", b"SetPidfd"):
        for index, number in ((1, 1), (5, 1), (0xffffffff, 1), (0, 0), (0, None)):
            raw = RawBus(t.bus.address)
            fds = [0] if number else []
            answer = raw.call("org.tdid1", vm.path, "org.tdid1.VM", member.decode(), b"h", struct.pack("<I", index), unix_fds=number, fds=fds)
            t.note(f"{member.decode()} index {index} of {number}: {answer}")
            check(answer[0] in ("error", "closed"), f"{member.decode()} with index {index} of {number} descriptors: {answer}")
            raw.close()
    t.client.ping()
    eventually(lambda: fd_count(t.daemon.pid) <= count, "no descriptor was kept")
    # A method called with another signature.
    for signature, args in (("s", ("x",)), ("", ()), ("hh", (dbus.types.UnixFd(0), dbus.types.UnixFd(0)))):
        try:
            vm.call("SetKVM", signature, *args)
            check(False, f"SetKVM({signature}) was accepted")
        except Refused as error:
            check(error.full == "org.freedesktop.DBus.Error.InvalidArgs" or error.full.startswith(PREFIX), str(error))


@scenario(needs=("fuse", "programs"), tags=("quick",))
def fuse_descriptor(t):
    """A descriptor that never answers: told apart without asking it anything; tdid goes on answering."""
    vm = t.vm()
    folder = os.path.join(t.folder, "hang")
    os.mkdir(folder)
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([os.path.join(t.paths.programs, "fuse_hang"), folder], stdin=theirs)
    theirs.close()
    t.defer(lambda: (ours.close(), process.wait(20)))
    ours.settimeout(20)
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    refused("InvalidArgument", vm.set_kvm, fds[0])
    refused("InvalidArgument", vm.set_pidfd, fds[0])
    os.close(fds[0])
    t.client.ping()
    equal(vm.describe()["kvm"], False, "kvm")


@scenario("edu", tags=("quick",))
def closed_vm(t):
    """Everything asked of a VM that is no more, and of one whose lease is closed."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.lease.close()
    t.gone(vm)
    for call in (lambda: vm.attach(bdf), vm.seal, vm.destroy, vm.describe, lambda: vm.hold("x")):
        try:
            call()
            check(False, "a call to a VM that is no more was accepted")
        except Refused as error:
            check(error.name in ("NotFound", "InvalidState") or error.full.endswith((".UnknownObject", ".UnknownMethod")), str(error))
    refused("NotFound", t.client.find_vm, vm.path.rsplit("/", 1)[1])
    t.unchanged(bdf)


@scenario("edu:2", tags=("quick",))
def limits(t):
    """Limits of functions per VM, of VMs per user, and of keepers: each names itself."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm(limits={"functions": 1})
    contains(refused("Limit", vm.attach, first, second), "functions", "text")
    t.unchanged(first, second)
    vm.attach(first)
    refused("Limit", vm.attach, second)
    t.attached(vm, first)
    vm.destroy()
    vm = t.vm()
    holds = []

    def hold_many():
        for i in range(10000):
            holds.append(vm.hold(f"hold {i}"))
    contains(refused("Limit", hold_many), "keepers", "text")
    t.value("keepers", len(holds) + 1)
    for hold in holds:
        hold.close()
    eventually(lambda: len(vm.describe()["keepers"]) == 1, "one keeper is left")


@scenario(timeout=900)
def many_vms(t):
    """10,000 VMs by one user: refused at the limit, the host none the worse, and another user still gets one."""
    made = []

    def create_many():
        for i in range(10000):
            made.append(t.vm(f"many-{i}"))
    contains(refused("Limit", create_many), "VMs", "text")
    t.value("vms", len(made))
    equal(len(processes("tdid-vm")), len(made), "holders")
    t.vm("of-another", owner_uid=os.geteuid() + 1000)
    refused("Limit", t.client.create_vm, "one-more")
    made.pop().lease.close()
    eventually(lambda: len(processes("tdid-vm")) == len(made) + 1, "end of one holder")
    eventually(lambda: t.vm("one-more"), "room for another")
    for vm in made:
        vm.lease.close()
    eventually(lambda: len(t.client.vms()) == 2, "end of the many", 120)


@scenario(tags=("quick",))
def unknown_things(t):
    """Objects, interfaces, members and properties that are not there."""
    for path, interface, member in (("/org/tdid1/vm/999999", "VM", "Describe"), ("/org/tdid1/vm/x/y", "VM", "Describe"),
                                    ("/org/tdid1/device/ffff_00_00_0", "Device", "Restore"), ("/org/tdid1/job/999999", "Job", "Cancel"),
                                    ("/org/tdid1", "Manager", "Explode"), ("/org/tdid1", "Nothing", "Check")):
        try:
            t.client.call(path, f"org.tdid1.{interface}", member, "a{sv}" if member == "Restore" else "",
                          *([options({})] if member == "Restore" else []))
            check(False, f"{path} {interface}.{member} was answered")
        except Refused as error:
            check(".Unknown" in error.full or error.name == "NotFound" or error.full.endswith("AccessDenied"), str(error))
    try:
        t.client.get("/org/tdid1", "Manager", "Nothing")
        check(False, "an unknown property was answered")
    except Refused as error:
        check("UnknownProperty" in error.full or "AccessDenied" in error.full, str(error))
    # Properties are not for writing.
    try:
        t.client.call("/org/tdid1", "org.freedesktop.DBus.Properties", "Set", "ssv", "org.tdid1.Manager", "Version", dbus.String("9"))
        check(False, "Version could be set")
    except Refused as error:
        check(error.full.endswith(("PropertyReadOnly", "AccessDenied")), str(error))
