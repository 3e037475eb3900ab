# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tdid short of what it needs: descriptors, memory, room below /run, processor time, its bus; and with more clients than anybody has. What becomes
# of it then is in docs/when-things-go-wrong.md.

import contextlib
import ctypes
import os
import queue
import resource
import signal
import socket
import struct
import threading
import time

from kit import vfio_user
from kit.checks import check, contains, equal, eventually
from kit.client import Lost, Refused, refused
from kit.daemon import LIBC, cpu_ticks, memory_kib, sanitized
from kit.peer import RawBus
from kit.registry import scenario
from kit.vmm import Edu, connect, socket_path

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
# What a call may end with when there is not enough of something.
SHORT = ("Limit", "Kernel", "Busy", "org.freedesktop.DBus.Error.NoMemory", "org.freedesktop.DBus.Error.LimitsExceeded",
         "System.Error.EMFILE", "System.Error.ENFILE", "System.Error.ENOMEM")


def mount_tmpfs(t, path, size):
    """A file system of its own for one folder, which only this process and its children see."""
    if LIBC.unshare(CLONE_NEWNS) < 0 or LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) < 0 or \
            LIBC.mount(b"tmpfs", path.encode(), b"tmpfs", 0, b"mode=0755,size=%d" % size) < 0:
        t.skip(f"a file system cannot be mounted: {os.strerror(ctypes.get_errno())}")
    t.after(lambda: LIBC.umount2(path.encode(), 0))


def fill(path):
    """Takes all the room that is left there."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


@scenario("edu:3", start=False, needs=("root",), tags=("quick",))
def full_run(t):
    """
    /run is full: nothing is begun that could not be written down, and what is asked for is refused; what there is goes on, is given back, and is taken
    up by the next tdid; with room again everything is as before.
    """
    bdf, other, wanted = t.host.bdfs("edu", 3)
    mount_tmpfs(t, t.daemon.state, 256 << 10)
    t.start()
    kept, closing, asking = t.vm("kept"), t.vm("closing"), t.vm("asking")
    kept.attach(bdf)
    closing.attach(other)
    filler = os.path.join(t.daemon.state, "filler")
    fill(filler)

    def nothing_new():
        text = refused("Kernel", asking.attach, wanted)
        for part in ("journal", "No space left"):
            contains(text, part, "why it is refused")
        t.free(wanted)
        t.unchanged(wanted)
        check(not [n for n in t.daemon.journals() if wanted.replace(":", "_").replace(".", "_") in n], "a journal of what was refused")
    nothing_new()
    closing.lease.close()
    t.gone(closing)
    t.free(other)
    t.unchanged(other)
    # Its journal has left room.
    fill(filler + "2")
    t.attached(kept, bdf)
    t.daemon.restart()
    t.attached(kept, bdf)
    nothing_new()
    t.client.tdi(bdf).detach()
    t.free(bdf)
    for name in (filler, filler + "2"):
        os.unlink(name)
    asking.attach(bdf, other, wanted)
    t.attached(asking, bdf, other, wanted)


def limit(t, what, value):
    """A resource limit of tdid's, until the scenario ends; its children have it too."""
    _, hard = resource.prlimit(t.daemon.pid, what)
    resource.prlimit(t.daemon.pid, what, (value if value is not None else hard, hard))


def life(client, bdf, name):
    """The whole life of a VM, with all the descriptors that there are to have; where it stops it lets go of what it had."""
    leases = []
    pidfd = os.pidfd_open(os.getpid())
    try:
        vm = client.create_vm(name)
        leases.append(vm.lease)
        vm.attach(bdf)
        leases.append(vm.hold("x"))
        vm.set_pidfd(pidfd)
        vm.seal()
        vm.describe()
        vm.destroy()
    finally:
        os.close(pidfd)
        for lease in leases:
            lease.close()


def survives(t, what, values, bdf, bystander, kept):
    """With each of these limits in turn a life is tried: done, refused, or tdid ends, and the next one goes on; nothing is left of it then. How each ended."""
    seen = []
    for i, value in enumerate(values):
        limit(t, what, value)
        try:
            life(t.client, bdf, f"tried-{i}")
            seen.append("done")
        except Refused as error:
            check(error.name in SHORT, f"limit {value}: {error}")
            check(error.text, f"limit {value}: {error.full} without a text")
            seen.append(error.name)
        except Lost:
            # tdid, or its connection to the bus.
            seen.append("ended")
        if t.daemon.alive() and seen[-1] != "ended":
            limit(t, what, None)
        else:
            t.drop_client()
            t.daemon.wait_exit(20)
            t.daemon.start()
        eventually(lambda: len(t.client.vms()) == 1, f"the end of what was tried with the limit {value}")
        t.free(bdf)
        t.attached(kept, bystander)
    t.unchanged(bdf)
    t.note(f"{len(seen)} limits: " + " ".join(f"{name.rpartition('.')[2]}={seen.count(name)}" for name in sorted(set(seen))))
    return seen


@scenario("edu:2", tags=("quick",))
def short_of_descriptors(t):
    """tdid may open 0, 1, 2, … more descriptors: calls are refused and nothing is half done, other VMs are as they were, and afterwards all works."""
    bdf, bystander = t.host.bdfs("edu", 2)
    kept = t.vm("kept")
    kept.attach(bystander)
    t.quiet()
    used = max(int(fd) for fd in os.listdir(f"/proc/{t.daemon.pid}/fd")) + 1
    seen = survives(t, resource.RLIMIT_NOFILE, range(used, used + (40 if t.full else 24), 1 if t.full else 4), bdf, bystander, kept)
    check(set(seen) & set(SHORT), f"nothing was refused: {seen}")
    check("ended" not in seen, f"tdid has ended: {seen}")
    life(t.client, bdf, "afterwards")


@scenario("edu:2", tags=("quick",))
def short_of_descriptors_giving_back(t):
    """No more descriptors while a VM ends: what cannot be given back for want of one is given back when there is, and is not quarantined."""
    bdf, bystander = t.host.bdfs("edu", 2)
    kept, vm = t.vm("kept"), t.vm()
    kept.attach(bystander)
    vm.attach(bdf)
    t.quiet()
    # Also the workers that are ready.
    time.sleep(1)
    limit(t, resource.RLIMIT_NOFILE, 3)
    vm.lease.close()
    time.sleep(1)
    limit(t, resource.RLIMIT_NOFILE, None)
    t.gone(vm)
    t.free(bdf)
    t.unchanged(bdf)
    t.attached(kept, bystander)


def fds_in_use(t):
    """The limit with which tdid can open nothing more; below the highest number there may be room."""
    return max(int(fd) for fd in os.listdir(f"/proc/{t.daemon.pid}/fd")) + 1


@scenario("edu:2", tags=("quick",))
def short_of_descriptors_connecting(t):
    """
    A VMM connects while tdid can take no descriptor: what its holder sends with one is not lost, and above all the holder is not taken for broken. When there
    is room again the process is looked at as any other.
    """
    bdf, bystander = t.host.bdfs("edu", 2)
    vm, other = t.vm(), t.vm()
    vm.attach(bdf)
    other.attach(bystander)
    t.quiet()
    # Also the workers that are ready.
    time.sleep(1)
    path = socket_path(t, vm, bdf)
    limit(t, resource.RLIMIT_NOFILE, 3)
    client = vfio_user.Client(path)
    t.defer(client.close)
    client.negotiate(vfio_user.QEMU)
    Edu(client).alive()
    time.sleep(0.5)
    limit(t, resource.RLIMIT_NOFILE, None)
    t.attached(vm, bdf)
    t.attached(other, bystander)
    eventually(lambda: any(k["kind"] == "vpci" for k in vm.describe()["keepers"]), "the connection keeps the VM")
    eventually(lambda: (vm.describe()["peer"] or {}).get("kvm"), "its process is looked at")
    Edu(client).alive()


@scenario("edu", needs=("kvm",), tags=("quick",))
def short_of_descriptors_kvm(t):
    """SetKVM that is refused for want of descriptors has changed nothing: done again when there are some, it succeeds."""
    kvm = t.host.kvm_vm()
    t.defer(lambda: t.host.close(kvm))
    vm = t.vm("v")
    t.quiet()
    seen = []
    for more in range(6):
        limit(t, resource.RLIMIT_NOFILE, fds_in_use(t) + more)
        try:
            vm.set_kvm(kvm)
            seen.append("done")
        except Refused as error:
            check(error.name in SHORT, f"{more} more descriptors: {error}")
            seen.append(error.name)
        except Lost:
            # Descriptors that do not fit end a connection to the bus (sd-bus).
            seen.append("ended")
            t.drop_client()
            t.daemon.wait_exit(20)
            t.daemon.start()
            vm = t.adopt(t.client.find_vm("v"))
            continue
        limit(t, resource.RLIMIT_NOFILE, None)
        if seen[-1] == "done":
            break
        equal(vm.describe()["kvm"], False, f"the KVM VM after {seen[-1]}")
    check(len(seen) > 1 and seen[-1] == "done", f"how SetKVM ended with 0, 1, 2, … more descriptors: {seen}")


@scenario("edu:2", tags=("quick",))
def short_of_descriptors_starting(t):
    """tdid starts with room for so many descriptors, each number up to what it takes: it serves, or ends; the VM that its holder keeps is not touched."""
    bdf, orphan = t.host.bdfs("edu", 2)
    vm, gone = t.vm("kept"), t.vm("gone")
    vm.attach(bdf)
    gone.attach(orphan)
    gone_holder = gone.holder_pid()
    client = connect(t, vm, bdf)
    t.daemon.kill()
    os.kill(gone_holder, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{gone_holder}"), "the end of a holder")
    binary, wrapper = t.daemon.binary, os.path.join(t.folder, "short")
    ended = served = 0
    for n in range(8, 64, 1 if t.full else 4):
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nulimit -n {n}\nexec '{binary}' \"$@\"\n")
        os.chmod(wrapper, 0o755)
        t.daemon.binary = wrapper
        t.drop_client()
        t.daemon.start(wait=False)
        eventually(lambda: not t.daemon.alive() or t.client.owner_pid() == t.daemon.pid, f"with {n} descriptors tdid serves or ends")
        time.sleep(0.3)
        ended += not t.daemon.alive()
        served += t.daemon.alive()
        Edu(client).alive()
        check(not vm.lease.hung_up(), f"with {n} descriptors the VM has ended")
        if t.daemon.alive():
            t.daemon.kill()
    t.daemon.binary = binary
    t.daemon.start()
    t.attached(t.adopt(t.client.find_vm("kept")), bdf)
    Edu(client).alive()
    t.free(orphan)
    check(ended and served, f"{ended} have ended and {served} served")


@scenario("edu:2", tags=("quick",))
def short_of_memory(t):
    """No more memory for tdid and the workers it starts, at many places: calls are refused, or tdid ends and the next one goes on; other VMs notice nothing."""
    if sanitized(t.daemon.pid):
        t.skip("sanitizers need all addresses")
    bdf, bystander = t.host.bdfs("edu", 2)
    kept = t.vm("kept")
    kept.attach(bystander)
    client = connect(t, kept, bystander)

    def size():
        with open(f"/proc/{t.daemon.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    steps = [size() + kib * 1024 for kib in ((0, 64, 132, 140, 256, 512, 1024, 4096, 65536) if t.full else (0, 132, 256, 1024))]
    survives(t, resource.RLIMIT_AS, steps, bdf, bystander, kept)
    Edu(client).alive()
    life(t.client, bdf, "afterwards")


@scenario("edu", start=False, tags=("quick",))
def watchdog(t):
    """
    The service manager is told by the event loop itself that it runs: a loop that hangs tells nothing, is ended for that, and the next tdid has
    everything. Here it hangs in a write to a log that nobody reads.
    """
    bdf = t.host.bdf("edu")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = os.path.join(t.folder, "notify")
    manager.bind(path)
    t.defer(manager.close)
    read_end, log = os.pipe()
    for end in (read_end, log):
        t.defer(lambda end=end: os.close(end))
    env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}

    heard = queue.SimpleQueue()

    def listen():
        """All the time: who tells it waits where nobody listens."""
        with contextlib.suppress(OSError):
            while True:
                heard.put(manager.recv(4096).decode().split("\n"))
    threading.Thread(target=listen, daemon=True).start()

    def told(word, seconds=20.0):
        """Whether it says so within this time, from now on."""
        while not heard.empty():
            heard.get()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                if word in heard.get(timeout=left):
                    return True
        return False
    t.daemon.start(env, log=log)
    vm = t.vm("kept")
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    for _ in range(3):
        check(told("WATCHDOG=1"), "the loop does not tell that it runs")
    os.set_blocking(log, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(log, bytes(4096)):
            pass
    with contextlib.suppress(BlockingIOError):
        while os.write(log, b"."):
            pass
    os.set_blocking(log, True)
    # Says so in the log.
    t.background(lambda other: other.create_vm("one-more"))
    eventually(lambda: not told("WATCHDOG=1", 1), "the loop hangs")
    Edu(client).alive()
    # As systemd does.
    t.drop_client()
    t.daemon.process.send_signal(signal.SIGABRT)
    t.daemon.wait_exit()
    t.daemon.start(env)
    check(told("WATCHDOG=1"), "the next one does not tell that it runs")
    t.attached(t.adopt(t.client.find_vm("kept")), bdf)
    Edu(client).alive()


@contextlib.contextmanager
def many_descriptors():
    """For this process, which is all of the many clients."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def answers_quickly(t):
    begin = time.monotonic()
    t.client.ping()
    return time.monotonic() - begin


@scenario("edu:2", timeout=600, tags=("quick",))
def thousand_idle(t):
    """
    1,000 clients on the bus that have asked for something once, 1,000 leases, and 1,000 connections to a vPCI socket (200 without TDID_FULL): nobody waits
    for them, and they cost no time.
    """
    count = 1000 if t.full else 200
    if t.host.kind == "linux" and not t.full:
        t.skip("so many clients take an emulated machine minutes")
    bdf, other = t.host.bdfs("edu", 2)
    vm = t.vm("served")
    vm.attach(bdf)
    client, path = connect(t, vm, bdf), socket_path(t, vm, bdf)
    life(t.client, other, "before")
    t.quiet()
    before = memory_kib(t.daemon.pid)
    with many_descriptors(), contextlib.ExitStack() as many:
        for _ in range(count):
            one = RawBus(t.bus.address)
            many.callback(one.close)
            equal(one.call("org.tdid1", "/org/tdid1", "org.tdid1.Manager", "GetVM", b"s", one.string("served"))[0], "return", "what one of the many gets")
        leases = []
        many.callback(lambda: [lease.close() for lease in leases])
        # As many as a VM may have, of as many VMs as that takes.
        while len(leases) < count:
            holder = t.client.create_vm(f"held-{len(leases)}")
            leases.append(holder.lease)
            leases += [holder.hold("idle") for _ in range(min(63, count - len(leases)))]
        for _ in range(count):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            many.callback(s.close)
            # It waits for a place, for so long; with a time limit of Python's it would not wait at all.
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 10, 0))
            s.connect(path)
        ticks = cpu_ticks(t.daemon.pid)
        time.sleep(1)
        t.value("ticks_of_100_a_second", cpu_ticks(t.daemon.pid) - ticks)
        t.value("seconds_to_answer", f"{max(answers_quickly(t) for _ in range(20)):.4f}")
        Edu(client).alive()
        life(t.client, other, "meanwhile")
        grown = memory_kib(t.daemon.pid) - before
        t.value("kib_grown", grown)
        if not sanitized(t.daemon.pid):
            check(grown < 8192, f"tdid has grown by {grown} KiB")
    eventually(lambda: len(t.client.vms()) == 1, "the end of the VMs that the leases kept", 60)
    t.attached(vm, bdf)
    Edu(client).alive()
    vm.attach(other)


@scenario("edu", tags=("quick",))
def never_reads(t):
    """A client that wants all signals and never reads one, and one that asks for much and never reads the answers: the bus keeps or drops them, tdid keeps nothing."""
    bdf = t.host.bdf("edu")
    life(t.client, bdf, "before")
    t.quiet()
    with contextlib.ExitStack() as many:
        deaf = RawBus(t.bus.address)
        many.callback(deaf.close)
        rule = deaf.string("type='signal',sender='org.tdid1'")
        equal(deaf.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", b"s", rule)[0], "return", "AddMatch")
        before = memory_kib(t.daemon.pid)
        for i in range(100 if t.full else 20):
            life(t.client, bdf, f"life-{i}")
        # The list of all objects is the longest answer that there is.
        rude = RawBus(t.bus.address)
        many.callback(rude.close)
        rude.socket.settimeout(5)
        call = ("org.tdid1", "/org/tdid1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        asked = 0
        with contextlib.suppress(OSError):
            for _ in range(2000 if t.full else 300):
                rude.socket.sendall(rude.message(*call))
                asked += 1
        t.value("asked", asked)
        t.value("seconds_to_answer", f"{answers_quickly(t):.2f}")
        life(t.client, bdf, "meanwhile")
        grown = memory_kib(t.daemon.pid) - before
        t.value("kib_grown", grown)
        if not sanitized(t.daemon.pid):
            check(grown < 8192, f"tdid has grown by {grown} KiB")
    life(t.client, bdf, "afterwards")


@scenario("edu:2", tags=("quick",))
def bus_returns(t):
    """
    The bus goes, and stays away for a while: tdid ends, as does each that its service manager starts meanwhile; holders serve on. With the bus tdid
    is back under its name, with all of its VMs, and takes orders.
    """
    bdf, other = t.host.bdfs("edu", 2)
    vm = t.vm("kept")
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    t.kill_bus()
    check(t.daemon.wait_exit(10) != 0, "tdid has ended as if all were well: nobody would start it again")
    for _ in range(2):
        t.daemon.start(wait=False)
        check(t.daemon.wait_exit(10) != 0, "a tdid without a bus has ended well")
        Edu(client).alive()
    t.restart_bus()
    t.daemon.start()
    again = t.adopt(t.client.find_vm("kept"))
    t.attached(again, bdf)
    equal([str(p) for p in t.client.vms()], [again.path], "VMs in the list of objects")
    check(not vm.lease.hung_up(), "the lease has ended")
    Edu(client).alive()
    again.attach(other)
    t.attached(again, bdf, other)


@scenario("edu:2", needs=("linux", "root"), start=False, tags=("quick",))
def clock_jumps(t):
    """The host's clock jumps a day ahead, and back: no time limit ends early or late for that, and everything goes on."""
    bdf, other = t.host.bdfs("edu", 2)
    t.daemon.start()
    vm, waiting = t.vm("kept"), t.vm("waiting", await_vmm=60)
    vm.attach(bdf)
    waiting.lease.close()
    clock = time.CLOCK_REALTIME

    def jump(seconds):
        time.clock_settime(clock, time.clock_gettime(clock) + seconds)
    for seconds in (86400, -2 * 86400, 86400):
        jump(seconds)
        time.sleep(0.5)
        t.attached(vm, bdf)
        check(waiting.alive(), "a VM that waits for its VMM a minute has ended with the clock's jump")
        life(t.client, other, f"after-{abs(seconds)}-{seconds > 0}")
        equal(t.client.jobs("running", "stuck"), {}, "jobs under way")
        t.daemon.restart()
        t.attached(vm, bdf)
        check(waiting.alive(), "a VM that waits for its VMM a minute has ended with the next tdid")
    waiting.destroy()
