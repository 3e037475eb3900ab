# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tdid is replaced by the version after it and by the one before while VMs live: what those have written, and the holders that they have
# started, is understood. What is further away is held, left alone, and said.

import os

from kit.checks import Skip, check, contains, equal
from kit.client import refused
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
    before = vm.describe()
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


def held(part):
    def run(t):
        vm, bdf = start_newer(t, f"{part}:2")
        holder, texts = vm.holder_pid(), files(t)
        descriptors = t.host.descriptors(holder)
        t.daemon.restart()
        contains(t.device(bdf).text("Quarantine"), "newer tdid", "what is said of the function")
        contains("\n".join(t.daemon.log()), "newer tdid: start that version", "what is said of the VM")
        equal((files(t), t.host.descriptors(holder), t.host.driver(bdf)), (texts, descriptors, "vfio-pci"), "what was to be left alone")
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
