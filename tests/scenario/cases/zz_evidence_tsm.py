# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a TSM has collected of a device, as evidence: by requests about a TDI that is bound. The objects are those of a real conversation with the
# suite's responder; the TSM gives them as Arm CCA's host driver does.

import hashlib

from cases.x_bind import Bound
from cases.z_requests import CCA, ask_report, opened, report_of
from cases.zz_admission import policy, wanting, write_json
from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.registry import scenario
from kit.spdm import Transcript

CERTIFICATES, MEASUREMENTS, REPORT, VCA = 1, 2, 3, 4
NONCE = bytes(range(0x40, 0x60))


def conversation(t):
    """The responder of the function with a mailbox, and what it says to who owns that; a policy that wants it proven of some other function."""
    bdf = t.host.bdf("spdm")
    responder = t.spdm(bdf, hash="sha384")
    policy(t, wanting(responder, write_json(t, "references.json", responder.references()), bdf))
    return responder, Transcript(t, bdf)


def known(t):
    """A VM is of the platform of the TSM that tdid knows when it is made."""
    eventually(lambda: t.tsm_name in [str(x["name"]) for x in t.tdictl.json("tsm", "list")["tsms"]], f"tdid knows of {t.tsm_name}", 30)


def start(t, **more):
    """tdid on a host of Arm CCA, when it knows that."""
    t.daemon.start(arguments=t.configured(more))
    known(t)


def give(t, said, certificates=None, nonce=NONCE):
    t.tsm.set_object(VCA, said.vca)
    t.tsm.set_object(CERTIFICATES, said.certificates if certificates is None else certificates)
    t.tsm.set_object(MEASUREMENTS, said.measurements(nonce))


def evidence(t, bdf, *arguments, code=0):
    return t.tdictl.json("device", "evidence", bdf, *arguments, code=code)["evidence"]


def tried(e):
    return {x["source"]: (x["reason"], x["text"]) for x in e["tried"]}


def raw(e):
    return {o["type"]: o for o in e["objects"] if o["form"] == "raw"}


def good(t, bdf, provider, said):
    """Evidence of a function whose TSM has it all."""
    e = evidence(t, bdf, "--verify", "--nonce=" + NONCE.hex())
    equal((e["source"], [x["source"] for x in e["tried"]]), ("tsm", ["kernel", "tsm"]), "where it is from")
    reason, text = tried(e)["tsm"]
    equal(reason, "ok", text)
    for words in (provider, t.tsm_name, f"vca: {len(said.vca)} bytes", "certificates: ", "measurements: ", "report: "):
        contains(text, words, "what the TSM gave")
    (verdict,) = e["verified"]
    equal((verdict["ok"], verdict["reason"], verdict["measurements"]["signed"], verdict["slot"]), (True, "ok", True, 0), "the verdict")
    objects = raw(e)
    equal(sorted(objects), ["measurements", "report", "slot0", "vca"], "its objects")
    equal({o["source"] for o in objects.values()}, {"tsm"}, "their source")
    check(all(0 <= e["time"] - o["time"] < 60_000_000 for o in objects.values()), f"their times: {objects}, {e['time']}")
    equal(objects["vca"]["sha256"], hashlib.sha256(said.vca).hexdigest(), "the VCA")
    equal(objects["slot0"]["sha256"], hashlib.sha256(said.chain).hexdigest(), "the chain, as SPDM has it")
    return e


@scenario("igb-vf", "spdm", needs=("bind_module", "kvm", "spdm"), start=False, tags=("quick",))
def evidence_tsm(t):
    """A function that is bound gives the evidence that its TSM has, each object with its source; what the TSM does not give, or is not what it should be, is named."""
    bdf = t.host.bdf("igb-vf")
    _, said = conversation(t)
    t.load_tsm([t.host.dsm(bdf)], parent=CCA, fake_viommu=1, bind_locks=0)
    start(t)
    b = Bound(t, bdf)
    error = t.tdictl("device", "evidence", bdf, code=4).err
    contains(error, "it is not bound to a VM", "why no TSM is asked")
    b.bind()
    client = opened(t, bdf)
    client.change("lock")
    # One that takes such a request for another.
    error = t.tdictl("device", "evidence", bdf, code=4).err
    contains(error, "vca: it has 1 bytes, and does not give them", "a TSM that understands something else")
    # What its guest has asked for is there without asking again.
    report = ask_report(client)
    eventually(lambda: report_of(b), "tdid has the report")
    e = evidence(t, bdf)
    equal((e["source"], sorted(raw(e))), ("tsm", ["report"]), "the report of its guest")
    equal(raw(e)["report"]["sha256"], hashlib.sha256(report).hexdigest(), "the report")
    contains(tried(e)["tsm"][1], "as its guest has asked for it", "how it came")
    seen = t.tsm.count("guest_req")
    give(t, said)
    good(t, bdf, "tdid-bind 1", said)
    equal(t.tsm.count("guest_req") - seen, 8, "requests: a size and an object each")
    log = "\n".join(t.daemon.log())
    contains(log, f"{bdf}: request of tdid, info (scope info, 8 bytes): done", "the log of each request")
    # They were measured for somebody else's nonce: that is no fresh evidence.
    (verdict,) = evidence(t, bdf, "--verify", code=4)["verified"]
    equal((verdict["ok"], verdict["reason"]), (False, "wrong-nonce"), "of a nonce that the device has not seen")
    # With SPDM's header it is taken as it is.
    give(t, said, certificates=said.chain)
    good(t, bdf, "tdid-bind 1", said)
    # What does not fit is left out, and the rest is shown.
    for number, data, words, left in ((VCA, b"rubbish", "vca: 7 bytes that are nothing of the kind", ["measurements", "report", "slot0"]),
                                      (CERTIFICATES, said.chain[:-1], "certificates: ", ["measurements", "report", "vca"]),
                                      (CERTIFICATES, b"", "certificates: none", ["measurements", "report", "vca"]),
                                      (REPORT, b"\xff" * 40, "report: 40 bytes that are nothing of the kind", ["measurements", "report", "slot0", "vca"])):
        give(t, said, certificates=said.chain)
        t.tsm.set_object(number, data)
        e = evidence(t, bdf)
        contains(tried(e)["tsm"][1], words, f"object {number}, of {len(data)} bytes")
        equal(sorted(raw(e)), left, "what is left of its objects")
    # A host's policy for the guest's requests is not about these, nor does a guest that has all the sockets keep tdid from asking.
    others = [opened(t, bdf) for _ in range(7)]
    refused("Limit", lambda: t.client.tdi(bdf).requests())
    check("vca" in raw(evidence(t, bdf)), "nothing is read while the guest has every socket that it can have")
    for other in others:
        other.close()
    t.client.tdi(bdf).unbind()
    contains(t.tdictl("device", "evidence", bdf, code=4).err, "it is not bound to a VM", "after the unbind")
    b.vm.destroy()
    t.gone(b.vm)
    t.free(bdf)


@scenario("igb-vf:2", "spdm", needs=("bind_module", "kvm", "spdm"), start=False, tags=("quick",))
def evidence_tsm_sibling(t):
    """What the device says of itself is as good by way of another of its functions; the interface report is not."""
    first, second = t.host.bdfs("igb-vf", 2)
    responder, said = conversation(t)
    t.load_tsm([t.host.dsm(first)], parent=CCA, fake_viommu=1, bind_locks=0)
    start(t)
    b = Bound(t, first)
    b.bind()
    give(t, said)
    for bdf in (second, t.host.dsm(first)):
        e = evidence(t, bdf, "--verify", "--nonce=" + NONCE.hex())
        equal((e["source"], sorted(raw(e)), e["verified"][0]["ok"]), ("tsm", ["measurements", "slot0", "vca"], True), f"evidence of {bdf}")
    # On the way to an attach the nonce is tdid's own, which what the TSM keeps was not signed for.
    policy(t, {**wanting(responder, write_json(t, "references.json", responder.references()), second), "name": "fresh"})
    t.client.manager("Reload")
    other = t.vm()
    contains(refused("Policy", lambda: other.attach((second, {"guest_rid": 0x200}))), "wrong-nonce", "why the other function is not admitted")
    for vm in (other, b.vm):
        vm.destroy()
        t.gone(vm)
    t.free(first, second)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def evidence_tsm_unknown(t):
    """Of a platform whose requests nobody has published the TSM is not asked; its guest's report is shown all the same."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    b.bind()
    client = opened(t, bdf)
    seen = t.tsm.count("guest_req")
    contains(t.tdictl("device", "evidence", bdf, code=4).err, "published nowhere", "why it is not asked")
    equal(t.tsm.count("guest_req"), seen, "requests to the TSM")
    ask_report(client)
    eventually(lambda: report_of(b), "tdid has the report")
    e = evidence(t, bdf)
    equal((e["source"], sorted(raw(e)), tried(e)["tsm"][0]), ("tsm", ["report"], "ok"), "what there is")


@scenario("igb-vf", needs=("bind_module", "kvm"), start=False, tags=("quick",))
def evidence_tsm_slow(t):
    """A TSM that does not answer is given up in time, and its TDI can be unbound when it has."""
    bdf = t.host.bdf("igb-vf")
    t.load_tsm([t.host.dsm(bdf)], parent=CCA, fake_viommu=1, bind_locks=0)
    start(t, deadlines={"evidence": 2})
    b = Bound(t, bdf)
    b.bind()
    t.tsm.rule("guest_req", bdf, delay=60000, count=1)
    error = t.tdictl("device", "evidence", bdf, code=4).err
    contains(error, "Connection timed out", "why there is none")
    equal(len(t.tsm.running("guest_req")), 1, "requests that hang in the TSM")
    t.tsm.release()
    t.client.tdi(bdf).unbind()
    b.check()
