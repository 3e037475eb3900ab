# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The reader of the kernel's device-evidence family by itself: no tdid runs. What it must do is checked by
# tests/vm/programs/evidence_check.c, against the test module's family.

import os
import subprocess

from kit.checks import Failure, check
from kit.registry import scenario
from kit.tsm import loaded

NEEDS = ("evidence_module", "programs", "linux", "root")


def evidence_scenario(**kw):
    return scenario("nvme", start=False, needs=NEEDS, **kw)


def program(t, verb, timeout=240):
    """Runs the program; its lines are notes, and a failure is one of the scenario."""
    done = subprocess.run([os.path.join(t.paths.programs, "evidence_check"), verb, t.host.bdf("nvme")], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False)
    for line in done.stdout.splitlines():
        t.note(line)
    if done.returncode:
        raise Failure(f"evidence_check {verb}: exit {done.returncode}:\n{done.stdout.strip()}")


@evidence_scenario(tags=("quick",))
def evidence_netlink_family(t):
    """A kernel without the family: not supported. With it: only for those who may, and gone again without a trace."""
    program(t, "absent")
    for _ in range(3):
        module = t.load_evidence_module()
        program(t, "unprivileged")
        module.close()
        check(not loaded(module.module) and not os.path.exists(module.folder), "the module is gone")
    program(t, "absent")


@evidence_scenario(tags=("quick",))
def evidence_netlink_objects(t):
    """Objects of every size up to the limit arrive byte for byte, in pieces of any size."""
    t.load_evidence_module()
    program(t, "objects")


@evidence_scenario(tags=("quick",))
def evidence_netlink_nonce(t):
    """A nonce reaches the measurements, each attempt measures again, and a device that cannot measure is told apart."""
    t.load_evidence_module()
    program(t, "nonce")


@evidence_scenario(tags=("quick",))
def evidence_netlink_changes(t):
    """Evidence that changes while it is read is read again, a bounded number of times; what arrives is of one generation."""
    t.load_evidence_module()
    program(t, "changes")
    program(t, "gone")
    program(t, "race")


@evidence_scenario(tags=("quick",))
def evidence_netlink_faults(t):
    """Wrong lengths, objects that nobody wanted, or twice, or never finished: each is refused with its reason."""
    t.load_evidence_module()
    program(t, "faults")


@evidence_scenario()
def evidence_netlink_slow(t):
    """A dump that goes on and on is given up."""
    t.load_evidence_module()
    program(t, "slow")
