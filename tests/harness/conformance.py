# SPDX-License-Identifier: LGPL-2.1-or-later
"""Conformance of the simulation: calls recorded on the real kernel are made on tdi-sim, and both answers compared. The corpus in the
tree needs no VM; conformance-vm records anew in the VM, where the kernel must still answer as in the corpus, and replays that as well."""

import os
import shutil
import tempfile
from pathlib import Path

import child
from builds import DEFAULT
from vm import QEMU_CRASH, QEMU_RETRIES, Lines

RUNNER = "tests/conformance/run"


def replay(report, builds, suite, arguments, timeout):
    """The runner's own results, one a sequence."""
    log = builds.logs / f"{suite}.log"
    lines = Lines(report, suite)
    ended = child.run([*child.BESIDE_A_VM, builds.root / RUNNER, *arguments], log, timeout=timeout, on_line=lines.line)
    lines.flush()
    if ended.code not in (0, 1) or (ended.code == 1 and not lines.failed):
        report.failed("run", ended.seconds, f"the runner ended with code {ended.code} after {lines.seen} results\n{ended.tail(80)}", log)
    elif not lines.seen:
        report.failed("run", ended.seconds, f"no sequence has reported\n{ended.tail()}", log)


def simulation(report, builds, suite):
    """The arguments that say which tdi-sim; None where there is none."""
    if not builds.possible or not (builds.root / RUNNER).exists():
        report.skipped("*", f"there is no {RUNNER} in the tree")
        return None
    ended, log = builds.compile(DEFAULT)
    if ended.code != 0:
        report.failed("*", 0, f"not run: {builds.folder(DEFAULT)} does not build", log)
        return None
    return ["--sim", builds.folder(DEFAULT) / "libtdi/sim/tdi-sim", "--jobs", 2 * os.cpu_count()]


def run_corpus(report, builds, **_):
    arguments = simulation(report, builds, "conformance")
    if arguments is None:
        return
    if not report.selection.whole:
        arguments.append(report.selection.test)
    replay(report, builds, "conformance", arguments, 900)


def run_vm(report, builds, full, seed, **_):
    suite = "conformance-vm"
    if not full:
        report.skipped("*", "recording on the kernel takes many minutes: only with --full")
        return
    arguments = simulation(report, builds, suite)
    if arguments is None or not report.selection.whole:
        return
    share = Path(tempfile.mkdtemp(prefix="tdid-conformance-", dir="/var/tmp"))
    share.chmod(0o1777)
    try:
        # The corpus's own seeds, a part of them, to see whether the kernel has changed; and new ones.
        script = f"""conformance/record /mnt/share --random 110 --seed 1
                     mkdir /mnt/share/new
                     conformance/record /mnt/share/new --random 110 --seed {seed % 100000 + 2} \
                         --scenarios"""
        timeout = 7200
        log = builds.logs / f"{suite}-record.log"
        for _ in range(QEMU_RETRIES + 1):
            shutil.rmtree(share / "new", ignore_errors=True)
            ended = child.run([builds.root / "tests/vm/boot", "--build", builds.folder(DEFAULT), "--timeout", timeout, "--share", share,
                               "--", "/bin/sh", "-c", script], log, timeout=timeout + 120)
            if not QEMU_CRASH.search(ended.output):
                break
            report.say(f"        {suite}: QEMU itself crashed: recording again")
        report.result("record", ended, log)
        replay(report, builds, suite + "-same", ["--same", share], 300)
        replay(report, builds, suite, [*arguments, "--raw", share / "new"], 1800)
    finally:
        shutil.rmtree(share, ignore_errors=True)
