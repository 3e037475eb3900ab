# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may be typed: functions by what they are, filters, completion; and colours, which are for terminals. Against fake-tdid.

usage: test_words.py TDICTL FAKE-TDID MAN-PAGE
"""
import os
import shutil
import subprocess
import sys
import unittest

import terminal
from test_tdictl import TDICTL, Case


def ids(device):
    return device["vendor"][2:] + ":" + device["device"][2:]


class Selectors(Case):
    def setUp(self):
        super().setUp()
        self.devices = self.json("device", "list")["devices"]
        self.kinds = {}
        for d in self.devices:
            self.kinds.setdefault(ids(d), []).append(d["bdf"])

    def test_many(self):
        for kind, bdfs in self.kinds.items():
            self.assertEqual([d["bdf"] for d in self.json("device", "list", kind)["devices"]], bdfs)
            self.assertEqual([d["bdf"] for d in self.json("device", "show", kind.upper())["devices"]], bdfs)
        kind, bdfs = next(iter(self.kinds.items()))
        self.assertEqual([d["bdf"] for d in self.json("device", "show", "0b:00.0", kind, "0a:00.0")["devices"]], ["0000:0b:00.0", *bdfs, "0000:0a:00.0"])
        self.assertIn("no PCI function with the ids dead:beef", self.error("device", "show", "dead:beef", expect=3, name="NotFound"))
        self.error("device", "list", "dead:beef", expect=3, name="NotFound")
        # Almost one.
        self.error("device", "show", "dead:bee", expect=2, name="InvalidArgument")

    def test_one(self):
        """What acts is never left to choose."""
        self.json("vm", "create", "web", "--await-vmm=600")
        several = next(k for k, v in self.kinds.items() if len(v) > 4)
        text = self.error("attach", "web", several, expect=2, name="InvalidArgument")
        self.assertIn(f"{len(self.kinds[several])} functions have the ids {several}: {self.kinds[several][0]}", text)
        self.assertIn("…", text)
        self.error("run", "--device=" + several, "--", "true", expect=2, name="InvalidArgument")
        self.error("detach", "dead:beef", expect=3, name="NotFound")
        single = next(k for k, v in self.kinds.items() if len(v) == 1)
        self.assertEqual(self.json("attach", "web", single)["tdis"][0]["bdf"], self.kinds[single][0])
        self.assertEqual(self.json("device", "list", "--vm=web")["devices"][0]["bdf"], self.kinds[single][0])
        self.json("detach", single)

    def test_filters(self):
        def listed(*options):
            return [d["bdf"] for d in self.json("device", "list", *options)["devices"]]
        self.json("vm", "create", "web", "--await-vmm=600")
        self.json("attach", "web", "01:00.0", "08:00.0")
        everything = [d["bdf"] for d in self.devices]
        self.assertEqual(listed("--vm=web"), ["0000:01:00.0", "0000:08:00.0"])
        self.assertEqual(listed("--vm=1"), listed("--vm=web"))
        self.assertEqual(listed("--state=used"), listed("--vm=web"))
        self.assertEqual(listed("--state=quarantined"), ["0000:03:00.0"])
        self.assertEqual(listed("--state=gone"), ["0000:0c:00.0"])
        self.assertEqual(sorted(sum((listed("--state=" + s) for s in ("used", "quarantined", "gone", "free")), [])), everything)
        self.assertEqual(listed("--driver=nvme", "--vm=web"), [d["bdf"] for d in self.json("device", "list", "--vm=web")["devices"] if d["driver"] == "nvme"])
        self.assertEqual(listed("--driver=nobody"), [])
        self.assertEqual(listed("--tee-io"), [d["bdf"] for d in self.devices if "tee-io" in d["tee"]])
        self.assertEqual(listed("02:00.0", "pci_0000_08_00_0", "--vm=web"), ["0000:08:00.0"])
        self.assertEqual(self.run_tdictl("device", "list", "--vm=nobody").stdout, "No such PCI functions.\n")
        self.error("device", "list", "--state=lost", expect=2, name="Usage")
        self.assertIn("Did you mean --state?", self.error("device", "list", "--sttae=free", expect=2, name="Usage"))


class Completion(Case):
    def words(self, *typed):
        r = self.run_tdictl("completion", "words", "--", *typed)
        self.assertEqual(r.stderr, "")
        self.assertEqual(self.json("completion", "words", "--", *typed)["words"], r.stdout.splitlines())
        return r.stdout.splitlines()

    def test_verbs(self):
        self.assertEqual(self.words("dev"), ["device"])
        self.assertEqual(self.words("--json", "vm", ""), ["create", "list", "show", "seal", "destroy"])
        self.assertIn("attach", self.words(""))
        self.assertEqual(self.words("nothing", ""), [])
        self.assertEqual(self.words(), [])
        self.assertEqual(self.words("completion", ""), ["bash", "zsh"])
        self.assertEqual(self.words("status", "x"), [])

    def test_options(self):
        self.assertEqual(self.words("vm", "create", "x", "--await"), ["--await-vmm="])
        self.assertEqual(self.words("attach", "x", "--force", "--f"), [])
        self.assertEqual(self.words("attach", "x", "--bind="), ["--bind=early", "--bind=late"])
        self.assertEqual(self.words("attach", "x", "--bind", "e"), ["early"])
        self.assertEqual(self.words("attach", "--guest-rid", "--bind=x", "--bi"), ["--bind="])
        self.assertEqual(self.words("device", "list", "--state=q"), ["--state=quarantined"])
        self.assertEqual(self.words("attach", "x", "--nonsense="), [])
        self.assertEqual(self.words("policy", "check", ""), [":files"])
        self.assertEqual(self.words("policy", "show", "--policy=/et"), [":files"])
        # What comes after is another program's.
        self.assertEqual(self.words("run", "--device=01:00.0", "--", "--js"), [])
        self.assertIn("--no-ask-password", self.words("status", "--no"))

    def test_names(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        self.json("vm", "create", "db", "--await-vmm=600")
        self.assertEqual(self.words("vm", "show", ""), ["web", "db"])
        self.assertEqual(self.words("vm", "show", "w"), ["web"])
        self.assertEqual(self.words("device", "list", "--vm=d"), ["--vm=db"])
        self.assertEqual(self.words("tsm", "show", ""), ["tsm0"])
        self.assertEqual(self.words("device", "connect", "01:00.0", "--tsm="), ["--tsm=tsm0"])
        self.json("attach", "web", "01:00.0", "02:00.0")
        self.assertEqual(self.words("detach", ""), ["0000:01:00.0", "0000:02:00.0"])
        self.assertEqual(self.words("detach", "02:00.0", ""), ["0000:01:00.0"])
        self.assertEqual(self.words("bind", "01"), ["01:00.0"])
        self.assertEqual(self.words("unbind", "pci_"), ["pci_0000_01_00_0", "pci_0000_02_00_0"])
        self.assertEqual(self.words("device", "restore", ""), ["0000:03:00.0"])
        self.assertNotIn("0000:01:00.0", self.words("attach", "web", ""))
        self.assertIn("--device=0000:04:00.0", self.words("run", "--device="))
        self.assertEqual(len(self.words("device", "show", "")), 12)

    def test_no_daemon(self):
        """Nothing is said, nothing is started, and what the table has is there all the same."""
        self.stop(self.fake)
        self.assertEqual(self.words("vm", "show", ""), [])
        self.assertEqual(self.words("attach", "x", "--bind="), ["--bind=early", "--bind=late"])
        r = self.run_tdictl("--bus=unix:path=/nonexistent/bus", "completion", "words", "--", "detach", "")
        self.assertEqual((r.stdout, r.stderr), ("", ""))

    def shell(self, program, *arguments):
        if not shutil.which(program):
            self.skipTest("there is no " + program)
        environment = dict(self.bus.environment, PATH=os.path.dirname(TDICTL) + ":" + os.environ["PATH"], HOME=self.bus.folder)
        r = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual((r.returncode, r.stderr), (0, ""), r.stdout)
        return r.stdout.splitlines()

    def bash(self, line):
        """What bash would put in the place of the part of the word that it takes for the word."""
        return self.shell("bash", "--norc", "-c", 'source <(tdictl completion bash); complete -p tdictl >/dev/null; COMP_LINE=$1 COMP_POINT=${#1}; _tdictl; '
                          'printf "%s\\n" "${COMPREPLY[@]}"', "bash", line)

    def test_bash(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        self.json("attach", "web", "01:00.0")
        self.assertEqual(self.bash("tdictl dev"), ["device"])
        self.assertEqual(self.bash("tdictl vm s"), ["show", "seal"])
        self.assertEqual(self.bash("tdictl vm show "), ["web"])
        # After the colons and equals signs at which bash ends words.
        self.assertEqual(self.bash("tdictl detach 0000:01:0"), ["00.0"])
        self.assertEqual(self.bash("tdictl attach web --bind=e"), ["early"])
        self.assertEqual(self.bash("tdictl attach web --bi"), ["--bind="])
        os.mkdir(os.path.join(self.bus.folder, "policies"))
        self.assertEqual(self.bash(f"tdictl policy check {self.bus.folder}/pol"), [self.bus.folder + "/policies"])

    def zsh(self, *words):
        return self.shell("zsh", "-f", "-c", 'compadd() { while [[ $1 != -a ]]; do shift; done; print -l -- "${(@P)2}" }; compset() { : }; compdef() { : }; _files() { print files }; '
                          'source <(tdictl completion zsh); words=(tdictl "$@"); CURRENT=$#words; _tdictl', "zsh", *words)

    def test_zsh(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        self.assertEqual(self.zsh("vm", "show", ""), ["web"])
        self.assertEqual(self.zsh("attach", "web", "--b"), ["--bind=", "--bus="])
        self.assertEqual(self.zsh("policy", "check", ""), ["files"])
        self.assertEqual(self.zsh("dev"), ["device"])

    def test_scripts(self):
        for shell in "bash", "zsh":
            o = self.json("completion", shell)["completion"]
            self.assertEqual((o["shell"], o["script"]), (shell, self.run_tdictl("completion", shell).stdout))
        self.assertIn("bash and zsh", self.error("completion", "fish", expect=2, name="Usage"))


class Colours(Case):
    def terminal(self, *arguments, **environment):
        """What it writes to a terminal of 80 columns."""
        env = {k: v for k, v in self.bus.environment.items() if k != "NO_COLOR"}
        return terminal.run([TDICTL, *arguments], {**env, "TERM": "xterm", **environment})[0]

    def test_colours(self):
        """A quarantined function is red where there are colours, and they are nowhere else."""
        self.assertIn("\033[31m", self.terminal("device", "list"))
        for more in {"NO_COLOR": "1"}, {"TERM": "dumb"}:
            self.assertNotIn("\033", self.terminal("device", "list", **more))
        # https://no-color.org: only what is not empty counts.
        self.assertIn("\033[31m", self.terminal("device", "list", NO_COLOR=""))
        self.assertNotIn("\033", self.terminal("--json", "device", "list"))
        self.assertNotIn("\033", self.run_tdictl("device", "list").stdout)

    def test_width(self):
        for words in ("device", "list"), ("status",), ("device", "show", "03:00.0"), ("vm", "show", "nobody"), ("tsm", "show"):
            for line in self.terminal(*words, NO_COLOR="1").splitlines():
                self.assertLessEqual(len(line), 80, line)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
