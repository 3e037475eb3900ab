# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The bind provider, tdid's kernel module, by itself: no tdid runs. What it must do is checked by tests/vm/programs/bind_check.c and
# bind_race.c; here the host is prepared for them, and what the TSM saw of it is looked at.

import os
import subprocess
import threading
import time

from kit.checks import Failure, check, contains, equal, eventually
from kit.registry import scenario
from kit.tsm import loaded

NODE = "/dev/tdid-bind"
NEEDS = ("bind_module", "programs", "kvm", "linux")


def bind_scenario(*roles, needs=(), **kw):
    return scenario(*roles, start=False, needs=NEEDS + needs, **kw)


def program(t, name, *args, timeout=120):
    """Runs one of the programs; its lines are notes, and a failure is one of the scenario."""
    done = subprocess.run([os.path.join(t.paths.programs, name), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=timeout, check=False)
    for line in done.stdout.splitlines():
        t.note(line)
    if done.returncode:
        raise Failure(f"{name} {' '.join(map(str, args))}: exit {done.returncode}:\n{done.stdout.strip()}")
    return done.stdout


def on_vfio(t, *bdfs):
    for bdf in bdfs:
        t.host.set_driver(bdf, "vfio-pci")
        t.after(lambda bdf=bdf: t.host.reprobe(bdf))


def connected(t, dsm):
    """The programs may disconnect it and leave it so."""
    t.host.tsm_connect(dsm, t.tsm_name)
    t.after(lambda: t.host.tsm_connected(dsm) and t.host.tsm_disconnect(dsm, t.tsm_name))


def prepare(t, *bdfs):
    """Functions on vfio-pci whose DSM is connected, and the module."""
    t.load_bind_module()
    on_vfio(t, *bdfs)
    for dsm in sorted({t.host.dsm(b) for b in bdfs}):
        connected(t, dsm)
    t.tsm.clear_log()


def calls(t, *ops):
    return [(c.op, c.bdf) for c in t.tsm.calls() if c.op in ops and c.result == "0"]


@bind_scenario("igb-vf", "nvme", tsm=("igb", "nvme"), tags=("quick",))
def bind_module_errors(t):
    """Every error of the interface, and no call of the TSM for what is refused before it."""
    vf, other = t.host.bdf("igb-vf"), t.host.bdf("nvme")
    prepare(t, vf)
    on_vfio(t, other)
    program(t, "bind_check", "errors", vf, other)
    # That of the test TSM's own device, and two of ours.
    equal(calls(t, "bind", "unbind"), [("bind", vf), ("unbind", vf)] * 3, "calls of the TSM")


@bind_scenario("igb-vf", tsm=("igb",), tags=("quick",))
def bind_module_life(t):
    """Who has the open file has the binding: it keeps the device and the VM, and its last close unbinds before both."""
    vf = t.host.bdf("igb-vf")
    prepare(t, vf)
    program(t, "bind_check", "life", vf)
    equal(calls(t, "bind", "unbind"), [("bind", vf), ("unbind", vf)] * 4, "calls of the TSM")


@bind_scenario("nvme", tsm=("nvme",), tags=("quick",))
def bind_module_requests(t):
    """Requests of every length, and what is made of the answers of a TSM, sane or not; of a function that is its own DSM."""
    bdf = t.host.bdf("nvme")
    prepare(t, bdf)
    program(t, "bind_check", "requests", bdf)


@bind_scenario("igb-vf", "nvme", tsm=("igb", "nvme"), tags=("quick",))
def bind_module_slow(t):
    """A slow request holds up its own binding and no other, and a slow unbind the last close of the device."""
    vf, other = t.host.bdf("igb-vf"), t.host.bdf("nvme")
    prepare(t, vf, other)
    t.tsm.rule("guest_req", vf, delay=3000)
    t.tsm.rule("unbind", vf, delay=1000)
    program(t, "bind_check", "slow", vf, other)


@bind_scenario("igb-vf", tsm=("igb",), tags=("quick",))
def bind_module_lost(t):
    """The TSM is disconnected under a binding: requests say so, and the file can bind again."""
    vf = t.host.bdf("igb-vf")
    prepare(t, vf)
    program(t, "bind_check", "lost", vf, t.host.dsm(vf), t.tsm_name)


@bind_scenario("nvme", tags=("quick",), needs=("tsm",))
def bind_module_lacking(t):
    """A TSM without the operations that the core does not look for is refused, and the kernel lives."""
    bdf = t.host.bdf("nvme")
    t.load_bind_module()
    on_vfio(t, bdf)
    program(t, "bind_check", "unbindable", bdf)
    for operation, what in (("no_bind", "bind"), ("no_guest_req", "request")):
        t.load_tsm([bdf], **{operation: 1})
        t.host.tsm_connect(bdf, t.tsm_name)
        program(t, "bind_check", "lacks", bdf, what)
        t.host.tsm_disconnect(bdf, t.tsm_name)
        t.unload_tsm()


@bind_scenario("nvme", tsm=("nvme",))
def bind_module_unload(t):
    """The module stays as long as a file is open, and the TSM's goes under a binding without harm; the function waits for it, too."""
    bdf = t.host.bdf("nvme")
    module = t.load_bind_module()
    on_vfio(t, bdf)
    connected(t, bdf)
    command = [os.path.join(t.paths.programs, "bind_check"), "hold", bdf]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    t.defer(lambda: (holder.kill(), holder.wait()))
    equal(holder.stdout.readline(), "bound\n", "the holder's word")
    check(subprocess.run(["rmmod", "tdid_bind"], capture_output=True, check=False).returncode, "rmmod of a module in use")
    gone = t.host.start_remove(bdf)
    try:
        eventually(gone, "the function is gone", 2)
    except Failure:
        pass
    else:
        raise Failure("the function went under a binding")
    equal(t.tsm.running("unbind") + [c for c in t.tsm.calls("unbind")], [], "unbinds while the holder lives")
    holder.stdin.close()
    holder.wait()
    eventually(gone, "the function is gone", 20)
    equal(t.tsm.count("unbind", bdf), 1, "unbinds")
    t.host.rescan()
    eventually(lambda: t.host.driver(bdf), "driver of the function after the rescan")
    for _ in range(3):
        module.close()
        check(not loaded("tdid_bind") and not os.path.exists(NODE), "the module is gone")
        module = t.load_bind_module()
        check(os.stat(NODE).st_mode & 0o777 == 0o600, f"mode of {NODE}")


def race(t, tsm, *bdfs):
    said = program(t, "bind_race", 60 if t.full else 10, t.rng.randrange(1 << 31), tsm, t.host.dsm(bdfs[0]), *bdfs, timeout=300)
    contains(said, "all unbound", "output")


@bind_scenario("igb-vf:2", tsm=("igb",), tags=("quick",), timeout=600)
def bind_module_race(t):
    """Everything at once on the same few files, with the DSM disconnected and connected in between: nothing stays, nothing breaks."""
    bdfs = t.host.bdfs("igb-vf", 2)
    prepare(t, *bdfs)
    race(t, t.tsm_name, *bdfs)


@bind_scenario("igb-vf:2", tsm=("igb",), timeout=600)
def bind_module_race_tsm(t):
    """The same, while the TSM's driver is unloaded and loaded: what is looked at without a lock is gone now and then."""
    bdfs = t.host.bdfs("igb-vf", 2)
    dsm = t.host.dsm(bdfs[0])
    prepare(t, *bdfs)
    failed, rounds, over = [], 0, threading.Event()

    def run():
        try:
            # Nobody else writes to tsm/connect: the kernel waits for that file's writers with the lock held that they wait for, when
            # the last TSM goes.
            race(t, "-", *bdfs)
        except Failure as error:
            failed.append(error)
        over.set()
    thread = threading.Thread(target=run)
    thread.start()
    # Half the time: at the end it looks at the TSM, and that must be there.
    end = time.monotonic() + (30 if t.full else 5)
    while time.monotonic() < end and not over.is_set():
        t.tsm.unload()
        t.tsm.load([dsm])
        t.host.tsm_connect(dsm, t.tsm_name)
        rounds += 1
    thread.join()
    if failed:
        raise failed[0]
    check(rounds >= 3, f"the TSM was unloaded {rounds} times only")
    t.note(f"the TSM was unloaded {rounds} times")
