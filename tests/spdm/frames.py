# SPDX-License-Identifier: LGPL-2.1-or-later
"""The responder's socket: DOE objects in frames as QEMU's spdm-socket and DMTF's spdm-emu have them (big-endian command, transport, size)."""
import socket
import struct
import threading

from device import Connection

NORMAL, SHUTDOWN, TEST = 0x0001, 0xfffe, 0xdead
PCI_DOE = 2
LARGEST = 1 << 20


def read_all(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


def doe_object(message, kind=1):
    padded = message + bytes(-len(message) % 4)
    return struct.pack("<HBBI", 1, kind, 0, len(padded) // 4 + 2) + padded


def doe_contents(data):
    """The SPDM message in a DOE object, filled up as it is; None if it is none."""
    if len(data) < 12:
        return None
    vendor, kind, _, length = struct.unpack("<HBBI", data[:8])
    return data[8:] if (vendor, kind, (length & 0x3ffff) * 4) == (1, 1, len(data)) else None


def discovery(data):
    """Whoever carries objects as they are may ask for the protocols too: discovery and SPDM."""
    if len(data) != 12 or data[:4] != b"\1\0\0\0":
        return None
    index = data[8]
    return doe_object(bytes([1, 0, index, 1 - index]) if index <= 1 else b"\xff\xff\xff\0", kind=0)


def serve_one(sock, device, log=None):
    """Until the other side has enough."""
    connection = Connection(device)
    with sock:
        while True:
            head = read_all(sock, 12)
            if head is None:
                return
            command, transport, size = struct.unpack(">III", head)
            if size > LARGEST:
                return
            data = read_all(sock, size)
            if data is None or command == SHUTDOWN:
                return
            if command == TEST:
                sock.sendall(struct.pack(">III", TEST, transport, 14) + b"Server Hello!\0")
                continue
            reply = discovery(data)
            if reply is None:
                request = doe_contents(data)
                if command != NORMAL or transport != PCI_DOE or request is None:
                    return
                response = connection.answer(request)
                if log:
                    log(f"{request[:4].hex()} ({len(request)}) -> {response if response is None or isinstance(response, str) else response[:4].hex()}")
                if response is None:
                    continue
                if response == "close":
                    return
                reply = {"too-long": struct.pack("<HBBI", 1, 1, 0, 0) + bytes(64), "other-type": doe_object(b"\x12\x01\0\0", kind=2)}.get(
                    response if isinstance(response, str) else "") or doe_object(bytes(response))
            sock.sendall(struct.pack(">III", NORMAL, PCI_DOE, len(reply)) + reply)


class Server:
    """Listens on a port of the loopback address; a thread for each connection."""

    def __init__(self, device, port=0, log=None):
        self.device, self.log = device, log
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]

    def run(self, once=False):
        while True:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if once:
                serve_one(sock, self.device, self.log)
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            serve_one(sock, self.device, self.log)
        except OSError:
            pass  # it went away

    def start(self):
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
