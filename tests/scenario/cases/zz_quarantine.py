# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The ways out of quarantine, and where it is seen. The ways in are beside what they belong to; docs/when-things-go-wrong.md has them all.

import errno
import json

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.registry import scenario
from kit.simtsm import Rules


def quarantined(t, bdf):
    """A function that its driver did not take back; the driver would now."""
    stick = t.load_stick()
    bring_back = t.host.reprobe if t.host.driver(bdf) else lambda bdf: t.host.set_driver(bdf, None)
    t.host.set_driver(bdf, "tdid_test_stick")
    t.after(lambda: bring_back(bdf))
    t.start()
    vm = t.vm()
    vm.attach(bdf)
    stick.set("probe_err", errno.ENOMEM)
    t.defer(lambda: stick.set("probe_err", 0))
    vm.lease.close()
    t.gone(vm)
    eventually(lambda: t.device(bdf).text("Quarantine"), "the quarantine")
    stick.set("probe_err", 0)


def withheld(t, bdf):
    vm = t.vm()
    refused("Quarantined", vm.attach, bdf)
    vm.destroy()
    t.gone(vm)


@scenario("edu", start=False, needs=("stick", "faults"), tags=("quick",))
def quarantine_checked(t):
    """What is quarantined is not given back before a reset of it has gone well and it answers; with force it is. Not by a restart in between either."""
    bdf = t.host.bdf("edu")
    quarantined(t, bdf)
    fault = Rules(t.host.client)
    t.defer(fault.clear)
    for key, rule, why in (("reset", {"call": "write:reset", "errno": "EIO"}, "reset"),
                           ("answer", {"call": "read:config", "errno": "EIO"}, "does not answer")):
        fault.add(key, device=bdf, process="tdid-worker", **rule)
        for restarted in (False, True):
            contains(refused("Quarantined", t.device(bdf).restore), why, "why it is not restored")
            contains(refused("Quarantined", t.device(bdf).restore), "--force", "what to do")
            withheld(t, bdf)
            equal(t.host.driver(bdf), None, "its driver is not told of it")
            if not restarted:
                t.daemon.restart()
                check(t.device(bdf).text("Quarantine"), "a restart ends the quarantine")
        fault.clear()
    fault.add("reset", call="write:reset", device=bdf, process="tdid-worker", errno="EIO")
    t.tdictl("device", "restore", bdf, code=7)
    t.tdictl("device", "restore", "--force", bdf)
    t.free(bdf)
    equal(t.host.driver(bdf), "tdid_test_stick", "driver afterwards")
    # The word was for that once.
    fault.clear()
    vm = t.vm()
    eventually(lambda: vm.attach(bdf), "it is attached again, once its config space has been read")
    t.attached(vm, bdf)
    vm.destroy()
    t.free(bdf)


@scenario("igb-vf", start=False, needs=("stick",), tags=("quick",))
def quarantine_vf(t):
    """A VF, whose ids are all ones in its config space, answers all the same: Restore gives it back without force."""
    bdf = t.host.bdf("igb-vf")
    quarantined(t, bdf)
    t.device(bdf).restore()
    t.free(bdf)


@scenario("edu", start=False, needs=("stick", "trace"), tags=("quick",))
def quarantine_resets(t):
    """Restore resets the function, once, before anybody else gets it; one that was never quarantined is not reset but by VFIO."""
    bdf = t.host.bdf("edu")
    quarantined(t, bdf)
    path, begin = t.host.start_trace()
    t.defer(t.host.end_trace)
    t.device(bdf).restore()
    t.free(bdf)
    vm = t.vm()
    vm.attach(bdf)
    vm.destroy()
    t.free(bdf)
    with open(path, encoding="utf-8") as file:
        file.seek(begin)
        calls = [json.loads(line) for line in file]
    writes = [c["name"].rsplit("/", 2) for c in calls if c.get("op") == "pwrite" and c.get("name", "").endswith(("/reset", "/bind"))]
    equal([w[2] for w in writes if w[2] == "reset" or w[1] == "tdid_test_stick"][:2], ["reset", "bind"], "what is done first")
    equal([w[2] for w in writes].count("reset"), 1, "resets by way of sysfs")


@scenario("edu:2", start=False, needs=("stick",), tags=("quick",))
def quarantine_shown(t):
    """Everything that shows functions shows it: lists, status, JSON, properties, the description, the journal, events; before and after a restart."""
    bdf, other = t.host.bdfs("edu", 2)
    quarantined(t, bdf)
    check(str(t.device(bdf).get("Quarantine")), "the property")
    for restarted in (False, True):
        if restarted:
            t.daemon.restart()
        for words in (("status",), ("device", "list"), ("device", "show", bdf)):
            contains(t.tdictl(*words).out, "tdid_test_stick", f"tdictl {' '.join(words)}")
            devices = {d["bdf"]: d["quarantine"] for d in t.tdictl.json(*words)["devices"]}
            check(devices[bdf], f"tdictl --json {' '.join(words)} does not show it")
            check(not devices.get(other), "another one is shown as quarantined")
        description = json.loads(str(t.client.call(t.device(bdf).path, "org.tdid1.Device", "Describe")))["device"]
        contains(description["quarantine"], "tdid_test_stick", "Describe()")
        found = [i["org.tdid1.Device"] for i in t.client.objects().values() if "org.tdid1.Device" in i]
        equal([str(d["BDF"]) for d in found if str(d["Quarantine"])], [bdf], "in the list of objects")
    contains(t.journal.one("quarantined", bdf=bdf)["TDID_REASON"], "tdid_test_stick", "the journal")
    t.device(bdf).restore()
    t.free(bdf)
    t.journal.one("restored", bdf=bdf)


@scenario("edu", start=False, needs=("faults",), tags=("quick",))
def unbind_changes_nothing(t):
    """The kernel says that vfio-pci does not have it, while it has: it is not given back like that, where it had no driver before, but withheld."""
    bdf = t.host.bdf("edu")
    had = t.host.driver(bdf)
    t.host.set_driver(bdf, None)
    if had:
        t.after(lambda: t.host.set_driver(bdf, had))
    t.start()
    fault = Rules(t.host.client)
    t.defer(fault.clear)
    vm = t.vm()
    vm.attach(bdf)
    fault.add("unbind", call="write:unbind", process="tdid-worker", errno="ENODEV", times=1)
    contains(refused("Quarantined", t.client.tdi(bdf).detach), "ENODEV", "what the detach says")
    contains(t.device(bdf).text("Quarantine"), "claim.rebind", "the quarantine")
    withheld(t, bdf)
    t.device(bdf).restore()
    t.free(bdf)
    equal(t.host.driver(bdf), None, "its driver afterwards")
