# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Sequences of operations from a seed. What comes next depends on what was drawn before and on nothing that has happened: the same
# seed gives the same sequence on every machine. A sketch of what would be there if everything went well keeps most operations
# sensible; the rest are drawn from anywhere.
#
# An operation is a list: its kind, then numbers and words; a sequence is a file of them, a line each.

import json
import random

SLOTS = 4
FUNCTIONS = 8
GROUP = {2: (2, 3), 3: (2, 3)}
# Functions that a DSM speaks for, itself included, can be bound.
BINDABLE = (4, 5, 6, 7)
DSMS = (4, 8)

ERRNOS = ("EIO", "ENOMEM", "EBUSY", "EINTR", "ENODEV", "EPERM")
# Where a rule of tdi-sim can meet a worker, the holder or the kernel itself.
PLACES = (
    "open:driver_override", "write:driver_override", "write:unbind", "write:drivers_probe", "write:control", "read:driver_override", "readlink:driver", "open",
    "VFIO_DEVICE_BIND_IOMMUFD", "VFIO_DEVICE_ATTACH_IOMMUFD_PT", "VFIO_DEVICE_DETACH_IOMMUFD_PT", "VFIO_DEVICE_GET_INFO", "VFIO_DEVICE_SET_IRQS",
    "IOMMU_IOAS_ALLOC", "IOMMU_IOAS_MAP_FILE", "IOMMU_IOAS_UNMAP", "TDID_BIND_IOC_BIND", "TDID_BIND_IOC_UNBIND",
    "write:connect", "write:disconnect", "reset", "driver.probe", "driver.remove", "tsm.connect", "tsm.disconnect", "tsm.bind", "tsm.unbind", "close", "*",
)
WAITING = ("reset", "driver.remove", "driver.probe", "tsm.connect", "tsm.bind", "tsm.unbind", "tsm.disconnect", "write:unbind", "VFIO_DEVICE_BIND_IOMMUFD")
FAULTS = ("errno", "delay", "never", "kill")
# What comes across them, so that most are met: else the next thing that does may be in another round.
MEETS = {"TDID_BIND_IOC_BIND": ("bind",), "tsm.bind": ("bind",), "TDID_BIND_IOC_UNBIND": ("unbind", "detach"), "tsm.unbind": ("unbind", "detach"),
         "IOMMU_IOAS_MAP_FILE": ("map",), "IOMMU_IOAS_UNMAP": ("unmap", "destroy"), "write:disconnect": ("destroy", "disconnect"),
         "tsm.disconnect": ("destroy", "disconnect"), "write:connect": ("connect", "attach"), "tsm.connect": ("connect", "attach"),
         "VFIO_DEVICE_SET_IRQS": ("attach", "detach"), "VFIO_DEVICE_DETACH_IOMMUFD_PT": ("detach",), "reset": ("attach", "detach", "reset"),
         "driver.probe": ("attach", "detach"), "driver.remove": ("attach", "detach"), "close": ("detach", "destroy")}

# How often each is drawn. What ends a process or has to be waited for is dear.
WEIGHTS = {
    "create": 50, "attach": 130, "seal": 60, "kvm": 60, "bind": 160, "unbind": 50, "detach": 50, "hold": 120, "drop": 90, "pidfd": 12, "pidfd-end": 8,
    "destroy": 14, "abandon": 5, "connect": 12, "disconnect": 12, "restore": 6, "export": 70, "export-close": 25, "buffer": 6,
    "vpci": 80, "vpci-close": 25, "config": 160, "map": 120, "unmap": 70, "decode": 90, "reset": 12, "request": 80,
    "kill-tdid": 3, "kill-holder": 3, "kill-worker": 3, "fault": 40, "unplug": 5, "take": 6, "aer": 4, "tsm": 2,
}
# After these what holds is known only when everything has come to rest.
DISTURBING = ("kill-tdid", "kill-holder", "kill-worker", "fault", "unplug", "take", "aer", "tsm")
ROUND = 120


class Slot:
    def __init__(self):
        self.functions, self.bound, self.served = set(), set(), set()
        self.sealed = self.kvm = self.hotplug = False
        self.leases, self.exports = 1, 0


class Generator:
    """Rounds of operations, each of which begins and ends with nothing held."""

    def __init__(self, seed, cheap=1.0):
        self.rng = random.Random(seed)
        self.cheap = cheap
        self.kinds = list(WEIGHTS)
        self.weights = [WEIGHTS[k] for k in self.kinds]
        self.number = 0

    def round(self):
        self.slots = [None] * SLOTS
        self.number += 1
        out, since = [], None
        meets = ()
        while len(out) < ROUND:
            # What is being attached, or runs, is seldom met by chance.
            last = out[-1] if out else [None]
            if last[0] == "attach" and "nowait" in last and last[3][0] < FUNCTIONS and self.rng.random() < 0.4:
                op = ["take", last[3][0], 1]
            elif last[0] == "request" and last[2] == "start" and self.rng.random() < 0.2:
                op = ["take", last[1]]
            else:
                op = self._draw(meets)
            if op is None:
                continue
            meets = MEETS.get(op[1], ("attach", "detach")) if op[0] == "fault" else ()
            out.append(op)
            self._sketch(op)
            if op[0] in DISTURBING or "nowait" in op:
                since = since or len(out) + self.rng.randrange(1, 7)
            if since and len(out) >= since:
                out.append(["settle", int(self.rng.random() < 0.7)])
                since = None
        return [*out, ["settle", 1], ["end"]]

    # ---- one operation ----

    def _draw(self, meets=()):
        rng = self.rng
        kind = rng.choice(meets) if meets and rng.random() < 0.8 else rng.choices(self.kinds, self.weights)[0]
        live = [i for i, s in enumerate(self.slots) if s]
        slot = rng.choice(live) if live and rng.random() < 0.97 else rng.randrange(SLOTS)
        s = self.slots[slot]
        mine = sorted(s.functions) if s else []
        sensible = rng.random() < 0.92
        if kind == "create":
            free = [i for i, x in enumerate(self.slots) if not x]
            if not free and sensible:
                return None
            return [kind, rng.choice(free or [slot]), rng.choice(("late",) * 9 + ("early",)), int(rng.random() < 0.7), int(rng.random() < 0.1)]
        if not live:
            return None
        if kind == "attach":
            return self._attach(slot, sensible)
        if kind in ("bind", "unbind", "request"):
            some = [f for f in mine if f in BINDABLE and (f in s.bound) == (kind != "bind")] if s and s.sealed and s.kvm else []
            if not some and sensible:
                return None
            f = rng.choice(some) if some and sensible else rng.randrange(FUNCTIONS)
            return [kind, f] if kind != "request" else [kind, f, rng.choice(("lock", "start", "start", "stop", "info", "report"))]
        if kind in ("detach", "export", "vpci", "vpci-close", "config", "map", "unmap", "decode", "reset"):
            some = mine if kind in ("detach", "export", "vpci") else sorted(s.served) if s else []
            if not some and sensible:
                return None
            f = rng.choice(some) if some and sensible else rng.randrange(FUNCTIONS)
            return [kind, f, *self._details(kind, slot)]
        if kind in ("connect", "disconnect"):
            return [kind, rng.choice(DSMS) if sensible else rng.randrange(FUNCTIONS)]
        if kind in ("restore", "aer", "unplug", "take"):
            return [kind, rng.choice(mine) if mine and sensible else rng.randrange(FUNCTIONS)]
        if kind == "tsm":
            return [kind]
        if kind == "fault":
            return self._fault(mine)
        if kind in ("kill-tdid", "kill-worker"):
            return [kind, rng.randrange(1 << 16)]
        if s is None and sensible:
            return None
        if kind in ("seal", "kvm") and s and sensible and getattr(s, {"seal": "sealed"}.get(kind, kind)):
            return None
        if kind == "hold":
            return [kind, slot, rng.randrange(1, 5)]
        if kind == "drop":
            if s and s.leases <= 1 and rng.random() < 0.85:
                return None
            return [kind, slot, rng.randrange(1 << 16), *(["nowait"] if rng.random() < 0.1 else [])]
        if kind == "export-close":
            return [kind, slot, rng.randrange(1 << 16)]
        if kind == "buffer":
            return [kind, slot, rng.choice((1, 4, 64))]
        if kind in ("destroy", "abandon"):
            return [kind, slot, *(["nowait"] if rng.random() < 0.2 else [])]
        return [kind, slot]

    def _attach(self, slot, sensible):
        rng = self.rng
        taken = set().union(*(x.functions for x in self.slots if x))
        some = [f for f in range(FUNCTIONS) if f not in taken]
        if not sensible or not some:
            picked = [rng.randrange(FUNCTIONS + 2) for _ in range(rng.randrange(1, 4))]
        else:
            picked = []
            for f in rng.sample(some, min(len(some), rng.choice((1, 1, 1, 2, 3)))):
                picked += [g for g in GROUP.get(f, (f,)) if g not in picked]
        early = int(rng.random() < 0.15 and all(f in BINDABLE for f in picked))
        return ["attach", slot, early, picked, *(["nowait"] if rng.random() < 0.08 else [])]

    def _details(self, kind, slot):
        rng = self.rng
        if kind == "detach":
            return ["nowait"] if rng.random() < 0.1 else []
        if kind == "export":
            return [rng.randrange(0, 5), rng.randrange(1, 6), rng.choice(("kvm", "kvm", "iommufd", "gpu"))]
        if kind == "config":
            return [rng.randrange(1 << 16), int(rng.choice((16, 64, 128)) * self.cheap)]
        if kind == "map":
            return [rng.randrange(1 << 16), int(rng.choice((1, 8, 24)) * max(1, self.cheap))]
        if kind == "unmap":
            return [rng.randrange(1 << 16)]
        if kind == "decode":
            return [rng.randrange(2)]
        return []

    def _fault(self, mine):
        rng, how = self.rng, self.rng.choices(FAULTS, (10, 5, 1, 4))[0]
        place = rng.choice(WAITING if how in ("delay", "never") else PLACES)
        device = -1 if rng.random() < 0.6 else rng.choice(mine) if mine and rng.random() < 0.6 else rng.randrange(FUNCTIONS)
        what = rng.choice(ERRNOS) if how == "errno" else rng.choice((20, 100, 400)) if how == "delay" else rng.choice(("before", "after"))
        return ["fault", place, device, how, what, rng.choice((1, 1, 1, 2, 4)) if place == "*" else 1]

    # ---- what would be there ----

    def _owner(self, f):
        return next((s for s in self.slots if s and f in s.functions), None)

    def _sketch(self, op):
        kind = op[0]
        s = self.slots[op[1]] if len(op) > 1 and isinstance(op[1], int) and op[1] < SLOTS else None
        if kind == "create" and not s:
            s = self.slots[op[1]] = Slot()
            s.hotplug = bool(op[3])
        elif kind == "attach" and s and (s.hotplug or not s.sealed):
            if all(f < FUNCTIONS and not self._owner(f) for f in op[3]):
                s.functions |= set(op[3])
        elif kind == "seal" and s:
            s.sealed = True
        elif kind == "kvm" and s:
            s.kvm = True
        elif kind == "hold" and s:
            s.leases += op[2]
        elif kind == "drop" and s:
            s.leases -= 1
            if s.leases <= 0 and not s.served:
                self.slots[op[1]] = None
        elif kind in ("destroy", "abandon", "kill-holder") and s:
            self.slots[op[1]] = None
        elif kind in ("bind", "unbind", "detach", "vpci", "vpci-close") and (s := self._owner(op[1])):
            f = op[1]
            if kind == "bind" and s.sealed and s.kvm:
                s.bound.add(f)
            elif kind == "unbind":
                s.bound.discard(f)
            elif kind == "vpci":
                s.served.add(f)
            elif kind == "vpci-close":
                s.served.discard(f)
            elif kind == "detach":
                for g in GROUP.get(f, (f,)):
                    for some in (s.functions, s.bound, s.served):
                        some.discard(g)
        elif kind in ("unplug", "take") and (s := self._owner(op[1])):
            for some in (s.functions, s.bound, s.served):
                some.discard(op[1])


def save(path, ops, **about):
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"schema": "tdid-model/1", **about}) + "\n")
        file.writelines(json.dumps(op) + "\n" for op in ops)


def load(path):
    with open(path, encoding="utf-8") as file:
        about = json.loads(file.readline())
        if about.get("schema") != "tdid-model/1":
            raise SystemExit(f"{path} is no sequence of operations")
        return [json.loads(line) for line in file]
