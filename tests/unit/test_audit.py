# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of audit events and tdid.journal-fields(7) say the same; and tdid's help, tdid(8) and its arguments do.

usage: test_audit.py PRINT-AUDIT TDID TDID.JOURNAL-FIELDS.7.RST TDID.8.RST
"""
import re
import subprocess
import sys
import unittest

import manual

PRINT_AUDIT, TDID, MAN, TDID_MAN = sys.argv[1:5]


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def table():
    """{name: (ID, priority, fields, fields that may be)}, and the names of all fields."""
    *lines, fields = output(PRINT_AUDIT).splitlines()
    rows = {}
    for line in lines:
        always, maybe = line.split(" |")
        name, message_id, priority, *names = always.split()
        rows[name] = (message_id, int(priority), set(names), set(maybe.split()))
    return rows, fields.split()[1:]


def in_manual():
    """The same of the manual; and its examples."""
    page = manual.read(MAN)
    rows = {}
    for name, section in page["EVENTS"].subsections.items():
        row, names, *sentences = (" ".join(part.split()) for part in section.text.strip().split("\n\n"))
        message_id, priority = re.fullmatch(r"([0-9a-f]{32}), (\d)", row).groups()
        words = names.split()
        maybe = {w.strip("[]") for w in words if w.startswith("[")}
        always = {w for w in words if not w.startswith("[")}
        assert len(words) == len(maybe) + len(always) and sentences
        rows[name] = (message_id, int(priority), always, maybe)
    return rows, [term.rstrip("=") for term in page["FIELDS"].entries], page["DESCRIPTION"].literals


class Audit(unittest.TestCase):
    maxDiff = None

    def test_events(self):
        self.assertEqual(table()[0], in_manual()[0])

    def test_fields(self):
        self.assertGreater(len(table()[1]), 30)
        self.assertEqual(table()[1], in_manual()[1])

    def test_every_field_is_used(self):
        rows, fields = table()
        used = {"TDID_EVENT"}.union(*(always | maybe for _, _, always, maybe in rows.values()))
        self.assertEqual(used, set(fields))

    def test_example(self):
        rows, _, literals = in_manual()
        examples = re.findall(r"MESSAGE_ID=([0-9a-f]{32})", "\n".join(literals))
        self.assertTrue(examples)
        for example in examples:
            self.assertIn(example, [row[0] for row in rows.values()])

    def test_options_of_tdid(self):
        options = re.findall(r"^  (--[a-z-]+)(?:=([A-Z]+))?", output(TDID, "--help"), flags=re.M)
        self.assertGreater(len(options), 5)
        in_man = [(m[1], m[2] or "") for m in (re.match(r"(--[a-z-]+)(?:=([A-Z]+))?", term) for term in manual.read(TDID_MAN)["OPTIONS"].entries)]
        self.assertEqual(options, in_man)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
