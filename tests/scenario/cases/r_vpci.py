# SPDX-License-Identifier: LGPL-2.1-or-later
#
# vPCI sockets as tdid sees them: whose they are and where, who is behind them, what that keeps alive, and what becomes of them when somebody
# dies. What goes over them is u_vfio_user.py's.

import os
import signal
import stat
import subprocess
import time

import dbus

from kit import vfio_user
from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.daemon import processes
from kit.registry import scenario
from kit.vmm import Edu, Vmm, connect

def file_of(bdf):
    """Part of the API: a VMM's command line is written before there is a socket."""
    return bdf.replace(":", "_") + ".sock"


def folder_of(t, vm):
    return os.path.join(t.daemon.state, "vm", str(vm.get("UUID")))


def path_of(t, vm, bdf):
    return os.path.join(folder_of(t, vm), file_of(bdf))


def kinds(vm):
    return sorted(k["kind"] for k in vm.describe()["keepers"])


def vpci(vm, bdf):
    return next(i["vpci"] for i in vm.describe()["tdis"] if i["bdf"] == bdf)


@scenario("edu:2", tags=("quick",))
def socket_and_folder(t):
    """One socket a function, the VMM's user's alone, in a folder that can be passed through; both are gone afterwards."""
    first, second = t.host.bdfs("edu", 2)
    uid, gid = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    vm = t.vm(vmm_uid=uid, vmm_gid=gid)
    folder = folder_of(t, vm)
    check(not os.path.exists(folder), "a folder without a function")
    vm.attach(first)
    for path, mode in ((os.path.dirname(folder), 0o711), (folder, 0o711)):
        state = os.lstat(path)
        check(stat.S_ISDIR(state.st_mode), f"{path} is a folder")
        equal((stat.S_IMODE(state.st_mode), state.st_uid), (mode, os.geteuid()), f"mode and owner of {path}")
    path = path_of(t, vm, first)
    state = os.lstat(path)
    check(stat.S_ISSOCK(state.st_mode), f"{path} is a socket")
    equal((stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid), (0o660, uid, gid), "mode and owner of the socket")
    shown = vpci(vm, first)
    equal((shown["socket"], shown["connected"], shown["stale"]), (path, False, False), "the socket in Describe()")
    # The folder stays the same one as long as the VM lives: others have it mounted.
    inode = os.lstat(folder).st_ino
    vm.attach(second)
    equal(sorted(os.listdir(folder)), sorted(file_of(b) for b in (first, second)), "the folder")
    t.client.tdi(first).detach()
    equal(os.listdir(folder), [file_of(second)], "the folder after a detach")
    t.client.tdi(second).detach()
    equal((os.listdir(folder), os.lstat(folder).st_ino), ([], inode), "the folder without functions")
    vm.attach(first)
    equal(os.lstat(folder).st_ino, inode, "the folder of the next function")
    vm.lease.close()
    t.gone(vm)
    check(not os.path.exists(folder), "the folder of a VM that is gone")


@scenario("edu")
def socket_folder_lost(t):
    """A folder that somebody has removed, or replaced, is not made again: the attach fails and says what to do."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    folder = folder_of(t, vm)
    t.client.tdi(bdf).detach()
    os.rmdir(folder)
    contains(refused("Kernel", vm.attach, bdf), folder, "text")
    t.free(bdf)
    t.unchanged(bdf)
    os.mkdir(folder, 0o777)
    os.chmod(folder, 0o777)
    contains(refused("Kernel", vm.attach, bdf), "EPERM", "text")
    t.free(bdf)
    os.chmod(folder, 0o711)
    vm.attach(bdf)
    t.attached(vm, bdf)


@scenario("edu:2", tags=("quick",))
def connection_keeps(t):
    """Who is connected keeps the VM: it runs then, its end is the VM's end, and all of it is shown."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm(await_vmm=600)
    vm.attach(first, second)
    vm.seal()
    equal(vm.phase(), "sealed", "phase before anybody came")
    vm.lease.close()
    eventually(lambda: kinds(vm) == ["await"], "the VM waits")
    vmm = Vmm(t)
    before = time.time() * 1e6
    vmm.connect(path_of(t, vm, first))
    eventually(lambda: kinds(vm) == ["vpci"], "the connection keeps the VM, and nothing else does")
    equal(vm.phase(), "running", "phase")
    keeper = vm.describe()["keepers"][0]
    contains(keeper["label"], str(vmm.pid), "label of the keeper")
    contains(keeper["label"], first, "label of the keeper")
    equal(keeper["uid"], os.geteuid(), "uid of the keeper")
    check(before - 1e6 < keeper["given"] < time.time() * 1e6, f"it came at {keeper['given']}")
    equal([vpci(vm, b)["connected"] for b in (first, second)], [True, False], "who is connected")
    vmm.connect(path_of(t, vm, second))
    eventually(lambda: kinds(vm) == ["vpci", "vpci"], "both connections")
    shown = t.tdictl.json("vm", "show", vm.path.rsplit("/", 1)[1])["vms"][0]
    equal([i["vpci"]["connected"] for i in shown["tdis"]], [True, True], "tdictl's JSON")
    contains(t.tdictl("vm", "show", vm.path.rsplit("/", 1)[1]).out, path_of(t, vm, first), "tdictl's text")
    vmm.close(path_of(t, vm, first))
    eventually(lambda: kinds(vm) == ["vpci"], "one connection has ended")
    t.attached(vm, first, second)
    vmm.close(path_of(t, vm, second))
    t.gone(vm)
    t.free(first, second)


@scenario("edu", tags=("quick",))
def connection_killed(t):
    """The VMM is killed; while a lease lives another one may come."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    for _ in range(3):
        vmm = Vmm(t)
        vmm.connect(path_of(t, vm, bdf))
        eventually(lambda: kinds(vm) == ["lease", "vpci"], "the connection")
        equal(vm.describe()["peer"]["pid"], vmm.pid, "the process behind the sockets")
        vmm.kill()
        eventually(lambda: kinds(vm) == ["lease"], "the connection is over")
    vmm = Vmm(t)
    vmm.connect(path_of(t, vm, bdf))
    eventually(lambda: kinds(vm) == ["lease", "vpci"], "the connection")
    vm.lease.close()
    eventually(lambda: kinds(vm) == ["vpci"], "the lease is over")
    t.attached(vm, bdf)
    vmm.kill()
    t.gone(vm)
    t.free(bdf)


@scenario("edu", tags=("quick",))
def connection_refused(t):
    """A second process of the same user, and one of another, are refused; the VM's log and Describe() tell."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    path = path_of(t, vm, bdf)
    vmm, other = Vmm(t), Vmm(t)
    vmm.connect(path)
    equal(other.ask("connect", path), "refused", "a second process")
    if os.geteuid() == 0:
        # Not even let to the socket by its mode; let to it, refused by its user.
        stranger = Vmm(t, uid=4321)
        contains(stranger.ask("connect", path), "ermission", "another user")
        os.chmod(path, 0o666)
        equal(stranger.ask("connect", path), "refused", "another user whom the mode lets in")
    events = eventually(lambda: vpci(vm, bdf)["events"], "the refusal is shown")
    equal(events[0]["what"], "refused", "event")
    contains(events[0]["text"], str(other.pid), "text of the event")
    check(any("refused" in line and str(other.pid) in line for line in t.daemon.log()), "the refusal is not in the log")
    eventually(lambda: kinds(vm) == ["lease", "vpci"], "the one connection")
    # When the first is gone the second may have it.
    vmm.kill()
    eventually(lambda: kinds(vm) == ["lease"], "the end of the first")
    other.connect(path)


@scenario("edu", needs=("linux", "root", "apparmor"))
def connection_label(t):
    """Whoever has not the VM's security label is refused, and it is said which it has. As libvirt names AppArmor's: without the mode."""
    profiles = "".join(f"profile {name} {{ file, network, unix, ptrace, signal, capability, }}\n" for name in ("tdid-test-vmm", "tdid-test-vmm-two"))

    def parse(option):
        subprocess.run(["apparmor_parser", "--skip-cache", option], input=profiles, text=True, check=True)
    parse("--replace")
    t.defer(lambda: parse("--remove"))
    bdf = t.host.bdf("edu")
    for label, confined, wanted in (("tdid-test-vmm", "tdid-test-vmm", "served"), ("tdid-test-vmm (enforce)", "tdid-test-vmm", "served"),
                                    ("tdid-test-vmm (complain)", "tdid-test-vmm", "refused"), ("tdid-test-vmm", "tdid-test-vmm-two", "refused"),
                                    ("tdid-test-vmm", None, "refused"), ("unconfined", None, "served")):
        vm = t.vm(seclabel=label)
        vm.attach(bdf)
        vmm = Vmm(t, profile=confined)
        equal(vmm.ask("connect", path_of(t, vm, bdf)), wanted, f"{confined} at a socket for {label}")
        if wanted == "refused":
            event = eventually(lambda vm=vm: vpci(vm, bdf)["events"], "it is told")[0]
            contains(event["text"], f'"{confined} (enforce)"' if confined else '"unconfined"', "what is told")
        vmm.kill()
        vm.destroy()
        t.gone(vm)


@scenario("edu:2", tags=("quick",))
def connection_survives_tdid(t):
    """tdid is killed while a VMM is connected: the VM goes on, the next tdid knows who is there since when, and sees the end."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(first, second)
    vmm = Vmm(t)
    vmm.connect(path_of(t, vm, first))
    eventually(lambda: kinds(vm) == ["lease", "vpci"], "the connection")
    vm.lease.close()
    eventually(lambda: kinds(vm) == ["vpci"], "the lease is over")
    before = vm.describe()["keepers"]
    inode = os.lstat(path_of(t, vm, first)).st_ino
    for _ in range(2):
        t.daemon.restart()
        t.attached(vm, first, second)
        equal(vm.describe()["keepers"], before, "keepers after the restart")
        equal(os.lstat(path_of(t, vm, first)).st_ino, inode, "the socket after the restart")
    # A function that nobody had a connection to is served as before.
    vmm.connect(path_of(t, vm, second))
    eventually(lambda: kinds(vm) == ["vpci", "vpci"], "the second connection")
    vmm.kill()
    t.gone(vm)
    t.free(first, second)


@scenario("edu", tags=("quick",))
def connection_ends_without_tdid(t):
    """The last connection ends while no tdid is there: the VM closes with the next one. One that comes meanwhile keeps it."""
    bdf = t.host.bdf("edu")
    vm = t.vm(await_vmm=600)
    vm.attach(bdf)
    path = path_of(t, vm, bdf)
    vm.lease.close()
    eventually(lambda: kinds(vm) == ["await"], "the VM waits")
    vmm = Vmm(t)
    t.daemon.kill()
    vmm.connect(path)
    t.daemon.start()
    eventually(lambda: kinds(vm) == ["vpci"], "who came meanwhile keeps the VM")
    equal(vm.describe()["peer"]["pid"], vmm.pid, "the process that came meanwhile")
    t.daemon.kill()
    vmm.kill()
    time.sleep(0.5)
    t.daemon.start()
    t.gone(vm)
    t.free(bdf)
    check(not os.path.exists(os.path.dirname(path)), "the folder of a VM that is gone")


@scenario("edu", tags=("quick",))
def holder_killed_connected(t):
    """The holder dies with a VMM connected: the VM is over, the VMM sees its connections end, nothing is left."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    path, holder = path_of(t, vm, bdf), vm.holder_pid()
    vmm = Vmm(t)
    vmm.connect(path)
    eventually(lambda: kinds(vm) == ["lease", "vpci"], "the connection")
    os.kill(holder, signal.SIGKILL)
    equal(vmm.ask("lost", path), "lost", "what the VMM sees")
    t.gone(vm)
    t.free(bdf)
    check(not os.path.exists(os.path.dirname(path)), "the folder of a VM that is gone")


@scenario("edu:2", tags=("quick",))
def holder_and_tdid_killed(t):
    """Both die: the next tdid finds the socket's file and a folder that is nobody's any more."""
    bdf, other = t.host.bdfs("edu", 2)
    vm, empty = t.vm(), t.vm()
    vm.attach(bdf)
    empty.attach(other)
    folders = [folder_of(t, v) for v in (vm, empty)]
    holders = [v.holder_pid() for v in (vm, empty)]
    t.client.tdi(other).detach()
    t.daemon.kill()
    for holder in holders:
        os.kill(holder, signal.SIGKILL)
    # Somebody else's, which is left alone.
    strange = os.path.join(t.daemon.state, "vm", "strange")
    os.mkdir(strange)
    t.daemon.start()
    t.free(bdf)
    t.unchanged(bdf)
    eventually(lambda: not any(os.path.exists(f) for f in folders), "the folders are gone")
    check(os.path.isdir(strange), "what is no VM's is gone")
    os.rmdir(strange)


@scenario("edu:2", tags=("quick",))
def stopped_before_unwound(t):
    """A detach hangs up on the VMM, and only on that function's connection; the other one is served on."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(first, second)
    vmm = Vmm(t)
    vmm.connect(path_of(t, vm, first))
    vmm.connect(path_of(t, vm, second))
    eventually(lambda: kinds(vm) == ["lease", "vpci", "vpci"], "the connections")
    path = path_of(t, vm, first)
    t.client.tdi(first).detach()
    equal(vmm.ask("lost", path), "lost", "what the VMM sees of the function that is detached")
    equal(kinds(vm), ["lease", "vpci"], "keepers")
    check(not os.path.exists(path), "the socket of the function that is detached")
    t.attached(vm, second)
    vm.attach(first)
    vmm.connect(path)
    eventually(lambda: kinds(vm) == ["lease", "vpci", "vpci"], "the connections again")


@scenario("edu", needs=("trace",), tags=("quick",))
def stopped_in_order(t):
    """The socket's file goes before the function is detached: nobody comes in between."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    path = path_of(t, vm, bdf)
    rule = t.host.client.control("fault", rule={"call": "VFIO_DEVICE_DETACH_IOMMUFD_PT", "device": bdf, "never": True})["id"]
    rules = [rule]
    t.defer(lambda: [t.host.client.control("clear", id=r) for r in rules])
    vmm = Vmm(t)
    vmm.connect(path)
    job = t.client.tdi(bdf).detach(async_=True)
    eventually(lambda: [c for c in t.host.client.control("open")["calls"] if c["state"] == "uninterruptible"], "the detach is under way")
    check(not os.path.exists(path), "the function is being detached, and its socket is there")
    equal(vmm.ask("lost", path), "lost", "what the VMM sees")
    t.host.client.control("clear", id=rules.pop())
    job.wait()


@scenario("edu:2", needs=("faults",))
def killed_while_stopping(t):
    """tdid dies while the holder waits for a request that hangs: the next one has the VM, and the answer to that old question is nobody's."""
    stuck, other = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(stuck, other)
    client = connect(t, vm, stuck)
    rule = t.host.client.control("fault", rule={"call": "reset", "device": stuck, "never": True})["id"]
    rules = [rule]
    t.defer(lambda: [t.host.client.control("clear", id=r) for r in rules])
    client.ask(vfio_user.RESET)
    eventually(lambda: [c for c in t.host.client.control("open")["calls"] if c["state"] == "uninterruptible"], "the reset hangs")
    job = t.client.tdi(stuck).detach(async_=True)
    eventually(lambda: client.lost, "the holder has begun to stop")
    check(job.state() == "running", "the detach does not wait for the holder")
    t.daemon.restart()
    # Longer than the holder waits.
    time.sleep(2.5)
    check(vm.alive(), "the VM has gone")
    equal(t.client.tdi(other).state(), "prepared", "the other function")
    equal(vpci(vm, other)["stale"], False, "the holder answers what it is asked")
    t.host.client.control("clear", id=rules.pop())
    t.free(stuck)
    vm.attach(stuck)
    t.attached(vm, stuck, other)


@scenario("edu:2", start=False)
def socket_missing(t):
    """Somebody removed the socket while no tdid was there: the function has failed, and says so."""
    bdf, other = t.host.bdfs("edu", 2)
    t.start()
    vm = t.vm()
    vm.attach(bdf, other)
    path = path_of(t, vm, bdf)
    t.daemon.kill()
    os.unlink(path)
    t.daemon.start()
    eventually(lambda: t.client.tdi(bdf).state() == "failed", "the function has failed")
    equal(t.client.tdi(other).state(), "prepared", "the other one")
    t.client.tdi(bdf).detach()
    vm.attach(bdf)
    t.attached(vm, bdf, other)


@scenario("edu", needs=("kvm",), tags=("quick",))
def kvm_of_peer(t):
    """The KVM VM of whoever connects is found among its descriptors and held; the next one brings its own."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    path = path_of(t, vm, bdf)
    equal(vm.describe()["kvm"], False, "kvm before")
    # The same one twice is one.
    kvm = t.host.kvm_vm()
    twice = os.dup(kvm)
    vmm = Vmm(t, fds=(kvm, twice))
    os.close(twice)
    t.host.close(kvm)
    vmm.connect(path)
    eventually(lambda: vm.describe()["kvm"], "the KVM VM is found")
    check(t.host.holds_kvm(vm.holder_pid()), "the holder does not have the KVM VM")
    contains(refused("Exists", vm.set_kvm, (second := t.host.kvm_vm())), "VMM", "text")
    t.daemon.restart()
    equal(vm.describe()["kvm"], True, "kvm after a restart")
    vmm.kill()
    eventually(lambda: kinds(vm) == ["lease"], "the end of the first")
    # With its process it goes: a guest's memory is not kept for nobody.
    eventually(lambda: not vm.describe()["kvm"], "the KVM VM of the first is let go")
    eventually(lambda: not processes_with_kvm(t, but=(os.getpid(),)), "nobody has the first KVM VM")
    # A VMM that comes after it has another.
    vmm = Vmm(t, fds=(second,))
    vmm.connect(path)
    eventually(lambda: (vm.describe()["peer"] or {}).get("pid") == vmm.pid and vm.describe()["peer"]["kvm"], "the second is looked at")
    check(t.host.holds_kvm(vm.holder_pid()), "the holder does not have the second KVM VM")
    t.daemon.kill()
    vmm.kill()
    time.sleep(0.5)
    t.daemon.start()
    eventually(lambda: not vm.describe()["kvm"], "the KVM VM of one that ended while no tdid was there is let go")
    vmm = Vmm(t, fds=(second,))
    t.host.close(second)
    vmm.connect(path)
    eventually(lambda: vm.describe()["kvm"], "the third is looked at")
    check(not processes_with_kvm(t, but=(vm.holder_pid(), t.daemon.pid, vmm.pid)), "somebody else has a KVM VM")
    vm.lease.close()
    vmm.kill()
    t.gone(vm)


def processes_with_kvm(t, but):
    return [pid for pid in processes() if pid not in but and t.host.holds_kvm(pid)]


@scenario("edu", needs=("kvm",))
def kvm_of_peer_several(t):
    """A VMM with several KVM VMs: none is taken, and it is said; SetKVM chooses. One that was set before stands."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    path = path_of(t, vm, bdf)
    kvms = [t.host.kvm_vm() for _ in range(2)]
    vmm = Vmm(t, fds=kvms)
    vmm.connect(path)
    said = eventually(lambda: (vm.describe()["peer"] or {}).get("kvm"), "it is looked at")
    contains(said, "several", "what is said of it")
    equal(vm.describe()["kvm"], False, "kvm")
    vm.set_kvm(kvms[0])
    vmm.kill()
    eventually(lambda: kinds(vm) == ["lease"], "the end of the first")
    vmm = Vmm(t, fds=kvms[1:])
    vmm.connect(path)
    said = eventually(lambda: vm.describe()["peer"]["pid"] == vmm.pid and vm.describe()["peer"]["kvm"], "the second is looked at")
    contains(said, "SetKVM", "what is said of it")
    for kvm in kvms:
        t.host.close(kvm)


@scenario("edu", tags=("quick",))
def peer_without_kvm(t):
    """A VMM without KVM is as welcome; whom guest memory is charged to is said."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    vmm = Vmm(t)
    vmm.connect(path_of(t, vm, bdf))
    peer = eventually(lambda: (p := vm.describe()["peer"]) and p["kvm"] and p, "it is looked at")
    contains(peer["kvm"], "none", "kvm")
    contains(peer["memory"], "charged to", "memory")
    t.note(peer["memory"])
    equal(vm.describe()["kvm"], False, "kvm")
    # Its helper has nothing of ours but what it works with, and ends with the VMM.
    helpers = [pid for pid in processes("tdid-worker") if name_of(pid) == "tdid-map"]
    if "cgroup" in peer["memory"] and "holder" not in peer["memory"]:
        equal(len(helpers), 1, "helpers")
        paths = [t.host.canonical(os.readlink(f"/proc/{helpers[0]}/fd/{fd}")) for fd in os.listdir(f"/proc/{helpers[0]}/fd") if int(fd) > 2]
        check("/dev/iommu" in paths, f"the helper's descriptors: {paths}")
        check(not [p for p in paths if p.startswith("/dev/vfio") or p.startswith("anon_inode:kvm")], f"the helper's descriptors: {paths}")
        equal(cgroup_of(helpers[0]), cgroup_of(vmm.pid), "the helper's cgroup")
    vmm.kill()
    eventually(lambda: kinds(vm) == ["lease"], "the end of the VMM")
    eventually(lambda: not [pid for pid in helpers if os.path.exists(f"/proc/{pid}")], "the end of the helper")


@scenario("edu", needs=("linux", "root"))
def peer_in_threads(t):
    """A VMM in a threaded cgroup, as QEMU's vCPUs under libvirt may be: its memory is the domain's above it, and so is what is pinned for it."""
    top = "/sys/fs/cgroup"
    domain, threads = f"{top}/tdid-test", f"{top}/tdid-test/threads"
    with open("/proc/mounts", encoding="utf-8") as file:
        if f" {top} cgroup2 " not in file.read():
            t.skip("no cgroup2")
    for folder in (domain, threads):
        os.mkdir(folder)
        t.defer(lambda folder=folder: os.rmdir(folder))
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    vmm = Vmm(t)
    for path, text in ((f"{domain}/cgroup.procs", vmm.pid), (f"{threads}/cgroup.type", "threaded"), (f"{threads}/cgroup.threads", vmm.pid)):
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(text))
    equal(cgroup_of(vmm.pid), ["0::/tdid-test/threads"], "the VMM's cgroup")
    vmm.connect(path_of(t, vm, bdf))
    peer = eventually(lambda: (p := vm.describe()["peer"]) and p["kvm"] and p, "it is looked at")
    contains(peer["memory"], f"charged to the VMM's cgroup {domain}", "memory")
    equal([cgroup_of(pid) for pid in processes("tdid-worker") if name_of(pid) == "tdid-map"], [["0::/tdid-test"]], "the helper's cgroup")
    vmm.kill()
    vm.lease.close()
    t.gone(vm)
    eventually(lambda: not [pid for pid in processes("tdid-worker") if name_of(pid) == "tdid-map"], "the end of the helper")


@scenario("edu:2", needs=("linux", "root"))
def peer_memory(t):
    """What is pinned for a guest is charged to its VMM's cgroup, page by page, and where that has a limit it is the VMM's, not ours."""
    top = "/sys/fs/cgroup"
    if not os.path.exists(f"{top}/cgroup.controllers") or "memory" not in read(f"{top}/cgroup.controllers"):
        t.skip("no cgroup2 with memory")
    before = read(f"{top}/cgroup.subtree_control")
    write(f"{top}/cgroup.subtree_control", "+memory")
    if "memory" not in before:
        t.defer(lambda: write(f"{top}/cgroup.subtree_control", "-memory"))
    group = f"{top}/tdid-test"
    os.mkdir(group)
    t.defer(lambda: os.rmdir(group))
    bdf, other = t.host.bdfs("edu", 2)
    vm, bystander = t.vm(), t.vm()
    vm.attach(bdf)
    bystander.attach(other)

    def arrived():
        vmm = Vmm(t)
        write(f"{group}/cgroup.procs", vmm.pid)
        vmm.connect(path_of(t, vm, bdf))
        eventually(lambda: (p := vm.describe()["peer"]) and p["pid"] == vmm.pid and p["kvm"] and p, "it is looked at")
        return vmm

    def charged():
        return int(next(line.split()[1] for line in read(f"{group}/memory.stat").split("\n") if line.startswith("shmem "))) >> 20

    vmm = arrived()
    equal(charged(), 0, "MiB of shared memory before")
    equal(vmm.ask("map", f"{path_of(t, vm, bdf)} 64"), "mapped", "map")
    eventually(lambda: vpci(vm, bdf)["dma"]["pending"] == 0, "it is mapped")
    equal(charged(), 64, "MiB of shared memory that the VMM's cgroup pays for")
    vmm.kill()
    eventually(lambda: charged() == 0, "the memory is back")
    # Twice what it may have: whoever has to die for it is the VMM's.
    vmm = arrived()
    write(f"{group}/memory.max", 48 << 20)
    holders = sorted(processes("tdid-vm"))
    said = vmm.ask("map", f"{path_of(t, vm, bdf)} 96")
    t.note(f"a map of twice the limit: {said or 'the VMM was killed'}")
    check(said != "mapped" or vpci(vm, bdf)["dma"]["pending"] > 0 or vpci(vm, bdf)["dma"]["failed"], "twice of what the cgroup may have is mapped")
    equal(sorted(processes("tdid-vm")), holders, "holders")
    Edu(connect(t, bystander, other)).alive()
    vmm.kill()
    write(f"{group}/memory.max", "max")
    vm.lease.close()
    t.gone(vm)
    eventually(lambda: not [pid for pid in processes("tdid-worker") if name_of(pid) == "tdid-map" and cgroup_of(pid) == ["0::/tdid-test"]],
               "the end of the helper")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(str(text))


def name_of(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def cgroup_of(pid):
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        return [line for line in file.read().split("\n") if ":memory:" in line or line.startswith("0::")]


@scenario("edu", start=False)
def pinned_limits(t):
    """What a VM may have mapped is shown, may be less than tdid.conf says, and is promised to an owner once."""
    arguments = t.configured({"limits": {"pinned_mib": 100, "pinned_mib_per_user": 250, "maps": 10}})
    t.daemon.start(arguments=arguments)
    vm = t.vm()
    equal({k: vm.describe()["limits"][k] for k in ("pinned_mib", "maps")}, {"pinned_mib": 100, "maps": 10}, "limits")
    refused("Limit", t.vm, limits={"pinned_mib": dbus.UInt32(101)})
    refused("Limit", t.vm, limits={"maps": dbus.UInt32(11)})
    refused("InvalidArgument", t.vm, limits={"maps": dbus.UInt32(0)})
    second = t.vm(limits={"pinned_mib": dbus.UInt32(60), "maps": dbus.UInt32(3)})
    equal({k: second.describe()["limits"][k] for k in ("pinned_mib", "maps")}, {"pinned_mib": 60, "maps": 3}, "limits of the second")
    contains(refused("Limit", t.vm), "pinned_mib_per_user", "text")
    third = t.vm(limits={"pinned_mib": dbus.UInt32(90)})
    refused("Limit", t.vm, limits={"pinned_mib": dbus.UInt32(1)})
    # Another owner has a promise of its own.
    t.vm(owner_uid=4242)
    third.destroy()
    t.vm(limits={"pinned_mib": dbus.UInt32(90)})
    t.daemon.kill()
    t.daemon.start(arguments=arguments)
    equal(second.describe()["limits"]["pinned_mib"], 60, "limit after a restart")


@scenario("edu", tags=("quick",))
def describe_stale(t):
    """A holder that does not answer: Describe() comes all the same, within two seconds, and says that its numbers are old."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    equal(vpci(vm, bdf)["stale"], False, "stale, when the holder answers")
    holder = vm.holder_pid()
    os.kill(holder, signal.SIGSTOP)
    t.defer(lambda: os.path.exists(f"/proc/{holder}") and os.kill(holder, signal.SIGCONT))
    begin = time.monotonic()
    equal(vpci(vm, bdf)["stale"], True, "stale, when the holder does not answer")
    check(time.monotonic() - begin < 3, f"Describe() took {time.monotonic() - begin:.1f} s")
    os.kill(holder, signal.SIGCONT)
    eventually(lambda: not vpci(vm, bdf)["stale"], "the holder answers again")
