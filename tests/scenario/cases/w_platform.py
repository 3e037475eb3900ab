# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What this host is, by what that is seen, and what its kernel lacks: DescribeHost() and `tdictl tsm show`. Machines of every platform
# are simulated; the kernel under test explains itself too.

import json
import os
import time
from types import SimpleNamespace

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.daemon import Bus, Daemon
from kit.files import SimFiles
from kit.registry import scenario
from kit.simhost import Simulation
from kit.tdictl import Tdictl

FUNCTION = "0000:01:00.0"
KEYS = {"counters", "platform", "kernel", "provider", "lacks", "ide", "suspend", "policy"}


class Other:
    """Another machine, a simulation with one function, and a tdid of its own on it."""

    def __init__(self, t, name, platform, tsms=(), functions=None, config=None):
        folder = os.path.join(t.folder, name)
        os.mkdir(folder, 0o755)
        machine = os.path.join(folder, "machine.json")
        with open(machine, "w", encoding="utf-8") as file:
            json.dump({"schema": "tdi-sim/1", "platform": platform, "tsms": [{"name": f"tsm{i}", **x} for i, x in enumerate(tsms)],
                       "ports": [{"bdf": "0000:00:01.0", "bus": "01", "ide": True}],
                       "functions": functions or [{"bdf": FUNCTION, "model": "edu", "flr": True, "tee_io": True, "ide": True}]}, file)
        self.simulation = Simulation(t.paths.sim, machine, folder)
        self.simulation.start()
        t.defer(self.stop_simulation)
        self.bus = Bus(folder, t.paths.policy)
        t.defer(self.bus.stop)
        host = SimpleNamespace(spec="sim:" + self.simulation.socket, files=SimFiles(self.simulation.client))
        self.daemon = Daemon(t.paths.tdid, folder, self.bus, host)
        self.tdictl = Tdictl(t.paths.tdictl, self.bus.address, self.daemon)
        arguments = ()
        if config:
            path = os.path.join(folder, "tdid.conf")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(config, file)
            arguments = ("--config=" + path,)
        self.daemon.start(arguments=arguments)
        t.defer(self.daemon.stop)

    def stop_simulation(self):
        problems = self.simulation.stop()
        check(not problems, "\n".join(problems))

    def show(self):
        return shown(self.tdictl)


def shown(tdictl, *names):
    doc = tdictl.json("tsm", "show", *names)
    equal(set(doc), {"schema", "host", "tsms"}, "keys of tsm show")
    equal(set(doc["host"]), KEYS, "keys of the host")
    for item in doc["host"]["lacks"]:
        check(item["what"] and item["why"] and item["without_it"], f"an explanation with nothing in it: {item}")
    return doc["host"]


def lacking(host):
    return [item["what"] for item in host["lacks"]]


def texts(host, key):
    return "\n".join(host["platform"][key])


@scenario(needs=("machines",), tags=("quick",))
def tsm_show_tdx(t):
    """By its TSM, and by KVM where the TSM's driver is missing: then VMs are plain, and it is said what is missing."""
    other = Other(t, "tdx", "tdx", [{"parent": "tdx_host", "driver": "tdx_host", "accepts": "all"}])
    host = other.show()
    platform = host["platform"]
    equal((platform["name"], platform["vm_default"]), ("tdx", "tdx"), "platform, and that of VMs")
    contains(texts(host, "recognised_by"), "tsm0: its parent is tdx_host", "by what")
    contains(texts(host, "recognised_by"), "type 5 (KVM_X86_TDX_VM), and kvm_intel.tdx is Y", "by what")
    equal(platform["doubts"], [], "doubts")
    equal(len(platform["unwind"]), 3, "what has to come before a TDI is removed")
    check(platform["attach_after_seal"] and not platform["early_prepare"], "what may come late")
    check("a TSM" not in lacking(host) and "private MMIO in KVM" in lacking(host), f"lacks {lacking(host)}")
    other.simulation.client.control("tsm-unload", name="tsm0")
    host = eventually(lambda: (h := other.show())["platform"]["vm_default"] == "plain" and h, "the TSM has gone")
    equal(host["platform"]["name"], "tdx", "platform without the TSM")
    check("a TSM" in lacking(host), f"lacks {lacking(host)}")
    # A VM is of a platform by each of its names, and by no other.
    for name in ("auto", "tdx", *platform["aliases"]):
        other.tdictl("vm", "create", f"of-{name}", "--hold", f"--platform={name}", "--", "true")
    other.tdictl("vm", "create", "one", "--hold", "--platform=vax", "--", "true", code=2)


@scenario(needs=("machines",), tags=("quick",))
def tsm_show_sev_snp(t):
    """A TSM that nobody knows beside KVM's word for SEV-SNP: recognised by KVM, and the TSM is told of."""
    other = Other(t, "snp", "sev-snp", [{"parent": "whose_tsm", "accepts": "all"}])
    host = other.show()
    equal((host["platform"]["name"], host["platform"]["vm_default"]), ("sev-snp", "plain"), "platform, and that of VMs")
    contains(texts(host, "recognised_by"), "kvm_amd.sev_snp is Y", "by what")
    equal(host["platform"]["private_ram"], "the host's IOMMU", "who maps private memory")
    for what in ("the platform of a TSM", "private memory in an I/O address space"):
        check(what in lacking(host), f"lacks {lacking(host)}, not {what!r}")
    text = other.tdictl("tsm", "show").out
    for words in ("name: sev-snp", "whose_tsm", "KVM_X86_SNP_VM", "Lacking", "without_it:"):
        contains(text, words, "tsm show")


@scenario(needs=("machines",), tags=("quick",))
def tsm_show_conflict(t):
    """The TSM of one platform where KVM makes guests of another: the TSM counts, and what does not fit is told."""
    host = Other(t, "conflict", "sev-snp", [{"parent": "tdx_host", "accepts": "all"}]).show()
    equal((host["platform"]["name"], host["platform"]["vm_default"]), ("tdx", "tdx"), "platform, and that of VMs")
    contains(texts(host, "doubts"), "kvm_amd.sev_snp is Y: of the platform sev-snp", "doubts")
    check("VMs of type 5 (KVM_X86_TDX_VM)" in lacking(host), f"lacks {lacking(host)}")


@scenario(needs=("machines",), tags=("quick",))
def tsm_show_cca(t):
    """Only a TSM shows it; what has to be before boot is a demand of the platform, and no kernel answers for it."""
    other = Other(t, "cca", "cca", [{"parent": "arm-cca-host", "accepts": "all"}])
    host = other.show()
    platform = host["platform"]
    equal((platform["name"], platform["vm_default"]), ("cca", "cca"), "platform, and that of VMs")
    equal((platform["early_prepare"], platform["attach_after_seal"], platform["viommu"]["name"], platform["viommu"]["type"]),
          (True, False, "arm-smmuv3", 1), "what has to be early")
    check("an answer whether the kernel makes a secure vIOMMU" in lacking(host), f"lacks {lacking(host)}")
    # A TSM of another kind as well does not fit; the first one counts.
    two = Other(t, "two", "cca", [{"parent": "arm-cca-host", "accepts": "all"}, {"parent": "tdx_host", "accepts": "all"}])
    host = two.show()
    equal(host["platform"]["name"], "cca", "platform with two TSMs")
    contains(texts(host, "doubts"), "tsm1: its parent is tdx_host with the driver faux_driver: of the platform tdx", "doubts")


@scenario(needs=("machines",), tags=("quick",))
def tsm_show_pkvm(t):
    """No TSM, and none is missing: by the kernel's command line."""
    host = Other(t, "pkvm", "pkvm").show()
    equal((host["platform"]["name"], host["platform"]["vm_default"]), ("pkvm", "plain"), "platform, and that of VMs")
    contains(texts(host, "recognised_by"), "kvm-arm.mode=protected", "by what")
    contains(host["platform"]["shared_ram"], "memfd", "shared memory")
    equal(host["kernel"]["machine"], "aarch64", "machine")
    check("a TSM" not in lacking(host) and "a bind provider" not in lacking(host), f"lacks {lacking(host)}")


@scenario(needs=("machines",), tags=("quick",))
def tsm_show_plain(t):
    host = Other(t, "plain", "plain").show()
    equal((host["platform"]["name"], host["platform"]["vm_default"]), ("plain", "plain"), "platform, and that of VMs")
    contains(texts(host, "recognised_by"), "nothing speaks for another", "by what")
    equal((host["kernel"]["kvm_vm_types"], host["kernel"]["parameters"]), ([0, 1], {"kvm_intel.tdx": "N"}), "what KVM says")
    check("a TSM" in lacking(host), f"lacks {lacking(host)}")
    equal("a bind provider" in lacking(host), host["provider"]["name"] == "none", "is a bind provider missing?")


@scenario("nvme", tsm=("nvme",), tags=("quick",))
def tsm_show_kernel(t):
    """The kernel under test: its TSM is nobody's, so VMs are plain; what is told agrees with what is there."""
    host = shown(t.tdictl)
    equal(host["platform"]["vm_default"], "plain", "platform of VMs")
    check("the platform of a TSM" in lacking(host), f"lacks {lacking(host)}")
    provider = host["provider"]
    # A provider is one that answers; without it that is what is missing.
    if t.host.files.exists("/dev/tdid-bind"):
        equal(provider["name"], "tdid-bind", "provider")
    else:
        equal((provider["name"], provider["version"]), ("none", None), "provider")
        contains(provider["why"], "/dev/tdid-bind: ENOENT", "why there is no provider")
    contains(provider["why"], "iommufd has no calls for TSMs", "what no released kernel has")
    equal("a bind provider" in lacking(host), provider["name"] == "none", "is a bind provider missing?")
    check("iommufd" not in lacking(host), f"lacks {lacking(host)}")
    equal(host["kernel"]["kvm"], "yes" if t.host.files.exists("/dev/kvm") else "ENOENT", "KVM")
    equal(host["kernel"]["machine"], t.host.files.read("/proc/sys/kernel/arch").decode().strip(), "machine")
    equal(host["kernel"]["release"], t.host.files.read("/proc/sys/kernel/osrelease").decode().strip(), "release")
    check(host["kernel"]["tsm_class"], "/sys/class/tsm")
    # With a name as without, of one that there is.
    equal([x["name"] for x in t.tdictl.json("tsm", "show", t.tsm_name)["tsms"]], [t.tsm_name], "tsms")
    t.tdictl("tsm", "show", "tsm77", code=3)
    check(not host["kernel"]["stale"], "read when it was asked for")
    text = t.tdictl("tsm", "show").out
    for item in host["lacks"]:
        contains(text, item["what"], "tsm show")
    vm = t.vm("by-alias", platform="rme-da")
    equal(vm.describe()["platform"], "cca", "platform by another name")
    refused("InvalidArgument", t.vm, "none", platform="CCA")


@scenario(needs=("faults",), tags=("quick",))
def tsm_show_stuck(t):
    """A kernel that does not come back from opening /dev/kvm holds up nobody: first there is nothing to tell, later what was known."""
    control = t.host.client.control

    def rule(name):
        ident = control("fault", rule={"call": "open:" + name, "process": "tdid-worker", "never": True})["id"]
        t.after(lambda: clear(ident))
        return ident

    def clear(ident):
        if ident in [f["id"] for f in control("faults")["faults"]]:
            control("clear", id=ident)

    first = rule("kvm")
    text = refused("Timeout", t.client.manager, "DescribeHost")
    contains(text, "/dev/kvm", "text")
    t.tdictl("tsm", "show", code=9)
    t.tdictl("status")
    clear(first)
    host = eventually(lambda: (o := t.tdictl("tsm", "show", "--json", code=None)).code == 0 and o.json()["host"], "the worker comes back")
    check(not host["kernel"]["stale"], "read when it was asked for")
    # At most once a second it is read anew.
    time.sleep(1.1)
    second = rule("iommu")
    host = shown(t.tdictl)
    equal((host["kernel"]["stale"], host["kernel"]["kvm"]), (True, "yes"), "what was known before")
    clear(second)
