# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The order in which a VM is taken apart, as the kernel sees it: from the simulation's own list of calls. On the real kernel the same
# order is seen by what stays free while something sticks (h_stuck.py).

import json

from kit.checks import check, equal, eventually
from kit.registry import scenario


def calls(path, begin):
    with open(path, encoding="utf-8") as file:
        file.seek(begin)
        return [json.loads(line) for line in file]


def first(found, what, **wanted):
    """Where the first call of a kind stands."""
    for i, call in enumerate(found):
        if all(call.get(k) == v for k, v in wanted.items() if k != "ends") and call.get("name", "").endswith(wanted.get("ends", "")):
            return i
    check(False, f"no {what}")


def last(found, what, **wanted):
    return len(found) - 1 - first(list(reversed(found)), what, **wanted)


def in_order(t, found, *steps):
    places = [place for _, place in steps]
    t.note("order: " + ", ".join(f"{name} {place}" for name, place in steps))
    equal(places, sorted(places), "order of " + ", ".join(name for name, _ in steps))


@scenario("group-nvme", "group-edu", "igb-vf", tsm=("igb",), needs=("trace",), tags=("quick",))
def closing_order(t):
    """Bus mastering off and detached, all of them; then memory is unmapped; then devices are closed; then drivers come back."""
    bdfs = [t.host.bdf(r) for r in ("group-nvme", "group-edu", "igb-vf")]
    vm = t.vm()
    vm.attach(*bdfs)
    t.dma(vm, bdfs[1])
    path, begin = t.host.start_trace()
    vm.lease.close()
    t.gone(vm)
    t.free(*bdfs)
    eventually(lambda: t.host.tsm_connected(t.host.dsm(bdfs[2])) == "", "the disconnect")
    found = calls(path, begin)
    t.host.end_trace()
    detached = [last(found, f"detach of {b}", op="ioctl", name="VFIO_DEVICE_DETACH_IOMMUFD_PT", device=b) for b in bdfs]
    unmapped = last(found, "unmap", op="ioctl", name="IOMMU_IOAS_UNMAP")
    for bdf, detach in zip(bdfs, detached):
        node = first(found, f"release of the node of {bdf}", op="release", device=bdf)
        override = first(found, f"override of {bdf}", op="pwrite", device=bdf, ends="/driver_override")
        off = first(found, f"unbind of {bdf}", op="pwrite", ends="/vfio-pci/unbind")
        in_order(t, found, ("detach", detach), ("unmap", unmapped), ("release", node), ("override", override))
        check(override < last(found, f"unbind of {bdf}", op="pwrite", ends="/vfio-pci/unbind"), "the driver goes before its override")
        check(off > unmapped, "a driver is unbound before memory is free")
    check(max(detached) < unmapped, "memory is unmapped while a function can still reach it")
    iommufd = last(found, "release of the iommufd", op="release", name="/dev/iommu")
    disconnect = first(found, "disconnect", op="pwrite", ends="/tsm/disconnect")
    check(disconnect < iommufd, "the TSM connection outlives the VM's iommufd")


@scenario("group-nvme", "group-edu", needs=("trace",), tags=("quick",))
def group_waits(t):
    """One member's driver takes its time to let go: the other is not bound before, as the kernel gives a group's DMA to one owner."""
    nvme, edu = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    rule = t.host.client.control("fault", rule={"call": "driver.remove", "device": nvme, "delay_ms": 700, "times": 1})["id"]
    t.defer(lambda: t.host.client.control("clear", id=rule))
    vm = t.vm()
    vm.attach(nvme, edu)
    t.attached(vm, nvme, edu)
