# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdid.conf(5) has every key that the program reads, with its kind, range and default, and no other.

usage: test_config_docs.py PRINT-CONFIG TDID.CONF.5.RST
"""
import json
import re
import subprocess
import sys
import unittest

import manual

PRINT_CONFIG, PAGE = sys.argv[1:3]
SECTIONS = {"LIMITS": "limits", "DEADLINES": "deadlines", "POLICY": "policy", "IDE": "ide", "EVIDENCE": "evidence"}


class Config(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        lines = [line.split() for line in subprocess.run([PRINT_CONFIG], check=True, capture_output=True, text=True).stdout.splitlines()]
        cls.memory = [int(n) for n in lines.pop()[1:]]
        cls.keys = {(section, name): (kind, int(least), int(most), int(default)) for section, name, kind, least, most, default in lines}
        cls.page = manual.read(PAGE)

    def expected(self, section, name):
        """The words that the page must begin the key's explanation with."""
        kind, least, most, default = self.keys[section, name]
        if kind == "boolean":
            return f"Boolean; {'true' if default else 'false'} by default."
        if name == "pinned_mib":
            self.assertEqual(default, self.memory[0])
            default = "the host's memory"
        elif name == "pinned_mib_per_user":
            self.assertEqual(default, 64 * self.memory[1])
            self.assertEqual(self.keys["limits", "vms_per_user"][3], 64)
            default = "64 times the host's memory"
        return f"{'Seconds' if section == 'deadlines' else 'Number'}, {least} to {most}; {default} by default."

    def test_keys(self):
        self.assertGreater(len(self.keys), 30)
        written = {(section, name) for heading, section in SECTIONS.items() for name in self.page[heading].entries}
        self.assertEqual(written, set(self.keys))

    def test_what_each_is(self):
        for heading, section in SECTIONS.items():
            for name, text in self.page[heading].entries.items():
                with self.subTest(section=section, key=name):
                    text = " ".join(text.split())
                    self.assertTrue(text.startswith(self.expected(section, name)), f"{text!r}, not {self.expected(section, name)!r}")
                    self.assertGreater(len(text), len(self.expected(section, name)) + 10, "it is not said what it is")

    def test_example(self):
        for text in self.page["DESCRIPTION"].literals:
            for section, body in json.loads(text).items():
                for name, value in body.items():
                    kind, least, most, _ = self.keys[section, name]
                    self.assertEqual(type(value), bool if kind == "boolean" else int)
                    self.assertTrue(least <= value <= most)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
