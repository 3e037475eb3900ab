# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Bind by way of iommufd's own calls, in the two forms that were posted for Linux. No released kernel has them, so these run on the simulation alone;
# what the real kernel says is in tsm_show_* and bind_no_provider.

import ctypes
import errno
import os
import signal

from cases.x_bind import check_log, kill_holder
from cases.z_association import Associating
from cases.z_requests import CCA, check_tdisp, opened
from cases.zz_evidence_tsm import conversation, give, good, known
from kit.checks import Failure, check, contains, equal, eventually
from kit.client import Lost, Refused, refused
from kit.logind import Logind
from kit.registry import scenario
from kit.requests import ECHO, OK, op

RID = 0x0300
SYS_PIDFD_GETFD = 438
SET_TDI_STATE, READ_OBJECT, OBJECT_INFO = 2, 5, 7
NEEDS = ("iommufd_tsm", "kvm", "programs")


def options(form):
    return {"parent": CCA, "fake_viommu": 1, "bind_locks": 0, "iommufd_tsm": form}


def start(t, bdf, form):
    """A host of Arm CCA whose iommufd has that form; what starts tdid, which lets VMMs associate, and hands off."""
    t.load_tsm([t.host.dsm(bdf)], **options(form))
    arguments = t.configured({"policy": {"associate_kvm": True, "handoff": True}})

    def again(env=None):
        t.daemon.start(env, arguments=arguments)
    again()
    return again


def kvm_of(t, vmm):
    """A copy of the KVM VM of a process."""
    folder = f"/proc/{vmm.pid}/fd"
    (number,) = [int(n) for n in os.listdir(folder) if t.host.canonical(os.readlink(f"{folder}/{n}")) == "anon_inode:kvm-vm"]
    process = os.pidfd_open(vmm.pid)
    fd = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, process, number, 0)
    os.close(process)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return fd


class Realm:
    """A VM whose VMM has made its functions known to KVM, sealed."""

    def __init__(self, t, *bdfs, bind="late", associate=True, seal=True):
        self.t, self.bdfs = t, bdfs
        self.vm, self.vmm = t.vm(bind=bind), Associating(t)
        if associate:
            self.vmm.open(self.vm)
        self.vm.attach(*[(b, {"guest_rid": RID + i}) for i, b in enumerate(bdfs)])
        fd = kvm_of(t, self.vmm)
        self.vm.set_kvm(fd)
        os.close(fd)
        if seal:
            self.vm.seal()

    def describe(self, bdf):
        return next(x for x in self.vm.describe()["tdis"] if x["bdf"] == bdf)

    def provider(self, bdf):
        return (self.describe(bdf)["bound"] or {}).get("provider")

    def check(self, *bound, in_kernel=()):
        """Who is bound as tdid says, and as the kernel does: its virtual device alone may be enough for that."""
        equal([b for b in self.bdfs if self.t.client.tdi(b).state() == "bound"], list(bound), "what is bound")
        equal([b for b in self.bdfs if self.t.host.tsm_bound(b)], [b for b in self.bdfs if b in bound or b in in_kernel], "what the kernel has bound")


def life(t, form):
    first, second = t.host.bdfs("igb-vf", 2)
    again = start(t, first, form)
    name, by_device = f"iommufd v{form}", form == 7
    equal(t.tdictl.json("tsm", "show")["host"]["provider"]["name"], name, "provider of the host")
    r = Realm(t, first, second)
    r.check(in_kernel=(first, second) if by_device else ())
    if by_device:
        contains(refused("InvalidState", t.client.tdi(second).handoff), "bound by its virtual device", "why it is not handed off")
    client = opened(t, first)
    equal(client.ask("info", op(ECHO))[0], errno.ENOTCONN, "a request before the bind")
    t.client.tdi(first).bind()
    r.check(first, in_kernel=(second,) if by_device else ())
    equal(r.provider(first), name, "provider of the function")
    check_tdisp(t, r, "unlocked", "bound", "bound")
    info = OBJECT_INFO if by_device else 0
    equal(client.ask("info", op(ECHO, b"abc"), operation=info), (0, OK, bytes(x ^ 0xff for x in b"abc")), "echo")
    equal(client.ask("info", op(ECHO, b"a" * 100), room=10, operation=info)[0], errno.EMSGSIZE, "no room for the answer")
    equal(client.ask("info", op(ECHO), room=0, operation=info), (0, OK, b""), "no answer at all")
    # What is asked for has to be of the kind that it says it is.
    equal(client.ask("info", op(ECHO), operation=0 if by_device else OBJECT_INFO)[0], errno.EINVAL, "no operation, or one that nobody knows")
    if by_device:
        equal(client.ask("info", op(ECHO), operation=SET_TDI_STATE)[0], errno.EINVAL, "a change of state as information")
        equal(client.ask("start", operation=READ_OBJECT)[0], errno.EINVAL, "information as a change of state")
        equal(client.ask("info", op(ECHO), operation=99)[0], errno.EINVAL, "an operation that is none")
    equal(client.ask("lock")[0], 0, "lock")
    check_tdisp(t, r, "locked", "bound", "locked")
    t.daemon.kill()
    equal(client.ask("start")[0], 0, "start, while no tdid is there")
    again()
    check_tdisp(t, r, "run", "running", "run")
    equal(client.ask("stop")[0], 0, "stop")
    t.client.tdi(first).unbind()
    r.check(in_kernel=(second,) if by_device else ())
    equal(r.describe(first)["viommu"] is None, by_device, "has it lost its virtual device?")
    t.client.tdi(first).bind()
    r.check(first, in_kernel=(second,) if by_device else ())
    check(r.describe(first)["viommu"], "its virtual device")
    equal(client.ask("info", op(ECHO, b"z"), operation=info), (0, OK, b"\x85"), "the same socket after the next bind")
    t.client.tdi(second).detach()
    t.free(second)
    r.vm.lease.close()
    t.gone(r.vm)
    t.free(first)
    check_log(t)
    equal(t.tsm.count("vdevice_init"), t.tsm.count("vdevice_destroy"), "virtual devices made and gone")


@scenario("igb-vf:2", needs=NEEDS, start=False, tags=("quick",))
def provider_v5(t):
    """A virtual device is bound and unbound by a call of its own; requests have a scope."""
    life(t, 5)


@scenario("igb-vf:2", needs=NEEDS, start=False, tags=("quick",))
def provider_v7(t):
    """A virtual device is bound by being made; requests have an operation, which has to go with their kind."""
    life(t, 7)


@scenario("igb-vf:2", needs=NEEDS, start=False, tags=("quick",))
def provider_early(t):
    """Early TDIs are bound with the seal, in both forms; one that the TSM refuses is named, and undone."""
    first, second = t.host.bdfs("igb-vf", 2)
    for form in (5, 7):
        start(t, first, form)
        r = Realm(t, first, second, bind="early")
        r.check(first, second)
        r.vm.destroy()
        t.gone(r.vm)
        t.tsm.rule("bind", second, err=errno.EIO, count=1)
        # The newest form binds with the virtual device: nothing is attached then.
        r = Realm(t, first, second, bind="early", seal=False) if form == 5 else None
        text = refused("Kernel", r.vm.seal if r else lambda: Realm(t, first, second, bind="early"))
        contains(text, second, "which function")
        contains(text, "EIO", "the TSM's errno")
        if r:
            r.check(first)
            t.client.tdi(second).bind()
            r.check(first, second)
            r.vm.destroy()
        t.free(first, second)
        t.daemon.stop()
        check_log(t)
        t.unload_tsm()


@scenario("igb-vf", needs=NEEDS, start=False, tags=("quick",))
def provider_ways_out(t):
    """Whoever dies, it is unbound before it is given back."""
    bdf = t.host.bdf("igb-vf")
    for form in (5, 7):
        again = start(t, bdf, form)

        def kill_both(r):
            pid = r.vm.holder_pid()
            t.daemon.kill()
            os.kill(pid, signal.SIGKILL)
            again()
        for way in (lambda r: r.vm.lease.close(), lambda r: r.vm.destroy(), lambda r: kill_holder(t, r), kill_both, lambda r: t.client.tdi(bdf).detach()):
            r = Realm(t, bdf)
            t.client.tdi(bdf).bind()
            way(r)
            t.free(bdf)
            t.unchanged(bdf)
            check_log(t)
            r.vmm.end()
            r.vm.lease.close()
            t.gone(r.vm)
        t.daemon.stop()
        t.unload_tsm()


@scenario("igb-vf", needs=(*NEEDS, "bind_module"), start=False, tags=("quick",))
def provider_choice(t):
    """Without a KVM VM that VFIO knows iommufd has nothing to bind to: that is said, or the module does it. A form that tdid does not know is not used."""
    bdf = t.host.bdf("igb-vf")
    for form, error, words in ((5, "InvalidState", "OpenAssociation"), (7, "InvalidState", "OpenAssociation"), (6, "NotSupported", "does not know")):
        start(t, bdf, form)
        r = Realm(t, bdf, associate=form == 6)
        contains(refused(error, t.client.tdi(bdf).bind), words, f"why form {form} does not bind")
        r.check()
        equal(t.tdictl.json("tsm", "show")["host"]["provider"]["name"], "none" if form == 6 else f"iommufd v{form}", "provider of the host")
        equal(t.tsm.count("bind"), 0, "binds")
        module = t.load_bind_module()
        t.client.tdi(bdf).bind()
        equal(r.provider(bdf), "tdid-bind 1", "provider of the function")
        equal(opened(t, bdf).ask("info", op(ECHO, b"z")), (0, OK, b"\x85"), "a request by way of the module")
        r.vm.destroy()
        t.gone(r.vm)
        check_log(t)
        module.close()
        t.daemon.stop()
        t.unload_tsm()


@scenario("igb-vf", needs=NEEDS, start=False, timeout=900)
def provider_killed(t):
    """tdid killed before and after each sub-action of a bind and of its undo, in both forms: prepared or bound, never in between, and nothing left."""
    bdf = t.host.bdf("igb-vf")
    points = [f"bind.{a}:{v}:{w}" for a in ("tsm", "requests") for v in ("do", "undo") for w in ("before", "after")] + ["bind.tsm:do:held"]
    for form in (5, 7):
        again = start(t, bdf, form)
        t.daemon.stop()
        for point in points:
            again()
            r = Realm(t, bdf)
            if form == 7:
                # The first time there is a virtual device already: later ones make another.
                t.client.tdi(bdf).bind()
                t.client.tdi(bdf).unbind()
            t.daemon.kill()
            again({"TDID_TEST_KILL": point})
            try:
                t.client.tdi(bdf).bind()
                if ":undo:" in point:
                    t.client.tdi(bdf).unbind()
            except Lost:
                pass
            except Refused as error:
                raise Failure(f"{point}: refused instead of killed: {error}") from None
            eventually(lambda: not t.daemon.alive(), f"the end of tdid at {point}", 5)
            t.daemon.wait_exit()
            again()
            state = eventually(lambda: (s := t.client.tdi(bdf).state()) in ("prepared", "bound") and s, f"{bdf} is prepared or bound after {point}")
            t.note(f"v{form}, {point}: {state}")
            if state == "prepared":
                t.client.tdi(bdf).bind()
            r.check(bdf)
            r.vm.lease.close()
            t.gone(r.vm)
            t.free(bdf)
            check_log(t)
            r.vmm.end()
            t.daemon.stop()
        t.unload_tsm()


@scenario("igb-vf", needs=(*NEEDS, "faults"), start=False, tags=("quick",))
def provider_worker_killed(t):
    """A worker that dies when the kernel has bound, and nobody knows yet: what has a number is unbound, and can be bound again; what has none is not called unbound."""
    bdf = t.host.bdf("igb-vf")
    control = t.host.client.control
    for form, call in ((5, "IOMMU_VDEVICE_TSM_OP"), (7, "IOMMU_VDEVICE_ALLOC")):
        again = start(t, bdf, form)
        r = Realm(t, bdf)
        if form == 7:
            # Only the second time it has to be made by the bind.
            t.client.tdi(bdf).bind()
            t.client.tdi(bdf).unbind()
        rule = control("fault", rule={"call": call, "process": "tdid-worker", "kill": "caller", "when": "after", "times": 1})["id"]
        try:
            t.client.tdi(bdf).bind()
        except Refused:
            pass
        control("clear", id=rule)
        if form == 5:
            eventually(lambda: t.client.tdi(bdf).state() == "prepared" and not t.host.tsm_bound(bdf), "it is unbound")
            t.client.tdi(bdf).bind()
            r.check(bdf)
        else:
            eventually(lambda: t.device(bdf).text("Quarantine"), "it is quarantined", 20)
            equal(t.host.tsm_bound(bdf), t.tsm_name, "the kernel has it bound")
        if form == 5:
            r.vm.destroy()
        else:
            # Nobody can unbind it by name: it ends with its device, which a later tdid finds closed.
            refused("Quarantined", r.vm.destroy)
            t.daemon.stop()
            again()
            eventually(lambda: not t.host.tsm_bound(bdf), "the kernel has unbound it")
            t.device(bdf).restore()
        t.free(bdf)
        check_log(t)
        t.daemon.stop()
        r.vmm.end()
        t.unload_tsm()


@scenario("igb-vf:2", needs=(*NEEDS, "faults"), start=False, tags=("quick",))
def provider_number_reused(t):
    """A worker that dies between the end of one virtual device and the beginning of the next leaves a number behind, which iommufd gives to another function: that one is not touched."""
    first, second = t.host.bdfs("igb-vf", 2)
    control = t.host.client.control
    start(t, first, 7)
    r = Realm(t, first, second)
    r.check(in_kernel=(first, second))
    # Without its TSM a virtual device is there and bound to nothing: the next bind makes another in its place.
    t.tsm.unload()
    eventually(lambda: t.device(first).text("TSM") == "", "the TSM is gone")
    t.tsm.load([t.host.dsm(first)], **options(7))
    eventually(lambda: t.tdictl.json("tsm", "list")["tsms"], "the TSM is back")
    rule = control("fault", rule={"call": "IOMMU_VDEVICE_ALLOC", "process": "tdid-worker", "kill": "caller", "when": "before", "times": 1})["id"]
    refused("Kernel", t.client.tdi(first).bind)
    control("clear", id=rule)
    eventually(lambda: t.client.tdi(first).state() == "prepared", "it is as before the bind")
    t.client.tdi(second).bind()
    device = r.describe(second)["viommu"]["vdevice"]
    t.client.tdi(first).detach()
    t.free(first)
    equal(r.describe(second)["viommu"]["vdevice"], device, "the other function's virtual device")
    r.bdfs = (second,)
    r.check(second)
    r.vm.lease.close()
    t.gone(r.vm)
    t.free(second)
    check_log(t)
    t.unchanged(first, second)


@scenario("igb-vf:2", needs=NEEDS, start=False, tags=("quick",))
def provider_bound_by_device(t):
    """What its virtual device alone has bound keeps the host from suspending, and its DSM from being let go."""
    first, second = t.host.bdfs("igb-vf", 2)
    start(t, first, 7)
    logind = Logind(t.bus.address)
    t.defer(logind.close)
    r = Realm(t, first, second, seal=False)
    r.check(in_kernel=(first, second))
    logind.wait(1)
    r.vm.lease.close()
    t.gone(r.vm)
    t.free(first, second)
    logind.wait(0)
    check_log(t)


@scenario("igb-vf", "spdm", needs=(*NEEDS, "spdm"), start=False, tags=("quick",))
def provider_objects(t):
    """A TSM's objects, by both forms of iommufd's calls."""
    bdf = t.host.bdf("igb-vf")
    _, said = conversation(t)
    for form in (5, 7):
        start(t, bdf, form)
        known(t)
        r = Realm(t, bdf)
        t.client.tdi(bdf).bind()
        give(t, said)
        good(t, bdf, f"iommufd v{form}", said)
        r.vm.destroy()
        t.gone(r.vm)
        t.daemon.stop()
        t.unload_tsm()
