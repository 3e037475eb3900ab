# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages as they are installed: groff and mandoc say nothing of them, whatis finds them, and nothing is wider than 80 columns.
libtdi(3) has every symbol and type of the public headers, whose comments speak of parameters that there are; org.tdid1(5) all that the D-Bus
document has.

usage: test_man_pages.py BUILD-FOLDER/DOCS SOURCE-ROOT
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import unittest

import manual

PAGES, ROOT = sys.argv[1:3]
# What mandoc says of every page that rst2man makes, and no source can change: a font that it switches to in blocks, space that it asks for
# after headings, and the date that is left out so that a build can be repeated.
OF_RST2MAN = ("unknown font, skipping request: ft C", "skipping paragraph macro: sp after", 'missing date, using "": TH')


def pages():
    found = sorted(glob.glob(os.path.join(PAGES, "*.[1-9]")))
    return found if len(found) > 7 else []


def rendered(page):
    """What groff says of it, and the page on 80 columns."""
    done = subprocess.run(["groff", "-t", "-Kutf8", "-Tutf8", "-man", "-ww", "-rLL=78n", "-P-c", "-P-b", "-P-u", page],
                          capture_output=True, text=True, check=False)
    return done.stderr, re.sub(".\b", "", done.stdout)


class Pages(unittest.TestCase):
    def test_there_are_all(self):
        names = {os.path.basename(p) for p in pages()}
        written = {p.removesuffix(".rst") for p in os.listdir(os.path.join(ROOT, "docs/man"))}
        self.assertEqual(names, written | {"libtdi.3", "org.tdid1.5"})

    def test_groff(self):
        for page in pages():
            with self.subTest(page=page):
                said, text = rendered(page)
                self.assertEqual(said, "")
                wide = [line for line in text.splitlines() if len(line) > 80]
                # Commands, JSON and tables are as they are; what is prose has to fit.
                self.assertEqual([line for line in wide if not line.startswith(" " * 10)], [])
                self.assertIn("\nSEE ALSO\n", text)

    def test_generated_blocks_fit(self):
        self.assertEqual([line for line in rendered(os.path.join(PAGES, "libtdi.3"))[1].splitlines() if len(line) > 80], [])

    @unittest.skipUnless(shutil.which("mandoc"), "no mandoc")
    def test_mandoc(self):
        for page in pages():
            with self.subTest(page=page):
                said = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
                self.assertEqual([line for line in (said.stdout + said.stderr).splitlines() if not any(known in line for known in OF_RST2MAN)], [])

    @unittest.skipUnless(shutil.which("lexgrog"), "no man-db")
    def test_names(self):
        for page in pages():
            with self.subTest(page=page):
                said = subprocess.run(["lexgrog", page], capture_output=True, text=True, check=False)
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
                self.assertIn(f'"{os.path.basename(page).rpartition(".")[0]} - ', said.stdout)

    def test_see_also(self):
        """Pages that are named are ours, or such as every host has; and each of ours that a page speaks of is among them."""
        ours = {os.path.basename(p) for p in pages()}
        known = ours | {"polkit.8", "busctl.1", "lspci.8", "virsh.1", "journalctl.1", "libvirtd.8", "setpriv.1", "sudo.8", "systemctl.1",
                        "systemd.journal-fields.7", "unix.7"}
        for page in pages():
            body, see = rendered(page)[1].split("\nSEE ALSO\n")
            # A word that groff has divided ends in its own hyphen, one with a hyphen in '-'.
            body, see = (re.sub(r"-\n\s+", "-", re.sub("\u2010\n\\s+", "", text)) for text in (body, see.split("\n\n")[0]))
            named, listed = ({f"{name}.{number}" for name, number in re.findall(r"([a-z][\w.-]+)\s*\((\d)\)", text)} for text in (body, see))
            with self.subTest(page=page):
                self.assertEqual(listed - known, set())
                self.assertEqual((named & ours) - listed - {os.path.basename(page)}, set())

    def test_sections(self):
        """A program's page has its exit status, files and environment, and every variable that it reads; a format's has its files."""
        sources = {"tdid.8": ("daemon/*.c",), "tdictl.1": ("cli/*.c", "libtdi/client/*.c")}
        for page in pages():
            name, text = os.path.basename(page), rendered(page)[1]
            headings = set(re.findall(r"(?m)^[A-Z][A-Z ]+$", text))
            with self.subTest(page=page):
                if name[-1] in "18":
                    self.assertLessEqual({"OPTIONS", "EXIT STATUS", "FILES"}, headings)
                if name in ("tdid.conf.5", "tdid-policy.5"):
                    self.assertIn("FILES", headings)
                if name in sources:
                    environment = re.split(r"(?m)^ENVIRONMENT$", text)[1]
                    environment = re.split(r"(?m)^[A-Z][A-Z ]+$", environment)[0]
                    found = set()
                    for path in (p for pattern in sources[name] for p in glob.glob(os.path.join(ROOT, pattern)) if not p.endswith("-test.c")):
                        with open(path, encoding="utf-8") as file:
                            found |= set(re.findall(r'\b(?:getenv|setenv)\("(\w+)"', file.read()))
                    self.assertGreater(len(found), 4)
                    self.assertEqual({v for v in found if not re.search(rf"\b{v}\b", environment)}, set())


class Libtdi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.headers = {}
        for path in glob.glob(os.path.join(ROOT, "libtdi/include/tdi/*.h")):
            with open(path, encoding="utf-8") as file:
                cls.headers[os.path.basename(path)] = file.read()
        with open(os.path.join(ROOT, "libtdi/libtdi.sym"), encoding="utf-8") as file:
            cls.symbols = re.findall(r"(?m)^ +(tdi_\w+);", file.read())
        cls.page = manual.read(os.path.join(PAGES, "libtdi.3.rst"))
        cls.code = "\n".join(literal for section in cls.page.values() for s in (section, *section.subsections.values()) for literal in s.literals)

    def test_every_symbol(self):
        self.assertGreater(len(self.symbols), 80)
        for symbol in self.symbols:
            with self.subTest(symbol=symbol):
                self.assertRegex(self.code, rf"(?m)^\S.*\b{symbol}\(")

    def test_every_type(self):
        for header, text in self.headers.items():
            types = re.findall(r"(?m)^((?:struct|enum) tdi_\w+) \{", text) + re.findall(r"(?m)^#define (TDI_\w+)\b(?! *_H$)", text)
            for name in types:
                if name != f"TDI_{header.removesuffix('.h').upper()}_H":
                    with self.subTest(header=header, name=name):
                        self.assertIn(name + " ", self.code.replace("(", " ("))

    def test_parameters(self):
        """A comment explains parameters of the function that follows it."""
        count = 0
        for header, text in self.headers.items():
            for comment, name, arguments in re.findall(r"/\*\*((?:(?!\*/).)*)\*/\s+[^;{}/#]*?\b(tdi_\w+)\(([^;{}]*)\);", text, flags=re.S):
                self.assertEqual(re.match(r"\s*\*? (?:typedef )?(\w+)", comment)[1], name, f"{header}: a comment of another function")
                named = {p for line in re.findall(r"(?m)^ \* (@\w+(?:, @\w+)*):", comment) for p in re.findall(r"@(\w+)", line)}
                there = set(re.findall(r"(\w+)(?:,|$)", " ".join(arguments.split())))
                with self.subTest(function=name):
                    self.assertLessEqual(named, there)
                count += 1
        self.assertGreater(count, 60)


class Bus(unittest.TestCase):
    def test_nothing_is_lost(self):
        """All that stands in the document between backquotes, and all of its words, are in the page."""
        with open(os.path.join(ROOT, "docs/dbus-api.md"), encoding="utf-8") as file:
            document = re.sub(r"(?m)^# .*$|^\|[-| ]+\|$|^```\w*$", "", file.read())
        sections = manual.read(os.path.join(PAGES, "org.tdid1.5.rst")).values()
        page = "\n".join(section.text + "\n".join(s.text for s in section.subsections.values()) for section in sections)
        there = set(re.findall(r"\w+", page.lower()))
        missing = {word for word in re.findall(r"\w+", document.lower()) if word not in there}
        # Headings are headings, and heads of tables stand in each entry.
        headings = {w for line in re.findall(r"(?m)^##+ (.*)$", document) for w in re.findall(r"\w+", line.lower())}
        heads = {w for line in re.findall(r"(?m)^(\|.*\|)\n(?=\n|\|)", document) for w in re.findall(r"\w+", line.lower())}
        self.assertEqual(missing - headings - heads, set())
        for code in re.findall(r"`([A-Z]\w+)\(", document):
            self.assertRegex(page, rf"\b{code}\(")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
