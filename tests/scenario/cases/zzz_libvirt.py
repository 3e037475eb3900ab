# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Domains of a real libvirtd, whose functions tdid-hook has tdid prepare. The domain is the one of the documents, but small, and with the guest
# of the vfio-user scenarios.

import os
import re
import signal
import xml.etree.ElementTree as ET

from kit import libvirt
from kit.checks import Skip, check, contains, equal, eventually
from kit.guest import MEMORY, Guest, Line
from kit.registry import scenario
from kit.simtsm import Rules

EXAMPLE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))), "docs/examples/libvirt/vpci.xml")
UUID = "4dea22b3-1d52-48f3-8756-4a0b1b0b8f0e"
OTHER_UUID = "5dea22b3-1d52-48f3-8756-4a0b1b0b8f0e"
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
TDID = "{urn:tdid:libvirt:1}"
for prefix, namespace in (("qemu", QEMU), ("tdid", TDID)):
    ET.register_namespace(prefix, namespace[1:-1])


def libvirt_scenario(*roles, **kw):
    return scenario(*roles, tags=("libvirt", *kw.pop("tags", ())), needs=("guest", "faults"), timeout=kw.pop("timeout", 600.0), **kw)


def started(t):
    """A libvirtd with no domains."""
    if reason := libvirt.why_not(t.paths.hook):
        raise Skip(reason)
    lv = libvirt.Libvirt(t)
    t.defer(lv.stop)
    lv.start()
    return lv


class Domain:
    """A domain as its definition will have it; the XML may be changed before define()."""

    def __init__(self, t, lv, bdf, name="guest1", uuid=UUID):
        self.t, self.lv, self.bdf, self.name, self.uuid = t, lv, bdf, name, uuid
        self.listener = libvirt.Listener(os.path.join(lv.folder, name + ".serial"))
        t.defer(self.listener.sock.close)
        self.guest = Guest(lv.folder, lambda line: t.note("|", line))
        self.guest.errors = lv.path(f"/var/log/libvirt/qemu/{name}.log")
        t.defer(self.hang_up)
        with open(EXAMPLE, encoding="utf-8") as file:
            self.root = ET.fromstring(file.read())
        root = self.root
        root.set("type", "qemu")
        root.find("name").text = name
        root.find("uuid").text = uuid
        for tag, text, attributes in (("memory", MEMORY.rstrip("M"), {"unit": "MiB"}), ("vcpu", "1", {}), ("cpu", None, {"mode": "maximum"})):
            element = root.find(tag)
            element.text = text
            element.attrib = attributes
        for tag, text in (("kernel", "/run/guest/bzImage"), ("initrd", "/run/guest/initramfs"),
                          ("cmdline", "console=ttyS0 quiet panic=-1 pci=hpiosize=0")):
            ET.SubElement(root.find("os"), tag).text = text
        devices = root.find("devices")
        devices.find("emulator").text = "/run/qemu/qemu"
        devices.remove(devices.find("disk"))
        serial = ET.SubElement(devices, "serial", type="unix")
        ET.SubElement(serial, "source", mode="connect", path=self.listener.path)
        ET.SubElement(devices, "controller", type="usb", model="none")
        ET.SubElement(devices, "memballoon", model="none")
        self.device().set("bdf", bdf)
        self.argument().set("value", self.argument().get("value").replace("0000_01_00.0", bdf.replace(":", "_")).replace(UUID, uuid))

    def device(self):
        return self.root.find(f"metadata/{TDID}vm/{TDID}device")

    def argument(self):
        """What QEMU is told of the function."""
        return self.root.findall(f"{QEMU}commandline/{QEMU}arg")[1]

    def define(self):
        path = os.path.join(self.lv.folder, self.name + ".xml")
        ET.ElementTree(self.root).write(path)
        self.lv.virsh("define", path)
        return self

    def hang_up(self):
        if self.guest.serial:
            self.guest.serial.close()
        self.guest.serial = None

    def start(self):
        """Returns when the guest's program is ready."""
        self.hang_up()
        self.listener.forget()
        self.lv.virsh("start", self.name)
        self.guest.serial = Line("the guest", self.listener.accept(), self.guest.log)
        self.guest.ready()

    def refused(self, *texts):
        """It does not start, for this reason, and nothing is left of it."""
        said = self.lv.refused("start", self.name)
        for text in texts:
            contains(said, text, "what virsh says")
        self.over()
        return said

    def pid(self):
        """QEMU's, as this side of the namespaces has it."""
        with open(self.lv.path(f"/run/libvirt/qemu/{self.name}.pid"), encoding="utf-8") as file:
            inside = int(file.read())
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/status", encoding="utf-8") as file:
                    numbers = re.search(r"^NSpid:(.*)$", file.read(), re.M)[1].split()
                if len(numbers) > 1 and numbers[-1] == str(inside) and "qemu" in os.readlink(f"/proc/{entry}/exe") + self.words(entry):
                    return int(entry)
            except (OSError, TypeError):
                continue
        raise AssertionError("libvirt's QEMU is nowhere")

    @staticmethod
    def words(pid):
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read()

    def vm(self):
        return self.t.client.find_vm(self.uuid)

    def over(self):
        """The domain does not run, its VM is gone and its function as it was, all of that at once: its hook has waited for it."""
        check(self.name not in self.lv.running(), "the domain runs")
        vms = self.t.tdictl.json("vm", "list")["vms"]
        equal([v["uuid"] for v in vms if v["uuid"] == self.uuid], [], "VMs of the domain")
        self.t.free(self.bdf)
        self.t.unchanged(self.bdf)
        equal(os.path.exists(self.lv.path("/run/tdid-hook/" + self.uuid)), False, "the hook's file")


@libvirt_scenario("edu")
def libvirt_life(t):
    """A domain starts, is reset and rebooted, outlives libvirtd, which finds it again, shuts itself down, starts again and is destroyed."""
    edu, lv = t.host.bdf("edu"), started(t)
    domain = Domain(t, lv, edu).define()
    domain.start()
    vm = domain.vm()
    equal((vm.phase() in ("sealed", "running"), str(vm.get("Name"))), (True, "guest1"), "phase and name")
    pid = domain.pid()
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        contains(file.read(), f"\nUid:\t{libvirt.UID}\t{libvirt.UID}\t", "status of QEMU")
    equal(next(d["guest_rid"] for d in vm.describe()["tdis"]), 0x100, "guest_rid")
    equal([d for d in t.host.descriptors(pid) if re.match(r"/dev/vfio|/dev/iommu|/sys/", d)], [], "what QEMU has open of the device")
    domain.guest.do("edu")
    domain.guest.serial.skip()
    lv.virsh("reset", "guest1")
    domain.guest.ready()
    domain.guest.serial.skip()
    domain.guest.tell("reboot")
    domain.guest.ready()
    domain.guest.do("edu")
    hooks = ["prepare", "start", "started"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        lv.restart(number)
        equal(lv.running(), ["guest1"], "domains after libvirtd's restart")
        hooks.append("reconnect")
        # It answers its clients before that.
        eventually(lambda: lv.hooks("guest1") == hooks, f"libvirtd has called its hooks for {hooks}")
    equal((domain.pid(), domain.vm().path), (pid, vm.path), "QEMU and VM after libvirtd's restart")
    domain.guest.do("edu")
    domain.guest.tell("poweroff")
    eventually(lambda: not lv.running(), "the domain has ended", 60)
    domain.over()
    domain.start()
    domain.guest.do("edu")
    lv.virsh("destroy", "guest1")
    domain.over()


@libvirt_scenario("edu:2")
def libvirt_refused(t):
    """What ends a start: a QEMU that does not come up, one without its device, mistakes, and tdid's refusals; virsh says which, and nothing is left."""
    (edu, other), lv = t.host.bdfs("edu", 2), started(t)
    domain = Domain(t, lv, edu)

    # A VMM that never starts: it has been prepared for.
    value = domain.argument().get("value")
    domain.argument().set("value", "no-such-device")
    domain.define().refused("no-such-device")
    equal(lv.hooks("guest1"), ["prepare", "start", "stopped", "release"], "what libvirtd has called its hooks for")

    # One that leaves the function out.
    domain.argument().set("value", '{"driver":"pci-testdev","bus":"pci.1"}')
    domain.define().refused(f"QEMU has not connected to {edu} at ", f"/vm/{UUID}/", "vfio-user-pci")

    # Mistakes, which are found before anything is prepared.
    domain.argument().set("value", value)
    domain.device().set("guest_rid", "much")
    domain.define().refused("guest_rid is a number from 0 to 65535, not 'much'")
    domain.device().attrib.pop("guest_rid")
    memory = domain.root.find("memoryBacking")
    domain.root.remove(memory)
    domain.define().refused("<access mode='shared'/>")
    domain.root.append(memory)

    # The same function in two domains; the second has another one, too, and gets neither.
    domain.define().start()
    second = Domain(t, lv, other, "guest2", OTHER_UUID)
    ET.SubElement(second.root.find(f"metadata/{TDID}vm"), TDID + "device", bdf=edu)
    said = second.define().lv.refused("start", "guest2")
    contains(said, "tdid could not prepare the domain's functions", "what virsh says")
    contains(said, edu, "what virsh says")
    t.value("refusal", said.strip().splitlines()[-1])
    t.free(other)
    domain.guest.do("edu")

    lv.virsh("destroy", "guest1")
    domain.over()

    # Without tdid there is no domain, but others are not touched.
    t.daemon.stop()
    contains(lv.refused("start", "guest1"), "tdid", "what virsh says")
    plain = Domain(t, lv, other, "plain", OTHER_UUID.replace("5", "6"))
    plain.root.remove(plain.root.find("metadata"))
    plain.root.remove(plain.root.find(f"{QEMU}commandline"))
    plain.define().start()
    lv.virsh("destroy", "plain")
    t.daemon.start()
    t.free(edu, other)


@libvirt_scenario("edu")
def libvirt_killed(t):
    """libvirtd is killed while tdid prepares a domain: nothing is left, and another libvirtd starts the domain."""
    edu, lv = t.host.bdf("edu"), started(t)
    domain = Domain(t, lv, edu).define()
    rules = Rules(t.host.client)
    t.defer(rules.clear)
    rules.add("slow", call="VFIO_DEVICE_BIND_IOMMUFD", delay_ms=3000, times=1)
    virsh = lv.begin("start", "guest1")
    eventually(lambda: rules.sleeping() > 0, "tdid prepares the function", 60)
    lv.end_daemon(signal.SIGKILL)
    virsh.wait(60)
    rules.clear()
    t.free(edu)
    t.unchanged(edu)
    lv.start_daemon()
    domain.start()
    domain.guest.do("edu")
    # Nobody tells the hook of this one's end, but that the next libvirtd finds it gone.
    lv.end_daemon(signal.SIGKILL)
    vm = domain.vm()
    os.kill(domain.pid(), signal.SIGKILL)
    t.gone(vm)
    lv.start_daemon()
    eventually(lambda: not lv.running(), "the domain has ended", 60)
    domain.over()
