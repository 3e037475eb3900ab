# SPDX-License-Identifier: LGPL-2.1-or-later
#
# kit/tsm.py for the simulation: the same test TSM and the same driver that will not let go, made of the simulation's own
# rules for faults and its log of calls.

import errno
import json
import os

from kit.checks import eventually
from kit.tsm import Call


class Rules:
    """Rules for faults of our own: others' stay untouched."""

    def __init__(self, client):
        self.client = client
        self.ids = {}

    def add(self, key, **rule):
        """A rule takes the place of the one with the same key."""
        self.remove(key)
        self.ids[key] = self.client.control("fault", rule=rule)["id"]

    def remove(self, key):
        """Who sleeps because of it goes on."""
        if key in self.ids:
            self.client.control("clear", id=self.ids.pop(key))

    def clear(self):
        for key in list(self.ids):
            self.remove(key)

    def release(self):
        """Who sleeps goes on; the rules stay."""
        for rule in self.ids.values():
            self.client.control("release", id=rule)

    def sleeping(self):
        return sum(f["sleeping"] for f in self.client.control("faults")["faults"] if f["id"] in self.ids.values())


class SimTsm:
    """The TSM of the topology, loaded with its marks on the functions of `devs`."""

    name = "tsm0"

    def __init__(self, host):
        self.host = host
        self.client = host.client
        self.rules = Rules(host.client)
        self.log = None
        self.loaded = False
        self.begin = 0

    def load(self, devs=(), parent="tdid_test_tsm", fake_viommu=0, bind_locks=1, iommufd_tsm=0):
        self.log, self.begin = self.host.start_trace()
        self.client.control("tsm-load", name=self.name, options={"accepts": list(devs), "marks": True, "parent": parent, "fake_viommu": bool(fake_viommu), "bind_locks": bool(bind_locks), "iommufd_tsm": iommufd_tsm})
        self.loaded = True
        eventually(self.host.tsms, "a TSM in /sys/class/tsm")
        return self.host.tsms()[0]

    def unload(self):
        if self.loaded:
            self.rules.clear()
            self.client.control("tsm-unload", name=self.name)
            self.host.end_trace()
            self.loaded = False

    def rule(self, op, bdf="*", err=0, delay=0, skip=0, count=0):
        rule = {"call": "tsm." + op, "device": bdf}
        if err:
            rule["errno"] = errno.errorcode[err]
        if delay:
            rule["delay_ms"] = delay
        if skip:
            rule["nth"] = skip + 1
        if skip or count:
            rule["times"] = count or 1 << 30
        self.rules.add((op, bdf), **rule)

    def clear(self):
        self.rules.clear()

    def iommu_event(self, bdf, number, address):
        self.client.control("iommu-event", device=bdf, event=number, address=address)

    def set_object(self, number, data):
        self.client.control("tsm-object", object=number, data=data.hex())

    def release(self):
        self.rules.release()

    def calls(self, op=None, bdf=None):
        """What the TSM was asked, as the simulation's trace has it."""
        out = []
        with open(self.log, encoding="utf-8") as file:
            file.seek(self.begin)
            for line in file:
                call = json.loads(line)
                module, _, name = call["op"].partition(".")
                if module == "tsm":
                    out.append(Call(call["seq"], name, call["device"], "0" if call["r"] >= 0 else str(call["r"]), ""))
        return [c for c in out if op in (None, c.op) and bdf in (None, c.bdf)]

    def count(self, op, bdf=None):
        return len([c for c in self.calls(op, bdf) if c.result == "0"])

    def running(self, op, bdf=None):
        calls = self.client.control("open")["calls"]
        op = {"guest_req": "request"}.get(op, op)
        if op in ("bind", "unbind", "request"):
            return [c for c in calls if c["op"] == "ioctl" and c["name"] == "TDID_BIND_IOC_" + op.upper()]
        return [c for c in calls if c["op"] == "pwrite" and c["name"].endswith("/tsm/" + op) and bdf in (None, c["device"])]

    def clear_log(self):
        self.begin = os.path.getsize(self.log)


class SimBindModule:
    """tdid's own module: the bind provider."""

    def __init__(self, host):
        self.client = host.client
        self.client.control("bind-load")
        self.loaded = True

    def close(self):
        if self.loaded:
            # Whoever had it open has closed it, or does so just now.
            eventually(lambda: self.client.control("bind-unload") or True, "the bind provider goes", 20)
            self.loaded = False


class SimStick:
    """The driver of the topology by which functions can be held: see Host.set_driver()."""

    module = "tdid_test_stick"

    def __init__(self, host):
        self.host = host
        self.client = host.client
        self.rules = Rules(host.client)
        self.loaded = False

    def load(self):
        self.client.control("driver-load", name=self.module)
        self.loaded = True

    def unload(self):
        if self.loaded:
            self.rules.clear()
            self.client.control("driver-unload", name=self.module)
            self.host.stick_users.clear()
            self.loaded = False

    def set(self, parameter, value):
        """stick, probe_stick: 1 or 0; probe_err: an errno."""
        point = "driver.remove" if parameter == "stick" else "driver.probe"
        for bdf in self.host.stick_users:
            self.rules.remove((parameter, bdf))
            if value and parameter == "probe_err":
                self.rules.add((parameter, bdf), call=point, device=bdf, errno=errno.errorcode[value])
            elif value:
                self.rules.add((parameter, bdf), call=point, device=bdf, never=True)

    def stuck(self):
        return self.rules.sleeping()


class SimSlowReset:
    """As the module tdid_test_reset: a reset takes the minute that the kernel gives a device (pci_dev_wait)."""

    def __init__(self, host):
        self.rules = Rules(host.client)
        self.client = host.client

    def close(self):
        self.rules.clear()

    def hang(self, bdf):
        self.rules.add(bdf, call="reset", device=bdf, delay_ms=60000, times=1)

    def clear(self):
        self.rules.clear()

    def hung(self):
        ours = self.rules.ids.values()
        return sum(f["fired"] for f in self.client.control("faults")["faults"] if f["id"] in ours)
