# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The life of a VM: keepers, seal, late attach, detach, jobs. Cheap functions, one subject a scenario.

import os
import re
import signal
import socket
import time

from kit.busy import on_vfio
from kit.checks import check, contains, equal, eventually
from kit.client import VM, Client, refused
from kit.daemon import process_state
from kit.registry import scenario
from kit.vfio_user import CONFIG
from kit.vmm import connect


@scenario("edu:2", tags=("quick",))
def attach_and_detach(t):
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm("detach")
    equal(str(vm.get("Name")), "detach", "Name")
    check(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(vm.get("UUID"))), f"UUID {vm.get('UUID')}")
    equal(int(vm.get("Owner")), os.geteuid(), "Owner")
    vm.attach((first, {"guest_rid": 0x0100}), (second, {"guest_rid": 0x0108}))
    t.attached(vm, first, second)
    equal(sorted(str(p) for p in vm.get("TDIs")), sorted(t.client.tdi(b).path for b in (first, second)), "TDIs")
    equal(int(t.client.tdi(first).get("GuestRID")), 0x0100, "GuestRID")
    equal(str(t.client.tdi(first).get("TDISP")), "none", "TDISP of what no TSM knows")
    equal(t.client.tdi(first).detach().state(), "done", "job of the detach")
    t.free(first)
    t.unchanged(first)
    t.attached(vm, second)
    # What was detached can be had again, with the same guest RID.
    vm.attach((first, {"guest_rid": 0x0100}))
    t.attached(vm, first, second)
    # Another VM's function is nobody else's.
    other = t.vm()
    contains(refused("InUse", other.attach, first), "detach", "text names the VM that holds it")
    t.client.tdi(first).detach()
    other.attach(first)
    t.attached(other, first)
    t.attached(vm, second)


@scenario("edu")
def holder_connection_breaks(t):
    """The holder lives, with all it serves, and tdid cannot reach it: it is ended before anything is taken back."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    holder = vm.holder_pid()
    with t.host.take_connection(t.daemon.pid, holder) as connection:
        connection.shutdown(socket.SHUT_RDWR)
    t.gone(vm)
    check(process_state(holder) in ("", "Z"), "the holder lives on when its VM is gone")
    check(vm.lease.hung_up(), "the lease does not tell that the VM is gone")
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu:2", needs=("programs",))
def holder_not_found(t):
    """
    A holder that lives, and that the next tdid cannot find: its socket's file is gone. What it has open stays its own, its client is served,
    and nobody else gets the function; when it ends, the function is given back.
    """
    bdf, other = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf)
    holder, client = vm.holder_pid(), connect(t, vm, bdf)
    t.daemon.kill()
    (name,) = t.daemon.holder_sockets()
    os.unlink(os.path.join(t.daemon.state, "holder", name))
    t.daemon.start()
    refused(("Busy", "InUse", "Quarantined"), t.vm("next").attach, bdf)
    t.client.find_vm("next").attach(other)
    client.read32(CONFIG, 0)
    check(t.device(bdf).text("Custody") != "none", "the function looks free")
    client.close()
    os.kill(holder, signal.SIGKILL)
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu", tags=("quick",))
def names_and_lookup(t):
    bdf = t.host.bdf("edu")
    vm = t.vm("by-name", uuid="0f8fad5b-d9cb-469f-a165-70867728950e")
    equal(str(vm.get("UUID")), "0f8fad5b-d9cb-469f-a165-70867728950e", "UUID")
    for key in ("by-name", "0f8fad5b-d9cb-469f-a165-70867728950e", vm.path.rsplit("/", 1)[1]):
        equal(t.client.find_vm(key).path, vm.path, f"GetVM({key})")
    refused("NotFound", t.client.find_vm, "nobody")
    refused("Exists", t.client.create_vm, "by-name")
    refused("Exists", t.client.create_vm, "other", uuid="0f8fad5b-d9cb-469f-a165-70867728950e")
    path = t.device(bdf).path
    short = bdf.removeprefix("0000:")
    for form in (bdf, short, "pci_" + bdf.replace(":", "_").replace(".", "_")):
        equal(str(t.client.manager("GetDevice", "s", form)), path, f"GetDevice({form})")
        tdis, _ = vm.attach(form)
        equal(tdis, [t.client.tdi(bdf).path], f"TDI of {form}")
        t.client.tdi(bdf).detach()


@scenario("edu", tags=("quick",))
def keepers(t):
    """Leases, holds and pidfds keep a VM; it ends with the last of them."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    hold = vm.hold("a second one")
    label = [k["label"] for k in vm.describe()["keepers"] if k["kind"] == "lease"]
    contains(label, "a second one", "labels of the leases")
    equal({k["uid"] for k in vm.describe()["keepers"]}, {os.geteuid()}, "uids of the leases")
    copy = os.dup(vm.lease.fd)
    vm.lease.close()
    time.sleep(0.3)
    t.attached(vm, bdf)
    process = t.sleeper()
    pidfd = os.pidfd_open(process.pid)
    vm.set_pidfd(pidfd)
    os.close(copy)
    eventually(lambda: sorted(k["kind"] for k in vm.describe()["keepers"]) == ["lease", "pidfd"], "the first lease is gone")
    hold.close()
    eventually(lambda: [k["kind"] for k in vm.describe()["keepers"]] == ["pidfd"], "only the pidfd is left")
    t.attached(vm, bdf)
    process.kill()
    process.wait()
    t.gone(vm)
    t.free(bdf)
    os.close(pidfd)


@scenario("edu", tags=("quick",))
def lease_tricks(t):
    """shutdown() ends a lease; a lease sent over itself cannot keep itself alive; nothing can be written to one."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    end = socket.socket(fileno=vm.lease.take())
    hold = vm.hold("over itself")
    over = socket.socket(fileno=hold.take())
    try:
        socket.send_fds(over, [b"x"], [over.fileno()])
        t.note("a lease could be sent over itself")
    except OSError as error:
        t.note(f"a lease cannot be sent over itself: {error}")
    over.close()
    eventually(lambda: len(vm.describe()["keepers"]) == 1, "the lease that was sent over itself has ended")
    try:
        end.send(b"hello")
    except OSError:
        pass
    t.attached(vm, bdf)
    end.shutdown(socket.SHUT_RD)
    t.gone(vm)
    t.free(bdf)
    end.close()


@scenario("edu", tags=("quick",))
def lease_inherited(t):
    """A lease lives in whoever has a copy: the first process may end."""
    vm = t.vm()
    vm.attach(t.host.bdf("edu"))
    first, second = t.sleeper(vm.lease.fd), t.sleeper(vm.lease.fd)
    vm.lease.close()
    first.kill()
    first.wait()
    time.sleep(0.3)
    check(vm.alive(), "the VM ended while a copy of its lease was open")
    second.kill()
    second.wait()
    t.gone(vm)


@scenario("edu")
def await_vmm(t):
    """A VM without keepers waits for its VMM as long as it was told, and no longer."""
    bdf = t.host.bdf("edu")
    vm = t.vm(await_vmm=3)
    vm.attach(bdf)
    vm.lease.close()
    eventually(lambda: "await" in [k["kind"] for k in vm.describe()["keepers"]], "the VM waits")
    t.attached(vm, bdf)
    # Waiting is a promise that outlives tdid.
    t.daemon.restart()
    t.gone(vm)
    t.free(bdf)
    # Somebody who comes in time keeps it, and the waiting is over for good.
    vm = t.vm(await_vmm=600)
    vm.attach(bdf)
    vm.lease.close()
    eventually(lambda: "await" in [k["kind"] for k in vm.describe()["keepers"]], "the second VM waits")
    process = t.sleeper()
    pidfd = os.pidfd_open(process.pid)
    vm.set_pidfd(pidfd)
    os.close(pidfd)
    equal([k["kind"] for k in vm.describe()["keepers"]], ["pidfd"], "keepers once the VMM has come")
    t.attached(vm, bdf)
    process.kill()
    process.wait()
    t.gone(vm)
    # A further lease keeps it as well.
    vm = t.vm(await_vmm=600)
    vm.lease.close()
    hold = vm.hold("a guest of the hook")
    contains([k["kind"] for k in vm.describe()["keepers"]], "lease", "keepers")
    hold.close()
    vm.destroy()
    t.gone(vm)
    refused("InvalidArgument", t.client.create_vm, "too-long", await_vmm=601)


@scenario("edu:2", tags=("quick",))
def seal_and_late(t):
    """Early functions before the seal; after it only where the VM was made for hotplug."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(first)
    equal(vm.seal().state(), "done", "job of the seal")
    check(vm.phase() in ("sealed", "running"), f"phase {vm.phase()} after the seal")
    refused("InvalidState", vm.seal)
    refused("InvalidState", vm.attach, second)
    t.unchanged(second)
    t.attached(vm, first)
    vm.destroy()
    vm = t.vm(hotplug=True)
    vm.attach(first)
    vm.seal()
    vm.attach(second)
    t.attached(vm, first, second)
    t.client.tdi(second).detach()
    t.attached(vm, first)
    equal(vm.describe()["hotplug"], True, "hotplug")


@scenario("edu")
def seal_empty(t):
    """A VM without functions can be sealed, restarted over, and closed."""
    vm = t.vm()
    vm.seal()
    t.daemon.restart()
    check(vm.alive() and vm.phase() in ("sealed", "running"), "the sealed VM after a restart")
    vm.lease.close()
    t.gone(vm)


@scenario("edu", tags=("quick",))
def bind_without_provider(t):
    """This kernel has no way to bind a TDI: that is said, never faked."""
    bdf = t.host.bdf("edu")
    vm = t.vm(bind="late")
    vm.attach(bdf)
    text = refused("NotSupported", t.client.tdi(bdf).bind)
    t.note(text)
    t.attached(vm, bdf)


@scenario("edu:3")
def async_jobs(t):
    """With `async` a call returns at once and the job goes on when its caller leaves."""
    bdfs = t.host.bdfs("edu", 3)
    vm = t.vm()
    leaver = Client(t.bus.address)
    tdis, job = VM(leaver, vm.path, None).attach(*bdfs, async_=True)
    equal(len(tdis), 3, "TDIs of an asynchronous attach")
    leaver.close()
    job.client = t.client
    props = job.props()
    check(len(props["Objects"]) > 0, "the job has no objects")
    check(str(props["Kind"]), "the job has no kind")
    now = time.time() * 1e6
    check(abs(int(props["Started"]) - now) < 120e6, f"Started is {props['Started']}, now is {now:.0f}")
    job.wait()
    t.attached(vm, *bdfs)
    # A finished job stays to be looked at.
    equal(job.state(), "done", "state of the finished job")
    job = vm.destroy(async_=True)
    job.wait()
    t.gone(vm)


@scenario("edu", needs=("kvm",), tags=("quick",))
def set_kvm(t):
    """The VM's KVM VM is held until the unbind, and let go with the VM."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    kvm = t.host.kvm_vm()
    vm.set_kvm(kvm)
    t.host.close(kvm)
    equal(vm.describe()["kvm"], True, "kvm in Describe()")
    check(t.host.holds_kvm(vm.holder_pid()), "the holder does not have the KVM VM")
    # One VM, one KVM VM.
    second = t.host.kvm_vm()
    refused("Exists", vm.set_kvm, second)
    t.host.close(second)
    t.daemon.restart()
    equal(vm.describe()["kvm"], True, "kvm in Describe() after a restart")
    check(t.host.holds_kvm(vm.holder_pid()), "the holder does not have the KVM VM after a restart")
    vm.lease.close()
    t.gone(vm)


@scenario("switch-nvme")
def below_a_switch(t):
    """Bridges in a function's group are no members of it: a function below a switch goes alone."""
    bdf = t.host.bdf("switch-nvme")
    check(len(t.host.group_members(bdf)) > 1, "the switch has no part in the group: the topology has changed")
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    vm.lease.close()
    t.gone(vm)
    eventually(lambda: t.host.block(bdf), "the disk")


@scenario("nvme", "e1000e", "testdev", "ivshmem", "igb-vf:2")
def all_kinds(t):
    """Every kind of function of the machine at once in one VM, and back."""
    bdfs = [t.host.bdf(r) for r in ("nvme", "e1000e", "testdev", "ivshmem")] + t.host.bdfs("igb-vf", 2)
    vm = t.vm()
    vm.attach(*bdfs)
    t.attached(vm, *bdfs)
    equal(len({i["ioas"] for i in vm.describe()["tdis"]}), len({t.host.group(b) for b in bdfs}), "IOASes: one for a group")
    vm.lease.close()
    t.gone(vm)
    t.free(*bdfs)


@scenario("edu")
def already_on_vfio(t):
    """A function that was on vfio-pci before comes back to vfio-pci."""
    bdf = t.host.bdf("edu")
    context = on_vfio(t.host, bdf)
    context.__enter__()
    t.after(lambda: context.__exit__(None, None, None))
    override, pm = t.host.override(bdf), t.host.power_control(bdf)
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    vm.lease.close()
    t.gone(vm)
    t.free(bdf)
    equal((t.host.driver(bdf), t.host.override(bdf), t.host.power_control(bdf)), ("vfio-pci", override, pm),
          "driver, override and runtime PM afterwards")


@scenario("edu:2")
def unplugged(t):
    """The function is removed from the bus while a VM has it: tdid hears the request, lets go by itself, and all else goes on."""
    gone, stays = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(gone, stays)
    # The kernel rings the request interrupt and waits for the last descriptor, with all PCI hotplug.
    removed = t.host.start_remove(gone)
    t.after(t.host.rescan)
    eventually(removed, "end of the removal: tdid has let go", 60)
    equal(t.client.tdi(stays).state(), "prepared", "the other function")
    eventually(lambda: [i["bdf"] for i in vm.describe()["tdis"]] == [stays], "only the other function is left")
    t.host.rescan()
    eventually(lambda: t.device(gone).text("BDF") == gone, "tdid knows the function again")
    vm.attach(gone)
    t.attached(vm, gone, stays)


@scenario("edu", tags=("quick",), needs=("faults",))
def unplugged_halfway(t):
    """Giving back meets a function whose files are going one after another: that is no reason to withhold it."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    control = t.host.client.control
    rules = ({"call": "remove", "device": bdf, "delay_ms": 1500},
             {"call": "read:driver_override", "device": bdf, "errno": "ENOENT", "process": "tdid-worker"})
    for half in [control("fault", rule=rule)["id"] for rule in rules]:
        t.after(lambda ident=half: control("clear", id=ident))
    removed = t.host.start_remove(bdf)
    t.after(t.host.rescan)
    eventually(removed, "end of the removal", 60)
    eventually(lambda: not vm.describe()["tdis"], "the function is given back")
    check([f["fired"] for f in control("faults")["faults"] if f["id"] == half] != [0], "nobody came across the half of a function")
    vm.destroy()
    t.gone(vm)
    # Where the function is there, and one file of it is not, somebody has to look at it.
    t.host.rescan()
    eventually(lambda: t.device(bdf).text("BDF") == bdf, "tdid knows the function again")


@scenario("edu", tags=("quick",), needs=("faults",))
def read_once_more(t):
    """A function that cannot be read for a moment, because memory is short, is not taken for one that has gone."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    control = t.host.client.control
    rule = control("fault", rule={"call": "open:vendor", "device": bdf, "errno": "ENOMEM", "times": 1 << 20, "process": "tdid-worker"})["id"]

    def fired():
        return next(f["fired"] for f in control("faults")["faults"] if f["id"] == rule)
    t.client.tdi(bdf).detach()
    eventually(fired, "it was read again after the detach")
    # Until all that the detach gave reason to read has been read.
    time.sleep(0.5)
    control("clear", id=rule)
    eventually(lambda: t.device(bdf).text("Driver") == (t.host.driver(bdf) or ""), "tdid knows it, and its driver")
    vm.attach(bdf)
    t.attached(vm, bdf)


@scenario("edu", tags=("quick",))
def power_control(t):
    """A function that may sleep is held awake while a VM has it, and may sleep again afterwards."""
    bdf = t.host.bdf("edu")
    before = t.host.power_control(bdf)
    t.host.write(bdf, "power/control", "auto")
    t.after(lambda: t.host.write(bdf, "power/control", before))
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    vm.destroy()
    t.free(bdf)
    equal(t.host.power_control(bdf), "auto", "power/control afterwards")


@scenario(start=False, tags=("quick",))
def closed_and_killed(t):
    """A tdid that dies when a closing VM's holder has nothing left: the next one lets the holder end."""
    t.daemon.start({"TDID_TEST_KILL": "vm.close:do:emptied"})
    vm = t.vm()
    pid = vm.holder_pid()
    vm.lease.close()
    eventually(lambda: not t.daemon.alive(), "the end of tdid", 10)
    t.daemon.wait_exit()
    t.daemon.start()
    eventually(lambda: process_state(pid) in ("", "Z"), "the end of the holder", 10)
    t.gone(vm)
