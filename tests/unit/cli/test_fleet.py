# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdictl metrics, nfd and cdi, of a real tdid on a simulated kernel: what they write is valid, and says what is so.

usage: test_fleet.py TDICTL TDID TDI-SIM TOPOLOGY
"""
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

from private_bus import PrivateBus

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
except ImportError:
    text_string_to_metric_families = None

TDICTL, TDID, SIM, TOPOLOGY = (os.path.abspath(a) for a in sys.argv[1:5])
NAME = re.compile(r"[a-z][a-z0-9_]*")
SAMPLE = re.compile(r'([a-z0-9_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (-?[0-9]+(?:\.[0-9]+)?)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"')
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "info": ("_info",), "histogram": ("_bucket", "_count", "_sum")}
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def families(text):
    """The rules of the text format that concern us, by our own reading; a family: type, unit, [(name, labels, value)]."""
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""], "it ends with # EOF and a newline"
    found, current = {}, None
    for line in lines[:-2]:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert NAME.fullmatch(name) and name not in found, f"{name} comes twice or is no name"
            current = found[name] = {"type": kind, "unit": "", "help": "", "samples": []}
        elif line.startswith(("# UNIT ", "# HELP ")):
            _, what, of, value = line.split(" ", 3)
            assert of == name and not current["samples"], f"{line}: not of {name}, or after its samples"
            current[what.lower()] = value
        else:
            m = SAMPLE.fullmatch(line)
            assert m, f"{line}: not a sample"
            labels = dict(LABEL.findall(m[2] or ""))
            assert m[1] in [name + s for s in SUFFIXES[current["type"]]], f"{m[1]} is no sample of a {current['type']} {name}"
            current["samples"].append((m[1], labels, float(m[3])))
    return found


class Fleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = []
        cls.bus = PrivateBus().__enter__()
        cls.stack.append(cls.bus.__exit__)
        cls.folder = tempfile.TemporaryDirectory(prefix="tdid-fleet-")
        cls.stack.append(cls.folder.cleanup)
        cls.environment = {**cls.bus.environment, "LC_ALL": "C.UTF-8"}
        kernel = os.path.join(cls.folder.name, "kernel")
        cls.begin(SIM, f"--socket={kernel}", TOPOLOGY)
        cls.until(lambda: os.path.exists(kernel))
        cls.begin(TDID, f"--host=sim:{kernel}", f"--state={cls.folder.name}/state", "--archive=", "--audit=none")
        cls.until(lambda: cls.run_tdictl("status", check=False).returncode == 0)

    @classmethod
    def tearDownClass(cls):
        while cls.stack:
            cls.stack.pop()()

    @classmethod
    def begin(cls, *command):
        p = subprocess.Popen(command, env=cls.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def end():
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        cls.stack.append(end)
        return p

    @staticmethod
    def until(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    @classmethod
    def run_tdictl(cls, *arguments, check=True):
        r = subprocess.run([TDICTL, *arguments], env=cls.environment, capture_output=True, text=True, timeout=60)
        assert not check or r.returncode == 0, (arguments, r)
        return r

    def out(self, *arguments):
        r = self.run_tdictl(*arguments)
        self.assertEqual(r.stderr, "")
        return r.stdout

    def metrics(self):
        text = self.out("metrics")
        if text_string_to_metric_families:
            self.assertEqual([f.name for f in text_string_to_metric_families(text)], list(families(text)))
        return families(text)

    def value(self, found, name, **labels):
        family = next(f for f in (name, name.removesuffix("_total"), name.removesuffix("_count"), name.removesuffix("_info")) if f in found)
        [value] = [v for n, l, v in found[family]["samples"] if n == name and l == labels]
        return value

    def free(self):
        """A function that is alone in its IOMMU group."""
        devices = json.loads(self.out("--json", "device", "list"))["devices"]
        groups = [d["iommu_group"] for d in devices]
        return next(d["bdf"] for d in devices if d["driver"] != "pcieport" and d["sriov"] != "pf" and d["bridges"] and groups.count(d["iommu_group"]) == 1)

    def vm(self, name):
        """A VM with a function, as long as the test takes."""
        p = subprocess.Popen([TDICTL, "vm", "create", name, "--hold", "--", "sleep", "600"], env=self.environment, stdout=subprocess.DEVNULL)

        def end():
            subprocess.run([TDICTL, "vm", "destroy", name], env=self.environment, capture_output=True)
            p.terminate()
            p.wait()
            self.until(lambda: name not in self.out("--json", "vm", "list"))
        self.addCleanup(end)
        self.until(lambda: self.run_tdictl("vm", "show", name, check=False).returncode == 0)
        bdf = self.free()
        self.run_tdictl("attach", name, bdf, "--force")
        return bdf

    def test_parser_is_there(self):
        """Where the tests run their packages are installed; elsewhere our own reading has to do."""
        if not text_string_to_metric_families:
            self.skipTest("python3-prometheus-client is not installed")

    def test_form(self):
        found = self.metrics()
        self.assertGreater(len(found), 12)
        for name, f in found.items():
            with self.subTest(family=name):
                self.assertTrue(f["help"].endswith("."))
                self.assertTrue(f["samples"])
                self.assertTrue(name.startswith("tdid"))
                self.assertFalse(name.endswith("_total"))
                self.assertTrue(not f["unit"] or name.endswith("_" + f["unit"]))
                self.assertEqual(len(f["samples"]), len({(n, *sorted(l.items())) for n, l, _ in f["samples"]}))

    def test_histograms(self):
        self.vm("histogram")
        found = self.metrics()
        seen = 0
        for name, f in found.items():
            if f["type"] != "histogram":
                continue
            series = {}
            for n, labels, v in f["samples"]:
                series.setdefault(tuple(sorted((k, x) for k, x in labels.items() if k != "le")), {}).setdefault(n, []).append((labels.get("le"), v))
            for labels, s in series.items():
                with self.subTest(family=name, labels=labels):
                    seen += 1
                    bounds = [float(le) for le, _ in s[name + "_bucket"]]
                    counts = [v for _, v in s[name + "_bucket"]]
                    self.assertEqual(bounds, sorted(bounds))
                    self.assertEqual(bounds[-1], float("inf"))
                    self.assertEqual(counts, sorted(counts))
                    self.assertEqual(s[name + "_count"], [(None, counts[-1])])
                    self.assertEqual(len(s[name + "_sum"]), 1)
        self.assertGreater(seen, 9)
        self.assertIn("tdid_vpci_request_duration_seconds", found)

    def test_what_is_so(self):
        before = self.metrics()
        bdf = self.vm("first")
        after = self.metrics()
        self.assertEqual(self.value(after, "tdid_vms", phase="preparing"), self.value(before, "tdid_vms", phase="preparing") + 1)
        self.assertEqual(self.value(after, "tdid_tdis", state="prepared"), 1)
        self.assertEqual(self.value(after, "tdid_devices", custody="prepare"), 1)
        self.assertEqual(self.value(after, "tdid_events_total", event="vm-created"), self.value(before, "tdid_events_total", event="vm-created") + 1)
        ended = {"kind": "attach", "result": "done"}
        self.assertEqual(self.value(after, "tdid_ended_jobs_total", **ended), self.value(before, "tdid_ended_jobs_total", **ended) + 1)
        self.assertEqual(self.value(after, "tdid_job_duration_seconds_count", kind="attach"), self.value(before, "tdid_job_duration_seconds_count", kind="attach") + 1)
        self.assertEqual(self.value(after, "tdid_vpci_connected", vm="first", device=bdf), 0)
        # The function is somebody's now.
        self.assertNotEqual(self.run_tdictl("vm", "create", "first", "--await-vmm=5", check=False).returncode, 0)
        self.assertEqual(self.value(self.metrics(), "tdid_refusals_total", error="Exists"), self.value(after, "tdid_refusals_total", error="Exists") + 1)

    def test_json_says_the_same(self):
        model = json.loads(self.out("--json", "metrics"))
        self.assertEqual(model["schema"], "tdid/1")
        self.assertEqual([f["name"] for f in model["metrics"] if f["samples"]], list(self.metrics()))

    def test_output(self):
        path = os.path.join(self.folder.name, "out", "tdid.prom")
        r = self.run_tdictl("metrics", f"--output={path}", check=False)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn(path, r.stderr)
        os.mkdir(os.path.dirname(path))
        with open(path, "w", encoding="utf-8") as old:
            old.write("old")
            self.assertEqual(self.out("metrics", f"--output={path}"), "")
        # Another file is there, not other content.
        with open(path, encoding="utf-8") as f:
            families(f.read())
        self.assertEqual(os.listdir(os.path.dirname(path)), ["tdid.prom"])
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o644)

    def test_nfd(self):
        features = {}
        for line in self.out("nfd").splitlines():
            name, _, value = line.partition("=")
            with self.subTest(line=line):
                self.assertRegex(name, r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
                self.assertTrue(value == "" or LABEL_VALUE.fullmatch(value))
                self.assertNotIn(name, features)
            features[name] = value
        # A port may have IDE and TEE-IO too, and is nobody's TDI.
        devices = [d for d in json.loads(self.out("--json", "device", "list"))["devices"] if "tee-io" in d["tee"] and not d["class"].startswith("0x0604")]
        self.assertEqual(int(features["tdid.tee-functions"]), len(devices))
        self.assertGreater(len(devices), 0)
        self.assertEqual(features["tdid.platform"], "tdx")
        self.assertEqual(sum(int(v) for k, v in features.items() if re.match(r"tdid\.tee-[0-9a-f]{4}-", k)), len(devices))
        self.assertEqual(json.loads(self.out("--json", "nfd"))["features"], features)

    def check_cdi(self, spec):
        """What the specification and its loaders ask for: no member that is not known, names of their form, and a version that has all of it."""
        self.assertEqual(set(spec), {"cdiVersion", "kind", "devices"})
        vendor, _, kind = spec["kind"].partition("/")
        self.assertRegex(vendor, r"\A[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]\Z")
        self.assertRegex(kind, r"\A[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9]\Z")
        self.assertIn(spec["cdiVersion"], ("0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"))
        names = [d["name"] for d in spec["devices"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(names)
        for device in spec["devices"]:
            self.assertEqual(set(device), {"name", "containerEdits"})
            self.assertRegex(device["name"], r"\A[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?\Z")
            self.assertEqual(set(device["containerEdits"]), {"env", "mounts"})
            for env in device["containerEdits"]["env"]:
                self.assertRegex(env, r"\A[A-Z][A-Z0-9_a-f]*=/")
            for mount in device["containerEdits"]["mounts"]:
                self.assertEqual(set(mount), {"hostPath", "containerPath", "options"})
                self.assertTrue(os.path.isabs(mount["hostPath"]) and os.path.isabs(mount["containerPath"]))
                self.assertTrue(os.path.exists(mount["hostPath"]))

    def test_cdi(self):
        path = os.path.join(self.folder.name, "tdid.json")
        r = self.run_tdictl("cdi", check=False)
        self.assertEqual((r.returncode != 0, r.stdout), (True, ""))
        self.assertIn("served on a vPCI socket", r.stderr)
        bdf = self.vm("contained")
        spec = json.loads(self.out("cdi"))
        self.check_cdi(spec)
        [vm] = json.loads(self.out("--json", "vm", "show", "contained"))["vms"]
        self.assertEqual([d["name"] for d in spec["devices"]], [bdf, vm["uuid"]])
        self.assertEqual(spec["devices"][0]["containerEdits"]["mounts"][0]["hostPath"], vm["tdis"][0]["vpci"]["socket"])
        self.assertTrue(stat.S_ISDIR(os.stat(spec["devices"][1]["containerEdits"]["mounts"][0]["hostPath"]).st_mode))
        self.assertEqual(json.loads(self.out("--json", "cdi"))["cdi"], spec)
        self.out("cdi", f"--output={path}")
        with open(path, encoding="utf-8") as f:
            self.assertEqual(json.load(f), spec)
        # What is no more is told to nobody.
        self.doCleanups()
        self.out("cdi", f"--output={path}")
        self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
