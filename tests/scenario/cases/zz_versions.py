# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tdid is replaced by the version after it and by the one before while VMs live: what those have written, and the holders that they have
# started, is understood. What is further away is held, left alone, and said.

import os
import shutil
import signal

from cases.a_main_job import descriptors_at_rest
from kit.checks import Skip, check, contains, equal, eventually
from kit.client import refused
from kit.daemon import processes
from kit.registry import scenario

NEWER = "TDID_TEST_NEWER"
PARTS = ("journal", "record", "holder")


def files(t):
    texts = {}
    for name in t.daemon.journals():
        with open(os.path.join(t.daemon.state, "journal", name), encoding="utf-8") as file:
            texts[name] = file.read()
    return texts


def start_newer(t, what):
    """A tdid that says to be newer, with a VM; skipped where the build cannot say so."""
    t.start({NEWER: what})
    bdf = t.host.bdf("edu")
    vm = t.vm("v")
    vm.attach(bdf)
    return vm, bdf


@scenario("edu:2", start=False, needs=("programs",), tags=("quick",))
def version_before_and_after(t):
    """One version down and up again, with a VM in each direction: all goes on."""
    vm, bdf = start_newer(t, "all:1")
    other = t.host.bdfs("edu", 2)[1]
    texts = files(t)
    if not all('"reads"' in text for text in texts.values()):
        raise Skip("this build has no fault points")
    check(texts, "no journal")
    before = vm.served()
    for newer in (None, "all:1", None):
        t.daemon.restart({NEWER: newer} if newer else None)
        equal(vm.describe(), before, "the VM's description")
        t.attached(vm, bdf)
        t.dma(vm, bdf)
        vm.attach(other)
        t.client.tdi(other).detach()
        t.free(other)
    vm.lease.close()
    t.gone(vm)
    t.free(bdf)
    t.unchanged(bdf, other)


PROGRAMS = ("tdid", "tdid-vm", "tdid-worker")


def own_programs(t):
    """tdid is started from a folder of the scenario's, where its programs can be replaced."""
    folder = os.path.join(t.folder, "libexec")
    os.mkdir(folder)
    for name in PROGRAMS:
        shutil.copy2(os.path.join(os.path.dirname(t.paths.tdid), name), folder)
    t.daemon.binary = os.path.join(folder, "tdid")
    return folder


def replace(folder, name, make):
    """As dpkg does it: in one step, and whoever runs the old one goes on with it. make is given the path of the new one."""
    path = os.path.join(folder, name)
    make(path + ".dpkg-new")
    os.chmod(path + ".dpkg-new", 0o755)
    os.rename(path + ".dpkg-new", path)


@scenario("edu:2", start=False, needs=("programs",), tags=("quick",))
def version_replaced_below(t):
    """While a package is replaced the tdid before it still runs: its workers are of its own version. The next one takes those that are there."""
    folder, mark = own_programs(t), os.path.join(t.folder, "other")
    t.start()
    bdf, other = t.host.bdfs("edu", 2)
    vm = t.vm("v")
    vm.attach(bdf)

    def another(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n: >>'{mark}'\nexit 1\n")

    old = os.path.join(folder, "old")
    os.link(os.path.join(folder, "tdid-worker"), old)
    replace(folder, "tdid-worker", another)
    # None is left that was started before, and tdid has seen their end.
    pids = processes("tdid-worker")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the end of the workers")
    vm.attach(other)
    t.attached(vm, bdf, other)
    t.dma(vm, other)
    t.client.tdi(other).detach()
    t.free(other)
    check(not os.path.exists(mark), "a worker of another version was started")
    vm.destroy()
    t.free(bdf)
    t.daemon.kill()
    t.daemon.start(wait=False)
    eventually(lambda: os.path.exists(mark), "a worker of the new version")
    t.daemon.kill()
    replace(folder, "tdid-worker", lambda path: shutil.copy2(old, path))
    t.start()
    t.unchanged(bdf, other)


def held(part):
    def run(t):
        vm, bdf = start_newer(t, f"{part}:2")
        holder, texts = vm.served()["holder"]["pid"], files(t)
        descriptors = descriptors_at_rest(t, holder)
        t.daemon.restart()
        contains(t.device(bdf).text("Quarantine"), "newer tdid", "what is said of the function")
        contains("\n".join(t.daemon.log()), "newer tdid: start that version", "what is said of the VM")
        equal((files(t), descriptors_at_rest(t, holder), t.host.driver(bdf)), (texts, descriptors, "vfio-pci"), "what was to be left alone")
        check(not vm.lease.hung_up(), "the VM has ended")
        refused(("Quarantined", "InUse"), t.vm("other").attach, bdf)
        t.daemon.restart({NEWER: f"{part}:2"})
        t.attached(vm, bdf)
        t.dma(vm, bdf)
        vm.lease.close()
        t.gone(vm)
        t.unchanged(bdf)
    run.__doc__ = f"Two versions down, by the {part}: held, left as it is, and given back by the version that knows it."
    return run


for PART in PARTS:
    scenario("edu", start=False, needs=("programs",), name=f"version_unknown_{PART}")(held(PART))
