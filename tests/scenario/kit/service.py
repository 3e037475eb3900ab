# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A service of ours on a scenario's private bus, with libsystemd's own bus, in a thread: what plays a part of the system there.

import ctypes
import os
import threading

from kit.checks import Failure


def _lib():
    lib = ctypes.CDLL("libsystemd.so.0")
    for name in ("sd_bus_message_is_method_call", "sd_bus_message_read", "sd_bus_reply_method_return", "sd_bus_reply_method_errorf"):
        getattr(lib, name).argtypes = None
    for name in ("sd_bus_message_ref", "sd_bus_message_unref", "sd_bus_flush_close_unref"):
        getattr(lib, name).restype = ctypes.c_void_p
    return lib


class Service:
    """Owns `name` until it is closed. `methods`: by interface and member, what answers; each runs in the thread, with libsystemd and the message."""

    name = None

    def __init__(self, address):
        self.address = address.encode()
        self._end = threading.Event()
        self._ready = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(10) or self._error:
            raise Failure(f"no {self.name} on {address}: {self._error}")

    def methods(self):
        raise NotImplementedError

    def tick(self, lib):
        """Runs after each message, and every 20 ms."""

    def ends(self, lib):
        """The last that runs in the thread."""

    def close(self):
        self._end.set()
        self._thread.join(10)

    @staticmethod
    def text(lib, message):
        """The next argument, a string."""
        value = ctypes.c_char_p()
        lib.sd_bus_message_read(message, b"s", ctypes.byref(value))
        return value.value.decode()

    def _run(self):
        lib, bus = _lib(), ctypes.c_void_p()
        steps = (lambda: lib.sd_bus_new(ctypes.byref(bus)), lambda: lib.sd_bus_set_address(bus, self.address),
                 lambda: lib.sd_bus_set_bus_client(bus, 1), lambda: lib.sd_bus_negotiate_fds(bus, 1), lambda: lib.sd_bus_start(bus),
                 lambda: lib.sd_bus_request_name(bus, self.name.encode(), ctypes.c_uint64(0)))
        for step in steps:
            r = step()
            if r < 0:
                self._error = os.strerror(-r)
                break
        methods = self.methods()
        self._ready.set()
        while not self._error and not self._end.is_set():
            message = ctypes.c_void_p()
            r = lib.sd_bus_process(bus, ctypes.byref(message))
            if r < 0:
                break
            if message:
                for (interface, member), answer in methods.items():
                    if lib.sd_bus_message_is_method_call(message, interface.encode(), member.encode()) > 0:
                        answer(lib, message)
                        break
                lib.sd_bus_message_unref(message)
            elif r == 0:
                lib.sd_bus_wait(bus, ctypes.c_uint64(20000))
            self.tick(lib)
        self.ends(lib)
        if bus:
            lib.sd_bus_flush_close_unref(bus)
