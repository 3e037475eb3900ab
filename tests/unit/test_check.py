# SPDX-License-Identifier: LGPL-2.1-or-later
"""The checks of `tdictl check`: on simulated machines that lack one thing each, on trees in a folder, and by their table. Every check has to pass
and to find something wrong at least once here, and everything that it may advise has to be advised.

usage: test_check.py TDICTL TDI-SIM CHECK-FAKE SOURCE-ROOT      TDID_GOLDEN=write: write the goldens anew
"""
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest

import manual

TDICTL, SIM, FAKE, ROOT = (os.path.abspath(a) for a in sys.argv[1:5])
sys.path.insert(0, os.path.join(ROOT, "tests/scenario"))

from kit.simclient import SimClient  # noqa: E402  pylint: disable=wrong-import-position

GOLDEN = os.path.join(ROOT, "tests/unit/data/check")
EXAMPLES = os.path.join(ROOT, "libtdi/sim/examples")
RELEASE = "7.3.4-tdi-sim"
CONFIG = """IOMMUFD VFIO_PCI VFIO_DEVICE_CDEV MEMFD_CREATE SECCOMP_FILTER KVM VFIO_PCI_DMABUF PCI_P2PDMA UDMABUF MEMCG BPF_LSM DEBUG_INFO_BTF
PCI_IOV PCI_TSM PCI_IDE PCI_DOE IO_STRICT_DEVMEM DEVMEM""".split()
DENY = [{"name": "nothing", "decision": "deny"}]


def config(without=(), release=RELEASE):
    return {f"/boot/config-{release}": "".join(f"# CONFIG_{x} is not set\n" if x in without else f"CONFIG_{x}=y\n" for x in CONFIG)}


# What a host has that somebody has set up well, as far as the simulation does not.
GOOD = {
    **config(),
    "/sys/module/iommufd/parameters/allow_unsafe_interrupts": "N",
    "/sys/kernel/security/lsm": "lockdown,capability,landlock,yama,apparmor,bpf",
    "/sys/kernel/security/lockdown": "[none] integrity confidentiality",
    "/sys/kernel/btf/vmlinux": "types",
    "/proc/sys/fs/nr_open": "1048576",
    "/proc/meminfo": "MemTotal:       65536 kB\nHugePages_Total:      16\nHugePages_Free:       12\nHugepagesize:       2048 kB",
    "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids",
    "/run/systemd/system/x": "",
    "/usr/lib/systemd/system/tdid.service": "",
    "/usr/share/dbus-1/system.d/org.tdid1.conf": "",
    "/usr/share/polkit-1/actions/org.tdid1.policy": "",
}
PORT = {"bdf": "0000:00:01.0", "bus": "01", "ide": True}
EDU = {"bdf": "0000:01:00.0", "model": "edu", "flr": True}
TEE = {**EDU, "tee_io": True, "ide": True, "doe": True}
DOMAIN = """<domain type='kvm'>
  <name>web</name>
  <devices>
    <disk type='file'><source file='/var/x'/><target dev='vda'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'/>
    </disk>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <driver name='vfio'/>
      <source>
        <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
      </source>
      <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/>
    </hostdev>
  </devices>
</domain>"""


def fails(call, errno, **rest):
    return {"call": call, "errno": errno, **rest}


def machine(platform="plain", functions=(EDU,), ports=(PORT,), files=None, faults=(), **rest):
    return {"schema": "tdi-sim/1", "platform": platform, "ports": list(ports), "functions": list(functions), "files": {**GOOD, **(files or {})}, "faults": list(faults), **rest}


def tdx(**rest):
    return machine("tdx", **{"functions": [TEE], "tsms": [{"name": "tsm0", "parent": "tdx_host", "accepts": "all"}], "bind_module": True, **rest})


# Name: (machine, what has to be found: {check: verdict, or verdict and part of the reason}).
MACHINES = {
    "plain, well set up": (machine(), {"platform.recognised": ("pass", "plain: functions go to ordinary VMs"), "kvm.vm_types": ("skip", "neither TDX nor SEV-SNP"),
                                       "platform.tsm": ("skip", "nothing here"), "platform.bind": "skip", "device.tee_io": ("skip", "assigned without"),
                                       "device.ide": "skip", "device.doe": "skip", "others.users": ("pass", "no function is on a VFIO driver")}),
    "tdx, well set up": (tdx(), {"kvm.vm_types": ("pass", "KVM_X86_TDX_VM"), "platform.tsm": ("pass", "tsm0 of tdx_host"), "platform.bind": ("pass", "tdid-bind"),
                                 "device.tee_io": "pass", "device.ide": "pass", "device.doe": "pass", "platform.viommu": ("skip", "needs none")}),
    "sev-snp": (machine("sev-snp", [TEE], tsms=[{"name": "tsm0", "parent": "x", "driver": "ccp", "accepts": "all"}]),
                {"kvm.vm_types": ("pass", "KVM_X86_SNP_VM"), "platform.bind": ("warn", "neither iommufd nor a module")}),
    "cca": (machine("cca", [TEE], tsms=[{"name": "tsm0", "parent": "arm-cca-host", "accepts": "all"}]),
            {"platform.viommu": ("pass", "makes vIOMMUs"), "kvm.vm_types": ("skip", "makes no Realms")}),
    "cca without vIOMMUs": (machine("cca", [TEE], tsms=[{"name": "tsm0", "parent": "arm-cca-host", "accepts": "all"}], faults=[fails("IOMMU_VIOMMU_ALLOC", "ENOTTY")]),
                            {"platform.viommu": ("warn", "arm-smmuv3")}),
    "pkvm": (machine("pkvm"), {"platform.recognised": ("pass", "pkvm"), "platform.tsm": "skip", "kvm.vm_types": "skip"}),
    "a kernel that is too old": (machine(files={"/proc/sys/kernel/osrelease": "6.6.1", **config(release="6.6.1")}, faults=[fails("IOMMU_IOAS_MAP_FILE", "ENOTTY")]),
                                 {"kernel.version": ("fail", "Linux 6.6.1"), "vfio.map_file": ("fail", "IOMMU_IOAS_MAP_FILE"), "vfio.dmabuf": ("warn", "older")}),
    "a kernel without TSMs": (tdx(files={"/proc/sys/kernel/osrelease": "6.15.0", **config(release="6.15.0")}), {"kernel.version": ("warn", "not connect")}),
    "one where nobody misses them": (machine(files={"/proc/sys/kernel/osrelease": "6.15.0", **config(release="6.15.0")}), {"kernel.version": "pass", "vfio.dmabuf": "warn"}),
    "options without which nothing goes": (machine(files=config(["IOMMUFD", "KVM"])), {"kernel.options": ("fail", "without CONFIG_IOMMUFD nothing")}),
    "options that are of use": (machine(files=config(["BPF_LSM", "PCI_TSM"])), {"kernel.options": ("warn", "CONFIG_BPF_LSM (the guard) (")}),
    "the same with a TSM": (tdx(files=config(["PCI_TSM"])), {"kernel.options": ("warn", "CONFIG_PCI_TSM (TSMs)")}),
    "no dma-bufs": (machine(files=config(["PCI_P2PDMA"])), {"vfio.dmabuf": ("warn", "CONFIG_PCI_P2PDMA")}),
    "no IOMMU, Intel": (machine(faults=[fails("list:class/iommu", "ENOENT"), fails("readlink:iommu_group", "ENOENT")]),
                        {"iommu.present": ("fail", "uses none"), "iommu.groups": ("fail", "no IOMMU group")}),
    "no IOMMU, AMD": (machine("sev-snp", faults=[fails("list:class/iommu", "ENOENT")]), {"iommu.present": "fail"}),
    "IOMMU turned off": (machine(files={"/proc/cmdline": "quiet intel_iommu=off"}, faults=[fails("list:class/iommu", "ENOENT")]), {"iommu.present": ("fail", "intel_iommu=off")}),
    "one function without IOMMU": (machine(functions=[EDU, {**EDU, "bdf": "0000:02:00.0"}], ports=[PORT, {"bdf": "0000:00:02.0", "bus": "02"}],
                                           faults=[fails("readlink:iommu_group", "ENOENT", device="0000:01:00.0")]), {"iommu.groups": ("warn", "1 of 2 functions are in no")}),
    "two cards in a group": (machine(functions=[{**EDU, "group": "x"}, {**EDU, "bdf": "0000:02:00.0", "group": "x"}], ports=[PORT, {"bdf": "0000:00:02.0", "bus": "02"}]),
                             {"iommu.groups": ("warn", "2 of 2 functions cannot go")}),
    "unsafe interrupts": (machine(files={"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "Y"}), {"iommu.interrupts": ("warn", "vfio_iommu_type1")}),
    "no iommufd": (machine(faults=[fails("open:dev/iommu", "ENOENT")]), {"vfio.iommufd": ("fail", "no /dev/iommu"), "vfio.map_file": ("skip", "ENOENT")}),
    "iommufd out of order": (machine(faults=[fails("open:dev/iommu", "EIO")]), {"vfio.iommufd": ("fail", "EIO")}),
    "iommufd not for this user": (tdx(bind_module=False, faults=[fails("open:dev/iommu", "EACCES"), fails("open:dev/kvm", "EACCES"), fails("open:udmabuf", "EACCES")]),
                                  {"vfio.iommufd": ("skip", "as root"), "vfio.map_file": ("skip", "as root"), "platform.bind": ("skip", "as root"), "kvm.device": ("skip", "group kvm"),
                                   "kvm.vm_types": ("skip", "as root"), "vfio.pools": ("skip", "as root")}),
    "no vfio-pci": (machine(faults=[fails("list:drivers/vfio-pci", "ENOENT")]), {"vfio.pci": ("fail", "vfio-pci is not there")}),
    "no character devices": (machine(files={"/proc/devices": "Character devices:\n 10 misc\n242 vfio\n\nBlock devices:"}), {"vfio.cdev": ("fail", "no vfio-dev")}),
    "no udmabuf": (machine(faults=[fails("open:udmabuf", "ENOENT")]), {"vfio.pools": ("warn", "ENOENT")}),
    "no KVM": (machine(faults=[fails("open:dev/kvm", "ENOENT")]), {"kvm.device": ("fail", "no guest runs here")}),
    "KVM out of order": (machine(faults=[fails("open:dev/kvm", "EIO")]), {"kvm.device": ("fail", "EIO")}),
    "TDX not turned on": (machine("tdx", files={"/sys/module/kvm_intel/parameters/tdx": "N"}), {"kvm.vm_types": ("fail", "kvm_intel.tdx is N")}),
    "SNP not turned on": (machine("sev-snp", files={"/sys/module/kvm_amd/parameters/sev_snp": "N"}), {"kvm.vm_types": ("fail", "kvm_amd.sev_snp is N")}),
    "no TSM": (tdx(tsms=[]), {"platform.tsm": ("warn", "no function can be connected"), "platform.recognised": ("pass", "tdx")}),
    "no TSM, but a card for one": (machine(functions=[TEE]), {"platform.tsm": ("warn", "functions with TEE-IO")}),
    "a TSM that nobody knows": (machine("tdx", [TEE], tsms=[{"name": "tsm0", "parent": "whose"}]), {"platform.tsm": ("warn", "tsm0 of whose")}),
    "another platform's TSM": (machine("sev-snp", [TEE], tsms=[{"name": "tsm0", "parent": "tdx_host"}]), {"platform.recognised": ("warn", "sev_snp is Y")}),
    "TEE-IO without IDE": (tdx(functions=[{**EDU, "tee_io": True}]), {"device.tee_io": ("warn", "1 of 1 functions"), "device.ide": "skip", "device.doe": "skip"}),
    "a port without IDE": (tdx(ports=[{**PORT, "ide": False}]), {"device.ide": ("warn", "root port")}),
    "lockdown": (machine(files={"/sys/kernel/security/lockdown": "none [integrity] confidentiality"}), {"security.lockdown": ("warn", "integrity"), "security.devmem": ("pass", "lockdown")}),
    "more lockdown": (machine(files={"/sys/kernel/security/lockdown": "none integrity [confidentiality]"}), {"security.lockdown": ("warn", "confidentiality")}),
    "iomem=relaxed": (machine(files={"/proc/cmdline": "iomem=relaxed"}), {"security.devmem": ("warn", "iomem=relaxed")}),
    "no strict /dev/mem": (machine(files=config(["IO_STRICT_DEVMEM"])), {"security.devmem": ("warn", "or through /dev/mem")}),
    "no BPF in the list": (machine(files={"/sys/kernel/security/lsm": "lockdown,yama,bpfx"}), {"security.bpf": ("warn", "lockdown,yama,bpfx")}),
    "no BTF": (machine(faults=[fails("open:btf/vmlinux", "ENOENT")]), {"security.bpf": ("warn", "btf")}),
    "no securityfs": (machine(faults=[fails("open:security/lsm", "ENOENT"), fails("open:security/lockdown", "ENOENT")]), {"security.bpf": ("warn", "cannot be seen"), "security.lockdown": "skip"}),
    "no CAP_IPC_LOCK": (machine(files={"/proc/1/status": "Name:\tinit\nCapBnd:\t00000000a80425fb"}), {"limits.memlock": ("warn", "RLIMIT_MEMLOCK")}),
    "few descriptors": (machine(files={"/proc/sys/fs/nr_open": "1024"}), {"limits.nofile": ("warn", "1024")}),
    "no memory controller": (machine(files={"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu"}), {"limits.memcg": ("warn", "no memory controller")}),
    "no huge pages left": (machine(files={"/proc/meminfo": "HugePages_Total:  4\nHugePages_Free:  0\nHugepagesize:  2048 kB"}), {"limits.hugepages": ("warn", "none of 4")}),
    # It is written to below, as a driver's tool would.
    "driver_override": (machine(), {"others.override": ("warn", "1 function has")}),
    "driverctl": (machine(files={"/etc/driverctl.d/0000:01:00.0": "vfio-pci", "/etc/driverctl.d/vmbus-x": "y"}), {"others.driverctl": ("warn", "1 function has")}),
    "libvirt": (machine(files={"/etc/libvirt/qemu/web.xml": DOMAIN, "/etc/libvirt/qemu/networks/default.xml": "<network/>"}), {"others.libvirt": ("warn", "1 <hostdev>")}),
    "libvirt without functions": (machine(files={"/run/libvirt/qemu/a.xml": "<domain/>"}), {"others.libvirt": ("pass", "no PCI function")}),
    "not installed": (machine(faults=[fails("open:system/tdid.service", "ENOENT")]), {"tdid.units": ("warn", "no tdid.service")}),
}


class Simulation:
    def __init__(self, topology, folder):
        self.socket = os.path.join(folder, "socket")
        path = os.path.join(folder, "machine.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(topology, file)
        self.process = subprocess.Popen([SIM, "--socket=" + self.socket, path], stdout=subprocess.PIPE)
        if not self.process.stdout.readline():
            self.__exit__()
            raise AssertionError("the simulation did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.stdout.close()
        self.process.wait(60)


def listed():
    done = subprocess.run([TDICTL, "check", "--list", "--json"], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["checks"]


class Checks(unittest.TestCase):
    maxDiff = None
    seen = {}      # check: verdicts
    advised = {}   # check: remedies

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        self.policy = self.policies("policy", DENY)

    def policies(self, name, rules):
        path = os.path.join(self.folder, name)
        os.mkdir(path)
        if rules is not None:
            with open(os.path.join(path, "50-a.json"), "w", encoding="utf-8") as file:
                file.write(rules if isinstance(rules, str) else json.dumps({"schema": "tdid-policy/1", "rules": rules}))
        return "--policy=" + path

    def tdictl(self, simulation, *arguments, policy=None, code=None):
        done = subprocess.run([TDICTL, "check", "--host=sim:" + simulation.socket, policy or self.policy, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60, check=False, env={**os.environ, "TZ": "UTC"})
        if code is not None:
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def look(self, simulation, *arguments, **rest):
        done = self.tdictl(simulation, "--json", *arguments, **rest)
        self.assertEqual(done.stderr, "")
        doc = json.loads(done.stdout)
        return self.judge(doc, done.returncode)

    def judge(self, doc, code=None):
        """What every answer has to be; the checks by name."""
        checks = {c["id"]: c for c in doc["checks"]}
        self.assertEqual(len(checks), len(doc["checks"]))
        counts = {v: sum(c["verdict"] == v for c in checks.values()) for v in ("pass", "warn", "fail", "skip")}
        worst = next(v for v in ("fail", "warn", "pass", "skip") if counts[v])
        self.assertEqual(doc["summary"], {"verdict": worst, **counts})
        if code is not None:
            self.assertEqual(code, 6 if counts["fail"] else 0)
        for c in checks.values():
            with self.subTest(check=c["id"]):
                self.assertEqual(set(c), {"id", "group", "title", "verdict", "reason", "remedy", "functions", "details"})
                self.assertTrue(c["reason"])
                self.assertEqual(c["remedy"] is not None, c["verdict"] in ("warn", "fail"))
                Checks.seen.setdefault(c["id"], set()).add(c["verdict"])
                Checks.advised.setdefault(c["id"], set()).add(c["remedy"])
        return checks

    def expect(self, checks, expected, also_ok=()):
        for name, want in expected.items():
            verdict, words = (want, "") if isinstance(want, str) else want
            with self.subTest(check=name):
                self.assertEqual(checks[name]["verdict"], verdict, checks[name]["reason"])
                self.assertIn(words, checks[name]["reason"])
        for name, c in checks.items():
            if name not in expected and also_ok is not None:
                with self.subTest(check=name):
                    self.assertIn(c["verdict"], ("pass", "skip", *also_ok), c["reason"])

    def test_machines(self):
        for name, (topology, expected) in MACHINES.items():
            with self.subTest(machine=name), tempfile.TemporaryDirectory() as folder, Simulation(topology, folder) as simulation:
                if name == "driver_override":
                    client = SimClient(simulation.socket)
                    fd = client.open("/sys/bus/pci/devices/0000:01:00.0/driver_override", os.O_WRONLY)
                    client.pwrite(fd, b"vfio-pci")
                    client.close(fd)
                    client.disconnect()
                checks = self.look(simulation)
                # What lacks one thing may well have a word about another.
                self.expect(checks, expected, also_ok=None if "well set up" not in name else ())

    def test_foreign_user_of_vfio(self):
        """Somebody's process has a function open: it is named in the details; and one that only calls itself tdid-vm is no less somebody's."""
        bdf = "0000:01:00.0"
        with Simulation(machine(), self.folder) as simulation:
            client = SimClient(simulation.socket)
            for path, text in ((f"/sys/bus/pci/devices/{bdf}/driver_override", b"vfio-pci"), ("/sys/bus/pci/drivers_probe", bdf.encode())):
                fd = client.open(path, os.O_WRONLY)
                client.pwrite(fd, text)
                client.close(fd)
            if os.geteuid() == 0:
                self.expect(self.look(simulation), {"others.users": ("pass", "nobody but tdid")}, also_ok=("warn",))
            fd = client.open("/dev/vfio/devices/vfio0", os.O_RDWR)
            with open("/proc/self/comm", encoding="utf-8") as file:
                own = file.read().strip()
            for comm in (own, "tdid-vm"):
                with open("/proc/self/comm", "w", encoding="utf-8") as file:
                    file.write(comm)
                users = self.look(simulation)["others.users"]
                self.assertEqual((users["verdict"], users["functions"]), ("warn", []), users["reason"])
                self.assertIn(f"process {os.getpid()} ({comm}) has /dev/vfio/devices/vfio0: {bdf}", "\n".join(users["details"]))
            with open("/proc/self/comm", "w", encoding="utf-8") as file:
                file.write(own)
            client.close(fd)
            client.disconnect()

    def test_policy(self):
        with Simulation(machine(), self.folder) as simulation:
            for name, rules, verdict, words in (("none", None, "pass", "VMs that root owns"), ("bad", '{"schema": "tdid-policy/1", "rules": [{"nmae": 1}]}', "fail", "50-a.json:1:"),
                                                ("two", [*DENY, {"name": "other", "decision": "deny", "match": {"class": "0302"}}], "pass", "2 rules of 1 file")):
                self.expect(self.look(simulation, policy=self.policies(name, rules)), {"tdid.policy": (verdict, words)})

    def test_devices(self):
        """One function, named as people do; one that is not there; what is no function."""
        topology = tdx(functions=[TEE, {**EDU, "bdf": "0000:02:00.0"}], ports=[PORT, {"bdf": "0000:00:02.0", "bus": "02"}])
        with Simulation(topology, self.folder) as simulation:
            for word in ("0000:02:00.0", "02:00.0", "pci_0000_02_00_0"):
                checks = self.look(simulation, "--device=" + word)
                self.expect(checks, {"device.tee_io": ("skip", "none of 1 function"), "iommu.groups": ("pass", "1 function in 1 group")})
            checks = self.look(simulation, "--device=02:00.0", "--device=01:00.0")
            self.assertEqual([f["bdf"] for f in checks["device.tee_io"]["functions"]], ["0000:01:00.0"])
            self.assertIn("There is no PCI function 0000:03:00.0", self.tdictl(simulation, "--device=03:00.0", code=3).stderr)
            self.tdictl(simulation, "--device=x", code=2)
        self.assertIn("could not reach", subprocess.run([TDICTL, "check", "--host=sim:/nonexistent"], capture_output=True, text=True, check=False).stderr)
        self.assertEqual(subprocess.run([TDICTL, "check", "--host=x"], capture_output=True, check=False).returncode, 2)

    def test_asleep(self):
        """A function that sleeps is not woken, unless it is asked for."""
        status = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/power/runtime_status"
        topology = tdx(files={status: "suspended"}, faults=[fails("read:0000:01:00.0/config", "EIO")])
        with Simulation(topology, self.folder) as simulation:
            client = SimClient(simulation.socket)
            self.expect(self.look(simulation), {"device.tee_io": ("skip", "1 of them are asleep")}, also_ok=("warn",))
            rule = client.control("faults")["faults"][0]
            self.assertEqual(rule["matched"], 0)
            client.control("clear")
            self.expect(self.look(simulation, "--device=01:00.0"), {"device.tee_io": "pass"}, also_ok=("warn",))
            client.disconnect()

    def test_nothing_changes(self):
        """No file is opened for writing but devices, which are asked and closed; no VFIO device is opened; nothing below tsm/ is read."""
        with Simulation(tdx(), self.folder) as simulation:
            client = SimClient(simulation.socket)
            trace = os.path.join(self.folder, "trace")
            client.control("trace", path=trace)
            self.look(simulation)
            client.control("trace", path=None)
            client.disconnect()
            with open(trace, encoding="utf-8") as file:
                text = file.read()
            self.assertIn("/dev/kvm", text)
            # Nor is more of config space read than leads to what is looked for: it has a thousand words.
            self.assertIn(sum("0000:01:00.0/config" in line for line in text.splitlines()), range(5, 100))
            for word in ("pwrite", "/dev/vfio/devices/", "tsm/connect", "tsm/bound", "tsm/dsm", "KVM_CREATE_VM", "IOAS_ALLOC"):
                self.assertNotIn(word, text)

    # ---- trees ----

    def tree(self, files):
        root = tempfile.mkdtemp(dir=self.folder)
        for path, content in files.items():
            full = root + path
            os.makedirs(os.path.dirname(full), exist_ok=True)
            if isinstance(content, tuple):
                os.symlink(content[0], full)
            elif isinstance(content, bytes):
                with open(full, "wb") as file:
                    file.write(content)
            else:
                with open(full, "w", encoding="utf-8") as file:
                    file.write(content + "\n")
        return root

    def fake(self, files, *arguments):
        done = subprocess.run([FAKE, self.tree(files), *arguments], capture_output=True, text=True, timeout=60, check=True)
        return self.judge(json.loads(done.stdout))

    @staticmethod
    def config_space(tee_io=True, size=4096):
        """A PCIe endpoint with a mailbox."""
        space = bytearray(4096)
        struct.pack_into("<HHHH", space, 0, 0x1234, 0x5678, 0, 0x10)
        space[0x34] = 0x40
        struct.pack_into("<HHI", space, 0x40, 0x0010, 0x0002, 0x40000000 if tee_io else 0)
        struct.pack_into("<I", space, 0x100, 0x0001002e)
        return bytes(space[:size])

    @staticmethod
    def function(space, bdf="0000:01:00.0", **more):
        at = f"/sys/bus/pci/devices/{bdf}/"
        return {at + "class": "0x030200", at + "config": space, **{at + k.replace("__", "/"): v for k, v in more.items()}}

    def test_empty_tree(self):
        """Where there is nothing nothing is made up: no verdict but of what is missed."""
        checks = self.fake({"/proc/1/comm": "init"})
        self.expect(checks, {"kernel.version": "skip", "kernel.options": "skip", "iommu.groups": ("skip", "ENOENT"), "device.tee_io": "skip", "kvm.device": "fail", "vfio.iommufd": "fail",
                             "tdid.policy": "skip", "tdid.units": "skip", "limits.memlock": "skip"}, also_ok=("fail", "warn"))

    def test_packed_configuration(self):
        text = "".join(f"CONFIG_{x}=m\n" for x in CONFIG if x != "UDMABUF").encode()
        packed = gzip.compress(text)
        for content, expected in ((packed, ("warn", "CONFIG_UDMABUF (shared memory pools) (/proc/config.gz)")), (packed[:-20], "skip"), (b"junk", "skip"), (b"", "skip"),
                                  (gzip.compress(b"#" * (5 << 20)), "skip")):
            checks = self.fake({"/proc/sys/kernel/osrelease": "7.0.0", "/proc/config.gz": content})
            self.expect(checks, {"kernel.options": expected}, also_ok=None)
        checks = self.fake({"/proc/sys/kernel/osrelease": "7.0.0", "/proc/config.gz": b"junk", "/lib/modules/7.0.0/config": text})
        self.expect(checks, {"kernel.options": ("warn", "(/lib/modules/7.0.0/config)")}, also_ok=None)

    def test_mailboxes(self):
        checks = self.fake({**self.function(self.config_space(), doe_features__doe_discovery="0001:00"), **self.function(self.config_space(), "0000:02:00.0", **{"doe_features__0001:01": ""})})
        self.expect(checks, {"device.doe": ("warn", "1 of 2 mailboxes"), "device.tee_io": ("warn", "2 of 2 functions")}, also_ok=None)
        self.assertEqual([f["bdf"] for f in checks["device.doe"]["functions"]], ["0000:01:00.0", "0000:02:00.0"])
        # What the kernel does not say is not asked of the mailbox.
        self.expect(self.fake(self.function(self.config_space())), {"device.doe": ("skip", "doe_features")}, also_ok=None)

    def test_cut_config_space(self):
        """64 bytes are everybody's: they say nothing of what is behind them, and chains that lead nowhere end."""
        checks = self.fake(self.function(self.config_space(size=64)))
        self.expect(checks, {"device.tee_io": ("skip", "as root"), "device.ide": ("skip", "as root"), "device.doe": ("skip", "as root")}, also_ok=None)
        ring = bytearray(self.config_space())
        struct.pack_into("<I", ring, 0x100, 0x100 << 20 | 1)
        ring[0x41] = 0x40
        self.expect(self.fake(self.function(bytes(ring))), {"device.doe": "skip"}, also_ok=None)

    def test_what_does_not_fit(self):
        """A file that is longer than what stands in it ever is: nothing of it is shown."""
        checks = self.fake({"/etc/driverctl.d/0000:01:00.0": "x" * 300})
        self.assertEqual([f["reason"] for f in checks["others.driverctl"]["functions"]], ["driverctl gives it to ? at each boot"])

    def test_other_bind_module(self):
        checks = self.fake({"/dev/tdid-bind": "", "/dev/iommu": "", "/sys/class/tsm/tsm0/device": ("../../../devices/faux/tdx_host",)})
        self.expect(checks, {"platform.bind": ("warn", "version 2"), "vfio.map_file": "fail"}, also_ok=None)

    # ---- the screen, and the table ----

    def golden(self, name, topology):
        with tempfile.TemporaryDirectory() as folder, Simulation(topology, folder) as simulation:
            text = self.tdictl(simulation, code=0).stdout
        path = os.path.join(GOLDEN, name + ".txt")
        if os.environ.get("TDID_GOLDEN") == "write":
            os.makedirs(GOLDEN, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(text, file.read())
        self.assertLessEqual(max(map(len, text.splitlines())), 79)

    def test_goldens(self):
        with open(os.path.join(EXAMPLES, "plain.json"), encoding="utf-8") as file:
            self.golden("plain", json.load(file))
        with open(os.path.join(EXAMPLES, "tdx.json"), encoding="utf-8") as file:
            self.golden("tdx", {**json.load(file), "files": GOOD})

    def test_screen(self):
        """Words that do not come from us do no harm, and everything that JSON has is on the screen."""
        topology = tdx(files={"/proc/sys/kernel/osrelease": "6.1.0\x1b[31m", **GOOD, "/etc/driverctl.d/0000:01:00.0": "x\x07y"})
        topology["files"]["/proc/sys/kernel/osrelease"] = "6.1.0\x1b[31m"
        with Simulation(topology, self.folder) as simulation:
            checks = self.look(simulation)
            done = self.tdictl(simulation, code=6)
            flat = re.sub(r"\s+", " ", done.stdout)
            self.assertTrue(done.stdout.isprintable() or all(c.isprintable() or c == "\n" for c in done.stdout))
            for c in checks.values():
                words = re.sub(r"[\x00-\x1f\x7f]", "?", c["reason"])
                self.assertIn(f"{c['verdict'].upper()} {c['title']} {words}", flat)
                self.assertIn(c["remedy"] or "", flat)
            bare = self.tdictl(simulation, "--no-legend").stdout
            self.assertNotIn("Other tools", bare)

    def test_table(self):
        table = listed()
        self.assertEqual(sorted({c["id"] for c in table}), sorted(c["id"] for c in table))
        for c in table:
            with self.subTest(check=c["id"]):
                self.assertRegex(c["id"], r"^[a-z]+\.[a-z_]+$")
                self.assertLessEqual(len(c["title"]), 16)
                self.assertTrue(c["about"].endswith(".") and c["remedies"])
                for remedy in c["remedies"]:
                    self.assertTrue(remedy.endswith("."))
        done = subprocess.run([TDICTL, "check", "--list"], capture_output=True, text=True, timeout=60, check=True)
        self.assertLessEqual(max(map(len, done.stdout.splitlines())), 79)
        for c in table:
            self.assertIn(f"  {c['id']}\n", done.stdout)

    def test_manual(self):
        """The manual has every check, in the table's words, and none besides; and so every advice."""
        sections = manual.read(os.path.join(ROOT, "docs/man/tdictl.1.rst"))["CHECKS"].subsections
        found = {}
        for group, section in sections.items():
            for term, text in section.entries.items():
                found[term] = (group, text)
        self.assertEqual(list(found), [c["id"] for c in listed()])
        for c in listed():
            with self.subTest(check=c["id"]):
                group, text = found[c["id"]]
                self.assertEqual(group, c["group"])
                self.assertEqual(re.sub(r"\s+", " ", text).strip(), " ".join([c["about"], *c["remedies"]]))

    def test_zz_everything_was_seen(self):
        """Named so that it is the last: no check that cannot pass, none that cannot fail, and no advice that nobody gets."""
        for c in listed():
            with self.subTest(check=c["id"]):
                verdicts = Checks.seen.get(c["id"], set())
                self.assertIn("pass", verdicts)
                self.assertTrue(verdicts & {"warn", "fail"}, verdicts)
                self.assertEqual(set(c["remedies"]) - Checks.advised.get(c["id"], set()), set())
                self.assertEqual(Checks.advised.get(c["id"], set()) - {None}, set(c["remedies"]))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
