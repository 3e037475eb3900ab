# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The truths of the engine's own test (tests/unit/policy/truth.json), as the daemon tells them over D-Bus: of a machine with those devices, whose
# links are what they are there, and which prove what they prove there; to root, to the owner, and to somebody else, with a polkit and without.

import json
import os
import pwd

from cases.zz_admission import DOE
from kit.caller import Caller
from kit.checks import check, equal, eventually
from kit.client import NAME, Refused
from kit.machine import machine
from kit.paths import TESTS
from kit.polkit import RealPolkit
from kit.registry import scenario

TRUTH = os.path.join(TESTS, "unit/policy/truth.json")
# Who the bus knows stands for those of the table: they are in base-passwd.
USERS = {1000: "man", 1001: "lp", 1002: "mail"}
OTHER, INSPECTOR = "nobody", "games"
RULES = """
polkit.addRule(function(action, subject) {
    if (action.id == "org.tdid1.inspect" && subject.user == "%s")
        return polkit.Result.YES;
    if (action.id == "org.tdid1.evidence" && %s.indexOf(subject.user) >= 0)
        return polkit.Result.YES;
    return polkit.Result.NO;
});
""" % (INSPECTOR, json.dumps(list(USERS.values())))
# With IDE, and a responder.
SPEAKING = ("gpu", "nvme0")


def uid(name):
    return pwd.getpwnam(name).pw_uid


def mentions(files, *keys):
    return any(f'"{key}"' in json.dumps(files) for key in keys)


class Truth:
    """The table, as far as a machine can be made so."""

    def __init__(self):
        with open(TRUTH, encoding="utf-8") as file:
            table = json.load(file)
        users = {number: uid(name) for number, name in USERS.items()}

        def translated(value, key=None):
            if isinstance(value, dict):
                return {k: translated(v, k) for k, v in value.items()}
            if isinstance(value, list):
                return [translated(v, key) for v in value]
            return users.get(value, value) if key == "owner" and isinstance(value, int) else value
        self.policies, self.devices = translated(table["policies"]), table["devices"]
        self.cases = [c for c in translated(table["cases"]) if self.can_be(c)]
        self.total = len(table["cases"])

    def can_be(self, case):
        """A host always has a platform, evidence is of now and signed; guards are another test's."""
        files = self.policies[case["policy"]]
        if "guard" in case or mentions(files, "guard") or ("platform" not in case and mentions(files, "platform")):
            return False
        return all(p["signed"] and 0 <= p["age"] <= 10 for p in case.get("proofs", ())) and (not case.get("ide") or case["device"] in SPEAKING)

    def asks(self, case):
        """Whether the device has to be asked for what the case says that it proves."""
        return "proofs" in case and mentions(self.policies[case["policy"]], "evidence")

    def machine(self):
        ports, functions = {}, []
        for name, d in self.devices.items():
            if name == "vf":
                continue
            above = d["bdf"]
            for i, bridge in enumerate(d["path"]):
                port = {"bdf": bridge, "bus": above[5:7]}
                if bridge[5:7] != "00" or i + 1 < len(d["path"]):
                    port["kind"] = "downstream" if i % 2 == 0 else "upstream"
                ports[bridge] = port
                above = bridge
            top = d["path"][-1]
            if top[5:7] != "00":
                top = "0000:00:1e.0"
                ports.setdefault(top, {"bdf": top, "bus": d["path"][-1][5:7]})
            if name in SPEAKING:
                ports[top]["ide"] = {"streams": 2}
            functions.append({"bdf": d["bdf"], "ids": d["id"], "subsystem": d["subsystem"], "class": d["class"], "tee_io": d.get("tee_io", False),
                              **({"doe": True, "ide": True} if name in SPEAKING else {}),
                              **({"serial": "0x" + d["serial"].replace("-", "")} if "serial" in d else {}),
                              **({"driver": "igb", "sriov": {"total": 1, "enabled": 1, "offset": 128, "stride": 2, "vf": {"ids": self.devices["vf"]["id"]}}} if d.get("sriov") == "pf" else {})})
        return {"platform": "plain", "ports": [ports[b] for b in sorted(ports)], "functions": functions, "drivers": [{"name": "igb", "sriov": True}],
                "tsms": [{"name": "tsm0", "parent": "tdid_test_tsm", "accepts": [self.devices[n]["bdf"] for n in SPEAKING]}]}


class Host:
    """The machine, which is made to be what a case says."""

    def __init__(self, t, truth):
        self.truth = truth
        self.o = machine(t, "truth", truth.machine(), DOE)
        self.folder = os.path.join(self.o.folder, "files")
        os.makedirs(self.o.daemon.policy)
        os.mkdir(self.folder)
        self.responders, self.roots = {}, {}
        self.loaded, self.ide = None, {}

    def file(self, path):
        return os.path.join(self.folder, os.path.basename(path))

    def put(self, path, text):
        with open(self.file(path) + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(self.file(path) + ".new", self.file(path))

    def load(self, name):
        """The files of a policy, whose anchors and references are in our folder."""
        if self.loaded == name:
            return
        for old in os.listdir(self.o.daemon.policy):
            os.unlink(os.path.join(self.o.daemon.policy, old))
        for file_name, rules in self.truth.policies[name].items():
            text = json.dumps({"schema": "tdid-policy/1", "rules": rules} if isinstance(rules, list) else rules)
            for place in ("/etc/tdid/anchors/", "/etc/tdid/references/"):
                text = text.replace(f'"{place}', f'"{self.folder}/')
            with open(os.path.join(self.o.daemon.policy, file_name), "w", encoding="utf-8") as file:
                file.write(text)
        self.o.client.manager("Reload")
        self.loaded = name

    def start_responders(self):
        for name in SPEAKING:
            one = self.o.spdm(self.truth.devices[name]["bdf"])
            with open(one.anchor, encoding="ascii") as file:
                self.responders[name], self.roots[name] = one, file.read()
        check(len(set(self.roots.values())) == len(SPEAKING), "responders have a root in common")

    def prove(self, case):
        """Anchors lead to who answers for the device, and references are what it measures, where the case says that it proves them; else to another, and not."""
        mine = case["device"]
        other = next(n for n in SPEAKING if n != mine)
        good = [p for p in case["proofs"] if not p.get("why")]
        right, wrong = (self.responders[mine].references() for _ in range(2))
        wrong["measurements"][0]["values"] = ["00" * 32]
        for anchor in ("vendor.pem", "other.pem"):
            self.put(anchor, self.roots[mine if any(os.path.basename(p["anchor"]) == anchor for p in good) else other])
        for references in ("fw-1.json", "fw-2.json"):
            self.put(references, json.dumps(right if any(os.path.basename(p.get("references", "")) == references for p in good) else wrong))

    def link(self, name, wanted):
        """Its IDE stream is secure, insecure, or not there yet."""
        bdf, was = self.truth.devices[name]["bdf"], self.ide.get(name)
        if was == wanted:
            return
        device = self.o.client.device(bdf)
        if was:
            self.o.client.call(device.path, f"{NAME}.Device", "Disconnect", "a{sv}", {})
            eventually(lambda: not device.get("Streams"), "the stream is gone")
        if wanted:
            rule = self.o.host.client.control("fault", rule={"call": "tsm.ide", "device": bdf, "errno": "ENXIO"})["id"] if wanted == "insecure" else None
            self.o.client.call(device.path, f"{NAME}.Device", "Connect", "sa{sv}", "", {})
            if rule is not None:
                self.o.host.client.control("clear", id=rule)
            eventually(lambda: device.get("Streams"), "the stream is seen")
        self.ide[name] = wanted

    def question(self, case, evidence):
        q = {"owner": ("u", case["owner"]), **{k: ("s", case[k]) for k in ("vm", "platform", "mode", "access") if k in case}}
        if case.get("device"):
            q["device"] = ("s", self.truth.devices[case["device"]]["bdf"])
        if case.get("association"):
            q["association"] = ("b", 1)
        if evidence:
            q["evidence"] = ("b", 1)
        return q


def ask(caller, question):
    return json.loads(str(caller.call("/org/tdid1", "Manager", "ExplainPolicy", "a{sv}", question)))["policy"]


def right(answer, case, who):
    said = (answer["decision"], (answer["rule"] or {}).get("name"), [u["requirement"] for u in answer["unmet"]], answer["pending"])
    equal(said, (case["decision"], case["rule"], case.get("unmet", []), case.get("pending", [])), f"to {who}: {case}")


def denied(caller, question, what):
    try:
        ask(caller, question)
        check(False, f"{what} was told")
    except Refused as error:
        equal(error.name, "Denied", what)


def run_truth(t, polkit):
    """Counts of cases told to root, to owners, to who may inspect, and refused to others."""
    truth = Truth()
    host = Host(t, truth)
    if polkit:
        polkitd = RealPolkit(host.o.folder, host.o.bus.address, t.paths.actions, RULES)
        t.defer(polkitd.close)
        polkitd.wait(host.o.client)
    host.start_responders()
    callers = {}

    def caller(number):
        if number not in callers:
            callers[number] = Caller(number, host.o.bus.address)
            host.o.defer(callers[number].close)
        return callers[number]
    known = {p.pw_uid for p in pwd.getpwall()}
    told = {"root": 0, "owner": 0, "inspector": 0, "refused": 0, "asked": 0}
    # As few connects as can be; and a device that is connected has no mailbox.
    for case in sorted(truth.cases, key=lambda c: (c.get("ide", ""), c["policy"])):
        host.load(case["policy"])
        for name in SPEAKING:
            host.link(name, case.get("ide") if name == case.get("device") else host.ide.get(name) if case.get("ide") else None)
        evidence = truth.asks(case)
        if evidence:
            host.prove(case)
        owner = case["owner"]
        # Each answer about evidence takes a device its time: one of those who may hear it is enough.
        if not (evidence and polkit):
            right(ask(caller(0), host.question(case, evidence)), case, "root")
            told["root"] += 1
            told["asked"] += evidence
        if owner and owner in known:
            if not evidence or polkit and owner in map(uid, USERS.values()):
                right(ask(caller(owner), host.question(case, evidence)), case, "the owner")
                told["owner"] += 1
                told["asked"] += evidence
            elif not polkit:
                denied(caller(owner), host.question(case, True), "an owner who may not ask for evidence")
                told["refused"] += 1
        if owner != uid(OTHER):
            denied(caller(uid(OTHER)), host.question(case, evidence), "somebody else")
            told["refused"] += 1
        if polkit and not evidence:
            right(ask(caller(uid(INSPECTOR)), host.question(case, False)), case, "who may inspect")
            told["inspector"] += 1
    for name in SPEAKING:
        host.link(name, None)
    for name, n in told.items():
        t.value(name, n)
    check(len(truth.cases) >= 200, f"only {len(truth.cases)} cases of {truth.total} can be set up")
    return told


@scenario(needs=("machines", "root"), start=False, tags=("quick",))
def policy_truth(t):
    """Without a polkit: root is told of everybody, an owner of itself and without evidence, others nothing."""
    told = run_truth(t, polkit=False)
    check(told["root"] >= 200 and told["owner"] >= 150 and told["refused"] >= 200 and told["asked"] >= 15, str(told))


@scenario(needs=("machines", "root"), start=False, tags=("quick",))
def policy_truth_polkit(t):
    """With a real one: the same, and whom it lets inspect is told of everybody, whom it lets ask for evidence of what devices prove."""
    reason = RealPolkit.why_not()
    if reason:
        t.skip(reason)
    told = run_truth(t, polkit=True)
    check(told["root"] >= 150 and told["owner"] >= 150 and told["inspector"] >= 150 and told["refused"] >= 150 and told["asked"] >= 15, str(told))
