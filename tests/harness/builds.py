# SPDX-License-Identifier: LGPL-2.1-or-later
"""The meson build folders: which variants there are, configuring and compiling them, and running their unit tests."""

import json
import os
import re
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import child

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tdid"


@dataclass(frozen=True)
class Variant:
    name: str
    about: str
    compiler: str = "gcc"
    options: tuple = ()
    # How much slower than usual its tests are, and what they must be run under.
    slowness: int = 1
    wrapper: tuple = ()
    env: dict = field(default_factory=dict, hash=False)
    # For another architecture, against the libraries in Builds.sysroot.
    cross: bool = False


SANITIZERS = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
}
# Those that scenarios run with can be killed at chosen points; the others are as a distribution would build them.
DEFAULT = Variant("default", "gcc", options=("-Dkill_points=true",))
ASAN = Variant("asan", "gcc, address and undefined behaviour sanitizers", slowness=3, env=SANITIZERS,
               options=("-Doptimization=1", "-Db_sanitize=address,undefined", "-Dkill_points=true"))
O0 = Variant("gcc-O0", "gcc without optimisation", options=("-Doptimization=0",))
# Address space randomisation of today's kernels leaves the thread sanitizer of gcc 12 no room for its own maps.
TSAN = Variant("tsan", "gcc, thread sanitizer", slowness=4, wrapper=("setarch", "-R"),
               options=("-Doptimization=1", "-Db_sanitize=thread", "-Dkill_points=true"),
               env={"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"})
VARIANTS = (
    DEFAULT,
    Variant("clang", "clang", compiler="clang"),
    O0,
    Variant("gcc-O3", "gcc -O3 -DNDEBUG", options=("-Doptimization=3", "-Db_ndebug=true")),
    ASAN,
    TSAN,
)
ARM64 = Variant("arm64", "gcc for arm64", slowness=4, cross=True, options=("-Dkill_points=true",))
FUZZ = Variant("fuzz", "clang with libFuzzer", compiler="clang",
               options=("-Doptimization=1", "-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false"))
CROSS_FILE = """[constants]
sysroot = '{sysroot}'
[binaries]
c = [{ccache}'aarch64-linux-gnu-gcc', '--sysroot=' + sysroot]
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
[properties]
sys_root = sysroot
pkg_config_libdir = [sysroot + '/usr/lib/aarch64-linux-gnu/pkgconfig', sysroot + '/usr/share/pkgconfig']
# tests/arm64/wrap sees to that.
needs_exe_wrapper = false
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
"""
NINJA_STEP = re.compile(r"\[\d+/\d+\] |(gcc|g\+\+|clang|clang\+\+) -|INFO: ")
# Where the tree lies is of no matter to what is compiled: paths are relative, but for the folder in the debugging information.
CCACHE = {"CCACHE_DIR": str(CACHE / "ccache"), "CCACHE_NOHASHDIR": "1", "CCACHE_MAXSIZE": "1G"}
COMMON = ("--prefix=/usr", "--werror", "-Dbuildtype=debugoptimized")


class Builds:
    def __init__(self, root):
        self.root = root
        self.logs = root / "build/logs"
        self.sysroot = None
        self._done = {}
        self._lock = threading.Lock()

    def folder(self, variant):
        return self.root / "build" / variant.name

    @property
    def possible(self):
        return (self.root / "meson.build").exists()

    def has_option(self, name):
        for file in ("meson_options.txt", "meson.options"):
            path = self.root / file
            if path.exists() and re.search(rf"option\(\s*'{name}'", path.read_text()):
                return True
        return False

    def compile(self, variant):
        """Configures (anew when the options have changed) and compiles; once a run. Returns (ended, log). Any thread may call it."""
        with self._lock:
            return self._compile(variant)

    def _compile(self, variant):
        if variant.name in self._done:
            return self._done[variant.name]
        folder, log = self.folder(variant), self.logs / f"build-{variant.name}.log"
        # The headers are those of the VM's kernel; that they can be fetched is what suite 'prepare' sees to.
        headers = child.run([self.root / "tests/vm/fetch-headers", "--cached"]).output.split()
        options = (*COMMON, *variant.options, *(f"-Dkernel_headers={h}" for h in headers[-1:]))
        compilers = {"gcc": ("gcc", "g++"), "clang": ("clang", "clang++")}[variant.compiler]
        ccache = "ccache " if shutil.which("ccache") else ""
        env = {"CC": ccache + compilers[0], "CXX": ccache + compilers[1], "CFLAGS": "", "CXXFLAGS": "", "LDFLAGS": ""}
        if variant.cross:
            cross = self.root / f"build/{variant.name}-cross.ini"
            cross.parent.mkdir(exist_ok=True)
            cross.write_text(CROSS_FILE.format(sysroot=self.sysroot, ccache="'ccache', " if ccache else ""))
            options = (*COMMON, *variant.options, "--cross-file", str(cross), "-Dkernel_headers=")
        stamp, wanted = folder / ".tdid-options", json.dumps([env, options, self.sysroot if variant.cross else None])
        if folder.exists() and (not stamp.exists() or stamp.read_text() != wanted):
            print(f"  {folder} was configured otherwise: configuring it anew", flush=True)
            shutil.rmtree(folder)
        seconds = 0
        if not (folder / "build.ninja").exists():
            ended = child.run(["meson", "setup", folder, self.root, *options], log, env={**env, **CCACHE})
            if ended.code != 0:
                shutil.rmtree(folder, ignore_errors=True)
                self._done[variant.name] = ended, log
                return ended, log
            stamp.write_text(wanted)
            seconds = ended.seconds
        ended = child.run(["meson", "compile", "-C", folder], log, env=CCACHE)
        ended.seconds += seconds
        self._done[variant.name] = ended, log
        return ended, log


def run_builds(report, builds, **_):
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    for variant in VARIANTS:
        if report.selection.wants("build", variant.name):
            ended, log = builds.compile(variant)
            # Only what the compiler complains of: not the steps, nor its command lines.
            lines = [line for line in ended.output.rstrip().split("\n") if not NINJA_STEP.match(line)]
            report.result(variant.name, ended, log, detail="\n".join(lines[:60]))


def _meson_results(folder):
    """Name, result, seconds and output of every test that `meson test` has just run."""
    logs = sorted((folder / "meson-logs").glob("testlog*.json"), key=lambda p: p.stat().st_mtime)
    if not logs:
        return
    with open(logs[-1], encoding="utf-8", errors="replace") as f:
        for line in f:
            test = json.loads(line)
            name = test["name"].split(" / ")[-1]
            output = "\n".join(part for part in (test.get("stdout"), test.get("stderr")) if part)
            yield name, test["result"], test["duration"], output


# Take many seconds, for a whole machine or for time limits: as they are, and under sanitizers, is enough.
ONCE = ("sim-machine", "vpci", "vconfig", "ranges", "dma-helper", "dma-shared", "dma-model", "worker", "inventory", "tdictl", "handoff",
        "spdm-requester", "spdm-verify", "tdictl-screens", "tdictl-words")
# Read the tree, or what a program says of itself: the same in every variant.
TEXTS = ("abi", "audit-docs", "bus-api", "custody-worker", "exports", "installed", "lists", "polkit-actions", "policy-docs", "seam", "tdictl-docs",
         "when-things-go-wrong")
# Make no thread, and take the thread sanitizer seconds each.
ONE_THREAD = ("bench-policy", "chain", "client", "custody-explore", "inventory", "journal", "keeper-explore", "options-fuzz", "policy-load", "ranges",
              "record", "runs", "spdm-requester", "spdm-verify", "tdictl", "tdictl-policy", "tdictl-screens", "tdictl-words", "vconfig-rules")


def in_ci(variant, name):
    """Does CI run this unit test in this variant? --full does."""
    if variant is DEFAULT:
        return True
    return name not in (*TEXTS, *(ONE_THREAD if variant is TSAN else () if variant.env else ONCE))


def _names(folder):
    listed = child.run(["meson", "test", "-C", folder, "--no-rebuild", "--list"])
    return [line.split(" / ")[-1].strip() for line in listed.output.split("\n")
            if line.strip() and not line.startswith(("ninja:", "WARNING", "No tests"))]


def run_variant(report, builds, variant, limits, choose, seed):
    """The unit tests of a variant that are reported under another suite: but for those in limits (name: why not), and of those whom choose picks."""
    names = [n for n in _names(builds.folder(variant)) if report.selection.wants(variant.name, f"unit:{n}")]
    for name in [n for n in names if n in limits]:
        report.skipped(f"unit:{name}", limits[name])
    names = [n for n in names if n not in limits]
    names = choose(names) if choose else names
    if names:
        _run_tests(report, builds, variant, "unit", (), variant.slowness, names, seed)


def _run_unit(report, builds, variant, prefix, wrapper, slowness, full, seed):
    names = _names(builds.folder(variant))
    every = full or not report.selection.whole
    wanted = [n for n in names if report.selection.wants("unit", f"{prefix}:{n}") and (every or in_ci(variant, n))]
    if not wanted:
        if not names:
            report.skipped(f"{prefix}:*", "meson knows no tests")
        return
    _run_tests(report, builds, variant, prefix, wrapper, slowness, [] if len(wanted) == len(names) else wanted, seed, len(wanted))


def _run_tests(report, builds, variant, prefix, wrapper, slowness, wanted, seed, number=None):
    """wanted: all of them where it is empty; then number says how many there are."""
    number = number or len(wanted)
    folder, log = builds.folder(variant), builds.logs / f"unit-{variant.name if variant.cross else prefix}.log"
    for old in (folder / "meson-logs").glob("testlog*"):
        old.unlink()
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--timeout-multiplier", slowness,
               "--num-processes", 4 * os.cpu_count()]  # many of them mostly wait
    if wrapper:
        command += ["--wrapper", " ".join(wrapper)]
    command += wanted
    ended = child.run(command, log, env={**variant.env, "TDID_SEED": str(seed)})
    seen = 0
    for name, result, seconds, output in _meson_results(folder):
        seen += 1
        if result in ("OK", "EXPECTEDFAIL"):
            report.passed(f"{prefix}:{name}", seconds)
        elif result == "SKIP":
            reason = next((line for line in reversed(output.split("\n")) if line.strip()), "")
            report.skipped(f"{prefix}:{name}", reason)
        else:
            tail = "\n".join(output.rstrip("\n").split("\n")[-60:])
            report.failed(f"{prefix}:{name}", seconds, f"{result}\n{tail}", log)
    if seen < number:
        report.failed(f"{prefix}:*", ended.seconds, f"{number} tests were to run, {seen} have reported\n{ended.tail()}", log)


def run_units(report, builds, full, seed, **_):
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    # Without optimisation nothing runs that the sanitizers do not see as well: its tests are valgrind's, with --full.
    runs = [(v, v.name, v.wrapper, v.slowness) for v in VARIANTS if full or v is not O0 or not report.selection.whole]
    if full:
        runs.append((O0, "valgrind", ("valgrind", "-q", "--error-exitcode=99", "--leak-check=full",
                                      "--errors-for-leak-kinds=definite", "--trace-children=no"), 20))
    for variant, prefix, wrapper, slowness in runs:
        if not (report.selection.whole or report.selection.test.startswith("*")
                or report.selection.test.split(":")[0] in (prefix, "*")):
            continue
        ended, log = builds.compile(variant)
        if ended.code != 0:
            report.failed(f"{prefix}:*", 0, f"not run: {builds.folder(variant)} does not build", log)
            continue
        _run_unit(report, builds, variant, prefix, wrapper, slowness, full, seed)
