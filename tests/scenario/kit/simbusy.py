# SPDX-License-Identifier: LGPL-2.1-or-later
#
# kit/busy.py for the simulation: who uses a function is told to it, and no file system, RAID or network stack is behind it.
# Each is a context manager that undoes itself.

import contextlib
import os


class SimBusy:
    def __init__(self, host):
        self.host = host

    def _change(self, **what):
        self.host.client.control("users", change=what)

    @contextlib.contextmanager
    def _while(self, on, off):
        self._change(**on)
        try:
            yield
        finally:
            self._change(**off)

    def mounted(self, disk, folder):
        disk = os.path.basename(disk)
        return self._while({"disk": disk, "mount": folder}, {"disk": disk, "mount": None})

    def swapped(self, disk):
        disk = os.path.basename(disk)
        return self._while({"disk": disk, "swap": True}, {"disk": disk, "swap": False})

    def mapped(self, disk, name="dm-0"):
        disk = os.path.basename(disk)
        return self._while({"disk": disk, "holder": name}, {"disk": disk, "holder": None})

    def in_raid(self, disk, node="md127"):
        return self.mapped(disk, node)

    def interface_up(self, name, address="192.0.2.1"):
        return self._while({"net": name, "up": True, "addresses": [address]}, {"net": name, "up": False, "addresses": []})

    @contextlib.contextmanager
    def lost(self, disk, folder, again):
        """Mounted, to have the disk taken from under the file system; yields what unmounts it."""
        disk = os.path.basename(disk)
        self._change(disk=disk, mount=folder)
        mounts = [folder]

        def unmount():
            self._change(disk=disk, mount=None)
            mounts.pop()
        try:
            yield unmount
        finally:
            if mounts:
                unmount()
            again()
