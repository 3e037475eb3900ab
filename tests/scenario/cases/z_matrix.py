# SPDX-License-Identifier: LGPL-2.1-or-later
#
# TDIs beside each other: a physical function and two VFs of another one in a VM, each early or late, there before the guest or plugged in. After each
# step tdid, the kernel's files and the TSM's own log say the same.

import itertools

from cases.x_bind import NOTICE, check_log, rid
from kit.checks import equal, eventually
from kit.registry import scenario
from kit.requests import ECHO, OK, op


class Mixed:
    """The functions, how each is bound, and which are plugged in."""

    def __init__(self, t, bdfs, when, plugged):
        self.t, self.bdfs = t, bdfs
        self.when, self.plugged = dict(zip(bdfs, when)), dict(zip(bdfs, plugged))
        self.attached = []
        self.vm = t.vm(hotplug=True)

    def attach(self, *bdfs):
        self.vm.attach(*[(b, {"guest_rid": rid(self.bdfs.index(b)), "bind": self.when[b]}) for b in bdfs])
        self.attached += bdfs

    def agree(self, *bound):
        t = self.t
        for bdf in self.bdfs:
            here, is_bound, dsm = bdf in self.attached, bdf in bound, t.host.dsm(bdf)
            used = any(t.host.dsm(b) == dsm for b in self.attached)
            equal(t.host.tsm_connected(dsm), t.tsm_name if used else "", f"tsm/connect of {dsm}")
            equal(t.host.tsm_bound(bdf) or "", t.tsm_name if is_bound else "", f"tsm/bound of {bdf}")
            equal(t.device(bdf).text("Custody"), "bind" if is_bound else "prepare" if here else "none", f"custody of {bdf}")
            eventually(lambda: t.device(bdf).text("Bound") == (t.tsm_name if is_bound else ""), f"property Bound of {bdf}", NOTICE)
            if here:
                equal(t.host.read(bdf, "tsm/dsm"), dsm, f"tsm/dsm of {bdf}")
                equal(t.client.tdi(bdf).state(), "bound" if is_bound else "prepared", f"state of {bdf}")
        doc = {x["bdf"]: (x["bound"] or {}).get("tdi_id") for x in self.vm.describe()["tdis"]}
        equal(doc, {b: rid(self.bdfs.index(b)) if b in bound else None for b in self.attached}, "TDI ids")
        check_log(t, len(bound))

    def early(self, there):
        return [b for b in self.attached if self.when[b] == "early" and b in there]

    def run(self):
        t, first = self.t, [b for b in self.bdfs if not self.plugged[b]]
        if first:
            self.attach(*first)
        self.agree()
        kvm = t.host.kvm_vm()
        self.vm.set_kvm(kvm)
        t.host.close(kvm)
        self.agree()
        self.vm.seal()
        bound = self.early(first)
        self.agree(*bound)
        for bdf in [b for b in self.bdfs if self.plugged[b]]:
            self.attach(bdf)
            if self.when[bdf] == "early":
                bound.append(bdf)
                eventually(lambda: t.client.tdi(bdf).state() == "bound", f"the bind of {bdf}, which was plugged in")
            self.agree(*bound)
        for bdf in [b for b in self.bdfs if b not in bound]:
            t.client.tdi(bdf).bind()
            bound.append(bdf)
            self.agree(*bound)
        for bdf in self.bdfs:
            equal(t.client.tdi(bdf).request("info", op(ECHO, b"\x0f")), (b"\xf0", OK), f"a request of {bdf}")

    def take_apart(self):
        """One by one, bound or unbound before."""
        t, bound = self.t, list(self.bdfs)
        for bdf in t.rng.sample(self.bdfs, len(self.bdfs)):
            if t.rng.random() < 0.5:
                t.client.tdi(bdf).unbind()
                bound.remove(bdf)
                self.agree(*bound)
            t.client.tdi(bdf).detach()
            t.free(bdf)
            self.attached.remove(bdf)
            bound = [b for b in bound if b != bdf]
            self.agree(*bound)
        self.vm.lease.close()


@scenario("nvme", "igb-vf:2", tsm=("nvme", "igb"), needs=("bind_module", "kvm"), timeout=900)
def bind_matrix(t):
    """Early or late, before the guest or plugged in, for each of three functions: eight of the sixty-four, with every value of each axis; all with --full."""
    bdfs = (t.host.bdf("nvme"), *t.host.bdfs("igb-vf", 2))
    module = t.load_bind_module()
    whens = list(itertools.product(("early", "late"), repeat=3))
    plugs = list(itertools.product((False, True), repeat=3))
    t.rng.shuffle(plugs)
    ways = (Mixed.take_apart, lambda m: m.vm.lease.close(), lambda m: m.vm.destroy())
    for i, (when, plugged) in enumerate(itertools.product(whens, plugs) if t.full else zip(whens, plugs)):
        t.note(f"{when}, plugged in {plugged}")
        if i % 4 == 3:
            # With nobody bound it can be exchanged under a running tdid.
            module.close()
            module = t.load_bind_module()
        m = Mixed(t, bdfs, when, plugged)
        m.run()
        ways[i % len(ways)](m)
        t.gone(m.vm)
        t.free(*bdfs)
        check_log(t)
    for bdf in bdfs:
        equal(t.tsm.count("bind", bdf), t.tsm.count("unbind", bdf), f"binds and unbinds of {bdf}")
