# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What tdid's programs may call: the work goes on with it, and what is not on their lists is refused.

from kit.checks import Skip, check, equal
from kit.daemon import processes, sanitized
from kit.registry import scenario
from kit.vmm import Edu, connect_mapped

IOVA = 0x8000000

# Of /proc/PID/status: a filter, and no way to more privileges.
FILTERED = {"Seccomp": "2", "NoNewPrivs": "1"}


def status(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").replace("\t", "").split(":", 1) for line in file)


def refused_all(t):
    equal([line for line in t.daemon.log() if "keep a worker" in line], [], "what a worker was allowed")


@scenario("edu", "nvme", tags=("quick",), start=False)
def confined_workers(t):
    """Each worker tries first what it must not do, and then does its work: those that only read, and those of custody."""
    t.start({"TDID_TEST_FORBIDDEN": "1"})
    if sanitized(t.daemon.pid):
        raise Skip("programs with sanitizers have no filters")
    edu, nvme = t.host.bdf("edu"), t.host.bdf("nvme")
    # Readers: this is what they have read.
    check(str(t.device(edu).props()["Class"]), "no reader has come through")
    vm = t.vm()
    vm.attach(edu, nvme)
    t.attached(vm, edu, nvme)
    vm.destroy()
    t.free(edu, nvme)
    refused_all(t)


@scenario("edu", tags=("quick",), start=False)
def confined_helper(t):
    """The process that maps a guest's memory has a list of its own, tries what is not on it, and maps: it opens nothing and reaches no other device."""
    t.start({"TDID_TEST_FORBIDDEN": "1"})
    if sanitized(t.daemon.pid):
        raise Skip("programs with sanitizers have no filters")
    bdf = t.host.bdf("edu")
    vm = t.vm()
    vm.attach(bdf)
    client, memory = connect_mapped(t, vm, bdf, IOVA, 1 << 20)
    check(Edu(client).round_trip(memory, IOVA), "DMA")
    maps = [pid for pid in processes("tdid-worker") if status(pid)["Name"] == "tdid-map"]
    equal(len(maps), 1, "processes that map")
    # The list of the workers, from which it comes, and its own; the holder has one.
    equal(int(status(maps[0])["Seccomp_filters"]) - int(status(vm.holder_pid())["Seccomp_filters"]), 1, "lists that it has beside one")
    equal([line for line in t.daemon.log() if "has ended; starting another" in line], [], "helpers that were allowed something")


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def confined_evidence(t):
    """The worker that listens to a device does so by its mailbox, and can reach nothing else with what it has heard."""
    t.spdm(t.host.bdf("spdm"))
    t.daemon.start({"TDID_TEST_FORBIDDEN": "1"}, arguments=t.configured({"evidence": {"doe": True}}))
    if sanitized(t.daemon.pid):
        raise Skip("programs with sanitizers have no filters")
    e = t.tdictl.json("device", "evidence", t.host.bdf("spdm"))["evidence"]
    equal((e["source"], bool(e["archived"])), ("doe", True), "the evidence")
    refused_all(t)


@scenario("edu", tags=("quick",))
def confined_all(t):
    """tdid, its workers and the holder each have a filter; and no process of theirs has none."""
    if sanitized(t.daemon.pid):
        raise Skip("programs with sanitizers have no filters")
    vm = t.vm()
    vm.attach(t.host.bdf("edu"))
    found = processes()
    check({"tdid", "tdid-vm", "tdid-worker"} <= set(found.values()), f"processes: {found}")
    for pid, program in found.items():
        try:
            said = status(pid)
        except OSError:
            continue  # a worker that has ended
        if said["State"].startswith("Z"):
            continue
        equal({key: said[key] for key in FILTERED}, FILTERED, f"{program} {pid}")
