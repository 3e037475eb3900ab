# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A vfio-user client: every command of the protocol, with descriptors, without replies, pipelined, and as raw bytes that no client
# should send. It is as strict a reader as the strictest VMM: a reply comes whole, has the size that its command has, and no
# descriptors. How long each reply took is kept, and close() says which took too long. It shares no code with the daemon.

import array
import collections
import errno
import json
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

from kit.checks import Failure, check, equal

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS, GET_IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE, \
    DMA_READ, DMA_WRITE, RESET, DIRTY_PAGES, WRITE_MULTI, FEATURE, MIG_DATA_READ, MIG_DATA_WRITE = range(1, 19)

TYPE, REPLY, NO_REPLY, ERROR = 0xF, 1, 1 << 4, 1 << 5
READABLE, WRITABLE = 1, 2
UNMAP_DIRTY, UNMAP_ALL = 1, 2
BAR0, ROM, CONFIG, VGA = 0, 6, 7, 8
INTX, MSI, MSIX, ERR, REQ = range(5)
DATA_NONE, DATA_BOOL, DATA_EVENTFD, MASK, UNMASK, TRIGGER = (1 << i for i in range(6))
REGION_READS, REGION_WRITES, REGION_MMAP, REGION_CAPS = 1, 2, 4, 8
FEATURE_GET, FEATURE_SET, FEATURE_PROBE = 1 << 16, 1 << 17, 1 << 18
MIGRATION, MIG_DEVICE_STATE, LOGGING_START = 1, 2, 6

HEADER = struct.Struct("=HHIII")
MAP = struct.Struct("=IIQQQ")
UNMAP = struct.Struct("=IIQQ")
INFO = struct.Struct("=IIII")
REGION_INFO = struct.Struct("=IIIIQQ")
IRQ_SET = struct.Struct("=IIIII")
ACCESS = struct.Struct("=QII")
WRITE_ONE = struct.Struct("=QII8s")

# QEMU gives a message up after 5 s, and dies of a reply that comes later.
ANSWERED_WITHIN = 4.5
# Ends a hang; no verdict hangs on it.
TIMEOUT = 30.0
# What a kernel passes in one message at most: SCM_MAX_FD.
FDS_MAX = 253


class Lost(Failure):
    """The server has closed the connection."""


class ServerError(OSError):
    """An error reply."""


@dataclass(frozen=True)
class Preset:
    """What a VMM does in its own way: see docs/vfio-user.md."""

    name: str
    minor: int
    capabilities: dict
    # argsz of GET_INFO.
    info_argsz: int
    # Whether the reply to VERSION may be longer than the request.
    long_version: bool


QEMU = Preset("qemu", 0, {
    "migration": {"pgsize": 4096, "max_bitmap_size": 256 << 20},
    "max_msg_fds": 16, "max_data_xfer_size": 1 << 20, "pgsizes": 4096, "max_dma_maps": 65535, "write_multiple": True,
}, 16, False)
CLOUD_HYPERVISOR = Preset("cloud-hypervisor", 1, {
    "max_msg_fds": 1, "max_data_xfer_size": 1 << 20, "migration": {"pgsize": 4096},
}, 32, True)


@dataclass
class Reply:
    id: int
    command: int
    flags: int
    error: int
    body: bytes
    seconds: float

    def ok(self):
        """The body, or ServerError."""
        if self.flags & ERROR:
            raise ServerError(self.error, os.strerror(self.error), f"command {self.command}")
        return self.body


def header(command, size, message_id=0, flags=0, error=0):
    return HEADER.pack(message_id, command, size, flags, error)


def message(command, body=b"", message_id=0, flags=0, error=0, size=None):
    """A message's bytes; `size` says something else than is true."""
    return header(command, HEADER.size + len(body) if size is None else size, message_id, flags, error) + body


class Client:
    def __init__(self, path, reader=True, timeout=TIMEOUT):
        self.path = path
        self.timeout = timeout
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self._connect(path)
        self.preset = None
        self.capabilities = {}
        # What the server did that no client need bear.
        self.violations = []
        # (command, seconds) of every reply.
        self.latencies = collections.deque(maxlen=1 << 20)
        self.late = []
        self.lost = None
        self._next = 1
        self._sent = {}
        self._replies = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._end, self._wake = os.pipe()
        self._thread = None
        if reader:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()

    def _connect(self, path):
        until = time.monotonic() + self.timeout
        while True:
            try:
                self.socket.connect(path)
                return
            except BlockingIOError:
                # So many wait already that no more are queued.
                if time.monotonic() >= until:
                    raise TimeoutError(f"{path}: nobody is let in") from None
                time.sleep(0.01)

    def close(self):
        """Hangs up. Fails when a reply took too long, is owed for too long, or was not as replies are."""
        if self.socket.fileno() < 0:
            return
        now = time.monotonic()
        with self._changed:
            owed = [] if self.lost or not self._thread else [(c, now - begin) for c, begin in self._sent.values()]
        self.hang_up()
        late = self.late + [(command, seconds) for command, seconds in owed if seconds > ANSWERED_WITHIN]
        check(not late, f"{self.path}: replies after more than {ANSWERED_WITHIN} s (command, s): {late[:5]}")
        check(not self.violations, f"{self.path}: {self.violations[:5]}")

    def hang_up(self):
        if self._thread:
            os.write(self._wake, b"x")
            self._thread.join(TIMEOUT)
            self._thread = None
        if self.socket.fileno() >= 0:
            self.socket.close()
            os.close(self._end)
            os.close(self._wake)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- bytes ----

    def raw(self, data, fds=(), timeout=None):
        """Sends bytes as they are, with descriptors at the first of them. Lost when the server hangs up meanwhile."""
        until = time.monotonic() + (timeout or self.timeout)
        data = memoryview(data)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with self._sending:
            while data:
                try:
                    data = data[self.socket.sendmsg([data], rights, socket.MSG_NOSIGNAL):]
                    rights = []
                    continue
                except BlockingIOError:
                    pass
                except OSError as error:
                    if error.errno in (errno.EPIPE, errno.ECONNRESET):
                        raise Lost(f"{self.path}: the server has hung up") from None
                    raise
                left = until - time.monotonic()
                poller = select.poll()
                poller.register(self.socket, select.POLLOUT)
                if left <= 0 or not poller.poll(left * 1000):
                    raise TimeoutError(f"{self.path}: the server takes no more bytes")

    def _piece(self, size):
        """So many bytes at most, in one call as a reader of whole headers makes it; None at the end."""
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        poller.register(self._end, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._end in ready:
                return None
            try:
                data, fds, flags, _ = socket.recv_fds(self.socket, size, FDS_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                self._set_lost(os.strerror(error.errno))
                return None
            if fds or flags & socket.MSG_CTRUNC:
                self.violations.append(f"{len(fds)} descriptors with a reply")
                for fd in fds:
                    os.close(fd)
            if not data:
                self._set_lost("end of stream")
                return None
            return data

    def _set_lost(self, why):
        with self._changed:
            self.lost = why
            self._changed.notify_all()

    def _read(self):
        while (head := self._piece(HEADER.size)) is not None:
            if len(head) < HEADER.size:
                self.violations.append(f"a header in pieces: {len(head)} bytes")
            while len(head) < HEADER.size:
                more = self._piece(HEADER.size - len(head))
                if more is None:
                    return
                head += more
            number, command, size, flags, error = HEADER.unpack(head)
            if size < HEADER.size or size > HEADER.size + ACCESS.size + (64 << 20):
                self.violations.append(f"a reply that says it has {size} bytes")
                return
            body = bytearray()
            while len(body) < size - HEADER.size:
                more = self._piece(size - HEADER.size - len(body))
                if more is None:
                    return
                body += more
            self._arrived(number, command, flags, error, bytes(body))

    def _arrived(self, number, command, flags, error, body):
        now = time.monotonic()
        with self._changed:
            sent = self._sent.pop(number, None)
            if sent is None:
                self.violations.append(f"a message that nobody asked for: id {number}, command {command}, flags {flags:#x}")
                return
            reply = Reply(number, command, flags, error, body, now - sent[1])
            if command != sent[0] or flags & ~(ERROR | REPLY) or flags & TYPE != REPLY:
                self.violations.append(f"a reply to command {sent[0]} with command {command}, flags {flags:#x}")
            if flags & ERROR and body:
                self.violations.append(f"an error reply to command {command} with {len(body)} bytes")
            if not flags & ERROR and error:
                self.violations.append(f"a reply to command {command} with error {error}, which is none")
            self.latencies.append((command, reply.seconds))
            if reply.seconds > ANSWERED_WITHIN:
                self.late.append((command, reply.seconds))
            self._replies[number] = reply
            self._changed.notify_all()

    # ---- requests ----

    def ask(self, command, body=b"", fds=(), flags=0, **raw):
        """Sends a command; its id, for wait(). Without one when no reply is asked for."""
        with self._changed:
            number = self._next
            # 0 is left out, so that what echoes nothing is seen.
            self._next = self._next % 65535 + 1
            if not flags & NO_REPLY:
                check(number not in self._sent, "65535 requests under way")
                self._sent[number] = (command, time.monotonic())
        self.raw(message(command, body, number, flags, **raw), fds)
        return number

    def wait(self, number, timeout=None):
        """The reply to a request, which may be an error."""
        until = time.monotonic() + (timeout or self.timeout)
        with self._changed:
            while number not in self._replies:
                if self.lost:
                    raise Lost(f"{self.path}: the server has hung up: {self.lost}")
                left = until - time.monotonic()
                if left <= 0:
                    raise Failure(f"{self.path}: command {self._sent[number][0]} is not answered within {timeout or self.timeout:g} s")
                self._changed.wait(left)
            return self._replies.pop(number)

    def answered(self, number):
        with self._changed:
            return number in self._replies

    def call(self, command, body=b"", fds=(), flags=0, size=0, timeout=None, **raw):
        """A command and its reply's body, which has `size` bytes; ServerError when it is refused."""
        data = self.wait(self.ask(command, body, fds, flags, **raw), timeout).ok()
        if size is not None:
            equal(len(data), size, f"bytes in the reply to command {command}")
        return data

    def wait_lost(self, timeout=None):
        """Waits until the server has hung up."""
        until = time.monotonic() + (timeout or self.timeout)
        if not self._thread:
            poller = select.poll()
            poller.register(self.socket, select.POLLRDHUP)
            check(poller.poll((timeout or self.timeout) * 1000), f"{self.path}: the server does not hang up")
            return
        with self._changed:
            while not self.lost:
                left = until - time.monotonic()
                check(left > 0, f"{self.path}: the server does not hang up")
                self._changed.wait(left)

    # ---- the commands ----

    def negotiate(self, preset=QEMU, capabilities=None, major=0, minor=None, text=None, **kw):
        """VERSION as a VMM sends it, with other capabilities, or with any bytes as its data. Returns the server's capabilities."""
        self.preset = preset
        own = text is None and capabilities is None
        if text is None:
            text = json.dumps({"capabilities": preset.capabilities if capabilities is None else capabilities}).encode() + b"\0"
        data = self.call(VERSION, struct.pack("=HH", major, preset.minor if minor is None else minor) + text, size=None, **kw)
        theirs = struct.unpack_from("=HH", data)
        check(theirs[0] == major and theirs[1] <= (preset.minor if minor is None else minor), f"version {theirs}")
        if own and not preset.long_version:
            check(len(data) <= 4 + len(text), f"the reply to VERSION has {len(data)} bytes, the client has room for {4 + len(text)}")
        check(data[-1:] == b"\0" and b"\0" not in data[4:-1], "the JSON of the reply to VERSION ends with a NUL")
        self.capabilities = json.loads(data[4:-1])["capabilities"]
        return self.capabilities

    def dma_map(self, iova, size, fd=None, offset=0, flags=READABLE | WRITABLE, argsz=MAP.size):
        self.call(DMA_MAP, MAP.pack(argsz, flags, offset, iova, size), () if fd is None else (fd,))

    def ask_dma_map(self, iova, size, fd=None, offset=0, flags=READABLE | WRITABLE):
        """The same, not waited for."""
        return self.ask(DMA_MAP, MAP.pack(MAP.size, flags, offset, iova, size), () if fd is None else (fd,))

    def dma_unmap(self, iova, size, flags=0, argsz=UNMAP.size):
        """How many bytes were unmapped, as the server says."""
        back = UNMAP.unpack(self.call(DMA_UNMAP, UNMAP.pack(argsz, flags, iova, size), size=UNMAP.size))
        equal(back[0], UNMAP.size, "argsz of the reply to DMA_UNMAP")
        return back[3]

    def info(self, argsz=None):
        """Flags and the numbers of regions and interrupts."""
        argsz = argsz or (self.preset or QEMU).info_argsz
        back = INFO.unpack(self.call(GET_INFO, INFO.pack(argsz, 0, 0, 0), size=INFO.size))
        equal(back[0], INFO.size, "argsz of the reply to GET_INFO")
        return back[1:]

    def region(self, index, argsz=REGION_INFO.size):
        """Flags, size, offset."""
        back = REGION_INFO.unpack(self.call(GET_REGION_INFO, REGION_INFO.pack(argsz, 0, index, 0, 0, 0), size=REGION_INFO.size))
        equal((back[0], back[2], back[3]), (REGION_INFO.size, index, 0), "argsz, index and cap_offset of the reply to GET_REGION_INFO")
        return back[1], back[4], back[5]

    def irq(self, index, argsz=INFO.size):
        """Flags and count."""
        back = INFO.unpack(self.call(GET_IRQ_INFO, INFO.pack(argsz, 0, index, 0), size=INFO.size))
        equal((back[0], back[2]), (INFO.size, index), "argsz and index of the reply to GET_IRQ_INFO")
        return back[1], back[3]

    def set_irqs(self, index, flags, start=0, count=1, data=b"", fds=(), argsz=None):
        body = IRQ_SET.pack(IRQ_SET.size + len(data) if argsz is None else argsz, flags, index, start, count) + data
        self.call(SET_IRQS, body, fds)

    def read(self, region, offset, count, timeout=None):
        data = self.call(REGION_READ, ACCESS.pack(offset, region, count), size=ACCESS.size + count, timeout=timeout)
        equal(ACCESS.unpack_from(data), (offset, region, count), "offset, region and count of the reply to REGION_READ")
        return data[ACCESS.size:]

    def write(self, region, offset, data, timeout=None):
        back = self.call(REGION_WRITE, ACCESS.pack(offset, region, len(data)) + data, size=ACCESS.size, timeout=timeout)
        equal(ACCESS.unpack(back), (offset, region, len(data)), "offset, region and count of the reply to REGION_WRITE")

    def post(self, region, offset, data):
        """A write without a reply."""
        self.ask(REGION_WRITE, ACCESS.pack(offset, region, len(data)) + data, flags=NO_REPLY)

    @staticmethod
    def multi(*writes):
        """The body of WRITE_MULTI: (region, offset, data) each."""
        return struct.pack("=Q", len(writes)) + b"".join(WRITE_ONE.pack(o, r, len(d), d.ljust(8, b"\0")) for r, o, d in writes)

    def write_multi(self, *writes):
        """How many were done."""
        return struct.unpack("=Q", self.call(WRITE_MULTI, self.multi(*writes), size=8))[0]

    def post_multi(self, *writes):
        self.ask(WRITE_MULTI, self.multi(*writes), flags=NO_REPLY)

    def reset(self, timeout=None):
        self.call(RESET, timeout=timeout)

    def feature(self, number, how, data=b"", argsz=None):
        return self.call(FEATURE, struct.pack("=II", 8 + len(data) if argsz is None else argsz, number | how) + data, size=None)

    # ---- numbers in regions ----

    def read16(self, region, offset):
        return struct.unpack("=H", self.read(region, offset, 2))[0]

    def read32(self, region, offset):
        return struct.unpack("=I", self.read(region, offset, 4))[0]

    def write16(self, region, offset, value):
        self.write(region, offset, struct.pack("=H", value))

    def write32(self, region, offset, value):
        self.write(region, offset, struct.pack("=I", value))


def fails(wanted, func, *args, **kw):
    """Calls func, whose request must be refused with one of these errnos."""
    wanted = (wanted,) if isinstance(wanted, int) else wanted
    names = " or ".join(errno.errorcode[e] for e in wanted)
    try:
        result = func(*args, **kw)
    except ServerError as error:
        check(error.errno in wanted, f"refused with {errno.errorcode.get(error.errno, error.errno)}, wanted {names}: {args} {kw or ''}")
        return error.errno
    raise Failure(f"accepted ({result!r}), wanted {names}: {args} {kw or ''}")
