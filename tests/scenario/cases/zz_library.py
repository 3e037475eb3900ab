# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What others build on: the examples of libtdi/examples are compiled against an installed tree, as somebody else's project would be, and run.

import json
import os
import shlex
import subprocess

from kit.checks import check, contains, equal, eventually
from kit.daemon import die_with_us
from kit.paths import TESTS
from kit.registry import scenario

EXAMPLES = os.path.join(TESTS, "../libtdi/examples")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g")


def machine(path):
    """e_machine of an ELF file."""
    with open(path, "rb") as file:
        return file.read(20)[18:]


class Installed:
    """`meson install` into a folder of the scenario's, and what a program against that needs."""

    def __init__(self, t):
        self.build = os.path.dirname(os.path.dirname(t.paths.tdid))
        if not os.path.exists(os.path.join(self.build, "build.ninja")) or not os.path.isdir(EXAMPLES):
            t.skip("needs a build folder and the sources")
        if machine(t.paths.tdid) != machine("/proc/self/exe"):
            t.skip("built for another machine")
        self.root = os.path.join(t.folder, "root")
        self.folder = t.folder
        self.defer = t.defer
        self.env = t.daemon.environment(None)
        self.run("meson", "install", "-C", self.build, "--no-rebuild", "--quiet", "--destdir", self.root)
        with open(os.path.join(self.build, "meson-info/intro-buildoptions.json"), encoding="utf-8") as file:
            options = {o["name"]: o["value"] for o in json.load(file)}
        self.lib = os.path.join(options["prefix"], options["libdir"])
        self.sanitize = [] if options["b_sanitize"] == "none" else ["-fsanitize=" + options["b_sanitize"]]
        self.env.update(PKG_CONFIG_PATH=f"{self.root}{self.lib}/pkgconfig", PKG_CONFIG_SYSROOT_DIR=self.root)

    def run(self, *command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False, env=self.env)
        equal(done.returncode, 0, f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def flags(self, *what):
        return shlex.split(self.run("pkg-config", *what, "libtdi"))

    def compile(self, source, compiler, *arguments):
        program = os.path.join(self.folder, source.partition(".")[0])
        self.run(compiler, *arguments, *WARNINGS, *self.sanitize, os.path.join(EXAMPLES, source), *self.flags("--cflags", "--libs"), "-o", program)
        return program

    def start(self, *command):
        env = {**self.env, "LD_LIBRARY_PATH": self.root + self.lib}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
                                   preexec_fn=die_with_us)
        self.defer(process.kill)
        return process

    def output(self, *command, code=0):
        process = self.start(*command)
        out, err = process.communicate(timeout=200)
        equal(process.returncode, code, f"exit code of {command[0]}: {out}{err}")
        return out if code == 0 else err


def socket_name(bdf):
    return bdf.replace(":", "_") + ".sock"


@scenario("edu:2")
def library_examples(t):
    tree = Installed(t)
    contains(tree.run("pkg-config", "--modversion", "libtdi"), "0.1.0", "the version")
    contains(" ".join(tree.flags("--cflags")), tree.root, "headers are taken from the installed tree")
    first, second = t.host.bdfs("edu", 2)

    vmm = tree.compile("vmm.c", "cc", "-std=gnu11")
    a_vmm(t, tree, vmm, first, second)
    joined(t, tree, vmm, first)

    out = tree.output(tree.compile("async.c", "cc", "-std=gnu11"), t.bus.address, "async", first)
    equal([line for line in out.splitlines() if not line.startswith("the VM")],
          [f"{job}: {state}" for job in ("attach", "seal", "destroy") for state in ("running", "done")], "what async said")
    contains(out, 'the VM is "sealed"\n', "the VM's phase, as an event")
    t.free(first)
    said = tree.output(os.path.join(t.folder, "async"), t.bus.address, "async", "0000:ff:1f.7", code=1)
    equal(said, "", "a job's failure is told on standard output")
    eventually(lambda: not t.client.vms(), "the VM whose attach failed has gone")

    out = tree.output(tree.compile("host.cc", "c++", "-std=c++17"), t.bus.address, second).splitlines()
    equal(json.loads(out[0])["host"]["platform"]["name"], "plain", "the host's platform")
    equal(json.loads(out[1].partition(": ")[2])["device"]["bdf"], second, "the function that was asked about")
    equal(out[2:], ["map 2097152 bytes at 0x100000000"], "the plan")
    contains(tree.output(os.path.join(t.folder, "host"), "unix:path=/nonexistent", second, code=1), "tdid cannot be reached", "what C++ says of an error")

    script = os.path.join(EXAMPLES, "plain.py")
    out = tree.output("/usr/bin/python3", script, t.bus.address, "plain", first, second)
    label = {b: b.replace(":", "_").replace(".", "_") for b in (first, second)}
    equal(out.splitlines()[:2], [f"/org/tdid1/tdi/{label[b]}: prepared" for b in (first, second)], "TDIs over plain D-Bus")
    for b in first, second:
        contains(out, f"{b}: {t.daemon.state}/vm/", "sockets over plain D-Bus")
        contains(out, "/" + socket_name(b) + "\n", "sockets over plain D-Bus")
    check(out.endswith("given back\n"), out)
    contains(tree.output("/usr/bin/python3", script, t.bus.address, "plain", "0000:ff:1f.7", code=1), "org.tdid1.Error.NotFound: ", "an error over plain D-Bus")
    eventually(lambda: not t.client.vms(), "the VM whose attach failed has gone")


def a_vmm(t, tree, program, *bdfs):
    """Prepares its VM, is connected to both functions, and is the one thing that keeps it."""
    vmm = tree.start(program, t.bus.address, "guest", *bdfs)
    equal(vmm.stdout.readline(), "prepared VM guest\n", "the VMM's first line")
    for bdf in bdfs:
        ids = [int(i) for i in t.device(bdf).props()["IDs"]]
        equal(vmm.stdout.readline(), f"{socket_name(bdf)}: vfio-user 0.0, vendor {ids[0]:04x}, device {ids[1]:04x}\n", "what the VMM read")
    vm = t.client.find_vm("guest")
    t.attached(vm, *bdfs)
    equal(vm.phase(), "running", "phase of a VM whose VMM has come")
    out, err = vmm.communicate(timeout=60)
    equal((vmm.returncode, out, err), (0, "the end\n", ""), "the VMM's end")
    t.gone(vm)
    t.free(*bdfs)
    said = tree.output(program, t.bus.address, "guest", "0000:ff:1f.7", code=1)
    contains(said, "prepare: ", "a function that is not there")
    equal(t.client.vms(), [], "a VM that could not be prepared")


def joined(t, tree, program, bdf):
    """A VM that somebody else has prepared, and destroys."""
    vm = t.vm("prepared", await_vmm=60)
    vm.attach(bdf)
    vm.seal()
    vm.lease.close()
    vmm = tree.start(program, t.bus.address, "prepared", bdf)
    equal(vmm.stdout.readline(), "joined VM prepared\n", "the VMM's first line")
    contains(vmm.stdout.readline(), "vfio-user 0.0", "what the VMM read")
    vm.destroy()
    equal(vmm.stdout.readline(), "the VM was closed\n", "what the lease told")
    vmm.stdin.close()
    equal(vmm.wait(timeout=60), 0, "the VMM's exit code")
    vmm.stdout.close()
    vmm.stderr.close()
    t.free(bdf)
