# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Requests of a guest to its TSM, by way of a socket of its VM's holder or of tdid; and what they make of the TDISP state, with which the
# config filter goes. What the TSM itself has is asked of it, by the same way.

import errno
import os
import select
import signal
import struct
import time

from cases.x_bind import RID, Bound, check_log, vpci
from kit import requests, vfio_user
from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.daemon import fd_count
from kit.registry import scenario
from kit.requests import ECHO, HEADER, INJECTED, OK, SIZE_MAX, STATE, WRONG_SCOPE, WRONG_STATE, op
from kit.tdictl import Monitor
from kit.vmm import Event, connect

CCA = "arm-cca-host"


def opened(t, bdf):
    client = t.client.tdi(bdf).requests()
    t.defer(client.close)
    return client


def check_tdisp(t, b, tdisp, state, config, bdf=None):
    """What tdid says, what its clients hear, and what the filter does."""
    bdf = bdf or b.bdfs[0]
    tdi = t.client.tdi(bdf)
    eventually(lambda: (str(tdi.get("TDISP")), tdi.state()) == (tdisp, state), f"{bdf} is {tdisp} and {state}: {tdi.get('TDISP')} {tdi.state()}")
    equal(vpci(b.vm, bdf)["config"]["state"], config, f"config filter of {bdf}")


def set_interrupts(t, vmm, wanted):
    """A VMM that sets a vector up: possible or not."""
    event = Event()
    t.defer(event.close)
    try:
        vmm.set_irqs(vfio_user.MSIX, vfio_user.DATA_EVENTFD | vfio_user.TRIGGER, data=b"", fds=[event.fd])
        got = 0
    except vfio_user.ServerError as error:
        got = error.errno
    equal(got, wanted, "SET_IRQS")


@scenario("igb-vf:2", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def request_life(t):
    """A socket is there as long as the function; requests go to the TSM while it is bound, and only its own TDI hears of them."""
    bdf, other = t.host.bdfs("igb-vf", 2)
    b = Bound(t, bdf, other)
    client, second = opened(t, bdf), opened(t, other)
    equal(client.ask("info", op(ECHO, b"abc"))[0], errno.ENOTCONN, "a request before the bind")
    contains(refused("InvalidState", lambda: t.client.tdi(bdf).request("info", op(ECHO))), "not bound", "the same by way of the bus")
    b.bind()
    equal(client.ask("info", op(ECHO, b"\x00\xff\x55")), (0, OK, b"\xff\x00\xaa"), "echo")
    equal(t.client.tdi(bdf).request("info", op(ECHO, b"\x00\xff")), (b"\xff\x00", OK), "echo by way of the bus")
    data = os.urandom(SIZE_MAX - 4)
    equal(client.ask("info", op(ECHO, data)), (0, OK, bytes(x ^ 0xff for x in data)), "the longest")
    equal(client.ask("info", op(ECHO, b"x" * 100), room=10)[0], errno.EMSGSIZE, "no room for the answer")
    equal(client.ask("info", op(requests.START))[:2], (errno.EPERM, WRONG_SCOPE), "a change of state as information")
    equal(client.ask("info", op(99))[0], errno.EINVAL, "what the TSM does not know")
    t.tsm.rule("guest_req", bdf, err=errno.EIO, count=1)
    equal(client.ask("info", op(STATE))[:2], (errno.EIO, INJECTED), "a TSM that fails")
    t.tsm.rule("guest_req", bdf, err=errno.EIO, count=1)
    contains(refused("Kernel", lambda: t.client.tdi(bdf).request("info", op(STATE))), "0xbad", "the TSM's code by way of the bus")
    seen = t.tsm.count("guest_req", other)
    equal(seen, 0, "requests that the other TDI has heard of")
    equal(second.ask("info", op(ECHO, b"z")), (0, OK, b"\x85"), "its own")
    # tdid is not in the path.
    t.daemon.kill()
    equal(client.ask("info", op(ECHO, b"\x01")), (0, OK, b"\xfe"), "a request while no tdid is there")
    t.daemon.start()
    equal(client.ask("info", op(ECHO, b"\x02")), (0, OK, b"\xfd"), "and after that")
    t.client.tdi(bdf).unbind()
    equal(client.ask("info", op(ECHO))[0], errno.ENOTCONN, "a request after the unbind")
    b.bind(bdf)
    equal(client.ask("info", op(ECHO, b"\x03")), (0, OK, b"\xfc"), "the same socket after the next bind")
    log = "\n".join(t.daemon.log())
    for words in (f"{bdf}: request of the guest, info (scope info, 7 bytes): done, TSM code 0, 3 bytes", "Input/output error, TSM code 0xbad"):
        contains(log, words, "the log of each request")
    counted = vpci(b.vm, bdf)["guest_requests"]
    check(counted["passed"] > 5 and counted["refused"] == 2, f"what is counted: {counted}")
    t.client.tdi(bdf).detach()
    check(client.hung_up(), "the socket of a function that was detached stays open")
    check(not second.hung_up(0), "the other one's hangs up")
    b.vm.destroy()
    t.gone(b.vm)
    check(second.hung_up(), "the socket of a VM that was destroyed stays open")
    check_log(t)


@scenario("igb-vf", needs=("bind_module", "kvm"), start=False, tags=("quick",))
def tdisp_states(t):
    """Where bind does not lock, the VMM sets its function up first; with the guest's lock the filter closes, with its stop it opens."""
    bdf = t.host.bdf("igb-vf")
    t.load_tsm([t.host.dsm(bdf)], parent=CCA, fake_viommu=1, bind_locks=0)
    t.start()
    b = Bound(t, bdf)
    client, vmm = opened(t, bdf), connect(t, b.vm, bdf)
    check_tdisp(t, b, "unlocked", "prepared", "unlocked")
    b.bind()
    check_tdisp(t, b, "unlocked", "bound", "bound")
    equal(client.state(), "unlocked", "state as the TSM has it")
    set_interrupts(t, vmm, 0)
    client.change("lock")
    check_tdisp(t, b, "locked", "bound", "locked")
    set_interrupts(t, vmm, errno.EPERM)
    client.change("start")
    check_tdisp(t, b, "run", "running", "run")
    # What the TSM refuses changes nothing, here neither.
    equal(client.ask("start")[:2], (errno.EINVAL, WRONG_STATE), "a second start")
    check_tdisp(t, b, "run", "running", "run")
    t.daemon.restart()
    check_tdisp(t, b, "run", "running", "run")
    client.change("stop")
    check_tdisp(t, b, "unlocked", "bound", "bound")
    set_interrupts(t, vmm, 0)
    # What may have changed it counts as locked, until it is known.
    equal(client.ask("state-change", op(requests.LOCK))[0], 0, "a change to who knows what")
    check_tdisp(t, b, "unknown", "bound", "locked")
    set_interrupts(t, vmm, errno.EPERM)
    client.change("start")
    check_tdisp(t, b, "run", "running", "run")
    # An answer that is lost: the TSM has stopped, or has not.
    t.tsm.rule("guest_req", bdf, err=errno.EIO, count=1)
    equal(client.ask("stop")[0], errno.EIO, "a stop whose answer is lost")
    check_tdisp(t, b, "unknown", "bound", "locked")
    equal(client.state(), "run", "state as the TSM has it")
    client.change("stop", "lock")
    t.client.tdi(bdf).unbind()
    check_tdisp(t, b, "unlocked", "prepared", "unlocked")
    set_interrupts(t, vmm, 0)
    b.bind()
    check_tdisp(t, b, "unlocked", "bound", "bound")
    check_log(t, 1)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def request_unwind(t):
    """Nothing waits for a slow request but its own TDI: the unbind comes after it, and other VMs and tdid go on meanwhile."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    b.bind()
    client = opened(t, bdf)
    t.tsm.rule("guest_req", bdf, delay=60000, count=1)
    client.put("info", op(ECHO, b"\x0f"))
    eventually(lambda: t.tsm.running("guest_req"), "the request hangs in the TSM")
    t.client.ping()
    later = client.put("info", op(ECHO, b"\x01"))
    job = t.client.tdi(bdf).unbind(async_=True)
    eventually(lambda: job.step() == "bind.requests", "the unbind waits for the request")
    equal((job.state(), t.tsm.count("unbind")), ("running", 0), "the unbind, and what the TSM has seen of it")
    t.tsm.release()
    job.wait()
    equal(client.get()[1:], (0, OK, b"\xf0"), "the answer to what hung")
    equal(client.get()[:2], (later, errno.ENOTCONN), "the answer to what came after the unbind was asked for")
    b.check()
    b.bind()
    t.tsm.rule("guest_req", bdf, delay=60000, count=1)
    client.put("info", op(ECHO))
    eventually(lambda: t.tsm.running("guest_req"), "the next request hangs in the TSM")
    b.vm.lease.close()
    eventually(lambda: b.vm.phase() == "closing", "the VM is closing")
    t.tsm.release()
    t.gone(b.vm)
    t.free(bdf)
    check_log(t)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def request_hostile(t):
    """A client of the socket may send what it likes, and not read: it loses its socket, or waits; nobody else notices."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    b.bind()
    good, bad = opened(t, bdf), opened(t, bdf)
    pid = b.vm.holder_pid()
    good.ask("info", op(ECHO, b"x"))
    for kind, room, size, flags, want in ((6, 0, HEADER.size, 0, errno.EINVAL), (0xffffffff, 0, HEADER.size, 0, errno.EINVAL), (0, 0, 23, 0, errno.EINVAL),
                                          (0, 0, HEADER.size, 1, errno.EINVAL), (0, SIZE_MAX + 1, HEADER.size, 0, errno.EMSGSIZE),
                                          (0, 0xffffffff, HEADER.size, 0, errno.EMSGSIZE)):
        number = bad.put(kind, op(ECHO), room, size, flags)
        equal(bad.get()[:2], (number, want), f"answer to kind {kind:#x}, room {room}, header {size}, flags {flags}")
    number = bad.put("info", bytes(SIZE_MAX + 1))
    equal(bad.get()[:2], (number, errno.EMSGSIZE), "answer to what is too long")
    equal(bad.ask("info", b"")[0], errno.EINVAL, "the TSM's answer to nothing")
    bad.raw(b"short")
    check(bad.hung_up(), "who sends no whole header keeps its socket")
    # Descriptors are not for us: they are closed, not kept.
    bad = opened(t, bdf)
    before = fd_count(pid)
    read, write = os.pipe()
    for _ in range(20):
        bad.socket.sendmsg([HEADER.pack(HEADER.size, 0, 7, 16, 0) + op(ECHO)], [(1, 1, struct.pack("=i", write))])
        bad.get()
    os.close(write)
    equal(os.read(read, 1), b"", "a descriptor that came with a request")
    os.close(read)
    equal(fd_count(pid), before, "descriptors of the holder")
    # Answers that nobody reads: no more is taken from there than fits.
    sent = 0
    while sent < 10000 and select.select([], [bad.socket], [], 0.5)[1]:
        bad.put("info", op(ECHO, bytes(1000)))
        sent += 1
    check(sent < 10000, "requests are taken from who reads no answers")
    equal(good.ask("info", op(ECHO, b"\x01")), (0, OK, b"\xfe"), "another client meanwhile")
    got = [bad.get()[1:3] for _ in range(sent)]
    equal(set(got), {(0, OK)}, "all of the answers, once they are read")
    more = [opened(t, bdf) for _ in range(6)]
    contains(refused("Limit", lambda: t.client.tdi(bdf).requests()), "close one", "what to do about the limit")
    more[0].close()
    eventually(lambda: vpci(b.vm, bdf)["guest_requests"]["sockets"] == 7, "the socket that was closed is gone")
    opened(t, bdf).ask("info", op(ECHO))
    # A request that nobody waits for any more is answered to nobody.
    t.tsm.rule("guest_req", bdf, delay=300, count=1)
    more[1].put("info", op(ECHO))
    more[1].close()
    equal(good.ask("info", op(ECHO, b"\x02")), (0, OK, b"\xfd"), "the next one")
    equal(good.state(), "locked", "state as the TSM has it")


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), start=False, tags=("quick",))
def request_policy(t):
    """The configuration says which kinds are passed on, and how many a second; what is beyond waits."""
    bdf = t.host.bdf("igb-vf")
    arguments = t.configured({"policy": {"guest_state_changes": False}, "limits": {"guest_requests_per_second": 20}})
    t.daemon.start(arguments=arguments)
    b = Bound(t, bdf)
    b.bind()
    client = opened(t, bdf)
    equal(client.ask("start")[0], errno.EPERM, "a state change")
    text = refused("Policy", lambda: t.client.tdi(bdf).request("start", op(requests.START)))
    contains(text, "guest_state_changes", "which key says so")
    refused("InvalidArgument", lambda: t.client.tdi(bdf).request("debug-write", b""))
    refused("InvalidArgument", lambda: t.client.tdi(bdf).request("info", bytes(SIZE_MAX + 1)))
    equal(client.ask("info", op(STATE))[0], 0, "information")
    begin = time.monotonic()
    for _ in range(30):
        client.ask("info", op(STATE))
    took = time.monotonic() - begin
    check(took > 0.4, f"31 requests of 20 a second, after a burst of 20, take {took:.2f} s")
    check(vpci(b.vm, bdf)["guest_requests"]["delayed"] > 5, "requests that had to wait")
    equal(t.tsm.count("guest_req"), 31, "requests that the TSM has seen")


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), tags=("quick",))
def request_holder_killed(t):
    """The holder dies with a request under way: the TSM's answer goes to nobody, and the function is unbound and given back."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    b.bind()
    client = opened(t, bdf)
    t.tsm.rule("guest_req", bdf, delay=60000, count=1)
    client.put("info", op(ECHO))
    eventually(lambda: t.tsm.running("guest_req"), "the request hangs in the TSM")
    os.kill(b.vm.holder_pid(), signal.SIGKILL)
    t.tsm.release()
    check(client.hung_up(), "the socket outlives the holder")
    t.gone(b.vm)
    t.free(bdf)
    check_log(t)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm", "trace"), tags=("quick",))
def tdisp_error(t):
    """An error of the device ends its TDI: its owner and its client are told, nothing reaches it any more, it is unbound before any reset, and can begin anew."""
    bdf = t.host.bdf("igb-vf")
    b = Bound(t, bdf)
    vmm, monitor, event = connect(t, b.vm, bdf), Monitor(t), Event()
    t.defer(event.close)
    vmm.set_irqs(vfio_user.ERR, vfio_user.DATA_EVENTFD | vfio_user.TRIGGER, fds=[event.fd])
    b.bind()
    opened(t, bdf).change("start")
    check_tdisp(t, b, "run", "running", "run")
    t.tsm.rule("unbind", bdf, delay=60000, count=1)
    t.host.device_error(bdf)
    equal(event.wait(), 1, "the client's error interrupt")
    eventually(lambda: t.tsm.running("unbind"), "the unbind hangs in the TSM")
    eventually(lambda: vpci(b.vm, bdf)["config"]["state"] == "error", "the filter while the unbind is under way")
    equal(str(t.client.tdi(bdf).get("TDISP")), "error", "TDISP state")
    eventually(lambda: any("ERROR" in e.get("value", "") for e in monitor.seen if e.get("key") == "failed"), "the signal", 3)
    command = vmm.read16(vfio_user.CONFIG, 4)
    vmm.write16(vfio_user.CONFIG, 4, command ^ 0x100)
    equal(vmm.read16(vfio_user.CONFIG, 4), command, "a write while it is in error")
    t.tsm.release()
    check_tdisp(t, b, "unlocked", "prepared", "unlocked")
    doc = next(x for x in b.vm.describe()["tdis"] if x["bdf"] == bdf)
    contains(doc["bind_error"], "ERROR", "why it is not bound")
    check("error" in [e["what"] for e in doc["vpci"]["events"]], f"events: {doc['vpci']['events']}")
    vmm.reset()
    b.bind()
    check_tdisp(t, b, "unknown", "bound", "locked")
    # While no tdid is there, and with a request of the guest under way that fails with the device.
    client = opened(t, bdf)
    t.tsm.rule("guest_req", bdf, delay=60000, err=errno.EIO, count=1)
    client.put("start", op(requests.START))
    eventually(lambda: t.tsm.running("guest_req"), "the request hangs in the TSM")
    t.daemon.kill()
    t.host.device_error(bdf)
    equal(event.wait(), 1, "the client's error interrupt without tdid")
    t.tsm.release()
    equal(client.get()[1], errno.EIO, "the answer to what was under way")
    t.daemon.start()
    check_tdisp(t, b, "unlocked", "prepared", "unlocked")
    contains(next(x for x in b.vm.describe()["tdis"] if x["bdf"] == bdf)["bind_error"], "ERROR", "why it is not bound")
    # One that is early is not bound again under the same guest, by no tdid.
    b.vm.destroy()
    t.gone(b.vm)
    b = Bound(t, bdf, bind="early")
    t.host.device_error(bdf)
    check_tdisp(t, b, "unlocked", "prepared", "unlocked")
    t.daemon.restart()
    check_tdisp(t, b, "unlocked", "prepared", "unlocked")
    connect(t, b.vm, bdf).reset()
    check_tdisp(t, b, "unknown", "bound", "locked")
    check_log(t, 1)


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), start=False, tags=("quick",))
def request_outlasts(t):
    """A request that does not come back keeps the unbind from its place: the function is quarantined, asked again, and unbound when it does."""
    bdf = t.host.bdf("igb-vf")
    arguments = t.configured({"deadlines": {"bind": 1}})
    t.daemon.start(arguments=arguments)
    b = Bound(t, bdf)
    b.bind()
    client = opened(t, bdf)
    t.tsm.rule("guest_req", bdf, delay=60000, count=1)
    client.put("info", op(ECHO))
    eventually(lambda: t.tsm.running("guest_req"), "the request hangs in the TSM")
    contains(refused("Quarantined", t.client.tdi(bdf).unbind), "request of the guest", "why it is not unbound")
    job = t.client.device(bdf).restore(async_=True)
    job.wait("failed", "stuck", "done")
    t.tsm.release()
    client.get()
    eventually(lambda: t.client.tdi(bdf).state() == "prepared" and not t.device(bdf).text("Quarantine"), "the unbind, asked for again", 10)
    b.check()
    b.bind()
    b.check(bdf)


def report_of(b, bdf=None):
    return next(x for x in b.vm.describe()["tdis"] if x["bdf"] == (bdf or b.bdfs[0]))["report"]


def ask_report(client, flags=0):
    error, code, data = client.ask("report", op(requests.REPORT, struct.pack("=I", flags)))
    equal((error, code), (0, OK), "a request for the report")
    return data


@scenario("igb-vf", tsm=("igb",), needs=("bind_module", "kvm"), start=False, tags=("quick",))
def tdisp_report(t):
    """The interface report is compared with the host: what does not fit is shown, and ends the TDI where the configuration says so."""
    bdf = t.host.bdf("igb-vf")
    t.daemon.start()
    b = Bound(t, bdf)
    client, vmm = opened(t, bdf), connect(t, b.vm, bdf)
    b.bind()
    equal(report_of(b), None, "the report before anybody has asked for it")
    bars = [tuple(int(x, 16) for x in line.split()) for line in t.host.files.read(t.host.path(bdf, "resource")).decode().splitlines()[:6]]
    bars = [(i, end - start + 1) for i, (start, end, flags) in enumerate(bars) if flags & 0x200]
    for flags in (0, requests.REPORT_SHIFT):
        data = ask_report(client, flags)
        report = eventually(lambda data=data: (report_of(b) or {}).get("bytes") == len(data) and report_of(b), "the report")
        equal([(r["bar"], r["offset"], r["size"]) for r in report["ranges"]], [(i, 0, size) for i, size in bars], "ranges, and where they are")
        equal(["non-tee" in r["attributes"] for r in report["ranges"]], [k > 0 for k in range(len(bars))], "which are not trusted")
        equal((report["flags"], report["problems"]), (["dma-without-pasid"], []), "flags and problems")
    contains(report["private_mmio"], "not supported", "what becomes of trusted memory")
    # While it runs, nobody reaches what is trusted by way of the host; the rest as before.
    client.change("start")
    check_tdisp(t, b, "run", "running", "run")
    trusted, other = bars[0][0], bars[1][0]
    vmm.write16(vfio_user.CONFIG, 4, vmm.read16(vfio_user.CONFIG, 4) | 2)
    equal(vmm.read(trusted, 0, 64), b"\xff" * 64, "trusted memory as the host reads it")
    refusals = vpci(b.vm, bdf)["refused"]
    vmm.write(trusted, 0, b"\1\2\3\4")
    equal(vpci(b.vm, bdf)["refused"], refusals + 1, "writes to trusted memory that are refused")
    vmm.read(other, 0, 64)
    # What is no report, and one that does not fit, takes nothing back.
    for data in (op(ECHO, b"no report"), op(requests.REPORT, struct.pack("=I", requests.REPORT_BEYOND))):
        equal(client.ask("report", data)[0], 0, "another answer that is said to be a report")
        eventually(lambda: report_of(b)["problems"], "what is wrong with it")
        equal(vmm.read(trusted, 0, 64), b"\xff" * 64, "trusted memory after it")
    ask_report(client)
    eventually(lambda: not report_of(b)["problems"], "the report is there again")
    t.daemon.restart()
    eventually(lambda: report_of(b), "the report after a restart")
    equal(vmm.read(trusted, 0, 64), b"\xff" * 64, "trusted memory after a restart")
    client.change("stop")
    check_tdisp(t, b, "unlocked", "bound", "bound")
    equal(report_of(b), None, "the report of what is unlocked")
    client.change("lock")
    for flags, text in ((requests.REPORT_ATS, "ats"), (requests.REPORT_BEYOND, f"BAR {trusted}"), (requests.REPORT_SHORT, "no device interface report")):
        ask_report(client, flags)
        problems = eventually(lambda: (report_of(b) or {}).get("problems"), f"what is wrong with report {flags}")
        if flags != requests.REPORT_ATS:
            problems = eventually(lambda text=text: any(text in p for p in report_of(b)["problems"]) and report_of(b)["problems"], f"{text} in {problems}")
            equal(len(problems), 1, f"problems: {problems}")
    check("report" in [e["what"] for e in vpci(b.vm, bdf)["events"]], "an event")
    # What is trusted is not known: then all of it may be.
    client.change("start")
    equal(vmm.read(other, 0, 64), b"\xff" * 64, "memory of which nobody knows whether it is trusted")
    client.change("stop", "lock")
    check_tdisp(t, b, "locked", "bound", "locked")
    # Where the configuration wants it, that is the end.
    t.daemon.stop()
    arguments = t.configured({"policy": {"unbind_on_mismatch": True}})
    t.daemon.start(arguments=arguments)
    b = Bound(t, bdf)
    b.bind()
    client = opened(t, bdf)
    ask_report(client)
    eventually(lambda: report_of(b), "a report that fits")
    check_tdisp(t, b, "unknown", "bound", "locked")
    ask_report(client, requests.REPORT_BEYOND)
    check_tdisp(t, b, "unlocked", "prepared", "unlocked")
    doc = next(x for x in b.vm.describe()["tdis"] if x["bdf"] == bdf)
    contains(doc["bind_error"], "interface report", "why it is not bound")
    check_log(t)
