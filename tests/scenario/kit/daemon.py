# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A private bus and a tdid on it: start, kill, stop, restart, with the time until it owns its name; the processes that
# belong to it, and what they use. Under systemd the same operations go to the unit.

import ctypes
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

from kit.checks import PATIENCE, Failure, eventually
from kit.client import NAME, Client, Lost, Refused

POLICY_NAME = "org.tdid1.conf"
OURS = ("tdid", "tdid-vm", "tdid-worker")

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <limit name="max_connections_per_user">2000</limit>
  <!-- As the system bus: nothing is allowed but what a service's own policy file allows. -->
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>{policy}</include>
  {runner}
  <!-- The bench's bare service, a logind, a polkit and a monitor of ours. -->
  <policy user="root">
    <allow own="org.tdid1.Bench"/>
    <allow send_destination="org.tdid1.Bench"/>
    <allow own="org.freedesktop.login1"/>
    <allow send_destination="org.freedesktop.login1"/>
    <allow own="org.freedesktop.PolicyKit1"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  {polkitd}
</busconfig>
"""


LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def die_with_us():
    """For a child, before it becomes another program: it is killed when we end, however that comes."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Bus:
    """A dbus-daemon of our own, as strict as the system bus, with tdid's shipped policy."""

    def __init__(self, folder, policy):
        self.folder = folder
        self.socket = os.path.join(folder, "bus")
        self.address = "unix:path=" + self.socket
        config = os.path.join(folder, "bus.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(BUS_CONFIG.format(socket=self.socket, policy=policy, runner=self.allowed(os.geteuid()), polkitd=self.polkitd()))
        with open(os.path.join(folder, "bus.log"), "wb") as log:
            self.process = subprocess.Popen(["dbus-daemon", "--config-file=" + config, "--nofork", "--nopidfile"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_us)
        eventually(self.listens, "the private bus")
        # Ordinary users connect to it too.
        os.chmod(self.socket, 0o666)

    def listens(self):
        """The socket is there a moment before anybody listens on it."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(self.socket)
        return True

    @staticmethod
    def allowed(uid):
        """A tdid that an ordinary user runs is allowed to that user what the shipped policy allows to root."""
        names = (NAME, "org.freedesktop.login1")
        rules = "".join(f'<allow own="{n}"/><allow send_destination="{n}"/>' for n in names)
        return f'<policy user="{uid}">{rules}</policy>' if uid else ""

    @staticmethod
    def polkitd():
        """The real one, where there is one, becomes an ordinary user."""
        try:
            uid = pwd.getpwnam("polkitd").pw_uid
        except KeyError:
            return ""
        return f'<policy user="{uid}"><allow own="org.freedesktop.PolicyKit1"/></policy>'

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# An argument that every program of a run has, on a machine that others use too: "--host=sim:SOCKET". None: all are ours.
MARK = None


def own_only(mark):
    """From here on only processes with this argument are seen, and ended."""
    global MARK
    MARK = os.fsencode(mark)


def is_marked(pid):
    if MARK is None:
        return True
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return MARK in file.read().split(b"\0")
    except OSError:
        return False


def processes(name=None):
    """PIDs of our programs, by what they execute: {pid: program}."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            program = os.path.basename(os.readlink(f"/proc/{entry}/exe")).removesuffix(" (deleted)")
        except OSError:
            continue
        if program in OURS and name in (None, program) and is_marked(entry):
            found[int(entry)] = program
    return found


def children(pid):
    """PIDs and states of the children of a process."""
    found = {}
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path, encoding="utf-8") as file:
                pids = file.read().split()
        except OSError:
            continue
        for child in pids:
            found[int(child)] = process_state(child)
    return found


def process_state(pid):
    """The state letter of a process ("D" is a sleep that no signal ends), "" when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def memory_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise Failure(f"no Pss of process {pid}")


def cpu_ticks(pid):
    """Processor time of a process, of which a second has 100."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer")


def sanitizer_environment(folder):
    """Our environment for a program whose sanitizers report into a folder; without what would make it another's test."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TDID_TEST_", "NOTIFY_"))}
    log = f"log_path={folder}/report"
    env["ASAN_OPTIONS"] = f"{log}:detect_leaks=1:abort_on_error=0:" + env.get("ASAN_OPTIONS", "")
    env["UBSAN_OPTIONS"] = f"{log}:print_stacktrace=1:" + env.get("UBSAN_OPTIONS", "")
    env["TSAN_OPTIONS"] = f"{log}:" + env.get("TSAN_OPTIONS", "")
    return env


def sanitized(pid):
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            return "libasan" in (text := file.read()) or "libtsan" in text
    except OSError:
        return False


class Daemon:
    """tdid as a child of ours, on a private bus, with a state folder of its own."""

    def __init__(self, binary, folder, bus, host):
        self.binary = binary
        self.state = os.path.join(folder, "state")
        self.policy = os.path.join(folder, "policy.d")
        self.archive = os.path.join(folder, "evidence")
        self.address = bus.address
        self.host = host.spec
        self.files = host.files
        self.log_path = os.path.join(folder, "tdid.log")
        self.audit = os.path.join(folder, "audit.json")
        self.sanitizer = os.path.join(folder, "sanitizer")
        self.process = None
        os.makedirs(self.sanitizer, mode=0o777, exist_ok=True)
        os.makedirs(self.state, mode=0o755, exist_ok=True)

    def environment(self, extra):
        return {**sanitizer_environment(self.sanitizer), **(extra or {})}

    def start(self, env=None, wait=True, arguments=(), log=None):
        """Starts tdid; returns the seconds until it owned its name (None when not waited for). log: a descriptor that its log goes to instead."""
        if self.process and self.process.poll() is None:
            raise Failure("tdid is running already")
        begin = time.monotonic()
        with open(self.log_path, "ab") as file:
            log = file if log is None else log
            self.process = subprocess.Popen([self.binary, "--host=" + self.host, "--bus=" + self.address,
                                             "--state=" + self.state, "--policy=" + self.policy, "--archive=" + self.archive,
                                             "--audit=" + self.audit, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment(env), start_new_session=True, preexec_fn=die_with_us)
        return self.wait_name(begin) if wait else None

    def wait_name(self, begin=None):
        begin = begin or time.monotonic()
        client = Client(self.address)
        try:
            while client.owner_pid() != self.process.pid:
                if self.process.poll() is not None:
                    raise Failure(f"tdid ended with {self.process.returncode} instead of owning its name")
                if time.monotonic() - begin > PATIENCE:
                    raise Failure(f"tdid does not own its name after {PATIENCE:g} s")
                time.sleep(0.01)
            took = time.monotonic() - begin
            # It serves after a second with what it knows by then, which on a slow machine is not every function yet.
            functions = len(self.files.listdir("/sys/bus/pci/devices"))
            until = time.monotonic() + 10
            while time.monotonic() < until and sum("/device/" in path for path in client.objects()) < functions:
                time.sleep(0.1 if self.host == "linux" else 0.03)  # a look costs a real kernel under emulation much
            return took
        except Lost:
            # It died again, as some are made to.
            return time.monotonic() - begin
        finally:
            client.close()

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def wait_exit(self, timeout=PATIENCE):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"tdid did not end within {timeout:g} s") from None

    def kill(self):
        """SIGKILL, and waits until the process is gone."""
        self.process.kill()
        self.wait_exit()

    def stop(self, timeout=60.0):
        """SIGTERM, which without systemd means: give everything back and end. Returns the exit code."""
        self.process.terminate()
        return self.wait_exit(timeout)

    def restart(self, env=None):
        """SIGKILL and a new start; the seconds from the start until the name."""
        self.kill()
        return self.start(env)

    # ---- what it leaves on disk and says ----

    def journals(self):
        return sorted(n for n in self._list("journal") if n.endswith(".json"))

    def holder_sockets(self):
        return self._list("holder")

    def _list(self, name):
        try:
            return os.listdir(os.path.join(self.state, name))
        except OSError:
            return []

    def leftovers(self):
        """Journal files, sockets and temporary files that no VM explains any more."""
        out = [f"journal/{n}" for n in self._list("journal") if not n.endswith(".lock")]
        out += [f"holder/{n}" for n in self._list("holder")]
        out += [f"vm/{n}" for n in self._list("vm")]
        return sorted(out)

    def log(self, lines=None):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                text = file.read().splitlines()
        except OSError:
            return []
        return text[-lines:] if lines else text

    def sanitizer_reports(self):
        out = []
        for path in glob.glob(self.sanitizer + "/*"):
            with open(path, encoding="utf-8", errors="replace") as file:
                out.append(file.read())
        out += [line for line in self.log() if any(m in line for m in SANITIZER_MARKS)]
        return out


def end_all(grace=5.0):
    """Kills what is left of tdid's processes, of this machine or of this run: see own_only(). Returns those that would not die."""
    for pid in processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    until = time.monotonic() + grace
    while processes() and time.monotonic() < until:
        time.sleep(0.01)
    return processes()


class Unit:
    """tdid under systemd, on the system bus, as installed."""

    name = "tdid.service"
    address = "unix:path=/run/dbus/system_bus_socket"
    state = "/run/tdid"

    @staticmethod
    def systemctl(*args, check=True, timeout=120):
        done = subprocess.run(["systemctl", *args], capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise Failure(f"systemctl {' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def show(self, key, unit=None):
        return self.systemctl("show", "--value", "-p", key, unit or self.name)

    @property
    def pid(self):
        return int(self.show("MainPID"))

    def active(self):
        return self.show("ActiveState") == "active"

    def client(self):
        return Client(self.address)

    def wait_new(self, old_pid, timeout=PATIENCE):
        """Seconds until another process than old_pid owns the name."""
        client, begin = self.client(), time.monotonic()
        try:
            while True:
                try:
                    pid = client.owner_pid()
                    if pid not in (None, old_pid):
                        took = time.monotonic() - begin
                        self.wait_functions(client)
                        return took
                except (Lost, Refused):
                    pass
                if time.monotonic() - begin > timeout:
                    raise Failure(f"no new tdid owns the name after {timeout:g} s")
                time.sleep(0.01)
        finally:
            client.close()

    @staticmethod
    def wait_functions(client):
        """It serves after a second with what it knows by then, as in Daemon.wait_name()."""
        functions, until = len(os.listdir("/sys/bus/pci/devices")), time.monotonic() + 30
        while time.monotonic() < until and sum("/device/" in path for path in client.objects()) < functions:
            time.sleep(0.1)

    def journals(self):
        try:
            return sorted(n for n in os.listdir(self.state + "/journal") if n.endswith(".json"))
        except OSError:
            return []

    @staticmethod
    def log(lines=60):
        done = subprocess.run(["journalctl", "-u", "tdid*", "-n", str(lines), "--no-pager", "-o", "cat"],
                              capture_output=True, text=True, check=False)
        return done.stdout.splitlines()


def have(program):
    return shutil.which(program) is not None
