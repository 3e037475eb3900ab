# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Two things go wrong at once: workers die beside what they work for, tdid stops while it still clears up after its
# predecessor, a group's member stays behind, another tdid's files are found beside a living holder.

import errno
import json
import os
import signal
import time

from kit.checks import Failure, check, contains, equal, eventually
from kit.client import Lost, escape, refused
from kit.daemon import process_state, processes
from kit.registry import scenario
from kit.simtsm import Rules


def journal_path(t, bdf):
    return os.path.join(t.daemon.state, "journal", escape(bdf) + ".json")


def kill_workers():
    killed = list(processes("tdid-worker"))
    for pid in killed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ends by itself when it has rested
    return killed


@scenario("edu:2", needs=("programs",), tags=("quick",))
def workers_killed_idle(t):
    """Every worker is killed while nothing is going on: nothing of the VM is lost, and the next steps find new ones."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(first)
    t.quiet()
    t.note(f"killed {len(kill_workers())} workers")
    time.sleep(0.5)
    t.attached(vm, first)
    t.dma(vm, first)
    vm.attach(second)
    kill_workers()
    t.attached(vm, first, second)
    equal(vm.destroy().state(), "done", "job of the destroy")
    t.free(first, second)
    t.unchanged(first, second)
    equal(t.daemon.leftovers(), [], "files of tdid")


@scenario("edu:2", needs=("programs",))
def workers_killed_closing(t):
    """Every worker is killed again and again while a VM closes: it ends all the same, and the functions are as before."""
    bdfs = t.host.bdfs("edu", 2)
    for _ in range(3):
        vm = t.vm()
        vm.attach(*bdfs)
        job = vm.destroy(async_=True)
        until = time.monotonic() + 2
        while job.state() == "running" and time.monotonic() < until:
            kill_workers()
            time.sleep(t.rng.uniform(0.01, 0.2))
        t.gone(vm)
        for bdf in bdfs:
            eventually(lambda bdf=bdf: t.device(bdf).text("Custody") == "none" or t.device(bdf).text("Quarantine"), f"{bdf} is settled")
            # A worker that dies in a step leaves its function in a state that only a look can tell.
            if t.device(bdf).text("Quarantine"):
                t.note(f"{bdf}: {t.device(bdf).text('Quarantine')}")
                eventually(lambda bdf=bdf: t.device(bdf).restore() or True, f"Restore of {bdf}")
        t.free(*bdfs)
        t.unchanged(*bdfs)


@scenario("edu:2")
def stop_in_recovery(t):
    """SIGTERM comes while tdid still gives back what its predecessor left, and one of that is stuck."""
    stuck, other = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(stuck, other)
    holder = vm.holder_pid()
    fd = [t.host.open_vfio(stuck)]
    t.defer(lambda: fd and t.host.close(fd.pop()))
    t.daemon.kill()
    os.kill(holder, signal.SIGKILL)
    eventually(lambda: process_state(holder) == "", "end of the holder")
    t.daemon.start()
    t.daemon.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    check(t.daemon.alive(), "tdid ended with a function not given back")
    t.host.close(fd.pop())
    equal(t.daemon.wait_exit(60), 0, "exit code")
    eventually(lambda: not processes(), "end of all processes", 30)
    t.unchanged(stuck, other)
    equal(t.daemon.leftovers(), [], "files of tdid")


@scenario("group-nvme", "group-edu", "edu", needs=("stick",), start=False)
def group_left_behind(t):
    """One member of a group cannot be given back: the VM ends, the whole group is withheld, and comes back together."""
    nvme, edu, other = (t.host.bdf(r) for r in ("group-nvme", "group-edu", "edu"))
    stick = t.load_stick()
    t.host.set_driver(edu, "tdid_test_stick")
    t.after(lambda: t.host.set_driver(edu, None))
    t.start()
    vm = t.vm()
    vm.attach(nvme, edu)
    stick.set("probe_err", errno.ENOMEM)
    t.defer(lambda: stick.set("probe_err", 0))
    vm.lease.close()
    t.gone(vm)
    contains(eventually(lambda: t.device(edu).text("Quarantine"), "the quarantine"), "tdid_test_stick", "the reason")
    for restarted in (False, True):
        if restarted:
            t.daemon.restart()
        vm = t.vm()
        refused("Quarantined", vm.attach, nvme, edu)
        vm.attach(other)
        t.attached(vm, other)
        vm.destroy()
    stick.set("probe_err", 0)
    t.device(edu).restore()
    t.free(nvme, edu)
    eventually(lambda: t.host.block(nvme), "the disk")
    vm = t.vm()
    vm.attach(nvme, edu)
    t.attached(vm, nvme, edu)


@scenario("edu:2", needs=("programs",))
def newer_journal_living_holder(t):
    """A later tdid's journal of a function that a living holder has: hands off both, until that tdid is back."""
    bdf, other = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(bdf)
    holder = vm.holder_pid()
    t.daemon.kill()
    with open(journal_path(t, bdf), "rb") as file:
        mine = file.read()
    future = json.dumps({**json.loads(mine), "version": 999, "what": "is this"}).encode()
    with open(journal_path(t, bdf), "wb") as file:
        file.write(future)
    t.daemon.start()
    contains(t.device(bdf).text("Quarantine"), "newer", "quarantine")
    check(t.host.holds(holder, bdf), "the holder lost the function")
    equal(t.host.driver(bdf), "vfio-pci", "driver")
    beside = t.vm()
    refused(("Quarantined", "InUse"), beside.attach, bdf)
    beside.attach(other)
    beside.destroy()
    t.daemon.kill()
    with open(journal_path(t, bdf), "rb") as file:
        equal(file.read(), future, "the journal of the later tdid")
    with open(journal_path(t, bdf), "wb") as file:
        file.write(mine)
    t.daemon.start()
    again = t.client.find_vm("vm-1")
    t.attached(again, bdf)
    t.dma(again, bdf)


# The simulation waits as the kernel does, but a signal does not interrupt its callers.
@scenario("igb-vf:2", tsm=("igb",), needs=("linux",))
def tsm_read_by_others(t):
    """
    Somebody reads tsm/bound of a VF all the time while its DSM is connected and disconnected. The kernel's disconnect waits for readers
    of a file that it takes away, and those for the semaphore that it holds: our own reader lets go, and theirs is a signal away.
    """
    first, second = t.host.bdfs("igb-vf", 2)
    pid = os.fork()
    if pid == 0:
        # Given up after 200 ms, as by a monitoring script with a timeout. Python reads again unless the handler raises.
        def give_up(*_):
            raise TimeoutError
        signal.signal(signal.SIGALRM, give_up)
        while True:
            for bdf in (first, second):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.2)
                    fd = os.open(t.host.path(bdf, "tsm/bound"), os.O_RDONLY)
                    try:
                        os.read(fd, 64)
                    finally:
                        os.close(fd)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except OSError:
                    pass

    def end():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    t.defer(end)
    for _ in range(10 if t.full else 5):
        vm = t.vm()
        vm.attach(first, second)
        t.attached(vm, first, second)
        vm.lease.close()
        t.gone(vm)
        t.free(first, second)
    eventually(lambda: t.host.tsm_connected(t.host.dsm(first)) == "", "the last disconnect")


@scenario("igb-vf:2", tsm=("igb",), needs=("faults",), tags=("quick",))
def tsm_doubted_and_found(t):
    """tdid dies while it connects, and the disconnect that undoes that fails: who found the connection keeps it when that is tried again, and the last ends it."""
    first, second = t.host.bdfs("igb-vf", 2)
    dsm = t.host.dsm(first)
    rules = Rules(t.host.client)
    t.defer(rules.clear)
    one, two = t.vm("one"), t.vm("two")
    rules.add("dies", call="tsm.connect", device=dsm, kill=t.daemon.pid, times=1)
    rules.add("stays", call="write:disconnect", process="tdid-worker", errno="EIO", times=1)
    try:
        one.attach(first)
        raise Failure("tdid did not die")
    except Lost:
        t.daemon.wait_exit()
    t.daemon.start()
    contains(eventually(lambda: t.device(first).text("Quarantine"), f"quarantine of {first}"), "connect.tsm", "what failed")
    equal(t.host.tsm_connected(dsm), t.tsm_name, "the connection in quarantine")
    two.attach(second)
    t.device(first).restore()
    t.free(first)
    equal(t.host.tsm_connected(dsm), t.tsm_name, "the connection that the other function has")
    equal(t.tsm.count("disconnect"), 0, "disconnects")
    t.daemon.restart()
    t.attached(two, second)
    two.lease.close()
    t.gone(two)
    t.free(second)
    equal(t.host.tsm_connected(dsm), "", "the connection after the last")
    equal((t.tsm.count("connect", dsm), t.tsm.count("disconnect", dsm)), (1, 1), "connects and disconnects in all")
    t.journal.one("tsm-disconnected")
