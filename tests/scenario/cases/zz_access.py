# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every method of every interface, called by everybody: whether polkit is asked, about what, and what its answer does. The table here says
# what each method needs; a method that is not in it, or an entry without a method, is a failure.

import json
import os
import pwd
import subprocess
import xml.etree.ElementTree as ElementTree

from kit.caller import Caller
from kit.checks import check, contains, equal, eventually
from kit.client import NAME, ROOT, Refused, escape
from kit.polkit import NAME as AUTHORITY
from kit.polkit import Polkit, RealPolkit
from kit.registry import scenario

# The bus must know them. Both are in base-passwd, so on every Debian.
ALICE, BOB = (pwd.getpwnam(name).pw_uid for name in ("daemon", "nobody"))
STANDARD = "org.freedesktop.DBus."

OWN, ANY, INSPECT, FORCE = ("manage-own-vm",), ("manage-any-vm",), ("inspect",), ("force",)
# Nobody needs anything; or the bus itself lets nobody but root.
FREE, NEVER = (), None
UUID = "6a1f9a52-9a1c-4d5f-8f64-0a5f3e1c2b{:02x}"

# Interface, method, types and values of the arguments, and what the VM's owner and another user need. A word in braces is of the
# fixture. Every call is one that goes on behind the authorisation: what it ends with then does not matter here.
TABLE = (
    # A plan needs what the deed needs.
    ("Manager", "PlanCreateVM", "sa{sv}a(sa{sv})", ("{fresh}", {}, []), ("create-vm",), ("create-vm",)),
    ("Manager", "PlanCreateVM", "sa{sv}a(sa{sv})", ("{fresh}", {"owner_uid": ("u", 0)}, []), ("create-any-vm",), ("create-any-vm",)),
    ("VM", "PlanAttach", "a(sa{sv})a{sv}", ([("{bdf}", {})], {}), OWN, ANY),
    ("VM", "PlanSeal", "a{sv}", ({},), OWN, ANY),
    ("VM", "PlanDestroy", "a{sv}", ({},), OWN, ANY),
    ("TDI", "PlanBind", "a{sv}", ({},), OWN, ANY),
    ("TDI", "PlanUnbind", "a{sv}", ({},), OWN, ANY),
    ("TDI", "PlanDetach", "a{sv}", ({},), OWN, ANY),
    ("Device", "PlanConnect", "sa{sv}", ("", {}), ("connect",), ("connect",)),
    ("Device", "PlanDisconnect", "a{sv}", ({},), ("connect",), ("connect",)),
    ("Device", "PlanRestore", "a{sv}", ({},), ("restore",), ("restore",)),
    ("Manager", "CreateVM", "sa{sv}", ("{fresh}", {}), ("create-vm",), ("create-vm",)),
    ("Manager", "CreateVM", "sa{sv}", ("{fresh}", {"uuid": ("s", "{uuid}")}), ("create-any-vm",), ("create-any-vm",)),
    ("Manager", "CreateVM", "sa{sv}", ("{fresh}", {"owner_uid": ("u", 0)}), ("create-any-vm",), ("create-any-vm",)),
    ("Manager", "CreateVM", "sa{sv}", ("{fresh}", {"vmm_uid": ("u", 0)}), ("create-any-vm",), ("create-any-vm",)),
    ("Manager", "CreateVM", "sa{sv}", ("{fresh}", {"vmm_gid": ("u", 0)}), ("create-any-vm",), ("create-any-vm",)),
    ("Manager", "GetVM", "s", ("{vm_id}",), FREE, FREE),
    ("Manager", "GetDevice", "s", ("{bdf}",), FREE, FREE),
    ("Manager", "DescribeHost", "", (), FREE, FREE),
    ("Manager", "Check", "", (), FREE, FREE),
    ("Manager", "Reload", "", (), ("reload",), ("reload",)),
    ("Manager", "ExplainPolicy", "a{sv}", ({"device": ("s", "{bdf}")},), FREE, FREE),
    ("Manager", "ExplainPolicy", "a{sv}", ({"device": ("s", "{bdf}"), "owner": ("u", 0)},), INSPECT, INSPECT),
    ("Manager", "ExplainPolicy", "a{sv}", ({"device": ("s", "{bdf}"), "evidence": ("b", 1)},), ("evidence",), ("evidence",)),
    ("VM", "Attach", "a(sa{sv})a{sv}", ([("{bdf}", {})], {}), OWN, ANY),
    ("VM", "Attach", "a(sa{sv})a{sv}", ([("{bdf}", {}), ("{other}", {"force": ("b", 1)})], {}), OWN + FORCE, ANY + FORCE),
    ("VM", "Describe", "", (), FREE, INSPECT),
    ("VM", "SetKVM", "h", (0,), OWN, ANY),
    ("VM", "SetPidfd", "h", (0,), OWN, ANY),
    ("VM", "OpenAssociation", "", (), OWN, ANY),
    ("VM", "Hold", "s", ("mine",), OWN, ANY),
    ("VM", "CreateSharedBuffer", "ta{sv}", (4096, {}), OWN, ANY),
    ("VM", "Seal", "a{sv}", ({},), OWN, ANY),
    ("TDI", "Bind", "a{sv}", ({},), OWN, ANY),
    ("TDI", "Unbind", "a{sv}", ({},), OWN, ANY),
    ("TDI", "Handoff", "", (), OWN, ANY),
    ("TDI", "ExportDmabuf", "uttsas", (0, 0, 4096, "kvm", []), OWN, ANY),
    ("TDI", "OpenRequests", "", (), OWN, ANY),
    ("TDI", "GuestRequest", "say", ("info", [1, 2, 3, 4]), OWN, ANY),
    ("TDI", "Detach", "a{sv}", ({},), OWN, ANY),
    ("Device", "Connect", "sa{sv}", ("", {}), ("connect",), ("connect",)),
    ("Device", "Disconnect", "a{sv}", ({},), ("connect",), ("connect",)),
    ("Device", "Restore", "a{sv}", ({},), ("restore",), ("restore",)),
    ("Device", "Restore", "a{sv}", ({"force": ("b", 1)},), ("restore",) + FORCE, ("restore",) + FORCE),
    ("Device", "Describe", "", (), INSPECT, INSPECT),
    ("Device", "Evidence", "a{sv}", ({},), ("evidence",), ("evidence",)),
    ("Job", "Cancel", "", (), OWN, ANY),
    ("Job", "Describe", "", (), FREE, INSPECT),
    ("VM", "Destroy", "a{sv}", ({"abandon": ("b", 1)},), OWN + FORCE, ANY + FORCE),
    ("VM", "Destroy", "a{sv}", ({},), OWN, ANY),
    (STANDARD + "Introspectable", "Introspect", "", (), FREE, FREE),
    (STANDARD + "Peer", "Ping", "", (), FREE, FREE),
    (STANDARD + "Peer", "GetMachineId", "", (), FREE, FREE),
    (STANDARD + "Properties", "Get", "ss", (NAME + ".Manager", "Version"), FREE, FREE),
    (STANDARD + "Properties", "GetAll", "s", (NAME + ".Manager",), FREE, FREE),
    (STANDARD + "Properties", "Set", "ssv", (), NEVER, NEVER),
    (STANDARD + "ObjectManager", "GetManagedObjects", "", (), FREE, FREE),
)
# What rules see of a call, by interface.
DETAILS = {"Manager": ("method", "owner", "vm"), "VM": ("method", "owner", "vm"), "TDI": ("device", "method", "owner", "vm"),
           "Device": ("device", "method"), "Job": ("device", "method", "owner")}


class Fixture:
    """A VM of Alice's with a function and a job that has ended, and a function that nobody has."""

    count = 0

    def __init__(self, t):
        self.t = t
        self.bdf, self.other = t.host.bdfs("edu", 2)
        self.vm = t.vm(owner_uid=ALICE)
        self.spare = t.vm(owner_uid=ALICE)
        # Who else calls is the owner of a VM too, of another one.
        self.bobs = t.vm(owner_uid=BOB)
        _, self.job = self.vm.attach(self.bdf, async_=True)
        self.job.wait()
        self.paths = {"Manager": ROOT, "VM": self.vm.path, "TDI": t.client.tdi(self.bdf).path, "Device": t.device(self.other).path, "Job": self.job.path}

    def filled(self, value):
        if isinstance(value, str):
            Fixture.count += 1
            return value.format(fresh=f"fresh-{Fixture.count}", uuid=UUID.format(Fixture.count % 256), vm_id=self.vm.path.rpartition("/")[2],
                                bdf=self.bdf, other=self.other)
        if isinstance(value, dict):
            return {k: self.filled(v) for k, v in value.items()}
        return [self.filled(v) for v in value] if isinstance(value, (list, tuple)) else value

    def call(self, caller, row):
        """None when the call got past the authorisation, else what it was refused with."""
        interface, member, signature, args = row[:4]
        # Both kinds of Destroy end a VM.
        path = self.spare.path if member == "Destroy" and args[0] else self.paths.get(interface, ROOT)
        try:
            caller.call(path, interface, member, signature, *self.filled(args))
        except Refused as error:
            if error.name in ("Denied", "org.freedesktop.DBus.Error.AccessDenied"):
                return error
            # A call that tdid does not even read tells nothing of the authorisation.
            check(not error.name.startswith("org.freedesktop.DBus.Error.Unknown"), f"{interface}.{member}: {error}")
        return None

    def end(self):
        for vm in (self.spare, self.bobs, self.vm):
            if vm.alive():
                vm.destroy()
            vm.lease.close()
            self.t.gone(vm)
        self.t.free(self.bdf)


def rows():
    return [row for row in TABLE if row[4] is not NEVER]


def run_table(t, uid, expect, polkit=None):
    """Every row once; expect(needed) says whether it must get past."""
    fixture, caller = Fixture(t), Caller(uid, t.bus.address)
    t.defer(caller.close)
    for row in rows():
        needed = row[4] if uid == ALICE else row[5]
        where = f"{row[0]}.{row[1]} {row[3]} by uid {uid}"
        if polkit:
            polkit.asked.clear()
        error = fixture.call(caller, row)
        if expect(needed):
            check(error is None, f"{where}: {error}")
        else:
            check(error is not None, f"{where} was let through")
            contains(error.text, "org.tdid1.", where)
        if polkit and uid:
            asked = [q.action.removeprefix("org.tdid1.") for q in polkit.asked]
            equal(asked, list(needed if expect(needed) else needed[:1]), f"what polkit was asked about {where}")
            for q in polkit.asked:
                equal(q.kind, "system-bus-name", "kind of the subject")
                equal(tuple(sorted(q.details)), expected_details(row), f"details of {where}")
                equal((q.details["method"], q.flags), (f"{row[0]}.{row[1]}", 0), f"details of {where}")
    caller.close()
    fixture.end()


def expected_details(row):
    if row[1] == "Reload":
        return ("method",)
    if row[1] == "ExplainPolicy":
        return ("device", "method") if "evidence" in row[3][0] else ("device", "method", "owner")
    return tuple(sorted(DETAILS[row[0]] + (("device",) if row[1] in ("Attach", "PlanAttach") else ())))


def types(method):
    return "".join(a.get("type") for a in method.findall("arg") if a.get("direction", "in") == "in")


@scenario("edu:2", "nvme", tsm=("nvme",), needs=("root",), tags=("quick",))
def access_table_is_whole(t):
    """Each method that the introspection shows has a row, and each row a method."""
    fixture = Fixture(t)
    paths = dict(fixture.paths, TSM=f"{ROOT}/tsm/{t.tsm_name}")
    there = set()
    for interface, path in paths.items():
        document = ElementTree.fromstring(str(t.client.call(path, STANDARD + "Introspectable", "Introspect")))
        names = {i.get("name") for i in document.findall("interface")}
        contains(names, f"{NAME}.{interface}", f"interfaces of {path}")
        there |= {(i.get("name").removeprefix(NAME + "."), m.get("name"), types(m)) for i in document.findall("interface") for m in i.findall("method")}
    equal(there, {row[:3] for row in TABLE}, "methods")
    fixture.end()


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_table_without(t):
    """Without polkit: root may all, an owner what is its VM's, others look."""
    run_table(t, 0, lambda needed: True)
    run_table(t, ALICE, lambda needed: set(needed) <= set(OWN))
    run_table(t, BOB, lambda needed: not needed)
    for uid in (ALICE, BOB):
        caller = Caller(uid, t.bus.address)
        t.defer(caller.close)
        try:
            caller.call(ROOT, STANDARD + "Properties", "Set", "sss", NAME + ".Manager", "Version", "9")
            check(False, "a user may set properties")
        except Refused as error:
            equal(error.name, "org.freedesktop.DBus.Error.AccessDenied", "Set")


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_table_polkit(t):
    """With one: root is never asked about, everybody else about just what the row says; polkit's word is the last."""
    polkit = Polkit(t.bus.address, default="yes")
    t.defer(polkit.close)
    run_table(t, 0, lambda needed: True, polkit)
    equal(polkit.asked, [], "questions about root")
    run_table(t, ALICE, lambda needed: True, polkit)
    run_table(t, BOB, lambda needed: True, polkit)
    polkit.default = "no"
    run_table(t, 0, lambda needed: True, polkit)
    run_table(t, ALICE, lambda needed: not needed, polkit)
    run_table(t, BOB, lambda needed: not needed, polkit)


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_each_permission(t):
    """A method that needs several is refused when any one is missing, and then nothing has been done; what is right for one is not for another."""
    polkit = Polkit(t.bus.address, default="yes")
    t.defer(polkit.close)
    fixture, bob = Fixture(t), Caller(BOB, t.bus.address)
    t.defer(bob.close)
    for row in rows():
        if len(row[5]) < 2:
            continue
        for missing in row[5]:
            polkit.answers = {f"org.tdid1.{missing}": "no"}
            error = fixture.call(bob, row)
            check(error, f"{row[1]} without {missing}")
            contains(error.text, f"org.tdid1.{missing}: polkit says no", f"{row[1]} without {missing}")
    t.attached(fixture.vm, fixture.bdf)
    t.free(fixture.other)
    # An answer is for one call.
    polkit.answers, before = {}, len(polkit.asked)
    for _ in range(3):
        bob.call(fixture.vm.path, "VM", "Describe")
    equal(len(polkit.asked) - before, 3, "questions about three calls")
    # What was made is whose it should be.
    question = polkit.last("org.tdid1.inspect")
    equal(question.details, {"method": "VM.Describe", "vm": str(fixture.vm.get("Name")), "owner": str(ALICE)}, "details")
    bob.begin(ROOT, "Manager", "CreateVM", "sa{sv}", "of-bob", {"await_vmm": ("u", 60)})
    bob.end()
    doc = t.adopt(t.client.find_vm("of-bob")).describe()
    equal((doc["owner_uid"], doc["vmm_uid"], doc["vmm_gid"]), (BOB, BOB, BOB), "owner and VMM of Bob's VM")
    t.client.find_vm("of-bob").destroy()
    fixture.end()


def outcome(caller, path, interface, member, *args, **kw):
    """None, or the text of the refusal, which must be Denied."""
    try:
        caller.call(path, interface, member, *args, **kw)
    except Refused as error:
        equal(error.name, "Denied", f"{member} by uid {caller.uid}: {error.text}")
        return error.text
    return None


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_no_answer(t):
    """An error, what is no answer, a polkit that leaves, and none at all: as without; tdid goes on, and asks the next one."""
    fixture, alice, bob = Fixture(t), Caller(ALICE, t.bus.address), Caller(BOB, t.bus.address)
    for caller in (alice, bob):
        t.defer(caller.close)
    hold = (fixture.vm.path, "VM", "Hold", "s", "x")
    for word, why in (("error", "a rule is broken"), ("empty", "no answer to CheckAuthorization"), ("garbage", "no answer to CheckAuthorization")):
        polkit = Polkit(t.bus.address, default=word)
        t.defer(polkit.close)
        equal(outcome(alice, *hold), None, f"the owner, polkit: {word}")
        contains(outcome(bob, *hold), why, f"somebody else, polkit: {word}")
        equal(len(polkit.asked), 2, f"questions, polkit: {word}")
        polkit.close()
    # It leaves while it is asked.
    polkit = Polkit(t.bus.address, default="hang")
    t.defer(polkit.close)
    bob.begin(*hold)
    eventually(polkit.hanging, "the question")
    t.client.ping()
    polkit.close()
    try:
        bob.end()
        check(False, "Bob was let through by a polkit that left")
    except Refused as error:
        equal(error.name, "Denied", "error")
    contains(outcome(bob, *hold), "polkit does not answer", "somebody else, without polkit")
    polkit = Polkit(t.bus.address, default="yes")
    t.defer(polkit.close)
    equal(outcome(bob, *hold), None, "somebody else, with a new polkit")
    fixture.end()


@scenario("edu:2", needs=("root",))
def access_silence(t):
    """One that hangs: after the time limit as without it, and nobody waits for it again until it has been left alone for a while, or another comes."""
    fixture, alice, bob = Fixture(t), Caller(ALICE, t.bus.address), Caller(BOB, t.bus.address)
    for caller in (alice, bob):
        t.defer(caller.close)
    hold = (fixture.vm.path, "VM", "Hold", "s", "x")
    polkit = Polkit(t.bus.address, default="hang")
    t.defer(polkit.close)
    bob.begin(*hold)
    alice.begin(*hold)
    eventually(lambda: polkit.hanging() == 2, "the questions")
    t.client.ping()
    contains(outcome(Caller(BOB, t.bus.address), *hold) or "", "does not answer", "a third, who waits too")
    try:
        bob.end()
        check(False, "Bob was let through by a polkit that says nothing")
    except Refused as error:
        equal(error.name, "Denied", "error")
        contains(error.text, "time limit", "why")
    alice.end()
    eventually(lambda: len(polkit.cancelled) == 3, "cancelled checks")
    equal(sorted(polkit.cancelled), sorted(q.cancellation for q in polkit.asked), "which were cancelled")
    # It is left alone now, and what it says at last is for nobody.
    contains(outcome(bob, *hold), "does not answer", "somebody else")
    equal(outcome(alice, *hold), None, "the owner")
    polkit.release("yes")
    contains(outcome(bob, *hold), "does not answer", "somebody else, after an answer that came late")
    equal(len(polkit.asked), 3, "questions")
    polkit.close()
    polkit = Polkit(t.bus.address, default="yes")
    t.defer(polkit.close)
    equal(outcome(bob, *hold), None, "somebody else, with a new polkit")
    fixture.end()


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_dialog(t):
    """A dialog is allowed where the call allows it, and not else; the refusal says what there was."""
    bob = Caller(BOB, t.bus.address)
    t.defer(bob.close)
    polkit = Polkit(t.bus.address, default="challenge")
    t.defer(polkit.close)
    restore = (t.device(t.host.bdf("edu")).path, "Device", "Restore", "a{sv}", {})
    contains(outcome(bob, *restore), "which the call does not allow", "without a dialog")
    equal(polkit.asked[-1].flags, 0, "flags")
    contains(outcome(bob, *restore, interactive=True), "found no agent", "with a dialog")
    equal(polkit.asked[-1].flags, 1, "flags")
    polkit.default = "dismissed"
    contains(outcome(bob, *restore, interactive=True), "dismissed", "a dialog that was dismissed")
    check(len({q.cancellation for q in polkit.asked}) == 3, "checks share an id")
    name = polkit.asked[-1].name
    check(name.startswith(":") and all(q.name == name for q in polkit.asked), "who is asked about")


@scenario("edu", needs=("root",), tags=("quick",))
def access_terminal(t):
    """tdictl lets polkit ask the user for a password where it runs on a terminal, and nowhere else: not as JSON, not where it is told not to."""
    polkit = Polkit(t.bus.address, default="challenge")
    t.defer(polkit.close)
    bdf, (ours, terminal) = t.host.bdf("edu"), os.openpty()
    for end in (ours, terminal):
        t.defer(lambda fd=end: os.close(fd))

    def ask(*words, tty=True):
        """What polkit was told, and tdictl told."""
        place = {"stdin": terminal if tty else subprocess.DEVNULL, "stderr": terminal if tty else subprocess.PIPE}
        done = subprocess.run(t.tdictl.command(*words, "device", "restore", bdf), stdout=subprocess.PIPE, user="nobody", group="nogroup", extra_groups=[],
                              check=False, env=t.daemon.environment(None), timeout=60, **place)
        equal(done.returncode, 4, f"exit code of {words}")
        return polkit.asked[-1].flags, (os.read(ours, 4096) if tty and "--json" not in words else done.stdout + (done.stderr or b"")).decode()

    flags, text = ask()
    equal(flags, 1, "on a terminal")
    contains(text, "found no agent", "why it was not asked")
    for words, tty in ((("--no-ask-password",), True), (("--json",), True), ((), False)):
        flags, text = ask(*words, tty=tty)
        equal(flags, 0, f"{words} on a {'terminal' if tty else 'pipe'}")
        contains(text, "which the call does not allow", f"{words}")


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_pending(t):
    """So many wait for polkit, of one user and in all; who leaves takes its checks along, and its call is not made."""
    polkit = Polkit(t.bus.address, default="hang")
    t.defer(polkit.close)
    fixture = Fixture(t)
    destroy = (fixture.vm.path, "VM", "Destroy", "a{sv}", {})
    users = sorted({u.pw_uid for u in pwd.getpwall()} - {0, BOB}, reverse=True)[-8:] + [BOB]
    check(len(users) == 9, "too few users on this machine")
    crowd = [Caller(uid, t.bus.address) for uid in users[:8]]
    for caller in crowd:
        t.defer(caller.close)
    crowd[0].send(8, *destroy)
    eventually(lambda: polkit.hanging() == 8, "the first one's questions")
    same = Caller(users[0], t.bus.address)
    t.defer(same.close)
    for caller in (crowd[0], same):
        check_limit(caller, destroy)
    for caller in crowd[1:]:
        caller.send(8, *destroy)
    eventually(lambda: polkit.hanging() == 64, "all questions")
    last = Caller(users[8], t.bus.address)
    t.defer(last.close)
    check_limit(last, destroy)
    # Those who need no polkit are held up by nothing of that.
    t.client.ping()
    t.attached(fixture.vm, fixture.bdf)
    crowd[0].close()
    eventually(lambda: len(polkit.cancelled) == 8, "checks of one who left")
    last.begin(*destroy)
    eventually(lambda: polkit.hanging() == 65, "the question of one for whom there was no room")
    last.close()
    eventually(lambda: len(polkit.cancelled) == 9, "its check when it leaves")
    for caller in crowd[1:]:
        caller.close()
    eventually(lambda: len(polkit.cancelled) == 65, "cancelled checks")
    equal(len(set(polkit.cancelled)), 65, "ids of cancelled checks")
    polkit.release("yes")
    # A call that comes after them all: they were not made, nor will they be.
    polkit.default = "no"
    same.begin(fixture.vm.path, "VM", "Describe")
    try:
        same.end()
        check(False, "let through")
    except Refused as error:
        equal(error.name, "Denied", "error")
    t.attached(fixture.vm, fixture.bdf)
    fixture.end()


def check_limit(caller, call):
    try:
        caller.call(*call)
        check(False, "one more than there may be was taken")
    except Refused as error:
        equal(error.name, "Limit", error.text)
        contains(error.text, "wait for polkit", "text")


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_changed(t):
    """What was allowed for one VM is not for another that has the function when the answer comes; a VM that has gone is not found."""
    polkit = Polkit(t.bus.address, default="hang")
    t.defer(polkit.close)
    fixture, bob = Fixture(t), Caller(BOB, t.bus.address)
    t.defer(bob.close)
    second = t.vm("second", owner_uid=pwd.getpwnam("games").pw_uid)
    bob.begin(t.client.tdi(fixture.bdf).path, "TDI", "Detach", "a{sv}", {})
    eventually(polkit.hanging, "the question")
    equal(polkit.asked[-1].details["owner"], str(ALICE), "owner")
    t.client.tdi(fixture.bdf).detach()
    second.attach(fixture.bdf)
    polkit.default = "no"
    polkit.release("yes")
    try:
        bob.end()
        check(False, "Bob's permission for one VM was used for another")
    except Refused as error:
        equal(error.name, "Denied", error.text)
    equal((len(polkit.asked), polkit.asked[-1].details["vm"]), (2, "second"), "questions")
    t.attached(second, fixture.bdf)
    polkit.default = "hang"
    bob.begin(second.path, "VM", "Hold", "s", "x")
    eventually(polkit.hanging, "the question")
    second.destroy()
    t.gone(second)
    polkit.release("yes")
    try:
        bob.end()
        check(False, "a VM that has gone was held")
    except Refused as error:
        equal(error.name, "NotFound", error.text)
    fixture.end()


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_polkit_and_tdid(t):
    """tdid ends while polkit is being asked: the call ends with it, and the next tdid asks anew."""
    polkit = Polkit(t.bus.address, default="hang")
    t.defer(polkit.close)
    bob = Caller(BOB, t.bus.address)
    t.defer(bob.close)
    restore = (t.device(t.host.bdf("edu")).path, "Device", "Restore", "a{sv}", {})
    bob.begin(*restore)
    eventually(polkit.hanging, "the question")
    t.daemon.stop()
    try:
        bob.end()
        check(False, "the call was made")
    except Refused as error:
        check(error.name.startswith("org.freedesktop.DBus.Error."), str(error))
    polkit.default = "yes"
    t.start()
    try:
        bob.call(*restore)
    except Refused as error:
        equal(error.name, "InvalidState", error.text)
    equal([q.action for q in polkit.asked[1:]], ["org.tdid1.restore"], "questions of the next")


RULES = """
polkit.addRule(function(action, subject) {
    polkit.log("tdid-test " + action.id + " " + subject.user + " " + action.lookup("method") + " " + action.lookup("vm") + " " + action.lookup("device"));
    if (action.id == "org.tdid1.inspect" && subject.user == "nobody" && action.lookup("vm") == "shown")
        return polkit.Result.YES;
    if (action.id == "org.tdid1.restore" && action.lookup("device") == "%(bdf)s" && action.lookup("method") == "Device.Restore")
        return polkit.Result.YES;
    if (action.id == "org.tdid1.create-vm" && subject.user == "nobody")
        return polkit.Result.YES;
    if (action.id == "org.tdid1.manage-own-vm" && action.lookup("vm") == "taken-away")
        return polkit.Result.NO;
});
"""
# POLKIT_IMPLICIT_AUTHORIZATION of CheckAuthorization's documentation: required an administrator, authorized.
ADMIN, KEEP, YES = 2, 4, 5


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_polkitd(t):
    """The real polkitd takes our actions, and its rules see users, VMs and functions."""
    reason = RealPolkit.why_not()
    if reason:
        t.skip(reason)
    first, second = t.host.bdfs("edu", 2)
    polkitd = RealPolkit(t.folder, t.bus.address, t.paths.actions, RULES % {"bdf": first})
    t.defer(polkitd.close)
    t.value("polkitd", polkitd.wait(t.client))
    actions = {name.removeprefix("org.tdid1."): how for name, how in polkitd.actions(t.client).items()}
    equal(set(actions), {"create-vm", "create-any-vm", "connect", "restore", "reload", "evidence"} | set(OWN + ANY + INSPECT + FORCE), "actions")
    equal(actions["manage-own-vm"], (YES, YES, YES), "manage-own-vm")
    equal(actions["force"], (ADMIN, ADMIN, ADMIN), "force")
    alice, bob = Caller(ALICE, t.bus.address), Caller(BOB, t.bus.address)
    for caller in (alice, bob):
        t.defer(caller.close)
    shown, hidden, taken = (t.vm(name, owner_uid=ALICE) for name in ("shown", "hidden", "taken-away"))
    contains(bob.call(shown.path, "VM", "Describe"), '"shown"', "what Bob sees")
    contains(outcome(bob, hidden.path, "VM", "Describe"), "polkit wants authentication, which", "what Bob does not see")
    contains(outcome(bob, hidden.path, "VM", "Describe", interactive=True), "no agent", "the same with a dialog, for which there is nobody")
    contains(outcome(bob, shown.path, "VM", "Seal", "a{sv}", {}), "org.tdid1.manage-any-vm", "what Bob may not")
    # The owner by default, and where a rule takes it away.
    equal(outcome(alice, hidden.path, "VM", "Hold", "s", "x"), None, "the owner")
    contains(outcome(alice, taken.path, "VM", "Hold", "s", "x"), "polkit says no", "an owner to whom it was taken away")
    contains(alice.call(taken.path, "VM", "Describe"), "taken-away", "what it still sees")
    # Functions one by one, for everybody.
    for caller in (alice, bob):
        try:
            caller.call(t.device(first).path, "Device", "Restore", "a{sv}", {})
            check(False, "what is not quarantined was restored")
        except Refused as error:
            equal(error.name, "InvalidState", error.text)
        contains(outcome(caller, t.device(second).path, "Device", "Restore", "a{sv}", {}), "org.tdid1.restore", "the other function")
    bob.call(ROOT, "Manager", "CreateVM", "sa{sv}", "of-bob", {"await_vmm": ("u", 60)})
    vm = t.client.find_vm("of-bob")
    equal(json.loads(bob.call(vm.path, "VM", "Describe"))["vm"]["owner_uid"], BOB, "owner")
    contains(outcome(bob, ROOT, "Manager", "CreateVM", "sa{sv}", "of-alice", {"owner_uid": ("u", ALICE)}), "org.tdid1.create-any-vm", "a VM for somebody else")
    # polkit has no say in which functions there are for whom: that is the policy's, which has no rule here.
    try:
        bob.call(vm.path, "VM", "Attach", "a(sa{sv})a{sv}", [(first, {})], {})
        check(False, "a function without a rule")
    except Refused as error:
        equal(error.name, "Policy", error.text)
    equal(outcome(bob, vm.path, "VM", "Destroy", "a{sv}", {}), None, "Bob's own VM")
    t.gone(vm)
    # It goes: root and owners, as before.
    polkitd.close()
    eventually(lambda: not t.client.bus.name_has_owner(AUTHORITY), "the end of polkitd")
    contains(outcome(bob, shown.path, "VM", "Describe"), "polkit does not answer", "Bob without polkitd")
    equal(outcome(alice, taken.path, "VM", "Hold", "s", "x"), None, "the owner without polkitd")
