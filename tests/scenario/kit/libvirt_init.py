#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Process 1 of the namespaces that kit/libvirt.py makes: it makes them a machine with a libvirtd that has never run, and then collects who
# ends there.
#
#   libvirt_init.py JSON     {"hook": PATH, "binds": [[SOURCE, TARGET]…]}; says "ready" and stays

import ctypes
import json
import os
import shutil
import sys
import time

NAME = "libvirt-qemu"
UID = 64055  # what Debian's libvirt-daemon-system gives to it
HOOKS = "/etc/libvirt/hooks/qemu.d"
# libvirt makes /var/lib/libvirt, /run/libvirt and so on by itself. QEMU's modules are those of another QEMU.
EMPTY = ("/run", "/var/lib", "/var/cache", "/var/log", "/etc/libvirt", "/usr/lib/x86_64-linux-gnu/qemu")
DRIVERS = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver"
# What starts QEMU is a script.
PROGRAMS = ("sh", "dirname", "readlink")
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000

CONFIG = f"""user = "{NAME}"
group = "{NAME}"
# virtlogd, cgroups and mount namespaces of its own are systemd's and the machine's; none of it has to do with tdid.
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
remember_owner = 0
"""

def mount(source, target, kind=None, flags=0):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source and os.fsencode(source), os.fsencode(target), kind and kind.encode(), ctypes.c_ulong(flags), None) < 0:
        raise OSError(ctypes.get_errno(), f"mount of {source} on {target}")


def bind(source, target):
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "ab"):
            pass
    mount(source, target, None, MS_BIND)


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def set_up(plan):
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    for path in EMPTY:
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs")
            os.chmod(path, 0o755)
    mount("proc", "/proc", "proc")
    for name, line in (("passwd", f"{NAME}:x:{UID}:{UID}::/nonexistent:/usr/sbin/nologin\n"), ("group", f"{NAME}:x:{UID}:\n")):
        with open(f"/etc/{name}", encoding="utf-8") as file:
            others = [other for other in file.readlines() if not other.startswith(NAME + ":")]
        write(f"/run/etc/{name}", "".join(others) + line)
        mount(f"/run/etc/{name}", f"/etc/{name}", None, MS_BIND)
    for source, target in plan["binds"]:
        bind(source, target)
    # One that can be opened, but not used, has libvirtd look into its QEMU anew for every domain.
    if os.path.exists("/dev/kvm"):
        write("/run/no-kvm", "", 0)
        mount("/run/no-kvm", "/dev/kvm", None, MS_BIND)
    write("/etc/libvirt/qemu.conf", CONFIG)
    # The other drivers look for bridges, firewalls and disks.
    os.makedirs("/run/drivers")
    os.symlink(DRIVERS + "/libvirt_driver_qemu.so", "/run/drivers/libvirt_driver_qemu.so")
    # QEMUs that are installed here would be looked into, too.
    os.makedirs("/run/bin")
    for program in PROGRAMS:
        os.symlink(shutil.which(program), "/run/bin/" + program)
    write(HOOKS + "/00-log", '#!/run/bin/sh\necho "$@" >>/run/hooks.log\n', 0o755)
    os.symlink(plan["hook"], HOOKS + "/10-tdid")


def main():
    set_up(json.loads(sys.argv[1]))
    print("ready", flush=True)
    # Every QEMU becomes a child of ours when it has started: libvirtd takes one that is not waited for to be alive.
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.02)


if __name__ == "__main__":
    main()
