# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds tdid in every variant and runs every test of the tree.

What takes long (a kernel, the VM's root image) is made once and kept in ~/.cache/tdid (or $XDG_CACHE_HOME/tdid); it may be
removed at any time. Build folders and logs are in build/.
"""

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import arm64
import builds
import child
import conformance
import fuzz
import libvirt
import lint
import model
import packages
import sim
import vm
from report import Report, Selection

ROOT = Path(__file__).resolve().parent.parent.parent

# needs: the parts of the cache that must be there before the suite starts. slow: left out by --quick. lane: suites run one
# after another, but two lanes, that of the VM and what goes well beside it (a and b), run side by side: a VM spends half of its time
# waiting. So do unit tests (lane u), beside which the sources are checked (v).
Suite = namedtuple("Suite", "name about function needs slow lane", defaults=("",))
VM_NEEDS = ("fetch-qemu", "build-root", "build-kernel", "fetch-qemu-client", "build-guest", "build-client")
SUITES = (
    Suite("build", "every variant compiles without a warning", builds.run_builds, (), False),
    Suite("unit", "unit tests in every variant", builds.run_units, ("fetch-headers",), False, "u"),
    Suite("lint", "clang-tidy and cppcheck", lint.run_lint, (), False, "v"),
    Suite("arm64", "built for arm64, unit tests and scenarios under qemu-user", arm64.run_arm64, ("fetch-arm64",), False, "v"),
    Suite("modules", "the test kernel modules compile without a warning", vm.run_modules, ("build-kernel",), True),
    Suite("sim", "scenarios on the simulation", sim.run_plain, (), False),
    Suite("sim-asan", "the same scenarios, with ASan and UBSan", sim.run_asan, (), False, "b"),
    Suite("sim-tsan", "the same scenarios, with the thread sanitizer", sim.run_tsan, (), False, "b"),
    Suite("sim-matrix", "host calls that fail, and processes that die at one", sim.run_matrix, (), False, "b"),
    Suite("model", "every state of the custody engine; with --full random operations on the simulation, too", model.run_model, (), False, "b"),
    Suite("conformance", "calls recorded on the real kernel, on the simulation", conformance.run_corpus, (), False, "b"),
    Suite("fuzz", "some seconds of every fuzz target", fuzz.run_fuzz, (), False, "b"),
    Suite("guest", "the guest of the vfio-user scenarios, with QEMU's own device", vm.run_guest, ("fetch-qemu-client", "build-guest"), True, "b"),
    Suite("packages", "Debian packages: built, lintian, what is in which", packages.run_build, (), False, "b"),
    Suite("packages-vm", "with --full: the packages installed, upgraded under a VM, removed, purged", packages.run_vm, ("fetch-qemu", "build-root", "build-kernel"), True, "b"),
    Suite("libvirt", "domains of a real libvirtd, on the simulation", libvirt.run_libvirt, ("fetch-qemu-client", "build-guest"), True, "b"),
    Suite("vm", "scenarios on a real kernel", vm.run_plain, VM_NEEDS, True, "a"),
    Suite("vm-asan", "the same scenarios, with ASan and UBSan", vm.run_asan, VM_NEEDS, True, "b"),
    Suite("conformance-vm", "the same calls on the real kernel, and new ones", conformance.run_vm, VM_NEEDS, True, "a"),
    Suite("vm-systemd", "scenarios under systemd", vm.run_systemd, VM_NEEDS, True, "a"),
)
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BUDGET_COLD, BUDGET_WARM = 60 * 60, 20 * 60

HELP = """
suites: {}

  --only unit            a suite
  --only 'vm*'           several
  --only vm/claim        tests of a suite whose name contains "claim"
  --only 'unit/asan:*'   the unit tests of one variant
  --only edu_dma         that test in every suite that has it

Sampled tests print their seed: that of the commit's tree, with --full a new one each time; TDID_SEED=N in the environment
sets it. The whole run has a budget: 20 minutes when the cache was warm, 60 otherwise; a run over it fails. --full and
--only have none.
"""


def prepare(report, needs):
    """Fills the cache. Returns what could not be made."""
    missing = set()
    report.begin("prepare", "headers, QEMU, root image, kernel and guest, from the cache where they are there")
    for name in needs:
        log = ROOT / f"build/logs/prepare-{name}.log"
        ended = child.run([ROOT / "tests/vm" / name], log, on_line=lambda line: report.say("  " + line))
        if ended.code != 0:
            missing.add(name)
            report.failed(name, ended.seconds, ended.tail(), log)
    report.end()
    return missing


def is_warm(needs):
    """Whether nothing of that would have to be made, and not everything compiled and checked."""
    made = all((builds.CACHE / name).is_dir() for name in ("ccache", "clang-tidy"))
    return made and not os.environ.get("TDID_TEST_COLD") and all(
        subprocess.run([ROOT / "tests/vm" / name, "--cached"], stdout=subprocess.DEVNULL).returncode == 0 for name in needs)


def list_tests(suites, made):
    """Names of the tests as far as they can be known without building anything."""
    for suite in suites:
        names = []
        if suite.name == "build":
            names = [v.name for v in builds.VARIANTS]
        elif suite.name == "lint":
            names = ["clang-tidy", "cppcheck"]
        elif suite.name == "modules":
            names = ["build"]
        elif suite.name in ("guest", "arm64", "packages-vm"):
            names = []
        elif suite.name == "packages":
            names = ["build", "contents"]
        elif suite.name.startswith(("conformance", "sim-matrix", "model")):
            names = []
        elif suite.name == "unit":
            for variant in builds.VARIANTS:
                folder = made.folder(variant)
                if (folder / "build.ninja").exists() and shutil.which("meson"):
                    listed = subprocess.run(["meson", "test", "-C", folder, "--no-rebuild", "--list"],
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                    names += [f"{variant.name}:{line.split(' / ')[-1].strip()}" for line in listed.stdout.split("\n") if line]
        elif suite.name == "fuzz":
            names = sorted(p.name[len("fuzz-"):].split(".")[0] for p in (ROOT / "tests").rglob("fuzz-*.c"))
        elif suite.name == "libvirt":
            names = vm.scenarios(ROOT, systemd=False, tag="libvirt")
        elif suite.name.startswith("sim"):
            names = vm.scenarios(ROOT, systemd=False)
        else:
            names = ["topology", "kernel-log"] + (["sanitizers"] if suite.name == "vm-asan" else [])
            if (ROOT / vm.GUEST_RUNNER).exists():
                names += vm.scenarios(ROOT, suite.name == "vm-systemd")
        for name in names or ["*"]:
            print(f"{suite.name}/{name}")


def seed_of_tree(full):
    """Whoever runs the CI tier on a commit runs the sample that CI took of it, and the next commit's is another. None: --full, no git."""
    if full:
        return None
    tree = child.git(ROOT, "rev-parse", "HEAD^{tree}")
    return int(tree[:7], 16) if tree else None


def parse():
    parser = argparse.ArgumentParser(prog="tests/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog=HELP.format(" ".join(s.name for s in SUITES)))
    parser.add_argument("--quick", action="store_true", help="leave out what needs a VM or its kernel")
    parser.add_argument("--full", action="store_true",
                        help="whole lists instead of samples, and the long variants: valgrind, ten minutes a fuzz target")
    parser.add_argument("--only", metavar="PATTERN", help="only matching suites or tests, see below")
    parser.add_argument("--serial", action="store_true", help="one VM at a time; takes longer, disturbs timing less")
    parser.add_argument("--list", action="store_true", help="print the names of the tests and run none")
    return parser.parse_args()


def run_suite(suite, report, made, full, seed, missing):
    report.begin(suite.name, suite.about)
    lacking = missing & set(suite.needs)
    try:
        if lacking and suite.slow:
            report.skipped("*", f"not run: {' and '.join(sorted(lacking))} failed")
        else:
            suite.function(report=report, builds=made, full=full, seed=seed)
    except child.Stopped:
        return
    except Exception:  # noqa: BLE001 - a mistake of the runner must not look like a run without failures
        report.failed("*", 0, "the test runner itself failed\n" + traceback.format_exc())
    report.end()


def run_suites(suites, serial, run):
    """All in order; the lanes of suites that stand together side by side."""
    for beside, some in itertools.groupby(suites, lambda suite: {"": None, "u": "unit", "v": "unit"}.get(suite.lane, "vm")):
        if serial or not beside:
            for suite in some:
                run(suite)
        else:
            run_lanes(some, run)


def run_lanes(suites, run):
    lanes = {}
    for suite in suites:
        lanes.setdefault(suite.lane, []).append(suite)
    with ThreadPoolExecutor(max(len(lanes), 1)) as pool:
        for lane in [pool.submit(lambda lane=lane: [run(suite) for suite in lane]) for lane in lanes.values()]:
            lane.result()


def main():
    args = parse()
    selection = Selection(args.only, [s.name for s in SUITES])
    suites = [s for s in SUITES if selection.wants_suite(s.name) and not (args.quick and s.slow)]
    made = builds.Builds(ROOT)
    if args.list:
        list_tests(suites, made)
        return 0
    os.chdir(ROOT)
    report = Report(selection)

    def interrupted(*_):
        for number in INTERRUPTIONS:
            signal.signal(number, signal.SIG_IGN)
        report.close()
        child.end_all()
        raise KeyboardInterrupt

    for number in INTERRUPTIONS:
        signal.signal(number, interrupted)
    seed = int(os.environ.get("TDID_SEED") or seed_of_tree(args.full) or random.SystemRandom().randrange(1, 1 << 31))
    needs = list(dict.fromkeys(n for s in suites for n in s.needs))
    warm = is_warm(needs)
    begin = time.monotonic()
    report.say(f"cache: {'warm' if warm else 'cold'}; seed {seed} (TDID_SEED={seed} repeats it)")
    child.heartbeat(lambda: f"{' and '.join(report.running) or 'nothing'} running")
    stopped = False
    try:
        missing = prepare(report, needs) if needs else set()
        run_suites(suites, args.serial, lambda s: run_suite(s, report, made, args.full, seed, missing))
    except KeyboardInterrupt:
        stopped = True
    seconds = time.monotonic() - begin

    print(report.table())
    ok = report.count("FAILED") == 0 and not stopped
    if args.only and not report.results and not stopped:
        print(f"\nno test is called like '{args.only}'; tests/run --list prints the names")
        ok = False
    budget = BUDGET_WARM if warm else BUDGET_COLD
    if seconds > budget and not (args.full or args.only):
        print(f"\nover budget: {seconds:.0f} s, and {budget} s are allowed with a {'warm' if warm else 'cold'} cache")
        ok = False
    if stopped:
        print("\ninterrupted: not everything was run")
    print(report.last_line(), flush=True)
    return 0 if ok else 130 if stopped else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Threads of a run that was interrupted may still wait for a child that has just been ended: do not wait for them.
    os._exit(code)
