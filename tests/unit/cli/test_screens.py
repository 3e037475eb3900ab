# SPDX-License-Identifier: LGPL-2.1-or-later
"""The screens of screens.py on a terminal of 80 columns, before a real tdid on the simulated example machines, as the files in screens/ have them;
and the JSON of every verb there, as the schema has it.

usage: test_screens.py BUILD-FOLDER [--write]     --write: writes the files anew, to be read before they are kept
"""
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import unittest

import screens
from machines import HERE, Machine, stable
from terminal import COLUMNS

try:
    import json_schema
except ModuleNotFoundError:
    print("there is no jsonschema for this Python")
    sys.exit(77)

BUILD = sys.argv[1]
WRITE = "--write" in sys.argv
FOLDER = os.path.join(HERE, "screens")
# A line with a path of the test's folder, which is longer than the real one.
OWN_PATH = re.compile(r"/run/tdid/vm/|/FOLDER")


def verbs():
    out = subprocess.run([os.path.join(BUILD, "cli/tdictl"), "--json", "--help"], check=True, capture_output=True, text=True).stdout
    return [v["name"] for v in json.loads(out)["help"]["verbs"]]


class Screens(unittest.TestCase):
    maxDiff = None

    def compare(self, machine, name, words, text, code):
        path = os.path.join(FOLDER, f"{machine}-{name}.txt")
        text = f"$ tdictl {words}\n".replace(" \n", "\n") + text + (f"(exit {code})\n" if code else "")
        if WRITE:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            return
        self.assertTrue(os.path.exists(path), f"{path} is not there")
        with open(path, encoding="utf-8") as f:
            self.assertEqual(f.read(), text, f"{machine}-{name}")
        for line in text.splitlines()[1:]:
            self.assertTrue(len(line) <= COLUMNS or OWN_PATH.search(line), f"{machine}-{name}: {len(line)} columns: {line}")

    def check_json(self, machine, words, code):
        arguments = shlex.split(words)
        documents, got, err = machine.json(*arguments)
        self.assertEqual((got, err), (code, ""), (words, documents))
        self.assertEqual(len(documents), 1, words)
        name = "error" if "error" in documents[0] else json_schema.verb_of(arguments, verbs())
        if "--dry-run" in arguments and name != "error":
            name = "plan"
        self.assertEqual(json_schema.problems(documents[0], name), [], words)
        # An error ends with the code that it names.
        self.assertEqual(documents[0].get("error", {"exit": code})["exit"], code, words)

    @staticmethod
    def settle(machine):
        """What the TSM core says of functions is read again after they have come or gone: screens wait for that."""
        for _ in range(50):
            document = machine.json("status")[0][0]
            host = machine.json("tsm", "show")[0][0].get("host", {})
            held = [d for d in document["devices"] if d["custody"] != "none"]
            if not document["tsms"] or (host and host["ide"]["bridges"] and all(d["tsm"] and (d["streams"] or "ide" not in d["tee"]) for d in held) and
                                        all(d["custody"] != "none" for d in document["devices"] if d["tsm"])):
                return
            time.sleep(0.1)

    def run_machine(self, name):
        with Machine(BUILD, name) as machine:
            for screen, code, words in screens.MACHINES[name]:
                with self.subTest(machine=name, words=words):
                    if not screen:
                        self.check_json(machine, words, code)
                        continue
                    if words.startswith(("status", "vm show", "device show", "vm list", "tsm show")):
                        self.settle(machine)
                    text, got = machine.terminal(*shlex.split(words))
                    self.assertEqual(got, code, text)
                    self.compare(name, screen, words, text, code)
                    # What only looks, and what was refused, is asked again for its JSON.
                    if code or json_schema.verb_of(shlex.split(words), verbs()) in screens.LOOKING or "--dry-run" in words or "--help" in words:
                        if screen not in screens.NOT_REFUSED_JSON:
                            self.check_json(machine, words, code)
            if name == "tdx":
                self.progress(machine)
                self.monitor(machine)
                for code, words in screens.JSON:
                    with self.subTest(words=words):
                        self.check_json(machine, words, code)
                self.nobody(machine)

    def progress(self, machine):
        """Of a job that takes more than a second: each line that stood there."""
        rule = machine.control("fault", rule={"call": "tsm.connect", "device": "0000:21:00.0", "delay_ms": 1800})["id"]
        text, code = machine.terminal("attach", "guest1", "0000:21:00.0")
        self.assertEqual(code, 5)
        text, code = machine.terminal("run", "--device=21:00.0", "--name=slow", "--", "true")
        self.assertEqual(code, 0, text)
        machine.control("clear", id=rule)
        # It is drawn over and over, and wiped at the end.
        lines = dict.fromkeys(re.sub(r"\d+ s\b", "N s", line) for line in text.replace("\r\x1b[K", "\n").splitlines() if "connect.tsm" in line)
        self.assertTrue(text.endswith("\r\x1b[K"), repr(text))
        self.compare("tdx", "progress", "run --device=21:00.0 --name=slow -- true", "".join(line + "\n" for line in lines), code)

    def monitor(self, machine):
        """What `vm create` and `vm destroy` look like to who watches."""
        for _ in range(50):
            if all(vm["name"] != "slow" for vm in machine.json("vm", "list")[0][0]["vms"]):
                break
            time.sleep(0.1)
        with subprocess.Popen(machine.command("monitor"), env=machine.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p, \
                subprocess.Popen(machine.command("--json", "monitor"), env=machine.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as j:
            self.assertIn("Watching", p.stderr.readline())
            time.sleep(0.5)
            machine.json("vm", "create", "watched", "--await-vmm=600")
            machine.json("vm", "destroy", "watched")
            # A line each for whoever watches, in the order in which they came.
            lines, events = [], []
            for line in p.stdout:
                lines.append(line)
                if re.search(r"finished=", line):
                    break
            for line in j.stdout:
                events.append(json.loads(line))
                if events[-1]["event"].get("key") == "finished":
                    break
            for one in p, j:
                one.send_signal(signal.SIGINT)
                one.wait()
        for event in events:
            self.assertEqual(json_schema.problems(event, "monitor"), [])
        # Jobs have numbers, and changes of other objects come in between.
        kept = [re.sub(r" job \d+", " job N", stable(line, machine.folder)) for line in lines if re.search(r" (vm|job) ", line) and "step=" not in line]
        self.compare("tdx", "monitor", "monitor", "".join(kept), 0)

    def nobody(self, machine):
        machine.daemon.stop()
        for screen, words in ("error-no-daemon", "status"), ("error-no-bus", "--bus=unix:path=/nonexistent/bus status"):
            text, code = machine.terminal(*shlex.split(words))
            self.assertEqual(code, 12)
            self.compare("tdx", screen, words, text, code)
            self.check_json(machine, words, code)
        machine.daemon.start()

    def test_tdx(self):
        self.run_machine("tdx")

    def test_sev_snp(self):
        self.run_machine("sev-snp")

    def test_cca(self):
        self.run_machine("cca")

    def test_plain(self):
        self.run_machine("plain")


class Rows(unittest.TestCase):
    """Whoever adds a verb adds its rows: here, and to the schema."""

    def test_every_verb(self):
        there = verbs()
        rows = [words for rows in screens.MACHINES.values() for name, _, words in rows if name]
        shown = {json_schema.verb_of(shlex.split(words), there) for words in rows} | {"monitor"}
        self.assertEqual(set(there) - shown - set(screens.NO_SCREEN), set(), "verbs without a screen")
        everything = rows + [words for _, words in screens.JSON] + [words for rows in screens.MACHINES.values() for name, _, words in rows if not name]
        asked = {json_schema.verb_of(shlex.split(words), there) for words in everything} | {"monitor"}
        self.assertEqual(set(there) - asked, set(), "verbs whose JSON is not looked at")
        self.assertEqual(set(there) - set(json_schema.VERBS) - set(screens.NO_JSON), set(), "verbs that the schema does not have")
        self.assertEqual(set(json_schema.VERBS) - set(there), set(), "verbs of the schema that there are not")

    def test_every_file(self):
        names = {f"{machine}-{name}.txt" for machine, rows in screens.MACHINES.items() for name, _, _ in rows if name}
        names |= {"tdx-" + n + ".txt" for n in ("progress", "monitor", "error-no-daemon", "error-no-bus")}
        self.assertEqual(set(os.listdir(FOLDER)), names)


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    unittest.main(argv=sys.argv[:1])
