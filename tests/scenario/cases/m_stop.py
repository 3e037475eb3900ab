# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Starting and stopping without systemd: SIGTERM gives everything back first, a second tdid is refused, a bus that goes
# away takes nothing with it.

import os
import signal
import subprocess
import time

from kit.checks import check, equal, eventually
from kit.client import Lost, Refused
from kit.daemon import process_state, processes
from kit.registry import scenario


@scenario("edu:3", tags=("quick",))
def stop_gives_back(t):
    """SIGTERM: every VM is closed and every function is as before when tdid has ended, whoever has leases."""
    bdfs = t.host.bdfs("edu", 3)
    vms = [t.vm() for _ in range(2)]
    vms[0].attach(*bdfs[:2])
    vms[1].attach(bdfs[2])
    hold = vms[1].hold("another")
    process = t.lease_process(vms[0])
    equal(t.daemon.stop(), 0, "exit code")
    # Workers end a moment after their tdid, under a sanitizer a longer one.
    eventually(lambda: not processes(), "end of all processes after the stop", 30)
    t.unchanged(*bdfs)
    equal(t.daemon.leftovers(), [], "files of tdid")
    check(hold.hung_up() and vms[1].lease.hung_up(), "leases do not tell that their VM is gone")
    check(process.poll() is None, "the process with the lease")
    hold.close()


@scenario("edu", tags=("quick",))
def stop_refuses_new(t):
    """While it is stopping, tdid takes nothing new, and still answers."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    fd = t.host.open_vfio(bdf)
    try:
        t.daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: vm.phase() == "closing", "the VM is closing")
        try:
            t.client.create_vm("late")
            check(False, "a VM could be created while tdid stops")
        except (Refused, Lost) as error:
            t.note(str(error))
        time.sleep(0.5)
        check(t.daemon.alive(), "tdid ended before the function was given back")
    finally:
        t.host.close(fd)
    equal(t.daemon.wait_exit(60), 0, "exit code")
    # Workers end a moment after their tdid, under a sanitizer a longer one.
    eventually(lambda: not processes(), "end of all processes after the stop", 30)


@scenario("edu", tags=("quick",))
def second_daemon(t):
    """A second tdid on the same state folder or the same bus ends by itself and harms nothing."""
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    done = subprocess.run([t.daemon.binary, "--host=" + t.daemon.host, "--bus=" + t.bus.address, "--state=" + t.daemon.state],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
                          env=t.daemon.environment(None))
    check(done.returncode > 0, f"the second tdid ended with {done.returncode}")
    check(done.stderr, "the second tdid says nothing")
    t.attached(vm, bdf)


@scenario("edu", tags=("quick",))
def usage(t):
    """The command lines of the daemon: unknown switches, a missing bus, a missing folder."""
    t.daemon.stop()

    def run(*args):
        return subprocess.run([t.daemon.binary, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
                              env=t.daemon.environment(None))
    for args in (("--nonsense",), ("extra",), ("--host=nothing",), ("--bus=unix:path=/nonexistent", "--state=" + t.daemon.state)):
        done = run(*args)
        check(done.returncode > 0 and done.stderr, f"tdid {args}: exit {done.returncode}, stderr {done.stderr!r}")
    equal(run("--help").returncode, 0, "tdid --help")
    check(run("--version").stdout.strip(), "tdid --version says nothing")
    eventually(lambda: not processes(), "end of all processes after the stop")


@scenario("edu:2")
def bus_gone(t):
    """The bus dies under tdid: nothing of the VM is lost; the next tdid goes on."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(first)
    holder = vm.holder_pid()
    t.kill_bus()
    time.sleep(1)
    check(process_state(holder) not in ("", "Z"), "the holder died with the bus")
    if t.daemon.alive():
        t.note("tdid goes on without a bus")
        t.daemon.kill()
    t.restart_bus()
    t.daemon.start()
    again = t.adopt(t.client.find_vm("vm-1"))
    t.attached(again, first)
    again.attach(second)
    t.attached(again, first, second)
    check(not vm.lease.hung_up(), "the lease ended")
