# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The secure vIOMMU, which exists before the guest does: nest parent, vIOMMU and virtual devices, then the attach; and what a platform that needs
# it is told where the kernel has none. On the real kernel the test TSM grafts a vIOMMU onto the IOMMU, and writes down what it is asked.

import errno
import time

from cases.q_order import calls, first, in_order
from kit.checks import check, contains, equal, eventually
from kit.client import Lost, refused
from kit.registry import scenario
from kit.simtsm import Rules
from kit.tdictl import Monitor

CCA = "arm-cca-host"
RID = 0x0200


def describe(vm, bdf):
    return next(x for x in vm.describe()["tdis"] if x["bdf"] == bdf)


def start(t, *marked, **parameters):
    """tdid on a host that is recognised as Arm CCA; with fake_viommu=1 its IOMMU has a vIOMMU."""
    t.load_tsm(list(marked), parent=CCA, **parameters)
    t.start()


def order(t, *ops):
    return [(c.op, c.bdf) for c in t.tsm.calls() if c.op in ops and c.result == "0"]


@scenario("igb-vf", "edu", start=False, tags=("quick",))
def viommu_lacking(t):
    """Without one the plain address space does, which is said; and the seal names the function that the platform cannot do with."""
    vf, edu = t.host.bdf("igb-vf"), t.host.bdf("edu")
    start(t, t.host.dsm(vf))
    vm = t.vm()
    equal(str(vm.get("Platform")), "cca", "platform")
    vm.attach((vf, {"guest_rid": RID}), (edu, {"guest_rid": RID + 8}))
    t.attached(vm, vf, edu)
    t.dma(vm, edu)
    equal([describe(vm, b)["viommu"] for b in (vf, edu)], [None, None], "virtual devices")
    contains(vm.describe()["vIOMMU"], "EOPNOTSUPP", "why there is none")
    text = refused("NotSupported", vm.seal)
    check(vf in text or edu in text, f"which function: {text}")
    contains(text, "EOPNOTSUPP", "why it cannot be sealed")
    equal(vm.phase(), "preparing", "phase")
    other = t.vm(platform="plain")
    contains(other.describe()["vIOMMU"], "plain wants none", "where none is wanted")


@scenario("igb-vf:2", "edu", start=False, tags=("quick",))
def viommu_prepared(t):
    """Functions of one IOMMU share a nest parent and a vIOMMU; each has its virtual device before it is attached, and loses it before it is detached."""
    first, second = t.host.bdfs("igb-vf", 2)
    edu = t.host.bdf("edu")
    start(t, t.host.dsm(first), fake_viommu=1)
    vm = t.vm()
    vm.attach((first, {"guest_rid": RID}), (edu, {"guest_rid": RID + 8}))
    t.attached(vm, first, edu)
    seen = {b: describe(vm, b)["viommu"] for b in (first, edu)}
    equal({v["virt_id"] for v in seen.values()}, {RID, RID + 8}, "requester IDs")
    equal(len({(v["id"], v["nest"], describe(vm, b)["ioas"]) for b, v in seen.items()}), 1, "vIOMMUs, nest parents, address spaces")
    equal(len({v["vdevice"] for v in seen.values()}), 2, "virtual devices")
    equal(sorted(order(t, "viommu_init", "vdevice_init")), sorted([("viommu_init", "-"), ("vdevice_init", first), ("vdevice_init", edu)]), "what was made")
    # Through the nest parent.
    t.dma(vm, edu)
    t.daemon.restart()
    equal({b: describe(vm, b)["viommu"] for b in (first, edu)}, seen, "after a restart")
    vm.attach((second, {"guest_rid": RID + 1}))
    equal(describe(vm, second)["viommu"]["id"], seen[edu]["id"], "the vIOMMU of one that came later")
    equal(t.tsm.count("viommu_init"), 1, "vIOMMUs made in all")
    contains(vm.describe()["vIOMMU"], "3 virtual devices", "in words")
    t.client.tdi(first).detach()
    equal(order(t, "vdevice_destroy"), [("vdevice_destroy", first)], "virtual devices that have gone")
    equal(t.tsm.count("viommu_destroy"), 0, "vIOMMUs that have gone, while functions are there")
    vm.seal()
    contains(refused("InvalidState", vm.attach, (first, {"guest_rid": RID})), "hotplug", "a function that comes after the seal")
    vm.lease.close()
    t.gone(vm)
    t.free(first, second, edu)
    equal((t.tsm.count("vdevice_destroy"), t.tsm.count("viommu_destroy")), (3, 1), "virtual devices and vIOMMUs that have gone")
    equal(order(t, "vdevice_destroy", "viommu_destroy")[-1][0], "viommu_destroy", "the last of them")


@scenario("igb-vf", needs=("trace",), start=False, tags=("quick",))
def viommu_order(t):
    """The virtual device is there before the attach, and gone before the detach; vIOMMU, nest parent and memory go after it."""
    bdf = t.host.bdf("igb-vf")
    start(t, t.host.dsm(bdf), fake_viommu=1)
    path, begin = t.host.start_trace()
    vm = t.vm()
    vm.attach((bdf, {"guest_rid": RID}))
    found = calls(path, begin)
    in_order(t, found, ("vIOMMU", first(found, "vIOMMU", op="tsm.viommu_init")), ("virtual device", first(found, "virtual device", op="tsm.vdevice_init")),
             ("attach", first(found, "attach", op="ioctl", name="VFIO_DEVICE_ATTACH_IOMMUFD_PT", device=bdf)))
    vm.lease.close()
    t.gone(vm)
    t.free(bdf)
    found = calls(path, begin)
    t.host.end_trace()
    in_order(t, found, ("virtual device", first(found, "virtual device", op="tsm.vdevice_destroy")),
             ("detach", first(found, "detach", op="ioctl", name="VFIO_DEVICE_DETACH_IOMMUFD_PT", device=bdf)),
             ("vIOMMU", first(found, "vIOMMU", op="tsm.viommu_destroy")),
             ("close", first(found, "release of the node", op="release", device=bdf)))


@scenario("igb-vf:2", start=False, tags=("quick",))
def viommu_detached(t):
    """The last function takes the vIOMMU with it; the next one makes another. Each VM has its own."""
    first, second = t.host.bdfs("igb-vf", 2)
    start(t, t.host.dsm(first), fake_viommu=1)
    one, two = t.vm(), t.vm()
    one.attach((first, {"guest_rid": RID}))
    two.attach((second, {"guest_rid": RID}))
    equal(t.tsm.count("viommu_init"), 2, "vIOMMUs of two VMs")
    t.client.tdi(first).detach()
    eventually(lambda: t.tsm.count("viommu_destroy") == 1, "the vIOMMU goes with the last function")
    one.attach((first, {"guest_rid": RID}))
    equal(t.tsm.count("viommu_init"), 3, "vIOMMUs made in all")
    check(describe(one, first)["viommu"], "a virtual device the second time")


F_TRANSLATION, ODD = 0x10, 0x7e


@scenario("igb-vf:2", start=False, tags=("quick",))
def viommu_events(t):
    """What a vIOMMU reports is counted, told on the bus and logged, also while no tdid is there; and keeps no vIOMMU."""
    first, second = t.host.bdfs("igb-vf", 2)
    start(t, t.host.dsm(first), fake_viommu=1)
    vm = t.vm()
    vm.attach((first, {"guest_rid": RID}), (second, {"guest_rid": RID + 1}))
    bus = Monitor(t)

    def seen():
        (v,) = vm.describe()["viommus"]
        equal(v["error"], None, "why no events are read")
        return v["events"], v["lost"]
    equal(seen(), (0, 0), "events at first")
    t.tsm.iommu_event(first, F_TRANSLATION, 0x1234000)
    eventually(lambda: seen() == (1, 0), "the event is counted")

    def told():
        return [e["value"] for e in bus.seen if e.get("key") == "iommu_event"]
    eventually(told, "the event on the bus")
    equal([(e["bdf"], e["event"]) for e in told()], [(first, "F_TRANSLATION")], "what is told of it")
    contains(told()[0]["text"], "F_TRANSLATION of requester ID 0x0200", "in words")
    check("1234000" not in told()[0]["text"], "every user hears the guest's address")
    contains("\n".join(t.daemon.log()), "F_TRANSLATION at 0x1234000", "the log")
    t.daemon.kill()
    t.daemon.wait_exit()
    t.tsm.iommu_event(second, ODD, 0)
    t.daemon.start()
    eventually(lambda: seen() == (2, 0), "one that came while no tdid was there")
    t.tsm.iommu_event(second, ODD, 0)
    eventually(lambda: f"{second}: vIOMMU" in "\n".join(t.daemon.log()), "one that tdid does not know by name, in the log")
    begin, before = time.monotonic(), len(told())
    for i in range(300):
        t.tsm.iommu_event(first, F_TRANSLATION, i << 12)
    eventually(lambda: sum(seen()) == 303, "a storm of them, of which each is counted, or known to be lost")
    most = 50 * (1 + time.monotonic() - begin)
    check(len(told()) - before <= most, f"{len(told()) - before} of 300 are told, {most:.0f} at most")
    t.client.tdi(first).detach()
    t.client.tdi(second).detach()
    eventually(lambda: t.tsm.count("viommu_destroy") == 1, "the vIOMMU goes with its last function")
    equal(vm.describe()["viommus"], [], "what is listened to")
    vm.attach((first, {"guest_rid": RID}))
    t.tsm.iommu_event(first, F_TRANSLATION, 0)
    eventually(lambda: seen() == (1, 0), "the next one's are counted anew")
    vm.lease.close()
    t.gone(vm)
    equal(t.tsm.count("viommu_destroy"), 2, "vIOMMUs that have gone")


@scenario("igb-vf", start=False, needs=("faults",), tags=("quick",))
def viommu_listened_to_again(t):
    """There was no memory for a queue of its events when a vIOMMU was made: the next tdid has the holder try once more."""
    bdf = t.host.bdf("igb-vf")
    start(t, t.host.dsm(bdf), fake_viommu=1)
    rules = Rules(t.host.client)
    t.defer(rules.clear)
    rules.add("queue", call="IOMMU_VEVENTQ_ALLOC", errno="ENOMEM")
    vm = t.vm()
    vm.attach((bdf, {"guest_rid": RID}))
    equal(vm.describe()["viommus"], [], "what is listened to")
    rules.clear()
    t.daemon.restart()
    eventually(lambda: [v["error"] for v in vm.describe()["viommus"]] == [None], "events are read")
    t.tsm.iommu_event(bdf, F_TRANSLATION, 0x2000)
    eventually(lambda: vm.describe()["viommus"][0]["events"] == 1, "an event is counted")
    vm.lease.close()
    t.gone(vm)


@scenario("igb-vf", start=False, tags=("quick",))
def viommu_refused(t):
    """No requester ID, no virtual device; one that the TSM refuses undoes the attach, and nothing is left."""
    bdf = t.host.bdf("igb-vf")
    start(t, t.host.dsm(bdf), fake_viommu=1)
    vm = t.vm()
    vm.attach(bdf)
    contains(vm.describe()["vIOMMU"], "guest_rid", "why there is none")
    contains(refused("NotSupported", vm.seal), "guest_rid", "why it cannot be sealed")
    t.client.tdi(bdf).detach()
    t.tsm.rule("vdevice_init", bdf, err=errno.EIO, count=1)
    contains(refused("Kernel", vm.attach, (bdf, {"guest_rid": RID})), "EIO", "the TSM's errno")
    t.free(bdf)
    t.unchanged(bdf)
    vm.attach((bdf, {"guest_rid": RID}))
    check(describe(vm, bdf)["viommu"], "a virtual device when the TSM makes one")


@scenario("group-nvme", "group-edu", start=False, tags=("quick",))
def viommu_group(t):
    """A group has one page table: all of it is in the vIOMMU or none, which is said before anything is begun."""
    first, second = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    start(t, first, fake_viommu=1)
    vm = t.vm()
    contains(refused("InvalidArgument", vm.attach, (first, {"guest_rid": RID}), second), "guest_rid", "what is missing")
    t.unchanged(first, second)
    vm.attach((first, {"guest_rid": RID}), (second, {"guest_rid": RID + 1}))
    check(all(describe(vm, b)["viommu"] for b in (first, second)), "both have a virtual device")


@scenario("igb-vf", start=False, timeout=900)
def viommu_killed(t):
    """tdid killed before and after each of the sub-actions: the function is whole or given back."""
    bdf = t.host.bdf("igb-vf")
    t.load_tsm([t.host.dsm(bdf)], parent=CCA, fake_viommu=1)
    for point in [f"prepare.{a}:{v}:{w}" for a in ("viommu", "vdevice", "withdraw") for v in ("do", "undo") for w in ("before", "after")]:
        t.daemon.start({"TDID_TEST_KILL": point})
        vm = t.vm()
        try:
            vm.attach((bdf, {"guest_rid": RID}))
            if ":undo:" in point:
                t.client.tdi(bdf).detach()
        except Lost:
            pass
        eventually(lambda: not t.daemon.alive(), f"the end of tdid at {point}", 5)
        t.daemon.wait_exit()
        t.daemon.start()
        t.free(bdf)
        t.unchanged(bdf)
        vm.lease.close()
        t.gone(vm)
        equal(t.tsm.count("viommu_init"), t.tsm.count("viommu_destroy"), f"vIOMMUs made and gone after {point}")
        equal(t.tsm.count("vdevice_init"), t.tsm.count("vdevice_destroy"), f"virtual devices made and gone after {point}")
        t.daemon.stop()
