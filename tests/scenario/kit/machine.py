# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Another machine beside that of the scenarios, simulated, with a tdid of its own on it: for what no machine under test has.

import json
import os

from kit.checks import check, eventually
from kit.context import Context
from kit.simhost import SimHost, Simulation


def machine(t, name, document, config=None):
    """A context like the scenario's own, on the machine of this topology, of whose functions each has the role "edu"."""
    folder = os.path.join(t.folder, name)
    os.mkdir(folder, 0o755)
    path, roles = (os.path.join(folder, n) for n in ("machine.json", "roles.json"))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"schema": "tdi-sim/1", **document}, file)
    with open(roles, "w", encoding="utf-8") as file:
        json.dump({"functions": [{"bdf": f["bdf"], "role": "edu", "driver": f.get("driver")} for f in document["functions"]]}, file)
    simulation = Simulation(t.paths.sim, path, folder)
    simulation.start()
    t.defer(lambda: check(not (bad := simulation.stop()), "\n".join(bad)))
    o = Context(t.paths, SimHost(roles, simulation), folder, t.seed, t.full)
    o.host.prepare()

    def end():
        problems = o.finish()
        # A worker that was killed closes its files when it is gone.
        eventually(lambda: not o.host.open_files() or problems, "files of the machine are closed")
        check(not problems, "\n".join(problems))
    t.defer(end)
    o.daemon.start(arguments=o.configured(config or {}))
    return o
