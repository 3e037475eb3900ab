# SPDX-License-Identifier: LGPL-2.1-or-later
#
# An unmodified QEMU as the client of the vPCI sockets: a Linux guest drives functions that its VMM never holds, through reboots,
# resets, kills and unplugging of everything that can be. What the guest does is in tests/vm/guest.

import os
import re
import shutil
import signal
import subprocess
import time

from kit.checks import Skip, check, equal, eventually
from kit.daemon import die_with_us, processes
from kit.guest import COMMAND_TIMEOUT, Guest
from kit.registry import scenario
from kit.simtsm import Rules

# QEMU's own patience with a message is 5 s.
PAUSE_MAX_MS = 5000
# Longer than any request may take.
SLOW_MAP_MS = 10000


def guest_scenario(*roles, needs=(), **kw):
    return scenario(*roles, needs=("guest", *needs), timeout=kw.pop("timeout", 600.0), **kw)


def served(t, guest, *bdfs, **opts):
    """A sealed VM for the user that the guest's QEMU runs as, with these functions."""
    vm = t.vm(vmm_uid=guest.user, vmm_gid=guest.user, **opts)
    vm.attach(*bdfs)
    vm.seal()
    return vm


def vpci(vm, bdf):
    return next(tdi["vpci"] for tdi in vm.describe()["tdis"] if tdi["bdf"] == bdf)


def plugs(vm, *bdfs):
    """A -device for each function, "dev0" behind "port0" and so on: the guest sees them in this order."""
    return [Guest.vfio_user(vpci(vm, bdf)["socket"], f"dev{n}", n) for n, bdf in enumerate(bdfs)]


def connected(vm, bdf):
    return vpci(vm, bdf)["connected"]


def nothing_held(t, guest):
    """QEMU has no descriptor of a device, of an iommufd, and no mapping of a BAR."""
    held = [d for d in t.host.descriptors(guest.pid) if re.match(r"/dev/vfio|/dev/iommu|/sys/", d)]
    equal(held, [], "what QEMU has open of the device")
    with open(f"/proc/{guest.pid}/maps", encoding="utf-8") as file:
        mapped = [line for line in file if re.search(r"/dev/(?!zero|shm)|vfio|/sys/|dmabuf", line)]
    equal(mapped, [], "what QEMU has mapped of the device")


def looping(guest):
    """The guest uses its function until told(); returns once it has begun."""
    guest.serial.skip()
    guest.tell("loop")
    pace(guest)


def pace(guest):
    """The next report of the loop: rounds so far, and the longest one since the last report in ms."""
    found = guest.serial.wait(lambda line: re.search(r"guest: (?:at (\d+) worst (\d+)|FAILED (.*))", line), COMMAND_TIMEOUT, "a report of the loop")
    check(not found[3], "the guest's loop failed:", found[3])
    return int(found[1]), int(found[2])


def told(guest):
    """Ends the loop, in which nothing may have gone wrong."""
    guest.tell("")
    guest.done("loop")


def ended(t, guest, vm, *bdfs):
    """The guest turns itself off; then the VM's last keeper goes, and everything is as before."""
    guest.tell("poweroff")
    equal(guest.wait_exit(), 0, f"exit code of QEMU ({guest.complaints()[-3:]})")
    for bdf in bdfs:
        eventually(lambda bdf=bdf: not connected(vm, bdf), f"{bdf} has no client any more")
    vm.lease.close()
    t.gone(vm)
    t.free(*bdfs)
    t.unchanged(*bdfs)
    equal([line for line in t.daemon.log() if "could not" in line], [], "what tdid could not do")


@guest_scenario("edu", tags=("quick",))
def guest_drives_edu(t):
    """Configuration space, registers, MSI, the pin, DMA, bus mastering, a reset from inside; QEMU holds nothing of the device."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu)
    t.value("boot_seconds", f"{guest.start(*plugs(vm, edu)):.1f}")
    guest.do("edu")
    nothing_held(t, guest)
    check(connected(vm, edu), "Describe() shows no client")
    equal(t.client.tdi(edu).state(), "prepared", "state of the TDI")
    for command in ("intx", "reset", "rebind", "irq 100"):
        guest.do(command)
    said = " ".join(guest.do("cost 2000" if t.host.kind == "sim" else "cost 200"))
    for what, ns in re.findall(r"(read|write) (\d+) ns", said):
        t.value(f"{what}_us", f"{int(ns) / 1000:.1f}")
    nothing_held(t, guest)
    ended(t, guest, vm, edu)


@guest_scenario("edu:2")
def guest_two_functions(t):
    """Two sockets of one QEMU, each with a listener of its own that maps the same memory."""
    bdfs, guest = t.host.bdfs("edu", 2), t.guest()
    vm = served(t, guest, *bdfs)
    guest.start(*plugs(vm, *bdfs))
    for number in (0, 1, 0):
        guest.do(f"use {number}")
        guest.do("edu")
    ended(t, guest, vm, *bdfs)


@guest_scenario("edu")
def guest_rebooted(t):
    """By itself, 3 times; 20 with TDID_FULL."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu)
    guest.start(*plugs(vm, edu))
    guest.do("edu")
    pid = guest.pid
    for _ in range(20 if t.full else 3):
        guest.serial.skip()
        guest.tell("reboot")
        guest.ready()
        guest.do("edu")
    equal(guest.pid, pid, "process of QEMU")
    ended(t, guest, vm, edu)


@guest_scenario("edu")
def guest_reset(t):
    """By QEMU, between two commands and in the middle of DMA and interrupts."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu)
    guest.start(*plugs(vm, edu))
    for busy in (False, True):
        if busy:
            looping(guest)
        guest.serial.skip()
        guest.monitor("system_reset")
        guest.ready()
        guest.do("edu")
    ended(t, guest, vm, edu)


@guest_scenario("edu")
def guest_unplug_replug(t):
    """Out of the guest and in again: on the same socket, and on a new one after the function has left the VM and come back."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu, hotplug=True)
    guest.start(*plugs(vm, edu))
    guest.do("edu")
    for new in (False, True):
        guest.unplug("dev0")
        guest.do("gone")
        eventually(lambda: not connected(vm, edu), f"{edu} has no client any more")
        if new:
            t.client.tdi(edu).detach()
            t.free(edu)
            vm.attach(edu)
        guest.monitor("device_add", **plugs(vm, edu)[0])
        guest.do("find")
        guest.do("edu")
    ended(t, guest, vm, edu)


@guest_scenario("edu")
def qemu_killed(t):
    """In the middle of DMA and interrupts. The VM lives as long as its lease; what the guest had given the device is gone."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu)
    guest.start(*plugs(vm, edu))
    looping(guest)
    guest.kill()
    eventually(lambda: not connected(vm, edu), f"{edu} has no client any more")
    check(vm.alive(), "the VM ended with QEMU")
    t.dma(vm, edu)
    vm.lease.close()
    t.gone(vm)
    t.free(edu)
    t.unchanged(edu)


@guest_scenario("edu")
def qemu_restarted(t):
    """One QEMU after the other for the same VM: killed in the middle, or told to quit."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu)
    for end in (guest.kill, lambda: guest.monitor("quit"), None):
        guest.start(*plugs(vm, edu))
        guest.do("edu")
        if end:
            looping(guest)
            end()
            guest.wait_exit()
            eventually(lambda: not connected(vm, edu), f"{edu} has no client any more")
    ended(t, guest, vm, edu)


@guest_scenario("edu")
def guest_keeps_vm(t):
    """QEMU's connection keeps the VM without any lease, and its end ends it."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu)
    guest.start(*plugs(vm, edu))
    vm.lease.close()
    guest.do("edu")
    check(vm.alive(), "the VM ended with its lease, though QEMU is connected")
    guest.kill()
    t.gone(vm)
    t.free(edu)
    t.unchanged(edu)


@guest_scenario("edu", tags=("quick",))
def tdid_killed_under_load(t):
    """The guest goes on with DMA and interrupts while there is no tdid, and once there is one again."""
    edu, guest = t.host.bdf("edu"), t.guest()
    vm = served(t, guest, edu)
    guest.start(*plugs(vm, edu))
    looping(guest)
    holder, worst = vm.holder_pid(), 0
    before, _ = pace(guest)
    for _ in range(3):
        t.daemon.kill()
        guest.serial.skip()
        alone = [pace(guest) for _ in range(2)]
        t.daemon.start()
        guest.serial.skip()
        after = [pace(guest) for _ in range(2)]
        check(before < alone[-1][0] < after[-1][0], f"rounds of the loop: {before}, {alone}, {after}")
        worst = max([worst, *(ms for _, ms in alone + after)])
        before = after[-1][0]
        equal(vm.holder_pid(), holder, "holder of the VM")
        check(connected(vm, edu), "the client is not known any more")
    told(guest)
    t.value("worst_round_ms", worst)
    check(worst < PAUSE_MAX_MS, f"the guest's longest round took {worst} ms")
    guest.do("edu")
    ended(t, guest, vm, edu)


@guest_scenario("edu", needs=("faults",))
def guest_slow_maps(t):
    """The kernel takes long to map RAM that has to be allocated first, and the firmware takes that RAM apart meanwhile, as it does for its
    shadow: QEMU ignores errors of both. In the end the guest's DMA works, and works again after a reboot."""
    edu, guest = t.host.bdf("edu"), t.guest()
    rules = Rules(t.host.client)
    t.defer(rules.clear)
    vm = served(t, guest, edu)
    rules.add("map", call="IOMMU_IOAS_MAP_FILE", delay_ms=SLOW_MAP_MS, times=1)
    guest.start(*plugs(vm, edu))
    eventually(lambda: rules.sleeping() == 0, "end of the slow map")
    for again in (False, True):
        if again:
            guest.serial.skip()
            guest.tell("reboot")
            guest.ready()
        eventually(lambda: vpci(vm, edu)["dma"]["pending"] == 0, "everything is mapped")
        guest.do("edu")
        equal(vpci(vm, edu)["dma"]["failed"], [], "ranges that could not be mapped")
    ended(t, guest, vm, edu)


@guest_scenario("nvme", needs=("linux",))
def guest_nvme(t):
    """The guest's own nvme driver reads and writes a disk: queues in its memory, doorbells, MSI-X; and again after a reboot."""
    nvme, guest = t.host.bdf("nvme"), t.guest()
    disk = next(f["disk"] for f in t.host.topology["functions"] if f["bdf"] == nvme)
    vm = served(t, guest, nvme)
    guest.start(*plugs(vm, nvme))
    guest.do(f"nvme {disk}")
    nothing_held(t, guest)
    guest.serial.skip()
    guest.tell("reboot")
    guest.ready()
    guest.do(f"nvme {disk}")
    ended(t, guest, vm, nvme)


@guest_scenario("group-nvme", "group-edu", needs=("linux",))
def guest_whole_group(t):
    """Two functions of one IOMMU group: one address space, mapped by two sockets that do not know of each other."""
    (nvme,), (edu,), guest = t.host.bdfs("group-nvme"), t.host.bdfs("group-edu"), t.guest()
    disk = next(f["disk"] for f in t.host.topology["functions"] if f["bdf"] == nvme)
    vm = served(t, guest, nvme, edu)
    guest.start(*plugs(vm, nvme, edu))
    for command in (f"nvme {disk}", "edu", f"nvme {disk}"):
        guest.do(command)
    # One goes; the other keeps its memory. It is edu, because QEMU 11.1 dies when a vfio-user function with MSI-X is unplugged.
    guest.unplug("dev1")
    guest.do("gone")
    guest.do(f"nvme {disk}")
    ended(t, guest, vm, nvme, edu)


# ---- what it costs ----

class Calls:
    """Counts the system calls of processes of ours while something happens, with strace."""

    def __init__(self, t):
        self.folder = t.folder
        self.pids = list(processes())
        self.count = 0

    def during(self, func):
        """{name: calls} of all processes and their threads together."""
        self.count += 1
        out, err = (os.path.join(self.folder, f"strace-{self.count}.{n}") for n in ("out", "err"))
        with open(err, "wb") as errors:
            strace = subprocess.Popen(["strace", "-f", "-c", "-o", out, *[a for pid in self.pids for a in ("-p", str(pid))]],
                                      stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, preexec_fn=die_with_us)
        try:
            for pid in self.pids:
                eventually(lambda pid=pid: self._traced(pid), f"strace has attached to every thread of {pid}")
            func()
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(30)
        with open(out, encoding="utf-8") as file:
            rows = [line.split() for line in file if re.match(r"\s*\d+\.\d+\s", line)]
        return {row[-1]: int(row[3]) for row in rows if row[-1] != "total"}

    @staticmethod
    def _traced(pid):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as file:
                if "TracerPid:\t0\n" in file.read():
                    return False
        return True


# How register accesses reach the holder: it takes as many as are there at a time, so their number is a matter of chance.
ARRIVAL = ("poll", "recvmsg", "restart_syscall")


def served_by(calls):
    """The calls besides those by which accesses arrive. No interrupt can: what an eventfd has to say is read."""
    return sum(n for name, n in calls.items() if name not in ARRIVAL)


@guest_scenario("edu")
def guest_costs_no_calls(t):
    """Interrupts and DMA make no system call in any process of ours.

    Each pair of commands has the guest do the same register accesses; the first of a pair has none of them cause anything, the
    second has an interrupt, or a DMA with its interrupt, for each. All calls of tdid, its holder and its workers are counted.
    An interrupt or a DMA that passed through one of them would cost at least one call, to read or to hand on; both make as
    many calls, but for what goes by the clock. And a DMA of 2 KiB costs what one of 4 bytes does."""
    if not shutil.which("strace"):
        raise Skip("no strace")
    edu, guest, interrupts, transfers = t.host.bdf("edu"), t.guest(), 200, 40
    vm = served(t, guest, edu)
    guest.start(*plugs(vm, edu))
    guest.do("edu")
    t.quiet()
    time.sleep(1)
    calls = Calls(t)
    pairs = ((f"quiet {interrupts}", f"raise {interrupts}", interrupts), (f"still {transfers}", f"copy {transfers} 4", transfers),
             (f"still {transfers}", f"copy {transfers} 2048", transfers))
    counted = {}
    for command in dict.fromkeys(c for pair in pairs for c in pair[:2]):
        counted[command] = calls.during(lambda command=command: guest.do(command))
        t.note(command, counted[command])
        t.value("calls_" + command.replace(" ", "_"), served_by(counted[command]))
    for without, with_, n in pairs:
        # Three accesses each, or six.
        check(served_by(counted[without]) >= 3 * n, f"'{without}': {counted[without]}: its accesses are not seen")
        more = served_by(counted[with_]) - served_by(counted[without])
        check(more < n / 2, f"'{with_}' made {more} more calls than '{without}': {counted[with_]} instead of {counted[without]}")
    ended(t, guest, vm, edu)
