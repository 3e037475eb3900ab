# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domains of a real libvirtd on the simulation: those scenarios that the suite "sim" leaves out, one at a time."""

import child
from builds import DEFAULT
from sim import RUNNER
from vm import Lines, matching, scenarios

# The whole of a domain's life, and what ends its start; the rest with --full.
EVERY_TIME = ("libvirt_life", "libvirt_refused")


def run_libvirt(report, builds, full, seed, **_):
    suite = "libvirt"
    names = scenarios(builds.root, systemd=False, tag="libvirt")
    if report.selection.whole and not full:
        names = matching(names, EVERY_TIME)
    wanted = [n for n in names if report.selection.wants(suite, n)]
    if not wanted:
        return
    ended, log = builds.compile(DEFAULT)
    if ended.code != 0:
        report.failed("*", 0, f"not run: {builds.folder(DEFAULT)} does not build", log)
        return
    log = builds.logs / "libvirt.log"
    lines = Lines(report, suite)
    ended = child.run([*child.BESIDE_A_VM, builds.root / RUNNER, "--host=sim", "--build", builds.folder(DEFAULT), "--seed", seed, *wanted], log, timeout=900,
                      env={"TDID_FULL": "1"} if full else {}, on_line=lines.line)
    lines.flush()
    if ended.code not in (0, 1) or (ended.code == 1 and not lines.failed):
        report.failed("run", ended.seconds, f"the runner ended with code {ended.code} after {lines.seen} results\n{ended.tail(80)}", log)
    elif not lines.seen:
        report.failed("run", ended.seconds, f"no scenario has reported\n{ended.tail()}", log)
