# SPDX-License-Identifier: LGPL-2.1-or-later
#
# As much of logind as inhibitor locks need, on a scenario's private bus: Inhibit() gives out descriptors, and a lock lasts until the last
# copy is closed.

import ctypes
import os
import select
import time

from kit.checks import eventually
from kit.service import Service


class Logind(Service):
    """Owns the name until it is closed. `delay`: seconds before it answers; `refuses`: it gives no lock."""

    name = "org.freedesktop.login1"

    def __init__(self, address, delay=0, refuses=False):
        self.delay = delay
        self.refuses = refuses
        self.asked = 0
        self._locks = []  # (what, who, why, mode), our end of the pipe
        super().__init__(address)

    def close(self):
        super().close()
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

    def methods(self):
        return {("org.freedesktop.login1.Manager", "Inhibit"): self._inhibit}

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
