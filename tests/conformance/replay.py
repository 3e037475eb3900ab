# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes the calls of a recorded sequence on a simulation, one by one in the recorded order, and says where it answers otherwise
# than the kernel did. What is not compared, and why, is in masks.py.

import json
import os
import threading
import time

import masks
import sequence as sequences
from calls import ID_IN, ID_OUT, Calls
from kit import simclient

# A call that took so long, with others made meanwhile, is waited for no earlier than the kernel ended it.
LONG_US = 100_000
GRACE = 0.05
PATIENCE = 20.0


def show(value, limit=300):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else text[:limit] + f"… ({len(text)} characters)"


def describe(step):
    """A call in one line."""
    if step["op"] in ("file-read", "file-write"):
        done = ", ".join(f"{c['op']}({c['size']}@{c['offset']}" + (f", {c.get('text', c.get('data'))!r}" if c["op"] == "pwrite" else "") + ")"
                         for c in step["calls"])
        return f"{step['path']}: {done}"
    words = [step["op"], step.get("name", ""), step.get("path", ""), step.get("what", "")]
    if "file" in step:
        words.append(f"on file {step['file'].get('f')}")
    if "in" in step:
        words.append("in " + show(step["in"], 200))
    if "value" in step:
        words.append(f"value {step['value']}")
    for key in ("size", "offset", "args", "text", "flags"):
        if key in step and step["op"] != "readlink":
            words.append(f"{key} {show(step[key], 80)}")
    return " ".join(w for w in words if w)


class Difference:
    def __init__(self, name, number, step, kernel, simulation):
        self.sequence = name
        self.number = number
        self.step = step
        self.kernel = kernel
        self.simulation = simulation

    def __str__(self):
        return (f"{self.sequence}, call {self.number}: {describe(self.step)}\n"
                f"    kernel:     {show(self.kernel, 700)}\n    simulation: {show(self.simulation, 700)}")


class Replay(Calls):
    # ---- comparing ----

    def mask(self, name):
        self.masked[name] = self.masked.get(name, 0) + 1

    def content(self, path, call, seen, offset=0):
        """(kernel, simulation) of some bytes, canonical; equal when nothing differs."""
        kernel, simulation = self.bytes_of(call), seen.get("bytes", b"")
        name, kernel, simulation = masks.content(self, path, offset, kernel, simulation)
        if name:
            self.mask(name)
            return {"bytes": kernel.decode("latin-1")}, {"bytes": simulation.decode("latin-1")}
        return {"r": call["r"], "bytes": kernel.decode("latin-1")}, {"r": seen["r"], "bytes": simulation.decode("latin-1")}

    def judge(self, step, seen):
        """None, or (kernel, simulation) where they differ."""
        kernel, simulation = self.views(step, seen)
        return None if kernel == simulation else (kernel, simulation)

    def views(self, step, seen):
        op = step["op"]
        # What scenarios do by themselves is no call of the kernel's.
        if "r" not in step or op in ("release", "act"):
            return None, None
        kernel, simulation = {"r": step["r"]}, {"r": seen["r"]}
        if seen["r"] is None or step["r"] < 0 or seen["r"] < 0:
            if op == "ioctl" and step["r"] == seen["r"]:
                return self.answers(step, seen)
            return kernel, simulation
        if op in ("file-read", "file-write"):
            pairs = [self.content(step["path"], c, s, c["offset"]) if c["r"] > 0 and s["r"] > 0 and c["op"] == "pread"
                     else ({"r": c["r"]}, {"r": s["r"]}) for c, s in zip(step["calls"], seen["calls"]) if "r" in c]
            return [p[0] for p in pairs], [p[1] for p in pairs]
        if op == "readlink":
            return self.content(step["path"], step, seen)
        if op == "pread" and step["r"] > 0 and seen["r"] > 0:
            return self.content(self.paths.get(step["file"]["f"], ""), step, seen, step["offset"])
        if op == "list":
            name, kernel, simulation = masks.names(self, step["path"], step["names"], seen["names"])
            if name:
                self.mask(name)
            return kernel, simulation
        if op == "ioctl":
            return self.answers(step, seen)
        return kernel, simulation

    def answers(self, step, seen):
        """The struct and what its pointers point to, after the call."""
        kernel, simulation = {"r": step["r"]}, {"r": seen["r"]}
        if "out" not in step:
            return kernel, simulation
        # An empty answer: the caller's memory is as it was. The first four bytes are the mask of descriptors, which answers have none of.
        wrote = bytearray(bytes.fromhex(step["out"])[4:])
        answer = bytearray(seen.get("answer", b"")[4:])
        if not answer:
            before = bytes.fromhex(step["in"])[4:]
            answer = bytearray(before[:len(wrote)])
            wrote = wrote[:len(answer)]
        if "made_at" in step:
            at = step["made_at"]
            wrote[at:at + 4] = answer[at:at + 4] = bytes(4)
        for at in {ID_OUT.get(step["name"]), ID_IN.get(step["name"])} - {None}:
            ours = self.ids.get((self.id_space(step), bytes(wrote[at:at + 4])))
            if ours and ours != wrote[at:at + 4]:
                self.mask("ids that several processes were given at once")
                wrote[at:at + 4] = ours
        kernel["out"], simulation["out"] = wrote.hex(), answer.hex()
        return kernel, simulation

    def differs(self, number, step, kernel, simulation):
        self.differences.append(Difference(self.sequence["name"], number, step, kernel, simulation))

    # ---- events ----

    def read_events(self):
        while True:
            try:
                packet = os.read(self.uevents, 8192)
            except BlockingIOError:
                return
            if not packet:
                return
            fields = dict(p.split("=", 1) for p in packet.decode().split("\0") if "=" in p)
            self.events.append((fields.get("ACTION"), fields.get("SUBSYSTEM"), fields.get("DEVPATH")))

    def event(self, number, step):
        """Every event that a process read comes here, too, in its order for each device: it may come with a call that ends a little later."""
        if "action" not in step:
            return
        if masks.event(self, (step["action"], step["subsystem"], step["devpath"])):
            self.mask("events of devices that are not the machine's")
            return
        self.waiting.append((number, step))
        self.match_events()

    def match_events(self):
        self.read_events()
        left, blocked = [], set()
        for number, step in self.waiting:
            wanted = (step["action"], step["subsystem"], step["devpath"])
            key = (step.get("p"), wanted[2])
            found = None if key in blocked else next((i for i in range(self.event_at.get(key, 0), len(self.events)) if self.events[i] == wanted), None)
            if found is None:
                blocked.add(key)
                left.append((number, step))
            else:
                self.event_at[key] = found + 1
                self.compared += 1
        self.waiting = left

    def last_events(self):
        until = time.monotonic() + 2
        while self.waiting and time.monotonic() < until:
            time.sleep(0.01)
            self.match_events()
        for number, step in self.waiting:
            wanted = (step["action"], step["subsystem"], step["devpath"])
            seen = [e for e in self.events[self.event_at.get((step.get("p"), wanted[2]), 0):] if e[2] == wanted[2]]
            self.differs(number, step, list(wanted), [list(e) for e in seen])

    # ---- order ----

    def plan(self):
        """(time, what, number): "do" a call; "start" a long one, and "end" it when the kernel did."""
        steps = self.sequence["steps"]
        plan = []
        for number, step in enumerate(steps):
            end = step["t"] + step["d"]
            if step["op"] == "act":
                # Others go on because of it before the scenario knows that it is done.
                plan.append((step["t"], 1, "do", number))
            elif step["d"] >= LONG_US and not sequences.is_look(step) and step["op"] != "uevent":
                plan.append((step["t"], 1, "start", number))
                plan.append((end, 0, "end", number))
            else:
                plan.append((end, 0, "do", number))
        plan.sort(key=lambda p: (p[0], p[1], p[3]))
        return plan

    def overlapping_looks(self, number):
        """Looks whose time met that of this call: which of both was first is not known."""
        steps = self.sequence["steps"]
        step = steps[number]
        begin, end = step["t"], step["t"] + step["d"]
        return [i for i in self.looks if steps[i]["t"] <= end and steps[i]["t"] + steps[i]["d"] >= begin]

    def look(self, number, patience):
        """What a look sees; {"r": None} when it is kept waiting by a call under way."""
        step = self.sequence["steps"][number]
        if not self.running:
            return self.perform(step)
        result = {}
        thread = threading.Thread(target=lambda: result.update(seen=self.perform(step)), daemon=True)
        thread.start()
        thread.join(patience)
        return result.get("seen", {"r": None})

    def look_early(self, number):
        """Before a call that changes something: what looks see that may have been earlier."""
        for i in self.overlapping_looks(number):
            if i not in self.done:
                self.early.setdefault(i, []).append(self.look(i, GRACE))

    def look_again(self, number):
        """After it: looks that saw something else before."""
        for i in self.overlapping_looks(number):
            if i in self.late and not self.judge(self.sequence["steps"][i], self.look(i, GRACE)):
                del self.late[i]

    def run_step(self, number):
        step = self.sequence["steps"][number]
        if sequences.is_look(step):
            name = masks.strange(self, step)
            if name:
                self.mask(name)
                return
            self.done.add(number)
            self.compared += 1
            if any(not self.judge(step, seen) for seen in self.early.get(number, ())):
                return
            found = self.judge(step, self.look(number, PATIENCE))
            if found:
                self.late[number] = found
        elif step["op"] == "uevent":
            self.event(number, step)
        else:
            self.start(number, PATIENCE if "r" in step else GRACE)
            self.end(number)

    def finish(self, number, seen):
        step = self.sequence["steps"][number]
        found = self.judge(step, seen)
        self.compared += 1
        if found:
            self.differs(number, step, *found)

    def start(self, number, patience=GRACE):
        self.look_early(number)
        result = {}

        def work():
            try:
                result["seen"] = self.perform(self.sequence["steps"][number])
            except BaseException as error:  # noqa: BLE001 - told where it is waited for
                result["error"] = error
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(patience)
        self.running[number] = thread, result

    def end(self, number):
        thread, result = self.running.pop(number)
        step = self.sequence["steps"][number]
        if "r" not in step and step["op"] not in ("release", "act"):
            return  # its caller was killed meanwhile: nobody knows what became of it
        thread.join(PATIENCE)
        if thread.is_alive():
            self.differs(number, step, {"r": step.get("r")}, f"has not returned after {PATIENCE:g} s")
        elif "error" in result:
            raise result["error"]
        else:
            self.finish(number, result["seen"])
        self.look_again(number)

    def run(self):
        """All of it; what differed."""
        steps = self.sequence["steps"]
        self.looks = [i for i, s in enumerate(steps) if sequences.is_look(s)]
        self.done, self.early, self.late = set(), {}, {}
        try:
            for _, _, what, number in self.plan():
                {"do": self.run_step, "start": self.start, "end": self.end}[what](number)
                if self.waiting:
                    self.match_events()
            self.last_events()
        finally:
            for fd in list(self.files.values()):
                os.close(fd)
            os.close(self.uevents)
        for number, found in self.late.items():
            self.differs(number, steps[number], *found)
        self.differences.sort(key=lambda d: d.number)
        return self.differences
