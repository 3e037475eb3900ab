# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Functions that go while they are withheld, interfaces that hide in a namespace, and what everybody is told of a failure.

import contextlib
import errno
import json
import os
import pwd
import subprocess
import threading
import time

from kit import busy
from kit.checks import check, contains, equal, eventually
from kit.client import NAME, Refused, refused
from kit.peer import DENIED, call_as
from kit.registry import scenario

ALICE, BOB = (pwd.getpwnam(name).pw_uid for name in ("daemon", "nobody"))
AS_BOB = {"user": BOB, "group": BOB, "extra_groups": []}


def describe(t, uid, path, interface):
    """What Describe() tells this user, as a dictionary; None where it is denied."""
    try:
        text = call_as(uid, t.bus.address, path, f"{NAME}.{interface}", "Describe")
    except Refused as error:
        check(error.name in DENIED, f"uid {uid}: Describe of {path}: {error}")
        return None
    doc = json.loads(text)
    equal(doc["schema"], "tdid/1", "schema")
    return doc[interface.lower()]


def monitor(t, **kw):
    """Events as `tdictl monitor` shows them from now on; a list that grows."""
    process = t.tdictl.start("--json", "monitor", **kw)
    t.defer(process.kill)
    events = []

    def collect():
        for line in process.stdout:
            # When the bus ends before it, that is an error and no event.
            events.append(json.loads(line).get("event", {"type": "error"}))
    threading.Thread(target=collect, daemon=True).start()
    time.sleep(1)
    return events


def quarantine(t, bdf, *others):
    """A function that its driver does not take back."""
    stick = t.load_stick()
    t.host.set_driver(bdf, "tdid_test_stick")
    t.after(lambda: t.host.set_driver(bdf, None))
    t.start()
    vm = t.vm()
    vm.attach(bdf, *others)
    stick.set("probe_err", errno.ENOMEM)
    t.defer(lambda: stick.set("probe_err", 0))
    vm.lease.close()
    t.gone(vm)
    t.free(*others)
    eventually(lambda: t.device(bdf).text("Quarantine"), "the quarantine")


@scenario("edu:2", start=False, needs=("stick",))
def restore_unplugged(t):
    """A quarantined function is unplugged: still shown, as one that has gone, also by the next tdid; Restore forgets it."""
    bdf, other = t.host.bdfs("edu", 2)
    quarantine(t, bdf, other)
    device = t.device(bdf)
    check(bool(device.get("Present")), "Present while it is there")
    t.after(t.host.rescan)
    for how in ("bus", "tdictl"):
        t.host.remove(bdf)
        eventually(lambda: not device.get("Present"), "the function is shown as gone")
        for restarted in (False, True):
            if restarted:
                t.daemon.restart()
                eventually(lambda: device.text("Quarantine"), "the function that the journal knows")
            contains(device.text("Quarantine"), "gone", "Quarantine")
            equal((device.text("BDF"), device.text("Driver"), int(device.get("IOMMUGroup"))), (bdf, "", -1), "BDF, driver and group of what has gone")
            shown = [d for d in t.tdictl.json("device", "list")["devices"] if d["bdf"] == bdf]
            equal([(d["present"], bool(d["quarantine"])) for d in shown], [(False, True)], "tdictl device list")
            equal([d["bdf"] for d in t.tdictl.json("status")["devices"] if not d["present"]], [bdf], "tdictl status")
            vm = t.vm()
            refused("Quarantined", vm.attach, bdf)
            # It has nothing in common with what is still there.
            vm.attach(other)
            vm.destroy()
            refused(("NotSupported", "NotFound"), device.connect)
            check(t.daemon.journals(), "the journal is gone before anybody asked for that")
        if how == "tdictl":
            equal(t.tdictl.json("device", "restore", bdf)["devices"], [], "functions that device restore leaves")
        else:
            device.restore()
        check(device.path not in t.client.objects(), "the object of the forgotten function")
        equal(t.daemon.journals(), [], "journal files")
        t.tdictl("device", "restore", bdf, code=3)
        t.host.rescan()
        eventually(lambda: device.get("Present"), "the function is back")
        if how == "tdictl":
            break
        # Once more, and there is a VM between.
        t.stick.set("probe_err", 0)
        t.host.set_driver(bdf, "tdid_test_stick")
        vm = t.vm()
        vm.attach(bdf)
        t.attached(vm, bdf)
        t.stick.set("probe_err", errno.ENOMEM)
        vm.lease.close()
        t.gone(vm)
        eventually(lambda: device.text("Quarantine"), "the second quarantine")
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)


@scenario("edu", start=False, needs=("stick",))
def replugged(t):
    """A quarantined function goes and comes back: it is the same one, still withheld, and Restore gives it back."""
    bdf = t.host.bdf("edu")
    quarantine(t, bdf)
    events = monitor(t)
    t.host.remove(bdf)
    t.after(t.host.rescan)
    eventually(lambda: not t.device(bdf).get("Present"), "the function is shown as gone")
    t.host.rescan()
    eventually(lambda: t.device(bdf).get("Present"), "the function is back")
    check(t.device(bdf).text("Quarantine"), "the quarantine went with the unplugging")
    equal(int(t.device(bdf).get("IOMMUGroup")), t.host.group(bdf), "group")
    kinds = [(e["kind"], e.get("value") and e["value"]["present"]) for e in events if (e["type"], e["id"]) == ("device", bdf) and e["kind"] != "changed"]
    equal(kinds, [("removed", None), ("added", False), ("removed", None), ("added", True)], "events")
    t.host.set_driver(bdf, "tdid_test_stick")
    t.stick.set("probe_err", 0)
    t.device(bdf).restore()
    t.free(bdf)
    equal(t.daemon.journals(), [], "journal files")


@contextlib.contextmanager
def moved_away(name):
    """The interface lives in a network namespace of its own; it comes back with the namespace's end."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "1000000"])
    try:
        own = os.readlink("/proc/self/ns/net")
        eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own, "the namespace")
        busy.run("ip", "link", "set", name, "netns", str(process.pid))
        yield
    finally:
        process.kill()
        process.wait()


@scenario("e1000e", "nvme", tags=("quick",), needs=("linux",))
def in_use_namespace(t):
    """An interface that was given to a container is in use, though nothing of it can be seen from here."""
    bdf = t.host.bdf("e1000e")
    name = t.host.net(bdf)
    with moved_away(name):
        eventually(lambda: t.host.net(bdf) is None, "the interface cannot be seen any more")
        vm = t.vm()
        text = refused("InUse", vm.attach, bdf)
        t.note(text)
        contains(text, bdf, "text")
        contains(text, "namespace", "text")
        equal(t.host.driver(bdf), "e1000e", "driver after the refusal")
        t.free(bdf)
        # Others are none the worse.
        vm.attach(t.host.bdf("nvme"))
        vm.attach((bdf, {"force": True}))
        t.attached(vm, bdf, t.host.bdf("nvme"))
        vm.destroy()
        t.free(bdf)
        eventually(lambda: t.host.net(bdf), "the interface is back, and here")
    with moved_away(t.host.net(bdf)):
        vm = t.vm()
        refused("InUse", vm.attach, bdf)
    eventually(lambda: t.host.net(bdf), "the interface came back from the namespace")
    vm.attach(bdf)
    t.attached(vm, bdf)


# tdictl is run as somebody who may not be able to reach a build folder.
@scenario("nvme", tags=("quick",), needs=("linux",))
def told_to_all(t):
    """Who mounted a disk where is for root and the VM's owner; others are told function and error."""
    bdf = t.host.bdf("nvme")
    folder = os.path.join(t.folder, "mnt-of-nobodys-concern")
    events = monitor(t, **AS_BOB)
    vm = t.vm("of-alice", owner_uid=ALICE)
    with t.host.busy.mounted(t.host.block(bdf), folder):
        contains(refused("InUse", vm.attach, bdf), folder, "reply to the method")
        contains(t.tdictl("attach", "of-alice", bdf, code=5).err, folder, "what tdictl tells root")
        _, job = vm.attach(bdf, async_=True)
        job.wait("failed")
    ends = eventually(lambda: len(e := [e for e in events if e["type"] == "job" and e.get("key") == "finished"]) == 3 and e, "the ends of the jobs")
    for event in ends:
        equal(event["value"]["error"], "InUse", "error of Finished")
        contains(event["value"]["text"], bdf, "text of Finished")
    check(folder not in json.dumps(events), "a signal tells where the disk is mounted")
    everything = json.dumps(t.tdictl.json("status", **AS_BOB))
    check(folder not in everything, "a property tells where the disk is mounted")
    for uid in (0, ALICE):
        told = describe(t, uid, job.path, "Job")
        equal((told["error"], told["state"], told["objects"]), (f"{NAME}.Error.InUse", "failed", [bdf]), "Describe() of the job")
        contains(told["text"], folder, "Describe() of the job")
    equal(describe(t, BOB, job.path, "Job"), None, "Describe() of the job by others")
    # The owner is told after the VM's end too.
    vm.destroy()
    contains(describe(t, ALICE, job.path, "Job")["text"], folder, "Describe() of the job after the VM")
    job = t.vm().destroy(async_=True)
    job.wait()
    equal([describe(t, 0, job.path, "Job")[k] for k in ("error", "text")], ["", ""], "Describe() of a job that was done")


@scenario("edu", start=False, needs=("stick", "linux"))
def quarantine_told_to_all(t):
    """The property says step, driver and errno; the whole reason is in Describe()."""
    bdf = t.host.bdf("edu")
    quarantine(t, bdf)
    short = t.device(bdf).text("Quarantine")
    t.note(short)
    for word in ("tdid_test_stick", "claim.rebind"):
        contains(short, word, "Quarantine")
    told = describe(t, 0, t.device(bdf).path, "Device")
    equal((told["bdf"], told["present"], told["custody"], told["action"]), (bdf, True, "claim", "claim.rebind"), "Describe()")
    whole = told["quarantine"]
    check(whole and whole != short, f"Describe() tells no more than the property: {whole!r}")
    for uid in (ALICE, BOB):
        equal(describe(t, uid, t.device(bdf).path, "Device"), None, f"Describe() by uid {uid}")
    equal(t.tdictl.json("device", "show", bdf)["devices"][0]["quarantine"], whole, "tdictl device show")
    equal(t.tdictl.json("device", "show", bdf, **AS_BOB)["devices"][0]["quarantine"], short, "tdictl device show by others")
    t.stick.set("probe_err", 0)
    t.device(bdf).restore()
    told = describe(t, 0, t.device(bdf).path, "Device")
    equal((told["custody"], told["quarantine"], told["action"]), ("none", "", ""), "Describe() once it is given back")


@scenario("edu", tags=("quick",))
def names_at_once(t):
    """Who comes when tdid serves finds the functions' names, and is not told of each of them a moment later; nor at a hotplug."""
    bdf = t.host.bdf("edu")
    events = monitor(t)

    def names():
        return [e["id"] for e in events if e["kind"] == "changed" and e.get("key") in ("name", "class_name")]
    for _ in range(5):
        before = len(t.daemon.log())
        t.daemon.kill()
        time.sleep(1)
        events.clear()
        t.value("seconds_to_name", f"{t.daemon.start():.2f}")
        eventually(lambda: any(e["kind"] == "daemon" and str(e.get("value")).lower() == "true" for e in events), "tdid is back")
        # A machine that is busy with other things reads no names within a second, and nobody waits longer.
        if not any("takes long" in line for line in t.daemon.log()[before:]):
            break
    else:
        t.skip("this machine is too slow to read names within a second")
    check(t.device(bdf).text("ClassName"), "the function has no class name")
    time.sleep(2)
    equal(names(), [], "functions whose name was signalled as a change")
    t.after(t.host.rescan)
    t.host.remove(bdf)
    eventually(lambda: any((e["kind"], e["id"]) == ("removed", bdf) for e in events), "the function's end")
    t.host.rescan()
    added = eventually(lambda: [e for e in events if (e["kind"], e["type"], e["id"]) == ("added", "device", bdf)], "the function is added")
    check(added[0]["value"]["class_name"], f"added without a name: {added}")
    time.sleep(1)
    equal(names(), [], "functions whose name was signalled as a change after a hotplug")


@scenario("edu", tags=("systemd",), start=False)
def unit_refused(t):
    """systemd refuses to start a holder: CreateVM says so at once, not after the time limit."""
    t.unit.start()
    folder = "/run/systemd/system.control"
    os.makedirs(folder, exist_ok=True)
    mask = os.path.join(folder, "tdid-vm@.service")
    os.symlink("/dev/null", mask)
    t.unit.systemctl("daemon-reload")
    try:
        begin = time.monotonic()
        contains(refused("Kernel", t.client.create_vm, "masked"), "holder", "text")
        took = time.monotonic() - begin
        t.value("seconds_to_refusal", f"{took:.2f}")
        check(took < 8, f"the refusal took {took:.1f} s, which is the time limit")
        equal(t.client.vms(), [], "VMs")
    finally:
        os.unlink(mask)
        t.unit.systemctl("daemon-reload")
    vm = t.vm()
    vm.attach(t.host.bdf("edu"))
    t.attached(vm, t.host.bdf("edu"))
