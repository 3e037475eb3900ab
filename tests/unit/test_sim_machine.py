# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine of the simulation against what a real kernel was seen to do (tests/kmod/check.py, docs of the kernel's files): drivers,
SR-IOV, groups, TSMs, resets, disks, interfaces, unplugging. Nothing of tdid runs.

usage: test_sim_machine.py TDI-SIM SOURCE-ROOT
"""
import errno
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BINARY, ROOT = sys.argv[1:3]
sys.path.insert(0, os.path.join(ROOT, "tests/scenario"))

from kit.files import SimFiles  # noqa: E402
from kit.simclient import SimClient  # noqa: E402  pylint: disable=wrong-import-position

PCI = "/sys/bus/pci/devices"
DRIVERS = "/sys/bus/pci/drivers"
MACHINE = os.path.join(ROOT, "tests/scenario/machine.json")
NVME, NVME1, IGB, EDU, E1000E = "0000:01:00.0", "0000:02:00.0", "0000:04:00.0", "0000:09:00.0", "0000:03:00.0"
UPSTREAM, BELOW, VFS = "0000:19:00.0", "0000:1b:00.0", ["0000:04:10.0", "0000:04:10.2"]


def code(name):
    return getattr(errno, name)


class Background(threading.Thread):
    def __init__(self, f):
        super().__init__(daemon=True)
        self.f, self.result = f, None
        self.start()

    def run(self):
        self.result = self.f()

    def get(self, seconds=20):
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"still running after {seconds} s")
        return self.result


class Machine(unittest.TestCase):
    topology = MACHINE

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.folder.name, "s")
        path = self.topology
        if isinstance(path, dict):
            path = os.path.join(self.folder.name, "topology.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"schema": "tdi-sim/1", "platform": "plain", **self.topology}, file)
        with open(os.path.join(self.folder.name, "log"), "wb") as log:
            self.process = subprocess.Popen([BINARY, "--socket=" + self.socket, path], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while True:
            try:
                self.c = SimClient(self.socket) if os.path.exists(self.socket) else None
            except ConnectionRefusedError:
                self.c = None
            if self.c:
                break
            if self.process.poll() is not None or time.monotonic() > end:
                self.fail(self.log())
            time.sleep(0.01)

    def tearDown(self):
        left = [f for f in self.c.control("open")["open"] if f["kind"] != "uevents"]
        self.c.disconnect()
        self.process.terminate()
        self.process.wait(60)
        self.assertEqual(left, [])
        self.assertIn(self.process.returncode, (0, 3), self.log())
        self.assertNotIn("Sanitizer", self.log())
        self.folder.cleanup()

    def log(self):
        with open(os.path.join(self.folder.name, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def client(self):
        client = SimClient(self.socket)
        self.addCleanup(client.disconnect)
        return client

    # ---- files ----

    def raw(self, path, size=65536, offset=0, client=None):
        client = client or self.c
        fd = client.open(path)
        try:
            return client.pread(fd, size, offset)
        finally:
            client.close(fd)

    def text(self, path, client=None):
        return self.raw(path, client=client).decode().rstrip("\n")

    def attr(self, bdf, name, client=None):
        return self.text(f"{PCI}/{bdf}/{name}", client)

    def write(self, path, text, client=None):
        client = client or self.c
        try:
            fd = client.open(path, os.O_WRONLY)
        except OSError as error:
            return error.errno
        try:
            client.pwrite(fd, text.encode())
            return 0
        except OSError as error:
            return error.errno
        finally:
            client.close(fd)

    def set(self, bdf, name, text, client=None):
        return self.write(f"{PCI}/{bdf}/{name}", text, client)

    def exists(self, path):
        try:
            self.c.mode(path)
            return True
        except OSError:
            return False

    def link(self, bdf, name):
        try:
            return os.path.basename(self.c.readlink(f"{PCI}/{bdf}/{name}"))
        except OSError:
            return None

    def driver(self, bdf):
        return self.link(bdf, "driver")

    def names(self, path):
        return sorted(self.c.list(path))

    def config(self, bdf):
        return self.raw(f"{PCI}/{bdf}/config", 4096)

    def poke(self, bdf, offset, data):
        fd = self.c.open(f"{PCI}/{bdf}/config", os.O_RDWR)
        try:
            return self.c.pwrite(fd, data, offset)
        finally:
            self.c.close(fd)

    def capability(self, bdf, wanted):
        config = self.config(bdf)
        at = config[0x34]
        while at and config[at] != wanted:
            at = config[at + 1]
        return at

    def extended(self, bdf, wanted):
        config, at = self.config(bdf), 0x100
        while at:
            header = int.from_bytes(config[at:at + 4], "little")
            if header & 0xFFFF == wanted:
                return at
            at = header >> 20
        return 0

    def rule(self, call, device, **more):
        return self.c.control("fault", rule={"call": call, "device": device, **more})["id"]

    def events(self, fd):
        out = []
        with socket.socket(fileno=os.dup(fd)) as sock:
            sock.settimeout(0.3)
            try:
                while True:
                    fields = dict(f.split("=", 1) for f in sock.recv(8192).decode().split("\0") if "=" in f)
                    out.append((fields["ACTION"], fields["SUBSYSTEM"], os.path.basename(fields["DEVPATH"])))
            except (TimeoutError, BlockingIOError):
                return out

    def connect(self, bdf, tsm="tsm0", client=None):
        return self.set(bdf, "tsm/connect", tsm, client)

    def disconnect(self, bdf, tsm="tsm0", client=None):
        return self.set(bdf, "tsm/disconnect", tsm, client)

    def load_tsm(self, *devs, **more):
        self.c.control("tsm-load", name="tsm0", options={"accepts": list(devs), **more})


class Tree(Machine):
    def test_every_file_can_be_read_and_every_link_leads_somewhere(self):
        seen, said, stack = {}, {}, ["/sys", "/proc"]
        while stack:
            folder = stack.pop()
            for name in self.c.list(folder):
                path = f"{folder}/{name}"
                mode = self.c.mode(path)
                seen[path] = mode, None
                if stat.S_ISDIR(mode):
                    stack.append(path)
                elif stat.S_ISLNK(mode):
                    self.c.list(path)
                    seen[path] = mode, self.c.readlink(path)
                elif mode & 0o444:
                    try:
                        said[path] = self.raw(path, 4096)
                    except OSError as error:
                        said[path] = error.errno
                        self.assertIn((name, error.errno), [("autosuspend_delay_ms", code("EIO")), ("carrier", code("EINVAL")),
                                                            ("speed", code("EINVAL")),
                                                            ("duplex", code("EINVAL"))] + [(f"resource{n}{s}",
                                                                                            e) for n in range(6) for s in ("", "_wc")
                                                                                           for e in (code("EIO"), code("EINVAL"))])
        self.assertGreater(len(seen), 2000)
        files = SimFiles(self.c)
        self.assertEqual({f"{top}/{path}": (mode, target) for top in ("/sys", "/proc") for path, mode, target in files.tree(top)}, seen)
        # What changes by itself, and what is longer than a page.
        steady = [path for path in said if not path.endswith(("_time", "/uptime")) and len(said[path] if isinstance(said[path], bytes) else "") < 4096]
        self.assertGreater(len(steady), 1000)
        now = [data.errno if isinstance(data, OSError) else data for data in files.read_all(steady)]
        self.assertEqual([(path, data) for path, data in zip(steady, now) if data != said[path]], [])
        self.assertEqual([type(e) for e in files.read_all(["/sys/absent", "/sys/bus/pci/rescan"])], [FileNotFoundError, PermissionError])
        self.assertEqual([files.tree(path) for path in ("/sys/absent", "/sys/bus/pci/rescan")], [[], []])
        self.assertRaises(OSError, self.c.control, "read", paths=["/sys"] * 4097)
        self.assertRaises(OSError, self.c.control, "read", paths=[7])
        self.assertEqual(files.realpath(f"{PCI}/{NVME}/tsm"), f"{files.realpath(f'{PCI}/{NVME}')}/tsm")
        self.assertEqual((files.isdir(f"{PCI}/{NVME}"), files.isdir(f"{PCI}/{NVME}/class"), files.exists(f"{PCI}/{NVME}/x")), (True, False, False))

    def test_is_the_twin_of_the_vm(self):
        with open(os.path.join(ROOT, "tests/vm/topology.json"), encoding="utf-8") as file:
            vm = json.load(file)
        groups = {}
        for function in vm["functions"]:
            bdf, role = function["bdf"], function["role"]
            ids = self.attr(bdf, "vendor")[2:] + ":" + self.attr(bdf, "device")[2:]
            self.assertEqual((ids, self.driver(bdf)), (function["ids"], function["driver"]), role)
            groups.setdefault(function.get("group", role), set()).add(self.link(bdf, "iommu_group"))
            if "group" not in function:
                self.assertEqual(self.names(f"{PCI}/{bdf}/iommu_group/devices"), [bdf], role)
            total = self.attr(bdf, "sriov_totalvfs") if self.exists(f"{PCI}/{bdf}/sriov_totalvfs") else "0"
            self.assertEqual(int(total), function.get("sriov", 0), role)
            if "disk" in function:
                name = [n for n in self.names(f"{PCI}/{bdf}/nvme/" + self.names(f"{PCI}/{bdf}/nvme")[0]) if n.startswith("nvme")][0]
                self.assertTrue(self.raw("/dev/" + name, 512, 512 * 7).startswith(f"tdid {function['disk']} sector 7\n".encode()))
        self.assertEqual({len(g) for g in groups.values()}, {1})
        self.assertEqual(len({tuple(g) for g in groups.values()}), len(groups))
        for port in vm["ports"]:
            self.assertEqual(int(self.attr(port["bdf"], "secondary_bus_number")), int(port["bus"], 16))
        with open(MACHINE, encoding="utf-8") as file:
            ours = json.load(file)
        self.assertEqual([(f["role"], f["bdf"], f["driver"], f.get("disk"), f.get("net"), f.get("group")) for f in ours["functions"]],
                         [(f["role"], f["bdf"], f["driver"], f.get("disk"), f.get("net"), f.get("group")) for f in vm["functions"]])

    def test_config_space(self):
        self.assertEqual(len(self.config(NVME)), 4096)
        self.assertEqual(len(self.config(EDU)), 256)
        bar = self.config(NVME)[0x10:0x18]
        self.poke(NVME, 0x10, b"\xff" * 8)
        self.assertEqual(self.config(NVME)[0x10:0x18], (~(16384 - 1) & (2**64 - 1) | 4).to_bytes(8, "little"))
        self.poke(NVME, 0x10, bar)
        self.assertEqual(self.config(NVME)[0x10:0x18], bar)
        self.assertEqual(self.poke(NVME, 0, b"\0" * 4), 4)
        self.assertEqual(self.config(NVME)[:4].hex(), "361b1000")


class Drivers(Machine):
    def test_bind_and_unbind(self):
        self.assertEqual(self.write(f"{DRIVERS}/nvme/bind", NVME), code("EBUSY"))
        for what in (EDU, "0000:ff:00.0", "junk", ""):
            self.assertEqual(self.write(f"{DRIVERS}/nvme/bind", what or "x"), code("ENODEV"), what)
        self.assertEqual(self.write(f"{DRIVERS}/igb/unbind", NVME), code("ENODEV"))
        self.assertEqual(self.write("/sys/bus/pci/drivers_probe", "0000:ff:00.0"), code("ENODEV"))
        self.assertEqual(self.write("/sys/bus/pci/drivers_probe", NVME), 0)
        self.assertEqual(self.set(NVME, "driver/unbind", NVME + "\n"), 0)
        self.assertEqual((self.driver(NVME), self.attr(NVME, "enable"), self.attr(NVME, "power_state")), (None, "0", "unknown"))
        self.assertEqual(self.names("/sys/class/nvme"), ["nvme1", "nvme2", "nvme3"])
        self.assertEqual(self.write(f"{DRIVERS}/nvme/bind", NVME), 0)
        self.assertEqual(self.names("/sys/class/nvme"), ["nvme0", "nvme1", "nvme2", "nvme3"])
        self.assertEqual((self.attr(NVME, "enable"), len(self.names(f"{PCI}/{NVME}/msi_irqs"))), ("1", 3))

    def test_override(self):
        self.assertEqual(self.attr(NVME, "driver_override"), "(null)")
        self.assertEqual(self.set(NVME, "driver_override", "vfio-pci\n"), 0)
        self.assertEqual((self.attr(NVME, "driver_override"), self.driver(NVME)), ("vfio-pci", "nvme"))
        self.assertEqual(self.set(NVME, "driver/unbind", NVME), 0)
        self.assertEqual(self.write(f"{DRIVERS}/nvme/bind", NVME), code("ENODEV"), "no match while the override says otherwise")
        self.assertEqual(self.write("/sys/bus/pci/drivers_probe", NVME), 0)
        self.assertEqual((self.driver(NVME), self.attr(NVME, "power/control"), self.attr(NVME, "power/runtime_status")),
                         ("vfio-pci", "auto", "suspended"))
        self.assertEqual(self.set(NVME, "driver_override", "\n"), 0)
        self.assertEqual(self.write(f"{DRIVERS}/vfio-pci/unbind", NVME), 0)
        self.assertEqual((self.driver(NVME), self.attr(NVME, "power/control")), (None, "on"))
        self.assertEqual(self.write("/sys/bus/pci/drivers_probe", NVME), 0)
        self.assertEqual(self.driver(NVME), "nvme")
        self.assertEqual(self.set(NVME, "driver_override", "x" * 4095), code("EINVAL"))
        self.assertEqual(self.set(NVME, "driver_override", "nosuch"), 0)
        self.assertEqual(self.set(NVME, "driver/unbind", NVME), 0)
        self.assertEqual((self.write("/sys/bus/pci/drivers_probe", NVME), self.driver(NVME)), (0, None))

    def test_new_id(self):
        new = f"{DRIVERS}/vfio-pci/new_id"
        self.assertEqual([self.write(new, "x"), self.write(new, "1234 11e8"), self.write(new, "1234 11e8")],
                         [code("EINVAL"), 0, code("EEXIST")])
        self.assertEqual(self.driver(EDU), "vfio-pci")
        remove = f"{DRIVERS}/vfio-pci/remove_id"
        self.assertEqual([self.write(remove, "1234 11e8"), self.write(remove, "1234 11e8")], [0, code("ENODEV")])

    def test_uevents_of_a_rebind(self):
        fd = self.c.uevents()
        self.set(NVME, "driver/unbind", NVME)
        self.write(f"{DRIVERS}/nvme/bind", NVME)
        self.assertEqual(self.events(fd), [("remove", "block", "nvme0n1"), ("remove", "nvme", "nvme0"), ("unbind", "pci", NVME),
                                           ("add", "nvme", "nvme0"), ("add", "block", "nvme0n1"), ("bind", "pci", NVME)])
        os.close(fd)

    def test_a_driver_that_fails_and_one_that_will_not_let_go(self):
        self.c.control("driver-load", name="tdid_test_stick")
        self.set(EDU, "driver_override", "tdid_test_stick")
        self.rule("driver.probe", EDU, errno="EIO")
        self.assertEqual(self.write(f"{DRIVERS}/tdid_test_stick/bind", EDU), code("EIO"))
        self.assertEqual((self.write("/sys/bus/pci/drivers_probe", EDU), self.driver(EDU)), (0, None),
                         "a failed probe is no error of drivers_probe")
        self.c.control("clear")
        self.assertEqual(self.write(f"{DRIVERS}/tdid_test_stick/bind", EDU), 0)
        rule = self.rule("driver.remove", EDU, never=True)
        job = Background(lambda: self.write(f"{DRIVERS}/tdid_test_stick/unbind", EDU, self.client()))
        time.sleep(0.3)
        self.assertEqual((job.is_alive(), self.driver(EDU)), (True, None), "the link goes before the driver")
        self.c.control("release", id=rule)
        self.assertEqual(job.get(), 0)
        self.c.control("driver-unload", name="tdid_test_stick")
        self.assertFalse(self.exists(f"{DRIVERS}/tdid_test_stick"))

    def test_power(self):
        self.assertEqual([self.set(EDU, "power/control", t) for t in ("x", "auto", "on\n", "")], [code("EINVAL"), 0, 0, 0])
        self.assertEqual([self.set(EDU, "enable", t) for t in ("0", "1", "0", "x")], [code("EIO"), 0, 0, code("EINVAL")])
        self.assertEqual(self.set(NVME, "enable", "0"), code("EBUSY"))


class Sriov(Machine):
    def test_numvfs(self):
        self.assertEqual([self.set(IGB, "sriov_numvfs", t) for t in ("8", "x", "-1", "0")], [code("ERANGE"), code("EINVAL"),
                                                                                             code("EINVAL"), 0])
        fd = self.c.uevents()
        self.assertEqual(self.set(IGB, "sriov_numvfs", "2"), 0)
        want = []
        for i, vf in enumerate(VFS):
            want += [("add", "pci", vf), ("change", "pci", vf), ("add", "net", f"eth{2 + i}"), ("bind", "pci", vf)]
        self.assertEqual(self.events(fd), want + [("change", "pci", IGB)])
        os.close(fd)
        self.assertEqual(self.set(IGB, "sriov_numvfs", "3"), code("EBUSY"))
        self.assertEqual([self.link(IGB, f"virtfn{i}") for i in range(2)], VFS)
        self.assertEqual((self.link(VFS[0], "physfn"), self.driver(VFS[0]), self.attr(VFS[0], "device")), (IGB, "igbvf", "0x10ca"))
        self.assertEqual(self.config(VFS[0])[:4], b"\xff" * 4, "the VF itself says nothing")
        self.assertEqual(self.names(f"{PCI}/{VFS[0]}/iommu_group/devices"), [VFS[0]])
        self.assertEqual(self.set(IGB, "driver/unbind", IGB), 0)
        self.assertFalse(self.exists(f"{PCI}/{VFS[0]}"), "VFs go with their driver")
        self.assertEqual(self.set(IGB, "sriov_numvfs", "2"), code("ENOENT"))
        self.assertEqual(self.write(f"{DRIVERS}/igb/bind", IGB), 0)

    def test_autoprobe(self):
        self.assertEqual(self.set(IGB, "sriov_drivers_autoprobe", "0"), 0)
        self.assertEqual(self.set(IGB, "sriov_numvfs", "1"), 0)
        self.assertIsNone(self.driver(VFS[0]))
        self.assertEqual(self.set(IGB, "sriov_numvfs", "0"), 0)
        self.rule("sriov.enable", IGB, errno="ENOMEM")
        self.assertEqual((self.set(IGB, "sriov_numvfs", "1"), self.attr(IGB, "sriov_numvfs")), (code("ENOMEM"), "0"))


class Tsm(Machine):
    def test_files_and_errors(self):
        self.assertEqual(self.names("/sys/class/tsm"), [])
        self.assertFalse(self.exists(f"{PCI}/{NVME}/tsm"))
        fd = self.c.uevents()
        self.load_tsm(NVME, IGB, EDU, parent="tdx_host")
        self.assertEqual(self.events(fd), [("add", "tsm", "tsm0"), ("change", "tsm", "tsm0")])
        self.assertEqual(self.c.readlink("/sys/class/tsm/tsm0").split("/")[-3:], ["tdx_host", "tsm", "tsm0"])
        self.assertEqual(os.path.basename(self.c.readlink("/sys/class/tsm/tsm0/device")), "tdx_host")
        for bdf in (NVME, IGB):
            self.assertEqual(self.names(f"{PCI}/{bdf}/tsm"), ["bound", "connect", "disconnect", "dsm"])
            self.assertEqual([self.attr(bdf, f) for f in ("tsm/connect", "tsm/dsm", "tsm/bound", "authenticated")], [""] * 4)
        self.assertFalse(self.exists(f"{PCI}/{EDU}/tsm"), "a function that is not PCIe")
        self.assertEqual([self.connect(NVME, t) for t in ("tsm9", "junk", "tsm")], [code("ENXIO"), code("EINVAL"), code("EINVAL")])
        self.assertEqual(self.disconnect(NVME), code("ENXIO"))
        self.assertEqual(self.connect(NVME), 0)
        self.assertEqual([self.attr(NVME, f) for f in ("tsm/connect", "tsm/dsm", "tsm/bound", "authenticated")], ["tsm0", NVME, "", "tsm0"])
        self.assertEqual([self.connect(NVME), self.disconnect(NVME, "tsm1"), self.disconnect(NVME), self.connect(NVME, "tsm0junk")],
                         [code("EBUSY"), code("EINVAL"), 0, 0])
        self.assertEqual(self.events(fd), [], "nothing is said of connecting")
        self.c.control("tsm-unload", name="tsm0")
        self.assertEqual(self.events(fd), [("remove", "tsm", "tsm0")])
        os.close(fd)
        self.assertEqual((self.names("/sys/class/tsm"), self.exists(f"{PCI}/{NVME}/tsm"), self.exists(f"{PCI}/{NVME}/authenticated")),
                         ([], False, False))

    def test_refused_and_failed(self):
        self.load_tsm(NVME)
        rule = self.rule("tsm.connect", NVME, errno="EIO")
        self.assertEqual((self.connect(NVME), self.attr(NVME, "tsm/connect")), (code("EIO"), ""))
        self.c.control("clear", id=rule)
        self.rule("tsm.probe", NVME, errno="ENODEV")
        self.assertEqual(self.connect(NVME), code("ENXIO"))
        self.c.control("clear")
        self.assertEqual(self.connect(NVME), 0)

    def test_vfs_come_and_go_with_their_dsm(self):
        self.load_tsm(IGB)
        self.set(IGB, "sriov_numvfs", "2")
        self.assertFalse(self.exists(f"{PCI}/{VFS[0]}/tsm"))
        self.rule("tsm.probe", VFS[1], errno="EPERM")
        self.assertEqual(self.connect(IGB), 0, "a refused VF is no error of connect")
        self.assertEqual((self.names(f"{PCI}/{VFS[0]}/tsm"), self.attr(VFS[0], "tsm/dsm"), self.exists(f"{PCI}/{VFS[1]}/tsm")),
                         (["bound", "dsm"], IGB, False))
        self.c.control("clear")
        self.set(IGB, "sriov_numvfs", "0")
        self.set(IGB, "sriov_numvfs", "2")
        self.assertEqual([self.attr(v, "tsm/dsm") for v in VFS], [IGB, IGB], "VFs that appear under a connected PF")
        self.c.control("tsm-bind", device=VFS[0], kvm=1, tdi=0x100)
        self.assertEqual([self.attr(v, "tsm/bound") for v in VFS], ["tsm0", ""])
        for device, kvm, want in ((VFS[0], 2, "EBUSY"), (VFS[1], 1, "EEXIST")):
            with self.assertRaises(OSError) as failed:
                self.c.control("tsm-bind", device=device, kvm=kvm, tdi=0x100)
            self.assertEqual(failed.exception.errno, code(want))
        self.c.control("tsm-bind", device=VFS[0], kvm=1, tdi=0x999)
        self.assertEqual(self.disconnect(IGB), 0, "disconnect unbinds")
        self.assertFalse(self.exists(f"{PCI}/{VFS[0]}/tsm"))
        with self.assertRaises(OSError):
            self.c.control("tsm-bind", device=VFS[0], kvm=1, tdi=1)

    def test_a_function_found_again_is_marked_again(self):
        self.load_tsm(NVME)
        self.assertEqual(self.connect(NVME), 0)
        self.assertEqual(self.set(NVME, "remove", "1"), 0)
        self.assertEqual(self.write("/sys/bus/pci/rescan", "1"), 0)
        self.assertEqual((self.attr(NVME, "tsm/connect"), self.attr(NVME, "authenticated"), self.connect(NVME), self.driver(NVME)),
                         ("", "", 0, "nvme"))

    def test_a_switch_port_speaks_for_what_is_below_it(self):
        self.load_tsm(UPSTREAM)
        self.assertEqual(self.connect(UPSTREAM), 0)
        self.assertEqual((self.names(f"{PCI}/{BELOW}/tsm"), self.attr(BELOW, "tsm/dsm")), (["bound", "dsm"], UPSTREAM))
        self.c.control("tsm-unload", name="tsm0")
        self.load_tsm(UPSTREAM, BELOW)
        self.assertEqual(self.connect(UPSTREAM), 0)
        self.assertEqual(self.attr(BELOW, "tsm/connect"), "", "a DSM of its own below a connected port")
        self.assertEqual(self.disconnect(UPSTREAM), 0)
        self.assertEqual([self.connect(BELOW), self.connect(UPSTREAM), self.attr(BELOW, "tsm/connect")], [0, 0, "tsm0"])

    def test_a_waiting_connect_holds_up_readers_and_the_bus(self):
        self.load_tsm(NVME, IGB)
        rule = self.rule("tsm.connect", NVME, never=True)
        job = Background(lambda: self.connect(NVME, client=self.client()))
        time.sleep(0.2)
        reader = Background(lambda: self.attr(IGB, "tsm/connect", self.client()))
        adder = Background(lambda: self.set(E1000E, "remove", "1", self.client()))
        vfs = Background(lambda: self.set(IGB, "sriov_numvfs", "1", self.client()))
        time.sleep(0.3)
        self.assertEqual([t.is_alive() for t in (job, reader, adder, vfs)], [True] * 4)
        self.c.control("release", id=rule)
        self.assertEqual([t.get() for t in (job, reader, adder, vfs)], [0, "", 0, 0])

    def test_a_reader_and_a_disconnect_lock_each_other_up_until_the_reader_dies(self):
        self.load_tsm(IGB)
        self.set(IGB, "sriov_numvfs", "1")
        self.assertEqual(self.connect(IGB), 0)
        self.rule("tsm.disconnect", IGB, delay_ms=10)
        program = "import os, sys; sys.path.insert(0, sys.argv[1]); from kit.simclient import SimClient; c = SimClient(sys.argv[2]); c.pread(c.open(sys.argv[3]), 64)"
        # Unbinding takes its time, so that the reader comes while the semaphore is held.
        self.c.control("tsm-bind", device=VFS[0], kvm=1, tdi=1)
        self.rule("tsm.unbind", VFS[0], delay_ms=1500)
        job = Background(lambda: self.disconnect(IGB, client=self.client()))
        time.sleep(0.3)
        reader = subprocess.Popen([sys.executable, "-c", program, os.path.join(ROOT, "tests/scenario"), self.socket,
                                   f"{PCI}/{VFS[0]}/tsm/dsm"])
        time.sleep(2.5)
        self.assertEqual((job.is_alive(), reader.poll()), (True, None), "each waits for the other")
        reader.kill()
        reader.wait()
        self.assertEqual(job.get(), 0)
        self.assertFalse(self.exists(f"{PCI}/{VFS[0]}/tsm"))

    def test_disconnect_forgets_vfs_that_are_being_added(self):
        self.load_tsm(IGB)
        self.assertEqual(self.connect(IGB), 0)
        self.rule("driver.probe", VFS[0], delay_ms=800)
        adder = Background(lambda: self.set(IGB, "sriov_numvfs", "2", self.client()))
        time.sleep(0.3)
        self.assertEqual(self.disconnect(IGB), 0)
        self.assertEqual(adder.get(), 0)
        self.assertEqual((self.exists(f"{PCI}/{VFS[0]}/tsm"), self.exists(f"{PCI}/{VFS[1]}/tsm")), (True, False))
        self.assertEqual(self.connect(IGB), 0)
        self.assertEqual([self.attr(v, "tsm/dsm") for v in VFS], [IGB, IGB])


class Secure(Machine):
    topology = os.path.join(ROOT, "libtdi/sim/examples/tdx.json")
    gpu, root = "0000:01:00.0", "0000:00:01.0"

    def status(self, bdf):
        at = self.extended(bdf, 0x30)
        config = self.config(bdf)
        block = at + 12 + (8 * (1 + (config[at + 5] >> 5)) if config[at + 4] & 1 else 0)
        return [int.from_bytes(config[block + i:block + i + 4], "little") for i in (4, 8, 12, 16)]

    def test_streams(self):
        host = "/sys/devices/pci0000:00"
        self.assertEqual(self.text(host + "/available_secure_streams"), "256")
        self.assertEqual(self.connect(self.gpu), 0)
        self.assertEqual([n for n in self.names(host) if n.startswith("stream")], ["stream0.0.0"])
        self.assertEqual((os.path.basename(self.c.readlink(host + "/stream0.0.0")), self.text(host + "/available_secure_streams")),
                         (self.gpu, "255"))
        for bdf, other in ((self.gpu, 0x0008), (self.root, 0x0100)):
            control, state, rid1, rid2 = self.status(bdf)
            self.assertEqual((control & 1, state & 0xF, rid1 >> 8 & 0xFFFF, rid2 >> 8 & 0xFFFF, rid2 & 1), (1, 2, other, other, 1), bdf)
        self.assertEqual(self.set(self.gpu, "reset", "1"), 0)
        self.assertEqual(([v & 0xF for v in self.status(self.gpu)[:2]], self.status(self.root)[1] & 0xF), ([0, 0], 2),
                         "a reset restores no IDE register")
        self.assertEqual(self.disconnect(self.gpu), 0)
        self.assertEqual(self.connect(self.gpu), 0)
        self.c.control("ide-fail", device=self.gpu)
        self.assertEqual([self.status(b)[1] for b in (self.gpu, self.root)], [0, 0x80000000], "a failed integrity check ends it at both ends")
        self.assertEqual([self.disconnect(self.gpu), self.connect(self.gpu)], [0, 0])
        self.assertEqual([self.status(b)[1] for b in (self.gpu, self.root)], [2, 0x80000002], "new keys; the port remembers")
        with self.assertRaises(OSError):
            self.c.control("ide-fail", device=self.root)
        self.assertEqual(self.disconnect(self.gpu), 0)
        at = self.extended(self.root, 0x30)
        self.poke(self.root, at + 12 + 8, (1 << 31).to_bytes(4, "little"))
        self.assertEqual((self.status(self.root), [n for n in self.names(host) if n.startswith("stream")]), ([0, 0, 0, 0], []))
        self.rule("tsm.ide", self.gpu, errno="ENXIO")
        self.assertEqual(self.connect(self.gpu), 0, "a stream that is not secure is no error")
        self.assertEqual([v & 0xF for v in (self.status(self.gpu)[1], self.status(self.root)[1])], [0, 0])

    def test_mailbox(self):
        at = self.extended(self.gpu, 0x2E)
        found, index = [], 0
        while True:
            for word in (1, 3, index):
                self.poke(self.gpu, at + 0x10, word.to_bytes(4, "little"))
            self.poke(self.gpu, at + 8, (1 << 31).to_bytes(4, "little"))
            words = []
            while int.from_bytes(self.config(self.gpu)[at + 12:at + 16], "little") >> 31:
                words.append(int.from_bytes(self.config(self.gpu)[at + 20:at + 24], "little"))
                self.poke(self.gpu, at + 20, b"\0" * 4)
            self.assertEqual(words[:2], [1, 3])
            found.append(words[2] & 0xFFFFFF)
            index = words[2] >> 24
            if not index:
                break
        self.assertEqual(found, [0x000001, 0x010001, 0x020001])
        self.assertEqual(self.names(f"{PCI}/{self.gpu}/doe_features"), ["0001:01", "0001:02", "doe_discovery"])

    def test_the_switch_and_users(self):
        self.assertEqual(self.connect("0000:06:00.0"), 0)
        self.assertEqual(self.attr("0000:08:00.0", "tsm/dsm"), "0000:06:00.0")
        self.assertEqual(self.link(self.gpu, "iommu_group"), self.link("0000:01:00.1", "iommu_group"))
        self.assertEqual(self.attr("0000:01:00.1", "power/control"), "auto")
        mounts = {line.split()[4]: line.split()[2] for line in self.text("/proc/1/mountinfo").splitlines()}
        self.assertEqual(mounts["/boot/efi"], self.text("/sys/class/block/nvme0n1p1/dev"))
        self.assertIn("/dev/nvme0n1p3", self.text("/proc/swaps"))
        self.assertTrue(self.c.address_present("eth0"))
        self.assertEqual(self.text("/sys/class/net/eth0/flags"), "0x1003")


class Users(Machine):
    def claim(self, path):
        try:
            self.c.close(self.c.open(path, os.O_RDONLY | os.O_EXCL))
            return 0
        except OSError as error:
            return error.errno

    def test_disks(self):
        fd = self.c.open("/dev/nvme0n1", os.O_RDWR | os.O_EXCL)
        self.assertEqual(self.c.pread(fd, 20, 512 * 7), b"tdid nvme0 sector 7\n")
        self.assertEqual(self.claim("/dev/nvme0n1"), code("EBUSY"))
        before = self.c.pread(fd, 1024, 0)
        self.assertEqual(self.c.pwrite(fd, b"hello", 510), 5)
        self.assertEqual(self.c.pread(fd, 1024, 0), before[:510] + b"hello" + before[515:])
        self.assertEqual(self.c.pread(fd, 10, 16 << 20), b"")
        self.c.close(fd)
        self.assertEqual(self.claim("/dev/nvme0n1"), 0)
        self.c.control("users", change={"disk": "nvme0n1", "mount": "/mnt"})
        self.assertEqual(self.claim("/dev/nvme0n1"), code("EBUSY"))
        self.set(NVME, "driver/unbind", NVME)
        self.assertFalse(self.exists("/dev/nvme0n1"))
        self.assertIn(" /mnt ", self.text("/proc/1/mountinfo"), "the mount outlives the disk")
        self.write(f"{DRIVERS}/nvme/bind", NVME)
        self.assertEqual(self.names("/sys/class/nvme"), ["nvme1", "nvme2", "nvme3", "nvme4"], "its numbers are taken")
        self.c.control("users", change={"disk": "nvme0n1", "mount": None})
        self.set(NVME, "driver/unbind", NVME)
        self.write(f"{DRIVERS}/nvme/bind", NVME)
        self.assertEqual(self.names("/sys/class/nvme"), ["nvme0", "nvme1", "nvme2", "nvme3"])
        self.c.control("users", change={"disk": "nvme0n1", "holder": "dm-0"})
        self.assertEqual((self.names("/sys/class/block/nvme0n1/holders"), self.names("/sys/class/block/dm-0/slaves")),
                         (["dm-0"], ["nvme0n1"]))
        self.c.control("users", change={"disk": "nvme0n1", "holder": None})
        self.assertFalse(self.exists("/sys/class/block/dm-0"))

    def test_a_disk_that_is_open_when_its_function_goes(self):
        fd = self.c.open("/dev/nvme0n1")
        self.set(NVME, "remove", "1")
        with self.assertRaises(OSError) as failed:
            self.c.pread(fd, 512)
        self.assertEqual(failed.exception.errno, code("EIO"))
        self.c.close(fd)

    def test_interfaces(self):
        self.assertFalse(self.c.address_present("eth0"))
        self.c.control("users", change={"net": "eth0", "up": True, "addresses": ["192.0.2.1"], "upper": "br0"})
        self.assertTrue(self.c.address_present("eth0"))
        self.assertEqual((self.text("/sys/class/net/eth0/flags"), self.text("/sys/class/net/eth0/carrier")), ("0x1003", "1"))
        self.assertIn("upper_br0", self.names("/sys/class/net/eth0"))
        self.set(E1000E, "driver/unbind", E1000E)
        self.assertNotIn("eth0", self.names("/sys/class/net"))
        self.write(f"{DRIVERS}/e1000e/bind", E1000E)
        self.assertEqual((self.text("/sys/class/net/eth0/flags"), self.c.address_present("eth0")), ("0x1002", False))

    def test_unplug_and_plug(self):
        fd = self.c.uevents()
        self.c.control("unplug", device=NVME)
        self.assertFalse(self.exists(f"{PCI}/{NVME}"))
        self.assertEqual(self.events(fd)[-2:], [("unbind", "pci", NVME), ("remove", "pci", NVME)])
        self.assertEqual(self.write("/sys/bus/pci/rescan", "1"), 0)
        self.assertFalse(self.exists(f"{PCI}/{NVME}"), "a rescan does not find what is not there")
        self.c.control("plug", device=NVME)
        self.assertEqual(self.driver(NVME), "nvme")
        self.assertEqual([e for e in self.events(fd) if e[1] == "pci"], [("add", "pci", NVME), ("bind", "pci", NVME)])
        os.close(fd)

    def test_two_remove_at_once(self):
        self.rule("driver.remove", NVME, delay_ms=500)
        jobs = [Background(lambda: self.set(NVME, "remove", "1", self.client())) for _ in range(2)]
        self.assertEqual([job.get() for job in jobs], [0, 0])
        self.assertFalse(self.exists(f"{PCI}/{NVME}"))

    def test_a_port_goes_with_what_is_behind_it(self):
        self.c.control("unplug", device=UPSTREAM)
        self.assertEqual([self.exists(f"{PCI}/{b}") for b in (UPSTREAM, "0000:1a:00.0", BELOW)], [False] * 3)
        self.c.control("plug", device=UPSTREAM)
        self.assertEqual((self.driver(BELOW), self.link(BELOW, "iommu_group")), ("nvme", self.link("0000:1a:00.0", "iommu_group")))

    def test_resets(self):
        self.assertEqual(self.attr(NVME, "reset_method"), "flr bus")
        self.assertFalse(self.exists(f"{PCI}/0000:07:00.1/reset"), "a conventional function that is not alone on its bus")
        before = self.config(NVME)
        self.assertEqual([self.set(NVME, "reset", t) for t in ("0", "2", "x", "1")], [code("EINVAL")] * 3 + [0])
        self.assertEqual(self.config(NVME), before)
        self.rule("reset", NVME, errno="ENOTTY")
        self.assertEqual((self.set(NVME, "reset", "1"), self.config(NVME)), (code("ENOTTY"), before))
        self.c.control("clear")
        at = self.capability(NVME, 0x10)
        self.poke(NVME, at + 8, (int.from_bytes(before[at + 8:at + 10], "little") | 0x8000).to_bytes(2, "little"))
        self.assertEqual(int.from_bytes(self.config(NVME)[4:6], "little") & 4, 0, "a reset asked for in config space restores nothing")

    def test_errors_are_counted(self):
        self.c.control("aer", device=E1000E, fatal=True)
        self.assertEqual(self.attr(E1000E, "aer_dev_fatal").splitlines()[-1], "TOTAL_ERR_FATAL 1")


class Multipath(Machine):
    topology = {"ports": [{"bdf": "0000:00:01.0", "bus": "01"}],
                "disks": {"d": {"size": "4M", "multipath": True, "partitions": [{"size": "1M", "mount": "/x"}]}},
                "functions": [{"bdf": "0000:01:00.0", "ids": "1b36:0010", "driver": "nvme", "disk": "d", "bars": [{"size": "16K"}]}]}

    def test_the_disk_hangs_off_the_subsystem(self):
        self.assertIn("/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", self.c.readlink("/sys/class/block/nvme0n1"))
        self.assertIn("/0000:01:00.0/", self.c.readlink("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0"))
        self.assertIn("nvme0c0n1", self.names("/sys/class/block"))
        with self.assertRaises(OSError) as failed:
            self.c.open("/dev/nvme0n1", os.O_EXCL)
        self.assertEqual(failed.exception.errno, code("EBUSY"), "a partition of it is mounted")
        self.set("0000:01:00.0", "driver/unbind", "0000:01:00.0")
        self.assertEqual((self.names("/sys/class/block"), self.names("/sys/class/nvme-subsystem")), ([], []))


class Groups(Machine):
    topology = {"ports": [{"bdf": "0000:00:01.0", "bus": "01", "acs": False}, {"bdf": "0000:00:02.0", "bus": "02"},
                          {"bdf": "0000:00:03.0", "bus": "03"}],
                "functions": [{"bdf": "0000:01:00.0", "model": "edu"}, {"bdf": "0000:02:00.0", "model": "edu"},
                              {"bdf": "0000:02:00.1", "model": "edu"},
                              {"bdf": "0000:03:00.0", "model": "edu", "acs": True}, {"bdf": "0000:03:00.1", "model": "edu", "acs": True},
                              {"bdf": "0000:00:08.0", "model": "edu", "group": "x", "reserved": [{"start": "0x1000", "end": "0x1fff"}]},
                              {"bdf": "0000:00:09.0", "model": "edu", "group": "x"}]}

    def test_acs_decides(self):
        members = [self.names(f"/sys/kernel/iommu_groups/{g}/devices") for g in self.names("/sys/kernel/iommu_groups")]
        self.assertEqual(sorted(members), [["0000:00:01.0", "0000:01:00.0"], ["0000:00:02.0"], ["0000:00:03.0"],
                                           ["0000:00:08.0", "0000:00:09.0"],
                                           ["0000:02:00.0", "0000:02:00.1"], ["0000:03:00.0"], ["0000:03:00.1"]])
        self.assertEqual(self.attr("0000:00:09.0", "iommu_group/reserved_regions").splitlines(),
                         ["0x00000000fee00000 0x00000000feefffff msi", "0x0000000000001000 0x0000000000001fff reserved"])
        number = self.link("0000:02:00.0", "iommu_group")
        self.set("0000:02:00.0", "remove", "1")
        self.set("0000:02:00.1", "remove", "1")
        self.assertFalse(self.exists(f"/sys/kernel/iommu_groups/{number}"))
        self.write("/sys/bus/pci/rescan", "1")
        self.assertEqual(self.link("0000:02:00.1", "iommu_group"), number, "the lowest number that is free")


class Everything(Machine):
    def test_at_once(self):
        """Many threads on few functions: nothing hangs, and it is as before afterwards."""
        end = time.monotonic() + 4
        before = self.names(PCI)
        self.load_tsm(NVME, IGB, NVME1)

        def repeat(*steps):
            client, rounds = self.client(), 0
            while time.monotonic() < end:
                for path, text in steps:
                    self.write(path, text, client)
                rounds += 1
            return rounds

        jobs = [Background(lambda s=s: repeat(*s)) for s in (
            ((f"{PCI}/{NVME}/tsm/connect", "tsm0"), (f"{PCI}/{NVME}/tsm/disconnect", "tsm0")),
            ((f"{PCI}/{IGB}/tsm/connect", "tsm0"), (f"{PCI}/{IGB}/tsm/disconnect", "tsm0")),
            ((f"{PCI}/{IGB}/sriov_numvfs", "3"), (f"{PCI}/{IGB}/sriov_numvfs", "0")),
            ((f"{DRIVERS}/nvme/unbind", NVME), (f"{DRIVERS}/nvme/bind", NVME)),
            ((f"{PCI}/{NVME1}/remove", "1"), ("/sys/bus/pci/rescan", "1")),
            ((f"{PCI}/{NVME}/reset", "1"), (f"{PCI}/{EDU}/driver_override", "vfio-pci"), ("/sys/bus/pci/drivers_probe", EDU),
             (f"{DRIVERS}/vfio-pci/unbind", EDU)),
        )]
        self.assertTrue(all(job.get(60) > 3 for job in jobs))
        self.set(IGB, "sriov_numvfs", "0")
        self.write("/sys/bus/pci/rescan", "1")
        self.assertEqual(self.names(PCI), before)


class Files(Machine):
    """What a topology adds, and replaces."""

    topology = {"files": {"/proc/4242/comm": "qemu", "/proc/4242/fd/7": {"link": "/dev/vfio/devices/vfio0"}, "/proc/sys/kernel/osrelease": "6.1.0",
                          "/boot/config-6.1.0": "CONFIG_A=y\nCONFIG_B=m"}}

    def test_files(self):
        self.assertEqual(self.text("/proc/4242/comm"), "qemu")
        self.assertEqual(self.text("/proc/sys/kernel/osrelease"), "6.1.0")
        self.assertEqual(self.text("/boot/config-6.1.0"), "CONFIG_A=y\nCONFIG_B=m")
        self.assertEqual(self.c.readlink("/proc/4242/fd/7"), "/dev/vfio/devices/vfio0")

    def test_what_cannot_be_replaced(self):
        for path, why in (("/sys/class", "is there"), ("/dev/kvm", "is there"), ("/dev/kvm/x", "no folder")):
            topology = os.path.join(self.folder.name, "bad.json")
            with open(topology, "w", encoding="utf-8") as file:
                json.dump({"schema": "tdi-sim/1", "platform": "plain", "files": {path: ""}}, file)
            done = subprocess.run([BINARY, "--socket=" + self.socket + "2", topology], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"files.{path}: ", done.stderr)
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
