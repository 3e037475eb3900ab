# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The commands that documents show, and what is said about running them. In Markdown a block of commands is marked "console", with a prompt before
# each command and, where that is stable, what it prints behind it ("…" is anything, a line of that alone any lines):
#
#     <!-- machine: tdx -->            these and later blocks of the file are run on libtdi/sim/examples/tdx.json
#     <!-- not run: needs a VMM -->    the next block is not, but what it says of tdictl is looked up
#
# In a manual page nothing is run: lines of literal blocks that begin with a program's name are looked up.

import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field

FENCE = re.compile(r"^(\s*)```\s*(\w*)\s*$")
MACHINE = re.compile(r"^<!-- machine: (\S+) -->$")
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
PROMPTS = ("$ ", "# ")
PROGRAMS = ("tdictl", "tdid", "tdi-sim")


@dataclass
class Command:
    text: str
    line: int
    output: list = field(default_factory=list)


@dataclass
class Block:
    file: str
    line: int
    language: str
    text: str
    machine: str = None
    not_run: str = None

    @property
    def where(self):
        return f"{self.file}:{self.line}"

    def commands(self):
        """In a block of "console": each command with the lines that it is said to print."""
        found = []
        for number, line in enumerate(self.text.splitlines(), self.line + 1):
            if line.startswith(PROMPTS):
                found.append(Command(line[2:], number))
            elif found and found[-1].text.endswith("\\"):
                found[-1].text = found[-1].text[:-1] + line.strip()
            elif found:
                found[-1].output.append(line)
            else:
                raise ValueError(f"{self.file}:{number}: no prompt before {line!r}")
        return found


def markdown(path, name):
    """Its blocks, and the text without them."""
    blocks, rest, machine, not_run, block = [], [], None, None, None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file.read().splitlines(), 1):
            fence = FENCE.match(line)
            if block is not None and fence and not fence[2]:
                blocks.append(block)
                block = None
            elif block is not None:
                block.text += line + "\n"
            elif fence:
                block = Block(name, number, fence[2], "", machine, not_run)
                not_run = None
            elif found := MACHINE.match(line):
                machine = found[1]
            elif found := NOT_RUN.match(line):
                not_run = found[1]
            else:
                rest.append(line)
    if block is not None or not_run:
        raise ValueError(f"{name}: a block that does not end, or a remark about none")
    return blocks, "\n".join(rest) + "\n"


def manual(path, name):
    """The commands of a manual page's literal blocks."""
    found, within = [], False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file.read().splitlines(), 1):
            if line.strip() == "::":
                within = True
            elif line and not line.startswith(" "):
                within = False
            elif within and found and found[-1].text.endswith("\\"):
                found[-1].text = found[-1].text[:-1] + line.strip()
            elif within and line.strip().split(" ")[0] in PROGRAMS:
                found.append(Command(line.strip(), number))
    return found


def documents(root):
    """Paths of the Markdown pages and of the manual pages, from the root on."""
    docs = sorted(os.listdir(os.path.join(root, "docs")))
    pages = sorted(os.listdir(os.path.join(root, "docs/man")))
    return ["README.md"] + ["docs/" + d for d in docs if d.endswith(".md")], ["docs/man/" + p for p in pages if p.endswith(".rst")]


class Verbs:
    """What tdictl has, by its own help."""

    def __init__(self, tdictl):
        self.tdictl = tdictl
        listed = self.help().split("The verbs:\n")[1].split("\n\n")[0].splitlines()
        self.names = [" ".join(w for w in re.split(r"\s{2,}", line.strip())[0].split() if re.fullmatch(r"[a-z-]+", w)) for line in listed]
        self.options = {}

    def help(self, *verb):
        return subprocess.run([self.tdictl, *verb, "--help"], check=True, capture_output=True, text=True).stdout

    def options_of(self, verb):
        if verb not in self.options:
            self.options[verb] = set(re.findall(r"(?m)^\s+(--[a-z-]+)", self.help(*verb.split())))
        return self.options[verb]

    def problem(self, words):
        """What is wrong with a command line of tdictl, without its own name; None."""
        general = self.options_of("status")
        while words and words[0].startswith("--"):
            if words[0].partition("=")[0] not in general | {"--help", "--version"}:
                return f"there is no option {words[0]}"
            words = words[1:]
        if not words or words[0].isupper():
            return None
        verb = next((v for v in (" ".join(words[:2]), words[0]) if v in self.names), None)
        if not verb:
            # A group of verbs has help of its own.
            return None if any(v.startswith(words[0] + " ") for v in self.names) and (len(words) == 1 or words[1].startswith("-")) else \
                f"there is no verb {' '.join(words[:2])!r}"
        for word in words[len(verb.split()):]:
            if word == "--":
                break
            if word.startswith("--") and word.partition("=")[0] not in self.options_of(verb):
                return f"{verb} has no option {word}"
        return None


def simple_commands(text):
    """The words of each simple command in a line for the shell, but for what stands in $()."""
    lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "…", text), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words = []
    for word in lexer:
        if word and set(word) <= set("();|&"):
            yield words
            words = []
        else:
            words.append(word)
    yield words
