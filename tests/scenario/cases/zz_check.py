# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What this host can do: Check(), and `tdictl check` with and without tdid, by root and by others. What each check finds wrong is a unit test's
# (tests/unit/test_check.py); here it is the same on the kernel under test, whoever looks.

import gzip
import json
import os

from kit.busy import on_vfio
from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.registry import scenario

OTHER = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def by_tdid(t, **kw):
    # At most once a second it is looked at anew.
    doc = eventually(lambda: look(t, "check", **kw), "an answer")
    equal(doc["looked_by"], "tdid", "who looked")
    return doc


def look(t, *args, **kw):
    done = t.tdictl("--json", *args, code=None, **kw)
    doc = done.json()
    check("error" not in doc, f"tdictl {args}: {doc}")
    equal(done.code, 6 if doc["summary"]["verdict"] == "fail" else 0, "exit code")
    return doc


def by_itself(t, *args, **kw):
    doc = look(t, "check", "--local", "--host=" + t.daemon.host, "--policy=" + t.daemon.policy, *args, **kw)
    equal(doc["looked_by"], "tdictl", "who looked")
    return doc


def verdicts(doc):
    return {c["id"]: c["verdict"] for c in doc["checks"]}


def reason(doc, name):
    return next(c for c in doc["checks"] if c["id"] == name)


@scenario("edu", "nvme", tsm=("nvme",), tags=("quick",))
def check_agrees(t):
    """tdid's eyes and tdictl's own see the same, and so they do when tdid has gone; nothing is started for it."""
    first = by_tdid(t)
    second = by_itself(t)
    equal(verdicts(second), verdicts(first), "verdicts of tdictl itself, and of tdid")
    for a, b in zip(first["checks"], second["checks"]):
        equal(b["reason"], a["reason"], a["id"])
    equal(json.loads(t.client.manager("Check"))["check"]["checks"], first["checks"], "Check() itself")
    text = t.tdictl("check", code=None).out
    contains(text, "This is what tdid sees.", "screen")
    check(max(map(len, text.splitlines())) < 80, "the screen is wider than 80 columns")
    t.daemon.stop()
    third = look(t, "check")
    equal(third["looked_by"], "tdictl", "who looked without tdid")
    equal(verdicts(by_itself(t)), verdicts(first), "verdicts without tdid")
    check(not t.daemon.alive(), "tdid was started")
    t.start()


@scenario("edu", tags=("quick",))
def check_own_functions(t):
    """What tdid has is not somebody else's: no override is told of, and no user of VFIO."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    equal(t.host.read(bdf, "driver_override").strip(), "vfio-pci", "driver_override")
    doc = by_tdid(t)
    equal((reason(doc, "others.override")["functions"], reason(doc, "others.users")["details"]), ([], []), "who else has functions")
    # Where nothing is to be seen of tdid's journal, the override is somebody's; the holder is known by its program.
    users = reason(by_itself(t), "others.users")
    equal((users["verdict"] == "warn", users["details"]), (False, []), "users of VFIO as tdictl sees them")
    vm.destroy()
    t.free(bdf)


@scenario("edu", tags=("quick",))
def check_foreign_user(t):
    """A function that somebody else has by VFIO: told with its process, and to root only."""
    bdf = t.host.bdf("edu")
    with on_vfio(t.host, bdf):
        fd = t.host.open_vfio(bdf)
        try:
            def seen():
                users = reason(by_tdid(t), "others.users")
                return users if users["verdict"] == "warn" else None

            users = eventually(seen, "the user of VFIO is seen")
            contains("\n".join(users["details"]), f"process {os.getpid()} ", "details")
            contains("\n".join(users["details"]), bdf, "details")
            local = reason(by_itself(t, "--device=" + bdf), "others.users")
            equal((local["verdict"], local["details"]), ("warn", users["details"]), "as tdictl sees it")
            override = reason(by_tdid(t), "others.override")
            equal([f["bdf"] for f in override["functions"] if f["bdf"] == bdf], [bdf] if t.host.read(bdf, "driver_override").strip() not in ("", "(null)") else [], "override")
            if os.geteuid() == 0:
                other = reason(by_tdid(t, **OTHER), "others.users")
                equal((other["verdict"], other["reason"], other["details"]), ("warn", users["reason"], []), "as another user is told")
        finally:
            t.host.close(fd)


@scenario("edu", "nvme", tsm=("nvme",), needs=("root",), tags=("quick",))
def check_other_user(t):
    """Another user has the same from tdid as root; without tdid what it may not see is skipped, with the reason, and all else is the same."""
    root = by_tdid(t)
    equal(verdicts(by_tdid(t, **OTHER)), verdicts(root), "verdicts by tdid for another user")
    t.daemon.stop()
    own = look(t, "check", "--host=" + t.daemon.host, **OTHER) if t.daemon.host == "linux" else None
    for c in own["checks"] if own else ():
        want = reason(root, c["id"])["verdict"]
        # It has not tdid's policy: that of the host is another.
        if c["id"] == "tdid.policy":
            continue
        if c["verdict"] != want:
            equal(c["verdict"], "skip", f"{c['id']}, which root has as {want}: {c['reason']}")
            contains(c["reason"], "this user may not", c["id"])
    if own:
        skipped = {c["id"] for c in own["checks"] if "this user may not" in c["reason"]}
        check({"vfio.iommufd", "device.tee_io"} <= skipped, f"skipped by another user: {skipped}")
    t.start()


@scenario("edu", "nvme", needs=("linux", "root"), tags=("quick",))
def check_real(t):
    """On a real kernel: what it is and was built with; every device that is asked is there; nothing is left open or changed."""
    doc = by_itself(t)
    contains(reason(doc, "kernel.version")["reason"], os.uname().release, "version")
    with gzip.open("/proc/config.gz", "rt") as file:
        options = file.read()
    strict = "CONFIG_IO_STRICT_DEVMEM=y" in options
    equal(reason(doc, "security.devmem")["verdict"], "pass" if strict else "warn", "CONFIG_IO_STRICT_DEVMEM")
    contains(reason(doc, "kernel.options")["reason"], "/proc/config.gz", "options")
    for name in ("kernel.version", "iommu.present", "vfio.iommufd", "vfio.map_file", "vfio.pci", "vfio.cdev", "vfio.dmabuf", "vfio.pools", "kvm.device", "security.bpf", "limits.nofile",
                 "limits.memlock"):
        equal(reason(doc, name)["verdict"], "pass", f"{name}: {reason(doc, name)['reason']}")
    with open("/sys/kernel/security/lockdown", encoding="utf-8") as file:
        equal(reason(doc, "security.lockdown")["verdict"], "pass" if "[none]" in file.read() else "warn", "lockdown")
    t.note(t.tdictl("check", code=None).out)


@scenario(needs=("faults",), tags=("full",), timeout=120)
def check_stuck(t):
    """A kernel that does not come back from opening /dev/kvm holds up nobody but who asks, for 20 s."""
    control = t.host.client.control
    ident = control("fault", rule={"call": "open:kvm", "process": "tdid-worker", "never": True})["id"]
    t.after(lambda: ident in [f["id"] for f in control("faults")["faults"]] and control("clear", id=ident))
    text = refused("Timeout", t.client.manager, "Check")
    contains(text, "has not come back", "text")
    t.tdictl("status")
    control("clear", id=ident)
    eventually(lambda: look(t, "check")["looked_by"] == "tdid", "the worker comes back")
