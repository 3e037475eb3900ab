# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What tdid finds when it starts: journals that are truncated, garbled, of another boot or of a later version, a state
# folder with strange things in it, and a quarantine that outlives tdid.

import errno
import json
import os
import signal

from kit.checks import check, contains, equal, eventually
from kit.client import escape, refused
from kit.registry import scenario


def path_of(t, bdf):
    return os.path.join(t.daemon.state, "journal", escape(bdf) + ".json")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def damage(data):
    """Each way in which a journal can be wrong: name → bytes."""
    doc = json.loads(data)

    def changed(**values):
        return json.dumps({**doc, **values}).encode()
    return {
        "empty": b"",
        "half": data[:len(data) // 2],
        "one byte short": data[:-1],
        "noise": bytes(range(256)) * 4,
        "NUL": data + b"\0",
        "trailing garbage": data + b"x",
        "a list": b"[]",
        "deep": b"[" * 5000,
        "no version": json.dumps({k: v for k, v in doc.items() if k != "version"}).encode(),
        "version of another type": changed(version="1"),
        "another function": changed(bdf="0000:00:00.0"),
        "done of another type": changed(done={"claim.pm": True}),
        "an unknown sub-action": changed(done=["claim.pm", "explode"]),
        "begun unknown": changed(begun="explode"),
        "values of another type": changed(values=[]),
        "twice": data[:-1] + b"," + data[1:],
    }


@scenario("edu:2", tags=("quick",), start=False, timeout=600)
def journal_damaged(t):
    """A journal that cannot be trusted: tdid serves, the function is withheld and says why, nothing of the host is touched."""
    bdf, other = t.host.bdfs("edu", 2)
    t.start()
    vm = t.vm()
    vm.attach(bdf)
    data = read(path_of(t, bdf))
    doc = json.loads(data)
    for key in ("version", "boot", "bdf", "vm", "done", "values"):
        check(key in doc, f"the journal has no {key!r}: {doc}")
    equal(doc["bdf"], bdf, "bdf in the journal")
    mode = os.stat(path_of(t, bdf)).st_mode & 0o777
    equal(mode, 0o600, "mode of the journal")
    vm.lease.close()
    t.gone(vm)
    t.daemon.stop()
    for name, wrong in damage(data).items():
        write(path_of(t, bdf), wrong)
        t.start()
        reason = t.device(bdf).text("Quarantine")
        check(reason, f"{name}: the function is not quarantined")
        t.note(f"{name}: {reason}")
        t.unchanged(bdf)
        vm = t.vm()
        contains(refused("Quarantined", vm.attach, bdf), bdf, f"{name}: text")
        vm.attach(other)
        t.attached(vm, other)
        vm.destroy()
        # Someone has looked at it: Restore finds nothing to undo, and the function is free.
        t.device(bdf).restore()
        t.free(bdf)
        t.unchanged(bdf)
        equal(t.daemon.leftovers(), [], f"{name}: files of tdid")
        t.daemon.stop()


@scenario("nvme", start=False)
def journal_damaged_driver(t):
    """The same for a function that is with its own driver: Restore leaves it there."""
    bdf = t.host.bdf("nvme")
    t.start()
    t.daemon.stop()
    write(path_of(t, bdf), b"{")
    t.start()
    check(t.device(bdf).text("Quarantine"), "the function is not quarantined")
    check(t.host.block(bdf), "the disk has gone")
    t.device(bdf).restore()
    t.free(bdf)
    equal(t.host.driver(bdf), "nvme", "driver after Restore")
    check(t.host.block(bdf), "the disk has gone with Restore")


@scenario("nvme", start=False)
def journal_damaged_in_custody(t):
    """A journal is lost while the function is on vfio-pci: withheld there; Restore gives it to the kernel's choice of driver."""
    bdf = t.host.bdf("nvme")
    t.start()
    vm = t.vm()
    vm.attach(bdf)
    holder = vm.holder_pid()
    t.daemon.kill()
    os.kill(holder, signal.SIGKILL)
    write(path_of(t, bdf), b"")
    t.start()
    eventually(lambda: t.device(bdf).text("Quarantine"), "the quarantine")
    equal(t.host.driver(bdf), "vfio-pci", "driver in quarantine")
    t.device(bdf).restore()
    t.free(bdf)
    if t.host.driver(bdf) is None:
        t.note("Restore leaves the function without a driver")
    t.after(lambda: t.host.reprobe(bdf) if t.host.driver(bdf) is None else None)
    t.after(lambda: t.host.write(bdf, "power/control", "auto") if t.baseline["functions"][bdf]["power_control"] == "auto" else None)
    equal(t.host.override(bdf), None, "driver_override after Restore")


@scenario("edu:2", tags=("quick",), start=False)
def journal_from_the_future(t):
    """A journal that a later tdid wrote is not ours to interpret: left alone, file and function, across restarts."""
    bdf, other = t.host.bdfs("edu", 2)
    t.start()
    vm = t.vm()
    vm.attach(bdf)
    doc = json.loads(read(path_of(t, bdf)))
    vm.lease.close()
    t.gone(vm)
    t.daemon.stop()
    future = json.dumps({**doc, "version": 999, "what": ["is", "this"]}).encode()
    write(path_of(t, bdf), future)
    t.defer(lambda: os.path.exists(path_of(t, bdf)) and os.unlink(path_of(t, bdf)))
    for _ in range(2):
        t.start()
        contains(t.device(bdf).text("Quarantine"), "newer", "quarantine")
        vm = t.vm()
        refused("Quarantined", vm.attach, bdf)
        refused("NotSupported", t.device(bdf).restore)
        vm.attach(other)
        vm.destroy()
        t.daemon.stop()
        equal(read(path_of(t, bdf)), future, "the journal of a later version")
    os.unlink(path_of(t, bdf))
    t.start()
    t.free(bdf)


@scenario("edu", tags=("quick",), start=False)
def journal_of_another_boot(t):
    """What another boot left is gone with that boot: the file goes, the function is free."""
    bdf = t.host.bdf("edu")
    t.start()
    vm = t.vm()
    vm.attach(bdf)
    doc = json.loads(read(path_of(t, bdf)))
    vm.lease.close()
    t.gone(vm)
    t.daemon.stop()
    write(path_of(t, bdf), json.dumps({**doc, "boot": "00000000-0000-0000-0000-000000000000"}).encode())
    t.start()
    t.free(bdf)
    equal(t.daemon.leftovers(), [], "files of tdid")
    t.unchanged(bdf)


@scenario("edu", tags=("quick",), start=False)
def strange_state(t):
    """Things in the state folder that are nobody's: tdid starts, serves, and leaves them alone."""
    bdf = t.host.bdf("edu")
    t.start()
    t.daemon.stop()
    journal = os.path.join(t.daemon.state, "journal")
    holder = os.path.join(t.daemon.state, "holder")
    made = [os.path.join(journal, "README.json"), os.path.join(journal, "ffff_ff_ff_9.json"),
            os.path.join(holder, "x.sock"), os.path.join(holder, "7.sock")]
    for path in made:
        write(path, b"strange")
    os.mkdir(os.path.join(journal, "0000_01_00_0.d"))
    # But what a tdid wrote when it was killed is nobody else's.
    unfinished = os.path.join(journal, escape(bdf) + ".new")
    write(unfinished, b"{\"versi")
    t.start()
    check(not os.path.exists(unfinished), "an unfinished journal was left")
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    vm.destroy()
    t.daemon.stop()
    for path in made:
        if os.path.exists(path):
            os.unlink(path)
    os.rmdir(os.path.join(journal, "0000_01_00_0.d"))


@scenario("edu", start=False)
def absent_function(t):
    """A journal for a function that is not plugged in: there is nothing to give back to."""
    bdf = t.host.bdf("edu")
    t.start()
    vm = t.vm()
    vm.attach(bdf)
    doc = json.loads(read(path_of(t, bdf)))
    vm.destroy()
    t.daemon.stop()
    gone = "0000:ff:1f.7"
    write(path_of(t, gone), json.dumps({**doc, "bdf": gone}).encode())
    t.start()
    eventually(lambda: not os.path.exists(path_of(t, gone)), "the journal of the absent function goes")
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)


@scenario("edu:2", start=False, needs=("stick",))
def quarantine(t):
    """A give-back that really fails: withheld, shown by everything, kept over a restart, and over when the driver is well again."""
    bdf, other = t.host.bdfs("edu", 2)
    stick = t.load_stick()
    t.host.set_driver(bdf, "tdid_test_stick")
    t.after(lambda: t.host.set_driver(bdf, None))
    t.start()
    vm = t.vm()
    vm.attach(bdf, other)
    stick.set("probe_err", errno.ENOMEM)
    t.defer(lambda: stick.set("probe_err", 0))
    vm.lease.close()
    t.gone(vm)
    t.free(other)
    t.unchanged(other)
    reason = eventually(lambda: t.device(bdf).text("Quarantine"), "the quarantine")
    contains(reason, "tdid_test_stick", "the reason")
    for restarted in (False, True):
        if restarted:
            t.daemon.restart()
        check(t.device(bdf).text("Quarantine"), "the quarantine has gone")
        vm = t.vm()
        contains(refused("Quarantined", vm.attach, bdf), bdf, "text")
        vm.destroy()
        shown = t.tdictl.json("device", "show", bdf)["devices"][0]
        check(shown["quarantine"], f"tdictl shows no quarantine: {shown}")
        contains(t.tdictl("device", "show", bdf).out, "uarantine", "tdictl's text")
        t.tdictl("attach", "nobody", bdf, code=3)
        contains(refused("Quarantined", t.device(bdf).restore), "tdid_test_stick", "text of Restore")
        t.tdictl("device", "restore", bdf, code=7)
    stick.set("probe_err", 0)
    t.tdictl("device", "restore", bdf)
    t.free(bdf)
    equal(t.host.driver(bdf), "tdid_test_stick", "driver afterwards")
    refused("InvalidState", t.device(bdf).restore)
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)


@scenario("group-nvme", "group-edu", "edu", start=False)
def quarantine_reset_set(t):
    """What one reset would hit together is withheld together."""
    nvme, edu = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    t.start()
    t.daemon.stop()
    write(path_of(t, edu), b"?")
    t.start()
    check(t.device(edu).text("Quarantine"), "the function is not quarantined")
    vm = t.vm()
    for bdfs in ((nvme, edu), (nvme,)):
        refused("Quarantined", vm.attach, *bdfs)
    vm.attach(t.host.bdf("edu"))
    t.device(edu).restore()
    t.free(edu)
    vm.attach(nvme, edu)
    t.attached(vm, nvme, edu, t.host.bdf("edu"))
