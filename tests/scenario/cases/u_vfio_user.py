# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The vfio-user server as a VMM uses it: the whole protocol, on real functions, with both VMMs' ways of speaking it.

import errno
import struct

from kit import vfio_user
from kit.checks import check, equal, eventually
from kit.daemon import fd_count
from kit.registry import scenario
from kit.vfio_user import (BAR0, CLOUD_HYPERVISOR, CONFIG, DATA_BOOL, DATA_EVENTFD, DATA_NONE, ERR, INTX, MASK, MSI, MSIX, QEMU, REQ, TRIGGER,
                           UNMASK, fails)
from kit.vmm import COMMAND, COMMAND_MASTER, COMMAND_MEMORY, Edu, Event, Ram, Vfio, connect, socket_path, steady_fds

LIMITS = {"max_msg_fds": 16, "max_data_xfer_size": 1 << 20, "max_dma_maps": 0, "pgsizes": 4096, "write_multiple": True}
IOVA = 0x8000000
PAGE = 4096
TOP = 1 << 64
# What the kernel says when the device reaches for memory that is not there any more.
FAULTS = (r"DMAR: .*fault",)


def event(t):
    out = Event()
    t.defer(out.close)
    return out


def ram(t, size, **kw):
    out = Ram(size, **kw)
    t.defer(out.close)
    return out


def settled_fds(vm):
    """The holder's descriptors once it is known who its client is: what that takes stays as long as the client lives."""
    eventually(lambda: vm.describe()["peer"]["kvm"], "the peer is known")
    return steady_fds(vm.holder_pid())


def attached(t, *roles):
    """A VM with functions of these roles, one each."""
    vm = t.vm()
    bdfs = [b for role in roles for b in t.host.bdfs(role, 1)]
    vm.attach(*bdfs)
    return vm, *bdfs


# ---- VERSION ----

@scenario("edu", tags=("quick",))
def vu_version(t):
    """What the server says of itself, and what it takes from a client."""
    vm, bdf = attached(t, "edu")
    path = socket_path(t, vm, bdf)

    def negotiated(**kw):
        with vfio_user.Client(path) as client:
            caps = client.negotiate(**kw)
            equal({k: caps.get(k) for k in LIMITS}, LIMITS, "the server's capabilities")
            check(not caps.get("twin_socket", {}).get("supported"), "twin sockets are offered")
            check("migration" not in caps, "migration is offered")
            equal(client.info()[1:], (9, 5), "regions and interrupts after VERSION")

    negotiated()
    negotiated(preset=CLOUD_HYPERVISOR)
    negotiated(minor=65535)
    # Without data, with empty data, with much that it need not know.
    negotiated(text=b"")
    negotiated(text=b"{}\0")
    negotiated(capabilities={})
    negotiated(capabilities={"max_msg_fds": 1, "max_data_xfer_size": 4096, "max_dma_maps": 0, "pgsizes": 0xfffffffffffff000})
    negotiated(capabilities={**QEMU.capabilities, "nobody": {"knows": ["this", None, 1.5]}, "twin_socket": {"supported": True}})
    negotiated(text=b'{"else": true, "capabilities": {"write_multiple": false}}\0')


@scenario("edu")
def vu_version_refused(t):
    """What is no VERSION, or of another protocol, gets an error or loses its connection; the next client is served."""
    vm, bdf = attached(t, "edu")
    path = socket_path(t, vm, bdf)

    def refuse(*messages, last=None):
        """All of it is refused: the first with an error or the connection's end, and what comes after it all the more."""
        with vfio_user.Client(path) as client:
            try:
                for command, body in messages:
                    fails((errno.EINVAL, errno.ENOTSUP, errno.EPROTONOSUPPORT), client.call, command, body)
                if last:
                    fails((errno.EINVAL, errno.ENOTSUP), last, client)
            except vfio_user.Lost:
                pass

    def version(text, major=0, minor=0):
        return vfio_user.VERSION, struct.pack("=HH", major, minor) + text

    for bad in (b"{", b"[]\0", b"nothing\0", b'"text"\0', b"{}\0{}\0", b"{} {}\0", b"{" * 3000 + b"\0", b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"\0",
                b'{"capabilities": \0}\0', b'{"capabilities"}\0', b"{" + b" " * 100000 + b"}\0"):
        refuse(version(bad))
    refuse(version(b"{}\0", major=1), last=lambda c: c.info())
    refuse(version(b"{}\0", major=65535, minor=65535))
    refuse((vfio_user.VERSION, b""))
    refuse((vfio_user.VERSION, b"\0\0"))
    # Nothing comes before it.
    for first in (vfio_user.GET_INFO, vfio_user.RESET, vfio_user.REGION_READ, vfio_user.DMA_MAP, vfio_user.SET_IRQS):
        refuse((first, bytes(32)), last=lambda c: c.info())
    # And it does not come twice.
    with vfio_user.Client(path) as client:
        client.negotiate()
        try:
            fails((errno.EINVAL, errno.ENOTSUP), client.negotiate)
            client.info()
        except vfio_user.Lost:
            pass
    Edu(connect(t, vm, bdf)).alive()


# ---- what there is ----

@scenario("edu", "nvme", "e1000e", "ivshmem", tags=("quick",))
def vu_info(t):
    """Device, regions and interrupts are those of VFIO, but nothing can be mapped."""
    vm, *bdfs = attached(t, "edu", "nvme", "e1000e", "ivshmem")
    for bdf in bdfs:
        client = connect(t, vm, bdf)
        with Vfio(t, vm, bdf) as vfio:
            flags, regions, irqs = vfio.info()
            # Reset and PCI; what comes after them in VFIO's flags is of other buses, or says that there are capabilities.
            equal(client.info(), (flags & 3, regions, irqs), f"{bdf}: device info")
            equal(client.info(argsz=1 << 31), (flags & 3, regions, irqs), f"{bdf}: device info with a large argsz")
            for index in range(regions):
                flags, size, offset = client.region(index)
                wanted = vfio.region(index)
                equal((flags, size), (wanted[0] & (vfio_user.REGION_READS | vfio_user.REGION_WRITES), wanted[1]), f"{bdf}: region {index}")
                equal(client.region(index, argsz=1 << 20), (flags, size, offset), f"{bdf}: region {index} with a large argsz")
            for index in range(irqs):
                equal(client.irq(index), vfio.irq(index) or (client.irq(index)[0], 0), f"{bdf}: interrupt {index}")
            fails(errno.EINVAL, client.region, regions)
            fails(errno.EINVAL, client.region, 0xffffffff)
            fails(errno.EINVAL, client.irq, irqs)
            fails(errno.EINVAL, client.irq, 0xffffffff)
        # No room for the answer.
        for command, size in ((vfio_user.GET_INFO, 16), (vfio_user.GET_REGION_INFO, 32), (vfio_user.GET_IRQ_INFO, 16)):
            for argsz in (0, size - 1):
                fails(errno.EINVAL, client.call, command, struct.pack("=I", argsz) + bytes(size - 4))
            fails(errno.EINVAL, client.call, command, struct.pack("=I", size) + bytes(size - 8))
            fails(errno.EINVAL, client.call, command)


@scenario("edu")
def vu_refused(t):
    """What the server does not do gets an errno, and the connection goes on."""
    vm, bdf = attached(t, "edu")
    client = connect(t, vm, bdf)
    never = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
    for index in (BAR0, CONFIG, 9, 0xffffffff):
        fails(never, client.call, vfio_user.GET_REGION_IO_FDS, struct.pack("=IIII", 16, 0, index, 0))
    for command in (vfio_user.DMA_READ, vfio_user.DMA_WRITE):
        # These are the server's to send.
        fails(never, client.call, command, struct.pack("=QQ", IOVA, 4) + bytes(4))
    for command in (0, vfio_user.DIRTY_PAGES, 19, 255, 65535):
        fails(never, client.call, command)
        fails(never, client.call, command, bytes(64))
    for command in (vfio_user.MIG_DATA_READ, vfio_user.MIG_DATA_WRITE):
        fails(never, client.call, command, struct.pack("=II", 4096, 4096) + bytes(4096))
    # No migration, and no logging of what DMA has written.
    for feature in (vfio_user.MIGRATION, vfio_user.MIG_DEVICE_STATE, vfio_user.LOGGING_START, 7, 8, 0, 11, 65535):
        for how in (vfio_user.FEATURE_GET, vfio_user.FEATURE_SET, vfio_user.FEATURE_PROBE | vfio_user.FEATURE_GET, 0,
                    vfio_user.FEATURE_GET | vfio_user.FEATURE_SET):
            fails((*never, errno.ENOTTY), client.feature, feature, how, bytes(8))
    fails(errno.EINVAL, client.call, vfio_user.FEATURE)
    # Commands that have nothing to answer, without a reply: dropped.
    for command in (0, 19, vfio_user.GET_REGION_IO_FDS, vfio_user.MIG_DATA_READ):
        client.ask(command, bytes(16), flags=vfio_user.NO_REPLY)
    Edu(client).alive()


# ---- regions ----

@scenario("ivshmem", "edu", tags=("quick",))
def vu_region_io(t):
    """Reads and writes of every size and alignment, of memory and of registers; not beyond the end."""
    vm, shared, bdf = attached(t, "ivshmem", "edu")
    client = connect(t, vm, shared)
    client.write16(CONFIG, COMMAND, client.read16(CONFIG, COMMAND) | COMMAND_MEMORY)
    _, size, _ = client.region(2)
    check(size >= 1 << 20, f"region 2 has {size} bytes")
    wanted = bytearray(t.rng.randbytes(0x20000))
    client.write(2, 0, bytes(wanted))
    for count in (1, 2, 3, 4, 5, 6, 7, 8, 4096, 65536):
        for offset in (0, 1, 2, 3, 4, 7, 8, 4095):
            equal(client.read(2, offset, count), bytes(wanted[offset:offset + count]), f"{count} bytes at {offset}")
            piece = t.rng.randbytes(count)
            client.write(2, offset, piece)
            wanted[offset:offset + count] = piece
    equal(client.read(2, 0, len(wanted)), bytes(wanted), "all that was written")
    # As much as is allowed, and not a byte more.
    most = LIMITS["max_data_xfer_size"]
    equal(client.read(2, 0, most)[:len(wanted)], bytes(wanted), "the most that a read gives")
    client.write(2, size - most, bytes(most))
    fails(errno.EINVAL, client.read, 2, 0, most + 1)
    for region, offset, count in ((2, size - 4, 5), (2, size, 1), (2, size + 1, 4), (2, TOP - 4, 4), (2, TOP - 2, 4), (2, TOP - 1, 1 << 20),
                                  (2, size - 1, most), (0, 0x100, 4), (1, 0, 4), (3, 0, 1), (5, 0, 8), (8, 0, 1), (9, 0, 4),
                                  (0xffffffff, 0, 4), (CONFIG, 4096, 4), (CONFIG, TOP - 4, 8)):
        fails(errno.EINVAL, client.read, region, offset, count)
        fails(errno.EINVAL, client.write, region, offset, bytes(count))
    # The message says one count and has another.
    for count, data in ((8, b"1234"), (4, b"12345678"), (0xffffffff, b""), (1 << 31, b"1234")):
        fails(errno.EINVAL, client.call, vfio_user.REGION_WRITE, vfio_user.ACCESS.pack(0, 2, count) + data)
    fails(errno.EINVAL, client.call, vfio_user.REGION_READ, bytes(15))
    fails(errno.EINVAL, client.call, vfio_user.REGION_WRITE, bytes(15))
    equal(client.read(2, 0, 4096), bytes(wanted[:4096]), "what was not to be written")
    edu = Edu(connect(t, vm, bdf, CLOUD_HYPERVISOR))
    edu.alive()
    for n, product in ((0, 1), (5, 120), (12, 479001600)):
        equal(edu.factorial(n), product, f"factorial of {n}")
    edu.client.write(0, Edu.SOURCE, struct.pack("=Q", 0x123456789))
    equal(edu.client.read(0, Edu.SOURCE, 8), struct.pack("=Q", 0x123456789), "a register of 64 bits")


@scenario("ivshmem")
def vu_memory_off(t):
    """With memory decoding off, a region reads as ones and what is written is lost, as of hardware; nothing is an error."""
    vm, bdf = attached(t, "ivshmem")
    client = connect(t, vm, bdf)
    command = client.read16(CONFIG, COMMAND)
    client.write16(CONFIG, COMMAND, command | COMMAND_MEMORY)
    client.write(2, 0, b"here")
    client.write16(CONFIG, COMMAND, command & ~COMMAND_MEMORY)
    equal(client.read(2, 0, 4), b"\xff" * 4, "a read with memory off")
    equal(client.read(2, 0, 4096), b"\xff" * 4096, "a long read with memory off")
    client.write(2, 0, b"gone")
    client.post(2, 0, b"gone")
    equal(client.write_multi((2, 0, b"gone")), 1, "writes with memory off")
    client.write16(CONFIG, COMMAND, command | COMMAND_MEMORY)
    equal(client.read(2, 0, 4), b"here", "memory on again")


@scenario("e1000e", "edu")
def vu_config(t):
    """Config space: what VFIO shows, in any piece; BARs are sized as a guest sizes them."""
    vm, *bdfs = attached(t, "e1000e", "edu")
    for bdf in bdfs:
        client = connect(t, vm, bdf)
        flags, size, _ = client.region(CONFIG)
        equal(flags, vfio_user.REGION_READS | vfio_user.REGION_WRITES, f"{bdf}: flags of the config region")
        with Vfio(t, vm, bdf) as vfio:
            wanted = vfio.read(CONFIG, 0, 256)
            equal(client.read(CONFIG, 0, 256), wanted, f"{bdf}: config space")
            equal(b"".join(client.read(CONFIG, i, 1) for i in range(64)), wanted[:64], f"{bdf}: config space by bytes")
            equal(b"".join(client.read(CONFIG, i, 4) for i in range(0, 256, 4)), wanted, f"{bdf}: config space by words")
        vendor, device = struct.unpack_from("=HH", wanted)
        equal((f"0x{vendor:04x}", f"0x{device:04x}"), (t.host.read(bdf, "vendor"), t.host.read(bdf, "device")), f"{bdf}: ids")
        client.read(CONFIG, 0, size)
        fails(errno.EINVAL, client.read, CONFIG, 0, size + 1)
        fails(errno.EINVAL, client.read, CONFIG, size, 1)
        bar = client.read32(CONFIG, 0x10)
        client.write32(CONFIG, 0x10, 0xffffffff)
        mask = client.read32(CONFIG, 0x10) & ~0xf
        equal((~mask + 1) & 0xffffffff, client.region(0)[1], f"{bdf}: size of BAR 0 as a guest finds it")
        client.write32(CONFIG, 0x10, bar)
        equal(client.read32(CONFIG, 0x10), bar, f"{bdf}: BAR 0 afterwards")
        # What cannot be written stays.
        client.write32(CONFIG, 0, 0)
        equal(client.read(CONFIG, 0, 4), wanted[:4], f"{bdf}: ids after a write")
        before = client.read16(CONFIG, COMMAND)
        for value in (0, COMMAND_MEMORY, COMMAND_MEMORY | COMMAND_MASTER, 0):
            client.write16(CONFIG, COMMAND, value)
            equal(client.read16(CONFIG, COMMAND) & 6, value, f"{bdf}: COMMAND")
        client.write(CONFIG, COMMAND, bytes([COMMAND_MEMORY]))
        equal(client.read(CONFIG, COMMAND, 1)[0] & 6, COMMAND_MEMORY, f"{bdf}: COMMAND by a byte")
        client.write16(CONFIG, COMMAND, before)


@scenario("ivshmem", "edu")
def vu_posted(t):
    """Writes without replies, one by one and many in a message: done in order, before what comes after them is answered."""
    vm, shared, bdf = attached(t, "ivshmem", "edu")
    client = connect(t, vm, shared)
    client.write16(CONFIG, COMMAND, client.read16(CONFIG, COMMAND) | COMMAND_MEMORY)
    for i in range(2000):
        client.post(2, i % 64 * 8, struct.pack("=Q", i))
    equal(struct.unpack("=64Q", client.read(2, 0, 512)), tuple(i + 1984 if i < 16 else i + 1920 for i in range(64)), "what was posted")
    writes = [(2, i * 8, struct.pack("=Q", ~i & (1 << 64) - 1)) for i in range(200)]
    equal(client.write_multi(*writes), 200, "writes that were done")
    equal(client.read(2, 0, 1600), b"".join(w[2] for w in writes), "what many writes wrote")
    client.post_multi(*((2, i, bytes([i])) for i in range(200)))
    equal(client.read(2, 0, 200), bytes(range(200)), "what many posted writes wrote")
    equal(client.write_multi((2, 1, b"a"), (2, 3, b"bcd"), (CONFIG, 0x3c, b"\x55")), 3, "writes of several regions")
    equal(client.read(2, 0, 6), b"\0a\2bcd", "writes of several sizes")
    # One that is wrong: what is in front of it may be done, what comes after it not.
    client.write(2, 0, bytes(16))
    fails(errno.EINVAL, client.write_multi, (2, 0, b"1"), (9, 0, b"2"), (2, 4, b"3"))
    equal(client.read(2, 4, 4), bytes(4), "what comes after a wrong one")
    for body in (struct.pack("=Q", 2) + vfio_user.WRITE_ONE.pack(0, 2, 1, b"x"), struct.pack("=Q", 1) + bytes(23),
                 struct.pack("=Q", 1 << 63) + bytes(24), struct.pack("=Q", (1 << 64) // 24 + 1) + bytes(24),
                 struct.pack("=Q", 1) + vfio_user.WRITE_ONE.pack(0, 2, 9, b"x"), struct.pack("=Q", 1) + vfio_user.WRITE_ONE.pack(0, 2, 1 << 31, b"x"), b""):
        fails(errno.EINVAL, client.call, vfio_user.WRITE_MULTI, body)
    # Posted ones that are wrong are dropped, and nothing is said.
    client.post(2, TOP - 1, b"x")
    client.post(99, 0, b"x")
    client.post_multi((99, 0, b"x"))
    client.ask(vfio_user.WRITE_MULTI, b"", flags=vfio_user.NO_REPLY)
    client.ask(vfio_user.REGION_READ, vfio_user.ACCESS.pack(0, 2, 4), flags=vfio_user.NO_REPLY)
    edu = Edu(connect(t, vm, bdf), post=True)
    edu.alive()
    equal(edu.factorial(6), 720, "a factorial by posted writes")
    client.info()


# ---- interrupts ----

@scenario("edu", "igb-vf", tags=("quick",))
def vu_irqs(t):
    """SET_IRQS in all its forms: what VFIO takes is taken, what it refuses is refused."""
    vm, bdf, vf = attached(t, "edu", "igb-vf")
    client, many = connect(t, vm, bdf), connect(t, vm, vf)
    one, other = event(t), event(t)
    assign, off = DATA_EVENTFD | TRIGGER, DATA_NONE | TRIGGER
    # MSI: assigned, triggered from here, by all three kinds of data; de-assigned by no descriptors; disabled.
    client.set_irqs(MSI, assign, fds=[one.fd])
    client.set_irqs(MSI, DATA_NONE | TRIGGER)
    equal(one.wait(), 1, "a trigger without data")
    client.set_irqs(MSI, DATA_BOOL | TRIGGER, data=b"\1")
    equal(one.wait(), 1, "a trigger of a true")
    client.set_irqs(MSI, DATA_BOOL | TRIGGER, data=b"\0")
    equal(one.wait(0.2), 0, "a trigger of a false")
    # Another descriptor takes its place.
    client.set_irqs(MSI, assign, fds=[other.fd])
    client.set_irqs(MSI, off)
    equal((one.wait(0.2), other.wait()), (0, 1), "who is signalled")
    client.set_irqs(MSI, assign)
    client.set_irqs(MSI, off)
    equal(other.wait(0.2), 0, "a trigger of what is de-assigned")
    client.set_irqs(MSI, off, count=0)
    # QEMU leaves gaps: descriptors that come later; so it says without descriptors that there are none yet.
    client.set_irqs(MSI, assign)
    client.set_irqs(MSI, off, count=0)
    # INTx: with mask and unmask, by all kinds of data; unmask by an eventfd.
    client.set_irqs(INTX, assign, fds=[one.fd])
    for data, action in ((b"", MASK), (b"", UNMASK), (b"\1", MASK), (b"\1", UNMASK), (b"\0", MASK), (b"\0", UNMASK)):
        client.set_irqs(INTX, (DATA_BOOL if data else DATA_NONE) | action, data=data)
    client.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[other.fd])
    client.set_irqs(INTX, DATA_EVENTFD | UNMASK)
    fails((errno.ENOTTY, errno.EINVAL), client.set_irqs, INTX, DATA_EVENTFD | MASK, fds=[other.fd])
    # One kind of interrupt at a time.
    fails(errno.EINVAL, client.set_irqs, MSI, assign, fds=[other.fd])
    client.set_irqs(INTX, off, count=0)
    fails((errno.ENOTTY, errno.EINVAL), client.set_irqs, MSI, DATA_NONE | MASK)
    # Errors and the request to let go.
    for index in (ERR, REQ):
        if client.irq(index)[1]:
            client.set_irqs(index, assign, fds=[one.fd])
            if index == ERR:
                client.set_irqs(index, DATA_NONE | TRIGGER)
                equal(one.wait(), 1, "the interrupt of errors")
            else:
                # tdid's to ring: the client only says where.
                fails(errno.EINVAL, client.set_irqs, index, DATA_NONE | TRIGGER)
            client.set_irqs(index, off, count=0)
            client.set_irqs(index, assign, fds=[one.fd])
            client.set_irqs(index, assign)
    # MSI-X: ranges, chunks, vectors by themselves.
    count = many.irq(MSIX)[1]
    check(count >= 3, f"MSI-X vectors: {count}")
    events = [event(t) for _ in range(count)]
    many.set_irqs(MSIX, assign, count=count, fds=[e.fd for e in events])
    many.set_irqs(MSIX, off, start=1, count=count - 1)
    equal([e.wait(0.2) for e in events], [0] + [1] * (count - 1), "a range of vectors")
    many.set_irqs(MSIX, DATA_BOOL | TRIGGER, count=3, data=b"\1\0\1")
    equal([e.wait(0.2) for e in events[:3]], [1, 0, 1], "vectors by booleans")
    many.set_irqs(MSIX, assign, start=1)
    many.set_irqs(MSIX, off, count=3)
    equal([e.wait(0.2) for e in events[:3]], [1, 0, 1], "one vector is de-assigned")
    many.set_irqs(MSIX, off, count=0)
    many.set_irqs(MSIX, assign, count=2, fds=[e.fd for e in events[:2]])
    many.set_irqs(MSIX, assign, start=2, fds=[events[2].fd])
    many.set_irqs(MSIX, off, count=3)
    equal([e.wait() for e in events[:3]], [1, 1, 1], "vectors in chunks")
    many.set_irqs(MSIX, off, count=0)


@scenario("edu")
def vu_irqs_refused(t):
    """Interrupts that do not exist, ranges past the end, sizes and descriptors that do not fit: refused, and nothing changes."""
    vm, bdf = attached(t, "edu")
    holder = vm.holder_pid()
    client = connect(t, vm, bdf)
    assign = DATA_EVENTFD | TRIGGER
    mine = event(t)
    client.set_irqs(MSI, assign, fds=[mine.fd])
    open_fds = settled_fds(vm)
    more = [event(t).fd for _ in range(16)]
    no = (errno.EINVAL, errno.ENOTTY)
    for index in (5, 6, 255, 0xffffffff):
        fails(no, client.set_irqs, index, DATA_NONE | TRIGGER)
        fails(no, client.set_irqs, index, assign, fds=more[:1])
    for start, count in ((0, 2), (1, 1), (0, 33), (1, 0xffffffff), (0xffffffff, 1), (0xffffffff, 0xffffffff), (0, 0xffffffff), (1 << 31, 1 << 31)):
        fails(no, client.set_irqs, MSI, DATA_NONE | TRIGGER, start, count)
        fails(no, client.set_irqs, MSI, assign, start, count, fds=more[:1])
        fails(no, client.set_irqs, MSI, assign, start, count, fds=more)
        fails(no, client.set_irqs, MSI, DATA_BOOL | TRIGGER, start, count, b"\1")
    fails(no, client.set_irqs, INTX, DATA_NONE | UNMASK, 0, 2)
    # No kind of data or two, no action or two, bits that mean nothing.
    for flags in (0, DATA_NONE, TRIGGER, DATA_NONE | DATA_BOOL | TRIGGER, DATA_NONE | DATA_EVENTFD | TRIGGER, DATA_NONE | MASK | UNMASK,
                  DATA_NONE | TRIGGER | 1 << 6, 0xffffffff):
        fails(no, client.set_irqs, MSI, flags)
    # Data that is short or too long, or that nobody asked for; argsz of something else.
    fails(no, client.set_irqs, MSI, DATA_BOOL | TRIGGER)
    fails(no, client.call, vfio_user.SET_IRQS, bytes(19))
    fails(no, client.call, vfio_user.SET_IRQS)
    fails(no, client.set_irqs, MSI, DATA_NONE | TRIGGER, argsz=0)
    fails(no, client.set_irqs, MSI, DATA_NONE | TRIGGER, argsz=19)
    # More descriptors than interrupts, none that are eventfds, descriptors where there are none.
    fails(no, client.set_irqs, MSI, assign, 0, 1, fds=more[:2])
    fails(no, client.set_irqs, MSI, DATA_NONE | TRIGGER, fds=more[:1])
    fails(no, client.set_irqs, MSI, DATA_BOOL | TRIGGER, data=b"\1", fds=more[:1])
    client.set_irqs(MSI, DATA_NONE | TRIGGER)
    equal(mine.wait(), 1, "the interrupt that was there before")
    # The kernel drops what was there before it looks at what comes.
    with Ram(PAGE) as memory:
        fails((*no, errno.EBADF), client.set_irqs, MSI, assign, fds=[memory.fd])
    client.set_irqs(MSI, assign, fds=[mine.fd])
    # A simulated device takes one for the time of a call.
    eventually(lambda: fd_count(holder) == open_fds, "the holder has not a descriptor more")


# ---- DMA ----

@scenario("edu", tags=("quick",))
def vu_dma_map(t):
    """Maps and unmaps: exact, covering, all; with and without memory behind them; what overlaps or cuts in two is refused."""
    vm, bdf = attached(t, "edu")
    client = connect(t, vm, bdf)
    memory = ram(t, 1 << 20)
    client.dma_map(IOVA, 1 << 16, memory.fd)
    fails(errno.EEXIST, client.dma_map, IOVA, 1 << 16, memory.fd)
    for iova, size in ((IOVA, PAGE), (IOVA + (1 << 15), 1 << 16), (IOVA - PAGE, 2 * PAGE), (IOVA - (1 << 16), 1 << 20)):
        fails(errno.EEXIST, client.dma_map, iova, size, memory.fd)
        # A failed one counts as there until it is unmapped; what is there is not touched by that.
    client.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL)
    # Exactly what was mapped.
    client.dma_map(IOVA, 1 << 16, memory.fd)
    equal(client.dma_unmap(IOVA, 1 << 16), 1 << 16, "bytes unmapped")
    fails(errno.ENOENT, client.dma_unmap, IOVA, 1 << 16)
    # One that covers several, with holes, of memory and of what has none.
    for i in range(4):
        client.dma_map(IOVA + i * 0x20000, 1 << 16, memory.fd, offset=i << 16)
    client.dma_map(IOVA + 0x80000, 1 << 16)
    for iova, size in ((IOVA, PAGE), (IOVA + PAGE, 1 << 16), (IOVA, 0x28000), (IOVA + 0x8000, 0x80000), (IOVA + 0x80000, PAGE)):
        fails(errno.EINVAL, client.dma_unmap, iova, size)
    equal(client.dma_unmap(IOVA - PAGE, 0x100000), 5 << 16, "bytes unmapped by one that covers all")
    fails(errno.ENOENT, client.dma_unmap, IOVA, 0x100000)
    # All.
    client.dma_map(IOVA, PAGE, memory.fd, flags=vfio_user.READABLE)
    client.dma_map(IOVA + PAGE, PAGE, memory.fd, flags=vfio_user.WRITABLE)
    client.dma_map(0x100000000, PAGE, memory.fd, offset=PAGE)
    client.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL)
    client.dma_map(IOVA, 1 << 20, memory.fd)
    client.dma_unmap(IOVA, 1 << 20)
    # Nothing is logged of what DMA writes.
    fails((errno.EINVAL, errno.ENOTSUP), client.dma_unmap, IOVA, PAGE, vfio_user.UNMAP_DIRTY)
    fails(errno.EINVAL, client.dma_unmap, IOVA, PAGE, vfio_user.UNMAP_ALL)


@scenario("edu")
def vu_dma_refused(t):
    """What cannot be mapped, for every reason; afterwards the holder has not a descriptor more."""
    vm, bdf = attached(t, "edu")
    holder = vm.holder_pid()
    client = connect(t, vm, bdf)
    memory = ram(t, 1 << 20)
    client.info()
    open_fds = settled_fds(vm)
    bad = (errno.EINVAL, errno.EOVERFLOW, errno.EADDRNOTAVAIL)
    for iova, size in ((IOVA, 0), (IOVA, 1), (IOVA + 1, PAGE), (IOVA, PAGE + 1), (TOP - PAGE, 2 * PAGE), (TOP - PAGE, TOP - PAGE), (IOVA, TOP - PAGE)):
        fails((*bad, errno.ENXIO), client.dma_map, iova, size, memory.fd)
        fails(bad, client.dma_map, iova, size)
    for size, offset in ((PAGE, 1), (PAGE, PAGE - 1), (PAGE, 1 << 20), (1 << 20, PAGE), (PAGE, TOP - PAGE), (2 << 20, 0), (PAGE, 1 << 63)):
        fails((errno.EINVAL, errno.ENXIO, errno.EOVERFLOW), client.dma_map, IOVA, size, memory.fd, offset)
    for flags in (0, 4, 0xffffffff):
        fails(errno.EINVAL, client.dma_map, IOVA, PAGE, memory.fd, 0, flags)
    for body in (b"", bytes(31), bytes(33), vfio_user.MAP.pack(0, 3, 0, IOVA, PAGE), vfio_user.MAP.pack(31, 3, 0, IOVA, PAGE)):
        fails(errno.EINVAL, client.call, vfio_user.DMA_MAP, body, (memory.fd,))
    for body in (b"", bytes(23), vfio_user.UNMAP.pack(0, 0, IOVA, PAGE), vfio_user.UNMAP.pack(24, 0, IOVA, 0), vfio_user.UNMAP.pack(24, 4, IOVA, PAGE),
                 vfio_user.UNMAP.pack(24, 0, TOP - PAGE, 2 * PAGE)):
        fails(errno.EINVAL, client.call, vfio_user.DMA_UNMAP, body)
    fails(errno.EINVAL, client.call, vfio_user.DMA_MAP, vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), (memory.fd, memory.fd))
    # Not files for this.
    pipe = event(t)
    with open("/dev/null", "r+b", buffering=0) as null, open(t.folder + "/file", "w+b", buffering=0) as file:
        file.truncate(1 << 20)
        for fd in (pipe.fd, null.fileno(), file.fileno(), client.socket.fileno()):
            fails((errno.EBADF, errno.EACCES, errno.EINVAL), client.dma_map, IOVA, PAGE, fd)
    client.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL)
    # A simulated device takes one for the time of a call.
    eventually(lambda: fd_count(holder) == open_fds, "the holder has not a descriptor more")
    client.dma_map(IOVA, 1 << 20, memory.fd)
    check(Edu(client).round_trip(memory, IOVA), "DMA after all of that")


# ---- all of it together ----

def use_edu(t, client, post):
    """A guest's life with edu: numbers, interrupts, DMA; as much of it as both VMMs do."""
    memory, irq = ram(t, 1 << 20), event(t)
    number = client.ask_dma_map(IOVA, 1 << 20, memory.fd)
    client.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[irq.fd])
    client.wait(number).ok()
    edu = Edu(client, post=post)
    edu.alive()
    # What another driver has left.
    edu.acknowledge()
    irq.wait(0)
    equal(edu.factorial(10, interrupt=True), 3628800, "factorial of 10")
    equal(irq.wait(), 1, "the interrupt of the factorial")
    equal(edu.acknowledge(), 1, "which interrupt it was")
    check(edu.round_trip(memory, IOVA), "DMA round trip")
    edu.copy(IOVA, Edu.BUFFER, Edu.DMA_IRQ)
    equal(irq.wait(), 1, "the interrupt of a DMA")
    edu.acknowledge()
    return memory, irq, edu


@scenario("edu:2", tags=("quick",), kernel_ok=FAULTS)
def vu_edu(t):
    """Both VMMs' ways, each with a function of one VM at the same time."""
    bdfs = t.host.bdfs("edu", 2)
    vm = t.vm()
    vm.attach(*bdfs)
    qemu, ch = connect(t, vm, bdfs[0], QEMU), connect(t, vm, bdfs[1], CLOUD_HYPERVISOR)
    memory, irq, edu = use_edu(t, qemu, post=True)
    use_edu(t, ch, post=False)
    # Without bus mastering the device reaches nothing; what was unmapped neither.
    command = qemu.read16(CONFIG, COMMAND)
    qemu.write16(CONFIG, COMMAND, command & ~COMMAND_MASTER)
    check(not edu.round_trip(memory, IOVA, seed=2), "DMA without bus mastering")
    qemu.write16(CONFIG, COMMAND, command)
    check(edu.round_trip(memory, IOVA, seed=3), "DMA with bus mastering again")
    qemu.dma_unmap(IOVA, 1 << 20)
    check(not edu.round_trip(memory, IOVA, seed=4), "DMA to what is unmapped")
    memory.map[:] = bytes(1 << 20)
    qemu.dma_map(IOVA + 0x100000, 1 << 20, memory.fd)
    check(edu.round_trip(memory, IOVA + 0x100000, seed=5), "DMA at another address")
    # Memory that the device may only read.
    qemu.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL)
    qemu.dma_map(IOVA, 1 << 20, memory.fd, flags=vfio_user.READABLE)
    check(not edu.round_trip(memory, IOVA, seed=6), "DMA into memory that is read-only to the device")
    equal(irq.wait(0.2), 0, "an interrupt nobody asked for")


def bar_addresses(client):
    return client.read(CONFIG, 0x10, 24)


@scenario("edu", tags=("quick",))
def vu_reset(t):
    """RESET: BARs, interrupts and maps stay, and the device works."""
    vm, bdf = attached(t, "edu")
    client = connect(t, vm, bdf)
    check(client.info()[0] & 1, "the device says that it can be reset")
    memory, irq, edu = use_edu(t, client, post=False)
    bars = bar_addresses(client)
    edu.put(Edu.LIVENESS, 1)
    client.reset()
    equal(bar_addresses(client), bars, "BARs after a reset")
    edu = Edu(client)
    edu.alive()
    check(edu.round_trip(memory, IOVA, seed=9), "DMA after a reset")
    client.set_irqs(MSI, DATA_NONE | TRIGGER)
    equal(irq.wait(), 1, "an interrupt after a reset")


@scenario("edu", tags=("quick",), kernel_ok=FAULTS)
def vu_reconnect(t):
    """When the VMM hangs up, its maps and interrupts end, its descriptors are closed; it may come back, and begins anew."""
    vm, bdf = attached(t, "edu")
    holder = vm.holder_pid()
    with vfio_user.Client(socket_path(t, vm, bdf)) as client:
        client.negotiate()
    # What it takes to know a peer stays as long as the peer lives.
    eventually(lambda: vm.describe()["peer"]["kvm"], "the peer is known")
    open_fds = steady_fds(holder)
    memory = None
    for i in range(3):
        client = vfio_user.Client(socket_path(t, vm, bdf))
        t.defer(client.hang_up)
        client.negotiate((QEMU, CLOUD_HYPERVISOR)[i % 2])
        new, irq, edu = use_edu(t, client, post=i % 2 == 0)
        if memory:
            check(not edu.round_trip(memory, IOVA, seed=20 + i), "memory of the connection before")
        memory = new
        # In the middle of a DMA.
        edu.copy(IOVA, Edu.BUFFER, Edu.DMA_IRQ, wait=False)
        client.close()
        eventually(lambda: fd_count(holder) == open_fds, f"the holder has {open_fds} descriptors again")
        equal(irq.wait(0.5), 0, "an interrupt after the end of the connection")
    t.attached(vm, bdf)
    t.dma(vm, bdf)
