# SPDX-License-Identifier: LGPL-2.1-or-later
#
# As much of logind as inhibitor locks need, on a scenario's private bus: Inhibit() gives out descriptors, and a lock lasts until the last
# copy is closed. With libsystemd's own bus, in a thread.

import ctypes
import os
import select
import threading
import time

from kit.checks import Failure, eventually

NAME = b"org.freedesktop.login1"


def _lib():
    lib = ctypes.CDLL("libsystemd.so.0")
    for name in ("sd_bus_message_is_method_call", "sd_bus_message_read", "sd_bus_reply_method_return", "sd_bus_reply_method_errorf"):
        getattr(lib, name).argtypes = None
    lib.sd_bus_message_unref.restype = lib.sd_bus_flush_close_unref.restype = ctypes.c_void_p
    return lib


class Logind:
    """Owns the name until it is closed. `delay`: seconds before it answers; `refuses`: it gives no lock."""

    def __init__(self, address, delay=0, refuses=False):
        self.address = address.encode()
        self.delay = delay
        self.refuses = refuses
        self.asked = 0
        self._locks = []  # (what, who, why, mode), our end of the pipe
        self._end = threading.Event()
        self._ready = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(10) or self._error:
            raise Failure(f"no logind on {address}: {self._error}")

    def close(self):
        self._end.set()
        self._thread.join(10)
        for _, fd in self._locks:
            os.close(fd)
        self._locks = []

    def locks(self):
        """Those that somebody holds still."""
        def held(fd):
            poller = select.poll()
            poller.register(fd, 0)
            return not poller.poll(0)
        return [lock for lock, fd in self._locks if held(fd)]

    def wait(self, n):
        return eventually(lambda: (len(self.locks()) == n) and (self.locks() or True), f"{n} inhibitor locks")

    # ---- the thread ----

    def _run(self):
        lib, bus = _lib(), ctypes.c_void_p()
        steps = (lambda: lib.sd_bus_new(ctypes.byref(bus)), lambda: lib.sd_bus_set_address(bus, self.address),
                 lambda: lib.sd_bus_set_bus_client(bus, 1), lambda: lib.sd_bus_negotiate_fds(bus, 1), lambda: lib.sd_bus_start(bus),
                 lambda: lib.sd_bus_request_name(bus, NAME, ctypes.c_uint64(0)))
        for step in steps:
            r = step()
            if r < 0:
                self._error = os.strerror(-r)
                break
        self._ready.set()
        while not self._error and not self._end.is_set():
            message = ctypes.c_void_p()
            r = lib.sd_bus_process(bus, ctypes.byref(message))
            if r < 0:
                break
            if message:
                if lib.sd_bus_message_is_method_call(message, b"org.freedesktop.login1.Manager", b"Inhibit") > 0:
                    self._inhibit(lib, message)
                lib.sd_bus_message_unref(message)
            elif r == 0:
                lib.sd_bus_wait(bus, ctypes.c_uint64(50000))
        if bus:
            lib.sd_bus_flush_close_unref(bus)

    def _inhibit(self, lib, message):
        texts = [ctypes.c_char_p() for _ in range(4)]
        lib.sd_bus_message_read(message, b"ssss", *map(ctypes.byref, texts))
        self.asked += 1
        time.sleep(self.delay)
        if self.refuses:
            lib.sd_bus_reply_method_errorf(message, b"org.freedesktop.DBus.Error.AccessDenied", b"%s", b"not for you")
            return
        ours, theirs = os.pipe()
        self._locks.append((tuple(t.value.decode() for t in texts), ours))
        lib.sd_bus_reply_method_return(message, b"h", ctypes.c_int(theirs))
        os.close(theirs)
