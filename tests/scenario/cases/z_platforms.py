# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Early, late and plugged in, on a machine of each platform: what each allows, refuses and requires. The machines are simulated.

from kit.checks import check, contains, equal, eventually
from kit.client import Lost, Refused, refused
from kit.machine import machine
from kit.registry import scenario

EARLY, LATE, PLUGGED = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
RID = 0x0400

# The TSM of each, None: it has none; the TDISP state that bind leaves; whether functions may come after the seal.
PLATFORMS = {
    "tdx": ({"parent": "tdx_host"}, "locked", True),
    "sev-snp": ({"parent": "psp", "driver": "ccp"}, "locked", True),
    "cca": ({"parent": "arm-cca-host", "bind_locks": False}, "unlocked", False),
    "pkvm": (None, None, True),
    "plain": (None, None, True),
}


def on(t, platform):
    tsm = PLATFORMS[platform][0]
    functions = [{"bdf": b, "model": "edu", "flr": True, "tee_io": True} for b in (EARLY, LATE, PLUGGED)]
    # KVM of Arm asks for no coherency, and the IOMMUs of its hosts mostly enforce none.
    if platform in ("cca", "pkvm"):
        for i, function in enumerate(functions):
            function.update(no_coherency=True, group=f"g{i}")
    document = {"platform": platform, "bind_module": True, "ports": [{"bdf": "0000:00:01.0", "bus": "01", "count": 3}], "functions": functions}
    if tsm:
        document["tsms"] = [{"name": "tsm0", "accepts": "all", **tsm}]
    return machine(t, platform, document)


def vm_of(o, bind, *functions):
    vm = o.vm(hotplug=True, bind=bind)
    vm.attach(*[(b, {"guest_rid": RID + i, "bind": when}) for i, (b, when) in enumerate(functions)])
    return vm


def give_kvm(o, vm):
    fd = o.host.kvm_vm()
    vm.set_kvm(fd)
    o.host.close(fd)


def check_states(o, **wanted):
    for bdf, (state, tdisp) in wanted.items():
        tdi = o.client.tdi(bdf)
        eventually(lambda tdi=tdi, state=state, tdisp=tdisp: (tdi.state(), str(tdi.get("TDISP"))) == (state, tdisp),
                   f"{bdf} is {state} and {tdisp}: {tdi.state()}, {tdi.get('TDISP')}")


def with_tsm(platform):
    def run(t):
        _, tdisp, plugs = PLATFORMS[platform]
        o = on(t, platform)
        vm = vm_of(o, "late", (EARLY, "early"), (LATE, "late"))
        equal(str(vm.get("Platform")), platform, "platform of the VM")
        needs = platform == "cca"
        equal([x["viommu"] is not None for x in vm.describe()["tdis"]], [needs] * 2, "virtual devices before the seal")
        vm.seal()
        # Announced and not bound costs nothing.
        check_states(o, **{EARLY: ("prepared", "unlocked"), LATE: ("prepared", "unlocked")})
        contains(refused("InvalidState", o.client.tdi(LATE).bind), "KVM VM", "a bind before the KVM VM is known")
        give_kvm(o, vm)
        check_states(o, **{EARLY: ("bound", tdisp), LATE: ("prepared", "unlocked")})
        o.client.tdi(LATE).bind()
        check_states(o, **{LATE: ("bound", tdisp)})
        if plugs:
            vm.attach((PLUGGED, {"guest_rid": RID + 2, "bind": "early"}))
            check_states(o, **{PLUGGED: ("bound", tdisp)})
            o.client.tdi(PLUGGED).detach()
        else:
            contains(refused("NotSupported", vm.attach, (PLUGGED, {"guest_rid": RID + 2})), "after boot", "a function after the seal")
        o.client.tdi(LATE).unbind()
        check_states(o, **{EARLY: ("bound", tdisp), LATE: ("prepared", "unlocked")})
        o.client.tdi(LATE).bind()
        # The guest's part.
        client = o.client.tdi(EARLY).requests()
        try:
            client.change(*(["lock"] if tdisp == "unlocked" else []), "start")
        finally:
            client.close()
        check_states(o, **{EARLY: ("running", "run"), LATE: ("bound", tdisp)})
        o.daemon.restart()
        check_states(o, **{EARLY: ("running", "run"), LATE: ("bound", tdisp)})
        vm.lease.close()
        o.gone(vm)
        o.free(EARLY, LATE, PLUGGED)
    return run


def without_tsm(platform):
    def run(t):
        o = on(t, platform)
        vm = vm_of(o, "late", (LATE, "late"))
        # A VM that is of the platform by name; nobody's TSM makes it the default.
        other = o.vm(platform=platform, hotplug=True)
        equal((str(vm.get("Platform")), str(other.get("Platform"))), ("plain", platform), "platforms")
        give_kvm(o, vm)
        vm.seal()
        check_states(o, **{LATE: ("prepared", "none")})
        contains(refused("NotSupported", o.client.tdi(LATE).bind), "no TSM", "a bind without a TSM")
        vm.attach((PLUGGED, {"guest_rid": RID + 2}))
        check_states(o, **{PLUGGED: ("prepared", "none")})
        # Early is a demand that cannot be met: the seal says so, and of which function.
        other.attach((EARLY, {"guest_rid": RID, "bind": "early"}))
        give_kvm(o, other)
        try:
            other.seal()
            check(False, "a seal with an early TDI where nothing binds goes well")
        except Refused as error:
            equal(error.name, "NotSupported", "the seal's error")
            contains(error.text, EARLY, "which function")
        except Lost as error:
            check(False, f"tdid went: {error}")
        for x in (vm, other):
            x.lease.close()
            o.gone(x)
        o.free(EARLY, LATE, PLUGGED)
    return run


for NAME, (TSM, *_) in PLATFORMS.items():
    scenario(needs=("machines",), tags=("quick",), start=False, name="platform_" + NAME.replace("-", "_"))((with_tsm if TSM else without_tsm)(NAME))
