# SPDX-License-Identifier: LGPL-2.1-or-later
#
# docs/when-things-go-wrong.md names scenarios: that each of them is there, that each row has one or says why not, and that those which
# are marked as the simulation's need what only it has.

import importlib
import os
import re
import sys
import unittest

ROOT = sys.argv.pop(1)
sys.path.insert(0, os.path.join(ROOT, "tests/scenario"))
sys.dont_write_bytecode = True
# What only the simulation has: see LinuxHost.lacking in tests/scenario/kit/host.py.
SIMULATION = {"faults", "machines", "trace"}
# Rows whose outcome is that nothing can be done: they have no scenario.
WITHOUT = ("A storm of IOMMU faults of any other function",)


def rows():
    with open(os.path.join(ROOT, "docs/when-things-go-wrong.md"), encoding="utf-8") as file:
        for line in file:
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if line.startswith("|") and not set(cells[0]) <= set("- ") and cells[-1] != "scenario":
                yield cells


class Test(unittest.TestCase):
    def test_scenarios(self):
        try:
            registry = importlib.import_module("kit.registry")
            there = {s.name: s for s in registry.load_all()}
        except ImportError as error:
            self.skipTest(str(error))
        count = 0
        for cells in rows():
            names = re.findall(r"`(\w+)`(\*?)", cells[-1])
            if not cells[0].startswith(WITHOUT):
                self.assertTrue(names, f"no scenario: {cells[0]}")
            for name, star in names:
                count += 1
                self.assertTrue(name in there, f"no scenario {name}: {cells[0]}")
                only = bool(SIMULATION & there[name].needs or "sim" in there[name].tags)
                self.assertEqual(bool(star), only, f"{name}: the * of what runs on the simulation only")
        self.assertGreater(count, 20)


unittest.main(verbosity=2)
