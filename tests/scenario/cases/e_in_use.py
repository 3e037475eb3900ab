# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Functions that the host itself uses: refused, naming by what, and taken only with `force` where force can mean anything.

import os

from kit.busy import on_vfio
from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.registry import scenario


def refuse(t, bdf, *words):
    """The function is refused as being in use, by something that the text names; nothing has changed."""
    vm = t.vm()
    driver = t.host.driver(bdf)
    text = refused("InUse", vm.attach, bdf)
    t.note(text)
    contains(text, bdf, "text")
    for word in words:
        contains(text, word, "text")
    equal(t.host.driver(bdf), driver, "driver after the refusal")
    equal(t.host.override(bdf), None, "driver_override after the refusal")
    equal(t.host.power_control(bdf), t.baseline["functions"][bdf]["power_control"], "power/control after the refusal")
    equal(t.device(bdf).text("Custody"), "none", "custody after the refusal")
    equal(t.daemon.journals(), [], "journal files after the refusal")
    vm.destroy()


def works_again(t, bdf):
    """When the host has let go, the function can be had."""
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    vm.lease.close()
    t.gone(vm)
    t.free(bdf)


@scenario("nvme", tags=("quick",))
def in_use_mounted(t):
    bdf = t.host.bdf("nvme")
    disk = t.host.block(bdf)
    folder = os.path.join(t.folder, "mnt")
    with t.host.busy.mounted(disk, folder):
        refuse(t, bdf, disk, folder)
    works_again(t, bdf)


@scenario("nvme")
def in_use_swap(t):
    bdf = t.host.bdf("nvme")
    with t.host.busy.swapped(t.host.block(bdf)):
        refuse(t, bdf, "swap")
    works_again(t, bdf)


@scenario("nvme", needs=("dm",))
def in_use_device_mapper(t):
    bdf = t.host.bdf("nvme")
    with t.host.busy.mapped(t.host.block(bdf)):
        refuse(t, bdf, os.path.basename(t.host.block(bdf)), "dm-")
    works_again(t, bdf)


@scenario("nvme", needs=("md",))
def in_use_raid(t):
    bdf = t.host.bdf("nvme")
    with t.host.busy.in_raid(t.host.block(bdf)):
        refuse(t, bdf, os.path.basename(t.host.block(bdf)), "md")
    works_again(t, bdf)


@scenario("e1000e", tags=("quick",))
def in_use_network(t):
    bdf = t.host.bdf("e1000e")
    name = t.host.net(bdf)
    with t.host.busy.interface_up(name):
        refuse(t, bdf, name)
    works_again(t, bdf)


@scenario("igb-vf")
def in_use_network_vf(t):
    bdf = t.host.bdf("igb-vf")
    with t.host.busy.interface_up(t.host.net(bdf)):
        refuse(t, bdf, t.host.net(bdf))
    works_again(t, bdf)


@scenario("igb", "igb-vf")
def in_use_vfs(t):
    """A PF with VFs enabled: they would vanish with its driver, so force does not help."""
    bdf = t.host.bdf("igb")
    refuse(t, bdf)
    vm = t.vm()
    refused("InUse", vm.attach, (bdf, {"force": True}))
    equal(t.host.driver(bdf), "igb", "driver of the PF")
    check(t.host.read(bdf, "sriov_numvfs") != "0", "the VFs are gone")


@scenario("edu", tags=("quick",))
def in_use_vfio(t):
    """Another VFIO user has the function open: named, and force does not help."""
    bdf = t.host.bdf("edu")
    with on_vfio(t.host, bdf):
        fd = t.host.open_vfio(bdf)
        try:
            vm = t.vm()
            text = refused("InUse", vm.attach, bdf)
            contains(text, str(os.getpid()), "text names the process")
            refused("InUse", vm.attach, (bdf, {"force": True}))
            equal(t.host.driver(bdf), "vfio-pci", "driver after the refusal")
            vm.destroy()
        finally:
            t.host.close(fd)
        vm = t.vm()
        vm.attach(bdf)
        t.attached(vm, bdf)
        vm.destroy()
        t.free(bdf)


@scenario("e1000e", tags=("quick",))
def force_network(t):
    bdf = t.host.bdf("e1000e")
    with t.host.busy.interface_up(t.host.net(bdf)):
        vm = t.vm()
        vm.attach((bdf, {"force": True}))
        t.attached(vm, bdf)
        vm.lease.close()
        t.gone(vm)
        t.free(bdf)


@scenario("nvme")
def force_mounted(t):
    """A mounted disk is taken from under its file system when asked for; afterwards it is back, with its contents."""
    bdf = t.host.bdf("nvme")
    disk = t.host.block(bdf)
    folder = os.path.join(t.folder, "mnt")
    with t.host.busy.lost(disk, folder, lambda: eventually(lambda: t.host.block(bdf), "the disk")) as unmount:
        vm = t.vm()
        vm.attach((bdf, {"force": True}))
        t.attached(vm, bdf)
        unmount()
        vm.lease.close()
        t.gone(vm)
        t.free(bdf)


@scenario("group-nvme", "group-edu")
def in_use_group_member(t):
    """One member of a group is in use: the whole transaction is refused, and names it."""
    nvme, edu = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    with t.host.busy.mounted(t.host.block(nvme), os.path.join(t.folder, "mnt")):
        vm = t.vm()
        contains(refused("InUse", vm.attach, edu, nvme), nvme, "text")
        t.free(edu, nvme)
        equal(t.host.driver(nvme), "nvme", "driver of the member in use")
    t.unchanged(edu)
