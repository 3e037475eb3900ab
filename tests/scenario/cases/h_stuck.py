# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A worker that does not come back from the kernel: everything else goes on, tdid can be killed and comes back in time,
# and the function is settled as soon as whatever holds it lets go.

import os
import time

from kit.checks import check, equal, eventually
from kit.client import refused
from kit.daemon import processes
from kit.registry import scenario


def worker_in_kernel(t):
    """Whether a worker of ours sleeps in the kernel."""
    return [pid for pid in processes("tdid-worker") if t.host.sleeps(pid)]


def others_are_served(t, *bdfs):
    """A whole life of another VM beside the stuck one."""
    vm = t.vm()
    vm.attach(*bdfs)
    t.attached(vm, *bdfs)
    t.dma(vm, bdfs[0])
    vm.seal()
    vm.lease.close()
    t.gone(vm)
    t.free(*bdfs)


def shown_as_withheld(t, bdf):
    """Whatever it is called at the moment, the function is in no one's hands and nobody gets it."""
    vm = t.vm()
    refused(("Busy", "InUse", "Quarantined"), vm.attach, bdf)
    vm.destroy()
    props = t.device(bdf).props()
    check(str(props["Custody"]) != "none" or str(props["Quarantine"]) or str(props["VM"]), "the stuck function looks free")


def hold_open(t, bdf):
    """Opens the function's VFIO node beside tdid: its driver cannot be unbound until we let go."""
    fd = [t.host.open_vfio(bdf)]

    def let_go():
        if fd:
            t.host.close(fd.pop())
    t.defer(let_go)
    return let_go


@scenario("edu:3", needs=("programs",), tags=("quick",))
def stuck_release(t):
    """Another process holds the VFIO node open while the function is given back: the unbind blocks."""
    stuck, second, third = t.host.bdfs("edu", 3)
    vm, bystander = t.vm("stuck"), t.vm("bystander")
    vm.attach(stuck)
    bystander.attach(third)
    let_go = hold_open(t, stuck)
    job = vm.destroy(async_=True)
    eventually(lambda: t.device(stuck).text("Custody") == "claim", "only the claim is left")
    time.sleep(1)
    check(job.state() in ("running", "stuck"), f"the job is {job.state()} though the unbind cannot be")
    others_are_served(t, second)
    shown_as_withheld(t, stuck)
    t.attached(bystander, third)
    t.daemon.kill()
    t.value("seconds_to_name", f"{t.daemon.start():.2f}")
    others_are_served(t, second)
    t.attached(bystander, third)
    shown_as_withheld(t, stuck)
    # And once more: a second tdid that dies changes nothing.
    t.daemon.kill()
    t.value("seconds_to_name", f"{t.daemon.start():.2f}")
    shown_as_withheld(t, stuck)
    let_go()
    t.free(stuck)
    t.unchanged(stuck)
    others_are_served(t, stuck, second)
    t.dma(bystander, third)


@scenario("edu:2", needs=("programs",))
def stuck_abandon(t):
    """Destroy with `abandon` does not wait; the function stays withheld, shown to everybody, and comes back by itself or by Restore."""
    stuck, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(stuck, second)
    let_go = hold_open(t, stuck)
    vm.destroy(abandon=True)
    t.gone(vm)
    t.free(second)
    t.unchanged(second)
    eventually(lambda: t.device(stuck).text("Quarantine"), "the abandoned function is quarantined")
    shown_as_withheld(t, stuck)
    others_are_served(t, second)
    shown = t.tdictl.json("device", "show", stuck)
    check(shown["devices"][0]["quarantine"], "tdictl does not show the quarantine")
    let_go()
    time.sleep(1)
    if t.device(stuck).text("Quarantine"):
        eventually(lambda: t.device(stuck).restore(), "Restore works once the function is free")
    t.free(stuck)
    t.unchanged(stuck)


@scenario("edu:2", needs=("stick", "programs"))
def stuck_claim(t):
    """The host driver does not let go when the function is taken: the attach hangs, alone; it can be cancelled."""
    stuck, second = t.host.bdfs("edu", 2)
    stick = t.load_stick()
    t.host.set_driver(stuck, "tdid_test_stick")
    t.after(lambda: t.host.set_driver(stuck, None))
    stick.set("stick", 1)
    t.defer(lambda: stick.set("stick", 0))
    vm = t.vm()
    _, job = vm.attach(stuck, async_=True)
    eventually(lambda: stick.stuck() == 1, "the unbinding hangs")
    eventually(lambda: worker_in_kernel(t), "a worker sleeps in the kernel")
    others_are_served(t, second)
    job.cancel()
    shown_as_withheld(t, stuck)
    t.daemon.kill()
    t.value("seconds_to_name", f"{t.daemon.start():.2f}")
    others_are_served(t, second)
    stick.set("stick", 0)
    t.quiet()
    vm.lease.close()
    t.gone(vm)
    t.free(stuck)
    eventually(lambda: t.host.driver(stuck) == "tdid_test_stick", "the driver it had before")


@scenario("edu:2", needs=("stick", "programs"))
def stuck_give_back(t):
    """The host driver hangs while it takes the function back; everything else goes on, and it ends well."""
    stuck, second = t.host.bdfs("edu", 2)
    stick = t.load_stick()
    t.host.set_driver(stuck, "tdid_test_stick")
    t.after(lambda: t.host.set_driver(stuck, None))
    vm = t.vm()
    vm.attach(stuck)
    stick.set("probe_stick", 1)
    t.defer(lambda: stick.set("probe_stick", 0))
    vm.lease.close()
    eventually(lambda: stick.stuck() == 1, "the binding hangs")
    others_are_served(t, second)
    t.daemon.kill()
    t.value("seconds_to_name", f"{t.daemon.start():.2f}")
    others_are_served(t, second)
    shown_as_withheld(t, stuck)
    stick.set("probe_stick", 0)
    t.gone(vm)
    t.free(stuck)
    equal(t.host.driver(stuck), "tdid_test_stick", "driver afterwards")


@scenario("edu:2", needs=("programs",))
def stuck_holder_killed(t):
    """The holder dies while its function is stuck: the VM is over, the function waits, others are served."""
    stuck, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(stuck)
    let_go = hold_open(t, stuck)
    os.kill(vm.holder_pid(), 9)
    eventually(lambda: vm.lease.hung_up(), "the lease tells that the VM is gone")
    others_are_served(t, second)
    shown_as_withheld(t, stuck)
    let_go()
    t.gone(vm)
    t.free(stuck)
    t.unchanged(stuck)
