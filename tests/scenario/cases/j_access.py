# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Who may do what: everybody may look, root may act, an owner may act on its own VM, and nobody on another's.

import pwd

import dbus

from kit.checks import check, contains, equal
from kit.client import NAME, Refused
from kit.peer import DENIED, call_as
from kit.registry import scenario

# The bus must know them. Both are in base-passwd, so on every Debian.
ALICE, BOB = (pwd.getpwnam(name).pw_uid for name in ("daemon", "nobody"))
PROPERTIES = "org.freedesktop.DBus.Properties"


def call(t, uid, path, interface, member, signature="", *args):
    return call_as(uid, t.bus.address, path, f"{NAME}.{interface}" if "." not in interface else interface, member, signature, *args)


def denied(t, uid, *args):
    try:
        result = call(t, uid, *args)
    except Refused as error:
        check(error.name in DENIED, f"uid {uid}: {args[:3]}: {error}")
        return
    check(False, f"uid {uid} may {args[2]} {args[0]}: {result}")


@scenario("edu", needs=("root",), tags=("quick",))
def access_look(t):
    """Properties and the list of objects are for every local user; what only the owner may know is not in them."""
    bdf = t.host.bdf("edu")
    vm = t.vm("secret", owner_uid=ALICE, seclabel="label-of-alice")
    vm.attach(bdf)
    for uid in (ALICE, BOB):
        contains(call(t, uid, "/org/tdid1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"), vm.path, "objects")
        for path, interface in (("/org/tdid1", "Manager"), (vm.path, "VM"), (t.client.tdi(bdf).path, "TDI"), (t.device(bdf).path, "Device")):
            text = call(t, uid, path, PROPERTIES, "GetAll", "s", f"{NAME}.{interface}")
            check("label-of-alice" not in text, f"{interface} tells the security label")
        call(t, uid, "/org/tdid1", "org.freedesktop.DBus.Introspectable", "Introspect")
        call(t, uid, "/org/tdid1", "Manager", "GetVM", "s", "secret")
        call(t, uid, "/org/tdid1", "Manager", "GetDevice", "s", bdf)
        contains(call(t, uid, "/org/tdid1", "Manager", "DescribeHost"), "recognised_by", "DescribeHost()")
    objects = t.client.objects()
    pids = str(vm.holder_pid())
    check(pids not in str(objects[vm.path]), "the holder's pid is in the properties")


@scenario("edu:2", needs=("root",), tags=("quick",))
def access_act(t):
    """Methods: an owner for its own VM, nobody else but root; functions of the host are root's."""
    first, second = t.host.bdfs("edu", 2)
    vm = t.vm("of-alice", owner_uid=ALICE)
    equal(int(vm.get("Owner")), ALICE, "Owner")
    vm.attach(first)
    tdi, device = t.client.tdi(first).path, t.device(second).path
    for args in ((vm.path, "VM", "Describe"), (vm.path, "VM", "Seal", "a{sv}", {}), (vm.path, "VM", "Hold", "s", "mine"),
                 (vm.path, "VM", "Destroy", "a{sv}", {}), (tdi, "TDI", "Detach", "a{sv}", {}), (tdi, "TDI", "Bind", "a{sv}", {}),
                 (device, "Device", "Connect", "sa{sv}", "", {}), (device, "Device", "Disconnect", "a{sv}", {}),
                 (device, "Device", "Restore", "a{sv}", {})):
        denied(t, BOB, *args)
    t.attached(vm, first)
    equal(len(vm.describe()["keepers"]), 1, "keepers after Bob's attempts")
    # Alice's own.
    contains(call(t, ALICE, vm.path, "VM", "Describe"), "of-alice", "Describe() by the owner")
    for args in ((device, "Device", "Restore", "a{sv}", {}), (device, "Device", "Connect", "sa{sv}", "", {}),
                 (vm.path, "VM", "Destroy", "a{sv}", {"abandon": True})):
        denied(t, ALICE, *args)
    t.attached(vm, first)
    call(t, ALICE, vm.path, "VM", "Seal", "a{sv}", {})
    check(vm.phase() in ("sealed", "running"), "phase after the owner's Seal")
    call(t, ALICE, vm.path, "VM", "Destroy", "a{sv}", {})
    t.gone(vm)
    t.free(first)


@scenario("edu", needs=("root",), tags=("quick",))
def access_jobs(t):
    """A job belongs to who started it and to root: another user may look at it, not cancel it."""
    vm = t.vm("of-alice", owner_uid=ALICE)
    vm.attach(t.host.bdf("edu"))
    job = vm.destroy(async_=True)
    job.wait()
    equal(call(t, BOB, job.path, PROPERTIES, "Get", "ss", f"{NAME}.Job", "State"), "done", "State of the job, seen by Bob")
    denied(t, BOB, job.path, "Job", "Cancel")


@scenario(needs=("root",), tags=("quick",))
def access_create(t):
    """Until a policy engine decides, CreateVM is root's; names are unique per owner."""
    for uid in (ALICE, BOB):
        try:
            call(t, uid, "/org/tdid1", "Manager", "CreateVM", "sa{sv}", "mine", {})
        except Refused as error:
            check(error.name in DENIED, str(error))
        else:
            t.note(f"uid {uid} may create VMs")
    one = t.vm("same", owner_uid=ALICE)
    two = t.vm("same", owner_uid=BOB)
    check(one.path != two.path, "two VMs, one path")
    equal(str(one.get("Name")), str(two.get("Name")), "names")
    # Alice's "same" is hers.
    equal(call(t, ALICE, "/org/tdid1", "Manager", "GetVM", "s", "same"), one.path, "GetVM by Alice")
    equal(call(t, BOB, "/org/tdid1", "Manager", "GetVM", "s", "same"), two.path, "GetVM by Bob")


@scenario("edu", needs=("root",), tags=("quick",))
def access_policy_file(t):
    """The shipped D-Bus policy: nobody else may own the name; and what the manager says of itself."""
    try:
        answer = call_as(ALICE, t.bus.address, "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", NAME, 4,
                         destination="org.freedesktop.DBus")
        check(False, f"a user may own {NAME}: {answer}")
    except Refused as error:
        equal(error.full, "org.freedesktop.DBus.Error.AccessDenied", "error of RequestName")
    equal(t.client.owner_pid(), t.daemon.pid, "owner of the name")
    denied(t, BOB, t.device(t.host.bdf("edu")).path, "Device", "Restore", "a{sv}", {})
    check(str(t.client.get("/org/tdid1", "Manager", "Guard")).startswith("none"), "Guard")
    equal(str(t.client.get("/org/tdid1", "Manager", "Host")), t.host.kind, "Host")
    check(isinstance(t.client.get("/org/tdid1", "Manager", "Version"), dbus.String), "Version")
