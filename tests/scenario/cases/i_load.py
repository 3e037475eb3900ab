# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Many times and many at once: nothing may be left over, and nobody waits for anybody.

import glob
import os
import time

from kit.checks import check, equal, eventually
from kit.daemon import children, fd_count, memory_kib, processes, sanitized
from kit.registry import scenario

CYCLES = 200
LEAST = 16
SECONDS = 10.0


def counters(t):
    """What must not grow: descriptors, zombies, processes, files, memory."""
    pid = t.daemon.pid
    return {
        "fds": fd_count(pid),
        "zombies": list(children(pid).values()).count("Z"),
        "holders": len(processes("tdid-vm")),
        "workers": len(processes("tdid-worker")),
        "journals": len(t.daemon.journals()),
        "sockets": len(t.daemon.holder_sockets()),
        "files": len(glob.glob(t.daemon.state + "/**", recursive=True)),
        "kib": memory_kib(pid),
    }


def calm(t):
    """The counters once everything has come to rest: finished jobs stay for a minute, so they are compared as they are."""
    t.quiet()
    eventually(lambda: not processes("tdid-vm"), "end of all holders")
    eventually(lambda: list(children(t.daemon.pid).values()).count("Z") == 0, "no zombies")
    time.sleep(0.5)
    return counters(t)


def cycle(t, bdf, i):
    """One life of a VM with one function; the end comes by Destroy, by Detach first, or by the lease."""
    vm = t.client.create_vm(f"cycle-{i}")
    try:
        vm.attach(bdf)
        if i % 3 == 0:
            vm.destroy()
        elif i % 3 == 1:
            t.client.tdi(bdf).detach()
    finally:
        vm.lease.close()
    t.gone(vm)
    t.free(bdf)


@scenario("edu", timeout=1200)
def cycles(t):
    """Attach and close again and again: 200 with TDID_FULL=1, else as many as fit into 10 s, at least 16."""
    bdf = t.host.bdf("edu")
    for i in range(10):
        cycle(t, bdf, i)
    before, begin, done = calm(t), time.monotonic(), 0
    while done < CYCLES and (t.full or done < LEAST or time.monotonic() - begin < SECONDS):
        cycle(t, bdf, 10 + done)
        done += 1
    after = calm(t)
    t.value("cycles", done)
    t.value("seconds_per_cycle", f"{(time.monotonic() - begin) / done:.3f}")
    t.note(f"before {before}")
    t.note(f"after {after}")
    for key in before:
        if key != "kib":
            check(after[key] <= before[key], f"{key}: {before[key]} → {after[key]} after {done} cycles")
    # A sanitizer keeps what was freed; jobs are kept for a minute, by their limit at most.
    if not sanitized(t.daemon.pid):
        grown = after["kib"] - before["kib"]
        t.value("kib_grown", grown)
        check(grown < 1024, f"tdid has grown by {grown} KiB in {done} cycles")


@scenario("nvme", "edu", tsm=("nvme",), timeout=600)
def cycles_nvme(t):
    """The same with a driver, a disk and a TSM; few in CI, 50 with TDID_FULL=1."""
    bdf = t.host.bdf("nvme")
    cycle(t, bdf, 0)
    before = calm(t)
    for i in range(50 if t.full else 5):
        cycle(t, bdf, i)
    after = calm(t)
    for key in ("fds", "zombies", "holders", "workers", "journals", "sockets", "files"):
        check(after[key] <= before[key], f"{key}: {before[key]} → {after[key]}")
    equal(t.tsm.count("connect"), t.tsm.count("disconnect"), "connects for disconnects")


@scenario("edu:16", timeout=600)
def sixteen_at_once(t):
    """16 VMs attach at the same time and close at the same time; tdid answers all the while."""
    bdfs = t.host.bdfs("edu", 16)
    vms = [t.vm() for _ in bdfs]
    equal(len({vm.holder_pid() for vm in vms}), 16, "holders")
    begin = time.monotonic()
    jobs = []
    for vm, bdf in zip(vms, bdfs):
        jobs.append(vm.attach(bdf, async_=True)[1])
        t.client.ping()
    while any(job.state() == "running" for job in jobs):
        t.client.ping()
    for job in jobs:
        job.wait()
    t.value("seconds_to_attach", f"{time.monotonic() - begin:.2f}")
    for vm, bdf in zip(vms, bdfs):
        t.attached(vm, bdf)
    t.daemon.restart()
    for vm, bdf in zip(vms, bdfs):
        t.attached(vm, bdf)
    for vm in vms:
        vm.lease.close()
    for vm in vms:
        t.gone(vm)
    t.free(*bdfs)
    equal(t.daemon.leftovers(), [], "files of tdid")


@scenario("edu:16", "nvme", "igb-vf:2", timeout=600)
def all_in_one_transaction(t):
    """19 functions in one attach, and all of them back."""
    bdfs = t.host.bdfs("edu", 16) + [t.host.bdf("nvme")] + t.host.bdfs("igb-vf", 2)
    vm = t.vm()
    vm.attach(*bdfs)
    t.attached(vm, *bdfs)
    t.daemon.restart()
    t.attached(vm, *bdfs)
    vm.destroy()
    t.free(*bdfs)
    equal(t.daemon.leftovers(), [], "files of tdid")


@scenario("edu:4", timeout=600)
def churn(t):
    """VMs come and go at random, with tdid killed now and then; every function ends free. The seed is printed."""
    bdfs = t.host.bdfs("edu", 4)
    vms = {}
    for _ in range(60 if t.full else 20):
        bdf = t.rng.choice(bdfs)
        action = t.rng.choice(("attach", "attach", "lease", "destroy", "detach", "kill"))
        if action == "attach" and bdf not in vms:
            vms[bdf] = t.vm(f"churn-{t.rng.randrange(1 << 30)}")
            vms[bdf].attach(bdf)
        elif action == "kill":
            t.daemon.restart()
            for held, vm in vms.items():
                t.attached(vm, held)
        elif bdf in vms and action != "attach":
            vm = vms.pop(bdf)
            if action == "destroy":
                vm.destroy()
            elif action == "detach":
                t.client.tdi(bdf).detach()
            vm.lease.close()
            t.gone(vm)
            t.free(bdf)
    for bdf, vm in vms.items():
        t.attached(vm, bdf)
        os.close(vm.lease.take())
    t.free(*bdfs)


@scenario("edu", tags=("quick",))
def workers_rest(t):
    """A worker whose work ended well is used again: a VM's whole life can pass without a new process."""
    bdf = t.host.bdf("edu")

    def life():
        before = set(processes("tdid-worker"))
        vm = t.vm()
        vm.attach(bdf)
        vm.destroy()
        t.free(bdf)
        t.quiet()
        # The spare ones are made up for a while after one was handed out.
        time.sleep(3)
        return before == set(processes("tdid-worker"))
    life()
    # Where a life takes longer than that, one more is made and then not needed.
    check(any(life() for _ in range(4)), "each life of a VM had processes of its own")
