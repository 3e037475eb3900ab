# SPDX-License-Identifier: LGPL-2.1-or-later
#
# vfio-user while a function is stuck in the kernel, while tdid is away, and after a map that the kernel has refused: every request is
# answered in time, nobody else notices, and the function comes back.

import contextlib
import errno
import os
import signal
import struct
import threading
import time

from kit import vfio_user
from kit.checks import Failure, check, contains, equal, eventually
from kit.client import refused
from kit.daemon import processes
from kit.registry import scenario
from kit.simtsm import Rules
from kit.vfio_user import ACCESS, ANSWERED_WITHIN, CONFIG, DATA_EVENTFD, MSI, REGION_READ, RESET, TRIGGER, Client, Lost, ServerError, fails
from kit.vmm import COMMAND, COMMAND_MASTER, Bystander, Edu, Event, Ram, connect, connect_mapped, socket_path

IOVA = 0x8000000
PAGE = 4096
GUEST_RAM = 64 << 20
# How long the slow maps take; nobody waits for that.
LONG_MS = 60000
EXP_CAPABILITY, EXP_DEVCTL, EXP_FLR = 0x10, 8, 0x8000


def rules(t):
    out = Rules(t.host.client)
    t.defer(out.clear)
    return out


def two_and_another(t):
    """A VM with two functions, connected; another VM with a VMM of its own."""
    bdf, second, third = t.host.bdfs("edu", 3)
    vm = t.vm()
    vm.attach(bdf, second)
    return vm, bdf, connect(t, vm, bdf), Edu(connect(t, vm, second)), Bystander(t, third)


def in_time(t, what, client, number):
    """The reply, and after how long it came."""
    reply = client.wait(number)
    t.note(f"{what}: {reply.seconds:.2f} s")
    check(reply.seconds <= 4.0, f"{what}: answered after {reply.seconds:.2f} s")
    return reply


def looks_reset(client):
    """Every region reads as ones, writes are taken, and all of it at once."""
    begin = time.monotonic()
    for region, offset, count in ((0, 0, 4), (0, Edu.BUFFER, 4096), (CONFIG, 0, 4), (CONFIG, 0, 256)):
        equal(client.read(region, offset, count), b"\xff" * count, f"region {region} while it is stuck")
        client.write(region, offset, bytes(count))
        client.post(region, offset, bytes(count))
    equal(client.write_multi((0, 4, bytes(4)), (0, 8, bytes(4))), 2, "writes while it is stuck")
    check(time.monotonic() - begin < 2, "reads of a function that is stuck take long")


def others_work(other):
    other.alive()
    equal(other.factorial(5), 120, "the other function's factorial")


def shared_memory():
    """Of the whole host, in bytes."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Shmem:"))


def has_memory(pid):
    """Does a process have a descriptor of the guest's memory?"""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if "memfd:guest-ram" in os.readlink(f"/proc/{pid}/fd/{name}"):
                return True
    return False


def comes_back(client):
    """The function answers again."""
    eventually(lambda: client.read(CONFIG, 0, 4) != b"\xff" * 4, "the function is there again")
    edu = Edu(client)
    edu.alive()
    return edu


@scenario("edu:3", needs=("slow_reset",), tags=("quick",))
def vu_stuck_reset(t):
    """A reset of a minute: RESET is an error within 4 s, meanwhile the function is like one that is being reset, others are served."""
    vm, _, client, other, bystander = two_and_another(t)
    bdf = t.host.bdf("edu")
    memory = Ram(1 << 20)
    t.defer(memory.close)
    client.dma_map(IOVA, 1 << 20, memory.fd)
    check(Edu(client).round_trip(memory, IOVA), "DMA before")
    slow = t.load_slow_reset()
    slow.hang(bdf)
    number = client.ask(RESET)
    eventually(lambda: slow.hung() == 1, "the reset hangs", step=0.01)
    # What comes behind it is not answered later than RESET itself.
    behind = [client.ask(REGION_READ, ACCESS.pack(0, 0, 4)) for _ in range(10)]
    others_work(other)
    for read in behind:
        equal(in_time(t, "read_behind_reset", client, read).ok()[ACCESS.size:], b"\xff" * 4, "a read during the reset")
    looks_reset(client)
    reply = in_time(t, "reset", client, number)
    check(reply.flags & vfio_user.ERROR, "a reset that has not ended is said to be done")
    t.note(f"RESET: {errno.errorcode.get(reply.error)}")
    until = time.monotonic() + 5
    while time.monotonic() < until:
        looks_reset(client)
        others_work(other)
        time.sleep(0.1)
    # Whatever else is asked meanwhile is answered: done, or an error.
    event = Event()
    t.defer(event.close)
    numbers = [client.ask(RESET), client.ask(vfio_user.GET_INFO, struct.pack("=IIII", 16, 0, 0, 0)),
               client.ask(vfio_user.SET_IRQS, vfio_user.IRQ_SET.pack(20, DATA_EVENTFD | TRIGGER, MSI, 0, 1), (event.fd,)),
               client.ask_dma_map(IOVA + (1 << 20), PAGE, memory.fd), client.ask(vfio_user.DMA_UNMAP, vfio_user.UNMAP.pack(24, 0, IOVA + (1 << 20), PAGE))]
    for number in numbers:
        in_time(t, "meanwhile", client, number)
    slow.clear()
    edu = comes_back(client)
    client.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL)
    client.dma_map(IOVA, 1 << 20, memory.fd)
    check(edu.round_trip(memory, IOVA, seed=2), "DMA afterwards")
    client.reset()
    Edu(client).alive()
    seen = bystander.end()
    t.value("bystander_max", f"{seen['max'] * 1e3:.1f} ms")


@scenario("igb-vf", "edu", needs=("slow_reset",))
def vu_stuck_flr(t):
    """The same by a write of the function's own reset bit, waited for, and posted."""
    vf, bdf = t.host.bdf("igb-vf"), t.host.bdf("edu")
    vm = t.vm()
    vm.attach(vf, bdf)
    client, other = connect(t, vm, vf), Edu(connect(t, vm, bdf))
    at = client.read(CONFIG, 0x34, 1)[0]
    while at and client.read(CONFIG, at, 1)[0] != EXP_CAPABILITY:
        at = client.read(CONFIG, at + 1, 1)[0]
    check(at, "the VF has no PCI Express capability")
    slow = t.load_slow_reset()
    for posted in (False, True):
        before = client.read16(CONFIG, at + EXP_DEVCTL)
        hung = slow.hung()
        slow.hang(vf)
        data = struct.pack("=H", before | EXP_FLR)
        if posted:
            client.post(CONFIG, at + EXP_DEVCTL, data)
        else:
            in_time(t, "write_of_flr", client, client.ask(vfio_user.REGION_WRITE, ACCESS.pack(at + EXP_DEVCTL, CONFIG, 2) + data))
        equal(in_time(t, "read_behind_flr", client, client.ask(REGION_READ, ACCESS.pack(0, CONFIG, 4))).ok()[ACCESS.size:], b"\xff" * 4,
              "config space during the reset")
        # The write is answered before it is carried out.
        eventually(lambda hung=hung: slow.hung() == hung + 1, "the reset hangs", step=0.01)
        others_work(other)
        slow.clear()
        eventually(lambda: client.read(CONFIG, 0, 4) != b"\xff" * 4, "the function is there again")
        equal(client.read16(CONFIG, at + EXP_DEVCTL) & EXP_FLR, 0, "the reset bit afterwards")


@scenario("edu:3", needs=("faults",))
def vu_stuck_read(t):
    """A read that never returns: answered all the same; the function is given up until it does."""
    vm, bdf, client, other, bystander = two_and_another(t)
    stuck = rules(t)
    stuck.add("pread", call="pread", device=bdf, process="tdid-vm", never=True, times=1)
    number = client.ask(REGION_READ, ACCESS.pack(0, 0, 4))
    time.sleep(1.5)
    looks_reset(client)
    reply = in_time(t, "read_that_never_returns", client, number)
    check(reply.flags & vfio_user.ERROR or reply.body[ACCESS.size:] == b"\xff" * 4, "a read that never returned has data")
    others_work(other)
    # Hanging up and coming back changes nothing: it is answered or refused, and soon.
    client.close()
    begin = time.monotonic()
    with contextlib.suppress(Lost, ServerError), Client(socket_path(t, vm, bdf)) as again:
        again.negotiate()
        again.read(0, 0, 4)
    check(time.monotonic() - begin <= ANSWERED_WITHIN, "a new client of a function that is stuck waits")
    others_work(other)
    stuck.clear()

    def served():
        fresh = Client(socket_path(t, vm, bdf))
        t.defer(fresh.hang_up)
        fresh.negotiate()
        return fresh
    with eventually(served, "the function is served again") as fresh:
        comes_back(fresh)
    bystander.end()


@scenario("edu:2", needs=("faults",))
def vu_slow_reads(t):
    """Accesses that take most of a second each, many of them in a row: none waits for all of those before it."""
    bdf, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf, second)
    client, other = connect(t, vm, bdf), Edu(connect(t, vm, second))
    Edu(client).alive()
    slow = rules(t)
    slow.add("pread", call="pread", device=bdf, process="tdid-vm", delay_ms=900)
    numbers = [client.ask(REGION_READ, ACCESS.pack(0, 0, 4)) for _ in range(12)]
    others_work(other)
    for number in numbers:
        check(in_time(t, "slow_read", client, number).ok()[ACCESS.size:] in (bytes.fromhex("ed000001"), b"\xff" * 4), "a slow read brings something else")
    slow.clear()
    comes_back(client)


@scenario("edu:2", needs=("slow_reset",), tags=("quick",))
def vu_stuck_close(t):
    """The VM ends while its function's reset hangs: guest memory goes back to the host all the same, the function follows when it can."""
    bdf, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf, second)
    client = connect(t, vm, bdf)
    other = connect(t, vm, second)
    before = shared_memory()
    memory = Ram(GUEST_RAM)
    client.dma_map(IOVA, GUEST_RAM, memory.fd)
    other.dma_map(IOVA, GUEST_RAM, memory.fd)
    check(Edu(client).round_trip(memory, IOVA), "DMA before")
    vm_holder = vm.holder_pid()

    def held():
        if t.host.kind == "linux":
            # It is pinned, all of it: the kernel keeps it without a descriptor.
            return shared_memory() - before > GUEST_RAM // 2
        return has_memory(t.host.simulation.process.pid) or has_memory(vm_holder)
    check(held(), "nobody has the guest's memory though it is mapped")
    slow = t.load_slow_reset()
    slow.hang(bdf)
    client.ask(RESET)
    eventually(lambda: slow.hung() == 1, "the reset hangs", step=0.01)
    time.sleep(1.5)
    client.hang_up()
    other.hang_up()
    memory.close()
    vm.lease.close()

    def returned():
        try:
            return not held()
        except FileNotFoundError:
            return True  # the holder has ended
    eventually(returned, "nobody has the guest's memory any more")
    check(t.client.vms(), "the VM has gone while its function's reset hangs")
    slow.clear()
    t.gone(vm)
    t.free(bdf, second)


@scenario("edu", needs=("faults",), tags=("quick",))
def vu_closing_while_busy(t):
    """The VM closes while its function's worker is in the kernel for good: nobody is served meanwhile."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    name = vm.describe()["name"]
    stuck = rules(t)
    stuck.add("export", call="VFIO_DEVICE_FEATURE", never=True, process="tdid-worker")
    asking = threading.Thread(target=lambda: refused("InvalidState", t.client.tdi(bdf).export, 0, 0, PAGE))
    asking.start()
    eventually(stuck.sleeping, "the export is in the kernel")
    # By another connection: ours waits for the export.
    destroy = t.tdictl.start("vm", "destroy", name)
    t.defer(destroy.kill)
    client.wait_lost(3)
    with contextlib.suppress(Lost, OSError), Client(socket_path(t, vm, bdf)) as again:
        again.negotiate()
        raise Failure("somebody is served by a VM that is closing")
    asking.join()
    stuck.clear()
    equal(destroy.wait(20), 0, "exit code of tdictl vm destroy")
    t.gone(vm)
    t.free(bdf)


def helpers():
    """The processes that map guests' memory in the cgroups of their VMMs."""
    out = []
    for pid in processes("tdid-worker"):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                out += [pid] * (file.read().strip() == "tdid-map")
        except OSError:
            pass  # it has just ended
    return out


def another_helper(before):
    return eventually(lambda: (new := helpers()) and new[0] != before and new[0], "another helper", 20)


# What the IOMMU says of the function's access to what is not mapped.
@scenario("edu", tags=("quick",), kernel_ok=(r"DMAR: .*fault",))
def vu_helper_killed(t):
    """
    The process that maps for a VMM is killed: what it was at fails, and withholds bus mastering like any failed map; another one maps what comes next, also
    when tdid comes back meanwhile. Not for ever.
    """
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    client, memory = connect_mapped(t, vm, bdf, IOVA, 1 << 20)
    edu = Edu(client)
    check(edu.round_trip(memory, IOVA, seed=1), "DMA before")
    pid, at, killed = helpers()[0], 0x9000000, 0
    # Before it maps, and after, of which nobody has heard.
    for when in ("before", "after") if t.host.has("faults") else ():
        fault = rules(t)
        fault.add("dies", call="IOMMU_IOAS_MAP_FILE", kill="caller", when=when, times=1)
        fails(errno.EPIPE, client.dma_map, at, 1 << 20, memory.fd)
        fault.clear()
        eventually(lambda: not edu.round_trip(memory, IOVA, seed=2), "the function is kept from bus mastering", 5)
        pid, killed = another_helper(pid), killed + 1
        client.dma_map(at, 1 << 20, memory.fd)
        eventually(lambda at=at: edu.round_trip(memory, at, seed=3), "it is bus master again, and reaches what another helper has mapped", 5)
        client.dma_unmap(at, 1 << 20)
    for restarted in (False, True):
        if restarted:
            t.daemon.kill()
        os.kill(pid, signal.SIGKILL)
        if restarted:
            # The holder has told nobody.
            eventually(lambda: not helpers(), "the end of the helper")
            t.daemon.start()
        pid, killed = another_helper(pid), 1 if restarted else killed + 1
        client.dma_map(at, 1 << 20, memory.fd)
        check(edu.round_trip(memory, IOVA, seed=4) and edu.round_trip(memory, at, seed=5), "DMA to what each of them has mapped")
        client.dma_unmap(at, 1 << 20)
    # It is counted since tdid has come back.
    while killed < 5:
        os.kill(pid, signal.SIGKILL)
        pid, killed = another_helper(pid), killed + 1
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: any("no other is started" in line for line in t.daemon.log()), "the last of them")
    contains(vm.describe()["peer"]["memory"], "too often", "what is said of its memory")
    # It waits for two minutes, as for a tdid that is away, and fails then.
    client.ask_dma_map(at, 1 << 20, memory.fd)
    check(not edu.round_trip(memory, at, seed=6), "what nobody maps is reached")
    check(edu.round_trip(memory, IOVA, seed=7), "what is mapped is not reached any more")
    equal(helpers(), [], "helpers")


@scenario("edu:2", needs=("faults",), tags=("quick",))
def vu_failed_map(t):
    """The kernel refuses a map: the answer is an error, and the function is no bus master, whatever the guest reads, until the range is unmapped."""
    bdf, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf, second)
    client, other = connect(t, vm, bdf), connect(t, vm, second)
    memory = Ram(1 << 20)
    t.defer(memory.close)
    client.dma_map(IOVA, 1 << 20, memory.fd)
    other.dma_map(IOVA, 1 << 20, memory.fd)
    edu, beside = Edu(client), Edu(other)
    fault = rules(t)
    seed = 0
    for error in (errno.EFAULT, errno.ENOMEM, errno.EINVAL):
        fault.add("map", call="IOMMU_IOAS_MAP_FILE", errno=errno.errorcode[error], times=1)
        # As QEMU does it: not waited for, and the error only printed.
        numbers = [client.ask_dma_map(0x9000000, 1 << 20, memory.fd), client.ask_dma_map(0xa000000, 1 << 20, memory.fd)]
        replies = [client.wait(n) for n in numbers]
        fault.clear()
        failed = replies[0].flags & vfio_user.ERROR
        if failed:
            equal(replies[0].error, error, "error of the map")
        replies[1].ok()
        seed += 1
        eventually(lambda seed=seed: not edu.round_trip(memory, IOVA, seed=seed), "the function is kept from bus mastering", 5)
        check(client.read16(CONFIG, COMMAND) & COMMAND_MASTER, "COMMAND does not read as the guest has written it")
        client.write16(CONFIG, COMMAND, client.read16(CONFIG, COMMAND))
        check(not edu.round_trip(memory, IOVA, seed=seed + 10), "a write of COMMAND makes it bus master")
        check(beside.round_trip(memory, IOVA, 0x11000, 0x19000, seed=seed), "the other function is kept from it, too")
        check(failed, "a map that failed was answered as done")
        # A covering unmap takes what failed with it.
        client.dma_unmap(0x9000000, 0x2000000)
        eventually(lambda seed=seed: edu.round_trip(memory, IOVA, seed=seed + 20), "it is bus master again", 5)
    # The guest may not want it meanwhile.
    fault.add("map", call="IOMMU_IOAS_MAP_FILE", errno="EFAULT", times=1)
    fails(errno.EFAULT, client.dma_map, 0x9000000, PAGE, memory.fd)
    client.write16(CONFIG, COMMAND, client.read16(CONFIG, COMMAND) & ~COMMAND_MASTER)
    client.dma_unmap(0x9000000, PAGE)
    check(not edu.round_trip(memory, IOVA, seed=99), "bus master though the guest has said no")
    client.write16(CONFIG, COMMAND, client.read16(CONFIG, COMMAND) | COMMAND_MASTER)
    check(edu.round_trip(memory, IOVA, seed=98), "bus master when the guest says so")


@scenario("edu:2", needs=("faults",))
def vu_slow_map(t):
    """A map that takes long is accepted at once; until it is made the function does not become bus master, and others are served."""
    bdf, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf, second)
    client, other = connect(t, vm, bdf), Edu(connect(t, vm, second))
    memory = Ram(1 << 20)
    t.defer(memory.close)
    slow = rules(t)
    slow.add("map", call="IOMMU_IOAS_MAP_FILE", delay_ms=LONG_MS, times=1)
    number = client.ask_dma_map(IOVA + (4 << 20), 1 << 20, memory.fd)
    time.sleep(1.5)
    # The device itself is fine all the while.
    check(not client.answered(number), "a slow map is answered at once")
    vendor = in_time(t, "read_behind_slow_map", client, client.ask(REGION_READ, ACCESS.pack(0, CONFIG, 4))).ok()[ACCESS.size:]
    equal(vendor, bytes.fromhex("3412e811"), "what a read brings while memory is mapped")
    in_time(t, "slow_map", client, number).ok()
    slow.clear()
    client.dma_unmap(IOVA + (4 << 20), 1 << 20)
    slow.add("map", call="IOMMU_IOAS_MAP_FILE", delay_ms=LONG_MS, times=1)
    # As QEMU sends them: all at once. A slow one does not add its time to that of those behind it.
    numbers = [client.ask_dma_map(IOVA + (i << 20), 1 << 20, memory.fd) for i in range(4)]
    numbers.append(client.ask(REGION_READ, ACCESS.pack(0, CONFIG, 4)))
    for number in numbers:
        in_time(t, "slow_map", client, number).ok()
    edu = Edu(client)
    edu.alive()
    check(not edu.round_trip(memory, IOVA), "DMA while the map is being made")
    check(client.read16(CONFIG, COMMAND) & COMMAND_MASTER, "COMMAND does not read as the guest has written it")
    others_work(other)
    slow.clear()
    eventually(lambda: edu.round_trip(memory, IOVA, seed=2), "DMA when the map is made")
    # A device that is at work goes on while memory is plugged into its guest.
    slow.add("map", call="IOMMU_IOAS_MAP_FILE", delay_ms=LONG_MS, times=1)
    in_time(t, "slow_map", client, client.ask_dma_map(IOVA + (8 << 20), 1 << 20, memory.fd)).ok()
    check(edu.round_trip(memory, IOVA, seed=3), "DMA while other memory is being mapped")
    slow.clear()
    # One that is not, does not begin.
    command = client.read16(CONFIG, COMMAND)
    client.write16(CONFIG, COMMAND, command & ~COMMAND_MASTER)
    slow.add("map", call="IOMMU_IOAS_MAP_FILE", delay_ms=LONG_MS, times=1)
    in_time(t, "slow_map", client, client.ask_dma_map(IOVA + (12 << 20), 1 << 20, memory.fd)).ok()
    client.write16(CONFIG, COMMAND, command)
    check(not edu.round_trip(memory, IOVA, seed=4), "a function becomes bus master while memory is being mapped")
    slow.clear()
    eventually(lambda: edu.round_trip(memory, IOVA, seed=5), "DMA when all is mapped")


@scenario("edu:2", needs=("faults",))
def vu_slow_map_undone(t):
    """What is unmapped while it is being mapped: answered in time, and gone when that is over; nobody is hung up on."""
    bdf, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf, second)
    client, other = connect(t, vm, bdf), Edu(connect(t, vm, second))
    memory = Ram(1 << 20)
    t.defer(memory.close)
    slow = rules(t)
    for call in ("IOMMU_IOAS_MAP_FILE", "IOMMU_IOAS_UNMAP"):
        slow.add("slow", call=call, delay_ms=LONG_MS, times=1)
        numbers = [client.ask_dma_map(IOVA, 1 << 20, memory.fd), client.ask_dma_map(IOVA + (1 << 20), 1 << 20, memory.fd),
                   client.ask(vfio_user.DMA_UNMAP, vfio_user.UNMAP.pack(24, 0, IOVA, 2 << 20)), client.ask_dma_map(IOVA + (2 << 20), 1 << 20, memory.fd),
                   client.ask(vfio_user.DMA_UNMAP, vfio_user.UNMAP.pack(24, vfio_user.UNMAP_ALL, 0, 0)), client.ask(REGION_READ, ACCESS.pack(0, CONFIG, 4))]
        for number in numbers:
            in_time(t, "behind_" + call, client, number)
        others_work(other)
        slow.clear()
        eventually(lambda: client.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL) or True, "everything is unmapped")
        client.dma_map(IOVA, 1 << 20, memory.fd)
        edu = Edu(client)
        eventually(lambda edu=edu: edu.round_trip(memory, IOVA), "DMA afterwards", 10)
        client.dma_unmap(IOVA, 1 << 20)


@scenario("edu", needs=("faults",))
def vu_device_error(t):
    """The device's own errors: reads are ones and writes are lost, as on a bus, for a VMM that reads no error from a read."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    client = connect(t, vm, bdf, vfio_user.CLOUD_HYPERVISOR)
    Edu(client).alive()
    fault = rules(t)
    for error in ("EIO", "EFAULT", "ENODEV"):
        fault.add("read", call="pread", device=bdf, process="tdid-vm", errno=error)
        fault.add("write", call="pwrite", device=bdf, process="tdid-vm", errno=error)
        equal(client.read(0, 0, 4), b"\xff" * 4, f"a read that is {error}")
        client.write(0, Edu.LIVENESS, bytes(4))
        fault.clear()
    Edu(client).alive()


@scenario("edu:2", tags=("quick",))
def vu_tdid_restart(t):
    """tdid is killed and comes back, twice: whoever is connected does not notice, and who comes later is served."""
    bdf, second = t.host.bdfs("edu", 2)
    vm = t.vm("kept")
    vm.attach(bdf, second)
    path = socket_path(t, vm, second)
    client = connect(t, vm, bdf)
    memory = Ram(1 << 20)
    t.defer(memory.close)
    client.dma_map(IOVA, 1 << 20, memory.fd)
    edu = Edu(client)
    for seed in (1, 2):
        t.daemon.kill()
        edu.alive()
        check(edu.round_trip(memory, IOVA, seed=seed), "DMA while there is no tdid")
        t.drop_client()
        t.daemon.start()
        check(edu.round_trip(memory, IOVA, seed=seed + 5), "DMA with the next tdid")
        with Client(path) as later:
            later.negotiate()
            # Who the peer is, the next tdid learns too.
            later.dma_map(IOVA, 1 << 20, memory.fd)
            check(Edu(later).round_trip(memory, IOVA, seed=seed + 8), "DMA of a connection that came later")
    t.attached(t.adopt(t.client.find_vm("kept")), bdf, second)


@scenario("edu", tags=("quick",))
def vu_maps_without_tdid(t):
    """A VMM comes while there is no tdid, which would look up what the VMM maps: its maps are made when there is one, and the device waits."""
    bdf = t.host.bdf("edu")
    vm = t.vm("kept")
    vm.attach(bdf)
    path = socket_path(t, vm, bdf)
    t.daemon.kill()
    t.drop_client()
    client = Client(path)
    t.defer(client.hang_up)
    client.negotiate()
    memory, other = Ram(1 << 20), Ram(1 << 20)
    t.defer(memory.close)
    client.dma_map(IOVA, 1 << 20, memory.fd)
    begin = time.monotonic()
    client.dma_map(2 * IOVA, 1 << 20, other.fd)
    check(time.monotonic() - begin < 1, "each map waits")
    # That one is not the VMM's any more when it is looked at.
    other.close()
    edu = Edu(client)
    check(client.read16(CONFIG, COMMAND) & COMMAND_MASTER, "the guest does not see what it has written")
    check(not edu.round_trip(memory, IOVA), "DMA before anybody has looked at the memory")
    t.daemon.start()
    events = eventually(lambda: vpci_of(t.client.find_vm("kept"), bdf)["events"], "the map of memory that the VMM does not have is refused")
    equal([event["what"] for event in events], ["dma"], "events")
    check(not edu.round_trip(memory, IOVA), "DMA though a map has failed")
    client.dma_unmap(2 * IOVA, 1 << 20)
    eventually(lambda: edu.round_trip(memory, IOVA), "DMA when it is unmapped")
    t.adopt(t.client.find_vm("kept"))


def vpci_of(vm, bdf):
    return next(tdi["vpci"] for tdi in vm.describe()["tdis"] if tdi["bdf"] == bdf)


@scenario("edu")
def vu_holder_killed(t):
    """The holder dies: the VMM's connection ends, so does the VM, and the function is free."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    with Ram(1 << 20) as memory:
        client.dma_map(IOVA, 1 << 20, memory.fd)
        os.kill(vm.holder_pid(), 9)
        client.wait_lost()
        t.gone(vm)
        t.free(bdf)
