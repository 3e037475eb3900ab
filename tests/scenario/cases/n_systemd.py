# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The installed units: bus activation, readiness, stop and restart told apart, kills, and a worker that is stuck.

import os
import signal
import time

from kit.checks import check, contains, equal, eventually
from kit.daemon import process_state, processes
from kit.registry import scenario

# As in h_stuck.py: the promise, and what an emulated machine gets on top.
NAME_WITHIN = 2.0
NAME_SLACK = 2.0


def unit_scenario(*roles, **kw):
    return scenario(*roles, tags=("systemd",) + tuple(kw.pop("tags", ())), start=False, **kw)


def with_vm(t, *roles):
    bdfs = [t.host.bdf(r.partition(":")[0], int(r.partition(":")[2] or 0)) for r in roles]
    vm = t.vm("v")
    vm.attach(*bdfs)
    t.attached(vm, *bdfs)
    return vm, bdfs


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
    """A worker is stuck in the kernel: a restart of the unit owns its name within 2 s, and others are served."""
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
            check(seconds <= NAME_WITHIN + NAME_SLACK, f"tdid owned its name {seconds:.2f} s after the {how}")
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
