# SPDX-License-Identifier: LGPL-2.1-or-later
"""What README, guides and manual pages show: commands are marked, and either run (the scenario guides_run) or, with a reason, looked up in the
programs' own help; JSON is taken by the program that it is for; functions of libtdi and errors are those that there are.

usage: test_guides.py SOURCE-ROOT TDICTL TDI-SIM PRINT-ERRORS
"""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT, TDICTL, TDI_SIM, PRINT_ERRORS = sys.argv[1:5]
sys.path.insert(0, os.path.join(ROOT, "tests/scenario"))
sys.dont_write_bytecode = True
from kit import guides  # noqa: E402

LANGUAGES = {"console", "json", "text", "c", "js"}
# What a reader has to have besides what is in the tree.
OTHERS = {"apt", "busctl", "c++", "cat", "cc", "cloud-hypervisor", "cp", "dkms", "echo", "gdbus", "journalctl", "jq", "ln", "ls", "make", "meson", "mkdir",
          "modprobe", "ninja", "pkaction", "pkg-config", "qemu-system-x86_64", "readlink", "scripts/config", "sh", "sleep", "systemctl", "systemd-analyze", "tdictl", "tdid", "tdi-sim", "udevadm", "virsh"}
# Lines that look like a command and stand in no block that says what becomes of them.
UNMARKED = re.compile(r"(?m)^ {4,}(?:[$#] )?(?:(?:tdictl|tdid|tdi-sim|apt|meson|systemctl|modprobe|dkms|make) |tests/\w).*$")


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


class Guides(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pages, cls.manuals = guides.documents(ROOT)
        cls.verbs = guides.Verbs(TDICTL)
        cls.blocks, cls.prose = [], {}
        for name in cls.pages:
            blocks, cls.prose[name] = guides.markdown(os.path.join(ROOT, name), name)
            cls.blocks += blocks

    def test_every_block_says_what_it_is(self):
        machines = {m.removesuffix(".json") for m in os.listdir(os.path.join(ROOT, "libtdi/sim/examples"))}
        for block in self.blocks:
            with self.subTest(block=block.where):
                self.assertIn(block.language, LANGUAGES)
                if block.language == "console":
                    self.assertTrue(block.commands())
                    if not block.not_run:
                        self.assertIn(block.machine, machines, "neither a machine nor a reason why it is not run")
        for name, text in self.prose.items():
            self.assertEqual(UNMARKED.findall(text), [], f"{name}: commands in no block of console")

    def test_enough_is_run(self):
        run = [c for b in self.blocks if b.language == "console" and not b.not_run for c in b.commands()]
        self.assertGreater(len(run), 40)

    def look_up(self, text, where):
        with self.subTest(command=text, where=where):
            for words in guides.simple_commands(text):
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words = words[1:]
                if not words:
                    continue
                self.assertTrue(words[0] in OTHERS or os.path.exists(os.path.join(ROOT, words[0])), f"what is {words[0]}?")
                if words[0] == "tdictl":
                    self.assertIsNone(self.verbs.problem(words[1:]))

    def test_commands(self):
        count = 0
        for block in self.blocks:
            for command in block.commands() if block.language == "console" else ():
                self.look_up(command.text, f"{block.file}:{command.line}")
                count += 1
        for name in self.manuals:
            for command in guides.manual(os.path.join(ROOT, name), name):
                self.look_up(command.text, f"{name}:{command.line}")
                count += 1
        self.assertGreater(count, 60)

    def test_commands_in_the_text(self):
        count = 0
        for name, text in self.prose.items():
            for code in re.findall(r"`(tdictl [^`\n]+)`", text):
                self.look_up(code.replace("|", "/"), name)
                count += 1
        self.assertGreater(count, 20)

    def test_columns(self):
        """Columns that pages send their readers to are headings of tdictl's tables."""
        headings = set()
        for name in glob.glob(os.path.join(ROOT, "cli/*.c")):
            headings |= set(re.findall(r'\.title = "([A-Z][A-Z-]*)"', read(name)))
        named = {c for text in self.prose.values() for c in re.findall(r"\bcolumn ([A-Z-]+)\b", text)}
        self.assertGreater(len(named), 2)
        self.assertEqual(sorted(named - headings), [])

    def test_shell(self):
        for block in self.blocks:
            for command in block.commands() if block.language == "console" else ():
                done = subprocess.run(["bash", "-n", "-c", command.text], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, f"{block.file}:{command.line}: {done.stderr}")

    def test_json(self):
        checks = {"tdi-sim/1": [TDI_SIM, "--check"], "tdid-policy/1": [TDICTL, "policy", "check"]}
        for block in self.blocks:
            if block.language != "json":
                continue
            with self.subTest(block=block.where), tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                check = checks.get(json.loads(block.text).get("schema"))
                file.write(block.text)
                file.flush()
                if check:
                    done = subprocess.run([*check, file.name], capture_output=True, text=True, check=False)
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_functions_of_libtdi(self):
        symbols = set(re.findall(r"(?m)^ +(tdi_\w+);", read("libtdi/libtdi.sym")))
        seen = set()
        for block in self.blocks:
            if block.language == "c":
                seen |= set(re.findall(r"\b(tdi_\w+)\(", block.text))
        for text in self.prose.values():
            seen |= set(re.findall(r"`(tdi_\w+)\(\)`", text))
        self.assertGreater(len(seen), 8)
        self.assertEqual(sorted(seen - symbols), [])

    def test_links(self):
        for name, text in self.prose.items():
            for target in re.findall(r"\]\(([^)#]+)", text):
                if "://" not in target:
                    self.assertTrue(os.path.exists(os.path.join(ROOT, os.path.dirname(name), target)), f"{name}: {target}")


class Errors(unittest.TestCase):
    def test_troubleshooting(self):
        out = subprocess.run([PRINT_ERRORS], check=True, capture_output=True, text=True).stdout
        library = {name: int(code) for name, code in (line.split() for line in out.splitlines())}
        text = read("docs/troubleshooting.md")
        sections = dict(re.findall(r"(?ms)^## ([A-Z][A-Za-z]+)\n(.*?)(?=^## |\Z)", text))
        self.assertEqual(set(library), set(sections) - {"Before"})
        for name, section in sections.items():
            with self.subTest(error=name):
                found = re.match(r"\nExit code (\d+)\. ", section)
                self.assertTrue(found, "its exit code comes first")
                self.assertEqual(int(found[1]), library[name])
                self.assertGreater(len(section.split()), 15)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
