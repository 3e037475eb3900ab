# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tdid killed before and after every custody sub-action, on the way up and on the way down, and restarted; and every
# sub-action made to fail once. The points come from tdid itself, so that none is forgotten.

import errno
import os
import signal
import subprocess

from kit.checks import Failure, check, contains, equal, eventually
from kit.client import Lost, Refused, refused
from kit.daemon import processes
from kit.registry import scenario

HAS_UNDO_WORK = ("claim.pm", "claim.override", "claim.rebind", "open.cdev", "connect.tsm", "prepare.attach", "prepare.socket")


def actions(t):
    done = subprocess.run([t.paths.tdid, "--print-actions"], capture_output=True, text=True, check=True)
    found = done.stdout.split()
    check(found, "tdid --print-actions prints nothing")
    # Those of a binding, of a vIOMMU and of an association do something where there is one: x_bind.py, y_viommu.py and z_association.py have them.
    return [a for a in found if not a.startswith("bind.") and a not in ("open.associate", "prepare.viommu", "prepare.vdevice", "prepare.withdraw")]


def points(t):
    return [f"{a}:{verb}:{when}" for a in actions(t) for verb in ("do", "undo") for when in ("before", "after")]


def need_kill_points(t, bdf):
    """Only test builds die on demand: find out by a point that every attach passes."""
    t.daemon.start({"TDID_TEST_KILL": "claim.note:do:before"})
    vm = t.vm("probe")
    try:
        vm.attach(bdf)
    except Lost:
        t.daemon.wait_exit()
        t.daemon.start()
        end(t, bdf)
        return
    vm.destroy()
    t.skip("tdid was built without -Dkill_points=true")


def end(t, bdf):
    """Whatever is left of the transaction goes; the function is free and as before, and the journal is empty."""
    for path in t.client.vms():
        try:
            t.client.call(path, "org.tdid1.VM", "Destroy", "a{sv}", {})
        except Refused as error:
            # It may be closing already, or have gone meanwhile.
            if error.name not in ("NotFound", "InvalidState", "Busy", "org.freedesktop.DBus.Error.UnknownObject"):
                raise
    eventually(lambda: not t.client.vms(), "end of all VMs")
    t.free(bdf)
    t.unchanged(bdf)
    try:
        eventually(lambda: not t.daemon.leftovers(), "an empty state folder", 10)
    except Failure:
        raise Failure(f"files left in {t.daemon.state}: {t.daemon.leftovers()}") from None


def settle(t, bdf):
    """After the restart: the transaction is finished or undone, and nothing in between."""
    t.quiet()

    def whole():
        props = t.device(bdf).props()
        equal(str(props["Quarantine"]), "", f"quarantine of {bdf}")
        custody, vm_path = str(props["Custody"]), str(props["VM"])
        if custody == "none" and not vm_path:
            return "undone"
        if custody == "prepare" and vm_path and t.client.tdi(bdf).state() == "prepared":
            return "finished"
        return None
    return eventually(whole, f"{bdf} is finished or undone")


def die_at(t, point, bdf):
    """One point: True when tdid died there."""
    action, verb, _ = point.split(":")
    t.daemon.start({"TDID_TEST_KILL": point})
    vm = t.vm()
    try:
        vm.attach(bdf)
        if verb == "undo":
            if t.rng.random() < 0.5:
                vm.destroy()
            else:
                t.client.tdi(bdf).detach()
    except Lost:
        pass
    except Refused as error:
        raise Failure(f"{point}: refused instead of killed: {error}") from None
    # The way down may go on after the reply.
    try:
        eventually(lambda: not t.daemon.alive(), "the end of tdid", 3 if verb == "undo" else 0.5)
    except Failure:
        end(t, bdf)
        t.daemon.stop()
        return False
    t.daemon.wait_exit()
    t.daemon.start()
    result = settle(t, bdf)
    if result == "undone":
        t.unchanged(bdf)
    t.note(f"{point}: {result}")
    end(t, bdf)
    # What it promised holds for the next user too.
    t.daemon.stop()
    vm.lease.close()
    return True


def run_points(t, bdf, chosen):
    reached = set()
    for point in chosen:
        try:
            if die_at(t, point, bdf):
                reached.add(point)
        except (Failure, Refused, Lost) as error:
            raise Failure(f"at {point}: {error}") from error
    t.value("points", f"{len(reached)}/{len(chosen)}")
    return reached


@scenario("edu", start=False, timeout=1800)
def kill_points_edu(t):
    """
    All points on a cheap function. Those of a step that it does not have are for the nvme. In the VM, where each takes seconds, a sample:
    the simulation has all of them every time. TDID_FULL=1: all.
    """
    bdf = t.host.bdf("edu")
    need_kill_points(t, bdf)
    t.daemon.stop()
    everything = points(t)
    wanted = everything if t.full or t.host.kind == "sim" else sorted(t.rng.sample(everything, 8))
    missed = set(wanted) - run_points(t, bdf, wanted)
    # edu has no TSM; a point that is not reached there must be of that step, or of an undo with nothing to do.
    left = {p for p in missed if not p.startswith("connect.")}
    equal(left, set(), "points that were never reached")


@scenario("nvme", start=False, timeout=2400, tsm=("nvme",))
def kill_points_nvme(t):
    """The TSM's points, and a sample of the others: a driver with a disk has more to lose. TDID_FULL=1: all."""
    bdf = t.host.bdf("nvme")
    need_kill_points(t, bdf)
    t.daemon.stop()
    everything = points(t)
    tsm = [p for p in everything if p.startswith("connect.")]
    others = [p for p in everything if p not in tsm]
    chosen = everything if t.full else tsm + sorted(t.rng.sample(others, min(3, len(others))))
    reached = run_points(t, bdf, chosen)
    equal(set(chosen) - reached, set(), "points that were never reached")
    equal(t.host.tsm_connected(bdf), "", "connection of the nvme")


@scenario("edu", start=False, timeout=600)
def kill_points_socket(t):
    """Between the worker, which makes the vPCI socket, and the holder, which serves it and stops."""
    bdf = t.host.bdf("edu")
    need_kill_points(t, bdf)
    t.daemon.stop()
    chosen = [f"prepare.socket:{p}" for p in ("do:opened", "do:served", "undo:stopped")]
    equal(run_points(t, bdf, chosen), set(chosen), "points that were reached")


@scenario("nvme", start=False, timeout=600, tsm=("nvme",))
def kill_points_foreign(t):
    """tdid dies when it is about to connect a DSM, and somebody else connects that: the connection is not tdid's to end."""
    bdf = t.host.bdf("nvme")
    need_kill_points(t, bdf)
    t.daemon.stop()
    for point in ("connect.note:do:after", "connect.tsm:do:before"):
        t.daemon.start({"TDID_TEST_KILL": point})
        vm = t.vm()
        try:
            vm.attach(bdf)
            raise Failure(f"tdid did not die at {point}")
        except Lost:
            t.daemon.wait_exit()
        t.host.tsm_connect(bdf, t.tsm_name)
        t.daemon.start()
        equal(settle(t, bdf), "undone", f"the attach that died at {point}")
        equal(t.host.tsm_connected(bdf), t.tsm_name, f"the foreign connection after {point}")
        t.host.tsm_disconnect(bdf, t.tsm_name)
        end(t, bdf)
        t.daemon.stop()
        vm.lease.close()


@scenario("nvme", timeout=300, tsm=("nvme",))
def connect_in_doubt(t):
    """tdid and the worker that connects die together: nobody knows whose connection it is. Withheld, until somebody says so."""
    bdf = t.host.bdf("nvme")
    t.tsm.rule("connect", bdf, delay=60000, count=1)
    vm = t.vm()
    vm.attach(bdf, async_=True)
    eventually(lambda: t.tsm.running("connect", bdf), "the handshake is under way")
    workers = [pid for pid in processes("tdid-worker") if t.host.sleeps(pid)]
    t.daemon.kill()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    t.tsm.release()
    eventually(lambda: t.host.tsm_connected(bdf), "the kernel has finished the connect")
    for _ in range(2):
        t.daemon.start()
        eventually(lambda: t.device(bdf).text("Quarantine"), f"quarantine of {bdf}")
        contains(t.device(bdf).text("Quarantine"), "EOWNERDEAD", "text of the quarantine")
        equal(t.host.tsm_connected(bdf), t.tsm_name, "the connection in quarantine")
        t.daemon.kill()
    t.daemon.start()
    t.device(bdf).restore()
    t.free(bdf)
    equal(t.host.tsm_connected(bdf), t.tsm_name, "the connection after Restore")
    eventually(lambda: t.device(bdf).text("TSM") == t.tsm_name, "tdid sees the connection")
    t.device(bdf).disconnect()
    t.unchanged(bdf)


@scenario("group-nvme", "group-edu", start=False, timeout=1200)
def kill_points_group(t):
    """A group in one transaction: both functions are in, or both are out. A sample of the points; TDID_FULL=1: all."""
    bdfs = [t.host.bdf("group-nvme"), t.host.bdf("group-edu")]
    need_kill_points(t, t.host.bdf("edu"))
    t.daemon.stop()
    everything = [p for p in points(t) if ":do:" in p and not p.startswith("connect.")]
    for point in everything if t.full else t.rng.sample(everything, 4):
        t.daemon.start({"TDID_TEST_KILL": point})
        vm = t.vm()
        try:
            vm.attach(*bdfs)
            raise Failure(f"tdid did not die at {point}")
        except Lost:
            t.daemon.wait_exit()
        t.daemon.start()
        ends = {settle(t, b) for b in bdfs}
        t.note(f"{point}: {ends}")
        equal(len(ends), 1, f"after {point}, different ends of the functions of one group")
        for bdf in bdfs:
            end(t, bdf)
        t.daemon.stop()
        vm.lease.close()


@scenario("edu:2", start=False, timeout=900)
def failing_do(t):
    """Every sub-action fails once on the way up: the attach says so, all is undone, the other function too."""
    first, second = t.host.bdfs("edu", 2)
    need_kill_points(t, first)
    t.daemon.stop()
    failed = []
    for action in actions(t):
        if action.startswith("connect."):
            continue
        t.daemon.start({"TDID_TEST_FAIL": f"{action}:do:{errno.EIO}:{second.replace(':', '_').replace('.', '_')}"})
        vm = t.vm()
        try:
            text = refused("Kernel", vm.attach, first, second)
            contains(text, "EIO", f"error text of {action}")
            contains(text, second, f"error text of {action}")
            failed.append(action)
        except Failure as error:
            # A sub-action without any work of a worker cannot fail.
            if "was accepted" not in str(error) or action not in ("guard.on",) or t.host.has("guard"):
                raise Failure(f"{action}: {error}") from None
            vm.destroy()
        t.free(first, second)
        t.unchanged(first, second)
        check(vm.alive() == (action in failed), f"{action}: the VM after a failed attach")
        equal([] if not vm.alive() else vm.describe()["tdis"], [], f"{action}: functions of the VM")
        if vm.alive():
            # The VM is none the worse: the function that did not fail can still be had.
            vm.attach(first)
            vm.destroy()
        t.daemon.stop()
    t.value("actions", len(failed))


@scenario("edu", start=False, timeout=900)
def failing_undo(t):
    """Every undo fails once: quarantine, which outlives tdid, and Restore when the fault has gone."""
    bdf = t.host.bdf("edu")
    need_kill_points(t, bdf)
    t.daemon.stop()
    count = 0
    for action in actions(t):
        # Where there is a guard, its undo is work too.
        if action not in HAS_UNDO_WORK + (("guard.on",) if t.host.has("guard") else ()) or action == "connect.tsm":
            continue
        t.daemon.start({"TDID_TEST_FAIL": f"{action}:undo:{errno.EIO}"})
        vm = t.vm()
        vm.attach(bdf)
        vm.lease.close()
        t.gone(vm)
        quarantined(t, bdf, action)
        # While the fault is there, Restore tells so and changes nothing. (A close that failed has closed all the same.)
        if action != "open.cdev":
            contains(refused("Quarantined", t.device(bdf).restore), "EIO", "text of Restore")
            quarantined(t, bdf, action)
        t.daemon.restart()
        quarantined(t, bdf, action)
        t.device(bdf).restore()
        end(t, bdf)
        t.daemon.stop()
        count += 1
    t.value("actions", count)


def quarantined(t, bdf, action):
    eventually(lambda: t.device(bdf).text("Quarantine"), f"{action}: quarantine of {bdf}")
    vm = t.vm()
    try:
        refused("Quarantined", vm.attach, bdf)
    finally:
        vm.destroy()
    check(t.daemon.journals(), f"{action}: the journal of a quarantined function is gone")
