# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A process that opens and maps what it is told to: tests/vm/programs/mapper.c, whose commands these are. And what of a function can be
# mapped at all, by every way that leads there.

import os
import re
import stat
import subprocess

from kit.checks import Failure
from kit.daemon import die_with_us


class Mapper:
    def __init__(self, t):
        self.process = subprocess.Popen([os.path.join(t.paths.programs, "mapper")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        bufsize=1, preexec_fn=die_with_us)
        t.after(self.end)

    @property
    def pid(self):
        return self.process.pid

    def do(self, *words):
        """One command: its result, 0 or more, or the name of an errno."""
        self.send(*words)
        return self.answer()

    def send(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise Failure("mapper has ended")
        return line[1:] if line.startswith("-") else int(line)

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def need(self, *words):
        result = self.do(*words)
        if not isinstance(result, int):
            raise Failure(f"{words}: {result}")
        return result


def memory_bar(host, bdf):
    """(number, first address, size) of the first BAR with memory."""
    for number, line in enumerate(host.read(bdf, "resource").splitlines()[:6]):
        start, end, flags = (int(word, 16) for word in line.split())
        if flags & 0x200 and end > start:
            return number, start, end - start + 1
    raise Failure(f"{bdf} has no BAR with memory")


def prefetchable_bar(host, bdf):
    """The number of the first BAR whose memory may be written in bursts: that of which sysfs has a resourceN_wc too."""
    for number, line in enumerate(host.read(bdf, "resource").splitlines()[:6]):
        start, end, flags = (int(word, 16) for word in line.split())
        if flags & 0x2200 == 0x2200 and end > start:
            return number
    raise Failure(f"{bdf} has no BAR that is prefetchable")


def proc_entry(bdf, folder="/proc"):
    return f"{folder}/bus/pci/{bdf[5:7]}/{bdf[8:]}"


def node_number(path):
    number = os.stat(path).st_rdev
    assert stat.S_ISCHR(os.stat(path).st_mode)
    return os.major(number), os.minor(number)


class Ways:
    """
    All ways to a function's BARs. A way is (name, command of opening it, words of the mapping); open_all() may come long before map_all().
    """

    PAGE = 4096

    def __init__(self, t, bdf, mapper, sysfs="/sys", proc="/proc", files=("resource", "resource_wc", "proc")):
        self.t, self.bdf, self.m = t, bdf, mapper
        self.bar, self.address, self.size = memory_bar(t.host, bdf)
        device = f"{sysfs}/bus/pci/devices/{bdf}"
        self.files = {"resource": f"{device}/resource{self.bar}", "proc": proc_entry(bdf, proc)}
        if os.path.exists(t.host.path(bdf, f"resource{self.bar}_wc")):
            self.files["resource_wc"] = f"{device}/resource{self.bar}_wc"
        self.files = {name: path for name, path in self.files.items() if name in files}
        self.names = []

    def close(self, *kinds):
        """Those whose name has one of these words; all of them without any."""
        for name in [n for n in self.names if not kinds or any(kind in n for kind in kinds)]:
            self.m.need("close", name)
            self.names.remove(name)

    def prefix(self, name):
        return f"{name}:{self.bdf}"

    def open_files(self, how=""):
        """sysfs and procfs; read-only, as a mapping of that kind needs no more."""
        for name, path in self.files.items():
            self._open(name + how, path, "r")
        return self

    def open_node(self, how=""):
        """The VFIO node; one of the same number elsewhere; its group's."""
        node = self.t.host.vfio_node(self.bdf)
        self._open("cdev" + how, node, "rw")
        major, minor = node_number(node)
        made = f"/dev/tdid-test-{re.sub('[^0-9a-z]', '-', self.bdf)}"
        if os.path.exists(made):
            os.unlink(made)
        self.m.need("mknod", made, major, minor)
        self._open("mknod" + how, made, "rw")
        os.unlink(made)
        return self

    def open_derived(self):
        """Of each that is open: a duplicate, one that was passed, one that was opened again."""
        for name in list(self.names):
            for kind in ("dup", "pass"):
                self.m.need(kind, f"{kind}-{name}", name)
                self.names.append(f"{kind}-{name}")
            self.m.need("reopen", f"again-{name}", "r" if "cdev" not in name and "mknod" not in name else "rw", name)
            self.names.append(f"again-{name}")
        return self

    def _open(self, name, path, mode):
        name = self.prefix(name)
        self.m.need("open", name, mode, path)
        self.names.append(name)

    def results(self):
        """What a mapping of each way comes to: {way: errno or 0}."""
        found = {}
        for name in self.names:
            offset = 0
            if "proc" in name:
                self.m.do("mem", name)
                offset = self.address
            found[name] = self.m.do("mmap", name, self.PAGE, offset)
        return found
