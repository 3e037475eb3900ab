# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page that tests/bench/run makes of figures.

usage: test_page.py RUN
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

RUN = Path(sys.argv[1])
sys.dont_write_bytecode = True
sys.path.insert(0, str(RUN.parent))

import page  # noqa: E402

FIGURES = [
    {"name": "attach_close", "value": 1.5, "baseline": 1.0, "ratio": 1.5, "goal": 2.0, "unit": "s"},
    {"name": "dbus_call", "value": 3.0, "baseline": 1.0, "ratio": 3.0, "goal": 2.5, "unit": "ms"},
    {"name": "pages & <ranges>", "value": 7, "baseline": None, "ratio": None, "goal": None, "unit": ""},
]


class Page(unittest.TestCase):
    def make(self, figures):
        with tempfile.TemporaryDirectory() as name:
            given, folder = Path(name, "given.json"), Path(name, "new/page")
            given.write_text(json.dumps({"schema": "tdid-bench/1", "figures": figures}), encoding="utf-8")
            subprocess.run([RUN, "--from", given, "--page", folder], check=True)
            return {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir()}

    def test_page(self):
        files = self.make(FIGURES)
        self.assertEqual(json.loads(files["results.json"])["figures"], FIGURES)
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in files["index.md"].split("\n") if line.startswith("| ")]
        self.assertEqual(rows[1:], [["attach_close", "1.5s", "1s", "1.5", "2", ""], ["dbus_call", "3ms", "1ms", "3", "2.5", "missed"],
                                    ["pages & <ranges>", "7", "-", "-", "-", ""]])
        self.assertIn("3 figures, 1 above their goal", files["index.md"])
        self.assertEqual("ratios.svg" in files, page.pygal is not None)

    def test_chart(self):
        if not page.pygal:
            self.skipTest("python3-pygal is not installed")
        svg = page.chart(FIGURES)
        words = "".join(xml.etree.ElementTree.fromstring(svg).itertext())
        self.assertIn("attach_close", words)
        self.assertNotIn("pages", words)
        # It stands alone.
        self.assertNotIn("<script xlink", svg)
        self.assertIsNone(page.chart(FIGURES[2:]))
        self.assertNotIn("ratios.svg", self.make(FIGURES[2:]))

    def test_lines(self):
        f = page.parse_line("map value=1.5us baseline=0.5us ratio=3 goal=- baseline_is=memcpy MISSED\n")
        self.assertEqual(f, {"name": "map", "value": 1.5, "baseline": 0.5, "ratio": 3.0, "goal": None, "unit": "us", "baseline_is": "memcpy"})
        self.assertEqual(page.parse_line("x value=1e-05s baseline=- ratio=- goal=1.2")["value"], 1e-05)
        for other in ("", "hello", "x value=- baseline=- ratio=- goal=-"):
            self.assertIsNone(page.parse_line(other))


if __name__ == "__main__":
    os.chdir("/")
    unittest.main(argv=sys.argv[:1])
