# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Ways in which a host uses a function: mounted, swapped on, a RAID or device-mapper member, a network interface that is
# up, held by another VFIO user. Each is a context manager that undoes itself, disks' contents included.

import contextlib
import fcntl
import os
import socket
import struct
import subprocess

from kit.checks import Failure, eventually

SIOCSIFADDR = 0x8916
SIOCSIFNETMASK = 0x891C
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@contextlib.contextmanager
def contents_kept(disk, again=None):
    """What the disk holds comes back afterwards. `again` tells its path then, where that may be another."""
    fd = os.open(disk, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        saved = os.pread(fd, size, 0)
    finally:
        os.close(fd)
    try:
        yield
    finally:
        fd = os.open(again() if again else disk, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(fd, saved, 0)
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def mounted(disk, folder):
    with contents_kept(disk):
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", disk)
        os.makedirs(folder, exist_ok=True)
        run("mount", "-t", "ext4", disk, folder)
        try:
            yield
            # Whatever was tried meanwhile, the file system is none the worse.
            with open(os.path.join(folder, "file"), "w", encoding="utf-8") as file:
                file.write("still here")
        finally:
            run("umount", folder)


@contextlib.contextmanager
def lost(disk, folder, again):
    """
    Mounted read-only, to have the disk taken from under the file system; yields what unmounts it. What the disk holds is
    as before at the end, when `again` tells its path.
    """
    with contents_kept(disk, again):
        os.makedirs(folder)
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", disk)
        run("mount", "-t", "ext4", "-o", "ro", disk, folder)
        mounts = [folder]
        try:
            yield lambda: run("umount", mounts.pop())
        finally:
            if mounts:
                run("umount", "-l", folder)


@contextlib.contextmanager
def swapped(disk):
    with contents_kept(disk):
        run("mkswap", disk)
        run("swapon", disk)
        try:
            yield
        finally:
            run("swapoff", disk)


@contextlib.contextmanager
def mapped(disk, name="tdid-test"):
    """A linear device-mapper device on top of the disk."""
    run("dmsetup", "create", "--noudevsync", name, text=f"0 2048 linear {disk} 0\n")
    try:
        yield name
    finally:
        eventually(lambda: run("dmsetup", "remove", "--noudevsync", name) or True, "removal of the dm device")


@contextlib.contextmanager
def in_raid(disk, node="/dev/md/tdid-test"):
    """A RAID 1 with the disk as its only present member."""
    with contents_kept(disk):
        run("mdadm", "--create", node, "--run", "--force", "--level=1", "--raid-devices=2", "--metadata=1.2", disk, "missing")
        try:
            yield
        finally:
            run("mdadm", "--stop", node)


@contextlib.contextmanager
def interface_up(name, address="192.0.2.1"):
    """The interface is up and has an address; neither afterwards."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ifname = name.encode()

        def set_address(request, text):
            fcntl.ioctl(sock, request, struct.pack("16sHH4s8x", ifname, socket.AF_INET, 0, socket.inet_aton(text)))

        def flags(change):
            now = struct.unpack("16sH14x", fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sH14x", ifname, 0)))[1]
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", ifname, change(now)))

        set_address(SIOCSIFADDR, address)
        set_address(SIOCSIFNETMASK, "255.255.255.0")
        flags(lambda f: f | IFF_UP)
        try:
            yield
        finally:
            try:
                set_address(SIOCSIFADDR, "0.0.0.0")
                flags(lambda f: f & ~IFF_UP)
            except OSError:
                pass  # it went away with the function that was taken by force


@contextlib.contextmanager
def on_vfio(host, bdf):
    """The function is on vfio-pci by somebody else's doing, as a VM manager of another kind would leave it."""
    before = host.driver(bdf)
    host.set_driver(bdf, "vfio-pci")
    try:
        yield
    finally:
        if before:
            host.reprobe(bdf)
        else:
            host.set_driver(bdf, None)
