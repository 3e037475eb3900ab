# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Importers of dma-bufs: the test module of tests/kmod, and the same calls of the simulation (libtdi/sim/importer-abi.h). What
# they see is told, not judged.

import errno
import os
import struct
from dataclasses import dataclass

from kit.checks import Failure, eventually
from kit.tsm import _run, loaded

PATH = "/dev/tdid_test_importer"
IMPORTERS = ("kvm", "iommufd", "rdma", "gpu", "any")
CLASSES = ("pinned", "revocable", "dynamic")
HOLD, NO_P2P = 1, 2
MAPPED = 1


def _io(direction, number, size=0):
    return direction << 30 | size << 16 | 0xDB << 8 | number


ATTACH, STATE = _io(3, 0x60, 24), _io(3, 0x61, 40)
MAP, UNMAP, DETACH = _io(0, 0x62), _io(0, 0x63), _io(0, 0x64)
# The simulation's alone.
ACCESS, CREATE_SOURCE, MOVE_SOURCE = _io(3, 0x65, 24), _io(1, 0x66, 8), _io(1, 0x67, 8)

IOAS_UNMAP, IOAS_MAP_FILE = 0x3B86, 0x3B8F
FIXED_IOVA, WRITEABLE, READABLE = 1, 2, 4


def errno_name(error):
    """ENOTSUP is the same number, and comes first."""
    return "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno]


def number(bdf):
    domain, bus, rest = bdf.split(":")
    device, function = rest.split(".")
    return int(domain, 16) << 16 | int(bus, 16) << 8 | int(device, 16) << 3 | int(function)


@dataclass
class State:
    mapped: bool
    notified: int
    maps: int
    error: int
    segments: int
    address: int
    length: int


class Importer:
    """An open file of the importer; what is attached goes with it."""

    def __init__(self, host):
        self.host = host
        self.fd = host.files.open(PATH, os.O_RDWR)

    def close(self):
        if self.fd >= 0:
            self.host.close(self.fd)
        self.fd = -1

    def attach(self, fd, dmabuf_class, device, importer="any", flags=0):
        data = struct.pack("=iIIIII", fd, IMPORTERS.index(importer), CLASSES.index(dmabuf_class), flags, number(device), 0)
        return Attached(self, struct.unpack("=iIIIII", self.host.ioctl(self.fd, ATTACH, data, fds=(fd,)))[5])

    def refuses(self, *args, **kw):
        """The errno with which attaching is refused, as a name; "" when it is not."""
        try:
            self.attach(*args, **kw).detach()
        except OSError as error:
            return errno_name(error)
        return ""

    def source(self, size):
        """A dma-buf of memory that moves; the caller closes it."""
        return self.host.client.ioctl(self.fd, CREATE_SOURCE, struct.pack("=Q", size))[3][0]

    def move(self, fd):
        self.host.ioctl(self.fd, MOVE_SOURCE, struct.pack("=iI", fd, 0), fds=(fd,))


class Attached:
    def __init__(self, importer, ident):
        self.importer = importer
        self.id = ident

    def _call(self, request):
        self.importer.host.ioctl(self.importer.fd, request, value=self.id)

    def map(self):
        self._call(MAP)

    def try_map(self):
        """"" or the name of the errno."""
        try:
            self._call(MAP)
        except OSError as error:
            return errno_name(error)
        return ""

    def unmap(self):
        self._call(UNMAP)

    def detach(self):
        self._call(DETACH)

    def state(self):
        data = struct.unpack("=IIIIiIQQ", self.importer.host.ioctl(self.importer.fd, STATE, struct.pack("=IIIIiIQQ", self.id, 0, 0, 0, 0, 0, 0, 0)))
        return State(bool(data[1] & MAPPED), *data[2:])

    def read(self, offset):
        """8 bytes, as a device reads them: one that may fault maps again first. In the simulation only."""
        back = self.importer.host.ioctl(self.importer.fd, ACCESS, struct.pack("=IIQQ", self.id, 0, offset, 0))
        return struct.unpack("=IIQQ", back)[3]

    def write(self, offset, value):
        self.importer.host.ioctl(self.importer.fd, ACCESS, struct.pack("=IIQQ", self.id, 1, offset, value))


class AddressSpace:
    """An I/O address space of a VM, through the holder's own iommufd: the kernel's importer."""

    def __init__(self, t, vm, bdf):
        self.host = t.host
        self.ioas = t.ioas(vm, bdf)
        self.fd = t.host.take(vm.holder_pid(), "/dev/iommu")
        t.defer(self.close)

    def close(self):
        if self.fd >= 0:
            self.host.close(self.fd)
        self.fd = -1

    def map(self, fd, iova, size):
        """"" or the name of the errno."""
        try:
            self.host.ioctl(self.fd, IOAS_MAP_FILE, struct.pack("=IIIiQQQ", 40, FIXED_IOVA | WRITEABLE | READABLE, self.ioas, fd, 0, size, iova), fds=(fd,))
        except OSError as error:
            return errno_name(error)
        return ""

    def unmap(self, iova, size):
        self.host.ioctl(self.fd, IOAS_UNMAP, struct.pack("=IIQQ", 24, self.ioas, iova, size))


class Module:
    """The test module."""

    name = "tdid_test_importer"

    def __init__(self, folder):
        self.file = os.path.join(folder, self.name + ".ko")

    def load(self):
        _run("insmod", self.file)
        eventually(lambda: os.path.exists(PATH), PATH)

    def unload(self):
        if loaded(self.name):
            eventually(lambda: _run("rmmod", self.name) or True, "rmmod of the importer", 20)


class SimModule:
    """The same of the simulation."""

    def __init__(self, client):
        self.client = client
        self.loaded = False

    def load(self):
        self.client.control("importer-load")
        self.loaded = True

    def unload(self):
        if self.loaded:
            try:
                self.client.control("importer-unload")
            except OSError as error:
                raise Failure(f"importer-unload: {error}") from None
            self.loaded = False
