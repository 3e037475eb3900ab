# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Peer-to-peer: a function reaches another one's BAR where the guest has placed it, and only there, only then, and only if that is allowed.

import errno
import json
import os
import socket
import struct

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.registry import scenario
from kit.vfio_user import CONFIG, UNMAP_ALL
from kit.vmm import COMMAND, COMMAND_MEMORY, Edu, Ram, connect

IOVA = 0x1000000
HERE, THERE = 0x8000000, 0x9000000
RAM = 1 << 20
# What the kernel says when the device reaches for what is not mapped.
FAULTS = (r"DMAR: .*fault",)


def allow(t):
    """Starts tdid with a configuration that allows peer-to-peer; what starts it again with the same."""
    arguments = t.configured({"policy": {"peer_to_peer": True}})

    def start():
        t.daemon.start(arguments=arguments)
    start()
    return start


class Peer:
    """A function with a VMM's connection to it."""

    def __init__(self, t, vm, bdf):
        self.vm, self.bdf = vm, bdf
        self.client = connect(t, vm, bdf)

    def place(self, address, bar=0):
        """What a guest does: decoding off, the BAR, decoding on. With 0 it stays off."""
        at = 0x10 + 4 * bar
        self.decode(False)
        self.client.write32(CONFIG, at, address)
        if self.client.read32(CONFIG, at) & 6 == 4:
            self.client.write32(CONFIG, at + 4, address >> 32)
        if address:
            self.decode(True)

    def decode(self, on):
        command = self.client.read16(CONFIG, COMMAND)
        self.client.write16(CONFIG, COMMAND, command | COMMAND_MEMORY if on else command & ~COMMAND_MEMORY)

    def shown(self):
        """What Describe() says of its own BARs: None, or [mapped, spaces, failed] of each."""
        bars = next(x for x in self.vm.describe()["tdis"] if x["bdf"] == self.bdf)["vpci"]["dma"]["peer_to_peer"]
        return bars and [[b["mapped"], b["spaces"], b["failed"]] for b in bars]


class Reader(Peer):
    """An edu that reaches for others."""

    def __init__(self, t, vm, bdf):
        super().__init__(t, vm, bdf)
        self.edu = Edu(self.client)
        self.ram = Ram(RAM)
        t.defer(self.ram.close)
        self.client.dma_map(IOVA, RAM, self.ram.fd)

    def _copy(self, source, target, command, size):
        for register, value in ((Edu.SOURCE, source), (Edu.TARGET, target), (Edu.COUNT, size), (Edu.DMA_COMMAND, command | Edu.START)):
            self.edu.put(register, value)
        eventually(lambda: not self.edu.get(Edu.DMA_COMMAND) & Edu.START, "end of edu's DMA", 10, 0.002)

    def get(self, address):
        """Four bytes that the device reads; None when it reads nothing."""
        # What it had before stays in its buffer when it reads nothing.
        self.ram.map[0:4] = b"none"
        self._copy(IOVA, Edu.BUFFER, 0, 4)
        self._copy(address, Edu.BUFFER, 0, 4)
        self._copy(Edu.BUFFER, IOVA + 8, Edu.TO_MEMORY, 4)
        value = self.ram.map[8:12]
        return None if value in (b"none", b"\xff\xff\xff\xff", bytes(4)) else struct.unpack("=I", value)[0]

    def put(self, address, value):
        self.ram.map[0:4] = struct.pack("=I", value)
        self._copy(IOVA, Edu.BUFFER, 0, 4)
        self._copy(Edu.BUFFER, address, Edu.TO_MEMORY, 4)

    def reaches(self, address, wanted=0x10000ed):
        """It follows what the guest does in a moment."""
        eventually(lambda: self.get(address) == wanted, f"0x{wanted:x} is read at 0x{address:x}", 10, 0.01)

    def misses(self, address):
        eventually(lambda: self.get(address) is None, f"nothing is read at 0x{address:x}", 10, 0.01)


@scenario("edu:2", tags=("quick",), kernel_ok=FAULTS)
def p2p_off(t):
    """Nobody gets it unless the configuration says so; a VM that does not ask for it does not have it."""
    text = refused("Policy", t.client.create_vm, "asks", peer_to_peer=True)
    contains(text, "/etc/tdid/tdid.conf", "text")
    contains(text, "peer_to_peer", "text")
    doc = t.tdictl.json("vm", "create", "asks", "--peer-to-peer", "--await-vmm=60", code=4)
    equal(doc["error"]["name"], "Policy", "error of vm create")
    equal(t.client.vms(), [], "VMs")
    t.daemon.kill()
    allow(t)
    vm = t.vm()
    equal(vm.describe()["peer_to_peer"], False, "peer_to_peer of Describe()")
    bdfs = t.host.bdfs("edu", 2)
    vm.attach(*bdfs)
    reader, other = Reader(t, vm, bdfs[0]), Peer(t, vm, bdfs[1])
    other.place(HERE)
    equal(other.shown(), None, "what is said of its BARs")
    check(reader.get(HERE) is None, "a function reaches another one's BAR")


@scenario("edu:3", tags=("quick",), kernel_ok=FAULTS)
def p2p_edu(t):
    """Reads and writes of a register by another function; it follows the BAR, decoding, resets, the client and tdid's restart."""
    t.daemon.kill()
    start = allow(t)
    vm = t.vm(peer_to_peer=True)
    equal(vm.describe()["peer_to_peer"], True, "peer_to_peer of Describe()")
    bdfs = t.host.bdfs("edu", 3)
    vm.attach(*bdfs)
    reader, other, third = Reader(t, vm, bdfs[0]), Peer(t, vm, bdfs[1]), Reader(t, vm, bdfs[2])
    equal(other.shown(), [], "BARs that are nowhere")
    check(reader.get(HERE) is None, "something is read before the BAR is there")
    other.place(HERE)
    reader.reaches(HERE)
    third.reaches(HERE)
    equal(other.shown(), [[2, 2, 0]], "BARs")
    reader.put(HERE + Edu.LIVENESS, 0x12345678)
    equal(other.client.read32(0, Edu.LIVENESS), 0x12345678 ^ 0xffffffff, "what the other made of the number")
    # Two at a time, and each at its place.
    third.place(THERE)
    reader.reaches(THERE)
    reader.reaches(HERE)
    third.decode(False)
    reader.misses(THERE)
    other.decode(False)
    reader.misses(HERE)
    other.decode(True)
    reader.reaches(HERE)
    other.place(THERE)
    reader.misses(HERE)
    reader.reaches(THERE)
    # A reset revokes what is mapped for good: it is mapped anew.
    other.client.reset()
    other.decode(True)
    reader.reaches(THERE)
    t.daemon.kill()
    other.place(HERE)
    reader.reaches(HERE)
    start()
    equal(vm.describe()["peer_to_peer"], True, "peer_to_peer after a restart")
    eventually(lambda: other.shown() == [[2, 2, 0]], "BARs after a restart")
    reader.reaches(HERE)
    # Its guest has gone.
    other.client.close()
    reader.misses(HERE)
    t.client.tdi(bdfs[1]).detach()
    third.place(THERE)
    reader.reaches(THERE)


@scenario("edu", "ivshmem", tags=("quick",), kernel_ok=FAULTS)
def p2p_memory_wins(t):
    """The guest's memory wins where it and a BAR are wanted; the BAR is back when that memory has gone."""
    t.daemon.kill()
    allow(t)
    vm = t.vm(peer_to_peer=True)
    edu, memory = t.host.bdf("edu"), t.host.bdf("ivshmem")
    vm.attach(edu, memory)
    reader, other = Reader(t, vm, edu), Peer(t, vm, memory)
    other.place(HERE, bar=2)
    other.client.write32(2, 0x3000, 0xcafe1234)
    reader.reaches(HERE + 0x3000, 0xcafe1234)
    reader.put(HERE + 0x3004, 0xbeef5678)
    equal(other.client.read32(2, 0x3004), 0xbeef5678, "what the other has got")
    reader.ram.map[0x3000:0x3004] = struct.pack("=I", 0x11223344)
    reader.client.dma_map(HERE, RAM, reader.ram.fd)
    equal(reader.get(HERE + 0x3000), 0x11223344, "memory at the BAR's place")
    equal(other.shown(), [[0, 1, 0]], "BARs beside memory")
    reader.put(HERE + 0x3004, 1)
    equal(other.client.read32(2, 0x3004), 0xbeef5678, "the BAR, which is not reached")
    reader.client.dma_unmap(HERE, RAM)
    reader.reaches(HERE + 0x3000, 0xcafe1234)
    # Memory beside it, and all of it unmapped around the BAR.
    reader.client.dma_map(HERE - RAM, RAM, reader.ram.fd)
    reader.client.dma_unmap(0, 0, flags=UNMAP_ALL)
    reader.client.dma_map(IOVA, RAM, reader.ram.fd)
    equal(reader.get(HERE + 0x3000), 0xcafe1234, "the BAR after memory was unmapped around it")


@scenario("edu", "igb-vf", tags=("quick",), kernel_ok=FAULTS)
def p2p_vf(t):
    """A virtual function's own COMMAND.MEM means nothing: what counts is what its guest sees."""
    t.daemon.kill()
    allow(t)
    vm = t.vm(peer_to_peer=True)
    edu, vf = t.host.bdf("edu"), t.host.bdf("igb-vf")
    vm.attach(edu, vf)
    reader, other = Reader(t, vm, edu), Peer(t, vm, vf)
    other.place(HERE)
    eventually(lambda: other.shown() == [[1, 1, 0]], "the VF's BAR is mapped")
    other.decode(False)
    eventually(lambda: other.shown() == [], "the VF's BAR is nowhere")
    other.decode(True)
    eventually(lambda: other.shown() == [[1, 1, 0]], "the VF's BAR is mapped again")
    reader.client.reset()
    other.client.reset()
    other.decode(True)
    eventually(lambda: other.shown() == [[1, 1, 0]], "the VF's BAR is mapped after a reset")


@scenario("edu:2", "group-nvme", "group-edu", tags=("quick",), kernel_ok=FAULTS)
def p2p_group(t):
    """A function whose IOMMU group ACS does not keep apart has no peers, and is none, in a VM that has asked for it."""
    t.daemon.kill()
    allow(t)
    vm = t.vm(peer_to_peer=True)
    edus, nvme, grouped = t.host.bdfs("edu", 2), t.host.bdf("group-nvme"), t.host.bdf("group-edu")
    vm.attach(*edus, nvme, grouped)
    reader, other, apart = Reader(t, vm, edus[0]), Peer(t, vm, edus[1]), Peer(t, vm, grouped)
    apart.place(HERE)
    other.place(THERE)
    reader.reaches(THERE)
    equal(apart.shown(), None, "what is said of the BARs of the group's function")
    equal(other.shown(), [[1, 1, 0]], "BARs, which are not in the group's address space")
    check(reader.get(HERE) is None, "a function of a group without ACS is reached")


class Holder:
    """A VM's holder, asked as tdid asks it, which must not be there."""

    def __init__(self, t):
        (name,) = t.daemon.holder_sockets()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(os.path.join(t.daemon.state, "holder", name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, **request):
        self.socket.send(json.dumps(request).encode())
        while True:
            answer = json.loads(self.socket.recv(1 << 20))
            # What it tells of its own accord comes between.
            if "r" in answer:
                return answer["r"]


@scenario("edu:2", tags=("quick",), kernel_ok=FAULTS)
def p2p_locked(t):
    """Before a TDI is locked nothing of it is mapped, and nothing is while it is; the guest may place BARs meanwhile."""
    t.daemon.kill()
    start = allow(t)
    vm = t.vm(peer_to_peer=True)
    bdfs = t.host.bdfs("edu", 2)
    vm.attach(*bdfs)
    reader, other = Reader(t, vm, bdfs[0]), Peer(t, vm, bdfs[1])
    other.place(HERE)
    reader.reaches(HERE)
    # Nothing of tdid's locks a TDI on a kernel that binds none: this is what it would ask.
    t.daemon.kill()
    with Holder(t) as holder:
        for state in ("locked", "run", "error"):
            eventually(lambda: holder.ask(op="vpci.lock", bdf=bdfs[1], state=state) == 0, f"it is {state}")
            check(reader.get(HERE) is None, f"a function reaches a BAR that is {state}")
            # In error nothing gets through that would place it.
            if state == "error":
                continue
            other.place(HERE)
            check(reader.get(HERE) is None, f"a function reaches a BAR that was placed while it is {state}")
        for state in ("open", "none"):
            equal(holder.ask(op="vpci.lock", bdf=bdfs[1], state=state), -errno.EINVAL, "a state that there is not")
        equal(holder.ask(op="vpci.lock", bdf=bdfs[1], state="unlocked"), 0, "unlocked again")
    reader.reaches(HERE)
    start()


@scenario("edu:2", tags=("quick",), kernel_ok=FAULTS)
def p2p_ends(t):
    """A function that is mapped elsewhere is given back like any other: detached, with its VM, and when the holder is killed."""
    t.daemon.kill()
    allow(t)
    bdfs = t.host.bdfs("edu", 2)

    def mapped():
        vm = t.vm(peer_to_peer=True)
        vm.attach(*bdfs)
        reader, other = Reader(t, vm, bdfs[0]), Peer(t, vm, bdfs[1])
        other.place(HERE)
        reader.place(THERE)
        reader.reaches(HERE)
        return vm, reader

    vm, reader = mapped()
    t.client.tdi(bdfs[1]).detach()
    t.free(bdfs[1])
    t.unchanged(bdfs[1])
    check(reader.get(HERE) is None, "a function reaches one that has been given back")
    vm.destroy()
    t.free(*bdfs)
    t.unchanged(*bdfs)
    vm, _ = mapped()
    vm.destroy()
    t.free(*bdfs)
    t.unchanged(*bdfs)
    vm, _ = mapped()
    os.kill(vm.holder_pid(), 9)
    eventually(lambda: not t.client.vms(), "the VM has gone")
    t.free(*bdfs)
    t.unchanged(*bdfs)
