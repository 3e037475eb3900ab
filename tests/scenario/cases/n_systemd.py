# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The installed units: bus activation, readiness, stop and restart told apart, kills, and a worker that is stuck.

import json
import os
import shutil
import signal
import subprocess
import time

from kit import busy
from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.daemon import process_state, processes
from kit.registry import scenario
from kit.vmm import Edu, connect


def unit_scenario(*roles, **kw):
    return scenario(*roles, tags=("systemd",) + tuple(kw.pop("tags", ())), start=False, **kw)


def with_vm(t, *roles):
    bdfs = [t.host.bdf(r.partition(":")[0], int(r.partition(":")[2] or 0)) for r in roles]
    vm = t.vm("v")
    vm.attach(*bdfs)
    t.attached(vm, *bdfs)
    return vm, bdfs


def drop_in(t, text):
    """Changes the unit for one scenario."""
    folder = f"/run/systemd/system/{t.unit.name}.d"

    def undo():
        t.unit.systemctl("stop", t.unit.name)
        for name in (folder, f"/run/systemd/system.control/{t.unit.name}.d"):
            shutil.rmtree(name, ignore_errors=True)
        t.unit.systemctl("daemon-reload")
    t.defer(undo)
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/scenario.conf", "w", encoding="ascii") as file:
        file.write(f"[Service]\n{text}\n")
    t.unit.systemctl("daemon-reload")


@unit_scenario("edu")
def unit_activation(t):
    """The first call starts tdid by the bus; systemctl start returns when it serves; the holder is a unit of its own."""
    check(not t.unit.active(), "tdid runs before anybody asked for it")
    t.client.ping()
    check(t.unit.active(), "the call did not start the unit")
    equal(t.unit.show("Type"), "notify", "Type=")
    equal(t.client.owner_pid(), t.unit.pid, "owner of the name")
    t.unit.systemctl("stop", t.unit.name)
    t.unit.systemctl("start", t.unit.name)
    # READY means serving: no waiting here.
    t.client.ping()
    vm, _ = with_vm(t, "edu")
    holder = vm.describe()["holder"]
    equal(int(t.unit.show("MainPID", holder["unit"])), holder["pid"], "main process of the holder's unit")
    contains(holder["unit"], "tdid-vm@", "the holder's unit")
    t.client.objects()


@unit_scenario("nvme", "edu")
def unit_stop(t):
    """`systemctl stop` gives everything back before it returns."""
    t.unit.start()
    vm, bdfs = with_vm(t, "nvme", "edu")
    holder = vm.describe()["holder"]
    t.unit.systemctl("stop", t.unit.name)
    # It is PID 1 that waits for the holder, and a worker that has nothing left to do has its own exit before it.
    check(process_state(holder["pid"]) in ("", "Z"), "the holder goes on after the stop")
    eventually(lambda: not processes(), "the end of every process", 5)
    equal(t.unit.leftovers(), [], "journal files after the stop")
    check(vm.lease.hung_up(), "the lease does not tell that the VM is gone")
    t.unchanged(*bdfs)
    equal(t.unit.show("Result"), "success", "Result of the unit")


@unit_scenario("edu", "nvme", needs=("programs",))
def unit_restart(t):
    """`systemctl restart` leaves everything with the holders."""
    t.unit.start()
    vm, bdfs = with_vm(t, "edu", "nvme")
    before, old = vm.describe(), t.unit.pid
    descriptors = t.host.descriptors(before["holder"]["pid"])
    t.unit.systemctl("restart", t.unit.name)
    check(t.unit.pid != old, "the process is the same")
    after = t.attached(vm, *bdfs)
    equal(after, before, "Describe() after the restart")
    equal(t.host.descriptors(before["holder"]["pid"]), descriptors, "descriptors of the holder")
    check(not vm.lease.hung_up(), "the lease ended with the restart")
    t.dma(vm, bdfs[0])
    vm.lease.close()
    t.gone(vm)
    t.free(*bdfs)


@unit_scenario("edu:2", needs=("programs",))
def unit_killed(t):
    """SIGKILL: systemd starts tdid again, the holder is none the worse; and again; and the holder's own death closes its VM."""
    t.unit.start()
    vm, bdfs = with_vm(t, "edu:0", "edu:1")
    for _ in range(2):
        old = t.unit.pid
        os.kill(old, signal.SIGKILL)
        t.value("seconds_to_name", f"{t.unit.wait_new(old):.2f}")
        t.attached(vm, *bdfs)
        t.dma(vm, bdfs[0])
    holder = vm.describe()["holder"]
    os.kill(holder["pid"], signal.SIGKILL)
    t.gone(vm)
    t.free(*bdfs)
    eventually(lambda: t.unit.show("ActiveState", holder["unit"]) in ("inactive", ""), "the holder's unit is gone")


@unit_scenario("edu:3", needs=("programs",))
def unit_stuck(t):
    """A worker is stuck in the kernel, and still is when the next tdid owns its name; others are served. How soon that is the bench says (restart_16_vms)."""
    t.unit.start()
    stuck, second, third = t.host.bdfs("edu", 3)
    vm, bystander = t.vm("stuck"), t.vm("bystander")
    vm.attach(stuck)
    bystander.attach(third)
    fd = t.host.open_vfio(stuck)
    try:
        vm.destroy(async_=True)
        eventually(lambda: t.device(stuck).text("Custody") == "claim", "only the claim is left")
        time.sleep(1)
        for how in ("kill", "restart"):
            old, begin = t.unit.pid, time.monotonic()
            if how == "kill":
                os.kill(old, signal.SIGKILL)
            else:
                t.unit.systemctl("restart", "--no-block", t.unit.name)
            seconds = t.unit.wait_new(old)
            t.value(f"seconds_to_name_after_{how}", f"{seconds:.2f}")
            t.note(f"{time.monotonic() - begin:.2f} s in all, RestartSec={t.unit.show('RestartUSec')}")
            eventually(lambda: t.device(stuck).text("Custody") == "claim", "the worker has not come back")
            t.attached(bystander, third)
            other = t.vm()
            other.attach(second)
            t.attached(other, second)
            other.lease.close()
            t.gone(other)
            check(t.device(stuck).text("Custody") != "none" or t.device(stuck).text("Quarantine"), "the stuck function looks free")
    finally:
        t.host.close(fd)
    t.free(stuck)
    t.unchanged(stuck)


# Tenths, of ten. The lines that cost the rest are in tdid(8), "CONFINEMENT".
EXPOSURE = {"tdid.service": 25, "tdid-vm@": 12}


@unit_scenario("edu")
def unit_files(t):
    """What the units create: the state folder and its modes; nothing of it after a stop but locks."""
    t.unit.start()
    mode = os.stat("/run/tdid").st_mode & 0o777
    check(mode & 0o022 == 0, f"/run/tdid has mode {mode:o}")
    vm, _ = with_vm(t, "edu")
    for folder, _, files in os.walk("/run/tdid"):
        for name in files:
            path = os.path.join(folder, name)
            # A vPCI socket is its VMM's user's and group's.
            others = 0o007 if path.endswith(".sock") and folder.startswith("/run/tdid/vm/") else 0o077
            check(os.stat(path).st_mode & others == 0, f"{path} is open to others")
    vm.lease.close()
    t.gone(vm)
    t.unit.systemctl("stop", t.unit.name)
    check(t.unit.leftovers() == [], "journal files after the stop")


@unit_scenario("edu", needs=("programs",))
def unit_devices_later(t):
    """A unit that was started before VFIO had devices reaches them all the same: PID 1 looks for them again."""
    # What the list is like then: the class is named, but nothing is known by that name.
    drop_in(t, "DeviceAllow=\nDeviceAllow=char-misc rw\nDeviceAllow=char-dma_heap rw\nDeviceAllow=block-* r\nDeviceAllow=char-nobody rw")
    t.unit.start()
    check("vfio-dev" not in t.unit.show("DeviceAllow"), "the class is on the list already")
    vm, bdfs = with_vm(t, "edu")
    t.dma(vm, bdfs[0])
    check("vfio-dev" in t.unit.show("DeviceAllow"), "the class is not on the list")
    vm.lease.close()
    t.gone(vm)
    t.unchanged(*bdfs)


@unit_scenario("edu")
def unit_lines(t):
    """What systemd knows of the units: who is ordered how, what is kept, and what restarts; and how much they are exposed."""
    t.unit.start()
    vm, _ = with_vm(t, "edu")
    for key, value in {"KillMode": "process", "Restart": "always", "RestartUSec": "100ms", "RuntimeDirectoryPreserve": "yes", "StartLimitIntervalUSec": "0",
                       "OOMPolicy": "continue", "WatchdogUSec": "30s", "TimeoutAbortUSec": "10s", "TimeoutStopUSec": "1min 30s"}.items():
        equal(t.unit.show(key), value, key)

    def names(key, unit=None):
        return set(t.unit.show(key, unit).split())
    check({"dbus.socket", "dbus.service", "systemd-modules-load.service", "sysinit.target"} <= names("After"), f"After= of tdid: {names('After')}")
    check({"libvirtd.service", "virtqemud.service", "libvirt-guests.service", "shutdown.target"} <= names("Before"), f"Before= of tdid: {names('Before')}")
    holder = vm.describe()["holder"]["unit"]
    check({t.unit.name, "shutdown.target"} <= names("Before", holder), f"Before= of the holder: {names('Before', holder)}")
    for unit in (t.unit.name, holder):
        check("shutdown.target" in names("Conflicts", unit), f"{unit} does not end at shutdown")
    for unit, most in {t.unit.name: EXPOSURE["tdid.service"], holder: EXPOSURE["tdid-vm@"]}.items():
        done = subprocess.run(["systemd-analyze", "security", "--no-pager", f"--threshold={most}", unit], capture_output=True, text=True, check=False)
        said = done.stdout.strip().splitlines()
        t.note(f"{unit}: {said[-1] if said else done.stderr}")
        check(done.returncode == 0, f"{unit} is exposed more than {most / 10}:\n" + "\n".join(line for line in said if "✗" in line or "→" in line))
        check("Overall exposure" in said[-1], f"systemd-analyze says: {done.stdout}{done.stderr}")


def spend_starts(t):
    """What a hundred starts that ended badly, one right after the other, leave behind, and one that has just begun to wait."""
    path = t.unit.state + "/pace"
    check(os.path.exists(path), f"there is no {path} while tdid runs")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{int((time.clock_gettime(time.CLOCK_BOOTTIME) + 303) * 1000000):020}\n")


@unit_scenario("edu", tags=("full",))
def unit_paced(t):
    """
    A tdid that ends badly again and again, here for want of a bus, is started again without end, but in the end not at once: it waits before it
    goes on. VMs are held meanwhile, and the next one that can run takes them up.
    """
    t.unit.start()
    vm, bdfs = with_vm(t, "edu")
    holder, old = vm.holder_pid(), t.unit.pid
    drop_in(t, "Environment=DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/tdid/no-bus")
    spend_starts(t)
    restarts = int(t.unit.show("NRestarts"))
    os.kill(old, signal.SIGKILL)
    eventually(lambda: int(t.unit.show("NRestarts")) >= restarts + 3, "systemd starts it again and again", 60)
    # How often depends on how long a start takes by itself.
    check(any("it waits" in line for line in t.unit.log(400)), "no start has waited")
    check(t.unit.show("ActiveState") != "failed", "systemd has given up")
    check(t.host.holds(holder, bdfs[0]), "the holder lost the function")
    shutil.rmtree(f"/run/systemd/system/{t.unit.name}.d")
    t.unit.systemctl("daemon-reload")
    t.unit.wait_new(old, 60)
    t.attached(vm, *bdfs)
    # An end that is none of the bad ones gives everything back.
    t.unit.systemctl("restart", t.unit.name)
    with open(t.unit.state + "/pace", encoding="ascii") as file:
        spent = int(file.read()) / 1000000 - time.clock_gettime(time.CLOCK_BOOTTIME)
    check(spent <= 3, f"{spent:.1f} s are spent after a restart")
    t.attached(vm, *bdfs)
    vm.lease.close()
    t.gone(vm)
    t.free(*bdfs)


@unit_scenario("edu")
def unit_bus_returns(t):
    """
    The system's bus dies: tdid ends with it, systemd starts both again, tdid has its name and its VM, and a VMM at a vPCI socket has noticed nothing.
    """
    t.unit.start()
    vm, bdfs = with_vm(t, "edu")
    client, old, bus = connect(t, vm, bdfs[0]), t.unit.pid, int(t.unit.show("MainPID", "dbus.service"))
    edu = Edu(client)
    edu.alive()
    os.kill(bus, signal.SIGKILL)
    t.unit.wait_new(old, 60)
    t.drop_client()
    check(int(t.unit.show("MainPID", "dbus.service")) not in (0, bus), "the bus is not another one")
    edu.alive()
    again = t.adopt(t.client.find_vm("v"))
    t.attached(again, *bdfs)
    check(not vm.lease.hung_up(), "the lease has ended")
    client.close()
    vm.lease.close()
    t.gone(again)
    t.free(*bdfs)
    t.unchanged(*bdfs)


@unit_scenario("edu:2")
def unit_memory(t):
    """
    A limit of memory for the unit that is too small: the kernel kills tdid, and each that is started meanwhile; the holder serves on, and when there
    is memory tdid is back. A holder's own limit ends its VM, whose function is given back, and no other's.
    """
    t.unit.start()
    first, second = t.host.bdfs("edu", 2)
    vm, other = t.vm("v"), t.vm("other")
    vm.attach(first)
    other.attach(second)
    t.attached(vm, first)
    client, old = connect(t, vm, first), t.unit.pid
    edu = Edu(client)
    unit = vm.describe()["holder"]["unit"]
    t.defer(lambda: t.unit.systemctl("set-property", "--runtime", t.unit.name, "MemoryMax=infinity"))

    def limit(name, value):
        t.unit.systemctl("set-property", "--runtime", name, f"MemoryMax={value}")
    restarts = int(t.unit.show("NRestarts"))
    limit(t.unit.name, "256K")
    eventually(lambda: int(t.unit.show("NRestarts")) >= restarts + 2, "tdid is killed, and killed again", 60)
    edu.alive()
    check(not vm.lease.hung_up(), "the lease has ended")
    limit(t.unit.name, "infinity")
    t.unit.wait_new(old, 60)
    t.attached(vm, first)
    t.attached(other, second)
    edu.alive()
    limit(unit, "64K")
    t.gone(vm)
    check(vm.lease.hung_up(), "the lease of a VM whose holder has been killed goes on")
    t.free(first)
    t.attached(other, second)
    t.unchanged(first)
    client.close()


@unit_scenario("edu", tags=("full",))
def unit_configuration(t):
    """A configuration that cannot be read: no restart mends it, so there is none. The VM is held meanwhile, and taken up when it is mended."""
    t.unit.start()
    vm, bdfs = with_vm(t, "edu")
    holder = vm.holder_pid()
    os.makedirs("/etc/tdid", exist_ok=True)
    t.defer(lambda: os.path.exists("/etc/tdid/tdid.conf") and os.unlink("/etc/tdid/tdid.conf"))
    with open("/etc/tdid/tdid.conf", "w", encoding="ascii") as file:
        file.write("{not JSON")
    os.kill(t.unit.pid, signal.SIGKILL)
    eventually(lambda: t.unit.show("ActiveState") == "failed", "the unit has failed", 60)
    equal((t.unit.show("ExecMainStatus"), t.unit.show("SubState")), ("78", "failed"), "how it ended")
    check(t.host.holds(holder, bdfs[0]), "the holder lost the function")
    os.unlink("/etc/tdid/tdid.conf")
    t.unit.systemctl("start", t.unit.name)
    t.unit.wait_new(0)
    t.attached(vm, *bdfs)


@unit_scenario("nvme", tsm=("nvme",), tags=("full",))
def unit_stop_slow(t):
    """Giving back takes longer than a stop may: tdid says that it is at it, and systemd waits."""
    drop_in(t, "TimeoutStopSec=4s")
    t.unit.start()
    vm, bdfs = with_vm(t, "nvme")
    t.tsm.rule("disconnect", bdfs[0], delay=8000)
    begin = time.monotonic()
    t.unit.systemctl("stop", t.unit.name)
    check(time.monotonic() - begin >= 8, "the TSM was not slow")
    equal((t.unit.show("Result"), t.unit.leftovers()), ("success", []), "result of the unit, and what is left")
    check(vm.lease.hung_up(), "the lease does not tell that the VM is gone")
    t.unchanged(*bdfs)


@unit_scenario("spdm", "nvme", needs=("spdm", "evidence_module"), tsm=("nvme",))
def unit_sandbox(t):
    """What the sandbox is in the way of, if anything: a mailbox in config space, the kernel's netlink family, the archive, a TSM, drivers, the disk's use."""
    bdf, nvme, folder = t.host.bdf("spdm"), t.host.bdf("nvme"), "/var/lib/tdid/evidence"
    t.spdm(bdf)
    os.makedirs("/etc/tdid", exist_ok=True)
    t.after(lambda: os.unlink("/etc/tdid/tdid.conf"))
    with open("/etc/tdid/tdid.conf", "w", encoding="ascii") as file:
        json.dump({"evidence": {"doe": True}}, file)
    t.unit.start()

    def evidence():
        return t.tdictl.json("device", "evidence", bdf)["evidence"]
    said = evidence()
    equal(said["source"], "doe", f"where evidence is from: {said['tried']}")
    check(os.path.exists(os.path.join(folder, "records", said["archived"])), "the evidence is not in the archive")
    t.load_evidence_module()
    # Its family is there, under the network that tdid has of its own too, and has something, or nothing, to say.
    (tried,) = [x for x in evidence()["tried"] if x["source"] == "kernel"]
    check(tried["reason"] != "not-supported", f"the kernel's family is not seen: {tried}")
    vm = t.vm("v")
    vm.attach(nvme)
    t.attached(vm, nvme)
    equal(t.tsm.count("connect"), 1, "connects")
    status = f"/proc/{t.unit.pid}/status"
    with open(status, encoding="ascii") as file:
        equal([line.split()[1] for line in file if line.startswith("Seccomp:")], ["2"], "tdid's filter")
    vm.lease.close()
    t.gone(vm)
    t.free(nvme)


@unit_scenario("nvme", "e1000e", tags=("full",))
def unit_in_use(t):
    """A disk that is mounted where the unit sees nothing of it, and an interface that is in a network that is not the unit's, are in use all the same."""
    nvme, e1000e = t.host.bdf("nvme"), t.host.bdf("e1000e")
    disk = eventually(lambda: t.host.block(nvme), "the disk")
    home, tmp = "/home/tdid-scenario", "/tmp/tdid-scenario"
    # One is older than the unit, which has a copy of the mounts there were; the other is younger.
    with busy.mounted(disk, home):
        t.unit.start()
        contains(refused("InUse", t.vm().attach, nvme), home, "where it is mounted")
    with busy.mounted(disk, tmp):
        contains(refused("InUse", t.vm().attach, nvme), tmp, "where it is mounted")
    with busy.interface_up(eventually(lambda: t.host.net(e1000e), "the interface")):
        contains(refused("InUse", t.vm().attach, e1000e), "address", "why it is in use")
    vm = t.vm()
    vm.attach(nvme, e1000e)
    t.attached(vm, nvme, e1000e)


# Stands for the guests' manager, whose name it has, and for a guest of its: each notes what it sees of tdid when it ends.
MANAGER = """[Unit]
{order}
[Service]
ExecStart=sleep infinity
ExecStop=sh -c 'systemctl show -P ActiveState {tdid} >/run/tdid-scenario/{name}; cat /sys/bus/pci/devices/{bdf}/driver_override >>/run/tdid-scenario/{name}'
"""


@unit_scenario("edu")
def unit_shutdown(t):
    """
    The order of a shutdown, of which this is one for the units that count: the guest, its manager, tdid, which gives back, and the holder,
    which has nothing left by then.
    """
    bdf, folder = t.host.bdf("edu"), "/run/tdid-scenario"
    units = {"libvirtd.service": "", "tdid-scenario-guest.service": "After=libvirtd.service"}
    os.makedirs(folder, exist_ok=True)

    def undo():
        for name in (*units, "tdid-scenario.target"):
            t.unit.systemctl("stop", name, check=False)
            os.unlink("/run/systemd/system/" + name)
        shutil.rmtree(folder)
        t.unit.systemctl("daemon-reload")
    for name, order in units.items():
        with open("/run/systemd/system/" + name, "w", encoding="ascii") as file:
            file.write(MANAGER.format(order=order, name=name, bdf=bdf, tdid=t.unit.name))
    t.unit.start()
    vm, bdfs = with_vm(t, "edu")
    holder = vm.describe()["holder"]
    everybody = [*units, t.unit.name, holder["unit"]]
    with open("/run/systemd/system/tdid-scenario.target", "w", encoding="ascii") as file:
        # As shutdown.target does: all in one transaction, and none is asked before the others are known to go.
        file.write(f"[Unit]\nDefaultDependencies=no\nConflicts={' '.join(everybody)}\nAfter={' '.join(everybody)}\n")
    t.defer(undo)
    t.unit.systemctl("daemon-reload")
    t.unit.systemctl("start", *units)
    t.unit.systemctl("start", "tdid-scenario.target")
    for name in units:
        with open(os.path.join(folder, name), encoding="ascii") as file:
            equal(file.read().split(), ["active", "vfio-pci"], f"what {name} saw at its end")
    ended = [int(t.unit.show("InactiveEnterTimestampMonotonic", name)) for name in ("tdid-scenario-guest.service", "libvirtd.service", t.unit.name)]
    check(ended == sorted(ended) and all(ended), f"when they ended: {ended}")
    equal(t.unit.show("Result"), "success", "Result of tdid")
    check(process_state(holder["pid"]) in ("", "Z"), "the holder goes on")
    check(vm.lease.hung_up(), "the lease does not tell that the VM is gone")
    equal(t.unit.leftovers(), [], "journal files")
    t.unchanged(*bdfs)


@unit_scenario("edu")
def unit_check(t):
    """`tdictl check` starts no tdid; in the unit's sandbox tdid sees what root sees without, but for the kernel's modules, and a user by it."""
    def look(*args, **kw):
        done = t.tdictl("--json", "check", *args, code=None, **kw)
        return done.json()

    def verdicts(doc):
        return {c["id"]: (c["verdict"], c["reason"]) for c in doc["checks"]}

    own = look()
    equal((own["looked_by"], t.unit.active()), ("tdictl", False), "who looked, and whether tdid was started for it")
    equal(verdicts(own)["tdid.units"][0], "pass", verdicts(own)["tdid.units"])
    t.unit.start()
    inside = look()
    equal(inside["looked_by"], "tdid", "who looked")
    equal(verdicts(inside), verdicts(own), "what tdid sees, and what root sees")
    other = look(user="nobody", group="nogroup", extra_groups=[])
    equal(verdicts(other), verdicts(own), "what another user is told")
    vm, (bdf,) = with_vm(t, "edu")
    # The journal is where tdictl looks for it, too.
    local = verdicts(look("--local"))
    for name in ("others.override", "others.users"):
        equal(local[name][0], "pass", f"{name}, while tdid has {bdf}: {local[name]}")
    vm.destroy()
    t.free(bdf)
