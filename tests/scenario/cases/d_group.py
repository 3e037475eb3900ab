# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Functions that belong together: an IOMMU group goes whole or not at all, and an attach of several is one transaction.

import errno
import time

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.daemon import cpu_ticks
from kit.registry import scenario

GROUP = ("group-nvme", "group-edu")


@scenario(*GROUP, tags=("quick",))
def group_incomplete(t):
    """Part of a group is refused, and the text names the rest."""
    nvme, edu = (t.host.bdf(r) for r in GROUP)
    equal(t.host.group(nvme), t.host.group(edu), "IOMMU groups of the two")
    vm = t.vm()
    for one, other in ((edu, nvme), (nvme, edu)):
        text = refused("InvalidArgument", vm.attach, one)
        contains(text, other, "text")
        t.unchanged(nvme, edu)
    equal(vm.describe()["tdis"], [], "functions of the VM")
    equal(t.daemon.journals(), [], "journal files")


@scenario(*GROUP, tags=("quick",))
def group_whole(t):
    """The whole group goes to one VM in one transaction, with one IOAS, and comes back in one."""
    nvme, edu = (t.host.bdf(r) for r in GROUP)
    vm = t.vm()
    vm.attach(nvme, edu)
    t.attached(vm, nvme, edu)
    equal(t.ioas(vm, nvme), t.ioas(vm, edu), "IOASes of one group")
    t.dma(vm, edu)
    t.client.tdi(edu).detach()
    equal(vm.describe()["tdis"], [], "functions after the detach of one")
    t.free(nvme, edu)
    t.unchanged(edu)
    vm.attach(edu, nvme)
    t.daemon.restart()
    t.attached(vm, nvme, edu)
    vm.lease.close()
    t.gone(vm)
    t.free(nvme, edu)
    eventually(lambda: t.host.block(nvme), "the disk")


@scenario(*GROUP, "edu")
def group_one_vm(t):
    """A group that one VM has is nobody else's, in parts or whole."""
    nvme, edu = (t.host.bdf(r) for r in GROUP)
    first, second = t.vm("first"), t.vm("second")
    first.attach(nvme, edu)
    for bdfs in ((nvme,), (edu,), (nvme, edu), (t.host.bdf("edu"), edu)):
        contains(refused("InUse", second.attach, *bdfs), "first", "text names the VM that holds it")
    equal(second.describe()["tdis"], [], "functions of the second VM")
    t.unchanged(t.host.bdf("edu"))
    t.attached(first, nvme, edu)


@scenario("edu:3", tags=("quick",))
def all_or_none_refused(t):
    """One function of several is refused: none is touched."""
    first, second, third = t.host.bdfs("edu", 3)
    holder = t.vm("holder")
    holder.attach(third)
    vm = t.vm()
    refused("InUse", vm.attach, first, second, third)
    refused("NotFound", vm.attach, first, second, "0000:ff:1f.7")
    refused("InvalidArgument", vm.attach, first, second, "not a bdf")
    refused("InvalidArgument", vm.attach, first, first)
    refused("InvalidArgument", vm.attach, first, first.removeprefix("0000:"))
    t.unchanged(first, second)
    equal(vm.describe()["tdis"], [], "functions of the VM")
    vm.attach(first, second)
    t.attached(vm, first, second)


@scenario("edu:2", needs=("stick",))
def all_or_none_driver(t):
    """The second function's driver takes its time to let go and the first waits; both are there in the end."""
    edu, other = t.host.bdf("edu"), t.host.bdf("edu", 1)
    stick = t.load_stick()
    t.host.set_driver(other, "tdid_test_stick")
    t.after(lambda: t.host.set_driver(other, None))
    stick.set("stick", 1)
    t.defer(lambda: stick.set("stick", 0))
    vm = t.vm()
    _, job = vm.attach(edu, other, async_=True)
    eventually(lambda: stick.stuck() == 1, "the unbinding hangs")
    equal(job.state(), "running", "state of the job")
    for _ in range(20):
        t.client.ping()
    # The first function is through with its own claim meanwhile, and may be busy a little longer.
    eventually(lambda: "claim" in job.step(), "the job's step is the claim")
    stick.set("stick", 0)
    job.wait()
    t.attached(vm, edu, other)
    vm.lease.close()
    t.gone(vm)
    t.free(edu, other)
    eventually(lambda: t.host.driver(other) == "tdid_test_stick", "the driver it had before")


@scenario("edu:2", start=False)
def all_or_none_fails(t):
    """The second function fails at its last sub-action: the first is given back too, and the job says why."""
    first, second = t.host.bdfs("edu", 2)
    where = second.replace(":", "_").replace(".", "_")
    t.start({"TDID_TEST_FAIL": f"prepare.attach:do:{errno.EIO}:{where}"})
    vm = t.vm()
    try:
        text = refused("Kernel", vm.attach, first, second)
    except AssertionError:
        t.skip("tdid was built without -Dkill_points=true")
    contains(text, "EIO", "text")
    t.free(first, second)
    t.unchanged(first, second)
    check(vm.alive(), "the VM ended with the failed attach")
    equal(vm.describe()["tdis"], [], "functions of the VM")
    vm.attach(first)
    t.attached(vm, first)


@scenario(*GROUP, start=False)
def group_member_quarantined(t):
    """One member cannot be detached: the other says that it waits in vain, tdid comes to rest, and Restore ends it for both."""
    nvme, edu = (t.host.bdf(r) for r in GROUP)
    where = edu.replace(":", "_").replace(".", "_")
    t.start({"TDID_TEST_FAIL": f"prepare.attach:undo:{errno.ENOMEM}:{where}"})
    vm = t.vm()
    vm.attach(nvme, edu)
    try:
        refused("Quarantined", t.client.tdi(nvme).detach)
    except AssertionError:
        t.skip("tdid was built without -Dkill_points=true")
    check(t.device(edu).text("Quarantine"), "the function is not quarantined")
    before = cpu_ticks(t.daemon.pid)
    time.sleep(1)
    spent = cpu_ticks(t.daemon.pid) - before
    check(spent < 50, f"tdid spent {spent} of some 100 ticks of a second on nothing")
    t.daemon.restart()
    t.device(edu).restore()
    vm.lease.close()
    t.gone(vm)
    t.free(nvme, edu)
    t.unchanged(nvme, edu)
