# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdictl's help, its man page, and the error table of libtdi, the man page and the D-Bus document say the same.

usage: test_docs.py TDICTL TDICTL.1.RST DBUS-API.MD PRINT-ERRORS
"""
import json
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import manual

TDICTL, MAN, DBUS_API, PRINT_ERRORS = sys.argv[1:5]


def tdictl(*arguments):
    return subprocess.run([TDICTL, *arguments], check=True, capture_output=True, text=True).stdout


def option(line):
    """'--bus=BUS' of a line of help or of the man page; or None."""
    m = re.match(r"\s*(--[a-z-]+)(?:=(\S+))?", line)
    return m and (m.group(1) + ("=" + m.group(2) if m.group(2) else ""))


def help_of_options(text, heading):
    part = text.split("\n" + heading + ":\n", 1)
    if len(part) == 1:
        return set()
    return {option(line) for line in part[1].split("\n\n")[0].splitlines() if option(line)}


def help_verbs():
    lines = tdictl("--help").split("The verbs:\n")[1].split("\n\n")[0].splitlines()
    # What goes on from the line before is indented.
    return [re.split(r"\s{2,}", line.strip())[0].removesuffix(" -- COMMAND…") for line in lines if re.match(r"  \S", line)]


def table(*words):
    """The table of verbs, as JSON tells it."""
    return json.loads(tdictl("--json", *words, "--help"))["help"]


def of_table(options):
    return {"--" + o["name"] + ("=" + o["value"] if "value" in o else "") for o in options}


def man_options(section):
    return {option(part) for term in section.entries for part in term.split(", ") if option(part)}


class Docs(unittest.TestCase):
    def setUp(self):
        self.man = manual.read(MAN)
        self.man_verbs = {re.sub(r" \[?-- .*", "", k): v for k, v in self.man["VERBS"].subsections.items()}

    def test_verbs(self):
        self.assertGreater(len(help_verbs()), 15)
        self.assertEqual(help_verbs(), list(self.man_verbs))

    def test_options_of_verbs(self):
        for usage, section in self.man_verbs.items():
            name = " ".join(word for word in usage.split() if word.islower())
            with self.subTest(verb=name):
                text = tdictl(*name.split(), "--help")
                self.assertTrue(text.startswith("tdictl " + name))
                self.assertEqual(help_of_options(text, "Options"), man_options(section))

    def test_options_of_all(self):
        text = tdictl("--help")
        self.assertEqual(help_of_options(text, "Options"), man_options(self.man["OPTIONS"]))
        self.assertEqual(help_of_options(tdictl("status", "--help"), "Options of every verb"), help_of_options(text, "Options"))

    def test_table(self):
        """Help says of each verb what the table says."""
        everything = table()
        self.assertEqual(help_verbs(), [" ".join([v["name"], v["usage"]]).strip() for v in everything["verbs"]])
        for verb in everything["verbs"]:
            text = tdictl(*verb["name"].split(), "--help")
            self.assertEqual(help_of_options(text, "Options"), of_table(verb["options"]), verb["name"])
            self.assertEqual(help_of_options(text, "Options of every verb"), of_table(everything["options"]))
        self.assertEqual({v["name"] for v in table("vm")["verbs"]}, {v["name"] for v in everything["verbs"] if v["name"].startswith("vm ")})
        self.assertEqual([v["name"] for v in table("vm", "show")["verbs"]], ["vm show"])

    def test_width(self):
        """Help is for terminals of 80 columns."""
        for words in [()] + [tuple(v["name"].split()) for v in table()["verbs"]]:
            lines = tdictl(*words, "--help").splitlines()
            # The last way of an argument that is longer than that by itself.
            self.assertEqual([line for line in lines[1:] if len(line) > 80], [], words)

    def test_completion(self):
        """Every argument and value of the table is one that completion knows of."""
        everything = table()
        unknown = [(v["name"], x["name"]) for v in everything["verbs"] for x in v["arguments"] + v["options"] if x["completes"] is None]
        self.assertEqual(unknown + [o["name"] for o in everything["options"] if o["completes"] is None], [], "cli/complete.c does not say what it is")

    def test_schema(self):
        """What the schema has at the top of an object the man page has an entry for, and nothing else."""
        with open(os.path.join(os.path.dirname(MAN), "../../cli/schema/tdictl.schema.json"), encoding="utf-8") as f:
            defs = json.load(f)["$defs"]

        def tops(one):
            if "$ref" in one:
                return tops(defs[one["$ref"].rpartition("/")[2]])
            return set().union(*map(tops, one["anyOf"])) if "anyOf" in one else set(one["properties"])
        there = set().union(*(tops(one) for one in (*defs["verbs"]["properties"].values(), defs["error"], defs["help"], defs["version"])))
        written = {word for term in self.man["JSON"].entries for word in term.split(", ")}
        self.assertEqual(written, there - {"schema"})

    def test_columns(self):
        """The page explains the columns of the tables that people look at most, but for those that say what they are."""
        plain = {"BDF", "NAME", "DRIVER", "VM", "PLATFORM", "UUID", "SOCKET", "JOB", "KIND", "STARTED"}
        with open(os.path.join(os.path.dirname(MAN), "../../cli/columns.c"), encoding="utf-8") as f:
            tables = dict(re.findall(r"static const struct column (\w+)_columns\[\] = \{(.*?)\n\};", f.read(), flags=re.S))
        titles = {t for name in ("device", "vm", "nested_tdi", "vm_tdi", "vpci", "tsm", "job") for t in re.findall(r'\.title = "([A-Z-]+)"', tables[name])}
        written = {word for section in self.man["COLUMNS"].subsections.values() for term in section.entries for word in term.split(", ")}
        self.assertEqual(titles - plain, written)

    def test_group_help(self):
        self.assertIn("vm seal VM", tdictl("vm", "--help"))
        self.assertNotIn("device list", tdictl("vm", "--help"))

    def test_errors(self):
        out = subprocess.run([PRINT_ERRORS], check=True, capture_output=True, text=True).stdout
        library = {name: int(code) for name, code in (line.split() for line in out.splitlines())}
        with open(DBUS_API, encoding="utf-8") as f:
            document = {m[1]: int(m[2]) for m in re.finditer(r"^\| ([A-Z][A-Za-z]+) \|.*\| (\d+) \|$", f.read(), flags=re.M)}
        man = {}
        for term in self.man["EXIT STATUS"].entries:
            code, _, names = term.partition(" ")
            man.update({name: int(code) for name in names.split(", ") if name})
        for name in "Failed", "Interrupted", "Usage", "Unreachable":
            self.assertIn(name, man)
            del man[name]
        self.assertEqual(library, document)
        self.assertEqual(library, man)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
