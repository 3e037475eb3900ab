# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every method with arguments that it is not for: what each is refused with, and that nothing has changed then. What is called comes from the introspection,
# what its arguments are for from the table here: a method or an argument without a row is a failure. Who may call what is in zz_access.py.

import os
import xml.etree.ElementTree as ElementTree

from kit.checks import check, equal, eventually
from kit.client import NAME, ROOT
from kit.daemon import fd_count, processes
from kit.peer import RawBus
from kit.registry import scenario
from kit.wire import marshal, split

STANDARD = "org.freedesktop.DBus."
INVALID = ("InvalidArgument",)
SIGNATURE = (STANDARD + "Error.InvalidArgs",)
MIB = 1 << 20
# The bus throws out who sends that.
CLOSED = "closed"

# What every option is: a wrong type of it is tried, and each of these values.
OPTIONS = {
    "async": ("b", ()), "abandon": ("b", ()), "force": ("b", ()), "verify": ("b", ()), "hotplug": ("b", ()), "peer_to_peer": ("b", ()), "association": ("b", ()),
    "evidence": ("b", ()), "archived": ("b", ()), "ide": ("s", ("", "x")),
    "uuid": ("s", ("", "x", "0" * 36, "../" * 12)), "owner_uid": ("u", (0xffffffff,)), "vmm_uid": ("u", (0xffffffff,)), "vmm_gid": ("u", (0xffffffff,)),
    "seclabel": ("s", ("x" * MIB, "a\nb")), "platform": ("s", ("", "vax", "x" * MIB)), "bind": ("s", ("", "never", "x" * MIB)), "await_vmm": ("u", (601, 0xffffffff)),
    "limits": ("a{sv}", ([("unknown", ("u", 1))], [("functions", ("s", "1"))], [("functions", ("u", 0))], [("maps", ("u", 1))] * 2)),
    "guest_rid": ("u", (0x10000, 0xffffffff)), "connect": ("s", ("", "perhaps", "x" * MIB)), "vf_token": ("s", ("", "x" * 36, "x" * MIB)),
    "heap": ("s", ("../null", "a/b", "x" * 300)), "nonce": ("s", ("", "0" * 63, "g" * 64, "0" * MIB)),
    "device": ("s", ("", "x" * MIB)), "vm": ("s", ("", "x" * MIB)), "owner": ("u", ()), "mode": ("s", ("", "x")), "access": ("s", ("", "x")),
}
# Each method: the kind of each argument, and the options that it has.
TABLE = {
    ("Manager", "CreateVM"): (("name", "options"), "uuid owner_uid vmm_uid vmm_gid seclabel platform hotplug peer_to_peer bind await_vmm limits"),
    ("Manager", "GetVM"): (("any name",), ""),
    ("Manager", "GetDevice"): (("bdf",), ""),
    ("Manager", "DescribeHost"): ((), ""),
    ("Manager", "Check"): ((), ""),
    ("Manager", "Reload"): ((), ""),
    ("Manager", "ExplainPolicy"): (("options",), "device vm owner platform mode access association ide evidence"),
    ("VM", "Attach"): (("functions", "options"), "async"),
    ("VM", "Seal"): (("options",), "async"),
    ("VM", "Destroy"): (("options",), "async abandon"),
    ("VM", "SetKVM"): (("fd",), ""),
    ("VM", "SetPidfd"): (("fd",), ""),
    ("VM", "OpenAssociation"): ((), ""),
    ("VM", "Hold"): (("label",), ""),
    ("VM", "CreateSharedBuffer"): (("size", "options"), "heap"),
    ("VM", "Describe"): ((), ""),
    ("TDI", "Detach"): (("options",), "async"),
    ("TDI", "Bind"): (("options",), "async"),
    ("TDI", "Unbind"): (("options",), "async"),
    ("TDI", "Handoff"): ((), ""),
    ("TDI", "OpenRequests"): ((), ""),
    ("TDI", "GuestRequest"): (("request", "data"), ""),
    ("TDI", "ExportDmabuf"): (("region", "offset", "size", "importer", "accept"), ""),
    ("Device", "Connect"): (("tsm", "options"), "async"),
    ("Device", "Disconnect"): (("options",), "async"),
    ("Device", "Restore"): (("options",), "async force"),
    ("Device", "Evidence"): (("options",), "nonce verify archived"),
    ("Device", "Describe"): ((), ""),
    ("Job", "Cancel"): ((), ""),
    ("Job", "Describe"): ((), ""),
}
# Plans take what the deed takes.
TABLE |= {(interface, "Plan" + member): TABLE[interface, member] for interface, member in (
    ("VM", "Attach"), ("VM", "Seal"), ("VM", "Destroy"), ("TDI", "Detach"), ("TDI", "Bind"), ("TDI", "Unbind"), ("Device", "Connect"),
    ("Device", "Disconnect"), ("Device", "Restore"))}
TABLE["Manager", "PlanCreateVM"] = ("name", "options", "planned"), TABLE["Manager", "CreateVM"][1]
# A value of each kind that the method is for, so that the others are what is looked at. What it does then is not of interest: none of these calls is made.
GOOD = {"name": "bus-table", "any name": "nobody", "bdf": "{bdf}", "label": "x", "size": 4096, "request": "info", "data": b"", "region": 0, "offset": 0,
        "importer": "kvm", "accept": [], "tsm": "", "options": [], "functions": [("{other}", [])], "planned": [], "fd": 0}
ODD_TEXT = (b"a\0b", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf")


def variants(options):
    """Dictionaries of options that no method takes."""
    yield [("unknown", ("b", 1))]
    yield [("", ("b", 1))]
    yield [("x" * MIB, ("b", 1))]
    yield [(f"k{i}", ("u", i)) for i in range(10000)]
    for key in options:
        kind, values = OPTIONS[key]
        wrong = {"b": ("s", "true"), "s": ("u", 1), "u": ("i", -1), "a{sv}": ("s", "x")}[kind]
        yield [(key, wrong)]
        yield [(key, ("v", (kind, {"b": 1, "s": "x", "u": 1, "a{sv}": []}[kind])))]
        yield [(key, ("a" * 30 + "y", []))]
        good = (kind, {"b": 1, "s": "{bdf}", "u": 1, "a{sv}": []}[kind])
        yield [(key, good), (key, good)]
        for value in values:
            yield [(key, (kind, value))]


def bad(kind, options, fixture):
    """(value, errors) of an argument's kind."""
    if kind == "options":
        for value in variants(options):
            yield value, INVALID + ("NotFound", "Limit")
    elif kind in ("functions", "planned"):
        bdf = fixture.other
        # A VM may be planned without any.
        for value in (*([[]] if kind == "functions" else []), [(bdf, []), (bdf, [])], [(f"0000:{i // 32 % 256:02x}:{i % 32:02x}.0", []) for i in range(10000)], [("", [])], [("x" * MIB, [])]):
            yield value, INVALID + ("NotFound", "Limit")
        for value in variants("guest_rid bind connect vf_token force".split()):
            yield [(bdf, value)], INVALID
    elif kind in ("name", "label"):
        for value in ("x" * MIB, "a\nb", "\x1b[2J", "a\u2028" * 100) + (("", "..", "/", "\u202egnp") if kind == "name" else ()):
            yield value, INVALID
    elif kind == "any name":
        for value in ("", "x" * MIB, "..", "\x1b[2J", "\u202e", "9" * 100):
            yield value, INVALID + ("NotFound",)
    elif kind == "bdf":
        for value in ("", "x" * MIB, "0000:00:20.0", "-1:0:0.0", "0000:01:00.0\n", "ffff:ff:1f.7"):
            yield value, INVALID + ("NotFound",)
    elif kind in ("importer", "request", "tsm"):
        for value in ("x" * MIB, "kvmm", "\n", "../tsm0") + (("",) if kind != "tsm" else ()):
            yield value, INVALID + (("NotFound", "NotSupported") if kind == "tsm" else ("InvalidState",) if kind == "request" else ())
    elif kind in ("size", "offset"):
        for value in (1, 4095, 4097, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1) + ((0,) if kind == "size" else ()):
            yield value, INVALID + ("Limit",)
    elif kind == "region":
        for value in (6, 7, 8, 9, 255, 0x7fffffff, 0xffffffff):
            yield value, INVALID
    elif kind == "accept":
        for value in (["pined"], [""], ["x" * MIB], ["pinned"] * 10000, ["dynamic"], ["pinned", "nothing"]):
            yield value, INVALID + ("ClassMismatch",)
    elif kind == "data":
        for value in (bytes((1 << 16) + 1), bytes(MIB)):
            yield value, INVALID + ("Limit", "InvalidState")
    elif kind == "fd":
        for value in range(len(fixture.fds)):
            yield value, INVALID
        yield len(fixture.fds), INVALID + SIGNATURE + ("closed", "System.Error.EBADMSG", STANDARD + "Error.InvalidArgs", STANDARD + "Error.InconsistentMessage")


def text_at(kind, value):
    """The argument with text that is none, in each of its places."""
    if kind in ("options",):
        yield [(value, ("b", 1))]
        yield [("uuid", ("s", value))]
    elif kind == "functions":
        yield [(value, [])]
    elif kind == "accept":
        yield [value]
    elif kind in ("name", "any name", "bdf", "label", "request", "importer", "tsm"):
        yield value


class Fixture:
    def __init__(self, t):
        self.t = t
        self.bdf, self.other = t.host.bdfs("edu", 2)
        self.vm, self.beside = t.vm("table"), t.vm("beside")
        _, self.job = self.vm.attach(self.bdf, async_=True)
        self.job.wait()
        self.paths = {"Manager": ROOT, "VM": self.vm.path, "TDI": t.client.tdi(self.bdf).path, "Device": t.device(self.bdf).path, "Job": self.job.path}
        read_end, write_end = os.pipe()
        # Another VM's lease is no process, no KVM, and not to be had by this VM.
        self.fds = [os.open("/dev/null", os.O_RDWR), os.open("/dev/null", os.O_PATH), os.memfd_create("x"), os.eventfd(0), read_end, write_end,
                    os.dup(self.beside.lease.fd), os.open("/", os.O_RDONLY | os.O_DIRECTORY), os.open("/proc/self/exe", os.O_RDONLY)]
        t.defer(lambda: [os.close(fd) for fd in self.fds])
        self.raw = None
        self.before = self.seen()
        # What a name in a table stands for.
        self.names = {"{bdf}": self.bdf, "{other}": self.other}

    def seen(self):
        """What no refused call may change."""
        doc = self.vm.describe()
        return (sorted(self.t.client.vms()), doc["phase"], [k["kind"] for k in doc["keepers"]], [(i["bdf"], i["state"], i["handoff"]) for i in doc["tdis"]], doc["kvm"],
                doc["dmabufs"], self.t.daemon.journals(), sorted(processes("tdid-vm")))

    def filled(self, value):
        if isinstance(value, str):
            return self.names.get(value, value)
        return type(value)(self.filled(v) for v in value) if isinstance(value, (list, tuple)) else value

    def call(self, interface, member, signature, values):
        """The name of the error, "return", or "closed"."""
        if self.raw is None:
            self.raw = RawBus(self.t.bus.address)
        path, fds = self.paths[interface], self.fds if "h" in signature else ()
        kind, name = self.raw.call(NAME, path, f"{NAME}.{interface}", member, signature.encode(), marshal(signature, self.filled(list(values))),
                                   unix_fds=len(fds) if fds else None, fds=fds)
        if kind == CLOSED:
            self.raw.close()
            self.raw = None
        return name if kind == "error" else kind


def methods(t, fixture):
    """(interface, member, signature) of everything that the introspection shows."""
    for interface, path in fixture.paths.items():
        document = ElementTree.fromstring(str(t.client.call(path, STANDARD + "Introspectable", "Introspect")))
        for method in document.find(f"interface[@name='{NAME}.{interface}']").findall("method"):
            yield interface, method.get("name"), "".join(a.get("type") for a in method.findall("arg") if a.get("direction", "in") == "in")


def wrong_signatures(signature):
    """Signatures that are not this one, with values."""
    for other, values in (("", ()), ("s", ("x",)), ("u", (1,)), ("a{sv}", ([],)), ("sa{sv}", ("x", [])), ("v", (("s", "x"),)), ("at", ([1] * 1000,)),
                          ("(s)", (("x",),)), ("a{sv}a{sv}", ([], [])), ("ay", (bytes(1000),)), ("as", (["x"],)), ("a(sa{sv})", ([],)), ("g", ("s",)), ("h", (0,))):
        if other != signature:
            yield other, values
    if signature:
        yield signature + "y", None


@scenario("edu:2", tags=("quick",))
def bus_table(t):
    """Each argument of each method, with values that it is not for."""
    if t.host.kind == "linux" and not t.full:
        t.skip("the kernel has no part in it, and an emulated machine takes minutes")
    fixture = Fixture(t)
    found, count = {m[:2]: m[2] for m in methods(t, fixture)}, 0
    equal(set(found), set(TABLE), "methods that have a row")
    fds = fd_count(t.daemon.pid)
    # What is known of a job that has ended is kept for a minute.
    for (interface, member), signature in sorted(found.items(), key=lambda m: m[0][0] != "Job"):
        kinds, options = TABLE[interface, member]
        types, where = split(signature), f"{interface}.{member}"
        equal(len(kinds), len(types), f"arguments of {where}")
        good = [GOOD[kind] for kind in kinds]
        for other, values in wrong_signatures(signature):
            said = fixture.call(interface, member, other, [*good, 0] if values is None else values)
            check(said in SIGNATURE, f"{where}, called with {other!r}: {said}")
            count += 1
        for at, kind in enumerate(kinds):
            for value, errors in bad(kind, options.split(), fixture):
                said = fixture.call(interface, member, signature, [*good[:at], value, *good[at + 1:]])
                check(said in errors, f"{where}, argument {at + 1}, {str(value)[:120]!r}: {said}, wanted {errors}")
                count += 1
            for odd in ODD_TEXT:
                for value in text_at(kind, odd):
                    said = fixture.call(interface, member, signature, [*good[:at], value, *good[at + 1:]])
                    equal(said, CLOSED, f"{where}, argument {at + 1}, {value!r}")
                    count += 1
        equal(fixture.seen(), fixture.before, f"what there is after calls of {where}")
    t.value("calls", count)
    t.attached(fixture.vm, fixture.bdf)
    t.free(fixture.other)
    t.unchanged(fixture.other)
    if fixture.raw:
        fixture.raw.close()
    eventually(lambda: fd_count(t.daemon.pid) <= fds, "no descriptor was kept")
