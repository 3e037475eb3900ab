# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A guest under an unmodified QEMU, whose program (tests/vm/guest) drives functions: those that tdid serves, or QEMU's own for
# comparison. QEMU comes from tests/vm/fetch-qemu-client and runs as an ordinary user; kernel and initramfs come from
# tests/vm/build-guest. The guest is talked to on its serial line, QEMU by QMP.

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from kit.checks import Failure, check
from kit.daemon import LIBC, die_with_us

TESTS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Where both are in the test VM; else the cache has them.
INSTALLED = "/opt/tdid/client"
USER = 1000
# Enough for it; on an emulated machine, what is pinned of it takes its time.
MEMORY = "80M"

# Emulation in emulation: a boot that takes 2 s on a machine takes a minute there.
BOOT_TIMEOUT = 240.0
COMMAND_TIMEOUT = 120.0
QMP_TIMEOUT = 60.0

# What a guest's kernel says when it is broken.
BAD = re.compile(r"\bBUG:|\bWARNING:|Oops|general protection|Kernel panic|Call Trace|hung_task|blocked for more than|nobody cared")

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000


def locate():
    """Finds QEMU and the guest, for us and for the processes that we start. Makes neither."""
    for variable, script, folder in (("TDID_QEMU_CLIENT", "fetch-qemu-client", "qemu"), ("TDID_GUEST", "build-guest", "guest")):
        installed = os.path.join(INSTALLED, folder)
        if os.environ.get(variable):
            continue
        if os.path.isdir(installed):
            os.environ[variable] = installed
            continue
        try:
            done = subprocess.run([os.path.join(TESTS, "vm", script), "--cached"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                  check=False)
        except OSError:
            continue
        if done.returncode == 0:
            os.environ[variable] = done.stdout.strip()


def why_not():
    """None, or the reason why no guest can be run here."""
    if not os.environ.get("TDID_QEMU_CLIENT"):
        return "no QEMU with vfio-user: tests/vm/fetch-qemu-client fetches it"
    if not os.environ.get("TDID_GUEST"):
        return "no guest: tests/vm/build-guest makes it"
    return None


class Line:
    """A socket on which lines come, read by a thread; who waits for one sees those since the last that was waited for."""

    def __init__(self, name, sock, log=None):
        self.name = name
        self.sock = sock
        self.lines = []
        self.read = 0
        self.ended = False
        self.log = log
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self):
        rest = b""
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            with self._news:
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    text = line.decode(errors="replace").rstrip("\r")
                    self.lines.append(text)
                    if self.log:
                        self.log(text)
                self.ended = not data
                self._news.notify_all()
            if not data:
                return

    def wait(self, match, timeout, what):
        """The first new line that match() returns something true for, and what it returned."""
        until = time.monotonic() + timeout
        with self._news:
            while True:
                while self.read < len(self.lines):
                    self.read += 1
                    if found := match(self.lines[self.read - 1]):
                        return found
                if self.ended:
                    raise Failure(f"{self.name} has ended before {what}: {self.lines[-5:]}")
                left = until - time.monotonic()
                if left <= 0:
                    raise Failure(f"{self.name}: not within {timeout:g} s: {what}; the last lines: {self.lines[-5:]}")
                self._news.wait(left)

    def skip(self):
        """What came until now is not waited for any more."""
        with self._news:
            self.read = len(self.lines)

    def send(self, text):
        self.sock.sendall(text.encode() + b"\n")

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(10)
        self.sock.close()


class Guest:
    """One QEMU at a time; it may be started again after its end."""

    def __init__(self, folder, log=None, accel="tcg", memory=MEMORY, user=USER):
        """folder: ours, for mount points. log: is called with every line of the guest's. user: whom QEMU runs as when we are root."""
        self.folder = folder
        self.log = log
        self.accel = accel
        self.memory = memory
        self.user = user if os.geteuid() == 0 else os.geteuid()
        self.process = None
        self.serial = self.qmp = None
        self._devices = 0

    # ---- QEMU ----

    @staticmethod
    def vfio_user(path, ident, port):
        """The -device of a function that is served on a socket, behind one of the four ports."""
        return {"driver": "vfio-user-pci", "id": ident, "bus": f"port{port}", "socket": {"path": path, "type": "unix"}}

    def _command(self, devices, append, serial, qmp, kvm):
        qemu, guest = os.path.join(self._client, "qemu"), self._guest
        command = [qemu, "-nodefaults", "-no-user-config", "-display", "none", "-name", "guest",
                   "-machine", "q35,memory-backend=m0,hpet=off,smbus=off,sata=off",
                   "-object", f"memory-backend-memfd,id=m0,size={self.memory},share=on",
                   # Hotplug by the port itself: the guest has no ACPI driver for it.
                   "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
                   "-chardev", f"socket,id=serial,fd={serial}", "-serial", "chardev:serial",
                   "-chardev", f"socket,id=qmp,fd={qmp}", "-qmp", "chardev:qmp",
                   "-kernel", guest + "/bzImage", "-initrd", guest + "/initramfs",
                   "-append", f"console=ttyS0 quiet panic=-1 pci=hpiosize=0 {append}".strip()]
        if kvm is not None:
            # Where the processor that KVM uses is emulated itself, a guest's deadline timer gets lost, and it sleeps for ever.
            command += ["-add-fd", f"fd={kvm},set=1", "-accel", "kvm,device=/dev/fdset/1", "-cpu", "host,tsc-deadline=off"]
        else:
            command += ["-accel", "tcg", "-cpu", "max"]
        for number in range(4):
            command += ["-device", f"pcie-root-port,id=port{number},chassis={number + 1},slot={number + 1},addr={number + 1}"]
        for device in devices:
            command += ["-device", device if isinstance(device, str) else json.dumps(device)]
        return command

    def _enter(self):
        """In the child, as root: the folders below a home that others may not enter are shown elsewhere, and root is given up."""
        die_with_us()
        if os.geteuid() != 0:
            return
        if LIBC.unshare(CLONE_NEWNS) < 0 or LIBC.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) < 0:
            raise OSError(ctypes.get_errno(), "a mount namespace of its own")
        for source, target in ((os.environ["TDID_QEMU_CLIENT"], self._client), (os.environ["TDID_GUEST"], self._guest)):
            if LIBC.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(MS_BIND), None) < 0:
                raise OSError(ctypes.get_errno(), f"bind mount of {source} on {target}")
        os.setgroups([])
        os.setresgid(self.user, self.user, self.user)
        os.setresuid(self.user, self.user, self.user)
        die_with_us()

    def start(self, *devices, append="", wait=True):
        """Starts QEMU with these devices: dicts, or texts as for -device. Returns the seconds until the guest was ready."""
        check(self.process is None or self.process.poll() is not None, "the guest is running already")
        self.close()
        self._client, self._guest = os.environ["TDID_QEMU_CLIENT"], os.environ["TDID_GUEST"]
        if os.geteuid() == 0:
            self._client, self._guest = (os.path.join(self.folder, n) for n in ("qemu", "guest"))
            for path in (self._client, self._guest):
                os.makedirs(path, mode=0o755, exist_ok=True)
        serial, theirs = socket.socketpair()
        qmp, theirs_qmp = socket.socketpair()
        fds = [theirs.fileno(), theirs_qmp.fileno()]
        kvm = os.open("/dev/kvm", os.O_RDWR) if self.accel == "kvm" else None
        begin = time.monotonic()
        self.errors = os.path.join(self.folder, "qemu.log")
        try:
            with open(self.errors, "ab") as errors:
                self.process = subprocess.Popen(self._command(devices, append, *fds, kvm), stdin=subprocess.DEVNULL, stdout=errors,
                                                stderr=errors, pass_fds=[*fds, *([kvm] if kvm is not None else [])],
                                                preexec_fn=self._enter, start_new_session=True)
        finally:
            theirs.close()
            theirs_qmp.close()
            if kvm is not None:
                os.close(kvm)
        self.serial = Line("the guest", serial, self.log)
        self.qmp = Line("QEMU", qmp)
        self._negotiated = False
        if wait:
            self.ready()
        return time.monotonic() - begin

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_exit(self, timeout=QMP_TIMEOUT):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"QEMU did not end within {timeout:g} s") from None

    def kill(self):
        """SIGKILL, and waits until the process is gone."""
        if self.running():
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def close(self):
        """Whatever there is of it ends. What QEMU had to say, as lines."""
        self.kill()
        for line in (self.serial, self.qmp):
            if line:
                line.close()
        self.serial = self.qmp = None
        return self.complaints()

    def complaints(self):
        """What QEMU has written, without what is no news."""
        try:
            with open(self.errors, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except (OSError, AttributeError):
            return []
        return [line for line in lines if "TCG doesn't support requested feature" not in line]

    # ---- QMP ----

    def monitor(self, command, **arguments):
        """Runs a QMP command; its answer. Raises when QEMU refuses."""
        if not self._negotiated:
            self.qmp.wait(lambda line: '"QMP"' in line, QMP_TIMEOUT, "its greeting")
            self._negotiated = True
            self.monitor("qmp_capabilities")
        self.qmp.send(json.dumps({"execute": command, "arguments": arguments}))
        answer = self.qmp.wait(lambda line: (doc := json.loads(line)) and ("return" in doc or "error" in doc) and doc, QMP_TIMEOUT,
                               f"{command} was answered")
        if "error" in answer:
            raise Failure(f"QMP {command}: {answer['error'].get('desc')}")
        return answer["return"]

    def unplug(self, ident, timeout=QMP_TIMEOUT):
        """Takes a device out, as a host's user would ask the guest to; returns when QEMU has let go of it."""
        self.monitor("device_del", id=ident)

        def gone(line):
            doc = json.loads(line)
            return doc.get("event") == "DEVICE_DELETED" and doc["data"].get("device") == ident
        self.qmp.wait(gone, timeout, f"{ident} was unplugged")

    # ---- the guest ----

    def ready(self, timeout=BOOT_TIMEOUT):
        """Waits until the guest's program is."""
        try:
            self.serial.wait(lambda line: "guest: ready" in line, timeout, "the guest was ready")
        except Failure as error:
            raise Failure(f"{error}; QEMU: {self.complaints()[-5:]}") from None
        self._judge()

    def tell(self, command):
        """Has the guest do something; see do()."""
        self.serial.send(command)

    def done(self, command, timeout=COMMAND_TIMEOUT):
        """Waits until a command has ended; what the guest said meanwhile. Fails when the guest does not say that all was well."""
        said = []

        def match(line):
            # The kernel may have said something on the same line before.
            _, mark, text = line.partition("guest: ")
            if mark:
                said.append(text)
            return text in (f"ok {command}", f"not ok {command}") and text
        end = self.serial.wait(match, timeout, f"'{command}' has ended")
        self._judge()
        check(end.startswith("ok "), f"the guest says of '{command}':", *[s for s in said if s.startswith("FAILED")] or said)
        return said[:-1]

    def do(self, command, timeout=COMMAND_TIMEOUT):
        """Has the guest do something and waits for its end; what it said meanwhile."""
        self.serial.skip()
        self.tell(command)
        return self.done(command, timeout)

    def _judge(self):
        bad = [line for line in self.serial.lines if BAD.search(line)]
        check(not bad, "the guest's kernel says:", *bad[:3])
