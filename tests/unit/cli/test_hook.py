# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdid-hook as libvirt calls it, against fake-tdid: what it reads of a domain, what it makes of it, and what it leaves alone.

usage: test_hook.py TDID-HOOK FAKE-TDID TDICTL [EXAMPLE.xml...]
"""
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from private_bus import PrivateBus

HOOK, FAKE, TDICTL = (os.path.abspath(a) for a in sys.argv[1:4])
UUID = "4dea22b3-1d52-48f3-8756-4a0b1b0b8f0e"
NAMESPACE = "urn:tdid:libvirt:1"
DAC = "<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64056</label></seclabel>"
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"


def vm(devices="<tdid:device bdf='0000:01:00.0'/>", attributes="", namespace=NAMESPACE):
    return f"<tdid:vm xmlns:tdid='{namespace}' {attributes}>{devices}</tdid:vm>"


def domain(metadata=None, name="guest", uuid=UUID, memory=SHARED, labels=DAC, more=""):
    """As libvirt writes one."""
    metadata = vm() if metadata is None else metadata
    return f"""<domain type='kvm' id='1'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    <app:other xmlns:app="http://example.org/app"><app:vm hotplug="x"/></app:other>
    {metadata}
  </metadata>
  <memory unit='KiB'>81920</memory>
  {memory}
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
  {labels}
  {more}
</domain>
"""


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = os.path.join(folder.name, "hook")
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}

    def call(self, operation, xml, sub=None, name="guest"):
        sub = sub or ("end" if operation in ("stopped", "release") else "begin")
        return subprocess.run([HOOK, "--state", self.state, name, operation, sub, "-"], input=xml, env=self.environment, capture_output=True,
                              text=True, timeout=60, check=False)

    def ok(self, operation, xml, **kw):
        r = self.call(operation, xml, **kw)
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "", ""), operation)

    def refused(self, operation, xml, *texts, **kw):
        r = self.call(operation, xml, **kw)
        self.assertEqual((r.returncode, r.stdout), (1, ""), r.stderr)
        self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        self.assertTrue(r.stderr.startswith("tdid-hook: domain guest: "), r.stderr)
        for text in texts:
            self.assertIn(text, r.stderr)
        return r.stderr

    def marks(self):
        return os.listdir(self.state) if os.path.isdir(self.state) else []


OPERATIONS = ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach")


class WithoutTdid(Case):
    def test_other_domains_feel_nothing(self):
        for xml in (domain(""), "", "no XML", "<domain>", domain(f"<x:vm xmlns:x='http://example.org'>{NAMESPACE}</x:vm>"),
                    domain("", more=f"<title>{NAMESPACE}</title>"), "\0" * 100):
            for operation in OPERATIONS:
                self.ok(operation, xml)
        self.assertEqual(self.marks(), [])

    def test_other_operations(self):
        for operation, sub in (("define", "begin"), ("prepare", "end"), ("start", "end"), ("release", "begin"), ("", "")):
            self.ok(operation, domain(), sub=sub)

    def test_prepare_asks_nobody(self):
        self.ok("prepare", domain())

    def test_unreachable(self):
        self.refused("start", domain(), "cannot reach tdid")
        self.refused("started", domain(), "cannot reach tdid")
        # The domain runs: it must not end for this.
        r = self.call("reconnect", domain())
        self.assertEqual((r.returncode, r.stdout), (0, ""))
        self.assertIn("tdid cannot be asked", r.stderr)
        # It never had a VM.
        self.ok("stopped", domain())
        self.ok("release", domain())

    def test_moving(self):
        self.refused("migrate", domain(), "cannot be migrated")
        self.refused("restore", domain(), "cannot be restored")

    def test_usage(self):
        for words in ([], ["guest"], ["guest", "start"], ["--nothing", "guest", "start", "begin", "-"]):
            r = subprocess.run([HOOK, *words], input="", capture_output=True, text=True, timeout=20, check=False)
            self.assertEqual((r.returncode, r.stdout), (2, ""))
        for word in ("--help", "--version"):
            r = subprocess.run([HOOK, word], input="", capture_output=True, text=True, timeout=20, check=False)
            self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_examples(self):
        for path in sys.argv[4:]:
            with open(path, encoding="utf-8") as file:
                self.ok("prepare", file.read())

    def test_mistakes(self):
        for metadata, text in (
                (vm(""), "has no <tdid:device>"),
                (vm("<tdid:device/>"), "has no bdf"),
                (vm("<tdid:device bdf='1:0.0'/>"), "bdf='1:0.0' is no PCI function"),
                (vm("<tdid:device bdf='01:00.0'/><tdid:device bdf='pci_0000_01_00_0'/>"), "0000:01:00.0 is there twice"),
                (vm("<tdid:device bdf='01:00.0' guest_rid='65536'/>"), "guest_rid is a number from 0 to 65535, not '65536'"),
                (vm("<tdid:device bdf='01:00.0' guest_rid='-1'/>"), "guest_rid is a number"),
                (vm("<tdid:device bdf='01:00.0' guest_rid='0x'/>"), "guest_rid is a number"),
                (vm("<tdid:device bdf='01:00.0' guest_rid='0x10 '/>"), "guest_rid is a number"),
                (vm("<tdid:device bdf='01:00.0' bind='never'/>"), "bind is 'late' or 'early'"),
                (vm("<tdid:device bdf='01:00.0' force='1'/>"), "force is 'yes' or 'no'"),
                (vm("<tdid:device bdf='01:00.0' colour='red'/>"), "<tdid:device> has no attribute 'colour'"),
                (vm("<tdid:device bdf='01:00.0'><address/></tdid:device>"), "no elements of its own, such as <address>"),
                (vm("<device bdf='01:00.0'/>"), "none called <device>"),
                (vm("<tdid:disk/>"), "none called <disk>"),
                (vm(attributes="hotplug='maybe'"), "hotplug is 'yes' or 'no'"),
                (vm(attributes="await_vmm='601'"), "await_vmm is a number from 0 to 600"),
                (vm(attributes="await_vmm='0'"), "waits for nothing"),
                (vm(attributes="name='-x'"), "name='-x': a VM's name"),
                (vm(attributes="owner='0'"), "<tdid:vm> has no attribute 'owner'"),
                (vm(namespace="urn:tdid:libvirt:2"), "of the namespace urn:tdid:libvirt:2, and this hook knows urn:tdid:libvirt:1"),
                (vm() + vm(), "several elements of ours"),
                (f"<tdid:device xmlns:tdid='{NAMESPACE}' bdf='01:00.0'/>", "belongs into one <tdid:vm>"),
                (f"<tdid:devices xmlns:tdid='{NAMESPACE}'/>", "the metadata's element is <tdid:vm>, not <tdid:devices>"),
                (vm("".join(f"<tdid:device bdf='{n >> 8:04x}:{n & 255:02x}:00.0'/>" for n in range(257))), "there are 257 functions")):
            for operation in ("prepare", "start"):
                self.refused(operation, domain(metadata), text)
            # Whatever the rest says, the domain's end is its end.
            self.ok("release", domain(metadata))
        self.refused("prepare", domain(name="two words"), "cannot be called as the domain is", "<tdid:vm name=")
        self.ok("prepare", domain(vm(attributes="name='two.words'"), name="two words"))
        self.refused("prepare", domain()[:-12], "not what libvirt gives")
        self.refused("prepare", domain(uuid="../../etc/x"), "no name or no UUID")
        self.refused("prepare", domain().replace("<domain", "<domains").replace("</domain", "</domains"), "not what libvirt gives")

    def test_memory(self):
        self.refused("prepare", domain(memory=""), "<access mode='shared'/>")
        self.refused("start", domain(memory="<memoryBacking><access mode='private'/></memoryBacking>"), "<access mode='shared'/>")
        self.ok("prepare", domain(memory="<cpu><numa><cell id='0' memAccess='shared'/></numa></cpu>"))
        qemu = "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='{}'/></q:commandline>"
        self.refused("prepare", domain(memory=qemu.format("-S")), "<access mode='shared'/>")
        self.ok("prepare", domain(memory=qemu.format("memory-backend-memfd,id=m,size=1G,share=on")))

    def test_users(self):
        self.refused("start", domain(labels=""), "which user and group", "vmm_user")
        self.refused("start", domain(labels="<seclabel type='none' model='dac'><label>+1:+1</label></seclabel>"), "which user and group")
        self.refused("start", domain(labels=DAC.replace("+64056", "")), "there is no group ''")
        self.refused("start", domain(labels=DAC.replace("+64055", "no-such-user")), "there is no user 'no-such-user'")
        self.refused("start", domain(vm(attributes="vmm_group='4294967295'")), "there is no group '4294967295'")


class WithTdid(Case):
    @classmethod
    def setUpClass(cls):
        cls.bus = PrivateBus().__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.bus.__exit__()

    def setUp(self):
        super().setUp()
        self.environment = self.bus.environment
        self.fake = subprocess.Popen([FAKE], env=self.environment, stdout=subprocess.PIPE, text=True)
        self.assertEqual(self.fake.stdout.readline(), "ready\n")

        def end():
            self.fake.kill()
            self.fake.wait()
            self.fake.stdout.close()
        self.addCleanup(end)

    def tdictl(self, *words):
        r = subprocess.run([TDICTL, "--json", *words], env=self.environment, capture_output=True, text=True, timeout=20, check=False)
        return json.loads(r.stdout)

    def vms(self):
        return self.tdictl("vm", "list")["vms"]

    def vm(self):
        return self.tdictl("vm", "show", UUID)["vms"][0]

    def test_life(self):
        devices = "<tdid:device bdf='01:00.0'/><!-- and --><tdid:device bdf='pci_0000_04_00_0' guest_rid='0x0108' bind='early' connect='no' force='yes' vf_token='t'/>"
        xml = domain(vm(devices.replace("04", "07")))
        self.ok("prepare", xml)
        self.assertEqual(self.vms(), [])
        self.ok("start", xml)
        self.assertEqual(self.marks(), [UUID])
        made = self.vm()
        self.assertEqual((made["name"], made["uuid"], made["phase"]), ("guest", UUID, "sealed"))
        for option in (f"uuid=s:{UUID};", "vmm_uid=u:64055;", "vmm_gid=u:64056;", "await_vmm=u:600;"):
            self.assertIn(option, made["options"])
        for option in ("seclabel", "hotplug", "platform", "bind", "peer_to_peer", "owner_uid"):
            self.assertNotIn(option, made["options"])
        self.assertIn("0000:01:00.0:0000:07:00.0:", made["seen"])
        for option in ("guest_rid=u:264;", "bind=s:early;", "force=b:1;", "vf_token=s:t;"):
            self.assertIn(option, made["seen"])
        # Its lease is over with the hook: the VM waits for its VMM.
        self.assertEqual([k["kind"] for k in made["keepers"]], ["await"])
        self.ok("stopped", xml)
        self.assertEqual((self.vms(), self.marks()), ([], []))
        self.ok("release", xml)

    def test_options(self):
        labels = "<seclabel type='dynamic' model='apparmor'><label>libvirt-" + UUID + "</label></seclabel>"
        attributes = "name='x' platform='plain' bind='late' hotplug='yes' peer_to_peer='no' await_vmm='7' vmm_user='root' vmm_group='12'"
        self.ok("start", domain(vm("", attributes), labels=labels))
        made = self.vm()
        self.assertEqual(made["name"], "x")
        for option in ("vmm_uid=u:0;", "vmm_gid=u:12;", "await_vmm=u:7;", "hotplug=b:1;", "platform=s:plain;", "bind=s:late;", f"seclabel=s:libvirt-{UUID};"):
            self.assertIn(option, made["options"])
        self.ok("release", domain(vm("", attributes)))
        self.assertEqual(self.vms(), [])

    def test_names_of_users(self):
        self.ok("start", domain(labels="<seclabel type='static' model='dac'><label>root:root</label></seclabel>"))
        self.assertIn("vmm_uid=u:0;", self.vm()["options"])

    def test_no_label(self):
        """<label> of a seclabel that is switched off is none."""
        self.ok("start", domain(labels=DAC + "<seclabel type='none' model='selinux'><label>x</label></seclabel>"))
        self.assertNotIn("seclabel", self.vm()["options"])

    def test_refused(self):
        """What tdid refuses ends the start, and nothing is left."""
        self.refused("start", domain(vm("<tdid:device bdf='06:00.0'/>")), "could not prepare the domain's functions", "0000:06:00.0")
        self.refused("start", domain(vm("<tdid:device bdf='ff:00.0'/>")), "There is no PCI function 0000:ff:00.0")
        self.refused("start", domain(vm("<tdid:device bdf='03:00.0'/>")), "could not prepare")
        self.assertEqual((self.vms(), self.marks()), ([], []))

    def test_two_domains(self):
        self.ok("start", domain())
        other = domain(vm("<tdid:device bdf='07:00.0'/>"), name="other", uuid=UUID.replace("4", "5"))
        self.ok("start", other)
        self.assertEqual(len(self.vms()), 2)
        self.ok("stopped", other)
        self.assertEqual([v["uuid"] for v in self.vms()], [UUID])

    def test_never_connected(self):
        self.ok("start", domain())
        self.ok("started", domain())
        self.ok("stopped", domain())
        xml = domain(vm("<tdid:device bdf='0b:00.0'/>"))
        self.ok("start", xml)
        self.refused("started", xml, f"QEMU has not connected to 0000:0b:00.0 at /state/vm/{UUID}/0000:0b:00.0", "vfio-user-pci")
        self.ok("stopped", xml)
        self.refused("started", xml, "tdid does not have the domain's VM any more")

    def test_stale(self):
        """A VM that an earlier run of the domain has left is replaced."""
        self.ok("start", domain())
        before = self.vm()["id"]
        self.ok("start", domain())
        self.assertNotEqual(self.vm()["id"], before)
        self.assertEqual(len(self.vms()), 1)
        # So it is when nothing says any more whose it was.
        os.unlink(os.path.join(self.state, UUID))
        before = self.vm()["id"]
        self.ok("start", domain())
        self.assertNotEqual(self.vm()["id"], before)

    def test_foreign(self):
        """A VM that somebody else keeps is left alone, by the domain's start and by its end."""
        holder = subprocess.Popen([TDICTL, "vm", "create", "guest", "--uuid", UUID, "--hold", "--", "sleep", "60"], env=self.environment)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.terminate)
        self.wait_vm()
        before = self.vm()
        self.refused("start", domain(), "already, which a lease keeps", f"tdictl vm destroy {UUID}")
        self.ok("stopped", domain())
        self.ok("release", domain())
        self.assertEqual((self.vm()["id"], self.marks()), (before["id"], []))

    def test_reconnect(self):
        self.ok("start", domain())
        os.unlink(os.path.join(self.state, UUID))
        self.ok("reconnect", domain())
        self.assertEqual(self.marks(), [UUID])
        self.ok("release", domain())
        self.assertEqual(self.vms(), [])
        r = self.call("reconnect", domain())
        self.assertEqual((r.returncode, r.stdout), (0, ""))
        self.assertIn("runs on without its functions", r.stderr)
        xml = domain(vm("<tdid:device bdf='0b:00.0'/>"))
        self.ok("start", xml)
        r = self.call("reconnect", xml)
        self.assertEqual(r.returncode, 0)
        self.assertIn("no connection to 0000:0b:00.0", r.stderr)

    def begin(self, xml, *before):
        hook = subprocess.Popen([*before, HOOK, "--state", self.state, "guest", "start", "begin", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=self.environment, text=True)
        self.addCleanup(hook.wait)
        self.addCleanup(hook.stderr.close)
        hook.stdin.write(xml)
        hook.stdin.close()
        self.wait_vm()
        return hook

    def wait_vm(self):
        until = time.monotonic() + 20
        while not self.vms() and time.monotonic() < until:
            time.sleep(0.02)
        self.assertEqual(len(self.vms()), 1)

    def test_signal(self):
        hook = self.begin(domain(vm("<tdid:device bdf='04:00.0'/>")))
        hook.send_signal(signal.SIGTERM)
        self.assertEqual(hook.wait(20), 1)
        self.assertIn("the hook was told to end", hook.stderr.read())
        self.assertEqual((self.vms(), self.marks()), ([], []))

    def test_parent_ends(self):
        """libvirtd is killed while its hook prepares: nobody would start that domain."""
        shell = self.begin(domain(vm("<tdid:device bdf='04:00.0'/>")), "/bin/sh", "-c", 'exec 3<&0; "$0" "$@" <&3 & wait')
        shell.kill()
        until = time.monotonic() + 20
        while (self.vms() or self.marks()) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual((self.vms(), self.marks()), ([], []))

    def test_one_at_a_time(self):
        """While a hook works for a domain, the next waits."""
        self.ok("start", domain())
        fd = os.open(os.path.join(self.state, UUID), os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        hook = subprocess.Popen([HOOK, "--state", self.state, "guest", "stopped", "end", "-"], stdin=subprocess.PIPE, env=self.environment, text=True)
        self.addCleanup(hook.wait)
        hook.stdin.write(domain())
        hook.stdin.close()
        with self.assertRaises(subprocess.TimeoutExpired):
            hook.wait(0.5)
        self.assertEqual(len(self.vms()), 1)
        os.close(fd)
        self.assertEqual(hook.wait(20), 0)
        self.assertEqual((self.vms(), self.marks()), ([], []))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
