# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs every libFuzzer target for some seconds, from the corpus in the tree. The targets are the programs called fuzz-NAME
in the build folder that is configured with -Dfuzz=true; the corpus of each is tests/fuzz/corpus/NAME."""

import os
from concurrent.futures import ThreadPoolExecutor

import child
from builds import FUZZ


def _targets(folder):
    found = {}
    for base, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(base, name)
            if name.startswith("fuzz-") and "." not in name and os.access(path, os.X_OK):
                found[name[len("fuzz-"):]] = path
    return found


def _is_libfuzzer(path):
    """Some programs called fuzz-* have a main of their own, and are unit tests."""
    with open(path, "rb") as f:
        return b"libFuzzer" in f.read()


def run_fuzz(report, builds, full, seed, **_):
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    if not builds.has_option("fuzz"):
        report.skipped("*", "the tree has no meson option 'fuzz'")
        return
    ended, log = builds.compile(FUZZ)
    folder = builds.folder(FUZZ)
    if ended.code != 0:
        report.failed("*", ended.seconds, f"{folder} does not build\n{ended.tail()}", log)
        return
    targets = {n: p for n, p in sorted(_targets(folder).items()) if _is_libfuzzer(p)}
    if not targets:
        report.skipped("*", f"no fuzz target in {folder}")
        return
    # A short search finds nothing new on most days, and what it finds by luck stops whoever comes along. So it is the same one each time:
    # counted in runs, without addresses in it that differ from run to run. A long search has a seed of its own.
    limits = ["-max_total_time=600", f"-seed={seed % 2**31 or 1}"] if full else \
        ["-runs=4000", "-seed=1", "-use_cmp=0", "-use_memmem=0", "-len_control=0", "-max_total_time=60"]

    def fuzz(name):
        report.for_thread("fuzz")
        own = folder / "corpus" / name
        own.mkdir(parents=True, exist_ok=True)
        artifacts = folder / "artifacts"
        artifacts.mkdir(exist_ok=True)
        command = [*child.BESIDE_A_VM, "setarch", "-R", targets[name], *limits, "-timeout=10",
                   "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={artifacts}/{name}-"]
        dictionary = builds.root / f"tests/fuzz/{name}.dict"
        if dictionary.exists():
            command.append(f"-dict={dictionary}")
        corpus = builds.root / "tests/fuzz/corpus" / name
        command += [own] + ([corpus] if corpus.is_dir() else [])
        log = builds.logs / f"fuzz-{name}.log"
        report.result(name, child.run(command, log, timeout=720, env={
            "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}), log)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fuzz, [n for n in targets if report.selection.wants("fuzz", n)]))
