# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A VMM's end of a socket for its guest's requests (tdi/request.h), and what the test TSM understands.

import errno
import select
import socket
import struct

from kit.checks import Failure, equal

HEADER, ANSWER = struct.Struct("=IIQII"), struct.Struct("=IiQQ")
KINDS = ("info", "report", "state-change", "lock", "start", "stop")
SIZE_MAX = 65536
ECHO, STATE, START, STOP, RETURN, LOCK, REPORT = 0, 1, 2, 3, 4, 5, 6
REPORT_SHIFT, REPORT_ATS, REPORT_BEYOND, REPORT_SHORT = 1, 2, 4, 8
OF_KIND = {"lock": LOCK, "start": START, "stop": STOP}
OK, INVALID, WRONG_STATE, WRONG_SCOPE, INJECTED = 0, 1, 4, 5, 0xBAD


class Lost(RuntimeError):
    """The other end hung up."""


def op(number, data=b""):
    """A request of the test TSM's."""
    return struct.pack("=I", number) + data


class Requests:
    """A socket; takes the descriptor."""

    def __init__(self, fd):
        self.socket = socket.socket(fileno=fd)
        self.number = 0

    def close(self):
        self.socket.close()

    def put(self, kind, data, room=SIZE_MAX, size=HEADER.size, operation=0):
        """A request without waiting for its answer; its number."""
        self.number += 1
        kind = KINDS.index(kind) if isinstance(kind, str) else kind
        self.raw(HEADER.pack(size, kind, self.number, room, operation) + data)
        return self.number

    def raw(self, packet):
        try:
            self.socket.send(packet)
        except (BrokenPipeError, ConnectionResetError):
            raise Lost from None

    def get(self, timeout=30.0):
        """(number, errno or 0, the TSM's code, data)"""
        if not select.select([self.socket], [], [], timeout)[0]:
            raise Failure(f"no answer within {timeout} s")
        try:
            packet = self.socket.recv(ANSWER.size + SIZE_MAX + 1)
        except ConnectionResetError:
            raise Lost from None
        if not packet:
            raise Lost
        size, error, number, code = ANSWER.unpack_from(packet)
        equal(size, ANSWER.size, "size that the answer says its header has")
        return number, -error, code, packet[ANSWER.size:]

    def ask(self, kind, data=None, room=SIZE_MAX, timeout=30.0, operation=0):
        """(errno or 0, the TSM's code, data)"""
        number = self.put(kind, op(OF_KIND[kind]) if data is None else data, room, operation=operation)
        got, *rest = self.get(timeout)
        equal(got, number, "number of the answer")
        return tuple(rest)

    def change(self, *kinds):
        """State changes that must go well, one after the other."""
        for kind in kinds:
            equal(self.ask(kind), (0, OK, b""), f"request \"{kind}\"")

    def state(self):
        """The TDISP state as the test TSM has it."""
        error, _, data = self.ask("info", op(STATE))
        if error:
            raise Failure(f"the TSM does not tell its state: {errno.errorcode[error]}")
        return ("unlocked", "locked", "run")[struct.unpack("=I", data)[0]]

    def hung_up(self, timeout=10.0):
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        return bool(poller.poll(timeout * 1000)) and self.socket.recv(1, socket.MSG_PEEK) == b""
