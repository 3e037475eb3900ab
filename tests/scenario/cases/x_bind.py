# SPDX-License-Identifier: LGPL-2.1-or-later
#
# TDIs: bound to the VM's KVM VM through the bind provider, early or late, before boot or plugged in later, and unbound before anything
# that would reset them, whoever dies. What the TSM saw is compared with what tdid says: its log is the TSM's own.

import errno
import os
import signal
import time

from cases.q_order import calls, first, in_order, last
from kit import vfio_user
from kit.checks import Failure, check, contains, equal, eventually
from kit.client import Lost, Refused, refused
from kit.registry import scenario
from kit.tdictl import Monitor
from kit.vmm import Vmm, connect

RID = 0x0100
NOTICE = 3.0


class Bound:
    """A VM with functions on their way to be TDIs, and what is known of them from elsewhere."""

    def __init__(self, t, *bdfs, bind="late", kvm=True, seal=True, **opts):
        self.t, self.bdfs = t, bdfs
        if not t.host.bind_module_loaded():
            t.load_bind_module()
        self.vm = t.vm(bind=bind, **opts)
        self.vm.uuid = str(self.vm.get("UUID"))
        if bdfs:
            self.vm.attach(*[(b, {"guest_rid": RID + i}) for i, b in enumerate(bdfs)])
        if kvm:
            self.give_kvm()
        if seal:
            self.vm.seal()

    def give_kvm(self):
        fd = self.t.host.kvm_vm()
        self.vm.set_kvm(fd)
        self.t.host.close(fd)

    def bind(self, *bdfs):
        for bdf in bdfs or self.bdfs:
            self.t.client.tdi(bdf).bind()

    def check(self, *bound):
        """Everybody agrees on which are bound."""
        check_bound(self.t, self.vm, self.bdfs, bound)


def rid(index):
    return RID + index


def vpci(vm, bdf):
    return next(x for x in vm.describe()["tdis"] if x["bdf"] == bdf)["vpci"]


def check_bound(t, vm, bdfs, bound):
    doc = {x["bdf"]: x for x in vm.describe()["tdis"]}
    for i, bdf in enumerate(bdfs):
        is_bound = bdf in bound
        equal(t.client.tdi(bdf).state(), "bound" if is_bound else "prepared", f"state of {bdf}")
        equal(t.device(bdf).text("Custody"), "bind" if is_bound else "prepare", f"custody of {bdf}")
        # The kernel says nothing of a function without PCIe capability, such as the edu device.
        if bdf not in t.host.bdfs("group-edu"):
            equal(t.host.tsm_bound(bdf), t.tsm_name if is_bound else "", f"tsm/bound of {bdf}")
            eventually(lambda: t.device(bdf).text("Bound") == (t.tsm_name if is_bound else ""), f"property Bound of {bdf}", NOTICE)
        equal((doc[bdf]["bound"] or {}).get("tdi_id"), rid(i) if is_bound else None, f"TDI id of {bdf}")
        eventually(lambda: vpci(vm, bdf)["config"]["state"] == ("locked" if is_bound else "unlocked"), f"config filter of {bdf}")
    check_log(t, len(bound))


def check_log(t, still_bound=0):
    """What no TSM forgives: a bind without a connection, two of one function, an unbind of nothing, a disconnect with TDIs under it."""
    connected, bound = set(), {}
    for call in t.tsm.calls():
        if call.result != "0":
            continue
        if call.op == "connect":
            check(call.bdf not in connected, f"{call.bdf} is connected twice")
            connected.add(call.bdf)
        elif call.op == "bind":
            dsm = t.host.dsm(call.bdf)
            check(dsm in connected, f"{call.bdf} is bound while {dsm} is not connected")
            check(call.bdf not in bound, f"{call.bdf} is bound twice")
            bound[call.bdf] = dsm
        elif call.op == "unbind":
            check(call.bdf in bound, f"{call.bdf} is unbound, which it was not")
            del bound[call.bdf]
        elif call.op == "disconnect":
            check(call.bdf not in bound.values(), f"{call.bdf} is disconnected with TDIs bound under it: {bound}")
            connected.discard(call.bdf)
    equal(len(bound), still_bound, "TDIs that the TSM has bound")


def vmm(t, vm, bdf):
    """A VMM at the function's socket, with a KVM VM of its own, which ends with it."""
    path = os.path.join(t.daemon.state, "vm", str(vm.uuid), bdf.replace(":", "_") + ".sock")
    kvm = t.host.kvm_vm()
    process = Vmm(t, fds=(kvm,))
    t.host.close(kvm)
    process.connect(path)
    return process


# ---- late ----

@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_late(t):
    """A TDI is bound when somebody asks, unbound when somebody asks, and bound again; another one of the VM stays as it is."""
    first, second = t.host.bdfs("igb-vf", 2)
    b = Bound(t, first, second, kvm=False, seal=False)
    contains(refused("InvalidState", t.client.tdi(first).bind), "seal", "what to do before the seal")
    b.vm.seal()
    contains(refused("InvalidState", t.client.tdi(first).bind), "SetKVM", "what to do without a KVM VM")
    b.check()
    b.give_kvm()
    b.bind(first)
    b.check(first)
    contains(refused("InvalidState", t.client.tdi(first).bind), "bound", "a second bind")
    contains(refused("InvalidState", t.client.tdi(second).unbind), "not bound", "an unbind of what is not bound")
    t.client.tdi(first).unbind()
    b.check()
    b.bind(first, second)
    b.check(first, second)
    t.client.tdi(second).detach()
    check_bound(t, b.vm, [first], [first])
    b.vm.lease.close()
    t.gone(b.vm)
    t.free(first, second)
    equal((t.tsm.count("bind"), t.tsm.count("unbind")), (3, 3), "binds and unbinds in all")
    check_log(t)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_refused(t):
    """What cannot be bound is refused with the reason, and stays what it was."""
    bdf = t.host.bdf("igb-vf")
    t.load_bind_module()
    vm = t.vm()
    vm.attach(bdf)
    fd = t.host.kvm_vm()
    vm.set_kvm(fd)
    t.host.close(fd)
    vm.seal()
    contains(refused("InvalidState", t.client.tdi(bdf).bind), "guest_rid", "without a requester ID")
    vm.destroy()
    t.gone(vm)
    vm = t.vm()
    vm.attach((bdf, {"guest_rid": RID, "connect": "no"}))
    vm.seal()
    contains(refused("InvalidState", t.client.tdi(bdf).bind), "connect", "without a TSM connection")
    vm.destroy()
    t.gone(vm)
    equal(t.tsm.count("bind"), 0, "binds so far")

    b = Bound(t, bdf)
    t.tsm.rule("bind", bdf, err=errno.EIO, count=1)
    text = refused("Kernel", t.client.tdi(bdf).bind)
    contains(text, "EIO", "the TSM's errno")
    b.check()
    contains(b.vm.describe()["tdis"][0]["bind_error"], "EIO", "why, for who asks later")
    b.bind()
    b.check(bdf)
    equal(b.vm.describe()["tdis"][0]["bind_error"], None, "why, after it went well")


@scenario("igb-vf", tsm=("igb",), needs=("kvm",), tags=("quick",))
def bind_no_provider(t):
    """Without the module nothing binds: that is said, for Bind() and for a seal with an early TDI, and nothing is changed."""
    bdf = t.host.bdf("igb-vf")
    vm = t.vm()
    vm.attach((bdf, {"guest_rid": RID, "bind": "early"}))
    text = refused("NotSupported", t.client.tdi(bdf).bind)
    contains(text, "tdid-bind", "what is missing")
    text = refused("NotSupported", vm.seal)
    contains(text, bdf, "which function")
    equal(vm.phase(), "preparing", "phase after a seal that was refused")
    t.attached(vm, bdf)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_slow(t):
    """A TSM that takes its time holds up nobody else; a bind is cancelled, or its function detached, without leaving anything."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    t.tsm.rule("bind", bdf, delay=60000, count=1)
    job = t.client.tdi(bdf).bind(async_=True)
    eventually(lambda: t.tsm.running("bind"), "the bind hangs in the TSM")
    t.client.ping()
    refused("InvalidState", t.client.tdi(bdf).unbind)
    refused("Busy", t.client.tdi(bdf).bind)
    job.cancel()
    t.tsm.release()
    job.wait("cancelled")
    b.check()
    b.bind()
    t.tsm.rule("unbind", bdf, delay=60000, count=1)
    job = t.client.tdi(bdf).unbind(async_=True)
    time.sleep(0.5)
    begin = time.monotonic()
    t.client.ping()
    check(time.monotonic() - begin < 10, "tdid waits for the TSM's unbind")
    equal((t.client.tdi(bdf).state(), job.state()), ("bound", "running"), "state and job while the TSM unbinds")
    t.tsm.release()
    job.wait()
    b.check()
    t.tsm.rule("bind", bdf, delay=60000, count=1)
    job = t.client.tdi(bdf).bind(async_=True)
    eventually(lambda: t.tsm.running("bind"), "the bind hangs in the TSM again")
    leave = t.client.tdi(bdf).detach(async_=True)
    t.tsm.release()
    leave.wait()
    job.wait("failed")
    t.free(bdf)
    check_log(t)


# ---- early ----

@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_early(t):
    """An early TDI is bound when the VM is sealed and its KVM VM known, whichever comes later; the seal waits for it when it can."""
    first, second = t.host.bdfs("igb-vf", 2)
    b = Bound(t, first, bind="early", kvm=False, seal=False)
    b.give_kvm()
    b.check()
    b.vm.seal()
    b.check(first)
    b.vm.destroy()
    t.gone(b.vm)
    b = Bound(t, second, bind="early", kvm=False)
    b.check()
    b.give_kvm()
    eventually(lambda: t.client.tdi(second).state() == "bound", "the bind once the KVM VM is known")
    b.check(second)
    # Who unbinds it wants it unbound, also after a restart.
    t.client.tdi(second).unbind()
    b.check()
    t.daemon.restart()
    b.check()
    b.bind()
    b.check(second)


@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_early_fails(t):
    """A seal names the early TDI that the TSM refuses; the VM is sealed, the others are bound, and it can be tried again."""
    first, second = t.host.bdfs("igb-vf", 2)
    b = Bound(t, first, second, bind="early", seal=False)
    t.tsm.rule("bind", second, err=errno.EIO, count=1)
    text = refused("Kernel", b.vm.seal)
    contains(text, second, "which function")
    contains(text, "EIO", "the TSM's errno")
    equal(b.vm.phase(), "sealed", "phase")
    b.check(first)
    b.bind(second)
    b.check(first, second)


@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_hotplug(t):
    """A function that is plugged into a running VM is bound at once where it is early, and later where it is late."""
    early, late = t.host.bdfs("igb-vf", 2)
    b = Bound(t, hotplug=True)
    b.bdfs = (early, late)
    b.vm.attach((early, {"guest_rid": rid(0), "bind": "early"}), (late, {"guest_rid": rid(1), "bind": "late"}))
    eventually(lambda: t.client.tdi(early).state() == "bound", "the bind of the early one")
    b.check(early)
    b.bind(late)
    b.check(early, late)


@scenario("nvme", tsm=("nvme",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_physical(t):
    """A physical function, which is its own DSM; its disk is back afterwards."""
    bdf = t.host.bdf("nvme")
    b = Bound(t, bdf, bind="early")
    b.check(bdf)
    b.vm.lease.close()
    t.gone(b.vm)
    t.free(bdf)
    check_log(t)
    eventually(lambda: t.host.block(bdf), "the disk")


# ---- the ways out ----

def restart(t, _):
    t.daemon.restart()


def kill_holder(t, b):
    os.kill(b.vm.holder_pid(), signal.SIGKILL)


def kill_both(t, b):
    pid = b.vm.holder_pid()
    t.daemon.kill()
    os.kill(pid, signal.SIGKILL)
    t.daemon.start()


WAYS = {
    "lease": lambda t, b: b.vm.lease.close(),
    "destroy": lambda t, b: b.vm.destroy(),
    "holder": kill_holder,
    "both": kill_both,
}


def way_out(way):
    def run(t):
        bdfs = t.host.bdfs("igb-vf", 2)
        b = Bound(t, *bdfs, bind="early")
        b.check(*bdfs)
        way(t, b)
        t.gone(b.vm)
        t.free(*bdfs)
        eventually(lambda: t.host.tsm_connected(t.host.dsm(bdfs[0])) == "", "the disconnect")
        equal((t.tsm.count("bind"), t.tsm.count("unbind")), (2, 2), "binds and unbinds")
        check_log(t)
    return run


for NAME, WAY in WAYS.items():
    scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",), name="bind_end_" + NAME)(way_out(WAY))


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm", "trace"), tags=("quick",))
def bind_closing_order(t):
    """Nothing is detached, unmapped or closed before the TSM has let go; the VMM is held back until then."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf, bind="early")
    path, begin = t.host.start_trace()
    b.vm.lease.close()
    t.gone(b.vm)
    t.free(bdf)
    found = calls(path, begin)
    t.host.end_trace()
    in_order(t, found, ("unbind", first(found, "unbind", op="tsm.unbind", device=bdf)),
             ("detach", first(found, "detach", op="ioctl", name="VFIO_DEVICE_DETACH_IOMMUFD_PT", device=bdf)),
             ("unmap", last(found, "unmap", op="ioctl", name="IOMMU_IOAS_UNMAP")),
             ("close", first(found, "release of the node", op="release", device=bdf)))


@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_restart(t):
    """tdid dies and comes back: what is bound stays bound, the TSM hears nothing of it, and it can be unbound."""
    first, second = t.host.bdfs("igb-vf", 2)
    b = Bound(t, first, second)
    b.bind(first)
    for _ in range(2):
        t.daemon.restart()
        b.check(first)
    equal((t.tsm.count("bind"), t.tsm.count("unbind")), (1, 0), "binds and unbinds")
    t.client.tdi(first).unbind()
    b.check()
    t.daemon.restart()
    b.check()
    b.bind(second)
    b.check(second)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), start=False, timeout=900)
def bind_killed(t):
    """tdid killed before and after each sub-action of a bind and of its undo: the function is prepared or bound, never in between."""
    bdf = t.host.bdf("igb-vf")
    t.load_bind_module()
    for point in [f"bind.{a}:{v}:{w}" for a in ("lock", "tsm", "requests") for v in ("do", "undo") for w in ("before", "after")] + ["bind.tsm:do:held"]:
        t.daemon.start({"TDID_TEST_KILL": point})
        vm = t.vm()
        vm.attach((bdf, {"guest_rid": RID}))
        fd = t.host.kvm_vm()
        vm.set_kvm(fd)
        t.host.close(fd)
        vm.seal()
        try:
            t.client.tdi(bdf).bind()
            if ":undo:" in point:
                t.client.tdi(bdf).unbind()
        except Lost:
            pass
        except Refused as error:
            raise Failure(f"{point}: refused instead of killed: {error}") from None
        eventually(lambda: not t.daemon.alive(), f"the end of tdid at {point}", 5)
        t.daemon.wait_exit()
        t.daemon.start()

        def settled():
            state = t.client.tdi(bdf).state()
            return state if t.device(bdf).text("Custody") == {"prepared": "prepare", "bound": "bind"}[state] else None
        state = eventually(settled, f"{bdf} is prepared or bound after {point}")
        check_bound(t, vm, [bdf], [bdf] if state == "bound" else [])
        t.note(f"{point}: {state}")
        if state == "prepared":
            t.client.tdi(bdf).bind()
        check_bound(t, vm, [bdf], [bdf])
        vm.lease.close()
        t.gone(vm)
        t.free(bdf)
        t.unchanged(bdf)
        check_log(t)
        t.daemon.stop()


# ---- others' actions ----

@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_disconnected(t):
    """An administrator disconnects the DSM: the kernel unbinds what is under it; tdid notices, says so, and lets the clients go on."""
    first, second = t.host.bdfs("igb-vf", 2)
    b = Bound(t, first, second, bind="early")
    monitor = Monitor(t)
    t.host.tsm_disconnect(t.host.dsm(first), t.tsm_name)
    for bdf in (first, second):
        eventually(lambda bdf=bdf: t.client.tdi(bdf).state() == "prepared", f"{bdf} is not bound any more", NOTICE)
        contains(next(x for x in b.vm.describe()["tdis"] if x["bdf"] == bdf)["bind_error"], "disconnected", "why")
        equal(t.device(bdf).text("Custody"), "prepare", f"custody of {bdf}")
    check_log(t)
    eventually(lambda: {e["id"] for e in monitor.seen if e.get("key") == "failed"} == {first, second}, "the signals")
    contains(refused("InvalidState", t.client.tdi(first).bind), "tdictl device connect", "what has to be done before it can be bound again")
    t.device(t.host.dsm(first)).connect()
    b.bind()
    b.check(first, second)
    equal(t.tsm.count("connect"), 2, "connects")
    b.vm.lease.close()
    t.gone(b.vm)
    t.free(first, second)
    # Who connected it disconnects it.
    equal(t.host.tsm_connected(t.host.dsm(first)), t.tsm_name, "an operator's connection")
    t.device(t.host.dsm(first)).disconnect()


@scenario("igb", "igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_dsm_stays(t):
    """The DSM of a bound TDI is not taken for a VM: its open would reset it."""
    pf, vf = t.host.bdf("igb"), t.host.bdf("igb-vf")
    b = Bound(t, vf, bind="early")
    b.check(vf)
    other = t.vm()
    contains(refused("InUse", other.attach, pf), vf, "which TDI")
    b.check(vf)


@scenario("group-nvme", "group-edu", tsm=("group-nvme",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_dsm_reset(t):
    """A guest's reset of the DSM, as at a reboot, unbinds what it speaks for too; afterwards both are bound again."""
    dsm, other = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    b = Bound(t, dsm, other, bind="early")
    b.check(dsm, other)
    connect(t, b.vm, dsm).reset()
    eventually(lambda: t.tsm.count("bind") == 4 and t.client.tdi(other).state() == "bound", "both are bound again")
    b.check(dsm, other)
    equal([c.bdf for c in t.tsm.calls("unbind")], [other, dsm], "unbinds in their order")


@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_vmm_replaced(t):
    """The VMM ends while no tdid is there: the next tdid unbinds what was bound to its KVM VM, also when another VMM has come."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf, bind="early", kvm=False)
    first = vmm(t, b.vm, bdf)
    eventually(lambda: t.client.tdi(bdf).state() == "bound", "it is bound to the first VMM's KVM VM")
    t.daemon.kill()
    first.kill()
    t.daemon.start()
    eventually(lambda: t.client.tdi(bdf).state() == "prepared" and t.device(bdf).text("Custody") == "prepare", "it is unbound")
    check(not b.vm.describe()["kvm"], "the KVM VM of a VMM that has ended is kept")
    second = vmm(t, b.vm, bdf)
    eventually(lambda: t.client.tdi(bdf).state() == "bound", "it is bound to the second VMM's KVM VM")
    t.daemon.kill()
    second.kill()
    third = vmm(t, b.vm, bdf)
    t.daemon.start()
    eventually(lambda: t.tsm.count("bind") == 3 and t.client.tdi(bdf).state() == "bound", "it is bound to the third VMM's KVM VM")
    equal(b.vm.describe()["peer"]["pid"], third.pid, "the VMM")
    check_log(t, 1)


@scenario("group-nvme", "group-edu", tsm=("group-nvme",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_dsm_together(t):
    """A DSM and what it speaks for in one VM: the DSM is bound first, and whatever unbinds it unbinds the other before."""
    dsm, other = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    b = Bound(t, dsm, other)
    contains(refused("InvalidState", t.client.tdi(other).bind), dsm, "what could reset it")
    b.bind(dsm, other)
    b.check(dsm, other)
    t.client.tdi(dsm).unbind()
    eventually(lambda: t.client.tdi(other).state() == "prepared", "the other is unbound with it")
    b.check()
    equal([c.bdf for c in t.tsm.calls("unbind")], [other, dsm], "unbinds in their order")
    b.vm.destroy()
    t.gone(b.vm)
    t.tsm.clear_log()
    b = Bound(t, dsm, other, bind="early")
    eventually(lambda: t.client.tdi(other).state() == "bound", "both are bound")
    b.check(dsm, other)
    b.vm.lease.close()
    t.gone(b.vm)
    t.free(dsm, other)
    equal([(c.op, c.bdf) for c in t.tsm.calls() if "bind" in c.op], [("bind", dsm), ("bind", other), ("unbind", other), ("unbind", dsm)], "order")


# ---- the VMM ----

@scenario("nvme", tsm=("nvme",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_vmm(t):
    """
    A VMM at the vPCI socket while its function is bound: what would end the TDI is dropped; a reset, which a guest that reboots asks for,
    unbinds first, and binds again what is early.
    """
    bdf = t.host.bdf("nvme")
    b = Bound(t, bdf, bind="early")
    client = connect(t, b.vm, bdf)
    command = client.read16(vfio_user.CONFIG, 4)
    client.write16(vfio_user.CONFIG, 4, command & ~2)
    b.check(bdf)
    equal(t.tsm.count("unbind"), 0, "unbinds so far")
    client.reset()
    eventually(lambda: t.client.tdi(bdf).state() == "bound", "it is bound again after the reset")
    b.check(bdf)
    equal((t.tsm.count("bind"), t.tsm.count("unbind")), (2, 1), "binds and unbinds")
    t.tsm.rule("unbind", bdf, delay=60000, count=1)
    vfio_user.fails(errno.EPERM, client.reset)
    t.tsm.release()
    eventually(lambda: t.client.tdi(bdf).state() == "prepared", "it is unbound when the TSM lets go")
    client.reset()
    eventually(lambda: t.client.tdi(bdf).state() == "bound", "it is bound again after the reset that came late")
    # Who hangs up takes interrupts and memory along.
    client.close()
    eventually(lambda: t.client.tdi(bdf).state() == "prepared", "it is unbound when its client has gone")
    b.check()


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm", "faults", "trace"), tags=("quick",))
def bind_waits_for_request(t):
    """A reset that was let in before the bind is over before the TSM binds: it would end the TDI."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    client = connect(t, b.vm, bdf)
    rule = t.host.client.control("fault", rule={"call": "reset", "device": bdf, "never": True})["id"]
    rules = [rule]
    t.defer(lambda: [t.host.client.control("clear", id=r) for r in rules])
    path, begin = t.host.start_trace()
    reset = client.ask(vfio_user.RESET)
    eventually(lambda: [c for c in t.host.client.control("open")["calls"] if c["name"] == "VFIO_DEVICE_RESET"], "the reset is under way")
    job = t.client.tdi(bdf).bind(async_=True)
    eventually(lambda: t.device(bdf).text("Custody") == "bind", "it is being bound")
    time.sleep(0.5)
    equal((t.tsm.count("bind"), job.state()), (0, "running"), "binds while the reset is under way, and the job")
    t.host.client.control("clear", id=rules.pop())
    job.wait()
    client.wait(reset)
    found = calls(path, begin)
    t.host.end_trace()
    in_order(t, found, ("reset", first(found, "reset", op="ioctl", name="VFIO_DEVICE_RESET", device=bdf)),
             ("bind", first(found, "bind", op="tsm.bind", device=bdf)))
    b.check(bdf)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_client_missed(t):
    """A client hangs up while no tdid is there: the next tdid unbinds what lost its interrupts and memory."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    client = connect(t, b.vm, bdf)
    eventually(lambda: len(b.vm.describe()["keepers"]) == 2, "the connection is known")
    b.bind()
    t.daemon.restart()
    b.check(bdf)
    t.daemon.kill()
    client.close()
    t.daemon.start()
    eventually(lambda: t.client.tdi(bdf).state() == "prepared" and t.device(bdf).text("Custody") == "prepare", "it is unbound")
    b.check()


@scenario("group-nvme", "group-edu", tsm=("group-nvme",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_client_missed_dsm(t):
    """The same of a DSM's client, where the VM has what the DSM speaks for too: that is unbound before it, and both stay with the VM."""
    dsm, other = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    b = Bound(t, dsm, other)
    client = connect(t, b.vm, dsm)
    eventually(lambda: len(b.vm.describe()["keepers"]) == 2, "the connection is known")
    b.bind(dsm, other)
    b.check(dsm, other)
    t.daemon.restart()
    b.check(dsm, other)
    t.daemon.kill()
    client.close()
    t.daemon.start()
    for bdf in (dsm, other):
        eventually(lambda bdf=bdf: t.client.tdi(bdf).state() == "prepared" and t.device(bdf).text("Custody") == "prepare", f"{bdf} is unbound, and stays")
    b.check()
    equal([c.bdf for c in t.tsm.calls("unbind")], [other, dsm], "unbinds in their order")


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"))
def bind_vmm_gone(t):
    """The VMM whose KVM VM it is ends: the TDI is unbound and the KVM VM let go, though a lease keeps the VM; the next VMM's is bound anew."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf, bind="early", kvm=False)
    for round_ in (1, 2):
        process = vmm(t, b.vm, bdf)
        eventually(lambda: t.client.tdi(bdf).state() == "bound", "it is bound to the VMM's KVM VM")
        b.check(bdf)
        process.kill()
        eventually(lambda: t.client.tdi(bdf).state() == "prepared", "it is unbound when the VMM has gone")
        eventually(lambda: not b.vm.describe()["kvm"], "the KVM VM is let go")
        b.check()
        equal((t.tsm.count("bind"), t.tsm.count("unbind")), (round_, round_), "binds and unbinds")
