# SPDX-License-Identifier: LGPL-2.1-or-later
#
# `tdictl policy explain` and `suggest`: what they are told by tdid, of the policy in force and the device as it is; and what they say without one.

import json
import os

import dbus

from cases.zz_admission import ALICE, policy, reload, start_with_evidence, wanting, write_json
from kit.caller import Caller
from kit.checks import check, contains, equal
from kit.client import NAME, Refused, refused
from kit.machine import machine
from kit.peer import call_as
from kit.registry import scenario


def explained(t, *words, code=0):
    return t.tdictl.json("policy", "explain", *words, code=code)["explanation"]


@scenario("edu", start=False, tags=("quick",))
def explain_asks_tdid(t):
    """`policy explain` tells of the policy that is in force, not of files that nobody has loaded; without a tdid it says that it is by files. What a function is tdid knows as sysfs has it."""
    bdf = t.host.bdf("edu")
    policy(t, {"name": "not these", "match": {"vm": "web-*"}, "decision": "deny"})
    t.start()
    question = ("--device=" + bdf, "--vm=web-1", "--owner=0")
    policy(t, {"name": "these", "match": {"vm": "web-*"}, "decision": "allow"})
    e = explained(t, *question)
    equal((e["judged_by"], e["decision"], e["rule"]["name"]), ("tdid", "deny", "not these"), "by tdid")
    e = explained(t, *question, "--policy=" + t.daemon.policy)
    equal((e["judged_by"], e["decision"], e["rule"]["name"]), ("files", "allow", "these"), "by files")
    reload(t)
    facts = explained(t, *question)
    equal((facts["decision"], facts["facts"]["platform"]), ("allow", str(t.client.call("/org/tdid1", "org.freedesktop.DBus.Properties", "Get", "ss", NAME + ".Manager", "Platform"))), "when it is loaded")
    physical = {t.host.physfn(b) for b in t.host.all_functions()}
    for one in t.host.all_functions():
        shown = t.device(one)
        role = "vf" if t.host.physfn(one) else "pf" if one in physical else "none"
        bridges = [str(b) for b in shown.get("Bridges")]
        equal((bridges, shown.text("SRIOV")), (t.host.bridges(one), role), f"bridges and role of {one}")
        facts = explained(t, "--device=" + one)["facts"]
        equal((facts["path"], facts["sriov"], facts["tee_io"]), (bridges, role, "tee-io" in [str(x) for x in shown.get("TEE")]), f"facts about {one}")
        device = t.tdictl.json("device", "show", one)["devices"][0]
        equal((device["bridges"], device["sriov"]), (bridges, role), f"device show {one}")
        if one == bdf:
            contains(t.tdictl("policy", "explain", "--device=" + one).out, "judged_by", "for people")
    equal(explained(t, "--vm=web-1")["decision"], "allow", "of a VM alone")
    contains(t.tdictl("policy", "explain", "--device=ffff:1f:1f.7", code=3).err, "no PCI function", "of what there is not")
    contains(t.tdictl("policy", "explain", "--files", "--verify", "--device=" + bdf, code=2).err, "--verify", "two that do not go together")
    t.daemon.stop()
    done = t.tdictl("policy", "explain", "--vm=web-1")
    contains(done.err, "tdid is not running", "what it is by, without tdid")
    equal(explained(t, "--vm=web-1")["judged_by"], "files", "the same as JSON")


@scenario("spdm", needs=("spdm", "root"), start=False, tags=("quick",))
def explain_evidence(t):
    """With --verify the device is asked, and what it proves decides; `suggest` pins what it proves, and the rule that it prints admits this device and no changed one."""
    bdf, responder = start_with_evidence(t)
    references = write_json(t, "references.json", responder.references())
    policy(t, wanting(responder, references, bdf))
    reload(t)
    e = explained(t, "--device=" + bdf, "--owner=0")
    equal((e["decision"], [u["requirement"] for u in e["unmet"]], e["facts"]["evidence"]), ("deny", ["evidence"], []), "without asking it")
    e = explained(t, "--device=" + bdf, "--owner=0", "--verify")
    equal((e["decision"], e["rule"]["name"], e["facts"]["evidence"]), ("allow", "proven", [{"anchor": responder.anchor, "references": references, "signed": True, "why": None}]), "when it has been asked")
    alice = Caller(ALICE, t.bus.address)
    t.defer(alice.close)
    ask = ("/org/tdid1", "Manager", "ExplainPolicy", "a{sv}")
    contains(str(alice.call(*ask, {"device": ("s", bdf)})), "requires evidence", "what anybody is told for itself")
    for question in ({"device": ("s", bdf), "evidence": ("b", 1)}, {"device": ("s", bdf), "owner": ("u", 0)}):
        try:
            alice.call(*ask, question)
            check(False, f"somebody was told {question}")
        except Refused as error:
            equal(error.name, "Denied", str(error))
    refused("InvalidArgument", lambda: t.client.manager("ExplainPolicy", "a{sv}", dbus.Dictionary({"evidence": True}, signature="sv")))
    done = t.tdictl("policy", "suggest", bdf, "--vm=mine")
    (rule,) = json.loads(done.out)["rules"]
    equal((rule["match"]["bdf"], rule["match"]["vm"], rule["decision"]), (bdf, "mine", "require"), "the rule")
    equal(rule["require"]["evidence"], [{"anchor": responder.anchor, "references": references, "signed": True}], "what it requires")
    with open(os.path.join(t.daemon.policy, "50-test.json"), "w", encoding="utf-8") as file:
        file.write(done.out)
    reload(t)
    vm = t.vm("mine")
    vm.attach(bdf)
    t.client.tdi(bdf).detach()
    t.free(bdf)
    responder.change(2, "6669726d776172652032")
    contains(refused("Policy", lambda: vm.attach(bdf)), "mismatch: index 2", "the same with other firmware")
    e = explained(t, "--device=" + bdf, "--vm=mine", "--verify")
    equal(e["decision"], "deny", "of a device that has changed")
    contains(e["unmet"][0]["text"], "mismatch: index 2", "why")
    contains(t.tdictl("policy", "suggest", bdf).err, "proves nothing", "a suggestion for what proves nothing")
    check("evidence" not in json.loads(t.tdictl("policy", "suggest", bdf, "--no-evidence").out)["rules"][0].get("require", {}), "evidence that nobody asked for")
    vm.lease.close()
    t.gone(vm)
    t.unchanged(bdf)


@scenario(needs=("machines",), start=False, tags=("quick",))
def explain_serial(t):
    """A serial number is root's to read: Describe() and `suggest` have it, and what everybody may ask has not."""
    bdf = "0000:01:00.0"
    o = machine(t, "serial", {"platform": "plain", "ports": [{"bdf": "0000:00:01.0", "bus": "01"}], "functions": [{"bdf": bdf, "ids": "1b36:0010", "serial": "0x525400ffff7d1d04"}]})
    equal(o.tdictl.json("device", "show", bdf)["devices"][0]["serial"], "525400ffff7d1d04", "device show")
    (rule,) = json.loads(o.tdictl("policy", "suggest", bdf, "--no-evidence").out)["rules"]
    equal((rule["match"]["serial"], rule["match"]["id"]), ("52-54-00-ff-ff-7d-1d-04", "1b36:0010"), "the rule")
    policy(o, {"name": "it", "match": {"serial": "525400ffff7d1d04", "path": "0000:00:01.0"}, "decision": "allow"})
    reload(o)
    e = explained(o, "--device=" + bdf)
    equal((e["rule"]["name"], e["facts"]["serial"]), ("it", "525400ffff7d1d04"), "what decides")
    e = explained(o, "--device=" + bdf, "--policy=" + o.daemon.policy)
    equal((e["judged_by"], e["rule"]["name"]), ("files", "it"), "by files, with what tdid knows of the function")
    if os.geteuid() == 0:
        told = json.loads(call_as(ALICE, o.bus.address, "/org/tdid1", f"{NAME}.Manager", "ExplainPolicy", "a{sv}", {"device": bdf}))["policy"]
        equal((told["rule"]["name"], told["facts"]["serial"]), ("it", None), "what everybody is told")
