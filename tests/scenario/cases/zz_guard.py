# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The mmap guard: whatever way root tries, nobody maps, moves or resets a function that is in custody; nothing else is different. Real
# kernels only: the simulated one has no memory to map.

import json
import mmap
import os
import shutil
import signal
import subprocess

from kit.checks import check, contains, equal, eventually
from kit.client import Lost, refused
from kit.mapper import Mapper, Ways, memory_bar, prefetchable_bar, proc_entry
from kit.registry import scenario

PINS_ROOT = "/sys/fs/bpf"
PINS = PINS_ROOT + "/tdid"
NEEDS = ("linux", "programs", "guard")
PAGE = 4096
# Of VFIO's eighth region, in the file of a device.
CONFIG_SPACE = 7 << 40
MEM = (1, 1)
WRITTEN = ("config", "reset", "reset_method", "remove")


def guarded(*roles, **kw):
    return scenario(*roles, needs=NEEDS + kw.pop("needs", ()), **kw)


def all_are(results, expected, when):
    wrong = {way: result for way, result in results.items() if result != expected}
    check(results and not wrong, f"{when}: not {expected}: {wrong}")


def guard_text(t):
    return str(t.client.get("/org/tdid1", "Manager", "Guard"))


def description(t, bdf):
    return json.loads(str(t.client.call(t.device(bdf).path, "org.tdid1.Device", "Describe")))["device"]


def no_trace(unit=False):
    """Nothing is pinned: a few seconds after the last function went. The unit has its empty folder, which is all of that file system that it may write to."""
    eventually(lambda: not (os.listdir(PINS) if unit else os.path.exists(PINS)), f"nothing is left in {PINS}")


def sets():
    return sorted(os.listdir(PINS))


@guarded("nvme:2", tags=("quick",))
def guard_mmap(t):
    """Every way, with descriptors from before and from after, before and after a SIGKILL of tdid; a neighbour and reading are as ever."""
    bdf, other = t.host.bdfs("nvme", 2)
    equal(guard_text(t), "on", "Guard")
    check(not os.path.exists(PINS), "something is pinned already")
    m = Mapper(t)
    before = Ways(t, bdf, m).open_files(".before").open_derived()
    all_are(before.results(), 0, "before the attach")
    neighbour = Ways(t, other, m).open_files(".other")
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    equal(vm.describe()["guard"], "on", "guard of the VM")
    m.need("open", "config", "r", t.host.path(bdf, "config"))
    after = Ways(t, bdf, m).open_files(".after").open_node().open_derived()

    def look(when):
        all_are(before.results(), "EPERM", f"{when}, descriptors from before")
        all_are(after.results(), "EPERM", f"{when}, descriptors from after")
        all_are(neighbour.results(), 0, f"{when}, the neighbour")
        equal(m.do("read", "config", 64, 0), 64, f"{when}, reading its config space")

    look("with tdid")
    t.daemon.kill()
    look("after SIGKILL of tdid")
    again = Ways(t, bdf, m).open_files(".late")
    all_are(again.results(), "EPERM", "opened without tdid")
    t.start()
    look("with the next tdid")
    t.attached(vm, bdf)
    equal(vm.describe()["guard"], "on", "guard of the VM under the next tdid")
    after.close("cdev", "mknod")
    vm.destroy()
    t.free(bdf)
    all_are(before.results(), 0, "after the release")
    no_trace()


@guarded("nvme", "edu")
def guard_namespaces(t):
    """sysfs of a new network namespace, procfs of a new pid namespace: the same inodes in other super blocks."""
    bdf, other = t.host.bdf("nvme"), t.host.bdf("edu")
    folder = os.path.join(t.folder, "fs")
    os.makedirs(os.path.join(folder, "net"))
    os.makedirs(os.path.join(folder, "pid"))
    net, pid = Mapper(t), Mapper(t)
    net.need("netns", os.path.join(folder, "net"))
    pid.need("pidns", os.path.join(folder, "pid"))
    ways = [Ways(t, bdf, net, sysfs=os.path.join(folder, "net"), files=("resource", "resource_wc")).open_files(),
            Ways(t, bdf, pid, proc=os.path.join(folder, "pid"), files=("proc",)).open_files()]
    for way in ways:
        all_are(way.results(), 0, "before the attach")
    vm = t.vm()
    vm.attach(bdf)
    late = [Ways(t, bdf, net, sysfs=os.path.join(folder, "net"), files=("resource", "resource_wc")).open_files(".late").open_derived(),
            Ways(t, bdf, pid, proc=os.path.join(folder, "pid"), files=("proc",)).open_files(".late").open_derived()]
    others = Ways(t, other, net, sysfs=os.path.join(folder, "net"), files=("resource",)).open_files(".other")
    for kill in (False, True):
        if kill:
            t.daemon.kill()
        for way in ways + late:
            all_are(way.results(), "EPERM", f"tdid {'killed' if kill else 'there'}")
        all_are(others.results(), 0, "the neighbour")
        equal(pid.do("open", "w", "w", proc_entry(bdf, os.path.join(folder, "pid"))), "EPERM", "the entry for writing")
    t.start()
    vm.destroy()
    t.free(bdf)
    for way in ways:
        all_are(way.results(), 0, "after the release")


@guarded("ivshmem", "testdev", tags=("quick",))
def guard_write_combined(t):
    """A BAR that is prefetchable has a second file in sysfs, by which it is mapped write-combined."""
    bdf, other = t.host.bdf("ivshmem"), t.host.bdf("testdev")
    m = Mapper(t)
    names = []

    def look(function, when, results):
        for name in (f"resource{prefetchable_bar(t.host, function)}{end}" for end in ("", "_wc")):
            path, now = t.host.path(function, name), f"{when}-{function}-{name}"
            check(os.path.exists(path), f"there is no {path}")
            m.need("open", now, "r", path)
            for kind in ("dup", "pass"):
                m.need(kind, f"{kind}-{now}", now)
            for way in (now, f"dup-{now}", f"pass-{now}"):
                equal(m.do("mmap", way, PAGE, 0), results, f"{way}")
            if function == bdf:
                names.append(now)
    look(bdf, "before", 0)
    vm = t.vm()
    vm.attach(bdf)
    for name in names:
        equal(m.do("mmap", name, PAGE, 0), "EPERM", f"{name}, by a descriptor from before")
    look(bdf, "after", "EPERM")
    look(other, "neighbour", 0)
    equal(description(t, bdf)["refused"], {"resource": 2 + 6}, "counters")
    vm.destroy()
    t.free(bdf)
    for name in names:
        equal(m.do("mmap", name, PAGE, 0), 0, f"{name} after the release")


@guarded("nvme:2", tags=("quick",))
def guard_writes(t):
    """config, reset, remove are not for writing any more, by whatever descriptor; nor is /dev/mem at all, while anything is guarded."""
    bdf, other = t.host.bdfs("nvme", 2)
    m = Mapper(t)
    m.need("open", "mem-before", "r", "/dev/mem")
    vm = t.vm()
    vm.attach(bdf)
    for name in WRITTEN:
        path = t.host.path(bdf, name)
        if not os.path.exists(path):
            check(name in ("reset", "reset_method"), f"{path} is not there")
            continue
        for mode in ("w", "rw"):
            equal(m.do("open", "x", mode, path), "EPERM", f"{path} for {mode}")
        m.need("open", "path", "p", path)
        equal(m.do("reopen", "x", "w", "path"), "EPERM", f"{path} by O_PATH")
        equal(m.do("open", "x", "w", t.host.path(other, name)), 0, f"{name} of the neighbour")
    m.need("open", "config", "r", t.host.path(bdf, "config"))
    equal(m.do("reopen", "x", "rw", "config"), "EPERM", "config by a descriptor for reading")
    equal(m.do("open", "x", "rw", proc_entry(bdf)), "EPERM", "the entry in /proc/bus/pci for writing")
    # Not of any function.
    equal(m.do("open", "x", "rw", "/dev/mem"), "EPERM", "/dev/mem for writing")
    _, address, _ = memory_bar(t.host, bdf)
    equal(m.do("mmap", "mem-before", PAGE, address), "EPERM", "mapping of /dev/mem")
    m.need("mknod", "/dev/tdid-test-mem", *MEM)
    equal(m.do("open", "x", "w", "/dev/tdid-test-mem"), "EPERM", "another node of its number")
    os.unlink("/dev/tdid-test-mem")
    # tdid's own work goes on: an unwind writes driver_override, unbinds and resets.
    vm.destroy()
    t.free(bdf)
    t.unchanged(bdf)
    for name in ("config", "remove"):
        equal(m.do("open", "x", "w", t.host.path(bdf, name)), 0, f"{name} after the release")
    equal(m.do("open", "x", "rw", "/dev/mem"), 0, "/dev/mem after the release")


@guarded("nvme", tags=("quick",))
def guard_in_use(t):
    """A mapping that exists already refuses the attach and names the process, wherever that is; nothing has changed then."""
    bdf = t.host.bdf("nvme")
    driver = t.host.driver(bdf)
    bar, _, _ = memory_bar(t.host, bdf)
    folder = os.path.join(t.folder, "pid")
    os.makedirs(folder)
    for kind in ("plain", "pidns"):
        m = Mapper(t)
        if kind == "pidns":
            m.need("pidns", folder)
        m.need("open", "r", "r", t.host.path(bdf, f"resource{bar}"))
        m.need("map", "r", PAGE, 0)
        m.need("close", "r")
        vm = t.vm()
        text = refused("InUse", vm.attach, (bdf, {"force": True}))
        t.note(text)
        contains(text, "(mapper)", "text")
        contains(text, f"process {m.pid if kind == 'plain' else ''}", "text")
        contains(text, "resource", "text")
        t.free(bdf)
        equal(t.host.driver(bdf), driver, "driver after the refusal")
        m.need("unmap")
        vm.attach(bdf)
        vm.destroy()
        t.free(bdf)
        m.end()
    # A descriptor for writing that is open already cannot be taken away, but is told.
    m = Mapper(t)
    m.need("open", "c", "rw", t.host.path(bdf, "config"))
    vm = t.vm()
    vm.attach(bdf)
    contains("\n".join(t.daemon.log()), f"process {m.pid} (mapper) has its config file in sysfs open for writing", "the log")
    vm.destroy()


@guarded("edu")
def guard_legacy(t):
    """The group's descriptor of a device has no node: it is known by what it shares the pages of."""
    bdf = t.host.bdf("edu")
    group = t.host.group(bdf)
    m = Mapper(t)
    # Before: a mapping whose descriptors are all closed. Only the device that tdid opens tells what it is of.
    t.host.set_driver(bdf, "vfio-pci")
    eventually(lambda: os.path.exists(f"/dev/vfio/{group}"), "the group's node")
    m.need("legacy", "old", group, bdf)
    m.need("map", "old", PAGE, 0)
    m.need("closeall")
    vm = t.vm()
    text = refused("InUse", vm.attach, bdf)
    t.note(text)
    contains(text, f"process {m.pid} (mapper) has its VFIO device mapped", "text")
    m.need("unmap")
    t.free(bdf)
    vm.destroy()
    # After: while tdid has it open and not bound yet the kernel lets others in.
    t.daemon.stop()
    t.daemon.start({"TDID_TEST_KILL": "open.bind:do:before"})
    t.drop_client()
    vm = t.vm()
    try:
        vm.attach(bdf)
        check(False, "tdid did not die")
    except Lost:
        t.daemon.wait_exit()
    m.need("legacy", "new", group, bdf)
    equal(m.do("mmap", "new", PAGE, 0), "EPERM", "mapping of the group's descriptor")
    m.need("closeall")
    # The group's own node: the kernel has nothing to map of it, but asks its security modules before it finds that out.
    m.need("open", "group", "rw", f"/dev/vfio/{group}")
    equal(m.do("mmap", "group", PAGE, 0), "EPERM", "mapping of the group's node")
    m.need("closeall")
    t.start()
    t.free(bdf)
    m.need("open", "group", "rw", f"/dev/vfio/{group}")
    equal(m.do("mmap", "group", PAGE, 0), "ENODEV", "mapping of the group's node when nothing of it is guarded")
    m.end()
    t.host.reprobe(bdf)
    no_trace()


@guarded("nvme:2")
def guard_pins(t):
    """What is pinned is not taken away by accident, and goes when the last function does."""
    first, second = t.host.bdfs("nvme", 2)
    m = Mapper(t)
    vm = t.vm()
    vm.attach(first)
    vm.attach(second)
    (name,) = sets()
    folder = os.path.join(PINS, name)
    for kill in (False, True):
        if kill:
            t.daemon.kill()
        for pin in sorted(os.listdir(folder)):
            equal(m.do("unlink", os.path.join(folder, pin)), "EPERM", f"unlink of {pin}")
            equal(m.do("rename", os.path.join(folder, pin), "/sys/fs/bpf/away"), "EPERM", f"rename of {pin}")
        equal(m.do("rename", folder, "/sys/fs/bpf/away"), "EPERM", "rename of the set")
        equal(m.do("rename", PINS, "/sys/fs/bpf/away"), "EPERM", "rename of the folder")
        equal(m.do("rmdir", folder), "EPERM", "rmdir of the set")
        equal(m.do("umount", "/sys/fs/bpf"), "EPERM", "umount")
    # Others' pins are others'.
    os.mkdir("/sys/fs/bpf/other")
    equal(m.do("rename", "/sys/fs/bpf/other", "/sys/fs/bpf/another"), 0, "rename of another's folder")
    equal(m.do("rmdir", "/sys/fs/bpf/another"), 0, "rmdir of another's folder")
    # A sandbox may take its copy away.
    inner = Mapper(t)
    os.makedirs(os.path.join(t.folder, "net"))
    inner.need("netns", os.path.join(t.folder, "net"))
    equal(inner.do("umount", "/sys/fs/bpf"), 0, "umount in another mount namespace")
    t.start()
    t.client.tdi(second).detach().wait()
    t.free(second)
    equal(sets(), [name], "sets with one function left")
    bar, _, _ = memory_bar(t.host, first)
    for bdf, result in ((first, "EPERM"), (second, 0)):
        m.need("open", "r", "r", t.host.path(bdf, f"resource{bar}"))
        equal(m.do("mmap", "r", PAGE, 0), result, f"mapping of {bdf}")
    vm.destroy()
    t.free(first)
    no_trace()


def other_build(t):
    """A folder with the programs of a tdid of another build: the worker's programs for the kernel have another compiler's name in them."""
    folder = os.path.join(t.folder, "libexec")
    shutil.copytree(os.path.dirname(t.paths.tdid), folder)
    path = os.path.join(folder, "tdid-worker")
    with open(path, "rb") as file:
        data = file.read()
    check(b"Debian clang version" in data, "the worker does not have programs made by clang")
    with open(path, "wb") as file:
        file.write(data.replace(b"Debian clang version", b"Debian clanG version"))
    return {"TDID_LIBEXEC": folder}


@guarded("nvme")
def guard_upgrade(t):
    """A tdid of another build puts its own programs in the place of those that it finds; nothing is unguarded in between, or after."""
    bdf = t.host.bdf("nvme")
    env = other_build(t)
    m = Mapper(t)
    ways = Ways(t, bdf, m).open_files()
    vm = t.vm()
    vm.attach(bdf)
    before = sets()
    t.daemon.kill()
    watcher = Mapper(t)
    path = t.host.path(bdf, f"resource{ways.bar}")
    watcher.need("open", "r", "r", path)
    watcher.send("watch", "r", PAGE, 2000)
    t.start(env)
    equal(watcher.answer(), 0, "mappings while the programs were replaced")
    after = sets()
    check(len(after) == 1 and after != before, f"sets: {before} before, {after} after")
    node = Ways(t, bdf, m).open_node()
    all_are(ways.results(), "EPERM", "files")
    all_are(node.results(), "EPERM", "nodes")
    node.close()
    equal(vm.describe()["guard"], "on", "guard of the VM")
    t.daemon.kill()
    t.start()
    equal(sets(), before, "sets after the way back")
    all_are(ways.results(), "EPERM", "files after the way back")
    vm.destroy()
    t.free(bdf)
    no_trace()


@guarded("nvme", tags=("quick",))
def guard_told(t):
    """What was refused is counted for each function and kind, and is in the audit with who it was; not without end."""
    bdf = t.host.bdf("nvme")
    m = Mapper(t)
    ways = Ways(t, bdf, m).open_files()
    equal(description(t, bdf)["guard"], "", "guard of a function that is free")
    vm = t.vm()
    vm.attach(bdf)
    doc = description(t, bdf)
    equal((doc["guard"], doc["refused"]), ("on", {}), "before anybody has tried")
    all_are(ways.results(), "EPERM", "mappings")
    equal(m.do("open", "x", "w", t.host.path(bdf, "config")), "EPERM", "config")
    equal(m.do("open", "x", "w", t.host.path(bdf, "remove")), "EPERM", "remove")
    resources = sum("resource" in name for name in ways.names)
    equal(description(t, bdf)["refused"], {"resource": resources, "proc": 1, "config": 1, "remove": 1}, "counters")
    entry = t.journal.wait("guard-refused", kind="config")
    equal((entry["TDID_BDF"], entry["TDID_PID"], entry["TDID_COMM"], entry["TDID_CALLER"], entry["MESSAGE_ID"], entry["TDID_VM"]),
          (bdf, str(m.pid), "mapper", "0", "07fcc1c87e3b4b649d6fe005ee08429b", vm.describe()["name"]), "the entry")
    for _ in range(200):
        m.do("open", "x", "w", t.host.path(bdf, "config"))
    equal(description(t, bdf)["refused"]["config"], 201, "counter of what is not told")
    check(len(t.journal.of("guard-refused")) <= 20, "more than 20 entries")
    shown = t.tdictl("device", "show", bdf).out
    contains(shown, "guard", "tdictl device show")
    # Counted across a restart: the programs have been the same all the time.
    t.daemon.kill()
    t.start()
    equal(description(t, bdf)["refused"]["config"], 201, "counter after a restart of tdid")
    vm.destroy()
    t.free(bdf)


@guarded("nvme")
def guard_left_behind(t):
    """A tdid that is started by mistake takes nothing away; one that has lost its journal, and has its name, does."""
    bdf = t.host.bdf("nvme")
    vm = t.vm()
    vm.attach(bdf)
    before = sets()
    m = Mapper(t)
    ways = Ways(t, bdf, m).open_files()
    state = os.path.join(t.folder, "second")
    second = subprocess.run([t.paths.tdid, "--bus=" + t.bus.address, "--state=" + state, "--policy=" + t.daemon.policy, "--audit=none"],
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    check(second.returncode != 0 and "could not own" in second.stderr, f"the second tdid: {second.returncode}, {second.stderr}")
    equal(sets(), before, "sets after the second tdid")
    all_are(ways.results(), "EPERM", "mappings after the second tdid")
    vm.destroy()
    t.free(bdf)
    no_trace()
    # As after a crash of which no journal is left: programs are pinned, and know of nobody.
    t.daemon.stop()
    t.drop_client()
    os.makedirs(os.path.join(PINS, "0123456789abcdef"))
    t.start()
    eventually(lambda: not os.path.exists(PINS), "what was left is taken away")


def policy(t, *rules):
    os.makedirs(t.daemon.policy, exist_ok=True)
    with open(os.path.join(t.daemon.policy, "50-test.json"), "w", encoding="utf-8") as file:
        json.dump({"schema": "tdid-policy/1", "rules": list(rules)}, file)


@guarded("nvme", start=False)
def guard_policy(t):
    """A rule that requires the guard is met where there is one; where there is none, it refuses and says why, and nothing else does."""
    bdf = t.host.bdf("nvme")
    rule = {"name": "guarded", "match": {"bdf": bdf}, "decision": "require", "require": {"guard": True}}
    policy(t, rule)
    t.start()
    vm = t.vm()
    vm.attach(bdf)
    vm.destroy()
    t.free(bdf)
    t.daemon.stop()
    t.drop_client()
    subprocess.run(["mount", "-t", "tmpfs", "none", "/sys/fs/bpf"], check=True)
    t.after(lambda: subprocess.run(["umount", "/sys/fs/bpf"], check=True))
    t.start()
    why = "no bpf file system is mounted on /sys/fs/bpf"
    contains(guard_text(t), "none: " + why, "Guard")
    contains(t.tdictl("status").out, why, "tdictl status")
    vm = t.vm()
    text = refused("Policy", vm.attach, bdf)
    t.note(text)
    contains(text, why, "the refusal")
    policy(t, {"name": "anyway", "match": {"bdf": bdf}, "decision": "allow"})
    t.client.manager("Reload")
    vm.attach(bdf)
    contains(vm.describe()["guard"], "none: " + why, "guard of the VM")
    m = Mapper(t)
    all_are(Ways(t, bdf, m).open_files().results(), 0, "without a guard")
    m.end()
    vm.destroy()
    t.free(bdf)
    t.unchanged(bdf)


def handing_off(bdf):
    """Rules by which anybody may attach the function, and may have its descriptors where it is guarded."""
    return ({"name": "attached", "match": {"bdf": bdf, "access": "vpci"}, "decision": "allow"},
            {"name": "handed-off", "match": {"bdf": bdf, "access": "handoff"}, "decision": "require", "require": {"guard": True}, "permit": ["handoff"]})


@guarded("edu", start=False)
def guard_handoff(t):
    """
    A copy of a descriptor is nobody's to take back. So a function that is not guarded is not handed off where a rule requires that, nor where
    there is a guard that does not have it; who has the descriptors of one that is guarded maps nothing with them either.
    """
    bdf = t.host.bdf("edu")
    arguments = t.configured({"policy": {"handoff": True}})
    policy(t, *handing_off(bdf))
    covered = [subprocess.run(["mount", "-t", "tmpfs", "none", PINS_ROOT], check=True)]
    t.after(lambda: covered and subprocess.run(["umount", PINS_ROOT], check=True))
    t.daemon.start(arguments=arguments)
    vm = t.vm()
    vm.attach(bdf)
    contains(vm.describe()["guard"], "none: ", "guard of the VM")
    text = refused("Policy", t.client.tdi(bdf).handoff)
    contains(text, "handed-off", "the rule")
    contains(text, "no bpf file system is mounted", "why")
    t.daemon.kill()
    subprocess.run(["umount", PINS_ROOT], check=True)
    covered.clear()
    t.daemon.start(arguments=arguments)
    equal(guard_text(t), "on", "Guard")
    contains(refused("Policy", t.client.tdi(bdf).handoff), "attached when there was no mmap guard", "why")
    # Without such a rule tdid itself sees to it, where it can have a guard.
    policy(t, {"name": "anyway", "match": {"bdf": bdf}, "decision": "allow", "permit": ["handoff"]})
    t.client.manager("Reload")
    contains(refused("InvalidState", t.client.tdi(bdf).handoff), "attached when there was no mmap guard", "why")
    equal(vm.describe()["tdis"][0]["handoff"], None, "what was handed off so far")
    t.client.tdi(bdf).detach().wait()
    t.free(bdf)
    policy(t, *handing_off(bdf))
    t.client.manager("Reload")
    vm.attach(bdf)
    iommufd, device = t.client.tdi(bdf).handoff()
    try:
        equal(len(os.pread(device, 4, CONFIG_SPACE)), 4, "bytes read of its config space")
        try:
            mmap.mmap(device, PAGE, mmap.MAP_SHARED, mmap.PROT_READ).close()
            check(False, "a descriptor that was handed off is good for a mapping")
        except PermissionError:
            pass
    finally:
        os.close(iommufd)
        os.close(device)
    vm.destroy()
    t.free(bdf)
    no_trace()


@scenario("edu", start=False, tags=("quick",))
def handoff_unguarded(t):
    """Where there is no guard a function is not handed off when a rule requires one, and is when none does."""
    if t.host.kind == "linux":
        t.skip("this host is real")
    bdf = t.host.bdf("edu")
    policy(t, *handing_off(bdf))
    t.daemon.start(arguments=t.configured({"policy": {"handoff": True}}))
    vm = t.vm()
    vm.attach(bdf)
    text = refused("Policy", t.client.tdi(bdf).handoff)
    contains(text, "handed-off", "the rule")
    contains(text, "the host is simulated", "why")
    equal(vm.describe()["tdis"][0]["handoff"], None, "what was handed off so far")
    policy(t, {"name": "anyway", "match": {"bdf": bdf}, "decision": "allow", "permit": ["handoff"]})
    t.client.manager("Reload")
    for fd in t.client.tdi(bdf).handoff():
        t.host.close(fd)
    vm.destroy()
    t.free(bdf)


@scenario("nvme", start=False)
def guard_simulated(t):
    """The simulation has no guard, and a rule that requires one is not met there."""
    if t.host.kind == "linux":
        t.skip("this host is real")
    bdf = t.host.bdf("nvme")
    policy(t, {"name": "guarded", "match": {"bdf": bdf}, "decision": "require", "require": {"guard": True}})
    t.start()
    equal(guard_text(t), "none: the host is simulated", "Guard")
    vm = t.vm()
    text = refused("Policy", vm.attach, bdf)
    contains(text, "the host is simulated", "the refusal")
    contains(text, "guarded", "the rule")
    t.free(bdf)
    vm.destroy()
    t.unchanged(bdf)


@scenario("nvme", needs=NEEDS, tags=("systemd",), start=False)
def unit_guard(t):
    """The real unit, under its sandbox, can load, pin, look and take away."""
    bdf = t.host.bdf("nvme")
    t.unit.start()
    equal(guard_text(t), "on", "Guard under the unit")
    m = Mapper(t)
    ways = Ways(t, bdf, m).open_files()
    vm = t.vm("v")
    vm.attach(bdf)
    all_are(ways.results(), "EPERM", "under the unit")
    equal(m.do("umount", "/sys/fs/bpf"), "EPERM", "umount in the host's mount namespace")
    old = t.unit.pid
    os.kill(old, signal.SIGKILL)
    all_are(ways.results(), "EPERM", "after SIGKILL of the unit's main process")
    t.unit.wait_new(old)
    equal(vm.describe()["guard"], "on", "guard of the VM under the next tdid")
    t.unit.systemctl("stop", t.unit.name)
    all_are(ways.results(), 0, "after the stop")
    no_trace(unit=True)
