# SPDX-License-Identifier: LGPL-2.1-or-later
"""What names something elsewhere in the tree names something that is there: the mutations their line of source and their scenarios, the threat model
the tests that show its sentences.

usage: test_lists.py SOURCE-ROOT
"""
import glob
import json
import os
import re
import sys
import unittest

ROOT = sys.argv[1]


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def scenarios():
    sys.path.insert(0, os.path.join(ROOT, "tests/scenario"))
    sys.dont_write_bytecode = True
    from kit import registry
    return {s.name for s in registry.load_all()}


class Lists(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scenarios = scenarios()
        cls.units = set(re.findall(r"(?m)^\s*test\('([^']+)'", "".join(read(path) for path in glob.glob("tests/**/meson.build", root_dir=ROOT, recursive=True))))
        cls.units |= {os.path.basename(p)[len("test-"):-len(".c")] for p in glob.glob("tests/unit/**/test-*.c", root_dir=ROOT, recursive=True)}
        cls.fuzz = {os.path.basename(p)[len("fuzz-"):-len(".c")] for p in glob.glob("tests/fuzz/fuzz-*.c", root_dir=ROOT)}

    def test_mutations(self):
        mutations = json.loads(read("tests/scenario/mutations.json"))["mutations"]
        names = [m["name"] for m in mutations]
        self.assertEqual(sorted({n for n in names if names.count(n) > 1}), [], "given twice")
        for m in mutations:
            with self.subTest(mutation=m["name"]):
                self.assertEqual(read(m["file"]).count(m["old"]), 1, f"{m['file']}: {m['old']}")
                self.assertNotEqual(m["old"], m["new"])
                self.assertTrue(m["scenarios"] or m.get("unit"), "nobody has to notice it")
                self.assertLessEqual(set(m["scenarios"]), self.scenarios)

    def test_threat_model(self):
        text = read("docs/threat-model.md")
        known = {"scenario": self.scenarios, "unit": self.units, "fuzz": self.fuzz}
        named = {kind: set() for kind in known}
        # "shown by: scenario `a`, `b`; unit `c`", up to the end of the paragraph or item.
        for shown in re.findall(r"(?is)shown by:(.*?)(?=\n\s*\n|\n- |\n#|\|)", text):
            for kind, names in re.findall(r"(scenario|unit|fuzz)\s+((?:`[^`]+`[,\s]*)+)", shown):
                named[kind] |= set(re.findall(r"`([^`]+)`", names))
        for kind, names in named.items():
            self.assertTrue(names, f"no {kind} is named")
            self.assertEqual(sorted(names - known[kind]), [], f"no such {kind}")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
