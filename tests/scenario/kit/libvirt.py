# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A real libvirtd, as Debian ships it, that sees nothing of this machine's: in mount, PID and network namespaces of its own, with empty
# folders where it keeps its files, tdid's bus as the system bus, and tdid's state folder where tdid has it when it is installed. So the
# hook is called as it is shipped, and domains name their sockets as the documents say. QEMU is that of kit/guest.py, run as libvirt-qemu.

import json
import os
import shutil
import signal
import socket
import subprocess

from kit import guest, libvirt_init
from kit.checks import Failure, check, eventually
from kit.daemon import die_with_us

UID = libvirt_init.UID  # of QEMU
# What libvirtd has found out about a QEMU, by running it for some seconds, is kept as it would be on a machine; libvirtd knows when it is out of date.
CAPABILITIES = "/var/cache/libvirt/qemu/capabilities"


def why_not(hook):
    """None, or the reason why there is no libvirtd here."""
    if os.geteuid() != 0:
        return "a libvirtd that runs QEMU as another user needs root"
    for program in ("libvirtd", "virsh", "nsenter", "unshare"):
        if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            return f"no {program}"
    return None if os.path.exists(hook) else f"no {hook}: it is built where libxml2 is"


class Libvirt:
    def __init__(self, t):
        self.t = t
        self.folder = os.path.join(t.folder, "libvirt")
        self.log = os.path.join(t.folder, "libvirtd.log")
        self.init = self.daemon = None
        os.mkdir(self.folder, 0o755)
        guest.locate()

    def start(self):
        """The namespaces, and a libvirtd in them."""
        cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tdid/libvirt-capabilities")
        os.makedirs(cache, exist_ok=True)
        plan = {"hook": self.t.paths.hook,
                "binds": [(self.t.daemon.state, "/run/tdid"), (self.t.bus.socket, "/run/dbus/system_bus_socket"), (cache, CAPABILITIES),
                          (os.environ["TDID_QEMU_CLIENT"], "/run/qemu"), (os.environ["TDID_GUEST"], "/run/guest")]}
        self.init = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", libvirt_init.__file__,
                                      json.dumps(plan)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=die_with_us)
        check(self.init.stdout.readline() == "ready\n", "libvirtd's namespaces could not be made")
        with open(f"/proc/{self.init.pid}/task/{self.init.pid}/children", encoding="utf-8") as file:
            self.pid = int(file.read().split()[0])
        self.start_daemon()

    def path(self, inside):
        """Where a file of the namespaces is from here."""
        return f"/proc/{self.pid}/root{inside}"

    def command(self, *words):
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", *words]

    def start_daemon(self):
        environment = {"PATH": "/run/bin", "LIBVIRT_DRIVER_DIR": "/run/drivers", "HOME": "/root", "LC_ALL": "C"}
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(self.command("env", "-i", *(f"{k}={v}" for k, v in environment.items()), "/usr/sbin/libvirtd"),
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        # It answers once it has found its domains again.
        eventually(lambda: self.run("uri").returncode == 0, "an answer of libvirtd", 60)

    def daemon_pid(self):
        with open(self.path("/run/libvirtd.pid"), encoding="utf-8") as file:
            return int(file.read())

    def end_daemon(self, number=signal.SIGTERM):
        """Ends libvirtd alone: its domains stay."""
        subprocess.run(self.command("/bin/kill", f"-{int(number)}", str(self.daemon_pid())), check=True)
        self.daemon.wait(60)

    def restart(self, number=signal.SIGTERM):
        self.end_daemon(number)
        self.start_daemon()

    def stop(self):
        """Everything in the namespaces ends."""
        if self.init:
            self.init.kill()
            self.init.wait()
            self.init.stdout.close()
        if self.daemon:
            self.daemon.wait(60)

    # ---- virsh ----

    VIRSH = ("/usr/bin/virsh", "-q", "-c", "qemu:///system")
    ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LC_ALL": "C"}

    def run(self, *words):
        return subprocess.run(self.command(*self.VIRSH, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False,
                              env=self.ENVIRONMENT)

    def begin(self, *words):
        """virsh beside the scenario."""
        process = subprocess.Popen(self.command(*self.VIRSH, *words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=self.ENVIRONMENT, preexec_fn=die_with_us)
        self.t.defer(process.wait)
        self.t.defer(process.kill)
        return process

    def virsh(self, *words):
        """What it says; it must end well."""
        done = self.run(*words)
        if done.returncode:
            raise Failure(f"virsh {' '.join(words)}: exit {done.returncode}: {done.stderr.strip()}; libvirtd: {self.said(5)}")
        return done.stdout.strip()

    def refused(self, *words):
        """What it says when it ends badly, which it must."""
        done = self.run(*words)
        check(done.returncode != 0, f"virsh {' '.join(words)} ended well")
        return done.stderr

    def running(self):
        return self.virsh("list", "--name").split()

    def said(self, lines=40):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()[-lines:]

    def hooks(self, name):
        """The operations that libvirtd has called its hooks for, in order, of a domain."""
        with open(self.path("/run/hooks.log"), encoding="utf-8") as file:
            return [line.split()[1] for line in file if line.split()[0] == name]


class Listener:
    """Where the serial lines of domains are connected to; libvirt gives QEMU the path alone."""

    def __init__(self, path):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        os.chmod(path, 0o666)
        self.sock.listen(4)

    def forget(self):
        """Domains that did not start have connected, too."""
        self.sock.setblocking(False)
        try:
            while True:
                self.sock.accept()[0].close()
        except BlockingIOError:
            self.sock.settimeout(60)

    def accept(self):
        sock, _ = self.sock.accept()
        sock.setblocking(True)
        return sock
