# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tdid with a kernel that has the device-evidence family: a device is admitted by what the kernel has of it. The family is the test module's; what it
# serves is what the suite's responder says, signed for the nonce that tdid has sent.

import hashlib

from cases.x_bind import Bound
from cases.z_requests import CCA
from cases.zz_admission import policy, reload, wanting, write_json
from cases.zz_evidence_tsm import evidence, raw, start, tried
from kit.checks import contains, equal
from kit.client import refused
from kit.registry import scenario
from kit.spdm import KernelEvidence

NEEDS = ("evidence_module", "spdm", "linux", "root")


@scenario("spdm", needs=NEEDS, start=False, tags=("quick",))
def evidence_kernel(t):
    """The kernel's evidence admits a device, with no mailbox of tdid's own; a measurement that differs, a recording and a kernel that cannot measure do not."""
    bdf = t.host.bdf("spdm")
    responder = t.spdm(bdf, hash="sha384")
    kernel = KernelEvidence(t, t.load_evidence_module(), bdf, bdf)
    references = write_json(t, "references.json", responder.references())
    policy(t, wanting(responder, references, bdf))
    t.start()
    e = evidence(t, bdf, "--verify")
    equal((e["source"], tried(e)["kernel"][0], "doe" in tried(e)), ("kernel", "ok", False), "where it is from")
    equal({o["type"]: o["source"] for o in raw(e).values()}, dict.fromkeys(("slot0", "vca", "measurements"), "kernel"), "the source of each object")
    equal(raw(e)["vca"]["sha256"], hashlib.sha256(kernel.said.vca).hexdigest(), "the VCA")
    (verdict,) = e["verified"]
    equal((verdict["ok"], verdict["measurements"]["signed"], verdict["measurements"]["requested_nonce"]), (True, True, e["nonce"]), "the verdict")
    vm = t.vm()
    vm.attach(bdf)
    equal(vm.describe()["tdis"][0]["admitted_by"], "proven", "which rule admitted it")
    contains("\n".join(t.daemon.log()), "is collected, from kernel", "what is written down")
    t.client.tdi(bdf).detach()
    t.free(bdf)
    # One measurement is another.
    good = responder.value(2)
    responder.change(2, "6669726d776172652032")
    kernel.renew()
    text = refused("Policy", lambda: vm.attach(bdf))
    for word, what in (("proven", "the rule"), ("index 2 ", "the index"), (good[:16], "what was expected"), (responder.value(2)[:16], "what was found")):
        contains(text, word, what)
    equal(t.device(bdf).text("Custody"), "none", "what is left of a refused attach")
    responder.change(2, "6669726d776172652031")
    kernel.renew()
    # What was signed for an earlier nonce.
    kernel.replay = bytes.fromhex(e["nonce"])
    contains(refused("Policy", lambda: vm.attach(bdf)), "wrong-nonce: ", "why a recording is refused")
    kernel.replay = None
    # One that has evidence, and cannot measure anew.
    kernel.module.refresh(bdf, "none")
    text = refused("Policy", lambda: vm.attach(bdf))
    contains(text, "cannot measure", "why there is none")
    kernel.module.refresh(bdf, "wait")
    vm.attach(bdf)
    equal(kernel.error, None, "what went wrong with the kernel's part")
    vm.lease.close()
    t.gone(vm)
    reload(t)
    t.unchanged(bdf)


@scenario("igb-vf", "spdm", needs=(*NEEDS, "bind_module", "kvm"), start=False, tags=("quick",))
def evidence_kernel_and_tsm(t):
    """Where the kernel has all but the interface report, that is the TSM's; nothing else of the TSM's is taken."""
    bdf, mailbox = t.host.bdf("igb-vf"), t.host.bdf("spdm")
    t.spdm(mailbox, hash="sha384")
    kernel = KernelEvidence(t, t.load_evidence_module(), t.host.dsm(bdf), mailbox)
    t.load_tsm([t.host.dsm(bdf)], parent=CCA, fake_viommu=1, bind_locks=0)
    start(t)
    b = Bound(t, bdf)
    b.bind()
    t.tsm.set_object(4, b"not asked for")
    e = evidence(t, bdf)
    equal({o["type"]: o["source"] for o in raw(e).values()}, {"slot0": "kernel", "vca": "kernel", "measurements": "kernel", "report": "tsm"}, "source of each object")
    equal((e["source"], t.tsm.count("guest_req")), ("kernel", 2), "its source, and what the TSM was asked")
    kernel.module.set_object(t.host.dsm(bdf), "report", b"the kernel's")
    e = evidence(t, bdf)
    equal((raw(e)["report"]["source"], [x["source"] for x in e["tried"]], t.tsm.count("guest_req")), ("kernel", ["kernel"], 2), "where the kernel has it too")
    equal(kernel.error, None, "what went wrong with the kernel's part")
    b.vm.destroy()
    t.gone(b.vm)
    t.free(bdf)
