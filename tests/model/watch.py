# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What must hold at every moment, read from the two logs that say what happened in which order: the simulation's trace of calls and of what
# its kernel did, and tdid's journal of events. It knows nothing of what was asked for.

import collections
import json

# Which state may follow which is said here once more, on purpose: of the documentation, not of tdid's tables.
PHASES = {"preparing": ("sealed", "closing"), "sealed": ("running", "closing"), "running": ("closing",), "closing": ("gone",)}
STATES = {"attaching": ("prepared", "detaching", "failed"), "prepared": ("bound", "detaching", "failed"),
          "bound": ("prepared", "running", "detaching", "failed"), "running": ("bound", "prepared", "detaching", "failed"),
          "detaching": ("failed", "gone"), "failed": ("detaching", "gone")}
DMABUFS = {"exported": ("revoked", "closed"), "revoked": ("exported", "closed")}
TABLES = {"vm-phase": PHASES, "tdi-state": STATES, "export-state": DMABUFS}
# No step of tdid's, no client and no event leads there: TDISP RUN ends by way of bound, and who is being given back is not told of failures.
UNREACHABLE = {("tdi-state", "detaching", "failed")}


class Tail:
    """Whole lines that have been added to a file since the last look."""

    def __init__(self, path):
        self.path, self.at, self.rest = path, 0, b""

    def lines(self):
        try:
            with open(self.path, "rb") as file:
                file.seek(self.at)
                data = file.read()
        except FileNotFoundError:
            return []
        self.at += len(data)
        *whole, self.rest = (self.rest + data).split(b"\n")
        return whole


class Watch:
    def __init__(self, trace, audit, log, dsm):
        self.trace, self.audit, self.log = Tail(trace), Tail(audit), Tail(log)
        self.dsm = dsm                         # {bdf: its DSM or ""}
        self.bound, self.connected = set(), set()
        self.open = collections.Counter()      # VFIO nodes
        self.pulled = set()                    # unplugged, or in error: the host's doing, not tdid's
        self.transitions = collections.Counter()
        self.quarantined, self.restored = {}, []
        self.events = collections.Counter()
        self.problems = []

    def look(self):
        """What was wrong since the last look."""
        self.problems = []
        for line in self.trace.lines():
            # Most lines are reads; the others are found without parsing all.
            if b'"vfio"' in line or b'"tsm.' in line or b'"reset"' in line or b"/dev/vfio/devices/" in line:
                self._call(json.loads(line))
        for line in self.audit.lines():
            self._event(json.loads(line))
        for line in self.log.lines():
            if b"may not follow" in line or b"assert" in line.lower() or b"AddressSanitizer" in line:
                self.problems.append("tdid says: " + line.decode(errors="replace"))
        return self.problems

    def _under(self, bdf):
        """TDIs that end when this function is reset."""
        return [b for b in self.bound if (b == bdf or self.dsm.get(b) == bdf) and b not in self.pulled and bdf not in self.pulled]

    def _call(self, c):
        op, bdf, ok = c.get("op"), c.get("device"), c.get("r", 0) >= 0
        if op == "tsm.connect" and ok:
            self.connected.add(bdf)
        elif op == "tsm.disconnect":
            if under := [b for b in self.bound if self.dsm.get(b) == bdf and b not in self.pulled]:
                self.problems.append(f"{bdf} was disconnected while {under} was bound (call {c['seq']})")
            self.connected.discard(bdf)
        elif op == "tsm.bind" and ok:
            if bdf in self.bound:
                self.problems.append(f"{bdf} was bound twice (call {c['seq']})")
            self.bound.add(bdf)
        elif op == "tsm.unbind":
            self.bound.discard(bdf)
        elif op == "reset":
            if under := self._under(bdf):
                self.problems.append(f"{bdf} was reset while {under} was bound (call {c['seq']})")
        elif op == "open" and ok and c["name"].startswith("/dev/vfio/devices/"):
            self.open[bdf] += 1
            if self.open[bdf] > 1:
                self.problems.append(f"{c['name']} of {bdf} was opened while it was open (call {c['seq']})")
        elif op == "release" and c["name"].startswith("/dev/vfio/devices/"):
            self.open[bdf] -= 1
            if under := self._under(bdf):
                self.problems.append(f"{bdf} was closed while {under} was bound (call {c['seq']})")

    def _event(self, e):
        kind, old, new = e["TDID_EVENT"], e.get("TDID_OLD"), e.get("TDID_NEW")
        self.events[kind] += 1
        if kind in TABLES:
            self.transitions[kind, old, new] += 1
            if new not in TABLES[kind].get(old, ()):
                self.problems.append(f"{kind}: {old} → {new}: {e['MESSAGE']}")
        elif kind == "quarantined":
            self.quarantined[e["TDID_BDF"]] = e.get("TDID_REASON", "")
        elif kind == "restored":
            self.restored.append((e["TDID_BDF"], self.quarantined.pop(e["TDID_BDF"], "")))

    def missing(self):
        """Transitions that have not happened."""
        return [f"{kind}: {old} → {new}" for kind, table in TABLES.items() for old, after in table.items() for new in after
                if not self.transitions[kind, old, new] and (kind, old, new) not in UNREACHABLE]
