# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every row of the custody table that a worker runs is an operation of the worker, which can do what the row says.

usage: test_custody_table.py TDID CUSTODY-TABLE.C CUSTODY.C WORKER.C
"""
import re
import subprocess
import sys
import unittest

TDID, TABLE, ENGINE, WORKER = sys.argv[1:5]


def text(path):
    with open(path, encoding="utf-8") as f:
        return re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)


ROW = r'\[(ACTION_\w+)\]\s*=\s*\{\s*"([^"]+)",\s*\w+,\s*RUNS_(\w+),\s*RUNS_(\w+),'


def rows():
    """{name: (how do runs, how undo runs)}"""
    return {name: (do, undo) for _, name, do, undo in re.findall(ROW, text(TABLE))}


def verified():
    """Names of the rows that the engine probes."""
    names = {action: name for action, name, _, _ in re.findall(ROW, text(TABLE))}
    return {names[a] for a in re.findall(r"ACTION_\w+", re.search(r"#define VERIFIED ((?:.*\\\n)*.*)", text(ENGINE))[1])}


def operations():
    """{name: (do, undo, probe)}; a verb that there is none of is NULL."""
    table = text(WORKER).split("static const struct work_op ops[] = {", 1)[1].split("};", 1)[0]
    found = re.findall(r'\{\s*"([^"]+)",\s*(\w+),\s*(\w+),\s*(\w+)\s*\}', table)
    return {name: functions for name, *functions in found}


class CustodyTable(unittest.TestCase):
    def test_all_rows_are_read(self):
        printed = subprocess.run([TDID, "--print-actions"], check=True, capture_output=True, text=True).stdout.split()
        self.assertGreater(len(printed), 5)
        self.assertEqual(list(rows()), printed)

    def test_all_operations_are_read(self):
        table = text(WORKER).split("static const struct work_op ops[] = {", 1)[1].split("};", 1)[0]
        self.assertEqual(len(operations()), table.count('"') // 2)

    def test_worker_can(self):
        for name, (do, undo) in rows().items():
            with self.subTest(row=name):
                if do == "WORKER":
                    self.assertIn(name, operations())
                    self.assertNotEqual(operations()[name][0], "NULL", "do")
                if undo == "WORKER":
                    self.assertIn(name, operations())
                    self.assertNotEqual(operations()[name][1], "NULL", "undo")

    def test_probes(self):
        # run() takes a verb that is missing for success: a probe of nothing would say "not so".
        self.assertGreater(len(verified()), 3)
        self.assertEqual({n for n, (_, _, probe) in operations().items() if probe != "NULL"}, verified())

    def test_worker_does_no_more(self):
        # A verb that the worker knows and the table never asks for is dead, or the row is wrong.
        for name, (do, undo, _) in operations().items():
            if name in rows():
                with self.subTest(operation=name):
                    self.assertEqual(do != "NULL", rows()[name][0] == "WORKER")
                    self.assertEqual(undo != "NULL", rows()[name][1] == "WORKER")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
