# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdictl policy, with files and without tdid, and with fake-tdid where it asks for a device.

usage: test_policy.py TDICTL FAKE-TDID
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

from private_bus import PrivateBus

TDICTL, FAKE = (os.path.abspath(a) for a in sys.argv[1:3])

RULES = [
    {"name": "gpus", "match": {"class": "0302", "owner": 1000}, "decision": "require",
     "require": {"ide": "secure", "evidence": {"anchor": "/dev/null/a.pem", "references": "/dev/null/m.json"}}, "limits": {"devices": 2}},
    {"name": "no web", "match": {"class": "0302", "owner": 1000, "vm": "web-*"}, "decision": "deny"},
    {"name": "rest", "decision": "deny"},
]
GPU = ["--device=01:00.0", "--id=10de:2331", "--class=030200"]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
        self.put("50-a.json", RULES)
        self.at = f"--policy={self.folder.name}"

    def put(self, name, rules):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(rules if isinstance(rules, str) else json.dumps({"schema": "tdid-policy/1", "rules": rules}, indent=1))
        return path

    def run_tdictl(self, *arguments, expect=0):
        r = subprocess.run([TDICTL, *arguments], env=self.environment, capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual(r.returncode, expect, (arguments, r.stdout, r.stderr))
        return r

    def json(self, *arguments, expect=0):
        r = self.run_tdictl("--json", "policy", *arguments, expect=expect)
        self.assertEqual((r.stderr, r.stdout.count("\n")), ("", 1))
        o = json.loads(r.stdout)
        self.assertEqual(list(o)[0], "schema")
        self.assertEqual(o["schema"], "tdid/1")
        return o

    def error(self, *arguments, expect, name):
        r = self.run_tdictl("policy", *arguments, expect=expect)
        self.assertEqual(r.stdout, "")
        self.assertTrue(r.stderr.startswith("tdictl: "))
        o = self.json(*arguments, expect=expect)
        self.assertEqual((o["error"]["name"], o["error"]["exit"]), (name, expect))
        return o["error"]["text"]


class Check(Case):
    def test_nothing(self):
        path = self.put("50-a.json", [{"name": "a", "decision": "deny"}])
        self.assertEqual(self.json("check", path)["findings"], [])
        self.assertEqual(self.run_tdictl("policy", "check", self.folder.name).stdout, "Nothing is wrong.\n")

    def test_warnings(self):
        o = self.json("check", self.folder.name, expect=1)
        self.assertEqual([(f["severity"], f["kind"]) for f in o["findings"]], [("warning", "missing-file")] * 2)
        self.assertIn("missing-file", self.run_tdictl("policy", "check", self.folder.name, expect=1).stdout)

    def test_errors(self):
        path = self.put("60-b.json", '{"schema": "tdid-policy/1", "rules": [\n  {"name": "x", "macth": {}, "decision": "deny"},\n  {"name": "y"}]}')
        found = self.json("check", path, expect=2)["findings"]
        self.assertEqual([(f["severity"], f["kind"], f["file"], f["line"], f["column"]) for f in found],
                         [("error", "invalid", path, 2, 17), ("error", "invalid", path, 3, 3)])
        self.assertIn('did you mean "match"?', found[0]["text"])
        self.assertIn("/nonexistent", json.dumps(self.json("check", "/nonexistent", expect=2)))
        self.run_tdictl("policy", "check", expect=2)


class Show(Case):
    def test_rules(self):
        o = self.json("show", self.at)
        self.assertEqual(list(o), ["schema", "files", "rules"])
        self.assertEqual([r["name"] for r in o["rules"]], ["no web", "gpus", "rest"])
        self.assertEqual([r["source"] for r in o["rules"]], [RULES[1], RULES[0], RULES[2]])
        self.assertEqual(o["rules"][0]["file"], os.path.join(self.folder.name, "50-a.json"))
        text = self.run_tdictl("policy", "show", self.at).stdout
        self.assertLess(text.index("no web"), text.index("gpus"))

    def test_override_and_mask(self):
        with tempfile.TemporaryDirectory() as over:
            os.symlink("/dev/null", os.path.join(over, "50-a.json"))
            o = self.json("show", self.at, f"--policy={over}")
            self.assertEqual((o["rules"], o["files"]), ([], [{"file": over + "/50-a.json", "masked": True}]))
            o = self.json("show", f"--policy={over}", self.at)
            self.assertEqual(len(o["rules"]), 3)
        self.assertEqual(self.json("show", "--policy=/nonexistent"), {"schema": "tdid/1", "files": [], "rules": []})

    def test_bad(self):
        path = self.put("60-b.json", "{")
        text = self.error("show", self.at, expect=2, name="InvalidArgument")
        self.assertTrue(text.startswith(path + ":1:2: "), text)


class Explain(Case):
    def explain(self, *arguments):
        return self.json("explain", self.at, *arguments)["explanation"]

    def test_decisions(self):
        o = self.explain(*GPU, "--owner=1000", "--vm=ml-1", "--ide=insecure")
        self.assertEqual((o["decision"], o["rule"]["name"], [u["requirement"] for u in o["unmet"]]), ("deny", "gpus", ["ide", "evidence"]))
        self.assertEqual([(c["name"], c["failed"]) for c in o["close"]], [("no web", "vm")])
        self.assertEqual([n["name"] for n in o["next"]], ["rest"])
        self.assertEqual(o["limits"], [{"limit": "devices", "max": 2, "rule": "gpus"}])
        o = self.explain(*GPU, "--owner=1000", "--ide=secure", "--evidence=/dev/null/a.pem,/dev/null/m.json")
        self.assertEqual((o["decision"], o["unmet"]), ("allow", []))
        o = self.explain(*GPU, "--owner=1000", "--evidence=/dev/null/a.pem,/dev/null/m.json")
        self.assertEqual((o["decision"], o["pending"]), ("allow", ["ide"]))
        o = self.explain(*GPU, "--owner=1000", "--evidence=/dev/null/a.pem")
        self.assertEqual(o["decision"], "deny")
        o = self.explain(*GPU, "--owner=1000", "--vm=web-1")
        self.assertEqual((o["decision"], o["rule"]["name"]), ("deny", "no web"))
        o = self.explain("--owner=5", "--vm=x")
        self.assertEqual((o["decision"], o["rule"]["name"]), ("deny", "rest"))

    def test_default(self):
        o = self.json("explain", "--policy=/nonexistent", "--owner=0", *GPU)["explanation"]
        self.assertEqual((o["decision"], o["default"], o["rule"]), ("allow", True, None))
        o = self.json("explain", "--policy=/nonexistent", "--owner=7")["explanation"]
        self.assertEqual((o["decision"], o["default"]), ("deny", True))

    def test_every_option(self):
        for key, value, arguments in (
                ("bdf", "0000:01:00.0", []), ("id", "10de:*", []), ("class", "03", []), ("subsystem", "1234:5678", ["--subsystem=1234:5678"]),
                ("serial", "00-1b-21-ff-ff-c0-ff-ee", ["--serial=001b21ffffc0ffee"]), ("path", "00:02.0", ["--path=00:01.0", "--path=0000:00:02.0"]),
                ("tee_io", True, ["--tee-io"]), ("sriov", "vf", ["--sriov=vf"]), ("vm", "a*", ["--vm=ab"]), ("owner", 77, ["--owner=77"]),
                ("platform", "cca", ["--platform=cca"]), ("mode", "late", ["--mode=late"]), ("access", "handoff", ["--access=handoff"]),
                ("evidence", {"anchor": "/a"}, ["--evidence=/a"])):
            self.put("50-a.json", [{"name": "it", "match": {key: value}, "decision": "allow"}])
            o = self.explain(*GPU, *arguments)
            self.assertEqual((o["decision"], o["rule"] and o["rule"]["name"]), ("allow", "it"), key)
            other = {"bdf": "02:00.0", "id": "8086:*", "class": "02", "tee_io": False}.get(key)
            if other is not None:
                self.put("50-a.json", [{"name": "it", "match": {key: other}, "decision": "allow"}])
            o = self.explain(*GPU)
            self.assertEqual(o["rule"] is None, key not in ("tee_io",), key)
        self.put("50-a.json", [{"name": "it", "decision": "allow"}])
        self.assertEqual([u["requirement"] for u in self.explain(*GPU, "--association")["unmet"]], ["association"])

    def test_wrong_words(self):
        for arguments in (["--device=1"], [*GPU[:1], "--id=10de"], [*GPU[:2], "--class=03"], [*GPU, "--serial=00"], [*GPU, "--path=x"],
                          [*GPU, "--subsystem=1:2"]):
            self.error("explain", self.at, *arguments, expect=2, name="InvalidArgument")
        for arguments in (["--mode=never"], ["--sriov=maybe"], ["--owner=-1"], ["x"]):
            self.error("explain", self.at, *arguments, expect=2, name="Usage")
        text = self.error("explain", self.at, "--device=01:00.0", expect=12, name="Unreachable")
        self.assertIn("--id", text)

    def test_device_of_tdid(self):
        with PrivateBus() as bus:
            self.environment = bus.environment
            fake = subprocess.Popen([FAKE], env=bus.environment, stdout=subprocess.PIPE, text=True)
            try:
                self.assertEqual(fake.stdout.readline(), "ready\n")
                device = json.loads(self.run_tdictl("--json", "device", "list").stdout)["devices"][0]
                self.put("50-a.json", [{"name": "it", "decision": "allow", "match": {
                    "id": f"{int(device['vendor'], 16):04x}:{int(device['device'], 16):04x}", "class": f"{int(device['class'], 16):06x}",
                    "tee_io": "tee-io" in device["tee"]}}])
                o = self.explain("--device=" + device["bdf"], "--owner=9")
                self.assertEqual(o["rule"]["name"], "it")
                self.error("explain", self.at, "--device=7f:1f.7", expect=3, name="NotFound")
                o = self.json("suggest", device["bdf"])["policy"]
                self.assertEqual(o["rules"][0]["match"]["bdf"], device["bdf"])
            finally:
                fake.kill()
                fake.wait()
                fake.stdout.close()


class Suggest(Case):
    def test_round(self):
        what = ["--id=10de:2331", "--class=030200", "--serial=00-1b-21-ff-ff-c0-ff-ee", "--subsystem=10de:1626", "--tee-io", "--evidence=/dev/null/a.pem"]
        text = self.run_tdictl("policy", "suggest", "01:00.0", "--owner=1000", "--vm=ml-*", "--digest=sha256:aa", *what).stdout
        o = self.json("suggest", "01:00.0", "--owner=1000", "--vm=ml-*", "--digest=sha256:aa", *what)
        self.assertEqual(json.loads(text), o["policy"])
        self.assertIn("sha256:aa", o["policy"]["rules"][0]["description"])
        self.put("50-a.json", text)
        ask = ["explain", self.at, "--device=01:00.0", "--owner=1000", "--ide=secure"]
        self.assertEqual(self.json(*ask, "--vm=ml-1", *what)["explanation"]["decision"], "allow")
        self.assertTrue(self.json(*ask, "--vm=web", *what)["explanation"]["default"])
        self.assertEqual(self.json(*ask, "--vm=ml-1", *what[:-1])["explanation"]["unmet"][0]["requirement"], "evidence")
        self.assertEqual([f["kind"] for f in self.json("check", self.folder.name, expect=1)["findings"]], ["missing-file"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
