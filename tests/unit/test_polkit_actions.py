# SPDX-License-Identifier: LGPL-2.1-or-later
"""The actions that polkit is told of are those that the daemon asks about, with defaults that are as strict; documents have them all, and for
each method of the bus interfaces what it needs.

usage: test_polkit_actions.py ORG.TDID1.POLICY DAEMON-FOLDER DOCS-FOLDER
"""
import os
import re
import sys
import unittest
import xml.etree.ElementTree as ElementTree

import manual

POLICY, DAEMON, DOCS = sys.argv[1:4]
PREFIX = "org.tdid1."
INTERFACES = ("Manager", "VM", "TDI", "Device", "TSM", "Job")


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)


def of_code():
    """{name in the enum: name of the action}"""
    table = re.search(r"names\[_POLKIT_ACTION_MAX\] = \{(.*?)\};", read(DAEMON, "bus/polkit.c"), flags=re.S)[1]
    return dict(re.findall(r"\[POLKIT_(\w+)\] = \"" + re.escape(PREFIX) + r"([a-z-]+)\"", table))


def of_policy():
    return {a.get("id"): a for a in ElementTree.parse(POLICY).getroot().findall("action")}


def defaults(action):
    return {d.tag: d.text for d in action.find("defaults")}


def document():
    with open(os.path.join(DOCS, "dbus-api.md"), encoding="utf-8") as f:
        return f.read().split("## Who may do what\n", 1)[1].split("\n## ", 1)[0]


class Actions(unittest.TestCase):
    def test_names(self):
        code = of_code()
        enum = re.search(r"enum polkit_action \{(.*?)_POLKIT_ACTION_MAX", read(DAEMON, "bus/polkit.h"), flags=re.S)[1]
        self.assertEqual(sorted(re.findall(r"POLKIT_(\w+)", enum)), sorted(code))
        self.assertGreater(len(code), 8)
        self.assertEqual(sorted(of_policy()), sorted(PREFIX + name for name in code.values()))
        for key, name in code.items():
            self.assertEqual(key.lower().replace("_", "-"), name)

    def test_texts_and_defaults(self):
        """Nobody has anything for nothing, but an owner its VM."""
        for name, action in of_policy().items():
            with self.subTest(action=name):
                for tag in "description", "message":
                    self.assertGreater(len(action.find(tag).text), 10)
                    self.assertNotIn("$(", action.find(tag).text)
                found = defaults(action)
                self.assertEqual(sorted(found), ["allow_active", "allow_any", "allow_inactive"])
                if name == PREFIX + "manage-own-vm":
                    self.assertEqual(set(found.values()), {"yes"})
                else:
                    self.assertEqual((found["allow_any"], found["allow_inactive"]), ("auth_admin", "auth_admin"))
                    self.assertIn(found["allow_active"], ("auth_admin", "auth_admin_keep"))
        for name in "create-any-vm", "force":
            self.assertEqual(defaults(of_policy()[PREFIX + name])["allow_active"], "auth_admin")

    def test_used(self):
        """What the daemon never asks about is no action."""
        text = "".join(read(DAEMON, "bus", f) for f in sorted(os.listdir(os.path.join(DAEMON, "bus"))) if f.endswith(".c") and f != "polkit.c")
        unused = {name for key, name in of_code().items() if not re.search(rf"\bPOLKIT_{key}\b", text)}
        # Owners come to theirs by way of the one for everybody's.
        self.assertEqual(unused - {"manage-own-vm"}, set())

    def test_documents(self):
        code = set(of_code().values())
        rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", document(), flags=re.M)[1:]
        named = set(re.findall(r"`([a-z-]+)`", " ".join(a + b for _, a, b in rows)))
        self.assertEqual(named, code)
        self.assertEqual(set(manual.read(os.path.join(DOCS, "man/tdid.8.rst"))["ACCESS"].entries), code)

    def test_methods(self):
        """Each method is in the table of the document, and nothing else is."""
        written = set(re.findall(rf"\b(?:{'|'.join(INTERFACES)})\.\w+", " ".join(re.findall(r"^\| ([^|]+) \|", document(), flags=re.M))))
        there = {f"{i}.{m}" for i in INTERFACES for m in re.findall(r'SD_BUS_METHOD(?:_WITH_ARGS)?\("(\w+)"', read(DAEMON, f"bus/{i.lower()}.c"))}
        self.assertEqual(written, there)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
