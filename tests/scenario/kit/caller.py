# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A bus client that is another user, and stays: a process that makes the calls it is told, one after the other, or many at once without waiting
# for answers. With libsystemd's bus, which can say that a call allows interactive authorization.

import json
import os
import subprocess
import sys

from kit.checks import Failure
from kit.client import NAME, Refused
from kit.daemon import die_with_us

CHILD = r"""
import ctypes, json, os, sys
lib = ctypes.CDLL("libsystemd.so.0")
lib.sd_bus_message_append.argtypes = lib.sd_bus_message_read.argtypes = None
lib.sd_bus_message_unref.restype = ctypes.c_void_p
class Error(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("message", ctypes.c_char_p), ("need_free", ctypes.c_int)]
def ok(r):
    if r < 0:
        raise OSError(-r, os.strerror(-r))
    return r
bus = ctypes.c_void_p()
ok(lib.sd_bus_new(ctypes.byref(bus)))
ok(lib.sd_bus_set_address(bus, sys.argv[1].encode()))
ok(lib.sd_bus_set_bus_client(bus, 1))
ok(lib.sd_bus_negotiate_fds(bus, 1))
ok(lib.sd_bus_start(bus))
SIMPLE = {"u": ctypes.c_uint, "t": ctypes.c_uint64, "b": ctypes.c_int, "y": ctypes.c_ubyte}
def put(m, kind, value):
    if kind == "h":
        fd = os.open("/dev/null", os.O_RDONLY)
        ok(lib.sd_bus_message_append(m, b"h", ctypes.c_int(fd)))
        os.close(fd)
    elif kind == "a{sv}":
        ok(lib.sd_bus_message_open_container(m, ctypes.c_char(b"a"), b"{sv}"))
        for key, (inner, v) in value.items():
            ok(lib.sd_bus_message_open_container(m, ctypes.c_char(b"e"), b"sv"))
            put(m, "s", key)
            ok(lib.sd_bus_message_open_container(m, ctypes.c_char(b"v"), inner.encode()))
            put(m, inner, v)
            ok(lib.sd_bus_message_close_container(m))
            ok(lib.sd_bus_message_close_container(m))
        ok(lib.sd_bus_message_close_container(m))
    elif kind == "(sa{sv})":
        ok(lib.sd_bus_message_open_container(m, ctypes.c_char(b"r"), b"sa{sv}"))
        put(m, "s", value[0])
        put(m, "a{sv}", value[1])
        ok(lib.sd_bus_message_close_container(m))
    elif kind[0] == "a":
        ok(lib.sd_bus_message_open_container(m, ctypes.c_char(b"a"), kind[1:].encode()))
        for v in value:
            put(m, kind[1:], v)
        ok(lib.sd_bus_message_close_container(m))
    elif kind == "s":
        ok(lib.sd_bus_message_append(m, b"s", value.encode()))
    else:
        ok(lib.sd_bus_message_append(m, kind.encode(), SIMPLE[kind](value)))
for line in sys.stdin:
    destination, path, interface, member, kinds, args, interactive, count = json.loads(line)
    m = ctypes.c_void_p()
    reply, error = ctypes.c_void_p(), Error()
    for _ in range(count or 1):
        ok(lib.sd_bus_message_new_method_call(bus, ctypes.byref(m), destination.encode(), path.encode(), interface.encode(), member.encode()))
        for kind, value in zip(kinds, args):
            put(m, kind, value)
        if interactive:
            ok(lib.sd_bus_message_set_allow_interactive_authorization(m, 1))
        if count:
            ok(lib.sd_bus_send(bus, m, ctypes.byref(ctypes.c_uint64())))
            lib.sd_bus_message_unref(m)
    if count:
        ok(lib.sd_bus_flush(bus))
        print(json.dumps({"ok": ""}), flush=True)
        continue
    r = lib.sd_bus_call(bus, m, ctypes.c_uint64(150000000), ctypes.byref(error), ctypes.byref(reply))
    text = ctypes.c_char_p()
    if r >= 0 and lib.sd_bus_message_has_signature(reply, b"s"):
        lib.sd_bus_message_read(reply, b"s", ctypes.byref(text))
    print(json.dumps({"ok": (text.value or b"").decode()} if r >= 0 else
                     {"error": (error.name or b"?").decode(), "text": (error.message or b"").decode()}), flush=True)
    lib.sd_bus_error_free(ctypes.byref(error))
    if reply:
        lib.sd_bus_message_unref(reply)
    lib.sd_bus_message_unref(m)
"""


def split(signature):
    """The complete types of a signature, of those that CHILD knows."""
    kinds, at = [], 0
    while at < len(signature):
        kind = next(k for k in ("a(sa{sv})", "a{sv}", "as", "ay", signature[at]) if signature.startswith(k, at))
        kinds.append(kind)
        at += len(kind)
    return kinds


class Caller:
    """Another user on the bus. Values of options are (type, value); a descriptor is one of /dev/null."""

    def __init__(self, uid, address):
        def drop():
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            die_with_us()

        self.uid = uid
        self.process = subprocess.Popen([sys.executable, "-c", CHILD, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=drop, cwd="/", env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")})

    def _tell(self, path, interface, member, signature, args, interactive, count):
        full = f"{NAME}.{interface}" if "." not in interface else interface
        self.process.stdin.write(json.dumps([NAME, path, full, member, split(signature), args, interactive, count]) + "\n")
        self.process.stdin.flush()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"the client of uid {self.uid} has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], answer["text"] or "-")
        return answer["ok"]

    def call(self, path, interface, member, signature="", *args, interactive=False):
        """Makes one call; its result where that is one string, or Refused."""
        self._tell(path, interface, member, signature, args, interactive, 0)
        return self._answer()

    def begin(self, path, interface, member, signature="", *args, interactive=False):
        """The same, whose end() has the result: nothing else may be called before."""
        self._tell(path, interface, member, signature, args, interactive, 0)

    end = _answer

    def send(self, count, path, interface, member, signature="", *args):
        """So many calls at once, of whose answers nobody hears."""
        self._tell(path, interface, member, signature, args, False, count)
        self._answer()

    def close(self):
        """It leaves the bus."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
