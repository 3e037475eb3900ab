# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Virtual functions that come and go under tdid: they appear under a PF that is connected, are switched off or lose their PF while VMs have
# them, and are opened by the token of a PF that is in a VM too.

import os

from cases.x_bind import Bound, check_log
from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.registry import scenario
from kit.tdictl import Monitor

ENABLE = "/sys/module/vfio_pci/parameters/enable_sriov"


def vfs(t, pf):
    return sorted(os.path.basename(t.host.files.readlink(p)) for p in t.host.files.glob(t.host.path(pf, "virtfn*")))


def as_before(t, pf):
    """The PF on its driver with the VFs that every scenario starts with; once tdid has stopped."""
    def restore():
        t.host.rescan()
        eventually(lambda: t.host.driver(pf) == "igb", "driver of the PF", 20)
        if t.host.read(pf, "sriov_numvfs") != "2":
            t.host.write(pf, "sriov_numvfs", "0")
            t.host.write(pf, "sriov_numvfs", "2")
        eventually(lambda: len(vfs(t, pf)) == 2 and all(t.host.driver(v) for v in vfs(t, pf)), "VFs of the PF", 20)
    t.after(restore)


def known(t, bdf):
    return eventually(lambda: f"/org/tdid1/device/{t.device(bdf).path.rsplit('/', 1)[1]}" in t.client.objects() and t.device(bdf), f"tdid knows {bdf}")


def switched_off(how):
    def run(t):
        pf = t.host.bdf("igb")
        first, second = t.host.bdfs("igb-vf", 2)
        as_before(t, pf)
        b = Bound(t, first, second, bind="early")
        other = t.vm()
        other.attach(t.host.bdf("edu"))
        monitor = Monitor(t)
        gone = t.host.start_remove(pf) if how == "remove" else t.host.start_write(pf, "sriov_numvfs", "0")
        eventually(gone, "the kernel goes on: tdid has let go", 60)
        eventually(lambda: not b.vm.describe()["tdis"], "the functions are given back")
        eventually(lambda: {e["id"] for e in monitor.seen if e.get("key") == "failed"} == {first, second}, "the signals")
        ops = [(c.op, c.bdf) for c in t.tsm.calls() if c.op in ("unbind", "disconnect") and c.result == "0"]
        equal((sorted(bdf for op, bdf in ops if op == "unbind"), ops[-1]), ([first, second], ("disconnect", pf)), f"what the TSM is asked: {ops}")
        for bdf in (first, second):
            eventually(lambda bdf=bdf: t.device(bdf).path not in t.client.objects(), f"{bdf} is not shown any more")
        equal(len(t.daemon.journals()), 1, "functions in custody")
        equal(t.client.tdi(t.host.bdf("edu")).state(), "prepared", "others")
        check(b.vm.alive(), "the VM went with its functions")
    return run


scenario("igb", "igb-vf:2", "edu", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",), name="bind_vfs_switched_off")(switched_off("numvfs"))
scenario("igb", "igb-vf:2", "edu", tsm=("igb",), needs=("bind_module", "kvm"), name="bind_pf_removed")(switched_off("remove"))


@scenario("igb", "igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def bind_vfs_appear(t):
    """VFs that appear under a PF that is connected are TDIs like any other."""
    pf = t.host.bdf("igb")
    as_before(t, pf)
    monitor = Monitor(t)
    t.host.write(pf, "sriov_numvfs", "0")
    eventually(lambda: t.device(pf).text("SRIOV") == "none", "its role without VFs", 20)
    t.tsm_baseline = None
    t.device(pf).connect()
    t.host.write(pf, "sriov_numvfs", "2")
    first, second = eventually(lambda: len(vfs(t, pf)) == 2 and all(t.host.driver(v) for v in vfs(t, pf)) and vfs(t, pf), "the VFs", 20)
    for bdf in (first, second):
        known(t, bdf)
        eventually(lambda bdf=bdf: (t.device(bdf).text("DSM"), t.device(bdf).text("TSM")) == (pf, t.tsm_name), f"what speaks for {bdf}")
    eventually(lambda: [e["value"] for e in monitor.seen if (e["kind"], e.get("id"), e.get("key")) == ("changed", pf, "sriov")] == ["none", "pf"],
               "who listens is told of its role")
    b = Bound(t, first, second)
    b.bind()
    b.check(first, second)
    b.vm.destroy()
    t.gone(b.vm)
    # An operator's.
    equal(t.host.tsm_connected(pf), t.tsm_name, "connection")
    t.device(pf).disconnect()
    check_log(t)


@scenario("igb", "igb-vf", tsm=("igb",), tags=("quick",))
def vf_token(t):
    """
    A PF in a VM, and its VFs in others: the kernel wants the PF's token for each, which tdid makes and passes; others do not know it. They go
    with the PF, and a VF that a VM has keeps the PF from being opened.
    """
    pf = t.host.bdf("igb")
    as_before(t, pf)
    was = t.host.files.read(ENABLE).decode().strip()
    t.after(lambda: t.host.write_file(ENABLE, was))
    t.host.write_file(ENABLE, "Y")
    t.host.write(pf, "sriov_numvfs", "0")
    t.tsm_baseline = None
    eventually(lambda: not vfs(t, pf), "the VFs are gone")
    owner, user, other = t.vm(), t.vm(), t.vm()
    owner.attach(pf)
    t.host.write(pf, "sriov_numvfs", "2")
    first, second = eventually(lambda: len(vfs(t, pf)) == 2 and vfs(t, pf), "the VFs", 20)
    for bdf in (first, second):
        known(t, bdf)
        eventually(lambda bdf=bdf: t.device(bdf).text("DSM") == pf, f"what speaks for {bdf}")
    text = refused("Kernel", other.attach, (second, {"vf_token": "00000000-0000-4000-8000-000000000001"}))
    contains(text, "EACCES", "with another token")
    user.attach(first)
    t.attached(user, first)
    t.daemon.restart()
    other.attach(second)
    t.attached(other, second)
    # What nobody but root may know.
    check("vf_token" not in str(user.describe()) + str(owner.describe()), "the token is told")
    # The PF leaves: to its driver, which takes the VFs along.
    owner.destroy()
    t.gone(owner)
    t.free(pf)
    eventually(lambda: not user.describe()["tdis"] and not other.describe()["tdis"], "the VFs are given back")
    eventually(lambda: t.host.driver(pf) == "igb" and not vfs(t, pf), "the PF is back with its driver")


@scenario("igb", "igb-vf", tags=("quick",))
def vf_token_on_vfio(t):
    """The PF is the host's, on vfio-pci with VFs: it goes to a VM together with them, and later ones follow by its token; it is left as it was."""
    pf = t.host.bdf("igb")
    as_before(t, pf)
    was = t.host.files.read(ENABLE).decode().strip()
    t.after(lambda: t.host.write_file(ENABLE, was))
    t.after(lambda: t.host.reprobe(pf))
    t.host.write_file(ENABLE, "Y")
    t.host.set_driver(pf, "vfio-pci")
    t.host.write(pf, "sriov_numvfs", "2")
    first, second = eventually(lambda: len(vfs(t, pf)) == 2 and vfs(t, pf), "the VFs", 20)
    for bdf in (first, second):
        known(t, bdf)
    vm = t.vm()
    # Busy while what it is has not been read yet.
    contains(eventually(lambda: refused("Kernel", vm.attach, second), "an answer about the VF"), "attach that first", "what to do for a PF that nobody has opened")
    vm.attach(first, pf)
    t.attached(vm, first, pf)
    vm.attach(second)
    t.attached(vm, first, second, pf)
    t.client.tdi(pf).detach()
    t.free(pf)
    contains(refused("InUse", vm.attach, pf), first, "what the open would reset")
    t.attached(vm, first, second)
    vm.destroy()
    t.gone(vm)
    t.free(first, second)
    equal((t.host.driver(pf), t.host.read(pf, "sriov_numvfs")), ("vfio-pci", "2"), "the PF as it was")
