# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Clients of the vfio-user server that do what no VMM does: at worst they lose their connection. Descriptors that they sent are
# closed, the holder's memory stays what it was, and another function's reads, of the same VM and of another one, are answered all the while.

import array
import contextlib
import errno
import mmap
import os
import pwd
import socket
import struct
import threading
import time

from kit import vfio_user
from kit.checks import check, equal, eventually
from kit.daemon import fd_count, memory_kib, sanitized
from kit.registry import scenario
from kit.vfio_user import (ACCESS, ANSWERED_WITHIN, CONFIG, DATA_EVENTFD, FDS_MAX, GET_INFO, HEADER, MSI, MSIX, NO_REPLY, READABLE, REGION_READ, REGION_WRITE,
                           RESET, SET_IRQS, TRIGGER, Client, Lost, fails, message)
from kit.vmm import F_SEAL_FUTURE_WRITE, Bystander, Edu, Event, OtherProcess, Ram, connect, socket_path, steady_fds

ALICE, BOB = (pwd.getpwnam(name).pw_uid for name in ("daemon", "nobody"))
IOVA = 0x8000000
PAGE = 4096
TOP = 1 << 64
# What a client can make a holder use besides, with all buffers of one connection full.
MEMORY_KIB = 24 << 10


class Target:
    """A VM with two functions, the second of which must be served whatever happens on the first one's socket; and another VM."""

    def __init__(self, t, **limits):
        self.t = t
        self.bdf, self.second, third = t.host.bdfs("edu", 3)
        self.vm = t.vm(**({"limits": limits} if limits else {}))
        self.vm.attach(self.bdf, self.second)
        self.holder = self.vm.holder_pid()
        self.path = socket_path(t, self.vm, self.bdf)
        self.other = connect(t, self.vm, self.second)
        self.edu = Edu(self.other)
        # Everything that a first connection makes the holder have is there.
        self.well()
        self.bystander = Bystander(t, third)
        self.fds = steady_fds(self.holder)
        self.memory = memory_kib(self.holder)

    def client(self, negotiate=True, **kw):
        """A hostile one: what it is owed does not count."""
        client = Client(self.path, **kw)
        self.t.defer(client.hang_up)
        if negotiate:
            client.negotiate()
        return client

    def well(self):
        """Both functions are served, the first one to a new client."""
        with eventually(self.connected, "a new connection") as client:
            Edu(client).alive()
        self.edu.alive()

    def connected(self):
        client = Client(self.path)
        try:
            client.negotiate()
            return client
        except Lost:
            client.hang_up()
            raise

    def clean(self):
        """Nothing has stayed, and both are well."""
        eventually(lambda: fd_count(self.holder) == self.fds, f"the holder has {self.fds} descriptors again")
        self.well()
        eventually(lambda: fd_count(self.holder) == self.fds, f"the holder has {self.fds} descriptors again")

    def end(self):
        self.clean()
        # Sanitizers keep freed memory.
        grown = memory_kib(self.holder) - self.memory
        check(grown <= MEMORY_KIB or sanitized(self.holder), f"the holder has grown by {grown} KiB")
        seen = self.bystander.end()
        self.t.value("bystander", f"{seen['reads']} reads, p50 {seen['p50'] * 1e6:.0f} us, p99 {seen['p99'] * 1e6:.0f} us, max {seen['max'] * 1e6:.0f} us")
        self.t.value("holder_kib", f"{self.memory}, grown by {grown}")


def pipe_fds(t, count):
    """So many descriptors, closed at the end."""
    event = Event()
    t.defer(event.close)
    return [event.fd] * count


def lost_or_refused(client, number):
    """The message is answered with an error, or the connection has ended."""
    try:
        fails((errno.EINVAL, errno.ENOTSUP, errno.EMSGSIZE, errno.EPROTO, errno.E2BIG, errno.EBADF), lambda: client.wait(number).ok())
    except Lost:
        pass


@scenario("edu:3", tags=("quick",))
def vu_hostile_headers(t):
    """Headers that lie about sizes, replies instead of commands, types that there are not."""
    target = Target(t)
    for size in (0, 1, 15, HEADER.size + ACCESS.size + (1 << 20) + 25, 1 << 24, 1 << 31, 0xffffffff):
        client = target.client()
        with contextlib.suppress(Lost):
            client.raw(message(REGION_WRITE, ACCESS.pack(0, 0, 4) + bytes(4), 7, NO_REPLY, size=size))
        client.wait_lost()
        client.hang_up()
    for flags in (1, 2, 3, 8, 15, 1 | vfio_user.ERROR, 1 | NO_REPLY):
        client = target.client()
        with contextlib.suppress(Lost):
            client.raw(message(GET_INFO, struct.pack("=IIII", 16, 0, 0, 0), 9, flags))
        client.wait_lost()
        client.hang_up()
    # The same id again and again is the client's own business.
    client = target.client()
    for flags in (vfio_user.ERROR, 1 << 6, 1 << 31):
        lost_or_refused_or_done(client, flags)
    client.hang_up()
    # Random bytes.
    for _ in range(20):
        client = target.client(negotiate=t.rng.random() < 0.7)
        with contextlib.suppress(Lost):
            client.raw(t.rng.randbytes(t.rng.randrange(1, 4096)))
        client.hang_up()
    target.end()


def lost_or_refused_or_done(client, flags):
    """Bits of a command that mean nothing there: ignored, refused, or the end."""
    with contextlib.suppress(Lost):
        client.wait(client.ask(GET_INFO, struct.pack("=IIII", 16, 0, 0, 0), flags=flags))


@scenario("edu:3", tags=("quick",))
def vu_hostile_descriptors(t):
    """Descriptors where none belong, as many as a message can have, and with its later bytes: refused, and all of them closed."""
    target = Target(t)
    fds = pipe_fds(t, FDS_MAX)
    info = struct.pack("=IIII", 16, 0, 0, 0)
    for command, body in ((GET_INFO, info), (vfio_user.GET_REGION_INFO, struct.pack("=IIIIQQ", 32, 0, 0, 0, 0, 0)), (RESET, b""),
                          (REGION_READ, ACCESS.pack(0, 0, 4)), (REGION_WRITE, ACCESS.pack(4, 0, 4) + bytes(4)), (19, b""),
                          (vfio_user.DMA_UNMAP, vfio_user.UNMAP.pack(24, 0, IOVA, PAGE)), (vfio_user.WRITE_MULTI, Client.multi((0, 4, bytes(4))))):
        for count in (1, 16, 17, FDS_MAX):
            client = target.client()
            lost_or_refused(client, client.ask(command, body, fds[:count]))
            client.hang_up()
        eventually(lambda: fd_count(target.holder) == target.fds, f"descriptors that came with command {command} are closed")
    # As VERSION, the first message.
    for count in (1, FDS_MAX):
        client = target.client(negotiate=False)
        with contextlib.suppress(Lost, vfio_user.ServerError):
            client.negotiate(fds=fds[:count])
        client.hang_up()
    # Of a DMA_MAP one at most, of SET_IRQS no more than interrupts.
    for count in (2, FDS_MAX):
        client = target.client()
        lost_or_refused(client, client.ask(vfio_user.DMA_MAP, vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), fds[:count]))
        client.hang_up()
    for index, count in ((MSI, FDS_MAX), (MSIX, FDS_MAX), (MSI, 32)):
        client = target.client()
        lost_or_refused(client, client.ask(SET_IRQS, vfio_user.IRQ_SET.pack(20, DATA_EVENTFD | TRIGGER, index, 0, count), fds[:count]))
        client.hang_up()
    # What the kernel itself does not pass on.
    client = target.client()
    with contextlib.suppress(Lost):
        try:
            client.raw(message(GET_INFO, info), fds + fds[:1])
            check(False, "254 descriptors in a message")
        except OSError as error:
            equal(error.errno, errno.EINVAL, "254 descriptors in a message")
    client.hang_up()
    # With the second half of a message, and with each of its bytes.
    for negotiated in (True, False):
        client = target.client(negotiate=negotiated)
        whole = message(GET_INFO, info, 5)
        with contextlib.suppress(Lost):
            client.raw(whole[:8])
            client.raw(whole[8:20], fds[:3])
            client.raw(whole[20:], fds)
        client.hang_up()
        client = target.client(negotiate=negotiated)
        with contextlib.suppress(Lost):
            for i in range(len(whole)):
                client.raw(whole[i:i + 1], fds[:100])
        client.hang_up()
    # A message that never becomes whole keeps nothing either.
    client = target.client()
    with contextlib.suppress(Lost):
        client.raw(message(vfio_user.DMA_MAP, vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), 6)[:40], fds)
    client.hang_up()
    target.end()


@scenario("edu:3")
def vu_hostile_other_rights(t):
    """Ancillary data of other kinds, sockets that hold themselves in flight, descriptors of the simulation's or the host's own."""
    target = Target(t)
    client = target.client()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # A socket that is in its own queue.
        with contextlib.suppress(OSError):
            ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [ours.fileno(), theirs.fileno()]))])
        lost_or_refused(client, client.ask(vfio_user.DMA_MAP, vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), [theirs.fileno()]))
        client.hang_up()
        client = target.client()
        lost_or_refused(client, client.ask(SET_IRQS, vfio_user.IRQ_SET.pack(20, DATA_EVENTFD | TRIGGER, MSI, 0, 1), [ours.fileno()]))
    client.hang_up()
    # The connection itself, and the device's own node.
    client = target.client()
    lost_or_refused(client, client.ask(vfio_user.DMA_MAP, vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), [client.socket.fileno()]))
    client.hang_up()
    device = t.host.take(target.holder, t.host.vfio_node(target.second))
    try:
        client = target.client()
        lost_or_refused(client, client.ask(vfio_user.DMA_MAP, vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), [device]))
        client.hang_up()
    finally:
        t.host.close(device)
    # Who one is comes with every message if one likes.
    client = target.client()
    credentials = struct.pack("=iII", os.getpid(), os.getuid(), os.getgid())
    client.socket.sendmsg([message(GET_INFO, struct.pack("=IIII", 16, 0, 0, 0), 3)], [(socket.SOL_SOCKET, 2, credentials)])
    client.hang_up()
    target.end()


@scenario("edu:3")
def vu_hostile_pieces(t):
    """Messages byte by byte are messages; ones that end anywhere in their middle are the end of the connection."""
    target = Target(t)
    client = target.client()
    memory = Ram(PAGE)
    t.defer(memory.close)
    for body, command, fds in ((ACCESS.pack(0, CONFIG, 4), REGION_READ, ()), (struct.pack("=IIII", 16, 0, 0, 0), GET_INFO, ()),
                               (ACCESS.pack(Edu.LIVENESS, 0, 4) + bytes(4), REGION_WRITE, ()),
                               (vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), vfio_user.DMA_MAP, (memory.fd,))):
        whole = message(command, body, 77)
        with client._changed:
            client._sent[77] = (command, time.monotonic())
        for i in range(len(whole)):
            client.raw(whole[i:i + 1], fds if i == 0 else ())
            time.sleep(0.001)
        client.wait(77).ok()
    # Several in one piece, and a piece that ends in the middle of one.
    whole = b"".join(message(REGION_WRITE, ACCESS.pack(Edu.LIVENESS, 0, 4) + struct.pack("=I", i), i, NO_REPLY) for i in range(100))
    for i in range(0, len(whole), 1000):
        client.raw(whole[i:i + 1000])
    equal(client.read32(0, Edu.LIVENESS), 99 ^ 0xffffffff, "the last of the writes")
    client.hang_up()
    whole = message(vfio_user.DMA_MAP, vfio_user.MAP.pack(32, 3, 0, IOVA, PAGE), 5)
    for size in (0, 1, 7, 15, 16, 17, 47):
        for negotiated in (True, False):
            client = target.client(negotiate=negotiated)
            if size:
                client.raw(whole[:size], (memory.fd,))
            # Half a hang-up says the same.
            if size % 2:
                client.socket.shutdown(socket.SHUT_WR)
                client.wait_lost()
            client.hang_up()
    target.end()


@scenario("edu:3")
def vu_hostile_stalled(t):
    """A client that stops in the middle of a message, or that never negotiates, keeps nobody from being served."""
    target = Target(t)
    for negotiated in (False, True):
        client = target.client(negotiate=negotiated)
        client.raw(message(REGION_WRITE, ACCESS.pack(0, 0, 4) + bytes(4))[:20])
        time.sleep(2)
        target.edu.alive()
        equal(target.edu.factorial(5), 120, "the other function, while a message is half there")
        client.hang_up()
    target.end()


@scenario("edu:3")
def vu_hostile_slow_reader(t):
    """A client that never reads its replies: the server stops reading its requests or ends the connection, and needs no more memory."""
    target = Target(t)
    for count in (4, 65536, 1 << 20):
        client = target.client(reader=False, negotiate=False)
        text = b'{}\0'
        client.raw(message(vfio_user.VERSION, struct.pack("=HH", 0, 0) + text, 1))
        sent = 0
        request = message(REGION_READ, ACCESS.pack(0, 0, count), 2) * 64
        until = time.monotonic() + 8
        try:
            while time.monotonic() < until:
                client.raw(request, timeout=2)
                sent += 64
        except (Lost, TimeoutError):
            pass
        # Nearly all of them are in the socket.
        t.note(f"reads of {count} bytes that were taken: {sent}")
        check(sent < 50000, f"the server takes {sent} requests that nobody reads the replies of")
        target.edu.alive()
        check(memory_kib(target.holder) - target.memory <= MEMORY_KIB or sanitized(target.holder), "the holder has grown")
        client.hang_up()
    target.end()


@scenario("edu:3")
def vu_hostile_flood(t):
    """Posted writes without bound: all are done in order, memory does not grow, and who reads elsewhere is answered."""
    target = Target(t)
    client = target.client()
    count = 200000 if t.full else 20000
    one = message(REGION_WRITE, ACCESS.pack(Edu.LIVENESS, 0, 4) + struct.pack("=I", 5), 0, NO_REPLY)
    begin = time.monotonic()
    largest = 0
    for i in range(0, count, 500):
        client.raw(one * 500)
        if i % 10000 == 0:
            target.edu.alive()
            largest = max(largest, memory_kib(target.holder) - target.memory)
    equal(client.read32(0, Edu.LIVENESS), 5 ^ 0xffffffff, "what the last write did")
    t.value("posted_writes_per_second", f"{count / (time.monotonic() - begin):.0f}")
    check(largest <= MEMORY_KIB or sanitized(target.holder), f"the holder has grown by {largest} KiB")
    # Wrong ones, in the same number, with and without descriptors.
    bad = message(REGION_WRITE, ACCESS.pack(TOP - 1, 0, 4) + bytes(4), 0, NO_REPLY) + message(99, bytes(20), 0, NO_REPLY)
    with contextlib.suppress(Lost):
        for _ in range(0, count // 10, 100):
            client.raw(bad * 50)
        client.info()
    client.hang_up()
    target.end()


@scenario("edu:3")
def vu_hostile_pipelined(t):
    """Thousands of requests under way: all answered, in order, within the time."""
    target = Target(t)
    with Client(target.path) as client:
        client.negotiate()
        order = []
        numbers = [client.ask(REGION_READ, ACCESS.pack(0, CONFIG, 4)) for _ in range(5000)]
        for number in numbers:
            reply = client.wait(number)
            order.append(reply.id)
            reply.ok()
        equal(order, numbers, "ids of the replies")
        slowest = max(s for _, s in client.latencies)
        t.value("slowest_of_5000", f"{slowest:.3f} s")
    target.end()


@scenario("edu:3", tags=("quick",))
def vu_hostile_memory(t):
    """Memory that is not the VMM's to give: read-only, sealed, not mapped by it, not there; the function is kept from bus mastering."""
    target = Target(t)
    client = target.client()
    size = 1 << 20
    good = Ram(size)
    t.defer(good.close)
    client.dma_map(IOVA, size, good.fd)
    edu = Edu(client)
    check(edu.round_trip(good, IOVA), "DMA before")
    no = (errno.EACCES, errno.EBADF, errno.EPERM)
    read_only = good.read_only()
    t.defer(lambda: os.close(read_only))
    other = 0x9000000

    def refuse(wanted, *args, **kw):
        """The map fails, the function is no master while it counts as failed, and is again when it is unmapped."""
        fails(wanted, client.dma_map, other, *args, **kw)
        check(client.read16(CONFIG, 4) & 4, "COMMAND does not say what the guest has written")
        check(not edu.round_trip(good, IOVA, seed=t.rng.randrange(1, 255)), "the function is bus master though a map has failed")
        client.dma_unmap(other, args[0])
        check(edu.round_trip(good, IOVA, seed=t.rng.randrange(1, 255)), "the function is bus master again")

    refuse(no, size, read_only)
    # For the device to read, that is enough.
    client.dma_map(other, size, read_only, flags=READABLE)
    client.dma_unmap(other, size)
    with Ram(size, seals=F_SEAL_FUTURE_WRITE) as sealed:
        refuse(no, size, sealed.fd)
    with Ram(size, mapped=False) as unmapped:
        refuse(no, size, unmapped.fd)
        with mmap.mmap(unmapped.fd, size, flags=mmap.MAP_PRIVATE):
            refuse(no, size, unmapped.fd)
        # Some of it.
        with mmap.mmap(unmapped.fd, PAGE):
            refuse(no, size, unmapped.fd)
            client.dma_map(other, PAGE, unmapped.fd)
            client.dma_unmap(other, PAGE)
    refuse((errno.ENXIO, errno.EINVAL), size, good.fd, offset=PAGE)
    client.hang_up()
    target.end()


@scenario("edu:3")
def vu_hostile_sparse(t):
    """A file of 1 TiB that is all holes: more than the VM may pin, refused before anything is allocated; and what it may, to the byte."""
    target = Target(t, pinned_mib=64)
    client = target.client()
    with Ram(1 << 40) as sparse:
        fails(errno.EDQUOT, client.dma_map, 1 << 40, 1 << 40, sparse.fd)
        equal(sparse.used(), 0, "bytes of the file that are there now")
        client.dma_unmap(1 << 40, 1 << 40)
        client.dma_map(1 << 40, 48 << 20, sparse.fd)
        fails(errno.EDQUOT, client.dma_map, 1 << 41, (16 << 20) + PAGE, sparse.fd, 1 << 30)
        client.dma_unmap(1 << 41, (16 << 20) + PAGE)
        client.dma_map(1 << 41, 16 << 20, sparse.fd, 1 << 30)
        # It is the VM's, not the function's.
        fails(errno.EDQUOT, target.other.dma_map, IOVA, PAGE, sparse.fd, 1 << 31)
        target.other.dma_unmap(IOVA, PAGE)
        client.dma_unmap(1 << 40, 48 << 20)
        target.other.dma_map(IOVA, PAGE, sparse.fd, 1 << 31)
        target.other.dma_unmap(IOVA, PAGE)
    client.hang_up()
    target.end()


@scenario("edu:3", timeout=1500)
def vu_hostile_many_maps(t):
    """Maps until one is refused: the limit is the VM's, everything goes on, and all of it goes with the connection."""
    most = 200000 if t.full else 2000
    target = Target(t, maps=most)
    client = target.client()
    with Ram(PAGE) as page:
        done = 0
        while done < most:
            numbers = [client.ask_dma_map((1 << 32) + (done + i) * PAGE, PAGE, page.fd) for i in range(500)]
            for number in numbers:
                client.wait(number).ok()
            done += len(numbers)
        fails(errno.ENOSPC, client.dma_map, IOVA, PAGE, page.fd)
        fails(errno.ENOSPC, client.dma_map, IOVA + PAGE, PAGE)
        # There is no room to remember which range it was: all of the function's has to go.
        fails(errno.ENOSPC, target.other.dma_map, IOVA, PAGE, page.fd)
        target.other.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL)
        equal(client.dma_unmap((1 << 32) + PAGE, PAGE), PAGE, "unmapped")
        target.other.dma_map(IOVA, PAGE, page.fd)
        target.other.dma_unmap(IOVA, PAGE)
        client.dma_unmap(0, 0, flags=vfio_user.UNMAP_ALL)
        numbers = [client.ask_dma_map(IOVA + i * PAGE, PAGE, page.fd) for i in range(300)]
        for number in numbers:
            client.wait(number).ok()
        # The end comes with everything in place.
        client.hang_up()
    target.end()


@scenario("group-nvme", "group-edu", tags=("quick",))
def vu_shared_space(t):
    """Two functions in one address space: the same range twice is one; another waits for the first one's end, in vain or not."""
    nvme, edu = t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    vm = t.vm()
    vm.attach(nvme, edu)
    one, two = connect(t, vm, nvme), connect(t, vm, edu)
    with Ram(1 << 20) as memory, Ram(1 << 20) as other:
        one.dma_map(IOVA, 1 << 20, memory.fd)
        two.dma_map(IOVA, 1 << 20, memory.fd)
        device = Edu(two)
        check(device.round_trip(memory, IOVA), "DMA to what both have mapped")
        one.dma_unmap(IOVA, 1 << 20)
        check(device.round_trip(memory, IOVA, seed=2), "DMA after the other one's unmap")
        one.dma_map(IOVA, 1 << 20, memory.fd)
        # In vain.
        two.dma_unmap(IOVA, 1 << 20)
        begin = time.monotonic()
        fails(errno.EEXIST, two.dma_map, IOVA, 1 << 20, other.fd)
        took = time.monotonic() - begin
        check(took < ANSWERED_WITHIN, f"EEXIST after {took:.1f} s")
        two.dma_unmap(IOVA, 1 << 20)
        # Not in vain.
        number = two.ask_dma_map(IOVA, 1 << 20, other.fd)
        time.sleep(0.5)
        check(not two.answered(number), "a map over another's is answered at once")
        one.dma_unmap(IOVA, 1 << 20)
        two.wait(number).ok()
        check(device.round_trip(other, IOVA, seed=3), "DMA to what waited")


@scenario("edu:3")
def vu_hostile_connections(t):
    """A second connection, a second process of the same user, and other users are refused while the first one lives; then not."""
    target = Target(t)
    first = target.client()
    # Ours, on the same socket.
    with contextlib.suppress(Lost, ConnectionError):
        second = Client(target.path, timeout=3)
        t.defer(second.hang_up)
        second.negotiate()
        check(False, "two clients are served on one socket")
    first.info()
    equal(OtherProcess(t, target.path).said, "refused", "a second process")
    first.info()
    first.hang_up()
    # The process is still there, though it has hung up: the sockets are its own.
    equal(OtherProcess(t, target.path).said, "refused", "a second process, after the first one has hung up")
    # A crowd that connects and waits.
    crowd = []
    for _ in range(64):
        client = Client(target.path, reader=False, timeout=3)
        crowd.append(client)
        t.defer(client.hang_up)
    target.edu.alive()
    for client in crowd:
        client.hang_up()
    target.end()


@scenario("edu", needs=("root",), tags=("quick",))
def vu_other_users(t):
    """The socket is one user's: others cannot open it, and who can (root) is told by his uid and refused."""
    bdf = t.host.bdf("edu")
    vm = t.vm(owner_uid=ALICE, vmm_uid=ALICE, vmm_gid=ALICE)
    vm.attach(bdf)
    path = socket_path(t, vm, bdf)
    equal(OtherProcess(t, path, BOB).said, str(errno.EACCES), "another user")
    equal(OtherProcess(t, path).said, "refused", "root, for whom it is not")
    status = os.stat(path)
    equal((status.st_uid, status.st_gid, status.st_mode & 0o007), (ALICE, ALICE, 0), "owner and mode of the socket")
    equal(os.stat(os.path.dirname(path)).st_uid, 0, "owner of its folder")
    alice = OtherProcess(t, path, ALICE)
    equal(alice.said, "served", "the user whose socket it is")
    equal(OtherProcess(t, path, ALICE).said, "refused", "another process of the same user")
    alice.end()
    # With its end the VM's sockets are free again.
    eventually(lambda: OtherProcess(t, path, ALICE).said == "served", "the next process", step=0.3)


@scenario("edu:3")
def vu_hostile_races(t):
    """Clients that come and go as fast as they can, some in the middle of something, while the other function works."""
    target = Target(t)
    stop = threading.Event()
    problems = []

    def churn():
        memory = Ram(1 << 16)
        try:
            while not stop.is_set():
                try:
                    client = Client(target.path, timeout=10)
                except OSError as error:
                    problems.append(error)
                    return
                try:
                    client.negotiate()
                    client.ask_dma_map(IOVA, 1 << 16, memory.fd)
                    client.ask(RESET)
                    client.ask(REGION_READ, ACCESS.pack(0, 0, 4))
                except (Lost, TimeoutError):
                    pass
                finally:
                    client.hang_up()
        except Exception as error:  # noqa: BLE001 - told by the scenario
            problems.append(error)
        finally:
            memory.close()
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        until = time.monotonic() + (30 if t.full else 6)
        while time.monotonic() < until:
            target.edu.alive()
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join(60)
    check(not problems, f"{problems[:3]}")
    target.end()
