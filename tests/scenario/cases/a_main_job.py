# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The main job: an nvme function with its driver, a VF and an edu go to one VM and are used; tdid dies and comes back; the
# VM ends in each of the ways that there are. The runner then compares the whole host with what it was.

import os
import signal
import subprocess
import sys

from kit.checks import check, equal, eventually
from kit.daemon import process_state
from kit.registry import scenario

ROLES = ("nvme", "igb-vf", "edu")


def give_three(t):
    """One VM with all three functions, everything about it verified; returns it and the functions."""
    nvme, vf, edu = (t.host.bdf(r) for r in ROLES)
    check(t.host.block(nvme), "the nvme has no disk before")
    vm = t.vm()
    equal(vm.phase(), "preparing", "phase of a new VM")
    tdis, job = vm.attach(nvme, vf, edu)
    equal(len(tdis), 3, "TDIs")
    equal(job.state(), "done", "job of the attach")
    t.attached(vm, nvme, vf, edu)
    check(not t.host.block(nvme), "the nvme's disk is still there")
    # Those whose DSM can be connected are; edu is no PCIe function and never can.
    for bdf in (nvme, vf):
        dsm = t.host.dsm(bdf)
        equal(t.host.tsm_connected(dsm), t.tsm_name, f"connection of {dsm}")
        eventually(lambda: t.device(dsm).text("TSM") == t.tsm_name, f"property TSM of {dsm}")
        eventually(lambda: t.device(bdf).text("DSM") == dsm, f"property DSM of {bdf}")
    equal(t.device(edu).text("TSM"), "", "property TSM of edu")
    t.dma(vm, edu)
    return vm, (nvme, vf, edu)


def descriptors_at_rest(t, pid):
    """The descriptors of a holder once it has closed what it was told to: a lease that has ended goes a moment after it is told of."""
    seen = []

    def unchanged():
        seen.append(t.host.descriptors(pid))
        return len(seen) > 5 and seen[-1] == seen[-6]
    eventually(unchanged, "the holder's descriptors stay the same")
    return seen[-1]


def survive(t, vm, bdfs):
    """tdid is killed and restarted: the VM, its lease, its holder's descriptors are as before, and the device still works."""
    before = vm.served()
    holder = before["holder"]["pid"]
    descriptors = descriptors_at_rest(t, holder)
    t.daemon.kill()
    check(process_state(holder) not in ("", "Z"), "the holder died with tdid")
    t.value("seconds_to_name", f"{t.daemon.start():.2f}")
    again = t.client.find_vm(vm.describe()["name"])
    equal(again.path, vm.path, "the VM's path after the restart")
    after = t.attached(vm, *bdfs)
    for volatile in ("keepers",):
        equal(len(after.pop(volatile)), len(before.pop(volatile)), volatile)
    equal(after, before, "Describe() after the restart")
    equal(descriptors_at_rest(t, holder), descriptors, "descriptors of the holder")
    if vm.lease.fd >= 0:
        check(not vm.lease.hung_up(), "the lease ended with tdid")
    t.dma(vm, bdfs[2])


def settled(t, bdfs):
    """What the separate program says, and that the disk is back."""
    t.free(*bdfs)
    eventually(lambda: t.host.block(bdfs[0]), "the nvme's disk")
    for bdf in bdfs[:2]:
        equal(t.host.tsm_connected(t.host.dsm(bdf)), "", f"connection of {t.host.dsm(bdf)}")
    equal(t.daemon.leftovers(), [], "files of tdid")
    equal(t.tsm.count("connect"), 2, "connects")
    equal(t.tsm.count("disconnect"), 2, "disconnects")
    compare_by_program(t, bdfs)


def compare_by_program(t, bdfs):
    """Runs host_state.py by itself, twice, and compares its two files: nothing of this process is involved."""
    program = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "host_state.py")
    done = subprocess.run([sys.executable, program, "--host=" + t.host.spec, "--settle", "5", t.before_file, *bdfs],
                          capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"host_state.py:\n{done.stdout}{done.stderr}")


def note_before(t):
    program = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "host_state.py")
    t.before_file = os.path.join(t.folder, "before.json")
    with open(t.before_file, "wb") as file:
        subprocess.run([sys.executable, program, "--host=" + t.host.spec, *[t.host.bdf(r) for r in ROLES]], stdout=file, check=True)


def main_job(ending):
    """Registers the main job with one of its endings."""
    @scenario(*ROLES, name=f"main_job_{ending.__name__}", tsm=("nvme", "igb"), needs=("programs",), tags=("quick",))
    def run(t):
        note_before(t)
        vm, bdfs = give_three(t)
        ending(t, vm, bdfs)
    return ending


@main_job
def destroy(t, vm, bdfs):
    survive(t, vm, bdfs)
    equal(vm.destroy().state(), "done", "job of the destroy")
    check(not vm.alive(), "the VM lives after Destroy")
    check(vm.lease.hung_up(), "the lease does not tell that the VM is gone")
    settled(t, bdfs)


@main_job
def lease_killed(t, vm, bdfs):
    process = t.lease_process(vm)
    survive(t, vm, bdfs)
    process.kill()
    process.wait()
    t.gone(vm)
    settled(t, bdfs)


@main_job
def holder_killed(t, vm, bdfs):
    survive(t, vm, bdfs)
    os.kill(vm.holder_pid(), signal.SIGKILL)
    t.gone(vm)
    check(vm.lease.hung_up(), "the lease does not tell that the VM is gone")
    settled(t, bdfs)


@main_job
def both_killed(t, vm, bdfs):
    survive(t, vm, bdfs)
    holder = vm.holder_pid()
    t.daemon.kill()
    os.kill(holder, signal.SIGKILL)
    eventually(lambda: process_state(holder) == "", "end of the holder")
    t.daemon.start()
    t.gone(vm)
    settled(t, bdfs)


@main_job
def holder_then_daemon_killed(t, vm, bdfs):
    """The same with tdid dying while it may already be clearing up after the holder."""
    os.kill(vm.holder_pid(), signal.SIGKILL)
    t.daemon.kill()
    t.daemon.start()
    t.gone(vm)
    settled(t, bdfs)


@main_job
def stop(t, vm, bdfs):
    survive(t, vm, bdfs)
    holder = vm.holder_pid()
    code = t.daemon.stop(120)
    equal(code, 0, "exit code of tdid on SIGTERM")
    # Everything was given back before it ended: nothing of the functions is waited for here.
    for bdf in bdfs:
        check(t.host.driver(bdf) != "vfio-pci", f"{bdf} is on vfio-pci after the stop")
    eventually(lambda: process_state(holder) == "", "end of the holder")
    check(vm.lease.hung_up(), "the lease does not tell that the VM is gone")
    t.daemon.start()
    check(not vm.alive(), "the VM is back after a stop")
    settled(t, bdfs)


@main_job
def pidfd(t, vm, bdfs):
    process = t.sleeper()
    fd = os.pidfd_open(process.pid)
    vm.set_pidfd(fd)
    os.close(fd)
    vm.lease.close()
    eventually(lambda: [k["kind"] for k in vm.describe()["keepers"]] == ["pidfd"], "the pidfd is the only keeper")
    survive(t, vm, bdfs)
    process.kill()
    process.wait()
    t.gone(vm)
    settled(t, bdfs)
