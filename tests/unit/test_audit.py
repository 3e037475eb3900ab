# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of audit events and tdid.journal-fields(7) say the same; and tdid's help, tdid(8) and its arguments do.

usage: test_audit.py PRINT-AUDIT TDID TDID.JOURNAL-FIELDS.7 TDID.8
"""
import re
import subprocess
import sys
import unittest

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


def manual():
    """The same of the manual."""
    with open(MAN, encoding="utf-8") as file:
        text = file.read()
    fields, events = text.split("\n.SH FIELDS\n")[1].split("\n.SH EVENTS\n")
    rows = {}
    for part in events.split("\n.SH ")[0].split("\n.SS ")[1:]:
        name, row, _, names, _, *sentences = part.splitlines()
        message_id, priority = re.fullmatch(r"([0-9a-f]{32}), (\d)", row).groups()
        words = names.split()
        maybe = {w.strip("[]") for w in words if w.startswith("[")}
        always = {w for w in words if not w.startswith("[")}
        assert len(words) == len(maybe) + len(always) and sentences
        rows[name.replace("\\-", "-")] = (message_id, int(priority), always, maybe)
    return rows, re.findall(r"^\.TP\n\.B (TDID_[A-Z_]+)=\n\S.*$", fields, flags=re.M), text


class Audit(unittest.TestCase):
    maxDiff = None

    def test_events(self):
        self.assertEqual(table()[0], manual()[0])

    def test_fields(self):
        self.assertGreater(len(table()[1]), 30)
        self.assertEqual(table()[1], manual()[1])

    def test_every_field_is_used(self):
        rows, fields = table()
        used = {"TDID_EVENT"}.union(*(always | maybe for _, _, always, maybe in rows.values()))
        self.assertEqual(used, set(fields))

    def test_example(self):
        rows, _, text = manual()
        examples = re.findall(r"MESSAGE_ID=([0-9a-f]{32})", text)
        self.assertTrue(examples)
        for example in examples:
            self.assertIn(example, [row[0] for row in rows.values()])

    def test_options_of_tdid(self):
        with open(TDID_MAN, encoding="utf-8") as file:
            man = file.read().replace("\\-", "-")
        options = re.findall(r"^  (--[a-z-]+)(?:=([A-Z]+))?", output(TDID, "--help"), flags=re.M)
        self.assertGreater(len(options), 5)
        part = man.split("\n.SH OPTIONS\n")[1].split("\n.SH ")[0]
        in_man = re.findall(r"^\.(?:BI?|BR) (--[a-z-]+)=? ?([A-Z]+)?", part, flags=re.M)
        self.assertEqual(options, in_man)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
