# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A recorded sequence: from the raw lines of tests/conformance/record to steps in one order, and the compact file that the corpus
# is made of. It compares nothing: that is replay's.
#
# A step is a dictionary: op; r (what the kernel returned; absent when its caller was killed meanwhile); t, d (start and duration in
# microseconds); and what the call was about. Files have numbers: "f". Descriptors that no traced call made are described: "new".

import json
import lzma
import re
import tarfile

BDF = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
DELETED = " (deleted)"
# Calls that change nothing: what they say is state.
LOOKS = ("file-read", "readlink", "list", "address")
KERNEL_LINE = re.compile(r"^\s*(.+)-(\d+)\s+\[\d+\] \S+\s+(\d+)\.(\d+): (\w+): .*file=(0x[0-9a-f]+)")


def raw_lines(tar):
    """(pid, line) of every process, each process's in order."""
    for member in tar.getmembers():
        if not member.name.endswith(".jsonl"):
            continue
        pid = member.name.removesuffix(".jsonl")
        begun = None
        for text in tar.extractfile(member).read().decode().splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue  # its process was killed while it wrote
            if "begin" in line:
                begun = line
                continue
            begun = None
            yield pid, line
        if begun:
            begun["t0"] = begun["t1"] = begun.pop("begin")
            yield pid, begun


def kernel_events(tar):
    """(time, pid, event, file) of the kprobes."""
    for text in tar.extractfile("kernel").read().decode().splitlines():
        match = KERNEL_LINE.match(text)
        if match:
            _, pid, seconds, rest, event, file = match.groups()
            yield int(seconds) * 1_000_000_000 + int(rest.ljust(9, "0")), pid, event, file


class Files:
    """Who is who among the files of one sequence."""

    def __init__(self):
        self.by_mark = {}
        self.count = 0

    @staticmethod
    def mark(seen):
        # A dma-buf shows the name that it was given.
        return seen["mark"], seen["what"].removesuffix(DELETED).split(":")[0] if seen["what"].startswith("/dmabuf:") else seen["what"].removesuffix(DELETED)

    def made(self, seen):
        number = self.count
        self.count += 1
        self.by_mark[self.mark(seen)] = number
        return number

    def find(self, seen):
        """The number of a file that a call was made on or with; or what it is, for one that no traced call made."""
        number = None if seen.get("foreign") else self.by_mark.get(self.mark(seen))
        if number is not None:
            return {"f": number}
        if seen["mark"] < 0:
            return {"new": "bad"}
        what = seen["what"].removesuffix(DELETED)
        new = {"new": what}
        if what.startswith("/memfd:"):
            new = {"new": "memfd", "length": seen["length"], "seals": seen["seals"]}
        number = self.made(seen)
        return {"f": number, **new}


class Builder:
    """Steps from lines."""

    def __init__(self, about):
        self.about = about
        self.files = Files()
        self.steps = []
        self.pending = {}  # per process: the file step being put together
        self.opens = []    # (t0, t1, pid, number) of device nodes
        self.closes = []   # steps

    def add(self, line, **what):
        step = {**what, "t0": line["t0"], "t1": line["t1"]}
        if "r" in line:
            step["r"] = line["r"]
        self.steps.append(step)
        return step

    def flush(self, pid):
        pending = self.pending.pop(pid, None)
        if pending:
            if any("r" not in call for call in pending["calls"]):
                del pending["r"]
            self.steps.append(pending)

    @staticmethod
    def content(line):
        return {k: line[k] for k in ("text", "data") if k in line}

    def line(self, pid, line):
        op = line["op"]
        pending = self.pending.get(pid)
        if pending and op in ("pread", "pwrite", "close") and line["fd"] == pending["fd"]:
            pending["t1"] = line["t1"]
            if op == "close":
                del pending["fd"]
                self.flush(pid)
                return
            call = {"op": op, "size": line["size"], "offset": line["offset"], **self.content(line)}
            if "r" in line:
                call["r"] = line["r"]
            pending["calls"].append(call)
            if op == "pwrite":
                pending["op"] = "file-write"
            return
        self.flush(pid)
        getattr(self, "line_" + op)(pid, line)

    def line_open(self, pid, line):
        path, flags = line["path"], line["flags"]
        result = line.get("r")
        if result is not None and result >= 0:
            if path.startswith(("/sys/", "/proc/")):
                self.files.made(line["made"])
                self.pending[pid] = {"op": "file-read", "path": path, "flags": flags, "calls": [], "fd": result, "t0": line["t0"],
                                     "t1": line["t1"], "r": 0}
                return
            number = self.files.made(line["made"])
            line["r"] = 0
            self.add(line, op="open", path=path, flags=flags, f=number)
            self.opens.append((line["t0"], line["t1"], pid, number))
        else:
            self.add(line, op="open", path=path, flags=flags)

    def line_close(self, _pid, line):
        ref = self.files.find(line)
        if "f" in ref and "new" not in ref:
            self.closes.append(self.add(line, op="close", f=ref["f"]))

    def line_pread(self, _pid, line):
        self.add(line, op="pread", file=self.files.find(line), size=line["size"], offset=line["offset"], **self.content(line))

    def line_pwrite(self, _pid, line):
        self.add(line, op="pwrite", file=self.files.find(line), size=line["size"], offset=line["offset"], **self.content(line))

    def line_ioctl(self, _pid, line):
        what = {k: line[k] for k in ("request", "name", "value", "in", "out", "made_at", "pack") if k in line}
        step = self.add(line, op="ioctl", file=self.files.find(line), fds=[self.files.find(f) for f in line.get("fds", [])], **what)
        if "made" in line:
            step["f"] = self.files.made(line["made"])
            if "made_at" not in line:
                step["r"] = 0

    def line_readlink(self, _pid, line):
        self.add(line, op="readlink", path=line["path"], **self.content(line))

    def line_list(self, _pid, line):
        self.add(line, op="list", path=line["path"], names=line.get("names"))

    def line_address(self, _pid, line):
        self.add(line, op="address", path=line["path"])

    def line_uevent(self, pid, line):
        self.add(line, op="uevent", p=pid, **{k: line[k] for k in ("action", "subsystem", "devpath") if k in line})

    def line_write(self, _pid, line):
        self.add(line, op="write", path=line["path"], text=line["text"])

    def line_act(self, _pid, line):
        step = self.add(line, op="act", what=line["what"], args=line["args"], kwargs=line.get("kwargs", {}))
        if line["what"] == "open_vfio":
            # The kernel tells when it is closed.
            step["f"] = self.files.count
            self.files.count += 1
            self.opens.append((line["t0"], line["t1"], None, step["f"]))

    def kernel(self, events):
        """Which close was the last one, and what was closed without a call."""
        number_of = {}
        releases = {}
        for when, pid, event, file in events:
            if event.endswith("_open"):
                number_of[file] = next((n for t0, t1, p, n in self.opens if p in (None, pid) and t0 <= when <= t1), None)
            elif number_of.get(file) is not None:
                releases[number_of[file]] = when, pid
        kernel_files = set(n for n in number_of.values() if n is not None) | set(releases)
        last_use = {}
        for step in self.steps:
            for ref in [step.get("file", {}), *step.get("fds", []), step]:
                if "f" in ref:
                    last_use[ref["f"]] = max(last_use.get(ref["f"], 0), step["t0"])
        for step in self.closes:
            release = releases.get(step["f"])
            if self.about["kind"] == "random":
                step["last"] = True
            elif step["f"] in kernel_files:
                step["last"] = release is not None and step["t0"] <= release[0] <= step["t1"]
            else:
                step["last"] = last_use[step["f"]] <= step["t0"]
        closed = {step["f"] for step in self.closes if step["last"]}
        for number, (when, _) in releases.items():
            if number not in closed:
                self.steps.append({"op": "release", "f": number, "t0": when, "t1": when})


def build(path):
    """The sequence of a raw recording: {"name", "kind", …, "steps"}."""
    with tarfile.open(path) as tar:
        about = json.load(tar.extractfile("about.json"))
        builder = Builder(about)
        # Who made a file is known before anybody uses it: lines in the order in which the calls ended.
        lines = sorted(raw_lines(tar), key=lambda pl: pl[1]["t1"])
        for pid, line in lines:
            builder.line(pid, line)
        for pid in list(builder.pending):
            builder.pending[pid].pop("fd", None)
            builder.flush(pid)
        builder.kernel(list(kernel_events(tar)))
    steps = sorted(builder.steps, key=lambda s: s["t1"])
    start = min((s["t0"] for s in steps), default=0)
    for step in steps:
        t0, t1 = step.pop("t0"), step.pop("t1")
        step["t"], step["d"] = (t0 - start) // 1000, (t1 - t0) // 1000
    return {**about, "steps": steps}


# ---- the corpus ----

def is_look(step):
    return step["op"] in LOOKS


def look_key(step):
    return json.dumps({k: v for k, v in step.items() if k not in ("t", "d")}, sort_keys=True)


def touched(sequence):
    """The functions that something was done to, with those on their buses."""
    done = {b for step in sequence["steps"] if not is_look(step) and step["op"] != "uevent" for b in BDF.findall(json.dumps(step))}
    seen = {b for step in sequence["steps"] for b in BDF.findall(step.get("path", ""))}
    return {b for b in seen if any(b[:7] == d[:7] for d in done)} | done


def thin(sequence, seen):
    """
    Leaves out what is equal: a look that says what the same look has said already, with nothing done in between; and one at the
    beginning, before anything was done, or at a function that nothing is done to, that another sequence of the corpus has as well (seen: those).
    """
    kept, here, started = [], set(), False
    near = touched(sequence)
    for step in sequence["steps"]:
        if is_look(step):
            key = look_key(step)
            found = set(BDF.findall(step["path"]))
            if key in here or (key in seen and (not started or (found and not found & near))):
                continue
            here.add(key)
            seen.add(key)
        elif step["op"] not in ("uevent",):
            here.clear()
            started = True
        kept.append(step)
    return {**sequence, "steps": kept}


def save(path, sequences):
    with lzma.open(path, "wb", preset=9 | lzma.PRESET_EXTREME) as file:
        for sequence in sequences:
            head = {k: v for k, v in sequence.items() if k != "steps"}
            file.write((json.dumps(head, sort_keys=True) + "\n").encode())
            for step in sequence["steps"]:
                file.write((json.dumps(step, separators=(",", ":")) + "\n").encode())


def load(path):
    sequences = []
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if "op" in line:
                sequences[-1]["steps"].append(line)
            else:
                sequences.append({**line, "steps": []})
    return sequences
