# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The simulation as a host of scenarios: tdi-sim started with the test machine, and what differs from the real kernel in how
# it is reached. What a scenario claims is the same on both hosts; none of it is decided here.

import glob
import mmap
import os
import re
import struct
import subprocess
import threading

from kit.checks import Failure, check, eventually
from kit.daemon import SANITIZER_MARKS, die_with_us, sanitizer_environment
from kit.files import SimFiles
from kit.host import KVM_CREATE_DEVICE, KVM_CREATE_VCPU, KVM_CREATE_VM, KVM_DEV_TYPE_VFIO, Host
from kit.importer import SimModule
from kit.simbusy import SimBusy
from kit.simclient import SimClient, SimGone
from kit.simtsm import SimBindModule, SimSlowReset, SimStick, SimTsm
from kit.spdm import OwnRelay

IOMMU_IOAS_UNMAP = 0x3B86
IOMMU_IOAS_MAP_FILE = 0x3B8F
VFIO_DEVICE_GET_REGION_INFO = 0x3B6C
CONFIG_REGION = 7
FIXED_IOVA, WRITEABLE, READABLE = 1, 2, 4


class Simulation:
    """A tdi-sim of our own, which ends with us."""

    def __init__(self, binary, machine, folder):
        self.binary = binary
        self.machine = machine
        self.socket = os.path.join(folder, "sim")
        self.log_path = os.path.join(folder, "sim.log")
        self.sanitizer = os.path.join(folder, "sim-sanitizer")
        self.process = None
        self.client = None
        os.makedirs(self.sanitizer, exist_ok=True)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.binary, "--socket=" + self.socket, self.machine], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=sanitizer_environment(self.sanitizer), start_new_session=True,
                                            preexec_fn=die_with_us)
        self.client = eventually(self._connect, "the socket of tdi-sim")

    def _connect(self):
        if self.process.poll() is not None:
            raise SystemExit(f"tdi-sim ended with {self.process.returncode}:\n" + "\n".join(self.log()[-20:]))
        return SimClient(self.socket)

    def stop(self):
        """Ends it; what was wrong with it, as lines."""
        problems = []
        if self.process and self.process.poll() is None:
            self._settle()
            self.client.disconnect()
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                problems.append("tdi-sim does not end on SIGTERM")
                self.process.kill()
                self.process.wait()
        if self.process and self.process.returncode:
            problems.append(f"tdi-sim ended with {self.process.returncode}:\n" + "\n".join(self.log()[-20:]))
        return problems + self.reports()

    def _settle(self):
        """Calls and files of processes that were killed are over when these have ended, a moment later."""
        try:
            eventually(lambda: not (now := self.client.control("open"))["calls"] and not now["open"], "nothing is open", 3)
        except (Failure, OSError):
            pass # it says so itself

    def reports(self):
        """What sanitizers had to say since the last call."""
        out = []
        for path in glob.glob(self.sanitizer + "/*"):
            with open(path, encoding="utf-8", errors="replace") as file:
                out.append("sanitizer report of tdi-sim:\n" + file.read())
            os.unlink(path)
        return out

    def alive(self):
        return self.process.poll() is None

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read().splitlines()
        except OSError:
            return []


class SimHost(Host):
    kind = "sim"
    # The simulation's /dev/kvm is tdid's; what this machine has is not relied on.
    guest_accel = "tcg"
    lacking = {
        "evidence_module": "the simulation has no netlink",
        "linux": "only the real kernel has it",
        "fuse": "the simulation has no file systems",
        "root": "acts as other users, which only root can",
    }

    def __init__(self, topology, simulation):
        self.simulation = simulation
        self.client = simulation.client
        self.spec = "sim:" + simulation.socket
        self.stick_users = set()
        self.busy = SimBusy(self)
        self._said = 0
        self._tracing = 0
        super().__init__(topology, SimFiles(self.client))

    def has(self, feature):
        if feature in ("tsm", "stick", "importer", "sources", "programs", "dm", "md", "trace", "iommufd_tsm", "faults", "slow_reset",
                       "bind_module", "machines", "spdm", "aer"):
            return True
        if feature == "kvm":
            return self.files.exists("/dev/kvm")
        if feature == "root":
            return os.geteuid() == 0
        return False

    def new_tsm(self):
        return SimTsm(self)

    def new_stick(self):
        return SimStick(self)

    def new_slow_reset(self):
        return SimSlowReset(self)

    def new_bind_module(self):
        return SimBindModule(self)

    def new_importer(self):
        return SimModule(self.client)

    def new_spdm_relay(self, folder):
        return OwnRelay(self, folder)

    def sleeps(self, pid):
        """Whether a process is in a call that nothing ends: in the simulation it only waits for an answer."""
        return any(c["pid"] == pid and c["state"] == "uninterruptible" for c in self.client.control("open")["calls"])

    def start_write(self, bdf, attribute, text):
        thread = threading.Thread(target=self.write, args=(bdf, attribute, text), daemon=True)
        thread.start()
        return lambda: not thread.is_alive()

    def set_driver(self, bdf, driver):
        if driver == SimStick.module:
            self.stick_users.add(bdf)
        super().set_driver(bdf, driver)

    # ---- what a holder has ----

    def ioctl(self, fd, request, data=b"", value=0, fds=()):
        return self.client.ioctl(fd, request, data, value=value, fds=fds)[1]

    def canonical(self, path):
        match = re.fullmatch(r"socket:\[(\d+)\]", path)
        return match and self.client.identify(int(match.group(1))) or path

    def dma(self, pid, bdf, ioas):
        """As tests/vm/programs/edu_dma.c, with the simulation's calls."""
        device, iommufd = self.take(pid, self.vfio_node(bdf)), self.take(pid, "/dev/iommu")
        try:
            Edu(self.client, device, iommufd).prove(ioas, pid)
        finally:
            self.close(device)
            self.close(iommufd)

    # ---- KVM ----

    def open_kvm(self):
        return self.client.open("/dev/kvm", os.O_RDWR)

    def kvm_vm(self):
        kvm = self.open_kvm()
        try:
            return self.client.ioctl(kvm, KVM_CREATE_VM)[3][0]
        finally:
            self.close(kvm)

    def kvm_vcpu(self, vm):
        return self.client.ioctl(vm, KVM_CREATE_VCPU)[3][0]

    def kvm_vfio_device(self, vm):
        return self.client.ioctl(vm, KVM_CREATE_DEVICE, struct.pack("=III", KVM_DEV_TYPE_VFIO, 0, 0))[3][0]

    # ---- what the simulation says ----

    def device_error(self, bdf):
        """The device reports an error, which is not fatal."""
        self.client.control("aer", device=bdf, fatal=False)

    def start_trace(self):
        """Has every call written down from now on: in which file, and from where there."""
        path = self.simulation.socket + ".trace"
        if not self._tracing:
            self.client.control("trace", path=path)
        self._tracing += 1
        return path, os.path.getsize(path)

    def end_trace(self):
        self._tracing -= 1
        if not self._tracing:
            self.client.control("trace", path=None)
            os.unlink(self.simulation.socket + ".trace")

    def kernel_log(self):
        """What the simulation has said since the last call, a list of lines."""
        lines = self.simulation.log()
        new, self._said = lines[self._said:], len(lines)
        return new

    def open_files(self):
        """What is still open in the simulation, as lines."""
        return [f"{f['name']} opened by process {f['opener']}" for f in self.client.control("open")["open"]]

    def left_behind(self):
        if not self.simulation.alive():
            return ["tdi-sim has ended:\n" + "\n".join(self.simulation.log()[-20:])]
        problems = self.simulation.reports()
        problems += [line for line in self.simulation.log()[self._said:] if any(m in line for m in SANITIZER_MARKS)]
        try:
            eventually(lambda: not self.open_files(), "everything is closed", 5)
        except SimGone as error:
            problems.append(str(error))
        except Failure:
            problems += ["still open in the simulation: " + line for line in self.open_files()]
        return problems


class Edu:
    """The edu device through a VM's own descriptors: copies memory into itself and out again."""

    ID, SOURCE, TARGET, COUNT, COMMAND, BUFFER = 0x00, 0x80, 0x88, 0x90, 0x98, 0x40000
    START, TO_MEMORY = 1, 2
    IOVA, SIZE, CHUNK = 0x8000000, 0x10000, 2048

    def __init__(self, client, device, iommufd):
        self.client = client
        self.device = device
        self.iommufd = iommufd

    def _region(self, index):
        answer = self.client.ioctl(self.device, VFIO_DEVICE_GET_REGION_INFO, struct.pack("=IIIIQQ", 32, 0, index, 0, 0, 0))[1]
        return struct.unpack("=IIIIQQ", answer)[5]

    def _read32(self, offset):
        return struct.unpack("=I", self.client.pread(self.device, 4, offset))[0]

    def _write32(self, offset, value):
        check(self.client.pwrite(self.device, struct.pack("=I", value), offset) == 4, f"write at {offset:#x}")

    def _copy(self, bar, source, target, command):
        for register, value in ((self.SOURCE, source), (self.TARGET, target), (self.COUNT, self.CHUNK),
                                (self.COMMAND, command | self.START)):
            self._write32(bar + register, value)
        eventually(lambda: not self._read32(bar + self.COMMAND) & self.START, "end of edu's DMA", 10, 0.002)

    def prove(self, ioas, pid):
        fd = os.memfd_create("edu")
        try:
            os.ftruncate(fd, self.SIZE)
            with mmap.mmap(fd, self.SIZE) as ram:
                ram[:] = bytes((i * 7 + i // 256 + pid) & 0xff for i in range(self.SIZE))
                before = bytes(ram)
                self.client.ioctl(self.iommufd, IOMMU_IOAS_MAP_FILE,
                                  struct.pack("=IIIiQQQ", 40, FIXED_IOVA | WRITEABLE | READABLE, ioas, fd, 0, self.SIZE, self.IOVA), fds=(fd,))
                self._prove(ram, before)
                self.client.ioctl(self.iommufd, IOMMU_IOAS_UNMAP, struct.pack("=IIQQ", 24, ioas, self.IOVA, self.SIZE))
        finally:
            os.close(fd)

    def _prove(self, ram, before):
        config, bar = self._region(CONFIG_REGION), self._region(0)
        command = struct.unpack("=H", self.client.pread(self.device, 2, config + 4))[0]
        # Memory and bus master on.
        self.client.pwrite(self.device, struct.pack("=H", command | 6), config + 4)
        check(self._read32(bar + self.ID) & 0xff == 0xed, "it is no edu device")
        # From page 1 into the device, from there to page 9: not a byte of it may come from anywhere else.
        self._copy(bar, self.IOVA + 0x1000, self.BUFFER, 0)
        self._copy(bar, self.BUFFER, self.IOVA + 0x9000, self.TO_MEMORY)
        wanted = bytearray(before)
        wanted[0x9000:0x9000 + self.CHUNK] = before[0x1000:0x1000 + self.CHUNK]
        check(bytes(ram) == bytes(wanted), "what edu copied back differs, or it wrote elsewhere")
