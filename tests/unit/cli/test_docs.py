# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdictl's help, its man page, and the error table of libtdi, the man page and the D-Bus document say the same.

usage: test_docs.py TDICTL TDICTL.1 DBUS-API.MD PRINT-ERRORS
"""
import re
import subprocess
import sys
import unittest

TDICTL, MAN, DBUS_API, PRINT_ERRORS = sys.argv[1:5]


def tdictl(*arguments):
    return subprocess.run([TDICTL, *arguments], check=True, capture_output=True, text=True).stdout


def option(line):
    """'--bus=BUS' of a line of help or, cleaned, of the man page; or None."""
    m = re.match(r"\s*(--[a-z-]+)(?:=(\S+))?", line)
    return m and (m.group(1) + ("=" + m.group(2) if m.group(2) else ""))


def help_of_options(text, heading):
    part = text.split("\n" + heading + ":\n", 1)
    if len(part) == 1:
        return set()
    return {option(line) for line in part[1].split("\n\n")[0].splitlines() if option(line)}


def help_verbs():
    lines = tdictl("--help").split("The verbs:\n")[1].split("\n\n")[0].splitlines()
    return [re.split(r"\s{2,}", line.strip())[0] for line in lines]


def clean(troff):
    text = re.sub(r"^\.(BI|B|IR|RI|BR|I) ", "", troff)
    text = text.replace(r"\-", "-").replace(r"\|", "").replace("...", "…").replace('"', "")
    return re.sub(r"(=) (?=\S)", r"\1", text)


def man_sections():
    """{heading: {subheading: lines}}; what stands before the first subheading is under ''."""
    sections, lines = {}, []
    with open(MAN, encoding="utf-8") as f:
        for line in f.read().splitlines():
            if line.startswith(".SH "):
                lines = []
                section = sections[line[4:]] = {"": lines}
            elif line.startswith(".SS "):
                lines = section[clean(line[4:])] = []
            else:
                lines.append(line)
    return sections


def man_options(lines):
    return {option(clean(b)) for a, b in zip(lines, lines[1:]) if a in (".TP", ".TQ") and option(clean(b))}


class Docs(unittest.TestCase):
    def setUp(self):
        self.man = man_sections()
        self.man_verbs = {re.sub(r" \[?-- .*", "", k): v for k, v in self.man["VERBS"].items() if k}

    def test_verbs(self):
        self.assertGreater(len(help_verbs()), 15)
        self.assertEqual(help_verbs(), list(self.man_verbs))

    def test_options_of_verbs(self):
        for usage, lines in self.man_verbs.items():
            name = " ".join(word for word in usage.split() if word.islower())
            with self.subTest(verb=name):
                text = tdictl(*name.split(), "--help")
                self.assertTrue(text.startswith("tdictl " + name))
                self.assertEqual(help_of_options(text, "Options"), man_options(lines))

    def test_options_of_all(self):
        text = tdictl("--help")
        self.assertEqual(help_of_options(text, "Options"), man_options(self.man["OPTIONS"][""]))
        self.assertEqual(help_of_options(tdictl("status", "--help"), "Options of every verb"), help_of_options(text, "Options"))

    def test_group_help(self):
        self.assertIn("vm seal VM", tdictl("vm", "--help"))
        self.assertNotIn("device list", tdictl("vm", "--help"))

    def test_errors(self):
        out = subprocess.run([PRINT_ERRORS], check=True, capture_output=True, text=True).stdout
        library = {name: int(code) for name, code in (line.split() for line in out.splitlines())}
        with open(DBUS_API, encoding="utf-8") as f:
            document = {m[1]: int(m[2]) for m in re.finditer(r"^\| ([A-Z][A-Za-z]+) \|.*\| (\d+) \|$", f.read(), flags=re.M)}
        man = {}
        for line in self.man["EXIT STATUS"][""]:
            m = re.match(r"(\d+)\|([A-Za-z, ]*)\|", line)
            if m:
                man.update({name.strip(): int(m[1]) for name in m[2].split(",") if name.strip()})
        for name in "Failed", "Interrupted", "Usage", "Unreachable":
            self.assertIn(name, man)
            del man[name]
        self.assertEqual(library, document)
        self.assertEqual(library, man)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
