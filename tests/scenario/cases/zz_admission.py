# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Who may have which device, and on what proof: the policy on the way to an attach, and the evidence that it asks for. The device's responder is the
# same on both hosts (kit/spdm.py), and no source of it is tdid's.

import errno
import hashlib
import json
import os
import pwd
import signal
import threading
import time

import dbus

from cases.x_bind import Bound, check_log, vpci
from kit import vfio_user
from kit.checks import check, contains, equal, eventually
from kit.client import NAME, Refused, refused
from kit.peer import call_as
from kit.registry import scenario
from kit.vmm import connect

ALICE, BOB = (pwd.getpwnam(name).pw_uid for name in ("daemon", "nobody"))
DOE = {"evidence": {"doe": True}}


def policy(t, *rules, name="50-test.json", **more):
    """The rules of the one file in tdid's policy folder, from its next reading on; its path."""
    os.makedirs(t.daemon.policy, exist_ok=True)
    path = os.path.join(t.daemon.policy, name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"schema": "tdid-policy/1", "rules": list(rules), **more}, file, indent=2)
    os.replace(path + ".new", path)
    return path


def reload(t):
    t.client.manager("Reload")


def write_json(t, name, value):
    path = os.path.join(t.folder, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
    return path


def attach_as(t, uid, vm, bdf):
    return call_as(uid, t.bus.address, vm.path, f"{NAME}.VM", "Attach", "a(sa{sv})a{sv}", [(bdf, {})], {})


def line_of(path, text):
    with open(path, encoding="utf-8") as file:
        return next(i for i, line in enumerate(file, 1) if text in line)


@scenario("edu:2", needs=("root",), start=False, tags=("quick",))
def policy_owners(t):
    """Without a rule functions are root's to give; a rule lets an owner take its own, and one that is more specific refuses, root included. Each refusal names its rule and where it stands."""
    first, second = t.host.bdfs("edu", 2)
    path = policy(t)
    t.start()
    vm = t.vm("of-alice", owner_uid=ALICE)
    try:
        attach_as(t, ALICE, vm, first)
        check(False, "an owner took a function without a rule")
    except Refused as error:
        equal(error.name, "Policy", "the error")
        contains(str(error), "default", "what decided")
        contains(str(error), "tdid-policy(5)) in /etc/tdid/policy.d", "where to write a rule")
    policy(t, {"name": "alice", "match": {"owner": ALICE}, "decision": "allow"},
           {"name": "not this one", "match": {"bdf": second}, "decision": "deny"})
    reload(t)
    attach_as(t, ALICE, vm, first)
    eventually(lambda: t.client.tdi(first).state() == "prepared", "alice has it")
    equal(vm.describe()["tdis"][0]["admitted_by"], "alice", "which rule admitted it")
    try:
        attach_as(t, BOB, vm, second)
        check(False, "another user attached to it")
    except Refused as error:
        check(error.name in ("Denied", "AccessDenied"), f"another user: {error}")
    for uid in (ALICE, 0):
        try:
            attach_as(t, uid, vm, second)
            check(False, f"uid {uid} got what a rule denies")
        except Refused as error:
            equal(error.name, "Policy", "the error")
            contains(str(error), "not this one", "the rule")
            contains(str(error), f"{path}:{line_of(path, 'not this one') - 1}", "where it stands")
    policy(t, {"name": "one", "match": {"owner": ALICE}, "decision": "allow", "limits": {"devices": 1}})
    reload(t)
    contains(refused("Limit", lambda: attach_as(t, ALICE, vm, second)), "policy", "whose limit it is")
    vm.lease.close()
    t.gone(vm)
    t.unchanged(first, second)


@scenario("edu:2", start=False, tags=("quick",))
def policy_reload(t):
    """A reload is whole or not at all, and takes nothing from anybody: what would not be given any more is shown. A tdid that starts on a policy it cannot read gives nothing until that is mended."""
    first, second = t.host.bdfs("edu", 2)
    path = policy(t, {"name": "all", "decision": "allow"})
    t.start()
    vm = t.vm()
    vm.attach(first)
    with open(path, "w", encoding="utf-8") as file:
        file.write('{\n  "schema": "tdid-policy/1",\n  "rules": [{"name": "x", "decison": "deny"}]\n}\n')
    text = refused("Policy", lambda: reload(t))
    contains(text, f"{path}:3:", "file, line and column")
    contains(text, '"decision"', "the nearest key")
    equal(vm.describe()["tdis"][0]["drift"], "", "drift under the policy that stayed")
    vm.attach(second)
    t.client.tdi(second).detach()
    t.free(second)
    policy(t, {"name": "none of these", "match": {"bdf": first}, "decision": "deny"})
    os.kill(t.daemon.process.pid, signal.SIGHUP)
    eventually(lambda: "none of these" in vm.describe()["tdis"][0]["drift"], "the drift")
    equal(t.client.tdi(first).state(), "prepared", "its state")
    t.daemon.kill()
    with open(path, "w", encoding="utf-8") as file:
        file.write("{")
    t.start()
    equal(t.client.tdi(first).state(), "prepared", "what a VM has, under a tdid without a policy")
    text = refused("Policy", lambda: vm.attach(second))
    contains(text, f"{path}:1:", "what is wrong")
    policy(t)
    reload(t)
    vm.attach(second)
    vm.lease.close()
    t.gone(vm)
    t.unchanged(first, second)


@scenario("edu", start=False, tags=("quick",))
def policy_explained(t):
    """ExplainPolicy() and tdictl say which rule would decide."""
    bdf = t.host.bdf("edu")
    policy(t, {"name": "edu for alice", "match": {"bdf": bdf, "owner": ALICE}, "decision": "allow"}, {"name": "tests", "match": {"vm": "test-*"}, "decision": "deny"})
    t.start()
    for owner, vm, decision, rule in ((ALICE, "x", "allow", "edu for alice"), (0, "test-1", "deny", "tests"), (ALICE, "test-1", "allow", "edu for alice"), (0, "x", "allow", None)):
        answer = json.loads(t.client.manager("ExplainPolicy", "a{sv}", {"device": bdf, "vm": vm, "owner": dbus.UInt32(owner)}))["policy"]
        equal((answer["decision"], (answer["rule"] or {}).get("name")), (decision, rule), f"what is decided for {owner} and {vm}")
    refused("NotFound", lambda: t.client.manager("ExplainPolicy", "a{sv}", {"device": "ffff:1f:1f.7"}))


@scenario("edu:2", start=False, tags=("quick",))
def policy_limits(t):
    """A limit holds for whoever its rule matches: by the function, by the VM's name, by the owner; of several the smallest."""
    first, second = t.host.bdfs("edu", 2)
    t.start()
    ids = "{:04x}:{:04x}".format(*t.device(first).get("IDs")[:2])
    for match in ({"bdf": [first, second]}, {"vm": "limited-*"}, {"owner": os.geteuid()}, {"id": ids, "vm": "limited-*"}):
        path = policy(t, {"name": "one each", "match": match, "limits": {"devices": 1}}, {"name": "all", "decision": "allow"})
        reload(t)
        vm = t.vm("limited-" + t.vm_name())
        vm.attach(first)
        text = refused("Limit", lambda: vm.attach(second))  # noqa: B023 - called at once
        contains(text, "one each", f"the rule for {match}")
        contains(text, path, "where it stands")
        vm.lease.close()
        t.gone(vm)
        t.free(first)
        vm = t.vm("limited-" + t.vm_name())
        contains(refused("Limit", lambda: vm.attach(first, second)), "one each", "two at once")  # noqa: B023
        vm.lease.close()
        t.gone(vm)
    policy(t, {"name": "no VMs", "match": {"vm": "limited-*"}, "limits": {"vms": 0}})
    reload(t)
    contains(refused("Limit", lambda: t.vm("limited-three")), "policy", "a VM of that name")
    t.unchanged(first, second)


@scenario("edu:2", start=False, tags=("quick",))
def policy_fds(t):
    """Descriptors that are kept for an owner's VMs count together: VMs, leases, functions and dma-bufs; each is refused by the rule's name where it would be one too many, and counts no more when it has gone."""
    first, second = t.host.bdfs("edu", 2)
    path = policy(t)
    t.start()

    def at_most(n, **match):
        policy(t, {"name": "few", **({"match": match} if match else {}), "limits": {"fds": n}}, {"name": "all", "decision": "allow"})
        reload(t)

    def one_too_many(call, what):
        text = refused("Limit", call)
        for word in ("rule 'few'", path, '"fds"'):
            contains(text, word, what)

    # A VM takes 2 and its lease 1, a function 3, a hold 1, a buffer 2.
    at_most(2)
    one_too_many(t.vm, "a VM")
    at_most(3)
    vm = t.vm()
    one_too_many(lambda: vm.hold("more"), "a lease")
    one_too_many(t.vm, "a second VM")
    one_too_many(lambda: vm.attach(first), "a function")
    at_most(6)
    one_too_many(lambda: vm.attach(first, second), "two functions at once")
    vm.attach(first)
    one_too_many(lambda: vm.shared_buffer(4096), "a buffer")
    at_most(7)
    hold = vm.hold("more")
    one_too_many(lambda: vm.hold("another"), "another lease")
    hold.close()
    eventually(lambda: len(vm.describe()["keepers"]) == 1, "the lease has ended")
    vm.hold("another").close()
    eventually(lambda: len(vm.describe()["keepers"]) == 1, "that lease has ended")
    t.client.tdi(first).detach()
    t.free(first)
    # Of a rule that is about a function only while that is concerned.
    at_most(3, bdf=second)
    vm.attach(first)
    one_too_many(lambda: vm.attach(second), "the function that the rule is about")
    at_most(100)
    vm.attach(second)
    vm.lease.close()
    t.gone(vm)
    t.unchanged(first, second)


@scenario("edu", start=False, tags=("quick",))
def policy_write_handoff(t):
    """Whoever has a function's descriptors writes past tdid: what a rule says of such writes cannot be kept, and so they are not handed off."""
    bdf = t.host.bdf("edu")
    rule = {"name": "all", "decision": "allow", "permit": ["handoff"]}
    policy(t, {**rule, "on_illegal_config_write": "refuse"})
    t.daemon.start(arguments=t.configured({"policy": {"handoff": True}}))
    vm = t.vm()
    vm.attach(bdf)
    vm.seal()
    tdi = t.client.tdi(bdf)
    contains(refused("NotSupported", lambda: t.client.call(tdi.path, f"{NAME}.TDI", "Handoff")), "on_illegal_config_write", "why")
    policy(t, rule)
    reload(t)
    for fd in t.client.call(tdi.path, f"{NAME}.TDI", "Handoff"):
        t.host.close(fd.take())
    vm.lease.close()
    t.gone(vm)
    t.unchanged(bdf)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), start=False, tags=("quick",))
def policy_config_write(t):
    """What becomes of a write to config space that would end a TDI is what the rule says that admitted it: it is kept from the device, it fails, or the TDI is unbound before it is done."""
    bdf = t.host.bdf("igb-vf")
    policy(t)
    t.start()
    decoding, mastering, command = 2, 4, 4
    for value in (None, "shadow", "refuse", "unbind"):
        policy(t, {"name": "all", "decision": "allow", **({"on_illegal_config_write": value} if value else {})})
        reload(t)
        b = Bound(t, bdf)
        client = connect(t, b.vm, bdf)
        client.write16(vfio_user.CONFIG, command, decoding | mastering)
        b.bind()
        unbinds = t.tsm.count("unbind")
        if value == "refuse":
            # Who serves it goes on under a later tdid.
            t.daemon.restart()
        # What changes nothing, and what ends no TDI, passes in any case.
        client.write16(vfio_user.CONFIG, command, decoding | mastering)
        client.write(vfio_user.CONFIG, 0x0C, b"\x10")
        if value == "refuse":
            vfio_user.fails(errno.EPERM, client.write16, vfio_user.CONFIG, command, mastering)
        else:
            client.write16(vfio_user.CONFIG, command, mastering)
        equal(client.read16(vfio_user.CONFIG, command) & 7, decoding | mastering if value == "refuse" else mastering, f"what is read then: {value}")
        eventually(lambda: t.client.tdi(bdf).state() == ("prepared" if value == "unbind" else "bound"), f"its state: {value}")  # noqa: B023 - called at once
        equal(t.tsm.count("unbind") - unbinds, int(value == "unbind"), f"unbinds: {value}")
        config = vpci(b.vm, bdf)["config"]
        equal(config["on_illegal_write"], value or "shadow", "what the holder does")
        equal((config["shadowed"].get("COMMAND.MEM", 0), config["dropped"].get("COMMAND.MEM", 0)),
              {"refuse": (0, 1), "unbind": (0, 0)}.get(value, (1, 0)), f"what was kept from it, and what was refused: {value}")
        if value == "unbind":
            contains(json.dumps(vpci(b.vm, bdf)["events"]), "on_illegal_config_write", "what happened there")
            client.write16(vfio_user.CONFIG, command, decoding | mastering)
            b.bind()
            # Nobody unbinds it: then the write is refused, and the TDI is what it was.
            os.kill(t.daemon.process.pid, signal.SIGSTOP)
            try:
                vfio_user.fails(errno.EPERM, client.write16, vfio_user.CONFIG, command, mastering)
            finally:
                os.kill(t.daemon.process.pid, signal.SIGCONT)
            eventually(lambda: t.client.tdi(bdf).state() == "prepared", "it is unbound late")
            equal(client.read16(vfio_user.CONFIG, command) & 7, decoding | mastering, "what was refused was not done")
        client.close()
        b.vm.lease.close()
        t.gone(b.vm)
        t.free(bdf)
    check_log(t)
    t.unchanged(bdf)


@scenario("edu", needs=("faults",), start=False, tags=("quick",))
def policy_unknown_facts(t):
    """What could not be read of a function is not taken for absent: it is not admitted before it is known."""
    bdf = t.host.bdf("edu")
    policy(t, {"name": "never this one", "match": {"serial": "00-00-00-00-00-00-00-01"}, "decision": "deny"}, {"name": "all", "decision": "allow"})
    rule = t.host.client.control("fault", rule={"call": "read:config", "device": bdf, "errno": "EIO"})["id"]
    t.start()
    vm = t.vm()
    contains(refused("Busy", lambda: vm.attach(bdf)), "config space could not be read", "why")
    t.host.client.control("clear", id=rule)

    def attaches():
        try:
            vm.attach(bdf)
        except Refused as error:
            equal(error.name, "Busy", str(error))
            return False
        return True
    eventually(attaches, "it is attached when it is known")
    vm.lease.close()
    t.gone(vm)
    t.unchanged(bdf)


# ---- evidence ----

def start_with_evidence(t, config=None, **options):
    """tdid with a device that answers: its address, the responder."""
    bdf = t.host.bdf("spdm")
    responder = t.spdm(bdf, hash="sha384", **options)
    t.daemon.start(arguments=t.configured({**DOE, **(config or {})}))
    return bdf, responder


def wanting(responder, references, bdf, **more):
    return {"name": "proven", "match": {"bdf": bdf}, "decision": "require",
            "require": {"evidence": {"anchor": responder.anchor, "references": references, "signed": True, **more}}}


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def evidence_shown(t):
    """What a device says is collected, verified, stored by its digest, and written for other tools; the kernel is asked first, and its mailbox only where that is allowed."""
    bdf, responder = t.host.bdf("spdm"), t.spdm(t.host.bdf("spdm"), hash="sha384")
    policy(t, wanting(responder, write_json(t, "references.json", responder.references()), bdf))
    t.start()
    error = t.tdictl("device", "evidence", bdf, code=4).err
    contains(error, "doe", "the switch")
    contains(error, "systemctl restart tdid", "what makes it count")
    contains(error, "device-evidence", "what the kernel said")
    t.daemon.stop()
    t.daemon.start(arguments=t.configured(DOE))
    folder = os.path.join(t.folder, "raw")
    nonce = "ab" * 32
    e = t.tdictl.json("device", "evidence", bdf, "--verify", "--raw=" + folder, "--nonce=" + nonce)["evidence"]
    equal((e["source"], e["nonce"], [x["source"] for x in e["tried"]]), ("doe", nonce, ["kernel", "tsm", "doe"]), "where it is from")
    equal([x["reason"] for x in e["tried"]], ["not-supported", "not-bound", "ok"], "what became of each")
    (verdict,) = e["verified"]
    equal((verdict["ok"], verdict["reason"], verdict["measurements"]["signed"]), (True, "ok", True), "the verdict")
    equal({b["index"]: b["result"] for b in verdict["measurements"]["blocks"]}, dict.fromkeys(responder.measurements, "matched"), "measurements")
    for o in e["objects"]:
        with open(os.path.join(folder, o["type"] + "." + o["form"].replace("raw", "bin")), "rb") as file:
            data = file.read()
        equal(len(data), o["size"], o["type"])
        if o["form"] == "raw":
            equal(hashlib.sha256(data).hexdigest(), o["sha256"], o["type"])
            with open(os.path.join(t.daemon.archive, "objects", o["sha256"]), "rb") as file:
                equal(file.read(), data, "what is in the archive")
    check(bytes.fromhex(nonce) in open(os.path.join(folder, "measurements.bin"), "rb").read(), "the nonce is not in the measurements")
    with open(os.path.join(folder, "slot0.pem"), encoding="ascii") as file:
        contains(file.read(), "BEGIN CERTIFICATE", "the chain")
    with open(os.path.join(t.daemon.archive, "records", e["archived"]), encoding="utf-8") as file:
        equal(json.load(file)["objects"], e["objects"], "the record")
    before = len(os.listdir(os.path.join(t.daemon.archive, "objects")))
    t.tdictl("device", "evidence", bdf)
    after = os.listdir(os.path.join(t.daemon.archive, "objects"))
    check(before < len(after) <= before + 3, f"what is the same is stored once: {before} objects, then {len(after)}")
    responder.fault("bad-signature")
    e = t.tdictl.json("device", "evidence", bdf, "--verify", code=4)["evidence"]
    equal((e["verified"][0]["ok"], e["verified"][0]["reason"]), (False, "bad-signature"), "with a bit changed")


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def evidence_archived(t):
    """The newest record of a device is given out again as it was, without a word to the device, and judged anew; what the archive has lost or is not what it is called is no evidence."""
    bdf, responder = start_with_evidence(t)
    policy(t, wanting(responder, write_json(t, "references.json", responder.references()), bdf))
    reload(t)
    contains(t.tdictl("device", "evidence", bdf, "--archived", code=4).err, "the archive has no evidence", "before there is any")
    raws = [os.path.join(t.folder, name) for name in ("first", "second")]
    t.tdictl("device", "evidence", bdf)
    asked = t.tdictl.json("device", "evidence", bdf, "--verify", "--raw=" + raws[0])["evidence"]
    records = sorted(os.listdir(os.path.join(t.daemon.archive, "records")))
    responder.silence()
    found = t.tdictl.json("device", "evidence", bdf, "--archived", "--verify", "--raw=" + raws[1])["evidence"]
    equal((found["from_archive"], found["archived"], records[-1]), (True, asked["archived"], asked["archived"]), "which record it is")
    for key in ("source", "time", "nonce", "tried", "objects"):
        equal(found[key], asked[key], key)
    equal([(v["ok"], v["reason"]) for v in found["verified"]], [(True, "ok")], "the verdict")
    equal(sorted(os.listdir(raws[1])), sorted(os.listdir(raws[0])), "files")
    for name in set(os.listdir(raws[0])) - {"evidence.json"}:
        with open(os.path.join(raws[0], name), "rb") as one, open(os.path.join(raws[1], name), "rb") as other:
            equal(other.read(), one.read(), name)
    equal(sorted(os.listdir(os.path.join(t.daemon.archive, "records"))), records, "records after it")
    # It is judged by the policy of now, and never admits.
    other = responder.references()
    other["measurements"][1]["values"] = ["00" * 48]
    policy(t, wanting(responder, write_json(t, "references.json", other), bdf))
    reload(t)
    (verdict,) = t.tdictl.json("device", "evidence", bdf, "--archived", "--verify", code=4)["evidence"]["verified"]
    equal(verdict["reason"], "mismatch", "the verdict of other reference values")
    vm = t.vm()
    refused("Policy", lambda: vm.attach(bdf))
    contains(t.tdictl("device", "evidence", bdf, "--archived", "--nonce=" + "ab" * 32, code=2).err, "--nonce", "both of them")
    # An object that is another one, and one that has gone.
    (digest,) = [o["sha256"] for o in asked["objects"] if o["type"] == "measurements" and o["form"] == "raw"]
    path = os.path.join(t.daemon.archive, "objects", digest)
    os.rename(path, path + ".away")
    contains(t.tdictl("device", "evidence", bdf, "--archived", code=11).err, "ask the device", "without its measurements")
    with open(path, "wb") as file:
        file.write(bytes(os.path.getsize(path + ".away")))
    contains(t.tdictl("device", "evidence", bdf, "--archived", code=11).err, digest, "with other measurements")
    os.rename(path + ".away", path)
    t.tdictl("device", "evidence", bdf, "--archived")
    with open(os.path.join(t.daemon.archive, "records", records[-1]), "w", encoding="utf-8") as file:
        file.write('{"bdf": "' + bdf + '", "bdf": ""}')
    contains(t.tdictl("device", "evidence", bdf, "--archived", code=11).err, records[-1], "a record that is none")


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def evidence_unsealed(t):
    """What a worker hands out, and could change later, is handed on to nobody: it has parsed a stranger's bytes."""
    bdf = t.host.bdf("spdm")
    t.spdm(bdf, hash="sha384")
    for what in ("raw", "text"):
        t.daemon.start({"TDID_TEST_FAIL": f"evidence.seal:{what}:1"}, arguments=t.configured(DOE))
        contains(t.tdictl("device", "evidence", bdf, code=11).err, "not complete", f"an answer whose {what} is not sealed")
        t.daemon.stop()
    t.daemon.start(arguments=t.configured(DOE))
    t.tdictl("device", "evidence", bdf)


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def evidence_gate(t):
    """A device is admitted by what it proves: a measurement that differs is named, with both values; a chain to another root is refused; nothing of a refused attach is left."""
    bdf, responder = start_with_evidence(t)
    references = write_json(t, "references.json", responder.references())
    path = policy(t, wanting(responder, references, bdf))
    reload(t)
    vm = t.vm()
    vm.attach(bdf)
    equal(vm.describe()["tdis"][0]["admitted_by"], "proven", "which rule admitted it")
    t.client.tdi(bdf).detach()
    t.free(bdf)
    good = responder.value(2)
    responder.change(2, "6669726d776172652032")
    text = refused("Policy", lambda: vm.attach(bdf))
    for word, what in (("proven", "the rule"), (path, "its file"), ("2", "the index"), (good[:16], "what was expected"), (responder.value(2)[:16], "what was found")):
        contains(text, word, what)
    equal(t.device(bdf).text("Custody"), "none", "what is left of a refused attach")
    t.unchanged(bdf)
    responder.change(2, "6669726d776172652031")
    with open(responder.anchor, encoding="ascii") as file:
        mine = file.read()
    for fault, reason in (("foreign-root", "foreign-root"), ("expired", "expired"), ("bad-signature", "bad-signature"), ("wrong-nonce", "wrong-nonce"), ("endless-busy", "busy")):
        responder.fault(fault)
        with open(responder.anchor, "w", encoding="ascii") as file:
            file.write(mine)
        contains(refused("Policy", lambda: vm.attach(bdf)), f"{reason}: ", f"why {fault} is refused")
    responder.fault(None)
    vm.attach(bdf)
    t.daemon.restart()
    equal(vm.describe()["tdis"][0]["drift"], "", "drift after a restart")
    vm.lease.close()
    t.gone(vm)
    t.unchanged(bdf)


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def evidence_reload(t):
    """The policy is another one when the evidence has come: what that wants counts."""
    # Some bytes of a chain at a time: it takes a second or two. In the VM each double word is a trap of its own.
    bdf, responder = start_with_evidence(t, portion=4 if t.host.spec.startswith("sim:") else 128, chain_length=4, fault="fine-not-ready")
    references = write_json(t, "references.json", responder.references())
    other = write_json(t, "other.json", responder.references(name="other"))
    proven = wanting(responder, references, bdf)
    vm = t.vm()

    def change_during_attach(rule):
        policy(t, proven)
        reload(t)
        errors = []

        def attach():
            try:
                attach_as(t, 0, vm, bdf)
            except Refused as error:
                errors.append(error)
        thread = threading.Thread(target=attach)
        thread.start()
        time.sleep(0.5)
        policy(t, rule)
        reload(t)
        thread.join()
        return errors
    (error,) = change_during_attach({"name": "closed", "match": {"bdf": bdf}, "decision": "deny"})
    equal(error.name, "Policy", "the error")
    contains(str(error), "closed", "which policy decided")
    equal(change_during_attach(wanting(responder, other, bdf)), [], "an attach whose evidence is wanted anew")
    equal(t.client.tdi(bdf).state(), "prepared", "state")
    vm.lease.close()
    t.gone(vm)
    t.unchanged(bdf)


@scenario("spdm", needs=("spdm", "root"), start=False, tags=("quick",))
def evidence_refused_often(t):
    """Refusals leave nothing behind that the next attach would be refused for; and a rule that only evidence kept from matching is named, with what is wrong."""
    bdf, responder = start_with_evidence(t)
    references = write_json(t, "references.json", responder.references())
    policy(t, {"name": "good ones", "match": {"owner": ALICE, "evidence": {"anchor": responder.anchor, "references": references}}, "decision": "allow"})
    reload(t)
    responder.change(2, "6669726d776172652032")
    vm = t.vm(owner_uid=ALICE)
    for _ in range(10):
        text = refused("Policy", lambda: attach_as(t, ALICE, vm, bdf))
        contains(text, "good ones", "the rule that is near")
        contains(text, "mismatch: index 2", "what is wrong")
    responder.change(2, "6669726d776172652031")
    attach_as(t, ALICE, vm, bdf)
    eventually(lambda: t.client.tdi(bdf).state() == "prepared", "alice has it")
    vm.lease.close()
    t.gone(vm)
    t.unchanged(bdf)


@scenario("spdm", needs=("spdm", "machines"), start=False, tags=("quick",))
def evidence_replaced(t):
    """Another device in the place of the one that proved what it is: what counts is what that one proves."""
    bdf, responder = start_with_evidence(t, portion=4, chain_length=4, fault="fine-not-ready")
    references = write_json(t, "references.json", responder.references())
    policy(t, wanting(responder, references, bdf))
    reload(t)
    vm = t.vm()
    errors = []

    def attach():
        try:
            attach_as(t, 0, vm, bdf)
        except Refused as error:
            errors.append(error)
    thread = threading.Thread(target=attach)
    thread.start()
    time.sleep(0.5)
    t.host.remove(bdf)
    t.host.rescan()
    responder.set(portion=None, fault=None)
    responder.change(2, "6669726d776172652032")
    t.host.client.control("spdm-port", device=bdf, port=responder.relay.port)
    thread.join()
    check(len(errors) == 1 and errors[0].name in ("Policy", "NotFound", "Busy"), f"what became of the attach: {errors}")
    eventually(lambda: t.device(bdf).text("Custody") == "none", "nobody has it")
    vm.lease.close()
    t.gone(vm)
