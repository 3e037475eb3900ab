# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages: packaging/build makes them and has lintian look; what `meson install` installs is in exactly one of them; and in
the VM they are installed with dpkg onto a Debian 12 with systemd, upgraded under a VM that runs, removed and purged."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import child
from builds import CACHE, CCACHE, DEFAULT
from vm import QEMU_CRASH, QEMU_RETRIES, Lines

NAMES = ("libtdi-dev", "libtdi0", "tdictl", "tdid", "tdid-dkms")
TOOLS = ("clang", "debhelper", "dh-dkms", "dpkg-dev", "gcc", "libbpf-dev", "libc6-dev", "libjson-c-dev", "libnl-3-dev", "libpci-dev", "libseccomp-dev",
         "libsmartcols-dev", "libssl-dev", "libsystemd-dev", "lintian", "meson", "python3-docutils")
# debhelper adds these itself, and what README and docs are is said in packaging/debian.
OWN_FOLDERS = ("usr/share/doc/", "usr/share/lintian/")
OWN_FILES = ("etc/needrestart/conf.d/tdid.conf",)


def _key(root):
    """What the packages are made of: all sources but the tests, and the tools."""
    key = hashlib.sha256()
    listed = child.git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard") or b""
    names = [os.fsdecode(n) for n in listed.split(b"\0") if n]
    for name in sorted(n for n in names if not n.startswith(("tests/", ".ci/")) and (root / n).is_file()):
        key.update(name.encode() + b"\0" + (root / name).read_bytes())
    key.update(subprocess.run(["dpkg-query", "-W", *TOOLS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    return key.hexdigest()[:16] if names else None


def _packages(builds, log):
    """The folder with the packages, from the cache where they are there, and how making them has ended."""
    key = _key(builds.root)
    folder = CACHE / "packages" / (key or "no-git")
    if key and folder.is_dir():
        folder.touch()
        return folder, child.run(["true"], log)
    (CACHE / "packages").mkdir(parents=True, exist_ok=True)
    # One folder to build in: where the sources lie is in what the compiler is asked, and so in ccache's key.
    work = CACHE / "tmp/packages"
    made = Path(tempfile.mkdtemp(prefix="packages-made-", dir=CACHE / "packages"))
    env = dict(CCACHE)
    if shutil.which("ccache"):
        env["CC"] = "ccache gcc"
    work.mkdir(parents=True, exist_ok=True)
    ended = child.run(["flock", work.with_suffix(".lock"), *child.BESIDE_A_VM, builds.root / "packaging/build", made, "--work", work], log, env=env)
    shutil.rmtree(work, ignore_errors=True)
    if ended.code != 0:
        shutil.rmtree(made, ignore_errors=True)
        return None, ended
    made.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
    for old in sorted((p for p in folder.parent.iterdir()), key=lambda p: p.stat().st_mtime, reverse=True)[3:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder, ended


def _deb(folder, name):
    [path] = folder.glob(f"{name}_*.deb")
    return path


def _contents(path):
    listed = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE, check=True)
    listed = subprocess.run(["tar", "-t"], input=listed.stdout, stdout=subprocess.PIPE, check=True)
    return [line[2:] for line in listed.stdout.decode().split("\n") if line and not line.endswith("/")]


def _installed(folder):
    """What `meson install` of a build folder installs, as a package would call it."""
    for source, target in json.loads((folder / "meson-info/intro-installed.json").read_text()).items():
        source, target = Path(source), target.lstrip("/")
        below = [f"{target}/{p.relative_to(source)}" for p in source.rglob("*") if p.is_file()] if source.is_dir() and not source.is_symlink() else [target]
        for path in map(os.path.normpath, below):
            path = path + ".gz" if path.startswith("usr/share/man/") else path
            yield path.replace("usr/lib/systemd/system/", "lib/systemd/system/")


def _compare(folder, installed):
    where = {}
    for name in NAMES:
        for path in _contents(_deb(folder, name)):
            where.setdefault(path, []).append(name)
    wrong = [f"{path} is in {' and '.join(names)}" for path, names in where.items() if len(names) > 1]
    wrong += [f"{path} is installed, and in no package" for path in installed if path not in where]
    wrong += [f"{path} is in {names[0]}, and not installed by meson" for path, names in where.items()
              if path not in installed and path not in OWN_FILES and not path.startswith(OWN_FOLDERS)]
    return sorted(wrong)


def run_build(report, builds, **_):
    log = builds.logs / "packages.log"
    folder, ended = _packages(builds, log)
    if report.selection.wants("packages", "build"):
        report.result("build", ended, log)
    if not report.selection.wants("packages", "contents"):
        return
    compiled, build_log = builds.compile(DEFAULT)
    if not folder or compiled.code != 0:
        report.failed("contents", 0, "not run: the packages are not there" if not folder else "not run: the tree does not build", log if not folder else build_log)
        return
    wrong = _compare(folder, set(_installed(builds.folder(DEFAULT))))
    if wrong:
        report.failed("contents", 0, "\n".join(wrong))
    else:
        report.passed("contents", 0)


def _later(path, folder):
    """The same package as a later version, to upgrade to."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        tree = Path(scratch, "tree")
        subprocess.run(["dpkg-deb", "-R", path, tree], check=True)
        control = tree / "DEBIAN/control"
        lines = [line + "+later" if line.startswith("Version: ") else line for line in control.read_text().split("\n")]
        control.write_text("\n".join(lines))
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, folder], check=True, stdout=subprocess.DEVNULL)


def run_vm(report, builds, full, **_):
    # A boot with systemd and six runs of dpkg on an emulated processor: 60 s of it, and minutes where the machine is shared.
    if not full and report.selection.suite == "*":
        report.skipped("*", "left to --full, and to --only packages-vm")
        return
    log = builds.logs / "packages-vm.log"
    folder, ended = _packages(builds, builds.logs / "packages.log")
    if not folder:
        report.failed("*", ended.seconds, "not run: the packages do not build", builds.logs / "packages.log")
        return
    with tempfile.TemporaryDirectory(prefix="tdid-packages-", dir="/var/tmp") as name:
        share = Path(name)
        share.chmod(0o1777)
        for part in ("old", "new"):
            (share / part).mkdir()
        for package in ("libtdi0", "tdictl", "tdid"):
            shutil.copy(_deb(folder, package), share / "old")
            _later(_deb(folder, package), share / "new")
        shutil.copy(builds.root / "tests/vm/check-packages", share)
        for _ in range(QEMU_RETRIES + 1):
            ended = child.run([builds.root / "tests/vm/boot", "--bare", "--systemd", "--timeout", 600, "--share", share, "--", "/mnt/share/check-packages"], log,
                              timeout=720)
            if not QEMU_CRASH.search(ended.output):
                break
            report.say("        packages-vm: QEMU itself crashed or stood still: once more from the start")
        # Each step rests on the one before: only a whole run counts.
        lines = Lines(report, "packages-vm")
        for line in ended.output.split("\n"):
            lines.line(line)
        lines.flush()
        if (share / "transcript").exists():
            shutil.copy(share / "transcript", builds.logs / "packages-vm-transcript")
        if not lines.seen or ended.code != 0 and not lines.failed:
            report.failed("boot", ended.seconds, f"the VM ended with code {ended.code} after {lines.seen} results\n{ended.tail()}", log)
