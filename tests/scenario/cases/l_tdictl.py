# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tdictl against a living tdid: every verb, its JSON, its exit codes, and commands that hold a VM.

import json
import os
import signal
import subprocess
import threading
import time

from kit.checks import Failure, check, contains, equal, eventually
from kit.registry import scenario


def show_vm(t, name):
    return t.tdictl.json("vm", "show", name)["vms"][0]


@scenario("edu:2", "nvme", tsm=("nvme",), tags=("quick",))
def tdictl_verbs(t):
    first, second = t.host.bdfs("edu", 2)
    nvme = t.host.bdf("nvme")
    status = t.tdictl.json("status")
    for key in ("tdid", "devices", "vms", "tsms", "jobs"):
        check(key in status, f"status has no {key!r}")
    equal(t.tdictl.json()["tdid"], status["tdid"], "status is the default")
    listed = {d["bdf"]: d for d in t.tdictl.json("device", "list")["devices"]}
    for bdf in t.host.all_functions():
        check(bdf in listed, f"{bdf} is not listed")
        equal(listed[bdf]["driver"] or None, t.host.driver(bdf), f"driver of {bdf}")
    # The test TSM marks the kernel's copy of the capability only: nothing of it is in the config bytes.
    check("tee-io" not in listed[nvme]["tee"], f"tee of the nvme is {listed[nvme]['tee']}")
    tsms = t.tdictl.json("tsm", "list")["tsms"]
    equal([x["name"] for x in tsms], [t.tsm_name], "TSMs")
    t.tdictl.json("tsm", "show", t.tsm_name)
    # A VM's whole life by tdictl; BDFs as lspci and libvirt write them.
    vm = t.adopt(t.client.create_vm("by-hand", hotplug=True))
    t.tdictl("attach", "by-hand", first.removeprefix("0000:"), "--guest-rid=0x100")
    made = t.tdictl.json("attach", "by-hand", "pci_" + nvme.replace(":", "_").replace(".", "_"))
    equal([x["bdf"] for x in made["tdis"]], [nvme], "TDIs of attach")
    t.attached(vm, first, nvme)
    shown = show_vm(t, "by-hand")
    equal((shown["name"], shown["described"], shown["owner_uid"]), ("by-hand", True, os.geteuid()), "vm show")
    equal({x["bdf"]: x["guest_rid"] for x in shown["tdis"]}[first], 0x100, "guest RID in vm show")
    equal([v["name"] for v in t.tdictl.json("vm", "list")["vms"]], ["by-hand"], "vm list")
    # Reading tsm/ again comes after the attach.
    eventually(lambda: t.device(nvme).text("TSM") == t.tsm_name, "property TSM")
    device = t.tdictl.json("device", "show", nvme)["devices"][0]
    equal((device["vm"], device["custody"], device["tsm"]), ("by-hand", "prepare", t.tsm_name), "device show")
    t.tdictl("vm", "seal", "by-hand")
    t.tdictl("attach", "by-hand", second)
    t.tdictl("detach", second)
    t.tdictl("detach", nvme, first)
    t.free(first, second, nvme)
    t.tdictl("device", "connect", nvme)
    equal(t.host.tsm_connected(nvme), t.tsm_name, "connection")
    t.tdictl("device", "disconnect", nvme)
    equal(t.host.tsm_connected(nvme), "", "connection after disconnect")
    t.tdictl("vm", "destroy", "by-hand")
    t.gone(vm)
    equal(t.tdictl.json("vm", "list")["vms"], [], "vm list at the end")
    for verb in (("status",), ("device", "list"), ("tsm", "list"), ("vm", "list"), ("device", "show", nvme)):
        check(t.tdictl(*verb).out, f"tdictl {' '.join(verb)} prints nothing")


@scenario("edu:2", tags=("quick",))
def tdictl_exit_codes(t):
    """Each error of the contract that can be had here, with its exit code, and as JSON."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm("one")
    vm.attach((first, {"guest_rid": 1}))
    t.vm("two")
    cases = {
        ("vm", "show", "nobody"): (3, "NotFound"),
        ("device", "show", "ff:1f.7"): (3, "NotFound"),
        ("device", "show", "junk"): (2, "InvalidArgument"),
        ("attach", "two", first): (5, "InUse"),
        ("attach", "one", second, "--guest-rid=1"): (5, "Exists"),
        ("detach", second): (3, "NotFound"),
        ("vm", "create", "one", "--await-vmm=1"): (5, "Exists"),
        ("vm", "create", "a/b", "--await-vmm=1"): (2, "InvalidArgument"),
        ("bind", first): (6, "NotSupported"),
        ("frobnicate",): (2, "Usage"),
        ("vm", "create"): (2, "Usage"),
        ("attach", "one", second, "--nonsense"): (2, "Usage"),
    }
    for args, (code, name) in cases.items():
        plain = t.tdictl(*args, code=code)
        check(plain.err.startswith("tdictl: ") and not plain.out, f"{args}: stdout {plain.out!r}, stderr {plain.err!r}")
        doc = t.tdictl.json(*args, code=code)
        equal((doc["error"]["name"], doc["error"]["exit"]), (name, code), f"JSON error of {args}")
    unreachable = t.tdictl("status", code=12, bus="unix:path=/nonexistent")
    check(unreachable.err, "no text when the bus is not there")
    t.attached(vm, first)
    t.unchanged(second)


@scenario("edu", tags=("quick",))
def tdictl_no_daemon(t):
    """tdid is not there, or goes while a client waits: exit code 12, soon, and the job is not lost."""
    bdf = t.host.bdf("edu")
    vm = t.vm("v")
    t.daemon.kill()
    t.tdictl("status", code=12)
    t.tdictl("attach", "v", bdf, code=12)
    equal(t.tdictl.json("status", code=12)["error"]["name"], "Unreachable", "JSON error")
    t.daemon.start()
    t.tdictl("attach", "v", bdf)
    t.attached(vm, bdf)


def hold(t, *options, command, **kw):
    return t.tdictl.start("vm", "create", "held", "--hold", *options, "--", *command, **kw)


@scenario("edu", tags=("quick",))
def tdictl_hold(t):
    """`vm create --hold -- CMD` ends with the command's exit code, and the VM with the command."""
    bdf = t.host.bdf("edu")
    for options in ((), ("--no-inherit",)):
        process = hold(t, *options, command=["sh", "-c", f"{t.paths.tdictl} --bus={t.bus.address} attach held {bdf} >&2 && exit 7"])
        out, err = process.communicate(timeout=120)
        equal(process.returncode, 7, f"exit code with {options} (stdout {out!r}, stderr {err!r})")
        eventually(lambda: not t.client.vms(), "end of the VM with its command")
        t.free(bdf)
        # What the command is told, and whether it has the lease.
        process = hold(t, *options, command=["sh", "-c", 'echo "$TDID_VM_NAME ${TDID_LEASE_FD:-none}"; '
                                             '[ -z "$TDID_LEASE_FD" ] || readlink /proc/self/fd/$TDID_LEASE_FD'])
        words = process.communicate(timeout=120)[0].split()
        equal(words[0], "held", "TDID_VM_NAME")
        if options:
            equal(words[1], "none", "TDID_LEASE_FD with --no-inherit")
        else:
            contains(words[2], "socket:", "the lease in the command")
        eventually(lambda: not t.client.vms(), "end of the VM")
    process = hold(t, command=["/nonexistent/command"])
    process.communicate(timeout=60)
    equal(process.returncode, 127, "exit code for a command that is not there")
    eventually(lambda: not t.client.vms(), "end of the VM without a command")


@scenario("edu", tags=("quick",))
def tdictl_hold_outlives(t):
    """Inherited, the lease lives in the command's children; not inherited, it ends with tdictl."""
    for options, outlives in (((), True), (("--no-inherit",), False)):
        process = hold(t, *options, command=["sh", "-c", "sleep 100000 >/dev/null 2>&1 & echo $!"])
        out, _ = process.communicate(timeout=60)
        child = int(out)
        try:
            equal(process.returncode, 0, "exit code")
            if outlives:
                time.sleep(0.5)
                check(t.client.vms(), "the VM ended though a child has its lease")
        finally:
            os.kill(child, signal.SIGKILL)
        eventually(lambda: not t.client.vms(), f"end of the VM with {options}")


@scenario("edu", tags=("quick",))
def tdictl_hold_killed(t):
    """SIGKILL of tdictl, of the command, of both: the VM ends when nobody has the lease any more; signals are passed on."""
    bdf = t.host.bdf("edu")
    for victim, options in (("command", ()), ("tdictl", ("--no-inherit",)), ("both", ())):
        process = hold(t, *options, command=["sleep", "100000"])
        path = eventually(lambda: t.client.vms(), "the VM")[0]
        t.client.find_vm("held").attach(bdf)
        child = eventually(lambda: [c for c in children_of(process.pid)], "the command")[0]
        if victim in ("command", "both"):
            os.kill(child, signal.SIGKILL)
        if victim in ("tdictl", "both"):
            process.kill()
        process.wait(30)
        if victim == "command":
            equal(process.returncode, 128 + signal.SIGKILL, "exit code when the command is killed")
        eventually(lambda path=path: path not in t.client.vms(), f"end of the VM after SIGKILL of {victim}")
        t.free(bdf)
        if victim == "tdictl":
            os.kill(child, signal.SIGKILL)
    process = hold(t, command=["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"])
    equal(process.stdout.readline().strip(), "ready", "the command")
    process.terminate()
    equal(process.wait(30), 9, "exit code after SIGTERM was passed on")


def children_of(pid):
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(p) for p in done.stdout.split()]


@scenario("edu", "nvme", tsm=("nvme",), tags=("quick",))
def tdictl_interrupted(t):
    """Ctrl-C cancels a waiting attach and undoes it; a second one leaves it to tdid."""
    nvme = t.host.bdf("nvme")
    vm = t.vm("v")
    for twice in (False, True):
        t.tsm.clear_log()
        t.tsm.rule("connect", nvme, delay=600000)
        process = t.tdictl.start("attach", "v", nvme)
        eventually(lambda: t.tsm.running("connect", nvme), "the handshake is under way")
        process.send_signal(signal.SIGINT)
        # Time for the cancellation to arrive before the handshake may end.
        time.sleep(0.5)
        if twice:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        t.tsm.clear()
        t.tsm.release()
        code = process.wait(60)
        equal(code, 1 if twice else 10, "exit code")
        t.quiet()
        t.free(nvme)
        equal(vm.describe()["tdis"], [], "functions of the VM")


@scenario("edu", tags=("quick",))
def tdictl_monitor(t):
    """Events: every object's coming and going and changes, as JSON lines; over a restart of tdid too."""
    bdf = t.host.bdf("edu")
    process = t.tdictl.start("--json", "monitor")
    t.defer(process.kill)
    events = []

    def collect():
        for line in process.stdout:
            events.append(json.loads(line))
    threading.Thread(target=collect, daemon=True).start()

    def read(wanted, what):
        try:
            eventually(lambda: any(wanted(e["event"]) for e in list(events)), what)
        except Failure:
            seen = [(e["event"]["kind"], e["event"]["type"], e["event"]["id"], e["event"].get("key")) for e in events[-30:]]
            raise Failure(f"no event: {what}; the last were {seen}") from None

    time.sleep(1)
    vm = t.vm("watched")
    number = vm.path.rsplit("/", 1)[1]
    read(lambda e: (e["kind"], e["type"], e["id"]) == ("added", "vm", number), "VM added")
    vm.attach(bdf)
    read(lambda e: (e["kind"], e["type"], e["id"]) == ("added", "tdi", bdf), "TDI added")
    read(lambda e: (e["type"], e["id"], e.get("key"), e.get("value")) == ("device", bdf, "custody", "prepare"), "custody of the device")
    read(lambda e: e["type"] == "job" and e.get("key") == "finished", "a job's end")
    vm.lease.close()
    read(lambda e: (e["kind"], e["type"], e["id"], e.get("key")) == ("notice", "vm", number, "closing"), "the VM's closing")
    read(lambda e: (e["kind"], e["type"], e["id"]) == ("removed", "tdi", bdf), "TDI removed")
    read(lambda e: (e["kind"], e["type"], e["id"]) == ("removed", "vm", number), "VM removed")
    t.daemon.restart()
    read(lambda e: e["kind"] == "daemon" and str(e.get("value")).lower() == "false", "tdid has gone")
    read(lambda e: e["kind"] == "daemon" and str(e.get("value")).lower() == "true", "tdid is back")
    equal({e["schema"] for e in events}, {"tdid/1"}, "schemas of the events")
    process.send_signal(signal.SIGINT)
    process.wait(30)


@scenario("edu", needs=("root",), tags=("quick",))
def tdictl_as_user(t):
    """An ordinary user may look, and is told what it may not do."""
    bdf = t.host.bdf("edu")
    vm = t.vm("of-root")
    vm.attach(bdf)
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    doc = t.tdictl.json("status", **other)
    equal([v["name"] for v in doc["vms"]], ["of-root"], "VMs as others see them")
    shown = t.tdictl.json("vm", "show", "of-root", **other)["vms"][0]
    equal(shown["described"], False, "Describe() for others")
    check("keepers" not in shown and "holder" not in shown, "vm show tells others too much")
    for args in (("vm", "destroy", "of-root"), ("detach", bdf), ("device", "restore", bdf), ("vm", "seal", "of-root")):
        done = t.tdictl(*args, code=None, **other)
        equal(done.code, 4, f"exit code of {args} ({done.err!r})")
    t.attached(vm, bdf)


def plan_of(t, *args):
    return t.tdictl.json(*args, "--dry-run")["plan"]


def actions_of(function, needed=True):
    return [s["action"] for s in function["steps"] if s["needed"] or not needed]


@scenario("edu:2", "nvme", tsm=("nvme",), tags=("quick",))
def tdictl_dry_run(t):
    """--dry-run prints what tdid would do, and that is what it then does; it does nothing itself, and refuses what the verb refuses."""
    first, second = t.host.bdfs("edu", 2)
    nvme = t.host.bdf("nvme")
    before = t.host.driver(nvme)
    vm = t.vm("planned", hotplug=True)
    plan = plan_of(t, "attach", "planned", nvme, first)
    equal((plan["method"], plan["vm"], [f["bdf"] for f in plan["functions"]]), ("Attach", "planned", [nvme, first]), "the plan")
    table = actions_of(plan["functions"][0], needed=False)
    check(table == actions_of(plan["functions"][1], needed=False) and table[0] == "claim.check" and table[-1] == "prepare.socket", f"table {table}")
    connects = [s for s in plan["functions"][0]["steps"] if s["action"] == "connect.tsm"]
    equal([(s["needed"], s["direction"], s["by"]) for s in connects], [(True, "do", "worker")], "connect of the nvme")
    check("connect.tsm" not in actions_of(plan["functions"][1]), "a function without a DSM is connected")
    contains([s["text"] for s in plan["functions"][0]["steps"] if s["action"] == "claim.rebind"][0], before, "driver in the plan")
    for args in (("vm", "seal", "planned"), ("vm", "destroy", "planned"), ("device", "connect", nvme), ("vm", "create", "more", "--await-vmm=1"),
                 ("run", "--device=" + first, "--guest-rid=1", "--bind=early")):
        plan = plan_of(t, *args) if args[0] != "run" else t.tdictl.json(*args, "--dry-run", "--", "/nonexistent")["plan"]
        check(plan["method"] in ("Seal", "Destroy", "Connect", "CreateVM"), f"method {plan['method']}")
    # Nothing of all that has happened: not to the host, not in tdid.
    t.unchanged(nvme, first, second)
    status = t.tdictl.json("status")
    equal(([v["name"] for v in status["vms"]], status["jobs"], vm.describe()["tdis"]), (["planned"], [], []), "VMs, jobs and functions after plans")
    equal([d["bdf"] for d in status["devices"] if d["custody"] != "none"], [], "functions in custody after plans")
    # And now it is done, as it said.
    t.tdictl("attach", "planned", nvme, first)
    t.attached(vm, nvme, first)
    equal(t.host.tsm_connected(nvme), t.tsm_name, "connection")
    down = plan_of(t, "detach", nvme)["functions"]
    equal([f["bdf"] for f in down], [nvme], "functions of the plan to detach")
    equal(actions_of(down[0], needed=False), table[::-1], "the table upwards")
    check("connect.tsm" in actions_of(down[0]), "the connection is not given back")
    contains([s["text"] for s in down[0]["steps"] if s["action"] == "claim.rebind"][0], before, "driver in the plan to detach")
    equal(sorted(f["bdf"] for f in plan_of(t, "vm", "destroy", "planned")["functions"]), sorted([nvme, first]), "functions of the plan to destroy")
    t.attached(vm, nvme, first)
    # A refusal is the verb's own.
    for args in (("attach", "planned", nvme), ("attach", "planned", "ff:1f.7"), ("bind", first), ("device", "restore", second), ("unbind", nvme),
                 ("vm", "create", "planned", "--await-vmm=1"), ("device", "disconnect", second)):
        planned, real = (t.tdictl(*args, *more, code=None) for more in (("--dry-run",), ()))
        equal((planned.code, planned.err), (real.code, real.err), f"refusal of {args}")
        check(planned.code != 0, f"{args} is not refused")
    t.tdictl("detach", nvme, first)
    t.free(nvme, first)
    equal(t.host.driver(nvme), before, "driver")
