# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dma-bufs: what of a BAR is exported and what is not, for whom, how many; what importers of each class see of revokes, by every
# way that memory goes; shared memory; and that a restart of tdid, or an importer that does not let go, changes none of it.

import errno
import fcntl
import mmap
import os
import pwd

import dbus

from kit import vfio_user
from kit.checks import Failure, check, contains, equal, eventually
from kit.client import NAME, Refused, refused
from kit.importer import HOLD, NO_P2P, AddressSpace
from kit.peer import DENIED, call_as
from kit.registry import scenario
from kit.tdictl import Monitor
from kit.vmm import COMMAND, COMMAND_MEMORY, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE, connect

ALICE, BOB = (pwd.getpwnam(name).pw_uid for name in ("daemon", "nobody"))
PAGE = 4096
EDU_BAR = 1 << 20
# A register of edu that keeps what it is given: the source of its DMA.
SCRATCH = 0x80
CAP_PM, CAP_EXPRESS = 0x01, 0x10
F_ADD_SEALS, F_GET_SEALS, F_SEAL_SEAL = 1033, 1034, 1


def export(t, bdf, *args, **kw):
    out = t.client.tdi(bdf).export(*args, **kw)
    t.defer(out.close)
    return out


def attached(t, *roles, **opts):
    """A VM with one function of each role."""
    vm = t.vm(**opts)
    bdfs = [b for role in roles for b in t.host.bdfs(role, 1)]
    vm.attach(*bdfs)
    return vm, *bdfs


def states(vm):
    return {d["id"]: d["state"] for d in vm.dmabufs()}


class Notices(Monitor):
    """What tdid signals of dma-bufs."""

    def of(self, x):
        return [e["key"] for e in self.seen if e.get("key") in ("revoked", "restored") and e["value"] == x.id]

    def has(self, *event):
        return any((e.get("id"), e.get("key"), e.get("value")) == event for e in self.seen)


def capability(client, wanted):
    """Offset of a capability in config space; 0 where there is none."""
    at = client.read(vfio_user.CONFIG, 0x34, 1)[0]
    while at >= 0x40:
        ident, after = client.read(vfio_user.CONFIG, at, 2)
        if ident == wanted:
            return at
        at = after
    return 0


def set_memory(client, on):
    command = client.read16(vfio_user.CONFIG, COMMAND)
    client.write16(vfio_user.CONFIG, COMMAND, command | COMMAND_MEMORY if on else command & ~COMMAND_MEMORY)


# ---- exporting ----

@scenario("edu", tags=("quick",))
def dmabuf_export(t):
    """A range of a BAR becomes a dma-buf that nobody can map, with an eventfd; it is told of everywhere, and forgotten when nobody has it."""
    vm, bdf = attached(t, "edu")
    address = int(t.host.files.read(t.host.path(bdf, "resource")).decode().split()[0], 16)
    x = export(t, bdf, 0, 2 * PAGE, 4 * PAGE)
    equal((x.dmabuf_class, x.state, int(x.description["size"])), ("revocable", "exported", 4 * PAGE), "class, state and size")
    run = [str(x.description["runs"][0][0]), int(x.description["runs"][0][1]), [str(a) for a in x.description["runs"][0][2]]]
    equal((len(x.description["runs"]), run), (1, [bdf, 4 * PAGE, ["p2p", "mmio"]]), "runs")
    equal([int(p) for p in x.description["pfns"]], [(address + 2 * PAGE) // PAGE], "frame numbers, which root is told")
    equal(t.host.canonical(os.readlink(f"/proc/self/fd/{x.fd}")).split(":")[0], "/dmabuf", "what the descriptor is")
    try:
        mmap.mmap(x.fd, PAGE)
        check(False, "a dma-buf of a BAR was mapped")
    except (OSError, ValueError):
        pass
    equal(x.events(), 0, "events before anything happened")
    second = export(t, bdf, 0, 0, EDU_BAR, importer="any", accept=("revocable", "pinned"))
    equal((second.id, second.dmabuf_class), (x.id + 1, "revocable"), "the second")
    told = vm.dmabufs()
    equal([(d["id"], d["kind"], d["bdf"], d["region"], d["offset"], d["size"], d["class"], d["importer"], d["state"], d["uid"]) for d in told],
          [(x.id, "bar", bdf, 0, 2 * PAGE, 4 * PAGE, "revocable", "kvm", "exported", 0),
           (second.id, "bar", bdf, 0, 0, EDU_BAR, "revocable", "any", "exported", 0)], "Describe()")
    listed = t.tdictl.json("dmabuf", "list")["dmabufs"]
    equal([(d["vm"], d["id"], d["runs"][0]["pfn"]) for d in listed], [("vm-1", x.id, address // PAGE + 2), ("vm-1", second.id, address // PAGE)], "tdictl dmabuf list")
    # A copy is as good as the first: only when all have gone is it nobody's.
    copy = os.dup(x.fd)
    x.close()
    second.close()
    eventually(lambda: [d["id"] for d in vm.dmabufs()] == [x.id], "the second is forgotten", 20)
    os.close(copy)
    eventually(lambda: not vm.dmabufs(), "the first is forgotten", 20)
    holder = vm.holder_pid()
    equal([d for d in t.host.descriptors(holder) if "dmabuf" in d], [], "dma-bufs that the holder keeps")
    # Numbers never come again.
    equal(export(t, bdf, 0, 0, PAGE).id, second.id + 1, "the third")


@scenario("edu", "testdev", "ivshmem", tags=("quick",))
def dmabuf_refused(t):
    """What cannot be exported is refused, with the reason, and leaves nothing."""
    vm, edu, testdev, ivshmem = attached(t, "edu", "testdev", "ivshmem")
    cases = (
        (edu, (0, 0, 0), "no bytes"),
        (edu, (0, 100, PAGE), "multiples of the page size"),
        (edu, (0, 0, 100), "multiples of the page size"),
        (edu, (0, EDU_BAR, PAGE), "beyond"),
        (edu, (0, 0, EDU_BAR + PAGE), "beyond"),
        (edu, (0, 2**64 - PAGE, 2 * PAGE), "beyond"),
        (edu, (0, PAGE, 2**64 - PAGE), None),
        (edu, (1, 0, PAGE), "no BAR 1"),
        (edu, (5, 0, PAGE), "no BAR 5"),
        (edu, (6, 0, PAGE), "expansion ROM"),
        (edu, (7, 0, PAGE), "config space"),
        (edu, (8, 0, PAGE), "only BARs"),
        (edu, (2**32 - 1, 0, PAGE), "only BARs"),
        (ivshmem, (0, 0, PAGE), "256 bytes, less than a page"),
        (ivshmem, (0, 0, 256), "256 bytes, less than a page"),
        (testdev, (1, 0, PAGE), "I/O ports"),
    )
    for bdf, args, text in cases:
        said = refused(("InvalidArgument",) if text else ("InvalidArgument", "Limit"), t.client.tdi(bdf).export, *args)
        contains(said, text or "", f"why {args} of {bdf} is refused")
    tdi = t.client.tdi(edu)
    for importer in ("rdma", "gpu"):
        contains(refused("ClassMismatch", tdi.export, 0, 0, PAGE, importer), "revocable", f"why {importer} is refused")
    contains(refused("ClassMismatch", tdi.export, 0, 0, PAGE, "any", ("pinned", "dynamic")), "pinned or dynamic", "why that set is refused")
    contains(refused("ClassMismatch", tdi.export, 0, 0, PAGE, "kvm", ("pinned",)), "pinned", "why kvm as pinned is refused")
    for importer, accept in (("any", ()), ("iommufd", ("dynamic",)), ("vfio", ()), ("kvm", ("eternal",)), ("kvm", ("pinned", "pinned"))):
        refused("InvalidArgument", tdi.export, 0, 0, PAGE, importer, accept)
    equal(vm.dmabufs(), [], "what is left of the refused")
    gone = tdi.path
    tdi.detach()
    try:
        t.client.tdi(edu).export(0, 0, PAGE)
        check(False, "a function was exported that is not attached")
    except Refused as error:
        check(error.name == "NotFound" or ".Unknown" in error.full, f"{gone}: {error}")


@scenario("edu", "nvme", needs=("root",), tags=("quick",))
def dmabuf_who(t):
    """Root and the owner may export; where memory is, only root is told."""
    vm, edu, nvme = attached(t, "edu", "nvme", owner_uid=ALICE)
    tdi = t.client.tdi(edu).path
    args = (tdi, f"{NAME}.TDI", "ExportDmabuf", "uttsas", 0, 0, PAGE, "kvm", ["revocable"])
    text = call_as(ALICE, t.bus.address, *args)
    contains(text, "revocable", "what the owner gets")
    contains(text, "p2p", "what the owner gets")
    check("pfn" not in text, f"the owner is told where it is: {text}")
    x = export(t, edu, 0, 0, PAGE)
    check("pfns" in x.description, "root is not told where it is")
    address = int(t.host.files.read(t.host.path(edu, "resource")).decode().split()[0], 16) // PAGE
    for uid in (0, ALICE):
        told = call_as(uid, t.bus.address, vm.path, f"{NAME}.VM", "Describe")
        equal(str(address) in told or "pfn" in told, uid == 0, f"frame numbers in what Describe() tells uid {uid}")
        contains(told, '"revocable"', f"what Describe() tells uid {uid}")
    for call in (args, (vm.path, f"{NAME}.VM", "CreateSharedBuffer", "ta{sv}", PAGE, {})):
        try:
            check(False, f"uid {BOB} may {call[2]}: {call_as(BOB, t.bus.address, *call)}")
        except Refused as error:
            check(error.name in DENIED, f"uid {BOB}: {call[2]}: {error}")
    # Asked for by the owner, and nobody has it: it goes by itself.
    eventually(lambda: [d["uid"] for d in vm.dmabufs()] == [0], "the owner's is forgotten", 20)
    contains(call_as(ALICE, t.bus.address, vm.path, f"{NAME}.VM", "CreateSharedBuffer", "ta{sv}", PAGE, {}), "UnixFd", "shared memory of the owner")


def start_limited(t, **limits):
    arguments = t.configured({"limits": limits})

    def start():
        t.daemon.start(arguments=arguments)
    start()
    return start


@scenario("edu:2", start=False, tags=("quick",))
def dmabuf_limits(t):
    """Numbers and sizes, of a VM and of all VMs of an owner; what ends makes room."""
    start_limited(t, exports=3, export_mib=1, buffer_mib=2, exports_per_user=4, export_mib_per_user=2, buffer_mib_per_user=3)
    first, second = t.host.bdfs("edu", 2)
    a, b, other = t.vm(), t.vm(), t.vm(owner_uid=ALICE)
    a.attach(first)
    b.attach(second)
    x = export(t, first, 0, 0, EDU_BAR)
    contains(refused("Limit", t.client.tdi(first).export, 0, 0, PAGE), "export_mib in", "the limit's name")
    kept = []
    for size in (1 << 20, 1 << 20):
        kept += a.shared_buffer(size)
    contains(refused("Limit", a.shared_buffer, PAGE), "exports in", "the limit's name")
    contains(refused("Limit", b.shared_buffer, 2 << 20), "buffer_mib_per_user in", "the limit's name")
    kept += b.shared_buffer(1 << 20)
    contains(refused("Limit", t.client.tdi(second).export, 0, 0, PAGE), "exports_per_user in", "the limit's name")
    kept += other.shared_buffer(2 << 20)
    contains(refused("Limit", other.shared_buffer, PAGE), "buffer_mib in", "the limit's name")
    equal([len(v.dmabufs()) for v in (a, b, other)], [3, 1, 1], "what there is")
    x.close()
    eventually(lambda: len(a.dmabufs()) == 2, "the export is forgotten", 20)
    # It counts until the VM's holder has let go of it too.
    y = eventually(lambda: export(t, second, 0, 0, EDU_BAR), "there is room for another", 20)
    # Shared memory counts as long as its VM is there, whoever still has it.
    for fd in kept:
        os.close(fd)
    a.destroy()
    t.gone(a)
    y.close()
    eventually(lambda: len(b.dmabufs()) == 1, "the other export is forgotten", 20)
    for fd in b.shared_buffer(1 << 20):
        os.close(fd)


@scenario("edu", tags=("quick",))
def dmabuf_tdictl(t):
    """tdictl dmabuf export becomes a command that has the descriptors, and ends as it ends."""
    vm, bdf = attached(t, "edu")
    out = t.tdictl("dmabuf", "export", bdf, "0", "4K", "0x2000", "--importer=iommufd", "--", "sh", "-c",
                   "readlink /proc/$$/fd/@dmabuf@ /proc/$$/fd/@event@; echo $TDID_DMABUF_CLASS $TDID_DMABUF_ID; test $TDID_DMABUF_FD = @dmabuf@; exit 7", code=7)
    dmabuf, event, told = out.out.splitlines()
    # By now it has ended: of the simulation a socket has a name only as long as it is open.
    check(dmabuf.startswith(("/dmabuf:", "socket:")), f"the dma-buf is {dmabuf}")
    equal((event, told), ("anon_inode:[eventfd]", "revocable 1"), "eventfd, class and id")
    eventually(lambda: not vm.dmabufs(), "it is forgotten when the command has ended", 20)
    contains(t.tdictl("dmabuf", "export", bdf, "0", "0", "4K", "--importer=gpu", "--", "true", code=6).err, "revocable", "why a gpu is refused")
    contains(t.tdictl.json("dmabuf", "export", bdf, "0", "0", "4K", "--importer=gpu", "--", "true", code=6)["error"]["name"], "ClassMismatch", "error")
    t.tdictl("dmabuf", "export", bdf, "0", "1", "4K", "--importer=kvm", "--", "true", code=2)
    equal(t.tdictl("dmabuf", "list").out, "No dma-bufs.\n", "tdictl dmabuf list of none")


# ---- revokes ----

class Watched:
    """An export with importers of every kind that can have it, and all ways to hear of it."""

    def __init__(self, t, vm, bdf, region, size, importer, others, notices):
        self.t = t
        self.vm = vm
        self.x = export(t, bdf, region, 0, size)
        self.notices = notices
        other = others[0]
        self.revocable = importer.attach(self.x.fd, "revocable", other)
        self.dynamic = importer.attach(self.x.fd, "dynamic", other)
        self.size = size
        self.space = AddressSpace(t, vm, bdf)
        # Nobody takes it who listens to nothing, or who needs struct pages.
        equal(importer.refuses(self.x.fd, "pinned", other), "EOPNOTSUPP", "a pinned importer")
        equal(importer.refuses(self.x.fd, "revocable", other, flags=NO_P2P), "EOPNOTSUPP", "an importer without peer-to-peer")
        self.notified = 0
        self.expected = []
        self.map()

    def map(self):
        for a in (self.revocable, self.dynamic):
            a.map()
            state = a.state()
            equal((state.mapped, state.length, state.error), (True, self.size, 0), "what an importer sees of its map")
            check(state.segments >= 1, "an empty scatter list")

    def told(self, notified):
        """Both were told so often more, and have let go."""
        self.notified += notified
        for a in (self.revocable, self.dynamic):
            equal((a.state().notified, a.state().mapped), (self.notified, False), "notified, mapped")

    def revoked(self, notified=1):
        self.told(notified)
        for a in (self.revocable, self.dynamic):
            equal(a.try_map(), "ENODEV", "mapping what is revoked")
        equal(self.space.map(self.x.fd, 0x10000000, self.size), "ENODEV", "mapping what is revoked into an address space")
        self.expected.append("revoked")
        self.heard("revoked")

    def restored(self, notified=1):
        self.told(notified)
        self.expected.append("restored")
        self.heard("exported")
        self.map()
        self.in_space()

    def pulsed(self):
        """Revoked and back in one call: the mappings are gone, the buffer is there."""
        self.told(2)
        self.expected += ["revoked", "restored"]
        self.heard("exported")
        self.map()
        self.in_space()

    def in_space(self):
        equal(self.space.map(self.x.fd, 0x10000000, self.size), "", "mapping it into an address space")
        self.space.unmap(0x10000000, self.size)

    def heard(self, state):
        """By signal, by eventfd, and by asking."""
        eventually(lambda: self.notices.of(self.x) == self.expected, f"signals {self.expected}", 20)
        eventually(lambda: states(self.vm).get(self.x.id) == state, f"state {state}", 20)

    def events(self, wanted):
        equal(self.x.events(wanted), wanted, "how often the eventfd rang")


@scenario("edu:2", needs=("importer",), tags=("quick",))
def dmabuf_decode(t):
    """The guest switches memory off and on: every importer sees what its class promises, and everybody hears of it at once."""
    bdf, other = t.host.bdfs("edu", 2)
    importer, notices = t.load_importer(), Notices(t)
    vm = t.vm()
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    set_memory(client, True)
    w = Watched(t, vm, bdf, 0, EDU_BAR, importer, (other,), notices)
    for _ in range(3):
        set_memory(client, False)
        w.revoked()
        # What is exported meanwhile is revoked from the beginning, and comes with the rest.
        late = export(t, bdf, 0, PAGE, PAGE)
        equal((late.state, importer.refuses(late.fd, "revocable", other)), ("revoked", "ENODEV"), "an export of memory that is off")
        set_memory(client, True)
        w.restored()
        eventually(lambda: states(vm)[late.id] == "exported", "the late one has come, too", 20)
        equal(late.events(1), 1, "events of the late one")
        late.close()
    w.events(6)
    # What else that register has, is nobody's concern.
    client.write16(vfio_user.CONFIG, COMMAND, client.read16(vfio_user.CONFIG, COMMAND) | 4)
    w.told_nothing = w.revocable.state().notified
    equal(w.told_nothing, w.notified, "notices of a change of bus mastering")


@scenario("edu:2", tags=("quick",))
def dmabuf_full_event(t):
    """A client makes the eventfd block and fills it up: tdid answers, others are told, and the VM closes."""
    bdf, other = t.host.bdfs("edu", 2)
    vm, neighbour = t.vm(), t.vm()
    vm.attach(bdf)
    neighbour.attach(other)
    near, far = connect(t, vm, bdf), connect(t, neighbour, other)
    set_memory(near, True)
    set_memory(far, True)
    x, y, z = export(t, bdf, 0, 0, PAGE), export(t, bdf, 0, PAGE, PAGE), export(t, other, 0, 0, PAGE)
    fcntl.fcntl(x.event, fcntl.F_SETFL, 0)
    os.eventfd_write(x.event, 2**64 - 2)
    for client in (near, far):
        set_memory(client, False)
    eventually(lambda: states(vm) == {x.id: "revoked", y.id: "revoked"} and states(neighbour) == {z.id: "revoked"}, "the states", 20)
    t.client.ping()
    equal((y.events(1), z.events(1)), (1, 1), "events of those that have not done this")
    vm.destroy()
    t.gone(vm)
    equal((y.events(1), z.events()), (1, 0), "events of the VM's end")
    t.client.ping()
    # Full it still is, and blocks: what was to be written is not.
    equal(os.eventfd_read(x.event), 2**64 - 2, "what is in it")


@scenario("edu:2", "nvme", needs=("importer",), tags=("quick",))
def dmabuf_reset(t):
    """Reset, function-level reset and sleep: revoked while they last, and back afterwards."""
    edu, other = t.host.bdfs("edu", 2)
    nvme = t.host.bdf("nvme")
    importer, notices = t.load_importer(), Notices(t)
    vm = t.vm()
    vm.attach(edu, nvme)

    client = connect(t, vm, edu)
    set_memory(client, True)
    w = Watched(t, vm, edu, 0, EDU_BAR, importer, (other,), notices)
    client.reset()
    w.pulsed()
    w.events(2)

    client = connect(t, vm, nvme)
    set_memory(client, True)
    w = Watched(t, vm, nvme, 0, PAGE, importer, (other,), notices)
    express, power = capability(client, CAP_EXPRESS), capability(client, CAP_PM)
    check(express and client.read32(vfio_user.CONFIG, express + 4) & 1 << 28, "the nvme has no function-level reset")
    client.write16(vfio_user.CONFIG, express + 8, client.read16(vfio_user.CONFIG, express + 8) | 1 << 15)
    # Posted: the next read waits for it.
    client.read32(vfio_user.CONFIG, 0)
    eventually(lambda: w.revocable.state().notified >= 2, "the function-level reset", 10)
    w.pulsed()
    w.events(2)
    t.value("d3", bool(power))
    if power:
        client.write16(vfio_user.CONFIG, power + 4, client.read16(vfio_user.CONFIG, power + 4) & ~3 | 3)
        client.read32(vfio_user.CONFIG, 0)
        eventually(lambda: w.revocable.state().notified >= 3, "D3", 10)
        w.revoked()
        client.write16(vfio_user.CONFIG, power + 4, client.read16(vfio_user.CONFIG, power + 4) & ~3)
        client.read32(vfio_user.CONFIG, 0)
        # Waking, some functions have forgotten their command register: switching it on is what brings memory back.
        set_memory(client, True)
        eventually(lambda: w.revocable.state().notified >= 4, "D0", 10)
        w.restored()
        w.events(2)


@scenario("edu:2", needs=("importer", "faults"), tags=("quick",))
def dmabuf_slow_reset(t):
    """A reset that takes its time is one revoke and one return, however often tdid looks meanwhile."""
    bdf, other = t.host.bdfs("edu", 2)
    importer, notices = t.load_importer(), Notices(t)
    vm = t.vm()
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    set_memory(client, True)
    w = Watched(t, vm, bdf, 0, EDU_BAR, importer, (other,), notices)
    for delay_ms in (300, 900, 2500):
        t.host.client.control("fault", rule={"call": "VFIO_DEVICE_RESET", "delay_ms": delay_ms, "times": 1})
        client.reset(timeout=30)
        w.pulsed()
        w.events(2)


@scenario("igb-vf", "edu", needs=("importer",))
def dmabuf_vf(t):
    """A VF's own memory bit means nothing to the kernel: what is exported stays, though clearing it tells importers twice."""
    vf, other = t.host.bdf("igb-vf"), t.host.bdf("edu")
    importer, notices = t.load_importer(), Notices(t)
    vm = t.vm()
    vm.attach(vf)
    client = connect(t, vm, vf)
    set_memory(client, True)
    w = Watched(t, vm, vf, 0, PAGE, importer, (other,), notices)
    before = w.revocable.state().notified
    set_memory(client, False)
    told = w.revocable.state().notified - before
    t.value("vf_notices", told)
    equal(told, 2, "notices of the VF's memory bit")
    w.pulsed()
    set_memory(client, True)
    equal(w.revocable.state().notified, w.notified, "notices of switching it on")
    client.reset()
    w.pulsed()


@scenario("edu:2", needs=("importer",), tags=("quick",))
def dmabuf_end(t):
    """Detaching, closing and unplugging end an export for good: importers are told, mapping fails, the eventfd rings; nobody can hold it up."""
    bdf, other = t.host.bdfs("edu", 2)
    importer, notices = t.load_importer(), Notices(t)
    for how in ("detach", "close", "unplug"):
        vm = t.vm()
        vm.attach(bdf)
        set_memory(connect(t, vm, bdf), True)
        x = export(t, bdf, 0, 0, EDU_BAR)
        a = importer.attach(x.fd, "revocable", other)
        a.map()
        if how == "detach":
            t.client.tdi(bdf).detach()
        elif how == "close":
            vm.destroy()
        else:
            done = t.host.start_remove(bdf)
            eventually(done, "the function is unplugged", 60)
        if how == "unplug":
            t.after(t.host.rescan)
        else:
            t.free(bdf)
        eventually(lambda: a.state().notified >= 1, "the importer is told", 20)
        equal((a.state().mapped, a.try_map()), (False, "ENODEV"), f"after {how}: mapped, mapping again")
        # The ids of each VM begin at 1 again: the last signal is what counts.
        eventually(lambda: notices.has(bdf, "revoked", x.id), "the signal", 20)
        notices.seen.clear()
        equal(x.events(1), 1, "events")
        if how != "close":
            equal(vm.dmabufs(), [], "what the VM still has")
            vm.destroy()
        # Even where the function comes back: it is another's now.
        if how == "detach":
            vm = t.vm()
            vm.attach(bdf)
            equal(a.try_map(), "ENODEV", "mapping an old export of a function that is attached again")
            vm.destroy()
        a.detach()
        x.close()
    t.host.rescan()
    eventually(lambda: t.device(bdf).get("Present"), "the function is back")


@scenario("edu:2", needs=("importer",))
def dmabuf_restart(t):
    """tdid is killed: its exports are there as before, what happened meanwhile is found out, and the next tdid goes on telling."""
    bdf, other = t.host.bdfs("edu", 2)
    importer = t.load_importer()
    vm = t.vm()
    vm.attach(bdf)
    client = connect(t, vm, bdf)
    set_memory(client, True)
    x, y = export(t, bdf, 0, 0, EDU_BAR), export(t, bdf, 0, PAGE, PAGE, importer="iommufd")
    memfd, dmabuf = vm.shared_buffer(PAGE)
    before = vm.dmabufs()
    t.daemon.restart()
    t.drop_client()
    vm.client = t.client
    equal(vm.dmabufs(), before, "dma-bufs after a restart")
    equal((x.events(), y.events()), (0, 0), "events of a restart")
    # Memory goes while no tdid is there, and stays away.
    t.daemon.kill()
    set_memory(client, False)
    t.daemon.start()
    t.drop_client()
    vm.client = t.client
    eventually(lambda: states(vm) == {x.id: "revoked", y.id: "revoked", before[2]["id"]: "exported"}, "it is found out", 20)
    equal((x.events(1), y.events(1)), (1, 1), "events")
    notices = Notices(t)
    set_memory(client, True)
    eventually(lambda: notices.of(x) == ["restored"] and notices.of(y) == ["restored"], "the return is told", 20)
    equal((x.events(1), y.events(1)), (1, 1), "events")
    a = importer.attach(x.fd, "revocable", other)
    a.map()
    a.detach()
    y.close()
    eventually(lambda: [d["id"] for d in vm.dmabufs()] == [x.id, before[2]["id"]], "what is nobody's is forgotten", 20)
    # An id that was given before the restart is not given again.
    equal(export(t, bdf, 0, 0, PAGE).id, before[2]["id"] + 1, "the next id")
    os.close(memfd)
    os.close(dmabuf)


@scenario("edu:2", needs=("importer",), timeout=400.0)
def dmabuf_held(t):
    """An importer that does not let go holds up its function, and nobody else; when it does, all goes on."""
    bdf, other = t.host.bdfs("edu", 2)
    importer = t.load_importer()
    vm = t.vm()
    vm.attach(bdf)
    set_memory(connect(t, vm, bdf), True)
    x = export(t, bdf, 0, 0, EDU_BAR)
    a = importer.attach(x.fd, "revocable", other, flags=HOLD)
    a.map()
    job = t.client.tdi(bdf).detach(**{"async": True})
    eventually(lambda: a.state().notified == 1, "the importer is told", 60)
    equal(a.state().mapped, True, "whether it holds on")
    # Others do not wait.
    second = t.vm()
    second.attach(other)
    t.attached(second, other)
    y = export(t, other, 0, 0, PAGE)
    equal(y.state, "exported", "another function's export")
    second.destroy()
    t.free(other)
    equal(job.state(), "running", "the job of the one that waits")
    a.unmap()
    job.wait()
    t.free(bdf)
    equal(a.try_map(), "ENODEV", "mapping afterwards")


@scenario("edu:3", needs=("importer", "sources"), tags=("quick",))
def dmabuf_pairs(t):
    """Every class with every importer: where tdid's negotiation agrees it works, and where it refuses it would not have."""
    bdf, other, _ = t.host.bdfs("edu", 3)
    importer = t.load_importer()
    vm = t.vm()
    vm.attach(bdf)
    set_memory(connect(t, vm, bdf), True)
    bar = export(t, bdf, 0, 0, EDU_BAR)
    memfd, memory = vm.shared_buffer(1 << 20)
    moving = importer.source(1 << 20)
    space = AddressSpace(t, vm, bdf)
    takes = {"kvm": ("pinned", "revocable", "dynamic"), "iommufd": ("pinned", "revocable"), "rdma": ("pinned", "dynamic"), "gpu": ("pinned", "dynamic")}
    for who, classes in takes.items():
        for dmabuf_class, fd in (("pinned", memory), ("revocable", bar.fd), ("dynamic", moving)):
            about = f"{who} and what is {dmabuf_class}"
            if who == "iommufd":
                # Memory goes into an address space by its memfd, which it pins.
                got = space.map(memfd if fd == memory else fd, 0x20000000, PAGE)
                equal(got, "EOPNOTSUPP" if dmabuf_class == "dynamic" else "", about)
                if not got:
                    space.unmap(0x20000000, PAGE)
                continue
            if dmabuf_class not in classes:
                equal(importer.refuses(fd, dmabuf_class, other, who), "EPROTONOSUPPORT", about)
                # As what it could be, it would be broken by the first revoke: such an importer is refused by the buffer, or by tdid.
                equal(importer.refuses(fd, "pinned", other, who), "EOPNOTSUPP", about + ", pinned")
                refused("ClassMismatch", t.client.tdi(bdf).export, 0, 0, PAGE, who)
                continue
            a = importer.attach(fd, dmabuf_class, other, who)
            a.write(SCRATCH, 0x1122334455667788)
            equal(a.read(SCRATCH), 0x1122334455667788, about + ": what was written")
            if dmabuf_class == "dynamic":
                before = a.state().address
                importer.move(moving)
                equal((a.state().mapped, a.state().notified), (False, 1), about + ": after a move")
                equal(a.read(SCRATCH), 0x1122334455667788, about + ": its data, elsewhere")
                check(a.state().address != before, about + ": the address has not changed")
            a.detach()
    with mmap.mmap(memfd, 1 << 20) as view:
        equal(int.from_bytes(view[SCRATCH:SCRATCH + 8], "little"), 0x1122334455667788, "what importers wrote, in the memfd")
    for fd in (memfd, memory, moving):
        os.close(fd)


# ---- shared memory ----

@scenario("edu:2", needs=("importer",), tags=("quick",))
def dmabuf_shared(t):
    """Shared memory: a memfd that a VMM maps and an address space pins, and a dma-buf of it that even importers that pin take."""
    bdf, other = t.host.bdfs("edu", 2)
    importer = t.load_importer()
    vm = t.vm()
    vm.attach(bdf)
    size = 16 * PAGE
    memfd, dmabuf = vm.shared_buffer(size)
    equal(os.fstat(memfd).st_size, size, "size of the memfd")
    contains(os.readlink(f"/proc/self/fd/{memfd}"), "/memfd:", "what the memfd is")
    seals = fcntl.fcntl(memfd, F_GET_SEALS)
    equal(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, "seals")
    for func, args in ((os.ftruncate, (memfd, 0)), (os.ftruncate, (memfd, 2 * size)), (fcntl.fcntl, (memfd, F_ADD_SEALS, F_SEAL_WRITE))):
        try:
            func(*args)
            check(False, f"{func.__name__}{args} worked")
        except OSError as error:
            equal(error.errno, errno.EPERM, func.__name__)
    space = AddressSpace(t, vm, bdf)
    equal(space.map(memfd, 0x30000000, size), "", "mapping the memfd into an address space")
    space.unmap(0x30000000, size)
    for dmabuf_class in ("pinned", "revocable", "dynamic"):
        a = importer.attach(dmabuf, dmabuf_class, other)
        a.map()
        equal((a.state().length, a.state().notified), (size, 0), "what an importer sees of it")
        a.detach()
    told = vm.dmabufs()
    equal([(d["kind"], d["size"], d["class"], d["state"], d["heap"]) for d in told], [("memory", size, "pinned", "exported", "")], "Describe()")
    check(told[0]["runs_total"] == 0 or sum(r["length"] for r in told[0]["runs"]) <= size, f"runs: {told[0]}")
    if t.host.kind == "linux":
        check(told[0]["runs"] and all(r["provider"] == "memory" and r["pfn"] > 0 for r in told[0]["runs"]), f"runs: {told[0]}")
        equal(told[0]["runs"][0]["attributes"], ["cpu-mappable", "cacheable", "snoop"], "attributes")
    for length in (0, 100, PAGE + 1):
        refused("InvalidArgument", vm.shared_buffer, length)
    # A heap has no memfd: twice the same buffer.
    first, second = vm.shared_buffer(size, heap="system")
    equal([t.host.canonical(os.readlink(f"/proc/self/fd/{fd}")).split(":")[0] for fd in (first, second)], ["/dmabuf", "/dmabuf"], "what a heap gives")
    a = importer.attach(first, "pinned", other)
    a.map()
    a.detach()
    contains(refused("NotSupported", vm.shared_buffer, size, heap="protected,secure-video"), "/dev/dma_heap", "why there is no such heap")
    for heap in ("../system", ".", "a/b", "", "x" * 33):
        refused("InvalidArgument", vm.shared_buffer, size, heap=heap)
    # It stays until the VM goes, whoever has it or not; and what the client has stays the client's.
    with mmap.mmap(memfd, size) as view:
        view[:4] = b"here"
    os.close(dmabuf)
    vm.destroy()
    t.gone(vm)
    with mmap.mmap(memfd, size) as view:
        equal(view[:4], b"here", "the memory after the VM's end")
    for fd in (memfd, first, second):
        os.close(fd)


@scenario("edu", tags=("quick",), needs=("faults",))
def dmabuf_kernel_says_no(t):
    """What the kernel refuses is an answer with its errno, and what it hangs on is one in time."""
    vm, bdf = attached(t, "edu")
    tdi = t.client.tdi(bdf)

    def rule(**what):
        return t.host.client.control("fault", rule=what)["id"]

    for call, error, name in (("VFIO_DEVICE_FEATURE", "ENOTTY", "NotSupported"), ("VFIO_DEVICE_FEATURE", "EOPNOTSUPP", "NotSupported"),
                              ("VFIO_DEVICE_FEATURE", "ENOMEM", "Kernel"), ("VFIO_DEVICE_GET_REGION_INFO", "EIO", "Kernel"),
                              ("open:resource", "EIO", "Kernel")):
        one = rule(call=call, errno=error, process="tdid-worker", times=1)
        contains(refused(name, tdi.export, 0, 0, PAGE), error, "text")
        t.host.client.control("clear", id=one)
    for call, error, name in (("open:udmabuf", "ENOENT", "NotSupported"), ("UDMABUF_CREATE", "EINVAL", "Kernel"), ("UDMABUF_CREATE", "ENOMEM", "Kernel")):
        one = rule(call=call, errno=error, process="tdid-worker", times=1)
        contains(refused(name, vm.shared_buffer, PAGE), error, "text")
        t.host.client.control("clear", id=one)
    # Where nothing can be told, it counts as being there.
    one = rule(call="IOMMU_IOAS_MAP_FILE", errno="EOPNOTSUPP", process="tdid-worker")
    x = export(t, bdf, 0, 0, PAGE)
    equal(x.state, "exported", "state")
    t.host.client.control("clear", id=one)
    # The function hangs in the kernel: an answer in time; a later export waits for its turn and works.
    one = rule(call="VFIO_DEVICE_FEATURE", never=True, process="tdid-worker")
    refused("Timeout", tdi.export, 0, 0, PAGE)
    equal([d["id"] for d in vm.dmabufs()], [x.id], "what there is")
    t.client.ping()
    t.host.client.control("clear", id=one)
    y = eventually(lambda: _try(tdi), "exports work again", 30)
    eventually(lambda: sorted(states(vm)) == [x.id, y.id], "the one that nobody waited for is gone", 20)
    y.close()


def _try(tdi):
    try:
        return tdi.export(0, 0, PAGE)
    except Refused as error:
        if error.name != "Timeout":
            raise Failure(f"{error}") from None
        return None


@scenario("edu", tags=("quick",))
def dmabuf_many_at_once(t):
    """Many calls at once, and callers that are gone before the answer."""
    vm, bdf = attached(t, "edu")
    calls = [t.background(lambda c: c.tdi(bdf).export(0, 0, PAGE)) for _ in range(8)]
    exports = [call.wait() for call in calls]
    equal(sorted(x.id for x in exports), [d["id"] for d in vm.dmabufs()], "ids")
    for x in exports:
        x.close()
    for _ in range(5):
        client = t.new_client()
        client.bus.call_async(NAME, client.tdi(bdf).path, f"{NAME}.TDI", "ExportDmabuf", "uttsas",
                              (dbus.UInt32(0), dbus.UInt64(0), dbus.UInt64(PAGE), "kvm", dbus.Array([], signature="s")), None, None)
        client.bus.flush()
        client.close()
    eventually(lambda: not vm.dmabufs(), "all are forgotten", 30)
    equal([d for d in t.host.descriptors(vm.holder_pid()) if "dmabuf" in d], [], "dma-bufs that the holder keeps")
