# SPDX-License-Identifier: LGPL-2.1-or-later
#
# How an attach waits for evidence: as a step of its job, for each device once, and for those that are there when it is decided.

import json
import os

from cases.zz_admission import policy, reload, start_with_evidence, wanting, write_json
from kit.checks import contains, equal, eventually
from kit.client import NAME, refused
from kit.machine import machine
from kit.registry import scenario

FIRST, SECOND = "0000:01:00.0", "0000:02:00.0"
# A second or two for a chain: in the VM each double word is a trap of its own.
SLOW = {"chain_length": 4, "fault": "fine-not-ready"}


def slow(t):
    return {**SLOW, "portion": 4 if t.host.spec.startswith("sim:") else 128}


def job_text(t, job):
    return json.loads(str(t.client.call(job.path, f"{NAME}.Job", "Describe")))["job"]


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def evidence_step(t):
    """With async an attach answers at once, and evidence is its job's first step: it can be cancelled, its refusal is the job's, and the VM is not sealed nor kept by it."""
    bdf, responder = start_with_evidence(t, **slow(t))
    policy(t, wanting(responder, write_json(t, "references.json", responder.references()), bdf))
    reload(t)
    vm = t.vm()
    tdis, job = vm.attach(bdf, async_=True)
    equal(([t.client.tdi(bdf).path], "evidence"), (tdis, job.step()), "the functions, and the step")
    contains(refused("InvalidState", vm.seal), "asked for its evidence", "a seal meanwhile")
    job.wait()
    equal((t.client.tdi(bdf).state(), job.step()), ("prepared", ""), "the function when it has ended")
    t.client.tdi(bdf).detach()
    t.free(bdf)
    _, job = vm.attach(bdf, async_=True)
    job.cancel()
    job.wait("cancelled")
    contains(job_text(t, job)["text"], "before anything was attached", "when it was cancelled")
    equal(t.device(bdf).text("Custody"), "none", "what a cancelled attach leaves")
    # The device is asked on, for nobody.
    responder.set(portion=None, fault=None)
    responder.change(2, "6669726d776172652032")
    _, job = vm.attach(bdf, async_=True)
    job.wait("failed")
    told = job_text(t, job)
    equal((told["error"], job.step()), (f"{NAME}.Error.Policy", ""), "how it ended")
    contains(told["text"], "mismatch: index 2", "why")
    equal(refused("Policy", lambda: vm.attach(bdf)), told["text"], "the same without async")
    responder.change(2, "6669726d776172652031")
    responder.set(**slow(t))
    other = t.vm()
    _, job = other.attach(bdf, async_=True)
    other.destroy()
    job.wait("failed")
    contains(job_text(t, job)["error"], "InvalidState", "when its VM ends")
    for one in (vm, other):
        one.lease.close()
        t.gone(one)
    t.unchanged(bdf)


def with_evidence(t, functions, deadline=60):
    """A machine with these functions, and a tdid that may use their mailboxes."""
    document = {"platform": "plain", "ports": [{"bdf": "0000:00:01.0", "bus": "01", "count": 2}], "functions": functions, "drivers": [{"name": "igb", "sriov": True}]}
    return machine(t, "proofs", document, {"evidence": {"doe": True}, "deadlines": {"evidence": deadline}})


def collected(o):
    """How often a device has been asked: each time with a nonce of its own, so that no two records are the same."""
    folder = os.path.join(o.daemon.archive, "records")
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0


@scenario(needs=("machines",), start=False, tags=("quick",))
def evidence_replaced_after(t):
    """A device that takes the place of one that has proved what it is, before all that the attach waits for is there, has proved nothing."""
    o = with_evidence(t, [{"bdf": b, "ids": "1b36:0010", "doe": True} for b in (FIRST, SECOND)], deadline=5)
    quick, late = o.spdm(FIRST), o.spdm(SECOND, **slow(o))
    references = [write_json(o, f"{i}.json", r.references()) for i, r in enumerate((quick, late))]
    policy(o, *({**wanting(r, f, b), "name": b} for r, f, b in ((quick, references[0], FIRST), (late, references[1], SECOND))))
    reload(o)
    vm = o.vm()
    _, job = vm.attach(FIRST, SECOND, async_=True)
    eventually(lambda: collected(o) == 1, "the first has answered")
    o.host.remove(FIRST)
    o.host.rescan()
    quick.silence()
    job.wait("failed")
    told = job_text(o, job)
    equal(told["error"], f"{NAME}.Error.Policy", f"how it ended: {told['text']}")
    contains(told["text"], FIRST, "who has proved nothing")
    equal([o.device(b).text("Custody") for b in (FIRST, SECOND)], ["none", "none"], "what is left")
    vm.lease.close()
    o.gone(vm)


@scenario(needs=("machines",), start=False, tags=("quick",))
def evidence_one_speaker(t):
    """Functions that one device speaks for are asked once in an attach; and what it says counts for each."""
    pf = {"bdf": FIRST, "ids": "8086:10c9", "doe": True, "driver": "igb", "sriov": {"total": 2, "enabled": 2, "offset": 128, "stride": 2, "vf": {"ids": "8086:10ca"}}}
    o = with_evidence(t, [pf])
    responder, vfs = o.spdm(FIRST), ["0000:01:10.0", "0000:01:10.2"]
    policy(o, wanting(responder, write_json(o, "references.json", responder.references()), vfs))
    reload(o)
    vm = o.vm()
    vm.attach(*vfs)
    equal(collected(o), 1, "how often it was asked")
    equal([x["admitted_by"] for x in vm.describe()["tdis"]], ["proven"] * 2, "what admitted them")
    for bdf in vfs:
        o.client.tdi(bdf).detach()
        o.free(bdf)
    old = write_json(o, "old.json", responder.references("old"))
    responder.change(2, "6669726d776172652032")
    contains(refused("Policy", lambda: vm.attach(*vfs)), "mismatch: index 2", "what it says then")
    equal(collected(o), 2, "how often it was asked in all")
    # What one of them has to prove is not what the other has to.
    new = write_json(o, "new.json", responder.references("new"))
    policy(o, *({**wanting(responder, f, b), "name": b} for f, b in zip((new, old), vfs)))
    reload(o)
    contains(refused("Policy", lambda: vm.attach(*vfs)), f"rule '{vfs[1]}'", "which rule is not met")
    equal(collected(o), 4, "how often it was asked when they want different things")
    vm.lease.close()
    o.gone(vm)
