# SPDX-License-Identifier: LGPL-2.1-or-later
"""The explorer of the custody engine, of which unit tests walk less. With --full also a quarter of an hour of random operations on the simulation, against
a model of what must hold, in which everything must have been seen, and planted bugs that they have to find. Those are no test that others could be
held up by: what the model knows of times is less exact than what it is compared with, so that a loaded machine can make it wrong."""

import child
from builds import DEFAULT
from vm import Lines

RUNNER, PLANT, EXPLORER = "tests/model/run", "tests/model/plant", "tests/model/custody-explore"


def run_one(report, log, command, timeout):
    lines = Lines(report, "model")
    ended = child.run([*child.BESIDE_A_VM, *command], log, timeout=timeout, on_line=lines.line)
    lines.flush()
    if ended.code not in (0, 1) or (ended.code == 1 and not lines.failed):
        report.failed("run", ended.seconds, f"the runner ended with code {ended.code} after {lines.seen} results\n{ended.tail(80)}", log)
    elif not lines.seen:
        report.failed("run", ended.seconds, f"nothing has been reported\n{ended.tail()}", log)


def run_model(report, builds, full, seed, **_):
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    ended, log = builds.compile(DEFAULT)
    if ended.code != 0:
        report.failed("*", 0, f"not run: {builds.folder(DEFAULT)} does not build", log)
        return
    log = builds.logs / "model-explore.log"
    report.result("custody-explore", child.run([*child.BESIDE_A_VM, builds.folder(DEFAULT) / EXPLORER, "full" if full else "quick"], log,
                                               timeout=7200 if full else 600), log)
    if full:
        run_one(report, builds.logs / "model.log", [builds.root / RUNNER, "--build", builds.folder(DEFAULT), "--seed", seed, "--seconds", 900, "--jobs", 2, "--full"], 2400)
        run_one(report, builds.logs / "model-plant.log", [builds.root / PLANT, "--seed", seed], 7200)
