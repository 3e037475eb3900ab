# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The modules of tests/kmod from the scenarios' side: the test TSM with its rules and its log of calls, and the driver that
# will not let go; and tdid's own module, the bind provider. It decides nothing about tdid.

import os
import subprocess
from dataclasses import dataclass

from kit.checks import Failure, eventually

DEBUG = "/sys/kernel/debug"
TSM_FOLDER = DEBUG + "/tdid_test_tsm"
STICK_PARAMETERS = "/sys/module/tdid_test_stick/parameters"
RESET_PARAMETERS = "/sys/module/tdid_test_reset/parameters"


def _write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def loaded(module):
    return os.path.isdir("/sys/module/" + module)


@dataclass
class Call:
    seq: int
    op: str
    bdf: str
    result: str  # "-" while it is going on
    detail: str


class TestTsm:
    """The module tdid_test_tsm. The marks of `devs` make their functions TEE-capable while it is loaded."""

    module = "tdid_test_tsm"

    def __init__(self, folder):
        self.file = os.path.join(folder, self.module + ".ko")

    def load(self, devs=(), **parameters):
        if not os.path.ismount(DEBUG):
            _run("mount", "-t", "debugfs", "debugfs", DEBUG)
        args = [f"devs={','.join(devs)}"] if devs else []
        args += [f"{k}={v}" for k, v in parameters.items()]
        _run("insmod", self.file, *args)
        eventually(lambda: self.names(), "a TSM in /sys/class/tsm")
        return self.names()[0]

    def unload(self):
        if loaded(self.module):
            try:
                self.release()
            except OSError:
                pass
            # Something may be looking at its files just now.
            eventually(lambda: _run("rmmod", self.module) or True, "rmmod of the test TSM", 20)

    @staticmethod
    def names():
        try:
            return sorted(os.listdir("/sys/class/tsm"))
        except OSError:
            return []

    def rule(self, op, bdf="*", **options):
        """err=ERRNO, delay=MILLISECONDS, skip=N, count=N; see tests/kmod/tsm_rules.c."""
        _write(TSM_FOLDER + "/rules", " ".join([op, bdf] + [f"{k}={v}" for k, v in options.items()]))

    def clear(self):
        _write(TSM_FOLDER + "/rules", "clear")

    def iommu_event(self, bdf, number, address):
        """The vIOMMU of a function reports an event of it, by its number in Arm's SMMUv3."""
        _write(TSM_FOLDER + "/event", f"{bdf} {number} {address}")

    def set_object(self, number, data):
        """What it has collected of every device, by RHI's numbers; from then on it is asked for that as Arm CCA's host driver is."""
        fd = os.open(f"{TSM_FOLDER}/object{number}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def release(self):
        """Ends every delay that is going on."""
        _write(TSM_FOLDER + "/rules", "release")

    def calls(self, op=None, bdf=None):
        out = []
        with open(TSM_FOLDER + "/log", encoding="utf-8") as file:
            for line in file:
                seq, name, where, result, _, *detail = line.rstrip("\n").split(" ")
                out.append(Call(int(seq), name, where, result, " ".join(detail)))
        return [c for c in out if op in (None, c.op) and bdf in (None, c.bdf)]

    def count(self, op, bdf=None):
        """How many calls of a kind have ended without an error since the log was cleared."""
        return len([c for c in self.calls(op, bdf) if c.result == "0"])

    def running(self, op, bdf=None):
        return [c for c in self.calls(op, bdf) if c.result == "-"]

    def clear_log(self):
        _write(TSM_FOLDER + "/log", "clear")


class BindModule:
    """tdid's own module: the bind provider."""

    module = "tdid_bind"

    def __init__(self, folder):
        _run("insmod", os.path.join(folder, "tdid-bind.ko"))

    def close(self):
        if loaded(self.module):
            eventually(lambda: _run("rmmod", self.module) or True, "rmmod of the bind provider", 20)


class EvidenceModule:
    """The module tdid_test_evidence: a device-evidence family in which devices say what the test wants."""

    module = "tdid_test_evidence"
    folder = "/sys/kernel/debug/tdid_test_evidence"

    def __init__(self, folder):
        _run("insmod", os.path.join(folder, self.module + ".ko"))

    def close(self):
        if loaded(self.module):
            _run("rmmod", self.module)

    def add(self, bdf):
        """A device of which there is nothing yet."""
        _write(self.folder + "/devices", bdf)

    def set_object(self, bdf, name, data):
        """vca, slot0, …: all of it."""
        with open(f"{self.folder}/{bdf}/{name}", "wb") as file:
            file.write(data)

    def refresh(self, bdf, how):
        """What a nonce does: "none", "wait"."""
        _write(f"{self.folder}/{bdf}/refresh", how)

    def nonce(self, bdf):
        """How many there have been, and the last."""
        with open(f"{self.folder}/{bdf}/nonce", encoding="ascii") as file:
            count, _, digits = file.read().strip().partition(" ")
        return int(count), bytes.fromhex(digits)


class StickDriver:
    """The module tdid_test_stick: a host driver whose unbinding and binding hang or fail on demand."""

    module = "tdid_test_stick"

    def __init__(self, folder):
        self.file = os.path.join(folder, self.module + ".ko")

    def load(self):
        _run("insmod", self.file)

    def unload(self):
        if loaded(self.module):
            for parameter in ("stick", "probe_stick", "probe_err"):
                self.set(parameter, 0)
            eventually(lambda: _run("rmmod", self.module) or True, "rmmod of the sticky driver", 20)

    @staticmethod
    def set(parameter, value):
        """stick, probe_stick: 1 or 0; probe_err: an errno."""
        _write(f"{STICK_PARAMETERS}/{parameter}", str(value))

    @staticmethod
    def stuck():
        with open(STICK_PARAMETERS + "/stuck", encoding="utf-8") as file:
            return int(file.read())


class SlowReset:
    """The module tdid_test_reset: the next reset of a function takes as long as the kernel waits for one, or until it is cleared."""

    module = "tdid_test_reset"

    def __init__(self, folder):
        _run("insmod", os.path.join(folder, self.module + ".ko"))

    def close(self):
        if loaded(self.module):
            self.clear()
            _run("rmmod", self.module)

    @staticmethod
    def hang(bdf):
        _write(f"{RESET_PARAMETERS}/hang", bdf)

    @staticmethod
    def clear():
        """The kernel finds out by its next look, and looks less and less often: after as long as it has waited by then, at most."""
        _write(f"{RESET_PARAMETERS}/hang", "\n")

    @staticmethod
    def hung():
        """How many resets hang, or did; of those that were cleared too, or not."""
        with open(RESET_PARAMETERS + "/resets", encoding="utf-8") as file:
            return int(file.read())
