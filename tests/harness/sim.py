# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scenarios on the simulation: no VM, no root needed. Each job of the runner has a tdi-sim of its own; what a sanitizer
reports in any of the programs fails the scenario that it happened in."""

import os

import child
from builds import ASAN, DEFAULT, TSAN
from vm import Lines, matching, scenarios

RUNNER = "tests/scenario/run"
MATRIX = "tests/scenario/matrix"
ASAN_SCENARIOS = ("main_job_*", "failing_*", "bad_*", "tsm_*", "group_*", "set_kvm", "journal_*", "tdictl_verbs", "unplugged", "keepers",
                  "vu_edu", "vu_hostile_*", "vu_stuck_close", "dmabuf_export", "dmabuf_decode", "run_vmm", "policy_*", "evidence_gate", "evidence_reload", "access_table_polkit",
                  "access_pending")
TSAN_SCENARIOS = ("main_job_destroy", "main_job_both_killed", "tsm_slow", "group_*", "set_kvm", "vu_edu", "vu_hostile_races", "vu_stuck_reset")


def run_sim(report, builds, full, seed, suite, variant, timeout=600, before=()):
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
        # Every kind of scenario once; all of them with --full. Threads are tdi-sim's and the holder's alone.
        some = TSAN_SCENARIOS if variant is TSAN else ASAN_SCENARIOS
        wanted = matching(wanted, some)
    command = [*before, *variant.wrapper, root / RUNNER, "--host=sim", "--build", builds.folder(variant), "--seed", seed, "--jobs", 2 * os.cpu_count()]
    lines = Lines(report, suite)
    timeout *= 6 if full else 1
    everything = report.selection.whole and (variant is DEFAULT or full)
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
    command = [*child.BESIDE_A_VM, builds.root / MATRIX, "--build", builds.folder(DEFAULT), "--seed", seed, *(["--all"] if full else ["--sample", "1"])]
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
    run_sim(report, builds, full, seed, "sim-asan", ASAN, before=child.BESIDE_A_VM)


def run_tsan(report, builds, full, seed, **_):
    run_sim(report, builds, full, seed, "sim-tsan", TSAN, before=child.BESIDE_A_VM)
