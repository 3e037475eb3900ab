# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Ways back that do not go as they should: a TSM that refuses to unbind, one that goes and comes back, what happens to memory meanwhile.

import errno
import os
import signal
import time

from cases.q_order import calls, first, in_order, last
from cases.x_bind import RID, Bound, check_bound, check_log
from kit.checks import check, contains, equal, eventually
from kit.client import Lost, refused
from kit.logind import Logind
from kit.registry import scenario
from kit.simtsm import Rules
from kit.tdictl import Monitor
from kit.vmm import Ram, connect

MIB = 1 << 20
NEEDS = ("bind_module", "kvm", "faults")


def refuse(t, *bdfs):
    """
    From now on the provider does not unbind these. No kernel up to 7.3 can be made to: there pci_tsm_unbind() tells nobody, and a TSM that
    refuses is one that does not come back.
    """
    rules = Rules(t.host.client)
    for bdf in bdfs:
        rules.add(bdf, call="TDID_BIND_IOC_UNBIND", device=bdf, errno="EBUSY")
    t.defer(rules.clear)
    return rules


def tried(rules, t):
    return [f["fired"] for f in t.host.client.control("faults")["faults"] if f["id"] in rules.ids.values()][0]


def quarantined(t, bdf):
    return eventually(lambda: t.device(bdf).text("Quarantine"), f"quarantine of {bdf}")


def settled(t, bdf, state="prepared"):
    eventually(lambda: t.client.tdi(bdf).state() == state and not t.device(bdf).text("Quarantine"), f"{bdf} is {state}")


@scenario("igb-vf:2", tsm=("igb",), needs=NEEDS + ("trace",), tags=("quick",))
def bind_refuses_to_end(t):
    """
    The TSM refuses to unbind: the function is quarantined and says why, is tried again by itself, later each time, and when somebody asks;
    nothing resets or closes it meanwhile, and the VM's other function is none the worse.
    """
    bdf, other = t.host.bdfs("igb-vf", 2)
    b = Bound(t, bdf, other)
    b.bind(bdf, other)
    rules = refuse(t, bdf)
    path, begin = t.host.start_trace()
    contains(refused("Quarantined", t.client.tdi(bdf).unbind), "EBUSY", "why")
    contains(quarantined(t, bdf), "bind.tsm", "what everybody is told")
    equal(t.client.tdi(bdf).state(), "bound", "state: the TSM has it still")
    contains(next(x for x in b.vm.describe()["tdis"] if x["bdf"] == bdf)["quarantine"], "EBUSY", "what the owner is told")
    contains(refused("Quarantined", t.device(bdf).restore), "EBUSY", "when somebody asks")
    contains(refused("Quarantined", t.client.tdi(bdf).unbind), "EBUSY", "when somebody asks otherwise")
    before = tried(rules, t)
    eventually(lambda: tried(rules, t) > before, "it is tried again by itself", 12)
    check(t.device(bdf).text("Quarantine"), "the quarantine is gone while the TSM refuses")
    # A tdid that comes back goes on with that.
    t.daemon.restart()
    equal((t.client.tdi(bdf).state(), t.device(bdf).text("Custody")), ("bound", "bind"), "after a restart")
    check(t.device(bdf).text("Quarantine"), "the quarantine is forgotten")
    before = tried(rules, t)
    eventually(lambda: tried(rules, t) > before, "the next tdid tries it again by itself")
    rules.clear()
    settled(t, bdf)
    found = calls(path, begin)
    t.host.end_trace()
    equal([c for c in found if c["device"] == bdf and (c["op"] == "release" or c["name"] == "VFIO_DEVICE_DETACH_IOMMUFD_PT")], [], "what nobody may do")
    b.check(other)
    b.bind(bdf)
    b.check(bdf, other)


@scenario("igb-vf", tsm=("igb",), needs=NEEDS, tags=("quick",))
def bind_refuses_restored(t):
    """Restore of what could not be unbound unbinds it, and leaves it to its VM."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    b.bind()
    rules = refuse(t, bdf)
    refused("Quarantined", t.client.tdi(bdf).unbind)
    rules.clear()
    t.device(bdf).restore()
    settled(t, bdf)
    b.check()
    # And where it was to leave its VM, it does.
    b.bind()
    rules = refuse(t, bdf)
    refused("Quarantined", t.client.tdi(bdf).detach)
    rules.clear()
    t.device(bdf).restore()
    t.free(bdf)
    equal(b.vm.describe()["tdis"], [], "functions of the VM")


@scenario("igb-vf", "edu", tsm=("igb",), needs=NEEDS + ("trace",), tags=("quick",))
def bind_refuses_closing(t):
    """
    A VM closes while the TSM refuses: guest memory is free, and the VM says how much is pinned since when; everything else is given back.
    The VM waits for the TSM, and goes when it has let go.
    """
    bdf, other = t.host.bdf("igb-vf"), t.host.bdf("edu")
    b = Bound(t, bdf, bind="early", seal=False)
    b.vm.attach((other, {"bind": "late"}))
    b.vm.seal()
    client = connect(t, b.vm, bdf)
    memory = Ram(MIB)
    t.defer(memory.close)
    client.dma_map(0x40000000, MIB, memory.fd)
    equal({k: b.vm.describe()["pinned"][k] for k in ("bytes", "since")}, {"bytes": MIB, "since": None}, "pinned while it runs")
    memfd, dmabuf = b.vm.shared_buffer(MIB)
    os.close(memfd)
    t.host.close(dmabuf)
    equal(b.vm.describe()["pinned"]["buffers"], MIB, "shared memory")
    rules = refuse(t, bdf)
    path, begin = t.host.start_trace()
    now = time.time() * 1e6
    text = refused("Quarantined", b.vm.destroy)
    contains(text, bdf, "which function")
    contains(text, "--abandon", "what to do")
    equal(b.vm.phase(), "closing", "phase")
    pinned = b.vm.describe()["pinned"]
    equal((pinned["bytes"], pinned["buffers"], pinned["error"]), (0, 0, None), "what is pinned")
    check(now - 1e6 < pinned["since"] <= time.time() * 1e6, f"since when: {pinned['since']}")
    t.free(other)
    check(not b.vm.describe()["kvm"], "the VM holds the KVM VM though it needs it no more")
    holder = b.vm.holder_pid()
    check(t.host.holds(holder, bdf), "nobody keeps the device")
    found = calls(path, begin)
    last(found, "unmap", op="ioctl", name="IOMMU_IOAS_UNMAP")
    equal([c for c in found if c["device"] == bdf and c["op"] == "release"], [], "last closes")
    t.daemon.restart()
    equal(b.vm.describe()["pinned"]["since"], pinned["since"], "since when, after a restart")
    rules.clear()
    t.gone(b.vm)
    t.free(bdf)
    found = calls(path, begin)
    t.host.end_trace()
    in_order(t, found, ("unbind", first(found, "unbind", op="tsm.unbind", device=bdf)),
             ("close", first(found, "release of the node", op="release", device=bdf)))
    check_log(t)


@scenario("igb-vf", tsm=("igb",), needs=NEEDS + ("trace",), tags=("quick",))
def bind_refuses_abandoned(t):
    """
    A VM is given up while the TSM refuses: its name, memory and holder are gone, the function stays quarantined with what keeps it bound,
    also when tdid is killed or stopped; it is given back when the TSM lets go.
    """
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf, bind="early")
    rules = refuse(t, bdf)
    path, begin = t.host.start_trace()
    refused("Quarantined", b.vm.destroy)
    contains(refused("Quarantined", b.vm.destroy, abandon=True), bdf, "which function stays behind")
    t.gone(b.vm)
    for restarted in (None, t.daemon.restart, lambda: (t.daemon.stop(), t.daemon.start())):
        if restarted:
            restarted()
        quarantined(t, bdf)
        equal((t.device(bdf).text("Custody"), t.host.tsm_bound(bdf)), ("bind", t.tsm_name), "it is bound still")
        equal(t.tsm.count("unbind"), 0, "unbinds")
        vm = t.vm()
        refused(("Quarantined", "InUse"), vm.attach, bdf)
        vm.destroy()
        t.gone(vm)
        before = tried(rules, t)
        eventually(lambda: tried(rules, t) > before, "it is tried again by itself", 12)
    rules.clear()
    t.free(bdf)
    found = calls(path, begin)
    t.host.end_trace()
    in_order(t, found, ("unbind", first(found, "unbind", op="tsm.unbind", device=bdf)),
             ("close", first(found, "release of the node", op="release", device=bdf)))
    check_log(t)


@scenario("igb-vf", start=False, needs=("bind_module", "kvm", "tsm", "trace"), tags=("quick",))
def bind_end_tdx(t):
    """The row of a platform whose TSM wants DMA unmapped first is followed: the function reaches no memory while it is unbound, and does again after it."""
    bdf = t.host.bdf("igb-vf")
    t.load_tsm([t.host.dsm(bdf)], parent="tdx_host")
    t.start()
    b = Bound(t, bdf)
    equal(str(b.vm.get("Platform")), "tdx", "platform")
    b.bind()
    path, begin = t.host.start_trace()
    t.client.tdi(bdf).unbind()
    b.check()
    found = calls(path, begin)
    in_order(t, found, ("detach", first(found, "detach", op="ioctl", name="VFIO_DEVICE_DETACH_IOMMUFD_PT", device=bdf)),
             ("unbind", first(found, "unbind", op="tsm.unbind", device=bdf)),
             ("attach", first(found, "attach", op="ioctl", name="VFIO_DEVICE_ATTACH_IOMMUFD_PT", device=bdf)))
    b.bind()
    b.vm.destroy()
    t.gone(b.vm)
    t.free(bdf)
    t.host.end_trace()
    check_log(t)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_end_hangs(t):
    """The TSM does not come back from an unbind: guest memory is free all the same, and what waits is only the function."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf, bind="early")
    client = connect(t, b.vm, bdf)
    with Ram(MIB) as memory:
        client.dma_map(0x40000000, MIB, memory.fd)
        equal(b.vm.describe()["pinned"]["bytes"], MIB, "pinned while it runs")
        t.tsm.rule("unbind", bdf, delay=120000, count=1)
        job = b.vm.destroy(async_=True)
        eventually(lambda: b.vm.describe()["pinned"]["bytes"] == 0, "guest memory is free")
        check(b.vm.describe()["pinned"]["since"], "since when it should be")
        equal((t.tsm.count("unbind"), job.state(), t.client.tdi(bdf).state()), (0, "running", "detaching"), "unbinds, job and state")
        t.client.ping()
        # What comes later is not released.
        eventually(lambda: t.tsm.running("unbind", bdf), "the unbind hangs in the TSM")
        t.tsm.release()
        job.wait()
    t.gone(b.vm)
    t.free(bdf)
    check_log(t)


# ---- a TSM that goes and comes back ----

def reload(t, dsm, between=None):
    """As rmmod and insmod of the TSM's driver: what it had connected and bound is neither afterwards."""
    t.tsm.unload()
    if between:
        between()
    t.tsm.load([dsm])


@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_tsm_reload(t):
    """
    The TSM's driver goes under bound TDIs: that is noticed, and shown; when it is back, Bind() connects their DSM again and binds, also after
    a restart of tdid. Early ones are not bound again by themselves: their guest has lost what it trusted, and has to know.
    """
    first, second = t.host.bdfs("igb-vf", 2)
    dsm = t.host.dsm(first)
    b = Bound(t, first, second, bind="early")
    monitor = Monitor(t)

    def gone():
        for bdf in (first, second):
            eventually(lambda bdf=bdf: t.client.tdi(bdf).state() == "prepared" and t.device(bdf).text("Custody") == "prepare", f"{bdf} is not bound any more")
            equal((t.device(bdf).text("TSM"), t.device(bdf).text("Bound")), ("", ""), f"what is shown of {bdf}")
        contains(next(x for x in b.vm.describe()["tdis"] if x["bdf"] == first)["bind_error"], "gone", "why")
        refused(("InvalidState", "NotSupported"), t.client.tdi(first).bind)
    reload(t, dsm, gone)
    eventually(lambda: {e["id"] for e in monitor.seen if e.get("key") == "failed"} == {first, second}, "the signals")
    time.sleep(1.2)
    equal((t.tsm.count("connect"), t.tsm.count("bind")), (0, 0), "what tdid does by itself")
    b.bind(first)
    b.check(first)
    t.daemon.restart()
    b.bind(second)
    b.check(first, second)
    equal((t.tsm.count("connect"), t.tsm.count("bind")), (1, 2), "connects and binds")
    b.vm.lease.close()
    t.gone(b.vm)
    t.free(first, second)
    equal((t.tsm.count("unbind"), t.tsm.count("disconnect")), (2, 1), "unbinds and disconnects")
    check_log(t)


@scenario("igb-vf:2", needs=("bind_module", "kvm", "tsm"), tags=("quick",))
def bind_tsm_late(t):
    """A TSM that comes when the VM is there already, and goes again: what was attached before can be bound, and what cannot be connected says so."""
    first, second = t.host.bdfs("igb-vf", 2)
    dsm = t.host.dsm(first)
    b = Bound(t, first, second)
    refused("NotSupported", t.client.tdi(first).bind)
    t.load_tsm([dsm])
    t.tsm_baseline = None
    eventually(lambda: "dsm" in t.device(dsm).props()["TEE"], "the DSM is known")
    t.tsm.rule("connect", dsm, err=errno.EIO, count=1)
    contains(refused("Kernel", t.client.tdi(first).bind), "EIO", "why it cannot be connected")
    equal((t.client.tdi(first).state(), t.device(first).text("Custody")), ("prepared", "prepare"), "state and custody")
    b.bind()
    b.check(first, second)
    equal(t.tsm.count("connect"), 1, "connects")
    # So quickly that nobody sees it gone: all that tells is that its end was announced. It has the same name again.
    os.kill(t.daemon.pid, signal.SIGSTOP)
    try:
        t.tsm.unload()
        equal(t.tsm.load([dsm]), t.tsm_name, "the name of the TSM that comes")
    finally:
        os.kill(t.daemon.pid, signal.SIGCONT)
    for bdf in (first, second):
        eventually(lambda bdf=bdf: t.client.tdi(bdf).state() == "prepared" and t.device(bdf).text("Custody") == "prepare", f"{bdf} is not bound any more")
    eventually(lambda: t.tdictl.json("tsm", "list")["tsms"], "the TSM is back")
    b.bind(first, second)
    # Whose connection it is does not get lost: the last one gives it back.
    t.client.tdi(first).detach()
    equal((t.host.tsm_connected(dsm), t.client.tdi(second).state()), (t.tsm_name, "bound"), "the other one")
    t.client.tdi(second).detach()
    eventually(lambda: t.host.tsm_connected(dsm) == "", "the disconnect")
    check_log(t)


@scenario("igb-vf:2", needs=("bind_module", "kvm"), tags=("quick",))
def bind_tsm_bequeathed(t):
    """Two VMs' functions of one DSM, from before there was a TSM: the connection that one of them has made does not go with that one."""
    first, second = t.host.bdfs("igb-vf", 2)
    dsm = t.host.dsm(first)
    one, two = Bound(t, first), Bound(t, second)
    t.load_tsm([dsm])
    t.tsm_baseline = None
    eventually(lambda: "dsm" in t.device(dsm).props()["TEE"], "the DSM is known")
    one.bind()
    two.bind()
    equal(t.tsm.count("connect"), 1, "connects")
    one.vm.lease.close()
    t.gone(one.vm)
    equal((t.host.tsm_connected(dsm), t.client.tdi(second).state()), (t.tsm_name, "bound"), "the other VM's")
    check_log(t, 1)
    two.vm.lease.close()
    t.gone(two.vm)
    eventually(lambda: t.host.tsm_connected(dsm) == "", "the disconnect")
    check_log(t)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), start=False, tags=("quick",))
def bind_tsm_killed(t):
    """tdid is killed while it connects a DSM again: the function stays its VM's, and the connection is given back."""
    bdf = t.host.bdf("igb-vf")
    dsm = t.host.dsm(bdf)
    t.load_bind_module()
    points = ["bind.connect:do:before", "bind.connect:do:after", "bind.lock:do:after"]
    # By the kernel's side: the worker hears that it has connected, and has nobody to tell.
    for point in points + ["after it"] * t.host.has("faults"):
        t.daemon.start({"TDID_TEST_KILL": point})
        vm = t.vm()
        vm.attach((bdf, {"guest_rid": RID}))
        fd = t.host.kvm_vm()
        vm.set_kvm(fd)
        t.host.close(fd)
        vm.seal()
        eventually(lambda: t.device(bdf).text("TSM"), "tdid has seen the connection")
        reload(t, dsm, lambda: eventually(lambda: t.device(bdf).text("TSM") == "", "the TSM is gone"))
        eventually(lambda: "dsm" in t.device(dsm).props()["TEE"], "the DSM is known")
        if point == "after it":
            rules = Rules(t.host.client)
            rules.add(0, call="tsm.connect", device=dsm, kill=t.daemon.pid, times=1)
            t.defer(rules.clear)
        try:
            t.client.tdi(bdf).bind()
        except Lost:
            pass
        t.daemon.wait_exit()
        t.daemon.start()
        eventually(lambda: t.client.tdi(bdf).state() == "prepared" and t.device(bdf).text("Custody") == "prepare", f"{bdf} is prepared after {point}")
        t.client.tdi(bdf).bind()
        check_bound(t, vm, [bdf], [bdf])
        vm.lease.close()
        t.gone(vm)
        t.free(bdf)
        equal(t.host.tsm_connected(dsm), "", f"connection after {point}")
        check_log(t)
        t.daemon.stop()


# ---- suspend ----

def suspend(t):
    return t.tdictl.json("tsm", "show")["host"]["suspend"]


@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), start=False, tags=("quick",))
def bind_inhibits_suspend(t):
    """Suspend is refused from the first bind to the last unbind, also by a tdid that comes back, and again by a logind that comes back."""
    first, second = t.host.bdfs("igb-vf", 2)
    logind = Logind(t.bus.address, delay=1)
    t.defer(logind.close)
    t.start()
    b = Bound(t, first, second)
    equal((logind.asked, suspend(t)["refused"]), (0, False), "before anything is bound")
    b.bind(first)
    t.client.ping()
    logind.wait(1)
    equal(logind.locks()[0][:2] + logind.locks()[0][3:], ("sleep", "tdid", "block"), "what is inhibited, by whom and how")
    b.bind(second)
    t.client.tdi(first).unbind()
    logind.delay = 0
    equal((len(logind.locks()), logind.asked), (1, 1), "locks while one is bound")
    eventually(lambda: suspend(t)["refused"], "what is shown")
    t.daemon.kill()
    equal(logind.locks(), [], "locks without tdid")
    t.daemon.start()
    logind.wait(1)
    logind.close()
    t.client.ping()
    logind = Logind(t.bus.address)
    t.defer(logind.close)
    logind.wait(1)
    t.client.tdi(second).unbind()
    logind.wait(0)
    equal(suspend(t)["refused"], False, "after the last unbind")
    b.bind(first)
    logind.wait(1)
    b.vm.destroy()
    t.gone(b.vm)
    logind.wait(0)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_without_logind(t):
    """Without logind, or one that gives no lock, everything else goes on: it is said once, and shown; one that comes later is asked."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf, bind="early")
    b.check(bdf)
    shown = eventually(lambda: (s := suspend(t)) and "logind" in s["why"] and "answered yet" not in s["why"] and s, "what is shown")
    equal(shown["refused"], False, "refused")
    t.client.tdi(bdf).unbind()
    b.bind()
    time.sleep(0.3)
    said = [line for line in t.daemon.log() if "suspend is not refused while" in line]
    equal(len(said), 1, f"how often it is said: {said}")
    logind = Logind(t.bus.address, refuses=True)
    eventually(lambda: "not for you" in suspend(t)["why"], "why there is no lock")
    logind.close()
    logind = Logind(t.bus.address)
    t.defer(logind.close)
    logind.wait(1)
