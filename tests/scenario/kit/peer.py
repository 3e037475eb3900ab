# SPDX-License-Identifier: LGPL-2.1-or-later
#
# D-Bus calls as somebody else: a child process with other ids makes one call and tells how it ended. Also a bus client
# made of bytes, for messages that no library would send.

import json
import os
import socket
import struct
import subprocess
import sys

from kit.checks import Failure
from kit.client import NAME, PREFIX, Refused

CHILD = """
import json, sys, dbus, dbus.bus
address, destination, path, interface, member, signature, args = json.loads(sys.argv[1])
bus = dbus.bus.BusConnection(address)
def typed(a):
    if a == {} :
        return dbus.Dictionary(signature="sv")
    if a == [] :
        return dbus.Array(signature="(sa{sv})")
    return a
try:
    result = bus.call_blocking(destination, path, interface, member, signature, [typed(a) for a in args], timeout=60)
    print(json.dumps({"ok": str(result)}))
except dbus.DBusException as error:
    print(json.dumps({"error": error.get_dbus_name(), "text": error.get_dbus_message()}))
"""


def call_as(uid, address, path, interface, member, signature="", *args, destination=NAME):
    """Makes one call as another user; its result as text, or Refused."""
    def drop():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    request = json.dumps([address, destination, path, interface, member, signature, list(args)])
    done = subprocess.run([sys.executable, "-c", CHILD, request], capture_output=True, text=True, preexec_fn=drop, timeout=120,
                          check=False, cwd="/", env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")})
    if done.returncode:
        raise Failure(f"call as uid {uid}: {done.stderr.strip()}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        full = answer["error"]
        raise Refused(full, answer["text"] or "-")
    return answer["ok"]


DENIED = ("Denied", "org.freedesktop.DBus.Error.AccessDenied")


class RawBus:
    """Just enough of D-Bus to send what the libraries refuse to: wrong handles, strings with NUL."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(address.removeprefix("unix:path="))
        uid = str(os.getuid()).encode().hex().encode()
        self.socket.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n")
        self.buffer = b""
        for _ in range(2):
            self._line()
        self.serial = 0
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")

    def close(self):
        self.socket.close()

    def _line(self):
        while b"\r\n" not in self.buffer:
            data = self.socket.recv(4096)
            if not data:
                raise Failure("the bus closed the connection while authenticating")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    @staticmethod
    def string(text):
        data = text if isinstance(text, bytes) else text.encode()
        return struct.pack("<I", len(data)) + data + b"\0"

    def message(self, destination, path, interface, member, signature=b"", body=b"", unix_fds=None):
        self.serial += 1
        fields = b""

        def field(code, kind, value):
            nonlocal fields
            fields += b"\0" * (-len(fields) % 8) + bytes([code, len(kind)]) + kind + b"\0"
            fields += b"\0" * (-len(fields) % 4 if kind in (b"s", b"o", b"u") else 0) + value

        field(1, b"o", self.string(path))
        field(2, b"s", self.string(interface))
        field(3, b"s", self.string(member))
        field(6, b"s", self.string(destination))
        if signature:
            field(8, b"g", bytes([len(signature)]) + signature + b"\0")
        if unix_fds is not None:
            field(9, b"u", struct.pack("<I", unix_fds))
        head = struct.pack("<4cIII", b"l", b"\1", b"\0", b"\1", len(body), self.serial, len(fields)) + fields
        return head + b"\0" * (-len(head) % 8) + body

    def call(self, *args, fds=(), **kw):
        """Sends a message; ("return", None), ("error", name), or ("closed", None) when the bus throws us out."""
        data = self.message(*args, **kw)
        try:
            if fds:
                socket.send_fds(self.socket, [data], list(fds))
            else:
                self.socket.sendall(data)
            while True:
                kind, reply_to, name = self.receive()
                if reply_to == self.serial:
                    return ("return", None) if kind == 2 else ("error", name.removeprefix(PREFIX))
        except (ConnectionError, EOFError):
            return "closed", None

    def _need(self, count):
        while len(self.buffer) < count:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data

    def receive(self):
        """The next message that comes: its type, what it answers, and an error's name."""
        self._need(16)
        body, _, length = struct.unpack("<III", self.buffer[4:16])
        total = 16 + (length + 7) // 8 * 8 + body
        self._need(total)
        data, self.buffer = self.buffer[:total], self.buffer[total:]
        reply_to, name, at, end = None, "", 16, 16 + length
        while at < end:
            at = (at + 7) // 8 * 8
            code, kind = data[at], data[at + 2:at + 2 + data[at + 1]]
            at += data[at + 1] + 3
            if kind == b"g":
                at += data[at] + 2
                continue
            at = (at + 3) // 4 * 4
            value = struct.unpack("<I", data[at:at + 4])[0]
            at += 4
            if kind == b"u":
                reply_to = value if code == 5 else reply_to
            else:
                name = data[at:at + value].decode() if code == 4 else name
                at += value + 1
        return data[1], reply_to, name
