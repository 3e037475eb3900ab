#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a host looks like to somebody who knows nothing of tdid: all of sysfs of the given PCI functions, of the functions
# that speak for them (DSM) and of the bridges above, as canonical JSON, so that "exactly as before" can be checked by
# comparing two files. It reads only; BARs, ROMs and VPD are not read, because reading them touches the device.
#
#   host_state.py [--host=HOST] BDF…                       prints the state
#   host_state.py --diff A B                               prints what differs; exit 1 when something does
#   host_state.py [--host=HOST] --settle SECONDS A BDF…    walks until it is as in file A, at most so long; then as --diff
#
# HOST is linux, or sim:SOCKET for a kernel in a process.

import errno
import functools
import hashlib
import json
import os
import re
import stat
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from kit.files import OsFiles, SimFiles  # noqa: E402

DEVICES = "/sys/bus/pci/devices"
BDF = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
SCHEMA = "tdid-host-state/1"
LINUX = OsFiles()

# ---- what is left out, and why: paths below a function's folder, after names were made canonical ----

# Never opened: a read of these is an access to the device itself.
UNTOUCHED = re.compile(r"^(resource\d+(_wc)?|rom|vpd)$")

# Present or absent counts, the content does not: it changes by itself, or with every bind of any driver.
VOLATILE = re.compile("|".join((
    r"(^|/)power/runtime_(active|suspended)_time$",      # runtime-PM counters: they run
    r"(^|/)power/wakeup_(count|active_count|abort_count|expire_count|total_time_ms|max_time_ms|last_time_ms|prevent_sleep_time_ms)$",
    r"(^|/)wakeup/wakeup@\d+/(active|total|max|last|prevent)[a-z_]*$|(^|/)wakeup/wakeup@\d+/[a-z]+_count$",
    r"(^|/)dev$",                                        # device numbers are given out anew at each bind
    r"(^|/)bdi$",                                        # a link named by that number
    r"(^|/)ifindex$", r"(^|/)iflink$",                   # numbers of network interfaces: likewise
    r"(^|/)diskseq$",                                    # counts every disk that ever appeared
    r"(^|/)statistics/[a-z0-9_]+$",                      # network traffic
    r"(^|/)carrier(_changes|_up_count|_down_count)?$",   # the link goes down and up with the driver
    r"(^|/)(operstate|speed|duplex)$",                   # the same, seen a moment earlier or later
    r"(^|/)(stat|inflight|io_timeout_count)$",           # disk traffic
    r"^pools$",                                          # DMA pools of the driver: how many blocks are in use just now
    r"(^|/)(temp\d+_input|temp\d+_alarm)$",              # temperature
    r"(^|/)cmd_counts?$|(^|/)reset_time$",               # NVMe's own statistics
    r"^aer_(dev|rootport_total_err)_[a-z]+$",            # how many errors there ever were
    r"^irq$",                                            # number of the interrupt line or first vector
    r"^msi_irqs/",                                       # each vector's number (how many there are is kept)
    r"(^|/)cpu\d+/cpu_list$|(^|/)mq/\d+/cpu_list$",      # the kernel spreads queues as vectors come
)))

# Not even looked for: the driver core removes the first for good once any driver has been bound.
IGNORED = re.compile(r"^waiting_for_supplier$")

# Lines of uevent files that carry such numbers.
VOLATILE_UEVENT = ("MAJOR=", "MINOR=", "DISKSEQ=", "IFINDEX=")

# Folders whose entries the kernel numbers in the order of their coming: named by position instead.
NUMBERED = re.compile(r"^(nvme|ng|hwmon|vfio|wakeup|ptp|pps|i2c-|eth)(\d+)(n\d+)?$")


def failure(error):
    return f"<{errno.errorcode.get(error.errno, error.errno)}>"


def as_text(data):
    """Content of a sysfs file, or the OSError that its reading was, as text; "<EIO>" and the like where that failed; hex where it is no text."""
    if isinstance(data, OSError):
        return failure(data)
    try:
        text = data.decode()
        return text.rstrip("\n") if "\0" not in text else data.hex()
    except UnicodeDecodeError:
        return data.hex()


def attribute(files, path):
    return as_text(files.read_all([path])[0])


def link_name(files, path):
    try:
        return os.path.basename(files.readlink(path))
    except OSError:
        return None


class Names:
    """Replaces names that the kernel numbers as devices come ("nvme3", "eth1") by their position within a function."""

    def __init__(self, names):
        kinds = {}
        for name in names:
            match = NUMBERED.match(name)
            if match and not match.group(3):
                kinds.setdefault(match.group(1), set()).add(int(match.group(2)))
        self.map = {f"{kind}{n}": f"{kind}@{i}" for kind, ns in kinds.items() for i, n in enumerate(sorted(ns))}
        # The generic node of an NVMe namespace has the controller's number and no folder of that name.
        for name, new in list(self.map.items()):
            if name.startswith("nvme"):
                self.map["ng" + name[4:]] = "ng" + new[4:]
        alternatives = "|".join(sorted(map(re.escape, self.map), key=len, reverse=True))
        self.regex = re.compile(rf"(?<![A-Za-z0-9])({alternatives})(?![0-9])") if alternatives else None

    def __call__(self, text):
        return self.regex.sub(lambda m: self.map[m.group(1)], text) if self.regex else text


def list_tree(files, top):
    """Files (with their modes), links (with their targets) and folders below a function's, relative, without the functions behind a bridge."""
    found, links, folders = {}, {}, []
    # Devices behind a bridge stand below it: they are walked by themselves.
    for path, mode, target in files.tree(top, lambda name: not BDF.fullmatch(name) and not name.startswith("pci_bus")):
        if stat.S_ISLNK(mode):
            links[path] = target
        elif stat.S_ISDIR(mode):
            folders.append(path)
        elif stat.S_ISREG(mode):
            found[path] = mode
    return found, links, folders


@functools.lru_cache(maxsize=None)
def unread(canonical, mode):
    """What stands for the content of a file that is not read; None for one that is."""
    if UNTOUCHED.match(canonical):
        return "<not read>"
    if VOLATILE.search(canonical):
        return "<volatile>"
    return None if mode & 0o444 else "<write-only>"


def content(path, canonical, data, random_address):
    """The canonical content of one file from what was read of it."""
    name = os.path.basename(path)
    if name == "config" and "/" not in path:
        return canonical_config(bytearray() if isinstance(data, OSError) else bytearray(data[:4096]))
    if name == "address" and random_address:
        return "<random>"
    text = as_text(data)
    if name == "uevent":
        text = "\n".join(line for line in text.splitlines() if not line.startswith(VOLATILE_UEVENT))
    if canonical == "power_state" and text == "unknown":
        # The PCI core forgets the state when a driver leaves, and nobody can make it remember: the function is in D0.
        return "D0"
    if text in ("suspending", "resuming") and name == "runtime_status":
        return "<changing>"
    return text


# ---- config space: bits that hardware changes by itself are masked, each by name ----

def mask(data, offset, size, keep=0):
    """Keeps only the bits of `keep` of a little-endian field."""
    if offset + size <= len(data):
        value = int.from_bytes(data[offset:offset + size], "little") & keep
        data[offset:offset + size] = value.to_bytes(size, "little")


def canonical_config(data):
    if len(data) < 64:
        return data.hex()
    mask(data, 0x06, 2, 0xffff & ~0x0008)                    # status: an interrupt is pending
    if data[0x0e] & 0x7f == 1:
        mask(data, 0x1e, 2, 0x0fff)                          # bridge, secondary status: error bits
    seen, at = set(), data[0x34] & 0xfc
    # Who is not root sees the header only.
    while 0x40 <= at < min(0xff, len(data) - 1) and at not in seen:
        seen.add(at)
        if data[at] == 0x01:
            mask(data, at + 4, 2, 0x7fff)                    # power management: PME status
        elif data[at] == 0x03:
            mask(data, at + 2, 6)                            # VPD: last address and data
        elif data[at] == 0x05:
            mask_msi(data, at)
        elif data[at] == 0x10:
            mask(data, at + 0x0a, 2, 0xffff & ~0x002f)       # device status: errors, transactions pending
            mask(data, at + 0x12, 2, 0x3fff)                 # link status: bandwidth events
            mask(data, at + 0x1a, 2, 0xffff & ~0x011f)       # slot status: events
            if (data[at + 2] >> 4) & 0xf in (4, 10):
                mask(data, at + 0x20, 4)                     # root status
        at = data[at + 1] & 0xfc
    at, seen = 0x100, set()
    while 0x100 <= at <= len(data) - 4 and at not in seen:
        seen.add(at)
        header = int.from_bytes(data[at:at + 4], "little")
        if header & 0xffff == 0x0001:                        # AER: status and logs
            mask(data, at + 0x04, 4)
            mask(data, at + 0x10, 4)
            mask(data, at + 0x1c, 16)
            mask(data, at + 0x30, 8)
        elif header & 0xffff == 0x001d:
            mask(data, at + 0x08, 4)                         # DPC: status, source
        elif header & 0xffff == 0x002e:
            mask(data, at + 0x0c, 12)                        # DOE: status and mailbox
        at = header >> 20
    return data.hex()


def mask_msi(data, at):
    """MSI: where it goes and what is pending; vectors differ from bind to bind. Whether it is on is kept."""
    control = int.from_bytes(data[at + 2:at + 4], "little")
    wide = 4 if control & 0x80 else 0
    mask(data, at + 4, 4 + wide)
    mask(data, at + 8 + wide, 2)
    if control & 0x100:
        mask(data, at + 12 + wide, 8)


# ---- one function, and all ----

def walk_function(kernel, bdf):
    top = kernel.realpath(os.path.join(DEVICES, bdf))
    if not kernel.isdir(top):
        return {"present": False}
    files, links, folders = list_tree(kernel, top)
    names = Names(os.path.basename(p) for p in folders)
    attributes, wanted = {}, {}
    for path, mode in files.items():
        canonical = names(path)
        if canonical.startswith("msi_irqs/") or IGNORED.match(canonical):
            continue
        attributes[canonical] = unread(canonical, mode)
        if attributes[canonical] is None:
            wanted[path] = canonical
    said = dict(zip(wanted, kernel.read_all([f"{top}/{path}" for path in wanted])))
    for path, canonical in wanted.items():
        # The MAC address of an interface may have been made up by the kernel, as that of a VF is at every probe.
        kind = said.get(os.path.join(os.path.dirname(path), "addr_assign_type"), b"")
        attributes[canonical] = names(content(path, canonical, said[path], not isinstance(kind, OSError) and kind.strip() == b"1"))
    for path, target in links.items():
        attributes[names(path)] = "-> " + ("<volatile>" if path.endswith("/bdi") else names(os.path.basename(target or "")))
    for path in folders:
        attributes.setdefault(names(path) + "/", "")
    irqs = [p for p in files if p.startswith("msi_irqs/")]
    attributes["msi_irqs"] = f"{len(irqs)} vectors"
    group = os.path.basename(links.get("iommu_group") or "") or None
    return {
        "present": True,
        "driver": os.path.basename(links.get("driver") or "") or None,
        "override": attributes.get("driver_override"),
        "power_control": attributes.get("power/control"),
        "enable": attributes.get("enable"),
        "iommu_group": group,
        "iommu_type": attribute(kernel, f"/sys/kernel/iommu_groups/{group}/type") if group else None,
        "block": {names(n): first_mebibyte(kernel, n) for n in disks(folders)},
        "net": sorted(names(os.path.basename(f)) for f in folders if re.fullmatch(r"net/[^/]+", f)),
        "attributes": attributes,
    }


def disks(folders):
    return [os.path.basename(f) for f in folders if re.fullmatch(r"nvme/nvme\d+/nvme\d+n\d+", f)]


def first_mebibyte(kernel, name):
    """What the disk holds at its start: it must be there, readable, and the same disk."""
    try:
        fd = kernel.open("/dev/" + name)
    except OSError as error:
        return failure(error)
    try:
        digest, at = hashlib.sha256(), 0
        while at < 1 << 20:
            data = kernel.pread(fd, (1 << 20) - at, at)
            if not data:
                break
            digest.update(data)
            at += len(data)
        return digest.hexdigest()
    except OSError as error:
        return failure(error)
    finally:
        kernel.close(fd)


def expand(bdfs, kernel=LINUX):
    """The functions, those that speak for them, and every bridge above."""
    out = set()
    for bdf in bdfs:
        out.add(bdf)
        pf = link_name(kernel, os.path.join(DEVICES, bdf, "physfn")) or bdf
        dsm = pf[:-1] + "0"
        if kernel.isdir(os.path.join(DEVICES, dsm)):
            out.add(dsm)
        parts = kernel.realpath(os.path.join(DEVICES, bdf)).split("/")
        out.update(p for p in parts[:-1] if BDF.fullmatch(p))
    return sorted(out)


def walk(bdfs, kernel=LINUX):
    return {"schema": SCHEMA, "functions": {bdf: walk_function(kernel, bdf) for bdf in expand(bdfs, kernel)}}


def flatten(state):
    out = {}
    for bdf, function in state["functions"].items():
        for key, value in function.items():
            if isinstance(value, dict):
                out.update({f"{bdf} {key}/{k}": v for k, v in value.items()})
            else:
                out[f"{bdf} {key}"] = value
    return out


def config_difference(old, new):
    """Which bytes of two config spaces differ, in words that fit on a line."""
    a, b = bytes.fromhex(old), bytes.fromhex(new)
    if len(a) != len(b):
        return f"{len(a)} bytes → {len(b)} bytes"
    return ", ".join(f"{i:#05x}: {a[i]:02x} → {b[i]:02x}" for i in range(len(a)) if a[i] != b[i])


def compare(before, after):
    """A list of lines, one for everything that differs; empty when the two states are the same."""
    a, b = flatten(before), flatten(after)
    lines = []
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) == b.get(key):
            continue
        if key.endswith(" attributes/config") and a.get(key) and b.get(key):
            lines.append(f"{key}: {config_difference(a[key], b[key])}")
        else:
            lines.append(f"{key}: {a.get(key, '(absent)')!r} → {b.get(key, '(absent)')!r}")
    return lines


def load(path):
    with open(path, encoding="utf-8") as file:
        state = json.load(file)
    if state.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: not a host state of this version")
    return state


def report(lines):
    for line in lines:
        print(line)
    return 1 if lines else 0


def kernel_of(host):
    if host == "linux":
        return LINUX
    if host.startswith("sim:"):
        from kit.simclient import SimClient
        return SimFiles(SimClient(host.removeprefix("sim:")))
    raise SystemExit(f"--host={host}: linux or sim:SOCKET")


def main(args):
    kernel = LINUX
    if args and args[0].startswith("--host="):
        kernel = kernel_of(args.pop(0).removeprefix("--host="))
    if args[:1] == ["--diff"] and len(args) == 3:
        return report(compare(load(args[1]), load(args[2])))
    if args[:1] == ["--settle"] and len(args) >= 4:
        before, until = load(args[2]), time.monotonic() + float(args[1])
        while True:
            lines = compare(before, walk(args[3:], kernel))
            if not lines or time.monotonic() >= until:
                return report(lines)
            time.sleep(0.2)
    if args and all(BDF.fullmatch(a) for a in args):
        json.dump(walk(args, kernel), sys.stdout, indent=1, sort_keys=True)
        print()
        return 0
    print("usage: host_state.py [--host=HOST] BDF… | --diff A B | [--host=HOST] --settle SECONDS A BDF…", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
