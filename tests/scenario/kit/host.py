# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The host as scenarios see it: devices by role, sysfs, device nodes, KVM, the kernel's log. Scenarios touch devices
# through this object only, so that the simulation can stand in (kit/simhost.py). What both share is in Host; LinuxHost is the
# real kernel. The test TSM's own switches are in kit/tsm.py, what keeps a device busy in kit/busy.py.

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time

import host_state
from kit import busy, guard, guest, importer, tsm
from kit.checks import Failure, eventually
from kit.daemon import process_state
from kit.files import OsFiles
from kit.spdm import GUEST_FOLDER, GuestRelay

PCI = "/sys/bus/pci"
LIBC = ctypes.CDLL(None, use_errno=True)
SYS_PIDFD_GETFD = 438
KVM_CREATE_VM = 0xAE01
KVM_CREATE_VCPU = 0xAE41
KVM_CREATE_DEVICE = 0xC00CAEE0
KVM_DEV_TYPE_VFIO = 4


class Host:
    """What is the same on every host. A kind of host has: kind, spec (tdid's --host), files, busy, and the methods that are missing here."""

    # Why a feature that a scenario needs is not there, where "the host has no ..." says too little.
    lacking = {}

    def __init__(self, topology, files):
        self.files = files
        with open(topology, encoding="utf-8") as file:
            self.topology = json.load(file)
        self.roles = {}

    def why_not(self, feature):
        """None, or the reason why a scenario that needs this feature cannot run here."""
        if feature == "guest":
            return guest.why_not()
        return None if self.has(feature) else self.lacking.get(feature, f"the host has no {feature}")

    def prepare(self):
        """Brings the host to the state that every scenario starts from: drivers bound, VFs there. Finds who has which role."""
        self.roles = {}
        for function in self.topology["functions"]:
            bdf, role = function["bdf"], function["role"]
            if not self.files.exists(self.path(bdf)):
                continue
            eventually(lambda: self.driver(bdf) == function["driver"], f"driver of {bdf} ({role})")
            if "disk" in function:
                eventually(lambda: self.block(bdf), f"disk of {bdf} ({role})")
            # "edu3" is the fourth "edu"; roles without a number have one function.
            self.roles.setdefault(role.rstrip("0123456789"), []).append(bdf)
        for pf in self.roles.get("igb", []):
            if self.read(pf, "sriov_numvfs") == "0":
                self.write(pf, "sriov_numvfs", "2")
            self.roles["igb-vf"] = eventually(lambda: self._vfs(pf), "VFs of the igb")

    def _vfs(self, pf):
        links = self.files.glob(self.path(pf, "virtfn*"))
        links.sort(key=lambda p: int(p.rsplit("virtfn", 1)[1]))
        vfs = [os.path.basename(self.files.readlink(p)) for p in links]
        return vfs if vfs and all(self.driver(v) for v in vfs) else None

    # ---- what there is ----

    def bdf(self, role, index=0):
        return self.roles[role][index]

    def bdfs(self, role, count=None):
        return self.roles[role][:count]

    def count(self, role):
        return len(self.roles.get(role, []))

    def all_functions(self):
        return sorted({b for bdfs in self.roles.values() for b in bdfs})

    # ---- sysfs ----

    def path(self, bdf, *more):
        return os.path.join(PCI, "devices", bdf, *more)

    def read(self, bdf, attribute):
        """An attribute as text, None where it is absent or refuses to be read."""
        try:
            return self.files.read(self.path(bdf, attribute)).decode(errors="replace").rstrip("\n")
        except OSError:
            return None

    def write(self, bdf, attribute, text):
        self.write_file(self.path(bdf, attribute), text)

    def write_file(self, path, text):
        self.files.write(path, text.encode())

    def _link(self, bdf, name):
        try:
            return os.path.basename(self.files.readlink(self.path(bdf, name)))
        except OSError:
            return None

    def driver(self, bdf):
        return self._link(bdf, "driver")

    def override(self, bdf):
        value = self.read(bdf, "driver_override")
        return None if value in (None, "", "(null)") else value

    def power_control(self, bdf):
        return self.read(bdf, "power/control")

    def group(self, bdf):
        name = self._link(bdf, "iommu_group")
        return int(name) if name else -1

    def group_members(self, bdf):
        return sorted(self.files.listdir(self.path(bdf, "iommu_group/devices")))

    def physfn(self, bdf):
        return self._link(bdf, "physfn")

    def dsm(self, bdf):
        """The function that speaks for a device: the PF of a VF, else function 0."""
        pf = self.physfn(bdf) or bdf
        return pf[:-1] + "0"

    def bridges(self, bdf):
        """Every bridge above a function, nearest first."""
        parts = self.files.realpath(self.path(bdf)).split("/")[:-1]
        return [p for p in reversed(parts) if re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", p)]

    def set_driver(self, bdf, driver):
        """Binds a function to a driver by override, or leaves it without one; for tests that prepare a host."""
        if self.driver(bdf):
            self.write(bdf, "driver/unbind", bdf)
        self.write(bdf, "driver_override", driver or "\n")
        if driver:
            self.write_file(f"{PCI}/drivers_probe", bdf)

    def reprobe(self, bdf):
        """Gives a function back to whatever driver the kernel finds for it."""
        if self.driver(bdf):
            self.write(bdf, "driver/unbind", bdf)
        self.write(bdf, "driver_override", "\n")
        try:
            self.write_file(f"{PCI}/drivers_probe", bdf)
        except OSError:
            pass

    def remove(self, bdf):
        """Takes a function off the bus, as unplugging would; rescan() finds it again."""
        self.write(bdf, "remove", "1")

    def start_remove(self, bdf):
        """The same, not waited for: the kernel lets nobody go on before all descriptors are closed. Returns what tells whether it has ended."""
        return self.start_write(bdf, "remove", "1")

    def start_write(self, bdf, attribute, text):
        """A write that may wait for others, not waited for. Returns what tells whether it has ended."""
        process = subprocess.Popen(["sh", "-c", f"echo {text} >{self.path(bdf, attribute)}"])
        return lambda: process.poll() is not None

    def rescan(self):
        self.write_file(f"{PCI}/rescan", "1")

    # ---- device nodes ----

    def vfio_node(self, bdf):
        try:
            names = [n for n in self.files.listdir(self.path(bdf, "vfio-dev")) if n.startswith("vfio")]
        except OSError:
            return None
        return "/dev/vfio/devices/" + names[0] if names else None

    def open_vfio(self, bdf):
        """An open of the function's VFIO node of our own, without binding it."""
        node = eventually(lambda: self.vfio_node(bdf), f"VFIO node of {bdf}")
        return self.files.open(node, os.O_RDWR)

    def close(self, fd):
        """Closes a descriptor of the host's; returns when what the last close does is done."""
        self.files.close(fd)

    def block(self, bdf):
        found = self.files.glob(self.path(bdf, "nvme/nvme*/nvme*n*"))
        node = "/dev/" + os.path.basename(found[0]) if found else None
        return node if node and self.files.exists(node) else None

    def net(self, bdf):
        try:
            names = self.files.listdir(self.path(bdf, "net"))
        except OSError:
            return None
        return names[0] if names else None

    # ---- TSM, as sysfs shows it ----

    def tsm_connected(self, bdf):
        """The TSM that a DSM is connected to, "" when none, None where the kernel has no such attribute."""
        return self.read(bdf, "tsm/connect")

    def tsm_bound(self, bdf):
        """The TSM that has a function bound, "" when none, None for one that no DSM speaks for."""
        return self.read(bdf, "tsm/bound")

    def bind_module_loaded(self):
        return self.files.exists("/dev/tdid-bind")

    def tsm_connect(self, bdf, tsm):
        self.write(bdf, "tsm/connect", tsm)

    def tsm_disconnect(self, bdf, tsm):
        self.write(bdf, "tsm/disconnect", tsm)

    def tsms(self):
        try:
            return sorted(self.files.listdir("/sys/class/tsm"))
        except OSError:
            return []

    # ---- what a holder has ----

    def _fds(self, pid):
        out = []
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                path = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            out.append(self.canonical(path))
        return out

    def canonical(self, path):
        """What a link in /proc/PID/fd says, in the host's words."""
        # Opened in another mount namespace, as under the unit, a device file is seen without the /dev it stands in.
        return "/dev" + path if re.match(r"/vfio/|/iommu$", path) else path

    def descriptors(self, pid):
        """All descriptors of a process in canonical form: device files and anonymous kinds, sockets without numbers."""
        return sorted(re.sub(r":\[\d+\]$", "", f) for f in self._fds(pid))

    def holds(self, pid, bdf):
        node = self.vfio_node(bdf)
        return bool(node) and node in self._fds(pid)

    def take(self, pid, wanted):
        """A duplicate of the descriptor that a process has of a path."""
        pidfd = os.pidfd_open(pid)
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                if self.canonical(os.readlink(f"/proc/{pid}/fd/{name}")) == wanted:
                    fd = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, int(name), 0)
                    if fd < 0:
                        error = ctypes.get_errno()
                        raise OSError(error, os.strerror(error), f"{wanted} of process {pid}")
                    os.set_inheritable(fd, False)
                    return fd
        finally:
            os.close(pidfd)
        raise Failure(f"process {pid} has no descriptor of {wanted}")

    def take_connection(self, pid, peer):
        """A duplicate of the socket by which a process is connected to another."""
        pidfd = os.pidfd_open(pid)
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
                fd = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, int(name), 0)
                if fd < 0:
                    continue
                os.set_inheritable(fd, False)
                taken = socket.socket(fileno=fd)
                if taken.family == socket.AF_UNIX and peer == struct.unpack(
                    "3i", taken.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                )[0]:
                    return taken
                taken.close()
        finally:
            os.close(pidfd)
        raise Failure(f"process {pid} is not connected to process {peer}")

    def iommufds(self, pid):
        return self._fds(pid).count("/dev/iommu")

    def holds_kvm(self, pid):
        return "anon_inode:kvm-vm" in self._fds(pid)

    # ---- state and force ----

    def snapshot(self, bdfs=None):
        """Everything of sysfs that a scenario must leave as it was: of all functions, or of some with all that is near them."""
        return host_state.walk(bdfs if bdfs is not None else self.all_functions(), self.files)

    def near(self, bdfs):
        """The functions with those that speak for them and the bridges above: what snapshot() of them has."""
        return host_state.expand(bdfs, self.files)

    def left_behind(self):
        """What the host itself still keeps for processes that are no more, as lines. The real kernel keeps nothing that files do not show."""
        return []

    def signature(self):
        """What a function left in the wrong hands would show first, of all functions; cheap."""
        keys = {"override": "driver_override", "power_control": "power/control", "enable": "enable"}
        functions = self.all_functions()
        said = iter(self.files.read_all([self.path(bdf, name) for bdf in functions for name in keys.values()]))

        def text(data):
            return None if isinstance(data, OSError) else data.decode(errors="replace").rstrip("\n")
        return {bdf: {"driver": self.driver(bdf), **{key: text(next(said)) for key in keys}} for bdf in functions}

    def differences(self, baseline, bdfs=None):
        """What differs from the baseline: of some functions everything, of the others the signature; or of all everything."""
        if bdfs is None:
            return host_state.compare(baseline, self.snapshot())
        near = set(self.near(bdfs))
        wanted = {"functions": {b: f for b, f in baseline["functions"].items() if b in near}}
        lines = host_state.compare(wanted, self.snapshot(bdfs))
        for bdf, now in self.signature().items():
            before = baseline["functions"].get(bdf, now)
            lines += [f"{bdf} {key}: {before[key]!r} → {value!r}" for key, value in now.items()
                      if bdf not in near and before[key] != value]
        return lines

    def settled(self, baseline, bdfs=None, seconds=5.0):
        """Differences from the baseline that remain after some seconds: a list of lines, empty when there are none."""
        until, pause = time.monotonic() + seconds, 0.02
        while True:
            lines = self.differences(baseline, bdfs)
            if not lines or time.monotonic() >= until:
                return lines
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def force_clean(self, baseline):
        """Brings every function back by hand after a scenario that did not. Nothing of ours may run any more."""
        for bdf in self.all_functions():
            before = baseline["functions"].get(bdf, {})
            try:
                if self.power_control(bdf) != before.get("power_control"):
                    self.write(bdf, "power/control", before.get("power_control") or "auto")
                if self.override(bdf) or self.driver(bdf) != before.get("driver"):
                    self.reprobe(bdf)
            except OSError:
                pass
        self.prepare()


class LinuxHost(Host):
    """The kernel that this program runs on."""

    kind = spec = "linux"
    busy = busy
    lacking = {"faults": "no kernel call can be made to fail or to hang", "machines": "only simulations stand beside each other",
               "spdm": "no mailbox with a responder that scenarios choose: see tests/vm/boot --spdm-port"}

    def __init__(self, topology, programs, modules):
        super().__init__(topology, OsFiles())
        self.programs = programs
        self.modules = modules
        self._kmsg = self._open_kmsg()

    def ioctl(self, fd, request, data=b"", value=0, fds=()):
        """
        An ioctl on a descriptor of the host; its argument as the kernel left it. The argument is `value` where it is no struct; `fds` are those
        that members of the struct name.
        """
        return fcntl.ioctl(fd, request, data or value)

    def remove(self, bdf):
        """The file is not there any more when the write ends."""
        fd = guard.open_for_writing(self.path(bdf, "remove"))
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)

    def start_remove(self, bdf):
        fd = guard.open_for_writing(self.path(bdf, "remove"))
        process = subprocess.Popen(["echo", "1"], stdout=fd)
        os.close(fd)
        return lambda: process.poll() is not None

    def sleeps(self, pid):
        """Whether a process sleeps in the kernel, where no signal ends it."""
        return process_state(pid) == "D"

    def new_tsm(self):
        return tsm.TestTsm(self.modules)

    def new_stick(self):
        return tsm.StickDriver(self.modules)

    def new_slow_reset(self):
        return tsm.SlowReset(self.modules)

    def new_importer(self):
        return importer.Module(self.modules)

    def new_bind_module(self):
        return tsm.BindModule(self.modules)

    def new_evidence_module(self):
        return tsm.EvidenceModule(self.modules)

    def new_spdm_relay(self, *_):
        return GuestRelay()

    def has(self, feature):
        """Whether the host can do what a scenario needs besides its devices."""
        if feature == "kvm":
            return os.path.exists("/dev/kvm")
        if feature == "spdm":
            return os.path.isdir(GUEST_FOLDER)
        if feature == "fuse":
            return os.path.exists("/dev/fuse")
        if feature == "tsm":
            return os.path.exists(os.path.join(self.modules, "tdid_test_tsm.ko"))
        if feature == "stick":
            return os.path.exists(os.path.join(self.modules, "tdid_test_stick.ko"))
        if feature == "slow_reset":
            return os.path.exists(os.path.join(self.modules, "tdid_test_reset.ko"))
        if feature == "importer":
            return os.path.exists(os.path.join(self.modules, "tdid_test_importer.ko"))
        if feature == "bind_module":
            return os.path.exists(os.path.join(self.modules, "tdid-bind.ko"))
        if feature == "evidence_module":
            return os.path.exists(os.path.join(self.modules, "tdid_test_evidence.ko"))
        if feature == "aer":
            return os.path.exists("/dev/aer_inject")
        if feature == "programs":
            return os.path.exists(os.path.join(self.programs, "edu_dma"))
        if feature == "dm":
            return os.path.exists("/dev/mapper/control")
        if feature == "md":
            return os.path.exists("/sys/module/md_mod/parameters/new_array")
        if feature == "apparmor":
            return os.path.exists("/sys/kernel/security/apparmor/profiles") and shutil.which("apparmor_parser")
        if feature == "root":
            return os.geteuid() == 0
        if feature == "guard":
            with open("/sys/kernel/security/lsm", encoding="ascii") as file:
                return "bpf" in file.read().split(",")
        if feature == "linux":
            return True
        return False

    def device_error(self, bdf):
        """The device reports an error, which is not fatal: a completion that did not come in time (struct aer_error_inj, drivers/pci/pcie/aer_inject.c)."""
        domain, bus, rest = bdf.split(":")
        device, function = rest.split(".")
        with open("/dev/aer_inject", "wb", buffering=0) as file:
            file.write(struct.pack("=BBBxIIIIIII", int(bus, 16), int(device, 16), int(function), 0x4000, 0, 0, 0, 0, 0, int(domain, 16)))

    def dma(self, pid, bdf, ioas):
        """edu copies memory through the address space of the VM; raises when what comes back is not what went out."""
        done = subprocess.run([os.path.join(self.programs, "edu_dma"), str(pid), bdf, str(ioas)],
                              capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise Failure(f"edu_dma of {bdf} in IOAS {ioas} of process {pid}: exit {done.returncode}: {done.stderr.strip()}")

    # ---- KVM ----

    @property
    def guest_accel(self):
        """What guests run on. The test VM's emulated processor has what KVM needs, and a guest is many times faster with it."""
        return os.environ.get("TDID_GUEST_ACCEL") or ("kvm" if self.has("kvm") else "tcg")

    def open_kvm(self):
        return os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)

    def kvm_vm(self):
        kvm = self.open_kvm()
        try:
            return fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        finally:
            os.close(kvm)

    def kvm_vcpu(self, vm):
        return fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)

    def kvm_vfio_device(self, vm):
        """The kvm-vfio device of a VM, a descriptor that looks much like the VM's."""
        answer = fcntl.ioctl(vm, KVM_CREATE_DEVICE, struct.pack("III", KVM_DEV_TYPE_VFIO, 0, 0))
        return struct.unpack("III", answer)[1]

    # ---- the kernel's log ----

    @staticmethod
    def _open_kmsg():
        try:
            fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(fd, 0, os.SEEK_END)
            return fd
        except OSError:
            return -1

    def kernel_log(self):
        """What the kernel has said since the last call, a list of lines."""
        lines = []
        while self._kmsg >= 0:
            try:
                record = os.read(self._kmsg, 8192).decode(errors="replace")
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:
                    continue
                break
            head, _, text = record.partition(";")
            lines.append(f"[{int(head.split(',')[2]) / 1e6:.3f}] {text.splitlines()[0] if text else ''}")
        return lines
