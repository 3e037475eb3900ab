# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A client of tdi-sim, written from libtdi/sim/protocol.h and marshal.h and sharing no code with the daemon's: what the two
# make of the protocol is compared by every scenario. A descriptor of the simulation is an ordinary one (of a socket),
# to be closed by close() where the end of its release matters. It knows nothing of devices.

import errno
import json
import os
import socket
import struct

MAGIC = 0x74646901
OPEN, READLINK, LIST, IDENTIFY, ADDRESS, UEVENTS, CONTROL, STAT, FDINFO = range(1, 10)
STAT_FOLLOW = 1
CLOSE, PREAD, PWRITE, IOCTL = range(32, 36)

REQUEST = struct.Struct("=IIQQII")
REPLY = struct.Struct("=qII")
PAYLOAD_MAX = 135168
FDS_MAX = 32
TRANSFER_MAX = 32768
NULL = 2**64 - 1


class SimGone(ConnectionError):
    """The simulation does not answer any more: it has ended."""


class SimClient:
    """A connection, for calls that name a path; and calls on descriptors, which need none. Any thread may use it."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)

    def disconnect(self):
        self.socket.close()

    # ---- one call ----

    @staticmethod
    def _send(sock, op, a, b, payload, fds, answer_to):
        try:
            socket.send_fds(sock, [REQUEST.pack(MAGIC, op, a, b, len(payload), len(fds)) + payload], [answer_to.fileno(), *fds])
        except (BrokenPipeError, ConnectionResetError):
            raise SimGone("tdi-sim has ended") from None
        finally:
            answer_to.close()

    @staticmethod
    def _receive(ours):
        """(what the call returns, payload, new descriptors). What failed raises OSError with its payload in `answer`."""
        try:
            data, fds, _, _ = socket.recv_fds(ours, REPLY.size + PAYLOAD_MAX, FDS_MAX)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            raise SimGone("tdi-sim has ended during a call")
        result, size, count = REPLY.unpack_from(data)
        payload = data[REPLY.size:]
        if len(payload) != size or len(fds) != count:
            for fd in fds:
                os.close(fd)
            raise OSError(errno.EPROTO, f"an answer of {len(payload)} bytes and {len(fds)} descriptors says {size} and {count}")
        for fd in fds:
            os.set_inheritable(fd, False)
        if result < 0:
            for fd in fds:
                os.close(fd)
            error = OSError(-result, os.strerror(-result))
            error.answer = payload
            raise error
        return result, payload, fds

    def _call(self, op, a=0, b=0, payload=b"", fds=(), fd=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            if fd is None:
                self._send(self.socket, op, a, b, payload, fds, theirs)
            else:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)
                try:
                    self._send(sock, op, a, b, payload, fds, theirs)
                finally:
                    sock.detach()
            return self._receive(ours)

    def _named(self, op, path, **kw):
        try:
            return self._call(op, payload=os.fsencode(path), **kw)
        except SimGone:
            raise
        except OSError as error:
            error.filename = path
            raise

    # ---- calls that name a path ----

    def open(self, path, flags=os.O_RDONLY):
        return self._named(OPEN, path, a=flags | os.O_CLOEXEC)[2][0]

    def readlink(self, path):
        return os.fsdecode(self._named(READLINK, path)[1])

    def list(self, path):
        names = []
        while True:
            left, payload, _ = self._named(LIST, path, a=len(names))
            got = [os.fsdecode(n) for n in payload.split(b"\0") if n]
            names += got
            if not got or len(got) >= left:
                return names

    def mode(self, path):
        """st_mode of a path; a link is not followed."""
        return self._named(STAT, path)[0]

    def followed(self, path):
        """(st_mode, path without links) of what a path leads to."""
        mode, payload, _ = self._named(STAT, path, a=STAT_FOLLOW)
        return mode, os.fsdecode(payload)

    def identify(self, inode):
        """What a socket of this inode number is as a simulated descriptor; None when it is none."""
        try:
            return os.fsdecode(self._call(IDENTIFY, a=inode)[1])
        except SimGone:
            raise
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def fdinfo(self, inode):
        """What /proc/PID/fdinfo shows of a descriptor whose socket has this inode number, beyond what it shows of any; None where it is nothing."""
        try:
            fd = self._call(FDINFO, a=inode)[2][0]
        except SimGone:
            raise
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        try:
            return os.fsdecode(self.pread(fd, 4096))
        finally:
            self.close(fd)

    def address_present(self, interface):
        return self._named(ADDRESS, interface)[0] > 0

    def uevents(self):
        """A descriptor on which the events come, one a packet."""
        return self._call(UEVENTS)[2][0]

    def control(self, command, **arguments):
        """A command of tdi-sim(1); its answer as Python values."""
        request = json.dumps({"do": command, **arguments}).encode()
        answer = b""
        while True:
            try:
                size, piece, _ = self._call(CONTROL, a=len(answer), payload=request)
            except SimGone:
                raise
            except OSError as error:
                reason = os.fsdecode(getattr(error, "answer", b""))
                raise OSError(error.errno, f"{os.strerror(error.errno)}: {reason}", command) from None
            answer += piece
            if len(answer) >= size or not piece:
                return json.loads(answer) if answer else None

    # ---- calls on a descriptor ----

    def close(self, fd):
        """close(2): returns when the release is over, if this was the last copy."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)
            try:
                self._send(sock, CLOSE, 0, 0, b"", (), theirs)
            finally:
                sock.close()
            ours.send(b"\0")
            self._receive(ours)

    def pread(self, fd, size, offset=0):
        out = b""
        while len(out) < size:
            piece = self._call(PREAD, offset + len(out), min(size - len(out), TRANSFER_MAX), fd=fd)[1]
            out += piece
            if len(piece) < TRANSFER_MAX:
                break
        return out

    def pwrite(self, fd, data, offset=0):
        done = 0
        while True:
            n = self._call(PWRITE, offset + done, payload=bytes(data[done:done + TRANSFER_MAX]), fd=fd)[0]
            done += n
            if done >= len(data) or n == 0:
                return done

    def ioctl(self, fd, request, struct_=b"", value=0, fds=(), mask=None, blobs=()):
        """
        An ioctl whose argument was packed by hand: the struct; what its pointers point to, in the order of the marshalling
        table, None for NULL; the descriptors that its members name, with a bit mask of which members do. Returns what the
        call returns, the struct and the blobs as the kernel left them, and the new descriptors.
        """
        payload = b""
        if struct_:
            mask = (1 << len(fds)) - 1 if mask is None else mask
            payload = struct.pack("=I", mask) + struct_
            payload += b"".join(struct.pack("=Q", NULL if b is None else len(b)) + (b or b"") for b in blobs)
        result, answer, new = self._call(IOCTL, request, value, payload, fds, fd)
        if not struct_:
            return result, b"", [], new
        out, at = [], 4 + len(struct_)
        for _ in blobs:
            size = struct.unpack_from("=Q", answer, at)[0]
            size = 0 if size == NULL else size
            out.append(answer[at + 8:at + 8 + size])
            at += 8 + size
        return result, answer[4:4 + len(struct_)], out, new
