# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A VMM's connection to a function, for very many requests: written ahead of their answers, which are compared with what the client knows it
# has written and mapped. kit/vfio_user.py is the one that is strict about everything; this one is fast.

import array
import errno
import json
import mmap
import os
import select
import socket
import struct

HEADER = struct.Struct("=HHIII")
MAP, UNMAP, ACCESS = struct.Struct("=IIQQQ"), struct.Struct("=IIQQ"), struct.Struct("=QII")
VERSION, DMA_MAP, DMA_UNMAP, READ, WRITE, RESET = 1, 2, 3, 9, 10, 13
CONFIG = 7
COMMAND, INTERRUPT_LINE, MEMORY, MASTER = 4, 0x3C, 2, 4
PAGE = 4096
RAM = 1 << 20


class Hung(Exception):
    """The server has closed the connection."""


class Wrong(Exception):
    """An answer that is not what it must be."""


class Port:
    """One connection. Of each function addresses are its own, so that maps of a shared address space do not meet."""

    ram = None

    def __init__(self, path, number):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(30)
        self.number = 0
        self.base = (number + 1) << 32
        self.maps = {}
        self.line = None
        self.lost = False
        self.slot = None
        # The process that maps for this connection may have been killed: nothing more can be mapped then.
        self.helper_killed = False
        if Port.ram is None:
            Port.ram = os.memfd_create("guest-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(Port.ram, RAM)
            Port.map = mmap.mmap(Port.ram, RAM)
        try:
            self.socket.connect(path)
            text = json.dumps({"capabilities": {"max_msg_fds": 16, "max_data_xfer_size": 1 << 20}}).encode() + b"\0"
            self.ask([(VERSION, struct.pack("=HH", 0, 0) + text, None)])
        except (OSError, Hung):
            self.close()
            raise Hung from None

    def close(self):
        self.lost = True
        self.socket.close()

    def hung_up(self):
        """Has the server ended the connection? Nothing else comes without being asked for."""
        return self.lost or bool(select.select([self.socket], [], [], 0)[0])

    def ask(self, requests):
        """(errno or 0, body) of each."""
        out, pending = [], b""
        try:
            for command, body, fd in requests:
                self.number = self.number % 65535 + 1
                message = HEADER.pack(self.number, command, HEADER.size + len(body), 0, 0) + body
                if fd is None:
                    pending += message
                    continue
                if pending:
                    self.socket.sendall(pending)
                    pending = b""
                self.socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            if pending:
                self.socket.sendall(pending)
            first = self.number - len(requests)
            for i, (command, _, _) in enumerate(requests):
                number, got, size, flags, error = HEADER.unpack(self._take(HEADER.size))
                body = self._take(size - HEADER.size)
                if got != command or number != (first + i) % 65535 + 1 or flags & 0xf != 1:
                    raise Wrong(f"an answer to command {command} is of command {got}, number {number}, flags {flags:#x}")
                out.append((error if flags & 0x20 else 0, body))
        except socket.timeout:
            raise Wrong("the vPCI server has not answered for 30 s") from None
        except OSError:
            self.lost = True
            raise Hung from None
        return out

    def _take(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                self.lost = True
                raise Hung
            data += piece
        return data

    # ---- bursts; each returns how many were accepted and how many refused ----

    def config(self, seed, count, calm):
        values = [(seed * 31 + i * 7) & 0xff for i in range(count)]
        answers = self.ask([(WRITE, ACCESS.pack(INTERRUPT_LINE, CONFIG, 1) + bytes([v]), None) for v in values] +
                           [(READ, ACCESS.pack(INTERRUPT_LINE, CONFIG, 1), None)])
        good = [v for v, (error, _) in zip(values, answers) if not error]
        self.line = good[-1] if good else self.line
        error, body = answers[-1]
        if calm and not error and self.line is not None and body[ACCESS.size] != self.line:
            raise Wrong(f"the interrupt line reads {body[ACCESS.size]:#x} after {self.line:#x} was written")
        return len(good), count - len(good)

    def map_some(self, seed, count, calm):
        wanted = []
        for i in range(count):
            n = (seed + i * 5) % 199
            pages = 1 + (seed + i) % 3
            wanted.append((self.base + n * 4 * PAGE, pages * PAGE, ((seed + i) % 200) * PAGE))
        answers = self.ask([(DMA_MAP, MAP.pack(MAP.size, 3, offset, iova, size), self.ram) for iova, size, offset in wanted])
        ok = 0
        for (iova, size, offset), (error, _) in zip(wanted, answers):
            known = self.maps.get(iova)
            if known == (size, offset):
                pass  # the same again
            elif known and not error:
                raise Wrong(f"a map of {size:#x} bytes at {iova:#x} was accepted over one of {known[0]:#x}")
            elif error == errno.EPIPE and self.helper_killed:
                pass
            elif calm and error and not known:
                raise Wrong(f"a map of {size:#x} bytes at {iova:#x} was refused ({os.strerror(error)})")
            if not error:
                self.maps[iova] = (size, offset)
                ok += 1
        return ok, count - ok

    def unmap_some(self, seed, calm):
        picked = [iova for i, iova in enumerate(sorted(self.maps)) if (seed >> (i % 13)) & 1] or sorted(self.maps)[:1]
        unknown = self.base + 250 * 4 * PAGE
        wanted = [(iova, self.maps[iova][0]) for iova in picked] + ([(unknown, PAGE)] if seed % 5 == 0 else [])
        answers = self.ask([(DMA_UNMAP, UNMAP.pack(UNMAP.size, 0, iova, size), None) for iova, size in wanted])
        ok = 0
        for (iova, size), (error, body) in zip(wanted, answers):
            if not error:
                ok += 1
                if iova == unknown and UNMAP.unpack(body)[3]:
                    raise Wrong(f"{UNMAP.unpack(body)[3]:#x} bytes were unmapped where nothing was")
                self.maps.pop(iova, None)
            elif calm and iova in self.maps:
                raise Wrong(f"an unmap of {size:#x} bytes at {iova:#x} was refused ({os.strerror(error)})")
        return ok, len(wanted) - ok

    def decode(self, on):
        error, _ = self.ask([(WRITE, ACCESS.pack(COMMAND, CONFIG, 2) + struct.pack("=H", MEMORY | MASTER if on else 0), None)])[0]
        return error

    def reset(self):
        return self.ask([(RESET, b"", None)])[0][0]
