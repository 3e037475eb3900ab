# SPDX-License-Identifier: LGPL-2.1-or-later
"""Static checks of the C sources: clang-tidy with the tree's .clang-tidy, and cppcheck. Each tool is one test."""

import glob
import hashlib
import json
import os
import re
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import child
from builds import CACHE, VARIANTS

CPPCHECK = (
    "--enable=warning,performance,portability", "--inline-suppr", "--error-exitcode=1", "--quiet",
    "--suppress=missingIncludeSystem",  # it reads no system headers
    "--suppress=unknownMacro",  # nor macros from them
    # It does not know the cleanup attribute. LeakSanitizer and valgrind do find leaks.
    "--suppress=memleak", "--suppress=resourceLeak",
    "--suppress=varFuncNullUB",  # NULL is a pointer here, see POSIX
    # Lists are unreadable without their macros.
    *(f"--include={path}" for path in sorted(glob.glob("/usr/include/sys/queue.h") + glob.glob("/usr/include/*/sys/queue.h"))[:1]),
)


FINDING = re.compile(r"([^\s:]+\.[ch]):(\d+:\d+: (?:error|warning): .*)")
CLEAN = CACHE / "clang-tidy"


def _sources(folder, root):
    """The compile command of every source file of ours, by file."""
    with open(folder / "compile_commands.json", encoding="utf-8") as f:
        commands = {os.path.realpath(os.path.join(c["directory"], c["file"])): c["command"] for c in json.load(f)}
    inside = os.path.realpath(root) + os.sep
    return {f: c for f, c in sorted(commands.items()) if f.startswith(inside) and not f.startswith(inside + "build" + os.sep)}


def _key(folder, command, about):
    """A name for what clang-tidy would read: the source with everything it includes, comments and all. None when the
    preprocessor fails."""
    words = iter(shlex.split(command))
    kept = []
    for word in words:
        if word in ("-o", "-MF", "-MQ"):
            next(words)
        elif word not in ("-c", "-MD"):
            kept.append(word)
    done = subprocess.run([*kept, "-E", "-C"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return hashlib.sha256(about + done.stdout).hexdigest()[:32] if done.returncode == 0 else None


def _clang_tidy(report, folder, root, logs):
    log = logs / "lint-clang-tidy.log"
    begin = time.monotonic()
    version = subprocess.run(["clang-tidy", "--version"], stdout=subprocess.PIPE).stdout
    about = version + (root / ".clang-tidy").read_bytes()
    CLEAN.mkdir(parents=True, exist_ok=True)

    def check(item):
        file, command = item
        # It takes seconds a file: what was clean stays clean until something that it reads changes.
        key = _key(folder, command, about)
        clean = key and CLEAN / key
        if clean and clean.exists():
            clean.touch()
            return None
        ended = child.run([*child.BESIDE_A_VM, "clang-tidy", "--quiet", "--warnings-as-errors=*", "-p", folder, file])
        if ended.code == 0 and clean:
            clean.touch()
        return file, ended

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ended = [result for result in pool.map(check, _sources(folder, root).items()) if result]
    for old in sorted(CLEAN.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)[2000:]:
        old.unlink()
    wrong = [(os.path.relpath(file, root), e) for file, e in ended if e.code != 0]
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"== {file}\n{e.output}" for file, e in wrong))
    seconds = time.monotonic() - begin
    if not wrong:
        report.passed("clang-tidy", seconds)
        return
    # Each finding once, though every file that includes a header repeats those in it.
    findings = []
    for file, e in wrong:
        found = [(os.path.relpath(os.path.normpath(folder / m[1]), root), m[2])
                 for m in map(FINDING.match, e.output.split("\n")) if m]
        findings += [f"{name}:{text}" for name, text in found] or [f"{file}: {e.tail(10)}"]
    findings = list(dict.fromkeys(findings))
    more = [f"… and {len(findings) - 80} more"] if len(findings) > 80 else []
    report.failed("clang-tidy", seconds, "\n".join(findings[:80] + more), log)


def run_lint(report, builds, **_):
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    # clang's own compilation commands: gcc's have options that clang-tidy does not know.
    clang = next(v for v in VARIANTS if v.name == "clang")
    ended, log = builds.compile(clang)
    folder = builds.folder(clang)
    for name in ("clang-tidy", "cppcheck"):
        if not report.selection.wants("lint", name):
            continue
        if ended.code != 0:
            report.failed(name, 0, f"not run: {folder} does not build", log)
        elif name == "clang-tidy" and not (builds.root / ".clang-tidy").exists():
            report.skipped(name, "there is no .clang-tidy in the tree")
        elif name == "clang-tidy":
            _clang_tidy(report, folder, builds.root, builds.logs)
        else:
            cache = builds.root / "build/cppcheck"
            cache.mkdir(parents=True, exist_ok=True)
            log = builds.logs / "lint-cppcheck.log"
            report.result(name, child.run([*child.BESIDE_A_VM, "cppcheck", f"--project={folder}/compile_commands.json", f"-j{os.cpu_count()}",
                                           f"--cppcheck-build-dir={cache}", *CPPCHECK], log), log)
