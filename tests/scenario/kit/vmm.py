# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a VMM has besides its connection (kit/vfio_user.py): guest memory, eventfds, the guest's driver of an edu device, and what VFIO
# itself says of a function, to compare with. The VMM is this process, or another of whom only the end matters.

import fcntl
import json
import mmap
import os
import select
import struct
import subprocess
import sys

from kit import vfio_user
from kit.checks import Skip, check, equal, eventually
from kit.daemon import die_with_us, fd_count

VFIO_GET_INFO, VFIO_GET_REGION_INFO, VFIO_GET_IRQ_INFO = 0x3B6B, 0x3B6C, 0x3B6D
COMMAND, COMMAND_MEMORY, COMMAND_MASTER = 4, 2, 4
F_ADD_SEALS, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE = 1033, 2, 4, 8, 16


class Ram:
    """Guest memory: a memfd, which this process maps shared unless told otherwise."""

    def __init__(self, size, mapped=True, seals=0):
        self.size = size
        self.fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.map = None
        os.ftruncate(self.fd, size)
        if mapped:
            self.map = mmap.mmap(self.fd, size)
        if seals:
            fcntl.fcntl(self.fd, F_ADD_SEALS, seals)

    def read_only(self):
        """Another descriptor of it, which cannot write; the caller closes it."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def used(self):
        """Bytes of it that are there at all."""
        return os.fstat(self.fd).st_blocks * 512

    def close(self):
        if self.map:
            self.map.close()
        os.close(self.fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Event:
    """An eventfd."""

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def wait(self, timeout=10.0):
        """How often it was signalled since the last call; 0 when it was not in time."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return os.eventfd_read(self.fd) if poller.poll(timeout * 1000) else 0

    def close(self):
        os.close(self.fd)


def socket_path(t, vm, bdf):
    """Where a function is served, as the VM's description has it."""
    path = next(tdi["vpci"]["socket"] for tdi in vm.describe()["tdis"] if tdi["bdf"] == bdf)
    equal(os.path.dirname(path), os.path.join(t.daemon.state, "vm", str(vm.get("UUID"))), "the folder of the VM's sockets")
    return path


def connect(t, vm, bdf, preset=vfio_user.QEMU, **kw):
    """A connection to a function's socket, ready for requests (without a preset: not even negotiated); closed at the scenario's end."""
    client = vfio_user.Client(socket_path(t, vm, bdf), **kw)
    t.defer(client.close)
    if preset:
        client.negotiate(preset)
    return client


def connect_mapped(t, vm, bdf, iova, size):
    """A connection whose memory a helper of its own has mapped (skipped where the holder does that itself), and that memory; both end with the scenario."""
    client, memory = connect(t, vm, bdf), Ram(size)
    t.defer(memory.close)
    peer = eventually(lambda: (p := vm.describe()["peer"]) and p["kvm"] and p, "its VMM is looked at")
    if "holder" in peer["memory"]:
        raise Skip(f"there is no helper: {peer['memory']}")
    client.dma_map(iova, size, memory.fd)
    return client, memory


def steady_fds(pid):
    """How many descriptors a process has once their number does not change any more."""
    seen = []

    def steady():
        seen.append(fd_count(pid))
        return len(seen) >= 10 and len(set(seen[-10:])) == 1
    eventually(steady, f"the number of descriptors of process {pid} is steady", step=0.05)
    return seen[-1]


class Vfio:
    """The function as VFIO shows it: through a duplicate of the holder's descriptor."""

    def __init__(self, t, vm, bdf, fd=None):
        """Takes `fd`, where another one is meant."""
        self.host = t.host
        self.fd = t.host.take(vm.holder_pid(), t.host.vfio_node(bdf)) if fd is None else fd

    def close(self):
        self.host.close(self.fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def info(self):
        """Flags, regions, interrupts."""
        return struct.unpack_from("=IIII", self.host.ioctl(self.fd, VFIO_GET_INFO, struct.pack("=IIIIII", 24, 0, 0, 0, 0, 0)))[1:]

    def region(self, index):
        """Flags, size, offset; all 0 where VFIO has no such region."""
        try:
            back = struct.unpack_from("=IIIIQQ", self.host.ioctl(self.fd, VFIO_GET_REGION_INFO, struct.pack("=IIIIQQ", 32, 0, index, 0, 0, 0)))
        except OSError:
            return 0, 0, 0
        return back[1], back[4], back[5]

    def irq(self, index):
        """Flags and count; None where VFIO has no such interrupt."""
        try:
            back = struct.unpack("=IIII", self.host.ioctl(self.fd, VFIO_GET_IRQ_INFO, struct.pack("=IIII", 16, 0, index, 0)))
        except OSError:
            return None
        return back[1], back[3]

    def read(self, region, offset, count):
        return self.host.files.pread(self.fd, count, self.region(region)[2] + offset)

    def write(self, region, offset, data):
        return self.host.files.pwrite(self.fd, data, self.region(region)[2] + offset)


class Edu:
    """A guest's driver of QEMU's edu device (docs/specs/edu.rst), over a connection."""

    ID, LIVENESS, FACTORIAL, STATUS, IRQ_STATUS, RAISE, ACK = 0x00, 0x04, 0x08, 0x20, 0x24, 0x60, 0x64
    SOURCE, TARGET, COUNT, DMA_COMMAND, BUFFER = 0x80, 0x88, 0x90, 0x98, 0x40000
    COMPUTING, IRQ_FACTORIAL = 0x01, 0x80
    START, TO_MEMORY, DMA_IRQ = 1, 2, 4
    CHUNK = 2048

    def __init__(self, client, enable=COMMAND_MEMORY | COMMAND_MASTER, post=False):
        self.client = client
        self.put = (lambda at, value: client.post(0, at, struct.pack("=I", value))) if post else (lambda at, value: client.write32(0, at, value))
        self.get = lambda at: client.read32(0, at)
        if enable:
            client.write16(vfio_user.CONFIG, COMMAND, client.read16(vfio_user.CONFIG, COMMAND) | enable)

    def alive(self, value=0x12345678):
        equal(self.get(self.ID) & 0xff, 0xed, "edu's identification")
        self.put(self.LIVENESS, value)
        equal(self.get(self.LIVENESS), value ^ 0xffffffff, "what edu makes of a number")

    def factorial(self, n, interrupt=False):
        self.put(self.STATUS, self.IRQ_FACTORIAL if interrupt else 0)
        self.put(self.FACTORIAL, n)
        eventually(lambda: not self.get(self.STATUS) & self.COMPUTING, "the factorial is computed", 10, 0.002)
        return self.get(self.FACTORIAL)

    def acknowledge(self):
        """Which interrupts were pending; none is afterwards."""
        pending = self.get(self.IRQ_STATUS)
        self.put(self.ACK, pending)
        return pending

    def copy(self, source, target, command, wait=True):
        for register, value in ((self.SOURCE, source), (self.TARGET, target), (self.COUNT, self.CHUNK), (self.DMA_COMMAND, command | self.START)):
            self.put(register, value)
        if wait:
            eventually(lambda: not self.get(self.DMA_COMMAND) & self.START, "end of edu's DMA", 10, 0.002)

    def round_trip(self, ram, iova, source=0x1000, target=0x9000, seed=1):
        """Guest memory goes into the device and comes out at another place; whether it did."""
        data = bytes((i * 7 + i // 256 + seed) & 0xff for i in range(self.CHUNK))
        ram.map[source:source + self.CHUNK] = data
        ram.map[target:target + self.CHUNK] = bytes(self.CHUNK)
        self.copy(iova + source, self.BUFFER, 0)
        self.copy(self.BUFFER, iova + target, self.TO_MEMORY)
        return ram.map[target:target + self.CHUNK] == data


OTHER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from kit import vfio_user
from kit.checks import Failure
uid = int(sys.argv[3])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
try:
    client = vfio_user.Client(sys.argv[2])
    client.negotiate()
    client.read32(vfio_user.CONFIG, 0)
    print("served", flush=True)
except vfio_user.Lost:
    print("refused", flush=True)
except OSError as error:
    print(error.errno, flush=True)
sys.stdin.read()
"""


class OtherProcess:
    """Another process that connects and reads; stays until it is ended. `said`: "served", "refused" (hung up on), or an errno as text."""

    def __init__(self, t, path, uid=0):
        scenario = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.process = subprocess.Popen([sys.executable, "-B", "-c", OTHER, scenario, path, str(uid)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        t.defer(self.end)
        self.said = self.process.stdout.readline().strip()
        check(self.said, "the other process said nothing")

    def end(self):
        self.process.kill()
        self.process.wait()



BYSTANDER = """
import json, os, select, sys, time
sys.path.insert(0, sys.argv[1])
from kit import vfio_user
client = vfio_user.Client(sys.argv[2])
client.negotiate()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    client.read(vfio_user.CONFIG, 0, 4)
seconds = sorted(s for _, s in client.latencies)
client.close()
print(json.dumps({"reads": len(seconds), "p50": seconds[len(seconds) // 2], "p99": seconds[len(seconds) * 99 // 100], "max": seconds[-1]}), flush=True)
"""


class Bystander:
    """Another VM's VMM, a process of its own, which reads all the time: what it saw of whatever the scenario does meanwhile."""

    def __init__(self, t, bdf):
        self.vm = t.vm()
        self.vm.attach(bdf)
        scenario = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.process = subprocess.Popen([sys.executable, "-B", "-c", BYSTANDER, scenario, socket_path(t, self.vm, bdf)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        t.defer(self.process.kill)
        equal(self.process.stdout.readline().strip(), "ready", "what the bystander says")

    def end(self, slowest=2.0):
        """Its reads, p50, p99 and the longest, which is no longer than so many seconds."""
        out, _ = self.process.communicate("\n", timeout=60)
        check(out.strip(), "the bystander was not served to its end")
        seen = json.loads(out)
        check(seen["max"] <= slowest, f"a read of another VM took {seen['max']:.3f} s: {seen}")
        return seen


# A VMM that says hello to sockets and then lives, until it is told to connect or to hang up; with copies of the descriptors it was given.
VMM = r"""
import json, mmap, os, socket, struct, sys
HEADER = struct.Struct("=HHIII")
uid = int(sys.argv[1])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
connections = {}
kept = []
# So much memory, which nobody has touched yet, at 16 MiB.
def map(path, mib):
    size = int(mib) << 20
    fd = os.memfd_create("guest-ram")
    os.truncate(fd, size)
    kept.append((fd, mmap.mmap(fd, size)))
    s = connections[path]
    socket.send_fds(s, [HEADER.pack(8, 2, HEADER.size + 32, 0, 0) + struct.pack("=IIQQQ", 32, 3, 0, 16 << 20, size)], [fd])
    head = s.recv(HEADER.size, socket.MSG_WAITALL)
    return "lost" if len(head) < HEADER.size else os.strerror(HEADER.unpack(head)[4]) if HEADER.unpack(head)[4] else "mapped"
def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(30)
    s.connect(path)
    text = json.dumps({"capabilities": {"max_msg_fds": 16}}).encode() + b"\0"
    s.sendall(HEADER.pack(7, 1, HEADER.size + 4 + len(text), 0, 0) + struct.pack("=HH", 0, 0) + text)
    head = s.recv(HEADER.size, socket.MSG_WAITALL)
    if len(head) < HEADER.size:
        return "refused"
    number, command, size, flags, error = HEADER.unpack(head)
    s.recv(size - HEADER.size, socket.MSG_WAITALL)
    connections[path] = s
    return "served" if (number, command, flags & 0x2f) == (7, 1, 1) else f"strange: {flags:#x} {error}"
for line in sys.stdin:
    what, _, path = line.strip().partition(" ")
    try:
        if what == "connect":
            print(connect(path), flush=True)
        elif what == "map":
            print(map(*path.split(" ")), flush=True)
        elif what == "close":
            connections.pop(path).close()
            print("closed", flush=True)
        elif what == "lost":
            print("lost" if connections[path].recv(1) == b"" else "data", flush=True)
    except ConnectionError:
        print("refused" if what == "connect" else "lost", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class Vmm:
    """A process that connects to sockets, and keeps what it is given."""

    def __init__(self, t, uid=0, fds=(), profile=None):
        confined = ["aa-exec", "-p", profile, "--"] if profile else []
        self.process = subprocess.Popen([*confined, sys.executable, "-c", VMM, str(uid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        pass_fds=fds, preexec_fn=die_with_us)
        self.pid = self.process.pid
        t.defer(self.kill)

    def ask(self, what, path):
        self.process.stdin.write(f"{what} {path}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def connect(self, path):
        equal(self.ask("connect", path), "served", f"connection to {path}")

    def close(self, path):
        equal(self.ask("close", path), "closed", f"end of the connection to {path}")

    def kill(self):
        self.process.kill()
        self.process.wait()
