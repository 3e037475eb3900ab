# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Where things are: as installed in the test VM, in a build folder, or as the environment says.

import os
from dataclasses import dataclass

TESTS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass
class Paths:
    tdid: str
    tdictl: str
    hook: str
    policy: str
    actions: str
    programs: str
    unit: str
    modules: str
    topology: str
    sim: str
    machine: str


def first(*paths):
    """The first that is there; else the first."""
    return next((p for p in paths if os.path.exists(p)), paths[0])


def find_paths(build=None):
    """build: a build folder, whose programs are used instead of those that are installed."""
    built = (lambda name: [os.path.join(build, name)]) if build else (lambda name: [])
    return Paths(
        tdid=os.environ.get("TDID_BINARY") or first(*built("daemon/tdid"), "/usr/libexec/tdid/tdid", "/usr/local/libexec/tdid/tdid"),
        tdictl=os.environ.get("TDICTL_BINARY") or first(*built("cli/tdictl"), "/usr/bin/tdictl", "/usr/local/bin/tdictl"),
        hook=first(*built("cli/hook/tdid-hook"), "/usr/libexec/tdid/tdid-hook", "/usr/local/libexec/tdid/tdid-hook"),
        policy=first(*([os.path.join(TESTS, "../policy/dbus/org.tdid1.conf")] if build else []),
                     "/usr/share/dbus-1/system.d/org.tdid1.conf", "/usr/local/share/dbus-1/system.d/org.tdid1.conf",
                     os.path.join(TESTS, "../policy/dbus/org.tdid1.conf")),
        actions=first(*([os.path.join(TESTS, "../policy/polkit/org.tdid1.policy")] if build else []),
                      "/usr/share/polkit-1/actions/org.tdid1.policy", "/usr/local/share/polkit-1/actions/org.tdid1.policy",
                      os.path.join(TESTS, "../policy/polkit/org.tdid1.policy")),
        programs=first(*built("tests/vm/programs"), os.path.join(TESTS, "vm/programs"), os.path.join(TESTS, "bin")),
        unit=first(*built("tests/unit"), os.path.join(TESTS, "unit")),
        modules="/opt/tdid/modules",
        topology=os.path.join(TESTS, "vm/topology.json"),
        sim=first(*built("libtdi/sim/tdi-sim"), "/usr/bin/tdi-sim", "/usr/local/bin/tdi-sim"),
        machine=os.path.join(TESTS, "scenario/machine.json"),
    )
