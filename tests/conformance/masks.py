# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What of an answer is not compared, and why: each mask has a name, and how often it was used is printed. A mask is for what the
# machine of the VM has and the description of the machine has not, or what no two runs have in common; never for a disagreement.

import re

BDF = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# Disks and interfaces that are the VM's own: its root image, loop devices, the loopback interface.
OWN_BLOCK = re.compile(r"(vd[a-z]|loop\d+|ram\d+)$")
# Of functions whose config space the description does not have byte for byte (ports, those with SR-IOV, VFs): ids, class and revision.
GENERATED_KEEPS = {0, 1, 2, 3, 8, 9, 10, 11}
OWN_NET = re.compile(r"(lo|dummy\d+|sit\d+|tunl\d+)$")


# What ACPI, the ASPM, AER and DMA pool code and the drivers of disks and interfaces put into a function's folder: nothing that the model is about.
UNMODELLED = re.compile(r"(firmware_node|link|pools|aer|aer_dev_\w+|sriov_vf_msix_count|hwmon|ptp|i2c-\d+|eeprom|rom|serial_number|waiting_for_supplier)$")
BELOW_UNMODELLED = re.compile(r"/[0-9a-f:]+\.[0-7]/(firmware_node|link|pools|aer|sriov_vf_msix_count|hwmon|ptp|i2c-\d+|rom|serial_number|waiting_for_supplier|nvme|net|msi_irqs/\d+)(/|$)|"
                              r"/[0-9a-f:]+\.[0-7]/aer_dev_\w+$")


def known(replay, bdf):
    """A function of the described machine; VFs stand on the bus of theirs."""
    return bdf in replay.functions or any(bdf.startswith(f[:8]) for f in replay.functions if f[5:7] != "00")


def strange(replay, step):
    """The mask for a look at what only the VM has: its host bridge, its own disk, its processes; None for others."""
    path = step.get("path", "")
    found = BDF.findall(path)
    match = re.match(r"/sys/class/(block|net)/([^/]+)", path)
    if match and (OWN_BLOCK if match[1] == "block" else OWN_NET).match(match[2]):
        return "the VM's own disks and interfaces"
    if re.match(r"/proc/(\d+|self)?(/(?!mountinfo)|$)", path):
        return "processes"
    if step["op"] != "file-read" and found and BELOW_UNMODELLED.search(path) and not re.search(r"/(nvme|net)$", path):
        return "files in a function's folder that the model is not about"
    if any(b[5:7] == "00" and not known(replay, b) for b in found):
        return "functions that the machine's description does not have"
    return None


def names(replay, path, kernel, simulation):
    """(mask or None, kernel's names, simulation's names) of a folder."""
    if path in ("/sys/bus/pci/devices", "/sys/devices/pci0000:00") or path.endswith("/devices"):
        def ours(n):
            return known(replay, n) if BDF.fullmatch(n) else path == "/sys/bus/pci/devices"
        return "functions that the machine's description does not have", [n for n in kernel if ours(n)], [n for n in simulation if ours(n)]
    if re.search(r"/[0-9a-f:]+\.[0-7]$", path):
        def modelled(names):
            return [n for n in names if not UNMODELLED.match(n) and not BDF.fullmatch(n)]
        if modelled(kernel) != kernel:
            return "files in a function's folder that the model is not about", modelled(kernel), modelled(simulation)
    if re.search(r"/[0-9a-f:]+\.[0-7]/(nvme|net)$", path):
        return "names of disks and interfaces", [len(kernel)], [len(simulation)]
    if path == "/sys/devices":
        return "what is not PCI", [n for n in kernel if n.startswith("pci")], [n for n in simulation if n.startswith("pci")]
    if path == "/sys/class/block":
        # Numbered in the order of their coming: each link is compared, the names are not.
        return "names of disks and interfaces", [sum(not OWN_BLOCK.match(n) for n in kernel)], [sum(not OWN_BLOCK.match(n) for n in simulation)]
    if path == "/sys/class/net":
        return "names of disks and interfaces", [sum(not OWN_NET.match(n) for n in kernel)], [sum(not OWN_NET.match(n) for n in simulation)]
    if path.endswith("/vfio-dev") and replay.sequence["kind"] == "scenario":
        return "numbers of VFIO nodes that several processes made", [len(kernel)], [len(simulation)]
    if path.endswith("/msi_irqs"):
        return "interrupt numbers", [str(len(kernel))], [str(len(simulation))]
    if path.startswith("/proc"):
        return "processes", [], []
    return None, kernel, simulation


def content(replay, path, offset, kernel, simulation):
    """(mask or None, kernel's bytes, simulation's bytes) of what was read."""
    if re.match(r"/proc/\d+/mountinfo|/proc/swaps", path):
        def ours(text):
            # mountinfo(5): of the numbers only that there is a device; where, and what.
            lines = [line.split() for line in text.splitlines() if re.search(rb"/dev/(nvme|dm-|md)", line)]
            return re.sub(rb"nvme\d+", b"nvme", b"\n".join(b" ".join((w[4], w[-2]) if b"-" in w else (w[0], w[1])) for w in lines))
        return "mounts and swap of the VM's own disks", ours(kernel), ours(simulation)
    if path.startswith("/proc/"):
        return "processes", b"", b""
    if path.endswith(("/power/runtime_status", "/power_state")) and kernel in (b"active\n", b"suspending\n", b"D0\n") and simulation in (b"suspended\n", b"D3hot\n"):
        return "falling asleep is a matter of time (rpm_idle() is queued)", b"", b""
    if path.startswith("/dev/vfio/devices/") and offset >> 40 < 6 and not replay.has_model(path):
        return "registers of devices that have no model", b"", b""
    if replay.is_generated(replay.bdf_of(path)):
        if path.endswith("/config") or (path.startswith("/dev/") and offset >> 40 == 7):
            at = offset & 0xffff
            keep = [i for i in range(min(len(kernel), len(simulation))) if at + i in GENERATED_KEEPS]
            return "config space that the description generates", bytes(kernel[i] for i in keep), bytes(simulation[i] for i in keep)
        if path.endswith(("_link_width", "_link_speed", "/subsystem_vendor", "/subsystem_device", "/modalias", "/uevent")):
            return "config space that the description generates", b"", b""
        if path.endswith("/resource"):
            def shape(text):
                return b"\n".join(b"%x %s" % (int(e, 16) - int(s, 16), f) for s, e, f in (line.split() for line in text.splitlines()))
            return "config space that the description generates", shape(kernel), shape(simulation)
    if path.endswith("/config") or (path.startswith("/dev/vfio/devices/") and offset >> 40 == 7):
        # Address and data of MSI are the interrupt controller's.
        at, msi = offset & 0xffff, replay.msi.get(replay.bdf_of(path), -1)
        if msi >= 0 and any(msi + 4 <= at + i < msi + 14 for i in range(len(kernel))):
            keep = [i for i in range(min(len(kernel), len(simulation))) if not msi + 4 <= at + i < msi + 14]
            return "interrupt numbers", bytes(kernel[i] for i in keep), bytes(simulation[i] for i in keep)
    if path.endswith("/irq"):
        return "interrupt numbers", b"", b""
    if re.match(r"/sys/class/(block|net)/[^/]+$", path) or path.startswith("/sys/class/block/"):
        def unnumbered(text):
            return re.sub(rb"(nvme|eth)\d+", rb"\1", re.sub(rb"^\d+:\d+$", b"", text.strip()))
        return "names of disks and interfaces", unnumbered(kernel), unnumbered(simulation)
    match = re.search(rb"iommu_groups/(\d+)", kernel)
    if match:
        other = re.search(rb"iommu_groups/(\d+)", simulation)
        # The VM has a few more groups. Which is which must be the same all through the sequence.
        if other and replay.groups.setdefault(match[1], other[1]) == other[1] and len(set(replay.groups.values())) == len(replay.groups):
            return "numbers of IOMMU groups", kernel.replace(match[1], b"N"), simulation.replace(other[1], b"N")
    return None, kernel, simulation


def event(replay, event):
    """Whether an event is of a device that is not compared."""
    _, subsystem, devpath = event
    return subsystem not in ("pci", "tsm") or not all(known(replay, b) for b in BDF.findall(devpath))
