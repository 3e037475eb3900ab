# SPDX-License-Identifier: LGPL-2.1-or-later
#
# TSMs and what is connected to them: counted per DSM, never undone for others, noticed when others act, patient with a
# slow handshake. The test TSM stands in for firmware; the PCI/TSM core is the kernel's own.

import errno
import time

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.registry import scenario

# tdid promises 2 s from when the kernel's semaphore is free. An emulated machine gets a second on top.
NOTICE = 3.0


def tsm_of(t, bdf):
    return t.device(bdf).text("TSM")


@scenario("igb-vf:2", tsm=("igb",), tags=("quick",))
def tsm_counted(t):
    """Two VFs, one DSM: connected with the first, disconnected after the last, across VMs and a restart."""
    first, second = t.host.bdfs("igb-vf", 2)
    dsm = t.host.dsm(first)
    one, two = t.vm("one"), t.vm("two")
    one.attach(first)
    equal(t.tsm.count("connect", dsm), 1, "connects")
    two.attach(second)
    equal(t.tsm.count("connect", dsm), 1, "connects after the second VF")
    eventually(lambda: tsm_of(t, dsm) == t.tsm_name, f"TSM of {dsm}")
    for bdf in (first, second):
        eventually(lambda bdf=bdf: t.device(bdf).text("DSM") == dsm, f"DSM of {bdf}")
    contains([str(d) for d in t.client.tsm(t.tsm_name)["Devices"]], dsm, "devices of the TSM")
    t.daemon.restart()
    one.lease.close()
    t.gone(one)
    equal(t.host.tsm_connected(dsm), t.tsm_name, "connection while the second VM lives")
    equal(t.tsm.count("disconnect"), 0, "disconnects while the second VM lives")
    # The count starts again from what is left.
    three = t.vm("three")
    three.attach(first)
    equal(t.tsm.count("connect", dsm), 1, "connects after the first VF came back")
    two.lease.close()
    t.gone(two)
    equal(t.host.tsm_connected(dsm), t.tsm_name, "connection while the third VM lives")
    t.client.tdi(first).detach()
    eventually(lambda: t.host.tsm_connected(dsm) == "", "the disconnect after the last")
    equal((t.tsm.count("connect"), t.tsm.count("disconnect")), (1, 1), "connects and disconnects in all")
    equal(t.daemon.journals(), [], "journal files")


@scenario("igb-vf:2", tsm=("igb",), tags=("quick",))
def tsm_together(t):
    """Two VFs of one DSM in one attach: neither waits for the other for ever, and it is connected once."""
    first, second = t.host.bdfs("igb-vf", 2)
    dsm = t.host.dsm(first)
    vm = t.vm()
    vm.attach(first, second)
    t.attached(vm, first, second)
    equal(t.tsm.count("connect", dsm), 1, "connects")
    vm.lease.close()
    t.gone(vm)
    t.free(first, second)
    eventually(lambda: t.host.tsm_connected(dsm) == "", "the disconnect after the last")
    equal(t.tsm.count("disconnect"), 1, "disconnects")


@scenario("nvme", "edu", tsm=("nvme",), tags=("quick",))
def tsm_foreign(t):
    """What somebody else connected is used and left connected, also when tdid dies in between."""
    bdf = t.host.bdf("nvme")
    t.host.tsm_connect(bdf, t.tsm_name)
    t.after(lambda: t.host.tsm_disconnect(bdf, t.tsm_name))
    eventually(lambda: tsm_of(t, bdf) == t.tsm_name, "tdid notices", NOTICE)
    t.tsm.clear_log()
    for restart in (False, True):
        vm = t.vm()
        vm.attach(bdf)
        t.attached(vm, bdf)
        equal(t.tsm.count("connect"), 0, "connects by tdid")
        if restart:
            t.daemon.restart()
        vm.lease.close()
        t.gone(vm)
        t.free(bdf)
        equal(t.host.tsm_connected(bdf), t.tsm_name, "the foreign connection afterwards")
    equal(t.tsm.count("disconnect"), 0, "disconnects by tdid")


@scenario("nvme", "edu", tsm=("nvme",), tags=("quick",))
def tsm_noticed(t):
    """Connect and disconnect by others have no event: tdid sees them within 2 s, and values carry their age."""
    bdf = t.host.bdf("nvme")
    before = eventually(lambda: int(t.device(bdf).get("TSMRead")), "TSMRead is set")
    for wanted, act in ((t.tsm_name, t.host.tsm_connect), ("", t.host.tsm_disconnect)):
        act(bdf, t.tsm_name)
        begin = time.monotonic()
        eventually(lambda wanted=wanted: tsm_of(t, bdf) == wanted, f"TSM is {wanted!r}", NOTICE, 0.02)
        t.value("seconds_to_notice", f"{time.monotonic() - begin:.2f}")
        devices = [str(d) for d in t.client.tsm(t.tsm_name)["Devices"]]
        equal(bdf in devices, bool(wanted), "device in the TSM's list")
    check(int(t.device(bdf).get("TSMRead")) > before, "TSMRead does not move")


@scenario("nvme", "edu", tags=("quick",))
def tsm_arrival(t):
    """A TSM comes and goes while tdid runs: objects, platform and properties follow, attached functions stay."""
    bdf, edu = t.host.bdf("nvme"), t.host.bdf("edu")
    equal([p for p in t.client.objects() if "/tsm/" in p], [], "TSM objects without a TSM")
    equal(str(t.client.get("/org/tdid1", "Manager", "Platform")), "plain", "Platform without a TSM")
    refused("NotSupported", t.device(bdf).connect)
    vm = t.vm()
    vm.attach(edu)
    name = t.load_tsm([bdf], parent="tdx_host")
    t.tsm_baseline = None
    path = f"/org/tdid1/tsm/{name}"
    eventually(lambda: path in t.client.objects(), "the TSM's object", NOTICE)
    props = t.client.tsm(name)
    equal((str(props["Name"]), str(props["Parent"]), str(props["Platform"])), (name, "tdx_host", "tdx"), "Name, Parent, Platform")
    equal(str(t.client.get("/org/tdid1", "Manager", "Platform")), "tdx", "Platform with a TSM")
    eventually(lambda: int(t.device(bdf).get("TSMRead")) > 0, "tsm/ of the nvme was read")
    t.device(bdf).connect(name)
    equal(t.host.tsm_connected(bdf), name, "connection")
    eventually(lambda: tsm_of(t, bdf) == name, "TSM of the nvme", NOTICE)
    t.unload_tsm()
    eventually(lambda: path not in t.client.objects(), "the TSM's object is gone", NOTICE)
    eventually(lambda: tsm_of(t, bdf) == "", "the connection is gone", NOTICE)
    equal(str(t.client.get("/org/tdid1", "Manager", "Platform")), "plain", "Platform afterwards")
    t.attached(vm, edu)


@scenario("nvme", tsm=("nvme",))
def tsm_gone_while_attached(t):
    """The TSM's driver goes while a VM has a connected function: the VM goes on, and everything is given back."""
    bdf = t.host.bdf("nvme")
    vm = t.vm()
    vm.attach(bdf)
    equal(t.host.tsm_connected(bdf), t.tsm_name, "connection")
    t.unload_tsm()
    eventually(lambda: tsm_of(t, bdf) == "", "tdid notices", NOTICE)
    t.attached(vm, bdf)
    vm.lease.close()
    t.gone(vm)
    t.free(bdf)
    eventually(lambda: t.host.block(bdf), "the disk")


@scenario("nvme", tsm=("nvme",), tags=("quick",))
def tsm_connect_fails(t):
    """A TSM that refuses fails the attach, and all of it is undone; with connect "no" it is not asked."""
    bdf = t.host.bdf("nvme")
    t.tsm.rule("connect", bdf, err=errno.EIO)
    vm = t.vm()
    text = refused("Kernel", vm.attach, bdf)
    for word in ("EIO", "tsm/connect", bdf):
        contains(text, word, "text")
    t.free(bdf)
    t.unchanged(bdf)
    asked = len(t.tsm.calls("connect"))
    vm.attach((bdf, {"connect": "no"}))
    t.attached(vm, bdf)
    equal(len(t.tsm.calls("connect")), asked, "connects asked for with connect=no")
    t.client.tdi(bdf).detach()
    # A probe that is refused is another errno.
    t.tsm.clear()
    t.tsm.rule("probe", bdf, err=errno.ENODEV)
    contains(refused("Kernel", vm.attach, bdf), "ENXIO", "text")
    t.tsm.clear()
    vm.attach(bdf)
    t.attached(vm, bdf)
    equal(t.host.tsm_connected(bdf), t.tsm_name, "connection once the TSM agrees")


@scenario("nvme", "edu:2", tsm=("nvme",), tags=("quick",))
def tsm_slow(t):
    """A handshake that takes its time holds the kernel's semaphore; tdid answers, and other VMs are served."""
    bdf = t.host.bdf("nvme")
    first, second = t.host.bdfs("edu", 2)
    t.tsm.rule("connect", bdf, delay=600000)
    vm = t.vm("slow")
    _, job = vm.attach(bdf, async_=True)
    eventually(lambda: t.tsm.running("connect", bdf), "the handshake is under way")
    answers = 0
    for _ in range(50):
        t.client.objects()
        tsm_of(t, bdf)
        answers += 1
    other = t.vm("other")
    other.attach(first)
    t.attached(other, first)
    equal(job.state(), "running", "state of the slow job")
    contains(job.step(), "connect", "step of the slow job")
    # What it has is taken: another transaction is refused, not queued behind it.
    refused(("Busy", "InUse"), other.attach, bdf)
    other.destroy()
    t.free(first)
    # A restart in the middle does not wait for it either.
    t.value("seconds_to_name", f"{t.daemon.restart():.2f}")
    other = t.vm("third")
    other.attach(second)
    t.attached(other, second)
    t.tsm.clear()
    t.tsm.release()
    t.quiet()
    custody = eventually(lambda: (c := t.device(bdf).text("Custody")) in ("none", "prepare") and c, "the slow function is settled")
    t.note(f"after the restart: {custody}, {answers} answers while it waited")
    if custody == "prepare":
        t.attached(vm, bdf)
    vm.lease.close()
    t.gone(vm)
    t.free(bdf)
    equal(t.host.tsm_connected(bdf), "", "connection afterwards")


@scenario("nvme", "edu", tsm=("nvme",), tags=("quick",))
def cancel(t):
    """Cancel asks; the step in the kernel ends first, then everything is undone."""
    bdf = t.host.bdf("nvme")
    t.tsm.rule("connect", bdf, delay=600000)
    vm = t.vm()
    _, job = vm.attach(t.host.bdf("edu"), bdf, async_=True)
    eventually(lambda: t.tsm.running("connect", bdf), "the handshake is under way")
    waiting = t.background(lambda client: client.find_vm("vm-1").attach(bdf))
    job.cancel()
    job.cancel()
    equal(job.state(), "running", "state right after Cancel")
    refused(("Busy", "InUse", "InvalidState"), waiting.wait)
    t.tsm.clear()
    t.tsm.release()
    job.wait("cancelled")
    t.free(bdf, t.host.bdf("edu"))
    t.unchanged(bdf, t.host.bdf("edu"))
    equal(t.tsm.count("disconnect", bdf), t.tsm.count("connect", bdf), "disconnects for connects")
    equal(vm.describe()["tdis"], [], "functions of the VM")
    # One that waits for its job gets the error.
    t.tsm.rule("connect", bdf, delay=600000)
    waiting = t.background(lambda client: client.find_vm("vm-1").attach(bdf))
    eventually(lambda: t.tsm.running("connect", bdf), "the second handshake")
    path = eventually(lambda: list(t.client.jobs("running")), "a running job")[0]
    t.client.call(path, "org.tdid1.Job", "Cancel")
    t.tsm.clear()
    t.tsm.release()
    refused("Cancelled", waiting.wait)
    refused("InvalidState", job.cancel)
    vm.attach(bdf)
    t.attached(vm, bdf)


@scenario("nvme", "edu", tsm=("nvme",), tags=("quick",))
def device_connect(t):
    """Connect and Disconnect by an administrator, and their errors; a VM's use of the connection is respected."""
    bdf, edu = t.host.bdf("nvme"), t.host.bdf("edu")
    device = t.device(bdf)
    refused("NotFound", device.connect, "tsm9")
    refused("NotFound", device.connect, "../tsm0")
    refused("NotSupported", t.device(edu).connect)
    refused("InvalidState", device.disconnect)
    device.connect()
    equal(t.host.tsm_connected(bdf), t.tsm_name, "connection")
    refused("Exists", device.connect, t.tsm_name)
    vm = t.vm()
    vm.attach(bdf)
    contains(refused("InUse", device.disconnect), vm.describe()["name"], "text names the VM")
    equal(t.host.tsm_connected(bdf), t.tsm_name, "connection after the refusal")
    vm.destroy()
    equal(t.host.tsm_connected(bdf), t.tsm_name, "connection after the VM: it was the administrator's")
    device.disconnect()
    equal(t.host.tsm_connected(bdf), "", "connection after Disconnect")


@scenario("nvme", "igb-vf", tsm=("nvme", "igb"))
def tsm_two_slow(t):
    """Two handshakes are serial in the kernel; both attaches end well, whichever comes first."""
    nvme, vf = t.host.bdf("nvme"), t.host.bdf("igb-vf")
    t.tsm.rule("connect", "*", delay=500)
    one, two = t.vm(), t.vm()
    jobs = [one.attach(nvme, async_=True)[1], two.attach(vf, async_=True)[1]]
    for job in jobs:
        job.wait()
    t.attached(one, nvme)
    t.attached(two, vf)
