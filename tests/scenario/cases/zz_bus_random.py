# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Random calls of every method of every object that there is, by several clients at once, some of whom leave before they are answered. Each call is
# answered; at the end nothing is stuck, kept or lost. Ten minutes with TDID_FULL=1, else a few seconds; best with the sanitizers' programs.

import collections
import os
import select
import socket
import time
import xml.etree.ElementTree as ElementTree

from cases.zz_bus import ODD_TEXT, OPTIONS, TABLE, variants
from kit.checks import Failure, check, equal, eventually
from kit.client import NAME, ROOT, Lost, Refused
from kit.daemon import fd_count, memory_kib, processes, sanitized
from kit.peer import RawBus
from kit.registry import scenario
from kit.requests import op
from kit.wire import marshal, split

STANDARD = "org.freedesktop.DBus."
SECONDS, SECONDS_FULL = 3, 600
CLIENTS = 6
# Nobody waits longer for an answer than this; tdid's own deadlines are shorter.
PATIENCE = 150
REFRESH = 120


class Speaker:
    """A client that may have several calls under way."""

    def __init__(self, address):
        self.bus = RawBus(address)
        self.bus.socket.settimeout(PATIENCE)
        self.waiting = {}

    def send(self, method, path, signature, values, fds):
        interface, member = method
        data = self.bus.message(NAME, path, interface, member, signature.encode(), marshal(signature, values), unix_fds=len(fds) if fds else None)
        self.waiting[self.bus.serial] = method
        if fds:
            socket.send_fds(self.bus.socket, [data], fds)
        else:
            self.bus.socket.sendall(data)

    def answer(self):
        """(method, None or the error's name) of the next one that comes."""
        while True:
            kind, serial, name = self.bus.receive()
            method = self.waiting.pop(serial, None)
            if method:
                return method, None if kind == 2 else name


class Calls:
    def __init__(self, t):
        self.t, self.rng = t, t.rng
        self.speakers = []
        self.objects = {}
        self.methods = {}
        self.count, self.accepted, self.errors, self.unanswered = (collections.Counter() for _ in range(4))
        self.bdfs = t.host.bdfs("edu", 4) + t.host.bdfs("igb-vf", 2) + [t.host.bdf("nvme")]
        self.names = 0
        sleeper = t.sleeper()
        read_end, write_end = os.pipe()
        self.fds = [os.open("/dev/null", os.O_RDWR), os.open("/dev/null", os.O_PATH), os.eventfd(0), os.memfd_create("x"), read_end, write_end,
                    os.pidfd_open(sleeper.pid)]
        self.kvm = [t.host.kvm_vm() for _ in range(2)]
        self.leases = []
        t.defer(lambda: [os.close(fd) for fd in self.fds])
        t.defer(lambda: [t.host.close(fd) for fd in self.kvm])

    def home(self):
        """There is always a VM whose function can become a TDI; it is made anew when somebody has destroyed it."""
        try:
            if any(str(self.t.client.get(path, "VM", "Name")).startswith("home-") for path in self.t.client.vms()):
                return
            vm = self.t.client.create_vm(f"home-{self.names}", hotplug=True)
            self.leases.append(vm.lease)
            vm.set_kvm(self.kvm[0])
            vm.seal(**{"async": True})
            vm.attach((self.bdfs[4], {"guest_rid": 0x100}), self.bdfs[0], async_=True)
            vm.hold("held").close()
        except (Refused, Lost):
            # Others have the name of it, or its functions, or have destroyed it just now.
            pass

    def refresh(self):
        """What there is to call now: of each kind a few objects."""
        self.home()
        found = collections.defaultdict(list)
        for path, interfaces in self.t.client.objects().items():
            for interface in interfaces:
                if str(interface).startswith(NAME):
                    found[str(interface).removeprefix(NAME + ".")].append(str(path))
        found["Manager"] = [ROOT]
        mine = {self.t.device(bdf).path for bdf in self.bdfs}
        found["Device"] = [p for p in found["Device"] if p in mine or self.rng.random() < 0.05]
        self.objects = {k: v for k, v in found.items() if v}
        for interface, paths in self.objects.items():
            if interface not in self.methods:
                document = ElementTree.fromstring(str(self.t.client.call(paths[0], STANDARD + "Introspectable", "Introspect")))
                self.methods[interface] = [(m.get("name"), "".join(a.get("type") for a in m.findall("arg") if a.get("direction", "in") == "in"))
                                           for m in document.find(f"interface[@name='{NAME}.{interface}']").findall("method")]

    # ---- arguments ----

    def name(self):
        self.names += 1
        return f"random-{self.names}"

    def option(self, key):
        rng = self.rng
        good = {"uuid": lambda: "{:08x}-0000-4000-8000-{:012x}".format(rng.getrandbits(32), rng.getrandbits(48)), "owner_uid": lambda: rng.choice((0, 1, 65534)),
                "vmm_uid": lambda: rng.choice((0, 1)), "vmm_gid": lambda: 0, "seclabel": lambda: rng.choice(("", "label")), "platform": lambda: "plain",
                "bind": lambda: rng.choice(("early", "late")), "await_vmm": lambda: rng.randint(1, 4),
                "limits": lambda: [("functions", ("u", rng.randint(1, 8)))], "guest_rid": lambda: rng.randrange(0x10000), "connect": lambda: rng.choice(("yes", "no", "policy")),
                "vf_token": lambda: "0f8fad5b-d9cb-469f-a165-708677289501", "heap": lambda: "system", "nonce": lambda: "ab" * 32, "device": lambda: rng.choice(self.bdfs),
                "vm": lambda: f"random-{rng.randint(1, self.names + 1)}", "owner": lambda: 0, "mode": lambda: rng.choice(("early", "late")), "access": lambda: rng.choice(("vpci", "handoff")),
                "ide": lambda: rng.choice(("secure", "insecure"))}
        kind = OPTIONS[key][0]
        return kind, rng.randrange(2) if kind == "b" else good[key]()

    def options(self, keys):
        if self.rng.random() < 0.05:
            return self.rng.choice(list(variants(keys)))
        return [(key, self.option(key)) for key in keys if self.rng.random() < 0.3]

    def number(self, top):
        return self.rng.choice((0, 1, 4095, 4096, 8192, 1 << 20, top, top - 1, top >> 1, self.rng.randrange(top), self.rng.randrange(top)))

    def word(self, *good):
        return self.rng.choice(good) if self.rng.random() < 0.85 else self.rng.choice(("", "x" * 70000, "\n", "..", "é", self.name(), "9" * 30, *self.bdfs))

    def argument(self, kind, options, fds):
        rng = self.rng
        if kind == "options":
            out = self.options(options)
            # Without it nobody has the lease, and it is over at once.
            return out + [("await_vmm", ("u", rng.randint(1, 4)))] if "await_vmm" in options and rng.random() < 0.8 and "await_vmm" not in dict(out) else out
        if kind in ("functions", "planned"):
            keys = "guest_rid bind connect vf_token force".split()
            return [(self.word(*self.bdfs), self.options([k for k in keys if rng.random() < 0.3])) for _ in range(rng.choice((1, 1, 1, 2, 3, 0, 40)))]
        if kind == "fd":
            fds.append(rng.choice(self.fds + 2 * self.kvm))
            return rng.choice((0, 0, 0, 0, 1, 0xffffffff))
        if kind == "accept":
            return [self.word("pinned", "revocable", "dynamic") for _ in range(rng.choice((0, 0, 1, 2, 2000)))]
        if kind == "data":
            # Mostly something that the test TSM knows.
            if rng.random() < 0.7:
                return op(rng.randrange(7), rng.randbytes(rng.choice((0, 2, 300))))
            return rng.randbytes(rng.choice((0, 1, 16, 300, 65536, 70000)))
        if kind in ("size", "offset"):
            return rng.choice((0, 4096, 8192, 65536, 4096)) if rng.random() < 0.7 else self.number((1 << 64) - 1)
        if kind == "region":
            return rng.choice((0, 0, 0, 1, 2)) if rng.random() < 0.8 else self.number((1 << 32) - 1)
        return {"name": lambda: self.word(self.name()), "any name": lambda: self.word(f"random-{rng.randint(1, self.names + 1)}"), "bdf": lambda: self.word(*self.bdfs),
                "label": lambda: self.word("label"), "request": lambda: self.word("info", "report", "lock", "start", "stop", "state-change"),
                "importer": lambda: self.word("kvm", "iommufd", "rdma", "gpu", "any"), "tsm": lambda: self.word("", self.t.tsm_name)}[kind]()

    def anything(self, kind, depth=0):
        """A value of any type."""
        rng = self.rng
        if kind in "ybnqiuxthd":
            bits = {"y": 8, "b": 1, "n": 15, "q": 16, "i": 31, "u": 32, "x": 63, "t": 64, "h": 2, "d": 32}[kind]
            return rng.choice((0, 1, (1 << bits) - 1, rng.getrandbits(bits)))
        if kind == "s":
            return self.word("x", "random-1") if rng.random() < 0.98 else rng.choice(ODD_TEXT)
        if kind == "o":
            return rng.choice(("/", ROOT, rng.choice(rng.choice(list(self.objects.values())))))
        if kind == "g":
            return rng.choice(("", "s", "a{sv}", "((((s))))"))
        if kind == "v":
            inner = rng.choice(("s", "u", "b", "a{sv}", "ay", "v", "(s)", "t", "as", "h") if depth < 8 else ("u",))
            return inner, self.anything(inner, depth + 1)
        if kind[0] == "a":
            return [self.anything(kind[1:], depth + 1) for _ in range(rng.choice((0, 1, 2, 5)) if depth < 4 else 0)]
        return tuple(self.anything(k, depth + 1) for k in split(kind[1:-1]))

    def pick(self):
        """A call: method, path, signature, values, descriptors."""
        rng, fds = self.rng, []
        interface = rng.choices(list(self.objects), [{"Manager": 3, "VM": 6, "TDI": 6, "Device": 2, "Job": 2}.get(i, 1) for i in self.objects])[0]
        path = rng.choice(self.objects[interface])
        # The one that can be bound.
        if interface == "TDI" and rng.random() < 0.4 and (home := self.t.client.tdi(self.bdfs[4]).path) in self.objects["TDI"]:
            path = home
        if not self.methods[interface] or rng.random() < 0.05:
            which = rng.choice((("Properties", "Get", "ss", (f"{NAME}.{interface}", rng.choice(("Name", "State", "VM", "Nothing", "Quarantine")))),
                                ("Properties", "GetAll", "s", (f"{NAME}.{interface}",)), ("Introspectable", "Introspect", "", ()), ("Peer", "Ping", "", ()),
                                ("Properties", "Set", "ssv", (f"{NAME}.{interface}", "Name", ("s", "x"))), ("ObjectManager", "GetManagedObjects", "", ())))
            return (STANDARD + which[0], which[1]), ROOT if which[0] == "ObjectManager" else path, which[2], which[3], fds
        member, signature = rng.choice(self.methods[interface])
        # It ends what others work with; and with a channel that is closed nothing is attached any more.
        if member in ("Destroy", "OpenAssociation", "Handoff") and rng.random() < (0.95 if member == "OpenAssociation" else 0.6):
            member, signature = rng.choice(self.methods[interface])
        method = (f"{NAME}.{interface}", member)
        if rng.random() < 0.04:
            signature = rng.choice(("", "s", "h", "u", "a{sv}", "sa{sv}", "a(sa{sv})a{sv}", "v", "ay", "tt", "(ss)"))
        elif rng.random() < 0.9:
            kinds, options = TABLE[interface, member]
            return method, path, signature, [self.argument(kind, options.split(), fds) for kind in kinds], fds
        values = [self.anything(kind) for kind in split(signature)]
        return method, path, signature, values, [rng.choice(self.fds) for _ in range(rng.choice((0, 1, 4)))] if "h" in signature else []

    # ---- the run ----

    def took(self, method, error):
        self.count[method] += 1
        if error is None:
            self.accepted[method] += 1
        else:
            self.errors[error.removeprefix("org.tdid1.Error.")] += 1

    def drop(self, speaker):
        """It leaves, whatever it waits for."""
        for method in speaker.waiting.values():
            self.unanswered[method] += 1
        speaker.bus.close()
        self.speakers.remove(speaker)

    def hear(self, seconds):
        """
        The next answer for anybody, if one comes within this time. All are listened to: as long as somebody does not read an answer with descriptors
        of a device, that device is in use.
        """
        waiting = [s for s in self.speakers if s.waiting]
        ready = [s for s in waiting if s.bus.buffer]
        if not ready:
            sockets = {s.bus.socket: s for s in waiting}
            ready = [sockets[s] for s in select.select(list(sockets), [], [], seconds)[0]]
        for speaker in ready[:1]:
            try:
                self.took(*speaker.answer())
            except (EOFError, ConnectionError):
                # The bus throws out who sends what is no message.
                self.drop(speaker)
        return bool(ready)

    def step(self):
        while len(self.speakers) < CLIENTS:
            self.speakers.append(Speaker(self.t.bus.address))
        if self.hear(0):
            return
        speaker = self.rng.choice(self.speakers)
        if len(speaker.waiting) >= 8 or self.rng.random() < 0.1:
            self.hear(0.005)
        elif self.rng.random() < 0.005:
            self.drop(speaker)
        else:
            try:
                speaker.send(*self.pick())
            except ConnectionError:
                self.drop(speaker)

    def end(self):
        """Every call is answered."""
        while any(s.waiting for s in self.speakers):
            if not self.hear(PATIENCE):
                raise Failure(f"no answer within {PATIENCE} s: {[s.waiting for s in self.speakers if s.waiting]}")
        for speaker in list(self.speakers):
            self.drop(speaker)
        for lease in self.leases:
            lease.close()


def give_up(t):
    """Ends every VM that is left, and what was connected by itself."""
    for path in t.client.vms():
        try:
            t.client.call(path, f"{NAME}.VM", "Destroy", "a{sv}", {})
        except Refused:
            pass
    t.quiet()
    for bdf in t.host.bdfs("igb") + t.host.bdfs("nvme"):
        if t.host.tsm_connected(bdf):
            t.device(bdf).disconnect()


@scenario("edu:4", "igb-vf:2", "nvme", tsm=("nvme", "igb"), needs=("bind_module", "kvm"), start=False, timeout=1800)
def bus_random(t):
    """Random calls; see above."""
    if t.host.kind == "linux" and not t.full:
        t.skip("an emulated machine makes too few calls in so short a time")
    t.load_bind_module()
    t.daemon.start(arguments=t.configured({"policy": {"handoff": True, "associate_kvm": True, "peer_to_peer": True}}))
    calls = Calls(t)
    first = t.client.create_vm("first")
    first.attach(calls.bdfs[0])
    first.destroy()
    first.lease.close()
    t.quiet()
    before = fd_count(t.daemon.pid), memory_kib(t.daemon.pid)
    until, n, slow = time.monotonic() + (SECONDS_FULL if t.full else SECONDS), 0, 0.0
    while time.monotonic() < until:
        if n % REFRESH == 0:
            begin = time.monotonic()
            calls.refresh()
            slow = max(slow, time.monotonic() - begin)
        calls.step()
        n += 1
        check(t.daemon.alive(), "tdid has ended")
    calls.end()
    give_up(t)
    eventually(lambda: not t.client.vms(), "the end of all VMs", 120)
    t.quiet()
    for bdf in calls.bdfs:
        if t.device(bdf).text("Quarantine"):
            t.device(bdf).restore()
    t.free(*calls.bdfs)
    t.value("calls", sum(calls.count.values()))
    t.value("accepted", sum(calls.accepted.values()))
    t.value("left_before_the_answer", sum(calls.unanswered.values()))
    t.value("slowest_list_of_objects", f"{slow:.2f}")
    t.note("errors: " + " ".join(f"{k}={v}" for k, v in sorted(calls.errors.items())))
    t.note("accepted: " + " ".join(f"{i.rpartition('.')[2]}.{m}={calls.accepted[i, m]}/{calls.count[i, m]}" for i, m in sorted(calls.count)))
    if t.full:
        never = [m for i in calls.methods for m, _ in calls.methods[i] if not calls.accepted[f"{NAME}.{i}", m]]
        # These take what nobody here has: a device that speaks SPDM, something that is quarantined.
        equal(sorted(set(never) - {"Evidence", "Restore"}), [], "methods of which no call was accepted")
    eventually(lambda: not processes("tdid-vm"), "the end of all holders")
    eventually(lambda: fd_count(t.daemon.pid) <= before[0] + 2, "no descriptor was kept")
    grown = memory_kib(t.daemon.pid) - before[1]
    t.value("kib_grown", grown)
    try:
        t.client.ping()
    except Lost:
        check(False, "tdid does not answer afterwards")
    if not sanitized(t.daemon.pid):
        check(grown < 16384, f"tdid has grown by {grown} KiB")
