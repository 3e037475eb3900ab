# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The mmap guard: whatever way root tries, nobody maps, moves or resets a function that is in custody; nothing else is different. Real
# kernels only: the simulated one has no memory to map.

import os

from kit.checks import check, contains, equal, eventually
from kit.client import refused
from kit.mapper import Mapper, Ways, memory_bar, proc_entry
from kit.registry import scenario

PINS = "/sys/fs/bpf/tdid"
NEEDS = ("linux", "programs", "guard")


def guarded(*roles, **kw):
    return scenario(*roles, needs=NEEDS + kw.pop("needs", ()), **kw)


def all_refused(results, errno="EPERM"):
    wrong = {way: result for way, result in results.items() if result != errno}
    check(not wrong, f"not refused: {wrong}")


@guarded("edu", "nvme:2", tags=("quick",))
def guard_mmap(t):
    bdf = t.host.bdf("nvme")
    equal(str(t.client.get("/org/tdid1", "Manager", "Guard")), "on", "Guard")
    m = Mapper(t)
    before = Ways(t, bdf, m).open_files()
    t.note(before.results())
    vm = t.vm()
    vm.attach(bdf)
    t.attached(vm, bdf)
    t.note(os.listdir(PINS))
    after = Ways(t, bdf, m).open_files("2").open_node().open_derived()
    t.note(after.results())
    all_refused(after.results())
    all_refused(before.results())
    m.end()
    vm.destroy()
    t.free(bdf)
    check(not os.path.exists(PINS), "pins left")
