# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the host and its devices do by themselves to a function that a VM has: they want it back, report an error, or do not answer any more. What
# becomes of it then is the table of docs/when-things-go-wrong.md; each row of it has a scenario, here or where the table says.

import time

import dbus

from cases.x_bind import Bound
from kit import vfio_user
from kit.checks import check, contains, equal, eventually
from kit.client import Refused, refused
from kit.registry import scenario
from kit.simtsm import Rules
from kit.vfio_user import CONFIG, DATA_EVENTFD, DATA_NONE, ERR, REQ, TRIGGER
from kit.vmm import Edu, Event, Ram, connect

IOVA = 0x8000000


def rules(t):
    out = Rules(t.host.client)
    t.defer(out.clear)
    return out


def listening(t, client, index):
    """An eventfd that the VMM has given for the request or the error interrupt."""
    event = Event()
    t.defer(event.close)
    client.set_irqs(index, DATA_EVENTFD | TRIGGER, fds=[event.fd])
    return event


def start_unbind(t, bdf):
    """Somebody on the host takes the function from its driver, which waits until nobody has it open. Returns what tells whether that has ended."""
    return t.host.start_write(bdf, "driver/unbind", bdf)


def events_of(vm, bdf):
    return next(tdi for tdi in vm.describe()["tdis"] if tdi["bdf"] == bdf)["vpci"]["events"]


@scenario("edu:2", "nvme", tags=("quick",))
def event_wanted(t):
    """
    Somebody unbinds a function from vfio-pci while its VMM works with it, and does not let go: the VMM is told, the function is taken from it, the
    unbind ends, and the function is with the driver that it had before. What else the VM has it keeps.
    """
    bdf, stays, nvme = *t.host.bdfs("edu", 2), t.host.bdf("nvme")
    vm = t.vm("web")
    vm.attach(bdf, stays, nvme)
    clients = {b: connect(t, vm, b) for b in (bdf, stays, nvme)}
    ram = Ram(1 << 20)
    t.defer(ram.close)
    clients[bdf].dma_map(IOVA, ram.size, ram.fd)
    check(Edu(clients[bdf]).round_trip(ram, IOVA), "DMA before")
    for one, before in ((bdf, None), (nvme, "nvme")):
        told, others = listening(t, clients[one], REQ), listening(t, clients[stays], REQ)
        begin = time.monotonic()
        ended = start_unbind(t, one)
        check(told.wait() >= 1, "the VMM's request interrupt")
        # It goes on reading: what ends its work is not in its hands.
        clients[one].wait_lost(30)
        eventually(ended, f"the end of the unbind of {one}")
        t.value(f"seconds_to_let_go_{one[5:7]}", f"{time.monotonic() - begin:.2f}")
        eventually(lambda: one not in [i["bdf"] for i in vm.describe()["tdis"]], "the function has left the VM")
        t.free(one)
        equal(t.host.driver(one), before, f"driver of {one} afterwards")
        t.unchanged(one)
        equal(others.wait(0), 0, "request interrupts of the function that stays")
        t.journal.wait("custody-wanted", bdf=one, vm="web")
        t.journal.wait("tdi-failed", bdf=one)
    Edu(clients[stays]).alive()
    t.attached(vm, stays)
    # What was wanted back is as any other afterwards.
    vm.attach(bdf)
    connect(t, vm, bdf).read(CONFIG, 0, 4)


@scenario("group-nvme", "group-edu", tags=("quick",))
def event_wanted_group(t):
    """One of a group is wanted back: all of the group go, as they came."""
    nvme, edu = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    vm = t.vm()
    vm.attach(nvme, edu)
    ended = start_unbind(t, edu)
    eventually(ended, "the end of the unbind")
    eventually(lambda: not vm.describe()["tdis"], "both functions have left the VM")
    t.free(nvme, edu)
    t.unchanged(nvme, edu)


@scenario("edu:2", "group-nvme", "group-edu", tags=("quick",))
def event_wanted_restart(t):
    """
    The host wants a function back while no tdid is there: the next one hears of it when it has the request interrupt from the holder, before it knows
    what else the holder has. The function, with its group, goes back as at any other time; what else the VM has it keeps.
    """
    stays, group = t.host.bdfs("edu", 2)[1], (t.host.bdf("group-nvme"), t.host.bdf("group-edu"))
    for wanted in ((t.host.bdfs("edu", 2)[0],), group):
        vm = t.vm("web")
        vm.attach(stays, *wanted)
        client = connect(t, vm, wanted[0])
        t.daemon.kill()
        ended = start_unbind(t, wanted[0])
        t.daemon.start()
        eventually(ended, f"the end of the unbind of {wanted[0]}")
        vm = t.adopt(t.client.find_vm("web"))
        eventually(lambda vm=vm: [i["bdf"] for i in vm.describe()["tdis"]] == [stays], "what else the VM has")
        client.wait_lost(30)
        eventually(lambda one=wanted[0]: t.journal.of("custody-wanted", bdf=one), "the event that the host wants it")
        t.journal.wait("tdi-failed", bdf=wanted[0])
        t.attached(vm, stays)
        t.free(*wanted)
        t.unchanged(*wanted)
        vm.destroy()
        t.gone(vm)


@scenario("edu:2", needs=("slow_reset",), tags=("full",))
def event_wanted_stuck(t):
    """A function whose reset hangs is wanted back: whoever wants it waits for the reset, and tdid serves; then all goes as without."""
    bdf, other = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    slow = t.load_slow_reset()
    slow.hang(bdf)
    number = client.ask(vfio_user.RESET)
    eventually(lambda: slow.hung() == 1, "the reset hangs", step=0.01)
    ended = start_unbind(t, bdf)
    check(client.wait(number).flags & vfio_user.ERROR, "a reset that has not ended is said to be done")
    beside = t.vm()
    beside.attach(other)
    t.dma(beside, other)
    check(not ended(), "the unbind has ended though the reset has not")
    slow.clear()
    eventually(ended, "the end of the unbind", 90)
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu", start=False, tags=("quick",))
def event_wanted_handed_off(t):
    """The host wants back what a VMM has copies of: tdid lets go of its own, says for whom the host waits, and it ends with the copies."""
    t.daemon.start(arguments=t.configured({"policy": {"handoff": True}, "deadlines": {"claim": 3}}))
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    iommufd, device = t.client.tdi(bdf).handoff()
    t.host.close(iommufd)
    ended = start_unbind(t, bdf)
    contains(eventually(lambda: t.device(bdf).text("Quarantine"), "for whom it waits"), "handed off", "for whom it waits")
    check(not ended(), "the unbind has ended though a copy is open")
    t.host.close(device)
    eventually(ended, "the end of the unbind")
    t.free(bdf)
    t.unchanged(bdf)


@scenario("edu:2", needs=("faults",), tags=("quick",))
def event_wanted_fails(t):
    """
    A step of giving back fails while the host waits for the function, or had failed before: the function is quarantined, with an event, and tried again by
    itself until the host has it. Another one that is quarantined, and nobody waits for, is left as it is.
    """
    bdf, other = t.host.bdfs("edu", 2)
    t.after(t.host.rescan)
    fault = rules(t)
    for before in (False, True):
        vm = t.vm()
        vm.attach(bdf, other)
        for one in (bdf, other):
            fault.add(one, call="VFIO_DEVICE_DETACH_IOMMUFD_PT", device=one, process="tdid-worker", errno="ENOMEM", times=1 + (one == bdf))
        refused("Quarantined", t.client.tdi(other).detach)
        if before:
            refused("Quarantined", t.client.tdi(bdf).detach)
        known = len(t.journal.of("quarantined", bdf=bdf))
        removed = t.host.start_remove(bdf)
        eventually(removed, "the end of the removal", 60)
        reasons = [e["TDID_REASON"] for e in t.journal.of("quarantined", bdf=bdf)[known:]]
        equal(["tried again by itself" in r for r in reasons], [True] * (2 - before), f"events: {reasons}")
        eventually(lambda bdf=bdf: t.journal.of("restored", bdf=bdf), "the event that it is over")
        check(t.device(other).text("Quarantine"), "what nobody waits for is tried again")
        t.device(other).restore()
        vm.destroy()
        t.free(other)
        t.host.rescan()
        eventually(lambda: t.device(bdf).text("BDF") == bdf, "tdid knows the function again")


@scenario("edu", needs=("faults",), tags=("full",), timeout=900)
def event_wanted_in_vain(t):
    """What fails again and again while the host waits for it is left, after ten times, to somebody who looks at it."""
    bdf = t.host.bdf("edu")
    t.after(t.host.rescan)
    vm = t.vm()
    vm.attach(bdf)
    fault = rules(t)
    fault.add(0, call="VFIO_DEVICE_DETACH_IOMMUFD_PT", device=bdf, process="tdid-worker", errno="ENOMEM", times=1 << 20)
    removed = t.host.start_remove(bdf)
    eventually(lambda: len(t.journal.of("quarantined", bdf=bdf)) == 11, "the last time", 600)
    last = t.journal.of("quarantined", bdf=bdf)[-1]["TDID_REASON"]
    check("tried again" not in last, f"the last reason: {last}")
    fault.clear()
    check(not removed(), "the removal has ended")
    t.device(bdf).restore()
    eventually(removed, "the end of the removal", 60)


@scenario("edu:2", needs=("faults",), tags=("quick",))
def event_unplugged_early(t):
    """
    A function is unplugged while it is being attached: before it is claimed, opened, bound and attached. Whoever attaches is refused, none of the
    transaction's functions stays, and the unplugging ends.
    """
    bdf, other = t.host.bdfs("edu", 2)
    t.after(t.host.rescan)
    fault = rules(t)
    places = ("write:driver_override", "list:vfio-dev", "VFIO_DEVICE_BIND_IOMMUFD", "VFIO_DEVICE_ATTACH_IOMMUFD_PT")
    for call in ("VFIO_DEVICE_SET_IRQS", *(places if t.full else t.rng.sample(places, 1))):
        vm = t.vm()
        fault.add("slow", call=call, device=bdf, process="tdid-worker", delay_ms=500, times=1)
        attach = t.background(lambda client, path=vm.path: refused_attach(client, path, other, bdf))
        eventually(fault.sleeping, f"{call} is under way")
        removed = t.host.start_remove(bdf)
        name, text = attach.wait()
        t.note(f"{call}: {name}: {text}")
        contains(text, bdf, f"text of {name}")
        eventually(removed, f"the end of the removal during {call}")
        equal(vm.describe()["tdis"], [], f"functions of the VM after {call}")
        fault.clear()
        t.free(other)
        t.unchanged(other)
        t.host.rescan()
        eventually(lambda: t.device(bdf).get("Present") and t.device(bdf).text("Custody") == "none", "tdid knows the function again")
        vm.attach(bdf, other)
        t.attached(vm, bdf, other)
        vm.destroy()
        t.gone(vm)
        t.free(bdf, other)


def refused_attach(client, path, *bdfs):
    array = dbus.Array([dbus.Struct((b, dbus.Dictionary(signature="sv")), signature="sa{sv}") for b in bdfs], signature="(sa{sv})")
    try:
        client.call(path, "org.tdid1.VM", "Attach", "a(sa{sv})a{sv}", array, dbus.Dictionary(signature="sv"))
    except Refused as error:
        return error.name, error.text
    return "accepted", ""


@scenario("edu:2", needs=("faults",), tags=("quick",))
def event_pulled_out(t):
    """A function is pulled out without a word while its VMM works with it: the VMM reads ones until it is told, then it is as with any unplugging."""
    bdf, stays = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf, stays)
    client, other = connect(t, vm, bdf), connect(t, vm, stays)
    told = listening(t, client, REQ)
    t.host.client.control("unplug", device=bdf, **{"async": True})
    t.after(lambda: t.host.client.control("plug", device=bdf))
    check(told.wait() >= 1, "the VMM's request interrupt")
    client.wait_lost(30)
    eventually(lambda: [i["bdf"] for i in vm.describe()["tdis"]] == [stays], "the function has left the VM")
    Edu(other).alive()
    eventually(lambda: not t.host.files.exists(t.host.path(bdf)), "the function has gone")


@scenario("e1000e", needs=("aer",), tags=("quick",), kernel_ok=("AER", "pcieport"))
def event_error(t):
    """
    The device reports an error: its VMM is told, tdid notes it where the owner sees it, and nothing else happens to a function that is no TDI: what is
    to be done about it is its guest's driver's business. Without a VMM it is noted all the same.
    """
    bdf = t.host.bdf("e1000e")
    vm = t.vm("web")
    vm.attach(bdf)
    vm.served()
    t.host.device_error(bdf)
    eventually(lambda: [e["what"] for e in events_of(vm, bdf)] == ["error"], "the error of a function that no VMM has")
    client = connect(t, vm, bdf)
    told = listening(t, client, ERR)
    t.host.device_error(bdf)
    check(told.wait() == 1, "the VMM's error interrupt")
    eventually(lambda: [e["what"] for e in events_of(vm, bdf)] == ["error"] * 2, "the error of a function that a VMM has")
    check(client.read(CONFIG, 0, 4) != b"\xff" * 4, "the function does not answer any more")
    equal(t.client.tdi(bdf).state(), "prepared", "state")
    # Its client does not want to hear of it any more; the next tdid does.
    client.set_irqs(ERR, DATA_NONE | TRIGGER, count=0)
    t.daemon.restart()
    t.host.device_error(bdf)
    eventually(lambda: "error" in [e["what"] for e in events_of(t.client.find_vm("web"), bdf)], "the error, as the next tdid hears of it")
    equal(told.wait(0.2), 0, "error interrupts of a VMM that has switched them off")
    client.reset()
    t.attached(t.adopt(t.client.find_vm("web")), bdf, state="prepared")


@scenario("e1000e", tsm=("e1000e",), needs=("aer", "bind_module", "kvm"), tags=("quick",), kernel_ok=("AER", "pcieport"))
def event_error_bound(t):
    """The same of a TDI: it is unbound at once, says why, and can be bound again when it has been reset."""
    bdf = t.host.bdf("e1000e")
    bound = Bound(t, bdf)
    client = connect(t, bound.vm, bdf)
    told = listening(t, client, ERR)
    bound.bind()
    t.host.device_error(bdf)
    check(told.wait() == 1, "the VMM's error interrupt")
    eventually(lambda: t.client.tdi(bdf).state() == "prepared", "it is unbound")
    equal(t.tsm.count("unbind", bdf), 1, "unbinds")
    contains(next(x for x in bound.vm.describe()["tdis"] if x["bdf"] == bdf)["bind_error"], "ERROR", "why it is not bound")
    client.reset()
    bound.bind()
    equal(t.client.tdi(bdf).state(), "bound", "state after a reset and a bind")


@scenario("edu:2", start=False, needs=("slow_reset",), tags=("quick",))
def event_reset_in_attach(t):
    """The reset at the beginning (VFIO's, of the bind) does not end: the attach fails after its deadline, the function is withheld and given back when it comes back."""
    bdf, other = t.host.bdfs("edu", 2)
    t.daemon.start(arguments=t.configured({"deadlines": {"open": 2}}))
    slow = t.load_slow_reset()
    slow.hang(bdf)
    vm = t.vm()
    text = refused("Timeout", vm.attach, bdf)
    for part in (bdf, "open.bind"):
        contains(text, part, "what is said of it")
    check(t.device(bdf).text("Quarantine"), "a function that is stuck looks free")
    second = t.vm()
    refused(("Busy", "InUse", "Quarantined"), second.attach, bdf)
    second.attach(other)
    t.dma(second, other)
    slow.clear()
    t.free(bdf)
    t.unchanged(bdf)
    eventually(lambda: vm.attach(bdf), "the function can be had again")
    t.attached(vm, bdf)
