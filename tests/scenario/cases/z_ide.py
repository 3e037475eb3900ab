# SPDX-License-Identifier: LGPL-2.1-or-later
#
# IDE streams: which there are, whether both ends of each are secure, what a host bridge has left, and what tdid does not do because of that.
# No emulated device has the capability: streams are simulated, on a machine beside that of the other scenarios.

import json
import os
import threading

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.machine import machine as another
from kit.registry import scenario

FIRST, SECOND, PLAIN = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
PORT = "0000:00:01.0"
BRIDGE = "pci0000:00"
RID = 0x0300
# A look a second, and some patience.
NOTICE = 5.0


def machine(t, streams=256, **ide):
    """A host whose first two functions have IDE, as their root ports, and a tdid on it."""
    functions = [{"bdf": b, "model": "edu", "flr": True, "tee_io": True, "ide": b != PLAIN} for b in (FIRST, SECOND, PLAIN)]
    document = {"platform": "plain", "bind_module": True, "buses": [{"bus": "0000:00", "streams": streams}],
                "tsms": [{"name": "tsm0", "parent": "tdid_test_tsm", "accepts": "all"}],
                "ports": [{"bdf": PORT, "bus": "01", "count": 3, "ide": {"streams": 2, "links": 1}}], "functions": functions}
    return another(t, "ide", document, {"ide": ide})


def attached(o, *bdfs, bind="late", seal=True):
    """A VM that knows its KVM VM. Functions come one after the other, so that streams have their numbers in that order."""
    vm = o.vm()
    for i, bdf in enumerate(bdfs):
        vm.attach((bdf, {"guest_rid": RID + i, "bind": bind}))
    fd = o.host.kvm_vm()
    vm.set_kvm(fd)
    o.host.close(fd)
    if seal:
        vm.seal()
    return vm


def words(vm, bdf):
    return next(x for x in vm.describe()["tdis"] if x["bdf"] == bdf)["ide"]


def streams(o, bdf):
    """What tdictl shows of a function's streams; the property has their names."""
    device = o.tdictl.json("device", "show", bdf)["devices"][0]
    shown = device.get("ide", [])
    equal([s["name"] for s in shown], device["streams"], "names of streams")
    return shown


def host_ide(o):
    return o.tdictl.json("tsm", "show")["host"]["ide"]


@scenario(needs=("machines",), start=False, tags=("quick",))
def ide_streams(t):
    """Both ends of a stream are read, and what the bridge has left; a reset by whomever ends the stream, and nothing is bound before it is made anew."""
    o = machine(t)
    equal(host_ide(o)["bridges"], [{"name": BRIDGE, "in_use": 0, "left": 256}], "bridges")
    vm = attached(o, FIRST, SECOND, PLAIN)
    eventually(lambda: len(host_ide(o)["streams"]) == 2, "two streams are seen", NOTICE)
    equal(streams(o, FIRST), [{"name": "stream0.0.0", "id": 0, "bridge": BRIDGE, "function": FIRST, "function_state": "secure", "port": PORT,
                               "port_state": "secure", "integrity_failed": False, "secure": "yes"}], "the first stream")
    equal([(s["id"], s["port"], s["secure"]) for s in streams(o, SECOND)], [(1, "0000:00:01.1", "yes")], "the second stream")
    equal(host_ide(o)["bridges"], [{"name": BRIDGE, "in_use": 2, "left": 254}], "bridges")
    contains(o.tdictl("tsm", "show").out, "stream1.0.0", "tsm show")
    contains(o.tdictl("device", "show", FIRST).out, "port_state", "device show")
    equal([words(vm, b) for b in (FIRST, SECOND, PLAIN)], ["secure", "secure", None], "in words")
    # One without a stream has none that is not secure.
    for bdf in (FIRST, SECOND, PLAIN):
        o.client.tdi(bdf).bind()
    o.client.tdi(FIRST).unbind()
    o.host.write(FIRST, "reset", "1")
    text = refused("InvalidState", o.client.tdi(FIRST).bind)
    contains(text, f"function {FIRST} is off, port {PORT} is secure", "why it is not bound at once")
    eventually(lambda: "not secure" in words(vm, FIRST), "the end of the stream is seen", NOTICE)
    contains(words(vm, FIRST), f"stream0.0.0 is not secure: function {FIRST} is off, port {PORT} is secure", "in words")
    equal([s["secure"] for s in streams(o, FIRST)], ["no"], "secure")
    contains(refused("InvalidState", o.client.tdi(FIRST).bind), "disconnect and connect", "what to do")
    equal(o.client.tdi(SECOND).state(), "bound", "another one")
    o.host.tsm_disconnect(FIRST, "tsm0")
    o.host.tsm_connect(FIRST, "tsm0")
    eventually(lambda: words(vm, FIRST) == "secure", "the new stream is seen", NOTICE)
    o.client.tdi(FIRST).bind()
    contains("\n".join(o.daemon.log()), f"{FIRST}: stream0.0.0 is not secure", "the log")
    vm.lease.close()
    o.gone(vm)
    eventually(lambda: host_ide(o)["bridges"] == [{"name": BRIDGE, "in_use": 0, "left": 256}], "the streams are given back", NOTICE)


@scenario(needs=("machines",), start=False, tags=("quick",))
def ide_insecure(t):
    """A connect whose stream does not become secure is told as exactly that; nothing is bound by it, unless tdid.conf allows it."""
    o = machine(t)
    o.host.client.control("fault", rule={"call": "tsm.ide", "device": FIRST, "errno": "ENXIO"})
    vm = attached(o, FIRST, bind="early", seal=False)
    eventually(lambda: words(vm, FIRST), "the stream is seen", NOTICE)
    contains(words(vm, FIRST), f"stream0.0.0 is not secure: function {FIRST} is insecure, port {PORT} is insecure", "in words")
    text = refused("InvalidState", vm.seal)
    for part in (FIRST, PORT, "is insecure", "require_secure"):
        contains(text, part, "why it is not sealed")
    equal((vm.phase(), o.client.tdi(FIRST).state()), ("preparing", "prepared"), "VM and function")
    o.daemon.stop()
    equal(o.host.tsm_connected(FIRST), "", "the connection, when tdid has given it back")

    o.drop_client()
    o.daemon.start(arguments=o.configured({"ide": {"require_secure": False}}))
    vm = attached(o, FIRST, bind="early")
    equal(o.client.tdi(FIRST).state(), "bound", "state where it is allowed")
    eventually(lambda: words(vm, FIRST) and "not secure" in words(vm, FIRST), "it is told all the same", NOTICE)


@scenario(needs=("machines",), start=False, tags=("quick",))
def ide_failed(t):
    """A failed integrity check is noticed; and what cannot be read is unknown, which is no reason to bind."""
    o = machine(t)
    vm = attached(o, FIRST)
    eventually(lambda: words(vm, FIRST) == "secure", "the stream is seen", NOTICE)
    o.host.client.control("ide-fail", device=FIRST)
    eventually(lambda: f"port {PORT} is failed" in words(vm, FIRST), "the failure is seen", NOTICE)
    equal([(s["integrity_failed"], s["secure"]) for s in streams(o, FIRST)], [(True, "no")], "as tdictl shows it")
    contains(refused("InvalidState", o.client.tdi(FIRST).bind), f"port {PORT} is failed", "why it is not bound")
    # New keys make it good again, though the port remembers.
    o.host.tsm_disconnect(FIRST, "tsm0")
    o.host.tsm_connect(FIRST, "tsm0")
    eventually(lambda: words(vm, FIRST) == "secure", "the new stream is seen", NOTICE)
    rule = o.host.client.control("fault", rule={"call": "read:config", "device": PORT, "errno": "EIO"})["id"]
    text = refused("InvalidState", o.client.tdi(FIRST).bind)
    contains(text, f"port {PORT} is unknown", "why it is not bound")
    eventually(lambda: "not known to be secure" in words(vm, FIRST), "it is seen that nobody knows", NOTICE)
    equal([(s["id"], s["secure"]) for s in streams(o, FIRST)], [(0, "unknown")], "as tdictl shows it")
    o.host.client.control("clear", id=rule)
    eventually(lambda: words(vm, FIRST) == "secure", "it can be read again", NOTICE)
    o.client.tdi(FIRST).bind()


@scenario(needs=("machines",), start=False, tags=("quick",))
def ide_slow_reset(t):
    """A port's config space cannot be read while it is reset: streams are unknown then, one process waits, and nothing else does."""
    o = machine(t)
    vm = attached(o, FIRST, SECOND)
    eventually(lambda: [words(vm, b) for b in (FIRST, SECOND)] == ["secure"] * 2, "the streams are seen", NOTICE)
    rule = o.host.client.control("fault", rule={"call": "reset", "device": FIRST, "never": True})["id"]
    reset = threading.Thread(target=o.host.write, args=(FIRST, "reset", "1"))
    reset.start()
    eventually(lambda: "not known to be secure" in words(vm, FIRST), "it is seen that nobody knows", NOTICE)
    before = int(o.device(SECOND).get("TSMRead"))
    eventually(lambda: int(o.device(SECOND).get("TSMRead")) > before, "tsm/ is read all the same", NOTICE)
    # The last word on each is its bind's.
    o.client.tdi(SECOND).bind()
    waiting = [c for c in o.host.client.control("open")["calls"] if c["name"].endswith(f"{FIRST}/config")]
    equal(len(waiting), 1, f"processes that wait for it: {waiting}")
    check(reset.is_alive(), "the reset is over")
    o.host.client.control("clear", id=rule)
    reset.join()
    eventually(lambda: f"function {FIRST} is off" in words(vm, FIRST), "what the reset has left", NOTICE)
    equal(words(vm, SECOND), "secure", "another one")


@scenario(needs=("machines",), start=False, tags=("quick",))
def ide_admission(t):
    """A connect that would take a stream which tdid.conf keeps is refused before anything is asked of the TSM, and undone as any other failure."""
    o = machine(t, streams=2, reserved_streams=1)
    path, begin = o.host.start_trace()
    # Of two at once one gets the stream, and the other is told: each sees what the first has taken.
    slow = o.host.client.control("fault", rule={"call": "tsm.connect", "delay_ms": 300})["id"]
    jobs = [o.device(b).connect("tsm0", async_=True) for b in (FIRST, SECOND)]
    for job in jobs:
        job.wait("done", "failed")
    o.host.client.control("clear", id=slow)
    equal(sorted(j.state() for j in jobs), ["done", "failed"], "two connects at once")
    for bdf in (b for b in (FIRST, SECOND) if o.host.tsm_connected(b)):
        o.device(bdf).disconnect()
    equal(host_ide(o)["bridges"], [{"name": BRIDGE, "in_use": 0, "left": 2}], "bridges")
    first = attached(o, FIRST)
    equal(host_ide(o)["reserved_streams"], 1, "what is kept")
    vm = o.vm()
    for attempt in (lambda: vm.attach((SECOND, {"guest_rid": RID})), lambda: o.device(SECOND).connect("tsm0")):
        text = refused("Limit", attempt)
        for part in (BRIDGE, "has 1 IDE streams left", "keeps 1", "reserved_streams"):
            contains(text, part, "why it is not connected")
    o.free(SECOND)
    # One that takes no stream is none of the bridge's business.
    vm.attach((PLAIN, {"guest_rid": RID}))
    equal([o.host.tsm_connected(b) for b in (FIRST, SECOND, PLAIN)], ["tsm0", "", "tsm0"], "connections")
    first.lease.close()
    o.gone(first)
    vm.attach((SECOND, {"guest_rid": RID + 1}))
    with open(path, encoding="utf-8") as file:
        file.seek(begin)
        equal([c["device"] for c in map(json.loads, file) if c["op"] == "tsm.connect"][1:], [FIRST, PLAIN, SECOND], "what the TSM was asked")
    o.host.end_trace()
    # With the TSM's driver all streams go, and nobody says any more what a bridge has.
    eventually(lambda: len(host_ide(o)["streams"]) == 1, "the stream is seen", NOTICE)
    o.host.client.control("tsm-unload", name="tsm0")
    eventually(lambda: host_ide(o)["streams"] == host_ide(o)["bridges"] == [], "nothing is left of it", NOTICE)
    equal(streams(o, SECOND), [], "streams of the function")


@scenario("nvme", tsm=("nvme",), needs=("bind_module", "kvm"), tags=("quick",))
def ide_none(t):
    """A TSM that makes no streams connects and binds without: that is shown as none, and is not the same as one that is not secure."""
    bdf = t.host.bdf("nvme")
    t.load_bind_module()
    vm = attached(t, bdf)
    eventually(lambda: t.device(bdf).text("TSM") == t.tsm_name, "the connection is seen", NOTICE)
    equal((streams(t, bdf), words(vm, bdf)), ([], None), "streams")
    ide = host_ide(t)
    equal((ide["streams"], ide["require_secure"], ide["reserved_streams"]), ([], True, 0), "streams of the host, and what tdid.conf says")
    check(BRIDGE in [b["name"] for b in ide["bridges"]], f"bridges {ide['bridges']}")
    for bridge in ide["bridges"]:
        equal(bridge["in_use"], 0, f"streams in use of {bridge['name']}")
        # What the kernel gives every bridge, or nothing where it was built without IDE.
        check(bridge["left"] in (None, 256), f"streams left: {bridge}")
    t.client.tdi(bdf).bind()
    equal(t.client.tdi(bdf).state(), "bound", "state")


@scenario(needs=("machines",), start=False, tags=("quick",))
def ide_policy(t):
    """Where the policy requires an encrypted link, a function without one is not attached, whether or not it is ever bound."""
    o = machine(t, require_secure=False)
    os.makedirs(o.daemon.policy)
    with open(os.path.join(o.daemon.policy, "50-ide.json"), "w", encoding="utf-8") as file:
        json.dump({"schema": "tdid-policy/1", "rules": [{"name": "encrypted", "decision": "require", "require": {"ide": "secure"}}]}, file)
    o.client.manager("Reload")
    vm = o.vm()
    vm.attach((FIRST, {"guest_rid": RID}))
    contains(refused("Policy", lambda: vm.attach((PLAIN, {"guest_rid": RID + 1}))), "encrypted", "the rule")
    contains(refused("Policy", lambda: vm.attach((SECOND, {"guest_rid": RID + 1, "connect": "no"}))), "secure IDE stream", "one that nobody connects")
    o.host.client.control("fault", rule={"call": "tsm.ide", "device": SECOND, "errno": "ENXIO"})
    text = refused(("Kernel", "InvalidState"), lambda: vm.attach((SECOND, {"guest_rid": RID + 1})))
    contains(text, "is insecure", "one whose stream does not become secure")
    eventually(lambda: o.device(SECOND).text("Custody") == "none", "it is given back")
    vm.lease.close()
    o.gone(vm)
