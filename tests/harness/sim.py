# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scenarios on the simulation: no VM, no root needed. Each job of the runner has a tdi-sim of its own; what a sanitizer
reports in any of the programs fails the scenario that it happened in."""

import fnmatch
import os

import child
from builds import ASAN, DEFAULT, TSAN
from vm import Lines, scenarios

RUNNER = "tests/scenario/run"
MATRIX = "tests/scenario/matrix"
TSAN_SCENARIOS = ("main_job_*", "tsm_*", "group_*", "churn", "set_kvm")


def run_sim(report, builds, full, seed, suite, variant, timeout=600):
    root = builds.root
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    wanted = [n for n in scenarios(root, systemd=False) if report.selection.wants(suite, n)]
    if not wanted:
        return
    ended, log = builds.compile(variant)
    if ended.code != 0:
        report.failed("*", 0, f"not run: {builds.folder(variant)} does not build", log)
        return
    log = builds.logs / f"{suite}.log"
    env = {**variant.env, **({"TDID_FULL": "1"} if full else {})}
    if variant is not DEFAULT and not full and report.selection.whole:
        # ASan sees every kind of scenario, and every scenario with --full; threads are tdi-sim's alone, and need many calls at once.
        env["TDID_QUICK"] = "1"
        wanted = [n for n in wanted if variant is not TSAN or any(fnmatch.fnmatch(n, p) for p in TSAN_SCENARIOS)]
    # Beside a VM, which must not be starved: an emulated kernel complains when it does not get on.
    command = [*variant.wrapper, "nice", "-n", "5", root / RUNNER, "--host=sim", "--build", builds.folder(variant), "--seed", seed, "--jobs", os.cpu_count()]
    lines = Lines(report, suite)
    timeout *= 6 if full else 1
    everything = report.selection.whole and variant is not TSAN
    ended = child.run([*command, *([] if everything else wanted)], log, timeout=timeout, env=env, on_line=lines.line)
    lines.flush()
    if ended.code not in (0, 1) or (ended.code == 1 and not lines.failed):
        report.failed("run", ended.seconds, f"the runner ended with code {ended.code} after {lines.seen} results\n{ended.tail(80)}", log)
    elif not lines.seen:
        report.failed("run", ended.seconds, f"no scenario has reported\n{ended.tail()}", log)


def run_matrix(report, builds, full, seed, **_):
    """Host calls that fail, and processes that die at one: a sample of each, all of them with --full."""
    suite = "sim-matrix"
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    ended, log = builds.compile(DEFAULT)
    if ended.code != 0:
        report.failed("*", 0, f"not run: {builds.folder(DEFAULT)} does not build", log)
        return
    log = builds.logs / f"{suite}.log"
    lines = Lines(report, suite)
    command = ["nice", "-n", "5", builds.root / MATRIX, "--build", builds.folder(DEFAULT), "--seed", seed, *(["--all"] if full else ["--sample", "2"])]
    ended = child.run([*command, *([] if report.selection.whole else [report.selection.test])], log, timeout=36000 if full else 600,
                      on_line=lines.line)
    lines.flush()
    if ended.code not in (0, 1) or (ended.code == 1 and not lines.failed):
        report.failed("run", ended.seconds, f"the runner ended with code {ended.code} after {lines.seen} results\n{ended.tail(80)}", log)
    elif not lines.seen:
        report.failed("run", ended.seconds, f"no scenario has reported\n{ended.tail()}", log)


def run_plain(report, builds, full, seed, **_):
    run_sim(report, builds, full, seed, "sim", DEFAULT)


def run_asan(report, builds, full, seed, **_):
    run_sim(report, builds, full, seed, "sim-asan", ASAN)


def run_tsan(report, builds, full, seed, **_):
    run_sim(report, builds, full, seed, "sim-tsan", TSAN)
